"""Is the best set good or lucky? What a finished study knows about its own choice.

All of it comes from what the search left behind: the metrics and the return moments per block of
every set tried. A few hundred sets are simulated again: a sample, to see how alike the sets are, the
neighbours of the winner, and the winner itself, for its returns bar by bar.

Ranks over blocks of bars are by Sharpe ratio, whatever the objective of the search. Those of the
probability of overfitting are among the feasible sets, on both sides of a split alike. A
walk-forward and CPCV choose among all sets: which of them keep the constraints on results, the bars
to be traded have a part in.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from kernels.overfitting import block_sharpe
from optimizer.backtest import (
    Inputs,
    RegimeCodes,
    RegimeKey,
    Tile,
    block_bounds,
    evaluate,
    record,
)
from optimizer.buy_and_hold import Held, held_metrics
from optimizer.catalogue import METRICS
from optimizer.config import ADAPTIVE, Study, Validation
from optimizer.errors import StudyError, counted
from optimizer.folds import combinatorial_paths
from optimizer.overfitting import (
    choose_and_rank,
    deflated_sharpe_ratio,
    effective_number_of_trials,
    minimum_backtest_length,
    overfitting_of,
    probabilistic_sharpe_ratio,
    stationary_bootstrap,
    symmetric_splits,
)
from optimizer.results import best_sets
from optimizer.space import Branch, Space, build_space
from optimizer.store import SELECTION, StudyFolder, write_atomically
from optimizer.types import FloatArray, IntArray

JUDGED = 10
"""Best sets that get statistics of their own."""

SET_SPLITS = 250_000_000
"""Sharpe ratios of sets over splits that the probability of overfitting may take: about a second."""

FEWEST_SPLITS, MOST_SPLITS = 100, 20_000
"""All splits of 16 blocks are 12,870; 20,000 drawn leave a standard error of 0.004 at most."""

SAMPLE = 512
"""Sets whose likeness stands for that of all."""

_SAMPLED = 2009
"""Sets the stream of that draw apart from others with the study's seed."""

SAMPLE_BLOCKS = 1024
"""Blocks of bars over which it is measured."""

BOOTSTRAP_BLOCK = 20.0
RESAMPLES = 1000

HOLDS_DSR, LUCK_DSR = 0.95, 0.8
HOLDS_PBO, LUCK_PBO = 0.2, 0.5
HOLDS_LOSS, LUCK_LOSS = 0.05, 0.1
HOLDS_KEPT = 0.5
HOLDS_NEIGHBOUR = 0.7
"""Thresholds of the verdict; README explains them."""

Regimes = Callable[[Iterable[RegimeKey]], Mapping[RegimeKey, RegimeCodes]]
"""Gives the codes of the regime models asked for."""


@dataclass(frozen=True)
class SetStatistics:
    """Odds of one set. Sharpe ratios are annualized; probabilities are in 0..1.

    Attributes:
        number: of the set.
        sharpe, oos_sharpe: in-sample and over the holdout; None where undefined.
        psr: probability that its true Sharpe ratio is above 0, had it been the only set tried.
        skewness, kurtosis: of its in-sample returns per bar.
        oos_psr: the same from the holdout alone.
        dsr: probability that it is above what the best of so many sets reaches by luck, from the
            effective number of sets; of the study's own as they are stored, see ``deflated``.
        raw_dsr: the same from the raw number.
    """

    number: int
    sharpe: float | None
    skewness: float | None
    kurtosis: float | None
    oos_sharpe: float | None
    psr: float | None
    oos_psr: float | None
    dsr: float | None = None
    raw_dsr: float | None = None


@dataclass(frozen=True)
class Neighbours:
    """Sets one step away from the winner in one parameter.

    Attributes:
        n_sets: neighbours; those that a parameter constraint forbids are left out.
        median, worst: of their in-sample Sharpe ratios, annualized; one without is 0.
    """

    n_sets: int
    median: float
    worst: float


@dataclass(frozen=True)
class Window:
    """One step of a walk-forward.

    Attributes:
        number: of the set chosen.
        train_start, start, stop: bars; trained on [train_start, start), traded over [start, stop).
        in_sample, out_of_sample: Sharpe ratios there, annualized.
    """

    number: int
    train_start: int
    start: int
    stop: int
    in_sample: float
    out_of_sample: float


