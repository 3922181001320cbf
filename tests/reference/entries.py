"""Orders that wait at a price, from "Limit and stop entries" of docs/account.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tests.reference import exits
from tests.reference.finer import Piece

if TYPE_CHECKING:
    from tests.reference.broker import Broker, Symbol

Entry = Literal["market", "limit", "stop"]


@dataclass
class Waiting:
    """An addition of signed ``lots`` that waits at ``price``, which bar ``since`` set."""

    lots: float
    price: float
    since: int


def parts(lots: float, order: float) -> tuple[float, float]:
    """The part of an order that reduces a position, and the part that adds."""
    if order * lots >= 0.0:
        return 0.0, order
    if abs(order) <= abs(lots):
        return order, 0.0
    return -lots, order + lots


def place(broker: Broker, bar: int) -> None:
    """At a close, split the orders: what reduces fills at the open, what adds waits at a price."""
    for one in broker.symbols:
        one.order, addition = parts(one.lots, one.order)
        old = one.waiting
        if addition == 0.0:
            one.waiting = None
            continue
        if one.order != 0.0:
            broker.saw("turns")
        if old is not None and old.lots * addition > 0.0 and good(broker, old, bar):
            broker.saw("kept")
            old.lots = addition
            continue
        if old is not None and old.lots * addition > 0.0:
            broker.saw("reset")
        away = broker.p["entry_offset"] * one.close[bar]
        if broker.p["entry_offset_atr"] > 0.0:
            away += broker.p["entry_offset_atr"] * one.atr[bar]
        # A limit order waits where the symbol is cheaper, for its side; a stop order where it is dearer.
        above = (addition > 0.0) == (broker.entry == "stop")
        price = one.close[bar] + away if above else one.close[bar] - away
        one.waiting = Waiting(addition, price, bar)


def good(broker: Broker, waiting: Waiting, bar: int) -> bool:
    """Whether a price may wait for one more bar."""
    return bar - waiting.since < broker.p["entry_bars"]


def kept(broker: Broker, one: Symbol, bar: int) -> float:
    """The lots that wait and are still wanted at a close at which the signal is on hold."""
    waiting = one.waiting
    if waiting is None or not good(broker, waiting, bar) or waiting.lots * one.lots < 0.0:
        return 0.0
    broker.saw("waits_on_hold")
    return waiting.lots


def price_of(broker: Broker, waiting: Waiting, now: Piece) -> float | None:
    """The market's price at which an order fills in this moment; None if it does not."""
    buys, price = waiting.lots > 0.0, waiting.price
    if broker.entry == "limit":
        if buys:
            return min(now.open, price) if now.low < price else None
        return max(now.open, price) if now.high > price else None
    if buys:
        return max(now.open, price) if now.high >= price else None
    return min(now.open, price) if now.low <= price else None


def enter(broker: Broker, bar: int) -> None:
    """Fill the entries that this moment reaches."""
    due: list[tuple[Symbol, float, float]] = []
    for one in broker.symbols:
        waiting = one.waiting
        if waiting is None or not one.now.trades or one.lots * waiting.lots < 0.0:
            continue
        price = price_of(broker, waiting, one.now)
        if price is None or exits.opens_beyond(broker, one):
            continue
        one.waiting = None
        lots = broker.within_volume(one, waiting.lots)
        if lots != 0.0:
            due.append((one, lots, price))
    before = [one.lots for one in broker.symbols]
    broker.add(due, [one.now.open for one in broker.symbols], bar, "entry")
    for one, _, price in due:
        if one.lots != before[one.index]:
            one.entered = price
