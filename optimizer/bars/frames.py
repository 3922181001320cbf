"""Bars from a DataFrame of pandas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from optimizer.bars.columns import find_columns, role_of
from optimizer.bars.load import read_bars
from optimizer.bars.rows import VALUES, Rows
from optimizer.bars.timestamps import Moment
from optimizer.catalogue import Align
from optimizer.errors import DataError
from optimizer.text import list_text, quoted
from optimizer.types import Bars

SOURCE = "<frame>"
"""What messages call a DataFrame, as they name a file."""


_INDEXED = ("symbol", "timestamp", "date", "time")
"""What an index can say."""


def bars_from_frame(
    frame: pd.DataFrame,
    symbols: Sequence[str] | str | None = None,
    start: Moment | None = None,
    end: Moment | None = None,
    *,
    symbol: str | None = None,
    align: Align = "inner",
    timezone: str = "UTC",
    bars_per_year: float | None = None,
    bar: str | None = None,
    funding: str | None = None,
    dividends: str | None = None,
) -> Bars:
    """Read bars from a DataFrame, with the checks and messages of ``load_bars``.

    Three forms are read. Tidy: a row for each symbol and bar, with the columns that ``load_bars`` reads,
    of which symbol and timestamp may be levels of the index. Wide: two levels of columns, fields and
    symbols in either order, and the times as index; a symbol lacks the bars whose fields are all empty.
    One symbol: the fields as columns, the times as index or column, and no symbol.

    >>> import pandas as pd
    >>> days = pd.date_range("2024-01-02", periods=3, name="date")
    >>> frame = pd.DataFrame({"open": [10.0, 11.0, 12.0], "volume": 100}, days)
    >>> frame["high"] = frame["low"] = frame["close"] = frame["open"]
    >>> bars = bars_from_frame(frame, symbol="SPY")
    >>> bars.symbols, bars.n_bars
    (('SPY',), 3)

    Args:
        frame: the bars; its arrays are copied and stay writable.
        symbols, start, end, align, timezone, bars_per_year, bar, funding, dividends: the arguments that
            ``load_bars`` takes.
        symbol: the name of the one symbol of a frame that names none.

    Returns:
        The bars, timestamps in UTC.

    Raises:
        DataError: the frame has none of these forms, or its bars cannot be used.
    """
    return read_bars(
        lambda others: _rows(frame, symbol, others),
        SOURCE,
        symbols,
        start,
        end,
        align=align,
        timezone=timezone,
        bars_per_year=bars_per_year,
        bar=bar,
        funding=funding,
        dividends=dividends,
    )


def _rows(frame: pd.DataFrame, symbol: str | None, others: Mapping[str, str]) -> Rows:
    """The rows of a frame in any form, under standard names."""
    if not isinstance(frame, pd.DataFrame):
        raise DataError(f"{SOURCE}: got {quoted(frame)}; expected a DataFrame of pandas")
    if frame.empty:
        raise DataError(f"{SOURCE}: has no rows")
    tidy = frame.set_axis(pd.RangeIndex(1, len(frame) + 1))
    if frame.columns.nlevels > 1:
        tidy = _stacked(tidy)
    beside, places = _index_columns(frame.index), tidy.index.to_numpy(np.int64) - 1
    tidy = tidy.assign(**{name: values.take(places) for name, values in beside.items()})
    header = [str(name) for name in tidy.columns]
    at = find_columns(SOURCE, header, others, lambda i: tidy.iloc[0, i]).places
    if "volume" not in at:
        raise DataError(f"{SOURCE}: no column volume; add one, with 0 if it is unknown")
    time = next(name for name in ("timestamp", "date", "time") if name in at)
    wanted = ("symbol", time, *VALUES, *others)
    found = {"timestamp" if name == time else name: at[name] for name in wanted if name in at}
    chosen = tidy.iloc[:, list(found.values())].set_axis(list(found), axis=1)
    if "symbol" in found:
        if symbol is not None:
            raise DataError(
                f"{SOURCE}: symbol = {quoted(symbol)} is for a frame that names no symbol; choose with"
                " symbols"
            )
    elif symbol is None:
        raise DataError(f'{SOURCE}: names no symbol; add a column symbol, or symbol = "SPY"')
    else:
        chosen.insert(0, "symbol", symbol)
    return Rows(SOURCE, "row", chosen)


def _index_columns(index: pd.Index) -> dict[str, pd.Index]:
    """What the index says of times and symbols, by column."""
    if isinstance(index, pd.MultiIndex):
        levels = {str(name): index.get_level_values(i) for i, name in enumerate(index.names)}
        return {name: values for name, values in levels.items() if role_of(name) in _INDEXED}
    if isinstance(index, (pd.DatetimeIndex, pd.PeriodIndex)):
        times = index.to_timestamp() if isinstance(index, pd.PeriodIndex) else index
        return {"timestamp": times}
    name = str(index.name)
    return {name: index} if role_of(name) in _INDEXED else {}


def _stacked(frame: pd.DataFrame) -> pd.DataFrame:
    """A wide frame with a row for each symbol and bar; rows keep their numbers."""
    levels = [frame.columns.get_level_values(i) for i in range(frame.columns.nlevels)]
    fields = [{str(one).strip().lower() for one in level} for level in levels]
    found = [i for i, names in enumerate(fields) if set(VALUES) <= names]
    if len(levels) != 2 or not found:
        raise DataError(
            f"{SOURCE}: columns in {len(levels)} levels, none of which has {list_text(VALUES)};"
            " expected one level of these fields and one of symbols"
        )
    names, symbols = levels[found[0]], levels[1 - found[0]]
    parts = []
    for symbol in symbols.unique():
        own = frame.loc[:, symbols == symbol].set_axis(names[symbols == symbol], axis=1)
        parts.append(own[own.notna().any(axis=1)].assign(symbol=str(symbol)))
    stacked: pd.DataFrame = pd.concat(parts)
    return stacked
