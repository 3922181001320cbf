"""A user's strategy compiled: the user's function in the middle of the simulation, cached by numba.

numba caches no function that takes another as an argument, and misses its cache on closures. So two
modules are written for each strategy, to the folder of compiled kernels, under a name made of the hash
of all that goes into them: one in the place of ``kernels.user_signal``, and the simulation that imports
it.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import importlib.util
import inspect
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

import kernels.simulation
import kernels.user_signal
from optimizer.compile_cache import IDLE_SECONDS, exclusive
from optimizer.errors import SignalError, StrategyError
from optimizer.strategies.declaration import Declaration
from optimizer.strategies.user_checks import compile_module, compiled_signal
from optimizer.strategies.user_file import StrategyFile, line_of, said_by, users_code
from optimizer.text import shown
from optimizer.types import FloatArray

KEPT_STRATEGIES = 50
"""Compiled strategies that are kept; each edit of a file makes another, of some 1 MB."""
_RAISED = (ArithmeticError, LookupError, ValueError)
"""What compiled code of numbers can raise."""


@dataclass(frozen=True, eq=False)
class CustomKernels:
    """A user's strategy, ready to run.

    Attributes:
        simulate: as ``kernels.simulation.simulate``, for this strategy alone.
        signal: as ``kernels.user_signal.user_signal``.
        features: its own features by name.
        problem: of what ``signal`` is given, why what it says is no signal; empty where it is one.
        place: of ``signal``: file and line, for messages.
    """

    simulate: Callable[..., None]
    signal: Callable[..., tuple[float, float, float]]
    features: Mapping[str, CustomFeature]
    problem: Callable[[tuple[float, ...]], str]
    place: str

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call ``simulate`` or ``signal``.

        Raises:
            SignalError: the user's function raised, as an index out of range does.
        """
        try:
            return function(*arguments)
        except _RAISED as error:
            raise SignalError(f"{self.place}: signal: {said_by(error)}") from None


class CustomFeature:
    """A feature of the user's file.

    Args:
        function: the user's.
        name: in messages.
        path: of the user's file.
    """

    def __init__(self, function: FunctionType, name: str, path: Path) -> None:
        self._function = function
        self._name = name
        self._path = path
        arguments = inspect.signature(function).parameters
        self._inputs = [one for one in arguments if one != "lookback"]
        self._takes_lookback = "lookback" in arguments

    def __call__(self, bars: Mapping[str, FloatArray], lookback: int) -> FloatArray:
        """Values at all bars of one symbol, NaN at the first ``lookback``.

        Args:
            bars: open, high, low, close, volume, each (n_bars,).
            lookback: bars.

        Raises:
            StrategyError: the function raised, or returned something else.
        """
        given: dict[str, Any] = {name: bars[name].view() for name in self._inputs}
        for array in given.values():
            array.flags.writeable = False
        if self._takes_lookback:
            given["lookback"] = lookback
        n_bars = len(bars["close"])
        try:
            with users_code(), np.errstate(all="ignore"):
                returned = self._function(**given)
                if np.iscomplexobj(returned):
                    raise TypeError("returned complex numbers")
                values = np.array(returned, dtype=np.float64)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            line = line_of(error, self._path) or self.line
            raise StrategyError(
                f"{shown(self._path)}:{line}: feature {self._name}: {said_by(error)}"
            ) from None
        if values.shape != (n_bars,):
            raise StrategyError(
                f"{shown(self._path)}:{self.line}: feature {self._name}: returned an array of shape"
                f" {values.shape}; expected one number a bar, {(n_bars,)}"
            )
        values[:lookback] = np.nan
        return values

    @property
    def line(self) -> int:
        """Where it stands in the file."""
        return self._function.__code__.co_firstlineno

    @property
    def place(self) -> str:
        """File and line, for messages."""
        return f"{shown(self._path)}:{self.line}"


