"""What the names in a study's constraints mean, and constraints that nothing can satisfy."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from optimizer.catalogue import METRIC_BOUNDS, METRICS, column
from optimizer.study_file.constraints import Constraint
from optimizer.study_file.settings import Setting, Span, bounds_of
from optimizer.study_file.values import Problem
from optimizer.text import suggest

if TYPE_CHECKING:
    from optimizer.study_file.study import Study


def _shared(study: Study) -> dict[str, Setting]:
    """Settings of all parameter sets, by column."""
    return {
        column(owner, name): setting
        for owner, settings in (("risk", study.risk.settings), ("costs", study.costs.settings))
        for name, setting in settings.items()
    }


MOST_NAMED = 20
"""Valid names that the message about an unknown one lists: parameters come first."""


def _pairs(study: Study) -> list[dict[str, Setting]]:
    """Settings of each strategy, or of all together, with each classifier, by column."""
    own = [
        {column(part.name, name): setting for name, setting in part.settings.items()}
        for part in study.strategies
    ]
    if study.combination.together:
        own = [{name: setting for settings in own for name, setting in settings.items()}]
    return [
        {**settings, **{column(part.name, name): one for name, one in part.settings.items()}}
        for settings in own
        for part in study.classifiers
    ]


def resolved(study: Study) -> tuple[Constraint, ...]:
    """The constraints of a study, each name a metric or a column.

    The name of a parameter may leave out its owner, as in ``fast < slow``, where only one strategy or,
    if none, only one classifier has all the parameters that are named so.

    Args:
        study: the study, whose tables have been checked one by one.

    Returns:
        Constraints with a name that means nothing, or several things, as they were.
    """
    known = {*METRICS, *_shared(study), *(name for pair in _pairs(study) for name in pair)}

    def meant(one: Constraint) -> Constraint:
        bare = [name for name in one.names if name not in known]
        for parts in (
            {part.name: part.settings for part in study.strategies},
            {part.name: part.settings for part in study.classifiers},
        ):
            owners = [owner for owner, settings in parts.items() if {*bare} <= settings.keys()]
            if bare and len(owners) == 1:
                full = {name: column(owners[0], name) for name in bare}
                left, right = (
                    full.get(side, side) if isinstance(side, str) else side
                    for side in (one.left, one.right)
                )
                return replace(one, left=left, right=right)
        return one

    return tuple(meant(one) for one in study.search.constraints)


def operand_problems(study: Study) -> Iterable[Problem]:
    """Every problem with what constraints compare.

    Args:
        study: the study, whose constraints have been ``resolved``.

    Returns:
        Names that mean nothing, and comparisons that apply to no set or that no set can satisfy.
    """
    shared, pairs = _shared(study), _pairs(study)
    parameters = list(dict.fromkeys((*(name for pair in pairs for name in pair), *shared)))
    for index, one in enumerate(study.search.constraints):
        place = ("search", "constraints", index)
        unknown = [name for name in one.names if name not in METRICS and name not in parameters]
        if unknown:
            yield place, _unknown(study, unknown, one, (*METRICS, *parameters))
            continue
        applies = [pair for pair in pairs if {*one.names} <= {*METRICS, *shared, *pair}]
        if not applies:
            yield (
                place,
                f'"{one}" compares two strategies or two classifiers: it never applies',
            )
        elif not any(_possible(one, {**shared, **pair}) for pair in applies):
            ranges = [f"{name} is {_range(name, {**shared, **applies[0]})}" for name in one.names]
            yield place, f'"{one}" can never hold: {", ".join(ranges)}'


def _unknown(study: Study, names: list[str], one: Constraint, valid: Iterable[str]) -> str:
    owners = {part.name: part.settings for part in study.strategies}
    owners |= {part.name: part.settings for part in study.classifiers}
    bare = list(dict.fromkeys(own for settings in owners.values() for own in settings))
    name = next((name for name in names if name not in bare), names[0])
    having = [owner for owner, settings in owners.items() if name in settings]
    if len(having) > 1:
        full = " or ".join(column(owner, name) for owner in having)
        return f'"{name}" in "{one}" may be {full}; name one'
    return f'unknown "{name}" in "{one}"; {suggest(name, (*bare, *valid), MOST_NAMED)}'


def _bounds(side: str | float, settings: Mapping[str, Setting]) -> tuple[float, float]:
    """The least and the greatest value that an operand can have."""
    if not isinstance(side, str):
        return side, side
    if side in METRICS:
        return METRIC_BOUNDS.get(side, (-math.inf, math.inf))
    setting = settings[side]
    return (-math.inf, math.inf) if isinstance(setting, Span) else bounds_of(setting)


def _possible(one: Constraint, settings: Mapping[str, Setting]) -> bool:
    """Whether some values of the operands satisfy a comparison."""
    (low, high), (other_low, other_high) = (
        _bounds(side, settings) for side in (one.left, one.right)
    )
    return {
        "<": low < other_high,
        "<=": low <= other_high,
        ">": high > other_low,
        ">=": high >= other_low,
        "==": low <= other_high and other_low <= high,
        "!=": not low == high == other_low == other_high,
    }[one.operator]


def _range(name: str, settings: Mapping[str, Setting]) -> str:
    low, high = _bounds(name, settings)
    if low == high:
        return f"{low:.12g}"
    if math.isinf(high):
        return "any number" if math.isinf(low) else f"{low:.12g} or more"
    return f"from {low:.12g} to {high:.12g}"
