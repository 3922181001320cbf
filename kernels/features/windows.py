"""What features share: sliding windows and averages, one value at a time.

Sizes and steps come in pairs, as those of features do. A feature that needs several keeps their states
side by side in its own, and passes each step the rest from its place on: ``state[n:]``.

A running sum that adds what enters a window and subtracts what leaves it drifts. Instead, values are
divided into blocks of ``lookback``. A window consists of the tail of the previous block and the head of
the current one. What is known of the head grows by one value at a time, that of every tail is computed
once when a block is full, and the two are merged. Nothing is ever subtracted from a sum, and a value
that has left the window leaves no trace. The amortized cost per value is O(1).
"""

from __future__ import annotations

import numpy as np

from kernels._jit import jit
from kernels.arrays import FloatArray


@jit
def merge(
    mean_a: float, sum_a: float, n_a: int, mean_b: float, sum_b: float, n_b: int
) -> tuple[float, float]:
    """Mean and sum of squared deviations of two samples together.

    Source: Chan, Golub and LeVeque (1983), "Algorithms for computing the sample variance", The
    American Statistician 37(3), pairwise update. Equal means give that mean and add 0 exactly.

    Args:
        mean_a, mean_b: means of the samples.
        sum_a, sum_b: sums of squared deviations from them.
        n_a, n_b: numbers of values.

    Returns:
        The mean and the sum of squared deviations.
    """
    n = n_a + n_b
    apart = mean_b - mean_a
    return mean_a + apart * n_b / n, sum_a + sum_b + apart * apart * n_a * n_b / n


@jit
def blend(value: float, past: float, keep: float) -> float:
    """Weighted mean ``keep * past + (1 - keep) * value``; exact if both are equal or ``keep`` is 0.

    Args:
        value, past: what is blended.
        keep: weight of ``past``, 0 to 1.

    Returns:
        The mean.
    """
    return value + (past - value) * keep


@jit
def average(value: float, past: float, n: int) -> float:
    """Mean of ``n`` values from the mean of the first n - 1; Wilder's average if n stays the same.

    Args:
        value: the newest value.
        past: the average before it.
        n: number of values, >= 1.

    Returns:
        The average.
    """
    return blend(value, past, (n - 1) / n)


@jit
def ema_keep(n: int, lookback: int) -> float:
    """The weight of the past in an exponential average that begins as a simple one.

    Args:
        n: values so far, this one included.
        lookback: values; the smoothing is 2 / (lookback + 1).
    """
    return (n - 1) / n if n <= lookback else (lookback - 1) / (lookback + 1)


# --- mean and squared deviations -----------------------------------------------------------------
# values seen | origin, mean and squared deviations of the head | origin of the tails | per slot: a
# value of this block, or the mean of the last block's values from that slot on, less their origin |
# per slot: the squared deviations of those


@jit
def moments_size(lookback: int) -> int:
    """Length of the state of ``moments_step``.

    Args:
        lookback: values.

    Returns:
        Numbers.
    """
    return 5 + 2 * lookback


@jit
def moments_step(
    state: FloatArray, value: float, lookback: int, is_price: bool
) -> tuple[float, float]:
    """Mean and squared deviations of the last ``lookback`` values.

    Moves of 1 at a price of 1e9 would lose 9 digits in a mean of prices. So prices are held less one
    of them that is in the window as long as they are: such differences are exact.

    Args:
        state: the state, shape (moments_size,), changed in place.
        value: the newest value.
        lookback: values, >= 1.
        is_price: whether values may be far from 0 compared with their moves.

    Returns:
        The mean less the newest value, and the sum of squared deviations from the mean; equal values
        give 0 and 0. NaN until they are defined.
    """
    seen = int(state[0])
    slot = seen % lookback
    n_head = slot + 1
    if slot == 0:
        state[1] = value if is_price else 0.0
        state[2] = 0.0
        state[3] = 0.0
    newest = value - state[1]
    mean, squares = merge(state[2], state[3], slot, newest, 0.0, 1)
    state[0] = seen + 1
    state[2] = mean
    state[3] = squares
    state[5 + slot] = value
    if n_head == lookback:
        origin = value if is_price else 0.0
        tail, tail_squares = 0.0, 0.0
        for n in range(lookback):
            place = 4 + lookback - n
            tail, tail_squares = merge(tail, tail_squares, n, state[place] - origin, 0.0, 1)
            state[place] = tail
            state[place + lookback] = tail_squares
        state[4] = origin
    elif seen < lookback:
        return np.nan, np.nan
    else:
        rest = 6 + slot
        tail = state[rest] + (state[4] - state[1])
        mean, squares = merge(
            mean, squares, n_head, tail, state[rest + lookback], lookback - n_head
        )
    return mean - newest, squares


