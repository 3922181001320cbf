"""Cross-validation over many parameter sets, from sums per block of bars.

A split of the bars is a pair of bit masks over the blocks: one has bit b set where block b is
in-sample, the other where it is out-of-sample. The sum over a mask is the sum of its two halves, each
looked up in a table of all subsets of one half of the blocks. So a split costs one addition per sum,
whatever the number of blocks. Parameter sets are taken in groups small enough for the tables to stay
in cache, and may come in several chunks.

Bailey, Borwein, López de Prado and Zhu (2017), "The probability of backtest overfitting".
"""

import numpy as np

from kernels._jit import jit
from kernels.arrays import FloatArray, IntArray
from kernels.metrics import sharpe_ratio

TILE = 64
"""Parameter sets taken at a time."""


@jit
def block_sharpe(n: float, total: float, squares: float) -> float:
    """Sharpe ratio per bar from power sums, ddof 1; 0 if the returns do not vary.

    A parameter set that did not trade in a split earned nothing and risked nothing there. With 0 it ranks
    above every loser and below every winner.

    Args:
        n: number of returns, >= 2.
        total: their sum.
        squares: sum of their squares.

    Returns:
        The ratio, not annualized.
    """
    return sharpe_ratio(n, total, squares, 0.0)


@jit
def subset_sums(values: FloatArray, first: int, width: int, out: FloatArray) -> None:
    """Sums over every subset of a few blocks, for the sets ``first`` to ``first + width - 1``.

    Args:
        values: (n_blocks, n_sets).
        first: first set.
        width: number of sets.
        out: (2 ** n_blocks, >= width); row m is filled with the sums over the set bits of m.
    """
    for lane in range(width):
        out[0, lane] = 0.0
    for block in range(values.shape[0]):
        # Every subset whose highest block is this one is an earlier subset plus this block.
        half = 1 << block
        for mask in range(half):
            for lane in range(width):
                out[half + mask, lane] = out[mask, lane] + values[block, first + lane]


@jit
def half_tables(n_blocks: int) -> tuple[FloatArray, FloatArray]:
    """Memory for the sums over every subset of the first and of the second half of the blocks.

    Args:
        n_blocks: number of blocks, >= 2.

    Returns:
        Shapes (2 ** (n_blocks // 2), TILE) and (2 ** (n_blocks - n_blocks // 2), TILE), not filled.
    """
    half = n_blocks // 2
    return np.empty((1 << half, TILE)), np.empty((1 << (n_blocks - half), TILE))


@jit
def fill_half_tables(
    values: FloatArray, first: int, width: int, low: FloatArray, high: FloatArray
) -> None:
    """Fill the tables of both halves, for the sets ``first`` to ``first + width - 1``.

    Args:
        values: (n_blocks, n_sets).
        first: first set.
        width: number of sets, at most ``TILE``.
        low, high: the tables of ``half_tables``, written.
    """
    half = values.shape[0] // 2
    subset_sums(values[:half], first, width, low)
    subset_sums(values[half:], first, width, high)


@jit
def select_in_sample(
    sums: FloatArray,
    squares: FloatArray,
    first_set: int,
    inside_masks: IntArray,
    outside_masks: IntArray,
    n_inside: FloatArray,
    n_outside: FloatArray,
    winners: IntArray,
    inside: FloatArray,
    outside: FloatArray,
) -> None:
    """Find the set with the best in-sample Sharpe ratio in every split; of equals, the first.

    Args:
        sums: (n_blocks, n_sets), sum of the returns of each block.
        squares: (n_blocks, n_sets), sum of the squared returns.
        first_set: number of the first set of this chunk.
        inside_masks: (n_splits,), blocks that are in-sample.
        outside_masks: (n_splits,), blocks that are out-of-sample.
        n_inside: (n_splits,), bars in-sample, >= 2.
        n_outside: (n_splits,), bars out-of-sample, >= 2.
        winners: (n_splits,), updated: number of the best set so far.
        inside: (n_splits,), updated: its in-sample Sharpe ratio per bar; -inf before the first chunk.
        outside: (n_splits,), updated: its out-of-sample Sharpe ratio per bar.
    """
    n_blocks, n_sets = sums.shape
    half = n_blocks // 2
    low_bits = (1 << half) - 1
    low_sums, high_sums = half_tables(n_blocks)
    low_squares, high_squares = half_tables(n_blocks)
    row = np.empty(TILE)
    for first in range(0, n_sets, TILE):
        width = min(TILE, n_sets - first)
        fill_half_tables(sums, first, width, low_sums, high_sums)
        fill_half_tables(squares, first, width, low_squares, high_squares)
        for split in range(len(inside_masks)):
            low, high = inside_masks[split] & low_bits, inside_masks[split] >> half
            n, best = n_inside[split], inside[split]
            # Counting the better sets vectorizes. Which of them is best is rarely needed.
            n_better = 0
            for lane in range(width):
                row[lane] = block_sharpe(
                    n,
                    low_sums[low, lane] + high_sums[high, lane],
                    low_squares[low, lane] + high_squares[high, lane],
                )
                n_better += row[lane] > best
            if n_better == 0:
                continue
            chosen = 0
            for lane in range(width):
                if row[lane] > best:
                    best, chosen = row[lane], lane
            low, high = outside_masks[split] & low_bits, outside_masks[split] >> half
            winners[split], inside[split] = first_set + first + chosen, best
            outside[split] = block_sharpe(
                n_outside[split],
                low_sums[low, chosen] + high_sums[high, chosen],
                low_squares[low, chosen] + high_squares[high, chosen],
            )


@jit
def rank_out_of_sample(
    sums: FloatArray,
    squares: FloatArray,
    outside_masks: IntArray,
    n_outside: FloatArray,
    outside: FloatArray,
    ranks: FloatArray,
) -> None:
    """Rank every split's winner among all sets out-of-sample. Rank 1 is the worst; equals share.

    Args:
        sums: (n_blocks, n_sets), sum of the returns of each block.
        squares: (n_blocks, n_sets), sum of the squared returns.
        outside_masks: (n_splits,), blocks that are out-of-sample.
        n_outside: (n_splits,), bars out-of-sample, >= 2.
        outside: (n_splits,), the winners' out-of-sample Sharpe ratio, by ``select_in_sample``.
        ranks: (n_splits,), increased by the number of worse sets in this chunk plus half of the
            equal ones, the winner included; 0.5 before the first chunk.
    """
    n_blocks, n_sets = sums.shape
    half = n_blocks // 2
    low_bits = (1 << half) - 1
    low_sums, high_sums = half_tables(n_blocks)
    low_squares, high_squares = half_tables(n_blocks)
    for first in range(0, n_sets, TILE):
        width = min(TILE, n_sets - first)
        fill_half_tables(sums, first, width, low_sums, high_sums)
        fill_half_tables(squares, first, width, low_squares, high_squares)
        for split in range(len(outside_masks)):
            low, high = outside_masks[split] & low_bits, outside_masks[split] >> half
            n, own = n_outside[split], outside[split]
            n_worse = 0
            n_not_better = 0
            for lane in range(width):
                sharpe = block_sharpe(
                    n,
                    low_sums[low, lane] + high_sums[high, lane],
                    low_squares[low, lane] + high_squares[high, lane],
                )
                n_worse += sharpe < own
                n_not_better += sharpe <= own
            # This is the number of worse sets plus half the number of equal ones.
            ranks[split] += 0.5 * (n_worse + n_not_better)
