"""What holds for every parameter set of a study: account, instruments, rates, members, options."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np

from kernels import layout
from kernels.codes import ADDITIONS, ALLOCATIONS, ENTRIES, KELLY, SIZINGS
from optimizer.bars.finer import FinerBars
from optimizer.bars.per_year import days_per_year
from optimizer.bars.sizes import bar_size
from optimizer.bars.times import DAY, read_duration
from optimizer.catalogue import STOPS, STOPS_ATR
from optimizer.errors import DataError
from optimizer.market.clock import MarketClock, last_of_days, market_clock
from optimizer.market.slower import SlowerBars, slower_bars
from optimizer.study_file.bars import (
    load_finer_bars,
    load_slower_bars,
    load_study_members,
    load_study_rates,
    named_file,
)
from optimizer.study_file.space import Space
from optimizer.study_file.spans import correlation_refresh
from optimizer.study_file.study import Study
from optimizer.study_file.symbols import symbol_terms
from optimizer.sweep.universe import session_exits
from optimizer.text import list_text
from optimizer.types import Bars, FloatArray, IntArray, MaskArray

YEAR = np.timedelta64(31_557_600, "s")
"""365.25 days, over which interest is stated."""

RANGES = (*STOPS_ATR, "entry_offset_atr")
"""Distances in average true ranges."""

EXITS = (*STOPS, *STOPS_ATR, "time_exit", "cooldown")
"""Parameters that are 0 unless given and close positions, or keep them closed."""

SIZE_FEES = ("commission_per_unit", "commission_minimum", "commission_per_order", "impact")
"""Costs that are 0 unless given and make what a lot costs depend on the size of the fill."""


@dataclass(frozen=True, eq=False)
class Rules:
    """What holds for every parameter set of a study.

    Attributes:
        initial_cash: money.
        leverage: buying power over equity.
        maintenance: least equity of a margin account, a fraction of gross value.
        ewma_decay: decay of the EWMA of the portfolio's variance, per bar.
        allow_short: whether short positions are allowed.
        close_fill: whether orders fill at the close of the bar of decision.
        stops: whether any parameter set has a stop or an exit by time.
        ranges: whether any has a distance in average true ranges.
        atr_lookback: bars of these ranges.
        fees: whether any has costs or limits that depend on the size of a fill.
        limited: whether any limits the number of positions.
        sizing, allocation, entry: codes of ``kernels.codes``.
        correlated: whether any parameter set has a correlation penalty.
        correlation_lookback, correlation_refresh: bars.
        per_symbol: names of the costs that the study gives per symbol.
        instruments: (n_symbols, N_INSTRUMENT_COLUMNS), see ``kernels.layout``; read-only.
        rates: (n_bars, N_RATE_COLUMNS), likewise.
        members: whether each symbol is a member at each bar, (n_bars, n_symbols), 1 or 0; None for
            always.
        flat: whether nothing may be wanted at each close, (n_bars, n_symbols), 1 or 0; None for never.
        finer: the finer bars inside each bar; None where the study has none.
        slower: longer bars of a second file; None where the study has none, and in workers, which compute
            no features.
        counted: whether each bar closes a return of the metrics, (n_bars,), 1 or 0; None where every bar
            does.
        returns_per_year: annualizes these returns.
        timezone, exchange: whose days or sessions features of time and of a timeframe have.
        bar: duration of a bar, nanoseconds.
    """

    initial_cash: float
    leverage: float
    maintenance: float
    ewma_decay: float
    allow_short: bool
    close_fill: bool
    stops: bool
    ranges: bool
    atr_lookback: int
    fees: bool
    limited: bool
    sizing: int
    allocation: int
    entry: int
    correlated: bool
    correlation_lookback: int
    correlation_refresh: int
    per_symbol: tuple[str, ...]
    instruments: FloatArray
    rates: FloatArray
    members: MaskArray | None
    flat: MaskArray | None
    finer: FinerBars | None
    slower: SlowerBars | None
    counted: MaskArray | None
    returns_per_year: float
    timezone: str
    exchange: str | None
    bar: int

    def closes(self, start: int, stop: int) -> IntArray:
        """The bars from ``start`` to ``stop - 1`` that close a return, shape (n_returns,).

        Args:
            start, stop: bars.
        """
        if self.counted is None:
            return np.arange(start, stop)
        return np.flatnonzero(self.counted[start:stop]) + start

    def n_returns(self, start: int, stop: int) -> int:
        """The number of returns that the bars from ``start`` to ``stop - 1`` close.

        Args:
            start, stop: bars.
        """
        return len(self.closes(start, stop))

    def closing_rates(self, first: int) -> FloatArray:
        """``rates`` in which the risk-free return is that since the close of the return before.

        Args:
            first: bar of the first decision, with which the first return begins.

        Returns:
            (n_bars, N_RATE_COLUMNS), read-only.
        """
        if self.counted is None:
            return self.rates
        rates, closes = self.rates.copy(), self.closes(first, len(self.rates))
        if len(closes):
            starts = np.concatenate(([first], closes[:-1] + 1))
            since = np.add.reduceat(self.rates[: closes[-1] + 1, layout.RISK_FREE], starts)
            rates[closes, layout.RISK_FREE] = since
        rates.flags.writeable = False
        return rates

    def clock(self, bars: Bars) -> MarketClock:
        """The days and sessions of the market.

        Args:
            bars: the bars of all symbols.

        Raises:
            DataError: there is no such exchange, its calendar does not span the bars, or
                exchange-calendars is not installed.
        """
        clock = market_clock(bars.timestamps, self.timezone, self.exchange, self.bar)
        return replace(clock, slower=self.slower)

    @property
    def margin(self) -> bool:
        """Whether the account lends money or symbols."""
        return self.allow_short or self.leverage > 1.0

    @property
    def extended(self) -> bool:
        """Whether the rules need the simulation's ``extended`` code; so does a symbol that ends."""
        plain = self.sizing == KELLY and self.allocation == ADDITIONS and not self.limited
        interest = bool(self.rates[:, layout.CREDIT].any())
        return not plain or self.leverage > 1.0 or interest

    @property
    def files_hash(self) -> str:
        """SHA-256 of what the study's files other than its bars say: rates, membership, other bars."""
        digest = hashlib.sha256(np.ascontiguousarray(self.rates).tobytes())
        if self.members is not None:
            digest.update(np.ascontiguousarray(self.members).tobytes())
        if self.finer is not None:
            for one in fields(self.finer):
                digest.update(np.ascontiguousarray(getattr(self.finer, one.name)).tobytes())
        if self.slower is not None:
            digest.update(f"slower {self.slower.bars.content_hash}".encode())
        return digest.hexdigest()

    @property
    def lot_units(self) -> FloatArray:
        """Units per lot, shape (n_symbols,)."""
        return np.asarray(self.instruments[:, layout.LOT_UNITS])

    @property
    def lot_money(self) -> FloatArray:
        """Money per lot at a price of 1, shape (n_symbols,)."""
        return np.asarray(self.instruments[:, layout.LOT_MONEY])


