"""Read a table of bars from Parquet or CSV, and find its columns and symbols."""

from __future__ import annotations

import contextlib
import csv
import gzip
import re
import warnings
import zlib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from optimizer.bars.rows import VALUES, Rows, first_row
from optimizer.errors import DataError
from optimizer.text import counted, list_text, name_problem, one_line, quoted, suggest

ACCEPTED_NAMES: Mapping[str, tuple[str, ...]] = {
    "symbol": ("symbol", "ticker"),
    "timestamp": ("timestamp", "datetime", "date", "time"),
    **{name: (name,) for name in VALUES},
}
"""Accepted names of each column, in lower case."""

SUFFIXES = (".parquet", ".pq", ".csv", ".csv.gz")

MISSING_TEXTS = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None")


UNREADABLE = (
    OSError,
    EOFError,
    zlib.error,
    csv.Error,
    pa.ArrowException,
    pd.errors.ParserError,
    pd.errors.ParserWarning,
)


def read_table(path: Path, others: Mapping[str, str] | None = None) -> Rows:
    """Read a Parquet or CSV file, with its columns under their standard names.

    Args:
        path: the file.
        others: further columns to read: their names in the file by the names of ``PAYMENTS``.

    Returns:
        The rows in the order of the file.

    Raises:
        DataError: the file cannot be read, or a column is missing.
    """
    others = others or {}
    name = path.name.lower()
    try:
        if path.is_dir():
            raise DataError(f"{path}: is a folder; name one file of it ({', '.join(SUFFIXES)})")
        if not name.endswith(SUFFIXES):
            raise DataError(f"{path}: unsupported kind of file; valid: {', '.join(SUFFIXES)}")
        if path.stat().st_size == 0:
            raise DataError(f"{path}: is empty")
        read = _read_csv if name.endswith(SUFFIXES[2:]) else _read_parquet
        rows = read(path, others)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: is not UTF-8 text, so it is no CSV file ({error.reason} at byte {error.start});"
            " export it again as CSV in UTF-8"
        ) from error
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        raise DataError(f"{path}{_of_ragged_text(path, error)}") from error
    except UNREADABLE as error:
        raise DataError(
            f"{path}: cannot be read, it may be truncated or of another kind ({one_line(error)})"
        ) from error
    if rows.frame.empty:
        raise DataError(f"{path}: has no rows")
    return rows


def _of_ragged_text(path: Path, error: BaseException) -> str:
    """What keeps pandas from reading a CSV file, as the end of a message."""
    with open_text(path) as file:
        return ragged(file, ",", error)


def open_text(path: Path) -> IO[str]:
    """Open a CSV file, gzipped or not.

    Args:
        path: the path of the file; its ending tells.

    Returns:
        The open file, in UTF-8.
    """
    if path.name.lower().endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open("rt", encoding="utf-8-sig", newline="")


def ragged(lines: Iterable[str], delimiter: str, error: BaseException) -> str:
    """What keeps pandas from reading a CSV text, as the end of a message about a file.

    Args:
        lines: the lines of the text.
        delimiter: the delimiter between its fields.
        error: pandas', for a text that has no longer line.

    Returns:
        The first line with more fields than the first one, or what pandas says.
    """
    n_fields = 0
    found = csv.reader(lines, delimiter=delimiter)
    with contextlib.suppress(csv.Error, OSError, EOFError, zlib.error, UnicodeDecodeError):
        for row in found:
            n_fields = n_fields or len(row)
            if len(row) > n_fields:
                return (
                    f", line {found.line_num}: has {counted(len(row), 'field')}, line 1 has {n_fields};"
                    " give each line as many, and quote a text that holds the separator"
                )
    return f": cannot be read as CSV ({one_line(error)}); export it again"


def find_columns(source: str, header: Sequence[str], others: Mapping[str, str]) -> dict[str, int]:
    """Find the columns of bars by their names.

    Args:
        source: the file, in messages.
        header: the names of its columns.
        others: further columns, see ``read_table``.

    Returns:
        The position of each standard column that is there, and of the others.

    Raises:
        DataError: a column is missing, or several have its name.
    """
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
    accepted = {one for names in ACCEPTED_NAMES.values() for one in names}
    for mark in ";\t" if len(header) == 1 else "":
        parts = [one.strip().lower() for one in header[0].split(mark)]
        if len(parts) > 1 and not accepted.isdisjoint(parts):
            raise DataError(
                f"{source}: line 1 is separated by {mark!r}, expected ','; `barsweep data import` reads"
                " such files"
            )
    if missing:
        valid = "; ".join(" or ".join(ACCEPTED_NAMES[name]) for name in missing)
        raise DataError(
            f"{source}: no column {', '.join(missing)}; found: {list_text(header)}; "
            f"accepted names, in any case: {valid}"
        )
    return {**found, **_find_others(source, header, others, found)}


