"""Read the column of times: epochs, text, time zones."""

from __future__ import annotations

import datetime
import re
import zoneinfo
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from optimizer.bars.read import refuse_nested
from optimizer.bars.rows import Rows, first_row
from optimizer.bars.times import SECOND
from optimizer.errors import DataError
from optimizer.text import one_line
from optimizer.types import MaskArray, TimeArray

Moment = str | datetime.date | np.datetime64
"""A date or a time: ISO 8601 text, ``date``, ``datetime``, pandas ``Timestamp`` or numpy's."""


def read_zone(source: str, timezone: str) -> zoneinfo.ZoneInfo:
    """A time zone by its name.

    Args:
        source: the file or option, in messages.
        timezone: such as ``America/New_York``.

    Raises:
        DataError: no time zone has that name.
    """
    try:
        return zoneinfo.ZoneInfo(timezone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise DataError(
            f"{source}: no time zone {timezone!r}; write it as UTC or America/New_York"
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


def _epoch_times(rows: Rows, column: pd.Series[Any]) -> pd.DatetimeIndex:
    """Numbers since 1970; their magnitude tells the unit."""
    numbers = column.to_numpy()
    largest = float(np.abs(numbers).max())
    if not 1e8 <= largest < 2**63:
        # As seconds these end in 1973: far more likely they are dates such as 20170103.
        rows.refuse(
            0,
            f"timestamp {rows.cell('timestamp', 0)} is no time since 1970 in seconds or "
            "milliseconds; write dates as 2017-01-03",
        )
    bounds = ((1e11, "s", SECOND), (1e14, "ms", 1_000_000), (1e17, "us", 1000), (np.inf, "ns", 1))
    unit, scale = next((unit, scale) for bound, unit, scale in bounds if largest < bound)
    # Times of one file lie within a few decades; a value a thousandth as large has another unit.
    if (row := first_row(np.abs(numbers) < largest / 100.0)) is not None:
        rows.refuse(
            row,
            f"timestamp {rows.cell('timestamp', row)} has a different unit from the others, which"
            f" were read as {unit}; write all in one unit",
        )
    if numbers.dtype.kind == "f":
        numbers, unit = np.round(numbers.astype(np.float64) * scale), "ns"
        if (row := first_row(np.abs(numbers) >= 2.0**63)) is not None:
            _refuse_year(rows, row)
    return pd.DatetimeIndex(numbers.astype(np.int64).view(f"datetime64[{unit}]"), tz="UTC")


def _written_times(rows: Rows, column: pd.Series[Any]) -> pd.DatetimeIndex:
    """ISO 8601 text; either all times have an offset or none has."""
    code, written = pd.factorize(column)  # symbols share their timestamps: read each text once
    texts = pd.Series([str(text).strip() for text in written], dtype="str")
    times = pd.DatetimeIndex(pd.to_datetime(texts, format="ISO8601", errors="coerce", utc=True))
    unread = times.isna() | (texts.str.len() < len("2017-01-03")).to_numpy()
    if (row := first_row(unread[code])) is not None:
        rows.refuse(
            row,
            f"timestamp {rows.cell('timestamp', row)} is not an ISO date or time; "
            "write it as 2017-01-03 or 2017-01-03 14:30",
        )
    aware = texts.str.contains(r":\d\d.*?(?:Z|[+-]\d\d(?::?\d\d)?)$", regex=True)
    aware_row = aware.to_numpy(dtype=np.bool_)[code]
    if (row := first_row(aware_row != aware_row[0])) is not None:
        rows.refuse(
            row,
            f"timestamp {rows.cell('timestamp', row)} and the first, {rows.cell('timestamp', 0)}, "
            "differ in having an offset; write all times with an offset, or none",
        )
    return (times if aware_row[0] else times.tz_localize(None))[code]


def last_of_days(timestamps: TimeArray, timezone: str) -> MaskArray:
    """Whether each bar is the last one of its day.

    Args:
        timestamps: the times of the bars, shape (n_bars,), strictly increasing, UTC.
        timezone: whose days count.

    Returns:
        (n_bars,), 1 or 0; the last bar ends a day in any case.
    """
    days = pd.DatetimeIndex(timestamps, tz="UTC").tz_convert(timezone).normalize()
    last = np.ones(len(timestamps), dtype=np.uint8)
    last[:-1] = days[1:] != days[:-1]
    return last
