"""Bands around the average close: bollinger and keltner, upper, lower and the place between."""

from __future__ import annotations

import numpy as np

from kernels._jit import jit
from kernels.arrays import FloatArray
from kernels.features.averages import ema_state_size, ema_step
from kernels.features.ranges import atr_state_size, atr_step
from kernels.features.windows import moments_size, moments_step

# --- bollinger bands -----------------------------------------------------------------------------
# state: moments of the closes


@jit
def _band_step(state: FloatArray, close: float, lookback: int, width: float) -> tuple[float, float]:
    """The middle of the bands less the close, and half their distance."""
    middle, squares = moments_step(state, close, lookback, True)
    return middle, width * np.sqrt(squares / lookback)


@jit
def bollinger_upper_state_size(lookback: int, width: float) -> int:
    """Length of the state of ``bollinger_upper_step``.

    Args:
        lookback: bars.
        width: standard deviations.

    Returns:
        Numbers.
    """
    return moments_size(lookback)


@jit
def bollinger_upper_step(state: FloatArray, close: float, lookback: int, width: float) -> float:
    """Upper Bollinger band, in price units: mean close plus ``width`` standard deviations.

    Both are of the last ``lookback`` closes, the deviation with ddof 0, as TA-Lib's BBANDS. A constant
    price gives that price exactly.

    Args:
        state: the state, shape (bollinger_upper_state_size,), changed in place.
        close: price.
        lookback: bars, >= 2.
        width: standard deviations between the mean and a band, >= 0.

    Returns:
        A price; NaN until it is defined.
    """
    middle, half = _band_step(state, close, lookback, width)
    return close + (middle + half)


@jit
def bollinger_upper(
    close: FloatArray, lookback: int, width: float, state: FloatArray, out: FloatArray
) -> None:
    """Loop of ``bollinger_upper_step``.

    Args:
        close: (n_bars,), prices.
        lookback: bars.
        width: standard deviations.
        state: the state, shape (bollinger_upper_state_size,), changed in place.
        out: (n_bars,), written.
    """
    for bar in range(len(close)):
        out[bar] = bollinger_upper_step(state, close[bar], lookback, width)


@jit
def bollinger_lower_state_size(lookback: int, width: float) -> int:
    """Length of the state of ``bollinger_lower_step``.

    Args:
        lookback: bars.
        width: standard deviations.

    Returns:
        Numbers.
    """
    return moments_size(lookback)


@jit
def bollinger_lower_step(state: FloatArray, close: float, lookback: int, width: float) -> float:
    """Lower Bollinger band, in price units: mean close less ``width`` standard deviations.

    Both are of the last ``lookback`` closes, the deviation with ddof 0, as TA-Lib's BBANDS. A constant
    price gives that price exactly.

    Args:
        state: the state, shape (bollinger_lower_state_size,), changed in place.
        close: price.
        lookback: bars, >= 2.
        width: standard deviations between the mean and a band, >= 0.

    Returns:
        A price; NaN until it is defined.
    """
    middle, half = _band_step(state, close, lookback, width)
    return close + (middle - half)


@jit
def bollinger_lower(
    close: FloatArray, lookback: int, width: float, state: FloatArray, out: FloatArray
) -> None:
    """Loop of ``bollinger_lower_step``.

    Args:
        close: (n_bars,), prices.
        lookback: bars.
        width: standard deviations.
        state: the state, shape (bollinger_lower_state_size,), changed in place.
        out: (n_bars,), written.
    """
    for bar in range(len(close)):
        out[bar] = bollinger_lower_step(state, close[bar], lookback, width)


@jit
def bollinger_state_size(lookback: int, width: float) -> int:
    """Length of the state of ``bollinger_step``.

    Args:
        lookback: bars.
        width: standard deviations.

    Returns:
        Numbers.
    """
    return moments_size(lookback)


@jit
def bollinger_step(state: FloatArray, close: float, lookback: int, width: float) -> float:
    """Place of the close between the Bollinger bands (%b): 0 at the lower, 1 at the upper one.

    A close outside of the bands gives less than 0 or more than 1. Where the bands meet, it is 0.5.

    Args:
        state: the state, shape (bollinger_state_size,), changed in place.
        close: price.
        lookback: bars, >= 2.
        width: standard deviations between the mean and a band, >= 0.

    Returns:
        A fraction; NaN until it is defined.
    """
    middle, half = _band_step(state, close, lookback, width)
    return 0.5 if half == 0.0 else 0.5 - 0.5 * (middle / half)


