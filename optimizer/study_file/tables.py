"""The tables of a study file."""

from __future__ import annotations

import datetime
import re
import zoneinfo
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from optimizer.catalogue import MAX_BLOCKS, METRIC_DIRECTIONS, METRICS, Direction
from optimizer.study_file.constraints import Constraint, read_constraint
from optimizer.study_file.values import (
    bounded,
    distinct,
    filled_text,
    listed,
    one_of,
    only_keys,
    refusal,
    refuse_all,
)
from optimizer.text import mend, show

SAMPLERS = ("tpe", "nsga2", "cmaes", "qmc", "random", "grid")
ADAPTIVE = SAMPLERS[:3]
"""Samplers that choose points by the values of earlier ones."""
TILE_VALUES = ("best", "median", "plateau")

CLUSTERS = {
    "dask": 'start one with `dask scheduler` and `dask worker`, address = "tcp://HOST:8786"',
    "ray": 'start one with `ray start --head`, address = "auto" or "ray://HOST:10001"',
}
"""Back ends that are a cluster at an address, and how to come by one."""


def _whole(low: int, high: int) -> BeforeValidator:
    return BeforeValidator(lambda value: bounded(value, int, low, high))


def _real(low: float, high: float, *, below: bool = False) -> BeforeValidator:
    return BeforeValidator(lambda value: bounded(value, float, low, high, below=below))


def _name_of(*valid: str) -> BeforeValidator:
    return BeforeValidator(lambda value: one_of(value, valid))


class Table(BaseModel):
    """A table of a study file: unknown keys are refused, values cannot change."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _read_name(value: object) -> str:
    name = filled_text(value)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise refusal(
            f"got {show(name)}; it becomes a file name: up to 100 letters, digits, - _ . only, "
            "a letter or digit first"
        )
    return name


class Heading(Table):
    """``[study]``: the study's name and the seed of all its random numbers."""

    name: Annotated[str, BeforeValidator(_read_name)]
    seed: Annotated[int, _whole(0, 2**63 - 1)] = 0


def _read_symbols(value: object) -> list[str]:
    symbols = [filled_text(symbol) for symbol in listed(value)]
    distinct(symbols, "give each symbol once")
    return symbols


def _read_time(value: object) -> str:
    if isinstance(value, (datetime.date, datetime.datetime)):
        return value.isoformat()
    if isinstance(value, str):
        try:
            moment = datetime.datetime.fromisoformat(value)
        except ValueError:
            pass
        else:
            # A day stays a day, so that a TOML date and a string of it are one value.
            day = re.fullmatch(r"\d{4}-?\d{2}-?\d{2}|\d{4}-?W\d{2}-?\d", value)
            return moment.date().isoformat() if day else moment.isoformat()
    raise refusal(f"got {show(value)}; expected a date such as 2015-01-31")


def _read_timezone(value: object) -> str:
    name = filled_text(value)
    try:
        zoneinfo.ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        raise refusal(
            f'got {show(name)}; no such time zone, expected one such as "America/New_York"'
        ) from None
    return name


class Data(Table):
    """``[data]``: which bars the study is of.

    Attributes:
        path: relative to the study file's folder.
        symbols: None takes all.
        start, end: ISO dates or date-times; None takes all.
        align: what to do where the symbols' calendars differ.
        timezone: of timestamps that carry none, and of ``start`` and ``end``.
    """

    path: Annotated[str, BeforeValidator(filled_text)]
    symbols: Annotated[tuple[str, ...], BeforeValidator(_read_symbols)] | None = None
    start: Annotated[str, BeforeValidator(_read_time)] | None = None
    end: Annotated[str, BeforeValidator(_read_time)] | None = None
    align: Annotated[Literal["inner", "strict"], _name_of("inner", "strict")] = "inner"
    timezone: Annotated[str, BeforeValidator(_read_timezone)] = "UTC"

    @model_validator(mode="after")
    def _in_order(self) -> Data:
        if self.start is not None and self.end is not None:
            zone = zoneinfo.ZoneInfo(self.timezone)
            start, end = (
                moment if moment.tzinfo else moment.replace(tzinfo=zone)
                for moment in map(datetime.datetime.fromisoformat, (self.start, self.end))
            )
            if start > end:
                refuse_all([(("start",), f"{self.start} is after end = {self.end}; exchange them")])
        return self


