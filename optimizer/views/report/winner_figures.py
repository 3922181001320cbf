"""Figures of a report about the winner: equity, regimes, costs, refusals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from kernels.codes import BEAR, BULL, NEUTRAL
from optimizer.review.rerun import Rerun
from optimizer.sweep.attribution import REGIMES
from optimizer.sweep.buy_and_hold import held_equity
from optimizer.sweep.drawdown import drawdowns
from optimizer.types import FloatArray
from optimizer.views.report.formats import safe
from optimizer.views.report.lines import MOST_POINTS, line, milliseconds
from optimizer.views.report.shares import share_bars
from optimizer.views.report.style import AXIS, LIGHT, TEMPLATE, figure

COLORS = {BULL: "blue", NEUTRAL: "veil", BEAR: "orange"}


def equity(
    winner: Rerun,
    median: Rerun,
    benchmark: pd.Series[float] | None = None,
    stitched: pd.DataFrame | None = None,
    subject: str = "winner",
) -> go.Figure:
    """Equity and drawdown of the winner, the median set and the benchmark; the holdout is shaded.

    A set whose part of the holdout is sealed ends before it.

    Args:
        winner, median: sets of the study.
        benchmark: its returns per bar, named as the figure calls it; None without one.
        stitched: columns ``timestamp`` and ``equity`` of a walk-forward; None without one.
        subject: the name of the first set in the legend.

    Returns:
        The figure.
    """
    cash = winner.inputs.rules.initial_cash
    index = pd.DatetimeIndex(winner.result.equity.index)
    times = milliseconds(index)
    made = make_subplots(
        rows=2, cols=1, shared_xaxes=True, row_heights=[0.68, 0.32], vertical_spacing=0.05
    )
    made.update_layout(template=TEMPLATE, height=440, hovermode="x unified")
    lines: list[tuple[str, FloatArray, str, str]] = [
        (
            f"winner, set {winner.number}" if subject == "winner" else subject,
            np.asarray(winner.result.equity, np.float64),
            "blue",
            "solid",
        ),
        (
            f"median set {median.number}",
            np.asarray(median.result.equity, np.float64),
            "grey",
            "dot",
        ),
    ]
    if benchmark is not None:
        held = held_equity(winner.inputs, np.asarray(benchmark, np.float64))
        lines.insert(1, (str(benchmark.name), held[: len(times)], "orange", "dash"))
    for name, values, color, dash in lines:
        own = times[: len(values)]
        show = f"{name}: %{{y:,.0f}}<extra></extra>"
        made.add_trace(line(own, values, name, color, dash, hovertemplate=show), 1, 1)
        fall = line(
            own, 0.0 - drawdowns(values, cash), name, color, dash, showlegend=False,
            hovertemplate=f"{name}: %{{y:.1%}}<extra></extra>",
        )  # fmt: skip
        made.add_trace(fall, 2, 1)
    if stitched is not None:
        own = milliseconds(pd.DatetimeIndex(stitched["timestamp"]))
        name = "walk-forward, joined"
        show = f"{name}: %{{y:,.0f}}<extra></extra>"
        values = np.asarray(stitched["equity"], np.float64)
        made.add_trace(line(own, values, name, "teal", "dashdot", hovertemplate=show), 1, 1)
    made.update_yaxes(
        title_text=f"equity, {winner.study.account.money}", tickformat="~s", row=1, col=1
    )
    made.update_yaxes(title_text="drawdown", tickformat=".0%", row=2, col=1)
    made.update_xaxes(type="date", hoverformat="%Y-%m-%d %H:%M")
    made.update_xaxes(title_text="date (UTC)", row=2, col=1)
    _shade_holdout(made, winner)
    return made


def _shade_holdout(made: go.Figure, winner: Rerun) -> None:
    inputs = winner.inputs
    if winner.result.out_of_sample is None:
        return
    ends = milliseconds(pd.DatetimeIndex(inputs.bars.timestamps[[inputs.split, -1]], tz="UTC"))
    made.add_shape(
        type="rect", xref="x", yref="paper", x0=ends[0], x1=ends[1], y0=0, y1=1, layer="below",
        line={"width": 0}, fillcolor=LIGHT["veil"], opacity=0.18,
    )  # fmt: skip
    made.add_annotation(
        x=ends[0], xref="x", y=1, yref="paper", yanchor="top", xanchor="left", showarrow=False,
        text="holdout", font={"size": 12, "color": LIGHT["muted"]},
    )  # fmt: skip


def regimes(winner: Rerun, market: FloatArray) -> go.Figure:
    """The price of the market with the regime of each bar behind it.

    Args:
        winner: whose regimes are shown, those of a classifier.
        market: (n_bars from the first decision,) price.

    Returns:
        The figure.
    """
    series = winner.result.regimes
    codes, times = series.to_numpy(), milliseconds(pd.DatetimeIndex(series.index))
    made = figure(400, hovermode="x")
    symbol = winner.tile.market
    starts = np.concatenate([[0], np.flatnonzero(np.diff(codes)) + 1])
    if len(starts) > MOST_POINTS:
        starts = np.unique(np.linspace(0, len(codes) - 1, MOST_POINTS).astype(np.int64))
    edges = np.append(times[starts], times[-1])
    scale = [
        [position, LIGHT[COLORS[code]]]
        for code, ends in ((BEAR, (0.0, 1 / 3)), (NEUTRAL, (1 / 3, 2 / 3)), (BULL, (2 / 3, 1)))
        for position in ends
    ]
    made.add_trace(
        go.Heatmap(
            x=edges, y=[0, 1], z=[codes[starts].astype(np.int8).tolist()], zmin=-1.5, zmax=1.5,
            colorscale=scale, showscale=False, opacity=0.35, hoverinfo="skip",
        )
    )  # fmt: skip
    for code, name in REGIMES.items():
        share = float((codes == code).mean())
        made.add_trace(
            go.Scatter(
                x=[None], y=[None], mode="markers", name=f"{name}, {share:.0%} of the bars",
                marker={"symbol": "square", "size": 12, "color": LIGHT[COLORS[code]], "opacity": 0.5},
            )
        )  # fmt: skip
    name = "index of all symbols, 100 at the start" if symbol is None else f"{symbol}, close"
    made.add_trace(
        line(
            times, market, safe(name), "ink", yaxis="y2",
            hovertemplate=f"{safe(name)}: %{{y:,.2f}}<extra></extra>",
        )
    )  # fmt: skip
    made.update_layout(
        yaxis={"visible": False, "range": [0, 1], "fixedrange": True},
        yaxis2={
            **AXIS,
            "tickmode": "auto",
            "overlaying": "y",
            "side": "left",
            "title": {"text": safe(name)},
        },
    )
    made.update_xaxes(type="date", title_text="date (UTC)", hoverformat="%Y-%m-%d %H:%M")
    return made


def costs(by_year: pd.Series, money: str) -> go.Figure:
    """Commission and slippage paid in each year.

    Args:
        by_year: money by calendar year.
        money: what the money is called.

    Returns:
        The figure.
    """
    made = figure(300)
    made.add_trace(
        go.Bar(
            x=[str(year) for year in by_year.index],
            y=by_year.to_numpy(),
            marker={"color": LIGHT["blue"]},
            hovertemplate="%{x}: %{y:,.2f}<extra></extra>",
        )
    )
    made.update_xaxes(title_text="year", type="category")
    made.update_yaxes(title_text=f"costs, {money}", tickformat="~s")
    return made


def refusals(
    rejects: Mapping[str, int], n_decisions: int, names: Sequence[str], wishes: Sequence[str]
) -> go.Figure:
    """How often each reason kept a signal of the winner from becoming an order.

    Args:
        rejects: counts by reason.
        n_decisions: signals in all.
        names: reasons in the order of the figure.
        wishes: those of them with which something wished was refused.

    Returns:
        The figure.
    """
    shown = [name for name in names if rejects.get(name)][::-1]
    return share_bars(
        [name.replace("_", " ") for name in shown],
        [rejects[name] / n_decisions for name in shown],
        [f"{rejects[name]:,}" for name in shown],
        "share of all decisions",
        "%{y}: %{text}, %{x:.1%}",
        [LIGHT["blue" if name in wishes else "grey"] for name in shown],
    )
