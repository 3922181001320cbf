"""``store = "top"``: the results keep the best sets whole, and of the others what the verdict needs.

Of every set the results keep its parameters, whether it is feasible, its score, ``alpha_t`` and the
columns of ``always_kept``; its return moments stay too. The other metrics, in-sample and over the
holdout, stay of the sets alone that are among the best when their batch is written; counts of all values
in-sample stay as histograms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from optimizer.catalogue import METRICS
from optimizer.store.columns import KEPT, OUT_OF_SAMPLE
from optimizer.study_file.objectives import metrics_named
from optimizer.types import BoolArray, FloatArray, IntArray


def always_kept(objective: Sequence[str]) -> frozenset[str]:
    """The metrics in-sample that stay of every set.

    Args:
        objective: the objectives of the study.
    """
    named = (name for one in objective for name in metrics_named(one))
    return frozenset(("sharpe", "n_trades", *named))


class BestSoFar:
    """The best sets of all so far, batch by batch; of equal ones those that came first.

    Args:
        most: number of sets.
        maximize: whether more of score and objective is better.

    Attributes:
        numbers: (n_best,), the numbers of the best sets, best first, as ``query.ranked`` orders them.
        n_ranked: sets that are feasible and have a score.
    """

    def __init__(self, most: int, maximize: bool) -> None:
        self._most = most
        self._sign = -1.0 if maximize else 1.0
        # Ascending by score, then objective: the best first, equal ones in the order of the sets.
        self._keys = np.empty((2, 0))
        self.numbers = np.empty(0, np.int64)
        self.n_ranked = 0

    def add(
        self,
        numbers: IntArray,
        feasible: BoolArray,
        scores: FloatArray,
        objective: FloatArray,
    ) -> BoolArray:
        """Take some sets, in the order of the study.

        Args:
            numbers: (n_sets,)
            feasible: (n_sets,)
            scores: (n_sets,), NaN where undefined; such a set is never among the best.
            objective: (n_sets,), decides between equal scores.

        Returns:
            (n_sets,), which of them are among the best of all so far, these included.
        """
        keys = self._sign * np.stack([scores, objective])
        able = feasible & ~np.isnan(scores)
        self.n_ranked += int(able.sum())
        if self._keys.shape[1] == self._most:
            able &= keys[0] <= self._keys[0, -1]
        places = np.flatnonzero(able)
        n_before = self._keys.shape[1]
        every = np.concatenate([self._keys, keys[:, places]], axis=1)
        best = np.lexsort(every[::-1])[: self._most]
        self._keys = every[:, best]
        self.numbers = np.concatenate([self.numbers, numbers[places]])[best]
        kept = np.zeros(len(scores), dtype=np.bool_)
        kept[places[best[best >= n_before] - n_before]] = True
        return kept


def without_the_rest(
    tile: Mapping[str, Any], kept: BoolArray, always: frozenset[str]
) -> dict[str, Any]:
    """The columns of a tile, NaN where a set is not kept whole, and ``KEPT``.

    Args:
        tile: its columns, see ``result_table``.
        kept: (n_lanes,), which sets are.
        always: the metrics that stay of all, see ``always_kept``.
    """
    dropped = ("alpha", *(one for one in METRICS if one not in always), *OUT_OF_SAMPLE)
    return {
        **tile,
        **{name: np.where(kept, tile[name], np.nan) for name in dropped},
        KEPT: kept,
    }
