"""Figures of a report about the parameters and the course of the search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from optimizer.store.trial_records import CONSTRAINT
from optimizer.views.report.cells import SCALE, Statistic, axis_layout, heat_traces
from optimizer.views.report.content import Content
from optimizer.views.report.formats import hover_format, metric_title, safe, tick_format
from optimizer.views.report.lines import thinned
from optimizer.views.report.shares import share_bars
from optimizer.views.report.style import LIGHT, figure
from optimizer.views.report.sweep import Grid

MOST_TRIALS = 3000

BEST_LINES, OTHER_LINES = 200, 600

MOST_LINE_AXES = 9


def heatmap(content: Content, grid: Grid, statistic: Statistic, ends: Sequence[float]) -> go.Figure:
    """The objective over two parameters, the plateau outlined.

    Args:
        content: the content of the report.
        grid: the grid of the two parameters.
        statistic: the statistic of the sets in a cell.
        ends: lowest and highest value of the colours, the same for all figures.

    Returns:
        The figure.
    """
    name = content.objective
    star = None
    if not content.best.empty:
        (place,) = np.flatnonzero(content.sets["set"] == content.best.iloc[0]["set"])
        across, up = int(grid.x.codes[place]), int(grid.y.codes[place])
        star = (across, up) if min(across, up) >= 0 else None
    made = figure(460)
    made.add_traces(
        heat_traces(
            grid, name, content.maximize, statistic, star,
            colorscale=SCALE, reversescale=not content.maximize, zmin=ends[0], zmax=ends[1],
            colorbar={"thickness": 12, "tickformat": tick_format(name)},
        )
    )  # fmt: skip
    for axis, along in ((made.layout.xaxis, grid.x), (made.layout.yaxis, grid.y)):
        axis.update(title={"text": safe(along.name)}, **axis_layout(along))
    return made


def histogram(content: Content) -> go.Figure | None:
    """How the objective is spread over all sets, from the histograms of a study that keeps the best sets.

    Args:
        content: the content of the report.

    Returns:
        The figure; None for a study that keeps all sets, or whose objective is an expression.
    """
    name = content.objective
    found = next((one for one in content.histograms if one.name == name), None)
    if found is None:
        return None
    widths = found.highs - found.lows
    middles = found.lows + widths / 2.0
    made = figure(320)
    made.add_trace(
        go.Bar(
            x=middles,
            y=found.counts / found.counts.sum() / widths,
            width=widths,
            customdata=found.counts,
            marker={"color": LIGHT["some"], "line": {"width": 0}},
            hovertemplate=f"%{{x:{hover_format(name)}}}<br>%{{customdata:,}} sets<extra></extra>",
        )
    )
    low, high = found.quantile(0.001), found.quantile(0.999)
    if content.row is not None and np.isfinite(own := float(content.row[name])):
        made.add_vline(own, line={"color": LIGHT["orange"], "dash": "dash"})
        low, high = min(low, own), max(high, own)
    pad = (high - low) * 0.05 or 1.0
    made.update_xaxes(
        title={"text": metric_title(name)},
        tickformat=tick_format(name),
        range=[low - pad, high + pad],
    )
    made.update_yaxes(title={"text": "density of sets"})
    return made


def importance(content: Content) -> go.Figure:
    """Share of the objective's variance that each parameter explains by itself.

    Args:
        content: the content of the report.

    Returns:
        The figure.
    """
    names = list(content.shares)[::-1]
    shares = [content.shares[name] for name in names]
    return share_bars(
        [safe(name) for name in names],
        shares,
        [f"{share:.1%}" for share in shares],
        "share of variance",
        "%{y}: %{x:.1%}",
    )


def parallel(content: Content) -> go.Figure | None:
    """A sample of sets, each a line over its parameters and its objective.

    Args:
        content: the content of the report.

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
    groups = (
        ("others", rest, "veil", 0.8, 0.4),
        (f"best {len(best):,}", best[20:], "blue", 1.0, 0.5),
        (f"best {min(20, len(best))}", best[:20], "orange", 2.0, 1.0),
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
                legendgroup=name, showlegend=False,
                mode="lines", opacity=opacity, line={"color": LIGHT[color], "width": thickness},
            )
        )  # fmt: skip
        # The legend has a line of its own: that of the sets is too faint to tell its colour.
        made.add_trace(
            go.Scatter(
                x=[None], y=[None], name=name, legendgroup=name, mode="lines",
                line={"color": LIGHT[color], "width": 3},
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


def _outside(sets: pd.DataFrame, trial: Mapping[str, Any], column: str) -> float:
    """The out-of-sample value of the set that represents a trial; NaN where it is not known."""
    own = sets[sets["trial"] == trial["number"]]
    for name, value in trial["user_attrs"].get("winner", {}).items():
        if name in own:
            own = own[own[name] == value]
    return float(own[column].iloc[0]) if len(own) else float("nan")


def history(content: Content) -> go.Figure | None:
    """Value of each trial, the best feasible one so far, and, unsealed, that one's out-of-sample value.

    Args:
        content: the content of the report.

    Returns:
        The figure; None if no trial has a value.
    """
    name, sign = content.objective, 1.0 if content.maximize else -1.0
    numbers, values, best_x, best_y, out_of_sample = [], [], [], [], []
    outside = content.sets[content.sets[f"oos_{name}"].notna()]
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
            if key.startswith(CONSTRAINT)
        )
        if not broken and sign * value > best:
            best = sign * value
            best_x.append(number)
            best_y.append(value)
            out_of_sample.append(_outside(outside, trial, f"oos_{name}"))
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
