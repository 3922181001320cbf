"""Features of all symbols at once: comparisons of a feature, and functions of the user's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kernels import across
from optimizer.market.feature_keys import BAR_FIELDS
from optimizer.types import Bars, FloatArray, MaskArray, TimeArray

PANEL_FIELDS = (*BAR_FIELDS, "timestamps", "symbols", "tradable")
"""What a user's function of all symbols may take."""


def compared(
    kind: str, values: FloatArray, marks: MaskArray, parameters: Sequence[float]
) -> FloatArray:
    """A comparison of symbols at each bar.

    Args:
        kind: one of ``feature_keys.ACROSS``.
        values: the feature, shape (n_bars, n_symbols).
        marks: which symbols are compared, 1 or 0, shape (n_bars, n_symbols).
        parameters: those of the comparison.

    Returns:
        Shape (n_bars, n_symbols), NaN for symbols that are not compared.
    """
    out = np.empty(values.shape)
    given = np.ascontiguousarray(values), np.ascontiguousarray(marks, dtype=np.uint8)
    if kind == "rank":
        across.rank(*given, out)
    elif kind == "top":
        across.top(*given, int(parameters[0]), out)
    else:
        across.zscore(*given, out)
    return out


def panel_fields(bars: Bars, tradable: MaskArray) -> dict[str, Any]:
    """What a user's function of all symbols is given.

    Args:
        bars: the bars of all symbols.
        tradable: which symbols may be held at each bar, 1 or 0, shape (n_bars, n_symbols).

    Returns:
        The values by the names of ``PANEL_FIELDS``; prices and volume are NaN where a symbol has no bar.
    """
    fields: dict[str, Any] = {name: np.array(getattr(bars, name)) for name in BAR_FIELDS}
    if bars.present is not None:
        for name in BAR_FIELDS:
            fields[name][bars.present == 0] = np.nan
    return {
        **fields,
        "timestamps": bars.timestamps,
        "symbols": bars.symbols,
        "tradable": tradable.astype(np.bool_),
    }


def of_own_bars(bars: Bars, values: FloatArray, unused: int) -> FloatArray:
    """What a user's function of all symbols returned, without what is not used.

    Args:
        bars: the bars of all symbols.
        values: what it returned, shape (n_bars, n_symbols).
        unused: how many of a symbol's first bars are its warm-up.

    Returns:
        The values at the bars that each symbol has, NaN during its warm-up, shape (n_bars, n_symbols).
    """
    kept = np.full(values.shape, np.nan)
    for s in range(bars.n_symbols):
        own = bars.own(s)[unused:]
        kept[own, s] = values[own, s]
    return kept


class PanelHistory:
    """The bars of all symbols so far, as a user's function of all symbols is given them.

    Args:
        symbols: the symbols in the order of the bars' columns.
    """

    def __init__(self, symbols: tuple[str, ...]) -> None:
        self._symbols = symbols
        self._n_bars = 0
        self._arrays = {name: np.empty((1024, len(symbols))) for name in BAR_FIELDS}
        self._times: TimeArray = np.empty(1024, dtype="datetime64[ns]")
        self._tradable = np.empty((1024, len(symbols)), dtype=np.bool_)

    def add(
        self, time: np.datetime64, bar: Mapping[str, FloatArray], there: MaskArray, mark: MaskArray
    ) -> None:
        """Take the next bar.

        Args:
            time: its start, UTC.
            bar: open, high, low, close and volume by name, each (n_symbols,).
            there: which symbols have it, 1 or 0, shape (n_symbols,).
            mark: which symbols may be held, 1 or 0, shape (n_symbols,).
        """
        if self._n_bars == len(self._times):
            self._arrays = {name: _doubled(array) for name, array in self._arrays.items()}
            self._times, self._tradable = _doubled(self._times), _doubled(self._tradable)
        for name, array in self._arrays.items():
            array[self._n_bars] = np.where(there == 1, bar[name], np.nan)
        self._times[self._n_bars] = time
        self._tradable[self._n_bars] = mark == 1
        self._n_bars += 1

    def fields(self) -> dict[str, Any]:
        """The values by the names of ``PANEL_FIELDS``."""
        return {
            **{name: array[: self._n_bars] for name, array in self._arrays.items()},
            "timestamps": self._times[: self._n_bars],
            "symbols": self._symbols,
            "tradable": self._tradable[: self._n_bars],
        }


def _doubled(array: Any) -> Any:
    return np.concatenate((array, np.empty_like(array)))
