"""Where the points of a study come from: enumerated, from an Optuna sampler, or shared.

Each source is an ``Asker``: it gives the points of a batch, and learns what they were worth.
"""

from __future__ import annotations

import contextlib
import itertools
import warnings
from collections.abc import Iterator, Sequence
from typing import Protocol

import optuna
from optuna.trial import FixedTrial, FrozenTrial, Trial, TrialState, create_trial

from optimizer.engine.coordination import Coordinator, Point
from optimizer.engine.tasks import TileTask
from optimizer.errors import StudyError
from optimizer.search.outcome import Outcome
from optimizer.search.points import (
    bulk_tasks,
    grid_tasks,
    new_sampler,
    optuna_parameters,
    sampler_seed,
    suggest,
)
from optimizer.selection.steering import steered
from optimizer.store.batches import read_batch
from optimizer.store.folder import StudyFolder
from optimizer.study_file.space import Space
from optimizer.study_file.study import Study

optuna.logging.set_verbosity(optuna.logging.WARNING)

REPEATS = 20
"""Points that a sampler may repeat before the next free one of a fixed sequence is taken."""


class Asker(Protocol):
    """Source of a study's points.

    Batches are asked in order, from 0, and each is told before the next is asked.
    """

    def ask(self, batch: int) -> list[TileTask]:
        """The points of a batch; none once the study has enough trials.

        Args:
            batch: number of the batch, from 0.
        """

    def tell(self, outcomes: Sequence[Outcome]) -> list[FrozenTrial]:
        """Tell the batch that was asked last.

        Args:
            outcomes: the outcomes of its points, in the order in which they were asked.

        Returns:
            A finished trial for each outcome.
        """

    def publish(self, trials: Sequence[FrozenTrial]) -> None:
        """Make known, where others take part, that the results of a batch are on disk.

        Args:
            trials: the trials of the batch, as ``tell`` gave them.

        Raises:
            StudyError: the database that is shared cannot be used.
        """


def new_asker(
    study: Study,
    space: Space,
    n_trials: int,
    coordinator: Coordinator | None = None,
    warm: Sequence[TileTask] = (),
) -> Asker:
    """The source that a study asks for.

    Args:
        study: the study to search.
        space: the parameter space of the study.
        n_trials: trials of the whole study.
        coordinator: hands out the points of a study that several processes share, or None.
        warm: the first points, ahead of those of the source; not of a study that is shared.
    """
    if coordinator is not None:
        return SharedAsker(study, space, n_trials, coordinator)
    if steered(study, space):
        return SamplerAsker(study, space, n_trials, warm)
    return EnumeratedAsker(study, space, n_trials, warm)


def enumerated_points(study: Study, space: Space, n_trials: int) -> Iterator[TileTask]:
    """The points that depend on no result: the grid, or a random or quasi-random sequence.

    Args:
        study: the study to search. A sampler that goes by results gets a random sequence.
        space: the parameter space of the study.
        n_trials: length of the sequence; a grid ends earlier if it has fewer points.
    """
    search = study.search
    if search.sampler == "grid" or space.n_points == 1:
        return itertools.islice(grid_tasks(space), n_trials)
    kind = "qmc" if search.sampler == "qmc" else "random"
    return itertools.chain.from_iterable(
        bulk_tasks(space, kind, study.seed, first, min(search.batch, n_trials - first))
        for first in range(0, n_trials, search.batch)
    )


