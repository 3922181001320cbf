"""The value of a trial: the objective over the parameter sets of its tile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from optimizer.catalogue import METRICS
from optimizer.search.plateau import plateau
from optimizer.study_file.constraints import Constraint
from optimizer.study_file.objectives import objective_values
from optimizer.study_file.search_tables import Quantile, SearchTable
from optimizer.types import BoolArray, FloatArray


@dataclass(frozen=True, eq=False)
class TileScore:
    """Value of a tile.

    Attributes:
        values: one per objective; None where no parameter set has a finite one.
        winner: lane that represents the tile.
        scores: (n_lanes,), what the lanes are ranked by, in the unit of the first objective.
        feasible: (n_lanes,), whether the lane keeps every constraint on results in-sample.
        violations: the amount by which the winner breaks each constraint on results; 0 where it
            holds.
        reason: why there are no values, or empty.
    """

    values: tuple[float, ...] | None
    winner: int
    scores: FloatArray
    feasible: BoolArray
    violations: Mapping[str, float]
    reason: str = ""


def score_tile(
    search: SearchTable,
    columns: Mapping[str, FloatArray],
    in_sample: FloatArray,
    swept: Mapping[str, tuple[float, ...]],
) -> TileScore:
    """Judge the parameter sets of one tile by their in-sample metrics.

    With several objectives the winner is the set with the best mean rank. Where no set is feasible,
    the one that comes closest represents the tile.

    Args:
        search: objectives, directions, tile value and constraints.
        columns: parameters, each (n_lanes,).
        in_sample: (n_lanes, n_metrics) in the order of ``METRICS``.
        swept: values of each swept parameter, ascending.

    Returns:
        The values of the tile, its best set, and the score and feasibility of each set.
    """
    metrics = {name: in_sample[:, i] for i, name in enumerate(METRICS)}
    names, feasible, violations = _constraints(search, {**columns, **metrics}, len(in_sample))
    signs = [1.0 if direction == "maximize" else -1.0 for direction in search.direction]
    gains = np.stack(
        [s * objective_values(one, metrics) for s, one in zip(signs, search.objective, strict=True)]
    )
    if search.tile_value == "plateau":
        gains = np.stack([plateau(gain, columns, swept) for gain in gains])
    finite = np.isfinite(gains).all(axis=0)
    scores = np.where(finite, gains[0] * signs[0], np.nan)
    if not finite.any():
        objectives = " and ".join(search.objective)
        return TileScore(
            None,
            0,
            scores,
            feasible,
            {},
            f"{objectives}: not finite for any parameter set of the tile",
        )
    candidates = finite & feasible
    if not candidates.any():
        # So a sampler learns where to go.
        excess = np.where(finite, np.maximum(violations, 0.0).sum(axis=0), np.inf)
        candidates = finite & (excess == excess.min())
    lanes = np.flatnonzero(candidates)
    if len(search.objective) == 1:
        order = gains[0, lanes]
    else:
        order = pd.DataFrame(gains[:, lanes]).rank(axis=1).mean().to_numpy()
    winner = int(lanes[np.argmax(order)])
    values = tuple(float(s * g) for s, g in zip(signs, gains[:, winner], strict=True))
    quantile = 0.5 if search.tile_value == "median" else None
    if isinstance(search.tile_value, Quantile):
        quantile = search.tile_value.quantile
    if quantile is not None:
        robust = np.quantile(gains[:, lanes], quantile, axis=1)
        values = tuple(float(s * g) for s, g in zip(signs, robust, strict=True))
        scores = np.where(finite, values[0], np.nan)
    broken = {name: float(v) for name, v in zip(names, violations[:, winner], strict=True)}
    return TileScore(values, winner, scores, feasible, broken)


def _constraints(
    search: SearchTable, values: Mapping[str, FloatArray], n_lanes: int
) -> tuple[list[str], BoolArray, FloatArray]:
    """Constraints on results: their names, which lanes keep all, by how much each lane breaks each."""
    on_result = [
        one
        for one in search.constraints
        if one.on_result and all(name in values for name in one.names)
    ]
    feasible = np.ones(n_lanes, dtype=np.bool_)
    violations = np.zeros((len(on_result), n_lanes))
    for row, constraint in enumerate(on_result):
        holds = np.broadcast_to(constraint.holds(values), n_lanes)
        feasible &= holds
        violations[row] = np.where(holds, 0.0, _excess(constraint, values))
    return [str(one) for one in on_result], feasible, violations


def _excess(constraint: Constraint, values: Mapping[str, FloatArray]) -> FloatArray:
    left, right = (
        values[side] if isinstance(side, str) else np.asarray(side, dtype=np.float64)
        for side in (constraint.left, constraint.right)
    )
    distance = np.abs(left - right)
    # Equality breaks a strict comparison, so the excess is never 0; NaN is as far off as can be.
    return np.where(np.isfinite(distance), np.maximum(distance, 1e-12), 1e12)
