"""The search loop: ask a batch, evaluate it, tell it, store it."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.distributions import distribution_to_json
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from optimizer.catalogue import METRICS
from optimizer.engine.coordination import Coordinator, Point
from optimizer.engine.workers import TileFailure, TileTask, Workers, make_tile
from optimizer.errors import StudyError
from optimizer.files import cannot_write
from optimizer.search.journal import new_journal
from optimizer.search.objective import TileScore, score_tile
from optimizer.search.points import (
    bulk_tasks,
    grid_tasks,
    new_sampler,
    optuna_parameters,
    sampler_seed,
    suggest,
)
from optimizer.search.preflight import memory_in_use
from optimizer.search.progress import Clock, Progress
from optimizer.selection.walk_forward import steered
from optimizer.store.batches import FinishedBatch, distinct_points
from optimizer.store.folder import StudyFolder
from optimizer.store.names import OUT_OF_SAMPLE
from optimizer.study_file.space import Space
from optimizer.study_file.study import Study
from optimizer.sweep.inputs import Inputs
from optimizer.sweep.tiles import Tile, TileResult
from optimizer.types import FloatArray

optuna.logging.set_verbosity(optuna.logging.WARNING)

REPEATS = 20
"""Points that a sampler may repeat before the next free one of a fixed sequence is taken."""


@dataclass(frozen=True)
class _Asked:
    """One trial of a batch: Optuna's, where it steers, and the point it stands for."""

    task: TileTask
    trial: Trial | None


