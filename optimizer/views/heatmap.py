"""A metric over two parameters as a figure, and its file, which opens offline."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from optimizer.catalogue import CLASSIFIERS, COSTS, METRICS, RISK, column
from optimizer.errors import StudyError
from optimizer.store.columns import parameter_columns
from optimizer.store.folder import StudyFolder
from optimizer.store.guards import HTML, check_output, write_output
from optimizer.store.query import best_sets, column_of, owners_of
from optimizer.store.seal import is_sealed, require_unsealed, with_holdout
from optimizer.strategies.built_in import BUILT_IN
from optimizer.study_file.space import build_space
from optimizer.study_file.study import recorded_study
from optimizer.text import quoted, suggest
from optimizer.views.binning import axis_of, log_parameters

_SUMMARIES = {
    column(owner, one.name): one.summary
    for owner, group in (
        *((name, strategy.parameters) for name, strategy in BUILT_IN.items()),
        *CLASSIFIERS.items(),
        ("risk", RISK),
        ("costs", COSTS),
    )
    for one in group
}


def heatmap(folder: str | os.PathLike[str], x: str, y: str, metric: str = "sharpe") -> go.Figure:
    """Draw a metric over two parameters: in each cell the median over all others.

    The median, since the best of many sets in a cell shows luck. Only feasible sets count. A study
    whose holdout is unsealed has two panels, in-sample and out-of-sample, with one colour scale. A
    star marks the best set of the study. The cells are those of the report, see ``axis_of``.

    Args:
        folder: the folder of the study.
        x, y: parameters; the name of the strategy in front may be left out.
        metric: one of the metrics, or ``oos_`` and one of them, which has one panel.

    Returns:
        A plotly figure.

    Raises:
        StudyError: there is no study or no feasible set, a name is not one of its parameters or
            metrics, a parameter has only one value, or the metric is of the holdout, which is sealed.
    """
    opened = StudyFolder.open(Path(folder))
    manifest = opened.manifest()
    recorded = manifest["study"]
    study = recorded_study(recorded, manifest["study_folder"])
    parameters = parameter_columns(opened.columns())
    x, y = (column_of(name, parameters, owners_of(recorded), "heatmap") for name in (x, y))
    if x == y:
        raise StudyError(f"heatmap: {quoted(x)} twice; name two parameters")
    metrics, sealed = (*METRICS, *opened.expressions()), opened.out_of_sample_columns()
    if metric not in (*metrics, *sealed):
        raise StudyError(f"metric: no metric {quoted(metric)}; {suggest(metric, metrics)}")
    shown = [metric] if metric in sealed or is_sealed(opened) else [metric, f"oos_{metric}"]
    outside = [name for name in shown if name in sealed]
    inside = [name for name in shown if name in metrics]
    every = opened.results(["set", x, y, "feasible", *inside])
    if outside:
        require_unsealed(opened, outside[0])
        every = with_holdout(opened, every, outside)
    log = log_parameters(build_space(study))
    across, up = (axis_of(every[name], name in log) for name in (x, y))
    frame = every[every["feasible"]].dropna(subset=[x, y])
    if frame.empty:
        raise StudyError(f"{opened.path}: no feasible set has both {x} and {y}")
    shown = [name for name in shown if name == metric or frame[name].notna().any()]
    for name in (x, y):
        if frame[name].nunique() < 2:
            value = frame[name].iloc[0]
            raise StudyError(
                f"heatmap: {name} is {value:g} in every set of {opened.path}; name one that varies"
            )
    best = int(best_sets(opened, study.search, 1)["set"].iloc[0])
    star_y, star_x = (axis.codes[(every["set"] == best).to_numpy()][0] for axis in (up, across))
    codes_y, codes_x = (pd.Series(axis.codes, every.index)[frame.index] for axis in (up, across))
    shape = (len(up.labels), len(across.labels))
    figure = make_subplots(
        cols=len(shown),
        shared_yaxes=True,
        horizontal_spacing=0.04,
        subplot_titles=["out-of-sample" if name in sealed else "in-sample" for name in shown],
    )
    for place, name in enumerate(shown, 1):
        values = pd.to_numeric(frame[name]).astype("float64")
        cells = values.groupby([codes_y, codes_x])
        median = _grid(cells.median(), shape)
        details = np.dstack([_grid(cells.max(), shape), _grid(cells.min(), shape)])
        details = np.dstack([details, _grid(cells.count().astype("float64"), shape)])
        figure.add_trace(
            go.Heatmap(
                x=across.labels,
                y=up.labels,
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
        if star_x >= 0 and star_y >= 0:
            figure.add_trace(
                go.Scatter(
                    x=[across.labels[star_x]],
                    y=[up.labels[star_y]],
                    mode="markers",
                    marker={
                        "symbol": "star",
                        "size": 14,
                        "color": "white",
                        "line": {"color": "black", "width": 1},
                    },
                    hovertemplate=f"best set: {best}<extra></extra>",
                    showlegend=False,
                ),
                row=1,
                col=place,
            )
    base = metric.removeprefix("oos_")
    label = base.replace("_", " ")
    figure.update_xaxes(title=_SUMMARIES.get(x, x), type="category", categoryarray=across.labels)
    figure.update_yaxes(type="category", categoryarray=up.labels)
    figure.update_yaxes(title=_SUMMARIES.get(y, y), col=1)
    figure.update_layout(
        title=f"{study.name}: {label} over {x} and {y}, median of the sets in each cell",
        coloraxis={
            "colorscale": "Viridis",
            "reversescale": study.search.directions[base] == "minimize",
            "colorbar": {"title": {"text": label}},
        },
    )
    return figure


def write_figure(figure: go.Figure, out: str | Path) -> Path:
    """Write a figure as one HTML file that opens offline.

    Args:
        figure: a plotly figure.
        out: the file, which ends in .html or .htm.

    Returns:
        The file written.

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


def _grid(cells: pd.Series[float], shape: tuple[int, int]) -> Any:
    grid = np.full(shape, np.nan)
    rows, columns = (cells.index.get_level_values(level).to_numpy() for level in (0, 1))
    grid[rows, columns] = cells.to_numpy()
    return grid
