"""The Pareto front, against a comparison of every pair of sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.errors import StudyError
from optimizer.review.unseal import unseal_study
from optimizer.search.result import StudyResult
from optimizer.search.run import run_study
from optimizer.store.pareto import non_dominated, pareto_sets
from optimizer.views.study_figures import plot_study
from tests.support.command import barsweep
from tests.support.studies import small_study


def by_pairs(gains: list[tuple[float, ...]]) -> list[bool]:
    """Whether each row is beaten by none, and no row before it is equal."""
    return [
        not any(
            all(a >= b for a, b in zip(other, own, strict=True)) and (other != own or j < i)
            for j, other in enumerate(gains)
            if j != i
        )
        for i, own in enumerate(gains)
    ]


@given(
    gains=st.integers(1, 4).flatmap(
        lambda n: st.lists(st.tuples(*[st.integers(-3, 3).map(float)] * n), min_size=1, max_size=30)
    )
)
def test_the_front_is_what_no_other_row_beats(gains: list[tuple[float, ...]]) -> None:
    assert non_dominated(np.array(gains)).tolist() == by_pairs(gains)


def test_no_rows() -> None:
    assert non_dominated(np.zeros((0, 2))).tolist() == []


@pytest.fixture(scope="module")
def result(data: Path) -> StudyResult:
    search = {
        "sampler": "nsga2",
        "trials": 12,
        "objective": ["sharpe", "max_drawdown", "sqrt(n_trades) + turnover"],
        "constraints": ["max_exposure <= 0.9", "max_drawdown <= 0.03"],
    }
    return run_study(small_study(data, search=search), out=data.parent / "out", workers=1)


def expected(frame: pd.DataFrame, *, third: bool) -> list[int]:
    known = frame[frame["feasible"] & frame["sharpe"].notna()]
    gains = [known["sharpe"], -known["max_drawdown"]]
    if third:
        gains.append(np.sqrt(known["n_trades"]) + known["turnover"])
    rows = list(zip(*gains, strict=True))
    front = known[by_pairs(rows)]
    return front.sort_values("sharpe", ascending=False, kind="stable")["set"].to_list()


def test_a_study_with_several_objectives(result: StudyResult) -> None:
    frame = result.results()
    assert not frame["feasible"].all()
    front = result.pareto()
    assert front["set"].to_list() == expected(frame, third=True)
    assert "sqrt(n_trades) + turnover" in front.columns
    two = result.pareto("sharpe", "max_drawdown")
    assert two["set"].to_list() == expected(frame, third=False)
    assert len(two) < len(front)
    pd.testing.assert_frame_equal(two, pareto_sets(result, ["sharpe", "max_drawdown"]))
    # A front of other metrics than the study's own.
    other = result.pareto("-max_drawdown")
    assert other["-max_drawdown"].to_list() == [-frame[frame["feasible"]]["max_drawdown"].min()]


def test_mistakes(result: StudyResult) -> None:
    with pytest.raises(StudyError, match=r'objectives: got "sharp"; did you mean "sharpe"\?'):
        result.pareto("sharp")
    with pytest.raises(StudyError, match="objectives: an empty list; name a metric"):
        pareto_sets(result, [])
    with pytest.raises(StudyError, match=r'figure: no figure "front"; valid: equity, search'):
        plot_study(result, "front")  # type: ignore[arg-type]
    with pytest.raises(StudyError, match="no figure density: the holdout is sealed"):
        result.plot_density()


def test_what_people_see(result: StudyResult) -> None:
    front = result.pareto()
    folder = result.folder.path
    shown = barsweep("show", folder, "--pareto", "--top", "100", folder=folder).stdout
    said = f"{len(front)} sets of {len(result.results())} on the Pareto front of sharpe and max_drawdown"
    assert said in " ".join(shown.split())
    listed = (line.split() for line in shown.splitlines())
    numbers = [int(words[0]) for words in listed if len(words) > 5 and words[0].isdigit()]
    assert numbers[1:] == front["set"].to_list(), shown
    refused = barsweep("show", folder, "--pareto", "--contenders", folder=folder)
    assert refused.returncode == 2
    assert "give --contenders or --pareto, not both" in refused.stderr
    figure = result.plot_pareto()
    others, marked = figure.data
    assert len(others.x) + len(marked.x) == result.results()["feasible"].sum()
    assert sorted(marked.customdata[:, 0]) == sorted(front["set"])
    assert marked.marker.color.tolist() == marked.customdata[:, 3].tolist()
    barsweep("report", folder, folder=folder)
    assert "Pareto front marked" in (result.folder.path / "report.html").read_text()


def test_the_figures_of_a_result(data: Path) -> None:
    result = run_study(small_study(data, search={"trials": 4}), out=data.parent / "one", workers=1)
    names = [line.name for line in result.plot_equity().data]
    assert names[0] == f"winner, set {result.best(1)['set'].iloc[0]}"
    assert result.plot_search().data
    assert result.plot_parameters().data
    assert result.plot_heatmap("threshold", "kelly_fraction").data
    with pytest.raises(StudyError, match=r"no figure pareto: the study has one objective"):
        result.plot_pareto()
    # The front of one objective is the best set.
    assert result.pareto()["set"].to_list() == result.best(1)["set"].to_list()
    unseal_study(result)
    assert result.plot_density().data
    assert "oos_sharpe" in result.pareto().columns
