"""The source of a strategy: the file that the user names, and the modules next to it that it imports.

What is approved, recorded and copied is all of this, so a module that is swapped is noticed like an
edit of the file itself. The modules are those that import statements name, anywhere in the source. An
import that finds another file of the folder at run time, by a changed ``sys.path``, is refused.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Self

from optimizer.errors import StrategyError
from optimizer.text import path_text

MOST_BYTES = 2_000_000
"""A longer file is refused before it is read."""

MOST_MODULES = 200
"""Modules next to a strategy that it imports."""

_NEVER_NEXT = frozenset({*sys.stdlib_module_names, "kernels", "numba", "numpy", "optimizer"})
"""Modules that a file of that name does not replace."""


@dataclass(frozen=True)
class StrategySource:
    """All code of a strategy that runs.

    Attributes:
        content: the content of its file.
        modules: path, relative to the folder of the file, and content of each module, in order of paths.
    """

    content: bytes
    modules: tuple[tuple[str, bytes], ...] = ()

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the file, or of the hashes of the file and of its modules."""
        own = hashlib.sha256(self.content).hexdigest()
        if not self.modules:
            return own
        parts = [[name, hashlib.sha256(text).hexdigest()] for name, text in self.modules]
        # No Python file begins with a null byte, so none has the hash of a file with its modules.
        return hashlib.sha256(b"\0" + json.dumps([own, parts]).encode()).hexdigest()


def source_hash(path: str | Path) -> str:
    """The SHA-256 of a strategy's source.

    Args:
        path: the path of the strategy's file.

    Raises:
        StrategyError: it cannot be read.
    """
    return read_source(Path(path)).hash


def read_source(path: Path) -> StrategySource:
    """The source of a strategy. Runs no code.

    Args:
        path: the path of the strategy's file.

    Raises:
        StrategyError: a file cannot be read, or there are too many.
    """
    content = _read(path, "; [strategy] path is relative to the study file's folder")
    modules: dict[str, bytes] = {}
    waiting: list[tuple[Sequence[str], bytes]] = [((), content)]
    while waiting:
        package, text = waiting.pop()
        for name in _imported(text, package):
            for file in _files_of(path.parent, name):
                if file in modules:
                    continue
                if len(modules) == MOST_MODULES:
                    raise StrategyError(
                        f"{path_text(path)}: imports more than {MOST_MODULES} modules next to it; install"
                        " them as a package"
                    )
                modules[file] = _read(path.parent / file)
                waiting.append((file.split("/")[:-1], modules[file]))
    return StrategySource(content, tuple(sorted(modules.items())))


def _read(path: Path, hint: str = "") -> bytes:
    try:
        # A device or a pipe would be read forever.
        if path.exists() and not path.is_file():
            raise StrategyError(f"{path_text(path)}: not a file; expected a Python file")
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except StrategyError:
        raise
    except FileNotFoundError:
        raise StrategyError(f"{path_text(path)}: no such file{hint}") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = getattr(error, "strerror", None) or error
        raise StrategyError(f"{path_text(path)}: cannot be read: {reason}") from None
    if len(content) > MOST_BYTES:
        raise StrategyError(
            f"{path_text(path)}: has more than {MOST_BYTES / 1e6:.0f} MB; keep data in a file"
            " of their own"
        )
    return content


