"""What the regimes of a classifier are worth: what the market earns after each."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import fdtrc

from kernels import layout
from kernels.codes import BEAR, BULL, NEUTRAL
from optimizer.market.regimes import first_fit, market_returns
from optimizer.selection.p_values import FEWEST_RETURNS, LEVEL, SMALLEST, long_run_covariance
from optimizer.selection.record import RegimeReturns, RegimeValue
from optimizer.sweep.inputs import NO_REGIME, Inputs, RegimeCodes, RegimeKey
from optimizer.text import counted, probability
from optimizer.types import FloatArray

REGIMES = {BEAR: "bear", NEUTRAL: "neutral", BULL: "bull"}


def regime_value(
    inputs: Inputs, key: RegimeKey, codes: RegimeCodes, start: int, stop: int
) -> RegimeValue | None:
    """Mean and Sharpe ratio of the market after the bars of each regime, and whether they differ.

    The regime of a bar is known at its close, and is judged by the return of the bar after it. Returns
    are those of an index of all symbols in equal weights, rebalanced at each bar, less the risk-free
    rate. Bars before the first fit have no regime.

    Args:
        inputs: the prepared inputs of the study.
        key: the regime model.
        codes: (n_bars,), its regime of each bar.
        start, stop: the bars [start, stop) whose returns count.

    Returns:
        None without a classifier, or where no bar before these has a regime.
    """
    if key == NO_REGIME:
        return None
    classifier, market, parameters = key
    bars, yearly = inputs.bars, inputs.bars.bars_per_year
    start = max(start, first_fit(bars, market, classifier, dict(parameters)) + 1, 1)
    if start >= stop:
        return None
    returns = np.expm1(market_returns(bars)[start:stop])
    returns -= inputs.rules.rates[start:stop, layout.RISK_FREE]
    known = codes[start - 1 : stop - 1]
    rows = []
    for code, name in REGIMES.items():
        own = returns[known == code]
        if len(own):
            deviation = float(own.std(ddof=1)) if len(own) > 1 else 0.0
            mean = float(own.mean())
            sharpe = mean / deviation * math.sqrt(yearly) if deviation > 0.0 else None
            rows.append(RegimeReturns(name, len(own), mean * yearly, sharpe))
    return RegimeValue(str(classifier), tuple(rows), p_of_equal_means(returns, known))


def p_of_equal_means(returns: FloatArray, regimes: RegimeCodes) -> float | None:
    """Probability of means that differ as much between regimes if all have the same mean.

    The Wald statistic W of all differences to the mean of the first regime. Their covariance allows for
    autocorrelation and changing variance, see ``long_run_covariance``. With its B degrees of freedom and
    q differences, W (B - q + 1) / (B q) has an F distribution with q and B - q + 1 of them.

    Args:
        returns: (n,).
        regimes: (n,), the regime that each return is judged by. One with fewer than ``FEWEST_RETURNS``
            returns is not compared.

    Returns:
        None where fewer than two regimes can be compared, or none of their returns varies.
    """
    counts = {code: int((regimes == code).sum()) for code in REGIMES}
    compared = [code for code, count in counts.items() if count >= FEWEST_RETURNS]
    n_differences = len(compared) - 1
    if n_differences < 1:
        return None
    n = len(returns)
    means = np.array([returns[regimes == code].mean() for code in compared])
    # The part of each return in the mean of its regime.
    parts = np.stack(
        [
            np.where(regimes == code, (returns - mean) * (n / counts[code]), 0.0)
            for code, mean in zip(compared, means.tolist(), strict=True)
        ],
        axis=1,
    )
    covariance, degrees = long_run_covariance(parts[:, 1:] - parts[:, :1])
    if degrees <= n_differences or np.linalg.matrix_rank(covariance) < n_differences:
        return None
    differences = means[1:] - means[0]
    wald = n * float(differences @ np.linalg.solve(covariance, differences))
    rest = degrees - n_differences + 1
    p = float(fdtrc(n_differences, rest, wald * rest / (degrees * n_differences)))
    return min(max(p, SMALLEST), 1.0)


def regime_remark(value: RegimeValue) -> str:
    """What the regimes of a classifier tell of the market, in one sentence.

    Args:
        value: that of the bars in-sample.
    """
    figures = ", ".join(
        f"{one.mean:.1%} after {one.regime} bars"
        f" (Sharpe ratio {'-' if one.sharpe is None else f'{one.sharpe:.2f}'},"
        f" {counted(one.n_returns, 'return')})"
        for one in reversed(value.regimes)
    )
    said = f"in-sample the market earned a year {figures}"
    if value.p is None:
        return f"{said}; too few bars to compare the regimes of {value.classifier}"
    verdict = "differ" if value.p <= LEVEL else "show no difference"
    return f"{said}; the regimes of {value.classifier} {verdict} in mean return, p {probability(value.p)}"
