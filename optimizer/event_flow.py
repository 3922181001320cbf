"""One bar at a time through the containers, for many isolated portfolios, traced.

The rules are the kernels of the sweep, so a portfolio's equity and fills are those of the vectorized
result, bit for bit. Features are computed once per bar for all portfolios, signals once per
strategy, regimes once per classifier.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal, Protocol

import numpy as np
import pandas as pd

from kernels.codes import REASONS
from kernels.risk import budget_taken, cash_taken
from optimizer.backtest import (
    BacktestResult,
    RegimeKey,
    Rules,
    Tile,
    feature_keys,
    given_features,
    holdout_bar,
    study_rules,
    study_warm_up,
)
from optimizer.bars import require_bars
from optimizer.catalogue import column
from optimizer.classifiers import fit_model, fits_at
from optimizer.config import Study
from optimizer.containers.data import DataContainer
from optimizer.containers.execution import ExecutionContainer
from optimizer.containers.feature_hub import FeatureHub, Indicators
from optimizer.containers.portfolio import PortfolioContainer, PortfolioView
from optimizer.custom import strategy_parameters
from optimizer.features import FeatureKey, GivenFeature
from optimizer.services import (
    ClassifierConfig,
    RiskConfig,
    StatelessClassifier,
    StatelessRiskManager,
    StatelessStrategy,
    StrategyConfig,
)
from optimizer.space import Space, build_space
from optimizer.types import (
    NO_CASH_AT_FILL,
    Bar,
    Bars,
    Fill,
    FloatArray,
    Order,
    PortfolioState,
    Regime,
    Signal,
    correlation_id,
)


class Trace(Protocol):
    """Where the flow writes what it did; the analytics database is one."""

    def add(self, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Take rows of a table, their values in the order of its columns."""

    def end_bar(self, bar: int) -> None:
        """All rows of a bar have been added."""


