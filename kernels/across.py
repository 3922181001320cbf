"""Comparisons of symbols at one bar: rank, top, and distance from the mean.

Each step compares the symbols that are marked with one another, and gives NaN to the others. What depends
on nothing but the values does not depend on the order of the symbols, but for ties in ``top_step``.
"""

import numpy as np

from kernels._jit import jit
from kernels.arrays import ByteArray, FloatArray, IntArray


@jit
def _marked(values: FloatArray, marks: ByteArray, out: FloatArray) -> IntArray:
    """The indices of the symbols that are marked and have a value; NaN in ``out`` everywhere."""
    n = 0
    found = np.empty(len(values), np.int64)
    for s in range(len(values)):
        out[s] = np.nan
        if marks[s] == 1 and values[s] - values[s] == 0.0:
            found[n] = s
            n += 1
    return found[:n]


@jit
def rank_step(values: FloatArray, marks: ByteArray, out: FloatArray) -> None:
    """The rank of each symbol, from 0 for the lowest to 1 for the highest.

    With ranks of 1 to n, of which equal values share the mean, it is (rank - 1) / (n - 1); 0.5 for one
    symbol alone.

    Args:
        values: a feature of each symbol, shape (n_symbols,).
        marks: 1 for the symbols that are compared, shape (n_symbols,).
        out: receives the ranks, shape (n_symbols,); NaN for the others, and where the value is not
            finite.
    """
    found = _marked(values, marks, out)
    n = len(found)
    order = found[np.argsort(values[found], kind="mergesort")]
    first = 0
    while first < n:
        stop = first + 1
        while stop < n and values[order[stop]] == values[order[first]]:
            stop += 1
        rank = 0.5 * (first + stop - 1)
        for place in range(first, stop):
            out[order[place]] = rank / (n - 1) if n > 1 else 0.5
        first = stop


@jit
def top_step(values: FloatArray, marks: ByteArray, n: int, out: FloatArray) -> None:
    """Whether each symbol is among the ``n`` with the highest values, 1 or 0.

    Of equal values the one that stands first counts as higher.

    Args:
        values: a feature of each symbol, shape (n_symbols,).
        marks: 1 for the symbols that are compared, shape (n_symbols,).
        n: number of symbols, 1 or more.
        out: receives 1 or 0, shape (n_symbols,); NaN for the others, and where the value is not finite.
    """
    found = _marked(values, marks, out)
    order = found[np.argsort(-values[found], kind="mergesort")]
    for place in range(len(order)):
        out[order[place]] = 1.0 if place < n else 0.0


@jit
def zscore_step(values: FloatArray, marks: ByteArray, out: FloatArray) -> None:
    """How many standard deviations each symbol is above the mean of all.

    The standard deviation is that of all values, with ddof 0; where it is 0, so is every distance.

    Args:
        values: a feature of each symbol, shape (n_symbols,).
        marks: 1 for the symbols that are compared, shape (n_symbols,).
        out: receives the distances, shape (n_symbols,); NaN for the others, and where the value is not
            finite.
    """
    found = _marked(values, marks, out)
    if len(found) == 0:
        return
    # Sums in the order of the values, so that the order of the symbols has no effect.
    ordered = np.sort(values[found])
    mean = 0.0
    for value in ordered:
        mean += value / len(ordered)
    variance = 0.0
    for value in ordered:
        variance += (value - mean) * (value - mean) / len(ordered)
    spread = ordered[-1] - ordered[0]
    for s in found:
        out[s] = (values[s] - mean) / np.sqrt(variance) if spread > 0.0 else 0.0


@jit
def rank(values: FloatArray, marks: ByteArray, out: FloatArray) -> None:
    """`rank_step` at every bar.

    Args:
        values, marks, out: those of the step at each bar, shape (n_bars, n_symbols).
    """
    for t in range(len(values)):
        rank_step(values[t], marks[t], out[t])


@jit
def top(values: FloatArray, marks: ByteArray, n: int, out: FloatArray) -> None:
    """`top_step` at every bar.

    Args:
        values, marks, out: those of the step at each bar, shape (n_bars, n_symbols).
        n: number of symbols, 1 or more.
    """
    for t in range(len(values)):
        top_step(values[t], marks[t], n, out[t])


@jit
def zscore(values: FloatArray, marks: ByteArray, out: FloatArray) -> None:
    """`zscore_step` at every bar.

    Args:
        values, marks, out: those of the step at each bar, shape (n_bars, n_symbols).
    """
    for t in range(len(values)):
        zscore_step(values[t], marks[t], out[t])
