"""The analytics database: what an event flow did, row by row, in SQLite or PostgreSQL.

``AnalyticsWriter`` takes rows from the flow, which stays synchronous, and commits them on a thread
of its own, whole bars at a time. Where the database fails, the rows that it does not hold go to a
spill file, which ``import_spill`` loads. ``open_reader`` answers what ``barsweep trace`` asks.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import threading
from collections import Counter, deque
from collections.abc import Collection, Coroutine, Iterator, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, BinaryIO, Self, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizer.analytics_database import (
    PASSWORD_MEND,
    TABLES,
    Address,
    AnalyticsError,
    BarRows,
    Database,
    Row,
    parse_url,
    schema_of,
    schema_versions,
    too_new,
)
from optimizer.errors import BarsweepError

__all__ = [
    "TABLES",
    "AnalyticsError",
    "AnalyticsReader",
    "AnalyticsWriter",
    "import_spill",
    "open_reader",
]

_Result = TypeVar("_Result")

_FLUSH_SECONDS = 0.5
_SPILL_FORMAT = "barsweep analytics spill"


# --- Writing ------------------------------------------------------------------------------------


class AnalyticsWriter:
    """Writes an event flow's rows in the background.

    Use it as a context manager: leaving it commits every bar that has ended, on an exception and on
    Ctrl-C too. Rows of a bar that has not ended are committed when all went well (portfolios without
    bars), and dropped on an exception: the database never holds half a bar. A second Ctrl-C while it
    waits for the database gives up waiting.

    Where the database fails midway, the flow goes on: bars that are not committed go to the spill
    file, ``failure`` says so from then on, and leaving raises it. Where the spill file cannot be
    written either, the next ``add`` or ``end_bar`` raises.

    One thread may use it. The threads that write end with the process.

    Args:
        url: ``sqlite:///FILE`` or ``postgresql://USER:PASSWORD@HOST/NAME``. The database is created
            (SQLite) or must exist (PostgreSQL); its schema is brought to the newest version.
        spill: file for what the database fails to take; must not exist.
        max_rows_waiting: ``end_bar`` blocks while more rows than this are not committed.
        batch_rows: rows of a transaction, in whole bars; fewer when they come slowly.

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
        self._spill = _Spill(Path(spill), self._address)
        self._max_rows_waiting = max_rows_waiting
        self._batch_rows = batch_rows
        self._widths = {name: {len(table.columns)} for name, table in TABLES.items()}

        # The two sides share no lock: Ctrl-C may strike the caller's side anywhere, and a lock that
        # it leaves held would block the other for ever. Each number has one side that sets it. Nor
        # is the thread asked whether it lives: Python 3.11 takes it for dead once Ctrl-C has struck
        # within is_alive().
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

    def _refuse_missing_folder(self) -> None:
        file = self._address.file
        if file is not None and not file.parent.is_dir():
            raise AnalyticsError(f"{file}: its folder does not exist; create it first")

    @property
    def failure(self) -> AnalyticsError | None:
        """What went wrong in the background so far."""
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
        """Take rows of the bar that goes on.

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
        """The bar's rows are all there: they are committed together.

        Blocks while more than ``max_rows_waiting`` rows are not committed.

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
        """Commit what is left and give up the database; a second call does nothing.

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
        # The time limit is for a Ctrl-C that struck when something had been taken from there.
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
        except BaseException as error:  # whatever it is, the caller must hear of it
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
            with contextlib.suppress(Exception):  # all that matters is committed, or spilled
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


# --- The spill file -----------------------------------------------------------------------------


class _Spill:
    """The file of what a database failed to take: JSON lines, a header, then one line per bar.

    Args:
        path: of the file; created with the first bar.
        address: of the database.

    Raises:
        AnalyticsError: the file exists, or its folder does not.
    """

    def __init__(self, path: Path, address: Address) -> None:
        self.path = path
        self.failed: str | None = None
        self._address = address
        self._file: BinaryIO | None = None
        self._n_rows = 0
        self._first_lost: int | None = None
        if path.exists():
            raise AnalyticsError(
                f"{path}: holds rows that an earlier flow could not write; load them with"
                f" `{self._command()}` and remove it"
            )
        if not path.parent.is_dir():
            raise AnalyticsError(f"{path}: its folder does not exist; create it first")

    def _command(self) -> str:
        return f"barsweep analytics import {shlex.quote(str(self.path.absolute()))}"

    def _advice(self) -> str:
        """The command that loads the file, which names its database, and what it lacks."""
        advice = f"load them with `{self._command()}`"
        return f"{advice}, {PASSWORD_MEND}" if self._address.secrets else advice

    def described(self) -> str:
        """What the file holds and what to do with it, the end of a message."""
        held = f"{self._n_rows:,} rows are in {self.path}: {self._advice()}"
        if self.failed is None:
            return f"the other {held}"
        lost = "the rest" if self._first_lost is None else f"bar {self._first_lost} and all after"
        held = f"{held}; " if self._n_rows else ""
        return (
            f"{held}{lost} could not be written to {self.path} either ({self.failed}) and is lost:"
            " make room there and start the flow again"
        )

    def write(self, bars: Sequence[BarRows]) -> None:
        """Append whole bars; a failure is kept in ``failed``, with the bars before it in the file."""
        for bar in bars:
            if self.failed is not None:
                return
            line = json.dumps({"bar": bar.bar, "rows": bar.rows}, default=_plain).encode()
            try:
                if self._file is None:
                    self._file = self.path.open("xb")
                    self._append(json.dumps(self._header()).encode())
                self._append(line)
            except OSError as error:
                self.failed, self._first_lost = error.strerror or str(error), bar.bar
            else:
                self._n_rows += bar.count

    def _header(self) -> dict[str, Any]:
        return {
            "file": _SPILL_FORMAT,
            "schema": schema_versions()[-1],
            "database": self._address.kept,
        }

    def _append(self, line: bytes) -> None:
        assert self._file is not None
        end = self._file.tell()
        try:
            self._file.write(line + b"\n")
            self._file.flush()
        except OSError:
            with contextlib.suppress(OSError):
                self._file.truncate(end)
            raise

    def close(self) -> None:
        """Make the file durable."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.fsync(self._file.fileno())
            with contextlib.suppress(OSError):
                self._file.close()


