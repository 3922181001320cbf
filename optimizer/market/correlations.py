"""Rolling correlations of the symbols, at scheduled bars."""

from __future__ import annotations

import numpy as np

from kernels.correlation import (
    N_SPAN_ROWS,
    correlation,
    correlation_state_size,
    joint_correlation,
)
from optimizer.market.feature_keys import warm_up
from optimizer.types import Bars, FloatArray


def compute_correlations(bars: Bars, lookback: int, refresh: int, first_bar: int) -> FloatArray:
    """Rolling Pearson correlations of log returns, at scheduled bars only.

    Matrix k belongs to bar ``first_bar + k * refresh``, for every such bar below n_bars. It uses that
    bar and earlier ones. Two symbols are compared on the bars that both have, as if no other symbol
    were there. Undefined entries (before ``lookback`` returns, or a symbol whose
    returns are all equal) are 0: no known co-movement. The diagonal is 1.

    Args:
        bars: the bars of all symbols.
        lookback: returns in the window, 2 or more.
        refresh: bars between two matrices, 1 or more.
        first_bar: bar of the first matrix, 0 or more.

    Returns:
        (n_refreshes, n_symbols, n_symbols), float64, C-contiguous, symmetric, within [-1, 1].

    Raises:
        StrategyError: the lookback is out of bounds.
        ValueError: ``refresh`` or ``first_bar`` is out of bounds.
    """
    lookback = warm_up(("correlation", lookback))
    if refresh < 1:
        raise ValueError(f"refresh must be 1 bar or more, got {refresh!r}")
    if first_bar < 0:
        raise ValueError(f"first_bar must be 0 or more, got {first_bar!r}")
    n_symbols = bars.n_symbols
    matrices = np.empty((len(range(first_bar, bars.n_bars, refresh)), n_symbols, n_symbols))
    close = np.array(bars.close)
    if bars.present is None:
        state = np.zeros(correlation_state_size(lookback, n_symbols))
        correlation(close, lookback, first_bar, refresh, state, matrices)
    else:
        spans = np.zeros((N_SPAN_ROWS, n_symbols), dtype=np.int64)
        present = np.array(bars.present)
        joint_correlation(close, present, lookback, first_bar, refresh, spans, matrices)
    matrices[np.isnan(matrices)] = 0.0
    diagonal = np.arange(n_symbols)
    matrices[:, diagonal, diagonal] = 1.0
    return matrices
