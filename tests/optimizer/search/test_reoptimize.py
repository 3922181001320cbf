"""A study that is run again on newer bars: which set is traded next, and what survives a kill."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w

from optimizer.catalogue import METRICS
from optimizer.errors import BarsweepError
from optimizer.review.backtest import backtest
from optimizer.review.replay import replay
from optimizer.review.rerun import parameters_of
from optimizer.search.hysteresis import Standing, decide
from optimizer.search.reoptimization_files import Note
from optimizer.search.reoptimize import Reoptimization, reoptimize
from optimizer.search.run import run_study
from optimizer.store.export import export_sets, load_export
from optimizer.store.folder import StudyFolder
from optimizer.store.ledger import read_ledger
from optimizer.study_file.load import load_study
from optimizer.study_file.search_tables import SearchTable
from optimizer.trading.orders import next_orders
from optimizer.types import Bars
from tests.support.command import barsweep
from tests.support.processes import Command, wait_until
from tests.support.studies import changed, mapping, random_bars, small_study, write_bars

EVERY = changed(random_bars(400), 300, 0.4)
"""Bars of a study and of two later windows; from bar 300 on prices fall."""

N_STUDY, N_LATER = 250, 330


def tail(bars: Bars, first: int) -> Bars:
    """The bars from ``first`` on."""
    names = ("timestamps", "open", "high", "low", "close", "volume")
    return replace(bars, **{name: getattr(bars, name)[first:] for name in names})


@pytest.fixture(autouse=True)
def own_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BARSWEEP_LEDGER", str(tmp_path / "own" / "ledger.db"))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study, its bars, and the same file as it is later, twice."""
    home = tmp_path_factory.mktemp("again")
    write_bars(home / "bars.parquet", EVERY.head(N_STUDY))
    write_bars(home / "later.parquet", EVERY.head(N_LATER))
    write_bars(home / "last.parquet", EVERY)
    (home / "study.toml").write_text(tomli_w.dumps(mapping("bars.parquet")))
    return home


@pytest.fixture(scope="module")
def first(home: Path) -> Reoptimization:
    """The first reoptimisation: there is no set yet."""
    return again(home, "later.parquet", home / "first")


def again(home: Path, data: str, out: Path, **options: Any) -> Reoptimization:
    return reoptimize(load_study(home / "study.toml"), home / data, out=out, workers=1, **options)


def files(out: Path) -> dict[str, bytes]:
    """All that a reoptimisation leaves but for what records when: Optuna's journal."""
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name != "optuna.journal"
    }


# --- The set and its search ------------------------------------------------------------------------


def test_the_search_is_the_study_on_its_window(
    home: Path, first: Reoptimization, tmp_path: Path
) -> None:
    """As many bars as the study has, up to the last one: the rows of a study of these bars alone."""
    window = tail(EVERY.head(N_LATER), N_LATER - N_STUDY)
    data = write_bars(tmp_path / "bars.parquet", window)
    alone = run_study(small_study(data), out=tmp_path / "out", workers=1)
    found = StudyFolder.open(first.study)
    assert found.results().equals(alone.results())
    assert found.manifest()["data_hash"] == window.content_hash
    assert (first.note.start, first.note.end) == tuple(str(window.timestamps[i]) for i in (0, -1))
    assert (first.note.outcome, first.note.old) == ("changed", None)
    assert first.note.new is not None and first.note.new.number == alone.best(1)["set"].iloc[0]


def test_the_next_set_is_an_export_like_any_other(home: Path, first: Reoptimization) -> None:
    again = replay(first.path)
    assert not again.differences and not again.sealed
    assert again.bars.n_bars == N_STUDY
    # Newer bars go on where those of the window ended; the kept bars tell what was revised in them.
    orders = next_orders(first.path, data=home / "last.parquet")
    assert orders.history.n_new == EVERY.n_bars - N_LATER and not orders.history.revised
    assert load_export(first.path)["data"]["path"] == "../later.parquet"
    assert first.path.with_suffix(".bars.parquet").is_file()


def test_each_reoptimisation_counts_as_a_study_and_a_look(home: Path, tmp_path: Path) -> None:
    again(home, "later.parquet", tmp_path / "out")
    again(home, "last.parquet", tmp_path / "out")
    ledger = read_ledger()
    assert [one.n_sets for _, one in ledger.searches()] == [40, 40]
    assert len(ledger.looks()) == 2


