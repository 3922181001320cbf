"""Folds: the worked examples, the purge rule itself, counts, paths and bad arguments."""

from __future__ import annotations

import doctest
from collections.abc import Callable
from itertools import combinations
from math import comb
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from optimizer.selection import folds
from optimizer.selection.folds import (
    Fold,
    combinatorial_paths,
    combinatorial_purged,
    group_bounds,
    purged_k_fold,
    recombine,
    walk_forward,
)

Horizon = int | list[int]


def test_worked_examples() -> None:
    results = doctest.testmod(folds)
    assert results.attempted >= 6
    assert results.failed == 0


def label(bar: int, horizon: Horizon) -> set[int]:
    """Bars that the label of a bar reads."""
    return set(range(bar, bar + (horizon if isinstance(horizon, int) else horizon[bar]) + 1))


def runs(bars: list[int]) -> list[list[int]]:
    """Stretches of consecutive bars."""
    found: list[list[int]] = []
    for bar in bars:
        if found and bar == found[-1][-1] + 1:
            found[-1].append(bar)
        else:
            found.append([bar])
    return found


def left_to_train(
    candidates: list[int], test: list[int], horizon: Horizon, embargo: int
) -> list[int]:
    """What purge and embargo leave, bar by bar."""
    read_by_test = set().union(*(label(bar, horizon) for bar in test))
    barred: set[int] = set()
    for stretch in runs(test):
        last = max(max(label(bar, horizon)) for bar in stretch)
        barred |= set(range(last + 1, last + embargo + 1))
    return [
        bar
        for bar in candidates
        if not label(bar, horizon) & read_by_test and bar not in barred and bar not in test
    ]


def as_horizon(horizon: Horizon) -> Any:
    return horizon if isinstance(horizon, int) else np.array(horizon)


@st.composite
def horizons(draw: st.DrawFn, n_bars: int) -> Horizon:
    if draw(st.booleans()):
        return draw(st.integers(0, 4))
    return draw(st.lists(st.integers(0, 6), min_size=n_bars, max_size=n_bars))


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_purge_and_embargo_equal_those_of_a_bar_by_bar_check(data: st.DataObject) -> None:
    n_bars = data.draw(st.integers(4, 40), "n_bars")
    n_groups = data.draw(st.integers(2, min(n_bars, 6)), "n_groups")
    n_test = data.draw(st.integers(1, n_groups - 1), "n_test_groups")
    embargo = data.draw(st.integers(0, 5), "embargo")
    horizon = data.draw(horizons(n_bars), "horizon")
    bounds = group_bounds(n_bars, n_groups)
    made = combinatorial_purged(
        n_bars, n_groups, n_test, horizon=as_horizon(horizon), embargo=embargo
    )
    for groups in combinations(range(n_groups), n_test):
        test = [bar for g in groups for bar in range(int(bounds[g]), int(bounds[g + 1]))]
        # A long label of one test group may reach past the next training bars: each group has its
        # own embargo, and where groups adjoin that of the first starts inside the second.
        train = list(range(n_bars))
        for g in groups:
            part = list(range(int(bounds[g]), int(bounds[g + 1])))
            train = left_to_train(train, part, horizon, embargo)
        if not train:
            with pytest.raises(ValueError, match="nothing to train on"):
                next(made)
            return
        fold = next(made)
        assert fold.test.tolist() == test
        assert fold.train.tolist() == train
        assert not set(left_to_train(train, test, horizon, 0)) ^ set(train)


def test_labels_that_touch_overlap() -> None:
    # Bar 3 reads 3 and 4, and 4 is the first test bar; the last test label, of 5, ends at 6.
    first, second, third = purged_k_fold(9, 3, horizon=1)
    assert second.test.tolist() == [3, 4, 5]
    assert second.train.tolist() == [0, 1, 7, 8]
    assert first.train.tolist() == [4, 5, 6, 7, 8]
    assert third.train.tolist() == [0, 1, 2, 3, 4]


def test_horizon_0_purges_nothing() -> None:
    for fold in purged_k_fold(10, 5, horizon=0):
        assert sorted([*fold.train, *fold.test]) == list(range(10))


def test_a_single_long_label_is_purged() -> None:
    horizon = np.ones(20, np.int64)
    horizon[2] = 10  # reads bars 2 .. 12
    train = [fold.train.tolist() for fold in purged_k_fold(20, 4, horizon=horizon)]
    assert [2 in bars for bars in train] == [False, False, False, True]
    # As a test bar it bars training up to 12.
    assert train[0] == list(range(13, 20))


def test_the_embargo_counts_from_the_end_of_the_last_test_label() -> None:
    fold = next(purged_k_fold(20, 4, horizon=2, embargo=3))
    # Test 0 .. 4, labels to 6, embargo 7 .. 9.
    assert fold.train.tolist() == list(range(10, 20))


@settings(deadline=None, max_examples=100)
@given(n_bars=st.integers(2, 60), data=st.data())
def test_every_bar_is_tested_once_by_k_folds(n_bars: int, data: st.DataObject) -> None:
    n_folds = data.draw(st.integers(2, n_bars))
    tests = [fold.test for fold in purged_k_fold(n_bars, n_folds, horizon=0)]
    assert np.concatenate(tests).tolist() == list(range(n_bars))
    sizes = [len(test) for test in tests]
    assert sizes == [len(part) for part in np.array_split(np.arange(n_bars), n_folds)]


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_walk_forward_windows(data: st.DataObject) -> None:
    train_bars = data.draw(st.integers(1, 20), "train_bars")
    test_bars = data.draw(st.integers(1, 10), "test_bars")
    n_bars = data.draw(st.integers(train_bars + test_bars, 80), "n_bars")
    horizon = data.draw(horizons(n_bars), "horizon")
    anchored = data.draw(st.booleans(), "anchored")
    n_folds = (n_bars - train_bars) // test_bars
    windows, tests = [], []
    for start in range(n_bars - n_folds * test_bars, n_bars, test_bars):
        tests.append(list(range(start, start + test_bars)))
        windows.append(list(range(0 if anchored else start - train_bars, start)))
    trains = [
        left_to_train(window, test, horizon, 0) for window, test in zip(windows, tests, strict=True)
    ]
    assume(all(trains))
    made = list(
        walk_forward(n_bars, train_bars, test_bars, horizon=as_horizon(horizon), anchored=anchored)
    )
    assert [fold.train.tolist() for fold in made] == trains
    assert [fold.test.tolist() for fold in made] == tests
    for fold in made:
        assert max(max(label(int(bar), horizon)) for bar in fold.train) < fold.test[0]


