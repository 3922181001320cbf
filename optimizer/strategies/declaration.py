"""What a user's strategy declares: its parameters, its features, its arguments."""

from __future__ import annotations

import keyword
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from optimizer.catalogue import CLASSIFIERS, COSTS, METRICS, RISK, SET_COLUMNS, Parameter, column
from optimizer.errors import StrategyError
from optimizer.market.feature_keys import ACROSS, feature_parameters, read_name
from optimizer.market.feature_table import MAX_LOOKBACK
from optimizer.strategies.built_in import BUILT_IN
from optimizer.strategies.position_values import POSITION_VALUES
from optimizer.strategies.regime_values import REGIME_VALUES
from optimizer.strategies.strategy import FeatureUse

BAR_ARGUMENTS = ("close", "volatility", "inverse_volatility")
"""Arguments of ``signal`` that every compiled signal gets."""

GIVEN_ARGUMENTS = (*BAR_ARGUMENTS, *POSITION_VALUES, *REGIME_VALUES)
"""Arguments of ``signal`` that need no declaration."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")

MEANT = (*GIVEN_ARGUMENTS, "name", "path")
"""Names that no parameter may have."""

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
        features: the argument of ``signal`` and what it is, in the order of the file; a feature that
            the file defines is named ``<strategy>.<function>``.
        arguments: the arguments of ``signal``, in order.
    """

    name: str
    path: str
    source_hash: str
    parameters: tuple[Parameter, ...]
    features: tuple[tuple[str, FeatureUse], ...]
    arguments: tuple[str, ...]

    @property
    def signal_parameters(self) -> tuple[str, ...]:
        """The parameters that ``signal`` takes, in its order."""
        own = {parameter.name for parameter in self.parameters}
        return tuple(name for name in self.arguments if name in own)

    @property
    def regime_values(self) -> tuple[str, ...]:
        """What ``signal`` takes of the regime, in the order of ``REGIME_VALUES``."""
        return tuple(name for name in REGIME_VALUES if name in self.arguments)

    @property
    def n_columns(self) -> int:
        """Number of the columns that ``signal`` reads: its features, and what it takes of the regime."""
        return len(self.features) + len(self.regime_values)

    @property
    def position_values(self) -> tuple[str, ...]:
        """What ``signal`` takes of the position, in the order of ``POSITION_VALUES``."""
        return tuple(name for name in POSITION_VALUES if name in self.arguments)

    def to_dict(self) -> dict[str, Any]:
        """The declaration as plain values, from which ``declaration_from_dict`` restores it."""
        return {
            "name": self.name,
            "path": self.path,
            "source_hash": self.source_hash,
            "declared": {
                # A list: the order is that of the columns, and JSON may be written with sorted keys.
                "parameters": [[p.name, p.default, p.low, p.high] for p in self.parameters],
                "features": [[argument, *use] for argument, use in self.features],
                "arguments": list(self.arguments),
            },
        }


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


def own_parameter(name: str, default: Any, low: Any, high: Any, of_feature: bool) -> Parameter:
    """A parameter that a strategy declares.

    Args:
        name: its name.
        default, low, high: its default and its bounds.
        of_feature: whether a feature takes it.
    """
    kind = int if all(isinstance(v, int) for v in (default, low, high)) else float
    return Parameter(
        name,
        kind,
        default,
        low,
        high,
        "feature" if of_feature else "signal",
        "of the user's strategy",
    )


def is_finite_number(value: object) -> bool:
    """Whether a value is a finite number that a float can hold.

    Args:
        value: a value of any kind.
    """
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) <= _LARGEST_WHOLE
    return isinstance(value, float) and math.isfinite(value)


def values_problem(name: str, values: object) -> str:
    """What is wrong with what a file gives a parameter; empty if nothing is.

    Args:
        name: the name of the parameter.
        values: what the file gives it.
    """
    if not isinstance(values, tuple) or len(values) != 3 or not all(map(is_finite_number, values)):
        return f"{name}: got {values!r}; expected (default, lowest, highest)"
    default, low, high = values
    if not low <= default <= high:
        return (
            f"{name}: default {default} is not within {low} to {high}; the order is (default, lowest,"
            " highest)"
        )
    return ""


def taken_by(uses: Mapping[str, FeatureUse]) -> frozenset[str]:
    """The parameters that features take.

    Args:
        uses: what each argument of ``signal`` is.
    """
    return frozenset(one for use in uses.values() for one in use[1:] if isinstance(one, str))


def feature_problem(
    argument: str, use: FeatureUse, parameters: Mapping[str, tuple[Any, Any, Any]], own: bool
) -> tuple[str, str, str] | None:
    """What is wrong with a feature of a strategy.

    Args:
        argument: the argument of ``signal`` that it is.
        use: the feature and its parameters.
        parameters: default, lowest and highest value of those of the strategy.
        own: whether the strategy's file, or TA-Lib, defines the feature.

    Returns:
        The table of the file and its key at fault, and a message; None if nothing is wrong.
    """
    feature, *given = use
    place = "FEATURES", argument
    try:
        name = read_name(feature)
    except StrategyError as error:
        said, known, names = str(error).partition(": known are ")
        return (
            *place,
            f"{said}; valid: {names}, a function of this file, or of TA-Lib" if known else said,
        )
    if name.given and not own:
        return *place, f"unknown feature {feature!r}"
    # A whole number given to such a feature may be a number of bars, see ``given_warm_up``.
    formal = feature_parameters(feature, len(given))
    n_own = len(given) - len(ACROSS.get(name.across or "", ()))
    if len(given) != len(formal):
        takes = ", ".join(f"its {one.name} parameter" for one in formal) or "no parameter"
        return *place, f"got {use!r}; expected ({feature!r}, {takes})"
    for i, (one, value) in enumerate(zip(formal, given, strict=True)):
        if isinstance(value, str) and value not in parameters:
            valid = ", ".join(parameters)
            return *place, f"{one.name} {value!r} is not in PARAMETERS; valid: {valid}"
        values = parameters[value] if isinstance(value, str) else (value,) * 3
        if not all(map(is_finite_number, values)):
            return *place, f"{one.name} {value!r}: expected a name in PARAMETERS, or a number"
        whole = all(isinstance(number, int) for number in values)
        if own and i < n_own and not whole:
            continue
        most = MAX_LOOKBACK if one.whole else math.inf
        if (one.whole and not whole) or min(values) < one.least or max(values) > most:
            form = (
                f"whole numbers from {one.least} to {most}"
                if one.whole
                else f"{one.least:g} or more"
            )
            if isinstance(value, str):
                return "PARAMETERS", value, f"is the {one.name} of {argument}: expected {form}"
            return *place, f"{one.name} {value!r}: expected {form}"
    return None


@cache
def known_columns() -> frozenset[str]:
    """The columns of the results that are not a user's parameters."""
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
