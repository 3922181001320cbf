"""What a study says about its own choice, against the same from the full series of returns."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from kernels import layout
from optimizer.catalogue import METRICS
from optimizer.cli import results
from optimizer.errors import ExportError, StudyError
from optimizer.search.result import StudyResult
from optimizer.search.run import run_study
from optimizer.selection import blocks, likeness, sets
from optimizer.selection.bootstrap import optimal_block_length, stationary_bootstrap
from optimizer.selection.next_set import export_next
from optimizer.selection.pbo import probability_of_backtest_overfitting
from optimizer.selection.record import Selection, Window, load_selection
from optimizer.selection.sharpe import sharpe_influence
from optimizer.selection.splits import symmetric_splits
from optimizer.selection.tried import everything_tried
from optimizer.selection.verdict import LUCK, VERDICTS, diagnosis, expectation, judge
from optimizer.store.export import load_export
from optimizer.store.folder import StudyFolder
from optimizer.study_file.space import build_space
from optimizer.sweep.evaluate import evaluate
from optimizer.sweep.inputs import NO_REGIME, MarketRegime, block_bounds, prepare
from optimizer.sweep.rules import study_rules
from optimizer.sweep.single_set import single_set_study
from optimizer.sweep.tiles import Tile
from optimizer.types import FloatArray
from tests.reference.overfitting import Overfitting, expected_maximum
from tests.reference.overfitting import sharpe_of as sharpe
from tests.reference.selection import (
    best_of,
    inputs_of,
    path_sharpes,
    returns_of_all,
    returns_of_set,
    windows,
)
from tests.support.selections import YEARLY, chosen
from tests.support.studies import (
    changed,
    random_bars,
    result_hashes,
    small_study,
    write_bars,
)

GRID: dict[str, Any] = {
    "risk": {"max_exposure": {"low": 0.4, "high": 1.0, "step": 0.3}},
    "search": {"sampler": "grid", "batch": 10},
    "validation": {"blocks": 6},
}
"""8 lookbacks x 3 exposures x 2 volatility lookbacks x 4 swept: 192 sets in 5 batches."""


def run(data: Path, out: Path, /, workers: int = 1, **tables: Any) -> StudyResult:
    return run_study(small_study(data, **tables), out=out, workers=workers)


def selected(result: StudyResult) -> Selection:
    found = load_selection(result.folder)
    assert found is not None
    return found


def merged(*tables: dict[str, Any]) -> dict[str, Any]:
    """Tables of several studies, key by key."""
    found: dict[str, Any] = {}
    for one in tables:
        for name, table in one.items():
            found[name] = {**found.get(name, {}), **table}
    return found


class Known:
    """The small grid, what it says, and the returns of all of its sets."""

    def __init__(self, result: StudyResult) -> None:
        self.result = result
        self.selection = selected(result)
        self.space, self.inputs = inputs_of(result)
        self.returns = returns_of_all(result)
        self.n_inside = self.inputs.split - self.inputs.first

    def between(self, start: int, stop: int) -> Any:
        """Returns of all sets over bars [start, stop)."""
        return self.returns[start - self.inputs.first : stop - self.inputs.first]

    @property
    def in_blocks(self) -> Any:
        return self.between(self.inputs.bounds[0], self.inputs.split)


@pytest.fixture(scope="module")
def known(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Known:
    return Known(run(data, tmp_path_factory.mktemp("grid") / "out", **GRID))


# --- Moments ----------------------------------------------------------------------------------


@settings(max_examples=25)
@given(
    st.integers(0, 10_000),
    st.integers(110, 300),
    st.sampled_from([0, 2, 4, 10, 24]),
    st.sampled_from([0.0, 0.3]),
    st.fixed_dictionaries(
        {
            "momentum_lookback": st.integers(2, 50),
            "momentum_threshold": st.sampled_from([0.0, 0.01, 0.05]),
            "kelly_fraction": st.floats(0.01, 1.0),
            "max_exposure": st.floats(0.1, 1.0),
            "stop_loss": st.sampled_from([0.0, 0.02]),
            "correlation_penalty": st.sampled_from([0.0, 0.5]),
        }
    ),
    st.booleans(),
)
def test_moments_of_blocks_equal_those_of_the_returns(
    seed: int, n_bars: int, n_blocks: int, holdout: float, parameters: Any, short: bool
) -> None:
    parameters = {"strategy": "momentum", "correlation_lookback": 20, **parameters}
    study = single_set_study(parameters, {}, short, None, holdout)
    bars = random_bars(n_bars, seed=seed)
    space = build_space(study)
    inputs = prepare(bars, space, study_rules(study, space, bars), holdout, n_blocks=n_blocks)
    branch = space.branches[0]
    tile = Tile.of(branch, branch.lanes({}))
    codes = {key: MarketRegime.neutral(n_bars) for key in tile.regime_keys()[0]}
    result = evaluate(inputs, [tile], codes)[0]
    returns = returns_of_set(inputs, tile)

    bounds = [bound - inputs.first for bound in inputs.bounds]
    assert bounds == sorted(set(bounds))
    assert inputs.bounds[-1] == inputs.split
    assert len({stop - start for start, stop in pairwise(bounds)}) <= 1
    assert result.moments.shape == (1, 2, len(bounds) - 1)
    for block, (start, stop) in enumerate(pairwise(bounds)):
        part = returns[start:stop]
        total, squares = result.moments[0, :, block]
        assert total == pytest.approx(math.fsum(part), rel=0.0, abs=1e-12)
        assert squares == pytest.approx(math.fsum(r * r for r in part), rel=0.0, abs=1e-12)

    n_inside = inputs.split - inputs.first
    for row, part in (
        (result.in_sample[0], returns[:n_inside]),
        (result.out_of_sample[0], returns[n_inside:]),
    ):
        if not len(part) or np.ptp(part) == 0.0:
            assert np.isnan(row[METRICS.index("skewness")])
            assert np.isnan(row[METRICS.index("kurtosis")])
            continue
        assert row[METRICS.index("skewness")] == pytest.approx(stats.skew(part), rel=1e-7, abs=1e-7)
        assert row[METRICS.index("kurtosis")] == pytest.approx(
            stats.kurtosis(part, fisher=False), rel=1e-7
        )

    plain = evaluate(replace(inputs, bounds=(inputs.split,)), [tile], codes)[0]
    np.testing.assert_array_equal(plain.in_sample, result.in_sample)
    np.testing.assert_array_equal(plain.out_of_sample, result.out_of_sample)


@given(st.integers(0, 300), st.integers(1, 400), st.integers(0, 12), st.integers(1, 20))
def test_blocks_are_of_equal_length_and_end_at_the_holdout(
    first: int, n_bars: int, half: int, least: int
) -> None:
    bounds = block_bounds(first, first + n_bars, 2 * half, least)
    lengths = np.diff(bounds)
    assert bounds[-1] == first + n_bars
    assert len(lengths) % 2 == 0
    assert len(lengths) == min(2 * half, n_bars // least // 2 * 2)
    if len(lengths):
        assert len(set(lengths.tolist())) == 1
        assert lengths[0] >= least
        assert 0 <= bounds[0] - first < len(lengths)


def test_the_results_of_a_study_are_the_same_with_any_blocks(known: Known, tmp_path: Path) -> None:
    other = run(
        known.result.study.data_path,
        tmp_path / "out",
        **merged(GRID, {"validation": {"blocks": 2}}),
    )
    pd.testing.assert_frame_equal(known.result.results(), other.results())


# --- Probability of backtest overfitting ------------------------------------------------------


def test_pbo_of_a_study_equals_that_of_its_returns(known: Known) -> None:
    found = known.selection
    assert len(known.result.folder.batch_paths()) == 5
    assert found.block_bars == tuple(np.diff(known.inputs.bounds))
    assert found.n_splits == 20
    direct = probability_of_backtest_overfitting(known.in_blocks, 6)
    assert found.pbo == direct.probability
    np.testing.assert_allclose(found.logits, direct.logits, rtol=1e-12)
    brute = Overfitting(known.in_blocks, 6)
    assert found.pbo == pytest.approx(brute.probability)
    assert found.probability_of_loss == pytest.approx(brute.loss)
    assert found.degradation_slope == pytest.approx(brute.slope)


def test_pbo_is_among_the_feasible_sets(data: Path, known: Known, tmp_path: Path) -> None:
    limit = float(known.result.results()["max_drawdown"].median())
    tables = merged(GRID, {"search": {"constraints": [f"max_drawdown <= {limit}"]}})
    found = selected(run(data, tmp_path / "out", **tables))
    feasible = (known.result.results()["max_drawdown"] <= limit).to_numpy()
    assert 0 < feasible.sum() < len(feasible)
    brute = Overfitting(known.in_blocks[:, feasible], 6)
    assert found.pbo == pytest.approx(brute.probability)
    np.testing.assert_allclose(sorted(found.logits), sorted(brute.logits), rtol=1e-9)


def test_splits_that_are_drawn_are_of_all_splits_and_seeded(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = symmetric_splits(10).tolist()
    assert len(everything) == math.comb(10, 5) == len(set(everything))
    drawn = symmetric_splits(10, 50, seed=1).tolist()
    assert drawn == [mask for mask in everything if mask in set(drawn)]
    assert len(set(drawn)) == 50
    assert drawn == symmetric_splits(10, 50, seed=1).tolist()
    assert drawn != symmetric_splits(10, 50, seed=2).tolist()
    assert symmetric_splits(10, 252, seed=1).tolist() == everything

    tables = merged(GRID, {"validation": {"blocks": 10}})
    whole = selected(run(data, tmp_path / "whole", **tables))
    assert whole.n_splits == len(whole.logits) == 252
    monkeypatch.setattr(blocks, "MOST_SPLITS", 50)
    some = selected(run(data, tmp_path / "some", **tables))
    assert some.n_splits == len(some.logits) == 50
    assert set(some.logits) <= set(whole.logits)
    places = [everything.index(mask) for mask in symmetric_splits(10, 50, seed=3).tolist()]
    assert some.logits == tuple(whole.logits[place] for place in places)
    monkeypatch.setattr(blocks, "SET_SPLITS", 192 * 110)
    monkeypatch.setattr(blocks, "MOST_SPLITS", 20_000)
    assert selected(run(data, tmp_path / "fewer", **tables)).n_splits == 110


# --- Walk-forward -----------------------------------------------------------------------------


def assert_windows(
    known: Known, found: Selection, n_train: int, anchored: bool, purge: int = 0
) -> None:
    """Each window chose the best of its training bars, and says what that did afterwards."""
    expected = windows(known.inputs.bounds, n_train, anchored, purge)
    assert [(w.train_start, w.train_stop, w.start, w.stop) for w in found.windows] == expected
    for window in found.windows:
        best, _ = best_of(known.between(window.train_start, window.train_stop))
        own = known.returns[:, window.number]
        first = known.inputs.first
        before = own[window.train_start - first : window.train_stop - first]
        after = own[window.start - known.inputs.first : window.stop - known.inputs.first]
        assert sharpe(before) == pytest.approx(best)
        assert window.in_sample == pytest.approx(best * YEARLY)
        assert window.out_of_sample == pytest.approx(sharpe(after) * YEARLY, abs=1e-12)
    gained, kept = (
        sum(getattr(w, name) for w in found.windows) for name in ("in_sample", "out_of_sample")
    )
    assert gained > 0.0
    assert found.walk_forward_efficiency == pytest.approx(kept / gained)


def test_every_study_has_the_windows_of_a_walk_forward(known: Known) -> None:
    assert_windows(known, known.selection, 3, anchored=False)
    assert known.selection.stitched_sharpe is None
    assert not (known.result.folder.path / "walk_forward.parquet").exists()


@pytest.mark.parametrize(
    ("train", "anchored", "purge"), [(2, False, 0), (1, True, 0), (5, False, 0), (2, False, 2)]
)
def test_walk_forward_changes_the_set_of_one_account(
    train: int, anchored: bool, purge: int, known: Known, tmp_path: Path
) -> None:
    validation = {"train_blocks": train, "anchored": anchored, "purge_blocks": purge}
    tables = merged(GRID, {"validation": {"method": "walk_forward", **validation}})
    result = run(known.result.study.data_path, tmp_path / "out", **tables)
    found = selected(result)
    assert not found.one_search_per_window
    assert not (result.folder.path / "folds").exists()
    assert_windows(known, found, train, anchored, purge)
    frame = pd.read_parquet(result.folder.path / "walk_forward.parquet")
    assert list(frame.columns) == ["timestamp", "return", "equity", "excess_return", "set"]
    returns = frame["return"].to_numpy()
    np.testing.assert_allclose(frame["equity"], 100_000.0 * np.cumprod(1.0 + returns), rtol=1e-12)
    assert frame["excess_return"].equals(frame["return"])
    assert frame["set"].to_list() == [
        w.number for w in found.windows for _ in range(w.start, w.stop)
    ]
    times = known.inputs.bars.timestamps[found.windows[0].start : found.windows[-1].stop]
    assert (frame["timestamp"].dt.tz_localize(None).to_numpy() == times).all()
    assert found.stitched_sharpe == pytest.approx(sharpe(returns) * YEARLY)


def test_walk_forward_subtracts_the_risk_free_rate(known: Known, tmp_path: Path) -> None:
    """5% a year for the time between two closes; the trades are the same."""
    account = {"account": {"risk_free": 0.05}, "validation": {"method": "walk_forward"}}
    result = run(known.result.study.data_path, tmp_path / "out", **merged(GRID, account))
    found = selected(result)
    start, stop = found.windows[0].start, found.windows[-1].stop
    days = np.diff(known.inputs.bars.timestamps[start - 1 : stop]) / np.timedelta64(1, "D")
    frame = pd.read_parquet(result.folder.path / "walk_forward.parquet")
    excess = (frame["return"] - 0.05 * days / 365.25).to_numpy()
    np.testing.assert_allclose(frame["excess_return"], excess, rtol=0.0, atol=1e-14)
    assert found.stitched_sharpe == pytest.approx(sharpe(excess) * YEARLY)


@pytest.mark.parametrize("constraints", [[], ["max_drawdown <= 0.08"]])
def test_windows_do_not_look_ahead(constraints: list[str], data: Path, tmp_path: Path) -> None:
    """Bars after a window's training change nothing in its choice, not by feasibility either."""
    tables = merged(GRID, {"search": {"constraints": constraints}})
    one = run(data, tmp_path / "one", **tables)
    turn = selected(one).windows[1].start
    path = write_bars(tmp_path / "changed" / "bars.parquet", changed(random_bars(), turn, 0.4))
    other = run(path, tmp_path / "other", **tables)
    feasible = [result.results()["feasible"] for result in (one, other)]
    assert feasible[0].equals(feasible[1]) == (not constraints)
    before, after = selected(one).windows, selected(other).windows
    for place in (0, 1):
        assert before[place].number == after[place].number
        assert before[place].in_sample == after[place].in_sample
    assert before[0].out_of_sample == after[0].out_of_sample
    assert before[1].out_of_sample != after[1].out_of_sample
    assert before[2].in_sample != after[2].in_sample


