"""The Pareto front of a study: sets that no other beats in one objective at no cost in another."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic_core import PydanticCustomError

from optimizer.catalogue import Direction
from optimizer.errors import StudyError
from optimizer.store.folder import StudyFolder
from optimizer.store.seal import is_sealed, with_holdout
from optimizer.study_file.objectives import direction_of, read_objective
from optimizer.study_file.study import recorded_study
from optimizer.types import BoolArray, FloatArray


def pareto_sets(
    folder: str | os.PathLike[str], objectives: Sequence[str] | None = None
) -> pd.DataFrame:
    """Feasible sets of a study such that no other is better in one objective and not worse in any.

    Of sets that are equal in every objective the first is taken. The values are those of the sets
    themselves, in-sample, whatever ``tile_value`` the search goes by.

    Args:
        folder: the folder of the study.
        objectives: metrics, or expressions over them, each in its better direction; None takes those of
            the study, in the study's directions.

    Returns:
        Rows as ``find_sets`` gives them, best first by the first objective.

    Raises:
        StudyError: there is no study or no result, or an objective is none.
    """
    opened = StudyFolder.open(Path(folder))
    search = recorded_study(opened.manifest()["study"]).search
    directions = dict(zip(search.objective, search.direction, strict=True))
    if objectives is not None:
        directions = {one: direction_of(one) for one in map(_read, objectives)}
    if not directions:
        raise StudyError("objectives: an empty list; name a metric")
    opened.refuse_unkept(directions)
    frame = opened.results([*dict.fromkeys(["set", "feasible", *directions])])
    gains = gains_of(frame, directions)
    kept = frame["feasible"].to_numpy(np.bool_) & np.isfinite(gains).all(axis=1)
    front = np.flatnonzero(kept)[non_dominated(gains[kept])]
    front = front[np.argsort(-gains[front, 0], kind="stable")]
    found = opened.sets(frame["set"].iloc[front].to_list())
    for one in directions:
        found[one] = frame[one].iloc[front].to_numpy()
    return found if is_sealed(opened) else with_holdout(opened, found)


def _read(objective: str) -> str:
    try:
        return read_objective(objective)
    except PydanticCustomError as error:
        raise StudyError(f"objectives: {error.message()}") from None


def gains_of(frame: pd.DataFrame, directions: Mapping[str, Direction]) -> FloatArray:
    """The objectives of sets, each so that more is better.

    Args:
        frame: a column for each objective.
        directions: the direction of each objective.

    Returns:
        Shape (n_sets, n_objectives).
    """
    return np.column_stack(
        [
            (1.0 if direction == "maximize" else -1.0) * frame[one].astype("float64").to_numpy()
            for one, direction in directions.items()
        ]
    )


def non_dominated(gains: FloatArray) -> BoolArray:
    """Find the rows that no other row beats in one column without being worse in another.

    Args:
        gains: shape (n_sets, n_objectives), finite, more is better.

    Returns:
        (n_sets,), true for them; of equal rows for the first.
    """
    found = np.zeros(len(gains), dtype=np.bool_)
    # In this order no row dominates one before it, so the first that is left is always on the front.
    left = np.lexsort(-gains.T[::-1])
    while len(left):
        found[left[0]] = True
        left = left[(gains[left] > gains[left[0]]).any(axis=1)]
    return found
