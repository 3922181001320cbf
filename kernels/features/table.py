"""Every feature by name: its inputs, its parameters, its warm-up and its kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from kernels.features import (
    averages,
    bands,
    channels,
    deviations,
    ranges,
    returns,
    strength,
    volumes,
)


class Feature(NamedTuple):
    """How to compute one feature.

    Attributes:
        inputs: the bar's values that it takes, in order: open, high, low, close, volume.
        least: the least value of each parameter, in the order in which the kernels take them. It is
            of the parameter's type: int for bars, float for anything else.
        warm_up: takes the parameters; the number of leading bars at which it is NaN.
        state_size: takes the parameters; the length of its state.
        step: takes the state, the inputs of one bar and the parameters.
        series: takes the inputs, each of shape (n_bars,), the parameters, the state, and the array
            that it writes.
    """

    inputs: tuple[str, ...]
    least: dict[str, int | float]
    warm_up: Callable[..., int]
    state_size: Callable[..., int]
    step: Callable[..., float]
    series: Callable[..., None]


def _within(lookback: int) -> int:
    """The warm-up where a window of bars suffices."""
    return lookback - 1


def _after(lookback: int) -> int:
    """The warm-up where each bar of the window needs the one before it."""
    return lookback


_CLOSE = ("close",)
_BAR = ("high", "low", "close")

FEATURES: dict[str, Feature] = {
    "adx": Feature(
        _BAR,
        {"lookback": 1},
        lambda lookback: 2 * lookback - 1,
        strength.adx_state_size,
        strength.adx_step,
        strength.adx,
    ),
    "atr": Feature(
        _BAR, {"lookback": 1}, _after, ranges.atr_state_size, ranges.atr_step, ranges.atr
    ),
    "autocorrelation": Feature(
        _CLOSE,
        {"lookback": 3},
        _after,
        returns.autocorrelation_state_size,
        returns.autocorrelation_step,
        returns.autocorrelation,
    ),
    "bollinger": Feature(
        _CLOSE,
        {"lookback": 2, "width": 0.0},
        lambda lookback, width: lookback - 1,
        bands.bollinger_state_size,
        bands.bollinger_step,
        bands.bollinger,
    ),
    "bollinger_lower": Feature(
        _CLOSE,
        {"lookback": 2, "width": 0.0},
        lambda lookback, width: lookback - 1,
        bands.bollinger_lower_state_size,
        bands.bollinger_lower_step,
        bands.bollinger_lower,
    ),
    "bollinger_upper": Feature(
        _CLOSE,
        {"lookback": 2, "width": 0.0},
        lambda lookback, width: lookback - 1,
        bands.bollinger_upper_state_size,
        bands.bollinger_upper_step,
        bands.bollinger_upper,
    ),
    "cci": Feature(
        _BAR,
        {"lookback": 2},
        _within,
        deviations.cci_state_size,
        deviations.cci_step,
        deviations.cci,
    ),
    "donchian": Feature(
        _BAR,
        {"lookback": 1},
        _within,
        channels.donchian_state_size,
        channels.donchian_step,
        channels.donchian,
    ),
    "donchian_high": Feature(
        ("high",),
        {"lookback": 1},
        _within,
        channels.donchian_high_state_size,
        channels.donchian_high_step,
        channels.donchian_high,
    ),
    "donchian_low": Feature(
        ("low",),
        {"lookback": 1},
        _within,
        channels.donchian_low_state_size,
        channels.donchian_low_step,
        channels.donchian_low,
    ),
    "ema": Feature(
        _CLOSE, {"lookback": 1}, _within, averages.ema_state_size, averages.ema_step, averages.ema
    ),
    "garman_klass": Feature(
        ("open", *_BAR),
        {"lookback": 1},
        _within,
        ranges.garman_klass_state_size,
        ranges.garman_klass_step,
        ranges.garman_klass,
    ),
    "keltner_lower": Feature(
        _BAR,
        {"lookback": 1, "atr_lookback": 1, "width": 0.0},
        lambda lookback, atr_lookback, width: max(lookback - 1, atr_lookback),
        bands.keltner_lower_state_size,
        bands.keltner_lower_step,
        bands.keltner_lower,
    ),
    "keltner_upper": Feature(
        _BAR,
        {"lookback": 1, "atr_lookback": 1, "width": 0.0},
        lambda lookback, atr_lookback, width: max(lookback - 1, atr_lookback),
        bands.keltner_upper_state_size,
        bands.keltner_upper_step,
        bands.keltner_upper,
    ),
    "macd": Feature(
        _CLOSE,
        {"fast": 1, "slow": 1},
        lambda fast, slow: max(fast, slow) - 1,
        averages.macd_state_size,
        averages.macd_step,
        averages.macd,
    ),
    "macd_histogram": Feature(
        _CLOSE,
        {"fast": 1, "slow": 1, "smooth": 1},
        lambda fast, slow, smooth: max(fast, slow) + smooth - 2,
        averages.macd_histogram_state_size,
        averages.macd_histogram_step,
        averages.macd_histogram,
    ),
    "macd_signal": Feature(
        _CLOSE,
        {"fast": 1, "slow": 1, "smooth": 1},
        lambda fast, slow, smooth: max(fast, slow) + smooth - 2,
        averages.macd_signal_state_size,
        averages.macd_signal_step,
        averages.macd_signal,
    ),
    "mfi": Feature(
        (*_BAR, "volume"),
        {"lookback": 1},
        _after,
        volumes.mfi_state_size,
        volumes.mfi_step,
        volumes.mfi,
    ),
    "minus_di": Feature(
        _BAR,
        {"lookback": 1},
        _after,
        strength.minus_di_state_size,
        strength.minus_di_step,
        strength.minus_di,
    ),
    "momentum": Feature(
        _CLOSE,
        {"lookback": 1},
        _after,
        returns.momentum_state_size,
        returns.momentum_step,
        returns.momentum,
    ),
    "obv": Feature(
        ("close", "volume"),
        {"lookback": 1},
        _after,
        volumes.obv_state_size,
        volumes.obv_step,
        volumes.obv,
    ),
    "parkinson": Feature(
        ("high", "low"),
        {"lookback": 1},
        _within,
        ranges.parkinson_state_size,
        ranges.parkinson_step,
        ranges.parkinson,
    ),
    "plus_di": Feature(
        _BAR,
        {"lookback": 1},
        _after,
        strength.plus_di_state_size,
        strength.plus_di_step,
        strength.plus_di,
    ),
    "rsi": Feature(
        _CLOSE, {"lookback": 1}, _after, strength.rsi_state_size, strength.rsi_step, strength.rsi
    ),
    "sma": Feature(
        _CLOSE, {"lookback": 1}, _within, averages.sma_state_size, averages.sma_step, averages.sma
    ),
    "stochastic_d": Feature(
        _BAR,
        {"lookback": 1, "slow_k": 1, "slow_d": 1},
        lambda lookback, slow_k, slow_d: lookback + slow_k + slow_d - 3,
        channels.stochastic_d_state_size,
        channels.stochastic_d_step,
        channels.stochastic_d,
    ),
    "stochastic_k": Feature(
        _BAR,
        {"lookback": 1, "slow_k": 1},
        lambda lookback, slow_k: lookback + slow_k - 2,
        channels.stochastic_k_state_size,
        channels.stochastic_k_step,
        channels.stochastic_k,
    ),
    "volatility": Feature(
        _CLOSE,
        {"lookback": 2},
        _after,
        returns.volatility_state_size,
        returns.volatility_step,
        returns.volatility,
    ),
    "vwap": Feature(
        (*_BAR, "volume"),
        {"lookback": 1},
        _within,
        volumes.vwap_state_size,
        volumes.vwap_step,
        volumes.vwap,
    ),
    "zscore": Feature(
        _CLOSE,
        {"lookback": 2},
        _within,
        deviations.zscore_state_size,
        deviations.zscore_step,
        deviations.zscore,
    ),
}
"""By name, sorted."""
