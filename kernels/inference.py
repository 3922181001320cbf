"""The max-test: how large the largest statistic of many parameter sets would be without any alpha.

Alpha is what a set earns beyond its benchmark: the intercept of the regression of its returns on those of
the benchmark. Its statistic is alpha over its standard error. To see how large the largest statistic gets
by luck, the residuals of every set are summed over blocks of bars, and each block's sum is multiplied by
a random number that all sets share. Their total is a draw of the set's statistic without alpha, and the
largest total over all sets is a draw of the largest one. Only these largest totals are kept, so any
number of sets takes the same memory, and sets that trade alike count as one.

White (2000), "A reality check for data snooping"; Hansen (2005), "A test for superior predictive
ability"; Romano and Wolf (2005), "Stepwise multiple testing as formalized data snooping"; the
multipliers as in Chernozhukov, Chetverikov and Kato (2013).
"""

import numpy as np

from kernels._jit import jit
from kernels.arrays import Float32Array, FloatArray, IntArray

NO_RESIDUAL = 1e-10
"""Share of a set's sum of squares. What is smaller is rounding: the set only copies its benchmark."""

TOGETHER = 4
"""Sets whose draws are computed together, so that each multiplier is loaded once for all of them."""

_STEP = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_BITS_1, _BITS_2 = np.uint64(0x5555555555555555), np.uint64(0x3333333333333333)
_BITS_4, _ONES = np.uint64(0x0F0F0F0F0F0F0F0F), np.uint64(0x0101010101010101)


@jit
def mixed(number: np.uint64) -> np.uint64:
    """A hash of a number (splitmix64; Steele, Lea and Flood 2014).

    Args:
        number: any.
    """
    number = (number ^ (number >> np.uint64(30))) * _FIRST
    number = (number ^ (number >> np.uint64(27))) * _SECOND
    return number ^ (number >> np.uint64(31))


@jit
def bit_count(number: np.uint64) -> np.uint64:
    """How many bits of a number are 1.

    Args:
        number: any.
    """
    number = number - ((number >> np.uint64(1)) & _BITS_1)
    number = (number & _BITS_2) + ((number >> np.uint64(2)) & _BITS_2)
    number = (number + (number >> np.uint64(4))) & _BITS_4
    return (number * _ONES) >> np.uint64(56)


@jit
def draw_multipliers(times: IntArray, bounds: IntArray, out: Float32Array) -> None:
    """Draw the multiplier of every block, which follows from the times of its bars alone.

    Each bar and draw has a number of its own: how many of 64 random bits are 1, less 32. Over a block
    these are summed and divided by their standard deviation, which gives a standard normal number but for
    1 part in 1,000. Two blocks that have bars in common have as much of their multipliers in common,
    whichever studies they belong to.

    Args:
        times: (n_bars,), the time of each bar, in any unit.
        bounds: (n_blocks + 1,), ascending: block b has the bars ``bounds[b]`` to ``bounds[b + 1] - 1``.
        out: (n_blocks, n_draws), filled.
    """
    n_draws = out.shape[1]
    totals = np.empty(n_draws, np.int64)
    for block in range(out.shape[0]):
        totals[:] = 0
        for bar in range(bounds[block], bounds[block + 1]):
            seed = mixed(np.uint64(times[bar]) + _STEP)
            for k in range(n_draws):
                bits = bit_count(mixed(seed + np.uint64(k) * _STEP))
                totals[k] += np.int64(bits) - 32
        # The number of ones among 64 bits has a standard deviation of 4.
        deviation = 4.0 * np.sqrt(float(bounds[block + 1] - bounds[block]))
        for k in range(n_draws):
            out[block, k] = np.float32(totals[k] / deviation)


@jit
def score_sets(
    sums: FloatArray,
    totals: FloatArray,
    squares: FloatArray,
    products: FloatArray,
    benchmark: FloatArray,
    benchmark_squares: float,
    counts: FloatArray,
    alphas: FloatArray,
    scores: Float32Array,
    places: IntArray,
) -> int:
    """Alpha and its statistic of every set, and the scores by which the multipliers are weighted.

    The statistic is alpha over its standard error from the residuals' variance. The scores are block sums
    of the residuals over the same standard error, so what returns in a block have in common, such as
    autocorrelation, widens the draws. A set whose statistic is below -sqrt(2 log log n) of its draws'
    standard deviations is too bad to be the largest and gets no scores (Hansen 2005).

    Args:
        sums: (n_blocks, n_sets), excess returns summed over each block.
        totals, squares, products: (n_sets,), sums over all blocks of these returns, of their squares, and
            of their products with the benchmark's excess returns.
        benchmark: (n_blocks,), excess returns of the benchmark summed over each block.
        benchmark_squares: sum of their squares.
        counts: (n_blocks,), returns of each block.
        alphas: (n_sets, 2), filled with alpha per return and its statistic; NaN for a set that earns the
            same in all returns, or only copies the benchmark.
        scores: (n_sets, n_blocks), of which the first rows are filled.
        places: (n_sets,), of which as many are filled: the set of each row.

    Returns:
        Number of rows filled.
    """
    n_blocks, n_sets = sums.shape
    n, market, lost = 0.0, 0.0, 0.0
    for block in range(n_blocks):
        n += counts[block]
        market += benchmark[block]
        lost += counts[block] ** 2
    spread = benchmark_squares - market**2 / n
    moves = spread > NO_RESIDUAL * benchmark_squares
    # The mean of the benchmark is estimated too, and so adds to the error of alpha.
    widening = np.sqrt(1.0 + market**2 / (n * spread)) if moves else 1.0
    # Residuals sum to 0 over all blocks, so their block sums vary less than those of the errors.
    shrinkage = np.sqrt(1.0 - lost / n**2)
    hopeless = np.sqrt(2.0 * np.log(np.log(n)))
    row = 0
    for i in range(n_sets):
        total = totals[i]
        joint = products[i] - total * market / n
        beta = joint / spread if moves else 0.0
        residual = squares[i] - total**2 / n - beta * joint
        alphas[i, 0] = np.nan
        alphas[i, 1] = np.nan
        if not residual > NO_RESIDUAL * squares[i]:
            continue
        alpha = (total - beta * market) / n
        error = np.sqrt(residual / (n - 2.0) * n)
        alphas[i, 0] = alpha
        alphas[i, 1] = alpha * n / (error * widening)
        factor = 1.0 / (error * shrinkage)
        variance = 0.0
        for block in range(n_blocks):
            own = sums[block, i] - beta * benchmark[block] - counts[block] * alpha
            scores[row, block] = np.float32(own * factor)
            variance += (own * factor) ** 2
        if alphas[i, 1] >= -hopeless * np.sqrt(variance):
            places[row] = i
            row += 1
    return row


