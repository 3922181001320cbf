"""The study loop: what is tried, what is kept, and that it is the same every time."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from optimizer.catalogue import METRICS
from optimizer.errors import DataError, StudyError
from optimizer.search import run as run_module
from optimizer.search.points import bulk_tasks, distribution_of, grid_tasks, sampler_seed, value_at
from optimizer.search.progress import Progress
from optimizer.search.result import StudyResult
from optimizer.search.resume import resume_study
from optimizer.search.run import run_study
from optimizer.store.batch_files import holdout_path
from optimizer.store.folder import StudyFolder
from optimizer.store.query import best_sets
from optimizer.study_file.search_tables import SAMPLERS
from optimizer.study_file.searched import Searched
from optimizer.study_file.settings import Choices, Range
from optimizer.study_file.space import build_space
from optimizer.study_file.study import study_from_dict
from tests.support.studies import (
    changed,
    mapping,
    random_bars,
    result_hashes,
    small_study,
    write_bars,
)

FIT = {"train_bars": 60, "refit_bars": 60}
TWO_BY_TWO: dict[str, Any] = {
    "strategy": [
        {"name": "momentum", "lookback": {"low": 5, "high": 40, "step": 5},
         "threshold": {"sweep": [0.0, 0.02]}},
        {"name": "breakout", "lookback": {"choices": [10, 20]}, "width": {"sweep": [0.5, 1.0]}},
    ],
    "classifier": [{"name": "none"}, {"name": "svm", "lookback": 5, **FIT}],
}  # fmt: skip
STEPPED = {"max_exposure": {"low": 0.4, "high": 1.0, "step": 0.3}}


def run(data: Path, out: Path, /, **tables: Any) -> StudyResult:
    return run_study(small_study(data, **tables), out=out, workers=1)


def told(result: StudyResult) -> list[dict[str, Any]]:
    return result.folder.trials()


# --- Samplers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_study_is_the_same_with_the_same_seed_alone(
    sampler: str, data: Path, tmp_path: Path
) -> None:
    tables: dict[str, Any] = {
        "search": {"sampler": sampler, "trials": 26, "batch": 8},
        "risk": STEPPED if sampler == "grid" else {},
    }
    one = run(data, tmp_path / "one", **tables)
    two = run(data, tmp_path / "two", **tables)
    assert result_hashes(one.folder) == result_hashes(two.folder)
    assert told(one) == told(two)
    assert [trial["state"] for trial in told(one)] == ["COMPLETE"] * len(told(one))
    other = run(data, tmp_path / "other", **tables, study={"seed": 4})
    points = [[trial["params"] for trial in told(result)] for result in (one, other)]
    if sampler == "grid":
        assert len(told(one)) == 8 * 3 * 2
        assert points[0] == points[1]
        assert result_hashes(one.folder) == result_hashes(other.folder)
    else:
        assert len(told(one)) == 26
        assert points[0] != points[1]
        drawn = {json.dumps(point, sort_keys=True) for point in points[0]}
        assert len(drawn) > 20, "a sampler that hardly moves"


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "cmaes", "qmc", "random"])
def test_every_value_that_is_searched_stands_in_the_results(
    sampler: str, data: Path, tmp_path: Path
) -> None:
    result = run(data, tmp_path / "out", search={"sampler": sampler})
    rows = result.results()
    space = build_space(result.study)
    for trial in told(result):
        assert set(trial["params"]) == {one.name for one in space.branches[0].searched}
        own = rows[rows["trial"] == trial["number"]]
        assert len(own) == 4
        for name, value in trial["params"].items():
            assert (own[name] == value).all()
        for searched in space.branches[0].searched:
            value = trial["params"][searched.name]
            assert searched.snap(value) == value
            distribution = optuna.distributions.json_to_distribution(
                trial["distributions"][searched.name]
            )
            assert distribution == distribution_of(searched)
            assert distribution._contains(distribution.to_internal_repr(value))


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "cmaes"])
def test_a_sampler_learns_from_the_batches_before(sampler: str, data: Path, tmp_path: Path) -> None:
    """Turning the objective around changes what is asked after the first batch, not before."""
    search = {"sampler": sampler, "trials": 80, "batch": 20}
    up, down = (
        [trial["params"] for trial in told(run(
            data, tmp_path / direction, search={**search, "direction": direction}
        ))]
        for direction in ("maximize", "minimize")
    )  # fmt: skip
    assert up[:20] == down[:20]
    assert up[20:] != down[20:]


def test_a_grid_tries_each_point_once(data: Path, tmp_path: Path) -> None:
    result = run(
        data, tmp_path / "out", **TWO_BY_TWO,
        risk=STEPPED, search={"sampler": "grid", "trials": 3, "batch": 7},
    )  # fmt: skip
    found = [tuple(sorted(trial["params"].items())) for trial in told(result)]
    expected = set()
    for classifier, exposure, n in itertools.product(("none", "svm"), (0.4, 0.7, 1.0), (10, 20)):
        rest = {"classifier": classifier, "max_exposure": exposure, "volatility_lookback": n}
        for lookback in range(5, 45, 5):
            point = {"strategy": "momentum", "momentum_lookback": lookback, **rest}
            expected.add(tuple(sorted(point.items())))
        for lookback in (10, 20):
            point = {"strategy": "breakout", "breakout_lookback": lookback, **rest}
            expected.add(tuple(sorted(point.items())))
    assert len(found) == len(expected) == (8 + 2) * 2 * 6
    assert set(found) == expected
    rows = result.results()
    assert rows["set"].tolist() == list(range(len(rows)))
    assert not rows.drop(columns=["set", "trial"]).duplicated(
        ["strategy", "classifier", *build_space(result.study).parameter_names]
    ).any()  # fmt: skip


def test_nothing_searched_is_one_trial_of_the_whole_sweep(data: Path, tmp_path: Path) -> None:
    fixed = {"max_exposure": 1.0, "volatility_lookback": 20}
    lookbacks = {"sweep": {"low": 5, "high": 40, "step": 5}}
    result = run(data, tmp_path / "out", strategy={"lookback": lookbacks}, risk=fixed,
                 search={"sampler": "tpe", "trials": 50})  # fmt: skip
    assert len(told(result)) == 1
    assert told(result)[0]["params"] == {}
    assert len(result.results()) == 8 * 2 * 2


def test_nothing_swept_is_one_set_a_trial(data: Path, tmp_path: Path) -> None:
    result = run(data, tmp_path / "out", strategy={"threshold": 0.0},
                 risk={"kelly_fraction": {"low": 0.05, "high": 0.5}},
                 search={"sampler": "tpe"})  # fmt: skip
    rows = result.results()
    assert rows["trial"].tolist() == list(range(10))
    assert [trial["values"][0] for trial in told(result)] == rows["sharpe"].tolist()


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "random", "qmc", "cmaes"])
def test_strategies_and_classifiers_are_searched(sampler: str, data: Path, tmp_path: Path) -> None:
    search = {"sampler": sampler, "trials": 16, "batch": 8}
    result = run(data, tmp_path / "out", **TWO_BY_TWO, search=search)
    rows = result.results()
    assert set(rows["strategy"]) == {"momentum", "breakout"}
    assert set(rows["classifier"]) == {"none", "svm"}
    for trial in told(result):
        own = rows[rows["trial"] == trial["number"]]
        assert set(own["strategy"]) == {trial["params"]["strategy"]}
        assert set(own["classifier"]) == {trial["params"]["classifier"]}
    momentum = rows["strategy"] == "momentum"
    # Parameters that a set does not have are null, those that it has are not.
    assert rows.loc[momentum, "breakout_lookback"].isna().all()
    assert rows.loc[momentum, "momentum_lookback"].notna().all()
    assert rows.loc[~momentum, "momentum_lookback"].isna().all()
    assert (rows["svm_lookback"].notna() == (rows["classifier"] == "svm")).all()


def test_each_batch_has_its_own_seed() -> None:
    seeds = [sampler_seed(seed, batch) for seed in range(20) for batch in range(50)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**32 for seed in seeds)
    assert sampler_seed(2**63 - 1, 10**6) == sampler_seed(2**63 - 1, 10**6)


# --- Random and quasi-random points -----------------------------------------------------------


def searched_space(**risk: Any) -> Any:
    return build_space(study_from_dict(mapping(risk=risk)))


def test_a_quasi_random_sequence_does_not_depend_on_its_cut() -> None:
    space = build_space(study_from_dict({**mapping(), **TWO_BY_TWO}))
    whole = bulk_tasks(space, "qmc", 5, 0, 32)
    parts = [bulk_tasks(space, "qmc", 5, start, 8) for start in range(0, 32, 8)]
    assert [task for part in parts for task in part] == whole
    assert bulk_tasks(space, "qmc", 6, 0, 32) != whole


def test_a_quasi_random_sequence_fills_each_cell_once() -> None:
    """Sobol': every 32 points from the start have one in each of 32 slices of a coordinate."""
    space = searched_space()
    exposures = [task.point["max_exposure"] for task in bulk_tasks(space, "qmc", 1, 0, 32)]
    slices = [math.floor((float(value) - 0.3) / 0.7 * 32) for value in exposures]
    assert sorted(slices) == list(range(32))


