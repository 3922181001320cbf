"""Rolling correlations of the returns of all symbols, one bar at a time.

The step takes one bar of all symbols and the state carried so far. The form over arrays is the loop over
that step. The state is a flat float64 array; zeros are a fresh state. It holds the number of bars seen,
the previous close of each symbol, and a ring of ``lookback`` rows of ``n_symbols`` returns.
"""

from __future__ import annotations

import numpy as np

from kernels._jit import jit
from kernels.arrays import FloatArray
from kernels.features import log_return

_ROUNDING = 4.0 * float(np.finfo(np.float64).eps)
"""Bound on the error that rounding two prices causes in their log return; less is no move."""


@jit
def correlation_state_size(lookback: int, n_symbols: int) -> int:
    """Length of the state of ``correlation_step``.

    Args:
        lookback: bars.
        n_symbols: number of symbols.

    Returns:
        Numbers.
    """
    return 1 + n_symbols + lookback * n_symbols


@jit
def _correlation_matrix(state: FloatArray, lookback: int, out: FloatArray) -> None:
    """Two-pass Pearson correlations of the returns in the ring, oldest first, into ``out``."""
    n_symbols = len(out)
    # There is one return fewer than bars. The oldest is in the slot that the next one will overwrite.
    oldest = (int(state[0]) - 1) % lookback
    ring = 1 + n_symbols
    deviation = np.empty((lookback, n_symbols))
    mean = np.zeros(n_symbols)
    squares = np.zeros(n_symbols)
    largest = np.zeros(n_symbols)
    for row in range(lookback):
        place = ring + (oldest + row) % lookback * n_symbols
        for symbol in range(n_symbols):
            change = state[place + symbol]
            deviation[row, symbol] = change
            mean[symbol] += (change - mean[symbol]) / (row + 1)
    for row in range(lookback):
        for symbol in range(n_symbols):
            apart = deviation[row, symbol] - mean[symbol]
            deviation[row, symbol] = apart
            squares[symbol] += apart * apart
            largest[symbol] = max(largest[symbol], abs(apart))
    for first in range(n_symbols):
        out[first, first:] = 0.0
        # With rows in the outer loop each pair sums in the order of time, and the pairs of one symbol
        # are independent, so the compiler can vectorize the inner loop.
        for row in range(lookback):
            own = deviation[row, first]
            for second in range(first + 1, n_symbols):
                out[first, second] += own * deviation[row, second]
        for second in range(first + 1, n_symbols):
            value = np.nan
            if largest[first] > _ROUNDING and largest[second] > _ROUNDING:
                value = out[first, second] / np.sqrt(squares[first] * squares[second])
                value = min(1.0, max(-1.0, value))
            out[first, second] = value
            out[second, first] = value
        out[first, first] = 1.0


@jit
def correlation_step(
    state: FloatArray, close: FloatArray, lookback: int, wanted: bool, out: FloatArray
) -> None:
    """Add one bar of all symbols, and write their correlations if ``wanted``.

    These are Pearson correlations of the last ``lookback`` log returns. They are computed from the
    window itself, not from carried sums, so a bar's matrix depends neither on which other bars are
    wanted nor on the bar at which the state began. A bar costs O(n_symbols), a matrix
    O(lookback x n_symbols^2).

    Args:
        state: of ``correlation_state_size``, changed in place.
        close: (n_symbols,), prices.
        lookback: returns in the window, >= 2.
        wanted: whether to write ``out``.
        out: (n_symbols, n_symbols), symmetric, within [-1, 1], unit diagonal. A pair is NaN if the
            returns of either symbol are all equal up to the rounding of prices. The whole matrix is
            NaN until the window is full.
    """
    n_symbols = len(close)
    seen = int(state[0])
    state[0] = seen + 1
    if seen > 0:
        place = 1 + n_symbols + (seen - 1) % lookback * n_symbols
        for symbol in range(n_symbols):
            state[place + symbol] = log_return(state[1 + symbol], close[symbol])
    for symbol in range(n_symbols):
        state[1 + symbol] = close[symbol]
    if wanted:
        if seen < lookback:
            out[:, :] = np.nan
        else:
            _correlation_matrix(state, lookback, out)


@jit
def correlation(
    close: FloatArray,
    lookback: int,
    first_bar: int,
    refresh: int,
    state: FloatArray,
    out: FloatArray,
) -> int:
    """Loop of ``correlation_step`` that writes matrices at the scheduled bars only.

    The schedule is the bars ``first_bar + k * refresh``, counted from the bar where the state was
    fresh, so it continues across a cut.

    Args:
        close: (n_bars, n_symbols), prices.
        lookback: returns in the window, >= 2.
        first_bar, refresh: bars.
        state: of ``correlation_state_size``, changed in place.
        out: (n_refreshes, n_symbols, n_symbols), written.

    Returns:
        Number of matrices written.
    """
    written = 0
    unused = np.empty((0, 0))
    for bar in range(len(close)):
        since = int(state[0]) - first_bar
        if since >= 0 and since % refresh == 0:
            correlation_step(state, close[bar], lookback, True, out[written])
            written += 1
        else:
            correlation_step(state, close[bar], lookback, False, unused)
    return written
