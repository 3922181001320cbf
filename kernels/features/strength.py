"""Strength and direction of moves, by Wilder: rsi, plus_di, minus_di, adx."""

from __future__ import annotations

import numpy as np

from kernels._jit import jit
from kernels.arrays import FloatArray
from kernels.features.windows import average

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
    gain = average(max(change, 0.0), state[2], n)
    loss = average(max(-change, 0.0), state[3], n)
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


# --- directional movement ------------------------------------------------------------------------
# state: bars seen | previous high, low and close | decaying sums of the moves up, of the moves down
# and of the true ranges; adx: | average


@jit
def _directional_step(
    state: FloatArray, high: float, low: float, close: float, lookback: int
) -> tuple[float, float]:
    """The directional indices, up and down; NaN until they are defined."""
    seen = int(state[0])
    up, down = high - state[1], state[2] - low
    true_range = max(high, state[3]) - min(low, state[3])
    state[0] = seen + 1
    state[1] = high
    state[2] = low
    state[3] = close
    if seen == 0:
        return np.nan, np.nan
    keep = (lookback - 1) / lookback if seen >= lookback else 1.0
    state[4] = state[4] * keep + (up if up > 0.0 and up > down else 0.0)
    state[5] = state[5] * keep + (down if down > 0.0 and down > up else 0.0)
    state[6] = state[6] * keep + true_range
    if seen < lookback:
        return np.nan, np.nan
    if state[6] == 0.0:
        return 0.0, 0.0
    return 100.0 * (state[4] / state[6]), 100.0 * (state[5] / state[6])


@jit
def plus_di_state_size(lookback: int) -> int:
    """Length of the state of ``plus_di_step``.

    Args:
        lookback: bars.

    Returns:
        Numbers.
    """
    return 7


@jit
def plus_di_step(state: FloatArray, high: float, low: float, close: float, lookback: int) -> float:
    """Directional index up, 0 to 100: the upward moves as a share of the true ranges.

    A bar moves up by the rise of its high over the one before, if that is positive and larger than the
    fall of its low.
    Moves and true ranges are Wilder's sums s - s / lookback + x from bar ``lookback`` on; before, the
    plain sums of the bars 1 to lookback - 1, as in TA-Lib. Without any range it is 0. Source: Wilder
    (1978), New Concepts in Technical Trading Systems, section IV.

    Args:
        state: the state, shape (plus_di_state_size,), changed in place.
        high, low, close: prices.
        lookback: bars, >= 1.

    Returns:
        The index; NaN until it is defined.
    """
    return _directional_step(state, high, low, close, lookback)[0]


@jit
def plus_di(
    high: FloatArray,
    low: FloatArray,
    close: FloatArray,
    lookback: int,
    state: FloatArray,
    out: FloatArray,
) -> None:
    """Loop of ``plus_di_step``.

    Args:
        high, low, close: (n_bars,), prices.
        lookback: bars.
        state: the state, shape (plus_di_state_size,), changed in place.
        out: (n_bars,), written.
    """
    for bar in range(len(close)):
        out[bar] = plus_di_step(state, high[bar], low[bar], close[bar], lookback)


@jit
def minus_di_state_size(lookback: int) -> int:
    """Length of the state of ``minus_di_step``.

    Args:
        lookback: bars.

    Returns:
        Numbers.
    """
    return 7


@jit
def minus_di_step(state: FloatArray, high: float, low: float, close: float, lookback: int) -> float:
    """Directional index down, 0 to 100: the downward moves as a share of the true ranges.

    A bar moves down by the fall of its low below the one before, if that is positive and larger than
    the rise of its high.
    Moves and true ranges are Wilder's sums s - s / lookback + x from bar ``lookback`` on; before, the
    plain sums of the bars 1 to lookback - 1, as in TA-Lib. Without any range it is 0. Source: Wilder
    (1978), New Concepts in Technical Trading Systems, section IV.

    Args:
        state: the state, shape (minus_di_state_size,), changed in place.
        high, low, close: prices.
        lookback: bars, >= 1.

    Returns:
        The index; NaN until it is defined.
    """
    return _directional_step(state, high, low, close, lookback)[1]


@jit
def minus_di(
    high: FloatArray,
    low: FloatArray,
    close: FloatArray,
    lookback: int,
    state: FloatArray,
    out: FloatArray,
) -> None:
    """Loop of ``minus_di_step``.

    Args:
        high, low, close: (n_bars,), prices.
        lookback: bars.
        state: the state, shape (minus_di_state_size,), changed in place.
        out: (n_bars,), written.
    """
    for bar in range(len(close)):
        out[bar] = minus_di_step(state, high[bar], low[bar], close[bar], lookback)


@jit
def adx_state_size(lookback: int) -> int:
    """Length of the state of ``adx_step``.

    Args:
        lookback: bars.

    Returns:
        Numbers.
    """
    return 8


@jit
def adx_step(state: FloatArray, high: float, low: float, close: float, lookback: int) -> float:
    """Average directional index, 0 to 100: how one-sided moves are, whichever way.

    Wilder's average of 100 |up - down| / (up + down), with up and down the indices ``plus_di_step`` and
    ``minus_di_step``. It starts from the simple average of the first ``lookback`` of these. A bar
    with neither counts as 0. Source: Wilder (1978), New Concepts in Technical Trading Systems,
    section IV.

    Args:
        state: the state, shape (adx_state_size,), changed in place.
        high, low, close: prices.
        lookback: bars, >= 1.

    Returns:
        The index; NaN until it is defined.
    """
    up, down = _directional_step(state, high, low, close, lookback)
    if np.isnan(up):
        return np.nan
    both = up + down
    one_sided = 100.0 * (abs(up - down) / both) if both > 0.0 else 0.0
    n = int(state[0]) - lookback
    state[7] = average(one_sided, state[7], min(n, lookback))
    return state[7] if n >= lookback else np.nan


@jit
def adx(
    high: FloatArray,
    low: FloatArray,
    close: FloatArray,
    lookback: int,
    state: FloatArray,
    out: FloatArray,
) -> None:
    """Loop of ``adx_step``.

    Args:
        high, low, close: (n_bars,), prices.
        lookback: bars.
        state: the state, shape (adx_state_size,), changed in place.
        out: (n_bars,), written.
    """
    for bar in range(len(close)):
        out[bar] = adx_step(state, high[bar], low[bar], close[bar], lookback)
