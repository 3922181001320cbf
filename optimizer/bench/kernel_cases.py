"""Cases of features, regime models, metrics and selection."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from kernels import (
    correlation,
    hidden_markov,
    inference,
    layout,
    metrics,
    overfitting,
    regimes,
)
from kernels.codes import ADDITIONS, KELLY
from kernels.decisions import decide
from kernels.features.table import FEATURES
from optimizer.bench.case import Case, repeated_case
from optimizer.bench.inputs import N_SYMBOLS
from optimizer.types import Bars


def feature_cases(bars: Bars) -> list[Case]:
    """Cases of the features.

    Args:
        bars: the bars of several symbols.

    Returns:
        Each feature over the bars of the first symbol, and the correlations of all symbols.
    """
    n, lookback = bars.n_bars, 60
    fields = {m: np.array(getattr(bars, m)[:, 0]) for m in ("high", "low", "close")}
    out = np.empty(n)
    cases = []
    for name in ("sma", "ema", "rsi", "momentum", "volatility", "atr"):
        feature = FEATURES[name]
        inputs = [fields[one] for one in feature.inputs]
        cases.append(
            repeated_case(
                f"feature {name}",
                "bar x symbol",
                n,
                feature.series,
                (*inputs, lookback, np.zeros(feature.state_size(lookback)), out),
                traffic=8.0 * (len(inputs) + 1),
            )
        )
    m, refresh = bars.n_symbols, 4
    matrices = np.empty((len(range(lookback, n, refresh)), m, m))
    state = np.zeros(correlation.correlation_state_size(lookback, m))
    arguments = (np.array(bars.close), lookback, lookback, refresh, state, matrices)
    pairs = len(matrices) * m * (m - 1) // 2
    cases.append(
        repeated_case(
            "feature correlation", "pair of symbols", pairs, correlation.correlation, arguments
        )
    )
    return cases


def regime_cases(n_bars: int) -> list[Case]:
    """Cases of the regime models, over simulated observations.

    Args:
        n_bars: how many observations.

    Returns:
        The features of the market, the filter of the HMM and the decision of the SVM.
    """
    rng = np.random.default_rng(2)
    observations = rng.normal(size=(n_bars, 2))
    hmm = (
        observations,
        np.full(3, 1.0 / 3.0),
        np.full((3, 3), 0.05) + 0.85 * np.eye(3),
        rng.normal(size=(3, 2)),
        np.array([np.eye(2)] * 3),
        np.zeros(3),
        np.empty((n_bars, 3)),
    )
    n_vectors = 120
    svm = (
        observations,
        rng.normal(size=(n_vectors, 2)),
        np.full(3, n_vectors // 3),
        rng.normal(size=(2, n_vectors)),
        rng.normal(size=3),
        0.5,
        np.empty((n_bars, 3)),
        np.empty(n_bars, np.int64),
    )
    market = (rng.normal(size=n_bars), np.zeros(60), np.zeros(1, np.int64), np.empty((n_bars, 2)))
    return [
        repeated_case("regime features", "bar", n_bars, regimes.market_features, market),
        repeated_case("regime HMM, 3 states", "bar", n_bars, hidden_markov.hmm_filter, hmm),
        repeated_case("regime SVM", "bar x vector", n_bars * n_vectors, regimes.svm_decision, svm),
    ]


def summary_cases() -> list[Case]:
    """Cases of what is computed once per set, or once per order of the event flow.

    Returns:
        The decisions of one portfolio, the metrics, the draws of the max-test, and the two steps of the
        probability of backtest overfitting.
    """
    rng = np.random.default_rng(5)
    n = 4_096
    rows = rng.uniform(1.0, 2.0, (layout.N_LANE_ROWS, n))
    out = np.empty((n, metrics.N_METRICS))
    start = np.ones(n)
    n_blocks, n_sets = 12, 1_024
    masks = np.array([sum(1 << b for b in c) for c in combinations(range(n_blocks), n_blocks // 2)])
    rest = ~masks & (2**n_blocks - 1)
    sums = rng.normal(0.0, 0.1, (n_blocks, n_sets))
    squares = rng.uniform(0.01, 0.02, (n_blocks, n_sets))
    half = np.full(len(masks), 600.0)
    inside, outside, ranks = (np.zeros(len(masks)) for _ in range(3))
    winners = np.zeros(len(masks), np.int64)
    split_sets = len(masks) * n_sets
    scores = rng.normal(0.0, 0.1, (256, 64)).astype(np.float32)
    multipliers = rng.normal(size=(64, 1_000)).astype(np.float32)
    n_draws = scores.size * multipliers.shape[1]
    maxima = np.full(1_000, -np.inf, np.float32)
    m = N_SYMBOLS
    ones, none = np.ones(m), np.zeros(m)
    lots, values = np.full(m, 80.0), np.full(m, 8e3)
    decision = (
        ones, np.full(m, 1e-3), ones, np.full(m, 100.0), lots, none.copy(), none.copy(), none.copy(),
        np.inf, 0.0, ones, np.full(m, 100.0), KELLY, ADDITIONS, 0.3, 1.0, np.inf, np.inf, 1.0, 1.0, 0.1,
        1e-4, 1e5, 8e4, np.full(m, np.inf), none, np.full((m, m), 0.5), values,
        8e4, 0.5, None, none.copy(), none.copy(), none.copy(), none.copy(), np.zeros(m, np.int64),
    )  # fmt: skip
    return [
        repeated_case("decide, event flow", "bar x symbol", m, decide, decision, 5_000),
        repeated_case(
            "metrics",
            "set",
            n,
            metrics.performance,
            (rows, start, 2_000, 252.0, 2_000, 252.0, out),
        ),
        repeated_case(
            "max-test, largest draws",
            "set x block x draw",
            n_draws,
            inference.raise_maxima,
            (scores, multipliers, maxima),
        ),
        repeated_case(
            "overfitting, selection",
            "split x set",
            split_sets,
            overfitting.select_in_sample,
            (sums, squares, 0, masks, rest, half, half, winners, inside, outside),
            lanes=overfitting.TILE,
        ),
        repeated_case(
            "overfitting, ranks",
            "split x set",
            split_sets,
            overfitting.rank_out_of_sample,
            (sums, squares, rest, half, outside, ranks),
            lanes=overfitting.TILE,
        ),
    ]
