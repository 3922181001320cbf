"""Bars from a Parquet or CSV file: read, checked, and aligned on one calendar.

Nothing is repaired and nothing is filled. What cannot be used is refused with one ``DataError``
that names the file, the row, the symbol and the column. Only what is selected is judged: a flaw in
a symbol or at a time that is left out does no harm.
"""

from __future__ import annotations

import csv
import datetime
import difflib
import gzip
import logging
import os
import re
import warnings
import zlib
import zoneinfo
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path
from typing import Any, Literal, NoReturn, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from optimizer.errors import DataError, counted
from optimizer.types import Bars, BoolArray, FloatArray, IntArray, TimeArray

Moment = str | datetime.date | np.datetime64
"""A date or a time: ISO 8601 text, ``date``, ``datetime``, pandas ``Timestamp`` or numpy's."""

PRICES = ("open", "high", "low", "close")
VALUES = (*PRICES, "volume")
ACCEPTED_NAMES: Mapping[str, tuple[str, ...]] = {
    "symbol": ("symbol", "ticker"),
    "timestamp": ("timestamp", "datetime", "date", "time"),
    **{name: (name,) for name in VALUES},
}
"""Column names that are understood, in any case."""

SUFFIXES = (".parquet", ".pq", ".csv", ".csv.gz")

ROUNDING = 1e-9
"""Relative slack of high and low against open and close: the last digits of adjusted prices."""

MISSING_TEXTS = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None")
_SECOND = 1_000_000_000
_HOUR = 3600 * _SECOND
DAY = 24 * _HOUR
LONG_BAR = 20 * _HOUR
"""From here on a bar is a day or longer and follows the calendar: months, holidays, clocks."""
_CALENDAR_SLACK = 4 / 7
"""A long bar may be as short as this: a week that begins on a Thursday, a February."""

_log = logging.getLogger("barsweep")


def load_bars(
    path: str | os.PathLike[str],
    symbols: Sequence[str] | str | None = None,
    start: Moment | None = None,
    end: Moment | None = None,
    *,
    align: Literal["inner", "strict"] = "inner",
    timezone: str = "UTC",
) -> Bars:
    """Read bars of one or several symbols.

    The file is tidy long: a row for each symbol and bar, with the columns symbol (or ticker),
    timestamp (or datetime, date, time), open, high, low, close and volume, named in any case;
    others are ignored. Without a symbol column the file holds one symbol, named as the file. The
    rows of a symbol are in order of time. Timestamps are dates, times with or without an offset, or
    seconds, milliseconds, microseconds or nanoseconds since 1970.

    Args:
        path: a ``.parquet``, ``.pq``, ``.csv`` or ``.csv.gz`` file.
        symbols: which symbols, in the order of the result's columns; None takes all, by name.
        start: first time, inclusive; a date is the start of that day.
        end: last time, inclusive; a date includes that whole day.
        align: ``inner`` keeps the timestamps that all symbols have, and logs how many are dropped;
            ``strict`` refuses symbols whose timestamps differ. Nothing is ever filled.
        timezone: of timestamps, ``start`` and ``end`` that carry none, as ``America/New_York``.

    Returns:
        The bars, timestamps in UTC.

    Raises:
        DataError: the file cannot be read, or its bars cannot be used.
    """
    source = str(path)
    zone = read_zone(source, timezone)
    if align not in ("inner", "strict"):
        raise DataError(f'{source}: align: got {align!r}; valid: "inner", "strict"')
    rows = _find_symbols(_read(Path(path)))
    rows = _select_symbols(rows, symbols)
    rows = _select_times(_read_times(rows, zone), start, end, zone)
    rows = _read_values(rows)
    check_rows(rows, zone)
    bars = _align(rows, align)
    _log_suspicions(bars)
    return bars


def read_rows(frame: pd.DataFrame, source: str, unit: str, zone: zoneinfo.ZoneInfo) -> Rows:
    """Read the times and numbers of a frame of bars, and judge neither order nor values.

    Args:
        frame: columns symbol, timestamp, open, high, low, close and volume, others ignored; the index
            numbers the rows for messages.
        source: the file, for messages.
        unit: what a row is called, for messages: ``line`` or ``row``.
        zone: of timestamps that carry none.

    Raises:
        DataError: a symbol or a time is missing or cannot be read, or a value is no number.
    """
    return _read_values(_read_times(_find_symbols(Rows(source, unit, frame)), zone))


