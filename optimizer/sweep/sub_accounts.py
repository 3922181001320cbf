"""Parameter sets that trade in sub-accounts of one account, between which money moves on a schedule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from kernels import layout
from kernels.codes import ADD, REDUCE
from optimizer.catalogue import METRICS
from optimizer.sweep.backtest_result import BacktestResult
from optimizer.sweep.evaluate import Accounts, Recording, walk
from optimizer.sweep.inputs import Inputs, MarketRegime, RegimeKey
from optimizer.sweep.lanes import LaneBlocks, lay_out_blocks, row_of
from optimizer.sweep.single_set import recorded, tile_regimes
from optimizer.sweep.tiles import Tile
from optimizer.types import FloatArray, IntArray, TimeArray

Schedule = Literal["never", "month", "quarter", "year"]
SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)

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

    def free(self, bar: int) -> float:
        """Money that may leave at a close: what is left is what its positions need."""
        rules = self.inputs.rules
        lots = self.accounts.by_symbol[0, :, row_of(layout.LOTS), 0]
        gross = float(np.abs(lots * self.inputs.bars.close[bar] * rules.lot_money).sum())
        return max(self.equity - gross / rules.leverage, 0.0)

    def move(self, money: float) -> None:
        """Pay money in, or out if negative: no return, and no drawdown."""
        lane = self.accounts.lanes[0, :, 0]
        before = lane[row_of(layout.EQUITY)]
        for offset in (layout.CASH, layout.EQUITY, layout.CLOSED, layout.PEAK):
            lane[row_of(offset)] += money
        lane[row_of(layout.EXPOSURE)] *= before / lane[row_of(layout.EQUITY)]

    def scale(self, factor: float, *, additions: bool = False) -> None:
        """Scale the targets that the last close has decided; of ``additions`` alone, nothing is sold."""
        held = self.accounts.by_symbol[0, :, :, 0]
        lots, pending = held[:, row_of(layout.LOTS)], self.accounts.pending[0]
        orders = np.where(pending > 0, held[:, row_of(layout.ORDER)], 0.0)
        target = np.trunc(factor * (lots + orders))
        changes = target - lots
        if additions:
            adding = np.sign(orders) * np.sign(lots + orders) > 0.0
            limited = np.sign(orders) * np.clip(changes * np.sign(orders), 0.0, np.abs(orders))
            changes = np.where(adding, limited, orders)
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
    due = set(rebalancing_bars(inputs.bars.timestamps, first, schedule).tolist())
    cuts = {bar + after for bar in due for after in (1, 2) if bar + after < n_bars}
    start = first
    for stop in sorted(cuts | {inputs.split, n_bars}):
        for one in subs:
            one.walk(start, stop)
        if stop - 2 in due:
            _move(subs, shares, stop - 1)
        if stop - 1 in due:
            _shrink(subs, shares)
        for one in subs:
            if stop in (inputs.split, n_bars):
                one.recording.keep(one.accounts, stop)
            if stop == inputs.split:
                one.accounts.start_period(inputs, stop)
        start = stop
    return [one.result() for one in subs]


def _lacks(subs: Sequence[_SubAccount], shares: FloatArray) -> FloatArray:
    """Money that each sub-account lacks to its share, negative where it has more; 0 without equity."""
    equity = np.array([one.equity for one in subs])
    alive = equity > 0.0
    equity, shares = np.where(alive, equity, 0.0), np.where(alive, shares, 0.0)
    total = float(shares.sum())
    return shares / total * equity.sum() - equity if total > 0.0 else np.zeros(len(subs))


def _shrink(subs: Sequence[_SubAccount], shares: FloatArray) -> None:
    """Scale the targets of those that have more than their share."""
    for one, lack in zip(subs, _lacks(subs, shares), strict=True):
        if lack < 0.0:
            one.scale(1.0 + lack / one.equity)


def _move(subs: Sequence[_SubAccount], shares: FloatArray, bar: int) -> None:
    """Move money from those that have more than their share to the others."""
    lacks = _lacks(subs, shares)
    paid = [min(max(-lack, 0.0), one.free(bar)) for one, lack in zip(subs, lacks, strict=True)]
    wanted = float(np.maximum(lacks, 0.0).sum())
    if not wanted > 0.0:
        return
    part = sum(paid) / wanted
    for one, lack, out in zip(subs, lacks, paid, strict=True):
        money = part * lack if lack > 0.0 else -out
        if money != 0.0:
            before = one.equity
            one.move(money)
            one.scale(one.equity / before, additions=money < 0.0)
