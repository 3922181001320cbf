"""What a study file sets without any effect in this study: said, since it may not be what was meant."""

from __future__ import annotations

from collections.abc import Iterator

from optimizer.catalogue import COSTS, RISK, SIZING_PARAMETERS, STOPS_ATR
from optimizer.study_file.account import AccountTable
from optimizer.study_file.search_tables import SearchTable, ValidationTable
from optimizer.study_file.settings import Setting, Sweep, bounds_of
from optimizer.study_file.study import Study

CORRELATION = ("correlation_penalty", "correlation_lookback")
OF_DEBT = ("maintenance_margin", "financing_bps_year", "borrow_bps_year")
OF_METHOD = {
    "walk_forward": ("train_blocks", "anchored"),
    "cpcv": ("test_blocks", "embargo_blocks"),
}
"""Keys of ``[validation]`` that only one method reads."""

_DEFAULTS = {one.name: one.kind(one.default) for one in (*RISK, *COSTS)}


def settings_without_effect(study: Study, n_symbols: int) -> Iterator[str]:
    """Every value of a study, other than its default, that no parameter set of it can read.

    Args:
        study: the study, which has been checked.
        n_symbols: symbols of its bars.

    Yields:
        The place, the value, and why it has no effect, in a line each.
    """
    yield from _of_risk(study, n_symbols)
    account = study.account
    if not study.risk.allow_short and account.leverage <= 1.0:
        for key in OF_DEBT:
            if getattr(account, key) != getattr(AccountTable(), key):
                yield _line(
                    "account", key, "nothing is borrowed: leverage is 1 and allow_short false"
                )
    validation, plain = study.validation, ValidationTable()
    for method, keys in OF_METHOD.items():
        for key in keys if method != validation.method else ():
            if getattr(validation, key) != getattr(plain, key):
                yield _line("validation", key, f'method is "{validation.method}", not "{method}"')
    if validation.method == "none" and validation.purge_blocks:
        yield _line("validation", "purge_blocks", 'method is "none"')
    search = study.search
    if search.tile_value != SearchTable().tile_value and not _sweeps(study):
        yield _line("search", "tile_value", "nothing is swept, so each trial is one set")


def _of_risk(study: Study, n_symbols: int) -> Iterator[str]:
    risk, settings = study.risk, study.risk.settings

    def changed(*names: str) -> list[str]:
        return [name for name in names if settings[name] != _DEFAULTS[name]]

    for mode, names in SIZING_PARAMETERS.items():
        for name in changed(*names) if mode != risk.sizing else ():
            yield _line("risk", name, f'sizing = "{risk.sizing}" does not read it')
    if {one.name for one in study.classifiers} == {"none"}:
        for name in changed("bull_multiplier", "bear_multiplier"):
            yield _line("risk", name, "without a [classifier] every bar is neutral")
    if n_symbols == 1:
        for name in changed(*CORRELATION):
            yield _line("risk", name, "one symbol correlates with nothing")
    elif settings["correlation_penalty"] == 0.0:
        for name in changed("correlation_lookback"):
            yield _line("risk", name, "correlation_penalty is 0")
    most = settings["max_positions"]
    if changed("max_positions") and bounds_of(most)[0] >= n_symbols:
        yield _line(
            "risk", "max_positions", f"there are {n_symbols} symbols, no more than it allows"
        )
    weight, exposure = bounds_of(settings["max_weight"]), bounds_of(settings["max_exposure"])
    if changed("max_weight") and weight[0] > exposure[1]:
        yield _line(
            "risk", "max_weight", f"max_exposure = {exposure[1]:g} allows no position so large"
        )
    if changed("atr_lookback") and not _reads_ranges(study):
        yield _line("risk", "atr_lookback", "no stop, target or entry is a multiple of the ATR")


def _reads_ranges(study: Study) -> bool:
    settings = study.risk.settings
    names = (*STOPS_ATR, *(("entry_offset_atr",) if study.risk.entry != "market" else ()))
    return any(bounds_of(settings[name])[1] > 0.0 for name in names)


def _sweeps(study: Study) -> bool:
    tables: list[dict[str, Setting]] = [
        *(one.settings for one in study.strategies),
        *(one.settings for one in study.classifiers),
        study.risk.settings,
        study.costs.settings,
    ]
    return any(isinstance(one, Sweep) for settings in tables for one in settings.values())


def _line(table: str, key: str, why: str) -> str:
    return f"[{table}] {key} has no effect here: {why}; leave it out, or change that"