def check_rows(rows: Rows, zone: zoneinfo.ZoneInfo) -> None:
    """Refuse rows that are no bars: out of order, repeated, broken, or of several sizes.

    Raises:
        DataError: names the first such row.
    """
    _check_order(rows)
    for flaw in flaws(rows.values):
        if (row := _first(flaw.broken)) is not None:
            rows.refuse(row, flaw.describe(rows.values, row))
    _check_bar_size(rows, zone)


def require_bars(bars: Bars, needed: int, why: str) -> None:
    """Refuse bars that are too few.

    Args:
        bars: of any symbols.
        needed: bars that are needed at least.
        why: what needs them, for the message.

    Raises:
        DataError: there are fewer.
    """
    if bars.n_bars < needed:
        raise DataError(
            f"{bars.source}: {counted(bars.n_bars, 'bar')} from {time_text(bars.timestamps[0])} to "
            f"{time_text(bars.timestamps[-1])}, but at least {needed} are needed: {why}; "
            "take a longer span or shorter lookbacks"
        )


def infer_bars_per_year(timestamps: TimeArray) -> float:
    """Bars in one year of a calendar, which annualizes returns.

    The bar size is the most common step. Yearly, quarterly, monthly and weekly bars give 1, 4, 12
    and 52. Otherwise a year has 365 days where the market is open at weekends, else 252, and the
    bars in each day are the median over the days that have any: 5-minute bars around the clock give
    288 x 365, those of a session of 6.5 hours 78 x 252. A market is open at weekends where each
    weekday (UTC) from the first date to the last has a quarter or more of the bars that a day of the
    busiest weekday has. Bars of several days give the days of the year over theirs.

    Args:
        timestamps: shape (n_bars,), strictly increasing, UTC.

    Raises:
        DataError: fewer than 2 timestamps.
    """
    if len(timestamps) < 2:
        raise DataError("the bars in a year cannot be told from fewer than 2 bars")
    size = most_common(np.diff(_nanoseconds(timestamps)))
    for days, per_year in ((300, 1), (80, 4), (20, 12), (5, 52)):
        if size >= days * DAY:
            return float(per_year)
    dates = timestamps.astype("datetime64[D]")
    # 1970-01-01 was a Thursday; Monday is 0. Bars per weekday, over how often each weekday comes.
    weekday = (dates.astype(np.int64) + 3) % 7
    span = (np.arange(dates[0].astype(np.int64), dates[-1].astype(np.int64) + 1) + 3) % 7
    times = np.bincount(span, minlength=7)
    bars_on = np.bincount(weekday, minlength=7)[times > 0] / times[times > 0]
    at_weekends = bool((times[5:] > 0).any() and bars_on.min() >= bars_on.max() / 4)
    days_per_year = 365.0 if at_weekends else 252.0
    if size >= 2 * DAY:
        return days_per_year * DAY / size
    _, bars_per_day = np.unique(dates, return_counts=True)
    return float(np.median(bars_per_day)) * days_per_year


# --- Rows of a file -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Rows:
    """Rows of a file, in its order, as far as they are read; ``values`` are not judged yet.

    Attributes:
        source: the file.
        unit: what a row is called: ``line`` of a CSV file, ``row`` of a Parquet file.
        frame: columns under their standard names; the index is the number of the line or row.
        names: symbols.
        code: of each row, the symbol's place in ``names``; empty until it is known.
        time: of each row, in UTC; empty until it is known.
        values: of each row, by column; empty until they are known.
    """

    source: str
    unit: str
    frame: pd.DataFrame
    names: tuple[str, ...] = ()
    code: IntArray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    time: TimeArray = field(default_factory=lambda: np.empty(0, dtype="datetime64[ns]"))
    values: Mapping[str, FloatArray] = field(default_factory=dict)

    def keep(self, mask: BoolArray) -> Rows:
        """The marked rows alone."""
        return replace(
            self,
            frame=self.frame[mask],
            code=self.code[mask],
            time=self.time[mask] if len(self.time) else self.time,
        )

    def number(self, row: int) -> str:
        """What messages call a row."""
        return f"{self.unit} {self.frame.index[row]}"

    def at(self, row: int) -> str:
        """The file and the row, as messages name them; rows of several files name theirs."""
        return f"{self.source}, {self.number(row)}" if self.unit else str(self.frame.index[row])

    def symbol(self, row: int) -> str:
        """The symbol of a row."""
        return self.names[int(self.code[row])]

    def cell(self, column: str, row: int) -> str:
        """What stands in the file, quoted."""
        return repr(str(self.frame[column].iloc[row]))

    def refuse(self, row: int, problem: str) -> NoReturn:
        """Raise a `DataError` that names the row."""
        place = self.at(row)
        if len(self.time):
            place += f" ({self.symbol(row)}, {time_text(self.time[row])})"
        elif len(self.code):
            place += f" ({self.symbol(row)})"
        raise DataError(f"{place}: {problem}")

    def by_symbol(self) -> list[IntArray]:
        """Row positions of each symbol, in the file's order."""
        order = np.argsort(self.code, kind="stable")
        counts = np.bincount(self.code, minlength=len(self.names))
        return np.split(order, np.cumsum(counts)[:-1])