@pytest.mark.parametrize("sampler", ["random", "qmc"])
def test_bulk_points_spread_over_all_values(sampler: str) -> None:
    space = build_space(study_from_dict({**mapping(), **TWO_BY_TWO}))
    tasks = bulk_tasks(space, sampler, 0, 0, 1024)
    counts = np.bincount([task.branch for task in tasks])
    assert len(counts) == 4
    assert (abs(counts - 256) < 60).all()
    lookbacks = [t.point["momentum_lookback"] for t in tasks if "momentum_lookback" in t.point]
    values, counts = np.unique(np.array(lookbacks, dtype=float), return_counts=True)
    assert values.tolist() == list(range(5, 45, 5))
    assert counts.min() > 512 / 8 / 2


@pytest.mark.parametrize(
    "searched",
    [
        Searched("lookback", "int", 5, 40, 5),
        Searched("lookback", "int", 1, 1000, 1, log=True),
        Searched("lookback", "int", 7, 7, 1),
        Searched("threshold", "float", 0.0, 0.3, 0.1),
        Searched("threshold", "float", -1.0, 2.0),
        Searched("threshold", "float", 1e-6, 1e3, None, log=True),
        Searched("lookback", "categorical", 3, 9, None, choices=(3, 9, 4)),
    ],
)
def test_a_value_of_the_unit_interval_is_one_of_the_parameter(searched: Searched) -> None:
    units = [0.0, 1.0 - 2**-53, *np.linspace(0.0, 1.0, 500, endpoint=False).tolist()]
    values = [value_at(searched, unit) for unit in units]
    for value in values:
        assert searched.snap(value) == value
    numbers = [float(value) for value in values]
    if searched.choices:
        assert [numbers[0], numbers[1]] == [3.0, 4.0]
        assert set(numbers) == {3.0, 9.0, 4.0}
    else:
        assert numbers[2:] == sorted(numbers[2:])
        assert numbers[0] == pytest.approx(searched.low)
        assert numbers[1] == pytest.approx(searched.high)


