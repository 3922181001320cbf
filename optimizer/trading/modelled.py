"""What orders fill at by the rules of their study, one bar at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kernels import layout
from optimizer.flow.containers.execution import ExecutionContainer
from optimizer.flow.containers.portfolio import PortfolioContainer
from optimizer.flow.portfolios import PortfolioSpec
from optimizer.sweep.rules import Rules
from optimizer.trading.broker import SeenBar
from optimizer.types import Fill, Order


@dataclass(frozen=True)
class Executed:
    """What an order has come to.

    Attributes:
        quantity: units filled, signed; 0 for nothing.
        lots: the same in lots.
        price: mean price; 0 where nothing has filled.
        commission: money for all of it.
        reason: why it has not filled; empty where it has, in part or whole.
    """

    quantity: float = 0.0
    lots: float = 0.0
    price: float = 0.0
    commission: float = 0.0
    reason: str = ""


def account_at_open(
    spec: PortfolioSpec,
    rules: Rules,
    symbols: tuple[str, ...],
    bars_per_year: float,
    seen: SeenBar,
    cash: float,
    lots: Sequence[float],
) -> PortfolioContainer:
    """An account at the open of a bar: interest and payments of the time before it are booked.

    Args:
        spec: whose costs are paid.
        rules: the rules of the study.
        symbols: the symbols in the order of the bars' columns.
        bars_per_year: number of bars in a year.
        seen: the bar.
        cash: money at the close before.
        lots: position of each symbol then, signed.
    """
    container = PortfolioContainer(spec.id, symbols, rules, bars_per_year)
    nothing = np.zeros(len(lots))
    container.take_over(cash, tuple(lots), (None,) * len(lots), seen.before, nothing)
    credit, debit, years = (
        float(seen.rates[column]) for column in (layout.CREDIT, layout.DEBIT, layout.YEARS)
    )
    container.carry(credit, debit, years, seen.bar.payments)
    return container


def modelled_fills(
    spec: PortfolioSpec,
    rules: Rules,
    seen: SeenBar,
    container: PortfolioContainer,
    orders: Sequence[Order],
) -> dict[str, Executed]:
    """Fill orders as the study does: reductions first, then what buying power carries.

    Args:
        spec: whose costs are paid.
        rules: the rules of the study.
        seen: the bar at whose open they fill.
        container: the account at that open, which books the fills.
        orders: the orders, at most one a symbol, in the order of the symbols.

    Returns:
        What each order has come to, by its ID.
    """
    execution = ExecutionContainer(spec.id, spec.costs, rules.leverage, rules.allow_short)
    execution.submit_orders(orders)
    fills: list[Fill] = []
    for fill in execution.execute_reductions(seen.market, container.lots):
        container.process_fills((fill,))
        fills.append(fill)
    power = container.buying_power(seen.market.prices)
    added = execution.execute_additions(seen.market, power)
    container.process_fills(added)
    fills += added
    reasons = {order.id: reason for order, reason in execution.rejected_orders}
    found = {}
    for order in orders:
        own = [fill for fill in fills if fill.order_id == order.id]
        if not own:
            found[order.id] = Executed(reason=reasons.get(order.id, "lapsed"))
            continue
        filled = sum(fill.lots for fill in own)
        quantity = sum(fill.quantity for fill in own)
        price = sum(fill.quantity * fill.price for fill in own) / quantity
        money = float(rules.lot_money[order.symbol]) * price * filled
        paid = sum(fill.lots * fill.cash_per_lot for fill in own)
        whole = filled == order.lots
        reason = "" if whole else reasons.get(order.id, "lapsed")
        found[order.id] = Executed(quantity, filled, price, paid - money, reason)
    return found
