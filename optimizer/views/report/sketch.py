"""A figure of lines in a few strokes, on screen before the browser has read the library that draws it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from optimizer.review.html import render
from optimizer.types import FloatArray
from optimizer.views.report.lines import thinned
from optimizer.views.report.style import LIGHT, TEMPLATE

_MOST_POINTS = 300
_WIDTH = 1000
_LINE = 16
"""Height of a label in pixels."""

_DASHES = {"solid": "none", "dot": "2 3", "dash": "7 5", "dashdot": "7 4 2 4"}
_NAMES = {color: name for name, color in LIGHT.items()}


def sketch(figure: go.Figure) -> str:
    """Draw the lines of a figure over time; each panel tells its highest and its lowest value.

    Args:
        figure: a figure with a height. Its traces are lines in the colours of the report over
            milliseconds since 1970, in panels one above the other; its shapes are shaded times.

    Returns:
        An element of HTML as wide as its place, in the colours of the page.
    """
    margin = TEMPLATE.layout.margin
    inner = figure.layout.height - margin.t - margin.b
    span = _ends([np.asarray(trace.x, np.float64) for trace in figure.data])
    lines, labels = [], []
    for key in dict.fromkeys(trace.yaxis for trace in figure.data):
        axis = figure.layout[key.replace("y", "yaxis")]
        top, bottom = ((1 - end) * inner for end in reversed(axis.domain))
        traces = [trace for trace in figure.data if trace.yaxis == key]
        low, high = _ends([np.asarray(trace.y, np.float64) for trace in traces])
        for trace in traces:
            values = np.asarray(trace.y, np.float64)
            known = np.flatnonzero(np.isfinite(values))
            places = known[thinned(values[known], _MOST_POINTS)]
            x = _scaled(np.asarray(trace.x, np.float64)[places], span, 0, _WIDTH)
            y = _scaled(values[places], (low, high), bottom, top)
            lines.append(
                {
                    "points": " ".join(f"{a:.0f},{b:.1f}" for a, b in zip(x, y, strict=True)),
                    "color": _NAMES[trace.line.color],
                    "dash": _DASHES[trace.line.dash],
                }
            )
        percent = "%" in axis.tickformat
        labels.append((margin.t + top, _short(high, percent)))
        labels.append((margin.t + bottom - _LINE, _short(low, percent)))
    first, last = (f"{pd.Timestamp(end, unit='ms'):%Y-%m-%d}" for end in span)
    named = [trace for trace in figure.data if trace.showlegend is not False]
    return render(
        "optimizer.views.report",
        "sketch.html",
        height=figure.layout.height,
        inner=inner,
        width=_WIDTH,
        margin=margin,
        shades=[
            _scaled(np.array([one.x0, one.x1]), span, 0, _WIDTH) for one in figure.layout.shapes
        ],
        lines=lines,
        labels=labels,
        names=[(trace.name, _NAMES[trace.line.color]) for trace in named],
        first=first,
        last=last,
    )


def _ends(values: list[FloatArray]) -> tuple[float, float]:
    """The least and the greatest of all finite values."""
    joined = np.concatenate(values)
    known = joined[np.isfinite(joined)]
    return (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)


def _scaled(values: FloatArray, ends: tuple[float, float], start: float, stop: float) -> FloatArray:
    low, high = ends
    return start + (values - low) * ((stop - start) / ((high - low) or 1.0))


def _short(value: float, percent: bool) -> str:
    if percent:
        return f"{value:.0%}"
    for power, unit in ((9, "G"), (6, "M"), (3, "k")):
        if abs(value) >= 10**power:
            return f"{value / 10**power:.3g}{unit}"
    return f"{value:.3g}"
