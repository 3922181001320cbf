"""Studies seen from outside: lists, one set in full, two side by side, a notebook's view."""

from __future__ import annotations

import fcntl
import os
import shutil
import threading
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from optimizer.catalogue import METRICS
from optimizer.errors import StudyError
from optimizer.files import exclusive_use
from optimizer.review.backtest import backtest
from optimizer.review.compare import compare_studies
from optimizer.review.html import render
from optimizer.review.records import judged, list_studies, set_record
from optimizer.review.unseal import unseal_study
from optimizer.search.result import StudyResult
from optimizer.search.run import run_study
from optimizer.selection.p_values import family_wise
from optimizer.selection.record import load_selection
from optimizer.selection.tried import everything_tried
from optimizer.selection.verdict import judge
from optimizer.store.folder import StudyFolder
from optimizer.store.seal import with_holdout
from tests.support.command import barsweep
from tests.support.studies import changed, random_bars, small_study, write_bars


class Home:
    """A folder of bars and of the studies on them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bars = write_bars(path / "bars.parquet", random_bars())
        self.small = run_study(small_study(self.bars), out=path / "out" / "small", workers=1)
        costs = {"commission_bps": 20.0}
        study = small_study(self.bars, costs=costs, study={"name": "dear", "seed": 3})
        self.dear = run_study(study, out=path / "out" / "deep" / "dear", workers=1)
        unseal_study(self.small.folder.path)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("overview"))


def unfinished(source: StudyResult, path: Path) -> Path:
    """A copy of a study, as it is when the process was killed before the last batch."""
    shutil.copytree(source.folder.path, path)
    folder = StudyFolder.open(path)
    folder.batch_paths()[-1].unlink()
    (path / "selection.json").unlink()
    folder.write_manifest({**folder.manifest(), "complete": False})
    return path


# --- List ---------------------------------------------------------------------------------------


def test_a_list_says_what_each_study_came_to(home: Home) -> None:
    found = {one.name: one for one in list_studies(home.path / "out")}
    assert list(found) == ["small", "dear"]  # by time
    small = found["small"]
    best = with_holdout(home.small.folder, home.small.best(1)).iloc[0]
    assert (small.path, small.state, small.n_sets) == (home.path / "out" / "small", "complete", 40)
    assert (small.objective, small.best) == ("sharpe", best["sharpe"])
    assert small.best_out_of_sample == best["oos_sharpe"]
    selection = load_selection(home.small.folder)
    assert selection is not None
    assert small.verdict == judge(selection, everything_tried(selection)).words
    assert small.when is not None


def test_a_study_that_runs_one_that_stopped_and_one_that_is_broken(
    home: Home, tmp_path: Path
) -> None:
    unfinished(home.small, tmp_path / "stopped")
    running = unfinished(home.small, tmp_path / "running")
    shutil.copytree(home.small.folder.path, tmp_path / "broken")
    (tmp_path / "broken" / "study.json").write_text("{")
    shutil.copytree(home.small.folder.path, tmp_path / "running" / "folds" / "00")
    with exclusive_use(running):
        found = {one.path.name: one for one in list_studies(tmp_path)}
    assert {name: one.state for name, one in found.items()} == {
        "stopped": "stopped", "running": "running", "broken": "unreadable",
    }  # fmt: skip
    assert found["stopped"].n_sets == 32
    assert found["stopped"].verdict is None
    assert "cannot be read" in found["broken"].problem
    assert {one.path.name: one.state for one in list_studies(running)} == {"running": "stopped"}


def test_the_command_lists(home: Home, tmp_path: Path) -> None:
    done = barsweep("list", folder=home.path)
    assert done.returncode == 0, done.stderr
    text = " ".join(done.stdout.split())
    for word in ("small", "deep/dear", "complete", "40", "sharpe"):
        assert word in text
    assert "no studies" in barsweep("list", tmp_path, folder=tmp_path).stdout
    missing = barsweep("list", tmp_path / "none", folder=tmp_path)
    assert (missing.returncode, len(missing.stderr.splitlines())) == (2, 1)


def test_looking_does_not_keep_a_study_from_starting(tmp_path: Path) -> None:
    """One who looks holds a shared lock for an instant; whoever wants the folder then waits."""
    handle = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_SH)
    timer = threading.Timer(0.02, os.close, (handle,))
    timer.start()
    with exclusive_use(tmp_path):
        pass
    timer.join()


# --- One set ------------------------------------------------------------------------------------


def test_one_set_in_full(home: Home) -> None:
    row = home.small.out_of_sample().iloc[7]
    one = set_record(home.small.folder.path, 7)
    assert (one.number, one.trial, one.strategy) == (7, row["trial"], "momentum")
    for name in METRICS:
        for found, column in ((one.in_sample, name), (one.out_of_sample, f"oos_{name}")):
            assert found is not None
            undefined = pd.isna(row[column])
            assert (found[name] is None) if undefined else (found[name] == row[column])
    for name in ("momentum_lookback", "momentum_threshold", "kelly_fraction", "ewma_decay"):
        assert one.parameters[name] == row[name]


def test_odds_of_a_set_are_those_of_the_study(home: Home) -> None:
    selection, verdict, problem = judged(home.small.folder)
    assert selection is not None and verdict is not None and problem == ""
    assert selection.sets[0].p == family_wise(selection.sets[0].alpha_t, verdict.tried.maxima)
    for known in selection.sets[:3]:
        found = set_record(home.small.folder.path, known.number).odds
        assert found is not None and found.oos_psr is not None
        if (
            known != selection.sets[0]
        ):  # the verdict looked at the winner alone, who unsealed at all
            found = replace(found, oos_sharpe=None, oos_psr=None)
        assert found == known
    beyond = {one.number for one in selection.sets}
    other = next(number for number in range(40) if number not in beyond)
    odds = set_record(home.small.folder.path, other).odds
    assert odds is not None
    assert odds.number == other


def test_the_command_shows_one_set(home: Home) -> None:
    done = barsweep("show", home.small.folder.path, 7, folder=home.path)
    assert done.returncode == 0, done.stderr
    for word in ("set 7", "momentum_lookback", "out-of-sample", *METRICS):
        assert word in done.stdout
    for number in (40, 10**12):
        wrong = barsweep("show", home.small.folder.path, number, folder=home.path)
        assert (wrong.returncode, len(wrong.stderr.splitlines())) == (2, 1)
        assert "0 to 39" in wrong.stderr
    with pytest.raises(StudyError, match="no study here"):
        set_record(home.path, 1)


# --- Two studies --------------------------------------------------------------------------------


def test_two_studies_on_the_same_bars(home: Home) -> None:
    found = compare_studies(home.small.folder.path, home.dear.folder.path)
    assert (found.first.name, found.second.name) == ("small", "dear")
    assert {place: (a, b) for place, a, b in found.study_differences} == {
        "[study] name": ("small", "dear"),
        "[costs] commission_bps": (1.0, 20.0),
        "[costs] maker_bps": (1.0, 20.0),
    }
    assert found.data_differences == ()
    # The seed is the same, so are the sets: the best of one has the same number in the other.
    first = found.first_in_second
    assert first is not None
    best = int(home.small.best(1)["set"].iloc[0])
    assert (first.number, first.found) == (best, best)
    there = home.dear.results().set_index("set").loc[best]
    assert first.in_sample is not None
    assert first.in_sample["sharpe"] == there["sharpe"]
    every = home.dear.results()
    better = every[every["feasible"] & (every["score"] > there["score"])]
    assert first.rank == len(better) + 1


def test_a_set_that_the_other_did_not_try_is_simulated_by_its_costs(
    home: Home, tmp_path: Path
) -> None:
    strategy = {"name": "momentum", "lookback": 17, "threshold": {"sweep": [0.0, 0.02]}}
    other = small_study(home.bars, strategy=strategy, costs={"commission_bps": 40.0})
    run_study(other, out=tmp_path / "other", workers=1)
    crossed = compare_studies(home.small.folder.path, tmp_path / "other").first_in_second
    assert crossed is not None
    assert (crossed.found, crossed.rank, crossed.problem) == (None, None, "")
    best = set_record(home.small.folder.path, crossed.number)
    firsts = [
        StudyFolder.open(path).manifest()["first_bar"]
        for path in (home.small.folder.path, tmp_path / "other")
    ]
    direct = backtest(
        random_bars(),
        {"strategy": best.strategy, "classifier": best.classifier, **best.parameters},
        costs={"commission_bps": 40.0},
        holdout=0.25,
        first_bar=max(firsts),
    )
    assert crossed.in_sample == pytest.approx(direct.in_sample, nan_ok=True)
    assert direct.in_sample["costs_paid"] > best.in_sample["costs_paid"]


def test_two_studies_on_other_bars(home: Home, tmp_path: Path) -> None:
    bars = write_bars(tmp_path / "bars.parquet", changed(random_bars(), 150))
    run_study(small_study(bars), out=tmp_path / "out", workers=1)
    found = compare_studies(home.small.folder.path, tmp_path / "out")
    assert {name for name, _, _ in found.data_differences} == {"data hash", "data path"}
    assert (found.first_in_second, found.second_in_first) == (None, None)
    done = barsweep("compare", home.small.folder.path, tmp_path / "out", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    text = " ".join(done.stdout.split())
    assert "bars differ in" in text
    assert "study files: the same" in text


def test_the_command_compares(home: Home) -> None:
    done = barsweep("compare", home.small.folder.path, home.dear.folder.path, folder=home.path)
    assert done.returncode == 0, done.stderr
    text = " ".join(done.stdout.split())
    for word in ("[costs] commission_bps 1.0 20.0", "bars: the same", "there, rank", "verdict"):
        assert word in text
    same = barsweep("compare", home.small.folder.path, home.small.folder.path, folder=home.path)
    assert "study files: the same" in same.stdout
    assert "rank 1)" in same.stdout
    none = barsweep("compare", home.small.folder.path, home.path, folder=home.path)
    assert (none.returncode, len(none.stderr.splitlines())) == (2, 1)


# --- Notebooks ----------------------------------------------------------------------------------


class Table(HTMLParser):
    """The cells of a table, and whether every tag is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[list[str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "br":
            return
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "td":
            self.rows[-1].append(data)


def test_a_notebook_shows_the_best_sets_and_the_verdict(home: Home) -> None:
    text = home.small._repr_html_()
    table = Table()
    table.feed(text)
    assert table.open == []
    best = home.small.best(10)
    *sets, held = [row for row in table.rows if row]
    assert [int(row[0]) for row in sets] == best["set"].to_list()
    assert held[-1] == "buy and hold"
    selection = load_selection(home.small.folder)
    assert selection is not None
    assert judge(selection, everything_tried(selection)).words in text


def test_a_notebook_shows_a_study_with_nothing_feasible(home: Home, tmp_path: Path) -> None:
    search = {"constraints": ["n_trades >= 100000"]}
    result = run_study(small_study(home.bars, search=search), out=tmp_path / "out", workers=1)
    said = "no parameter set is feasible; constraints: n_trades &gt;= 100000"
    assert said in result._repr_html_()
    summary = list_studies(tmp_path)[0]
    assert (summary.state, summary.best, summary.verdict) == ("complete", None, None)


def test_a_notebook_shows_every_text_as_text() -> None:
    """Whatever the texts of a study hold is shown, and neither run nor taken as HTML."""
    evil = "<img src=x onerror=alert(1)></table><script>\"&'"
    rendered = render(
        "optimizer.review",
        "study.html",
        name=evil,
        n_sets=evil,
        close_fill=True,
        no_sets=evil,
        titles=[evil, f"{evil}\n{evil}"],
        rows=[[evil, evil]],
        legend=evil,
        sealed=evil,
        verdict={"number": evil, "color": evil, "words": evil, "reasons": [evil]},
    )
    table = Table()
    table.feed(rendered)
    table.close()
    assert table.open == []
    assert "<img" not in rendered and "<script" not in rendered
    assert rendered.count("&lt;img src=x onerror=alert(1)&gt;&lt;/table&gt;") == 14
    assert table.rows[-1] == [evil, evil]
