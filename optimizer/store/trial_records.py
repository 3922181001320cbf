"""What a batch records of its trials."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError, field_validator

from optimizer.store.validated import Count, Name, Number, Record, parse_json, problem_of
from optimizer.text import quoted

CONSTRAINT = "constraints:"
"""Prefix of Optuna's system attributes that hold by how much a constraint is broken."""


def point_key(params: Mapping[str, Any]) -> str:
    """A point of the searched space as a text: equal points give equal texts.

    Args:
        params: value of each searched parameter by name.
    """
    return json.dumps(dict(params), sort_keys=True)


def distinct_points(trials: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Parameter sets evaluated at each distinct point of the searched space.

    Args:
        trials: the trials as ``StudyFolder.write_batch`` takes them.

    Returns:
        Number of sets by ``point_key``.
    """
    found: dict[str, int] = {}
    for one in trials:  # the first at a point evaluates it
        found.setdefault(point_key(one["params"]), int(one["user_attrs"]["n_sets"]))
    return found


class OfTrial(Record):
    """See ``search.outcome.Outcome``."""

    n_sets: Count
    reason: Annotated[str, Field(max_length=100_000)] = ""
    repeats: Count | None = None
    winner: dict[Name, Number] = Field(default_factory=dict)
    in_sample: dict[Name, Number | None] = Field(default_factory=dict)


class Trial(Record):
    """The part of a trial's record that is read again; ``search.outcome.trial_record`` writes it."""

    number: Annotated[int, Field(ge=0, lt=2**31)]
    values: list[Number] | None
    params: dict[Name, Number | bool | str | None]
    user_attrs: OfTrial
    system_attrs: dict[str, Any]

    @field_validator("system_attrs")
    @classmethod
    def _violations(cls, value: dict[str, Any]) -> dict[str, Any]:
        """Check how far constraints are broken, the only attributes of Optuna's that are read again."""
        for name, excess in value.items():
            number = isinstance(excess, (int, float)) and not isinstance(excess, bool)
            if name.startswith(CONSTRAINT) and not number:
                raise ValueError(f"{quoted(name)} is {quoted(excess)}; a number is expected")
        return value


_TRIALS: TypeAdapter[list[Trial]] = TypeAdapter(list[Trial])


def read_trials(text: bytes) -> list[dict[str, Any]]:
    """The trials that a batch's file holds.

    Args:
        text: JSON of its metadata.

    Raises:
        ValueError: these are no trials; names the key.
    """
    trials: list[dict[str, Any]] = parse_json(text)
    try:
        _TRIALS.validate_python(trials, strict=True)
    except ValidationError as error:
        raise ValueError(f"its trials: {problem_of(error)}") from None
    return trials
