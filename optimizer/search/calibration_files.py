"""The folder of a calibration: what it was started with, and the winner of each search."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config

from optimizer.errors import StudyError
from optimizer.files import save
from optimizer.store.links import refuse_links
from optimizer.store.names import CALIBRATION
from optimizer.store.validated import Count, Number, problem_of, read_json

KIND = "barsweep calibration"


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class Winner:
    """The best set of one search; all but ``n_sets`` are None where no set is feasible.

    Attributes:
        n_sets: distinct sets tried.
        number: number of the set.
        objective: its in-sample objective.
        alpha, alpha_t: what it earned beyond the benchmark, a year, and its statistic.
        p: the p-value of the max-test over the sets of this search.
    """

    n_sets: Count
    number: Count | None = None
    objective: Number | None = None
    alpha: Number | None = None
    alpha_t: Number | None = None
    p: Annotated[float, Field(gt=0.0, le=1.0)] | None = None


_WHAT = {
    "study_hash": "the study file",
    "data_hash": "the bars",
    "files_hash": "a file of rates",
    "mean_block": "the length of the blocks",
    "versions": "the software",
    "kernels": "barsweep",
}
"""What the terms of a calibration are called."""

_WINNER = TypeAdapter(Winner)


class CalibrationFiles:
    """The files of a calibration.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def open(cls, path: Path, terms: Mapping[str, Any]) -> CalibrationFiles:
        """The folder of a calibration, new or started before under the same terms.

        Args:
            path: the path of the folder, which is there; the caller holds ``exclusive_use`` of it.
            terms: what decides the results, plain values.

        Raises:
            StudyError: the folder holds something else, was started under other terms, or cannot be
                written.
        """
        refuse_links(path, (CALIBRATION, "winner-*", "search-*", "*.part"))
        file = path / CALIBRATION
        content = {"kind": KIND, **terms}
        if not file.is_file():
            if any(one.suffix != ".part" for one in path.iterdir()):
                raise StudyError(f"{path}: already holds files; give another --out")
            cls._write(file, content)
        for name, before in cls._read(file).items():
            if before != content.get(name):
                raise StudyError(
                    f"{path}: {_WHAT.get(name, name)} changed since it was started, and its copies would"
                    " be others; change that back, or give another --out"
                )
        return cls(path)

    def search_path(self, number: int) -> Path:
        """The folder of a search while it runs.

        Args:
            number: 0 for the study's own bars, else that of the copy.
        """
        return self.path / f"search-{number:06d}"

    def winner(self, number: int) -> Winner | None:
        """The winner of a search that has ended; removes what the search has left.

        Args:
            number: 0 for the study's own bars, else that of the copy.

        Returns:
            None where it has not ended, or its file is damaged.
        """
        file = self._file(number)
        if not file.is_file():
            return None
        try:
            found = _WINNER.validate_python(read_json(file))
        except (OSError, ValueError) as error:
            reason = problem_of(error) if isinstance(error, ValidationError) else error
            logging.getLogger("barsweep").warning("%s: %s; it is computed again", file, reason)
            return None
        shutil.rmtree(self.search_path(number), ignore_errors=True)
        return found

    def keep(self, number: int, winner: Winner) -> None:
        """Make the winner of a search durable, and remove the search.

        Args:
            number: 0 for the study's own bars, else that of the copy.
            winner: the winner of the search.

        Raises:
            StudyError: it cannot be written.
        """
        self._write(self._file(number), asdict(winner))
        shutil.rmtree(self.search_path(number), ignore_errors=True)

    def _file(self, number: int) -> Path:
        return self.path / f"winner-{number:06d}.json"

    @staticmethod
    def _write(file: Path, content: Mapping[str, Any]) -> None:
        text = json.dumps(content, indent=1, sort_keys=True, allow_nan=False)
        save(file, lambda part: part.write_text(text + "\n"))

    @staticmethod
    def _read(file: Path) -> dict[str, Any]:
        try:
            content = read_json(file)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise StudyError(f"{file}: cannot be read: {reason}; give another --out") from None
        if not isinstance(content, dict) or content.get("kind") != KIND:
            raise StudyError(f"{file}: no calibration; give another --out")
        return content
