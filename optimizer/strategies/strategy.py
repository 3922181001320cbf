"""A strategy, built in or the user's: what every part of the program knows of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from optimizer.catalogue import Parameter, column
from optimizer.market.feature_keys import FeatureKey
from optimizer.types import FloatArray

_Value = TypeVar("_Value")

Rule = Callable[
    [Sequence[float], Sequence[float], float, float, float, float], tuple[float, float, float]
]
"""A signal kernel for one symbol at one bar.

It takes the features, ``Strategy.regime_values`` and ``Strategy.position_values``, the signal values, the
close, the volatility per bar and its inverse (0 where the volatility is 0), and the Sharpe ratio per bar
that a score of 1 stands for, which a user's strategy does not read. It returns direction, strength and
confidence.
"""

FeatureUse = tuple[str, *tuple[str | float, ...]]
"""A feature that a strategy reads: its name, then for each of its parameters the name of the strategy's
parameter that gives it, or its fixed value."""


@dataclass(frozen=True)
class Strategy(ABC):
    """A rule that turns the features of a symbol into a signal.

    Attributes:
        name: prefix of its columns.
        parameters: the parameters with defaults and bounds, in the order of the result columns.
        features: the features that it reads, in the order of its signal kernel.
    """

    name: str
    parameters: tuple[Parameter, ...]
    features: tuple[FeatureUse, ...]

    @property
    @abstractmethod
    def code(self) -> int:
        """Code of its signal kernel, see ``kernels.codes``."""

    @property
    @abstractmethod
    def simulation(self) -> str:
        """Names the compiled simulation that evaluates it; strategies of one name share blocks."""

    @property
    @abstractmethod
    def first_feature(self) -> np.uint64:
        """Offset in ``kernels.layout`` of the column of its first feature."""

    @abstractmethod
    def signal_values(self, own: Mapping[str, FloatArray]) -> tuple[FloatArray, ...]:
        """The values that its signal kernel takes.

        Args:
            own: its parameters by name, each of shape (n_lanes,); see ``own``.

        Returns:
            Arrays of shape (n_lanes,), in the order of the kernel's arguments.
        """

    @abstractmethod
    def simulate(self, *arguments: Any) -> None:
        """Walk bars with lanes of this strategy.

        Args:
            *arguments: arguments of ``kernels.simulation.simulate``, in its order.
        """

    @abstractmethod
    def rule(self) -> Rule:
        """The signal kernel for one symbol at one bar."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """What a study file must hold to name this strategy, as plain values."""

    @property
    def regime_values(self) -> tuple[str, ...]:
        """Names of the probabilities of the regime that its signal kernel takes after the features."""
        return ()

    @property
    def position_values(self) -> tuple[str, ...]:
        """Names of the values of the position that its signal kernel takes after those."""
        return ()

    @property
    def members(self) -> tuple[Strategy, ...]:
        """The strategies of which it is made: itself, where it is not combined of several."""
        return (self,)

    def column(self, parameter: str) -> str:
        """The name of a parameter in results and constraints.

        Args:
            parameter: the name of one of its parameters.
        """
        return column(self.name, parameter)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of its parameters in results and constraints."""
        return tuple(self.column(parameter.name) for parameter in self.parameters)

    def own(self, values: Mapping[str, _Value]) -> dict[str, _Value]:
        """The strategy's own parameters by name, picked from the values of all parameters by column.

        Args:
            values: numbers or arrays, by column name.
        """
        return {p.name: values[self.column(p.name)] for p in self.parameters}

    def feature_key(self, use: FeatureUse, own: Mapping[str, float]) -> FeatureKey:
        """The key of a feature that the strategy reads.

        Args:
            use: one of ``features``.
            own: values of its parameters by name, those of ``use`` at least.
        """
        kinds = {parameter.name: parameter.kind for parameter in self.parameters}
        feature, *arguments = use
        return feature, *(
            kinds[one](own[one]) if isinstance(one, str) else one for one in arguments
        )
