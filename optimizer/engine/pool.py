"""A pool of processes that calls functions and survives the death of its workers, through joblib.

When a worker dies, runs out of memory or exceeds the time limit, all processes are replaced. The calls
that may have killed it are made again one by one, so that only the call to blame fails.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from joblib import Parallel, delayed
from joblib.externals.loky import reusable_executor
from joblib.externals.loky.process_executor import BrokenProcessPool, TerminatedWorkerError

from optimizer.engine.cluster import Cluster
from optimizer.engine.connect import connect_cluster
from optimizer.engine.handover import Handover, LostResultError, respond
from optimizer.engine.processes import (
    clear_timeout,
    interrupts_held,
    process_count,
    start_worker,
)
from optimizer.engine.tasks import TileFailure, mapped_context, ready, save_context
from optimizer.engine.watch import PoolWatch
from optimizer.errors import StudyError
from optimizer.files import cannot_write
from optimizer.isolation import safe_children
from optimizer.study_file.study import Study
from optimizer.study_file.tables import CLUSTERS
from optimizer.sweep.inputs import Inputs

_START_ATTEMPTS = 3
"""How often the pool is started if workers die while they start."""


class Pool:
    """Processes on this machine or on a cluster, with the inputs of one study. A context manager.

    Args:
        folder: where the shared inputs are written for processes of this machine; the caller removes
            it.
        study: the study; its table ``[workers]`` names the back end and the time limit.
        inputs: the inputs of the study.
        count: processes. 1 computes in this process, 0 takes one per core, and more than the cores are
            never taken. A cluster decides itself.

    Attributes:
        count: number of processes.
        shared: the argument from which tasks get the inputs and the space of the study.

    Raises:
        StudyError: the time limit needs another back end or more workers, or the inputs cannot be
            written.
    """

    def __init__(self, folder: Path, study: Study, inputs: Inputs, count: int) -> None:
        self._study = study
        self._inputs = inputs
        self._on_cluster = study.workers.backend in CLUSTERS
        self._on_loky = study.workers.backend == "loky"
        self.count = count if self._on_cluster else process_count(count)
        # Worker processes outlive a study, so they may have been started in another working folder.
        self._folder = folder.absolute()
        self.shared: Any = None
        self._handover = Handover(self._folder)
        self._watch = PoolWatch()
        self._cluster: Cluster | None = None
        self._open = contextlib.ExitStack()
        self._parallel: Any = None
        limit = study.workers.tile_seconds
        if limit is not None and (self.count < 2 or not self._on_loky):
            raise StudyError(
                f"{study.source}: [workers] tile_seconds = {limit:g} needs processes that can"
                ' be ended: take 2 workers or more, and the backend "loky"'
            )
        if not self._on_cluster:
            try:
                self.shared = save_context(self._folder, study, inputs)
            except OSError as error:
                raise cannot_write(folder, error) from None

    def __enter__(self) -> Self:
        self._open.enter_context(safe_children())
        try:
            return self._enter()
        except BaseException:
            self._open.close()
            raise

    def _enter(self) -> Self:
        if self._on_cluster:
            cluster = connect_cluster(self._study, self._inputs, self.count)
            self._cluster = self._open.enter_context(cluster)
            self.count, self.shared = self._cluster.slots, self._cluster.parcel
        elif self.count > 1 and self._on_loky:
            self._start_watch()
        self._start()
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
        mapped_context.cache_clear()  # of this process: it would keep the arrays mapped

    def map(self, function: Callable[..., Any], calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Call a function once for each tuple of arguments.

        Args:
            function: a function at the top level of a module, so that workers can import it.
            calls: arguments of each call.

        Returns:
            The result of each call in order, or a ``TileFailure`` for a call whose worker died twice.

        Raises:
            BarsweepError: the function raised it.
            StudyError: the workers cannot be started again, or the cluster is gone.
            RuntimeError: the function raised another exception in a worker.
        """
        if self._parallel is None:
            return [_call_here(function, call) for call in calls]
        results: list[Any] = []
        losses = () if self._cluster is None else self._cluster.losses
        while len(results) < len(calls):
            try:
                for result in self._results(function, calls[len(results) :]):
                    results.append(result)
            except self._deaths:
                # Which call killed its worker is unknown; it is one of the next few, because joblib
                # hands out two calls per worker. Alone, each call shows what it does.
                self._restart()
                for call in calls[len(results) : len(results) + 2 * self.count]:
                    results.append(self._call_alone(function, call))
            except losses as error:
                raise self._lost(f"is gone ({type(error).__name__})") from None
        return results

    # --- Start ----------------------------------------------------------------------------------

    def _start_watch(self) -> None:
        """Watch loky's pool until this one is closed."""
        # loky warns when it replaces a worker, in the thread that manages the pool. Where warnings
        # are errors, this would end the thread. joblib warns of results that nobody fetched.
        self._open.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", category=UserWarning, module=r"joblib\.")
        with interrupts_held():
            self._watch.start()
        self._open.callback(self._watch.stop)

    def _start(self) -> None:
        if self.count < 2 and not self._on_cluster:
            return
        if not self._on_loky:
            self._open_parallel()
            return
        for _ in range(_START_ATTEMPTS):
            self._open_parallel()
            try:
                with interrupts_held():
                    list(self._parallel(delayed(ready)() for _ in range(self.count)))
                return
            except self._deaths:
                self._parallel.__exit__(None, None, None)
        self._parallel = None
        raise StudyError(
            f"{self._study.source}: the workers were ended while they started, {_START_ATTEMPTS} times"
            " in a row; find what ends them (a memory limit, the system log), or take [workers]"
            " count = 1"
        )

    def _open_parallel(self) -> None:
        backend = self._study.workers.backend
        options: dict[str, Any] = {"backend": backend}
        if self._cluster is not None:
            options = dict(self._cluster.options)
        elif self._on_loky:
            options |= {
                "inner_max_num_threads": 1,
                "initializer": start_worker,
                "initargs": (os.getpid(),),
                # Keeps the results from before a death; other back ends return all or nothing.
                "return_as": "generator",
            }
        try:
            self._parallel = Parallel(
                n_jobs=self.count,
                batch_size=1,
                max_nbytes=None,
                **options,
            ).__enter__()
        except (ValueError, ImportError) as error:
            raise StudyError(
                f'{self._study.source}: [workers] backend = "{backend}": joblib cannot start it:'
                f" {error}; valid: loky, or a back end that is installed"
            ) from None
        except TimeoutError:
            raise self._lost("has no worker") from None

    def _restart(self) -> None:
        self._parallel.__exit__(None, None, None)
        if self._on_loky and reusable_executor._executor is not None:
            # joblib keeps loky's workers for the next pool. One that ran out of memory is still full.
            reusable_executor._executor.shutdown(wait=True, kill_workers=True)
        self._start()
        self._handover.clear()

    # --- Calls ----------------------------------------------------------------------------------

    @property
    def _deaths(self) -> tuple[type[BaseException], ...]:
        """The exceptions that say that a worker died."""
        on_cluster = () if self._cluster is None else self._cluster.deaths
        broken = BrokenProcessPool if self._watch.ended else TerminatedWorkerError
        return (broken, MemoryError, LostResultError, *on_cluster)

    def _results(
        self, function: Callable[..., Any], calls: Sequence[tuple[Any, ...]]
    ) -> Iterator[Any]:
        """The result of each call, in order."""
        if self._on_cluster:  # its workers see no file of the study
            yield from self._parallel(delayed(function)(*call) for call in calls)
            return
        for receipt in self._parallel(
            delayed(respond)(*self._handover.task(function, call)) for call in calls
        ):
            yield self._handover.receive(receipt)

    def _call_alone(self, function: Callable[..., Any], call: tuple[Any, ...]) -> Any:
        try:
            [result] = self._results(function, [call])
            return result
        except MemoryError:
            reason = "its worker ran out of memory twice"
        except self._deaths:
            reason = "its worker died twice"
            if clear_timeout(self._folder):
                limit = self._study.workers.tile_seconds
                reason = f"took longer than [workers] tile_seconds = {limit:g}"
        self._restart()
        return TileFailure(reason)

    def _lost(self, what: str) -> StudyError:
        table = self._study.workers
        return StudyError(
            f"{self._study.source}: the {table.backend} cluster at {table.address} {what}; what was"
            " written before is kept: start it again, then `barsweep resume` goes on"
        )


def _call_here(function: Callable[..., Any], call: tuple[Any, ...]) -> Any:
    try:
        return function(*call)
    except MemoryError:
        return TileFailure("ran out of memory")
