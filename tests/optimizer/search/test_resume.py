"""A study that was killed, at any moment and any number of times, ends as an undisturbed one."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import random
import shutil
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pyarrow.parquet as pq
import pytest
import tomli_w
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from optimizer.errors import DataError, StudyError
from optimizer.files import exclusive_use
from optimizer.search import asker
from optimizer.search.points import bulk_tasks
from optimizer.search.progress import Progress
from optimizer.search.result import StudyResult
from optimizer.search.resume import resume_study
from optimizer.search.run import run_study
from optimizer.store.batch_files import holdout_path, moments_path
from optimizer.store.folder import StudyFolder
from optimizer.store.query import best_sets
from optimizer.study_file.differences import differences
from optimizer.study_file.load import load_study
from optimizer.study_file.search_tables import SAMPLERS
from tests.support.processes import Command, survivors, wait_until
from tests.support.studies import (
    mapping,
    random_bars,
    result_hashes,
    small_study,
    write_bars,
)

KILLS = 2


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with bars."""
    path = tmp_path_factory.mktemp("home")
    write_bars(path / "bars.parquet", random_bars())
    return path


@pytest.fixture(scope="module")
def undisturbed_by(home: Path) -> Callable[[str], StudyResult]:
    """The study of a sampler when nothing goes wrong; each is run once."""

    @cache
    def run(sampler: str) -> StudyResult:
        study = small_study(home / "bars.parquet", **tables_of(sampler))
        return run_study(study, out=home / "undisturbed" / sampler, workers=1)

    return run


def tables_of(sampler: str) -> dict[str, Any]:
    """A study of some 10 batches whose trials can fail, be infeasible, or be better."""
    risk = {"max_exposure": {"low": 0.4, "high": 1.0, "step": 0.1}} if sampler == "grid" else {}
    search = {"sampler": sampler, "trials": 40, "batch": 4, "constraints": ["n_trades >= 8"]}
    return {"search": search, "risk": risk}


def write_study(path: Path, **tables: Any) -> Path:
    path.write_text(tomli_w.dumps(mapping("bars.parquet", **tables)))
    return path


def assert_same(folder: StudyFolder, undisturbed: StudyResult) -> None:
    """Result files by SHA-256, trials, best sets and the journal."""
    assert result_hashes(folder) == result_hashes(undisturbed.folder)
    assert folder.trials() == undisturbed.folder.trials()
    search = undisturbed.study.search
    best = best_sets(folder, search, 20)
    pd.testing.assert_frame_equal(best, undisturbed.best(20), check_exact=True)
    assert folder.manifest()["complete"] is True
    assert_journal(folder)
    for name in ("benchmark.parquet", "selection.json", "holdout", "moments"):
        assert digest(folder.path / name) == digest(undisturbed.folder.path / name)
    kept = {
        *("benchmark.parquet", "holdout", "moments", "optuna.journal", "results"),
        *("selection.json", "study.json"),
    }
    assert {path.name for path in folder.path.iterdir()} == kept
    assert not list(folder.path.rglob("*.part"))


