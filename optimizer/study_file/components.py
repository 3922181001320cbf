"""The strategy, classifier and risk tables of a study file."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, InstanceOf, ValidationError, ValidationInfo, model_validator

from kernels.codes import ALLOCATIONS, ENTRIES, SIZINGS, Allocation, Entry, Sizing
from optimizer.catalogue import CLASSIFIERS, RISK, UNPREFIXED, Parameter
from optimizer.errors import StrategyError
from optimizer.market.regimes import parameters_of
from optimizer.market.talib_features import TALIB
from optimizer.strategies.built_in import BUILT_IN
from optimizer.strategies.combined import RULES, SHARE
from optimizer.strategies.declaration import is_name
from optimizer.strategies.strategy import Strategy
from optimizer.strategies.user import UserStrategy, read_recorded_strategy, read_strategy
from optimizer.strategies.user_classifier import (
    UserClassifier,
    read_classifier,
    read_recorded_classifier,
)
from optimizer.study_file.settings import Setting, read_settings
from optimizer.study_file.tables import Table, name_of, read_flag
from optimizer.study_file.values import expect_table, listed, named, refuse_all, table_label
from optimizer.text import path_text, quoted, suggest


def _read_component_name(raw: Mapping[str, object], valid: Sequence[str]) -> str:
    """Name of a strategy or classifier."""
    if "name" not in raw:
        refuse_all([(("name",), f"missing; valid: {', '.join(valid)}")])
    name = raw["name"]
    if not isinstance(name, str) or name not in valid:
        refuse_all([(("name",), f"got {quoted(name)}; {suggest(str(name), valid)}")])
    return str(name)


class StrategyTable(Table):
    """``[strategy]``: a strategy and the settings of all its parameters.

    Attributes:
        strategy: built in, or read from the user's file.
        settings: the setting of each of its parameters, by name; its ``share`` where that is given.
    """

    strategy: InstanceOf[Strategy]
    settings: dict[str, Setting]

    @property
    def name(self) -> str:
        """Name of the strategy."""
        return self.strategy.name

    @model_validator(mode="before")
    @classmethod
    def _read(cls, raw: object, info: ValidationInfo) -> object:
        table = expect_table(raw)
        if "path" not in table:
            strategy: Strategy = _read_built_in(table)
            return {"strategy": strategy, "settings": _own_settings(table, strategy, ("name",))}
        name = _read_user_name(table)
        known: UserCode = info.context or UserCode()
        strategy, table = _of_file(table, name, UserStrategy.from_dict, known.strategies)
        settings = _own_settings(table, strategy, ("name", "path"))
        return {"strategy": strategy, "settings": settings}


def _own_settings(
    table: Mapping[str, object], strategy: Strategy, others: Sequence[str]
) -> dict[str, Setting]:
    """Settings of a strategy's parameters, and of its share where the table gives one."""
    known = (*strategy.parameters, *([SHARE] if SHARE.name in table else []))
    # A parameter of that name is the strategy's own.
    return read_settings(
        table, list({one.name: one for one in reversed(known)}.values())[::-1], others
    )


class CombinationTable(Table):
    """``[strategies]``: what the study does with several strategies.

    Attributes:
        combine: ``choose`` tries each by itself; ``together`` has all of them in one account.
        rule: how their signals become one, where they are together.
    """

    combine: Annotated[Literal["choose", "together"], name_of("choose", "together")] = "choose"
    rule: Annotated[Literal["vote", "sum", "first"], name_of(*RULES)] | None = None

    @property
    def together(self) -> bool:
        """Whether all strategies share one account."""
        return self.combine == "together"


def _read_built_in(table: Mapping[str, object]) -> Strategy:
    name = table.get("name")
    if isinstance(name, str) and name not in BUILT_IN:
        message = f"got {quoted(name)}; {suggest(name, list(BUILT_IN))}; one of your own"
        refuse_all([(("name",), f'{message} also takes path = "{name}.py"')])
    return BUILT_IN[_read_component_name(table, tuple(BUILT_IN))]


def _read_user_name(table: Mapping[str, object], what: str = "strategy") -> str:
    """Name of a user's strategy or classifier, which becomes the prefix of its columns."""
    path, name = table["path"], table.get("name")
    if not isinstance(path, str) or not path.strip():
        refuse_all([(("path",), f'got {quoted(path)}; expected a file such as "my_{what}.py"')])
    if name is None:
        refuse_all([(("name",), f'missing; add name = "my_{what}", which names its columns')])
    taken = (*BUILT_IN, *CLASSIFIERS, *UNPREFIXED, TALIB)
    if name in taken:
        refuse_all([(("name",), f"got {quoted(name)}, the name of a built-in; choose another")])
    if not is_name(name):
        message = (
            f"got {quoted(name)}; expected small letters, digits and _, starting with a letter, and no"
            " word of Python"
        )
        refuse_all([(("name",), message)])
    return str(name)


StrategyReader = Callable[[Path, str], UserStrategy]
"""Reads the strategy of a name from its file."""

ClassifierReader = Callable[[Path, str], UserClassifier]
"""Reads the classifier of a name from its file."""

_Read = TypeVar("_Read", UserStrategy, UserClassifier)


@dataclass(frozen=True)
class Readers:
    """How the files of a user's own code are read.

    Attributes:
        strategy: reads the file of a strategy.
        classifier: reads that of a classifier.
    """

    strategy: StrategyReader
    classifier: ClassifierReader


NAMED = Readers(read_strategy, read_classifier)
"""For files that the user names, who approves them by that."""

RECORDED = Readers(read_recorded_strategy, read_recorded_classifier)
"""For files that recorded data names; runs only what is approved."""


