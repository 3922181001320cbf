"""The sweep against the broker of docs/account.md, fill by fill, and both against values by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.accounts import CARRY, both, differences, plain_case
from tests.support.random_accounts import VARIANTS, wild_case

EVENTS = {"order", "lapsed", "cut", "below_minimum", "inside_band", "waits", "leaves", "closing"}
"""What the accounts of each variant must have been through at least once, by the broker's names."""

EVENTS_OF = {
    "fees": {"volume_limited"},
    "stops": {"stop", "barred", "cooling", "timed"},
    "short": {"turns"},
    "extended": {"targets_scaled", "no_place"},
    "waits": {"entry", "kept", "reset", "waits_on_hold"},
}
"""Likewise, where an option is on."""

RARE = {
    *("end", "waits_held", "leaves_held", "still", "additions_scaled", "stopped_at_once"),
    *("liquidation", "ruined"),
}
"""What some accounts of all must have been through."""

N_ACCOUNTS = 204


@pytest.mark.parametrize("place", range(len(VARIANTS)))
def test_random_accounts(place: int, tmp_path: Path) -> None:
    variant, seen, wrong = VARIANTS[place], set[str](), []
    for seed in range(place, N_ACCOUNTS, len(VARIANTS)):
        case = wild_case(seed, tmp_path)
        wanted = case.broker()
        seen.update(wanted.events())
        wrong += [f"account {seed}: {line}" for line in differences(case, wanted, case.sweep())]
    assert not wrong, "\n".join(wrong)
    events = EVENTS.union(*(EVENTS_OF[name] for name in EVENTS_OF if variant.has(name)))
    assert not events - seen


def test_money_is_conserved(tmp_path: Path) -> None:
    seen = set[str]()
    for seed in range(0, N_ACCOUNTS, 4):
        case = wild_case(seed, tmp_path)
        out = case.broker()
        seen.update(out.events())
        flows = sum(fill.flow for fill in out.fills)
        initial = case.keys["costs"]["initial_cash"]
        left = pytest.approx(out.cash[-1], rel=1e-9, abs=1e-9 * initial)
        assert initial + flows + out.carry == left, seed
    assert not RARE - seen


WITH_FEES = [i for i, one in enumerate(VARIANTS) if one.fees and one.mode != "close"]
"""Places of variants of which the next test needs no others."""


