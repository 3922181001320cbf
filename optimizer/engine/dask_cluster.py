"""A Dask cluster as the back end of the pool."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from typing import Any

from joblib import parallel_config
from joblib.parallel import get_active_backend

from optimizer.engine.cluster import Cluster, not_installed, one_line, unusable
from optimizer.engine.shipping import Shipped
from optimizer.study_file.study import Study

CONNECT_SECONDS = 10
"""How long to wait for the scheduler to answer, and then for its first worker."""

REPLACE_SECONDS = 60
"""How long to wait for another worker after the last one died."""

_CLOSE_SECONDS = 2


@contextlib.contextmanager
def connect_dask(study: Study, shipped: Shipped | None, wanted: int) -> Iterator[Cluster]:
    """Connect to the Dask cluster of a study.

    Args:
        study: a study whose back end is Dask.
        shipped: what to send to the cluster; None sends nothing.
        wanted: ignored: all workers of a Dask cluster are used.

    Yields:
        The cluster.

    Raises:
        StudyError: Dask is not installed, or the scheduler does not answer or has no worker.
    """
    try:
        import distributed
    except ImportError as error:
        raise not_installed(study, error) from None
    # Dask logs a traceback for each lost connection; the pool reports what it means.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    try:
        client = distributed.Client(
            study.workers.address, timeout=CONNECT_SECONDS, set_as_default=False
        )
    except (OSError, ValueError, ImportError, TypeError) as error:
        raise unusable(study, f"no Dask scheduler answers there ({one_line(error)})") from None
    try:
        try:
            client.wait_for_workers(1, timeout=CONNECT_SECONDS)
        except TimeoutError:
            raise unusable(study, "the Dask scheduler has no worker") from None
        yield Cluster(
            slots=sum(client.nthreads().values()),
            parcel=None if shipped is None else _send(client, shipped),
            options={
                "backend": _backend(client),
                "pre_dispatch": "all",
                "return_as": "generator",
            },
            deaths=(distributed.KilledWorker,),
            losses=(distributed.client.FutureCancelledError, OSError, TimeoutError),
        )
    finally:
        with contextlib.suppress(TimeoutError):  # the scheduler is gone
            client.close(timeout=_CLOSE_SECONDS)


def _send(client: Any, shipped: Shipped) -> Any:
    """Send an object to every worker; returns the future of it."""
    import distributed

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sending large graph")
        # The result of a task, not scattered data: Dask computes it again if its workers die.
        parcel = client.submit(_identity, shipped, key=f"barsweep-{shipped.key}", pure=True)
    with client.as_current():
        distributed.wait(parcel)
    client.replicate(parcel)
    return parcel


def _identity(shipped: Shipped) -> Shipped:
    return shipped


def _backend(client: Any) -> Any:
    """Joblib's back end for Dask, with two changes.

    With a single slot joblib would compute everything in this process, but more workers may join
    later. And joblib is not told of a task that Dask gave up, so it would wait for it forever.
    """
    with parallel_config(backend="dask", client=client, wait_for_workers_timeout=REPLACE_SECONDS):
        backend, _ = get_active_backend()
    slots, submit = backend.effective_n_jobs, backend.submit

    def submit_and_report(task: Any, callback: Any = None) -> Any:
        future = submit(task, callback)

        def report_failure(done: Any) -> None:
            error = done.exception()
            if error is not None and callback is not None:
                callback(error)

        future.add_done_callback(report_failure)
        return future

    backend.effective_n_jobs = lambda n_jobs: max(2, slots(n_jobs))
    backend.submit = submit_and_report
    return backend
