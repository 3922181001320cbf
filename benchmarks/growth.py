"""How time grows with bars, symbols, parameter sets and workers; how long a start takes.

Run: ``python -m benchmarks.growth [--turns N] [--write]``. Each series is fitted with a power law; the
exponent is the slope of the logarithms, 1 for linear growth. ``--write`` also draws ``growth.svg``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import matplotlib.pyplot as pyplot
import numpy as np

from benchmarks import million
from benchmarks.tables import FOLDER, describe, markdown, publish
from optimizer.bench.case import Case
from optimizer.bench.inputs import momentum_sets, simulated_bars
from optimizer.bench.machine import this_machine
from optimizer.bench.suite import measure
from optimizer.sweep.evaluate import evaluate
from optimizer.sweep.inputs import NO_REGIME, MarketRegime

N_BARS, N_SYMBOLS = 2_520, 10
LONG = 1e9
"""Elements from which on two turns are enough."""

TILES = 16
"""Of the study that is run with one worker and with two."""

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Series:
    """Least times of growing work.

    Attributes:
        what: grows.
        sizes: of it.
        seconds: least time of each.
        cell_ns: time of a bar x symbol x set.
    """

    what: str
    sizes: tuple[int, ...]
    seconds: tuple[float, ...]
    cell_ns: tuple[float, ...]

    @property
    def exponent(self) -> float:
        """Slope of log time over log size."""
        return exponent(self.sizes, self.seconds)


def exponent(sizes: tuple[int, ...], seconds: tuple[float, ...]) -> float:
    """Least-squares slope of the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def _case(n_bars: int, n_symbols: int, n_sets: int, penalty: float) -> Case:
    # The warm-up is not walked. Few lookbacks: their columns are what fills the memory.
    bars = simulated_bars(n_bars + 250, n_symbols)
    inputs, shared, _ = momentum_sets(bars, n_sets, 249, correlation_penalty=penalty)
    flat = {NO_REGIME: MarketRegime.neutral(bars.n_bars)}
    cells = (bars.n_bars - inputs.first) * n_symbols * n_sets
    return Case("growth", "", cells, partial(evaluate, inputs, [shared], flat))


def measure_growth(turns: int) -> list[Series]:
    """The series; their memory stays below 2 GB."""
    plans = {
        "bars": (0, [(n, 4, 64, 0.0) for n in (1_000, 10_000, 100_000, 1_000_000)]),
        "symbols": (1, [(500, n, 64, 0.0) for n in (1, 3, 10, 30, 100, 500)]),
        "symbols, correlation": (1, [(500, n, 64, 0.5) for n in (2, 8, 32)]),
        "symbols, correlation each 20 bars": (1, [(500, n, 64, 0.5) for n in (33, 100, 500)]),
        "parameter sets": (2, [(N_BARS, N_SYMBOLS, n, 0.0) for n in (64, 512, 4_096, 65_536)]),
    }
    series = []
    for what, (grows, plan) in plans.items():
        sizes, seconds, cell_ns = [], [], []
        for size in plan:
            case = _case(*size)
            long = case.elements > LONG
            least, _ = measure([case], min(turns, 2) if long else turns)[0]
            sizes.append(int(size[grows]))
            seconds.append(least * case.elements / 1e9)
            cell_ns.append(least)
        series.append(Series(what, tuple(sizes), tuple(seconds), tuple(cell_ns)))
    return series


def measure_workers() -> dict[int, float]:
    """Seconds in which each number of workers evaluates the same tiles."""
    found = {}
    for workers in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            split = million.measure(Path(folder) / "out", TILES, workers)["split"]
        found[workers] = split["kernels"] + split["dispatch"]
    return found