def test_a_logarithmic_range_gives_each_decade_the_same_share() -> None:
    units = np.linspace(0.0, 1.0, 3000, endpoint=False).tolist()
    floats = Searched("x", "float", 1.0, 1000.0, None, log=True)
    values = np.array([value_at(floats, unit) for unit in units], dtype=float)
    decades = np.histogram(values, [1, 10, 100, 1000])[0]
    assert (abs(decades - 1000) <= 1).all()
    whole = Searched("x", "int", 1, 1000, 1, log=True)
    values = np.array([value_at(whole, unit) for unit in units], dtype=float)
    # Each whole number has the share that the logarithm gives to half a unit around it.
    share = math.log(1.5 / 0.5) / math.log(1000.5 / 0.5)
    assert (values == 1).mean() == pytest.approx(share, abs=0.001)


def test_grid_tasks_are_lazy() -> None:
    huge = {
        f"{name}_multiplier": {"low": 0.0, "high": 100.0, "step": 1e-6} for name in ("bull", "bear")
    }
    space = build_space(study_from_dict(mapping(risk={**STEPPED, **huge})))
    assert space.n_points is not None
    assert space.n_points > 10**15
    first = list(itertools.islice(grid_tasks(space), 3))
    assert len({json.dumps(dict(task.point)) for task in first}) == 3


# --- Batches, files, Optuna -------------------------------------------------------------------


