"""Trades, monthly returns and yearly costs of one set, from its fills and its equity."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

TRADE_COLUMNS = (
    *("symbol", "side", "entry", "exit", "bars", "entry_price", "exit_price"),
    *("return", "profit", "cost", "end"),
)


@dataclass
class _Position:
    side: float
    entry: pd.Timestamp
    lots: float = 0.0
    quantity: float = 0.0
    largest: float = 0.0
    cash: float = 0.0
    cost: float = 0.0
    money: float = 1.0  # that a unit is worth at a price of 1
    opened: list[tuple[float, float]] = field(default_factory=list)
    closed: list[tuple[float, float]] = field(default_factory=list)

    def add(self, fill: Mapping[Hashable, Any]) -> None:
        quantity, price = float(fill["quantity"]), float(fill["price"])
        self.lots += float(fill["lots"])
        self.quantity += quantity
        if price > 0.0:
            self.money = float(fill["value"]) / (abs(quantity) * price)
        self.largest = max(self.largest, abs(self.quantity) * price * self.money)
        self.cash += float(fill["cash"])
        self.cost += float(fill["cost"])
        (self.opened if quantity * self.side > 0 else self.closed).append((abs(quantity), price))


def _mean_price(parts: list[tuple[float, float]]) -> float:
    units = sum(quantity for quantity, _ in parts)
    return sum(quantity * price for quantity, price in parts) / units if units else float("nan")


def round_trips(
    fills: pd.DataFrame, times: pd.DatetimeIndex, closes: Mapping[str, float]
) -> pd.DataFrame:
    """Every trade of one set: from flat to flat, for each symbol.

    An order that turns a position around is two fills: one ends a trade, the next starts one.

    Args:
        fills: the fills as ``BacktestResult.fills``.
        times: the times of all bars.
        closes: last close of each symbol, at which an open position is marked.

    Returns:
        One row per trade in the order of exits, open trades last: ``symbol``, ``side`` (long or short),
        ``entry`` and ``exit`` (time), ``bars`` held, mean ``entry_price`` and ``exit_price``,
        ``return`` (profit over the position's greatest value), ``profit`` (money, net of all costs),
        ``cost`` (money), ``end`` (order, stop, liquidation, end of
        the symbol, ruin, or open).
    """
    rows: list[dict[str, Any]] = []
    held: dict[str, _Position] = {}

    def end(symbol: str, one: _Position, time: pd.Timestamp, kind: str) -> None:
        marked = one.quantity * closes[symbol] * one.money if kind == "open" else 0.0
        profit = one.cash + marked
        rows.append(
            {
                "symbol": symbol,
                "side": "long" if one.side > 0 else "short",
                "entry": one.entry,
                "exit": time,
                "entry_price": _mean_price(one.opened),
                "exit_price": closes[symbol] if kind == "open" else _mean_price(one.closed),
                "return": profit / one.largest if one.largest else 0.0,
                "profit": profit,
                "cost": one.cost,
                "end": kind,
            }
        )

    for fill in fills.to_dict("records"):
        symbol = str(fill["symbol"])
        one = held.setdefault(symbol, _Position(np.sign(fill["lots"]), fill["timestamp"]))
        one.add(fill)
        if one.lots == 0.0:
            end(symbol, held.pop(symbol), fill["timestamp"], str(fill["kind"]))
    for symbol, one in held.items():
        end(symbol, one, times[-1], "open")
    frame = pd.DataFrame(rows)
    if frame.empty:
        return pd.DataFrame(columns=list(TRADE_COLUMNS))
    places = [times.get_indexer(pd.DatetimeIndex(frame[name])) for name in ("entry", "exit")]
    return frame.assign(bars=places[1] - places[0])[list(TRADE_COLUMNS)]


def monthly_returns(equity: pd.Series, initial_cash: float) -> pd.DataFrame:
    """Return of each calendar month, and of each year in column 13.

    Args:
        equity: money at each close, by time.
        initial_cash: the cash before the first month.

    Returns:
        One row per year, columns 1 to 13, fractions; NaN where there are no bars.
    """
    times = pd.DatetimeIndex(equity.index)
    by_month = equity.groupby([times.year, times.month]).last()
    by_year = equity.groupby(times.year).last()
    table = _changes(by_month, initial_cash).unstack().reindex(columns=range(1, 13))
    return table.assign(**{"13": _changes(by_year, initial_cash)}).rename(columns={"13": 13})


def _changes(values: pd.Series, before: float) -> pd.Series:
    former = values.shift(1, fill_value=before)
    return (values / former.where(former > 0.0) - 1.0).fillna(0.0)


def costs_by_year(fills: pd.DataFrame, equity: pd.Series) -> pd.Series:
    """Commission and slippage paid in each calendar year.

    Args:
        fills: the fills as ``BacktestResult.fills``.
        equity: money at each close, by time.

    Returns:
        Money by year, 0 in a year without fills.
    """
    years = pd.DatetimeIndex(equity.index).year.unique()
    paid = fills["cost"].groupby(pd.DatetimeIndex(fills["timestamp"]).year).sum()
    return paid.reindex(years, fill_value=0.0)
