"""Choosing on some blocks of bars, judging on others: splits as bit masks, and what they choose.

A split is two bit masks over the blocks: bit b is set where block b is trained on, or tested.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

import numpy as np
from joblib import cpu_count

from kernels.overfitting import rank_out_of_sample, select_in_sample
from optimizer.selection.arguments import require
from optimizer.types import FloatArray, IntArray

_SPLITS = 2017
"""Separates the random stream of the draw of splits from others with the study's seed."""

FEWEST_OF_A_THREAD = 512
"""Splits below which a thread more is not worth its tables of sums."""

Chunks = Callable[[], Iterable[tuple[FloatArray, FloatArray]]]
"""Gives the sums of the returns and of their squares, each (n_blocks, n_sets of the chunk)."""


def masks_of(blocks: IntArray) -> IntArray:
    """Sets of blocks as bit masks.

    >>> masks_of(np.array([[0, 1], [0, 3]]))
    array([3, 9])

    Args:
        blocks: (..., n), numbers of blocks; no block twice along the last axis.

    Returns:
        (...,) masks.
    """
    masks: IntArray = (1 << blocks).sum(axis=-1)
    return masks


def symmetric_splits(n_blocks: int, most: int | None = None, seed: int = 0) -> IntArray:
    """The splits of combinatorially symmetric cross-validation: every half of the blocks.

    Args:
        n_blocks: number of blocks, even.
        most: draw this many without replacement if there are more. The probability that follows from
            them is an estimate with a standard error of at most 0.5 / sqrt(most).
        seed: the seed of the draw.

    Returns:
        (n_splits,) masks of the blocks in-sample, in lexicographic order of the blocks.
    """
    masks = masks_of(np.array(list(combinations(range(n_blocks), n_blocks // 2)), np.int64))
    if most is not None and most < len(masks):
        draw = np.random.default_rng([seed, _SPLITS]).choice(len(masks), most, replace=False)
        masks = masks[np.sort(draw)]
    return masks


@dataclass(frozen=True, eq=False)
class SplitWinners:
    """The best set in-sample of each of several splits, and how it did out-of-sample.

    Attributes:
        winners: (n_splits,), the set chosen, by its place among all.
        in_sample: (n_splits,), its Sharpe ratio in-sample, per bar.
        out_of_sample: (n_splits,), its Sharpe ratio out-of-sample, per bar.
        ranks: (n_splits,), its rank out-of-sample, 1 is the worst of the sets; NaN if not wanted.
        n_sets: number of sets.
    """

    winners: IntArray
    in_sample: FloatArray
    out_of_sample: FloatArray
    ranks: FloatArray
    n_sets: int


def choose_and_rank(
    chunks: Chunks,
    counts: FloatArray,
    train: IntArray,
    test: IntArray,
    *,
    ranked: bool = True,
) -> SplitWinners:
    """Choose by Sharpe ratio on the training blocks of each split, and judge on its test blocks.

    Args:
        chunks: called once, and once more for the ranks.
        counts: (n_blocks,), bars of each block.
        train: (n_splits,), masks of the blocks to choose on.
        test: (n_splits,), masks of the blocks to judge on.
        ranked: whether the ranks are wanted, which doubles the time.

    Returns:
        The set chosen by each split and its rank out of sample.

    Raises:
        ValueError: fewer than two sets, fewer than two bars on a side of a split, or sums of other
            blocks than ``counts`` has.
    """
    blocks = np.arange(len(counts))
    n_inside, n_outside = (
        (((masks[:, np.newaxis] >> blocks) & 1) @ counts).astype(np.float64)
        for masks in (train, test)
    )
    fewest = float(min(n_inside.min(), n_outside.min()))
    require("counts", fewest, fewest >= 2.0, "at least 2 bars in every half")

    def whole_chunks() -> Iterator[tuple[FloatArray, FloatArray]]:
        for sums, squares in chunks():
            # The kernels would read beyond the arrays.
            for part in (sums, squares):
                n_blocks = len(part)
                rule = f"{len(counts)}, as in counts"
                require("blocks of a chunk", n_blocks, n_blocks == len(counts), rule)
            yield sums, squares

    winners = np.zeros(len(train), np.int64)
    inside, outside = np.full(len(train), -np.inf), np.full(len(train), np.nan)
    ranks = np.full(len(train), 0.5 if ranked else np.nan)
    n_sets = 0
    # Splits know nothing of each other, so that threads share them and no bit depends on how.
    n_threads = max(1, min(cpu_count(), len(train) // FEWEST_OF_A_THREAD))
    edges = np.linspace(0, len(train), n_threads + 1).astype(np.int64).tolist()
    parts = [slice(*pair) for pair in pairwise(edges)]
    with ThreadPoolExecutor(n_threads) as threads:

        def on_each(kernel: Callable[..., None], *given: Any, of: Sequence[Any]) -> None:
            calls = [
                threads.submit(kernel, *given, *(array[part] for array in of)) for part in parts
            ]
            for call in calls:
                call.result()

        for sums, squares in whole_chunks():
            own = train, test, n_inside, n_outside, winners, inside, outside
            on_each(select_in_sample, sums, squares, n_sets, of=own)
            n_sets += sums.shape[1]
        require("n_sets", n_sets, n_sets >= 2, "at least 2")
        for sums, squares in whole_chunks() if ranked else ():
            on_each(rank_out_of_sample, sums, squares, of=(test, n_outside, outside, ranks))
    return SplitWinners(winners, inside, outside, ranks, n_sets)
