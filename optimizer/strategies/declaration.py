"""What the file of a user's strategy declares, checked."""

from __future__ import annotations

import inspect
import keyword
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import FunctionType
from typing import Any

from numba.core.registry import CPUDispatcher

from kernels import layout
from optimizer.catalogue import CLASSIFIERS, COSTS, METRICS, RISK, SET_COLUMNS, Parameter, column
from optimizer.market.features import FEATURE_NAMES, MAX_LOOKBACK, least_lookback
from optimizer.strategies.built_in import BUILT_IN
from optimizer.strategies.user_file import StrategyFile
from optimizer.text import show

GIVEN_ARGUMENTS = ("close", "volatility", "inverse_volatility")
"""Arguments of ``signal`` that need no declaration."""

BAR_FIELDS = ("open", "high", "low", "close", "volume")
"""Arguments that the function of a feature may have in addition to ``lookback``."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_HASH = re.compile(r"[0-9a-f]{64}")
_MEANT = (*GIVEN_ARGUMENTS, "name", "path")
"""Names that no parameter may have."""

_LONGEST_FUNCTION = 200
"""Longest name of a feature's function, in characters."""

MAX_PARAMETERS = layout.MAX_SIGNAL_PARAMETERS + layout.MAX_USER_FEATURES
"""Most parameters of a strategy: those of its signal, and a lookback for each feature."""

_LARGEST_WHOLE = 2**53
"""The largest whole number up to which a float holds every one."""


@dataclass(frozen=True)
class Declaration:
    """What a user's file declares.

    Attributes:
        name: the name of the strategy; the prefix of its columns.
        path: the path of the file, absolute.
        source_hash: SHA-256 of the file.
        parameters: the parameters with defaults and bounds.
        features: (argument, feature, lookback parameter) in the order of the file; a feature that
            the file defines is named ``<strategy>.<function>``.
        arguments: the arguments of ``signal``, in order.
    """

    name: str
    path: str
    source_hash: str
    parameters: tuple[Parameter, ...]
    features: tuple[tuple[str, str, str], ...]
    arguments: tuple[str, ...]

    @property
    def signal_parameters(self) -> tuple[str, ...]:
        """The parameters that ``signal`` takes, in its order."""
        own = {parameter.name for parameter in self.parameters}
        return tuple(name for name in self.arguments if name in own)

    def to_dict(self) -> dict[str, Any]:
        """The declaration as plain values, from which ``declaration_from_dict`` restores it."""
        return {
            "name": self.name,
            "path": self.path,
            "source_hash": self.source_hash,
            "declared": {
                # A list: the order is that of the columns, and JSON may be written with sorted keys.
                "parameters": [[p.name, p.default, p.low, p.high] for p in self.parameters],
                "features": [list(feature) for feature in self.features],
                "arguments": list(self.arguments),
            },
        }


