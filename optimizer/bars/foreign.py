"""Read files of bars of any program, without judging their values."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq

from optimizer.bars.columns import Columns, find_columns, plain_name
from optimizer.bars.foreign_formats import (
    KNOWN,
    MILLISECONDS_A_DAY,
    format_of,
    format_of_bare,
    layout_of,
    lean_day,
    times_in_front,
)
from optimizer.bars.json_files import read_json
from optimizer.bars.rows import PRICES
from optimizer.bars.symbols import symbol_of
from optimizer.bars.text_files import UNREADABLE, Text, is_yfinance, parse, ragged, read_text
from optimizer.bars.tidy import Foreign, tidy
from optimizer.errors import DataError
from optimizer.text import list_text, one_line

SUFFIXES = (
    *(".parquet", ".pq", ".csv", ".csv.gz", ".txt", ".txt.gz"),
    *(".json", ".json.gz", ".feather"),
)


def read_foreign(path: str | os.PathLike[str], symbol: str | None = None) -> Foreign:
    """Read a file of bars in any known format, which its columns tell.

    >>> import optimizer
    >>> found = optimizer.read_foreign("export.csv", symbol="SPY")
    >>> len(found.frame)
    300

    Args:
        path: CSV (with commas, tabs or semicolons, gzipped or not), JSON, feather or Parquet.
        symbol: name of the symbol, if the file has one symbol and does not name it; None takes the
            symbol from the name of the file.

    Returns:
        The rows, and the format that was found.

    Raises:
        DataError: the file cannot be read, or its format is not known; names the file.
    """
    found = read_file(Path(path))
    frame, origin = found.frame, "named in the file"
    if symbol is not None:
        if "symbol" in frame and frame["symbol"].nunique() > 1:
            raise DataError(
                f"{found.source}: --symbol {symbol}: the file names several symbols; leave"
                " the option out"
            )
        frame, origin = frame.assign(symbol=symbol), "given"
    elif "symbol" not in frame:
        frame, origin = frame.assign(symbol=symbol_of(Path(found.source))), "from the file's name"
    return replace(found, frame=frame, symbol_from=origin)


def read_file(file: Path, others: Mapping[str, str] | None = None) -> Foreign:
    """Read a file of bars; a column ``symbol`` only if the file has one.

    Args:
        file: the file.
        others: further columns to read: their names in the file by the names of ``PAYMENTS``.

    Returns:
        The rows in the order of the file.

    Raises:
        DataError: the file cannot be read, or its columns are not those of bars; names the file.
    """
    try:
        if file.is_dir():
            raise DataError(f"{file}: is a folder; name its files")
        if not file.name.lower().endswith(SUFFIXES):
            raise DataError(f"{file}: unsupported kind of file; valid: {', '.join(SUFFIXES)}")
        if file.stat().st_size == 0:
            raise DataError(f"{file}: is empty")
        found = _read(file, others or {})
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{file}: no such file") from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file}: is not UTF-8 text, so it is no CSV file ({error.reason} at byte {error.start});"
            " export it again as CSV in UTF-8"
        ) from None
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        raise DataError(f"{file}{ragged(file, error)}") from None
    except (*UNREADABLE, RecursionError, OverflowError, ValueError) as error:
        raise DataError(
            f"{file}: cannot be read, it may be truncated or of another kind ({one_line(error)})"
        ) from None
    if found.frame.empty:
        raise DataError(f"{file}: has no rows")
    return found


def _read(file: Path, others: Mapping[str, str]) -> Foreign:
    name = file.name.lower()
    if name.endswith((".json", ".json.gz")):
        return _read_json(file, others)
    if name.endswith(".feather"):
        with file.open("rb") as handle:
            table = pyarrow.feather.read_table(handle, memory_map=False)
        bare = set(table.column_names) == {"date", *PRICES, "volume"}
        return _of_table(file, table, others, "freqtrade" if bare else None)
    if name.endswith((".parquet", ".pq")):
        # The handle is ours: pyarrow's own would stay open where the file is refused.
        with file.open("rb") as handle, pq.ParquetFile(handle) as parquet:
            return _of_parquet(file, parquet, others)
    return _read_text(file, others)


def _of_parquet(file: Path, parquet: pq.ParquetFile, others: Mapping[str, str]) -> Foreign:
    """Read only the columns that are used, and those of text where no column names the symbol."""
    schema = parquet.schema_arrow

    def first(place: int) -> Any:
        batches = parquet.iter_batches(batch_size=1, columns=[schema.names[place]])
        return next((batch.column(0)[0].as_py() for batch in batches), None)

    columns = find_columns(str(file), schema.names, others, first)
    kept = [*columns.places.values(), *columns.volumes]
    if "symbol" not in columns.places:
        kept += [place for place in columns.unused if _is_text(schema.field(place).type)]
    table = parquet.read(columns=list(dict.fromkeys(schema.names[place] for place in kept)))
    return _of_table(file, table, others, None)


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _of_table(file: Path, table: pa.Table, others: Mapping[str, str], known: str | None) -> Foreign:
    header = table.column_names
    columns = find_columns(str(file), header, others, lambda i: _first_of(table, i))
    try:
        frame = table.to_pandas(date_as_object=False, ignore_metadata=True)
    except (ValueError, OverflowError) as error:
        raise DataError(f"{file}: has a value that cannot be read ({one_line(error)})") from error
    frame.index = pd.RangeIndex(1, len(frame) + 1)
    return _picked(file, known or format_of(header), "row", frame, header, columns)


def _first_of(table: pa.Table, place: int) -> Any:
    return table.column(place)[0].as_py() if table.num_rows else None


def _picked(
    file: Path, format: str, unit: str, frame: pd.DataFrame, header: list[str], columns: Columns
) -> Foreign:
    """The columns of a frame, in the order of the header, under our names."""
    roles = {place: role for role, place in columns.places.items()}
    named = frame.iloc[:, list(roles)].set_axis(list(roles.values()), axis=1)
    volumes = frame.iloc[:, list(columns.volumes)]
    volumes = volumes.set_axis([header[i] for i in columns.volumes], axis=1)
    unused = frame.iloc[:, list(columns.unused)]
    unused = unused.set_axis([header[i] for i in columns.unused], axis=1)
    return tidy(str(file), format, unit, named, volumes, unused)


def _read_json(file: Path, others: Mapping[str, str]) -> Foreign:
    table = read_json(file)
    frame = table.frame
    if table.named:
        header = [str(name) for name in frame.columns]
        columns = find_columns(str(file), header, others, lambda i: frame.iloc[0, i])
        return _picked(file, format_of(header), "row", frame, header, columns)
    if not pd.api.types.is_string_dtype(frame[0]):
        np.asarray(frame[0], dtype=np.float64)  # refuses a number past all clocks
    values = frame.iloc[:, 1:].apply(pd.to_numeric, errors="coerce")
    wrong = (values.isna() & frame.iloc[:, 1:].notna()).any(axis=1)
    if wrong.any():
        raise DataError(f"{file}, row {wrong.idxmax()}: has a value that is not a number")
    layout = layout_of(str(file), values.to_numpy(np.float64))
    named = values.set_axis(list(layout.names), axis=1)
    format = "freqtrade" if layout.format == "plain" else layout.format
    return _of_layout(file, format, "row", named.assign(timestamp=frame.iloc[:, 0]))


def _of_layout(file: Path, format: str, unit: str, frame: pd.DataFrame) -> Foreign:
    used = [name for name in frame if name in ("timestamp", "date", "time", *PRICES, "volume")]
    nothing = pd.DataFrame(index=frame.index)
    return tidy(str(file), format, unit, frame[used], nothing, nothing)


def _read_text(file: Path, others: Mapping[str, str]) -> Foreign:
    text = read_text(file)
    if is_yfinance(text.head):
        return _read_yfinance(file, text)
    if text.header is None:
        day = lean_day(file.name)
        if day is not None:
            return _read_lean(file, text, day)
        n_times = times_in_front(text.head[0])
        if n_times:
            return _read_bare(file, text, n_times)
        header = list(text.head[0])
        if not {plain_name(name) for name in header}.isdisjoint(PRICES):
            find_columns(str(file), header, {}, lambda _: None)  # says what is missing
        raise DataError(
            f"{file}: no known format has its columns: {list_text(header)}; known: {KNOWN}"
        )
    header = list(text.header)
    row = text.head[1] if len(text.head) > 1 else ()
    columns = find_columns(
        str(file), header, others, lambda place: row[place] if place < len(row) else None
    )
    names = [f"other column {i}" for i in range(len(header))]
    for role, place in columns.places.items():
        names[place] = role
    frame = parse(text, names, lambda name: name in ("date", "time", "symbol"))
    return _picked(file, format_of(header), "line", frame, header, columns)


def _read_bare(file: Path, text: Text, n_times: int) -> Foreign:
    """A text file without a header, whose values tell the order of its columns."""
    cells = text.head[0]
    times = ["date", "time"] if n_times == 2 else ["timestamp"]
    n_values = len(cells) - n_times
    if not cells[-1]:
        n_values -= 1  # a delimiter at the end of each line
    names = [*times, *map(str, range(n_values)), *(["end"] if not cells[-1] else [])]
    frame = parse(text, names, lambda name: name in times)
    values = frame[list(map(str, range(n_values)))].apply(pd.to_numeric, errors="coerce")
    layout = layout_of(str(file), values.to_numpy(np.float64))
    named = dict(zip(map(str, range(n_values)), layout.names, strict=True))
    return _of_layout(file, format_of_bare(layout, cells), "line", frame.rename(columns=named))


def _read_lean(file: Path, text: Text, day: str) -> Foreign:
    """LEAN's bars within a day: milliseconds since midnight, prices and volume."""
    date = pd.to_datetime(day, format="%Y%m%d", errors="coerce")
    if pd.isna(date):
        raise DataError(
            f"{file}: {day} in its name is no date; LEAN names a file of minutes by its day, such as"
            " 20131007_spy_minute_trade.csv"
        )
    if len(text.head[0]) != 6:
        raise DataError(
            f"{file}: LEAN's file of {day} has {len(text.head[0])} columns; expected the 6 of trade bars:"
            " milliseconds since midnight, open, high, low, close, volume"
        )
    frame = parse(text, ["timestamp", *PRICES, "volume"], lambda name: False)
    since = pd.to_numeric(frame["timestamp"], errors="coerce")
    wrong = np.flatnonzero(~since.between(0, MILLISECONDS_A_DAY - 1))
    if len(wrong):
        raise DataError(
            f"{file}, line {frame.index[wrong[0]]}: {frame['timestamp'].iloc[wrong[0]]} is no time of a"
            " day; expected milliseconds since midnight, 0 to 86,399,999"
        )
    times = date + pd.to_timedelta(since, unit="ms")
    found = _of_layout(file, "LEAN", "line", frame.assign(timestamp=times))
    note = "times are those of the exchange: --timezone America/New_York for shares of the US"
    return replace(found, notes=(*found.notes, note))