# --- weighted mean -------------------------------------------------------------------------------
# values seen | mean and weight of the head | per slot: a value of this block, or the weighted mean of
# the last block's values from that slot on | per slot: their weight


@jit
def weighted_mean_size(lookback: int) -> int:
    """Length of the state of ``weighted_mean_step``.

    Args:
        lookback: values.

    Returns:
        Numbers.
    """
    return 3 + 2 * lookback


@jit
def _merge_weighted(
    mean_a: float, weight_a: float, mean_b: float, weight_b: float
) -> tuple[float, float]:
    """Weighted mean and weight of two samples together; equal means give that mean exactly."""
    weight = weight_a + weight_b
    if weight == 0.0:
        return 0.0, 0.0
    return mean_a + (mean_b - mean_a) * (weight_b / weight), weight


@jit
def weighted_mean_step(
    state: FloatArray, value: float, weight: float, lookback: int
) -> tuple[float, float]:
    """Weighted mean of the last ``lookback`` values; equal values give that value exactly.

    Args:
        state: the state, shape (weighted_mean_size,), changed in place.
        value: the newest value.
        weight: its weight, >= 0.
        lookback: values, >= 1.

    Returns:
        The mean and the sum of the weights; the mean is 0 where all weights are. NaN until they are
        defined.
    """
    seen = int(state[0])
    slot = seen % lookback
    n_head = slot + 1
    if slot == 0:
        state[1] = 0.0
        state[2] = 0.0
    mean, total = _merge_weighted(state[1], state[2], value, weight)
    state[0] = seen + 1
    state[1] = mean
    state[2] = total
    state[3 + slot] = value
    state[3 + slot + lookback] = weight
    if n_head == lookback:
        tail, tail_weight = 0.0, 0.0
        for n in range(lookback):
            place = 2 + lookback - n
            tail, tail_weight = _merge_weighted(
                tail, tail_weight, state[place], state[place + lookback]
            )
            state[place] = tail
            state[place + lookback] = tail_weight
        return mean, total
    if seen < lookback:
        return np.nan, np.nan
    rest = 4 + slot
    return _merge_weighted(mean, total, state[rest], state[rest + lookback])


# --- highest -------------------------------------------------------------------------------------
# values seen | highest of the head | per slot: a value of this block, or the highest of the last
# block's values from that slot on


@jit
def highest_size(lookback: int) -> int:
    """Length of the state of ``highest_step``.

    Args:
        lookback: values.

    Returns:
        Numbers.
    """
    return 2 + lookback


@jit
def highest_step(state: FloatArray, value: float, lookback: int) -> float:
    """Highest of the last ``lookback`` values; of their negatives it is the lowest, negated.

    Args:
        state: the state, shape (highest_size,), changed in place.
        value: the newest value.
        lookback: values, >= 1.

    Returns:
        The highest value; NaN until it is defined.
    """
    seen = int(state[0])
    slot = seen % lookback
    head = max(state[1], value) if slot > 0 else value
    state[0] = seen + 1
    state[1] = head
    state[2 + slot] = value
    if slot + 1 == lookback:
        for n in range(1, lookback):
            place = 1 + lookback - n
            state[place] = max(state[place], state[place + 1])
        return head
    if seen < lookback:
        return np.nan
    return float(max(head, state[3 + slot]))
