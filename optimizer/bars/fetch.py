"""Download bars from Yahoo (yfinance) and from crypto exchanges (ccxt).

Both libraries are optional and are imported only here. What they return passes the same checks as a
file that is imported.
"""

from __future__ import annotations

import contextlib
import datetime
import difflib
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from optimizer.bars.columns import ADJUSTED
from optimizer.bars.fixes import Fixes
from optimizer.bars.import_report import ImportReport
from optimizer.bars.importing import check_out, write_bars
from optimizer.bars.rows import VALUES
from optimizer.bars.tidy import Foreign
from optimizer.errors import DataError
from optimizer.extras import optional_module
from optimizer.text import one_line

YAHOO = "yahoo"
_VALID = f"valid: {YAHOO}, or an exchange of ccxt, such as binance, coinbase, kraken or okx"
_COLUMNS = {
    **{name.title(): name for name in VALUES},
    "Adj Close": ADJUSTED,
}
_PAGE = 1000
"""Bars requested in one call; an exchange may send fewer."""


def fetch_bars(
    source: str,
    symbols: Sequence[str],
    out: str | os.PathLike[str],
    *,
    start: str,
    end: str | None = None,
    bar: str = "1d",
    calendar: str | None = None,
    fixes: Fixes | None = None,
    overwrite: bool = False,
) -> ImportReport:
    """Download bars and write them as one tidy Parquet file.

    Args:
        source: ``yahoo``, or an exchange of ccxt such as ``binance``.
        symbols: the symbols as the source writes them, such as ``SPY`` or ``BTC/USDT``.
        out: a ``.parquet`` file, written whole or not at all.
        start, end: first and last day, both inclusive, such as 2015-01-31; None ends now.
        bar: size of a bar as the source writes it, such as ``1d``, ``1h`` or ``5m``.
        calendar, fixes, overwrite: the same as for ``import_bars``.

    Returns:
        What was read, found and fixed.

    Raises:
        DataError: the library is not installed, or the source refuses, has no bars, or sends
            something else; names the source and the symbol.
    """
    if not symbols:
        raise DataError(f"{source}: no symbols to fetch; name at least one")
    if not all(map(str.strip, (source, *symbols))):
        raise DataError(
            f"a source or a symbol is empty; sources are {_VALID.removeprefix('valid: ')}"
        )
    check_out(Path(out), (), overwrite)
    first = _day("--start", start)
    last = _day("--end", end) if end is not None else None
    if last is not None and last < first:
        raise DataError(f"--end {end} is before --start {start}; swap them")
    fetch = _fetch_yahoo if source.lower() == YAHOO else _fetch_exchange
    foreign = list(fetch(source.lower(), tuple(dict.fromkeys(symbols)), first, last, bar))
    return write_bars(foreign, out, calendar=calendar, fixes=fixes)


def _nearest(name: str, valid: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, [YAHOO, *valid], n=1)
    return f'did you mean "{near[0]}"? ' if near else ""


def _day(option: str, text: str) -> datetime.date:
    try:
        return datetime.date.fromisoformat(text)
    except ValueError:
        raise DataError(f"{option}: got {text!r}; expected a day such as 2015-01-31") from None


def _fetch_yahoo(
    source: str,
    symbols: Sequence[str],
    first: datetime.date,
    last: datetime.date | None,
    bar: str,
) -> Iterator[Foreign]:
    library = optional_module("yfinance", "yahoo")
    with _last_words("yfinance") as words:
        try:
            frame = library.download(
                list(symbols),
                start=first.isoformat(),
                # Yahoo's end is exclusive.
                end=(last + datetime.timedelta(days=1)).isoformat() if last is not None else None,
                interval=bar,
                auto_adjust=False,
                actions=False,
                group_by="column",
                progress=False,
                multi_level_index=True,
            )
        except Exception as error:  # the library lets errors of several others through
            raise DataError(f"{source}: {one_line(error)}") from None
    if frame is None or frame.empty:
        why = f" ({' '.join(words[-1].split())})" if words else ""
        raise DataError(
            f"{source}: sent no bars of {', '.join(symbols)} from {first}{why}; check the names, the"
            " span and the connection"
        )
    for symbol in symbols:
        yield _yahoo_symbol(source, frame, symbol)


