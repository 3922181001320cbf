"""The simulation in plain Python: one parameter set, one bar, one symbol at a time.

Plain floats and ordinary branches, written from the rules and not from the kernels. Each amount of
money is computed in the order of operations that the rules state, so that the lanes of the kernels
can be held to the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import floor, inf, sqrt
from typing import Literal

Table = Sequence[Sequence[float]]
"""Values by bar and symbol."""

Kind = Literal["sell", "buy", "stop"]

LONG, FLAT, SHORT, HOLD = 1, 0, -1, 2


@dataclass(frozen=True)
class Market:
    """Bars of some symbols and what one parameter set reads of them.

    ``features`` are the one or two of the strategy; ``volatility`` is per bar; ``regime`` is above
    0 for bull and below 0 for bear; ``correlations`` maps each bar at which they are refreshed to
    the matrix, empty where the correlation plays no part.
    """

    opens: Table
    highs: Table
    lows: Table
    closes: Table
    features: tuple[Table, Table]
    volatility: Table
    regime: Sequence[int]
    correlations: Mapping[int, Table] = field(default_factory=dict)


@dataclass(frozen=True)
class Rules:
    """What holds for every parameter set; ``commission`` and ``slippage`` are fractions."""

    initial_cash: float = 10_000.0
    lot_size: float = 1.0
    slippage: float = 0.0
    commission: float = 0.0
    decay: float = 0.94
    allow_short: bool = False
    fill_at_close: bool = False


@dataclass(frozen=True)
class ParameterSet:
    """One parameter set.

    ``thresholds`` are those of the strategy: (threshold,) of momentum, (oversold, overbought) of
    mean reversion, (band,) of an average cross, (width,) of a breakout. ``lookback`` scales the
    volatility. Stops are fractions, inf where off.
    """

    strategy: Literal["momentum", "mean_reversion", "average_cross", "breakout"] = "momentum"
    thresholds: tuple[float, ...] = (0.0,)
    lookback: int = 25
    kelly_fraction: float = 0.25
    max_exposure: float = 1.0
    bear_multiplier: float = 0.6
    neutral_multiplier: float = 1.0
    bull_multiplier: float = 1.2
    correlation_penalty: float = 0.0
    min_lots: float = 1.0
    rebalance_band: float = 0.0
    stop_loss: float = inf
    take_profit: float = inf
    trailing_stop: float = inf


@dataclass(frozen=True)
class Fill:
    """Lots (signed) that changed hands, and the price with slippage."""

    bar: int
    symbol: int
    lots: float
    price: float
    kind: Kind


@dataclass(frozen=True)
class Trade:
    """A position from entry to exit; ``bar`` is that of the exit."""

    bar: int
    symbol: int
    profit: float


@dataclass
class Outcome:
    """What one parameter set did.

    Each list has one item a bar; ``orders`` are those decided at the bar. ``sums`` has the moments
    and totals under the names of the simulation's rows, in small letters.
    """

    equity: list[float] = field(default_factory=list)
    cash: list[float] = field(default_factory=list)
    exposure: list[float] = field(default_factory=list)
    variance: list[float] = field(default_factory=list)
    lots: list[list[float]] = field(default_factory=list)
    orders: list[list[float]] = field(default_factory=list)
    fills: list[Fill] = field(default_factory=list)
    trades: list[Trade] = field(default_factory=list)
    cut_buys: int = 0
    ruined: bool = False
    sums: dict[str, float] = field(default_factory=dict)


@dataclass
class Position:
    """A symbol's position; ``flow`` is the cash flow of the open trade."""

    lots: float = 0.0
    flow: float = 0.0
    entry: float = 0.0
    best: float = 0.0
    barred: int = FLAT
    order: float = 0.0
    rho: float = 0.0


def signal(
    chosen: ParameterSet, close: float, x0: float, x1: float, volatility: float
) -> tuple[int, float, float]:
    """Direction, strength and confidence of one symbol at one bar."""
    inverse_volatility = 1.0 / volatility if volatility > 0.0 else 0.0
    inverse_root = 1.0 / sqrt(chosen.lookback)
    first = chosen.thresholds[0]
    if chosen.strategy == "momentum":
        above, below = x0 > first, x0 < -first
        score = abs(x0) * inverse_root * inverse_volatility
    elif chosen.strategy == "mean_reversion":
        above, below = x0 < first, x0 > chosen.thresholds[1]
        score = abs(x0 - 50.0) * 0.04
    elif chosen.strategy == "average_cross":
        above, below = x0 > x1 * (1.0 + first), x0 < x1 * (1.0 - first)
        score = abs(x0 - x1) * (1.0 / close) * inverse_root * inverse_volatility
    else:
        above, below = close > x0 + first * x1, close < x0 - first * x1
        score = abs(close - x0) * (1.0 / close) * inverse_root * inverse_volatility
    if above:
        direction = LONG
    elif below:
        direction = SHORT
    else:
        direction = HOLD
    return direction, 0.05 * volatility * min(score, 3.0), min(score, 1.0)


