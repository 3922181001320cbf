"""The working folder is data: no program that barsweep starts imports from it or is set up by it.

A study's folder may come from a stranger, and a user works in it. Python puts the working folder first
on the path of what it starts with ``-m`` or ``-c``, as joblib starts workers, and numba reads settings
from a file there that can name any other file to be written.
"""

from __future__ import annotations

import contextlib
import importlib.machinery
import os
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

NUMBA_FILE = ".numba_config.yaml"
"""The file of the working folder that numba would obey."""

_CONFIG = "numba.core.config"
_SAFE_PATH = "PYTHONSAFEPATH"

_lock = threading.Lock()
_before: list[str | None] = []
"""What the variable was before each block that is open; the first entry is the user's own."""


@contextlib.contextmanager
def safe_children() -> Iterator[None]:
    """Python processes that are started within the block import nothing from the working folder.

    It holds for those that other packages start as well, whose command lines are theirs: the environment
    says so. Blocks may overlap, in several threads too; after the last one the variable is as before.
    """
    with _lock:
        _before.append(os.environ.get(_SAFE_PATH))
        os.environ[_SAFE_PATH] = _before[0] or "1"
    try:
        yield
    finally:
        with _lock:
            own = _before[0]
            _before.pop()
            if not _before and own is not None:
                os.environ[_SAFE_PATH] = own
            elif not _before:
                os.environ.pop(_SAFE_PATH, None)


def leave_working_folder() -> None:
    """Import nothing from the working folder from now on: relative entries of the path name it.

    ``python -c`` and an interactive Python have one, and so has an editable installation. The path is the
    whole process's, so only the command line does this. Workers get the path of their parent.
    """
    sys.path[:] = [entry for entry in sys.path if os.path.isabs(entry)]


def ignore_numba_file() -> None:
    """Make numba ignore its file in the working folder, in this process and from now on.

    Where numba is imported later, it never reads the file. numba looks for it at each compilation, so
    it is not enough that there is none now.
    """
    config: Any = sys.modules.get(_CONFIG)
    if config is not None:
        config._config_fname = ""
    elif not any(isinstance(one, _ConfigFinder) for one in sys.meta_path):
        sys.meta_path.insert(0, _ConfigFinder())


class _ConfigFinder:
    """Finds numba's module of settings, and changes how it is executed; knows no other module."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != _CONFIG:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            loader: Any = spec.loader
            execute = loader.exec_module
            loader.exec_module = lambda module: _execute(execute, module)
        return spec


def _execute(execute: Any, module: Any) -> None:
    # The module reads the file as it is executed. Without a package that reads YAML it only warns.
    known = sys.modules.get("yaml")
    sys.modules["yaml"] = None  # type: ignore[assignment]
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "A Numba config file is found")
            execute(module)
    finally:
        del sys.modules["yaml"]
        if known is not None:
            sys.modules["yaml"] = known
    module._config_fname = ""
