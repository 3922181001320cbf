"""A strategy of the user's own: one pure function in a Python file, named in the study file.

The file declares, beside whatever else it holds::

    PARAMETERS = {"lookback": (60, 2, 500), "threshold": (0.02, 0.0, 1.0)}
    FEATURES = {"momentum": ("momentum", "lookback")}

    def signal(momentum, volatility, threshold):
        return (LONG if momentum > threshold else HOLD), 0.05 * volatility, 1.0

``PARAMETERS``: name -> (default, lowest, highest); whole numbers where all three are.
``FEATURES``: argument of ``signal`` -> (feature, the parameter that is its lookback). A feature is a
built-in's name, or a function of the file: of the arguments ``open``, ``high``, ``low``, ``close``,
``volume`` that it names, each (n_bars,) and read-only, of one symbol, and of ``lookback``, to its
(n_bars,) values, of which the first ``lookback`` are not used. A bar's value may depend on that bar
and those before it alone: ``look_ahead_check`` tests it, and the event flow hands over no others.
``signal``: numbers in, (direction, strength, confidence) out. Beside features and parameters its
arguments may be ``close``, ``volatility`` (that by which the position is sized) and
``inverse_volatility`` (0 where the volatility is 0). It is compiled into the loop over lanes. What is
no signal there (an unknown direction, a strength that is not finite or below 0, a confidence outside
0..1) is HOLD: the position stays.

Loading a strategy runs the file. A study is rebuilt from what was declared, without running it.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import importlib.util
import inspect
import logging
import math
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, NoReturn

import numpy as np
from numba.core import types as numba_types
from numba.core.registry import CPUDispatcher

import kernels.simulation
import kernels.user_signal
from kernels import layout
from kernels._jit import jit_into_callers
from kernels.codes import FLAT, HOLD, LONG, SHORT
from kernels.signals import strength_of_score
from optimizer.catalogue import CLASSIFIERS, METRICS, RISK, STRATEGIES, Parameter, column
from optimizer.compile_cache import IDLE_SECONDS, exclusive
from optimizer.errors import StrategyError
from optimizer.features import FEATURE_NAMES, MAX_LOOKBACK, least_lookback
from optimizer.types import FloatArray

__all__ = [
    "FLAT",
    "HOLD",
    "LONG",
    "SHORT",
    "CustomFeature",
    "CustomKernels",
    "CustomStrategy",
    "custom_from_dict",
    "load_custom",
    "read_custom",
    "shown",
    "source_hash",
    "strategy_parameters",
    "strength_of_score",
]

GIVEN_ARGUMENTS = ("close", "volatility", "inverse_volatility")
"""Arguments of ``signal`` that need no declaration."""

KEPT_STRATEGIES = 50
"""Compiled strategies that are kept; each edit of a file makes another, of some 1 MB."""

BAR_FIELDS = ("open", "high", "low", "close", "volume")
"""Arguments that a feature's function may have, beside ``lookback``."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_RESULT_COLUMNS = {"set", "trial", "strategy", "classifier", "feasible", "score"}

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
_IMPURE = ("print", "open", "input", "random", "globals", "eval", "exec")


@dataclass(frozen=True)
class CustomStrategy:
    """What a user's file declares.

    Attributes:
        name: names its columns.
        path: of the file, absolute.
        source_hash: SHA-256 of the file.
        parameters: with bounds and defaults.
        features: (argument, feature, lookback parameter) in the order of the file; a feature of the
            file is named ``<strategy>.<function>``.
        arguments: of ``signal``, in order.
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
        """As plain values; ``custom_from_dict`` makes the same of it."""
        return {
            "name": self.name,
            "path": self.path,
            "source_hash": self.source_hash,
            "declared": {
                "parameters": {p.name: [p.default, p.low, p.high] for p in self.parameters},
                "features": [list(feature) for feature in self.features],
                "arguments": list(self.arguments),
            },
        }


def custom_from_dict(content: Mapping[str, Any]) -> CustomStrategy:
    """A strategy as it was declared once. Runs no code.

    Raises:
        KeyError, TypeError, ValueError: not what ``to_dict`` gave.
    """
    declared = content["declared"]
    features = tuple((str(a), str(f), str(n)) for a, f, n in declared["features"])
    lookbacks = {lookback for _, _, lookback in features}
    return CustomStrategy(
        name=str(content["name"]),
        path=str(content["path"]),
        source_hash=str(content["source_hash"]),
        parameters=tuple(
            _parameter(name, default, low, high, name in lookbacks)
            for name, (default, low, high) in declared["parameters"].items()
        ),
        features=features,
        arguments=tuple(str(name) for name in declared["arguments"]),
    )


def strategy_parameters(name: str, custom: CustomStrategy | None) -> tuple[Parameter, ...]:
    """Parameters of a built-in strategy, or of a user's where one is given."""
    return STRATEGIES[name] if custom is None else custom.parameters


