"""Do returns still fit a Sharpe ratio? A test that may be read after every return.

The Sharpe ratio of normal returns is all that their t statistic depends on. So the ratio of its densities
under two Sharpe ratios is a likelihood ratio without a nuisance parameter, and a martingale of mean 1 in
the number of returns if the ratio below the line is true: the sequential t-test (Rushton 1950, "On a
sequential t-test", Biometrika 37). By Ville's inequality it ever reaches 1 / alpha with probability alpha
at most, however often one looks, and so does a mean of several (Robbins 1970, "Statistical methods
related to the law of the iterated logarithm", Annals of Mathematical Statistics 41). Pérez-Ortiz, Lardy,
de Heide and Grünwald 2024, "E-statistics, group invariance and anytime-valid testing", Annals of
Statistics 52, show that it is the fastest in the worst case.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from optimizer.types import FloatArray

SHORTFALLS = (0.5, 1.0, 2.0, 4.0)
"""By how much a year the Sharpe ratios of the alternatives are below the expected one; equal weights."""

ALARM = 0.05
"""Default false-alarm rate over the whole life of a set."""

_POINTS, _POINTS_OF_FEW, _FEW = 81, 401, 20
"""Points of the sum, and those for fewer than ``_FEW`` returns, whose integrand does not vanish at 0."""

_WIDTHS, _CHUNK = 10.0, 20_000


@dataclass(frozen=True, eq=False)
class SequentialTest:
    """Whether returns still fit a Sharpe ratio.

    Attributes:
        expected: the Sharpe ratio a year that is tested.
        rate: the false-alarm rate.
        evidence: the mixture of likelihood ratios after each return, shape (n_returns,); 1 is none.
        alarm: number of returns after which it first reached ``1 / rate``; None if it never has.
        p: the anytime p-value, 1 over the most evidence so far, 1 at most.
        largest: the largest Sharpe ratio a year that the returns have never contradicted at this rate.
        years_to_alarm: years to an alarm, on average and roughly, if the true ratio were 0; None where
            the expected one is not above 0.
    """

    expected: float
    rate: float
    evidence: FloatArray
    alarm: int | None
    p: float
    largest: float
    years_to_alarm: float | None


def fits_sharpe(
    returns: FloatArray, expected: float, per_year: float, rate: float = ALARM
) -> SequentialTest:
    """Test whether the Sharpe ratio of returns is at least what was to be expected.

    It holds for independent normal returns of any volatility; how far from them it still holds is in the
    repository's ``benchmarks/README.md``.

    >>> import numpy as np
    >>> returns = 0.01 * np.random.default_rng(1).standard_normal(1000)
    >>> fits_sharpe(returns, expected=3.0, per_year=252.0).alarm is not None
    True

    Args:
        returns: returns less the risk-free rate, shape (n_returns,), in order of time.
        expected: Sharpe ratio a year.
        per_year: number of returns in a year.
        rate: the false-alarm rate, above 0 and below 1.

    Returns:
        The evidence after each return, and whether it has ever raised the alarm.
    """
    evidence = np.exp(np.minimum(log_evidence(returns, expected, per_year), 700.0))
    most = float(evidence.max(initial=1.0))
    reached = np.flatnonzero(evidence >= 1.0 / rate)
    return SequentialTest(
        expected=expected,
        rate=rate,
        evidence=evidence,
        alarm=int(reached[0]) + 1 if len(reached) else None,
        p=min(1.0, 1.0 / most),
        largest=_largest(returns, per_year, rate),
        years_to_alarm=_years_to_alarm(expected, rate),
    )


def log_evidence(returns: FloatArray, expected: float, per_year: float) -> FloatArray:
    """The logarithm of the evidence that a Sharpe ratio is below what was to be expected.

    With ``I(n, a)`` the integral of ``v^(n-1) exp(a v - v^2 / 2)`` over ``v > 0``, S and Q the sums of
    the first n returns and of their squares, the likelihood ratio of d1 and d0 per return is
    ``exp(n (d0^2 - d1^2) / 2) I(n, d1 S / sqrt(Q)) / I(n, d0 S / sqrt(Q))``.

    Args:
        returns: returns less the risk-free rate, shape (n_returns,), in order of time.
        expected: Sharpe ratio a year.
        per_year: number of returns in a year.

    Returns:
        Shape (n_returns,); 0 where there is none.
    """
    sums, squares = np.cumsum(returns), np.cumsum(returns * returns)
    n = np.arange(1.0, len(returns) + 1.0)
    scaled = np.divide(sums, np.sqrt(squares), out=np.zeros_like(sums), where=squares > 0.0)
    d0 = expected / math.sqrt(per_year)
    base = _log_integral(n, d0 * scaled) - n * d0 * d0 / 2.0
    ratios = []
    for shortfall in SHORTFALLS:
        d1 = (expected - shortfall) / math.sqrt(per_year)
        ratios.append(_log_integral(n, d1 * scaled) - n * d1 * d1 / 2.0 - base)
    found: FloatArray = np.logaddexp.reduce(ratios, axis=0) - math.log(len(SHORTFALLS))
    return np.where(squares > 0.0, found, 0.0)


def _log_integral(n: FloatArray, a: FloatArray) -> FloatArray:
    """The logarithm of ``I(n, a)`` of ``log_evidence``, by a sum around the integrand's peak."""
    found = np.empty_like(n)
    for start in range(0, len(n), _CHUNK):
        part = slice(start, start + _CHUNK)
        few = n[part] < _FEW
        for chosen, points in ((few, _POINTS_OF_FEW), (~few, _POINTS)):
            found[part][chosen] = _summed(n[part][chosen], a[part][chosen], points)
    return found


