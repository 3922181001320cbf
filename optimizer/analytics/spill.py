"""The file that keeps events while the analytics database cannot be reached."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from optimizer.analytics.address import PASSWORD_HINT, Address, AnalyticsError, parse_url
from optimizer.analytics.database import Database
from optimizer.analytics.recorded import recorded_database, refuse_odd_url
from optimizer.analytics.schema import schema_versions
from optimizer.analytics.tables import TABLES, BarRows
from optimizer.store.validated import parse_json

_SPILL_FORMAT = "barsweep analytics spill"
_LONGEST_HEADER = 100_000
_IMPORT_SECONDS = 600.0
"""How long SQLite may take for an upgrade or a transaction."""

_LONGEST_LINE = 100_000_000
"""Bytes of a bar: 300,000 portfolios take as many."""


class Spill:
    """The file of rows that a database did not take: JSON lines, a header, then one line per bar.

    Args:
        path: the path of the file, which is created with the first bar.
        address: the address of the database.

    Raises:
        AnalyticsError: the file exists, or its folder does not.
    """

    def __init__(self, path: Path, address: Address) -> None:
        self.path = path
        self.failed: str | None = None
        self._address = address
        self._file: BinaryIO | None = None
        self._n_rows = 0
        self._first_lost: int | None = None
        if path.exists():
            raise AnalyticsError(
                f"{path}: holds rows that an earlier flow could not write; load them with"
                f" `{self._command()}` and remove it"
            )
        if not path.parent.is_dir():
            raise AnalyticsError(f"{path}: its folder does not exist; create it first")

    def _command(self) -> str:
        return f"barsweep analytics import {shlex.quote(str(self.path.absolute()))}"

    def _advice(self) -> str:
        """The command that loads the file, and where its password comes from."""
        advice = f"load them with `{self._command()}`"
        return f"{advice}, {PASSWORD_HINT}" if self._address.secrets else advice

    def described(self) -> str:
        """The end of a message: what the file holds, and what to do with it."""
        held = f"{self._n_rows:,} rows are in {self.path}: {self._advice()}"
        if self.failed is None:
            return f"the other {held}"
        lost = "the rest" if self._first_lost is None else f"bar {self._first_lost} and all after"
        held = f"{held}; " if self._n_rows else ""
        return (
            f"{held}{lost} could not be written to {self.path} either ({self.failed}) and is lost:"
            " free space there and start the flow again"
        )

    def write(self, bars: Sequence[BarRows]) -> None:
        """Append whole bars. After a failure, ``failed`` is its reason and the bars before are kept.

        Args:
            bars: the bars in order of time.
        """
        for bar in bars:
            if self.failed is not None:
                return
            line = json.dumps({"bar": bar.bar, "rows": bar.rows}, default=_plain).encode()
            try:
                if self._file is None:
                    self._file = self.path.open("xb")
                    self._append(json.dumps(self._header()).encode())
                self._append(line)
            except OSError as error:
                self.failed, self._first_lost = error.strerror or str(error), bar.bar
            else:
                self._n_rows += bar.count

    def _header(self) -> dict[str, Any]:
        return {
            "file": _SPILL_FORMAT,
            "schema": schema_versions()[-1],
            "database": self._address.kept,
        }

    def _append(self, line: bytes) -> None:
        assert self._file is not None
        end = self._file.tell()
        try:
            self._file.write(line + b"\n")
            self._file.flush()
        except OSError:
            with contextlib.suppress(OSError):
                self._file.truncate(end)
            raise

    def close(self) -> None:
        """Make the file durable."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.fsync(self._file.fileno())
            with contextlib.suppress(OSError):
                self._file.close()


def _plain(value: Any) -> Any:
    """A value that JSON can hold: a number for a numpy scalar, else a text."""
    return value.item() if hasattr(value, "item") else str(value)


