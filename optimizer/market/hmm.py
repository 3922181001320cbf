"""The hidden Markov model of market regimes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kernels import regimes as kernel
from kernels.codes import BEAR
from optimizer.market.regime_models import N_STATES, CodeArray, FitError, standardise, terciles
from optimizer.types import FloatArray, IntArray

HmmArrays = tuple[FloatArray, FloatArray, FloatArray, FloatArray]
"""Start distribution (n_states,), transition (n_states, n_states), means and variances, both
(n_states, n_features)."""

_MAX_ITERATIONS = 100  # Windows of 504 daily bars took at most 48.
_TOLERANCE = 1e-2  # Gain in log-likelihood below which EM has converged.
_TRANSITION_PRIOR = 1.1  # A tenth of a transition added: no state is closed or inescapable.
_LEAST_START_VARIANCE = 1e-3  # Of a feature standardised to variance 1.


@dataclass(frozen=True, eq=False)
class HmmModel:
    """Gaussian hidden Markov model of the standardised features; states in the order of the codes.

    Attributes:
        bar: bar of the fit.
        location, scale: shape (n_features,), standardise the features.
        predicted: shape (n_states,), probability of each state at ``bar`` given the bars before it.
        transition: shape (n_states, n_states).
        means, variances: shape (n_states, n_features).
    """

    bar: int
    location: FloatArray
    scale: FloatArray
    predicted: FloatArray
    transition: FloatArray
    means: FloatArray
    variances: FloatArray

    def carried(self) -> FloatArray:
        """Return a fresh copy of ``predicted``.

        Returns:
            The probabilities, shape (n_states,).
        """
        return self.predicted.copy()

    def classify(self, features: FloatArray, carried: FloatArray) -> CodeArray:
        """Most likely state of each bar given the bars up to it; see ``RegimeModel``.

        Args:
            features: shape (n_bars, n_features).
            carried: shape (n_states,), updated in place.

        Returns:
            Regime codes, shape (n_bars,).
        """
        observations = (features - self.location) / self.scale
        filtered = np.empty((len(features), N_STATES))
        kernel.hmm_filter(
            observations, carried, self.transition, self.means, self.variances, filtered
        )
        codes: CodeArray = (filtered.argmax(axis=1) + BEAR).astype(np.int8)
        return codes


def fit_hmm(bar: int, features: FloatArray) -> HmmModel:
    """Fit by expectation maximisation (hmmlearn) from two starts and keep the more likely model.

    The starts are the terciles of each feature, without random draws. On daily stocks the better of
    the two comes close to the best of 20 random starts. It is far better than hmmlearn's own start
    by k-means, which rarely leaves its uniform transitions. A start from the previous model would
    gain nothing, and each model would depend on all earlier windows.

    Args:
        bar: the bar of the fit, from 0.
        features: the features of the window, shape (n_bars, n_features).

    Returns:
        The fitted model.

    Raises:
        FitError: neither start yields a usable model.
    """
    location, scale = standardise(features)
    observations = (features - location) / scale
    best: tuple[float, HmmArrays] | None = None
    reason = ""
    for feature in range(kernel.N_MARKET_FEATURES):
        try:
            candidate = _maximise(observations, terciles(observations[:, feature]))
        except FitError as error:
            reason = str(error)
            continue
        if best is None or candidate[0] > best[0]:
            best = candidate
    if best is None:
        raise FitError(reason)

    # The state before `bar`: filtered over the window, not smoothed.
    predicted, transition, means, variances = best[1]
    filtered = np.empty((len(observations) - 1, N_STATES))
    kernel.hmm_filter(observations[:-1], predicted, transition, means, variances, filtered)
    if filtered.sum(axis=0).min() < 1.0:
        raise FitError("a state holds less than one bar of the window")
    return HmmModel(bar, location, scale, predicted, transition, means, variances)


def _maximise(observations: FloatArray, group: IntArray) -> tuple[float, HmmArrays]:
    """Log-likelihood and parameters that EM reaches from one grouping of the bars of the window."""
    from hmmlearn.hmm import GaussianHMM

    hmm = GaussianHMM(
        N_STATES,
        covariance_type="diag",
        transmat_prior=_TRANSITION_PRIOR,
        n_iter=_MAX_ITERATIONS,
        tol=_TOLERANCE,
        random_state=0,
        init_params="",
    )
    transitions = np.ones((N_STATES, N_STATES))
    np.add.at(transitions, (group[:-1], group[1:]), 1.0)
    members = [observations[group == k] for k in range(N_STATES)]
    hmm.startprob_ = np.full(N_STATES, 1.0 / N_STATES)
    hmm.transmat_ = transitions / transitions.sum(axis=1, keepdims=True)
    hmm.means_ = np.array([rows.mean(axis=0) for rows in members])
    variances = np.array([rows.var(axis=0) for rows in members])
    hmm.covars_ = np.maximum(variances, _LEAST_START_VARIANCE)
    try:
        hmm.fit(observations)
    except ValueError as error:  # Among them numpy's LinAlgError.
        raise FitError(f"hmmlearn: {error}".splitlines()[0]) from error

    # hmmlearn also calls it converged after its last iteration and after a fall.
    before, last = ([np.nan, np.nan, *hmm.monitor_.history])[-2:]
    if not abs(last - before) < _TOLERANCE:
        raise FitError(
            f"EM did not converge: iteration {hmm.monitor_.iter} of at most {_MAX_ITERATIONS} "
            f"moved the log-likelihood by {last - before:+.3g}"
        )
    order = np.argsort(hmm.means_[:, 0], kind="stable")
    start = hmm.startprob_[order]
    transition = hmm.transmat_[order][:, order].copy(order="C")
    means = hmm.means_[order]
    variances = np.array([np.diag(hmm.covars_[k]) for k in order])
    finite = all(np.isfinite(array).all() for array in (start, transition, means, variances))
    if not finite or not np.all(variances > 0.0) or not np.allclose(transition.sum(axis=1), 1.0):
        raise FitError("the fitted parameters are not finite or not probabilities")
    return float(last), (start, transition, means, variances)