@pytest.mark.parametrize(("n_groups", "n_test"), [(6, 2), (5, 1), (7, 3), (4, 3), (2, 1)])
def test_number_of_splits_and_paths(n_groups: int, n_test: int) -> None:
    n_bars = n_groups * 3 + 1
    made = list(combinatorial_purged(n_bars, n_groups, n_test, horizon=0))
    paths = combinatorial_paths(n_groups, n_test)
    assert len(made) == comb(n_groups, n_test)
    assert len(paths) * n_groups == n_test * comb(n_groups, n_test)
    # Every test part is used once, and by the path of its own group.
    used = sorted((int(split), group) for row in paths for group, split in enumerate(row))
    groups = enumerate(combinations(range(n_groups), n_test))
    assert used == sorted((split, group) for split, chosen in groups for group in chosen)
    # Along each group the splits ascend, as the docstring says.
    assert (np.diff(paths, axis=0) > 0).all()


def test_six_groups_two_tests_are_fifteen_splits_and_five_paths() -> None:
    # López de Prado 2018, section 12.4.1.
    assert len(list(combinatorial_purged(60, 6, 2, horizon=1))) == 15
    assert combinatorial_paths(6, 2).shape == (5, 6)


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_paths_take_each_bar_from_the_split_named(data: st.DataObject) -> None:
    n_groups = data.draw(st.integers(2, 6))
    n_test = data.draw(st.integers(1, n_groups - 1))
    n_bars = data.draw(st.integers(n_groups, 30))
    bounds = group_bounds(n_bars, n_groups)
    # A value that tells its split and its bar.
    parts = [
        np.asarray(1000.0 * split + fold.test, np.float64)
        for split, fold in enumerate(combinatorial_purged(n_bars, n_groups, n_test, horizon=0))
    ]
    joined = recombine(iter(parts), n_bars, n_groups, n_test)
    names = combinatorial_paths(n_groups, n_test)
    for path, row in enumerate(joined):
        for bar, value in enumerate(row):
            group = int(np.searchsorted(bounds, bar, side="right")) - 1
            assert value == 1000.0 * names[path, group] + bar


def test_folds_are_made_one_at_a_time() -> None:
    made = combinatorial_purged(4000, 24, 12, horizon=5, embargo=10)  # 2.7 million splits
    first = next(made)
    assert isinstance(first, Fold)
    assert first.test.tolist() == list(range(2004))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: walk_forward(10, 0, 2, horizon=1), "train_bars=0"),
        (lambda: walk_forward(10, 4, 0, horizon=1), "test_bars=0"),
        (lambda: walk_forward(0, 4, 2, horizon=1), "n_bars=0"),
        (lambda: walk_forward(10, 9, 2, horizon=1), "train_bars=9, test_bars=2"),
        (lambda: walk_forward(10, 4, 2, horizon=4), "nothing to train on"),
        (lambda: walk_forward(10, 4, 2, horizon=-1), "horizon=-1"),
        (lambda: walk_forward(10, 4, 2, horizon=np.ones(9, np.int64)), r"shape \(9,\)"),
        (lambda: walk_forward(10, 4, 2, horizon=1.5), "horizon=1.5"),  # type: ignore[arg-type]
        (lambda: purged_k_fold(10, 1, horizon=1), "n_folds=1"),
        (lambda: purged_k_fold(10, 11, horizon=1), "n_folds=11"),
        (lambda: purged_k_fold(10, 5, horizon=1, embargo=-2), "embargo=-2"),
        (lambda: purged_k_fold(10, 2, horizon=20), "horizon up to 20"),
        (lambda: combinatorial_purged(10, 1, 1, horizon=1), "n_groups=1"),
        (lambda: combinatorial_purged(10, 11, 2, horizon=1), "n_groups=11"),
        (lambda: combinatorial_purged(10, 5, 5, horizon=1), "n_test_groups=5"),
        (lambda: combinatorial_purged(10, 5, 0, horizon=1), "n_test_groups=0"),
        (lambda: combinatorial_purged(10, 5, 2, horizon=1, embargo=-1), "embargo=-1"),
        (lambda: next(combinatorial_purged(9, 3, 2, horizon=9)), "nothing to train on"),
        (lambda: combinatorial_paths(1, 1), "n_groups=1"),
        (lambda: combinatorial_paths(4, 4), "n_test_groups=4"),
        (lambda: recombine([np.ones(2)] * 2, 3, 3, 2), "3 splits .got 2"),
        (lambda: recombine([np.ones(2)] * 4, 3, 3, 2), "got more"),
        (lambda: recombine([np.ones(3)] * 3, 3, 3, 2), r"split 0 .* shape \(3,\)"),
    ],
)
def test_bad_arguments_are_named_with_their_value(call: Callable[[], Any], words: str) -> None:
    # At the call, before the first fold is asked for.
    with pytest.raises(ValueError, match=words):
        call()