def import_spill(
    spill: Path, url: str | None = None, confirm: Callable[[str], bool] | None = None
) -> int:
    """Load a spill file; rows that the database already has are skipped.

    A last line without its end is left out: it is half a bar, of a process that was killed.

    Args:
        spill: file that ``AnalyticsWriter`` wrote.
        url: the URL of the database, as for ``AnalyticsWriter``; None takes the one that failed,
            with the password in the environment variable PGPASSWORD.
        confirm: asks the user the question that it is given, see ``recorded_database``.

    Returns:
        Number of rows that were new to the database.

    Raises:
        AnalyticsError: the file or the database cannot be used, or the file names a database
            elsewhere that the user does not confirm. Rows loaded so far stay, and another
            call continues from there.
    """
    spill = Path(spill)
    address = parse_url(_spilled_database(spill, confirm) if url is None else url)

    database = Database(address)

    async def load() -> int:
        n_new = 0
        try:
            with spill.open("rb") as file:
                bars = _spilled_bars(spill, file)
                batch = _some_bars(bars)
                database.allow(_IMPORT_SECONDS)
                await database.upgrade()
                while batch:
                    database.allow(_IMPORT_SECONDS)
                    n_new += await database.write(batch)
                    batch = _some_bars(bars)
        finally:
            await database.close()
        return n_new

    try:
        with asyncio.Runner() as runner:
            try:
                return runner.run(load())
            except BaseException:  # a signal too, for which SQLite's thread would not stop
                database.allow(0.0)
                raise
    except AnalyticsError as error:
        raise AnalyticsError(f"{spill}: {error}") from None
    except Exception as error:
        at = spill if getattr(error, "filename", None) == str(spill) else address.shown
        raise AnalyticsError(
            f"{at}: the import of {spill} failed: {address.reason(error)}"
            f"{address.password_hint(error)}"
        ) from None


def _spilled_database(spill: Path, confirm: Callable[[str], bool] | None) -> str:
    """URL in the header of a spill file, if it may be opened."""
    try:
        if spill.exists() and not (spill.is_file() or spill.is_dir()):
            raise ValueError  # a pipe, which might never end
        with spill.open("rb") as file:
            header = parse_json(file.readline(_LONGEST_HEADER))
        if header["file"] != _SPILL_FORMAT:
            raise ValueError
        url = header["database"]
        if not isinstance(url, str):
            raise ValueError
    except OSError as error:
        raise AnalyticsError(f"{spill}: cannot be read: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError):
        raise AnalyticsError(
            f"{spill}: line 1: this is not a spill file of barsweep; restore the file"
        ) from None
    refuse_odd_url(url, spill)
    file_of_url = parse_url(url).file
    if file_of_url is not None and not os.path.exists(file_of_url):
        moved = spill.absolute().parent / file_of_url.name
        if moved.exists():
            url = f"sqlite:///{moved}"
    return recorded_database(url, spill, confirm)


def _some_bars(bars: Iterator[BarRows], n_rows: int = 20_000) -> list[BarRows]:
    batch: list[BarRows] = []
    for bar in bars:
        batch.append(bar)
        n_rows -= bar.count
        if n_rows <= 0:
            break
    return batch


def _spilled_bars(path: Path, file: BinaryIO) -> Iterator[BarRows]:
    known = schema_versions()
    number = 0
    for number, line in enumerate(iter(lambda: file.readline(_LONGEST_LINE), b""), 1):
        if not line.endswith(b"\n"):
            if len(line) == _LONGEST_LINE:
                raise AnalyticsError(
                    f"line {number}: has more than {_LONGEST_LINE / 1e6:,.0f} MB, which no bar takes;"
                    " restore the file"
                )
            break
        try:
            record = parse_json(line)
            if number == 1:
                if record["file"] != _SPILL_FORMAT:
                    raise ValueError
                version = str(record["schema"])
            else:
                rows = {name: [tuple(row) for row in rows] for name, rows in record["rows"].items()}
                if any(
                    len(row) != len(TABLES[name].columns)
                    for name, of_table in rows.items()
                    for row in of_table
                ):
                    raise ValueError
                yield BarRows(record["bar"], rows, sum(map(len, rows.values())))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            what = (
                "this is not a spill file of barsweep"
                if number == 1
                else "these are not the rows of a bar"
            )
            raise AnalyticsError(f"line {number}: {what}; restore the file") from None
        if number == 1 and version != known[-1]:
            raise AnalyticsError(
                f"line 1: schema {version}, this barsweep loads {known[-1]}; use the version of"
                " barsweep that wrote it"
            )
    if number < 2:
        raise AnalyticsError("this is not a spill file of barsweep, or its end is missing")
