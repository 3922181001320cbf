"""Kill studies at random moments, again and again, and compare what comes out: ``make soak``.

For each sampler a study is started and SIGKILL goes to its whole process group after a random time,
up to what an undisturbed study takes; then it is resumed and killed again, until it completes. A
complete study is compared with an undisturbed one, by the SHA-256 of its result files, its trials and
its journal, and the next is started, until there were as many kills as asked for.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import psutil
import tomli_w
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from optimizer.config import load_study
from optimizer.store import StudyFolder
from optimizer.study import run_study
from tests.processes import Command, survivors
from tests.reference.studies import mapping, random_bars, result_hashes, write_bars

SAMPLERS = ("grid", "random", "qmc", "tpe", "cmaes", "nsga2")
TWO_WORKERS_EVERY = 5
"""Starts with two workers: they take seconds to start, in which a kill meets nothing else."""


@dataclass
class Figures:
    """What was seen of one sampler."""

    kills: int = 0
    before_first_batch: int = 0
    studies: int = 0
    losses: list[str] = field(default_factory=list)

    def line(self, sampler: str, seconds: float) -> str:
        return (
            f"{sampler:7} {self.kills} kills ({self.before_first_batch} before the first batch),"
            f" {self.studies} studies completed and compared, {len(self.losses)} losses,"
            f" {seconds:.0f} s"
        )


def write_study(home: Path, sampler: str) -> Path:
    tables: dict[str, Any] = {
        "search": {"sampler": sampler, "trials": 200, "batch": 4,
                   "constraints": ["n_trades >= 8"]},
    }  # fmt: skip
    if sampler == "grid":
        tables["risk"] = {"max_exposure": {"low": 0.4, "high": 1.0, "step": 0.05}}
    file = home / f"{sampler}.toml"
    file.write_text(tomli_w.dumps(mapping("bars.parquet", **tables)))
    return file


def compare(folder: StudyFolder, whole: StudyFolder) -> list[str]:
    """What differs between a study that was killed and an undisturbed one."""
    backend = JournalFileBackend(str(folder.journal_path))
    journal = optuna.load_study(study_name="small", storage=JournalStorage(backend))
    found = [trial.values for trial in journal.trials]
    checks = {
        "results": result_hashes(folder) == result_hashes(whole),
        "trials": folder.trials() == whole.trials(),
        "journal": found == [trial["values"] for trial in whole.trials()],
        "manifest": folder.manifest()["complete"] is True,
        "leftovers": sorted(path.name for path in folder.path.iterdir())
        == ["moments", "optuna.journal", "results", "selection.json", "study.json"],
    }
    return [name for name, holds in checks.items() if not holds]


def soak(home: Path, sampler: str, n_kills: int, seed: int) -> Figures:
    """Kill studies of one sampler until there were enough kills."""
    chance = random.Random(f"{sampler} {seed}")
    file, figures = write_study(home, sampler), Figures()
    whole = run_study(load_study(file), out=home / f"{sampler} whole", workers=1).folder
    trial_run = Command("run", file, "--out", home / f"{sampler} first", "--workers", 1,
                        output=home / "text")  # fmt: skip
    start = time.monotonic()
    trial_run.wait()
    span = time.monotonic() - start
    out, known = home / f"{sampler} 0", 0
    while figures.kills < n_kills:
        fresh = not (out / "study.json").is_file()
        two = chance.randrange(TWO_WORKERS_EVERY) == 0
        command = Command(
            *(("run", file, "--out", out) if fresh else ("resume", out)),
            *("--workers", 2 if two else 1),
            output=home / "text",
        )
        time.sleep(chance.random() * span * (3 if two else 1))
        family = command.family()
        if not family or family[0].status() == psutil.STATUS_ZOMBIE:
            code = command.wait()
            if code != 0:
                figures.losses.append(f"exit code {code}: {command.text()}")
            figures.losses += compare(StudyFolder(out), whole)
            figures.studies += 1
            out, known = home / f"{sampler} {figures.studies}", 0
            continue
        command.kill()
        figures.kills += 1
        figures.losses += [f"process {one} left" for one in survivors(family)]
        n_batches = len(StudyFolder(out).batch_paths())
        figures.before_first_batch += n_batches == 0
        if n_batches < known:
            figures.losses.append(f"{known - n_batches} batches lost")
        known = n_batches
    if known or (out / "study.json").is_file():
        command = Command("resume", out, "--workers", 2, output=home / "text")
        if command.wait() != 0:
            figures.losses.append(command.text())
        figures.losses += compare(StudyFolder(out), whole)
        figures.studies += 1
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50, help="for each sampler")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--samplers", nargs="+", default=SAMPLERS, choices=SAMPLERS)
    arguments = parser.parse_args()
    lost = False
    with tempfile.TemporaryDirectory(prefix="barsweep-soak-") as name:
        home = Path(name)
        write_bars(home / "bars.parquet", random_bars())
        for sampler in arguments.samplers:
            start = time.monotonic()
            figures = soak(home, sampler, arguments.kills, arguments.seed)
            print(figures.line(sampler, time.monotonic() - start), flush=True)
            for loss in figures.losses:
                print(f"  lost: {loss}", flush=True)
            lost = lost or bool(figures.losses)
    sys.exit(lost)


if __name__ == "__main__":
    main()
