"""Batches of tiles to worker processes and back, through joblib.

A worker gets the name of a folder of mapped arrays, a branch and the values of the searched
parameters; it returns numbers. It owns the portfolios of its lanes and shares nothing writable. The
answer depends neither on how many workers there are nor on how the lanes are cut into chunks.

A worker that dies, runs out of memory or exceeds the time limit takes nothing with it: its processes
are replaced and its tiles tried again, one by one, so that the one that is to blame fails alone.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import multiprocessing.resource_tracker
import os
import shutil
import signal
import threading
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import psutil
from joblib import Parallel, cpu_count, delayed
from joblib.externals.loky.backend import resource_tracker as loky_resource_tracker
from joblib.externals.loky.process_executor import BrokenProcessPool, TerminatedWorkerError

from optimizer.engine.cluster import Engine, connected, context_of
from optimizer.engine.handover import Handover, LostResultError, respond, restorable
from optimizer.engine.watch import PoolWatch
from optimizer.errors import SignalError, StrategyError, StudyError
from optimizer.files import cannot_write
from optimizer.strategies.approvals import accept
from optimizer.study_file.space import Branch, Space, Value, build_space
from optimizer.study_file.study import Study, recorded_study
from optimizer.study_file.tables import CLUSTERS
from optimizer.sweep.evaluate import evaluate
from optimizer.sweep.inputs import Inputs, RegimeCodes, RegimeKey, fit_key
from optimizer.sweep.tiles import Tile, TileResult
from optimizer.sweep.try_signals import try_signals
from optimizer.text import shown

_OVER_TIME = "over-time"
"""File by which a worker says that it ended itself."""

_STARTS = 3
"""How often workers that die while they start are started."""

_WATCH_SECONDS = 0.5
"""Time between two looks for the parent."""

CHUNK_LANES = 2048
"""Parameter sets of one task: some 0.1 s of work, far above what a task costs to dispatch."""


@dataclass(frozen=True)
class TileTask:
    """One point of the searched space: the branch and the values of its searched parameters."""

    branch: int
    point: Mapping[str, Value]


@restorable
@dataclass(frozen=True)
class TileFailure:
    """Why a tile has no result."""

    reason: str


@dataclass(frozen=True)
class _Piece:
    tile: int
    task: TileTask
    start: int
    stop: int


def make_tile(space: Space, task: TileTask) -> Tile:
    """All parameter sets of a task, those that break a parameter constraint left out."""
    branch: Branch = space.branches[task.branch]
    return Tile.of(branch, branch.lanes(task.point))


class _Shared(NamedTuple):
    """What tasks on this machine are handed.

    Attributes:
        folder: of the mapped arrays.
        approved: hashes of the strategies that the parent may run, and so its workers.
    """

    folder: str
    approved: tuple[str, ...]


def _context(shared: Any) -> tuple[Inputs, Space]:
    """Of what tasks are handed, here or on a cluster."""
    return _mapped(shared) if isinstance(shared, _Shared) else context_of(shared)


@functools.lru_cache(maxsize=2)
def _mapped(shared: _Shared) -> tuple[Inputs, Space]:
    accept(shared.approved)
    path = Path(shared.folder)
    study = recorded_study(json.loads((path / "study.json").read_text()))
    return Inputs.load(path), build_space(study)


def _evaluate_pieces(
    shared: Any,
    pieces: Sequence[_Piece],
    regimes: Mapping[RegimeKey, RegimeCodes],
    tile_seconds: float | None = None,
) -> tuple[list[TileResult], float] | TileFailure:
    with _time_limit(shared, None if tile_seconds is None else tile_seconds * len(pieces)):
        inputs, space = _context(shared)
        tiles = [make_tile(space, p.task).slice(p.start, p.stop) for p in pieces]
        start = time.perf_counter()
        try:
            results = evaluate(inputs, tiles, regimes)
        except SignalError as error:
            return TileFailure(str(error))
        return results, time.perf_counter() - start


def _try_signals(shared: Any, tile_seconds: float | None) -> None:
    with _time_limit(shared, tile_seconds):
        try_signals(*_context(shared))


def _fit_regime(shared: Any, key: RegimeKey) -> tuple[RegimeCodes, str]:
    return fit_key(_context(shared)[0].bars, key)


@contextlib.contextmanager
def _time_limit(shared: Any, seconds: float | None) -> Iterator[None]:
    """End this worker process if it takes longer: nothing else stops compiled code in a loop."""
    if seconds is None:
        yield
        return

    def end() -> None:
        Path(shared.folder, _OVER_TIME).touch()
        os._exit(1)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def remove_shared_memory(process: int) -> None:
    """Remove what joblib keeps in shared memory for a process that was killed, if that is over."""
    if psutil.pid_exists(process):
        return
    for path in Path("/dev/shm").glob(f"*loky-{process}-*"):
        with contextlib.suppress(OSError):  # of another user, who had the number later
            path.unlink()
    for path in Path("/dev/shm").glob(f"joblib_memmapping_folder_{process}_*"):
        shutil.rmtree(path, ignore_errors=True)


def _start_worker(parent: int) -> None:
    """In each new worker process: leave Ctrl-C to the parent, and end when that is gone.

    A parent that was killed closes no queue that its workers would notice, since they hold both ends
    of it themselves.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    started_by = os.getppid()
    leader = psutil.Process(parent)

    def watch() -> None:
        while os.getppid() == started_by and leader.is_running():
            threading.Event().wait(_WATCH_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="parent watch", daemon=True).start()


