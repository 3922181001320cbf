"""Rolling correlations of the returns of all symbols, one bar at a time.

The step takes one bar of all symbols and the state carried so far. The form over arrays is the loop over
that step. The state is a flat float64 array; zeros are a fresh state. It holds the number of bars seen,
the previous close of each symbol, and a ring of ``lookback`` rows of ``n_symbols`` returns.

Where symbols lack bars, ``joint_correlation_step`` takes the place of ``correlation_step``. The bars that
two symbols have in common differ from pair to pair and may lie far back, so it reads the closes
themselves, and carries only where each symbol's bars are.
"""

from __future__ import annotations

import numpy as np

from kernels._jit import jit
from kernels.arrays import ByteArray, FloatArray, IntArray
from kernels.features.returns import RETURN_ROUNDING, log_return


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
    """Correlations of the returns in the ring into ``out``."""
    n_symbols = len(out)
    # There is one return fewer than bars. The oldest is in the slot that the next one will overwrite.
    oldest = (int(state[0]) - 1) % lookback
    ring = 1 + n_symbols
    returns = np.empty((lookback, n_symbols))
    for row in range(lookback):
        place = ring + (oldest + row) % lookback * n_symbols
        for symbol in range(n_symbols):
            returns[row, symbol] = state[place + symbol]
    _pearson(returns, out)


@jit
def _pearson(returns: FloatArray, out: FloatArray) -> None:
    """Two-pass Pearson correlations of returns, oldest row first, into ``out``; overwrites them."""
    lookback, n_symbols = returns.shape
    mean = np.zeros(n_symbols)
    squares = np.zeros(n_symbols)
    largest = np.zeros(n_symbols)
    for row in range(lookback):
        for symbol in range(n_symbols):
            mean[symbol] += (returns[row, symbol] - mean[symbol]) / (row + 1)
    for row in range(lookback):
        for symbol in range(n_symbols):
            apart = returns[row, symbol] - mean[symbol]
            returns[row, symbol] = apart
            squares[symbol] += apart * apart
            largest[symbol] = max(largest[symbol], abs(apart))
    for first in range(n_symbols):
        out[first, first:] = 0.0
        # With rows in the outer loop each pair sums in the order of time, and the pairs of one symbol
        # are independent, so the compiler can vectorize the inner loop.
        for row in range(lookback):
            own = returns[row, first]
            for second in range(first + 1, n_symbols):
                out[first, second] += own * returns[row, second]
        for second in range(first + 1, n_symbols):
            value = np.nan
            if largest[first] > RETURN_ROUNDING and largest[second] > RETURN_ROUNDING:
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
        state: the state, shape (correlation_state_size,), changed in place.
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
        state: the state, shape (correlation_state_size,), changed in place.
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


FIRST, LAST, RUN, N_SPAN_ROWS = 0, 1, 2, 3
"""Rows of the state of ``joint_correlation_step``: 1 + the first and the last bar that a symbol has so
far, and how many it has in a row up to now; zeros are a fresh state."""


@jit
def joint_correlation_step(
    close: FloatArray,
    present: ByteArray,
    bar: int,
    spans: IntArray,
    lookback: int,
    wanted: bool,
    out: FloatArray,
) -> None:
    """Take one bar of symbols that may lack some, and write their correlations if ``wanted``.

    The correlation of two symbols is that of ``correlation_step`` on the bars that both have: of the
    last ``lookback`` log returns from one such bar to the next. It does not depend on other symbols.

    Args:
        close: (n_bars, n_symbols), prices; bars after ``bar`` are not read.
        present: (n_bars, n_symbols), 1 where the symbol has the bar; likewise.
        bar: the one after the last.
        spans: (N_SPAN_ROWS, n_symbols), changed in place.
        lookback: returns in the window, >= 2.
        wanted: whether to write ``out``.
        out: (n_symbols, n_symbols), symmetric, within [-1, 1], unit diagonal. A pair is NaN if the
            returns of either symbol are all equal up to the rounding of prices, or if the two have too
            few bars in common.
    """
    n_symbols = close.shape[1]
    for s in range(n_symbols):
        if present[bar, s] != 0:
            spans[FIRST, s] = bar + 1 if spans[FIRST, s] == 0 else spans[FIRST, s]
            spans[LAST, s] = bar + 1
            spans[RUN, s] += 1
        else:
            spans[RUN, s] = 0
    if not wanted:
        return
    out[:, :] = np.nan
    # Symbols that have every bar of the window share it, which is nearly all of the work.
    full = np.flatnonzero(spans[RUN] > lookback)
    if len(full) > 0:
        returns = np.empty((lookback, len(full)))
        for row in range(lookback):
            t = bar - lookback + 1 + row
            for i in range(len(full)):
                returns[row, i] = log_return(close[t - 1, full[i]], close[t, full[i]])
        matrix = np.empty((len(full), len(full)))
        _pearson(returns, matrix)
        for i in range(len(full)):
            for j in range(len(full)):
                out[full[i], full[j]] = matrix[i, j]
    pair = np.empty((lookback, 2))
    both = np.empty((2, 2))
    for a in range(n_symbols):
        out[a, a] = 1.0
        for b in range(a + 1, n_symbols):
            if spans[RUN, a] > lookback and spans[RUN, b] > lookback:
                continue
            if _joint_returns(close, present, spans, a, b, pair):
                _pearson(pair, both)
                out[a, b] = both[0, 1]
                out[b, a] = both[0, 1]


@jit
def _joint_returns(
    close: FloatArray, present: ByteArray, spans: IntArray, a: int, b: int, returns: FloatArray
) -> bool:
    """Last returns of two symbols between bars that both have, oldest first; False if too few."""
    start = max(spans[FIRST, a], spans[FIRST, b]) - 1
    t = min(spans[LAST, a], spans[LAST, b]) - 1
    row = len(returns)
    if spans[FIRST, a] == 0 or spans[FIRST, b] == 0 or t - start < row:
        return False
    later = -1
    while t >= start:
        if present[t, a] != 0 and present[t, b] != 0:
            if later >= 0:
                row -= 1
                returns[row, 0] = log_return(close[t, a], close[later, a])
                returns[row, 1] = log_return(close[t, b], close[later, b])
                if row == 0:
                    return True
            later = t
        t -= 1
    return False


@jit
def joint_correlation(
    close: FloatArray,
    present: ByteArray,
    lookback: int,
    first_bar: int,
    refresh: int,
    spans: IntArray,
    out: FloatArray,
) -> int:
    """Loop of ``joint_correlation_step`` that writes matrices at the scheduled bars only.

    Args:
        close: (n_bars, n_symbols), prices.
        present: (n_bars, n_symbols), 1 where the symbol has the bar.
        lookback: returns in the window, >= 2.
        first_bar, refresh: bars; as for ``correlation``.
        spans: (N_SPAN_ROWS, n_symbols), changed in place.
        out: (n_refreshes, n_symbols, n_symbols), written.

    Returns:
        Number of matrices written.
    """
    written = 0
    unused = np.empty((0, 0))
    for bar in range(len(close)):
        since = bar - first_bar
        if since >= 0 and since % refresh == 0:
            joint_correlation_step(close, present, bar, spans, lookback, True, out[written])
            written += 1
        else:
            joint_correlation_step(close, present, bar, spans, lookback, False, unused)
    return written
