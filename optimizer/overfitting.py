"""How likely is it that the best of many parameter sets was lucky? Plain functions.

Conventions:

- Sharpe ratios are per period (per bar), not annualized, risk-free rate 0: mean over standard
  deviation with ddof 1. Multiply by the square root of the bars per year to annualize.
- Skew and kurtosis are those of the sample, with ddof 0: third and fourth central moment over the
  1.5th and 2nd power of the second. Kurtosis is Pearson's: 3 for a normal distribution.
- Probabilities are in 0..1. What is undefined (no variance, say) is NaN in, NaN out; a parameter set
  that does not vary counts as a Sharpe ratio of 0 where sets are ranked or resampled.
- A bad argument is a ValueError that names it and its value.

Sources:

- Bailey, López de Prado 2012, "The Sharpe Ratio Efficient Frontier", Journal of Risk 15(2), 3-44.
- Bailey, López de Prado 2014, "The Deflated Sharpe Ratio", Journal of Portfolio Management 40(5),
  94-107.
- Bailey, Borwein, López de Prado, Zhu 2014, "Pseudo-Mathematics and Financial Charlatanism", Notices
  of the AMS 61(5), 458-471.
- Bailey, Borwein, López de Prado, Zhu 2017, "The Probability of Backtest Overfitting", Journal of
  Computational Finance 20(4), 39-69.
- Galwey 2009, "A new measure of the effective number of tests", Genetic Epidemiology 33(7), 559-568.
- Hansen 2005, "A Test for Superior Predictive Ability", Journal of Business & Economic Statistics
  23(4), 365-380.
- Politis, Romano 1994, "The Stationary Bootstrap", Journal of the American Statistical Association
  89(428), 1303-1313.
- Romano, Wolf 2005, "Stepwise Multiple Testing as Formalized Data Snooping", Econometrica 73(4),
  1237-1282; 2016, "Efficient computation of adjusted p-values for resampling-based stepdown multiple
  testing", Statistics & Probability Letters 113, 38-40.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from scipy.fft import irfft, rfft
from scipy.special import ndtr, ndtri

from kernels.metrics import FLAT
from kernels.overfitting import rank_out_of_sample, select_in_sample
from optimizer.catalogue import MAX_BLOCKS
from optimizer.types import FloatArray, IntArray

Number = TypeVar("Number", float, FloatArray)
"""One number, or one for each of several parameter sets."""

_RESAMPLES = 1994
"""Sets the stream of the resamples apart: bars simulated with the same seed must not be tied to it."""

_SPLITS = 2017
"""The same for the draw of splits."""

_VALUES_PER_BATCH = 2**22
_SETS_PER_CHUNK = 512


@dataclass(frozen=True, eq=False)
class Moments:
    """Moments of returns per period.

    Attributes:
        n_obs: number of returns.
        mean: arithmetic mean.
        sharpe: mean over standard deviation (ddof 1), per period.
        skew: of the sample (ddof 0).
        kurtosis: Pearson's, of the sample (ddof 0).

    The ratios are NaN where the returns do not vary.
    """

    n_obs: float
    mean: float
    sharpe: float
    skew: float
    kurtosis: float


def moments_of(returns: npt.ArrayLike) -> Moments:
    """Moments of one series of returns, (n_obs,), from the deviations from its mean.

    Raises:
        ValueError: fewer than two returns, or one that is not finite.
    """
    values = _returns(returns, 1)
    mean = float(values.mean())
    deviations = values - mean
    second = float(np.mean(deviations**2))
    if second <= FLAT * float(np.mean(values**2)):
        return Moments(float(len(values)), mean, np.nan, np.nan, np.nan)
    return Moments(
        n_obs=float(len(values)),
        mean=mean,
        sharpe=mean / float(np.sqrt(second * len(values) / (len(values) - 1))),
        skew=float(np.mean(deviations**3)) / second**1.5,
        kurtosis=float(np.mean(deviations**4)) / second**2,
    )


def probabilistic_sharpe_ratio(
    sharpe: Number,
    n_obs: float | FloatArray,
    skew: Number,
    kurtosis: Number,
    benchmark_sharpe: float | FloatArray = 0.0,
) -> Number:
    """Probability that the true Sharpe ratio is above a benchmark (Bailey, López de Prado 2012).

    PSR(b) = Phi((SR - b) sqrt(n - 1) / sqrt(1 - skew SR + (kurtosis - 1) / 4 SR^2)), with Phi the
    standard normal distribution: the standard error of a Sharpe ratio of independent returns that
    need not be normal.

    Twenty-four months with a monthly Sharpe ratio of 0.458 (their section 3): with that skew and
    kurtosis less certain than normal returns would be.

    >>> round(probabilistic_sharpe_ratio(0.458, 24, skew=-2.448, kurtosis=10.164), 3)
    0.913
    >>> round(probabilistic_sharpe_ratio(0.458, 24, skew=0.0, kurtosis=3.0), 3)
    0.982

    Args:
        sharpe: estimated Sharpe ratio, per period.
        n_obs: number of returns, >= 2.
        skew: of the returns.
        kurtosis: Pearson's, of the returns; at least 1 + skew^2, as of any distribution.
        benchmark_sharpe: to be beaten, per period.

    Raises:
        ValueError: ``n_obs`` or ``kurtosis`` is too small.
    """
    n = np.asarray(n_obs, np.float64)
    _check("n_obs", n, n >= 2.0, "at least 2")
    error = np.sqrt(_variance_factor(sharpe, skew, kurtosis) / (n - 1.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        probability: Number = _number(ndtr((np.asarray(sharpe) - benchmark_sharpe) / error))
    return probability


def expected_maximum_sharpe(variance_of_sharpes: float, n_trials: float) -> float:
    """Expected highest Sharpe ratio of trials none of which has an edge.

    sqrt(V) ((1 - g) Phi^-1(1 - 1/N) + g Phi^-1(1 - 1/(N e))), g the Euler-Mascheroni constant, for
    independent trials with true Sharpe ratio 0 (Bailey, López de Prado 2014, eq. 1; Bailey et al.
    2014, eq. 4). The approximation is for large N; below 2 it would fall under the expected maximum
    of one trial, 0, and 0 is returned there.

    >>> round(expected_maximum_sharpe(1.0, 10), 2)
    1.57

    Args:
        variance_of_sharpes: V, of the trials' Sharpe ratios (ddof 1), in the unit of the result
            squared: per period, if that is to be per period.
        n_trials: N >= 1, the number of independent trials; it need not be whole.

    Raises:
        ValueError: a negative variance, or less than one trial.
    """
    variance, n = float(variance_of_sharpes), float(n_trials)
    _check("variance_of_sharpes", variance, not variance < 0.0, "at least 0")
    _check("n_trials", n, 1.0 <= n < np.inf, "at least 1 and finite")
    if n == 1.0:
        return 0.0
    # 1 - 1/N would round for many trials: the quantiles are taken in the lower tail.
    score = -(1.0 - np.euler_gamma) * ndtri(1.0 / n) - np.euler_gamma * ndtri(1.0 / (n * np.e))
    return float(np.sqrt(variance) * max(score, 0.0))


def deflated_sharpe_ratio(
    sharpe: Number,
    n_obs: float | FloatArray,
    skew: Number,
    kurtosis: Number,
    variance_of_sharpes: float,
    n_trials: float,
) -> Number:
    """Probability that the best of many trials has an edge (Bailey, López de Prado 2014, eq. 2).

    The probabilistic Sharpe ratio against the expected maximum of ``n_trials`` trials without one.

    The paper's example: an annual Sharpe ratio of 2.5 over five years of 250 days, the best of 100
    trials whose annual Sharpe ratios have a variance of 1/2.

    >>> year = 250
    >>> round(deflated_sharpe_ratio(2.5 / year**0.5, 1250, -3.0, 10.0, 0.5 / year, 100), 4)
    0.9004

    Args:
        sharpe: estimated Sharpe ratio of the chosen trial, per period.
        n_obs: number of returns, >= 2.
        skew: of its returns.
        kurtosis: Pearson's, of its returns.
        variance_of_sharpes: of all trials' Sharpe ratios per period (ddof 1).
        n_trials: number of independent trials, >= 1; see ``effective_number_of_trials``.

    Raises:
        ValueError: an argument is out of its range.
    """
    hurdle = expected_maximum_sharpe(variance_of_sharpes, n_trials)
    return probabilistic_sharpe_ratio(sharpe, n_obs, skew, kurtosis, hurdle)


def minimum_track_record_length(
    sharpe: Number,
    skew: Number,
    kurtosis: Number,
    benchmark_sharpe: float = 0.0,
    confidence: float = 0.95,
) -> Number:
    """Number of returns needed to be confident of beating a benchmark (Bailey, López de Prado 2012).

    1 + (1 - skew SR + (kurtosis - 1) / 4 SR^2) (Phi^-1(confidence) / (SR - b))^2: from so many
    returns on the probabilistic Sharpe ratio reaches ``confidence``. In periods, not rounded;
    infinite if the Sharpe ratio does not exceed the benchmark.

    Daily normal returns, an annual Sharpe ratio of 2 against 1: 2.73 years.

    >>> year = 250
    >>> days = minimum_track_record_length(2 / year**0.5, 0.0, 3.0, 1 / year**0.5)
    >>> round(days / year, 2)
    2.73

    Args:
        sharpe: estimated Sharpe ratio, per period.
        skew: of the returns.
        kurtosis: Pearson's, of the returns.
        benchmark_sharpe: to be beaten, per period.
        confidence: in [0.5, 1).

    Raises:
        ValueError: ``kurtosis`` or ``confidence`` is out of its range.
    """
    _check("confidence", confidence, 0.5 <= confidence < 1.0, "in [0.5, 1)")
    excess = np.asarray(sharpe, np.float64) - benchmark_sharpe
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        squared = (ndtri(confidence) / excess) ** 2
        length = 1.0 + _variance_factor(sharpe, skew, kurtosis) * squared
    periods: Number = _number(np.where(excess <= 0.0, np.inf, length))
    return periods


def minimum_backtest_length(n_trials: float, target_sharpe: float) -> float:
    """Years below which luck alone is expected to reach a Sharpe ratio (Bailey et al. 2014, eq. 6).

    (E[max_N] / target)^2, where E[max_N] is the expected maximum of N independent standard normal
    variables: over so many years the best of ``n_trials`` trials without an edge is expected to show
    an annual Sharpe ratio of ``target_sharpe``. A shorter backtest cannot tell it from luck.

    Five years allow 45 trials at an annual Sharpe ratio of 1:

    >>> minimum_backtest_length(45, 1.0) < 5.0 < minimum_backtest_length(46, 1.0)
    True

    Args:
        n_trials: number of independent trials, >= 1.
        target_sharpe: annual Sharpe ratio, > 0.

    Raises:
        ValueError: less than one trial, or a target that is not positive.
    """
    _check("target_sharpe", target_sharpe, target_sharpe > 0.0, "positive")
    return (expected_maximum_sharpe(1.0, n_trials) / target_sharpe) ** 2


def effective_number_of_trials(
    *, returns: npt.ArrayLike | None = None, correlation: npt.ArrayLike | None = None
) -> float:
    """Number of independent trials that weigh as much as correlated ones (Galwey 2009).

    (sum sqrt(l))^2 / sum l over the eigenvalues l of the correlation matrix, negative ones taken as
    0: N for N uncorrelated trials, 1 for copies of one. The sum of squares in place of the square
    roots (participation ratio) and the entropy give far lower numbers where all trials share one
    factor, though the maximum over the others is what luck lives on, and so a hurdle too low.

    Eigenvalues see linear dependence only, and no more trials than returns: from ``returns`` the
    number is at most n_obs - 1, and it is that of the sample of sets given. Show it beside the raw
    number, which is the upper bound.

    Two pairs of copies, independent of each other:

    >>> round(effective_number_of_trials(correlation=np.kron(np.eye(2), np.ones((2, 2)))), 6)
    2.0

    Args:
        returns: (n_obs, n_sets), returns of the sets over the same bars. Sets that do not vary are
            left out: one that never trades cannot be chosen by luck.
        correlation: (n_sets, n_sets), in place of returns.

    Raises:
        ValueError: both or none are given, or the matrix is not a correlation matrix.
    """
    if (returns is None) == (correlation is None):
        raise ValueError("give either returns or correlation (got both or none)")
    if returns is not None:
        values = _returns(returns, 2)
        deviations = values - values.mean(axis=0)
        norms = np.einsum("ij,ij->j", deviations, deviations)
        varies = norms > FLAT * np.einsum("ij,ij->j", values, values)
        if not varies.any():
            return 1.0
        scaled = deviations[:, varies] / np.sqrt(norms[varies])
        # The smaller of the two products has the same eigenvalues but for zeros.
        wide = scaled.shape[1] > scaled.shape[0]
        matrix = scaled @ scaled.T if wide else scaled.T @ scaled
    else:
        matrix = np.asarray(correlation, np.float64)
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
            raise ValueError(f"correlation must be square (got shape {matrix.shape})")
        if not np.allclose(np.diag(matrix), 1.0) or not np.allclose(matrix, matrix.T):
            raise ValueError("correlation must be symmetric with a diagonal of 1, without NaN")
    eigenvalues = np.linalg.eigvalsh(matrix)
    # Rounding leaves zeros at some 1e-16 of the largest, and a square root would make them 1e-8.
    eigenvalues = eigenvalues[eigenvalues > eigenvalues[-1] * len(matrix) * np.finfo(float).eps]
    return float(np.sqrt(eigenvalues).sum() ** 2 / eigenvalues.sum())


@dataclass(frozen=True, eq=False)
class BacktestOverfitting:
    """Outcome of combinatorially symmetric cross-validation.

    The arrays have one entry per split, (n_splits,), in lexicographic order of the blocks that are
    in-sample: for four blocks 01, 02, 03, 12, 13, 23.

    Attributes:
        probability: share of splits in which the set chosen in-sample is in the lower half
            out-of-sample (logit <= 0): PBO.
        logits: ln(w / (1 - w)) of the chosen set's relative rank out-of-sample w = rank / (N + 1).
        winners: the set chosen, by its column.
        in_sample: its Sharpe ratio in-sample, per bar.
        out_of_sample: its Sharpe ratio out-of-sample, per bar.
        degradation_slope: of the regression of ``out_of_sample`` on ``in_sample`` by least squares;
            NaN if the latter does not vary. Below 0: the better in-sample, the worse afterwards.
        degradation_intercept: of the same regression, per bar.
        probability_of_loss: share of splits in which ``out_of_sample`` is negative.
    """

    probability: float
    logits: FloatArray
    winners: IntArray
    in_sample: FloatArray
    out_of_sample: FloatArray
    degradation_slope: float
    degradation_intercept: float
    probability_of_loss: float


def probability_of_backtest_overfitting(
    returns: npt.ArrayLike, n_blocks: int
) -> BacktestOverfitting:
    """How often the best in-sample is below the median out-of-sample (Bailey et al. 2017).

    Combinatorially symmetric cross-validation (CSCV): the bars are cut into ``n_blocks`` blocks of
    equal length; every half of the blocks is in-sample once and the other half out-of-sample. Rows
    that do not divide are dropped from the start. The choice is by Sharpe ratio. Of sets equal
    in-sample the first is chosen; sets equal out-of-sample share the mean of their ranks. A set that
    does not vary in a half counts as a Sharpe ratio of 0 there.

    Args:
        returns: (n_bars, n_sets), returns per bar.
        n_blocks: even, 2 .. 24; 16 gives 12,870 splits.

    Raises:
        ValueError: ``n_blocks`` is odd or out of its range, there are fewer than two sets or two bars
            a half, or a return is not finite.
    """
    return probability_of_backtest_overfitting_from_moments(*block_moments(returns, n_blocks))


def block_moments(returns: npt.ArrayLike, n_blocks: int) -> tuple[IntArray, FloatArray, FloatArray]:
    """Counts, sums and sums of squares per block of equal length.

    Rows that do not divide are dropped from the start, so that the last bars always count.

    Args:
        returns: (n_bars, n_sets).
        n_blocks: 1 .. n_bars.

    Returns:
        (n_blocks,) bars, (n_blocks, n_sets) sums and (n_blocks, n_sets) sums of squares.

    Raises:
        ValueError: there are not so many bars, or a return is not finite.
    """
    values = _returns(returns, 2)
    n_bars, n_sets = values.shape
    _check("n_blocks", n_blocks, 1 <= n_blocks <= n_bars, f"in 1 .. {n_bars}, the bars")
    length = n_bars // n_blocks
    sums, squares = np.empty((n_blocks, n_sets)), np.empty((n_blocks, n_sets))
    for block in range(n_blocks):
        start = n_bars - (n_blocks - block) * length
        part = values[start : start + length]
        sums[block] = part.sum(axis=0)
        squares[block] = np.einsum("ij,ij->j", part, part)
    return np.full(n_blocks, length), sums, squares


def probability_of_backtest_overfitting_from_moments(
    counts: npt.ArrayLike, sums: npt.ArrayLike, squares: npt.ArrayLike
) -> BacktestOverfitting:
    """As ``probability_of_backtest_overfitting``, from the power sums of blocks of bars.

    The Sharpe ratio over any blocks follows from the sums of their counts, returns and squared
    returns, so no series of returns is needed. A hundred thousand sets and 16 blocks, 2.6e9 Sharpe
    ratios, take some seconds; memory beyond the arguments is O(n_splits).

    Args:
        counts: bars of each block, (n_blocks,), or (n_blocks, n_sets) with equal columns.
        sums: sum of the returns, (n_blocks, n_sets).
        squares: sum of the squared returns, (n_blocks, n_sets).

    Raises:
        ValueError: shapes that do not fit, an odd number of blocks or more than 24, fewer than two
            sets, fewer than two bars in a half, sets with different bars, or a sum not finite.
    """
    totals = np.ascontiguousarray(sums, np.float64)
    second = np.ascontiguousarray(squares, np.float64)
    bars = np.asarray(counts, np.float64)
    if totals.ndim != 2 or second.shape != totals.shape:
        raise ValueError(
            "sums and squares must have the same shape (n_blocks, n_sets) "
            f"(got {totals.shape} and {second.shape})"
        )
    n_blocks, n_sets = totals.shape
    if bars.shape not in ((n_blocks,), totals.shape):
        raise ValueError(f"counts must be ({n_blocks},) or {totals.shape} (got {bars.shape})")
    even = n_blocks % 2 == 0 and 2 <= n_blocks <= MAX_BLOCKS
    _check("n_blocks", n_blocks, even, f"even and in 2 .. {MAX_BLOCKS}")
    _check("n_sets", n_sets, n_sets >= 2, "at least 2")
    if bars.ndim == 2:
        if (bars != bars[:, :1]).any():
            block, column = np.argwhere(bars != bars[:, :1])[0]
            raise ValueError(
                f"counts must be the same for all sets: block {block} has {bars[block, 0]:g} bars "
                f"in set 0 (got {bars[block, column]:g} in set {column})"
            )
        bars = bars[:, 0]
    for name, values in (("sums", totals), ("squares", second)):
        _check_finite(name, values, ("block", "set"))
    splits = symmetric_splits(n_blocks)
    chosen = choose_and_rank(lambda: [(totals, second)], bars, splits, ~splits & (2**n_blocks - 1))
    return overfitting_of(chosen)


def symmetric_splits(n_blocks: int, most: int | None = None, seed: int = 0) -> IntArray:
    """The splits of combinatorially symmetric cross-validation: every half of the blocks.

    Args:
        n_blocks: even.
        most: of more splits, so many are drawn without replacement, and the probability that
            follows is an estimate with a standard error of at most 0.5 / sqrt(most).
        seed: of the draw.

    Returns:
        (n_splits,) bit masks of the blocks in-sample, in lexicographic order of the blocks.
    """
    halves = np.array(list(combinations(range(n_blocks), n_blocks // 2)), np.int64)
    masks: IntArray = (1 << halves).sum(axis=1)
    if most is not None and most < len(masks):
        draw = np.random.default_rng([seed, _SPLITS]).choice(len(masks), most, replace=False)
        masks = masks[np.sort(draw)]
    return masks


@dataclass(frozen=True, eq=False)
class Choices:
    """What the best set in-sample did out-of-sample, for each of several splits.

    Attributes:
        winners: (n_splits,), the set chosen, by its place among all.
        in_sample: (n_splits,), its Sharpe ratio in-sample, per bar.
        out_of_sample: (n_splits,), its Sharpe ratio out-of-sample, per bar.
        ranks: (n_splits,), its rank out-of-sample, 1 is the worst of the sets.
        n_sets: number of sets.
    """

    winners: IntArray
    in_sample: FloatArray
    out_of_sample: FloatArray
    ranks: FloatArray
    n_sets: int


def choose_and_rank(
    chunks: Callable[[], Iterable[tuple[FloatArray, FloatArray]]],
    counts: FloatArray,
    train: IntArray,
    test: IntArray,
    *,
    ranked: bool = True,
) -> Choices:
    """Choose by Sharpe ratio on the training blocks of each split, and judge on its test blocks.

    Args:
        chunks: gives the sums of the returns and of their squares, each (n_blocks, n_sets of the
            chunk), chunk by chunk; called once, and once more for the ranks.
        counts: (n_blocks,) bars of each block.
        train, test: (n_splits,) bit masks of the blocks of each split.
        ranked: whether the ranks are wanted, which takes as long again; else they are NaN.

    Raises:
        ValueError: fewer than two sets, or fewer than two bars on a side of a split.
    """
    blocks = np.arange(len(counts))
    n_inside, n_outside = (
        (((masks[:, np.newaxis] >> blocks) & 1) @ counts).astype(np.float64)
        for masks in (train, test)
    )
    fewest = float(min(n_inside.min(), n_outside.min()))
    _check("counts", fewest, fewest >= 2.0, "at least 2 bars in every half")
    winners = np.zeros(len(train), np.int64)
    inside, outside = np.full(len(train), -np.inf), np.full(len(train), np.nan)
    n_sets = 0
    for sums, squares in chunks():
        select_in_sample(
            sums, squares, n_sets, train, test, n_inside, n_outside, winners, inside, outside
        )
        n_sets += sums.shape[1]
    _check("n_sets", n_sets, n_sets >= 2, "at least 2")
    ranks = np.full(len(train), 0.5 if ranked else np.nan)
    for sums, squares in chunks() if ranked else ():
        rank_out_of_sample(sums, squares, test, n_outside, outside, ranks)
    return Choices(winners, inside, outside, ranks, n_sets)


def overfitting_of(chosen: Choices) -> BacktestOverfitting:
    """The probability of backtest overfitting and what goes with it, from symmetric splits."""
    inside, outside = chosen.in_sample, chosen.out_of_sample
    logits = np.log(chosen.ranks / (chosen.n_sets + 1.0 - chosen.ranks))
    centred = inside - inside.mean()
    spread = float(centred @ centred)
    varies = spread > FLAT * float(inside @ inside)
    slope = float(centred @ outside) / spread if varies else np.nan
    return BacktestOverfitting(
        probability=float(np.mean(logits <= 0.0)),
        logits=logits,
        winners=chosen.winners,
        in_sample=inside,
        out_of_sample=outside,
        degradation_slope=slope,
        degradation_intercept=float(outside.mean() - slope * inside.mean()),
        probability_of_loss=float(np.mean(outside < 0.0)),
    )


@dataclass(frozen=True)
class SuperiorPredictiveAbility:
    """Outcome of a test that no set beats the benchmark.

    Attributes:
        statistic: the largest studentized mean difference to the benchmark, at least 0.
        best: set with that difference, by its column.
        lower: p-value with every set worse than the benchmark counted as far worse; too small.
        consistent: Hansen's p-value; sets clearly worse than the benchmark do not count.
        upper: p-value with all sets taken as equal to the benchmark; conservative (White's Reality
            Check, studentized).
    """

    statistic: float
    best: int
    lower: float
    consistent: float
    upper: float


def superior_predictive_ability(
    returns: npt.ArrayLike,
    benchmark: npt.ArrayLike,
    block_length: float,
    n_resamples: int,
    seed: int,
) -> SuperiorPredictiveAbility:
    """Is the best of these sets better than the benchmark, all of them considered? (Hansen 2005)

    The null hypothesis is that no set has a higher mean return than the benchmark. With d the
    differences per bar, the statistic is max(0, max_k sqrt(n) mean(d_k) / omega_k), omega_k^2 the
    variance of sqrt(n) mean(d_k) under the stationary bootstrap in closed form (Politis, Romano
    1994): differences are studentized, so that a set is not favoured for being volatile. Means of
    the resamples are recentred by max(0, m) (lower), by m where sqrt(n) m / omega is at least
    -sqrt(2 ln ln n) (consistent) and by m (upper), m = mean(d_k). A p-value is the share of
    resamples whose statistic is above that of the sample; 0 means below 1 / n_resamples.

    The deviations are estimated, and the test rejects too often where the bars hold few blocks. On
    simulated returns without an edge a level of 10% rejected 9% to 13% with 200 blocks or more, 14%
    with 40 to 50, and 17% (independent returns) to 24% with 25.

    Memory: one copy of ``returns``.

    Args:
        returns: (n_bars, n_sets), returns per bar.
        benchmark: (n_bars,), its returns per bar, or one number, such as 0.0 for cash.
        block_length: mean length of the bootstrap's blocks in bars, >= 1; longer than the
            differences' memory.
        n_resamples: >= 1.
        seed: of the resamples; a larger ``n_resamples`` with it begins with the same ones.

    Raises:
        ValueError: an argument is out of its range, or a set differs from the benchmark by a constant.
    """
    scaled, scores = _studentized(returns, benchmark, block_length)
    n_bars, n_sets = scaled.shape
    limit = -np.sqrt(2.0 * np.log(np.log(n_bars)))
    shifts = (
        np.minimum(scores, 0.0),
        np.where(scores < limit, scores, 0.0),
        np.zeros(n_sets),
    )
    statistic = max(float(scores.max()), 0.0)
    exceeded = np.zeros(len(shifts))
    for weights in _resample_weights(n_bars, block_length, n_resamples, seed):
        highest = np.zeros((len(shifts), len(weights)))
        for first in range(0, n_sets, _SETS_PER_CHUNK):
            part = slice(first, first + _SETS_PER_CHUNK)
            resampled = weights @ scaled[:, part]
            for kind, shift in enumerate(shifts):
                np.maximum(highest[kind], (resampled + shift[part]).max(axis=1), out=highest[kind])
        exceeded += (highest > statistic).sum(axis=1)
    lower, consistent, upper = (exceeded / n_resamples).tolist()
    return SuperiorPredictiveAbility(statistic, int(scores.argmax()), lower, consistent, upper)


@dataclass(frozen=True, eq=False)
class StepM:
    """Which sets beat the benchmark.

    Attributes:
        survivors: sets that do, by column, ascending: those whose p-value is at most ``level``.
        p_values: (n_sets,), adjusted for all sets.
        statistics: (n_sets,), studentized mean differences to the benchmark.
        level: probability of one false survivor or more.
    """

    survivors: IntArray
    p_values: FloatArray
    statistics: FloatArray
    level: float


def step_m(
    returns: npt.ArrayLike,
    benchmark: npt.ArrayLike,
    block_length: float,
    n_resamples: int,
    seed: int,
    level: float = 0.05,
) -> StepM:
    """Which sets beat the benchmark, with at most ``level`` chance of a false one (Romano, Wolf 2005).

    Step 1 rejects every set whose studentized mean difference exceeds the 1 - level quantile of the
    bootstrapped maximum over all sets; each further step does so with the maximum over the sets not
    yet rejected, until none is. The same decisions follow, in one pass, from stepdown p-values
    (Romano, Wolf 2016): with the sets in descending order, the p-value of a set is the share of
    resamples whose maximum over it and all lower sets reaches its statistic, and at least the p-value
    of the set above. Resamples are recentred by the sample's means and, unlike in Romano and Wolf,
    studentized with the sample's deviation, as in ``superior_predictive_ability``.

    Memory: one copy of ``returns``.

    Args:
        returns: (n_bars, n_sets), returns per bar.
        benchmark: (n_bars,), its returns per bar, or one number, such as 0.0 for cash.
        block_length: mean length of the bootstrap's blocks in bars, >= 1.
        n_resamples: >= 1; at least 1 / level for a set to survive on any ground but p = 0.
        seed: of the resamples.
        level: family-wise error rate, in (0, 1).

    Raises:
        ValueError: an argument is out of its range, or a set differs from the benchmark by a constant.
    """
    _check("level", level, 0.0 < level < 1.0, "in (0, 1)")
    scaled, scores = _studentized(returns, benchmark, block_length)
    n_bars, n_sets = scaled.shape
    ascending = np.argsort(scores, kind="stable")
    reached = np.zeros(n_sets)
    for weights in _resample_weights(n_bars, block_length, n_resamples, seed):
        highest = np.full((len(weights), 1), -np.inf)
        for first in range(0, n_sets, _SETS_PER_CHUNK):
            part = ascending[first : first + _SETS_PER_CHUNK]
            resampled = np.hstack([highest, weights @ scaled[:, part]])
            # Ascending: the running maximum is that over a set and all lower ones.
            so_far = np.maximum.accumulate(resampled, axis=1)[:, 1:]
            reached[part] += (so_far >= scores[part]).sum(axis=0)
            highest = so_far[:, -1:]
    p_values = np.empty(n_sets)
    descending = ascending[::-1]
    p_values[descending] = np.maximum.accumulate(reached[descending] / n_resamples)
    return StepM(np.flatnonzero(p_values <= level), p_values, scores, level)


@dataclass(frozen=True)
class BootstrapInterval:
    """Percentile intervals of a series of returns.

    Attributes:
        sharpe: Sharpe ratio of the series, per period.
        sharpe_interval: lower and upper end.
        drawdown: deepest fall of compounded returns from their peak, the start included, as a
            fraction of the peak.
        drawdown_interval: lower and upper end.
        confidence: probability between the ends.
    """

    sharpe: float
    sharpe_interval: tuple[float, float]
    drawdown: float
    drawdown_interval: tuple[float, float]
    confidence: float


def stationary_bootstrap(
    returns: npt.ArrayLike,
    block_length: float,
    n_resamples: int,
    seed: int,
    confidence: float = 0.95,
) -> BootstrapInterval:
    """How far Sharpe ratio and drawdown might have come out otherwise (Politis, Romano 1994).

    Resamples of the same length are joined from blocks that start anywhere, are geometrically
    distributed in length with mean ``block_length`` and wrap around from the last return to the
    first. The ends are the (1 - confidence) / 2 and (1 + confidence) / 2 quantiles over the
    resamples. The interval knows nothing of how the series was chosen: that of the best of many sets
    is too high.

    Args:
        returns: (n_obs,), per period, >= -1.
        block_length: mean length of a block, >= 1.
        n_resamples: >= 1.
        seed: of the resamples; a larger ``n_resamples`` with it begins with the same ones.
        confidence: in (0, 1).

    Raises:
        ValueError: an argument is out of its range.
    """
    _check("confidence", confidence, 0.0 < confidence < 1.0, "in (0, 1)")
    values = _returns(returns, 1)
    _check("returns", values.min(), values.min() >= -1.0, "at least -1")
    sharpes, drawdowns = [], []
    for rows in _resample_rows(len(values), block_length, n_resamples, seed):
        sharpe, drawdown = _sharpe_and_drawdown(values[rows])
        sharpes.append(sharpe)
        drawdowns.append(drawdown)
    ends = ((1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0)
    low_sharpe, high_sharpe = np.quantile(np.concatenate(sharpes), ends).tolist()
    low_drawdown, high_drawdown = np.quantile(np.concatenate(drawdowns), ends).tolist()
    sharpe, drawdown = _sharpe_and_drawdown(values[np.newaxis])
    return BootstrapInterval(
        sharpe=float(sharpe[0]),
        sharpe_interval=(low_sharpe, high_sharpe),
        drawdown=float(drawdown[0]),
        drawdown_interval=(low_drawdown, high_drawdown),
        confidence=confidence,
    )


def _sharpe_and_drawdown(paths: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Sharpe ratio (0 if a path does not vary) and deepest drawdown of each row."""
    mean = paths.mean(axis=1)
    spread = ((paths - mean[:, np.newaxis]) ** 2).sum(axis=1)
    varies = spread > FLAT * (paths**2).sum(axis=1)
    deviation = np.sqrt(np.where(varies, spread, 1.0) / (paths.shape[1] - 1))
    equity = np.cumprod(1.0 + paths, axis=1)
    peak = np.maximum(np.maximum.accumulate(equity, axis=1), 1.0)
    return np.where(varies, mean / deviation, 0.0), (1.0 - equity / peak).max(axis=1)