def study_rules(study: Study, space: Space, bars: Bars) -> Rules:
    """The rules of a study; options that no parameter set uses are off.

    Args:
        study: the study.
        space: the parameter space of the study.
        bars: the bars of all symbols.

    Raises:
        DataError: the file of members, of finer bars or one of interest rates cannot be used, rates begin
            after the bars, sessions of one bar are to be closed, or there is no such exchange.
    """

    def any_positive(name: str) -> bool:
        given = study.costs.per_symbol.get(name, {}).values()
        return any(max(branch.values(name)) > 0 for branch in space.branches) or any(given)

    daily = study.search.returns == "day"
    zone, exchange, size = study.data.timezone, study.data.exchange, _bar_duration(study, bars)
    counted = last_of_days(bars.timestamps, zone, exchange, size) if daily else None
    fixed = space.branches[0].fixed
    rules = Rules(
        initial_cash=study.costs.initial_cash,
        leverage=study.account.leverage,
        maintenance=study.account.maintenance_margin,
        ewma_decay=float(fixed["ewma_decay"]),
        allow_short=study.risk.allow_short,
        close_fill=study.costs.fill == "close",
        stops=any(any_positive(name) for name in EXITS),
        ranges=any(any_positive(name) for name in RANGES),
        atr_lookback=int(fixed["atr_lookback"]),
        fees=any(any_positive(name) for name in (*SIZE_FEES, "max_volume_share")),
        limited=any_positive("max_positions"),
        sizing=SIZINGS.index(study.risk.sizing),
        allocation=ALLOCATIONS.index(study.risk.allocation),
        entry=ENTRIES.index(study.risk.entry),
        correlated=bars.n_symbols > 1 and any_positive("correlation_penalty"),
        correlation_lookback=int(fixed["correlation_lookback"]),
        correlation_refresh=correlation_refresh(int(fixed["correlation_refresh"]), bars.n_symbols),
        per_symbol=tuple(sorted(study.costs.per_symbol)),
        instruments=_instruments(study, bars.symbols),
        rates=_rates(study, bars),
        members=load_study_members(study, bars),
        flat=session_exits(study, bars, size) if study.risk.session_exit else None,
        finer=load_finer_bars(study, bars),
        slower=None,
        counted=counted,
        returns_per_year=bars.bars_per_year
        if counted is None
        else days_per_year(bars.timestamps, bars.bars_per_year),
        timezone=study.data.timezone,
        exchange=study.data.exchange,
        bar=size,
    )
    if rules.exchange is not None:
        rules.clock(bars)  # raises if there is no such exchange
    rules = replace(rules, slower=_slower(study, bars, rules))
    _require_finer_volume(rules, bars)
    for array in (rules.instruments, rules.rates, rules.members, rules.flat, rules.counted):
        if array is not None:
            array.flags.writeable = False
    return rules


