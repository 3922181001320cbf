"""How a parameter's values are put into the cells of a heatmap; every figure uses this one rule."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pandas as pd

from optimizer.study_file.space import Space

MOST_VALUES = 25
"""Distinct values of a parameter up to which each has a cell of its own; more go into bins."""

N_BINS = 16


@dataclass(frozen=True, eq=False)
class Axis:
    """One parameter, in cells.

    Attributes:
        name: its column.
        labels: the labels of the cells, ascending; no two are the same.
        codes: (n_sets,) cell of each set; -1 where the set has no such parameter.
    """

    name: str
    labels: tuple[str, ...]
    codes: npt.NDArray[np.int16]


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
        return Axis(name, _labels(distinct), codes.astype(np.int16))
    low, high = float(distinct[0]), float(distinct[-1])
    spaced = np.geomspace if log and low > 0.0 else np.linspace
    edges = spaced(low, high, N_BINS + 1)
    of_distinct = np.searchsorted(edges[1:-1], np.asarray(distinct, np.float64), side="right")
    binned = np.where(codes < 0, -1, of_distinct[codes])
    labels = tuple(f"{a:.3g} to {b:.3g}" for a, b in pairwise(edges))
    return Axis(name, labels, binned.astype(np.int16))


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