def whole_lots(value: float, lot_value: float) -> float:
    """Lots that ``value`` makes at ``lot_value`` each, rounded down."""
    return float(floor(value * ((1.0 + 2.0**-50) / lot_value)))


def affordable(cash: float, cost: float) -> float:
    """Whole lots that ``cash`` can pay at ``cost`` each."""
    lots = whole_lots(cash, cost)
    if lots * cost > cash:
        lots -= 1.0
    return lots


def order_for(
    direction: int,
    fraction: float,
    equity: float,
    lots: float,
    lot_value: float,
    cash_left: float,
    budget_left: float,
    chosen: ParameterSet,
    allow_short: bool,
) -> float:
    """Order in lots that takes a position to its target; 0 where none is placed."""
    if direction == HOLD:
        return 0.0
    if direction == SHORT and not allow_short:
        direction = FLAT
    target = 0.0
    if direction != FLAT:
        value = abs(lots) * lot_value
        if lots * direction > 0.0:
            held, opposite = value, 0.0
        else:
            held, opposite = 0.0, value
        money = min(fraction * equity, held + max(budget_left + opposite, 0.0))
        if direction == LONG:
            money = min(money, held + max(cash_left - opposite, 0.0))
        target = direction * whole_lots(money, lot_value)
    turns = target * lots < 0.0
    if turns and abs(target - lots) < chosen.min_lots:
        target = 0.0
    if target == 0.0:
        return -lots
    order = target - lots
    if abs(target) > abs(lots) and abs(order) < chosen.min_lots:
        return 0.0
    if abs(order) < chosen.rebalance_band * abs(target):
        return 0.0
    return order


def stop_at(
    position: Position, open_: float, high: float, low: float, chosen: ParameterSet
) -> float:
    """Price at which a stop closes an open position in this bar, 0 for none."""
    entry, best = position.entry, position.best
    if position.lots > 0.0:
        level = max(entry - entry * chosen.stop_loss, best - best * chosen.trailing_stop)
        goal = entry + entry * chosen.take_profit
        if open_ <= level or open_ >= goal:
            return open_
        if low <= level:
            return level
        if high >= goal:
            return goal
    else:
        level = min(entry + entry * chosen.stop_loss, best + best * chosen.trailing_stop)
        goal = entry - entry * chosen.take_profit
        if open_ >= level or open_ <= goal:
            return open_
        if high >= level:
            return level
        if low <= goal:
            return goal
    return 0.0


