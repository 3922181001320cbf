"""Where closed bars come from: a file or a folder that grows, or one that is replayed at a speed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from optimizer.bars.sizes import bar_size
from optimizer.bars.times import duration_text, time_text
from optimizer.errors import BarsweepError, BrokerError
from optimizer.review.rerun import Terms
from optimizer.trading.history import load_newest
from optimizer.types import Bars


class StaleFeedError(BrokerError):
    """No new bar has come for too long."""


def no_bar_text(source: str, last: np.datetime64, begun: float, stale: float) -> str:
    """Why a feed is stale, in one line.

    Args:
        source: where the bars come from.
        last: time of the last bar.
        begun: since when there is no later one, by ``time.monotonic``.
        stale: seconds that this may take.
    """
    waited = time.monotonic() - begun
    return (
        f"{source}: no closed bar after {time_text(last)} for {waited:,.0f} s, more than --max-stale"
        f" {stale:g}; see where the bars come from, and start again"
    )


class Feed(Protocol):
    """A source of closed bars."""

    async def next(self, last: np.datetime64) -> Bars | None:
        """Wait for bars after a time.

        Args:
            last: time of the last bar that is known.

        Returns:
            All closed bars so far, at least one of them later; None at the end of the feed.

        Raises:
            StaleFeedError: none has come for too long.
        """

    async def later(self, last: np.datetime64) -> bool:
        """Whether a closed bar after a time is there already.

        Args:
            last: time of a bar.
        """


class ReplayedFeed:
    """Bars that are there already, one after the other as if they came now.

    Args:
        bars: the bars.
        speed: how many times as fast as they once came; 0 for as fast as they are taken.
    """

    def __init__(self, bars: Bars, speed: float = 0.0) -> None:
        self._bars = bars
        self._speed = speed
        self._begun: tuple[float, np.datetime64] | None = None

    async def next(self, last: np.datetime64) -> Bars | None:
        """The bars up to the first one after a time.

        Args:
            last: time of the last bar that is known.
        """
        times = self._bars.timestamps
        place = int(np.searchsorted(times, last, "right"))
        if place == len(times):
            return None
        if self._speed > 0.0:
            # By the clock since the first bar, so that what a bar takes does not add up.
            begun, first = self._begun = self._begun or (time.monotonic(), last)
            due = begun + (times[place] - first) / np.timedelta64(1, "s") / self._speed
            await asyncio.sleep(max(due - time.monotonic(), 0.0))
        return self._bars.head(place + 1)

    async def later(self, last: np.datetime64) -> bool:
        """Whether a closed bar after a time is there: never, for a replay waits for whoever takes it.

        Args:
            last: time of a bar.
        """
        return False


class GrowingFeed:
    """A file of bars, or a folder of such files, to which some other program adds.

    Args:
        terms: the terms of the study, which say how the file is read.
        path: the file or folder.
        poll: seconds between two looks.
        closed: whether all bars there are closed; else a bar is closed once its time is over by the
            clock, or a later one is there.
        stale: seconds without a new bar after which the feed is stale; None waits on.
        now: the time of this machine, UTC.
        say: is told what is odd, once each time.
        waiting: is told at the first time that there is no later bar yet.
    """

    def __init__(
        self,
        terms: Terms,
        path: Path,
        *,
        poll: float = 1.0,
        closed: bool = False,
        stale: float | None = None,
        now: Callable[[], np.datetime64] = lambda: np.datetime64(time.time_ns(), "ns"),
        say: Callable[[str, str], None] = lambda kind, detail: None,
        waiting: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._terms, self._path = terms, path
        self._poll, self._closed, self._stale, self._now = poll, closed, stale, now
        self.say = say
        self._seen: object = None
        self._bars: Bars | None = None
        self._told = ""
        self._waiting: Callable[[str], None] | None = waiting

    async def next(self, last: np.datetime64) -> Bars | None:
        """Wait until the file has a closed bar after a time.

        Args:
            last: time of the last bar that is known.

        Returns:
            All closed bars so far.

        Raises:
            StaleFeedError: none has come for too long.
        """
        begun = time.monotonic()
        while True:
            bars = self._closed_bars()
            if bars is not None and bars.timestamps[-1] > last:
                self._told = ""
                return bars
            if self._waiting is not None:
                self._waiting(
                    f"waiting for a closed bar after {time_text(last)}: another program adds it to"
                    f" {self._path}; --replay takes bars that are there already"
                )
                self._waiting = None
            if self._stale is not None and time.monotonic() - begun > self._stale:
                raise StaleFeedError(no_bar_text(str(self._path), last, begun, self._stale))
            await asyncio.sleep(self._poll)

    async def later(self, last: np.datetime64) -> bool:
        """Whether the file has a closed bar after a time.

        Args:
            last: time of a bar.
        """
        bars = self._closed_bars()
        return bars is not None and bool(bars.timestamps[-1] > last)

    def _closed_bars(self) -> Bars | None:
        stamp = self._stamp()
        if stamp != self._seen or self._bars is None:
            try:
                with _without_warnings():
                    self._bars = load_newest(self._terms, self._path)
                self._seen = stamp
            except BarsweepError as error:  # perhaps half of it is written
                self._tell("unreadable_feed", str(error))
                return None
        bars = self._bars
        now, size = self._now(), np.timedelta64(bar_size(bars.timestamps), "ns")
        early = int((bars.timestamps > now).sum())
        if early:
            self._tell(
                "clock_skew",
                f"{early} bars begin after {time_text(now)}, the time of this machine; the first at"
                f" {time_text(bars.timestamps[-early])}. They wait: set the clock, or the time zone of"
                " the bars",
            )
        stop = bars.n_bars - early
        if stop and not self._closed and bars.timestamps[stop - 1] + size > now:
            stop -= 1
        return bars.head(stop) if stop else None

    def _tell(self, kind: str, detail: str) -> None:
        if detail != self._told:
            self._told = detail
            self.say(kind, detail)

    def _stamp(self) -> object:
        with contextlib.suppress(OSError):
            files = sorted(self._path.iterdir()) if self._path.is_dir() else [self._path]
            found = [(file.name, file.stat()) for file in files]
            return [(name, one.st_mtime_ns, one.st_size) for name, one in found]
        return None


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Leave out the warnings about gaps and the like, which each reading would give again."""
    log = logging.getLogger("barsweep")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


def gap_before(bars: Bars, index: int) -> str | None:
    """What is missing before a bar, in words; None where the step to it is no longer than usual.

    Nights and weekends are steps too: what is usual is the longest step of the 500 before it.

    Args:
        bars: the bars.
        index: index of a bar.
    """
    steps = np.diff(bars.timestamps[max(0, index - 500) : index + 1])
    if len(steps) < 2 or steps[-1] <= steps[:-1].max():
        return None
    return (
        f"no bar for {duration_text(int(steps[-1].astype(np.int64)))} before"
        f" {time_text(bars.timestamps[index])}"
    )
