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
import re
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
from numba.core import types as numba_types
from numba.core.registry import CPUDispatcher

import kernels.simulation
import kernels.user_signal
from kernels._jit import jit_into_callers
from optimizer.compile_cache import IDLE_SECONDS, exclusive
from optimizer.custom_file import (
    CustomStrategy,
    StrategyFile,
    line_of,
    said_by,
    shown,
    users_code,
)
from optimizer.errors import SignalError, StrategyError
from optimizer.types import FloatArray

KEPT_STRATEGIES = 50
"""Compiled strategies that are kept; each edit of a file makes another, of some 1 MB."""

_REFUSED: tuple[tuple[tuple[type[ast.AST], ...], str], ...] = (
    ((ast.Raise, ast.Assert, ast.Try), "errors cannot be raised or caught"),
    ((ast.Import, ast.ImportFrom), "import at the top of the file"),
    ((ast.With, ast.AsyncWith, ast.Await, ast.Yield, ast.YieldFrom), "not a pure function"),
    ((ast.Global, ast.Nonlocal), "a pure function keeps nothing"),
    ((ast.List, ast.ListComp), "a list is a Python object; use numbers and tuples"),
    ((ast.Dict, ast.DictComp), "a dict is a Python object; use numbers and tuples"),
    ((ast.Set, ast.SetComp, ast.GeneratorExp), "a Python object; use numbers and tuples"),
    ((ast.JoinedStr,), "a text is a Python object; use numbers"),
    ((ast.FunctionDef, ast.Lambda, ast.ClassDef), "define it at the top of the file"),
)
_RAISED = (ArithmeticError, LookupError, ValueError)
"""What compiled code of numbers can raise."""

_IMPURE = ("print", "open", "input", "random", "globals", "eval", "exec")


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


def compile_strategy(custom: CustomStrategy, source: StrategyFile) -> CustomKernels:
    """Make a strategy ready to run; compile its signal where that was never done.

    Raises:
        StrategyError: it cannot be compiled; names the place in the user's file.
    """
    signal, frozen = _compiled_signal(source)
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
            _compile(signal_module, signal, source)
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
    custom: CustomStrategy, adapter: ModuleType, source: StrategyFile, given: tuple[float, ...]
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


def _adapter(custom: CustomStrategy) -> str:
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


def _compiled_signal(source: StrategyFile) -> tuple[Any, list[str]]:
    """``signal`` as a numba function not compiled yet, and what numba will freeze into it.

    Functions of the file that it calls are made numba functions too.
    """
    frozen: list[str] = []
    done: dict[str, Any] = {}

    def visit(name: str, callers: tuple[str, ...] = ()) -> Any:
        callers = (*callers, name)
        value = getattr(source.module, name)
        function = value.py_func if isinstance(value, CPUDispatcher) else value
        _check_syntax(source, name)
        done[name] = jit_into_callers(function)
        for used in sorted(_names(function.__code__)):
            if used in _IMPURE:
                source.refuse(
                    _line_naming(source, name, used), f"{name}: {used}: not a pure function"
                )
            if used in callers:
                source.refuse(
                    _line_naming(source, name, used),
                    f"{name}: calls {'itself' if used == name else f'{used}, its caller'}; nothing stops"
                    " a recursion that runs too deep: use a loop with an end",
                )
            if used in done or used not in vars(source.module):
                continue
            other = vars(source.module)[used]
            own = other.py_func if isinstance(other, CPUDispatcher) else other
            if isinstance(own, FunctionType):
                if own.__module__ == source.module.__name__:
                    visit(used, callers)
                elif not own.__module__.startswith(("kernels.", "numpy", "numba")):
                    source.refuse(
                        _line_naming(source, name, used),
                        f"{name}: {used} comes from {own.__module__}; define it in this file",
                    )
            elif isinstance(own, np.ndarray):
                frozen.append(f"{used}={hashlib.sha256(own.tobytes()).hexdigest()}")
            elif not isinstance(own, (ModuleType, type)):
                frozen.append(f"{used}={own!r}")
        setattr(source.module, name, done[name])
        return done[name]

    # The Python function stays what the module calls ``signal``; only helpers become numba's.
    signal = vars(source.module)["signal"]
    compiled = visit("signal")
    vars(source.module)["signal"] = signal
    return compiled, frozen


def _names(code: CodeType) -> set[str]:
    found = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found |= _names(constant)
    return found


