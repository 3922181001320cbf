"""The study loop: ask a batch of trials, evaluate their tiles, make the batch durable, tell.

The batch size never depends on the number of workers, results are told in trial order, and the
sampler is seeded afresh for each batch from (seed, batch number): so any number of workers gives the
same trials and the same results, bit for bit. A study is taken up by the same loop: batches that are
on disk are asked again and told what is recorded, which brings every sampler to the state it had.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend
from optuna.storages.journal._file import BaseJournalFileLock
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial
from scipy.stats import qmc

from optimizer import ledger
from optimizer.backtest import (
    Inputs,
    Tile,
    TileResult,
    prepare,
    study_rules,
    try_signals,
)
from optimizer.bars import load_bars
from optimizer.catalogue import METRICS
from optimizer.cluster import compile_kernels, count_slots
from optimizer.compile_cache import exclusive, kernels_folder, source_key
from optimizer.config import CLUSTERS, Study
from optimizer.coordination import Coordinator, Point
from optimizer.errors import StudyError, counted
from optimizer.objective import TileScore, score_tile
from optimizer.preflight import (
    Estimate,
    count_trials,
    estimate,
    memory_in_use,
    refuse_what_cannot_fit,
)
from optimizer.results import best_sets
from optimizer.selection import (
    Selection,
    Window,
    needs_own_searches,
    require_blocks,
    select,
    steered,
    stitched,
    stitched_sharpe,
    walk_forward_summary,
)
from optimizer.space import Branch, Searched, Space, Value, build_space
from optimizer.store import (
    OUT_OF_SAMPLE,
    SCHEMA_VERSION,
    WALK_FORWARD,
    FinishedBatch,
    StudyFolder,
    cannot_write,
    distinct_points,
    exclusive_use,
    software_versions,
    write_atomically,
)
from optimizer.types import Bars, FloatArray
from optimizer.workers import (
    TileFailure,
    TileTask,
    Workers,
    make_tile,
    process_count,
    remove_shared_memory,
)

optuna.logging.set_verbosity(optuna.logging.WARNING)

FOLDS = "folds"
"""Folder of the searches of a walk-forward's windows."""

REPEATS = 20
"""Points that a sampler may repeat before the next free one of a fixed sequence is taken."""


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


@dataclass(frozen=True, eq=False)
class StudyResult:
    """A study that has run.

    Attributes:
        study: as run.
        folder: where everything is.
        seconds: wall time by part: load, features, compile, regimes, kernels, dispatch, sampler,
            scores, storage, selection, other. Kernels: what the workers spent on parameter sets, over
            their number; dispatch: what they waited.
    """

    study: Study
    folder: StudyFolder
    seconds: Mapping[str, float] = field(default_factory=dict)

    def results(self) -> pd.DataFrame:
        """Every parameter set tried: parameters, in-sample metrics, ``oos_`` metrics."""
        return self.folder.results()

    def best(self, top: int = 10) -> pd.DataFrame:
        """The best feasible parameter sets, best first."""
        return best_sets(self.folder, self.study.search, top)

    def _repr_html_(self) -> str:
        """The best sets and the verdict, for notebooks."""
        from optimizer.overview import study_html

        return study_html(self.folder)


def sampler_seed(seed: int, batch: int) -> int:
    """Seed of the sampler for one batch, a function of the study's seed and the batch alone."""
    return int(np.random.SeedSequence([seed, batch]).generate_state(1)[0])


