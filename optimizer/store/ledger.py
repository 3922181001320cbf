"""How many parameter sets were ever tried on the same bars, over all studies.

The more sets are tried on some bars, the better the best of them looks by luck alone, whichever
study tried them. So every study notes in a file of the user's how many distinct sets it has tried on
which bars, by the content hash of the bars. A study counts once, even if it is run again, renamed, or
judged by another rule. A set that two studies have in common counts twice: rather too many than too
few.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import DatabaseError
from sqlalchemy.schema import CreateTable

from optimizer.errors import StudyError
from optimizer.files import LEDGER, ledger_path
from optimizer.text import quoted

BUSY_SECONDS = 30
"""How long to wait for another process that is writing."""

_tables = sa.MetaData()
_studies = sa.Table(
    "studies",
    _tables,
    sa.Column("data_hash", sa.String, primary_key=True),
    sa.Column("study_hash", sa.String, primary_key=True),
    sa.Column("study", sa.String, nullable=False),
    sa.Column("data", sa.String, nullable=False),
    sa.Column("n_sets", sa.Integer, nullable=False),
    sa.Column("last_run", sa.String, nullable=False),
)


@dataclass(frozen=True)
class Entry:
    """What one study has tried on some bars.

    Attributes:
        data_hash: content hash of the bars.
        study_hash: hash of the study's space, see ``Study.space_hash``.
        study: name of the study.
        data: path of the bars when the study last ran.
        n_sets: distinct sets tried.
        last_run: when that was, UTC, to the second.
    """

    data_hash: str
    study_hash: str
    study: str
    data: str
    n_sets: int
    last_run: str


@contextmanager
def _connection() -> Iterator[sa.Connection]:
    path = ledger_path()
    engine = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        url = sa.URL.create("sqlite", database=str(path))
        engine = sa.create_engine(url, connect_args={"timeout": BUSY_SECONDS})
        with engine.begin() as connection:
            # In one statement: two processes that start at once would both find the table missing.
            connection.execute(CreateTable(_studies, if_not_exists=True))
            yield connection
    except (OSError, ValueError, DatabaseError) as error:  # ValueError: a null byte, or a row
        reason = getattr(error, "orig", None) or getattr(error, "strerror", None) or error
        raise StudyError(
            f"{path}: the ledger cannot be used: {reason}; repair or remove the file, or name another"
            f" with {LEDGER}"
        ) from None
    finally:
        if engine is not None:
            engine.dispose()


def note(data_hash: str, study_hash: str, study: str, data: str, n_sets: int) -> None:
    """Note how many distinct sets a study has tried so far; never lowers what is noted.

    Several processes may do so at once.

    Args:
        data_hash: content hash of the bars.
        study_hash: hash of the study's space.
        study: name of the study.
        data: path of the bars.
        n_sets: distinct sets tried so far.

    Raises:
        StudyError: the ledger cannot be used.
    """
    values = {
        "data_hash": data_hash,
        "study_hash": study_hash,
        "study": study,
        "data": data,
        "n_sets": n_sets,
        "last_run": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    statement = insert(_studies).values(values)
    most = sa.func.max(_studies.c.n_sets, statement.excluded.n_sets)
    with _connection() as connection:
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["data_hash", "study_hash"], set_={**values, "n_sets": most}
            )
        )


def entries(data_hash: str | None = None) -> list[Entry]:
    """All notes, ordered by the hash of the bars and then by time.

    Args:
        data_hash: notes on these bars only; None gives all.

    Raises:
        StudyError: the ledger cannot be used.
    """
    query = sa.select(_studies).order_by(_studies.c.data_hash, _studies.c.last_run)
    if data_hash is not None:
        query = query.where(_studies.c.data_hash == data_hash)
    if not os.path.lexists(ledger_path()):
        return []
    with _connection() as connection:
        return [_entry(row) for row in connection.execute(query).mappings()]


def _entry(row: Mapping[Any, Any]) -> Entry:
    """A row of the ledger; SQLite keeps a value of any type in any column.

    Raises:
        ValueError: a value has another type than this program writes, or no sensible size.
    """
    for name, value in row.items():
        whole = isinstance(value, int) and 0 <= value <= 2**53
        if not (whole if name == "n_sets" else isinstance(value, str)):
            raise ValueError(f"{name} of a study is {quoted(value)}")
    return Entry(**row)


def n_tried(data_hash: str, space_hash: str = "", own: int = 0) -> int:
    """The number of sets ever tried on some bars.

    Args:
        data_hash: content hash of the bars.
        space_hash: the hash of the space of a study that may have noted its sets in another ledger,
            or nowhere.
        own: distinct sets that it tried.

    Raises:
        StudyError: the ledger cannot be used.
    """
    found = {entry.study_hash: entry.n_sets for entry in entries(data_hash)}
    if space_hash:
        found[space_hash] = max(found.get(space_hash, 0), own)
    return sum(found.values())
