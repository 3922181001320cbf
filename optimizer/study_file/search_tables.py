"""The tables of a study file that say how to search and how to judge the choice."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from optimizer.catalogue import (
    MAX_BLOCKS,
    METRIC_DIRECTIONS,
    RETURNS,
    Direction,
    Returns,
)
from optimizer.study_file.constraints import Constraint, read_constraint
from optimizer.study_file.objectives import direction_of, is_expression, read_objective
from optimizer.study_file.tables import Table, name_of, read_flag, real, whole
from optimizer.study_file.values import (
    bounded,
    distinct,
    filled_text,
    listed,
    named,
    one_of,
    only_keys,
    refusal,
    refuse_all,
)
from optimizer.text import quoted, suggest

Sampler = Literal["tpe", "nsga2", "cmaes", "qmc", "random", "grid"]
TileValue = Literal["best", "median", "plateau"]
Method = Literal["none", "walk_forward", "cpcv"]

SAMPLERS: tuple[Sampler, ...] = get_args(Sampler)
ADAPTIVE = SAMPLERS[:3]
"""Samplers that choose points by the values of earlier ones."""
TILE_VALUES: tuple[TileValue, ...] = get_args(TileValue)


class Quantile(Table):
    """A tile's value as a quantile of the objective over its lanes; 1 is that of the best lane."""

    quantile: Annotated[float, real(0, 1)]


FEWEST_KEPT, MOST_KEPT = 10, 10**8
"""The verdict describes the best ten sets."""

KEPT_SETS = 100_000
"""Sets that ``store = "top"`` keeps whole."""


class Top(Table):
    """How many of the best parameter sets are kept whole; of the others what the verdict needs."""

    top: Annotated[int, whole(FEWEST_KEPT, MOST_KEPT)] = KEPT_SETS


def _read_store(value: object) -> object:
    if value is None or isinstance(value, Top):
        return value
    if isinstance(value, Mapping):
        only_keys(value, ("top",))
        if "top" not in value:
            raise refusal("got {}; expected {top = 100_000}")
        return {"top": bounded(value["top"], int, FEWEST_KEPT, MOST_KEPT)}
    if value not in ("all", "top"):
        raise refusal(
            f"got {quoted(value)}; {suggest(str(value), ('all', 'top'))}, {{top = 100_000}}"
        )
    return Top() if value == "top" else None


def _read_objectives(value: object) -> list[str]:
    names = [read_objective(one) for one in ([value] if isinstance(value, str) else listed(value))]
    distinct(names, "give each objective once")
    return names


def _read_tile_value(value: object) -> object:
    if isinstance(value, Quantile):
        return value
    if isinstance(value, Mapping):
        only_keys(value, ("quantile",))
        if "quantile" not in value:
            raise refusal("got {}; expected {quantile = 0.75}")
        return {"quantile": bounded(value["quantile"], float, 0, 1)}
    if value not in TILE_VALUES:
        raise refusal(
            f"got {quoted(value)}; {suggest(str(value), TILE_VALUES)}, {{quantile = 0.75}}"
        )
    return value


def _read_storage(value: object) -> str:
    """Read an address; a refusal does not show it, since it may hold a password."""
    if not isinstance(value, str) or not value.startswith("postgresql://"):
        raise refusal('expected a text such as "postgresql://USER@HOST/NAME"')
    return value


def _read_folder(value: object) -> str:
    """Read the folder of a study; what stands for one in Python is taken where it lies."""
    if isinstance(value, os.PathLike):
        return filled_text(os.path.abspath(value))
    return filled_text(value)


