"""The trades of one set, from its fills."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from optimizer.types import Bars

TRADE_COLUMNS = (
    *("symbol", "side", "entry", "exit", "bars", "entry_price", "exit_price"),
    *("size", "return", "profit", "cost", "end"),
)


@dataclass
class _Position:
    side: float
    entry: pd.Timestamp
    lots: float = 0.0
    quantity: float = 0.0
    largest: float = 0.0
    size: float = 0.0
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
        self.size = max(self.size, abs(self.quantity))
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
        ``size`` (most units held), ``return`` (profit over the position's greatest value),
        ``profit`` (money, net of all costs), ``cost`` (money), ``end`` (order, stop, liquidation, end of
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
                "size": one.size,
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


def with_excursions(trades: pd.DataFrame, bars: Bars, *, at_close: bool) -> pd.DataFrame:
    """Trades with the worst and the best that prices did to them.

    The prices are the fills', and the highs and lows of the bars that the position was held through:
    with fills at the open, those from the bar of the entry to the one before the exit. An entry inside
    a bar counts all of that bar; of the bar of an exit nothing is known but the fill.

    Args:
        trades: the trades as ``round_trips`` gives them.
        bars: the bars, of which the last is the last that the trades know.
        at_close: whether orders fill at the close, and so after the range of their bar.

    Returns:
        The trades with ``mae`` and ``mfe``, the maximum adverse and favourable excursion: the profit per
        unit at the worst and at the best price over the mean entry price, at most and at least 0.
    """
    times = pd.DatetimeIndex(bars.timestamps, tz="UTC")
    entered, left = (
        times.get_indexer(pd.DatetimeIndex(trades[name])) for name in ("entry", "exit")
    )
    worst, best = np.zeros(len(trades)), np.zeros(len(trades))
    for i, trade in enumerate(trades.to_dict("records")):
        s = bars.symbols.index(str(trade["symbol"]))
        through = trade["end"] == "open" or (at_close and trade["end"] == "order")
        held = slice(entered[i] + at_close, left[i] + through)
        fills = [trade["entry_price"], trade["exit_price"]]
        prices = np.concatenate((bars.low[held, s], bars.high[held, s], fills))
        side = 1.0 if trade["side"] == "long" else -1.0
        moves = side * (prices / trade["entry_price"] - 1.0)
        worst[i], best[i] = min(moves.min(), 0.0), max(moves.max(), 0.0)
    return trades.assign(mae=worst, mfe=best)
