"""Gaussian hidden Markov models: the forward filter, and the fit by expectation maximisation."""

import numpy as np

from kernels._jit import jit
from kernels.arrays import FloatArray


@jit
def whiten(covariances: FloatArray, whitening: FloatArray, log_scales: FloatArray) -> None:
    """The inverse Cholesky factor of each covariance matrix, which turns deviations into standard ones.

    Args:
        covariances: (n_states, n_features, n_features), symmetric, positive definite.
        whitening: (n_states, n_features, n_features), written: lower triangular W with W C W' = 1. NaN
            where a matrix is not positive definite.
        log_scales: (n_states,), written: half the logarithm of each determinant.
    """
    n_states, n_features, _ = covariances.shape
    factor = np.zeros((n_features, n_features))
    for k in range(n_states):
        log_scales[k] = 0.0
        for i in range(n_features):
            for j in range(i + 1):
                rest = covariances[k, i, j]
                for f in range(j):
                    rest -= factor[i, f] * factor[j, f]
                factor[i, j] = rest / factor[j, j] if j < i else np.sqrt(rest)
            log_scales[k] += np.log(factor[i, i])
        for j in range(n_features):
            for i in range(n_features):
                rest = 1.0 if i == j else 0.0
                for f in range(j, i):
                    rest -= factor[i, f] * whitening[k, f, j]
                whitening[k, i, j] = rest / factor[i, i] if i >= j else 0.0


@jit
def log_density(
    observation: FloatArray, mean: FloatArray, whitening: FloatArray, log_scale: float
) -> float:
    """Logarithm of a normal density, without the constant -n_features / 2 * log(2 pi).

    Args:
        observation, mean: (n_features,).
        whitening: (n_features, n_features), see ``whiten``.
        log_scale: half the logarithm of the determinant.

    Returns:
        The logarithm; -inf or NaN where the observation is not finite.
    """
    value = -log_scale
    for i in range(len(mean)):
        standard = 0.0
        for j in range(i + 1):
            standard += whitening[i, j] * (observation[j] - mean[j])
        value -= 0.5 * standard * standard
    return value


@jit
def hmm_filter_step(
    observation: FloatArray,
    predicted: FloatArray,
    transition: FloatArray,
    means: FloatArray,
    whitening: FloatArray,
    log_scales: FloatArray,
    filtered: FloatArray,
) -> None:
    """One step of the forward filter of a hidden Markov model with Gaussian emissions.

    The scaled forward recursion of Rabiner (1989), "A tutorial on hidden Markov models", sections
    III.A and V.A. Weights are logarithms relative to the likeliest state's, so an observation far
    from every state does not underflow. The prediction for the next bar is carried rather than the
    filtered state: then the first bar, whose prediction is the start distribution, is not a special
    case.

    Args:
        observation: (n_features,).
        predicted: (n_states,), probability of each state at this bar given the bars before; carried:
            replaced by the prediction for the next bar. At first the start distribution.
        transition: (n_states, n_states), rows sum to 1: from state (row) to state (column).
        means: (n_states, n_features).
        whitening, log_scales: (n_states, n_features, n_features) and (n_states,), see ``whiten``.
        filtered: (n_states,), written: probability of each state at this bar given the bars up to and
            including it. An observation that no state can have produced (not finite) carries no
            information: the prediction stays.
    """
    n_states = len(means)
    largest = -np.inf
    for k in range(n_states):
        density = log_density(observation, means[k], whitening[k], log_scales[k])
        filtered[k] = np.log(predicted[k]) + density
        largest = max(largest, filtered[k])
    total = 0.0
    for k in range(n_states):
        filtered[k] = np.exp(filtered[k] - largest)
        total += filtered[k]
    if np.isfinite(total):
        for k in range(n_states):
            filtered[k] /= total
    else:
        for k in range(n_states):
            filtered[k] = predicted[k]
    for j in range(n_states):
        probability = 0.0
        for k in range(n_states):
            probability += filtered[k] * transition[k, j]
        predicted[j] = probability


@jit
def hmm_filter(
    observations: FloatArray,
    predicted: FloatArray,
    transition: FloatArray,
    means: FloatArray,
    whitening: FloatArray,
    log_scales: FloatArray,
    filtered: FloatArray,
) -> None:
    """Loop of ``hmm_filter_step``.

    Args:
        observations: (n_bars, n_features).
        predicted: (n_states,), carried: left as the prediction for the bar after the last.
        transition, means, whitening, log_scales: the same as in ``hmm_filter_step``.
        filtered: (n_bars, n_states), written.
    """
    for t in range(len(observations)):
        hmm_filter_step(
            observations[t], predicted, transition, means, whitening, log_scales, filtered[t]
        )


