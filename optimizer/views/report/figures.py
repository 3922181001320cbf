"""The figures of a report, as plotly objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from kernels.codes import BEAR, BULL, NEUTRAL
from optimizer.review.rerun import Rerun
from optimizer.sweep.buy_and_hold import held_equity
from optimizer.types import FloatArray, IntArray
from optimizer.views.report.content import Content
from optimizer.views.report.formats import (
    TITLES,
    hover_format,
    metric_title,
    safe,
    tick_format,
)
from optimizer.views.report.style import AXIS, LIGHT, TEMPLATE, figure
from optimizer.views.report.sweep import Grid, outline, plateau

MOST_POINTS = 3000
"""Points of a line; of more, only the extremes of short stretches are drawn."""

MOST_TRIALS = 3000
FEWEST_BINS, MOST_BINS = 15, 60
BEST_LINES, OTHER_LINES = 500, 1500
MOST_LINE_AXES = 9


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


def drawdown(equity: FloatArray, before: float) -> FloatArray:
    """The fall from the highest equity so far.

    Args:
        equity: (n_bars,) money at each close.
        before: money before the first bar.

    Returns:
        (n_bars,) fractions, 0 or less.
    """
    peak = np.maximum(np.maximum.accumulate(equity), before)
    return np.asarray(equity / peak - 1.0)


def _line(
    times: FloatArray, values: FloatArray, name: str, color: str, dash: str = "solid", **more: Any
) -> go.Scatter:
    places = thinned(values)
    return go.Scatter(
        x=times[places],
        y=values[places].astype(np.float32),
        name=name,
        mode="lines",
        line={"color": LIGHT[color], "width": 1.6, "dash": dash},
        **more,
    )


def equity(
    winner: Rerun,
    median: Rerun,
    benchmark: pd.Series[float] | None = None,
    stitched: pd.DataFrame | None = None,
) -> go.Figure:
    """Equity and drawdown of the winner, the median set and the benchmark; the holdout is shaded.

    Args:
        winner, median: sets of the study.
        benchmark: its returns per bar, named as the figure calls it; None without one.
        stitched: columns ``timestamp`` and ``equity`` of a walk-forward; None without one.

    Returns:
        The figure.
    """
    cash = winner.inputs.rules.initial_cash
    index = pd.DatetimeIndex(winner.result.equity.index)
    times = milliseconds(index)
    made = make_subplots(
        rows=2, cols=1, shared_xaxes=True, row_heights=[0.68, 0.32], vertical_spacing=0.05
    )
    made.update_layout(template=TEMPLATE, height=520, hovermode="x unified")
    lines: list[tuple[str, FloatArray, str, str]] = [
        (
            f"winner, set {winner.number}",
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
        lines.insert(1, (str(benchmark.name), held, "orange", "dash"))
    for name, values, color, dash in lines:
        show = f"{name}: %{{y:,.0f}}<extra></extra>"
        made.add_trace(_line(times, values, name, color, dash, hovertemplate=show), 1, 1)
        fall = _line(
            times, drawdown(values, cash), name, color, dash, showlegend=False,
            hovertemplate=f"{name}: %{{y:.1%}}<extra></extra>",
        )  # fmt: skip
        made.add_trace(fall, 2, 1)
    if stitched is not None:
        own = milliseconds(pd.DatetimeIndex(stitched["timestamp"]))
        name = "walk-forward, joined"
        show = f"{name}: %{{y:,.0f}}<extra></extra>"
        values = np.asarray(stitched["equity"], np.float64)
        made.add_trace(_line(own, values, name, "teal", "dashdot", hovertemplate=show), 1, 1)
    made.update_yaxes(title_text="equity, money", tickformat="~s", row=1, col=1)
    made.update_yaxes(title_text="drawdown", tickformat=".0%", row=2, col=1)
    made.update_xaxes(type="date", hoverformat="%Y-%m-%d %H:%M")
    made.update_xaxes(title_text="date (UTC)", row=2, col=1)
    _shade_holdout(made, winner)
    return made


def _shade_holdout(made: go.Figure, winner: Rerun) -> None:
    inputs = winner.inputs
    if inputs.split >= inputs.bars.n_bars:
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


def in_and_out(content: Content) -> go.Figure | None:
    """All sets, in-sample against out-of-sample, counted in bins.

    Args:
        content: of the report.

    Returns:
        The figure; None without a holdout.
    """
    name = content.objective
    both = content.sets[[name, f"oos_{name}"]].to_numpy(np.float64)
    both = both[np.isfinite(both).all(axis=1)]
    if not len(both):
        return None
    best = None
    if not content.best.empty:
        best = content.best.iloc[0][[name, f"oos_{name}"]].to_numpy(np.float64)
    ranges = []
    for column in (0, 1):
        low, high = np.quantile(both[:, column], [0.001, 0.999])
        if best is not None and np.isfinite(best[column]):
            low, high = min(low, best[column]), max(high, best[column])
        pad = (high - low) * 0.03 or max(abs(high) * 0.1, 1e-9)
        ranges.append((low - pad, high + pad))
    bins = int(np.clip(2 * np.sqrt(len(both)), FEWEST_BINS, MOST_BINS))
    counts, x, y = np.histogram2d(both[:, 0], both[:, 1], bins=bins, range=ranges)
    made = figure(480, showlegend=True)
    shown = np.where(counts > 0, counts, np.nan).T
    top = int(np.log10(max(counts.max(), 1.0)))
    show = hover_format(name)
    made.add_trace(
        go.Heatmap(
            x=_middles(x),
            y=_middles(y),
            z=np.log10(shown).astype(np.float32),
            customdata=shown.astype(np.float32),
            colorscale=[[0.0, LIGHT["few"]], [0.5, LIGHT["some"]], [1.0, LIGHT["many"]]],
            zmin=0,
            zmax=max(float(np.log10(counts.max())), 0.5) if counts.any() else 0.5,
            hoverongaps=False,
            colorbar={
                "title": {"text": "sets"},
                "thickness": 12,
                "tickvals": list(range(top + 1)),
                "ticktext": [f"{10**k:,}" for k in range(top + 1)],
            },
            hovertemplate=f"in-sample %{{x:{show}}}<br>out-of-sample %{{y:{show}}}"
            "<br>%{customdata:,.0f} sets<extra></extra>",
        )
    )
    ends = [max(ranges[0][0], ranges[1][0]), min(ranges[0][1], ranges[1][1])]
    if ends[0] < ends[1]:
        made.add_trace(
            go.Scatter(
                x=ends, y=ends, mode="lines", name="as good out as in", hoverinfo="skip",
                line={"color": LIGHT["ink"], "dash": "dash", "width": 1},
            )
        )  # fmt: skip
    if best is not None and np.isfinite(best).all():
        made.add_trace(_star(best[:1], best[1:], "winner", show))
    title = safe(metric_title(name))
    made.update_xaxes(title_text=f"in-sample {title}", tickformat=tick_format(name))
    made.update_yaxes(title_text=f"out-of-sample {title}", tickformat=tick_format(name))
    return made


def _middles(edges: FloatArray) -> npt.NDArray[np.float32]:
    return ((edges[1:] + edges[:-1]) / 2).astype(np.float32)


def _star(x: Any, y: Any, name: str, show: str) -> go.Scatter:
    return go.Scatter(
        x=list(x),
        y=list(y),
        name=name,
        mode="markers",
        marker={
            "symbol": "star",
            "size": 15,
            "color": LIGHT["orange"],
            "line": {"color": LIGHT["paper"], "width": 1.5},
        },
        hovertemplate=f"{name}: %{{x:{show}}} in, %{{y:{show}}} out<extra></extra>",
    )


def heatmap(
    content: Content, grid: Grid, statistic: Literal["median", "best"], ends: Sequence[float]
) -> go.Figure:
    """The objective over two parameters, the plateau outlined.

    Args:
        content: of the report.
        grid: of the two parameters.
        statistic: of the sets in a cell.
        ends: lowest and highest value of the colours, the same for all figures.

    Returns:
        The figure.
    """
    cells = grid.median if statistic == "median" else grid.best
    name = content.objective
    made = figure(460)
    made.add_trace(
        go.Heatmap(
            z=cells.astype(np.float32),
            customdata=grid.counts.astype(np.int32),
            colorscale="Cividis" if content.maximize else "Cividis_r",
            zmin=ends[0],
            zmax=ends[1],
            hoverongaps=False,
            colorbar={"thickness": 12, "tickformat": tick_format(name)},
            hovertemplate=f"{statistic} {safe(name)} %{{z:{hover_format(name)}}}"
            "<br>%{customdata:,} sets<extra>%{x}, %{y}</extra>",
        )
    )
    x, y = outline(plateau(cells, content.maximize))
    made.add_trace(
        go.Scatter(
            x=np.array(x, np.float32), y=np.array(y, np.float32), mode="lines", hoverinfo="skip",
            showlegend=False, line={"color": LIGHT["orange"], "width": 3},
        )
    )  # fmt: skip
    for axis, along in ((made.layout.xaxis, grid.x), (made.layout.yaxis, grid.y)):
        labels = along.labels
        axis.update(
            title={"text": safe(along.name)},
            tickvals=list(range(len(labels))),
            ticktext=[safe(label) for label in labels],
            range=[-0.5, len(labels) - 0.5],
            showgrid=False,
            zeroline=False,
        )
    return made


def importance(content: Content) -> go.Figure:
    """Share of the objective's variance that each parameter explains by itself.

    Args:
        content: of the report.

    Returns:
        The figure.
    """
    names = list(content.shares)[::-1]
    made = figure(90 + 26 * len(names), bargap=0.3)
    made.add_trace(
        go.Bar(
            x=[content.shares[name] for name in names],
            y=[safe(name) for name in names],
            orientation="h",
            marker={"color": LIGHT["blue"]},
            text=[f"{content.shares[name]:.1%}" for name in names],
            textposition="outside",
            cliponaxis=False,
            hovertemplate="%{y}: %{x:.1%}<extra></extra>",
        )
    )
    greatest = max(content.shares.values(), default=0.0)
    made.update_xaxes(
        title_text="share of variance",
        tickformat=".0%",
        range=[0, max(greatest * 1.15, 0.01)],
    )
    made.update_yaxes(type="category", showgrid=False)
    return made


def parallel(content: Content) -> go.Figure | None:
    """A sample of sets, each a line over its parameters and its objective.

    Args:
        content: of the report.

    Returns:
        The figure; None for fewer than two sets, or if no parameter varies.
    """
    values = content.sets[content.objective].to_numpy(np.float64)
    order = np.argsort(-values if content.maximize else values, kind="stable")
    order = order[: np.count_nonzero(~np.isnan(values))]
    axes = content.axes[:MOST_LINE_AXES]
    if len(order) < 2 or not axes:
        return None
    best, rest = order[:BEST_LINES], order[BEST_LINES:]
    if len(rest) > OTHER_LINES:
        rest = rest[np.linspace(0, len(rest) - 1, OTHER_LINES).astype(np.int64)]
    half = len(rest) // 2
    groups = (
        ("others, worse half", rest[half:], "veil", 0.6, 0.25),
        ("others, better half", rest[:half], "teal", 0.6, 0.25),
        (f"best {len(best):,}", best[20:], "blue", 0.8, 0.35),
        (f"best {min(20, len(best))}", best[:20], "orange", 1.8, 0.9),
    )
    low, high = float(np.nanmin(values[order])), float(np.nanmax(values[order]))
    rng = np.random.default_rng(0)
    made = figure(480, hovermode=False)
    width = len(axes) + 2
    for name, sets, color, thickness, opacity in groups:
        if not len(sets):
            continue
        y = np.full((len(sets), width), np.nan, np.float32)
        for i, axis in enumerate(axes):
            steps = max(len(axis.labels) - 1, 1)
            # Spread slightly, so that sets of one value do not hide each other.
            spread = rng.uniform(-0.3, 0.3, len(sets)) / max(steps, 4)
            y[:, i] = np.where(axis.codes[sets] < 0, np.nan, axis.codes[sets] / steps + spread)
        y[:, width - 2] = (values[sets] - low) / ((high - low) or 1.0)
        made.add_trace(
            go.Scatter(
                x=np.tile(np.arange(width, dtype=np.int8), len(sets)), y=y.ravel(), name=name,
                mode="lines", opacity=opacity, line={"color": LIGHT[color], "width": thickness},
            )
        )  # fmt: skip
    form = hover_format(content.objective).replace("~", "")
    ends = [(axis.labels[0], axis.labels[-1], axis.name) for axis in axes]
    ends.append((format(low, form), format(high, form), content.objective))
    for i, (bottom, top, name) in enumerate(ends):
        made.add_shape(
            type="line", x0=i, x1=i, y0=-0.1, y1=1.1, line={"color": LIGHT["ink"], "width": 1}
        )
        for text, y_at, anchor in ((bottom, -0.12, "top"), (top, 1.12, "bottom")):
            made.add_annotation(
                x=i, y=y_at, yanchor=anchor, text=safe(text), showarrow=False,
                font={"size": 11, "color": LIGHT["muted"]},
            )  # fmt: skip
        made.add_annotation(
            x=i, y=-0.2, yanchor="top", text=_folded(name), showarrow=False,
            font={"size": 12},
        )  # fmt: skip
    made.update_xaxes(visible=False, range=[-0.5, len(axes) + 0.5])
    made.update_yaxes(visible=False, range=[-0.42, 1.22])
    made.update_layout(margin={"l": 8, "r": 8, "b": 8})
    return made


def _folded(name: str) -> str:
    """A name over several lines, so that it does not overlap the next one."""
    return safe(name).replace("_", "<br>")


def history(content: Content) -> go.Figure | None:
    """Value of each trial, the best feasible one so far, and that one's out-of-sample value.

    Args:
        content: of the report.

    Returns:
        The figure; None if no trial has a value.
    """
    name, sign = content.objective, 1.0 if content.maximize else -1.0
    numbers, values, best_x, best_y, out_of_sample = [], [], [], [], []
    best = -np.inf
    for trial in content.trials:
        if not trial["values"]:
            continue
        number, value = trial["number"], float(trial["values"][0])
        numbers.append(number)
        values.append(value)
        broken = any(
            excess > 0
            for key, excess in trial["system_attrs"].items()
            if key.startswith("constraints:")
        )
        if not broken and sign * value > best:
            best = sign * value
            best_x.append(number)
            best_y.append(value)
            out = trial["user_attrs"].get("out_of_sample", {}).get(name)
            out_of_sample.append(np.nan if out is None else out)
    if not numbers:
        return None
    show = hover_format(name)
    made = figure(380, hovermode="closest")
    places = thinned(np.array(values), MOST_TRIALS)
    with np.errstate(over="ignore"):  # beyond float32 is beyond every axis
        shown = np.array(values)[places].astype(np.float32)
    made.add_trace(
        go.Scatter(
            x=np.array(numbers)[places].astype(np.int32),
            y=shown,
            name="trial",
            mode="markers",
            marker={"size": 6, "color": LIGHT["grey"], "opacity": 0.8},
            hovertemplate=f"trial %{{x}}: %{{y:{show}}}<extra></extra>",
        )
    )
    if best_x:
        last = content.trials[-1]["number"]
        for label, y, color, dash in (
            ("best so far", best_y, "blue", "solid"),
            ("the same out-of-sample", out_of_sample, "orange", "dash"),
        ):
            if np.isnan(y).all():
                continue
            made.add_trace(
                go.Scatter(
                    x=[*best_x, last], y=[*y, y[-1]], name=label, mode="lines",
                    line={"shape": "hv", "color": LIGHT[color], "dash": dash, "width": 2},
                    hovertemplate=f"{label}: %{{y:{show}}}<extra></extra>",
                )
            )  # fmt: skip
    made.update_xaxes(title_text="trial")
    made.update_yaxes(title_text=safe(metric_title(name)), tickformat=tick_format(name))
    return made


def overfitting(content: Content) -> go.Figure | None:
    """Logits of the relative rank, out-of-sample, of the set chosen in each split.

    Args:
        content: of the report.

    Returns:
        The figure; None if there is no probability of overfitting.
    """
    selection = content.selection
    if selection is None or selection.pbo is None or not selection.logits:
        return None
    logits = np.array(selection.logits)
    reach = max(float(np.quantile(np.abs(logits), 0.99)), 0.5)
    within = np.clip(logits, -reach, reach)
    counts, edges = np.histogram(within, bins=40, range=(-reach, reach))
    middles = _middles(edges)
    made = figure(380, barmode="overlay", bargap=0.02)
    for name, which, color in (
        ("below the median set out-of-sample", middles < 0, "orange"),
        ("above it", middles > 0, "blue"),
    ):
        made.add_trace(
            go.Bar(
                x=middles[which],
                y=(counts[which] / len(logits)).astype(np.float32),
                width=float(edges[1] - edges[0]) * 0.96,
                name=name,
                marker={"color": LIGHT[color]},
                hovertemplate="logit %{x:.2f}: %{y:.1%} of the splits<extra></extra>",
            )
        )
    made.add_vline(x=0, line={"color": LIGHT["ink"], "dash": "dash", "width": 1})
    made.update_xaxes(title_text="logit of the rank out-of-sample")
    made.update_yaxes(title_text="share of the splits", tickformat=".0%")
    return made


def walk_forward(content: Content) -> go.Figure | None:
    """Sharpe ratio of each window of the walk-forward, in training and after it.

    Args:
        content: of the report.

    Returns:
        The figure; None without windows.
    """
    selection = content.selection
    if selection is None or not selection.windows:
        return None
    windows = selection.windows
    labels = [str(number) for number in range(1, len(windows) + 1)]
    if content.winner is not None:
        stamps = content.winner.inputs.bars.timestamps
        labels = [
            f"{str(stamps[one.start])[:10]}<br>to {str(stamps[one.stop - 1])[:10]}"
            for one in windows
        ]
    made = figure(380, barmode="group", bargap=0.25)
    for name, values, color in (
        ("in training", [one.in_sample for one in windows], "grey"),
        ("traded after it", [one.out_of_sample for one in windows], "blue"),
    ):
        made.add_trace(
            go.Bar(
                x=labels, y=values, name=name, marker={"color": LIGHT[color]},
                customdata=[one.number for one in windows],
                hovertemplate=f"%{{x}}<br>{name}: %{{y:.2f}}, set %{{customdata}}<extra></extra>",
            )
        )  # fmt: skip
    made.update_xaxes(title_text="bars traded", type="category", tickfont={"size": 11})
    made.update_yaxes(title_text=TITLES["sharpe"])
    return made


REGIMES = {BULL: ("bull", "blue"), NEUTRAL: ("neutral", "veil"), BEAR: ("bear", "orange")}


def regimes(winner: Rerun, market: FloatArray) -> go.Figure:
    """The price of the market with the regime of each bar behind it.

    Args:
        winner: whose regimes are shown.
        market: (n_bars from the first decision,) price.

    Returns:
        The figure.
    """
    series = winner.result.regimes
    codes, times = series.to_numpy(), milliseconds(pd.DatetimeIndex(series.index))
    made = figure(400, hovermode="x")
    symbol = winner.tile.market
    if winner.tile.classifier != "none":
        starts = np.concatenate([[0], np.flatnonzero(np.diff(codes)) + 1])
        if len(starts) > MOST_POINTS:
            starts = np.unique(np.linspace(0, len(codes) - 1, MOST_POINTS).astype(np.int64))
        edges = np.append(times[starts], times[-1])
        scale = [
            [position, LIGHT[REGIMES[code][1]]]
            for code, ends in ((BEAR, (0.0, 1 / 3)), (NEUTRAL, (1 / 3, 2 / 3)), (BULL, (2 / 3, 1)))
            for position in ends
        ]
        made.add_trace(
            go.Heatmap(
                x=edges, y=[0, 1], z=[codes[starts].astype(np.int8).tolist()], zmin=-1.5, zmax=1.5,
                colorscale=scale, showscale=False, opacity=0.35, hoverinfo="skip",
            )
        )  # fmt: skip
        for code, (name, color) in REGIMES.items():
            share = float((codes == code).mean())
            made.add_trace(
                go.Scatter(
                    x=[None], y=[None], mode="markers", name=f"{name}, {share:.0%} of the bars",
                    marker={"symbol": "square", "size": 12, "color": LIGHT[color], "opacity": 0.5},
                )
            )  # fmt: skip
    name = "index of all symbols, 100 at the start" if symbol is None else f"{symbol}, close"
    made.add_trace(
        _line(
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


def costs(by_year: pd.Series) -> go.Figure:
    """Commission and slippage paid in each year.

    Args:
        by_year: money by calendar year.

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
    made.update_yaxes(title_text="costs, money", tickformat="~s")
    return made


def refusals(rejects: Mapping[str, int], n_decisions: int, names: Sequence[str]) -> go.Figure:
    """How often each reason kept a signal of the winner from becoming an order.

    Args:
        rejects: counts by reason.
        n_decisions: signals in all.
        names: reasons in the order of the figure.

    Returns:
        The figure.
    """
    shown = [name for name in names if rejects.get(name)][::-1]
    made = figure(110 + 28 * len(shown), bargap=0.3)
    made.add_trace(
        go.Bar(
            x=[rejects[name] / n_decisions for name in shown],
            y=[name.replace("_", " ") for name in shown],
            customdata=[rejects[name] for name in shown],
            orientation="h",
            marker={"color": LIGHT["blue"]},
            text=[f"{rejects[name]:,}" for name in shown],
            textposition="outside",
            cliponaxis=False,
            hovertemplate="%{y}: %{customdata:,}, %{x:.1%}<extra></extra>",
        )
    )
    greatest = max((rejects[name] for name in shown), default=0) / max(n_decisions, 1)
    made.update_xaxes(
        title_text="share of all decisions", tickformat=".0%", range=[0, max(greatest * 1.2, 0.01)]
    )
    made.update_yaxes(type="category", showgrid=False)
    return made
