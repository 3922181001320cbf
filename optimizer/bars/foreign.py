"""Bars as other programs export them: recognised by their columns, read, and not judged.

Column facts come from the exporters' own documentation: Yahoo Finance and yfinance's ``to_csv``,
Stooq's daily and bulk files, Binance's public data (klines, without and with a header, milliseconds
and, for spot since 2025, microseconds), freqtrade's ``feather`` and ``json`` (a list of lists),
MetaTrader's history export (4: no header; 5: names in angle brackets) and Alpaca's bars.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
import unicodedata
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.feather
import pyarrow.parquet as pq

from optimizer.bars.read import MISSING_TEXTS, UNREADABLE
from optimizer.bars.rows import VALUES
from optimizer.errors import DataError
from optimizer.text import list_text, one_line

ADJUSTED = "adj_close"
"""Column of a foreign file that holds adjusted closes, where it has them."""

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

_ROLES: Mapping[str, tuple[str, ...]] = {
    "symbol": ("symbol", "ticker"),
    "timestamp": ("timestamp", "datetime", "opentime", "t"),
    "date": ("date", "data"),
    "time": ("time",),
    "open": ("open", "o", "otwarcie"),
    "high": ("high", "h", "najwyzszy"),
    "low": ("low", "l", "najnizszy"),
    "close": ("close", "c", "zamkniecie"),
    "volume": ("volume", "vol", "v", "wolumen"),
    "tick_volume": ("tickvol", "tickvolume"),
    ADJUSTED: ("adjclose",),
}
"""What a column is, by its name without case, marks and blanks; Stooq's Polish names too."""

_FORMATS: tuple[tuple[str, frozenset[str]], ...] = (
    ("Stooq (bulk)", frozenset({"ticker", "per", "date"})),
    ("MetaTrader 5", frozenset({"tickvol", "date"})),
    ("MetaTrader 5", frozenset({"tickvolume"})),
    ("Binance klines", frozenset({"opentime", "closetime"})),
    ("Yahoo", frozenset({"adjclose"})),
    ("Yahoo (yfinance)", frozenset({"dividends", "stocksplits"})),
    ("Alpaca", frozenset({"tradecount", "vwap"})),
    ("Alpaca", frozenset({"t", "o", "h", "l", "c"})),
    ("Stooq", frozenset({"data", "otwarcie"})),
    ("MetaTrader 4", frozenset({"date", "time", "volume"})),
    ("tidy bars", frozenset({"symbol", "open"})),
    ("tidy bars", frozenset({"ticker", "open"})),
    ("Stooq or plain", frozenset({"date", "open"})),
    ("plain", frozenset({"timestamp", "open"})),
    ("plain", frozenset({"datetime", "open"})),
    ("plain", frozenset({"time", "open"})),
)
"""Names of columns that tell a format; the first that are all there."""

KNOWN = "Yahoo, Stooq, Binance klines, freqtrade, MetaTrader 4 and 5, Alpaca, tidy bars"

_KLINES = (
    *("timestamp", "open", "high", "low", "close", "volume", "close_time", "quote_volume"),
    *("count", "taker_buy_volume", "taker_buy_quote_volume", "ignore"),
)
_MT4 = ("date", "time", "open", "high", "low", "close", "volume")
_FREQTRADE = ("timestamp", "open", "high", "low", "close", "volume")


@dataclass(frozen=True)
class Foreign:
    """A file of bars as it stands, its columns under our names.

    Attributes:
        source: the file.
        format: the format recognised.
        unit: what a row is called: ``line`` of a text file, else ``row``.
        frame: columns symbol, timestamp, open, high, low, close and volume, perhaps ``adj_close``;
            the index numbers the lines or rows. No volume column where the file has none.
        symbol_from: where the symbol's name came from, for the report.
        notes: what else a reader of the report should know.
    """

    source: str
    format: str
    unit: str
    frame: pd.DataFrame
    symbol_from: str
    notes: tuple[str, ...] = ()