def read_flag(value: object) -> bool:
    """Read true or false."""
    if not isinstance(value, bool):
        raise refusal(f"got {show(value)}; expected true or false")
    return value


class Costs(Table):
    """``[costs]``: what trading costs, one value each for the whole study.

    Attributes:
        commission_bps: of the traded value.
        slippage_bps: by which each fill is worse than its price.
        fill: ``close`` fills at the close of the bar of decision, which is optimistic.
        initial_cash: in the currency of the bars.
    """

    commission_bps: Annotated[float, _real(0, 5_000)] = 1.0
    slippage_bps: Annotated[float, _real(0, 5_000)] = 2.0
    fill: Annotated[Literal["next_open", "close"], _name_of("next_open", "close")] = "next_open"
    initial_cash: Annotated[float, _real(0.01, 1e15)] = 100_000.0


class Quantile(Table):
    """A tile's value as a quantile of the objective over its lanes, 1 being the best lane's."""

    quantile: Annotated[float, _real(0, 1)]


def _read_objective(value: object) -> list[str]:
    names = [
        one_of(name, METRICS) for name in ([value] if isinstance(value, str) else listed(value))
    ]
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
        raise refusal(f"got {show(value)}; {mend(str(value), TILE_VALUES)}, {{quantile = 0.75}}")
    return value


def _read_storage(value: object) -> str:
    """An address; a refusal does not show it, since it may hold a password."""
    if not isinstance(value, str) or not value.startswith("postgresql://"):
        raise refusal('expected a text such as "postgresql://USER@HOST/NAME"')
    return value


class Search(Table):
    """``[search]``: how the searched space is walked and what is best.

    Attributes:
        sampler: an Optuna sampler, or ``grid``, which tries every point of the searched space.
        trials: points of the searched space, each a tile of all swept values.
        batch: trials asked at a time; a function of nothing else, workers least of all.
        objective: metrics, one or more.
        direction: of each objective.
        tile_value: how a tile's lanes make one trial's value.
        storage: PostgreSQL database by which several coordinators share the study; None shares it with
            nobody. It may hold a password, so ``Study.to_dict`` leaves it out, and no file holds it.
    """

    sampler: Annotated[
        Literal["tpe", "nsga2", "cmaes", "qmc", "random", "grid"], _name_of(*SAMPLERS)
    ] = "tpe"
    trials: Annotated[int, _whole(1, 10**9)] = 64
    batch: Annotated[int, _whole(1, 10**6)] = 16
    objective: Annotated[tuple[str, ...], BeforeValidator(_read_objective)] = ("sharpe",)
    direction: tuple[Direction, ...] = Field(default=(), validate_default=True)
    tile_value: Annotated[
        Literal["best", "median", "plateau"] | Quantile, BeforeValidator(_read_tile_value)
    ] = "best"
    storage: Annotated[str, BeforeValidator(_read_storage)] | None = None
    constraints: tuple[Annotated[Constraint, BeforeValidator(read_constraint)], ...] = ()

    @field_validator("direction", mode="before")
    @classmethod
    def _read_direction(cls, value: object, info: ValidationInfo) -> object:
        objective: tuple[str, ...] = info.data.get("objective", ())
        if value == ():
            return tuple(METRIC_DIRECTIONS[name] for name in objective)
        names = [value] if isinstance(value, str) else listed(value)
        directions = tuple(one_of(name, ("maximize", "minimize")) for name in names)
        if objective and len(directions) != len(objective):
            raise refusal(
                f"{len(directions)} directions for {len(objective)} objectives; give one for each"
            )
        return directions

    @field_validator("constraints", mode="before")
    @classmethod
    def _read_constraints(cls, value: object) -> object:
        if not isinstance(value, (list, tuple)):
            raise refusal(f'got {show(value)}; expected a list such as ["n_trades >= 30"]')
        return value

    @model_validator(mode="after")
    def _one_objective(self) -> Search:
        if self.sampler == "cmaes" and len(self.objective) > 1:
            message = (
                f'"cmaes" takes one objective, got {len(self.objective)}; use "tpe" or "nsga2"'
            )
            refuse_all([(("sampler",), message)])
        return self


