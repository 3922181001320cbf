"""Regime kernels against plain Python, pandas, hmmlearn and scikit-learn; causality and cuts."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hmmlearn.hmm import GaussianHMM
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.svm import SVC

from kernels import hidden_markov, regimes
from tests.reference import regimes as reference
from tests.support.causality import assert_causal

FloatArray = npt.NDArray[np.float64]

seeds = st.integers(0, 2**32 - 1)


def features_of(returns: FloatArray, lookback: int) -> FloatArray:
    features = np.empty((len(returns), 2))
    regimes.market_features(returns, np.full(lookback, 7.0), np.zeros(1, np.int64), features)
    return features


class Hmm:
    """A random model, and observations that it could have produced."""

    def __init__(self, seed: int, n_bars: int) -> None:
        rng = np.random.default_rng(seed)
        self.start = rng.dirichlet(np.ones(3))
        self.transition = rng.dirichlet(np.ones(3), size=3)
        self.means = rng.normal(0.0, 2.0, (3, 2))
        self.variances = rng.uniform(0.05, 2.0, (3, 2))
        self.observations = rng.normal(0.0, 2.0, (n_bars, 2))

    def filter(self, observations: FloatArray, predicted: FloatArray | None = None) -> FloatArray:
        """Filter on, changing ``predicted`` in place."""
        if predicted is None:
            predicted = self.start.copy()
        filtered = np.empty((len(observations), 3))
        covariances = np.array([np.diag(one) for one in self.variances])
        whitening, log_scales = np.empty((3, 2, 2)), np.empty(3)
        hidden_markov.whiten(covariances, whitening, log_scales)
        hidden_markov.hmm_filter(
            observations, predicted, self.transition, self.means, whitening, log_scales, filtered
        )
        return filtered


class Svm:
    """An SVC fitted on random points, and its arrays as the kernel takes them."""

    def __init__(self, seed: int, n_classes: int, n_rows: int = 90) -> None:
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(n_rows, 2))
        labels = rng.permutation(np.arange(n_rows) % n_classes)
        self.points = rng.normal(0.0, 1.5, (400, 2))
        self.svc = SVC(decision_function_shape="ovo", gamma=0.7).fit(x, labels)
        sign = -1.0 if n_classes == 2 else 1.0
        self.arrays = (
            np.array(self.svc.support_vectors_, order="C"),
            self.svc.n_support_.astype(np.int64),
            np.array(sign * self.svc.dual_coef_, order="C"),
            sign * self.svc.intercept_,
            0.7,
        )

    def classify(self, points: FloatArray) -> tuple[npt.NDArray[np.int64], FloatArray]:
        decisions = np.empty((len(points), len(self.svc.intercept_)))
        labels = np.empty(len(points), np.int64)
        regimes.svm_decision(points, *self.arrays, decisions, labels)
        return labels, decisions


@given(seeds, st.integers(1, 12), st.integers(1, 6))
@settings(max_examples=30, deadline=None)
def test_market_returns_equal_the_compounded_index(seed: int, n_bars: int, n_symbols: int) -> None:
    steps = np.random.default_rng(seed).normal(0.0, 0.05, (n_bars, n_symbols))
    close = 100.0 * np.exp(np.cumsum(steps, axis=0))
    returns = np.empty(n_bars)
    regimes.market_returns(close, returns)
    np.testing.assert_allclose(
        returns, reference.market_returns(close.tolist()), rtol=1e-9, atol=1e-14
    )
    simple = pd.DataFrame(close).pct_change(fill_method=None).mean(axis=1).fillna(0.0)
    np.testing.assert_allclose(returns, np.log1p(simple), rtol=1e-9, atol=1e-15)


def test_a_small_move_of_a_large_price_keeps_its_digits() -> None:
    step = regimes.market_return_step(np.array([1e9]), np.array([1e9 + 1.0]))
    assert step == pytest.approx(1e-9 - 0.5e-18, rel=1e-15)


@given(seeds, st.integers(0, 60), st.integers(2, 20), st.sampled_from([0.0, 1e-3, 1e6]))
@settings(max_examples=40, deadline=None)
def test_market_features_equal_the_reference(
    seed: int, n_bars: int, lookback: int, offset: float
) -> None:
    returns = offset + np.random.default_rng(seed).normal(0.0, 0.01, n_bars)
    expected = np.array(reference.market_features(returns.tolist(), lookback)).reshape(-1, 2)
    np.testing.assert_allclose(features_of(returns, lookback), expected, rtol=1e-6, atol=1e-15)


@pytest.mark.parametrize("lookback", [2, 5, 30])
def test_market_features_equal_pandas(lookback: int) -> None:
    returns = np.random.default_rng(5).normal(0.0, 0.01, 200)
    rolling = pd.Series(returns).rolling(lookback)
    features = features_of(returns, lookback)
    np.testing.assert_allclose(features[:, 0], rolling.mean(), rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(features[:, 1], rolling.std(), rtol=1e-9)
    assert np.isnan(features[: lookback - 1]).all()
    assert np.isfinite(features[lookback - 1 :]).all()


def test_a_return_that_left_the_window_leaves_no_trace() -> None:
    returns = np.random.default_rng(6).normal(0.0, 0.01, 50)
    shocked = returns.copy()
    shocked[10] = 1e12
    np.testing.assert_array_equal(features_of(shocked, 7)[17:], features_of(returns, 7)[17:])


@given(seeds, st.data())
@settings(max_examples=25, deadline=None)
def test_market_features_cut_anywhere_carry_their_state(seed: int, data: st.DataObject) -> None:
    returns = np.random.default_rng(seed).normal(0.0, 0.01, 50)
    lookback = data.draw(st.integers(2, 20))
    cut = data.draw(st.integers(0, 50))
    ring, seen = np.zeros(lookback), np.zeros(1, np.int64)
    features = np.empty((50, 2))
    regimes.market_features(returns[:cut], ring, seen, features[:cut])
    regimes.market_features(returns[cut:], ring, seen, features[cut:])
    np.testing.assert_array_equal(features, features_of(returns, lookback))


@given(seeds, st.integers(1, 25))
@settings(max_examples=40, deadline=None)
def test_hmm_filter_equals_the_reference(seed: int, n_bars: int) -> None:
    hmm = Hmm(seed, n_bars)
    expected = reference.forward(
        hmm.observations.tolist(),
        hmm.start.tolist(),
        hmm.transition.tolist(),
        hmm.means.tolist(),
        hmm.variances.tolist(),
    )
    np.testing.assert_allclose(hmm.filter(hmm.observations), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_hmm_filter_equals_the_last_row_of_hmmlearn(seed: int) -> None:
    hmm = Hmm(seed, 40)
    model = GaussianHMM(3, covariance_type="diag", init_params="")
    model.startprob_, model.transmat_ = hmm.start, hmm.transition
    model.means_, model.covars_ = hmm.means, hmm.variances
    filtered = hmm.filter(hmm.observations)
    for n in range(1, 41):
        _, posteriors = model.score_samples(hmm.observations[:n])
        np.testing.assert_allclose(filtered[n - 1], posteriors[-1], rtol=0, atol=1e-10)
    # The rows before the last know what followed, and the same test fails on them.
    assert np.abs(filtered - posteriors).max() > 1e-3


@given(seeds, st.integers(0, 30))
@settings(max_examples=25, deadline=None)
def test_hmm_filter_cut_anywhere_carries_its_state(seed: int, cut: int) -> None:
    hmm = Hmm(seed, 30)
    predicted = hmm.start.copy()
    parts = [
        hmm.filter(hmm.observations[:cut], predicted),
        hmm.filter(hmm.observations[cut:], predicted),
    ]
    np.testing.assert_array_equal(np.concatenate(parts), hmm.filter(hmm.observations))
    whole = hmm.start.copy()
    hmm.filter(hmm.observations, whole)
    np.testing.assert_array_equal(predicted, whole)


def test_hmm_filter_is_causal_and_smoothing_is_not() -> None:
    hmm = Hmm(3, 60)
    assert_causal(hmm.filter, [hmm.observations], range(0, 61, 5))

    def smooth(observations: FloatArray) -> FloatArray:
        filtered = hmm.filter(observations)
        if len(filtered):
            filtered[:] = reference.smoothed(filtered.tolist(), hmm.transition.tolist())
        return filtered

    with pytest.raises(AssertionError, match="first 20 bars"):
        assert_causal(smooth, [hmm.observations], [20])


def test_market_features_are_causal_and_one_bar_ahead_is_not() -> None:
    returns = np.random.default_rng(8).normal(0.0, 0.01, 60)
    assert_causal(lambda r: features_of(r, 5), [returns], range(0, 61, 5))
    with pytest.raises(AssertionError, match="first 20 bars"):
        assert_causal(lambda r: features_of(np.append(r[1:], 0.0), 5), [returns], [20])


@pytest.mark.parametrize("distance", [1e3, 1e6, 1e150])
def test_hmm_filter_does_not_underflow(distance: float) -> None:
    hmm = Hmm(1, 5)
    hmm.observations[2] = distance
    filtered = hmm.filter(hmm.observations)
    np.testing.assert_allclose(filtered.sum(axis=1), 1.0, rtol=1e-12)
    # Far out the widest state is the likeliest, whatever the bars before.
    precision = (1.0 / hmm.variances).sum(axis=1)
    assert filtered[2].argmax() == precision.argmin()
    assert filtered[2].max() == pytest.approx(1.0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_an_observation_that_is_not_finite_says_nothing(value: float) -> None:
    hmm = Hmm(2, 6)
    hmm.observations[3, 1] = value
    filtered = hmm.filter(hmm.observations)
    np.testing.assert_allclose(filtered[3], filtered[2] @ hmm.transition, rtol=1e-12)
    assert np.isfinite(filtered).all()


def test_a_state_ruled_out_stays_out() -> None:
    hmm = Hmm(4, 20)
    hmm.start = np.array([0.0, 1.0, 0.0])
    hmm.transition = np.array([[1.0, 0.0, 0.0], [0.0, 0.5, 0.5], [0.0, 0.5, 0.5]])
    filtered = hmm.filter(hmm.observations)
    assert (filtered[:, 0] == 0.0).all()
    np.testing.assert_allclose(filtered.sum(axis=1), 1.0, rtol=1e-12)


@pytest.mark.parametrize("n_classes", [2, 3, 4])
@pytest.mark.parametrize("seed", range(3))
def test_svm_equals_scikit_learn(seed: int, n_classes: int) -> None:
    svm = Svm(seed, n_classes)
    labels, decisions = svm.classify(svm.points)
    np.testing.assert_array_equal(labels, svm.svc.predict(svm.points))
    expected = svm.svc.decision_function(svm.points)
    if n_classes == 2:
        expected = -expected[:, None]
    np.testing.assert_allclose(decisions, expected, rtol=0, atol=1e-10)
    assert len(set(labels.tolist())) == n_classes


@pytest.mark.parametrize("n_classes", [2, 3])
def test_svm_equals_the_reference(n_classes: int) -> None:
    svm = Svm(11, n_classes, n_rows=24)
    labels, decisions = svm.classify(svm.points[:40])
    vectors, n_support, dual, intercept, gamma = svm.arrays
    for point, label, decision in zip(svm.points, labels, decisions, strict=False):
        expected = reference.decisions(
            point.tolist(),
            vectors.tolist(),
            n_support.tolist(),
            dual.tolist(),
            intercept.tolist(),
            gamma,
        )
        np.testing.assert_allclose(decision, expected, rtol=0, atol=1e-12)
        assert label == reference.vote(expected, n_classes)


def test_circular_votes_go_to_the_first_class_as_in_scikit_learn() -> None:
    svm = Svm(0, 3)
    grid = np.stack(np.meshgrid(np.linspace(-3, 3, 120), np.linspace(-3, 3, 120)), axis=-1)
    points = np.ascontiguousarray(grid.reshape(-1, 2))
    won = svm.svc.decision_function(points) > 0.0
    circular = (won[:, 0] == won[:, 2]) & (won[:, 0] != won[:, 1])
    assert circular.sum() > 10
    labels, _ = svm.classify(points)
    assert set(labels[circular]) == {0}
    np.testing.assert_array_equal(labels, svm.svc.predict(points))


@pytest.mark.parametrize(
    ("intercept", "winner"),
    [
        ((1.0, 1.0, 1.0), 0),
        ((-1.0, 1.0, 1.0), 1),
        ((1.0, -1.0, -1.0), 2),
        ((1.0, -1.0, 1.0), 0),  # one vote each
        ((0.0, 0.0, 0.0), 2),  # a decision of exactly 0 is a vote for the later class
        ((0.0, 1.0, 1.0), 1),
    ],
)
def test_votes(intercept: tuple[float, ...], winner: int) -> None:
    # The support vectors are so far away that only the intercepts decide.
    decisions = np.full(3, 9.0)
    label = regimes.svm_decision_step(
        np.zeros(2),
        np.full((3, 2), 1e6),
        np.ones(3, np.int64),
        np.ones((2, 3)),
        np.array(intercept),
        1.0,
        decisions,
    )
    np.testing.assert_array_equal(decisions, intercept)
    assert label == winner == reference.vote(intercept, 3)


@pytest.mark.parametrize("n_classes", [2, 3, 4])
def test_probabilities_of_classes_equal_the_reference(n_classes: int) -> None:
    rng = np.random.default_rng(n_classes)
    n_pairs = len(reference.pairs(n_classes))
    decisions, sigmoids = rng.normal(0.0, 2.0, (50, n_pairs)), rng.normal(0.0, 1.0, (n_pairs, 2))
    decisions[0] = 1e6  # as sure as can be, and none of the classes is ruled out
    found = np.empty((50, n_classes))
    regimes.svm_probabilities(decisions, sigmoids, found)
    assert np.all((found > 0.0) & (found < 1.0))
    for row, probabilities in zip(decisions[1:].tolist(), found[1:], strict=True):
        shares = [
            1.0 / (1.0 + math.exp(-(a * f + b))) for f, (a, b) in zip(row, sigmoids, strict=True)
        ]
        np.testing.assert_allclose(probabilities, reference.coupled(shares, n_classes), rtol=1e-12)
        if n_classes == 2:
            np.testing.assert_allclose(probabilities, [shares[0], 1.0 - shares[0]], rtol=1e-12)


@given(st.lists(st.floats(0.01, 1.0), min_size=2, max_size=5))
def test_coupling_returns_the_probabilities_from_which_the_pairs_came(weights: list[float]) -> None:
    wanted = np.array(weights) / sum(weights)
    odds = [math.log(wanted[i] / wanted[j]) for i, j in reference.pairs(len(weights))]
    found = np.empty((1, len(weights)))
    sigmoids = np.tile([1.0, 0.0], (len(odds), 1))
    regimes.svm_probabilities(np.array([odds]), sigmoids, found)
    np.testing.assert_allclose(found[0], wanted, rtol=1e-9)
