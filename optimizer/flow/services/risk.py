"""The risk manager of the event flow: sizes the signals of a close and watches stops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from kernels.codes import NEUTRAL
from kernels.decisions import decide
from kernels.execution import stop_price
from optimizer.sweep.risk_values import risk_values
from optimizer.sweep.rules import Rules
from optimizer.types import Bar, FloatArray, Order, PortfolioState, Regime, Signal, correlation_id


@dataclass(frozen=True)
class RiskConfig:
    """Risk parameters of one portfolio, as the kernels take them.

    Attributes:
        size: of the sizing mode, such as the share of the full Kelly size.
        max_weight: cap of a position, a fraction of equity.
        max_positions: most positions, inf where unlimited.
        max_exposure: most gross exposure, times equity.
        bear_multiplier, neutral_multiplier, bull_multiplier: of the size in a regime.
        correlation_penalty: cut of the size at a correlation of 1.
        min_order_size: smallest order that opens or adds, units.
        rebalance_band: least change of a position, a share of the target.
        stop_loss, take_profit, trailing_stop: distances as fractions, inf where off.
        sizing, allocation: codes of ``kernels.codes``.
        allow_short: whether short positions are allowed.
        lot_units, lot_money: of each symbol, units per lot, and money per lot at a price of 1.
    """

    size: float
    max_weight: float
    max_positions: float
    max_exposure: float
    bear_multiplier: float
    neutral_multiplier: float
    bull_multiplier: float
    correlation_penalty: float
    min_order_size: float
    rebalance_band: float
    stop_loss: float
    take_profit: float
    trailing_stop: float
    sizing: int
    allocation: int
    allow_short: bool
    lot_units: tuple[float, ...]
    lot_money: tuple[float, ...]

    @classmethod
    def of(cls, parameters: Mapping[str, float], rules: Rules, bars_per_year: float) -> RiskConfig:
        """The configuration of one parameter set.

        Args:
            parameters: by column name; risk parameters and costs at least.
            rules: of the study.
            bars_per_year: of the bars.
        """
        values = risk_values(parameters, rules, bars_per_year)
        own = {one.name: float(values[one.name]) for one in fields(cls) if one.name in values}
        return cls(
            **own,
            sizing=rules.sizing,
            allocation=rules.allocation,
            allow_short=rules.allow_short,
            lot_units=tuple(map(float, rules.lot_units)),
            lot_money=tuple(map(float, rules.lot_money)),
        )

    def multiplier(self, regime: int) -> float:
        """Factor of the size in a regime, which is given by its code.

        Args:
            regime: -1, 0 or 1.
        """
        if regime == NEUTRAL:
            return self.neutral_multiplier
        return self.bull_multiplier if regime > NEUTRAL else self.bear_multiplier


@dataclass(frozen=True, slots=True)
class Decisions:
    """What became of the signals of a close.

    Attributes:
        orders: in the order of the symbols.
        reasons: of each symbol, the code of the reject reason; PLACED with an order, HELD without a
            signal.
        barred: of each symbol, the direction that a stop keeps closed from here on; 0 is neither.
    """

    orders: tuple[Order, ...]
    reasons: tuple[int, ...]
    barred: tuple[float, ...]


class StatelessRiskManager:
    """Makes orders of the signals of a close, or says why it cannot."""

    @staticmethod
    def process_signals_to_orders(
        signals: Sequence[Signal],
        regime: Regime,
        portfolio_state: PortfolioState,
        risk_config: RiskConfig,
        market_data: Bar,
        correlation_matrix: FloatArray | None,
    ) -> tuple[Order, ...]:
        """The orders alone; see ``decide``."""
        return StatelessRiskManager.decide(
            signals, regime, portfolio_state, risk_config, market_data, correlation_matrix
        ).orders

    @staticmethod
    def decide(
        signals: Sequence[Signal],
        regime: Regime,
        portfolio_state: PortfolioState,
        risk_config: RiskConfig,
        market_data: Bar,
        correlation_matrix: FloatArray | None,
    ) -> Decisions:
        """Size all signals of a close at once, and share places and budget among them.

        Args:
            signals: at most one a symbol; the position of a symbol without one stays.
            regime: of the market.
            portfolio_state: of the portfolio.
            risk_config: of the portfolio.
            market_data: the bar.
            correlation_matrix: shape (n_symbols, n_symbols); None for no adjustment.
        """
        state, risk = portfolio_state, risk_config
        lots, barred = np.array(state.lots), np.array(state.barred)
        wanted, orders = np.empty(len(lots)), np.empty(len(lots))
        reasons = np.empty(len(lots), dtype=np.int64)
        own = {signal.symbol: signal for signal in signals}
        directions = np.full(len(lots), np.nan)  # no signal
        strengths, confidences, inverse_volatilities = np.zeros((3, len(lots)))
        for s, one in own.items():
            directions[s], strengths[s] = one.direction, one.strength
            confidences[s], inverse_volatilities[s] = one.confidence, one.inverse_volatility
        share = decide(
            directions,
            strengths,
            confidences,
            inverse_volatilities,
            lots,
            barred,
            np.array(risk.lot_units),
            market_data.close * np.array(risk.lot_money),
            risk.sizing,
            risk.allocation,
            risk.size * risk.multiplier(regime.code),
            risk.max_weight,
            risk.max_positions,
            risk.max_exposure,
            risk.min_order_size,
            risk.rebalance_band,
            state.variance,
            state.equity,
            state.gross,
            correlation_matrix,
            state.values,
            state.values_gross,
            risk.correlation_penalty,
            True if risk.allow_short else None,
            wanted,
            orders,
            reasons,
        )
        placed = tuple(
            Order(
                id=correlation_id(
                    state.portfolio_id, market_data.index, market_data.symbols[s], "order"
                ),
                bar=market_data.index,
                symbol=s,
                lots=float(orders[s]),
                wanted=float(wanted[s]),
                budget_share=float(share),
                target=float(lots[s] + orders[s]),
                signal_id=own[s].id,
                regime_id=regime.id,
            )
            for s in np.flatnonzero(orders).tolist()
        )
        return Decisions(placed, tuple(reasons.tolist()), tuple(barred.tolist()))

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
