"""The range of recent highs and lows, and the place of the close in it: donchian, stochastic."""

from __future__ import annotations

import numpy as np

from kernels._jit import jit
from kernels.arrays import FloatArray
from kernels.features.averages import sma_state_size, sma_step
from kernels.features.windows import highest_size, highest_step

# --- donchian channel ----------------------------------------------------------------------------
# state: highest of the highs; lowest: highest of the negative lows; both: one after the other


@jit
def donchian_high_state_size(lookback: int) -> int:
    """Length of the state of ``donchian_high_step``.

    Args:
        lookback: bars.

    Returns:
        Numbers.
    """
    return highest_size(lookback)


@jit
def donchian_high_step(state: FloatArray, high: float, lookback: int) -> float:
    """Highest high of the last ``lookback`` bars, this one included.

    So the close is never above it by more than a rounding. A rule that waits for a close above the
    highest high before it compares with the value of the bar before.

    Args:
        state: the state, shape (donchian_high_state_size,), changed in place.
        high: price.
        lookback: bars, >= 1.

    Returns:
        A price; NaN until it is defined.
    """
    return highest_step(state, high, lookback)


@jit
def donchian_high(high: FloatArray, lookback: int, state: FloatArray, out: FloatArray) -> None:
    """Loop of ``donchian_high_step``.

    Args:
        high: (n_bars,), prices.
        lookback: bars.
        state: the state, shape (donchian_high_state_size,), changed in place.
        out: (n_bars,), written.
    """
    for bar in range(len(high)):
        out[bar] = donchian_high_step(state, high[bar], lookback)


@jit
def donchian_low_state_size(lookback: int) -> int:
    """Length of the state of ``donchian_low_step``.

    Args:
        lookback: bars.

    Returns:
        Numbers.
    """
    return highest_size(lookback)


@jit
def donchian_low_step(state: FloatArray, low: float, lookback: int) -> float:
    """Lowest low of the last ``lookback`` bars, this one included.

    Args:
        state: the state, shape (donchian_low_state_size,), changed in place.
        low: price.
        lookback: bars, >= 1.

    Returns:
        A price; NaN until it is defined.
    """
    return -highest_step(state, -low, lookback)


@jit
def donchian_low(low: FloatArray, lookback: int, state: FloatArray, out: FloatArray) -> None:
    """Loop of ``donchian_low_step``.

    Args:
        low: (n_bars,), prices.
        lookback: bars.
        state: the state, shape (donchian_low_state_size,), changed in place.
        out: (n_bars,), written.
    """
    for bar in range(len(low)):
        out[bar] = donchian_low_step(state, low[bar], lookback)


@jit
def donchian_state_size(lookback: int) -> int:
    """Length of the state of ``donchian_step``.

    Args:
        lookback: bars.

    Returns:
        Numbers.
    """
    return 2 * highest_size(lookback)


@jit
def donchian_step(state: FloatArray, high: float, low: float, close: float, lookback: int) -> float:
    """Place of the close between the lowest low and the highest high of ``lookback`` bars, 0 to 1.

    This bar is one of them. Where they are equal it is 0.5.

    Args:
        state: the state, shape (donchian_state_size,), changed in place.
        high, low, close: prices.
        lookback: bars, >= 1.

    Returns:
        A fraction; NaN until it is defined.
    """
    highest = highest_step(state, high, lookback)
    lowest = -highest_step(state[highest_size(lookback) :], -low, lookback)
    if np.isnan(highest):
        return np.nan
    if highest <= lowest:
        return 0.5
    # High and low of a file may miss the close by a rounding.
    return min(max((close - lowest) / (highest - lowest), 0.0), 1.0)


@jit
def donchian(
    high: FloatArray,
    low: FloatArray,
    close: FloatArray,
    lookback: int,
    state: FloatArray,
    out: FloatArray,
) -> None:
    """Loop of ``donchian_step``.

    Args:
        high, low, close: (n_bars,), prices.
        lookback: bars.
        state: the state, shape (donchian_state_size,), changed in place.
        out: (n_bars,), written.
    """
    for bar in range(len(close)):
        out[bar] = donchian_step(state, high[bar], low[bar], close[bar], lookback)


