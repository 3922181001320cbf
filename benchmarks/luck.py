"""How often does a study's verdict take luck for skill, and how often does it miss an edge?

Run: ``python -m benchmarks.luck [--studies N] [--processes N]``. Every study searches the same grid of
momentum sets over bars of its own, made from a seed, so the table is the same on every machine. It
is printed, and written into ``benchmarks/README.md``.

The bars: 2,150 days, of which 1,600 are in-sample and 400 are the holdout, at 252 a year; open equal to
the close before. Without an edge returns are independent, so no rule can know the next one. With an edge
each symbol has a trend, up or down, that turns with probability 1/100 a day: a rule of momentum can find
it, and how much of it the best set of the grid can find is measured on 100,000 further days.

The column ``five grounds`` is the verdict of earlier versions: it asked for a deflated Sharpe ratio, a
probability of overfitting, the holdout, the neighbours and buying and holding, all at once. The Sharpe
ratio to expect is compared with the true one of the set that was chosen.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as pyplot
import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from benchmarks.tables import FOLDER, publish
from optimizer.catalogue import METRICS
from optimizer.files import LEDGER
from optimizer.search.run import run_study
from optimizer.selection.record import Selection, load_selection
from optimizer.selection.verdict import VERDICTS, judge
from optimizer.study_file.space import build_space
from optimizer.study_file.study import Study, study_from_dict
from optimizer.sweep.evaluate import evaluate
from optimizer.sweep.inputs import MarketRegime, prepare
from optimizer.sweep.rules import study_rules
from optimizer.sweep.tiles import Tile
from optimizer.types import Bars, FloatArray

N_BARS, N_SYMBOLS, N_LONG = 2_150, 3, 100_000
DEVIATION = 0.01
TURN = 0.01
RATE = 0.03

Random = np.random.Generator
Returns = Callable[[Random, int], FloatArray]
"""Log returns of a number of bars, (n_bars, n_symbols)."""


def walk(drift: float = 0.0, n_symbols: int = N_SYMBOLS) -> Returns:
    """A random walk with a drift per bar."""
    return lambda random, n: random.normal(drift, DEVIATION, (n, n_symbols))


def clustered(random: Random, n_bars: int) -> FloatArray:
    """No edge, but fat tails, and a volatility that all symbols share and that comes in clusters."""
    level = np.empty(n_bars)
    now = 0.0
    for bar, shock in enumerate(random.normal(0.0, 0.15, n_bars)):
        now = 0.97 * now + shock
        level[bar] = now
    tails = random.standard_t(4, (n_bars, N_SYMBOLS)) / np.sqrt(2.0)
    values: FloatArray = DEVIATION * np.exp(level - np.mean(level))[:, np.newaxis] * tails
    return values


def like_cash(random: Random, n_bars: int) -> FloatArray:
    """Random walks, of which one hardly moves and rises as cash does, which earns on all days."""
    values = walk()(random, n_bars)
    values[:, 0] = values[:, 0] / 50.0 + RATE / 365.25
    return values


def trends(drift: float, n_symbols: int = N_SYMBOLS) -> Returns:
    """Trends of ``drift`` a bar, up or down, that turn now and then."""

    def draw(random: Random, n_bars: int) -> FloatArray:
        first = random.integers(2, size=n_symbols)
        turns = np.cumsum(random.random((n_bars, n_symbols)) < TURN, axis=0)
        sign = 1.0 - 2.0 * ((first + turns) % 2)
        values: FloatArray = drift * sign + walk(n_symbols=n_symbols)(random, n_bars)
        return values

    return draw


@dataclass(frozen=True)
class Scenario:
    """One row of the table.

    Attributes:
        name: what the bars are.
        returns: makes them.
        dense: whether the grid has ten times as many thresholds, most of which trade alike.
        edge: whether there is one, so that the row is a point of the picture.
        risk_free: what cash earns a year, a fraction.
        gap: the part of each bar's log return that comes once more as the gap to the next open. Nobody
            can trade it, but whoever holds a position has returns with that memory.
        hours: length of a bar.
        bars_per_year: bars of a year.
    """

    name: str
    returns: Returns
    dense: bool = False
    edge: bool = False
    risk_free: float = 0.0
    gap: float = 0.0
    hours: int = 24
    bars_per_year: float = 252.0

    def bars(self, log_returns: FloatArray) -> Bars:
        """Bars with these log returns from the open to the close, (n_bars, n_symbols)."""
        n_symbols = log_returns.shape[1]
        gaps = np.vstack([np.zeros((1, n_symbols)), self.gap * log_returns[:-1]])
        close = 100.0 * np.exp(np.cumsum(gaps + log_returns, axis=0))
        open_ = close * np.exp(-log_returns)
        step = self.hours * np.timedelta64(1, "h")
        return Bars(
            symbols=tuple(f"S{i:02d}" for i in range(n_symbols)),
            timestamps=np.datetime64("1990-01-01", "ns") + np.arange(len(close)) * step,
            open=open_,
            high=np.maximum(open_, close),
            low=np.minimum(open_, close),
            close=close,
            volume=np.full_like(close, 1e6),
            bars_per_year=self.bars_per_year,
        )


def grid_study(folder: Path, one: Scenario) -> Study:
    """240 momentum sets, long and short, with costs; ten times as many on a dense grid."""
    thresholds = np.linspace(0.0, 0.04, 40).tolist() if one.dense else [0.0, 0.01, 0.02, 0.04]
    return study_from_dict(
        {
            "study": {"name": "luck"},
            # The bars go on over weekends, and a year has as many as given all the same.
            "data": {"path": "bars.parquet", "bars_per_year": one.bars_per_year},
            "strategy": {
                "name": "momentum",
                "lookback": {"low": 10, "high": 150, "step": 10},
                "threshold": {"sweep": thresholds},
            },
            "risk": {
                "allow_short": True,
                "kelly_fraction": {"sweep": [0.02, 0.1]},
                "max_exposure": {"sweep": [0.5, 1.0]},
                "rebalance_band": 0.2,
                "volatility_lookback": 30,
            },
            "account": {"cash_rate": one.risk_free, "risk_free": one.risk_free},
            "search": {"sampler": "grid", "batch": 15},
            "workers": {"count": 1},
        },
        folder,
    )


@dataclass(frozen=True)
class Outcome:
    """What one study said.

    Attributes:
        number: the number of its best set.
        words: its verdict.
        five_grounds: whether the verdict of earlier versions would be ``holds up``.
        p, in_sample_p, holdout_p: its p-values: both, over all sets, and of the holdout.
        in_sample, out_of_sample: annualized Sharpe ratios of its best set.
        expected, low, high: the ratio to expect of it, and the ends of its interval.
    """

    number: int
    words: str
    five_grounds: bool
    p: float
    in_sample_p: float
    holdout_p: float
    in_sample: float
    out_of_sample: float
    expected: float
    low: float
    high: float


PARAMETERS = ("momentum_lookback", "momentum_threshold", "kelly_fraction", "max_exposure")


def holds_up(found: Selection, sets: pd.DataFrame) -> bool:
    """The verdict of earlier versions, whose five grounds all had to speak for the winner."""
    one, loss = found.sets[0], found.probability_of_loss
    own, later = one.sharpe or 0.0, one.oos_sharpe or 0.0
    pbo, held = found.pbo, found.held
    ranks = sets[list(PARAMETERS)].rank(method="dense")
    steps = (ranks - ranks[sets["set"] == one.number].iloc[0]).abs().sum(axis=1)
    near = float(sets["sharpe"].fillna(0.0)[steps == 1.0].median())
    return bool(
        (one.dsr or 0.0) >= 0.95
        and pbo is not None
        and (pbo <= 0.2 or (pbo <= 0.5 and loss is not None and loss <= 0.05))
        and own > 0.0
        and later >= 0.5 * own
        and near >= 0.7 * own
        and held is not None
        and own > (held.in_sample["sharpe"] or 0.0)
        and later > (held.out_of_sample["sharpe"] or 0.0)
    )


def one_study(one: Scenario, log_returns: FloatArray) -> Outcome:
    """Run the study over bars with these log returns."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ[LEDGER] = str(folder / "ledger.db")
        bars = one.bars(log_returns)
        prices = ("open", "high", "low", "close", "volume")
        tables = [
            pd.DataFrame(
                {
                    "symbol": symbol,
                    "timestamp": bars.timestamps,
                    **{price: getattr(bars, price)[:, i] for price in prices},
                }
            )
            for i, symbol in enumerate(bars.symbols)
        ]
        pd.concat(tables).to_parquet(folder / "bars.parquet", index=False)
        result = run_study(grid_study(folder, one), out=folder / "out")
        selection = load_selection(result.folder)
        sets = result.folder.results(["set", "sharpe", *PARAMETERS])
    if selection is None or selection.holdout is None:
        raise RuntimeError("no set has a Sharpe ratio")
    verdict, best = judge(selection), selection.sets[0]
    low, high = selection.interval_to_expect or (-np.inf, np.inf)
    return Outcome(
        best.number,
        verdict.words,
        holds_up(selection, sets),
        verdict.p or 0.0,
        best.own_p or 0.0,
        selection.holdout.p,
        best.sharpe or 0.0,
        best.oos_sharpe or 0.0,
        selection.sharpe_to_expect or 0.0,
        low,
        high,
    )