@dataclass(frozen=True)
class Selection:
    """What a study knows about its choice.

    Attributes:
        n_tried: distinct sets tried.
        n_effective: independent sets that weigh as much (Galwey 2009), scaled up from a sample, which
            errs on the side of more.
        sharpe_deviation: standard deviation of the sets' annualized in-sample Sharpe ratios.
        n_bars: in-sample, from the first decision on.
        bars_per_year: annualizes.
        sets: statistics of the best sets, best first.
        minimum_years: in-sample years below which the best of ``n_effective`` sets without any skill
            is expected to reach the winner's Sharpe ratio (Bailey et al. 2014).
        block_bars: of each block of in-sample bars; empty where there are too few bars.
        pbo: probability of backtest overfitting; None without blocks.
        n_splits: splits that it was computed over.
        logits: of these splits.
        degradation_slope: out-of-sample over in-sample Sharpe ratio over the splits.
        probability_of_loss: of the set chosen, out-of-sample, over the splits.
        windows: of the walk-forward over the in-sample blocks.
        walk_forward_efficiency: mean out-of-sample over mean in-sample Sharpe ratio of the windows.
        one_search_per_window: whether each window had a search of its own, on its training bars.
        stitched_sharpe: of the windows' joined returns, annualized; with ``method =
            "walk_forward"``, which also writes ``walk_forward.parquet``.
        path_sharpes: of the paths of combinatorial purged cross-validation, annualized, ascending.
        neighbours: of the winner, or None.
        held: metrics of buying every symbol and holding it.
        sharpe_interval, oos_sharpe_interval, drawdown_interval: 95% intervals of the winner by the
            stationary bootstrap; the first and the last in-sample. Of a chosen set they are too
            high.
    """

    n_tried: int
    n_effective: float
    sharpe_deviation: float
    n_bars: int
    bars_per_year: float
    sets: tuple[SetStatistics, ...]
    minimum_years: float | None = None
    block_bars: tuple[int, ...] = ()
    pbo: float | None = None
    n_splits: int = 0
    logits: tuple[float, ...] = ()
    degradation_slope: float | None = None
    probability_of_loss: float | None = None
    windows: tuple[Window, ...] = ()
    walk_forward_efficiency: float | None = None
    one_search_per_window: bool = False
    stitched_sharpe: float | None = None
    path_sharpes: tuple[float, ...] = ()
    neighbours: Neighbours | None = None
    held: Held | None = None
    sharpe_interval: tuple[float, float] | None = None
    oos_sharpe_interval: tuple[float, float] | None = None
    drawdown_interval: tuple[float, float] | None = None

    def save(self, folder: StudyFolder) -> None:
        """Write ``selection.json``."""
        text = json.dumps(asdict(self), indent=1, allow_nan=False)
        write_atomically(folder.path / SELECTION, lambda path: path.write_text(text + "\n"))


