"""The study file: TOML in, a frozen and fully checked ``Study`` out.

Every rule that a study file must keep stands here, so that nothing fails an hour into a search.
Each refusal is one line: the file, the table and key, the value, the mend.
"""

from __future__ import annotations

import datetime
import hashlib
import itertools
import json
import math
import os
import re
import tomllib
import zoneinfo
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from optimizer.catalogue import (
    CLASSIFIERS,
    MAX_BLOCKS,
    METRIC_DIRECTIONS,
    METRICS,
    RISK,
    STRATEGIES,
    Direction,
    Parameter,
    column,
)
from optimizer.constraints import Constraint, read_constraint
from optimizer.custom import CustomStrategy, custom_from_dict, read_custom
from optimizer.errors import StudyFileError, counted
from optimizer.settings import (
    Choices,
    Place,
    Problem,
    Range,
    Setting,
    Sweep,
    bounded,
    distinct,
    filled_text,
    listed,
    mend,
    one_of,
    only_keys,
    read_setting,
    refusal,
    refuse_all,
    setting_to_dict,
    show,
)

__all__ = [
    "METRICS",
    "Choices",
    "Classifier",
    "Constraint",
    "Costs",
    "Data",
    "Heading",
    "Quantile",
    "Range",
    "Risk",
    "Search",
    "Setting",
    "Strategy",
    "Study",
    "Sweep",
    "Validation",
    "Workers",
    "load_study",
    "study_from_dict",
]

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


# --- Tables of the study file -----------------------------------------------------------------


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _read_name(value: object) -> str:
    name = filled_text(value)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise refusal(
            f"got {show(name)}; it becomes a file name: up to 100 letters, digits, - _ . only, "
            "a letter or digit first"
        )
    return name


class Heading(_Table):
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


class Data(_Table):
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


def _read_parameters(
    raw: Mapping[str, object], parameters: Sequence[Parameter], others: Sequence[str]
) -> dict[str, Setting]:
    """Settings of all ``parameters``, the default where ``raw`` is silent.

    Args:
        raw: a table of the study file.
        parameters: of its owner.
        others: further keys, which the caller reads.

    Raises:
        ValidationError: with a line for each key that cannot be used.
    """
    settings: dict[str, Setting] = {}
    problems: list[Problem] = []
    by_name = {parameter.name: parameter for parameter in parameters}
    valid = [*(key for key in others if key != "name"), *by_name]
    for key in raw:
        if key not in by_name and key not in others:
            problems.append(((key,), f"unknown key; {mend(str(key), valid or ['name'])}"))
    for name, parameter in by_name.items():
        try:
            default = parameter.kind(parameter.default)
            settings[name] = read_setting(parameter, raw.get(name, default))
        except PydanticCustomError as error:
            problems.append(((name,), error.message()))
    refuse_all(problems)
    return settings


def _expect_table(raw: object) -> Mapping[str, object]:
    if not isinstance(raw, Mapping):
        raise refusal(f"got {show(raw)}; expected a table")
    return raw


def _read_component(
    raw: Mapping[str, object], catalogue: Mapping[str, Sequence[Parameter]]
) -> tuple[str, Sequence[Parameter]]:
    """Name of a strategy or classifier and its parameters."""
    if "name" not in raw:
        refuse_all([(("name",), f"missing; valid: {', '.join(catalogue)}")])
    try:
        name = one_of(raw["name"], tuple(catalogue))
    except PydanticCustomError as error:
        refuse_all([(("name",), error.message())])
    return name, catalogue[name]


class Strategy(_Table):
    """``[strategy]``: a strategy and the settings of all its parameters.

    Attributes:
        custom: what the user's file declares, where the strategy is a user's own.
    """

    name: str
    parameters: dict[str, Setting]
    custom: CustomStrategy | None = None

    @model_validator(mode="before")
    @classmethod
    def _read(cls, raw: object, info: ValidationInfo) -> object:
        table = _expect_table(raw)
        if "path" not in table:
            given = table.get("name")
            if isinstance(given, str) and given not in STRATEGIES:
                message = f"got {show(given)}; {mend(given, list(STRATEGIES))}; one of your own"
                refuse_all([(("name",), f'{message} takes path = "{given}.py" beside its name')])
            name, parameters = _read_component(table, STRATEGIES)
            return {"name": name, "parameters": _read_parameters(table, parameters, ("name",))}
        name = _read_custom_name(table)
        if "declared" in table:
            try:
                custom = custom_from_dict(table)
            except (KeyError, TypeError, ValueError):
                raise refusal("declared: not as barsweep wrote it; leave it out") from None
            table = {key: table[key] for key in table if key not in ("declared", "source_hash")}
        else:
            customs: Mapping[tuple[str, str], CustomStrategy] = info.context or {}
            custom = customs[str(table["path"]), name]
        settings = _read_parameters(table, custom.parameters, ("name", "path"))
        return {"name": name, "parameters": settings, "custom": custom}


