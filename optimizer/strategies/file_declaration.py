"""What the file of a user's strategy declares, checked."""

from __future__ import annotations

import inspect
import keyword
from collections.abc import Mapping
from types import FunctionType
from typing import Any

from numba.core.registry import CPUDispatcher

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
from optimizer.strategies.user_file import StrategyFile

BAR_FIELDS = ("open", "high", "low", "close", "volume")
"""Arguments that the function of a feature may have in addition to ``lookback``."""


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
            own_parameter(key, *values, key in lookbacks) for key, values in parameters.items()
        ),
        features=tuple((key, *pair) for key, pair in features.items()),
        arguments=arguments,
    )
    for what, most, count in (
        ("features", layout.MAX_USER_FEATURES, len(declared.features)),
        ("parameters", layout.MAX_SIGNAL_PARAMETERS, len(declared.signal_parameters)),
    ):
        if count > most:
            source.refuse(line, f"signal: takes {count} {what}; it may take at most {most}")
    return declared


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


def _parameters(source: StrategyFile, strategy: str) -> dict[str, tuple[Any, Any, Any]]:
    known = known_columns()
    table = _table(source, "PARAMETERS")
    for name, values in table.items():
        line = source.line_of_key("PARAMETERS", name)
        if (
            not isinstance(values, tuple)
            or len(values) != 3
            or not all(map(is_finite_number, values))
        ):
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
        if name in MEANT:
            source.refuse(line, f"PARAMETERS: {name} already has a meaning; give another name")
        if column(strategy, name) in known:
            source.refuse(
                line,
                f"PARAMETERS: {name}: the column {column(strategy, name)} is built in; give"
                " the parameter or the strategy another name",
            )
    return table


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