class _LearningNothing:
    """The part of a source whose points depend on no result that it is told.

    Args:
        space: the parameter space of the study.
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        self._asked: list[TileTask] = []

    def tell(self, outcomes: Sequence[Outcome]) -> list[FrozenTrial]:
        """Make finished trials of results, from which nothing is learned.

        Args:
            outcomes: outcomes of the points asked last, in their order.

        Returns:
            A finished trial for each outcome.
        """
        return _trials_at(self._space, self._asked, outcomes)

    def publish(self, trials: Sequence[FrozenTrial]) -> None:
        """Nothing to do.

        Args:
            trials: trials of the batch, which nobody else needs.
        """


class EnumeratedAsker(_LearningNothing):
    """Points of a fixed sequence, see ``enumerated_points``.

    Args:
        study: the study to search.
        space: the parameter space of the study.
        n_trials: trials of the study.
        warm: points that come first.
    """

    def __init__(
        self, study: Study, space: Space, n_trials: int, warm: Sequence[TileTask] = ()
    ) -> None:
        super().__init__(space)
        self._size = study.search.batch
        points = itertools.chain(warm, enumerated_points(study, space, n_trials))
        self._points = itertools.islice(points, n_trials)

    def ask(self, batch: int) -> list[TileTask]:
        """The next points of the sequence.

        Args:
            batch: number of the batch, from 0.
        """
        self._asked = list(itertools.islice(self._points, self._size))
        return self._asked


class SamplerAsker:
    """Points of an Optuna sampler, which learns from the trials told so far.

    The sampler is seeded for each batch, so that a study can be resumed at any batch.

    Args:
        study: the study to search.
        space: the parameter space of the study.
        n_trials: trials of the study.
        warm: points that come first.
    """

    def __init__(
        self, study: Study, space: Space, n_trials: int, warm: Sequence[TileTask] = ()
    ) -> None:
        self._search = study.search
        self._seed = study.seed
        self._space = space
        self._n_trials = n_trials
        self._optuna = optuna.create_study(directions=list(study.search.direction))
        for task in warm:
            params, _ = optuna_parameters(space, space.branches[task.branch], task.point)
            self._optuna.enqueue_trial(params)
        self._asked: list[Trial] = []

    def ask(self, batch: int) -> list[TileTask]:
        """The points that the sampler suggests after all trials of the batches before.

        Args:
            batch: number of the batch, from 0; it seeds the sampler.
        """
        size = self._search.batch
        count = min(size, self._n_trials - batch * size)
        if count <= 0:
            return []
        self._optuna.sampler = new_sampler(self._search.sampler, sampler_seed(self._seed, batch))
        with _quiet():
            self._asked = [self._optuna.ask() for _ in range(count)]
            return [suggest(self._space, trial) for trial in self._asked]

    def tell(self, outcomes: Sequence[Outcome]) -> list[FrozenTrial]:
        """Tell the sampler the results of the points asked last.

        Args:
            outcomes: outcomes of these points, in their order.

        Returns:
            A finished trial for each outcome.
        """
        return [
            self._tell(trial, outcome) for trial, outcome in zip(self._asked, outcomes, strict=True)
        ]

    def _tell(self, trial: Trial, outcome: Outcome) -> FrozenTrial:
        for name, value in outcome.attributes.items():
            trial.set_user_attr(name, value)
        for name, violation in outcome.violations.items():
            trial.set_constraint(name, violation)
        with _quiet():
            return self._optuna.tell(trial, outcome.values, state=_state(outcome))

    def publish(self, trials: Sequence[FrozenTrial]) -> None:
        """Nothing to do.

        Args:
            trials: trials of the batch, which nobody else needs.
        """


class SharedAsker:
    """Points that no other coordinator of the same study has.

    A sampler that goes by results suggests some, with the trials of all coordinators in view. Where
    these are taken, and for every other sampler, the next free points of a fixed sequence are taken.

    Args:
        study: the study to search.
        space: the parameter space of the study.
        n_trials: trials of all coordinators together.
        coordinator: hands out the points.
    """

    def __init__(self, study: Study, space: Space, n_trials: int, coordinator: Coordinator) -> None:
        self._study = study
        self._space = space
        self._n_trials = n_trials
        self._coordinator = coordinator
        self._asked: list[tuple[int, TileTask]] = []

    def ask(self, batch: int) -> list[TileTask]:
        """The free points, each reserved in the database; waits while others may leave some.

        Args:
            batch: number of the batch, from 0; points are given out regardless of it.
        """
        with _quiet():
            self._asked = self._coordinator.ask(
                self._study.search.batch, self._n_trials, self._points
            )
        return [task for _, task in self._asked]

    def tell(self, outcomes: Sequence[Outcome]) -> list[FrozenTrial]:
        """Make finished trials of results, which ``publish`` sends to the database.

        Args:
            outcomes: outcomes of the points asked last, in their order.

        Returns:
            A finished trial for each outcome.
        """
        return _trials_at(self._space, [task for _, task in self._asked], outcomes)

    def publish(self, trials: Sequence[FrozenTrial]) -> None:
        """Tell the database the results of a batch: what it holds as done is on disk.

        Args:
            trials: trials that ``tell`` returned, in their order.
        """
        for (key, _), trial in zip(self._asked, trials, strict=True):
            self._coordinator.tell(key, trial)

    def _points(self, known: Sequence[FrozenTrial]) -> Iterator[Point[TileTask]]:
        """Points to choose from, in order, when ``known`` are the trials of all coordinators."""
        study, space = self._study, self._space
        if steered(study, space):
            yield from itertools.islice(self._suggested(known), study.search.batch + REPEATS)
        # Twice as many as wanted: some repeat others.
        n_points = 2 * self._n_trials + study.search.batch
        if study.search.sampler == "grid" or space.n_points == 1:
            n_points = int(space.n_points or 1)
        for task in enumerated_points(study, space, n_points):
            yield Point(task, *optuna_parameters(space, space.branches[task.branch], task.point))

    def _suggested(self, known: Sequence[FrozenTrial]) -> Iterator[Point[TileTask]]:
        """Points that the sampler suggests, without end."""
        search = self._study.search
        # In memory: asked of the database, each parameter takes several round trips to it.
        own = optuna.create_study(directions=[*search.direction])
        own.add_trials(known)
        own.sampler = new_sampler(search.sampler, sampler_seed(self._study.seed, len(known)))
        while True:
            trial = own.ask()
            task = suggest(self._space, trial)
            record = own.get_trials(deepcopy=False)[trial.number]
            yield Point(task, record.params, record.distributions, record.system_attrs)


class RecordedAsker(_LearningNothing):
    """Points that other processes have asked, as the batches of a folder record them.

    Args:
        space: the parameter space of the study.
        folder: the folder, with every batch.
        n_batches: number of its batches.
    """

    def __init__(self, space: Space, folder: StudyFolder, n_batches: int) -> None:
        super().__init__(space)
        self._folder = folder
        self._n_batches = n_batches

    def ask(self, batch: int) -> list[TileTask]:
        """The points of a batch.

        Args:
            batch: number of the batch, from 0.

        Raises:
            StudyError: the batch is missing or damaged.
        """
        if batch >= self._n_batches:
            return []
        path = self._folder.batch_path(batch)
        try:
            trials = read_batch(path).trials
            self._asked = [suggest(self._space, FixedTrial(one["params"])) for one in trials]
        except ValueError as error:
            raise StudyError(
                f"{path}: {error}, and only the folders of which this study is made have it: `barsweep"
                " merge` them again, with --overwrite"
            ) from None
        return self._asked


def _trials_at(
    space: Space, tasks: Sequence[TileTask], outcomes: Sequence[Outcome]
) -> list[FrozenTrial]:
    """Finished trials at points that no Optuna study was asked for."""
    trials = []
    for task, outcome in zip(tasks, outcomes, strict=True):
        params, distributions = optuna_parameters(space, space.branches[task.branch], task.point)
        trials.append(
            create_trial(
                state=_state(outcome),
                values=outcome.values,
                params=params,
                distributions=distributions,
                user_attrs=dict(outcome.attributes),
                constraints=dict(outcome.violations),
            )
        )
    return trials


def _state(outcome: Outcome) -> TrialState:
    return TrialState.FAIL if outcome.values is None else TrialState.COMPLETE


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Drop a warning: CMA-ES cannot use constraints, which still rank the results."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Constraints have been set", UserWarning)
        yield
