"""Checks across the tables of a study file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import permutations
from numbers import Real
from typing import TYPE_CHECKING

from optimizer.catalogue import (
    ENTRY_PARAMETERS,
    RISK,
    SIZING_PARAMETERS,
    STOPS,
    STOPS_ATR,
    column,
)
from optimizer.strategies.built_in import BUILT_IN
from optimizer.study_file.combination_checks import combination_problems
from optimizer.study_file.operands import operand_problems
from optimizer.study_file.per_symbol import DEFAULT
from optimizer.study_file.settings import Range, Setting, bounds_of, setting_to_dict
from optimizer.study_file.values import Place, Problem
from optimizer.text import list_text, quoted, suggest

if TYPE_CHECKING:
    from optimizer.study_file.study import Study


def cross_checks(study: Study) -> list[Problem]:
    """Every problem that only several tables together show.

    Args:
        study: whose tables have been checked one by one.
    """
    return [
        *_repeated_names("strategy", [strategy.name for strategy in study.strategies]),
        *_same_columns(study),
        *_repeated_names("classifier", [classifier.name for classifier in study.classifiers]),
        *combination_problems(study),
        *operand_problems(study),
        *_endless_grid(study),
        *_endless_feature(study),
        *_beyond_leverage(study),
        *_liquidated_at_once(study),
        *_unread_by_sizing(study),
        *_no_stop(study),
        *_stop_out_of_reach(study),
        *_unread_by_entry(study),
        *_unread_fills(study),
        *_cooldown_after_nothing(study),
        *_entry_at_the_close(study),
        *_maker_unknown(study),
        *([] if study.data.symbols is None else symbol_checks(study, study.data.symbols)),
    ]


def symbol_checks(study: Study, symbols: Sequence[str]) -> list[Problem]:
    """Every problem with what a study says of single symbols.

    Args:
        study: whose tables have been checked one by one.
        symbols: all of its symbols.
    """
    return [
        *_unknown_symbols(study, symbols),
        *_unknown_markets(study, symbols),
        *_no_tick(study, symbols),
        *_unknown_benchmark(study, symbols),
    ]


def _repeated_names(table: str, names: Sequence[str]) -> Iterable[Problem]:
    for index, name in enumerate(names):
        if name in names[:index]:
            yield (
                (table, index, "name"),
                f'"{name}" is listed twice; give it one table and search its values with '
                "{choices = [...]}",
            )


def _same_columns(study: Study) -> Iterable[Problem]:
    """Names that leave open whose a column of the results is."""
    parts: list[tuple[Place, str, Iterable[str], bool]] = [
        *(
            (("strategy", i, "name"), one.name, one.settings, one.name not in BUILT_IN)
            for i, one in enumerate(study.strategies)
        ),
        *(
            (("classifier", i, "name"), one.name, one.settings, one.own is not None)
            for i, one in enumerate(study.classifiers)
        ),
    ]
    for (place, name, keys, _), (other_place, other, _, other_own) in permutations(parts, 2):
        if name == other and (place[0], other_place[0]) == ("classifier", "strategy"):
            yield place, f"a strategy is called {name} too; choose another name"
        # A column is of the longest name that begins it.
        for key in keys if len(other) > len(name) else ():
            if column(name, key).startswith(f"{other}_"):
                yield (
                    other_place if other_own else place,
                    f"the column {column(name, key)} of {name} begins as those of {other} do;"
                    " choose another name",
                )


def _endless_grid(study: Study) -> Iterable[Problem]:
    if study.search.sampler != "grid":
        return
    tables: list[tuple[Place, Mapping[str, Setting]]] = [
        *((("strategy", i), part.settings) for i, part in enumerate(study.strategies)),
        *((("classifier", i), part.settings) for i, part in enumerate(study.classifiers)),
        (("risk",), study.risk.settings),
        (("costs",), study.costs.settings),
    ]
    for place, settings in tables:
        for name, setting in settings.items():
            if isinstance(setting, Range) and setting.n_values is None:
                yield (
                    (*place, name),
                    f"{quoted(setting_to_dict(setting))} is continuous, which the sampler "
                    '"grid" cannot list; give it a step',
                )


def _endless_feature(study: Study) -> Iterable[Problem]:
    """Features are computed once for all sets, so their parameters have values that can be listed."""
    for index, part in enumerate(study.strategies):
        for parameter in part.strategy.parameters:
            setting = part.settings[parameter.name]
            endless = isinstance(setting, Range) and parameter.kind is float and not setting.step
            if parameter.role == "feature" and endless:
                yield (
                    ("strategy", index, parameter.name),
                    f"{quoted(setting_to_dict(setting))} is continuous, and a feature takes it;"
                    " give it a step, or choices",
                )


def _beyond_leverage(study: Study) -> Iterable[Problem]:
    exposure, leverage = bounds_of(study.risk.settings["max_exposure"])[1], study.account.leverage
    if exposure > leverage:
        yield (
            ("risk", "max_exposure"),
            f"{exposure:.12g} is above [account] leverage = {leverage:.12g}; lower it, or set"
            f" leverage = {exposure:.12g}",
        )


def _liquidated_at_once(study: Study) -> Iterable[Problem]:
    leverage, margin = study.account.leverage, study.account.maintenance_margin
    if leverage > 1.0 and margin * leverage >= 1.0:
        yield (
            ("account", "maintenance_margin"),
            f"{margin:.12g} is not below 1 / leverage = {1.0 / leverage:.6g}: a position at full"
            f" leverage would be liquidated at once; set maintenance_margin = {0.5 / leverage:.3g},"
            " or lower leverage",
        )


def _unread_by_sizing(study: Study) -> Iterable[Problem]:
    """Values of a parameter that is not read would multiply the sets, each as good as the other."""
    sizing = study.risk.sizing
    for mode, names in SIZING_PARAMETERS.items():
        for name in names if mode != sizing else ():
            if not isinstance(study.risk.settings[name], (int, float)):
                read = SIZING_PARAMETERS[sizing]
                instead = f", vary {' or '.join(read)}" if read else ""
                yield (
                    ("risk", name),
                    f'sizing = "{sizing}" does not read it, so its values are all alike; give one'
                    f' number or leave it out{instead}, or set sizing = "{mode}"',
                )


def _no_stop(study: Study) -> Iterable[Problem]:
    settings = study.risk.settings
    stops = ("stop_loss", "stop_loss_atr")
    if study.risk.sizing == "risk_per_trade" and all(
        bounds_of(settings[name])[0] <= 0 for name in stops
    ):
        yield (
            ("risk", "stop_loss"),
            'is 0 in some sets, and sizing = "risk_per_trade" divides by the distance to the stop;'
            " give values above 0, such as stop_loss = 0.05, or stop_loss_atr = 2.0",
        )


def _stop_out_of_reach(study: Study) -> Iterable[Problem]:
    """A long position never loses all of a price above 0; a short one may."""
    for name in ("stop_loss", "trailing_stop") if not study.risk.allow_short else ():
        if bounds_of(study.risk.settings[name])[1] >= 1.0:
            yield (
                ("risk", name),
                "1 is a fall to a price of 0, which no long position reaches; give values below 1,"
                " such as 0.05 for 5%, or 0 for none",
            )


def _unread_by_entry(study: Study) -> Iterable[Problem]:
    settings = study.risk.settings
    if study.risk.entry == "market":
        defaults = {one.name: one.default for one in RISK}
        for name in ENTRY_PARAMETERS:
            if settings[name] != defaults[name]:
                yield (
                    ("risk", name),
                    'is not read with entry = "market": orders fill at the next open; leave it out, or'
                    ' set entry = "limit" or entry = "stop"',
                )
    if study.risk.entry != "limit" and not isinstance(study.costs.settings["maker_bps"], Real):
        yield (
            ("costs", "maker_bps"),
            f'is not read with [risk] entry = "{study.risk.entry}", so its values are all alike; leave'
            ' it out, or set entry = "limit"',
        )


def _none_of(study: Study, names: Iterable[str]) -> bool:
    return all(bounds_of(study.risk.settings[name])[1] <= 0 for name in names)


def _unread_fills(study: Study) -> Iterable[Problem]:
    margin = study.risk.allow_short or study.account.leverage > 1.0
    if (
        study.data.fills is not None
        and study.risk.entry == "market"
        and not margin
        and _none_of(study, (*STOPS, *STOPS_ATR))
    ):
        yield (
            ("data", "fills"),
            "is not read: no stop, target, waiting entry or margin looks into a bar; leave it out, or"
            " set one, such as [risk] stop_loss = 0.05",
        )


def _cooldown_after_nothing(study: Study) -> Iterable[Problem]:
    if study.risk.settings["cooldown"] != 0 and _none_of(study, (*STOPS, *STOPS_ATR, "time_exit")):
        yield (
            ("risk", "cooldown"),
            "is read after stops, targets and time exits alone, and there are none; leave it out, or set"
            " one, such as stop_loss = 0.05",
        )


def _entry_at_the_close(study: Study) -> Iterable[Problem]:
    if study.risk.entry != "market" and study.costs.fill == "close":
        yield (
            ("costs", "fill"),
            f'"close" fills orders when they are decided, and [risk] entry = "{study.risk.entry}" lets'
            ' them wait; set fill = "next_open", or entry = "market"',
        )


def _maker_unknown(study: Study) -> Iterable[Problem]:
    if study.risk.entry == "limit" and study.costs.maker_left_out:
        yield (
            ("costs", "maker_bps"),
            "missing: commission_bps varies, so it does not say what a limit entry pays; give"
            " maker_bps, such as 0.5",
        )


def _unknown_symbols(study: Study, symbols: Sequence[str]) -> Iterable[Problem]:
    tables: list[tuple[Place, Iterable[str]]] = [
        *((("costs", name), values) for name, values in study.costs.per_symbol.items()),
        (("account", "borrow_bps_year"), study.account.borrow_bps_year.keys() - {DEFAULT}),
        (("instruments",), study.instruments),
    ]
    for place, names in tables:
        for name in sorted(names):
            if name not in symbols:
                yield (
                    (*place, name),
                    f"{quoted(name)} is not among the symbols of [data]; {suggest(name, symbols, 20)}",
                )


def _unknown_markets(study: Study, symbols: Sequence[str]) -> Iterable[Problem]:
    for index, classifier in enumerate(study.classifiers):
        market = classifier.market
        if market is not None and market not in symbols:
            yield (
                ("classifier", index, "market"),
                f"{quoted(market)} is not among the symbols of [data]; {suggest(market, symbols, 20)};"
                " without market it is the index of all symbols",
            )


def _unknown_benchmark(study: Study, symbols: Sequence[str]) -> Iterable[Problem]:
    benchmark = study.validation.benchmark
    if benchmark != "universe" and benchmark not in symbols:
        yield (
            ("validation", "benchmark"),
            f"{quoted(benchmark)} is not among the symbols of [data];"
            f" {suggest(benchmark, ('universe', *symbols), 20)}",
        )


def _no_tick(study: Study, symbols: Sequence[str]) -> Iterable[Problem]:
    without = [
        symbol
        for symbol in symbols
        if bounds_of(study.costs.value("spread_ticks", symbol))[1] > 0.0
        and not (symbol in study.instruments and study.instruments[symbol].tick_size > 0.0)
    ]
    if without:
        yield (
            ("costs", "spread_ticks"),
            f"needs the tick size of {list_text(without, 5)}; add [instruments.{without[0]}]"
            " tick_size = 0.01, or give the spread as spread_bps",
        )