def test_the_old_set_is_judged_on_the_same_window(
    home: Path, first: Reoptimization, tmp_path: Path
) -> None:
    shutil.copytree(first.path.parent, tmp_path / "out")
    found = again(home, "last.parquet", tmp_path / "out")
    note = found.note
    assert note.old is not None and note.new is not None
    window = tail(EVERY, EVERY.n_bars - N_STUDY)
    manifest = StudyFolder.open(found.study).manifest()
    document = load_export(first.path)["sets"][0]
    alone = backtest(
        window,
        parameters_of(document),
        holdout=0.25,
        first_bar=manifest["first_bar"],
    )
    assert note.old.values == [alone.in_sample["sharpe"]]
    assert note.outcome == "changed"
    assert note.new.values[0] > 1.1 * note.old.values[0]  # type: ignore[operator]
    assert not replay(found.path).differences
    assert {path.name for path in (tmp_path / "out").glob("2*")} == {
        first.study.parent.name,
        found.study.parent.name,
    }
    text = (tmp_path / "out" / "changes.md").read_text()
    assert text.index("no set was traded before") < text.index("more than the margin")


def test_a_set_that_is_not_beaten_by_the_margin_stays_as_it_is(
    home: Path, first: Reoptimization, tmp_path: Path
) -> None:
    shutil.copytree(first.path.parent, tmp_path / "out")
    before = (tmp_path / "out" / "next.json").read_bytes()
    found = again(home, "last.parquet", tmp_path / "out", margin=1e6)
    assert not found.changed and found.note.outcome == "kept"
    assert found.path.read_bytes() == before
    assert found.note.old_file == found.note.new_file
    # Nothing of the holdout of either set is in the note.
    assert "out_of_sample" not in (found.study.parent / "note.json").read_text()


def test_a_set_elsewhere_is_replaced_in_its_place(home: Path, tmp_path: Path) -> None:
    """The best set of the study itself is the one that is traded."""
    study = run_study(load_study(home / "study.toml"), out=tmp_path / "study", workers=1)
    best = export_sets(study, out=tmp_path / "best.toml", format="toml")
    before = best.read_bytes()
    kept = again(home, "last.parquet", tmp_path / "out", next_file=best, margin=1e6)
    assert kept.note.outcome == "kept" and best.read_bytes() == before
    found = again(home, "last.parquet", tmp_path / "out", next_file=best)
    assert found.note.outcome == "changed" and found.path == best
    assert not replay(best).differences
    assert found.note.old == kept.note.old and found.study == kept.study


def test_windows(home: Path, tmp_path: Path) -> None:
    """``bars`` names the length of the window; an anchored study takes all bars."""
    found = again(home, "last.parquet", tmp_path / "short", bars=200)
    assert found.note.n_bars == 200 and found.note.end == str(EVERY.timestamps[-1])
    anchored = load_study(home / "study.toml").with_(validation={"anchored": True})
    found = reoptimize(anchored, home / "last.parquet", out=tmp_path / "all", workers=1)
    assert found.note.n_bars == EVERY.n_bars


# --- The rule --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("search", "old", "new", "margin", "changed", "why"),
    [
        ({}, None, [1.0], 0.1, True, "no set was traded before"),
        ({}, [1.0], [1.2], 0.1, True, "sharpe 1.2 against 1: better by 0.2, more than"),
        ({}, [1.0], [1.1], 0.125, False, "better by 0.1, not more than the margin of 0.125"),
        ({}, [1.0], [1.125], 0.125, False, "not more"),
        ({}, [1.0], [0.5], 0.1, False, "worse by 0.5"),
        ({}, [-1.0], [-0.95], 0.1, False, "not more"),
        ({}, [-1.0], [-0.8], 0.1, True, "more than"),
        ({}, [0.0], [0.01], 0.1, True, "more than the margin of 0"),
        ({}, [1.0], [1.0], 0.0, False, "the same"),
        ({}, [None], [0.1], 0.1, True, "no sharpe on these bars"),
        ({"objective": "max_drawdown"}, [0.2], [0.1], 0.1, True, "better by 0.1, more"),
        ({"objective": "max_drawdown"}, [0.2], [0.19], 0.1, False, "better by 0.01, not more"),
        ({"objective": ["sharpe", "max_drawdown"]}, [1.0, 0.2], [2.0, 0.4], 0.1, False, "worse"),
        ({"objective": ["sharpe", "max_drawdown"]}, [1.0, 0.2], [2.0, 0.21], 0.1, True, "more"),
    ],
)
def test_the_rule(
    search: dict[str, Any],
    old: list[float | None] | None,
    new: list[float],
    margin: float,
    changed: bool,
    why: str,
) -> None:
    table = SearchTable.model_validate(search)
    before = None if old is None else Standing(tuple(old))
    found = decide(table, before, Standing(tuple(new)), margin)
    assert (found.changed, why in found.why) == (changed, True), found.why


