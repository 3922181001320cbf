"""The risk manager of the event flow: sizes signals and watches stops."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kernels.codes import NEUTRAL, PLACED
from kernels.execution import stop_price
from kernels.risk import decide
from optimizer.sweep.risk_values import risk_values
from optimizer.types import Bar, FloatArray, Order, PortfolioState, Regime, Signal, correlation_id


@dataclass(frozen=True)
class RiskConfig:
    """Risk parameters of one portfolio, as the kernels take them.

    Attributes:
        kelly_fraction: share of the full Kelly size.
        max_exposure: most gross exposure, times equity.
        bear_multiplier, neutral_multiplier, bull_multiplier: of the Kelly fraction in a regime.
        correlation_penalty: cut of the size at a correlation of 1.
        min_lots: least order, lots.
        rebalance_band: least change of a position, a share of the target.
        stop_loss, take_profit, trailing_stop: distances as fractions, inf where off.
        lot_size: units per lot.
        allow_short: whether short positions are allowed.
    """

    kelly_fraction: float
    max_exposure: float
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
        """The configuration of one parameter set.

        Args:
            parameters: by column name, those of the risk manager at least.
            allow_short: whether short positions are allowed.
        """
        values = risk_values(parameters, parameters["lot_size"])
        return cls(
            **{name: float(value) for name, value in values.items()},
            lot_size=parameters["lot_size"],
            allow_short=allow_short,
        )

    def multiplier(self, regime: int) -> float:
        """Factor of the Kelly fraction in a regime, which is given by its code.

        Args:
            regime: -1, 0 or 1.
        """
        if regime == NEUTRAL:
            return self.neutral_multiplier
        return self.bull_multiplier if regime > NEUTRAL else self.bear_multiplier


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of a signal.

    Attributes:
        order: None where the signal became no order.
        reason: code of the reject reason; PLACED with an order.
        barred: direction of the symbol that a stop keeps closed from here on; 0 is neither.
    """

    order: Order | None
    reason: int
    barred: float


class StatelessRiskManager:
    """Makes an order of a signal, or says why it cannot."""

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
            portfolio_state: of the portfolio, less what earlier orders of the bar have taken.
            risk_config: of the portfolio.
            market_data: the bar.
            correlation_matrix: shape (n_symbols, n_symbols); None for no adjustment.
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
        """Price at which a stop closes a position in the bar, or 0; see ``kernels.execution``.

        Args:
            position: lots (signed), mean entry price, and best price since entry.
            risk_config: of the portfolio.
            market_data: the bar.
            symbol: index.
        """
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
        """The level of the stop that closed a position.

        It differs from the price where the bar opened beyond the level.

        Args:
            position: lots (signed), mean entry price, and best price since entry.
            risk_config: of the portfolio.
            market_data: the bar.
            symbol: index.
            price: that ``stop`` returned, not 0.
        """
        open_ = float(market_data.open[symbol])
        gap = price == open_
        # Without an open, the kernel returns the level itself. Where the bar opened beyond a level,
        # only its open counts: what came later is not why the position was closed.
        return stop_price(
            *position,
            np.nan,
            open_ if gap else float(market_data.high[symbol]),
            open_ if gap else float(market_data.low[symbol]),
            risk_config.stop_loss,
            risk_config.take_profit,
            risk_config.trailing_stop,
        )
