"""Entries that wait at a price and exits by time, by hand and by a slow reference."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.codes import FLAT, HOLD, LIMIT_ENTRY, LONG, SHORT, STOP_ENTRY
from kernels.execution import stop_distance
from kernels.orders import (
    entry_level,
    entry_price,
    exit_direction,
    exit_marks,
    kept_level,
    waiting_lots,
)


@pytest.mark.parametrize(
    ("side", "entry", "expected"),
    [
        # 2% of 50 and half a range of 4: 3 away.
        (1.0, LIMIT_ENTRY, 47.0),
        (-1.0, LIMIT_ENTRY, 53.0),
        (1.0, STOP_ENTRY, 53.0),
        (-1.0, STOP_ENTRY, 47.0),
    ],
)
def test_levels_by_hand(side: float, entry: int, expected: float) -> None:
    assert entry_level(side, 50.0, 4.0, 0.02, 0.5, entry) == expected


@pytest.mark.parametrize(
    ("order", "level", "lots", "bar", "entry", "expected"),
    [
        (5.0, 47.0, 0.0, (50.0, 51.0, 46.0), LIMIT_ENTRY, 47.0),
        (
            5.0,
            47.0,
            0.0,
            (50.0, 51.0, 47.0),
            LIMIT_ENTRY,
            0.0,
        ),  # touches, and does not trade through
        (5.0, 47.0, 0.0, (45.0, 51.0, 44.0), LIMIT_ENTRY, 45.0),  # opens beyond: the better price
        (5.0, 47.0, 3.0, (50.0, 51.0, 46.0), LIMIT_ENTRY, 47.0),  # adds
        (5.0, 47.0, -3.0, (50.0, 51.0, 46.0), LIMIT_ENTRY, 0.0),  # still on the other side
        (-5.0, 53.0, 0.0, (50.0, 54.0, 49.0), LIMIT_ENTRY, 53.0),
        (-5.0, 53.0, 0.0, (50.0, 53.0, 49.0), LIMIT_ENTRY, 0.0),
        (-5.0, 53.0, 0.0, (55.0, 56.0, 49.0), LIMIT_ENTRY, 55.0),
        (5.0, 53.0, 0.0, (50.0, 53.0, 49.0), STOP_ENTRY, 53.0),  # a touch suffices
        (5.0, 53.0, 0.0, (50.0, 52.9, 49.0), STOP_ENTRY, 0.0),
        (5.0, 53.0, 0.0, (54.0, 55.0, 49.0), STOP_ENTRY, 54.0),  # opens beyond: the worse price
        (-5.0, 47.0, 0.0, (50.0, 51.0, 47.0), STOP_ENTRY, 47.0),
        (-5.0, 47.0, 0.0, (46.0, 51.0, 45.0), STOP_ENTRY, 46.0),
        (0.0, 47.0, 0.0, (50.0, 60.0, 40.0), LIMIT_ENTRY, 0.0),
    ],
)
def test_entry_prices_by_hand(
    order: float,
    level: float,
    lots: float,
    bar: tuple[float, float, float],
    entry: int,
    expected: float,
) -> None:
    assert entry_price(order, level, lots, *bar, entry) == expected


prices = st.integers(40, 60).map(float)


@given(
    side=st.sampled_from([1.0, -1.0]),
    level=prices,
    path=st.lists(prices, min_size=1, max_size=6),
    entry=st.sampled_from([LIMIT_ENTRY, STOP_ENTRY]),
)
def test_an_entry_fills_where_a_walk_through_the_prices_would(
    side: float, level: float, path: list[float], entry: int
) -> None:
    """The bar is the range of a path; its price is that of the first point that fills."""
    actual = entry_price(side, level, 0.0, path[0], max(path), min(path), entry)

    def beyond(price: float) -> bool:
        if entry == LIMIT_ENTRY:
            return price < level if side > 0.0 else price > level
        return price >= level if side > 0.0 else price <= level

    expected = 0.0
    if any(map(beyond, path)):
        # Between two points the market passes the level itself.
        expected = path[0] if beyond(path[0]) else level
    assert actual == expected


@pytest.mark.parametrize(
    ("addition", "left", "expected"),
    [
        (4.0, 0.0, (90.0, 3.0)),  # nothing waited
        (4.0, 3.0, (80.0, 2.0)),  # the price stays
        (4.0, 2.0, (80.0, 1.0)),
        (4.0, 1.0, (90.0, 3.0)),  # it was good for this bar alone
        (4.0, -3.0, (90.0, 3.0)),  # a sale waited
        (-4.0, -3.0, (80.0, -2.0)),
        (-4.0, 0.0, (90.0, -3.0)),
    ],
)
def test_how_long_a_price_is_good(
    addition: float, left: float, expected: tuple[float, float]
) -> None:
    assert kept_level(addition, 80.0, left, 90.0, 3.0) == expected
    assert kept_level(0.0, 80.0, left, 90.0, 3.0)[1] == 0.0


def test_what_waits_on_hold() -> None:
    assert waiting_lots(4.0, 2.0, 0.0) == 4.0
    assert waiting_lots(4.0, 2.0, 3.0) == 4.0
    assert waiting_lots(4.0, 1.0, 0.0) == 0.0  # its last bar is over
    assert waiting_lots(4.0, 0.0, 0.0) == 0.0
    assert waiting_lots(4.0, 2.0, -1.0) == 0.0  # the position is on the other side
    assert waiting_lots(-4.0, -2.0, -1.0) == -4.0


def run_of(
    directions: list[int], lots: list[float], time_exit: float, cooldown: float, stop_at: int = -1
) -> list[float]:
    """The directions acted on at one close after the other; a stop closes a long before one of them."""
    barred = cooling = held = 0.0
    acted = []
    for t, (direction, position) in enumerate(zip(directions, lots, strict=True)):
        barred, cooling = exit_marks(t == stop_at, 1.0, barred, cooling, cooldown)
        now, barred, cooling, held = exit_direction(
            float(direction), position, barred, cooling, held, time_exit, cooldown
        )
        acted.append(now)
    return acted


def test_a_time_exit_counts_closes_with_the_position() -> None:
    longs = [LONG] * 5
    assert run_of(longs, [0, 1, 1, 1, 1], 3.0, 0.0) == [1, 1, 1, 0, 0]
    # A break begins the count anew; HOLD is closed too, and does not end the bar on the direction.
    assert run_of(longs, [1, 1, 0, 1, 1], 3.0, 0.0) == [1, 1, 1, 1, 1]
    assert run_of([HOLD] * 3 + [LONG, FLAT, LONG], [1, 1, 0, 0, 0, 0], 2.0, 0.0) == [
        2,
        0,
        2,
        0,
        0,
        1,
    ]
    # With a cooldown of 2 nothing is entered at this close and the next.
    assert run_of(longs, [1, 1, 0, 0, 0], 2.0, 2.0) == [1, 0, 0, 1, 1]


def test_a_cooldown_keeps_both_directions_out() -> None:
    both = [LONG, LONG, SHORT, HOLD, LONG]
    assert run_of(both, [1, 0, 0, 0, 0], inf, 3.0, stop_at=1) == [1, 0, 0, 0, 1]
    assert run_of(both, [1, 0, 0, 0, 0], inf, 0.0, stop_at=1) == [1, 0, -1, 2, 1]


@pytest.mark.parametrize(
    ("fraction", "atr", "multiple", "expected"),
    [
        (0.05, 2.0, 2.0, 4.0),
        (0.03, 2.0, 2.0, 3.0),
        (inf, 2.0, 1.5, 3.0),
        (0.05, 2.0, 0.0, 5.0),
        (0.05, 0.0, 2.0, 5.0),  # a range of 0 is no distance
        (inf, 0.0, 2.0, inf),
        (inf, 2.0, 0.0, inf),
    ],
)
def test_the_smaller_distance_counts(
    fraction: float, atr: float, multiple: float, expected: float
) -> None:
    assert stop_distance(100.0, fraction, atr, multiple) == expected
