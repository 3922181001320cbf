"""Stops, targets, time and session exits, and the maintenance margin, from docs/account.md."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from optimizer.types import TimeArray

if TYPE_CHECKING:
    from tests.reference.broker import Broker, Symbol

LONG, FLAT, SHORT, HOLD = 1, 0, -1, 2


def distance(price: float, fraction: float, multiple: float, atr: float) -> float:
    """How far a level is from the price that it counts from; infinite where there is none."""
    given = []
    if fraction > 0.0:
        given.append(fraction * price)
    if multiple > 0.0 and atr > 0.0:
        given.append(multiple * atr)
    return min(given, default=inf)


def share_at_risk(broker: Broker, one: Symbol, bar: int) -> float:
    """How far the stop of a position opened at a close would be from it, a fraction."""
    close = one.close[bar]
    away = distance(close, broker.p["stop_loss"], broker.p["stop_loss_atr"], one.atr[bar])
    return away / close


def opens_beyond(broker: Broker, one: Symbol) -> bool:
    """Whether this moment opens beyond a stop or the target of a position."""
    if one.lots == 0.0:
        return False
    p, side = broker.p, LONG if one.lots > 0.0 else SHORT
    loss = distance(one.entry, p["stop_loss"], p["stop_loss_atr"], one.opening_atr)
    trail = distance(one.best, p["trailing_stop"], p["trailing_stop_atr"], one.opening_atr)
    gain = distance(one.entry, p["take_profit"], p["take_profit_atr"], one.opening_atr)
    lost = side * (one.now.open - one.entry) <= -loss or side * (one.now.open - one.best) <= -trail
    return lost or side * (one.now.open - one.entry) >= gain


def stops(broker: Broker, bar: int) -> None:
    """Fill the stops and targets that this moment reaches."""
    p = broker.p
    for one in broker.symbols:
        now = one.now
        if one.lots == 0.0 or not now.trades:
            continue
        side = LONG if one.lots > 0.0 else SHORT
        # A short position is a long one with the signs of all prices turned.
        open_ = side * (now.open if one.entered is None else one.entered)
        worst = side * (now.low if side == LONG else now.high)
        top = side * (now.high if side == LONG else now.low)
        loss = distance(one.entry, p["stop_loss"], p["stop_loss_atr"], one.opening_atr)
        trail = distance(one.best, p["trailing_stop"], p["trailing_stop_atr"], one.opening_atr)
        gain = distance(one.entry, p["take_profit"], p["take_profit_atr"], one.opening_atr)
        level = max(side * one.entry - loss, side * one.best - trail)
        goal = side * one.entry + gain if one.entered is None else inf
        if open_ <= level or open_ >= goal:
            at = open_
        elif worst <= level:
            at = level
        elif top >= goal:
            at = goal
        else:
            continue
        broker.saw("stops")
        if one.entered is not None:
            broker.saw("stopped_at_once")
        left(broker, one, side)
        one.waiting = None
        lots = broker.within_volume(one, -one.lots)
        broker.fill(one, lots, side * at, bar, "stop")


def left(broker: Broker, one: Symbol, side: int) -> None:
    """Remember an exit, which keeps the direction or the symbol from being entered again."""
    if broker.p["cooldown"] > 0.0:
        one.cooling = int(broker.p["cooldown"])
    else:
        one.barred = side


def follow(broker: Broker) -> None:
    """Take this moment into the best prices, which count from the next one on."""
    for one in broker.symbols:
        if not one.now.trades or one.entered is not None:
            continue
        if one.lots > 0.0:
            one.best = max(one.best, one.now.high)
        elif one.lots < 0.0:
            one.best = min(one.best, one.now.low)


def liquidate(broker: Broker, bar: int) -> None:
    """Close what trades if the account lacks the maintenance margin in this moment."""
    prices = []
    for one in broker.symbols:
        worst = one.now.low if one.lots > 0.0 else one.now.high
        prices.append(worst if one.now.trades else one.now.open)
    values = [one.value(one.lots, at) for one, at in zip(broker.symbols, prices, strict=True)]
    gross = sum(abs(value) for value in values)
    if gross == 0.0:
        return
    if broker.cash + sum(values) >= broker.account["maintenance_margin"] * gross:
        return
    broker.saw("margin_calls")
    for one, at in zip(broker.symbols, prices, strict=True):
        one.waiting = None
        if one.lots != 0.0 and one.now.trades:
            broker.out.liquidations += 1
            broker.fill(one, -one.lots, at, bar, "liquidation")


def allowed(broker: Broker, one: Symbol, direction: int, *, closing: bool) -> int:
    """What a signal's direction counts as after earlier exits, and where a time or session is over.

    It is asked once at each close at which the symbol decides; no other close counts for a time exit or
    a cooldown.
    """
    limit = broker.p["time_exit"]
    one.held += 1
    timed = limit > 0.0 and one.lots != 0.0 and one.held >= limit
    if timed:
        broker.saw("timed")
        left(broker, one, LONG if one.lots > 0.0 else SHORT)
    if closing:
        broker.saw("closing")
        direction = FLAT
    if direction == one.barred != FLAT:
        broker.saw("barred")
        direction = FLAT
    elif direction != HOLD:
        one.barred = FLAT
    cools = one.cooling > 0
    if cools:
        one.cooling -= 1
        broker.saw("cooling")
    return FLAT if timed or cools else direction


def closing(times: TimeArray, own: Sequence[int], timezone: str, at_close: bool) -> set[int]:
    """The bars of a symbol at whose close a session exit is decided.

    That is the close before the last bar that it has in a session, or of this bar itself where orders
    fill at the close. Whether its last bar of all is the last one of its session is not known. If the
    calendar has bars between the two, the order lapses, so the last bar decides it again.
    """
    times = times[list(own)]
    days = pd.DatetimeIndex(np.asarray(times)).tz_localize("UTC").tz_convert(ZoneInfo(timezone))
    day = list(days.date)
    last = [day[i] != day[i + 1] for i in range(len(day) - 1)] + [False]
    if at_close:
        return {own[i] for i, ends in enumerate(last) if ends}
    before = {own[i - 1] for i, ends in enumerate(last) if ends and i > 0}
    return before | {
        own[i] for i, ends in enumerate(last) if ends and i > 0 and own[i] > own[i - 1] + 1
    }