def _read_yfinance(file: Path, text: Text) -> Foreign:
    """What yfinance's ``to_csv`` writes: lines of prices, of tickers, and of the index's name."""
    first, second = text.head[0], text.head[1]
    prices, tickers = (first, second) if first[0] == "Price" else (second, first)
    if len(prices) != len(tickers):
        raise DataError(f"{file}: lines 1 and 2 have different numbers of columns")
    names = ["timestamp", *(str(i) for i in range(1, len(prices)))]
    frame = parse(text, names, lambda name: name == "timestamp", 3)
    parts = []
    for ticker in dict.fromkeys(tickers[1:]):
        header = [p if t == ticker else "" for p, t in zip(prices, tickers, strict=True)]
        columns = find_columns(str(file), ["timestamp", *header[1:]], {}, lambda _: None)
        places = columns.places
        part = frame[[names[i] for i in places.values()]].set_axis(list(places), axis=1)
        # Tickers share the lines; where one did not trade its cells are empty.
        part = part[part[[n for n in places if n != "timestamp"]].notna().any(axis=1)]
        parts.append(part.assign(symbol=ticker))
    if not parts:
        raise DataError(f"{file}: has no ticker in line 2")
    nothing = pd.DataFrame()
    return tidy(str(file), "Yahoo (yfinance)", "line", pd.concat(parts), nothing, nothing)
