"""A cluster that evaluates tiles, as the pool sees it: the same record for Dask and for Ray."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optimizer.errors import StudyError
from optimizer.study_file.study import Study
from optimizer.study_file.tables import CLUSTERS


@dataclass(frozen=True)
class Cluster:
    """A cluster that has answered, as a back end of joblib.

    Attributes:
        slots: number of tasks that it can do at a time.
        parcel: the argument of tasks from which ``shipping.context_of`` gets the inputs and the space;
            None if nothing was sent.
        options: keyword arguments of ``joblib.Parallel``.
        deaths: the exceptions of a task whose worker died.
        losses: the exceptions that say that the cluster is gone.
    """

    slots: int
    parcel: Any
    options: Mapping[str, Any]
    deaths: tuple[type[BaseException], ...]
    losses: tuple[type[BaseException], ...]


def not_installed(study: Study, error: ImportError) -> StudyError:
    """The error for a back end whose package is missing.

    Args:
        study: a study that names the back end.
        error: what its import raised.

    Returns:
        The error to raise, which says how to install the package.
    """
    backend = study.workers.backend
    return StudyError(
        f'{study.source}: [workers] backend = "{backend}" needs a package that is not installed'
        f" ({error}); install it: pip install 'barsweep[{backend}]'"
    )


def unusable(study: Study, reason: str) -> StudyError:
    """The error for an address at which no usable cluster answers.

    Args:
        study: a study that names the address.
        reason: what is wrong there.

    Returns:
        The error to raise, which says how to start a cluster.
    """
    table = study.workers
    place = f'{study.source}: [workers] address = "{table.address}"'
    return StudyError(f"{place}: {reason}; {CLUSTERS[table.backend]}")


def one_line(error: BaseException) -> str:
    """The message of an exception in one line.

    Args:
        error: any exception.

    Returns:
        Its message, or the name of its type if it has none.
    """
    return " ".join(str(error).split()) or type(error).__name__
