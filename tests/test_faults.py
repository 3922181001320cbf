"""What goes wrong around a study: exit code, message, no process left, nothing lost, resume works.

Each row of ``docs/reliability.md`` names its test here or in ``test_resume``.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w

from optimizer.catalogue import METRICS
from optimizer.engine.workers import Workers
from optimizer.errors import StudyError
from optimizer.search.resume import resume_study
from optimizer.search.run import run_study
from optimizer.store.folder import StudyFolder
from optimizer.study_file.load import load_study
from optimizer.sweep.tiles import TileResult
from tests.support.processes import Command, survivors, wait_until
from tests.support.studies import (
    FATAL_LOOKBACK,
    mapping,
    random_bars,
    result_hashes,
    small_study,
    write_bars,
)

TABLES: dict[str, Any] = {
    "strategy": {"threshold": {"sweep": {"low": 0.0, "high": 0.1, "step": 0.004}}},
    "risk": {"kelly_fraction": {"sweep": {"low": 0.01, "high": 0.4, "step": 0.01}}},
    "search": {"sampler": "tpe", "trials": 40, "batch": 4},
}
"""Some 1,000 sets a trial, so that workers are mostly at work."""

FATAL: dict[str, Any] = {
    "strategy": {"lookback": {"choices": [10, FATAL_LOOKBACK, 20]}},
    "risk": {"max_exposure": 1.0, "volatility_lookback": 20},
    "search": {"sampler": "grid", "batch": 3},
}
"""Three trials, of which a fault hits the second."""


class Undisturbed:
    """A study, and its results when nothing goes wrong."""

    def __init__(self, home: Path) -> None:
        write_bars(home / "bars.parquet", random_bars())
        self.file = home / "study.toml"
        self.file.write_text(tomli_w.dumps(mapping("bars.parquet", **TABLES)))
        self.folder = run_study(load_study(self.file), out=home / "undisturbed", workers=1).folder
        self.hashes = result_hashes(self.folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    return Undisturbed(tmp_path_factory.mktemp("home"))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def n_batches(out: Path) -> int:
    return len(list((out / "results").glob("batch-*.parquet")))


def has_batches(out: Path, count: int) -> bool:
    return n_batches(out) >= count


def assert_resumes(whole: Undisturbed, out: Path) -> None:
    """Nothing written is lost, nothing is counted twice, the end is that of an undisturbed study."""
    before = result_hashes(StudyFolder(out)) if out.exists() else {}
    assert before.items() <= whole.hashes.items()
    folder = resume_study(out, workers=1).folder
    assert result_hashes(folder) == whole.hashes
    assert folder.trials() == whole.folder.trials()
    assert sorted(path.name for path in out.iterdir()) == [
        "benchmark.parquet", "holdout", "moments", "optuna.journal", "results", "selection.json",
        "study.json",
    ]  # fmt: skip


def errors_of(command: Command) -> list[str]:
    """What it printed apart from the estimate and its progress."""
    usual = ("estimate: ", "time: ")
    return [
        line
        for line in command.text().splitlines()
        # A limit on files is one on the ledger's too.
        if not line.startswith(usual) and " trials, " not in line and "the ledger" not in line
    ]


# --- Signals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "group", "code", "word"),
    [(signal.SIGINT, True, 130, "interrupted"), (signal.SIGTERM, False, 143, "terminated")],
    ids=["Ctrl-C", "SIGTERM to the leader"],
)
def test_a_signal_stops_a_study_in_order(
    number: int, group: bool, code: int, word: str, whole: Undisturbed, out: Path, tmp_path: Path
) -> None:
    command = Command("run", whole.file, "--out", out, "--workers", 2, output=tmp_path / "text")
    assert wait_until(partial(has_batches, out, 2))
    family = command.family()
    assert len(command.workers()) == 2
    command.signal(number, group=group)
    assert command.wait() == code
    assert errors_of(command) == [
        f"{word}; the results so far are kept in {out}: resume with `barsweep resume {out}`"
    ]
    assert survivors(family) == []
    assert 2 <= n_batches(out) < len(whole.hashes)
    assert not list(out.glob("shared-*"))
    assert_resumes(whole, out)


def test_ctrl_c_while_the_workers_start(whole: Undisturbed, out: Path, tmp_path: Path) -> None:
    """They are importing then, and would each print a traceback."""
    command = Command("run", whole.file, "--out", out, "--workers", 2, output=tmp_path / "text")
    assert wait_until(lambda: len(command.workers()) == 2)
    family = command.family()
    time.sleep(0.3)
    command.signal(signal.SIGINT)
    assert command.wait() == 130
    assert len(errors_of(command)) == 1, command.text()
    assert survivors(family) == []
    assert_resumes(whole, out)


def test_ctrl_c_within_a_finalizer(whole: Undisturbed, out: Path, tmp_path: Path) -> None:
    """Python drops what is raised there; the study would go on, with a traceback."""
    command = Command(
        *("run", whole.file, "--out", out, "--workers", 1),
        output=tmp_path / "text",
        prepare="tests.support.faults:interrupt_within_a_finalizer",
    )
    assert command.wait() == 130
    assert len(errors_of(command)) == 1, command.text()
    assert 2 <= n_batches(out) < len(whole.hashes)
    assert_resumes(whole, out)


def test_a_second_ctrl_c_stops_at_once(whole: Undisturbed, out: Path, tmp_path: Path) -> None:
    command = Command("run", whole.file, "--out", out, "--workers", 2, output=tmp_path / "text")
    assert wait_until(partial(has_batches, out, 2))
    family = command.family()
    for _ in range(5):
        command.signal(signal.SIGINT)
    assert command.wait() == 130
    assert "Traceback" not in command.text()
    assert survivors(family) == []
    assert_resumes(whole, out)


def test_workers_end_when_their_parent_is_killed(
    whole: Undisturbed, out: Path, tmp_path: Path
) -> None:
    command = Command("run", whole.file, "--out", out, "--workers", 2, output=tmp_path / "text")
    assert wait_until(partial(has_batches, out, 2))
    family = command.family()
    assert len(command.workers()) == 2
    command.signal(signal.SIGKILL, group=False)
    assert command.wait() == -signal.SIGKILL
    assert survivors(family) == []
    assert_resumes(whole, out)


# --- Workers ----------------------------------------------------------------------------------


def test_a_killed_worker_is_replaced(whole: Undisturbed, out: Path, tmp_path: Path) -> None:
    command = Command("run", whole.file, "--out", out, "--workers", 2, output=tmp_path / "text")
    for wanted in (1, 4):
        assert wait_until(partial(has_batches, out, wanted))
        assert wait_until(lambda: len(command.workers()) > 0)
        command.workers()[-1].kill()
    assert command.wait() == 0, command.text()
    assert "Traceback" not in command.text()
    assert result_hashes(StudyFolder(out)) == whole.hashes
    assert StudyFolder(out).trials() == whole.folder.trials()


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("die", "its worker died twice"),
        ("memory", "its worker ran out of memory twice"),
        ("loop", "took longer than [workers] tile_seconds = 3"),
    ],
)
def test_the_tile_that_is_to_blame_fails_alone(
    fault: str, reason: str, whole: Undisturbed, out: Path, tmp_path: Path
) -> None:
    workers = {"tile_seconds": 3} if fault == "loop" else {}
    file = whole.file.with_name(f"{fault}.toml")
    file.write_text(tomli_w.dumps(mapping("bars.parquet", **FATAL, workers=workers)))
    healthy = run_study(
        small_study(file.with_name("bars.parquet"), **FATAL), out=tmp_path / "healthy", workers=1
    )
    command = Command(
        *("run", file, "--out", out, "--workers", 2),
        output=tmp_path / "text",
        prepare="tests.support.faults:replace_evaluation",
        own=[fault],
    )
    assert wait_until(lambda: len(command.workers()) > 0)
    family = command.family()
    assert command.wait() == 0, command.text()
    assert "Traceback" not in command.text()
    assert survivors(family) == []
    folder = StudyFolder(out)
    trials = folder.trials()
    assert [trial["state"] for trial in trials] == ["COMPLETE", "FAIL", "COMPLETE"]
    assert trials[1]["params"] == {"momentum_lookback": FATAL_LOOKBACK}
    assert trials[1]["user_attrs"]["reason"] == reason
    rows, found = healthy.results(), folder.results()
    kept = rows[rows["trial"] != 1].drop(columns="set").reset_index(drop=True)
    assert found["set"].tolist() == list(range(8))
    assert found.drop(columns="set").equals(kept)
    assert folder.manifest()["complete"] is True


def test_a_time_limit_needs_processes(whole: Undisturbed, out: Path) -> None:
    study = small_study(whole.file.with_name("bars.parquet"), workers={"tile_seconds": 1})
    with pytest.raises(StudyError, match=r"tile_seconds = 1 needs .* 2 workers or more"):
        run_study(study, out=out, workers=1)
    threads = small_study(
        whole.file.with_name("bars.parquet"), workers={"tile_seconds": 1, "backend": "threading"}
    )
    with pytest.raises(StudyError, match='the backend "loky"'):
        run_study(threads, out=out.with_name("threads"), workers=2)
    assert len(resume_study(out, workers=2).folder.trials()) == 10


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_another_start_method_gives_the_same_and_ends_with_its_parent(
    method: str, whole: Undisturbed, out: Path, tmp_path: Path
) -> None:
    command = Command(
        *("run", whole.file, "--out", out, "--workers", 2),
        output=tmp_path / "text",
        prepare="tests.support.faults:start_workers_by",
        own=[method],
    )
    assert wait_until(partial(has_batches, out, 2))
    assert len(command.workers()) >= 2
    family = command.family()
    command.signal(signal.SIGKILL, group=False)
    command.wait()
    assert survivors(family) == []
    assert_resumes(whole, out)


# --- Disks ------------------------------------------------------------------------------------


def assert_refused(command: Command, *words: str) -> None:
    assert command.wait() == 2, command.text()
    lines = errors_of(command)
    assert len(lines) == 1, command.text()
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in lines[0]


def test_a_full_disk_at_a_batch(whole: Undisturbed, out: Path, tmp_path: Path) -> None:
    """A limit on the size of files, which the writing process meets as it does a full disk."""
    command = Command(
        *("run", whole.file, "--out", out, "--workers", 2),
        output=tmp_path / "text",
        prepare="tests.support.faults:limit_files_after",
        own=[str(out / "results"), 3],
    )
    assert wait_until(partial(has_batches, out, 1))
    family = command.family()
    assert_refused(command, str(out), "File too large", "MB free on the disk of", "free space",
                   "`barsweep resume`")  # fmt: skip
    assert survivors(family) == []
    assert n_batches(out) >= 3
    assert_resumes(whole, out)


def test_a_full_disk_at_the_journal(whole: Undisturbed, out: Path, tmp_path: Path) -> None:
    """The journal is the file that grows; its batch is durable before."""
    command = Command(
        *("run", whole.file, "--out", out, "--workers", 1),
        output=tmp_path / "text",
        prepare="tests.support.faults:limit_files_at_journal",
    )
    assert_refused(command, f"{out}/optuna.journal: cannot be written: File too large",
                   "MB free on the disk of", "`barsweep resume`")  # fmt: skip
    assert n_batches(out) == 3
    assert_resumes(whole, out)


def test_a_full_disk_at_the_arrays_that_workers_map(
    whole: Undisturbed, out: Path, tmp_path: Path
) -> None:
    command = Command(
        *("run", whole.file, "--out", out, "--workers", 2),
        output=tmp_path / "text",
        prepare="tests.support.faults:limit_files_at_scratch",
    )
    assert_refused(command, f"{out}/shared-", "MB free on the disk of", "`barsweep resume`")
    assert not list(out.glob("shared-*"))
    assert_resumes(whole, out)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 MB of its own, where the tests may mount one."""
    path = tmp_path / "disk"
    path.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(path)],
        capture_output=True,
        check=False,
    )
    if done.returncode:
        pytest.skip("mounting is not allowed here")
    yield path
    subprocess.run(["umount", str(path)], check=True)


