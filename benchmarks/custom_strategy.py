"""A user's own strategies against the built-in one with the same rule: momentum.

One is the rule alone. Others read their position, for an exit after some bars and for all that there is
to read, or the probabilities of the regime, with limits that are never met; or take momentum from a
function of all symbols or from TA-Lib: so all trade alike. The monthly rotation, a built-in panel
strategy, trades in its own way.

Run: ``python -m benchmarks.custom_strategy [--repeats N] [--only NAME ...]``. One core; all take turns.
Features are computed before, once for all sets; how long that takes is a column of its own.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.simulation import DATA, SYMBOLS
from optimizer.bars.load import load_bars
from optimizer.bench.case import Case
from optimizer.bench.inputs import momentum_sets
from optimizer.bench.suite import measure
from optimizer.study_file.space import build_space
from optimizer.study_file.study import study_from_dict
from optimizer.sweep.evaluate import evaluate
from optimizer.sweep.inputs import NO_REGIME, Inputs, MarketRegime, prepare
from optimizer.sweep.rules import study_rules
from optimizer.sweep.tiles import Tile, TileResult
from optimizer.types import Bars
from tests.support.strategies import MOMENTUM

TIMED = MOMENTUM.replace("def signal(", "def signal(bars_held, ").replace(
    "    if momentum > threshold:",
    "    if bars_held >= 1e9:\n        return 0.0, 0.0, 1.0\n    if momentum > threshold:",
)
"""Momentum that would leave after 1e9 bars."""

ALL = TIMED.replace(
    "def signal(",
    "def signal(side, open_return, best_return, worst_return, entry_price, bars_since_exit, close, ",
).replace(
    "if bars_held >= 1e9:",
    "if bars_held >= 1e9 or best_return - open_return > 1e9 or worst_return < -1e9 or"
    " side * (entry_price - close) > 1e9 or 1e9 < bars_since_exit < 2e9:",
)
"""Momentum that reads all of its position."""


PROBABILITIES = MOMENTUM.replace(
    "def signal(", "def signal(bear_probability, bull_probability, "
).replace(
    "    if momentum > threshold:",
    "    if bear_probability > 2.0 or bull_probability > 2.0:\n        return 0.0, 0.0, 1.0\n"
    "    if momentum > threshold:",
)
"""Momentum that would leave if the regime were more than certain."""

PANEL = (
    MOMENTUM.replace("import math\n", "import math\n\nimport numpy as np\n")
    .replace(
        'FEATURES = {"momentum": ("momentum", "lookback")}',
        """
def moved(close, lookback):
    out = np.full(close.shape, np.nan)
    out[lookback:] = np.log(close[lookback:] / close[:-lookback])
    return out


FEATURES = {"momentum": panel(moved, "lookback")}""",
    )
    .replace("import HOLD, LONG, SHORT,", "import HOLD, LONG, SHORT, panel,")
)
"""Momentum from a function of all symbols."""

TALIB = MOMENTUM.replace('("momentum", "lookback")', '("talib.ROCP", "lookback")')
"""Momentum from TA-Lib, a fraction and not its logarithm."""

ROTATION = "monthly rotation, built in"
USERS = {
    "alone": MOMENTUM,
    "exit by time": TIMED,
    "all of its position": ALL,
    "probabilities": PROBABILITIES,
    "panel": PANEL,
    "TA-Lib": TALIB,
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--only", nargs="+", choices=[*USERS, ROTATION], default=[*USERS, ROTATION])
    arguments = parser.parse_args()
    print("| symbols | lanes | strategy | built-in, ns | its own, ns | ratio | its features, s |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for symbols in (SYMBOLS[:1], SYMBOLS):
            bars = load_bars(DATA, symbols=symbols)
            inputs, *tiles = momentum_sets(bars)
            others = [_prepared(bars, name, Path(folder), tiles) for name in arguments.only]
            for i, lanes in enumerate(("shared features", "own features")):
                work = [_work(inputs, tiles[i]), *(_work(one, own[i]) for one, own, _ in others)]
                first, *found = (one()[0].in_sample for one in work)
                for name, metrics in zip(arguments.only, found, strict=True):
                    same = name not in (
                        "panel",
                        "TA-Lib",
                        ROTATION,
                    )  # by the last bits of a feature
                    assert not same or (first == metrics)[~np.isnan(first)].all(), name
                steps = (bars.n_bars - inputs.first) * bars.n_symbols * tiles[i].n_lanes
                cases = [Case(lanes, "", steps, one) for one in work]
                (_, built_in), *measured = measure(cases, arguments.repeats)
                rows = zip(arguments.only, measured, others, strict=True)
                for name, (_, own_ns), (_, _, seconds) in rows:
                    row = (len(symbols), lanes, name, f"{built_in:.2f}", f"{own_ns:.2f}")
                    ending = (f"{own_ns / built_in:.2f}", f"{seconds:.2f}")
                    print("| " + " | ".join((*map(str, row), *ending)) + " |", flush=True)


def _work(inputs: Inputs, tile: Tile) -> Callable[[], list[TileResult]]:
    n_bars = inputs.bars.n_bars
    probabilities = bool(getattr(tile.strategy, "regime_values", ()))
    return partial(
        evaluate, inputs, [tile], {NO_REGIME: MarketRegime.neutral(n_bars, probabilities)}
    )


def _prepared(
    bars: Bars, name: str, folder: Path, tiles: Sequence[Tile]
) -> tuple[Inputs, list[Tile], float]:
    """The inputs of a strategy, its sets like those of the built-in one, and the time of its inputs."""
    table: dict[str, object] = {"name": "monthly_rotation", "n": 3}
    if name != ROTATION:
        path = folder / f"{name.replace(' ', '_').replace('-', '_').lower()}.py"
        # The strength is that of the built-in rule at as many bars a year.
        path.write_text(USERS[name].replace("252.0", repr(float(bars.bars_per_year))))
        table = {"name": "mine", "path": str(path)}
    content = {
        "study": {"name": "bench"},
        "data": {"path": "."},
        "strategy": {**table, "lookback": {"low": 5, "high": 250}},
        "risk": {"correlation_penalty": 0.0},
    }
    study = study_from_dict(content)
    space = build_space(study)
    begun = time.thread_time()
    inputs = prepare(bars, space, study_rules(study, space, bars), 0.0)
    seconds = time.thread_time() - begun
    branch, own = space.branches[0], str(table["name"])
    one = branch.lanes({f"{own}_lookback": 60})
    made = []
    for tile in tiles:
        columns = {key: np.repeat(values, tile.n_lanes) for key, values in one.items()}
        given = {key.replace("momentum_", f"{own}_"): each for key, each in tile.columns.items()}
        columns.update({key: each for key, each in given.items() if key in columns})
        made.append(Tile.of(branch, columns))
    return inputs, made, seconds


if __name__ == "__main__":
    main()
