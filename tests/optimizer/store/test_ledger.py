"""The ledger: nothing that was tried on some bars is forgotten, and no study fails for its sake."""

from __future__ import annotations

import logging
import os
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from optimizer.cli import results
from optimizer.errors import StudyError
from optimizer.files import ledger_path
from optimizer.review.records import judged
from optimizer.search.result import StudyResult
from optimizer.search.run import run_study
from optimizer.selection.record import load_selection
from optimizer.selection.verdict import judge
from optimizer.store import ledger
from optimizer.store.ledger import entries, n_tried, note
from optimizer.store.query import cell
from optimizer.study_file.bars import load_study_bars
from tests.support.studies import random_bars, small_study, write_bars

OWN = Path.home() / ".local" / "share" / "barsweep" / "ledger.db"


@pytest.fixture(autouse=True)
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ledger of its own for each test, whose folder is not there yet."""
    place = tmp_path / "new" / "ledger.db"
    monkeypatch.setenv("BARSWEEP_LEDGER", str(place))
    return place


def run(data: Path, out: Path, /, **tables: Any) -> StudyResult:
    search = {"trials": 6, **tables.pop("search", {})}
    return run_study(small_study(data, search=search, **tables), out=out, workers=1)


def hash_of(result: StudyResult) -> str:
    return load_study_bars(result.study).content_hash


def barsweep(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "optimizer", *map(str, arguments)],
        env={**os.environ, "TERM": "dumb", **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


# --- Where it is ------------------------------------------------------------------------------


def test_the_tests_have_a_ledger_of_their_own(path: Path) -> None:
    assert os.environ["BARSWEEP_LEDGER"] == str(path)
    assert ledger_path() == path != OWN


def test_the_file_is_in_the_user_s_data_folder_unless_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("BARSWEEP_LEDGER")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert ledger_path() == tmp_path / "data" / "barsweep" / "ledger.db"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert ledger_path() == tmp_path / "home" / ".local" / "share" / "barsweep" / "ledger.db"
    monkeypatch.setenv("BARSWEEP_LEDGER", "")
    assert ledger_path() == tmp_path / "home" / ".local" / "share" / "barsweep" / "ledger.db"


def test_a_user_without_a_home_is_told_to_name_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("BARSWEEP_LEDGER")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    for use in (lambda: note("d", "s", "n", "f", 1), lambda: n_tried("d")):
        with pytest.raises(StudyError, match="BARSWEEP_LEDGER"):
            use()


# --- What it holds ----------------------------------------------------------------------------


def test_an_empty_ledger_is_not_made_by_reading(path: Path) -> None:
    assert entries() == []
    assert n_tried("d") == 0
    assert not path.parent.exists()


def test_studies_on_the_same_bars_add_up() -> None:
    note("bars 1", "study 1", "one", "/a.parquet", 10)
    note("bars 1", "study 2", "two", "/a.parquet", 5)
    note("bars 2", "study 1", "one", "/b.parquet", 100)
    assert n_tried("bars 1") == 15
    assert n_tried("bars 2") == 100
    assert n_tried("bars 3") == 0
    assert [(e.data_hash, e.study_hash, e.n_sets) for e in entries()] == [
        ("bars 1", "study 1", 10),
        ("bars 1", "study 2", 5),
        ("bars 2", "study 1", 100),
    ]


def test_a_study_counts_once_and_never_less() -> None:
    note("bars", "study", "old name", "/old.parquet", 10)
    note("bars", "study", "new name", "/new.parquet", 4)
    (only,) = entries()
    assert (only.n_sets, only.study, only.data) == (10, "new name", "/new.parquet")
    note("bars", "study", "new name", "/new.parquet", 12)
    assert n_tried("bars") == 12


MANY = """
import sys
from optimizer.store import ledger
print("ready", flush=True)
sys.stdin.readline()
for n in range(1, 21):
    ledger.note("bars", f"study {sys.argv[1]}", "name", "file", n)
    ledger.note("bars", f"study {sys.argv[1]} {n}", "name", "file", 1)
    ledger.note("bars", "shared", "name", "file", 100 * int(sys.argv[1]) + n)
"""


def test_six_processes_at_once_lose_nothing() -> None:
    """They start together on a ledger that is not there yet."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", MANY, str(number)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for number in range(6)
    ]  # fmt: skip
    for one in processes:
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
    with ThreadPoolExecutor(6) as threads:
        ends = list(threads.map(lambda one: one.communicate("go\n", timeout=120), processes))
    assert [one.returncode for one in processes] == [0] * 6, ends
    assert n_tried("bars") == 6 * 20 + 6 * 20 + 520
    assert len(entries()) == 6 * 21 + 1


# --- Studies ----------------------------------------------------------------------------------


def test_a_study_notes_the_distinct_sets_it_tried(data: Path, tmp_path: Path) -> None:
    result = run(data, tmp_path / "out")
    (entry,) = entries()
    assert entry.data_hash == hash_of(result)
    assert entry.study_hash == result.study.space_hash
    assert (entry.study, entry.data) == ("small", str(data))
    assert entry.n_sets == result.folder.n_distinct() == len(result.results()) == 24


def test_points_asked_twice_count_once(data: Path, tmp_path: Path) -> None:
    risk = {"max_exposure": 0.5, "volatility_lookback": 20}
    strategy = {"lookback": {"choices": [10, 20]}}
    result = run(data, tmp_path / "out", risk=risk, strategy=strategy)
    assert len(result.results()) == 24
    assert n_tried(hash_of(result)) == 8
    found = load_selection(result.folder)
    assert found is not None
    assert found.n_tried == 8


