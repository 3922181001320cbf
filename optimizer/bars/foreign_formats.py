"""What tells the format of a file of bars: the names of its columns, or the order of nameless ones.

The facts come from the documentation of the programs that write them. The name of a format is for the
report, and for prices that a format writes as whole numbers; what is read is told by the columns.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from optimizer.bars.columns import looks_like_time, plain_name
from optimizer.bars.rows import PRICES
from optimizer.errors import DataError
from optimizer.types import BoolArray, FloatArray

_FORMATS: tuple[tuple[str, frozenset[str]], ...] = (
    ("Stooq (bulk)", frozenset({"ticker", "per", "date"})),
    ("MetaTrader 5", frozenset({"tickvol", "date"})),
    ("MetaTrader 5", frozenset({"tickvolume"})),
    ("Binance klines", frozenset({"opentime", "closetime"})),
    ("Databento", frozenset({"tsevent", "rtype"})),
    ("Polygon flat file", frozenset({"windowstart", "transactions"})),
    ("CryptoDataDownload", frozenset({"unix", "date", "symbol"})),
    ("Tiingo", frozenset({"adjclose", "adjopen", "divcash"})),
    ("Alpha Vantage", frozenset({"adjustedclose", "splitcoefficient"})),
    ("EODHD", frozenset({"adjustedclose"})),
    ("EODHD", frozenset({"gmtoffset", "datetime"})),
    ("Interactive Brokers", frozenset({"average", "barcount"})),
    ("Yahoo", frozenset({"adjclose"})),
    ("Yahoo (yfinance)", frozenset({"dividends", "stocksplits"})),
    ("Alpaca", frozenset({"tradecount", "vwap"})),
    ("Alpaca", frozenset({"t", "o", "h", "l", "c"})),
    ("Stooq", frozenset({"data", "otwarcie"})),
    ("Sierra Chart", frozenset({"last", "numberoftrades"})),
    ("Dukascopy", frozenset({"gmttime"})),
    ("Dukascopy", frozenset({"localtime"})),
    ("NSE bhavcopy", frozenset({"series", "tottrdqty"})),
    ("NSE bhavcopy", frozenset({"tckrsymb", "ttltradgvol"})),
    ("Nasdaq.com", frozenset({"closelast"})),
    ("Investing.com", frozenset({"price", "change"})),
    ("Bitstamp (Kaggle)", frozenset({"volumebtc", "weightedprice"})),
    ("MetaTrader 4", frozenset({"date", "time", "volume"})),
    ("tidy bars", frozenset({"symbol", "open"})),
    ("tidy bars", frozenset({"ticker", "open"})),
    ("Stooq or plain", frozenset({"date", "open"})),
)
"""Names of columns that tell a format; the first row with all of its names in the file counts."""

KNOWN = (
    "Yahoo, Stooq, Binance klines, freqtrade, MetaTrader 4 and 5, Alpaca, Interactive Brokers,"
    " TradingView, Kraken, Coinbase and others, tidy bars"
)


@dataclass(frozen=True)
class Layout:
    """The order of the columns after the time, where nothing names them.

    Attributes:
        format: who writes it.
        names: roles in order; those that are no role of ours are skipped.
    """

    format: str
    names: tuple[str, ...]


_OHLC = PRICES
_LAYOUTS = (
    Layout("plain", _OHLC),
    Layout("plain", (*_OHLC, "volume")),
    Layout("Coinbase", ("low", "high", "open", "close", "volume")),
    Layout("Bitfinex", ("open", "close", "high", "low", "volume")),
    Layout("Kraken OHLCVT", (*_OHLC, "volume", "count")),
    Layout("KuCoin", ("open", "close", "high", "low", "volume", "turnover")),
    Layout("Kraken", (*_OHLC, "vwap", "volume", "count")),
    Layout("OKX", (*_OHLC, "volume", "volume_2", "quote_volume")),
    Layout("OKX", (*_OHLC, "volume", "volume_2", "quote_volume", "confirm")),
    Layout("Binance klines", (*_OHLC, "volume", *(f"other {i}" for i in range(6)))),
)
LEAN_NAME = re.compile(r"(\d{8})(?:_(.+)_(?:minute|second))?_trade\.(?:csv|txt)(?:\.gz)?")
"""The name of a file of LEAN's bars within a day: the day, and the symbol unless its folder has it."""

MILLISECONDS_A_DAY = 86_400_000

