"""A user's strategy compiled: the functions of the user's file, ready to run."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

from optimizer.errors import SignalError, StrategyError
from optimizer.market.feature_keys import BAR_FIELDS, PANEL, FeatureName, given_warm_up, read_name
from optimizer.market.panel import PANEL_FIELDS
from optimizer.market.talib_features import TalibFeature
from optimizer.strategies.bound_kernels import Adapter, bind, kept_files, strategies_folder
from optimizer.strategies.declaration import BAR_ARGUMENTS, Declaration
from optimizer.strategies.user_checks import compile_module, compiled_signal
from optimizer.strategies.user_file import StrategyFile, line_of, said_by, users_code
from optimizer.strategies.user_source import StrategySource
from optimizer.text import path_text
from optimizer.types import FloatArray

_RAISED = (ArithmeticError, LookupError, ValueError)
"""Errors that compiled code on numbers can raise."""


@dataclass(frozen=True, eq=False)
class CustomKernels:
    """A user's strategy, ready to run.

    Attributes:
        simulate: the same function as ``kernels.simulation.simulate``, for this strategy only.
        signal: takes the features in the order of ``signal``, ``Declaration.regime_values``,
            ``Declaration.position_values``, the close, the volatility and its inverse, and the parameters
            in the order of ``signal``; returns the signal, an unusable one turned into HOLD.
        features: its own features, and those of TA-Lib, by name.
        problem: takes the arguments of ``signal``; returns why the result is not a valid signal, or
            an empty string if it is.
        line: takes the arguments of ``signal``; returns the line of the user's file that raises.
        place: file and line of ``signal``, for messages.
        plain: ``signal`` as a numba function of its arguments in the file's order, not compiled yet.
        parts: texts that tell it from other signals.
        places: file and line of each argument in FEATURES.
    """

    simulate: Callable[..., None]
    signal: Callable[..., tuple[float, float, float]]
    features: Mapping[str, CustomFeature | TalibFeature]
    problem: Callable[[tuple[float, ...]], str]
    line: Callable[[tuple[float, ...]], int | None]
    place: str
    plain: Any
    parts: tuple[str, ...]
    places: Mapping[str, str]

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call ``simulate`` or ``signal``.

        Args:
            function: one of the two.
            *arguments: arguments of ``function``, in its order.

        Returns:
            What it returned.

        Raises:
            SignalError: the user's function raised, for example at an index out of range.
        """
        try:
            return function(*arguments)
        except _RAISED as error:
            place, line = self.place, self.line(arguments) if function is self.signal else None
            if line is not None:
                place = f"{place.rpartition(':')[0]}:{line}"
            raise SignalError(f"{place}: signal: {said_by(error)}") from None


class CustomFeature:
    """A feature from the user's file.

    Args:
        function: the user's function.
        name: the name of the feature, for messages.
        source: the user's file.
    """

    def __init__(self, function: FunctionType, name: FeatureName, source: StrategyFile) -> None:
        self._function = function
        self._name = name
        self._panel = name.across == PANEL
        self._path = source.path
        self._neighbours = source.neighbours
        arguments = inspect.signature(function).parameters
        fields = PANEL_FIELDS if self._panel else BAR_FIELDS
        self._inputs = [one for one in arguments if one in fields]
        self._own = [one for one in arguments if one not in fields]

    def __call__(self, bars: Mapping[str, Any], parameters: tuple[float, ...]) -> FloatArray:
        """Values at all bars of one symbol, or of all for a function of a panel.

        Args:
            bars: open, high, low, close, volume, each (n_bars,); ``PANEL_FIELDS`` for a panel.
            parameters: those of the function, in its order.

        Returns:
            (n_bars,), NaN at the first bars, see ``given_warm_up``; (n_bars, n_symbols) for a panel.

        Raises:
            StrategyError: the function raised, or did not return one number per bar.
        """
        given = {name: _read_only(bars[name]) for name in self._inputs}
        given.update(zip(self._own, parameters, strict=False))
        expected = bars["close"].shape
        try:
            with users_code(), self._neighbours, np.errstate(all="ignore"):
                returned = self._function(**given)
                if np.iscomplexobj(returned):
                    raise TypeError("returned complex numbers")
                values = np.array(returned, dtype=np.float64)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            line = line_of(error, self._path) or self.line
            raise StrategyError(
                f"{path_text(self._path)}:{line}: feature {self._name.function}: {said_by(error)}"
            ) from None
        if values.shape != expected:
            raise StrategyError(
                f"{path_text(self._path)}:{self.line}: feature {self._name.function}: returned an array"
                f" of shape {values.shape}; expected one number a bar"
                f"{' and symbol' if self._panel else ''}, {expected}"
            )
        if not self._panel:
            values[: given_warm_up(self._name, parameters)] = np.nan
        return values

    @property
    def line(self) -> int:
        """Line of its definition in the file."""
        return self._function.__code__.co_firstlineno

    @property
    def place(self) -> str:
        """File and line, for messages."""
        return f"{path_text(self._path)}:{self.line}"


