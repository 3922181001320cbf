"""How often does a study's verdict take luck for skill, and how often does it miss an edge?

Run: ``python -m benchmarks.luck [--studies N] [--processes N]``. Every study searches the same grid of
momentum sets over bars of its own, made from a seed, so the table is the same on every machine. It
is printed, and written into ``benchmarks/README.md``.

The bars: 2,150 days, of which 1,600 are in-sample and 400 are the holdout, at 252 a year; open equal to
the close before. Without an edge returns are independent, so no rule can know the next one. With an edge
each symbol has a trend, up or down, that turns with probability 1/100 a day: a rule of momentum can find
it, and how much of it the best set of the grid can find is measured on 100,000 further days.

The column ``five grounds`` is the verdict of earlier versions: it asked for a deflated Sharpe ratio, a
probability of overfitting, the holdout, the neighbours and buying and holding, all at once.
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
from optimizer.sweep.inputs import prepare
from optimizer.sweep.rules import study_rules
from optimizer.sweep.tiles import Tile
from optimizer.types import Bars, FloatArray

N_BARS, N_SYMBOLS, N_LONG = 2_150, 3, 100_000
BARS_PER_YEAR = 252.0
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


def trends(drift: float) -> Returns:
    """Trends of ``drift`` a bar, up or down, that turn now and then."""

    def draw(random: Random, n_bars: int) -> FloatArray:
        first = random.integers(2, size=N_SYMBOLS)
        turns = np.cumsum(random.random((n_bars, N_SYMBOLS)) < TURN, axis=0)
        sign = 1.0 - 2.0 * ((first + turns) % 2)
        values: FloatArray = drift * sign + walk()(random, n_bars)
        return values

    return draw


def bars_of(log_returns: FloatArray) -> Bars:
    """Bars whose open is the close before."""
    n_symbols = log_returns.shape[1]
    path = np.vstack([np.zeros((1, n_symbols)), np.cumsum(log_returns, axis=0)])
    close = 100.0 * np.exp(path)
    open_, close = close[:-1].copy(), close[1:].copy()
    days = np.datetime64("1990-01-01", "ns") + np.arange(len(close)) * np.timedelta64(1, "D")
    return Bars(
        symbols=tuple(f"S{i:02d}" for i in range(n_symbols)),
        timestamps=days,
        open=open_,
        high=np.maximum(open_, close),
        low=np.minimum(open_, close),
        close=close,
        volume=np.full_like(close, 1e6),
        bars_per_year=BARS_PER_YEAR,
    )


@dataclass(frozen=True)
class Scenario:
    """One row of the table.

    Attributes:
        name: what the bars are.
        returns: makes them.
        dense: whether the grid has ten times as many thresholds, most of which trade alike.
        edge: whether there is one.
        risk_free: what cash earns a year, a fraction.
    """

    name: str
    returns: Returns
    dense: bool = False
    edge: bool = False
    risk_free: float = 0.0


def grid_study(folder: Path, dense: bool = False, risk_free: float = 0.0) -> Study:
    """240 momentum sets, long and short, with costs; ten times as many on a dense grid."""
    thresholds = np.linspace(0.0, 0.04, 40).tolist() if dense else [0.0, 0.01, 0.02, 0.04]
    return study_from_dict(
        {
            "study": {"name": "luck"},
            # The days go on over weekends, and a year of bars has 252 all the same.
            "data": {"path": "bars.parquet", "bars_per_year": BARS_PER_YEAR},
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
            "account": {"cash_rate": risk_free, "risk_free": risk_free},
            "search": {"sampler": "grid", "batch": 15},
            "workers": {"count": 1},
        },
        folder,
    )


@dataclass(frozen=True)
class Outcome:
    """What one study said.

    Attributes:
        words: its verdict.
        five_grounds: whether the verdict of earlier versions would be ``holds up``.
        p, in_sample_p, holdout_p: its p-values: both, over all sets, and of the holdout.
        in_sample, out_of_sample: annualized Sharpe ratios of its best set.
    """

    words: str
    five_grounds: bool
    p: float
    in_sample_p: float
    holdout_p: float
    in_sample: float
    out_of_sample: float


def holds_up(found: Selection) -> bool:
    """The verdict of earlier versions, whose five grounds all had to speak for the winner."""
    one, loss = found.sets[0], found.probability_of_loss
    own, later = one.sharpe or 0.0, one.oos_sharpe or 0.0
    pbo, held = found.pbo, found.held
    return bool(
        (one.dsr or 0.0) >= 0.95
        and pbo is not None
        and (pbo <= 0.2 or (pbo <= 0.5 and loss is not None and loss <= 0.05))
        and own > 0.0
        and later >= 0.5 * own
        and found.neighbours is not None
        and found.neighbours.median >= 0.7 * own
        and held is not None
        and own > (held.in_sample["sharpe"] or 0.0)
        and later > (held.out_of_sample["sharpe"] or 0.0)
    )


def one_study(returns: FloatArray, dense: bool, risk_free: float) -> Outcome:
    """Run the study over bars with these log returns."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ[LEDGER] = str(folder / "ledger.db")
        bars = bars_of(returns)
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
        result = run_study(grid_study(folder, dense, risk_free), out=folder / "out")
        selection = load_selection(result.folder)
    if selection is None or selection.holdout is None:
        raise RuntimeError("no set has a Sharpe ratio")
    verdict, best = judge(selection), selection.sets[0]
    return Outcome(
        verdict.words,
        holds_up(selection),
        verdict.p or 0.0,
        best.own_p or 0.0,
        selection.holdout.p,
        best.sharpe or 0.0,
        best.oos_sharpe or 0.0,
    )


