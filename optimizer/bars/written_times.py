"""Times as programs write them, as ISO 8601 text."""

from __future__ import annotations

import re
from collections.abc import Iterable

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_YEAR_FIRST = re.compile(r"(\d{4})([-/.]?)(\d\d)\2(\d\d)(?=$|\D|\d{4}$|\d{6}$)(.*)")
_YEAR_LAST = re.compile(r"(\d{1,2})([-/.])(\d{1,2})\2(\d{4}|\d\d)(?!\d)(.*)")
_DAY_MONTH = re.compile(
    r"(\d{1,2})[- ]([a-z]{3})[a-z]*\.?[-, ]+(\d{4}|\d\d)(?!\d)(.*)", re.I | re.A
)
_MONTH_DAY = re.compile(r"([a-z]{3})[a-z]*\.? (\d{1,2}),? (\d{4})(.*)", re.I | re.A)
_HALF_DAY = re.compile(
    r"[ T,-]*(\d{1,2})(?::?(\d\d))?(?::?(\d\d))?(\.\d+)?[ -]*([ap])\.?m\.?", re.I
)
_CLOCK = re.compile(r"[ T,-]*(\d\d?):?(\d\d)(?::?(\d\d)(\.\d+)?)?(.*)")
_OFFSET = re.compile(r" ?(?:(?:GMT|UTC)?([+-]\d\d):?(\d\d)?|(?:GMT|UTC|Z))", re.I | re.A)
ZONE_NAME = re.compile(r"(.*\d) ([A-Za-z]+/[A-Za-z_/]+)")
"""A time that ends with the name of its zone, as Interactive Brokers writes it."""


def day_comes_first(texts: Iterable[str]) -> bool | None:
    """Whether dates such as ``03/01/2017`` begin with the day, by those of which one number exceeds 12.

    Args:
        texts: the times of a column.

    Returns:
        None if no date tells, or they differ. Dates with dots, which no country writes with the month
        first, begin with the day.
    """
    found = [match for text in texts if (match := _YEAR_LAST.fullmatch(text))]
    day = any(int(match[1]) > 12 or match[2] == "." for match in found)
    month = any(int(match[3]) > 12 for match in found)
    return None if day == month else day


def iso_text(text: str, day_first: bool | None) -> str:
    """A time as ISO 8601 text.

    Args:
        text: the time, without blanks around it and with single ones within.
        day_first: whether dates that end with the year begin with the day.

    Returns:
        The text unchanged where it is of no known form.
    """
    if match := _YEAR_FIRST.fullmatch(text):
        year, month, day, rest = match[1], match[3], match[4], match[5]
    elif (match := _YEAR_LAST.fullmatch(text)) and day_first is not None:
        day, month = (match[1], match[3]) if day_first else (match[3], match[1])
        year, rest = match[4], match[5]
    elif match := _DAY_MONTH.fullmatch(text):
        day, month, year, rest = match[1], match[2], match[3], match[4]
    elif match := _MONTH_DAY.fullmatch(text):
        month, day, year, rest = match[1], match[2], match[3], match[4]
    else:
        return text
    if not month.isdigit():
        if month.lower() not in _MONTHS:
            return text
        month = str(_MONTHS.index(month.lower()) + 1)
    if len(year) == 2:
        year = ("19" if int(year) >= 70 else "20") + year
    clock = _clock(rest)
    return text if clock is None else f"{year}-{month:0>2}-{day:0>2}{clock}"


def _clock(rest: str) -> str | None:
    """The time of the day as ISO 8601 text with its offset, if any; None for an unknown form."""
    if not rest.strip():
        return ""
    if match := _HALF_DAY.fullmatch(rest):
        if not 1 <= int(match[1]) <= 12:
            return None
        hour = int(match[1]) % 12 + (12 if match[5].lower() == "p" else 0)
        return f" {hour:02}:{match[2] or '00'}:{match[3] or '00'}{match[4] or ''}"
    match = _CLOCK.fullmatch(rest)
    if match is None:
        return None
    offset = ""
    if match[5]:
        zone = _OFFSET.fullmatch(match[5])
        if zone is None:
            return None
        offset = f"{zone[1]}:{zone[2] or '00'}" if zone[1] else "+00:00"
    return f" {match[1]:0>2}:{match[2]}:{match[3] or '00'}{match[4] or ''}{offset}"
