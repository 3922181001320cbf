"""The strategy, classifier and risk tables of a study file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, ValidationError, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError

from optimizer.catalogue import CLASSIFIERS, RISK, STRATEGIES, Parameter
from optimizer.strategies.user import read_custom
from optimizer.strategies.user_file import CustomStrategy, custom_from_dict
from optimizer.study_file.settings import Setting, read_setting
from optimizer.study_file.tables import Table, read_flag
from optimizer.study_file.values import Problem, filled_text, listed, one_of, refusal, refuse_all
from optimizer.text import mend, show


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


class Strategy(Table):
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


def read_customs(raw: Mapping[str, Any], base_path: Path) -> dict[tuple[str, str], CustomStrategy]:
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


class Classifier(Table):
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


class Risk(Table):
    """``[risk]``: the settings of all risk parameters.

    Attributes:
        allow_short: whether a direction of -1 opens a short position.
    """

    allow_short: Annotated[bool, BeforeValidator(read_flag)] = False
    parameters: dict[str, Setting]

    @model_validator(mode="before")
    @classmethod
    def _read(cls, raw: object) -> object:
        table = _expect_table(raw)
        settings = _read_parameters(table, RISK, ("allow_short",))
        return {"allow_short": table.get("allow_short", False), "parameters": settings}


def read_tables(value: object) -> list[object]:
    """One table or a list of tables, as a list."""
    if isinstance(value, (list, tuple)):
        return listed(value)
    return [_expect_table(value)]
