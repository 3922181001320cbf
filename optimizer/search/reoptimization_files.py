"""The folder of a study's reoptimisations: a search and a change note for each window."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, ValidationError

from optimizer.bars.times import time_text
from optimizer.errors import StudyError
from optimizer.files import save
from optimizer.store.links import refuse_links
from optimizer.store.names import REOPTIMIZATION
from optimizer.store.validated import (
    Count,
    Digest,
    Name,
    Number,
    PathText,
    Record,
    problem_of,
    read_json,
)
from optimizer.text import counted

KIND = "barsweep reoptimization"
NOTE, STUDY, CHANGES = "note.json", "study", "changes.md"
"""Names in the folder of a window, and of the notes in words."""


_Words = Annotated[str, Field(max_length=10_000)]


class NotedSet(Record):
    """A set in a change note.

    Attributes:
        number: its number in the study that chose it.
        strategy, classifier: their names.
        parameters: its parameters by column.
        values: each objective of the study on the window, in-sample; None where undefined.
        broken: the constraints that it breaks there.
    """

    number: Count
    strategy: Name
    classifier: Name
    parameters: Annotated[dict[Name, Number], Field(max_length=1000)]
    values: list[Number | None]
    broken: list[_Words] = Field(default_factory=list)

    @property
    def settings(self) -> dict[str, Any]:
        """What tells the set from others: strategy, classifier and parameters."""
        return {"strategy": self.strategy, "classifier": self.classifier, **self.parameters}


class Note(Record):
    """What a reoptimisation has found.

    Attributes:
        study: name of the study.
        study_hash, data_hash: the hashes of the study on its window, and of the bars of the window.
        n_bars: bars of the window.
        start, end: times of its first and last bar, UTC.
        holdout: time of the first bar of its holdout, which is sealed; None without one.
        n_sets: distinct sets that the search has tried.
        objective: the objectives of the study.
        margin: the fraction of the old set's value by which the new one must be better.
        outcome: ``changed`` or ``kept``.
        why: the reason in words.
        old: the set that was traded; None where none was.
        new: the best set of the window; None where none is feasible.
        old_file: SHA-256 of the file of the old set; None where there was none.
        new_file: SHA-256 of the file of the set that is traded from now on.
        file: where that is.
        verdict: that on the new set.
    """

    kind: Literal["barsweep change note"] = "barsweep change note"
    study: Name
    study_hash: Digest
    data_hash: Digest
    n_bars: Count
    start: PathText
    end: PathText
    holdout: PathText | None
    n_sets: Count
    objective: list[_Words]
    margin: Number
    outcome: Literal["changed", "kept"]
    why: _Words
    old: NotedSet | None
    new: NotedSet | None
    old_file: Digest | None
    new_file: Digest
    file: PathText
    verdict: _Words

    def lines(self) -> list[str]:
        """The note in words, its outcome last."""
        start, end = (time_text(np.datetime64(one)) for one in (self.start, self.end))
        until = ""
        if self.holdout is not None:
            until = f"; chosen on those before {time_text(np.datetime64(self.holdout))}"
        found = [
            f"window: {counted(self.n_bars, 'bar')}, {start} to {end}{until};"
            f" {counted(self.n_sets, 'set')} tried"
        ]
        for word, one in (("old", self.old), ("new", self.new)):
            if one is not None:
                found.append(f"{word}: set {one.number}, {self._figures(one)}")
        if self.old is not None and self.new is not None:
            found += self._differences(self.old.settings, self.new.settings)
        if self.new is not None:
            found.append(f"verdict on the new set: {self.verdict}")
        return [*found, f"{self.outcome}: {self.why}"]

    def _figures(self, one: NotedSet) -> str:
        return ", ".join(
            f"{name} {'undefined' if value is None else format(value, '.4g')}"
            for name, value in zip(self.objective, one.values, strict=True)
        )

    @staticmethod
    def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
        names = dict.fromkeys((*old, *new))
        shown = {name: [_text(one.get(name)) for one in (old, new)] for name in names}
        return [f"  {name}: {a} -> {b}" for name, (a, b) in shown.items() if a != b]


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{value:.10g}"


class ReoptimizationFiles:
    """The files of the reoptimisations of one study.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def open(cls, path: Path, study: str) -> ReoptimizationFiles:
        """The folder of a study's reoptimisations, new or used before.

        Args:
            path: the path of the folder, which is there; the caller holds ``exclusive_use`` of it.
            study: name of the study.

        Raises:
            StudyError: the folder holds something else, or that of another study, or cannot be written.
        """
        refuse_links(path, ("*",))
        file = path / REOPTIMIZATION
        if not file.is_file():
            if any(one.suffix != ".part" for one in path.iterdir()):
                raise StudyError(f"{path}: already holds files; give another --out")
            _write(file, {"kind": KIND, "study": study})
        try:
            content = read_json(file)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise StudyError(f"{file}: cannot be read: {reason}; give another --out") from None
        if not isinstance(content, dict) or content.get("kind") != KIND:
            raise StudyError(f"{file}: not that of reoptimisations; give another --out")
        if content.get("study") != study:
            raise StudyError(f"{path}: holds sets of another study; give another --out")
        return cls(path)

    def window_path(self, end: np.datetime64, *hashes: str) -> Path:
        """The folder of a window: its last bar, and what decides what its search finds.

        Args:
            end: time of its last bar.
            *hashes: the hashes of the bars, the study and the software.
        """
        text = str(end.astype("datetime64[s]")).replace("-", "").replace(":", "")
        key = hashlib.sha256("\0".join(hashes).encode()).hexdigest()
        return self.path / f"{text.removesuffix('T000000')}-{key[:8]}"

    def notes(self) -> dict[Path, Note]:
        """The notes by the folder of their window, in order of its last bar."""
        found = {one.parent: read_note(one) for one in self.path.glob(f"*/{NOTE}")}
        known = [(path, note) for path, note in found.items() if note is not None]
        return dict(sorted(known, key=lambda one: (np.datetime64(one[1].end), one[0].name)))

    def keep(self, window: Path, note: Note) -> None:
        """Make a note durable.

        Args:
            window: the folder of the window.
            note: the note.

        Raises:
            StudyError: it cannot be written.
        """
        _write(window / NOTE, note.model_dump())

    def write_changes(self) -> None:
        """Write all notes in words.

        Raises:
            StudyError: they cannot be written.
        """
        text = ""
        for note in self.notes().values():
            *lines, outcome = note.lines()
            head = f"## {time_text(np.datetime64(note.end))}\n\n{outcome}\n\n"
            text += head + "".join(f"    {line}\n" for line in lines) + "\n"
        save(self.path / CHANGES, lambda part: part.write_text(text, encoding="utf-8"))


def read_note(file: Path) -> Note | None:
    """A change note.

    Args:
        file: its file.

    Returns:
        None where there is none, or where it is damaged, which is warned of.
    """
    try:
        return Note.model_validate(read_json(file))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        reason = problem_of(error) if isinstance(error, ValidationError) else error
        logging.getLogger("barsweep").warning("%s: %s; it is not read", file, reason)
        return None


def _write(file: Path, content: dict[str, Any]) -> None:
    text = json.dumps(content, indent=1, allow_nan=False)
    save(file, lambda part: part.write_text(text + "\n", encoding="utf-8"))
