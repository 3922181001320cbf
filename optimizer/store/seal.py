"""The seal on the holdout: who may see which out-of-sample figures of a study.

The search never sees the holdout, and neither does its user, or its figures would steer the next search.
Two things open it. When a study is complete, the verdict looks once, at the winner alone, whose figures
are shown from then on. `barsweep unseal` opens it for all sets, and leaves a file in the folder that
says so. Every look is noted in the ledger, see ``optimizer.store.ledger_entries.Look``.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection, Sequence
from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import Field, ValidationError

from optimizer.errors import StudyError
from optimizer.files import save
from optimizer.store.folder import StudyFolder
from optimizer.store.names import UNSEALED
from optimizer.store.validated import Count, Record, problem_of, read_json


def is_sealed(folder: StudyFolder) -> bool:
    """Whether a study has a holdout that nobody has unsealed.

    Args:
        folder: the folder of the study.

    Raises:
        StudyError: the manifest cannot be read.
    """
    has_holdout = folder.manifest()["holdout_time"] is not None
    return has_holdout and not (folder.path / UNSEALED).is_file()


def may_show(folder: StudyFolder, number: int) -> bool:
    """Whether the out-of-sample figures of a set may be shown.

    Args:
        folder: the folder of the study.
        number: the number of the set.

    Raises:
        StudyError: the manifest cannot be read.
    """
    return not is_sealed(folder) or number in _looked_at(folder)


def _looked_at(folder: StudyFolder) -> Collection[int]:
    """The set that the verdict has looked at, if it has."""
    manifest = folder.manifest()
    winner = manifest.get("winner")
    return () if winner is None or not manifest["complete"] else (winner,)


def require_unsealed(folder: StudyFolder, what: str) -> None:
    """Refuse what would show the holdout.

    Args:
        folder: the folder of the study.
        what: what was asked for, as the start of a sentence.

    Raises:
        StudyError: the holdout is sealed.
    """
    if is_sealed(folder):
        raise StudyError(
            f"{folder.path}: {what}: the holdout is sealed; `barsweep unseal"
            f" {shlex.quote(str(folder.path))}` opens it, and counts as one more look at it"
        )


def seal_note(folder: StudyFolder) -> str:
    """Which out-of-sample figures are left out of a table, in a sentence; empty where none are.

    Args:
        folder: the folder of the study.

    Raises:
        StudyError: the manifest cannot be read.
    """
    if not is_sealed(folder):
        return ""
    if not _looked_at(folder):
        return "the holdout is sealed: out-of-sample figures of the winner follow with the verdict"
    return (
        "the holdout is sealed: out-of-sample figures are shown of the winner alone; `barsweep unseal"
        f" {shlex.quote(str(folder.path))}` opens it"
    )


def with_holdout(
    folder: StudyFolder, frame: pd.DataFrame, names: Sequence[str] | None = None
) -> pd.DataFrame:
    """Parameter sets with their out-of-sample metrics.

    Args:
        folder: the folder of the study.
        frame: rows of its results, ``set`` among their columns.
        names: the columns to add, out of ``out_of_sample_columns``; None adds all.

    Returns:
        The same rows with these columns behind the others.

    Raises:
        StudyError: the holdout is sealed, or a file cannot be read.
    """
    require_unsealed(folder, "out-of-sample figures")
    return _joined(folder, frame, frame["set"], names or folder.out_of_sample_columns())


def with_open_holdout(folder: StudyFolder, frame: pd.DataFrame) -> pd.DataFrame:
    """Parameter sets with those of their out-of-sample metrics that may be shown.

    Args:
        folder: the folder of the study.
        frame: rows of its results, ``set`` among their columns.

    Returns:
        The same rows with the columns ``out_of_sample_columns`` behind the others; null where sealed.

    Raises:
        StudyError: a file cannot be read.
    """
    shown = frame["set"]
    if is_sealed(folder):
        shown = shown[shown.isin(_looked_at(folder))]
    return _joined(folder, frame, shown, folder.out_of_sample_columns())


def _joined(
    folder: StudyFolder, frame: pd.DataFrame, numbers: pd.Series[int], names: Sequence[str]
) -> pd.DataFrame:
    """The rows with the metrics of some of their sets, null for the others."""
    frame = frame.drop(columns=list(names), errors="ignore")
    if numbers.empty:
        return frame.assign(**dict.fromkeys(names, np.nan))
    known = folder.holdout(np.asarray(numbers, np.int64), names)
    missing = numbers[~numbers.isin(known.index)]
    if not missing.empty:
        raise StudyError(
            f"{folder.path}: the holdout has no set {missing.iloc[0]}; `barsweep resume"
            f" {shlex.quote(str(folder.path))}` computes the batch again"
        )
    return frame.join(known, on="set")


class _Mark(Record):
    """What ``unsealed.json`` says."""

    time: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT[0-9:+]{0,20}$")]
    ledger_entry: Count


def unsealed_at(folder: StudyFolder) -> tuple[str, int] | None:
    """Read since when the holdout is open.

    Args:
        folder: the folder of the study.

    Returns:
        The time, UTC, and the number of the ledger's entry that notes it; None while it is sealed.

    Raises:
        StudyError: the file cannot be read.
    """
    path = folder.path / UNSEALED
    if not path.is_file():
        return None
    try:
        mark = _Mark.model_validate(read_json(path))
    except (OSError, ValueError) as error:
        reason = problem_of(error) if isinstance(error, ValidationError) else error
        raise StudyError(
            f"{path}: cannot be read: {reason}; remove it, and unseal the study again"
        ) from None
    return mark.time, mark.ledger_entry


def mark_unsealed(folder: StudyFolder, time: str, entry: int) -> None:
    """Open the holdout of a study for all sets, for good.

    Args:
        folder: the folder of the study.
        time: when, UTC.
        entry: the number of the ledger's entry that notes the look.

    Raises:
        StudyError: the file cannot be written.
    """
    path = folder.path / UNSEALED
    text = json.dumps({"time": time, "ledger_entry": entry}, indent=1)
    save(path, lambda part: part.write_text(text + "\n"))