def test_a_last_batch_may_be_smaller(data: Path, tmp_path: Path) -> None:
    seen: list[Progress] = []
    study = small_study(data, search={"sampler": "tpe", "trials": 10, "batch": 4})
    result = run_study(study, out=tmp_path / "out", workers=1, on_progress=seen.append)
    assert [progress.trials for progress in seen] == [4, 8, 10]
    assert [progress.sets for progress in seen] == [16, 32, 40]
    assert {progress.n_trials for progress in seen} == {10}
    assert [path.name for path in result.folder.batch_paths()] == [
        f"batch-{number:06d}.parquet" for number in range(3)
    ]
    assert [pq.read_metadata(path).num_rows for path in result.folder.batch_paths()] == [16, 16, 8]
    assert [trial["number"] for trial in told(result)] == list(range(10))
    rows = result.results()
    assert rows["set"].tolist() == list(range(40))
    assert rows["trial"].tolist() == [number for number in range(10) for _ in range(4)]
    assert seen[-1].seconds_left == 0.0
    assert seen[0].seconds_left > 0.0


def test_progress_shows_the_best_so_far(data: Path, tmp_path: Path) -> None:
    seen: list[Progress] = []
    study = small_study(data, search={"constraints": ["max_drawdown <= 0.09"]})
    result = run_study(study, out=tmp_path / "out", workers=1, on_progress=seen.append)
    rows = result.results()
    assert rows["feasible"].any()
    assert not rows["feasible"].all()
    for progress in seen:
        so_far = rows[(rows["trial"] < progress.trials) & rows["feasible"]]
        best = so_far.iloc[int(np.argmax(so_far["sharpe"]))]
        assert progress.best == best["sharpe"]


@pytest.mark.parametrize("batch", [1, 3, 10, 99])
def test_a_grid_does_not_depend_on_the_batch(batch: int, data: Path, tmp_path: Path) -> None:
    tables: dict[str, Any] = {
        "strategy": {"lookback": {"choices": [5, 20, 10]}},
        "risk": {"max_exposure": 1.0},
    }
    results = []
    for size in (batch, 6):
        search = {"sampler": "grid", "batch": size}
        results.append(run(data, tmp_path / f"batch {size}", **tables, search=search))
    assert told(results[0]) == told(results[1])
    pd.testing.assert_frame_equal(results[0].results(), results[1].results())


SCHEMA = {
    "set": pa.int64(),
    "trial": pa.int32(),
    "strategy": pa.dictionary(pa.int32(), pa.string()),
    "classifier": pa.dictionary(pa.int32(), pa.string()),
}
SEALED = {"set": pa.int64()}


@pytest.mark.parametrize("holdout", [0.0, 0.25])
def test_every_batch_has_the_stated_schema(holdout: float, data: Path, tmp_path: Path) -> None:
    result = run(
        data, tmp_path / "out", **TWO_BY_TWO, validation={"holdout": holdout},
        risk={"max_exposure": 1.0, "volatility_lookback": 20},
        search={"sampler": "grid", "batch": 3},
    )  # fmt: skip
    paths = result.folder.batch_paths()
    # The first batches have one strategy alone, and so a dictionary of one name.
    assert len(paths) == 7
    names = build_space(result.study).parameter_names
    expected = {**SCHEMA, **dict.fromkeys(names, pa.float64())}
    expected |= {"feasible": pa.bool_()}
    expected |= dict.fromkeys(("score", "alpha", "alpha_t"), pa.float64())
    counts = ("n_trades", "losing_streak", "drawdown_duration")
    kinds = {**dict.fromkeys(counts, pa.int64()), "ruined": pa.bool_()}
    expected |= {metric: kinds.get(metric, pa.float64()) for metric in METRICS}
    sealed = {f"oos_{metric}": kinds.get(metric, pa.float64()) for metric in METRICS}
    for path in paths:
        for file, columns in ((path, expected), (holdout_path(path), SEALED | sealed)):
            schema = pq.read_schema(file)
            assert dict(zip(schema.names, schema.types, strict=True)) == columns
    rows = result.results()
    assert list(rows.columns) == list(expected)
    assert rows["n_trades"].notna().all()
    out = result.folder.holdout(rows["set"].tolist())
    assert list(out.columns) == list(sealed)
    assert out.index.tolist() == rows["set"].tolist()
    if holdout == 0.0:
        assert out.isna().all().all()
    else:
        assert out["oos_final_equity"].notna().all()
    # One table of all files, as other programs read them.
    table = pq.read_table(result.folder.path / "results")
    assert table.num_rows == len(rows)
    assert table.column("strategy").to_pylist() == rows["strategy"].tolist()


