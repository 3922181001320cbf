"""Returns of the close and what they vary: momentum, volatility, autocorrelation."""

from __future__ import annotations

import numpy as np

from kernels._jit import jit
from kernels.arrays import FloatArray
from kernels.features.windows import average, moments_size, moments_step

RETURN_ROUNDING = 4.0 * float(np.finfo(np.float64).eps)
"""Bound on the error that rounding two prices causes in their log return; less is no move."""


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
# state: bars seen | previous close | moments of the returns


@jit
def volatility_state_size(lookback: int) -> int:
    """Length of the state of ``volatility_step``.

    Args:
        lookback: bars.

    Returns:
        Numbers.
    """
    return 2 + moments_size(lookback)


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
    _, squares = moments_step(state[2:], log_return(previous, close), lookback, False)
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


# --- autocorrelation -----------------------------------------------------------------------------
# state: bars seen | previous close | ring of returns


@jit
def autocorrelation_state_size(lookback: int) -> int:
    """Length of the state of ``autocorrelation_step``.

    Args:
        lookback: bars.

    Returns:
        Numbers.
    """
    return 2 + lookback


@jit
def autocorrelation_step(state: FloatArray, close: float, lookback: int) -> float:
    """Correlation of a log return with the one before it, within the last ``lookback`` returns.

    The sum of the products of neighbouring deviations over the sum of all squared deviations, all
    from the mean of the whole window (Box and Jenkins 1970, Time Series Analysis, section 2.1). It is
    within [-1, 1] and, for returns without memory, -1 / lookback in the mean. Returns that are
    equal, up to the rounding of prices, give 0: they show no dependence. Each bar costs
    O(lookback).

    Args:
        state: the state, shape (autocorrelation_state_size,), changed in place.
        close: price, positive.
        lookback: returns in the window, >= 3.

    Returns:
        The correlation; NaN until it is defined.
    """
    seen = int(state[0])
    newest = (seen - 1) % lookback
    previous = state[1]
    state[0] = seen + 1
    state[1] = close
    if seen == 0:
        return np.nan
    state[2 + newest] = log_return(previous, close)
    if seen < lookback:
        return np.nan
    mean = 0.0
    for n in range(lookback):
        mean = average(state[2 + n], mean, n + 1)
    products, squares, largest = 0.0, 0.0, 0.0
    before = 0.0
    for n in range(lookback):
        slot = newest + 1 + n
        apart = state[2 + (slot if slot < lookback else slot - lookback)] - mean
        products += apart * before
        squares += apart * apart
        largest = max(largest, abs(apart))
        before = apart
    return products / squares if largest > RETURN_ROUNDING else 0.0


@jit
def autocorrelation(close: FloatArray, lookback: int, state: FloatArray, out: FloatArray) -> None:
    """Loop of ``autocorrelation_step``.

    Args:
        close: (n_bars,), prices.
        lookback: returns in the window.
        state: the state, shape (autocorrelation_state_size,), changed in place.
        out: (n_bars,), written.
    """
    for bar in range(len(close)):
        out[bar] = autocorrelation_step(state, close[bar], lookback)
