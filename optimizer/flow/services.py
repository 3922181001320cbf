"""Strategies, classifiers and the risk manager: pure, stateless, thin over the kernels.

The sweep reads how a strategy maps onto a signal kernel; the event flow calls the same kernels one
symbol at a time. Every piece of state comes in as an argument, and nothing is mutated.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from kernels.codes import AVERAGE_CROSS, MEAN_REVERSION, MOMENTUM, NEUTRAL, PLACED
from kernels.execution import stop_price
from kernels.layout import MAX_SIGNAL_PARAMETERS, MAX_USER_FEATURES
from kernels.risk import decide
from kernels.signals import (
    average_cross_signal,
    breakout_signal,
    mean_reversion_signal,
    momentum_signal,
)
from optimizer.catalogue import column
from optimizer.market.regime_models import RegimeModel
from optimizer.strategies.built_in import STRATEGY_KERNELS, strategy_kernel
from optimizer.strategies.user import load_custom
from optimizer.strategies.user_file import CustomStrategy, strategy_parameters
from optimizer.types import Bar, FloatArray, Order, PortfolioState, Regime, Signal, correlation_id


@dataclass(frozen=True, eq=False)
class StrategyConfig:
    """One strategy with its parameters, as the event flow runs it.

    Attributes:
        name: of the strategy.
        features: names of its features in the hub's values.
        volatility: name of the volatility by which its signals are sized.
        signal: the signal parameters.
        custom: a user's signal, as ``kernels.user_signal``; None for a built-in strategy.
    """

    name: str
    features: tuple[str, ...]
    volatility: str
    signal: tuple[float, ...]
    custom: Callable[..., tuple[float, float, float]] | None = None

    @classmethod
    def of(
        cls, name: str, parameters: Mapping[str, float], custom: CustomStrategy | None = None
    ) -> StrategyConfig:
        """From parameters by column name."""
        kernel = strategy_kernel(name, custom)
        users = None if custom is None else load_custom(custom)
        own = {
            p.name: np.array([parameters[column(name, p.name)]])
            for p in strategy_parameters(name, custom)
        }
        return cls(
            name,
            tuple(f"{feature}_{int(own[lookback][0])}" for feature, lookback in kernel.features),
            f"volatility_{int(parameters['volatility_lookback'])}",
            tuple(float(values[0]) for values in kernel.signal(own)),
            None if users is None else functools.partial(users.call, users.signal),
        )


class StatelessStrategy:
    """From features to a signal."""

    @staticmethod
    def generate_signal(
        features: Mapping[str, FloatArray],
        config: StrategyConfig,
        market_data: Bar,
        symbol: int,
        signal_id: str,
    ) -> Signal:
        """Signal of one symbol at one bar.

        Args:
            features: of the bar by name, each (n_symbols,).
            config: the strategy.
            market_data: the bar.
            symbol: index.
            signal_id: of the signal.
        """
        volatility = float(features[config.volatility][symbol])
        inverse = 1.0 / volatility if volatility > 0.0 else 0.0
        close = float(market_data.close[symbol])
        if config.custom is not None:
            x = [float(features[name][symbol]) for name in config.features]
            x += [0.0] * (MAX_USER_FEATURES - len(x))
            p = [*config.signal, *[0.0] * (MAX_SIGNAL_PARAMETERS - len(config.signal))]
            found = config.custom(*x, close, volatility, inverse, *p)
            return Signal(signal_id, symbol, *found, volatility, inverse)
        x0 = float(features[config.features[0]][symbol])
        first, second = config.signal
        code = STRATEGY_KERNELS[config.name].code
        if code == MOMENTUM:
            found = momentum_signal(x0, volatility, inverse, first, second)
        elif code == MEAN_REVERSION:
            found = mean_reversion_signal(x0, volatility, first, second)
        else:
            x1 = float(features[config.features[1]][symbol])
            inverse_close = 1.0 / close
            if code == AVERAGE_CROSS:
                found = average_cross_signal(
                    x0, x1, inverse_close, volatility, inverse, first, second
                )
            else:
                found = breakout_signal(
                    x0, x1, close, inverse_close, volatility, inverse, first, second
                )
        return Signal(signal_id, symbol, *found, volatility, inverse)


@dataclass(frozen=True, eq=False)
class ClassifierConfig:
    """A fitted regime model and the state it carries; no model is neutral."""

    model: RegimeModel | None = None
    carried: FloatArray | None = None


class StatelessClassifier:
    """From the market's features to a regime."""

    @staticmethod
    def classify_regime(
        features: FloatArray, config: ClassifierConfig
    ) -> tuple[int, ClassifierConfig]:
        """Regime code of one bar, and the configuration for the next.

        Args:
            features: (1, n_features) of the market at the bar.
            config: the model in force and its carried state.
        """
        if config.model is None:
            return NEUTRAL, config
        before = config.model.carried() if config.carried is None else config.carried
        carried = before.copy()
        code = int(config.model.classify(features, carried)[0])
        return code, ClassifierConfig(config.model, carried)


