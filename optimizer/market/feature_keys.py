"""Keys of features: which feature, of which bars, compared with whom, with which parameters."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import isfinite
from operator import index as as_integer

import numpy as np

from optimizer.bars.times import DAY, WEEK, read_duration, write_duration
from optimizer.errors import StrategyError
from optimizer.market.feature_table import FEATURES, MAX_LOOKBACK, FeatureParameter
from optimizer.market.talib_features import TALIB, talib_warm_up
from optimizer.market.time_features import TIME_FEATURES

FeatureKey = tuple[str, *tuple[float, ...]]
"""Name of a feature and its parameters in their order, such as ``("momentum", 60)``,
``("macd", 12, 26, 9)`` or ``("close",)``.

A feature of a user's strategy has the strategy's name and a dot before its own, one of TA-Lib
``talib.``. ``sma@1d`` is computed on bars of a day, ``rank(sma)`` compares the symbols; see
``FeatureName``.
"""

BAR_FIELDS = ("open", "high", "low", "close", "volume")
"""Values of a bar that a feature may take."""

PANEL = "panel"
"""A user's feature of all symbols at once."""

ACROSS: dict[str, tuple[FeatureParameter, ...]] = {
    "rank": (),
    "top": (FeatureParameter("n", 1),),
    "zscore_across": (),
}
"""Comparisons of symbols, and their parameters, which come after those of the feature."""

FEATURE_NAMES: tuple[str, ...] = tuple(sorted(("close", *FEATURES, *TIME_FEATURES)))
"""Built-in features of one symbol."""

_LOOKBACK = FeatureParameter("lookback", 1)
_CORRELATION = FeatureParameter("lookback", 2)
_OF_TALIB = FeatureParameter("parameter", 0)

_FORM = re.compile(r"(?:(?P<across>\w+)\((?P<inner>[^()]+)\)|(?P<plain>[^()]+))")


@dataclass(frozen=True)
class FeatureName:
    """What the name in a key says.

    Attributes:
        feature: the name of a built-in feature, ``<strategy>.<function>``, or ``talib.<function>``.
        timeframe: the bars on which it is computed, such as ``1d``; None for those of the study.
        across: one of ``ACROSS``, or ``PANEL``; None for a feature of one symbol.
    """

    feature: str
    timeframe: str | None = None
    across: str | None = None

    def __str__(self) -> str:
        """The name in a key, such as ``sma``, ``sma@1d``, ``rank(sma)`` or ``rank(sma@1d)``."""
        name = self.feature if self.timeframe is None else f"{self.feature}@{self.timeframe}"
        return name if self.across is None else f"{self.across}({name})"

    @property
    def given(self) -> bool:
        """Whether a function of the user's, or of TA-Lib, computes it."""
        return "." in self.feature

    @property
    def of_talib(self) -> bool:
        """Whether a function of TA-Lib computes it."""
        return self.feature.startswith(f"{TALIB}.")

    @property
    def function(self) -> str:
        """The name of the user's function, which tells one of a panel from one of a symbol."""
        return f"{PANEL}({self.feature})" if self.across == PANEL else self.feature

    @property
    def own(self) -> FeatureName:
        """The feature of one symbol that is compared."""
        return replace(self, across=None)


@lru_cache(maxsize=4096)
def read_name(text: str) -> FeatureName:
    """What the name in a key says.

    Args:
        text: the name, such as ``rank(sma@1d)``.

    Raises:
        StrategyError: it is no name of a feature; says which are.
    """
    match = _FORM.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise StrategyError(f"unknown feature {text!r}: known are {_known()}")
    across = match["across"]
    feature, at, timeframe = (match["plain"] or match["inner"]).partition("@")
    if across is not None and across not in (*ACROSS, PANEL):
        raise StrategyError(f"unknown feature {text!r}: known are {', '.join((*ACROSS, PANEL))}")
    name = FeatureName(feature, read_timeframe(timeframe) if at else None, across)
    if not name.given and feature not in FEATURE_NAMES:
        raise StrategyError(f"unknown feature {feature!r}: known are {_known()}")
    if feature in TIME_FEATURES and (across or at):
        raise StrategyError(
            f"feature {text!r}: {feature} is the same for all symbols; use it alone"
        )
    if across == PANEL and (at or not name.given):
        raise StrategyError(f"feature {text!r}: a panel takes a function of the file, without more")
    return name


def _known() -> str:
    return ", ".join(FEATURE_NAMES)


def read_timeframe(text: str) -> str:
    """A timeframe in one form, so that ``60min`` and ``1h`` are the same.

    Args:
        text: a duration below a day, ``1d`` or ``1w``.

    Raises:
        StrategyError: it is something else.
    """
    try:
        size = read_duration(text)
    except (ValueError, AttributeError):
        size = 0
    if not (0 < size <= DAY or size == WEEK):
        raise StrategyError(
            f'timeframe {text!r}: expected a duration such as "15min", "1h" or "4h", "1d", or "1w"'
        )
    return write_duration(size)