def digest(path: Path) -> str:
    """SHA-256 of a file, or of the files of a folder."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def assert_journal(folder: StudyFolder) -> None:
    """Optuna reads every trial once, as the result files have it."""
    backend = JournalFileBackend(str(folder.journal_path))
    study = optuna.load_study(study_name="small", storage=JournalStorage(backend))
    records = folder.trials()
    assert [trial.number for trial in study.trials] == [one["number"] for one in records]
    for trial, record in zip(study.trials, records, strict=True):
        assert (trial.state.name, trial.values) == (record["state"], record["values"])
        assert (trial.params, trial.user_attrs) == (record["params"], record["user_attrs"])


def has_batches(out: Path, count: int) -> bool:
    return len(list((out / "results").glob("batch-*.parquet"))) >= count


def stop_after(n_trials: int) -> Any:
    def stop(progress: Progress) -> None:
        if progress.trials >= n_trials:
            raise KeyboardInterrupt

    return stop


def broken_off(study: Any, out: Path, n_trials: int) -> StudyFolder:
    with pytest.raises(KeyboardInterrupt):
        run_study(study, out=out, workers=1, on_progress=stop_after(n_trials))
    return StudyFolder.open(out)


# --- Kills ------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_killed_study_ends_as_an_undisturbed_one(
    sampler: str, home: Path, undisturbed_by: Callable[[str], StudyResult], tmp_path: Path
) -> None:
    file = write_study(home / f"{sampler}.toml", **tables_of(sampler))
    undisturbed = undisturbed_by(sampler)
    n_batches = len(undisturbed.folder.batch_paths())
    assert n_batches >= 10
    chance = random.Random(sampler)
    out, output = tmp_path / "out", tmp_path / "output.txt"
    done, interrupted = 0, 0
    # Not the last batches: the study may have ended before a kill that waits for one.
    for wanted in sorted(chance.randrange(n_batches - 2) for _ in range(KILLS)):
        arguments = (
            ("resume", out) if (out / "study.json").is_file() else ("run", file, "--out", out)
        )
        slow = "tests.support.faults:slow_batches"
        command = Command(*arguments, "--workers", 1, output=output, prepare=slow)
        results = out / "results"
        assert wait_until(partial(has_batches, out, wanted))
        time.sleep(chance.random() * 0.02)
        command.kill()
        interrupted += not StudyFolder.open(out).manifest()["complete"] if results.exists() else 1
        if results.exists():
            paths = StudyFolder.open(out).batch_paths()
            assert len(paths) >= done, "a finished batch is lost"
            done = len(paths)
    assert interrupted == KILLS
    assert_same(resume_study(out, workers=1).folder, undisturbed)


def test_a_killed_group_leaves_no_process(
    home: Path, undisturbed_by: Callable[[str], StudyResult], tmp_path: Path
) -> None:
    file = write_study(home / "group.toml", **tables_of("tpe"))
    undisturbed = undisturbed_by("tpe")
    out = tmp_path / "out"
    command = Command("run", file, "--out", out, "--workers", 2, output=tmp_path / "output.txt")
    assert wait_until(partial(has_batches, out, 3))
    family = command.family()
    assert len(family) >= 3, "the leader and two workers"
    command.kill()
    assert survivors(family) == []
    assert StudyFolder.open(out).manifest()["complete"] is False
    shared = Path("/dev/shm")
    assert list(shared.glob(f"*loky-{command.pid}-*")), "what a killed group leaves"
    leader = command.pid
    command = Command("resume", out, "--workers", 2, output=tmp_path / "output.txt")
    assert command.wait() == 0, command.text()
    assert_same(StudyFolder.open(out), undisturbed)
    for pid in (leader, command.pid):
        assert not list(shared.glob(f"*loky-{pid}-*"))
        assert not list(shared.glob(f"joblib_memmapping_folder_{pid}_*"))


@pytest.mark.parametrize("kept", [0, 1, 9, 10])
def test_a_study_is_taken_up_at_any_batch(
    kept: int, undisturbed_by: Callable[[str], StudyResult], tmp_path: Path
) -> None:
    undisturbed = undisturbed_by("nsga2")
    folder = StudyFolder(shutil.copytree(undisturbed.folder.path, tmp_path / "out"))
    for path in folder.batch_paths()[kept:]:
        path.unlink()
    folder.write_manifest({**folder.manifest(), "complete": False})
    seen: list[Progress] = []
    resumed = resume_study(tmp_path / "out", workers=1, on_progress=seen.append)
    assert_same(resumed.folder, undisturbed)
    assert seen[0].trials == (4 * kept if kept else 4)
    assert {progress.trials_before for progress in seen} == {4 * kept}
    assert seen[-1].trials == 40
    assert seen[-1].best == undisturbed.best(1)["sharpe"][0]


def test_what_a_kill_leaves_is_removed(
    home: Path, undisturbed_by: Callable[[str], StudyResult], tmp_path: Path
) -> None:
    """A batch half written, shared arrays, a torn and locked journal."""
    study = small_study(home / "bars.parquet", **tables_of("tpe"))
    undisturbed = undisturbed_by("tpe")
    folder = broken_off(study, tmp_path / "out", 20)
    (folder.path / "results" / "batch-000005.parquet.part").write_bytes(b"PAR1 torn")
    (folder.path / "study.json.part").write_text('{"kind": "bars')
    (folder.path / "shared-999999999-0123abcd").mkdir()
    (folder.path / "shared-999999999-0123abcd" / "open.npy").write_bytes(bytes(1000))
    journal = folder.journal_path.read_bytes()
    folder.journal_path.write_bytes(journal[: len(journal) - 30])
    os.symlink(folder.journal_path, f"{folder.journal_path}.lock")
    assert_same(resume_study(tmp_path / "out", workers=1).folder, undisturbed)


def test_the_start_of_a_folder_can_be_cut_anywhere(home: Path, tmp_path: Path) -> None:
    """Killed before the manifest had its name: a folder with a part of it is a fresh one."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "study.json.part").write_text('{"kind": "bars')
    study = small_study(home / "bars.parquet")
    assert len(run_study(study, out=out, workers=1).folder.trials()) == 10
    other = broken_off(study, tmp_path / "other", 4)
    for path in other.batch_paths():
        path.unlink()
    (other.path / "results").rmdir()
    shutil.rmtree(other.path / "moments")
    shutil.rmtree(other.path / "holdout")
    assert len(resume_study(other.path, workers=1).folder.trials()) == 10


