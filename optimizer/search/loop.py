"""The search loop: ask a batch, evaluate it, tell it, store it."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial

from optimizer.catalogue import METRICS
from optimizer.engine.tasks import TileFailure, TileTask, make_tile
from optimizer.engine.workers import Workers
from optimizer.errors import StudyError
from optimizer.search.asker import Asker
from optimizer.search.clock import Clock
from optimizer.search.journal import Journal
from optimizer.search.objective import score_tile
from optimizer.search.outcome import (
    Outcome,
    failed,
    outcome_of,
    recorded_outcome,
    repeated,
    trial_record,
)
from optimizer.search.plateau import plateau_over_tiles
from optimizer.search.progress import Progress, Tally
from optimizer.search.rows import result_columns
from optimizer.store.batches import FinishedBatch, read_results
from optimizer.store.folder import StudyFolder
from optimizer.store.histograms import Counts, counted
from optimizer.store.plateau import save_plateau
from optimizer.store.top import BestSoFar, always_kept, without_the_rest
from optimizer.store.trial_records import point_key
from optimizer.study_file.objectives import metrics_named, objective_values
from optimizer.study_file.space import Space
from optimizer.study_file.study import Study
from optimizer.sweep.inputs import Inputs
from optimizer.sweep.tiles import Tile, TileResult
from optimizer.types import Float32Array, FloatArray


@dataclass(frozen=True, eq=False)
class _Scored:
    """A batch after its tiles were scored.

    Attributes:
        outcomes: one per trial.
        rows: columns of each tile that was evaluated, see ``result_columns``.
        moments: (n_sets, 2, n_blocks) of all of them, in the order of the rows.
        maxima: largest draws of the max-test over all of them, see ``no_draws``.
    """

    outcomes: Sequence[Outcome]
    rows: Sequence[dict[str, Any]]
    moments: FloatArray
    maxima: Float32Array


class SearchLoop:
    """The batches of one study, from its first point to its last.

    Args:
        study: the study to search.
        space: the parameter space of the study.
        inputs: the prepared inputs of the study.
        folder: receives the results. Batches that it holds are told again, not evaluated.
        pool: evaluates the tiles.
        asker: source of the points.
        tally: counts what is told.
        clock: measures the parts.
        on_progress: called after every batch that was evaluated, or None.
        n_batches: batches of a search that has ended before; None for one that has not.

    Raises:
        StudyError: the folder cannot be written.
    """

    def __init__(
        self,
        study: Study,
        space: Space,
        inputs: Inputs,
        folder: StudyFolder,
        pool: Workers,
        asker: Asker,
        tally: Tally,
        clock: Clock,
        on_progress: Callable[[Progress], None] | None,
        n_batches: int | None = None,
    ) -> None:
        self._search = study.search
        self._space = space
        self._n_blocks = len(inputs.bounds) - 1
        self._folder = folder
        self._pool = pool
        self._asker = asker
        self._tally = tally
        self._clock = clock
        self._on_progress = on_progress
        self._most = n_batches
        self._journal = Journal(folder, study)
        self._told: dict[str, Outcome] = {}
        self._best = None
        if study.search.store is not None:
            maximize = study.search.direction[0] == "maximize"
            self._best = BestSoFar(study.search.store.top, maximize)

    def run(self) -> None:
        """Ask, evaluate, tell and store batches until the asker has no more points, or the search ends.

        Then the sets get their plateau scores over all tiles, where the study ranks by them.

        Raises:
            StudyError: the folder cannot be written, or holds batches that the asker does not ask.
        """
        self._run_batches()
        if self._search.tile_value == "plateau" and self._folder.batch_paths():
            with self._clock("scores"):
                self._score_over_tiles()

    def _score_over_tiles(self) -> None:
        """Write the plateau scores of all sets, which do not depend on the order of the trials."""
        objective = self._search.objective[0]
        columns = ["set", "strategy", "classifier", objective, *self._space.varying]
        frame = self._folder.results(columns)
        scores = plateau_over_tiles(frame, self._space, objective)
        save_plateau(self._folder.path, frame["set"].to_numpy(), scores)

    def _run_batches(self) -> None:
        on_disk = self._folder.finished_batches()
        started = time.perf_counter()
        self._tally.start()
        for number in itertools.count():
            if number not in on_disk and self._ends(number, time.perf_counter() - started):
                return
            with self._clock("sampler"):
                tasks = self._asker.ask(number)
            if not tasks:
                return
            if number in on_disk:
                with self._clock("resume"):
                    self._tell_again(tasks, on_disk.pop(number))
                self._tally.start()
                if on_disk:
                    continue
            else:
                fresh = self._fresh(tasks)
                tiles = [make_tile(self._space, tasks[i]) for i in fresh]
                results = self._evaluate([tasks[i] for i in fresh], tiles)
                with self._clock("scores"):
                    scored = self._score(
                        tasks, dict(zip(fresh, zip(tiles, results, strict=True), strict=True))
                    )
                    trials = self._tell(scored.outcomes, scored.maxima)
                with self._clock("storage"):
                    self._store(number, scored, trials)
            self._report()

    def _ends(self, number: int, seconds: float) -> bool:
        """Whether the search ends before a batch, after ``seconds`` of this process."""
        if self._most is not None:
            return number >= self._most
        patience, most = self._search.stop_after, self._search.max_seconds
        tired = patience is not None and self._tally.since_best >= patience
        return number > 0 and (tired or (most is not None and seconds >= most))

    def _fresh(self, tasks: Sequence[TileTask]) -> list[int]:
        """The places of the points of a batch at which no trial was before, not even of the batch."""
        first: dict[str, int] = {}
        for place, task in enumerate(tasks):
            if _key(task) not in self._told:
                first.setdefault(_key(task), place)
        return list(first.values())

    def _evaluate(
        self, tasks: Sequence[TileTask], tiles: Sequence[Tile]
    ) -> list[TileResult | TileFailure]:
        full = [i for i, tile in enumerate(tiles) if tile.n_lanes]
        with self._clock("regimes"):
            self._pool.fit_regimes(key for i in full for key in tiles[i].regime_keys()[0])
        before = self._pool.kernel_seconds
        with self._clock("dispatch"):
            evaluated = self._pool.evaluate([tasks[i] for i in full], [tiles[i] for i in full])
        self._clock.move(
            "dispatch", "kernels", (self._pool.kernel_seconds - before) / self._pool.count
        )
        nothing = TileFailure("no parameter set keeps the parameter constraints")
        results: list[TileResult | TileFailure] = [nothing] * len(tasks)
        for i, result in zip(full, evaluated, strict=True):
            results[i] = result
        return results

    def _score(
        self,
        tasks: Sequence[TileTask],
        evaluated: Mapping[int, tuple[Tile, TileResult | TileFailure]],
    ) -> _Scored:
        rows: list[dict[str, Any]] = []
        moments = [np.empty((0, 2, self._n_blocks))]
        outcomes: list[Outcome] = []
        first_set = self._tally.sets
        for place, task in enumerate(tasks):
            trial = self._tally.trials + place
            if place not in evaluated:
                outcomes.append(self._told[_key(task)])
                continue
            tile, result = evaluated[place]
            if isinstance(result, TileFailure):
                outcomes.append(failed(result.reason))
            else:
                swept = self._space.branches[task.branch].swept
                score = score_tile(self._search, tile.columns, result.in_sample, swept)
                rows.append(result_columns(tile, result, score, first_set, trial))
                first_set += tile.n_lanes
                moments.append(result.moments)
                outcomes.append(outcome_of(tile, result, score))
            self._remember(task, trial, outcomes[-1])
        return _Scored(outcomes, rows, np.concatenate(moments), self._pool.maxima)

    def _remember(self, task: TileTask, trial: int, outcome: Outcome) -> None:
        """Keep what further trials at a point are told."""
        self._told.setdefault(_key(task), repeated(outcome, trial))

    def _tell(self, outcomes: Sequence[Outcome], maxima: Float32Array) -> list[FrozenTrial]:
        trials = self._asker.tell(outcomes)
        for trial, outcome in zip(trials, outcomes, strict=True):
            self._tally.add(trial.params, outcome)
        self._tally.raise_maxima(maxima)
        return trials

    def _tell_again(self, tasks: Sequence[TileTask], batch: FinishedBatch) -> None:
        """Tell a batch what is recorded of it, and check that it is the batch that was asked."""
        first = self._tally.trials
        different = 0
        if len(tasks) == len(batch.trials):
            outcomes = [recorded_outcome(one) for one in batch.trials]
            for place, (task, outcome) in enumerate(zip(tasks, outcomes, strict=True)):
                self._remember(task, first + place, outcome)
            trials = self._tell(outcomes, batch.maxima)
            for trial, record in zip(trials, batch.trials, strict=True):
                told = trial_record(first + different, trial)
                if json.loads(json.dumps(told)) != record:
                    break
                different += 1
            else:
                self._journal.add(trials)
                self._keep_again(batch.path)
                return
        raise StudyError(
            f"{batch.path}: trial {first + different} is not the one that this version asks; it was"
            " made by another version or program: rerun the study with another --out"
        )

    def _keep_again(self, path: Path) -> None:
        """Know the best sets of a batch that is on disk."""
        if self._best is not None:
            (objective,) = self._search.objective
            named = metrics_named(objective)
            table = read_results(path, columns=["set", "feasible", "score", *named])
            metrics = {one: table[one].to_numpy().astype(np.float64) for one in named}
            self._best.add(
                table["set"].to_numpy(),
                table["feasible"].to_numpy(),
                table["score"].to_numpy(),
                objective_values(objective, metrics),
            )

    def _top_of(
        self, rows: Sequence[dict[str, Any]]
    ) -> tuple[Sequence[dict[str, Any]], Counts | None]:
        """What is stored of the sets of a batch, and the histograms of all, where the top is kept."""
        if self._best is None:
            return rows, None
        histograms = counted(rows)
        (objective,) = self._search.objective
        always = always_kept([objective])
        found = []
        for tile in rows:
            values = objective_values(objective, {name: tile[name] for name in METRICS})
            kept = self._best.add(tile["set"], tile["feasible"], tile["score"], values)
            found.append(without_the_rest(tile, kept, always))
        return found, histograms

    def _store(self, number: int, scored: _Scored, trials: Sequence[FrozenTrial]) -> None:
        first = self._tally.trials - len(trials)
        rows, histograms = self._top_of(scored.rows)
        records = [trial_record(first + i, trial) for i, trial in enumerate(trials)]
        self._folder.write_batch(
            number,
            rows,
            self._space.parameter_names,
            records,
            scored.moments,
            scored.maxima,
            histograms,
        )
        self._journal.add(trials)
        self._asker.publish(trials)

    def _report(self) -> None:
        if self._on_progress is not None:
            busy = self._pool.kernel_seconds / self._pool.count
            self._on_progress(self._tally.progress(busy))


def _key(task: TileTask) -> str:
    return point_key({"": task.branch, **task.point})