def test_results_can_be_read_by_column_and_by_set(data: Path, tmp_path: Path) -> None:
    folder = run(data, tmp_path / "out").folder
    rows = folder.results()
    pd.testing.assert_frame_equal(folder.results(["set", "sharpe"]), rows[["set", "sharpe"]])
    some = folder.sets([33, 2, 17])
    assert some["set"].tolist() == [33, 2, 17]
    assert some["sharpe"].tolist() == [rows["sharpe"][number] for number in (33, 2, 17)]
    with pytest.raises(StudyError, match="99"):
        folder.sets([2, 99])


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("objective", [["sharpe"], ["sharpe", "max_drawdown"]])
def test_optuna_opens_the_journal(
    sampler: str, objective: list[str], data: Path, tmp_path: Path
) -> None:
    if sampler == "cmaes" and len(objective) > 1:
        pytest.skip("cmaes takes one objective")
    result = run(
        data, tmp_path / "out", risk=STEPPED,
        strategy={"lookback": {"choices": [5, 10, 30]}},
        search={"sampler": sampler, "objective": objective,
                "constraints": ["n_trades >= 12", "kelly_fraction >= 0.1"]},
    )  # fmt: skip
    backend = JournalFileBackend(str(result.folder.journal_path))
    study = optuna.load_study(study_name="small", storage=JournalStorage(backend))
    directions = {"sharpe": "MAXIMIZE", "max_drawdown": "MINIMIZE"}
    assert [one.name for one in study.directions] == [directions[name] for name in objective]
    assert study.metric_names == objective
    records = told(result)
    assert len(study.trials) == len(records)
    for trial, record in zip(study.trials, records, strict=True):
        assert trial.number == record["number"]
        assert trial.state.name == record["state"]
        assert trial.values == record["values"]
        assert trial.params == record["params"]
        assert trial.user_attrs == record["user_attrs"]
        assert {
            name: optuna.distributions.distribution_to_json(one)
            for name, one in trial.distributions.items()
        } == record["distributions"]
    # Optuna and the result files agree on the best.
    frame = study.trials_dataframe()
    assert len(frame) == len(records)
    if len(objective) == 1:
        rows = result.results()
        feasible = rows[rows["feasible"]]
        assert 0 < len(feasible) < len(rows)
        assert study.best_value == feasible["sharpe"].max()
        assert result.best(1)["sharpe"][0] == study.best_value
    else:
        assert study.best_trials


def test_a_trial_keeps_its_winner(data: Path, tmp_path: Path) -> None:
    result = run(data, tmp_path / "out", search={"tile_value": "median"})
    rows = result.results()
    for trial in told(result):
        own = rows[rows["trial"] == trial["number"]]
        assert trial["values"] == [own["sharpe"].median()]
        best = own.loc[own["sharpe"].idxmax()]
        attributes = trial["user_attrs"]
        assert attributes["n_sets"] == 4
        for name, value in attributes["winner"].items():
            assert best[name] == value
        assert set(attributes) == {"n_sets", "winner", "in_sample"}  # nothing of the holdout
        for metric in METRICS:
            value = attributes["in_sample"][metric]
            known = best[metric]
            assert (value is None and pd.isna(known)) or value == float(known)


def test_an_undefined_objective_fails_the_trial_with_a_reason(data: Path, tmp_path: Path) -> None:
    """A threshold that no return reaches: no trade, so no variance and no Sharpe ratio."""
    result = run(data, tmp_path / "out", strategy={"threshold": 99.0},
                 search={"sampler": "tpe", "trials": 4, "batch": 2})  # fmt: skip
    for trial in told(result):
        assert trial["state"] == "FAIL"
        assert trial["values"] is None
        reason = trial["user_attrs"]["reason"]
        assert reason == "sharpe: not finite for any parameter set of the tile"
    rows = result.results()
    assert len(rows) == 8
    assert rows["score"].isna().all()
    assert (rows["n_trades"] == 0).all()
    assert result.best().empty
    backend = JournalFileBackend(str(result.folder.journal_path))
    study = optuna.load_study(study_name="small", storage=JournalStorage(backend))
    assert {trial.state for trial in study.trials} == {TrialState.FAIL}


