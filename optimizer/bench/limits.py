"""What one core of this machine can do at most, measured by small kernels of our own."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kernels import layout
from kernels._jit import jit_borrowing
from optimizer.bench.assembly import VECTOR, Mix
from optimizer.types import FloatArray


@dataclass(frozen=True)
class Limits:
    """The peaks of one core.

    Attributes:
        divide_ns: least time of a division of 8 doubles, ns.
        arithmetic_ns: the same of an addition, multiplication, minimum or maximum, on average.
        load_ns, store_ns: the same of a load from and a store to the first-level cache.
        read_gb_s: reading memory beyond every cache, GB/s.
    """

    divide_ns: float
    arithmetic_ns: float
    load_ns: float
    store_ns: float
    read_gb_s: float

    def bound_ns(self, mix: Mix) -> float:
        """The least time for 8 lanes: that of the busiest unit.

        Divisions, arithmetic, loads and stores overlap: some kernels measured take less than the sum
        of the first two.

        Args:
            mix: instructions for 8 lanes.

        Returns:
            Nanoseconds.
        """
        return max(
            mix.divides * self.divide_ns,
            mix.arithmetic * self.arithmetic_ns,
            mix.loads * self.load_ns,
            mix.stores * self.store_ns,
        )


_ROWS = 9
_ROW = np.uint64(256)  # doubles: all rows stay in the first-level cache
_CHAIN = 8  # times four instructions on what was loaded once


@jit_borrowing
def _divide(x: FloatArray, n: int, a: float, b: float) -> None:
    for _ in range(n):
        for i in range(_ROW):
            x[i] = a / x[i]


@jit_borrowing
def _compute(x: FloatArray, n: int, a: float, b: float) -> None:
    # Four independent chains keep the units busy while each waits for its own last result.
    for _ in range(n):
        for i in range(_ROW):
            y0, y1, y2, y3 = x[i], x[_ROW + i], x[_ROW + _ROW + i], x[_ROW + _ROW + _ROW + i]
            for _ in range(_CHAIN):
                y0, y1, y2, y3 = y0 * a, y1 * a, y2 * a, y3 * a
                y0, y1, y2, y3 = y0 + b, y1 + b, y2 + b, y3 + b
                y0, y1 = (y0 if y0 < b else b), (y1 if y1 < b else b)
                y2, y3 = (y2 if y2 < b else b), (y3 if y3 < b else b)
                y0, y1 = (y0 if y0 > a else a), (y1 if y1 > a else a)
                y2, y3 = (y2 if y2 > a else a), (y3 if y3 > a else a)
            x[i], x[_ROW + i], x[_ROW + _ROW + i], x[_ROW + _ROW + _ROW + i] = y0, y1, y2, y3


@jit_borrowing
def _load(x: FloatArray, n: int, a: float, b: float) -> None:
    for _ in range(n):
        for i in range(_ROW):
            y = x[i]
            for row in range(np.uint64(1), np.uint64(_ROWS)):
                z = x[row * _ROW + i]
                y = (y if y < z else z) if row & np.uint64(1) else y + z
            x[i] = y


@jit_borrowing
def _store(x: FloatArray, n: int, a: float, b: float) -> None:
    for _ in range(n):
        for i in range(_ROW):
            y = x[i] * a
            for row in range(np.uint64(0), np.uint64(_ROWS)):
                x[row * _ROW + i] = y


@jit_borrowing
def _read(x: FloatArray, largest: FloatArray) -> None:
    for start in range(np.uint64(0), np.uint64(len(x)), np.uint64(layout.LANES)):
        for b in range(layout.B):
            value = x[start + b]
            largest[b] = value if value > largest[b] else largest[b]


_MEMORY = 2**24  # doubles: 134 MB, larger than any cache
_TURNS = 200
"""Turns of a peak kernel in one measurement: about 20 us, which is rarely interrupted."""


def best_time(work: Callable[[], object], rounds: int) -> float:
    """The least processor time of several calls.

    Args:
        work: what is timed.
        rounds: how many calls; one more, the first, is not timed.

    Returns:
        Nanoseconds.
    """
    work()
    taken = []
    for _ in range(rounds):
        start = time.thread_time_ns()
        work()
        taken.append(time.thread_time_ns() - start)
    return float(min(taken))


def measure_limits(rounds: int = 200) -> Limits:
    """Measure the peaks of this machine on one core.

    Args:
        rounds: how often each peak is measured; the best counts.

    Returns:
        The peaks.
    """
    x = layout.aligned_zeros((_ROWS * int(_ROW),))
    vectors = int(_ROW) // VECTOR * _TURNS

    def per_vector(kernel: Callable[..., None]) -> float:
        def work() -> None:
            x[:] = 1.0
            kernel(x, _TURNS, 0.75, 1.25)

        return best_time(work, rounds) / vectors

    divide, compute, load, store = map(per_vector, (_divide, _compute, _load, _store))
    large = layout.aligned_zeros((_MEMORY,))
    large[:] = 1.0
    largest = layout.aligned_zeros((layout.LANES,))
    read = best_time(lambda: _read(large, largest), max(3, rounds // 20))
    return Limits(
        divide_ns=divide,
        arithmetic_ns=compute / (4 * 4 * _CHAIN),
        load_ns=load / _ROWS,
        store_ns=store / _ROWS,
        read_gb_s=large.nbytes / read,
    )
