"""How far a study has come."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from optimizer.search.outcome import Outcome
from optimizer.search.preflight import memory_in_use
from optimizer.store.trial_records import point_key
from optimizer.study_file.search_tables import SearchTable
from optimizer.sweep.max_test import larger_draws
from optimizer.types import Float32Array


@dataclass(frozen=True)
class Progress:
    """How far a study has come.

    Attributes:
        trials, n_trials: told so far, and in all.
        sets: parameter sets evaluated.
        distinct: the same, but a point that was asked several times counts once.
        best: in-sample objective of the best feasible set so far, or None.
        objective: its name, the first one of the study.
        best_set: number of that set; None if it was on disk when the study was resumed.
        seconds: since the first batch was asked, or since the study was resumed.
        trials_before, sets_before: those that were on disk when the study was resumed.
        worker_use: share of the workers' time since then that they spent on parameter sets, 0..1.
        memory_bytes: the memory of this process and its workers, see ``memory_in_use``.
    """

    trials: int
    n_trials: int
    sets: int
    distinct: int
    best: float | None
    seconds: float
    trials_before: int = 0
    sets_before: int = 0
    worker_use: float = 0.0
    memory_bytes: int = 0
    objective: str = ""
    best_set: int | None = None

    @property
    def seconds_left(self) -> float:
        """Seconds until the last trial, estimated from the pace so far."""
        done = max(self.trials - self.trials_before, 1)
        return self.seconds / done * (self.n_trials - self.trials)

    @property
    def sets_per_second(self) -> float:
        """Parameter sets a second, those that were on disk left out."""
        return (self.sets - self.sets_before) / self.seconds if self.seconds else 0.0

    @property
    def trials_per_second(self) -> float:
        """Trials a second, those that were on disk left out."""
        return (self.trials - self.trials_before) / self.seconds if self.seconds else 0.0


class Tally:
    """Counts the trials and sets of a study, and keeps the best.

    Args:
        search: objectives and directions of the study.
        n_trials: trials of the study in all.

    Attributes:
        trials: told so far.
        sets: evaluated so far.
        maxima: largest draws of the max-test over the sets so far, see ``no_draws``; none before the
            first batch.
        distinct: sets evaluated so far; a point that was asked several times counts once.
        since_best: trials since the best one; all where none is feasible.
    """

    def __init__(self, search: SearchTable, n_trials: int) -> None:
        self.trials = 0
        self.sets = 0
        self.since_best = 0
        self.maxima = np.zeros(0, np.float32)
        self._sign = 1.0 if search.direction[0] == "maximize" else -1.0
        self._n_trials = n_trials
        self._points: set[str] = set()
        self.distinct = 0
        self._best: float | None = None
        self._best_set: int | None = None
        self._objective = search.objective[0]
        self.start()

    def start(self) -> None:
        """Measure the pace from now on: what was told so far was on disk."""
        self._started = time.perf_counter()
        self._memory_bytes, self._measure_at = 0, 0.0
        self._before = self.trials, self.sets

    def add(self, params: Mapping[str, Any], outcome: Outcome) -> None:
        """Count one trial.

        Args:
            params: its point.
            outcome: what it was told.
        """
        first, self.trials = self.sets, self.trials + 1
        self.sets += outcome.n_sets
        self.since_best += 1
        point = point_key(params)
        if point not in self._points:
            self._points.add(point)
            self.distinct += outcome.n_sets
        if outcome.values is None or not outcome.feasible:
            return
        value = outcome.values[0]
        if self._best is None or self._sign * value > self._sign * self._best:
            self._best = value
            self._best_set = None if outcome.lane is None else first + outcome.lane
            self.since_best = 0

    def raise_maxima(self, maxima: Float32Array) -> None:
        """Raise the largest draws to those of a batch.

        Args:
            maxima: those of its sets.
        """
        self.maxima = larger_draws([self.maxima, maxima])

    def progress(self, busy_seconds: float) -> Progress:
        """How far the study has come by now.

        Args:
            busy_seconds: mean over the workers of the seconds that they spent on parameter sets.
        """
        seconds = time.perf_counter() - self._started
        trials_before, sets_before = self._before
        return Progress(
            trials=self.trials,
            n_trials=self._n_trials,
            sets=self.sets,
            distinct=self.distinct,
            best=self._best,
            seconds=seconds,
            trials_before=trials_before,
            sets_before=sets_before,
            worker_use=min(busy_seconds / seconds, 1.0) if seconds else 0.0,
            memory_bytes=self._memory(),
            objective=self._objective,
            best_set=self._best_set,
        )

    def _memory(self) -> int:
        """Memory in use, measured at most once a second: that takes longer than a small batch."""
        now = time.perf_counter()
        if now >= self._measure_at:
            self._memory_bytes, self._measure_at = memory_in_use(), now + 1.0
        return self._memory_bytes
