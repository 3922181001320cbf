"""The event flow: one bar at a time through the containers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from kernels import layout
from kernels.codes import FLAT, LEAVING, MARKET_ENTRY, NEUTRAL, PLACED, REASONS, WAITING
from optimizer.flow.containers.data import DataContainer
from optimizer.flow.containers.execution import ExecutionContainer, Market
from optimizer.flow.containers.feature_hub import FeatureHub, Indicators
from optimizer.flow.containers.portfolio import PortfolioContainer
from optimizer.flow.portfolio_view import PortfolioView
from optimizer.flow.portfolios import PortfolioSpec
from optimizer.flow.services.classifier import ClassifierConfig, StatelessClassifier
from optimizer.flow.services.risk import StatelessRiskManager, StopInputs
from optimizer.flow.services.strategy import StatelessStrategy
from optimizer.flow.tracing import Reject, Trace, Tracer
from optimizer.flow.waiting import EntryTerms
from optimizer.market.clock import MarketClock
from optimizer.market.feature_keys import FeatureKey, indicator_name
from optimizer.market.features import GivenFeature
from optimizer.market.regimes import fit_model, fits_at
from optimizer.sweep.rules import Rules
from optimizer.types import (
    NO_VOLUME,
    NOT_REACHED,
    Bar,
    Fill,
    FloatArray,
    IntArray,
    MaskArray,
    Order,
    Regime,
    Signal,
    correlation_id,
)


@dataclass(eq=False)
class _Portfolio:
    spec: PortfolioSpec
    container: PortfolioContainer
    execution: ExecutionContainer
    equity: list[float]
    rejects: dict[str, int]


@dataclass(frozen=True, eq=False)
class FlowResult:
    """What the portfolios of a flow did.

    Attributes:
        specs: the portfolios, in order.
        equity: money, shape (n_bars from the first decision on, n_portfolios); the index is the
            time of the bar, the columns are the IDs of the portfolios.
        views: final state of each portfolio.
        in_sample, out_of_sample: metrics of each portfolio; the latter empty without a holdout.
        rejects: how often each reason kept a signal from an order or an order from a fill, over all
            portfolios.
        n_steps: bars x symbols x portfolios.
        first: bar of the first decision.
    """

    specs: tuple[PortfolioSpec, ...]
    equity: pd.DataFrame
    views: tuple[PortfolioView, ...]
    in_sample: tuple[dict[str, float], ...]
    out_of_sample: tuple[dict[str, float], ...]
    rejects: dict[str, int]
    n_steps: int
    first: int


class EventFlow:
    """N strategies x M classifiers x K risk configurations over one stream of bars.

    Args:
        symbols: the symbols in the order of the bars' columns.
        bars_per_year: annualizes metrics.
        specs: one per portfolio.
        rules: the rules of the study.
        keys: features that the strategies read.
        first: bar of the first decision.
        live: whether each symbol decides at each bar, shape (n_bars, n_symbols); see
            ``optimizer.sweep.universe``.
        ends: last bar of each symbol that ends before the bars do, shape (n_symbols,); -1 for others.
        split: first bar of the holdout; None without a holdout.
        data_hash: the hash of the bars; begins their IDs.
        trace: the tracer that records what happens; None records nothing.
        given: features of the user's strategies by name.
        clock: the days and sessions of the market; None where no feature needs them.
        tradable: which symbols features compare at each bar, shape (n_bars, n_symbols), 1 or 0; None
            compares all.
    """

    def __init__(
        self,
        symbols: tuple[str, ...],
        bars_per_year: float,
        specs: Sequence[PortfolioSpec],
        rules: Rules,
        keys: Sequence[FeatureKey],
        first: int,
        live: MaskArray,
        ends: IntArray,
        split: int | None = None,
        data_hash: str = "",
        trace: Trace | None = None,
        given: Mapping[str, GivenFeature] | None = None,
        clock: MarketClock | None = None,
        tradable: MaskArray | None = None,
    ) -> None:
        self._symbols = symbols
        self._rules = rules
        self._rates = rules.closing_rates(first)
        self._first = first
        self._live = live
        self._ends = ends
        self._split = split
        self._tracer = Tracer(trace, symbols, data_hash, tuple(map(float, rules.lot_units)))
        self.data = DataContainer(symbols)
        self._strategies = {spec.signal_key: spec.strategy for spec in specs}
        self._classifiers = {spec.regime_key: spec.regime for spec in specs}
        self._fitted = {key: ClassifierConfig() for key in self._classifiers}
        self._codes = dict.fromkeys(self._classifiers, NEUTRAL)
        lookbacks = {
            (market, dict(parameters)["lookback"])
            for name, market, parameters in self._classifiers.values()
            if name != "none"
        }
        schedule = (rules.correlation_lookback, rules.correlation_refresh, first)
        if rules.ranges:
            keys = [*keys, ("atr", rules.atr_lookback)]
        self.hub = FeatureHub(
            symbols,
            list(dict.fromkeys(keys)),
            sorted(lookbacks, key=str),
            schedule if rules.correlated else None,
            given or {},
            clock,
            tradable,
        )
        self._portfolios = [self._open(spec, bars_per_year) for spec in specs]
        self._in_sample: tuple[dict[str, float], ...] = ()
        self._features: Indicators = {}
        self._ranges = np.zeros(len(symbols))
        self._times: list[np.datetime64] = []

    def _open(self, spec: PortfolioSpec, bars_per_year: float) -> _Portfolio:
        rules = self._rules
        container = PortfolioContainer(spec.id, self._symbols, rules, bars_per_year)
        risk, entries = spec.risk, None
        if rules.entry != MARKET_ENTRY:
            entries = EntryTerms(
                rules.entry, risk.entry_offset, risk.entry_offset_atr, risk.entry_bars
            )
        execution = ExecutionContainer(spec.costs, rules.leverage, rules.allow_short, entries)
        return _Portfolio(spec, container, execution, [], {})

    def on_bar(self, bar: Bar) -> None:
        """Take the next bar of all symbols through every portfolio.

        Args:
            bar: the one after the bar of the last call; the first has index 0.

        Raises:
            DataError: the bar is out of order or has other symbols.
            StrategyError: the user's code raised.
        """
        self.data.update_timeline_position(bar)
        self.data.cache_bar(bar)
        before, features = self._features, self.hub.calculate_indicators(bar)
        self._features = features
        earlier_ranges, self._ranges = self._ranges, self._average_ranges(features)
        regimes = self._classify(bar)
        if bar.index < self._first:
            return
        if bar.index == self._split:
            self._in_sample = tuple(one.container.metrics() for one in self._portfolios)
            for one in self._portfolios:
                one.container.start_period()
        signals = self._signals(bar, features)
        matrix = self.hub.get_correlation_matrix()
        self._times.append(bar.time)
        self._tracer.bar(bar, features, self._strategies, signals, regimes)
        for one in self._portfolios:
            own, name = signals[one.spec.signal_key], one.spec.strategy.volatility
            # What fills before the close was decided at the close before, with the volatility known then.
            earlier = Market(bar, bar.open, before.get(name, features[name]), earlier_ranges)
            now = Market(bar, bar.close, features[name], self._ranges)
            self._portfolio_bar(one, earlier, now, own, regimes[one.spec.regime_key], matrix)
        self._tracer.end_bar(bar.index)

    def _average_ranges(self, features: Indicators) -> FloatArray:
        """Average true ranges of the last bar of each symbol; 0 where they are not defined or unused."""
        if not self._rules.ranges:
            return self._ranges
        values = features[indicator_name(("atr", self._rules.atr_lookback))]
        return np.where(np.isfinite(values), values, self._ranges)

    def _classify(self, bar: Bar) -> dict[str, Regime]:
        found = {}
        for key, (name, market, parameters) in self._classifiers.items():
            # A regime stays as it is where its market has no bar.
            if name != "none" and self.hub.market_has_bar(market):
                values, number = dict(parameters), self.hub.market_bars(market) - 1
                if fits_at(name, number, values):
                    before, returns = self._fitted[key].model, self.hub.market_returns(market)
                    model = fit_model(name, number, returns, values, before)
                    if model is not None:
                        self._fitted[key] = ClassifierConfig(model)
                self._codes[key], self._fitted[key] = StatelessClassifier.classify_regime(
                    self.hub.market_features(market, values["lookback"]), self._fitted[key]
                )
            found[key] = Regime(correlation_id(key, bar.index, "regime"), self._codes[key])
        return found

    def _signals(self, bar: Bar, features: Indicators) -> dict[str, list[Signal]]:
        """The signals of each strategy, none of a symbol that waits, and flat if it leaves."""
        signals: dict[str, list[Signal]] = {}
        for key, config in self._strategies.items():
            own = signals[key] = []
            for s in np.flatnonzero(self._live[bar.index] != WAITING).tolist():
                id = correlation_id(key, bar.index, self._symbols[s], "signal")
                signal = StatelessStrategy.generate_signal(features, config, bar, s, id)
                leaves = self._live[bar.index, s] == LEAVING
                own.append(replace(signal, direction=float(FLAT)) if leaves else signal)
        return signals

    def _portfolio_bar(
        self,
        one: _Portfolio,
        earlier: Market,
        now: Market,
        signals: Sequence[Signal],
        regime: Regime,
        matrix: FloatArray | None,
    ) -> None:
        rules, container, bar = self._rules, one.container, now.bar
        rates = self._rates[bar.index]
        credit, risk_free = float(rates[layout.CREDIT]), float(rates[layout.RISK_FREE])
        debit, years = float(rates[layout.DEBIT]), float(rates[layout.YEARS])
        closes = rules.counted is None or bool(rules.counted[bar.index])
        # The timeline of a bar. ``simulate`` in kernels/simulation.py holds the same timeline for
        # blocks of lanes, by design: lanes and containers have different state, and both call the
        # same scalar rules. tests/optimizer/flow/test_event_flow.py::test_events_equal_the_sweep
        # holds the two together, bit for bit.
        owes = rules.margin or rules.fees or bar.payments is not None
        if credit != 0.0 or (owes and years != 0.0):
            container.carry(credit, debit, years, bar.payments)
        if not rules.close_fill:
            self._fill(one, earlier)
        for inside, suffix in self._inside(earlier):
            entered = self._enter(one, inside)
            if rules.stops:
                self._stop(one, inside, entered, suffix)
            if rules.margin and container.below_margin(inside.bar):
                self._liquidate(one, inside, suffix)
        self._end(one, earlier)
        self._expire(one, bar)
        self._booked(one, container.mark(bar))
        container.update_variance()
        if not rules.close_fill:
            container.account(risk_free, closes=closes)
        if self.hub.correlation_refreshed:
            container.refresh_correlation()
        orders = self._decide(one, signals, regime, matrix)
        one.execution.submit_orders(orders)
        if one.execution.waiting is not None:
            one.execution.waiting.place(orders, container.lots, bar.close, self._ranges)
        if rules.close_fill:
            self._fill(one, now)
            self._booked(one, container.mark(bar))
            container.account(risk_free, closes=closes)
        one.equity.append(container.equity)
        self._tracer.equity(
            one.spec.id,
            bar.index,
            container.equity,
            container.cash,
            container.exposure,
            container.drawdown,
        )

    def _fill(self, one: _Portfolio, market: Market) -> None:
        if not one.execution.active_orders:
            return
        for fill in one.execution.execute_reductions(market, one.container.lots):
            self._book(one, (fill,), market)
        power = one.container.buying_power(market.prices)
        self._book(one, one.execution.execute_additions(market, power), market)
        self._reject_orders(one, market.bar, one.execution.rejected_orders)

    def _reject_orders(
        self, one: _Portfolio, bar: Bar, orders: Sequence[tuple[Order, str]]
    ) -> None:
        for order, reason in orders:
            id, s = f"{order.id}.reject", order.symbol
            row = self._rejected(one, id, bar, s, reason, order.signal_id, order.id)
            self._tracer.rejects([row])

    def _inside(self, market: Market) -> Iterator[tuple[Market, str]]:
        """The finer bars of a bar, or the bar itself, each with what ends the IDs of its fills."""
        finer, bar = self._rules.finer, market.bar
        if finer is None:
            yield market, ""
            return
        first, last = (int(bound) for bound in finer.bounds[bar.index : bar.index + 2])
        for f in range(first, last):
            part = replace(
                bar,
                open=finer.open[f],
                high=finer.high[f],
                low=finer.low[f],
                traded=finer.traded[f],
                market_volume=finer.volume[f],
            )
            yield replace(market, bar=part), f".{f - first}" if f > first else ""

    def _enter(self, one: _Portfolio, market: Market) -> dict[int, float]:
        """Fill the entries whose price a bar reaches; the price of each, by symbol."""
        waiting, bar = one.execution.waiting, market.bar
        if waiting is None:
            return {}

        def gone(s: int) -> bool:
            position = StopInputs(*one.container.stop_inputs(s), 0.0)
            return self._rules.stops and StatelessRiskManager.stopped_at_open(
                position, one.spec.risk, bar, s
            )

        reached = waiting.reached(bar, one.container.lots, gone)
        if not reached:
            return {}
        power = one.container.buying_power(bar.open)
        fills = one.execution.execute_entries(reached, market, power)
        self._book(one, fills, market)
        self._reject_orders(one, bar, one.execution.rejected_orders)
        filled = {fill.symbol for fill in fills}
        prices = {entry.order.symbol: price for entry, price in reached}
        return {s: price for s, price in prices.items() if s in filled}

    def _expire(self, one: _Portfolio, bar: Bar) -> None:
        """Say which entries the bar left without a fill."""
        if one.execution.waiting is not None:
            unfilled = one.execution.waiting.unfilled()
            orders = [(entry.order, NOT_REACHED) for entry in unfilled if not entry.second]
            self._reject_orders(one, bar, orders)

    def _stop(
        self, one: _Portfolio, market: Market, entered: Mapping[int, float], suffix: str
    ) -> None:
        container, bar, risk = one.container, market.bar, one.spec.risk
        held = container.lots
        for s, lots in enumerate(held):
            if lots == 0.0 or not bar.traded[s]:
                continue
            position = StopInputs(*container.stop_inputs(s), entered.get(s, 0.0))
            price = StatelessRiskManager.stop(position, risk, bar, s)
            if price > 0.0:
                name = correlation_id(one.spec.id, bar.index, self._symbols[s], "stop")
                name = f"{name}{suffix}"
                level = StatelessRiskManager.stop_level(position, risk, bar, s, price)
                opening = container.opening_order_id(s)
                container.bar_after_stop(s, 1.0 if lots > 0.0 else -1.0, risk.cooldown)
                if one.execution.waiting is not None:
                    one.execution.waiting.cancel(s)
                fill = one.execution.close_position(
                    name, "stop", s, lots, price, market, opening, level
                )
                if fill is not None:
                    self._book(one, (fill,), market)
                else:
                    row = self._rejected(one, f"{name}.reject", bar, s, NO_VOLUME, None, None)
                    self._tracer.rejects([row])
        container.carry_best_prices(bar, held, entered)

    def _liquidate(self, one: _Portfolio, market: Market, suffix: str) -> None:
        """Close every position that trades, at its worst price in the bar."""
        container, bar = one.container, market.bar
        closed = False
        for s, lots in enumerate(container.lots):
            if lots != 0.0 and bar.traded[s]:
                price = float(bar.low[s] if lots > 0.0 else bar.high[s])
                name = correlation_id(one.spec.id, bar.index, self._symbols[s], "liquidation")
                name = f"{name}{suffix}"
                opening = container.opening_order_id(s)
                fill = one.execution.close_position(
                    name, "liquidation", s, lots, price, market, opening
                )
                if fill is not None:
                    self._book(one, (fill,), market)
                    closed = True
        if one.execution.waiting is not None:
            one.execution.waiting.cancel_all()
        if closed:
            container.count_liquidation()

    def _end(self, one: _Portfolio, market: Market) -> None:
        """Close the positions in symbols whose last bar this is, at its close."""
        container, bar = one.container, market.bar
        for s in np.flatnonzero(self._ends == bar.index).tolist():
            lots, price = container.lots[s], float(bar.close[s])
            if lots != 0.0:
                name = correlation_id(one.spec.id, bar.index, self._symbols[s], "end")
                opening = container.opening_order_id(s)
                fill = one.execution.close_position(name, "end", s, lots, price, market, opening)
                if fill is not None:
                    self._book(one, (fill,), market)
            if one.execution.waiting is not None:
                one.execution.waiting.cancel(s)

    def _book(self, one: _Portfolio, fills: Sequence[Fill], market: Market) -> None:
        one.container.process_fills(fills, market.ranges)
        self._booked(one, fills)

    def _booked(self, one: _Portfolio, fills: Sequence[Fill]) -> None:
        """Trace fills that a portfolio has booked."""
        self._tracer.fills(one.spec.id, fills, one.container.cash, one.container.lots)

    def _rejected(
        self,
        one: _Portfolio,
        id: str,
        bar: Bar,
        symbol: int,
        reason: str,
        signal_id: str | None,
        order_id: str | None,
    ) -> Reject:
        """Count an order or a stop without a fill, or a signal without an order; its row."""
        one.rejects[reason] = one.rejects.get(reason, 0) + 1
        name = self._symbols[symbol]
        return (id, one.spec.id, bar.index, name, signal_id, reason, order_id)

    def _decide(
        self,
        one: _Portfolio,
        signals: Sequence[Signal],
        regime: Regime,
        matrix: FloatArray | None,
    ) -> tuple[Order, ...]:
        bar = self.hub.get_latest_market_data()
        waiting, state = one.execution.waiting, one.container.risk_state()
        decisions = StatelessRiskManager.process_signals_to_orders(
            signals,
            regime,
            state,
            one.spec.risk,
            bar,
            matrix,
            self._ranges,
            [0.0] * len(state.lots) if waiting is None else waiting.lots(state.lots),
        )
        rejects: list[Reject] = []
        ids = {signal.symbol: signal.id for signal in signals}
        exits = zip(decisions.barred, decisions.cooling, decisions.held_bars, strict=True)
        for s, left in enumerate(exits):
            one.container.set_exits(s, *left)
        for s, reason in enumerate(decisions.reasons):
            if reason != PLACED and s in ids:
                id = correlation_id(one.spec.id, bar.index, self._symbols[s], "reject")
                rejects.append(self._rejected(one, id, bar, s, REASONS[reason], ids[s], None))
        self._tracer.rejects(rejects)
        self._tracer.orders(one.spec.id, decisions.orders)
        return decisions.orders

    def next_orders(self) -> tuple[tuple[Order, ...], ...]:
        """The orders of each portfolio that wait for the next bar."""
        return tuple(one.execution.active_orders for one in self._portfolios)

    def result(self) -> FlowResult:
        """What the portfolios did so far."""
        specs = tuple(one.spec for one in self._portfolios)
        equity = pd.DataFrame(
            np.array([one.equity for one in self._portfolios]).T,
            index=pd.DatetimeIndex(self._times, name="timestamp", tz="UTC"),
            columns=[spec.id for spec in specs],
        )
        now = tuple(one.container.metrics() for one in self._portfolios)
        rejects: dict[str, int] = {}
        for one in self._portfolios:
            for reason, count in one.rejects.items():
                rejects[reason] = rejects.get(reason, 0) + count
        return FlowResult(
            specs=specs,
            equity=equity,
            views=tuple(one.container.get_state() for one in self._portfolios),
            in_sample=self._in_sample or now,
            out_of_sample=now if self._in_sample else (),
            rejects=rejects,
            n_steps=len(self._times) * len(self._symbols) * len(specs),
            first=self._first,
        )
