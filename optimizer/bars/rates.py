"""Interest rates over time, from a column of a CSV file."""

from __future__ import annotations

import zoneinfo
from pathlib import Path

import numpy as np
import pandas as pd

from optimizer.bars.rows import Rows, first_row
from optimizer.bars.side_table import read_side_table
from optimizer.bars.text_files import MISSING_TEXTS
from optimizer.bars.times import time_text
from optimizer.bars.timestamps import read_times
from optimizer.catalogue import HIGHEST_RATE, LOWEST_RATE
from optimizer.errors import DataError
from optimizer.text import list_text, quoted, suggest
from optimizer.types import FloatArray, TimeArray

_TIME_NAMES = ("timestamp", "datetime", "date", "time", "observation_date")
_MISSING = (*MISSING_TEXTS, ".")


def read_rate(path: Path, column: str) -> tuple[TimeArray, FloatArray]:
    """Read an interest rate from a CSV file with a column of times and a column of rates.

    The times are dates or times in any form that bars may have, ascending, UTC where they carry no
    zone; their column is named timestamp, datetime, date, time or observation_date. A row whose rate
    is empty or a dot, as on holidays, is left out.

    Args:
        path: a ``.csv`` or ``.csv.gz`` file.
        column: name of the column of rates, fractions a year: 0.0425 for 4.25 percent.

    Returns:
        Times, datetime64[ns], and rates, both of shape (n_rates,).

    Raises:
        DataError: the file cannot be read or used; names the line and the fix.
    """
    frame = read_side_table(path, "rates", _MISSING)
    return _rates_of(path, frame, column)


def _rates_of(path: Path, frame: pd.DataFrame, column: str) -> tuple[TimeArray, FloatArray]:
    header = [str(name) for name in frame.columns]
    times = [name for name in header if name.lower() in _TIME_NAMES]
    if len(times) != 1:
        found = f"several columns of times: {', '.join(times)}" if times else "no column of times"
        raise DataError(
            f"{path}: {found}; name one of {list_text(header)} date and no other"
            f" {', '.join(_TIME_NAMES)}"
        )
    values = [name for name in header if name not in times]
    if column not in values:
        raise DataError(f"{path}: no column {quoted(column)}; {suggest(column, values, 20)}")
    frame = frame[[times[0], column]].dropna(subset=[column])
    frame.columns = ["timestamp", column]
    if frame.empty:
        raise DataError(f"{path}: column {column} has no rate; give at least one")
    rows = Rows(str(path), "line", frame)
    rates = pd.to_numeric(frame[column].astype("str"), errors="coerce").to_numpy(np.float64)
    if (row := first_row(~np.isfinite(rates))) is not None:
        raise DataError(
            f"{rows.at(row)}: column {column}: {rows.cell(column, row)} is no number; write a"
            " fraction a year, or nothing where there is no rate"
        )
    if (row := first_row((rates < LOWEST_RATE) | (rates > HIGHEST_RATE))) is not None:
        raise DataError(
            f"{rows.at(row)}: column {column}: {rates[row]:g} is not within {LOWEST_RATE:g} to"
            f" {HIGHEST_RATE:g}; write fractions a year, 0.0425 for 4.25 percent"
        )
    time = read_times(rows, zoneinfo.ZoneInfo("UTC")).time
    if (row := first_row(np.diff(time) <= np.timedelta64(0))) is not None:
        raise DataError(
            f"{rows.at(row + 1)}: {time_text(time[row + 1])} does not come after"
            f" {time_text(time[row])}; sort the rows by time and give each time once"
        )
    return time, rates


def rate_at(
    timestamps: TimeArray, times: TimeArray, values: FloatArray, source: str = "rates"
) -> FloatArray:
    """The last rate known at each bar: never one of a later time.

    Args:
        timestamps: the timestamps of the bars, ascending, shape (n_bars,).
        times: the times of the rates, ascending, shape (n_rates,).
        values: fractions a year, shape (n_rates,).
        source: the file of the rates, for messages.

    Returns:
        Fractions a year, shape (n_bars,).

    Raises:
        DataError: the first bar is before the first rate.
    """
    place = np.searchsorted(times, timestamps, side="right") - 1
    if len(place) and place[0] < 0:
        raise DataError(
            f"{source}: the first rate is dated {time_text(times[0])}, and the bars begin on"
            f" {time_text(timestamps[0])}; add a rate from that time or before, or set [data] start ="
            f" {str(times[0])[:10]}"
        )
    return values[place]
