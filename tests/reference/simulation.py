"""The account in plain Python: one parameter set, one bar, one symbol at a time.

Plain floats and ordinary branches, written from ``docs/account.md`` and not from the kernels. Amounts
are summed as they are stated there, so money agrees with the kernels to rounding, and lots exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import floor, inf, sqrt
from typing import Literal

from tests.reference.metrics import longest

Table = Sequence[Sequence[float]]
"""Values by bar and symbol."""

Kind = Literal["reduce", "add", "stop", "liquidation", "ruin"]
Sizing = Literal["kelly", "volatility_target", "weight", "equal_weight", "risk_per_trade"]
Strategy = Literal["momentum", "mean_reversion", "average_cross", "breakout", "rotation"]

LONG, FLAT, SHORT, HOLD = 1, 0, -1, 2


@dataclass(frozen=True)
class Market:
    """Bars of some symbols and what one parameter set reads of them.

    ``volumes`` are units, 0 where the symbol does not trade and inf where volume is unknown;
    ``features`` are the one or two of the strategy; ``volatility`` is per bar; ``regime`` is above
    0 for bull and below 0 for bear; ``correlations`` maps each bar at which they are refreshed to
    the matrix, empty where the correlation plays no part. ``credit``, ``debit`` and ``risk_free``
    are fractions over the time since the bar before, and ``years`` is that time.
    """

    opens: Table
    highs: Table
    lows: Table
    closes: Table
    volumes: Table
    features: tuple[Table, Table]
    volatility: Table
    regime: Sequence[int]
    credit: Sequence[float]
    debit: Sequence[float]
    risk_free: Sequence[float]
    years: Sequence[float]
    correlations: Mapping[int, Table] = field(default_factory=dict)


@dataclass(frozen=True)
class Costs:
    """Costs of a fill: fractions, ``half_spread`` in price or ticks, commissions in money."""

    slippage: float = 0.0
    half_spread: float = 0.0
    commission: float = 0.0
    per_unit: float = 0.0
    minimum: float = 0.0
    per_order: float = 0.0
    impact: float = 0.0
    volume_share: float = inf


@dataclass(frozen=True)
class Instrument:
    """A symbol's contract; ``own`` are costs of its own, half the spread in units of price."""

    lot_size: float = 1.0
    multiplier: float = 1.0
    tick_size: float = 0.0
    borrow: float = 0.0
    own: Costs = Costs()


@dataclass(frozen=True)
class Rules:
    """What holds for every parameter set."""

    initial_cash: float = 10_000.0
    instruments: tuple[Instrument, ...] = (Instrument(),) * 16
    leverage: float = 1.0
    maintenance: float = 0.0
    decay: float = 0.94
    allow_short: bool = False
    fill_at_close: bool = False
    sizing: Sizing = "kelly"
    allocation: Literal["additions", "targets"] = "additions"

    @property
    def margin(self) -> bool:
        """Whether this is a margin account."""
        return self.allow_short or self.leverage > 1.0


@dataclass(frozen=True)
class ParameterSet:
    """One parameter set.

    ``thresholds`` are those of the strategy: (threshold,) of momentum, (oversold, overbought) of
    mean reversion, (band,) of an average cross, (width,) of a breakout. ``lookback`` scales the
    volatility. ``size`` is the number of the sizing mode: Kelly fraction, volatility per bar,
    weight, exposure to share, or equity at risk over the distance of the stop. Stops are fractions.
    ``costs`` have half the spread in ticks. What is off is inf.
    """

    strategy: Strategy = "momentum"
    thresholds: tuple[float, ...] = (0.0,)
    lookback: int = 25
    size: float = 0.25
    score_sharpe: float = 0.05
    max_weight: float = 1e9
    max_positions: float = inf
    max_exposure: float = 1.0
    bear_multiplier: float = 0.6
    neutral_multiplier: float = 1.0
    bull_multiplier: float = 1.2
    correlation_penalty: float = 0.0
    min_order_size: float = 1.0
    rebalance_band: float = 0.0
    stop_loss: float = inf
    take_profit: float = inf
    trailing_stop: float = inf
    costs: Costs = Costs()


