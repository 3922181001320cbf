"""Sizes of bars: atr, parkinson, garman_klass."""

from __future__ import annotations

import numpy as np

from kernels._jit import jit
from kernels.arrays import FloatArray
from kernels.features.averages import sma_state_size, sma_step
from kernels.features.returns import log_return
from kernels.features.windows import average

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
    state[2] = average(true_range, state[2], min(seen, lookback))
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


# --- volatility from high and low ----------------------------------------------------------------
# state: mean of the squares


@jit
def parkinson_state_size(lookback: int) -> int:
    """Length of the state of ``parkinson_step``.

    Args:
        lookback: bars.

    Returns:
        Numbers.
    """
    return sma_state_size(lookback)


@jit
def parkinson_step(state: FloatArray, high: float, low: float, lookback: int) -> float:
    """Standard deviation per bar from the ranges of the last ``lookback`` bars, not annualized.

    The root of the mean of ln(high / low)^2 / (4 ln 2). It counts only what happens within bars: no
    gap between them. Bars without a range give 0 exactly. Source: Parkinson (1980), "The Extreme
    Value Method for Estimating the Variance of the Rate of Return", The Journal of Business 53(1).

    Args:
        state: the state, shape (parkinson_state_size,), changed in place.
        high, low: prices, positive.
        lookback: bars, >= 1.

    Returns:
        The deviation; NaN until it is defined.
    """
    reach = log_return(low, high)
    return float(np.sqrt(sma_step(state, reach * reach, lookback) / (4.0 * np.log(2.0))))


@jit
def parkinson(
    high: FloatArray, low: FloatArray, lookback: int, state: FloatArray, out: FloatArray
) -> None:
    """Loop of ``parkinson_step``.

    Args:
        high, low: (n_bars,), prices.
        lookback: bars.
        state: the state, shape (parkinson_state_size,), changed in place.
        out: (n_bars,), written.
    """
    for bar in range(len(high)):
        out[bar] = parkinson_step(state, high[bar], low[bar], lookback)


@jit
def garman_klass_state_size(lookback: int) -> int:
    """Length of the state of ``garman_klass_step``.

    Args:
        lookback: bars.

    Returns:
        Numbers.
    """
    return sma_state_size(lookback)


@jit
def garman_klass_step(
    state: FloatArray, open_: float, high: float, low: float, close: float, lookback: int
) -> float:
    """Standard deviation per bar from all four prices of ``lookback`` bars, not annualized.

    The root of the mean of ln(high / low)^2 / 2 - (2 ln 2 - 1) ln(close / open)^2, the form that the
    authors call practical. It counts only what happens within bars: no gap between them. Bars without
    a range give 0 exactly; so does a bar whose close lies beyond its high or low by a rounding.
    Source: Garman and Klass (1980), "On the Estimation of Security Price Volatilities from
    Historical Data", The Journal of Business 53(1).

    Args:
        state: the state, shape (garman_klass_state_size,), changed in place.
        open_, high, low, close: prices, positive.
        lookback: bars, >= 1.

    Returns:
        The deviation; NaN until it is defined.
    """
    reach = log_return(low, high)
    move = log_return(open_, close)
    variance = 0.5 * reach * reach - (2.0 * np.log(2.0) - 1.0) * move * move
    return float(np.sqrt(sma_step(state, max(variance, 0.0), lookback)))


@jit
def garman_klass(
    open_: FloatArray,
    high: FloatArray,
    low: FloatArray,
    close: FloatArray,
    lookback: int,
    state: FloatArray,
    out: FloatArray,
) -> None:
    """Loop of ``garman_klass_step``.

    Args:
        open_, high, low, close: (n_bars,), prices.
        lookback: bars.
        state: the state, shape (garman_klass_state_size,), changed in place.
        out: (n_bars,), written.
    """
    for bar in range(len(close)):
        out[bar] = garman_klass_step(state, open_[bar], high[bar], low[bar], close[bar], lookback)
