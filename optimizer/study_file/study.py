"""A study: all tables of a study file together."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PrivateAttr, ValidationError, model_validator

from optimizer.errors import StudyFileError
from optimizer.strategies.approvals import approve, cluster_hash
from optimizer.strategies.user import UserStrategy
from optimizer.strategies.user_classifier import UserClassifier
from optimizer.study_file.account import AccountTable, InstrumentTable, read_instruments
from optimizer.study_file.components import (
    NAMED,
    RISK_OPTIONS,
    ClassifierTable,
    CombinationTable,
    Readers,
    RiskTable,
    StrategyTable,
    UserCode,
    read_tables,
    read_user_code,
)
from optimizer.study_file.costs import CostsTable
from optimizer.study_file.cross_checks import cross_checks
from optimizer.study_file.merged import merged_tables
from optimizer.study_file.messages import summarize_errors
from optimizer.study_file.operands import resolved
from optimizer.study_file.search_tables import ADAPTIVE, SearchTable, ValidationTable
from optimizer.study_file.settings import Setting, setting_to_dict
from optimizer.study_file.tables import (
    CLUSTERS,
    AnalyticsTable,
    DataTable,
    StudyTable,
    Table,
    WorkersTable,
)
from optimizer.study_file.values import refuse_all
from optimizer.text import quoted


class Study(Table):
    """A checked study. ``load_study`` and ``study_from_dict`` make one."""

    heading: StudyTable = Field(alias="study")
    data: DataTable
    strategies: Annotated[tuple[StrategyTable, ...], BeforeValidator(read_tables)] = Field(
        alias="strategy"
    )
    combination: CombinationTable = Field(default=CombinationTable(), alias="strategies")
    classifiers: Annotated[tuple[ClassifierTable, ...], BeforeValidator(read_tables)] = Field(
        default_factory=lambda: (ClassifierTable.model_validate({"name": "none"}),),
        alias="classifier",
    )
    risk: RiskTable = Field(default_factory=lambda: RiskTable.model_validate({}))
    costs: CostsTable = Field(default_factory=lambda: CostsTable.model_validate({}))
    account: AccountTable = AccountTable()
    instruments: Annotated[dict[str, InstrumentTable], BeforeValidator(read_instruments)] = Field(
        default_factory=dict
    )
    search: SearchTable = SearchTable()
    validation: ValidationTable = ValidationTable()
    workers: WorkersTable = WorkersTable()
    analytics: AnalyticsTable = AnalyticsTable()

    _path: Path | None = PrivateAttr(default=None)
    _base_path: Path = PrivateAttr(default=Path())
    _overridden: tuple[str, ...] = PrivateAttr(default=())

    @property
    def name(self) -> str:
        """The study's name, which can be a file name."""
        return self.heading.name

    @property
    def seed(self) -> int:
        """The seed of all its random numbers."""
        return self.heading.seed

    @property
    def path(self) -> Path | None:
        """The study file; None if the study came from a mapping."""
        return self._path

    @property
    def source(self) -> str:
        """What messages call this study: its file, or ``<study>``."""
        return "<study>" if self._path is None else str(self._path)

    @property
    def base_path(self) -> Path:
        """The folder to which the path of the bars is relative, absolute."""
        return self._base_path.resolve()

    @property
    def overridden(self) -> tuple[str, ...]:
        """Keys that ``override`` changed, such as ``search.trials``."""
        return self._overridden

    @property
    def data_path(self) -> Path:
        """The file of bars, absolute."""
        return (self._base_path / self.data.path).resolve()

    @property
    def warm_start_path(self) -> Path | None:
        """The folder of the study with whose best points the search begins, absolute."""
        folder = self.search.warm_start
        return None if folder is None else (self._base_path / folder).resolve()

    @property
    def lot_size(self) -> float:
        """Units of a lot of a symbol that ``[instruments]`` does not give one."""
        setting = self.risk.settings["lot_size"]
        assert isinstance(setting, (int, float))  # one value holds for the whole study
        return float(setting)

    @property
    def user_strategies(self) -> tuple[UserStrategy, ...]:
        """The strategies of the user's own, in the order of the study file."""
        found = (table.strategy for table in self.strategies)
        return tuple(one for one in found if isinstance(one, UserStrategy))

    @property
    def user_code(self) -> tuple[UserStrategy | UserClassifier, ...]:
        """Everything in it that runs a file of the user's: strategies, then classifiers."""
        classifiers = (table.own for table in self.classifiers)
        return *self.user_strategies, *(one for one in classifiers if one is not None)

    @property
    def content_hash(self) -> str:
        """SHA-256 of everything that can change a result: all tables except ``[workers]``.

        Defaults are filled in. Formatting, the order of keys, the folder, the name of the currency and
        a default written out make no difference.
        """
        return self._hash_without(("workers",), {"account": ("currency",)})

    @property
    def space_hash(self) -> str:
        """SHA-256 of what can change which parameter sets are tried and how they trade.

        The name, the objective, the validation except its holdout, the number of trials, and what
        ends the search early make no difference. Two studies with the same hash try sets of the same
        sequence.
        """
        ended = ("trials", "stop_after", "max_seconds", "store")
        judged = ("objective", "direction", "returns", "tile_value", "constraints")
        return self._hash_without(
            ("workers",),
            {
                "study": ("name",),
                "account": ("currency",),
                "validation": tuple(self.validation.model_dump().keys() - {"holdout"}),
                "search": ended if self.search.sampler in ADAPTIVE else (*ended, *judged),
            },
        )

    def _hash_without(
        self, tables: Sequence[str], keys: Mapping[str, Sequence[str]] | None = None
    ) -> str:
        content = {name: table for name, table in self.to_dict().items() if name not in tables}
        for name, left_out in (keys or {}).items():
            content[name] = {k: v for k, v in content[name].items() if k not in left_out}
        # The content of a user's file counts, not its place.
        for owner in ("strategy", "classifier"):
            content[owner] = [
                {key: value for key, value in table.items() if key != "path"}
                for table in content[owner]
            ]
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """The study as plain mappings, lists, texts and numbers, defaults filled in.

        ``[analytics]`` and ``storage`` of ``[search]`` are left out: they may hold a password.
        ``study_from_dict`` restores the rest, and a TOML or JSON writer makes a file of it.
        """
        search = self.search.model_dump(exclude={"storage"}, exclude_none=True)
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
                    **table.strategy.to_dict(),
                    **_settings_to_dict(table.settings),
                }
                for table in self.strategies
            ],
            **({"strategies": self.combination.model_dump()} if self.combination.together else {}),
            "classifier": [
                {
                    **(
                        {"name": classifier.name}
                        if classifier.own is None
                        else classifier.own.to_dict()
                    ),
                    **({} if classifier.market is None else {"market": classifier.market}),
                    **_settings_to_dict(classifier.settings),
                }
                for classifier in self.classifiers
            ],
            "risk": {
                **{name: getattr(self.risk, name) for name in RISK_OPTIONS},
                **_settings_to_dict(self.risk.settings),
            },
            "costs": self.costs.to_dict(),
            "account": self.account.to_dict(),
            "instruments": {
                symbol: instrument.model_dump(exclude_none=True)
                for symbol, instrument in self.instruments.items()
            },
            "search": search,
            "validation": self.validation.model_dump(exclude_none=True),
            "workers": self.workers.model_dump(exclude_none=True),
        }

    def approve_cluster(self) -> None:
        """Approve the cluster of ``[workers]`` for good, because the user names it or asks for it."""
        if self.workers.backend in CLUSTERS:
            backend, address = self.workers.backend, self.workers.address
            approve(f"{backend} {address}", cluster_hash(backend, address))

    def override(
        self, *, seed: int | None = None, trials: int | None = None, workers: int | None = None
    ) -> Study:
        """This study with other values; None leaves a value as it is.

        Args:
            seed: the ``seed`` of ``[study]``.
            trials: the number of trials of ``[search]``.
            workers: ``count`` of ``[workers]``.

        Raises:
            StudyFileError: a value is out of bounds.
        """
        content = self._with_secrets()
        overridden = list(self._overridden)
        for table, key, value in (
            ("study", "seed", seed),
            ("search", "trials", trials),
            ("workers", "count", workers),
        ):
            if value is not None:
                content[table][key] = value
                overridden.append(f"{table}.{key}")
        study = make_study(content, self._path, self._base_path, None)
        study._overridden = tuple(dict.fromkeys(overridden))
        return study

    def on(self, path: str | Path, start: str | None, end: str | None) -> Study:
        """This study on other bars; it keeps its file, of which it overrides these keys.

        Args:
            path: the ``path`` of ``[data]``, from the same folder as before.
            start, end: the keys of these names; None leaves a key out.

        Raises:
            StudyFileError: a value is not valid.
        """
        content = self._with_secrets()
        given = {"path": str(path), "start": start, "end": end}
        content["data"] = {
            key: value for key, value in {**content["data"], **given}.items() if value is not None
        }
        study = make_study(content, self._path, self._base_path, None)
        overridden = (*self._overridden, *(f"data.{key}" for key in given))
        study._overridden = tuple(dict.fromkeys(overridden))
        return study

    def with_(self, **tables: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> Study:
        """This study with other values, checked as a study file is.

        >>> import optimizer
        >>> study = optimizer.load_study("study.toml")
        >>> other = study.with_(risk={"kelly_fraction": 0.1}, search={"trials": 8})
        >>> other.search.trials, other.risk.settings["kelly_fraction"]
        (8, 0.1)

        Args:
            **tables: the keys to change by table, such as ``risk={"kelly_fraction": 0.1}``; None sets a
                key to its default. A list replaces all tables ``[[strategy]]`` or ``[[classifier]]``.

        Returns:
            A study without a file of its own: messages call it ``<study>``, and paths count from the
            same folder as before.

        Raises:
            StudyFileError: a rule is broken.
            StrategyError: the file of a user's strategy cannot be used.
        """
        # Not NAMED itself, with which a cluster is approved that a record may have named.
        read = dataclasses.replace(NAMED) if {"strategy", "classifier"} & tables.keys() else None
        content = merged_tables(self._with_secrets(), tables)
        study = make_study(content, None, self._base_path, read)
        if "workers" in tables:
            study.approve_cluster()
        return study

    def _with_secrets(self) -> dict[str, Any]:
        """What ``to_dict`` gives, with what may hold a password."""
        content = self.to_dict()
        if self.search.storage is not None:
            content["search"]["storage"] = self.search.storage
        if self.analytics.url is not None:
            content["analytics"] = {"url": self.analytics.url}
        return content

    def __repr__(self) -> str:
        """The study in a line: its name, strategies and bars."""
        names = " + ".join(table.name for table in self.strategies)
        return f"<Study {self.name}: {names} on {self.data.path}>"

    def called(self, path: Path) -> Study:
        """This study under the name of a file, which messages name.

        Args:
            path: the path of the study file, or of another file that records the study.
        """
        study = self.model_copy()
        study._path = path
        return study

    @model_validator(mode="after")
    def _fits_together(self) -> Study:
        # Frozen from here on; what follows, the hash and the record among them, sees whole names.
        search = self.search.model_copy(update={"constraints": resolved(self)})
        object.__setattr__(self, "search", search)
        refuse_all(cross_checks(self))
        return self


def _settings_to_dict(settings: Mapping[str, Setting]) -> dict[str, object]:
    return {name: setting_to_dict(setting) for name, setting in settings.items()}


def study_from_dict(mapping: Mapping[str, Any], base_path: str | os.PathLike[str] = ".") -> Study:
    """Check a study given as the mapping that its file would be parsed to.

    Runs the files that ``path`` of a strategy or classifier names, as ``load_study`` does. So give it
    what you wrote, not what someone sent you.

    >>> import optimizer
    >>> tables = {"study": {"name": "mine"}, "data": {"path": "bars.parquet"}}
    >>> study = optimizer.study_from_dict({**tables, "strategy": {"name": "momentum"}})
    >>> study.search.objective
    ('sharpe',)

    Args:
        mapping: tables by name; NumPy numbers and tuples count as numbers and lists.
        base_path: the folder to which the path of the bars is relative.

    Returns:
        The study, defaults filled in.

    Raises:
        StudyFileError: a rule is broken. The message calls the study ``<study>``.
        StrategyError: the file of a user's strategy cannot be used.
    """
    return make_study(mapping, None, Path(base_path), NAMED)


def recorded_study(mapping: Mapping[str, Any], base_path: str | os.PathLike[str] = ".") -> Study:
    """Check a study that a folder records. Runs no code, whoever wrote the record.

    Args:
        mapping: the mapping as ``Study.to_dict`` gives it.
        base_path: the folder to which the path of the bars is relative.

    Returns:
        The study, defaults filled in.

    Raises:
        StudyFileError: a rule is broken, or a strategy comes without what its file declares.
    """
    return make_study(mapping, None, Path(base_path), None)


def make_study(
    raw: Mapping[str, Any], path: Path | None, base_path: Path, read: Readers | None
) -> Study:
    """Check a study.

    Args:
        raw: the study file as parsed.
        path: the path of the study file; None if there is no file.
        base_path: the folder to which the path of the bars is relative.
        read: reads the files of the user's own code that is not declared; None refuses such code.

    Returns:
        The study, defaults filled in.

    Raises:
        StudyFileError: names the first mistake, and how many more there are.
        StrategyError: the file of a user's strategy cannot be used.
    """
    source = "<study>" if path is None else str(path)
    if not isinstance(raw, Mapping):
        raise StudyFileError(f"{source}: got {quoted(raw)}; expected a mapping of tables")
    code = UserCode() if read is None else read_user_code(raw, source, base_path, read)
    try:
        study = Study.model_validate(raw, context=code)
    except ValidationError as error:
        raise StudyFileError(f"{source}: {summarize_errors(error, raw)}") from None
    study._path = path
    study._base_path = base_path
    if read is NAMED:  # the user's own words, not a record
        study.approve_cluster()
    return study
