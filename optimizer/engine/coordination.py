"""One study, several coordinators, with the trials of all of them in one PostgreSQL database.

Points are handed out under a lock in the database, so that none is handed out twice. A trial is told
once its results are on disk in the folder of its coordinator. When a coordinator dies, the heartbeats of
its trials stop. The next coordinator that asks marks these trials as failed, and their points are free
again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import optuna
import sqlalchemy
from optuna.distributions import BaseDistribution
from optuna.storages import RDBStorage, fail_stale_trials
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from optimizer.catalogue import Direction
from optimizer.errors import StudyError
from optimizer.store.trial_records import point_key
from optimizer.versions import software_versions

HEARTBEAT_SECONDS = 5
"""Time between two heartbeats of a trial."""

GRACE_SECONDS = 60
"""A trial without a heartbeat for longer than this belongs to a coordinator that died."""

_POLL_SECONDS = 0.5
"""Time between two checks for points that have become free."""

FOLDER = "folder"
"""Attribute of a trial: the folder of its coordinator, with the results once it is told."""

REASON = "reason"
"""Attribute of a trial: why it has no value."""

_UNSIGNED = sqlalchemy.text(
    "SELECT trial_id FROM trials WHERE study_id = :study AND state = 'RUNNING'"
    " AND trial_id NOT IN (SELECT trial_id FROM trial_heartbeats)"
)

Task = TypeVar("Task")


@dataclass(frozen=True)
class Point(Generic[Task]):
    """A point of the searched space.

    Attributes:
        task: the task at the point.
        params: value of each searched parameter, by name.
        distributions: distribution of each searched parameter, by name.
        sampler_state: system attributes by which a sampler recognizes its own trials.
    """

    task: Task
    params: Mapping[str, Any]
    distributions: Mapping[str, BaseDistribution]
    sampler_state: Mapping[str, Any] = field(default_factory=dict)


class Coordinator:
    """One of the processes that share a study. Use as a context manager.

    Args:
        url: address of a PostgreSQL database; its password appears in no message and no file.
        source: name of the study in messages.
        content: hash of the study and its bars. Coordinators with the same hash and the same software
            share a study.
        directions: direction of each objective.
        folder: where this coordinator writes its results.

    Raises:
        StudyError: the driver is not installed, or the database cannot be used.
    """

    def __init__(
        self, url: str, source: str, content: str, directions: Sequence[Direction], folder: str
    ) -> None:
        self._source = source
        self._folder = folder
        self._held: set[int] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        software = json.dumps(software_versions(), sort_keys=True)
        key = hashlib.sha256(f"{content}\0{software}".encode()).hexdigest()
        self._lock = int(key[:15], 16)
        try:
            import psycopg  # noqa: F401

            place = sqlalchemy.engine.make_url(url).set(drivername="postgresql+psycopg")
            self._place = place.render_as_string(hide_password=True)
            self._engine = sqlalchemy.create_engine(place, pool_pre_ping=True)
        except ImportError:
            raise StudyError(
                f"{source}: [search] storage needs a package that is not installed (psycopg); install"
                " it: pip install 'barsweep[postgres]'"
            ) from None
        except ArgumentError:
            raise StudyError(
                f"{source}: [search] storage: not the address of a database; expected"
                ' "postgresql://USER@HOST/NAME"'
            ) from None
        with self._errors(), self._exclusive(), warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._storage = RDBStorage(
                place.render_as_string(hide_password=False),
                heartbeat_interval=HEARTBEAT_SECONDS,
                grace_period=GRACE_SECONDS,
            )
            self._study = optuna.create_study(
                study_name=f"barsweep-{key[:32]}",
                storage=self._storage,
                directions=[*directions],
                load_if_exists=True,
            )

    def __enter__(self) -> Coordinator:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Give up the trials that were not told, so that others need not wait for them."""
        self._stop.set()
        self._thread.join()
        with contextlib.suppress(SQLAlchemyError, optuna.exceptions.OptunaError):
            for trial in self._held:
                self._storage.set_trial_state_values(trial, TrialState.FAIL)
        self._storage.engine.dispose()
        self._engine.dispose()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            cause = error.__cause__ if isinstance(error.__cause__, SQLAlchemyError) else error
            reason = " ".join(str(getattr(cause, "orig", None) or type(cause).__name__).split())
            raise StudyError(
                f"{self._source}: [search] storage: {self._place}: {reason}; what was told is kept:"
                " fix the database and run again"
            ) from None

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Hold this study's lock in the database. Losing the connection releases it."""
        with self._engine.connect() as connection:
            connection.execute(sqlalchemy.text("SELECT pg_advisory_lock(:n)"), {"n": self._lock})
            yield
            connection.rollback()
            connection.execute(sqlalchemy.text("SELECT pg_advisory_unlock(:n)"), {"n": self._lock})

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            with contextlib.suppress(SQLAlchemyError, optuna.exceptions.OptunaError):
                for trial in tuple(self._held):
                    self._storage.record_heartbeat(trial)

    def ask(
        self,
        count: int,
        n_trials: int,
        points: Callable[[Sequence[FrozenTrial]], Iterator[Point[Task]]],
    ) -> list[tuple[int, Task]]:
        """Reserve trials at points that no coordinator has taken.

        Waits while no point is free but others are still at work: if they die, their points become
        free.

        Args:
            count: number of trials wanted.
            n_trials: number of trials of the whole study.
            points: gives the points to choose from, in order, from the trials so far.

        Returns:
            The number of each trial in the database and the task at its point, at most ``count``; empty
            once the study is complete.

        Raises:
            StudyError: the database cannot be used.
        """
        while True:
            with self._errors(), self._exclusive(), warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                fail_stale_trials(self._study)
                self._fail_unsigned_trials()
                known = self._study.get_trials(deepcopy=False)
                live = [one for one in known if _counts(one)]
                taken = {point_key(one.params) for one in live}
                wanted = min(count, n_trials - len(live))
                found: list[tuple[int, Task]] = []
                for point in points(known) if wanted > 0 else ():
                    key = point_key(point.params)
                    if key in taken:
                        continue
                    taken.add(key)
                    found.append((self._take(point), point.task))
                    if len(found) == wanted:
                        break
            if found or all(one.state != TrialState.RUNNING for one in live):
                return found
            time.sleep(_POLL_SECONDS)

    def _fail_unsigned_trials(self) -> None:
        """Give up trials whose coordinators died before the first heartbeat, which Optuna ignores.

        A trial is added and gets its first heartbeat under one hold of the lock, so no living
        coordinator is between the two.
        """
        with self._engine.connect() as connection:
            found = connection.execute(_UNSIGNED, {"study": self._study._study_id}).scalars().all()
        for trial in found:
            self._storage.set_trial_state_values(trial, TrialState.FAIL)

    def _take(self, point: Point[Any]) -> int:
        # One transaction; Optuna's own `ask` takes one per parameter.
        trial = self._storage.create_new_trial(
            self._study._study_id,
            optuna.trial.create_trial(
                state=TrialState.RUNNING,
                params=dict(point.params),
                distributions=dict(point.distributions),
                user_attrs={FOLDER: self._folder},
                system_attrs=dict(point.sampler_state),
            ),
        )
        self._storage.record_heartbeat(trial)
        self._held.add(trial)
        return trial

    def tell(self, trial: int, record: FrozenTrial) -> None:
        """Tell a trial whose results are on disk. The results themselves stay in the folder.

        Args:
            trial: its number in the database, from ``ask``.
            record: the finished trial.

        Raises:
            StudyError: the trial was given up, or the database cannot be used.
        """
        with self._errors():
            try:
                if REASON in record.user_attrs:
                    reason = record.user_attrs[REASON]
                    self._storage.set_trial_user_attr(trial, REASON, reason)
                for name, violation in record.system_attrs.items():
                    self._storage.set_trial_system_attr(trial, name, violation)
                self._storage.set_trial_state_values(trial, record.state, record.values)
            except optuna.exceptions.UpdateFinishedTrialError:
                raise StudyError(
                    f"{self._source}: [search] storage: a trial was given up, since this process gave"
                    f" no sign of life for {GRACE_SECONDS} s; another takes it over: run again"
                ) from None
        self._held.discard(trial)


def _counts(trial: FrozenTrial) -> bool:
    """Whether a trial takes one of the study's places: running, complete, or failed with a reason."""
    if trial.state == TrialState.FAIL:
        return REASON in trial.user_attrs
    return trial.state in (TrialState.RUNNING, TrialState.COMPLETE)