def _ready() -> None:
    """What a worker is asked first, so that all of them are there."""


def process_count(wanted: int) -> int:
    """Processes on this machine: as many as wanted, 0 for all, and never more than it has cores."""
    cores = int(cpu_count())
    if wanted > cores:
        logging.getLogger("barsweep").warning(
            "%d workers were asked for, this machine has %d cores: it takes %d",
            wanted,
            cores,
            cores,
        )
    return min(wanted or cores, cores)


class Workers:
    """Processes that evaluate tiles of one study. Use as a context manager.

    Args:
        folder: where the shared arrays are to be written; the caller removes it.
        study: of the tiles.
        inputs: of the study.
        count: processes; 1 computes in this one; 0 takes one per core. No more than the cores are
            taken; a cluster decides itself.

    Attributes:
        count: processes.
        kernel_seconds: that the processes together have spent on parameter sets.
    """

    def __init__(self, folder: Path, study: Study, inputs: Inputs, count: int) -> None:
        self._cluster = study.workers.backend in CLUSTERS
        self.count = count if self._cluster else process_count(count)
        self.kernel_seconds = 0.0
        self._folder = folder
        self._inputs = inputs
        for strategy in study.user_strategies:
            strategy.require_approval()
        approved = tuple(one.declaration.source_hash for one in study.user_strategies)
        # Processes that outlive a study may stand in another folder than this one.
        self._shared: Any = _Shared(str(folder.absolute()), approved)
        self._handover = Handover(folder.absolute())
        self._watch = PoolWatch()
        self._engine: Engine | None = None
        self._open = contextlib.ExitStack()
        self._study = study
        self._limit = study.workers.tile_seconds
        self._regimes: dict[RegimeKey, RegimeCodes] = {}
        self._parallel: Any = None
        if self._limit is not None and (self.count < 2 or study.workers.backend != "loky"):
            raise StudyError(
                f"{study.source}: [workers] tile_seconds = {self._limit:g} needs processes that can"
                ' be ended: take 2 workers or more, and the backend "loky"'
            )
        if not self._cluster:
            try:
                # Closed to other users: what workers write there is made into objects.
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                inputs.save(folder)
                (folder / "study.json").write_text(json.dumps(study.to_dict()))
            except OSError as error:
                raise cannot_write(folder, error) from None

    def __enter__(self) -> Self:
        if self._cluster:
            self._engine = self._open.enter_context(
                connected(self._study, self._inputs, self.count)
            )
            self.count, self._shared = self._engine.count, self._engine.parcel
        elif self.count > 1 and self._study.workers.backend == "loky":
            self._guard()
        try:
            self._start()
        except BaseException:
            self._open.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._parallel is not None:
            self._parallel.__exit__(kind, error, trace)
        self._open.close()
        _mapped.cache_clear()

    def _guard(self) -> None:
        """Watch over loky's pool, to the end."""
        # loky warns of a worker that it replaces, within the thread that manages the pool: where
        # warnings are errors, the pool would be without it. joblib warns of results that are left.
        self._open.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", category=UserWarning, module=r"joblib\.")
        with _interrupts_held():
            self._watch.start()
        self._open.callback(self._watch.stop)

    def _start(self) -> None:
        if self.count < 2 and not self._cluster:
            return
        if self._study.workers.backend != "loky":
            self._connect()
            return
        for _ in range(_STARTS):
            self._connect()
            try:
                with _interrupts_held():
                    list(self._parallel(delayed(_ready)() for _ in range(self.count)))
                return
            except self._deaths:
                self._parallel.__exit__(None, None, None)
        self._parallel = None
        raise StudyError(
            f"{self._study.source}: the workers were ended while they started, {_STARTS} times in a"
            " row; see what ends them (a limit of memory, the log of the system), or take [workers]"
            " count = 1"
        )

    def _connect(self) -> None:
        backend = self._study.workers.backend
        own: dict[str, Any] = {"backend": backend}
        if backend == "loky":
            own |= {
                "inner_max_num_threads": 1,
                "initializer": _start_worker,
                "initargs": (os.getpid(),),
                # What is done before a worker dies is kept; other back ends give all or nothing.
                "return_as": "generator",
            }
        elif self._engine is not None:
            own = dict(self._engine.options)
        try:
            self._parallel = Parallel(
                n_jobs=self.count,
                batch_size=1,
                max_nbytes=None,
                **own,
            ).__enter__()
        except (ValueError, ImportError) as error:
            raise StudyError(
                f'{self._study.source}: [workers] backend = "{backend}": joblib cannot start it:'
                f" {error}; valid: loky, or a back end that is installed"
            ) from None
        except TimeoutError:
            raise self._gone("has no worker") from None

    @property
    def _deaths(self) -> tuple[type[BaseException], ...]:
        """What is raised when a worker died."""
        of_cluster = () if self._engine is None else self._engine.deaths
        broken = BrokenProcessPool if self._watch.ended else TerminatedWorkerError
        return (broken, MemoryError, LostResultError, *of_cluster)

    def _restart(self) -> None:
        self._parallel.__exit__(None, None, None)
        self._start()
        self._handover.clear()

    def _results(self, function: Any, calls: Sequence[tuple[Any, ...]]) -> Iterator[Any]:
        """What a function gives for each call, in order."""
        if self._cluster:  # whose workers see no file of the study
            yield from self._parallel(delayed(function)(*call) for call in calls)
            return
        for receipt in self._parallel(
            delayed(respond)(*self._handover.task(function, call)) for call in calls
        ):
            yield self._handover.receive(receipt)

    def _map(self, function: Any, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        """What a function gives for each call, or the ``TileFailure`` of one that failed twice."""
        if self._parallel is None:
            return [_here(function, call) for call in calls]
        results: list[Any] = []
        gone = () if self._engine is None else self._engine.gone
        while len(results) < len(calls):
            try:
                for result in self._results(function, calls[len(results) :]):
                    results.append(result)
            except self._deaths:
                # Which call killed is not known, only that it was among the next few: joblib hands
                # out two for each worker. Alone, each shows what it does.
                self._restart()
                for call in calls[len(results) : len(results) + 2 * self.count]:
                    results.append(self._alone(function, call))
            except gone as error:
                raise self._gone(f"is gone ({type(error).__name__})") from None
        return results

    def _gone(self, what: str) -> StudyError:
        table = self._study.workers
        return StudyError(
            f"{self._study.source}: the {table.backend} cluster at {table.address} {what}; what was"
            " written before is kept: start it again, then `barsweep resume` goes on"
        )

    def _alone(self, function: Any, call: tuple[Any, ...]) -> Any:
        try:
            [result] = self._results(function, [call])
            return result
        except MemoryError:
            reason = "its worker ran out of memory twice"
        except self._deaths:
            over_time = Path(self._folder, _OVER_TIME)
            reason = "its worker died twice"
            if over_time.exists():
                over_time.unlink()
                reason = f"took longer than [workers] tile_seconds = {self._limit:g}"
        self._restart()
        return TileFailure(reason)

    def try_signals(self) -> None:
        """As ``optimizer.sweep.try_signals``, in a process that is ended at the time limit.

        Raises:
            StrategyError: a user's signal is none, raises, or takes longer.
        """
        if not self._study.user_strategies:
            return
        (found,) = self._map(_try_signals, [(self._shared, self._limit)])
        if isinstance(found, TileFailure):
            files = dict.fromkeys(one.path for one in self._study.user_strategies)
            raise StrategyError(
                f"{', '.join(map(shown, files))}: signal at the first parameter set: {found.reason};"
                " end every loop, or raise the limit"
            )

    def fit_regimes(self, keys: Iterable[RegimeKey]) -> None:
        """Fit the regime models that are not known yet."""
        missing = [key for key in dict.fromkeys(keys) if key not in self._regimes]
        fitted = self._map(_fit_regime, [(self._shared, key) for key in missing])
        for key, result in zip(missing, fitted, strict=True):
            if isinstance(result, TileFailure):
                raise StudyError(f"the regime model {key!r} cannot be fitted: {result.reason}")
            self._regimes[key], never_fitted = result
            if never_fitted:
                logging.getLogger("barsweep").warning(never_fitted)

    def regimes(self, keys: Iterable[RegimeKey]) -> dict[RegimeKey, RegimeCodes]:
        """Codes of some regime models, fitted where they are not known yet."""
        wanted = list(dict.fromkeys(keys))
        self.fit_regimes(wanted)
        return {key: self._regimes[key] for key in wanted}

    def evaluate(
        self, tasks: Sequence[TileTask], tiles: Sequence[Tile]
    ) -> list[TileResult | TileFailure]:
        """Metrics of every parameter set of each task, or why it has none.

        Args:
            tasks: in the order of the results.
            tiles: their parameter sets, as ``make_tile`` gives them; none of them empty.
        """
        keys = [tile.regime_keys()[0] for tile in tiles]
        self.fit_regimes(key for own in keys for key in own)
        chunks: list[list[_Piece]] = [[]]
        room = CHUNK_LANES
        for i, (task, tile) in enumerate(zip(tasks, tiles, strict=True)):
            start = 0
            while start < tile.n_lanes:
                stop = min(tile.n_lanes, start + room)
                chunks[-1].append(_Piece(i, task, start, stop))
                room -= stop - start
                start = stop
                if room == 0:
                    chunks.append([])
                    room = CHUNK_LANES
        chunks = [chunk for chunk in chunks if chunk]
        parts: list[list[TileResult | TileFailure]] = [[] for _ in tasks]
        for chunk, results in zip(chunks, self._evaluate_chunks(chunks, keys), strict=True):
            answers: Sequence[TileResult | TileFailure]
            if not isinstance(results, TileFailure):
                answers = results
            elif len(chunk) > 1:
                # One of its tiles is to blame: each gets a chance of its own.
                single = self._evaluate_chunks([[piece] for piece in chunk], keys)
                answers = [one if isinstance(one, TileFailure) else one[0] for one in single]
            else:
                answers = [results]
            for piece, result in zip(chunk, answers, strict=True):
                parts[piece.tile].append(result)
        return [_joined(own) for own in parts]

    def _evaluate_chunks(
        self, chunks: Sequence[Sequence[_Piece]], keys: Sequence[Sequence[RegimeKey]]
    ) -> list[list[TileResult] | TileFailure]:
        calls = []
        for chunk in chunks:
            needed = {key for piece in chunk for key in keys[piece.tile]}
            codes = {key: self._regimes[key] for key in needed}
            calls.append((self._shared, chunk, codes, self._limit))
        found: list[list[TileResult] | TileFailure] = []
        for answer in self._map(_evaluate_pieces, calls):
            if not isinstance(answer, TileFailure):
                answer, seconds = answer
                self.kernel_seconds += seconds
            found.append(answer)
        return found


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold back Ctrl-C, which processes started meanwhile inherit: they import in peace."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    for tracker in (multiprocessing.resource_tracker, loky_resource_tracker):
        tracker.ensure_running()  # which lets Ctrl-C through again when it starts one
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _here(function: Any, call: tuple[Any, ...]) -> Any:
    try:
        return function(*call)
    except MemoryError:
        return TileFailure("ran out of memory")


def _joined(parts: Sequence[TileResult | TileFailure]) -> TileResult | TileFailure:
    known: list[TileResult] = []
    for part in parts:
        if isinstance(part, TileFailure):
            return part
        known.append(part)
    return TileResult.joined(known)
