"""Connect to the cluster that a study names."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from optimizer.engine.cluster import Cluster
from optimizer.engine.dask_cluster import connect_dask
from optimizer.engine.ray_cluster import connect_ray
from optimizer.engine.shipping import Shipped
from optimizer.errors import UntrustedCodeError
from optimizer.isolation import safe_children
from optimizer.strategies.approvals import cluster_hash, is_approved
from optimizer.study_file.study import Study
from optimizer.study_file.tables import CLUSTERS
from optimizer.sweep.inputs import Inputs
from optimizer.text import quoted

_CONNECT = {"dask": connect_dask, "ray": connect_ray}


@contextlib.contextmanager
def connect_cluster(study: Study, inputs: Inputs | None, wanted: int) -> Iterator[Cluster]:
    """Connect to a study's cluster, and send what its tasks share.

    Args:
        study: a study whose back end is one of ``CLUSTERS``.
        inputs: the inputs of the study; None sends nothing.
        wanted: processes wanted, 0 for all; Dask always uses all workers.

    Yields:
        The cluster, until the block ends.

    Raises:
        StudyError: the back end is not installed, or the cluster does not answer or has no worker.
        StrategyError: the file of a user's strategy has changed since it was read.
        UntrustedCodeError: see ``require_cluster``, or the strategy's file is not approved.
    """
    require_cluster(study)
    shipped = None if inputs is None else Shipped.of(study, inputs)
    connect = _CONNECT[study.workers.backend]
    # A Ray address may ask for a cluster on this machine, which Ray then starts.
    with safe_children(), connect(study, shipped, wanted) as cluster:
        yield cluster


def require_cluster(study: Study) -> None:
    """Refuse a cluster that only a record names: whoever runs its scheduler can run code here.

    Args:
        study: a study with any back end.

    Raises:
        UntrustedCodeError: the user has neither named nor approved the cluster.
    """
    table = study.workers
    if table.backend in CLUSTERS and not is_approved(cluster_hash(table.backend, table.address)):
        raise UntrustedCodeError(
            f"{study.source}: [workers] address = {quoted(table.address)}: a {table.backend} cluster that"
            " you never named yourself, and that could run code here; if it is yours, add --trust"
            " (trust=True in Python)"
        )


def count_slots(study: Study, wanted: int) -> int:
    """Ask a study's cluster how much it can do at a time.

    Args:
        study: a study whose back end is one of ``CLUSTERS``.
        wanted: processes wanted, 0 for all; Dask always uses all workers.

    Returns:
        The number of tasks at a time.

    Raises:
        StudyError: the back end is not installed, or the cluster does not answer or has no worker.
    """
    with connect_cluster(study, None, wanted) as cluster:
        return cluster.slots
