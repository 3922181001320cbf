"""What the sections about one set say, mostly the winner, as the values of their templates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from kernels.codes import REASONS
from optimizer.catalogue import COSTS
from optimizer.review.refusals import WHY
from optimizer.sweep.buy_and_hold import UNIVERSE
from optimizer.sweep.drawdown import worst_drawdowns
from optimizer.text import counted, probability
from optimizer.types import NO_BUYING_POWER, NO_VOLUME, NOT_REACHED, NOT_TRADED
from optimizer.views.report import over_time, symbol_figures, winner_figures
from optimizer.views.report.content import Content
from optimizer.views.report.drawn import Drawn, Values, height_of
from optimizer.views.report.formats import UNDEFINED, value_text
from optimizer.views.report.sketch import sketch
from optimizer.views.report.trades import costs_by_year, monthly_returns

_COSTS = frozenset(one.name for one in COSTS)

MOST_TRADES = 1000
"""Rows of the trades table; the last ones are kept."""

WISHES = (
    *("no_budget", "no_place", "below_minimum", "inside_band", "no_edge", "no_volatility"),
    *(NOT_TRADED, NO_VOLUME, NO_BUYING_POWER, NOT_REACHED),
)
"""Reasons with which the risk manager refuses a wish; with the others there was no wish."""

MOST_DRAWDOWNS = 8

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def equity(content: Content, drawn: Drawn) -> Values | None:
    """The equity of the set, of the median set and of buy and hold.

    Args:
        content: the content of the report.
        drawn: takes the figure.

    Returns:
        Values of the figure in ``verdict.html``; None where no set could be simulated again.
    """
    if content.winner is None or content.median is None:
        return None
    symbols, benchmark = content.manifest["symbols"], content.study.validation.benchmark
    held = f"equal money in each of {counted(len(symbols), 'symbol')}"
    if benchmark != UNIVERSE or len(symbols) == 1:
        held = f"all money in {symbols[0] if benchmark == UNIVERSE else benchmark}"
    figure = winner_figures.equity(
        content.winner, content.median, content.benchmark, content.stitched, content.subject
    )
    return {
        "height": drawn.add("equity", figure),
        "sketch": sketch(figure),
        "held": held,
        "close_fill": content.winner.inputs.rules.close_fill,
        "stitched": content.stitched is not None,
        "holdout": content.winner.result.out_of_sample is not None,
        "sealed": content.median.result.out_of_sample is None,
    }


def returns(content: Content, drawn: Drawn) -> Values | None:
    """The set over time: years beside the benchmark, rolling Sharpe ratio, exposure, drawdowns, months.

    Args:
        content: the content of the report.
        drawn: takes the figures.

    Returns:
        Values of ``returns.html``; None where the set could not be simulated again.
    """
    one = content.winner
    if one is None:
        return None
    result, cash = one.result, one.inputs.rules.initial_cash
    return {
        "years": drawn.add("years", over_time.years(one, content.subject, content.benchmark)),
        "over_time": drawn.add(
            "over_time", over_time.over_time(one, content.subject, content.benchmark)
        ),
        "drawdowns": [
            (
                f"{-fall['depth']:.1%}",
                *(f"{fall[name]:%Y-%m-%d}" for name in ("peak", "trough")),
                UNDEFINED if pd.isna(fall["recovered"]) else f"{fall['recovered']:%Y-%m-%d}",
                _lasted(fall, result.equity.index[-1]),
            )
            for fall in worst_drawdowns(result.equity, cash, MOST_DRAWDOWNS).to_dict("records")
        ],
        "months": _months(monthly_returns(result.equity, cash)),
    }


def _lasted(fall: Mapping[Any, Any], last: pd.Timestamp) -> str:
    """The time from a high until it is reached again, or until now, in days."""
    stop = last if pd.isna(fall["recovered"]) else fall["recovered"]
    return counted((stop - fall["peak"]).days, "day")


def symbols(content: Content, drawn: Drawn) -> Values | None:
    """Profit and weight of each symbol, and prices with entries and exits.

    Args:
        content: the content of the report.
        drawn: takes the figures.

    Returns:
        Values of ``symbols.html``; None where the set never traded or could not be simulated again.
    """
    one, trades = content.winner, content.trades
    if one is None or trades is None or trades.empty:
        return None
    names = symbol_figures.priced_symbols(trades)
    drawn.prices = symbol_figures.prices(one, trades, names)
    return {
        "by_symbol": drawn.add("by_symbol", symbol_figures.by_symbol(one)),
        "prices": height_of(drawn.prices[0]),
        "names": names,
        "n_traded": trades["symbol"].nunique(),
        "most_marks": symbol_figures.MOST_MARKS,
        "all_marked": trades["symbol"].value_counts().max() <= symbol_figures.MOST_MARKS,
    }


def regimes(content: Content, drawn: Drawn) -> Values | None:
    """The regimes of the set: the market's price in them, and what it earned after each.

    Args:
        content: the content of the report.
        drawn: takes the figure.

    Returns:
        Values of ``regimes.html``; None where the set has no classifier or could not be simulated again.
    """
    one = content.winner
    if one is None or content.market is None or one.tile.classifier == "none":
        return None
    return {
        "classifier": one.tile.classifier,
        "regimes": drawn.add("regimes", winner_figures.regimes(one, content.market)),
        "regime_values": () if content.chosen else _regime_values(content),
    }


def _regime_values(content: Content) -> list[Values]:
    """A table of the market's returns after each regime in-sample, and one over the holdout."""
    found = content.selection
    spans = (
        ("in-sample", None if found is None else found.regime_value),
        ("over the holdout", None if found is None else found.holdout_regime_value),
    )
    return [
        {
            "span": span,
            "p": probability(value.p),
            "rows": [
                (
                    one.regime,
                    f"{one.n_returns:,}",
                    f"{one.mean:.1%}",
                    value_text("sharpe", one.sharpe),
                )
                for one in value.regimes
            ],
        }
        for span, value in spans
        if value is not None
    ]


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
        content: the content of the report.

    Returns:
        Values of ``trades.html``; None where the winner could not be simulated again.
    """
    found = content.trades
    if found is None or content.winner is None:
        return None
    if found.empty:
        return {"rows": (), "subject": content.subject}
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
        content: the content of the report.
        drawn: takes the figure.

    Returns:
        Values of ``costs.html``; None where the winner could not be simulated again.
    """
    best = content.winner
    if best is None:
        return None
    result, rules, money = best.result, best.inputs.rules, best.study.account.money
    by_year = costs_by_year(result.fills, result.equity)
    total = float(by_year.sum())
    before = float(result.equity.iloc[-1]) - rules.initial_cash + total
    years = len(result.equity) / best.inputs.bars.bars_per_year
    return {
        "summary": [
            ("costs paid", f"{total:,.0f}", f"beyond the market's prices, {money}"),
            ("a year", f"{total / years:,.0f}", f"over {years:.1f} years"),
            (
                "share of the profit before costs",
                f"{total / before:.1%}" if before > 0 else UNDEFINED,
                f"{before:,.0f} before costs" if before > 0 else "no profit before costs",
            ),
            ("fills", f"{len(result.fills):,}", ""),
        ],
        "height": drawn.add("costs", winner_figures.costs(by_year, money)),
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
        content: the content of the report.
        drawn: takes the figure.

    Returns:
        Values of ``refusals.html``; None where the winner could not be simulated again.
    """
    if content.winner is None:
        return None
    counts = content.rejects
    n_decisions = content.n_decisions
    if counts is None or not n_decisions:
        return {"summary": None}
    refused = sum(counts.get(name, 0) for name in WISHES)
    placed = n_decisions - sum(counts.get(name, 0) for name in REASONS)
    order = [*WISHES, *(name for name in REASONS if name not in WISHES)]
    return {
        "summary": [
            ("decisions", f"{n_decisions:,}", "one a bar and symbol"),
            ("orders placed", f"{placed:,}", f"{placed / n_decisions:.1%}"),
            ("wishes refused", f"{refused:,}", f"{refused / n_decisions:.1%}"),
        ],
        "height": drawn.add(
            "refusals", winner_figures.refusals(counts, n_decisions, order, WISHES)
        ),
        "rows": [
            {"reason": name.replace("_", " "), "meaning": WHY.get(name, "")}
            for name in order
            if counts.get(name)
        ],
    }
