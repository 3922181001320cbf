"""The analytics database: what an event flow did, row by row, in SQLite or PostgreSQL.

``AnalyticsWriter`` takes rows from the flow, which stays synchronous, and commits them on a thread
of its own, whole bars at a time. Where the database fails, the rows that it does not hold go to a
spill file, which ``import_spill`` loads. ``open_reader`` answers what ``barsweep trace`` asks.

Identifiers are pure functions of study, parameter set, bar and symbol. So every insert is
repeatable: a row that is there already is left as it is, and one that differs under the same key is
an error, never overwritten. That makes retries, imports and a second start after a kill safe.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import itertools
import json
import os
import shlex
import sqlite3
import threading
import urllib.parse
from collections import deque
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, BinaryIO, Self, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from optimizer.errors import BarsweepError

Row = tuple[Any, ...]
_Result = TypeVar("_Result")


class AnalyticsError(BarsweepError, OSError):
    """An analytics database or spill file that fails: names it, without its password."""


# --- Tables -------------------------------------------------------------------------------------

_METADATA = sa.MetaData()


def _text(name: str, *, key: bool = False, null: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text, primary_key=key, nullable=null)


def _whole(name: str, *, key: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, primary_key=key, nullable=False, autoincrement=False)


def _real(name: str, *, null: bool = False) -> sa.Column[float]:
    return sa.Column(name, sa.Double, nullable=null)


sa.Table(
    "portfolios",
    _METADATA,
    _text("portfolio_id", key=True),
    _text("study_hash"),
    _text("strategy"),
    _text("classifier"),
    _text("parameters"),
)
sa.Table(
    "bars",
    _METADATA,
    _whole("bar", key=True),
    _text("time"),
    _text("symbol", key=True),
    *(_real(name) for name in ("open", "high", "low", "close", "volume")),
)
sa.Table(
    "signals",
    _METADATA,
    _text("signal_id", key=True),
    _text("strategy_key"),
    _whole("bar"),
    _text("symbol"),
    _whole("direction"),
    _real("strength"),
    _real("confidence"),
    _text("features"),
)
sa.Table(
    "regimes",
    _METADATA,
    _text("regime_id", key=True),
    _text("classifier_key"),
    _whole("bar"),
    _whole("code"),
)
sa.Table(
    "orders",
    _METADATA,
    _text("order_id", key=True),
    _text("portfolio_id"),
    _whole("bar"),
    _text("symbol"),
    _text("signal_id", null=True),
    _text("regime_id", null=True),
    _real("quantity"),
    *(_real(name, null=True) for name in ("kelly_value", "budget_value", "cash_value")),
)
sa.Table(
    "rejects",
    _METADATA,
    _text("reject_id", key=True),
    _text("portfolio_id"),
    _whole("bar"),
    _text("symbol"),
    _text("signal_id", null=True),
    _text("reason"),
)
sa.Table(
    "fills",
    _METADATA,
    _text("fill_id", key=True),
    _text("order_id", null=True),
    _text("portfolio_id"),
    _whole("bar"),
    _text("symbol"),
    _text("kind"),
    *(_real(name) for name in ("quantity", "price", "cost", "cash_after", "position_after")),
)
sa.Table(
    "equity",
    _METADATA,
    _text("portfolio_id", key=True),
    _whole("bar", key=True),
    *(_real(name) for name in ("equity", "cash", "exposure", "drawdown")),
)

TABLES: Mapping[str, sa.Table] = dict(_METADATA.tables)
"""Tables by name, in the order in which they are written; a row is a tuple in a table's order.

