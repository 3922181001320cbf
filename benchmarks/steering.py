"""What steering costs a trial: asking, scoring and making it durable, next to the sampler's own cost.

Run: ``python -m benchmarks.steering [--trials N] [--write]``. One parameter set a trial and short bars,
so that almost nothing but steering is left. The sampler's own cost is that of a bare ``ask`` and
``tell`` in memory, in batches of the same size.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import optuna

from benchmarks.tables import describe, markdown, publish
from optimizer.bench.machine import this_machine
from optimizer.search.points import new_sampler, sampler_seed, suggest
from optimizer.search.run import run_study
from optimizer.study_file.space import build_space
from optimizer.study_file.study import study_from_dict

DATA = Path(__file__).parent.parent / "studies" / "data" / "us_daily.parquet"
SAMPLERS = ("random", "qmc", "tpe", "nsga2", "cmaes")
OWN = ("sampler", "scores", "storage", "dispatch", "other")
"""Parts of a study that are neither its kernels nor what comes once a study."""


def study_of(sampler: str, trials: int) -> dict[str, Any]:
    """A study of one parameter set a trial and seven parameters."""
    return {
        "study": {"name": "steering"},
        "data": {"path": str(DATA), "symbols": ["SPY"], "start": "2016-06-01"},
        "strategy": {
            "name": "momentum",
            "lookback": {"low": 5, "high": 100},
            "threshold": {"low": 0.0, "high": 0.1},
        },
        "risk": {
            "kelly_fraction": {"low": 0.01, "high": 0.5},
            "max_exposure": {"low": 0.4, "high": 1.0},
            "rebalance_band": {"low": 0.0, "high": 0.4},
            "volatility_lookback": {"low": 10, "high": 60},
            "bear_multiplier": {"low": 0.0, "high": 1.0},
        },
        "search": {"sampler": sampler, "trials": trials, "batch": 64},
        "workers": {"count": 1},
    }


def bare(sampler: str, trials: int, batch: int) -> float:
    """Seconds of Optuna alone, in memory; nothing for points that need no Optuna."""
    if sampler in ("random", "qmc"):
        return 0.0
    space = build_space(study_from_dict(study_of(sampler, trials)))
    study = optuna.create_study(direction="maximize")
    start = time.perf_counter()
    for number in range(-(-trials // batch)):
        study.sampler = new_sampler(sampler, sampler_seed(0, number))
        asked = [study.ask() for _ in range(min(batch, trials - number * batch))]
        for trial in asked:
            suggest(space, trial)
        for trial in asked:
            study.tell(trial, float(trial.params["kelly_fraction"]))
    return time.perf_counter() - start


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1024)
    parser.add_argument("--write", action="store_true", help="publish the table")
    arguments = parser.parse_args()
    trials = arguments.trials
    found: dict[str, tuple[float, float, float]] = {}
    for sampler in SAMPLERS:
        study = study_from_dict(study_of(sampler, trials))
        with tempfile.TemporaryDirectory() as folder:
            seconds = run_study(study, out=Path(folder) / "out", workers=1).seconds
        own = bare(sampler, trials, study.search.batch)
        rest = sum(seconds[name] for name in OWN) - own
        each = [1e3 * value / trials for value in (own, rest, seconds["storage"])]
        found[sampler] = (each[0], each[1], each[2])
    text = markdown(
        ("sampler", "the sampler itself, ms a trial", "all else, ms a trial", "storage alone"),
        ((name, *(f"{value:.2f}" for value in each)) for name, each in found.items()),
    )
    print(text)
    if arguments.write:
        publish("steering", f"{describe(this_machine())}\n\n{text}", found)


if __name__ == "__main__":
    main()