def load_selection(folder: StudyFolder) -> Selection | None:
    """What ``Selection.save`` wrote; None where the study has not come so far, or found nothing.

    Raises:
        StudyError: the file cannot be read.
    """
    path = folder.path / SELECTION
    if not path.is_file():
        return None
    try:
        raw = json.loads(path.read_text())
        near, held = raw.pop("neighbours"), raw.pop("held", None)
        lists = {name: tuple(v) for name, v in raw.items() if isinstance(v, list)}
        lists["sets"] = tuple(SetStatistics(**one) for one in raw["sets"])
        lists["windows"] = tuple(Window(**one) for one in raw["windows"])
        return Selection(
            **{**raw, **lists},
            neighbours=Neighbours(**near) if near else None,
            held=Held(**held) if held else None,
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise StudyError(
            f"{path}: cannot be read: {error}; `barsweep resume {folder.path}`"
            " judges the study again"
        ) from None


@dataclass(frozen=True)
class Reason:
    """One ground of a verdict.

    Attributes:
        text: in words, with the figure and its threshold.
        weight: 1 speaks for the winner, 0 is in between, -1 speaks against it.
    """

    text: str
    weight: int


@dataclass(frozen=True)
class Verdict:
    """``holds up``, ``fragile`` or ``likely luck``, and why.

    Attributes:
        words: the verdict.
        reasons: what it follows from.
        n_tried: sets ever tried on these bars, over all studies.
        dsr: of the winner, deflated by all of them.
    """

    words: str
    reasons: tuple[Reason, ...]
    n_tried: int
    dsr: float | None


def judge(selection: Selection, n_tried: int = 0) -> Verdict:
    """The verdict on a study's winner.

    ``likely luck`` where any ground speaks against it: a deflated Sharpe ratio (DSR) below 0.8, a
    probability of backtest overfitting (PBO) above 0.5 with a probability of loss above 0.1, or no
    gain over the holdout. ``holds up`` where all speak for it: a DSR of at least 0.95, a PBO of at
    most 0.2 or a probability of loss of at most 0.05, at least half of the in-sample Sharpe ratio over
    the holdout, a median neighbour with at least 0.7 of it, and a Sharpe ratio above that of buying
    and holding, in-sample and out-of-sample. A PBO near 0.5 alone is no luck: where
    all sets have the edge alike, the choice among them does not matter. Else
    ``fragile``. A ground that cannot be computed, no holdout say, does not speak for it, and a
    winner whose returns do not vary, so that it has no Sharpe ratio, is ``likely luck``.

    Args:
        selection: of the study.
        n_tried: sets ever tried on the same bars, over all studies, by the ledger.
    """
    winner = selection.sets[0]
    n_tried, effective, _ = _tries(selection, n_tried)
    dsr = _deflated(selection, winner, n_tried).dsr
    pbo, loss = selection.pbo, selection.probability_of_loss
    loss = 1.0 if loss is None else loss
    reasons = [
        _reason(
            dsr,
            dsr is not None and dsr >= HOLDS_DSR,
            dsr is None or dsr < LUCK_DSR,
            f"deflated Sharpe ratio {_figure(dsr)} for {counted(n_tried, 'set')} tried on these bars,"
            f" worth at most {effective:,.0f} independent ones (holds from {HOLDS_DSR}, luck below"
            f" {LUCK_DSR})",
        ),
        _reason(
            pbo,
            pbo is not None and (pbo <= HOLDS_PBO or (pbo <= LUCK_PBO and loss <= HOLDS_LOSS)),
            pbo is not None and pbo > LUCK_PBO and loss > LUCK_LOSS,
            f"probability of backtest overfitting {_figure(pbo)}, of a loss"
            f" {_figure(selection.probability_of_loss)} (holds to {HOLDS_PBO}, or to {LUCK_PBO} with"
            f" {HOLDS_LOSS}; luck above {LUCK_PBO} with {LUCK_LOSS})",
        ),
    ]
    beside, sharpe = winner.oos_sharpe, winner.sharpe
    kept = None if beside is None or not sharpe else beside / sharpe
    reasons.append(
        _reason(
            beside,
            kept is not None and kept >= HOLDS_KEPT and (sharpe or 0.0) > 0.0,
            beside is not None and beside <= 0.0,
            f"out-of-sample Sharpe ratio {_figure(beside)} beside {_figure(sharpe)} in-sample"
            f" (holds from {HOLDS_KEPT:.0%} of it, luck at 0 or below)",
        )
    )
    near = selection.neighbours
    beside_it = (
        "unknown: it has none" if near is None else f"of its {counted(near.n_sets, 'neighbour')}"
    )
    median = None if near is None else near.median
    reasons.append(
        _reason(
            median,
            median is not None and sharpe is not None and median >= HOLDS_NEIGHBOUR * sharpe > 0.0,
            False,
            f"median Sharpe ratio {beside_it}"
            + ("" if median is None else f" {_figure(median)}")
            + f" (holds from {HOLDS_NEIGHBOUR:.0%} of its own)",
        )
    )
    held = selection.held
    market = None if held is None else held.in_sample.get("sharpe")
    oos_market = None if held is None else held.out_of_sample.get("sharpe")
    reasons.append(
        _reason(
            market,
            _above(sharpe, market) and _above(beside, oos_market),
            False,
            f"Sharpe ratio of buying and holding {_figure(market)} in-sample, {_figure(oos_market)}"
            " out-of-sample (holds above both)",
        )
    )
    words = "fragile"
    if any(reason.weight < 0 for reason in reasons):
        words = "likely luck"
    elif all(reason.weight > 0 for reason in reasons):
        words = "holds up"
    return Verdict(words, tuple(reasons), n_tried, dsr)


def _tries(selection: Selection, n_tried: int) -> tuple[int, float, float]:
    """Sets tried on the bars, how many independent ones they are worth, variance of Sharpe ratios.

    Sets that other studies tried count as this one's do, but how far apart their Sharpe ratios are is
    not known: they are taken to vary by what luck alone does over so many bars, or as this study's,
    whichever is more. So a study of the winner of another one alone is deflated too.
    """
    n_tried = max(n_tried, selection.n_tried)
    own = selection.sharpe_deviation**2
    others = max(own, selection.bars_per_year / selection.n_bars)
    share = selection.n_tried / n_tried
    variance = share * own + (1.0 - share) * others
    return n_tried, selection.n_effective * n_tried / selection.n_tried, variance


def deflated(selection: Selection, n_tried: int) -> Selection:
    """The same with the odds of its sets deflated by all sets ever tried on the bars, as ``judge``."""
    sets = tuple(_deflated(selection, one, n_tried) for one in selection.sets)
    return replace(selection, sets=sets)


def _deflated(selection: Selection, one: SetStatistics, n_tried: int) -> SetStatistics:
    n_tried, effective, variance = _tries(selection, n_tried)
    return replace(
        one,
        dsr=_deflated_sharpe(selection, one, effective, variance),
        raw_dsr=_deflated_sharpe(selection, one, n_tried, variance),
    )


def remarks(selection: Selection, study: Study) -> list[str]:
    """What a study knows beside the verdict, one sentence a line."""
    lines = []
    if study.search.objective != ("sharpe",):
        searched = ", ".join(study.search.objective)
        lines.append(f"all of these go by Sharpe ratio; the study searched {searched}")
    if selection.minimum_years:
        years = selection.n_bars / selection.bars_per_year
        lines.append(
            "the luckiest of this study's sets is expected to show this Sharpe ratio over"
            f" {selection.minimum_years:.1f} years of bars; in-sample has {years:.1f}"
        )
    if selection.windows:
        how = "choosing among all sets tried"
        if selection.one_search_per_window:
            how = "a search each"
        elif steered(study, build_space(study)):
            how += " by a search that saw these windows, which flatters"
        efficiency, joined = selection.walk_forward_efficiency, selection.stitched_sharpe
        lines.append(
            f"walk-forward: {counted(len(selection.windows), 'window')}, {how}; efficiency"
            f" {'-' if efficiency is None else f'{efficiency:.3g}'}"
            + ("" if joined is None else f", joined out-of-sample Sharpe ratio {joined:.2f}")
        )
    n_paths = len(selection.path_sharpes)
    if n_paths:
        places = (n_paths // 4, n_paths // 2, min(3 * n_paths // 4, n_paths - 1))
        quartiles = ", ".join(f"{selection.path_sharpes[place]:.2f}" for place in places)
        lines.append(
            f"CPCV: out-of-sample Sharpe ratio over {n_paths} paths: quartiles {quartiles}"
        )
    if selection.sharpe_interval is not None and selection.drawdown_interval is not None:
        beside = ""
        if selection.oos_sharpe_interval is not None:
            beside = f", {_interval(selection.oos_sharpe_interval)} out-of-sample"
        lines.append(
            f"95% by bootstrap: Sharpe ratio {_interval(selection.sharpe_interval)} in-sample{beside};"
            f" in-sample drawdown {_interval(selection.drawdown_interval)}"
        )
    return lines


def _interval(ends: tuple[float, float]) -> str:
    return f"{ends[0]:.2f} to {ends[1]:.2f}"


def _reason(value: float | None, speaks_for: bool, against: bool, text: str) -> Reason:
    if value is None and not against:
        return Reason(text, 0)
    return Reason(text, -1 if against else int(speaks_for))


def _above(value: float | None, market: float | None) -> bool:
    return value is not None and market is not None and value > market


def _figure(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


def _deflated_sharpe(
    selection: Selection, one: SetStatistics, n_trials: float, variance: float
) -> float | None:
    """Deflated Sharpe ratio; ``variance`` is that of the sets' annualized Sharpe ratios."""
    if one.sharpe is None or one.skewness is None or one.kurtosis is None:
        return None
    yearly = math.sqrt(selection.bars_per_year)
    return _defined(
        deflated_sharpe_ratio(
            one.sharpe / yearly,
            selection.n_bars,
            one.skewness,
            _possible(one.skewness, one.kurtosis),
            variance / selection.bars_per_year,
            max(n_trials, 1.0),
        )
    )


# --- From a study's results ---------------------------------------------------------------------


def steered(study: Study, space: Space) -> bool:
    """Whether the sets that a study tries depend on the results of earlier ones."""
    return study.search.sampler in ADAPTIVE and space.n_points != 1


def needs_own_searches(study: Study, space: Space) -> bool:
    """Whether a walk-forward needs a search for each window.

    Not where the sets tried depend on no result and the best is that of the highest Sharpe ratio: the
    choice of each window then follows from the moments of blocks. A sampler that goes by the values of
    earlier trials has seen all in-sample bars, and constraints on results, other objectives and values
    of a tile cannot be told from the moments.
    """
    search = study.search
    by_sharpe_alone = (
        search.objective == ("sharpe",)
        and search.direction == ("maximize",)
        and search.tile_value == "best"
        and not any(constraint.on_result for constraint in search.constraints)
    )
    return steered(study, space) or not by_sharpe_alone


def require_blocks(study: Study, inputs: Inputs) -> None:
    """Refuse, before the search, a validation for which there are too few blocks of bars.

    Raises:
        StudyError: a split of ``cpcv`` would leave nothing to train on, or a ``walk_forward`` has no
            window.
    """
    validation, n_blocks = study.validation, len(inputs.bounds) - 1
    bars = f"{inputs.split - inputs.first} in-sample bars make {n_blocks} blocks"
    if validation.method == "walk_forward" and n_blocks < 2:
        raise StudyError(
            f'{study.source}: [validation] method = "walk_forward" needs 2 blocks: the {bars}; give'
            " more bars, or leave method out"
        )
    if validation.method == "cpcv":
        needed = validation.test_blocks * (1 + validation.embargo_blocks) + 1
        if n_blocks < needed:
            raise StudyError(
                f"{study.source}: [validation] test_blocks = {validation.test_blocks} with"
                f" embargo_blocks = {validation.embargo_blocks} needs {needed} blocks: the {bars};"
                " give more bars, or lower one of them"
            )


def select(
    study: Study, space: Space, inputs: Inputs, folder: StudyFolder, regimes: Regimes
) -> Selection | None:
    """The statistics of a study that has run; None where no set is feasible.

    Raises:
        StudyError: results cannot be read.
    """
    best = best_sets(folder, study.search, JUDGED)
    if best.empty:
        return None
    yearly = math.sqrt(inputs.bars.bars_per_year)
    n_bars, n_holdout = inputs.split - inputs.first, inputs.bars.n_bars - inputs.split
    every = folder.results(["set", "feasible", "sharpe"])
    numbers, sharpes = every["set"].to_numpy(), every["sharpe"].to_numpy()
    sharpes = sharpes[np.isfinite(sharpes)]
    n_tried = folder.n_distinct()
    winner = best.iloc[[0]]
    selection = Selection(
        n_tried=n_tried,
        n_effective=_effective(study, space, inputs, folder, numbers, regimes, n_tried),
        sharpe_deviation=float(sharpes.std(ddof=1)) if len(sharpes) > 1 else 0.0,
        n_bars=n_bars,
        bars_per_year=inputs.bars.bars_per_year,
        sets=(),
    )
    sets = tuple(set_statistics(selection, row, n_holdout) for row in best.to_dict("records"))
    sharpe = sets[0].sharpe
    if sharpe is not None and sharpe > 0.0:
        years = minimum_backtest_length(selection.n_effective, sharpe)
        selection = replace(selection, minimum_years=years)
    selection = replace(selection, sets=sets, **_over_blocks(study, inputs, folder, every, yearly))
    return replace(
        selection,
        neighbours=_neighbours(space, inputs, winner, regimes),
        held=held_metrics(inputs),
        **_intervals(study.seed, set_returns(space, inputs, winner, regimes), inputs, yearly),
    )


def set_statistics(
    selection: Selection, row: Mapping[Any, Any], n_holdout: int, n_tried: int = 0
) -> SetStatistics:
    """Odds of any set of a study, as those of its best.

    Args:
        selection: of the study.
        row: of the set, as in the study's results.
        n_holdout: bars of the holdout.
        n_tried: as in ``judge``.
    """
    yearly = math.sqrt(selection.bars_per_year)

    def known(name: str) -> float | None:
        value = row[name]
        return None if pd.isna(value) else float(value)

    def psr(prefix: str, n_bars: int) -> float | None:
        values = [known(prefix + name) for name in ("sharpe", "skewness", "kurtosis")]
        if None in values:
            return None
        sharpe, skewness, kurtosis = (float(v or 0.0) for v in values)
        return _defined(
            probabilistic_sharpe_ratio(
                sharpe / yearly, n_bars, skewness, _possible(skewness, kurtosis)
            )
        )

    one = SetStatistics(
        number=int(row["set"]),
        sharpe=known("sharpe"),
        skewness=known("skewness"),
        kurtosis=known("kurtosis"),
        oos_sharpe=known("oos_sharpe"),
        psr=psr("", selection.n_bars),
        oos_psr=psr("oos_", n_holdout),
    )
    return _deflated(selection, one, n_tried)


def _possible(skewness: float, kurtosis: float) -> float:
    """The kurtosis, at least what the skewness leaves possible: both are rounded power sums."""
    return max(kurtosis, 1.0 + skewness**2)


def _defined(value: float) -> float | None:
    return value if math.isfinite(value) else None


def tile_of(space: Space, rows: pd.DataFrame) -> Tile:
    """Parameter sets of one strategy under one classifier, as rows of a study's results."""
    branch = _branch_of(space, rows)
    columns = {name: rows[name].to_numpy(np.float64) for name in branch.columns}
    return Tile(branch.strategy, branch.classifier, branch.market, columns, branch.custom)


def _branch_of(space: Space, rows: pd.DataFrame) -> Branch:
    one = rows.iloc[0]
    return space.branches[space.branch_index(one["strategy"], one["classifier"])]


def _effective(
    study: Study,
    space: Space,
    inputs: Inputs,
    folder: StudyFolder,
    numbers: IntArray,
    regimes: Regimes,
    n_tried: int,
) -> float:
    """Independent sets that weigh as much as those tried.

    From the correlations of a sample's returns over short blocks of bars; the share that is
    independent falls with the number of sets, so scaling it up errs on the side of more.
    """
    if len(numbers) > SAMPLE:
        # Drawn, for evenly spaced sets may all have the same value of a swept parameter.
        random = np.random.default_rng([study.seed, _SAMPLED])
        numbers = np.sort(random.choice(numbers, SAMPLE, replace=False))
    rows = folder.sets(numbers.tolist())
    tiles = [
        tile_of(space, part)
        for _, part in rows.groupby(["strategy", "classifier"], sort=False, observed=True)
    ]
    n_bars = inputs.split - inputs.first
    shortest = max(1, math.ceil(n_bars / SAMPLE_BLOCKS))
    bounds = block_bounds(inputs.first, inputs.split, n_bars // shortest, least=1)
    keys = [key for tile in tiles for key in tile.regime_keys()[0]]
    results = evaluate(replace(inputs, bounds=bounds), tiles, regimes(keys))
    returns = np.concatenate([result.moments[:, 0] for result in results]).T
    if returns.shape[0] < 3:
        return float(n_tried)
    share: float = effective_number_of_trials(returns=returns) / returns.shape[1]
    return max(1.0, min(float(n_tried), share * n_tried))


def _over_blocks(
    study: Study, inputs: Inputs, folder: StudyFolder, every: pd.DataFrame, yearly: float
) -> dict[str, Any]:
    """What follows from the return moments per block of bars."""
    counts = np.diff(inputs.bounds).astype(np.float64)
    n_feasible = int(every["feasible"].sum())
    if len(counts) < 2 or len(every) < 2:
        return {}

    def chunks(feasible_alone: bool = False) -> Iterator[tuple[FloatArray, FloatArray]]:
        for feasible, moments in folder.moments():
            kept = moments[feasible] if feasible_alone else moments
            yield np.ascontiguousarray(kept[:, 0].T), np.ascontiguousarray(kept[:, 1].T)

    n_blocks = len(counts)
    found: dict[str, Any] = {"block_bars": tuple(int(count) for count in counts)}
    if n_feasible >= 2:
        most = min(max(SET_SPLITS // n_feasible, FEWEST_SPLITS), MOST_SPLITS)
        splits = symmetric_splits(n_blocks, most, study.seed)
        overfitting = overfitting_of(
            choose_and_rank(
                lambda: chunks(feasible_alone=True), counts, splits, ~splits & (2**n_blocks - 1)
            )
        )
        found |= {
            "pbo": overfitting.probability,
            "n_splits": len(splits),
            "logits": tuple(overfitting.logits.tolist()),
            "degradation_slope": _defined(overfitting.degradation_slope),
            "probability_of_loss": overfitting.probability_of_loss,
        }
    numbers = every["set"].to_numpy()
    train, test = walk_forward_masks(study.validation, n_blocks)
    chosen = choose_and_rank(chunks, counts, train, test, ranked=False)
    found |= walk_forward_summary(
        [
            Window(
                number=int(numbers[place]),
                train_start=inputs.bounds[_lowest_bit(train_mask)],
                start=inputs.bounds[_lowest_bit(test_mask)],
                stop=inputs.bounds[_lowest_bit(test_mask) + 1],
                in_sample=before * yearly,
                out_of_sample=after * yearly,
            )
            for place, train_mask, test_mask, before, after in zip(
                chosen.winners.tolist(),
                train.tolist(),
                test.tolist(),
                chosen.in_sample.tolist(),
                chosen.out_of_sample.tolist(),
                strict=True,
            )
        ]
    )
    if study.validation.method == "cpcv":
        found["path_sharpes"] = _path_sharpes(study.validation, chunks, counts, yearly)
    return found


def _lowest_bit(mask: int) -> int:
    return (mask & -mask).bit_length() - 1


def walk_forward_masks(validation: Validation, n_blocks: int) -> tuple[IntArray, IntArray]:
    """Training and test blocks of each window of a walk-forward, as bit masks.

    A test is the block after its training blocks. Nothing is purged: a return of a training bar is
    known at its close, where the parameters of the next block are chosen.
    """
    n_train = min(validation.train_blocks or n_blocks // 2, n_blocks - 1)
    tests = range(n_train, n_blocks)
    starts = [0 if validation.anchored else test - n_train for test in tests]
    train = [2**test - 2**start for test, start in zip(tests, starts, strict=True)]
    return np.array(train), np.array([1 << test for test in tests])


def walk_forward_summary(windows: Sequence[Window]) -> dict[str, Any]:
    """The windows of a walk-forward and its efficiency, None where nothing was gained in-sample."""
    before = sum(window.in_sample for window in windows)
    after = sum(window.out_of_sample for window in windows)
    return {
        "windows": tuple(windows),
        "walk_forward_efficiency": after / before if before > 0.0 else None,
    }


def _path_sharpes(
    validation: Validation,
    chunks: Callable[[], Iterable[tuple[FloatArray, FloatArray]]],
    counts: FloatArray,
    yearly: float,
) -> tuple[float, ...]:
    """Annualized Sharpe ratio of each path of combinatorial purged cross-validation.

    Each split chooses on the blocks that are neither tested nor in an embargo, and its test blocks
    go to the paths. (Lopez de Prado 2018, 12.4.)
    """
    n_blocks, n_test = len(counts), validation.test_blocks
    tested = list(combinations(range(n_blocks), n_test))
    test = np.array([sum(1 << block for block in blocks) for blocks in tested])
    spared = test.copy()
    for distance in range(1, validation.embargo_blocks + 1):
        spared |= test << distance
    train = ~spared & (2**n_blocks - 1)
    winners = choose_and_rank(chunks, counts, train, test, ranked=False).winners
    chosen = _moments_of(chunks, winners)
    splits = combinatorial_paths(n_blocks, n_test)
    blocks = np.arange(n_blocks)
    total = chosen[splits, 0, blocks].sum(axis=1)
    squares = chosen[splits, 1, blocks].sum(axis=1)
    n = float(counts.sum())
    sharpes = [block_sharpe(n, float(t), float(q)) for t, q in zip(total, squares, strict=True)]
    return tuple(sorted(sharpe * yearly for sharpe in sharpes))


def _moments_of(
    chunks: Callable[[], Iterable[tuple[FloatArray, FloatArray]]], places: IntArray
) -> FloatArray:
    """(n_places, 2, n_blocks) moments of the sets at ``places``."""
    parts: dict[int, FloatArray] = {}
    first = 0
    wanted = np.unique(places)
    for sums, squares in chunks():
        last = first + sums.shape[1]
        for place in wanted[(wanted >= first) & (wanted < last)]:
            parts[int(place)] = np.stack([sums[:, place - first], squares[:, place - first]])
        first = last
    return np.stack([parts[int(place)] for place in places])


def _neighbours(
    space: Space, inputs: Inputs, winner: pd.DataFrame, regimes: Regimes
) -> Neighbours | None:
    """How the sets one step away from the winner do, feasible or not."""
    branch = _branch_of(space, winner)
    own = {name: float(winner[name].iloc[0]) for name in branch.columns}
    near = [
        {**own, name: value} for name in branch.columns for value in _steps(branch, name, own[name])
    ]
    columns = {name: np.array([one[name] for one in near]) for name in branch.columns}
    kept = np.ones(len(near), np.bool_)
    for constraint in branch.constraints:
        kept &= constraint.holds(columns)
    if not kept.any():
        return None
    columns = {name: values[kept] for name, values in columns.items()}
    tile = Tile(branch.strategy, branch.classifier, branch.market, columns, branch.custom)
    result = evaluate(inputs, [tile], regimes(tile.regime_keys()[0]))[0]
    sharpes = np.nan_to_num(result.in_sample[:, METRICS.index("sharpe")])
    return Neighbours(len(sharpes), float(np.median(sharpes)), float(sharpes.min()))


def _steps(branch: Branch, name: str, value: float) -> list[float]:
    """The values next to ``value`` of a parameter that varies: a twentieth of a continuous range."""
    for searched in branch.searched:
        if searched.name == name and searched.continuous:
            step = (searched.high - searched.low) / 20.0
            ends = (max(searched.low, value - step), min(searched.high, value + step))
            return [end for end in ends if end != value]
        if searched.name == name:
            values = sorted(float(searched.value(i)) for i in range(searched.n_values))
            break
    else:
        values = list(branch.values(name))
    place = int(np.argmin(np.abs(np.array(values) - value)))
    return [values[i] for i in (place - 1, place + 1) if 0 <= i < len(values)]


def set_returns(
    space: Space, inputs: Inputs, row: pd.DataFrame, regimes: Regimes
) -> pd.Series[float]:
    """Returns per bar of one set, from the first decision on.

    Args:
        space: of the study.
        inputs: of the study.
        row: one row of the study's results.
        regimes: of the study.
    """
    tile = tile_of(space, row)
    equity = record(inputs, tile, regimes(tile.regime_keys()[0])).equity
    before = equity.shift(1, fill_value=inputs.rules.initial_cash)
    returns = (equity / before.where(before > 0.0) - 1.0).fillna(0.0)
    return returns.rename("return")


def _intervals(
    seed: int, returns: pd.Series[float], inputs: Inputs, yearly: float
) -> dict[str, Any]:
    """Bootstrap intervals of the winner in-sample and over the holdout."""
    values = returns.to_numpy()
    n_bars = inputs.split - inputs.first
    inside = stationary_bootstrap(values[:n_bars], BOOTSTRAP_BLOCK, RESAMPLES, seed)
    found: dict[str, Any] = {
        "sharpe_interval": _scaled(inside.sharpe_interval, yearly),
        "drawdown_interval": inside.drawdown_interval,
    }
    if len(values) > n_bars:
        beside = stationary_bootstrap(values[n_bars:], BOOTSTRAP_BLOCK, RESAMPLES, seed)
        found["oos_sharpe_interval"] = _scaled(beside.sharpe_interval, yearly)
    return found


def _scaled(interval: tuple[float, float], yearly: float) -> tuple[float, float]:
    return interval[0] * yearly, interval[1] * yearly


def stitched(
    space: Space,
    inputs: Inputs,
    chosen: Sequence[tuple[Window, StudyFolder]],
    regimes: Regimes,
) -> pd.DataFrame:
    """Equity of trading, over each window, the set that was chosen before it.

    Each set is in the position that its own run holds where its window starts; what changing from
    one set's position to the next one's costs is not charged.

    Args:
        space: of the study.
        inputs: of the study.
        chosen: each window and the folder that holds its set.
        regimes: of the study.

    Returns:
        One row a bar: ``timestamp``, ``return``, ``equity`` (money) and ``set``.
    """
    parts = []
    for window, folder in chosen:
        returns = set_returns(space, inputs, folder.sets([window.number]), regimes)
        part = returns.iloc[window.start - inputs.first : window.stop - inputs.first]
        parts.append(part.to_frame().assign(set=window.number))
    frame = pd.concat(parts).reset_index()
    frame.insert(2, "equity", inputs.rules.initial_cash * (1.0 + frame["return"]).cumprod())
    return frame


def stitched_sharpe(frame: pd.DataFrame, inputs: Inputs) -> float | None:
    """Annualized Sharpe ratio of a stitched equity."""
    deviation = float(frame["return"].std(ddof=1))
    if not deviation > 0.0:
        return None
    return float(frame["return"].mean()) / deviation * math.sqrt(inputs.bars.bars_per_year)
