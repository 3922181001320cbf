"""The symbol of each row of a file: by a column, or by the name of the file."""

from __future__ import annotations

import re
from collections.abc import Hashable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from optimizer.bars.foreign_formats import LEAN_NAME
from optimizer.bars.rows import Rows, first_row
from optimizer.text import list_text, name_problem, quoted

LABEL = "label: "
"""Begins the names of columns of text that are not read, but may name symbols."""
_TIMEFRAMES = r"(?:M1|M2|M3|M4|M5|M6|M10|M12|M15|M20|M30|H1|H2|H3|H4|H6|H8|H12|D1|W1|MN1?|Daily)"
_SIZES = r"\d+ ?_?(?:s|sec|secs|m|min|mins|h|H|hr|hour|hours|d|D|day|days|w|W|week|mo|month)"
_FILE_NAMES = (
    # freqtrade: BTC_USDT-5m.feather, BTC_USDT_USDT-1h-futures.feather
    (r"([A-Za-z0-9]+)_([A-Za-z0-9]+)-\d+[a-zA-Z]{1,2}", r"\1/\2"),
    (r"([A-Za-z0-9]+)_([A-Za-z0-9]+)_([A-Za-z0-9]+)-\d+[a-zA-Z]{1,2}(?:-[a-z_]+)?", r"\1/\2:\3"),
    # Binance: BTCUSDT-1h-2025-01.csv
    (r"([A-Z0-9]+)-\d+(?:s|m|h|d|w|mo)(?:-\d{4}-\d\d(?:-\d\d)?)?", r"\1"),
    # MetaTrader: EURUSD_M15_201801020000_201912312345.csv, EURUSD1440.csv; HistData
    (rf"(?:DAT_(?:MT|ASCII|NT)_)?([A-Za-z0-9.#]+?)_{_TIMEFRAMES}(?:_\w*)?", r"\1"),
    (r"([A-Z]{6})(?:1|5|15|30|60|240|1440|10080|43200)", r"\1"),
    # Kraken: XBTUSD_1440.csv
    (r"([A-Z0-9.]{5,})_(?:1|5|15|30|60|240|720|1440|10080|21600)", r"\1"),
    # TradingView: NASDAQ_AAPL, 1D.csv
    (r"[A-Z0-9]+_([A-Z0-9.!_]+), ?(?:\d+[A-Za-z]*|[DWM])(?:_[0-9a-f]+)?", r"\1"),
    # CryptoDataDownload: Binance_BTCUSDT_1h.csv
    (r"[A-Z][a-z]+_([A-Z0-9]{5,})_(?:\d+h|1?d|1?minute|(?:20\d\d_)?minute)", r"\1"),
    # BTCUSDT_1h.csv, SPY_5min.csv, SPY_1_hour.csv
    (rf"([A-Za-z0-9.^=]+)[_-]{_SIZES}", r"\1"),
)


def symbol_of(path: Path) -> str:
    """The symbol in the name of a file, by the naming of the programs that write such files.

    Args:
        path: the path of the file.
    """
    if lean := LEAN_NAME.fullmatch(path.name.lower()):
        return (lean[2] or path.resolve().parent.name).upper()
    name = re.sub(r"(\.(?:csv|txt|json))?\.\w+$", "", path.name, flags=re.IGNORECASE)
    stooq = re.fullmatch(r"(\^?[a-z0-9]+)(?:_([a-z]{2}))?_[dwmqy]", name)
    if stooq:
        return ".".join(part for part in stooq.groups() if part).upper()
    for pattern, symbol in _FILE_NAMES:
        if re.fullmatch(pattern, name):
            return re.sub(f"^{pattern}$", symbol, name)
    return name or path.name


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
    """Read the symbol of each row; a file without a symbol column has one, named by the file.

    Args:
        rows: the rows as they were read.

    Returns:
        The rows with their symbols.

    Raises:
        DataError: names the first row without a symbol.
    """
    if "symbol" not in rows.frame:
        name = symbol_of(Path(rows.source))
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


def labels_of(frame: pd.DataFrame) -> pd.DataFrame:
    """Columns of text with few values, which may name symbols though nothing says so.

    Args:
        frame: columns that are not read for anything else, by their names in the file.

    Returns:
        Those with at least two values, each in two rows on average.
    """
    kept = {}
    for place, name in enumerate(frame.columns):
        column = frame.iloc[:, place]
        text = pd.api.types.is_string_dtype(column) or isinstance(column.dtype, pd.CategoricalDtype)
        if not text or pd.api.types.is_numeric_dtype(column):
            continue
        try:
            count = column.nunique()
        except TypeError:  # lists and tables
            continue
        if 2 <= count <= len(column) / 2:
            kept[str(name)] = column
    return pd.DataFrame(kept, index=frame.index)


def suspected_symbols(rows: Rows) -> str | None:
    """What a message says of a column of text that tells rows of one time apart.

    Args:
        rows: the rows with their symbols and times.

    Returns:
        None if no time of a symbol repeats, or no column tells its rows apart.
    """
    frame = pd.DataFrame({"code": rows.code, "time": rows.time})
    repeats = int(frame.duplicated().sum())
    labels = [name for name in rows.frame.columns if str(name).startswith(LABEL)]
    for name in labels if repeats else ():
        column = rows.frame[name].astype("str").to_numpy()
        if 2 * int(frame.assign(label=column).duplicated().sum()) <= repeats:
            values = list_text(dict.fromkeys(column), 3)
            return (
                f"column {name.removeprefix(LABEL)} ({values}) tells apart rows of one time, as if it"
                " named symbols: call it symbol, or keep the rows of one value"
            )
    return None