def best_true_sharpe(returns: Returns, seed: int, risk_free: float) -> float:
    """Annualized Sharpe ratio of the best set of the grid over very many bars."""
    bars = bars_of(returns(np.random.default_rng([seed, N_LONG]), N_LONG))
    study = grid_study(Path(), risk_free=risk_free)
    space = build_space(study)
    inputs = prepare(bars, space, study_rules(study, space, bars), holdout=0.0)
    branch = space.branches[0]
    tiles = [Tile.of(branch, branch.lanes(point)) for point in branch.points()]
    codes = np.zeros(bars.n_bars, dtype=np.int8)
    results = evaluate(inputs, tiles, dict.fromkeys(tiles[0].regime_keys()[0], codes))
    sharpes = np.concatenate([one.in_sample[:, METRICS.index("sharpe")] for one in results])
    return float(np.nanmax(sharpes))


SCENARIOS = (
    Scenario("no edge: random walks", walk()),
    Scenario("no edge: random walks, a dense grid of 2,400 sets", walk(), dense=True),
    Scenario("no edge: one random walk", walk(n_symbols=1)),
    Scenario("no edge: 12 random walks", walk(n_symbols=12)),
    Scenario("no edge: fat tails, clustered volatility", clustered),
    Scenario("no edge: one symbol is like cash, which earns 3%", like_cash, risk_free=RATE),
    Scenario("no timing edge, but prices drift up 10% a year", walk(0.10 / BARS_PER_YEAR)),
    *(
        Scenario(f"trends of {drift * 1e4:g} bps a day", trends(drift), edge=True)
        for drift in (8e-4, 12e-4, 16e-4, 24e-4)
    ),
)


def row_of(name: str, true_sharpe: float, outcomes: list[Outcome]) -> str:
    """One row of the table."""

    def share(holds: Iterable[bool]) -> str:
        return f"{statistics.fmean(holds):.0%}"

    cells = [
        name,
        f"{true_sharpe:.2f}",
        f"{statistics.fmean(one.in_sample for one in outcomes):.2f}",
        f"{statistics.fmean(one.out_of_sample for one in outcomes):.2f}",
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
        "| bars | true Sharpe of the best set | Sharpe of the set chosen, in-sample | out-of-sample"
        " | five grounds hold | holdout alone, p to 0.05 | all sets, p to 0.05"
        f" | {' | '.join(f'**{words}**' for words in VERDICTS)} |",
        f"|{' --- |' * 10}",
    ]
    everything = []
    sharpes: dict[str, float] = {}
    with Parallel(n_jobs=processes) as parallel:
        for number, one in enumerate(SCENARIOS):
            outcomes = parallel(
                delayed(one_study)(
                    one.returns(np.random.default_rng([number, study]), N_BARS),
                    one.dense,
                    one.risk_free,
                )
                for study in range(n_studies)
            )
            true_sharpe = best_true_sharpe(one.returns, number, one.risk_free)
            sharpes[one.name] = true_sharpe
            lines.append(row_of(one.name, true_sharpe, outcomes))
            print(lines[-1], flush=True)
            everything.append(pd.DataFrame(outcomes).assign(bars=one.name))
    if details is not None:
        pd.concat(everything).to_csv(details, index=False)
    words = {
        str(one["bars"].iloc[0]): {word: int((one["words"] == word).sum()) for word in VERDICTS}
        for one in everything
    }
    return "\n".join(lines), sharpes, words


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
    parser.add_argument("--studies", type=int, default=100, help="of each kind of bars")
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
