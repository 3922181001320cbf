"""A declaration restored from data, which anyone may have written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from kernels import layout
from optimizer.catalogue import column
from optimizer.errors import StrategyError
from optimizer.market.feature_keys import read_name
from optimizer.market.talib_features import TALIB
from optimizer.strategies.declaration import (
    GIVEN_ARGUMENTS,
    MEANT,
    Declaration,
    feature_problem,
    is_finite_number,
    is_name,
    known_columns,
    own_parameter,
    taken_by,
)
from optimizer.strategies.strategy import FeatureUse
from optimizer.text import quoted

_HASH = re.compile(r"[0-9a-f]{64}")

_LONGEST_FUNCTION = 200
"""Longest name of a feature's function, in characters."""

_MOST_OF_FEATURE = 8
"""Most parameters of one feature."""

MAX_PARAMETERS = layout.MAX_SIGNAL_PARAMETERS + _MOST_OF_FEATURE * layout.MAX_USER_FEATURES
"""Most parameters of a strategy: those of its signal, and those of each feature."""


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
    _expect(is_name(name) and name != TALIB, "name", name)
    _expect(isinstance(path, str) and path.isprintable() and path.strip() != "", "path", path)
    known_hash = isinstance(source_hash, str) and _HASH.fullmatch(source_hash) is not None
    _expect(known_hash, "source_hash", source_hash)
    _expect(isinstance(declared, Mapping), "declared", declared)
    parameters = _restored_parameters(name, _rows(declared, "parameters", MAX_PARAMETERS, 4, 4))
    features = _restored_features(
        name,
        _rows(declared, "features", layout.MAX_USER_FEATURES, 2, 2 + _MOST_OF_FEATURE),
        parameters,
    )
    arguments = _entry(declared, "arguments")
    known = {*features, *parameters, *GIVEN_ARGUMENTS}
    _expect(isinstance(arguments, (list, tuple)), "arguments", arguments)
    _expect(len(arguments) <= len(known), "arguments", arguments)
    for argument in arguments:
        _expect(isinstance(argument, str) and argument in known, "argument", argument)
    _expect(len(set(arguments)) == len(arguments), "arguments", arguments)
    _expect(set(features) <= set(arguments), "features", list(features))
    taken_by_features = taken_by(features)
    _expect(set(parameters) <= {*arguments, *taken_by_features}, "parameters", list(parameters))
    restored = Declaration(
        name=name,
        path=path,
        source_hash=source_hash,
        parameters=tuple(
            own_parameter(key, *values, key in taken_by_features)
            for key, values in parameters.items()
        ),
        features=tuple(features.items()),
        arguments=tuple(arguments),
    )
    _expect(restored.n_columns <= layout.MAX_USER_FEATURES, "arguments", list(arguments))
    taken = restored.signal_parameters
    _expect(len(taken) <= layout.MAX_SIGNAL_PARAMETERS, "parameters", list(taken))
    return restored


def _expect(holds: bool, what: str, value: object) -> None:
    if not holds:
        raise ValueError(f"{what}: got {quoted(value)}, which no strategy file declares")


def _entry(content: Mapping[str, Any], key: str) -> Any:
    if key not in content:
        raise ValueError(f"{key}: missing")
    return content[key]


def _rows(
    declared: Mapping[str, Any], key: str, most: int, least_length: int, length: int
) -> list[Any]:
    """Rows of ``least_length`` to ``length`` entries, at most ``most`` of them."""
    rows = _entry(declared, key)
    _expect(isinstance(rows, (list, tuple)), key, rows)
    if len(rows) > most:
        raise ValueError(f"{key}: got {len(rows):,}; a strategy has at most {most}")
    for row in rows:
        right = isinstance(row, (list, tuple)) and least_length <= len(row) <= length
        _expect(right, key, row)
    return list(rows)


def _restored_parameters(strategy: str, rows: list[Any]) -> dict[str, tuple[Any, Any, Any]]:
    parameters: dict[str, tuple[Any, Any, Any]] = {}
    for name, *values in rows:
        _expect(is_name(name) and name not in (*parameters, *MEANT), "parameter", name)
        _expect(column(strategy, name) not in known_columns(), "parameter", name)
        _expect(all(map(is_finite_number, values)), f"parameter {name}", values)
        default, low, high = values
        _expect(low <= default <= high, f"parameter {name}", values)
        parameters[name] = (default, low, high)
    return parameters


def _own_feature(text: str) -> str:
    """The feature of one symbol, or the function, that a name says; empty if it is none."""
    try:
        return read_name(text).feature
    except StrategyError:
        return ""


def _restored_features(
    strategy: str, rows: list[Any], parameters: Mapping[str, tuple[Any, Any, Any]]
) -> dict[str, FeatureUse]:
    features: dict[str, FeatureUse] = {}
    for argument, feature, *given in rows:
        free = is_name(argument) and argument not in (*features, *parameters, *GIVEN_ARGUMENTS)
        _expect(free, "feature", argument)
        _expect(isinstance(feature, str), f"feature {argument}", feature)
        for one in given:
            _expect(isinstance(one, str) or is_finite_number(one), f"feature {argument}", one)
        owner, _, function = _own_feature(feature).partition(".")
        # A function of the file may have any name that Python allows.
        function = function.replace(".", "", 1) if owner == TALIB else function
        own = owner in (strategy, TALIB) and function.isidentifier()
        own = own and len(function) <= _LONGEST_FUNCTION
        use = (feature, *given)
        _expect(feature_problem(argument, use, parameters, own) is None, f"feature {argument}", use)
        features[argument] = use
    return features
