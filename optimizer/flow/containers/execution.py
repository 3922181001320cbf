"""Fills orders at the bar's price with costs: sells before buys, buys cut to what cash can pay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from kernels.execution import affordable_lots, buy_cost_per_lot
from optimizer.sweep.fill_terms import fill_terms
from optimizer.types import Fill, FloatArray, Order


class Broker(Protocol):
    """A real broker: the one place where orders could leave the process. barsweep has none."""

    async def submit(self, orders: Sequence[Order]) -> Sequence[str]:
        """Send orders; return the broker's reference of each.

        Args:
            orders: of one portfolio.
        """


@dataclass(frozen=True)
class ExecutionStatistics:
    """Counts since the start.

    Attributes:
        submitted, filled, cut: numbers of orders; for those cut, cash did not pay all of their lots.
        stopped: number of positions that stops closed.
    """

    submitted: int = 0
    filled: int = 0
    cut: int = 0
    stopped: int = 0


class ExecutionContainer:
    """The orders of one portfolio that wait for their fill.

    Args:
        lot_size: units per lot.
        slippage, commission: fractions.
        broker: takes the orders of real trading; None without one.
    """

    def __init__(
        self, lot_size: float, slippage: float, commission: float, broker: Broker | None = None
    ) -> None:
        self._lot_size = lot_size
        self._slippage = slippage
        self._commission = commission
        self._broker = broker
        self._active: tuple[Order, ...] = ()
        self._unpaid: tuple[Order, ...] = ()
        self._counts = [0, 0, 0, 0]

    @property
    def active_orders(self) -> tuple[Order, ...]:
        """Orders that wait for their fill."""
        return self._active

    @property
    def unpaid_orders(self) -> tuple[Order, ...]:
        """Orders of the last execution that cash cut to nothing."""
        return self._unpaid

    @property
    def statistics(self) -> ExecutionStatistics:
        """Counts since the start."""
        return ExecutionStatistics(*self._counts)

    def submit_orders(self, orders: Sequence[Order]) -> None:
        """Keep orders for the next fill.

        Args:
            orders: of one bar.
        """
        self._active = (*self._active, *orders)
        self._counts[0] += len(orders)

    async def submit_to_real_broker(self, orders: Sequence[Order]) -> Sequence[str]:
        """Send orders to the broker.

        Args:
            orders: of one bar.

        Raises:
            RuntimeError: there is no broker.
        """
        if self._broker is None:
            raise RuntimeError("no broker: ExecutionContainer was made without one")
        return await self._broker.submit(orders)

    def execute_orders(
        self, orders: Sequence[Order], bar: int, prices: FloatArray, cash: float
    ) -> list[Fill]:
        """Fill orders, which are then no longer active.

        Args:
            orders: in the order of the symbols, at most one per symbol.
            bar: index of the bar.
            prices: at which they fill, before slippage, shape (n_symbols,).
            cash: of the portfolio, money; sells add to it before buys take from it.
        """
        given = {order.id for order in orders}
        self._active = tuple(order for order in self._active if order.id not in given)
        fills, unpaid = [], []
        for order in orders:
            if order.lots < 0.0:
                fill = self._fill(order, bar, order.lots, float(prices[order.symbol]))
                cash = cash + -fill.lots * fill.cash_per_lot
                fills.append(fill)
        for order in orders:
            if order.lots > 0.0:
                price = float(prices[order.symbol])
                cost = buy_cost_per_lot(price, self._lot_size, self._slippage, self._commission)
                lots = min(order.lots, affordable_lots(cash, cost, 1.0 / cost))
                self._counts[2] += lots < order.lots
                if lots > 0.0:
                    fill = self._fill(order, bar, lots, price)
                    cash = cash - fill.lots * fill.cash_per_lot
                    fills.append(fill)
                else:
                    unpaid.append(order)
        self._unpaid = tuple(unpaid)
        self._counts[1] += len(fills)
        return fills

    def _fill(self, order: Order, bar: int, lots: float, price: float) -> Fill:
        return self._trade(f"{order.id}.fill", order.id, bar, order.symbol, "order", lots, price)

    def close_position(
        self,
        id: str,
        bar: int,
        symbol: int,
        lots: float,
        price: float,
        level: float,
        opening_order_id: str | None,
        cash: float,
    ) -> Fill | None:
        """Close a position whose stop was reached; of a short one as many lots as cash can pay.

        Args:
            id: of the fill.
            bar: index of the bar.
            symbol: index.
            lots: held, signed.
            price: at which the stop closes, before slippage.
            level: of the stop.
            opening_order_id: ID of the order that opened the position.
            cash: of the portfolio, money.

        Returns:
            The fill, or None if cash does not pay a lot.
        """
        change = -lots
        if change > 0.0:
            cost = buy_cost_per_lot(price, self._lot_size, self._slippage, self._commission)
            change = min(change, affordable_lots(cash, cost, 1.0 / cost))
        if change == 0.0:
            return None
        self._counts[3] += 1
        fill = self._trade(id, None, bar, symbol, "stop", change, price)
        return replace(fill, opening_order_id=opening_order_id, stop_level=level)

    def _trade(
        self,
        id: str,
        order_id: str | None,
        bar: int,
        symbol: int,
        kind: str,
        lots: float,
        price: float,
    ) -> Fill:
        terms = fill_terms(lots, price, self._lot_size, self._slippage, self._commission)
        return Fill(
            id=id,
            order_id=order_id,
            bar=bar,
            symbol=symbol,
            kind=kind,
            lots=lots,
            quantity=lots * self._lot_size,
            price=terms.price,
            raw_value=terms.raw_value,
            cash_per_lot=terms.cash_per_lot,
            cost=terms.cost,
        )
