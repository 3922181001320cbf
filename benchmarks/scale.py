"""How far a study goes: bars to 5 million, symbols to 2,000 with members, sets to 10 million.

Run: ``python -m benchmarks.scale [--only bars sets ...] [--most N] [--write]``. Each study runs in a
process of its own with two workers, and then `barsweep show` and `barsweep report` do; memory, what no
other process shares, is watched from outside. The exponent of a series is the slope of the logarithms of
time and size over its last step, where the start weighs least; the memory that one more bar, symbol or
set takes is that of the same step.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil

from benchmarks.growth import exponent
from benchmarks.million import watch
from benchmarks.tables import describe, markdown, publish
from optimizer.bench.machine import this_machine

BYTES = 1e6
WORKERS = 2
COMMANDS = ("show", "report")

BARS = (50_000, 500_000, 5_000_000)
"""Of one minute. Ten years of a market that never closes have 5.3 million, of the sessions of a stock
exchange of the United States 1 million."""

SYMBOLS = (20, 200, 2_000)
DAYS = 2_520
TILE = 10_000
SETS = (10_000, 100_000, 1_000_000, 10_000_000)

_RUN = """
import json, sys
import optimizer
result = optimizer.run_study(optimizer.load_study(sys.argv[1]), out=sys.argv[2], workers=int(sys.argv[3]))
print(json.dumps(dict(result.seconds)))
"""


@dataclass(frozen=True)
class Use:
    """What a process took.

    Attributes:
        seconds: wall time, start of Python included.
        split: wall time by part of a study.
        parent_mb: most memory of the process that is not shared with others.
        workers_mb: the same of all its children together.
        disk_mb: files in the study's folder at the end.
    """

    seconds: float
    split: Mapping[str, float]
    parent_mb: float
    workers_mb: float
    disk_mb: float


def measure(command: list[str], out: Path) -> Use:
    """Run a Python program to its end and watch it."""
    start = time.perf_counter()
    with subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True) as child:
        parent, workers = watch(psutil.Process(child.pid))
        printed = child.stdout.read() if child.stdout else ""
    seconds = time.perf_counter() - start
    if child.returncode:
        raise SystemExit(child.returncode)
    last = printed.splitlines()[-1] if printed else ""
    split = json.loads(last) if last.startswith("{") else {}
    disk = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    return Use(seconds, split, parent / BYTES, workers / BYTES, disk / BYTES)


def walk(n_bars: int, seed: int, deviation: float = 0.0004) -> dict[str, Any]:
    """Bars of a random walk of one symbol, whose volatility is that of a bar of n a year."""
    random = np.random.default_rng(seed)
    steps = random.normal(0.0, deviation, n_bars)
    close = np.round(100.0 * np.exp(np.cumsum(steps)), 4)
    opening = np.concatenate([[100.0], close[:-1]])
    return {
        "open": opening,
        "high": np.maximum(opening, close) * 1.0001,
        "low": np.minimum(opening, close) * 0.9999,
        "close": close,
        "volume": random.integers(1_000, 100_000, n_bars).astype(np.float64),
    }


def write_minutes(path: Path, n_bars: int) -> None:
    """One-minute bars of a market that never closes."""
    first = np.datetime64("2014-01-01", "ns")
    times = first + np.arange(n_bars) * np.timedelta64(60_000_000_000, "ns")
    pd.DataFrame({"symbol": "COIN", "timestamp": times, **walk(n_bars, 1)}).to_parquet(path)


def write_index(path: Path, n_symbols: int) -> None:
    """Daily bars of symbols of which each is a member of an index for a part of the time.

    At any time about a quarter of them are members, and every tenth symbol is listed late.
    """
    times = pd.bdate_range("2014-01-01", periods=DAYS).to_numpy()
    frames, members = [], ["symbol,from,to"]
    for place in range(n_symbols):
        name = f"S{place:04}"
        late = DAYS * place // (2 * n_symbols) if place % 10 == 0 else 0
        frame = pd.DataFrame({"symbol": name, "timestamp": times, **walk(DAYS, place + 2, 0.01)})
        frames.append(frame.iloc[late:])
        start = max(late, DAYS * 3 * (place * 7919 % n_symbols) // (4 * n_symbols))
        stop = min(start + DAYS // 4, DAYS - 1)
        members.append(f"{name},{times[start]!s:.10},{times[stop]!s:.10}")
    pd.concat(frames).to_parquet(path)
    path.with_suffix(".csv").write_text("\n".join(members) + "\n", encoding="utf-8")


def bars_study(home: Path, n_bars: int) -> str:
    """64 sets over one-minute bars."""
    write_minutes(home / "bars.parquet", n_bars)
    return """
[study]
name = "bars"
[data]
path = "bars.parquet"
timezone = "UTC"
[strategy]
name = "momentum"
lookback = {choices = [60, 240]}
threshold = {sweep = {low = 0.0, high = 0.007, step = 0.001}}
[risk]
kelly_fraction = {sweep = [0.1, 0.2, 0.3, 0.4]}
[search]
sampler = "grid"
"""


def symbols_study(home: Path, n_symbols: int) -> str:
    """64 sets over an index whose members change."""
    write_index(home / "bars.parquet", n_symbols)
    return """
