"""What the sections of a report hand to their templates."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import plotly.graph_objects as go

Values = dict[str, Any]
"""The values of a template, by name."""


@dataclass
class Drawn:
    """The figures that the page draws.

    Attributes:
        figures: the figures by the key of their place in the page.
        prices: the figures of which the reader chooses one by its symbol.
    """

    figures: dict[str, go.Figure] = field(default_factory=dict)
    prices: list[go.Figure] = field(default_factory=list)

    def add(self, key: str, figure: go.Figure | None) -> int | None:
        """Take a figure into the page.

        Args:
            key: the key of its place on the page.
            figure: None where there is nothing to draw.

        Returns:
            The height of its place in pixels; None without a figure.
        """
        if figure is None:
            return None
        self.figures[key] = figure
        return height_of(figure)


def height_of(figure: go.Figure) -> int:
    """The height of a figure.

    Args:
        figure: the figure with a height in its layout.

    Returns:
        Pixels.
    """
    return int(figure.layout.height)
