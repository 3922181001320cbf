"""Features of one symbol's bars, one bar at a time.

Each feature has a step, which takes one bar and the state carried so far, and a form over arrays, which
is the loop over that step. The state is a flat float64 array of the size that ``<name>_state_size``
returns. Zeros are a fresh state, and a step changes the state in place. So bars [a, b) followed by
[b, c) give the bits of [a, c), and one bar at a time gives the bits of the whole array.

All lookbacks are in bars. A value that is not yet defined is NaN. The first defined bar, counted from
0:

========== ============ ===========================================
feature    first bar    reason
========== ============ ===========================================
sma        lookback - 1 lookback closes
ema        lookback - 1 starts from the average of these closes
momentum   lookback     the close lookback bars ago
rsi        lookback     lookback changes of the close
volatility lookback     lookback returns
atr        lookback     true ranges need the close before
========== ============ ===========================================

A running sum that adds what enters a window and subtracts what leaves it drifts. Instead, bars are
divided into blocks of ``lookback``. A window consists of the tail of the previous block and the head of
the current one. The moments of the head grow by one value per bar, those of every tail are computed
once when a block is full, and the two are merged. Nothing is ever subtracted from a sum, and a value
that has left the window leaves no trace. The amortized cost per bar is O(1).
"""

from __future__ import annotations

import numpy as np

from kernels._jit import jit
from kernels.arrays import FloatArray


@jit
def log_return(previous: float, close: float) -> float:
    """Natural logarithm of ``close / previous``, to full relative accuracy.

    The difference of near prices is exact and their quotient is not. At a price of 1e9 that moves
    by 1, ``log(close / previous)`` has 7 correct digits and ``log1p`` of the exact change has 16.

    Args:
        previous, close: prices, positive.

    Returns:
        The log return.
    """
    change = close - previous
    if abs(change) < 0.5 * previous:
        return float(np.log1p(change / previous))
    return float(np.log(close / previous))


@jit
def _merge(
    mean_a: float, sum_a: float, n_a: int, mean_b: float, sum_b: float, n_b: int
) -> tuple[float, float]:
    """Mean and sum of squared deviations of two samples together.

    Source: Chan, Golub and LeVeque (1983), "Algorithms for computing the sample variance", The
    American Statistician 37(3), pairwise update. Equal means give that mean and add 0 exactly.
    """
    n = n_a + n_b
    apart = mean_b - mean_a
    return mean_a + apart * n_b / n, sum_a + sum_b + apart * apart * n_a * n_b / n


@jit
def _blend(value: float, past: float, keep: float) -> float:
    """Weighted mean ``keep * past + (1 - keep) * value``; exact if both are equal or ``keep`` is 0."""
    return value + (past - value) * keep


@jit
def _average(value: float, past: float, n: int) -> float:
    """Mean of ``n`` values from the mean of the first n - 1; Wilder's average if n stays the same."""
    return _blend(value, past, (n - 1) / n)


# --- simple moving average -----------------------------------------------------------------------
# state: bars seen | mean of the head | per slot: a close of this block, or the mean of the last
# block's closes from that slot on


@jit
def sma_state_size(lookback: int) -> int:
    """Length of the state of ``sma_step``.

    Args:
        lookback: bars.

    Returns:
        Numbers.
    """
    return 2 + lookback


@jit
def sma_step(state: FloatArray, close: float, lookback: int) -> float:
    """Simple average of the last ``lookback`` closes, in price units.

    Equal closes give that close exactly, so that two averages of a constant price never cross.

    Args:
        state: the state, shape (sma_state_size,), changed in place.
        close: price.
        lookback: bars, >= 1.

    Returns:
        The average; NaN until it is defined.
    """
    seen = int(state[0])
    slot = seen % lookback
    n_head = slot + 1
    mean, _ = _merge(state[1], 0.0, slot, close, 0.0, 1)
    state[0] = seen + 1
    state[1] = mean
    state[2 + slot] = close
    if n_head == lookback:
        tail = 0.0
        for n in range(lookback):
            place = 1 + lookback - n
            tail, _ = _merge(tail, 0.0, n, state[place], 0.0, 1)
            state[place] = tail
        state[1] = 0.0
        return mean
    if seen < lookback:
        return np.nan
    merged, _ = _merge(mean, 0.0, n_head, state[3 + slot], 0.0, lookback - n_head)
    return merged


