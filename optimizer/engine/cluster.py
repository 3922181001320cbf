"""Workers on other machines: a Dask scheduler or a Ray cluster, each a back end of joblib.

Nothing depends on a shared file system: bars, features, the study and the files of users' own
strategies go to the cluster once, as one object, and a worker process keeps what it makes of them
under a key of their content. A worker whose software differs refuses, since its bits might too.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import platform
import threading
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from joblib import parallel_config
from joblib.parallel import get_active_backend

from optimizer.compile_cache import exclusive, kernels_folder, source_key
from optimizer.errors import StudyError, UntrustedCodeError
from optimizer.market.regimes import compile_classifier
from optimizer.strategies.approvals import accept, cluster_hash, is_approved
from optimizer.strategies.user import UserStrategy
from optimizer.study_file.space import Space, build_space
from optimizer.study_file.study import Study, recorded_study
from optimizer.study_file.tables import CLUSTERS
from optimizer.sweep.evaluate import evaluate
from optimizer.sweep.inputs import Inputs
from optimizer.sweep.tiles import Tile
from optimizer.text import show
from optimizer.versions import software_versions

CONNECT_SECONDS = 10
"""Time for a scheduler to answer, and for a first worker to be there."""

REPLACE_SECONDS = 60
"""Time for a worker to be there again where the last one died."""

_CLOSE_SECONDS = 2
_KEPT_CONTEXTS = 2


def compile_kernels(inputs: Inputs, space: Space) -> None:
    """Compile all that the tiles of a study call; what numba's cache has is read from there."""
    codes = np.zeros(inputs.bars.n_bars, dtype=np.int8)
    for branch in {one.strategy.simulation: one for one in space.branches}.values():
        tile = Tile.of(branch, branch.first_set())
        evaluate(inputs.shortened(), [tile], dict.fromkeys(tile.regime_keys()[0], codes))
    for classifier in space.classifiers:
        compile_classifier(classifier)


@dataclass(frozen=True, eq=False)
class Shipped:
    """All that a worker without a common file system needs, read-only.

    Attributes:
        key: of the content; equal keys give equal results.
        study: as ``Study.to_dict`` gives it, without passwords.
        inputs: of the study.
        sources: content of the files of users' own strategies.
        software: versions, and the key of the kernels' sources.
    """

    key: str
    study: Mapping[str, Any]
    inputs: Inputs
    sources: tuple[tuple[UserStrategy, bytes], ...]
    software: Mapping[str, str]

    @classmethod
    def of(cls, study: Study, inputs: Inputs) -> Shipped:
        """Pack a study.

        Raises:
            UntrustedCodeError: the file of a user's strategy is not approved.
            StrategyError: the file of a user's strategy has changed since it was read.
        """
        for strategy in study.user_strategies:
            strategy.require_approval()
        head = [study.to_dict(), inputs.bars.content_hash, inputs.first, inputs.split]
        text = json.dumps([*head, inputs.bounds, _software()], sort_keys=True)
        return cls(
            key=hashlib.sha256(text.encode()).hexdigest(),
            study=study.to_dict(),
            inputs=inputs,
            sources=tuple((one, one.source()) for one in study.user_strategies),
            software=_software(),
        )

    def shipped(self) -> Shipped:
        """This: what a task is handed may also be a way to fetch it."""
        return self


@dataclass(frozen=True, eq=False)
class _InObjectStore:
    """Where Ray keeps what is shipped; the processes of one machine map one copy."""

    key: str
    reference: Any

    def shipped(self) -> Shipped:
        import ray

        found: Shipped = ray.get(self.reference)
        return found


_contexts: dict[str, tuple[Inputs, Space]] = {}
_lock = threading.Lock()


