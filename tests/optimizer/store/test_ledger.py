"""The ledger: nothing that was tried on some bars is forgotten, and no study fails for its sake."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optimizer.cli import results
from optimizer.errors import StudyError
from optimizer.files import ledger_path
from optimizer.review.records import judged
from optimizer.search.progress import Progress
from optimizer.search.result import StudyResult
from optimizer.search.run import run_study
from optimizer.selection.looks import looks_with
from optimizer.selection.record import load_selection
from optimizer.selection.tried import everything_tried, known_draws
from optimizer.store import ledger
from optimizer.store.ledger import note, note_look, read_ledger, set_aside
from optimizer.store.ledger_entries import Ledger, Look, Search
from optimizer.study_file.bars import load_study_bars
from optimizer.types import Float32Array
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
    for use in (lambda: note(search(), draws()), read_ledger):
        with pytest.raises(StudyError, match="BARSWEEP_LEDGER"):
            use()


# --- What it holds ----------------------------------------------------------------------------

DAY = 86_400 * 10**9


def search(**changes: Any) -> Search:
    """A study on 1,000 daily bars of two symbols."""
    return Search(
        **{
            "study_hash": "a" * 64,
            "data_hash": "b" * 64,
            "study": "one",
            "data": "/bars.parquet",
            "symbols": ("AAA", "BBB"),
            "bar_ns": DAY,
            "start_ns": 0,
            "stop_ns": 1000 * DAY,
            "n_sets": 10,
            **changes,
        }
    )


def draws(*values: float) -> Float32Array:
    return np.array(values, np.float32)


def test_an_empty_ledger_is_not_made_by_reading(path: Path) -> None:
    assert read_ledger() == Ledger(())
    assert not path.parent.exists()


def test_a_study_counts_once_and_never_less() -> None:
    note(search(), draws(1.0, 5.0))
    note(search(study="new name", n_sets=4), draws(3.0, 2.0))
    note(search(study="new name", n_sets=4), draws(3.0, 2.0))  # changes nothing
    ledger = read_ledger()
    assert [one.number for one in ledger.entries] == [1, 2] and ledger.broken is None
    ((entry, only),) = ledger.searches()
    assert (entry.number, only.n_sets, only.study) == (2, 10, "new name")
    assert entry.maxima.tolist() == [3.0, 5.0]


@pytest.mark.parametrize(
    ("changes", "overlap"),
    [
        ({"stop_ns": 1001 * DAY}, True),  # one more bar
        ({"symbols": ("AAA",)}, True),  # one symbol less
        ({"symbols": ("BBB", "AAA")}, True),
        ({"symbols": ("AAA", "CCC")}, True),
        ({"symbols": ("CCC",)}, False),
        ({"start_ns": 1000 * DAY, "stop_ns": 2000 * DAY}, True),  # one bar in common
        ({"start_ns": 1001 * DAY, "stop_ns": 2000 * DAY}, False),
        ({"bar_ns": DAY // 24}, False),
        ({"bar_ns": DAY * 7 // 5}, True),  # a few bars more or less change the usual distance
    ],
)
def test_studies_overlap_by_symbol_size_and_time(changes: dict[str, Any], overlap: bool) -> None:
    one, other = search(), search(data_hash="c" * 64, **changes)
    note(one, draws(1.0))
    note(other, draws(2.0))
    assert one.overlaps(other) == other.overlaps(one) == overlap
    found = read_ledger()
    assert [entry.number for entry, _ in found.overlapping(one)] == ([2] if overlap else [])
    assert [entry.number for entry, _ in found.overlapping(other)] == ([1] if overlap else [])


def test_what_is_set_aside_is_kept_with_its_reason() -> None:
    note(search(), draws(1.0))
    note(search(data_hash="c" * 64), draws(2.0))
    set_aside(1, " its bars were wrong ")
    found = read_ledger()
    assert [one.number for one in found.entries] == [1, 2, 3]
    assert found.set_aside()[1].reason == "its bars were wrong"
    assert [entry.number for entry, _ in found.searches()] == [2]
    for number, reason, words in (
        (1, "again", "entry 1 does not count"),
        (3, "no study", "entry 3 does not count"),
        (9, "missing", "entry 9 does not count"),
        (2, "  ", "the reason is empty"),
        (2, "two\nlines", "give one line"),
    ):
        with pytest.raises(StudyError, match=words):
            set_aside(number, reason)
    note(search(), draws(1.0))  # the study is run again
    assert [entry.number for entry, _ in read_ledger().searches()] == [2, 4]


# --- Looks at a holdout -----------------------------------------------------------------------


def look(why: str = "verdict", seen: str = "1", /, **changes: Any) -> Look:
    """A look at the 200 days after those of ``search``."""
    return Look(
        **{
            **{name: value for name, value in vars(search()).items() if name != "n_sets"},
            "start_ns": 1001 * DAY,
            "stop_ns": 1200 * DAY,
            "why": why,
            "seen": seen * 64 if why == "verdict" else "",
            **changes,
        }
    )


def test_a_verdict_that_sees_nothing_new_is_one_look_and_an_unsealing_always_one() -> None:
    first = note_look(look())
    assert note_look(look(study="new name")).number == first.number == 1
    assert note_look(look("verdict", "2")).number == 2  # the same study chose another set
    assert [note_look(look("unsealed")).number for _ in range(2)] == [3, 4]
    found = read_ledger()
    assert found.broken is None
    assert [entry.number for entry, _ in found.looks()] == [1, 2, 3, 4]
    assert [entry.number for entry, _ in found.other_looks(look())] == [2, 3, 4]
    assert found.searches() == []


@pytest.mark.parametrize(
    ("changes", "seen"),
    [
        ({}, True),
        ({"start_ns": 1200 * DAY, "stop_ns": 1300 * DAY}, True),  # one bar in common
        ({"start_ns": 1201 * DAY, "stop_ns": 1300 * DAY}, False),
        ({"start_ns": 900 * DAY, "stop_ns": 1000 * DAY}, False),
        ({"symbols": ("BBB", "CCC")}, True),
        ({"symbols": ("CCC",)}, False),
        ({"bar_ns": DAY // 24}, False),
    ],
)
def test_looks_count_where_they_share_bars(changes: dict[str, Any], seen: bool) -> None:
    other = {"study_hash": "c" * 64, "data_hash": "d" * 64}
    note_look(look(**other, **changes))
    assert len(read_ledger().other_looks(look())) == int(seen)


def test_a_study_that_runs_again_with_each_new_bar_has_looked_once() -> None:
    """For itself and for others, whose count is the same in either order."""
    own = [look(data_hash=f"{day}" * 64, stop_ns=(1200 + day) * DAY) for day in range(4)]
    for one in (own[1], own[0], own[2]):
        note_look(one)
    assert len(read_ledger().looks()) == 3  # each says which bars were seen
    for one in own:
        assert read_ledger().other_looks(one) == []
    other = look(study_hash="c" * 64)
    assert [entry.number for entry, _ in read_ledger().other_looks(other)] == [1]
    # Another winner, an unsealing and a study that has seen the new bar alone are looks of their own.
    note_look(look("verdict", "2", data_hash="2" * 64))
    note_look(look("unsealed", data_hash="1" * 64))
    assert [entry.number for entry, _ in read_ledger().other_looks(own[3])] == [4, 5]
    late = {"start_ns": 1202 * DAY, "stop_ns": 1300 * DAY, "study_hash": "c" * 64}
    assert [entry.number for entry, _ in read_ledger().other_looks(look(**late))] == [3]


def test_whoever_searched_the_bars_of_a_holdout_has_seen_them() -> None:
    """First all bars without a holdout, then the same bars with one, is no way around."""
    note(search(study_hash="c" * 64, stop_ns=1200 * DAY), draws(1.0))
    note(search(study_hash="c" * 64, stop_ns=1200 * DAY, n_sets=20), draws(2.0))  # goes on
    note(search(), draws(1.0))  # the study itself, whose bars end before its holdout
    found = read_ledger().other_looks(look())
    assert [entry.number for entry, _ in found] == [2]
    set_aside(2, "its bars were wrong")
    assert read_ledger().other_looks(look()) == []


def test_a_look_can_be_set_aside(path: Path) -> None:
    note_look(look())
    note_look(look("unsealed"))
    set_aside(2, "a mistake")
    assert [entry.number for entry, _ in read_ledger().looks()] == [1]
    with pytest.raises(StudyError, match="entry 2 does not count"):
        set_aside(2, "again")
    listed, one, two = (barsweep("ledger", *more).stdout for more in ((), (1,), (2,)))
    assert "verdict" in listed and "entry 2 is set aside: a mistake" in listed
    assert "the verdict on study one aaaaaaaa looked at its winner over the holdout" in one
    assert "nobody else has seen any of its bars" in one
    assert "was opened for all sets" in two and "set aside, so no p-value" in two
    note_look(look())
    note_look(look("verdict", "2"))
    said = barsweep("ledger", 1).stdout
    assert "seen by entry 4 too: p-values out-of-sample are corrected for 2 looks" in said
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE entries SET content = replace(content, 'verdict', 'unsealed')")
        database.commit()
    assert read_ledger().broken == 1


@pytest.mark.parametrize(
    ("statement", "broken"),
    [
        ("UPDATE entries SET maxima = zeroblob(8) WHERE number = 2", 2),
        ("UPDATE entries SET content = replace(content, '10', '1') WHERE number = 1", 1),
        ("UPDATE entries SET time = '2020-01-01T00:00:00+00:00' WHERE number = 3", 3),
        ("DELETE FROM entries WHERE number = 2", 3),
        ("DELETE FROM entries WHERE number = 1", 2),
        ("UPDATE entries SET number = 7 WHERE number = 3", 7),
    ],
)
def test_an_entry_that_was_changed_or_removed_is_found(
    statement: str, broken: int, path: Path
) -> None:
    for letter in "abc":
        note(search(data_hash=letter * 64), draws(1.0, 2.0))
    assert read_ledger().broken is None
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute(statement)
        database.commit()
    assert read_ledger().broken == broken
    done = barsweep("ledger")
    assert f"entry {broken} is not as it was written" in done.stdout


MANY = """
import sys
import numpy as np
from optimizer.store.ledger import note
from optimizer.store.ledger_entries import Search
own = int(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for n in range(1, 11):
    for study in (f"{own}" * 64, f"{own}{n:02d}" + "0" * 61, "f" * 64):
        what = Search(study, "b" * 64, "name", "file", ("AAA",), 1, 0, 1, 100 * own + n)
        note(what, np.full(4, n, np.float32))
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
    found = read_ledger()
    assert found.broken is None
    counts = [one.n_sets for _, one in found.searches()]
    assert len(counts) == 6 * 11 + 1 and max(counts) == 510
    assert sum(counts) == sum(11 * 100 * own + 55 + 10 for own in range(6)) + 510


# --- Studies ----------------------------------------------------------------------------------


def test_a_study_notes_what_it_tried(data: Path, tmp_path: Path) -> None:
    result = run(data, tmp_path / "out")
    ((entry, found),) = read_ledger().searches()
    bars, manifest = load_study_bars(result.study), result.folder.manifest()
    assert found.data_hash == bars.content_hash
    assert found.study_hash == result.study.space_hash
    assert (found.study, found.data, found.symbols) == ("small", str(data), bars.symbols)
    assert found.n_sets == result.folder.n_distinct() == len(result.results()) == 24
    times = bars.timestamps.astype(np.int64)
    assert (found.bar_ns, found.start_ns) == (DAY, times[manifest["first_bar"]])
    assert found.stop_ns == times[manifest["holdout_bar"] - 1]
    assert entry.maxima.tobytes() == known_draws(result.folder.maxima()).tobytes()
    selection = load_selection(result.folder)
    assert selection is not None and selection.search == found
    assert np.array(selection.maxima, np.float32).tobytes() == entry.maxima.tobytes()


def test_points_asked_twice_count_once(data: Path, tmp_path: Path) -> None:
    risk = {"max_exposure": 0.5, "volatility_lookback": 20}
    strategy = {"lookback": {"choices": [10, 20]}}
    result = run(data, tmp_path / "out", risk=risk, strategy=strategy)
    assert len(result.results()) == 8  # each point once, whatever the sampler asked
    assert [one.n_sets for _, one in read_ledger().searches()] == [8]
    found = load_selection(result.folder)
    assert found is not None
    assert found.n_tried == 8


def test_a_study_that_is_stopped_has_noted_what_it_tried(data: Path, tmp_path: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.trials >= 4:
            raise KeyboardInterrupt

    study = small_study(data, search={"trials": 6, "batch": 2})
    with pytest.raises(KeyboardInterrupt):
        run_study(study, out=tmp_path / "out", workers=1, on_progress=stop)
    assert [one.n_sets for _, one in read_ledger().searches()] == [16]


def test_the_windows_of_a_walk_forward_are_not_charged(data: Path, tmp_path: Path) -> None:
    validation = {"method": "walk_forward", "blocks": 4}
    result = run(data, tmp_path / "out", search={"sampler": "tpe"}, validation=validation)
    selection = load_selection(result.folder)
    assert selection is not None and selection.one_search_per_window
    ((_, only),) = read_ledger().searches()
    assert only.n_sets == result.folder.n_distinct()


def test_one_more_bar_a_day_is_no_further_look(tmp_path: Path) -> None:
    bars, strategy = random_bars(300), {"lookback": 20, "threshold": 0.0}
    risk = {"kelly_fraction": 0.2, "max_exposure": 1.0, "volatility_lookback": 20}
    tables = {"strategy": strategy, "risk": risk, "search": {"trials": 1}}
    for n_bars in (298, 299, 300):
        data = write_bars(tmp_path / "bars.parquet", bars.head(n_bars))
        study = small_study(data, **tables)
        before = looks_with(study, bars.head(n_bars), 250)
        result = run_study(study, out=tmp_path / f"out {n_bars}", workers=1)
        selection = load_selection(result.folder)
        assert selection is not None
        assert (before, everything_tried(selection).n_looks) == (1, 1)
    assert len(read_ledger().looks()) == 3


def p_values(result: StudyResult) -> tuple[float | None, float | None]:
    selection = judged(result.folder).selection
    assert selection is not None
    return selection.sets[0].own_p, selection.sets[0].p


def test_two_studies_end_with_the_same_p_value_in_either_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """The second one has one bar more, one symbol less, and another space."""
    bars = random_bars(300)
    one = write_bars(tmp_path / "one.parquet", bars.head(299))
    two = write_bars(tmp_path / "two.parquet", random_bars(300, ("AAA", "BBB")))

    def both(order: str) -> dict[str, tuple[float | None, float | None]]:
        monkeypatch.setenv("BARSWEEP_LEDGER", str(tmp_path / f"{order}.db"))
        results = {}
        for name in order:
            data, seed = (one, 3) if name == "1" else (two, 9)
            results[name] = run(data, tmp_path / f"{order} {name}", study={"seed": seed})
        return {name: p_values(result) for name, result in results.items()}

    first, other = both("12"), both("21")
    assert first == other
    for own, corrected in first.values():
        assert own is not None and corrected is not None and own <= corrected
    assert any(own != corrected for own, corrected in first.values())
    results.show_study(tmp_path / "12 1", 3)
    shown = capsys.readouterr().out
    assert "over its own 24 sets, " in shown
    assert " over all 48 tried on these bars in 2 studies" in shown
    assert f"ledger:  {tmp_path / '21.db'}" in shown


def test_bars_that_do_not_overlap_correct_nothing(tmp_path: Path) -> None:
    own = run(write_bars(tmp_path / "a.parquet", random_bars(300)), tmp_path / "a")
    before = p_values(own)
    other = random_bars(300, ("DDD", "EEE"))
    run(write_bars(tmp_path / "b.parquet", other), tmp_path / "b")
    assert p_values(own) == before
    assert len(read_ledger().searches()) == 2


def spoil(path: Path, how: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if how == "not a database":
        path.write_text("not a database\n" * 100)
    elif how == "a folder":
        path.mkdir()
    elif how == "other tables":
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE entries (something TEXT)")
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
    assert "over 24 sets tried on these bars" in shown


def test_errors_of_the_ledger_are_one_line(path: Path) -> None:
    spoil(path, "not a database")
    for use in (lambda: note(search(), draws()), read_ledger):
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
        note(search(), draws())


# --- The command ------------------------------------------------------------------------------


def test_the_command_shows_what_was_tried(path: Path) -> None:
    empty = barsweep("ledger")
    assert (empty.returncode, empty.stderr) == (0, "")
    assert empty.stdout.splitlines() == ["nothing tried yet", f"ledger: {path}"]
    note(search(n_sets=12345), np.arange(1000, dtype=np.float32))
    note(search(data_hash="c" * 64, study="two", symbols=tuple("ABCDE"), bar_ns=DAY // 24), draws())
    note(search(data_hash="d" * 64, study="three", stop_ns=1001 * DAY), draws(1.0))
    found = barsweep("ledger")
    assert (found.returncode, found.stderr) == (0, "")
    lines = [" ".join(line.split()) for line in found.stdout.splitlines()]
    assert any(
        line.startswith("1 one 12,345 AAA BBB 1-day bars 1970-01-01 to 1972-09-27")
        for line in lines
    )
    assert any(line.startswith("2 two 10 A B C and 2 more 1-hour bars") for line in lines)
    assert lines[-1] == f"ledger: {path}"
    one = barsweep("ledger", 1).stdout
    assert "study one aaaaaaaa tried 12,345 sets" in one
    assert "reaches a statistic of 949.05 in 1 of 20 cases" in one
    assert "overlap with those of entries 3:" in one
    assert "no other study has searched any of its bars" in barsweep("ledger", 2).stdout


def test_the_command_sets_an_entry_aside(path: Path) -> None:
    note(search(), draws(1.0))
    done = barsweep("ledger", 1, "--set-aside", "prices of a test")
    assert (done.returncode, done.stderr) == (0, "")
    assert "set aside, so no p-value is corrected for it: prices of a test" in done.stdout
    assert "entry 1 is set aside: prices of a test" in barsweep("ledger").stdout
    assert "sets entry 1 aside: prices of a test" in barsweep("ledger", 2).stdout
    for arguments, words in (
        (("--set-aside", "why"), "needs the number of an ENTRY"),
        ((7,), "no entry 7; it has 1 to 2"),
        ((1, "--set-aside", "why"), "entry 1 does not count"),
    ):
        wrong = barsweep("ledger", *arguments)
        assert (wrong.returncode, len(wrong.stderr.splitlines())) == (2, 1)
        assert words in wrong.stderr


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
