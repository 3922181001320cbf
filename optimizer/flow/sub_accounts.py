"""Flows of one portfolio each that trade in sub-accounts of one account."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import replace

import numpy as np

from optimizer.flow.event_flow import EventFlow, FlowResult
from optimizer.flow.prepared import PreparedFlow
from optimizer.sweep.rules import Rules
from optimizer.sweep.sub_accounts import Rebalancing, free_money, scaled_orders
from optimizer.types import Bar, FloatArray, Order, correlation_id


class FlowSubAccount:
    """The one portfolio of a flow as a sub-account, see ``SubAccount``.

    Money moves between ``take_bar`` and ``end_bar`` of the flow.

    Args:
        flow: the flow.
        rules: the rules of its study.
        bar: the bar that it has taken last.
    """

    def __init__(self, flow: EventFlow, rules: Rules, bar: Bar) -> None:
        (self._account,) = flow.accounts
        self._rules, self._bar = rules, bar
        self._regime_id = flow.regime_of(self._account).id

    @property
    def equity(self) -> float:
        """Money at the close."""
        return self._account.container.equity

    def free(self, closes: FloatArray) -> float:
        """The money that may leave, see ``free_money``.

        Args:
            closes: the closes, shape (n_symbols,).
        """
        return free_money(self.equity, self._lots, closes, self._rules)

    def move(self, money: float) -> None:
        """Pay money in, or out if negative.

        Args:
            money: money.
        """
        self._account.container.move(money)

    def scale(self, factor: float, *, additions: bool = False) -> None:
        """Scale the targets that the close has decided.

        Args:
            factor: times as much.
            additions: whether additions alone are scaled.
        """
        decided = {order.symbol: order for order in self._account.decided}
        lots, orders = self._lots, np.zeros(len(self._bar.symbols))
        for s, order in decided.items():
            orders[s] = order.lots
        changes = scaled_orders(lots, orders, factor, additions=additions).tolist()
        self._account.replace_decided(
            [
                self._order(decided.get(s), s, change, float(lots[s]))
                for s, change in enumerate(changes)
                if change != 0.0
            ]
        )

    @property
    def _lots(self) -> FloatArray:
        return np.array(self._account.container.lots)

    def _order(self, decided: Order | None, symbol: int, lots: float, held: float) -> Order:
        """An order of other size, or one of a symbol for which none was decided."""
        bar, spec, target = self._bar, self._account.spec, held + lots
        quantity = lots * float(self._rules.lot_units[symbol])
        if decided is not None:
            return replace(decided, lots=lots, quantity=quantity, target=target)
        name = bar.symbols[symbol]
        return Order(
            id=correlation_id(spec.id, bar.index, name, "order"),
            portfolio_id=spec.id,
            bar=bar.index,
            time=bar.time,
            symbol=symbol,
            name=name,
            lots=lots,
            quantity=quantity,
            wanted=target,
            budget_share=1.0,
            target=target,
            signal_id=correlation_id(spec.signal_key, bar.index, name, "signal"),
            regime_id=self._regime_id,
        )


def bring_back(
    flows: Sequence[tuple[EventFlow, PreparedFlow]],
    back: Rebalancing,
    index: int,
    due: Set[int],
) -> list[float]:
    """Do what the schedule asks at the close of a bar that each flow has taken and none has ended.

    Args:
        flows: flows of one portfolio, each with what it was prepared from, on the same bars.
        back: how their accounts are brought back to their shares.
        index: index of the bar.
        due: the bars of the schedule.

    Returns:
        What each is paid, negative where it pays.
    """
    if index not in due and index - 1 not in due:
        return [0.0] * len(flows)
    bar = flows[0][1].bars.at(index)
    subs = [FlowSubAccount(flow, plan.rules, bar) for flow, plan in flows]
    return back.at_close(subs, index, due, bar.close)


def run_sub_accounts(flows: Sequence[PreparedFlow], back: Rebalancing) -> list[FlowResult]:
    """Take the bars through flows whose accounts are brought back to their shares.

    Args:
        flows: flows of one portfolio, of the same bars and first decision.
        back: how their accounts are brought back to their shares.

    Returns:
        What each did.
    """
    opened = [one.opened() for one in flows]
    bars, first = flows[0].bars, flows[0].first
    due = back.due(bars.timestamps, first)
    for index in range(bars.n_bars):
        bar = bars.at(index)
        for flow in opened:
            flow.take_bar(bar)
        bring_back(list(zip(opened, flows, strict=True)), back, index, due)
        for flow in opened:
            flow.end_bar(bar)
    return [flow.result() for flow in opened]
