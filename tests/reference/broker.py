"""The account in plain Python: one parameter set, walked bar by bar, written from docs/account.md.

Nothing here is shared with the kernels, and nothing was written after them: where the two differ, the
document decides. Money is added up in the plainest order, so that results agree to rounding only;
lots are whole and agree exactly.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import floor, fsum, inf, log, nan, sqrt
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from optimizer.catalogue import COSTS, RISK
from optimizer.strategies.built_in import BUILT_IN
from optimizer.types import Bars
from tests.reference import entries, exits, features, finer
from tests.reference.entries import parts

LONG, FLAT, SHORT, HOLD = 1, 0, -1, 2

YEAR = np.timedelta64(31_557_600, "s")
"""365.25 days."""

ACCOUNT = {
    "leverage": 1.0,
    "maintenance_margin": 0.25,
    "financing_bps_year": 800.0,
    "cash_rate": 0.0,
    "borrow_bps_year": 100.0,
}
"""Default values of ``[account]``."""

RULES = {
    "entry_offset": 0.0,
    "entry_offset_atr": 0.0,
    "entry_bars": 1.0,
    "stop_loss_atr": 0.0,
    "take_profit_atr": 0.0,
    "trailing_stop_atr": 0.0,
    "atr_lookback": 14.0,
    "time_exit": 0.0,
    "cooldown": 0.0,
}
"""Default values of what ``[risk]`` says of entries and exits, but for the three fractions."""

ATR_MULTIPLES = ("entry_offset_atr", "stop_loss_atr", "take_profit_atr", "trailing_stop_atr")

Kind = Literal["order", "entry", "stop", "liquidation", "end", "ruin"]

INSIDE: tuple[Kind, ...] = ("entry", "stop", "liquidation")
"""Kinds of the fills inside a bar, in their order."""

Series = Sequence[float]
"""Values by bar."""

FloatTable = npt.NDArray[np.float64]
"""Values by bar and symbol."""


@dataclass(frozen=True)
class Fill:
    """A change of a position.

    ``lots`` are signed; ``price`` is per unit with spread, slippage and impact; ``cost`` is all that
    the fill lost against the price of the market; ``flow`` is what it added to the cash.
    """

    bar: int
    symbol: int
    kind: Kind
    lots: float
    price: float
    cost: float
    flow: float


@dataclass
class Outcome:
    """What one parameter set did; ``first`` is the bar of the first decision.

    ``equity`` and ``cash`` have one value a bar from ``first`` on; ``carry`` is all interest and fees
    that were earned less those that were paid. ``seen`` counts what happened, by name.
    """

    first: int
    equity: list[float] = field(default_factory=list)
    cash: list[float] = field(default_factory=list)
    fills: list[Fill] = field(default_factory=list)
    carry: float = 0.0
    liquidations: int = 0
    ruined: bool = False
    seen: dict[str, int] = field(default_factory=dict)

    def events(self) -> set[str]:
        """What happened, by the names in ``seen`` and the kinds of the fills, and ``ruined``."""
        kinds = {str(fill.kind) for fill in self.fills}
        return kinds | self.seen.keys() | ({"ruined"} if self.ruined else set())


@dataclass
class Symbol:
    """One symbol: its bars, features and terms, and the position in it.

    ``own`` are the bars that it has, ``member`` says whether it is one at each bar. Prices and
    features at other bars are those of its last one before; its prices are then all the last close.
    ``units`` are those of a lot. ``now`` is the bar, or the finer bar, that is looked at. ``entry`` is
    the mean price of the position's fills, ``best`` its best price so far, ``held`` the closes at which
    it has been held, and ``opening_atr`` the ATR that its distances are reckoned with. ``barred`` is the
    direction that a stop closed; at ``cooling`` more closes nothing is entered. ``order`` fills at the
    open, ``waiting`` inside a bar; ``entered`` is the market's price at which it did, in this moment.
    """

    index: int
    own: Sequence[int]
    member: Sequence[bool]
    open: Series
    high: Series
    low: Series
    close: Series
    volume: Series
    trades: Sequence[bool]
    features: tuple[Series, ...]
    volatility: Series
    atr: Series
    units: float
    tick_size: float
    multiplier: float
    borrow: float
    costs: Mapping[str, float]
    maker_bps: float
    now: finer.Piece = finer.NOTHING
    lots: float = 0.0
    entry: float = 0.0
    best: float = 0.0
    held: int = 0
    opening_atr: float = 0.0
    barred: int = FLAT
    cooling: int = 0
    order: float = 0.0
    waiting: entries.Waiting | None = None
    entered: float | None = None
    rho: float = 0.0

    def value(self, lots: float, price: float) -> float:
        """What ``lots`` are worth at a price, with their sign; no lots, nothing, also without a price."""
        if lots == 0.0:
            return 0.0
        return lots * price * self.units * self.multiplier


@dataclass(frozen=True)
class Mark:
    """The account at one close."""

    equity: float
    gross: float


@dataclass
class Wish:
    """What a symbol's signal asks for at one close, before the account is shared.

    One that ``holds`` has no wanted position.
    """

    symbol: Symbol
    direction: int
    rank: tuple[float, float]
    wanted: float = 0.0
    holds: bool = False


Addition = tuple[Symbol, float, float]
"""A symbol, the lots that are added, and the market's price."""


