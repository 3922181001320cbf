"""A study whose objective is an expression, from its file to its report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from optimizer.errors import StudyError
from optimizer.review.records import summarize
from optimizer.review.unseal import unseal_study
from optimizer.search.result import StudyResult
from optimizer.search.run import run_study
from optimizer.store.query import find_sets
from optimizer.views.heatmap import heatmap
from tests.support.command import barsweep
from tests.support.studies import small_study

TEXT = "sharpe - 2 * max_drawdown"


def by_hand(frame: pd.DataFrame, prefix: str = "") -> pd.Series[float]:
    return frame[f"{prefix}sharpe"] - 2 * frame[f"{prefix}max_drawdown"]


@pytest.fixture(scope="module")
def result(data: Path) -> StudyResult:
    search = {"sampler": "tpe", "objective": "sharpe-2*max_drawdown"}
    return run_study(small_study(data, search=search), out=data.parent / "out", workers=1)


def test_the_best_set_is_that_of_the_expression(result: StudyResult) -> None:
    frame = result.results()
    expected = by_hand(frame)
    assert frame[TEXT].to_list() == frame["score"].to_list() == expected.to_list()
    assert int(result.best(1)["set"].iloc[0]) == int(frame["set"].iloc[int(expected.argmax())])
    assert result.best(1)[TEXT].iloc[0] == expected.max()
    trials = result.folder.trials()
    best = [frame[frame["trial"] == i][TEXT].max() for i in range(len(trials))]
    assert [one["values"] for one in trials] == [[value] for value in best]
    assert summarize(result).best == expected.max()


def test_columns_are_computed_from_those_that_are_written(result: StudyResult) -> None:
    assert result.folder.results([TEXT, "set"]).columns.to_list() == [TEXT, "set"]
    assert result.folder.columns()[-1] == TEXT
    found = find_sets(result, sort=TEXT, top=3)
    assert found[TEXT].to_list() == sorted(result.results()[TEXT].unique(), reverse=True)[:3]


def panels(figure: go.Figure) -> int:
    """How many heatmaps a figure has: one in-sample, and one of the holdout where it may be seen."""
    return sum(trace.type == "heatmap" for trace in figure.data)


def test_the_holdout_stays_sealed(result: StudyResult, data: Path) -> None:
    frame = find_sets(result, top=3)
    assert not [name for name in frame.columns if name.startswith("oos_")]
    with pytest.raises(StudyError, match="the holdout is sealed"):
        find_sets(result, sort=f"oos_{TEXT}")
    assert panels(heatmap(result, "lookback", "kelly_fraction", TEXT)) == 1
    study = small_study(data, search={"objective": TEXT, "trials": 2})
    opened = run_study(study, out=data.parent / "opened", workers=1)
    unseal_study(opened)
    frame = find_sets(opened, sort=f"oos_{TEXT}", top=3)
    assert frame[f"oos_{TEXT}"].to_list() == by_hand(frame, "oos_").to_list()
    assert frame[f"oos_{TEXT}"].is_monotonic_decreasing
    assert panels(heatmap(opened, "threshold", "kelly_fraction", TEXT)) == 2


def test_what_people_see(result: StudyResult) -> None:
    shown = barsweep("show", result.folder.path, folder=result.folder.path).stdout
    assert "sharpe - 2 * max drawdown" in " ".join(shown.split())
    listed = barsweep("list", result.folder.path.parent, folder=result.folder.path).stdout
    assert "sharpe - 2" in listed
    report = result.folder.path / "report.html"
    barsweep("report", result.folder.path, folder=result.folder.path)
    assert "sharpe - 2 * max drawdown" in report.read_text()
    exported = barsweep("export", result.folder.path, folder=result.folder.path)
    assert exported.returncode == 0
    assert barsweep("replay", "best.json", folder=result.folder.path).returncode == 0


def test_a_set_without_a_finite_value_is_never_best(data: Path) -> None:
    # Where the Sharpe ratio is negative, the root is undefined.
    study = small_study(data, search={"objective": "sqrt(sharpe - 5)"})
    ran = run_study(study, out=data.parent / "roots", workers=1)
    frame = ran.results()
    defined = frame["sharpe"] >= 5
    assert 0 < defined.sum() < len(frame)
    assert np.array_equal(frame["score"].notna(), defined)
    assert int(ran.best(1)["set"].iloc[0]) == int(frame["set"].iloc[int(frame["sharpe"].argmax())])
    failed = [one for one in ran.folder.trials() if one["state"] == "FAIL"]
    assert all("sqrt(sharpe - 5): not finite" in one["user_attrs"]["reason"] for one in failed)
    nothing = small_study(data, search={"objective": "log(-1 - n_trades)"})
    assert run_study(nothing, out=data.parent / "nothing", workers=1).best().empty
