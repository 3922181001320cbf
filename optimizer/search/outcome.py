"""What a trial is told: the value of its tile, or why it has none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from optuna.distributions import distribution_to_json
from optuna.trial import FrozenTrial

from optimizer.catalogue import METRICS
from optimizer.search.objective import TileScore
from optimizer.store.trial_records import CONSTRAINT
from optimizer.sweep.tiles import Tile, TileResult
from optimizer.types import FloatArray

_CMA_STATE = "cma:"
"""Prefix of Optuna's system attributes that hold the pickled state of CMA-ES."""


@dataclass(frozen=True)
class Outcome:
    """What one trial is told.

    Attributes:
        values: one per objective; None where the trial failed.
        attributes: ``n_sets``, the parameter sets evaluated; ``reason``, why there are no values; of
            the set that represents the tile ``winner``, its parameters, and ``in_sample``, its metrics;
            ``repeats``, the trial that was at the same point before, in place of these.
        violations: the amount by which that set breaks each constraint on results; 0 where it
            holds.
        lane: the place of that set in its tile; None where it is not known: no record keeps it.
    """

    values: tuple[float, ...] | None
    attributes: Mapping[str, Any]
    violations: Mapping[str, float] = field(default_factory=dict)
    lane: int | None = None

    @property
    def n_sets(self) -> int:
        """Parameter sets evaluated."""
        return int(self.attributes["n_sets"])

    @property
    def feasible(self) -> bool:
        """Whether the set that represents the tile breaks no constraint on results."""
        return not any(excess > 0 for excess in self.violations.values())


def failed(reason: str) -> Outcome:
    """The outcome of a tile that could not be evaluated.

    Args:
        reason: the reason as the trial's record states it.
    """
    return Outcome(None, {"n_sets": 0, "reason": reason})


def repeated(outcome: Outcome, trial: int) -> Outcome:
    """The outcome of a point that an earlier trial was at: what that one was told, and no sets.

    Args:
        outcome: the outcome of the earlier trial.
        trial: its number.
    """
    attributes: dict[str, Any] = {"n_sets": 0, "repeats": trial}
    if "reason" in outcome.attributes:
        attributes["reason"] = outcome.attributes["reason"]
    return Outcome(outcome.values, attributes, outcome.violations)


def outcome_of(tile: Tile, result: TileResult, score: TileScore) -> Outcome:
    """The outcome of a tile that was evaluated.

    Args:
        tile: the parameter sets.
        result: their metrics.
        score: the score of the tile, see ``score_tile``.
    """
    attributes: dict[str, Any] = {"n_sets": tile.n_lanes}
    if score.reason:
        attributes["reason"] = score.reason
    if score.values is None:
        return Outcome(None, attributes)
    attributes["winner"] = {n: float(c[score.winner]) for n, c in tile.columns.items()}
    attributes["in_sample"] = _finite(result.in_sample[score.winner])
    return Outcome(score.values, attributes, score.violations, int(score.winner))


def _finite(metrics: FloatArray) -> dict[str, float | None]:
    """Metrics by name, None where undefined.

    Args:
        metrics: (n_metrics,) in the order of ``METRICS``.
    """
    return {
        name: float(value) if np.isfinite(value) else None
        for name, value in zip(METRICS, metrics, strict=True)
    }


def trial_record(number: int, trial: FrozenTrial) -> dict[str, Any]:
    """A trial in plain values, as a batch's file keeps it.

    Without its times, which differ whenever the study is run.

    Args:
        number: the number of the trial in the study, from 0.
        trial: the trial as it was told.
    """
    # CMA-ES never reads its pickled state back, and it is not the same bytes twice.
    kept = {k: v for k, v in trial.system_attrs.items() if not k.startswith(_CMA_STATE)}
    return {
        "number": number,
        "state": trial.state.name,
        "values": trial.values,
        "params": trial.params,
        "distributions": {n: distribution_to_json(d) for n, d in trial.distributions.items()},
        "user_attrs": trial.user_attrs,
        "system_attrs": kept,
    }


def recorded_outcome(record: Mapping[str, Any]) -> Outcome:
    """The outcome that a trial was told, from ``trial_record`` of it.

    Args:
        record: a trial in plain values, as ``trial_record`` returned it.
    """
    values = record["values"]
    return Outcome(
        values=None if values is None else tuple(values),
        attributes=record["user_attrs"],
        violations={
            name.removeprefix(CONSTRAINT): value
            for name, value in record["system_attrs"].items()
            if name.startswith(CONSTRAINT)
        },
    )
