"""Parameter sets of a study: the best ones, and those that meet a condition."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic_core import PydanticCustomError

from optimizer.catalogue import METRICS
from optimizer.errors import StudyError
from optimizer.store.columns import KEPT, NAMES
from optimizer.store.folder import StudyFolder
from optimizer.store.seal import is_sealed, require_unsealed, with_holdout
from optimizer.store.top import BestSoFar
from optimizer.study_file.constraints import Constraint, read_condition
from optimizer.study_file.objectives import metrics_named, objective_values
from optimizer.study_file.search_tables import KEPT_SETS, SearchTable
from optimizer.study_file.study import recorded_study
from optimizer.text import quoted, suggest
from optimizer.types import IntArray


def best_sets(folder: StudyFolder, search: SearchTable, top: int) -> pd.DataFrame:
    """The best feasible parameter sets of a study, best first; ties in the order of the trials.

    They are ordered by score, then by the objective. With several objectives they are ordered by the
    mean rank over them, so that no set comes before one that is better in each. A set whose in-sample
    metrics all equal those of a better one makes the same trades, and is left out.

    Args:
        folder: the folder of the study.
        search: the ``[search]`` settings of the study.
        top: number of sets, at most.

    Returns:
        Whole rows of the results.

    Raises:
        StudyError: there are no results, or a file cannot be read.
    """
    if len(search.objective) == 1 and search.tile_value != "plateau":
        best = _best_so_far(folder, search)
        found = _distinct(folder, best.numbers, top)
        if len(found) == top or folder.kept() is not None or best.n_ranked == len(best.numbers):
            return found
    frame = folder.results(["set", "feasible", "score", *search.objective])
    return _distinct(folder, ranked(frame[frame["feasible"]], search), top)


def _best_so_far(folder: StudyFolder, search: SearchTable) -> BestSoFar:
    """As many of the best sets as ``store = "top"`` keeps, from one batch at a time."""
    (objective,) = search.objective
    named = metrics_named(objective)
    best = BestSoFar(folder.kept() or KEPT_SETS, search.direction[0] == "maximize")
    for part in folder.parts(["set", "feasible", "score", *named]):
        metrics = {one: part[one].to_numpy().astype(np.float64) for one in named}
        best.add(
            part["set"].to_numpy(),
            part["feasible"].to_numpy(),
            part["score"].to_numpy(),
            objective_values(objective, metrics),
        )
    return best


def no_best(folder: StudyFolder, search: SearchTable) -> str:
    """Why ``best_sets`` is empty.

    Args:
        folder: the folder of the study.
        search: the ``[search]`` settings of the study.
    """
    if folder.column("feasible").any():
        return f"no feasible parameter set has a finite {' and '.join(search.objective)}"
    constraints = ", ".join(str(one) for one in search.constraints)
    return f"no parameter set is feasible; constraints: {constraints or 'none given'}"


def ranked(frame: pd.DataFrame, search: SearchTable) -> list[int]:
    """The numbers of the sets that have a score, best first, as ``best_sets`` orders them.

    Args:
        frame: columns ``set``, ``score`` and the objectives.
        search: the ``[search]`` settings of the study.
    """
    objective = list(search.objective)
    frame = frame[frame["score"].notna()]
    ascending = [direction == "minimize" for direction in search.direction]
    if len(objective) > 1:
        ranks = [
            frame[name].rank(ascending=up) for name, up in zip(objective, ascending, strict=True)
        ]
        keys, up = pd.concat(ranks, axis=1).mean(axis=1).to_frame("rank"), [True]
    else:
        keys, up = frame[["score", *objective]], ascending * 2
    order = keys.sort_values(list(keys.columns), ascending=up, kind="stable").index
    return frame["set"].loc[order].to_list()


def _distinct(folder: StudyFolder, numbers: Sequence[int] | IntArray, top: int) -> pd.DataFrame:
    """Whole rows of the first sets that do not make the same trades as one before them.

    Only the rows of a few candidates are read, and more where many of them are the same.
    """
    n_read = 4 * top
    while True:
        rows = folder.sets(numbers[:n_read])
        found = rows.drop_duplicates(["score", *METRICS]).head(top).reset_index(drop=True)
        if len(found) == top or n_read >= len(numbers):
            return found
        n_read *= 8


def find_sets(
    folder: str | os.PathLike[str],
    *,
    where: str = "",
    sort: str | None = None,
    ascending: bool | None = None,
    top: int = 10,
    infeasible: bool = False,
    among: Collection[int] | None = None,
) -> pd.DataFrame:
    """Parameter sets of a study that meet a condition, in an order.

    Sets whose in-sample metrics all equal those of a set before them are left out. Of a study with
    ``store = "top"`` only the sets that it keeps whole are looked at.

    >>> import optimizer
    >>> found = optimizer.find_sets("out", where="momentum_lookback > 20", sort="max_drawdown")
    >>> found["momentum_lookback"].tolist()
    [60.0, 60.0]

    Args:
        folder: the folder of the study.
        where: comparisons of columns and numbers joined by ``and``, such as ``n_trades >= 50 and
            max_drawdown < 0.2``. ``strategy`` and ``classifier`` are compared with a name, by ``==``
            or ``!=``. The name of a parameter may leave out its strategy.
        sort: a column; None takes the study's own order, best first.
        ascending: None puts the better metric first, and the lower value of anything else.
        top: number of sets, at most.
        infeasible: whether to include sets that break the study's constraints.
        among: numbers of sets, such as those of ``survivors``; None takes all.

    Returns:
        One row a set: ``set``, ``trial``, ``strategy``, ``classifier``, the parameters,
        ``feasible``, ``score``, the metrics, and, once the holdout is unsealed, the metrics
        out-of-sample as ``oos_``.

    Raises:
        StudyError: there is no study or no result, the condition or a column is not valid, or one is of
            the holdout, which is sealed; or the study keeps no infeasible sets.
    """
    opened = StudyFolder.open(Path(folder))
    kept = opened.kept()
    if infeasible and kept is not None:
        raise StudyError(
            f'{opened.path}: [search] store = "top" keeps the {kept:,} best feasible sets whole, and no'
            " infeasible one; look without the infeasible ones"
        )
    study = opened.manifest()["study"]
    search = recorded_study(study).search
    sealed = opened.out_of_sample_columns()
    columns = [*(name for name in opened.columns() if name != KEPT), *sealed]
    owners = owners_of(study)
    conditions = _conditions(where, columns, owners)
    sort = None if sort is None else column_of(sort, columns, owners, "sort")
    names = {name for one in conditions for name in one.names if name in columns}
    names |= {sort} if sort is not None else set()
    outside = sorted(names.intersection(sealed))
    if outside:
        require_unsealed(opened, outside[0])
    wanted = ["set", "feasible", "score", *search.objective, *sorted(names.difference(outside))]
    frame = opened.results([*dict.fromkeys(wanted)], whole=kept is not None)
    if outside:
        frame = with_holdout(opened, frame, outside)
    if not infeasible:
        frame = frame[frame["feasible"]]
    if among is not None:
        frame = frame[frame["set"].isin(list(among))]
    for one in conditions:
        frame = frame[_holds(one, frame)]
    numbers = ranked(frame, search) if sort is None else _sorted(frame, sort, ascending, search)
    found = _distinct(opened, numbers, top)
    return found if is_sealed(opened) else with_holdout(opened, found)


def _sorted(
    frame: pd.DataFrame, sort: str, ascending: bool | None, search: SearchTable
) -> list[int]:
    """The numbers of sets in the order of a column, the undefined last."""
    if ascending is None:
        known = {**search.directions, "score": search.direction[0]}
        ascending = known.get(sort.removeprefix("oos_"), "minimize") == "minimize"
    ordered = frame.sort_values(sort, ascending=ascending, kind="stable", na_position="last")
    return ordered["set"].to_list()


def owners_of(study: Mapping[str, Any]) -> list[list[str]]:
    """The names of a study's strategies, and of its classifiers.

    Args:
        study: the study as ``Study.to_dict`` gives it.
    """
    return [[one["name"] for one in study[table]] for table in NAMES]


def column_of(
    name: str, columns: Sequence[str], owners: Sequence[Sequence[str]], place: str
) -> str:
    """The column that a name means: itself, or a parameter that is named without its owner.

    ``lookback`` is ``momentum_lookback`` in a study of that one strategy. A strategy's parameter
    comes before a classifier's.

    Args:
        name: the name as the user wrote it.
        columns: the columns to choose from, ``OUT_OF_SAMPLE`` among them for results.
        owners: the owners that ``owners_of`` returned.
        place: the place where the name was written, for the message.

    Raises:
        StudyError: the name means no column, or several; names the nearest.
    """
    if name in columns:
        return name
    for group in owners:
        found = [f"{owner}_{name}" for owner in group if f"{owner}_{name}" in columns]
        if len(found) == 1:
            return found[0]
        if found:
            raise StudyError(f"{place}: {quoted(name)} may be {' or '.join(found)}; name one")
    oos = name.startswith("oos_")
    near = [one for one in columns if one.startswith("oos_") == oos]
    more = "" if oos or len(near) == len(columns) else ", and metrics out-of-sample as oos_..."
    raise StudyError(f"{place}: no column {quoted(name)}; {suggest(name, near)}{more}")


def _conditions(
    where: str, columns: Sequence[str], owners: Sequence[Sequence[str]]
) -> list[Constraint]:
    """The comparisons of a condition, each name in them a column or a value of ``NAMES``."""
    if not where.strip():
        return []
    try:
        read = read_condition(where)
    except PydanticCustomError as error:
        raise StudyError(f"where: {error.message()}; several are joined by and") from None
    found = []
    for one in read:
        text = [name for name in one.names if name in NAMES]
        if text:
            place = NAMES.index(text[0])
            if one.operator not in ("==", "!=") or len(one.names) != 2 or one.left == one.right:
                raise StudyError(
                    f"where: {one}: {text[0]} is a name; compare it so: {text[0]} =="
                    f" {owners[place][0]}, or with !="
                )
            value = one.right if one.left == text[0] else one.left
            if value not in owners[place]:
                raise StudyError(
                    f"where: no {text[0]} {quoted(value)} in this study;"
                    f" {suggest(str(value), owners[place])}"
                )
            found.append(Constraint(text[0], one.operator, value))
            continue
        left, right = (
            column_of(side, columns, owners, "where") if isinstance(side, str) else side
            for side in (one.left, one.right)
        )
        found.append(Constraint(left, one.operator, right))
    return found


def _holds(one: Constraint, frame: pd.DataFrame) -> Any:
    if one.left in NAMES:
        same = frame[str(one.left)].astype(str) == one.right
        return same if one.operator == "==" else ~same
    # Null is undefined and keeps no comparison.
    values = {name: pd.to_numeric(frame[name]).astype("float64") for name in one.names}
    return one.holds(values)


def cell(value: Any) -> str:
    """A value as tables show it: three digits, ``-`` where it is undefined.

    Args:
        value: a number, a text or None.
    """
    if isinstance(value, str):
        return value
    if value is None or pd.isna(value):
        return "-"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.3g}"