_CUSTOM_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")


def _read_custom_name(table: Mapping[str, object]) -> str:
    """Name of a user's strategy, which becomes the prefix of its columns."""
    path, name = table["path"], table.get("name")
    if not isinstance(path, str) or not path.strip():
        refuse_all([(("path",), f'got {show(path)}; expected a file such as "my_strategy.py"')])
    if name is None:
        refuse_all([(("name",), 'missing; add name = "my_strategy", which names its columns')])
    taken = (*STRATEGIES, *CLASSIFIERS, "risk")
    if name in taken:
        refuse_all([(("name",), f"got {show(name)}, a built-in's name; give it another")])
    if not isinstance(name, str) or not _CUSTOM_NAME.fullmatch(name):
        message = f"got {show(name)}; expected small letters, digits and _, a letter first"
        refuse_all([(("name",), message)])
    return str(name)


def _read_customs(raw: Mapping[str, Any], base_path: Path) -> dict[tuple[str, str], CustomStrategy]:
    """Every strategy of the user's own, by path and name. Runs their files.

    Raises:
        StrategyError: with the place in the user's file.
    """
    tables = raw.get("strategy", ())
    customs = {}
    for table in tables if isinstance(tables, (list, tuple)) else [tables]:
        if isinstance(table, Mapping) and "path" in table and "declared" not in table:
            try:
                name = _read_custom_name(table)
            except ValidationError:
                continue  # the study's own reading refuses it
            customs[str(table["path"]), name] = read_custom(base_path / table["path"], name)
    return customs


class Classifier(_Table):
    """``[classifier]``: a regime classifier and the settings of all its parameters.

    Attributes:
        market: the symbol whose regime it is; None is the equal-weighted index of all symbols.
    """

    name: str
    market: Annotated[str, BeforeValidator(filled_text)] | None = None
    parameters: dict[str, Setting]

    @model_validator(mode="before")
    @classmethod
    def _read(cls, raw: object) -> object:
        table = _expect_table(raw)
        name, parameters = _read_component(table, CLASSIFIERS)
        others = ("name",) if name == "none" else ("name", "market")
        settings = _read_parameters(table, parameters, others)
        return {"name": name, "market": table.get("market"), "parameters": settings}


def _read_flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise refusal(f"got {show(value)}; expected true or false")
    return value


class Risk(_Table):
    """``[risk]``: the settings of all risk parameters.

    Attributes:
        allow_short: whether a direction of -1 opens a short position.
    """

    allow_short: Annotated[bool, BeforeValidator(_read_flag)] = False
    parameters: dict[str, Setting]

    @model_validator(mode="before")
    @classmethod
    def _read(cls, raw: object) -> object:
        table = _expect_table(raw)
        settings = _read_parameters(table, RISK, ("allow_short",))
        return {"allow_short": table.get("allow_short", False), "parameters": settings}


class Costs(_Table):
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


class Quantile(_Table):
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


class Search(_Table):
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


class Validation(_Table):
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
    anchored: Annotated[bool, BeforeValidator(_read_flag)] = False
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


class Workers(_Table):
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


class Analytics(_Table):
    """``[analytics]``: where the event flow writes its trace. Never changes a result.

    Attributes:
        url: of an SQLite or PostgreSQL database; None is a file in the output folder. It may hold a
            password, so it is no part of what ``Study.to_dict`` gives and of what a run writes.
    """

    url: Annotated[str, BeforeValidator(_read_url)] | None = None


def _read_tables(value: object) -> list[object]:
    if isinstance(value, (list, tuple)):
        return listed(value)
    return [_expect_table(value)]


