"""The built-in features: parameters, inputs and kernels of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kernels.features import table

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


FEATURES: dict[str, Feature] = {
    name: Feature(
        tuple(
            FeatureParameter(parameter, least, isinstance(least, int))
            for parameter, least in one.least.items()
        ),
        one.warm_up,
        one.inputs,
        one.state_size,
        one.step,
        one.series,
    )
    for name, one in table.FEATURES.items()
}
"""Every built-in feature but the close, by its name."""
