"""Averages of the close and their difference: sma, ema, macd, macd_signal, macd_histogram."""

from __future__ import annotations

import numpy as np

from kernels._jit import jit
from kernels.arrays import FloatArray
from kernels.features.windows import blend, ema_keep, merge

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
    mean, _ = merge(state[1], 0.0, slot, close, 0.0, 1)
    state[0] = seen + 1
    state[1] = mean
    state[2 + slot] = close
    if n_head == lookback:
        tail = 0.0
        for n in range(lookback):
            place = 1 + lookback - n
            tail, _ = merge(tail, 0.0, n, state[place], 0.0, 1)
            state[place] = tail
        state[1] = 0.0
        return mean
    if seen < lookback:
        return np.nan
    merged, _ = merge(mean, 0.0, n_head, state[3 + slot], 0.0, lookback - n_head)
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
    average = blend(close, state[1], ema_keep(seen, lookback))
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


# --- moving average convergence/divergence -------------------------------------------------------
# state: bars seen | previous close | of the fast average: bars seen, average less close | of the slow
# one: the same | of the signal: values seen, average


@jit
def macd_state_size(fast: int, slow: int) -> int:
    """Length of the state of ``macd_step``.

    Args:
        fast, slow: bars.

    Returns:
        Numbers.
    """
    return 6


@jit
def _gap_step(state: FloatArray, change: float, lookback: int) -> float:
    """The exponential average of closes less the newest close, from the change of the close.

    The average itself would carry the rounding of the price's level into the difference of two.
    """
    seen = int(state[0]) + 1
    gap = float((state[1] - change) * ema_keep(seen, lookback))
    state[0] = seen
    state[1] = gap
    return gap


@jit
def macd_step(state: FloatArray, close: float, fast: int, slow: int) -> float:
    """Fast exponential average of closes less the slow one, in price units.

    Both have their first value at bar ``max(fast, slow) - 1``, the simple average of the ``fast`` and
    of the ``slow`` closes up to it, as in TA-Lib. With ``fast`` above ``slow`` the sign turns around
    (TA-Lib would swap the two). A constant price gives 0 exactly.

    Args:
        state: the state, shape (macd_state_size,), changed in place.
        close: price.
        fast, slow: bars, >= 1.

    Returns:
        The difference; NaN until it is defined.
    """
    seen = int(state[0])
    change = close - state[1]
    state[0] = seen + 1
    state[1] = close
    longest = max(fast, slow)
    fast_gap = _gap_step(state[2:], change, fast) if seen >= longest - fast else 0.0
    slow_gap = _gap_step(state[4:], change, slow) if seen >= longest - slow else 0.0
    return fast_gap - slow_gap if seen >= longest - 1 else np.nan


@jit
def macd(close: FloatArray, fast: int, slow: int, state: FloatArray, out: FloatArray) -> None:
    """Loop of ``macd_step``.

    Args:
        close: (n_bars,), prices.
        fast, slow: bars.
        state: the state, shape (macd_state_size,), changed in place.
        out: (n_bars,), written.
    """
    for bar in range(len(close)):
        out[bar] = macd_step(state, close[bar], fast, slow)


@jit
def _macd_and_signal(
    state: FloatArray, close: float, fast: int, slow: int, smooth: int
) -> tuple[float, float]:
    """The difference and its own exponential average."""
    difference = macd_step(state, close, fast, slow)
    if np.isnan(difference):
        return np.nan, np.nan
    return difference, ema_step(state[6:], difference, smooth)


@jit
def macd_signal_state_size(fast: int, slow: int, smooth: int) -> int:
    """Length of the state of ``macd_signal_step``.

    Args:
        fast, slow, smooth: bars.

    Returns:
        Numbers.
    """
    return 8


@jit
def macd_signal_step(state: FloatArray, close: float, fast: int, slow: int, smooth: int) -> float:
    """Exponential average of ``macd_step`` over ``smooth`` bars, in price units.

    It starts from the simple average of the first ``smooth`` differences, as in TA-Lib.

    Args:
        state: the state, shape (macd_signal_state_size,), changed in place.
        close: price.
        fast, slow, smooth: bars, >= 1.

    Returns:
        The average; NaN until it is defined.
    """
    return _macd_and_signal(state, close, fast, slow, smooth)[1]


@jit
def macd_signal(
    close: FloatArray, fast: int, slow: int, smooth: int, state: FloatArray, out: FloatArray
) -> None:
    """Loop of ``macd_signal_step``.

    Args:
        close: (n_bars,), prices.
        fast, slow, smooth: bars.
        state: the state, shape (macd_signal_state_size,), changed in place.
        out: (n_bars,), written.
    """
    for bar in range(len(close)):
        out[bar] = macd_signal_step(state, close[bar], fast, slow, smooth)


@jit
def macd_histogram_state_size(fast: int, slow: int, smooth: int) -> int:
    """Length of the state of ``macd_histogram_step``.

    Args:
        fast, slow, smooth: bars.

    Returns:
        Numbers.
    """
    return 8


@jit
def macd_histogram_step(
    state: FloatArray, close: float, fast: int, slow: int, smooth: int
) -> float:
    """``macd_step`` less ``macd_signal_step``, in price units.

    Args:
        state: the state, shape (macd_histogram_state_size,), changed in place.
        close: price.
        fast, slow, smooth: bars, >= 1.

    Returns:
        The difference; NaN until it is defined.
    """
    difference, signal = _macd_and_signal(state, close, fast, slow, smooth)
    return difference - signal


@jit
def macd_histogram(
    close: FloatArray, fast: int, slow: int, smooth: int, state: FloatArray, out: FloatArray
) -> None:
    """Loop of ``macd_histogram_step``.

    Args:
        close: (n_bars,), prices.
        fast, slow, smooth: bars.
        state: the state, shape (macd_histogram_state_size,), changed in place.
        out: (n_bars,), written.
    """
    for bar in range(len(close)):
        out[bar] = macd_histogram_step(state, close[bar], fast, slow, smooth)
