"""The array of feature columns, the warm-up, and the correlations at their schedule."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from optimizer.errors import BarsweepError
from optimizer.market.correlations import compute_correlations
from optimizer.market.feature_keys import BAR_FIELDS, FeatureKey, warm_up
from optimizer.market.feature_table import FEATURES
from optimizer.market.features import FeatureColumns, compute_features, new_state, step
from optimizer.types import Bars
from tests.reference import features as reference
from tests.support.causality import assert_causal
from tests.support.features import some_parameters

FloatArray = npt.NDArray[np.float64]


def make_bars(n_bars: int, n_symbols: int = 3, close: FloatArray | None = None) -> Bars:
    """Bars of random walks, or of the closes given, of shape (n_bars, n_symbols)."""
    random = np.random.default_rng(0)
    if close is None:
        close = 100.0 * np.exp(np.cumsum(random.normal(0.0, 0.01, (n_bars, n_symbols)), axis=0))
    spread = random.uniform(0.0, 0.01, close.shape)
    return Bars(
        symbols=tuple(f"S{one}" for one in range(close.shape[1])),
        timestamps=np.arange(len(close)).astype("datetime64[D]").astype("datetime64[ns]"),
        open=close.copy(),
        high=close * (1.0 + spread),
        low=close * (1.0 - spread),
        close=close,
        volume=np.ones(close.shape),
        bars_per_year=252.0,
    )


KEYS: list[FeatureKey] = [
    ("volatility", 20),
    ("close",),
    ("momentum", 60),
    ("momentum", 5),
    ("atr", 14),
    ("rsi", 14),
    ("sma", 10),
    ("ema", 12),
    ("momentum", 60),
]


def key_of(name: str, lookback: int = 5) -> FeatureKey:
    """A key of a feature, of which further numbers of bars are smaller by one each."""
    return (name, *some_parameters(name, lookback))


def test_columns_are_sorted_unique_contiguous_and_read_only() -> None:
    columns = compute_features(make_bars(100), KEYS)
    assert columns.keys == tuple(sorted(set(KEYS)))
    assert columns.values.shape == (100, 3, 8)
    assert columns.values.dtype == np.float64
    assert columns.values.flags.c_contiguous
    assert not columns.values.flags.writeable
    assert [columns.index(key) for key in columns.keys] == list(range(8))


@pytest.mark.parametrize("n_symbols", [1, 3])
def test_each_column_equals_its_reference(n_symbols: int) -> None:
    bars = make_bars(100, n_symbols)
    columns = compute_features(bars, KEYS)
    for key in KEYS:
        name, *parameters = key
        for symbol in range(n_symbols):
            close = bars.close[:, symbol]
            if name == "close":
                expected = list(close)
            elif name == "atr":
                expected = reference.atr(
                    list(bars.high[:, symbol]),
                    list(bars.low[:, symbol]),
                    list(close),
                    int(*parameters),
                )
            else:
                expected = getattr(reference, name)(list(close), *parameters)
            actual = columns.values[:, symbol, columns.index(key)]
            np.testing.assert_allclose(actual, expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("key", [("close",), *map(key_of, FEATURES)], ids=str)
def test_one_bar_at_a_time_gives_the_same_bits(key: FeatureKey) -> None:
    bars = make_bars(90)
    column = compute_features(bars, [key])
    for symbol in range(bars.n_symbols):
        state = new_state(key)
        stepped = [
            step(key, state, {name: float(getattr(bars, name)[bar, symbol]) for name in BAR_FIELDS})
            for bar in range(bars.n_bars)
        ]
        expected = column.values[:, symbol, column.index(key)]
        assert np.array(stepped).tobytes() == expected.tobytes()


@pytest.mark.parametrize("lookback", [1, 2, 3, 20])
@pytest.mark.parametrize("name", FEATURES)
def test_warm_up_counts_the_undefined_bars(name: str, lookback: int) -> None:
    key = key_of(name, lookback)
    columns = compute_features(make_bars(60), [key])
    undefined = np.isnan(columns.values[:, :, 0])
    count = warm_up(key)
    assert undefined[:count].all()
    assert not undefined[count:].any()
    assert columns.warm_up == count


def test_warm_up_of_the_columns_is_the_longest() -> None:
    columns = compute_features(make_bars(100), [("sma", 61), ("momentum", 30), ("close",)])
    assert columns.warm_up == 60
    for bar, values in enumerate(columns.values):
        assert np.isfinite(values).all() == (bar >= 60)


def test_warm_up_of_the_correlation() -> None:
    off_diagonal = compute_correlations(make_bars(40), 11, 1, 0)[:, 0, 1]
    assert len(off_diagonal) == 40
    assert warm_up(("correlation", 11)) == 11
    assert (off_diagonal[:11] == 0.0).all()
    assert (off_diagonal[11:] != 0.0).all()


@pytest.mark.parametrize("n_bars", [0, 1, 9])
def test_fewer_bars_than_the_lookback_are_all_undefined(n_bars: int) -> None:
    keys = [key_of(name, 10) for name in FEATURES]
    columns = compute_features(make_bars(n_bars), keys)
    assert columns.values.shape == (n_bars, 3, len(FEATURES))
    assert np.isnan(columns.values).all()
    # A stochastic %D of 10, 9 and 8 bars.
    assert columns.warm_up == 24


def test_no_keys_give_no_columns() -> None:
    columns = compute_features(make_bars(5), [])
    assert columns.values.shape == (5, 3, 0)
    assert columns.warm_up == 0


def test_lookbacks_of_numpy_are_taken() -> None:
    columns = compute_features(make_bars(5), [("sma", np.int64(2))])  # type: ignore[list-item]
    assert columns.keys == (("sma", 2),)
    assert type(columns.keys[0][-1]) is int


def test_never_reads_ahead() -> None:
    bars = make_bars(80)

    def values(high: FloatArray, low: FloatArray, close: FloatArray) -> FloatArray:
        given = Bars(
            bars.symbols, bars.timestamps[: len(close)].copy(), close.copy(), high, low, close,
            close.copy(), 252.0,
        )  # fmt: skip
        return compute_features(given, KEYS).values

    assert_causal(values, [bars.high, bars.low, bars.close], (0, 1, 30, 61, 79, 80))


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (
            ("momentun", 5),
            r"unknown feature 'momentun': known are adx, atr, autocorrelation, bollinger",
        ),
        (("correlation", 5), r"unknown feature 'correlation'"),
        (("sma", 0), r"'sma': lookback must be a whole number from 1 to 100000 bars, got 0"),
        (("sma", -3), r"got -3"),
        (("sma", 100_001), r"got 100001"),
        (("sma", 2.5), r"got 2\.5"),
        (("sma", True), r"got True"),
        (("sma", None), r"got None"),
        (("volatility", 1), r"from 2 to 100000 bars, got 1"),
        (("close", 2), r"'close' takes no parameter; got \(2,\)"),
        (("sma", 2, 3), r"'sma' takes lookback; got \(2, 3\)"),
        ("sma", r"a feature key is \(name, parameters\.\.\.\), got 'sma'"),
        (5, r"a feature key is \(name, parameters\.\.\.\), got 5"),
        ((5, 5), r"unknown feature 5"),
    ],
)
def test_bad_keys_are_refused(key: FeatureKey, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        compute_features(make_bars(5), [("close",), key])
    assert isinstance(caught.value, BarsweepError)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=message):
        new_state(key)


def test_a_bad_warm_up_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown feature 'none'"):
        warm_up(("none", 3))
    with pytest.raises(ValueError, match="got 1"):
        warm_up(("correlation", 1))


def test_a_column_that_was_not_computed_is_named() -> None:
    columns = compute_features(make_bars(5), [("sma", 2), ("sma", 4)])
    for absent in (("sma", 3), ("volatility", 9), ("ema", 2)):
        with pytest.raises(ValueError, match=f"'{absent[0]}', {absent[1]}.*was not computed"):
            columns.index(absent)


def test_columns_of_another_shape_or_order_are_refused() -> None:
    with pytest.raises(ValueError, match="sorted and unique"):
        FeatureColumns((("sma", 4), ("sma", 2)), np.zeros((1, 1, 2)))
    with pytest.raises(ValueError, match="sorted and unique"):
        FeatureColumns((("sma", 2), ("sma", 2)), np.zeros((1, 1, 2)))
    with pytest.raises(ValueError, match=r"must be \(n_bars, n_symbols, 1\), got \(1, 2\)"):
        FeatureColumns((("sma", 2),), np.zeros((1, 2)))


def test_correlations_stand_at_their_schedule() -> None:
    bars = make_bars(100, 4)
    every_bar = compute_correlations(bars, 20, 1, 0)
    assert every_bar.shape == (100, 4, 4)
    expected = pd.DataFrame(np.log(bars.close)).diff().rolling(20).corr().to_numpy()
    np.testing.assert_allclose(every_bar[20:], expected.reshape(100, 4, 4)[20:], atol=1e-11)
    for first_bar, refresh in ((0, 7), (20, 1), (33, 20), (99, 5), (100, 5), (250, 1)):
        some = compute_correlations(bars, 20, refresh, first_bar)
        assert some.tobytes() == every_bar[first_bar::refresh].tobytes()


def test_undefined_correlations_are_0() -> None:
    moving = make_bars(50, 2).close
    bars = make_bars(50, close=np.column_stack([moving, np.full(50, 12.5)]))
    matrices = compute_correlations(bars, 10, 1, 0)
    assert (matrices[:10] == np.eye(3)).all()
    assert (matrices[10:, 2] == [0.0, 0.0, 1.0]).all()
    assert (matrices[10:, :, 2] == [0.0, 0.0, 1.0]).all()
    assert (matrices[10:, 0, 1] != 0.0).all()


@pytest.mark.parametrize(
    ("lookback", "refresh", "first_bar", "message"),
    [(1, 1, 0, "got 1"), (5, 0, 0, "refresh must be 1"), (5, 1, -1, "first_bar must be 0")],
)
def test_bad_schedules_are_refused(
    lookback: int, refresh: int, first_bar: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        compute_correlations(make_bars(5), lookback, refresh, first_bar)
