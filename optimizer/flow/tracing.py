"""What the event flow writes down of each bar."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from typing import Any, Protocol

from optimizer.flow.services.strategy import StrategyConfig
from optimizer.types import Bar, Fill, FloatArray, Order, Regime, Signal, correlation_id

Reject = tuple[str, str, int, str, str | None, str, str | None, str | None]
"""A row of the table of rejects: ID, portfolio, bar, symbol, signal, reason, order, regime."""


class Trace(Protocol):
    """Where the flow writes what it did; the analytics database is one."""

    def add(self, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Take rows of a table, their values in the order of its columns.

        Args:
            table: name of the table.
            rows: values in the order of its columns.
        """

    def end_bar(self, bar: int) -> None:
        """All rows of a bar have been added.

        Args:
            bar: index of the bar.
        """


class Tracer:
    """Turns what happens in a flow into rows of the analytics tables.

    Args:
        trace: where the rows go; None writes nothing.
        symbols: the symbols in the order of the bars' columns.
        data_hash: the hash of the bars; begins their IDs.
        lot_units: units per lot of each symbol.
    """

    def __init__(
        self,
        trace: Trace | None,
        symbols: tuple[str, ...],
        data_hash: str,
        lot_units: Sequence[float],
    ) -> None:
        self._trace = trace
        self._symbols = symbols
        self._data = data_hash[:8]
        self._lot_units = lot_units
        self._bar_ids = [""] * len(symbols)  # of the last bar that each symbol has
        self._n_fills: Counter[str] = Counter()  # of each portfolio in the bar

    def bar(
        self,
        bar: Bar,
        regimes: Mapping[str, Regime],
    ) -> None:
        """Write a bar with its regimes; nothing for symbols that lack it.

        Args:
            bar: the bar of all symbols.
            regimes: the regime codes by regime key.
        """
        if self._trace is None:
            return
        self._n_fills.clear()
        time = str(bar.time)
        rows: list[tuple[Any, ...]] = []
        prices = zip(bar.open, bar.high, bar.low, bar.close, bar.volume, strict=True)
        for s, (symbol, row) in enumerate(zip(self._symbols, prices, strict=True)):
            if bar.present is None or bar.present[s]:
                self._bar_ids[s] = correlation_id(self._data, bar.index, symbol, "bar")
                rows.append((self._bar_ids[s], bar.index, time, symbol, *map(float, row)))
        self._trace.add("bars", rows)
        self._trace.add(
            "regimes", [(one.id, key, bar.index, one.code) for key, one in regimes.items()]
        )

    def signals(
        self,
        bar: Bar,
        features: Mapping[str, FloatArray],
        key: str,
        config: StrategyConfig,
        signals: Sequence[Signal],
        regime: Regime,
        positions: Mapping[int, Sequence[float]] | None = None,
    ) -> None:
        """Write the signals of a strategy at a bar that ``bar`` has written.

        Args:
            bar: the bar of all symbols.
            features: the features of the bar by name, each of shape (n_symbols,).
            key: the signal key of the strategy.
            config: the configuration of the strategy.
            signals: the signals, one a symbol or none.
            regime: the regime whose probabilities ``config.regime_values`` names.
            positions: the values that ``config.position_values`` names, by symbol; None if it names
                none.
        """
        if self._trace is None:
            return
        rows = []
        for signal in signals:
            names = (*config.features, config.volatility)
            values = {name: float(features[name][signal.symbol]) for name in names}
            values.update({name: getattr(regime, name) for name in config.regime_values})
            if positions is not None:
                held = positions[signal.symbol]
                values.update(zip(config.position_values, held, strict=True))
            rows.append(
                (
                    signal.id,
                    key,
                    bar.index,
                    self._symbols[signal.symbol],
                    signal.direction,
                    signal.strength,
                    signal.confidence,
                    json.dumps(values),
                    self._bar_ids[signal.symbol],
                )
            )
        self._trace.add("signals", rows)

    def fills(
        self, portfolio: str, fills: Sequence[Fill], cash: float, lots: Sequence[float]
    ) -> None:
        """Write fills that a portfolio has booked.

        Args:
            portfolio: its ID.
            fills: the fills of one bar.
            cash: money after all of them.
            lots: positions after them, signed, by symbol.
        """
        if self._trace is None or not fills:
            return
        rows = []
        for fill in fills:
            symbol = self._symbols[fill.symbol]
            self._n_fills[portfolio] += 1
            rows.append(
                (
                    fill.id,
                    fill.order_id,
                    portfolio,
                    fill.bar,
                    symbol,
                    fill.kind,
                    fill.quantity,
                    fill.price,
                    fill.cost,
                    cash,
                    lots[fill.symbol] * self._lot_units[fill.symbol],
                    self._bar_ids[fill.symbol],
                    fill.opening_order_id,
                    fill.stop_level,
                    self._n_fills[portfolio],
                    str(fill.time),
                )
            )
        self._trace.add("fills", rows)

    def rejects(self, rows: Sequence[Reject]) -> None:
        """Write why signals became no orders, or orders no fills.

        Args:
            rows: the rows of one bar and portfolio.
        """
        if self._trace is not None and rows:
            self._trace.add("rejects", rows)

    def orders(self, portfolio: str, orders: Sequence[Order]) -> None:
        """Write the orders of a portfolio, which is given by its ID.

        Args:
            portfolio: its ID.
            orders: the orders of one bar.
        """
        if self._trace is None or not orders:
            return
        self._trace.add(
            "orders",
            [
                (
                    order.id,
                    portfolio,
                    order.bar,
                    self._symbols[order.symbol],
                    order.signal_id,
                    order.regime_id,
                    order.quantity,
                    order.wanted * self._lot_units[order.symbol],
                    order.budget_share,
                    order.target * self._lot_units[order.symbol],
                    *((None,) * 6 if order.sizing is None else astuple(order.sizing)),
                )
                for order in orders
            ],
        )

    def equity(
        self, portfolio: str, bar: int, equity: float, cash: float, exposure: float, drawdown: float
    ) -> None:
        """Write the state of a portfolio at the end of a bar, in the order of the table's columns.

        Args:
            portfolio: its ID.
            bar: index of the bar.
            equity: money.
            cash: money.
            exposure: gross value of the positions over equity.
            drawdown: fall from the peak of the period, a fraction.
        """
        if self._trace is not None:
            self._trace.add("equity", [(portfolio, bar, equity, cash, exposure, drawdown)])

    def end_bar(self, bar: int) -> None:
        """All of a bar has been written.

        Args:
            bar: index of the bar.
        """
        if self._trace is not None:
            self._trace.end_bar(bar)
