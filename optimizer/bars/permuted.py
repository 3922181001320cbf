"""Copies of bars without an edge: blocks of bars in another order, prices rebuilt from their changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from optimizer.types import Bars, FloatArray, IntArray


def block_order(n_bars: int, mean_block: float, random: np.random.Generator) -> IntArray:
    """An order of bars in which blocks of random lengths have changed places.

    The bars stand in a ring, the first after the last. A block ends after each bar with the same
    probability, so its length is geometric, and every order of the blocks is equally likely. So every bar
    is there once, and comes to each place with the same probability. As every bar is there once, the
    whole change of every price stays what it was.

    Args:
        n_bars: number of bars, 1 or more.
        mean_block: mean length of a block, bars, 1 or more.
        random: the source of lengths and order.

    Returns:
        Shape (n_bars,): the bar that comes to each place.
    """
    ring = np.roll(np.arange(n_bars), random.integers(n_bars))
    blocks = np.split(ring, np.flatnonzero(random.random(n_bars - 1) < 1.0 / mean_block) + 1)
    return np.concatenate([blocks[place] for place in random.permutation(len(blocks))])


def permuted(bars: Bars, mean_block: float, random: np.random.Generator) -> Bars:
    """The bars in another order, all symbols together.

    Each bar but the first is kept as open, high, low and close over the close before it, with its
    volume, its payments over that close, and which symbols have it. Blocks of these change places, and
    the prices follow from the first close. So what the symbols did at the same time they still do, and
    calm and wild times stay together within a block. The times stay where they are.

    Args:
        bars: the bars.
        mean_block: mean length of a block, bars.
        random: the source of lengths and order.

    Returns:
        Bars of the same times and symbols.
    """
    order = block_order(bars.n_bars - 1, mean_block, random) + 1
    before = bars.close[order - 1]
    changes = np.concatenate((bars.close[:1], bars.close[order] / before))
    close = np.asarray(np.cumprod(changes, axis=0), np.float64)

    def rebuilt(name: str) -> FloatArray:
        values: FloatArray = getattr(bars, name)
        return np.concatenate((values[:1], close[:-1] * (values[order] / before)))

    moved = np.concatenate(([0], order))
    return replace(
        bars,
        open=rebuilt("open"),
        high=rebuilt("high"),
        low=rebuilt("low"),
        close=close,
        volume=bars.volume[moved],
        present=None if bars.present is None else bars.present[moved],
        payments=None if bars.payments is None else rebuilt("payments"),
    )