class Study(_Table):
    """A study, checked. Made by ``load_study`` or ``study_from_dict``."""

    heading: Heading = Field(alias="study")
    data: Data
    strategies: Annotated[tuple[Strategy, ...], BeforeValidator(_read_tables)] = Field(
        alias="strategy"
    )
    classifiers: Annotated[tuple[Classifier, ...], BeforeValidator(_read_tables)] = Field(
        default_factory=lambda: (Classifier.model_validate({"name": "none"}),), alias="classifier"
    )
    risk: Risk = Field(default_factory=lambda: Risk.model_validate({}))
    costs: Costs = Costs()
    search: Search = Search()
    validation: Validation = Validation()
    workers: Workers = Workers()
    analytics: Analytics = Analytics()

    _path: Path | None = PrivateAttr(default=None)
    _base_path: Path = PrivateAttr(default=Path())
    _overridden: tuple[str, ...] = PrivateAttr(default=())

    @property
    def name(self) -> str:
        """The study's name, fit for a file name."""
        return self.heading.name

    @property
    def seed(self) -> int:
        """The seed of all its random numbers."""
        return self.heading.seed

    @property
    def path(self) -> Path | None:
        """The study file; None where the study came from a mapping."""
        return self._path

    @property
    def source(self) -> str:
        """What messages call this study: its file, or ``<study>``."""
        return "<study>" if self._path is None else str(self._path)

    @property
    def base_path(self) -> Path:
        """The folder from which the bars' path counts, absolute."""
        return self._base_path.resolve()

    @property
    def overridden(self) -> tuple[str, ...]:
        """Keys that ``override`` took from its caller, as ``search.trials``."""
        return self._overridden

    @property
    def data_path(self) -> Path:
        """The file of bars, absolute."""
        return (self._base_path / self.data.path).resolve()

    @property
    def content_hash(self) -> str:
        """SHA-256 of everything that can change a result: of all tables but ``[workers]``.

        Defaults are filled in, so neither formatting, nor the order of keys, nor the folder, nor a
        default spelled out makes a difference.
        """
        return self._hash_without(("workers",))

    @property
    def space_hash(self) -> str:
        """SHA-256 of what can change which parameter sets are tried and how they trade.

        Neither the name, nor the objective, nor how the choice is judged makes a difference, nor how
        many trials are asked for: two studies with one hash try sets of one sequence.
        """
        judged = ("objective", "direction", "tile_value", "constraints", "trials")
        return self._hash_without(
            ("workers",),
            {
                "study": ("name",),
                "validation": tuple(self.validation.model_dump().keys() - {"holdout"}),
                "search": ("trials",) if self.search.sampler in ADAPTIVE else judged,
            },
        )

    def _hash_without(
        self, tables: Sequence[str], keys: Mapping[str, Sequence[str]] | None = None
    ) -> str:
        content = {name: table for name, table in self.to_dict().items() if name not in tables}
        for name, left_out in (keys or {}).items():
            content[name] = {k: v for k, v in content[name].items() if k not in left_out}
        # Of a user's strategy the file's content counts, not where it lies.
        content["strategy"] = [
            {key: value for key, value in strategy.items() if key != "path"}
            for strategy in content["strategy"]
        ]
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """The study as plain mappings, lists, texts and numbers, defaults filled in.

        ``[analytics]`` and ``storage`` of ``[search]`` are left out: they may hold a password.

        ``study_from_dict`` makes the same study of it, and a TOML or JSON writer a file.
        """
        search = self.search.model_dump(exclude={"storage"})
        for key in ("objective", "direction"):
            search[key] = search[key][0] if len(search[key]) == 1 else list(search[key])
        search["constraints"] = [str(constraint) for constraint in self.search.constraints]
        data = self.data.model_dump(exclude_none=True)
        if "symbols" in data:
            data["symbols"] = list(data["symbols"])
        return {
            "study": self.heading.model_dump(),
            "data": data,
            "strategy": [
                {
                    "name": strategy.name,
                    **({} if strategy.custom is None else strategy.custom.to_dict()),
                    **_settings_to_dict(strategy.parameters),
                }
                for strategy in self.strategies
            ],
            "classifier": [
                {
                    "name": classifier.name,
                    **({} if classifier.market is None else {"market": classifier.market}),
                    **_settings_to_dict(classifier.parameters),
                }
                for classifier in self.classifiers
            ],
            "risk": {
                "allow_short": self.risk.allow_short,
                **_settings_to_dict(self.risk.parameters),
            },
            "costs": self.costs.model_dump(),
            "search": search,
            "validation": self.validation.model_dump(exclude_none=True),
            "workers": self.workers.model_dump(exclude_none=True),
        }

    def override(
        self, *, seed: int | None = None, trials: int | None = None, workers: int | None = None
    ) -> Study:
        """This study with what a command line may change; None leaves a value as it is.

        Raises:
            StudyFileError: a value is out of bounds.
        """
        content = self.to_dict()
        if self.search.storage is not None:
            content["search"]["storage"] = self.search.storage
        overridden = list(self._overridden)
        for table, key, value in (
            ("study", "seed", seed),
            ("search", "trials", trials),
            ("workers", "count", workers),
        ):
            if value is not None:
                content[table][key] = value
                overridden.append(f"{table}.{key}")
        study = _make_study(content, self._path, self._base_path)
        study._overridden = tuple(dict.fromkeys(overridden))
        return study

    @model_validator(mode="after")
    def _fits_together(self) -> Study:
        refuse_all(_cross_checks(self))
        return self


