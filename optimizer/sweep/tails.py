"""Metrics of the tails of a curve's returns, which need every return and not sums alone."""

from __future__ import annotations

import numpy as np

from optimizer.types import FloatArray

TAIL = 0.05
"""Share of the returns that a tail is."""

TAIL_METRICS = ("expected_shortfall", "tail_ratio")


def tail_metrics(returns: FloatArray) -> dict[str, float]:
    """The expected shortfall and the tail ratio of returns, as empyrical defines them.

    Args:
        returns: fractions, shape (n,); at least one.

    Returns:
        ``expected_shortfall``, the mean loss of the worst twentieth of the returns, a positive fraction;
        ``tail_ratio``, the 95th percentile over the 5th, without signs, NaN where the latter is 0.
    """
    worst = np.sort(returns)[: int((len(returns) - 1) * TAIL) + 1]
    low, high = np.abs(np.percentile(returns, [100.0 * TAIL, 100.0 * (1.0 - TAIL)]))
    return {
        "expected_shortfall": float(-worst.mean()),
        "tail_ratio": float(high / low) if low > 0.0 else np.nan,
    }