def strategies_folder() -> Path:
    """Where strategies are kept: beside the compiled kernels, whose key is that of our sources."""
    folder = Path(os.environ["NUMBA_CACHE_DIR"]) / "strategies"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _remove_old() -> None:
    """Remove strategies beyond the youngest, with what numba keeps of them beside the folder."""
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
    """Make a strategy ready to run; compile its signal where that was never done.

    Raises:
        StrategyError: it cannot be compiled; names the place in the user's file.
    """
    signal, frozen = compiled_signal(source)
    adapter = _adapter(custom)
    simulation = _simulation()
    key = hashlib.sha256(
        "\0".join((source.hash, adapter, simulation, *frozen)).encode()
    ).hexdigest()[:20]
    # Modules of files that stay as they are: by these numba knows what it has compiled.
    folder = strategies_folder() / key
    signal_module = _module(folder, f"barsweep_{key}_signal", adapter, {"_signal": signal})
    checked = folder / "checked"
    if not checked.exists():
        with exclusive():
            compile_module(signal_module, signal, source)
            _write(folder / f"{source.hash}.py", source.content)
            checked.touch()
            _remove_old()
    else:
        with contextlib.suppress(OSError):
            os.utime(checked)
    simulation = simulation.replace(kernels.user_signal.__name__, f"barsweep_{key}_signal")
    module = _module(folder, f"barsweep_{key}_simulation", simulation, {})
    functions: dict[str, Any] = {
        f"{custom.name}.{name}": getattr(source.module, name, None) for name in source.functions
    }
    return CustomKernels(
        simulate=module.simulate,
        signal=signal_module.user_signal,
        features={
            feature: CustomFeature(functions[feature], feature, source.path)
            for _, feature, _ in custom.features
            if feature in functions
        },
        problem=functools.partial(_problem, custom, signal_module, source),
        place=f"{shown(source.path)}:{source.functions['signal'].lineno}",
    )


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
    names = list(inspect.signature(adapter.user_signal.py_func).parameters)
    own = [argument for argument, _, _ in custom.features], custom.signal_parameters
    for letter, arguments in zip("xp", own, strict=True):
        for i, argument in enumerate(arguments):
            names[names.index(f"{letter}{i}")] = argument
    values = ", ".join(
        f"{name} = {value:.6g}"
        for name, value in zip(names, given, strict=True)
        if name in custom.arguments
    )
    return (
        f"{shown(source.path)}:{source.functions['signal'].lineno}: signal: {answer} with {values};"
        " expected LONG, SHORT, FLAT or HOLD, a finite strength of 0 or more, a confidence from 0 to"
        " 1:"
    )


@functools.cache
def _simulation() -> str:
    """Source of the simulation's functions that depend on the user's; the others are imported.

    The whole module would do, at twice the time to compile.
    """
    text = inspect.getsource(kernels.simulation)
    tree = ast.parse(text)
    imports = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    used = {
        name: {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
        for name, node in functions.items()
    }
    kept = {
        alias.name
        for node in imports
        if isinstance(node, ast.ImportFrom) and node.module == kernels.user_signal.__name__
        for alias in node.names
    }
    while grown := {name for name in functions if name not in kept and used[name] & kept}:
        kept |= grown
    lines = text.splitlines()
    others = [name for name in functions if name not in kept]
    for name in others:
        node = functions[name]
        for line in range(node.decorator_list[0].lineno - 1, node.end_lineno or 0):
            lines[line] = ""
    after = max(node.end_lineno or 0 for node in imports)
    lines.insert(after, f"from {kernels.simulation.__name__} import {', '.join(others)}")
    return "\n".join(lines)


def _adapter(custom: Declaration) -> str:
    """Source of the module that takes the place of ``kernels.user_signal``."""
    features = {argument: f"x{i}" for i, (argument, _, _) in enumerate(custom.features)}
    signals = {name: f"p{i}" for i, name in enumerate(custom.signal_parameters)}
    stub: Any = kernels.user_signal.user_signal
    arguments = inspect.signature(stub.py_func).parameters
    given = (features.get(a) or signals.get(a) or a for a in custom.arguments)
    return f'''"""A user's signal, in the place of kernels.user_signal. Written by optimizer.custom."""

from kernels._jit import jit
from kernels.signals import usable_signal

GIVEN = True
N_FEATURES = {len(custom.features)}


@jit
def said({", ".join(arguments)}):
    direction, strength, confidence = _signal({", ".join(given)})
    return float(direction), float(strength), float(confidence)


@jit
def user_signal({", ".join(arguments)}):
    direction, strength, confidence = said({", ".join(arguments)})
    return usable_signal(direction, strength, confidence)
'''


def _module(folder: Path, name: str, text: str, given: Mapping[str, object]) -> ModuleType:
    if name in sys.modules:
        return sys.modules[name]
    path = folder / f"{name}.py"
    if not path.exists():
        _write(path, text.encode())
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