def _first(marked: Any) -> int | None:
    """Position of the first marked row."""
    where = np.flatnonzero(np.asarray(marked, dtype=np.bool_))
    return int(where[0]) if len(where) else None


def time_text(time: np.datetime64) -> str:
    """A time as people write it, without its zeros."""
    text = str(time.astype("datetime64[ns]")).replace("T", " ")
    for zeros in (".000000000", ":00", " 00:00"):
        text = text.removesuffix(zeros)
    return text


def _nanoseconds(times: TimeArray) -> IntArray:
    return times.astype("datetime64[ns]").view(np.int64)


def duration_text(nanoseconds: int) -> str:
    """A duration in its largest unit."""
    names = {DAY: "day", _HOUR: "hour", 60 * _SECOND: "minute", _SECOND: "second", 1: "nanosecond"}
    size = next(size for size in names if nanoseconds >= size)
    count = nanoseconds / size
    return f"{count:g} {names[size]}{'' if count == 1 else 's'}"


def list_text(names: Iterable[str], limit: int = 20) -> str:
    """Names with commas, and how many more there are."""
    shown = list(names)
    more = len(shown) - limit
    return ", ".join(shown[:limit]) + (f" and {more} more" if more > 0 else "")


def one_line(error: BaseException) -> str:
    """The message of an error of another library, fit to stand in one of ours."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


# --- Reading ------------------------------------------------------------------------------------


UNREADABLE = (
    OSError,
    EOFError,
    zlib.error,
    csv.Error,
    pa.ArrowException,
    pd.errors.ParserError,
    pd.errors.ParserWarning,
)


def _read(path: Path) -> Rows:
    name = path.name.lower()
    try:
        if path.is_dir():
            raise DataError(f"{path}: is a folder; name one file of it ({', '.join(SUFFIXES)})")
        if not name.endswith(SUFFIXES):
            raise DataError(f"{path}: unsupported kind of file; valid: {', '.join(SUFFIXES)}")
        if path.stat().st_size == 0:
            raise DataError(f"{path}: is empty")
        rows = _read_csv(path) if name.endswith(SUFFIXES[2:]) else _read_parquet(path)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text ({one_line(error)})") from error
    except UNREADABLE as error:
        raise DataError(
            f"{path}: cannot be read, it may be cut off or of another kind ({one_line(error)})"
        ) from error
    if rows.frame.empty:
        raise DataError(f"{path}: has no rows")
    return rows


def _find_columns(source: str, header: Sequence[str]) -> dict[str, int]:
    """Where each standard column stands."""
    found: dict[str, int] = {}
    for standard, names in ACCEPTED_NAMES.items():
        places = [i for i, name in enumerate(header) if name.strip().lower() in names]
        if len(places) > 1:
            both = ", ".join(header[i] for i in places)
            raise DataError(
                f"{source}: several columns could be {standard}: {both}; keep or rename one"
            )
        if places:
            found[standard] = places[0]
    missing = [name for name in ACCEPTED_NAMES if name not in found and name != "symbol"]
    if missing:
        accepted = "; ".join(" or ".join(ACCEPTED_NAMES[name]) for name in missing)
        raise DataError(
            f"{source}: no column {', '.join(missing)}; found: {list_text(header)}; "
            f"accepted names, in any case: {accepted}"
        )
    return found


def _read_parquet(path: Path) -> Rows:
    # The handle is ours: pyarrow's own would stay open where the file is refused.
    with path.open("rb") as handle, pq.ParquetFile(handle) as file:
        header = file.schema_arrow.names
        found = _find_columns(str(path), header)
        table = file.read(columns=[header[i] for i in found.values()])
    table = table.rename_columns([_standard(name) for name in table.column_names])
    try:
        frame = cast(pd.DataFrame, table.to_pandas(date_as_object=False, ignore_metadata=True))
    except (ValueError, OverflowError) as error:
        raise DataError(f"{path}: holds a value that is none ({one_line(error)})") from error
    frame.index = pd.RangeIndex(1, len(frame) + 1)
    return Rows(str(path), "row", frame)


def _standard(name: str) -> str:
    lowered = name.strip().lower()
    return next(standard for standard, names in ACCEPTED_NAMES.items() if lowered in names)


def _read_csv(path: Path) -> Rows:
    zipped = path.name.lower().endswith(".gz")
    opened: Any = gzip.open if zipped else open
    with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
        header = next(csv.reader(file), [])
    if not any(name.strip() for name in header):
        raise DataError(f"{path}: line 1 is blank; it must name the columns")
    found = _find_columns(str(path), header)
    names = [f"other column {i}" for i in range(len(header))]
    for standard, place in found.items():
        names[place] = standard
    with warnings.catch_warnings():
        # Lines longer than the header: pandas would drop what stands beyond it.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        frame = pd.read_csv(
            path,
            header=0,
            names=names,
            dtype={"symbol": "str"},
            # A symbol may be called NA; everywhere else that is a missing value.
            keep_default_na=False,
            na_values={name: list(MISSING_TEXTS) for name in found if name != "symbol"},
            index_col=False,
            skipinitialspace=True,
            skip_blank_lines=False,  # so that rows keep the numbers of their lines
            low_memory=False,
            encoding="utf-8-sig",
            compression="gzip" if zipped else None,
        )
    frame = frame[list(found)]
    frame.index = pd.RangeIndex(2, len(frame) + 2)
    blank = frame.isna()
    if "symbol" in found:
        blank["symbol"] |= frame["symbol"].str.strip() == ""
    return Rows(str(path), "line", frame[~blank.all(axis=1)])


# --- Symbols ------------------------------------------------------------------------------------


def _refuse_nested(rows: Rows, name: str) -> None:
    """Refuse lists and tables where a text or a number is expected."""
    column = rows.frame[name]
    if pd.api.types.is_object_dtype(column):
        nested = [not isinstance(value, Hashable) for value in column]
        if (row := _first(nested)) is not None:
            rows.refuse(row, f"column {name} holds {rows.cell(name, row)}; expected one value")


def _find_symbols(rows: Rows) -> Rows:
    if "symbol" not in rows.frame:
        name = re.sub(r"(\.csv)?\.\w+$", "", Path(rows.source).name, flags=re.IGNORECASE)
        return replace(rows, names=(name,), code=np.zeros(len(rows.frame), dtype=np.int64))
    _refuse_nested(rows, "symbol")
    column = rows.frame["symbol"]
    code, written = pd.factorize(column)
    names = [str(name).strip() for name in written]
    empty = [-1, *(place for place, name in enumerate(names) if not name)]
    if (row := _first(np.isin(code, empty))) is not None:
        rows.refuse(row, "column symbol is empty")
    ordered = sorted(set(names))
    place = np.array([ordered.index(name) for name in names], dtype=np.int64)
    return replace(rows, names=tuple(ordered), code=place[code])


def _select_symbols(rows: Rows, symbols: Sequence[str] | str | None) -> Rows:
    if symbols is None:
        return rows
    wanted = (symbols,) if isinstance(symbols, str) else tuple(symbols)
    if not wanted:
        raise DataError(f"{rows.source}: no symbols are selected; name some, or None for all")
    for i, name in enumerate(wanted):
        if name in wanted[:i]:
            raise DataError(f"{rows.source}: symbol {name!r} is selected twice")
        if name not in rows.names:
            lowered = {known.lower(): known for known in rows.names}
            near = difflib.get_close_matches(str(name).lower(), lowered, n=1)
            hint = f"; did you mean {lowered[near[0]]!r}?" if near else ""
            raise DataError(
                f"{rows.source}: no symbol {name!r}{hint} (there: {list_text(rows.names)})"
            )
    place = np.full(len(rows.names), -1, dtype=np.int64)
    for i, name in enumerate(wanted):
        place[rows.names.index(name)] = i
    code = place[rows.code]
    return replace(rows, names=wanted, code=code).keep(code >= 0)


# --- Times --------------------------------------------------------------------------------------


def read_zone(source: str, timezone: str) -> zoneinfo.ZoneInfo:
    """A time zone by its name.

    Raises:
        DataError: there is none of that name.
    """
    try:
        return zoneinfo.ZoneInfo(timezone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise DataError(
            f"{source}: no time zone {timezone!r}; write it as UTC or America/New_York"
        ) from error


def _read_times(rows: Rows, zone: zoneinfo.ZoneInfo) -> Rows:
    _refuse_nested(rows, "timestamp")
    column = rows.frame["timestamp"]
    if (row := _first(column.isna())) is not None:
        rows.refuse(row, "column timestamp is empty")
    if pd.api.types.is_datetime64_any_dtype(column):
        times = pd.DatetimeIndex(column)
    elif pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        times = _epoch_times(rows, column)
    else:
        times = _written_times(rows, column)
    year = times.year
    if (row := _first((year < 1678) | (year > 2261))) is not None:
        _refuse_year(rows, row)
    times = _to_utc(times, zone)
    if (row := _first(times.isna())) is not None:
        rows.refuse(
            row,
            f"timestamp {rows.cell('timestamp', row)} does not exist or comes twice in {zone.key}, "
            "where the clock changes; write timestamps with their offset",
        )
    return replace(rows, time=_without_zone(times))


def _refuse_year(rows: Rows, row: int) -> NoReturn:
    cell = rows.cell("timestamp", row)
    rows.refuse(row, f"timestamp {cell} is out of range; years 1678 to 2261 are valid")


def _without_zone(times: pd.DatetimeIndex) -> TimeArray:
    return times.tz_localize(None).as_unit("ns").to_numpy()


def _to_utc(times: pd.DatetimeIndex, zone: zoneinfo.ZoneInfo) -> pd.DatetimeIndex:
    """Times in UTC, NaT where a time of day does not exist or is ambiguous in the zone."""
    if times.tz is not None:
        return times.tz_convert("UTC")
    local = times.tz_localize(zone, ambiguous="NaT", nonexistent="NaT")
    if local.isna().any():
        # Where the clock changes at midnight, the day begins all the same.
        begins = times.tz_localize(
            zone, ambiguous=np.ones(len(times), dtype=np.bool_), nonexistent="shift_forward"
        )
        local = local.where(local.notna() | (times != times.normalize()), begins)
    return local.tz_convert("UTC")


def _epoch_times(rows: Rows, column: pd.Series[Any]) -> pd.DatetimeIndex:
    """Numbers since 1970, their unit told by their magnitude."""
    numbers = column.to_numpy()
    largest = float(np.abs(numbers).max())
    if not 1e8 <= largest < 2**63:
        # As seconds these end in 1973: far more likely they are dates such as 20170103.
        rows.refuse(
            0,
            f"timestamp {rows.cell('timestamp', 0)} is no time since 1970 in seconds or "
            "milliseconds; write dates as 2017-01-03",
        )
    bounds = ((1e11, "s", _SECOND), (1e14, "ms", 1_000_000), (1e17, "us", 1000), (np.inf, "ns", 1))
    unit, scale = next((unit, scale) for bound, unit, scale in bounds if largest < bound)
    # Times of one file lie within a few decades; a value a thousandth as large has another unit.
    if (row := _first(np.abs(numbers) < largest / 100.0)) is not None:
        rows.refuse(
            row,
            f"timestamp {rows.cell('timestamp', row)} has another unit than the others, read as "
            f"{unit}; write all in one unit",
        )
    if numbers.dtype.kind == "f":
        numbers, unit = np.round(numbers.astype(np.float64) * scale), "ns"
        if (row := _first(np.abs(numbers) >= 2.0**63)) is not None:
            _refuse_year(rows, row)
    return pd.DatetimeIndex(numbers.astype(np.int64).view(f"datetime64[{unit}]"), tz="UTC")


def _written_times(rows: Rows, column: pd.Series[Any]) -> pd.DatetimeIndex:
    """ISO 8601 text, all of it with an offset or none of it."""
    code, written = pd.factorize(column)  # symbols share their timestamps: read each text once
    texts = pd.Series([str(text).strip() for text in written], dtype="str")
    aware = texts.str.contains(r":\d\d.*?(?:Z|[+-]\d\d(?::?\d\d)?)$", regex=True)
    aware_row = aware.to_numpy(dtype=np.bool_)[code]
    if (row := _first(aware_row != aware_row[0])) is not None:
        rows.refuse(
            row,
            f"timestamp {rows.cell('timestamp', row)} and the first, {rows.cell('timestamp', 0)}, "
            "differ in having an offset; write all with one, or none",
        )
    times = pd.to_datetime(texts, format="ISO8601", errors="coerce", utc=bool(aware_row[0]))
    unread = times.isna() | (texts.str.len() < len("2017-01-03"))
    if (row := _first(unread.to_numpy()[code])) is not None:
        rows.refuse(
            row,
            f"timestamp {rows.cell('timestamp', row)} is not an ISO date or time; "
            "write it as 2017-01-03 or 2017-01-03 14:30",
        )
    return pd.DatetimeIndex(times)[code]


def _select_times(
    rows: Rows, start: Moment | None, end: Moment | None, zone: zoneinfo.ZoneInfo
) -> Rows:
    first, last = rows.time.min(), rows.time.max()
    keep = np.ones(len(rows.time), dtype=np.bool_)
    if start is not None:
        keep &= rows.time >= _bound(rows.source, "start", start, zone)
    if end is not None:
        keep &= rows.time <= _bound(rows.source, "end", end, zone)
    if not keep.any():
        limits = {"from start": start, "to end": end}
        span = " ".join(f"{key} {limit}" for key, limit in limits.items() if limit is not None)
        raise DataError(
            f"{rows.source}: no bars {span}; the file has {time_text(first)} to {time_text(last)}"
        )
    return rows.keep(keep)


def _bound(source: str, key: str, moment: Moment, zone: zoneinfo.ZoneInfo) -> np.datetime64:
    """A limit in UTC; the end of a day is its last nanosecond."""
    is_date = (
        isinstance(moment, datetime.date) and not isinstance(moment, datetime.datetime)
    ) or re.fullmatch(r"\d{4}-\d{2}-\d{2}", str(moment).strip())
    try:
        time = pd.Timestamp(moment)
        if is_date and key == "end":
            time += pd.Timedelta(days=1)
        utc = _without_zone(_to_utc(pd.DatetimeIndex([time]), zone))
    except (ValueError, TypeError) as error:
        raise DataError(
            f"{source}: {key} {moment!r} is not an ISO date or time ({one_line(error)})"
        ) from error
    limit: np.datetime64 = utc[0]
    if np.isnat(limit):
        raise DataError(f"{source}: {key} {moment!r} is no time of the clock in {zone.key}")
    return limit - np.timedelta64(1, "ns") if is_date and key == "end" else limit


# --- Values -------------------------------------------------------------------------------------


def _read_values(rows: Rows) -> Rows:
    values: dict[str, FloatArray] = {}
    for name in VALUES:
        column = rows.frame[name]
        if pd.api.types.is_bool_dtype(column) or column.dtype.kind in "cmM":
            rows.refuse(0, f"column {name} is not of numbers but of {column.dtype}")
        if not pd.api.types.is_numeric_dtype(column):
            written = column.notna()
            column = pd.to_numeric(column, errors="coerce")
            if (row := _first(column.isna() & written)) is not None:
                rows.refuse(row, f"column {name} is not a number: {rows.cell(name, row)}")
        values[name] = column.to_numpy(dtype=np.float64, na_value=np.nan)
    return replace(rows, values=values)


@dataclass(frozen=True)
class Flaw:
    """A rule of bars, and which rows break it.

    Attributes:
        kind: what is wrong, in a few words.
        broken: of each row.
        column: the column at fault.
        other: the column beside which it is at fault, if any.
        mend: what the value must be, or what to do.
    """

    kind: str
    broken: BoolArray
    column: str
    mend: str
    other: str | None = None

    def describe(self, values: Mapping[str, FloatArray], row: int) -> str:
        """What is wrong in a row, and the mend."""
        value = float(values[self.column][row])
        if np.isnan(value):
            return f"column {self.column} has no value; {self.mend}"
        text = f"column {self.column} is {value!r}"
        if self.other is not None:
            text += f", {self.kind} {self.other}, {float(values[self.other][row])!r}"
        return f"{text}; {self.mend}"


def flaws(values: Mapping[str, FloatArray]) -> Iterator[Flaw]:
    """Each rule that the values of a bar must keep, and which rows break it.

    Args:
        values: prices and volume by name, one length.
    """
    for name, column in values.items():
        yield Flaw("no value", np.isnan(column), name, "complete the bar or drop it")
        yield Flaw("infinite", np.isinf(column), name, "it must be finite")
        if name == "volume":
            yield Flaw("negative", column < 0, name, "the least is 0")
        else:
            yield Flaw("not positive", column <= 0, name, "prices must be positive")
    correct = "correct the bar or drop it"
    high, low = values["high"], values["low"]
    for name in ("low", "open", "close"):
        below = high < values[name] * (1 - ROUNDING)
        yield Flaw("below", below, "high", correct, name)
        above = low > values[name] * (1 + ROUNDING)
        yield Flaw("above", above, "low", correct, name)


# --- Suspicions -----------------------------------------------------------------------------------


def suspected_splits(open_: FloatArray, close: FloatArray) -> list[tuple[int, int, str]]:
    """Steps of the price from a close to the next open that look like a split left in.

    A ratio of small whole numbers within 3%, whose level the prices keep: the medians of up to 10
    closes before and after differ by the ratio within 15%.

    Args:
        open_, close: shape (n_bars, n_symbols).

    Returns:
        Bar, symbol and ratio, as ``4:1``, in order of time.
    """
    found = []
    step = np.log(close[:-1]) - np.log(open_[1:])
    nearest = np.argmin(np.abs(step[:, :, None] - _LOG_SPLITS), axis=2)
    for before, symbol in np.argwhere(np.abs(step - _LOG_SPLITS[nearest]) < 0.03):
        bar = int(before) + 1
        levels = (close[max(0, bar - 10) : bar, symbol], close[bar : bar + 10, symbol])
        kept = np.log(np.median(levels[0])) - np.log(np.median(levels[1]))
        at = nearest[before, symbol]
        if abs(kept - _LOG_SPLITS[at]) < 0.15:
            found.append((bar, int(symbol), f"{_SPLITS[at][0]}:{_SPLITS[at][1]}"))
    return found


_WHOLE_SPLITS = (2, 3, 4, 5, 6, 7, 8, 10, 15, 20, 25, 30, 40, 50, 100)
_SPLITS = [(3, 2), *((n, 1) for n in _WHOLE_SPLITS), *((1, n) for n in _WHOLE_SPLITS)]
_LOG_SPLITS = np.log([new / old for new, old in _SPLITS])
_LONG_GAP = 14 * DAY
"""Longer than the holidays of any exchange."""


def _log_suspicions(bars: Bars) -> None:
    """Warn of what may be true and would spoil every result where it is not."""
    splits = [
        f"{bars.symbols[symbol]} {ratio} at {time_text(bars.timestamps[bar])}"
        for bar, symbol, ratio in suspected_splits(bars.open, bars.close)
    ]
    if splits:
        _log.warning(
            "%s: prices step as by a split that was left in: %s; adjust them, or ignore this where "
            "the market moved so",
            bars.source,
            list_text(splits, 5),
        )
    steps = np.diff(_nanoseconds(bars.timestamps))
    long = np.flatnonzero(steps > max(_LONG_GAP, 3 * most_common(steps)))
    if len(long):
        holes = (
            f"{time_text(bars.timestamps[i])} to {time_text(bars.timestamps[i + 1])}"
            f" ({duration_text(int(steps[i]))})"
            for i in long
        )
        _log.warning("%s: no bars for long: %s", bars.source, list_text(holes, 5))


# --- Calendar -----------------------------------------------------------------------------------


def _check_order(rows: Rows) -> None:
    """Refuse a symbol's first timestamp that does not come after the one before it."""
    order = np.concatenate(rows.by_symbol())
    backward = np.zeros(len(order), dtype=np.bool_)
    before = np.zeros(len(order), dtype=np.int64)
    before[order[1:]] = order[:-1]
    backward[order[1:]] = (np.diff(rows.code[order]) == 0) & (
        np.diff(_nanoseconds(rows.time)[order]) <= 0
    )
    row = _first(backward)
    if row is None:
        return
    earlier = int(before[row])
    hint = "" if "symbol" in rows.frame else ", or add a symbol column"
    if rows.time[row] == rows.time[earlier]:
        rows.refuse(
            row,
            f"column timestamp repeats {rows.number(earlier)}; keep one bar for each time{hint}",
        )
    rows.refuse(
        row,
        f"column timestamp is before {time_text(rows.time[earlier])} of {rows.number(earlier)}; "
        f"sort the file by symbol and timestamp{hint}",
    )