[study]
name = "symbols"
[data]
path = "bars.parquet"
members = "bars.csv"
align = "outer"
timezone = "UTC"
[strategy]
name = "momentum"
lookback = {choices = [60, 240]}
threshold = {sweep = {low = 0.0, high = 0.007, step = 0.001}}
[risk]
kelly_fraction = {sweep = [0.1, 0.2, 0.3, 0.4]}
correlation_penalty = 0.0
[search]
sampler = "grid"
"""


def top_study(home: Path, n_sets: int) -> str:
    """The same, of which the best sets are kept whole."""
    return sets_study(home, n_sets) + 'store = "top"\n'


def sets_study(home: Path, n_sets: int) -> str:
    """Tiles of 10,000 sets over 250 bars of one symbol."""
    data = {"symbol": "DAY", "timestamp": pd.bdate_range("2020-01-01", periods=250)}
    pd.DataFrame({**data, **walk(250, 1, 0.01)}).to_parquet(home / "bars.parquet")
    n_tiles = n_sets // TILE
    lookbacks = list(range(2, 2 + min(n_tiles, 40)))
    volatilities = list(range(10, 10 + n_tiles // len(lookbacks)))
    return f"""
[study]
name = "sets"
[data]
path = "bars.parquet"
[strategy]
name = "momentum"
lookback = {{choices = {lookbacks}}}
threshold = {{sweep = {{low = 0.0, high = 0.0495, step = 0.0005}}}}
[risk]
volatility_lookback = {{choices = {volatilities}}}
kelly_fraction = {{sweep = {{low = 0.01, high = 1.0, step = 0.01}}}}
[search]
sampler = "grid"
"""


STUDIES: dict[str, tuple[Callable[[Path, int], str], tuple[int, ...]]] = {
    "bars": (bars_study, BARS),
    "symbols with members": (symbols_study, SYMBOLS),
    "sets": (sets_study, SETS[:-1]),
    'sets, store = "top"': (top_study, SETS),
}


@dataclass(frozen=True)
class Size:
    """One study of a series.

    Attributes:
        what: grows.
        size: of it.
        run, show, report: what the study took, and what shows it.
    """

    what: str
    size: int
    run: Use
    show: Use
    report: Use


def measure_study(what: str, size: int) -> Size:
    """Run one study, then show it, then write its report."""
    with tempfile.TemporaryDirectory(prefix="barsweep-scale-") as folder:
        home, out = Path(folder), Path(folder) / "out"
        file = home / "study.toml"
        file.write_text(STUDIES[what][0](home, size), encoding="utf-8")
        run = measure(["-c", _RUN, str(file), str(out), str(WORKERS)], home)
        show, report = (measure(["-m", "optimizer", one, str(out)], home) for one in COMMANDS)
    return Size(what, size, run, show, report)


def series_table(sizes: Sequence[Size]) -> str:
    """The sizes of all series."""
    rows = []
    for one in sizes:
        uses = (one.run, one.show, one.report)
        rows.append(
            (
                one.what,
                f"{one.size:,}",
                ", ".join(f"{use.seconds:.0f}" for use in uses),
                ", ".join(f"{use.parent_mb:,.0f}" for use in uses),
                f"{one.run.workers_mb:,.0f}",
                f"{one.run.disk_mb:,.1f}",
                f"{1e6 * one.run.disk_mb / one.size:,.0f}",
            )
        )
    return markdown(
        (
            *("what grows", "to", "seconds: run, show, report"),
            *("MB of the process: run, show, report", "MB of the workers", "MB on disk"),
            "bytes on disk of one",
        ),
        rows,
    )


def growth_table(sizes: Sequence[Size]) -> str:
    """What the last step of each series adds."""
    rows = []
    for what in dict.fromkeys(one.what for one in sizes):
        steps = [one for one in sizes if one.what == what]
        for before, last in pairwise(steps[-2:]):
            rows.append(
                (
                    what,
                    f"{before.size:,} to {last.size:,}",
                    *(
                        f"{exponent((before.size, last.size), (a.seconds, b.seconds)):.2f}"
                        for a, b in ((before.run, last.run), (before.report, last.report))
                    ),
                    *(
                        f"{BYTES * (b - a) / (last.size - before.size):,.0f}"
                        for a, b in (
                            (before.run.parent_mb, last.run.parent_mb),
                            (before.run.workers_mb, last.run.workers_mb),
                            (before.report.parent_mb, last.report.parent_mb),
                        )
                    ),
                )
            )
    return markdown(
        (
            *("what grows", "step", "exponent of the run", "exponent of the report"),
            *("bytes more of the process, each", "of the workers", "of the report"),
        ),
        rows,
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=STUDIES, default=list(STUDIES))
    parser.add_argument("--most", type=int, default=10**9, help="no larger size")
    parser.add_argument("--write", action="store_true", help="publish the tables")
    arguments = parser.parse_args()
    # What is tried here is no look at anybody's bars.
    with tempfile.TemporaryDirectory(prefix="barsweep-ledger-") as ledger:
        os.environ["BARSWEEP_LEDGER"] = str(Path(ledger) / "ledger")
        measure_study("sets", SETS[0])  # compiles
        sizes = []
        for what in arguments.only:
            for size in STUDIES[what][1]:
                if size <= arguments.most:
                    sizes.append(measure_study(what, size))
                    print(
                        series_table(sizes[-1:]).splitlines()[-1], sizes[-1].run.split, flush=True
                    )
    text = "\n\n".join((describe(this_machine()), series_table(sizes), growth_table(sizes)))
    print(text)
    if arguments.write:
        publish("scale", text, [asdict(one) for one in sizes])


if __name__ == "__main__":
    main()
