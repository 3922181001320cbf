"""What a user's file writes in FEATURES for a feature of other bars, or of other symbols too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from optimizer.market.feature_keys import PANEL, FeatureName

Feature = str | Callable[..., Any]
"""The name of a built-in feature, or a function of the file."""

Chosen = tuple["ChosenFeature", *tuple[str | float, ...]]
"""An entry of FEATURES: the feature, then its parameters, each a name of PARAMETERS or a number."""


@dataclass(frozen=True)
class ChosenFeature:
    """A feature, the bars on which it is computed, and what is done with it.

    Attributes:
        feature: a name, or a function of the file.
        timeframe: such as ``1d``; None for the bars of the study.
        across: one of ``feature_keys.ACROSS``, or ``PANEL``; None for a feature of one symbol.
    """

    feature: Feature
    timeframe: str | None = None
    across: str | None = None

    def name(self, strategy: str) -> str:
        """The name in the keys of the feature.

        Args:
            strategy: the name of the strategy, which precedes a function of its file.
        """
        feature = self.feature
        if not isinstance(feature, str):
            feature = f"{strategy}.{getattr(feature, '__name__', feature)}"
        if self.timeframe is None and self.across is None:
            return feature
        return str(FeatureName(feature, self.timeframe, self.across))


def feature(feature: Feature, *parameters: str | float, timeframe: str | None = None) -> Chosen:
    """A feature of one symbol, on the bars of the study or on longer ones.

    >>> from optimizer import feature
    >>> FEATURES = {"trend": feature("sma", "lookback", timeframe="1d")}

    Args:
        feature: the name of a built-in feature, or a function of the file.
        *parameters: its parameters in order, each a name of PARAMETERS or a number; lookbacks count
            longer bars.
        timeframe: the longer bars: a duration below a day such as ``"4h"``, or ``"1d"``, ``"1w"``. A
            value is seen once its bar has closed.
    """
    return ChosenFeature(feature, timeframe), *parameters


def rank(feature: Feature, *parameters: str | float, timeframe: str | None = None) -> Chosen:
    """The rank of a feature among the symbols: 0 for the lowest, 1 for the highest.

    >>> from optimizer import rank
    >>> FEATURES = {"place": rank("momentum", "lookback")}

    Args:
        feature, *parameters, timeframe: those of ``feature``.
    """
    return ChosenFeature(feature, timeframe, "rank"), *parameters


def zscore_across(
    feature: Feature, *parameters: str | float, timeframe: str | None = None
) -> Chosen:
    """How many standard deviations a feature is above the mean of the symbols.

    >>> from optimizer import zscore_across
    >>> FEATURES = {"score": zscore_across("momentum", "lookback")}

    Args:
        feature, *parameters, timeframe: those of ``feature``.
    """
    return ChosenFeature(feature, timeframe, "zscore_across"), *parameters


def top(
    feature: Feature, *parameters: str | float, n: str | int, timeframe: str | None = None
) -> Chosen:
    """Whether a symbol is among the n with the highest values of a feature, 1 or 0.

    >>> from optimizer import top
    >>> FEATURES = {"best": top("momentum", "lookback", n=3)}

    Args:
        feature, *parameters, timeframe: those of ``feature``.
        n: number of symbols, or the parameter that gives it.
    """
    every: tuple[str | float, ...] = *parameters, n
    return ChosenFeature(feature, timeframe, "top"), *every


def panel(function: Callable[..., Any], *parameters: str | float) -> Chosen:
    """A function of the file that takes the bars of all symbols at once.

    >>> import numpy as np
    >>> from optimizer import panel
    >>> def breadth(open, close):
    ...     rises = np.nanmean(close > open, axis=1)
    ...     return np.repeat(rises[:, np.newaxis], close.shape[1], axis=1)
    >>> FEATURES = {"breadth": panel(breadth)}

    Args:
        function: takes any of ``open``, ``high``, ``low``, ``close``, ``volume``, ``tradable``, each
            (n_bars, n_symbols), ``timestamps`` and ``symbols``; its other arguments are its parameters.
            Returns (n_bars, n_symbols).
        *parameters: its parameters in order, each a name of PARAMETERS or a number.
    """
    return ChosenFeature(function, None, PANEL), *parameters
