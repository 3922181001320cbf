"""What each section of the report says, as the values of its template."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from kernels.codes import REASONS
from optimizer.catalogue import COSTS
from optimizer.review.tables import ODDS_LEGEND, SHOWN
from optimizer.selection.verdict import remarks
from optimizer.sweep.buy_and_hold import held_name
from optimizer.text import counted, probability
from optimizer.types import NO_BUYING_POWER, NO_VOLUME, NOT_TRADED
from optimizer.views.report import figures
from optimizer.views.report.content import Content
from optimizer.views.report.formats import UNDEFINED, metric_name, metric_title, value_text
from optimizer.views.report.trades import costs_by_year, monthly_returns

_COSTS = frozenset(one.name for one in COSTS)

MOST_TRADES = 1000
"""Rows of the trades table; the last ones are kept."""

TONES = {"holds up": "good", "fragile": "middling", "likely luck": "bad"}
SIGNS = {1: ("+", "good", "speaks for it"), 0: ("~", "middling", "in between"),
         -1: ("-", "bad", "speaks against it")}  # fmt: skip

WHY = {
    "no_signal": "the strategy wants no position and holds none",
    "held": "the strategy says hold, or a stop has barred the symbol",
    "unchanged": "the target is the position already held",
    "no_edge": "the size is less than one lot: little or no gain is expected",
    "no_volatility": "the price has stood still, so there is no size",
    "no_place": "the portfolio holds as many positions as it may, or others come first",
    "no_budget": "its share of the exposure that the portfolio may have is too small an order",
    "below_minimum": "the order is below the minimum size",
    "inside_band": "the change is too small a share of the target",
    NOT_TRADED: "the symbol did not trade in the bar of the fill",
    NO_VOLUME: "the share of the bar's volume was less than a lot",
    NO_BUYING_POWER: "the share of the buying power was less than a lot",
}
WISHES = (
    *("no_budget", "no_place", "below_minimum", "inside_band", "no_edge", "no_volatility"),
    *(NOT_TRADED, NO_VOLUME, NO_BUYING_POWER),
)
"""Reasons with which the risk manager refuses a wish; with the others there was no wish."""

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

Values = dict[str, Any]
"""The values of a template, by name."""


@dataclass
class Drawn:
    """The figures that the page draws.

    Attributes:
        figures: by the key of their place in the page.
    """

    figures: dict[str, go.Figure] = field(default_factory=dict)

    def add(self, key: str, figure: go.Figure | None) -> int | None:
        """Take a figure into the page.

        Args:
            key: of its place.
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
        figure: with a height in its layout.

    Returns:
        Pixels.
    """
    return int(figure.layout.height)


def verdict(content: Content) -> Values:
    """The verdict, what the reader must know first, and the best sets.

    Args:
        content: of the report.

    Returns:
        Values of ``verdict.html``.
    """
    values: Values = {"notes": content.notes, "table": None, "legend": ODDS_LEGEND}
    if content.best.empty:
        why, _, constraints = content.none_best.partition("; ")
        reasons = [
            str(trial["user_attrs"]["reason"])
            for trial in content.trials
            if "reason" in trial["user_attrs"]
        ]
        items = [constraints] if constraints else []
        items += [
            f"{counted(reasons.count(one), 'trial')} failed: {one}"
            for one in dict.fromkeys(reasons)
        ]
        values |= {"tone": "bad", "headline": why[0].upper() + why[1:]}
        values["reasons"] = [{"sign": "", "text": item} for item in items]
        return values
    if content.verdict is None or content.selection is None:
        number = int(content.best.iloc[0]["set"])
        values |= {"tone": "middling", "headline": f"Set {number:,}: no verdict yet", "reasons": ()}
    else:
        found, number = content.verdict, content.selection.sets[0].number
        values |= {"tone": TONES[found.words], "headline": f"Set {number:,}: {found.words}"}
        values["reasons"] = [
            dict(zip(("sign", "tone", "meaning"), SIGNS[reason.weight], strict=True))
            | {"text": reason.text}
            for reason in found.reasons
        ]
    row = content.best.iloc[0]
    names = dict.fromkeys((*content.study.search.objective, *SHOWN, "final_equity"))
    values["metrics"] = [
        (metric_title(n), value_text(n, row[n]), f"{value_text(n, row[f'oos_{n}'])} out-of-sample")
        for n in names
    ]
    values["table"] = _best_table(content)
    return values


def _best_table(content: Content) -> Values:
    frame = content.best
    metrics = [*dict.fromkeys((*content.study.search.objective, *SHOWN))]
    odds = {} if content.selection is None else {o.number: o for o in content.selection.sets}
    varying = [axis.name for axis in content.axes if axis.name in frame.columns]
    varying = [name for name in varying if frame[name].nunique(dropna=False) > 1]
    names = ["set", *(metric_name(name) for name in metrics)]
    names += ["DSR", "PSR"] if odds else []
    names += ["what differs"] if varying else []
    rows = []
    for row in frame.to_dict("records"):
        cells = [f"{value_text(n, row[n])} / {value_text(n, row[f'oos_{n}'])}" for n in metrics]
        if odds:
            one = odds.get(int(row["set"]))
            dsr, psr, oos_psr = (one.dsr, one.psr, one.oos_psr) if one else (None, None, None)
            cells += [probability(dsr), f"{probability(psr)} / {probability(oos_psr)}"]
        differs = ", ".join(
            f"{name.removeprefix(row['strategy'] + '_')} {value_text('', row[name])}"
            for name in varying
            if not pd.isna(row[name])
        )
        rows.append(
            {
                "number": f"{int(row['set']):,}",
                "cells": cells,
                "differs": differs if varying else None,
            }
        )
    held = content.selection.held if content.selection is not None else None
    cells_held = []
    if held is not None:
        cells_held = [
            f"{value_text(n, held.in_sample.get(n))} / {value_text(n, held.out_of_sample.get(n))}"
            for n in metrics
        ]
        cells_held += [""] * (len(names) - 1 - len(metrics))
    return {
        "names": names,
        "rows": rows,
        "held": cells_held,
        "held_name": held_name(content.study.validation.benchmark),
        "has_odds": bool(odds),
    }


def equity(content: Content, drawn: Drawn) -> Values | None:
    """The equity of the winner, the median set and buy and hold.

    Args:
        content: of the report.
        drawn: takes the figure.

    Returns:
        Values of ``equity.html``; None where no set could be simulated again.
    """
    if content.winner is None or content.median is None:
        return None
    symbols = content.manifest["symbols"]
    return {
        "height": drawn.add(
            "equity",
            figures.equity(content.winner, content.median, content.benchmark, content.stitched),
        ),
        "first": str(content.manifest["first_time"])[:10],
        "several": len(symbols) > 1,
        "symbols": counted(len(symbols), "symbol"),
        "close_fill": content.winner.inputs.rules.close_fill,
        "stitched": content.stitched is not None,
    }


def selection(content: Content, drawn: Drawn) -> Values:
    """What tells skill from luck: all sets out-of-sample, overfitting, walk-forward.

    Args:
        content: of the report.
        drawn: takes the figures.

    Returns:
        Values of ``selection.html``.
    """
    values: Values = {
        "remarks": (),
        "scatter": drawn.add("scatter", figures.in_and_out(content)),
        "n_sets": f"{len(content.sets):,}",
        "overfitting": None,
        "walk_forward": None,
    }
    found = content.selection
    if found is None:
        return values
    lines = remarks(found, content.study)
    values["remarks"] = [line[:1].upper() + line[1:] for line in lines]
    values["overfitting"] = drawn.add("overfitting", figures.overfitting(content))
    if found.pbo is not None:
        values |= {"pbo": f"{found.pbo:.2f}", "n_splits": f"{found.n_splits:,}"}
    values["walk_forward"] = drawn.add("walk_forward", figures.walk_forward(content))
    values |= {
        "n_windows": len(found.windows),
        "one_search_per_window": found.one_search_per_window,
        "efficiency": value_text("", found.walk_forward_efficiency),
    }
    return values


def parameters(content: Content, drawn: Drawn) -> Values | None:
    """Which parameters matter, two at a time, and all of them as lines.

    Args:
        content: of the report.
        drawn: takes the figures; heatmaps of every pair are in the page anyway.

    Returns:
        Values of ``parameters.html``; None where no set was tried.
    """
    axes = content.axes
    if not axes:
        return {"importance": None} if len(content.sets) else None
    n_shown = len({axis.name for grid in content.grids for axis in (grid.x, grid.y)})
    values: Values = {
        "importance": drawn.add("importance", figures.importance(content)),
        "objective": metric_name(content.objective),
        "names": [axis.name for axis in axes[:n_shown]],
        "n_axes": len(axes),
        "parallel": drawn.add("parallel", figures.parallel(content)),
        "sample": f"All {len(content.sets):,} sets",
    }
    if content.grids:
        first = figures.heatmap(content, content.grids[0], "median", (0.0, 1.0))
        values["heatmap"] = height_of(first)
    if len(content.sets) > figures.BEST_LINES + figures.OTHER_LINES:
        values["sample"] = (
            f"The best {figures.BEST_LINES} sets and {figures.OTHER_LINES:,} of the others, evenly"
            " spaced by rank"
        )
    return values


def search(content: Content, drawn: Drawn) -> Values | None:
    """The course of the search.

    Args:
        content: of the report.
        drawn: takes the figure.

    Returns:
        Values of ``search.html``; None where no trial has a value.
    """
    height = drawn.add("history", figures.history(content))
    if height is None:
        return None
    failed = sum(1 for trial in content.trials if not trial["values"])
    chosen = content.study.search
    return {
        "height": height,
        "sampler": chosen.sampler,
        "objective": content.objective,
        "tile_value": chosen.tile_value,
        "failed": counted(failed, "trial") if failed else "",
    }


def winner(content: Content, drawn: Drawn) -> Values | None:
    """The winner: its parameters, its regimes, its monthly returns.

    Args:
        content: of the report.
        drawn: takes the figure.

    Returns:
        Values of ``winner.html``; None where no set is best.
    """
    if content.best.empty:
        return None
    row = content.best.iloc[0]
    branch = content.space.branches[content.space.branch_index(row["strategy"], row["classifier"])]
    searched = {one.name for one in branch.searched}
    varied = [name for name in branch.columns if name in searched or name in branch.swept]
    values: Values = {
        "parameters": [
            ("strategy", row["strategy"], ""),
            ("classifier", row["classifier"], ""),
            *(
                (name, value_text("", row[name]), "searched" if name in searched else "swept")
                for name in varied
            ),
        ],
        "fixed": ", ".join(
            f"{name} {value_text('', row[name])}" for name in branch.columns if name not in varied
        ),
        "regimes": None,
    }
    best = content.winner
    if best is None or content.market is None:
        return values
    none = "none, so every bar is neutral"
    values["classifier"] = none if branch.classifier == "none" else branch.classifier
    values["regimes"] = drawn.add("regimes", figures.regimes(best, content.market))
    values["months"] = _months(monthly_returns(best.result.equity, best.inputs.rules.initial_cash))
    return values


def _months(table: pd.DataFrame) -> Values:
    """Returns in percent, each with how strongly its cell is coloured; the year is not."""
    largest = float(np.nanmax(np.abs(table[range(1, 13)].to_numpy(np.float64)))) or 1.0
    rows = []
    for year, row in table.iterrows():
        cells: list[Values | None] = []
        for month in range(1, 14):
            value = row[month]
            if pd.isna(value):
                cells.append(None)
                continue
            share = round(min(abs(value) / largest, 1.0) * 60)
            cells.append(
                {
                    "text": f"{100 * value:z.1f}",
                    "kind": "gain" if value > 0 else "loss",
                    "share": None if month == 13 else share,
                }
            )
        rows.append((year, cells))
    return {"names": ["year", *MONTHS, "whole year"], "rows": rows}


def trades(content: Content) -> Values | None:
    """The trades of the winner.

    Args:
        content: of the report.

    Returns:
        Values of ``trades.html``; None where the winner could not be simulated again.
    """
    found = content.trades
    if found is None or content.winner is None:
        return None
    if found.empty:
        return {"rows": ()}
    shown = found.tail(MOST_TRADES)
    intraday = bool((pd.DatetimeIndex(found["entry"]).normalize() != found["entry"]).any())
    form = "%Y-%m-%d %H:%M" if intraday else "%Y-%m-%d"
    return {
        "summary": _trade_summary(found),
        "n_trades": len(found),
        "names": (
            *("symbol", "side", "entry", "exit", "bars", "entry price", "exit price"),
            *("return", "profit", "costs", "end"),
        ),
        "text": ("symbol", "side", "entry", "exit", "end"),
        "rows": [_trade_cells(one, form) for one in shown.to_dict("records")],
    }


def _trade_summary(found: pd.DataFrame) -> list[tuple[str, str, str]]:
    closed = found[found["end"] != "open"]
    gains = float(closed.loc[closed["profit"] > 0, "profit"].sum())
    losses = float(-closed.loc[closed["profit"] < 0, "profit"].sum())
    n_open = len(found) - len(closed)
    return [
        ("trades", f"{len(closed):,}", f"{n_open} still open"),
        (
            "winning",
            f"{(closed['profit'] > 0).mean():.0%}" if len(closed) else UNDEFINED,
            "of those closed",
        ),
        ("mean return", f"{closed['return'].mean():.2%}" if len(closed) else UNDEFINED, ""),
        ("bars held", f"{closed['bars'].median():,.0f}" if len(closed) else UNDEFINED, "median"),
        ("gross profit", f"{gains:,.0f}", f"{losses:,.0f} gross loss"),
    ]


def _trade_cells(one: Mapping[Any, Any], form: str) -> list[tuple[str | None, str]]:
    """Cells of a row: the number to sort by, None for a text, and what is shown."""
    numbers = (
        (one["bars"], f"{one['bars']:,}"),
        (one["entry_price"], f"{one['entry_price']:,.6g}"),
        (one["exit_price"], f"{one['exit_price']:,.6g}"),
        (one["return"], f"{one['return']:.2%}"),
        (one["profit"], f"{one['profit']:,.2f}"),
        (one["cost"], f"{one['cost']:,.2f}"),
    )
    return [
        (None, str(one["symbol"])),
        (None, one["side"]),
        *((None, one[name].strftime(form)) for name in ("entry", "exit")),
        *((f"{value:.8g}", text) for value, text in numbers),
        (None, one["end"]),
    ]


def costs(content: Content, drawn: Drawn) -> Values | None:
    """What the winner paid.

    Args:
        content: of the report.
        drawn: takes the figure.

    Returns:
        Values of ``costs.html``; None where the winner could not be simulated again.
    """
    best = content.winner
    if best is None:
        return None
    result, rules = best.result, best.inputs.rules
    by_year = costs_by_year(result.fills, result.equity)
    total = float(by_year.sum())
    before = float(result.equity.iloc[-1]) - rules.initial_cash + total
    years = len(result.equity) / best.inputs.bars.bars_per_year
    return {
        "summary": [
            ("costs paid", f"{total:,.0f}", "beyond the market's prices, money"),
            ("a year", f"{total / years:,.0f}", f"over {years:.1f} years"),
            (
                "share of the profit before costs",
                f"{total / before:.1%}" if before > 0 else UNDEFINED,
                f"{before:,.0f} before costs" if before > 0 else "no profit before costs",
            ),
            ("fills", f"{len(result.fills):,}", ""),
        ],
        "height": drawn.add("costs", figures.costs(by_year)),
        "terms": ", ".join(
            f"{name} {value:g}"
            for name, value in result.parameters.items()
            if name in _COSTS and isinstance(value, float) and value > 0.0
        ),
        "per_symbol": ", ".join(rules.per_symbol),
    }


def refusals(content: Content, drawn: Drawn) -> Values | None:
    """Why signals of the winner became no order.

    Args:
        content: of the report.
        drawn: takes the figure.

    Returns:
        Values of ``refusals.html``; None where the winner could not be simulated again.
    """
    if content.winner is None:
        return None
    counts = content.rejects
    if counts is None:
        return {"summary": None}
    n_decisions = content.n_decisions
    refused = sum(counts.get(name, 0) for name in WISHES)
    placed = n_decisions - sum(counts.get(name, 0) for name in REASONS)
    order = [*WISHES, *(name for name in REASONS if name not in WISHES)]
    return {
        "summary": [
            ("decisions", f"{n_decisions:,}", "bars x symbols"),
            ("orders placed", f"{placed:,}", f"{placed / n_decisions:.1%}"),
            ("wishes refused", f"{refused:,}", f"{refused / n_decisions:.1%}"),
        ],
        "height": drawn.add("refusals", figures.refusals(counts, n_decisions, order)),
        "rows": [
            {
                "reason": name.replace("_", " "),
                "count": f"{counts[name]:,}",
                "share": f"{counts[name] / n_decisions:.1%}",
                "kind": "refused" if name in WISHES else "nothing wished",
                "meaning": WHY.get(name, ""),
            }
            for name in order
            if counts.get(name)
        ],
    }