def test_a_set_that_breaks_a_constraint_is_no_rival() -> None:
    table = SearchTable.model_validate({"constraints": ["max_drawdown <= 0.25"]})
    metrics: dict[str, float | None] = dict.fromkeys(METRICS, 0.5)
    old = Standing.of(table, {"momentum_lookback": 5.0}, metrics)
    assert old == Standing((0.5,), ("max_drawdown <= 0.25",))
    new = Standing.of(table, {"momentum_lookback": 5.0}, {**metrics, "max_drawdown": 0.2})
    assert new == Standing((0.5,))
    found = decide(table, old, new, 10.0)
    assert found.changed and "the old set breaks max_drawdown <= 0.25" in found.why
    undefined = Standing.of(table, {}, {**metrics, "sharpe": None})
    assert undefined.values == (None,)


def test_without_a_feasible_set_the_old_one_stays(
    home: Path, first: Reoptimization, tmp_path: Path
) -> None:
    study = load_study(home / "study.toml").with_(search={"constraints": ["n_trades >= 10000"]})
    found = reoptimize(
        study, home / "last.parquet", out=tmp_path / "out", next_file=first.path, workers=1
    )
    assert found.note.outcome == "kept" and found.note.new is None
    assert "no parameter set is feasible" in found.note.why


# --- Kills -----------------------------------------------------------------------------------------


def test_the_same_command_says_the_same(home: Path, tmp_path: Path) -> None:
    before = again(home, "later.parquet", tmp_path / "out")
    left = files(tmp_path / "out")
    after = again(home, "later.parquet", tmp_path / "out")
    assert after.note == before.note and files(tmp_path / "out") == left


def test_a_kill_between_the_note_and_the_set(
    home: Path, first: Reoptimization, tmp_path: Path
) -> None:
    """The note says what the file must become; the new set is not compared with itself."""
    out = tmp_path / "out"
    shutil.copytree(first.path.parent, out)
    before = (out / "next.json").read_bytes()
    found = again(home, "last.parquet", out)
    assert found.changed
    left = files(out)
    (out / "next.json").write_bytes(before)
    (out / "changes.md").unlink()
    assert again(home, "last.parquet", out).note == found.note
    assert files(out) == left
    # A set that somebody else has put there is judged anew.
    (out / "next.json").write_text(json.dumps(json.loads(before)))
    assert again(home, "last.parquet", out).note.old_file not in (
        found.note.old_file,
        found.note.new_file,
    )