def _line_naming(source: StrategyFile, function: str, name: str) -> int:
    node = source.functions[function]
    for one in ast.walk(node):
        if (isinstance(one, ast.Name) and one.id == name) or (
            isinstance(one, ast.Attribute) and one.attr == name
        ):
            return one.lineno
    return node.lineno


def _check_syntax(source: StrategyFile, function: str) -> None:
    """Refuse what numba would take and a pure function of numbers does not have."""
    node = source.functions.get(function)
    if node is None:
        source.refuse(1, f"{function}: define it at the top of the file, with def")
    body = node.body
    if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        body = body[1:]  # the docstring
    for statement in body:
        for one in ast.walk(statement):
            for kinds, message in _REFUSED:
                if isinstance(one, kinds):
                    source.refuse(getattr(one, "lineno", node.lineno), f"{function}: {message}")
            if isinstance(one, ast.Constant) and isinstance(one.value, (str, bytes)):
                source.refuse(one.lineno, f"{function}: a text is a Python object; use numbers")
            if function == "signal" and isinstance(one, ast.Return):
                value = one.value
                nothing = value is None or (isinstance(value, ast.Constant) and not value.value)
                if nothing or (isinstance(value, ast.Tuple) and len(value.elts) != 3):
                    text = ast.unparse(value) if value is not None else "nothing"
                    source.refuse(
                        one.lineno,
                        f"signal: returns {text}; expected (direction, strength, confidence)",
                    )


def _compile(adapter: ModuleType, signal: Any, source: StrategyFile) -> None:
    """Compile the scalar forms, so that mistakes come to light here."""
    node = source.functions["signal"]
    returns = [one for one in ast.walk(node) if isinstance(one, ast.Return)]
    # Of several returns the one that does not look like the three numbers.
    odd = [one for one in returns if not isinstance(one.value, ast.Tuple)] or returns
    line = odd[0].lineno if odd else node.lineno
    expected = "expected three numbers: (direction, strength, confidence)"
    try:
        signal.compile((numba_types.float64,) * len(inspect.signature(signal.py_func).parameters))
        found = signal.nopython_signatures[0].return_type
        if isinstance(found, (numba_types.Optional, numba_types.NoneType)):
            source.refuse(node.lineno, f"signal: it may end without a return; {expected}")
        numbers = (numba_types.Integer, numba_types.Float)
        three = isinstance(found, numba_types.BaseTuple) and len(found) == 3
        if not three or not all(isinstance(one, numbers) for one in found):
            source.refuse(line, f"signal: returns {found}; {expected}")
        count = len(inspect.signature(adapter.user_signal.py_func).parameters)
        for function in (adapter.said, adapter.user_signal):
            function.compile((numba_types.float64,) * count)
    except StrategyError:
        raise
    except Exception as error:
        text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
        if "Can't unify return type" in text:
            source.refuse(line, f"signal: its returns differ in kind; {expected}")
        message = (
            f"signal: cannot be compiled: {_reason(text, source)}; use numbers, comparisons, math,"
            " if and tuples alone"
        )
        source.refuse(_line_in(text, source) or node.lineno, message)


def _line_in(text: str, source: StrategyFile) -> int | None:
    """The line that numba's page is about: named last, or that of a name in quotes."""
    places = re.findall(r'File "([^"]+)", line (\d+)|\bat ([^\s()]+) \((\d+)\)', text)
    lines = [
        int(first or second)
        for one, first, other, second in places
        if os.path.basename(one or other) == source.path.name
    ]
    if lines:
        return lines[-1]
    for name in re.findall(r"'(\w+)'", text):
        for function in source.functions:
            line = _line_naming(source, function, name)
            if line != source.functions[function].lineno:
                return line
    return None


def _reason(text: str, source: StrategyFile) -> str:
    """The part of numba's page that says what is wrong."""
    code = {line.strip() for line in source.content.decode(errors="replace").splitlines()}
    skipped = ("Failed in", "During:", "File ", "<source", "There are", "- ", "Overload", "^")
    lines = [line.strip() for line in text.splitlines()]
    useful = [line for line in lines if line not in code and not line.startswith(skipped)]
    reason = " ".join(useful[:3]) or " ".join(text.split())
    reason = re.sub(r"Function\(<(?:built-in )?function (\w+)[^>]*>\)", r"\1()", reason)
    return reason.replace(" >>>", "").replace("unicode_type", "text")[:240].rstrip(" :")
