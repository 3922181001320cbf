"""Metrics of one equity from its running sums, by the kernel of the sweep."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from kernels import layout
from kernels.metrics import N_METRICS, performance
from optimizer.catalogue import METRICS
from optimizer.sweep.lanes import row_of


def metrics_of(
    sums: Mapping[np.uint64, float],
    start_equity: float,
    n_bars: int,
    bars_per_year: float,
    n_returns: int,
    returns_per_year: float,
) -> dict[str, float]:
    """The metrics by name, NaN where undefined; see ``kernels.metrics``.

    Args:
        sums: state of the lane at the end of the period, by offset in ``kernels.layout``; rows that
            are not given are 0.
        start_equity: money at the start of the period.
        n_bars: the number of bars of the period.
        bars_per_year: makes years of bars.
        n_returns, returns_per_year: the number of returns in the sums, and that of a year.
    """
    rows = np.zeros((layout.N_LANE_ROWS, 1))
    for offset, value in sums.items():
        rows[row_of(offset), 0] = value
    out = np.empty((1, N_METRICS))
    start = np.array([start_equity])
    performance(rows, start, n_bars, bars_per_year, n_returns, returns_per_year, out)
    return {name: float(value) for name, value in zip(METRICS, out[0], strict=True)}