def read_foreign(path: str | os.PathLike[str], symbol: str | None = None) -> Foreign:
    """Read a file of bars in any of the formats known, told by its columns.

    Args:
        path: CSV (also of tabs or semicolons, and gzipped), JSON, feather or Parquet.
        symbol: name of the symbol, where the file holds one and does not name it; None takes the
            name from the file's.

    Raises:
        DataError: it cannot be read, or is of no known format; names the file.
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
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{file}: no such file") from None
    except UnicodeError as error:
        raise DataError(f"{file}: is not UTF-8 or UTF-16 text ({one_line(error)})") from None
    except (*UNREADABLE, RecursionError, OverflowError, ValueError) as error:
        raise DataError(
            f"{file}: cannot be read, it may be cut off or of another kind ({one_line(error)})"
        ) from None
    if found.frame.empty:
        raise DataError(f"{file}: has no rows")
    return _named(found, symbol)


def _named(found: Foreign, symbol: str | None) -> Foreign:
    """The same with a symbol in each row."""
    frame, origin = found.frame, "named in the file"
    if symbol is not None:
        if "symbol" in frame and frame["symbol"].nunique() > 1:
            raise DataError(
                f"{found.source}: --symbol {symbol}: the file names several symbols itself; leave"
                " the option out"
            )
        frame, origin = frame.assign(symbol=symbol), "given"
    elif "symbol" not in frame:
        frame, origin = frame.assign(symbol=symbol_of(Path(found.source))), "from the file's name"
    return Foreign(found.source, found.format, found.unit, frame, origin, found.notes)


_TIMEFRAMES = r"(?:M1|M2|M3|M4|M5|M6|M10|M12|M15|M20|M30|H1|H2|H3|H4|H6|H8|H12|D1|W1|MN1?|Daily)"
_FILE_NAMES = (
    # freqtrade: BTC_USDT-5m.feather, BTC_USDT_USDT-1h-futures.feather
    (r"([A-Za-z0-9]+)_([A-Za-z0-9]+)-\d+[a-zA-Z]{1,2}", r"\1/\2"),
    (r"([A-Za-z0-9]+)_([A-Za-z0-9]+)_([A-Za-z0-9]+)-\d+[a-zA-Z]{1,2}(?:-[a-z_]+)?", r"\1/\2:\3"),
    # Binance: BTCUSDT-1h-2025-01.csv
    (r"([A-Z0-9]+)-\d+(?:s|m|h|d|w|mo)(?:-\d{4}-\d\d(?:-\d\d)?)?", r"\1"),
    # MetaTrader: EURUSD_M15_201801020000_201912312345.csv, EURUSD1440.csv
    (rf"(?:DAT_MT_)?([A-Za-z0-9.#]+?)_{_TIMEFRAMES}(?:_\w*)?", r"\1"),
    (r"([A-Z]{6})(?:1|5|15|30|60|240|1440|10080|43200)", r"\1"),
)


def symbol_of(path: Path) -> str:
    """The symbol that a file is named for, by the habits of the programs that wrote it."""
    name = re.sub(r"(\.(?:csv|txt|json))?\.\w+$", "", path.name, flags=re.IGNORECASE)
    stooq = re.fullmatch(r"(\^?[a-z0-9]+)(?:_([a-z]{2}))?_[dwmqy]", name)
    if stooq:
        return ".".join(part for part in stooq.groups() if part).upper()
    for pattern, symbol in _FILE_NAMES:
        if re.fullmatch(pattern, name):
            return re.sub(f"^{pattern}$", symbol, name)
    return name or path.name


def _read(file: Path) -> Foreign:
    name = file.name.lower()
    if name.endswith((".json", ".json.gz")):
        return _read_json(file)
    if name.endswith(".feather"):
        with file.open("rb") as handle:
            table = pyarrow.feather.read_table(handle, memory_map=False)
        columns = set(map(_plain, table.column_names))
        bare = columns == {"date", "open", "high", "low", "close", "volume"}
        return _of_table(file, table, "freqtrade" if bare else None)
    if name.endswith((".parquet", ".pq")):
        with file.open("rb") as handle, pq.ParquetFile(handle) as parquet:
            return _of_table(file, parquet.read(), None)
    return _read_text(file)


def _of_table(file: Path, table: Any, format: str | None) -> Foreign:
    header = table.column_names
    known = format or _format_of(file, header)
    places = _places(file, header)
    table = table.select(list(places.values())).rename_columns(list(places))
    frame = table.to_pandas(date_as_object=False, ignore_metadata=True)
    frame.index = pd.RangeIndex(1, len(frame) + 1)
    return _tidy(file, known, "row", frame)


def _read_json(file: Path) -> Foreign:
    """freqtrade's: a list of [milliseconds, open, high, low, close, volume]."""
    data = file.read_bytes()
    content = json.loads(gzip.decompress(data) if file.name.lower().endswith(".gz") else data)
    if not isinstance(content, list) or not all(
        isinstance(row, list) and len(row) == len(_FREQTRADE) for row in content
    ):
        raise DataError(
            f"{file}: is no list of [time, open, high, low, close, volume] as freqtrade writes it"
        )
    for number, row in enumerate(content, 1):
        if not all(one is None or type(one) in (int, float) for one in row):
            raise DataError(f"{file}, row {number}: holds something else than numbers")
    numbers = np.array(content, dtype=np.float64).reshape(-1, len(_FREQTRADE))
    frame = pd.DataFrame(numbers, columns=list(_FREQTRADE))
    frame.index = pd.RangeIndex(1, len(frame) + 1)
    return _tidy(file, "freqtrade", "row", frame)


