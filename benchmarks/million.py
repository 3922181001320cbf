"""A million parameter sets: wall time and its split, memory, result size.

Run: ``python -m benchmarks.million [--trials N] [--workers N] [--write]``. Runs
``benchmarks/million.toml`` in a process of its own, watches the memory of that process and of its
workers, and compares the wall time with the kernels' own. ``--trials`` takes fewer of its 256 tiles,
to see what grows.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.tables import describe, markdown, publish
from optimizer.bench.machine import this_machine

STUDY = Path(__file__).with_name("million.toml")
BYTES = 1e6

_CHILD = """
import json, sys
from optimizer import load_study, run_study
from optimizer.study_file.study import study_from_dict
source, out, trials, workers = sys.argv[1:]
study = load_study(source)
if int(trials):
    content = study.to_dict()
    content["data"]["path"] = str(study.data_path)
    content["search"] |= {"sampler": "qmc", "trials": int(trials)}
    study = study_from_dict(content)
result = run_study(study, out=out, workers=int(workers))
print(json.dumps(dict(result.seconds)))
"""


def main() -> None:
    """Run it and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=0, help="tiles; 0 is the whole grid")
    parser.add_argument("--workers", type=int, default=0, help="processes; 0 is one per core")
    parser.add_argument("--write", action="store_true", help="publish the table")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder) / "out", arguments.trials, arguments.workers)
    print(table(figures))
    if arguments.write:
        publish("million", f"{describe(this_machine())}\n\n{table(figures)}", figures)


def measure(out: Path, trials: int, workers: int) -> dict[str, Any]:
    """Run the study in a process of its own."""
    command = [sys.executable, "-c", _CHILD, str(STUDY), str(out), str(trials), str(workers)]
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        peaks = watch(psutil.Process(child.pid))
        printed = child.stdout.read() if child.stdout else ""
    seconds = time.perf_counter() - start
    if child.returncode:
        raise SystemExit(child.returncode)
    split = json.loads(printed)
    files = [path for path in out.rglob("*") if path.is_file()]
    n_sets = count_sets(out)
    return {
        "n_sets": n_sets,
        "seconds": seconds,
        "sets_per_second": n_sets / seconds,
        "split": split,
        "wall_over_kernels": sum(split.values()) / split["kernels"],
        "peak_parent_mb": peaks[0] / BYTES,
        "peak_workers_mb": peaks[1] / BYTES,
        "disk_mb": sum(path.stat().st_size for path in files) / BYTES,
    }


def count_sets(out: Path) -> int:
    """Parameter sets in the result files."""
    from optimizer.store.folder import StudyFolder

    return len(StudyFolder.open(out).results(["set"]))


def watch(process: psutil.Process) -> tuple[float, float]:
    """Peak memory, in bytes not shared with others, of a process and of all its children together."""
    parent = workers = 0.0
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        try:
            parent = max(parent, process.memory_full_info().uss)
            children = 0.0
            for child in process.children(recursive=True):
                try:
                    children += child.memory_full_info().uss
                except psutil.Error:
                    continue
            workers = max(workers, children)
        except psutil.Error:
            break
        time.sleep(0.1)
    return parent, workers


def table(figures: dict[str, Any]) -> str:
    """The figures as Markdown."""
    split = ", ".join(f"{name} {seconds:.1f}" for name, seconds in figures["split"].items())
    rows = {
        "parameter sets": f"{figures['n_sets']:,}",
        "wall time, start of Python included": f"{figures['seconds']:.1f} s",
        "parameter sets a second": f"{figures['sets_per_second']:,.0f}",
        "split": f"{split} s",
        "wall over kernels": f"{figures['wall_over_kernels']:.2f}",
        "peak memory of the parent": f"{figures['peak_parent_mb']:,.0f} MB",
        "peak memory of the workers": f"{figures['peak_workers_mb']:,.0f} MB",
        "results on disk": f"{figures['disk_mb']:,.0f} MB",
    }
    return markdown(("what", "figure"), rows.items())


if __name__ == "__main__":
    main()
