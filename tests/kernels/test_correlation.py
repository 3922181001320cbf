"""Rolling correlations against plain references and pandas; causality, cuts, drift."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import correlation as kernel
from tests.reference import features as reference
from tests.support.causality import assert_causal

FloatArray = npt.NDArray[np.float64]


def closes(n_bars: int, n_symbols: int, seed: int) -> FloatArray:
    """Closes of symbols whose returns share a common part."""
    random = np.random.default_rng(seed)
    shared = random.normal(0.0, 0.01, (n_bars, 1))
    own = random.normal(0.0, 0.01, (n_bars, n_symbols))
    return 50.0 * np.exp(np.cumsum(own + shared * np.linspace(-1.0, 2.0, n_symbols), axis=0))


def correlation_state(lookback: int, n_symbols: int) -> FloatArray:
    """A fresh state."""
    return np.zeros(kernel.correlation_state_size(lookback, n_symbols))


def correlations(
    close: FloatArray, lookback: int, first_bar: int = 0, refresh: int = 1
) -> FloatArray:
    """Matrices at the scheduled bars, from a fresh state."""
    n_symbols = close.shape[1]
    out = np.full((len(range(first_bar, len(close), refresh)), n_symbols, n_symbols), -9.0)
    state = correlation_state(lookback, n_symbols)
    assert kernel.correlation(close, lookback, first_bar, refresh, state, out) == len(out)
    return out


@pytest.mark.parametrize("lookback", [3, 20, 60])
def test_correlation_equals_pandas_and_the_reference(lookback: int) -> None:
    close = closes(150, 4, seed=1)
    actual = correlations(close, lookback)
    assert np.isnan(actual[:lookback]).all()
    returns = pd.DataFrame(np.log(close)).diff()
    expected = returns.rolling(lookback).corr().to_numpy().reshape(150, 4, 4)
    # With few returns two series may be nearly constant, and pandas carries running sums.
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-7 if lookback == 3 else 1e-11)
    for bar in range(lookback, 150, 37):
        window = close[bar - lookback : bar + 1]
        pair = reference.correlation(list(window[:, 1]), list(window[:, 3]))
        assert actual[bar, 1, 3] == pytest.approx(pair, rel=0, abs=1e-13)


@settings(max_examples=30, deadline=None)
@given(
    n_bars=st.integers(0, 40),
    n_symbols=st.integers(1, 5),
    lookback=st.integers(2, 9),
    first_bar=st.integers(0, 20),
    refresh=st.integers(1, 7),
    seed=st.integers(0, 1000),
    data=st.data(),
)
def test_correlation_schedule_cuts_and_single_bars(
    n_bars: int,
    n_symbols: int,
    lookback: int,
    first_bar: int,
    refresh: int,
    seed: int,
    data: st.DataObject,
) -> None:
    close = closes(n_bars, n_symbols, seed)
    every_bar = correlations(close, lookback)
    scheduled = correlations(close, lookback, first_bar, refresh)
    assert scheduled.tobytes() == every_bar[first_bar::refresh].tobytes()

    cut = data.draw(st.integers(0, n_bars))
    state = correlation_state(lookback, n_symbols)
    out = np.full_like(scheduled, -9.0)
    written = kernel.correlation(close[:cut], lookback, first_bar, refresh, state, out)
    written += kernel.correlation(close[cut:], lookback, first_bar, refresh, state, out[written:])
    assert written == len(out)
    assert out.tobytes() == scheduled.tobytes()

    state = correlation_state(lookback, n_symbols)
    for bar in range(n_bars):
        matrix = np.full((n_symbols, n_symbols), -9.0)
        kernel.correlation_step(state, close[bar], lookback, bar % 3 != 0, matrix)
        if bar % 3 == 0:
            assert (matrix == -9.0).all()
        else:
            assert matrix.tobytes() == every_bar[bar].tobytes()


def test_correlation_does_not_depend_on_where_the_state_began() -> None:
    close = closes(70, 3, seed=2)
    late = correlations(close[33:], 10)
    assert late[10:].tobytes() == correlations(close, 10)[43:].tobytes()


def test_correlation_never_reads_ahead() -> None:
    assert_causal(lambda close: correlations(close, 7), [closes(50, 3, seed=3)], (0, 1, 8, 9, 33))


@settings(max_examples=30, deadline=None)
@given(n_symbols=st.integers(1, 8), lookback=st.integers(2, 12), seed=st.integers(0, 1000))
def test_correlation_is_symmetric_bounded_and_has_a_unit_diagonal(
    n_symbols: int, lookback: int, seed: int
) -> None:
    for matrix in correlations(closes(30, n_symbols, seed), lookback)[lookback:]:
        assert (matrix == matrix.T).all()
        assert (np.diagonal(matrix) == 1.0).all()
        assert (np.abs(matrix) <= 1.0).all()


def test_correlation_of_equal_and_of_opposite_returns() -> None:
    path = np.cumsum(np.random.default_rng(4).normal(0.0, 0.01, 50))
    close = np.column_stack([np.exp(path), 7.0 * np.exp(path), np.exp(-path), np.exp(path)])
    matrices = correlations(close, 12)[12:]
    assert (matrices[:, 0, 3] == 1.0).all()
    np.testing.assert_allclose(matrices[:, 0, 1], 1.0, rtol=1e-12)
    np.testing.assert_allclose(matrices[:, 0, 2], -1.0, rtol=1e-12)


@pytest.mark.parametrize(
    "still",
    [np.full(60, 0.3), 1.7 * 1.01 ** np.arange(60), np.cumprod(np.full(60, 0.97))],
    ids=["price", "growth", "decline"],
)
def test_correlation_with_constant_returns_is_undefined(still: FloatArray) -> None:
    close = np.column_stack([closes(60, 2, seed=5), still])
    for matrix in correlations(close, 9)[9:]:
        assert np.isnan(matrix[:2, 2]).all()
        assert np.isnan(matrix[2, :2]).all()
        assert (np.diagonal(matrix) == 1.0).all()
        assert np.isfinite(matrix[:2, :2]).all()


@pytest.mark.parametrize("lookback", [20, 250])
def test_correlation_does_not_drift_over_a_million_bars(lookback: int) -> None:
    random = np.random.default_rng(6)
    path = np.cumsum(random.normal(0.0, 0.001, (1_000_000, 2)), axis=0)
    path[:, 1] += path[:, 0]
    # The volatile first half must leave no trace.
    path[:500_000] *= 10.0
    close = 1e3 * np.exp(path - path[-1])
    actual = correlations(close, lookback, first_bar=999_998)
    for matrix, end in zip(actual, (999_999, 1_000_000), strict=True):
        window = close[end - lookback - 1 : end]
        fresh = reference.correlation(list(window[:, 0]), list(window[:, 1]))
        assert matrix[0, 1] == pytest.approx(fresh, rel=1e-12, abs=0)


def test_correlation_is_exact_at_a_large_price_offset() -> None:
    moves = np.random.default_rng(7).normal(0.0, 1.0, (100, 2))
    moves[:, 1] += moves[:, 0]
    close = 1e9 + np.cumsum(moves, axis=0)
    actual = correlations(close, 30)
    for bar in (30, 64, 99):
        window = close[bar - 30 : bar + 1]
        fresh = reference.correlation(list(window[:, 0]), list(window[:, 1]))
        assert actual[bar, 0, 1] == pytest.approx(fresh, rel=1e-9)
