"""The sketch of a figure shows its lines where they are."""

import re

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from optimizer.types import FloatArray
from optimizer.views.report.lines import line
from optimizer.views.report.sketch import sketch

HEIGHT, MARGINS = 440, 36 + 48


def drawn(values: FloatArray, falls: FloatArray) -> str:
    times = np.arange(len(values), dtype=np.float64) * 86_400_000.0
    made: go.Figure = make_subplots(rows=2, cols=1, row_heights=[0.6, 0.4], vertical_spacing=0.1)
    made.update_layout(height=HEIGHT)
    made.add_trace(line(times, values, "a <b>", "blue"), 1, 1)
    made.add_trace(line(times, falls, "a <b>", "blue", "dot", showlegend=False), 2, 1)
    made.update_yaxes(tickformat="~s", row=1, col=1)
    made.update_yaxes(tickformat=".0%", row=2, col=1)
    made.add_shape(type="rect", x0=times[len(times) // 2], x1=times[-1])
    return sketch(made)


def points(html: str) -> list[FloatArray]:
    return [
        np.array([pair.split(",") for pair in found.split()], np.float64)
        for found in re.findall('points="([^"]*)"', html)
    ]


def test_each_line_spans_its_panel() -> None:
    values = np.array([100_000.0, 250_000.0, 50_000.0, 150_000.0, np.nan])
    html = drawn(values, np.array([0.0, -0.1, -0.25, 0.0, 0.0]))
    upper, lower = points(html)
    inner = HEIGHT - MARGINS
    # The upper panel has 0.6 of the 0.9 that the gap leaves; y runs down.
    bottom = 0.9 * 0.6 * inner
    expected = bottom - (values[:4] - 50_000) / 200_000 * bottom
    np.testing.assert_allclose(upper[:, 1], expected, atol=0.06)
    np.testing.assert_allclose(upper[:, 0], [0, 250, 500, 750])
    assert (lower[:, 1].min(), lower[:, 1].max()) == (round(inner * 0.64, 1), inner)
    assert [one for one in ("250k", "50k", "0%", "-25%") if f">{one}<" not in html] == []
    assert "1970-01-01" in html and "1970-01-05" in html
    assert 'rect x="500.0" width="500.0"' in html
    assert html.count("a &lt;b&gt;") == 1  # one name, as text


def test_a_long_line_keeps_its_extremes() -> None:
    values = np.ones(50_000)
    values[31_234], values[40_001] = 3.0, -1.0
    upper, lower = points(drawn(values, values * 0.0))
    assert len(upper) <= 300
    assert upper[:, 1].min() == 0
    assert upper[upper[:, 1].argmin(), 0] == round(31_234 / 49_999 * 1000)
    assert upper[upper[:, 1].argmax(), 0] == round(40_001 / 49_999 * 1000)
    assert np.isfinite(lower).all()
