"""SQLite files of a trading session, in which nothing that was committed is lost to a kill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa


def open_sqlite(path: Path, metadata: sa.MetaData) -> sa.Engine:
    """Open a file, and make what tables it lacks.

    A transaction begins with the lock for writing, and has reached the disk when it is committed.

    Args:
        path: the file.
        metadata: the tables.

    Returns:
        The file as SQLAlchemy knows it.
    """
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path.absolute())), connect_args={"timeout": 30.0}
    )

    @sa.event.listens_for(engine, "connect")
    def _prepare(connection: Any, record: object) -> None:
        connection.isolation_level = None  # SQLAlchemy's own BEGIN below
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=30000"):
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    metadata.create_all(engine)
    return engine
