"""Searches that end before their last trial: by patience, by the clock, and resumed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from optimizer.errors import StudyFileError
from optimizer.search.calibrate import calibrate
from optimizer.search.progress import Progress
from optimizer.search.result import StudyResult
from optimizer.search.resume import resume_study
from optimizer.search.run import run_study
from optimizer.selection.record import load_selection
from tests.support.command import barsweep
from tests.support.studies import random_bars, result_hashes, small_study, write_bars

SEARCH: dict[str, Any] = {"sampler": "tpe", "trials": 60, "batch": 4, "stop_after": 10}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bars(tmp_path_factory.mktemp("data") / "bars.parquet", random_bars(300))


@pytest.fixture(scope="module")
def whole(data: Path) -> StudyResult:
    """The same search without patience."""
    search = {name: value for name, value in SEARCH.items() if name != "stop_after"}
    return run_study(small_study(data, search=search), out=data.parent / "whole", workers=1)


@pytest.fixture(scope="module")
def ended(data: Path) -> StudyResult:
    return run_study(small_study(data, search=SEARCH), out=data.parent / "ended", workers=1)


def test_it_ends_after_the_batch_in_which_patience_runs_out(
    whole: StudyResult, ended: StudyResult
) -> None:
    values = [trial["values"] for trial in whole.folder.trials()]
    best, since, expected = float("-inf"), 0, len(values)
    for number, value in enumerate(values):
        since += 1
        if value and value[0] > best:
            best, since = value[0], 0
        if (number + 1) % 4 == 0 and since >= 10:
            expected = number + 1
            break
    assert expected < 60
    told = ended.folder.trials()
    assert [trial["values"] for trial in told] == values[:expected]
    selection = load_selection(ended.folder)
    assert selection is not None and selection.n_tried == ended.folder.n_distinct()


def test_it_is_the_same_for_any_workers_and_after_a_stop(
    data: Path, ended: StudyResult, tmp_path: Path
) -> None:
    study = small_study(data, search=SEARCH)
    two = run_study(study, out=tmp_path / "two", workers=2)
    assert result_hashes(two.folder) == result_hashes(ended.folder)

    def stop(progress: Progress) -> None:
        if progress.trials >= 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(study, out=tmp_path / "stopped", on_progress=stop, workers=1)
    resumed = resume_study(tmp_path / "stopped", workers=1)
    assert result_hashes(resumed.folder) == result_hashes(ended.folder)
    assert (resumed.folder.path / "selection.json").read_bytes() == (
        ended.folder.path / "selection.json"
    ).read_bytes()


def test_a_batch_that_is_lost_is_computed_again_and_no_other(
    ended: StudyResult, tmp_path: Path
) -> None:
    path = tmp_path / "out"
    shutil.copytree(ended.folder.path, path)
    (path / "results" / "batch-000001.parquet").unlink()
    resumed = resume_study(path, workers=1)
    assert result_hashes(resumed.folder) == result_hashes(ended.folder)


def test_the_command_says_that_it_ended_early(ended: StudyResult, tmp_path: Path) -> None:
    shown = barsweep("show", ended.folder.path, folder=tmp_path)
    n_trials = len(ended.folder.trials())
    assert f"the search ended early, after {n_trials} of 60 trials" in shown.stdout
    assert barsweep("resume", ended.folder.path, folder=tmp_path).returncode == 0


def test_the_clock_ends_a_search_which_stays_as_it_ended(data: Path, tmp_path: Path) -> None:
    search = {"sampler": "random", "trials": 4000, "batch": 4, "max_seconds": 0.5}
    result = run_study(small_study(data, search=search), out=tmp_path / "out", workers=1)
    n_trials = len(result.folder.trials())
    assert 4 <= n_trials < 4000 and n_trials % 4 == 0
    before = result_hashes(result.folder)
    result.folder.batch_paths()[-1].unlink()
    resumed = resume_study(tmp_path / "out", workers=1)
    assert result_hashes(resumed.folder) == before


def test_neither_changes_the_hash_of_what_is_tried(data: Path) -> None:
    plain = small_study(data, search={"trials": 8})
    for more in ({"stop_after": 3}, {"max_seconds": 9.0}):
        assert small_study(data, search={"trials": 8, **more}).space_hash == plain.space_hash
    assert "stop_after" not in plain.to_dict()["search"]


@pytest.mark.parametrize(
    ("search", "words"),
    [
        ({"stop_after": 0}, "stop_after: got 0"),
        ({"max_seconds": 0}, "max_seconds: got 0"),
        (
            {"stop_after": 3, "objective": ["sharpe", "max_drawdown"]},
            "stop_after: needs one objective",
        ),
        ({"stop_after": 3, "storage": "postgresql://a@b/c"}, "cannot end together"),
        ({"max_seconds": 3, "storage": "postgresql://a@b/c"}, "cannot end together"),
    ],
)
def test_refusals(search: dict[str, Any], words: str, data: Path) -> None:
    with pytest.raises(StudyFileError) as caught:
        small_study(data, search=search)
    assert words in str(caught.value)


def test_a_search_by_the_clock_is_not_calibrated(data: Path, tmp_path: Path) -> None:
    study = small_study(data, search={"max_seconds": 5.0})
    with pytest.raises(StudyFileError, match="max_seconds: searches that end by the clock"):
        calibrate(study, copies=2, out=tmp_path / "out")
