"""What a study records about its choice of a set."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config

from optimizer.errors import StudyError
from optimizer.files import save
from optimizer.store.folder import StudyFolder
from optimizer.store.ledger_entries import Look, Search
from optimizer.store.names import SELECTION
from optimizer.store.validated import BarsPerYear, Count, Name, problem_of, read_json
from optimizer.sweep.buy_and_hold import UNIVERSE, Held

Finite = Annotated[float, Field(ge=-1e60, le=1e60, allow_inf_nan=False)]
"""A number whose square and fourth power are finite too."""

Draw = Annotated[float, Field(ge=-1e30, le=1e30, allow_inf_nan=False)]
"""A number that is finite in single precision too."""

AboveZero = Annotated[float, Field(ge=1e-6, le=1e60, allow_inf_nan=False)]
Positive = Annotated[int, Field(ge=1, le=2**53)]


@dataclass(frozen=True)
class SetStatistics:
    """Odds of one set. Sharpe ratios are annualized, probabilities in 0..1.

    Attributes:
        number: the number of the set.
        sharpe, oos_sharpe: Sharpe ratio in-sample and over the holdout; None where undefined.
        psr: probability that the true Sharpe ratio is above 0, had this been the only set tried.
        skewness, kurtosis: the skewness and kurtosis of the in-sample returns.
        oos_psr: ``psr`` from the holdout alone.
        autocorrelation: correlation of each in-sample return with the one before; None where it was not
            measured, which counts as 0.
        dsr: probability that the true Sharpe ratio is above what the best of all sets reaches by
            luck, from the effective number of sets. As stored it counts the study's own sets;
            ``deflated`` counts all.
        raw_dsr: ``dsr`` from the raw number of sets.
        alpha, alpha_t: what the set earned in-sample beyond the benchmark, a year, and its statistic;
            None where undefined or without a max-test.
        own_p: probability that the best of the study's sets has such a statistic without any alpha.
        p: the same over all sets ever tried on the bars. As stored it counts the study's own sets;
            ``deflated`` counts all.
    """

    number: Count
    sharpe: Finite | None
    skewness: Finite | None
    kurtosis: Finite | None
    oos_sharpe: Finite | None
    psr: Finite | None
    oos_psr: Finite | None
    autocorrelation: Annotated[float, Field(gt=-1.0, lt=1.0)] | None = None
    dsr: Finite | None = None
    raw_dsr: Finite | None = None
    alpha: Finite | None = None
    alpha_t: Finite | None = None
    own_p: Finite | None = None
    p: Finite | None = None


@dataclass(frozen=True)
class HoldoutAlpha:
    """What one set earned beyond the benchmark over the holdout.

    Attributes:
        alpha: what it earned beyond the benchmark, a year.
        statistic: alpha over its standard error.
        degrees: degrees of freedom of its t distribution.
        p: probability of such a statistic or a larger one without alpha.
    """

    alpha: Finite
    statistic: Finite
    degrees: Positive
    p: Annotated[float, Field(gt=0.0, le=1.0)]


@dataclass(frozen=True)
class Neighbours:
    """Sets whose returns are much like the winner's, yet not the same, see ``likeness.ALIKE``.

    Attributes:
        n_sets: neighbours.
        n_drawn: sets that were drawn, among which they were found.
        correlation: mean correlation of their returns with the winner's.
        median, worst: the median and the least of their in-sample Sharpe ratios, annualized. One
            that is undefined counts as 0.
    """

    n_sets: Positive
    n_drawn: Positive
    correlation: Finite
    median: Finite
    worst: Finite


@dataclass(frozen=True)
class RegimeReturns:
    """What the market earned after the bars of one regime, whatever any set did.

    Attributes:
        regime: ``bear``, ``neutral`` or ``bull``.
        n_returns: number of returns.
        mean: the mean return, a year.
        sharpe: the annualized Sharpe ratio; None where undefined.
    """

    regime: Name
    n_returns: Positive
    mean: Finite
    sharpe: Finite | None


@dataclass(frozen=True)
class RegimeValue:
    """Whether the regimes of a classifier tell returns of the market apart.

    Attributes:
        classifier: the classifier.
        regimes: those that occur, from bear to bull.
        p: probability of means that differ as much if all regimes have the same; None where fewer than
            two regimes have enough returns.
    """

    classifier: Name
    regimes: tuple[RegimeReturns, ...]
    p: Annotated[float, Field(gt=0.0, le=1.0)] | None


@dataclass(frozen=True)
class Window:
    """One step of a walk-forward.

    Attributes:
        number: number of the set chosen.
        train_start, start, stop: bars. The set is chosen on [train_start, start - purged) and traded
            over [start, stop).
        in_sample, out_of_sample: its annualized Sharpe ratio over the one and the other.
        purged: bars between training and trading that are left out.
    """

    number: Count
    train_start: Count
    start: Count
    stop: Count
    in_sample: Finite
    out_of_sample: Finite
    purged: Count = 0

    @property
    def train_stop(self) -> int:
        """The bar after the last one of training."""
        return self.start - self.purged


@dataclass(frozen=True)
class NextSet:
    """The set for the window of the walk-forward that begins after the last in-sample bar.

    Attributes:
        number: number of the set, in the study or in the search of this window.
        trial: its trial there.
        strategy, classifier: names.
        parameters: its parameters by column.
        in_sample: its metrics over all in-sample bars; None where undefined.
        train_start, stop: bars. It was chosen on [train_start, stop), where ``stop`` is the first bar of
            the holdout.
        own_search: whether this window had a search of its own.
    """

    number: Count
    trial: Count
    strategy: Name
    classifier: Name
    parameters: Mapping[Name, Finite]
    in_sample: Mapping[Name, Finite | None]
    train_start: Count
    stop: Count
    own_search: bool


@with_config(ConfigDict(extra="forbid"))  # a misspelt key would read as its default
@dataclass(frozen=True)
class Selection:
    """What a study knows about its choice.

    Attributes:
        n_tried: distinct sets tried.
        n_effective: number of independent sets that they are worth (Galwey 2009), from a sample.
        independent_share: how far more sets would be worth more, see ``sharpe.independent_share``.
        sharpe_deviation: standard deviation of the sets' annualized in-sample Sharpe ratios.
        n_returns: in-sample returns, from the first decision on: one a bar or one a day.
        n_holdout_returns: those of the holdout.
        returns_per_year: annualizes.
        sets: statistics of the best sets, best first; out-of-sample of the first one alone.
        search: the study as the ledger has it.
        look: the verdict's look at the holdout as the ledger has it; None without a holdout.
        maxima: largest draws of the max-test over all sets of the study; empty without one.
        holdout: what the winner earned over the holdout beyond the benchmark; None without a holdout, or
            where it is too short.
        minimum_years: in-sample years below which the best of ``n_effective`` sets without any skill
            is expected to reach the winner's Sharpe ratio (Bailey et al. 2014).
        block_bars, block_returns: bars and returns of each block of in-sample bars; empty where there
            are too few bars.
        pbo: probability of backtest overfitting; None without blocks.
        n_splits: splits that ``pbo`` was computed over.
        logits: the logits of these splits, see ``BacktestOverfitting``.
        degradation_slope: the slope of the regression of the out-of-sample on the in-sample Sharpe
            ratio over the splits.
        probability_of_loss: the share of the splits in which the set chosen loses out-of-sample.
        windows: the windows of the walk-forward over the in-sample blocks.
        walk_forward_efficiency: mean out-of-sample over mean in-sample Sharpe ratio of the windows.
        one_search_per_window: whether each window had a search of its own, on its training bars.
        next_set: the set for the window after the last in-sample bar; None where its choice by the
            objective would take a search of its own, which only ``method = "walk_forward"`` makes.
        stitched_sharpe: annualized Sharpe ratio of the windows' joined returns. Only with ``method =
            "walk_forward"``, which also writes ``walk_forward.parquet``.
        path_sharpes: annualized Sharpe ratios of the paths of combinatorial purged cross-validation,
            ascending.
        neighbours: the neighbours of the winner; None if there are none.
        n_contenders: feasible sets that are not worse than the winner beyond chance, itself included.
        sharpe_to_expect: annualized Sharpe ratio to expect of the winner, corrected for its having been
            chosen: the mean out-of-sample ratio of the sets that the splits choose, and at most its own
            in-sample. That itself where it is the only set; None without blocks, or where the study
            does not choose by the Sharpe ratio.
        interval_to_expect: 95% interval of it.
        regime_value: what the regimes of the winner's classifier tell of the market in-sample; None
            without a classifier.
        holdout_regime_value: the same of the market over the holdout.
        held: metrics of the benchmark.
        benchmark: ``universe`` or a symbol.
        sharpe_interval, oos_sharpe_interval, drawdown_interval: 95% intervals of the winner by the
            stationary bootstrap, the first and the last in-sample. Those in-sample are too high, since
            the set was chosen.
    """

    n_tried: Positive
    n_effective: AboveZero
    sharpe_deviation: Finite
    n_returns: Positive
    n_holdout_returns: Count
    returns_per_year: BarsPerYear
    sets: Annotated[tuple[SetStatistics, ...], Field(min_length=1)]
    search: Search | None = None
    look: Look | None = None
    maxima: tuple[Draw, ...] = ()
    holdout: HoldoutAlpha | None = None
    independent_share: Annotated[float, Field(ge=0.0, le=1.0)] = 1.0
    minimum_years: Finite | None = None
    block_bars: tuple[Count, ...] = ()
    block_returns: tuple[Count, ...] = ()
    pbo: Finite | None = None
    n_splits: Count = 0
    logits: tuple[Finite, ...] = ()
    degradation_slope: Finite | None = None
    probability_of_loss: Finite | None = None
    windows: tuple[Window, ...] = ()
    walk_forward_efficiency: Finite | None = None
    one_search_per_window: bool = False
    next_set: NextSet | None = None
    stitched_sharpe: Finite | None = None
    path_sharpes: tuple[Finite, ...] = ()
    neighbours: Neighbours | None = None
    regime_value: RegimeValue | None = None
    holdout_regime_value: RegimeValue | None = None
    n_contenders: Positive = 1
    sharpe_to_expect: Finite | None = None
    interval_to_expect: tuple[Finite, Finite] | None = None
    held: Held | None = None
    benchmark: Name = UNIVERSE
    sharpe_interval: tuple[Finite, Finite] | None = None
    oos_sharpe_interval: tuple[Finite, Finite] | None = None
    drawdown_interval: tuple[Finite, Finite] | None = None

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values that JSON can hold."""
        content: dict[str, Any] = json.loads(self._text())
        return content

    def _text(self, indent: int | None = None) -> str:
        # Not ``asdict``, which would copy every element of the tuples.
        return json.dumps(vars(self), default=vars, indent=indent, allow_nan=False)

    def save(self, folder: StudyFolder) -> None:
        """Write ``selection.json``.

        Args:
            folder: the folder of the study.

        Raises:
            StudyError: it cannot be written.
        """
        text = self._text(indent=1)
        path = folder.path / SELECTION
        save(path, lambda part: part.write_text(text + "\n"))


def load_selection(folder: StudyFolder) -> Selection | None:
    """Read what ``Selection.save`` wrote.

    Args:
        folder: the folder of the study.

    Returns:
        None where the study has not come so far, or found no feasible set.

    Raises:
        StudyError: the file cannot be read.
    """
    path = folder.path / SELECTION
    if not path.is_file():
        return None
    try:
        return read_selection(read_json(path))
    except (OSError, ValueError) as error:
        raise StudyError(
            f"{path}: cannot be read: {error}; `barsweep resume {folder.path}`"
            " judges the study again"
        ) from None


def read_selection(content: Mapping[str, Any]) -> Selection:
    """A selection from plain values, as ``Selection.to_dict`` gives them.

    Args:
        content: whatever was read.

    Raises:
        ValueError: a value is missing, of the wrong type or out of bounds; names it.
    """
    try:
        # As JSON, whose lists a strict model takes for tuples.
        return _SELECTION.validate_json(json.dumps(content), strict=True)
    except ValidationError as error:
        raise ValueError(problem_of(error)) from None


_SELECTION: TypeAdapter[Selection] = TypeAdapter(Selection)
