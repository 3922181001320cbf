"""Which sets survive, and which contend with the winner, against slow tests and arch."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from arch.bootstrap import SPA
from arch.bootstrap import StepM as StepMOfArch

from kernels.inference import draw_multipliers
from optimizer.selection.p_values import family_wise
from optimizer.selection.survivors import (
    contending_sets,
    stepwise_critical_value,
    surviving_sets,
)
from optimizer.selection.tried import Tried, known_draws
from optimizer.sweep.max_test import N_DRAWS, STEPS, no_draws, score
from optimizer.types import FloatArray, IntArray
from tests.optimizer.selection.test_overfitting import closes, momentum_returns, simulated
from tests.support.selections import stored_moments

NO_OTHERS = np.zeros(0, np.float32)
N_BLOCKS = 64


def data_set(kind: str) -> tuple[FloatArray, FloatArray]:
    """Returns of many sets, (n_bars, n_sets), and of a benchmark."""
    if kind == "real":
        returns = momentum_returns("SPY", "GLD", "AAPL", "GE")
        market = np.asarray(closes()["SPY"].pct_change(), np.float64)
        return returns, market[-len(returns) :]
    random = np.random.default_rng(41)
    n_bars, n_sets = 1920, 40
    market = simulated("garch", n_bars, 42) - 0.0005
    own = np.column_stack([simulated(kind, n_bars, 43 + i) - 0.0005 for i in range(n_sets)])
    shared = own[:, :4] @ random.normal(0.0, 0.7, (4, n_sets))
    returns = 0.5 * market[:, np.newaxis] + 0.6 * own + shared
    # Alphas of a few sets, from clear ones down to doubtful ones.
    returns[:, ::5] += returns[:, ::5].std(axis=0) * np.linspace(0.16, 0.04, 8)
    return returns, market


def streamed(returns: FloatArray, market: FloatArray) -> tuple[FloatArray, Any]:
    """Statistics and largest draws as a study has them, of some sets at a time."""
    n_bars = len(returns)
    bounds = np.arange(N_BLOCKS + 1) * n_bars // N_BLOCKS
    multipliers = np.empty((N_BLOCKS, N_DRAWS), np.float32)
    draw_multipliers(np.arange(n_bars) * 86_400 * 10**9, bounds, multipliers)
    inputs: Any = SimpleNamespace(
        multipliers=multipliers,
        alpha_bounds=tuple(bounds.tolist()),
        benchmark=market,
        rules=SimpleNamespace(n_returns=lambda a, b: b - a, returns_per_year=252.0),
    )
    maxima, alphas = no_draws(), []
    for part in np.array_split(returns, 5, axis=1):
        sums = np.add.reduceat(part, bounds[:-1], axis=0)
        totals, squares, products = part.sum(axis=0), (part**2).sum(axis=0), part.T @ market
        alphas.append(score(inputs, sums, totals, squares, products, maxima))
    return np.concatenate(alphas)[:, 1], maxima


def slow_draws(returns: FloatArray, market: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Statistics, and (n_draws, n_sets) draws by multipliers of their own, from every return."""
    n_bars, n_sets = returns.shape
    design = np.column_stack([np.ones(n_bars), market])
    found, statistics = np.empty((4000, n_sets)), np.empty(n_sets)
    gaussian = np.random.default_rng(44).standard_normal((4000, N_BLOCKS))
    of_bar = gaussian[:, np.arange(n_bars) * N_BLOCKS // n_bars]
    for i in range(n_sets):
        beta = np.linalg.lstsq(design, returns[:, i], rcond=None)[0]
        residuals = returns[:, i] - design @ beta
        error = np.sqrt(residuals @ residuals / (n_bars - 2))
        inverse = np.linalg.inv(design.T @ design)[0, 0]
        statistics[i] = beta[0] / (error * np.sqrt(inverse))
        found[:, i] = of_bar @ residuals / (error * np.sqrt(n_bars))
    return statistics, found


def slow_survivors(statistics: FloatArray, draws: FloatArray, level: float) -> set[int]:
    """Romano and Wolf's steps as they wrote them."""
    left = set(range(len(statistics)))
    while left:
        critical = np.quantile(draws[:, sorted(left)].max(axis=1), 1.0 - level)
        out = {i for i in left if statistics[i] > critical}
        if not out:
            break
        left -= out
    return set(range(len(statistics))) - left


@pytest.mark.parametrize("kind", ["real", "ar", "garch"])
def test_p_values_and_survivors_are_those_of_a_slow_test(kind: str) -> None:
    returns, market = data_set(kind)
    statistics, maxima = streamed(returns, market)
    expected, draws = slow_draws(returns, market)
    np.testing.assert_allclose(statistics, expected, rtol=1e-8)
    whole = known_draws(maxima)
    for one in np.sort(statistics)[-6:]:
        p = float((draws.max(axis=1) >= one).mean())
        # Three standard errors of both estimates, and what 64 blocks differ from bars.
        tolerance = 3.0 * np.sqrt(p * (1.0 - p) * (1 / 1000 + 1 / 4000)) + 0.006
        assert family_wise(float(one), whole) == pytest.approx(p, abs=tolerance)
    critical = stepwise_critical_value(maxima, NO_OTHERS, 0.05)
    found = set(np.flatnonzero(statistics > critical).tolist())
    certain, possible = (slow_survivors(statistics, draws, level) for level in (0.035, 0.07))
    assert certain <= found <= possible
    if kind != "real":
        assert 2 <= len(found) < 20


@pytest.mark.parametrize("kind", ["real", "ar", "garch"])
def test_p_values_and_survivors_are_those_of_arch(kind: str) -> None:
    returns, market = data_set(kind)
    statistics, maxima = streamed(returns, market)
    residual = returns - np.outer(
        market, [np.cov(r, market)[0, 1] / market.var(ddof=1) for r in returns.T]
    )
    losses = -residual / residual.std(axis=0)  # its SPA and StepM do not studentize
    length = len(returns) // N_BLOCKS
    spa = SPA(np.zeros(len(losses)), losses, block_size=length, reps=2000, seed=7)
    spa.compute()
    p = family_wise(float(statistics.max()), known_draws(maxima))
    assert p == pytest.approx(float(spa.pvalues["consistent"]), abs=0.03)

    def of_arch(size: float) -> set[int]:
        names = [str(i) for i in range(losses.shape[1])]
        stepped = StepMOfArch(
            pd.Series(np.zeros(len(losses))), pd.DataFrame(losses, columns=names), size,
            block_size=length, reps=2000, seed=8,
        )  # fmt: skip
        stepped.compute()
        return {int(str(name)) for name in stepped.superior_models}

    critical = stepwise_critical_value(maxima, NO_OTHERS, 0.05)
    found = set(np.flatnonzero(statistics > critical).tolist())
    assert of_arch(0.02) <= found <= of_arch(0.12)


def test_further_steps_find_more_and_other_studies_leave_fewer() -> None:
    maxima = no_draws()
    random = np.random.default_rng(45)
    maxima[0] = random.normal(0.0, 1.0, N_DRAWS)
    maxima[6] = random.normal(6.0, 1.0, N_DRAWS)  # of sets that survive at once
    one_step = float(np.sort(known_draws(maxima))[::-1][49])
    critical = stepwise_critical_value(maxima, NO_OTHERS, 0.05)
    # Above 5 there are sets that are not rejected by the first step, whose value is beyond 5.
    assert one_step > 5.0 and critical == one_step
    maxima[6] = -np.inf
    maxima[2] = random.normal(2.0, 0.4, N_DRAWS)
    first = float(np.sort(known_draws(maxima))[::-1][49])
    assert STEPS[1] < first
    maxima[4] = random.normal(2.2, 0.4, N_DRAWS)  # their statistics are from 3.5 to 4
    assert float(np.sort(known_draws(maxima))[::-1][49]) > first
    critical = stepwise_critical_value(maxima, NO_OTHERS, 0.05)
    assert critical == pytest.approx(first)
    others = random.normal(3.0, 0.4, N_DRAWS).astype(np.float32)
    assert stepwise_critical_value(maxima, others, 0.05) > critical
    assert stepwise_critical_value(no_draws(), NO_OTHERS, 0.05) == -np.inf


class Folder:
    """What survivors are read from."""

    def __init__(self, moments: FloatArray, feasible: Any, alpha_t: Any, maxima: Any) -> None:
        self.path = Path("study")
        self._parts = [slice(0, 7), slice(7, None)]
        self._moments, self._feasible, self._draws = moments, feasible, maxima
        numbers = np.arange(len(feasible)) + 100
        self._frame = pd.DataFrame({"set": numbers, "feasible": feasible, "alpha_t": alpha_t})

    def moments(self) -> Any:
        return ((self._feasible[part], self._moments[part]) for part in self._parts)

    def results(self, columns: Any) -> Any:
        return self._frame[columns]

    def column(self, name: str) -> Any:
        return self._frame[name].to_numpy()

    def maxima(self) -> Any:
        return self._draws


def folder_of(returns: FloatArray, market: FloatArray) -> tuple[Any, FloatArray, Any]:
    statistics, maxima = streamed(returns, market)
    feasible = np.ones(returns.shape[1], np.bool_)
    feasible[3] = False
    moments, counts = stored_moments(returns, 16)
    return Folder(moments, feasible, statistics, maxima), counts, statistics


def test_survivors_are_feasible_and_the_largest_come_first() -> None:
    returns, market = data_set("ar")
    returns[:, 3] += 0.01  # far beyond luck, but not feasible
    folder, _, statistics = folder_of(returns, market)
    tried = Tried(40, 1, known_draws(folder.maxima()))
    found = surviving_sets(folder, tried) - 100
    assert 3 not in found and len(found) >= 2
    assert (np.diff(statistics[found]) <= 0.0).all()
    nothing = Tried(40, 1, NO_OTHERS)
    assert not len(surviving_sets(folder, nothing))


def contenders_of(folder: Any, winner: int, counts: FloatArray, seed: int) -> IntArray:
    """The contenders of a study with this winner and these returns per block."""
    selection: Any = SimpleNamespace(
        sets=(SimpleNamespace(number=winner),), block_returns=tuple(counts.tolist())
    )
    return contending_sets(folder, selection, seed)


def slow_contenders(returns: FloatArray, n_blocks: int) -> IntArray:
    """Sets that may be best, each against all others at once, from every return and other draws."""
    n_bars, n_sets = returns.shape
    scaled = returns / returns.std(axis=0, ddof=1)
    gaussian = np.random.default_rng(46).standard_normal((4000, n_blocks))
    block = np.arange(n_bars) * n_blocks // n_bars
    totals = scaled.sum(axis=0)
    draws = np.empty((4000, n_sets))
    for i in range(n_sets):
        sums = np.bincount(block, scaled[:, i] - scaled[:, i].mean())
        draws[:, i] = gaussian @ sums / np.sqrt(1.0 - 1.0 / n_blocks)
    kept = []
    for i in range(n_sets):
        differences = (draws - draws[:, i : i + 1]).max(axis=1)
        if (differences >= totals.max() - totals[i]).mean() > 0.05:
            kept.append(i)
    return np.array(kept)


@pytest.mark.parametrize("kind", ["real", "ar", "garch"])
def test_the_contenders_are_those_of_every_return(kind: str) -> None:
    returns, market = data_set(kind)
    returns = returns[: len(returns) // 16 * 16].copy()
    market = market[: len(returns)]
    returns[:, 3] -= 0.01  # not feasible, and the worst by far
    folder, counts, _ = folder_of(returns, market)
    winner = int((returns.mean(axis=0) / returns.std(axis=0)).argmax())
    found = contenders_of(folder, winner + 100, counts, seed=5) - 100
    expected = set(slow_contenders(np.delete(returns, 3, axis=1), 16).tolist())
    expected = {one + (one >= 3) for one in expected}
    assert winner in found and 3 not in found
    assert len(expected ^ set(found.tolist())) <= 0.1 * returns.shape[1]
    assert 1 < len(found) < returns.shape[1]


def test_contenders_hold_copies_of_the_winner_and_drop_what_is_far_worse() -> None:
    random = np.random.default_rng(47)
    returns = random.normal(0.0, 0.01, (1600, 12))
    returns[:, 0] += 0.002
    returns[:, 5] = 0.5 * returns[:, 0]  # the same trades at half the size
    returns[:, 8] = 0.0  # never trades
    folder, counts, _ = folder_of(returns, random.normal(0.0, 0.01, 1600))
    found = set((contenders_of(folder, 100, counts, seed=5) - 100).tolist())
    assert {0, 5} <= found and 8 not in found and len(found) < 5
    assert contenders_of(folder, 100, counts[:2], seed=5).tolist() == [100]
    again = contenders_of(folder, 100, counts, seed=5) - 100
    assert set(again.tolist()) == found
    # A winner by something else than the Sharpe ratio contends too.
    assert 108 in contenders_of(folder, 108, counts, seed=5)


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_the_truly_best_set_is_rarely_left_out(correlation: float) -> None:
    """300 sets, equally good, of which the first is what the others have in common."""
    left_out = 0
    for seed in range(120):
        random = np.random.default_rng([48, seed])
        own = random.normal(0.0, 1.0, (480, 300))
        returns = np.sqrt(correlation) * own[:, :1] + np.sqrt(1.0 - correlation) * own
        returns[:, 0] = own[:, 0]
        moments, counts = stored_moments(0.01 * returns, 16)
        folder: Any = Folder(moments, np.ones(300, np.bool_), np.zeros(300), no_draws())
        winner = int((returns.mean(axis=0) / returns.std(axis=0)).argmax())
        left_out += 100 not in contenders_of(folder, winner + 100, counts, seed=seed)
    assert left_out <= 12
