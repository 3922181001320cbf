"""Bars made of those that a session has taken and those that came later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from optimizer.trading.history import FIELDS
from optimizer.trading.journal import TakenBar
from optimizer.types import Bars, FloatArray


def same_bars(bars: Bars, newer: Bars, n_bars: int) -> bool:
    """Whether the first bars of two are the same.

    Args:
        bars, newer: bars of the same symbols.
        n_bars: how many of them.
    """
    if not np.array_equal(bars.timestamps, newer.timestamps[:n_bars]):
        return False
    return all(np.array_equal(getattr(bars, f), getattr(newer, f)[:n_bars]) for f in FIELDS)


def joined(bars: Bars, newer: Bars, place: int, stop: int) -> Bars:
    """The bars that others lengthen.

    Args:
        bars: the first ones.
        newer: others, of which those from ``place`` to ``stop - 1`` follow.
        place, stop: indices of bars of ``newer``.
    """

    def both(name: str) -> FloatArray:
        return np.concatenate((getattr(bars, name), getattr(newer, name)[place:stop]))

    present = payments = None
    if bars.present is not None or newer.present is not None:
        parts = [
            np.ones(one.open.shape, np.uint8) if one.present is None else one.present
            for one in (bars, newer)
        ]
        present = np.concatenate((parts[0], parts[1][place:stop]))
    if bars.payments is not None and newer.payments is not None:
        payments = np.concatenate((bars.payments, newer.payments[place:stop]))
    times = np.concatenate((bars.timestamps, newer.timestamps[place:stop]))
    values: dict[str, Any] = {name: both(name) for name in FIELDS}
    return replace(bars, timestamps=times, present=present, payments=payments, **values)


def with_taken(before: Bars, taken: Sequence[TakenBar]) -> Bars:
    """The bars before a session, and those that it has taken.

    Args:
        before: the bars before the first one that it took.
        taken: those that it took, as they were then.
    """
    if not taken:
        return before
    rows = [one.values for one in taken]
    shape = len(rows), before.n_symbols
    arrays: dict[str, Any] = {
        name: np.array([row[name] for row in rows], np.float64) for name in FIELDS
    }
    present = payments = None
    if any(row["present"] is not None for row in rows):
        ones = [1] * before.n_symbols
        present = np.array([row["present"] or ones for row in rows], np.uint8)
    if before.payments is not None:
        payments = np.array([row["payments"] for row in rows], np.float64).reshape(shape)
    times = np.array([row["time"] for row in rows], "datetime64[ns]")
    later = replace(before, timestamps=times, **arrays, present=present, payments=payments)
    return joined(before, later, 0, len(rows))