# --- Selection --------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_best_sets_are_feasible_and_in_order(direction: str, data: Path, tmp_path: Path) -> None:
    search = {"direction": direction, "constraints": ["n_trades >= 12"]}
    result = run(data, tmp_path / "out", search=search)
    rows = result.results()
    kept = rows[rows["n_trades"] >= 12]
    assert 5 < len(kept) < len(rows)
    expected = sorted(set(kept["sharpe"]), reverse=direction == "maximize")
    best = result.best(1000)
    assert best["sharpe"].tolist() == expected
    assert result.best(3)["set"].tolist() == best["set"].tolist()[:3]


def test_sets_of_the_same_trades_are_listed_once(data: Path, tmp_path: Path) -> None:
    """Without a classifier's regimes other than neutral, the multipliers change nothing."""
    sweep = {"bull_multiplier": {"sweep": [1.0, 1.5]}, "bear_multiplier": {"sweep": [0.0, 1.0]}}
    result = run(data, tmp_path / "out", risk=sweep)
    assert len(result.results()) == 10 * 16
    best = result.best(1000)
    assert len(best) == result.results()["sharpe"].nunique() <= 40
    # The first of the equal ones in the order of the trials represents them.
    for row in best.itertuples():
        rows = result.results()
        assert row.set == rows[rows["sharpe"] == row.sharpe]["set"].min()


def test_a_plateau_ranks_by_its_score(data: Path, tmp_path: Path) -> None:
    result = run(data, tmp_path / "out", search={"tile_value": "plateau"})
    best = result.best(1000)
    assert best["score"].is_monotonic_decreasing
    assert not best["sharpe"].is_monotonic_decreasing
    # What the sampler is told is of the tile alone.
    tile = pd.read_parquet(result.folder.batch_paths()[0])["score"][:4]
    assert told(result)[0]["values"] == [tile.max()]


@pytest.mark.parametrize("sampler", ["tpe", "grid"])
def test_bars_of_the_holdout_do_not_touch_the_search(
    sampler: str, data: Path, tmp_path: Path
) -> None:
    bars = random_bars()
    tables: dict[str, Any] = {
        "classifier": [{"name": "none"}, {"name": "hmm", "lookback": 5, **FIT}],
        "risk": STEPPED,
        "search": {"sampler": sampler, "trials": 12, "batch": 4,
                   "constraints": ["max_drawdown <= 0.3"]},
    }  # fmt: skip
    before = run(data, tmp_path / "before", **tables)
    split = before.folder.manifest()["holdout_bar"]
    assert split == 300 - int((300 - 40) * 0.25)
    other = write_bars(tmp_path / "bars.parquet", changed(bars, split))
    after = run(other, tmp_path / "after", **tables)
    rows, changed_rows = before.results(), after.results()
    outside = [one.folder.holdout(rows["set"].tolist()) for one in (before, after)]
    assert (outside[0]["oos_total_return"] != outside[1]["oos_total_return"]).all()
    pd.testing.assert_frame_equal(rows, changed_rows, check_exact=True)
    for one, two in zip(told(before), told(after), strict=True):
        assert one["params"] == two["params"]
        assert one["values"] == two["values"]
        assert one["user_attrs"] == two["user_attrs"]


# --- The folder -------------------------------------------------------------------------------


def test_the_order_of_symbols_in_the_study_makes_no_difference(data: Path, tmp_path: Path) -> None:
    found = [
        run(data, tmp_path / "_".join(symbols), data={"symbols": symbols})
        for symbols in (["AAA", "BBB", "CCC"], ["CCC", "AAA", "BBB"])
    ]
    one, other = (result.folder for result in found)
    assert result_hashes(one) == result_hashes(other)
    assert one.manifest()["study_hash"] == other.manifest()["study_hash"]
    assert one.manifest()["symbols"] == other.manifest()["symbols"] == ["AAA", "BBB", "CCC"]


