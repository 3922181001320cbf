"""A user's own strategies against the built-in one with the same rule: momentum.

One is the rule alone. Two more read their position, for an exit after some bars and for all that there is
to read, with limits that are never met: so all trade alike.

Run: ``python -m benchmarks.custom_strategy [--repeats N]``. One core; the two take turns.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.simulation import DATA, SYMBOLS
from optimizer.bars.load import load_bars
from optimizer.bench.case import Case
from optimizer.bench.inputs import momentum_sets
from optimizer.bench.suite import measure
from optimizer.strategies.user import UserStrategy, read_strategy
from optimizer.sweep.evaluate import evaluate
from optimizer.sweep.inputs import NO_REGIME, MarketRegime
from optimizer.sweep.tiles import Tile
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


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    print("| symbols | lanes | strategy | built-in, ns | custom, ns | custom / built-in |")
    print("| --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for symbols in (SYMBOLS[:1], SYMBOLS):
            bars = load_bars(DATA, symbols=symbols)
            flat = {NO_REGIME: MarketRegime.neutral(bars.n_bars)}
            strategies = list(_strategies(Path(folder), bars.bars_per_year))
            inputs, *tiles = momentum_sets(bars)
            for name, tile in zip(("shared features", "own features"), tiles, strict=True):
                columns = {k.replace("momentum_", "mine_"): v for k, v in tile.columns.items()}
                mine: list[Tile] = [
                    replace(tile, strategy=one, columns=columns) for _, one in strategies
                ]
                work = [partial(evaluate, inputs, [one], flat) for one in (tile, *mine)]
                first, *others = (one()[0].in_sample for one in work)
                for other in others:
                    assert (first == other)[~np.isnan(first)].all()
                steps = (bars.n_bars - inputs.first) * bars.n_symbols * tile.n_lanes
                cases = [Case(name, "", steps, one) for one in work]
                (_, built_in), *measured = measure(cases, repeats)
                for (what, _), (_, own) in zip(strategies, measured, strict=True):
                    row = (len(symbols), name, what, f"{built_in:.2f}", f"{own:.2f}")
                    print("| " + " | ".join((*map(str, row), f"{own / built_in:.2f}")) + " |")


def _strategies(folder: Path, bars_per_year: float) -> Iterator[tuple[str, UserStrategy]]:
    for i, (what, text) in enumerate((("alone", MOMENTUM), ("exit by time", TIMED), ("all", ALL))):
        path = folder / f"mine_{i}.py"
        # The strength is that of the built-in rule at as many bars a year.
        path.write_text(text.replace("252.0", repr(float(bars_per_year))))
        yield what, read_strategy(path, "mine")


if __name__ == "__main__":
    main()
