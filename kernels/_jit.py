"""The numba decorators of every kernel."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

from kernels._linked import LINKED, TwoFormDispatcher

F = TypeVar("F", bound=Callable[..., object])

_OPTIONS: dict[str, Any] = {
    "cache": True,
    "nogil": True,
    "fastmath": False,
    "error_model": "numpy",
    "no_cfunc_wrapper": True,
}
_LANES: dict[str, Any] = {
    **_OPTIONS,
    "_nrt": False,
    **LINKED,
}


def jit(function: F) -> F:
    """Compile ``function`` in nopython mode, cached on disk, GIL released.

    ``fastmath`` stays off: it would let the compiler reorder sums, and a parameter set must give the
    same bits in any block of lanes. With ``error_model="numpy"`` a division by zero gives inf or NaN
    instead of a branch that raises, which would prevent vectorization.

    Args:
        function: a function of numbers and arrays.

    Returns:
        The compiled function.
    """
    options = {name: value for name, value in _OPTIONS.items() if name != "cache"}
    compiled = TwoFormDispatcher(function, targetoptions={**options, "nopython": True})
    compiled.enable_caching()
    return cast(F, compiled)


def jit_borrowing(function: F) -> F:
    """As ``jit``, for functions that only borrow their arrays: they allocate and slice nothing.

    Without numba's runtime for array ownership no references are counted. Counting takes an atomic
    operation per array and call, which costs more than the work of a small block of lanes. They are
    compiled into their callers: an array is passed as seven values, so that calls and their overlap
    checks would take a fifth of the time with one symbol.

    Args:
        function: a function of numbers and arrays.

    Returns:
        The compiled function.
    """
    # `_nrt` is an option of numba that its type stubs leave out.
    options: dict[str, Any] = {**_OPTIONS, "_nrt": False, "forceinline": True}
    return cast(F, numba.njit(**options)(function))


def jit_lanes(function: F) -> F:
    """As ``jit_borrowing``, for functions that only compiled code calls.

    What would take their arguments from Python is left out: for twenty arrays it is more code than the
    function. A call from Python would end the process.

    Args:
        function: a function of numbers and arrays.

    Returns:
        The compiled function.
    """
    return cast(F, numba.njit(**_LANES, forceinline=True)(function))


def jit_apart(function: F) -> F:
    """As ``jit_lanes``, for what is seldom called: it stays a function where it is long.

    Args:
        function: a function of numbers and arrays.

    Returns:
        The compiled function.
    """
    return cast(F, numba.njit(**_LANES)(function))


def jit_into_callers(function: Callable[..., object]) -> Any:
    """Compile a user's function of numbers into its callers, which are cached; it is not.

    An index out of range raises. Without the check numba would read whatever lies there.

    Args:
        function: a function of numbers.

    Returns:
        The compiled function.
    """
    options: dict[str, Any] = {
        **_OPTIONS,
        "cache": False,
        "forceinline": True,
        "boundscheck": True,
        "_nrt": False,
    }
    return numba.njit(**options)(function)
