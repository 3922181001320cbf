"""The numba decorators of every kernel."""

from collections.abc import Callable
from typing import TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., object])


def jit(function: F) -> F:
    """Compile ``function`` in nopython mode, cached on disk, GIL released.

    ``fastmath`` stays off: it would let the compiler reorder sums, and one parameter set must give
    the same bits whatever block of lanes it is computed in. ``error_model="numpy"`` makes a division
    by zero inf or NaN instead of a branch, which would stop vectorization.
    """
    return cast(F, numba.njit(cache=True, nogil=True, fastmath=False, error_model="numpy")(function))


def jit_borrowing(function: F) -> F:
    """As ``jit``, for functions that only borrow their arrays: they allocate and slice nothing.

    Without numba's run time for array ownership no references are counted. Counting is an atomic
    operation for each array on each call, more than the work of a small block of lanes.
    """
    return cast(
        F,
        numba.njit(cache=True, nogil=True, fastmath=False, error_model="numpy", _nrt=False)(function),
    )