def _imported(text: bytes, package: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Dotted names, in parts, of the modules that a source imports or imports names from.

    Args:
        text: the source; one that is not Python imports nothing.
        package: parts of the package that the module is in; empty for one at the top.
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (tuple(one.name.split(".")) for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = (*above, *(node.module.split(".") if node.module else ()))
            if node.level <= len(package):
                yield from ((*base, one.name) for one in node.names)


def _files_of(folder: Path, name: tuple[str, ...]) -> Iterator[str]:
    """Files next to a strategy that an import of a module runs, in Python's own order."""
    if name[0] in _NEVER_NEXT:
        return
    for length in range(1, len(name) + 1):
        place = "/".join(name[:length])
        if os.path.isfile(folder / place / "__init__.py"):
            yield f"{place}/__init__.py"
        elif os.path.isfile(folder / f"{place}.py"):
            yield f"{place}.py"
            return
        elif not os.path.isdir(folder / place):
            return


class Neighbours(MetaPathFinder, Loader):
    """Finds the modules next to a strategy while its code runs. A context manager.

    They run from the content that was approved, and other code of this process does not see them: two
    strategies may each have a module of one name.

    Args:
        folder: the folder of the strategy's file.
        modules: the modules as ``StrategySource`` has them.
    """

    def __init__(self, folder: Path, modules: Sequence[tuple[str, bytes]]) -> None:
        self._folder = folder
        self._modules: Mapping[str, bytes] = dict(modules)
        self._names = {file.split("/")[0].removesuffix(".py") for file in self._modules}
        self._loaded: dict[str, ModuleType] = {}
        self._hidden: dict[str, ModuleType] = {}
        self._installed: list[Path] = []
        self._searched: tuple[str, ...] = ()

    def __enter__(self) -> Self:
        searched = (os.getcwd(), *sys.path)
        if searched != self._searched:  # which takes milliseconds, and code may run at every bar
            here = {Path.cwd(), self._folder.resolve()}
            entries = (Path(entry) for entry in sys.path if os.path.isabs(entry))
            self._installed = [entry for entry in entries if entry.resolve() not in here]
            self._searched = searched
        self._hidden = self._taken()
        sys.modules.update(self._loaded)
        sys.meta_path.insert(0, self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self in sys.meta_path:  # else the user's code took it out
            sys.meta_path.remove(self)
        self._loaded = self._taken()
        sys.modules.update(self._hidden)

    def _taken(self) -> dict[str, ModuleType]:
        """Takes modules with the same names as those next to the strategy out of Python's list."""
        if not self._names:
            return {}
        names = [name for name in sys.modules if name.split(".")[0] in self._names]
        return {name: sys.modules.pop(name) for name in names}

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Where a module is; None if it is not one of the strategy's.

        Args:
            fullname: the full name of the module.
            path: the path of its package.
            target: the module, if it is loaded again.

        Raises:
            ImportError: it is another file in the folder.
        """
        place = fullname.replace(".", "/")
        for file in (f"{place}/__init__.py", f"{place}.py"):
            if file in self._modules:
                spec = ModuleSpec(
                    fullname,
                    self,
                    origin=str(self._folder / file),
                    is_package=file != f"{place}.py",
                )
                spec.has_location = True
                return spec
        if any(file.startswith(f"{place}/") for file in self._modules):
            return ModuleSpec(fullname, self, is_package=True)  # a folder without __init__.py
        if path is None:
            self._refuse_unknown(fullname)
        return None

    def _refuse_unknown(self, name: str) -> None:
        """Refuse to import a file of the folder that no import statement of the strategy names."""
        spec = PathFinder.find_spec(name)
        if spec is None or spec.origin is None or not os.path.isabs(spec.origin):
            return
        origin = Path(spec.origin)
        inside = origin.resolve().is_relative_to(self._folder.resolve())
        if inside and not any(origin.is_relative_to(entry) for entry in self._installed):
            why = (
                "has the name of a package that strategies use; rename it"
                if name in _NEVER_NEXT
                else "is no module that an import statement finds next to the strategy, so it is not"
                " part of what is approved; name it so, as in `import folder.module`"
            )
            raise ImportError(f"{path_text(origin)}: {why}")

    def exec_module(self, module: ModuleType) -> None:
        """Run a module.

        Args:
            module: the module that ``find_spec`` found.
        """
        place = module.__name__.replace(".", "/")
        for file in (f"{place}/__init__.py", f"{place}.py"):
            if file in self._modules:
                code = compile(
                    self._modules[file], str(self._folder / file), "exec", dont_inherit=True
                )
                exec(code, vars(module))
                return
