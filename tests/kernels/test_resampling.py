"""Longer bars: by hand, next to a plain loop, and cut anywhere."""

from __future__ import annotations

import numpy as np
import pytest

from kernels.arrays import FloatArray, IntArray
from kernels.resampling import N_FIELDS, N_STATE, resample

BARS = np.array(
    [
        [10.0, 11.0, 12.0, 13.0, 14.0, 15.0],
        [10.5, 11.5, 12.5, 13.5, 14.5, 15.5],
        [9.5, 10.5, 11.5, 12.5, 13.5, 14.5],
        [10.2, 11.2, 12.2, 13.2, 14.2, 15.2],
        [100.0, 200.0, 300.0, 400.0, 500.0, 600.0],
    ]
)


def resampled(
    bars: FloatArray, periods: list[int], inside: list[int], reaches: list[int], cut: int = 0
) -> tuple[FloatArray, IntArray]:
    """The longer bars, and how many have closed; in two parts if there is a cut."""
    state, rows = np.zeros(N_STATE), np.empty((2, N_FIELDS))
    found: list[FloatArray] = []
    closed: list[int] = []
    for start, stop in ((0, cut), (cut, len(periods))):
        longer, counts = np.empty((N_FIELDS, stop - start)), np.zeros(stop - start, np.int64)
        within, ends = (np.array(one[start:stop], dtype=np.uint8) for one in (inside, reaches))
        numbers = np.array(periods[start:stop], dtype=np.int64)
        own = np.ascontiguousarray(bars[:, start:stop])
        resample(own, numbers, within, ends, state, rows, longer, counts)
        closed += [len(found) + int(count) for count in counts]
        found += list(longer[:, : counts[-1] if len(counts) else 0].T)
    return np.array(found).reshape(-1, N_FIELDS), np.array(closed)


@pytest.mark.parametrize("cut", range(7))
def test_by_hand(cut: int) -> None:
    longer, closed = resampled(BARS, [0, 0, 0, 1, 1, 1], [1] * 6, [0, 0, 1, 0, 0, 1], cut)
    assert closed.tolist() == [0, 0, 1, 1, 1, 2]
    assert longer.tolist() == [
        [10.0, 12.5, 9.5, 12.2, 600.0],
        [13.0, 15.5, 12.5, 15.2, 1500.0],
    ]


@pytest.mark.parametrize("cut", range(7))
def test_a_missing_last_bar_closes_with_the_next_one(cut: int) -> None:
    """Also two at once: the bar after the gap is the whole of its own period."""
    longer, closed = resampled(BARS, [0, 0, 4, 5, 5, 5], [1] * 6, [0, 0, 1, 0, 1, 0], cut)
    assert closed.tolist() == [0, 0, 2, 2, 3, 3]
    assert longer[0].tolist() == [10.0, 11.5, 9.5, 11.2, 300.0]
    assert longer[1].tolist() == [12.0, 12.5, 11.5, 12.2, 300.0]
    # A bar of a period that has closed counts nowhere.
    assert longer[2].tolist() == [13.0, 14.5, 12.5, 14.2, 900.0]


def test_bars_outside_the_session_belong_to_no_longer_bar() -> None:
    longer, closed = resampled(BARS, [0, 0, 0, 1, 1, 1], [0, 1, 1, 0, 1, 1], [0, 0, 0, 0, 0, 1])
    assert closed.tolist() == [0, 0, 0, 1, 1, 2]
    assert longer[:, 0].tolist() == [11.0, 14.0]
