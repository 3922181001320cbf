"""The built-in strategies: the rule and the columns that each takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from kernels.codes import AVERAGE_CROSS, BREAKOUT, CUSTOM, MEAN_REVERSION, MOMENTUM
from optimizer.strategies.user_file import CustomStrategy
from optimizer.types import FloatArray

Columns = Mapping[str, FloatArray]
"""Parameters of lanes by their name in the catalogue, each of shape (n_lanes,)."""


@dataclass(frozen=True)
class StrategyKernel:
    """How a strategy maps onto a signal kernel.

    Attributes:
        code: of the signal kernel.
        features: those that it takes, with the parameter that is their lookback.
        signal: the signal parameters of each lane, from its strategy parameters.
    """

    code: int
    features: tuple[tuple[str, str], ...]
    signal: Callable[[Columns], tuple[FloatArray, ...]]


def _scaled_by(lookback: str, threshold: str) -> Callable[[Columns], tuple[FloatArray, ...]]:
    return lambda columns: (columns[threshold], 1.0 / np.sqrt(columns[lookback]))


STRATEGY_KERNELS: dict[str, StrategyKernel] = {
    "momentum": StrategyKernel(
        MOMENTUM, (("momentum", "lookback"),), _scaled_by("lookback", "threshold")
    ),
    "mean_reversion": StrategyKernel(
        MEAN_REVERSION, (("rsi", "lookback"),), lambda c: (c["oversold"], c["overbought"])
    ),
    "sma_cross": StrategyKernel(
        AVERAGE_CROSS, (("sma", "fast"), ("sma", "slow")), _scaled_by("slow", "band")
    ),
    "ema_cross": StrategyKernel(
        AVERAGE_CROSS, (("ema", "fast"), ("ema", "slow")), _scaled_by("slow", "band")
    ),
    "breakout": StrategyKernel(
        BREAKOUT,
        (("sma", "lookback"), ("atr", "atr_lookback")),
        _scaled_by("lookback", "width"),
    ),
}


def strategy_kernel(name: str, custom: CustomStrategy | None = None) -> StrategyKernel:
    """How a built-in strategy, or a user's where one is given, maps onto its kernel."""
    if custom is None:
        return STRATEGY_KERNELS[name]
    names = custom.signal_parameters
    return StrategyKernel(
        CUSTOM,
        tuple((feature, lookback) for _, feature, lookback in custom.features),
        lambda columns: tuple(columns[name] for name in names),
    )
