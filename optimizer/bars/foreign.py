"""Read files of bars that other programs wrote, without judging their values."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.feather
import pyarrow.parquet as pq

from optimizer.bars.foreign_formats import (
    ADJUSTED,
    FREQTRADE,
    ROLES,
    format_of,
    places_of,
    plain_name,
    symbol_of,
    without_header,
)
from optimizer.bars.read import MISSING_TEXTS, UNREADABLE, ragged
from optimizer.bars.rows import VALUES
from optimizer.errors import DataError
from optimizer.text import one_line

SUFFIXES = (
    ".csv",
    ".txt",
    ".csv.gz",
    ".txt.gz",
    ".json",
    ".json.gz",
    ".feather",
    ".parquet",
    ".pq",
)


@dataclass(frozen=True)
class Foreign:
    """The rows of a file as they are, with its columns under our names.

    Attributes:
        source: the file.
        format: name of the format.
        unit: what messages call a row: ``line`` of a text file, else ``row``.
        frame: columns symbol, timestamp, open, high, low and close, and volume and ``adj_close`` if
            the file has them; the index is the number of the line or row.
        symbol_from: where the symbol's name came from, for the report.
        notes: further remarks for the report.
    """

    source: str
    format: str
    unit: str
    frame: pd.DataFrame
    symbol_from: str
    notes: tuple[str, ...] = ()


def read_foreign(path: str | os.PathLike[str], symbol: str | None = None) -> Foreign:
    """Read a file of bars in any known format, which its columns tell.

    Args:
        path: CSV (with commas, tabs or semicolons, gzipped or not), JSON, feather or Parquet.
        symbol: name of the symbol, if the file has one symbol and does not name it; None takes the
            symbol from the name of the file.

    Returns:
        The rows, and the format that was found.

    Raises:
        DataError: the file cannot be read, or its format is not known; names the file.
    """
    file = Path(path)
    try:
        if file.is_dir():
            raise DataError(f"{file}: is a folder; name its files")
        if not file.name.lower().endswith(SUFFIXES):
            raise DataError(f"{file}: unsupported kind of file; valid: {', '.join(SUFFIXES)}")
        if file.stat().st_size == 0:
            raise DataError(f"{file}: is empty")
        found = _read(file)
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        text = _decoded(file)
        lines = io.StringIO(text, newline="")
        raise DataError(f"{file}{ragged(lines, _delimiter_of(text), error)}") from None
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{file}: no such file") from None
    except UnicodeError as error:
        raise DataError(f"{file}: is not UTF-8 or UTF-16 text ({one_line(error)})") from None
    except (*UNREADABLE, RecursionError, OverflowError, ValueError) as error:
        raise DataError(
            f"{file}: cannot be read, it may be truncated or of another kind ({one_line(error)})"
        ) from None
    if found.frame.empty:
        raise DataError(f"{file}: has no rows")
    return _named(found, symbol)


def _named(found: Foreign, symbol: str | None) -> Foreign:
    """The same rows, each with a symbol."""
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
    return Foreign(found.source, found.format, found.unit, frame, origin, found.notes)


def _read(file: Path) -> Foreign:
    name = file.name.lower()
    if name.endswith((".json", ".json.gz")):
        return _read_json(file)
    if name.endswith(".feather"):
        with file.open("rb") as handle:
            table = pyarrow.feather.read_table(handle, memory_map=False)
        columns = set(map(plain_name, table.column_names))
        bare = columns == {"date", "open", "high", "low", "close", "volume"}
        return _of_table(file, table, "freqtrade" if bare else None)
    if name.endswith((".parquet", ".pq")):
        with file.open("rb") as handle, pq.ParquetFile(handle) as parquet:
            return _of_table(file, parquet.read(), None)
    return _read_text(file)


def _of_table(file: Path, table: Any, format: str | None) -> Foreign:
    header = table.column_names
    known = format or format_of(file, header)
    places = places_of(file, header)
    table = table.select(list(places.values())).rename_columns(list(places))
    frame = table.to_pandas(date_as_object=False, ignore_metadata=True)
    frame.index = pd.RangeIndex(1, len(frame) + 1)
    return _tidy(file, known, "row", frame)


def _read_json(file: Path) -> Foreign:
    """freqtrade's: a list of [milliseconds, open, high, low, close, volume]."""
    data = file.read_bytes()
    content = json.loads(gzip.decompress(data) if file.name.lower().endswith(".gz") else data)
    if not isinstance(content, list) or not all(
        isinstance(row, list) and len(row) == len(FREQTRADE) for row in content
    ):
        raise DataError(
            f"{file}: is not a list of [time, open, high, low, close, volume], as freqtrade writes it"
        )
    for number, row in enumerate(content, 1):
        if not all(one is None or type(one) in (int, float) for one in row):
            raise DataError(f"{file}, row {number}: has a value that is not a number")
    numbers = np.array(content, dtype=np.float64).reshape(-1, len(FREQTRADE))
    frame = pd.DataFrame(numbers, columns=list(FREQTRADE))
    frame.index = pd.RangeIndex(1, len(frame) + 1)
    return _tidy(file, "freqtrade", "row", frame)