def _parameter(name: str, default: Any, low: Any, high: Any, lookback: bool) -> Parameter:
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


@dataclass(frozen=True, eq=False)
class CustomKernels:
    """A user's strategy, ready to run.

    Attributes:
        simulate: as ``kernels.simulation.simulate``, for this strategy alone.
        signal: as ``kernels.user_signal.user_signal``.
        features: its own features by name.
        problem: of what ``signal`` is given, why what it says is no signal; empty where it is one.
    """

    simulate: Callable[..., None]
    signal: Callable[..., tuple[float, float, float]]
    features: Mapping[str, CustomFeature]
    problem: Callable[[tuple[float, ...]], str]


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
            with np.errstate(all="ignore"):
                values = np.array(self._function(**given), dtype=np.float64)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            line = _line_of(error, self._path) or self.line
            raise StrategyError(
                f"{shown(self._path)}:{line}: feature {self._name}: {_say(error)}"
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


def shown(path: str | Path) -> str:
    """A path as messages give it: relative where it lies under the current folder."""
    path = Path(path)
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)


def source_hash(path: str | Path) -> str:
    """SHA-256 of a strategy's file.

    Raises:
        StrategyError: it cannot be read.
    """
    return hashlib.sha256(_read(Path(path))).hexdigest()


def read_custom(path: str | Path, name: str) -> CustomStrategy:
    """Read and check a user's strategy. Runs its file, and compiles it where that is not done yet.

    Args:
        path: the file.
        name: of the strategy.

    Raises:
        StrategyError: with the place in the file.
    """
    file = Path(path).resolve()
    content = _read(file)
    hash_ = hashlib.sha256(content).hexdigest()
    for known in _loaded:
        if (known.name, known.path, known.source_hash) == (name, str(file), hash_):
            return known
    logging.getLogger("barsweep.code").info("runs code from %s", shown(file))
    source = _Source(file, content)
    custom = source.declaration(name)
    _loaded[custom] = _kernels(custom, source)
    return custom


_loaded: dict[CustomStrategy, CustomKernels] = {}
"""What this process has run and compiled."""


def load_custom(custom: CustomStrategy) -> CustomKernels:
    """What a strategy runs by. Runs its file; compiles nothing that has been compiled before.

    Where the file has changed since, the copy that was kept beside the compiled kernels is run.

    Raises:
        StrategyError: the file is gone or changed, and there is no copy.
    """
    if custom in _loaded:
        return _loaded[custom]
    path = Path(custom.path)
    try:
        content = _read(path)
    except StrategyError:
        content = b""
    if hashlib.sha256(content).hexdigest() != custom.source_hash:
        kept = next(_folder().glob(f"*/{custom.source_hash}.py"), None)
        content = kept.read_bytes() if kept is not None else b""
        if hashlib.sha256(content).hexdigest() != custom.source_hash:
            raise StrategyError(
                f"{shown(path)}: {'has changed' if path.exists() else 'is gone'} since the study"
                f" ran (recorded hash {custom.source_hash[:12]}); put the file of then back"
            )
    _loaded[custom] = _kernels(custom, _Source(path, content))
    return _loaded[custom]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise StrategyError(
            f"{shown(path)}: no such file; [strategy] path counts from the study file's folder"
        ) from None
    except OSError as error:
        raise StrategyError(f"{shown(path)}: cannot be read: {error.strerror or error}") from None


# --- The user's file ----------------------------------------------------------------------------