def _settings_to_dict(parameters: Mapping[str, Setting]) -> dict[str, object]:
    return {name: setting_to_dict(setting) for name, setting in parameters.items()}


# --- Checks across tables ---------------------------------------------------------------------


def _cross_checks(study: Study) -> list[Problem]:
    return [
        *_repeated_names("strategy", [strategy.name for strategy in study.strategies]),
        *_repeated_names("classifier", [classifier.name for classifier in study.classifiers]),
        *_unknown_markets(study),
        *_unknown_operands(study),
        *_endless_grid(study),
    ]


def _repeated_names(table: str, names: Sequence[str]) -> Iterable[Problem]:
    for index, name in enumerate(names):
        if name in names[:index]:
            yield (
                (table, index, "name"),
                f'"{name}" stands twice; give it one table and search its values with '
                "{choices = [...]}",
            )


def _unknown_markets(study: Study) -> Iterable[Problem]:
    symbols = study.data.symbols
    for index, classifier in enumerate(study.classifiers):
        market = classifier.market
        if symbols is not None and market is not None and market not in symbols:
            yield (
                ("classifier", index, "market"),
                f"{show(market)} is not among the symbols of [data]; {mend(market, symbols)}",
            )


def _unknown_operands(study: Study) -> Iterable[Problem]:
    risk = [column("risk", name) for name in study.risk.parameters]
    pairs = [
        [column(part.name, name) for part in (strategy, classifier) for name in part.parameters]
        for strategy in study.strategies
        for classifier in study.classifiers
    ]
    parameters = list(dict.fromkeys((*itertools.chain(*pairs), *risk)))
    for index, constraint in enumerate(study.search.constraints):
        place = ("search", "constraints", index)
        unknown = [n for n in constraint.names if n not in METRICS and n not in parameters]
        if unknown:
            valid = (*METRICS, *parameters)
            yield place, f'unknown "{unknown[0]}" in "{constraint}"; {mend(unknown[0], valid)}'
        elif not any({*constraint.names} <= {*METRICS, *risk, *pair} for pair in pairs):
            yield (
                place,
                f'"{constraint}" compares two strategies or two classifiers: it never applies',
            )


def _endless_grid(study: Study) -> Iterable[Problem]:
    if study.search.sampler != "grid":
        return
    tables: list[tuple[Place, Mapping[str, Setting]]] = [
        *((("strategy", i), part.parameters) for i, part in enumerate(study.strategies)),
        *((("classifier", i), part.parameters) for i, part in enumerate(study.classifiers)),
        (("risk",), study.risk.parameters),
    ]
    for place, parameters in tables:
        for name, setting in parameters.items():
            if isinstance(setting, Range) and setting.n_values is None:
                yield (
                    (*place, name),
                    f"{show(setting_to_dict(setting))} has no end of values for the sampler "
                    '"grid"; give it a step',
                )


# --- Reading ----------------------------------------------------------------------------------

_TABLES: dict[str, type[_Table]] = {
    "study": Heading,
    "data": Data,
    "costs": Costs,
    "search": Search,
    "validation": Validation,
    "workers": Workers,
    "analytics": Analytics,
}
_TOP_KEYS = ("study", "data", "strategy", "classifier", "risk", *list(_TABLES)[2:])
_MISSING = {
    ("study",): '[study] with name = "my_study"',
    ("study", "name"): 'name = "my_study"',
    ("data",): '[data] with path = "bars.parquet"',
    ("data", "path"): 'path = "bars.parquet"',
    ("strategy",): f"[strategy] with name = one of {', '.join(STRATEGIES)}",
}


def load_study(path: str | os.PathLike[str]) -> Study:
    """Read and check a study file.

    Args:
        path: a TOML file. The bars' path in it counts from its folder.

    Raises:
        StudyFileError: the file cannot be read, is not TOML, or breaks a rule. One line.
    """
    file = Path(path)
    return _make_study(_read_toml(file), file, file.parent)


