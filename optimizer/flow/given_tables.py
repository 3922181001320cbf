"""Tables with a value for each bar and symbol, as users have them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from optimizer.errors import DataError
from optimizer.text import list_text, quoted
from optimizer.types import Bars, BoolArray, FloatArray

Table = pd.DataFrame | pd.Series | np.ndarray[Any, Any]
"""A value for each bar and symbol: a DataFrame with the times and symbols of the bars, an array of shape
(n_bars, n_symbols), or for one symbol a Series or an array of shape (n_bars,)."""


def read_flags(bars: Bars, name: str, given: Table) -> BoolArray:
    """Read a table of true and false.

    Args:
        bars: the bars that it must fit.
        name: its name in messages.
        given: the table.

    Returns:
        Shape (n_bars, n_symbols).

    Raises:
        DataError: it does not fit the bars, or holds other values.
    """
    values = _array(bars, name, given, None)
    if values.dtype != np.bool_:
        raise DataError(
            f"{name}: has {values.dtype} values; expected true or false, as close > average"
        )
    return values


def read_numbers(bars: Bars, name: str, given: Table) -> FloatArray:
    """Read a table of numbers.

    Args:
        bars: the bars that it must fit.
        name: its name in messages.
        given: the table.

    Returns:
        Shape (n_bars, n_symbols), 0 where the table has NaN.

    Raises:
        DataError: it does not fit the bars, or holds other values.
    """
    values = _array(bars, name, given, np.float64)
    if np.isinf(values).any():
        raise DataError(f"{name}: has an infinite value; expected numbers, and 0 or NaN for none")
    return np.where(np.isnan(values), 0.0, values)


def _array(bars: Bars, name: str, given: Table, kind: Any) -> np.ndarray[Any, Any]:
    """A table as an array of shape (n_bars, n_symbols)."""
    if isinstance(given, pd.DataFrame):
        missing = [symbol for symbol in bars.symbols if symbol not in given.columns]
        if missing:
            raise DataError(
                f"{name}: no column {list_text(missing)}; found: {list_text(map(str, given))}"
            )
        given = given[list(bars.symbols)]
    if isinstance(given, (pd.DataFrame, pd.Series)) and isinstance(given.index, pd.DatetimeIndex):
        times = given.index if given.index.tz is not None else given.index.tz_localize("UTC")
        if not times.equals(pd.DatetimeIndex(bars.timestamps, tz="UTC")):
            raise DataError(f"{name}: other times than the bars; reindex it to bars.timestamps")
    try:
        values = np.asarray(given, dtype=kind)
    except (TypeError, ValueError):
        raise DataError(
            f"{name}: has values that are no numbers, such as {quoted(given)}"
        ) from None
    if values.ndim == 1 and bars.n_symbols == 1:
        values = values[:, np.newaxis]
    if values.shape != (bars.n_bars, bars.n_symbols):
        raise DataError(
            f"{name}: has shape {values.shape}; expected {bars.n_bars} bars x {bars.n_symbols} symbols"
        )
    return values