def run_study(
    study: Study,
    *,
    out: str | Path | None = None,
    workers: int | None = None,
    overwrite: bool = False,
    on_start: Callable[[Estimate], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> StudyResult:
    """Run a study from its bars to its result files.

    Args:
        study: as `load_study` gives it.
        out: folder for the results, new or empty; None takes ``out/<study name>``.
        workers: processes; None takes the study's. Never changes a result.
        overwrite: replace a study that ``out`` holds.
        on_start: called with the estimate before anything is computed.
        on_progress: called after every batch.

    Raises:
        DataError: the bars cannot be used.
        StudyError: the folder cannot be used, or the study cannot fit the machine.
    """
    path = Path("out") / study.name if out is None else Path(out)
    prepared = prepare_study(study, path, workers, on_start)
    with exclusive_use(path):
        coordinator = _coordinator(prepared, path)
        manifest = _manifest(study, prepared.bars, prepared.inputs)
        if overwrite:
            for process in StudyFolder(path).processes_left():
                remove_shared_memory(process)
        folder = StudyFolder.create(path, manifest, overwrite=overwrite)
        return carry_out(prepared, folder, on_progress, coordinator)


@dataclass(frozen=True, eq=False)
class PreparedStudy:
    """A study with what its trials share, ready to be carried out."""

    study: Study
    bars: Bars
    space: Space
    inputs: Inputs
    needs: Estimate
    clock: _Clock


def prepare_study(
    study: Study,
    path: Path,
    workers: int | None,
    on_start: Callable[[Estimate], None] | None,
    check: Callable[[Bars], None] | None = None,
) -> PreparedStudy:
    """Load the bars, refuse what cannot fit, compute the features.

    Args:
        study: of which.
        path: where its results are to go.
        workers: processes; None takes the study's.
        on_start: called with the estimate before anything is computed.
        check: called with the bars, to refuse them.

    Raises:
        DataError: the bars cannot be used.
        StudyError: the study cannot fit the machine.
    """
    if workers is not None and workers < 0:
        raise StudyError(f"workers = {workers}; expected 0, for one per core, or more")
    clock = _Clock()
    with clock("load"):
        bars = load_study_bars(study)
        if check is not None:
            check(bars)
        space = build_space(study)
        rules = study_rules(study, space, bars.n_symbols)
    count = study.workers.count if workers is None else workers
    count = count_slots(study, count) if study.workers.backend in CLUSTERS else process_count(count)
    needs = estimate(study, space, bars, rules, count)
    refuse_what_cannot_fit(needs, path)
    if on_start is not None:
        on_start(needs)
    with clock("features"):
        inputs = prepare(
            bars, space, rules, study.validation.holdout, n_blocks=study.validation.blocks
        )
    require_blocks(study, inputs)
    if study.workers.tile_seconds is None:
        try_signals(inputs, space)
    return PreparedStudy(study, bars, space, inputs, needs, clock)


def carry_out(
    prepared: PreparedStudy,
    folder: StudyFolder,
    on_progress: Callable[[Progress], None] | None,
    coordinator: Coordinator | None = None,
) -> StudyResult:
    """Evaluate the batches that the folder lacks, judge the winner, mark the study complete.

    The caller holds ``exclusive_use`` of the folder. With a coordinator the folder gets the batches
    that it is handed, and the winner is the best of these.

    Raises:
        StudyError: the folder cannot be written, or holds batches that this version does not ask.
    """
    study, space, inputs, clock = prepared.study, prepared.space, prepared.inputs, prepared.clock
    told = _noting(study, prepared.bars, on_progress)
    try:
        with Workers(folder.scratch_path, study, inputs, prepared.needs.workers) as pool:
            if study.workers.tile_seconds is not None:
                pool.try_signals()
            with clock("compile"), exclusive():
                compile_kernels(inputs, space)
            with contextlib.ExitStack() as opened:
                if coordinator is not None:
                    opened.enter_context(coordinator)
                search = _Search(study, space, inputs, folder, pool, clock, told, coordinator)
                search.run(prepared.needs.n_trials)
            if not folder.batch_paths():
                raise StudyError(
                    f"{folder.path}: other coordinators have done all"
                    f" {counted(prepared.needs.n_trials, 'trial')}; their results are in their folders"
                )
            with clock("selection"):
                selection = select(study, space, inputs, folder, pool.regimes)
                if selection is not None and study.validation.method == "walk_forward":
                    selection = _walk_forward(study, space, inputs, folder, pool, selection)
                if selection is not None:
                    selection.save(folder)
    finally:
        folder.remove_scratch()
    folder.write_manifest({**folder.manifest(), "complete": True})
    return StudyResult(study, folder, clock.finished())


def _coordinator(prepared: PreparedStudy, path: Path) -> Coordinator | None:
    study = prepared.study
    if study.search.storage is None:
        return None
    return Coordinator(
        study.search.storage,
        study.source,
        f"{study.content_hash} {prepared.bars.content_hash}",
        study.search.direction,
        str(path),
    )


def load_study_bars(study: Study) -> Bars:
    """The bars that a study names.

    Raises:
        DataError: they cannot be used.
    """
    data = study.data
    return load_bars(
        study.data_path,
        symbols=data.symbols,
        start=data.start,
        end=data.end,
        align=data.align,
        timezone=data.timezone,
    )


def _noting(
    study: Study,
    bars: Bars,
    on_progress: Callable[[Progress], None] | None,
    part: str = "",
) -> Callable[[Progress], None]:
    """Notes every batch in the ledger, then calls ``on_progress``.

    Args:
        study, bars: of the sets.
        on_progress: or None.
        part: of the study, where it has several searches.
    """
    data = str(study.data_path)
    noting = True

    def told(progress: Progress) -> None:
        nonlocal noting
        if noting:
            try:
                key, name = study.space_hash + part, study.name + part
                ledger.note(bars.content_hash, key, name, data, progress.distinct)
            except StudyError as error:
                noting = False
                logging.getLogger("barsweep").warning("%s; this study is not in it", error)
        if on_progress is not None:
            on_progress(progress)

    return told


def _walk_forward(
    study: Study,
    space: Space,
    inputs: Inputs,
    folder: StudyFolder,
    pool: Workers,
    selection: Selection,
) -> Selection:
    """Stitch the equity of a walk-forward.

    Each window chooses among all sets, which are known on every block, or has a search of its own
    over its training bars, see ``needs_own_searches``.
    """
    own = needs_own_searches(study, space)
    if own:
        windows = [
            _search_window(study, space, inputs, folder, number, window, pool.count)
            for number, window in enumerate(selection.windows)
        ]
        parts = [part for part in windows if part is not None]
    else:
        parts = [(window, folder) for window in selection.windows]
    if not parts:
        return replace(selection, windows=())
    frame = stitched(space, inputs, parts, pool.regimes)
    path = folder.path / WALK_FORWARD
    write_atomically(path, lambda part: frame.to_parquet(part, index=False))
    return replace(
        selection,
        **walk_forward_summary([window for window, _ in parts]),
        one_search_per_window=own,
        stitched_sharpe=stitched_sharpe(frame, inputs),
    )


def _search_window(
    study: Study,
    space: Space,
    inputs: Inputs,
    folder: StudyFolder,
    number: int,
    window: Window,
    workers: int,
) -> tuple[Window, StudyFolder] | None:
    """The search over one training window, judged on the bars after it."""
    own = inputs.window(window.train_start, window.start, window.stop)
    path = folder.path / FOLDS / f"{number:02d}"
    path.mkdir(parents=True, exist_ok=True)
    within = StudyFolder.create(path, folder.manifest(), overwrite=True)
    told = _noting(study, inputs.bars, None, f" window {number}")
    try:
        with Workers(within.scratch_path, study, own, workers) as pool:
            _Search(study, space, own, within, pool, _Clock(), told).run(count_trials(study, space))
    finally:
        within.remove_scratch()
    best = best_sets(within, study.search, 1)
    if best.empty:
        logging.getLogger("barsweep").warning(
            "walk-forward: no set is feasible over bars %d to %d; bars %d to %d are left out",
            window.train_start,
            window.start - 1,
            window.start,
            window.stop - 1,
        )
        return None
    row = best.iloc[0]
    before, after = (
        0.0 if pd.isna(row[name]) else float(row[name]) for name in ("sharpe", "oos_sharpe")
    )
    found = replace(window, number=int(row["set"]), in_sample=before, out_of_sample=after)
    return found, within


def _manifest(study: Study, bars: Bars, inputs: Inputs) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "study": study.to_dict(),
        "study_source": study.source,
        "study_folder": str(study.base_path),
        "overridden": list(study.overridden),
        "study_hash": study.content_hash,
        "data_path": str(study.data_path),
        "data_hash": bars.content_hash,
        "symbols": list(bars.symbols),
        "n_bars": bars.n_bars,
        "first_bar": inputs.first,
        "holdout_bar": inputs.split,
        "span": [str(bars.timestamps[i]) for i in (0, -1)],
        "first_time": str(bars.timestamps[inputs.first]),
        "holdout_time": str(bars.timestamps[inputs.split]) if inputs.split < bars.n_bars else None,
        "bars_per_year": bars.bars_per_year,
        "versions": software_versions(),
        "kernels": source_key(kernels_folder()),
        "coordinated": study.search.storage is not None,
        "complete": False,
    }


class _Clock:
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
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - start


@dataclass(frozen=True)
class _Asked:
    """One trial of a batch: Optuna's, where it steers, and the point it stands for."""

    task: TileTask
    trial: Trial | None


class _Search:
    """The batches of one study."""

    def __init__(
        self,
        study: Study,
        space: Space,
        inputs: Inputs,
        folder: StudyFolder,
        pool: Workers,
        clock: _Clock,
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
        self._journal, self._commits = _new_journal(folder, study)
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
                yield Point(task, *_optuna_parameters(self._space, branch, task.point))

        def suggested(known: Sequence[FrozenTrial]) -> Iterator[Point[TileTask]]:
            # In memory: asked of the database, each parameter is some round trips to it.
            own = optuna.create_study(directions=[*search.direction])
            own.add_trials(known)
            own.sampler = _sampler(search.sampler, sampler_seed(self._study.seed, len(known)))
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
        self._optuna.sampler = _sampler(search.sampler, sampler_seed(self._study.seed, batch))
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
            "strategy": tile.strategy,
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
        params, distributions = _optuna_parameters(self._space, branch, one.task.point)
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


class _Unlocked(BaseJournalFileLock):
    """Stands in for the journal's lock, which outlives a kill: the whole folder is locked."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


class _OneCommit(BaseJournalBackend):
    """A journal that is written when told to: one commit a batch, not one a trial."""

    def __init__(self, path: Path) -> None:
        self._file = JournalFileBackend(str(path), _Unlocked())
        self._logs: list[dict[str, Any]] = []
        self._n_written = 0

    def read_logs(self, log_number_from: int) -> list[dict[str, Any]]:
        # No one else writes: what is in the file has been read already.
        return self._logs[max(log_number_from - self._n_written, 0) :]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self._logs += logs

    def commit(self) -> None:
        """Write what was appended since."""
        if self._logs:
            self._file.append_logs(self._logs)
            self._n_written += len(self._logs)
            self._logs = []


def _new_journal(folder: StudyFolder, study: Study) -> tuple[optuna.Study, _OneCommit]:
    """An empty journal in the place of what a former process left, which may be torn or locked."""
    try:
        for path in folder.path.glob(f"{folder.journal_path.name}*"):
            path.unlink()
        backend = _OneCommit(folder.journal_path)
        journal = optuna.create_study(
            study_name=study.name,
            directions=list(study.search.direction),
            storage=JournalStorage(backend),
        )
    except OSError as error:
        raise cannot_write(folder.journal_path, error) from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        journal.set_metric_names(list(study.search.objective))
    return journal, backend


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


# --- Points of the searched space ---------------------------------------------------------------


def grid_tasks(space: Space) -> Iterator[TileTask]:
    """Every point of every branch, lazily, in a fixed order."""
    for index, branch in enumerate(space.branches):
        for point in branch.points():
            yield TileTask(index, point)


def bulk_tasks(space: Space, sampler: str, seed: int, start: int, count: int) -> list[TileTask]:
    """Points ``start`` to ``start + count - 1`` of a random or quasi-random sequence.

    One coordinate picks the branch, the others its searched parameters. A function of the seed and
    the start alone, so that a study can be taken up at any batch.

    Args:
        space: of the study.
        sampler: ``random``, or ``qmc``: a scrambled Sobol sequence (Owen 1998).
        seed: of the study.
        start: trials before.
        count: points wanted.
    """
    n_dimensions = 1 + max(len(branch.searched) for branch in space.branches)
    if sampler == "qmc":
        engine = qmc.Sobol(n_dimensions, scramble=True, rng=np.random.default_rng(seed))
        if start:
            engine.fast_forward(start)
        with warnings.catch_warnings():
            # Balance holds at powers of two, which a batch in mid-sequence need not be.
            warnings.simplefilter("ignore", UserWarning)
            unit = engine.random(count)
    else:
        unit = np.random.default_rng([seed, start]).random((count, n_dimensions))
    tasks = []
    for row in unit:
        index = min(int(row[0] * len(space.branches)), len(space.branches) - 1)
        branch = space.branches[index]
        point = {
            searched.name: value_at(searched, float(u))
            for searched, u in zip(branch.searched, row[1:], strict=False)
        }
        tasks.append(TileTask(index, point))
    return tasks


def value_at(searched: Searched, u: float) -> Value:
    """The value of a searched parameter at ``u`` in [0, 1)."""
    if searched.choices:
        return searched.choices[min(int(u * len(searched.choices)), len(searched.choices) - 1)]
    low, high = float(searched.low), float(searched.high)
    if searched.log:
        if searched.kind == "int":
            value = math.exp(math.log(low - 0.5) + u * math.log((high + 0.5) / (low - 0.5)))
            return int(min(max(round(value), low), high))
        return math.exp(math.log(low) + u * math.log(high / low))
    if searched.step is None:
        return low + u * (high - low)
    values = searched.n_values
    return searched.value(min(int(u * values), values - 1))


def suggest(space: Space, trial: Trial) -> TileTask:
    """Let a trial choose the branch and the values of its searched parameters."""
    strategies = space.strategies
    classifiers = space.classifiers
    strategy, classifier = strategies[0], classifiers[0]
    if len(strategies) > 1:
        strategy = str(trial.suggest_categorical("strategy", strategies))
    if len(classifiers) > 1:
        classifier = str(trial.suggest_categorical("classifier", classifiers))
    index = space.branch_index(strategy, classifier)
    point: dict[str, Value] = {}
    for searched in space.branches[index].searched:
        point[searched.name] = _suggest_value(searched, trial)
    return TileTask(index, point)


def _suggest_value(searched: Searched, trial: Trial) -> Value:
    name, step = searched.name, searched.step
    if searched.choices:
        return trial.suggest_categorical(name, searched.choices)
    if searched.kind == "int":
        low, high = int(searched.low), int(searched.high)
        return trial.suggest_int(name, low, high, step=int(step or 1), log=searched.log)
    return trial.suggest_float(name, searched.low, searched.high, step=step, log=searched.log)


def distribution_of(searched: Searched) -> BaseDistribution:
    """Optuna's form of a searched parameter."""
    if searched.choices:
        return CategoricalDistribution(searched.choices)
    if searched.kind == "int":
        return IntDistribution(
            int(searched.low), int(searched.high), log=searched.log, step=int(searched.step or 1)
        )
    return FloatDistribution(
        float(searched.low), float(searched.high), log=searched.log, step=searched.step
    )


def _optuna_parameters(
    space: Space, branch: Branch, point: Mapping[str, Value]
) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
    params: dict[str, Any] = dict(point)
    distributions = {one.name: distribution_of(one) for one in branch.searched}
    for name, chosen, names in (
        ("strategy", branch.strategy, space.strategies),
        ("classifier", branch.classifier, space.classifiers),
    ):
        if len(names) > 1:
            params[name] = chosen
            distributions[name] = CategoricalDistribution(names)
    return params, distributions


def _sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if name == "tpe":
            return optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        if name == "nsga2":
            return optuna.samplers.NSGAIISampler(seed=seed)
        return optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