class _Source:
    """A user's file that has been run."""

    def __init__(self, path: Path, content: bytes) -> None:
        self.path = path
        self.content = content
        self.hash = hashlib.sha256(content).hexdigest()
        try:
            self.tree = ast.parse(content, str(path))
            code = compile(content, str(path), "exec", dont_inherit=True)
        except (SyntaxError, ValueError) as error:
            line = getattr(error, "lineno", None) or 1
            self.refuse(line, f"not Python: {getattr(error, 'msg', None) or error}")
        self.functions = {
            node.name: node for node in self.tree.body if isinstance(node, ast.FunctionDef)
        }
        self.module = ModuleType(f"barsweep_strategy_{self.hash[:20]}")
        self.module.__file__ = str(path)
        sys.modules[self.module.__name__] = self.module
        try:
            exec(code, self.module.__dict__)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            what = "ended the program: " if isinstance(error, SystemExit) else ""
            self.refuse(_line_of(error, path) or 1, f"running the file: {what}{_say(error)}")

    def refuse(self, line: int, message: str) -> NoReturn:
        raise StrategyError(f"{shown(self.path)}:{line}: {message}")

    def _line(self, variable: str, key: str | None = None) -> int:
        """Line of a variable's assignment, or of a key in it."""
        for node in self.tree.body:
            targets = node.targets if isinstance(node, ast.Assign) else []
            if isinstance(node, ast.AnnAssign):
                targets = [node.target]
            if any(isinstance(t, ast.Name) and t.id == variable for t in targets):
                value = getattr(node, "value", None)
                for one in value.keys if isinstance(value, ast.Dict) else ():
                    if isinstance(one, ast.Constant) and one.value == key:
                        return one.lineno
                return node.lineno
        return 1

    def _table(self, variable: str) -> dict[str, Any]:
        table = getattr(self.module, variable, None)
        if table is None and variable == "PARAMETERS":
            return {}
        if not isinstance(table, dict) or not all(isinstance(key, str) for key in table):
            form = {
                "PARAMETERS": '{"lookback": (60, 2, 500)}: default, lowest, highest',
                "FEATURES": '{"momentum": ("momentum", "lookback")}: feature, lookback',
            }[variable]
            self.refuse(self._line(variable), f"{variable}: expected a dict such as {form}")
        for key in table:
            if not _NAME.fullmatch(key):
                self.refuse(
                    self._line(variable, key),
                    f"{variable}: got {key!r}; a name has small letters, digits and _ alone",
                )
        return table

    def _arguments(self) -> tuple[str, ...]:
        signal = getattr(self.module, "signal", None)
        signal = signal.py_func if isinstance(signal, CPUDispatcher) else signal
        if not isinstance(signal, FunctionType) or "signal" not in self.functions:
            line = 1 if signal is None else self._line("signal")
            self.refuse(line, "no function signal(features..., parameters...) is defined here")
        line = self.functions["signal"].lineno
        for one in inspect.signature(signal).parameters.values():
            if one.kind is not one.POSITIONAL_OR_KEYWORD or one.default is not one.empty:
                self.refuse(line, f"signal: argument {one.name}: no *, ** or default values")
        return tuple(inspect.signature(signal).parameters)

    def declaration(self, name: str) -> CustomStrategy:
        """What the file declares, checked."""
        parameters = self._parameters(name)
        features = self._features(name, parameters)
        arguments = self._arguments()
        line = self.functions["signal"].lineno
        known = (*features, *parameters, *GIVEN_ARGUMENTS)
        for argument in arguments:
            if argument not in known:
                self.refuse(
                    line,
                    f"signal: unknown argument {argument}; valid: {', '.join(known)}; declare it in"
                    " FEATURES or PARAMETERS",
                )
        for argument in features:
            if argument not in arguments:
                self.refuse(
                    self._line("FEATURES", argument), f"FEATURES: signal does not take {argument}"
                )
        lookbacks = {lookback for _, lookback in features.values()}
        for argument in parameters:
            if argument not in arguments and argument not in lookbacks:
                self.refuse(
                    self._line("PARAMETERS", argument),
                    f"PARAMETERS: {argument} is neither a lookback nor an argument of signal",
                )
        custom = CustomStrategy(
            name=name,
            path=str(self.path),
            source_hash=self.hash,
            parameters=tuple(
                _parameter(key, *values, key in lookbacks) for key, values in parameters.items()
            ),
            features=tuple((key, *pair) for key, pair in features.items()),
            arguments=arguments,
        )
        for what, most, count in (
            ("features", layout.N_FEATURES, len(custom.features)),
            ("parameters", layout.N_SIGNALS, len(custom.signal_parameters)),
        ):
            if count > most:
                self.refuse(line, f"signal: takes {count} {what}; {most} is the most")
        return custom

    def _parameters(self, strategy: str) -> dict[str, tuple[Any, Any, Any]]:
        known = {
            *(column("risk", p.name) for p in RISK),
            *(column(c, p.name) for c, own in CLASSIFIERS.items() for p in own),
            *(column(s, p.name) for s, own in STRATEGIES.items() for p in own),
            *METRICS,
            *(f"oos_{metric}" for metric in METRICS),
            *_RESULT_COLUMNS,
        }
        table = self._table("PARAMETERS")
        for name, values in table.items():
            line = self._line("PARAMETERS", name)
            if not isinstance(values, tuple) or len(values) != 3 or not all(map(_number, values)):
                self.refuse(
                    line,
                    f"PARAMETERS: {name}: got {values!r}; expected (default, lowest, highest)",
                )
            default, low, high = values
            if not low <= default <= high:
                self.refuse(
                    line,
                    f"PARAMETERS: {name}: default {default} is not within {low} to {high}; the"
                    " order is (default, lowest, highest)",
                )
            if name in GIVEN_ARGUMENTS or name in ("name", "path"):
                self.refuse(line, f"PARAMETERS: {name} has a meaning already; give another name")
            if column(strategy, name) in known:
                self.refuse(
                    line,
                    f"PARAMETERS: {name}: the column {column(strategy, name)} is a built-in's; give"
                    " the parameter or the strategy another name",
                )
        return table

    def _features(
        self, strategy: str, parameters: Mapping[str, tuple[Any, Any, Any]]
    ) -> dict[str, tuple[str, str]]:
        features = {}
        built_in = [name for name in FEATURE_NAMES if name != "close"]
        for name, value in self._table("FEATURES").items():
            line = self._line("FEATURES", name)
            if not isinstance(value, tuple) or len(value) != 2 or not isinstance(value[1], str):
                self.refuse(
                    line,
                    f"FEATURES: {name}: got {value!r}; expected (feature, its lookback parameter)",
                )
            if name in GIVEN_ARGUMENTS or name in parameters:
                self.refuse(line, f"FEATURES: {name} has a meaning already; give another name")
            feature, lookback = value
            if lookback not in parameters:
                self.refuse(
                    line,
                    f"FEATURES: {name}: lookback {lookback!r} is not in PARAMETERS;"
                    f" valid: {', '.join(parameters)}",
                )
            least = 1
            if isinstance(feature, FunctionType):
                self._check_feature(feature, line)
                feature = f"{strategy}.{feature.__name__}"
            elif feature in built_in:
                least = least_lookback(feature)
            else:
                self.refuse(
                    line,
                    f"FEATURES: {name}: unknown feature {feature!r}; valid: {', '.join(built_in)},"
                    " or a function of this file",
                )
            _, low, high = parameters[lookback]
            whole = all(isinstance(one, int) for one in parameters[lookback])
            if not whole or low < least or high > MAX_LOOKBACK:
                self.refuse(
                    self._line("PARAMETERS", lookback),
                    f"PARAMETERS: {lookback} is the lookback of {name}: expected whole numbers from"
                    f" {least} to {MAX_LOOKBACK}",
                )
            features[name] = (feature, lookback)
        return features

    def _check_feature(self, function: FunctionType, line: int) -> None:
        if function.__module__ != self.module.__name__ or function.__name__ not in self.functions:
            self.refuse(line, f"FEATURES: {function.__name__}: define it in this file, with def")
        line = function.__code__.co_firstlineno
        for one in inspect.signature(function).parameters.values():
            if one.name not in (*BAR_FIELDS, "lookback") or one.kind is not (
                one.POSITIONAL_OR_KEYWORD
            ):
                self.refuse(
                    line,
                    f"feature {function.__name__}: unknown argument {one.name}; valid:"
                    f" {', '.join(BAR_FIELDS)}, lookback",
                )


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _line_of(error: BaseException, path: Path) -> int | None:
    """The innermost line of a file that an error went through."""
    found, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            found = trace.tb_lineno
        trace = trace.tb_next
    return found