def context_of(parcel: Shipped | _InObjectStore) -> tuple[Inputs, Space]:
    """In a worker: inputs and space of what was shipped, unpacked once for each process.

    Raises:
        StudyError: the software here is not that of the study.
    """
    with _lock:
        if parcel.key not in _contexts:
            shipped = parcel.shipped()
            _refuse_other_software(shipped)
            for strategy, content in shipped.sources:
                accept([strategy.declaration.source_hash])  # which the parent was allowed to send
                strategy.provide(content)
            inputs = _read_only(shipped.inputs)
            space = build_space(recorded_study(shipped.study))
            with exclusive():  # the processes of one machine have one cache of compiled kernels
                compile_kernels(inputs, space)
            while len(_contexts) >= _KEPT_CONTEXTS:
                del _contexts[next(iter(_contexts))]
            _contexts[parcel.key] = inputs, space
        return _contexts[parcel.key]


def _software() -> dict[str, str]:
    return {**software_versions(), "kernels": source_key(kernels_folder())}


def _refuse_other_software(shipped: Shipped) -> None:
    ours = _software()
    for name, version in shipped.software.items():
        # The key of the kernels holds the build of Python too, so it is compared last.
        if ours.get(name) != version:
            raise StudyError(
                f"the worker on {platform.node()} has {name} {ours.get(name)}, the study {version},"
                " and results might differ; install the same there"
            )


def _read_only(inputs: Inputs) -> Inputs:
    """The same, with arrays as the kernels were compiled for: aligned and not writable."""

    def fixed(value: Any) -> Any:
        if not isinstance(value, np.ndarray):
            return value
        array = np.require(value, requirements=["C", "A"])
        if array.flags.writeable:
            array = array.view()
            array.flags.writeable = False
        return array

    def members(owner: Any) -> dict[str, Any]:
        return {one.name: fixed(getattr(owner, one.name)) for one in fields(owner) if one.init}

    bars = replace(inputs.bars, **members(inputs.bars))
    features = replace(inputs.features, **members(inputs.features))
    return replace(inputs, **{**members(inputs), "bars": bars, "features": features})


@dataclass(frozen=True)
class Engine:
    """A cluster that is there.

    Attributes:
        count: tasks that it can do at a time.
        parcel: what tasks are handed for ``context_of``.
        options: of ``joblib.Parallel``.
        deaths: what a task raises whose worker died.
        gone: what is raised when the cluster is no longer there.
    """

    count: int
    parcel: Any
    options: Mapping[str, Any]
    deaths: tuple[type[BaseException], ...]
    gone: tuple[type[BaseException], ...]


def count_slots(study: Study, wanted: int) -> int:
    """Tasks that the study's cluster can do at a time; at most ``wanted`` where the back end heeds it.

    Raises:
        StudyError: the back end is not installed, or the cluster does not answer or has no worker.
    """
    with connected(study, None, wanted) as engine:
        return engine.count


def require_cluster(study: Study) -> None:
    """Refuse a cluster that only a record names: whoever runs its scheduler can run code here.

    Args:
        study: with any back end.

    Raises:
        UntrustedCodeError: the user has neither named nor approved the cluster.
    """
    table = study.workers
    if table.backend in CLUSTERS and not is_approved(cluster_hash(table.backend, table.address)):
        raise UntrustedCodeError(
            f"{study.source}: [workers] address = {show(table.address)}: a {table.backend} cluster that"
            " you never named yourself, and that could run code here; if it is yours, add --trust"
            " (trust=True in Python)"
        )


@contextlib.contextmanager
def connected(study: Study, inputs: Inputs | None, wanted: int) -> Iterator[Engine]:
    """A study's cluster, with what its tasks share sent there.

    Args:
        study: with a back end of ``CLUSTERS``.
        inputs: of the study; None sends nothing.
        wanted: processes, 0 for all; Dask takes all that are there.

    Raises:
        UntrustedCodeError: see ``require_cluster``.
        StudyError: the back end is not installed, or the cluster does not answer or has no worker.
    """
    require_cluster(study)
    shipped = None if inputs is None else Shipped.of(study, inputs)
    start = {"dask": _dask, "ray": _ray}[study.workers.backend]
    with start(study, shipped, wanted) as engine:
        yield engine