@dataclass(frozen=True)
class Fill:
    """Lots (signed) that changed hands, the price paid, and the money that went out (or in: below 0)."""

    bar: int
    symbol: int
    kind: Kind
    lots: float
    price: float
    cash: float


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
    profits: list[float] = field(default_factory=list)
    held: list[float] = field(default_factory=list)
    cut_additions: int = 0
    scaled_closes: int = 0
    ended: bool = False
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
    opened: int = 0


def signal(
    chosen: ParameterSet, close: float, x0: float, x1: float, volatility: float
) -> tuple[int, float, float]:
    """Direction, strength and confidence of one symbol at one bar."""
    inverse_volatility = 1.0 / volatility if volatility > 0.0 else 0.0
    inverse_root = 1.0 / sqrt(chosen.lookback)
    first = chosen.thresholds[0]
    if chosen.strategy == "rotation":
        kept = {1.0: LONG, 0.0: FLAT}.get(x0, HOLD)
        return kept if x1 > 0.0 else HOLD, chosen.score_sharpe * volatility, 1.0
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
    return direction, chosen.score_sharpe * volatility * min(score, 3.0), 1.0


@dataclass
class Candidate:
    """A symbol at a close: its signal, its position and its contract."""

    direction: int
    strength: float
    confidence: float
    volatility: float
    lots: float
    lot_units: float
    lot_value: float
    rho: float = 0.0
    barred: int = FLAT

    @property
    def rank(self) -> tuple[float, float]:
        """What decides about a place; a volatility of 0 says nothing, and comes last."""
        return self.strength * self.confidence, 1.0 / self.volatility if self.volatility else 0.0


@dataclass
class Decision:
    """Positions wanted, orders, directions barred from now on, and the factor of the budget."""

    wanted: list[float]
    orders: list[float]
    barred: list[int]
    factor: float


def whole(lots: float) -> float:
    """Whole lots, rounded toward zero; a last digit below a whole number counts as that number."""
    return float(floor(abs(lots) * (1.0 + 2.0**-50))) * (1.0 if lots > 0.0 else -1.0)


def placed(target: float, lots: float, lot_units: float, chosen: ParameterSet) -> float:
    """The order that takes a position to its target, or 0 where it is not placed."""
    order = target - lots
    too_small = abs(order) * lot_units < chosen.min_order_size
    if too_small and target * lots < 0.0:
        return -lots
    if too_small and abs(target) > abs(lots):
        return 0.0
    if target != 0.0 and abs(order) < chosen.rebalance_band * abs(target):
        return 0.0
    return order


def parts(order: float, lots: float) -> tuple[float, float]:
    """The part of an order that reduces a position, and the part that opens or adds."""
    if order * lots >= 0.0:
        return 0.0, order
    closing = min(abs(order), abs(lots))
    reduction = closing if order > 0.0 else -closing
    return reduction, order - reduction


def without_place(
    candidates: Sequence[Candidate], wanted: Sequence[float], max_positions: float
) -> set[int]:
    """Symbols that are to be opened and find no place."""
    taken = sum(one.lots != 0.0 and w != 0.0 for one, w in zip(candidates, wanted, strict=True))
    outside = [s for s, one in enumerate(candidates) if one.lots == 0.0 and wanted[s] != 0.0]
    for rank in sorted({candidates[s].rank for s in outside}, reverse=True):
        equals = [s for s in outside if candidates[s].rank == rank]
        if taken + len(equals) > max_positions:
            return {s for s in outside if candidates[s].rank <= rank}
        taken += len(equals)
    return set()