def per_symbol(given: float | Mapping[str, float], name: str, default: float) -> float:
    """A number that may be given for each symbol."""
    if isinstance(given, Mapping):
        return float(given.get(name, given.get("default", default)))
    return float(given)


def correlation(first: Series, second: Series) -> float:
    """Pearson correlation of log returns; 0 where it is undefined."""
    n = len(first)
    x_mean, y_mean = fsum(first) / n, fsum(second) / n
    x, y = [value - x_mean for value in first], [value - y_mean for value in second]
    product = fsum(a * a for a in x) * fsum(b * b for b in y)
    if product < 1e-30:
        return 0.0
    return fsum(a * b for a, b in zip(x, y, strict=True)) / sqrt(product)


class Broker:
    """One account on its way through the bars."""

    def __init__(
        self,
        bars: Bars,
        parameters: Mapping[str, Any],
        costs: Mapping[str, Any],
        account: Mapping[str, Any],
        instruments: Mapping[str, Mapping[str, float]],
        sizing: str,
        allocation: str,
        allow_short: bool,
        entry: entries.Entry,
        session_exit: bool,
        timezone: str,
        fills: Bars | None,
        funding: FloatTable | None,
        dividends: FloatTable | None,
        members: Path | None,
    ) -> None:
        self.funding, self.dividends = funding, dividends
        self.members = None if members is None else read_members(members)
        self.bars, self.sizing, self.allocation = bars, sizing, allocation
        self.allow_short = allow_short
        self.account = {**ACCOUNT, **account}
        self.leverage = float(self.account["leverage"])
        self.margin = allow_short or self.leverage > 1.0
        self.at_close = costs.get("fill", "next_open") == "close"
        self.strategy = str(parameters["strategy"])
        self.entry: entries.Entry = "market" if self.at_close else entry
        self.p = {**RULES, **{one.name: one.default for one in RISK}}
        for one in BUILT_IN[self.strategy].parameters:
            self.p[f"{self.strategy}_{one.name}"] = one.default
        self.p.update({name: float(v) for name, v in parameters.items() if name != "strategy"})
        self.symbols = [
            self.symbol(s, name, costs, instruments) for s, name in enumerate(bars.symbols)
        ]
        self.correlated = self.p["correlation_penalty"] > 0.0 and len(self.symbols) > 1
        self.cash = float(costs.get("initial_cash", 100_000.0))
        self.before = self.marked = Mark(self.cash, 0.0)
        self.variance = 0.0
        self.moments = finer.moments(bars, fills) if fills is not None else [[]] * bars.n_bars
        self.closing = [
            exits.closing(bars.timestamps, one.own, timezone, self.at_close)
            if session_exit
            else set()
            for one in self.symbols
        ]
        self.out = Outcome(self.warm_up())

    def symbol(
        self,
        s: int,
        name: str,
        costs: Mapping[str, Any],
        instruments: Mapping[str, Mapping[str, float]],
    ) -> Symbol:
        bars, own = self.bars, instruments.get(name, {})
        borrow = self.account["borrow_bps_year"]
        every = range(bars.n_bars)
        there = [t for t in every if bars.present is None or bars.present[t, s]]
        volume = [float(bars.volume[t, s]) if t in there else 0.0 for t in every]
        known = any(v > 0.0 for v in volume)
        open_, high, low, close = (
            [float(table[t, s]) for t in there]
            for table in (bars.open, bars.high, bars.low, bars.close)
        )
        last_close = self.spread(there, close)
        return Symbol(
            index=s,
            own=there,
            member=[self.is_member(name, t) for t in every],
            open=self.filled(there, open_, last_close),
            high=self.filled(there, high, last_close),
            low=self.filled(there, low, last_close),
            close=last_close,
            volume=volume if known else [inf] * len(volume),
            trades=[t in there and (volume[t] > 0.0 or not known) for t in every],
            features=tuple(
                self.spread(there, column) for column in self.features(high, low, close)
            ),
            volatility=self.spread(
                there, features.volatility(close, int(self.p["volatility_lookback"]))
            ),
            atr=self.spread(there, features.atr(high, low, close, int(self.p["atr_lookback"]))),
            units=float(own.get("lot_size", self.p["lot_size"])),
            tick_size=float(own.get("tick_size", 0.0)),
            multiplier=float(own.get("multiplier", 1.0)),
            borrow=per_symbol(borrow, name, ACCOUNT["borrow_bps_year"]) / 10_000.0,
            costs={
                one.name: per_symbol(costs.get(one.name, one.default), name, one.default)
                for one in COSTS
                if one.name != "maker_bps"
            },
            maker_bps=self.maker_bps(costs, name),
        )

    @staticmethod
    def maker_bps(costs: Mapping[str, Any], name: str) -> float:
        """Commission of limit entries, bps; that of all other fills where it is not given."""
        usual = per_symbol(costs.get("commission_bps", 1.0), name, 1.0)
        return per_symbol(costs.get("maker_bps", usual), name, usual)

    def spread(self, own: Sequence[int], values: Series) -> list[float]:
        """Values at a symbol's own bars, at every bar: that of the last one so far, NaN before."""
        at = dict(zip(own, values, strict=True))
        out, last = [], nan
        for bar in range(self.bars.n_bars):
            last = at.get(bar, last)
            out.append(last)
        return out

    @staticmethod
    def filled(own: Sequence[int], values: Series, missing: Series) -> list[float]:
        """Values at a symbol's own bars, and others where it has none."""
        at = dict(zip(own, values, strict=True))
        return [at.get(bar, other) for bar, other in enumerate(missing)]

    def is_member(self, name: str, bar: int) -> bool:
        if self.members is None:
            return True
        # The bar's time is its start; both days count.
        day = self.bars.timestamps[bar].astype("datetime64[D]")
        return any(first <= day <= last for first, last in self.members[name])

    def waits(self, one: Symbol, bar: int) -> bool:
        """Whether a symbol has no signal and no order at a bar."""
        if bar not in one.own:
            return True
        warming_up = one.own.index(bar) < self.out.first
        return warming_up or self.ends(one) == bar

    def ends(self, one: Symbol) -> int | None:
        """The last bar of a symbol, if the calendar goes on."""
        return one.own[-1] if one.own[-1] < self.bars.n_bars - 1 else None

    def own(self, name: str) -> float:
        """A parameter of the strategy."""
        return self.p[f"{self.strategy}_{name}"]

    def features(self, high: Series, low: Series, close: Series) -> tuple[Series, ...]:
        if self.strategy == "momentum":
            return (features.momentum(close, int(self.own("lookback"))),)
        if self.strategy == "mean_reversion":
            return (features.rsi(close, int(self.own("lookback"))),)
        if self.strategy == "sma_cross":
            return (
                features.sma(close, int(self.own("fast"))),
                features.sma(close, int(self.own("slow"))),
            )
        return (
            features.sma(close, int(self.own("lookback"))),
            features.atr(high, low, close, int(self.own("atr_lookback"))),
        )

    def warm_up(self) -> int:
        """The bar from which every feature is defined."""
        longest = int(self.p["volatility_lookback"])
        if self.correlated:
            longest = max(longest, int(self.p["correlation_lookback"]))
        if any(self.p[name] > 0.0 for name in ATR_MULTIPLES):
            longest = max(longest, int(self.p["atr_lookback"]))
        if self.strategy == "sma_cross":
            return max(longest, int(self.own("fast")) - 1, int(self.own("slow")) - 1)
        if self.strategy == "breakout":
            return max(longest, int(self.own("lookback")) - 1, int(self.own("atr_lookback")))
        return max(longest, int(self.own("lookback")))

    def saw(self, name: str) -> None:
        self.out.seen[name] = self.out.seen.get(name, 0) + 1

    # Carry

    def carry(self, bar: int) -> None:
        times = self.bars.timestamps
        years = float((times[bar] - times[bar - 1]) / YEAR)
        short_value = sum(
            -one.value(one.lots, one.close[bar - 1]) for one in self.symbols if one.lots < 0.0
        )
        cash = self.cash - short_value
        if cash > 0.0:
            earned = cash * self.account["cash_rate"] * years
        else:
            earned = cash * self.account["financing_bps_year"] / 10_000.0 * years
        for one in self.symbols:
            if one.lots < 0.0:
                earned += one.value(one.lots, one.close[bar - 1]) * one.borrow * years
            if self.dividends is not None:
                earned += one.value(one.lots, float(self.dividends[bar, one.index]))
            if self.funding is not None:
                rate = float(self.funding[bar, one.index])
                earned -= one.value(one.lots, one.close[bar - 1]) * rate
        self.cash += earned
        self.out.carry += earned

    # Fills

    def price(self, one: Symbol, lots: float, market: float, volatility: float) -> float:
        """What ``lots`` pay or get per unit where the market's price is ``market``."""
        costs, side = one.costs, 1.0 if lots > 0.0 else -1.0
        rate = (costs["spread_bps"] / 2.0 + costs["slippage_bps"]) / 10_000.0
        units = abs(lots) * one.units
        if one.now.volume > 0.0:  # where it is 0, only the end of a symbol fills
            rate += costs["impact"] * volatility * sqrt(units / one.now.volume)
        paid = market * (1.0 + side * rate) + side * costs["spread_ticks"] / 2.0 * one.tick_size
        return max(paid, 0.0)

    def commission(self, one: Symbol, lots: float, price: float, bps: float) -> float:
        costs = one.costs
        share = bps / 10_000.0 * abs(one.value(lots, price))
        share += costs["commission_per_unit"] * abs(lots) * one.units
        least = costs["commission_minimum"]
        # Without a minimum, a rebate is paid.
        return (max(least, share) if least > 0.0 else share) + costs["commission_per_order"]

    def known(self, bar: int, kind: Kind) -> int:
        """The last bar that was over when a fill was decided."""
        return bar if self.at_close and kind == "order" else bar - 1

    def within_volume(self, one: Symbol, lots: float) -> float:
        """The whole lots of a fill that the volume of the bar, or of the finer bar, allows."""
        share = one.costs["max_volume_share"]
        if share == 0.0 or one.now.volume == inf:
            return lots
        most = whole(share * one.now.volume / one.units)
        if abs(lots) > most:
            self.saw("volume_limited")
            return most if lots > 0.0 else -most
        return lots

    def flow_of(
        self, one: Symbol, lots: float, market: float, bar: int, kind: Kind
    ) -> tuple[float, float]:
        """Price of a fill and what it adds to the cash."""
        if kind == "entry" and self.entry == "limit":
            price, bps = market, one.maker_bps
        else:
            price = self.price(one, lots, market, one.volatility[self.known(bar, kind)])
            bps = one.costs["commission_bps"]
        return price, -one.value(lots, price) - self.commission(one, lots, price, bps)

    def fill(self, one: Symbol, lots: float, market: float, bar: int, kind: Kind) -> None:
        """Change a position by ``lots``."""
        if lots == 0.0:
            return
        if kind == "ruin":
            price, flow = market, -one.value(lots, market)
        else:
            price, flow = self.flow_of(one, lots, market, bar, kind)
        cost = -one.value(lots, market) - flow
        self.out.fills.append(Fill(bar, one.index, kind, lots, price, cost, flow))
        self.cash += flow
        before = one.lots
        one.lots += lots
        if before == 0.0:
            one.entry = one.best = price
            one.held, one.opening_atr = 0, one.atr[self.known(bar, kind)]
        elif before * lots > 0.0:
            one.entry = (one.entry * abs(before) + price * abs(lots)) / abs(one.lots)

    def fill_orders(self, bar: int) -> None:
        market = [one.close[bar] if self.at_close else one.open[bar] for one in self.symbols]
        additions: list[Addition] = []
        for one in self.symbols:
            order, one.order = one.order, 0.0
            if order == 0.0:
                continue
            if not one.trades[bar]:
                self.saw("lapsed")
                continue
            reduction = 0.0
            if order * one.lots < 0.0:
                reduction = -one.lots if abs(order) > abs(one.lots) else order
            filled = self.within_volume(one, reduction)
            self.fill(one, filled, market[one.index], bar, "order")
            addition = order - reduction
            if reduction != 0.0 and addition != 0.0:
                self.saw("turns")
            if filled != reduction:
                # What is left of the old position is not turned around.
                one.waiting = None
                continue
            addition = self.within_volume(one, addition)
            if addition != 0.0:
                additions.append((one, addition, market[one.index]))
        self.add(additions, market, bar, "order")

    def add(
        self, additions: Sequence[Addition], prices: Sequence[float], bar: int, kind: Kind
    ) -> None:
        """Fill additions, cut to what the account can carry with all it holds valued at ``prices``."""
        if not additions:
            return
        values = [one.value(one.lots, prices[one.index]) for one in self.symbols]
        power = self.leverage * (self.cash + sum(values)) - sum(abs(value) for value in values)
        needs = fixed = 0.0
        for one, lots, market in additions:
            value = one.value(lots, market)
            _, flow = self.flow_of(one, lots, market, bar, kind)
            needs += abs(value) + self.leverage * (-flow - value)
            least = one.costs["commission_minimum"] + one.costs["commission_per_order"]
            fixed += self.leverage * least
        factor = 1.0
        if needs > power:
            self.saw("cut")
            factor = max((power - fixed) / (needs - fixed) * (1.0 - 1e-12), 0.0)
        for one, lots, market in additions:
            self.fill(one, scaled(lots, factor), market, bar, kind)

    # Inside the bar

    def inside(self, bar: int) -> None:
        """Entries, stops and the maintenance margin, in each finer bar if there are any."""
        before = len(self.out.fills)
        for moment in self.moments[bar] or [[one.now for one in self.symbols]]:
            for one, piece in zip(self.symbols, moment, strict=True):
                one.now, one.entered = piece, None
            entries.enter(self, bar)
            exits.stops(self, bar)
            if self.margin:
                exits.liquidate(self, bar)
            exits.follow(self)
        self.out.fills[before:] = joined(self.out.fills[before:])

    def end_symbols(self, bar: int) -> None:
        for one in self.symbols:
            if one.lots != 0.0 and self.ends(one) == bar:
                self.fill(one, -one.lots, one.close[bar], bar, "end")

    # Close

    def mark(self, bar: int) -> bool:
        """Mark the positions at the close; False where that ends the account."""
        values = [one.value(one.lots, one.close[bar]) for one in self.symbols]
        self.marked = Mark(self.cash + sum(values), sum(abs(value) for value in values))
        if self.marked.equity > 0.0:
            return True
        self.out.ruined = True
        for one in self.symbols:
            self.fill(one, -one.lots, one.close[bar], bar, "ruin")
        return False

    def update_variance(self) -> None:
        exposure = max(one.gross / one.equity for one in (self.before, self.marked))
        if exposure > 0.0:
            decay, change = self.p["ewma_decay"], self.marked.equity / self.before.equity - 1.0
            self.variance = decay * self.variance + (1.0 - decay) * (change / exposure) ** 2

    # Decisions

    def signal(self, one: Symbol, bar: int) -> tuple[int, float]:
        """Direction and strength."""
        close, volatility = one.close[bar], one.volatility[bar]
        x = [column[bar] for column in one.features]
        per_volatility = 1.0 / volatility if volatility > 0.0 else 0.0
        if self.strategy == "momentum":
            threshold = self.own("threshold")
            above, below = x[0] > threshold, x[0] < -threshold
            score = abs(x[0]) * per_volatility / sqrt(self.own("lookback"))
        elif self.strategy == "mean_reversion":
            above, below = x[0] < self.own("oversold"), x[0] > self.own("overbought")
            score = abs(x[0] - 50.0) / 25.0
        elif self.strategy == "sma_cross":
            band = self.own("band")
            above, below = x[0] > x[1] * (1.0 + band), x[0] < x[1] * (1.0 - band)
            score = abs(x[0] - x[1]) / close * per_volatility / sqrt(self.own("slow"))
        else:
            width = self.own("width") * x[1]
            above, below = close > x[0] + width, close < x[0] - width
            score = abs(close - x[0]) / close * per_volatility / sqrt(self.own("lookback"))
        direction = LONG if above else SHORT if below else HOLD
        expected = self.p["expected_sharpe"] / sqrt(self.bars.bars_per_year)
        return direction, expected * volatility * min(score, 3.0)

    def refresh_correlations(self, bar: int) -> None:
        p, lookback = self.p, int(self.p["correlation_lookback"])
        refresh = int(p["correlation_refresh"]) or (1 if len(self.symbols) <= 32 else 20)
        if (bar - self.out.first) % refresh:
            return
        values = [one.value(one.lots, one.close[bar]) for one in self.symbols]
        for one in self.symbols:
            weighted = weights = 0.0
            for other in self.symbols:
                value = values[other.index]
                if other is not one and value != 0.0:
                    weighted += value * self.correlation(one, other, bar, lookback)
                    weights += abs(value)
            one.rho = weighted / weights if weights > 0.0 else 0.0

    @staticmethod
    def correlation(one: Symbol, other: Symbol, bar: int, lookback: int) -> float:
        """Of the last returns of two symbols from one bar that both have to the next."""
        both = sorted(t for t in set(one.own) & set(other.own) if t <= bar)[-lookback - 1 :]
        if len(both) <= lookback:
            return 0.0
        first, second = (
            [log(x.close[b] / x.close[a]) for a, b in pairwise(both)] for x in (one, other)
        )
        return correlation(first, second)

    def fraction(self, one: Symbol, bar: int, direction: int, strength: float, n: int) -> float:
        """The target, a fraction of equity."""
        p, volatility = self.p, one.volatility[bar]
        if self.sizing == "kelly":
            sigma = max(volatility, sqrt(self.variance))
            fraction = p["kelly_fraction"] * strength / (sigma * sigma)
        elif self.sizing == "volatility_target":
            fraction = p["volatility_target"] / sqrt(self.bars.bars_per_year) / volatility
        elif self.sizing == "weight":
            fraction = p["weight"]
        elif self.sizing == "equal_weight":
            fraction = p["max_exposure"] / n
        else:
            fraction = p["risk_per_trade"] / exits.share_at_risk(self, one, bar)
        fraction *= p["neutral_multiplier"]
        if self.correlated:
            rho = one.rho if direction == LONG else -one.rho
            fraction *= 1.0 - p["correlation_penalty"] * max(0.0, rho)
        return min(fraction, p["max_weight"])

    def tested(self, one: Symbol, target: float) -> float:
        """The order that takes a position to ``target``, or 0 where it is too small to be placed."""
        order, p = target - one.lots, self.p
        if order == 0.0:
            return 0.0
        small = abs(order) * one.units < p["min_order_size"]
        if target * one.lots < 0.0 and small:
            return -one.lots
        if target == 0.0:
            return order
        if abs(target) > abs(one.lots) and small:
            self.saw("below_minimum")
            return 0.0
        if abs(order) < p["rebalance_band"] * abs(target):
            self.saw("inside_band")
            return 0.0
        return order

    def wishes(self, bar: int) -> list[Wish]:
        signals: list[tuple[Symbol, int, float]] = []
        wishes: list[Wish] = []
        for one in self.symbols:
            if self.waits(one, bar):
                # What is held stays, as on hold.
                wishes.append(Wish(one, HOLD, (0.0, 0.0), holds=True))
                self.saw("waits_held" if one.lots != 0.0 else "waits")
                continue
            direction, strength = self.signal(one, bar)
            if not one.member[bar]:
                direction = FLAT
                self.saw("leaves_held" if one.lots != 0.0 else "leaves")
            still = one.volatility[bar] == 0.0 and direction in (LONG, SHORT)
            if still and self.sizing in ("kelly", "volatility_target"):
                direction = HOLD
                self.saw("still")
            if direction == SHORT and not self.allow_short:
                direction = FLAT
            direction = exits.allowed(self, one, direction, closing=bar in self.closing[one.index])
            signals.append((one, direction, strength))
        n = sum(
            direction in (LONG, SHORT) or (direction == HOLD and one.lots != 0.0)
            for one, direction, _ in signals
        )
        for one, direction, strength in signals:
            wish = Wish(one, direction, (-strength, one.volatility[bar]), holds=direction == HOLD)
            if direction in (LONG, SHORT):
                fraction = self.fraction(one, bar, direction, strength, n)
                wish.wanted = self.whole(one, direction * fraction * self.marked.equity, bar)
            elif wish.holds:
                waiting = entries.kept(self, one, bar)
                if waiting != 0.0:
                    wish.wanted, wish.holds = one.lots + waiting, False
            wishes.append(wish)
        if self.p["max_positions"] > 0.0:
            self.limit_positions(wishes)
        return wishes

    def limit_positions(self, wishes: list[Wish]) -> None:
        candidates, places = [], self.p["max_positions"]
        for wish in wishes:
            one = wish.symbol
            enters = wish.wanted != 0.0
            if one.lots != 0.0:
                places -= enters or wish.holds
            elif enters:
                candidates.append(wish)
        for wish in candidates:
            if sum(other.rank <= wish.rank for other in candidates) > places:
                wish.wanted = 0.0
                self.saw("no_place")

    def whole(self, one: Symbol, value: float, bar: int) -> float:
        """The whole lots that a value buys at the close, rounded toward zero."""
        lots = whole(abs(value) / one.value(1.0, one.close[bar]))
        return lots if value > 0.0 else -lots

    def decide(self, bar: int) -> None:
        if self.correlated:
            self.refresh_correlations(bar)
        wishes = self.wishes(bar)
        budget = self.p["max_exposure"] * self.marked.equity
        if self.allocation == "targets":
            held = sum(
                abs(wish.symbol.value(wish.symbol.lots, wish.symbol.close[bar]))
                for wish in wishes
                if wish.holds
            )
            sought = sum(
                abs(wish.symbol.value(wish.wanted, wish.symbol.close[bar])) for wish in wishes
            )
            factor = 1.0
            if sought > 0.0 and budget - held < sought:
                factor = max((budget - held) / sought, 0.0)
                self.saw("targets_scaled")
            for wish in wishes:
                if not wish.holds:
                    wish.symbol.order = self.tested(wish.symbol, scaled(wish.wanted, factor))
            return
        reductions = additions = 0.0
        for wish in wishes:
            one, close = wish.symbol, wish.symbol.close[bar]
            one.order = 0.0
            if wish.holds:
                continue
            one.order = self.tested(one, wish.wanted)
            reduction, addition = parts(one.lots, one.order)
            reductions += abs(one.value(reduction, close))
            additions += abs(one.value(addition, close))
        left = budget - self.marked.gross + reductions
        if additions <= left or additions == 0.0:
            return
        self.saw("additions_scaled")
        factor = max(left / additions, 0.0)
        for one in self.symbols:
            reduction, addition = parts(one.lots, one.order)
            if addition != 0.0:
                target = one.lots + reduction + scaled(addition, factor)
                one.order = self.tested(one, target)

    def look(self, bar: int) -> None:
        """Look at a whole bar."""
        for one in self.symbols:
            open_, high, low, close = one.open[bar], one.high[bar], one.low[bar], one.close[bar]
            one.now = finer.Piece(open_, high, low, close, one.volume[bar], one.trades[bar])

    def walk(self) -> Outcome:
        out = self.out
        for bar in range(out.first, self.bars.n_bars):
            if out.ruined:
                out.equity.append(self.marked.equity)
                out.cash.append(self.cash)
                continue
            if bar > 0:
                self.carry(bar)
            self.look(bar)
            if not self.at_close:
                self.fill_orders(bar)
            self.inside(bar)
            self.look(bar)
            self.end_symbols(bar)
            if self.mark(bar):
                self.update_variance()
                self.decide(bar)
                if self.entry != "market":
                    entries.place(self, bar)
                if self.at_close:
                    self.fill_orders(bar)
                    self.mark(bar)
            self.before = self.marked
            out.equity.append(self.marked.equity)
            out.cash.append(self.cash)
        return out


