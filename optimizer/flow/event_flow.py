"""The event flow: one bar at a time through the containers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from kernels import layout
from kernels.codes import PLACED, REASONS
from optimizer.flow.containers.data import DataContainer
from optimizer.flow.containers.execution import ExecutionContainer, Market
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
from optimizer.sweep.rules import Rules
from optimizer.types import (
    NO_VOLUME,
    Bar,
    Fill,
    FloatArray,
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
        self._rates = rules.closing_rates(first)
        self._first = first
        self._split = split
        self._tracer = Tracer(trace, symbols, data_hash, tuple(map(float, rules.lot_units)))
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
        self._features: Indicators = {}
        self._times: list[np.datetime64] = []

    def _open(self, spec: PortfolioSpec, bars_per_year: float) -> _Portfolio:
        rules = self._rules
        container = PortfolioContainer(spec.id, self._symbols, rules, bars_per_year)
        execution = ExecutionContainer(spec.costs, rules.leverage, rules.allow_short)
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
            earlier = Market(bar, bar.open, before.get(name, features[name]))
            now = Market(bar, bar.close, features[name])
            self._portfolio_bar(one, earlier, now, own, regimes[one.spec.regime_key], matrix)
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
        if rules.stops:
            self._stop(one, earlier)
        if rules.margin and container.below_margin(bar):
            self._liquidate(one, earlier)
        self._booked(one, container.mark(bar))
        container.update_variance()
        if not rules.close_fill:
            container.account(risk_free, closes=closes)
        if self.hub.correlation_refreshed:
            container.refresh_correlation()
        one.execution.submit_orders(self._decide(one, bar, signals, regime, matrix))
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
            self._book(one, (fill,))
        power = one.container.buying_power(market.prices)
        self._book(one, one.execution.execute_additions(market, power))
        for order, reason in one.execution.rejected_orders:
            id, s = f"{order.id}.reject", order.symbol
            row = self._rejected(one, id, market.bar, s, reason, order.signal_id, order.id)
            self._tracer.rejects([row])

    def _stop(self, one: _Portfolio, market: Market) -> None:
        container, bar, risk = one.container, market.bar, one.spec.risk
        held = container.lots
        for s, lots in enumerate(held):
            if lots == 0.0 or not bar.traded[s]:
                continue
            position = container.stop_inputs(s)
            price = StatelessRiskManager.stop(position, risk, bar, s)
            if price > 0.0:
                name = correlation_id(one.spec.id, bar.index, self._symbols[s], "stop")
                level = StatelessRiskManager.stop_level(position, risk, bar, s, price)
                opening = container.opening_order_id(s)
                container.set_barred(s, 1.0 if lots > 0.0 else -1.0)
                fill = one.execution.close_position(
                    name, "stop", s, lots, price, market, opening, level
                )
                if fill is not None:
                    self._book(one, (fill,))
                else:
                    row = self._rejected(one, f"{name}.reject", bar, s, NO_VOLUME, None, None)
                    self._tracer.rejects([row])
        container.carry_best_prices(bar, held)

    def _liquidate(self, one: _Portfolio, market: Market) -> None:
        """Close every position that trades, at its worst price in the bar."""
        container, bar = one.container, market.bar
        closed = False
        for s, lots in enumerate(container.lots):
            if lots != 0.0 and bar.traded[s]:
                price = float(bar.low[s] if lots > 0.0 else bar.high[s])
                name = correlation_id(one.spec.id, bar.index, self._symbols[s], "liquidation")
                opening = container.opening_order_id(s)
                fill = one.execution.close_position(
                    name, "liquidation", s, lots, price, market, opening
                )
                if fill is not None:
                    self._book(one, (fill,))
                    closed = True
        if closed:
            container.count_liquidation()

    def _book(self, one: _Portfolio, fills: Sequence[Fill]) -> None:
        one.container.process_fills(fills)
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
        bar: Bar,
        signals: Sequence[Signal],
        regime: Regime,
        matrix: FloatArray | None,
    ) -> tuple[Order, ...]:
        decisions = StatelessRiskManager.decide(
            signals, regime, one.container.risk_state(), one.spec.risk, bar, matrix
        )
        rejects: list[Reject] = []
        for s, (reason, barred) in enumerate(zip(decisions.reasons, decisions.barred, strict=True)):
            one.container.set_barred(s, barred)
            if reason != PLACED:
                id = correlation_id(one.spec.id, bar.index, self._symbols[s], "reject")
                rejects.append(
                    self._rejected(one, id, bar, s, REASONS[reason], signals[s].id, None)
                )
        self._tracer.rejects(rejects)
        self._tracer.orders(one.spec.id, decisions.orders)
        return decisions.orders

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