def study_from_dict(mapping: Mapping[str, Any], base_path: str | os.PathLike[str] = ".") -> Study:
    """Check a study given as the mapping that its file would be parsed to.

    Args:
        mapping: tables by name; NumPy numbers and tuples are taken for numbers and lists.
        base_path: the folder from which the bars' path counts.

    Raises:
        StudyFileError: a rule is broken. One line, which calls the study ``<study>``.
    """
    return _make_study(mapping, None, Path(base_path))


def _make_study(raw: Mapping[str, Any], path: Path | None, base_path: Path) -> Study:
    source = "<study>" if path is None else str(path)
    if not isinstance(raw, Mapping):
        raise StudyFileError(f"{source}: got {show(raw)}; expected a mapping of tables")
    customs = _read_customs(raw, base_path)
    try:
        study = Study.model_validate(raw, context=customs)
    except ValidationError as error:
        raise StudyFileError(f"{source}: {_summary(error, raw)}") from None
    study._path = path
    study._base_path = base_path
    return study


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        content = path.read_bytes()
    except IsADirectoryError:
        raise StudyFileError(f"{path}: a folder; expected a study file (TOML)") from None
    except FileNotFoundError:
        raise StudyFileError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = getattr(error, "strerror", None) or error
        raise StudyFileError(f"{path}: cannot be read: {reason}") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise StudyFileError(f"{path}: line {line}: not UTF-8; save the file as UTF-8") from None
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise StudyFileError(f"{path}: not TOML: nested too deep") from None
    except ValueError as error:
        raise StudyFileError(f"{path}: {_syntax_error(error, text)}") from None


def _syntax_error(error: ValueError, text: str) -> str:
    match = re.fullmatch(r"(.*) \(at (line \d+, column \d+|end of document)\)", str(error), re.S)
    if match is None:
        return f"not TOML: {error}"
    reason, place = match.groups()
    if place == "end of document":
        lines = text.split("\n")
        place = f"line {len(lines)}, column {len(lines[-1]) + 1}"
    return f"{place}: not TOML: {reason}"


def _summary(error: ValidationError, raw: Mapping[str, Any]) -> str:
    """The error that stands first in the file, and how many more there are."""
    lines = error.errors(include_url=False)
    first = min(lines, key=lambda line: _position(line["loc"], raw))
    more = len(lines) - 1
    ending = f" (and {counted(more, 'more error')})" if more else ""
    return f"{_place(first['loc'], raw)}: {_message(first)}{ending}"


def _position(place: Place, raw: object) -> tuple[float, ...]:
    """Sorts places as they stand in the file; what is missing comes last in its table."""
    position: list[float] = []
    for part in place:
        if isinstance(raw, Mapping) and isinstance(part, str):
            position.append(list(raw).index(part) if part in raw else math.inf)
            raw = raw.get(part)
        elif isinstance(raw, (list, tuple)) and isinstance(part, int):
            position.append(part)
            raw = raw[part]
        # else: a lone [strategy], which was made a list of one
    return tuple(position)


def _place(place: Place, raw: Mapping[str, Any]) -> str:
    """``[risk] lot_size``, ``[[strategy]] #2 fast``, ``[search] constraints #1``."""
    table, *rest = place
    label = f"[{table}]"
    if rest and isinstance(rest[0], int):
        index = rest.pop(0)
        if isinstance(raw.get(str(table)), (list, tuple)):
            label = f"[[{table}]] #{int(index) + 1}"
    keys = (f"#{part + 1}" if isinstance(part, int) else part for part in rest)
    return " ".join((label, *keys))


def _message(line: Mapping[str, Any]) -> str:
    place = line["loc"]
    if line["type"] == "study_file":
        return str(line["msg"])
    if line["type"] == "missing":
        return f"missing; add {_MISSING[place]}"
    if line["type"] == "extra_forbidden":
        if len(place) == 1:
            return f"unknown table; {mend(str(place[0]), _TOP_KEYS)}"
        return f"unknown key; {mend(str(place[-1]), list(_TABLES[place[0]].model_fields))}"
    if place[0] == "analytics":  # it may hold a password
        return "expected a table with url"
    if line["type"] in ("model_type", "model_attributes_type"):
        return f"got {show(line['input'])}; expected a table"
    return f"got {show(line['input'])}; {line['msg']}"