def _plain(value: Any) -> Any:
    """A plain value for what JSON does not know: numpy's scalars, or else the text of it."""
    return value.item() if hasattr(value, "item") else str(value)


def import_spill(spill: Path, url: str | None = None) -> int:
    """Load a spill file; rows that are in the database already are skipped.

    A last line without its end, from a process killed as it wrote, is left out: it is half a bar.

    Args:
        spill: file that ``AnalyticsWriter`` wrote.
        url: of the database, as for ``AnalyticsWriter``; None takes the one that failed, its password
            from the environment variable PGPASSWORD.

    Returns:
        how many rows were new to the database.

    Raises:
        AnalyticsError: the file or the database cannot be used; what was loaded until then stays,
            and the same again goes on from there.
    """
    spill = Path(spill)
    address = parse_url(_spilled_database(spill) if url is None else url)

    async def load() -> int:
        database = Database(address)
        n_new = 0
        try:
            with spill.open("rb") as file:
                bars = _spilled_bars(spill, file)
                batch = _some_bars(bars)
                await database.upgrade()
                while batch:
                    n_new += await database.write(batch)
                    batch = _some_bars(bars)
        finally:
            await database.close()
        return n_new

    try:
        return asyncio.run(load())
    except AnalyticsError as error:
        raise AnalyticsError(f"{spill}: {error}") from None
    except Exception as error:
        at = spill if getattr(error, "filename", None) == str(spill) else address.shown
        raise AnalyticsError(
            f"{at}: the import of {spill} failed: {address.reason(error)}"
            f"{address.password_mend(error)}"
        ) from None


