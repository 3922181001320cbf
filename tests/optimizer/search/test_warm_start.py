"""A search that begins with the best points of another study."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tomli_w

from optimizer.errors import StudyError, StudyFileError
from optimizer.search.result import StudyResult
from optimizer.search.resume import resume_study
from optimizer.search.run import run_study
from optimizer.store.folder import StudyFolder
from tests.support.command import barsweep
from tests.support.studies import mapping, result_hashes, small_study

SEARCHED = ["momentum_lookback", "max_exposure", "volatility_lookback"]
RISK = {"max_exposure": {"low": 0.4, "high": 1.0, "step": 0.2}}


@pytest.fixture(scope="module")
def earlier(data: Path) -> StudyResult:
    study = small_study(data, risk=RISK, search={"trials": 12})
    return run_study(study, out=data.parent / "earlier", workers=1)


def best_points(result: StudyResult, count: int) -> list[list[float]]:
    """The searched values of the best sets, each once."""
    ordered: pd.DataFrame = result.best(1000)[SEARCHED].drop_duplicates()
    return ordered.head(count).astype(float).to_numpy().tolist()


def asked(folder: StudyFolder) -> list[list[float]]:
    return [[float(one["params"][name]) for name in SEARCHED] for one in folder.trials()]


def warm(data: Path, earlier: StudyResult, **search: Any) -> Any:
    settings = {"warm_start": "earlier", "trials": 8, "batch": 3, **search}
    return small_study(data, risk=RISK, search=settings)


@pytest.mark.parametrize("sampler", ["random", "qmc", "tpe", "nsga2", "cmaes"])
def test_the_first_batch_is_the_best_points(data: Path, earlier: StudyResult, sampler: str) -> None:
    study = warm(data, earlier, sampler=sampler)
    ran = run_study(study, out=data.parent / f"warm-{sampler}", workers=1)
    points = asked(ran.folder)
    assert points[:3] == best_points(earlier, 3)
    assert len(points) == 8
    assert ran.best(1)["sharpe"].iloc[0] >= earlier.best(1)["sharpe"].iloc[0]


def test_it_is_recorded_so_that_the_folder_may_go(data: Path, earlier: StudyResult) -> None:
    home = data.parent / "home"
    home.mkdir()
    shutil.copy(data, home / data.name)
    shutil.copytree(earlier.folder.path, home / "earlier")
    study = warm(home / data.name, earlier, sampler="tpe")
    whole = run_study(study, out=home / "whole", workers=1)
    recorded = whole.folder.manifest()["warm_start"]
    assert [[one["point"][name] for name in SEARCHED] for one in recorded] == best_points(
        earlier, 3
    )
    shutil.rmtree(home / "earlier")
    before = result_hashes(whole.folder)
    for number in (0, 2):
        whole.folder.batch_path(number).unlink()
    whole.folder.write_manifest({**whole.folder.manifest(), "complete": False})
    assert result_hashes(resume_study(whole, workers=1).folder) == before
    with pytest.raises(StudyError, match=r"\[search\] warm_start: .*earlier: no study here"):
        run_study(study, out=home / "again", workers=1)
    assert not (home / "again").exists()


def test_only_points_of_the_space(data: Path, earlier: StudyResult) -> None:
    # What is fixed here is as here: the other lookback counts for nothing.
    both = [point[:2] for point in best_points(earlier, 1000) if point[0] <= 25]
    wanted = [point for place, point in enumerate(both) if point not in both[:place]]
    risk = {**RISK, "volatility_lookback": 20}
    strategy = {"lookback": {"low": 5, "high": 25, "step": 5}}
    search = {"warm_start": earlier, "trials": 8, "batch": 8}
    # A shorter warm-up moves the holdout to an earlier bar.
    held = {"holdout": 0.2}
    study = small_study(data, risk=risk, strategy=strategy, search=search, validation=held)
    assert study.warm_start_path == earlier.folder.path.resolve()
    ran = run_study(study, out=data.parent / "narrow", workers=1)
    recorded = ran.folder.manifest()["warm_start"]
    found = [[one["point"][name] for name in SEARCHED[:2]] for one in recorded]
    assert found == wanted[:8] != []
    strategy = {"lookback": {"low": 3, "high": 4}}
    other = small_study(data, strategy=strategy, search=search, validation=held)
    with pytest.raises(
        StudyError,
        match=r"<study>: \[search\] warm_start: .*none of its \d+ feasible points lies in the space",
    ):
        run_study(other, out=data.parent / "none", workers=1)


def test_a_search_that_saw_the_holdout_is_refused(data: Path, earlier: StudyResult) -> None:
    study = warm(data, earlier).with_(validation={"holdout": 0.4})
    with pytest.raises(
        StudyError, match=r"this study's holdout begins at .*; lower .validation. holdout"
    ):
        run_study(study, out=data.parent / "peeks", workers=1)
    whole = small_study(data, risk=RISK, search={"trials": 2}, validation={"holdout": 0.0})
    run_study(whole, out=data.parent / "whole", workers=1)
    study = warm(data, earlier, warm_start="whole").with_(validation={"holdout": 0.01})
    with pytest.raises(StudyError, match="its search saw bars up to"):
        run_study(study, out=data.parent / "peeks", workers=1)
    assert not (data.parent / "peeks").exists()


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ({"sampler": "grid"}, r"\[search\] warm_start: \"grid\" tries every point"),
        ({"storage": "postgresql://u@h/n"}, r"\[search\] warm_start: several coordinators"),
        ({"warm_start": ""}, r"\[search\] warm_start: got \"\"; expected a text, not empty"),
        ({"warm_start": 3}, r"\[search\] warm_start: got 3; expected a text, not empty"),
    ],
)
def test_mistakes(data: Path, earlier: StudyResult, search: Any, message: str) -> None:
    with pytest.raises(StudyFileError, match=message):
        warm(data, earlier, **search)


def test_a_check_names_them_too(data: Path, earlier: StudyResult) -> None:
    tables = mapping(data.name, risk=RISK, search={"warm_start": "nowhere"})
    (data.parent / "study.toml").write_text(tomli_w.dumps(tables))
    done = barsweep("check", "study.toml", folder=data.parent)
    assert done.returncode == 2
    assert "study.toml: [search] warm_start: " in done.stderr
    assert "nowhere: no study here" in " ".join(done.stderr.split())


def test_a_calibration_starts_cold(data: Path, earlier: StudyResult) -> None:
    tables = mapping(data.name, risk=RISK, search={"warm_start": "earlier"})
    (data.parent / "warm.toml").write_text(tomli_w.dumps(tables))
    done = barsweep("calibrate", "warm.toml", "--copies", "19", folder=data.parent)
    assert done.returncode == 2
    assert "[search] warm_start: a copy of the bars has no earlier search" in " ".join(
        done.stderr.split()
    )