def short_hash(value: object) -> str:
    """Eight hexadecimal digits of a JSON value, for correlation IDs."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]


@dataclass(frozen=True, eq=False)
class PortfolioSpec:
    """One parameter set as the flow runs it.

    Attributes:
        id: a function of the study, its bars and the parameters alone.
        strategy_name, classifier_name: names.
        parameters: by column name, read-only.
        strategy: of its signals.
        signal_key: names the strategy's signals, shared by portfolios with the same strategy.
        regime: the regime model.
        regime_key: names the classifier's regimes.
        risk: of its sizing.
    """

    id: str
    strategy_name: str
    classifier_name: str
    parameters: Mapping[str, float]
    strategy: StrategyConfig
    signal_key: str
    regime: RegimeKey
    regime_key: str
    risk: RiskConfig


def portfolio_specs(tile: Tile, owner: str, allow_short: bool) -> list[PortfolioSpec]:
    """Every parameter set of a tile as a portfolio of the flow; IDs begin with ``owner``."""
    keys, which = tile.regime_keys()
    specs = []
    for lane in range(tile.n_lanes):
        parameters = {name: float(values[lane]) for name, values in tile.columns.items()}
        own = {
            p.name: parameters[column(tile.strategy, p.name)]
            for p in strategy_parameters(tile.strategy, tile.custom)
        }
        lookback = parameters["volatility_lookback"]
        regime = keys[which[lane]]
        everything = [tile.strategy, tile.classifier, tile.market, parameters]
        specs.append(
            PortfolioSpec(
                id=f"{owner}.{short_hash(everything)}",
                strategy_name=tile.strategy,
                classifier_name=tile.classifier,
                parameters=MappingProxyType(parameters),
                strategy=StrategyConfig.of(tile.strategy, parameters, tile.custom),
                signal_key=f"{owner}.{short_hash([tile.strategy, own, lookback])}",
                regime=regime,
                regime_key=f"{owner}.{short_hash(regime)}",
                risk=RiskConfig.of(parameters, allow_short),
            )
        )
    return specs


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
        equity: (n_bars from the first decision on, n_portfolios), by the bar's time and the
            portfolio's ID.
        views: final state of each portfolio.
        in_sample, out_of_sample: metrics of each portfolio; the latter empty without a holdout.
        rejects: counts of each reason why a signal became no order or an order no fill, over all
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
        rules: that all share.
        keys: features that the strategies read.
        first: bar of the first decision.
        split: first bar of the holdout; None for none.
        data_hash: of the bars, begins their IDs.
        trace: where to write what happens; None for nowhere.
        given: features of users' strategies by name.
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
        self._data = data_hash[:8]
        self._rules = rules
        self._first = first
        self._split = split
        self._trace = trace
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
            spec.parameters["max_exposure"],
            rules.ewma_decay,
            rules.allow_short,
            bars_per_year,
        )
        execution = ExecutionContainer(rules.lot_size, rules.slippage, rules.commission)
        return _Portfolio(spec, container, execution, [], {})

    def on_bar(self, bar: Bar) -> None:
        """Take the next bar of all symbols through every portfolio.

        Raises:
            DataError: the bar is out of order, or has other symbols.
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
        if self._trace is not None:
            self._trace_bar(bar, features, signals, regimes)
        for one in self._portfolios:
            own = signals[one.spec.signal_key]
            self._portfolio_bar(one, bar, own, regimes[one.spec.regime_key], matrix)
        if self._trace is not None:
            self._trace.end_bar(bar.index)

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
        if not rules.close_fill:
            self._fill(one, bar, bar.open)
        if rules.stops:
            self._stop(one, bar)
        self._trace_fills(one, container.mark(bar))
        container.update_variance()
        if not rules.close_fill:
            container.account()
        if self.hub.correlation_refreshed:
            container.refresh_correlation()
        one.execution.submit_orders(self._decide(one, bar, signals, regime, matrix))
        if rules.close_fill:
            self._fill(one, bar, bar.close)
            self._trace_fills(one, container.mark(bar))
            container.account()
        one.equity.append(container.equity)
        if self._trace is not None:
            state = (container.equity, container.cash, container.risk_state().exposure)
            self._trace.add("equity", [(one.spec.id, bar.index, *state, container.drawdown)])

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
        self._trace_fills(one, (fill,))

    def _reject(
        self,
        one: _Portfolio,
        id: str,
        bar: Bar,
        symbol: int,
        signal_id: str | None,
        order_id: str | None,
    ) -> None:
        """Count and trace what cash cut to nothing when it was to fill."""
        one.rejects[NO_CASH_AT_FILL] = one.rejects.get(NO_CASH_AT_FILL, 0) + 1
        if self._trace is not None:
            name = self._symbols[symbol]
            row = (id, one.spec.id, bar.index, name, signal_id, NO_CASH_AT_FILL, order_id)
            self._trace.add("rejects", [row])

    def _decide(
        self,
        one: _Portfolio,
        bar: Bar,
        signals: Sequence[Signal],
        regime: Regime,
        matrix: FloatArray | None,
    ) -> list[Order]:
        orders: list[Order] = []
        rejects: list[tuple[Any, ...]] = []
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
        if self._trace is not None:
            self._trace_decisions(one, orders, rejects)
        return orders

    # --- Tracing ------------------------------------------------------------------------------

    def _bar_id(self, bar: int, symbol: str) -> str:
        return correlation_id(self._data, bar, symbol, "bar")

    def _trace_fills(self, one: _Portfolio, fills: Sequence[Fill]) -> None:
        """Trace fills that the portfolio has booked."""
        if self._trace is None or not fills:
            return
        rows = []
        for fill in fills:
            symbol = self._symbols[fill.symbol]
            rows.append(
                (
                    fill.id,
                    fill.order_id,
                    one.spec.id,
                    fill.bar,
                    symbol,
                    fill.kind,
                    fill.quantity,
                    fill.price,
                    fill.cost,
                    one.container.cash,
                    one.container.lots[fill.symbol] * self._rules.lot_size,
                    self._bar_id(fill.bar, symbol),
                    fill.opening_order_id,
                    fill.stop_level,
                )
            )
        self._trace.add("fills", rows)

    def _trace_bar(
        self,
        bar: Bar,
        features: Indicators,
        signals: Mapping[str, Sequence[Signal]],
        regimes: Mapping[str, Regime],
    ) -> None:
        assert self._trace is not None
        time = str(bar.time)
        ids = [self._bar_id(bar.index, symbol) for symbol in self._symbols]
        prices = zip(bar.open, bar.high, bar.low, bar.close, bar.volume, strict=True)
        self._trace.add(
            "bars",
            [
                (id, bar.index, time, symbol, *map(float, row))
                for id, symbol, row in zip(ids, self._symbols, prices, strict=True)
            ],
        )
        rows = []
        for key, own in signals.items():
            config = self._strategies[key]
            names = (*config.features, config.volatility)
            for signal in own:
                values = {name: float(features[name][signal.symbol]) for name in names}
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
                        ids[signal.symbol],
                    )
                )
        self._trace.add("signals", rows)
        self._trace.add(
            "regimes", [(one.id, key, bar.index, one.code) for key, one in regimes.items()]
        )

    def _trace_decisions(
        self, one: _Portfolio, orders: Sequence[Order], rejects: Sequence[tuple[Any, ...]]
    ) -> None:
        assert self._trace is not None
        if rejects:
            self._trace.add("rejects", rejects)
        if orders:
            self._trace.add(
                "orders",
                [
                    (
                        order.id,
                        one.spec.id,
                        order.bar,
                        self._symbols[order.symbol],
                        order.signal_id,
                        order.regime_id,
                        order.lots * self._rules.lot_size,
                        order.kelly_value,
                        order.budget_value,
                        # Short positions have no cash bound: infinity, which no database keeps.
                        order.cash_value if np.isfinite(order.cash_value) else None,
                    )
                    for order in orders
                ],
            )

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


