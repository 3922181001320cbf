"""Which sets of several studies make one book: good ones whose returns are unlike."""

from __future__ import annotations

import numpy as np

from optimizer.types import FloatArray


def choose_members(returns: FloatArray, max_correlation: float) -> list[tuple[int, float | None]]:
    """Take candidates, best first, each unlike all that have been taken before it.

    A candidate is taken if its correlation with each one already taken is at most ``max_correlation``.
    One whose returns stand still has no correlation, and is left out.

    Args:
        returns: in-sample returns of each candidate over each block of bars, best candidate first,
            fractions, shape (n_candidates, n_blocks).
        max_correlation: the largest correlation allowed, -1 to 1.

    Returns:
        The place of each that is taken, with the largest of its correlations with those before it; None
        for the first one.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        correlations = np.atleast_2d(np.corrcoef(returns))
    found: list[tuple[int, float | None]] = []
    for place in np.flatnonzero(returns.std(axis=1) > 0.0).tolist():
        likeness = correlations[place, [other for other, _ in found]]
        if (likeness <= max_correlation).all():
            found.append((place, float(likeness.max()) if len(likeness) else None))
    return found