def true_sharpes(one: Scenario, seed: int) -> FloatArray:
    """Annualized Sharpe ratios of all sets of the grid over very many bars, by number."""
    bars = one.bars(one.returns(np.random.default_rng([seed, N_LONG]), N_LONG))
    study = grid_study(Path(), one)
    space = build_space(study)
    inputs = prepare(bars, space, study_rules(study, space, bars), holdout=0.0)
    branch = space.branches[0]
    tiles = [Tile.of(branch, branch.lanes(point)) for point in branch.points()]
    codes = MarketRegime.neutral(bars.n_bars)
    results = evaluate(inputs, tiles, dict.fromkeys(tiles[0].regime_keys()[0], codes))
    return np.concatenate([one.in_sample[:, METRICS.index("sharpe")] for one in results])


SCENARIOS = (
    Scenario("no edge: random walks", walk()),
    Scenario("no edge: random walks, a dense grid of 2,400 sets", walk(), dense=True),
    Scenario("no edge: random walks, cash earns 3%", walk(), risk_free=RATE),
    Scenario("no edge: one random walk", walk(n_symbols=1)),
    Scenario("no edge: 12 random walks", walk(n_symbols=12)),
    Scenario("no edge: fat tails, clustered volatility", clustered),
    Scenario("no edge: autocorrelated returns, by gaps of half the move before", walk(), gap=0.5),
    Scenario("no edge: one symbol is like cash, which earns 3%", like_cash, risk_free=RATE),
    Scenario("no timing edge, but prices drift up 10% a year", walk(0.10 / 252.0)),
    Scenario("no edge: hourly bars, 7 a day", walk(), hours=1, bars_per_year=1764.0),
    Scenario("no edge: weekly bars", walk(), hours=168, bars_per_year=52.0),
    *(
        Scenario(f"trends of {drift * 1e4:g} bps a day", trends(drift), edge=True)
        for drift in (8e-4, 11e-4, 12e-4, 16e-4, 24e-4)
    ),
    Scenario("trends of 16 bps a day, a dense grid of 2,400 sets", trends(16e-4), dense=True),
    Scenario("trends of 16 bps a day, one symbol", trends(16e-4, 1)),
    Scenario("trends of 8 bps a day, 12 symbols", trends(8e-4, 12)),
)


