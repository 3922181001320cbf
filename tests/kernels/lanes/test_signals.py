"""What a block of lanes says at once is what each of its lanes says alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.codes import AVERAGE_CROSS, BREAKOUT, MEAN_REVERSION, MOMENTUM, ROTATION
from kernels.lanes.signals import common_direction, one_signal

CODES = {"momentum": MOMENTUM, "mean reversion": MEAN_REVERSION, "averages": AVERAGE_CROSS,
         "breakout": BREAKOUT, "rotation": ROTATION}  # fmt: skip

# Halves meet each other, and so the bounds of the rules, far more often than other numbers.
number = st.one_of(st.integers(-6, 6).map(lambda n: n / 2), st.floats(-4.0, 4.0))
positive = st.one_of(st.integers(0, 6).map(lambda n: n / 2), st.floats(0.0, 4.0))
price = st.one_of(st.integers(1, 8).map(lambda n: n / 2), st.floats(0.1, 4.0))


def one_direction(
    code: int, close: float, x0: float, x1: float, vol: float, first: float, second: float
) -> float:
    direction, _ = one_signal(
        code, close, x0, x1, vol, 1.0 / vol if vol > 0.0 else 0.0, first, second, 0.05
    )
    return float(direction)


@pytest.mark.parametrize("strategy", CODES)
@settings(max_examples=400)
@given(
    st.tuples(price, number, number),
    positive,
    st.lists(st.tuples(positive, positive), min_size=1, max_size=6),
)
def test_a_direction_in_common_is_that_of_every_lane(
    strategy: str,
    seen: tuple[float, float, float],
    volatility: float,
    lanes: list[tuple[float, float]],
) -> None:
    code, (close, x0, x1) = CODES[strategy], seen
    first, second = np.array(lanes).T
    bounds = first.min(), first.max(), second.min(), second.max(), False
    said = common_direction(code, close, x0, x1, bounds)
    alone = {one_direction(code, *seen, volatility, *lane) for lane in lanes}
    if not np.isnan(said):
        assert alone == {said}
    if len(lanes) == 1:
        assert not np.isnan(said)


@pytest.mark.parametrize("strategy", CODES)
def test_lanes_that_differ_have_nothing_in_common(strategy: str) -> None:
    """Not for a rotation, whose parameters are in its features."""
    code, found = CODES[strategy], set()
    for x0 in np.linspace(-3.0, 3.0, 13):
        bounds = 0.0, 2.0, 0.0, 2.0, False
        said = common_direction(code, 1.0, x0, x0, bounds)
        alone = {
            one_direction(code, 1.0, x0, x0, 1.0, f, s) for f in (0.0, 2.0) for s in (0.0, 2.0)
        }
        assert np.isnan(said) == (len(alone) > 1)
        found.add(bool(np.isnan(said)))
    assert (True in found) == (strategy != "rotation")
