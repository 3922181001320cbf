"""Market regimes, one bar at a time: the market's features, and what a support vector machine says.

Each rule is a step on one bar that carries its state in the arrays passed in. Its form over many bars
is the loop over that step. Nothing is allocated and nothing is kept, so a sequence that is cut anywhere
and continued with the carried arrays gives the same bits.
"""

from __future__ import annotations

import numpy as np

from kernels._jit import jit
from kernels.arrays import BoolArray, ByteArray, FloatArray, IntArray

_LEAST_SHARE = 1e-7
"""Least probability of a class against another one, as in LIBSVM: none is ruled out for good."""

N_MARKET_FEATURES = 2
"""Features of the market: mean and standard deviation of its log returns."""


@jit
def market_return_step(previous: FloatArray, close: FloatArray) -> float:
    """Log return over one bar of an equal-weighted index, rebalanced at each bar.

    Args:
        previous: (n_symbols,), closes of the bar before, positive.
        close: (n_symbols,), closes of this bar, positive.

    Returns:
        The log return.
    """
    total = 0.0
    for s in range(len(close)):
        total += (close[s] - previous[s]) / previous[s]  # near prices differ exactly
    return float(np.log1p(total / len(close)))


@jit
def market_returns(close: FloatArray, returns: FloatArray) -> None:
    """Loop of ``market_return_step``. The first bar has no bar before it, so its return is 0.

    Args:
        close: (n_bars, n_symbols), positive.
        returns: (n_bars,), written.
    """
    returns[:1] = 0.0
    for t in range(1, len(close)):
        returns[t] = market_return_step(close[t - 1], close[t])


@jit
def joint_market_return_step(
    previous: FloatArray,
    close: FloatArray,
    present: ByteArray,
    seen: BoolArray,
    pairs: FloatArray,
) -> float:
    """``market_return_step`` of symbols that may lack bars.

    The return is the mean over the symbols that have the bar and had one before; each return is over the
    time since the symbol's bar before.

    Args:
        previous: (n_symbols,), closes at the bar before, a symbol's last one where it has no bar; at
            the first bar anything.
        close: (n_symbols,), closes of this bar.
        present: (n_symbols,), 1 where the symbol has this bar.
        seen: (n_symbols,), whether the symbol had a bar before; carried, False at the start.
        pairs: (2, n_symbols), overwritten.

    Returns:
        The log return; 0 where there is no such symbol.
    """
    count = 0
    for s in range(len(close)):
        if present[s] != 0:
            if seen[s]:
                pairs[0, count] = previous[s]
                pairs[1, count] = close[s]
                count += 1
            seen[s] = True
    return market_return_step(pairs[0, :count], pairs[1, :count]) if count > 0 else 0.0


@jit
def joint_market_returns(close: FloatArray, present: ByteArray, returns: FloatArray) -> None:
    """Loop of ``joint_market_return_step``.

    Args:
        close: (n_bars, n_symbols), positive; where a symbol has no bar, its last close.
        present: (n_bars, n_symbols), 1 where the symbol has the bar.
        returns: (n_bars,), written.
    """
    n_symbols = close.shape[1]
    seen = np.zeros(n_symbols, np.bool_)
    pairs = np.empty((2, n_symbols))
    for t in range(len(close)):
        returns[t] = joint_market_return_step(
            close[max(t - 1, 0)], close[t], present[t], seen, pairs
        )


@jit
def market_features_step(
    log_return: float, ring: FloatArray, seen: IntArray, features: FloatArray
) -> None:
    """Add one return and write mean and standard deviation of the last ``lookback`` returns.

    Both passes go over the window itself, oldest bar first. No running sum can drift, and the result
    depends on the window alone.

    Args:
        log_return: the market's log return of this bar.
        ring: (lookback,), lookback >= 2, the last returns; carried, any values at the start.
        seen: (1,), number of returns so far; carried, 0 at the start.
        features: (2,), written: mean and standard deviation (ddof 1), per bar; NaN until ``lookback``
            returns have been seen.
    """
    lookback = len(ring)
    ring[seen[0] % lookback] = log_return
    seen[0] += 1
    if seen[0] < lookback:
        features[0] = np.nan
        features[1] = np.nan
        return
    oldest = seen[0] % lookback
    total = 0.0
    for k in range(oldest, lookback):
        total += ring[k]
    for k in range(oldest):
        total += ring[k]
    mean = total / lookback
    squares = 0.0
    for k in range(oldest, lookback):
        squares += (ring[k] - mean) * (ring[k] - mean)
    for k in range(oldest):
        squares += (ring[k] - mean) * (ring[k] - mean)
    features[0] = mean
    features[1] = np.sqrt(squares / (lookback - 1))


@jit
def market_features(
    returns: FloatArray, ring: FloatArray, seen: IntArray, features: FloatArray
) -> None:
    """Loop of ``market_features_step``.

    Args:
        returns: (n_bars,), log returns.
        ring, seen: the same as in ``market_features_step``, carried.
        features: (n_bars, 2), written.
    """
    for t in range(len(returns)):
        market_features_step(returns[t], ring, seen, features[t])


@jit
def _pair(c: int, d: int, n_classes: int) -> int:
    """Index of the pair of two classes in the order (0, 1), (0, 2), ..., (1, 2), ..."""
    first, second = min(c, d), max(c, d)
    return first * n_classes - first * (first + 1) // 2 + second - first - 1


