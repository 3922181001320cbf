"""What all sets of a study show together: grids of two parameters, shares of the variance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from optimizer.types import BoolArray, FloatArray
from optimizer.views.binning import Axis

PLATEAU = 0.1
"""A cell of the plateau is worse than the best one by at most this share of it."""


@dataclass(frozen=True, eq=False)
class Grid:
    """An objective over two parameters, all others together.

    Attributes:
        x, y: the parameters.
        median, best, worst: (n_y, n_x) of the sets in a cell; NaN where there are none.
        counts: (n_y, n_x) sets.
    """

    x: Axis
    y: Axis
    median: FloatArray
    best: FloatArray
    worst: FloatArray
    counts: npt.NDArray[np.int64]


def grids(axes: Sequence[Axis], values: FloatArray, maximize: bool) -> Iterator[Grid]:
    """The grid of every pair of parameters.

    Args:
        axes: the parameters; fewer than two have no pair.
        values: (n_sets,) of the objective, in its own unit; NaN where undefined, which is left out.
        maximize: whether more is better.

    Yields:
        One grid per pair, in the order of ``axes``.
    """
    # Sorted once by value: a stable sort by cell then has each cell's values in order.
    order = np.argsort(values, kind="stable")[: np.count_nonzero(~np.isnan(values))]
    ascending = values[order]
    codes = [axis.codes[order] for axis in axes]
    for i, j in combinations(range(len(axes)), 2):
        n_x, n_y = len(axes[i].labels), len(axes[j].labels)
        there = (codes[i] >= 0) & (codes[j] >= 0)
        cells = (codes[j][there] * np.int16(n_x) + codes[i][there]).astype(np.int16)
        own = ascending[there][np.argsort(cells, kind="stable")]
        counts = np.bincount(cells, minlength=n_x * n_y)
        stops = np.cumsum(counts)
        starts = stops - counts
        median, low, high = np.full((3, n_x * n_y), np.nan)
        some = counts > 0
        middle = starts[some] + (counts[some] - 1) // 2
        median[some] = (own[middle] + own[starts[some] + counts[some] // 2]) / 2.0
        low[some], high[some] = own[starts[some]], own[stops[some] - 1]
        best, worst = (high, low) if maximize else (low, high)
        yield Grid(
            axes[i],
            axes[j],
            median.reshape(n_y, n_x),
            best.reshape(n_y, n_x),
            worst.reshape(n_y, n_x),
            counts.reshape(n_y, n_x),
        )


def plateau(cells: FloatArray, maximize: bool) -> BoolArray:
    """The region around the best cell in which all cells are within 10% of its value.

    A cell belongs to it that shares a side with one that does. A cell that is as good but lies apart is
    another peak.

    Args:
        cells: (n_y, n_x) values; NaN where there are none.
        maximize: whether more is better.

    Returns:
        (n_y, n_x) flags.

    >>> plateau(np.array([[1.0, 0.95, 0.5, 0.99, np.nan]]), True)
    array([[ True,  True, False, False, False]])
    """
    inside = np.zeros(cells.shape, np.bool_)
    if np.isnan(cells).all():
        return inside
    gains = cells if maximize else -cells
    best = np.nanmax(gains)
    good = gains >= (best - PLATEAU * abs(best) if np.isfinite(best) else best)
    inside[np.unravel_index(np.nanargmax(gains), gains.shape)] = True
    while True:
        padded = np.pad(inside, 1)
        beside = padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]
        grown = inside | (good & beside)
        if (grown == inside).all():
            return inside
        inside = grown


def outline(
    inside: BoolArray, edges_x: FloatArray, edges_y: FloatArray
) -> tuple[list[float | None], list[float | None]]:
    """The borders between cells inside and cells outside.

    Args:
        inside: (n_y, n_x) flags.
        edges_x, edges_y: (n_x + 1,) and (n_y + 1,), the borders of the cells.

    Returns:
        x and y of the ends of all lines, with None between two lines.
    """
    padded = np.pad(inside, 1)
    x: list[float | None] = []
    y: list[float | None] = []
    upright = padded[:, 1:] != padded[:, :-1]
    for j in range(upright.shape[1]):
        for start, stop in _stretches(upright[:, j]):
            x += [float(edges_x[j]), float(edges_x[j]), None]
            y += [float(edges_y[start - 1]), float(edges_y[stop - 1]), None]
    level = padded[1:, :] != padded[:-1, :]
    for i in range(level.shape[0]):
        for start, stop in _stretches(level[i]):
            x += [float(edges_x[start - 1]), float(edges_x[stop - 1]), None]
            y += [float(edges_y[i]), float(edges_y[i]), None]
    return x, y


def _stretches(flags: BoolArray) -> list[list[int]]:
    """First and one past the last place of each stretch of True; the first and last are False."""
    ends: list[list[int]] = np.flatnonzero(flags[1:] != flags[:-1]).reshape(-1, 2).tolist()
    return [[start + 1, stop + 1] for start, stop in ends]


def variance_shares(axes: Sequence[Axis], values: FloatArray) -> dict[str, float]:
    """Share of the objective's variance that each parameter explains by itself.

    The variance of the means of its bins over that of all sets: the correlation ratio (Pearson
    1905), an estimate of the first-order Sobol index (Sobol 1993) where sets are spread evenly. A
    parameter that only some sets have is judged among those.

    Args:
        axes: the parameters.
        values: (n_sets,) of the objective; NaN where undefined, which is left out.

    Returns:
        Shares, 0 to 1, by name, largest first; 0 where nothing varies.
    """
    found = {}
    for axis in axes:
        there = (axis.codes >= 0) & ~np.isnan(values)
        own, codes = values[there], axis.codes[there]
        counts = np.bincount(codes, minlength=len(axis.labels))
        total = float(((own - own.mean()) ** 2).sum()) if len(own) else 0.0
        sums = np.bincount(codes, own, minlength=len(axis.labels))
        some = counts > 0
        means = sums[some] / counts[some]
        between = float((counts[some] * (means - own.mean()) ** 2).sum()) if len(own) else 0.0
        found[axis.name] = between / total if total > 0.0 else 0.0
    return dict(sorted(found.items(), key=lambda item: -item[1]))
