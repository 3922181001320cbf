"""The built-in features: parameters, inputs and kernels of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kernels.features import (
    atr,
    atr_state_size,
    atr_step,
    ema,
    ema_state_size,
    ema_step,
    momentum,
    momentum_state_size,
    momentum_step,
    rsi,
    rsi_state_size,
    rsi_step,
    sma,
    sma_state_size,
    sma_step,
    volatility,
    volatility_state_size,
    volatility_step,
)

MAX_LOOKBACK = 100_000
"""Longest lookback, in bars; the catalogue's bound."""


@dataclass(frozen=True)
class FeatureParameter:
    """One parameter of a feature.

    Attributes:
        name: the name that messages give to it.
        least: least value.
        whole: whether it is a number of bars, else any number.
    """

    name: str
    least: float
    whole: bool = True


@dataclass(frozen=True)
class Feature:
    """How to compute one feature.

    Attributes:
        parameters: its parameters in the order of its key.
        warm_up: the number of leading bars at which it is NaN, from the values of its parameters.
        inputs: the bar's values that it takes, in order.
        state_size, step, series: its kernels.
    """

    parameters: tuple[FeatureParameter, ...]
    warm_up: Callable[..., int]
    inputs: tuple[str, ...]
    state_size: Callable[..., int]
    step: Callable[..., float]
    series: Callable[..., None]


def _lookback(least: int = 1) -> tuple[FeatureParameter]:
    return (FeatureParameter("lookback", least),)


def _all(lookback: int) -> int:
    return lookback


def _before_last(lookback: int) -> int:
    return lookback - 1


_CLOSE = ("close",)
_BAR = ("high", "low", "close")
FEATURES: dict[str, Feature] = {
    "atr": Feature(_lookback(), _all, _BAR, atr_state_size, atr_step, atr),
    "ema": Feature(_lookback(), _before_last, _CLOSE, ema_state_size, ema_step, ema),
    "momentum": Feature(_lookback(), _all, _CLOSE, momentum_state_size, momentum_step, momentum),
    "rsi": Feature(_lookback(), _all, _CLOSE, rsi_state_size, rsi_step, rsi),
    "sma": Feature(_lookback(), _before_last, _CLOSE, sma_state_size, sma_step, sma),
    "volatility": Feature(
        _lookback(2), _all, _CLOSE, volatility_state_size, volatility_step, volatility
    ),
}
"""Every built-in feature but the close, by its name."""
