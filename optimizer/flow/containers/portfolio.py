"""One portfolio: positions, cash, transactions, profit and loss, and its running metrics."""

from __future__ import annotations

from collections.abc import Container, Sequence
from copy import copy
from dataclasses import dataclass
from math import inf

import numpy as np

from kernels import layout
from kernels.execution import buying_power
from kernels.orders import exit_marks
from kernels.portfolio import (
    bar_return,
    carried,
    exposure_of,
    margin_call,
    mean_entry,
    next_variance,
    position_at_close,
    reduced,
)
from kernels.risk import larger
from optimizer.errors import FlowError
from optimizer.flow.period import Period
from optimizer.flow.portfolio_view import PortfolioView, PositionView
from optimizer.sweep.rules import Rules
from optimizer.types import Bar, Fill, FloatArray, correlation_id


@dataclass(slots=True)
class _Position:
    lots: float = 0.0
    flow: float = 0.0
    basis: float = 0.0
    entry: float = 0.0
    best: float = 0.0
    atr: float = 0.0
    barred: float = 0.0
    cooling: float = 0.0
    held_bars: float = -inf
    opened: int = 0
    highest: float = 0.0
    lowest: float = 0.0
    opening_order_id: str | None = None


class PortfolioContainer:
    """One portfolio. It shares no mutable state with any other.

    Args:
        id: the ID of the portfolio.
        symbols: the symbols in the order of the bars' columns.
        rules: the rules of the study.
        bars_per_year: annualizes the metrics.
    """

    def __init__(
        self, id: str, symbols: tuple[str, ...], rules: Rules, bars_per_year: float
    ) -> None:
        self._id = id
        self._symbols = symbols
        self._rules = rules
        self._lot_units = tuple(map(float, rules.lot_units))
        self._lot_money = tuple(map(float, rules.lot_money))
        self._borrow = tuple(map(float, rules.instruments[:, layout.BORROW]))
        self._bars_per_year = bars_per_year
        self._positions = [_Position() for _ in symbols]
        self._transactions: list[Fill] = []
        self._realised = 0.0
        self._carry = 0.0
        self._previous_equity = rules.initial_cash
        self._previous_exposure = 0.0
        self._variance = 0.0
        self._period = Period(rules.initial_cash)
        self._lot_values: tuple[float, ...] = (0.0,) * len(symbols)
        self._values = self._lot_values
        self._reference = _frozen(self._values)
        self._reference_gross = 0.0
        self._gross = 0.0
        self.cash = rules.initial_cash
        self.equity = rules.initial_cash
        self.ruined = False

    @property
    def lots(self) -> tuple[float, ...]:
        """Position of each symbol, signed, in lots."""
        return tuple(position.lots for position in self._positions)

    def stop_inputs(self, symbol: int) -> tuple[float, float, float, float]:
        """What the stop of a position depends on.

        Args:
            symbol: index.

        Returns:
            Lots (signed), mean entry price, best price since the entry, and average true range.
        """
        position = self._positions[symbol]
        return position.lots, position.entry, position.best, position.atr

    def opening_order_id(self, symbol: int) -> str | None:
        """The ID of the order that opened a position; None without a position.

        Args:
            symbol: index.
        """
        return self._positions[symbol].opening_order_id

    def take_over(
        self,
        cash: float,
        lots: Sequence[float],
        entries: Sequence[float | None],
        bar: Bar,
        ranges: FloatArray,
    ) -> None:
        """Hold what an account elsewhere holds, in place of what is held here, and mark it.

        Where the side of a position is the same, what its stops and its signal know of it stays. A
        position that is new here counts as opened at this bar.

        Args:
            cash: money.
            lots: position of each symbol, signed.
            entries: mean entry price of each; None takes that of the same side here, else the close.
            bar: the bar just marked.
            ranges: the average true ranges at its close, shape (n_symbols,).
        """
        for s, (position, held, entry) in enumerate(
            zip(self._positions, lots, entries, strict=True)
        ):
            if held * position.lots <= 0.0:
                _forget(position)
                if held != 0.0:
                    position.entry = position.best = float(bar.close[s])
                    position.atr = float(ranges[s])
                    position.held_bars, position.opened = 0.0, bar.index
            if held != 0.0 and entry is not None:
                position.entry = entry
                further = max if held > 0.0 else min
                position.best = further(position.best, entry)
            position.lots = held
            position.basis = held * position.entry * self._lot_money[s]
            position.flow = -position.basis
        self.cash = cash
        self.mark(bar)
        # Money that came or went is no return.
        self._previous_equity, self._previous_exposure = self.equity, self.exposure
        if not self._period.n_bars:
            self._period = Period(self.equity)

    def move(self, money: float) -> None:
        """Take money that is paid in, or out if negative, at the close just accounted for: no return.

        Args:
            money: money.
        """
        before = self.equity
        self.cash += money
        self.equity += money
        self._period.move(money)
        self._previous_equity = self.equity
        self._previous_exposure *= before / self.equity

    def carry(
        self, credit: float, debit: float, years: float, payments: FloatArray | None = None
    ) -> None:
        """Book interest, borrow fees and payments on cash and positions at the last mark.

        Args:
            credit, debit: interest on cash above and below 0 over the time since then, fractions.
            years: the same time in years.
            payments: dividends less funding per unit, shape (n_symbols,); None without them.
        """
        shorts = fees = 0.0
        if self._rules.margin:
            for position, lot_value, borrow in zip(
                self._positions, self._lot_values, self._borrow, strict=True
            ):
                value = larger(-position.lots, 0.0) * lot_value
                shorts += value
                fees += value * (borrow * years)
        if payments is not None:
            for position, payment, lot_money in zip(
                self._positions, payments, self._lot_money, strict=True
            ):
                fees -= position.lots * (float(payment) * lot_money)
        earned = 0.0 if self.ruined else float(carried(self.cash, shorts, fees, credit, debit))
        self.cash += earned
        self._carry += earned
        self._period.add_carry(earned)

    def buying_power(self, prices: FloatArray) -> float:
        """The money by which the gross value of the positions may still grow; without margin, the cash.

        Args:
            prices: the prices of all symbols, shape (n_symbols,).
        """
        if not self._rules.margin:
            return self.cash
        net = gross = 0.0
        for position, price, lot_money in zip(
            self._positions, prices, self._lot_money, strict=True
        ):
            held = position.lots * (float(price) * lot_money)
            net += held
            gross += abs(held)
        return float(buying_power(self.cash, net, gross, self._rules.leverage))

    def process_fills(self, fills: Sequence[Fill], ranges: FloatArray | None = None) -> None:
        """Book fills: positions, cash, costs, and the trades that they may end.

        Args:
            fills: each reduces a position, or each opens or adds.
            ranges: the average true ranges before them, shape (n_symbols,); None where unused.

        Raises:
            FlowError: a fill is another portfolio's; none is booked.
        """
        spent = 0.0
        for fill in fills:
            if fill.portfolio_id != self._id:
                raise FlowError(
                    f"fill {fill.id}: is of portfolio {fill.portfolio_id}, not of {self._id}; book it"
                    " there"
                )
        for fill in fills:
            position = self._positions[fill.symbol]
            before = position.lots
            reduces = before * fill.lots < 0.0
            self._realise(position, fill, reduces)
            if reduces:
                position.lots, position.flow, ended, profit = reduced(
                    before, position.flow, fill.lots, fill.cash_per_lot
                )
                self.cash -= fill.lots * fill.cash_per_lot
                if ended:
                    self._period.add_trade(profit, float(fill.bar - position.opened))
            else:
                if before == 0.0:
                    position.best = fill.price
                    position.atr = 0.0 if ranges is None else float(ranges[fill.symbol])
                    position.held_bars = 0.0
                    position.opened = fill.bar
                    position.opening_order_id = fill.order_id
                position.entry = mean_entry(before, position.entry, fill.lots, fill.price)
                position.lots = before + fill.lots
                position.flow -= fill.lots * fill.cash_per_lot
                spent += fill.lots * fill.cash_per_lot
            self._period.add_fill(fill)
            if position.lots == 0.0:
                _forget(position)
        self.cash -= spent
        self._transactions += fills

    def _realise(self, position: _Position, fill: Fill, reduces: bool) -> None:
        """Move the share of the cost basis that a fill closes, with its profit, out of it."""
        if not reduces:
            position.basis += fill.lots * fill.cash_per_lot
            return
        whole = fill.lots == -position.lots
        released = position.basis if whole else -position.basis * fill.lots / position.lots
        position.basis -= released
        self._realised -= fill.lots * fill.cash_per_lot + released

    def carry_best_prices(self, bar: Bar, held: tuple[float, ...], entered: Container[int]) -> None:
        """Take the bar's extremes into the best prices of the positions held at its stops.

        Args:
            bar: the bar; those of symbols that do not trade stay.
            held: lots of each symbol when the stops were checked, signed.
            entered: symbols in which an entry filled inside the bar; their best prices stay.
        """
        for s, (position, lots) in enumerate(zip(self._positions, held, strict=True)):
            if position.lots == 0.0 or not bar.traded[s] or s in entered:
                continue
            if lots > 0.0:
                position.best = max(position.best, float(bar.high[s]))
            elif lots < 0.0:
                position.best = min(position.best, float(bar.low[s]))

    def bar_after_stop(self, symbol: int, closed: float, cooldown: float) -> None:
        """Keep a symbol closed after a stop.

        Args:
            symbol: index.
            closed: direction of the position that the stop closes.
            cooldown: closes without entry; 0 bars the direction instead.
        """
        one = self._positions[symbol]
        one.barred, one.cooling = exit_marks(True, closed, one.barred, one.cooling, cooldown)

    def set_exits(
        self, barred: Sequence[float], cooling: Sequence[float], held_bars: Sequence[float]
    ) -> None:
        """Set what the decisions of a close leave for the next one, one number a symbol.

        Args:
            barred: directions that are kept closed, or 0.
            cooling: closes at which nothing may be entered.
            held_bars: closes at which each position has been held, see
                ``kernels.portfolio.closes_held``.
        """
        left = zip(self._positions, barred, cooling, held_bars, strict=True)
        for position, *exits in left:
            position.barred, position.cooling, position.held_bars = exits

    def at_close(self, symbol: int, close: float) -> tuple[float, ...]:
        """What a signal may know of a position at the close that decides; keeps the extreme closes.

        Args:
            symbol: index.
            close: the close.

        Returns:
            The values of ``POSITION_VALUES``, in order.
        """
        one = self._positions[symbol]
        *values, one.highest, one.lowest = position_at_close(
            one.lots, one.entry, one.held_bars, one.highest, one.lowest, close
        )
        return tuple(values)

    def below_margin(self, bar: Bar) -> bool:
        """Whether the maintenance margin does not suffice at the worst prices of a bar.

        Args:
            bar: the bar; symbols that do not trade count at their open.
        """
        equity, gross = self.cash, 0.0
        for s, (position, lot_money) in enumerate(
            zip(self._positions, self._lot_money, strict=True)
        ):
            worst = bar.open
            if bar.traded[s]:
                worst = bar.low if position.lots > 0.0 else bar.high
            value = position.lots * (float(worst[s]) * lot_money)
            equity += value
            gross += abs(value)
        return bool(margin_call(equity, gross, self._rules.maintenance))

    def count_liquidation(self) -> None:
        """Count a margin call that closed a position."""
        self._period.add_liquidation()

    def mark(self, bar: Bar) -> tuple[Fill, ...]:
        """Value the positions at the bar's close; an equity of 0 or less ends the account.

        Args:
            bar: the bar.

        Returns:
            The fills by which ruin closed the positions, booked already; empty without ruin.
        """
        net = gross = 0.0
        self._lot_values = tuple(
            float(close) * lot_money
            for close, lot_money in zip(bar.close, self._lot_money, strict=True)
        )
        self._values = tuple(
            position.lots * lot_value
            for position, lot_value in zip(self._positions, self._lot_values, strict=True)
        )
        for value in self._values:
            net += value
            gross += abs(value)
        self._gross = gross if self._rules.margin else net
        self.equity = self.cash + net
        return self._close_ruined(bar) if self.equity <= 0.0 and not self.ruined else ()

    def _close_ruined(self, bar: Bar) -> tuple[Fill, ...]:
        """Close all positions at their marks and at no cost; a debt stays in the cash."""
        fills = []
        for s, (position, value) in enumerate(zip(self._positions, self._values, strict=True)):
            if position.lots != 0.0:
                held = float(bar.index - position.opened)
                self._period.add_trade(position.flow + value, held)
                fill = self._write_off(bar, s)
                self._realise(position, fill, reduces=True)
                fills.append(fill)
            position.lots = position.flow = 0.0
            _forget(position)
        self._transactions += fills
        self._values = (0.0,) * len(self._symbols)
        self.cash, self._gross = self.equity, 0.0
        self.ruined = True
        return tuple(fills)

    def _write_off(self, bar: Bar, symbol: int) -> Fill:
        position = self._positions[symbol]
        return Fill(
            id=correlation_id(self._id, bar.index, self._symbols[symbol], "ruin"),
            portfolio_id=self._id,
            order_id=None,
            bar=bar.index,
            time=bar.time,
            symbol=symbol,
            kind="ruin",
            lots=-position.lots,
            quantity=-position.lots * self._lot_units[symbol],
            price=float(bar.close[symbol]),
            raw_value=self._lot_values[symbol],
            cash_per_lot=self._lot_values[symbol],
            cost=0.0,
            opening_order_id=position.opening_order_id,
        )

    def update_variance(self) -> None:
        """Update the portfolio's variance per unit of exposure with the bar just marked."""
        self._variance = next_variance(
            self._variance,
            bar_return(self.equity, self._previous_equity),
            self.exposure,
            self._previous_exposure,
            self._rules.ewma_decay,
        )

    def account(self, risk_free: float = 0.0, *, closes: bool = True) -> None:
        """Update returns, drawdown and means with the bar just marked.

        Args:
            risk_free: return without risk since the last close of a return, a fraction.
            closes: whether the bar closes a return.
        """
        self._period.add_bar(self.equity, self.exposure, risk_free, closes)
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
        return float(exposure_of(self._gross, self.equity))

    @property
    def drawdown(self) -> float:
        """Fall from the peak of the period, a fraction of the peak."""
        return self._period.drawdown(self.equity)

    def metrics(self) -> dict[str, float]:
        """The metrics of the period, by the kernel of the sweep.

        Raises:
            ValueError: no bar was accounted for yet.
        """
        yearly = self._rules.returns_per_year
        return self._period.metrics(self.cash, self.ruined, self._bars_per_year, yearly)

    def get_state(self) -> PortfolioView:
        """The positions, cash, transactions, profit, metrics, and what the risk manager reads."""
        held = self._positions
        positions = tuple(
            PositionView(symbol, p.lots * units, value, value - p.basis if p.lots else 0.0, p.entry)
            for symbol, p, value, units in zip(
                self._symbols, held, self._values, self._lot_units, strict=True
            )
        )
        return PortfolioView(
            portfolio_id=self._id,
            cash=self.cash,
            equity=self.equity,
            gross=self._gross,
            exposure=self.exposure,
            variance=self._variance,
            lots=self.lots,
            barred=tuple(position.barred for position in held),
            cooling=tuple(position.cooling for position in held),
            held_bars=tuple(position.held_bars for position in held),
            values=self._reference,
            values_gross=self._reference_gross,
            drawdown=self.drawdown,
            realised=self._realised,
            unrealised=sum(position.unrealised for position in positions),
            carry=self._carry,
            ruined=self.ruined,
            positions=positions,
            _booked=self._transactions,
            _n_booked=len(self._transactions),
            _period=copy(self._period),
            _per_year=(self._bars_per_year, self._rules.returns_per_year),
        )


def _forget(position: _Position) -> None:
    """Clear a position that is closed; what its stop has barred stays."""
    position.basis = position.entry = position.best = position.atr = 0.0
    position.opening_order_id = None


def _frozen(values: tuple[float, ...]) -> FloatArray:
    array = np.array(values)
    array.flags.writeable = False
    return array
