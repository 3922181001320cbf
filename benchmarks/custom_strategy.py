"""A user's own strategy against the built-in one with the same rule: momentum.

Run: ``python -m benchmarks.custom_strategy [--repeats N]``. One core; the two take turns.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.simulation import DATA, SYMBOLS
from optimizer.bars.load import load_bars
from optimizer.bench.case import Case
from optimizer.bench.inputs import momentum_sets
from optimizer.bench.suite import measure
from optimizer.strategies.user import read_strategy
from optimizer.sweep.evaluate import evaluate
from optimizer.sweep.inputs import NO_REGIME
from optimizer.sweep.tiles import Tile
from tests.support.strategies import MOMENTUM


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    print("| symbols | lanes | built-in, ns | custom, ns | custom / built-in |")
    print("| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mine.py"
        for symbols in (SYMBOLS[:1], SYMBOLS):
            bars = load_bars(DATA, symbols=symbols)
            flat = {NO_REGIME: np.zeros(bars.n_bars, dtype=np.int8)}
            # The strength is that of the built-in rule at as many bars a year.
            path.write_text(MOMENTUM.replace("252.0", repr(float(bars.bars_per_year))))
            strategy = read_strategy(path, "mine")
            inputs, *tiles = momentum_sets(bars)
            for name, tile in zip(("shared features", "own features"), tiles, strict=True):
                columns = {k.replace("momentum_", "mine_"): v for k, v in tile.columns.items()}
                mine: Tile = replace(tile, strategy=strategy, columns=columns)
                work = [partial(evaluate, inputs, [one], flat) for one in (tile, mine)]
                first, second = (one()[0] for one in work)
                assert (first.in_sample == second.in_sample)[~np.isnan(first.in_sample)].all()
                steps = (bars.n_bars - inputs.first) * bars.n_symbols * tile.n_lanes
                cases = [Case(name, "", steps, one) for one in work]
                (_, built_in), (_, own) = measure(cases, repeats)
                ratio = own / built_in
                row = (len(symbols), name, f"{built_in:.2f}", f"{own:.2f}", f"{ratio:.2f}")
                print("| " + " | ".join(map(str, row)) + " |")


if __name__ == "__main__":
    main()