class _Walk:
    """One parameter set on its way through the bars."""

    def __init__(self, market: Market, chosen: ParameterSet, rules: Rules) -> None:
        self.market, self.chosen, self.rules = market, chosen, rules
        self.symbols = range(len(market.closes[0]))
        self.positions = [Position() for _ in self.symbols]
        self.cash = rules.initial_cash
        self.equity = self.peak = rules.initial_cash
        self.exposure = self.variance = 0.0
        self.values: list[float] = []
        self.marked = self.gross = 0.0
        self.stops_on = min(chosen.stop_loss, chosen.take_profit, chosen.trailing_stop) < inf
        self.outcome = Outcome()
        self.outcome.sums = dict.fromkeys(SUMS, 0.0)

    def add(self, name: str, amount: float) -> None:
        self.outcome.sums[name] += amount

    def end_trade(self, bar: int, symbol: int, profit: float) -> None:
        self.outcome.trades.append(Trade(bar, symbol, profit))
        self.add("n_trades", 1.0)
        if profit > 0.0:
            self.add("n_wins", 1.0)
            self.add("gross_profit", profit)
        else:
            self.add("gross_loss", -profit)

    def change(
        self, bar: int, symbol: int, lots: float, price: float, per_lot: float, kind: Kind
    ) -> None:
        """Change a position by ``lots``, each of which takes or brings ``per_lot`` of cash."""
        rules, position = self.rules, self.positions[symbol]
        quantity, before = abs(lots), position.lots
        if quantity == 0.0:
            return
        value = price * rules.lot_size
        slipped = price * (1.0 + rules.slippage if lots > 0.0 else 1.0 - rules.slippage)
        self.outcome.fills.append(Fill(bar, symbol, lots, slipped, kind))
        closing = min(quantity, abs(before)) if before * lots < 0.0 else 0.0
        opening = quantity - closing
        sign = -1.0 if lots > 0.0 else 1.0
        if closing > 0.0:
            position.flow += sign * (closing * per_lot)
            if closing == abs(before):
                self.end_trade(bar, symbol, position.flow)
                position.flow = 0.0
        if opening > 0.0:
            position.flow += sign * (opening * per_lot)
        self.cash += sign * (quantity * per_lot)
        self.add("traded", quantity * value)
        self.add("costs", quantity * (per_lot - value if lots > 0.0 else value - per_lot))
        after = before + lots
        if before * after < 0.0:
            position.entry = slipped
        elif before * lots >= 0.0:
            position.entry = (position.entry * abs(before) + slipped * quantity) / abs(after)
        if before == 0.0 or before * after < 0.0:
            position.best = slipped
        position.lots = after

    def sell(self, bar: int, symbol: int, quantity: float, price: float, kind: Kind) -> None:
        rules = self.rules
        proceeds = price * (1.0 - rules.slippage) * rules.lot_size * (1.0 - rules.commission)
        self.change(bar, symbol, -quantity, price, proceeds, kind)

    def buy(self, bar: int, symbol: int, quantity: float, price: float, kind: Kind) -> None:
        rules = self.rules
        cost = price * (1.0 + rules.slippage) * rules.lot_size * (1.0 + rules.commission)
        payable = affordable(self.cash, cost)
        if payable < quantity:
            self.outcome.cut_buys += 1
        self.change(bar, symbol, min(quantity, payable), price, cost, kind)

    def fill(self, bar: int, prices: Sequence[float]) -> None:
        for symbol in self.symbols:
            if self.positions[symbol].order < 0.0:
                self.sell(bar, symbol, -self.positions[symbol].order, prices[symbol], "sell")
        for symbol in self.symbols:
            if self.positions[symbol].order > 0.0:
                self.buy(bar, symbol, self.positions[symbol].order, prices[symbol], "buy")

    def stop(self, bar: int) -> None:
        market = self.market
        for symbol in self.symbols:
            position = self.positions[symbol]
            lots = position.lots
            if lots == 0.0:
                continue
            high, low = market.highs[bar][symbol], market.lows[bar][symbol]
            price = stop_at(position, market.opens[bar][symbol], high, low, self.chosen)
            position.best = max(position.best, high) if lots > 0.0 else min(position.best, low)
            if price == 0.0:
                continue
            position.barred = LONG if lots > 0.0 else SHORT
            if lots > 0.0:
                self.sell(bar, symbol, lots, price, "stop")
            else:
                self.buy(bar, symbol, -lots, price, "stop")

    def mark(self, bar: int) -> None:
        closes, lot_size = self.market.closes[bar], self.rules.lot_size
        self.values = [self.positions[s].lots * (closes[s] * lot_size) for s in self.symbols]
        total = self.gross = 0.0
        for value in self.values:
            total += value
            self.gross += abs(value)
        self.marked = self.cash + total
        if self.marked <= 0.0 and not self.outcome.ruined:
            for symbol in self.symbols:
                position = self.positions[symbol]
                if position.lots != 0.0:
                    self.end_trade(bar, symbol, position.flow + self.values[symbol])
                position.lots = position.flow = 0.0
            self.values = [0.0 for _ in self.symbols]
            self.cash = self.marked = self.gross = 0.0
            self.outcome.ruined = True

    def bar_return(self) -> float:
        return self.marked / self.equity - 1.0 if self.equity > 0.0 else 0.0

    def marked_exposure(self) -> float:
        return self.gross / self.marked if self.marked > 0.0 else 0.0

    def update_variance(self) -> None:
        held = max(self.marked_exposure(), self.exposure)
        if held > 0.0:
            unit = self.bar_return() / held
            decay = self.rules.decay
            self.variance = decay * self.variance + (1.0 - decay) * (unit * unit)

    def account(self) -> None:
        change = self.bar_return()
        square, loss = change * change, min(change, 0.0)
        self.exposure = self.marked_exposure()
        self.add("sum_return", change)
        self.add("sum_return_2", square)
        self.add("sum_return_3", square * change)
        self.add("sum_return_4", square * square)
        self.add("sum_downside_2", loss * loss)
        self.add("sum_exposure", self.exposure)
        self.add("sum_equity", self.marked)
        self.peak = max(self.peak, self.marked)
        fall = 1.0 - self.marked / self.peak
        self.outcome.sums["max_drawdown"] = max(self.outcome.sums["max_drawdown"], fall)
        self.equity = self.marked

    def refresh_correlations(self, bar: int) -> None:
        matrix = self.market.correlations.get(bar)
        if matrix is None:
            return
        for symbol in self.symbols:
            weighted = 0.0
            for other in self.symbols:
                if other != symbol:
                    weighted += matrix[symbol][other] * self.values[other]
            others = self.gross - abs(self.values[symbol])
            self.positions[symbol].rho = (
                max(-1.0, min(1.0, weighted / others)) if others > 0.0 else 0.0
            )

    def decide(self, bar: int) -> None:
        market, chosen, rules = self.market, self.chosen, self.rules
        if market.regime[bar] > 0:
            multiplier = chosen.bull_multiplier
        elif market.regime[bar] < 0:
            multiplier = chosen.bear_multiplier
        else:
            multiplier = chosen.neutral_multiplier
        kelly = chosen.kelly_fraction * multiplier
        cash_left = self.cash
        budget_left = chosen.max_exposure * self.marked - self.gross
        for symbol in self.symbols:
            position, close = self.positions[symbol], market.closes[bar][symbol]
            volatility = market.volatility[bar][symbol]
            direction, strength, confidence = signal(
                chosen,
                close,
                market.features[0][bar][symbol],
                market.features[1][bar][symbol],
                volatility,
            )
            precision = 0.0
            if volatility > 0.0:
                precision = (1.0 / volatility) * (1.0 / volatility)
            if self.variance > 0.0:
                precision = min(precision, 1.0 / self.variance)
            fraction = kelly * (strength * confidence) * precision
            if self.stops_on and position.barred != FLAT:
                if direction == position.barred:
                    direction = FLAT
                elif direction != HOLD:
                    position.barred = FLAT
            if market.correlations:
                alike = max(0.0, position.rho * direction if rules.allow_short else position.rho)
                fraction *= 1.0 - chosen.correlation_penalty * alike
            lot_value = close * rules.lot_size
            lots = position.lots
            order = order_for(
                direction,
                fraction,
                self.marked,
                lots,
                lot_value,
                cash_left,
                budget_left,
                chosen,
                rules.allow_short,
            )
            position.order = order
            if order > 0.0:
                cash_left -= order * lot_value
            if abs(lots + order) > abs(lots):
                budget_left -= (abs(lots + order) - abs(lots)) * lot_value

    def walk(self, first: int, last: int) -> Outcome:
        market, rules, out = self.market, self.rules, self.outcome
        for bar in range(first, last):
            if not rules.fill_at_close:
                self.fill(bar, market.opens[bar])
            if self.stops_on:
                self.stop(bar)
            self.mark(bar)
            self.update_variance()
            if not rules.fill_at_close:
                self.account()
            self.refresh_correlations(bar)
            self.decide(bar)
            if rules.fill_at_close:
                self.fill(bar, market.closes[bar])
                self.mark(bar)
                self.account()
            out.equity.append(self.equity)
            out.cash.append(self.cash)
            out.exposure.append(self.exposure)
            out.variance.append(self.variance)
            out.lots.append([position.lots for position in self.positions])
            out.orders.append([position.order for position in self.positions])
        return out


SUMS = (
    "max_drawdown",
    "sum_return",
    "sum_return_2",
    "sum_return_3",
    "sum_return_4",
    "sum_downside_2",
    "sum_exposure",
    "sum_equity",
    "traded",
    "costs",
    "n_trades",
    "n_wins",
    "gross_profit",
    "gross_loss",
)


def simulate_one(
    market: Market, chosen: ParameterSet, rules: Rules, first: int = 0, last: int | None = None
) -> Outcome:
    """Walk bars ``first`` to ``last - 1`` (all by default) with one parameter set.

    A bar: the orders decided at the bar before fill at its open, sells first and then buys, each in
    symbol order; stops; the close marks the positions, and ruin closes all; the portfolio's
    variance, the moments and the drawdown; the correlations; then each symbol in turn decides with
    the cash and the budget that those before it left. Filling at the close, the orders fill at the
    end of the bar that decides them, and the moments follow. After the last bar nothing is sold.
    """
    return _Walk(market, chosen, rules).walk(first, len(market.closes) if last is None else last)