@jit
def count_beyond(
    scores: Float32Array,
    multipliers: Float32Array,
    largest: Float32Array,
    distances: FloatArray,
    counts: IntArray,
) -> None:
    """Count the draws in which the largest of all sets is as far above that of a set as observed.

    Args:
        scores: (n_sets, n_blocks), the errors of each set, summed over blocks.
        multipliers: (n_blocks, n_draws), standard normal numbers.
        largest: (n_draws,), the largest draw over all sets.
        distances: (n_sets,), how far each set is below the best one.
        counts: (n_sets,), filled.
    """
    n_sets, n_blocks = scores.shape
    n_draws = multipliers.shape[1]
    draws = np.empty(n_draws, np.float32)
    for i in range(n_sets):
        draws[:] = np.float32(0.0)
        for b in range(n_blocks):
            weight = scores[i, b]
            for d in range(n_draws):
                draws[d] += weight * multipliers[b, d]
        distance = np.float32(distances[i])
        count = 0
        for d in range(n_draws):
            count += largest[d] - draws[d] >= distance
        counts[i] = count


@jit
def raise_maxima(scores: Float32Array, multipliers: Float32Array, maxima: Float32Array) -> None:
    """Raise the largest draws so far to those of further sets.

    Every draw is summed block by block, so it has the same bits with any other sets around it.

    Args:
        scores: (n_sets, n_blocks), of ``score_sets``.
        multipliers: (n_blocks, n_draws), of ``draw_multipliers``.
        maxima: (n_draws,), raised; -inf before the first set.
    """
    n_sets, n_blocks = scores.shape
    n_draws = multipliers.shape[1]
    draws = np.empty((TOGETHER, n_draws), np.float32)
    for first in range(0, n_sets, TOGETHER):
        # The last set again where fewer are left: it changes no maximum.
        i, j, k, m = (
            first,
            min(first + 1, n_sets - 1),
            min(first + 2, n_sets - 1),
            min(first + 3, n_sets - 1),
        )
        draws[:] = np.float32(0.0)
        for b in range(0, n_blocks - 3, 4):
            i0, i1, i2, i3 = scores[i, b], scores[i, b + 1], scores[i, b + 2], scores[i, b + 3]
            j0, j1, j2, j3 = scores[j, b], scores[j, b + 1], scores[j, b + 2], scores[j, b + 3]
            k0, k1, k2, k3 = scores[k, b], scores[k, b + 1], scores[k, b + 2], scores[k, b + 3]
            m0, m1, m2, m3 = scores[m, b], scores[m, b + 1], scores[m, b + 2], scores[m, b + 3]
            for d in range(n_draws):
                g0, g1 = multipliers[b, d], multipliers[b + 1, d]
                g2, g3 = multipliers[b + 2, d], multipliers[b + 3, d]
                draws[0, d] = draws[0, d] + i0 * g0 + i1 * g1 + i2 * g2 + i3 * g3
                draws[1, d] = draws[1, d] + j0 * g0 + j1 * g1 + j2 * g2 + j3 * g3
                draws[2, d] = draws[2, d] + k0 * g0 + k1 * g1 + k2 * g2 + k3 * g3
                draws[3, d] = draws[3, d] + m0 * g0 + m1 * g1 + m2 * g2 + m3 * g3
        for b in range(n_blocks // 4 * 4, n_blocks):
            i0, j0, k0, m0 = scores[i, b], scores[j, b], scores[k, b], scores[m, b]
            for d in range(n_draws):
                g0 = multipliers[b, d]
                draws[0, d] += i0 * g0
                draws[1, d] += j0 * g0
                draws[2, d] += k0 * g0
                draws[3, d] += m0 * g0
        for d in range(n_draws):
            maxima[d] = max(maxima[d], draws[0, d], draws[1, d], draws[2, d], draws[3, d])
