"""Sources of points alone: no worker, no folder, no bars."""

from __future__ import annotations

import itertools
import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState

from optimizer.engine.tasks import TileTask
from optimizer.search.asker import (
    Asker,
    EnumeratedAsker,
    SamplerAsker,
    SharedAsker,
    enumerated_points,
    new_asker,
)
from optimizer.search.outcome import Outcome, failed
from optimizer.store.trial_records import point_key
from optimizer.study_file.search_tables import SAMPLERS
from optimizer.study_file.space import Space, build_space
from optimizer.study_file.study import Study, study_from_dict
from tests.support.studies import mapping

STEPPED = {"max_exposure": {"low": 0.4, "high": 1.0, "step": 0.3}}
N_TRIALS = 10


def study_of(sampler: str, **tables: Any) -> tuple[Study, Space]:
    search = {"sampler": sampler, "trials": N_TRIALS, "batch": 4}
    study = study_from_dict(mapping(risk=STEPPED, search=search, **tables))
    return study, build_space(study)


def asker_of(sampler: str, **tables: Any) -> Asker:
    return new_asker(*study_of(sampler, **tables), N_TRIALS)


def worth(value: float, *, sets: int = 4, excess: float = 0.0) -> Outcome:
    return Outcome((value,), {"n_sets": sets}, {"n_trades >= 12": excess})


def by_lookback(task: TileTask) -> Outcome:
    return worth(float(task.point["momentum_lookback"]))


def by_lookback_downwards(task: TileTask) -> Outcome:
    return worth(-float(task.point["momentum_lookback"]))


def played(
    asker: Asker, outcome: Callable[[TileTask], Outcome] = by_lookback
) -> list[tuple[list[TileTask], list[FrozenTrial]]]:
    """Every batch, asked and told."""
    batches: list[tuple[list[TileTask], list[FrozenTrial]]] = []
    for number in itertools.count():
        tasks = asker.ask(number)
        if not tasks:
            return batches
        trials = asker.tell([outcome(task) for task in tasks])
        asker.publish(trials)
        batches.append((tasks, trials))
    raise AssertionError


def points(batches: Sequence[tuple[Sequence[TileTask], Any]]) -> list[dict[str, Any]]:
    return [dict(task.point) for tasks, _ in batches for task in tasks]


@pytest.mark.parametrize(
    ("sampler", "kind"),
    [
        *[(name, EnumeratedAsker) for name in ("random", "qmc", "grid")],
        *[(name, SamplerAsker) for name in ("tpe", "nsga2", "cmaes")],
    ],
)
def test_each_sampler_has_its_source(sampler: str, kind: type) -> None:
    assert type(asker_of(sampler)) is kind


def test_a_space_of_one_point_needs_no_sampler() -> None:
    fixed = {"max_exposure": 1.0, "volatility_lookback": 20}
    study = study_from_dict(
        mapping(risk=fixed, strategy={"lookback": 20}, search={"sampler": "tpe"})
    )
    asker = new_asker(study, build_space(study), 1)
    assert type(asker) is EnumeratedAsker
    assert [len(tasks) for tasks, _ in played(asker, lambda task: worth(1.0))] == [1]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_batches_end_with_the_trials(sampler: str) -> None:
    batches = played(asker_of(sampler))
    assert [len(tasks) for tasks, _ in batches] == [4, 4, 2]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_same_answers_lead_to_the_same_points(sampler: str) -> None:
    one, two = (points(played(asker_of(sampler))) for _ in range(2))
    assert one == two
    other = points(played(asker_of(sampler, study={"seed": 4})))
    assert (other == one) == (sampler == "grid")


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_only_some_samplers_go_by_results(sampler: str) -> None:
    study, space = study_of(sampler)
    up = points(played(new_asker(study, space, 60), by_lookback))
    down = points(played(new_asker(study, space, 60), by_lookback_downwards))
    assert up[:4] == down[:4]
    assert (up == down) == (sampler in ("random", "qmc", "grid"))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_told_trial_is_the_point_that_was_asked(sampler: str) -> None:
    for tasks, trials in played(asker_of(sampler)):
        for task, trial in zip(tasks, trials, strict=True):
            assert trial.state == TrialState.COMPLETE
            assert trial.params == task.point
            assert set(trial.distributions) == set(task.point)
            assert trial.values == [task.point["momentum_lookback"]]
            assert trial.user_attrs == {"n_sets": 4}
            assert trial.constraints == {"n_trades >= 12": 0.0}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_tile_that_failed_is_a_failed_trial(sampler: str) -> None:
    for _, trials in played(asker_of(sampler), lambda task: failed("no luck")):
        for trial in trials:
            assert (trial.state, trial.values) == (TrialState.FAIL, None)
            assert trial.user_attrs == {"n_sets": 0, "reason": "no luck"}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_point_is_told(sampler: str) -> None:
    asker = asker_of(sampler)
    tasks = asker.ask(0)
    with pytest.raises(ValueError, match="zip"):
        asker.tell([by_lookback(task) for task in tasks[:-1]])


