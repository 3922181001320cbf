"""Checks across the tables of a study file."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from optimizer.catalogue import METRICS, column
from optimizer.study_file.settings import Range, Setting, setting_to_dict
from optimizer.study_file.values import Place, Problem
from optimizer.text import show, suggest

if TYPE_CHECKING:
    from optimizer.study_file.study import Study


def cross_checks(study: Study) -> list[Problem]:
    """Every problem that only several tables together show.

    Args:
        study: whose tables have been checked one by one.
    """
    return [
        *_repeated_names("strategy", [strategy.name for strategy in study.strategies]),
        *_repeated_names("classifier", [classifier.name for classifier in study.classifiers]),
        *_unknown_markets(study),
        *_unknown_operands(study),
        *_endless_grid(study),
    ]


def _repeated_names(table: str, names: Sequence[str]) -> Iterable[Problem]:
    for index, name in enumerate(names):
        if name in names[:index]:
            yield (
                (table, index, "name"),
                f'"{name}" is listed twice; give it one table and search its values with '
                "{choices = [...]}",
            )


def _unknown_markets(study: Study) -> Iterable[Problem]:
    symbols = study.data.symbols
    for index, classifier in enumerate(study.classifiers):
        market = classifier.market
        if symbols is not None and market is not None and market not in symbols:
            yield (
                ("classifier", index, "market"),
                f"{show(market)} is not among the symbols of [data]; {suggest(market, symbols)}",
            )


def _unknown_operands(study: Study) -> Iterable[Problem]:
    risk = [column("risk", name) for name in study.risk.settings]
    pairs = [
        [column(part.name, name) for part in (strategy, classifier) for name in part.settings]
        for strategy in study.strategies
        for classifier in study.classifiers
    ]
    parameters = list(dict.fromkeys((*itertools.chain(*pairs), *risk)))
    for index, constraint in enumerate(study.search.constraints):
        place = ("search", "constraints", index)
        unknown = [n for n in constraint.names if n not in METRICS and n not in parameters]
        if unknown:
            valid = (*METRICS, *parameters)
            yield place, f'unknown "{unknown[0]}" in "{constraint}"; {suggest(unknown[0], valid)}'
        elif not any({*constraint.names} <= {*METRICS, *risk, *pair} for pair in pairs):
            yield (
                place,
                f'"{constraint}" compares two strategies or two classifiers: it never applies',
            )


def _endless_grid(study: Study) -> Iterable[Problem]:
    if study.search.sampler != "grid":
        return
    tables: list[tuple[Place, Mapping[str, Setting]]] = [
        *((("strategy", i), part.settings) for i, part in enumerate(study.strategies)),
        *((("classifier", i), part.settings) for i, part in enumerate(study.classifiers)),
        (("risk",), study.risk.settings),
    ]
    for place, settings in tables:
        for name, setting in settings.items():
            if isinstance(setting, Range) and setting.n_values is None:
                yield (
                    (*place, name),
                    f"{show(setting_to_dict(setting))} is continuous, which the sampler "
                    '"grid" cannot list; give it a step',
                )