def _find_others(
    source: str, header: Sequence[str], others: Mapping[str, str], found: Mapping[str, int]
) -> dict[str, int]:
    """Position of each column that a study names, by its standard name."""
    places: dict[str, int] = {}
    lowered = [name.strip().lower() for name in header]
    for standard, name in others.items():
        wanted = name.strip().lower()
        if wanted not in lowered:
            raise DataError(
                f"{source}: no column {quoted(name)} for [data] {standard};"
                f" {suggest(name, list(header), 20)}; add it, or leave {standard} out"
            )
        if lowered.count(wanted) > 1:
            raise DataError(f"{source}: several columns are called {quoted(name)}; keep one")
        place = lowered.index(wanted)
        if place in (*found.values(), *places.values()):
            raise DataError(
                f"{source}: [data] {standard} = {quoted(name)} is read for something else already; name"
                f" the column of {standard} alone"
            )
        places[standard] = place
    return places


def _read_parquet(path: Path, others: Mapping[str, str]) -> Rows:
    # The handle is ours: pyarrow's own would stay open where the file is refused.
    with path.open("rb") as handle, pq.ParquetFile(handle) as file:
        header = file.schema_arrow.names
        found = find_columns(str(path), header, others)
        table = file.read(columns=[header[i] for i in found.values()])
    standard = {header[place]: name for name, place in found.items()}
    table = table.rename_columns([standard[name] for name in table.column_names])
    try:
        frame = cast(pd.DataFrame, table.to_pandas(date_as_object=False, ignore_metadata=True))
    except (ValueError, OverflowError) as error:
        raise DataError(f"{path}: has a value that cannot be read ({one_line(error)})") from error
    frame.index = pd.RangeIndex(1, len(frame) + 1)
    return Rows(str(path), "row", frame)


def _read_csv(path: Path, others: Mapping[str, str]) -> Rows:
    with open_text(path) as file:
        header = next(csv.reader(file), [])
    if any("\0" in name for name in header):
        raise DataError(
            f"{path}: is no CSV text: line 1 holds a zero byte; export it as CSV in UTF-8"
        )
    if not any(name.strip() for name in header):
        raise DataError(f"{path}: line 1 is blank; it must name the columns")
    found = find_columns(str(path), header, others)
    names = [f"other column {i}" for i in range(len(header))]
    for standard, place in found.items():
        names[place] = standard
    with warnings.catch_warnings():
        # pandas would drop the cells of a line that is longer than the header.
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
            compression="gzip" if path.name.lower().endswith(".gz") else None,
        )
    frame = frame[list(found)]
    frame.index = pd.RangeIndex(2, len(frame) + 2)
    blank = frame.isna()
    if "symbol" in found:
        blank["symbol"] |= frame["symbol"].str.strip() == ""
    return Rows(str(path), "line", frame[~blank.all(axis=1)])


def refuse_nested(rows: Rows, name: str) -> None:
    """Refuse lists and tables where a text or a number is expected.

    Args:
        rows: the rows with the column.
        name: the name of the column.

    Raises:
        DataError: names the first such row.
    """
    column = rows.frame[name]
    if pd.api.types.is_object_dtype(column):
        nested = [not isinstance(value, Hashable) for value in column]
        if (row := first_row(nested)) is not None:
            rows.refuse(row, f"column {name} holds {rows.cell(name, row)}; expected one value")


def _refuse_name(rows: Rows, name: str, row: int) -> None:
    """Refuse a symbol that is no name, see ``name_problem``."""
    problem = name_problem(name)
    if problem:
        rows.refuse(row, f"symbol {quoted(name)} {problem}")


def find_symbols(rows: Rows) -> Rows:
    """Read the symbol of each row; a file without a symbol column has one, named as the file.

    Args:
        rows: the rows as they were read.

    Returns:
        The rows with their symbols.

    Raises:
        DataError: names the first row without a symbol.
    """
    if "symbol" not in rows.frame:
        name = re.sub(r"(\.csv)?\.\w+$", "", Path(rows.source).name, flags=re.IGNORECASE)
        _refuse_name(rows, name, 0)
        return replace(rows, names=(name,), code=np.zeros(len(rows.frame), dtype=np.int64))
    refuse_nested(rows, "symbol")
    column = rows.frame["symbol"]
    code, written = pd.factorize(column)
    names = [str(name).strip() for name in written]
    empty = [-1, *(place for place, name in enumerate(names) if not name)]
    if (row := first_row(np.isin(code, empty))) is not None:
        rows.refuse(row, "column symbol is empty")
    for number, name in enumerate(names):
        if name_problem(name):
            _refuse_name(rows, name, int(np.argmax(code == number)))
    ordered = sorted(set(names))
    place = np.array([ordered.index(name) for name in names], dtype=np.int64)
    return replace(rows, names=tuple(ordered), code=place[code])