@dataclass(frozen=True)
class UserCode:
    """What the user's files hold, by the path that the study file has and the name.

    Attributes:
        strategies, classifiers: those that a study file names.
    """

    strategies: Mapping[tuple[str, str], UserStrategy] = field(default_factory=dict)
    classifiers: Mapping[tuple[str, str], UserClassifier] = field(default_factory=dict)


def read_user_code(
    raw: Mapping[str, Any], source: str, base_path: Path, readers: Readers
) -> UserCode:
    """Everything of the user's own that a study file names, except what it declares itself.

    Args:
        raw: the study file as parsed.
        source: what messages call the study.
        base_path: the folder from which the paths of their files count.
        readers: read each of them, and may run its file.

    Returns:
        Strategies and classifiers.

    Raises:
        StrategyError: a file cannot be used; names the place in it.
    """

    def found(what: str, read: Callable[[Path, str], _Read]) -> dict[tuple[str, str], _Read]:
        given, known = raw.get(what, ()), {}
        tables = given if isinstance(given, (list, tuple)) else [given]
        for number, table in enumerate(tables):
            if isinstance(table, Mapping) and "path" in table and "declared" not in table:
                try:
                    name = _read_user_name(table, what)
                except ValidationError:
                    continue  # refused when the study is read
                path = base_path / table["path"]
                if not os.path.lexists(path):
                    raise StrategyError(
                        f"{source}: {table_label(what, number, len(tables))} path ="
                        f" {quoted(table['path'])}: no such file: {path_text(path)}; it is relative"
                        " to the study file's folder"
                    )
                known[str(table["path"]), name] = read(path, name)
        return known

    return UserCode(found("strategy", readers.strategy), found("classifier", readers.classifier))


def _of_file(
    table: Mapping[str, Any],
    name: str,
    restored: Callable[[Mapping[str, Any]], _Read],
    known: Mapping[tuple[str, str], _Read],
) -> tuple[_Read, dict[str, Any]]:
    """What a table names of a user's file, as it declares it or as it was read, and the other keys."""
    if "declared" not in table:
        key = (str(table["path"]), name)
        if key not in known:
            refuse_all([(("declared",), "missing; it is not as barsweep wrote it")])
        return known[key], dict(table)
    try:
        own = restored(table)
    except ValueError as error:
        refuse_all([(("declared",), f"not as barsweep wrote it: {error}")])
    return own, {key: table[key] for key in table if key not in ("declared", "source_hash")}


class ClassifierTable(Table):
    """``[classifier]``: a regime classifier and the settings of all its parameters.

    Attributes:
        name: the name of the classifier.
        market: the symbol whose regime it is; None is the equal-weighted index of all symbols.
        settings: the setting of each of its parameters, by name.
        own: the classifier, where it is the user's own; else None.
    """

    name: str
    market: Annotated[str, BeforeValidator(named)] | None = None
    settings: dict[str, Setting]
    own: InstanceOf[UserClassifier] | None = None

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Its parameters, in the order of the result columns."""
        return parameters_of(self.own or self.name)

    @model_validator(mode="before")
    @classmethod
    def _read(cls, raw: object, info: ValidationInfo) -> object:
        table = expect_table(raw)
        if "path" in table:
            return _own_classifier(table, info.context or UserCode())
        name = table.get("name")
        if isinstance(name, str) and name not in CLASSIFIERS:
            message = f"got {quoted(name)}; {suggest(name, list(CLASSIFIERS))}; one of your own"
            refuse_all([(("name",), f'{message} also takes path = "{name}.py"')])
        name = _read_component_name(table, tuple(CLASSIFIERS))
        others = ("name",) if name == "none" else ("name", "market")
        settings = read_settings(table, CLASSIFIERS[name], others)
        return {"name": name, "market": table.get("market"), "settings": settings}


def _own_classifier(table: Mapping[str, object], known: UserCode) -> dict[str, object]:
    """What the table of a user's classifier says."""
    name = _read_user_name(table, "classifier")
    own, table = _of_file(table, name, UserClassifier.from_dict, known.classifiers)
    settings = read_settings(table, own.parameters, ("name", "path", "market"))
    return {"name": name, "market": table.get("market"), "settings": settings, "own": own}


RISK_OPTIONS = ("allow_short", "sizing", "allocation", "entry", "session_exit")
"""Keys of ``[risk]`` that are no parameter and hold for the whole study."""


class RiskTable(Table):
    """``[risk]``: the settings of all risk parameters.

    Attributes:
        allow_short: whether a direction of -1 opens a short position.
        sizing: what a signal's size is measured by; holds for the whole study.
        allocation: how the targets of one close share the exposure budget; holds for the whole study.
        entry: whether additions fill at the open or wait at a price; holds for the whole study.
        session_exit: whether positions are closed before the end of each session.
        settings: the setting of each risk parameter, by name.
    """

    allow_short: Annotated[bool, BeforeValidator(read_flag)] = False
    sizing: Annotated[Sizing, name_of(*SIZINGS)] = "kelly"
    allocation: Annotated[Allocation, name_of(*ALLOCATIONS)] = "additions"
    entry: Annotated[Entry, name_of(*ENTRIES)] = "market"
    session_exit: Annotated[bool, BeforeValidator(read_flag)] = False
    settings: dict[str, Setting]

    @model_validator(mode="before")
    @classmethod
    def _read(cls, raw: object) -> object:
        table = expect_table(raw)
        given = {name: table[name] for name in RISK_OPTIONS if name in table}
        return {**given, "settings": read_settings(table, RISK, RISK_OPTIONS)}


def read_tables(value: object) -> list[object]:
    """One table or a list of tables, as a list.

    Args:
        value: the value that the study file gives.

    Raises:
        PydanticCustomError: ``value`` is something else.
    """
    if isinstance(value, (list, tuple)):
        return listed(value)
    return [expect_table(value)]
