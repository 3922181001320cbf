"""Figures of a selection that a test chooses."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np

from optimizer.selection.pbo import block_moments
from optimizer.selection.record import Neighbours, Selection, SetStatistics
from optimizer.selection.tried import Tried
from optimizer.sweep.buy_and_hold import Held
from optimizer.types import FloatArray

YEARLY = math.sqrt(252.0)
NORMAL = NormalDist()
N_BARS = 2520


def annual_sharpe(probability: float) -> float:
    """Sharpe ratio whose PSR over ``N_BARS`` normal returns is ``probability``."""
    score = NORMAL.inv_cdf(probability)
    return score / math.sqrt(N_BARS - 1.0 - score**2 / 2.0) * YEARLY


def chosen(probability: float = 0.99, kept: float | None = 0.8, **changes: Any) -> Selection:
    """A study of one set, with the changes: its DSR is its PSR.

    Args:
        probability: deflated Sharpe ratio of the winner.
        kept: share of its in-sample Sharpe ratio that is left out-of-sample.
        changes: attributes of ``Selection``.
    """
    own = annual_sharpe(probability)
    one = SetStatistics(
        number=4,
        sharpe=own,
        skewness=0.0,
        kurtosis=3.0,
        oos_sharpe=None if kept is None else kept * own,
        psr=probability,
        oos_psr=0.9,
        dsr=probability,
        raw_dsr=probability,
    )
    near = Neighbours(6, 40, 0.7, changes.pop("near", 0.9) * own, -1.0)
    return Selection(
        **{
            "n_tried": 1,
            "n_effective": 1.0,
            "sharpe_deviation": 0.0,
            "n_returns": N_BARS,
            "n_holdout_returns": 250,
            "returns_per_year": 252.0,
            "sets": (one,),
            "pbo": 0.1,
            "probability_of_loss": 0.2,
            "neighbours": near,
            "held": Held({"sharpe": 0.5 * own}, {"sharpe": 0.3 * own}),
            **changes,
        }
    )


def stored_moments(returns: FloatArray, n_blocks: int) -> tuple[FloatArray, FloatArray]:
    """What a study stores of the returns of its sets, and the returns of each block.

    Args:
        returns: (n_bars, n_sets), of which the bars divide by the blocks.
        n_blocks: number of blocks.
    """
    counts, sums, squares = block_moments(returns, n_blocks)
    return np.stack([sums.T, squares.T], axis=1), counts.astype(np.float64)


def tried_by(n_sets: int) -> Tried:
    """So many sets tried by two studies, without draws."""
    return Tried(n_sets, 2, np.zeros(0, np.float32))
