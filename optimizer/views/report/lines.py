"""Lines of a figure: few points that draw the same picture."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go

from optimizer.types import FloatArray, IntArray
from optimizer.views.report.style import LIGHT

MOST_POINTS = 2000
"""Points of a line; of more, only the extremes of short stretches are drawn."""


def milliseconds(times: pd.DatetimeIndex) -> FloatArray:
    """Times as the numbers of plotly's date axes.

    Args:
        times: (n,) in UTC.

    Returns:
        (n,) milliseconds since 1970.
    """
    return times.as_unit("ms").asi8.astype(np.float64)


def thinned(values: FloatArray, most: int = MOST_POINTS) -> IntArray:
    """Choose the points of a line that draw the same picture: the extremes of each stretch.

    Args:
        values: (n,) of the line.
        most: points to keep.

    Returns:
        Places of the points, ascending, at most ``most``.
    """
    n = len(values)
    if n <= most:
        return np.arange(n)
    edges = np.linspace(0, n, most // 2, dtype=np.int64)
    places = [0, n - 1]
    for start, stop in pairwise(edges.tolist()):
        part = np.nan_to_num(values[start:stop])
        places += [start + int(part.argmin()), start + int(part.argmax())]
    return np.unique(places)


def line(
    times: FloatArray,
    values: FloatArray,
    name: str,
    color: str,
    dash: str = "solid",
    most: int = MOST_POINTS,
    **more: Any,
) -> go.Scatter:
    """A line of a figure, thinned.

    Args:
        times: (n,) milliseconds, see ``milliseconds``.
        values: (n,) of the line.
        name: the name in the legend and on hover.
        color: the name of a colour of the report.
        dash: plotly's name of a dash.
        most: points to keep.
        **more: further options of plotly's ``Scatter``.

    Returns:
        The trace.
    """
    places = thinned(values, most)
    return go.Scatter(
        x=times[places],
        y=values[places].astype(np.float32),
        name=name,
        mode="lines",
        line={"color": LIGHT[color], "width": 1.6, "dash": dash},
        **more,
    )


def middles(edges: FloatArray) -> npt.NDArray[np.float32]:
    """Middle of each bin of a histogram.

    Args:
        edges: (n_bins + 1,) ascending.

    Returns:
        (n_bins,) in single precision, which is enough for a figure.
    """
    return ((edges[1:] + edges[:-1]) / 2).astype(np.float32)
