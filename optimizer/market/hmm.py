"""The hidden Markov model of market regimes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kernels.codes import BEAR, BULL, NEUTRAL
from kernels.hidden_markov import hmm_filter, maximise_hmm, whiten
from kernels.regimes import N_MARKET_FEATURES
from optimizer.market.regime_models import CodeArray, FitError, groups, standardise
from optimizer.types import FloatArray, IntArray

HmmArrays = tuple[FloatArray, FloatArray, FloatArray, FloatArray]
"""Start distribution (n_states,), transition (n_states, n_states), means (n_states, n_features) and
covariances (n_states, n_features, n_features)."""

_MAX_ITERATIONS = 100  # Windows of 504 daily bars took at most 48.
_TOLERANCE = 1e-2  # Gain in log-likelihood below which EM has converged.
_TRANSITION_PRIOR = 1.1  # A tenth of a transition added: no state is closed or inescapable.
_VARIANCE_PRIOR = 1e-2  # Added to each state's sum of squared deviations: no variance is 0.
_LEAST_START_VARIANCE = 1e-3  # Of a feature standardised to variance 1.


@dataclass(frozen=True, eq=False)
class Names:
    """What the states that had each name were like, in all fits so far: their emissions mixed equally.

    Attributes:
        n_fits: number of fits.
        means, variances: shape (n_states, n_features), those of the mixtures, in units of the features.
    """

    n_fits: int
    means: FloatArray
    variances: FloatArray

    def standardised(self, location: FloatArray, scale: FloatArray) -> Names:
        """The same in another unit.

        Args:
            location, scale: shape (n_features,), 0 and 1 of that unit in units of the features.
        """
        return Names(self.n_fits, (self.means - location) / scale, self.variances / scale**2)

    def with_fit(self, means: FloatArray, variances: FloatArray) -> Names:
        """The names after one more fit.

        Args:
            means, variances: shape (n_states, n_features), those of its states in the order of the
                names, in units of the features.
        """
        share = 1.0 / (self.n_fits + 1)
        apart = means - self.means
        mixed = (1.0 - share) * (self.variances + share * apart**2) + share * variances
        return Names(self.n_fits + 1, self.means + share * apart, mixed)


@dataclass(frozen=True, eq=False)
class HmmModel:
    """Gaussian hidden Markov model of the standardised features; states in the order of the codes.

    Those of a first fit ascend by mean return, those of a later one are matched with the fits before.

    Attributes:
        bar: bar of the fit.
        location, scale: shape (n_features,), standardise the features.
        predicted: shape (n_states,), probability of each state at ``bar`` given the bars before it.
        transition: shape (n_states, n_states).
        means: shape (n_states, n_features).
        covariances: shape (n_states, n_features, n_features).
        names: what later states are named by.
    """

    bar: int
    location: FloatArray
    scale: FloatArray
    predicted: FloatArray
    transition: FloatArray
    means: FloatArray
    covariances: FloatArray
    names: Names

    def carried(self) -> FloatArray:
        """Return a fresh copy of ``predicted``.

        Returns:
            The probabilities, shape (n_states,).
        """
        return self.predicted.copy()

    def classify(
        self, features: FloatArray, carried: FloatArray, probabilities: FloatArray | None = None
    ) -> CodeArray:
        """Most likely state of each bar given the bars up to it; see ``RegimeModel``.

        Args:
            features: shape (n_bars, n_features).
            carried: shape (n_states,), updated in place.
            probabilities: shape (n_bars, 2), written: the sums over the states of bear and of bull.

        Returns:
            Regime codes, shape (n_bars,).
        """
        observations = (features - self.location) / self.scale
        filtered = _filtered(observations, carried, self.transition, self.means, self.covariances)
        states = state_codes(len(self.means))
        if probabilities is not None:
            for column, code in enumerate((BEAR, BULL)):
                probabilities[:, column] = filtered[:, states == code].sum(axis=1)
        codes: CodeArray = states[filtered.argmax(axis=1)]
        return codes


def state_codes(n_states: int) -> CodeArray:
    """The regime of each state: the first is bear, the last bull, those between are neutral.

    Args:
        n_states: 2 or more.

    Returns:
        Codes, shape (n_states,).
    """
    codes = np.full(n_states, NEUTRAL, np.int8)
    codes[0], codes[-1] = BEAR, BULL
    return codes


def _filtered(
    observations: FloatArray,
    predicted: FloatArray,
    transition: FloatArray,
    means: FloatArray,
    covariances: FloatArray,
) -> FloatArray:
    """Probability of each state at each bar given the bars up to it; ``predicted`` is updated."""
    filtered = np.empty((len(observations), len(means)))
    whitening, log_scales = np.empty_like(covariances), np.empty(len(means))
    whiten(covariances, whitening, log_scales)
    hmm_filter(observations, predicted, transition, means, whitening, log_scales, filtered)
    return filtered


def fit_hmm(
    bar: int,
    features: FloatArray,
    before: HmmModel | None = None,
    n_states: int = 3,
    full: bool = False,
) -> HmmModel:
    """Fit by expectation maximisation from two starts and keep the more likely model.

    The starts are the terciles of each feature (for 2 or 4 states halves or quarters), without random
    draws. On daily stocks the better of the two comes close to the best of 20 random starts. It is far
    better than a start by k-means, which rarely leaves its uniform transitions. A start from
    the previous model would gain nothing, and each model would depend on all earlier windows. Only the
    order of the states does, which is their names.

    Args:
        bar: the bar of the fit, from 0.
        features: the features of the window, shape (n_bars, n_features).
        before: the model of the fit before, which says what each name stands for; None sorts the
            states by mean return.
        n_states: number of states, 2 or more.
        full: whether the features may correlate within a state.

    Returns:
        The fitted model.

    Raises:
        FitError: neither start yields a usable model.
    """
    location, scale = standardise(features)
    observations = (features - location) / scale
    best: tuple[float, HmmArrays] | None = None
    reason = ""
    for feature in range(N_MARKET_FEATURES):
        try:
            candidate = _maximise(observations, groups(observations[:, feature], n_states), full)
        except FitError as error:
            reason = str(error)
            continue
        if best is None or candidate[0] > best[0]:
            best = candidate
    if best is None:
        raise FitError(reason)

    start, transition, means, covariances = best[1]
    variances = np.diagonal(covariances, axis1=1, axis2=2)
    order = np.argsort(means[:, 0], kind="stable")
    names = Names(0, np.zeros_like(means), np.zeros_like(means)) if before is None else before.names
    if before is not None:
        order = _matched(names.standardised(location, scale), means, variances)
    predicted = start[order]
    transition = transition[order][:, order].copy(order="C")
    means, covariances = means[order], covariances[order]
    names = names.with_fit(location + scale * means, scale**2 * variances[order])
    # The state before `bar`: filtered over the window, not smoothed.
    filtered = _filtered(observations[:-1], predicted, transition, means, covariances)
    if filtered.sum(axis=0).min() < 1.0:
        raise FitError("a state holds less than one bar of the window")
    return HmmModel(bar, location, scale, predicted, transition, means, covariances, names)


def _matched(names: Names, means: FloatArray, variances: FloatArray) -> IntArray:
    """Which new state takes each name: of all ways to give the names, the one that is nearest in all.

    The distance is the squared 2-Wasserstein distance of normal distributions: the difference of the
    means squared plus that of the standard deviations squared, over the features.

    Args:
        names: the names, in the unit of the new states.
        means, variances: of the new states, shape (n_states, n_features).
    """
    from scipy.optimize import linear_sum_assignment  # which takes long to import

    distance = (means - names.means[:, np.newaxis]) ** 2
    distance += (np.sqrt(variances) - np.sqrt(names.variances)[:, np.newaxis]) ** 2
    order: IntArray = linear_sum_assignment(distance.sum(axis=2))[1]
    return order


def _maximise(observations: FloatArray, group: IntArray, full: bool) -> tuple[float, HmmArrays]:
    """Log-likelihood and parameters that EM reaches from one grouping of the bars of the window."""
    n_states = int(group.max()) + 1
    transitions = np.ones((n_states, n_states))
    np.add.at(transitions, (group[:-1], group[1:]), 1.0)
    members = [observations[group == k] for k in range(n_states)]
    start = np.full(n_states, 1.0 / n_states)
    transition = transitions / transitions.sum(axis=1, keepdims=True)
    means = np.array([rows.mean(axis=0) for rows in members])
    variances = np.array([rows.var(axis=0) for rows in members])
    covariances = np.zeros((n_states, N_MARKET_FEATURES, N_MARKET_FEATURES))
    diagonal = np.arange(N_MARKET_FEATURES)
    covariances[:, diagonal, diagonal] = np.maximum(variances, _LEAST_START_VARIANCE)
    iterations, last, before = maximise_hmm(
        np.ascontiguousarray(observations), full, _MAX_ITERATIONS, _TOLERANCE, _TRANSITION_PRIOR,
        _VARIANCE_PRIOR, start, transition, means, covariances,
    )  # fmt: skip
    # It also ends after its last iteration and after a fall.
    if not abs(last - before) < _TOLERANCE:
        raise FitError(
            f"EM did not converge: iteration {iterations} of at most {_MAX_ITERATIONS} "
            f"moved the log-likelihood by {last - before:+.3g}"
        )
    arrays = (start, transition, means, covariances)
    if not all(np.isfinite(array).all() for array in arrays):
        raise FitError("the fitted parameters are not finite")
    return last, arrays
