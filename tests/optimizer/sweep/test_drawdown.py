"""The drawdown of a whole equity is that of the kernels, bar by bar."""

from __future__ import annotations

import numpy as np

from kernels.portfolio import drawdown
from optimizer.sweep.drawdown import drawdowns


def test_a_whole_equity_falls_as_bar_by_bar() -> None:
    returns = np.random.default_rng(1).normal(0.0, 0.1, (4, 200))
    equity = np.asarray(np.cumprod(1.0 + returns, axis=1), np.float64)
    for start in (0.5, 1.0, 3.0):
        found = drawdowns(equity, start)
        assert found.shape == equity.shape
        for path, falls in zip(equity.tolist(), found.tolist(), strict=True):
            peak = start
            for value, fall in zip(path, falls, strict=True):
                peak = max(peak, value)
                assert fall == drawdown(value, peak)


def test_a_new_high_is_no_drawdown() -> None:
    assert drawdowns(np.array([1.0, 2.0, 1.0, 4.0]), 1.0).tolist() == [0.0, 0.0, 0.5, 0.0]
    assert drawdowns(np.array([1.0, 2.0]), 4.0).tolist() == [0.75, 0.5]
