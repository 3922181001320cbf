"""What bars must satisfy, and what looks suspicious in them."""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from optimizer.bars.rows import Rows, first_row
from optimizer.bars.sizes import CALENDAR_SLACK, bar_size, wrong_steps
from optimizer.bars.symbols import suspected_symbols
from optimizer.bars.times import (
    LONG_BAR,
    duration_text,
    time_text,
    to_nanoseconds,
    write_duration,
)
from optimizer.bars.timestamps import without_zone
from optimizer.errors import DataError
from optimizer.text import counted
from optimizer.types import Bars, BoolArray, FloatArray, IntArray

ROUNDING = 1e-9
"""Relative slack of high and low against open and close: the last digits of adjusted prices."""
LOWEST_PRICE, HIGHEST_PRICE = 1e-12, 1e15
"""Prices outside are refused. Real markets lie far within: a token of many zeros costs 1e-10 of
another, a listed fund of an inflated currency 1e9. Nearer to the limits of a double the products and
quotients of a backtest overflow, and equity is not a number.
"""


_OF_VOLUME = "the least is 0; where it is not known, `barsweep data import --zero-volume` writes 0"


def check_rows(rows: Rows, zone: zoneinfo.ZoneInfo, bar: int | None = None) -> None:
    """Refuse rows that are not bars: out of order, repeated, invalid, or of several sizes.

    Args:
        rows: the rows with symbols, times and values.
        zone: whose clock may shorten a step.
        bar: duration of every bar, nanoseconds; None takes each symbol's ``bar_size``.

    Raises:
        DataError: names the first such row.
    """
    _check_order(rows)
    for flaw in flaws(rows.values):
        if (row := first_row(flaw.broken)) is not None:
            rows.refuse(row, flaw.describe(rows.values, row))
    _check_bar_size(rows, zone, bar)


def require_bars(bars: Bars, needed: int, why: str) -> None:
    """Refuse bars that are too few.

    Args:
        bars: the bars of any symbols.
        needed: least number of bars.
        why: what needs them, in the message.

    Raises:
        DataError: there are fewer.
    """
    if bars.n_bars < needed:
        raise DataError(
            f"{bars.source}: {counted(bars.n_bars, 'bar')} from {time_text(bars.timestamps[0])} to "
            f"{time_text(bars.timestamps[-1])}, but at least {needed} are needed: {why}; "
            "take a longer span or shorter lookbacks"
        )


@dataclass(frozen=True)
class Flaw:
    """A rule of bars, and which rows break it.

    Attributes:
        kind: what is wrong, in a few words.
        broken: whether each row breaks the rule, shape (n_rows,).
        column: the column at fault.
        other: the column that it contradicts, if any.
        fix: what the value must be, or what to do.
    """

    kind: str
    broken: BoolArray
    column: str
    fix: str
    other: str | None = None

    def describe(self, values: Mapping[str, FloatArray], row: int) -> str:
        """What is wrong in a row, and how to fix it.

        Args:
            values: prices and volume by name, each of shape (n_rows,).
            row: index of a row that breaks the rule.
        """
        value = float(values[self.column][row])
        if np.isnan(value):
            return f"column {self.column} has no value; {self.fix}"
        text = f"column {self.column} is {value!r}"
        if self.other is not None:
            text += f", {self.kind} {self.other}, {float(values[self.other][row])!r}"
        return f"{text}; {self.fix}"


def flaws(values: Mapping[str, FloatArray]) -> Iterator[Flaw]:
    """Each rule that the values of a bar must keep, and which rows break it.

    Args:
        values: prices and volume by name, each of shape (n_rows,).
    """
    for name, column in values.items():
        fix = _OF_VOLUME if name == "volume" else "complete the bar or drop it"
        yield Flaw("no value", np.isnan(column), name, fix)
        yield Flaw("infinite", np.isinf(column), name, "it must be finite")
        if name == "volume":
            yield Flaw("negative", column < 0, name, _OF_VOLUME)
        else:
            yield Flaw("not positive", column <= 0, name, "prices must be positive")
            outside = (column < LOWEST_PRICE) | (column > HIGHEST_PRICE)
            fix = f"prices must be from {LOWEST_PRICE:g} to {HIGHEST_PRICE:g}; use another unit"
            yield Flaw("out of range", outside, name, fix)
    correct = "correct the bar or drop it"
    high, low = values["high"], values["low"]
    for name in ("low", "open", "close"):
        below = high < values[name] * (1 - ROUNDING)
        yield Flaw("below", below, "high", correct, name)
        above = low > values[name] * (1 + ROUNDING)
        yield Flaw("above", above, "low", correct, name)