def _spilled_database(spill: Path) -> str:
    """URL in the header of a spill file."""
    try:
        with spill.open("rb") as file:
            header = json.loads(file.readline())
        if header["file"] != _SPILL_FORMAT:
            raise ValueError
        url = header["database"]
        if not isinstance(url, str):
            raise ValueError
    except OSError as error:
        raise AnalyticsError(f"{spill}: cannot be read: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError):
        raise AnalyticsError(
            f"{spill}: line 1: this is no spill file of barsweep; restore the file"
        ) from None
    file_of_url = parse_url(url).file
    if file_of_url is not None and not file_of_url.exists():
        beside = spill.absolute().parent / file_of_url.name
        return f"sqlite:///{beside}" if beside.exists() else url  # the folder may have moved
    return url


def _some_bars(bars: Iterator[BarRows], n_rows: int = 20_000) -> list[BarRows]:
    batch: list[BarRows] = []
    for bar in bars:
        batch.append(bar)
        n_rows -= bar.count
        if n_rows <= 0:
            break
    return batch


def _spilled_bars(path: Path, file: BinaryIO) -> Iterator[BarRows]:
    known = schema_versions()
    number = 0
    for number, line in enumerate(file, 1):
        if not line.endswith(b"\n"):
            break
        try:
            record = json.loads(line)
            if number == 1:
                if record["file"] != _SPILL_FORMAT:
                    raise ValueError
                version = str(record["schema"])
            else:
                rows = {name: [tuple(row) for row in rows] for name, rows in record["rows"].items()}
                if any(
                    len(row) != len(TABLES[name].columns)
                    for name, of_table in rows.items()
                    for row in of_table
                ):
                    raise ValueError
                yield BarRows(record["bar"], rows, sum(map(len, rows.values())))
        except (ValueError, KeyError, TypeError, AttributeError):
            what = "this is no spill file of barsweep" if number == 1 else "this is no bar's rows"
            raise AnalyticsError(f"line {number}: {what}; restore the file") from None
        if number == 1 and version != known[-1]:
            raise AnalyticsError(
                f"line 1: schema {version}, this barsweep loads {known[-1]}; use the version of"
                " barsweep that wrote it"
            )
    if number < 2:
        raise AnalyticsError("this is no spill file of barsweep, or its end is missing")


# --- Reading ------------------------------------------------------------------------------------


def open_reader(url: str) -> AnalyticsReader:
    """Open an analytics database to read it.

    Raises:
        AnalyticsError: it is missing, holds no analytics, or is newer than this program.
    """
    return AnalyticsReader(url)


class AnalyticsReader:
    """Reads an analytics database, also while a flow writes to it. Rows are dicts by column name.

    Use it as a context manager, from a thread without a running event loop.
    """

    def __init__(self, url: str) -> None:
        self._address = parse_url(url)
        file = self._address.file
        if file is not None and not file.is_file():
            raise AnalyticsError(f"{file}: no analytics database here; `barsweep flow` writes one")
        self._database = Database(self._address, read_only=True)
        self._runner = asyncio.Runner()
        try:
            self._run(self._check_schema())
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *of_the_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Give up the database."""
        with contextlib.suppress(Exception):
            self._runner.run(self._database.close())
        self._runner.close()

    def chain(self, fill_id: str) -> dict[str, Any]:
        """All that led to a fill and followed from it.

        Returns:
            ``fill``; its ``order``, None for a stop and for ruin, and ``opening_order``, the one that
            opened the position that these closed, None elsewhere; ``signal`` and ``regime`` behind
            that order; ``decision_bar``, the symbol's bar at which it was placed; ``bar``, the one at
            which the fill came; ``equity`` after that bar; ``portfolio``. Features and parameters are
            dicts.

        Raises:
            AnalyticsError: there is no such fill; names its neighbours.
        """
        return self._run(self._chain(fill_id))

    def reject_counts(self, portfolios: Collection[str] | None = None) -> list[tuple[str, int]]:
        """Reasons why signals became no orders, or orders no fills, the most frequent first.

        Args:
            portfolios: identifiers of those to count; None counts all of the database.
        """
        rejects = TABLES["rejects"]
        columns = (rejects.c.portfolio_id, rejects.c.reason)
        query = sa.select(*columns, sa.func.count()).group_by(*columns)
        wanted = None if portfolios is None else set(portfolios)
        counts: Counter[str] = Counter()
        for portfolio_id, reason, count in self._run(self._rows(query)):
            if wanted is None or portfolio_id in wanted:
                counts[reason] += count
        return sorted(counts.items(), key=lambda item: (-item[1], item[0]))

    def portfolios(self) -> list[dict[str, Any]]:
        """All portfolios by identifier, parameters as dicts."""
        table = TABLES["portfolios"]
        query = sa.select(table).order_by(table.c.portfolio_id)
        return [_record(row) for row in self._run(self._rows(query))]

    def equity(self, portfolio_id: str) -> list[dict[str, Any]]:
        """Equity, cash, exposure and drawdown of a portfolio, bar by bar.

        Raises:
            AnalyticsError: there is no such portfolio.
        """
        table = TABLES["equity"]
        query = sa.select(table).where(table.c.portfolio_id == portfolio_id).order_by(table.c.bar)
        rows = [_record(row) for row in self._run(self._rows(query))]
        if not rows:
            known = [portfolio["portfolio_id"] for portfolio in self.portfolios()]
            if portfolio_id not in known:
                some = ", ".join(known[:5]) + (" ..." if len(known) > 5 else "")
                raise AnalyticsError(
                    f"{self._address.shown}: no portfolio {portfolio_id!r}; there are"
                    f" {some or 'none'}"
                )
        return rows

    def _run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        try:
            return self._runner.run(work)
        except (BarsweepError, KeyboardInterrupt):
            raise
        except Exception as error:
            reason = f"{self._address.reason(error)}{self._address.password_mend(error)}"
            raise AnalyticsError(f"{self._address.shown}: cannot be read: {reason}") from None

    async def _check_schema(self) -> None:
        async with self._database.engine.connect() as connection:
            version = await connection.run_sync(schema_of)
        known = schema_versions()
        if version is None:
            raise AnalyticsError(
                f"{self._address.shown}: holds no analytics; `barsweep flow` writes them"
            )
        if version not in known:
            raise AnalyticsError(too_new(self._address.shown, version, known))
        if version != known[-1]:
            raise AnalyticsError(
                f"{self._address.shown}: has schema {version}, older than {known[-1]}; any"
                " `barsweep flow` or `barsweep analytics import` into it upgrades it"
            )

    async def _rows(self, query: sa.Select[Any]) -> Sequence[Any]:
        async with self._database.engine.connect() as connection:
            rows: Sequence[Any] = (await connection.execute(query)).all()
            return rows

    async def _chain(self, fill_id: str) -> dict[str, Any]:
        async with self._database.engine.connect() as connection:

            async def one(name: str, **key: Any) -> dict[str, Any] | None:
                if None in key.values():
                    return None
                table = TABLES[name]
                same = (table.c[column] == value for column, value in key.items())
                row = (await connection.execute(sa.select(table).where(*same))).first()
                return None if row is None else _record(row)

            fill = await one("fills", fill_id=fill_id)
            if fill is None:
                raise AnalyticsError(await self._no_fill(connection, fill_id))
            order = await one("orders", order_id=fill["order_id"])
            opening = await one("orders", order_id=fill["opening_order_id"])
            decided = order or opening or dict.fromkeys(("signal_id", "regime_id"))
            signal = await one("signals", signal_id=decided["signal_id"])
            portfolio_id = fill["portfolio_id"]
            return {
                "fill": fill,
                "order": order,
                "opening_order": opening,
                "signal": signal,
                "regime": await one("regimes", regime_id=decided["regime_id"]),
                "decision_bar": await one("bars", bar_id=signal["bar_id"] if signal else None),
                "bar": await one("bars", bar_id=fill["bar_id"]),
                "equity": await one("equity", portfolio_id=portfolio_id, bar=fill["bar"]),
                "portfolio": await one("portfolios", portfolio_id=portfolio_id),
            }

    async def _no_fill(self, connection: AsyncConnection, fill_id: str) -> str:
        column = TABLES["fills"].c.fill_id
        before = sa.select(sa.func.max(column)).where(column < fill_id)
        after = sa.select(sa.func.min(column)).where(column > fill_id)
        found = [(await connection.execute(query)).scalar() for query in (before, after)]
        near = " and ".join(str(name) for name in found if name is not None)
        mend = f"the nearest are {near}" if near else "it holds no fills"
        return f"{self._address.shown}: no fill {fill_id!r}; {mend}"


def _record(row: sa.Row[Any]) -> dict[str, Any]:
    record = dict(row._mapping)
    for name in ("features", "parameters"):
        if name in record:
            record[name] = json.loads(record[name])
    return record
