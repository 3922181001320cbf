"""Fills orders at the bar's price with all costs: reductions first, then what buying power carries."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from kernels.execution import cut_lots, lot_need, payable_share
from kernels.risk import reducing_part
from optimizer.sweep.costs import Costs, Terms
from optimizer.types import (
    NO_BUYING_POWER,
    NO_VOLUME,
    NOT_TRADED,
    Bar,
    Fill,
    FloatArray,
    Order,
)


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
        submitted: number of orders.
        filled: number of fills of orders.
        cut: number of fills that volume or buying power made smaller.
        lapsed: number of orders without any fill.
        closed: number of positions that stops or margin calls reduced.
    """

    submitted: int = 0
    filled: int = 0
    cut: int = 0
    lapsed: int = 0
    closed: int = 0


@dataclass(frozen=True, slots=True)
class Market:
    """What the orders of a bar fill at.

    Attributes:
        bar: of the fill.
        prices: before costs, shape (n_symbols,).
        volatilities: per bar, at the decision, shape (n_symbols,).
    """

    bar: Bar
    prices: FloatArray
    volatilities: FloatArray


@dataclass(frozen=True, slots=True)
class _Addition:
    """The part of an order that opens or adds."""

    order: Order
    lots: float
    second: bool  # the order has closed a position before