def _missing(study: Study, error: ImportError) -> StudyError:
    backend = study.workers.backend
    return StudyError(
        f'{study.source}: [workers] backend = "{backend}" needs a package that is not installed'
        f" ({error}); install it: pip install 'barsweep[{backend}]'"
    )


def _unreachable(study: Study, reason: str) -> StudyError:
    table = study.workers
    place = f'{study.source}: [workers] address = "{table.address}"'
    return StudyError(f"{place}: {reason}; {CLUSTERS[table.backend]}")


def _hold(shipped: Shipped) -> Shipped:
    return shipped


@contextlib.contextmanager
def _dask(study: Study, shipped: Shipped | None, wanted: int) -> Iterator[Engine]:
    try:
        import distributed
    except ImportError as error:
        raise _missing(study, error) from None
    # Dask reports each lost connection with a traceback; what it means is said here.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    try:
        client = distributed.Client(
            study.workers.address, timeout=CONNECT_SECONDS, set_as_default=False
        )
    except (OSError, ValueError, ImportError, TypeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise _unreachable(study, f"no Dask scheduler answers there ({reason})") from None
    try:
        try:
            client.wait_for_workers(1, timeout=CONNECT_SECONDS)
        except TimeoutError:
            raise _unreachable(study, "the Dask scheduler has no worker") from None
        parcel = None
        if shipped is not None:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Sending large graph")
                # The result of a task, not scattered data: lost with its workers, it is made anew.
                parcel = client.submit(_hold, shipped, key=f"barsweep-{shipped.key}", pure=True)
            with client.as_current():
                distributed.wait(parcel)
            client.replicate(parcel)
        yield Engine(
            count=sum(client.nthreads().values()),
            parcel=parcel,
            options={
                "backend": _dask_backend(client),
                "pre_dispatch": "all",
                "return_as": "generator",
            },
            deaths=(distributed.KilledWorker,),
            gone=(distributed.client.FutureCancelledError, OSError, TimeoutError),
        )
    finally:
        with contextlib.suppress(TimeoutError):  # the scheduler is gone
            client.close(timeout=_CLOSE_SECONDS)


def _dask_backend(client: Any) -> Any:
    """joblib's, with two changes.

    It does all in this process where there is one slot: the next may come later. And it never hears
    of a task that Dask gave up, and would wait for it for ever.
    """
    with parallel_config(backend="dask", client=client, wait_for_workers_timeout=REPLACE_SECONDS):
        backend, _ = get_active_backend()
    slots, submit = backend.effective_n_jobs, backend.submit

    def submitted(task: Any, callback: Any = None) -> Any:
        future = submit(task, callback)

        def failed(done: Any) -> None:
            error = done.exception()
            if error is not None and callback is not None:
                callback(error)

        future.add_done_callback(failed)
        return future

    backend.effective_n_jobs = lambda n_jobs: max(2, slots(n_jobs))
    backend.submit = submitted
    return backend


@contextlib.contextmanager
def _ray(study: Study, shipped: Shipped | None, wanted: int) -> Iterator[Engine]:
    try:
        import ray
        from ray.util.joblib import register_ray
    except ImportError as error:
        raise _missing(study, error) from None
    register_ray()
    ours = not ray.is_initialized()
    if ours:
        with _quiet():
            try:
                ray.init(
                    address=study.workers.address, log_to_driver=False, logging_level="critical"
                )
            except (ConnectionError, OSError, ValueError, RuntimeError) as error:
                reason = " ".join(str(error).split()) or type(error).__name__
                raise _unreachable(study, f"no Ray cluster answers there ({reason})") from None
    try:
        there = int(ray.cluster_resources().get("CPU", 0))
        if there < 1:
            raise _unreachable(study, "the Ray cluster has no processor to give")
        yield Engine(
            count=min(wanted or there, there),
            parcel=None if shipped is None else _InObjectStore(shipped.key, ray.put(shipped)),
            options={"backend": "ray"},
            deaths=(ray.exceptions.RayActorError, ray.exceptions.WorkerCrashedError),
            gone=(ray.exceptions.RaySystemError, ConnectionError),
        )
    finally:
        if ours:
            ray.shutdown()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
