"""Check a user's signal before it is compiled, and explain what numba refuses."""

from __future__ import annotations

import ast
import hashlib
import inspect
import os
import re
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
from numba.core import types as numba_types
from numba.core.registry import CPUDispatcher

from kernels._jit import jit_into_callers
from optimizer.errors import StrategyError
from optimizer.strategies.user_file import StrategyFile

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

_STATEFUL = ("random", "secrets", "time", "datetime", "os", "uuid", "numpy.random")
"""Modules that answer differently to the same question."""

_IMPURE = ("print", "open", "input", "random", "globals", "eval", "exec")


def compiled_signal(source: StrategyFile) -> tuple[Any, list[str]]:
    """Turn ``signal``, and the functions of the file that it calls, into numba functions.

    Args:
        source: the user's file.

    Returns:
        ``signal``, not compiled yet, and the global values that numba will compile into it, as text.

    Raises:
        StrategyError: it is not a pure function of numbers; names the place in the user's file.
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
                    " a recursion that runs too deep: use a loop that ends",
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
            elif _keeps_a_state(own):
                source.refuse(
                    _line_naming(source, name, used),
                    f"{name}: {used} is of {_home(own)}: not a pure function of its arguments",
                )
            elif not isinstance(own, (ModuleType, type)):
                frozen.append(f"{used}={own!r}")
        setattr(source.module, name, done[name])
        return done[name]

    # The module keeps the Python function as ``signal``; only its helpers are replaced.
    signal = vars(source.module)["signal"]
    compiled = visit("signal")
    vars(source.module)["signal"] = signal
    return compiled, frozen


def _keeps_a_state(value: object) -> bool:
    """Whether a module, or a function of one, may answer differently to the same question."""
    if not isinstance(value, (ModuleType, BuiltinFunctionType, MethodType)):
        return False
    owner = getattr(value, "__self__", None)
    # A method, such as those of the generators behind random.gauss and numpy.random.rand.
    bound = owner is not None and not isinstance(owner, ModuleType)
    return bound or _home(value).startswith(_STATEFUL)


def _home(value: object) -> str:
    """The module that a value is, or that it comes from."""
    if isinstance(value, ModuleType):
        return value.__name__
    return str(
        getattr(value, "__module__", None) or type(getattr(value, "__self__", value)).__name__
    )


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
    """Refuse syntax that numba accepts but a pure function of numbers must not contain."""
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


def compile_module(adapter: ModuleType, signal: Any, source: StrategyFile) -> None:
    """Compile the scalar forms, so that a mistake is reported before the simulation compiles.

    Args:
        adapter: the module that takes the place of ``kernels.user_signal``.
        signal: the signal that ``compiled_signal`` returned.
        source: the user's file.

    Raises:
        StrategyError: numba refuses the function, or it does not return three numbers.
    """
    node = source.functions["signal"]
    returns = [one for one in ast.walk(node) if isinstance(one, ast.Return)]
    # Among several returns, report the one that is not a tuple.
    odd = [one for one in returns if not isinstance(one.value, ast.Tuple)] or returns
    line = odd[0].lineno if odd else node.lineno
    expected = "expected three numbers: (direction, strength, confidence)"
    try:
        signal.compile((numba_types.float64,) * len(inspect.signature(signal.py_func).parameters))
        found = signal.nopython_signatures[0].return_type
        if isinstance(found, (numba_types.Optional, numba_types.NoneType)):
            source.refuse(node.lineno, f"signal: can end without a return; {expected}")
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
            source.refuse(line, f"signal: its returns have different types; {expected}")
        message = (
            f"signal: cannot be compiled: {_reason(text, source)}; use only numbers, comparisons,"
            " math, if and tuples"
        )
        source.refuse(_line_in(text, source) or node.lineno, message)


def _line_in(text: str, source: StrategyFile) -> int | None:
    """The line that numba's message is about: the last one named, or that of a quoted name."""
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
    """The part of numba's message that names the problem."""
    code = {line.strip() for line in source.source.content.decode(errors="replace").splitlines()}
    skipped = ("Failed in", "During:", "File ", "<source", "There are", "- ", "Overload", "^")
    lines = [line.strip() for line in text.splitlines()]
    useful = [line for line in lines if line not in code and not line.startswith(skipped)]
    reason = " ".join(useful[:3]) or " ".join(text.split())
    reason = re.sub(r"Function\(<(?:built-in )?function (\w+)[^>]*>\)", r"\1()", reason)
    return reason.replace(" >>>", "").replace("unicode_type", "text")[:240].rstrip(" :")