def most_common(steps: IntArray) -> int:
    """The most common step, the smallest of several."""
    sizes, counts = np.unique(steps, return_counts=True)
    return int(sizes[np.argmax(counts)])


def _check_bar_size(rows: Rows, zone: zoneinfo.ZoneInfo) -> None:
    """Refuse bars of several sizes.

    A symbol's bar size is its most common step. A shorter step is refused; one of a day or more may
    shrink with the calendar, and one within a day where the clock of ``zone`` changes. Longer steps
    are nights, weekends, holidays, halts and missing bars, but not where many in a row are alike or
    all are far longer.
    """
    symbols = [where for where in rows.by_symbol() if len(where) > 1]
    if not symbols:
        return
    longest = max(symbols, key=len)
    shared = most_common(np.diff(_nanoseconds(rows.time[longest])))
    for where in symbols:
        steps = np.diff(_nanoseconds(rows.time[where]))
        size = most_common(steps)
        few = len(steps) < 5 and size > shared  # two bars over a weekend are still daily bars
        if not few and not _same_size(size, shared):
            raise DataError(
                f"{rows.source}: mixed bar sizes: column timestamp steps by {duration_text(size)} for "
                f"{rows.symbol(where[0])}, but by {duration_text(shared)} for "
                f"{rows.symbol(longest[0])}; keep one bar size in a file, or select symbols of one"
            )
        short = steps < (size * _CALENDAR_SLACK if size >= LONG_BAR else size)
        if short.any() and size < LONG_BAR:
            clock = pd.DatetimeIndex(rows.time[where], tz="UTC").tz_convert(zone)
            short &= np.diff(_nanoseconds(_without_zone(clock))) < size
        wrong = np.flatnonzero(short | _coarser(steps, size))
        if len(wrong):
            step = int(steps[wrong[0]])
            rows.refuse(
                int(where[wrong[0] + 1]),
                f"mixed bar sizes: column timestamp is {duration_text(step)} after the bar before, but "
                f"most bars of the symbol are {duration_text(size)} apart; keep one bar size in a file",
            )


