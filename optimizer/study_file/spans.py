"""Lengths of time in a study file as numbers of bars."""

from __future__ import annotations

from collections.abc import Mapping

from optimizer.bars.per_year import TRADING_DAYS, YEAR, days_per_year
from optimizer.bars.sizes import bar_size
from optimizer.bars.times import DAY
from optimizer.catalogue import CLASSIFIERS, Parameter
from optimizer.errors import StudyFileError
from optimizer.study_file.settings import Setting, Span
from optimizer.study_file.study import Study
from optimizer.types import Bars

_PER_YEAR = {"w": YEAR / 7.0, "mo": 12.0, "y": 1.0}
"""How many of a unit are in a year."""


def in_bars(study: Study, bars: Bars) -> Study:
    """A study with the lengths of time in it as the numbers of bars that they hold.

    A default that is out of its parameter's bounds on these bars is moved to the nearest one.

    Args:
        study: the study.
        bars: the bars of the study.

    Raises:
        StudyFileError: a length of time that the study file gives is out of bounds.
    """

    def settled(owner: str, parameter: Parameter, setting: Setting) -> Setting:
        if not isinstance(setting, Span):
            return setting
        number = round(bars_in(setting, bars))
        nearest = int(min(max(number, parameter.low), parameter.high))
        if nearest != number and str(setting) != parameter.span:
            raise StudyFileError(
                f'{study.source}: [classifier] {owner}: {parameter.name} = "{setting}": {number:,} bars;'
                f" expected {parameter.low:,} to {parameter.high:,}"
            )
        return nearest

    def with_numbers(owner: str, settings: Mapping[str, Setting]) -> dict[str, Setting]:
        return {one.name: settled(owner, one, settings[one.name]) for one in CLASSIFIERS[owner]}

    classifiers = tuple(
        one.model_copy(update={"settings": with_numbers(one.name, one.settings)})
        for one in study.classifiers
    )
    return study.model_copy(update={"classifiers": classifiers})


def bars_in(span: Span, bars: Bars) -> float:
    """The number of bars in a length of time, on average.

    A day is one on which there are bars; if a bar is longer than a day, a year has 252 of them.

    Args:
        span: the length of time.
        bars: the bars.
    """
    per_year = _PER_YEAR.get(span.unit)
    if per_year is None:
        per_year = days_per_year(bars.timestamps, bars.bars_per_year)
        if bars.n_bars > 1 and bar_size(bars.timestamps) >= 1.5 * DAY:
            per_year = TRADING_DAYS
    return span.number * bars.bars_per_year / per_year