def _summed(n: FloatArray, a: FloatArray, n_points: int) -> FloatArray:
    """Simpson's rule for ``I(n, a)``, of which the integrand is smooth, with one peak."""
    peak = (a + np.sqrt(a * a + 4.0 * (n - 1.0))) / 2.0
    curvature = 1.0 + np.divide(n - 1.0, peak * peak, out=np.zeros_like(n), where=peak > 0.0)
    low = np.maximum(peak - _WIDTHS / np.sqrt(curvature), 0.0)
    high = np.maximum(peak, 0.0) + _WIDTHS
    step = (high - low) / (n_points - 1)
    weights = np.ones(n_points)
    weights[1:-1:2], weights[2:-1:2] = 4.0, 2.0
    points = low[:, np.newaxis] + step[:, np.newaxis] * np.arange(n_points)
    exponents = a[:, np.newaxis] * points - points * points / 2.0
    above = n[:, np.newaxis] - 1.0
    with np.errstate(divide="ignore", invalid="ignore"):
        exponents += np.where(above > 0.0, above * np.log(points), 0.0)
    top = exponents.max(axis=1, initial=-np.inf)
    total = (weights * np.exp(exponents - top[:, np.newaxis])).sum(axis=1)
    found: FloatArray = top + np.log(total * step / 3.0)
    return found


def _largest(returns: FloatArray, per_year: float, rate: float) -> float:
    """The largest Sharpe ratio a year that is never contradicted, by bisection; inf if none is."""
    bound = math.log(1.0 / rate)

    def contradicted(ratio: float) -> bool:
        return bool(log_evidence(returns, ratio, per_year).max(initial=0.0) >= bound)

    low, high = -50.0, 50.0
    if not contradicted(high):
        return math.inf
    while high - low > 0.01:
        middle = (low + high) / 2.0
        low, high = (low, middle) if contradicted(middle) else (middle, high)
    return low


def _years_to_alarm(expected: float, rate: float) -> float | None:
    """The evidence that an alarm takes over what a year brings on average (Wald 1945)."""
    if expected <= 0.0:
        return None
    # Of the alternative that explains a ratio of 0 best: the mean logarithm of its ratio a year.
    growth = max((expected**2 - (expected - one) ** 2) / 2.0 for one in SHORTFALLS)
    return math.log(len(SHORTFALLS) / rate) / growth if growth > 0.0 else None