STEERED: dict[str, Any] = {
    "search": {"sampler": "tpe", "trials": 30, "batch": 10},
    "validation": {"blocks": 6, "method": "walk_forward", "train_blocks": 3},
}


def after_window(result: StudyResult, folder: StudyFolder, window: Window) -> float:
    """Annualized Sharpe ratio of the window's set over the bars that it trades.

    The set starts to trade with the first bar of training.
    """
    space, inputs = inputs_of(result)
    tile = sets.tile_of(space, folder.sets([window.number]))
    returns = returns_of_set(inputs.window(window.train_start, window.start, window.stop), tile)
    return sharpe(returns[window.start - window.train_start :]) * YEARLY


def test_a_search_of_its_own_for_each_window_does_not_look_ahead(
    data: Path, tmp_path: Path
) -> None:
    one = run(data, tmp_path / "one", **STEERED)
    found = selected(one)
    assert found.one_search_per_window
    assert [w.start for w in found.windows] == list(inputs_of(one)[1].bounds[3:6])
    folds = [StudyFolder.open(one.folder.path / "folds" / f"{i:02d}") for i in range(3)]
    for window, folder in zip(found.windows, folds, strict=True):
        rows = folder.results()
        assert rows["trial"].nunique() == 30
        assert window.in_sample == rows["sharpe"].max()
        own = rows[rows["set"] == window.number].iloc[0]
        assert own["sharpe"] == window.in_sample
        assert after_window(one, folder, window) == pytest.approx(window.out_of_sample, abs=1e-12)
        assert not list(folder.path.glob("shared-*"))
    asked = {json.dumps([trial["params"] for trial in folder.trials()]) for folder in folds}
    assert len(asked) > 1, "each search goes its own way"

    turn = found.windows[1].start
    path = write_bars(tmp_path / "changed" / "bars.parquet", changed(random_bars(), turn, 0.5))
    other = run(path, tmp_path / "other", **STEERED)
    for place in (0, 1):
        again = StudyFolder.open(other.folder.path / "folds" / f"{place:02d}")
        assert again.trials()[0]["params"] == folds[place].trials()[0]["params"]
        before, after = found.windows[place], selected(other).windows[place]
        assert before.number == after.number
        assert before.in_sample == after.in_sample
        names = ["set", "score", "momentum_lookback", "max_exposure", *METRICS]
        pd.testing.assert_frame_equal(folds[place].results()[names], again.results()[names])
    assert found.windows[1].out_of_sample != selected(other).windows[1].out_of_sample
    assert found.windows[2].in_sample != selected(other).windows[2].in_sample


