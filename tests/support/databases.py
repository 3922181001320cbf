"""Analytics databases of the tests, looked at by their drivers alone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optimizer.analytics.tables import TABLES
from tests.support.rows import Tables, rows_of_bar

if TYPE_CHECKING:
    from tests.support.postgres import PostgresServer

ROOT = Path(__file__).resolve().parents[2]


def expected(bars: Sequence[int]) -> Tables:
    tables: Tables = {name: [] for name in TABLES}
    for bar in bars:
        for name, rows in rows_of_bar(bar).items():
            tables[name] += rows
    return {name: sorted(rows, key=str) for name, rows in tables.items()}


class Place:
    """A database, looked at by its driver alone."""

    def __init__(self, url: str, query: Callable[[str], list[tuple[Any, ...]]]) -> None:
        self.url = url
        self.query = query

    def tables(self) -> Tables:
        names = [n for n in TABLES if n in self.names()]
        return {n: sorted(self.query(f"SELECT * FROM {n}"), key=str) for n in names}

    def names(self) -> set[str]:
        lite = "SELECT name FROM sqlite_master WHERE type = 'table'"
        other = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        return {row[0] for row in self.query(lite if self.url.startswith("sqlite") else other)}

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else can write."""
        if self.url.startswith("sqlite"):
            connection = sqlite3.connect(sqlite_file(self.url), isolation_level=None)
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            finally:
                connection.execute("ROLLBACK")
                connection.close()
            return
        import asyncpg

        with asyncio.Runner() as runner:
            other = runner.run(asyncpg.connect(self.url))
            runner.run(other.execute("BEGIN; LOCK TABLE equity IN ACCESS EXCLUSIVE MODE"))
            try:
                yield
            finally:
                runner.run(other.execute("ROLLBACK"))
                runner.run(other.close())


def sqlite_file(url: str) -> str:
    return url.removeprefix("sqlite:///")


def lite(path: Path) -> Place:
    def query(text: str) -> list[tuple[Any, ...]]:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
            return list(connection.execute(text))

    return Place(f"sqlite:///{path}", query)


def postgres(server: PostgresServer) -> Place:
    name = server.new_database()
    return Place(server.url(name), lambda text: server.execute(name, text))


def wait_until(is_so: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def whole_bars(tables: Tables) -> int:
    """How many bars the tables hold; fails unless they are the first ones, each of them whole."""
    n_bars = len({row[1] for row in tables["bars"]})
    assert tables == expected(range(n_bars))
    return n_bars


def started(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