@jit
def maximise_hmm(
    observations: FloatArray,
    full: bool,
    most_iterations: int,
    tolerance: float,
    transition_prior: float,
    variance_prior: float,
    start: FloatArray,
    transition: FloatArray,
    means: FloatArray,
    covariances: FloatArray,
) -> tuple[int, float, float]:
    """Fit a hidden Markov model by expectation maximisation (Baum and Welch).

    Rabiner (1989), "A tutorial on hidden Markov models", sections III.C and V.A, with his scaling of
    the forward and backward variables. Priors are those of hmmlearn: a Dirichlet distribution on the
    rows of the transition, and ``variance_prior`` added to the scatter of each feature in each state.

    Args:
        observations: (n_bars, n_features), two bars or more.
        full: whether features may correlate within a state; otherwise covariances are diagonal.
        most_iterations: iterations at most.
        tolerance: gain in log-likelihood below which the fit has converged.
        transition_prior: parameter of the Dirichlet distribution, 1 for none.
        variance_prior: added to each sum of squared deviations.
        start: (n_states,), probabilities of the states at the first bar; updated, as are those below.
        transition: (n_states, n_states), rows sum to 1.
        means: (n_states, n_features).
        covariances: (n_states, n_features, n_features).

    Returns:
        Number of iterations, and the log-likelihoods of the last and of the last but one before its
        update, NaN where there was none. The parameters are those after the last update.
    """
    n_bars, n_features = observations.shape
    n_states = len(start)
    whitening = np.zeros_like(covariances)
    log_scales = np.zeros(n_states)
    density = np.empty((n_bars, n_states))
    forward = np.empty((n_bars, n_states))
    scale = np.empty(n_bars)
    backward, later = np.empty(n_states), np.empty(n_states)
    constant = -0.5 * n_features * np.log(2.0 * np.pi)
    last = before = np.nan
    for iteration in range(1, most_iterations + 1):
        before = last
        whiten(covariances, whitening, log_scales)
        last = n_bars * constant
        for t in range(n_bars):
            largest = -np.inf
            for k in range(n_states):
                density[t, k] = log_density(observations[t], means[k], whitening[k], log_scales[k])
                largest = max(largest, density[t, k])
            scale[t] = 0.0
            for k in range(n_states):
                density[t, k] = np.exp(density[t, k] - largest)
                arrives = start[k]
                if t > 0:
                    arrives = 0.0
                    for i in range(n_states):
                        arrives += forward[t - 1, i] * transition[i, k]
                forward[t, k] = arrives * density[t, k]
                scale[t] += forward[t, k]
            for k in range(n_states):
                forward[t, k] /= scale[t]
            last += np.log(scale[t]) + largest

        # Expected transitions, and weighted sums of the observations, from the last bar to the first.
        moved = np.zeros((n_states, n_states))
        weight = np.zeros(n_states)
        total = np.zeros((n_states, n_features))
        square = np.zeros((n_states, n_features, n_features))
        backward[:] = 1.0
        for t in range(n_bars - 1, -1, -1):
            mass = 0.0
            for k in range(n_states):
                mass += forward[t, k] * backward[k]
            for k in range(n_states):
                own = forward[t, k] * backward[k] / mass
                if t == 0:
                    start[k] = own
                weight[k] += own
                for f in range(n_features):
                    total[k, f] += own * observations[t, f]
                    for g in range(f + 1):
                        square[k, f, g] += own * observations[t, f] * observations[t, g]
            if t > 0:
                for k in range(n_states):
                    later[k] = density[t, k] * backward[k] / scale[t]
                for i in range(n_states):
                    backward[i] = 0.0
                    for k in range(n_states):
                        step = transition[i, k] * later[k]
                        moved[i, k] += forward[t - 1, i] * step
                        backward[i] += step

        for k in range(n_states):
            row = 0.0
            for i in range(n_states):
                moved[k, i] += transition_prior - 1.0
                row += moved[k, i]
            for i in range(n_states):
                transition[k, i] = moved[k, i] / row
            for f in range(n_features):
                means[k, f] = total[k, f] / weight[k]
            for f in range(n_features):
                for g in range(f + 1):
                    scatter = square[k, f, g] - weight[k] * means[k, f] * means[k, g]
                    scatter = scatter + variance_prior if f == g else scatter
                    value = scatter / weight[k] if f == g or full else 0.0
                    covariances[k, f, g] = covariances[k, g, f] = value
        if last - before < tolerance:
            return iteration, last, before
    return most_iterations, last, before
