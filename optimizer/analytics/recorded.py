"""Databases that a file of a flow names: which of them may be opened without asking the user.

A flow's folder and its spill file say where the trace is, so that reading it needs no URL. Whoever
made such a file would otherwise choose the host that barsweep connects to, and hand it PGPASSWORD.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
from collections.abc import Callable
from pathlib import Path

from optimizer.analytics.address import Address, AnalyticsError, parse_url
from optimizer.files import ledger_path
from optimizer.text import path_problem

_HARMLESS = frozenset({"ssl", "host", "port", "timeout", "command_timeout"})
"""Options of a URL that do not lead to another host or file; hosts among them are looked at."""


def recorded_database(url: str, file: Path, confirm: Callable[[str], bool] | None = None) -> str:
    """The URL that a file names, if it may be opened.

    It may be opened if it is a file in the folder of ``file``, PostgreSQL on this machine, or a
    database that this user's own flows have written to or that the user has confirmed before.

    Args:
        url: as the file names it.
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
    if _is_here(address, file.parent) or address.kept in _known():
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
        url: as the file names it; messages do not show it, since it may hold a password.
        file: the record of a flow, or a spill file.

    Raises:
        AnalyticsError: it is one of these.
    """
    if problem := path_problem(url):
        raise AnalyticsError(f"{file}: database: the URL {problem}; restore the file")


def _is_here(address: Address, folder: Path) -> bool:
    """Whether a database is a file in a folder, or a server on this machine."""
    if address.file is not None:
        # Links are followed first: they may lead out of the folder.
        return address.file.resolve().is_relative_to(folder.resolve())
    url = address.url
    given = url.query.get("host", ())
    hosts = [url.host or "", *([given] if isinstance(given, str) else given)]
    return set(url.query) <= _HARMLESS and all(
        _is_this_machine(one) for host in hosts for one in host.split(",")
    )


def _is_this_machine(host: str) -> bool:
    """Whether a host is loopback, or the folder of a socket; no name is looked up."""
    if host in ("", "localhost") or host.startswith("/"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _file() -> Path:
    path = ledger_path()
    return path.with_name(f"{path.name}.databases")


def _known() -> set[str]:
    """URLs without passwords of the databases that this user has used."""
    try:
        return set(_file().read_text(encoding="utf-8").splitlines())
    except (OSError, ValueError):
        return set()


def note_database(address: Address) -> None:
    """Remember a database that this user's flow writes to, or that the user confirmed.

    Where that cannot be written, the user is asked again.

    Args:
        address: of the database; its password is not kept.
    """
    if address.kept in _known():
        return
    with contextlib.suppress(OSError):
        file = _file()
        file.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(handle, f"{address.kept}\n".encode())
        finally:
            os.close(handle)
