"""Read text files of bars: their encoding, delimiter, header and lines."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import warnings
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa

from optimizer.bars.columns import has_prices
from optimizer.errors import DataError
from optimizer.text import counted, one_line

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
"""What libraries raise for files that are cut or of another kind."""
_MARKS = ",\t;|"
_MOST_PROLOGUE = 10
"""Lines before the header, such as the address of a site, at most."""


@dataclass(frozen=True)
class Text:
    """A text file of bars.

    Attributes:
        body: the text after the header, or all of it.
        delimiter: the delimiter between cells.
        header: the names of the columns; None if no line names them.
        first: the number of the first line of ``body``.
        head: the cells of the first lines from the header on, at most 3.
    """

    body: str
    delimiter: str
    header: Sequence[str] | None
    first: int
    head: Sequence[Sequence[str]]


def read_text(file: Path) -> Text:
    """Read a text file and find its header.

    Args:
        file: a file of UTF-8 or UTF-16 text, gzipped or not.

    Returns:
        The text, split at its header.

    Raises:
        DataError: its first lines hold nothing, or it is no text.
    """
    data = file.read_bytes()
    if file.name.lower().endswith(".gz"):
        data = gzip.decompress(data)
    wide = data[:2] in (b"\xff\xfe", b"\xfe\xff")  # MetaTrader may write UTF-16
    text = data.decode("utf-16" if wide else "utf-8-sig")
    if "\0" in text[:1000]:
        raise DataError(
            f"{file}: is no CSV text: line 1 holds a zero byte; export it as CSV in UTF-8"
        )
    lines = io.StringIO(text[:100_000], newline="").read().splitlines(keepends=True)
    if is_yfinance(_cells(text[:10_000], ",")):
        return Text(text, ",", None, 1, _cells(text[:10_000], ",")[:3])
    begin = 0
    for number, line in enumerate(lines[:_MOST_PROLOGUE]):
        for mark in _MARKS:
            cells = _cells(line, mark)[:1]
            if cells and has_prices(cells[0]):
                head = _cells(text[begin : begin + 10_000], mark)[:3]
                return Text(text[begin + len(line) :], mark, head[0], number + 2, head)
        begin += len(line)
    if not lines or not lines[0].strip(_MARKS + " \r\n"):
        raise DataError(f"{file}: line 1 is blank; it must name the columns or hold a bar")
    mark = max(_MARKS, key=lines[0].count)
    return Text(text, mark, None, 1, _cells(text[:10_000], mark)[:3])


def is_yfinance(head: Sequence[Sequence[str]]) -> bool:
    """Whether the first two lines are those of prices and tickers that yfinance's ``to_csv`` writes.

    Args:
        head: the cells of the first lines of a file.
    """
    return sorted(row[0] for row in head[:2] if row) == ["Price", "Ticker"]


def _cells(text: str, mark: str) -> list[list[str]]:
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=mark)
    found = []
    with contextlib.suppress(csv.Error):
        for row, _ in zip(rows, range(3), strict=False):
            found.append([cell.strip() for cell in row])
    return found


def parse(
    text: Text, names: Sequence[str], texts: Callable[[str], bool], skip: int = 0
) -> pd.DataFrame:
    """The cells of a text file.

    Args:
        text: the file.
        names: the names of its columns.
        texts: whether a column of a name is kept as text.
        skip: lines to leave out at the beginning of the body.

    Returns:
        The lines that are not blank; the index is the number of the line.
    """
    with warnings.catch_warnings():
        # pandas would drop the cells of a line that is longer than the header.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        frame = pd.read_csv(
            io.StringIO(text.body),
            sep=text.delimiter,
            header=None,
            skiprows=skip,
            names=list(names),
            dtype={name: "str" for name in names if texts(name)},
            # A symbol may be called NA; everywhere else that is a missing value.
            keep_default_na=False,
            na_values={name: [*MISSING_TEXTS, "-"] for name in names if name != "symbol"},
            index_col=False,
            skipinitialspace=True,
            skip_blank_lines=False,  # so that rows keep the numbers of their lines
            low_memory=False,
        )
    frame.index = pd.RangeIndex(text.first + skip, text.first + skip + len(frame))
    blank = frame.isna()
    if "symbol" in frame:
        blank["symbol"] |= frame["symbol"].str.strip() == ""
    return frame[~blank.all(axis=1)]


def ragged(file: Path, error: BaseException) -> str:
    """What keeps pandas from reading a text file, as the end of a message about it.

    Args:
        file: the file.
        error: the error of pandas, for a file that has no longer line.

    Returns:
        The first line with more cells than the header, or what pandas says.
    """
    with contextlib.suppress(csv.Error, OSError, EOFError, UnicodeDecodeError, DataError):
        text = read_text(file)
        n_cells, header = (len(text.header), text.first - 1) if text.header else (0, text.first)
        rows = csv.reader(io.StringIO(text.body, newline=""), delimiter=text.delimiter)
        for row in rows:
            n_cells = n_cells or len(row)
            if len(row) > n_cells:
                return (
                    f", line {rows.line_num + text.first - 1}: has {counted(len(row), 'field')}, line"
                    f" {header} has {n_cells}; give each line as many, and quote a text that holds the"
                    " separator"
                )
    return f": cannot be read as CSV ({one_line(error)}); export it again"
