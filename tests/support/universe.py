"""Bars of symbols that start late, have holes and end early."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from optimizer.study_file.study import Study, study_from_dict
from optimizer.types import Bars
from tests.support.studies import mapping, random_bars, write_bars


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


def mild_presence(n_bars: int, n_symbols: int, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """As ``random_presence``, with symbols that are there for most of the time."""
    present = np.ones((n_bars, n_symbols), dtype=np.uint8)
    for s in range(1, n_symbols):
        if rng.random() < 0.5:
            present[: rng.integers(1, n_bars // 2), s] = 0
        if rng.random() < 0.7:
            present[rng.integers(n_bars // 2, n_bars) :, s] = 0
        for start in rng.integers(0, n_bars, 3):
            present[start : start + rng.integers(1, 4), s] = 0
    return present


def random_members(path: Path, bars: Bars, rng: np.random.Generator) -> Path:
    """A file by which each symbol is a member once or twice, to the end or not."""
    lines, every = [], np.unique(bars.timestamps.astype("datetime64[D]"))
    for symbol in bars.symbols:
        days = every[np.sort(rng.choice(len(every), 4, replace=False))]
        if rng.random() < 0.5:
            days[0] = every[0]
        first, second, third, last = days
        lines += [f"{symbol},{first},{second}", f"{symbol},{third},{last}"][: rng.integers(1, 3)]
        if rng.random() < 0.7:
            lines[-1] = f"{lines[-1].rpartition(',')[0]},"
    return members_file(path, *lines)


def members_file(path: Path, *lines: str) -> Path:
    """A file of members of these lines."""
    path.write_text("\n".join(["symbol,from,to", *lines]) + "\n")
    return path


def ragged_study(folder: Path, **tables: Any) -> tuple[Study, Bars]:
    """A study of six ragged symbols, one of which is a member for some time only."""
    present = random_presence(300, 6, 3)
    bars = with_present(random_bars(300, list("ABCDEF"), 3), present)
    write_bars(folder / "all.parquet", bars)
    frame = pd.read_parquet(folder / "all.parquet")
    keep = [present[t, s] == 1 for s in range(6) for t in range(300)]
    frame[keep].to_parquet(folder / "bars.parquet", index=False)
    first, last = (str(bars.timestamps[t])[:10] for t in (80, 160))
    members_file(
        folder / "members.csv", f"A,{first},{last}", *(f"{one},2000-01-01," for one in "BCDEF")
    )
    data = {"align": "outer", "members": "members.csv"}
    content = mapping(
        "bars.parquet", data=data, risk={"correlation_penalty": 0.3}, search={"trials": 2}, **tables
    )
    return study_from_dict(content, folder), bars
