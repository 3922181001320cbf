"""What a study file leaves to the bars: lengths of time, and how often correlations are refreshed."""

from __future__ import annotations

from optimizer.bars.per_year import TRADING_DAYS, YEAR, days_per_year
from optimizer.bars.sizes import bar_size
from optimizer.bars.times import DAY
from optimizer.catalogue import Parameter
from optimizer.errors import StudyFileError
from optimizer.study_file.components import ClassifierTable
from optimizer.study_file.settings import Setting, Span
from optimizer.study_file.study import Study
from optimizer.study_file.values import table_label
from optimizer.types import Bars

_EXACT_SYMBOLS, _SELDOM = 32, 20
"""Symbols up to which correlations are refreshed at every bar, and bars between refreshes of more."""

_PER_YEAR = {"w": YEAR / 7.0, "mo": 12.0, "y": 1.0}
"""How many of a unit are in a year."""


def in_bars(study: Study, bars: Bars) -> Study:
    """A study with the numbers that its bars settle: those of bars in a length of time, and of a refresh.

    A default that is out of its parameter's bounds on these bars is moved to the nearest one.

    Args:
        study: the study.
        bars: the bars of the study.

    Raises:
        StudyFileError: a length of time that the study file gives is out of bounds.
    """

    def settled(place: str, parameter: Parameter, setting: Setting) -> Setting:
        if not isinstance(setting, Span):
            return setting
        number = round(bars_in(setting, bars))
        nearest = int(min(max(number, parameter.low), parameter.high))
        if nearest != number and str(setting) != parameter.span:
            raise StudyFileError(
                f'{study.source}: {place} {parameter.name} = "{setting}": {number:,} bars;'
                f" expected {parameter.low:,} to {parameter.high:,}"
            )
        return nearest

    def with_numbers(index: int, table: ClassifierTable) -> ClassifierTable:
        place = table_label("classifier", index, len(study.classifiers))
        settings = {
            one.name: settled(place, one, table.settings[one.name]) for one in table.parameters
        }
        return table.model_copy(update={"settings": settings})

    classifiers = tuple(with_numbers(*one) for one in enumerate(study.classifiers))
    risk = dict(study.risk.settings)
    refresh = risk["correlation_refresh"]
    assert isinstance(refresh, int)  # one value holds for the whole study
    risk["correlation_refresh"] = correlation_refresh(refresh, bars.n_symbols)
    tables = {
        "classifiers": classifiers,
        "risk": study.risk.model_copy(update={"settings": risk}),
    }
    return study.model_copy(update=tables)


def correlation_refresh(given: int, n_symbols: int) -> int:
    """The number of bars between two refreshes of the correlations.

    Args:
        given: the value of the study file; 0 leaves it to the number of symbols.
        n_symbols: number of symbols.
    """
    return given or (1 if n_symbols <= _EXACT_SYMBOLS else _SELDOM)


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