def declaration_from_dict(content: Mapping[str, Any]) -> Declaration:
    """Restore a declaration from data, which anyone may have written. Runs no code.

    What it returns has the form of what a file can declare. Whether the file does declare it shows
    when the file is run, see ``UserStrategy.provide``.

    Args:
        content: what ``Declaration.to_dict`` returned.

    Returns:
        The declaration, checked.

    Raises:
        ValueError: ``to_dict`` cannot have returned it; says in one line what is wrong.
    """
    name, path, source_hash, declared = (
        _entry(content, key) for key in ("name", "path", "source_hash", "declared")
    )
    _expect(is_name(name), "name", name)
    _expect(isinstance(path, str) and path.isprintable() and path.strip() != "", "path", path)
    known_hash = isinstance(source_hash, str) and _HASH.fullmatch(source_hash) is not None
    _expect(known_hash, "source_hash", source_hash)
    _expect(isinstance(declared, Mapping), "declared", declared)
    parameters = _restored_parameters(name, _rows(declared, "parameters", MAX_PARAMETERS, 4))
    features = _restored_features(
        name, _rows(declared, "features", layout.MAX_USER_FEATURES, 3), parameters
    )
    arguments = _entry(declared, "arguments")
    known = {*features, *parameters, *GIVEN_ARGUMENTS}
    _expect(isinstance(arguments, (list, tuple)), "arguments", arguments)
    _expect(len(arguments) <= len(known), "arguments", arguments)
    for argument in arguments:
        _expect(isinstance(argument, str) and argument in known, "argument", argument)
    _expect(len(set(arguments)) == len(arguments), "arguments", arguments)
    _expect(set(features) <= set(arguments), "features", list(features))
    lookbacks = {lookback for _, lookback in features.values()}
    _expect(set(parameters) <= {*arguments, *lookbacks}, "parameters", list(parameters))
    restored = Declaration(
        name=name,
        path=path,
        source_hash=source_hash,
        parameters=tuple(
            _parameter(key, *values, key in lookbacks) for key, values in parameters.items()
        ),
        features=tuple((key, *pair) for key, pair in features.items()),
        arguments=tuple(arguments),
    )
    taken = restored.signal_parameters
    _expect(len(taken) <= layout.MAX_SIGNAL_PARAMETERS, "parameters", list(taken))
    return restored


def is_name(value: object) -> bool:
    """Whether a value may name a strategy, a parameter or a feature.

    Args:
        value: a value of any kind.
    """
    return (
        isinstance(value, str)
        and _NAME.fullmatch(value) is not None
        and not keyword.iskeyword(value)
    )


def _expect(holds: bool, what: str, value: object) -> None:
    if not holds:
        raise ValueError(f"{what}: got {show(value)}, which no strategy file declares")


def _entry(content: Mapping[str, Any], key: str) -> Any:
    if key not in content:
        raise ValueError(f"{key}: missing")
    return content[key]


def _rows(declared: Mapping[str, Any], key: str, most: int, length: int) -> list[Any]:
    """Rows of one length, at most ``most`` of them."""
    rows = _entry(declared, key)
    _expect(isinstance(rows, (list, tuple)), key, rows)
    if len(rows) > most:
        raise ValueError(f"{key}: got {len(rows):,}; a strategy has {most} at most")
    for row in rows:
        _expect(isinstance(row, (list, tuple)) and len(row) == length, key, row)
    return list(rows)


def _restored_parameters(strategy: str, rows: list[Any]) -> dict[str, tuple[Any, Any, Any]]:
    parameters: dict[str, tuple[Any, Any, Any]] = {}
    for name, *values in rows:
        _expect(is_name(name) and name not in (*parameters, *_MEANT), "parameter", name)
        _expect(column(strategy, name) not in _known_columns(), "parameter", name)
        _expect(all(map(_number, values)), f"parameter {name}", values)
        default, low, high = values
        _expect(low <= default <= high, f"parameter {name}", values)
        parameters[name] = (default, low, high)
    return parameters


def _restored_features(
    strategy: str, rows: list[Any], parameters: Mapping[str, tuple[Any, Any, Any]]
) -> dict[str, tuple[str, str]]:
    features: dict[str, tuple[str, str]] = {}
    for argument, feature, lookback in rows:
        free = is_name(argument) and argument not in (*features, *parameters, *GIVEN_ARGUMENTS)
        _expect(free, "feature", argument)
        _expect(isinstance(feature, str), f"feature {argument}", feature)
        owner, _, function = feature.partition(".")
        # A function of the file may have any name that Python allows.
        own = owner == strategy and function.isidentifier() and len(function) <= _LONGEST_FUNCTION
        built_in = feature in FEATURE_NAMES and feature != "close"
        _expect(own or built_in, f"feature {argument}", feature)
        _expect(isinstance(lookback, str) and lookback in parameters, "lookback", lookback)
        values = parameters[lookback]
        least = least_lookback(feature) if built_in else 1
        bounded = least <= values[1] and values[2] <= MAX_LOOKBACK
        whole = all(isinstance(one, int) for one in values)
        _expect(whole and bounded, f"lookback {lookback}", list(values))
        features[argument] = (feature, lookback)
    return features


