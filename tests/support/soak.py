"""Disturb studies at random, again and again, and compare what comes out: ``make soak``.

Two loops. The first starts a study of each sampler and sends SIGKILL to its whole process group after
a random time, up to what an undisturbed study takes; then it is resumed and killed again, until it
completes, and the next is started, until there were as many kills as asked for.

The second shares out thousands of trials among one long study of each sampler and injects faults of
all kinds at random moments (``FAULTS``). After each end of a process, and of the study, it looks for
what may not be there: see ``LongStudy``.

A complete study is compared with an undisturbed one, by the SHA-256 of its result files, its trials,
its journal and what was selected.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import signal
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import psutil
import tomli_w
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from optimizer.search.run import run_study
from optimizer.store.batch_files import holdout_path, moments_path
from optimizer.store.folder import StudyFolder
from optimizer.study_file.load import load_study
from tests.support.processes import Command, survivors, wait_until
from tests.support.studies import mapping, random_bars, result_hashes, write_bars

SAMPLERS = ("grid", "random", "qmc", "tpe", "cmaes", "nsga2")
TWO_WORKERS_EVERY = 5
"""Starts with two workers: they take seconds to start, in which a kill meets nothing else."""

SHARES = {"grid": 0.2, "random": 0.3, "qmc": 0.2, "tpe": 0.08, "cmaes": 0.11, "nsga2": 0.11}
"""Of the trials of the second loop: a resume plays the slow samplers' trials again, each time."""

TRIALS_PER_FAULT = 100
"""On average and roughly, of those that come while a study runs."""

BATCH = 10
START_SECONDS = 4.0
"""In which some faults come, at a random moment: workers start, and what is on disk is told again."""

END_SECONDS = 60.0
"""For the last process of a study to end after it. Workers look for their parent twice a second, but
not before they have imported, which takes long on a machine that is loaded ten times over."""

SURVIVED = ("a worker killed", "a worker out of memory", "a second process")
SIGNALS = {
    "the parent killed": signal.SIGKILL,
    "the group killed": signal.SIGKILL,
    "SIGTERM": signal.SIGTERM,
    "Ctrl-C": signal.SIGINT,
    "Ctrl-C three times": signal.SIGINT,
}
AT_A_START = ("the disk full", "the clock set back")
AT_REST = ("a batch damaged", "the journal damaged")
FAULTS = (*SURVIVED, *SIGNALS, *AT_A_START, *AT_REST)

WORKER_GROWTH = 16e6
"""Bytes by which a worker may grow from the first quarter of a study to its end."""

PARENT_GROWTH = 8e6
PARENT_GROWTH_PER_TRIAL = 16e3
"""The same of the parent, which holds all trials: for itself and for each trial."""

RESUMED_PER_TRIAL = 40e3
"""Bytes for each trial by which a parent that takes up a study may exceed an undisturbed one's most."""


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


