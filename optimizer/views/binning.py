"""How a parameter's values are put into the cells of a heatmap; every figure uses this one rule."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pandas as pd

from optimizer.study_file.space import Space
from optimizer.types import FloatArray

MOST_VALUES = 25
"""Distinct values of a parameter up to which each has a cell of its own; more go into bins."""

N_BINS = 16

MOST_UNEVEN = 10.0
"""How many times as large as the smallest cell of a numeric axis the largest one may be."""


@dataclass(frozen=True, eq=False)
class Axis:
    """One parameter, in cells.

    Attributes:
        name: its column.
        labels: the labels of the cells, ascending; no two are the same.
        codes: (n_sets,) cell of each set; -1 where the set has no such parameter.
        centres: (n_cells,) where the cells lie along the axis, ascending: the values themselves, the
            middles of bins, or the places from 0 on of texts and of values that lie too unevenly.
        numeric: whether the centres are values of the parameter, and not places.
        log: whether the axis is logarithmic.
    """

    name: str
    labels: tuple[str, ...]
    codes: npt.NDArray[np.int16]
    centres: FloatArray
    numeric: bool
    log: bool

    @property
    def edges(self) -> FloatArray:
        """The borders of the cells along the axis, (n_cells + 1,): halfway between the centres."""
        if len(self.centres) < 2:
            return np.asarray(self.centres[0] + np.array([-0.5, 0.5]))
        return borders(self.centres, self.log)


def borders(centres: FloatArray, log: bool) -> FloatArray:
    """The borders of cells, halfway between their centres; the outer cells reach as far outwards.

    Args:
        centres: (n_cells,), at least 2, ascending; above 0 where ``log``.
        log: whether halfway is meant in the logarithm.

    Returns:
        (n_cells + 1,)
    """
    at = np.log(centres) if log else centres
    middles = at[1:] / 2.0 + at[:-1] / 2.0
    with np.errstate(over="ignore"):  # the outer borders of values that all but fill a float
        outer = at[0] + (at[0] - middles[0]), at[-1] + (at[-1] - middles[-1])
        found = np.concatenate([outer[:1], middles, outer[1:]])
        return np.asarray(np.exp(found) if log else found)


def axis_of(values: pd.Series, log: bool = False) -> Axis:
    """Put a parameter's values into cells: one per value, or 16 bins of equal width.

    Args:
        values: (n_sets,) of all sets of the study, numbers or texts; NaN where a set has none.
            Named after its column.
        log: whether bins have equal width in the logarithm.

    Returns:
        The cells and the cell of each set. A bin includes its lower edge; the last one also its
        upper.
    """
    codes, distinct = pd.factorize(values, sort=True)
    name = str(values.name)
    if len(distinct) <= MOST_VALUES:
        return Axis(name, _labels(distinct), codes.astype(np.int16), *_placed(list(distinct)))
    low, high = float(distinct[0]), float(distinct[-1])
    log = log and low > 0.0
    edges = (np.geomspace if log else np.linspace)(low, high, N_BINS + 1)
    of_distinct = np.searchsorted(edges[1:-1], np.asarray(distinct, np.float64), side="right")
    binned = np.where(codes < 0, -1, of_distinct[codes])
    labels = tuple(f"{a:.3g} to {b:.3g}" for a, b in pairwise(edges))
    centres = np.sqrt(edges[1:] * edges[:-1]) if log else (edges[1:] + edges[:-1]) / 2.0
    return Axis(name, labels, binned.astype(np.int16), centres, True, log)


def _placed(distinct: Sequence[str | float]) -> tuple[FloatArray, bool, bool]:
    """The ``centres``, ``numeric`` and ``log`` of cells that hold one value each."""
    places = np.arange(len(distinct), dtype=np.float64)
    if any(isinstance(one, str) for one in distinct):
        return places, False, False
    values = np.asarray(distinct, np.float64)
    if len(values) < 2:
        return values, True, False
    for log in (False, True):
        if log and values[0] <= 0.0:
            break
        edges = borders(values, log)
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            sizes = np.diff(np.log(edges) if log else edges)
        if sizes.max() / MOST_UNEVEN <= sizes.min():
            return values, True, log
    return places, False, False


def _labels(distinct: Iterable[str | float]) -> tuple[str, ...]:
    """Values in as few digits as tell them apart."""
    labels: tuple[str, ...] = ()
    for digits in (4, 6, 17):
        labels = tuple(one if isinstance(one, str) else f"{one:.{digits}g}" for one in distinct)
        if len(set(labels)) == len(labels):
            break
    return labels


def log_parameters(space: Space) -> set[str]:
    """The parameters that a study searches in the logarithm.

    Args:
        space: the parameter space of the study.

    Returns:
        Their columns.
    """
    return {one.name for branch in space.branches for one in branch.searched if one.log}
