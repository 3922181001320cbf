"""One piece of work that the benchmark times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np

from optimizer.bench.assembly import Mix


class Repeated:
    """A kernel called many times from compiled code, so that the call from Python does not count.

    It is compiled again, since code from the disk cache comes without its assembly.

    Args:
        kernel: a function that numba has compiled.
    """

    def __init__(self, kernel: Callable[..., Any]) -> None:
        def repeat(n: int, arguments: Any) -> None:
            for _ in range(n):
                kernel(*arguments)

        options: dict[str, Any] = dict(getattr(kernel, "targetoptions"))  # noqa: B009
        # The kernel itself may have no way in from Python.
        options |= {"no_cpython_wrapper": False, "no_cfunc_wrapper": False}
        self._repeat: Any = numba.jit(**options)(repeat)

    def __call__(self, n: int, *arguments: Any) -> None:
        """Call the kernel many times.

        Args:
            n: how many times.
            arguments: of each call.
        """
        self._repeat(n, arguments)

    @property
    def assembly(self) -> str:
        """The assembly of every signature called so far."""
        return "\n".join(self._repeat.inspect_asm().values())


CELL = "bar x symbol x set"
"""The element of the simulation and its phases."""


@dataclass(eq=False)
class Case:
    """Work to be timed.

    Attributes:
        kernel: its name, unique among all cases.
        element: name of what is counted, such as "bar x symbol".
        elements: how many elements one call of ``work`` computes.
        work: what is timed.
        reset: restores what ``work`` changes; not timed.
        assembly: gives the assembly of the kernel once ``work`` has been called.
        lanes: how many elements are computed side by side.
        traffic: bytes per element to and from memory; None where memory is not the limit.
        mix: gives the instructions for 8 elements; None where instructions are not the limit.
    """

    kernel: str
    element: str
    elements: int
    work: Callable[[], object]
    reset: Callable[[], object] = lambda: None
    assembly: Callable[[], str] = lambda: ""
    lanes: int = 1
    traffic: float | None = None
    mix: Callable[[], Mix] | None = None


def repeated_case(
    kernel: str,
    element: str,
    elements: int,
    function: Callable[..., Any],
    arguments: Sequence[Any],
    calls: int = 1,
    **details: Any,
) -> Case:
    """A case of repeated calls of one kernel; its arrays are restored before each turn.

    Args:
        kernel, element: names, see ``Case``.
        elements: how many elements one call computes.
        function: the kernel.
        arguments: the arguments of every call; arrays that it may write to are restored.
        calls: how many calls are timed together.
        details: further attributes of the case.

    Returns:
        The case.
    """
    repeated = Repeated(function)
    kept = [(a, a.copy()) for a in arguments if isinstance(a, np.ndarray) and a.flags.writeable]

    def reset() -> None:
        for array, copy in kept:
            array[...] = copy

    return Case(
        kernel,
        element,
        elements * calls,
        lambda: repeated(calls, *arguments),
        reset,
        lambda: repeated.assembly,
        **details,
    )