def test_constraints_give_no_warning_with_cmaes() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        played(asker_of("cmaes"), lambda task: worth(1.0, excess=2.0))


@pytest.mark.parametrize("sampler", ["random", "qmc"])
def test_a_sequence_is_the_same_however_it_is_cut_short(sampler: str) -> None:
    study, space = study_of(sampler)
    long = list(enumerated_points(study, space, 40))
    for n_trials in (1, 3, 4, 9):
        assert list(enumerated_points(study, space, n_trials)) == long[:n_trials]


def test_a_grid_ends_with_its_points() -> None:
    study, space = study_of("grid")
    found = [json.dumps(dict(task.point)) for task in enumerated_points(study, space, 1_000)]
    assert len(found) == len(set(found)) == space.n_points == 8 * 3 * 2


# --- Shared points ------------------------------------------------------------------------------


class Desk:
    """Hands out points as the coordinators' database does, within this process.

    Attributes:
        trials: told so far, by all coordinators.
        taken: points that one of them has.
    """

    def __init__(self) -> None:
        self.trials: dict[int, FrozenTrial] = {}
        self.taken: list[str] = []

    def ask(
        self, count: int, n_trials: int, points: Callable[[Sequence[FrozenTrial]], Iterator[Any]]
    ) -> list[tuple[int, TileTask]]:
        found: list[tuple[int, TileTask]] = []
        wanted = min(count, n_trials - len(self.taken))
        for point in points(list(self.trials.values())) if wanted > 0 else ():
            key = point_key(point.params)
            if key not in self.taken:
                self.taken.append(key)
                found.append((len(self.taken), point.task))
            if len(found) == wanted:
                break
        return found

    def tell(self, key: int, trial: FrozenTrial) -> None:
        assert key not in self.trials
        self.trials[key] = trial


def shared(desk: Desk, sampler: str) -> SharedAsker:
    coordinator: Any = desk
    return SharedAsker(*study_of(sampler), N_TRIALS, coordinator)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_two_coordinators_never_have_the_same_point(sampler: str) -> None:
    desk = Desk()
    askers = [shared(desk, sampler) for _ in range(2)]
    for number, asker in zip(range(8), itertools.cycle(askers), strict=False):
        tasks = asker.ask(number)
        asker.publish(asker.tell([by_lookback(task) for task in tasks]))
    assert len(desk.trials) == N_TRIALS
    assert len(set(desk.taken)) == N_TRIALS
    assert [asker.ask(9) for asker in askers] == [[], []]


def test_a_shared_sequence_is_that_of_one_process_up_to_repeats() -> None:
    alone = [point_key(point) for point in points(played(asker_of("random")))]
    desk = Desk()
    played(shared(desk, "random"))
    assert desk.taken[: len(set(alone))] == list(dict.fromkeys(alone))


def test_a_trial_is_shared_once_its_results_are_on_disk() -> None:
    desk = Desk()
    asker = shared(desk, "random")
    trials = asker.tell([by_lookback(task) for task in asker.ask(0)])
    assert desk.trials == {}
    asker.publish(trials)
    assert list(desk.trials.values()) == trials


def test_a_shared_sampler_learns_from_every_coordinator() -> None:
    study, space = study_of("tpe")
    asked: list[list[Mapping[str, Any]]] = []
    for answer in (by_lookback, by_lookback_downwards):
        desk = Desk()
        coordinator: Any = desk
        one, two = (SharedAsker(study, space, 40, coordinator) for _ in range(2))
        for number in range(4):
            tasks = one.ask(number)
            one.publish(one.tell([answer(task) for task in tasks]))
        asked.append([task.point for task in two.ask(0)])
    assert asked[0] != asked[1]


def test_the_source_is_shared_where_there_is_a_coordinator(tmp_path: Path) -> None:
    coordinator: Any = Desk()
    assert type(new_asker(*study_of("tpe"), N_TRIALS, coordinator)) is SharedAsker