@dataclass(frozen=True)
class RiskConfig:
    """Risk parameters of one portfolio; distances of stops are inf where off."""

    kelly_fraction: float
    bear_multiplier: float
    neutral_multiplier: float
    bull_multiplier: float
    correlation_penalty: float
    min_lots: float
    rebalance_band: float
    stop_loss: float
    take_profit: float
    trailing_stop: float
    lot_size: float
    allow_short: bool

    @classmethod
    def of(cls, parameters: Mapping[str, float], allow_short: bool) -> RiskConfig:
        """From parameters by column name."""

        def distance(name: str) -> float:
            return parameters[name] if parameters[name] > 0.0 else np.inf

        return cls(
            kelly_fraction=parameters["kelly_fraction"],
            bear_multiplier=parameters["bear_multiplier"],
            neutral_multiplier=parameters["neutral_multiplier"],
            bull_multiplier=parameters["bull_multiplier"],
            correlation_penalty=parameters["correlation_penalty"],
            min_lots=parameters["min_order_size"] / parameters["lot_size"],
            rebalance_band=parameters["rebalance_band"],
            stop_loss=distance("stop_loss"),
            take_profit=distance("take_profit"),
            trailing_stop=distance("trailing_stop"),
            lot_size=parameters["lot_size"],
            allow_short=allow_short,
        )

    def multiplier(self, regime: int) -> float:
        """Factor of the Kelly fraction in a regime, a code."""
        if regime == NEUTRAL:
            return self.neutral_multiplier
        return self.bull_multiplier if regime > NEUTRAL else self.bear_multiplier


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of a signal.

    Attributes:
        order: None where there is none.
        reason: reject reason, a code; PLACED with an order.
        barred: direction of the symbol that a stop keeps closed, from here on.
    """

    order: Order | None
    reason: int
    barred: float


class StatelessRiskManager:
    """From a signal to an order or a reason why there is none."""

    @staticmethod
    def process_signal_to_order(
        signal: Signal,
        regime: Regime,
        portfolio_state: PortfolioState,
        risk_config: RiskConfig,
        market_data: Bar,
        correlation_matrix: FloatArray | None,
    ) -> Order | None:
        """The order alone; see ``decide``."""
        return StatelessRiskManager.decide(
            signal, regime, portfolio_state, risk_config, market_data, correlation_matrix
        ).order

    @staticmethod
    def decide(
        signal: Signal,
        regime: Regime,
        portfolio_state: PortfolioState,
        risk_config: RiskConfig,
        market_data: Bar,
        correlation_matrix: FloatArray | None,
    ) -> Decision:
        """Size a signal by Kelly, regime and correlation; cap it by budget and cash.

        Args:
            signal: of one symbol.
            regime: of the market.
            portfolio_state: of the portfolio, with what earlier orders of the bar have taken.
            risk_config: of the portfolio.
            market_data: the bar.
            correlation_matrix: (n_symbols, n_symbols), or None for no adjustment.
        """
        state, s = portfolio_state, signal.symbol
        order, target, kelly_value, budget_value, cash_value, reason, barred = decide(
            signal.direction,
            signal.strength,
            signal.confidence,
            signal.inverse_volatility,
            risk_config.kelly_fraction * risk_config.multiplier(regime.code),
            state.variance,
            correlation_matrix,
            s,
            state.values,
            state.values_gross,
            risk_config.correlation_penalty,
            state.equity,
            state.lots[s],
            state.barred[s],
            float(market_data.close[s]) * risk_config.lot_size,
            state.cash_left,
            state.budget_left,
            risk_config.min_lots,
            risk_config.rebalance_band,
            True if risk_config.allow_short else None,
        )
        if reason != PLACED:
            return Decision(None, reason, barred)
        return Decision(
            Order(
                id=correlation_id(
                    state.portfolio_id, market_data.index, market_data.symbols[s], "order"
                ),
                bar=market_data.index,
                symbol=s,
                lots=order,
                target=target,
                kelly_value=kelly_value,
                budget_value=budget_value,
                cash_value=cash_value,
                signal_id=signal.id,
                regime_id=regime.id,
            ),
            reason,
            barred,
        )

    @staticmethod
    def stop(
        position: tuple[float, float, float], risk_config: RiskConfig, market_data: Bar, symbol: int
    ) -> float:
        """Price at which a stop closes a position (lots, entry, best) in the bar, or 0."""
        return stop_price(
            *position,
            float(market_data.open[symbol]),
            float(market_data.high[symbol]),
            float(market_data.low[symbol]),
            risk_config.stop_loss,
            risk_config.take_profit,
            risk_config.trailing_stop,
        )

    @staticmethod
    def stop_level(
        position: tuple[float, float, float],
        risk_config: RiskConfig,
        market_data: Bar,
        symbol: int,
        price: float,
    ) -> float:
        """The level behind a ``price`` that ``stop`` gave: beyond it where the bar opened there."""
        open_ = float(market_data.open[symbol])
        gap = price == open_
        # Without an open, the kernel gives the level itself. A bar that opened beyond one is judged
        # on its open alone: what came later is not why it was closed.
        return stop_price(
            *position,
            np.nan,
            open_ if gap else float(market_data.high[symbol]),
            open_ if gap else float(market_data.low[symbol]),
            risk_config.stop_loss,
            risk_config.take_profit,
            risk_config.trailing_stop,
        )