def decide(
    candidates: Sequence[Candidate],
    chosen: ParameterSet,
    rules: Rules,
    multiplier: float,
    variance: float,
    equity: float,
) -> Decision:
    """The orders of one portfolio at a close; ``multiplier`` is the regime's."""
    needed = rules.sizing in ("kelly", "volatility_target")
    acted, barred = [], []
    for one in candidates:
        direction = one.direction
        if needed and one.volatility == 0.0 and direction in (LONG, SHORT):
            direction = HOLD
        left = one.barred
        if direction == one.barred:
            direction = FLAT
        elif direction != HOLD:
            left = FLAT
        if direction == SHORT and not rules.allow_short:
            direction = FLAT
        acted.append(direction)
        barred.append(left)
    n = sum(
        d in (LONG, SHORT) or (d == HOLD and one.lots != 0.0)
        for d, one in zip(acted, candidates, strict=True)
    )
    wanted = []
    for one, direction in zip(candidates, acted, strict=True):
        if direction in (FLAT, HOLD):
            wanted.append(one.lots if direction == HOLD else 0.0)
            continue
        fraction = chosen.size * multiplier * one.confidence
        if rules.sizing == "kelly":
            fraction *= one.strength / max(one.volatility**2, variance)
        elif rules.sizing == "volatility_target":
            fraction /= one.volatility
        elif rules.sizing == "equal_weight":
            fraction /= n
        elif rules.sizing == "risk_per_trade":
            fraction /= chosen.stop_loss
        alike = one.rho * direction if rules.allow_short else one.rho
        fraction *= 1.0 - chosen.correlation_penalty * max(0.0, alike)
        money = min(fraction, chosen.max_weight) * max(equity, 0.0)
        wanted.append(direction * whole(money / one.lot_value))
    out = without_place(candidates, wanted, chosen.max_positions)
    targets = [0.0 if s in out else w for s, w in enumerate(wanted)]
    orders, factor = [0.0 for _ in candidates], 1.0
    gross = sum(abs(one.lots) * one.lot_value for one in candidates)
    if rules.allocation == "additions":
        freed = added = 0.0
        for s, one in enumerate(candidates):
            orders[s] = placed(targets[s], one.lots, one.lot_units, chosen)
            reduction, addition = parts(orders[s], one.lots)
            freed += abs(reduction) * one.lot_value
            added += abs(addition) * one.lot_value
        budget = max(chosen.max_exposure * equity - gross + freed, 0.0)
        if added > budget:
            factor = budget / added
        for s, one in enumerate(candidates):
            reduction, addition = parts(orders[s], one.lots)
            target = one.lots + reduction + whole(addition * factor)
            orders[s] = placed(target, one.lots, one.lot_units, chosen)
    else:
        holds = [d == HOLD for d in acted]
        held = asked = 0.0
        for s, one in enumerate(candidates):
            if holds[s]:
                held += abs(one.lots) * one.lot_value
            else:
                asked += abs(targets[s]) * one.lot_value
        budget = max(chosen.max_exposure * equity - held, 0.0)
        if asked > budget:
            factor = budget / asked
        for s, one in enumerate(candidates):
            if not holds[s]:
                target = whole(targets[s] * factor)
                orders[s] = placed(target, one.lots, one.lot_units, chosen)
    return Decision(wanted, orders, barred, factor)


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
        self.falls: list[float] = []
        self.outcome = Outcome()
        self.outcome.sums = dict.fromkeys(SUMS, 0.0)

    def add(self, name: str, amount: float) -> None:
        self.outcome.sums[name] += amount

    def lot_value(self, symbol: int, price: float) -> float:
        instrument = self.rules.instruments[symbol]
        return price * instrument.lot_size * instrument.multiplier

    def end_trade(self, profit: float, held: int) -> None:
        self.outcome.profits.append(profit)
        self.outcome.held.append(float(held))
        self.add("sum_held", float(held))
        self.outcome.sums["most_losing"] = float(
            longest(one <= 0.0 for one in self.outcome.profits)
        )
        self.add("n_trades", 1.0)
        self.add("n_wins", float(profit > 0.0))
        self.add("gross_profit", max(profit, 0.0))
        self.add("gross_loss", max(-profit, 0.0))

    def carry(self, bar: int) -> None:
        """Interest and borrow fees since the close before."""
        if self.outcome.ended or bar == 0:
            return
        market = self.market
        shorts = fees = 0.0
        for symbol in self.symbols:
            lots = self.positions[symbol].lots
            if lots < 0.0:
                value = -lots * self.lot_value(symbol, market.closes[bar - 1][symbol])
                shorts += value
                fees += value * self.rules.instruments[symbol].borrow * market.years[bar]
        free = self.cash - shorts
        earned = free * (market.credit[bar] if free > 0.0 else market.debit[bar]) - fees
        self.cash += earned
        self.add("carry", earned)

    def limit(self, bar: int, symbol: int) -> float:
        """Most lots that the bar's volume lets through."""
        instrument = self.rules.instruments[symbol]
        share = min(self.chosen.costs.volume_share, instrument.own.volume_share)
        volume = self.market.volumes[bar][symbol]
        return inf if inf in (share, volume) else float(floor(share * volume / instrument.lot_size))

    def terms(
        self, bar: int, decided: int, symbol: int, change: float, price: float
    ) -> tuple[float, float]:
        """Price of a fill and the money that it takes (or brings: below 0)."""
        instrument = self.rules.instruments[symbol]
        lane, own = self.chosen.costs, instrument.own
        side, units = (1.0 if change > 0.0 else -1.0), abs(change) * instrument.lot_size
        impact = (
            (lane.impact + own.impact)
            * self.market.volatility[decided][symbol]
            * sqrt(units / self.market.volumes[bar][symbol])
        )
        slippage = lane.slippage + own.slippage + impact
        half_spread = lane.half_spread * instrument.tick_size + own.half_spread
        paid = max(price * (1.0 + side * slippage) + side * half_spread, 0.0)
        value = abs(change) * self.lot_value(symbol, paid)
        commission = (lane.commission + own.commission) * value
        commission += (lane.per_unit + own.per_unit) * units
        commission = max(commission, lane.minimum + own.minimum) + lane.per_order + own.per_order
        return paid, side * value + commission

    def change(
        self,
        bar: int,
        symbol: int,
        lots: float,
        price: float,
        terms: tuple[float, float],
        kind: Kind,
    ) -> None:
        """Book a fill that reduces a position, or opens and adds."""
        if lots == 0.0:
            return
        paid, money = terms
        position = self.positions[symbol]
        self.outcome.fills.append(Fill(bar, symbol, kind, lots, paid, money))
        self.cash -= money
        value = lots * self.lot_value(symbol, price)
        self.add("traded", abs(value))
        self.add("costs", abs(money - value))
        before, position.lots = position.lots, position.lots + lots
        position.flow -= money
        if before * lots < 0.0:
            if position.lots == 0.0:
                self.end_trade(position.flow, bar - position.opened)
                position.flow = 0.0
        else:
            paid_before = position.entry * abs(before)
            position.entry = (paid_before + paid * abs(lots)) / abs(position.lots)
            if before == 0.0:
                position.best = paid
                position.opened = bar

    def fill(self, bar: int, decided: int, prices: Sequence[float]) -> None:
        """All reductions, then the additions that the buying power can carry."""
        rules, costs = self.rules, self.chosen.costs
        additions: list[tuple[int, float]] = []
        for symbol in self.symbols:
            position = self.positions[symbol]
            if self.market.volumes[bar][symbol] == 0.0:
                continue
            reduction, addition = parts(position.order, position.lots)
            limit = self.limit(bar, symbol)
            if reduction != 0.0:
                sign = 1.0 if reduction > 0.0 else -1.0
                lots = sign * min(abs(reduction), limit)
                terms = self.terms(bar, decided, symbol, lots, prices[symbol])
                self.change(bar, symbol, lots, prices[symbol], terms, "reduce")
                if lots != reduction:
                    continue
            if addition != 0.0:
                sign = 1.0 if addition > 0.0 else -1.0
                additions.append((symbol, sign * min(abs(addition), limit)))
        additions = [(symbol, lots) for symbol, lots in additions if lots != 0.0]
        if not additions:
            return
        net = gross = need = fixed = 0.0
        for symbol in self.symbols:
            value = self.positions[symbol].lots * self.lot_value(symbol, prices[symbol])
            net += value
            gross += abs(value)
        power = rules.leverage * (self.cash + net) - gross
        for symbol, lots in additions:
            _, money = self.terms(bar, decided, symbol, lots, prices[symbol])
            value = lots * self.lot_value(symbol, prices[symbol])
            own = rules.instruments[symbol].own
            need += abs(value) + rules.leverage * abs(money - value)
            fixed += rules.leverage * (
                costs.minimum + own.minimum + costs.per_order + own.per_order
            )
        short_of = need > power
        factor = max((power - fixed) / (need - fixed), 0.0) * (1.0 - 1e-12) if short_of else 1.0
        self.outcome.cut_additions += short_of
        for symbol, lots in additions:
            kept = float(floor(abs(lots) * factor)) * (1.0 if lots > 0.0 else -1.0)
            terms = self.terms(bar, decided, symbol, kept, prices[symbol])
            self.change(bar, symbol, kept, prices[symbol], terms, "add")

    def stop(self, bar: int) -> None:
        market = self.market
        for symbol in self.symbols:
            position = self.positions[symbol]
            lots = position.lots
            if lots == 0.0 or market.volumes[bar][symbol] == 0.0:
                continue
            high, low = market.highs[bar][symbol], market.lows[bar][symbol]
            price = stop_at(position, market.opens[bar][symbol], high, low, self.chosen)
            position.best = max(position.best, high) if lots > 0.0 else min(position.best, low)
            if price == 0.0:
                continue
            position.barred = LONG if lots > 0.0 else SHORT
            closed = -min(lots, self.limit(bar, symbol)) if lots > 0.0 else -lots
            closed = min(closed, self.limit(bar, symbol))
            terms = self.terms(bar, bar - 1, symbol, closed, price)
            self.change(bar, symbol, closed, price, terms, "stop")

    def liquidate(self, bar: int) -> None:
        """Maintenance margin on the worst prices of the bar."""
        market = self.market
        worst = []
        for symbol in self.symbols:
            price = market.opens[bar][symbol]
            if market.volumes[bar][symbol] > 0.0:
                price = market.lows[bar][symbol]
                if self.positions[symbol].lots < 0.0:
                    price = market.highs[bar][symbol]
            worst.append(price)
        equity, gross = self.cash, 0.0
        for symbol in self.symbols:
            value = self.positions[symbol].lots * self.lot_value(symbol, worst[symbol])
            equity += value
            gross += abs(value)
        if gross == 0.0 or equity >= self.rules.maintenance * gross:
            return
        closed = False
        for symbol in self.symbols:
            lots = self.positions[symbol].lots
            if lots != 0.0 and market.volumes[bar][symbol] > 0.0:
                terms = self.terms(bar, bar - 1, symbol, -lots, worst[symbol])
                self.change(bar, symbol, -lots, worst[symbol], terms, "liquidation")
                closed = True
        self.add("n_liquidations", float(closed))

    def mark(self, bar: int) -> None:
        closes = self.market.closes[bar]
        self.values = [self.positions[s].lots * self.lot_value(s, closes[s]) for s in self.symbols]
        self.gross = sum(abs(value) for value in self.values)
        self.marked = self.cash + sum(self.values)
        if self.marked > 0.0 or self.outcome.ended:
            return
        for symbol in self.symbols:
            position, value = self.positions[symbol], self.values[symbol]
            if position.lots != 0.0:
                self.end_trade(position.flow + value, bar - position.opened)
                fill = Fill(bar, symbol, "ruin", -position.lots, closes[symbol], -value)
                self.outcome.fills.append(fill)
            position.lots = position.flow = 0.0
        self.values = [0.0 for _ in self.symbols]
        self.cash, self.gross = self.marked, 0.0
        self.outcome.ended = True

    def bar_return(self) -> float:
        return self.marked / self.equity - 1.0 if self.equity > 0.0 else 0.0

    def marked_exposure(self) -> float:
        return self.gross / self.marked if self.marked > 0.0 else 0.0

    def update_variance(self) -> None:
        held = max(self.marked_exposure(), self.exposure)
        if held > 0.0:
            unit = self.bar_return() / held
            decay = self.rules.decay
            self.variance = decay * self.variance + (1.0 - decay) * unit**2

    def account(self, bar: int) -> None:
        excess = self.bar_return() - self.market.risk_free[bar]
        self.exposure = self.marked_exposure()
        self.add("sum_return", excess)
        self.add("sum_return_2", excess**2)
        self.add("sum_return_3", excess**3)
        self.add("sum_return_4", excess**4)
        self.add("sum_downside_2", min(excess, 0.0) ** 2)
        self.add("sum_exposure", self.exposure)
        self.add("sum_equity", self.marked)
        self.peak = max(self.peak, self.marked)
        fall = 1.0 - self.marked / self.peak
        self.falls.append(fall)
        self.outcome.sums["max_drawdown"] = max(self.falls)
        self.outcome.sums["most_under_peak"] = float(longest(one > 0.0 for one in self.falls))
        self.add("sum_drawdown_2", fall**2)
        self.add("sum_loss", -min(excess, 0.0))
        self.equity = self.marked

    def refresh_correlations(self, bar: int) -> None:
        matrix = self.market.correlations.get(bar)
        if matrix is None:
            return
        for symbol in self.symbols:
            others = [s for s in self.symbols if s != symbol]
            weighted = sum(matrix[symbol][s] * self.values[s] for s in others)
            held = sum(abs(self.values[s]) for s in others)
            mean = weighted / held if held > 0.0 else 0.0
            self.positions[symbol].rho = max(-1.0, min(1.0, mean))

    def decide(self, bar: int) -> None:
        market, chosen = self.market, self.chosen
        multiplier = chosen.neutral_multiplier
        if market.regime[bar] > 0:
            multiplier = chosen.bull_multiplier
        elif market.regime[bar] < 0:
            multiplier = chosen.bear_multiplier
        candidates = []
        for symbol in self.symbols:
            position, close = self.positions[symbol], market.closes[bar][symbol]
            volatility = market.volatility[bar][symbol]
            x0, x1 = (feature[bar][symbol] for feature in market.features)
            candidates.append(
                Candidate(
                    *signal(chosen, close, x0, x1, volatility),
                    volatility,
                    position.lots,
                    self.rules.instruments[symbol].lot_size,
                    self.lot_value(symbol, close),
                    position.rho,
                    position.barred,
                )
            )
        decision = decide(candidates, chosen, self.rules, multiplier, self.variance, self.marked)
        self.outcome.scaled_closes += decision.factor < 1.0
        for symbol, position in enumerate(self.positions):
            position.order = decision.orders[symbol]
            position.barred = decision.barred[symbol]

    def walk(self, first: int, last: int) -> Outcome:
        market, rules, out = self.market, self.rules, self.outcome
        stops = min(self.chosen.stop_loss, self.chosen.take_profit, self.chosen.trailing_stop)
        for bar in range(first, last):
            self.carry(bar)
            if not rules.fill_at_close and bar > first:
                self.fill(bar, bar - 1, market.opens[bar])
            if stops < inf:
                self.stop(bar)
            if rules.margin:
                self.liquidate(bar)
            self.mark(bar)
            self.update_variance()
            if not rules.fill_at_close:
                self.account(bar)
            self.refresh_correlations(bar)
            self.decide(bar)
            out.orders.append([position.order for position in self.positions])
            if rules.fill_at_close:
                self.fill(bar, bar, market.closes[bar])
                self.mark(bar)
                self.account(bar)
            out.equity.append(self.equity)
            out.cash.append(self.cash)
            out.exposure.append(self.exposure)
            out.variance.append(self.variance)
            out.lots.append([position.lots for position in self.positions])
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
    "n_liquidations",
    "carry",
    "sum_loss",
    "sum_drawdown_2",
    "most_under_peak",
    "most_losing",
    "sum_held",
)


def simulate_one(
    market: Market, chosen: ParameterSet, rules: Rules, first: int = 0, last: int | None = None
) -> Outcome:
    """Walk bars ``first`` to ``last - 1`` (all by default) with one parameter set.

    A bar: carry; the orders decided at the bar before fill at its open, reductions first; stops and
    the maintenance margin; the close marks the positions, and may end the account; the portfolio's
    variance, the moments and the drawdown; the correlations; then all symbols decide at once.
    Filling at the close, the orders fill at the end of the bar that decides them, and the moments
    follow. After the last bar nothing is sold.
    """
    return _Walk(market, chosen, rules).walk(first, len(market.closes) if last is None else last)
