"""What the file of a user's strategy declares, checked."""

from __future__ import annotations

import inspect
import keyword
from collections.abc import Mapping
from types import FunctionType
from typing import Any

from kernels import layout
from optimizer.catalogue import column
from optimizer.errors import StrategyError
from optimizer.market.feature_keys import ACROSS, BAR_FIELDS, FEATURE_NAMES, PANEL
from optimizer.market.panel import PANEL_FIELDS
from optimizer.market.talib_features import TALIB, talib_warm_up
from optimizer.strategies.chosen import ChosenFeature
from optimizer.strategies.declaration import (
    GIVEN_ARGUMENTS,
    MEANT,
    Declaration,
    feature_problem,
    is_name,
    known_columns,
    own_parameter,
    taken_by,
    values_problem,
)
from optimizer.strategies.strategy import FeatureUse
from optimizer.strategies.user_file import StrategyFile


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
    taken = taken_by(features)
    for argument in parameters:
        if argument not in arguments and argument not in taken:
            source.refuse(
                source.line_of_key("PARAMETERS", argument),
                f"PARAMETERS: {argument} is neither taken by a feature nor an argument of signal",
            )
    declared = Declaration(
        name=name,
        path=str(source.path),
        source_hash=source.hash,
        parameters=tuple(
            own_parameter(key, *values, key in taken) for key, values in parameters.items()
        ),
        features=tuple(features.items()),
        arguments=arguments,
    )
    read = "features and probabilities" if declared.regime_values else "features"
    for what, most, count in (
        (read, layout.MAX_USER_FEATURES, declared.n_columns),
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
            "FEATURES": '{"momentum": ("momentum", "lookback")}: feature, its parameters',
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
    if source.function("signal") is None:
        source.refuse(
            source.line_of_key("signal"),
            "no function signal(features..., parameters...) is defined here",
        )
    return source.arguments("signal")


def _parameters(source: StrategyFile, strategy: str) -> dict[str, tuple[Any, Any, Any]]:
    known = known_columns()
    table = _table(source, "PARAMETERS")
    for name, values in table.items():
        line = source.line_of_key("PARAMETERS", name)
        problem = values_problem(name, values)
        if problem:
            source.refuse(line, f"PARAMETERS: {problem}")
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
) -> dict[str, FeatureUse]:
    features: dict[str, FeatureUse] = {}
    for name, value in _table(source, "FEATURES").items():
        line = source.line_of_key("FEATURES", name)
        if not isinstance(value, tuple) or not value:
            source.refuse(
                line,
                f"FEATURES: {name}: got {getattr(value, '__name__', repr(value))}; expected (feature, its"
                " parameters...)",
            )
        if name in GIVEN_ARGUMENTS or name in parameters:
            source.refuse(line, f"FEATURES: {name} already has a meaning; give another name")
        chosen, *given = value
        chosen = chosen if isinstance(chosen, ChosenFeature) else ChosenFeature(chosen)
        own = isinstance(chosen.feature, FunctionType)
        if not own and not isinstance(chosen.feature, str):
            source.refuse(
                line,
                f"FEATURES: {name}: unknown feature {chosen.feature!r}; valid:"
                f' {", ".join(FEATURE_NAMES)}, a function of this file, or of TA-Lib ("talib.ADX")',
            )
        if isinstance(chosen.feature, FunctionType):
            _check_feature(source, chosen.feature, chosen.across, given, line)
        feature = chosen.name(strategy)
        of_talib = isinstance(chosen.feature, str) and chosen.feature.startswith(f"{TALIB}.")
        problem = feature_problem(name, (feature, *given), parameters, own or of_talib)
        if problem is not None:
            table, key, message = problem
            source.refuse(
                source.line_of_key(table, key),
                f"{table}: {key} {message}"
                if table == "PARAMETERS"
                else f"{table}: {key}: {message}",
            )
        if of_talib:
            n_own = len(given) - len(ACROSS.get(chosen.across or "", ()))
            _check_talib(source, name, (str(chosen.feature), *given[:n_own]), parameters)
        features[name] = (feature, *given)
    return features


def _check_talib(
    source: StrategyFile,
    argument: str,
    use: FeatureUse,
    parameters: Mapping[str, tuple[Any, Any, Any]],
) -> None:
    """Refuse what TA-Lib does not have, or values that it does not take."""
    text, *given = use
    for which in range(3):
        values = tuple(parameters[one][which] if isinstance(one, str) else one for one in given)
        try:
            talib_warm_up(text, values)
        except StrategyError as error:
            source.refuse(
                source.line_of_key("FEATURES", argument), f"FEATURES: {argument}: {error}"
            )


def _check_feature(
    source: StrategyFile, function: FunctionType, across: str | None, given: list[Any], line: int
) -> None:
    fields = PANEL_FIELDS if across == PANEL else BAR_FIELDS
    given = given[: len(given) - len(ACROSS.get(across or "", ()))]
    if function.__module__ != source.module.__name__ or function.__name__ not in source.functions:
        source.refuse(line, f"FEATURES: {function.__name__}: define it in this file, with def")
    line = function.__code__.co_firstlineno
    arguments = inspect.signature(function).parameters.values()
    for one in arguments:
        if one.kind is not one.POSITIONAL_OR_KEYWORD:
            source.refuse(line, f"feature {function.__name__}: argument {one.name}: no * or **")
    own = [one.name for one in arguments if one.name not in fields]
    if own and len(own) != len(given):
        source.refuse(
            line,
            f"feature {function.__name__}: takes {', '.join(own)}, and FEATURES gives"
            f" {len(given)} parameters; valid: {', '.join(fields)}, and one argument for each"
            " parameter, in its order",
        )