@jit
def bollinger(
    close: FloatArray, lookback: int, width: float, state: FloatArray, out: FloatArray
) -> None:
    """Loop of ``bollinger_step``.

    Args:
        close: (n_bars,), prices.
        lookback: bars.
        width: standard deviations.
        state: the state, shape (bollinger_state_size,), changed in place.
        out: (n_bars,), written.
    """
    for bar in range(len(close)):
        out[bar] = bollinger_step(state, close[bar], lookback, width)


# --- keltner channel -----------------------------------------------------------------------------
# state: that of atr | that of ema


@jit
def _channel_step(
    state: FloatArray, high: float, low: float, close: float, lookback: int, atr_lookback: int
) -> tuple[float, float]:
    """The middle of the channel, and the average true range."""
    reach = atr_step(state, high, low, close, atr_lookback)
    return ema_step(state[atr_state_size(atr_lookback) :], close, lookback), reach


@jit
def keltner_upper_state_size(lookback: int, atr_lookback: int, width: float) -> int:
    """Length of the state of ``keltner_upper_step``.

    Args:
        lookback, atr_lookback: bars.
        width: average true ranges.

    Returns:
        Numbers.
    """
    return atr_state_size(atr_lookback) + ema_state_size(lookback)


@jit
def keltner_upper_step(
    state: FloatArray,
    high: float,
    low: float,
    close: float,
    lookback: int,
    atr_lookback: int,
    width: float,
) -> float:
    """Upper line of the Keltner channel, in price units: ``ema`` plus ``width`` times ``atr``.

    Args:
        state: the state, shape (keltner_upper_state_size,), changed in place.
        high, low, close: prices.
        lookback: bars of the exponential average of the close, >= 1.
        atr_lookback: bars of the average true range, >= 1.
        width: average true ranges between the average and the line, >= 0.

    Returns:
        A price; NaN until it is defined.
    """
    middle, reach = _channel_step(state, high, low, close, lookback, atr_lookback)
    return middle + width * reach


@jit
def keltner_upper(
    high: FloatArray,
    low: FloatArray,
    close: FloatArray,
    lookback: int,
    atr_lookback: int,
    width: float,
    state: FloatArray,
    out: FloatArray,
) -> None:
    """Loop of ``keltner_upper_step``.

    Args:
        high, low, close: (n_bars,), prices.
        lookback, atr_lookback: bars.
        width: average true ranges.
        state: the state, shape (keltner_upper_state_size,), changed in place.
        out: (n_bars,), written.
    """
    for bar in range(len(close)):
        out[bar] = keltner_upper_step(
            state, high[bar], low[bar], close[bar], lookback, atr_lookback, width
        )


@jit
def keltner_lower_state_size(lookback: int, atr_lookback: int, width: float) -> int:
    """Length of the state of ``keltner_lower_step``.

    Args:
        lookback, atr_lookback: bars.
        width: average true ranges.

    Returns:
        Numbers.
    """
    return atr_state_size(atr_lookback) + ema_state_size(lookback)


@jit
def keltner_lower_step(
    state: FloatArray,
    high: float,
    low: float,
    close: float,
    lookback: int,
    atr_lookback: int,
    width: float,
) -> float:
    """Lower line of the Keltner channel, in price units: ``ema`` less ``width`` times ``atr``.

    Args:
        state: the state, shape (keltner_lower_state_size,), changed in place.
        high, low, close: prices.
        lookback: bars of the exponential average of the close, >= 1.
        atr_lookback: bars of the average true range, >= 1.
        width: average true ranges between the average and the line, >= 0.

    Returns:
        A price; NaN until it is defined.
    """
    middle, reach = _channel_step(state, high, low, close, lookback, atr_lookback)
    return middle - width * reach


@jit
def keltner_lower(
    high: FloatArray,
    low: FloatArray,
    close: FloatArray,
    lookback: int,
    atr_lookback: int,
    width: float,
    state: FloatArray,
    out: FloatArray,
) -> None:
    """Loop of ``keltner_lower_step``.

    Args:
        high, low, close: (n_bars,), prices.
        lookback, atr_lookback: bars.
        width: average true ranges.
        state: the state, shape (keltner_lower_state_size,), changed in place.
        out: (n_bars,), written.
    """
    for bar in range(len(close)):
        out[bar] = keltner_lower_step(
            state, high[bar], low[bar], close[bar], lookback, atr_lookback, width
        )
