"""Mean correlation of each symbol with the other positions of a lane."""

import numpy as np

from kernels._jit import jit_lanes
from kernels.arrays import FloatArray, Index
from kernels.layout import FOUR, FRACTION, GROSS, ONE, POSITION_BLOCK, RHO, THREE, TWO, ZERO, B
from kernels.risk import mean_correlation


@jit_lanes
def rho_lanes(
    k: Index,
    m: int,
    correlations: FloatArray,
    positions: FloatArray,
    scratch: FloatArray,
    values: FloatArray,
) -> None:
    """Mean correlation of each symbol with the other positions held, weighted by value.

    Values are signed: a short position in a correlated symbol offsets a long one.

    Args:
        k: number of the block.
        m: number of the matrix.
        correlations: (n_refreshes, n_symbols, n_symbols).
        positions: RHO is written.
        scratch: the scratch values as ``mark_lanes`` left them; FRACTION is overwritten.
        values: (n_symbols, STRIDE), signed value of each position, as ``mark_lanes`` left it.
    """
    n_symbols = np.uint64(correlations.shape[1])
    for s in range(n_symbols):
        p = (k * n_symbols + s) * POSITION_BLOCK
        for b in range(B):
            scratch[FRACTION + b] = 0.0
        # Four symbols a pass, in order: the running sum is loaded and stored a quarter as often.
        for j in range(ZERO, n_symbols - n_symbols % FOUR, FOUR):
            r0 = other_correlation(correlations, m, s, j)
            r1 = other_correlation(correlations, m, s, j + ONE)
            r2 = other_correlation(correlations, m, s, j + TWO)
            r3 = other_correlation(correlations, m, s, j + THREE)
            for b in range(B):
                weighted = scratch[FRACTION + b] + r0 * values[j, b]
                weighted = weighted + r1 * values[j + ONE, b]
                weighted = weighted + r2 * values[j + TWO, b]
                scratch[FRACTION + b] = weighted + r3 * values[j + THREE, b]
        for j in range(n_symbols - n_symbols % FOUR, n_symbols):
            rho = other_correlation(correlations, m, s, j)
            for b in range(B):
                scratch[FRACTION + b] += rho * values[j, b]
        for b in range(B):
            positions[p + RHO + b] = mean_correlation(
                scratch[FRACTION + b], scratch[GROSS + b], values[s, b]
            )


@jit_lanes
def other_correlation(correlations: FloatArray, m: int, s: Index, j: Index) -> float:
    """Correlation of symbol ``s`` with symbol ``j``; 0 with itself, so that it has no weight.

    Args:
        correlations: (n_refreshes, n_symbols, n_symbols).
        m: number of the matrix.
        s, j: numbers of the symbols.

    Returns:
        The correlation, -1 to 1.
    """
    return 0.0 if j == s else correlations[m, s, j]