_LEAST_FIT = 0.95
"""Share of rows that must keep the rules of bars under a layout."""


def layout_of(source: str, values: FloatArray) -> Layout:
    """The order of nameless columns, which the values tell: no row has its high below its low.

    Args:
        source: the file, in messages.
        values: what follows the time in each row, shape (n_rows, n_columns).

    Returns:
        The only layout whose rules the rows keep, or the first of several that read them alike.

    Raises:
        DataError: no layout fits, or several that differ.
    """
    fitting = []
    for one in _LAYOUTS:
        if len(one.names) == values.shape[1]:
            columns = {name: values[:, i] for i, name in enumerate(one.names)}
            share = float(_keeps_rules(columns).mean()) if len(values) else 1.0
            if share >= _LEAST_FIT and not _looks_like_price(columns):
                fitting.append((share, one, np.stack([columns[name] for name in PRICES])))
    best = [found for found in fitting if found[0] == max(found[0] for found in fitting)]
    if not best or not all(np.array_equal(one[2], best[0][2], equal_nan=True) for one in best[1:]):
        raise DataError(
            f"{source}: the order of its nameless columns cannot be told: with no known order are the"
            " high the highest and the low the lowest of each row; name the columns"
        )
    return best[0][1]


def _keeps_rules(columns: dict[str, FloatArray]) -> BoolArray:
    high, low = columns["high"], columns["low"]
    inner = np.stack([columns["open"], columns["close"]])
    whole = np.isnan([columns[name] for name in PRICES]).any(axis=0)
    kept = (inner.max(axis=0) <= high * (1 + 1e-9)) & (inner.min(axis=0) >= low * (1 - 1e-9))
    result: BoolArray = whole | (kept & (low > 0))
    return result


def _looks_like_price(columns: dict[str, FloatArray]) -> bool:
    """Whether the volume lies between low and high nearly always: then it is an adjusted close."""
    volume = columns.get("volume")
    if volume is None or len(volume) < 2:
        return False
    inside = (volume >= columns["low"]) & (volume <= columns["high"])
    return float(inside.mean()) >= _LEAST_FIT


def times_in_front(cells: Sequence[str]) -> int:
    """How many cells of a line of text without a header are its time: 1, or 2 for a date and a time.

    Args:
        cells: the cells of the first line.

    Returns:
        0 if the line is no bar.
    """
    if len(cells) < 5 or not looks_like_time(cells[0]):
        return 0
    two = bool(re.fullmatch(r"\d\d?:\d\d(:\d\d)?(\.\d+)?", cells[1])) or (
        bool(re.fullmatch(r"\d{4,6}", cells[1])) and bool(re.fullmatch(r"\d{8}", cells[0]))
    )
    begin = 2 if two else 1
    rest = [cell for cell in cells[begin:] if cell]
    number = r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?"
    all_numbers = all(re.fullmatch(number, cell, re.IGNORECASE) for cell in rest)
    return begin if all_numbers and len(rest) >= 4 else 0


def lean_day(name: str) -> str | None:
    """The day of a file of LEAN's bars within one, which its name begins with.

    Args:
        name: the name of the file, such as ``20131007_spy_minute_trade.csv`` or ``20131007_trade.csv``.

    Returns:
        Such as ``20131007``; None if it is no name of such a file.
    """
    match = LEAN_NAME.fullmatch(name.lower())
    return None if match is None else match[1]


def format_of_bare(layout: Layout, cells: Sequence[str]) -> str:
    """The name of the format of a text file without a header.

    Args:
        layout: the order of its columns.
        cells: the cells of its first line.
    """
    if layout.format != "plain":
        return layout.format
    if re.fullmatch(r"\d{4}\.\d\d\.\d\d", cells[0]):
        return "MetaTrader 4"
    if re.fullmatch(r"\d{8} \d{6}", cells[0]):
        return "HistData"
    if re.fullmatch(r"\d{8} \d\d:\d\d", cells[0]):
        return "LEAN"
    if re.fullmatch(r"\d\d/\d\d/\d{4}", cells[0]):
        return "Kibot"
    return "plain, without a header"


def format_of(header: Sequence[str]) -> str:
    """The name of the format that the columns of a file tell.

    Args:
        header: names of its columns.
    """
    columns = {plain_name(name) for name in header}
    return next((format for format, telling in _FORMATS if telling <= columns), "plain")
