"""What tells the format of a file of bars: the names of its columns and of the file.

The facts come from the documentation of the programs that write them: Yahoo Finance and the ``to_csv``
of yfinance, Stooq's daily and bulk files, Binance's public data (klines with or without a header, in
milliseconds and, for spot since 2025, microseconds), freqtrade's ``feather`` and ``json`` (a list of
lists), MetaTrader's history export (4: no header; 5: names in angle brackets) and Alpaca's bars.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

from optimizer.errors import DataError
from optimizer.text import list_text

ADJUSTED = "adj_close"
"""Column of adjusted closes, if a file has one."""

ROLES: Mapping[str, tuple[str, ...]] = {
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
"""The names of each column that is used, in lower case, without accents and blanks.

The Polish names are Stooq's.
"""

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
"""Names of columns that tell a format; the first row with all of its names in the file counts."""

KNOWN = "Yahoo, Stooq, Binance klines, freqtrade, MetaTrader 4 and 5, Alpaca, tidy bars"

_KLINES = (
    *("timestamp", "open", "high", "low", "close", "volume", "close_time", "quote_volume"),
    *("count", "taker_buy_volume", "taker_buy_quote_volume", "ignore"),
)
_MT4 = ("date", "time", "open", "high", "low", "close", "volume")
FREQTRADE = ("timestamp", "open", "high", "low", "close", "volume")


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
    """The symbol in the name of a file, by the naming of the programs that write such files.

    Args:
        path: the path of the file.
    """
    name = re.sub(r"(\.(?:csv|txt|json))?\.\w+$", "", path.name, flags=re.IGNORECASE)
    stooq = re.fullmatch(r"(\^?[a-z0-9]+)(?:_([a-z]{2}))?_[dwmqy]", name)
    if stooq:
        return ".".join(part for part in stooq.groups() if part).upper()
    for pattern, symbol in _FILE_NAMES:
        if re.fullmatch(pattern, name):
            return re.sub(f"^{pattern}$", symbol, name)
    return name or path.name


def without_header(cells: Sequence[str]) -> tuple[str, Sequence[str]] | None:
    """Format and columns of a text file without a header.

    Args:
        cells: the cells of its first line.

    Returns:
        None if the first line is a header.
    """
    if len(cells) == len(_KLINES) and re.fullmatch(r"\d{12,17}", cells[0]):
        return "Binance klines", _KLINES
    if len(cells) == len(_MT4) and re.fullmatch(r"\d{4}\.\d\d\.\d\d", cells[0]):
        return "MetaTrader 4", _MT4
    return None


def plain_name(name: object) -> str:
    """The name of a column in lower case, without accents, blanks and punctuation.

    Args:
        name: the name as the file has it.
    """
    text = unicodedata.normalize("NFKD", str(name)).lower()
    return re.sub(r"[^a-z0-9]", "", text)


def format_of(file: Path, header: Sequence[str]) -> str:
    """The name of the format that the columns of a file tell.

    Args:
        file: the name of the file in messages.
        header: names of its columns.

    Raises:
        DataError: no known format has these columns.
    """
    columns = {plain_name(name) for name in header}
    for format, telling in _FORMATS:
        if telling <= columns:
            return format
    raise DataError(
        f"{file}: no known format has its columns: {list_text(map(str, header))}; known: {KNOWN}"
    )


def places_of(file: Path, header: Sequence[str]) -> dict[str, int]:
    """Positions of the columns that are used.

    Args:
        file: the name of the file in messages.
        header: names of its columns.

    Returns:
        Positions by the names of ``ROLES``.

    Raises:
        DataError: a column is missing, or could be one of several.
    """
    found: dict[str, int] = {}
    plain = [plain_name(name) for name in header]
    for role, names in ROLES.items():
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