def _parameter(name: str, default: Any, low: Any, high: Any, lookback: bool) -> Parameter:
    kind = int if all(isinstance(v, int) for v in (default, low, high)) else float
    return Parameter(
        name,
        kind,
        default,
        low,
        high,
        "feature" if lookback else "signal",
        "of the user's strategy",
    )


def _table(source: StrategyFile, variable: str) -> dict[str, Any]:
    table = getattr(source.module, variable, None)
    if table is None and variable == "PARAMETERS":
        return {}
    if not isinstance(table, dict) or not all(isinstance(key, str) for key in table):
        form = {
            "PARAMETERS": '{"lookback": (60, 2, 500)}: default, lowest, highest',
            "FEATURES": '{"momentum": ("momentum", "lookback")}: feature, lookback',
        }[variable]
        source.refuse(source.line_of_key(variable), f"{variable}: expected a dict such as {form}")
    for key in table:
        if not is_name(key):
            source.refuse(
                source.line_of_key(variable, key),
                f"{variable}: got {key!r}; use only small letters, digits and _"
                + (", and no word of Python" if keyword.iskeyword(key) else ""),
            )
    return table


def _arguments(source: StrategyFile) -> tuple[str, ...]:
    signal = getattr(source.module, "signal", None)
    signal = signal.py_func if isinstance(signal, CPUDispatcher) else signal
    if not isinstance(signal, FunctionType) or "signal" not in source.functions:
        line = 1 if signal is None else source.line_of_key("signal")
        source.refuse(line, "no function signal(features..., parameters...) is defined here")
    line = source.functions["signal"].lineno
    for one in inspect.signature(signal).parameters.values():
        if one.kind is not one.POSITIONAL_OR_KEYWORD or one.default is not one.empty:
            source.refuse(line, f"signal: argument {one.name}: no *, ** or default values")
    return tuple(inspect.signature(signal).parameters)


def read_declaration(source: StrategyFile, name: str) -> Declaration:
    """What the file declares, checked.

    Args:
        source: the file, run already.
        name: the name of the strategy, which the study file gives.

    Raises:
        StrategyError: names the file, the line, the value and the fix.
    """
    parameters = _parameters(source, name)
    features = _features(source, name, parameters)
    arguments = _arguments(source)
    line = source.functions["signal"].lineno
    known = (*features, *parameters, *GIVEN_ARGUMENTS)
    for argument in arguments:
        if argument not in known:
            source.refuse(
                line,
                f"signal: unknown argument {argument}; valid: {', '.join(known)}; declare it in"
                " FEATURES or PARAMETERS",
            )
    for argument in features:
        if argument not in arguments:
            source.refuse(
                source.line_of_key("FEATURES", argument),
                f"FEATURES: signal does not take {argument}",
            )
    lookbacks = {lookback for _, lookback in features.values()}
    for argument in parameters:
        if argument not in arguments and argument not in lookbacks:
            source.refuse(
                source.line_of_key("PARAMETERS", argument),
                f"PARAMETERS: {argument} is neither a lookback nor an argument of signal",
            )
    declared = Declaration(
        name=name,
        path=str(source.path),
        source_hash=source.hash,
        parameters=tuple(
            _parameter(key, *values, key in lookbacks) for key, values in parameters.items()
        ),
        features=tuple((key, *pair) for key, pair in features.items()),
        arguments=arguments,
    )
    for what, most, count in (
        ("features", layout.MAX_USER_FEATURES, len(declared.features)),
        ("parameters", layout.MAX_SIGNAL_PARAMETERS, len(declared.signal_parameters)),
    ):
        if count > most:
            source.refuse(line, f"signal: takes {count} {what}; {most} is the most")
    return declared


