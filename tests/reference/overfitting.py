"""Overfitting statistics in plain Python: loops over bars, sets, splits and resamples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations
from math import ceil, e, fsum, log, log10, nan, sqrt
from statistics import NormalDist, fmean, linear_regression, stdev

import numpy as np

from optimizer.types import FloatArray

NORMAL = NormalDist()
EULER = 0.57721566490153286


def moments(returns: Sequence[float]) -> tuple[float, float, float, float]:
    """Mean, Sharpe ratio (ddof 1), skew and Pearson kurtosis (ddof 0)."""
    mean = fmean(returns)
    second, third, fourth = (fmean([(r - mean) ** power for r in returns]) for power in (2, 3, 4))
    return mean, mean / stdev(returns), third / second**1.5, fourth / second**2


def probabilistic_sharpe(
    sharpe: float, n_obs: float, skew: float, kurtosis: float, benchmark: float
) -> float:
    error = sqrt((1 - skew * sharpe + (kurtosis - 1) / 4 * sharpe**2) / (n_obs - 1))
    return NORMAL.cdf((sharpe - benchmark) / error)


def expected_maximum(variance: float, n_trials: float) -> float:
    first = NORMAL.inv_cdf(1 - 1 / n_trials)
    second = NORMAL.inv_cdf(1 - 1 / (n_trials * e))
    return sqrt(variance) * ((1 - EULER) * first + EULER * second)


def exact_expected_maximum(n_trials: int) -> float:
    """Mean of the largest of independent standard normal variables, by the integral over it."""
    step = 1e-3
    grid = [-8.0 + step * i for i in range(16_000)]
    density = [n_trials * NORMAL.cdf(x) ** (n_trials - 1) * NORMAL.pdf(x) for x in grid]
    return fsum(x * d * step for x, d in zip(grid, density, strict=True))


def sharpe_of(returns: FloatArray) -> float:
    """Sharpe ratio of a series, 0 if it does not vary."""
    if (returns == returns[0]).all():
        return 0.0
    return float(np.mean(returns) / np.std(returns, ddof=1))


class Overfitting:
    """Combinatorially symmetric cross-validation on the series themselves."""

    def __init__(self, returns: FloatArray, n_blocks: int) -> None:
        n_bars, n_sets = returns.shape
        returns = returns[n_bars % n_blocks :]
        blocks = np.split(returns, n_blocks)
        self.logits, self.winners, self.inside, self.outside = [], [], [], []
        for chosen in combinations(range(n_blocks), n_blocks // 2):
            inside = np.concatenate([blocks[b] for b in chosen])
            outside = np.concatenate([blocks[b] for b in range(n_blocks) if b not in chosen])
            ratios_in = [sharpe_of(inside[:, s]) for s in range(n_sets)]
            ratios_out = [sharpe_of(outside[:, s]) for s in range(n_sets)]
            winner = ratios_in.index(max(ratios_in))
            below = sum(ratio < ratios_out[winner] for ratio in ratios_out)
            equal = sum(ratio == ratios_out[winner] for ratio in ratios_out)
            share = (below + (equal + 1) / 2) / (n_sets + 1)
            self.logits.append(log(share / (1 - share)))
            self.winners.append(winner)
            self.inside.append(ratios_in[winner])
            self.outside.append(ratios_out[winner])
        self.probability = fmean([logit <= 0 for logit in self.logits])
        self.loss = fmean([ratio < 0 for ratio in self.outside])
        self.slope, self.intercept = nan, nan
        if len(set(self.inside)) > 1:
            self.slope, self.intercept = linear_regression(self.inside, self.outside)


def resample_rows(n_obs: int, block_length: float, n_resamples: int, seed: int) -> list[list[int]]:
    """Rows of the stationary bootstrap, one draw after the other."""
    random = np.random.default_rng([seed, 1994])
    resamples = []
    for _ in range(n_resamples):
        starts = random.integers(n_obs, size=n_obs)
        uniform = random.random(n_obs)
        rows: list[int] = []
        for place in range(n_obs):
            if place == 0 or uniform[place] < 1 / block_length:
                rows.append(int(starts[place]))
            else:
                rows.append((rows[-1] + 1) % n_obs)
        resamples.append(rows)
    return resamples


def block_length(values: Sequence[float]) -> float:
    """Politis and White's length for the stationary bootstrap, with Patton's correction, as written."""
    n, mean = len(values), fmean(values)
    d = [value - mean for value in values]

    def autocovariance(lag: int) -> float:
        return fsum(d[t] * d[t + abs(lag)] for t in range(n - abs(lag))) / n

    variance, bound = autocovariance(0), 2 * sqrt(log10(n) / n)
    together = max(5, ceil(sqrt(log10(n))))
    m = 1
    while any(abs(autocovariance(m + k) / variance) >= bound for k in range(1, together + 1)):
        m += 1
    width = min(2 * m, ceil(sqrt(n)) + together)

    def window(lag: int) -> float:
        share = abs(lag) / width
        return 1.0 if share <= 0.5 else 2 * (1 - share)

    lags = range(-width, width + 1)
    slope = fsum(window(k) * abs(k) * autocovariance(k) for k in lags)
    spectrum = fsum(window(k) * autocovariance(k) for k in lags)
    best = (2 * slope**2 / (2 * spectrum**2)) ** (1 / 3) * n ** (1 / 3)
    return float(max(1.0, min(best, ceil(min(3 * sqrt(n), n / 3)))))


def max_drawdown(returns: Iterable[float]) -> float:
    equity, peak, deepest = 1.0, 1.0, 0.0
    for r in returns:
        equity *= 1.0 + r
        peak = max(peak, equity)
        deepest = max(deepest, 1.0 - equity / peak)
    return deepest