def _same_size(size: int, other: int) -> bool:
    if min(size, other) < LONG_BAR:
        return size == other
    return _CALENDAR_SLACK <= size / other <= 1 / _CALENDAR_SLACK


def _coarser(steps: IntArray, size: int) -> BoolArray:
    """Steps that belong to bars of a larger size.

    Twenty equal steps in a row that are longer than the bar, or ten in a row of 12 bars or more (as
    days among hours, or months among days).
    """
    longer = steps > size
    alike = np.concatenate(([False], longer[1:] & (steps[1:] == steps[:-1])))
    return _in_run(alike, 19) | _in_run(steps >= 12 * size, 10)


def _in_run(marked: BoolArray, length: int) -> BoolArray:
    """Which elements lie in a run of at least ``length`` marked ones."""
    edges = np.diff(np.concatenate(([0], marked.astype(np.int8), [0])))
    found = np.zeros(len(marked), dtype=np.bool_)
    for start, stop in zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True):
        found[start:stop] = stop - start >= length
    return found


def _align(rows: Rows, align: Literal["inner", "strict"]) -> Bars:
    symbols = rows.by_symbol()
    for name, where in zip(rows.names, symbols, strict=True):
        if not len(where):
            raise DataError(f"{rows.source}: symbol {name} has no bars from start to end")
    times = [rows.time[where] for where in symbols]
    if align == "strict":
        _refuse_different_calendars(rows, times)
    common = reduce(lambda a, b: np.intersect1d(a, b, assume_unique=True), times)
    if not len(common):
        spans = list_text(
            f"{name} {time_text(time[0])} to {time_text(time[-1])}"
            for name, time in zip(rows.names, times, strict=True)
        )
        raise DataError(f"{rows.source}: no timestamp is common to all symbols: {spans}")
    if len(common) < 2:
        raise DataError(
            f"{rows.source}: only 1 bar, at {time_text(common[0])}, is left after selection; "
            "at least 2 are needed"
        )
    _log_dropped(rows, times, len(common))
    picked = np.stack(
        [where[np.searchsorted(time, common)] for where, time in zip(symbols, times, strict=True)],
        axis=1,
    )
    return Bars(
        symbols=rows.names,
        timestamps=common.astype("datetime64[ns]"),
        bars_per_year=infer_bars_per_year(common),
        source=rows.source,
        **{name: np.ascontiguousarray(rows.values[name][picked]) for name in VALUES},
    )


def _refuse_different_calendars(rows: Rows, times: Sequence[TimeArray]) -> None:
    every = reduce(np.union1d, times)
    gaps = []
    for name, time in zip(rows.names, times, strict=True):
        lacking = np.setdiff1d(every, time, assume_unique=True)
        if len(lacking):
            gaps.append((lacking[0], name))
    if gaps:
        when, name = min(gaps)
        has = next(n for n, t in zip(rows.names, times, strict=True) if when in t)
        raise DataError(
            f"{rows.source}: symbol {name} has no bar at {time_text(when)}, which {has} has; complete "
            'the file, or keep the common timestamps with align = "inner"'
        )


def _log_dropped(rows: Rows, times: Sequence[TimeArray], kept: int) -> None:
    dropped = [
        f"{name} {len(time) - kept:,} of {len(time):,}"
        for name, time in zip(rows.names, times, strict=True)
        if len(time) > kept
    ]
    if dropped:
        _log.warning(
            "%s: bars dropped at timestamps that not all symbols have: %s; %s are left",
            rows.source,
            list_text(dropped),
            f"{kept:,}",
        )