def _slower(study: Study, bars: Bars, rules: Rules) -> SlowerBars | None:
    found = load_slower_bars(study, bars)
    if found is None:
        return None
    with named_file(study, "slower"):
        clock = rules.clock(bars)
        return slower_bars(
            found,
            bars.symbols,
            clock,
            rules.timezone,
            rules.exchange,
            in_sessions=bool(clock.touches(clock.at(bars.timestamps)).all()),
        )


def _bar_duration(study: Study, bars: Bars) -> int:
    if study.data.bar is not None:
        return read_duration(study.data.bar)
    return bar_size(bars.timestamps) if bars.n_bars > 1 else DAY


def _require_finer_volume(rules: Rules, bars: Bars) -> None:
    """Refuse finer bars without volume where fills depend on it: they would lift the limit."""
    if rules.finer is None or not rules.fees:
        return
    known = np.isfinite(rules.finer.volume).any(axis=0)
    without = [bars.symbols[s] for s in np.flatnonzero(np.asarray(bars.has_volume) & ~known)]
    if without:
        raise DataError(
            f"[data] fills: no volume of {list_text(without, 5)}, which the bars have, and costs depend"
            " on it; give the volume of the finer bars, or leave out impact and max_volume_share"
        )


def _instruments(study: Study, symbols: tuple[str, ...]) -> FloatArray:
    """The table of instruments, with the costs that the study gives per symbol."""
    terms = symbol_terms(study, symbols)
    table = np.zeros((len(symbols), layout.N_INSTRUMENT_COLUMNS))
    table[:, layout.LOT_UNITS] = terms.lot_sizes
    table[:, layout.LOT_MONEY] = terms.lot_sizes * terms.multipliers
    table[:, layout.TICK] = terms.tick_sizes
    table[:, layout.BORROW] = terms.borrow_bps_year / 1e4
    for name, values in cost_rows(terms.costs).items():
        table[:, _OWN[name]] = values
    table[:, layout.OWN_HALF_SPREAD] *= terms.tick_sizes
    return table


_OWN = {
    "slippage": layout.OWN_SLIPPAGE,
    "half_spread_ticks": layout.OWN_HALF_SPREAD,
    "commission": layout.OWN_COMMISSION,
    "maker": layout.OWN_MAKER,
    "per_unit": layout.OWN_PER_UNIT,
    "minimum": layout.OWN_MINIMUM,
    "per_order": layout.OWN_PER_ORDER,
    "impact": layout.OWN_IMPACT,
    "volume_share": layout.OWN_VOLUME_SHARE,
}
"""Column of a symbol's own costs, by the names of ``cost_rows``."""


def cost_rows(costs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """Costs as the kernels take them.

    Args:
        costs: the costs of ``[costs]`` by name, numbers or arrays of one shape; those left out are
            0, and a volume share left out or 0 is unlimited.

    Returns:
        By the name of the lane's row, fractions in place of basis points.
    """
    given = {name: np.asarray(value, dtype=np.float64) for name, value in costs.items()}
    none = np.zeros(())
    share = given.get("max_volume_share", none)
    return {
        "slippage": (given.get("spread_bps", none) / 2.0 + given.get("slippage_bps", none)) / 1e4,
        "half_spread_ticks": given.get("spread_ticks", none) / 2.0,
        "commission": given.get("commission_bps", none) / 1e4,
        "maker": given.get("maker_bps", none) / 1e4,
        "per_unit": given.get("commission_per_unit", none),
        "minimum": given.get("commission_minimum", none),
        "per_order": given.get("commission_per_order", none),
        "impact": given.get("impact", none),
        "volume_share": np.where(share > 0.0, share, np.inf),
    }


def _rates(study: Study, bars: Bars) -> FloatArray:
    """The table of rates. A rate is the one known at the bar before, for the time since then."""
    years = np.zeros(bars.n_bars)
    years[1:] = np.diff(bars.timestamps) / YEAR
    known = np.concatenate([bars.timestamps[:1], bars.timestamps[:-1]])
    cash_rate, risk_free = load_study_rates(study, known)
    table = np.zeros((bars.n_bars, layout.N_RATE_COLUMNS))
    table[:, layout.CREDIT] = cash_rate * years
    table[:, layout.DEBIT] = study.account.financing_bps_year / 1e4 * years
    table[:, layout.RISK_FREE] = risk_free * years
    table[:, layout.YEARS] = years
    return table
