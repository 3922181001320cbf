"""Load the bars of a study from a file."""

from __future__ import annotations

import logging
import os
import zoneinfo
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from optimizer.bars.checks import check_rows
from optimizer.bars.foreign import read_file
from optimizer.bars.payments import align_payments, read_payments
from optimizer.bars.per_year import LEAST_PER_YEAR, MOST_PER_YEAR, infer_bars_per_year
from optimizer.bars.rows import VALUES, Rows, oldest_first
from optimizer.bars.sizes import bar_size
from optimizer.bars.splits import suspected_splits
from optimizer.bars.symbols import find_symbols
from optimizer.bars.times import (
    duration_text,
    long_gap,
    read_duration,
    time_text,
    to_nanoseconds,
)
from optimizer.bars.timestamps import Moment, read_bound, read_times, read_zone
from optimizer.catalogue import ALIGNMENTS, Align
from optimizer.errors import DataError
from optimizer.text import list_text
from optimizer.types import Bars, FloatArray, IntArray, MaskArray, TimeArray

_log = logging.getLogger("barsweep")


def load_bars(
    path: str | os.PathLike[str],
    symbols: Sequence[str] | str | None = None,
    start: Moment | None = None,
    end: Moment | None = None,
    *,
    align: Align = "inner",
    timezone: str = "UTC",
    bars_per_year: float | None = None,
    bar: str | None = None,
    funding: str | None = None,
    dividends: str | None = None,
) -> Bars:
    """Read bars of one or several symbols.

    The file is one that ``barsweep data import`` reads without an option: a row for each symbol and bar,
    with the columns symbol (or ticker), timestamp (or datetime, date, time), open, high, low, close and
    volume, named in any case, and those that ``funding`` and ``dividends`` name; others are ignored.
    Without a symbol column the file holds one symbol, named by the file. The rows of a symbol are in
    order of time, or all with the newest first. Timestamps are dates, times with or without an offset,
    or seconds, milliseconds, microseconds or nanoseconds since 1970.

    >>> import optimizer
    >>> optimizer.load_bars("bars.parquet", symbols=["SPY"], start="2010-01-01", end="2010-12-31")
    <Bars of SPY: 252 from 2010-01-04T00:00 to 2010-12-31T00:00>

    Args:
        path: a Parquet, CSV, text, JSON or feather file.
        symbols: the symbols to read, in any order; None takes all. The result has them in order of
            name.
        start: first time, inclusive; a date is the start of that day.
        end: last time, inclusive; a date includes that whole day.
        align: ``inner`` keeps the timestamps that all symbols have, and logs how many are dropped;
            ``strict`` refuses symbols whose timestamps differ; ``outer`` keeps every timestamp, and says
            in ``Bars.present`` which symbols have it. Prices are never made up.
        timezone: the time zone of timestamps, ``start`` and ``end`` that carry none, as
            ``America/New_York``.
        bars_per_year: annualizes returns; None takes the bars over their span.
        bar: duration of a bar, such as ``5min``, ``1h``, ``1d`` or ``2w``; None takes that of
            the steps between bars, as the import reports it.
        funding: column of funding rates, fractions of the value at the close before, which longs pay to
            shorts if positive; empty cells are 0. None for no funding.
        dividends: column of dividends, money per unit, in the first bar without them; likewise.

    Returns:
        The bars, timestamps in UTC.

    Raises:
        DataError: the file cannot be read, or its bars cannot be used.
    """
    return read_bars(
        lambda others: _read_rows(Path(path), others),
        str(path),
        symbols,
        start,
        end,
        align=align,
        timezone=timezone,
        bars_per_year=bars_per_year,
        bar=bar,
        funding=funding,
        dividends=dividends,
    )