class Validation(Table):
    """``[validation]``: how a study's choice is judged.

    Attributes:
        holdout: the last share of bars, which the search never sees; 0 leaves none.
        blocks: of in-sample bars whose return moments are kept for every parameter set; from these
            come the statistics of selection. Even.
        method: beside those, ``walk_forward`` stitches the equity of choosing on each training
            window and trading the next block, ``cpcv`` gives the out-of-sample Sharpe ratio over
            the paths of combinatorial purged cross-validation.
        train_blocks: of a training window of the walk-forward; None is half of the blocks.
        anchored: whether every training window starts with the first block.
        test_blocks: tested together by a split of ``cpcv``.
        embargo_blocks: left out of training after each tested block of ``cpcv``.
    """

    holdout: Annotated[float, _real(0, 0.9, below=True)] = 0.2
    blocks: Annotated[int, _whole(2, MAX_BLOCKS)] = 16
    method: Annotated[
        Literal["none", "walk_forward", "cpcv"], _name_of("none", "walk_forward", "cpcv")
    ] = "none"
    train_blocks: Annotated[int, _whole(1, MAX_BLOCKS)] | None = None
    anchored: Annotated[bool, BeforeValidator(read_flag)] = False
    test_blocks: Annotated[int, _whole(1, MAX_BLOCKS)] = 2
    embargo_blocks: Annotated[int, _whole(0, MAX_BLOCKS)] = 1

    @model_validator(mode="after")
    def _fit(self) -> Validation:
        if self.blocks % 2:
            refuse_all([(("blocks",), f"got {self.blocks}; expected an even number")])
        if self.train_blocks is not None and self.train_blocks >= self.blocks:
            message = f"got {self.train_blocks}; expected less than blocks = {self.blocks}"
            refuse_all([(("train_blocks",), message)])
        spared = self.test_blocks * (1 + self.embargo_blocks)
        if self.method == "cpcv" and spared >= self.blocks:
            message = (
                f"got {self.test_blocks}: with embargo_blocks = {self.embargo_blocks} a split may"
                f" leave none of blocks = {self.blocks} to train on"
            )
            refuse_all([(("test_blocks",), message)])
        return self


class Workers(Table):
    """``[workers]``: who computes. Never changes a result.

    Attributes:
        count: processes; 0 is one per core. A Dask cluster is used whole.
        backend: a joblib back end; ``dask`` and ``ray`` are clusters.
        address: of the cluster.
        tile_seconds: a worker that takes longer for a tile, or for 2,048 sets of it, is ended; the
            tile is tried once more and fails then. None sets no limit.
    """

    count: Annotated[int, _whole(0, 100_000)] = 0
    backend: Annotated[str, BeforeValidator(filled_text)] = "loky"
    address: Annotated[str, BeforeValidator(filled_text)] | None = None
    tile_seconds: Annotated[float, _real(0.1, 1e6)] | None = None

    @model_validator(mode="after")
    def _has_address(self) -> Workers:
        start = CLUSTERS.get(self.backend)
        if start is not None and self.address is None:
            refuse_all([(("address",), f'missing for backend = "{self.backend}"; {start}')])
        if start is None and self.address is not None:
            message = f'got {show(self.address)} for backend = "{self.backend}", which has none'
            refuse_all(
                [(("address",), f"{message}; leave it out, or take {' or '.join(CLUSTERS)}")]
            )
        return self


def _read_url(value: object) -> str:
    """A text; a refusal does not show it, since it may hold a password."""
    if not isinstance(value, str) or not value.strip():
        raise refusal('expected a text such as "postgresql://USER:PASSWORD@HOST/NAME"')
    return value


class Analytics(Table):
    """``[analytics]``: where the event flow writes its trace. Never changes a result.

    Attributes:
        url: of an SQLite or PostgreSQL database; None is a file in the output folder. It may hold a
            password, so it is no part of what ``Study.to_dict`` gives and of what a run writes.
    """

    url: Annotated[str, BeforeValidator(_read_url)] | None = None