def test_the_study_may_say_how_many_bars_are_a_year(data: Path, tmp_path: Path) -> None:
    first = run(data, tmp_path / "plain")
    plain = first.results()
    # Four times the bars, and twice the Sharpe ratio a year: as much per bar, so the same trades.
    stated = run(
        data,
        tmp_path / "stated",
        data={"bars_per_year": 4 * 252},
        risk={"expected_sharpe": 2 * 0.5},
    )
    assert stated.folder.manifest()["bars_per_year"] == 1008.0
    rows = stated.results()
    for name in ("sharpe", "volatility", "sortino"):
        np.testing.assert_allclose(rows[name], 2.0 * plain[name], rtol=1e-12)
    ratios = [one.folder.holdout(rows["set"].tolist())["oos_sharpe"] for one in (stated, first)]
    np.testing.assert_allclose(ratios[0], 2.0 * ratios[1], rtol=1e-12)
    np.testing.assert_allclose(1.0 + rows["cagr"], (1.0 + plain["cagr"]) ** 4, rtol=1e-12)
    assert rows["total_return"].equals(plain["total_return"])


def test_the_manifest_describes_the_study(data: Path, tmp_path: Path) -> None:
    result = run(data, tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / "study.json").read_text())
    assert manifest == result.folder.manifest()
    assert study_from_dict(manifest["study"]).to_dict() == result.study.to_dict()
    bars = random_bars()
    assert manifest["study_hash"] == result.study.content_hash
    assert manifest["data_hash"] == bars.content_hash
    assert manifest["data_path"] == str(data.resolve())
    assert manifest["symbols"] == list(bars.symbols)
    assert manifest["n_bars"] == 300
    assert manifest["first_bar"] == 40
    assert manifest["bars_per_year"] == 252.0
    assert manifest["first_time"] == str(bars.timestamps[40])
    assert manifest["holdout_time"] == str(bars.timestamps[manifest["holdout_bar"]])
    assert manifest["complete"] is True
    assert manifest["versions"]["optuna"] == optuna.__version__
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "benchmark.parquet", "holdout", "moments", "optuna.journal", "results", "selection.json",
        "study.json",
    ]  # fmt: skip


