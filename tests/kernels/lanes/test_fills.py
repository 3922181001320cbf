"""Fills, their costs and what cash and volume let through, by hand; see ``tests/support/by_hand.py``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.reference.simulation import Costs, Instrument
from tests.support.by_hand import ALL_IN, FREE, cash_of, equity_of, lots_of, orders_of, scenario


def test_a_purchase_is_cut_to_what_cash_can_pay() -> None:
    # 1000 buys 100 lots at the close of 10; at the open of 12.5 it would pay for exactly 80, of
    # which the margin for rounding leaves 79.
    path = scenario([[1, 1]], closes=[[10, 12.5]], opens=[[10, 12.5]])
    assert orders_of(path, 0) == [100]
    assert lots_of(path) == [0, 79]
    assert cash_of(path) == [1000, 12.5]


def test_a_cut_purchase_pays_its_costs_too() -> None:
    # A lot costs 10 * 1.25 * 1.62 = 20.25, of which 1000 pays 49.4.
    chosen = replace(ALL_IN, costs=Costs(slippage=0.25, commission=0.62))
    path = scenario([[1, 1]], [[10, 10]], chosen=chosen)
    assert lots_of(path) == [0, 49]
    assert cash_of(path) == pytest.approx([1000, 1000 - 49 * 20.25], abs=1e-9)


def test_a_commission_that_does_not_shrink_is_paid_first() -> None:
    # Two purchases of 50 lots at 10 need 1000 and 10 each for the commission; 1000 pay for a share
    # of (1000 - 20) / (1020 - 20) = 0.98: a little below 49 lots each.
    chosen = replace(ALL_IN, costs=Costs(minimum=10.0))
    path = scenario([[1, 1], [1, 1]], [[10, 10], [10, 10]], chosen=chosen, options="fees")
    assert (lots_of(path), lots_of(path, 1)) == ([0, 48], [0, 48])
    assert cash_of(path) == [1000, 20]


def test_reductions_come_before_additions() -> None:
    # Bar 0: symbol 1 takes half of the money: 50 lots at 10, and 500 of cash are left.
    # Bar 1: symbol 1 is to be sold, symbol 0 to be bought for half of 1000: 50 lots at 10.
    # Bar 2: both open at 20. The sale brings 1000, so that 1500 of cash pay the 1000; the 500 from
    #        before it would have paid for 25 lots alone.
    path = scenario(
        signals=[[0, 1, 1], [1, -1, -1]],
        closes=[[10, 10, 20], [10, 10, 20]],
        chosen=replace(ALL_IN, size=0.1001),
    )
    assert orders_of(path, 1) == [50, -50]
    assert lots_of(path) == [0, 0, 50]
    assert lots_of(path, 1) == [0, 50, 0]
    assert cash_of(path) == [1000, 500, 500]


def test_filling_at_the_close_is_at_the_bar_that_decides() -> None:
    path = scenario(
        [[1, 1, -1]],
        closes=[[10, 12, 15]],
        opens=[[9, 11, 14]],
        options="all_at_close",
        chosen=replace(ALL_IN, rebalance_band=0.1),
    )
    # 100 lots at the first close; at 15 they turn into a short position of 100.
    assert lots_of(path) == [100, 100, -100]
    assert equity_of(path) == [1000, 1200, 1500]


# Costs. Half of 1000 at 10 is 50 lots.

HALF_IN = replace(ALL_IN, max_weight=0.5)


@pytest.mark.parametrize(
    ("costs", "paid"),
    [
        (Costs(), 500.0),
        (Costs(slippage=0.01), 505.0),
        (Costs(half_spread=0.5), 502.5),  # of a tick of 0.1: 0.05 a unit
        (Costs(commission=0.001, per_unit=0.02), 501.5),  # 0.5 and 1
        (Costs(commission=0.001, per_unit=0.02, minimum=1.0, per_order=1.0), 502.5),
        (Costs(commission=0.001, per_unit=0.02, minimum=5.0, per_order=1.0), 506.0),
        (Costs(impact=1.0), 501.0),  # 0.02 * sqrt(50 / 5000) = 0.002
        (Costs(impact=1.0, slippage=0.01, commission=0.1), 556.6),  # 50 * 10.12 * 1.1
    ],
    ids=["none", "slippage", "ticks", "commission", "above", "minimum", "impact", "together"],
)
def test_a_fill_costs_by_hand(costs: Costs, paid: float) -> None:
    volumes = [[5000.0, 5000.0, 5000.0]]
    lane = replace(FREE, instruments=(Instrument(tick_size=0.1),)), replace(HALF_IN, costs=costs)
    # A symbol's own costs, with half the spread in price, are the same.
    own = replace(costs, half_spread=0.1 * costs.half_spread)
    symbol = replace(FREE, instruments=(Instrument(tick_size=0.1, own=own),)), HALF_IN
    for rules, chosen in (lane, symbol):
        given: dict[str, Any] = {
            "chosen": chosen,
            "rules": rules,
            "volumes": volumes,
            "options": "fees",
        }
        path = scenario([[1, 0, 0]], [[10, 10, 10]], **given)
        assert lots_of(path) == [0, 50, 50]
        assert cash_of(path)[1] == pytest.approx(1000.0 - paid, abs=1e-9)
        assert path.sweep.row("costs")[0, 0] == pytest.approx(paid - 500.0, abs=1e-9)


def test_a_sale_gets_less_by_its_costs() -> None:
    # 50 lots sold at 10 - 0.05 - 0.1 = 9.85, less 0.1 % and 1.
    chosen = replace(
        HALF_IN, costs=Costs(slippage=0.01, half_spread=0.5, commission=0.001, per_order=1.0)
    )
    rules = replace(FREE, instruments=(Instrument(tick_size=0.1),))
    path = scenario([[1, -1, -1]], [[10, 10, 10]], chosen=chosen, rules=rules, options="fees")
    before, after = cash_of(path)[1:]
    assert lots_of(path) == [0, 50, 0]
    assert after - before == pytest.approx(50 * 9.85 * 0.999 - 1.0, abs=1e-9)


def test_a_fill_takes_its_share_of_the_volume() -> None:
    # A quarter of 200 units is 50 lots a bar; the rest lapses and is decided again.
    chosen = replace(ALL_IN, costs=Costs(volume_share=0.25))
    path = scenario(
        [[1, 1, -1, -1, -1]],
        [[10] * 5],
        chosen=chosen,
        volumes=[[200.0] * 5],
        options="fees",
    )
    assert lots_of(path) == [0, 50, 100, 50, 0]


def test_where_a_symbol_does_not_trade_its_order_lapses() -> None:
    path = scenario([[1, 1, -1, -1, -1]], [[10] * 5], volumes=[[100.0, 0.0, 100.0, 0.0, 100.0]])
    assert lots_of(path) == [0, 0, 100, 100, 0]