class Search:
    """The batches of one study."""

    def __init__(
        self,
        study: Study,
        space: Space,
        inputs: Inputs,
        folder: StudyFolder,
        pool: Workers,
        clock: Clock,
        on_progress: Callable[[Progress], None] | None,
        coordinator: Coordinator | None = None,
    ) -> None:
        self._study = study
        self._space = space
        self._inputs = inputs
        self._folder = folder
        self._pool = pool
        self._clock = clock
        self._on_progress = on_progress
        self._coordinator = coordinator
        self._optuna = optuna.create_study(directions=list(study.search.direction))
        self._journal, self._commits = new_journal(folder, study)
        self._sets = 0
        self._told = 0
        self._distinct: dict[str, int] = {}
        self._best: tuple[float, float | None] | None = None

    def run(self, n_trials: int) -> None:
        """Ask and evaluate batches until there are enough trials."""
        if self._coordinator is not None:
            self._run_with_others(self._coordinator, n_trials)
            return
        size = self._study.search.batch
        finished = self._folder.finished_batches()
        points = (
            itertools.islice(grid_tasks(self._space), n_trials)
            if self._study.search.sampler == "grid" or self._space.n_points == 1
            else None
        )
        start, before = time.perf_counter(), (0, 0)
        for batch in range(math.ceil(n_trials / size)):
            count = min(size, n_trials - batch * size)
            with self._clock("sampler"):
                asked = self._ask(batch, count, points)
            if batch in finished:
                with self._clock("resume"):
                    self._tell_again(asked, finished.pop(batch))
                start, before = time.perf_counter(), (self._told, self._sets)
                if finished:
                    continue
            else:
                self._batch(batch, asked)
            self._report(n_trials, start, before)

    def _report(self, n_trials: int, start: float, before: tuple[int, int] = (0, 0)) -> None:
        if self._on_progress is not None:
            best, beside = self._best if self._best is not None else (None, None)
            seconds = time.perf_counter() - start
            distinct = sum(self._distinct.values())
            busy = self._pool.kernel_seconds / self._pool.count
            self._on_progress(
                Progress(
                    *(self._told, n_trials, self._sets, distinct, best, beside, seconds),
                    *before,
                    worker_use=min(busy / seconds, 1.0) if seconds else 0.0,
                    memory_bytes=memory_in_use(),
                )
            )

    def _run_with_others(self, coordinator: Coordinator, n_trials: int) -> None:
        """Batches at points that no other coordinator has, until all of them have enough trials."""
        search, start = self._study.search, time.perf_counter()

        def sequence() -> Iterator[Point[TileTask]]:
            kind = "qmc" if search.sampler == "qmc" else "random"
            tasks: Iterator[TileTask] = grid_tasks(self._space)
            if search.sampler != "grid" and self._space.n_points != 1:
                # Twice as many as wanted: some repeat others.
                tasks = itertools.chain.from_iterable(
                    bulk_tasks(self._space, kind, self._study.seed, first, search.batch)
                    for first in range(0, 2 * n_trials + search.batch, search.batch)
                )
            for task in tasks:
                branch = self._space.branches[task.branch]
                yield Point(task, *optuna_parameters(self._space, branch, task.point))

        def suggested(known: Sequence[FrozenTrial]) -> Iterator[Point[TileTask]]:
            # In memory: asked of the database, each parameter is some round trips to it.
            own = optuna.create_study(directions=[*search.direction])
            own.add_trials(known)
            own.sampler = new_sampler(search.sampler, sampler_seed(self._study.seed, len(known)))
            while True:
                trial = own.ask()
                task = suggest(self._space, trial)
                record = own.get_trials(deepcopy=False)[trial.number]
                yield Point(task, record.params, record.distributions, record.system_attrs)

        def points(known: Sequence[FrozenTrial]) -> Iterator[Point[TileTask]]:
            if steered(self._study, self._space):
                yield from itertools.islice(suggested(known), search.batch + REPEATS)
            yield from sequence()

        for number in itertools.count():
            with self._clock("sampler"), self._quiet():
                taken = coordinator.ask(search.batch, n_trials, points)
            if not taken:
                return
            frozen = self._batch(number, [_Asked(task, None) for _, task in taken])
            with self._clock("storage"):
                for (trial, _), record in zip(taken, frozen, strict=True):
                    coordinator.tell(trial, record)
            self._report(n_trials, start)

    def _ask(self, batch: int, count: int, points: Iterator[TileTask] | None) -> list[_Asked]:
        search = self._study.search
        if points is not None:
            return [_Asked(task, None) for task in itertools.islice(points, count)]
        if search.sampler in ("random", "qmc"):
            tasks = bulk_tasks(
                self._space, search.sampler, self._study.seed, batch * search.batch, count
            )
            return [_Asked(task, None) for task in tasks]
        self._optuna.sampler = new_sampler(search.sampler, sampler_seed(self._study.seed, batch))
        with self._quiet():
            trials = [self._optuna.ask() for _ in range(count)]
            return [_Asked(suggest(self._space, trial), trial) for trial in trials]

    @staticmethod
    @contextlib.contextmanager
    def _quiet() -> Iterator[None]:
        """CMA-ES cannot use constraints and says so; they rank the results all the same."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Constraints have been set", UserWarning)
            yield

    def _batch(self, number: int, asked: Sequence[_Asked]) -> list[FrozenTrial]:
        tiles = [make_tile(self._space, one.task) for one in asked]
        full = [i for i, tile in enumerate(tiles) if tile.n_lanes]
        with self._clock("regimes"):
            self._pool.fit_regimes(key for i in full for key in tiles[i].regime_keys()[0])
        before = self._pool.kernel_seconds
        with self._clock("dispatch"):
            evaluated = self._pool.evaluate([asked[i].task for i in full], [tiles[i] for i in full])
        self._clock.move(
            "dispatch", "kernels", (self._pool.kernel_seconds - before) / self._pool.count
        )
        nothing = TileFailure("no parameter set keeps the parameter constraints")
        results: list[TileResult | TileFailure] = [nothing] * len(asked)
        for i, result in zip(full, evaluated, strict=True):
            results[i] = result
        with self._clock("scores"):
            rows, moments, frozen = self._judge(asked, tiles, results)
        with self._clock("storage"):
            self._store(number, rows, moments, frozen)
        return frozen

    def _judge(
        self,
        asked: Sequence[_Asked],
        tiles: Sequence[Tile],
        results: Sequence[TileResult | TileFailure],
    ) -> tuple[list[dict[str, Any]], FloatArray, list[FrozenTrial]]:
        """Score every tile of a batch and tell its trial, in order."""
        rows: list[dict[str, Any]] = []
        moments = [np.empty((0, 2, len(self._inputs.bounds) - 1))]
        frozen: list[FrozenTrial] = []
        for one, tile, result in zip(asked, tiles, results, strict=True):
            if isinstance(result, TileFailure):
                frozen.append(self._tell(one, None, tile, None, result.reason))
                continue
            branch = self._space.branches[one.task.branch]
            score = score_tile(self._study.search, tile.columns, result.in_sample, branch.swept)
            rows.append(self._rows(tile, result, score))
            moments.append(result.moments)
            frozen.append(self._tell(one, score, tile, result, score.reason))
        return rows, np.concatenate(moments), frozen

    def _rows(self, tile: Tile, result: TileResult, score: TileScore) -> dict[str, Any]:
        n = tile.n_lanes
        columns: dict[str, Any] = {
            "set": np.arange(self._sets, self._sets + n),
            "trial": np.full(n, self._told),
            "strategy": tile.strategy.name,
            "classifier": tile.classifier,
            "feasible": score.feasible,
            "score": score.scores,
            **tile.columns,
        }
        for i, name in enumerate(METRICS):
            columns[name] = result.in_sample[:, i]
            columns[OUT_OF_SAMPLE[i]] = result.out_of_sample[:, i]
        self._sets += n
        return columns

    def _tell(
        self,
        one: _Asked,
        score: TileScore | None,
        tile: Tile,
        result: TileResult | None,
        reason: str,
    ) -> FrozenTrial:
        """Tell one trial; the next in order."""
        values = None if score is None else score.values
        violations = {} if score is None or values is None else score.violations
        attributes: dict[str, Any] = {"n_sets": 0 if result is None else tile.n_lanes}
        if reason:
            attributes["reason"] = reason
        if score is not None and result is not None and values is not None:
            attributes["winner"] = {n: float(c[score.winner]) for n, c in tile.columns.items()}
            attributes["in_sample"] = _finite(result.in_sample[score.winner])
            attributes["out_of_sample"] = _finite(result.out_of_sample[score.winner])
        return self._tell_values(one, values, attributes, violations)

    def _tell_values(
        self,
        one: _Asked,
        values: Sequence[float] | None,
        attributes: Mapping[str, Any],
        violations: Mapping[str, float],
    ) -> FrozenTrial:
        if values is not None:
            self._keep_best(values[0], attributes, violations)
        self._told += 1
        state = TrialState.COMPLETE if values is not None else TrialState.FAIL
        if one.trial is not None:
            for name, value in attributes.items():
                one.trial.set_user_attr(name, value)
            for name, value in violations.items():
                one.trial.set_constraint(name, value)
            with self._quiet():
                return self._optuna.tell(one.trial, values, state=state)
        branch = self._space.branches[one.task.branch]
        params, distributions = optuna_parameters(self._space, branch, one.task.point)
        return create_trial(
            state=state,
            values=values,
            params=params,
            distributions=distributions,
            user_attrs=dict(attributes),
            constraints=dict(violations),
        )

    def _tell_again(self, asked: Sequence[_Asked], batch: FinishedBatch) -> None:
        """Tell a batch what is recorded of it, once it is sure that it is the batch asked."""
        first, frozen = self._told, []
        for one, record in zip(asked, batch.trials, strict=False):
            violations = {
                name.removeprefix(_CONSTRAINT): value
                for name, value in record["system_attrs"].items()
                if name.startswith(_CONSTRAINT)
            }
            told = self._tell_values(one, record["values"], record["user_attrs"], violations)
            frozen.append(told)
            if json.loads(json.dumps(_trial_record(self._told - 1, told))) != record:
                break
        else:
            if len(asked) == len(batch.trials):
                self._sets += batch.n_sets
                self._distinct |= distinct_points(batch.trials)
                self._keep_journal(frozen)
                return
        raise StudyError(
            f"{batch.path}: trial {first + len(frozen) - 1} is not the one that this version asks; it"
            " was made by another version or program: run the study anew with another --out"
        )

    def _keep_best(
        self, value: float, attributes: Mapping[str, Any], violations: Mapping[str, float]
    ) -> None:
        """Keep the winner of a tile if it is feasible and the best so far."""
        if any(excess > 0 for excess in violations.values()):
            return
        search = self._study.search
        sign = 1.0 if search.direction[0] == "maximize" else -1.0
        if self._best is None or sign * value > sign * self._best[0]:
            self._best = (value, attributes["out_of_sample"][search.objective[0]])

    def _store(
        self,
        number: int,
        rows: Sequence[dict[str, Any]],
        moments: FloatArray,
        frozen: Sequence[FrozenTrial],
    ) -> None:
        first = self._told - len(frozen)
        records = [_trial_record(first + i, trial) for i, trial in enumerate(frozen)]
        self._distinct |= distinct_points(records)
        self._folder.write_batch(number, rows, self._space.parameter_names, records, moments)
        self._keep_journal(frozen)

    def _keep_journal(self, frozen: Sequence[FrozenTrial]) -> None:
        try:
            self._journal.add_trials(frozen)
            self._commits.commit()
        except OSError as error:
            raise cannot_write(self._folder.journal_path, error) from None


_CONSTRAINT = "constraints:"
"""Before the name of each constraint where Optuna keeps by how much it is broken."""


def _finite(metrics: FloatArray) -> dict[str, float | None]:
    return {
        name: float(value) if np.isfinite(value) else None
        for name, value in zip(METRICS, metrics, strict=True)
    }


def _trial_record(number: int, trial: FrozenTrial) -> dict[str, Any]:
    """A trial without the times, which differ between two runs of one study."""
    return {
        "number": number,
        "state": trial.state.name,
        "values": trial.values,
        "params": trial.params,
        "distributions": {n: distribution_to_json(d) for n, d in trial.distributions.items()},
        "user_attrs": trial.user_attrs,
        # CMA-ES leaves its pickled state there: never read back, and not the same bytes twice.
        "system_attrs": {k: v for k, v in trial.system_attrs.items() if not k.startswith("cma:")},
    }