def study_specs(
    study: Study, space: Space, data_hash: str, risk: Literal["first", "all"] = "first"
) -> Iterator[PortfolioSpec]:
    """Every combination of a study's grid as a portfolio.

    Args:
        study: whose searched parameters are all listed.
        space: of the study.
        data_hash: of its bars: other bars under the same study file are another flow.
        risk: ``first`` takes the first swept value of each tile, ``all`` takes all.

    Raises:
        StudyFileError: a searched parameter is continuous.
    """
    owner = short_hash([study.content_hash, data_hash])
    for branch in space.branches:
        for point in branch.points():
            lanes = branch.lanes(point, 0, 1 if risk == "first" else None)
            tile = Tile(branch.strategy, branch.classifier, branch.market, lanes, branch.custom)
            yield from portfolio_specs(tile, owner, study.risk.allow_short)


@dataclass(frozen=True, eq=False)
class PreparedFlow:
    """A flow that can run: study and bars have been found fit for each other.

    Attributes:
        study, bars: of the flow.
        specs: the portfolios, in order.
        first: bar of the first decision.
        split: first bar of the holdout; None for none.
    """

    study: Study
    bars: Bars
    specs: tuple[PortfolioSpec, ...]
    first: int
    split: int | None
    _rules: Rules
    _keys: tuple[FeatureKey, ...]
    _given: Mapping[str, GivenFeature]

    @property
    def n_steps(self) -> int:
        """Bars x symbols x portfolios from the first decision on."""
        return (self.bars.n_bars - self.first) * self.bars.n_symbols * len(self.specs)

    def opened(self, trace: Trace | None) -> EventFlow:
        """The flow before its first bar."""
        return EventFlow(
            self.bars.symbols,
            self.bars.bars_per_year,
            self.specs,
            self._rules,
            self._keys,
            self.first,
            self.split,
            self.bars.content_hash,
            trace,
            self._given,
        )

    def run(self, trace: Trace | None = None) -> FlowResult:
        """Take every bar through the portfolios.

        Args:
            trace: where to write what happens.
        """
        flow = self.opened(trace)
        if trace is not None:
            trace.add(
                "portfolios",
                [
                    (
                        spec.id,
                        self.study.content_hash,
                        spec.strategy_name,
                        spec.classifier_name,
                        json.dumps(dict(spec.parameters)),
                        self.bars.content_hash,
                    )
                    for spec in self.specs
                ],
            )
        for index in range(self.bars.n_bars):
            flow.on_bar(self.bars.at(index))
        return flow.result()


