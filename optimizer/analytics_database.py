"""The tables of the analytics database and the way to them: addresses, schema versions, inserts.

Identifiers are pure functions of study, parameter set, bar and symbol. So every insert is
repeatable: a row that is there already is left as it is, and one that differs under the same key is
an error, never overwritten. That makes retries, imports and a second start after a kill safe.
"""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import itertools
import os
import sqlite3
import threading
import urllib.parse
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

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
    _text("data_hash"),
)
sa.Table(
    "bars",
    _METADATA,
    _text("bar_id", key=True),
    _whole("bar"),
    _text("time"),
    _text("symbol"),
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
    _text("bar_id"),
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
    _text("order_id", null=True),
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
    _text("bar_id"),
    _text("opening_order_id", null=True),
    _real("stop_level", null=True),
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
``direction`` and ``code`` are those of ``kernels.codes``; ``reason`` is a name in its ``REASONS``, why a
signal became no order, or ``optimizer.types.NO_CASH_AT_FILL``, why an order (or a stop's cover, which
has none) became no fill. ``bar_id`` of a signal is the bar that it was decided at, that of a fill the
bar that it filled at. Values, costs and cash are in the currency of the prices, quantities in units. A
value that does not apply is None, never NaN: the order of a stop's fill (which has the one that opened
the position beside it), a size that has no limit.
SQLite gives -0.0 back as 0.0; every other float64 comes back bit for bit.
"""

VERSION_TABLE = "barsweep_schema"  # not Alembic's default, which other programs' databases hold
_MIGRATIONS = Path(__file__).parent / "migrations"
_MIGRATION_LOCK = 7_230_619_284  # any number that no other program locks

_BUSY_SECONDS = 5.0
_COMMAND_SECONDS = 60.0
_RETRY_SECONDS = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)


# --- Addresses and errors -----------------------------------------------------------------------


@dataclass(frozen=True)
class Address:
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
    def kept(self) -> str:
        """The URL as a file may keep it: without a password, and good from any folder."""
        plain = self.url.set(drivername=self.url.get_backend_name())
        if self.file is not None:
            return plain.set(database=str(self.file.absolute())).render_as_string()
        query = {key: value for key, value in plain.query.items() if "password" not in key}
        # SQLAlchemy's set() takes None for "leave it as it is".
        return sa.URL.create(
            plain.drivername, plain.username, None, plain.host, plain.port, plain.database, query
        ).render_as_string()

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

    def password_mend(self, error: BaseException) -> str:
        """The end of a message about a password that is missing, or nothing."""
        asked = "password" in self.reason(error).lower() and not self.secrets
        return f"; try again {PASSWORD_MEND}" if asked else ""


PASSWORD_MEND = (
    "with the database's password, which no file keeps, in the environment variable PGPASSWORD (or"
    " the whole URL in --database)"
)
"""What to do where a URL that a file kept lacks its password."""

_URL_MEND = (
    "expected sqlite:///FILE or postgresql://USER:PASSWORD@HOST:PORT/NAME, with @ : / in the password"
    " written as %40 %3A %2F"
)


def parse_url(url: str) -> Address:
    """The database that a URL names.

    Raises:
        AnalyticsError: it cannot be read, or names no kind of database that is supported; never shows
            the URL, since a password may be anywhere in one that is written wrong.
    """
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
        return Address(parsed, database, ())
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
    return Address(parsed, shown, tuple(secret for secret in secrets if secret))


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
class BarRows:
    """Rows of one bar, by table. ``bar`` is None until the bar has ended."""

    bar: int | None = None
    rows: dict[str, list[Row]] = field(default_factory=dict)
    count: int = 0


class Database:
    """One open database, used from one event loop.

    Args:
        address: of the database.
        read_only: for a reader: no schema change, no lock against writers.
    """

    def __init__(self, address: Address, *, read_only: bool = False) -> None:
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

    async def _retried(self, act: Callable[[], Awaitable[_Result]]) -> _Result:
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

        await self._retried(act)

    async def write(self, bars: Sequence[BarRows]) -> int:
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


def schema_of(connection: sa.Connection) -> str | None:
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


@functools.cache
def schema_versions() -> tuple[str, ...]:
    """Versions of the schema that this program knows, oldest first."""
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory.from_config(_alembic())
    return tuple(script.revision for script in scripts.walk_revisions())[::-1]


_ALEMBIC_IS_GLOBAL = threading.Lock()


def _upgrade(connection: sa.Connection, shown: str) -> None:
    from alembic import command

    version, known = schema_of(connection), schema_versions()
    if version == known[-1]:
        return
    if version is not None and version not in known:
        raise AnalyticsError(too_new(shown, version, known))
    config = _alembic()
    config.attributes.update(connection=connection, version_table=VERSION_TABLE)
    with _ALEMBIC_IS_GLOBAL:
        command.upgrade(config, "head")


def too_new(shown: str, version: str, known: Sequence[str]) -> str:
    """The message about a schema that a later barsweep made."""
    return (
        f"{shown}: its analytics have schema {version}, this barsweep knows {known[-1]} at most;"
        " upgrade barsweep or give another database"
    )