``bar`` counts from 0; ``time`` is ISO 8601 in UTC; ``parameters`` and ``features`` are JSON objects;
``direction`` and ``code`` are those of ``kernels.codes``, ``reason`` a name in its ``REASONS``. Values,
costs and cash are in the currency of the prices, quantities in units. A value that does not apply is
None, never NaN: an order without a signal, a fill of a stop (no order), a size that has no limit.
SQLite gives -0.0 back as 0.0; every other float64 comes back bit for bit.
"""

VERSION_TABLE = "barsweep_schema"  # not Alembic's default, which other programs' databases hold
_MIGRATIONS = Path(__file__).parent / "migrations"
_MIGRATION_LOCK = 7_230_619_284  # any number that no other program locks

_FLUSH_SECONDS = 0.5
_BUSY_SECONDS = 5.0
_COMMAND_SECONDS = 60.0
_RETRY_SECONDS = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
_SPILL_FORMAT = "barsweep analytics spill"


# --- Addresses and errors -----------------------------------------------------------------------


@dataclass(frozen=True)
class _Address:
    """Where a database is.

    Attributes:
        url: with the asynchronous driver.
        shown: what messages show: never a password.
        secrets: texts that must not be shown.
    """

    url: sa.URL = field(repr=False)
    shown: str
    secrets: tuple[str, ...] = field(repr=False)

    @property
    def file(self) -> Path | None:
        """The file of a SQLite database."""
        is_file = self.url.get_backend_name() == "sqlite"
        return Path(str(self.url.database)) if is_file else None

    def reason(self, error: BaseException) -> str:
        """One short line of what a driver said, without secrets."""
        cause: BaseException = getattr(error, "orig", None) or error
        if isinstance(cause.__cause__, Exception) and not isinstance(cause, sqlite3.Error):
            cause = cause.__cause__  # SQLAlchemy's copy of asyncpg's errors puts the class first
        lines = str(cause).strip().splitlines() or [type(cause).__name__]
        text = lines[0]
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text if len(text) <= 300 else text[:300] + " ..."


_URL_MEND = (
    "expected sqlite:///FILE or postgresql://USER:PASSWORD@HOST:PORT/NAME, with @ : / in the password"
    " written as %40 %3A %2F"
)


def _address(url: str) -> _Address:
    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        raise AnalyticsError(f"analytics database: its URL cannot be read; {_URL_MEND}") from None
    drivers = {
        "sqlite": "sqlite+aiosqlite",
        "sqlite+aiosqlite": "sqlite+aiosqlite",
        "postgres": "postgresql+asyncpg",
        "postgresql": "postgresql+asyncpg",
        "postgresql+asyncpg": "postgresql+asyncpg",
    }
    if parsed.drivername not in drivers:
        raise AnalyticsError(
            f"analytics database: {parsed.drivername!r} is not supported; {_URL_MEND}"
        )
    parsed = parsed.set(drivername=drivers[parsed.drivername])
    if parsed.get_backend_name() == "sqlite":
        database = parsed.database or ""
        if parsed.host or not database or database.startswith((":", "file:")) or parsed.query:
            raise AnalyticsError(
                "analytics database: SQLite needs a plain file: sqlite:///relative.db or"
                " sqlite:////absolute.db"
            )
        return _Address(parsed, database, ())
    query = {key: "".join(value) for key, value in parsed.query.items()}
    if any("@" in part for part in (parsed.host or "", parsed.database or "")):
        # A password that holds @ unescaped: its rest has become part of the host or the name.
        raise AnalyticsError(f"analytics database: its URL cannot be read; {_URL_MEND}")
    if importlib.util.find_spec("asyncpg") is None:
        raise AnalyticsError(
            "analytics database: PostgreSQL needs asyncpg; install it with"
            " `pip install 'barsweep[postgres]'`"
        )
    user = f"{parsed.username}@" if parsed.username else ""
    port = f":{parsed.port}" if parsed.port else ""
    shown = f"postgresql://{user}{parsed.host or ''}{port}/{parsed.database or ''}"
    secrets = (str(parsed.password or ""), query.get("password", ""))
    return _Address(parsed, shown, tuple(secret for secret in secrets if secret))


def _may_pass(error: BaseException) -> bool:
    """Whether the same again may succeed: a lock held by another, a server that starts again."""
    cause = getattr(error, "orig", None) or error
    if isinstance(cause, sqlite3.Error):
        code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
        return code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
    if isinstance(error, sa.exc.DBAPIError) and error.connection_invalidated:
        return True
    state = str(getattr(cause, "sqlstate", None) or "")
    if state:
        # Connection lost, shut down or starting, too many clients, serialization, deadlock.
        return state[:2] == "08" or state in ("57P01", "57P02", "57P03", "53300", "40001", "40P01")
    return isinstance(cause, OSError) and not isinstance(cause, TimeoutError | BarsweepError)


# --- The database -------------------------------------------------------------------------------


@dataclass(slots=True)
class _BarRows:
    """Rows of one bar, by table. ``bar`` is None until the bar has ended."""

    bar: int | None = None
    rows: dict[str, list[Row]] = field(default_factory=dict)
    count: int = 0


class _Database:
    """One open database, used from one event loop.

    Args:
        address: of the database.
        read_only: for a reader: no schema change, no lock against writers.
    """

    def __init__(self, address: _Address, *, read_only: bool = False) -> None:
        self.address = address
        self._is_sqlite = address.file is not None
        self._inserts = {name: self._insert_statement(table) for name, table in TABLES.items()}
        url = address.url
        options: dict[str, Any]
        if self._is_sqlite:
            # The driver begins no transaction by itself: see _begin.
            options = {"timeout": _BUSY_SECONDS, "isolation_level": None}
            if read_only:
                path = urllib.parse.quote(os.path.abspath(str(url.database)))
                url = url.set(database=f"file:{path}", query={"mode": "ro", "uri": "true"})
        else:
            options = {
                "timeout": 10.0,
                "command_timeout": _COMMAND_SECONDS,
                "server_settings": {"application_name": "barsweep"},
            }
        self.engine: AsyncEngine = create_async_engine(
            url, connect_args=options, pool_size=1, max_overflow=0
        )
        if self._is_sqlite:
            # A read transaction that turns to writing fails at once where another writes: so a
            # writer takes its lock when it begins.
            begin = "BEGIN" if read_only else "BEGIN IMMEDIATE"

            @sa.event.listens_for(self.engine.sync_engine, "begin")
            def _begin(connection: sa.Connection) -> None:
                connection.exec_driver_sql(begin)

            if not read_only:
                sa.event.listen(self.engine.sync_engine, "connect", _prepare_sqlite)

    def _insert_statement(self, table: sa.Table) -> str:
        """An insert that leaves rows be whose key is there."""
        if self._is_sqlite:
            insert = sqlite.insert(table).on_conflict_do_nothing()
            return str(insert.compile(dialect=sqlite.dialect(paramstyle="qmark")))
        # Whole columns as arrays: one statement and one round trip, whatever the number of rows.
        kinds = {sa.Text: "TEXT", sa.BigInteger: "BIGINT", sa.Double: "DOUBLE PRECISION"}
        columns = list(table.columns)
        names = ", ".join(f'"{column.name}"' for column in columns)
        arrays = ", ".join(
            f"${number}::{kinds[type(column.type)]}[]" for number, column in enumerate(columns, 1)
        )
        return (
            f'INSERT INTO "{table.name}" ({names}) SELECT * FROM unnest({arrays})'
            " ON CONFLICT DO NOTHING"
        )

    async def retried(self, act: Any) -> Any:
        """What ``act()`` gives; failures that may pass are tried again for some seconds."""
        for delay in (*_RETRY_SECONDS, None):
            try:
                return await act()
            except Exception as error:
                if delay is None or not _may_pass(error):
                    raise
                await asyncio.sleep(delay)
        raise AssertionError

    async def upgrade(self) -> None:
        """Bring the schema to the newest version.

        Raises:
            AnalyticsError: it is newer than this program.
        """

        async def act() -> None:
            async with self.engine.begin() as connection:
                if not self._is_sqlite:  # two first starts at once would both create the tables
                    lock = f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"
                    await connection.exec_driver_sql(lock)
                await connection.run_sync(_upgrade, self.address.shown)

        await self.retried(act)

    async def write(self, bars: Sequence[_BarRows]) -> int:
        """Commit bars in one transaction.

        Returns:
            how many rows were not there before.
        """

        async def act() -> int:
            n_new = 0
            async with self.engine.begin() as connection:
                for name in TABLES:
                    rows = list(itertools.chain.from_iterable(b.rows.get(name, ()) for b in bars))
                    if rows:
                        n_new += await self._insert(connection, name, rows)
            return n_new

        written: int = await self.retried(act)
        return written

    async def _insert(self, connection: AsyncConnection, name: str, rows: list[Row]) -> int:
        parameters: Any = (
            rows if self._is_sqlite else tuple(list(c) for c in zip(*rows, strict=True))
        )
        result = await connection.exec_driver_sql(
            self._inserts[name], parameters, execution_options={"preserve_rowcount": True}
        )
        if result.rowcount != len(rows):
            await self._refuse_others(connection, TABLES[name], rows)
        return result.rowcount

    async def _refuse_others(
        self, connection: AsyncConnection, table: sa.Table, rows: Iterable[Row]
    ) -> None:
        """Compare rows with what the database holds under their keys."""
        key = [column.name for column in table.primary_key]
        places = [list(table.columns.keys()).index(name) for name in key]
        wanted = iter(rows)
        while chunk := list(itertools.islice(wanted, 1_000)):
            keys = [tuple(row[place] for place in places) for row in chunk]
            chosen = sa.tuple_(*(table.c[name] for name in key)).in_(keys)
            found = {
                tuple(row[place] for place in places): tuple(row)
                for row in await connection.execute(sa.select(table).where(chosen))
            }
            for row_key, row in zip(keys, chunk, strict=True):
                if found.get(row_key) != tuple(row):
                    raise AnalyticsError(
                        f"table {table.name} holds another row under {', '.join(key)} ="
                        f" {', '.join(map(str, row_key))}: what is there comes from another study or"
                        " version; give this one a database of its own"
                    )

    async def close(self) -> None:
        """Give up the connection."""
        await self.engine.dispose()


def _prepare_sqlite(connection: Any, record: object) -> None:
    cursor = connection.cursor()
    # WAL with NORMAL is consistent after a kill and after a power cut; the latter may lose the last
    # commits. The log is folded back every 40 MB and the cache holds 64 MB: fewer random writes.
    for pragma in (
        "journal_mode=WAL",
        "synchronous=NORMAL",
        "wal_autocheckpoint=10000",
        "cache_size=-65536",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _schema(connection: sa.Connection) -> str | None:
    """The version of a database's schema, or None where it has none."""
    from alembic.runtime.migration import MigrationContext

    options = {"version_table": VERSION_TABLE}
    return MigrationContext.configure(connection, opts=options).get_current_revision()


