"""Times and durations: units, text, the most common step."""

from __future__ import annotations

import re

import numpy as np

from optimizer.text import quoted
from optimizer.types import IntArray, TimeArray

SECOND = 1_000_000_000
HOUR = 3600 * SECOND
DAY = 24 * HOUR
WEEK = 7 * DAY
LONG_BAR = 20 * HOUR
"""Bars of this size or longer follow the calendar: months, holidays, changes of the clock."""


def long_gap(bar: int) -> int:
    """The longest step that can be holidays, nanoseconds; a longer one is a hole in the bars.

    Args:
        bar: duration of a bar, nanoseconds.
    """
    return max(2 * WEEK, 3 * bar)


_UNITS = {"s": SECOND, "min": 60 * SECOND, "h": HOUR, "d": DAY, "w": WEEK}


def read_duration(text: str) -> int:
    """The nanoseconds of a duration such as ``5min``, ``1h``, ``1d`` or ``2w``.

    Args:
        text: a whole number and a unit: s, min, h, d or w, in either case.

    Raises:
        ValueError: it is something else, or not from a second to 10 years.
    """
    match = re.fullmatch(r"(\d{1,9}) ?([a-z]+)", text.strip().lower())
    unit = _UNITS.get(match[2]) if match else None
    size = int(match[1]) * unit if match and unit else 0
    if not SECOND <= size <= 3653 * DAY:
        raise ValueError(
            f'got {quoted(text)}; expected a duration such as "5min", "1h", "1d" or "2w"'
        )
    return size


def write_duration(size: int) -> str:
    """A duration as ``read_duration`` reads it, in the largest unit that is exact.

    Args:
        size: whole seconds, in nanoseconds.
    """
    unit = next(unit for unit in reversed(_UNITS) if size % _UNITS[unit] == 0)
    return f"{size // _UNITS[unit]}{unit}"


def time_text(time: np.datetime64) -> str:
    """A time as text, without zeros at the end.

    Args:
        time: UTC.
    """
    text = str(time.astype("datetime64[ns]")).replace("T", " ")
    for zeros in (".000000000", ":00", " 00:00"):
        text = text.removesuffix(zeros)
    return text


def to_nanoseconds(times: TimeArray) -> IntArray:
    """Times as integers: nanoseconds since 1970, UTC.

    Args:
        times: shape (n,), UTC.

    Returns:
        Integers of the shape of ``times``.
    """
    return times.astype("datetime64[ns]").view(np.int64)


def duration_text(nanoseconds: int) -> str:
    """A duration as text, in its largest unit.

    Args:
        nanoseconds: 1 or more.
    """
    names = {DAY: "day", HOUR: "hour", 60 * SECOND: "minute", SECOND: "second", 1: "nanosecond"}
    size = next(size for size in names if nanoseconds >= size)
    count = nanoseconds / size
    return f"{count:g} {names[size]}{'' if count == 1 else 's'}"


def most_common(steps: IntArray) -> int:
    """The most common step; the smallest if several are equally common.

    Args:
        steps: shape (n,), at least one.
    """
    sizes, counts = np.unique(steps, return_counts=True)
    return int(sizes[np.argmax(counts)])