def prepare_flow(
    study: Study,
    bars: Bars,
    *,
    risk: Literal["first", "all"] = "first",
    first_bar: int | None = None,
) -> PreparedFlow:
    """Every combination of a study's grid, ready to go through the bars; writes nothing.

    Args:
        study: whose searched parameters are all listed.
        bars: of the study.
        risk: see ``study_specs``.
        first_bar: bar of the first decision; None takes the longest warm-up of the study.

    Raises:
        StudyFileError: a searched parameter is continuous.
        DataError: the bars cannot be used.
    """
    space = build_space(study)
    rules = study_rules(study, space, bars.n_symbols)
    first = study_warm_up(space, rules) if first_bar is None else first_bar
    require_bars(bars, first + 10, f"the longest lookback of the study needs {first} for warm-up")
    split = holdout_bar(bars, first, study.validation.holdout)
    volatilities = (("volatility", n) for n in space.lookbacks("risk", "volatility_lookback"))
    prepared = PreparedFlow(
        study,
        bars,
        tuple(study_specs(study, space, bars.content_hash, risk)),
        first,
        split if split < bars.n_bars else None,
        rules,
        (*feature_keys(space), *volatilities),
        given_features(space),
    )
    prepared.opened(None)  # raises where a market is no symbol of the bars
    return prepared


def run_flow(
    study: Study,
    bars: Bars,
    *,
    risk: Literal["first", "all"] = "first",
    first_bar: int | None = None,
    trace: Trace | None = None,
) -> FlowResult:
    """Run every combination of a study's grid through the bars, one bar at a time.

    Args:
        study, bars, risk, first_bar: see ``prepare_flow``.
        trace: where to write what happens.

    Raises:
        StudyFileError: a searched parameter is continuous.
        DataError: the bars cannot be used.
    """
    return prepare_flow(study, bars, risk=risk, first_bar=first_bar).run(trace)


@dataclass(frozen=True)
class Parity:
    """An event flow beside the vectorized result of the same parameter set.

    Attributes:
        n_bars, n_fills: compared.
        differences: one line each, the first of each kind; empty where all bits agree.
    """

    n_bars: int
    n_fills: int
    differences: tuple[str, ...]


def _bits(*values: Any) -> bytes:
    """What tells floats apart to the last bit: -0.0 is not 0.0, and NaN is itself."""
    return np.array(values, dtype=np.float64).tobytes()


def compare(flow: FlowResult, number: int, result: BacktestResult) -> Parity:
    """Compare portfolio ``number`` of a flow with a backtest, bit for bit.

    Equity bar by bar with the bars' times; of every fill, those of ruin included, time, symbol,
    kind, quantity, price and cost.
    """
    differences = []
    mine, theirs = flow.equity.iloc[:, number], result.equity
    if len(mine) != len(theirs):
        differences.append(f"equity: {len(mine)} bars by events, {len(theirs)} vectorized")
    else:
        times = np.asarray(mine.index) != np.asarray(theirs.index)
        if times.any():
            at = int(np.argmax(times))
            differences.append(
                f"bar {flow.first + at}: {mine.index[at]} by events, {theirs.index[at]} vectorized"
            )
        unlike = mine.to_numpy().view(np.int64) != theirs.to_numpy().view(np.int64)
        if unlike.any():
            at = int(np.argmax(unlike))
            differences.append(
                f"equity at {theirs.index[at]}: {float(mine.iloc[at])!r} by events,"
                f" {float(theirs.iloc[at])!r} vectorized"
            )
    fills = flow.views[number].transactions
    symbols = [position.symbol for position in flow.views[number].positions]
    vectorized = list(result.fills.itertuples(index=False))
    if len(fills) != len(vectorized):
        differences.append(f"fills: {len(fills)} by events, {len(vectorized)} vectorized")
    for fill, other in zip(fills, vectorized, strict=False):
        same = (
            flow.equity.index[fill.bar - flow.first] == other.timestamp
            and symbols[fill.symbol] == other.symbol
            and fill.kind == other.kind
            and _bits(fill.quantity, fill.price, fill.cost)
            == _bits(other.quantity, other.price, other.cost)
        )
        if not same:
            differences.append(
                f"fill {fill.id}: {fill.kind} of {fill.quantity!r} at {fill.price!r}, cost"
                f" {fill.cost!r} by events, {other} vectorized"
            )
            break
    return Parity(len(theirs), len(vectorized), tuple(differences))