def _decoded(file: Path) -> str:
    data = file.read_bytes()
    if file.name.lower().endswith(".gz"):
        data = gzip.decompress(data)
    wide = data[:2] in (b"\xff\xfe", b"\xfe\xff")  # MetaTrader may write UTF-16
    return data.decode("utf-16" if wide else "utf-8-sig")


def _delimiter_of(text: str) -> str:
    return max(",\t;", key=text.split("\n", 1)[0].count)


def _read_text(file: Path) -> Foreign:
    text = _decoded(file)
    delimiter = _delimiter_of(text)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    head = [[cell.strip() for cell in row] for row, _ in zip(lines, range(3), strict=False)]
    if not head or not any(head[0]):
        raise DataError(f"{file}: line 1 is blank; it must name the columns or hold a bar")
    if sorted(row[0] for row in head[:2] if row) == ["Price", "Ticker"]:
        return _read_yfinance(file, text, head)
    bare = without_header(head[0])
    if bare is not None:
        known, names = bare
        frame = _parse(text, names, 0, delimiter, ("date", "time"))
        return _tidy(file, known, "line", frame[[n for n in names if n in ROLES]])
    known = format_of(file, head[0])
    places = places_of(file, head[0])
    names = [f"other column {i}" for i in range(len(head[0]))]
    for role, place in places.items():
        names[place] = role
    frame = _parse(text, names, 1, delimiter, ("date", "time", "symbol"))
    return _tidy(file, known, "line", frame[list(places)])


def _parse(
    text: str, names: Sequence[str], n_head: int, delimiter: str, texts: Sequence[str]
) -> pd.DataFrame:
    with warnings.catch_warnings():
        # pandas would drop the cells of a line that is longer than the header.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        frame = pd.read_csv(
            io.StringIO(text),
            sep=delimiter,
            header=None,
            skiprows=n_head,
            names=list(names),
            dtype={name: "str" for name in texts if name in names},
            keep_default_na=False,
            na_values={name: list(MISSING_TEXTS) for name in names if name != "symbol"},
            index_col=False,
            skipinitialspace=True,
            skip_blank_lines=False,  # so that rows keep the numbers of their lines
            low_memory=False,
        )
    frame.index = pd.RangeIndex(n_head + 1, n_head + 1 + len(frame))
    blank = frame.isna()
    if "symbol" in frame:
        blank["symbol"] |= frame["symbol"].str.strip() == ""
    return frame[~blank.all(axis=1)]


def _read_yfinance(file: Path, text: str, head: Sequence[Sequence[str]]) -> Foreign:
    """What yfinance's ``to_csv`` writes: lines of prices, of tickers, and of the index's name."""
    prices, tickers = (head[0], head[1]) if head[0][0] == "Price" else (head[1], head[0])
    if len(prices) != len(tickers):
        raise DataError(f"{file}: lines 1 and 2 have different numbers of columns")
    names = ["timestamp", *(str(i) for i in range(1, len(prices)))]
    frame = _parse(text, names, 3, ",", ("timestamp",))
    parts = []
    for ticker in dict.fromkeys(tickers[1:]):
        header = [p if t == ticker else "" for p, t in zip(prices, tickers, strict=True)]
        places = places_of(file, ["timestamp", *header[1:]])
        part = frame[[names[i] for i in places.values()]].set_axis(list(places), axis=1)
        # Tickers share the lines; where one did not trade its cells are empty.
        part = part[part[[n for n in places if n != "timestamp"]].notna().any(axis=1)]
        parts.append(part.assign(symbol=ticker))
    if not parts:
        raise DataError(f"{file}: has no ticker in line 2")
    return _tidy(file, "Yahoo (yfinance)", "line", pd.concat(parts))


def _tidy(file: Path, format: str, unit: str, frame: pd.DataFrame) -> Foreign:
    """One column for time, one for volume."""
    notes = []
    frame = frame.copy()
    if "timestamp" not in frame:
        frame["timestamp"] = _moments(frame)
    if "tick_volume" in frame:
        real = pd.to_numeric(frame["volume"], errors="coerce") if "volume" in frame else None
        if real is None or not (real > 0).any():
            frame["volume"] = frame["tick_volume"]
            notes.append("volume is the number of price changes: the file has no traded volume")
    columns = [n for n in ("symbol", "timestamp", *VALUES, ADJUSTED) if n in frame]
    return Foreign(str(file), format, unit, frame[columns], "", tuple(notes))


def _moments(frame: pd.DataFrame) -> pd.Series[Any]:
    """Time of each row, in a form that our own reader of times takes."""
    if "date" not in frame:
        return frame["time"]
    date = frame["date"]
    if not pd.api.types.is_string_dtype(date):
        return date
    if date.str.fullmatch(r"\s*\d{9,}\s*").all():
        return pd.to_numeric(date, errors="coerce")
    date = date.str.strip()
    date = date.str.replace(r"^(\d{4})[./]?(\d\d)[./]?(\d\d)(?!\d)", r"\1-\2-\3", regex=True)
    if "time" not in frame:
        return date
    time = frame["time"].astype("str").str.strip()
    digits = time.str.fullmatch(r"\d{1,6}").fillna(False).astype(bool)
    packed = time.str.zfill(6).str.replace(r"^(\d\d)(\d\d)(\d\d)$", r"\1:\2:\3", regex=True)
    return date + " " + time.mask(digits, packed)
