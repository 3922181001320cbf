"""A declaration restored from data, which anyone may have written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from kernels import layout
from optimizer.catalogue import column
from optimizer.market.features import FEATURE_NAMES, MAX_LOOKBACK, least_lookback
from optimizer.strategies.declaration import (
    GIVEN_ARGUMENTS,
    MEANT,
    Declaration,
    is_finite_number,
    is_name,
    known_columns,
    own_parameter,
)
from optimizer.text import quoted

_HASH = re.compile(r"[0-9a-f]{64}")

_LONGEST_FUNCTION = 200
"""Longest name of a feature's function, in characters."""

MAX_PARAMETERS = layout.MAX_SIGNAL_PARAMETERS + layout.MAX_USER_FEATURES
"""Most parameters of a strategy: those of its signal, and a lookback for each feature."""


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
            own_parameter(key, *values, key in lookbacks) for key, values in parameters.items()
        ),
        features=tuple((key, *pair) for key, pair in features.items()),
        arguments=tuple(arguments),
    )
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


def _rows(declared: Mapping[str, Any], key: str, most: int, length: int) -> list[Any]:
    """Rows of one length, at most ``most`` of them."""
    rows = _entry(declared, key)
    _expect(isinstance(rows, (list, tuple)), key, rows)
    if len(rows) > most:
        raise ValueError(f"{key}: got {len(rows):,}; a strategy has at most {most}")
    for row in rows:
        _expect(isinstance(row, (list, tuple)) and len(row) == length, key, row)
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
