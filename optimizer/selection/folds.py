"""Folds in time: walk-forward, purged k-fold, combinatorial purged cross-validation (CPCV).

Bars are numbered 0 .. n_bars - 1. Windows and groups are half-open, [start, stop). Labels are closed:
the label of bar t, what a model learns or a position earns from the decision at t, reads the bars
t, t + 1, .. t + horizon[t], both ends included. ``horizon`` is one number for all bars or one per
bar. It has no default, since 0 leaks wherever labels reach past their own bar. A decision filled at
the next open and marked at the next close has horizon 1.

Purge: a training bar is dropped where its label shares a bar with the label of a test bar. With test
bars [a, b) whose labels reach bar e = max(t + horizon[t] for t in [a, b)), the dropped bars are
those t <= e with t + horizon[t] >= a. Labels that only touch, one ending on the bar on which the
other starts, do overlap.

Embargo: the ``embargo`` bars after e, that is e + 1 .. e + embargo, are dropped too. It is counted
from the end of the last test label, not from the last test bar, and on that side only: what follows a
test still echoes it, and the purge covers what precedes it.

Sources: López de Prado 2018, "Advances in Financial Machine Learning", sections 7.4.1 (purge), 7.4.2
(embargo) and 12.4 (CPCV); Pardo 2008, "The Evaluation and Optimization of Trading Strategies"
(walk-forward). There a label may end on the bar where a test label starts; here it may not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np

from optimizer.types import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Fold:
    """One split of the bars.

    Attributes:
        train: bars to choose on, ascending.
        test: bars to judge on, ascending; none of them is a training bar.
    """

    train: IntArray
    test: IntArray


def walk_forward(
    n_bars: int,
    train_bars: int,
    test_bars: int,
    *,
    horizon: int | IntArray,
    anchored: bool = False,
) -> Iterator[Fold]:
    """The windows that move forward: train on the past, test on the bars that follow.

    There are (n_bars - train_bars) // test_bars folds. The test windows have ``test_bars`` bars each
    and follow one another without a gap; the last one ends with the last bar. A rolling training
    window is the ``train_bars`` bars before its test window. An anchored one starts at bar 0 and
    grows. The purge shortens the training window at its end. The remainder,
    (n_bars - train_bars) % test_bars bars, is at the start: a rolling walk leaves it out, an anchored
    one has it in every training window.

    Eleven bars, four to train on, three to test on, labels that read the next bar: two folds, one
    bar left over. Bar 4 would be trained on with a label that reads bar 5, the first test bar.

    >>> for fold in walk_forward(11, 4, 3, horizon=1):
    ...     print(fold.train, fold.test)
    [1 2 3] [5 6 7]
    [4 5 6] [ 8  9 10]
    >>> for fold in walk_forward(11, 4, 3, horizon=1, anchored=True):
    ...     print(fold.train, fold.test)
    [0 1 2 3] [5 6 7]
    [0 1 2 3 4 5 6] [ 8  9 10]

    Args:
        n_bars: number of bars.
        train_bars: bars of a training window before the purge; of the shortest one when anchored.
        test_bars: bars of a test window.
        horizon: bars after its own that a label reads, >= 0; one number or (n_bars,).
        anchored: whether every training window starts at bar 0.

    Raises:
        ValueError: a count is below 1, the windows do not fit into the bars, or a purge leaves
            nothing to train on.
    """
    _require("n_bars", n_bars, 1)
    _require("train_bars", train_bars, 1)
    _require("test_bars", test_bars, 1)
    reach = _label_ends(n_bars, horizon)
    n_folds = (n_bars - train_bars) // test_bars
    if n_folds < 1:
        raise ValueError(
            f"train_bars + test_bars must be at most n_bars={n_bars} "
            f"(got train_bars={train_bars}, test_bars={test_bars})"
        )
    first = n_bars - n_folds * test_bars
    windows = []
    for start in range(first, n_bars, test_bars):
        train = np.arange(0 if anchored else start - train_bars, start)
        windows.append(([(start, start + test_bars)], train))
    return iter(
        [_fold(number, tests, train, reach, 0) for number, (tests, train) in enumerate(windows)]
    )


def purged_k_fold(
    n_bars: int, n_folds: int, *, horizon: int | IntArray, embargo: int = 0
) -> Iterator[Fold]:
    """K-fold cross-validation in time order with purge and embargo.

    The bars are cut into ``n_folds`` groups by ``group_bounds``, each is the test once, in order, and
    the bars before and after it are trained on. Every bar is tested exactly once; where the bars do
    not divide, the first n_bars % n_folds groups have one bar more.

    Ten bars, three folds, labels that read the next bar, an embargo of one bar. In the second fold
    the test is [4, 7) and its labels reach bar 7: the purge drops 3 (its label reads 4) and 7, the
    embargo 8.

    >>> for fold in purged_k_fold(10, 3, horizon=1, embargo=1):
    ...     print(fold.train, fold.test)
    [6 7 8 9] [0 1 2 3]
    [0 1 2 9] [4 5 6]
    [0 1 2 3 4 5] [7 8 9]

    Args:
        n_bars: number of bars.
        n_folds: number of folds, >= 2.
        horizon: bars after its own that a label reads, >= 0; one number or (n_bars,).
        embargo: bars dropped after the end of the last test label, >= 0.

    Returns:
        The folds, ``test`` ascending.

    Raises:
        ValueError: a number is out of its range, or nothing is left to train on.
    """
    _require("n_folds", n_folds, 2)
    if n_folds > n_bars:
        raise ValueError(f"n_folds must be at most n_bars={n_bars} (got n_folds={n_folds})")
    return iter(list(combinatorial_purged(n_bars, n_folds, 1, horizon=horizon, embargo=embargo)))


def combinatorial_purged(
    n_bars: int,
    n_groups: int,
    n_test_groups: int,
    *,
    horizon: int | IntArray,
    embargo: int = 0,
) -> Iterator[Fold]:
    """Combinatorial purged cross-validation: every choice of test groups is a split.

    The bars are cut into N = ``n_groups`` groups by ``group_bounds`` (remainder bars: one more for
    each of the first groups). There are C(N, k) splits for k = ``n_test_groups``, in lexicographic
    order of their test groups: for N = 4 and k = 2 these are 01, 02, 03, 12, 13, 23. Purge and
    embargo apply at each test group. ``recombine`` joins the test parts to k/N * C(N, k) paths.

    Eight bars in four groups of two, two of them tests, labels that read the next bar. The second
    split tests [0, 2) and [4, 6): bar 2 is in the label of 1, the label of 3 reads 4, and 6 is in
    the label of 5.

    >>> for fold in combinatorial_purged(8, 4, 2, horizon=1):
    ...     print(fold.train, fold.test)
    [5 6 7] [0 1 2 3]
    [7] [0 1 4 5]
    [3 4] [0 1 6 7]
    [0 7] [2 3 4 5]
    [0] [2 3 6 7]
    [0 1 2] [4 5 6 7]

    The folds are made one at a time: C(24, 12) of them are 2.7 million.

    Args:
        n_bars: number of bars.
        n_groups: number of groups, 2 .. n_bars.
        n_test_groups: groups that a split tests, 1 .. n_groups - 1.
        horizon: bars after its own that a label reads, >= 0; one number or (n_bars,).
        embargo: bars dropped after the end of the last label of each test group, >= 0.

    Returns:
        The folds, one for each choice.

    Raises:
        ValueError: a number is out of its range; or, when that split is reached, nothing is left to
            train on.
    """
    bounds = group_bounds(n_bars, n_groups)
    _require_test_groups(n_groups, n_test_groups)
    _require("embargo", embargo, 0)
    reach = _label_ends(n_bars, horizon)
    everything = np.arange(n_bars)
    return (
        _fold(
            number,
            [(int(bounds[group]), int(bounds[group + 1])) for group in groups],
            everything,
            reach,
            embargo,
        )
        for number, groups in enumerate(combinations(range(n_groups), n_test_groups))
    )


def combinatorial_paths(n_groups: int, n_test_groups: int) -> IntArray:
    """Which split of ``combinatorial_purged`` gives each group of each path.

    Every group is tested by C(N - 1, k - 1) = k/N * C(N, k) splits, and that is the number of paths:
    path p takes each group from the p-th split, in their order, that tests it. So every test part of
    every split is used once, and a path covers all bars once.

    Four groups, two of them tests: six splits and three paths. Group 1 is tested by the splits
    0 (01), 3 (12) and 4 (13).

    >>> combinatorial_paths(4, 2)
    array([[0, 0, 1, 2],
           [1, 3, 3, 4],
           [2, 4, 5, 5]])

    Args:
        n_groups: number of groups, N.
        n_test_groups: groups that a split tests, k.

    Returns:
        (n_paths, n_groups), numbers of splits.

    Raises:
        ValueError: ``n_groups`` is below 2 or ``n_test_groups`` not in 1 .. n_groups - 1.
    """
    _require("n_groups", n_groups, 2)
    _require_test_groups(n_groups, n_test_groups)
    paths = np.empty((comb(n_groups - 1, n_test_groups - 1), n_groups), np.int64)
    filled = [0] * n_groups
    for split, groups in enumerate(combinations(range(n_groups), n_test_groups)):
        for group in groups:
            paths[filled[group], group] = split
            filled[group] += 1
    return paths


def recombine(
    out_of_sample: Iterable[FloatArray], n_bars: int, n_groups: int, n_test_groups: int
) -> FloatArray:
    """Join the test parts of ``combinatorial_purged`` to paths through all bars.

    Three bars in three groups, two tests a split; the splits 01, 02 and 12 returned 1, 2 and 3
    throughout:

    >>> recombine([np.full(2, 1.0), np.full(2, 2.0), np.full(2, 3.0)], 3, 3, 2)
    array([[1., 1., 2.],
           [2., 3., 3.]])

    Args:
        out_of_sample: an array for each split, in order, with one value per bar of its ``test``,
            such as the return of the set chosen on its ``train``.
        n_bars: number of bars.
        n_groups: number of groups.
        n_test_groups: groups that a split tests.

    Returns:
        (k/N * C(N, k), n_bars), one row a path.

    Raises:
        ValueError: a number is out of its range, or the values do not fit the splits.
    """
    bounds = group_bounds(n_bars, n_groups)
    _require_test_groups(n_groups, n_test_groups)
    paths = np.full((comb(n_groups - 1, n_test_groups - 1), n_bars), np.nan)
    filled = [0] * n_groups
    n_splits, given = comb(n_groups, n_test_groups), iter(out_of_sample)
    for split, groups in enumerate(combinations(range(n_groups), n_test_groups)):
        values = next(given, None)
        if values is None:
            raise ValueError(f"out_of_sample must have {n_splits} splits (got {split})")
        expected = sum(int(bounds[group + 1] - bounds[group]) for group in groups)
        if np.shape(values) != (expected,):
            raise ValueError(
                f"out_of_sample of split {split} must have one value for each of its {expected} "
                f"test bars (got shape {np.shape(values)})"
            )
        start = 0
        for group in groups:
            stop = start + int(bounds[group + 1] - bounds[group])
            paths[filled[group], bounds[group] : bounds[group + 1]] = values[start:stop]
            filled[group] += 1
            start = stop
    if next(given, None) is not None:
        raise ValueError(f"out_of_sample must have {n_splits} splits (got more)")
    return paths


def group_bounds(n_bars: int, n_groups: int) -> IntArray:
    """Bounds of contiguous groups of bars: group g is [bounds[g], bounds[g + 1]).

    Sizes differ by one bar at most: the first n_bars % n_groups groups have one bar more. Every bar is
    tested, unlike in ``sweep.inputs.block_bounds``, whose blocks must be equal and leave bars out.

    >>> group_bounds(11, 4)
    array([ 0,  3,  6,  9, 11])

    Args:
        n_bars: number of bars.
        n_groups: number of groups.

    Returns:
        (n_groups + 1,)

    Raises:
        ValueError: ``n_groups`` is not in 2 .. n_bars.
    """
    _require("n_groups", n_groups, 2)
    if n_groups > n_bars:
        raise ValueError(f"n_groups must be at most n_bars={n_bars} (got n_groups={n_groups})")
    size, longer = divmod(n_bars, n_groups)
    groups = np.arange(n_groups + 1)
    bounds: IntArray = groups * size + np.minimum(groups, longer)
    return bounds


def _fold(
    number: int,
    tests: Sequence[tuple[int, int]],
    candidates: IntArray,
    reach: IntArray,
    embargo: int,
) -> Fold:
    """The fold that tests the windows ``tests`` and trains on what purge and embargo leave."""
    keep = np.ones(len(candidates), np.bool_)
    for start, stop in tests:
        last = int(reach[start:stop].max())
        keep &= (candidates > last + embargo) | (reach[candidates] < start)
    train = candidates[keep]
    if not len(train):
        raise ValueError(
            f"fold {number} has nothing to train on: the labels of all {len(candidates)} bars overlap "
            f"those of its test bars (got embargo={embargo}, "
            f"horizon up to {int((reach - np.arange(len(reach))).max())}); take fewer or longer folds"
        )
    return Fold(train, np.concatenate([np.arange(start, stop) for start, stop in tests]))


def _label_ends(n_bars: int, horizon: int | IntArray) -> IntArray:
    """Last bar that the label of each bar reads; it may lie past the last bar."""
    horizons = np.asarray(horizon)
    if not np.issubdtype(horizons.dtype, np.integer):
        raise ValueError(f"horizon must be whole bars (got horizon={horizon!r})")
    if horizons.shape not in ((), (n_bars,)):
        raise ValueError(
            f"horizon must be one number or one per bar, ({n_bars},) (got shape {horizons.shape})"
        )
    if horizons.size and horizons.min() < 0:
        raise ValueError(f"horizon must be at least 0 (got horizon={int(horizons.min())})")
    ends: IntArray = np.arange(n_bars) + horizons
    return ends


def _require(name: str, value: int, least: int) -> None:
    if value < least:
        raise ValueError(f"{name} must be at least {least} (got {name}={value})")


def _require_test_groups(n_groups: int, n_test_groups: int) -> None:
    if not 1 <= n_test_groups < n_groups:
        raise ValueError(
            f"n_test_groups must be in 1 .. {n_groups - 1} for n_groups={n_groups} "
            f"(got n_test_groups={n_test_groups})"
        )