class SearchTable(Table):
    """``[search]``: which points are tried, and what is best.

    Attributes:
        sampler: an Optuna sampler, or ``grid``, which tries every point of the searched space.
        trials: number of points of the searched space, each a tile of all swept values.
        batch: trials asked at a time; it does not depend on the number of workers.
        stop_after: number of trials without a better one after which the search ends, at the end of a
            batch; None never does.
        max_seconds: time after which the search begins no further batch, of each start of the study;
            None is no limit. It alone makes results depend on the speed of a machine.
        warm_start: folder of another study, relative to the study file's; the first batch begins with the
            searched values of its best sets. None begins as the sampler does.
        objective: one or more metrics, or expressions over them, see ``objectives``.
        direction: the direction of each objective, "maximize" or "minimize".
        returns: the returns of which the Sharpe ratio and other ratios are: those from close to close
            of each bar, or of the last bar of each day.
        tile_value: how the lanes of a tile make the value of its trial.
        store: how many of the best sets the results keep whole, see ``optimizer.store.top``; None keeps
            all.
        storage: PostgreSQL database through which several coordinators share the study; None does
            not share it. It may hold a password, so neither ``Study.to_dict`` nor any file contains it.
        constraints: comparisons that a parameter set must satisfy.
    """

    sampler: Annotated[Sampler, name_of(*SAMPLERS)] = "tpe"
    trials: Annotated[int, whole(1, 10**9)] = 64
    batch: Annotated[int, whole(1, 10**6)] = 16
    stop_after: Annotated[int, whole(1, 10**9)] | None = None
    max_seconds: Annotated[float, real(0.1, 1e9)] | None = None
    warm_start: Annotated[str, BeforeValidator(_read_folder)] | None = None
    objective: Annotated[tuple[str, ...], BeforeValidator(_read_objectives)] = ("sharpe",)
    direction: tuple[Direction, ...] = Field(default=(), validate_default=True)
    returns: Annotated[Returns, name_of(*RETURNS)] = "bar"
    tile_value: Annotated[TileValue | Quantile, BeforeValidator(_read_tile_value)] = "best"
    store: Annotated[Top | None, BeforeValidator(_read_store)] = None
    storage: Annotated[str, BeforeValidator(_read_storage)] | None = None
    constraints: tuple[Annotated[Constraint, BeforeValidator(read_constraint)], ...] = ()

    @field_validator("direction", mode="before")
    @classmethod
    def _read_direction(cls, value: object, info: ValidationInfo) -> object:
        objective: tuple[str, ...] = info.data.get("objective", ())
        if value == ():
            return tuple(direction_of(one) for one in objective)
        names = [value] if isinstance(value, str) else listed(value)
        directions = tuple(one_of(name, get_args(Direction)) for name in names)
        if objective and len(directions) != len(objective):
            raise refusal(
                f"{len(directions)} directions for {len(objective)} objectives; give one each"
            )
        return directions

    @field_validator("constraints", mode="before")
    @classmethod
    def _read_constraints(cls, value: object) -> object:
        if not isinstance(value, (list, tuple)):
            raise refusal(f'got {quoted(value)}; expected a list such as ["n_trades >= 30"]')
        return value

    @property
    def directions(self) -> dict[str, Direction]:
        """The direction in which each metric is better, and each objective that is an expression."""
        own = zip(self.objective, self.direction, strict=True)
        return {**METRIC_DIRECTIONS, **{one: way for one, way in own if is_expression(one)}}

    @model_validator(mode="after")
    def _can_end_early(self) -> SearchTable:
        for key in ("stop_after", "max_seconds"):
            if getattr(self, key) is not None and self.storage is not None:
                message = (
                    "several coordinators ([search] storage) cannot end together; leave it out"
                )
                refuse_all([((key,), message)])
        if self.stop_after is not None and len(self.objective) > 1:
            message = f"needs one objective, which gets better or not; got {len(self.objective)}"
            refuse_all([(("stop_after",), message)])
        return self

    @model_validator(mode="after")
    def _can_start_warm(self) -> SearchTable:
        if self.warm_start is not None:
            if self.sampler == "grid":
                message = '"grid" tries every point of its space, in order; leave it out'
                refuse_all([(("warm_start",), message)])
            if self.storage is not None:
                message = (
                    "several coordinators ([search] storage) share no first batch; leave it out"
                )
                refuse_all([(("warm_start",), message)])
        return self

    @model_validator(mode="after")
    def _can_store_the_top(self) -> SearchTable:
        if self.store is not None:
            why = ""
            if len(self.objective) > 1:
                why = f"{len(self.objective)} objectives rank each set among all others"
            if self.tile_value == "plateau":
                why = 'tile_value = "plateau" ranks the sets once all are known'
            if self.storage is not None:
                why = "several coordinators ([search] storage) do not know each other's best sets"
            if why:
                refuse_all([(("store",), f"{why}; leave it out")])
        return self

    @model_validator(mode="after")
    def _one_objective(self) -> SearchTable:
        if self.sampler == "cmaes" and len(self.objective) > 1:
            message = (
                f'"cmaes" takes one objective, got {len(self.objective)}; use "tpe" or "nsga2"'
            )
            refuse_all([(("sampler",), message)])
        return self


