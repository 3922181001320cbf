"""Lists of a study's sets that its inference supports."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd

from optimizer.errors import StudyError
from optimizer.review.records import judged
from optimizer.selection.record import Selection
from optimizer.selection.survivors import contending_sets, surviving_sets
from optimizer.selection.verdict import Verdict
from optimizer.store.folder import StudyFolder
from optimizer.study_file.space import build_space
from optimizer.study_file.study import recorded_study
from optimizer.types import IntArray


def survivors(folder: str | os.PathLike[str]) -> IntArray:
    """Find the feasible sets of a study that have alpha, see ``selection.survivors.surviving_sets``.

    >>> import optimizer
    >>> optimizer.survivors("out").tolist()
    []

    Args:
        folder: the folder of a study that is complete.

    Returns:
        (n_survivors,), their numbers, those of the largest statistics first.

    Raises:
        StudyError: the study is not complete, has no winner, or cannot be read.
    """
    opened = StudyFolder.open(Path(folder))
    _, verdict = _complete(opened)
    return surviving_sets(opened, verdict.tried)


def contenders(folder: str | os.PathLike[str]) -> IntArray:
    """Find the feasible sets of a study that are not worse than its winner, see ``contending_sets``.

    >>> import optimizer
    >>> optimizer.contenders("out").tolist()
    [0, 1, 2, 3]

    Args:
        folder: the folder of a study that is complete.

    Returns:
        (n_sets,), their numbers, ascending.

    Raises:
        StudyError: the study is not complete, has no winner, or cannot be read.
    """
    opened = StudyFolder.open(Path(folder))
    selection, _ = _complete(opened)
    return contending_sets(opened, selection, recorded_study(opened.manifest()["study"]).seed)


def parameter_ranges(folder: str | os.PathLike[str], numbers: IntArray) -> pd.DataFrame:
    """Describe where some sets lie among the values of each parameter that varies.

    Args:
        folder: the folder of a study that is complete.
        numbers: (n_sets,), the numbers of the sets.

    Returns:
        One row a parameter, indexed by its name: ``winner``, ``lowest``, ``median``, ``highest``, of the
        sets that have it; ``share`` of its values in the study that are among these sets, 0 to 1.

    Raises:
        StudyError: the study is not complete, has no winner, or cannot be read.
    """
    opened = StudyFolder.open(Path(folder))
    manifest = opened.manifest()
    winner = manifest.get("winner")
    if winner is None or not manifest["complete"]:
        raise _no_verdict(opened)
    branches = build_space(recorded_study(manifest["study"])).branches
    names = {name for one in branches for name in one.swept}
    names |= {one.name for branch in branches for one in branch.searched}
    known = [name for name in opened.columns() if name in names]
    frame = opened.results(["set", *known]).set_index("set")
    inside = frame.loc[numbers]
    rows: dict[str, dict[str, Any]] = {}
    for name in known:
        values = inside[name].dropna().astype(float)
        if values.empty:
            continue
        rows[name] = {
            "winner": frame.loc[winner, name],
            "lowest": values.min(),
            "median": values.median(),
            "highest": values.max(),
            "share": values.nunique() / frame[name].nunique(),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def _complete(folder: StudyFolder) -> tuple[Selection, Verdict]:
    selection, verdict, problem = judged(folder)
    if selection is None or verdict is None or not folder.manifest()["complete"]:
        raise StudyError(problem) if problem else _no_verdict(folder)
    return selection, verdict


def _no_verdict(folder: StudyFolder) -> StudyError:
    return StudyError(
        f"{folder.path}: no verdict yet, on which these lists rest; `barsweep resume {folder.path}`"
        " continues the study"
    )
