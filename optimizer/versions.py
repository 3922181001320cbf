"""Versions of the software that results depend on."""

from __future__ import annotations

import platform
from importlib.metadata import version


def software_versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    packages = (
        "barsweep",
        "numba",
        "numpy",
        "optuna",
        "cmaes",
        "scikit-learn",
        "hmmlearn",
        "scipy",
    )
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
