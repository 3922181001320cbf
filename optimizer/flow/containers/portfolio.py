"""One portfolio: positions, cash, transactions, profit and loss, and its running metrics."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kernels.portfolio import (
    apply_buy,
    apply_sell,
    bar_return,
    entry_price,
    exposure_of,
    next_variance,
)
from kernels.risk import budget
from optimizer.flow.period import Period
from optimizer.flow.portfolio_view import PortfolioView, PositionView
from optimizer.types import Bar, Fill, FloatArray, PortfolioState, correlation_id


@dataclass(slots=True)
class _Position:
    lots: float = 0.0
    flow: float = 0.0
    basis: float = 0.0
    entry: float = 0.0
    best: float = 0.0
    barred: float = 0.0
    opening_order_id: str | None = None


class PortfolioContainer:
    """One portfolio. It shares no mutable state with any other.

    Args:
        id: of the portfolio.
        symbols: in the order of the bars' columns.
        initial_cash: money.
        lot_size: units per lot.
        max_exposure: gross budget, times equity.
        decay: of the EWMA of the portfolio's variance.
        allow_short: whether short positions are allowed.
        bars_per_year: annualizes the metrics.
    """

    def __init__(
        self,
        id: str,
        symbols: tuple[str, ...],
        initial_cash: float,
        lot_size: float,
        max_exposure: float,
        decay: float,
        allow_short: bool,
        bars_per_year: float,
    ) -> None:
        self._id = id
        self._symbols = symbols
        self._lot_size = lot_size
        self._max_exposure = max_exposure
        self._decay = decay
        self._short: bool | None = True if allow_short else None
        self._bars_per_year = bars_per_year
        self._positions = [_Position() for _ in symbols]
        self._transactions: list[Fill] = []
        self._initial_cash = initial_cash
        self._realised = 0.0
        self._previous_equity = initial_cash
        self._previous_exposure = 0.0
        self._variance = 0.0
        self._period = Period(initial_cash)
        self._values: tuple[float, ...] = (0.0,) * len(symbols)
        self._reference = _frozen(self._values)
        self._reference_gross = 0.0
        self._gross = 0.0
        self.cash = initial_cash
        self.equity = initial_cash
        self.ruined = False

    @property
    def lots(self) -> tuple[float, ...]:
        """Position of each symbol, signed, in lots."""
        return tuple(position.lots for position in self._positions)

    def stop_inputs(self, symbol: int) -> tuple[float, float, float]:
        """Lots, entry price and best price of a position, for its stop.

        Args:
            symbol: index.
        """
        position = self._positions[symbol]
        return position.lots, position.entry, position.best

    def opening_order_id(self, symbol: int) -> str | None:
        """ID of the order that opened a position; None without a position.

        Args:
            symbol: index.
        """
        return self._positions[symbol].opening_order_id

    def process_fill(self, fill: Fill) -> None:
        """Book a fill: cash, position, costs, and the trade that it may end.

        Args:
            fill: of this portfolio.
        """
        position = self._positions[fill.symbol]
        before = position.lots
        lots = abs(fill.lots)
        self._realise(position, fill)
        if fill.lots < 0.0:
            position.lots, position.flow, ended, profit = apply_sell(
                before, position.flow, lots, fill.cash_per_lot, self._short
            )
            self.cash = self.cash + lots * fill.cash_per_lot
        else:
            position.lots, position.flow, ended, profit = apply_buy(
                before, position.flow, lots, fill.cash_per_lot, self._short
            )
            self.cash = self.cash - lots * fill.cash_per_lot
        self._period.add_fill(fill)
        if ended:
            self._period.add_trade(profit)
        if fill.kind == "stop":
            position.barred = 1.0 if before > 0.0 else -1.0
        else:
            if before == 0.0 or before * position.lots < 0.0:
                position.best = fill.price
                position.opening_order_id = fill.order_id
            position.entry = entry_price(before, position.entry, fill.lots, fill.price)
        if position.lots == 0.0:
            _forget(position)
        self._transactions.append(fill)

    def _realise(self, position: _Position, fill: Fill) -> None:
        """Move the share of the cost basis that a fill closes, with its profit, out of it."""
        side = 1.0 if fill.lots > 0.0 else -1.0
        lots = abs(fill.lots)
        closing = min(lots, abs(position.lots)) if position.lots * side < 0.0 else 0.0
        if closing > 0.0:
            whole = closing == abs(position.lots)
            released = position.basis if whole else position.basis * closing / abs(position.lots)
            position.basis -= released
            self._realised -= side * closing * fill.cash_per_lot + released
        position.basis += side * (lots - closing) * fill.cash_per_lot

    def carry_best_prices(self, bar: Bar, held: tuple[float, ...]) -> None:
        """Take the bar's extremes into the best prices of the positions held at its stops.

        Args:
            bar: the bar.
            held: lots of each symbol when the stops were checked, signed.
        """
        for s, (position, lots) in enumerate(zip(self._positions, held, strict=True)):
            if position.lots == 0.0:
                continue
            if lots > 0.0:
                position.best = max(position.best, float(bar.high[s]))
            elif lots < 0.0:
                position.best = min(position.best, float(bar.low[s]))

    def set_barred(self, symbol: int, barred: float) -> None:
        """Set the direction of a symbol that a stop keeps closed: -1, 1, or 0 for neither.

        Args:
            symbol: index.
            barred: the direction.
        """
        self._positions[symbol].barred = barred

    def mark(self, bar: Bar) -> tuple[Fill, ...]:
        """Value the positions at the bar's close; an equity of 0 or less is ruin.

        Args:
            bar: the bar.

        Returns:
            The fills by which ruin closed the positions, booked already; empty without ruin.
        """
        net = gross = 0.0
        values = []
        for s, position in enumerate(self._positions):
            value = position.lots * (float(bar.close[s]) * self._lot_size)
            net += value
            gross += abs(value)
            values.append(value)
        self._values = tuple(values)
        self._gross = gross if self._short else net
        self.equity = self.cash + net
        return self._close_ruined(bar) if self.equity <= 0.0 else ()

    def _close_ruined(self, bar: Bar) -> tuple[Fill, ...]:
        fills = []
        for s, (position, value) in enumerate(zip(self._positions, self._values, strict=True)):
            if position.lots != 0.0:
                self._period.add_trade(position.flow + value)
                fills.append(self._write_off(bar, s))
            position.lots = position.flow = 0.0
            _forget(position)
        self._transactions += fills
        self._realised = -self._initial_cash
        self._values = (0.0,) * len(self._symbols)
        self.cash = self.equity = self._gross = 0.0
        self.ruined = True
        return tuple(fills)

    def _write_off(self, bar: Bar, symbol: int) -> Fill:
        position, price = self._positions[symbol], float(bar.close[symbol])
        return Fill(
            id=correlation_id(self._id, bar.index, self._symbols[symbol], "ruin"),
            order_id=None,
            bar=bar.index,
            symbol=symbol,
            kind="ruin",
            lots=-position.lots,
            quantity=-position.lots * self._lot_size,
            price=price,
            raw_value=price * self._lot_size,
            cash_per_lot=price * self._lot_size,
            cost=0.0,
            opening_order_id=position.opening_order_id,
        )

    def update_variance(self) -> None:
        """Take the bar just marked into the portfolio's variance per unit of exposure."""
        self._variance = next_variance(
            self._variance,
            bar_return(self.equity, self._previous_equity),
            self.exposure,
            self._previous_exposure,
            self._decay,
        )

    def account(self) -> None:
        """Take the bar just marked into returns, drawdown and means."""
        self._period.add_bar(self.equity, self.exposure)
        self._previous_exposure = self.exposure
        self._previous_equity = self.equity

    def refresh_correlation(self) -> None:
        """Weigh the correlations with the values just marked until the next refresh."""
        self._reference = _frozen(self._values)
        self._reference_gross = self._gross

    def start_period(self) -> None:
        """Start the period of the metrics again: the holdout begins."""
        for position, value in zip(self._positions, self._values, strict=True):
            position.flow = -value
        self._period = Period(self._previous_equity)

    @property
    def exposure(self) -> float:
        """Gross value of the positions over equity, as of the last mark."""
        return exposure_of(self._gross, self.equity)

    @property
    def drawdown(self) -> float:
        """Fall from the peak of the period, a fraction of the peak."""
        return self._period.drawdown(self.equity)

    def risk_state(self) -> PortfolioState:
        """What the risk manager needs to know, as of the last mark."""
        return PortfolioState(
            portfolio_id=self._id,
            cash=self.cash,
            equity=self.equity,
            gross=self._gross,
            exposure=self.exposure,
            variance=self._variance,
            lots=self.lots,
            barred=tuple(position.barred for position in self._positions),
            values=self._reference,
            values_gross=self._reference_gross,
            cash_left=self.cash,
            budget_left=budget(self._max_exposure, self.equity, self._gross),
        )

    def metrics(self) -> dict[str, float]:
        """Metrics of the period, by the kernel of the sweep.

        Raises:
            ValueError: no bar was accounted for yet.
        """
        return self._period.metrics(self.cash, self.ruined, self._bars_per_year)

    def get_state(self) -> PortfolioView:
        """Positions, cash, transactions, realised and unrealised profit and loss, metrics."""
        positions = tuple(
            PositionView(
                symbol, p.lots * self._lot_size, value, value - p.basis if p.lots else 0.0, p.entry
            )
            for symbol, p, value in zip(self._symbols, self._positions, self._values, strict=True)
        )
        return PortfolioView(
            cash=self.cash,
            equity=self.equity,
            exposure=self.exposure,
            drawdown=self.drawdown,
            realised=self._realised,
            unrealised=sum(position.unrealised for position in positions),
            ruined=self.ruined,
            positions=positions,
            transactions=tuple(self._transactions),
            metrics=self.metrics() if self._period.n_bars else {},
        )


def _forget(position: _Position) -> None:
    """Clear a position that is closed; what its stop has barred stays."""
    position.basis = position.entry = position.best = 0.0
    position.opening_order_id = None


def _frozen(values: tuple[float, ...]) -> FloatArray:
    array = np.array(values)
    array.flags.writeable = False
    return array