def _resample_rows(
    n_obs: int, block_length: float, n_resamples: int, seed: int
) -> Iterator[IntArray]:
    """Rows of the stationary bootstrap, (n_batch, n_obs) at a time; batches do not change them."""
    _check("block_length", block_length, 1.0 <= block_length < np.inf, "at least 1 and finite")
    _check("n_resamples", n_resamples, n_resamples >= 1, "at least 1")
    return _rows_in_batches(
        n_obs, block_length, n_resamples, np.random.default_rng([seed, _RESAMPLES])
    )


def _rows_in_batches(
    n_obs: int, block_length: float, n_resamples: int, random: np.random.Generator
) -> Iterator[IntArray]:
    steps = np.arange(n_obs)
    batch = max(1, _VALUES_PER_BATCH // n_obs)
    for first in range(0, n_resamples, batch):
        rows = np.empty((min(batch, n_resamples - first), n_obs), np.int64)
        for row in rows:
            starts = random.integers(n_obs, size=n_obs)
            begins = random.random(n_obs) < 1.0 / block_length
            # Without a start yet the block is that of the first place.
            latest = np.maximum.accumulate(np.where(begins, steps, 0))
            row[:] = (starts[latest] + steps - latest) % n_obs
        yield rows


def _resample_weights(
    n_obs: int, block_length: float, n_resamples: int, seed: int
) -> Iterator[FloatArray]:
    """Weight of every row in the mean of a resample, (n_batch, n_obs) at a time."""
    for rows in _resample_rows(n_obs, block_length, n_resamples, seed):
        offsets = np.arange(len(rows))[:, np.newaxis] * n_obs
        counts = np.bincount((rows + offsets).ravel(), minlength=rows.size)
        yield counts.reshape(rows.shape) / n_obs


def _studentized(
    returns: npt.ArrayLike, benchmark: npt.ArrayLike, block_length: float
) -> tuple[FloatArray, FloatArray]:
    """Centred differences to the benchmark times sqrt(n) / omega, and sqrt(n) mean / omega.

    A set that equals the benchmark throughout has zeros: its statistic is 0 in every resample.
    """
    _check("block_length", block_length, 1.0 <= block_length < np.inf, "at least 1 and finite")
    values = _returns(returns, 2)
    n_bars, n_sets = values.shape
    _check("n_bars", n_bars, n_bars >= 3, "at least 3")
    base = np.asarray(benchmark, np.float64)
    if base.shape not in ((), (n_bars,)):
        raise ValueError(f"benchmark must be one number or ({n_bars},) (got shape {base.shape})")
    _check_finite("benchmark", np.atleast_1d(base), ("bar",))
    scaled = values - (base[:, np.newaxis] if base.ndim else base)
    scores = np.empty(n_sets)
    for first in range(0, n_sets, _SETS_PER_CHUNK):
        part = scaled[:, first : first + _SETS_PER_CHUNK]
        means = part.mean(axis=0)
        squares = np.einsum("ij,ij->j", part, part)
        part -= means
        flat = np.einsum("ij,ij->j", part, part) <= FLAT * squares
        constant = np.flatnonzero(flat & (squares > 0.0))
        if len(constant):
            raise ValueError(
                f"set {first + constant[0]} must vary against the benchmark: its difference is the "
                f"same in all {n_bars} bars (got {means[constant[0]]:g}); leave it out"
            )
        part[:, flat] = 0.0
        factor = np.sqrt(n_bars) / np.where(flat, 1.0, _deviation_of_mean(part, block_length))
        part *= factor
        scores[first : first + _SETS_PER_CHUNK] = np.where(flat, 0.0, means * factor)
    return scaled, scores


def _deviation_of_mean(centred: FloatArray, block_length: float) -> FloatArray:
    """Standard deviation of sqrt(n) times the mean under the stationary bootstrap, per column.

    Its square is c(0) + 2 sum_i (1 - i/n) (1 - 1/L)^i c(i) over i = 1 .. n - 1 with c the circular
    autocovariances of the sample (divisor n), the same as Hansen's sum over plain autocovariances
    with the weights (1 - i/n) (1 - 1/L)^i + i/n (1 - 1/L)^(n - i).
    """
    n = len(centred)
    lags = np.arange(n)
    weights = 2.0 * (1.0 - lags / n) * (1.0 - 1.0 / block_length) ** lags
    weights[0] = 1.0
    circular = irfft(np.abs(rfft(centred, axis=0)) ** 2, n, axis=0) / n
    variance = weights @ circular
    return np.sqrt(np.maximum(variance, np.finfo(float).tiny))


def _variance_factor(sharpe: Any, skew: Any, kurtosis: Any) -> FloatArray:
    """Squared standard error of a Sharpe ratio, times n - 1 (Bailey, López de Prado 2012)."""
    ratio, third, fourth = (np.asarray(x, np.float64) for x in (sharpe, skew, kurtosis))
    possible = ~(fourth < (1.0 + third**2) * (1.0 - 1e-9))
    _check("kurtosis", fourth, possible, "at least 1 + skew^2 (Pearson's: 3 is normal)")
    # Not negative for any distribution, but for rounding.
    return np.asarray(np.maximum(1.0 - third * ratio + (fourth - 1.0) / 4.0 * ratio**2, 0.0))


def _returns(returns: npt.ArrayLike, n_dimensions: int) -> FloatArray:
    values = np.asarray(returns, np.float64)
    shape = ("(n_obs,)", "(n_bars, n_sets)")[n_dimensions - 1]
    if values.ndim != n_dimensions or len(values) < 2 or not values.size:
        raise ValueError(
            f"returns must be {shape} with two rows or more (got shape {values.shape})"
        )
    _check_finite("returns", values, ("bar", "set"))
    return values


def _check_finite(name: str, values: FloatArray, axes: tuple[str, ...]) -> None:
    # The sum is finite if all values are and do not overflow: no array of flags in the usual case.
    if np.isfinite(values.sum()) or np.isfinite(values).all():
        return
    place = np.argwhere(~np.isfinite(values))[0]
    where = ", ".join(f"{axis} {index}" for axis, index in zip(axes, place, strict=False))
    raise ValueError(f"{name} must be finite (got {values[tuple(place)]} at {where})")


def _check(name: str, value: Any, holds: Any, rule: str) -> None:
    """Raise where ``holds`` is not true for a value."""
    wrong = ~np.asarray(holds, np.bool_)
    if wrong.any():
        bad = np.broadcast_to(np.asarray(value), wrong.shape)[wrong]
        raise ValueError(f"{name} must be {rule} (got {name}={bad.ravel()[0]:g})")


def _number(value: Any) -> Any:
    """A plain float of an array without dimensions, else the array."""
    array = np.asarray(value, np.float64)
    return array if array.ndim else float(array)
