"""A real PostgreSQL server of the tests' own, on loopback, in a folder that goes with it.

``tests/conftest.py`` makes its fixtures known: ``postgres_server`` is the server, started once;
``postgres_url`` a new database in it.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


def installed_server() -> Path | None:
    """The folder of the newest installed server."""
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    versions = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    newest = max(versions, key=lambda path: int(path.parent.parent.name), default=None)
    return None if newest is None else newest.parent


class PostgresServer:
    """A server that can be stopped and started again.

    Args:
        programs: folder of ``initdb`` and ``postgres``.
        flush: whether commits wait for the disk.

    Attributes:
        port: on loopback.
        password: of the user ``barsweep``; has what a URL must escape.
    """

    password = "s3cret@pa/ss:w%rd"

    def __init__(self, programs: Path, *, flush: bool = False) -> None:
        self._programs = programs
        self._flush = "on" if flush else "off"
        # The server refuses to run as root, and its user must reach the folder.
        self._user = "postgres" if os.geteuid() == 0 else None
        self._folder = Path(tempfile.mkdtemp(prefix="barsweep-postgres-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._n_databases = 0
        password = self._folder / "password"
        password.write_text(self.password)
        if self._user is not None:
            entry = pwd.getpwnam(self._user)
            for path in (self._folder, password):
                os.chown(path, entry.pw_uid, entry.pw_gid)
        command = [
            *(str(programs / "initdb"), "-D", str(self._folder / "data"), "-U", "barsweep"),
            *("--auth=scram-sha-256", f"--pwfile={password}", "--encoding=UTF8", "--locale=C"),
            *("--no-sync", "--no-instructions"),
        ]
        subprocess.run(command, check=True, capture_output=True, **self._as_user())
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]

    def _as_user(self) -> dict[str, Any]:
        own: dict[str, Any] = {"cwd": self._folder, "env": {"PATH": os.environ["PATH"]}}
        if self._user is not None:
            own |= {"user": self._user, "group": self._user, "extra_groups": []}
        return own

    def start(self) -> None:
        """Start the server and wait until it answers."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(str(self._programs / "postgres"), "-D", str(self._folder / "data")),
                    *("-p", str(self.port), "-h", "127.0.0.1", "-k", str(self._folder)),
                    *("-c", f"fsync={self._flush}", "-c", "max_connections=20"),
                ],
                stdout=log,
                stderr=log,
                **self._as_user(),
            )
        deadline = time.monotonic() + 60
        while True:
            try:
                self.execute("postgres", "SELECT 1")
                return
            except (OSError, self._starting()):
                if self._process.poll() is not None or time.monotonic() > deadline:
                    text = (self._folder / "log").read_text()
                    raise RuntimeError(f"PostgreSQL did not start:\n{text}") from None
                time.sleep(0.05)

    @staticmethod
    def _starting() -> type[Exception]:
        import asyncpg

        error: type[Exception] = asyncpg.CannotConnectNowError
        return error

    def stop(self) -> None:
        """Stop the server at once, as a crash would."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(timeout=60)
            self._process = None

    def remove(self) -> None:
        """Stop the server and delete its folder."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def url(self, database: str, *, password: str | None = None) -> str:
        """Address of a database, the password escaped; None takes the right one."""
        secret = urllib.parse.quote(self.password if password is None else password, safe="")
        return f"postgresql://barsweep:{secret}@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """Name of a new empty database."""
        self._n_databases += 1
        name = f"analytics_{self._n_databases}"
        self.execute("postgres", f"CREATE DATABASE {name}")
        return name

    def execute(self, database: str, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows of a query, by the driver alone."""
        import asyncpg

        async def run() -> list[tuple[Any, ...]]:
            connection = await asyncpg.connect(self.url(database))
            try:
                return [tuple(row) for row in await connection.fetch(query, *values)]
            finally:
                await connection.close()

        return asyncio.run(run())


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    programs = installed_server()
    if programs is None:
        pytest.skip("no PostgreSQL server is installed; .ci/postgres installs Debian's")
    server = PostgresServer(programs)
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> str:
    return postgres_server.url(postgres_server.new_database())
