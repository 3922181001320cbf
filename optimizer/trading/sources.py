"""Where bars are asked for: exchanges of ccxt, and Alpaca."""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd

from optimizer.bars.fetch import closed_bars
from optimizer.bars.rows import VALUES
from optimizer.bars.times import DAY, HOUR, SECOND, duration_text
from optimizer.errors import BrokerError, DataError
from optimizer.trading.alpaca_server import AlpacaServer
from optimizer.trading.broker import OutageError
from optimizer.trading.ccxt_exchange import CcxtExchange, time_of

ADDRESS, TAPE = "APCA_API_DATA_URL", "APCA_API_DATA_FEED"
"""Variables of the environment: another address of Alpaca's bars, and whose trades they are made of."""

_MILLISECOND = 1_000_000
_PAGE = 10_000
"""Bars of all symbols that Alpaca sends at once."""


class BarSource(Protocol):
    """Something that is asked for bars."""

    name: str

    def rows(
        self, symbols: Sequence[str], size: int, since: np.datetime64, until: np.datetime64
    ) -> pd.DataFrame:
        """The bars of some symbols that have closed.

        Args:
            symbols: the symbols.
            size: duration of a bar, nanoseconds.
            since: time of the first bar, UTC.
            until: the time by which the last one has ended, UTC, by the clock of this machine, which may
                be wrong.

        Returns:
            A row a symbol and bar: ``symbol``, ``timestamp`` (UTC, datetime64[ns]), ``open``, ``high``,
            ``low``, ``close`` and ``volume``.

        Raises:
            OutageError: it cannot be reached, or asks to wait.
            DataError: it sends something else than bars.
            BrokerError: it has none of that size, or refuses the keys.
        """


class CcxtSource:
    """The bars of an exchange.

    Args:
        exchange: the exchange, by whose clock bars close.
        max_skew: seconds by which this machine's clock may be ahead, which are waited for after a close
            where the exchange does not tell its time.
    """

    def __init__(self, exchange: CcxtExchange, max_skew: float = 10.0) -> None:
        self._exchange, self._max_skew = exchange, max_skew
        self.name = exchange.name

    def rows(
        self, symbols: Sequence[str], size: int, since: np.datetime64, until: np.datetime64
    ) -> pd.DataFrame:
        """The bars of some symbols that have closed.

        Args:
            symbols: the symbols as ccxt names them.
            size: duration of a bar, nanoseconds.
            since: time of the first bar, UTC.
            until: the time by which the last one has ended, UTC.

        Returns:
            See ``BarSource``.

        Raises:
            OutageError, DataError, BrokerError: see ``BarSource``.
        """

        def read(exchange: Any) -> pd.DataFrame:
            sizes = {
                int(exchange.parse_timeframe(name)) * 1000 * _MILLISECOND: name
                for name in exchange.timeframes or {}
            }
            if size not in sizes:
                valid = ", ".join(sizes.values())
                raise BrokerError(
                    f"{self.name}: has no bars of {duration_text(size)}; valid: {valid}"
                )
            time = time_of(exchange)
            if time is None:
                end = _milliseconds(_earlier(until, self._max_skew))
            else:
                end = min(_milliseconds(until), time)
            span = _milliseconds(since), end, size // _MILLISECOND
            found = [
                (symbol, row)
                for symbol in symbols
                for row in closed_bars(exchange, symbol, sizes[size], *span)
            ]
            times = [np.datetime64(int(row[0]), "ms") for _, row in found]
            return _frame([symbol for symbol, _ in found], times, [row[1:6] for _, row in found])

        return self._exchange.ask_here(read)


class AlpacaSource:
    """The bars of stocks at Alpaca, adjusted for splits.

    Args:
        environment: the keys, perhaps ``APCA_API_DATA_URL``, and ``APCA_API_DATA_FEED``: ``iex`` unless
            it names another; None takes the variables of this process.
        timeout: seconds that an answer may take.
        max_skew: seconds by which this machine's clock may be ahead, which are waited for after a close.

    Raises:
        BrokerError: a key is missing, or the address is neither one of https nor one of this machine.
    """

    name = "alpaca"

    def __init__(
        self,
        environment: Mapping[str, str] | None = None,
        timeout: float = 10.0,
        max_skew: float = 10.0,
    ) -> None:
        variables = os.environ if environment is None else environment
        self._server = AlpacaServer(ADDRESS, "https://data.alpaca.markets", environment, timeout)
        self._tape = variables.get(TAPE) or "iex"
        self._max_skew = max_skew

    def rows(
        self, symbols: Sequence[str], size: int, since: np.datetime64, until: np.datetime64
    ) -> pd.DataFrame:
        """The bars of some symbols that have closed.

        Args:
            symbols: the symbols.
            size: duration of a bar, nanoseconds.
            since: time of the first bar, UTC.
            until: the time by which the last one has ended, UTC.

        Returns:
            See ``BarSource``.

        Raises:
            OutageError, DataError, BrokerError: see ``BarSource``.
        """
        until = _earlier(until, self._max_skew)
        query = {
            "symbols": ",".join(symbols),
            "timeframe": _timeframe(size),
            "start": f"{since.astype('datetime64[s]')}Z",
            "end": f"{until.astype('datetime64[s]')}Z",
            "limit": str(_PAGE),
            "adjustment": "split",
            "feed": self._tape,
        }
        names, times, values = [], [], []
        while True:
            path = f"/v2/stocks/bars?{urllib.parse.urlencode(query)}"
            answer = self._server.checked(*self._server.ask("GET", path), "bars")
            try:
                for symbol, bars in (answer["bars"] or {}).items():
                    for bar in bars:
                        time = np.datetime64(str(bar["t"]).removesuffix("Z"), "ns")
                        if time + np.timedelta64(size, "ns") <= until:
                            names.append(str(symbol))
                            times.append(time)
                            values.append([bar[name[0]] for name in VALUES])
                token = answer.get("next_page_token")
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise OutageError(f"bars: an answer that cannot be read: {error!r}") from None
            if not token:
                return _frame(names, times, values)
            query["page_token"] = token


def _timeframe(size: int) -> str:
    """The size of a bar as Alpaca writes it."""
    for unit, name, most in ((DAY, "Day", 1), (HOUR, "Hour", 23), (60 * SECOND, "Min", 59)):
        if size % unit == 0 and size // unit <= most:
            return f"{size // unit}{name}"
    raise BrokerError(
        f"alpaca: has no bars of {duration_text(size)}; valid: 1 to 59 min, 1 to 23 h, 1 d"
    )


def _earlier(time: np.datetime64, seconds: float) -> np.datetime64:
    return time - np.timedelta64(round(seconds * SECOND), "ns")


def _milliseconds(time: np.datetime64) -> int:
    return int(time.astype("datetime64[ms]").astype(np.int64))


def _frame(
    symbols: Sequence[str], times: Sequence[np.datetime64], values: Sequence[Sequence[Any]]
) -> pd.DataFrame:
    try:
        table = np.array(values, dtype=np.float64).reshape(-1, len(VALUES))
    except (TypeError, ValueError):
        raise DataError("bars with values that are no numbers") from None
    frame = pd.DataFrame(table, columns=list(VALUES))
    frame.insert(0, "timestamp", np.array(times, dtype="datetime64[ns]"))
    return frame.assign(symbol=list(symbols))
