"""Features, correlations and the market of symbols that lack bars, next to each on its own bars."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import regimes as kernel
from optimizer.market.correlations import compute_correlations
from optimizer.market.feature_keys import FeatureKey
from optimizer.market.features import compute_features
from optimizer.market.regimes import compile_classifier, fit_market, fit_regimes, market_returns
from optimizer.types import Bars, FloatArray
from tests.support.studies import random_bars
from tests.support.universe import only, random_presence, with_present

KEYS: list[FeatureKey] = [
    *(("atr", 14), ("close",), ("ema", 12), ("momentum", 5)),
    *(("rsi", 7), ("sma", 10), ("volatility", 20)),
]


def ragged(n_bars: int = 160, n_symbols: int = 6, seed: int = 0) -> Bars:
    names = [f"S{s}" for s in range(n_symbols)]
    return with_present(random_bars(n_bars, names, seed), random_presence(n_bars, n_symbols, seed))


@pytest.mark.parametrize("seed", range(5))
def test_features_are_those_of_the_symbol_alone(seed: int) -> None:
    bars = ragged(seed=seed)
    values = compute_features(bars, KEYS).values
    for s in range(bars.n_symbols):
        own = bars.own(s)
        alone = compute_features(only(bars, [s], own), KEYS).values[:, 0]
        assert values[own, s].tobytes() == alone.tobytes()
        assert np.isnan(values[: own[0], s]).all()
        for t in np.setdiff1d(np.arange(own[0], bars.n_bars), own):
            assert values[t, s].tobytes() == values[t - 1, s].tobytes()


def test_a_feature_of_the_users_sees_the_symbols_own_bars() -> None:
    bars = ragged()
    seen: list[list[float]] = []

    def feature(given: Mapping[str, FloatArray], parameters: tuple[float, ...]) -> FloatArray:
        close = given["close"]
        seen.append(close.tolist())
        values = np.arange(len(close), dtype=np.float64)
        values[: int(parameters[0])] = np.nan
        return values

    columns = compute_features(bars, [("mine.count", 3)], {"mine.count": feature})
    expected = [bars.close[bars.own(s), s].tolist() for s in range(bars.n_symbols)]
    assert seen == [closes for closes in expected if len(closes) > 3]
    for s in range(bars.n_symbols):
        last = len(bars.own(s)) - 1
        assert columns.values[-1, s, 0] == last or last < 3


def test_a_feature_of_the_users_needs_more_bars_than_its_lookback() -> None:
    present = np.ones((20, 2), dtype=np.uint8)
    present[3:, 1] = 0

    def refuses(given: Mapping[str, FloatArray], lookback: int) -> FloatArray:
        close = given["close"]
        return np.array(np.lib.stride_tricks.sliding_window_view(close, lookback + 1).mean(axis=1))

    def padded(given: Mapping[str, FloatArray], parameters: tuple[float, ...]) -> FloatArray:
        lookback = int(parameters[0])
        return np.concatenate([np.full(lookback, np.nan), refuses(given, lookback)])

    bars = with_present(random_bars(20, ["A", "B"]), present)
    values = compute_features(bars, [("mine.mean", 5)], {"mine.mean": padded}).values
    assert np.isfinite(values[5:, 0]).all()
    assert np.isnan(values[:, 1]).all()


def pair_by_hand(bars: Bars, a: int, b: int, lookback: int, bar: int) -> float:
    """Correlation of the two symbols' returns over the bars up to ``bar`` that both have."""
    both = [t for t in range(bar + 1) if bars.present is None or bars.present[t, [a, b]].all()]
    both = both[-lookback - 1 :]
    if len(both) <= lookback:
        return 0.0
    first, second = (np.diff(np.log(bars.close[both, s])) for s in (a, b))
    if np.ptp(first) < 1e-12 or np.ptp(second) < 1e-12:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10_000),
    st.integers(2, 12),
    st.integers(1, 5),
    st.integers(0, 20),
    st.integers(2, 5),
)
def test_correlations_are_those_of_the_common_bars(
    seed: int, lookback: int, refresh: int, first: int, n_symbols: int
) -> None:
    bars = ragged(60, n_symbols, seed)
    matrices = compute_correlations(bars, lookback, refresh, first)
    for k, bar in enumerate(range(first, 60, refresh)):
        assert (np.diag(matrices[k]) == 1.0).all()
        for a in range(n_symbols):
            for b in range(a):
                expected = pair_by_hand(bars, a, b, lookback, bar)
                assert matrices[k, a, b] == pytest.approx(expected, abs=1e-10)
                assert matrices[k, a, b] == matrices[k, b, a]


