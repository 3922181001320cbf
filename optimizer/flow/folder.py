"""The folder of a flow: its record, the place of its trace, and rows that the database did not take."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from optimizer.analytics.address import AnalyticsError, parse_url
from optimizer.analytics.recorded import recorded_database
from optimizer.analytics.writer import AnalyticsWriter
from optimizer.errors import StudyError
from optimizer.files import write_atomically
from optimizer.flow.prepared import PreparedFlow
from optimizer.store.links import refuse_links
from optimizer.store.names import MANIFEST
from optimizer.store.validated import Digest, Name, PathText, Record, problem_of, read_json

RECORD = "flow.json"
DATABASE = "analytics.db"
SPILL = "spill.jsonl"
KIND = "barsweep flow"
SCHEMA_VERSION = 1
State = Literal["running", "complete", "failed", "stopped"]

_OWN = (RECORD, f"{DATABASE}*", f"{SPILL}*", "*-wal", "*-shm", "*-journal", "*.old", "*.part")
"""Patterns of the names that a flow, or SQLite next to a database, writes, replaces or removes."""


@dataclass(frozen=True)
class FlowRecord:
    """What a flow consisted of.

    Attributes:
        study: name.
        study_hash, data_hash: the hashes of the study and of its bars.
        database: URL without a password; None is the file in the folder.
        portfolios: IDs, in order.
        state: whether it has ended, and how; ``running`` also where it was killed, None in the record of
            an earlier barsweep.
        error: the message by which it failed.
    """

    study: str
    study_hash: str
    data_hash: str
    database: str | None
    portfolios: Sequence[str]
    state: State | None = None
    error: str | None = None

    @property
    def caveat(self) -> str | None:
        """Why the trace may not hold all bars, in one line; None where it does."""
        return {
            "failed": f"this flow ended by an error; later bars are missing: {self.error}",
            "stopped": "this flow was stopped; later bars are missing",
            "running": "this flow has not ended: it still runs, or was killed",
        }.get(self.state or "")


class _Record(Record):
    """What ``FlowRecord`` holds, as its file must state it."""

    study: Name
    study_hash: Digest
    data_hash: Digest
    database: PathText | None
    portfolios: Annotated[list[Name], Field(max_length=1_000_000)]
    state: State | None = None
    error: Annotated[str, Field(max_length=10_000)] | None = None


class FlowFolder:
    """Files of one flow.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def _own_database(self) -> str:
        return f"sqlite:///{self.path.absolute() / DATABASE}"

    @contextlib.contextmanager
    def tracing(
        self, flow: PreparedFlow, url: str | None, *, overwrite: bool = False, go_on: bool = False
    ) -> Iterator[AnalyticsWriter]:
        """Write the trace of a flow. An earlier flow in the folder is removed once the database is open.

        Args:
            flow: the flow to trace.
            url: the URL of the database; None takes a file in the folder.
            overwrite: replace a flow that the folder holds.
            go_on: add to the trace that the folder holds, if it holds one.

        Returns:
            The writer of the trace, closed at the end of the block.

        The record says how the block ended.

        Raises:
            StudyError: the folder already holds a flow or a study, or cannot be written.
            AnalyticsError: the database cannot be used, or failed midway.
        """
        record = FlowRecord(
            study=flow.study.name,
            study_hash=flow.study.content_hash,
            data_hash=flow.data_hash,
            database=None if url is None else parse_url(url).kept,
            portfolios=tuple(spec.id for spec in flow.specs),
            state="running",
        )
        going_on = go_on and (self.path / RECORD).exists()
        with self._adding() if going_on else self._replacing(overwrite):
            self._write(record)
            writer = AnalyticsWriter(url or self._own_database(), self.path / SPILL)
        try:
            with writer:
                yield writer
        except BaseException as error:
            failed = isinstance(error, Exception)
            ended = replace(
                record,
                state="failed" if failed else "stopped",
                error=(str(error) or type(error).__name__)[:10_000] if failed else None,
            )
            with contextlib.suppress(OSError):  # the error itself matters more
                self._write(ended)
            raise
        self._write(replace(record, state="complete"))

    def _write(self, record: FlowRecord) -> None:
        content = {"kind": KIND, "schema_version": SCHEMA_VERSION, **asdict(record)}
        text = json.dumps(content, indent=1)
        write_atomically(self.path / RECORD, lambda part: part.write_text(f"{text}\n"))

    @contextlib.contextmanager
    def _adding(self) -> Iterator[None]:
        """Make sure that the folder holds a flow which may be added to."""
        refuse_links(self.path, _OWN)
        self.record()
        spill = self.path / SPILL
        if spill.exists():
            raise StudyError(
                f"{spill}: rows that the database did not take; load them with `barsweep analytics import"
                f" {spill}`, and remove the file"
            )
        yield

    @contextlib.contextmanager
    def _replacing(self, overwrite: bool) -> Iterator[None]:
        """Move the files of an earlier flow aside, and back if the block fails."""
        try:
            if (self.path / MANIFEST).exists():
                raise StudyError(
                    f"{self.path}: holds a study, which a flow does not replace; give another --out"
                )
            self.path.mkdir(parents=True, exist_ok=True)
            refuse_links(self.path, _OWN)
            names = (RECORD, DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", SPILL)
            files = [self.path / name for name in names]
            earlier = [file for file in files if file.exists()]
            if earlier and not overwrite:
                raise StudyError(
                    f"{self.path}: already holds a flow; give another --out, or --overwrite"
                )
            if earlier and files[0].exists():
                self.record()
            aside = {file: file.with_name(f"{file.name}.old") for file in earlier}
            for file, place in aside.items():
                file.replace(place)
            try:
                yield
            except BaseException:
                for file in files:
                    file.unlink(missing_ok=True)
                for file, place in aside.items():
                    place.replace(file)
                raise
            for place in aside.values():
                place.unlink()
        except (StudyError, AnalyticsError):
            raise
        except (FileExistsError, NotADirectoryError):
            raise StudyError(f"{self.path}: names a file where a folder is needed") from None
        except OSError as error:
            raise StudyError(f"{self.path}: cannot be written: {error.strerror or error}") from None

    def record(self) -> FlowRecord:
        """The record of the flow.

        Raises:
            StudyError: the folder holds no flow, or its record cannot be read.
        """
        file = self.path / RECORD
        try:
            content = read_json(file)
        except (FileNotFoundError, NotADirectoryError):
            if (self.path / DATABASE).is_file():
                raise StudyError(
                    f"{self.path}: holds a flow of an earlier barsweep, without {RECORD}; run it"
                    " again with `barsweep flow --overwrite`"
                ) from None
            raise StudyError(
                f"{self.path}: no flow here; expected a folder that `barsweep flow` wrote"
            ) from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise StudyError(
                f"{file}: cannot be read: {reason}; put the file back as it was, or run the flow again"
                " with another --out"
            ) from None
        known = {"kind": KIND, "schema_version": SCHEMA_VERSION}
        if not isinstance(content, dict) or {key: content.get(key) for key in known} != known:
            raise StudyError(
                f"{file}: this barsweep did not write it; expected"
                f' "kind": "{KIND}", "schema_version": {SCHEMA_VERSION}'
            )
        try:
            return FlowRecord(**_Record.model_validate(content).model_dump())
        except ValidationError as error:
            raise StudyError(
                f"{file}: {problem_of(error)}; put the file back as it was, or run the flow again"
                " with `barsweep flow --overwrite`"
            ) from None

    def database(self, confirm: Callable[[str], bool] | None = None) -> str:
        """The URL of the flow's database, without a password, if it is one that may be opened unasked.

        Args:
            confirm: asks the user the question that it is given, see ``recorded_database``.

        Raises:
            StudyError: the folder holds no flow, or a link, or its record cannot be read.
            AnalyticsError: the record names a database elsewhere, and the user does not confirm it.
        """
        url = self.record().database
        refuse_links(self.path, _OWN)  # SQLite writes next to a database that it only reads
        if url is None:
            return self._own_database()
        return recorded_database(url, self.path / RECORD, confirm)
