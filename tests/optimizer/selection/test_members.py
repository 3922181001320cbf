"""Which sets make a book, and what share of the capital each gets."""

from __future__ import annotations

import math
import statistics
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import LinearConstraint, minimize

from optimizer.errors import DataError
from optimizer.selection.members import choose_members
from optimizer.selection.shares import METHODS, Method, shares_by
from optimizer.types import FloatArray


def candidates(seed: int, n: int, n_blocks: int) -> FloatArray:
    """Block returns of sets that share a factor more or less; some are the same, some stand still."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=n_blocks)
    loads = rng.choice([0.0, 0.5, 2.0], size=(n, 1))
    returns: FloatArray = loads * common + rng.normal(size=(n, n_blocks))
    for place in range(1, n):
        kind = rng.integers(6)
        if kind == 0:
            returns[place] = returns[place - 1]
        elif kind == 1:
            returns[place] = 0.0
    return returns * rng.uniform(0.1, 3.0, size=(n, 1))


@given(
    seed=st.integers(0, 10_000),
    n=st.integers(1, 12),
    n_blocks=st.integers(4, 24),
    limit=st.floats(-1.0, 1.0),
)
def test_a_set_is_taken_if_it_is_unlike_all_before_it(
    seed: int, n: int, n_blocks: int, limit: float
) -> None:
    returns = candidates(seed, n, n_blocks)
    taken: list[int] = []
    likeness: list[float | None] = []
    for place in range(n):
        if statistics.pstdev(returns[place].tolist()) == 0.0:
            continue
        found = [
            statistics.correlation(returns[place].tolist(), returns[other].tolist())
            for other in taken
        ]
        if any(math.isclose(one, limit, abs_tol=1e-9) for one in found):
            return  # to the last bit only one of the two can say
        if all(one <= limit for one in found):
            taken.append(place)
            likeness.append(max(found) if found else None)
    chosen = choose_members(returns, limit)
    assert [place for place, _ in chosen] == taken
    assert [one for _, one in chosen] == [
        None if one is None else pytest.approx(one, abs=1e-9) for one in likeness
    ]


def test_the_same_set_twice_is_taken_once_unless_anything_goes() -> None:
    returns = np.array([[1.0, 2.0, 0.5, -1.0], [1.0, 2.0, 0.5, -1.0]])
    assert [place for place, _ in choose_members(returns, 0.99)] == [0]
    assert [place for place, _ in choose_members(returns, 1.0)] == [0, 1]


def returns_of(deviations: list[float], seed: int = 1) -> FloatArray:
    rng = np.random.default_rng(seed)
    return np.array(deviations)[:, np.newaxis] * rng.normal(size=(len(deviations), 16))


def test_equal_shares_and_those_by_inverse_volatility() -> None:
    returns = returns_of([1.0, 2.0, 5.0])
    assert shares_by("equal", returns).tolist() == pytest.approx([1 / 3] * 3)
    inverse = [1.0 / statistics.stdev(one) for one in returns.tolist()]
    wanted = [one / sum(inverse) for one in inverse]
    assert shares_by("inverse_volatility", returns).tolist() == pytest.approx(wanted, abs=1e-6)


def test_methods_of_skfolio_name_the_extra_where_it_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "skfolio", None)
    for method in ("hrp", "min_variance"):
        with pytest.raises(DataError, match=r"skfolio is not installed; .*barsweep\[combine\]"):
            shares_by(method, returns_of([1.0, 2.0]))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", range(5))
def test_shares_add_up_and_do_not_depend_on_the_unit(method: Method, seed: int) -> None:
    if method in ("hrp", "min_variance"):
        pytest.importorskip("skfolio")
    returns = returns_of([0.5, 1.0, 2.0, 4.0, 1.5], seed)
    shares = shares_by(method, returns)
    assert (shares >= 0.0).all() and float(shares.sum()) == pytest.approx(1.0, abs=1e-15)
    assert shares_by(method, returns * 1e-4).tolist() == pytest.approx(shares.tolist(), abs=3e-6)


@pytest.mark.parametrize("seed", range(5))
def test_the_least_variance_is_that_of_another_solver(seed: int) -> None:
    pytest.importorskip("skfolio")
    returns = returns_of([0.5, 1.0, 2.0, 4.0], seed)
    covariance = np.cov(returns)

    def variance(shares: FloatArray) -> float:
        return float(shares @ covariance @ shares)

    found = minimize(
        variance,
        np.full(4, 0.25),
        bounds=[(0.0, 1.0)] * 4,
        constraints=LinearConstraint(np.ones((1, 4)), 1.0, 1.0),
        method="SLSQP",
        tol=1e-14,
    )
    assert shares_by("min_variance", returns).tolist() == pytest.approx(found.x.tolist(), abs=1e-4)


def bisected(returns: FloatArray) -> list[float]:
    """Hierarchical risk parity of two pairs of like sets, as López de Prado (2016) writes it.

    The tree puts the sets of a pair side by side; the halves are the pairs.
    """
    variances = [statistics.variance(one) for one in returns.tolist()]
    covariance = np.cov(returns)

    def split(left: float, right: float) -> tuple[float, float]:
        return right / (left + right), left / (left + right)

    def of_pair(first: int) -> float:
        inner = np.array(split(variances[first], variances[first + 1]))
        part = covariance[first : first + 2, first : first + 2]
        return float(inner @ part @ inner)

    outer = split(of_pair(0), of_pair(2))
    return [
        outer[pair] * share
        for pair in (0, 1)
        for share in split(variances[2 * pair], variances[2 * pair + 1])
    ]


def test_hierarchical_risk_parity_of_two_pairs() -> None:
    pytest.importorskip("skfolio")
    rng = np.random.default_rng(3)
    common = rng.normal(size=(2, 16))
    noise = 0.1 * rng.normal(size=(4, 16))
    returns = (common[[0, 0, 1, 1]] + noise) * np.array([[1.0], [2.0], [0.5], [3.0]])
    assert shares_by("hrp", returns).tolist() == pytest.approx(bisected(returns), abs=3e-6)
