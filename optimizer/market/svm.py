"""The support vector machine of market regimes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kernels import regimes as kernel
from kernels.codes import BEAR, BULL, NEUTRAL
from optimizer.market.regime_models import N_REGIMES, CodeArray, FitError, standardise
from optimizer.types import FloatArray, IntArray

MOST_ROWS = 5000
"""Rows of a fit, which takes the square of their number. Neighbouring rows share most of their bars."""


@dataclass(frozen=True, eq=False)
class SvmModel:
    """Support vector classifier of the standardised features, in the layout of the kernel.

    Attributes:
        bar: bar of the fit.
        location, scale: shape (n_features,), standardise the features.
        support_vectors: shape (n_vectors, n_features), grouped by class.
        n_support: shape (n_classes,).
        dual_coefficients: shape (n_classes - 1, n_vectors).
        intercept: shape (n_pairs,).
        gamma: width of the RBF kernel.
        codes: shape (n_classes,), regime code of each class, ascending.
    """

    bar: int
    location: FloatArray
    scale: FloatArray
    support_vectors: FloatArray
    n_support: IntArray
    dual_coefficients: FloatArray
    intercept: FloatArray
    gamma: float
    codes: CodeArray

    def carried(self) -> FloatArray:
        """Return an empty array: a decision does not depend on the bars before.

        Returns:
            Shape (0,).
        """
        return np.empty(0)

    def classify(self, features: FloatArray, carried: FloatArray) -> CodeArray:
        """Class of each bar by one-vs-one votes; see `RegimeModel`.

        Args:
            features: shape (n_bars, n_features).
            carried: not used.

        Returns:
            Regime codes, shape (n_bars,).
        """
        observations = (features - self.location) / self.scale
        decisions = np.empty((len(features), len(self.intercept)))
        labels = np.empty(len(features), np.int64)
        kernel.svm_decision(
            observations,
            self.support_vectors,
            self.n_support,
            self.dual_coefficients,
            self.intercept,
            self.gamma,
            decisions,
            labels,
        )
        return self.codes[labels]


def forward_returns(returns: FloatArray, horizon: int) -> FloatArray:
    """Log return from each bar's close to the close ``horizon`` bars later.

    The last ``horizon`` bars have no such return and are left out. This is the purge: a training row
    is used only if its label ends inside the window.

    Args:
        returns: log returns, shape (n_bars,).
        horizon: bars.

    Returns:
        Shape (max(0, n_bars - horizon),).
    """
    if len(returns) <= horizon:
        return np.empty(0)
    windows = np.lib.stride_tricks.sliding_window_view(returns[1:], horizon)
    forward: FloatArray = windows.sum(axis=1)
    return forward


def fit_svm(bar: int, features: FloatArray, returns: FloatArray, horizon: int) -> SvmModel:
    """Fit scikit-learn's SVC on terciles of the forward return: bear, neutral, bull.

    Of more than ``MOST_ROWS`` labels every second, third and so on counts, the last one among them.

    Args:
        bar: the bar of the fit, from 0.
        features: the features of the window, shape (n_bars, n_features).
        returns: log returns of the window, shape (n_bars,).
        horizon: bars of the forward return.

    Returns:
        The fitted model.

    Raises:
        FitError: there are too few labels, or all are the same.
    """
    from sklearn.svm import SVC

    forward = forward_returns(returns, horizon)
    if len(forward) < N_REGIMES:
        raise FitError(
            f"{len(forward)} labels end within the window of {len(returns)} bars: "
            f"lower horizon ({horizon}) or raise train_bars"
        )
    step = -(-len(forward) // MOST_ROWS)
    places = slice((len(forward) - 1) % step, len(forward), step)
    rows, forward = features[places], forward[places]
    location, scale = standardise(rows)
    observations = (rows - location) / scale
    low, high = np.quantile(forward, [1 / 3, 2 / 3])
    labels = np.full(len(forward), NEUTRAL, np.int8)
    labels[forward < low] = BEAR
    labels[forward > high] = BULL
    if np.all(labels == labels[0]):
        raise FitError("all labels of the window are the same")

    gamma = float(1.0 / (observations.shape[1] * observations.var()))  # "scale", made explicit
    svc = SVC(C=1.0, kernel="rbf", gamma=gamma, random_state=0).fit(observations, labels)
    # With two classes scikit-learn turns LIBSVM's sign, which the kernel keeps.
    sign = -1.0 if len(svc.classes_) == 2 else 1.0
    return SvmModel(
        bar,
        location,
        scale,
        np.array(svc.support_vectors_, order="C"),
        svc.n_support_.astype(np.int64),
        np.array(sign * svc.dual_coef_, order="C"),
        np.array(sign * svc.intercept_, order="C"),
        gamma,
        svc.classes_.astype(np.int8),
    )
