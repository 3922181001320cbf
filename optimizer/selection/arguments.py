"""Checks of arguments that the statistics share."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from optimizer.types import FloatArray

Number = TypeVar("Number", float, FloatArray)
"""One number, or one for each of several parameter sets."""


def as_returns(returns: npt.ArrayLike, n_dimensions: int) -> FloatArray:
    """Returns as an array of floats, checked.

    Args:
        returns: the returns per bar.
        n_dimensions: 1 for (n_obs,), 2 for (n_bars, n_sets).

    Returns:
        Floats of the shape of ``returns``.

    Raises:
        ValueError: another shape, fewer than two rows, or a return that is not finite.
    """
    values = np.asarray(returns, np.float64)
    shape = ("(n_obs,)", "(n_bars, n_sets)")[n_dimensions - 1]
    if values.ndim != n_dimensions or len(values) < 2 or not values.size:
        raise ValueError(
            f"returns must be {shape} with two rows or more (got shape {values.shape})"
        )
    require_finite("returns", values, ("bar", "set"))
    return values


def require_finite(name: str, values: FloatArray, axes: tuple[str, ...]) -> None:
    """Refuse values that are not finite.

    Args:
        name: the name of the argument.
        values: the values of any shape.
        axes: what each axis counts, in the singular.

    Raises:
        ValueError: names the first value that is not finite, and its place.
    """
    # The sum is finite if all values are and do not overflow: no array of flags in the usual case.
    if np.isfinite(values.sum()) or np.isfinite(values).all():
        return
    place = np.argwhere(~np.isfinite(values))[0]
    where = ", ".join(f"{axis} {index}" for axis, index in zip(axes, place, strict=False))
    raise ValueError(f"{name} must be finite (got {values[tuple(place)]} at {where})")


def require(name: str, value: Any, holds: Any, rule: str) -> None:
    """Refuse an argument that breaks its rule.

    Args:
        name: the name of the argument.
        value: a number, or an array of them.
        holds: whether each value keeps the rule.
        rule: the rule in words, to follow "must be".

    Raises:
        ValueError: names the first value that breaks the rule.
    """
    wrong = ~np.asarray(holds, np.bool_)
    if wrong.any():
        bad = np.broadcast_to(np.asarray(value), wrong.shape)[wrong]
        raise ValueError(f"{name} must be {rule} (got {name}={bad.ravel()[0]:g})")


def scalar_or_array(value: Any) -> Any:
    """A plain float for an array without dimensions, otherwise the array.

    Args:
        value: a number, or an array of any shape.
    """
    array = np.asarray(value, np.float64)
    return array if array.ndim else float(array)
