"""A Ray cluster as the back end of the pool."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from optimizer.engine.cluster import Cluster, not_installed, one_line, unusable
from optimizer.engine.shipping import Shipped
from optimizer.study_file.study import Study


@dataclass(frozen=True, eq=False)
class StoredParcel:
    """What was shipped, in Ray's object store; the processes of one machine map one copy.

    Attributes:
        key: the key of what was shipped.
        reference: Ray's reference to it.
    """

    key: str
    reference: Any

    def shipped(self) -> Shipped:
        """Fetch what was shipped.

        Returns:
            The object, its arrays mapped read-only.
        """
        import ray

        found: Shipped = ray.get(self.reference)
        return found


@contextlib.contextmanager
def connect_ray(study: Study, shipped: Shipped | None, wanted: int) -> Iterator[Cluster]:
    """Connect to the Ray cluster of a study; a connection that exists already is used and kept.

    Args:
        study: a study whose back end is Ray.
        shipped: what to send to the cluster; None sends nothing.
        wanted: processes wanted, 0 for all.

    Yields:
        The cluster.

    Raises:
        StudyError: Ray is not installed, or the cluster does not answer or has no processor.
    """
    try:
        import ray
        from ray.util.joblib import register_ray
    except ImportError as error:
        raise not_installed(study, error) from None
    register_ray()
    ours = not ray.is_initialized()
    if ours:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                ray.init(
                    address=study.workers.address, log_to_driver=False, logging_level="critical"
                )
            except (ConnectionError, OSError, ValueError, RuntimeError) as error:
                reason = f"no Ray cluster answers there ({one_line(error)})"
                raise unusable(study, reason) from None
    try:
        there = int(ray.cluster_resources().get("CPU", 0))
        if there < 1:
            raise unusable(study, "the Ray cluster has no processors")
        yield Cluster(
            slots=min(wanted or there, there),
            parcel=None if shipped is None else StoredParcel(shipped.key, ray.put(shipped)),
            options={"backend": "ray"},
            deaths=(ray.exceptions.RayActorError, ray.exceptions.WorkerCrashedError),
            losses=(ray.exceptions.RaySystemError, ConnectionError),
        )
    finally:
        if ours:
            ray.shutdown()