def _parameters(source: StrategyFile, strategy: str) -> dict[str, tuple[Any, Any, Any]]:
    known = _known_columns()
    table = _table(source, "PARAMETERS")
    for name, values in table.items():
        line = source.line_of_key("PARAMETERS", name)
        if not isinstance(values, tuple) or len(values) != 3 or not all(map(_number, values)):
            source.refuse(
                line,
                f"PARAMETERS: {name}: got {values!r}; expected (default, lowest, highest)",
            )
        default, low, high = values
        if not low <= default <= high:
            source.refuse(
                line,
                f"PARAMETERS: {name}: default {default} is not within {low} to {high}; the"
                " order is (default, lowest, highest)",
            )
        if name in _MEANT:
            source.refuse(line, f"PARAMETERS: {name} already has a meaning; give another name")
        if column(strategy, name) in known:
            source.refuse(
                line,
                f"PARAMETERS: {name}: the column {column(strategy, name)} is built in; give"
                " the parameter or the strategy another name",
            )
    return table


@cache
def _known_columns() -> frozenset[str]:
    """Columns of the results that are not a user's parameters."""
    return frozenset(
        {
            *(column("risk", p.name) for p in RISK),
            *(column("costs", p.name) for p in COSTS),
            *(column(c, p.name) for c, own in CLASSIFIERS.items() for p in own),
            *(name for one in BUILT_IN.values() for name in one.columns),
            *METRICS,
            *(f"oos_{metric}" for metric in METRICS),
            *SET_COLUMNS,
        }
    )


def _features(
    source: StrategyFile, strategy: str, parameters: Mapping[str, tuple[Any, Any, Any]]
) -> dict[str, tuple[str, str]]:
    features = {}
    built_in = [name for name in FEATURE_NAMES if name != "close"]
    for name, value in _table(source, "FEATURES").items():
        line = source.line_of_key("FEATURES", name)
        if not isinstance(value, tuple) or len(value) != 2 or not isinstance(value[1], str):
            source.refuse(
                line,
                f"FEATURES: {name}: got {value!r}; expected (feature, its lookback parameter)",
            )
        if name in GIVEN_ARGUMENTS or name in parameters:
            source.refuse(line, f"FEATURES: {name} already has a meaning; give another name")
        feature, lookback = value
        if lookback not in parameters:
            source.refuse(
                line,
                f"FEATURES: {name}: lookback {lookback!r} is not in PARAMETERS;"
                f" valid: {', '.join(parameters)}",
            )
        least = 1
        if isinstance(feature, FunctionType):
            _check_feature(source, feature, line)
            feature = f"{strategy}.{feature.__name__}"
        elif feature in built_in:
            least = least_lookback(feature)
        else:
            source.refuse(
                line,
                f"FEATURES: {name}: unknown feature {feature!r}; valid: {', '.join(built_in)},"
                " or a function of this file",
            )
        _, low, high = parameters[lookback]
        whole = all(isinstance(one, int) for one in parameters[lookback])
        if not whole or low < least or high > MAX_LOOKBACK:
            source.refuse(
                source.line_of_key("PARAMETERS", lookback),
                f"PARAMETERS: {lookback} is the lookback of {name}: expected whole numbers from"
                f" {least} to {MAX_LOOKBACK}",
            )
        features[name] = (feature, lookback)
    return features


def _check_feature(source: StrategyFile, function: FunctionType, line: int) -> None:
    if function.__module__ != source.module.__name__ or function.__name__ not in source.functions:
        source.refuse(line, f"FEATURES: {function.__name__}: define it in this file, with def")
    line = function.__code__.co_firstlineno
    for one in inspect.signature(function).parameters.values():
        if one.name not in (*BAR_FIELDS, "lookback") or one.kind is not (one.POSITIONAL_OR_KEYWORD):
            source.refuse(
                line,
                f"feature {function.__name__}: unknown argument {one.name}; valid:"
                f" {', '.join(BAR_FIELDS)}, lookback",
            )


def _number(value: object) -> bool:
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) <= _LARGEST_WHOLE
    return isinstance(value, float) and math.isfinite(value)
