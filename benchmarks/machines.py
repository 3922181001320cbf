"""What many machines cost: a task sent by each back end, a trial through a shared database.

Run: ``python -m benchmarks.machines [--tasks N] [--trials N] [--write]``. A task is a tile of 2,048
parameter sets on a few bars, so that sending it is most of what it takes; a trial is one parameter
set. Dask is a scheduler and 2, 4 and 8 workers on loopback, Ray (where it is installed) a local cluster,
PostgreSQL a server on loopback that flushes each commit to the disk.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil

from benchmarks.steering import DATA, study_of
from benchmarks.tables import describe, markdown, publish
from optimizer.bench.machine import this_machine
from optimizer.search.run import run_study
from optimizer.study_file.study import study_from_dict
from tests.support.dask_cluster import running
from tests.support.postgres import PostgresServer, installed_server

PROCESSES = (2, 4, 8)
"""Of a Dask cluster on this machine; beyond the cores they wait for each other."""

TASK_SECONDS = 0.16
"""2,048 sets over 3,201 bars x 12 symbols at 2 ns."""

PAGE = Path(__file__).parent.parent / "docs" / "scaling.md"


def wide(tasks: int, workers: Mapping[str, Any]) -> dict[str, Any]:
    """A study of one task a trial."""
    return {
        "study": {"name": "tasks"},
        "data": {"path": str(DATA), "symbols": ["SPY"], "start": "2016-06-01"},
        "strategy": {
            "name": "momentum",
            "lookback": {"low": 5, "high": 100},
            "threshold": {"sweep": [place / 1000 for place in range(64)]},
        },
        "risk": {"kelly_fraction": {"sweep": [(1 + place) / 100 for place in range(32)]}},
        "search": {"sampler": "random", "trials": tasks, "batch": 64},
        "workers": {"count": 2, **workers},
    }


def seconds_of(tables: dict[str, Any], workers: int | None = None) -> Mapping[str, float]:
    """Seconds of a study by part."""
    with tempfile.TemporaryDirectory() as folder:
        study = study_from_dict(tables)
        return run_study(study, out=Path(folder) / "out", workers=workers).seconds


def model(found: Mapping[str, float]) -> str:
    """How many workers each part feeds with tasks of ``TASK_SECONDS``, one task a tile.

    Args:
        found: seconds by operation.
    """
    most = max(PROCESSES)
    parts = {
        "PostgreSQL, one coordinator or many (they share the lock)": (
            "trials",
            sum(found[f"random, PostgreSQL: {one}, a trial"] for one in ("ask", "tell")),
        ),
        "TPE after 256 trials, one coordinator": (
            "trials",
            found["tpe, one coordinator without a database: ask"],
        ),
        f"the Dask scheduler, {most} processes": (
            "tasks",
            found[f"the Dask scheduler, {most} processes, processor, a task"],
        ),
        f"one coordinator's dispatch to Dask, {most} processes": (
            "tasks",
            found[f"dispatch by Dask, {most} processes, a task"],
        ),
    }
    return markdown(
        ("part", "per second", f"workers it feeds at {TASK_SECONDS} s per task"),
        (
            (
                name,
                f"{1.0 / seconds:,.0f} {unit}",
                f"{TASK_SECONDS / seconds:,.0f}" + (" T" if unit == "trials" else ""),
            )
            for name, (unit, seconds) in parts.items()
        ),
    )


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=2048)
    parser.add_argument("--trials", type=int, default=256)
    parser.add_argument("--write", action="store_true", help="publish the table")
    arguments = parser.parse_args()
    tasks, trials = arguments.tasks, arguments.trials
    found: dict[str, float] = {}

    def sent(name: str, workers: Mapping[str, Any]) -> None:
        seconds_of(wide(8, workers))  # compiles, fills caches
        seconds = seconds_of(wide(tasks, workers))
        found[f"dispatch by {name}, a task"] = seconds["dispatch"] / tasks

    sent("loky", {})
    for n in PROCESSES:
        with tempfile.TemporaryDirectory() as folder, running(Path(folder) / "dask", n) as cluster:
            address = {"backend": "dask", "address": cluster.address}
            scheduler = psutil.Process(cluster.scheduler.pid)
            before = sum(scheduler.cpu_times()[:2])
            sent(f"Dask, {n} processes", address)
            used = sum(scheduler.cpu_times()[:2]) - before
            found[f"the Dask scheduler, {n} processes, processor, a task"] = used / (tasks + 8)

    if find_spec("ray") is not None:
        sent("Ray", {"backend": "ray", "address": "local"})

    for sampler in ("random", "tpe"):
        seconds = seconds_of(study_of(sampler, trials), workers=1)
        found[f"{sampler}, one coordinator without a database: ask"] = seconds["sampler"] / trials
    programs = installed_server()
    assert programs is not None, "no PostgreSQL server is installed"
    server = PostgresServer(programs, flush=True)
    try:
        server.start()
        for sampler in ("random", "tpe"):
            tables = study_of(sampler, trials)
            tables["search"]["storage"] = server.url(server.new_database())
            seconds = seconds_of(tables, workers=1)
            found[f"{sampler}, PostgreSQL: ask, a trial"] = seconds["sampler"] / trials
            found[f"{sampler}, PostgreSQL: tell, a trial"] = seconds["storage"] / trials
    finally:
        server.remove()
    text = markdown(("operation", "ms"), ((k, f"{1e3 * v:.2f}") for k, v in found.items()))
    print(f"{text}\n\n{model(found)}")
    if arguments.write:
        publish("machines", f"{describe(this_machine())}\n\n{text}", found, page=PAGE)
        publish("thousand", model(found), {"task_seconds": TASK_SECONDS}, page=PAGE)


if __name__ == "__main__":
    main()
