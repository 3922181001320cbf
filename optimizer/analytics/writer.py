"""Write events to the analytics database in the background."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Self

from optimizer.analytics.address import AnalyticsError, parse_url
from optimizer.analytics.database import Database
from optimizer.analytics.recorded import note_database
from optimizer.analytics.spill import Spill
from optimizer.analytics.tables import TABLES, BarRows, Row

_FLUSH_SECONDS = 0.5


class AnalyticsWriter:
    """Writes the rows of an event flow in the background.

    Use it as a context manager. Leaving it commits every bar that has ended, also on an exception and
    on Ctrl-C. Rows outside an ended bar are committed after a normal end (portfolios without bars) and
    dropped on an exception: the database never holds half a bar. A second Ctrl-C stops waiting for the
    database.

    If the database fails midway, the flow continues: bars that are not committed go to the spill file,
    ``failure`` says so from then on, and leaving raises it. If the spill file cannot be written either,
    the next ``add`` or ``end_bar`` raises.

    Only one thread may use it. The thread that writes ends with the process.

    Args:
        url: ``sqlite:///FILE`` or ``postgresql://USER:PASSWORD@HOST/NAME``. The database is created
            (SQLite) or must exist (PostgreSQL); its schema is brought to the newest version.
        spill: file for rows that the database does not take; must not exist.
        max_rows_waiting: ``end_bar`` blocks while more rows than this are not committed.
        batch_rows: rows of a transaction, in whole bars; fewer if they come slowly.

    Raises:
        AnalyticsError: the URL, the database, its schema or the spill file cannot be used.
    """

    def __init__(
        self,
        url: str,
        spill: Path,
        *,
        max_rows_waiting: int = 200_000,
        batch_rows: int = 20_000,
    ) -> None:
        if max_rows_waiting < 1 or batch_rows < 1:
            raise ValueError("max_rows_waiting and batch_rows must be at least 1")
        self._address = parse_url(url)
        self._refuse_missing_folder()
        self._spill = Spill(Path(spill), self._address)
        self._max_rows_waiting = max_rows_waiting
        self._batch_rows = batch_rows
        self._widths = {name: {len(table.columns)} for name, table in TABLES.items()}

        # The two sides share no lock: Ctrl-C may interrupt the caller's side anywhere, and a lock that
        # stays held would block the other side forever. Each number is set by one side only. is_alive()
        # is not used: in Python 3.11 it reports a living thread as dead after a Ctrl-C inside it.
        self._open = BarRows()
        self._added = 0
        self._unannounced = 0
        self._closing = False
        self._done = 0
        self._ended = False
        self._failed_at: tuple[int | None, str] | None = None
        self._bars: SimpleQueue[BarRows | None] = SimpleQueue()
        self._progress: SimpleQueue[None] = SimpleQueue()
        self._started: SimpleQueue[AnalyticsError | None] = SimpleQueue()

        self._pending: deque[BarRows] = deque()
        self._no_more = False
        self._wake = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        threading.Thread(target=self._run, name="barsweep-analytics", daemon=True).start()
        failure = self._started.get()
        if failure is not None:
            raise failure
        note_database(self._address)

    def _refuse_missing_folder(self) -> None:
        file = self._address.file
        if file is not None and not file.parent.is_dir():
            raise AnalyticsError(f"{file}: its folder does not exist; create it first")

    @property
    def failure(self) -> AnalyticsError | None:
        """What failed in the background so far; None if nothing did."""
        if self._failed_at is None:
            return None
        bar, reason = self._failed_at
        where = "" if bar is None else f" at bar {bar}"
        before = "holds nothing of this flow" if bar is None else "holds the bars before it"
        message = (
            f"{self._address.shown}: the analytics database failed{where}: {reason}; it {before},"
            f" {self._spill.described()}"
        )
        return AnalyticsError(message)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None and self._open.bar is None:
            self._open = BarRows()
        try:
            self.close()
        except AnalyticsError as failure:
            raise failure from error

    def add(self, table: str, rows: Sequence[Row]) -> None:
        """Take rows of the current bar.

        Args:
            table: one of ``TABLES``.
            rows: tuples of plain values, in the order of the table's columns.

        Raises:
            ValueError: no such table, or a row of another length.
            AnalyticsError: neither database nor spill file can be written.
        """
        self._refuse_if_over()
        if table not in self._widths:
            raise ValueError(f"no table {table!r}; expected one of {', '.join(TABLES)}")
        if rows and set(map(len, rows)) != self._widths[table]:
            columns = ", ".join(TABLES[table].columns.keys())
            raise ValueError(f"rows of {table} are ({columns}); got one of another length")
        self._open.rows.setdefault(table, []).extend(rows)
        self._open.count += len(rows)

    def end_bar(self, bar: int) -> None:
        """Commit the rows of the current bar together.

        Blocks while more than ``max_rows_waiting`` rows are not committed.

        Args:
            bar: index of the bar.

        Raises:
            AnalyticsError: neither database nor spill file can be written.
        """
        self._open.bar = bar  # first, so that an exception from here on finds the bar ended
        self._refuse_if_over()
        self._hand_over()
        while self._added - self._done > self._max_rows_waiting and not self._ended:
            self._wait_for_progress()
        self._refuse_if_over()

    def close(self) -> None:
        """Commit the remaining rows and close the database; a second call does nothing.

        Raises:
            AnalyticsError: see ``failure``.
        """
        if self._closing:
            return
        self._closing = True
        self._hand_over()
        self._bars.put(None)
        self._notify()
        while not self._ended:
            self._wait_for_progress()
        failure = self.failure
        if failure is not None:
            raise failure

    def _wait_for_progress(self) -> None:
        # The time limit is for a Ctrl-C just after something was taken from the queue.
        with contextlib.suppress(Empty):
            self._progress.get(timeout=0.5)

    def _hand_over(self) -> None:
        ended = self._open
        if ended.count:
            self._bars.put(ended)
            self._added += ended.count
            self._unannounced += ended.count
        self._open = BarRows()
        if self._unannounced >= self._batch_rows:
            self._notify()

    def _notify(self) -> None:
        self._unannounced = 0
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._wake.set)

    def _refuse_if_over(self) -> None:
        if self._closing:
            raise ValueError("this writer is closed")
        if self._spill.failed is not None or self._ended:
            raise self.failure or AnalyticsError(f"{self._address.shown}: its writer has ended")

    # From here on: the writer's thread.

    def _run(self) -> None:
        try:
            asyncio.run(self._work())
        except BaseException as error:  # the caller must learn of every failure
            if self._failed_at is None:
                self._failed_at = (None, self._address.reason(error))
            self._spill.failed = self._spill.failed or self._address.reason(error)
            self._started.put(self.failure)
        finally:
            self._ended = True
            self._progress.put(None)

    async def _work(self) -> None:
        self._loop = asyncio.get_running_loop()
        database = Database(self._address)
        try:
            try:
                await database.upgrade()
            except AnalyticsError as error:
                self._started.put(error)
                return
            except Exception as error:
                reason = self._address.reason(error)
                message = f"{self._address.shown}: cannot be used for analytics: {reason}"
                self._started.put(AnalyticsError(message))
                return
            self._started.put(None)
            while batch := await self._next_batch():
                if self._failed_at is None:
                    try:
                        await database.write(batch)
                    except Exception as error:
                        self._failed_at = (batch[0].bar, self._address.reason(error))
                if self._failed_at is not None:
                    self._spill.write(batch)
                self._done += sum(bar.count for bar in batch)
                if self._progress.empty():
                    self._progress.put(None)
        finally:
            self._spill.close()
            with contextlib.suppress(Exception):  # every bar is committed or spilled
                await database.close()

    async def _next_batch(self) -> list[BarRows]:
        """Whole bars to commit together; empty at the end."""
        late = False
        while True:
            self._wake.clear()
            with contextlib.suppress(Empty):
                while not self._no_more:
                    bar = self._bars.get_nowait()
                    if bar is None:
                        self._no_more = True
                    else:
                        self._pending.append(bar)
            full = sum(bar.count for bar in self._pending) >= self._batch_rows
            if self._pending and (full or late or self._no_more):
                batch: list[BarRows] = []
                n_rows = 0
                while self._pending and n_rows < self._batch_rows:
                    batch.append(self._pending.popleft())
                    n_rows += batch[-1].count
                return batch
            if self._no_more:
                return []
            try:
                async with asyncio.timeout(_FLUSH_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                late = True