def row_of(name: str, sharpes: FloatArray, outcomes: list[Outcome]) -> str:
    """One row of the table; ``sharpes`` are the true ones of all sets."""

    def share(holds: Iterable[bool]) -> str:
        return f"{statistics.fmean(holds):.0%}"

    def mean(values: Iterable[float]) -> str:
        return f"{statistics.fmean(values):.2f}"

    true = [float(sharpes[one.number]) for one in outcomes]
    cells = [
        name,
        f"{np.nanmax(sharpes):.2f}",
        mean(one.in_sample for one in outcomes),
        f"**{mean(one.expected for one in outcomes)}**",
        mean(true),
        share(one.low <= own <= one.high for one, own in zip(outcomes, true, strict=True)),
        share(one.five_grounds for one in outcomes),
        share(one.holdout_p <= 0.05 for one in outcomes),
        share(one.in_sample_p <= 0.05 for one in outcomes),
        *(share(one.words == words for one in outcomes) for words in VERDICTS),
    ]
    return f"| {' | '.join(cells)} |"


def table(
    n_studies: int, processes: int, details: Path | None
) -> tuple[str, dict[str, float], dict[str, dict[str, int]]]:
    """The Markdown table; of each kind of bars the true Sharpe ratio and how often each verdict."""
    lines = [
        "| bars | true Sharpe of the best set | Sharpe of the set chosen, in-sample | **to expect**"
        " | true | 95% interval holds the true one | five grounds hold | holdout alone, p to 0.05"
        f" | all sets, p to 0.05 | {' | '.join(f'**{words}**' for words in VERDICTS)} |",
        f"|{' --- |' * 12}",
    ]
    everything = []
    best: dict[str, float] = {}
    with Parallel(n_jobs=processes) as parallel:
        for number, one in enumerate(SCENARIOS):
            outcomes = parallel(
                delayed(one_study)(one, one.returns(np.random.default_rng([number, study]), N_BARS))
                for study in range(n_studies)
            )
            sharpes = true_sharpes(one, number)
            best[one.name] = float(np.nanmax(sharpes))
            lines.append(row_of(one.name, sharpes, outcomes))
            print(lines[-1], flush=True)
            everything.append(pd.DataFrame(outcomes).assign(bars=one.name))
    if details is not None:
        pd.concat(everything).to_csv(details, index=False)
    words = {
        str(one["bars"].iloc[0]): {word: int((one["words"] == word).sum()) for word in VERDICTS}
        for one in everything
    }
    return "\n".join(lines), best, words


