"""Address of an analytics database."""

from __future__ import annotations

import importlib.util
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa

from optimizer.errors import BarsweepError


class AnalyticsError(BarsweepError, OSError):
    """An analytics database or spill file that fails: names it, without its password."""


@dataclass(frozen=True)
class Address:
    """Where a database is.

    Attributes:
        url: the URL with the asynchronous driver.
        shown: what messages show: never a password.
        secrets: texts that must not be shown.
    """

    url: sa.URL = field(repr=False)
    shown: str
    secrets: tuple[str, ...] = field(repr=False)

    @property
    def kept(self) -> str:
        """The URL as files keep it: without a password, and valid from any folder."""
        plain = self.url.set(drivername=self.url.get_backend_name())
        if self.file is not None:
            return plain.set(database=str(self.file.absolute())).render_as_string()
        query = {key: value for key, value in plain.query.items() if "password" not in key}
        # In SQLAlchemy's set(), None means "unchanged".
        return sa.URL.create(
            plain.drivername, plain.username, None, plain.host, plain.port, plain.database, query
        ).render_as_string()

    @property
    def file(self) -> Path | None:
        """The file of a SQLite database."""
        is_file = self.url.get_backend_name() == "sqlite"
        return Path(str(self.url.database)) if is_file else None

    def reason(self, error: BaseException) -> str:
        """The message of a driver's error on one short line, without secrets.

        Args:
            error: the error of a driver or of SQLAlchemy.
        """
        cause: BaseException = getattr(error, "orig", None) or error
        if isinstance(cause.__cause__, Exception) and not isinstance(cause, sqlite3.Error):
            cause = cause.__cause__  # SQLAlchemy's copy of asyncpg's errors puts the class first
        lines = str(cause).strip().splitlines() or [type(cause).__name__]
        text = lines[0]
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text if len(text) <= 300 else text[:300] + " ..."

    def password_hint(self, error: BaseException) -> str:
        """The end of a message if the password is missing; else empty.

        Args:
            error: the error of a driver or of SQLAlchemy.
        """
        asked = "password" in self.reason(error).lower() and not self.secrets
        return f"; try again {PASSWORD_HINT}" if asked else ""


PASSWORD_HINT = (
    "with the database's password, which no file keeps, in the environment variable PGPASSWORD (or"
    " the whole URL in --database)"
)
"""How to give the password of a URL that a file keeps without it."""

_URL_FORM = (
    "expected sqlite:///FILE or postgresql://USER:PASSWORD@HOST:PORT/NAME, with @ : / in the password"
    " written as %40 %3A %2F"
)


def parse_url(url: str) -> Address:
    """The database that a URL names.

    Args:
        url: ``sqlite:///FILE`` or ``postgresql://USER:PASSWORD@HOST:PORT/NAME``.

    Raises:
        AnalyticsError: it cannot be read, or its kind of database is not supported. The message does
            not show the URL: in a malformed one the password may be anywhere.
    """
    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        raise AnalyticsError(f"analytics database: its URL cannot be read; {_URL_FORM}") from None
    drivers = {
        "sqlite": "sqlite+aiosqlite",
        "sqlite+aiosqlite": "sqlite+aiosqlite",
        "postgres": "postgresql+asyncpg",
        "postgresql": "postgresql+asyncpg",
        "postgresql+asyncpg": "postgresql+asyncpg",
    }
    if parsed.drivername not in drivers:
        raise AnalyticsError(
            f"analytics database: {parsed.drivername!r} is not supported; {_URL_FORM}"
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
        # The password has an unescaped @: its rest became part of the host or the name.
        raise AnalyticsError(f"analytics database: its URL cannot be read; {_URL_FORM}")
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


def is_transient(error: BaseException) -> bool:
    """Whether another try may succeed: a lock is held, or a server is restarting.

    Args:
        error: the error of a driver or of SQLAlchemy.
    """
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
