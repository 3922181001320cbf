"""Colours and style of the report's page and figures.

Figures use the light palette; a page that is shown dark replaces each colour by its counterpart.
Both palettes are safe for the colour-blind, and lines differ in their dashes as well.
"""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

LIGHT = {
    "ink": "#1c2733",
    "muted": "#5a6775",
    "grid": "#dde3ea",
    "paper": "#fefefe",
    "panel": "#f4f6f9",
    "blue": "#0a66b7",
    "orange": "#b8540a",
    "teal": "#0b7a66",
    "grey": "#7c8793",
    "veil": "#8795a5",
    "few": "#c3d4e7",
    "some": "#4a80b8",
    "many": "#0b2a4e",
}
DARK = {
    "ink": "#e4eaf0",
    "muted": "#9caab8",
    "grid": "#2c3845",
    "paper": "#10161d",
    "panel": "#18212b",
    "blue": "#62b5f6",
    "orange": "#f2a154",
    "teal": "#4cc9ae",
    "grey": "#8b97a4",
    "veil": "#64748a",
    "few": "#3b5a7d",
    "some": "#86b0da",
    "many": "#fff2ae",
}
"""Colours by name, shared by CSS and figures."""

_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
AXIS = {
    "gridcolor": LIGHT["grid"],
    "linecolor": LIGHT["veil"],
    "zerolinecolor": LIGHT["grid"],
    "showline": True,
    "ticks": "outside",
    "tickcolor": LIGHT["veil"],
    "ticklen": 4,
    "automargin": True,
    "title": {"standoff": 8},
}
TEMPLATE = go.layout.Template(
    layout={
        "font": {"family": _FONT, "size": 13, "color": LIGHT["ink"]},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "colorway": [LIGHT[name] for name in ("blue", "orange", "teal", "grey")],
        "xaxis": AXIS,
        "yaxis": AXIS,
        "margin": {"l": 56, "r": 16, "t": 36, "b": 48},
        "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom"},
        "hoverlabel": {
            "bgcolor": LIGHT["paper"],
            "bordercolor": LIGHT["veil"],
            "font": {"family": _FONT, "color": LIGHT["ink"]},
        },
        "bargap": 0.08,
        "modebar": {
            "bgcolor": "rgba(0,0,0,0)",
            "color": LIGHT["grey"],
            "activecolor": LIGHT["ink"],
        },
    }
)


def figure(height: int, **layout: Any) -> go.Figure:
    """An empty figure in the style of the report.

    Args:
        height: pixels.
        layout: further settings of plotly's layout.

    Returns:
        The figure.
    """
    return go.Figure(layout={"template": TEMPLATE, "height": height, **layout})
