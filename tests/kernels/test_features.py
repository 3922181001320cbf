"""What holds for every feature: its reference, cuts, causality, warm-up, still prices."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.features.returns import log_return
from kernels.features.table import FEATURES
from tests.reference import features as reference
from tests.support.causality import assert_causal
from tests.support.features import (
    REMEMBERS,
    Fields,
    FloatArray,
    bars_of,
    by_reference,
    compute,
    far_walk,
    fresh,
    inputs_of,
    parameters_of,
    part,
    some_parameters,
    still,
    walk,
)

IN_PRICE_UNITS = {
    *("atr", "bollinger_lower", "bollinger_upper", "donchian_high", "donchian_low", "ema"),
    *("keltner_lower", "keltner_upper", "macd", "macd_histogram", "macd_signal", "sma", "vwap"),
}
every_feature = pytest.mark.parametrize("name", FEATURES)


@every_feature
def test_an_entry_of_the_table_fits_its_kernels(name: str) -> None:
    feature = FEATURES[name]
    parameters = list(feature.least)
    inputs = ["open_" if one == "open" else one for one in feature.inputs]
    assert [one for one in ("open", "high", "low", "close", "volume") if one in feature.inputs] == [
        *feature.inputs
    ]
    for kernel, called, arguments in (
        (feature.state_size, f"{name}_state_size", parameters),
        (feature.step, f"{name}_step", ["state", *inputs, *parameters]),
        (feature.series, name, [*inputs, *parameters, "state", "out"]),
    ):
        assert kernel.__name__ == called
        assert list(inspect.signature(kernel).parameters) == arguments
    assert list(inspect.signature(feature.warm_up).parameters) == parameters
    assert list(FEATURES) == sorted(FEATURES)


@every_feature
@settings(max_examples=60)
@given(data=st.data(), bars=bars_of())
def test_equals_the_reference(name: str, data: st.DataObject, bars: Fields) -> None:
    parameters = data.draw(parameters_of(name))
    expected = by_reference(name, bars, parameters)
    scale = bars["high"].max(initial=0.0) if name in IN_PRICE_UNITS else 100.0
    np.testing.assert_allclose(
        compute(name, bars, parameters), expected, rtol=1e-11, atol=1e-13 * scale
    )


@every_feature
@settings(max_examples=40)
@given(data=st.data(), bars=bars_of())
def test_cut_anywhere_and_carry_the_state(name: str, data: st.DataObject, bars: Fields) -> None:
    parameters = data.draw(parameters_of(name))
    n_bars = len(bars["close"])
    whole_state = fresh(name, parameters)
    whole = compute(name, bars, parameters, whole_state)
    cuts = sorted(data.draw(st.lists(st.integers(0, n_bars), max_size=4)))
    state = fresh(name, parameters)
    pieces = [
        compute(name, part(bars, start, stop), parameters, state)
        for start, stop in zip([0, *cuts], [*cuts, n_bars], strict=True)
    ]
    assert np.concatenate(pieces).tobytes() == whole.tobytes()
    assert state.tobytes() == whole_state.tobytes()


@every_feature
@settings(max_examples=40)
@given(data=st.data(), bars=bars_of())
def test_one_bar_at_a_time_equals_the_array(name: str, data: st.DataObject, bars: Fields) -> None:
    parameters = data.draw(parameters_of(name))
    state = fresh(name, parameters)
    one_by_one = np.array(
        [
            FEATURES[name].step(state, *values, *parameters)
            for values in zip(*inputs_of(name, bars), strict=True)
        ]
    )
    assert one_by_one.tobytes() == compute(name, bars, parameters).tobytes()


@every_feature
@settings(max_examples=30)
@given(data=st.data(), bars=bars_of(least=1))
def test_never_reads_ahead(name: str, data: st.DataObject, bars: Fields) -> None:
    parameters = data.draw(parameters_of(name))
    cuts = data.draw(st.lists(st.integers(0, len(bars["close"])), max_size=3))

    def values(*given: FloatArray) -> FloatArray:
        return compute(name, dict(zip(bars, given, strict=True)), parameters)

    assert_causal(values, list(bars.values()), cuts)


@every_feature
def test_a_feature_that_reads_one_bar_ahead_is_caught(name: str) -> None:
    bars, cuts, parameters = walk(60, seed=1), range(20, 60, 3), some_parameters(name)

    def values(*given: FloatArray) -> FloatArray:
        return compute(name, dict(zip(bars, given, strict=True)), parameters)

    def one_ahead(*given: FloatArray) -> FloatArray:
        out = values(*given)
        return np.append(out[1:], out[-1:])

    assert_causal(values, list(bars.values()), cuts)
    with pytest.raises(AssertionError, match=r"first \d+ bars"):
        assert_causal(one_ahead, list(bars.values()), cuts)


def test_a_feature_that_looks_ahead_only_while_bars_follow_is_caught() -> None:
    # Truncating the bars alone would miss this one, because it uses the present bar at the end.
    def peek(close: FloatArray) -> FloatArray:
        ahead = np.minimum(np.arange(len(close)) + 1, len(close) - 1)
        return close[ahead] / close - 1.0

    def scaled_by_all(close: FloatArray) -> FloatArray:
        return close / close.max() if len(close) else close

    close = walk(30, seed=2)["close"]
    for broken in (peek, scaled_by_all):
        with pytest.raises(AssertionError, match="bars changes when"):
            assert_causal(broken, [close], [15])


@every_feature
@pytest.mark.parametrize("lookback", [1, 2, 3, 20])
def test_warm_up_is_nan_and_nothing_else_is(name: str, lookback: int) -> None:
    parameters = some_parameters(name, lookback)
    first = FEATURES[name].warm_up(*parameters)
    for n_bars in (0, 1, first, first + 1, 80):
        for bars in (walk(80, seed=8), still(3.3, 80)):
            out = compute(name, part(bars, 0, n_bars), parameters)
            assert np.isnan(out[:first]).all()
            assert np.isfinite(out[first:]).all()


@pytest.mark.parametrize("name", sorted(FEATURES.keys() - REMEMBERS))
@settings(max_examples=30)
@given(data=st.data(), where=st.integers(0, 40), seed=st.integers(0, 1000))
def test_what_left_the_window_leaves_no_trace(
    name: str, data: st.DataObject, where: int, seed: int
) -> None:
    parameters = data.draw(parameters_of(name, 15))
    bars = walk(100, seed)
    leap = {field: values.copy() for field, values in bars.items()}
    for values in leap.values():
        values[where] *= 1e13
    gone = where + FEATURES[name].warm_up(*parameters) + 1
    plain = compute(name, bars, parameters)[gone:].tobytes()
    assert compute(name, leap, parameters)[gone:].tobytes() == plain


# The quotient of two prices at 1e9 is right to 1e-16 of itself, and momentum is what it is above 1.
@pytest.mark.parametrize("name", [one for one in FEATURES if one != "momentum"])
@pytest.mark.parametrize("lookback", [3, 20, 61])
def test_is_exact_at_a_large_price_offset(name: str, lookback: int) -> None:
    # Moves of 1 at a price of 1e9: a mean or a quotient of prices alone would be right to 1e-7.
    bars, parameters = far_walk(200, seed=5), some_parameters(name, lookback)
    expected = by_reference(name, bars, parameters)
    np.testing.assert_allclose(compute(name, bars, parameters), expected, rtol=1e-9)


STILL = {
    **dict.fromkeys(("bollinger", "donchian"), 0.5),
    **dict.fromkeys(("mfi", "rsi", "stochastic_d", "stochastic_k"), 50.0),
    **dict.fromkeys(("adx", "atr", "autocorrelation", "cci", "garman_klass", "macd"), 0.0),
    **dict.fromkeys(("macd_histogram", "macd_signal", "minus_di", "momentum", "obv"), 0.0),
    **dict.fromkeys(("parkinson", "plus_di", "volatility", "zscore"), 0.0),
}
"""What a price that never moves gives; the others give the price."""


@every_feature
@pytest.mark.parametrize("price", [0.1, 1.0, 3.3e-7, 123456.789, 1e9 + 0.1])
@pytest.mark.parametrize("lookback", [1, 2, 7, 50])
def test_still_prices(name: str, price: float, lookback: int) -> None:
    parameters = some_parameters(name, lookback)
    out = compute(name, still(price, 200), parameters)
    assert (out[FEATURES[name].warm_up(*parameters) :] == STILL.get(name, price)).all()


@settings(max_examples=200)
@given(previous=st.floats(1e-9, 1e9), close=st.floats(1e-9, 1e9))
def test_log_return_is_right_to_the_last_digits(previous: float, close: float) -> None:
    exact = float(reference.precise_returns([previous, close])[0])
    assert log_return(previous, close) == pytest.approx(exact, rel=1e-15, abs=0)
    near = previous * (1.0 + 3e-16)
    exact = float(reference.precise_returns([previous, near])[0])
    assert log_return(previous, near) == pytest.approx(exact, rel=1e-15, abs=0)
