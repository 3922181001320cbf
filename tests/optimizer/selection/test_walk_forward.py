"""Windows of a walk-forward over blocks, and what sums them up."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from optimizer.selection.folds import combinatorial_purged
from optimizer.selection.record import Window
from optimizer.selection.splits import masks_of
from optimizer.selection.walk_forward import (
    next_blocks,
    stitched_sharpe,
    walk_forward_folds,
    walk_forward_summary,
)
from optimizer.study_file.search_tables import ValidationTable
from tests.reference import selection as reference


def windows(n_blocks: int, **keys: object) -> list[tuple[list[int], list[int]]]:
    validation = ValidationTable.model_validate({"method": "walk_forward", **keys})
    folds = walk_forward_folds(validation, n_blocks)
    return [(fold.train.tolist(), fold.test.tolist()) for fold in folds]


def test_half_of_the_blocks_train_by_default() -> None:
    assert windows(4) == [([0, 1], [2]), ([1, 2], [3])]


def test_an_anchored_window_grows() -> None:
    keys = {"train_blocks": 1, "anchored": True}
    assert windows(4, **keys) == [([0], [1]), ([0, 1], [2]), ([0, 1, 2], [3])]


def test_one_block_is_left_to_test_where_there_are_fewer_than_asked() -> None:
    assert windows(3, train_blocks=7) == [([0, 1], [2])]
    assert windows(2) == [([0], [1])]


def test_purged_blocks_are_between_training_and_test() -> None:
    assert windows(6, purge_blocks=1, train_blocks=2) == [
        ([0, 1], [3]),
        ([1, 2], [4]),
        ([2, 3], [5]),
    ]
    assert windows(5, purge_blocks=2, train_blocks=1, anchored=True) == [([0], [3]), ([0, 1], [4])]
    assert windows(3, purge_blocks=1) == [([0], [2])]


@given(
    st.integers(2, 12),
    st.integers(1, 12),
    st.integers(0, 4),
    st.booleans(),
)
def test_windows_equal_the_reference(n: int, n_train: int, purge: int, anchored: bool) -> None:
    assume(n_train + purge < n)
    keys = {"train_blocks": n_train, "purge_blocks": purge, "anchored": anchored, "blocks": 24}
    found = [(t[0], t[-1] + 1, a[0], a[-1] + 1) for t, a in windows(n, **keys)]
    assert found == reference.windows(range(n + 1), n_train, anchored, purge)
    last = next_blocks(ValidationTable.model_validate(keys), n).tolist()
    assert last == list(range(0 if anchored else n - n_train, n))


@given(st.integers(2, 9), st.integers(1, 4), st.integers(0, 3), st.integers(0, 3))
def test_the_reference_of_purge_and_embargo_is_that_of_single_bars(
    n: int, n_test: int, purge: int, embargo: int
) -> None:
    """Blocks of one bar whose labels reach ``purge`` bars on."""
    assume(n_test < n)
    tests = list(itertools.combinations(range(n), n_test))
    for place, tested in enumerate(tests):
        train = reference.training_blocks(n, tested, purge, embargo)
        folds = combinatorial_purged(n, n, n_test, horizon=purge, embargo=embargo)
        if not train:
            return
        fold = next(itertools.islice(folds, place, None), None)
        assert fold is not None
        assert fold.train.tolist() == train


def test_masks_have_a_bit_for_each_block() -> None:
    assert masks_of(np.array([0, 2, 5])) == 0b100101
    assert masks_of(np.array([[0, 1], [1, 2], [22, 23]])).tolist() == [3, 6, 3 << 22]


@pytest.mark.parametrize(
    ("before", "after", "efficiency"),
    [
        ((2.0, 1.0), (1.0, 0.5), 0.5),
        ((2.0, -1.0), (-1.0, 0.5), -0.5),
        ((1.0, -1.0), (1.0, 1.0), None),
    ],
)
def test_efficiency_is_what_is_kept_of_the_gain(
    before: tuple[float, ...], after: tuple[float, ...], efficiency: float | None
) -> None:
    steps = [Window(1, 0, 5, 9, *pair) for pair in zip(before, after, strict=True)]
    found = walk_forward_summary(steps)
    assert found == {"windows": tuple(steps), "walk_forward_efficiency": efficiency}


@pytest.mark.parametrize("n_bars", [2, 50, 51, 127, 128, 129, 777, 1024, 2999, 3000])
def test_the_stitched_sharpe_is_that_of_pandas_without_bottleneck(n_bars: int) -> None:
    """Bit for bit, whatever optional packages of pandas are installed."""
    random = np.random.default_rng(n_bars)
    returns = 0.01 * random.standard_t(3, n_bars) + 0.0005
    returns[2:] *= random.random(n_bars - 2) < 0.7
    frame = pd.DataFrame({"excess_return": returns, "set": 1})
    with pd.option_context("compute.use_bottleneck", False):
        expected = frame["excess_return"].mean() / frame["excess_return"].std(ddof=1) * 252.0**0.5
    for use in (False, True):
        with pd.option_context("compute.use_bottleneck", use):
            assert stitched_sharpe(frame, 252.0) == expected


@pytest.mark.parametrize("returns", [[], [0.01], [0.0, 0.0, 0.0]])
def test_an_equity_that_does_not_vary_has_no_stitched_sharpe(returns: list[float]) -> None:
    frame = pd.DataFrame({"excess_return": np.array(returns, dtype=float)})
    assert stitched_sharpe(frame, 252.0) is None
