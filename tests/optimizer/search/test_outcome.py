"""What trials are told, how it is recorded and counted: no sampler, no worker."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from optuna.trial import TrialState, create_trial

from optimizer.catalogue import METRICS
from optimizer.search.objective import score_tile
from optimizer.search.outcome import (
    Outcome,
    failed,
    outcome_of,
    recorded_outcome,
    trial_record,
)
from optimizer.search.progress import Tally
from optimizer.search.rows import result_columns
from optimizer.store.columns import OUT_OF_SAMPLE
from optimizer.strategies.built_in import BUILT_IN
from optimizer.study_file.search_tables import SearchTable
from optimizer.sweep.tiles import Tile, TileResult

N_LANES = 3
SHARPE = METRICS.index("sharpe")
TRADES = METRICS.index("n_trades")


def tile() -> Tile:
    columns = {"momentum_threshold": np.array([0.0, 0.1, 0.2]), "kelly_fraction": np.full(3, 0.5)}
    return Tile(BUILT_IN["momentum"], "none", None, columns)


def result(*sharpes: float) -> TileResult:
    inside = np.arange(N_LANES * len(METRICS), dtype=np.float64).reshape(N_LANES, -1)
    inside[:, SHARPE] = sharpes
    outside = -inside
    outside[:, TRADES] = np.nan
    return TileResult(inside, outside, np.zeros((N_LANES, 2, 4)), np.zeros((N_LANES, 2)))


def search(**keys: Any) -> SearchTable:
    return SearchTable.model_validate({"sampler": "random", "trials": 10, **keys})


def outcome(*sharpes: float, **keys: Any) -> Outcome:
    found = result(*sharpes)
    swept = {"momentum_threshold": (0.0, 0.1, 0.2)}
    return outcome_of(
        tile(), found, score_tile(search(**keys), tile().columns, found.in_sample, swept)
    )


def test_the_winner_stands_for_its_tile() -> None:
    told = outcome(0.5, 2.0, 1.0)
    assert told.values == (2.0,)
    assert told.n_sets == N_LANES
    assert told.attributes["winner"] == {"momentum_threshold": 0.1, "kelly_fraction": 0.5}
    assert told.attributes["in_sample"]["sharpe"] == 2.0
    assert set(told.attributes) == {"n_sets", "winner", "in_sample"}  # nothing of the holdout
    assert tuple(told.attributes["in_sample"]) == METRICS
    assert told.feasible


def test_a_broken_constraint_is_told() -> None:
    told = outcome(0.5, 2.0, 1.0, constraints=["n_trades >= 1000"])
    assert not told.feasible
    assert told.violations == {
        "n_trades >= 1000": pytest.approx(1000 - (2 * len(METRICS) + TRADES))
    }


def test_a_tile_without_a_value_says_why() -> None:
    told = outcome(np.nan, np.nan, np.inf)
    assert told.values is None
    assert told.attributes == {
        "n_sets": N_LANES,
        "reason": "sharpe: not finite for any parameter set of the tile",
    }
    assert failed("died twice").attributes == {"n_sets": 0, "reason": "died twice"}


@pytest.mark.parametrize(
    "told",
    [outcome(0.5, 2.0, 1.0, constraints=["n_trades >= 1000"]), outcome(*[np.nan] * 3), failed("x")],
)
def test_an_outcome_comes_back_from_its_record(told: Outcome) -> None:
    trial = create_trial(
        state=TrialState.FAIL if told.values is None else TrialState.COMPLETE,
        values=told.values,
        user_attrs=dict(told.attributes),
        constraints=dict(told.violations),
    )
    record = json.loads(json.dumps(trial_record(7, trial)))
    assert record["number"] == 7
    assert recorded_outcome(record) == replace(told, lane=None)


def test_a_record_has_neither_times_nor_pickles() -> None:
    attributes = {"cma:0": "8004", "constraints:n_trades >= 12": 0.0}
    trial = create_trial(values=[1.0], system_attrs=attributes, user_attrs={"n_sets": 4})
    record = trial_record(0, trial)
    assert record["system_attrs"] == {"constraints:n_trades >= 12": 0.0}
    assert set(record) == {
        *("number", "state", "values", "params", "distributions", "user_attrs", "system_attrs")
    }


def test_rows_are_numbered_on() -> None:
    found = result(0.5, 2.0, np.nan)
    score = score_tile(search(), tile().columns, found.in_sample, {})
    columns = result_columns(tile(), found, score, first_set=40, trial=10)
    assert columns["set"].tolist() == [40, 41, 42]
    assert columns["trial"].tolist() == [10, 10, 10]
    assert (columns["strategy"], columns["classifier"]) == ("momentum", "none")
    assert columns["momentum_threshold"].tolist() == [0.0, 0.1, 0.2]
    for place, name in enumerate(METRICS):
        np.testing.assert_array_equal(columns[name], found.in_sample[:, place])
        np.testing.assert_array_equal(columns[OUT_OF_SAMPLE[place]], found.out_of_sample[:, place])


# --- Counting -----------------------------------------------------------------------------------


def worth(value: float, *, excess: float = 0.0) -> Outcome:
    return Outcome((value,), {"n_sets": 4}, {"n_trades >= 12": excess})


def test_a_point_that_is_asked_twice_is_distinct_once() -> None:
    tally = Tally(search(), 10)
    for lookback in (5, 10, 5):
        tally.add({"lookback": lookback}, worth(1.0))
    tally.add({"lookback": 15}, failed("died twice"))
    seen = tally.progress(0.0)
    assert (seen.trials, seen.n_trials, seen.sets, seen.distinct) == (4, 10, 12, 8)


@pytest.mark.parametrize(("direction", "best"), [("maximize", 3.0), ("minimize", 1.0)])
def test_the_best_is_feasible(direction: str, best: float) -> None:
    tally = Tally(search(direction=direction), 10)
    assert tally.progress(0.0).best is None
    for lookback, value in enumerate((2.0, 1.0, 3.0)):
        tally.add({"lookback": lookback}, worth(value))
    tally.add({"lookback": 8}, worth(9.0, excess=1.0))
    tally.add({"lookback": 9}, worth(0.0, excess=1.0))
    assert tally.progress(0.0).best == best


def test_what_was_on_disk_does_not_count_for_the_pace() -> None:
    tally = Tally(search(), 10)
    for lookback in range(4):
        tally.add({"lookback": lookback}, worth(1.0))
    tally.start()
    seen = tally.progress(0.0)
    assert (seen.trials_before, seen.sets_before) == (4, 16)
    assert seen.sets_per_second == seen.trials_per_second == 0.0
    assert tally.progress(1e9).worker_use == 1.0