def draw(series: list[Series], path: Path) -> None:
    """Time against size, both logarithmic, with a line of linear growth."""
    figure, axes = pyplot.subplots(1, len(series), figsize=(3.2 * len(series), 3.0))
    for one, axis in zip(series, axes, strict=True):
        first = one.seconds[0] / one.sizes[0]
        axis.loglog(one.sizes, one.seconds, marker="o", color="#0072b2")
        axis.loglog(one.sizes, [first * size for size in one.sizes], ls=":", color="#666666")
        axis.set_title(f"exponent {one.exponent:.2f}", fontsize=9)
        axis.set_xlabel(one.what, fontsize=9)
        axis.set_ylabel("seconds", fontsize=9)
        axis.tick_params(labelsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


FIRST_CALL = (
    "import optimizer; import numpy as np;"
    "from optimizer.bench.inputs import momentum_sets, simulated_bars;"
    "from optimizer.sweep.evaluate import evaluate;"
    "from optimizer.sweep.inputs import NO_REGIME, MarketRegime;"
    "bars = simulated_bars(300, 2); inputs, shared, _ = momentum_sets(bars, 64);"
    "evaluate(inputs, [shared], {NO_REGIME: MarketRegime.neutral(300)})"
)
STARTS = {
    "barsweep --help": ["-m", "optimizer", "--help"],
    "import optimizer": ["-c", "import optimizer"],
    "first kernel call, warm cache": ["-c", FIRST_CALL],
}


def start_seconds(
    arguments: list[str], rounds: int, cache: str | None = None
) -> tuple[float, float]:
    """Least wall time and least processor time of a new process."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if cache is not None:
        environment["NUMBA_CACHE_DIR"] = cache
    wall, processor = [], []
    for _ in range(rounds):
        start, before = time.perf_counter(), os.times()
        subprocess.run(
            [sys.executable, *arguments], check=True, capture_output=True, env=environment
        )
        after = os.times()
        wall.append(time.perf_counter() - start)
        processor.append(
            after.children_user
            + after.children_system
            - before.children_user
            - before.children_system
        )
    return min(wall), min(processor)


def measure_starts(rounds: int) -> dict[str, tuple[float, float]]:
    """Seconds from nothing to the end of each start, by the wall and of the processor."""
    start_seconds(["-c", FIRST_CALL], 1)
    found = {name: start_seconds(arguments, rounds) for name, arguments in STARTS.items()}
    with tempfile.TemporaryDirectory() as cache:
        found["first kernel call, empty cache"] = start_seconds(["-c", FIRST_CALL], 1, cache)
    return found


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    series = measure_growth(arguments.turns)
    workers = measure_workers()
    starts = measure_starts(arguments.turns)
    growth = markdown(
        ("what grows", "from", "to", "exponent", "ns of bar x symbol x set, from small to large"),
        (
            (
                s.what,
                f"{s.sizes[0]:,}",
                f"{s.sizes[-1]:,}",
                f"{s.exponent:.2f}",
                ", ".join(f"{ns:.2f}" for ns in s.cell_ns),
            )
            for s in series
        ),
    )
    begins = markdown(
        ("start", "wall s", "processor s"),
        ((name, f"{wall:.2f}", f"{own:.2f}") for name, (wall, own) in starts.items()),
    )
    shared = (
        f"{TILES} tiles of `million.toml`: {workers[1]:.1f} s with 1 worker, {workers[2]:.1f} s with 2,"
        f" {workers[1] / workers[2]:.2f} times as fast."
    )
    picture = "![Time against size](growth.svg)"
    text = "\n\n".join((describe(this_machine()), growth, picture, shared, begins))
    print(text)
    if arguments.write:
        content = {
            "growth": [
                {
                    "what": s.what,
                    "sizes": s.sizes,
                    "seconds": s.seconds,
                    "exponent": s.exponent,
                }
                for s in series
            ],
            "workers_s": workers,
            "starts_s": starts,
        }
        draw(series, FOLDER / "growth.svg")
        publish("growth", text, content)


if __name__ == "__main__":
    main()