def read_bars(
    read: Callable[[Mapping[str, str]], Rows],
    source: str,
    symbols: Sequence[str] | str | None,
    start: Moment | None,
    end: Moment | None,
    *,
    align: Align,
    timezone: str,
    bars_per_year: float | None,
    bar: str | None,
    funding: str | None,
    dividends: str | None,
) -> Bars:
    """Check and align the rows of bars, wherever they come from.

    Args:
        read: reads the rows; takes the names of the columns of payments by those of ``PAYMENTS``.
        source: the file, or what stands for it in messages.
        symbols, start, end, align, timezone, bars_per_year, bar, funding, dividends: the arguments that
            ``load_bars`` takes.

    Returns:
        The bars, timestamps in UTC.

    Raises:
        DataError: the rows cannot be read, or are no usable bars.
    """
    zone = read_zone(source, timezone)
    if align not in ALIGNMENTS:
        valid = ", ".join(f'"{one}"' for one in ALIGNMENTS)
        raise DataError(f"{source}: align: got {align!r}; valid: {valid}")
    if bars_per_year is not None and not LEAST_PER_YEAR <= bars_per_year <= MOST_PER_YEAR:
        raise DataError(
            f"{source}: bars_per_year: got {bars_per_year}; expected a number, {LEAST_PER_YEAR:g} to"
            f" {MOST_PER_YEAR:g}"
        )
    try:
        size = None if bar is None else read_duration(bar)
    except ValueError as error:
        raise DataError(f"{source}: bar: {error}") from None
    named = {"funding": funding, "dividends": dividends}
    others = {standard: name for standard, name in named.items() if name is not None}
    rows = _select_symbols(find_symbols(read(others)), symbols)
    rows, _ = oldest_first(read_times(rows, zone))
    rows = _read_values(_select_times(rows, start, end, zone))
    check_rows(rows, zone, size)
    payments = read_payments(rows, others)
    bars = _align(rows, align, bars_per_year, size, payments)
    del rows, payments
    # Arrow would keep what the table took: as much again as the bars.
    pa.default_memory_pool().release_unused()
    _log_suspicions(bars, size)
    return bars


def _read_rows(path: Path, others: Mapping[str, str]) -> Rows:
    """The rows of a file, by the rules of an import that changes nothing."""
    read = read_file(path, others)
    if "volume" not in read.frame:
        raise DataError(
            f"{path}: no column volume; add one, or have `barsweep data import --zero-volume` write 0"
        )
    return Rows(read.source, read.unit, read.frame)


def read_rows(frame: pd.DataFrame, source: str, unit: str, zone: zoneinfo.ZoneInfo) -> Rows:
    """Read the times and numbers of a frame of bars, oldest first, and judge neither order nor values.

    Args:
        frame: columns symbol, timestamp, open, high, low, close and volume, others ignored; the index
            numbers the rows for messages.
        source: the file, for messages.
        unit: what a row is called, for messages: ``line`` or ``row``.
        zone: the time zone of timestamps that carry none.

    Returns:
        The rows in the order of the frame, or the other way round if it has the newest first.

    Raises:
        DataError: a symbol or a time is missing or cannot be read, or a value is no number.
    """
    rows, _ = oldest_first(read_times(find_symbols(Rows(source, unit, frame)), zone))
    return _read_values(rows)


def _written_otherwise(name: str, rows: Rows) -> str:
    """The symbol that a name means if it is one of them in other letters or signs, and which there are.

    A name that is only like another is another symbol: SPX is not SPY.
    """

    def plain(text: str) -> str:
        return "".join(c for c in str(text).lower() if c.isalnum())

    same = [known for known in rows.names if plain(known) == plain(name)]
    hint = f"; did you mean {same[0]!r}?" if same else ""
    return f"{hint} (there: {list_text(rows.names)})"


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
            raise DataError(f"{rows.source}: no symbol {name!r}{_written_otherwise(name, rows)}")
    wanted = tuple(sorted(wanted))
    place = np.full(len(rows.names), -1, dtype=np.int64)
    for i, name in enumerate(wanted):
        place[rows.names.index(name)] = i
    code = place[rows.code]
    return replace(rows, names=wanted, code=code).keep(code >= 0)


def _select_times(
    rows: Rows, start: Moment | None, end: Moment | None, zone: zoneinfo.ZoneInfo
) -> Rows:
    first, last = rows.time.min(), rows.time.max()
    keep = np.ones(len(rows.time), dtype=np.bool_)
    if start is not None:
        keep &= rows.time >= read_bound(f"{rows.source}: start", start, zone)
    if end is not None:
        keep &= rows.time <= read_bound(f"{rows.source}: end", end, zone, last=True)
    if not keep.any():
        limits = {"from start": start, "to end": end}
        span = " ".join(f"{key} {limit}" for key, limit in limits.items() if limit is not None)
        raise DataError(
            f"{rows.source}: no bars {span}; the file has {time_text(first)} to {time_text(last)}"
        )
    return rows.keep(keep)


def _read_values(rows: Rows) -> Rows:
    return replace(rows, values={name: rows.numbers(name) for name in VALUES})


