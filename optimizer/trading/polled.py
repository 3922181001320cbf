"""Bars that are asked for, and kept from then on."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from optimizer.bars.checks import flaws
from optimizer.bars.rows import VALUES, first_row
from optimizer.bars.sizes import bar_size
from optimizer.bars.times import DAY, SECOND, read_duration, time_text
from optimizer.errors import DataError
from optimizer.files import write_atomically
from optimizer.review.rerun import Terms
from optimizer.trading.broker import OutageError
from optimizer.trading.feeds import StaleFeedError, no_bar_text
from optimizer.trading.history import History, differences, revisions_text
from optimizer.trading.joining import joined
from optimizer.trading.sources import BarSource
from optimizer.types import Bars

N_COMPARED = 20
"""Bars of the file, the last ones, that are compared with those that the source has."""

PATIENCE = 30.0
"""Seconds after its close for which a bar waits for the symbols that lack it; half a bar at most."""

N_SEEN = 20
"""Bars, the last ones: a symbol that is in none of them is not waited for."""


class PolledFeed:
    """The bars of a file, and those that a source has had since, which are kept in a file of their own.

    Args:
        known: the bars of the file.
        terms: the terms of the study.
        source: where later ones come from.
        path: the file of those, Parquet; it is made if it is missing.
        poll: seconds between two looks. None is asked for before one can have closed.
        stale: seconds without a new bar after which the feed is stale; None waits on.
        now: the time of this machine, UTC.
        say: is told what is odd, once each time.
        waiting: is told at the first time that there is no later bar yet.

    Raises:
        DataError: the file cannot be read, or the study has payments, of which the source tells nothing.
    """

    def __init__(
        self,
        known: Bars,
        terms: Terms,
        source: BarSource,
        path: Path,
        *,
        poll: float = 10.0,
        stale: float | None = None,
        now: Callable[[], np.datetime64] = lambda: np.datetime64(time.time_ns(), "ns"),
        say: Callable[[str, str], None] = lambda kind, detail: None,
        waiting: Callable[[str], None] = lambda line: None,
    ) -> None:
        if known.payments is not None:
            raise DataError(
                f"{source.name}: sends no funding rates and no dividends, which [data] names; run the"
                " study without them, or take its bars from a file"
            )
        given = terms.data.get("bar")
        self._size = bar_size(known.timestamps) if given is None else read_duration(given)
        midnight = known.timestamps.astype("datetime64[D]") == known.timestamps
        self._days = self._size == DAY and bool(midnight.all())
        self._align = terms.data["align"]
        self._known, self._source, self._path = known, source, path
        self._poll, self._stale, self._now = poll, stale, now
        self.say = say
        self._waiting: Callable[[str], None] | None = waiting
        self._told: dict[str, str] = {}
        self._to_say: list[tuple[str, str]] = []
        self._next_look = 0.0
        self._lock = threading.Lock()
        self.bars = known
        self._is_new = not path.exists()
        if not self._is_new:
            try:
                kept = pd.read_parquet(path)
                self._append(kept[kept["timestamp"] > _utc(known.timestamps[-1])])
            except (OSError, ValueError, KeyError) as error:
                raise DataError(f"{path}: cannot be read: {error}; delete it") from None

    def begin(self, *, accept_revisions: bool) -> Bars:
        """Compare the last bars of the file with those that the source has, and take what came later.

        Args:
            accept_revisions: go on with the file's where they differ.

        Returns:
            All bars that have closed.

        Raises:
            DataError: they differ.
            OutageError: the source cannot be reached.
        """
        last = self._known.timestamps[-N_COMPARED:]
        rows = self._rows(last[0])
        if self._is_new:
            theirs = self._lengthened(self._known.head(0), rows[rows["timestamp"] <= last[-1]])
            ours = self._tail(self._known, len(last))
            found = differences(ours, theirs) if theirs.n_bars else None
            if (found is None or not found.empty) and not accept_revisions:
                why = (
                    f"has none of the bars from {time_text(last[0])} to {time_text(last[-1])}"
                    if found is None
                    else f"has other bars: {revisions_text(History(ours, len(last), True, found))}"
                )
                raise DataError(
                    f"{self._known.source}: {self._source.name} {why}; study the bars that it has, or go"
                    " on with the file's by --accept-revisions"
                )
        self._take(rows)
        return self.bars

    async def next(self, last: np.datetime64) -> Bars | None:
        """Wait until there is a closed bar after a time.

        Args:
            last: time of the last bar that is known.

        Returns:
            All closed bars so far.

        Raises:
            StaleFeedError: none has come for too long.
        """
        begun = time.monotonic()
        while True:
            if await self.later(last):
                return self.bars
            if self._waiting is not None:
                self._waiting(
                    f"waiting for a closed bar after {time_text(last)}: {self._source.name}"
                )
                self._waiting = None
            if self._stale is not None and time.monotonic() - begun > self._stale:
                raise StaleFeedError(no_bar_text(self._source.name, last, begun, self._stale))
            await asyncio.sleep(min(self._poll, 1.0))

    async def later(self, last: np.datetime64) -> bool:
        """Whether there is a closed bar after a time.

        Args:
            last: time of a bar.
        """
        await asyncio.to_thread(self._look)
        self._say_all()
        return bool(self.bars.timestamps[-1] > last)

    def _look(self) -> None:
        """Ask for new bars, unless that was just done or none can have closed."""
        with self._lock:  # the caller of an earlier look may no longer wait for it
            self._look_alone()

    def _look_alone(self) -> None:
        end = self.bars.timestamps[-1] + 2 * np.timedelta64(self._size, "ns")
        if time.monotonic() < self._next_look or self._now() < end:
            return
        wait = self._poll
        try:
            self._take(self._rows(self.bars.timestamps[-1]))
            self._told.pop("unreadable_feed", None)
        except (DataError, OutageError) as error:
            wait = max(wait, getattr(error, "wait", 0.0))
            self._tell("unreadable_feed", f"{self._source.name}: {error}")
        self._next_look = time.monotonic() + wait

    def _rows(self, since: np.datetime64) -> pd.DataFrame:
        """What the source has from a bar on, at the times that bars of the file have, and its ``end``."""
        found = self._source.rows(self._known.symbols, self._size, since, self._now())
        found["end"] = found["timestamp"] + pd.Timedelta(self._size, "ns")
        if self._days:  # the day begins at midnight elsewhere
            found["timestamp"] = found["timestamp"].dt.floor("D")
        values = {name: found[name].to_numpy() for name in VALUES}
        for flaw in flaws(values):
            row = first_row(flaw.broken)
            if row is not None:
                symbol, at = found["symbol"].iloc[row], found["timestamp"].to_numpy()[row]
                raise DataError(f"{symbol}: bar of {time_text(at)}: {flaw.describe(values, row)}")
        return found

    def _take(self, rows: pd.DataFrame) -> None:
        """Keep the bars that are later than those that are known."""
        last = self.bars.timestamps[-1]
        again = rows[rows["timestamp"] == last]
        taken = self._tail(self.bars, 1)
        if len(again):
            found = differences(taken, self._lengthened(taken.head(0), again))
            if not found.empty and last > self._known.timestamps[-1]:
                detail = revisions_text(History(taken, 1, True, found))
                self._tell("late_bar", f"{detail}; it stays as it was taken")
        before = self.bars.n_bars
        self._append(self._ready(rows[rows["timestamp"] > last]))
        if self.bars.n_bars > before:
            later = self.bars.to_frame()
            later = later[later["timestamp"] > _utc(self._known.timestamps[-1])]
            write_atomically(self._path, lambda part: later.to_parquet(part, index=False))

    def _ready(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The rows before the first bar that still waits for a symbol."""
        if self._align == "inner":
            return rows  # a bar is there once all have it
        seen = [1] * len(self.bars.symbols)
        if self.bars.present is not None:
            seen = self.bars.present[-N_SEEN:].max(axis=0).tolist()
        expected = {name for name, is_seen in zip(self.bars.symbols, seen, strict=True) if is_seen}
        wait = min(round(PATIENCE * SECOND), self._size // 2)
        closed = pd.Timestamp(self._now() - np.timedelta64(wait, "ns"))
        for at, bar in rows.groupby("timestamp"):
            if bar["end"].max() > closed and not expected <= set(bar["symbol"]):
                return rows[rows["timestamp"] < at]
        return rows

    def _append(self, rows: pd.DataFrame) -> None:
        self.bars = self._lengthened(self.bars, rows)

    def _lengthened(self, bars: Bars, rows: pd.DataFrame) -> Bars:
        """Bars and those of some rows, which are later; a symbol without one keeps its last close."""
        symbols = list(bars.symbols)
        if rows.empty:
            return bars
        times = pd.DatetimeIndex(rows["timestamp"]).tz_localize(None).astype("datetime64[ns]")
        rows = rows.assign(timestamp=times)
        wide = {
            name: rows.pivot(index="timestamp", columns="symbol", values=name).reindex(
                columns=symbols
            )
            for name in VALUES
        }
        there = wide["close"].notna()
        keep = there.all(axis=1) if self._align == "inner" else there.any(axis=1)
        if not keep.any():
            return bars
        present = there[keep].to_numpy()
        closes = wide["close"][keep]
        if bars.n_bars:
            closes = pd.concat([pd.DataFrame([bars.close[-1]], columns=symbols), closes])
        held = closes.ffill().to_numpy()[-len(present) :]
        values: dict[str, Any] = {}
        for name, given in wide.items():
            missing = 0.0 if name == "volume" else held
            values[name] = np.ascontiguousarray(np.where(present, given[keep].to_numpy(), missing))
        later = Bars(
            bars.symbols,
            wide["close"].index[keep].to_numpy().astype("datetime64[ns]"),
            **values,
            bars_per_year=bars.bars_per_year,
            present=present.astype(np.uint8),
        )
        return joined(bars, later, 0, later.n_bars)

    @staticmethod
    def _tail(bars: Bars, count: int) -> Bars:
        return joined(bars.head(0), bars, bars.n_bars - count, bars.n_bars)

    def _tell(self, kind: str, detail: str) -> None:
        if detail != self._told.get(kind):
            self._told[kind] = detail
            self._to_say.append((kind, detail))

    def _say_all(self) -> None:
        """Say what was odd, in the thread of the caller and not in that which has looked."""
        while self._to_say:
            self.say(*self._to_say.pop(0))


def _utc(time: np.datetime64) -> pd.Timestamp:
    return pd.Timestamp(time, tz="UTC")
