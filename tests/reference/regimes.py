"""Regimes in plain Python: one obvious loop for each definition, no kernel in sight."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence

Row = Sequence[float]


def market_returns(closes: Sequence[Row]) -> list[float]:
    """Log returns of the index that holds equal weights, from its compounded levels."""
    level = 1.0
    returns = [0.0]
    for before, now in itertools.pairwise(closes):
        mean = statistics.fmean(b / a - 1.0 for a, b in zip(before, now, strict=True))
        returns.append(math.log(level * (1.0 + mean)) - math.log(level))
        level *= 1.0 + mean
    return returns


def market_features(returns: Row, lookback: int) -> list[tuple[float, float]]:
    """Mean and sample standard deviation of each window, NaN before the first is full."""
    features = [(math.nan, math.nan)] * min(lookback - 1, len(returns))
    for end in range(lookback, len(returns) + 1):
        window = list(returns[end - lookback : end])
        mean = math.fsum(window) / lookback
        squares = math.fsum((value - mean) ** 2 for value in window)
        features.append((mean, math.sqrt(squares / (lookback - 1))))
    return features


def density(observation: Row, mean: Row, variance: Row) -> float:
    """Gaussian density with a diagonal covariance."""
    return math.prod(
        statistics.NormalDist(m, math.sqrt(v)).pdf(x)
        for x, m, v in zip(observation, mean, variance, strict=True)
    )


def forward(
    observations: Sequence[Row],
    start: Row,
    transition: Sequence[Row],
    means: Sequence[Row],
    variances: Sequence[Row],
) -> list[list[float]]:
    """Probability of each state at each bar given the bars up to it, by Bayes' rule."""
    states = range(len(start))
    prior = list(start)
    filtered = []
    for observation in observations:
        joint = [prior[k] * density(observation, means[k], variances[k]) for k in states]
        filtered.append([weight / sum(joint) for weight in joint])
        prior = [sum(filtered[-1][k] * transition[k][j] for k in states) for j in states]
    return filtered


def smoothed(filtered: Sequence[Row], transition: Sequence[Row]) -> list[list[float]]:
    """Probability of each state given *all* bars, from the filtered ones: looks ahead.

    The backward pass of the forward filtering, backward smoothing recursion.
    """
    states = range(len(transition))
    result = [list(filtered[-1])]
    for now in reversed(filtered[:-1]):
        predicted = [sum(now[k] * transition[k][j] for k in states) for j in states]
        after = result[0]
        result.insert(
            0,
            [
                now[k]
                * sum(
                    transition[k][j] * after[j] / predicted[j] for j in states if predicted[j] > 0.0
                )
                for k in states
            ],
        )
    return result


def transport_cost(one: tuple[float, float], other: tuple[float, float]) -> float:
    """Least mean square by which one normal distribution is moved to become the other.

    Each is a mean and a standard deviation. Quantile by quantile, not by a formula.
    """
    shares = [(k + 0.5) / 2000 for k in range(2000)]
    quantiles = [statistics.NormalDist(*each).inv_cdf for each in (one, other)]
    return statistics.fmean((quantiles[0](q) - quantiles[1](q)) ** 2 for q in shares)


def mixture(parts: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Mean and standard deviation of normal distributions mixed in equal shares."""
    mean = statistics.fmean(m for m, _ in parts)
    return mean, math.sqrt(statistics.fmean(s * s + m * m for m, s in parts) - mean * mean)


def nearest_order(distances: Sequence[Row]) -> tuple[int, ...]:
    """The permutation with the least sum of distances, of all; rows are what stays in its place."""
    states = range(len(distances))
    return min(
        itertools.permutations(states),
        key=lambda order: sum(distances[k][order[k]] for k in states),
    )


def pairs(n_classes: int) -> list[tuple[int, int]]:
    """Pairs of classes in the order of the decisions."""
    return [(i, j) for i in range(n_classes) for j in range(i + 1, n_classes)]


def decisions(
    observation: Row,
    support_vectors: Sequence[Row],
    n_support: Sequence[int],
    dual_coefficients: Sequence[Row],
    intercept: Row,
    gamma: float,
) -> list[float]:
    """Decision of each pair of classes: one two-class machine after the other."""
    classes = [c for c, n in enumerate(n_support) for _ in range(n)]
    result = []
    for pair, (i, j) in enumerate(pairs(len(n_support))):
        decision = intercept[pair]
        for vector, c in enumerate(classes):
            similarity = math.exp(-gamma * math.dist(observation, support_vectors[vector]) ** 2)
            if c == i:
                decision += dual_coefficients[j - 1][vector] * similarity
            elif c == j:
                decision += dual_coefficients[i][vector] * similarity
        result.append(decision)
    return result


def vote(decisions: Row, n_classes: int) -> int:
    """Class with the most pairs won, the first of equals."""
    votes = [0] * n_classes
    for (i, j), decision in zip(pairs(n_classes), decisions, strict=True):
        votes[i if decision > 0.0 else j] += 1
    return votes.index(max(votes))


def coupled(shares: Row, n_classes: int) -> list[float]:
    """Probability of each class, by Price, Knerr, Personnaz and Dreyfus.

    ``shares`` are the probabilities of the first class of each pair, given that it is one of the two.
    """
    against = dict(zip(pairs(n_classes), shares, strict=True))
    against |= {(j, i): 1.0 - share for (i, j), share in against.items()}
    classes = range(n_classes)
    found = [
        1.0 / (sum(1.0 / against[i, j] for j in classes if j != i) - (n_classes - 2))
        for i in classes
    ]
    return [one / sum(found) for one in found]


def tercile_labels(forward_returns: Row) -> list[int]:
    """-1 below the lower tercile, 1 above the upper, 0 between; linear interpolation."""

    def quantile(share: float) -> float:
        ordered = sorted(forward_returns)
        place = share * (len(ordered) - 1)
        low = math.floor(place)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (ordered[high] - ordered[low]) * (place - low)

    lower, upper = quantile(1 / 3), quantile(2 / 3)
    return [-1 if value < lower else 1 if value > upper else 0 for value in forward_returns]
