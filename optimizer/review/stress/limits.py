"""Where an edge ends: by what multiple of its costs, and at what size of its account."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

MOST_COSTS = 1000.0
"""Largest multiple of the costs that is tried."""

PRECISION = 1e-4
"""Relative error of a break-even multiple."""

MOST_POWERS = 9
"""Largest account that is tried, as a power of ten of the study's."""

HALVINGS = 10
"""Halvings of a power of ten in which the largest account lies."""


@dataclass(frozen=True)
class Limit:
    """Where something ends.

    Attributes:
        multiple: how many times what the study has; None where it ends nowhere, or was not there at all.
        note: what that means, one line.
    """

    multiple: float | None
    note: str


def multiple_text(multiple: float) -> str:
    """A multiple with three digits that count.

    >>> multiple_text(7120.97), multiple_text(0.4567)
    ('7,120', '0.457')

    Args:
        multiple: above 0.
    """
    return f"{float(f'{multiple:.3g}'):,.12g}"


def break_even(earns: Callable[[float], bool]) -> Limit:
    """The multiple of all costs at which the mean excess return is 0.

    Args:
        earns: whether the mean excess return is above 0 at a multiple.

    Returns:
        The least multiple found by doubling and halving at which it is not.
    """
    if not earns(0.0):
        return Limit(None, "never: the mean excess return is not above 0 even without costs")
    low, high = 0.0, 1.0
    while earns(high):
        low, high = high, 2.0 * high
        if high > MOST_COSTS:
            return Limit(None, f"never: it is above 0 even at {low:g} times the costs")
    while high - low > PRECISION * high and high > PRECISION:
        middle = (low + high) / 2.0
        low, high = (middle, high) if earns(middle) else (low, middle)
    return Limit(high, f"the mean excess return is 0 at {multiple_text(high)} times the costs")


def largest_account(keeps: Callable[[float], bool]) -> Limit:
    """The largest account that still keeps what it should.

    Args:
        keeps: whether an account of a multiple of the initial cash does; it does at 1.

    Returns:
        The multiple, to within 1%.
    """
    for power in range(1, MOST_POWERS + 1):
        if not keeps(10.0**power):
            break
    else:
        return Limit(None, f"more than {10.0**MOST_POWERS:,.0f} times the initial cash")
    low, high = power - 1.0, float(power)
    for _ in range(HALVINGS):
        middle = (low + high) / 2.0
        low, high = (middle, high) if keeps(10.0**middle) else (low, middle)
    multiple = math.pow(10.0, low)
    return Limit(
        multiple,
        f"half of the Sharpe ratio is left at {multiple_text(multiple)} times the initial cash",
    )
