"""What each symbol did to one set: its profit, its weight, its price with entries and exits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from optimizer.review.rerun import Rerun
from optimizer.types import FloatArray
from optimizer.views.report.formats import safe
from optimizer.views.report.lines import line, milliseconds
from optimizer.views.report.style import LIGHT, TEMPLATE, figure

MOST_SYMBOLS = 25
"""Symbols with a bar of their own, those of the largest gains and losses; one is for the others."""

MOST_PRICES = 12
"""Symbols whose price is drawn, those that were traded most often."""

MOST_CLOSES = 1200
"""Points of the line of a price."""

MOST_MARKS = 400
"""Trades that are marked on a price; the last ones."""

CENT = 0.01
"""Money; a profit below it is rounding."""

MARKS = (
    ("long", "entry", "buy", "triangle-up", "teal"),
    ("short", "entry", "sell short", "triangle-down", "orange"),
    ("long", "exit", "sell", "x", "blue"),
    ("short", "exit", "cover", "x", "grey"),
)
"""The marks of a price: side, column of the trades, name, symbol and colour."""


def by_symbol(one: Rerun) -> go.Figure:
    """Profit and mean weight of each symbol, the greatest profit at the top.

    Args:
        one: the set.

    Returns:
        The figure.
    """
    parts = one.result.attribution()
    profit = parts[parts["by"] == "symbol"].set_index("name")["profit"]
    sizes = one.result.weights.abs().mean()
    table = pd.DataFrame({"profit": profit, "weight": sizes.reindex(profit.index)}).fillna(0.0)
    table = table[(table["profit"].abs() >= CENT) | (table["weight"] > 0.0)]
    order = table["profit"].abs().sort_values(ascending=False, kind="stable").index
    rest = table.loc[order[MOST_SYMBOLS:]]
    table = table.loc[order[:MOST_SYMBOLS]].sort_values("profit", kind="stable")
    if len(rest):
        table = pd.concat([rest.sum().to_frame(f"{len(rest)} others").T, table])
    names = [safe(name) for name in table.index]
    made = make_subplots(
        rows=1, cols=2, shared_yaxes=True, column_widths=[0.6, 0.4], horizontal_spacing=0.04
    )
    made.update_layout(
        template=TEMPLATE, height=120 + 24 * max(len(names), 2), showlegend=False, bargap=0.25
    )
    for column, (name, form, colors) in enumerate(
        (
            ("profit", ",.0f", [LIGHT["blue" if v >= 0 else "orange"] for v in table["profit"]]),
            ("weight", ".1%", LIGHT["teal"]),
        ),
        1,
    ):
        made.add_trace(
            go.Bar(
                x=table[name].to_numpy(np.float64),
                y=names,
                orientation="h",
                marker={"color": colors},
                hovertemplate=f"%{{y}}: {name} %{{x:{form}}}<extra></extra>",
            ),
            1,
            column,
        )
    made.update_yaxes(type="category", showgrid=False)
    made.update_xaxes(
        title_text=f"profit, {one.study.account.money}", tickformat="~s", nticks=5, row=1, col=1
    )
    made.update_xaxes(title_text="mean weight", tickformat=".0%", nticks=3, row=1, col=2)
    return made


def priced_symbols(trades: pd.DataFrame) -> list[str]:
    """The symbols whose price is drawn, the most traded first.

    Args:
        trades: the trades of the set, see ``round_trips``.
    """
    return [str(name) for name in trades["symbol"].value_counts().index[:MOST_PRICES]]


def prices(one: Rerun, trades: pd.DataFrame, symbols: Sequence[str]) -> list[go.Figure]:
    """The closes of symbols, with every entry and exit.

    Args:
        one: the set.
        trades: its trades, see ``round_trips``.
        symbols: the symbols to draw.

    Returns:
        A figure for each of the symbols.
    """
    fills = one.result.fills.drop_duplicates(["symbol", "timestamp"])
    at = fills.set_index(["symbol", "timestamp"])["price"]
    inputs, index = one.inputs, pd.DatetimeIndex(one.result.equity.index)
    times = milliseconds(index)
    made = []
    for symbol in symbols:
        column = inputs.bars.symbols.index(symbol)
        closes = inputs.bars.close[inputs.first : inputs.first + len(index), column]
        own = trades[trades["symbol"] == symbol].tail(MOST_MARKS)
        made.append(_price(symbol, times, closes, own, at.loc[symbol]))
    return made


def _price(
    symbol: str, times: FloatArray, closes: FloatArray, trades: pd.DataFrame, at: pd.Series[float]
) -> go.Figure:
    made = figure(400, hovermode="closest")
    name = f"{safe(symbol)}, close"
    made.add_trace(
        line(
            times,
            closes,
            name,
            "veil",
            most=MOST_CLOSES,
            hovertemplate=f"{name}: %{{y:,.6~g}}<extra></extra>",
        )
    )
    for side, end, word, mark, color in MARKS:
        own = trades[(trades["side"] == side) & ((end == "entry") | (trades["end"] != "open"))]
        if own.empty:
            continue
        made.add_trace(
            go.Scatter(
                x=milliseconds(pd.DatetimeIndex(own[end])),
                y=at.reindex(own[end]).to_numpy(np.float64),
                customdata=own["return"].to_numpy(np.float64).astype(np.float32),
                name=word,
                mode="markers",
                marker={
                    "symbol": mark, "size": 8 if end == "entry" else 6, "color": LIGHT[color],
                    "line": {"color": LIGHT["paper"], "width": 0.5},
                },
                hovertemplate=f"{word} %{{x|%Y-%m-%d %H:%M}} at %{{y:,.6~g}}<br>"
                "return of the trade %{customdata:.1%}<extra></extra>",
            )
        )  # fmt: skip
    made.update_xaxes(type="date", title_text="date (UTC)", hoverformat="%Y-%m-%d %H:%M")
    made.update_yaxes(title_text=name)
    return made
