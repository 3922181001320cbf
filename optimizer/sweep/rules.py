"""What holds for every parameter set of a study: its account, instruments, rates and options."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kernels import layout
from kernels.codes import ALLOCATIONS, SIZINGS
from optimizer.bars.rates import rate_at, read_rate
from optimizer.study_file.account import Rate, RateFile
from optimizer.study_file.per_symbol import DEFAULT
from optimizer.study_file.space import Space
from optimizer.study_file.study import Study
from optimizer.types import Bars, FloatArray

YEAR = np.timedelta64(31_557_600, "s")
"""365.25 days, over which interest is stated."""

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
        stops: whether any parameter set has a stop.
        fees: whether any has costs or limits that depend on the size of a fill.
        limited: whether any limits the number of positions.
        sizing, allocation: codes of ``kernels.codes``.
        correlated: whether any parameter set has a correlation penalty.
        correlation_lookback, correlation_refresh: bars.
        per_symbol: names of the costs that the study gives per symbol.
        instruments: (n_symbols, N_INSTRUMENT_COLUMNS), see ``kernels.layout``; read-only.
        rates: (n_bars, N_RATE_COLUMNS), likewise.
    """

    initial_cash: float
    leverage: float
    maintenance: float
    ewma_decay: float
    allow_short: bool
    close_fill: bool
    stops: bool
    fees: bool
    limited: bool
    sizing: int
    allocation: int
    correlated: bool
    correlation_lookback: int
    correlation_refresh: int
    per_symbol: tuple[str, ...]
    instruments: FloatArray
    rates: FloatArray

    @property
    def margin(self) -> bool:
        """Whether the account lends money or symbols."""
        return self.allow_short or self.leverage > 1.0

    @property
    def short(self) -> bool | None:
        """As the kernels take it: None without a margin account, else whether it may be short."""
        return self.allow_short if self.margin else None

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
        space: of the study.
        bars: of all symbols.

    Raises:
        DataError: a file of interest rates cannot be used, or begins after the bars.
    """

    def any_positive(name: str) -> bool:
        given = study.costs.per_symbol.get(name, {}).values()
        return any(max(branch.values(name)) > 0 for branch in space.branches) or any(given)

    fixed = space.branches[0].fixed
    exact = bars.n_symbols <= int(fixed["correlation_exact_symbols"])
    rules = Rules(
        initial_cash=study.costs.initial_cash,
        leverage=study.account.leverage,
        maintenance=study.account.maintenance_margin,
        ewma_decay=float(fixed["ewma_decay"]),
        allow_short=study.risk.allow_short,
        close_fill=study.costs.fill == "close",
        stops=any(any_positive(name) for name in ("stop_loss", "take_profit", "trailing_stop")),
        fees=any(any_positive(name) for name in (*SIZE_FEES, "max_volume_share")),
        limited=any_positive("max_positions"),
        sizing=SIZINGS.index(study.risk.sizing),
        allocation=ALLOCATIONS.index(study.risk.allocation),
        correlated=bars.n_symbols > 1 and any_positive("correlation_penalty"),
        correlation_lookback=int(fixed["correlation_lookback"]),
        correlation_refresh=1 if exact else int(fixed["correlation_refresh"]),
        per_symbol=tuple(sorted(study.costs.per_symbol)),
        instruments=_instruments(study, bars.symbols),
        rates=_rates(study, bars),
    )
    for array in (rules.instruments, rules.rates):
        array.flags.writeable = False
    return rules


def _instruments(study: Study, symbols: tuple[str, ...]) -> FloatArray:
    """The table of instruments, with the costs that the study gives per symbol."""
    table = np.zeros((len(symbols), layout.N_INSTRUMENT_COLUMNS))
    table[:, layout.OWN_VOLUME_SHARE] = np.inf
    borrow = study.account.borrow_bps_year
    for s, symbol in enumerate(symbols):
        own = study.instruments.get(symbol)
        lot = study.lot_size if own is None or own.lot_size is None else own.lot_size
        row = table[s]
        row[layout.LOT_UNITS] = lot
        row[layout.LOT_MONEY] = lot * (1.0 if own is None else own.multiplier)
        row[layout.TICK] = 0.0 if own is None else own.tick_size
        row[layout.BORROW] = borrow.get(symbol, borrow[DEFAULT]) / 1e4
        costs = {name: study.costs.value(name, symbol) for name in study.costs.per_symbol}
        numbers = {name: value for name, value in costs.items() if isinstance(value, (int, float))}
        for name, value in cost_rows(numbers).items():
            row[_OWN[name]] = value
        row[layout.OWN_HALF_SPREAD] = row[layout.OWN_HALF_SPREAD] * row[layout.TICK]
    return table


_OWN = {
    "slippage": layout.OWN_SLIPPAGE,
    "half_spread_ticks": layout.OWN_HALF_SPREAD,
    "commission": layout.OWN_COMMISSION,
    "per_unit": layout.OWN_PER_UNIT,
    "minimum": layout.OWN_MINIMUM,
    "per_order": layout.OWN_PER_ORDER,
    "impact": layout.OWN_IMPACT,
    "volume_share": layout.OWN_VOLUME_SHARE,
}
"""Column of a symbol's own costs, by the names of ``cost_rows``."""


def cost_rows(costs: dict[str, FloatArray] | dict[str, float]) -> dict[str, FloatArray]:
    """Costs as the kernels take them.

    Args:
        costs: of ``[costs]`` by name, numbers or arrays of one shape; those left out are 0, and a
            volume share left out or 0 is unlimited.

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

    def yearly(rate: Rate) -> FloatArray:
        if not isinstance(rate, RateFile):
            return np.full(bars.n_bars, rate)
        path = study.base_path / rate.path
        at = np.concatenate([bars.timestamps[:1], bars.timestamps[:-1]])
        return rate_at(at, *read_rate(path, rate.column), source=str(path))

    table = np.empty((bars.n_bars, layout.N_RATE_COLUMNS))
    table[:, layout.CREDIT] = yearly(study.account.cash_rate) * years
    table[:, layout.DEBIT] = study.account.financing_bps_year / 1e4 * years
    table[:, layout.RISK_FREE] = yearly(study.account.risk_free_rate) * years
    table[:, layout.YEARS] = years
    return table
