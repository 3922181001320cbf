"""Random settings of entries, exits and finer bars for accounts of the reference broker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from optimizer.types import Bars, FloatArray, MaskArray, TimeArray

HOUR = np.timedelta64(1, "h")
PIECES = 5
"""Finer bars of a bar that has them, at most."""


def wild_rules(rng: np.random.Generator, *, stops: bool, waits: bool) -> dict[str, Any]:
    """Values of ``[risk]`` of entries, if they wait, and of exits other than fractions."""

    def some(share: float, low: float, high: float) -> float:
        return float(rng.uniform(low, high)) if rng.random() < share else 0.0

    entries = {
        "entry_offset": some(0.7, 0.0, 0.03),
        "entry_offset_atr": some(0.5, 0.0, 1.0),
        "entry_bars": int(rng.choice([1, 1, 2, 5])),
    }
    exits = {
        "stop_loss_atr": some(0.4, 0.3, 3.0),
        "take_profit_atr": some(0.3, 0.3, 3.0),
        "trailing_stop_atr": some(0.3, 0.3, 3.0),
        "time_exit": int(rng.choice([0, 0, 0, 1, 3, 8])),
        "cooldown": int(rng.choice([0, 0, 0, 1, 2, 5])),
    }
    return {
        **(entries if waits else {}),
        **(exits if stops else {}),
        "atr_lookback": int(rng.integers(2, 10)),
    }


def in_sessions(rng: np.random.Generator, bars: Bars) -> Bars:
    """The same bars, several a day."""
    slots = np.sort(rng.choice(4 * bars.n_bars // 3 + 1, bars.n_bars, replace=False))
    times = np.datetime64("2018-01-01") + slots * (6 * HOUR)
    return replace(bars, timestamps=times.astype("datetime64[ns]"))


def wild_finer_bars(rng: np.random.Generator, bars: Bars) -> Bars:
    """Paths inside the bars; some symbols lack some of them, and some bars all of them."""
    shape = (bars.n_bars * PIECES, bars.n_symbols)
    tables = {name: np.ones(shape) for name in ("open", "high", "low", "close")}
    volume, present = np.zeros(shape), np.zeros(shape, dtype=np.uint8)
    for s in range(bars.n_symbols):
        for t in range(bars.n_bars):
            if t > 0 and rng.random() < 0.15:
                continue
            n = int(rng.integers(1, PIECES + 1))
            rows = t * PIECES + np.sort(rng.choice(PIECES, n, replace=False))
            low, high = bars.low[t, s], bars.high[t, s]
            path = np.clip(rng.uniform(low, high, (n, 4)), low, high)
            path[0, 0], path[-1, 3] = bars.open[t, s], bars.close[t, s]
            path[int(rng.integers(n)), 1] = high
            path[int(rng.integers(n)), 2] = low
            tables["open"][rows, s], tables["close"][rows, s] = path[:, 0], path[:, 3]
            tables["high"][rows, s] = path.max(axis=1)
            tables["low"][rows, s] = path.min(axis=1)
            volume[rows, s] = np.floor(rng.dirichlet(np.ones(n)) * bars.volume[t, s])
            volume[rows[-1], s] += bars.volume[t, s] - volume[rows, s].sum()
            present[rows, s] = 1
    times = (bars.timestamps[:, np.newaxis] + HOUR * np.arange(PIECES)).ravel()
    return bars_of(bars, times, tables, volume, present)


def bars_of(
    bars: Bars,
    times: TimeArray,
    tables: Mapping[str, FloatArray],
    volume: FloatArray,
    present: MaskArray,
) -> Bars:
    """Finer bars of the symbols of ``bars``: without the times that no symbol has.

    ``tables`` are the four prices by name. A symbol stays at its last close where it has no bar.
    """
    rows = np.flatnonzero(present.any(axis=1))
    present = present[rows]
    prices = {name: table[rows] for name, table in tables.items()}
    for s in range(bars.n_symbols):
        last = prices["open"][int(np.argmax(present[:, s])), s]
        for t in range(len(rows)):
            if present[t, s]:
                last = prices["close"][t, s]
            else:
                for table in prices.values():
                    table[t, s] = last
    return Bars(
        bars.symbols,
        times[rows],
        prices["open"],
        prices["high"],
        prices["low"],
        prices["close"],
        volume[rows],
        bars.bars_per_year,
        present=present,
    )


def write_bars(bars: Bars, path: Path) -> Path:
    """Write the bars that the symbols have to a file of tidy bars."""
    tables = []
    for s, name in enumerate(bars.symbols):
        own = bars.own(s)
        columns = {
            column: getattr(bars, column)[own, s]
            for column in ("open", "high", "low", "close", "volume")
        }
        tables.append(pd.DataFrame({"symbol": name, "timestamp": bars.timestamps[own], **columns}))
    pd.concat(tables).to_parquet(path, index=False)
    return path
