"""One piece of work that the benchmark times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np

from optimizer.bench.assembly import Mix


class Repeated:
    """A kernel called many times from compiled code, so that a call from Python does not weigh.

    Compiled anew, since what comes from the disk cache has no assembly to show.
    """

    def __init__(self, kernel: Callable[..., Any]) -> None:
        def repeat(n: int, arguments: Any) -> None:
            for _ in range(n):
                kernel(*arguments)

        options: dict[str, Any] = dict(getattr(kernel, "targetoptions"))  # noqa: B009
        self._repeat: Any = numba.jit(**options)(repeat)

    def __call__(self, n: int, *arguments: Any) -> None:
        """Call the kernel ``n`` times."""
        self._repeat(n, arguments)

    @property
    def assembly(self) -> str:
        """Of what was called so far."""
        return "\n".join(self._repeat.inspect_asm().values())


CELL = "bar x symbol x set"


@dataclass(eq=False)
class Case:
    """Work to be timed.

    Attributes:
        kernel, element: names.
        elements: how many one call of ``work`` computes.
        work: what is timed.
        reset: restores what ``work`` changes; not timed.
        assembly: of the kernel, once ``work`` has been called.
        lanes: computed side by side.
        traffic: bytes of an element to and from memory, where that is what limits it.
        mix: of an element times 8, where its instructions are what limits it.
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
    """``calls`` calls of one kernel, its arrays restored before each turn."""
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