@contextlib.contextmanager
def _last_words(library: str) -> Iterator[list[str]]:
    """Keep what a library logs for our own message, and silence its deprecation warnings."""
    words: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: words.append(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger(library)
    propagates, log.propagate = log.propagate, False
    others, log.handlers = log.handlers, [handler]
    try:
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            yield words
    finally:
        log.propagate, log.handlers = propagates, others


def _yahoo_symbol(source: str, frame: pd.DataFrame, symbol: str) -> Foreign:
    """The part of one ticker of a frame whose columns are (price, ticker)."""
    place = f"{source} {symbol}"
    columns = frame.columns
    if not isinstance(columns, pd.MultiIndex) or columns.nlevels != 2:
        raise DataError(f"{place}: sent columns {list(columns)}; expected (price, ticker)")
    if str(columns[0][0]) not in _COLUMNS:
        frame = frame.swaplevel(0, 1, axis=1)
    found = {
        ours: frame[(theirs, symbol)]
        for theirs, ours in _COLUMNS.items()
        if (theirs, symbol) in frame.columns
    }
    missing = [name for name in VALUES if name not in found]
    if missing:
        raise DataError(f"{place}: sent no {', '.join(missing)}; check the symbol's name")
    part = pd.DataFrame(found)
    # Tickers share the index; where one did not trade its row is empty.
    part = part[part.notna().any(axis=1)]
    if part.empty:
        raise DataError(f"{place}: sent no bars; check the symbol's name and the span")
    tidy = part.assign(symbol=symbol, timestamp=part.index)
    tidy.index = pd.RangeIndex(1, len(tidy) + 1)
    return Foreign(place, "Yahoo (yfinance)", "row", tidy, "asked for")


def _fetch_exchange(
    source: str,
    symbols: Sequence[str],
    first: datetime.date,
    last: datetime.date | None,
    bar: str,
) -> Iterator[Foreign]:
    try:
        library = optional_module("ccxt", "crypto")
    except DataError as error:
        raise DataError(f"{source}: {error}; {_VALID}") from None
    if source not in library.exchanges:
        raise DataError(f"{source}: no such source; {_nearest(source, library.exchanges)}{_VALID}")
    exchange = getattr(library, source)({"enableRateLimit": True})
    if not exchange.has.get("fetchOHLCV"):
        raise DataError(f"{source}: the exchange offers no bars; use another")
    sizes = exchange.timeframes or {}
    if bar not in sizes:
        raise DataError(f"{source}: --bar: got {bar!r}; valid: {', '.join(sizes)}")
    begin = _milliseconds(first)
    until = exchange.milliseconds()
    if last is not None:
        until = min(until, _milliseconds(last + datetime.timedelta(days=1)))
    step = int(exchange.parse_timeframe(bar)) * 1000
    for symbol in symbols:
        place = f"{source} {symbol}"
        try:
            rows = closed_bars(exchange, symbol, bar, begin, until, step)
        except library.BaseError as error:
            raise DataError(f"{place}: {type(error).__name__}: {one_line(error)}") from None
        if not rows:
            raise DataError(f"{place}: sent no bars from {first}; check the symbol and the span")
        table = np.array([row[:6] for row in rows], dtype=np.float64)
        frame = pd.DataFrame(table[:, 1:], columns=list(VALUES))
        frame.insert(0, "timestamp", table[:, 0].astype(np.int64).view("datetime64[ms]"))
        frame.index = pd.RangeIndex(1, len(frame) + 1)
        frame = frame.assign(symbol=symbol)
        yield Foreign(place, f"{source} (ccxt)", "row", frame, "asked for")


def _milliseconds(day: datetime.date) -> int:
    midnight = datetime.datetime.combine(day, datetime.time(), datetime.UTC)
    return int(midnight.timestamp()) * 1000


def closed_bars(
    exchange: Any, symbol: str, bar: str, begin: int, until: int, step: int
) -> list[list[float]]:
    """The bars that begin at ``begin`` or later and end by ``until``, page by page.

    The bar that is still forming is left out. A page without new bars is the last.

    Args:
        exchange: an exchange of ccxt.
        symbol: the symbol as ccxt names it.
        bar: size of a bar as ccxt names it.
        begin, until: milliseconds since 1970.
        step: duration of a bar, milliseconds.

    Returns:
        A row a bar: time, open, high, low, close, volume.

    Raises:
        DataError: a row is something else.
    """
    rows: list[list[float]] = []
    since = begin
    while since + step <= until:
        page = exchange.fetch_ohlcv(symbol, bar, since=since, limit=_PAGE)
        if not all(map(_is_row, page)):
            raise DataError(
                f"{exchange.id} {symbol}: sent a row that is not [time, open, high, low, close, volume]"
            )
        new = [row for row in page if row[0] >= since]
        if not new:
            break
        rows += [row for row in new if row[0] + step <= until]
        since = int(max(row[0] for row in new)) + 1
    return rows


def _is_row(row: Any) -> bool:
    """Whether a row is a time and five numbers; an exchange may send None for a number."""
    return (
        isinstance(row, (list, tuple))
        and len(row) >= 6
        and isinstance(row[0], (int, float))
        and all(one is None or isinstance(one, (int, float)) for one in row[1:6])
    )
