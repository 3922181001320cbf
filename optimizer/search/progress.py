"""Progress of a study, and the time its parts take."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How far a study has come.

    Attributes:
        trials, n_trials: told, and in all.
        sets: parameter sets evaluated.
        distinct: the same, those of a point that was asked twice counted once.
        best: in-sample objective of the best feasible set so far, or None.
        best_out_of_sample: the same metric of that set over the holdout, or None.
        seconds: since the first batch was asked, or the study was taken up.
        trials_before, sets_before: those that were there when the study was taken up.
        worker_use: share of the workers' time since then that they spent on parameter sets, 0..1.
        memory_bytes: of this process and its workers, see ``memory_in_use``.
    """

    trials: int
    n_trials: int
    sets: int
    distinct: int
    best: float | None
    best_out_of_sample: float | None
    seconds: float
    trials_before: int = 0
    sets_before: int = 0
    worker_use: float = 0.0
    memory_bytes: int = 0

    @property
    def seconds_left(self) -> float:
        """Estimated from the pace so far."""
        done = max(self.trials - self.trials_before, 1)
        return self.seconds / done * (self.n_trials - self.trials)

    @property
    def sets_per_second(self) -> float:
        """The pace so far."""
        return (self.sets - self.sets_before) / self.seconds if self.seconds else 0.0

    @property
    def trials_per_second(self) -> float:
        """The pace so far."""
        return (self.trials - self.trials_before) / self.seconds if self.seconds else 0.0


class Clock:
    """Wall time by part of a study."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._start = time.perf_counter()

    def move(self, source: str, target: str, seconds: float) -> None:
        """Book time from one part to another."""
        self.seconds[source] -= seconds
        self.seconds[target] = self.seconds.get(target, 0.0) + seconds

    def finished(self) -> dict[str, float]:
        """All parts, with what belongs to none of them as ``other``."""
        other = time.perf_counter() - self._start - sum(self.seconds.values())
        return {**self.seconds, "other": other}

    @contextlib.contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Count the time spent inside as that of a part."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - start
