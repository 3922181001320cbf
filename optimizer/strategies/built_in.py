"""The built-in strategies: parameters, features and signal kernel of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kernels import codes, layout
from kernels.signals import (
    average_cross_signal,
    breakout_signal,
    mean_reversion_signal,
    momentum_signal,
    rotation_signal,
)
from kernels.simulation import simulate
from optimizer.catalogue import Parameter, lookback_parameter
from optimizer.strategies.strategy import Rule, Strategy
from optimizer.types import FloatArray

_Values = Callable[[Mapping[str, FloatArray]], tuple[FloatArray, ...]]


@dataclass(frozen=True)
class BuiltInStrategy(Strategy):
    """A strategy whose signal is one of our kernels.

    Attributes:
        kernel: code of the signal kernel.
        scalar: the signal kernel for one symbol at one bar.
        values: the signal values of each lane, from the strategy's parameters by name.
    """

    kernel: int
    scalar: Rule
    values: _Values

    @property
    def code(self) -> int:
        """Code of its signal kernel."""
        return self.kernel

    @property
    def simulation(self) -> str:
        """Empty: all built-in strategies share one compiled simulation."""
        return ""

    @property
    def first_feature(self) -> np.uint64:
        """Offset of the column of its first feature."""
        return layout.FEATURE_0

    def signal_values(self, own: Mapping[str, FloatArray]) -> tuple[FloatArray, ...]:
        """The values that its signal kernel takes, see ``Strategy.signal_values``.

        Args:
            own: its parameters by name, each of shape (n_lanes,).

        Returns:
            Arrays of shape (n_lanes,), in the order of the kernel's arguments.
        """
        return self.values(own)

    def simulate(self, *arguments: Any) -> None:
        """Walk bars with lanes of built-in strategies.

        Args:
            *arguments: arguments of ``kernels.simulation.simulate``, in its order.
        """
        simulate(*arguments)

    def rule(self) -> Rule:
        """The signal kernel for one symbol at one bar."""
        return self.scalar

    def to_dict(self) -> dict[str, Any]:
        """The name of the strategy, which is all that a study file needs."""
        return {"name": self.name}

    def __reduce__(self) -> tuple[Callable[[str], BuiltInStrategy], tuple[str]]:
        """Pickle the name alone: another process has the same strategy."""
        return built_in, (self.name,)


def built_in(name: str) -> BuiltInStrategy:
    """The built-in strategy of a name.

    Args:
        name: the name of the strategy.

    Raises:
        KeyError: no built-in strategy has it.
    """
    return BUILT_IN[name]


def _momentum(
    x: Sequence[float],
    p: Sequence[float],
    close: float,
    volatility: float,
    inverse: float,
    sharpe: float,
) -> tuple[float, float, float]:
    return momentum_signal(x[0], volatility, inverse, p[0], p[1], sharpe)


def _mean_reversion(
    x: Sequence[float],
    p: Sequence[float],
    close: float,
    volatility: float,
    inverse: float,
    sharpe: float,
) -> tuple[float, float, float]:
    return mean_reversion_signal(x[0], volatility, p[0], p[1], sharpe)


def _average_cross(
    x: Sequence[float],
    p: Sequence[float],
    close: float,
    volatility: float,
    inverse: float,
    sharpe: float,
) -> tuple[float, float, float]:
    return average_cross_signal(x[0], x[1], 1.0 / close, volatility, inverse, p[0], p[1], sharpe)


def _breakout(
    x: Sequence[float],
    p: Sequence[float],
    close: float,
    volatility: float,
    inverse: float,
    sharpe: float,
) -> tuple[float, float, float]:
    return breakout_signal(x[0], x[1], close, 1.0 / close, volatility, inverse, p[0], p[1], sharpe)


def _rotation(
    x: Sequence[float],
    p: Sequence[float],
    close: float,
    volatility: float,
    inverse: float,
    sharpe: float,
) -> tuple[float, float, float]:
    return rotation_signal(x[0], x[1], volatility, sharpe)


def _scaled_by(lookback: str, threshold: str) -> _Values:
    """A threshold, and what scales a return over ``lookback`` bars to one bar."""
    return lambda own: (own[threshold], 1.0 / np.sqrt(own[lookback]))


def _cross(name: str, average: str, fast: int, slow: int) -> BuiltInStrategy:
    return BuiltInStrategy(
        name=name,
        parameters=(
            lookback_parameter("fast", fast, "bars of the fast average"),
            lookback_parameter("slow", slow, "bars of the slow average"),
            Parameter(
                "band", float, 0.0, 0.0, 1.0, "signal", "dead band around the cross, a fraction"
            ),
        ),
        features=((average, "fast"), (average, "slow")),
        kernel=codes.AVERAGE_CROSS,
        scalar=_average_cross,
        values=_scaled_by("slow", "band"),
    )


def _rotation_at(name: str, lookback: int, first: str) -> BuiltInStrategy:
    return BuiltInStrategy(
        name=name,
        parameters=(
            lookback_parameter("lookback", lookback, "bars of the return"),
            Parameter("n", int, 3, 1, 100_000, "feature", "symbols that are held"),
        ),
        features=(("top(momentum)", "lookback", "n"), (first,)),
        kernel=codes.ROTATION,
        scalar=_rotation,
        values=lambda own: (),
    )


_STRATEGIES = (
    BuiltInStrategy(
        name="momentum",
        parameters=(
            lookback_parameter("lookback", 60, "bars of the return"),
            Parameter("threshold", float, 0.0, 0.0, 100.0, "signal", "return to enter, a fraction"),
        ),
        features=(("momentum", "lookback"),),
        kernel=codes.MOMENTUM,
        scalar=_momentum,
        values=_scaled_by("lookback", "threshold"),
    ),
    BuiltInStrategy(
        name="mean_reversion",
        parameters=(
            lookback_parameter("lookback", 14, "bars of the RSI"),
            Parameter("oversold", float, 30.0, 0.0, 100.0, "signal", "RSI below which it buys"),
            Parameter("overbought", float, 70.0, 0.0, 100.0, "signal", "RSI above which it sells"),
        ),
        features=(("rsi", "lookback"),),
        kernel=codes.MEAN_REVERSION,
        scalar=_mean_reversion,
        values=lambda own: (own["oversold"], own["overbought"]),
    ),
    _cross("sma_cross", "sma", 20, 100),
    _cross("ema_cross", "ema", 12, 26),
    BuiltInStrategy(
        name="breakout",
        parameters=(
            lookback_parameter("lookback", 20, "bars of the channel's middle, a simple average"),
            lookback_parameter("atr_lookback", 14, "bars of the average true range"),
            Parameter(
                "width", float, 2.0, 0.0, 100.0, "signal", "half width of the channel, in ATR"
            ),
        ),
        features=(("sma", "lookback"), ("atr", "atr_lookback")),
        kernel=codes.BREAKOUT,
        scalar=_breakout,
        values=_scaled_by("lookback", "width"),
    ),
    _rotation_at("monthly_rotation", 126, "first_bar_of_month"),
    _rotation_at("weekly_rotation", 60, "first_bar_of_week"),
    # The close is above 0 at every bar.
    _rotation_at("rotation", 60, "close"),
)

BUILT_IN: dict[str, BuiltInStrategy] = {strategy.name: strategy for strategy in _STRATEGIES}
"""Every built-in strategy by its name, in the order of messages and documentation."""
