"""Drawdown of an equity that is known as a whole."""

from __future__ import annotations

import numpy as np
import pandas as pd

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


def worst_drawdowns(equity: pd.Series[float], start: float, most: int) -> pd.DataFrame:
    """The deepest falls of an equity, each from a high to the close at which it is reached again.

    Args:
        equity: money at each close, by time.
        start: equity before the first bar, > 0.
        most: how many.

    Returns:
        One row a fall, the deepest first: ``depth``, a fraction of the high; ``peak``, ``trough`` and
        ``recovered``, times, the last NaT where the high has not been reached again; ``bars`` from the
        high to that close, or to the last one. The high before the first bar has the time of the first.
    """
    falls = drawdowns(np.asarray(equity, np.float64), start)
    under = np.concatenate(([0], falls > 0.0, [0])).astype(np.int8)
    starts, stops = (np.flatnonzero(np.diff(under) == change) for change in (1, -1))
    times = pd.DatetimeIndex(equity.index)
    rows = []
    for first, stop in zip(starts.tolist(), stops.tolist(), strict=True):
        peak, ended = max(first - 1, 0), stop < len(falls)
        rows.append(
            {
                "depth": float(falls[first:stop].max()),
                "peak": times[peak],
                "trough": times[first + int(falls[first:stop].argmax())],
                "recovered": times[stop] if ended else pd.NaT,
                "bars": min(stop, len(falls) - 1) - peak,
            }
        )
    found = pd.DataFrame(rows, columns=["depth", "peak", "trough", "recovered", "bars"])
    return found.sort_values("depth", ascending=False, kind="stable").head(most)