def test_a_study_that_breaks_off_is_not_complete(data: Path, tmp_path: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.trials == 8:
            raise KeyboardInterrupt

    study = small_study(data)
    with pytest.raises(KeyboardInterrupt):
        run_study(study, out=tmp_path / "out", workers=1, on_progress=stop)
    folder = StudyFolder.open(tmp_path / "out")
    assert folder.manifest()["complete"] is False
    assert len(folder.trials()) == 8
    assert not folder.scratch_path.exists()
    whole = run_study(study, out=tmp_path / "whole", workers=1)
    done = result_hashes(folder)
    assert done.items() < result_hashes(whole.folder).items()


def test_a_folder_in_use_is_refused(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = run(data, out)
    before = result_hashes(first.folder)
    with pytest.raises(StudyError, match=r"already holds files; .*--overwrite"):
        run(data, out)
    assert result_hashes(first.folder) == before
    again = run_study(small_study(data, study={"seed": 9}), out=out, workers=1, overwrite=True)
    assert result_hashes(again.folder) != before
    assert len(again.folder.trials()) == 10
    assert again.folder.manifest()["study"]["study"]["seed"] == 9
    backend = JournalFileBackend(str(again.folder.journal_path))
    study = optuna.load_study(study_name="small", storage=JournalStorage(backend))
    assert len(study.trials) == 10


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["notes.txt", "results/old.csv", "study.json"])
def test_a_folder_of_other_things_is_never_deleted(
    overwrite: bool, name: str, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    other = out / name
    other.parent.mkdir(parents=True)
    other.write_text('{"mine": "a file of the same name by another program"}')
    with pytest.raises(StudyError, match=str(out)):
        run_study(small_study(data), out=out, workers=1, overwrite=overwrite)
    assert other.read_text().startswith('{"mine"')


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_in_the_place_of_the_folder_is_kept(
    overwrite: bool, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.write_text("mine")
    with pytest.raises(StudyError, match=str(out)):
        run_study(small_study(data), out=out, workers=1, overwrite=overwrite)
    assert out.read_text() == "mine"


def test_an_empty_folder_is_taken(data: Path, tmp_path: Path) -> None:
    (tmp_path / "deep" / "out").mkdir(parents=True)
    assert len(told(run(data, tmp_path / "deep" / "out"))) == 10


def test_a_folder_that_cannot_be_made_is_named(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match="file"):
        run(data, tmp_path / "file" / "out")


def test_without_out_the_folder_is_named_as_the_study(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run_study(small_study(data), workers=1)
    assert result.folder.path == Path("out/small")
    assert (tmp_path / "out" / "small" / "study.json").is_file()


def test_bars_that_cannot_be_used_leave_no_folder(tmp_path: Path) -> None:
    few = write_bars(tmp_path / "bars.parquet", random_bars(45))
    with pytest.raises(DataError, match="at least 50 are needed"):
        run(few, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("damage", ["not a study", "no manifest", "torn manifest"])
def test_a_folder_without_a_study_is_named(damage: str, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(data, out)
    manifest = out / "study.json"
    if damage == "no manifest":
        manifest.unlink()
    elif damage == "torn manifest":
        manifest.write_text(manifest.read_text()[:100])
    else:
        out = tmp_path
    with pytest.raises(StudyError, match=str(out)):
        StudyFolder.open(out).manifest()


def test_a_damaged_result_file_is_named(data: Path, tmp_path: Path) -> None:
    folder = run(data, tmp_path / "out").folder
    path = folder.batch_paths()[1]
    path.write_bytes(path.read_bytes()[:500])
    for read in (folder.results, folder.trials, lambda: folder.sets([20])):
        with pytest.raises(StudyError, match=path.name):
            read()


def test_several_objectives(data: Path, tmp_path: Path) -> None:
    search = {"sampler": "nsga2", "objective": ["sharpe", "max_drawdown"], "trials": 12}
    result = run(data, tmp_path / "out", search=search)
    rows = result.results()
    for trial in told(result):
        own = rows[rows["trial"] == trial["number"]]
        pairs = list(zip(own["sharpe"], own["max_drawdown"], strict=True))
        assert tuple(trial["values"]) in pairs
        # The tile is represented by a set that no other set of it beats in both.
        sharpe, drawdown = trial["values"]
        assert not any(s > sharpe and d < drawdown for s, d in pairs)
    best = best_sets(result.folder, result.study.search, len(rows))
    pairs = list(zip(best["sharpe"], best["max_drawdown"], strict=True))
    for place, (sharpe, drawdown) in enumerate(pairs):
        # No set comes after one that it beats in both.
        assert not any(s > sharpe and d < drawdown for s, d in pairs[place + 1 :])


def test_distributions_are_optunas() -> None:
    risk = {"bear_multiplier": {"low": 0.1, "high": 2.0, "log": True}, **STEPPED,
            "volatility_lookback": {"low": 5, "high": 50, "log": True}}  # fmt: skip
    study = study_from_dict(mapping(risk=risk))
    found = {one.name: distribution_of(one) for one in build_space(study).branches[0].searched}
    ints, floats = optuna.distributions.IntDistribution, optuna.distributions.FloatDistribution
    assert found == {
        "momentum_lookback": ints(5, 40, step=5),
        "volatility_lookback": ints(5, 50, log=True),
        "max_exposure": floats(0.4, 1.0, step=0.3),
        "bear_multiplier": floats(0.1, 2.0, log=True),
    }
    assert isinstance(study.strategies[0].settings["lookback"], Range)
    choices = study_from_dict(mapping()).risk.settings["volatility_lookback"]
    assert isinstance(choices, Choices)
    searched = build_space(study_from_dict(mapping())).branches[0].searched
    assert distribution_of(searched[-1]) == optuna.distributions.CategoricalDistribution((10, 20))


@pytest.mark.parametrize("step", ["select", "walk_forward_searches"])
def test_out_of_memory_while_the_winner_is_judged_says_what_that_takes(
    step: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batches are written by then: their size is not to blame."""

    def fail(*_: Any) -> Any:
        raise MemoryError

    study = small_study(data, validation={"method": "walk_forward"})
    with monkeypatch.context() as patched:
        patched.setattr(run_module, step, fail)
        with pytest.raises(StudyError) as refused:
            run_study(study, out=tmp_path / "out", workers=1)
    message = str(refused.value)
    assert "while the winner was judged" in message
    assert "40 parameter sets x 16 blocks" in message
    assert "`barsweep resume" in message and "search] batch" not in message
    folder = StudyFolder.open(tmp_path / "out")
    assert len(folder.batch_paths()) == 3
    assert not folder.manifest()["complete"]
    assert resume_study(tmp_path / "out", workers=1).folder.manifest()["complete"]