class ValidationTable(Table):
    """``[validation]``: how a study's choice is judged.

    Attributes:
        holdout: share of the bars, the last ones, that the search never sees; 0 for no holdout.
        blocks: number of in-sample blocks of bars, even. The return moments of every parameter set
            over each block are kept for the statistics of selection.
        method: a further check. ``walk_forward`` chooses on each training window, trades the next
            block and joins the equity; ``cpcv`` gives the out-of-sample Sharpe ratio over the paths
            of combinatorial purged cross-validation.
        train_blocks: blocks of a training window of the walk-forward; None takes half of the blocks.
        anchored: whether every training window starts with the first block.
        test_blocks: blocks that a split of ``cpcv`` tests together.
        purge_blocks: blocks left out of training next to those tested: before them, and with ``cpcv``
            after them too.
        embargo_blocks: further blocks left out of training after those tested, with ``cpcv``.
        benchmark: what the choice has to beat, bought and held: ``universe`` is every symbol of the
            study, otherwise the name of one.
    """

    holdout: Annotated[float, real(0, 0.9, below=True)] = 0.2
    blocks: Annotated[int, whole(2, MAX_BLOCKS)] = 16
    method: Annotated[Method, name_of(*get_args(Method))] = "none"
    train_blocks: Annotated[int, whole(1, MAX_BLOCKS)] | None = None
    anchored: Annotated[bool, BeforeValidator(read_flag)] = False
    test_blocks: Annotated[int, whole(1, MAX_BLOCKS)] = 2
    purge_blocks: Annotated[int, whole(0, MAX_BLOCKS)] = 0
    embargo_blocks: Annotated[int, whole(0, MAX_BLOCKS)] = 1
    benchmark: Annotated[str, BeforeValidator(named)] = "universe"

    @model_validator(mode="after")
    def _fit(self) -> ValidationTable:
        if self.blocks % 2:
            refuse_all([(("blocks",), f"got {self.blocks}; expected an even number")])
        if self.train_blocks is not None and self.train_blocks >= self.blocks:
            message = f"got {self.train_blocks}; expected less than blocks = {self.blocks}"
            refuse_all([(("train_blocks",), message)])
        if (self.train_blocks or 1) + self.purge_blocks >= self.blocks:
            message = (
                f"got {self.purge_blocks}: with train_blocks = {self.train_blocks or 1} it leaves no"
                f" block of blocks = {self.blocks} to test"
            )
            refuse_all([(("purge_blocks",), message)])
        if self.method == "cpcv" and self.spared_blocks >= self.blocks:
            message = (
                f"got {self.test_blocks}: with embargo_blocks = {self.embargo_blocks} and purge_blocks ="
                f" {self.purge_blocks} a split can leave no block of blocks = {self.blocks} to train on"
            )
            refuse_all([(("test_blocks",), message)])
        return self

    @property
    def spared_blocks(self) -> int:
        """Most blocks on which a split of ``cpcv`` does not train."""
        return self.test_blocks * (1 + self.embargo_blocks + 2 * self.purge_blocks)
