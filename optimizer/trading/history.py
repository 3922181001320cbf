"""Bars that go on where those of a study ended, and what was revised in those that the study had."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from optimizer.bars.foreign import SUFFIXES, read_file
from optimizer.bars.load import load_bars, read_bars
from optimizer.bars.per_year import infer_bars_per_year
from optimizer.bars.rows import Rows
from optimizer.bars.symbols import symbol_of
from optimizer.bars.times import read_duration, time_text
from optimizer.errors import BarsweepError, DataError
from optimizer.review.rerun import Terms
from optimizer.text import counted, list_text
from optimizer.types import Bars

FIELDS = ("open", "high", "low", "close", "volume")


@dataclass(frozen=True, eq=False)
class History:
    """Bars of which the first ones are those of a study.

    Attributes:
        bars: all bars. What a parameter means in bars a year is settled by the bars of the study, so
            ``bars_per_year`` is theirs.
        n_recorded: number of bars that the study had.
        revised: whether these are not the study's, bit for bit.
        revisions: the values that differ: ``time``, ``symbol``, ``field``, ``recorded`` and ``now``. The
            field is ``bar`` where only one of the two has the bar. Empty too where the study's own bars
            are no longer there to compare with.
    """

    bars: Bars
    n_recorded: int
    revised: bool
    revisions: pd.DataFrame

    @property
    def recorded(self) -> Bars:
        """The bars that the study had, as they are now."""
        return self.bars.head(self.n_recorded)

    @property
    def n_new(self) -> int:
        """Number of bars after those of the study."""
        return self.bars.n_bars - self.n_recorded


def load_newest(terms: Terms, path: Path) -> Bars:
    """The bars of a study, and all that came after them.

    Args:
        terms: the terms of the study; their ``end`` is not read.
        path: a file of bars, or a folder of such files: one a symbol, or one a span of time.

    Raises:
        DataError: the bars cannot be used.
    """
    data = terms.data
    options: dict[str, Any] = {
        "align": data["align"],
        "timezone": data["timezone"],
        **{name: data.get(name) for name in ("bars_per_year", "bar", "funding", "dividends")},
    }
    if not path.is_dir():
        if not path.exists():
            raise DataError(f"{path}: no such file; name the bars with --data FILE")
        return load_bars(path, data.get("symbols"), data.get("start"), None, **options)

    def read(others: Mapping[str, str]) -> Rows:
        return _rows_of_folder(path, others)

    return read_bars(read, str(path), data.get("symbols"), data.get("start"), None, **options)


def _rows_of_folder(folder: Path, others: Mapping[str, str]) -> Rows:
    files = sorted(one for one in folder.iterdir() if one.name.lower().endswith(SUFFIXES))
    if not files:
        raise DataError(f"{folder}: no file of bars in it; valid: {', '.join(SUFFIXES)}")
    frames = []
    for file in files:
        frame = read_file(file, others).frame
        if "volume" not in frame:
            raise DataError(f"{file}: no column volume; add one, as the study's bars have it")
        frames.append(frame if "symbol" in frame else frame.assign(symbol=symbol_of(file)))
    return Rows(str(folder), "row", pd.concat(frames, ignore_index=True))


def compared(
    every: Bars, terms: Terms, n_recorded: int, references: Iterable[Path] = ()
) -> History:
    """Compare bars with those that a study had.

    Args:
        every: the bars now.
        terms: the terms of the study.
        n_recorded: number of bars that it had.
        references: files that may still hold them, tried in order where the bars have been revised.

    Returns:
        The bars, and what was revised in them.
    """
    if every.n_bars >= n_recorded:
        head = every.head(n_recorded)
        if head.content_hash == terms.data_hash:
            return _history(every, terms, n_recorded, None)
    for path in references:
        try:
            recorded = replace(terms, data_path=path).bars()
        except BarsweepError:
            continue  # not there any more, or revised too
        n_recorded = int(np.searchsorted(every.timestamps, recorded.timestamps[-1], "right"))
        return _history(every, terms, n_recorded, differences(recorded, every.head(n_recorded)))
    return _history(every, terms, min(n_recorded, every.n_bars), differences(every, every))


def _history(every: Bars, terms: Terms, n_recorded: int, revisions: pd.DataFrame | None) -> History:
    revised = revisions is not None
    if revisions is None:
        revisions = differences(every, every)
    given = terms.data.get("bars_per_year")
    if given is None:
        size = terms.data.get("bar")
        times = every.timestamps[: max(n_recorded, 2)]
        given = infer_bars_per_year(times, None if size is None else read_duration(size))
    return History(replace(every, bars_per_year=float(given)), n_recorded, revised, revisions)


def differences(recorded: Bars, now: Bars) -> pd.DataFrame:
    """What differs between two versions of bars of the same symbols.

    Args:
        recorded: the bars as they were.
        now: the bars as they are, to the same last time.

    Returns:
        See ``History.revisions``; in the order of time, symbol and field.
    """
    times = np.union1d(recorded.timestamps, now.timestamps)
    old, old_there = _on(times, recorded)
    new, new_there = _on(times, now)
    rows: list[tuple[Any, ...]] = []
    for t, s in np.argwhere(old_there != new_there):
        rows.append((t, s, -1, float(old_there[t, s]), float(new_there[t, s])))
    both = old_there & new_there
    for f, name in enumerate((*FIELDS, "payments")):
        for t, s in np.argwhere(both & (old[name] != new[name])):
            rows.append((t, s, f, old[name][t, s], new[name][t, s]))
    rows.sort(key=lambda row: row[:3])
    names = (*FIELDS, "payments", "bar")
    return pd.DataFrame(
        {
            "time": pd.DatetimeIndex(
                times[[row[0] for row in rows]].astype("datetime64[ns]"), tz="UTC"
            ),
            "symbol": [now.symbols[row[1]] for row in rows],
            "field": [names[row[2]] for row in rows],
            "recorded": np.array([row[3] for row in rows], dtype=np.float64),
            "now": np.array([row[4] for row in rows], dtype=np.float64),
        }
    )


def _on(times: Any, bars: Bars) -> tuple[dict[str, Any], Any]:
    """Values of bars at some times, and which bars are there, each of shape (n_times, n_symbols)."""
    place = np.searchsorted(bars.timestamps, times).clip(max=bars.n_bars - 1)
    there = bars.timestamps[place] == times
    present = np.ones((len(times), bars.n_symbols), np.bool_)
    if bars.present is not None:
        present = bars.present[place] == 1
    present &= there[:, np.newaxis]
    values = {name: getattr(bars, name)[place] for name in FIELDS}
    zero = np.zeros_like(bars.open)
    values["payments"] = (zero if bars.payments is None else bars.payments)[place]
    return values, present


def revisions_text(history: History) -> str:
    """What was revised, in one line: for each symbol how many bars, from when to when, by how much.

    Args:
        history: bars that are not those of the study.
    """
    found = history.revisions
    if found.empty:
        return (
            f"{counted(history.n_recorded, 'bar')} are not those of the study; which ones differ cannot"
            " be told without the study's own, which `barsweep export --bars` keeps"
        )
    parts = []
    for symbol, rows in found.groupby("symbol", sort=True):
        times = rows["time"]
        first, last = (time_text(times.iloc[i].to_datetime64()) for i in (0, -1))
        text = f"{symbol}: {counted(times.nunique(), 'bar')} from {first} to {last}"
        values = rows[rows["field"] != "bar"]
        if not values.empty:
            change = (values["now"] / values["recorded"] - 1.0).abs()
            most = values.iloc[int(change.fillna(0.0).to_numpy().argmax())]
            by = abs(most["now"] / most["recorded"] - 1.0) if most["recorded"] else np.inf
            text += (
                f", by at most {by:.3g} of the value ({most['field']} {most['recorded']:.10g} recorded,"
                f" {most['now']:.10g} now at {time_text(most['time'].to_datetime64())})"
            )
        missing = int(((rows["field"] == "bar") & (rows["now"] == 0.0)).sum())
        if missing:
            text += f", {counted(missing, 'bar')} missing"
        parts.append(text)
    return list_text(parts, 10)