# --- stochastic oscillator -----------------------------------------------------------------------
# state: that of donchian | mean of its values; d: | mean of these


@jit
def stochastic_k_state_size(lookback: int, slow_k: int) -> int:
    """Length of the state of ``stochastic_k_step``.

    Args:
        lookback, slow_k: bars.

    Returns:
        Numbers.
    """
    return donchian_state_size(lookback) + sma_state_size(slow_k)


@jit
def stochastic_k_step(
    state: FloatArray, high: float, low: float, close: float, lookback: int, slow_k: int
) -> float:
    """Stochastic oscillator %K, 0 to 100: 100 times ``donchian_step``, averaged over ``slow_k`` bars.

    The slow %K of TA-Lib's STOCH with simple averages; with a ``slow_k`` of 1 it is the fast %K. A
    window without any range counts as 50, because neither side is stronger (TA-Lib counts 0, which
    would read as oversold).

    Args:
        state: the state, shape (stochastic_k_state_size,), changed in place.
        high, low, close: prices.
        lookback, slow_k: bars, >= 1.

    Returns:
        The oscillator; NaN until it is defined.
    """
    place = donchian_step(state, high, low, close, lookback)
    if np.isnan(place):
        return np.nan
    return sma_step(state[donchian_state_size(lookback) :], 100.0 * place, slow_k)


@jit
def stochastic_k(
    high: FloatArray,
    low: FloatArray,
    close: FloatArray,
    lookback: int,
    slow_k: int,
    state: FloatArray,
    out: FloatArray,
) -> None:
    """Loop of ``stochastic_k_step``.

    Args:
        high, low, close: (n_bars,), prices.
        lookback, slow_k: bars.
        state: the state, shape (stochastic_k_state_size,), changed in place.
        out: (n_bars,), written.
    """
    for bar in range(len(close)):
        out[bar] = stochastic_k_step(state, high[bar], low[bar], close[bar], lookback, slow_k)


@jit
def stochastic_d_state_size(lookback: int, slow_k: int, slow_d: int) -> int:
    """Length of the state of ``stochastic_d_step``.

    Args:
        lookback, slow_k, slow_d: bars.

    Returns:
        Numbers.
    """
    return stochastic_k_state_size(lookback, slow_k) + sma_state_size(slow_d)


@jit
def stochastic_d_step(
    state: FloatArray,
    high: float,
    low: float,
    close: float,
    lookback: int,
    slow_k: int,
    slow_d: int,
) -> float:
    """Stochastic oscillator %D, 0 to 100: average of the last ``slow_d`` values of %K.

    Args:
        state: the state, shape (stochastic_d_state_size,), changed in place.
        high, low, close: prices.
        lookback, slow_k, slow_d: bars, >= 1.

    Returns:
        The oscillator; NaN until it is defined.
    """
    k = stochastic_k_step(state, high, low, close, lookback, slow_k)
    if np.isnan(k):
        return np.nan
    return sma_step(state[stochastic_k_state_size(lookback, slow_k) :], k, slow_d)


@jit
def stochastic_d(
    high: FloatArray,
    low: FloatArray,
    close: FloatArray,
    lookback: int,
    slow_k: int,
    slow_d: int,
    state: FloatArray,
    out: FloatArray,
) -> None:
    """Loop of ``stochastic_d_step``.

    Args:
        high, low, close: (n_bars,), prices.
        lookback, slow_k, slow_d: bars.
        state: the state, shape (stochastic_d_state_size,), changed in place.
        out: (n_bars,), written.
    """
    for bar in range(len(close)):
        out[bar] = stochastic_d_step(
            state, high[bar], low[bar], close[bar], lookback, slow_k, slow_d
        )