def read_members(path: Path) -> dict[str, list[tuple[np.datetime64, np.datetime64]]]:
    """First and last days of each symbol as a member; days are those of UTC."""
    found: dict[str, list[tuple[np.datetime64, np.datetime64]]] = {}
    with path.open() as file:
        for row in csv.DictReader(file):
            last = np.datetime64(row["to"] or "9999-12-31")
            found.setdefault(row["symbol"], []).append((np.datetime64(row["from"]), last))
    return found


def whole(lots: float) -> float:
    """Rounded down; what lacks of a whole number by the rounding of floats alone counts as whole."""
    return float(floor(lots * (1.0 + 2.0**-50)))


def scaled(lots: float, factor: float) -> float:
    """Whole lots that are left of ``lots``, rounded toward zero."""
    left = whole(abs(lots) * factor)
    return left if lots > 0.0 else -left


def joined(fills: Sequence[Fill]) -> list[Fill]:
    """Fills inside one bar, by kind and symbol; several of one kind in one symbol at their mean price."""
    kinds: dict[tuple[int, Kind], list[Fill]] = {}
    for fill in fills:
        kinds.setdefault((fill.symbol, fill.kind), []).append(fill)
    out: list[Fill] = []
    for _, several in sorted(
        kinds.items(), key=lambda item: (INSIDE.index(item[0][1]), item[0][0])
    ):
        lots = sum(one.lots for one in several)
        mean = several[0].price
        if len(several) > 1:
            mean = sum(one.price * one.lots for one in several) / lots
        cost, flow = sum(one.cost for one in several), sum(one.flow for one in several)
        out.append(replace(several[0], lots=lots, price=mean, cost=cost, flow=flow))
    return out


def run(
    bars: Bars,
    parameters: Mapping[str, Any],
    *,
    costs: Mapping[str, Any] | None = None,
    account: Mapping[str, Any] | None = None,
    instruments: Mapping[str, Mapping[str, float]] | None = None,
    sizing: str = "kelly",
    allocation: str = "additions",
    allow_short: bool = False,
    entry: entries.Entry = "market",
    session_exit: bool = False,
    timezone: str = "UTC",
    fills: Bars | None = None,
    funding: FloatTable | None = None,
    dividends: FloatTable | None = None,
    members: Path | None = None,
    kind: type[Broker] = Broker,
) -> Outcome:
    """Walk all bars with one parameter set; the arguments are those of ``optimizer.backtest``.

    ``funding`` and ``dividends`` are columns of the bars, by bar and symbol; ``kind`` is the broker.
    """
    return kind(
        bars,
        parameters,
        costs or {},
        account or {},
        instruments or {},
        sizing,
        allocation,
        allow_short,
        entry,
        session_exit,
        timezone,
        fills,
        funding,
        dividends,
        members,
    ).walk()
