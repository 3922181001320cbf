"""The study itself as its report shows it: what was asked, of which bars, at which costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optimizer.catalogue import column
from optimizer.study_file.search_tables import Quantile
from optimizer.study_file.settings import Choices, Range, Setting, Span, Sweep
from optimizer.study_file.study import Study
from optimizer.sweep.buy_and_hold import held_name
from optimizer.text import counted
from optimizer.views.report.content import Content
from optimizer.views.report.drawn import Values

MOST_VALUES = 8
"""Values of a parameter that are written out."""

Rows = list[tuple[str, str]]


def terms(content: Content) -> Values:
    """Objective, constraints, parameters, costs, account and bars of the study.

    Args:
        content: the content of the report.

    Returns:
        Values of ``study.html``.
    """
    groups = (
        ("Search", _search(content)),
        ("Bars", _bars(content)),
        ("Costs and account", _account(content)),
        ("Parameters tried", _parameters(content)),
    )
    return {"groups": [{"title": title, "rows": rows} for title, rows in groups]}


def _search(content: Content) -> Rows:
    study, validation = content.study, content.study.validation
    search = study.search
    goals = zip(search.direction, search.objective, strict=True)
    rows = [("objective", " and ".join(f"{way} {name}" for way, name in goals))]
    if search.constraints:
        rows.append(("constraints", "; ".join(str(one) for one in search.constraints)))
    value = search.tile_value
    of_trial = f"quantile {value.quantile:g}" if isinstance(value, Quantile) else value
    rows += [
        ("sampler", f"{search.sampler}, seed {study.seed}"),
        ("sets", f"{len(content.sets):,} in {counted(len(content.trials), 'trial')},"
                 f" {int(content.sets['feasible'].sum()):,} feasible, {content.n_distinct:,} distinct"),
        ("value of a trial", f"{of_trial} of its sets"),
        ("holdout", f"{validation.holdout:.0%} of the bars" if validation.holdout else "none"),
        ("benchmark", held_name(validation.benchmark)),
    ]  # fmt: skip
    if validation.method != "none":
        rows.append(("method", validation.method.replace("_", " ")))
    return rows


def _bars(content: Content) -> Rows:
    manifest, data = content.manifest, content.study.data
    holdout = manifest["holdout_time"]
    rows = [
        ("file", data.path),
        ("symbols", ", ".join(manifest["symbols"])),
        ("in-sample from", str(manifest["first_time"])[:10]),
        *([("holdout from", str(holdout)[:10])] if holdout else []),
        ("last bar", str(manifest["span"][1])[:10]),
        ("bars a year", f"{manifest['bars_per_year']:,.6g}"),
    ]
    return [*rows, ("timezone", data.timezone)] if data.timezone != "UTC" else rows


def _account(content: Content) -> Rows:
    study = content.study
    costs, account = study.costs, study.account.to_dict()
    rows = [
        (name.replace("_", " "), setting_text(setting))
        for name, setting in costs.settings.items()
        if setting != 0.0 and name not in costs.per_symbol
    ]
    rows += [
        (name.replace("_", " "), _by_symbol(values)) for name, values in costs.per_symbol.items()
    ]
    fill = "the close that decides" if costs.fill == "close" else "the next open"
    rows += [("fills at", fill), ("initial cash", _cash(study))]
    rows.append(("short positions", "allowed" if study.risk.allow_short else "none"))
    lends = study.risk.allow_short or study.account.leverage > 1.0
    shown = account if lends else {"cash_rate": account["cash_rate"]}
    rows += [
        (name.replace("_", " "), _by_symbol(value) if isinstance(value, Mapping) else f"{value}")
        for name, value in shown.items()
        if value not in (0.0, None)
    ]
    return rows


def _cash(study: Study) -> str:
    text = f"{study.costs.initial_cash:,.6g}"
    return text if study.account.currency is None else f"{text} {study.account.currency}"


def _by_symbol(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{symbol} {value:g}" for symbol, value in values.items())


def _parameters(content: Content) -> Rows:
    study = content.study
    owners: list[tuple[str, Mapping[str, Setting]]] = [
        *((one.name, one.settings) for one in study.strategies),
        *((one.name, one.settings) for one in study.classifiers),
        ("risk", study.risk.settings),
        ("costs", study.costs.settings),
    ]
    rows = [
        ("strategy", ", ".join(one.name for one in study.strategies)),
        ("classifier", ", ".join(one.name for one in study.classifiers)),
    ]
    return rows + [
        (column(owner, name), setting_text(setting))
        for owner, settings in owners
        for name, setting in settings.items()
        if isinstance(setting, (Range, Choices, Sweep))
    ]


def setting_text(setting: Setting) -> str:
    """The setting of a parameter in words.

    Args:
        setting: a value, a range, choices or a sweep.

    Returns:
        Such as "10 to 250 in steps of 10", or "30, 60".
    """
    if isinstance(setting, Range):
        text = f"{setting.low:g} to {setting.high:g}"
        if setting.log:
            return f"{text}, logarithmic"
        return text if setting.step is None else f"{text} in steps of {setting.step:g}"
    if isinstance(setting, Sweep) and isinstance(setting.sweep, Range):
        return f"each of {setting_text(setting.sweep)}"
    if isinstance(setting, (Choices, Sweep)):
        values = setting.choices if isinstance(setting, Choices) else setting.values
        shown = ", ".join(f"{value:g}" for value in values[:MOST_VALUES])
        more = f" and {len(values) - MOST_VALUES} more" if len(values) > MOST_VALUES else ""
        return f"{'each of ' if isinstance(setting, Sweep) else ''}{shown}{more}"
    return str(setting) if isinstance(setting, Span) else f"{setting:g}"
