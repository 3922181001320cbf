"""Read the column of times: epochs, text, time zones."""

from __future__ import annotations

import datetime
import re
import zoneinfo
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from optimizer.bars import server_zone
from optimizer.bars.rows import Rows, first_row
from optimizer.bars.symbols import refuse_nested
from optimizer.bars.written_times import ZONE_NAME, day_comes_first, iso_text
from optimizer.errors import DataError
from optimizer.text import one_line
from optimizer.types import IntArray, TimeArray

Moment = str | datetime.date | np.datetime64
"""A date or a time: ISO 8601 text, ``date``, ``datetime``, pandas ``Timestamp`` or numpy's."""


def read_zone(source: str, timezone: str) -> zoneinfo.ZoneInfo:
    """A time zone by its name.

    Args:
        source: the file or option, in messages.
        timezone: such as ``America/New_York``, or ``MetaTrader`` for the time of its servers.

    Raises:
        DataError: no time zone has that name.
    """
    try:
        if timezone.lower() == server_zone.NAME.lower():
            return server_zone.server_zone()
        return zoneinfo.ZoneInfo(timezone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise DataError(
            f"{source}: no time zone {timezone!r}; write it as UTC, America/New_York, or"
            f" {server_zone.NAME} for its servers' time"
        ) from error


def read_times(rows: Rows, zone: zoneinfo.ZoneInfo) -> Rows:
    """Read the column of times, in any of its forms, into UTC times.

    Args:
        rows: the rows with a column ``timestamp``.
        zone: the time zone of times without a zone.

    Returns:
        The rows with their times.

    Raises:
        DataError: names the first row whose time is missing or cannot be read.
    """
    refuse_nested(rows, "timestamp")
    column = rows.frame["timestamp"]
    if (row := first_row(column.isna())) is not None:
        rows.refuse(row, "column timestamp is empty")
    if pd.api.types.is_datetime64_any_dtype(column):
        times = pd.DatetimeIndex(column)
    elif pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        times = _epoch_times(rows, column)
    else:
        times = _written_times(rows, column)
    year = times.year
    if (row := first_row((year < 1678) | (year > 2261))) is not None:
        _refuse_year(rows, row)
    times = to_utc(times, zone)
    if (row := first_row(times.isna())) is not None:
        rows.refuse(
            row,
            f"timestamp {rows.cell('timestamp', row)} does not exist or occurs twice in {zone.key}, "
            "where the clock changes; write timestamps with their offset",
        )
    return replace(rows, time=without_zone(times))


def _refuse_year(rows: Rows, row: int) -> NoReturn:
    cell = rows.cell("timestamp", row)
    rows.refuse(row, f"timestamp {cell} is out of range; years 1678 to 2261 are valid")


def read_bound(
    place: str, moment: Moment, zone: zoneinfo.ZoneInfo, *, last: bool = False
) -> np.datetime64:
    """A limit in UTC: a time, or the first or last nanosecond of a day.

    Args:
        place: the place of the limit, in messages.
        moment: a date or a time.
        zone: the time zone of a moment without a zone.
        last: whether a day counts to its end.

    Raises:
        DataError: the moment is none, or does not exist in the zone.
    """
    is_date = (
        isinstance(moment, datetime.date) and not isinstance(moment, datetime.datetime)
    ) or re.fullmatch(r"\d{4}-\d{2}-\d{2}", str(moment).strip())
    to_end = bool(is_date) and last
    try:
        time = pd.Timestamp(moment)
        if to_end:
            time += pd.Timedelta(days=1)
        utc = without_zone(to_utc(pd.DatetimeIndex([time]), zone))
    except (ValueError, TypeError) as error:
        raise DataError(
            f"{place} {moment!r} is not an ISO date or time ({one_line(error)})"
        ) from error
    limit: np.datetime64 = utc[0]
    if np.isnat(limit):
        raise DataError(f"{place} {moment!r} is not a time in {zone.key}")
    return limit - np.timedelta64(1, "ns") if to_end else limit


def without_zone(times: pd.DatetimeIndex) -> TimeArray:
    """UTC times as a numpy array, which has no zone.

    Args:
        times: the times in UTC.

    Returns:
        Times of shape (n_times,).
    """
    return times.tz_localize(None).as_unit("ns").to_numpy()


def to_utc(times: pd.DatetimeIndex, zone: zoneinfo.ZoneInfo) -> pd.DatetimeIndex:
    """The times in UTC, NaT for a time that does not exist or is ambiguous in the zone.

    Args:
        times: the times, with or without a zone.
        zone: the time zone of times without a zone.
    """
    if times.tz is not None:
        return times.tz_convert("UTC")
    local = times.tz_localize(zone, ambiguous="NaT", nonexistent="NaT")
    if local.isna().any():
        # A date is its midnight, also where the clock changes at midnight.
        begins = times.tz_localize(
            zone, ambiguous=np.ones(len(times), dtype=np.bool_), nonexistent="shift_forward"
        )
        local = local.where(local.notna() | (times != times.normalize()), begins)
    return local.tz_convert("UTC")


_UNIT_BOUNDS = np.array([1e11, 1e14, 1e17])
"""A time since 1970 below is in seconds, milliseconds or microseconds; above, in nanoseconds."""
_YEAR_STEP = 366 * 86_400
"""Seconds."""


def _epoch_times(rows: Rows, column: pd.Series[Any]) -> pd.DatetimeIndex:
    """Numbers since 1970, of which the magnitude tells the unit, or dates as 20170103."""
    numbers = column.to_numpy()
    if np.isfinite(numbers).all() and (np.mod(numbers, 1) == 0).all() and numbers.min() > 0:
        texts = pd.Series(numbers).astype("int64").astype("str")
        if _are_dates(texts):
            return _written_times(rows, texts)
    largest = float(np.abs(numbers).max())
    if not 1e8 <= largest < 2**63:
        # As seconds these end in 1973: far more likely they are something else.
        rows.refuse(
            0,
            f"timestamp {rows.cell('timestamp', 0)} is no time since 1970 in seconds or "
            "milliseconds; write dates as 2017-01-03",
        )
    unit = np.searchsorted(_UNIT_BOUNDS, np.abs(numbers), side="right")
    each, same = _scaled(numbers, unit), _scaled(numbers, np.full_like(unit, unit.max()))
    # A file may change its unit. One that begins before 1973 has small numbers of the same unit.
    times = each if np.ptp(each / 1e9) < np.ptp(same / 1e9) else same
    steps = np.abs(np.diff(times / 1e9)) > _YEAR_STEP
    alone = np.concatenate(([True], steps)) & np.concatenate((steps, [True]))
    if len(times) > 1 and (row := first_row(alone & (np.abs(numbers) < largest / 100))) is not None:
        rows.refuse(
            row,
            f"timestamp {rows.cell('timestamp', row)} is far from the others, as if of a different"
            " unit; write all in one unit",
        )
    limit = 2.0**63 - 1024
    if (row := first_row(np.abs(times) >= limit)) is not None:
        _refuse_year(rows, row)
    return pd.DatetimeIndex(times.astype(np.int64).view("datetime64[ns]"), tz="UTC")


def _scaled(numbers: Any, unit: IntArray) -> Any:
    """Nanoseconds: exact integers where they fit, else floats that are out of range."""
    scale = 10 ** (9 - 3 * unit.astype(np.int64))
    as_float = np.round(numbers.astype(np.float64) * scale)
    if numbers.dtype.kind == "f" or (np.abs(as_float) >= 2.0**63 - 1024).any():
        return as_float
    return numbers.astype(np.int64) * scale


def _are_numbers(texts: pd.Series[Any]) -> bool:
    """Whether texts are numbers since 1970; the first one tells for nearly all files."""
    number = r"-?[0-9]{9,19}(?:\.[0-9]*)?"
    return bool(re.fullmatch(number, texts.iloc[0])) and bool(texts.str.fullmatch(number).all())


def _are_dates(texts: pd.Series[Any]) -> bool:
    """Whether whole numbers are dates or times without punctuation, such as 20170103093000."""
    fits = texts.str.fullmatch(
        r"(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:(?:[01]\d|2[0-3])(?:[0-5]\d){1,2})?"
    )
    return bool(fits.all())


def _written_times(rows: Rows, column: pd.Series[Any]) -> pd.DatetimeIndex:
    """Times as text; either all have an offset or none has."""
    code, written = pd.factorize(column)  # symbols share their timestamps: read each text once
    texts = pd.Series(
        [str(text).strip() for text in np.asarray(written, dtype=object)], dtype="str"
    )
    if _are_numbers(texts) and not _are_dates(texts):
        return _epoch_times(rows, pd.to_numeric(column.astype("str").str.strip()))
    times, unread = _iso_times(texts)
    zone = None
    if unread.any():
        texts, zone = _named_zone(texts.str.replace(r"\s+", " ", regex=True))
        day_first = day_comes_first(texts)
        texts = pd.Series([iso_text(text, day_first) for text in texts], dtype="str")
        times, unread = _iso_times(texts)
    if (row := first_row(unread[code])) is not None:
        cell = rows.cell("timestamp", row)
        either = re.fullmatch(r"'(\d\d?)[/-](\d\d?)[/-](\d{4}|\d\d)\b.*", cell)
        why = ": day and month cannot be told apart" if either else " or time"
        rows.refuse(
            row,
            f"timestamp {cell} is not an ISO date{why}; write it as 2017-01-03 or 2017-01-03 14:30",
        )
    if zone is not None:
        return to_utc(times.tz_localize(None), zone)[code]
    aware = texts.str.contains(r":\d\d.*?(?:Z|[+-]\d\d(?::?\d\d)?)$", regex=True)
    aware_row = aware.to_numpy(dtype=np.bool_)[code]
    if (row := first_row(aware_row != aware_row[0])) is not None:
        rows.refuse(
            row,
            f"timestamp {rows.cell('timestamp', row)} and the first, {rows.cell('timestamp', 0)}, "
            "differ in having an offset; write all times with an offset, or none",
        )
    return (times if aware_row[0] else times.tz_localize(None))[code]


def _iso_times(texts: pd.Series[Any]) -> tuple[pd.DatetimeIndex, Any]:
    """The times of ISO 8601 texts, and which texts are none."""
    times = pd.DatetimeIndex(pd.to_datetime(texts, format="ISO8601", errors="coerce", utc=True))
    unread = times.isna() | (texts.str.len() < len("2017-01-03")).to_numpy()
    return times, unread


def _named_zone(texts: pd.Series[Any]) -> tuple[pd.Series[Any], zoneinfo.ZoneInfo | None]:
    """The texts without the name of a time zone that ends all of them, and the zone."""
    if not ZONE_NAME.fullmatch(texts.iloc[0]):
        return texts, None
    matches = [ZONE_NAME.fullmatch(text) for text in texts]
    names = {match[2] if match else "" for match in matches}
    if len(names) != 1 or "" in names:
        return texts, None
    try:
        zone = zoneinfo.ZoneInfo(names.pop())
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return texts, None
    return pd.Series([match[1] for match in matches if match], dtype="str"), zone
