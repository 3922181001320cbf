"""Cross-validation from block sums: subset tables, choice and rank against plain loops."""

from __future__ import annotations

import platform
import re
from itertools import combinations

import numba
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kernels.overfitting import (
    TILE,
    block_sharpe,
    rank_out_of_sample,
    select_in_sample,
    subset_sums,
)
from optimizer.types import FloatArray, IntArray


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-0.1, 0.1), min_size=2, max_size=30))
def test_sharpe_equals_that_of_the_series(values: list[float]) -> None:
    returns = np.array(values)
    squares = float((returns**2).sum())
    assume(float(np.sum((returns - returns.mean()) ** 2)) > max(1e-4 * squares, 1e-200))
    sharpe = block_sharpe(float(len(returns)), float(returns.sum()), squares)
    expected = float(returns.mean() / returns.std(ddof=1))
    assert sharpe == pytest.approx(expected, rel=1e-10, abs=1e-13)


@pytest.mark.parametrize("value", [0.0, 0.1, -0.3])
def test_what_does_not_vary_has_a_sharpe_of_0(value: float) -> None:
    returns = [value] * 7
    assert block_sharpe(7.0, sum(returns), sum(r * r for r in returns)) == 0.0


def test_subset_sums_of_every_mask() -> None:
    values = np.random.default_rng(0).integers(-99, 99, (5, 12)).astype(np.float64)
    out = np.full((32, 8), np.nan)
    subset_sums(values, 3, 6, out)
    for mask in range(32):
        chosen = [block for block in range(5) if mask >> block & 1]
        assert (out[mask, :6] == values[chosen, 3:9].sum(axis=0)).all()
    assert np.isnan(out[:, 6:]).all()


def splits_of(n_blocks: int) -> tuple[IntArray, list[tuple[int, ...]]]:
    groups = list(combinations(range(n_blocks), n_blocks // 2))
    return np.array([sum(1 << block for block in group) for group in groups]), groups


@pytest.mark.parametrize("n_blocks", [2, 4, 6])
@pytest.mark.parametrize("n_sets", [2, TILE - 1, TILE, 2 * TILE + 5])
def test_choice_and_rank_equal_those_of_a_plain_loop(n_blocks: int, n_sets: int) -> None:
    random = np.random.default_rng([n_blocks, n_sets])
    counts = random.integers(3, 9, n_blocks).astype(np.float64)
    returns = [random.normal(0.0, 0.01, (int(count), n_sets)) for count in counts]
    for part in returns:
        part[:, n_sets // 2] = part[:, 0]  # equals the first set, possibly in another tile
        part[:, n_sets - 1] = 0.0
    sums = np.array([part.sum(axis=0) for part in returns])
    squares = np.array([(part**2).sum(axis=0) for part in returns])
    masks, groups = splits_of(n_blocks)
    n_inside = np.array([counts[list(group)].sum() for group in groups])
    n_outside = counts.sum() - n_inside
    winners = np.full(len(masks), -1)
    rest = ~masks & (2**n_blocks - 1)
    inside, outside = np.full(len(masks), -np.inf), np.full(len(masks), np.nan)
    ranks = np.full(len(masks), 0.5)
    for first, last in ((0, n_sets // 3), (n_sets // 3, n_sets)):  # two chunks
        own = np.ascontiguousarray(sums[:, first:last])
        own_squares = np.ascontiguousarray(squares[:, first:last])
        for array in (own, own_squares, masks, rest, n_inside, n_outside):
            array.flags.writeable = False
        select_in_sample(
            own, own_squares, first, masks, rest, n_inside, n_outside, winners, inside, outside
        )
    for first, last in ((0, n_sets // 3), (n_sets // 3, n_sets)):
        own = np.ascontiguousarray(sums[:, first:last])
        own_squares = np.ascontiguousarray(squares[:, first:last])
        rank_out_of_sample(own, own_squares, rest, n_outside, outside, ranks)
    for split, group in enumerate(groups):
        ratios = [ratios_of(returns, group)]
        ratios.append(ratios_of(returns, [b for b in range(n_blocks) if b not in group]))
        best = int(np.argmax(np.round(ratios[0], 12)))
        assert winners[split] == best
        assert inside[split] == pytest.approx(ratios[0][best], rel=1e-12, abs=1e-13)
        assert outside[split] == pytest.approx(ratios[1][best], rel=1e-12, abs=1e-13)
        rounded = np.round(ratios[1], 12)
        n_worse = int((rounded < rounded[best]).sum())
        n_equal = int((rounded == rounded[best]).sum())
        assert ranks[split] == n_worse + (n_equal + 1) / 2


def ratios_of(returns: list[FloatArray], blocks: tuple[int, ...] | list[int]) -> FloatArray:
    series = np.concatenate([returns[block] for block in blocks])
    deviation = series.std(axis=0, ddof=1)
    return np.where(deviation > 0.0, series.mean(axis=0) / np.where(deviation > 0, deviation, 1), 0)


@pytest.mark.skipif(
    platform.machine().lower() not in ("x86_64", "amd64"), reason="reads x86 assembly"
)
@pytest.mark.parametrize("kernel", [select_in_sample, rank_out_of_sample])
def test_sets_are_compared_side_by_side(kernel: object) -> None:
    table = numba.types.Array(numba.float64, 2, "C")
    masks, row = numba.int64[::1], numba.float64[::1]
    signature = {
        "select_in_sample": (
            *(table, table, numba.int64, masks, masks, row, row),
            *(masks, row, row),
        ),
        "rank_out_of_sample": (table, table, masks, row, row, row),
    }[getattr(kernel, "__name__")]  # noqa: B009
    # Compiled here, because a cached kernel has lost its assembly.
    compiled = numba.njit(error_model="numpy")(getattr(kernel, "py_func"))  # noqa: B009
    compiled.compile(signature)
    text = "\n".join(compiled.inspect_asm().values())
    assert re.search(r"\bv?sqrtpd\b", text)
    assert re.search(r"\bv?divpd\b", text)
