"""Stops, by hand; see ``tests/support/by_hand.py``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf

import pytest

from tests.reference.simulation import ParameterSet, Rules
from tests.support.by_hand import ALL_IN, FREE, cash_of, lots_of, scenario
from tests.support.random_lanes import Path

# Stops. All-in at 100 with 1000: 10 lots from the open of bar 1, entry 100.

STOP = replace(ALL_IN, stop_loss=0.05, rebalance_band=0.3)


def stopped(
    opens: Sequence[float],
    highs: Sequence[float],
    lows: Sequence[float],
    closes: Sequence[float],
    signals: Sequence[float] | None = None,
    chosen: ParameterSet = STOP,
    side: int = 1,
    rules: Rules = FREE,
) -> Path:
    return scenario(
        [[side] * len(opens) if signals is None else signals],
        [closes],
        [opens],
        [highs],
        [lows],
        chosen=chosen,
        options="stops" if side > 0 else "all",
        rules=rules,
    )


@pytest.mark.parametrize(
    ("bar", "take_profit", "cash"),
    [
        ((99, 101, 94, 96), inf, 950),  # through the level of 95 within the bar
        ((90, 97, 88, 96), inf, 900),  # a gap: filled at the open
        ((99, 120, 96, 119), inf, 0),  # not touched
        ((99, 111, 96, 109), 0.1, 1100),  # the goal of 110
        ((115, 120, 113, 114), 0.1, 1150),  # a gap through the goal
        ((99, 111, 94, 109), 0.1, 950),  # both in the bar: the stop
        ((99, 101, 95, 96), inf, 950),  # touched exactly
    ],
    ids=["stop", "gap", "untouched", "goal", "gap-goal", "both", "touched"],
)
def test_stops_of_a_long_position(bar: tuple[float, ...], take_profit: float, cash: float) -> None:
    open_, high, low, close = bar
    path = stopped(
        [100, 100, open_],
        [100, 101, high],
        [100, 99, low],
        [100, 100, close],
        chosen=replace(STOP, take_profit=take_profit),
    )
    assert lots_of(path)[:2] == [0, 10]
    assert lots_of(path)[2] == (10 if cash == 0 else 0)
    assert cash_of(path)[2] == pytest.approx(cash, abs=1e-9)


@pytest.mark.parametrize(
    ("bar", "take_profit", "cash"),
    [
        ((101, 106, 99, 104), inf, 950),
        ((112, 113, 104, 104), inf, 880),
        ((101, 104, 70, 71), inf, 2000),
        ((101, 104, 89, 91), 0.1, 1100),
        ((85, 87, 80, 86), 0.1, 1150),
        ((101, 106, 89, 91), 0.1, 950),
        ((101, 105, 99, 104), inf, 950),
    ],
    ids=["stop", "gap", "untouched", "goal", "gap-goal", "both", "touched"],
)
def test_stops_of_a_short_position(bar: tuple[float, ...], take_profit: float, cash: float) -> None:
    open_, high, low, close = bar
    path = stopped(
        [100, 100, open_],
        [100, 101, high],
        [100, 99, low],
        [100, 100, close],
        chosen=replace(STOP, take_profit=take_profit),
        side=-1,
    )
    assert lots_of(path)[:2] == [0, -10]
    assert lots_of(path)[2] == (-10 if cash == 2000 else 0)
    assert cash_of(path)[2] == pytest.approx(cash, abs=1e-9)


def test_a_trailing_stop_follows_the_best_price_of_the_bars_before() -> None:
    chosen = replace(ALL_IN, trailing_stop=0.05, rebalance_band=0.3)
    # Bar 1 rises to 120. In bar 2 the level is 114, though its own high of 140 would make it 133:
    # the low of 115 may have come before. In bar 3 it is 133, and the low of 132 hits it.
    path = stopped(
        [100, 100, 118, 139],
        [100, 120, 140, 139],
        [100, 99, 115, 132],
        [100, 119, 139, 135],
        chosen=chosen,
    )
    assert lots_of(path) == [0, 10, 10, 0]
    assert cash_of(path)[3] == pytest.approx(1330, abs=1e-9)
    # The mirror image: lowest 80, so 84 in bar 2; lowest 60, so 63 in bar 3.
    path = stopped(
        [100, 100, 82, 61],
        [100, 101, 83, 64],
        [100, 80, 60, 61],
        [100, 81, 61, 62],
        chosen=replace(chosen, max_exposure=3.0, max_weight=3.0),
        rules=replace(FREE, leverage=3.0),
        signals=[-1, 0, 0, 0],
        side=-1,
    )
    lots = lots_of(path)
    assert lots[1] == lots[2] == -30
    assert lots[3] == 0
    # 30 lots sold at 100 and bought back at 63.
    assert cash_of(path)[3] == pytest.approx(1000 + 30 * 37, abs=1e-9)


def test_a_stop_watches_the_bar_of_the_fill() -> None:
    path = stopped([100, 100], [100, 101], [100, 94], [100, 96])
    assert lots_of(path) == [0, 0]
    assert cash_of(path)[1] == pytest.approx(950, abs=1e-9)


@pytest.mark.parametrize(("low", "kept"), [(94.5, 9), (94, 0)], ids=["above", "touched"])
def test_adding_averages_the_entry(low: float, kept: int) -> None:
    # 0.5005 of 1000 is 5 lots at 100. In a bull market it is twice that, and the 500 of cash left
    # pay 4 more at 110. The entry is (5 * 100 + 4 * 110) / 9 = 940 / 9; the stop is 0.9 of it, 94.
    path = scenario(
        [[1, 1, 0, 0]],
        closes=[[100, 100, 110, 96]],
        opens=[[100, 100, 110, 110]],
        highs=[[100, 101, 111, 110]],
        lows=[[100, 99, 109, low]],
        chosen=replace(ALL_IN, stop_loss=0.1, size=0.1001, bull_multiplier=2.0),
        options="stops",
        regimes=[0, 1, 0, 0],
    )
    assert lots_of(path) == [0, 5, 9, kept]
    if kept == 0:
        assert cash_of(path)[3] == pytest.approx(60 + 9 * 94, abs=1e-9)


@pytest.mark.parametrize(
    ("signals", "lots"),
    [
        ([1, 1, 1, 1, 1, 1], [0, 10, 0, 0, 0, 0]),
        ([1, 1, 1, 0, 1, 1], [0, 10, 0, 0, 0, 0]),  # between the thresholds nothing is new
        ([1, 1, 1, -1, 1, 1], [0, 10, 0, 0, 0, 9]),  # the opposite signal lifts the bar
        ([1, 1, -1, 1, 1, 1], [0, 10, 0, 0, 9, 9]),  # at once, where it comes at the stop's bar
    ],
    ids=["same", "hold", "left", "left-at-once"],
)
def test_a_stopped_position_waits_until_its_signal_leaves(
    signals: list[float], lots: list[float]
) -> None:
    # 10 lots stopped at 95 leave 950, which buys 9 lots at 100.
    path = stopped(
        [100, 100, 99, 100, 100, 100],
        [100, 100, 100, 100, 100, 100],
        [100, 100, 94, 100, 100, 100],
        [100, 100, 100, 100, 100, 100],
        signals=signals,
    )
    assert lots_of(path) == lots


def test_a_stop_does_not_fill_where_a_symbol_does_not_trade() -> None:
    path = scenario(
        [[1, 0, 0, 0]],
        [[100, 100, 90, 89]],
        chosen=replace(ALL_IN, stop_loss=0.05),
        volumes=[[1.0, 1.0, 0.0, 1.0]],
        options="stops",
    )
    assert lots_of(path) == [0, 10, 10, 0]
    assert cash_of(path)[-1] == 890
