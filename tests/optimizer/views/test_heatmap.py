"""Figures: what they show, against pandas, and that their files need no network."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from optimizer.errors import StudyError
from optimizer.review.unseal import unseal_study
from optimizer.search.result import StudyResult
from optimizer.search.run import run_study
from optimizer.views import binning
from optimizer.views.heatmap import heatmap
from optimizer.views.report.content import gather
from optimizer.views.report.search_figures import heatmap as report_heatmap
from tests.support.command import barsweep
from tests.support.studies import random_bars, small_study, write_bars


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> StudyResult:
    path = tmp_path_factory.mktemp("figures")
    bars = write_bars(path / "bars.parquet", random_bars())
    search = {"constraints": ["max_drawdown <= 0.03"]}
    found = run_study(small_study(bars, search=search), out=path / "out", workers=1)
    unseal_study(path / "out")
    return found


@pytest.mark.parametrize("metric", ["sharpe", "n_trades"])
def test_a_cell_is_the_median_of_its_feasible_sets(result: StudyResult, metric: str) -> None:
    figure = heatmap(result.folder.path, "lookback", "kelly_fraction", metric)
    frame = result.out_of_sample()
    frame = frame[frame["feasible"]]
    for trace, name in zip(
        [one for one in figure.data if one.type == "heatmap"],
        [metric, f"oos_{metric}"],
        strict=True,
    ):
        pivot = frame.pivot_table(
            index="kelly_fraction", columns="momentum_lookback", values=name, aggfunc="median"
        )
        np.testing.assert_array_equal(trace.x, pivot.columns.to_numpy())
        np.testing.assert_array_equal(trace.y, pivot.index.to_numpy())
        np.testing.assert_allclose(np.array(trace.z, dtype=float), pivot.to_numpy(), rtol=1e-6)
        counts = np.array(trace.customdata, dtype=float)[:, :, 2]
        assert np.nansum(counts) == len(frame)


def test_the_star_is_on_the_best_set(result: StudyResult) -> None:
    best = result.best(1).iloc[0]
    stars = [one for one in heatmap(result.folder.path, "lookback", "threshold").data
             if one.type == "scatter" and one.mode == "markers"]  # fmt: skip
    assert len(stars) == 2
    for star in stars:
        assert float(star.x[0]) == best["momentum_lookback"]
        assert float(star.y[0]) == best["momentum_threshold"]


def test_many_values_are_put_into_bins(
    result: StudyResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binning, "MOST_VALUES", 3)
    monkeypatch.setattr(binning, "N_BINS", 4)
    trace = heatmap(result.folder.path, "max_exposure", "threshold", "oos_sharpe").data[0]
    frame = result.out_of_sample()
    assert len(trace.x) == 4
    frame["bin"] = pd.cut(frame["max_exposure"], 4, labels=False)
    bins = frame.loc[frame["feasible"] & frame["oos_sharpe"].notna(), "bin"]
    counts = np.nan_to_num(np.array(trace.customdata, dtype=float)[:, :, 2]).sum(axis=0)
    assert counts.tolist() == [(bins == i).sum() for i in range(4)]


@pytest.mark.parametrize("most", [2, 3, 25])
def test_the_cells_are_those_of_the_report(
    result: StudyResult, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """The same study shows one picture, whether its values have cells of their own or bins."""
    monkeypatch.setattr(binning, "MOST_VALUES", most)
    content = gather(result.folder.path, simulate=False)
    grids = [grid for grid in content.grids if "strategy" not in grid.x.name]
    assert len(grids) > 3
    for grid in grids:
        trace, outlined, *_ = heatmap(result.folder.path, grid.x.name, grid.y.name).data
        np.testing.assert_array_equal(trace.x, grid.x.centres)
        np.testing.assert_array_equal(trace.y, grid.y.centres)
        cells, line, *_ = report_heatmap(content, grid, "median", (0.0, 1.0)).data
        for own, other in ((trace.z, cells.z), (outlined.x, line.x), (outlined.y, line.y)):
            np.testing.assert_array_equal(own, other)


def test_values_that_are_close_have_labels_of_their_own() -> None:
    values = pd.Series([1.00001, 1.00002, 250.0], name="x")
    assert binning.axis_of(values).labels == ("1.00001", "1.00002", "250")
    assert binning.axis_of(values + 1e9).labels == (
        "1000000001.00001",
        "1000000001.00002",
        "1000000250",
    )


def test_less_is_better_for_a_drawdown(result: StudyResult) -> None:
    path = result.folder.path
    down = heatmap(path, "lookback", "threshold", "max_drawdown").layout.coloraxis.reversescale
    up = heatmap(path, "lookback", "threshold", "sharpe").layout.coloraxis.reversescale
    assert (down, up) == (True, False)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("lookbak", "threshold"), '"lookbak"'),
        (("lookback", "momentum_lookback"), "two parameters"),
        (("sharpe", "lookback"), 'no column "sharpe"'),
        (("lookback", "bull_multiplier"), "bull_multiplier is 1.2 in every set"),
        (("lookback", "threshold", "sharp"), 'did you mean "sharpe"?'),
    ],
)
def test_a_mistake_is_named(result: StudyResult, names: tuple[str, ...], words: str) -> None:
    with pytest.raises(StudyError, match=re.escape(words)):
        heatmap(result.folder.path, *names)


def test_the_file_needs_no_network(result: StudyResult, tmp_path: Path) -> None:
    out = tmp_path / "map.html"
    done = barsweep("plot", result.folder.path, "--heatmap", "lookback", "threshold", "--out", out,
                    folder=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert str(out) in done.stdout
    text = out.read_text(encoding="utf-8")
    assert "Plotly.newPlot" in text
    tags = re.findall(r"<(?:script|link|img|iframe)\b[^>]*>", text)
    assert not [
        tag for tag in tags if re.search(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", tag)
    ]
    assert out.stat().st_size < 8e6
    wrong = barsweep("plot", result.folder.path, "--heatmap", "x", "threshold", folder=tmp_path)
    assert (wrong.returncode, len(wrong.stderr.splitlines())) == (2, 1)