def test_a_disk_that_fills_up(whole: Undisturbed, small_disk: Path, tmp_path: Path) -> None:
    out = small_disk / "out"
    filler = small_disk / "filler"
    command = Command(
        *("run", whole.file, "--out", out, "--workers", 1),
        output=tmp_path / "text",
        prepare="tests.support.faults:fill_disk_after",
        own=[str(out / "results"), 3, str(filler)],
    )
    assert_refused(command, str(out), "No space left on device", "0 MB free on the disk of")
    kept = n_batches(out)
    assert kept >= 3
    filler.unlink()
    shutil.copytree(out, tmp_path / "out")
    assert_resumes(whole, tmp_path / "out")


def test_a_folder_that_may_not_be_written(whole: Undisturbed, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    command = Command(
        *("run", whole.file, "--out", closed / "out", "--workers", 1),
        output=tmp_path / "text",
        prepare="tests.support.faults:respect_permissions",
    )
    assert_refused(command, f"{closed}/out: cannot be written: Permission denied")


def test_a_folder_that_is_closed_midway(whole: Undisturbed, out: Path, tmp_path: Path) -> None:
    command = Command(
        *("run", whole.file, "--out", out, "--workers", 1),
        output=tmp_path / "text",
        prepare="tests.support.faults:close_folder_after",
        own=[str(out / "results"), 2],
    )
    assert_refused(command, f"{out}/results/batch-", "cannot be written: Permission denied")
    refused = Command(
        "resume", out, output=tmp_path / "again", prepare="tests.support.faults:respect_permissions"
    )
    assert_refused(refused, str(out), "cannot be written: Permission denied")
    (out / "results").chmod(0o755)
    assert_resumes(whole, out)


# --- Numbers and clocks -----------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_an_objective_that_is_not_finite_never_wins(
    value: float, sampler: str, whole: Undisturbed, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One whole tile has it and fails with the reason; of the others one set each has it."""
    evaluate = Workers.evaluate

    def spoilt(self: Workers, tasks: Sequence[Any], tiles: Sequence[Any]) -> list[Any]:
        results = evaluate(self, tasks, tiles)
        for i, result in enumerate(results):
            assert isinstance(result, TileResult)
            result.in_sample[: None if i == 1 else 1, METRICS.index("sharpe")] = value
        return results

    monkeypatch.setattr(Workers, "evaluate", spoilt)
    study = small_study(
        whole.file.with_name("bars.parquet"), search={"sampler": sampler, "trials": 8}
    )
    result = run_study(study, out=out, workers=1)
    trials = result.folder.trials()
    assert [trial["number"] for trial in trials if trial["state"] == "FAIL"] == [1, 5]
    assert trials[1]["user_attrs"]["reason"].startswith("sharpe: not finite for any")
    for trial in trials:
        assert trial["values"] is None or np.isfinite(trial["values"][0])
    rows = result.results()
    assert rows["score"].isna().sum() == 2 * 4 + 6
    best = result.best(100)
    assert np.isfinite(best["sharpe"]).all()
    assert len(best) > 10


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "cmaes"])
def test_a_clock_set_back_changes_nothing(
    sampler: str, whole: Undisturbed, out: Path, tmp_path: Path
) -> None:
    file = whole.file.with_name(f"{sampler}.toml")
    tables = {"search": {"sampler": sampler, "trials": 24, "batch": 4}}
    file.write_text(tomli_w.dumps(mapping("bars.parquet", **tables)))
    usual = run_study(load_study(file), out=tmp_path / "usual", workers=1)
    command = Command(
        *("run", file, "--out", out, "--workers", 1),
        output=tmp_path / "text",
        prepare="tests.support.faults:set_the_clock_back",
    )
    assert command.wait() == 0, command.text()
    assert result_hashes(StudyFolder(out)) == result_hashes(usual.folder)
    assert StudyFolder(out).trials() == usual.folder.trials()