def test_purged_searches_train_on_fewer_bars(data: Path, tmp_path: Path) -> None:
    result = run(data, tmp_path / "out", **merged(STEERED, {"validation": {"purge_blocks": 1}}))
    found, bounds = selected(result), inputs_of(result)[1].bounds
    edges = [(w.train_start, w.train_stop, w.start, w.stop) for w in found.windows]
    assert edges == windows(bounds, 3, anchored=False, purge=1)
    for place, window in enumerate(found.windows):
        folder = StudyFolder.open(result.folder.path / "folds" / f"{place:02d}")
        assert after_window(result, folder, window) == pytest.approx(
            window.out_of_sample, abs=1e-12
        )
        row = folder.sets([window.number])
        space, inputs = inputs_of(result)
        cut = inputs.window(window.train_start, window.train_stop, window.train_stop)
        returns = returns_of_set(cut, sets.tile_of(space, row))
        assert sharpe(returns) * YEARLY == pytest.approx(float(row["sharpe"].iloc[0]))


@pytest.mark.parametrize(
    "search",
    [
        {"constraints": ["max_drawdown <= 0.5"]},
        {"objective": "calmar"},
        {"tile_value": "median"},
        {"objective": ["sharpe", "max_drawdown"], "direction": ["maximize", "minimize"]},
    ],
)
def test_a_choice_that_moments_cannot_tell_gets_searches_of_its_own(
    search: dict[str, Any], data: Path, tmp_path: Path
) -> None:
    tables = {"search": {"trials": 5, **search}, "validation": STEERED["validation"]}
    result = run(data, tmp_path / "out", **tables)
    assert selected(result).one_search_per_window
    objective = search.get("objective", "sharpe")
    if objective == "calmar":
        for place, window in enumerate(selected(result).windows):
            rows = StudyFolder.open(result.folder.path / "folds" / f"{place:02d}").results()
            best = rows.sort_values("calmar", ascending=False, kind="stable").iloc[0]
            assert window.number == best["set"]
            assert window.in_sample == best["sharpe"]


