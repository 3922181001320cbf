"""Connection to an analytics database."""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import sqlite3
import time
import urllib.parse
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from optimizer.analytics.address import Address, AnalyticsError, is_transient
from optimizer.analytics.schema import refuse_foreign_schema, upgrade
from optimizer.analytics.tables import TABLES, BarRows, Row

_Result = TypeVar("_Result")
_MIGRATION_LOCK = 7_230_619_284  # any number that no other program locks

_BUSY_SECONDS = 5.0
COMMAND_SECONDS = 60.0
"""How long a command may take."""

_STEPS = 100_000
"""Steps of SQLite's machine, some milliseconds, after which it asks whether to go on."""

_LONGEST_VALUE = 100_000_000
"""Bytes of a text in SQLite; the longest that is written, the parameters of a portfolio, is far below."""
_RETRY_SECONDS = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)


class Database:
    """An open database, for use from one event loop.

    Args:
        address: the address of the database.
        read_only: whether it serves a reader, which changes no schema and locks out no writer.
    """

    def __init__(self, address: Address, *, read_only: bool = False) -> None:
        self.address = address
        self._is_sqlite = address.file is not None
        self._deadline = math.inf
        self._inserts = {name: self._insert_statement(table) for name, table in TABLES.items()}
        url = address.url
        options: dict[str, Any]
        if self._is_sqlite:
            # The driver begins no transaction by itself: see _begin.
            options = {
                "timeout": _BUSY_SECONDS,
                "isolation_level": None,
                "factory": self._sqlite_connection,
            }
            if read_only:
                path = urllib.parse.quote(os.path.abspath(str(url.database)))
                url = url.set(database=f"file:{path}", query={"mode": "ro", "uri": "true"})
        else:
            options = {
                "timeout": 10.0,
                "command_timeout": COMMAND_SECONDS,
                "server_settings": {"application_name": "barsweep"},
            }
        self.engine: AsyncEngine = create_async_engine(
            url, connect_args=options, pool_size=1, max_overflow=0
        )
        if self._is_sqlite:
            # A read transaction that starts to write fails at once if another process writes, so a
            # writer takes its lock at the beginning.
            begin = "BEGIN" if read_only else "BEGIN IMMEDIATE"

            @sa.event.listens_for(self.engine.sync_engine, "begin")
            def _begin(connection: sa.Connection) -> None:
                connection.exec_driver_sql(begin)

            if not read_only:
                sa.event.listen(self.engine.sync_engine, "connect", _prepare_sqlite)

    def _sqlite_connection(self, *arguments: Any, **options: Any) -> sqlite3.Connection:
        """A connection whose queries end: a file from a stranger can make them run forever."""
        connection = sqlite3.Connection(*arguments, **options)
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST_VALUE)
        connection.set_progress_handler(lambda: self.out_of_time, _STEPS)
        return connection

    def allow(self, seconds: float = COMMAND_SECONDS) -> None:
        """Let SQLite go on for a time from now; then its query fails, as PostgreSQL's does.

        Args:
            seconds: 0 ends what it is doing, in whatever thread.
        """
        self._deadline = time.monotonic() + seconds

    @property
    def out_of_time(self) -> bool:
        """Whether the time that SQLite was allowed is over."""
        return time.monotonic() > self._deadline

    def _insert_statement(self, table: sa.Table) -> str:
        """An insert that keeps existing rows with the same key."""
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

    async def _retried(self, act: Callable[[], Awaitable[_Result]]) -> _Result:
        """The result of ``act()``, which is tried again for some seconds if an error is transient."""
        for delay in (*_RETRY_SECONDS, None):
            try:
                return await act()
            except Exception as error:
                if delay is None or not is_transient(error):
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
                await connection.run_sync(refuse_foreign_schema, self.address.shown)
                await connection.run_sync(upgrade, self.address.shown)

        await self._retried(act)

    async def write(self, bars: Sequence[BarRows]) -> int:
        """Commit bars in one transaction.

        Args:
            bars: whole bars.

        Returns:
            Number of new rows.

        Raises:
            AnalyticsError: the database has other rows under the same keys.
        """

        async def act() -> int:
            n_new = 0
            async with self.engine.begin() as connection:
                for name in TABLES:
                    rows = list(itertools.chain.from_iterable(b.rows.get(name, ()) for b in bars))
                    if rows:
                        n_new += await self._insert(connection, name, rows)
            return n_new

        return await self._retried(act)

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
        """Refuse rows if the database has other rows under their keys."""
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
                        f" {', '.join(map(str, row_key))}: it comes from another study or version;"
                        " give this flow a database of its own"
                    )

    async def close(self) -> None:
        """Close the connection."""
        await self.engine.dispose()


def _prepare_sqlite(connection: Any, record: object) -> None:
    cursor = connection.cursor()
    # WAL with NORMAL is consistent after a kill and after a power cut, which may lose the last commits.
    # The log is folded back every 40 MB and the cache holds 64 MB, for fewer random writes.
    for pragma in (
        "journal_mode=WAL",
        "synchronous=NORMAL",
        "wal_autocheckpoint=10000",
        "cache_size=-65536",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