def _read_only(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        value = value.view()
        value.flags.writeable = False
    return value


def compile_strategy(custom: Declaration, source: StrategyFile) -> CustomKernels:
    """Make a strategy ready to run. Its signal is compiled here if it is not in the cache.

    Args:
        custom: the strategy.
        source: its file.

    Returns:
        The compiled strategy. ``simulate`` compiles at its first call.

    Raises:
        StrategyError: it cannot be compiled; names the place in the user's file.
    """
    signal, frozen = compiled_signal(source)
    adapter = _adapter(custom)
    bound = bind(
        adapter,
        {"_signal": signal},
        (source.hash, *frozen),
        lambda module: compile_module(module, signal, source),
        kept_files(source.source),
    )
    places = {
        argument: f"{path_text(source.path)}:{source.line_of_key('FEATURES', argument)}"
        for argument, _ in custom.features
    }
    functions: dict[str, Any] = {
        f"{custom.name}.{name}": getattr(source.module, name, None) for name in source.functions
    }
    features: dict[str, CustomFeature | TalibFeature] = {}
    for argument, (feature, *given) in custom.features:
        name = read_name(feature)
        if name.of_talib:
            features[name.function] = TalibFeature(name.feature, places[argument], argument, given)
        elif name.feature in functions:
            features[name.function] = CustomFeature(functions[name.feature], name, source)
    return CustomKernels(
        simulate=bound.simulate,
        signal=bound.signal.user_signal,
        features=features,
        problem=functools.partial(_problem, custom, bound.signal, source),
        line=functools.partial(_raising_line, custom, source),
        place=f"{path_text(source.path)}:{source.functions['signal'].lineno}",
        plain=signal,
        parts=(source.hash, *frozen),
        places=places,
    )


def kept_source(content_hash: str) -> StrategySource | None:
    """The copy of a strategy's source that was kept when it was compiled; None if there is none.

    Args:
        content_hash: the hash of the source.
    """
    for file in strategies_folder().glob(f"*/{content_hash}.py"):
        folder = file.with_suffix("")
        modules = {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob("*.py")
            if path.is_file()
        }
        found = StrategySource(file.read_bytes(), tuple(sorted(modules.items())))
        if found.hash == content_hash:
            return found
    return None


def _problem(
    custom: Declaration, adapter: ModuleType, source: StrategyFile, given: tuple[float, ...]
) -> str:
    try:
        said = adapter.said(*given)
        if adapter.user_signal(*given) == said:
            return ""
        answer = "direction {:g}, strength {:g}, confidence {:g}".format(*said)
    except _RAISED as error:
        answer = said_by(error)
    values = ", ".join(
        f"{name} = {value:.6g}"
        for name, value in zip(_own_arguments(custom), given, strict=True)
        if name in custom.arguments
    )
    return (
        f"{path_text(source.path)}:{source.functions['signal'].lineno}: signal: {answer} with {values};"
        " expected LONG, SHORT, FLAT or HOLD, a finite strength of 0 or more, a confidence from 0 to"
        " 1:"
    )


def _raising_line(
    custom: Declaration, source: StrategyFile, given: tuple[float, ...]
) -> int | None:
    """The line at which ``signal`` raises, by its Python function: compiled code keeps no lines."""
    values = dict(zip(_own_arguments(custom), given, strict=True))
    try:
        with users_code(), source.neighbours:
            source.module.signal(*(values[name] for name in custom.arguments))
    except _RAISED as error:
        return line_of(error, source.path)
    return None


def _own_arguments(custom: Declaration) -> tuple[str, ...]:
    """The arguments of ``CustomKernels.signal`` by the names of the file, in order."""
    columns = *(argument for argument, _ in custom.features), *custom.regime_values
    return *columns, *custom.position_values, *BAR_ARGUMENTS, *custom.signal_parameters


def _adapter(custom: Declaration) -> str:
    """Source of the module that takes the place of ``kernels.user_signal`` for one strategy."""
    adapter = Adapter(custom.n_columns, len(custom.signal_parameters), custom.position_values)
    arguments = ", ".join(adapter.arguments)
    places = dict(zip(_own_arguments(custom), adapter.arguments, strict=True))
    given = ", ".join(places[argument] for argument in custom.arguments)
    return adapter.text(f"""@jit
def said({arguments}):
    direction, strength, confidence = _signal({given})
    return float(direction), float(strength), float(confidence)


@jit
def user_signal({arguments}):
    direction, strength, confidence = said({arguments})
    return usable_signal(direction, strength, confidence)""")
