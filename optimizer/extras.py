"""Optional packages, and the command that installs each."""

from __future__ import annotations

import importlib
from typing import Any

from optimizer.errors import DataError


def optional_module(name: str, extra: str) -> Any:
    """A module of an optional dependency.

    Args:
        name: the name of the module.
        extra: the extra of barsweep that installs it.

    Raises:
        DataError: it is not installed; says how to install it.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        raise DataError(
            f"{name.replace('_', '-')} is not installed; install it with: pip install"
            f" 'barsweep[{extra}]'"
        ) from None
