"""One account through the event flow under one assumption on its fills."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from optimizer.flow.account_flow import AccountFlow
from optimizer.flow.broker import broker_fill
from optimizer.flow.prepared import PreparedFlow
from optimizer.trading.broker import SeenBar
from optimizer.trading.modelled import Executed, account_at_open, modelled_fills
from optimizer.trading.taking_over import AccountTakingFlow, Takeover
from optimizer.types import Bar, Fill, FloatArray, Order

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Adjustment:
    """Trades of an account that no order of its set has asked for.

    Attributes:
        cash: money that they brought.
        lots: change of the position by symbol's index.
    """

    cash: float
    lots: Mapping[int, float]


@dataclass(frozen=True, eq=False)
class Steps:
    """What is given to an account at each bar.

    Attributes:
        start: the bar before whose decisions the account is taken over.
        account: what it holds then.
        takeovers: what a broker held at later bars; it is right where it differs.
        strangers: the trades of somebody else at a bar, asked for once its orders have their fills.
    """

    start: int
    account: Takeover
    takeovers: Mapping[int, Takeover] = field(default_factory=dict)
    strangers: Callable[[int], Adjustment | None] = lambda bar: None


@dataclass(frozen=True, eq=False)
class Traded:
    """What an account came to.

    Attributes:
        equity: money at each close from the first bar on, shape (n_bars,).
        moved: money that came or went at each close and is no return, shape (n_bars,).
        orders: the orders of each close, by bar.
        modelled: what each order would have come to by the rules of the study, in this very account.
    """

    equity: FloatArray
    moved: FloatArray
    orders: Mapping[int, tuple[Order, ...]]
    modelled: Mapping[str, Executed]


Filled = Callable[[Order, Executed], Executed]
"""What an order has come to, given what it would have come to by the rules of the study."""


def by_rules(plan: PreparedFlow, steps: Steps) -> Traded:
    """An account whose orders, stops and margin are those of a backtest.

    Args:
        plan: the flow of the set; its first decision is at ``steps.start``.
        steps: what is given to the account.
    """
    flow = _opened(plan, None)
    orders: dict[int, tuple[Order, ...]] = {}
    for index in range(plan.bars.n_bars):
        if index == steps.start:
            flow.takeover = steps.account
        flow.on_bar(plan.bars.at(index))
        if index >= steps.start:
            orders[index] = flow.account.execution.active_orders
    return Traded(np.array(flow.account.equity), flow.moved(), orders, {})


def by_broker(plan: PreparedFlow, steps: Steps, filled: Filled) -> Traded:
    """An account whose orders a broker fills; a stop is an order to close at the next open.

    Args:
        plan: the flow of the set; its first decision is at ``steps.start``.
        steps: what is given to the account.
        filled: says what each order has come to.
    """
    gate, bars, rules = _Gate(), plan.bars, plan.rules
    flow = _opened(plan, gate)
    spec = plan.specs[0]
    waiting: Sequence[Order] = ()
    orders: dict[int, tuple[Order, ...]] = {}
    modelled: dict[str, Executed] = {}
    for index in range(bars.n_bars):
        bar = bars.at(index)
        gate.ready = []
        if waiting:
            container = flow.account.container
            seen = SeenBar(bar, bars.at(index - 1), flow.market_of(bar), rules.rates[index])
            known = spec, rules, bars.symbols, bars.bars_per_year
            opened = account_at_open(*known, seen, container.cash, container.lots)
            found = modelled_fills(spec, rules, seen, opened, waiting)
            modelled |= found
            gate.ready = _fills(
                plan, bar, [(one, filled(one, found[one.id])) for one in waiting], container.lots
            )
        flow.takeover = steps.account if index == steps.start else steps.takeovers.get(index)
        flow.adjustment = steps.strangers(index)
        gate.orders = []
        _done(flow.on_bar_of_broker(bar))
        waiting = sorted(gate.orders, key=lambda one: one.symbol)
        if index >= steps.start:
            orders[index] = tuple(waiting)
    return Traded(np.array(flow.account.equity), flow.moved(), orders, modelled)


def _opened(plan: PreparedFlow, gate: _Gate | None) -> _Watched:
    flow = plan.opened(None, _Watched, gate)
    assert isinstance(flow, _Watched)
    plan.extend(flow)
    return flow


def _fills(
    plan: PreparedFlow,
    bar: Bar,
    executed: Sequence[tuple[Order, Executed]],
    held: Sequence[float],
) -> list[Fill]:
    """The fills of a bar as a broker reports them, reductions first."""
    fills = [
        broker_fill(
            order,
            f"{order.id}.fill",
            bar.time,
            one.quantity,
            one.price,
            one.commission,
            float(plan.rules.lot_money[order.symbol]),
        )
        for order, one in executed
        if one.quantity != 0.0
    ]
    return sorted(fills, key=lambda fill: fill.lots * held[fill.symbol] >= 0.0)


class _Gate:
    """The broker of a flow: gives it the fills of a bar, and keeps what it orders."""

    def __init__(self) -> None:
        self.ready: list[Fill] = []
        self.orders: list[Order] = []

    async def submit(self, orders: Sequence[Order]) -> Sequence[str]:
        self.orders += orders
        return [order.id for order in orders]

    async def fills(self) -> Sequence[Fill]:
        return self.ready


class _Watched(AccountTakingFlow):
    """A flow that knows how much money a takeover moved, and that books trades of somebody else."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.adjustment: Adjustment | None = None
        self._moves: dict[int, float] = {}

    def moved(self) -> FloatArray:
        """Money that came or went at each bar from the first decision on."""
        return np.array([self._moves.get(self._first + i, 0.0) for i in range(len(self._times))])

    def _take_over(self, one: AccountFlow, bar: Bar) -> bool:
        container, given = one.container, self.adjustment
        if given is not None:
            self.adjustment = None
            lots = tuple(held + given.lots.get(s, 0.0) for s, held in enumerate(container.lots))
            entries = (None,) * len(lots)
            self.takeover = Takeover(bar.index, container.cash + given.cash, lots, entries)
            return super()._take_over(one, bar)
        before = container.equity
        taken = super()._take_over(one, bar)
        if taken and bar.index not in self._moves:
            # What is held at the first bar is where the account begins.
            self._moves[bar.index] = container.equity - before if bar.index > self._first else 0.0
        return taken


def _done(coroutine: Coroutine[Any, Any, _Result]) -> _Result:
    """The result of a coroutine that waits for nothing, also where an event loop is running."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: _Result = end.value
        return result
    raise AssertionError("a broker that answers at once has made the flow wait")