@pytest.mark.parametrize("damage", ["cut", "empty", "a changed byte", "zeros", "no trials"])
def test_a_damaged_batch_is_computed_again(
    damage: str,
    home: Path,
    undisturbed_by: Callable[[str], StudyResult],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    study = small_study(home / "bars.parquet", **tables_of("cmaes"))
    undisturbed = undisturbed_by("cmaes")
    folder = broken_off(study, tmp_path / "out", 24)
    path = folder.batch_paths()[2]
    content = bytearray(path.read_bytes())
    if damage == "cut":
        content = content[:-20]
    elif damage == "empty":
        content.clear()
    elif damage == "zeros":
        content = bytearray(len(content))
    elif damage == "a changed byte":
        column = pq.read_metadata(path).row_group(0).column(8)
        end = column.dictionary_page_offset or column.data_page_offset
        content[end + column.total_compressed_size - 3] ^= 1
    path.write_bytes(content)
    if damage == "no trials":
        pq.write_table(pq.read_table(path).replace_schema_metadata({}), path)
    resumed = resume_study(tmp_path / "out", workers=1)
    assert_same(resumed.folder, undisturbed)
    lines = [record.message for record in caplog.records]
    assert len(lines) == 1
    assert str(path) in lines[0]
    assert "it is computed again" in lines[0]


def test_a_changed_bit_is_found_anywhere(home: Path, tmp_path: Path) -> None:
    """In the trials' text and the footer too, for which Parquet has no checksum."""
    study = small_study(home / "bars.parquet", **tables_of("random"))
    folder = broken_off(study, tmp_path / "out", 4)
    batch, chance = folder.batch_paths()[0], random.Random(0)
    for path in (batch, moments_path(batch), holdout_path(batch)):
        content = path.read_bytes()
        for _ in range(300):
            place = chance.randrange(len(content))
            changed = bytearray(content)
            changed[place] ^= 1 << chance.randrange(8)
            path.write_bytes(changed)
            whole = batch.read_bytes()
            assert folder.finished_batches() == {}, f"{path}: byte {place}"
            batch.write_bytes(whole)
        path.write_bytes(content)
    assert list(folder.finished_batches()) == [0]


@pytest.mark.parametrize("then", ["resume", "overwrite"])
def test_what_a_kill_leaves_in_shared_memory_is_removed(
    then: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the number of the process, even where the one that tidies is killed at it."""
    study = small_study(home / "bars.parquet")
    folder = broken_off(study, tmp_path / "out", 4)
    scratch = folder.path / "shared-999999999-0123abcd"
    scratch.mkdir()
    left = Path("/dev/shm/sem.loky-999999999-abcdefgh")
    left.touch()

    def killed(_: Path) -> None:
        raise KeyboardInterrupt

    def again() -> StudyResult:
        if then == "resume":
            return resume_study(folder.path, workers=1)
        return run_study(study, out=folder.path, workers=1, overwrite=True)

    try:
        with monkeypatch.context() as patched:
            patched.setattr("optimizer.store.folder.shutil.rmtree", killed)
            with pytest.raises(KeyboardInterrupt):
                again()
        assert left.exists() <= scratch.exists()
        again()
        assert not left.exists()
        assert not scratch.exists()
    finally:
        left.unlink(missing_ok=True)


@pytest.mark.parametrize("kind", ["moments", "holdout"])
@pytest.mark.parametrize("damage", ["gone", "cut", "a changed byte", "of another batch"])
def test_a_batch_with_damaged_moments_or_holdout_is_computed_again(
    damage: str,
    kind: str,
    home: Path,
    undisturbed_by: Callable[[str], StudyResult],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    study = small_study(home / "bars.parquet", **tables_of("random"))
    undisturbed = undisturbed_by("random")
    folder = broken_off(study, tmp_path / "out", 24)
    files = sorted((folder.path / kind).iterdir())
    content = bytearray(files[2].read_bytes())
    if damage == "cut":
        files[2].write_bytes(content[:-9])
    elif damage == "a changed byte":
        content[-5] ^= 1
        files[2].write_bytes(content)
    elif damage == "of another batch":
        files[2].write_bytes(files[1].read_bytes())
    else:
        files[2].unlink()
    assert_same(resume_study(tmp_path / "out", workers=1).folder, undisturbed)
    assert ["it is computed again" in record.message for record in caplog.records] == [True]


# --- The same study or none -------------------------------------------------------------------


def test_a_complete_study_says_so(home: Path, tmp_path: Path) -> None:
    file = write_study(home / "complete.toml")
    folder = run_study(load_study(file), out=tmp_path / "out", workers=1).folder
    files = sorted(path for path in folder.path.rglob("*") if path.is_file())
    before = [(path.stat().st_mtime_ns, path.read_bytes()) for path in files]
    command = Command("resume", folder.path, output=tmp_path / "output.txt")
    assert command.wait() == 0
    assert command.text() == f"{folder.path}: complete, nothing to resume\n"
    assert [(path.stat().st_mtime_ns, path.read_bytes()) for path in files] == before


@pytest.mark.parametrize(
    "damage", ["cut", "moments", "holdout", "first gone", "last gone", "verdict"]
)
def test_a_complete_study_with_a_damaged_batch_is_repaired(
    damage: str, home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    undisturbed = run_study(small_study(home / "bars.parquet"), out=tmp_path / "whole", workers=1)
    out = tmp_path / "out"
    shutil.copytree(undisturbed.folder.path, out)
    folder = StudyFolder.open(out)
    batches = folder.batch_paths()
    broken = batches[-1 if damage == "last gone" else 0]
    if damage == "cut":
        broken.write_bytes(broken.read_bytes()[:-9])
    elif damage in ("moments", "holdout"):
        other = moments_path(broken) if damage == "moments" else holdout_path(broken)
        content = bytearray(other.read_bytes())
        content[-1] ^= 1
        other.write_bytes(content)
    elif damage == "verdict":
        broken = out / "selection.json"
        broken.write_bytes(broken.read_bytes()[:50])
    else:
        broken.unlink()
    manifest = folder.manifest()
    # Where it cannot be computed again, nothing is removed, but the file is still named.
    folder.write_manifest({**manifest, "versions": {**manifest["versions"], "numba": "0.1"}})
    with pytest.raises(StudyError) as refused:
        resume_study(out, workers=1)
    kinds = {"verdict": "cannot be read", "first gone": "missing", "last gone": "missing"}
    kind = kinds.get(damage, "damaged")
    words = (str(broken), kind, "cannot be computed again")
    assert [word for word in (*words, "numba 0.1") if word not in str(refused.value)] == []
    assert folder.batch_paths() == [one for one in batches if "gone" not in damage or one != broken]
    folder.write_manifest(manifest)
    assert_same(resume_study(out, workers=1).folder, undisturbed)
    (said,) = [one.getMessage() for one in caplog.records if "computed again" in one.message]
    assert said.startswith(str(broken))
    assert not resume_study(out, workers=1).seconds


def test_run_points_to_resume(home: Path, tmp_path: Path) -> None:
    study = small_study(home / "bars.parquet")
    broken_off(study, tmp_path / "out", 4)
    with pytest.raises(StudyError, match=r"unfinished study; `barsweep resume .*out` continues"):
        run_study(study, out=tmp_path / "out", workers=1)
    assert len(StudyFolder.open(tmp_path / "out").trials()) == 4


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ({"search": {"trials": 11, "batch": 4}}, "[search] trials = 11, it was 10"),
        ({"costs": {"slippage_bps": 3.0}}, "[costs] slippage_bps = 3.0, it was 2.0"),
        ({"strategy": {"threshold": 0.0}}, "[strategy] #1 threshold = 0.0, it was {'sweep'"),
        ({"classifier": {"name": "hmm"}}, "[classifier] #1 name = 'hmm', it was 'none'"),
    ],
)
def test_a_changed_study_file_is_refused(
    tables: dict[str, Any], words: str, home: Path, tmp_path: Path
) -> None:
    file = write_study(home / "changed.toml")
    folder = broken_off(load_study(file), tmp_path / "out", 4)
    write_study(file, **tables)
    with pytest.raises(StudyError) as refused:
        resume_study(tmp_path / "out", workers=1)
    assert words in str(refused.value)
    assert str(file) in str(refused.value)
    assert len(folder.trials()) == 4
    write_study(file)
    assert len(resume_study(tmp_path / "out", workers=1).folder.trials()) == 10


def test_what_cannot_change_a_result_may_change(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of workers, the form of the file, the folder resumed from, its absence."""
    monkeypatch.chdir(home)
    file = write_study(Path("same.toml"))
    study = load_study(file).override(trials=12, seed=8)
    undisturbed = run_study(study, out=tmp_path / "undisturbed", workers=1)
    for number, change in enumerate(("workers", "form", "gone")):
        out = tmp_path / f"out {number}"
        monkeypatch.chdir(home)
        broken_off(study, out, 4)
        if change == "workers":
            write_study(file, workers={"count": 7})
        elif change == "form":
            file.write_text("# edited\n" + tomli_w.dumps(mapping("bars.parquet")))
        else:
            file.unlink()
        monkeypatch.chdir(tmp_path)
        assert_same(resume_study(out, workers=1).folder, undisturbed)


def test_changed_bars_are_refused(home: Path, tmp_path: Path) -> None:
    data = write_bars(tmp_path / "bars.parquet", random_bars())
    broken_off(small_study(data), tmp_path / "out", 4)
    for bars, words in (
        (random_bars(seed=2), "prices or volumes differ"),
        (random_bars(301), "number of bars was 300, is 301"),
        (random_bars(symbols=("AAA", "BBB")), "symbols was ['AAA', 'BBB', 'CCC'], is"),
    ):
        write_bars(data, bars)
        with pytest.raises(StudyError) as refused:
            resume_study(tmp_path / "out", workers=1)
        assert words in str(refused.value)
        assert str(data) in str(refused.value)
    data.unlink()
    with pytest.raises(DataError, match=r"bars\.parquet"):
        resume_study(tmp_path / "out", workers=1)
    write_bars(data, random_bars())
    assert len(resume_study(tmp_path / "out", workers=1).folder.trials()) == 10


@pytest.mark.parametrize("what", ["numpy", "kernels", "schema", "hash", "a key less"])
def test_another_program_is_refused(what: str, home: Path, tmp_path: Path) -> None:
    folder = broken_off(small_study(home / "bars.parquet"), tmp_path / "out", 4)
    manifest = folder.manifest()
    if what == "numpy":
        manifest["versions"]["numpy"] = "1.0.0"
        words = "started with numpy 1.0.0"
    elif what == "kernels":
        manifest["kernels"], words = "0" * 20, "kernels has changed"
    elif what == "schema":
        manifest["schema_version"], words = 999, "version 999"
    elif what == "hash":
        manifest["study"]["costs"]["slippage_bps"] = 0.0
        words = "study.json"
    else:
        del manifest["study_folder"]
        words = "'study_folder' is missing"
    folder.write_manifest(manifest)
    with pytest.raises(StudyError, match="another --out") as refused:
        resume_study(tmp_path / "out", workers=1)
    assert words in str(refused.value)
    assert len(folder.trials()) == 4


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_points_of_another_version_are_refused(
    sampler: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should a release of a dependency ask other points, nothing is mixed."""
    study = small_study(home / "bars.parquet", search={"sampler": sampler})
    folder = broken_off(study, tmp_path / "out", 8)
    before = result_hashes(folder)
    monkeypatch.setattr(asker, "sampler_seed", lambda seed, batch: seed + batch)
    bulk = bulk_tasks
    monkeypatch.setattr(
        asker, "bulk_tasks", lambda space, name, seed, *rest: bulk(space, name, 99, *rest)
    )
    with pytest.raises(StudyError, match=r"batch-000000\.parquet: trial 0 is not the one"):
        resume_study(tmp_path / "out", workers=1)
    assert result_hashes(folder) == before


def test_a_torn_manifest_is_named(home: Path, tmp_path: Path) -> None:
    folder = broken_off(small_study(home / "bars.parquet"), tmp_path / "out", 4)
    text = folder.manifest_path.read_text()
    folder.manifest_path.write_text(text[: len(text) // 2])
    with pytest.raises(StudyError, match=r"study\.json: cannot be read"):
        resume_study(tmp_path / "out", workers=1)
    folder.manifest_path.write_text(text)
    assert len(resume_study(tmp_path / "out", workers=1).folder.trials()) == 10


def test_differences_are_found_anywhere() -> None:
    before = {"a": {"b": [1, {"c": 2}], "d": None}, "e": 1}
    assert list(differences(before, json.loads(json.dumps(before)))) == []
    now = {"a": {"b": [1, {"c": 3}], "f": 0}, "e": 1}
    assert list(differences(before, now)) == [
        (("a", "b", "#2", "c"), 2, 3),
        (("a", "f"), None, 0),
    ]


# --- One process at a time --------------------------------------------------------------------


def test_six_starts_at_once(home: Path, tmp_path: Path) -> None:
    file = write_study(home / "six.toml", **tables_of("tpe"))
    undisturbed = run_study(load_study(file), out=tmp_path / "undisturbed", workers=1)
    out = tmp_path / "out"
    (tmp_path / "started").mkdir()
    commands = [
        Command(
            *("run", file, "--out", out, "--workers", 1),
            output=tmp_path / f"{n}.txt",
            prepare="tests.support.faults:start_together",
            own=[str(tmp_path / "started"), n, 6],
        )
        for n in range(6)
    ]
    codes = [command.wait() for command in commands]
    assert sorted(codes) == [0, 2, 2, 2, 2, 2]
    for command, code in zip(commands, codes, strict=True):
        if code:
            lines = [one for one in command.text().splitlines() if "estimate" not in one]
            assert len(lines) == 1, command.text()
            assert lines[0].startswith(f"error: {out}: ")
    assert_same(StudyFolder.open(out), undisturbed)


def test_a_second_process_is_refused(home: Path, tmp_path: Path) -> None:
    study = small_study(home / "bars.parquet")
    folder = broken_off(study, tmp_path / "out", 4)
    with exclusive_use(folder.path):
        for command in (
            Command("resume", folder.path, output=tmp_path / "resume.txt"),
            Command("run", write_study(home / "second.toml"), "--out", folder.path, "--overwrite",
                    output=tmp_path / "run.txt"),
        ):  # fmt: skip
            assert command.wait() == 2
            assert "another process is running a study there" in command.text()
            assert "Traceback" not in command.text()
    assert len(folder.trials()) == 4
    assert len(resume_study(folder.path, workers=1).folder.trials()) == 10


def test_overwriting_can_be_cut_anywhere(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while it deletes the previous study: that one can be resumed, nothing is mixed."""
    study = small_study(home / "bars.parquet")
    whole = run_study(study, out=tmp_path / "out", workers=1)
    expected = result_hashes(whole.folder)

    def killed(path: Path) -> None:
        (path / "batch-000001.parquet").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("optimizer.store.folder.shutil.rmtree", killed)
        other = small_study(home / "bars.parquet", study={"seed": 9})
        with pytest.raises(KeyboardInterrupt):
            run_study(other, out=tmp_path / "out", workers=1, overwrite=True)
    assert result_hashes(resume_study(tmp_path / "out", workers=1).folder) == expected


def test_hashes_tell_files_apart(home: Path, tmp_path: Path) -> None:
    """What the tests above compare by."""
    one = run_study(small_study(home / "bars.parquet"), out=tmp_path / "one", workers=1).folder
    path = one.batch_paths()[0]
    before = result_hashes(one)
    assert before[path.name] == hashlib.sha256(path.read_bytes()).hexdigest()
    path.write_bytes(path.read_bytes() + b"x")
    assert result_hashes(one) != before


def test_no_pickle_of_a_recorded_trial_is_read(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CMA-ES notes its state as a pickle in Optuna's trials; a resumed study never reads one back."""
    study = small_study(data, search={"sampler": "cmaes", "trials": 8, "batch": 4})
    folder = run_study(study, out=tmp_path / "out", workers=1).folder
    wanted = result_hashes(folder)
    folder.batch_paths()[-1].unlink()

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a pickle of a folder is read")

    monkeypatch.setattr(pickle, "loads", refuse)
    monkeypatch.setattr(pickle, "load", refuse)
    assert result_hashes(resume_study(tmp_path / "out", workers=1).folder) == wanted
