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
"""A cell belongs to the plateau if it is worse than the best one by at most this share of it."""


@dataclass(frozen=True, eq=False)
class Grid:
    """An objective over two parameters, all others together.

    Attributes:
        x, y: the parameters.
        median, best: (n_y, n_x) of the sets in a cell; NaN where there are none.
        counts: (n_y, n_x) sets.
    """

    x: Axis
    y: Axis
    median: FloatArray
    best: FloatArray
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
        median, best = np.full((2, n_x * n_y), np.nan)
        some = counts > 0
        middle = starts[some] + (counts[some] - 1) // 2
        median[some] = (own[middle] + own[starts[some] + counts[some] // 2]) / 2.0
        best[some] = own[(stops[some] - 1) if maximize else starts[some]]
        shape = (n_y, n_x)
        yield Grid(
            axes[i], axes[j], median.reshape(shape), best.reshape(shape), counts.reshape(shape)
        )


def plateau(cells: FloatArray, maximize: bool) -> BoolArray:
    """Which cells are within 10% of the best cell's value.

    Args:
        cells: (n_y, n_x) values; NaN where there are none.
        maximize: whether more is better.

    Returns:
        (n_y, n_x) flags.

    >>> plateau(np.array([[1.0, 0.95, 0.5, np.nan]]), True)
    array([[ True,  True, False, False]])
    """
    if np.isnan(cells).all():
        return np.zeros(cells.shape, np.bool_)
    best = np.nanmax(cells) if maximize else np.nanmin(cells)
    slack = PLATEAU * abs(best)
    return np.asarray(cells >= best - slack if maximize else cells <= best + slack)


def outline(inside: BoolArray) -> tuple[list[float | None], list[float | None]]:
    """The borders between cells inside and cells outside.

    Args:
        inside: (n_y, n_x) flags. Cell (i, j) reaches from j - 0.5 to j + 0.5 in x and from i - 0.5
            to i + 0.5 in y.

    Returns:
        x and y of the ends of all lines, with None between two lines.
    """
    padded = np.pad(inside, 1)
    x: list[float | None] = []
    y: list[float | None] = []
    upright = padded[:, 1:] != padded[:, :-1]
    for j in range(upright.shape[1]):
        for start, stop in _stretches(upright[:, j]):
            x += [j - 0.5, j - 0.5, None]
            y += [start - 1.5, stop - 1.5, None]
    level = padded[1:, :] != padded[:-1, :]
    for i in range(level.shape[0]):
        for start, stop in _stretches(level[i]):
            x += [start - 1.5, stop - 1.5, None]
            y += [i - 0.5, i - 0.5, None]
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