def _log_suspicions(bars: Bars, size: int | None) -> None:
    """Warn of what may be right but would spoil every result if it is wrong."""
    splits = [
        f"{bars.symbols[symbol]} {ratio} at {time_text(bars.timestamps[bar])}"
        for bar, symbol, ratio in suspected_splits(bars.open, bars.close)
    ]
    if splits:
        _log.warning(
            "%s: prices step as at a split or redenomination left in: %s; adjust them, or ignore this if "
            "the market moved so",
            bars.source,
            list_text(splits, 5),
        )
    if bars.present is None:
        holes = _long_gaps(bars.timestamps, size)
    else:
        holes = [
            f"{name} {hole}"
            for s, name in enumerate(bars.symbols)
            for hole in _long_gaps(bars.timestamps[bars.own(s)], size)
        ]
    if holes:
        _log.warning("%s: long gaps without bars: %s", bars.source, list_text(holes, 5))


def _long_gaps(times: TimeArray, size: int | None) -> list[str]:
    steps = np.diff(to_nanoseconds(times))
    if not len(steps):
        return []
    long = np.flatnonzero(steps > long_gap(bar_size(times) if size is None else size))
    return [
        f"{time_text(times[i])} to {time_text(times[i + 1])} ({duration_text(int(steps[i]))})"
        for i in long
    ]


def _align(
    rows: Rows,
    align: Align,
    bars_per_year: float | None,
    size: int | None,
    payments: FloatArray | None,
) -> Bars:
    symbols = rows.by_symbol()
    for name, where in zip(rows.names, symbols, strict=True):
        if not len(where):
            raise DataError(f"{rows.source}: symbol {name} has no bars from start to end")
    times = [rows.time[where] for where in symbols]
    if align == "strict":
        _refuse_different_calendars(rows, times)
    if align == "outer":
        calendar = np.unique(np.concatenate(times))
    else:
        calendar = reduce(lambda a, b: np.intersect1d(a, b, assume_unique=True), times)
    if not len(calendar):
        spans = list_text(
            f"{name} {time_text(time[0])} to {time_text(time[-1])}"
            for name, time in zip(rows.names, times, strict=True)
        )
        raise DataError(f"{rows.source}: no timestamp is common to all symbols: {spans}")
    if len(calendar) < 2:
        raise DataError(
            f"{rows.source}: only 1 bar, at {time_text(calendar[0])}, is left after selection; "
            "at least 2 are needed"
        )
    if bars_per_year is None:
        bars_per_year = infer_bars_per_year(calendar, size)
    if align == "outer":
        values, present = _filled(rows, symbols, times, calendar)
    else:
        _log_dropped(rows, times, len(calendar))
        picked = np.stack(
            [
                where[np.searchsorted(time, calendar)]
                for where, time in zip(symbols, times, strict=True)
            ],
            axis=1,
        )
        values = {name: np.ascontiguousarray(rows.values[name][picked]) for name in VALUES}
        present = None
    return Bars(
        symbols=rows.names,
        timestamps=calendar.astype("datetime64[ns]"),
        bars_per_year=float(bars_per_year),
        source=rows.source,
        # Judged before alignment, which may drop the bars that have some.
        has_volume=np.array([(rows.values["volume"][where] > 0.0).any() for where in symbols]),
        present=present,
        payments=None if payments is None else align_payments(payments, rows, calendar),
        **values,
    )


def _filled(
    rows: Rows, symbols: Sequence[IntArray], times: Sequence[TimeArray], calendar: TimeArray
) -> tuple[dict[str, FloatArray], MaskArray]:
    """Values of every symbol at every time of the calendar, and which of them are bars of its own.

    A missing bar stands at the close before it, without volume. Before the first bar there is only the
    price that the symbol will open at; nothing is held there and nothing is decided.
    """
    shape = len(calendar), len(symbols)
    values = {name: np.zeros(shape) for name in VALUES}
    present = np.zeros(shape, dtype=np.uint8)
    for s, (where, time) in enumerate(zip(symbols, times, strict=True)):
        last = np.searchsorted(time, calendar, side="right") - 1
        known = np.concatenate(([rows.values["open"][where[0]]], rows.values["close"][where]))
        own = np.searchsorted(calendar, time)
        present[own, s] = 1
        for name in VALUES:
            if name != "volume":
                values[name][:, s] = known[last + 1]
            values[name][own, s] = rows.values[name][where]
    return values, present


def _refuse_different_calendars(rows: Rows, times: Sequence[TimeArray]) -> None:
    every = reduce(np.union1d, times)
    gaps = []
    for name, time in zip(rows.names, times, strict=True):
        missing = np.setdiff1d(every, time, assume_unique=True)
        if len(missing):
            gaps.append((missing[0], name))
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
            "%s: bars dropped at timestamps that some symbols do not have: %s; %s are left",
            rows.source,
            list_text(dropped),
            f"{kept:,}",
        )