def split_parameters(
    name: FeatureName, parameters: Sequence[float]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The parameters of the feature itself, and those of the comparison.

    Args:
        name: the name of a key.
        parameters: those of the key.

    Returns:
        The two, in their order.
    """
    n = len(parameters) - len(ACROSS.get(name.across or "", ()))
    return tuple(parameters[:n]), tuple(parameters[n:])


def _checked(name: str, parameter: FeatureParameter, value: object) -> float:
    """The value of a parameter as a plain number, or a StrategyError."""
    if parameter.whole:
        try:
            number: float = as_integer(value)  # type: ignore[arg-type]
        except TypeError:
            number = parameter.least - 1
        form = f"a whole number from {parameter.least} to {MAX_LOOKBACK} bars"
        right = parameter.least <= number <= MAX_LOOKBACK
    else:
        number = float(value) if isinstance(value, (int, float, np.number)) else np.nan
        form = f"a number of {parameter.least:g} or more"
        right = isfinite(number) and number >= parameter.least
    if isinstance(value, bool) or not right:
        raise StrategyError(f"feature {name!r}: {parameter.name} must be {form}, got {value!r}")
    return number


def check_key(key: FeatureKey) -> FeatureKey:
    """The key with its name in one form, and plain numbers as parameters.

    Args:
        key: name and parameters.

    Raises:
        StrategyError: the name is unknown, or a parameter is out of bounds.
    """
    if not isinstance(key, tuple) or not key:
        raise StrategyError(f"a feature key is (name, parameters...), got {key!r}")
    text, *given = key
    name = read_name(text)
    formal = feature_parameters(text, len(given))
    if len(given) != len(formal):
        takes = ", ".join(one.name for one in formal) or "no parameter"
        raise StrategyError(f"feature {text!r} takes {takes}; got {tuple(given)!r}")
    n_own = len(given) - len(ACROSS.get(name.across or "", ()))
    return str(name), *(
        _given_parameter(text, value) if name.given and i < n_own else _checked(text, one, value)
        for i, (one, value) in enumerate(zip(formal, given, strict=True))
    )


def _given_parameter(name: str, value: object) -> float:
    """A parameter of a user's feature, or of TA-Lib's: a lookback if it is whole, else any number."""
    if isinstance(value, float) and isfinite(value):
        return value
    return _checked(name, feature_parameters(name, 1)[0], value)


def feature_parameters(text: str, n_given: int = 0) -> tuple[FeatureParameter, ...]:
    """The parameters of a feature, in the order of its key.

    Args:
        text: the name in a key.
        n_given: how many parameters a key has, which a user's function takes: each may be a lookback.

    Raises:
        StrategyError: there is no such feature.
    """
    name = read_name(text)
    compared = ACROSS.get(name.across or "", ())
    if name.given:
        own_one = _OF_TALIB if name.of_talib else _LOOKBACK
        return (*[own_one] * (n_given - len(compared)), *compared)
    own = FEATURES[name.feature].parameters if name.feature in FEATURES else ()
    return (*own, *compared)


def indicator_name(key: FeatureKey) -> str:
    """The name of a feature's values, such as ``sma_20`` or ``macd_12_26_9``.

    Args:
        key: name and parameters.
    """
    name, *parameters = key
    return "_".join((name, *(f"{one:g}" for one in parameters)))


def given_warm_up(name: FeatureName, parameters: Sequence[float]) -> int:
    """The number of leading values of a feature that are not used, where no kernel computes it.

    Args:
        name: the name of its key.
        parameters: its own ones; its lookbacks are the whole numbers.

    Returns:
        The sum of the lookbacks; for a function of TA-Lib what TA-Lib says.

    Raises:
        StrategyError: TA-Lib is not installed, or knows no such function.
    """
    if name.of_talib:
        return talib_warm_up(name.feature, tuple(parameters))
    return sum(one for one in parameters if isinstance(one, int))


def lookbacks(key: FeatureKey) -> list[int]:
    """The parameters of a feature that are numbers of bars.

    Args:
        key: name and parameters.
    """
    name, *parameters = key
    own, _ = split_parameters(read_name(name), parameters)
    return [one for one in own if isinstance(one, int)]


def warm_up(key: FeatureKey) -> int:
    """The number of leading bars at which a feature is NaN, if there are enough bars.

    Args:
        key: name and parameters; the name may also be ``"correlation"``.

    Returns:
        Bars of the feature's own timeframe.

    Raises:
        StrategyError: the name is unknown, or a parameter is out of bounds.
    """
    if key[:1] == ("correlation",):
        return int(_checked("correlation", _CORRELATION, *key[1:]))
    text, *parameters = check_key(key)
    name = read_name(text)
    own, _ = split_parameters(name, parameters)
    if name.given:
        return given_warm_up(name, own)
    return FEATURES[name.feature].warm_up(*own) if name.feature in FEATURES else 0


def sorted_keys(keys: Iterable[FeatureKey]) -> tuple[FeatureKey, ...]:
    """The keys checked, sorted, each once.

    Args:
        keys: the keys in any order.

    Raises:
        StrategyError: a name is unknown, or a parameter is out of bounds.
    """
    return tuple(sorted({check_key(key) for key in keys}))
