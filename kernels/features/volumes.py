"""What prices did where the volume was: vwap, obv, mfi.

An unknown volume is 0, as in the bars; NaN and infinity count as 0 too. So a symbol without volume has
the values that each feature gives for a window without any.
"""

from __future__ import annotations

import numpy as np

from kernels._jit import jit
from kernels.arrays import FloatArray
from kernels.features.averages import sma_state_size, sma_step
from kernels.features.windows import (
    weighted_mean_size,
    weighted_mean_step,
)


@jit
def _known(volume: float) -> float:
    """The volume; 0 where it is NaN or infinite."""
    return volume if 0.0 < volume < np.inf else 0.0


@jit
def _typical(high: float, low: float, close: float) -> float:
    """The mean of high, low and close; exact if they are equal."""
    return close + ((high - close) + (low - close)) / 3.0


# --- volume-weighted average price ---------------------------------------------------------------
# state: mean of the typical prices | their mean weighted by volume


@jit
def vwap_state_size(lookback: int) -> int:
    """Length of the state of ``vwap_step``.

    Args:
        lookback: bars.

    Returns:
        Numbers.
    """
    return sma_state_size(lookback) + weighted_mean_size(lookback)


@jit
def vwap_step(
    state: FloatArray, high: float, low: float, close: float, volume: float, lookback: int
) -> float:
    """Mean typical price of the last ``lookback`` bars, weighted by volume, in price units.

    The typical price is the mean of high, low and close. Without any volume in the window all bars weigh
    the same. A constant price gives that price exactly.

    Args:
        state: the state, shape (vwap_state_size,), changed in place.
        high, low, close: prices.
        volume: units.
        lookback: bars, >= 1.

    Returns:
        A price; NaN until it is defined.
    """
    typical = _typical(high, low, close)
    plain = sma_step(state, typical, lookback)
    weighted, weight = weighted_mean_step(
        state[sma_state_size(lookback) :], typical, _known(volume), lookback
    )
    return plain if weight == 0.0 else weighted


@jit
def vwap(
    high: FloatArray,
    low: FloatArray,
    close: FloatArray,
    volume: FloatArray,
    lookback: int,
    state: FloatArray,
    out: FloatArray,
) -> None:
    """Loop of ``vwap_step``.

    Args:
        high, low, close: (n_bars,), prices.
        volume: (n_bars,), units.
        lookback: bars.
        state: the state, shape (vwap_state_size,), changed in place.
        out: (n_bars,), written.
    """
    for bar in range(len(close)):
        out[bar] = vwap_step(state, high[bar], low[bar], close[bar], volume[bar], lookback)


# --- on-balance volume ---------------------------------------------------------------------------
# state: bars seen | previous close | mean of the directions, weighted by volume


@jit
def obv_state_size(lookback: int) -> int:
    """Length of the state of ``obv_step``.

    Args:
        lookback: bars.

    Returns:
        Numbers.
    """
    return 2 + weighted_mean_size(lookback)


@jit
def obv_step(state: FloatArray, close: float, volume: float, lookback: int) -> float:
    """Balance of volume over the last ``lookback`` bars, -1 to 1: up less down, over all of it.

    The volume of a bar counts up if its close is above the one before, down if it is below. On-balance
    volume proper is the sum since the first bar, so it depends on where the data begin, and its unit
    on the symbol. This is its change over ``lookback`` bars by the volume of these bars, which depends
    on neither. Without any volume it is 0. Source: Granville (1963), New Key to Stock Market Profits.

    Args:
        state: the state, shape (obv_state_size,), changed in place.
        close: price.
        volume: units.
        lookback: bars, >= 1.

    Returns:
        A fraction; NaN until it is defined.
    """
    seen = int(state[0])
    change = close - state[1]
    state[0] = seen + 1
    state[1] = close
    if seen == 0:
        return np.nan
    return weighted_mean_step(state[2:], np.sign(change), _known(volume), lookback)[0]


@jit
def obv(
    close: FloatArray, volume: FloatArray, lookback: int, state: FloatArray, out: FloatArray
) -> None:
    """Loop of ``obv_step``.

    Args:
        close: (n_bars,), prices.
        volume: (n_bars,), units.
        lookback: bars.
        state: the state, shape (obv_state_size,), changed in place.
        out: (n_bars,), written.
    """
    for bar in range(len(close)):
        out[bar] = obv_step(state, close[bar], volume[bar], lookback)


# --- money flow index ----------------------------------------------------------------------------
# state: bars seen | previous typical price | mean of the directions, weighted by money


@jit
def mfi_state_size(lookback: int) -> int:
    """Length of the state of ``mfi_step``.

    Args:
        lookback: bars.

    Returns:
        Numbers.
    """
    return 2 + weighted_mean_size(lookback)


@jit
def mfi_step(
    state: FloatArray, high: float, low: float, close: float, volume: float, lookback: int
) -> float:
    """Money flow index, 0 to 100: money of bars that rise as a share of those that rise or fall.

    The money of a bar is its typical price, the mean of high, low and close, times its volume. A bar
    rises if its typical price is above that of the bar before. The last ``lookback`` bars count, as
    in TA-Lib's MFI. Without any such money it is 50, because neither side is stronger (TA-Lib gives
    0, also for less than one unit of money).

    Args:
        state: the state, shape (mfi_state_size,), changed in place.
        high, low, close: prices.
        volume: units.
        lookback: bars, >= 1.

    Returns:
        The index; NaN until it is defined.
    """
    seen = int(state[0])
    typical = _typical(high, low, close)
    change = typical - state[1]
    state[0] = seen + 1
    state[1] = typical
    if seen == 0:
        return np.nan
    money = _known(typical * volume) if change != 0.0 else 0.0
    rising = 1.0 if change > 0.0 else 0.0
    share, moved = weighted_mean_step(state[2:], rising, money, lookback)
    return 50.0 if moved == 0.0 else 100.0 * share


@jit
def mfi(
    high: FloatArray,
    low: FloatArray,
    close: FloatArray,
    volume: FloatArray,
    lookback: int,
    state: FloatArray,
    out: FloatArray,
) -> None:
    """Loop of ``mfi_step``.

    Args:
        high, low, close: (n_bars,), prices.
        volume: (n_bars,), units.
        lookback: bars.
        state: the state, shape (mfi_state_size,), changed in place.
        out: (n_bars,), written.
    """
    for bar in range(len(close)):
        out[bar] = mfi_step(state, high[bar], low[bar], close[bar], volume[bar], lookback)