def _decoded(file: Path) -> str:
    data = file.read_bytes()
    if file.name.lower().endswith(".gz"):
        data = gzip.decompress(data)
    wide = data[:2] in (b"\xff\xfe", b"\xfe\xff")  # MetaTrader may write UTF-16
    return data.decode("utf-16" if wide else "utf-8-sig")


def _read_text(file: Path) -> Foreign:
    text = _decoded(file)
    first = text.split("\n", 1)[0]
    delimiter = max(",\t;", key=first.count)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    head = [[cell.strip() for cell in row] for row, _ in zip(lines, range(3), strict=False)]
    if not head or not any(head[0]):
        raise DataError(f"{file}: line 1 is blank; it must name the columns or hold a bar")
    if sorted(row[0] for row in head[:2] if row) == ["Price", "Ticker"]:
        return _read_yfinance(file, text, head)
    bare = _without_header(head[0])
    if bare is not None:
        known, names = bare
        frame = _parse(text, names, 0, delimiter, ("date", "time"))
        return _tidy(file, known, "line", frame[[n for n in names if n in _ROLES]])
    known = _format_of(file, head[0])
    places = _places(file, head[0])
    names = [f"other column {i}" for i in range(len(head[0]))]
    for role, place in places.items():
        names[place] = role
    frame = _parse(text, names, 1, delimiter, ("date", "time", "symbol"))
    return _tidy(file, known, "line", frame[list(places)])


def _parse(
    text: str, names: Sequence[str], n_head: int, delimiter: str, texts: Sequence[str]
) -> pd.DataFrame:
    with warnings.catch_warnings():
        # Lines longer than the header: pandas would drop what stands beyond it.
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


def _without_header(cells: Sequence[str]) -> tuple[str, Sequence[str]] | None:
    """Format and columns of a file whose first line is a bar already."""
    if len(cells) == len(_KLINES) and re.fullmatch(r"\d{12,17}", cells[0]):
        return "Binance klines", _KLINES
    if len(cells) == len(_MT4) and re.fullmatch(r"\d{4}\.\d\d\.\d\d", cells[0]):
        return "MetaTrader 4", _MT4
    return None


def _read_yfinance(file: Path, text: str, head: Sequence[Sequence[str]]) -> Foreign:
    """What yfinance's ``to_csv`` writes: lines of prices, of tickers, and of the index's name."""
    prices, tickers = (head[0], head[1]) if head[0][0] == "Price" else (head[1], head[0])
    if len(prices) != len(tickers):
        raise DataError(f"{file}: lines 1 and 2 name columns of different numbers")
    names = ["timestamp", *(str(i) for i in range(1, len(prices)))]
    frame = _parse(text, names, 3, ",", ("timestamp",))
    parts = []
    for ticker in dict.fromkeys(tickers[1:]):
        header = [p if t == ticker else "" for p, t in zip(prices, tickers, strict=True)]
        places = _places(file, ["timestamp", *header[1:]])
        part = frame[[names[i] for i in places.values()]].set_axis(list(places), axis=1)
        # Tickers share the lines; where one did not trade its cells are empty.
        part = part[part[[n for n in places if n != "timestamp"]].notna().any(axis=1)]
        parts.append(part.assign(symbol=ticker))
    if not parts:
        raise DataError(f"{file}: names no ticker in its second line")
    return _tidy(file, "Yahoo (yfinance)", "line", pd.concat(parts))


def _plain(name: object) -> str:
    text = unicodedata.normalize("NFKD", str(name)).lower()
    return re.sub(r"[^a-z0-9]", "", text)


def _format_of(file: Path, header: Sequence[str]) -> str:
    columns = {_plain(name) for name in header}
    for format, telling in _FORMATS:
        if telling <= columns:
            return format
    raise DataError(
        f"{file}: its columns are those of no known format: {list_text(map(str, header))}; known: "
        f"{KNOWN}"
    )


def _places(file: Path, header: Sequence[str]) -> dict[str, int]:
    """Where the columns stand that are used, by their roles."""
    found: dict[str, int] = {}
    plain = [_plain(name) for name in header]
    for role, names in _ROLES.items():
        places = [i for i, name in enumerate(plain) if name in names]
        if len(places) > 1:
            both = ", ".join(header[i] for i in places)
            raise DataError(f"{file}: several columns could be {role}: {both}; keep or rename one")
        if places:
            found[role] = places[0]
    if "timestamp" in found:
        found.pop("date", None)
        found.pop("time", None)
    missing = [name for name in ("open", "high", "low", "close") if name not in found]
    if not {"timestamp", "date", "time"} & found.keys():
        missing.append("date or timestamp")
    if missing:
        raise DataError(
            f"{file}: no column {', '.join(missing)}; found: {list_text(map(str, header))}"
        )
    return found


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
