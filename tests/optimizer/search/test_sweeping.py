"""A study in one call: the same sets, folder, ledger and seal as a study from a file."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import optimizer
from optimizer.errors import BarsweepError, StudyError, StudyFileError
from optimizer.review.notebook import study_html
from optimizer.search.result import StudyResult
from optimizer.search.run import run_study
from optimizer.search.sweeping import sweep
from optimizer.store.ledger import read_ledger
from optimizer.store.ledger_entries import Look, Search
from optimizer.store.names import MANIFEST
from optimizer.study_file.study import study_from_dict
from optimizer.types import Bars
from tests.support.studies import mapping, random_bars, result_hashes, write_bars

SETTINGS: dict[str, Any] = {
    "lookback": [10, 20, 40],
    "threshold": {"sweep": {"low": 0.0, "high": 0.02, "step": 0.01}},
    "kelly_fraction": [0.05, 0.2],
    "commission_bps": 4.0,
    "correlation_lookback": 20,
    "validation": {"holdout": 0.25},
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BARSWEEP_LEDGER", str(tmp_path / "ledger.db"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> StudyResult:
    """A sweep that tests only read."""
    folder = tmp_path_factory.mktemp("sweep") / "study"
    return sweep(random_bars(), "momentum", out=folder, workers=1, **SETTINGS)


def test_the_sets_are_those_of_a_study_file(done: StudyResult, here: Path) -> None:
    data = write_bars(here / "bars.parquet", random_bars())
    written = {
        "study": {"name": "sweep"},
        "data": {"path": data.name, "bars_per_year": 252.0},
        "strategy": {
            "name": "momentum",
            "lookback": {"sweep": [10, 20, 40]},
            "threshold": {"sweep": [0.0, 0.01, 0.02]},
        },
        "risk": {"kelly_fraction": {"sweep": [0.05, 0.2]}, "correlation_lookback": 20},
        "costs": {"commission_bps": 4.0},
        "validation": {"holdout": 0.25},
    }
    expected = run_study(study_from_dict(written, here), out=here / "file", workers=1)
    pd.testing.assert_frame_equal(done.results(), expected.results())
    assert len(done.results()) == 3 * 3 * 2


def test_it_is_a_study_like_any_other(here: Path) -> None:
    before = {path.name for path in here.iterdir()}
    result = sweep(random_bars(), "momentum", lookback=[10, 20], correlation_lookback=20, workers=1)
    folder = Path(os.fspath(result))
    assert folder.parent.name == "out"
    assert folder.name.startswith("sweep-")
    made = {path.name for path in here.iterdir()} - before
    assert made <= {"out", "ledger.db", "ledger.db-shm", "ledger.db-wal"}
    again = optimizer.resume_study(folder)
    pd.testing.assert_frame_equal(again.results(), result.results())
    noted = [one.what for one in read_ledger().entries]
    searches = [one for one in noted if isinstance(one, Search)]
    assert [(one.study, one.n_sets) for one in searches] == [("sweep", 2)]
    assert [one.why for one in noted if isinstance(one, Look)] == ["verdict"]


def test_the_same_call_opens_what_is_there(here: Path) -> None:
    settings: dict[str, Any] = {"lookback": [10, 20], "correlation_lookback": 20, "workers": 1}
    first = sweep(random_bars(), "momentum", **settings)
    times = {path: path.stat().st_mtime_ns for path in first.folder.path.rglob("*.parquet")}
    second = sweep(random_bars(), "momentum", **settings)
    assert second.folder.path == first.folder.path
    assert {path: path.stat().st_mtime_ns for path in times} == times
    first.folder.batch_paths()[0].unlink()
    hashes = result_hashes(sweep(random_bars(), "momentum", **settings).folder)
    assert len(hashes) == 1
    other = sweep(random_bars(seed=2), "momentum", **settings)
    assert other.folder.path != first.folder.path
    with pytest.raises(StudyError, match="already holds files"):
        sweep(random_bars(seed=2), "momentum", out=first, **settings)


def test_the_number_of_workers_changes_nothing(done: StudyResult, here: Path) -> None:
    many = sweep(random_bars(), "momentum", out=here / "two", workers=2, **SETTINGS)
    assert result_hashes(many.folder) == result_hashes(done.folder)


def test_the_holdout_stays_sealed(done: StudyResult) -> None:
    assert not [name for name in done.results() if str(name).startswith("oos_")]
    with pytest.raises(StudyError, match="the holdout is sealed"):
        done.out_of_sample()
    winner = done.folder.manifest()["winner"]
    shown = [optimizer.set_record(done, n).out_of_sample is not None for n in range(18)]
    assert shown == [n == winner for n in range(18)]


def test_lists_ranges_and_arrays_are_swept(here: Path) -> None:
    forms: list[Any] = [[10, 20], (10, 20), range(10, 21, 10), np.array([10, 20])]
    found = [
        sweep(random_bars(), "momentum", lookback=one, correlation_lookback=20, workers=1)
        for one in forms
    ]
    assert len({one.folder.path for one in found}) == 1


def test_tables_are_those_of_the_study_file(here: Path) -> None:
    result = sweep(
        random_bars(),
        "momentum",
        lookback={"low": 5, "high": 40, "step": 5},
        classifier={"name": "hmm", "lookback": 20, "train_bars": 60, "refit_bars": 60},
        risk={"kelly_fraction": {"sweep": [0.05, 0.1]}, "correlation_lookback": 20},
        max_exposure=[0.5, 1.0],
        allow_short=True,
        search={"trials": 3, "sampler": "random"},
        study={"name": "mine", "seed": 4},
        workers=1,
    )
    assert len(result.results()) == 3 * 2 * 2
    assert (result.study.name, result.study.seed, result.study.risk.allow_short) == (
        "mine",
        4,
        True,
    )
    assert set(result.results()["classifier"]) == {"hmm"}


def test_several_strategies_together_in_sessions_of_an_exchange(here: Path) -> None:
    result = sweep(
        random_bars(),
        [
            {"name": "momentum", "lookback": {"sweep": [10, 20]}},
            {"name": "breakout", "lookback": 20},
        ],
        strategies={"combine": "together", "rule": "vote"},
        data={"exchange": "XNYS", "timezone": "America/New_York"},
        instruments={"AAA": {"lot_size": 2.0}},
        workers=1,
    )
    assert set(result.results()["strategy"]) == {"vote(momentum+breakout)"}
    assert result.study.data.exchange == "XNYS" and len(result.results()) == 2
    with pytest.raises(StudyFileError, match="lookback: with several strategies, give each"):
        sweep(random_bars(), [{"name": "momentum"}], lookback=[10, 20])


def test_a_strategy_of_ones_own(here: Path) -> None:
    (here / "mine.py").write_text(
        "from optimizer import FLAT, LONG\n"
        'PARAMETERS = {"lookback": (20, 2, 200)}\n'
        'FEATURES = {"momentum": ("momentum", "lookback")}\n'
        "def signal(momentum):\n"
        "    return (LONG if momentum > 0.0 else FLAT), 0.001, 1.0\n"
    )
    result = sweep(random_bars(), "mine.py", lookback=[5, 9], correlation_lookback=20, workers=1)
    assert result.results()["mine_lookback"].tolist() == [5, 9]


def test_bars_with_gaps_and_dividends(here: Path) -> None:
    frame = random_bars().to_frame().drop(index=[3, 4, 700])
    frame["paid"] = np.where(frame.index % 60 == 0, 0.5, 0.0)
    bars = Bars.from_frame(frame, align="outer", dividends="paid")
    result = sweep(bars, "momentum", lookback=[10, 20], correlation_lookback=20, workers=1)
    assert result.folder.manifest()["data_hash"] == bars.content_hash
    assert (result.results()["carry"] > 0.0).all()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"lookbak": [1, 2]},
            r'^<study>: \[strategy\] lookbak: unknown key; did you mean "lookback"',
        ),
        ({"lookback": [0, 2]}, r"^<study>: \[strategy\] lookback: got 0; expected"),
        ({"lookback": []}, r"^<study>: \[strategy\] lookback: an empty list"),
        ({"kelly_fraction": [-1.0]}, r"^<study>: \[risk\] kelly_fraction: got -1"),
        ({"slippage_bps": "many"}, r"^<study>: \[costs\] slippage_bps: got"),
        ({"search": 5}, r"^<study>: \[search\]: got 5; expected a table"),
        ({"classifier": "hm"}, r"^<study>: \[classifier\] name: got"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    settings: dict[str, Any], words: str, here: Path
) -> None:
    with pytest.raises(StudyFileError, match=words) as caught:
        sweep(random_bars(), "momentum", **settings)
    assert "\n" not in str(caught.value)
    assert not (here / "out").exists()


def test_an_unknown_strategy(here: Path) -> None:
    with pytest.raises(StudyFileError, match='did you mean "momentum"'):
        sweep(random_bars(), "momentun")
    with pytest.raises(BarsweepError, match="no such file"):
        sweep(random_bars(), "mine.py")


def test_bars_that_no_file_gives_back_are_refused(here: Path) -> None:
    unsorted = random_bars(symbols=("BBB", "AAA"))
    with pytest.raises(StudyError, match="symbols must be in order of name"):
        sweep(unsorted, "momentum", lookback=[10, 20])


def test_a_bars_file_that_was_changed_is_noticed(here: Path) -> None:
    settings: dict[str, Any] = {"correlation_lookback": 20, "workers": 1}
    sweep(random_bars(), "momentum", lookback=[10, 20], **settings)
    (kept,) = (here / "out").glob("bars-*.parquet")
    write_bars(kept, random_bars(seed=9))
    with pytest.raises(StudyError, match="does not give these bars back"):
        sweep(random_bars(), "momentum", lookback=[10, 30], **settings)


# --- The call and its result --------------------------------------------------------------------


def test_the_package_of_that_name_is_called(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[Any] = []
    monkeypatch.setattr("optimizer.search.sweeping.sweep", lambda *a, **k: called.append((a, k)))
    package: Any = sys.modules["optimizer.sweep"]
    assert vars(optimizer)["sweep"] is package
    package("bars", "momentum", lookback=[1])
    assert called == [(("bars", "momentum"), {"lookback": [1]})]


def test_functions_of_a_folder_take_a_result(done: StudyResult, tmp_path: Path) -> None:
    folder = done.folder.path
    assert os.fspath(done) == str(folder)
    pd.testing.assert_frame_equal(optimizer.find_sets(done), optimizer.find_sets(folder))
    assert optimizer.set_record(done, 3) == optimizer.set_record(folder, 3)
    assert optimizer.contenders(done).tolist() == optimizer.contenders(folder).tolist()
    assert optimizer.survivors(done).tolist() == optimizer.survivors(folder).tolist()
    compared = optimizer.compare_studies(done, folder)
    assert (compared.first.path, compared.study_differences) == (folder, ())
    axes = ("momentum_lookback", "momentum_threshold")
    assert optimizer.heatmap(done, *axes) == optimizer.heatmap(folder, *axes)
    assert optimizer.resume_study(done).folder.path == folder
    one = optimizer.export_sets(done, out=tmp_path / "one.json")
    two = optimizer.export_sets(folder, out=tmp_path / "two.json")
    assert json.loads(one.read_text()) == json.loads(two.read_text())
    assert optimizer.write_report(done, tmp_path / "report.html").is_file()
    with pytest.raises(StudyError, match=f"^{folder}: no parameter set 99"):
        optimizer.set_record(done, 99)


def test_the_result_says_what_it_is(done: StudyResult) -> None:
    assert repr(done) == f"<StudyResult of sweep: 18 parameter sets in {done.folder.path}>"
    assert done.verdict is not None
    assert done.verdict.headline in study_html(done.folder)
    assert (done.folder.path / MANIFEST).is_file()


def test_no_verdict_where_no_set_is_best(here: Path) -> None:
    data = write_bars(here / "bars.parquet", random_bars())
    content = mapping(data.name, search={"constraints": ["n_trades >= 100000"], "trials": 2})
    result = run_study(study_from_dict(content, here), out=here / "none", workers=1)
    assert result.verdict is None
