"""Sub-accounts between which money moves on a schedule, against accounts that are kept by hand."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from optimizer.catalogue import METRICS
from optimizer.review.book import book_result
from optimizer.sweep.inputs import Inputs
from optimizer.sweep.single_set import record, simulate_single, single_set_study, tile_regimes
from optimizer.sweep.sub_accounts import (
    Rebalancing,
    Schedule,
    rebalancing_bars,
    simulate_sub_accounts,
)
from optimizer.sweep.tiles import Tile
from optimizer.types import Bars, FloatArray
from tests.support.studies import random_bars, trading_days

SLIPPAGE, COMMISSION = 20e-4, 10e-4
COSTS = {"initial_cash": 100_000.0, "slippage_bps": 20.0, "commission_bps": 10.0}


def rising(n_bars: int = 110) -> Bars:
    """One symbol that rises every bar, so that momentum is always long, and not so far that it sells."""
    rng = np.random.default_rng(5)
    growth = np.cumprod(1.0 + rng.uniform(0.001, 0.02, n_bars))
    close: FloatArray = np.asarray(100.0 * growth, np.float64)[:, np.newaxis]
    open_ = close * 0.998
    volume = np.full_like(close, 1e9)
    days = trading_days("2015-01-05", n_bars).astype("datetime64[ns]")
    return Bars(("AAA",), days, open_, close * 1.001, open_ * 0.999, close, volume, 252.0)


def prepared(bars: Bars, cash: float, holdout: float = 0.0, **changes: Any) -> tuple[Inputs, Tile]:
    parameters = {
        "strategy": "momentum",
        "momentum_lookback": 5,
        "momentum_threshold": 0.0,
        "volatility_lookback": 10,
        "correlation_penalty": 0.0,
        "rebalance_band": 1.0,
        "max_weight": 1.0,
        "max_exposure": 1.0,
        **changes,
    }
    costs = {**COSTS, "initial_cash": cash}
    study = single_set_study(parameters, costs, False, None, holdout, sizing="weight")
    inputs, tile, _ = simulate_single(study, bars, 20)
    return inputs, tile


@dataclass
class ByHand:
    """An account that buys once, and then trades only where its targets are scaled."""

    cash: float
    lots: float = 0.0
    order: float = 0.0

    def open(self, price: float) -> None:
        lots = self.order
        if lots > 0.0:
            each = price * (1.0 + SLIPPAGE) * (1.0 + COMMISSION)
            lots = min(lots, math.floor(self.cash / each))
            self.cash -= lots * each
        else:
            self.cash -= lots * price * (1.0 - SLIPPAGE) * (1.0 - COMMISSION)
        self.lots, self.order = self.lots + lots, 0.0

    def equity(self, price: float) -> float:
        return self.cash + self.lots * price


def kept_by_hand(bars: Bars, weights: list[float], schedule: Schedule) -> list[list[float]]:
    """The equity of two accounts with half of the money each, from bar 20 on."""
    accounts = [ByHand(50_000.0), ByHand(50_000.0)]
    equity: list[list[float]] = [[], []]
    months = pd.DatetimeIndex(bars.timestamps).month
    size = {"month": 1, "quarter": 3}[schedule]
    due = [
        t for t in range(21, bars.n_bars) if (months[t] - 1) // size != (months[t - 1] - 1) // size
    ]
    for t in range(20, bars.n_bars):
        price = float(bars.close[t, 0])
        for one in accounts:
            one.open(float(bars.open[t, 0]))
        if t == 20:
            for one, weight in zip(accounts, weights, strict=True):
                one.order = math.floor(weight * one.cash / price)
        for one, values in zip(accounts, equity, strict=True):
            values.append(one.equity(price))
        half = sum(one.equity(price) for one in accounts) / 2.0
        if t - 1 in due:
            rich, poor = sorted(accounts, key=lambda one: -one.equity(price))
            money = min(rich.equity(price) - half, rich.cash)
            before = poor.equity(price)
            rich.cash -= money
            poor.cash += money
            target = math.floor(poor.equity(price) / before * poor.lots)
            poor.order = target - poor.lots
        if t in due:
            rich = max(accounts, key=lambda one: one.equity(price))
            rich.order = math.floor(half / rich.equity(price) * rich.lots) - rich.lots
    return equity


@pytest.mark.parametrize("schedule", ["month", "quarter"])
@pytest.mark.parametrize("weights", [[0.95, 0.3], [0.2, 0.9], [0.9, 0.0]])
def test_money_moves_as_by_hand(schedule: Schedule, weights: list[float]) -> None:
    bars = rising()
    members = [prepared(bars, 50_000.0, weight=weight) for weight in weights]
    results = simulate_sub_accounts(members, np.array([0.5, 0.5]), schedule)
    wanted = kept_by_hand(bars, weights, schedule)
    for result, own in zip(results, wanted, strict=True):
        assert result.equity.tolist() == pytest.approx(own, rel=1e-12)
    book = book_result(members[0][0], results, schedule)
    assert book.equity.tolist() == pytest.approx(np.sum(wanted, axis=0).tolist(), rel=1e-12)
    # Money that only moves is no return: what was gained is what the trades and positions made.
    profit = float(book.fills["cash"].sum()) + float(book.values[-1].sum())
    assert profit == pytest.approx(float(book.equity.iloc[-1]) - 100_000.0, rel=1e-9)
    assert (book.fills["lots"] < 0.0).any() and book.in_sample["costs_paid"] > 0.0


def test_without_a_schedule_each_is_an_account_of_its_own() -> None:
    bars = random_bars()
    members = [
        prepared(bars, cash, 0.25, weight=0.4, rebalance_band=0.1) for cash in (30_000.0, 70_000.0)
    ]
    found = simulate_sub_accounts(members, np.array([0.3, 0.7]), "never")
    for one, (inputs, tile) in zip(found, members, strict=True):
        alone = record(inputs, tile, tile_regimes(inputs.bars, tile))
        pd.testing.assert_series_equal(one.equity, alone.equity, check_exact=True)
        pd.testing.assert_frame_equal(one.fills, alone.fills, check_exact=True)
        for at, sums in alone.sums.items():
            assert one.sums[at].tobytes() == sums.tobytes()
    # The metrics of a book of one are those of the account, bit for bit, but for what is added up.
    inputs, tile = members[0]
    alone = record(inputs, tile, tile_regimes(inputs.bars, tile))
    book = book_result(inputs, [alone], "never")
    assert book.out_of_sample is not None and alone.out_of_sample is not None
    for name in METRICS:
        assert book.in_sample[name] == pytest.approx(alone.in_sample[name], rel=1e-12), name
        assert book.out_of_sample[name] == pytest.approx(alone.out_of_sample[name], rel=1e-12), name


@pytest.mark.parametrize("schedule", ["month", "quarter", "year"])
def test_what_comes_later_changes_nothing_before(schedule: Schedule) -> None:
    bars = random_bars(500)
    options: dict[str, Any] = {"rebalance_band": 0.1}
    shares = np.array([0.5, 0.5])

    def book(some: Bars) -> pd.Series[float]:
        members = [prepared(some, 50_000.0, weight=one, **options) for one in (0.3, 0.05)]
        moved = simulate_sub_accounts(members, shares, schedule)
        return book_result(members[0][0], moved, schedule).equity

    whole = book(bars)
    for n_bars in (200, 317):
        part = book(bars.head(n_bars))
        pd.testing.assert_series_equal(part, whole.iloc[: len(part)], check_exact=True)


def test_after_a_move_shares_are_as_they_should_be() -> None:
    bars = random_bars(500)
    shares = np.array([0.2, 0.3, 0.5])
    members = [
        prepared(bars, 100_000.0 * share, weight=weight, rebalance_band=0.1)
        for share, weight in zip(shares, (0.3, 0.1, 0.2), strict=True)
    ]
    results = simulate_sub_accounts(members, shares, "month")
    equity = np.array([one.equity.to_numpy() for one in results])
    off = np.abs(equity / equity.sum(axis=0) - shares[:, np.newaxis]).max(axis=0)
    first = members[0][0].first
    moved = rebalancing_bars(bars.timestamps, first, "month") + 2 - first  # the bar after a move
    moved = moved[moved < len(off)]
    still = np.array(
        [one.equity.to_numpy() for one in simulate_sub_accounts(members, shares, "never")]
    )
    drifted = np.abs(still / still.sum(axis=0) - shares[:, np.newaxis]).max(axis=0)
    assert off[moved].max() < 0.01 < drifted.max()


@dataclass
class Still:
    """An account at its share."""

    equity: float
    n_changes: int = 0

    def free(self, closes: FloatArray) -> float:
        return self.equity

    def move(self, money: float) -> None:
        self.n_changes += 1

    def scale(self, factor: float, *, additions: bool = False) -> None:
        self.n_changes += 1


def test_accounts_that_have_their_shares_are_left_alone() -> None:
    """Their sum is rounded, and scaled by a hair less than 1 a target of 100 lots is one of 99."""
    rng = np.random.default_rng(1)
    closes = np.zeros(1)
    for _ in range(100):
        shares = rng.dirichlet(np.ones(5))
        subs = [Still(100_000.0 * share) for share in shares.tolist()]
        for bar in (3, 4):
            moves = Rebalancing(shares, "month").at_close(subs, bar, {3}, closes)
            assert moves == [0.0] * 5
        assert not any(one.n_changes for one in subs)


def test_the_bars_of_a_schedule() -> None:
    days = np.array(
        ["2019-12-30", "2019-12-31", "2020-01-02", "2020-01-31", "2020-02-03", "2020-04-01"],
        "datetime64[ns]",
    )
    found = {one: rebalancing_bars(days, 0, one).tolist() for one in ("never", "month", "quarter")}
    assert found == {"never": [], "month": [2, 4, 5], "quarter": [2, 5]}
    assert rebalancing_bars(days, 0, "year").tolist() == [2]
    assert rebalancing_bars(days, 2, "month").tolist() == [4, 5]


def test_a_ruined_account_gets_nothing() -> None:
    """Leverage and a crash end the first; the second keeps all that it has."""
    bars = rising()
    fallen = bars.close.copy()
    fallen[50:] *= 0.3
    crash = replace(bars, close=fallen, open=fallen, high=fallen * 1.001, low=fallen * 0.999)
    costs = {**COSTS, "initial_cash": 50_000.0}

    def levered(weight: float) -> tuple[Inputs, Tile]:
        parameters: dict[str, Any] = {
            "strategy": "momentum",
            "momentum_lookback": 5,
            "volatility_lookback": 10,
            "weight": weight,
            "max_weight": 4.0,
            "max_exposure": 4.0,
            "rebalance_band": 1.0,
        }
        study = single_set_study(
            parameters,
            costs,
            False,
            None,
            0.0,
            sizing="weight",
            account={"leverage": 4.0, "maintenance_margin": 0.1},
        )
        return simulate_single(study, crash, 20)[:2]

    members = [levered(3.0), levered(0.0)]
    lost, kept = simulate_sub_accounts(members, np.array([0.5, 0.5]), "month")
    after = 60 - members[0][0].first
    assert lost.equity.iloc[after] <= 0.0
    assert lost.equity.iloc[after:].nunique() == 1
    assert kept.equity.iloc[after:].nunique() == 1