def _say(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__


# --- Compilation --------------------------------------------------------------------------------


def _folder() -> Path:
    folder = Path(os.environ["NUMBA_CACHE_DIR"]) / "strategies"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _remove_old() -> None:
    """Remove strategies beyond the youngest, with what numba keeps of them beside the folder."""
    with contextlib.suppress(OSError):
        used = sorted(
            ((path.stat().st_mtime, path.parent) for path in _folder().glob("*/checked")),
            reverse=True,
        )
        for last_use, path in used[KEPT_STRATEGIES:]:
            if time.time() - last_use > IDLE_SECONDS:
                for one in (path, *path.parent.parent.glob(f"{path.name}_*")):
                    shutil.rmtree(one, ignore_errors=True)


def _kernels(custom: CustomStrategy, source: _Source) -> CustomKernels:
    signal, frozen = _compiled_signal(source)
    adapter = _adapter(custom)
    simulation = _simulation()
    key = hashlib.sha256(
        "\0".join((source.hash, adapter, simulation, *frozen)).encode()
    ).hexdigest()[:20]
    # Modules of files that stay as they are: by these numba knows what it has compiled.
    folder = _folder() / key
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
    )


def _problem(
    custom: CustomStrategy, adapter: ModuleType, source: _Source, given: tuple[float, ...]
) -> str:
    said = adapter.said(*given)
    if adapter.user_signal(*given) == said:
        return ""
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
    direction, strength, confidence = said
    return (
        f"{shown(source.path)}:{source.functions['signal'].lineno}: signal: direction {direction:g},"
        f" strength {strength:g}, confidence {confidence:g} with {values}; expected LONG, SHORT,"
        " FLAT or HOLD, a finite strength of 0 or more, a confidence from 0 to 1:"
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
    return f'''"""{custom.name}, in the place of kernels.user_signal. Written by optimizer.custom."""

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


def _compiled_signal(source: _Source) -> tuple[Any, list[str]]:
    """``signal`` as a numba function not compiled yet, and what numba will freeze into it.

    Functions of the file that it calls are made numba functions too.
    """
    frozen: list[str] = []
    done: dict[str, Any] = {}

    def visit(name: str) -> Any:
        value = getattr(source.module, name)
        function = value.py_func if isinstance(value, CPUDispatcher) else value
        _check_syntax(source, name)
        done[name] = jit_into_callers(function)
        for used in sorted(_names(function.__code__)):
            if used in _IMPURE:
                source.refuse(
                    _line_naming(source, name, used), f"{name}: {used}: not a pure function"
                )
            if used in done or used not in vars(source.module):
                continue
            other = vars(source.module)[used]
            own = other.py_func if isinstance(other, CPUDispatcher) else other
            if isinstance(own, FunctionType):
                if own.__module__ == source.module.__name__:
                    visit(used)
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


def _line_naming(source: _Source, function: str, name: str) -> int:
    node = source.functions[function]
    for one in ast.walk(node):
        if (isinstance(one, ast.Name) and one.id == name) or (
            isinstance(one, ast.Attribute) and one.attr == name
        ):
            return one.lineno
    return node.lineno


def _check_syntax(source: _Source, function: str) -> None:
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


def _compile(adapter: ModuleType, signal: Any, source: _Source) -> None:
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


def _line_in(text: str, source: _Source) -> int | None:
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


def _reason(text: str, source: _Source) -> str:
    """The part of numba's page that says what is wrong."""
    code = {line.strip() for line in source.content.decode(errors="replace").splitlines()}
    skipped = ("Failed in", "During:", "File ", "<source", "There are", "- ", "Overload", "^")
    lines = [line.strip() for line in text.splitlines()]
    useful = [line for line in lines if line not in code and not line.startswith(skipped)]
    reason = " ".join(useful[:3]) or " ".join(text.split())
    reason = re.sub(r"Function\(<(?:built-in )?function (\w+)[^>]*>\)", r"\1()", reason)
    return reason.replace(" >>>", "").replace("unicode_type", "text")[:240].rstrip(" :")
