"""Functions of TA-Lib as features: ``talib.ADX``, or ``talib.MACD.macdsignal`` for one of its outputs."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import numpy as np

from optimizer.errors import DataError, StrategyError
from optimizer.extras import optional_module
from optimizer.text import counted, list_text, one_line
from optimizer.types import FloatArray

TALIB = "talib"
"""Precedes the names of TA-Lib's functions, and names the extra that installs them."""

_NEEDS_MORE = "MAVP"
"""It takes a period for each bar."""


def _function(name: str, named: Mapping[str, float] = MappingProxyType({})) -> Any:
    """TA-Lib's description of a function that takes bars and nothing else."""
    try:
        library = optional_module(TALIB, TALIB)
    except DataError as error:
        raise StrategyError(str(error)) from None
    known = sorted({*library.get_functions()} - {_NEEDS_MORE})
    if name not in known:
        near = difflib.get_close_matches(name.upper(), known, n=3)
        hint = f"did you mean {list_text(near)}? " if near else ""
        raise StrategyError(
            f"TA-Lib has no function {name!r} of bars; {hint}talib.get_functions() lists all"
            f" {len(known) + 1}"
        )
    return optional_module(f"{TALIB}.abstract", TALIB).Function(name, **named)


def _output(text: str) -> tuple[Any, int]:
    """The function that a name means, and which of its outputs."""
    _, name, *output = text.split(".")
    function = _function(name)
    outputs = list(function.output_names)
    if not output:
        if len(outputs) > 1:
            one = f"{text}.{outputs[0]}"
            raise StrategyError(f"{text} gives {', '.join(outputs)}; name one, such as {one}")
        return function, 0
    if len(output) > 1 or output[0] not in outputs:
        raise StrategyError(f"{text!r}: {name} gives {', '.join(outputs)}")
    return function, outputs.index(output[0])


@lru_cache(maxsize=4096)
def _named(text: str, parameters: tuple[float, ...]) -> tuple[Any, int, Mapping[str, float]]:
    """The function, the output, and the values of the first parameters by TA-Lib's names.

    The event flow asks at every bar, and a look through TA-Lib takes longer than most of its functions.
    """
    function, output = _output(text)
    defaults = dict(function.parameters)
    if len(parameters) > len(defaults):
        takes = counted(len(defaults), "parameter") if defaults else "no parameter"
        names = f" ({', '.join(defaults)})" if defaults else ""
        raise StrategyError(
            f"{text} takes {takes}{names}, and {len(parameters)} are given; leave out"
            f" {len(parameters) - len(defaults)}"
        )
    named = dict(zip(defaults, parameters, strict=False))
    for name, value in named.items():
        if isinstance(defaults[name], int) and not isinstance(value, int):
            raise StrategyError(f"{text}: {name} must be a whole number, got {value:g}")
    return function, output, MappingProxyType(named)


@lru_cache(maxsize=4096)
def talib_warm_up(text: str, parameters: tuple[float, ...]) -> int:
    """The number of leading bars at which a function of TA-Lib is NaN.

    Args:
        text: its name in a key.
        parameters: the values of its first parameters, in TA-Lib's order.

    Returns:
        Bars of the feature's own timeframe.

    Raises:
        StrategyError: TA-Lib is not installed, has no such function, or refuses a parameter.
    """
    function, _, named = _named(text, parameters)
    try:
        _call(function, named, {field: np.ones(1) for field in _fields(function)})
    except Exception as error:  # TA-Lib raises nothing more special
        raise StrategyError(_refused(text, named, error)) from None
    return int(_function(function.info["name"], named).lookback)


def _refused(text: str, named: Mapping[str, float], error: Exception) -> str:
    """What TA-Lib was given, and what it said."""
    given = ", ".join(f"{name} = {value:g}" for name, value in named.items())
    return f"{text}: {f'{given}: ' if given else ''}{one_line(error)}"


def _fields(function: Any) -> list[str]:
    """The fields of a bar that a function takes, in its order."""
    fields: list[str] = []
    for taken in function.input_names.values():
        fields += [taken] if isinstance(taken, str) else taken
    return fields


def _call(function: Any, named: Mapping[str, float], bars: Mapping[str, Any]) -> list[FloatArray]:
    """Every output of a function for the bars of one symbol."""
    arrays = [np.ascontiguousarray(bars[field], dtype=np.float64) for field in _fields(function)]
    found = getattr(optional_module(TALIB, TALIB), function.info["name"])(*arrays, **named)
    return list(found) if isinstance(found, tuple) else [found]


class TalibFeature:
    """A function of TA-Lib on the bars of one symbol.

    Args:
        text: its name in a key.
        place: file and line that ask for it, for messages.
        argument: the argument of the user's signal that it becomes, for messages.
        given: what FEATURES gives it: names of parameters, which the study sets, and fixed numbers.
    """

    def __init__(
        self, text: str, place: str, argument: str, given: Sequence[str | float] = ()
    ) -> None:
        self._text = text
        self.place = place
        self._argument = argument
        self._set = [one for one in given if isinstance(one, str)]

    def __call__(self, bars: Mapping[str, Any], parameters: tuple[float, ...]) -> FloatArray:
        """Values at all bars of one symbol.

        Args:
            bars: open, high, low, close, volume, each (n_bars,).
            parameters: those of the key.

        Returns:
            (n_bars,), NaN at the first bars, see ``talib_warm_up``.

        Raises:
            StrategyError: TA-Lib refuses the parameters or the bars; names the place in the user's file,
                and the parameters that the study sets.
        """
        named: Mapping[str, float] = {}
        try:
            warm_up = talib_warm_up(self._text, parameters)
            function, output, named = _named(self._text, parameters)
            values = np.array(_call(function, named, bars)[output], dtype=np.float64)
        except StrategyError as error:
            raise StrategyError(self._placed(str(error))) from None
        except Exception as error:  # TA-Lib raises nothing more special
            raise StrategyError(self._placed(_refused(self._text, named, error))) from None
        values[:warm_up] = np.nan
        return values

    def _placed(self, problem: str) -> str:
        """A problem with its place in the user's file, and where to mend it."""
        fix = "take other numbers there"
        if self._set:
            fix = f"take other values of {list_text(self._set)} in [strategy] of the study file"
        return f"{self.place}: FEATURES: {self._argument}: {problem}; {fix}"
