"""The file of a user's strategy: run, and what it declares checked, with the place of each mistake."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import inspect
import math
import os
import re
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, NoReturn

import numpy as np
from numba.core.registry import CPUDispatcher

from kernels import layout
from optimizer.catalogue import (
    CLASSIFIERS,
    METRICS,
    RISK,
    SET_COLUMNS,
    STRATEGIES,
    Parameter,
    column,
)
from optimizer.errors import StrategyError
from optimizer.market.features import FEATURE_NAMES, MAX_LOOKBACK, least_lookback
from optimizer.text import shown

GIVEN_ARGUMENTS = ("close", "volatility", "inverse_volatility")
"""Arguments of ``signal`` that need no declaration."""

BAR_FIELDS = ("open", "high", "low", "close", "volume")
"""Arguments that a feature's function may have, beside ``lookback``."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")


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
                # A list: their order is that of columns, and JSON may be written with sorted keys.
                "parameters": [[p.name, p.default, p.low, p.high] for p in self.parameters],
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
            _parameter(str(name), default, low, high, name in lookbacks)
            for name, default, low, high in declared["parameters"]
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


def source_hash(path: str | Path) -> str:
    """SHA-256 of a strategy's file.

    Raises:
        StrategyError: it cannot be read.
    """
    return hashlib.sha256(read_bytes(Path(path))).hexdigest()


def read_bytes(path: Path) -> bytes:
    """Content of a strategy's file.

    Raises:
        StrategyError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise StrategyError(
            f"{shown(path)}: no such file; [strategy] path counts from the study file's folder"
        ) from None
    except OSError as error:
        raise StrategyError(f"{shown(path)}: cannot be read: {error.strerror or error}") from None


@contextlib.contextmanager
def users_code() -> Iterator[None]:
    """While a user's Python code runs: it neither ends nor disturbs the program unnoticed.

    ``os._exit`` raises SystemExit (not in a fork or another thread, which it is for), what is printed
    goes to stderr, and the working folder and numpy's way with errors are afterwards what they were.
    """
    leave, process, thread = os._exit, os.getpid(), threading.get_ident()
    folder = os.getcwd()

    def refuse(status: int) -> NoReturn:
        if (os.getpid(), threading.get_ident()) != (process, thread):
            leave(status)
        raise SystemExit(status)

    os._exit = refuse
    try:
        with contextlib.redirect_stdout(sys.stderr), np.errstate():
            yield
    finally:
        os._exit = leave
        if os.getpid() == process:
            os.chdir(folder)


class StrategyFile:
    """A user's file that has been run.

    Args:
        path: in messages.
        content: of the file.

    Raises:
        StrategyError: it is not Python, or fails when it is run.
    """

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
            with users_code():
                exec(code, self.module.__dict__)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            what = "ended the program: " if isinstance(error, SystemExit) else ""
            self.refuse(line_of(error, path) or 1, f"running the file: {what}{said_by(error)}")

    def refuse(self, line: int, message: str) -> NoReturn:
        """Raise a StrategyError with a line of the file."""
        raise StrategyError(f"{shown(self.path)}:{line}: {message}")

    def line_of_key(self, variable: str, key: str | None = None) -> int:
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
            self.refuse(self.line_of_key(variable), f"{variable}: expected a dict such as {form}")
        for key in table:
            if not _NAME.fullmatch(key):
                self.refuse(
                    self.line_of_key(variable, key),
                    f"{variable}: got {key!r}; a name has small letters, digits and _ alone",
                )
        return table

    def _arguments(self) -> tuple[str, ...]:
        signal = getattr(self.module, "signal", None)
        signal = signal.py_func if isinstance(signal, CPUDispatcher) else signal
        if not isinstance(signal, FunctionType) or "signal" not in self.functions:
            line = 1 if signal is None else self.line_of_key("signal")
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
                    self.line_of_key("FEATURES", argument),
                    f"FEATURES: signal does not take {argument}",
                )
        lookbacks = {lookback for _, lookback in features.values()}
        for argument in parameters:
            if argument not in arguments and argument not in lookbacks:
                self.refuse(
                    self.line_of_key("PARAMETERS", argument),
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
            ("features", layout.MAX_USER_FEATURES, len(custom.features)),
            ("parameters", layout.MAX_SIGNAL_PARAMETERS, len(custom.signal_parameters)),
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
            *SET_COLUMNS,
        }
        table = self._table("PARAMETERS")
        for name, values in table.items():
            line = self.line_of_key("PARAMETERS", name)
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
            line = self.line_of_key("FEATURES", name)
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
                    self.line_of_key("PARAMETERS", lookback),
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


def line_of(error: BaseException, path: Path) -> int | None:
    """The innermost line of a file that an error went through."""
    found, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            found = trace.tb_lineno
        trace = trace.tb_next
    return found


def said_by(error: BaseException) -> str:
    """An error on one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__
