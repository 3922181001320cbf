"""The fit of hidden Markov models against brute force and hmmlearn."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import numpy.typing as npt
import pytest
from hmmlearn.hmm import GaussianHMM
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal

from kernels.hidden_markov import hmm_filter, maximise_hmm, whiten

FloatArray = npt.NDArray[np.float64]
seeds = st.integers(0, 2**32 - 1)


class Start:
    """A random start, and bars of regimes that last."""

    def __init__(self, seed: int, n_bars: int, n_states: int, full: bool) -> None:
        rng = np.random.default_rng(seed)
        states = np.arange(n_bars) * n_states // n_bars
        self.observations = rng.normal(size=(n_bars, 2)) * (1.0 + states[:, np.newaxis])
        self.observations[:, 1] += 0.5 * self.observations[:, 0] + states
        self.start = rng.dirichlet(np.full(n_states, 5.0))
        self.transition = rng.dirichlet(np.full(n_states, 5.0), size=n_states)
        self.means = rng.normal(size=(n_states, 2))
        self.covariances = np.array([np.diag(rng.uniform(0.5, 2.0, 2)) for _ in range(n_states)])
        if full:
            self.covariances[:, 0, 1] = self.covariances[:, 1, 0] = 0.2

    def arrays(self) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """Fresh copies of the start."""
        return (
            self.start.copy(),
            self.transition.copy(),
            self.means.copy(),
            self.covariances.copy(),
        )


def by_all_paths(one: Start, full: bool, prior: float, scatter_prior: float) -> list[FloatArray]:
    """One iteration: the weight of every path of states, and weighted means over all of them."""
    n_bars, n_states = len(one.observations), len(one.start)
    density = [
        multivariate_normal(mean, covariance).pdf(one.observations)
        for mean, covariance in zip(one.means, one.covariances, strict=True)
    ]
    paths = list(product(range(n_states), repeat=n_bars))
    weights = np.array(
        [
            one.start[path[0]]
            * np.prod([one.transition[a, b] for a, b in pairwise(path)])
            * np.prod([density[k][t] for t, k in enumerate(path)])
            for path in paths
        ]
    )
    likelihood = weights.sum()
    weights /= likelihood
    held = np.zeros((n_bars, n_states))
    moved = np.full((n_states, n_states), prior - 1.0)
    for path, weight in zip(paths, weights, strict=True):
        for t, k in enumerate(path):
            held[t, k] += weight
        for a, b in pairwise(path):
            moved[a, b] += weight
    means = np.array(
        [np.average(one.observations, axis=0, weights=held[:, k]) for k in range(n_states)]
    )
    covariances = []
    for k in range(n_states):
        apart = one.observations - means[k]
        scatter = (held[:, k, np.newaxis] * apart).T @ apart + scatter_prior * np.eye(2)
        covariances.append((scatter if full else np.diag(np.diag(scatter))) / held[:, k].sum())
    transition = moved / moved.sum(axis=1, keepdims=True)
    return [held[0], transition, means, np.array(covariances), np.log(likelihood)]


@given(seeds, st.integers(2, 7), st.integers(2, 3), st.booleans())
@settings(max_examples=30, deadline=None)
def test_an_iteration_equals_the_sum_over_all_paths(
    seed: int, n_bars: int, n_states: int, full: bool
) -> None:
    one = Start(seed, n_bars, n_states, full)
    *expected, likelihood = by_all_paths(one, full, 1.1, 0.01)
    arrays = one.arrays()
    n_iterations, last, before = maximise_hmm(one.observations, full, 1, 0.0, 1.1, 0.01, *arrays)
    assert n_iterations == 1
    assert last == pytest.approx(float(likelihood), rel=1e-9)
    assert np.isnan(before)
    for found, wanted in zip(arrays, expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("n_states", [2, 3, 4])
@pytest.mark.parametrize("seed", range(4))
def test_a_fit_equals_hmmlearn(seed: int, n_states: int, full: bool) -> None:
    one = Start(seed, 400, n_states, full)
    arrays = one.arrays()
    n_iterations, last, before = maximise_hmm(one.observations, full, 60, 1e-2, 1.1, 1e-2, *arrays)
    model = GaussianHMM(
        n_states,
        covariance_type="full" if full else "diag",
        transmat_prior=1.1,
        # hmmlearn adds a number to covariances too; a matrix is added to the variances alone.
        covars_prior=1e-2 * np.eye(2) if full else 1e-2,
        n_iter=60,
        tol=1e-2,
        init_params="",
    )
    model.startprob_, model.transmat_, model.means_ = one.start, one.transition, one.means
    variances = np.diagonal(one.covariances, axis1=1, axis2=2)
    model.covars_ = one.covariances if full else variances
    model.fit(one.observations)
    assert n_iterations == model.monitor_.iter
    history = list(model.monitor_.history)
    np.testing.assert_allclose([before, last], history[-2:], rtol=1e-9)
    wanted = (model.startprob_, model.transmat_, model.means_, model.covars_)
    for found, expected in zip(arrays, wanted, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_the_filter_takes_correlated_features(seed: int) -> None:
    one = Start(seed, 30, 3, full=True)
    whitening, log_scales = np.empty((3, 2, 2)), np.empty(3)
    whiten(one.covariances, whitening, log_scales)
    filtered, predicted = np.empty((30, 3)), one.start.copy()
    hmm_filter(
        one.observations, predicted, one.transition, one.means, whitening, log_scales, filtered
    )
    prior = one.start
    for observation, found in zip(one.observations, filtered, strict=True):
        joint = prior * [
            multivariate_normal(mean, covariance).pdf(observation)
            for mean, covariance in zip(one.means, one.covariances, strict=True)
        ]
        np.testing.assert_allclose(found, joint / joint.sum(), rtol=1e-9, atol=1e-12)
        prior = found @ one.transition
    np.testing.assert_allclose(predicted, prior, rtol=1e-9)


def test_a_matrix_that_is_not_positive_definite_gives_nan() -> None:
    whitening, log_scales = np.empty((1, 2, 2)), np.empty(1)
    whiten(np.array([[[1.0, 2.0], [2.0, 1.0]]]), whitening, log_scales)
    assert np.isnan(log_scales[0])
