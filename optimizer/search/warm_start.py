"""Start a search with the best points of another study."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from optimizer.engine.tasks import TileTask
from optimizer.errors import BarsweepError, StudyError
from optimizer.store.folder import StudyFolder
from optimizer.store.query import ranked
from optimizer.study_file.space import Space
from optimizer.study_file.study import Study, recorded_study


def warm_points(study: Study, space: Space, holdout_time: str | None) -> list[dict[str, Any]]:
    """The searched values of the best sets of the study that ``[search] warm_start`` names.

    They are distinct, best first, at most a batch; those outside the space are left out. What the folder
    holds later makes no difference: they are recorded with the study.

    Args:
        study: the study.
        space: its parameter space.
        holdout_time: time of its first bar out-of-sample, which the other search must not have seen; None
            without a holdout.

    Returns:
        Plain values: ``strategy``, ``classifier`` and ``point``, the value of each searched parameter.

    Raises:
        StudyError: there is no such study, it searched bars of the holdout, or none of its sets lies in
            the space; names the study file and the key.
    """
    path = study.warm_start_path
    if path is None:
        return []
    try:
        return _best_points(StudyFolder.open(path), study, space, holdout_time)
    except BarsweepError as error:
        raise StudyError(f"{study.source}: [search] warm_start: {error}") from None


def _best_points(
    folder: StudyFolder, study: Study, space: Space, holdout_time: str | None
) -> list[dict[str, Any]]:
    manifest = folder.manifest()
    seen = manifest["holdout_time"]
    last = seen or manifest["span"][1]
    # A search ends before its holdout begins; without one it has seen its last bar too.
    if holdout_time is not None and (last > holdout_time if seen else last >= holdout_time):
        raise StudyError(
            f"{folder.path}: its search saw bars up to {last[:16]}, and this study's holdout begins at"
            f" {holdout_time[:16]}; lower [validation] holdout, or name a study whose search ends before"
        )
    search = recorded_study(manifest["study"]).search
    known = folder.columns()
    names = {one.name for branch in space.branches for one in branch.searched}
    columns = ["strategy", "classifier", *(name for name in known if name in names)]
    frame = folder.results(
        [*dict.fromkeys(["set", "feasible", "score", *search.objective, *columns])]
    )
    order = ranked(frame[frame["feasible"]], search)
    best = frame.set_index("set", drop=False).loc[order].drop_duplicates(columns)
    found: list[dict[str, Any]] = []
    for row in best.to_dict("records"):
        point = _point_of(row, space)
        if point is not None and point not in found:
            found.append(point)
        if len(found) == study.search.batch:
            break
    if not found:
        raise StudyError(
            f"{folder.path}: none of its {len(best):,} feasible points lies in the space of this study,"
            f" which searches {', '.join(sorted(names))}; widen the ranges, or leave it out"
        )
    return found


def _point_of(row: Mapping[Any, Any], space: Space) -> dict[str, Any] | None:
    """The point of a set in the space, or None if it lies outside."""
    strategy, classifier = str(row["strategy"]), str(row["classifier"])
    for branch in space.branches:
        if (branch.strategy.name, branch.classifier) != (strategy, classifier):
            continue
        point = {}
        for searched in branch.searched:
            value = row.get(searched.name)
            try:
                point[searched.name] = searched.snap(float("nan") if value is None else value)
            except ValueError:
                return None
        return {"strategy": strategy, "classifier": classifier, "point": point}
    return None


def warm_tasks(points: Iterable[Mapping[str, Any]], space: Space, manifest: Path) -> list[TileTask]:
    """The tiles of the points that a study began with.

    Args:
        points: the points as ``warm_points`` gave them.
        space: the parameter space of the study.
        manifest: the file that records them.

    Raises:
        StudyError: one does not lie in the space; names the file.
    """
    tasks = []
    for one in points:
        found = _point_of({**one["point"], **one}, space)
        if found is None:
            raise StudyError(
                f"{manifest}: warm_start: {one} does not lie in the space of the study"
            )
        index = space.branch_index(found["strategy"], found["classifier"])
        tasks.append(TileTask(index, found["point"]))
    return tasks
