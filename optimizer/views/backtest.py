"""A figure of one parameter set."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from optimizer.sweep.backtest_result import BacktestResult
from optimizer.sweep.drawdown import drawdowns
from optimizer.views.report.formats import safe
from optimizer.views.report.lines import line, milliseconds
from optimizer.views.report.style import TEMPLATE


def plot_backtest(result: BacktestResult) -> go.Figure:
    """The equity, the drawdown and the exposure of one parameter set.

    >>> import optimizer
    >>> bars = optimizer.load_bars("bars.parquet")
    >>> result = optimizer.backtest(bars, {"strategy": "momentum", "momentum_lookback": 20})
    >>> [line.name for line in result.plot().data]
    ['equity', 'drawdown', 'exposure']

    Args:
        result: the set; one that is sealed ends before the holdout.
    """
    times = milliseconds(pd.DatetimeIndex(result.equity.index))
    equity = np.asarray(result.equity, np.float64)
    falls = 0.0 - drawdowns(equity, result.rules.initial_cash)
    exposure = result.weights.abs().sum(axis=1).to_numpy(np.float64)
    made = make_subplots(
        rows=3, cols=1, shared_xaxes=True, row_heights=[0.5, 0.25, 0.25], vertical_spacing=0.05
    )
    title = safe(str(result.parameters["strategy"]))
    made.update_layout(
        template=TEMPLATE, height=620, hovermode="x unified", showlegend=False, title=title
    )
    lines = (
        ("equity", equity, "blue", "equity, money", "~s"),
        ("drawdown", falls, "orange", "drawdown", ".0%"),
        ("exposure", exposure, "teal", "gross exposure", ".0%"),
    )
    for row, (name, values, color, axis, form) in enumerate(lines, 1):
        made.add_trace(line(times, values, name, color), row, 1)
        made.update_yaxes(title_text=axis, tickformat=form, row=row, col=1)
    made.update_xaxes(type="date", hoverformat="%Y-%m-%d %H:%M")
    made.update_xaxes(title_text="date (UTC)", row=3, col=1)
    return made
