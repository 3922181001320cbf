"""The money that moves between the accounts of a combination, in a SQLite file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import sqlalchemy as sa

from optimizer.errors import StudyError
from optimizer.trading.database import open_sqlite

_METADATA = sa.MetaData()
_BOOK = sa.Table("book", _METADATA, sa.Column("hash", sa.Text, primary_key=True))
_MOVES = sa.Table(
    "moves",
    _METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("money", sa.Text, nullable=False),
)


class Moves:
    """What has been decided to move, written down whole before the first account is paid.

    So a kill in the middle loses no money: whoever goes on pays what is written here to those that have
    not got it yet.

    Args:
        path: the file; it is made if it is missing.
        digest: the hash of the combination.

    Raises:
        StudyError: the file is of another combination.
    """

    def __init__(self, path: Path, digest: str) -> None:
        self._engine = open_sqlite(path, _METADATA)
        with self._engine.begin() as connection:
            known = connection.execute(sa.select(_BOOK.c.hash)).scalar()
            if known is None:
                connection.execute(_BOOK.insert().values(hash=digest))
        if known not in (None, digest):
            self.close()
            raise StudyError(
                f"{path.parent}: holds a session of another combination; give another --out"
            )

    def close(self) -> None:
        """Close the file."""
        self._engine.dispose()

    def known(self) -> Mapping[str, list[float]]:
        """What has moved so far by ID: what each account was paid, negative where it paid."""
        with self._engine.begin() as connection:
            return {row.id: json.loads(row.money) for row in connection.execute(sa.select(_MOVES))}

    def decide(self, id: str, money: Sequence[float]) -> None:
        """Write down what is to move.

        Args:
            id: its ID.
            money: what each account is paid, negative where it pays.
        """
        with self._engine.begin() as connection:
            connection.execute(_MOVES.insert().values(id=id, money=json.dumps(list(money))))
