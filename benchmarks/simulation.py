"""Time of the simulation per bar x symbol x parameter set, beside a scalar loop of the same rules.

Run: ``python -m benchmarks.simulation [--repeats N] [--json FILE]``. One core. The variants take
turns, and each figure is the minimum and the median over the turns of one run, so that a ratio holds
on a noisy machine.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.scalar import scalar_momentum
from optimizer.backtest import (
    NO_REGIME,
    Inputs,
    Tile,
    evaluate,
    prepare,
    study_rules,
)
from optimizer.bars import load_bars
from optimizer.config import study_from_dict
from optimizer.space import build_space
from optimizer.types import Bars

DATA = Path(__file__).parent.parent / "studies" / "data" / "us_daily.parquet"
N_SETS = 512
SYMBOLS = ("SPY", "QQQ", "IWM", "EEM", "GLD", "TLT", "AAPL", "MSFT", "JPM", "GE")


def make_case(bars: Bars, n_sets: int = N_SETS, **risk: Any) -> tuple[Inputs, Tile, Tile]:
    """Inputs, and momentum parameter sets that share their features or have their own."""
    content = {
        "study": {"name": "bench"},
        "data": {"path": "."},
        "strategy": {"name": "momentum", "lookback": {"low": 5, "high": 250}},
        "risk": {"correlation_penalty": 0.0, **risk},
    }
    study = study_from_dict(content)
    space = build_space(study)
    inputs = prepare(bars, space, study_rules(study, space, bars.n_symbols), 0.0)
    rng = np.random.default_rng(1)
    branch = space.branches[0]
    one = branch.lanes({"momentum_lookback": 60})
    columns = {name: np.repeat(array, n_sets) for name, array in one.items()}
    columns["momentum_threshold"] = rng.uniform(0.0, 0.1, n_sets)
    columns["kelly_fraction"] = rng.uniform(0.1, 0.5, n_sets)
    columns["rebalance_band"] = rng.uniform(0.05, 0.3, n_sets)
    own = {**columns, "momentum_lookback": rng.integers(5, 251, n_sets).astype(np.float64)}
    return inputs, Tile("momentum", "none", None, columns), Tile("momentum", "none", None, own)


def nanoseconds(work: Callable[[], object], steps: int) -> float:
    """Time of one step of ``work``."""
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) / steps * 1e9


def measure(repeats: int) -> list[dict[str, Any]]:
    """Rows of the table: symbols, variant, min and median ns, ratio to the scalar loop."""
    rows = []
    for symbols in (SYMBOLS[:1], SYMBOLS):
        bars = load_bars(DATA, symbols=symbols)
        flat = {NO_REGIME: np.zeros(bars.n_bars, dtype=np.int8)}
        inputs, shared, own = make_case(bars)
        variants: dict[str, tuple[Callable[[], object], int]] = {
            "scalar loop": (partial(scalar_momentum, inputs, own.slice(0, 64)), 64),
            "lanes, shared features": (partial(evaluate, inputs, [shared], flat), N_SETS),
            "lanes, own features": (partial(evaluate, inputs, [own], flat), N_SETS),
        }
        for name, risk in (
            ("shared, correlation", {"correlation_penalty": 0.5}),
            ("shared, stops", {"stop_loss": 0.1}),
            ("shared, long/short", {"allow_short": True}),
        ):
            if name != "shared, correlation" or len(symbols) > 1:
                case, tile, _ = make_case(bars, **risk)
                variants[name] = (partial(evaluate, case, [tile], flat), N_SETS)
        for work, _ in variants.values():
            work()
        cells = (bars.n_bars - inputs.first) * bars.n_symbols
        times: dict[str, list[float]] = {name: [] for name in variants}
        for _ in range(repeats):
            for name, (work, sets) in variants.items():
                times[name].append(nanoseconds(work, cells * sets))
        base = statistics.median(times["scalar loop"])
        for name, taken in times.items():
            median = statistics.median(taken)
            rows.append(
                {
                    "symbols": len(symbols),
                    "variant": name,
                    "min_ns": round(min(taken), 3),
                    "median_ns": round(median, 3),
                    "faster_than_scalar": round(base / median, 2),
                }
            )
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = measure(arguments.repeats)
    print(f"{platform.machine()}, {platform.python_version()}, {N_SETS} parameter sets, one core")
    print("| symbols | variant | min ns | median ns | faster than scalar |")
    print("| --- | --- | --- | --- | --- |")
    for row in rows:
        print("| " + " | ".join(str(value) for value in row.values()) + " |")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