@jit
def sma(close: FloatArray, lookback: int, state: FloatArray, out: FloatArray) -> None:
    """Loop of ``sma_step``.

    Args:
        close: (n_bars,), prices.
        lookback: bars.
        state: the state, shape (sma_state_size,), changed in place.
        out: (n_bars,), written.
    """
    for bar in range(len(close)):
        out[bar] = sma_step(state, close[bar], lookback)


# --- exponential moving average ------------------------------------------------------------------
# state: bars seen | average


@jit
def ema_state_size(lookback: int) -> int:
    """Length of the state of ``ema_step``.

    Args:
        lookback: bars.

    Returns:
        Numbers.
    """
    return 2


@jit
def ema_step(state: FloatArray, close: float, lookback: int) -> float:
    """Exponential average of closes, in price units: smoothing 2 / (lookback + 1).

    It starts from the simple average of the first ``lookback`` closes, as in TA-Lib.

    Args:
        state: the state, shape (ema_state_size,), changed in place.
        close: price.
        lookback: bars, >= 1.

    Returns:
        The average; NaN until it is defined.
    """
    seen = int(state[0]) + 1
    if seen <= lookback:
        average = _average(close, state[1], seen)
    else:
        average = _blend(close, state[1], (lookback - 1) / (lookback + 1))
    state[0] = seen
    state[1] = average
    return average if seen >= lookback else np.nan


@jit
def ema(close: FloatArray, lookback: int, state: FloatArray, out: FloatArray) -> None:
    """Loop of ``ema_step``.

    Args:
        close: (n_bars,), prices.
        lookback: bars.
        state: the state, shape (ema_state_size,), changed in place.
        out: (n_bars,), written.
    """
    for bar in range(len(close)):
        out[bar] = ema_step(state, close[bar], lookback)


# --- relative strength index ---------------------------------------------------------------------
# state: bars seen | previous close | average gain | average loss


@jit
def rsi_state_size(lookback: int) -> int:
    """Length of the state of ``rsi_step``.

    Args:
        lookback: bars.

    Returns:
        Numbers.
    """
    return 4


@jit
def rsi_step(state: FloatArray, close: float, lookback: int) -> float:
    """Relative strength index, 0 to 100.

    Averages of gains and losses are simple over the first ``lookback`` changes, then Wilder's.
    Without losses it is 100. Without any move it is 50, because neither side is stronger (TA-Lib
    gives 0, which would read as oversold). Source: Wilder (1978), New Concepts in Technical Trading
    Systems, section VI.

    Args:
        state: the state, shape (rsi_state_size,), changed in place.
        close: price.
        lookback: bars, >= 1.

    Returns:
        The index; NaN until it is defined.
    """
    seen = int(state[0])
    change = close - state[1]
    state[0] = seen + 1
    state[1] = close
    if seen == 0:
        return np.nan
    n = min(seen, lookback)
    gain = _average(max(change, 0.0), state[2], n)
    loss = _average(max(-change, 0.0), state[3], n)
    state[2] = gain
    state[3] = loss
    if seen < lookback:
        return np.nan
    if gain + loss == 0.0:
        return 50.0
    return 100.0 * (gain / (gain + loss))


@jit
def rsi(close: FloatArray, lookback: int, state: FloatArray, out: FloatArray) -> None:
    """Loop of ``rsi_step``.

    Args:
        close: (n_bars,), prices.
        lookback: bars.
        state: the state, shape (rsi_state_size,), changed in place.
        out: (n_bars,), written.
    """
    for bar in range(len(close)):
        out[bar] = rsi_step(state, close[bar], lookback)


# --- momentum ------------------------------------------------------------------------------------
# state: bars seen | ring of closes


@jit
def momentum_state_size(lookback: int) -> int:
    """Length of the state of ``momentum_step``.

    Args:
        lookback: bars.

    Returns:
        Numbers.
    """
    return 1 + lookback


@jit
def momentum_step(state: FloatArray, close: float, lookback: int) -> float:
    """Return over ``lookback`` bars: ``close[t] / close[t - lookback] - 1``.

    Args:
        state: the state, shape (momentum_state_size,), changed in place.
        close: price, positive.
        lookback: bars, >= 1.

    Returns:
        A fraction; NaN until it is defined.
    """
    seen = int(state[0])
    place = 1 + seen % lookback
    past = state[place]
    state[0] = seen + 1
    state[place] = close
    return close / past - 1.0 if seen >= lookback else np.nan


