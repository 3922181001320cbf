"""One portfolio of an event flow on its way through a bar."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from kernels import layout
from kernels.codes import FLAT, PLACED, REASONS
from optimizer.flow.broker import Broker
from optimizer.flow.containers.execution import Market
from optimizer.flow.containers.portfolio import PortfolioContainer
from optimizer.flow.parts import execution_container
from optimizer.flow.portfolios import PortfolioSpec
from optimizer.flow.services.risk import StatelessRiskManager, StopInputs
from optimizer.flow.tracing import Reject, Tracer
from optimizer.sweep.rules import Rules
from optimizer.types import (
    NO_VOLUME,
    NOT_REACHED,
    Bar,
    Fill,
    FloatArray,
    IntArray,
    Order,
    Regime,
    Signal,
    correlation_id,
)


@dataclass(frozen=True, eq=False)
class BarParts:
    """What all portfolios share of a bar.

    Attributes:
        bar: the bar of all symbols.
        inside: the finer bars of it, or itself, each with what ends the IDs of its fills.
        ranges: average true ranges at its close, shape (n_symbols,).
        rates: interest of the time before it, shape (N_RATE_COLUMNS,), see ``kernels.layout``.
        closes: whether it closes a return of the metrics.
        refreshed: whether the correlations were refreshed at its close.
        matrix: the correlations, shape (n_symbols, n_symbols); None if they are unused.
    """

    bar: Bar
    inside: tuple[tuple[Bar, str], ...]
    ranges: FloatArray
    rates: FloatArray
    closes: bool
    refreshed: bool
    matrix: FloatArray | None


class AccountFlow:
    """The containers of one portfolio, and what a bar does to them.

    Args:
        spec: the portfolio.
        symbols: the symbols in the order of the bars' columns.
        rules: the rules of the study.
        ends: last bar of each symbol that ends before the bars do, shape (n_symbols,); -1 for others.
        bars_per_year: annualizes metrics.
        tracer: writes down what happens.
        broker: fills the orders; None fills them by the rules of the study.

    Attributes:
        spec: the portfolio.
        container: its positions and cash.
        execution: its orders.
        equity: money at each close from the first decision on.
        rejects: how often each reason kept a signal from an order or an order from a fill.
        decided: the orders of the last close.
    """

    def __init__(
        self,
        spec: PortfolioSpec,
        symbols: tuple[str, ...],
        rules: Rules,
        ends: IntArray,
        bars_per_year: float,
        tracer: Tracer,
        broker: Broker | None,
    ) -> None:
        self.spec = spec
        self.container = PortfolioContainer(spec.id, symbols, rules, bars_per_year)
        self.execution = execution_container(spec, rules, broker)
        self.equity: list[float] = []
        self.rejects: dict[str, int] = {}
        self.decided: tuple[Order, ...] = ()
        self._symbols = symbols
        self._rules = rules
        self._ends = ends
        self._tracer = tracer
        self._by_broker = broker is not None
        self._stopped: dict[int, float] = {}

    def extend(self, rules: Rules, ends: IntArray) -> None:
        """Let the portfolio go on beyond the bars for which it was made.

        Args:
            rules: the rules of the study on more bars.
            ends: last bar of each symbol that ends before these bars do; -1 for others.
        """
        self._rules, self._ends = rules, ends

    def until_decision(
        self, parts: BarParts, market: Market, filled: Sequence[Fill] | None
    ) -> None:
        """Take the bar up to the decisions at its close.

        Args:
            parts: what all portfolios share of the bar.
            market: the bar with its opens, and with volatilities and ranges of the close before.
            filled: what the broker has filled; None without a broker.
        """
        rules, container, bar = self._rules, self.container, parts.bar
        rates = parts.rates
        credit, debit = float(rates[layout.CREDIT]), float(rates[layout.DEBIT])
        years = float(rates[layout.YEARS])
        # The timeline of a bar. ``simulate`` in kernels/simulation.py holds the same timeline for
        # blocks of lanes, by design: lanes and containers have different state, and both call the
        # same scalar rules. tests/optimizer/flow/test_event_flow.py::test_events_equal_the_sweep
        # holds the two together, bit for bit.
        owes = rules.margin or rules.fees or bar.payments is not None
        if credit != 0.0 or (owes and years != 0.0):
            container.carry(credit, debit, years, bar.payments)
        if filled is not None:
            self._take(filled, parts, market)
        else:
            if not rules.close_fill:
                self._fill(market)
            for inside, suffix in self._inside(parts, market):
                entered = self._enter(inside)
                if rules.stops:
                    self._stop(inside, entered, suffix)
                if rules.margin and container.below_margin(inside.bar):
                    self._liquidate(inside, suffix)
            self._end(market)
            self._expire(bar)
        self._booked(container.mark(bar))
        container.update_variance()
        if not rules.close_fill:
            container.account(float(rates[layout.RISK_FREE]), closes=parts.closes)
        if parts.refreshed:
            container.refresh_correlation()

    def after_decision(self, parts: BarParts, market: Market, orders: Sequence[Order]) -> None:
        """Take the bar from the decisions at its close to its end.

        Args:
            parts: what all portfolios share of the bar.
            market: the bar with its closes, volatilities and ranges.
            orders: what was decided; a broker gets it from the flow.
        """
        container, bar, rules = self.container, parts.bar, self._rules
        self.decided = tuple(orders)
        if not self._by_broker:
            self.execution.submit_orders(orders)
        if self.execution.waiting is not None:
            self.execution.waiting.place(orders, container.lots, bar.close, parts.ranges)
        if rules.close_fill:
            self._fill(market)
            self._booked(container.mark(bar))
            container.account(float(parts.rates[layout.RISK_FREE]), closes=parts.closes)
        self.equity.append(container.equity)
        self._tracer.equity(
            self.spec.id,
            bar.index,
            container.equity,
            container.cash,
            container.exposure,
            container.drawdown,
        )

    def decide(
        self, parts: BarParts, signals: Sequence[Signal], regime: Regime
    ) -> tuple[Order, ...]:
        """The orders of a close.

        Args:
            parts: what all portfolios share of the bar.
            signals: the signals, one a symbol or none.
            regime: the regime of the market.
        """
        bar, container, waiting = parts.bar, self.container, self.execution.waiting
        if self._stopped:  # for a broker a stop is an exit at the close
            signals = [
                replace(one, direction=float(FLAT)) if one.symbol in self._stopped else one
                for one in signals
            ]
        decisions = StatelessRiskManager.process_signals_to_orders(
            signals,
            regime,
            container.get_state(),
            self.spec.risk,
            bar,
            parts.matrix,
            parts.ranges,
            None if waiting is None else waiting.lots(container.lots),
        )
        container.set_exits(decisions.barred, decisions.cooling, decisions.held_bars)
        for s, side in self._stopped.items():
            container.bar_after_stop(s, side, self.spec.risk.cooldown)
        self._stopped = {}
        rejects: list[Reject] = []
        ids = {signal.symbol: signal.id for signal in signals}
        for s, reason in enumerate(decisions.reasons):
            if reason != PLACED and s in ids:
                id = correlation_id(self.spec.id, bar.index, self._symbols[s], "reject")
                rejects.append(self._rejected(id, bar, s, REASONS[reason], ids[s], None, regime.id))
        self._tracer.rejects(rejects)
        return decisions.orders

    def replace_decided(self, orders: Sequence[Order]) -> None:
        """Take other orders in place of those that the last close has decided, before any can fill.

        Args:
            orders: the orders, at most one a symbol, in the order of the symbols.
        """
        self.decided = tuple(orders)
        if not self._by_broker:
            self.execution.replace_orders(orders)

    def trace_orders(self) -> None:
        """Write down the orders of the last close."""
        self._tracer.orders(self.spec.id, self.decided)

    # --- Fills at the open, or at the close ---------------------------------------------------------

    def _fill(self, market: Market) -> None:
        if not self.execution.active_orders:
            return
        for fill in self.execution.execute_reductions(market, self.container.lots):
            self._book((fill,), market)
        power = self.container.buying_power(market.prices)
        self._book(self.execution.execute_additions(market, power), market)
        self._reject_orders(market.bar, self.execution.rejected_orders)

    def _take(self, filled: Sequence[Fill], parts: BarParts, market: Market) -> None:
        """Book what the broker has filled, and note which stops the bar has reached."""
        container, bar = self.container, parts.bar
        for fill in self.execution.take_fills(filled, bar, container.lots):
            self._book((fill,), market)
        self._reject_orders(bar, self.execution.rejected_orders)
        self.note_stops(bar)

    def note_stops(self, bar: Bar) -> None:
        """Let the decisions of a bar close each position whose stop or target it has reached.

        Args:
            bar: the bar.
        """
        held = self.container.lots
        for s, lots in enumerate(held):
            if self._rules.stops and lots != 0.0 and bar.traded[s]:
                position = StopInputs(*self.container.stop_inputs(s), 0.0)
                if StatelessRiskManager.stop(position, self.spec.risk, bar, s) > 0.0:
                    self._stopped[s] = 1.0 if lots > 0.0 else -1.0
        self.container.carry_best_prices(bar, held, ())

    def _reject_orders(self, bar: Bar, orders: Sequence[tuple[Order, str]]) -> None:
        for order, reason in orders:
            id, s = f"{order.id}.reject", order.symbol
            given = (order.signal_id, order.id, order.regime_id)
            self._tracer.rejects([self._rejected(id, bar, s, reason, *given)])

    # --- Inside the bar -----------------------------------------------------------------------------

    def _inside(self, parts: BarParts, market: Market) -> Iterator[tuple[Market, str]]:
        for bar, suffix in parts.inside:
            yield (market if bar is market.bar else replace(market, bar=bar)), suffix

    def _enter(self, market: Market) -> dict[int, float]:
        """Fill the entries whose price a bar reaches; the price of each, by symbol."""
        waiting, bar = self.execution.waiting, market.bar
        if waiting is None:
            return {}

        def gone(s: int) -> bool:
            position = StopInputs(*self.container.stop_inputs(s), 0.0)
            return self._rules.stops and StatelessRiskManager.stopped_at_open(
                position, self.spec.risk, bar, s
            )

        reached = waiting.reached(bar, self.container.lots, gone)
        if not reached:
            return {}
        power = self.container.buying_power(bar.open)
        fills = self.execution.execute_entries(reached, market, power)
        self._book(fills, market)
        self._reject_orders(bar, self.execution.rejected_orders)
        filled = {fill.symbol for fill in fills}
        prices = {entry.order.symbol: price for entry, price in reached}
        return {s: price for s, price in prices.items() if s in filled}

    def _expire(self, bar: Bar) -> None:
        """Say which entries the bar left without a fill."""
        if self.execution.waiting is not None:
            unfilled = self.execution.waiting.unfilled()
            orders = [(entry.order, NOT_REACHED) for entry in unfilled if not entry.second]
            self._reject_orders(bar, orders)

    def _stop(self, market: Market, entered: Mapping[int, float], suffix: str) -> None:
        container, bar, risk = self.container, market.bar, self.spec.risk
        held = container.lots
        for s, lots in enumerate(held):
            if lots == 0.0 or not bar.traded[s]:
                continue
            position = StopInputs(*container.stop_inputs(s), entered.get(s, 0.0))
            price = StatelessRiskManager.stop(position, risk, bar, s)
            if price > 0.0:
                name = correlation_id(self.spec.id, bar.index, self._symbols[s], "stop")
                name = f"{name}{suffix}"
                level = StatelessRiskManager.stop_level(position, risk, bar, s, price)
                opening = container.opening_order_id(s)
                container.bar_after_stop(s, 1.0 if lots > 0.0 else -1.0, risk.cooldown)
                if self.execution.waiting is not None:
                    self.execution.waiting.cancel(s)
                fill = self.execution.close_position(
                    name, "stop", s, lots, price, market, opening, level
                )
                if fill is not None:
                    self._book((fill,), market)
                else:
                    row = self._rejected(f"{name}.reject", bar, s, NO_VOLUME, None, None, None)
                    self._tracer.rejects([row])
        container.carry_best_prices(bar, held, entered)

    def _liquidate(self, market: Market, suffix: str) -> None:
        """Close every position that trades, at its worst price in the bar."""
        container, bar = self.container, market.bar
        closed = False
        for s, lots in enumerate(container.lots):
            if lots != 0.0 and bar.traded[s]:
                price = float(bar.low[s] if lots > 0.0 else bar.high[s])
                name = correlation_id(self.spec.id, bar.index, self._symbols[s], "liquidation")
                opening = container.opening_order_id(s)
                fill = self.execution.close_position(
                    f"{name}{suffix}", "liquidation", s, lots, price, market, opening
                )
                if fill is not None:
                    self._book((fill,), market)
                    closed = True
        if self.execution.waiting is not None:
            self.execution.waiting.cancel_all()
        if closed:
            container.count_liquidation()

    def _end(self, market: Market) -> None:
        """Close the positions in symbols whose last bar this is, at its close."""
        container, bar = self.container, market.bar
        for s in np.flatnonzero(self._ends == bar.index).tolist():
            lots, price = container.lots[s], float(bar.close[s])
            if lots != 0.0:
                name = correlation_id(self.spec.id, bar.index, self._symbols[s], "end")
                opening = container.opening_order_id(s)
                fill = self.execution.close_position(name, "end", s, lots, price, market, opening)
                if fill is not None:
                    self._book((fill,), market)
            if self.execution.waiting is not None:
                self.execution.waiting.cancel(s)

    # --- What is booked, and what is not -------------------------------------------------------------

    def _book(self, fills: Sequence[Fill], market: Market) -> None:
        self.container.process_fills(fills, market.ranges)
        self._booked(fills)

    def _booked(self, fills: Sequence[Fill]) -> None:
        """Trace fills that the portfolio has booked."""
        self._tracer.fills(self.spec.id, fills, self.container.cash, self.container.lots)

    def _rejected(
        self,
        id: str,
        bar: Bar,
        symbol: int,
        reason: str,
        signal_id: str | None,
        order_id: str | None,
        regime_id: str | None,
    ) -> Reject:
        """Count an order or a stop without a fill, or a signal without an order; its row."""
        self.rejects[reason] = self.rejects.get(reason, 0) + 1
        name = self._symbols[symbol]
        return (id, self.spec.id, bar.index, name, signal_id, reason, order_id, regime_id)
