"""The course of one set: rolling Sharpe ratio, exposure, years and drawdowns, beside the benchmark's."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from kernels.layout import RISK_FREE
from kernels.metrics import sharpe_ratio
from optimizer.review.rerun import Rerun
from optimizer.selection.sets import returns_between
from optimizer.sweep.buy_and_hold import held_equity
from optimizer.views.report.lines import line, milliseconds
from optimizer.views.report.style import LIGHT, TEMPLATE, figure
from optimizer.views.report.trades import yearly_returns

FEWEST_RETURNS = 20
"""Returns that a rolling Sharpe ratio has at least."""

MOST_WINDOWS = 1500


def benchmark_equity(one: Rerun, benchmark: pd.Series[float]) -> pd.Series[float]:
    """The equity of the benchmark at the closes that a set's equity has.

    Args:
        one: the set.
        benchmark: the benchmark's returns per bar.

    Returns:
        Money, indexed and named as the set's equity and the benchmark are.
    """
    index = one.result.equity.index
    held = held_equity(one.inputs, np.asarray(benchmark, np.float64))[: len(index)]
    return pd.Series(held, index, name=benchmark.name)


def rolling_sharpe(one: Rerun, equity: pd.Series[float]) -> pd.Series[float]:
    """The Sharpe ratio over the last year of returns, or over a quarter of them if that is less.

    Args:
        one: the set whose study says what a return is and what cash earns.
        equity: money at each close of the set's equity.

    Returns:
        (at most ``MOST_WINDOWS``,) annualized, NaN where returns do not vary, indexed by the last bar of
        each window and named after the number of its returns; empty where there are too few.
    """
    inputs, rules = one.inputs, one.inputs.rules
    closes = rules.closes(inputs.first, inputs.first + len(equity))
    returns = returns_between(equity.iloc[closes - inputs.first], rules.initial_cash)
    excess = np.asarray(returns, np.float64) - inputs.rates[closes, RISK_FREE]
    length = round(min(rules.returns_per_year, len(excess) / 4))
    if length < FEWEST_RETURNS:
        return pd.Series(dtype=np.float64, name=length)
    totals, squares = (np.cumsum(np.append(0.0, part)) for part in (excess, excess**2))
    stops = np.unique(np.linspace(length, len(excess), MOST_WINDOWS).astype(np.int64))
    ratios = [
        sharpe_ratio(
            float(length),
            totals[stop] - totals[stop - length],
            squares[stop] - squares[stop - length],
            np.nan,
        )
        for stop in stops
    ]
    yearly = np.asarray(ratios) * np.sqrt(rules.returns_per_year)
    return pd.Series(yearly, returns.index[stops - 1], name=length)


def _compared(
    one: Rerun, subject: str, benchmark: pd.Series[float] | None
) -> list[tuple[str, pd.Series[float], str, str]]:
    """Name, equity, color and dash of the set, and of the benchmark where there is one."""
    curves = [(subject, one.result.equity, "blue", "solid")]
    if benchmark is not None:
        held = benchmark_equity(one, benchmark)
        curves.append((str(held.name), held, "orange", "dash"))
    return curves


def over_time(one: Rerun, subject: str, benchmark: pd.Series[float] | None) -> go.Figure:
    """The rolling Sharpe ratio of a set and of the benchmark, and what the set holds.

    Args:
        one: the set.
        subject: the name of the set in the legend.
        benchmark: the benchmark's returns per bar; None without one.

    Returns:
        The figure.
    """
    made = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.08)
    made.update_layout(template=TEMPLATE, height=440, hovermode="x unified")
    for name, equity, color, dash in _compared(one, subject, benchmark):
        ratios = rolling_sharpe(one, equity)
        times = milliseconds(pd.DatetimeIndex(ratios.index))
        show = f"Sharpe ratio of {name}: %{{y:.2f}}<extra></extra>"
        values = np.asarray(ratios, np.float64)
        made.add_trace(line(times, values, name, color, dash, hovertemplate=show), 1, 1)
    weights = np.asarray(one.result.weights, np.float64)
    times = milliseconds(pd.DatetimeIndex(one.result.equity.index))
    shares = [("exposure, gross", np.abs(weights), "teal", "solid")]
    if (weights < 0.0).any():
        shares.append(("exposure, net", weights, "grey", "dot"))
    for name, parts, color, dash in shares:
        show = f"{name}: %{{y:.0%}}<extra></extra>"
        share = np.asarray(parts.sum(axis=1), np.float64)
        made.add_trace(line(times, share, name, color, dash, hovertemplate=show), 2, 1)
    made.update_yaxes(title_text="Sharpe ratio", row=1, col=1, zerolinecolor=LIGHT["veil"])
    made.update_yaxes(title_text="share of equity", tickformat=".0%", row=2, col=1)
    made.update_xaxes(type="date", hoverformat="%Y-%m-%d %H:%M")
    made.update_xaxes(title_text="date (UTC)", row=2, col=1)
    return made


def years(one: Rerun, subject: str, benchmark: pd.Series[float] | None) -> go.Figure:
    """The return of each calendar year, of a set beside the benchmark.

    Args:
        one: the set.
        subject: the name of the set in the legend.
        benchmark: the benchmark's returns per bar; None without one.

    Returns:
        The figure.
    """
    cash = one.inputs.rules.initial_cash
    made = figure(320, barmode="group", bargap=0.25)
    for name, equity, color, _ in _compared(one, subject, benchmark):
        returns = yearly_returns(equity, cash)
        made.add_trace(
            go.Bar(
                x=[str(year) for year in returns.index],
                y=returns.to_numpy(np.float64).astype(np.float32),
                name=name,
                marker={"color": LIGHT[color]},
                hovertemplate=f"%{{x}}, {name}: %{{y:.1%}}<extra></extra>",
            )
        )
    made.update_xaxes(title_text="year", type="category")
    made.update_yaxes(title_text="return", tickformat=".0%", zerolinecolor=LIGHT["veil"])
    return made
