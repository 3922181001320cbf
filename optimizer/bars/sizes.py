"""The size of bars, and the steps in time that are none of one size."""

from __future__ import annotations

import numpy as np

from optimizer.bars.times import HOUR, LONG_BAR, SECOND, most_common, to_nanoseconds
from optimizer.types import BoolArray, IntArray, TimeArray

CALENDAR_SLACK = 4 / 7
"""A long bar may be as short as this: a week that begins on a Thursday, a February."""
_THINNEST = 240
"""Bars apart at the median, at most, for the largest common step to be the size of a bar."""


def bar_size(timestamps: TimeArray) -> int:
    """The duration of a bar, nanoseconds.

    It is the most common step. Where bars are left out because nothing traded, that is chance, and
    it is the largest step of which all steps are multiples.

    Args:
        timestamps: shape (n_bars,), strictly increasing, UTC, at least 2.
    """
    steps = np.diff(to_nanoseconds(timestamps))
    most = most_common(steps)
    if not wrong_steps(steps, most).any():
        return most
    common = int(np.gcd.reduce(steps))
    irregular = 2 * int((steps == most).sum()) < len(steps)
    thin = common >= SECOND and np.median(steps) <= _THINNEST * common
    both_long = (common >= LONG_BAR) == (most >= LONG_BAR)
    by_chance = irregular and thin and both_long and not wrong_steps(steps, common).any()
    return common if by_chance else most


def wrong_steps(steps: IntArray, size: int, clock: IntArray | None = None) -> BoolArray:
    """Steps that bars of one size do not take.

    A shorter one is wrong; one of a day or more may shrink with the calendar, one within a day where
    the clock changes, and the first or the last bar of each session may be short. Longer steps are
    nights, weekends, holidays, halts and missing bars, but not where many in a row are alike or
    belong to bars far larger.

    Args:
        steps: the steps from bar to bar of a symbol, nanoseconds, shape (n_steps,).
        size: the duration of a bar, nanoseconds.
        clock: the same steps on the clock of the market.

    Returns:
        Marks of shape (n_steps,).
    """
    short = steps < (size * CALENDAR_SLACK if size >= LONG_BAR else size)
    if size < LONG_BAR and short.any():
        if clock is not None:
            short &= clock < size
        short &= ~_at_session_edges(steps, size, short)
    return short | _coarser(steps, size)


def _at_session_edges(steps: IntArray, size: int, short: BoolArray) -> BoolArray:
    """Short steps after the first or before the last bar of a session: all alike, in most sessions."""
    closed = steps >= max(3 * size, 3 * HOUR)
    first = np.concatenate(([True], closed[:-1]))
    last = np.concatenate((closed[1:], [True]))
    edges = short & (first | last)
    alike = edges.any() and len(np.unique(steps[edges])) == 1
    in_most = 2 * int(edges.sum()) >= int(closed.sum()) + 1
    return edges if alike and in_most else np.zeros_like(edges)


def _coarser(steps: IntArray, size: int) -> BoolArray:
    """Steps that belong to bars of a larger size.

    Twenty equal steps in a row that are longer than the bar, or ten in a row of 12 bars or more (as
    days among hours, or months among days). Bars within a day that are left out at random also lie so
    far apart, but then these steps are no multiples of one another.
    """
    longer = steps > size
    alike = np.concatenate(([False], longer[1:] & (steps[1:] == steps[:-1])))
    far = steps >= 12 * size
    wrong = np.zeros_like(far)
    for start, stop in _runs(alike, 19):
        wrong[start:stop] = True
    for start, stop in _runs(far, 10):
        if size >= LONG_BAR:
            wrong[start:stop] = True
            continue
        windows = np.lib.stride_tricks.sliding_window_view(steps[start:stop], 10)
        common = np.gcd.reduce(windows, axis=1) >= 12 * size
        wrong[start : stop - 9] |= common
        wrong[start + 9 : stop] |= common
    return wrong


def _runs(marked: BoolArray, length: int) -> list[tuple[int, int]]:
    """Runs of at least ``length`` marked elements, from the first to past the last."""
    edges = np.diff(np.concatenate(([0], marked.astype(np.int8), [0])))
    starts, stops = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    return [
        (int(start), int(stop))
        for start, stop in zip(starts, stops, strict=True)
        if stop - start >= length
    ]
