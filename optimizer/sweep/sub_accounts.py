"""Parameter sets that trade in sub-accounts of one account, between which money moves on a schedule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np

from kernels import layout
from kernels.codes import ADD, REDUCE
from optimizer.catalogue import METRICS
from optimizer.sweep.backtest_result import BacktestResult
from optimizer.sweep.evaluate import Accounts, Recording, walk
from optimizer.sweep.inputs import Inputs, MarketRegime, RegimeKey
from optimizer.sweep.lanes import LaneBlocks, lay_out_blocks, row_of
from optimizer.sweep.rules import Rules
from optimizer.sweep.single_set import recorded, tile_regimes
from optimizer.sweep.tiles import Tile
from optimizer.types import FloatArray, IntArray, TimeArray

Schedule = Literal["never", "month", "quarter", "year"]
SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)

ROUNDING = 1e-9
"""Of the money of all accounts: by no more than this may one differ from its share and still have it."""

_MONTHS: Mapping[Schedule, int] = {"month": 1, "quarter": 3, "year": 12}


def rebalancing_bars(times: TimeArray, first: int, schedule: Schedule) -> IntArray:
    """The bars at whose close sub-accounts are brought back to their shares.

    Args:
        times: the times of the bars, ascending, shape (n_bars,).
        first: bar of the first decision.
        schedule: the first bar of each month, quarter or year (UTC) after that of the first decision.

    Returns:
        Ascending.
    """
    if schedule == "never":
        return np.zeros(0, np.int64)
    periods = times.astype("datetime64[M]").astype(np.int64) // _MONTHS[schedule]
    return np.flatnonzero(periods[first + 1 :] != periods[first:-1]) + first + 1


class SubAccount(Protocol):
    """An account whose money may move at a close, once its orders are decided."""

    @property
    def equity(self) -> float:
        """Money at the close."""

    def free(self, closes: FloatArray) -> float:
        """The money that may leave: see ``free_money``.

        Args:
            closes: the closes, shape (n_symbols,).
        """

    def move(self, money: float) -> None:
        """Pay money in, or out if negative: no return, and no drawdown.

        Args:
            money: money.
        """

    def scale(self, factor: float, *, additions: bool = False) -> None:
        """Scale the targets that the close has decided: see ``scaled_orders``.

        Args:
            factor: times as much.
            additions: whether additions alone are scaled.
        """


def free_money(equity: float, lots: FloatArray, closes: FloatArray, rules: Rules) -> float:
    """The money that may leave an account at a close: what is left is what its positions need.

    Args:
        equity: money at the close.
        lots: positions, signed, shape (n_symbols,).
        closes: the closes, shape (n_symbols,).
        rules: the rules of the account.
    """
    gross = float(np.abs(lots * closes * rules.lot_money).sum())
    return max(equity - gross / rules.leverage, 0.0)


def scaled_orders(
    lots: FloatArray, orders: FloatArray, factor: float, *, additions: bool = False
) -> FloatArray:
    """Orders that lead to scaled targets.

    Args:
        lots: positions, signed, shape (n_symbols,).
        orders: what was decided, signed lots, 0 without an order, shape (n_symbols,).
        factor: times as much.
        additions: whether additions alone are scaled, so that nothing is sold for it.

    Returns:
        Signed lots, shape (n_symbols,).
    """
    changes: FloatArray = np.trunc(factor * (lots + orders)) - lots
    if additions:
        adding = np.sign(orders) * np.sign(lots + orders) > 0.0
        limited = np.sign(orders) * np.clip(changes * np.sign(orders), 0.0, np.abs(orders))
        changes = np.where(adding, limited, orders)
    return changes


@dataclass(eq=False)
class _SubAccount:
    """One parameter set in its sub-account; lane 0 is the set."""

    inputs: Inputs
    tile: Tile
    regimes: Mapping[RegimeKey, MarketRegime]
    blocks: LaneBlocks
    accounts: Accounts
    recording: Recording

    @classmethod
    def new(cls, inputs: Inputs, tile: Tile) -> _SubAccount:
        bars, regimes = inputs.bars, tile_regimes(inputs.bars, tile)
        return cls(
            inputs,
            tile,
            regimes,
            lay_out_blocks([tile], inputs, regimes),
            Accounts.new(inputs, 1),
            Recording.empty(bars.n_bars, bars.n_symbols),
        )

    def walk(self, first: int, last: int) -> None:
        walk(self.inputs, self.blocks, 0, 1, self.accounts, self.recording, first, last)

    @property
    def equity(self) -> float:
        return float(self.accounts.lanes[0, row_of(layout.EQUITY), 0])

    def free(self, closes: FloatArray) -> float:
        lots = self.accounts.by_symbol[0, :, row_of(layout.LOTS), 0]
        return free_money(self.equity, lots, closes, self.inputs.rules)

    def move(self, money: float) -> None:
        lane = self.accounts.lanes[0, :, 0]
        before = lane[row_of(layout.EQUITY)]
        for offset in (layout.CASH, layout.EQUITY, layout.CLOSED, layout.PEAK):
            lane[row_of(offset)] += money
        lane[row_of(layout.EXPOSURE)] *= before / lane[row_of(layout.EQUITY)]

    def scale(self, factor: float, *, additions: bool = False) -> None:
        held = self.accounts.by_symbol[0, :, :, 0]
        lots, pending = held[:, row_of(layout.LOTS)], self.accounts.pending[0]
        orders = np.where(pending > 0, held[:, row_of(layout.ORDER)], 0.0)
        changes = scaled_orders(lots, orders, factor, additions=additions)
        held[:, row_of(layout.ORDER)] = changes
        reduces = (changes * lots < 0.0) * REDUCE
        adds = ((lots + changes) * changes > 0.0) * ADD
        pending |= (reduces | adds).astype(np.uint8)

    def result(self) -> BacktestResult:
        """What the set did; with money paid in and out its own metrics are undefined."""
        undefined = dict.fromkeys(METRICS, float("nan"))
        holdout = undefined if self.inputs.split < self.inputs.bars.n_bars else None
        return recorded(
            self.inputs, self.tile, self.regimes, self.recording, dict(undefined), holdout
        )


@dataclass(frozen=True, eq=False)
class Rebalancing:
    """How sub-accounts are brought back to their shares.

    Attributes:
        shares: the share of each, fractions, shape (n_members,).
        schedule: see ``rebalancing_bars``.
    """

    shares: FloatArray
    schedule: Schedule

    def due(self, times: TimeArray, first: int) -> frozenset[int]:
        """The bars of the schedule.

        Args:
            times: the times of the bars, ascending, shape (n_bars,).
            first: bar of the first decision.
        """
        return frozenset(rebalancing_bars(times, first, self.schedule).tolist())

    def at_close(
        self,
        subs: Sequence[SubAccount],
        bar: int,
        due: Set[int],
        closes: FloatArray,
        moves: Sequence[float] | None = None,
    ) -> list[float]:
        """Do what the schedule asks at a close, once its orders are decided and before any fills.

        Args:
            subs: the sub-accounts.
            bar: the bar that closes.
            due: the bars of the schedule.
            closes: the closes, shape (n_symbols,).
            moves: what each is paid, where that is known already; None computes it.

        Returns:
            What each is paid, negative where it pays, shape (n_members,).
        """
        if bar - 1 in due:
            moves = self._moves(subs, closes) if moves is None else moves
            for one, money in zip(subs, moves, strict=True):
                if money != 0.0:
                    before = one.equity
                    one.move(money)
                    one.scale(one.equity / before, additions=money < 0.0)
        if bar in due:
            for one, lack in zip(subs, self._lacks(subs), strict=True):
                if lack < 0.0:
                    one.scale(1.0 + lack / one.equity)
        return [0.0] * len(subs) if moves is None else list(moves)

    def _lacks(self, subs: Sequence[SubAccount]) -> FloatArray:
        """Money that each lacks to its share, negative where it has more; 0 without equity.

        What rounding leaves counts as nothing: a target scaled by a hair less than 1 is a lot less.
        """
        equity = np.array([one.equity for one in subs])
        alive = equity > 0.0
        equity, shares = np.where(alive, equity, 0.0), np.where(alive, self.shares, 0.0)
        total = float(shares.sum())
        if not total > 0.0:
            return np.zeros(len(subs))
        lacks: FloatArray = shares / total * equity.sum() - equity
        return np.where(np.abs(lacks) > ROUNDING * equity.sum(), lacks, 0.0)

    def _moves(self, subs: Sequence[SubAccount], closes: FloatArray) -> list[float]:
        """What those that have more than their share pay to the others."""
        lacks = self._lacks(subs)
        paid = [
            min(max(-lack, 0.0), one.free(closes)) for one, lack in zip(subs, lacks, strict=True)
        ]
        wanted = float(np.maximum(lacks, 0.0).sum())
        if not wanted > 0.0:
            return [0.0] * len(subs)
        part = sum(paid) / wanted
        return [
            float(part * lack if lack > 0.0 else -out)
            for lack, out in zip(lacks, paid, strict=True)
        ]


def simulate_sub_accounts(
    members: Sequence[tuple[Inputs, Tile]], shares: FloatArray, schedule: Schedule
) -> list[BacktestResult]:
    """Simulate parameter sets whose sub-accounts are brought back to their shares on a schedule.

    At the close of a bar of the schedule, a sub-account with more than its share of the whole scales its
    targets down to its share, so that the next open sells what is too much, at the costs of any sale. At
    the close after, it pays out what it has above its share, as far as its positions do not need it;
    the others get that in proportion to what they lack, and scale their targets up. Their next open
    buys, at the costs of any purchase. A sub-account without equity gets nothing.

    Args:
        members: the prepared inputs of each set, with its part of the money, and its tile of one lane; of
            the same bars, first decision and holdout.
        shares: the share of each member, fractions, shape (n_members,).
        schedule: see ``rebalancing_bars``.

    Returns:
        What each member did; its metrics are undefined.
    """
    subs = [_SubAccount.new(*one) for one in members]
    inputs = members[0][0]
    first, n_bars = inputs.first, inputs.bars.n_bars
    back = Rebalancing(shares, schedule)
    due = back.due(inputs.bars.timestamps, first)
    cuts = {bar + after for bar in due for after in (1, 2) if bar + after < n_bars}
    start = first
    for stop in sorted(cuts | {inputs.split, n_bars}):
        for one in subs:
            one.walk(start, stop)
        back.at_close(subs, stop - 1, due, inputs.bars.close[stop - 1])
        for one in subs:
            if stop in (inputs.split, n_bars):
                one.recording.keep(one.accounts, stop)
            if stop == inputs.split:
                one.accounts.start_period(inputs, stop)
        start = stop
    return [one.result() for one in subs]
