"""Run the file of a user's strategy, and name the place of each mistake in it.

This is the one place where a strategy's source becomes running code, so here it must be approved.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import logging
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, ModuleType
from typing import NoReturn

import numpy as np
from numba.core.registry import CPUDispatcher

from optimizer.errors import StrategyError, escaped
from optimizer.strategies.approvals import is_accepted, require_approval
from optimizer.strategies.user_source import Neighbours, StrategySource
from optimizer.text import list_text, path_text


@contextlib.contextmanager
def users_code() -> Iterator[None]:
    """Run a user's Python code inside, so that it can neither end nor change the program unnoticed.

    ``os._exit`` raises SystemExit, except in a fork or another thread. Printed text goes to stderr. The
    working folder and numpy's error handling are restored afterwards.
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
    """A user's file, run. Its path is announced first.

    Args:
        path: the path of the file.
        source: its content, and the modules next to it.

    Raises:
        UntrustedCodeError: its content is not approved.
        StrategyError: it is not Python, or fails when it is run.
    """

    def __init__(self, path: Path, source: StrategySource) -> None:
        self.path = path
        self.source = source
        self.hash = source.hash
        self.neighbours = Neighbours(path.parent, source.modules)
        require_approval(path, self.hash)
        _announce(path, source)
        try:
            self.tree = ast.parse(source.content, str(path))
            code = compile(source.content, str(path), "exec", dont_inherit=True)
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
            with users_code(), self.neighbours:
                exec(code, self.module.__dict__)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            what = "ended the program: " if isinstance(error, SystemExit) else ""
            self.refuse(line_of(error, path) or 1, f"running the file: {what}{said_by(error)}")

    def refuse(self, line: int, message: str) -> NoReturn:
        """Raise a StrategyError with a line of the file.

        Args:
            line: counted from 1.
            message: what is wrong, and the fix.
        """
        raise StrategyError(f"{path_text(self.path)}:{line}: {message}")

    def function(self, name: str) -> FunctionType | None:
        """A function that the file defines; that of Python where numba has compiled it.

        Args:
            name: its name.

        Returns:
            None if there is none.
        """
        found = getattr(self.module, name, None)
        found = found.py_func if isinstance(found, CPUDispatcher) else found
        return found if isinstance(found, FunctionType) and name in self.functions else None

    def arguments(self, name: str) -> tuple[str, ...]:
        """The arguments of a function that the file defines, in order.

        Args:
            name: its name.

        Raises:
            StrategyError: one of them is not a plain argument; names it.
        """
        function = self.function(name)
        assert function is not None
        arguments = inspect.signature(function).parameters
        for one in arguments.values():
            if one.kind is not one.POSITIONAL_OR_KEYWORD or one.default is not one.empty:
                self.refuse(
                    self.functions[name].lineno,
                    f"{name}: argument {one.name}: no *, ** or default values",
                )
        return tuple(arguments)

    def line_of_key(self, variable: str, key: str | None = None) -> int:
        """The line of the assignment of a variable, or of a key in its dict; 1 if it is not assigned.

        Args:
            variable: name in the module.
            key: the key of the dict; None for the assignment.
        """
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


def _announce(path: Path, source: StrategySource) -> None:
    """Say whose code is about to run: by the command line's own logger, else on standard error.

    A worker says nothing: its parent has said it.
    """
    files = [path, *(path.parent / name for name, _ in source.modules)]
    text = f"runs code from {list_text(map(path_text, files))}"
    log = logging.getLogger("barsweep.code")
    log.info("%s", text)
    if not log.handlers and not is_accepted(source.hash):
        print(escaped(text), file=sys.stderr, flush=True)


def line_of(error: BaseException, path: Path) -> int | None:
    """The innermost line of a file in the traceback of an error; None if it is not there.

    Args:
        error: raised by the user's code.
        path: the path of the file.
    """
    found, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            found = trace.tb_lineno
        trace = trace.tb_next
    return found


def said_by(error: BaseException) -> str:
    """The type and message of an error on one line.

    Args:
        error: raised by the user's code.
    """
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__
