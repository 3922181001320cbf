"""Figures of a study, as plotly objects, and their files, which open offline."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from optimizer.catalogue import CLASSIFIERS, METRIC_DIRECTIONS, METRICS, RISK, column
from optimizer.errors import StudyError
from optimizer.store.folder import StudyFolder
from optimizer.store.guards import HTML, check_output, write_output
from optimizer.store.names import OUT_OF_SAMPLE
from optimizer.store.query import best_sets, column_of, owners_of
from optimizer.strategies.built_in import BUILT_IN
from optimizer.study_file.study import study_from_dict
from optimizer.text import show, suggest

MOST_CELLS = 40
"""Distinct values of a parameter that get a cell each; more are put into ``BINS`` of equal width."""

BINS = 24

_SUMMARIES = {
    column(owner, one.name): one.summary
    for owner, group in (
        *((name, strategy.parameters) for name, strategy in BUILT_IN.items()),
        *CLASSIFIERS.items(),
        ("risk", RISK),
    )
    for one in group
}


def heatmap(folder: str | Path, x: str, y: str, metric: str = "sharpe") -> go.Figure:
    """A metric over two parameters: in each cell the median over all the others.

    The median, since the best of a cell shows luck where a cell has many sets. Feasible sets alone
    count. In-sample stands beside out-of-sample where the study has a holdout; one colour scale holds
    for both. A star marks the best set of the study. A parameter with more than 40 values is put
    into bins.

    Args:
        folder: of the study.
        x, y: parameters; one may go without the name of its strategy.
        metric: one of the metrics, or ``oos_`` and one of them, which is shown alone.

    Raises:
        StudyError: there is no study or no feasible set, a name is not one of its parameters or
            metrics, or a parameter has one value alone.
    """
    opened = StudyFolder.open(Path(folder))
    study = opened.manifest()["study"]
    known = {"set", "trial", "strategy", "classifier", "feasible", "score"}
    parameters = [
        name for name in opened.columns() if name not in {*known, *METRICS, *OUT_OF_SAMPLE}
    ]
    x, y = (column_of(name, parameters, owners_of(study), "heatmap") for name in (x, y))
    if x == y:
        raise StudyError(f"heatmap: {show(x)} twice; name two parameters")
    if metric not in (*METRICS, *OUT_OF_SAMPLE):
        raise StudyError(f"metric: no metric {show(metric)}; {suggest(metric, METRICS)}")
    shown = [metric] if metric in OUT_OF_SAMPLE else [metric, f"oos_{metric}"]
    frame = opened.results([x, y, "feasible", *shown])
    frame = frame[frame["feasible"]].dropna(subset=[x, y])
    if frame.empty:
        raise StudyError(f"{folder}: no feasible set has both {x} and {y}")
    shown = [name for name in shown if name == metric or frame[name].notna().any()]
    for name in (x, y):
        if frame[name].nunique() < 2:
            value = frame[name].iloc[0]
            raise StudyError(
                f"heatmap: {name} is {value:g} in every set of {folder}; name one that varies"
            )
    best = best_sets(opened, study_from_dict(study).search, 1).iloc[0]
    across, titles_x, star_x = _cells(frame[x], best[x])
    up, titles_y, star_y = _cells(frame[y], best[y])
    figure = make_subplots(
        cols=len(shown),
        shared_yaxes=True,
        horizontal_spacing=0.04,
        subplot_titles=[
            "out-of-sample" if name in OUT_OF_SAMPLE else "in-sample" for name in shown
        ],
    )
    for place, name in enumerate(shown, 1):
        values = pd.to_numeric(frame[name]).astype("float64")
        cells = values.groupby([up, across])
        shape = (len(titles_y), len(titles_x))
        median = _grid(cells.median(), shape)
        details = np.dstack([_grid(cells.max(), shape), _grid(cells.min(), shape)])
        details = np.dstack([details, _grid(cells.count().astype("float64"), shape)])
        figure.add_trace(
            go.Heatmap(
                x=titles_x,
                y=titles_y,
                z=median,
                customdata=details,
                coloraxis="coloraxis",
                hoverongaps=False,
                hovertemplate=f"{x} %{{x}}<br>{y} %{{y}}<br>median %{{z:.3g}}<br>"
                "from %{customdata[1]:.3g} to %{customdata[0]:.3g}<br>"
                "%{customdata[2]:,} sets<extra></extra>",
            ),
            row=1,
            col=place,
        )
        if star_x is not None and star_y is not None:
            figure.add_trace(
                go.Scatter(
                    x=[star_x],
                    y=[star_y],
                    mode="markers",
                    marker={
                        "symbol": "star",
                        "size": 14,
                        "color": "white",
                        "line": {"color": "black", "width": 1},
                    },
                    hovertemplate=f"best set: {int(best['set'])}<extra></extra>",
                    showlegend=False,
                ),
                row=1,
                col=place,
            )
    base = metric.removeprefix("oos_")
    label = base.replace("_", " ")
    figure.update_xaxes(title=_SUMMARIES.get(x, x), type="category", categoryarray=titles_x)
    figure.update_yaxes(type="category", categoryarray=titles_y)
    figure.update_yaxes(title=_SUMMARIES.get(y, y), col=1)
    figure.update_layout(
        title=f"{study['study']['name']}: {label} over {x} and {y}, median of the sets in each cell",
        coloraxis={
            "colorscale": "Viridis",
            "reversescale": METRIC_DIRECTIONS[base] == "minimize",
            "colorbar": {"title": {"text": label}},
        },
    )
    return figure


def write_figure(figure: go.Figure, out: str | Path) -> Path:
    """Write a figure as one HTML file that opens with no network.

    Raises:
        StudyError: the file cannot be written.
    """
    path = Path(out)
    check_output(path, HTML, "a figure")
    text = figure.to_html(
        include_plotlyjs=True, full_html=True, config={"displaylogo": False}, default_height="95vh"
    )
    write_output(path, text)
    return path


def _cells(values: pd.Series[float], marked: float) -> tuple[Any, list[str], str | None]:
    """The cell of each value, the titles of the cells, and the title of that of ``marked``."""
    distinct = np.unique(values.to_numpy(np.float64))
    if len(distinct) <= MOST_CELLS:
        titles = [f"{value:g}" for value in distinct]
        places, at = np.searchsorted(distinct, values), np.searchsorted(distinct, marked)
    else:
        edges = np.linspace(distinct[0], distinct[-1], BINS + 1)
        titles = [f"{low:.3g} to {high:.3g}" for low, high in itertools.pairwise(edges)]
        places = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, BINS - 1)
        at = np.clip(np.searchsorted(edges, marked, side="right") - 1, 0, BINS - 1)
    star = None if np.isnan(marked) else titles[int(at)]
    return pd.Series(places, values.index), titles, star


def _grid(cells: pd.Series[float], shape: tuple[int, int]) -> Any:
    grid = np.full(shape, np.nan)
    rows, columns = (cells.index.get_level_values(level).to_numpy() for level in (0, 1))
    grid[rows, columns] = cells.to_numpy()
    return grid
