"""Versions of the software that results depend on."""

from __future__ import annotations

import platform
from importlib.metadata import version


def software_versions() -> dict[str, str]:
    """The versions of Python and the packages that results depend on, by name."""
    packages = (
        "barsweep",
        "numba",
        "numpy",
        "optuna",
        "cmaes",
        "scikit-learn",
        "scipy",
    )
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