def test_a_killed_reoptimisation_ends_as_an_undisturbed_one(
    home: Path, first: Reoptimization, tmp_path: Path
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    for folder in (whole, out):
        shutil.copytree(first.path.parent, folder)
    undisturbed = again(home, "last.parquet", whole)
    arguments = (
        "reoptimize", home / "study.toml", "--data", home / "last.parquet", "--out", out,
        "--workers", 1,
    )  # fmt: skip
    random.seed(5)
    conditions: list[Callable[[], bool]] = [
        lambda: any(out.glob(f"{undisturbed.study.parent.name}/study/study.json")),
        lambda: any(
            out.glob(f"{undisturbed.study.parent.name}/study/results/batch-000001.parquet")
        ),
        lambda: (out / undisturbed.study.parent.name / "note.json").is_file(),
    ]
    for condition in conditions:
        command = Command(
            *arguments, output=tmp_path / "output.txt", prepare="tests.support.faults:slow_batches"
        )
        assert wait_until(condition, seconds=120.0)
        command.kill()
    command = Command(*arguments, output=tmp_path / "output.txt")
    assert command.wait() == 0, command.text()
    ours, theirs = files(out), files(whole)
    assert ours.keys() == theirs.keys()
    for name in ("next.json", "next.bars.parquet"):
        assert ours[name].replace(str(out).encode(), str(whole).encode()) == theirs[name]
    note = Note.model_validate_json(ours[f"{undisturbed.study.parent.name}/note.json"])
    own = {"file": undisturbed.note.file, "verdict": undisturbed.note.verdict}
    assert note.model_copy(update=own) == undisturbed.note


# --- Mistakes --------------------------------------------------------------------------------------


def test_exit_codes_and_words(home: Path, tmp_path: Path) -> None:
    arguments = ("reoptimize", "study.toml", "--out", tmp_path / "out", "--workers", 1, "--quiet")
    done = barsweep(*arguments, "--data", "later.parquet", folder=home)
    assert done.returncode == 0, done.stderr
    assert "changed: no set was traded before" in done.stdout
    assert f"the set to trade: {tmp_path / 'out' / 'next.json'}" in done.stdout
    done = barsweep(*arguments, "--data", "last.parquet", "--margin", 1e6, folder=home)
    assert done.returncode == 3, done.stderr
    assert "kept: sharpe" in done.stdout and "verdict on the new set: " in done.stdout
    done = barsweep(*arguments, "--data", "last.parquet", "--margin", 1e6, "--json", folder=home)
    assert done.returncode == 3
    note = Note.model_validate_json(done.stdout)
    assert note.outcome == "kept" and note.margin == 1e6
    done = barsweep(*arguments, "--data", "later.parquet", folder=home)
    assert done.returncode == 2
    assert "has reoptimised up to" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--data", "missing.parquet"], "missing.parquet"),
        (["--data", "."], "a folder; give one file of bars"),
        (["--data", "bars.parquet", "--bars", "300"], "250 bars are fewer than the 300"),
        (["--data", "later.parquet", "--margin", "inf"], "--margin inf; expected a fraction"),
        (["--data", "later.parquet", "--next", "other.json"], "a set of the study other, not of"),
        (["--data", "later.parquet", "--next", "two.json"], "sets: has 2; expected the one"),
        (["--data", "later.parquet", "--next", "costs.json"], "has another [costs] than this set"),
        (["--data", "later.parquet", "--next", "next.csv"], "ends in .json or .toml"),
        (["--data", "later.parquet", "--out", "."], "already holds files; give another --out"),
    ],
)
def test_mistakes_are_one_line_and_lose_nothing(
    options: list[str], words: str, home: Path, first: Reoptimization, tmp_path: Path
) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    for name in ("study.toml", "bars.parquet", "later.parquet"):
        shutil.copy(home / name, folder)
    content = json.loads(first.path.read_text())
    other = {**content, "study": {**content["study"], "name": "other"}}
    costs = {**content, "costs": {**content["costs"], "commission_bps": 7.0}}
    for name, one in (
        ("other", other),
        ("two", {**content, "sets": content["sets"] * 2}),
        ("costs", costs),
    ):
        (folder / f"{name}.json").write_text(json.dumps(one))
    kept = files(folder)
    done = barsweep("reoptimize", "study.toml", "--workers", 1, "--quiet", *options, folder=folder)
    assert done.returncode == 2, done.stdout
    assert words in done.stderr and done.stderr.count("\n") == 1
    assert {name: text for name, text in files(folder).items() if name in kept} == kept


def test_bars_that_are_replaced_by_others_are_searched_anew(home: Path, tmp_path: Path) -> None:
    """A revised history is another window, even with the same last bar."""
    for name in ("study.toml", "bars.parquet", "later.parquet"):
        shutil.copy(home / name, tmp_path)
    before = again(tmp_path, "later.parquet", tmp_path / "out")
    revised = replace(EVERY.head(N_LATER), close=EVERY.head(N_LATER).close * np.float64(1.0))
    revised.close.flags.writeable = True
    close = revised.close.copy()
    close[-3] *= 1.001
    write_bars(tmp_path / "later.parquet", replace(revised, close=np.minimum(close, revised.high)))
    after = again(tmp_path, "later.parquet", tmp_path / "out")
    assert after.study != before.study
    assert after.note.data_hash != before.note.data_hash


def test_several_coordinators_are_refused(home: Path, tmp_path: Path) -> None:
    study = load_study(home / "study.toml").with_(
        search={"storage": "postgresql://user@localhost/none"}
    )
    with pytest.raises(BarsweepError, match=r"\[search\] storage"):
        reoptimize(study, home / "last.parquet", out=tmp_path / "out")
