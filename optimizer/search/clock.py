"""Wall time of a study by its parts."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator


class Clock:
    """Counts the seconds that each part of a study takes.

    Attributes:
        seconds: wall time by part.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._start = time.perf_counter()

    def move(self, source: str, target: str, seconds: float) -> None:
        """Count seconds that were measured as one part's as another's.

        Args:
            source: part that they were measured as.
            target: part that they belong to.
            seconds: wall time.
        """
        self.seconds[source] -= seconds
        self.seconds[target] = self.seconds.get(target, 0.0) + seconds

    def finished(self) -> dict[str, float]:
        """The seconds of all parts; what belongs to none of them is ``other``."""
        other = time.perf_counter() - self._start - sum(self.seconds.values())
        return {**self.seconds, "other": other}

    @contextlib.contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Count the time inside the ``with`` block as that of a part."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - start
