"""The event flow: one bar at a time through the containers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from kernels.codes import REASONS
from kernels.risk import budget_taken, cash_taken
from optimizer.flow.containers.data import DataContainer
from optimizer.flow.containers.execution import ExecutionContainer
from optimizer.flow.containers.feature_hub import FeatureHub, Indicators
from optimizer.flow.containers.portfolio import PortfolioContainer
from optimizer.flow.portfolio_view import PortfolioView
from optimizer.flow.portfolios import PortfolioSpec
from optimizer.flow.services.classifier import ClassifierConfig, StatelessClassifier
from optimizer.flow.services.risk import StatelessRiskManager
from optimizer.flow.services.strategy import StatelessStrategy
from optimizer.flow.tracing import Reject, Trace, Tracer
from optimizer.market.features import GivenFeature
from optimizer.market.regimes import fit_model, fits_at
from optimizer.sweep.inputs import Rules
from optimizer.types import (
    NO_CASH_AT_FILL,
    Bar,
    Fill,
    FloatArray,
    Order,
    PortfolioState,
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
        symbols: in the order of the bars' columns.
        bars_per_year: annualizes metrics.
        specs: one per portfolio.
        rules: of the study.
        keys: features that the strategies read.
        first: bar of the first decision.
        split: first bar of the holdout; None without a holdout.
        data_hash: of the bars; begins their IDs.
        trace: where to write what happens; None writes nothing.
        given: features of the user's strategies by name.
    """

    def __init__(
        self,
        symbols: tuple[str, ...],
        bars_per_year: float,
        specs: Sequence[PortfolioSpec],
        rules: Rules,
        keys: Sequence[tuple[str, int]],
        first: int,
        split: int | None = None,
        data_hash: str = "",
        trace: Trace | None = None,
        given: Mapping[str, GivenFeature] | None = None,
    ) -> None:
        self._symbols = symbols
        self._rules = rules
        self._first = first
        self._split = split
        self._tracer = Tracer(trace, symbols, data_hash, rules.lot_size)
        self.data = DataContainer(symbols)
        self._strategies = {spec.signal_key: spec.strategy for spec in specs}
        self._classifiers = {spec.regime_key: spec.regime for spec in specs}
        self._fitted = {key: ClassifierConfig() for key in self._classifiers}
        lookbacks = {
            (market, dict(parameters)["lookback"])
            for name, market, parameters in self._classifiers.values()
            if name != "none"
        }
        schedule = (rules.correlation_lookback, rules.correlation_refresh, first)
        self.hub = FeatureHub(
            symbols,
            keys,
            sorted(lookbacks, key=str),
            schedule if rules.correlated else None,
            given or {},
        )
        self._portfolios = [self._open(spec, bars_per_year) for spec in specs]
        self._in_sample: tuple[dict[str, float], ...] = ()
        self._times: list[np.datetime64] = []

    def _open(self, spec: PortfolioSpec, bars_per_year: float) -> _Portfolio:
        rules = self._rules
        container = PortfolioContainer(
            spec.id,
            self._symbols,
            rules.initial_cash,
            rules.lot_size,
            spec.risk.max_exposure,
            rules.ewma_decay,
            rules.allow_short,
            bars_per_year,
        )
        execution = ExecutionContainer(rules.lot_size, rules.slippage, rules.commission)
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
        features = self.hub.calculate_indicators(bar)
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
            own = signals[one.spec.signal_key]
            self._portfolio_bar(one, bar, own, regimes[one.spec.regime_key], matrix)
        self._tracer.end_bar(bar.index)

    def _classify(self, bar: Bar) -> dict[str, Regime]:
        found = {}
        for key, (name, market, parameters) in self._classifiers.items():
            code = 0
            if name != "none":
                values = dict(parameters)
                if fits_at(name, bar.index, values):
                    model = fit_model(name, bar.index, self.hub.market_returns(market), values)
                    if model is not None:
                        self._fitted[key] = ClassifierConfig(model)
                code, self._fitted[key] = StatelessClassifier.classify_regime(
                    self.hub.market_features(market, values["lookback"]), self._fitted[key]
                )
            found[key] = Regime(correlation_id(key, bar.index, "regime"), code)
        return found

    def _signals(self, bar: Bar, features: Indicators) -> dict[str, list[Signal]]:
        return {
            key: [
                StatelessStrategy.generate_signal(
                    features, config, bar, s, correlation_id(key, bar.index, symbol, "signal")
                )
                for s, symbol in enumerate(self._symbols)
            ]
            for key, config in self._strategies.items()
        }

    def _portfolio_bar(
        self,
        one: _Portfolio,
        bar: Bar,
        signals: Sequence[Signal],
        regime: Regime,
        matrix: FloatArray | None,
    ) -> None:
        rules, container = self._rules, one.container
        # The timeline of a bar. ``simulate`` in kernels/simulation.py holds the same timeline for
        # blocks of lanes, by design: lanes and containers have different state, and both call the
        # same scalar rules. tests/optimizer/flow/test_event_flow.py::test_events_equal_the_sweep
        # holds the two together, bit for bit.
        if not rules.close_fill:
            self._fill(one, bar, bar.open)
        if rules.stops:
            self._stop(one, bar)
        self._booked(one, container.mark(bar))
        container.update_variance()
        if not rules.close_fill:
            container.account()
        if self.hub.correlation_refreshed:
            container.refresh_correlation()
        one.execution.submit_orders(self._decide(one, bar, signals, regime, matrix))
        if rules.close_fill:
            self._fill(one, bar, bar.close)
            self._booked(one, container.mark(bar))
            container.account()
        one.equity.append(container.equity)
        self._tracer.equity(
            one.spec.id,
            bar.index,
            container.equity,
            container.cash,
            container.exposure,
            container.drawdown,
        )

    def _fill(self, one: _Portfolio, bar: Bar, prices: FloatArray) -> None:
        orders = one.execution.active_orders
        if orders:
            fills = one.execution.execute_orders(orders, bar.index, prices, one.container.cash)
            for fill in fills:
                self._book(one, fill)
            for order in one.execution.unpaid_orders:
                self._reject(
                    one, f"{order.id}.reject", bar, order.symbol, order.signal_id, order.id
                )

    def _stop(self, one: _Portfolio, bar: Bar) -> None:
        container = one.container
        held = container.lots
        for s, lots in enumerate(held):
            if lots == 0.0:
                continue
            position, risk = container.stop_inputs(s), one.spec.risk
            price = StatelessRiskManager.stop(position, risk, bar, s)
            if price > 0.0:
                name = correlation_id(one.spec.id, bar.index, self._symbols[s], "stop")
                level = StatelessRiskManager.stop_level(position, risk, bar, s, price)
                opening = container.opening_order_id(s)
                container.set_barred(s, 1.0 if lots > 0.0 else -1.0)
                fill = one.execution.close_position(
                    name, bar.index, s, lots, price, level, opening, container.cash
                )
                if fill is not None:
                    self._book(one, fill)
                else:
                    self._reject(one, f"{name}.reject", bar, s, None, None)
        container.carry_best_prices(bar, held)

    def _book(self, one: _Portfolio, fill: Fill) -> None:
        one.container.process_fill(fill)
        self._booked(one, (fill,))

    def _booked(self, one: _Portfolio, fills: Sequence[Fill]) -> None:
        """Trace fills that a portfolio has booked."""
        self._tracer.fills(one.spec.id, fills, one.container.cash, one.container.lots)

    def _reject(
        self,
        one: _Portfolio,
        id: str,
        bar: Bar,
        symbol: int,
        signal_id: str | None,
        order_id: str | None,
    ) -> None:
        """Count and trace an order or a stop for which there was no cash at the fill."""
        one.rejects[NO_CASH_AT_FILL] = one.rejects.get(NO_CASH_AT_FILL, 0) + 1
        name = self._symbols[symbol]
        self._tracer.rejects(
            [(id, one.spec.id, bar.index, name, signal_id, NO_CASH_AT_FILL, order_id)]
        )

    def _decide(
        self,
        one: _Portfolio,
        bar: Bar,
        signals: Sequence[Signal],
        regime: Regime,
        matrix: FloatArray | None,
    ) -> list[Order]:
        orders: list[Order] = []
        rejects: list[Reject] = []
        state: PortfolioState = one.container.risk_state()
        short = True if self._rules.allow_short else None
        prefix = correlation_id(one.spec.id, bar.index)
        for signal in signals:
            symbol = self._symbols[signal.symbol]
            decision = StatelessRiskManager.decide(
                signal, regime, state, one.spec.risk, bar, matrix
            )
            if self._rules.stops:
                one.container.set_barred(signal.symbol, decision.barred)
            if decision.order is not None:
                order = decision.order
                lot_value = float(bar.close[order.symbol]) * self._rules.lot_size
                lots = state.lots[order.symbol]
                cash_left = state.cash_left - cash_taken(order.lots, lot_value)
                budget_left = state.budget_left - budget_taken(order.lots, lots, lot_value, short)
                state = replace(state, cash_left=cash_left, budget_left=budget_left)
                orders.append(order)
            else:
                reason = REASONS[decision.reason]
                one.rejects[reason] = one.rejects.get(reason, 0) + 1
                rejects.append(
                    (
                        f"{prefix}.{symbol}.reject",
                        one.spec.id,
                        bar.index,
                        symbol,
                        signal.id,
                        reason,
                        None,
                    )
                )
        self._tracer.rejects(rejects)
        self._tracer.orders(one.spec.id, orders)
        return orders

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
