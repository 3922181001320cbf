"""What all regime models have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt

from optimizer.catalogue import Parameter
from optimizer.types import FloatArray, IntArray

CodeArray = npt.NDArray[np.int8]

N_REGIMES = 3
"""Bear, neutral and bull."""


class RegimeModel(Protocol):
    """A fitted model that can be pickled; it is in force from its bar until the next model's."""

    @property
    def bar(self) -> int:
        """Bar at whose close it was fitted, and the first that it classifies."""

    def carried(self) -> FloatArray:
        """Return a fresh copy of the state that `classify` carries, as it is before ``bar``.

        Returns:
            The state, shape (n,), where n depends on the model.
        """

    def classify(
        self, features: FloatArray, carried: FloatArray, probabilities: FloatArray | None = None
    ) -> CodeArray:
        """Regime of consecutive bars; the first call begins at ``bar``.

        Args:
            features: shape (n_bars, n), what the model observes: rows of ``observations``.
            carried: the carried state from `carried`, updated in place.
            probabilities: shape (n_bars, 2), written: those of a bear and of a bull market; None where
                nobody asks.

        Returns:
            Regime codes, shape (n_bars,).
        """


class GivenClassifier(Protocol):
    """A classifier that is not in the catalogue: the user's own. It can be pickled and compared."""

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Its parameters, those of ``catalogue.LENGTHS`` among them."""

    def __str__(self) -> str:
        """Its name."""

    def __hash__(self) -> int:
        """Equal classifiers have one hash."""

    def fit(self, bar: int, returns: FloatArray, values: Mapping[str, float]) -> RegimeModel:
        """Fit on one window of returns.

        Args:
            bar: the bar of the fit, from 0.
            returns: shape (train_bars,), log returns of the market.
            values: the value of each of its parameters.

        Returns:
            The fitted model.

        Raises:
            FitError: the window yields no model.
        """


Classifier = str | GivenClassifier
"""A name of the catalogue, or a classifier of the user's own."""


class FitError(Exception):
    """A window that yields no usable model; the message is the reason."""


def standardise(features: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation (ddof 0) of the rows that a model is fitted on.

    Args:
        features: shape (n_bars, n_features).

    Returns:
        Both of shape (n_features,).

    Raises:
        FitError: a feature is constant.
    """
    location = features.mean(axis=0)
    scale = features.std(axis=0)
    # Both features are returns per bar. A spread that is a rounding error of the largest value means
    # constant returns.
    if not np.all(scale > 1e-9 * np.abs(features).max()):
        raise FitError("the features of the window are constant: nothing to tell states by")
    return location, scale


def groups(values: FloatArray, n_groups: int) -> IntArray:
    """The group in which each value ranks, from 0; equal values rank in order of appearance.

    Args:
        values: shape (n,).
        n_groups: number of groups of equal size.

    Returns:
        Groups, shape (n,).
    """
    ranks = np.empty(len(values), np.int64)
    ranks[np.argsort(values, kind="stable")] = np.arange(len(values))
    return ranks * n_groups // len(values)
