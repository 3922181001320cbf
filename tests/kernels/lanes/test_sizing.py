"""Sizes and orders at a close, by hand; see ``tests/support/by_hand.py``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from tests.reference.simulation import Instrument, Sizing
from tests.support.by_hand import ALL_IN, FREE, lots_of, orders_of, scenario
from tests.support.lanes import Lane
from tests.support.random_lanes import OPTIONS, SIZINGS, path_of, sweep_of


@pytest.mark.parametrize(
    ("regime", "lots"), [(0, 25), (1, 30), (-1, 15)], ids=["neutral", "bull", "bear"]
)
@pytest.mark.parametrize(
    ("sizing", "size"),
    [
        ("kelly", 0.0501),
        ("volatility_target", 0.00501),
        ("weight", 0.2505),
        ("equal_weight", 0.2505),
        ("risk_per_trade", 0.01002),
    ],
)
def test_a_size_by_hand(sizing: Sizing, size: float, regime: int, lots: int) -> None:
    # Kelly size 5 * 0.0501 = 0.2505 of 1000, at 10 a lot: 25.05 lots; 30.06 in a bull market (1.2),
    # 15.03 in a bear market (0.6). The other modes: 0.00501 / 0.02, 0.2505 alone or over one
    # symbol, and 0.01002 over a stop of 0.04.
    chosen = replace(ALL_IN, size=size, stop_loss=0.04)
    rules = replace(FREE, sizing=sizing)
    path = scenario([[1]], [[10]], chosen=chosen, rules=rules, regimes=[regime])
    assert orders_of(path, 0) == [lots]
    # More than its cap it never gets.
    chosen = replace(chosen, max_weight=0.1001)
    path = scenario([[1]], [[10]], chosen=chosen, rules=rules, regimes=[regime])
    assert orders_of(path, 0) == [10]


def test_equal_weights_count_the_symbols_that_signal_or_stay() -> None:
    rules = replace(FREE, sizing="equal_weight")
    chosen = replace(ALL_IN, size=1.0)

    def orders(*signals: Sequence[float], bar: int = 0, options: str = "plain") -> list[float]:
        closes = [[10.0] * len(signals[0])] * len(signals)
        path = scenario(signals, closes, chosen=chosen, rules=rules, options=options)
        return orders_of(path, bar)

    assert orders([1], [1]) == [50, 50]
    assert orders([1], [-1]) == [100, 0]
    assert orders([1], [-1], options="short") == [50, -50]
    assert orders([1], [0]) == [100, 0]
    # The first holds its 100 lots between the thresholds: half is for it, and no budget is left.
    assert orders([1, 0], [-1, 1], bar=1) == [0, 0]
    # The first signals again, and gives up half of its position for the second.
    assert orders([1, 1], [-1, 1], bar=1) == [-50, 50]


@pytest.mark.parametrize("sizing", SIZINGS)
def test_a_still_market_gives_no_order_where_the_size_needs_a_volatility(sizing: Sizing) -> None:
    rules = replace(FREE, sizing=sizing)
    chosen = replace(ALL_IN, stop_loss=1.0)
    moving = scenario([[1, 1, 1]], [[10, 10, 10]], chosen=chosen, rules=rules)
    assert lots_of(moving)[1] == 100
    still = replace(moving.sweep.inputs, volatilities=np.zeros((3, 1, 1)))
    path = path_of(sweep_of(still, [[Lane(chosen)]], OPTIONS["plain"], rules), 0)
    bought = 0 if sizing in ("kelly", "volatility_target") else 100
    assert lots_of(path) == [0, bought, bought]
    # What is held stays.
    volatilities = np.full((4, 1, 1), 0.02)
    volatilities[1:] = 0.0
    held = scenario([[1, 1, 1, 1]], [[10, 10, 10, 10]], rules=rules).sweep.inputs
    held = replace(held, volatilities=volatilities)
    path = path_of(sweep_of(held, [[Lane(chosen)]], OPTIONS["plain"], rules), 0)
    assert lots_of(path) == [0, 100, 100, 100]


def test_what_a_reduction_frees_is_spent_at_the_same_close() -> None:
    path = scenario([[1, -1, 0], [0, 1, 1]], [[10, 10, 10], [10, 10, 10]])
    assert orders_of(path, 1) == [-100, 100]
    assert lots_of(path, 1) == [0, 0, 100]


@pytest.mark.parametrize(("first", "options"), [(1, "plain"), (-1, "short")])
def test_additions_share_the_budget(first: int, options: str) -> None:
    # Each wants 80.05 % of 1000, 80 lots at 10: together 1600, of which 1000 are 0.625.
    chosen = replace(ALL_IN, size=0.1601)
    path = scenario([[first], [1]], [[10], [10]], chosen=chosen, options=options)
    assert orders_of(path, 0) == [first * 50, 50]
    # Scaling comes before the smallest order: 51 units are not reached.
    chosen = replace(chosen, min_order_size=51.0)
    path = scenario([[first], [1]], [[10], [10]], chosen=chosen, options=options)
    assert orders_of(path, 0) == [0, 0]


def test_what_is_held_is_sold_for_another_only_where_targets_are_scaled() -> None:
    signals, closes = [[1, 1, 1], [-1, 1, 1]], [[10, 10, 10], [10, 10, 10]]
    assert orders_of(scenario(signals, closes), 1) == [0, 0]
    rules = replace(FREE, allocation="targets")
    path = scenario(signals, closes, rules=rules)
    assert orders_of(path, 1) == [-50, 50]
    assert (lots_of(path), lots_of(path, 1)) == ([0, 100, 50], [0, 0, 50])
    # On hold, the first keeps its 100 lots, and nothing is left for the second.
    path = scenario([[1, 0, 0], [-1, 1, 1]], closes, rules=rules)
    assert orders_of(path, 1) == [0, 0]


def test_places_go_to_the_strongest() -> None:
    closes = [[10.0, 10.0]] * 3
    chosen = replace(ALL_IN, size=0.0501, max_positions=1.0)

    def orders(*signals: Sequence[float], places: float = 1.0, bar: int = 0) -> list[float]:
        given = replace(chosen, max_positions=places)
        return orders_of(scenario(signals, closes[: len(signals)], chosen=given), bar)

    # A signal of 2 has score 3 in place of 2, and wants 37 lots.
    assert orders([1, 1], [2, 2], [1, 1]) == [0, 37, 0]
    assert orders([1, 1], [2, 2], [1, 1], places=3.0) == [25, 37, 25]
    # Two that are equal come in together or not at all.
    assert orders([1, 1], [2, 2], [1, 1], places=2.0) == [0, 37, 0]
    assert orders([1, 1], [1, 1]) == [0, 0]
    # The first keeps its place.
    assert orders([1, 1], [0, 2], bar=1) == [0, 0]
    # It leaves, so that its place is free at this close.
    assert orders([1, -1], [0, 2], bar=1) == [-25, 37]


@pytest.mark.parametrize(
    ("signal", "close", "kept"), [(1, 8, 4), (-1, 12, -6)], ids=["long", "short"]
)
def test_an_order_that_reduces_is_never_refused(signal: int, close: float, kept: int) -> None:
    # 100 lots at 10 take all of the budget and, long, all of the cash. Bar 1 goes against them and
    # leaves 800; 800 are held long, 1200 short, over the budget by 400. The variance is now
    # 0.06 * (0.2 / 1)**2 = 0.0024 long and 0.06 * (0.2 / 1.5)**2 = 0.00106667 short, the exposure
    # being 1.5. In a bear market the size is a quarter: 0.25 * 0.201 * 0.002 / variance = 0.041875
    # of 800 at 8, 4.19 lots, and 0.094219 of 800 at 12, 6.28 lots. In a bull market it is 0.
    closes, opens = [[10, close, close, close]], [[10, 10, close, close]]
    chosen = replace(ALL_IN, size=0.201, bear_multiplier=0.25, bull_multiplier=0.0)
    path = scenario(
        [[signal] * 4], closes, opens, chosen=chosen, options="short", regimes=[0, -1, 1, 0]
    )
    assert lots_of(path) == [0, signal * 100, kept, 0]
    # The opposite signal closes all of it, and opens what budget and cash then allow: 800.
    path = scenario([[signal, -signal, 0, 0]], closes, opens, options="short")
    assert lots_of(path)[1:3] == [signal * 100, -signal * (800 // close)]


def test_an_exit_is_never_too_small() -> None:
    chosen = replace(ALL_IN, min_order_size=60.0, rebalance_band=0.5)
    # 50 lots at 20 are below the smallest order.
    assert lots_of(scenario([[1, 1]], [[20, 20]], chosen=chosen)) == [0, 0]
    # 100 lots at 10 are not. In a bear market 50 are sold, and at the end the other 50, although both
    # orders are smaller than the smallest opening order.
    path = scenario(
        [[1, 1, 1, -1, -1]],
        [[10, 10, 10, 10, 10]],
        chosen=replace(chosen, size=0.201, bear_multiplier=0.5),
        regimes=[0, -1, -1, 0, 0],
    )
    assert lots_of(path) == [0, 100, 50, 50, 0]


def test_the_smallest_order_is_in_units() -> None:
    # A lot of half a unit is worth 10 * 0.5 * 4 = 20: 50 lots, 25 units.
    rules = replace(FREE, instruments=(Instrument(lot_size=0.5, multiplier=4.0),))
    for smallest, lots in ((25.0, 50), (25.1, 0)):
        chosen = replace(ALL_IN, min_order_size=smallest)
        assert orders_of(scenario([[1]], [[10]], chosen=chosen, rules=rules), 0) == [lots]


def test_a_change_inside_the_band_is_not_placed() -> None:
    # 100 lots at 10; in a bear market 0.9 of them, 90: a change of 10, and 10 / 90 = 0.111.
    chosen = replace(ALL_IN, size=0.201, bear_multiplier=0.9)
    for band, lots in ((0.11, 90), (0.112, 100)):
        path = scenario(
            [[1, 1, 1]],
            [[10, 10, 10]],
            chosen=replace(chosen, rebalance_band=band),
            regimes=[0, -1, -1],
        )
        assert lots_of(path) == [0, 100, lots]


def test_leverage_alone_allows_no_short_position() -> None:
    rules = replace(FREE, leverage=2.0, maintenance=0.25)
    path = scenario([[-1, -1], [1, 1]], [[10, 10], [10, 10]], rules=rules)
    assert (lots_of(path), lots_of(path, 1)) == ([0, 0], [0, 100])


def test_a_correlated_symbol_gets_less() -> None:
    # Symbol 0 is held when symbol 1 shows its signal: rho 0.8, and a penalty of 0.5 cuts its 25.05
    # lots by 0.4 to 15.03. Symbol 0 alone is not cut.
    chosen = replace(ALL_IN, size=0.0501, correlation_penalty=0.5)
    closes = [[10, 10], [10, 10]]
    path = scenario([[1, 0], [0, 1]], closes, chosen=chosen, options="correlated", correlation=0.8)
    assert path.orders[0, 0, 0, 0] == 25
    assert path.orders[1, 0, 1, 0] == 15
    path = scenario([[1, 0], [0, 1]], closes, chosen=chosen, options="correlated", correlation=-0.8)
    assert path.orders[1, 0, 1, 0] == 25
    # With short positions, a hedge is not cut, and an addition to the same bet is.
    for first, second, rho, lots in [
        (1, 1, 0.8, 15),
        (1, -1, 0.8, -25),
        (-1, -1, 0.8, -15),
        (-1, 1, 0.8, 25),
        (1, -1, -0.8, -15),
    ]:
        signals = [[first, 0], [0, second]]
        path = scenario(signals, closes, chosen=chosen, options="all", correlation=rho)
        assert path.orders[1, 0, 1, 0] == lots
