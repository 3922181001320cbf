"""The risk manager of the event flow: sizes the signals of a close and watches stops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from kernels.codes import LONG, NEUTRAL
from kernels.decisions import decide
from kernels.execution import stop_distance, stop_price
from kernels.risk import correlation_adjustment
from optimizer.errors import FlowError
from optimizer.sweep.risk_values import risk_values
from optimizer.sweep.rules import Rules
from optimizer.types import (
    Bar,
    FloatArray,
    Order,
    PortfolioState,
    Regime,
    Signal,
    Sizing,
    correlation_id,
)


@dataclass(frozen=True)
class RiskConfig:
    """Risk parameters of one portfolio, as the kernels take them.

    Attributes:
        size: the size that the sizing mode takes, such as the share of the full Kelly size.
        max_weight: cap of a position, a fraction of equity.
        max_positions: most positions, inf where unlimited.
        max_exposure: most gross exposure, times equity.
        bear_multiplier, neutral_multiplier, bull_multiplier: the factors of the size in each
            regime.
        correlation_penalty: cut of the size at a correlation of 1.
        min_order_size: smallest order that opens or adds, units.
        rebalance_band: least change of a position, a share of the target.
        stop_loss_atr, take_profit_atr, trailing_stop_atr: multiples of the average true range, 0 where
            off.
        time_exit: closes after which a position is closed, inf where off.
        cooldown: closes without entry after an exit.
        entry_offset, entry_offset_atr, entry_bars: where entries wait; see ``EntryTerms``.
        stop_loss, take_profit, trailing_stop: distances as fractions, inf where off.
        sizing, allocation: codes of ``kernels.codes``.
        allow_short: whether short positions are allowed.
        lot_units, lot_money: the units per lot of each symbol, and its money per lot at a price of
            1.
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
    stop_loss_atr: float
    take_profit_atr: float
    trailing_stop_atr: float
    time_exit: float
    cooldown: float
    entry_offset: float
    entry_offset_atr: float
    entry_bars: float
    sizing: int
    allocation: int
    allow_short: bool
    lot_units: tuple[float, ...]
    lot_money: tuple[float, ...]

    @classmethod
    def of(cls, parameters: Mapping[str, float], rules: Rules, bars_per_year: float) -> RiskConfig:
        """The configuration of one parameter set.

        Args:
            parameters: the parameters by column name; risk parameters and costs at least.
            rules: the rules of the study.
            bars_per_year: the number of bars in a year.
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
        """The factor of the size in a regime, which is given by its code.

        Args:
            regime: -1, 0 or 1.
        """
        if regime == NEUTRAL:
            return self.neutral_multiplier
        return self.bull_multiplier if regime > NEUTRAL else self.bear_multiplier


@dataclass(frozen=True, slots=True)
class StopInputs:
    """What stops read of a position.

    Attributes:
        lots: signed.
        entry: mean price of its fills.
        best: best price since entry.
        atr: average true range before the fill that opened it.
        entered: price at which an entry filled inside the bar, 0 where none did. What came before does
            not count, and no target, since the bar does not tell its order.
    """

    lots: float
    entry: float
    best: float
    atr: float
    entered: float


@dataclass(frozen=True, slots=True)
class Decisions:
    """What became of the signals of a close.

    Attributes:
        orders: the orders in the order of the symbols.
        reasons: the code of the reject reason of each symbol; PLACED with an order, HELD
            without a signal.
        barred: the direction of each symbol that a stop keeps closed from here on; 0 is neither.
        cooling: the closes at which nothing may be entered in each symbol from here on.
        held_bars: the closes at which each position has been held.
    """

    orders: tuple[Order, ...]
    reasons: tuple[int, ...]
    barred: tuple[float, ...]
    cooling: tuple[float, ...]
    held_bars: tuple[float, ...]


class StatelessRiskManager:
    """Turns the signals of a close into orders, or says why not."""

    @staticmethod
    def process_signals_to_orders(
        signals: Sequence[Signal],
        regime: Regime,
        portfolio_state: PortfolioState,
        risk_config: RiskConfig,
        market_data: Bar,
        correlation_matrix: FloatArray | None = None,
        ranges: FloatArray | None = None,
        waiting: Sequence[float] | None = None,
    ) -> Decisions:
        """Size all signals of a close at once, and share places and budget among them.

        Args:
            signals: the signals, one a symbol or none; the position of a symbol without one stays.
            regime: the regime of the market.
            portfolio_state: the state of the portfolio, as ``PortfolioContainer.get_state`` gives it.
            risk_config: the risk configuration of the portfolio.
            market_data: the bar.
            correlation_matrix: shape (n_symbols, n_symbols); None for no adjustment.
            ranges: the average true ranges, in units of price, shape (n_symbols,); None where unused.
            waiting: what waits on in each symbol whose signal holds, lots, signed; None for nothing.

        Raises:
            FlowError: two signals are of the same symbol.

        Returns:
            The orders, why each other symbol has none, and the directions that stops keep closed.
        """
        state, risk = portfolio_state, risk_config
        lots, barred = np.array(state.lots), np.array(state.barred)
        cooling, held_bars = np.array(state.cooling), np.array(state.held_bars)
        shares = np.zeros(len(lots)) if ranges is None else ranges / market_data.close
        stops = [
            stop_distance(1.0, risk.stop_loss, range_, risk.stop_loss_atr)
            for range_ in shares.tolist()
        ]
        wanted, orders, sizes, rhos = np.empty((4, len(lots)))
        reasons = np.empty(len(lots), dtype=np.int64)
        own = _by_symbol(signals, market_data)
        factor = risk.multiplier(regime.code)
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
            cooling,
            held_bars,
            risk.time_exit,
            risk.cooldown,
            np.array(risk.lot_units),
            market_data.close * np.array(risk.lot_money),
            risk.sizing,
            risk.allocation,
            risk.size,
            factor,
            risk.max_weight,
            risk.max_positions,
            risk.max_exposure,
            risk.min_order_size,
            risk.rebalance_band,
            state.variance,
            state.equity,
            state.gross,
            np.array(stops),
            np.zeros(len(lots)) if waiting is None else np.array(waiting),
            correlation_matrix,
            state.values,
            state.values_gross,
            risk.correlation_penalty,
            True if risk.allow_short else None,
            wanted,
            sizes,
            rhos,
            orders,
            reasons,
        )
        placed = tuple(
            Order(
                id=correlation_id(
                    state.portfolio_id, market_data.index, market_data.symbols[s], "order"
                ),
                portfolio_id=state.portfolio_id,
                bar=market_data.index,
                time=market_data.time,
                symbol=s,
                name=market_data.symbols[s],
                lots=float(orders[s]),
                quantity=float(orders[s]) * risk.lot_units[s],
                wanted=float(wanted[s]),
                budget_share=float(share),
                target=float(lots[s] + orders[s]),
                signal_id=own[s].id,
                regime_id=regime.id,
                sizing=None
                if abs(own[s].direction) != LONG  # an exit, or an entry that waits on
                else Sizing(
                    size=float(sizes[s]),
                    regime_factor=factor,
                    rho=float(rhos[s]),
                    correlation_factor=correlation_adjustment(risk.correlation_penalty, rhos[s]),
                    portfolio_variance=state.variance,
                    equity=state.equity,
                ),
            )
            for s in np.flatnonzero(orders).tolist()
        )
        return Decisions(
            placed,
            tuple(reasons.tolist()),
            tuple(barred.tolist()),
            tuple(cooling.tolist()),
            tuple(held_bars.tolist()),
        )

    @staticmethod
    def stop(position: StopInputs, risk_config: RiskConfig, market_data: Bar, symbol: int) -> float:
        """The price at which a stop closes a position in the bar, or 0; see ``kernels.execution``.

        Args:
            position: what stops read of the position.
            risk_config: the risk configuration of the portfolio.
            market_data: the bar, or a finer one inside it.
            symbol: index.
        """
        return _stop_price(
            position,
            risk_config,
            position.entered or float(market_data.open[symbol]),
            float(market_data.high[symbol]),
            float(market_data.low[symbol]),
        )

    @staticmethod
    def stopped_at_open(
        position: StopInputs, risk_config: RiskConfig, market_data: Bar, symbol: int
    ) -> bool:
        """Whether the bar opens beyond a stop or the target of a position.

        Args:
            position: what stops read of the position.
            risk_config: the risk configuration of the portfolio.
            market_data: the bar, or a finer one inside it.
            symbol: index.
        """
        open_ = float(market_data.open[symbol])
        return _stop_price(position, risk_config, open_, open_, open_) > 0.0

    @staticmethod
    def stop_level(
        position: StopInputs,
        risk_config: RiskConfig,
        market_data: Bar,
        symbol: int,
        price: float,
    ) -> float:
        """The level of the stop that closed a position.

        It differs from the price where the bar opened beyond the level.

        Args:
            position: what stops read of the position.
            risk_config: the risk configuration of the portfolio.
            market_data: the bar, or a finer one inside it.
            symbol: index.
            price: the price that ``stop`` returned, not 0.
        """
        open_ = position.entered or float(market_data.open[symbol])
        gap = price == open_
        # Without an open, the kernel returns the level itself. Where the bar opened beyond a level,
        # only its open counts: what came later is not why the position was closed.
        return _stop_price(
            position,
            risk_config,
            np.nan,
            open_ if gap else float(market_data.high[symbol]),
            open_ if gap else float(market_data.low[symbol]),
        )


def _by_symbol(signals: Sequence[Signal], bar: Bar) -> dict[int, Signal]:
    """The signals by symbol; two of one symbol are refused."""
    own: dict[int, Signal] = {}
    for signal in signals:
        if own.setdefault(signal.symbol, signal) is not signal:
            raise FlowError(
                f"signal {signal.id}: bar {bar.index} already has one of {bar.symbols[signal.symbol]},"
                f" {own[signal.symbol].id}; give one a symbol"
            )
    return own


def _stop_price(
    position: StopInputs, risk: RiskConfig, open_: float, high: float, low: float
) -> float:
    inside = position.entered > 0.0
    return stop_price(
        position.lots,
        position.entry,
        position.best,
        open_,
        high,
        low,
        risk.stop_loss,
        np.inf if inside else risk.take_profit,
        risk.trailing_stop,
        position.atr,
        risk.stop_loss_atr,
        0.0 if inside else risk.take_profit_atr,
        risk.trailing_stop_atr,
    )
