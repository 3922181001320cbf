"""How far a study goes: bars to 5 million, symbols to 2,000 with members, sets to 10 million.

Run: ``python -m benchmarks.scale [--only bars symbols sets] [--write]``. Each study runs in a process
of its own with two workers, and so do ``show`` and the report of the largest; their memory is watched
from outside. A series is fitted with power laws: the slopes of the logarithms of the time, and of the
memory that the smallest study does not take, against the size.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
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
    "symbols": (symbols_study, SYMBOLS),
    "sets": (sets_study, SETS),
}


def measure_study(what: str, size: int, home: Path) -> dict[str, Use]:
    """Run one study, then show it, then write its report."""
    home.mkdir()
    file, out = home / "study.toml", home / "out"
    file.write_text(STUDIES[what][0](home, size), encoding="utf-8")
    found = {"run": measure(["-c", _RUN, str(file), str(out), str(WORKERS)], out)}
    for command in ("show", "report"):
        found[command] = measure(["-m", "optimizer", command, str(out)], out)
    return found


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=STUDIES, default=list(STUDIES))
    parser.add_argument("--most", type=int, default=10**9, help="no larger size")
    parser.add_argument("--write", action="store_true", help="publish the tables")
    arguments = parser.parse_args()
    for what in arguments.only:
        for size in STUDIES[what][1]:
            if size > arguments.most:
                continue
            with tempfile.TemporaryDirectory(prefix="barsweep-scale-") as folder:
                found = measure_study(what, size, Path(folder) / "home")
            for command, use in found.items():
                split = ", ".join(f"{k} {v:.1f}" for k, v in use.split.items() if v >= 0.05)
                print(
                    f"{what} {size:,} {command}: {use.seconds:.1f} s, parent {use.parent_mb:,.0f} MB, workers {use.workers_mb:,.0f} MB, disk {use.disk_mb:,.1f} MB; {split}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
