"""The manifest of a study, ``study.json``: what it must say, within which bounds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator

from optimizer.errors import StudyError, StudyFileError
from optimizer.store.names import KIND, SCHEMA_VERSION
from optimizer.store.validated import (
    BarsPerYear,
    Count,
    Digest,
    Name,
    Number,
    PathText,
    Record,
    problem_of,
    read_json,
)
from optimizer.study_file.study import recorded_study
from optimizer.text import quoted

_Time = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\d(T[0-9:.]{0,20})?$")]
_MANY = 100_000


class WarmPoint(Record):
    """A point with which a search began, see ``optimizer.search.warm_start``."""

    strategy: Name
    classifier: Name
    point: Annotated[dict[Name, Number], Field(max_length=1000)]


class Manifest(Record):
    """Every key of a manifest; ``optimizer.search.run`` says what it writes.

    Attributes:
        study: the tables of the study, as ``Study.to_dict`` gives them.
        study_source, study_folder: the study file, and the folder from which its paths count.
        overridden: keys that options of the command replaced.
        study_hash, data_hash, files_hash: the hashes of the study, of its bars, and of what its
            other files say.
        symbols: the symbols of the bars.
        n_bars: the number of bars of each symbol.
        first_bar: bar of the first decision.
        holdout_bar: first bar out-of-sample; ``n_bars`` without a holdout.
        span, first_time, holdout_time: times of the first and last bar, and of those two bars.
        bars_per_year: annualizes.
        bar_ns: the usual time between two bars, in nanoseconds.
        versions: the versions of the packages that results depend on.
        kernels: hash of barsweep's kernels.
        coordinated: whether several processes share the study.
        merged: the folders of several coordinators of which this one is made; empty for any other.
        warm_start: points with which the search began, the best of another study.
        complete: whether every batch is there and judged.
        n_batches: batches of the complete study; None before the end.
        winner: the set whose out-of-sample figures the verdict shows; None before the end, or if no
            set is best.
    """

    schema_version: Annotated[int, Field(ge=1, le=1_000_000)]
    study: dict[str, Any]
    study_source: PathText
    study_folder: PathText
    study_hash: Digest
    data_path: PathText
    data_hash: Digest
    files_hash: Digest
    symbols: Annotated[list[Name], Field(min_length=1, max_length=_MANY)]
    n_bars: Annotated[Count, Field(ge=2)]
    first_bar: Count
    holdout_bar: Count
    span: Annotated[list[_Time], Field(min_length=2, max_length=2)]
    first_time: _Time
    holdout_time: _Time | None
    bars_per_year: BarsPerYear
    bar_ns: Annotated[int, Field(ge=1, lt=2**63)]
    versions: Annotated[dict[Name, Name], Field(max_length=1000)]
    kernels: Digest
    complete: bool
    overridden: Annotated[list[Name], Field(max_length=100)] = Field(default_factory=list)
    coordinated: bool = False
    merged: Annotated[list[PathText], Field(max_length=_MANY)] = Field(default_factory=list)
    warm_start: Annotated[list[WarmPoint], Field(max_length=1_000_000)] = Field(
        default_factory=list
    )
    n_batches: Count | None = None
    winner: Count | None = None

    @model_validator(mode="after")
    def _bars_in_order(self) -> Manifest:
        if (
            not self.first_bar < self.n_bars
            or not self.first_bar <= self.holdout_bar <= self.n_bars
        ):
            raise ValueError(
                f"first_bar {self.first_bar}, holdout_bar {self.holdout_bar} and n_bars"
                f" {self.n_bars} are not in order"
            )
        return self


REPAIR = "put the file back as it was, or rerun the study with another --out"
"""How to go on without a manifest."""


def read_kind(file: Path) -> dict[str, Any]:
    """Read a manifest and check only that it is one: enough to replace the study.

    Args:
        file: ``study.json`` of a study's folder.

    Returns:
        The manifest's fields, unchecked.

    Raises:
        StudyError: it cannot be read, or says that it is something else.
    """
    try:
        content = read_json(file)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StudyError(f"{file}: cannot be read: {reason}; {REPAIR}") from None
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise StudyError(
            f'{file}: not the manifest of a study: expected "kind": "{KIND}"; give the folder that'
            " `barsweep run` wrote"
        )
    return content


def read_manifest(file: Path) -> dict[str, Any]:
    """Read a manifest and check all of it.

    Args:
        file: ``study.json`` of a study's folder.

    Returns:
        Its content, with ``study`` as ``Study.to_dict`` gives it.

    Raises:
        StudyError: it cannot be read, does not describe a study, or has a value of the wrong type or
            out of bounds; names the file and the key.
    """
    content = read_kind(file)
    version = content.get("schema_version")
    if type(version) is int and 0 < version < SCHEMA_VERSION:
        raise StudyError(
            f"{file}: its files have version {version}, this program reads"
            f" {SCHEMA_VERSION}; rerun the study with another --out"
        )
    missing = [
        name
        for name, field in Manifest.model_fields.items()
        if field.is_required() and name not in content
    ]
    if missing:
        raise StudyError(f"{file}: {missing[0]!r} is missing; {REPAIR}")
    try:
        Manifest.model_validate(content)
    except ValidationError as error:
        raise StudyError(f"{file}: {problem_of(error)}; {REPAIR}") from None
    return {**content, "study": _checked_study(file, content)}


def _checked_study(file: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """The tables of the study; runs no code."""
    for what in ("strategy", "classifier"):
        tables = content["study"].get(what)
        for table in tables if isinstance(tables, list) else [tables]:
            # Without what its file declares, the file itself would be run to find out.
            if isinstance(table, Mapping) and "path" in table and "declared" not in table:
                name = quoted(table.get("name"))
                raise StudyError(f"{file}: study {what} {name}: 'declared' is missing; {REPAIR}")
    try:
        return recorded_study(content["study"], content["study_folder"]).to_dict()
    except StudyFileError as error:
        reason = str(error).removeprefix("<study>: ")
        raise StudyError(f"{file}: study: {reason}; {REPAIR}") from None