def draw(sharpes: dict[str, float], rows: dict[str, dict[str, int]], path: Path) -> None:
    """How often each verdict is said, against the true Sharpe ratio of an edge."""
    figure, axes = pyplot.subplots(figsize=(5.0, 3.2))
    names = [one.name for one in SCENARIOS if one.edge or one.name == SCENARIOS[0].name]
    edges = sorted((sharpes[name], rows[name]) for name in names)
    styles = zip(VERDICTS, ("#009e73", "#e69f00", "#d55e00"), ("o", "s", "^"), strict=True)
    for words, colour, marker in styles:
        shares = [row[words] / sum(row.values()) for _, row in edges]
        axes.plot([at for at, _ in edges], shares, label=words, color=colour, marker=marker)
    axes.set_xlabel("true Sharpe ratio of the best set")
    axes.set_ylabel("share of studies")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Print the table and write it into the README."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=200, help="of each kind of bars")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--details", type=Path, help="CSV of every study's figures")
    given = parser.parse_args()
    text, sharpes, rows = table(given.studies, given.processes, given.details)
    draw(sharpes, rows, FOLDER / "luck.svg")
    picture = "![Verdicts against the true Sharpe ratio](luck.svg)"
    content = {"studies": given.studies, "true_sharpe": sharpes, "verdicts": rows}
    publish("luck", f"{given.studies} studies a row.\n\n{text}\n\n{picture}", content)


if __name__ == "__main__":
    main()
