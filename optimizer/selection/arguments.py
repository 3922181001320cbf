"""Checks of the arguments that the tests share."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from optimizer.types import FloatArray

Number = TypeVar("Number", float, FloatArray)
"""One number, or one for each of several parameter sets."""


def as_returns(returns: npt.ArrayLike, n_dimensions: int) -> FloatArray:
    """Returns as a float array of the expected number of dimensions, checked."""
    values = np.asarray(returns, np.float64)
    shape = ("(n_obs,)", "(n_bars, n_sets)")[n_dimensions - 1]
    if values.ndim != n_dimensions or len(values) < 2 or not values.size:
        raise ValueError(
            f"returns must be {shape} with two rows or more (got shape {values.shape})"
        )
    require_finite("returns", values, ("bar", "set"))
    return values


def require_finite(name: str, values: FloatArray, axes: tuple[str, ...]) -> None:
    """Refuse values that are not finite, naming the first by its axes."""
    # The sum is finite if all values are and do not overflow: no array of flags in the usual case.
    if np.isfinite(values.sum()) or np.isfinite(values).all():
        return
    place = np.argwhere(~np.isfinite(values))[0]
    where = ", ".join(f"{axis} {index}" for axis, index in zip(axes, place, strict=False))
    raise ValueError(f"{name} must be finite (got {values[tuple(place)]} at {where})")


def require(name: str, value: Any, holds: Any, rule: str) -> None:
    """Raise where ``holds`` is not true for a value."""
    wrong = ~np.asarray(holds, np.bool_)
    if wrong.any():
        bad = np.broadcast_to(np.asarray(value), wrong.shape)[wrong]
        raise ValueError(f"{name} must be {rule} (got {name}={bad.ravel()[0]:g})")


def scalar_or_array(value: Any) -> Any:
    """A plain float of an array without dimensions, else the array."""
    array = np.asarray(value, np.float64)
    return array if array.ndim else float(array)