@pytest.mark.parametrize(
    "seed", [seed for seed in range(N_ACCOUNTS // 2) if seed % len(VARIANTS) in WITH_FEES]
)
def test_equity_of_the_sweep_is_what_its_fills_leave(seed: int, tmp_path: Path) -> None:
    case = wild_case(seed, tmp_path)
    commission = {"commission_bps": 9.0, "commission_minimum": 2.0, "slippage_bps": 0.0}
    account = {**case.keys["account"], **dict.fromkeys(CARRY, 0.0)}
    keys = {**case.keys, "costs": commission, "account": account}
    case = replace(case, keys=keys)
    got = case.sweep()
    money = 100_000.0
    symbols, paid = case.bars.symbols, np.broadcast_to(case.paid(), case.bars.close.shape)
    units = dict.fromkeys(symbols, 0.0)
    worth = {name: case.keys["instruments"].get(name, {}).get("multiplier", 1.0) for name in units}
    rows = zip(
        *(got.fills[name] for name in ("timestamp", "symbol", "quantity", "price", "cost")),
        strict=True,
    )
    fills: dict[Any, list[tuple[str, float, float, float]]] = {}
    for time, *fill in rows:
        fills.setdefault(time, []).append(tuple(fill))
    first = len(case.bars.close) - len(got.equity)
    for bar, time in enumerate(got.equity.index, first):
        money += sum(units[name] * paid[bar, s] * worth[name] for s, name in enumerate(symbols))
        for symbol, quantity, price, cost in fills.pop(time, []):
            money -= quantity * price * worth[symbol] + cost
            units[symbol] += quantity
    assert not fills
    for s, name in enumerate(symbols):
        money += units[name] * case.bars.close[-1, s] * worth[name]
    assert money == pytest.approx(got.equity.iloc[-1], rel=1e-9, abs=1e-4)


FAR_STOP = {"stop_loss": 0.99}
"""Nothing reaches it: with it, accounts by hand need no simulation that ``VARIANTS`` does not have."""


def test_interest_alone() -> None:
    # A tenth of a year a bar, at 5% a year; the first decision is at bar 2.
    case = plain_case({"A": [100.0]}, days=36.525, account={"cash_rate": 0.05}, sizing="weight")
    fills, equity = both(case)
    assert fills == []
    assert equity == pytest.approx(10_000.0 * 1.005 ** np.arange(1, 11), rel=1e-12)


@pytest.mark.parametrize("allow_short", [False, True], ids=["long", "short"])
def test_funding_and_dividends(*, allow_short: bool) -> None:
    """50 units, bought at 100 or sold short there, are held at the closes 100, 110 and 120.

    Over the bar of 110 they are paid 2 each. Over that of 120 funding of 1% of 110 is due, 1.10 each, and
    over the last one -0.5% of 120, so that longs are paid 0.60 each.
    """
    prices = [99.0, 100.0, 100.0, 110.0, 120.0, 120.0]
    case = plain_case(
        {"A": [200.0 - price for price in prices] if allow_short else prices},
        parameters={"weight": 0.5, "rebalance_band": 0.9, **(FAR_STOP if allow_short else {})},
        sizing="weight",
        allow_short=allow_short,
    )
    funding, dividends = np.zeros((12, 1)), np.zeros((12, 1))
    # Nothing was held at the close before the bar of the purchase.
    dividends[-5:-2] = [[7.0], [5.0], [2.0]]
    funding[-2:] = [[0.01], [-0.005]]
    fills, equity = both(replace(case, columns={"funding": funding, "dividends": dividends}))
    if allow_short:
        # Shorts pay dividends and get funding; the closes before are 90 and 80.
        assert fills == [(-4, "A", "order", -50.0, 100.0)]
        steps = [500.0 - 100.0, 500.0 + 45.0, -20.0]
    else:
        assert fills == [(-4, "A", "order", 50.0, 100.0)]
        steps = [500.0 + 100.0, 500.0 - 55.0, 30.0]
    assert np.diff(equity[-4:]) == pytest.approx(steps)
    assert equity[-4] == pytest.approx(10_000.0)


def test_carry_counts_payments_and_trades_do_not() -> None:
    """20 units bought at 100 are sold at 99, at the open of the bar in which they are paid 3 each."""
    case = plain_case(
        {"A": [99.0, 100.0, 100.0, 99.0, 100.0, 100.0]},
        parameters={"weight": 0.2, "rebalance_band": 0.9},
        sizing="weight",
    )
    dividends = np.zeros((12, 1))
    dividends[-2] = 3.0
    case = replace(case, columns={"dividends": dividends})
    fills, equity = both(case)
    assert [fill[:4] for fill in fills[:2]] == [
        (-4, "A", "order", 20.0),
        (-2, "A", "order", -20.0),
    ]
    found = case.sweep().in_sample
    assert found["carry"] == pytest.approx(60.0)
    assert found["final_equity"] == equity[-1] == pytest.approx(10_000.0 + 60.0 - 20.0)
    assert found["profit_factor"] == 0.0


@pytest.mark.parametrize(("low", "liquidated"), [(66.0, True), (67.0, False)])
def test_margin_call(low: float, *, liquidated: bool) -> None:
    """200 units for 20,000, of which 10,000 are borrowed: at 66 equity is 3,200, a quarter 3,300."""
    case = plain_case(
        {"A": [99.0, 100.0, 90.0]},
        parameters={"weight": 2.0, "max_weight": 2.0, "max_exposure": 2.0, **FAR_STOP},
        account={"leverage": 2.0, "maintenance_margin": 0.25},
        sizing="weight",
    )
    lows = case.bars.low.copy()
    lows[-1] = low
    fills, equity = both(replace(case, bars=replace(case.bars, low=lows)))
    bought = (-1, "A", "order", 200.0, 100.0)
    if liquidated:
        assert fills == [bought, (-1, "A", "liquidation", -200.0, 66.0)]
        assert equity[-2:] == pytest.approx([10_000.0, 3_200.0])
    else:
        assert fills == [bought]
        assert equity[-2:] == pytest.approx([10_000.0, 8_000.0])


def test_gap_cuts_all_additions_alike() -> None:
    """500 A at 10 and 250 B at 20 are ordered; A opens at 12.

    Needs are 6,060 and 5,060, fixed are 120: c = (10,000 - 120) / (11,120 - 120) = 0.89818, which
    leaves 449.09 and 224.5.
    """
    case = plain_case(
        {"A": [9.0, 10.0, 12.0], "B": [19.0, 20.0, 20.0]},
        parameters=FAR_STOP,
        costs={"commission_per_order": 60.0},
        sizing="equal_weight",
    )
    opens = case.bars.open.copy()
    opens[-1] = [12.0, 20.0]
    fills, equity = both(replace(case, bars=replace(case.bars, open=opens)))
    assert fills == [(-1, "A", "order", 449.0, 12.0), (-1, "B", "order", 224.0, 20.0)]
    assert equity[-2:] == pytest.approx([10_000.0, 9_880.0])


@pytest.mark.parametrize("fill", ["next_open", "close"])
def test_commission_ruins(fill: str) -> None:
    """100 units fall from 60 to 20; the sale brings 2,000 and costs 4,000."""
    case = plain_case(
        {"A": [55.0, 60.0, 60.0, 20.0, 20.0, 20.0]},
        parameters={"weight": 0.6, **FAR_STOP},
        costs={"commission_per_order": 4_000.0, "fill": fill, "initial_cash": 10_000.0},
        sizing="weight",
    )
    fills, equity = both(case)
    # The purchase costs 4,000 too, and all of the cash.
    assert fills[0][3:] == (100.0, 60.0)
    assert fills[1][3:] == (-100.0, 20.0)
    assert equity[-1] == pytest.approx(-2_000.0)


def test_sale_gets_at_least_nothing() -> None:
    """Half the spread is 5, and the price falls to 3."""
    case = plain_case(
        {"A": [55.0, 60.0, 60.0, 3.0, 3.0, 3.0]},
        parameters={"weight": 0.6},
        costs={"spread_ticks": 1_000.0},
        instruments={"A": {"tick_size": 0.01}},
        sizing="weight",
    )
    fills, equity = both(case)
    assert fills == [(-4, "A", "order", 100.0, 65.0), (-2, "A", "order", -100.0, 0.0)]
    assert equity[-1] == pytest.approx(3_500.0)


def test_leverage_alone_opens_no_shorts() -> None:
    fills, _ = both(
        plain_case({"A": [99.0, 98.0, 97.0]}, parameters=FAR_STOP, account={"leverage": 1.5})
    )
    assert fills == []


def test_margin_call_at_zero() -> None:
    """200 units on 10,000 borrowed: at 49 equity would be -200."""
    case = plain_case(
        {"A": [99.0, 100.0, 90.0]},
        parameters={"weight": 2.0, "max_weight": 2.0, "max_exposure": 2.0, **FAR_STOP},
        account={"leverage": 2.0, "maintenance_margin": 0.0},
        sizing="weight",
    )
    lows = case.bars.low.copy()
    lows[-1] = 49.0
    fills, _ = both(replace(case, bars=replace(case.bars, low=lows)))
    assert fills[1:] == [(-1, "A", "liquidation", -200.0, 49.0)]


def test_volume_share_of_round_numbers() -> None:
    """0.29 x 27,000 is 7,830, and a little less in floating point."""
    case = plain_case(
        {"A": [0.011, 0.012, 0.012]},
        parameters={"weight": 1.0, **FAR_STOP},
        costs={"max_volume_share": 0.29},
        sizing="weight",
    )
    volume = case.bars.volume.copy()
    volume[:] = 27_000.0
    fills, _ = both(replace(case, bars=replace(case.bars, volume=volume)))
    assert fills[0][3] == 7_830.0