def _alembic() -> Any:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def schema_versions() -> list[str]:
    """Versions of the schema that this program knows, oldest first."""
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory.from_config(_alembic())
    return [script.revision for script in scripts.walk_revisions()][::-1]


_ALEMBIC_IS_GLOBAL = threading.Lock()


def _upgrade(connection: sa.Connection, shown: str) -> None:
    from alembic import command

    version, known = _schema(connection), schema_versions()
    if version == known[-1]:
        return
    if version is not None and version not in known:
        raise AnalyticsError(_too_new(shown, version, known))
    config = _alembic()
    config.attributes.update(connection=connection, version_table=VERSION_TABLE)
    with _ALEMBIC_IS_GLOBAL:
        command.upgrade(config, "head")


def _too_new(shown: str, version: str, known: Sequence[str]) -> str:
    return (
        f"{shown}: its analytics have schema {version}, this barsweep knows {known[-1]} at most;"
        " upgrade barsweep or give another database"
    )


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
        self._address = _address(url)
        self._refuse_missing_folder()
        self._spill = _Spill(Path(spill), self._address)
        self._max_rows_waiting = max_rows_waiting
        self._batch_rows = batch_rows
        self._widths = {name: {len(table.columns)} for name, table in TABLES.items()}

        # The two sides share no lock: Ctrl-C may strike the caller's side anywhere, and a lock that
        # it leaves held would block the other for ever. Each number has one side that sets it.
        self._open = _BarRows()
        self._added = 0
        self._unannounced = 0
        self._closing = False
        self._done = 0
        self._failed_at: tuple[int | None, str] | None = None
        self._bars: SimpleQueue[_BarRows | None] = SimpleQueue()
        self._progress: SimpleQueue[None] = SimpleQueue()
        self._started: SimpleQueue[AnalyticsError | None] = SimpleQueue()

        self._pending: deque[_BarRows] = deque()
        self._no_more = False
        self._wake = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="barsweep-analytics", daemon=True)
        self._thread.start()
        failure = self._started.get()
        if failure is not None:
            self._thread.join()
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
            self._open = _BarRows()
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
        while self._added - self._done > self._max_rows_waiting and self._thread.is_alive():
            # The time limit is for a signal handler that swallowed what was put there.
            with contextlib.suppress(Empty):
                self._progress.get(timeout=0.5)
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
        self._thread.join()
        failure = self.failure
        if failure is not None:
            raise failure

    def _hand_over(self) -> None:
        ended = self._open
        if ended.count:
            self._bars.put(ended)
            self._added += ended.count
            self._unannounced += ended.count
        self._open = _BarRows()
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
        if self._spill.failed is not None or not self._thread.is_alive():
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
            self._progress.put(None)

    async def _work(self) -> None:
        self._loop = asyncio.get_running_loop()
        database = _Database(self._address)
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

    async def _next_batch(self) -> list[_BarRows]:
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
                batch: list[_BarRows] = []
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

    def __init__(self, path: Path, address: _Address) -> None:
        self.path = path
        self.failed: str | None = None
        self._shown = address.shown
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
        return f"barsweep analytics import {shlex.quote(str(self.path))}"

    def described(self) -> str:
        """What the file holds and what to do with it, the end of a message."""
        held = f"{self._n_rows:,} rows are in {self.path}: load them with `{self._command()}`"
        if self.failed is None:
            return f"the other {held}"
        lost = "the rest" if self._first_lost is None else f"bar {self._first_lost} and all after"
        held = f"{held}; " if self._n_rows else ""
        return (
            f"{held}{lost} could not be written to {self.path} either ({self.failed}) and is lost:"
            " make room there and start the flow again"
        )

    def write(self, bars: Sequence[_BarRows]) -> None:
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
        return {"file": _SPILL_FORMAT, "schema": schema_versions()[-1], "database": self._shown}

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


