"""Figures of a report that tell skill from luck."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from optimizer.views.report.content import Content
from optimizer.views.report.formats import TITLES, hover_format, metric_title, safe, tick_format
from optimizer.views.report.lines import middles
from optimizer.views.report.style import LIGHT, figure

FEWEST_BINS, MOST_BINS = 15, 60


def in_and_out(content: Content) -> go.Figure | None:
    """All sets, in-sample against out-of-sample, counted in bins.

    Args:
        content: the content of the report.

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
            x=middles(x),
            y=middles(y),
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
                x=ends, y=ends, mode="lines", showlegend=False, hoverinfo="skip",
                line={"color": LIGHT["paper"], "width": 5},
            )
        )  # fmt: skip
        made.add_trace(
            go.Scatter(
                x=ends, y=ends, mode="lines", name="as good out as in", hoverinfo="skip",
                line={"color": LIGHT["orange"], "dash": "dash", "width": 2.5},
            )
        )  # fmt: skip
    if best is not None and np.isfinite(best).all():
        made.add_trace(_star(best[:1], best[1:], "winner", show))
    title = safe(metric_title(name))
    made.update_xaxes(title_text=f"in-sample {title}", tickformat=tick_format(name))
    made.update_yaxes(title_text=f"out-of-sample {title}", tickformat=tick_format(name))
    return made


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


def overfitting(content: Content) -> go.Figure | None:
    """Logits of the relative rank, out-of-sample, of the set chosen in each split.

    Args:
        content: the content of the report.

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
    centres = middles(edges)
    made = figure(380, barmode="overlay", bargap=0.02)
    for name, which, color in (
        ("below the median set out-of-sample", centres < 0, "orange"),
        ("above it", centres > 0, "blue"),
    ):
        made.add_trace(
            go.Bar(
                x=centres[which],
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
        content: the content of the report.

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


def cpcv(content: Content) -> go.Figure | None:
    """Sharpe ratios of the paths of combinatorial purged cross-validation, counted in bins.

    Args:
        content: the content of the report.

    Returns:
        The figure; None without paths.
    """
    selection = content.selection
    if selection is None or not selection.path_sharpes:
        return None
    ratios = np.array(selection.path_sharpes)
    bins = int(np.clip(2 * np.sqrt(len(ratios)), FEWEST_BINS, MOST_BINS))
    width = max(float(np.ptp(ratios)) / bins, 0.01)
    first, last = (int(np.floor(end / width)) for end in (ratios.min(), ratios.max()))
    edges = width * np.arange(
        first, last + 2, dtype=np.float64
    )  # 0 is between two bins, not inside one
    counts, _ = np.histogram(ratios, bins=edges)
    centres = middles(edges)
    made = figure(380, barmode="overlay", bargap=0.02)
    for name, which, color in (
        ("paths that lose", centres < 0, "orange"),
        ("paths that gain", centres >= 0, "blue"),
    ):
        made.add_trace(
            go.Bar(
                x=centres[which],
                y=counts[which],
                width=width * 0.96,
                name=name,
                marker={"color": LIGHT[color]},
                hovertemplate="Sharpe ratio %{x:.2f}: %{y:,} paths<extra></extra>",
            )
        )
    middle = float(np.median(ratios))
    made.add_vline(x=middle, line={"color": LIGHT["ink"], "dash": "dash", "width": 1})
    made.update_xaxes(title_text=f"{TITLES['sharpe']} of a path, median {middle:.2f}")
    made.update_yaxes(title_text="paths")
    return made
