"""What every regime model has in common."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from optimizer.types import FloatArray, IntArray

CodeArray = npt.NDArray[np.int8]

N_STATES = 3
"""States of the hidden Markov model; sorted by mean return they are bear, neutral, bull."""


class RegimeModel(Protocol):
    """A fitted model, picklable, in force from its bar on until another takes over."""

    @property
    def bar(self) -> int:
        """Bar at whose close it was fitted, and the first that it classifies."""

    def carried(self) -> FloatArray:
        """Return a fresh copy of the state that `classify` carries, as it stands before ``bar``."""

    def classify(self, features: FloatArray, carried: FloatArray) -> CodeArray:
        """Regime of consecutive bars; the first call begins at ``bar``.

        Args:
            features: shape (n_bars, 2), rows of `market_features`.
            carried: from `carried`, updated in place.

        Returns:
            Regime codes, shape (n_bars,).
        """


class FitError(Exception):
    """A window that gives no usable model; the message is the reason."""


def standardise(features: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation (ddof 0) of the rows a model is fitted on."""
    location = features.mean(axis=0)
    scale = features.std(axis=0)
    # Both features are returns per bar. Relative to the largest, a spread of rounding errors is one
    # of constant returns.
    if not np.all(scale > 1e-9 * np.abs(features).max()):
        raise FitError("the features of the window are constant: nothing to tell states by")
    return location, scale


def terciles(values: FloatArray) -> IntArray:
    """Rank of each value in thirds: 0, 1 or 2; equal values in order of appearance."""
    ranks = np.empty(len(values), np.int64)
    ranks[np.argsort(values, kind="stable")] = np.arange(len(values))
    return ranks * N_STATES // len(values)
