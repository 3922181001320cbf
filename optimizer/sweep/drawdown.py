"""Drawdown of an equity that is known as a whole."""

from __future__ import annotations

import numpy as np

from optimizer.types import FloatArray


def drawdowns(equity: FloatArray, start: float) -> FloatArray:
    """Fall from the highest equity so far, as a fraction of it.

    ``kernels.portfolio.drawdown`` is the same for one bar at a time.

    Args:
        equity: (..., n_bars), > 0 at its highest; the last axis is time.
        start: equity before the first bar, > 0.

    Returns:
        (..., n_bars), 0 at a new high.
    """
    peak = np.maximum(np.maximum.accumulate(equity, axis=-1), start)
    return np.asarray((peak - equity) * (1.0 / peak))
