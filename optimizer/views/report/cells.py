"""The cells of two parameters as a figure, which the report and `barsweep plot` draw alike."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import plotly.graph_objects as go

from optimizer.types import Float32Array, FloatArray
from optimizer.views.binning import Axis
from optimizer.views.report.formats import hover_format, safe
from optimizer.views.report.style import LIGHT
from optimizer.views.report.sweep import Grid, outline, plateau

Statistic = Literal["median", "best"]

SCALE = "Cividis"
"""The colours of all heatmaps, which the colour-blind tell apart; reversed where less is better."""

MOST_TICKS = 12
"""Cells up to which each has a tick."""


def _single(values: FloatArray) -> Float32Array:
    """Values in single precision, which is enough for a figure; larger ones become the largest."""
    largest = float(np.finfo(np.float32).max)
    single: Float32Array = np.clip(values, -largest, largest).astype(np.float32)
    return single


def heat_traces(
    grid: Grid,
    metric: str,
    maximize: bool,
    statistic: Statistic = "median",
    star: tuple[int, int] | None = None,
    **colors: Any,
) -> list[go.Heatmap | go.Scatter]:
    """The cells of a grid, the plateau outlined and the best set starred.

    Args:
        grid: the metric over two parameters.
        metric: the name of the metric.
        maximize: whether more of it is better.
        statistic: what the colour of a cell shows of its sets.
        star: the cell of the best set, along x and along y; None draws no star.
        **colors: the colours, as plotly's ``Heatmap`` takes them.

    Returns:
        The traces, the cells first.
    """
    cells = grid.median if statistic == "median" else grid.best
    show = hover_format(metric)
    traces = [
        go.Heatmap(
            x=grid.x.centres,
            y=grid.y.centres,
            z=_single(cells),
            customdata=_single(np.dstack([grid.worst, grid.best, grid.counts])),
            hoverongaps=False,
            hovertemplate=f"{safe(grid.x.name)} %{{x}}, {safe(grid.y.name)} %{{y}}<br>{statistic}"
            f" {safe(metric)} %{{z:{show}}}<br>from %{{customdata[0]:{show}}} to"
            f" %{{customdata[1]:{show}}}, %{{customdata[2]:,.0f}} sets<extra></extra>",
            **colors,
        )
    ]
    x, y = outline(plateau(cells, maximize), grid.x.edges, grid.y.edges)
    traces.append(
        go.Scatter(
            x=np.array(x, np.float64), y=np.array(y, np.float64), mode="lines", hoverinfo="skip",
            showlegend=False, line={"color": LIGHT["orange"], "width": 3},
        )
    )  # fmt: skip
    if star is not None:
        traces.append(
            go.Scatter(
                x=[grid.x.centres[star[0]]], y=[grid.y.centres[star[1]]], mode="markers",
                showlegend=False, hovertemplate="the best set<extra></extra>",
                marker={
                    "symbol": "star", "size": 14, "color": "white",
                    "line": {"color": "black", "width": 1},
                },
            )
        )  # fmt: skip
    return traces


def axis_layout(axis: Axis) -> dict[str, Any]:
    """How a parameter is drawn along the side of its cells.

    Args:
        axis: the parameter.

    Returns:
        Settings of an axis of plotly, without its title.
    """
    edges = axis.edges
    ends = np.log10(edges[[0, -1]]) if axis.log else edges[[0, -1]]
    layout: dict[str, Any] = {
        "type": "log" if axis.log else "linear",
        "range": ends.tolist(),
        "showgrid": False,
        "zeroline": False,
    }
    if axis.numeric and len(axis.labels) > MOST_TICKS:
        return layout
    return layout | {
        "tickmode": "array",
        "tickvals": axis.centres.tolist(),
        "ticktext": [safe(label) for label in axis.labels],
    }
