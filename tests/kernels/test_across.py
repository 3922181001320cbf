"""Ranks, tops and distances across symbols, next to slow references and other libraries."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from kernels import across
from kernels.arrays import ByteArray, FloatArray


@st.composite
def one_bar(draw: st.DrawFn) -> tuple[FloatArray, ByteArray]:
    n = draw(st.integers(1, 9))
    value = st.sampled_from([-1.0, 0.0, 0.5, 0.5000001, 2.0, 1e9, np.nan, np.inf])
    values = draw(st.lists(value, min_size=n, max_size=n))
    marks = draw(st.lists(st.integers(0, 1), min_size=n, max_size=n))
    return np.array(values), np.array(marks, dtype=np.uint8)


def compared(values: FloatArray, marks: ByteArray) -> FloatArray:
    """The values that count; NaN for the others."""
    return np.where((marks == 1) & np.isfinite(values), values, np.nan)


@given(one_bar())
def test_ranks_are_those_of_pandas(bar: tuple[FloatArray, ByteArray]) -> None:
    out = np.empty(len(bar[0]))
    across.rank_step(*bar, out)
    ranks = pd.Series(compared(*bar)).rank(method="average").to_numpy()
    n = np.isfinite(ranks).sum()
    expected = (ranks - 1.0) / (n - 1) if n > 1 else np.where(np.isfinite(ranks), 0.5, np.nan)
    np.testing.assert_array_equal(out, expected)


@given(one_bar(), st.integers(1, 10))
def test_the_top_are_the_first_of_a_stable_sort(bar: tuple[FloatArray, ByteArray], n: int) -> None:
    out = np.empty(len(bar[0]))
    across.top_step(*bar, n, out)
    values = compared(*bar)
    order = sorted(
        (s for s in range(len(values)) if values[s] == values[s]), key=lambda s: -values[s]
    )
    expected = [
        np.nan if values[s] != values[s] else float(s in order[:n]) for s in range(len(values))
    ]
    np.testing.assert_array_equal(out, expected)


@given(one_bar())
def test_distances_are_those_of_scipy(bar: tuple[FloatArray, ByteArray]) -> None:
    out = np.empty(len(bar[0]))
    across.zscore_step(*bar, out)
    values = compared(*bar)
    expected = stats.zscore(values, nan_policy="omit") if len(set(values)) > 1 else values
    counted = np.isfinite(values)
    if len(np.unique(values[counted])) < 2:
        expected = np.where(counted, 0.0, np.nan)
    np.testing.assert_allclose(out, expected, rtol=1e-9, atol=1e-12)


@given(one_bar(), st.integers(0, 100))
def test_the_order_of_symbols_has_no_effect_but_for_ties(
    bar: tuple[FloatArray, ByteArray], seed: int
) -> None:
    values, marks = bar
    order = np.random.default_rng(seed).permutation(len(values))
    counted = values[(marks == 1) & np.isfinite(values)]
    steps: list[Any] = [across.rank_step, across.zscore_step]
    if len(set(counted)) == len(counted):
        steps.append(lambda v, m, o: across.top_step(v, m, 2, o))
    for step in steps:
        straight, shuffled = np.empty(len(values)), np.empty(len(values))
        step(values, marks, straight)
        step(values[order], marks[order], shuffled)
        np.testing.assert_array_equal(shuffled, straight[order])


@pytest.mark.parametrize("name", ["rank", "zscore", "top"])
def test_every_bar_is_a_step(name: str) -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(size=(40, 7)).round(1)
    marks = rng.integers(0, 2, (40, 7)).astype(np.uint8)
    own = (3,) if name == "top" else ()
    out, stepped = np.empty((40, 7)), np.empty((40, 7))
    getattr(across, name)(values, marks, *own, out)
    for t in range(40):
        getattr(across, f"{name}_step")(values[t], marks[t], *own, stepped[t])
    assert out.tobytes() == stepped.tobytes()
