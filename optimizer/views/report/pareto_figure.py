"""The figure of a report about several objectives at once."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from optimizer.store.pareto import gains_of, non_dominated
from optimizer.types import IntArray
from optimizer.views.report.content import Content
from optimizer.views.report.formats import hover_format, metric_title, safe, tick_format
from optimizer.views.report.style import LIGHT, figure

MOST_FRONT, MOST_OTHERS = 1000, 2000
"""Sets that the figure shows."""


def pareto(content: Content) -> go.Figure | None:
    """The first two objectives of the sets, those of the Pareto front marked.

    The front is that over all objectives, of feasible sets; a third objective is its colour.

    Args:
        content: the content of the report.

    Returns:
        The figure; None where the study has one objective, or no feasible set has a value.
    """
    search = content.study.search
    names = search.objective
    if len(names) < 2:
        return None
    every = gains_of(content.sets, dict(zip(names, search.direction, strict=True)))
    kept = content.sets["feasible"].to_numpy(np.bool_) & np.isfinite(every).all(axis=1)
    if not kept.any():
        return None
    sets, gains = content.sets.loc[kept], every[kept]
    on_front = non_dominated(gains)
    values = sets[list(names)].astype("float64").to_numpy()
    numbers = sets["set"].to_numpy(np.int64)
    made = figure(460, hovermode="closest")
    hover = "<br>".join(
        f"{safe(name)} %{{customdata[{k + 1}]:{hover_format(name)}}}"
        for k, name in enumerate(names)
    )
    order = np.flatnonzero(on_front)[np.argsort(values[on_front, 0], kind="stable")]
    colour = {}
    if len(names) > 2:
        bar = {"title": {"text": safe(metric_title(names[2]))}, "thickness": 12}
        colour = {"color": values[_evenly(order, MOST_FRONT), 2], "colorbar": bar}
    for label, places, marker in (
        ("other sets", _evenly(np.flatnonzero(~on_front), MOST_OTHERS), {"color": LIGHT["grey"]}),
        (
            "on the front",
            _evenly(order, MOST_FRONT),
            {"color": LIGHT["blue"], "size": 9, "colorscale": "Cividis", **colour},
        ),
    ):
        made.add_trace(
            go.Scatter(
                x=values[places, 0].astype(np.float32),
                y=values[places, 1].astype(np.float32),
                customdata=np.column_stack([numbers[places], values[places]]),
                name=label,
                mode="markers",
                marker={"size": 6, **marker},
                hovertemplate=f"set %{{customdata[0]:,.0f}}<br>{hover}<extra>{label}</extra>",
            )
        )
    for axis, name in ((made.layout.xaxis, names[0]), (made.layout.yaxis, names[1])):
        axis.update(title={"text": safe(metric_title(name))}, tickformat=tick_format(name))
    made.update_layout(legend={"orientation": "h", "y": 1.08}, showlegend=True)
    return made


def _evenly(places: IntArray, most: int) -> IntArray:
    """At most so many of the places, evenly spaced."""
    if len(places) <= most:
        return places
    return places[np.linspace(0, len(places) - 1, most).round().astype(np.int64)]