class ExecutionContainer:
    """The orders of one portfolio that wait for their fill.

    Args:
        costs: of the portfolio.
        leverage: buying power over equity.
        allow_short: whether short positions are allowed.
        broker: takes the orders of real trading; None without one.
    """

    def __init__(
        self, costs: Costs, leverage: float, allow_short: bool, broker: Broker | None = None
    ) -> None:
        self._costs = costs
        self._leverage = leverage
        self._short = True if allow_short else None
        self._broker = broker
        self._active: tuple[Order, ...] = ()
        self._additions: list[_Addition] = []
        self._rejected: list[tuple[Order, str]] = []
        self._counts = ExecutionStatistics()

    @property
    def active_orders(self) -> tuple[Order, ...]:
        """Orders that wait for their fill."""
        return self._active

    @property
    def rejected_orders(self) -> tuple[tuple[Order, str], ...]:
        """Orders of the last execution that have no fill, each with its reject reason."""
        return tuple(self._rejected)

    @property
    def statistics(self) -> ExecutionStatistics:
        """Counts since the start."""
        return self._counts

    def submit_orders(self, orders: Sequence[Order]) -> None:
        """Keep orders for the next fill.

        Args:
            orders: of one bar, in the order of the symbols, at most one per symbol.
        """
        self._active = (*self._active, *orders)
        self._count(submitted=len(orders))

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

    def execute_reductions(self, market: Market, lots: Sequence[float]) -> list[Fill]:
        """Fill what reduces positions. No order is active any more; its rest waits for the additions.

        An order whose symbol does not trade lapses.

        Args:
            market: at which they fill.
            lots: position of each symbol, signed.
        """
        orders, self._active = self._active, ()
        self._additions, self._rejected = [], []
        fills = []
        for order in orders:
            s = order.symbol
            if not market.bar.traded[s]:
                self._reject(order, NOT_TRADED)
                continue
            part = float(reducing_part(order.lots, lots[s], self._short))
            rest = order.lots - part
            if part != 0.0:
                quantity = self._costs.limited(s, abs(part), float(market.bar.market_volume[s]))
                if quantity > 0.0:
                    change = math.copysign(quantity, part)
                    fills.append(self._fill(order, market, change, "fill"))
                else:
                    self._reject(order, NO_VOLUME)
                if quantity < abs(part):
                    self._count(cut=int(quantity > 0.0))
                    # What is left of the position cannot be turned around.
                    rest = 0.0
            if rest != 0.0:
                self._additions.append(_Addition(order, rest, second=part != 0.0))
        self._count(filled=len(fills))
        return fills

    def execute_additions(self, market: Market, power: float) -> list[Fill]:
        """Fill what opens or adds, after ``execute_reductions``; all of it shares the buying power.

        Args:
            market: at which they fill.
            power: buying power after the reductions, money.
        """
        limited: list[tuple[_Addition, float]] = []
        need = fixed = 0.0
        for one in self._additions:
            s = one.order.symbol
            quantity = self._costs.limited(s, abs(one.lots), float(market.bar.market_volume[s]))
            if quantity == 0.0:
                self._leave_out(one, NO_VOLUME)
                continue
            change = math.copysign(quantity, one.lots)
            terms = self._terms(s, change, float(market.prices[s]), market)
            need += quantity * lot_need(terms.raw_value, terms.cash_per_lot, self._leverage)
            fixed += self._leverage * self._costs.fixed(s)
            limited.append((one, quantity))
        self._additions = []
        if not limited:
            return []
        share = payable_share(power, need, fixed)
        fills = []
        for one, quantity in limited:
            paid = float(cut_lots(quantity, share))
            if paid == 0.0:
                self._leave_out(one, NO_BUYING_POWER)
                continue
            self._count(cut=int(paid < abs(one.lots)))
            change = math.copysign(paid, one.lots)
            fills.append(self._fill(one.order, market, change, "fill2" if one.second else "fill"))
        self._count(filled=len(fills))
        return fills

    def close_position(
        self,
        id: str,
        kind: str,
        symbol: int,
        lots: float,
        price: float,
        market: Market,
        opening_order_id: str | None,
        level: float | None = None,
    ) -> Fill | None:
        """Close a position whose stop was reached, or for which the margin does not suffice.

        Args:
            id: of the fill.
            kind: ``stop``, of which the bar's volume lets through a share, or ``liquidation``.
            symbol: index.
            lots: held, signed.
            price: at which it closes, before costs.
            market: the bar and the volatilities; its prices are not read.
            opening_order_id: ID of the order that opened the position.
            level: of the stop.

        Returns:
            The fill, or None if the bar's volume lets no lot through.
        """
        quantity = abs(lots)
        if kind == "stop":
            volume = float(market.bar.market_volume[symbol])
            quantity = self._costs.limited(symbol, quantity, volume)
        if quantity == 0.0:
            return None
        self._count(closed=1)
        change = math.copysign(quantity, -lots)
        fill = self._trade(id, None, kind, symbol, change, price, market)
        return replace(fill, opening_order_id=opening_order_id, stop_level=level)

    def _terms(self, symbol: int, lots: float, price: float, market: Market) -> Terms:
        volatility, volume = market.volatilities[symbol], market.bar.market_volume[symbol]
        return self._costs.terms(symbol, lots, price, float(volatility), float(volume))

    def _reject(self, order: Order, reason: str) -> None:
        self._rejected.append((order, reason))
        self._count(lapsed=1)

    def _leave_out(self, addition: _Addition, reason: str) -> None:
        """An addition does not fill: its order lapses, unless it has closed a position."""
        if addition.second:
            self._count(cut=1)
        else:
            self._reject(addition.order, reason)

    def _count(self, **more: int) -> None:
        counts = {name: getattr(self._counts, name) + number for name, number in more.items()}
        self._counts = replace(self._counts, **counts)

    def _fill(self, order: Order, market: Market, change: float, suffix: str) -> Fill:
        s = order.symbol
        price = float(market.prices[s])
        return self._trade(f"{order.id}.{suffix}", order.id, "order", s, change, price, market)

    def _trade(
        self,
        id: str,
        order_id: str | None,
        kind: str,
        symbol: int,
        lots: float,
        price: float,
        market: Market,
    ) -> Fill:
        terms = self._terms(symbol, lots, price, market)
        return Fill(
            id=id,
            order_id=order_id,
            bar=market.bar.index,
            symbol=symbol,
            kind=kind,
            lots=lots,
            quantity=lots * self._costs.lot_units[symbol],
            price=terms.price,
            raw_value=terms.raw_value,
            cash_per_lot=terms.cash_per_lot,
            cost=abs(lots) * abs(terms.raw_value - terms.cash_per_lot),
        )
