"""The plateau score: what a set is worth together with its neighbours, in its tile and in all tiles."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd

from optimizer.study_file.space import Branch, Space
from optimizer.types import BoolArray, FloatArray, IntArray

_OWN_WEIGHT = 2.0
"""Weight of a set along each parameter in its own plateau score; that of a neighbour is 1."""

_MOST_NUMBERS = 2**62
"""Numbers of combinations stay below."""

Summed = Callable[[FloatArray, float], FloatArray]
"""Sums of values over each set and its neighbours, given the weight of the set along each parameter."""


def plateau(
    gains: FloatArray,
    columns: Mapping[str, FloatArray],
    swept: Mapping[str, tuple[float, ...]],
) -> FloatArray:
    """Each lane's mean over itself and its neighbours, as far from the tile's mean as it is certain.

    Neighbours are at most one step away in every parameter. The lane itself has weight 2 in each
    parameter and a neighbour in it weight 1, multiplied over the parameters: with equal weights, the mean
    of a lane whose neighbours are the whole tile would be that of the tile. Lanes that constraints left
    out, and values that are not finite, do not count. A corner of the grid has few neighbours, so its
    mean varies more, and the luckiest of all means would lie in a corner. See ``evened`` for what
    prevents it.

    Args:
        gains: (n_lanes,), values to be averaged.
        columns: parameters, each (n_lanes,).
        swept: values of each swept parameter, ascending.

    Returns:
        (n_lanes,), NaN where the lane's own value is not finite.
    """
    if not swept:
        return gains
    shape = tuple(len(values) for values in swept.values())
    place = tuple(
        np.searchsorted(np.asarray(values), columns[name]) for name, values in swept.items()
    )

    def summed(values: FloatArray, own_weight: float) -> FloatArray:
        grid = np.zeros(shape)
        grid[place] = values
        return _with_neighbours(grid, own_weight)[place]

    return evened(*_means(gains, summed))


def plateau_over_tiles(frame: pd.DataFrame, space: Space, objective: str) -> FloatArray:
    """The plateau score of every set of a study, whose neighbours may lie in other tiles.

    Along a searched parameter the neighbours of a set are those with the next lower and the next higher
    value that were tried while all other parameters are equal. A set that was tried several times
    counts once. A set is drawn towards the mean of its strategy under its classifier, until all sets of
    the study are equally uncertain. Where all tiles of a grid were tried, the scores are those of one
    tile that sweeps all parameters.

    Args:
        frame: the sets tried: columns ``strategy``, ``classifier``, the objective, and all parameters
            that are searched or swept.
        space: the parameter space of the study.
        objective: the metric that is averaged.

    Returns:
        (n_sets,), NaN where the set's own value is not finite.
    """
    values = frame[objective].to_numpy(np.float64, na_value=np.nan)
    means, variances, centres = (np.full(len(frame), np.nan) for _ in range(3))
    for branch in space.branches:
        own = (frame["strategy"] == branch.strategy.name) & (
            frame["classifier"] == branch.classifier
        )
        rows = np.flatnonzero(own)
        if not len(rows):
            continue
        places = _places(frame.iloc[rows], branch)
        _, first, which = np.unique(
            _numbered(list(places.values()), len(rows)), return_index=True, return_inverse=True
        )
        lines = _lines({name: place[first] for name, place in places.items()}, branch, len(first))
        found = _means(values[rows][first], partial(_along, lines))
        for target, part in zip((means, variances, centres), found, strict=True):
            target[rows] = part[which]
    return evened(means, variances, centres)


def evened(means: FloatArray, variances: FloatArray, centres: FloatArray) -> FloatArray:
    """Weighted means, their distances from the mean of all values made equally uncertain.

    Each distance is multiplied by a factor of at most 1 that makes its variance the least of those that
    are not 0. A mean with variance 0, which is that of a lone value, stays.

    Args:
        means: (n_sets,), over each set and its neighbours; NaN where the set has no value.
        variances: (n_sets,), of their distances from the centres, in units of that of a value.
        centres: (n_sets,), the mean of all values among which the set is one.

    Returns:
        (n_sets,)
    """
    spread = variances > 1e-12
    factors = np.ones(len(means))
    factors[spread] = np.sqrt(variances[spread].min(initial=np.inf) / variances[spread])
    return np.asarray(centres + factors * (means - centres))


def _means(gains: FloatArray, summed: Summed) -> tuple[FloatArray, FloatArray, FloatArray]:
    """What ``evened`` takes, of N values that belong together.

    Where the values are independent with the same variance v, a mean with weights w lies with variance
    v (sum of w^2 / (sum of w)^2 - 1/N) around the mean of all.
    """
    finite = np.isfinite(gains)
    count = finite.astype(np.float64)
    n, known = int(finite.sum()), np.where(finite, gains, 0.0)
    totals, weights, squares = (
        summed(values, own_weight)[finite]
        for values, own_weight in (
            (known, _OWN_WEIGHT),
            (count, _OWN_WEIGHT),
            (count, _OWN_WEIGHT**2),
        )
    )
    means, variances = np.full(len(gains), np.nan), np.full(len(gains), np.nan)
    means[finite] = totals / weights
    variances[finite] = squares / weights**2 - 1.0 / max(n, 1)
    return means, variances, np.full(len(gains), known.sum() / n if n else np.nan)


def _with_neighbours(values: FloatArray, own_weight: float) -> FloatArray:
    """Sums over each place and its neighbours, with ``own_weight`` for the place along each axis."""
    for axis in range(values.ndim):
        padded = np.pad(values, [(1, 1) if a == axis else (0, 0) for a in range(values.ndim)])
        n = values.shape[axis]
        before, own, after = (np.take(padded, range(k, k + n), axis) for k in range(3))
        values = before + own_weight * own + after
    return values


def _places(frame: pd.DataFrame, branch: Branch) -> dict[str, IntArray]:
    """The place of each set among the values of each parameter that varies."""
    columns = {name: frame[name].to_numpy(np.float64) for name in branch.varying}
    return {
        name: np.searchsorted(branch.swept.get(name, np.unique(column)), column)
        for name, column in columns.items()
    }


def _numbered(places: Sequence[IntArray], n_sets: int) -> IntArray:
    """A number for each set, the same for sets whose places are all the same."""
    numbers, size = np.zeros(n_sets, np.int64), 1
    for place in places:
        width = int(place.max()) + 1
        if size * width > _MOST_NUMBERS:
            numbers = np.unique(numbers, return_inverse=True)[1]
            size = n_sets
        numbers, size = numbers * width + place, size * width
    return numbers


def _lines(
    places: Mapping[str, IntArray], branch: Branch, n_sets: int
) -> list[tuple[IntArray, BoolArray]]:
    """The sets along each parameter while all others are equal.

    Returns:
        For each parameter an order of the sets, (n_sets,), and which of them are neighbours of the one
        after them, (n_sets - 1,). Swept values are neighbours if nothing lies between them in the study
        file, searched ones if nothing between them was tried.
    """
    lines = []
    for name, place in places.items():
        others = _numbered([one for other, one in places.items() if other != name], n_sets)
        order = np.lexsort((place, others))
        linked = np.diff(others[order]) == 0
        if name in branch.swept:
            linked &= np.diff(place[order]) == 1
        lines.append((order, linked))
    return lines


def _along(
    lines: Sequence[tuple[IntArray, BoolArray]], values: FloatArray, own_weight: float
) -> FloatArray:
    """What ``_with_neighbours`` does, on sets that need not fill a grid."""
    for order, linked in lines:
        own = values[order]
        sums = own_weight * own
        sums[1:] += np.where(linked, own[:-1], 0.0)
        sums[:-1] += np.where(linked, own[1:], 0.0)
        values = np.empty_like(sums)
        values[order] = sums
    return values
