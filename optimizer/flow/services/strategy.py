"""Strategies in the event flow: from features to a signal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from optimizer.errors import FlowError
from optimizer.market.feature_keys import indicator_name
from optimizer.strategies.strategy import Rule, Strategy
from optimizer.sweep.risk_values import score_sharpe
from optimizer.types import Bar, FloatArray, Regime, Signal


@dataclass(frozen=True, eq=False)
class StrategyConfig:
    """One strategy with its parameters, as the event flow takes it.

    Attributes:
        features: names of its features in the feature hub, in the order of its signal kernel.
        volatility: name of the volatility that sizes its signals.
        values: the signal values.
        score_sharpe: Sharpe ratio per bar that a score of 1 stands for.
        rule: the signal kernel.
        position_values: names of the values of the position that it takes.
        regime_values: names of the probabilities of the regime that it takes.
    """

    features: tuple[str, ...]
    volatility: str
    values: tuple[float, ...]
    score_sharpe: float
    rule: Rule
    position_values: tuple[str, ...] = ()
    regime_values: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, strategy: Strategy, parameters: Mapping[str, float], bars_per_year: float
    ) -> StrategyConfig:
        """The configuration of one parameter set.

        Args:
            strategy: built in or the user's.
            parameters: the parameters by column name; those of the strategy,
                ``volatility_lookback`` and ``expected_sharpe`` at least.
            bars_per_year: the number of bars in a year.

        Raises:
            StrategyError: the file of a user's strategy is missing or has changed.
        """
        own = {name: np.array([value]) for name, value in strategy.own(parameters).items()}
        return cls(
            tuple(
                indicator_name(strategy.feature_key(use, {n: v[0] for n, v in own.items()}))
                for use in strategy.features
            ),
            f"volatility_{int(parameters['volatility_lookback'])}",
            tuple(float(values[0]) for values in strategy.signal_values(own)),
            score_sharpe(parameters["expected_sharpe"], bars_per_year),
            strategy.rule(),
            strategy.position_values,
            strategy.regime_values,
        )


class StatelessStrategy:
    """Turns the features of a symbol into a signal."""

    @staticmethod
    def generate_signal(
        features: Mapping[str, FloatArray],
        config: StrategyConfig,
        market_data: Bar,
        symbol: int,
        signal_id: str,
        position: Sequence[float] = (),
        regime: Regime | None = None,
    ) -> Signal:
        """The signal of one symbol at one bar.

        Args:
            features: the features of the bar by name, each of shape (n_symbols,).
            config: the configuration of the strategy.
            market_data: the bar.
            symbol: index.
            signal_id: the ID of the signal.
            position: what ``config.position_values`` names, as ``PortfolioContainer.at_close`` gives it.
            regime: the regime whose probabilities ``config.regime_values`` names; None if it names none.

        Raises:
            SignalError: the user's ``signal`` raised.
            FlowError: the strategy takes a regime or a position that is not given.
        """
        if config.regime_values and regime is None:
            raise FlowError(
                f"signal {signal_id}: regime is None, and the strategy takes"
                f" {' and '.join(config.regime_values)}; give the Regime of the bar"
            )
        if len(position) != len(config.position_values):
            raise FlowError(
                f"signal {signal_id}: position has {len(position)} values, and the strategy takes"
                f" {', '.join(config.position_values) or 'none'}; give those of what at_close returns"
            )
        volatility = float(features[config.volatility][symbol])
        inverse = 1.0 / volatility if volatility > 0.0 else 0.0
        found = config.rule(
            [
                *(float(features[name][symbol]) for name in config.features),
                *(float(getattr(regime, name)) for name in config.regime_values),
                *position,
            ],
            config.values,
            float(market_data.close[symbol]),
            volatility,
            inverse,
            config.score_sharpe,
        )
        return Signal(signal_id, symbol, *found, volatility, inverse)