@pytest.mark.parametrize("seed", range(6))
def test_a_pair_does_not_depend_on_other_symbols(seed: int) -> None:
    bars = ragged(120, 5, seed)
    every = compute_correlations(bars, 10, 3, 0)
    for a in range(5):
        for b in range(a):
            alone = compute_correlations(only(bars, [b, a]), 10, 3, 0)
            assert every[:, a, b].tobytes() == alone[:, 0, 1].tobytes()


def test_complete_bars_take_no_notice_of_the_mask() -> None:
    """A late third symbol makes no difference in the last bit to two that have every bar."""
    bars = random_bars(100, ["A", "B", "C"])
    present = np.ones((100, 3), dtype=np.uint8)
    present[:40, 2] = 0
    every = compute_correlations(with_present(bars, present), 15, 2, 15)
    assert every[:, 0, 1].tobytes() == compute_correlations(bars, 15, 2, 15)[:, 0, 1].tobytes()


@pytest.mark.parametrize("cut", [1, 17, 40, 79])
def test_nothing_reads_ahead(cut: int) -> None:
    bars = ragged(80, 5, 3)
    later = np.random.default_rng(9).integers(0, 2, bars.close.shape, dtype=np.uint8)
    assert bars.present is not None
    changed = with_present(
        random_bars(80, bars.symbols, 77), np.vstack([bars.present[:cut], later[cut:]])
    )
    mixed: dict[str, Any] = {
        name: np.vstack([getattr(bars, name)[:cut], getattr(changed, name)[cut:]])
        for name in ("open", "high", "low", "close", "volume")
    }
    assert changed.present is not None
    present = np.vstack([bars.present[:cut], changed.present[cut:]])
    other = replace(bars, **mixed, present=present)

    def outputs(given: Bars) -> list[npt.NDArray[np.float64]]:
        return [
            compute_features(given, KEYS).values[:cut],
            compute_correlations(given, 8, 1, 0)[:cut],
            market_returns(given)[:cut],
        ]

    for one, two, three in zip(outputs(bars), outputs(other), outputs(bars.head(cut)), strict=True):
        assert one.tobytes() == two.tobytes() == three.tobytes()


@pytest.mark.parametrize("seed", range(4))
def test_the_index_is_the_mean_over_the_symbols_with_a_bar(seed: int) -> None:
    bars = ragged(70, 5, seed)
    assert bars.present is not None
    returns = market_returns(bars)
    last: dict[int, float] = {}
    for t in range(bars.n_bars):
        moves = []
        for s in range(bars.n_symbols):
            if bars.present[t, s]:
                if s in last:
                    moves.append(bars.close[t, s] / last[s] - 1.0)
                last[s] = bars.close[t, s]
        expected = np.log1p(np.mean(moves)) if moves else 0.0
        assert returns[t] == pytest.approx(expected, abs=1e-14)


def test_the_regime_of_a_market_stays_where_it_has_no_bar() -> None:
    bars = ragged(400, 2, 5)
    present = np.ones((400, 2), dtype=np.uint8)
    present[:50, 1] = 0
    present[200:230:3, 1] = 0
    bars = with_present(random_bars(400, ["A", "B"]), present)
    own = bars.own(1)
    parameters = {"lookback": 10, "train_bars": 60, "refit_bars": 40}
    alone = fit_regimes(market_returns(only(bars, [1], own)), "hmm", parameters).codes
    assert set(alone.tolist()) > {0}
    found = fit_market(bars, "B", "hmm", parameters).codes
    assert found[own].tobytes() == alone.tobytes()
    assert (found[:50] == 0).all()
    for t in range(200, 230, 3):
        assert found[t] == found[t - 1]
    assert (market_returns(bars, "B")[present[:, 1] == 0] == 0.0).all()


def test_workers_find_the_kernels_of_such_a_market_compiled() -> None:
    compile_classifier("hmm", joint=True)
    compiled: Any = kernel.joint_market_returns
    before = len(compiled.signatures)
    market_returns(ragged())
    market_returns(ragged(), "S1")
    assert len(compiled.signatures) == before >= 1