def _check_order(rows: Rows) -> None:
    """Refuse a symbol's first timestamp that does not come after the one before it."""
    order = np.concatenate(rows.by_symbol())
    backward = np.zeros(len(order), dtype=np.bool_)
    before = np.zeros(len(order), dtype=np.int64)
    before[order[1:]] = order[:-1]
    backward[order[1:]] = (np.diff(rows.code[order]) == 0) & (
        np.diff(to_nanoseconds(rows.time)[order]) <= 0
    )
    row = first_row(backward)
    if row is None:
        return
    earlier = int(before[row])
    same = (rows.code[:row] == rows.code[row]) & (rows.time[:row] == rows.time[row])
    if (repeated := first_row(same)) is not None:
        earlier = repeated
    hint = "" if "symbol" in rows.frame else ", or add a symbol column"
    if rows.time[row] == rows.time[earlier]:
        rows.refuse(
            row,
            f"column timestamp repeats {rows.number(earlier)};"
            f" {suspected_symbols(rows) or f'keep one bar for each time{hint}'}",
        )
    rows.refuse(
        row,
        f"column timestamp is before {time_text(rows.time[earlier])} of {rows.number(earlier)}; "
        f"{suspected_symbols(rows) or f'sort the file by symbol and timestamp{hint}'}",
    )


def _check_bar_size(rows: Rows, zone: zoneinfo.ZoneInfo, bar: int | None) -> None:
    """Refuse bars of several sizes. A symbol's is that of its steps, unless it is given as ``bar``."""
    symbols = [where for where in rows.by_symbol() if len(where) > 1]
    if not symbols:
        return
    longest = max(symbols, key=len)
    shared = bar_size(rows.time[longest]) if bar is None else bar
    for where in symbols:
        steps = np.diff(to_nanoseconds(rows.time[where]))
        size = bar_size(rows.time[where]) if bar is None else bar
        few = len(steps) < 5 and size > shared  # two bars over a weekend are still daily bars
        if not few and not _same_size(size, shared):
            if _thin(steps, size, shared):
                continue
            raise DataError(
                f"{rows.source}: mixed bar sizes: column timestamp steps by {duration_text(size)} for "
                f"{rows.symbol(where[0])}, but by {duration_text(shared)} for "
                f"{rows.symbol(longest[0])}; keep one bar size in a file, or select symbols of one"
            )
        wrong = wrong_steps(steps, size)
        if wrong.any() and size < LONG_BAR:
            clock = pd.DatetimeIndex(rows.time[where], tz="UTC").tz_convert(zone)
            wrong = wrong_steps(steps, size, np.diff(to_nanoseconds(without_zone(clock))))
        if (first := first_row(wrong)) is not None:
            step = int(steps[first])
            rows.refuse(
                int(where[first + 1]),
                f"mixed bar sizes: column timestamp is {duration_text(step)} after the bar before, but "
                f"most bars of the symbol are {duration_text(size)} apart; keep one bar size in a file"
                if bar is None
                else f"column timestamp is {duration_text(step)} after the bar before, but bar ="
                f' "{write_duration(bar)}"; correct it, or leave it out',
            )


def _same_size(size: int, other: int) -> bool:
    if min(size, other) < LONG_BAR:
        return size == other
    return CALENDAR_SLACK <= size / other <= 1 / CALENDAR_SLACK


def _thin(steps: IntArray, size: int, shared: int) -> bool:
    """Whether these are bars of the shared size of which most are left out, at no regular step."""
    irregular = 2 * int((steps == size).sum()) < len(steps)
    return irregular and not (steps % shared).any() and not wrong_steps(steps, shared).any()
