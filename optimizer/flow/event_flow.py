"""The event flow: one bar at a time through the containers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from kernels.codes import FLAT, LEAVING, MARKET_ENTRY, NEUTRAL, WAITING
from optimizer.errors import FlowError, StrategyError
from optimizer.flow.account_flow import AccountFlow, BarParts
from optimizer.flow.broker import Broker
from optimizer.flow.containers.data import DataContainer
from optimizer.flow.containers.execution import Market
from optimizer.flow.containers.feature_hub import Indicators
from optimizer.flow.parts import feature_hub
from optimizer.flow.portfolio_view import PortfolioView
from optimizer.flow.portfolios import PortfolioSpec
from optimizer.flow.services.classifier import ClassifierConfig, StatelessClassifier
from optimizer.flow.services.strategy import StatelessStrategy, StrategyConfig
from optimizer.flow.tracing import Trace, Tracer
from optimizer.market.clock import MarketClock
from optimizer.market.feature_keys import FeatureKey, indicator_name
from optimizer.market.features import FeatureColumns, GivenFeature
from optimizer.strategies.position_values import chosen_values
from optimizer.sweep.rules import Rules
from optimizer.types import (
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


@dataclass(frozen=True, eq=False)
class Outcome:
    """What one portfolio of a flow did.

    Attributes:
        equity: money at each close, shape (n_bars from the first decision on,).
        view: final state.
        in_sample, out_of_sample: metrics; the latter None without a holdout.
        rejects: how often each reason kept a signal from an order or an order from a fill.
    """

    equity: FloatArray
    view: PortfolioView
    in_sample: dict[str, float]
    out_of_sample: dict[str, float] | None
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

    @classmethod
    def of(
        cls,
        specs: tuple[PortfolioSpec, ...],
        outcomes: Sequence[Outcome],
        times: Sequence[np.datetime64],
        first: int,
    ) -> FlowResult:
        """The result of portfolios that went through the same bars.

        Args:
            specs: the portfolios, in order.
            outcomes: what each did.
            times: times of the bars from the first decision on.
            first: bar of the first decision.
        """
        equity = pd.DataFrame(
            np.array([one.equity for one in outcomes]).T,
            index=pd.DatetimeIndex(np.array(times, "datetime64[ns]"), name="timestamp", tz="UTC"),
            columns=[spec.id for spec in specs],
        )
        rejects: dict[str, int] = {}
        for one in outcomes:
            for reason, count in one.rejects.items():
                rejects[reason] = rejects.get(reason, 0) + count
        n_symbols = len(outcomes[0].view.positions)
        return cls(
            specs=specs,
            equity=equity,
            views=tuple(one.view for one in outcomes),
            in_sample=tuple(one.in_sample for one in outcomes),
            out_of_sample=tuple(
                one.out_of_sample for one in outcomes if one.out_of_sample is not None
            ),
            rejects=rejects,
            n_steps=len(times) * n_symbols * len(specs),
            first=first,
        )


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
        broker: fills the orders; None fills them by the rules of the study.
        clock: the days and sessions of the market; None where no feature needs them.
        tradable: which symbols features compare at each bar, shape (n_bars, n_symbols), 1 or 0; None
            compares all.

    Raises:
        FlowError: a broker cannot fill by the rules of the study.
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
        broker: Broker | None = None,
        clock: MarketClock | None = None,
        tradable: MaskArray | None = None,
    ) -> None:
        if broker is not None and (rules.close_fill or rules.entry != MARKET_ENTRY):
            raise FlowError(
                'a broker fills orders at the market after the close; set [costs] fill = "next_open" and'
                ' [risk] entry = "market"'
            )
        self._symbols = symbols
        self._rules = rules
        self._rates = rules.closing_rates(first)
        self._first = first
        self._live = live
        self._split = split
        self._broker = broker
        self._tracer = Tracer(trace, symbols, data_hash, tuple(map(float, rules.lot_units)))
        self.data = DataContainer(symbols)
        self._strategies = {spec.signal_key: spec.strategy for spec in specs}
        self._classifiers = {spec.regime_key: spec.regime for spec in specs}
        self._fitted = {key: ClassifierConfig() for key in self._classifiers}
        self._codes = dict.fromkeys(self._classifiers, NEUTRAL)
        self._regime_of = {spec.signal_key: spec.regime_key for spec in specs}
        self._asked = {spec.regime_key for spec in specs if spec.strategy.regime_values}
        self.hub = feature_hub(symbols, specs, rules, keys, first, given, clock, tradable)
        self._portfolios = [
            AccountFlow(spec, symbols, rules, ends, bars_per_year, self._tracer, broker)
            for spec in specs
        ]
        self._in_sample: tuple[dict[str, float], ...] = ()
        self._features: Indicators = {}
        self._before: Indicators = {}
        self._ranges = self._earlier_ranges = np.zeros(len(symbols))
        self._regimes: dict[str, Regime] = {}
        self._times: list[np.datetime64] = []

    @property
    def accounts(self) -> Sequence[AccountFlow]:
        """The containers of each portfolio, in order."""
        return self._portfolios

    def regime_of(self, one: AccountFlow) -> Regime:
        """The regime that a portfolio knows at the last bar.

        Args:
            one: one of ``accounts``.
        """
        return self._regimes[one.spec.regime_key]

    def extend(
        self,
        rules: Rules,
        live: MaskArray,
        ends: IntArray,
        clock: MarketClock | None,
        tradable: MaskArray | None,
        known: FeatureColumns | None = None,
    ) -> None:
        """Let the flow go on beyond the bars for which it was made.

        Args:
            rules, live, ends, clock, tradable: those of more bars, the first ones of which are those
                for which it was made.
            known: the features of the user's strategies at all of them; None computes them bar by bar.
        """
        self._rules, self._rates = rules, rules.closing_rates(self._first)
        self._live = live
        self.hub.extend(clock, tradable, known)
        for one in self._portfolios:
            one.extend(rules, ends)

    def on_bar(self, bar: Bar) -> None:
        """Take the next bar of all symbols through every portfolio.

        Args:
            bar: the one after the bar of the last call; the first has index 0.

        Raises:
            DataError: the bar is out of order or has other symbols.
            StrategyError: the user's code raised; names its line, the bar and the symbol.
            FlowError: the flow has a broker, which ``on_bar_of_broker`` awaits.
        """
        if self._broker is not None:
            raise FlowError(
                "this flow has a broker: await on_bar_of_broker(bar) in place of on_bar"
            )
        self.take_bar(bar)
        self.end_bar(bar)

    def take_bar(self, bar: Bar) -> None:
        """As ``on_bar``, up to the decisions at the close; until ``end_bar`` others may take their place.

        Args:
            bar: the one after the bar of the last call.

        Raises:
            DataError, StrategyError: see ``on_bar``.
        """
        self._receive(bar)
        self._trade(bar, None)

    def end_bar(self, bar: Bar) -> None:
        """Write down the orders of a bar, and that it has ended.

        Args:
            bar: the bar that was taken last.
        """
        if bar.index >= self._first:
            for one in self._portfolios:
                one.trace_orders()
            self._tracer.end_bar(bar.index)

    async def on_bar_of_broker(self, bar: Bar) -> dict[str, str]:
        """Take the next bar, with the fills that the broker has since the last one; send it the orders.

        Only the broker's fills change positions: a stop that the bar has reached is an order to close at
        its close, and nothing is liquidated here.

        Args:
            bar: the one after the bar of the last call; the first has index 0.

        Returns:
            The broker's reference of each order that was sent, by the order's ID.

        Raises:
            DataError: the bar is out of order or has other symbols; the broker was not asked.
            StrategyError: the user's code raised; names its line, the bar and the symbol.
            FlowError: there is no broker, or one of its fills is of no order that this flow has sent.
        """
        await self.take_bar_of_broker(bar)
        return await self.send_orders(bar)

    async def take_bar_of_broker(self, bar: Bar) -> None:
        """As ``on_bar_of_broker``, up to the decisions; see ``take_bar``.

        Args:
            bar: the one after the bar of the last call.

        Raises:
            DataError, StrategyError, FlowError: see ``on_bar_of_broker``.
        """
        if self._broker is None:
            raise FlowError("this flow has no broker: give EventFlow one, or call on_bar")
        self._receive(bar)
        if bar.index < self._first:
            return
        filled: dict[str, list[Fill]] = {one.spec.id: [] for one in self._portfolios}
        for fill in await self._broker.fills():
            if fill.portfolio_id not in filled:
                raise FlowError(
                    f"fill {fill.id} of the broker: no portfolio {fill.portfolio_id} here"
                )
            filled[fill.portfolio_id].append(fill)
        self._trade(bar, filled)

    async def send_orders(self, bar: Bar) -> dict[str, str]:
        """Send the orders of a bar to the broker.

        Args:
            bar: the bar that was taken last.

        Returns:
            The broker's reference of each order that was sent, by the order's ID.
        """
        sent: dict[str, str] = {}
        self.end_bar(bar)
        for one in self._portfolios if bar.index >= self._first else ():
            references = await one.execution.submit_to_real_broker(one.decided)
            sent |= dict(zip((order.id for order in one.decided), references, strict=True))
        return sent

    def _receive(self, bar: Bar) -> None:
        """Take the bar into the containers that all portfolios share."""
        self.data.update_timeline_position(bar)
        self.data.cache_bar(bar)
        self._before, self._features = self._features, self.hub.calculate_indicators(bar)
        self._earlier_ranges, self._ranges = self._ranges, self._average_ranges(self._features)
        self._regimes = self._classify(bar)

    def _trade(self, bar: Bar, filled: Mapping[str, Sequence[Fill]] | None) -> None:
        """Take the bar through every portfolio."""
        if bar.index < self._first:
            return
        if bar.index == self._split:
            self._in_sample = tuple(one.container.metrics() for one in self._portfolios)
            for one in self._portfolios:
                one.container.start_period()
        signals = {
            key: self._signals(key, config, bar)
            for key, config in self._strategies.items()
            if not config.position_values
        }
        self._times.append(bar.time)
        self._tracer.bar(bar, self._regimes)
        for key, own in signals.items():
            self._trace_signals(bar, key, own)
        counted = self._rules.counted
        parts = BarParts(
            bar=bar,
            inside=self._inside(bar),
            ranges=self._ranges,
            rates=self._rates[bar.index],
            closes=counted is None or bool(counted[bar.index]),
            refreshed=self.hub.correlation_refreshed,
            matrix=self.hub.get_correlation_matrix(),
        )
        for one in self._portfolios:
            name = one.spec.strategy.volatility
            now, before = self._features[name], self._before.get(name, self._features[name])
            # What fills before the close was decided at the close before, with the volatility known then.
            earlier = Market(bar, bar.open, before, self._earlier_ranges)
            one.until_decision(parts, earlier, None if filled is None else filled[one.spec.id])
            known = signals.get(one.spec.signal_key)
            given = self._own_signals(one, bar) if known is None else known
            orders = self._decide(one, parts, given, self.regime_of(one))
            one.after_decision(parts, Market(bar, bar.close, now, self._ranges), orders)

    def _decide(
        self, one: AccountFlow, parts: BarParts, signals: Sequence[Signal], regime: Regime
    ) -> tuple[Order, ...]:
        return one.decide(parts, signals, regime)

    def _inside(self, bar: Bar) -> tuple[tuple[Bar, str], ...]:
        """The finer bars of a bar, or the bar itself, each with what ends the IDs of its fills."""
        finer = self._rules.finer
        if finer is None:
            return ((bar, ""),)
        first, last = (int(bound) for bound in finer.bounds[bar.index : bar.index + 2])
        parts = []
        for f in range(first, last):
            part = replace(
                bar,
                open=finer.open[f],
                high=finer.high[f],
                low=finer.low[f],
                close=finer.open[f],  # which nothing reads
                traded=finer.traded[f],
                market_volume=finer.volume[f],
            )
            parts.append((part, f".{f - first}" if f > first else ""))
        return tuple(parts)

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
                values, returns = dict(parameters), self.hub.market_returns(market)
                asked = key in self._asked
                fitted = StatelessClassifier.refit(name, values, returns, self._fitted[key], asked)
                observed = StatelessClassifier.observe(name, values, self.hub, market)
                self._codes[key], self._fitted[key] = StatelessClassifier.classify_regime(
                    observed, fitted, asked
                )
            id, shares = correlation_id(key, bar.index, "regime"), self._fitted[key].probabilities
            found[key] = Regime(id, self._codes[key], *shares)
        return found

    def _signals(
        self,
        key: str,
        config: StrategyConfig,
        bar: Bar,
        positions: Mapping[int, Sequence[float]] | None = None,
    ) -> list[Signal]:
        """The signals of a strategy, none of a symbol that waits, and flat if it leaves."""
        signals = []
        regime = self._regimes[self._regime_of[key]]
        for s in self._deciding(bar):
            id = correlation_id(key, bar.index, self._symbols[s], "signal")
            position = () if positions is None else positions[s]
            try:
                signal = StatelessStrategy.generate_signal(
                    self._features, config, bar, s, id, position, regime
                )
            except StrategyError as error:
                where = f"bar {bar.index} at {bar.time} of {self._symbols[s]}"
                raise type(error)(f"{error}; at {where}") from None
            leaves = self._live[bar.index, s] == LEAVING
            signals.append(replace(signal, direction=float(FLAT)) if leaves else signal)
        return signals

    def _deciding(self, bar: Bar) -> list[int]:
        """The symbols that have a signal at a bar."""
        return [int(s) for s in np.flatnonzero(self._live[bar.index] != WAITING)]

    def _own_signals(self, one: AccountFlow, bar: Bar) -> list[Signal]:
        """The signals of a strategy that reads the positions of its portfolio, as of their mark."""
        key, config = one.spec.signal_key, one.spec.strategy
        positions = {
            s: chosen_values(config.position_values, one.container.at_close(s, float(bar.close[s])))
            for s in self._deciding(bar)
        }
        signals = self._signals(key, config, bar, positions)
        self._trace_signals(bar, key, signals, positions)
        return signals

    def _trace_signals(
        self,
        bar: Bar,
        key: str,
        signals: Sequence[Signal],
        positions: Mapping[int, Sequence[float]] | None = None,
    ) -> None:
        config, regime = self._strategies[key], self._regimes[self._regime_of[key]]
        self._tracer.signals(bar, self._features, key, config, signals, regime, positions)

    def next_orders(self) -> tuple[tuple[Order, ...], ...]:
        """The orders of each portfolio that wait for the next bar."""
        return tuple(one.execution.active_orders for one in self._portfolios)

    def outcomes(self) -> tuple[Outcome, ...]:
        """What each portfolio did so far."""
        now = tuple(one.container.metrics() for one in self._portfolios)
        return tuple(
            Outcome(
                equity=np.array(one.equity),
                view=one.container.get_state(),
                in_sample=self._in_sample[i] if self._in_sample else now[i],
                out_of_sample=now[i] if self._in_sample else None,
                rejects=dict(one.rejects),
            )
            for i, one in enumerate(self._portfolios)
        )

    def result(self) -> FlowResult:
        """What the portfolios did so far."""
        specs = tuple(one.spec for one in self._portfolios)
        return FlowResult.of(specs, self.outcomes(), self._times, self._first)