def import_spill(spill: Path, url: str) -> int:
    """Load a spill file; rows that are in the database already are skipped.

    A last line without its end, from a process killed as it wrote, is left out: it is half a bar.

    Args:
        spill: file that ``AnalyticsWriter`` wrote.
        url: of the database, as for ``AnalyticsWriter``.

    Returns:
        how many rows were new to the database.

    Raises:
        AnalyticsError: the file or the database cannot be used; what was loaded until then stays,
            and the same again goes on from there.
    """
    spill = Path(spill)
    address = _address(url)

    async def load() -> int:
        database = _Database(address)
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
        ) from None


def _some_bars(bars: Iterator[_BarRows], n_rows: int = 20_000) -> list[_BarRows]:
    batch: list[_BarRows] = []
    for bar in bars:
        batch.append(bar)
        n_rows -= bar.count
        if n_rows <= 0:
            break
    return batch


def _spilled_bars(path: Path, file: BinaryIO) -> Iterator[_BarRows]:
    known = schema_versions()
    for number, line in enumerate(file, 1):
        if not line.endswith(b"\n"):
            return
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
                yield _BarRows(record["bar"], rows, sum(map(len, rows.values())))
        except (ValueError, KeyError, TypeError, AttributeError):
            what = "this is no spill file of barsweep" if number == 1 else "this is no bar's rows"
            raise AnalyticsError(f"line {number}: {what}; restore the file") from None
        if number == 1 and version != known[-1]:
            raise AnalyticsError(
                f"line 1: schema {version}, this barsweep loads {known[-1]}; use the version of"
                " barsweep that wrote it"
            )


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
        self._address = _address(url)
        file = self._address.file
        if file is not None and not file.is_file():
            raise AnalyticsError(f"{file}: no analytics database here; `barsweep flow` writes one")
        self._database = _Database(self._address, read_only=True)
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
            ``fill``; ``order``, ``signal`` and ``regime`` (each None where there is none: a stop has
            no order); ``decision_bar``, the symbol's bar at which the order was placed; ``bar``, the
            one at which it filled; ``equity`` after the fill's bar; ``portfolio``. Features and
            parameters are dicts.

        Raises:
            AnalyticsError: there is no such fill; names its neighbours.
        """
        return self._run(self._chain(fill_id))

    def reject_counts(self) -> list[tuple[str, int]]:
        """Reasons why signals became no orders with how often, the most frequent first."""
        rejects = TABLES["rejects"]
        count = sa.func.count()
        query = (
            sa.select(rejects.c.reason, count)
            .group_by(rejects.c.reason)
            .order_by(count.desc(), rejects.c.reason)
        )
        return [(row[0], row[1]) for row in self._run(self._rows(query))]

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
            reason = self._address.reason(error)
            raise AnalyticsError(f"{self._address.shown}: cannot be read: {reason}") from None

    async def _check_schema(self) -> None:
        async with self._database.engine.connect() as connection:
            version = await connection.run_sync(_schema)
        known = schema_versions()
        if version is None:
            raise AnalyticsError(
                f"{self._address.shown}: holds no analytics; `barsweep flow` writes them"
            )
        if version not in known:
            raise AnalyticsError(_too_new(self._address.shown, version, known))
        if version != known[-1]:
            raise AnalyticsError(
                f"{self._address.shown}: has schema {version}, older than {known[-1]}; any"
                " `barsweep flow` or `barsweep analytics import` into it upgrades it"
            )

    async def _rows(self, query: sa.Select[Any]) -> Sequence[sa.Row[Any]]:
        async with self._database.engine.connect() as connection:
            return (await connection.execute(query)).all()

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
            of_order = order or dict.fromkeys(("signal_id", "regime_id", "bar"))
            portfolio_id, symbol, bar = fill["portfolio_id"], fill["symbol"], fill["bar"]
            return {
                "fill": fill,
                "order": order,
                "signal": await one("signals", signal_id=of_order["signal_id"]),
                "regime": await one("regimes", regime_id=of_order["regime_id"]),
                "decision_bar": await one("bars", bar=of_order["bar"], symbol=symbol),
                "bar": await one("bars", bar=bar, symbol=symbol),
                "equity": await one("equity", portfolio_id=portfolio_id, bar=bar),
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
