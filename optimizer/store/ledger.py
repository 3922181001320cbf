"""Everything that was ever tried on some bars, over all studies.

The more sets are tried on some bars, the better the best of them looks by luck alone, whichever study
tried them. So every study notes in a file of the user's which bars it searched, how many distinct sets it
tried on them, and the largest draws of its max-test (see ``kernels.inference``). The largest draws of
several studies together are the larger ones of each draw. So what is noted is all that is needed to
correct for everything that was tried, however alike the sets were.

Each look at a holdout is noted too: that of the verdict on a study's winner, and each unsealing.

Entries are only ever added. Each holds a hash of itself and of the entry before it, so that an entry that
was changed, or removed from among others, is found; that the last ones were removed is not. A study that
goes on adds an entry that replaces its former one; an entry can be set aside, by another entry with the
reason.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from optimizer.errors import StudyError
from optimizer.files import LEDGER, ledger_path
from optimizer.store.ledger_entries import Entry, Ledger, Look, Search, SetAside
from optimizer.store.validated import parse_json, problem_of
from optimizer.sweep.max_test import larger_draws
from optimizer.text import quoted
from optimizer.types import Float32Array

BUSY_SECONDS = 30
"""How long to wait for another process that is writing."""

_TABLE = (
    "CREATE TABLE IF NOT EXISTS entries (number INTEGER PRIMARY KEY, time TEXT NOT NULL,"
    " content TEXT NOT NULL, maxima BLOB NOT NULL, hash TEXT NOT NULL)"
)
_COLUMNS = "number, time, content, maxima, hash"
_FIRST = "0" * 64


@contextmanager
def _connection(path: Path, begin: str) -> Iterator[sqlite3.Connection]:
    connection = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
        connection.execute(begin)
        yield connection
        connection.execute("COMMIT")
    except (OSError, ValueError, OverflowError, sqlite3.Error) as error:
        reason = problem_of(error) if isinstance(error, ValidationError) else error
        reason = getattr(error, "strerror", None) or reason
        raise StudyError(
            f"{path}: the ledger cannot be used: {' '.join(str(reason).split())}; repair or remove the"
            f" file, or name another with {LEDGER}"
        ) from None
    finally:
        if connection is not None:
            connection.close()  # what was not committed is undone


def read_ledger() -> Ledger:
    """All entries; none where there is no ledger yet.

    Raises:
        StudyError: the ledger cannot be used.
    """
    path = ledger_path()
    if not os.path.lexists(path):
        return Ledger(())
    with _connection(path, "BEGIN") as connection:
        return _read(connection)


def note(search: Search, maxima: Float32Array) -> None:
    """Note what a study has tried so far; never lowers what is noted.

    Several processes may do so at once.

    Args:
        search: what it has tried.
        maxima: (n_draws,), its largest draws; empty where it has no max-test.

    Raises:
        StudyError: the ledger cannot be used.
    """
    with _connection(ledger_path(), "BEGIN IMMEDIATE") as connection:
        connection.execute(_TABLE)
        ledger = _read(connection)
        former = [
            one
            for one in ledger.entries
            if isinstance(one.what, Search) and one.what.key == search.key
        ]
        if former and isinstance(last := former[-1].what, Search):
            search = replace(search, n_sets=max(search.n_sets, last.n_sets))
            maxima = larger_draws([maxima, former[-1].maxima])
            aside = former[-1].number in ledger.set_aside()
            if not aside and search == last and np.array_equal(maxima, former[-1].maxima):
                return
        _add(connection, ledger, search, maxima)


def note_look(look: Look) -> Entry:
    """Note a look at a holdout; one of a verdict that saw nothing new is noted once.

    Several processes may do so at once.

    Args:
        look: what was looked at.

    Returns:
        Its entry, or that of the same look before.

    Raises:
        StudyError: the ledger cannot be used.
    """
    with _connection(ledger_path(), "BEGIN IMMEDIATE") as connection:
        connection.execute(_TABLE)
        ledger = _read(connection)
        if look.why == "verdict":
            for entry, former in ledger.looks():
                if (former.key, former.data_hash) == (look.key, look.data_hash):
                    return entry
        _add(connection, ledger, look, np.zeros(0, np.float32))
        return _read(connection).entries[-1]


def set_aside(number: int, reason: str) -> None:
    """No longer correct for an entry; the entry and the reason are kept.

    Args:
        number: number of the entry of a search or a look.
        reason: one line.

    Raises:
        StudyError: there is no such entry, it is set aside already, the reason is not one line, or the
            ledger cannot be used.
    """
    path = ledger_path()
    try:
        what = _SET_ASIDE.validate_python({"entry": number, "reason": reason.strip()})
    except ValidationError as error:
        raise StudyError(f"ledger: {problem_of(error)}; give one line of text") from None
    if not what.reason:
        raise StudyError("ledger: the reason is empty; say why the entry does not count")
    with _connection(path, "BEGIN IMMEDIATE") as connection:
        connection.execute(_TABLE)
        ledger = _read(connection)
        standing = {entry.number for entry, _ in (*ledger.searches(), *ledger.looks())}
        if number not in standing:
            raise StudyError(
                f"{path}: entry {number} does not count, so it cannot be set aside; `barsweep ledger`"
                " lists those that do"
            )
        _add(connection, ledger, what, np.zeros(0, np.float32))


_SEARCH: TypeAdapter[Search] = TypeAdapter(Search)
_LOOK: TypeAdapter[Look] = TypeAdapter(Look)
_SET_ASIDE: TypeAdapter[SetAside] = TypeAdapter(SetAside)


def _add(
    connection: sqlite3.Connection,
    ledger: Ledger,
    what: Search | Look | SetAside,
    maxima: Float32Array,
) -> None:
    before = ledger.entries[-1] if ledger.entries else None
    number = 1 if before is None else before.number + 1
    time = datetime.now(UTC).isoformat(timespec="seconds")
    content = json.dumps(asdict(what), sort_keys=True)
    draws = maxima.astype("<f4").tobytes()
    digest = _hash(number, time, content, draws, _FIRST if before is None else before.hash)
    connection.execute(
        f"INSERT INTO entries ({_COLUMNS}) VALUES (?, ?, ?, ?, ?)",
        (number, time, content, draws, digest),
    )


def _hash(number: int, time: str, content: str, maxima: bytes, before: str) -> str:
    text = json.dumps([number, time, content, maxima.hex(), before])
    return hashlib.sha256(text.encode()).hexdigest()


def _read(connection: sqlite3.Connection) -> Ledger:
    """All entries of an open ledger.

    Raises:
        ValueError: an entry has values that this program never writes.
        sqlite3.Error: it cannot be read.
    """
    tables = connection.execute("SELECT name FROM sqlite_master WHERE name = 'entries'").fetchall()
    if not tables:
        return Ledger(())
    entries: list[Entry] = []
    broken, before = None, _FIRST
    for row in connection.execute(f"SELECT {_COLUMNS} FROM entries ORDER BY number"):
        entry = _entry(*row)
        number, time, content, maxima, _ = row
        expected = _hash(number, time, content, maxima, before)
        if broken is None and (entry.number != len(entries) + 1 or entry.hash != expected):
            broken = entry.number
        entries.append(entry)
        before = entry.hash
    return Ledger(tuple(entries), broken)


def _entry(number: Any, time: Any, content: Any, maxima: Any, digest: Any) -> Entry:
    """A row of the ledger; SQLite keeps a value of any type in any column."""
    for name, value, kind in (
        ("number", number, int),
        ("time", time, str),
        ("content", content, str),
        ("maxima", maxima, bytes),
        ("hash", digest, str),
    ):
        if not isinstance(value, kind):
            raise ValueError(f"{name} of an entry is {quoted(value)}")
    try:
        time = datetime.fromisoformat(time).isoformat(timespec="seconds")
    except ValueError:
        raise ValueError(f"time of entry {number} is {quoted(time)}") from None
    read = parse_json(content)
    if not isinstance(read, dict):
        raise ValueError(f"content of entry {number} is {quoted(content)}")
    kind_of: TypeAdapter[Any] = (
        _SET_ASIDE if "entry" in read else _LOOK if "why" in read else _SEARCH
    )
    what: Search | Look | SetAside = kind_of.validate_json(json.dumps(read), strict=True)
    if len(maxima) % 4:
        raise ValueError(f"maxima of entry {number} have {len(maxima)} bytes")
    draws = np.frombuffer(maxima, "<f4").astype(np.float32)
    if not np.isfinite(draws).all():
        raise ValueError(f"maxima of entry {number} are not finite")
    return Entry(number, time, what, draws, digest)
