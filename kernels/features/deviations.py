"""How far a price is from its mean, in units of what is usual: zscore, cci."""

from __future__ import annotations

import numpy as np

from kernels._jit import jit
from kernels.arrays import FloatArray
from kernels.features.windows import average, moments_size, moments_step

# --- z-score -------------------------------------------------------------------------------------
# state: moments of the closes


@jit
def zscore_state_size(lookback: int) -> int:
    """Length of the state of ``zscore_step``.

    Args:
        lookback: bars.

    Returns:
        Numbers.
    """
    return moments_size(lookback)


@jit
def zscore_step(state: FloatArray, close: float, lookback: int) -> float:
    """Standard deviations by which the close is above the mean of the last ``lookback`` closes.

    The deviation has ddof 1, as a rolling deviation in pandas. A constant price gives 0.

    Args:
        state: the state, shape (zscore_state_size,), changed in place.
        close: price.
        lookback: bars, >= 2.

    Returns:
        The score; NaN until it is defined.
    """
    mean, squares = moments_step(state, close, lookback, True)
    return 0.0 if squares == 0.0 else -mean / np.sqrt(squares / (lookback - 1))


@jit
def zscore(close: FloatArray, lookback: int, state: FloatArray, out: FloatArray) -> None:
    """Loop of ``zscore_step``.

    Args:
        close: (n_bars,), prices.
        lookback: bars.
        state: the state, shape (zscore_state_size,), changed in place.
        out: (n_bars,), written.
    """
    for bar in range(len(close)):
        out[bar] = zscore_step(state, close[bar], lookback)


# --- commodity channel index ---------------------------------------------------------------------
# state: bars seen | ring of closes | ring of what the typical price is above the close


@jit
def cci_state_size(lookback: int) -> int:
    """Length of the state of ``cci_step``.

    Args:
        lookback: bars.

    Returns:
        Numbers.
    """
    return 1 + 2 * lookback


@jit
def cci_step(state: FloatArray, high: float, low: float, close: float, lookback: int) -> float:
    """Commodity channel index: the typical price above its mean, in 0.015 mean absolute deviations.

    The typical price is the mean of high, low and close. Mean and deviation are of the last ``lookback``
    bars, as TA-Lib's CCI. Where typical prices are equal it is 0. Each bar costs O(lookback).
    Source: Lambert (1980), "Commodity Channel Index: Tools for Trading Cyclic Trends", Commodities.

    Args:
        state: the state, shape (cci_state_size,), changed in place.
        high, low, close: prices.
        lookback: bars, >= 2.

    Returns:
        The index; NaN until it is defined.
    """
    seen = int(state[0])
    newest = 1 + seen % lookback
    # Differences of near prices are exact, their mean of three is not.
    above = ((high - close) + (low - close)) / 3.0
    state[0] = seen + 1
    state[newest] = close
    state[newest + lookback] = above
    if seen + 1 < lookback:
        return np.nan
    mean = 0.0
    for n in range(lookback):
        mean = average((state[1 + n] - close) + state[1 + n + lookback], mean, n + 1)
    deviation = 0.0
    for n in range(lookback):
        deviation += abs((state[1 + n] - close) + state[1 + n + lookback] - mean)
    return 0.0 if deviation == 0.0 else (above - mean) / (0.015 * (deviation / lookback))


@jit
def cci(
    high: FloatArray,
    low: FloatArray,
    close: FloatArray,
    lookback: int,
    state: FloatArray,
    out: FloatArray,
) -> None:
    """Loop of ``cci_step``.

    Args:
        high, low, close: (n_bars,), prices.
        lookback: bars.
        state: the state, shape (cci_state_size,), changed in place.
        out: (n_bars,), written.
    """
    for bar in range(len(close)):
        out[bar] = cci_step(state, high[bar], low[bar], close[bar], lookback)
