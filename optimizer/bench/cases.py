"""Cases that the benchmark measures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from kernels import correlation, features, layout, metrics, overfitting, regimes, risk
from optimizer.bench.machine import Mix, Repeated
from optimizer.study_file.space import build_space
from optimizer.study_file.study import study_from_dict
from optimizer.sweep.inputs import Inputs, prepare, study_rules
from optimizer.sweep.tiles import Tile
from optimizer.types import Bars

N_BARS, N_SYMBOLS, N_SETS = 1_000, 10, 512
CELL = "bar x symbol x set"


@dataclass(eq=False)
class Case:
    """Work to be timed.

    Attributes:
        kernel, element: names.
        elements: how many one call of ``work`` computes.
        work: what is timed.
        reset: restores what ``work`` changes; not timed.
        assembly: of the kernel, once ``work`` has been called.
        lanes: computed side by side.
        traffic: bytes of an element to and from memory, where that is what limits it.
        mix: of an element times 8, where its instructions are what limits it.
    """

    kernel: str
    element: str
    elements: int
    work: Callable[[], object]
    reset: Callable[[], object] = lambda: None
    assembly: Callable[[], str] = lambda: ""
    lanes: int = 1
    traffic: float | None = None
    mix: Callable[[], Mix] | None = None


def simulated_bars(n_bars: int, n_symbols: int) -> Bars:
    """Bars of correlated random walks; the same for the same arguments."""
    rng = np.random.default_rng(4)
    market = rng.normal(3e-4, 0.008, (n_bars, 1))
    close = 100.0 * np.exp(np.cumsum(market + rng.normal(0.0, 0.01, (n_bars, n_symbols)), axis=0))
    open_ = close * np.exp(rng.normal(0.0, 0.004, close.shape))
    spread = np.exp(np.abs(rng.normal(0.0, 0.006, close.shape)))
    return Bars(
        symbols=tuple(f"S{k:03}" for k in range(n_symbols)),
        timestamps=np.datetime64("2000-01-03", "ns") + np.arange(n_bars) * np.timedelta64(1, "h"),
        open=open_,
        high=np.maximum(open_, close) * spread,
        low=np.minimum(open_, close) / spread,
        close=close,
        volume=np.full(close.shape, 1e6),
        bars_per_year=252.0,
        source="simulated",
    )


def momentum_sets(
    bars: Bars, n_sets: int = N_SETS, shortest: int = 5, **risk_parameters: Any
) -> tuple[Inputs, Tile, Tile]:
    """Inputs, and momentum parameter sets that share their features or have their own.

    Lookbacks are from ``shortest`` to 250 bars.
    """
    content = {
        "study": {"name": "bench"},
        "data": {"path": "."},
        "strategy": {"name": "momentum", "lookback": {"low": shortest, "high": 250}},
        "risk": {"correlation_penalty": 0.0, **risk_parameters},
    }
    study = study_from_dict(content)
    space = build_space(study)
    inputs = prepare(bars, space, study_rules(study, space, bars.n_symbols), 0.0)
    rng = np.random.default_rng(1)
    branch = space.branches[0]
    one = branch.lanes({"momentum_lookback": max(60, shortest)})
    columns = {name: np.repeat(array, n_sets) for name, array in one.items()}
    columns["momentum_threshold"] = rng.uniform(0.0, 0.1, n_sets)
    columns["kelly_fraction"] = rng.uniform(0.1, 0.5, n_sets)
    columns["rebalance_band"] = rng.uniform(0.05, 0.3, n_sets)
    own = {**columns, "momentum_lookback": rng.integers(shortest, 251, n_sets).astype(np.float64)}
    return inputs, Tile.of(branch, columns), Tile.of(branch, own)


def repeated_case(
    kernel: str,
    element: str,
    elements: int,
    function: Callable[..., Any],
    arguments: Sequence[Any],
    calls: int = 1,
    **details: Any,
) -> Case:
    """``calls`` calls of one kernel, its arrays restored before each turn."""
    repeated = Repeated(function)
    kept = [(a, a.copy()) for a in arguments if isinstance(a, np.ndarray) and a.flags.writeable]

    def reset() -> None:
        for array, copy in kept:
            array[...] = copy

    return Case(
        kernel,
        element,
        elements * calls,
        lambda: repeated(calls, *arguments),
        reset,
        lambda: repeated.assembly,
        **details,
    )


def feature_cases(bars: Bars) -> list[Case]:
    """Each feature over the bars of one symbol, and the correlations of all."""
    n, lookback = bars.n_bars, 60
    high, low, close = (np.array(getattr(bars, m)[:, 0]) for m in ("high", "low", "close"))
    out = np.empty(n)
    cases = []
    for name in ("sma", "ema", "rsi", "momentum", "volatility", "atr"):
        series = getattr(features, name)
        state = np.zeros(getattr(features, f"{name}_state_size")(lookback))
        inputs = (high, low, close) if name == "atr" else (close,)
        cases.append(
            repeated_case(
                f"feature {name}",
                "bar x symbol",
                n,
                series,
                (*inputs, lookback, state, out),
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
    """The steps of the regime models over simulated observations."""
    rng = np.random.default_rng(2)
    observations = rng.normal(size=(n_bars, 2))
    hmm = (
        observations,
        np.full(3, 1.0 / 3.0),
        np.full((3, 3), 0.05) + 0.85 * np.eye(3),
        rng.normal(size=(3, 2)),
        np.ones((3, 2)),
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
        repeated_case("regime HMM, 3 states", "bar", n_bars, regimes.hmm_filter, hmm),
        repeated_case("regime SVM", "bar x vector", n_bars * n_vectors, regimes.svm_decision, svm),
    ]


def summary_cases() -> list[Case]:
    """Metrics, the order of one portfolio, and the probability of backtest overfitting."""
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
    m = N_SYMBOLS
    decision = (
        1.0, 1e-3, 0.5, 80.0, 0.3, 1e-4, np.full((m, m), 0.5), 0, np.full(m, 1e4), 1e5, 0.5, 1e5,
        50.0, 0.0, 100.0, 5e4, 5e4, 1.0, 0.1, None,
    )  # fmt: skip
    return [
        repeated_case("decide, event flow", "bar x symbol", 1, risk.decide, decision, 20_000),
        repeated_case("metrics", "set", n, metrics.performance, (rows, start, 2_000, 252.0, out)),
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