@pytest.mark.parametrize(("limit", "n_feasible"), [(20, 2), (55, 0)])
def test_after_a_window_without_a_feasible_set_the_set_before_goes_on(
    limit: int, n_feasible: int, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Half of the bars hold fewer trades than all of them."""
    search = {"sampler": "random", "constraints": [f"n_trades >= {limit}"]}
    with caplog.at_level(logging.WARNING, "barsweep"):
        result = run(data, tmp_path / "out", **merged(STEERED, {"search": search}))
    found = selected(result)
    folds = [result.folder.path / "folds" / f"{i:02d}" for i in range(3)]
    feasible = [bool(StudyFolder.open(fold).results()["feasible"].any()) for fold in folds]
    assert sum(feasible) == len(found.windows) == n_feasible
    assert caplog.text.count("walk-forward: no set is feasible over bars") == 3 - n_feasible
    path = result.folder.path / "walk_forward.parquet"
    assert path.exists() == bool(n_feasible)
    if n_feasible:
        frame, inputs = pd.read_parquet(path), inputs_of(result)[1]
        assert len(frame) == inputs.split - found.windows[0].start, "no bar is left out"
        numbers = [window.number for window in found.windows]
        assert frame["set"].unique().tolist() == list(dict.fromkeys(numbers))


# --- The set for the next window --------------------------------------------------------------


def exported(result: StudyResult, **options: Any) -> dict[str, Any]:
    content = load_export(export_next(result.folder.path, **options))
    (found,) = content["sets"]
    assert found.get("out_of_sample") is None
    return dict(found)


def simulated_again(result: StudyResult, one: dict[str, Any]) -> dict[str, float]:
    """In-sample metrics of an exported set, from its parameters."""
    names = {"strategy": one["strategy"], "classifier": one["classifier"]}
    space, inputs = inputs_of(result)
    branch = space.branches[space.branch_index(names["strategy"], names["classifier"])]
    columns = {name: np.array([float(one["parameters"][name])]) for name in branch.columns}
    neutral = {NO_REGIME: MarketRegime.neutral(inputs.bars.n_bars)}
    metrics = evaluate(inputs, [Tile.of(branch, columns)], neutral)[0].in_sample[0]
    return dict(zip(METRICS, metrics.tolist(), strict=True))


@pytest.mark.parametrize("validation", [{}, {"method": "walk_forward", "anchored": True}])
def test_the_next_set_is_the_best_of_the_last_training_bars(
    validation: dict[str, Any], known: Known, tmp_path: Path
) -> None:
    tables = merged(GRID, {"validation": validation})
    result = run(known.result.study.data_path, tmp_path / "out", **tables)
    bounds = known.inputs.bounds
    start = bounds[0] if validation else bounds[3]
    found = selected(result).next_set
    assert found is not None
    assert (found.train_start, found.stop) == (start, known.inputs.split)
    assert found.number == best_of(known.between(start, known.inputs.split))[1]
    one = exported(result)
    assert one["set"] == found.number
    row = result.folder.sets([found.number]).iloc[0]
    assert one["in_sample"]["sharpe"] == row["sharpe"]
    assert one["parameters"]["momentum_lookback"] == row["momentum_lookback"]
    assert simulated_again(result, one)["sharpe"] == row["sharpe"]


def test_the_next_set_does_not_know_the_holdout(known: Known, tmp_path: Path) -> None:
    moved = write_bars(
        tmp_path / "moved" / "bars.parquet", changed(random_bars(), known.inputs.split, 0.4)
    )
    other = run(moved, tmp_path / "other", **GRID)
    assert selected(other).next_set == known.selection.next_set
    paths = {"one": known.result.study.data_path, "two": moved}
    one, two = (selected(run(path, tmp_path / name, **STEERED)) for name, path in paths.items())
    assert one.next_set == two.next_set
    assert one.next_set is not None
    assert one.holdout != two.holdout


@pytest.mark.parametrize("objective", ["calmar", "total_return"])
def test_the_next_set_is_chosen_by_the_objective(
    objective: str, data: Path, tmp_path: Path
) -> None:
    search, validation = {"objective": objective}, STEERED["validation"]
    tables = merged(GRID, {"search": search, "validation": validation})
    result = run(data, tmp_path / "out", **tables)
    found = selected(result).next_set
    assert found is not None
    assert found.own_search
    space, inputs = inputs_of(result)
    assert (found.train_start, found.stop) == (inputs.bounds[3], inputs.split)
    cut = inputs.window(found.train_start, found.stop, found.stop)
    every = result.results()
    tile = sets.tile_of(space, every)
    metrics = evaluate(cut, [tile], {NO_REGIME: MarketRegime.neutral(inputs.bars.n_bars)})[
        0
    ].in_sample
    best = every.iloc[int(np.nanargmax(metrics[:, METRICS.index(objective)]))]
    one = exported(result, format="toml") if objective == "calmar" else exported(result)
    for name in ("momentum_lookback", "max_exposure", "momentum_threshold"):
        assert one["parameters"][name] == best[name]
    assert one["in_sample"]["sharpe"] == best["sharpe"], "over all in-sample bars"
    assert simulated_again(result, one)["sharpe"] == best["sharpe"]


def test_without_a_search_of_its_own_another_objective_has_no_next_set(
    data: Path, tmp_path: Path
) -> None:
    result = run(data, tmp_path / "out", **merged(GRID, {"search": {"objective": "calmar"}}))
    assert selected(result).next_set is None
    with pytest.raises(ExportError, match=r'the study with .*method = "walk_forward"'):
        export_next(result.folder.path)


@pytest.mark.parametrize("objective", ["sharpe", "calmar"])
def test_a_study_of_one_set_has_no_windows_and_says_so(
    objective: str, data: Path, tmp_path: Path
) -> None:
    study = small_study(
        data,
        strategy={"lookback": 20, "threshold": 0.0},
        risk={"kelly_fraction": 0.2, "max_exposure": 1.0, "volatility_lookback": 20},
        search={"trials": 1, "objective": objective},
    )
    folder = run_study(study, out=tmp_path / "out", workers=1).folder.path
    with pytest.raises(ExportError, match="a study of one set has no windows") as raised:
        export_next(folder)
    assert f"`barsweep export {folder}` writes that set" in str(raised.value)


def test_the_next_set_of_an_infeasible_window_says_so(data: Path, tmp_path: Path) -> None:
    search = {"sampler": "random", "constraints": ["n_trades >= 55"]}
    result = run(data, tmp_path / "out", **merged(STEERED, {"search": search}))
    with pytest.raises(ExportError, match="no set is feasible over the last training window"):
        export_next(result.folder.path)


# --- Combinatorial purged cross-validation ----------------------------------------------------


@pytest.mark.parametrize(
    ("n_test", "embargo", "purge"), [(1, 0, 0), (2, 1, 0), (3, 0, 0), (1, 1, 1), (1, 0, 2)]
)
def test_paths_of_cpcv_equal_those_of_the_returns(
    n_test: int, embargo: int, purge: int, known: Known, tmp_path: Path
) -> None:
    validation = {
        "method": "cpcv",
        "test_blocks": n_test,
        "embargo_blocks": embargo,
        "purge_blocks": purge,
    }
    found = selected(
        run(
            known.result.study.data_path,
            tmp_path / "out",
            **merged(GRID, {"validation": validation}),
        )
    )
    expected = path_sharpes(known.in_blocks, 6, n_test, embargo, purge)
    assert len(found.path_sharpes) == math.comb(5, n_test - 1)
    np.testing.assert_allclose(found.path_sharpes, np.array(expected) * YEARLY, rtol=1e-9)


@pytest.mark.parametrize(
    ("validation", "words"),
    [
        ({"method": "cpcv", "test_blocks": 3}, ["test_blocks = 3", "needs 7 blocks", "make 6 blocks"]),
        ({"method": "walk_forward"}, ['method = "walk_forward"', "make 0 blocks"]),
        ({"method": "walk_forward", "purge_blocks": 5}, ["needs 7 blocks", "make 0 blocks"]),
    ],
)  # fmt: skip
def test_too_few_bars_for_a_method_are_refused_before_the_search(
    validation: dict[str, Any], words: list[str], tmp_path: Path
) -> None:
    n_bars = 130 if validation["method"] == "cpcv" else 62
    path = write_bars(tmp_path / "bars.parquet", random_bars(n_bars))
    with pytest.raises(StudyError) as raised:
        run(path, tmp_path / "out", validation={"blocks": 16, **validation})
    for word in ("[validation]", *words):
        assert word in str(raised.value)
    assert not (tmp_path / "out").exists()


# --- Statistics of the best sets --------------------------------------------------------------


def shape_of(returns: FloatArray) -> tuple[float, int, float, float]:
    """Sharpe ratio, number, skewness and Pearson's kurtosis."""
    skewness, kurtosis = stats.skew(returns), stats.kurtosis(returns, fisher=False)
    return sharpe(returns), len(returns), float(skewness), float(kurtosis)


def probability_above(
    hurdle: float, ratio: float, n: int, skewness: float, kurtosis: float, memory: float
) -> float:
    """Probabilistic Sharpe ratio, with the sums over all lags written out."""
    lags = range(1, 200)
    first = 1.0 + 2.0 * sum(memory**lag for lag in lags)
    mixed = 1.0 + sum(memory**lag + memory ** (2 * lag) for lag in lags)
    second = 1.0 + 2.0 * sum(memory ** (2 * lag) for lag in lags)
    variance = first - mixed * skewness * ratio + second * (kurtosis - 1.0) / 4.0 * ratio**2
    return float(stats.norm.cdf((ratio - hurdle) * math.sqrt((n - 1) / variance)))


def test_odds_of_the_best_sets(known: Known) -> None:
    found = known.selection
    rows = known.result.results()
    best = known.result.best(10)
    assert [one.number for one in found.sets] == best["set"].to_list()
    assert found.n_tried == len(rows) == 192
    assert found.n_returns == known.n_inside
    assert found.returns_per_year == 252.0
    assert found.sharpe_deviation == pytest.approx(np.std(rows["sharpe"].dropna(), ddof=1))
    variance = (found.sharpe_deviation / YEARLY) ** 2
    hurdles = [expected_maximum(variance, n) for n in (found.n_effective, found.n_tried)]
    for one in found.sets:
        inside, outside = np.split(known.returns[:, one.number], [known.n_inside])
        assert one.sharpe == pytest.approx(sharpe(inside) * YEARLY)
        if one is not found.sets[0]:  # the verdict looks at the winner alone
            assert one.oos_sharpe is None and one.oos_psr is None
        else:
            assert one.oos_sharpe == pytest.approx(sharpe(outside) * YEARLY)
        assert one.skewness == pytest.approx(stats.skew(inside))
        assert one.kurtosis == pytest.approx(stats.kurtosis(inside, fisher=False))
        around = inside - inside.mean()
        memory = float(around[1:] @ around[:-1] / (around @ around))
        assert one.autocorrelation == pytest.approx(memory)
        shape = (*shape_of(inside), memory)
        assert one.psr == pytest.approx(probability_above(0.0, *shape))
        assert one.dsr == pytest.approx(probability_above(hurdles[0], *shape), rel=1e-6)
        assert one.raw_dsr == pytest.approx(probability_above(hurdles[1], *shape), rel=1e-6)
        if one is found.sets[0]:
            outer = (*shape_of(outside), memory)
            assert one.oos_psr == pytest.approx(probability_above(0.0, *outer))
    assert found.sets[0].sharpe is not None
    years = (expected_maximum(1.0, found.n_effective) / found.sets[0].sharpe) ** 2
    assert found.minimum_years == pytest.approx(years, rel=1e-6)


def test_no_minimum_of_years_for_a_winner_that_loses(data: Path, tmp_path: Path) -> None:
    found = selected(
        run(
            data,
            tmp_path / "out",
            search={"trials": 4, "direction": "minimize"},
            costs={"commission_bps": 300.0},
        )
    )
    assert found.sets[0].sharpe is not None
    assert found.sets[0].sharpe < 0.0
    assert found.minimum_years is None


def test_the_effective_number_lies_between_1_and_that_tried(known: Known) -> None:
    assert 1.0 <= known.selection.n_effective < known.selection.n_tried


COPIES: dict[str, Any] = {
    "strategy": {"lookback": 10, "threshold": 0.0},
    "risk": {
        "kelly_fraction": 0.1,
        "max_exposure": 0.6,
        "volatility_lookback": 20,
        "take_profit": {"sweep": {"low": 3.0, "high": 4.0, "step": 0.05}},
    },
    "search": {"trials": 1},
}
"""21 sets that are the same trades: a gain of 300% never comes."""


def test_copies_of_one_set_are_worth_one(data: Path, tmp_path: Path) -> None:
    result = run(data, tmp_path / "out", **COPIES)
    found = selected(result)
    assert found.n_tried == 21
    assert result.results()["final_equity"].nunique() == 1
    assert found.n_effective == pytest.approx(1.0)
    assert len(found.sets) == 1, "the same trades under another name are left out"
    assert found.sharpe_deviation == pytest.approx(0.0, abs=1e-12)
    assert found.sets[0].dsr == pytest.approx(found.sets[0].psr)
    assert found.neighbours is None, "what trades the same is no neighbour"


def test_the_effective_number_of_a_sample_is_scaled_up(
    data: Path, known: Known, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(likeness, "SAMPLE", 48)
    some = selected(run(data, tmp_path / "some", **GRID)).n_effective
    again = selected(run(data, tmp_path / "again", **GRID)).n_effective
    assert some == again
    assert known.selection.n_effective < some < 192 / 48 * known.selection.n_effective
    assert selected(run(data, tmp_path / "one", **COPIES)).n_effective == pytest.approx(1.0)


def test_neighbours_are_the_sets_whose_returns_are_alike(known: Known) -> None:
    """All 192 sets are drawn, and as many blocks as bars."""
    rows = known.result.results()
    inside = known.returns[: known.n_inside]
    winner = known.selection.sets[0].number
    with np.errstate(invalid="ignore"):
        correlations = np.array([np.corrcoef(inside[:, winner], one)[0, 1] for one in inside.T])
    near = (correlations >= 0.5) & (correlations <= 0.9)
    found = known.selection.neighbours
    assert found is not None
    assert found.n_drawn == 192
    assert found.n_sets == near.sum() > 10
    assert found.correlation == pytest.approx(correlations[near].mean(), rel=1e-6)
    assert found.median == pytest.approx(rows["sharpe"][near].fillna(0.0).median())
    assert found.worst == pytest.approx(rows["sharpe"][near].fillna(0.0).min())


def test_neighbours_are_feasible(data: Path, known: Known, tmp_path: Path) -> None:
    assert known.selection.neighbours is not None
    middle = known.selection.neighbours.median
    tables = merged(GRID, {"search": {"constraints": [f"sharpe >= {middle}"]}})
    found = selected(run(data, tmp_path / "out", **tables)).neighbours
    assert found is not None
    assert found.worst >= middle
    assert found.n_sets < known.selection.neighbours.n_sets


def interval_of(returns: Any) -> Any:
    length = optimal_block_length(sharpe_influence(returns))
    return stationary_bootstrap(returns, length, 1000, seed=3)


def test_intervals_are_the_bootstrap_of_the_winner(known: Known) -> None:
    found = known.selection
    inside, outside = np.split(known.returns[:, found.sets[0].number], [known.n_inside])
    for one, expected in (
        (found.sharpe_interval, [end * YEARLY for end in interval_of(inside).sharpe_interval]),
        (found.oos_sharpe_interval, [end * YEARLY for end in interval_of(outside).sharpe_interval]),
        (found.drawdown_interval, interval_of(inside).drawdown_interval),
    ):
        assert one == pytest.approx(expected, rel=1e-9)


def test_the_ratio_to_expect_is_that_of_what_splits_choose(known: Known) -> None:
    found = known.selection
    own = found.sets[0].sharpe
    slow = Overfitting(known.in_blocks, 6)
    assert own is not None and found.sharpe_to_expect is not None
    assert found.sharpe_to_expect == pytest.approx(np.mean(slow.outside) * YEARLY)
    assert found.sharpe_to_expect < own
    inside = known.returns[: known.n_inside, found.sets[0].number]
    low, high = (end * YEARLY for end in interval_of(inside).sharpe_interval)
    wrong = 1.96 * 0.75 * (own - found.sharpe_to_expect)
    ends = [
        found.sharpe_to_expect - math.sqrt((own - low) ** 2 + wrong**2),
        found.sharpe_to_expect + math.sqrt((high - own) ** 2 + wrong**2),
    ]
    assert found.interval_to_expect == pytest.approx(ends, rel=1e-4)
    assert expectation(found).startswith(
        f"Sharpe ratio to expect {found.sharpe_to_expect:.2f} (95%"
    )


def test_another_objective_has_no_ratio_to_expect(data: Path, tmp_path: Path) -> None:
    """The splits choose by the Sharpe ratio, which is not how its winner was chosen."""
    found = selected(run(data, tmp_path / "out", search={"objective": "total_return", "trials": 4}))
    assert found.sharpe_to_expect is None and found.interval_to_expect is None
    assert "unknown" in expectation(found) and "Sharpe ratio" in expectation(found)


def test_intervals_are_of_returns_beyond_the_risk_free_rate(data: Path, tmp_path: Path) -> None:
    tables = merged(
        GRID, {"account": {"risk_free": 0.2, "cash_rate": 0.2}, "search": {"batch": 24}}
    )
    result = run(data, tmp_path / "out", **tables)
    found = selected(result)
    _, inputs = inputs_of(result)
    returns = returns_of_all(result)[:, found.sets[0].number]
    excess = returns - inputs.rates[inputs.first :, layout.RISK_FREE]
    inside = interval_of(excess[: inputs.split - inputs.first])
    assert inside.sharpe * YEARLY == pytest.approx(found.sets[0].sharpe, rel=1e-6)
    ends = [end * YEARLY for end in inside.sharpe_interval]
    assert found.sharpe_interval == pytest.approx(ends, rel=1e-9)


def test_the_only_set_is_expected_to_go_on_as_before(data: Path, tmp_path: Path) -> None:
    found = selected(run(data, tmp_path / "out", **merged(COPIES, {"risk": {"take_profit": 0.0}})))
    assert found.sharpe_to_expect == found.sets[0].sharpe is not None
    assert found.interval_to_expect == pytest.approx(found.sharpe_interval)


def test_returns_of_a_set_are_those_of_its_equity(known: Known) -> None:
    row = known.result.best(1)
    returns = sets.set_returns(
        known.space, known.inputs, row, lambda keys: {k: MarketRegime.neutral(300) for k in keys}
    )
    np.testing.assert_allclose(returns, known.returns[:, int(row["set"].iloc[0])], atol=1e-15)


# --- What a study leaves ----------------------------------------------------------------------


def test_a_selection_is_read_as_it_was_written(tmp_path: Path, known: Known) -> None:
    full = replace(
        known.selection,
        windows=(Window(3, 10, 20, 30, 1.5, -0.5),),
        stitched_sharpe=0.5,
        path_sharpes=(-0.5, 0.25),
    )
    empty = chosen(neighbours=None, pbo=None)
    for place, one in enumerate((known.selection, full, empty)):
        folder = StudyFolder(tmp_path / str(place))
        folder.path.mkdir()
        one.save(folder)
        assert load_selection(folder) == one
    assert load_selection(StudyFolder(tmp_path / "nothing")) is None


DAMAGES: dict[str, Any] = {
    "empty": lambda text: "",
    "cut": lambda text: text[: len(text) // 2],
    "a list": lambda text: "[1, 2]",
    "not text": lambda text: b"\xff\xfe\x00",
    "no sets": lambda text: text.replace('"sets"', '"sats"'),
    "another key": lambda text: text.replace('"pbo"', '"odds"'),
    "another key of a set": lambda text: text.replace('"psr"', '"odds"'),
    "sets is a number": lambda text: json.dumps({**json.loads(text), "sets": 3}),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_selection_is_one_error(damage: str, known: Known, tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    known.selection.save(folder)
    path = tmp_path / "selection.json"
    spoilt = DAMAGES[damage](path.read_text())
    path.write_bytes(spoilt if isinstance(spoilt, bytes) else spoilt.encode())
    with pytest.raises(StudyError, match=r"selection\.json: cannot be read: .*barsweep resume"):
        load_selection(folder)


def test_no_feasible_set_is_no_selection(data: Path, tmp_path: Path, capsys: Any) -> None:
    result = run(data, tmp_path / "out", search={"trials": 3, "constraints": ["sharpe >= 99"]})
    assert load_selection(result.folder) is None
    results.show_study(result.folder.path, 3)
    shown = capsys.readouterr().out
    assert "no parameter set is feasible" in shown
    assert not any(words in shown for words in VERDICTS)


def test_one_feasible_set_has_no_pbo(data: Path, known: Known, tmp_path: Path) -> None:
    best = known.result.results()["sharpe"].max()
    tables = merged(GRID, {"search": {"constraints": [f"sharpe >= {best}"]}})
    result = run(data, tmp_path / "out", **tables)
    assert result.results()["feasible"].sum() == 1
    found = selected(result)
    assert found.pbo is None
    assert found.windows == known.selection.windows


def test_a_study_of_one_set(data: Path, tmp_path: Path, capsys: Any) -> None:
    found = run(data, tmp_path / "out", **merged(COPIES, {"risk": {"take_profit": 0.0}}))
    one = selected(found)
    assert one.n_tried == 1
    assert one.n_effective == 1.0
    assert one.pbo is None
    assert one.windows == ()
    assert one.neighbours is None
    assert one.sets[0].dsr == pytest.approx(one.sets[0].psr)
    results.show_study(found.folder.path, 3)
    assert "set 0: " in capsys.readouterr().out


def test_no_holdout(data: Path, tmp_path: Path, capsys: Any) -> None:
    result = run(data, tmp_path / "out", search={"trials": 3}, validation={"holdout": 0.0})
    found = selected(result)
    assert found.sets[0].oos_sharpe is None
    assert found.sets[0].oos_psr is None
    assert found.oos_sharpe_interval is None
    assert found.holdout is None
    results.show_study(result.folder.path, 3)
    assert "p unknown out-of-sample: no holdout" in capsys.readouterr().out


def test_too_few_bars_for_blocks(tmp_path: Path, capsys: Any) -> None:
    path = write_bars(tmp_path / "bars.parquet", random_bars(65))
    result = run(path, tmp_path / "out", search={"trials": 3})
    found = selected(result)
    assert found.block_bars == ()
    assert found.pbo is None
    assert found.windows == ()
    assert found.neighbours is not None
    assert found.maxima == ()
    assert judge(found).words == LUCK
    results.show_study(result.folder.path, 3)
    assert "too few bars for a test over all sets" in capsys.readouterr().out


@pytest.mark.parametrize(
    "search",
    [
        {"objective": "max_drawdown", "direction": "minimize"},
        {"objective": ["sharpe", "max_drawdown"], "direction": ["maximize", "minimize"]},
        {"objective": "total_return"},
    ],
)
def test_another_objective_is_judged_by_sharpe_ratio_and_says_so(
    search: dict[str, Any], data: Path, tmp_path: Path, capsys: Any
) -> None:
    result = run(data, tmp_path / "out", search=search)
    found = selected(result)
    assert found.sets[0].number == result.best(1)["set"].iloc[0]
    assert found.sets[0].sharpe == pytest.approx(result.best(1)["sharpe"].iloc[0])
    results.show_study(result.folder.path, 3)
    shown = capsys.readouterr().out
    names = search["objective"] if isinstance(search["objective"], list) else [search["objective"]]
    assert (
        f"these figures use the Sharpe ratio; the study's objective was {', '.join(names)}" in shown
    )


def test_a_winner_that_never_trades(data: Path, tmp_path: Path, capsys: Any) -> None:
    tables: dict[str, Any] = {
        "strategy": {"threshold": {"sweep": [0.0, 50.0]}},
        "search": {"objective": "max_drawdown", "direction": "minimize", "trials": 4},
    }
    result = run(data, tmp_path / "out", **tables)
    found = selected(result)
    assert found.sets[0].sharpe is None
    assert found.sets[0].dsr is None
    assert found.minimum_years is None
    assert judge(found).words == LUCK
    results.show_study(result.folder.path, 3)
    assert "deflated Sharpe ratio unknown" in capsys.readouterr().out


def test_a_sampler_that_saw_the_windows_is_said_to_flatter(
    data: Path, known: Known, tmp_path: Path, capsys: Any
) -> None:
    result = run(data, tmp_path / "out", search=STEERED["search"])
    results.show_study(result.folder.path, 3)
    assert "by a search that saw these windows, which flatters" in capsys.readouterr().out
    results.show_study(known.result.folder.path, 3)
    shown = capsys.readouterr().out
    assert "3 windows, choosing among all sets tried; efficiency" in shown
    assert "flatters" not in shown


def test_show_prints_the_verdict_and_its_reasons(known: Known, capsys: Any) -> None:
    results.show_study(known.result.folder.path, 3)
    lines = capsys.readouterr().out.splitlines()
    verdict = judge(known.selection, everything_tried(known.selection))
    place = lines.index(f"set {known.selection.sets[0].number}: {verdict.headline}")
    signs = {1: "+", 0: "~", -1: "-"}
    assert lines[place + 1] == expectation(known.selection)
    for offset, reason in enumerate(verdict.reasons, 2):
        line = lines[place + offset]
        assert line == f"  {signs[reason.weight]} {reason.text}"
    shown = lines[lines.index("the verdict does not rest on:") + 1 :]
    lines = diagnosis(known.selection, verdict.tried)
    assert shown[: len(lines)] == [f"  {line}" for line in lines] and len(lines) == 4


@pytest.mark.parametrize(
    "tables",
    [merged(GRID, {"validation": {"method": "cpcv", "test_blocks": 2}}), STEERED],
    ids=["grid", "tpe"],
)
def test_any_number_of_workers_gives_the_same_bytes(
    tables: dict[str, Any], data: Path, tmp_path: Path
) -> None:
    one, two = (run(data, tmp_path / str(n), workers=n, **tables) for n in (1, 2))
    assert result_hashes(one.folder) == result_hashes(two.folder)
    names = {p.relative_to(one.folder.path) for p in one.folder.path.rglob("*") if p.is_file()}
    assert names == {
        p.relative_to(two.folder.path) for p in two.folder.path.rglob("*") if p.is_file()
    }
    kept = [name for name in names if name.suffix in (".npy", ".parquet")]
    for name in [Path("selection.json"), *kept]:
        assert (one.folder.path / name).read_bytes() == (two.folder.path / name).read_bytes(), name
