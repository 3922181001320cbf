"""Memory and disk of whole studies against what was estimated: ``python -m benchmarks.memory``.

Each study runs in a process of its own. Memory is the largest sum, over it and its workers, of the
proportional set size, in which a page that several processes map counts once; disk is the largest sum
of the sizes of the files in its folder.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import psutil

from optimizer.study_file.load import load_study
from optimizer.study_file.study import study_from_dict
from tests.support.studies import mapping, random_bars, write_bars

ROOT = Path(__file__).resolve().parent.parent
MANY_SETS = {
    "threshold": {"sweep": {"low": 0.0, "high": 0.1, "step": 0.001}},
    "lookback": {"low": 5, "high": 100, "step": 5},
}
MOST_BYTES = 2**32
"""No study here may take more memory or disk."""

CASES: dict[str, tuple[int, int, dict[str, Any]]] = {
    # (bars, symbols, tables)
    "one lane a trial": (
        2520, 5,
        {"strategy": {"threshold": 0.01}, "risk": {"kelly_fraction": 0.1},
         "search": {"trials": 2000, "batch": 100}},
    ),
    "tiles of 20,200 sets": (
        2520, 5,
        {"strategy": MANY_SETS, "search": {"trials": 8, "batch": 4},
         "risk": {"kelly_fraction": {"sweep": {"low": 0.001, "high": 0.2, "step": 0.001}}}},
    ),
    "100 symbols, correlation": (
        2520, 100,
        {"risk": {"correlation_penalty": 0.5}, "search": {"trials": 8, "batch": 4}},
    ),
    "500 symbols x 2,520 bars, correlation": (
        2520, 500,
        {"risk": {"correlation_penalty": 0.5}, "search": {"trials": 4, "batch": 4}},
    ),
    "500 symbols x 2,520 bars, a third listed late": (
        2520, 500,
        {"data": {"align": "outer"}, "risk": {"correlation_penalty": 0.5},
         "search": {"trials": 4, "batch": 4}},
    ),
    "4 symbols x 70,000 bars": (
        70_000, 4,
        {"strategy": {"lookback": {"low": 10, "high": 500, "step": 10}},
         "search": {"trials": 8, "batch": 4}},
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Use:
    """What a study was estimated to take, and took, in bytes."""

    estimated_memory: float
    memory: float
    estimated_disk: float
    disk: float
    processes: int = 0


def measure(file: Path, out: Path, workers: int) -> Use:
    """Run a study file in a process of its own and watch it."""
    command = [sys.executable, "-m", "benchmarks.memory", "--run", file, "--out", out]
    process = subprocess.Popen(
        [*map(str, command), "--workers", str(workers)], cwd=ROOT, stdout=subprocess.PIPE
    )
    memory = disk = 0.0
    processes = 0
    while process.poll() is None:
        held = list(_held(process.pid))
        if sum(held) > memory:
            memory, processes = sum(held), len(held)
        disk = max(disk, _size(out))
        time.sleep(0.05)
    assert process.stdout is not None
    estimated = json.loads(process.stdout.read().splitlines()[-1])
    process.stdout.close()
    return Use(estimated[0], memory, estimated[1], max(disk, _size(out)), processes)


def _held(leader: int) -> Iterator[float]:
    with contextlib.suppress(psutil.NoSuchProcess):
        for one in (psutil.Process(leader), *psutil.Process(leader).children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                yield float(one.memory_full_info().pss)


def _size(folder: Path) -> float:
    total = 0.0
    with contextlib.suppress(OSError):
        for path in folder.rglob("*"):
            with contextlib.suppress(OSError):
                total += path.stat().st_size if path.is_file() else 0
    return total


def run(file: Path, out: Path, workers: int) -> None:
    """Run a study; print what it was estimated to take."""
    from optimizer.search.run import run_study

    told: list[list[float]] = []
    run_study(
        load_study(file),
        out=out,
        workers=workers,
        on_start=lambda needs: told.append([needs.memory_bytes, needs.disk_bytes]),
    )
    print(json.dumps(told[0]))


def write_case(home: Path, name: str) -> Path:
    """The study file of a case, and its bars."""
    import tomli_w

    n_bars, n_symbols, tables = CASES[name]
    bars = random_bars(n_bars, [f"S{i:03}" for i in range(n_symbols)])
    # Hours, so that many of them end before the calendar of the bars' reader does.
    hours = np.datetime64("2015-01-05", "ns") + np.arange(n_bars) * np.timedelta64(3600, "s")
    bars = replace(bars, timestamps=hours.astype("datetime64[ns]"))
    data = write_bars(home / f"{n_bars}x{n_symbols}.parquet", bars)
    if tables.get("data", {}).get("align") == "outer":
        _list_late(data, bars.timestamps)
    file = home / f"{list(CASES).index(name)}.toml"
    study = study_from_dict(mapping(data.name, **tables), home)
    file.write_text(tomli_w.dumps(study.to_dict()))
    return file


def _list_late(data: Path, times: npt.NDArray[np.datetime64]) -> None:
    """Drop the first bars of every third symbol: up to three quarters of them."""
    frame = pd.read_parquet(data)
    symbols = sorted(frame["symbol"].unique())
    starts = {
        symbol: times[len(times) * 3 * i // (4 * len(symbols))] if i % 3 == 0 else times[0]
        for i, symbol in enumerate(symbols)
    }
    frame[frame["timestamp"] >= frame["symbol"].map(starts)].to_parquet(data, index=False)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", nargs="+", default=["quickstart, 8 trials", *CASES])
    given = parser.parse_args()
    if given.run is not None:
        run(given.run, given.out, given.workers)
        return
    print("| study | estimated MB | used MB | | estimated disk MB | used MB | |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in given.only:
        with tempfile.TemporaryDirectory(prefix="barsweep-memory-") as folder:
            home = Path(folder)
            if name in CASES:
                file = write_case(home, name)
            else:
                text = (ROOT / "studies" / "quickstart.toml").read_text()
                data = ROOT / "studies" / "data" / "us_daily.parquet"
                text = text.replace("trials = 64", "trials = 8").replace(
                    "data/us_daily.parquet", str(data)
                )
                file = home / "quickstart.toml"
                file.write_text(text)
            use = measure(file, home / "out", given.workers)
        print(
            f"| {name} | {use.estimated_memory / 1e6:,.0f} | {use.memory / 1e6:,.0f}"
            f" | {use.estimated_memory / use.memory:.2f} | {use.estimated_disk / 1e6:,.2f}"
            f" | {use.disk / 1e6:,.2f} | {use.estimated_disk / use.disk:.2f} |",
            flush=True,
        )
        if max(use.memory, use.disk) > MOST_BYTES:
            sys.exit(f"{name}: more than 4 GiB: {use}")


if __name__ == "__main__":
    main()
