"""Bars of symbols that start late, have holes and end early."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from optimizer.types import Bars


def with_present(bars: Bars, present: npt.ArrayLike) -> Bars:
    """The bars without those that ``present``, (n_bars, n_symbols), marks with 0; a plain loop."""
    mask = np.array(present, dtype=np.uint8)
    values = {
        name: getattr(bars, name).copy() for name in ("open", "high", "low", "close", "volume")
    }
    for s in range(bars.n_symbols):
        first = int(np.argmax(mask[:, s]))
        price = values["open"][first, s]
        for t in range(bars.n_bars):
            if mask[t, s]:
                price = values["close"][t, s]
                continue
            for name in ("open", "high", "low", "close"):
                values[name][t, s] = price
            values["volume"][t, s] = 0.0
    return replace(bars, **values, present=mask, has_volume=bars.has_volume)


def only(bars: Bars, symbols: Sequence[int], where: npt.ArrayLike | None = None) -> Bars:
    """Some symbols of bars, at all bars or at some, as if nothing else had ever been there."""
    at = np.arange(bars.n_bars) if where is None else np.asarray(where)
    values: dict[str, Any] = {
        name: np.ascontiguousarray(getattr(bars, name)[at][:, symbols])
        for name in ("open", "high", "low", "close", "volume")
    }
    present = None if bars.present is None else bars.present[at][:, symbols].copy()
    return Bars(
        symbols=tuple(bars.symbols[s] for s in symbols),
        timestamps=bars.timestamps[at].copy(),
        bars_per_year=bars.bars_per_year,
        has_volume=np.asarray(bars.has_volume)[list(symbols)],
        present=present,
        **values,
    )


def random_presence(n_bars: int, n_symbols: int, seed: int) -> npt.NDArray[np.uint8]:
    """The first symbol has every bar; others start late, end early, or have holes."""
    rng = np.random.default_rng([seed, n_bars, n_symbols])
    present = np.ones((n_bars, n_symbols), dtype=np.uint8)
    for s in range(1, n_symbols):
        start, stop = sorted(rng.choice(n_bars, 2, replace=False))
        if s % 3 != 0:
            present[:start, s] = 0
        if s % 3 != 1:
            present[stop + 1 :, s] = 0
        there = np.flatnonzero(present[:, s])
        present[rng.choice(there[1:-1], max(0, len(there) // 10 - 1), replace=False), s] = 0
    return present