def test_the_same_study_again_counts_once(data: Path, tmp_path: Path) -> None:
    first = run(data, tmp_path / "first")
    run(data, tmp_path / "again")
    assert n_tried(hash_of(first)) == 24
    run(data, tmp_path / "other seed", study={"seed": 4})
    assert n_tried(hash_of(first)) == 48


def test_other_bars_count_apart(data: Path, tmp_path: Path) -> None:
    run(data, tmp_path / "first")
    other = write_bars(tmp_path / "other.parquet", random_bars(seed=2))
    assert n_tried(hash_of(run(other, tmp_path / "second"))) == 24
    assert len(entries()) == 2


def test_a_second_study_lowers_the_first_one_s_deflated_sharpe_ratio(
    data: Path, tmp_path: Path, capsys: Any
) -> None:
    first = run(data, tmp_path / "first")
    found = load_selection(first.folder)
    assert found is not None
    before = judge(found, n_tried(hash_of(first)))
    assert before.n_tried == 24
    number = found.sets[0].number
    assert before.dsr == pytest.approx(found.sets[0].dsr)
    run(data, tmp_path / "second", study={"seed": 9}, search={"trials": 50})
    after = judge(found, n_tried(hash_of(first)))
    assert after.n_tried == 224
    assert before.dsr is not None
    assert after.dsr is not None
    assert after.dsr < before.dsr
    results.show_study(first.folder.path, 3)
    shown = capsys.readouterr().out
    assert f"deflated Sharpe ratio {after.dsr:.3f} for 224 sets tried on these bars" in shown
    assert judged(first.folder).verdict == after
    [best] = [line for line in shown.splitlines() if line.strip().startswith(f"{number} ")]
    assert f" {cell(after.dsr)} " in best, "the table's odds are those of the verdict"


def spoil(path: Path, how: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if how == "not a database":
        path.write_text("not a database\n" * 100)
    elif how == "a folder":
        path.mkdir()
    elif how == "other tables":
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE studies (something TEXT)")
    elif how == "in a file":
        path.parent.rmdir()
        path.parent.write_text("")


@pytest.mark.parametrize("how", ["not a database", "a folder", "other tables", "in a file"])
def test_a_ledger_that_cannot_be_used_is_one_warning(
    how: str, path: Path, data: Path, tmp_path: Path, caplog: Any, capsys: Any
) -> None:
    spoil(path, how)
    with caplog.at_level(logging.WARNING):
        result = run(data, tmp_path / "out")
    assert result.folder.manifest()["complete"]
    assert len(result.folder.batch_paths()) == 2
    (warning,) = [r for r in caplog.records if "ledger" in r.getMessage()]
    assert str(path) in warning.getMessage()
    assert "this study is not in it" in warning.getMessage()
    assert "\n" not in warning.getMessage()
    results.show_study(result.folder.path, 3)
    shown = capsys.readouterr().out
    if how != "in a file":
        assert "only the sets of this study are counted" in shown
    assert "for 24 sets tried on these bars" in shown


def test_errors_of_the_ledger_are_one_line(path: Path) -> None:
    spoil(path, "not a database")
    for use in (lambda: note("d", "s", "n", "f", 1), entries):
        with pytest.raises(StudyError) as raised:
            use()
        message = str(raised.value)
        assert message.startswith(f"{path}: the ledger cannot be used: ")
        assert "BARSWEEP_LEDGER" in message
        assert "\n" not in message
    assert path.read_text().startswith("not a database"), "a user's file is left as it is"


def test_a_null_byte_in_the_path_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "ledger_path", lambda: Path("a\0b"))
    with pytest.raises(StudyError, match="the ledger cannot be used"):
        note("d", "s", "n", "f", 1)


# --- The command ------------------------------------------------------------------------------


def test_the_command_shows_what_was_tried(path: Path) -> None:
    empty = barsweep("ledger")
    assert (empty.returncode, empty.stderr) == (0, "")
    assert empty.stdout.splitlines() == ["nothing tried yet", f"ledger: {path}"]
    note("a" * 64, "b" * 64, "momentum", "/bars/us.parquet", 12345)
    note("a" * 64, "c" * 64, "breakout", "/bars/us.parquet", 1000)
    note("d" * 64, "e" * 64, "momentum", "/bars/fx.parquet", 7)
    found = barsweep("ledger")
    assert (found.returncode, found.stderr) == (0, "")
    lines = [" ".join(line.split()) for line in found.stdout.splitlines()]
    assert any(
        line.startswith("aaaaaaaaaaaa momentum bbbbbbbb 12,345 ")
        and line.endswith("/bars/us.parquet")
        for line in lines
    )
    assert "bars aaaaaaaaaaaa: 13,345 sets in all" in lines
    assert "bars dddddddddddd: 7 sets in all" in lines
    assert lines[-1] == f"ledger: {path}"


def test_the_command_on_a_spoilt_ledger_exits_with_2(path: Path) -> None:
    spoil(path, "not a database")
    found = barsweep("ledger")
    assert found.returncode == 2
    assert len(found.stderr.splitlines()) == 1
    assert found.stderr.startswith(f"error: {path}: the ledger cannot be used")


def test_no_test_has_written_to_the_user_s_own_ledger(data: Path, tmp_path: Path) -> None:
    before = OWN.stat().st_mtime_ns if OWN.exists() else None
    run(data, tmp_path / "out")
    after = OWN.stat().st_mtime_ns if OWN.exists() else None
    assert before == after