@jit
def svm_decision_step(
    observation: FloatArray,
    support_vectors: FloatArray,
    n_support: IntArray,
    dual_coefficients: FloatArray,
    intercept: FloatArray,
    gamma: float,
    decisions: FloatArray,
) -> int:
    """Class of one observation by one-vs-one votes of support vector machines with an RBF kernel.

    The layout is that of LIBSVM (Chang and Lin 2011, "LIBSVM: a library for support vector machines",
    sections 4.1 and 7). Support vectors are grouped by class. The coefficient of a vector of class c
    against class d is in row ``d - 1`` where d > c, else in row ``d``. Pairs are in the order (0, 1),
    (0, 2), ..., (1, 2), ... A positive decision of the pair (i, j) is a vote for i, any other for j.
    Of classes with equally many votes the first wins.

    Args:
        observation: (n_features,).
        support_vectors: (n_vectors, n_features), grouped by class.
        n_support: (n_classes,), vectors of each class; n_classes >= 2.
        dual_coefficients: (n_classes - 1, n_vectors).
        intercept: (n_pairs,), n_pairs = n_classes * (n_classes - 1) / 2.
        gamma: the RBF kernel is exp(-gamma * squared distance).
        decisions: (n_pairs,), written.

    Returns:
        Index of the winning class, 0 to n_classes - 1.
    """
    n_classes = len(n_support)
    decisions[:] = 0.0
    vector = 0
    for c in range(n_classes):
        for _ in range(n_support[c]):
            distance = 0.0
            for f in range(len(observation)):
                difference = observation[f] - support_vectors[vector, f]
                distance += difference * difference
            similarity = np.exp(-gamma * distance)
            for d in range(n_classes):
                if d != c:
                    row = d - 1 if d > c else d
                    decisions[_pair(c, d, n_classes)] += dual_coefficients[row, vector] * similarity
            vector += 1
    for pair in range(len(intercept)):
        decisions[pair] += intercept[pair]

    winner = 0
    most_votes = -1
    for c in range(n_classes):
        votes = 0
        for d in range(n_classes):
            if d != c and (decisions[_pair(c, d, n_classes)] > 0.0) == (c < d):
                votes += 1
        if votes > most_votes:
            winner = c
            most_votes = votes
    return winner


@jit
def svm_decision(
    observations: FloatArray,
    support_vectors: FloatArray,
    n_support: IntArray,
    dual_coefficients: FloatArray,
    intercept: FloatArray,
    gamma: float,
    decisions: FloatArray,
    labels: IntArray,
) -> None:
    """Loop of ``svm_decision_step``.

    Args:
        observations: (n_bars, n_features).
        support_vectors, n_support, dual_coefficients, intercept, gamma: the same as in
            ``svm_decision_step``.
        decisions: (n_bars, n_pairs), written.
        labels: (n_bars,), written: class of each bar.
    """
    for t in range(len(observations)):
        labels[t] = svm_decision_step(
            observations[t],
            support_vectors,
            n_support,
            dual_coefficients,
            intercept,
            gamma,
            decisions[t],
        )


@jit
def svm_probabilities_step(
    decisions: FloatArray, sigmoids: FloatArray, pairs: FloatArray, probabilities: FloatArray
) -> None:
    """Probability of each class from the decisions of all pairs of classes.

    A sigmoid turns the decision of a pair into the probability of its first class, given that it is one
    of the two (Platt 1999, "Probabilistic outputs for support vector machines"). The pairs are coupled by
    the closed form of Price, Knerr, Personnaz and Dreyfus (1994), "Pairwise neural network classifiers
    with probabilistic outputs": p_i = 1 / (sum over j of 1 / r_ij - (n_classes - 2)), which is then
    scaled to a sum of 1.

    Args:
        decisions: (n_pairs,), see ``svm_decision_step``.
        sigmoids: (n_pairs, 2), slope and intercept of the log-odds of the first class.
        pairs: (n_pairs,), overwritten.
        probabilities: (n_classes,), written; two classes or more.
    """
    n_classes = len(probabilities)
    for pair in range(len(decisions)):
        odds = sigmoids[pair, 0] * decisions[pair] + sigmoids[pair, 1]
        share = 1.0 / (1.0 + np.exp(-odds))
        pairs[pair] = min(max(share, _LEAST_SHARE), 1.0 - _LEAST_SHARE)
    total = 0.0
    for c in range(n_classes):
        inverse = 2.0 - n_classes
        for d in range(n_classes):
            if d != c:
                share = pairs[_pair(c, d, n_classes)]
                inverse += 1.0 / (share if c < d else 1.0 - share)
        probabilities[c] = 1.0 / inverse
        total += probabilities[c]
    for c in range(n_classes):
        probabilities[c] /= total


@jit
def svm_probabilities(
    decisions: FloatArray, sigmoids: FloatArray, probabilities: FloatArray
) -> None:
    """Loop of ``svm_probabilities_step``.

    Args:
        decisions: (n_bars, n_pairs).
        sigmoids: the same as in ``svm_probabilities_step``.
        probabilities: (n_bars, n_classes), written.
    """
    pairs = np.empty(len(sigmoids))
    for t in range(len(decisions)):
        svm_probabilities_step(decisions[t], sigmoids, pairs, probabilities[t])
