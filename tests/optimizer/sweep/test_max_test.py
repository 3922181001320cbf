"""The max-test of a study: its alphas and largest draws are those of every set's returns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kernels import layout
from kernels.inference import draw_multipliers
from optimizer.search.resume import resume_study
from optimizer.search.run import run_study
from optimizer.selection.tried import known_draws
from optimizer.study_file.bars import load_study_bars
from optimizer.study_file.space import Space, build_space
from optimizer.study_file.study import Study
from optimizer.sweep.buy_and_hold import benchmark_returns, lowest_costs
from optimizer.sweep.evaluate import evaluate
from optimizer.sweep.inputs import Inputs, MarketRegime, prepare
from optimizer.sweep.max_test import N_DRAWS, STEPS, larger_draws, no_draws, with_max_test
from optimizer.sweep.rules import study_rules
from optimizer.sweep.single_set import record_equity
from optimizer.sweep.tiles import Tile
from optimizer.types import Bars, FloatArray
from tests.support.studies import random_bars, result_hashes, small_study, write_bars


def hourly(n_bars: int) -> Bars:
    times = np.datetime64("2020-01-01T12:00", "ns") + np.arange(n_bars) * np.timedelta64(6, "h")
    return replace(random_bars(n_bars), timestamps=times, bars_per_year=4 * 365.25)


def prepared(study: Study) -> tuple[Inputs, Space, list[Tile], dict[Any, Any]]:
    space, bars = build_space(study), load_study_bars(study)
    rules = study_rules(study, space, bars)
    inputs = prepare(bars, space, rules, study.validation.holdout, n_blocks=16)
    inputs = with_max_test(inputs, benchmark_returns(inputs, lowest_costs(space, inputs)))
    branch = space.branches[0]
    points = [
        {"momentum_lookback": lookback, "max_exposure": 0.9, "volatility_lookback": 20}
        for lookback in (5, 20, 40)
    ]
    tiles = [Tile.of(branch, branch.lanes(point)) for point in points]
    codes = MarketRegime.neutral(bars.n_bars)
    return inputs, space, tiles, dict.fromkeys(tiles[0].regime_keys()[0], codes)


def returns_of(inputs: Inputs, equity: Any) -> FloatArray:
    """Excess returns in-sample from one close that counts to the next."""
    closes = inputs.rules.closes(inputs.first, inputs.split)
    path = np.concatenate([[inputs.rules.initial_cash], equity[closes - inputs.first]])
    excess: FloatArray = np.diff(path) / path[:-1] - inputs.rates[closes, layout.RISK_FREE]
    return excess


@pytest.mark.parametrize("returns", ["bar", "day"])
def test_alphas_and_draws_are_those_of_every_return(returns: str, tmp_path: Path) -> None:
    bars = random_bars(500) if returns == "bar" else hourly(1600)
    data = write_bars(tmp_path / "bars.parquet", bars)
    study = small_study(data, search={"returns": returns}, account={"risk_free": 0.03})
    inputs, space, tiles, codes = prepared(study)
    maxima = no_draws()
    found = np.concatenate([one.alphas for one in evaluate(inputs, tiles, codes, maxima)])

    held = benchmark_returns(inputs, lowest_costs(space, inputs))
    market = returns_of(inputs, inputs.rules.initial_cash * np.cumprod(1.0 + held))
    n = len(market)
    design = np.column_stack([np.ones(n), market])
    closes = inputs.rules.closes(inputs.first, inputs.split)
    bounds = np.array(inputs.alpha_bounds)
    assert bounds[0] == inputs.first and bounds[-1] == inputs.split
    block = np.searchsorted(bounds[1:], closes, side="right")
    counts = np.bincount(block)
    assert counts.min() >= 20 and len(counts) == len(bounds) - 1 >= 8
    given = np.empty((len(counts), N_DRAWS), np.float32)
    draw_multipliers(inputs.bars.timestamps.astype(np.int64), bounds, given)
    largest, steps = np.full(N_DRAWS, -np.inf), [0] * (len(STEPS) + 1)
    sets = [tile.slice(i, i + 1) for tile in tiles for i in range(tile.n_lanes)]
    for one, (alpha, statistic) in zip(sets, found, strict=True):
        own = returns_of(inputs, record_equity(inputs, one, codes).to_numpy())
        (intercept, slope), (squares,), _, _ = np.linalg.lstsq(design, own, rcond=None)
        error = np.sqrt(squares / (n - 2) * np.linalg.inv(design.T @ design)[0, 0])
        assert alpha == pytest.approx(intercept * inputs.rules.returns_per_year, rel=1e-6)
        assert statistic == pytest.approx(intercept / error, rel=1e-6)
        residuals = own - intercept - slope * market
        sums = np.bincount(block, residuals) / np.sqrt(squares / (n - 2) * n)
        sums /= np.sqrt(1.0 - (counts**2).sum() / n**2)
        if statistic >= -np.sqrt(2.0 * np.log(np.log(n)) * (sums @ sums)):
            largest = np.maximum(largest, sums @ given)
        steps[int((statistic >= np.array(STEPS)).sum())] += 1
    np.testing.assert_allclose(known_draws(maxima), largest, atol=2e-5)
    assert [bool(count) for count in steps] == np.isfinite(maxima).all(axis=1).tolist()


def test_blocks_are_of_nearly_equal_length(tmp_path: Path) -> None:
    data = write_bars(tmp_path / "bars.parquet", random_bars(2100))
    inputs, *_ = prepared(small_study(data))
    bounds = inputs.alpha_bounds
    assert (bounds[0], bounds[-1], len(bounds)) == (inputs.first, inputs.split, 65)
    assert np.ptp(np.diff(bounds)) == 1


def test_few_bars_have_no_max_test(tmp_path: Path) -> None:
    data = write_bars(tmp_path / "bars.parquet", random_bars(200))
    inputs, _, tiles, codes = prepared(small_study(data))
    assert inputs.alpha_bounds == (inputs.split,) and not inputs.benchmark.size
    maxima = no_draws()
    (first, *_) = evaluate(inputs, tiles, codes, maxima)
    assert np.isnan(first.alphas).all() and np.isneginf(maxima).all()


def test_a_resumed_study_has_the_draws_of_an_undisturbed_one(tmp_path: Path) -> None:
    data = write_bars(tmp_path / "bars.parquet", random_bars(300))
    study = small_study(data)
    whole = run_study(study, out=tmp_path / "whole", workers=1).folder
    again = run_study(study, out=tmp_path / "again", workers=2).folder
    again.batch_path(1).unlink()
    resume_study(again.path, workers=1)
    assert result_hashes(again) == result_hashes(whole)
    assert again.maxima().tobytes() == whole.maxima().tobytes()
    assert len(known_draws(whole.maxima())) == N_DRAWS
    frame = whole.results(["alpha", "alpha_t", "sharpe"])
    assert frame["alpha_t"].notna().sum() == frame["sharpe"].notna().sum() > 0


def test_draws_of_another_number_are_left_out() -> None:
    one, two = np.array([1, 5], np.float32), np.array([3, 2], np.float32)
    none = np.zeros(0, np.float32)
    assert larger_draws([none, one, np.ones(3, np.float32), two]).tolist() == [3, 5]
    assert larger_draws([none]).tolist() == larger_draws([]).tolist() == []
