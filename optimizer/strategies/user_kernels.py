"""A user's strategy compiled: the user's function in the middle of the simulation, cached by numba.

numba does not cache a function that takes another as an argument, and its cache never hits for a
closure. So for each strategy modules are written to the folder of compiled kernels: one that takes the
place of ``kernels.user_signal``, and a copy of each module of ``kernels`` that depends on it, importing
its counterparts. Their names hold the hash of everything that goes into them.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import inspect
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

import kernels.lanes.decisions
import kernels.lanes.user_signals
import kernels.simulation
import kernels.user_signal
from optimizer.compile_cache import IDLE_SECONDS, exclusive
from optimizer.errors import SignalError, StrategyError
from optimizer.market.feature_keys import BAR_FIELDS, PANEL, FeatureName, given_warm_up, read_name
from optimizer.market.panel import PANEL_FIELDS
from optimizer.strategies.declaration import GIVEN_ARGUMENTS, Declaration
from optimizer.strategies.user_checks import compile_module, compiled_signal
from optimizer.strategies.user_file import StrategyFile, line_of, said_by, users_code
from optimizer.strategies.user_source import StrategySource
from optimizer.text import path_text
from optimizer.types import FloatArray

BOUND = (kernels.lanes.user_signals, kernels.lanes.decisions, kernels.simulation)
"""The modules that depend on ``kernels.user_signal``, each after those that it imports."""
KEPT_STRATEGIES = 50
"""Compiled strategies that are kept; each edit of a file adds one, of about 1 MB."""
_RAISED = (ArithmeticError, LookupError, ValueError)
"""Errors that compiled code on numbers can raise."""


@dataclass(frozen=True, eq=False)
class CustomKernels:
    """A user's strategy, ready to run.

    Attributes:
        simulate: the same function as ``kernels.simulation.simulate``, for this strategy only.
        signal: takes the features in the order of ``signal``, the close, the volatility and its
            inverse, and the parameters in the order of ``signal``; returns the signal, an unusable one
            turned into HOLD.
        features: its own features by name.
        problem: takes the arguments of ``signal``; returns why the result is not a valid signal, or
            an empty string if it is.
        place: file and line of ``signal``, for messages.
        places: file and line of each argument in FEATURES.
    """

    simulate: Callable[..., None]
    signal: Callable[..., tuple[float, float, float]]
    features: Mapping[str, CustomFeature]
    problem: Callable[[tuple[float, ...]], str]
    place: str
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
            raise SignalError(f"{self.place}: signal: {said_by(error)}") from None


class CustomFeature:
    """A feature from the user's file.

    Args:
        function: the user's function.
        name: the name of the feature, for messages.
        source: the user's file.
    """

    def __init__(self, function: FunctionType, name: FeatureName, source: StrategyFile) -> None:
        self._function = function
        self._name = name.function
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
                f"{path_text(self._path)}:{line}: feature {self._name}: {said_by(error)}"
            ) from None
        if values.shape != expected:
            raise StrategyError(
                f"{path_text(self._path)}:{self.line}: feature {self._name}: returned an array of shape"
                f" {values.shape}; expected one number a bar{' and symbol' if self._panel else ''},"
                f" {expected}"
            )
        if not self._panel:
            values[: given_warm_up(parameters)] = np.nan
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


def strategies_folder() -> Path:
    """The folder of the compiled strategies, inside that of the kernels, keyed by kernel sources."""
    folder = Path(os.environ["NUMBA_CACHE_DIR"]) / "strategies"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _remove_old() -> None:
    """Remove all but the most recently used strategies, and numba's cache files of the removed ones."""
    with contextlib.suppress(OSError):
        used = sorted(
            ((path.stat().st_mtime, path.parent) for path in strategies_folder().glob("*/checked")),
            reverse=True,
        )
        for last_use, path in used[KEPT_STRATEGIES:]:
            if time.time() - last_use > IDLE_SECONDS:
                for one in (path, *path.parent.parent.glob(f"{path.name}_*")):
                    shutil.rmtree(one, ignore_errors=True)


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
    texts = [inspect.getsource(module) for module in BOUND]
    content = "\0".join((source.hash, adapter, *texts, *frozen))
    key = hashlib.sha256(content.encode()).hexdigest()[:20]
    names = _own_names(key)
    # numba recognizes what it has compiled by the path and the time of these files.
    folder = strategies_folder() / key
    signal_module = _module(
        folder, names[kernels.user_signal.__name__], adapter, {"_signal": signal}
    )
    checked = folder / "checked"
    if not checked.exists():
        with exclusive():
            compile_module(signal_module, signal, source)
            for name, content_of in source.source.modules:
                _write(folder / source.hash / name, content_of)
            _write(folder / f"{source.hash}.py", source.source.content)
            checked.touch()
            _remove_old()
    else:
        with contextlib.suppress(OSError):
            os.utime(checked)
    for module, text in zip(BOUND, texts, strict=True):
        simulation = _module(folder, names[module.__name__], _bound(text, names), {})
    functions: dict[str, Any] = {
        f"{custom.name}.{name}": getattr(source.module, name, None) for name in source.functions
    }
    return CustomKernels(
        simulate=simulation.simulate,
        signal=signal_module.user_signal,
        features={
            name.function: CustomFeature(functions[name.feature], name, source)
            for name in (read_name(feature) for _, (feature, *_) in custom.features)
            if name.feature in functions
        },
        problem=functools.partial(_problem, custom, signal_module, source),
        place=f"{path_text(source.path)}:{source.functions['signal'].lineno}",
        places={
            argument: f"{path_text(source.path)}:{source.line_of_key('FEATURES', argument)}"
            for argument, _ in custom.features
        },
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


def _bound(text: str, names: Mapping[str, str]) -> str:
    """Source of a module with the modules that it imports replaced by name."""
    for name, own in names.items():
        text = re.sub(rf"\b{re.escape(name)}\b", own, text)
    return text


def _own_names(key: str) -> dict[str, str]:
    """Name of each module that is written for a strategy, by that of its counterpart."""
    modules = (kernels.user_signal, *BOUND)
    return {one.__name__: f"barsweep_{key}_{one.__name__.split('.')[-1]}" for one in modules}


def _own_arguments(custom: Declaration) -> tuple[str, ...]:
    """The arguments of ``CustomKernels.signal`` by the names of the file, in order."""
    features = (argument for argument, _ in custom.features)
    return *features, *GIVEN_ARGUMENTS, *custom.signal_parameters


def _adapter(custom: Declaration) -> str:
    """Source of the module that takes the place of ``kernels.user_signal`` for one strategy.

    It refers to arguments by position only: no name that a file declares appears in it.
    """
    n_features, n_parameters = len(custom.features), len(custom.signal_parameters)
    x, p = (
        [f"{letter}{i}" for i in range(n)] for letter, n in (("x", n_features), ("p", n_parameters))
    )
    arguments = ", ".join((*x, *GIVEN_ARGUMENTS, *p))
    places = dict(zip(_own_arguments(custom), (*x, *GIVEN_ARGUMENTS, *p), strict=True))
    given = ", ".join(places[argument] for argument in custom.arguments)
    rows = [
        f"_X{i}, _F{i} = USER_X0 + _row({i}), USER_FEATURE_0 + _row({i})" for i in range(n_features)
    ]
    rows += [f"_P{i} = SIGNAL_0 + _row({i})" for i in range(n_parameters)]
    columns = "".join(f"features[t, s, columns[c + _F{i}]], " for i in range(n_features))
    values = [f"of_lane(shared[{i}], scratch, _X{i}, b, own)" for i in range(n_features)]
    values += GIVEN_ARGUMENTS
    values += [f"parameters[q + _P{i} + b]" for i in range(n_parameters)]
    newline = "\n"
    return f'''"""A user's signal, in the place of kernels.user_signal. Written by barsweep."""

import numpy as np

from kernels._jit import jit, jit_borrowing
from kernels.lanes.gathering import of_lane
from kernels.layout import SIGNAL_0, STRIDE, USER_FEATURE_0, USER_X0
from kernels.signals import usable_signal


def _row(number):
    return np.uint64(number * STRIDE)


GIVEN = True
N_USER_FEATURES = {n_features}
{newline.join(rows)}


@jit
def said({arguments}):
    direction, strength, confidence = _signal({given})
    return float(direction), float(strength), float(confidence)


@jit
def user_signal({arguments}):
    direction, strength, confidence = said({arguments})
    return usable_signal(direction, strength, confidence)


@jit_borrowing
def shared_features(c, t, s, features, columns):
    return ({columns})


@jit_borrowing
def lane_signal(shared, q, b, close, volatility, inverse_volatility, parameters, scratch, own):
    return user_signal(
        {f",{newline}        ".join(values)}
    )
'''


def _module(folder: Path, name: str, text: str, given: Mapping[str, object]) -> ModuleType:
    if name in sys.modules:
        return sys.modules[name]
    path = folder / f"{name}.py"
    content = text.encode()
    # What is there runs, so it must be what was written.
    if not path.is_file() or path.read_bytes() != content:
        _write(path, content)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    vars(module).update(given)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_bytes(content)
    part.replace(path)