@jit
def momentum(close: FloatArray, lookback: int, state: FloatArray, out: FloatArray) -> None:
    """Loop of ``momentum_step``.

    Args:
        close: (n_bars,), prices.
        lookback: bars.
        state: the state, shape (momentum_state_size,), changed in place.
        out: (n_bars,), written.
    """
    for bar in range(len(close)):
        out[bar] = momentum_step(state, close[bar], lookback)


# --- volatility ----------------------------------------------------------------------------------
# state: bars seen | previous close | mean and squared deviations of the head | per slot: a return
# of this block, or the mean of the last block's returns from that slot on | per slot: the squared
# deviations of those


@jit
def volatility_state_size(lookback: int) -> int:
    """Length of the state of ``volatility_step``.

    Args:
        lookback: bars.

    Returns:
        Numbers.
    """
    return 4 + 2 * lookback


@jit
def volatility_step(state: FloatArray, close: float, lookback: int) -> float:
    """Standard deviation (ddof 1) of the last ``lookback`` log returns, per bar, not annualized.

    Equal returns give 0 exactly.

    Args:
        state: the state, shape (volatility_state_size,), changed in place.
        close: price, positive.
        lookback: bars, >= 2.

    Returns:
        The deviation; NaN until it is defined.
    """
    seen = int(state[0])
    previous = state[1]
    state[0] = seen + 1
    state[1] = close
    if seen == 0:
        return np.nan
    slot = (seen - 1) % lookback
    n_head = slot + 1
    change = log_return(previous, close)
    mean, squares = _merge(state[2], state[3], slot, change, 0.0, 1)
    state[2] = mean
    state[3] = squares
    state[4 + slot] = change
    if n_head == lookback:
        tail, tail_squares = 0.0, 0.0
        for n in range(lookback):
            place = 3 + lookback - n
            tail, tail_squares = _merge(tail, tail_squares, n, state[place], 0.0, 1)
            state[place] = tail
            state[place + lookback] = tail_squares
        state[2] = 0.0
        state[3] = 0.0
    elif seen < lookback:
        return np.nan
    else:
        rest = 5 + slot
        _, squares = _merge(
            mean, squares, n_head, state[rest], state[rest + lookback], lookback - n_head
        )
    return float(np.sqrt(squares / (lookback - 1)))


@jit
def volatility(close: FloatArray, lookback: int, state: FloatArray, out: FloatArray) -> None:
    """Loop of ``volatility_step``.

    Args:
        close: (n_bars,), prices.
        lookback: bars.
        state: the state, shape (volatility_state_size,), changed in place.
        out: (n_bars,), written.
    """
    for bar in range(len(close)):
        out[bar] = volatility_step(state, close[bar], lookback)


# --- average true range --------------------------------------------------------------------------
# state: bars seen | previous close | average


@jit
def atr_state_size(lookback: int) -> int:
    """Length of the state of ``atr_step``.

    Args:
        lookback: bars.

    Returns:
        Numbers.
    """
    return 3


@jit
def atr_step(state: FloatArray, high: float, low: float, close: float, lookback: int) -> float:
    """Average true range, in price units.

    The first value is the simple average of the true ranges of bars 1 to ``lookback``, later ones
    are Wilder's average. Source: Wilder (1978), New Concepts in Technical Trading Systems, section
    III.

    Args:
        state: the state, shape (atr_state_size,), changed in place.
        high, low, close: prices.
        lookback: bars, >= 1.

    Returns:
        The range; NaN until it is defined.
    """
    seen = int(state[0])
    previous = state[1]
    state[0] = seen + 1
    state[1] = close
    if seen == 0:
        return np.nan
    true_range = max(high, previous) - min(low, previous)
    state[2] = _average(true_range, state[2], min(seen, lookback))
    return state[2] if seen >= lookback else np.nan


@jit
def atr(
    high: FloatArray,
    low: FloatArray,
    close: FloatArray,
    lookback: int,
    state: FloatArray,
    out: FloatArray,
) -> None:
    """Loop of ``atr_step``.

    Args:
        high, low, close: (n_bars,), prices.
        lookback: bars.
        state: the state, shape (atr_state_size,), changed in place.
        out: (n_bars,), written.
    """
    for bar in range(len(close)):
        out[bar] = atr_step(state, high[bar], low[bar], close[bar], lookback)
