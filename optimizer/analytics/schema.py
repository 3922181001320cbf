"""Versions of the schema of the analytics database, and the upgrade to the newest."""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from optimizer.analytics.address import AnalyticsError
from optimizer.analytics.tables import TABLES, VERSION_TABLE
from optimizer.text import quoted

_MIGRATIONS = Path(__file__).parent / "migrations"


def schema_of(connection: sa.Connection) -> str | None:
    """The version of the schema of a database; None without a schema.

    Args:
        connection: the connection to the database.
    """
    from alembic.runtime.migration import MigrationContext

    options = {"version_table": VERSION_TABLE}
    return MigrationContext.configure(connection, opts=options).get_current_revision()


def refuse_foreign_schema(connection: sa.Connection, shown: str) -> None:
    """Refuse a SQLite file in whose schema code of its maker would run in place of the tables.

    A view that calls itself is endless, a trigger or a computed column acts on whatever is written, and
    a virtual table calls what SQLite was compiled with. Views under other names are the user's own
    affair: nothing here reads them.

    Args:
        connection: the connection to the database; any other than SQLite is that of a server that
            the user knows.
        shown: the database as messages name it.

    Raises:
        AnalyticsError: the schema has one of these; names it.
    """
    if connection.dialect.name != "sqlite":
        return
    own = {name.lower() for name in (*TABLES, VERSION_TABLE)}
    found = connection.exec_driver_sql("SELECT type, name, tbl_name, sql FROM sqlite_master").all()
    for kind, name, table, text in found:
        if str(table).lower() not in own and str(name).lower() not in own:
            continue
        plain = kind == "index" or (
            kind == "table" and not _VIRTUAL.match(str(text)) and not _computed(connection, name)
        )
        if not plain:
            what = "a virtual or computed table" if kind == "table" else f"a {kind}"
            raise AnalyticsError(
                f"{shown}: holds {what} {quoted(str(name))}, which barsweep does not write; it is not"
                " read: remove it, or run the flow again"
            )


_VIRTUAL = re.compile(r"\s*CREATE\s+VIRTUAL\b", re.IGNORECASE)


def _computed(connection: sa.Connection, table: str) -> bool:
    """Whether a table has columns that are computed."""
    query = "SELECT count(*) FROM pragma_table_xinfo(?) WHERE hidden <> 0"
    return bool(connection.exec_driver_sql(query, (table,)).scalar())


def _alembic() -> Any:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


@functools.cache
def schema_versions() -> tuple[str, ...]:
    """The versions of the schema that this program knows, oldest first."""
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory.from_config(_alembic())
    return tuple(script.revision for script in scripts.walk_revisions())[::-1]


_ALEMBIC_IS_GLOBAL = threading.Lock()


def upgrade(connection: sa.Connection, shown: str) -> None:
    """Upgrade the tables of a database to the newest version.

    Args:
        connection: the connection to the database.
        shown: the database as messages name it.

    Raises:
        AnalyticsError: the version is newer than this program.
    """
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
    """The message about a schema that a later barsweep made.

    Args:
        shown: the database as messages name it.
        version: the version of its schema.
        known: versions that this program knows, oldest first.
    """
    return (
        f"{shown}: its analytics have schema {version}, but this barsweep"
        f" knows only {known[-1]} and earlier; upgrade barsweep or give another database"
    )
