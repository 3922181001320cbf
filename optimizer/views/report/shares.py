"""Shares as horizontal bars, as two figures of the report draw them."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from optimizer.views.report.style import LIGHT, figure


def share_bars(
    names: Sequence[str],
    shares: Sequence[float],
    texts: Sequence[str],
    title: str,
    hover: str,
    colors: Sequence[str] | str = LIGHT["blue"],
) -> go.Figure:
    """Shares as horizontal bars, each with a text at its end.

    Args:
        names: a name for each bar, from the bottom up.
        shares: the length of each bar, a fraction.
        texts: what stands at the end of each bar.
        title: the title of the axis of shares.
        hover: plotly's template of what is shown on hover; ``%{text}`` is the bar's text.
        colors: the colour of each bar, or of all.

    Returns:
        The figure.
    """
    made = figure(100 + 28 * len(names), bargap=0.3)
    made.add_trace(
        go.Bar(
            x=list(shares),
            y=list(names),
            orientation="h",
            marker={"color": colors},
            text=list(texts),
            textposition="outside",
            cliponaxis=False,
            hovertemplate=f"{hover}<extra></extra>",
        )
    )
    greatest = max(shares, default=0.0)
    made.update_xaxes(title_text=title, tickformat=".0%", range=[0, max(greatest * 1.2, 0.01)])
    made.update_yaxes(type="category", showgrid=False)
    return made
