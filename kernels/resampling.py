"""Bars put together to longer ones, each of which is there once it has closed."""

from kernels._jit import jit
from kernels.arrays import ByteArray, FloatArray, IntArray

N_STATE = 7
_OPEN, _HIGH, _LOW, _CLOSE, _VOLUME, _PERIOD, _BUILDING = range(N_STATE)

N_FIELDS = 5
"""Open, high, low, close and volume of a longer bar, in this order."""


@jit
def resample_step(
    state: FloatArray,
    period: int,
    inside: bool,
    reaches: bool,
    open: float,
    high: float,
    low: float,
    close: float,
    volume: float,
    out: FloatArray,
) -> int:
    """Take one bar of one symbol.

    A longer bar closes with the bar that reaches the end of its period. If that one is missing, it closes
    with the next bar there is: so up to two longer bars close with one bar.

    Args:
        state: shape (N_STATE,), zeros before the first bar; changed in place.
        period: number of the longer bar to which the bar belongs, 0 or more, ascending.
        inside: whether the bar is part of it; one outside the session is not.
        reaches: whether the end of the bar reaches that of the longer one.
        open, high, low, close, volume: the bar.
        out: receives the longer bars that close, shape (2, N_FIELDS).

    Returns:
        How many there are, 0 to 2.
    """
    closed = 0
    same = state[_PERIOD] == period + 1.0  # 0 before the first bar
    if state[_BUILDING] == 1.0 and not same:
        out[closed] = state[:N_FIELDS]
        closed += 1
        state[_BUILDING] = 0.0
    # A bar of a period that has closed counts nowhere: what was seen does not change.
    if not inside or (same and state[_BUILDING] == 0.0):
        return closed
    if same:
        state[_HIGH] = max(state[_HIGH], high)
        state[_LOW] = min(state[_LOW], low)
        state[_CLOSE] = close
        state[_VOLUME] += volume
    else:
        state[_OPEN], state[_HIGH], state[_LOW] = open, high, low
        state[_CLOSE], state[_VOLUME] = close, volume
        state[_PERIOD], state[_BUILDING] = period + 1.0, 1.0
    if reaches:
        out[closed] = state[:N_FIELDS]
        closed += 1
        state[_BUILDING] = 0.0
    return closed


@jit
def resample(
    bars: FloatArray,
    periods: IntArray,
    inside: ByteArray,
    reaches: ByteArray,
    state: FloatArray,
    rows: FloatArray,
    longer: FloatArray,
    closed: IntArray,
) -> None:
    """`resample_step` at every bar of one symbol.

    Args:
        bars: open, high, low, close and volume, shape (N_FIELDS, n_bars).
        periods, inside, reaches: those of the step, shape (n_bars,).
        state: shape (N_STATE,), zeros before the first bar; changed in place.
        rows: scratch space of shape (2, N_FIELDS).
        longer: receives the longer bars, shape (N_FIELDS, n_bars); what is left over stays as it is.
        closed: receives how many of them have closed with each bar, shape (n_bars,).
    """
    n = 0
    for t in range(len(periods)):
        found = resample_step(
            state,
            periods[t],
            inside[t] == 1,
            reaches[t] == 1,
            bars[0, t],
            bars[1, t],
            bars[2, t],
            bars[3, t],
            bars[4, t],
            rows,
        )
        for k in range(found):
            longer[:, n] = rows[k]
            n += 1
        closed[t] = n
