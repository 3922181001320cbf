"""Every kernel and the whole simulation against the machine's limits and a scalar loop.

Run: ``python -m benchmarks.simulation [--turns N] [--write]``. One core. The variants take turns, and
each figure is the least time over them, so that a ratio holds on a noisy machine. ``--write`` puts the
tables into README.md and the figures into results/.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.scalar import scalar_momentum
from benchmarks.tables import describe, markdown, publish
from optimizer.bars.load import load_bars
from optimizer.bench.case import CELL, Case
from optimizer.bench.inputs import momentum_sets
from optimizer.bench.lane_cases import simulation_cases
from optimizer.bench.record import Bench, Measurement
from optimizer.bench.suite import measure, run_bench

DATA = Path(__file__).parent.parent / "studies" / "data" / "us_daily.parquet"
SYMBOLS = ("SPY", "QQQ", "IWM", "EEM", "GLD", "TLT", "AAPL", "MSFT", "JPM", "GE")


def measure_real_bars(bench: Bench, turns: int) -> list[dict[str, Any]]:
    """The configurations over the bars of ``us_daily``, and the scalar loop."""
    rows = []
    for symbols in (SYMBOLS[:1], SYMBOLS):
        bars = load_bars(DATA, symbols=symbols)
        inputs, _, own = momentum_sets(bars)
        few = own.slice(0, 64)
        cells = (bars.n_bars - inputs.first) * bars.n_symbols
        scalar = Case(
            "scalar loop", CELL, cells * few.n_lanes, partial(scalar_momentum, inputs, few)
        )
        cases = [scalar, *simulation_cases(bars, bench.mixes)]
        times = measure(cases, turns)
        for case, (least, median) in zip(cases, times, strict=True):
            bound = bench.limits.bound_ns(case.mix()) / 8 if case.mix is not None else None
            rows.append(
                {
                    "symbols": len(symbols),
                    "variant": case.kernel.split("symbols, ")[-1].split("symbol, ")[-1],
                    "min_ns": least,
                    "median_ns": median,
                    "faster_than_scalar": times[0][0] / least,
                    "bound_ns": bound,
                    "share": None if bound is None else bound / least,
                }
            )
    return rows


def _number(value: float | None, digits: int = 3) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def kernel_table(rows: tuple[Measurement, ...]) -> str:
    """One row a kernel."""
    return markdown(
        ("kernel", "element", "ns", "GB/s", "bound ns", "of the bound", "lanes", "registers"),
        (
            (
                r.kernel,
                r.element,
                _number(r.ns),
                _number(r.gb_s, 1),
                _number(r.limit_ns),
                _share(r.share),
                r.lanes,
                r.instruction_set,
            )
            for r in rows
        ),
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=30)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    bench = run_bench(arguments.turns)
    # What is reported of the simulation is measured on real bars.
    kernels = replace(
        bench, rows=tuple(r for r in bench.rows if not r.kernel.startswith("simulation"))
    )
    rows = measure_real_bars(bench, max(3, arguments.turns // 2))
    limits = bench.limits
    peaks = markdown(
        ("divide", "arithmetic", "load", "store", "memory read"),
        [
            (
                *(
                    f"{ns:.3f} ns"
                    for ns in (
                        limits.divide_ns,
                        limits.arithmetic_ns,
                        limits.load_ns,
                        limits.store_ns,
                    )
                ),
                f"{limits.read_gb_s:.1f} GB/s",
            )
        ],
    )
    mixes = markdown(
        ("phase", "divisions", "other arithmetic", "loads", "stores"),
        ((name, *(f"{part:.1f}" for part in mix.parts())) for name, mix in bench.mixes.items()),
    )
    configurations = markdown(
        ("symbols", "variant", "min ns", "median ns", "faster than scalar", "bound ns", "reached"),
        (
            (
                r["symbols"],
                r["variant"],
                _number(r["min_ns"]),
                _number(r["median_ns"]),
                _number(r["faster_than_scalar"], 1),
                _number(r["bound_ns"]),
                _share(r["share"]),
            )
            for r in rows
        ),
    )
    text = "\n\n".join(
        (
            describe(bench.machine),
            configurations,
            "Peaks, of one instruction on 8 doubles:",
            peaks,
            "Vector instructions for 8 lanes:",
            mixes,
            "Each kernel alone:",
            kernel_table(kernels.rows),
        )
    )
    print(text)
    if arguments.write:
        content = {**kernels.to_dict(), "simulation": rows, "limits": asdict(limits)}
        publish("bench", text, content)


if __name__ == "__main__":
    main()
