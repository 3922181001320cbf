"""Databases that a file of a flow names: which of them may be opened without asking the user.

A flow's folder and its spill file say where the trace is, so that reading it needs no URL. Whoever
made such a file would otherwise choose the host that barsweep connects to, and hand it PGPASSWORD.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from optimizer.analytics.address import Address, AnalyticsError, parse_url
from optimizer.errors import StudyError
from optimizer.files import add_private_line, ledger_path, read_private
from optimizer.text import path_problem


def recorded_database(url: str, file: Path, confirm: Callable[[str], bool] | None = None) -> str:
    """The URL that a file names, if it may be opened.

    It may be opened if it is a file in the folder of ``file``, or a database that this user's own flows
    have written to or that the user has confirmed before. PostgreSQL on this machine is no exception:
    any other user's program may listen at a port or a socket, and would be handed PGPASSWORD.

    Args:
        url: the URL as the file names it.
        file: the record of a flow, or a spill file.
        confirm: asks the user the question that it is given; None where nobody can be asked.

    Raises:
        AnalyticsError: it may not be opened, or is no URL; names the database and the fix.
    """
    refuse_odd_url(url, file)
    try:
        address = parse_url(url)
    except AnalyticsError as error:
        raise AnalyticsError(f"{file}: {error}") from None
    if _is_in(address.file, file.parent) or address.kept in _known():
        return url
    place = f"the file {address.shown}" if address.file is not None else address.shown
    if confirm is not None and confirm(
        f"{file} names a database that no flow of yours has used: {place}; open it?"
    ):
        note_database(address)
        return url
    raise AnalyticsError(
        f"{file}: names a database that no flow of yours has used, {place}; nothing was opened: if"
        " you know it, give its URL with --database"
    )


def refuse_odd_url(url: str, file: Path) -> None:
    """Refuse a URL of a file that is too long or cannot be printed.

    Args:
        url: the URL as the file names it; messages do not show it, since it may hold a password.
        file: the record of a flow, or a spill file.

    Raises:
        AnalyticsError: it is one of these.
    """
    if problem := path_problem(url):
        raise AnalyticsError(f"{file}: database: the URL {problem}; restore the file")


def _is_in(file: Path | None, folder: Path) -> bool:
    """Whether a database is a file in a folder. Links are followed first: they may lead out of it."""
    return file is not None and file.resolve().is_relative_to(folder.resolve())


def _file() -> Path:
    path = ledger_path()
    return path.with_name(f"{path.name}.databases")


def _known() -> set[str]:
    """URLs without passwords of the databases that this user has used.

    A file in which others could have written counts for nothing, and neither does one that cannot be
    read: the user is asked again.
    """
    try:
        return set(read_private(_file()).splitlines())
    except (OSError, StudyError, ValueError):
        return set()


def note_database(address: Address) -> None:
    """Remember a database that this user's flow writes to, or that the user confirmed.

    Where that cannot be written, the user is asked again.

    Args:
        address: the address of the database; its password is not kept.
    """
    if address.kept not in _known():
        with contextlib.suppress(OSError, StudyError, ValueError):
            add_private_line(_file(), address.kept)
