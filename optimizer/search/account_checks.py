"""Refuse what an account cannot trade on its bars, and warn of what would mislead."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator

import numpy as np
from joblib.parallel import BACKENDS

from kernels.codes import LIVE
from optimizer.errors import StudyFileError
from optimizer.market.feature_keys import read_name
from optimizer.search.without_effect import settings_without_effect
from optimizer.study_file.bars import load_study_rates
from optimizer.study_file.cross_checks import symbol_checks
from optimizer.study_file.messages import place_text
from optimizer.study_file.settings import bounds_of
from optimizer.study_file.space import Space
from optimizer.study_file.study import Study
from optimizer.study_file.symbols import SymbolTerms, symbol_terms
from optimizer.study_file.tables import CLUSTERS
from optimizer.study_file.values import Problem
from optimizer.sweep.drawdown import drawdowns
from optimizer.sweep.inputs import feature_keys
from optimizer.sweep.rules import Rules
from optimizer.sweep.universe import live_mask
from optimizer.text import list_text, quoted, suggest
from optimizer.types import Bars, FloatArray

COARSE_LOT = 0.01
"""A lot above this share of the initial cash makes sizes coarse."""

CASH_VOLATILITY = 0.01
CASH_DRAWDOWN = 0.01
"""A symbol below this volatility a year that never falls further from its peak behaves like cash."""

HIGH_RATE = 0.3
"""A rate above this, fraction a year, was most likely written in percent."""

_log = logging.getLogger("barsweep")


def check_account(study: Study, bars: Bars) -> None:
    """Check costs, account and instruments of a study against its bars; logs the warnings.

    Args:
        study: the study.
        bars: the bars of the study.

    Raises:
        StudyFileError: a table names a symbol that the bars do not have, a lot is dearer than the
            account can pay, a symbol has no tick size or no volume where a cost needs it.
        DataError: the file of a rate cannot be used.
    """
    terms = symbol_terms(study, bars.symbols)
    problems = [
        *symbol_checks(study, bars.symbols),
        *_unaffordable_lots(study, bars, terms),
        *_no_volume(study, bars),
        *_unknown_back_end(study),
    ]
    if problems:
        place, message = problems[0]
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise StudyFileError(
            f"{study.source}: {place_text(place, study.to_dict())}: {message}{more}"
        )
    for warning in (
        *_coarse_lots(study, bars, terms),
        *_rates(study, bars),
        *_cash_like(study, bars),
        *settings_without_effect(study, bars.n_symbols),
    ):
        _log.warning("%s: %s", study.source, warning)


def _unknown_back_end(study: Study) -> Iterator[Problem]:
    """A back end of the workers that joblib does not know in this process."""
    given, known = study.workers.backend, dict.fromkeys([*BACKENDS, *CLUSTERS])
    if given not in known:
        yield (
            ("workers", "backend"),
            f"got {quoted(given)}; {suggest(given, sorted(known))}, or one that is registered with"
            " joblib.register_parallel_backend",
        )


def _lot_values(bars: Bars, terms: SymbolTerms) -> FloatArray:
    """Money of a lot of each symbol at its median close, shape (n_symbols,)."""
    closes = [bars.close[bars.own(s), s] for s in range(bars.n_symbols)]
    median = np.array([np.median(close) for close in closes])
    return median * terms.lot_sizes * terms.multipliers


def _fitting_lot(cash: float, unit_value: float) -> float:
    """The power of ten, in units, whose value is at most a thousandth of the cash."""
    return float(10.0 ** math.floor(math.log10(0.001 * cash / unit_value)))


def _unaffordable_lots(study: Study, bars: Bars, terms: SymbolTerms) -> Iterator[Problem]:
    cash, leverage = study.costs.initial_cash, study.account.leverage
    values = _lot_values(bars, terms)
    for s in np.flatnonzero(values > cash * leverage):
        symbol, lot = bars.symbols[s], terms.lot_sizes[s]
        fitting = f"{_fitting_lot(cash, values[s] / lot):.12g}"
        power = "" if leverage == 1.0 else f" x leverage = {leverage:.12g}"
        yield (
            ("instruments", symbol, "lot_size"),
            f"one lot of {symbol}, {lot:.12g} x {values[s] / lot:,.12g} (its median close"
            f"{'' if terms.multipliers[s] == 1.0 else ' x multiplier'}), costs {values[s]:,.0f},"
            f" more than [costs] initial_cash = {cash:,.0f}{power}: it could never be bought; if"
            f" fractions are traded, set it to {fitting}, or [risk] lot_size = {fitting} for all"
            " symbols; otherwise raise initial_cash or leave the symbol out of [data] symbols",
        )


def _no_volume(study: Study, bars: Bars) -> Iterator[Problem]:
    without = [bars.symbols[s] for s in np.flatnonzero(~(bars.volume > 0.0).any(axis=0))]
    for name in ("impact", "max_volume_share"):
        needing = [s for s in without if bounds_of(study.costs.value(name, s))[1] > 0.0]
        if needing:
            yield (
                ("costs", name),
                f"needs volume, and the bars of {list_text(needing, 5)} have none; set it to 0, or"
                f" for these symbols alone: {name} = {{{needing[0]} = 0.0, default = ...}}",
            )


def _coarse_lots(study: Study, bars: Bars, terms: SymbolTerms) -> Iterator[str]:
    cash = study.costs.initial_cash
    values = _lot_values(bars, terms)
    coarse = np.flatnonzero(values > COARSE_LOT * cash)
    if len(coarse):
        lots = [f"{bars.symbols[s]} {values[s] / cash:.1%}" for s in coarse]
        worst = int(coarse[np.argmax(values[coarse])])
        fitting = _fitting_lot(cash, values[worst] / terms.lot_sizes[worst])
        yield (
            f"one lot is over {COARSE_LOT:.0%} of initial_cash, so sizes are coarse:"
            f" {list_text(lots, 5)}; where fractions are traded set [instruments."
            f"{bars.symbols[worst]}] lot_size = {fitting:.12g}, or raise initial_cash"
        )


def _rates(study: Study, bars: Bars) -> Iterator[str]:
    names = ("cash_rate", "risk_free")
    for name, rates in zip(names, load_study_rates(study, bars.timestamps), strict=True):
        if getattr(study.account, name) is not None and rates.max() > HIGH_RATE:
            yield (
                f"[account] {name}: {rates.max():.4g} is {rates.max():.0%} a year; rates are"
                " fractions, 0.0425 for 4.25 percent"
            )


def _cash_like(study: Study, bars: Bars) -> Iterator[str]:
    if study.account.risk_free is not None or study.account.cash_rate != 0.0:
        return
    found = [s for s in range(bars.n_symbols) if _behaves_like_cash(bars, s)]
    if found:
        symbols, own = [bars.symbols[s] for s in found], bars.own(found[0])
        growth = float(np.log(bars.close[own[-1], found[0]] / bars.close[own[0], found[0]]))
        a_year = growth * bars.bars_per_year / (len(own) - 1)
        yield (
            f"{list_text(symbols, 5)} behaves like cash (volatility under {CASH_VOLATILITY:.0%} a"
            " year): holding it would count as skill; set [account] risk_free, such as"
            f" {math.expm1(a_year):.3f}, its return a year"
        )


def _behaves_like_cash(bars: Bars, symbol: int) -> bool:
    close = bars.close[bars.own(symbol), symbol]
    if len(close) < 3:
        return False
    volatility = np.diff(np.log(close)).std(ddof=1) * math.sqrt(bars.bars_per_year)
    drawdown = drawdowns(close, close[0]).max()
    calm = volatility < CASH_VOLATILITY and drawdown <= CASH_DRAWDOWN
    return bool(calm and close[-1] > close[0])


def warn_of_idle_symbols(study: Study, bars: Bars, warm_up: int, rules: Rules) -> None:
    """Warn of symbols that a study can never trade.

    Args:
        study: the study.
        bars: the bars of the study.
        warm_up: bars of its own that a symbol has before its first decision.
        rules: the rules of the study.
    """
    if bars.present is None and rules.members is None and rules.flat is None:
        return
    live = live_mask(bars, warm_up, rules.members, rules.flat)[warm_up:]
    idle = [bars.symbols[s] for s in np.flatnonzero(~(live == LIVE).any(axis=0))]
    if idle:
        _log.warning(
            "%s: never traded, since no bar as a member follows a warm-up of %d bars: %s; shorten"
            " lookbacks, or leave them out of [data] symbols",
            study.source,
            warm_up,
            list_text(idle, 5),
        )


def warn_of_slower_bars(study: Study, space: Space, bars: Bars, rules: Rules) -> None:
    """Warn of a file of slower bars that no feature reads, or that ends before the study does.

    Args:
        study: the study.
        space: the parameter space of the study.
        bars: the bars of the study.
        rules: the rules of the study.
    """
    slower, clock = rules.slower, rules.clock(bars)
    if slower is None:
        return
    named = f"{study.source}: [data] slower = {quoted(str(study.data.slower))}"
    if slower.timeframe not in {read_name(key[0]).timeframe for key in feature_keys(space)}:
        _log.warning(
            '%s has no effect here: its bars are of %s, and no feature has timeframe = "%s"; leave it'
            " out, or change that",
            named,
            slower.timeframe,
            slower.timeframe,
        )
        return
    for s, symbol in enumerate(bars.symbols):
        ends = slower.of_symbol(s)[1]
        if len(ends) < 2:
            continue
        last = int(clock.ends(clock.at(bars.timestamps[bars.own(s)[-1:]]))[0])
        # Weekends and holidays are no end.
        if last - int(ends[-1]) > int(np.diff(ends).max()):
            _log.warning(
                "%s ends at %s for %s, before its bars, which end at %s: features on it stand still"
                " in between; bring it up to date, or set [data] end",
                named,
                str(np.datetime64(int(ends[-1]), "ns"))[:16],
                symbol,
                str(np.datetime64(last, "ns"))[:16],
            )
