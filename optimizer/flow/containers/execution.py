"""Fills orders at the bar's price with all costs: reductions first, then what buying power carries."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from kernels.codes import LIMIT_ENTRY
from kernels.execution import cut_lots, fill_costs, lot_need, payable_share
from kernels.risk import reducing_part
from optimizer.errors import FlowError
from optimizer.flow.broker import Broker
from optimizer.flow.waiting import Addition, EntryTerms, WaitingEntries
from optimizer.sweep.costs import Costs, Terms
from optimizer.types import (
    NO_BUYING_POWER,
    NO_VOLUME,
    NOT_FILLED,
    NOT_HELD,
    NOT_TRADED,
    Bar,
    Fill,
    FloatArray,
    Order,
)


@dataclass(frozen=True)
class ExecutionStatistics:
    """Counts since the start.

    Attributes:
        submitted: number of orders.
        filled: number of fills of orders.
        cut: number of fills that volume or buying power made smaller.
        lapsed: number of orders without any fill.
        closed: number of positions that were reduced without an order.
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
        bar: the bar of the fill.
        prices: the prices before costs, shape (n_symbols,).
        volatilities: the volatilities per bar, at the decision, shape (n_symbols,).
        ranges: the average true ranges at the decision, in units of price, shape (n_symbols,); None where
            unused.
    """

    bar: Bar
    prices: FloatArray
    volatilities: FloatArray
    ranges: FloatArray | None = None


class ExecutionContainer:
    """The orders of one portfolio that wait for their fill.

    Args:
        portfolio_id: the ID of the portfolio.
        costs: the costs of the portfolio.
        leverage: buying power over equity.
        allow_short: whether short positions are allowed.
        entries: where additions wait; None where they fill at the open.
        broker: takes the orders of real trading; None without one.
    """

    def __init__(
        self,
        portfolio_id: str,
        costs: Costs,
        leverage: float,
        allow_short: bool,
        entries: EntryTerms | None = None,
        broker: Broker | None = None,
    ) -> None:
        self._id = portfolio_id
        self._costs = costs
        self._leverage = leverage
        self._short = True if allow_short else None
        self._limit = entries is not None and entries.entry == LIMIT_ENTRY
        self._broker = broker
        self.waiting = None if entries is None else WaitingEntries(entries, allow_short)
        self._active: tuple[Order, ...] = ()
        self._additions: list[Addition] = []
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
            orders: the orders of one bar, in the order of the symbols, at most one per symbol.

        Raises:
            FlowError: an order is another portfolio's, or its symbol already has one of the same bar;
                none is kept.
        """
        known = {(one.bar, one.symbol): one for one in self._active}
        for order in orders:
            if order.portfolio_id != self._id:
                raise FlowError(
                    f"order {order.id}: is of portfolio {order.portfolio_id}, not of {self._id}; submit"
                    " it there"
                )
            other = known.setdefault((order.bar, order.symbol), order)
            if other is not order:
                raise FlowError(
                    f"order {order.id}: {order.name} already has an order of bar {order.bar}, {other.id};"
                    " give one a symbol and bar, with the sum of their lots"
                )
        self._active = (*self._active, *orders)
        self._count(submitted=len(orders))

    def replace_orders(self, orders: Sequence[Order]) -> None:
        """Keep other orders for the next fill in place of those that wait.

        Args:
            orders: the orders of one bar, as ``submit_orders`` takes them.

        Raises:
            FlowError: see ``submit_orders``.
        """
        self._count(submitted=-len(self._active))
        self._active = ()
        self.submit_orders(orders)

    async def submit_to_real_broker(self, orders: Sequence[Order]) -> Sequence[str]:
        """Send orders to the broker, and keep them until ``take_fills`` has its answer.

        Args:
            orders: the orders of one bar, at most one per symbol.

        Returns:
            The broker's reference of each order.

        Raises:
            FlowError: an order is refused, see ``submit_orders``; none is sent.
            RuntimeError: there is no broker.
        """
        if self._broker is None:
            raise RuntimeError("no broker: ExecutionContainer was made without one")
        self.submit_orders(orders)
        return await self._broker.submit(orders) if orders else ()

    def take_fills(
        self, fills: Sequence[Fill], bar: Bar, lots: Sequence[float]
    ) -> tuple[Fill, ...]:
        """Take what the broker has filled, in place of filling. No order is active any more.

        Args:
            fills: the broker's fills of the active orders, in any number.
            bar: the bar in which they filled.
            lots: position of each symbol, signed.

        Returns:
            The fills, in their order and of that bar; one that turns a position around as two of them.

        Raises:
            FlowError: a fill is of no active order, of another symbol, or goes beyond its order.
        """
        active, self._active = {order.id: order for order in self._active}, ()
        held, left = list(lots), {order.id: order.lots for order in active.values()}
        taken: list[Fill] = []
        for fill in fills:
            order = active.get(fill.order_id or "")
            if order is None or order.symbol != fill.symbol:
                raise FlowError(
                    f"fill {fill.id} of the broker: of order {fill.order_id}, which portfolio {self._id}"
                    f" has not sent for it; cancel orders that are not filled when a bar closes"
                )
            if fill.lots * order.lots <= 0.0 or abs(fill.lots) > abs(left[order.id]):
                raise FlowError(
                    f"fill {fill.id} of the broker: {fill.lots:g} lots of {order.name}, of which"
                    f" {left[order.id]:g} of order {order.id} were left"
                )
            left[order.id] -= fill.lots
            part = float(reducing_part(fill.lots, held[fill.symbol], True))
            held[fill.symbol] += fill.lots
            taken += _turned(replace(fill, bar=bar.index), part)
        cut = sum(0.0 < abs(left[id]) < abs(order.lots) for id, order in active.items())
        self._rejected = [(one, NOT_FILLED) for id, one in active.items() if left[id] == one.lots]
        self._count(filled=len(taken), cut=cut, lapsed=len(self._rejected))
        return tuple(taken)

    def execute_reductions(self, market: Market, lots: Sequence[float]) -> list[Fill]:
        """Fill what reduces positions. No order is active any more; its rest waits for the additions.

        An order whose symbol does not trade lapses. Entries that wait at a price are left out. Where
        short positions are off, no more is sold than is held: such an order is cut, or lapses.

        Args:
            market: the bar at which they fill.
            lots: position of each symbol, signed.

        Returns:
            The fills, in the order of the symbols.
        """
        orders, self._active = self._active, ()
        self._additions, self._rejected = [], []
        fills = []
        for order in orders:
            s = order.symbol
            part = float(reducing_part(order.lots, lots[s], self._short))
            if not market.bar.traded[s]:
                if self.waiting is None or part == order.lots:
                    self._reject(order, NOT_TRADED)
                continue
            rest = order.lots - part
            if self._short is None and part < -max(lots[s], 0.0):
                # A rule of one's own may sell more than is held: that must not become a short position.
                part = -max(lots[s], 0.0)
                if part == 0.0:
                    self._reject(order, NOT_HELD)
                    continue
                self._count(cut=1)
            if part != 0.0:
                quantity = self._costs.limited(s, abs(part), float(market.bar.market_volume[s]))
                if quantity > 0.0:
                    change = math.copysign(quantity, part)
                    price = float(market.prices[s])
                    fills.append(self._fill(order, market, change, price, "fill"))
                else:
                    self._reject(order, NO_VOLUME)
                if quantity < abs(part):
                    self._count(cut=int(quantity > 0.0))
                    # What is left of the position cannot be turned around.
                    rest = 0.0
                    if self.waiting is not None:
                        self.waiting.cancel(s)
            if rest != 0.0 and self.waiting is None:
                self._additions.append(Addition(order, rest, second=part != 0.0))
        self._count(filled=len(fills))
        return fills

    def execute_additions(self, market: Market, power: float) -> list[Fill]:
        """Fill what opens or adds, after ``execute_reductions``; all of it shares the buying power.

        Args:
            market: the bar at which they fill.
            power: buying power after the reductions, money.

        Returns:
            The fills, in the order of the symbols.
        """
        priced = [(one, float(market.prices[one.order.symbol])) for one in self._additions]
        self._additions = []
        return self._share(priced, market, power, limit=False)

    def execute_entries(
        self, reached: Sequence[tuple[Addition, float]], market: Market, power: float
    ) -> list[Fill]:
        """Fill entries whose price the bar has reached; all of them share the buying power.

        Args:
            reached: each entry with the price of the market at which it fills.
            market: the bar, or a finer one inside it; its prices are not read.
            power: buying power, money.

        Returns:
            The fills, in the order of the symbols.
        """
        self._rejected = []
        return self._share(reached, market, power, self._limit)

    def _share(
        self,
        priced: Sequence[tuple[Addition, float]],
        market: Market,
        power: float,
        limit: bool,
    ) -> list[Fill]:
        """Fill what opens or adds at its price, as far as the buying power carries it."""
        limited: list[tuple[Addition, float, float]] = []
        need = fixed = 0.0
        for one, price in priced:
            s = one.order.symbol
            quantity = self._costs.limited(s, abs(one.lots), float(market.bar.market_volume[s]))
            if quantity == 0.0:
                self._leave_out(one, NO_VOLUME)
                continue
            change = math.copysign(quantity, one.lots)
            terms = self._terms(s, change, price, market, limit)
            need += quantity * lot_need(
                math.copysign(1.0, change), terms.raw_value, terms.cash_per_lot, self._leverage
            )
            fixed += self._leverage * self._costs.fixed(s)
            limited.append((one, price, quantity))
        if not limited:
            return []
        share = payable_share(power, need, fixed)
        fills = []
        for one, price, quantity in limited:
            paid = float(cut_lots(quantity, share))
            if paid == 0.0:
                self._leave_out(one, NO_BUYING_POWER)
                continue
            self._count(cut=int(paid < abs(one.lots)))
            change = math.copysign(paid, one.lots)
            suffix = "fill2" if one.second else "fill"
            fills.append(self._fill(one.order, market, change, price, suffix, limit))
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
        """Close a position by a stop, for lack of margin, or at the end of its symbol.

        Args:
            id: the ID of the fill.
            kind: ``stop``, of which the bar's volume lets through a share, ``liquidation`` or ``end``.
            symbol: index.
            lots: held, signed.
            price: the price at which it closes, before costs.
            market: the bar and the volatilities; its prices are not read.
            opening_order_id: ID of the order that opened the position.
            level: the level of the stop.

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

    def _terms(self, symbol: int, lots: float, price: float, market: Market, limit: bool) -> Terms:
        volatility, volume = market.volatilities[symbol], market.bar.market_volume[symbol]
        return self._costs.terms(symbol, lots, price, float(volatility), float(volume), limit)

    def _reject(self, order: Order, reason: str) -> None:
        self._rejected.append((order, reason))
        self._count(lapsed=1)

    def _leave_out(self, addition: Addition, reason: str) -> None:
        """An addition does not fill: its order lapses, unless it has closed a position."""
        if addition.second:
            self._count(cut=1)
        else:
            self._reject(addition.order, reason)

    def _count(self, **more: int) -> None:
        counts = {name: getattr(self._counts, name) + number for name, number in more.items()}
        self._counts = replace(self._counts, **counts)

    def _fill(
        self,
        order: Order,
        market: Market,
        change: float,
        price: float,
        suffix: str,
        limit: bool = False,
    ) -> Fill:
        id, s = f"{order.id}.{suffix}", order.symbol
        return self._trade(id, order.id, "order", s, change, price, market, limit)

    def _trade(
        self,
        id: str,
        order_id: str | None,
        kind: str,
        symbol: int,
        lots: float,
        price: float,
        market: Market,
        limit: bool = False,
    ) -> Fill:
        terms = self._terms(symbol, lots, price, market, limit)
        return Fill(
            id=id,
            portfolio_id=self._id,
            order_id=order_id,
            bar=market.bar.index,
            time=market.bar.time,
            symbol=symbol,
            kind=kind,
            lots=lots,
            quantity=lots * self._costs.lot_units[symbol],
            price=terms.price,
            raw_value=terms.raw_value,
            cash_per_lot=terms.cash_per_lot,
            cost=fill_costs(lots, terms.raw_value, terms.cash_per_lot) + 0.0,
        )


def _turned(fill: Fill, part: float) -> list[Fill]:
    """A fill of which ``part`` reduces a position: itself, or two where the rest opens another."""
    if part in (0.0, fill.lots):
        return [fill]
    first = part / fill.lots
    shares = ((fill.id, part, first), (f"{fill.id}2", fill.lots - part, 1.0 - first))
    return [
        replace(fill, id=id, lots=lots, quantity=fill.quantity * share, cost=fill.cost * share)
        for id, lots, share in shares
    ]