def write_study(home: Path, sampler: str, trials: int = 200, **search: Any) -> Path:
    """A study file; a grid has as many points as trials, rounded up to sixteens."""
    tables: dict[str, Any] = {
        "search": {"sampler": sampler, "trials": trials, "batch": 4,
                   "constraints": ["n_trades >= 8"], **search},
    }  # fmt: skip
    if sampler == "grid":
        high = 0.4 + 0.05 * (-(-trials // 16) - 1)
        tables["risk"] = {"max_exposure": {"low": 0.4, "high": round(high, 2), "step": 0.05}}
    file = home / f"{sampler}.toml"
    file.write_text(tomli_w.dumps(mapping("bars.parquet", **tables)))
    return file


def compare(folder: StudyFolder, whole: StudyFolder) -> list[str]:
    """What differs between a disturbed study and an undisturbed one."""
    backend = JournalFileBackend(str(folder.journal_path))
    journal = optuna.load_study(study_name="small", storage=JournalStorage(backend))
    found = [trial.values for trial in journal.trials]
    trials = folder.trials()
    checks = {
        "results": result_hashes(folder) == result_hashes(whole),
        "trials": trials == whole.trials(),
        "numbers of trials": [one["number"] for one in trials] == list(range(len(trials))),
        "numbers of sets": folder.results(["set"])["set"].tolist() == list(range(folder.n_sets())),
        "journal": found == [trial["values"] for trial in whole.trials()],
        "moments": _digests(folder.path / "moments") == _digests(whole.path / "moments"),
        "holdout": _digests(folder.path / "holdout") == _digests(whole.path / "holdout"),
        "selection": _digests(folder.path, "selection.json")
        == _digests(whole.path, "selection.json"),
        "manifest": folder.manifest()["complete"] is True,
        "leftovers": sorted(path.name for path in folder.path.iterdir())
        == [
            *("benchmark.parquet", "holdout", "moments", "optuna.journal", "results"),
            *("selection.json", "study.json"),
        ],
    }
    return [f"{name} differ" for name, holds in checks.items() if not holds]


def _digests(folder: Path, pattern: str = "*") -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob(pattern)
    }


# --- Many kills -------------------------------------------------------------------------------


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


# --- Many trials, with faults of all kinds ----------------------------------------------------


class Watch:
    """Looks at a command and its workers four times a second until it ends.

    Attributes:
        family: all processes seen.
        parent, workers: bytes in memory (RSS), a row for each look: share of the batches that are
            there, and bytes; of the workers by process number.
        open_files: of the parent, in the same form.
    """

    def __init__(self, command: Command, done: Callable[[], float]) -> None:
        self.family: dict[int, psutil.Process] = {}
        self.parent: list[tuple[float, float]] = []
        self.open_files: list[tuple[float, float]] = []
        self.workers: dict[int, list[tuple[float, float]]] = {}
        self._command, self._done = command, done
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._over.wait(0.25):
            self.look()

    def look(self) -> None:
        """Once."""
        done = self._done()
        for one in self._command.family():
            self.family.setdefault(one.pid, one)
            with contextlib.suppress(psutil.Error):
                held = float(one.memory_info().rss)
                if one.pid == self._command.pid:
                    self.parent.append((done, held))
                    self.open_files.append((done, float(one.num_fds())))
                elif "resource_tracker" not in " ".join(one.cmdline()):
                    self.workers.setdefault(one.pid, []).append((done, held))

    def end(self) -> list[str]:
        """Stop looking; which of the processes go on after the time that they have to end."""
        self._over.set()
        self._thread.join()
        return survivors(list(self.family.values()), END_SECONDS)


def growth(rows: list[tuple[float, float]]) -> float:
    """By how much the last tenth of a search exceeds its first quarter, at most."""
    early = [value for done, value in rows if 0 < done <= 0.25]
    late = [value for done, value in rows if 0.9 <= done < 1]
    return max(late) - max(early) if early and late else 0.0


def _handles_signals(process: int) -> bool:
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
        caught = next(int(line.split()[1], 16) for line in lines if line.startswith("SigCgt"))
        return bool(caught >> (signal.SIGTERM - 1) & 1)
    return False


@dataclass
class LongStudy:
    """One study, undisturbed and with faults at random moments.

    After each end of a process: its exit code is that of what ended it, its text has one line for an
    error and no traceback, no process of it is left, each batch on disk is that of the undisturbed
    study bit for bit, no batch is gone but one that was damaged on purpose; and where it ended in
    order it left no file but its own. After the end of the study: all that ``compare`` compares, the
    ledger's count, and nothing in the folder of temporary files or, by the numbers of all processes,
    in shared memory. In the undisturbed study memory is flat within ``WORKER_GROWTH`` and
    ``PARENT_GROWTH``; in the disturbed one no parent takes more than ``RESUMED_PER_TRIAL`` beyond that.
    """

    home: Path
    sampler: str
    trials: int
    seed: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    starts: int = 0
    losses: list[str] = field(default_factory=list)
    memory: str = ""

    def __post_init__(self) -> None:
        self._chance = random.Random(f"{self.sampler} {self.trials} {self.seed}")
        self._file = write_study(self.home, self.sampler, self.trials, batch=BATCH)
        self._out = self.home / f"{self.sampler} disturbed"
        self._temporary = self.home / f"{self.sampler} temporary"
        self._temporary.mkdir()
        self._starve = self.home / f"{self.sampler} out of memory"
        self._processes: set[int] = set()
        self._whole: dict[str, str] = {}
        self._kept: set[str] = set()
        self._n_batches = -(-self.trials // BATCH)
        self._peak = 0.0

    def line(self, seconds: float) -> str:
        """What was seen."""
        return (
            f"{self.sampler:7} {self.trials} trials, {self.starts} starts,"
            f" {self.faults.total()} faults, {len(self.losses)} losses, {seconds:.0f} s; {self.memory}"
        )

    def run(self) -> None:
        """Both studies, and what differs between them."""
        whole = self._undisturbed()
        self._whole = result_hashes(whole)
        while not (self._out / "study.json").is_file() or not self._complete():
            if self.starts > 50 + self.trials:
                self.losses.append("it does not come to its end")
                return
            self._damage()
            self._start()
        self.losses += compare(StudyFolder(self._out), whole)
        self._compare_ledger()
        self.losses += [f"{path} left" for path in self._temporary.rglob("*")]
        for process in self._processes:
            for pattern in (f"*loky-{process}-*", f"joblib_memmapping_folder_{process}_*"):
                self.losses += [f"{path} left" for path in Path("/dev/shm").glob(pattern)]

    def _complete(self) -> bool:
        return bool(StudyFolder(self._out).manifest()["complete"])

    def _n_found(self, out: Path) -> int:
        return len(list((out / "results").glob("batch-*.parquet")))

    def _command(self, *arguments: object, name: str, **prepared: tuple[object, ...]) -> Command:
        steps: dict[str, tuple[object, ...]] = {
            "keep_to": (str(self._temporary), str(self.home / f"{self.sampler} {name}.db")),
            **prepared,
        }
        return Command(
            *arguments,
            output=self.home / f"{self.sampler} {name}.txt",
            prepare="tests.support.faults:prepare_all",
            own=[list(steps.items())],
        )

    def _undisturbed(self) -> StudyFolder:
        out = self.home / f"{self.sampler} whole"
        command = self._command("run", self._file, "--out", out, "--workers", 2, name="whole")
        watch = Watch(command, lambda: self._n_found(out) / self._n_batches)
        if command.wait(3600.0) != 0:
            raise SystemExit(f"the undisturbed study failed: {command.text()}")
        self.losses += [f"undisturbed: process {one} left" for one in watch.end()]
        self._processes |= set(watch.family)
        parent, files = growth(watch.parent), growth(watch.open_files)
        workers = max((growth(rows) for rows in watch.workers.values()), default=0.0)
        held = [value for rows in watch.workers.values() for _, value in rows]
        self._peak = max((value for _, value in watch.parent), default=0.0)
        self.memory = (
            f"parent up to {self._peak / 1e6:.0f} MB ({parent / 1e6:+.1f}), workers"
            f" {max(held, default=0.0) / 1e6:.0f} MB ({workers / 1e6:+.1f}), open files {files:+.0f}"
        )
        if parent > PARENT_GROWTH + PARENT_GROWTH_PER_TRIAL * self.trials:
            self.losses.append(f"the parent grows: {self.memory}")
        if workers > WORKER_GROWTH:
            self.losses.append(f"workers grow: {self.memory}")
        if files > 8:
            self.losses.append(f"open files grow: {self.memory}")
        return StudyFolder(out)

    def _damage(self) -> None:
        """Damage a batch or the journal between two starts, one time in four each."""
        paths = StudyFolder(self._out).batch_paths()
        if paths and self._chance.random() < 0.25:
            path = self._chance.choice(paths)
            victim = self._chance.choice((path, moments_path(path), holdout_path(path)))
            content = bytearray(victim.read_bytes())
            place = self._chance.randrange(len(content))
            kind = self._chance.choice(("cut", "zeros", "a changed bit"))
            if kind == "a changed bit":
                content[place] ^= 1 << self._chance.randrange(8)
            else:
                content[place:] = bytes(len(content) - place if kind == "zeros" else 0)
            if bytes(content) != victim.read_bytes():
                victim.write_bytes(content)
                self._kept.discard(path.name)
                self.faults["a batch damaged"] += 1
        journal = self._out / "optuna.journal"
        if journal.is_file() and self._chance.random() < 0.25:
            content = bytearray(journal.read_bytes())
            kind = self._chance.choice(("gone", "cut", "locked"))
            if kind == "gone":
                journal.unlink()
            elif kind == "cut":
                journal.write_bytes(content[: self._chance.randrange(len(content) + 1)])
            else:
                Path(f"{journal}.lock").symlink_to(journal)
            self.faults["the journal damaged"] += 1

    def _start(self) -> None:
        """One process, from its start to its end, whatever ends it."""
        chance, out = self._chance, self._out
        fresh = not (out / "study.json").is_file()
        spacing = max(2 * TRIALS_PER_FAULT // BATCH - 4, 2)
        prepared: dict[str, tuple[object, ...]] = {"run_out_of_memory_at": (str(self._starve),)}
        expected = {0: "complete"}
        if chance.random() < 0.2:
            prepared["set_the_clock_back"] = ()
            self.faults["the clock set back"] += 1
        if chance.random() < 0.2:
            n_batches = self._n_found(out) + chance.randrange(spacing)
            prepared["limit_files_after"] = (str(out / "results"), n_batches)
            expected[2] = "the disk full"
        command = self._command(
            *(("run", self._file, "--out", out) if fresh else ("resume", out)),
            *("--workers", 2, "--quiet"),
            name="disturbed",
            **prepared,
        )
        self.starts += 1
        watch = Watch(command, lambda: self._n_found(out) / self._n_batches)
        wait_until(lambda: command.ended() or _handles_signals(command.pid))
        by_time = chance.random() < 0.3
        while self._wait(command, chance.random() * START_SECONDS if by_time else None, spacing):
            by_time = False
            fault = chance.choice((*SURVIVED, *SIGNALS))
            if fault in SURVIVED:
                self._disturb(command, fault)
                continue
            watch.look()
            group = fault not in ("the parent killed", "SIGTERM")
            for _ in range(3 if fault == "Ctrl-C three times" else 1):
                command.signal(SIGNALS[fault], group=group)
            number = int(SIGNALS[fault])
            expected[-number if number == signal.SIGKILL else 128 + number] = fault
            break
        self._inspect(command, watch, expected)

    def _wait(self, command: Command, seconds: float | None, spacing: int) -> bool:
        """Until some random moment; whether the command still runs then."""
        wanted = self._n_found(self._out) + 2 + self._chance.randrange(spacing)
        end = time.monotonic() + (3600 if seconds is None else seconds)
        while not command.ended():
            if time.monotonic() > end or self._n_found(self._out) >= wanted:
                return True
            time.sleep(0.005)
        return False

    def _disturb(self, command: Command, fault: str) -> None:
        """What a study survives."""
        if fault == "a worker out of memory":
            self._starve.touch()
        elif fault == "a worker killed":
            workers = command.workers()
            if not workers:
                return
            with contextlib.suppress(psutil.NoSuchProcess):
                self._chance.choice(workers).kill()
        else:
            if not list(self._out.glob(f"shared-{command.pid}-*")):
                return  # it may not have locked the folder yet
            second = self._command("resume", self._out, name="second")
            code = second.wait()
            if not command.ended() and (code != 2 or "another process" not in second.text()):
                self.losses.append(f"a second process: exit code {code}: {second.text()}")
        self.faults[fault] += 1

    def _inspect(self, command: Command, watch: Watch, expected: dict[int, str]) -> None:
        """All that must hold once a process has ended."""
        code, text = command.wait(3600.0), command.text()
        self.losses += [f"process {one} left" for one in watch.end()]
        self._processes |= {command.pid, *watch.family}
        ended_by = expected.get(code)
        if ended_by is None:
            self.losses.append(f"exit code {code}, expected one of {expected}: {text}")
        elif code:
            self.faults[ended_by] += 1
        if "Traceback" in text:
            self.losses.append(f"a traceback: {text}")
        if code == 2 and "MB free on the disk of" not in text:
            self.losses.append(f"a full disk that is not named: {text}")
        hashes = result_hashes(StudyFolder(self._out))
        foreign = {name for name, value in hashes.items() if self._whole.get(name) != value}
        # A damaged batch that the process did not come to is still there.
        self.losses += [f"{name} differs" for name in foreign & self._kept]
        self.losses += [f"{name} is gone" for name in self._kept - set(hashes)]
        self._kept |= set(hashes) - foreign
        if code >= 0 and ended_by not in ("Ctrl-C three times", None):
            # It may have been stopped before it came to remove what a former one left.
            left = self._out.glob(f"shared-{command.pid}-*")
            self.losses += [f"{path} left after {ended_by}" for path in left]
        most = max((value for _, value in watch.parent), default=0.0)
        if most > self._peak + PARENT_GROWTH + RESUMED_PER_TRIAL * self.trials:
            self.losses.append(f"a parent took {most / 1e6:.0f} MB: {self.memory}")

    def _compare_ledger(self) -> None:
        path = self.home / f"{self.sampler} disturbed.db"
        with contextlib.closing(sqlite3.connect(path)) as ledger:
            rows = ledger.execute("SELECT content FROM entries ORDER BY number").fetchall()
        # The last search counts: those before are of the same study on the same bars. Others are looks.
        searches = [one for one in (json.loads(row[0]) for row in rows) if "n_sets" in one]
        counted = [searches[-1]["n_sets"]] if searches else []
        if counted != [StudyFolder(self._out).n_distinct()]:
            self.losses.append(f"the ledger counts {counted} sets")


def share_out(trials: int, samplers: tuple[str, ...]) -> dict[str, int]:
    """Trials of each sampler's study, in whole batches and sixteens."""
    total = sum(SHARES[sampler] for sampler in samplers)
    unit = 8 * BATCH
    return {
        sampler: max(round(trials * SHARES[sampler] / total / unit), 1) * unit
        for sampler in samplers
    }


def main() -> None:
    """Run what the command line asks for; exit code 1 where something was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50, help="for each sampler; 0: none")
    parser.add_argument("--trials", type=int, default=10_000, help="with faults of all kinds, or 0")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--samplers", nargs="+", default=SAMPLERS, choices=SAMPLERS)
    given = parser.parse_args()
    lost = False

    def report(line: str, losses: list[str]) -> None:
        nonlocal lost
        print(line, *(f"  lost: {loss}" for loss in losses), sep="\n", flush=True)
        lost = lost or bool(losses)

    with tempfile.TemporaryDirectory(prefix="barsweep-soak-") as name:
        os.environ["BARSWEEP_LEDGER"] = str(Path(name) / "ledger.db")
        killed, disturbed = Path(name) / "killed", Path(name) / "disturbed"
        for home in (killed, disturbed):
            home.mkdir()
            write_bars(home / "bars.parquet", random_bars())
        for sampler in given.samplers if given.kills else ():
            start = time.monotonic()
            figures = soak(killed, sampler, given.kills, given.seed)
            report(figures.line(sampler, time.monotonic() - start), figures.losses)
        faults: Counter[str] = Counter()
        shares = share_out(given.trials, tuple(given.samplers)) if given.trials else {}
        for sampler, trials in shares.items():
            start = time.monotonic()
            study = LongStudy(disturbed, sampler, trials, given.seed)
            study.run()
            report(study.line(time.monotonic() - start), study.losses)
            faults += study.faults
        for fault in FAULTS if shares else ():
            print(f"  {fault}: {faults[fault]}")
        if shares:
            print(f"{sum(shares.values())} trials, {faults.total()} faults")
    sys.exit(lost)


if __name__ == "__main__":
    main()
