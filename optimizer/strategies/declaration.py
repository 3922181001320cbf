"""What a user's strategy declares: its parameters, its features, its arguments."""

from __future__ import annotations

import keyword
import math
import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from optimizer.catalogue import CLASSIFIERS, COSTS, METRICS, RISK, SET_COLUMNS, Parameter, column
from optimizer.strategies.built_in import BUILT_IN

GIVEN_ARGUMENTS = ("close", "volatility", "inverse_volatility")
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


def own_parameter(name: str, default: Any, low: Any, high: Any, lookback: bool) -> Parameter:
    """A parameter that a strategy declares.

    Args:
        name: its name.
        default, low, high: its default and its bounds.
        lookback: whether it is the lookback of a feature, in bars.
    """
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


def is_finite_number(value: object) -> bool:
    """Whether a value is a finite number that a float can hold.

    Args:
        value: a value of any kind.
    """
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) <= _LARGEST_WHOLE
    return isinstance(value, float) and math.isfinite(value)


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
