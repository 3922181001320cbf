"""The numba decorators of every kernel."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., object])

_OPTIONS: dict[str, Any] = {
    "cache": True,
    "nogil": True,
    "fastmath": False,
    "error_model": "numpy",
}


def jit(function: F) -> F:
    """Compile ``function`` in nopython mode, cached on disk, GIL released.

    ``fastmath`` stays off: it would let the compiler reorder sums, and one parameter set must give
    the same bits whatever block of lanes it is computed in. ``error_model="numpy"`` makes a
    division by zero inf or NaN instead of a branch, which would stop vectorization.
    """
    return cast(F, numba.njit(**_OPTIONS)(function))


def jit_borrowing(function: F) -> F:
    """As ``jit``, for functions that only borrow their arrays: they allocate and slice nothing.

    Without numba's run time for array ownership no references are counted. Counting is an atomic
    operation for each array on each call, more than the work of a small block of lanes.
    """
    # `_nrt` is an option of numba that its type stubs leave out.
    options: dict[str, Any] = {**_OPTIONS, "_nrt": False}
    return cast(F, numba.njit(**options)(function))


def jit_into_callers(function: Callable[..., object]) -> Any:
    """For a user's function of numbers, compiled into its callers alone, which are cached.

    An index out of range raises: numba would read whatever lies there.
    """
    options: dict[str, Any] = {
        **_OPTIONS,
        "cache": False,
        "forceinline": True,
        "boundscheck": True,
        "_nrt": False,
    }
    return numba.njit(**options)(function)
