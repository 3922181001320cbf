"""The support vector machine of market regimes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from kernels import regimes as kernel
from kernels.codes import BEAR, BULL, NEUTRAL
from optimizer.errors import FlowError
from optimizer.market.regime_models import N_REGIMES, CodeArray, FitError, standardise
from optimizer.types import FloatArray, IntArray

MOST_ROWS = 5000
"""Rows of a fit, which takes the square of their number. Neighbouring rows share most of their bars."""

N_FOLDS = 5
"""Stretches of the training window, each of which is judged by a model fitted on the others."""


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
        sigmoids: shape (n_pairs, 2), see ``kernels.regimes.svm_probabilities_step``; None where nobody
            asked for probabilities.
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
    sigmoids: FloatArray | None = None

    def carried(self) -> FloatArray:
        """Return an empty array: a decision does not depend on the bars before.

        Returns:
            Shape (0,).
        """
        return np.empty(0)

    def classify(
        self, features: FloatArray, carried: FloatArray, probabilities: FloatArray | None = None
    ) -> CodeArray:
        """Class of each bar by one-vs-one votes; see `RegimeModel`.

        Args:
            features: shape (n_bars, n_features).
            carried: not used.
            probabilities: shape (n_bars, 2), written; only for a model with ``sigmoids``.

        Returns:
            Regime codes, shape (n_bars,).
        """
        decisions, labels = self.decide(features)
        if probabilities is not None:
            if self.sigmoids is None:
                raise FlowError("the model has no probabilities: refit it with probabilities=True")
            shares = np.empty((len(features), len(self.codes)))
            kernel.svm_probabilities(decisions, self.sigmoids, shares)
            for column, code in enumerate((BEAR, BULL)):
                probabilities[:, column] = shares[:, self.codes == code].sum(axis=1)
        return self.codes[labels]

    def decide(self, features: FloatArray) -> tuple[FloatArray, IntArray]:
        """The decision of each pair of classes at each bar, and the class that has most votes.

        Args:
            features: shape (n_bars, n_features).

        Returns:
            Decisions of shape (n_bars, n_pairs), and indices into ``codes`` of shape (n_bars,).
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
        return decisions, labels


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


def fit_svm(
    bar: int, features: FloatArray, returns: FloatArray, horizon: int, probabilities: bool = False
) -> SvmModel:
    """Fit scikit-learn's SVC on terciles of the forward return: bear, neutral, bull.

    Of more than ``MOST_ROWS`` labels every second, third and so on counts, the last one among them.

    Args:
        bar: the bar of the fit, from 0.
        features: the features of the window, shape (n_bars, n_features).
        returns: log returns of the window, shape (n_bars,).
        horizon: bars of the forward return.
        probabilities: whether to fit ``SvmModel.sigmoids`` too; the rest of the model is the same.

    Returns:
        The fitted model.

    Raises:
        FitError: there are too few labels, or all are the same.
    """
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

    def fitted(chosen: Any) -> SvmModel:
        return _machine(bar, location, scale, observations[chosen], labels[chosen], gamma)

    model = fitted(slice(None))
    if not probabilities:
        return model
    # Rows whose labels share a bar with those of a fold are left out of its training.
    near = -(-horizon // step)
    decisions = np.full((len(rows), len(model.intercept)), np.nan)
    bounds = [len(rows) * fold // N_FOLDS for fold in range(N_FOLDS + 1)]
    for start, stop in pairwise(bounds):
        kept = np.r_[: max(start - near + 1, 0), min(stop + near - 1, len(rows)) : len(rows)]
        # Without one of the classes there is no telling the pairs that it is in.
        if np.array_equal(np.unique(labels[kept]), model.codes):
            decisions[start:stop] = fitted(kept).decide(rows[start:stop])[0]
    return replace(model, sigmoids=_sigmoids(decisions, labels, model.codes))


def _machine(
    bar: int,
    location: FloatArray,
    scale: FloatArray,
    observations: FloatArray,
    labels: CodeArray,
    gamma: float,
) -> SvmModel:
    """The machine that scikit-learn fits to standardised rows and their labels."""
    from sklearn.svm import SVC

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


def _sigmoids(decisions: FloatArray, labels: CodeArray, codes: CodeArray) -> FloatArray:
    """Slope and intercept of the log-odds of the first class of each pair.

    Platt's targets lie inside 0..1, by one row of each class, so that classes which the decision tells
    apart without a mistake have a finite slope.

    Args:
        decisions: (n_rows, n_pairs), by machines that have not seen the row; NaN where there is none.
        labels: (n_rows,), regime codes.
        codes: (n_classes,), ascending.
    """
    from sklearn.linear_model import LogisticRegression

    sigmoids = np.zeros((decisions.shape[1], 2))
    pair = 0
    for i, first in enumerate(codes):
        for second in codes[i + 1 :]:
            of_pair = (labels == first) | (labels == second)
            known = of_pair & np.isfinite(decisions[:, pair])
            is_first = labels[known] == first
            counts = np.array([np.sum(~is_first), np.sum(is_first)])
            if counts.min() > 0:
                # A row with the target w counts w as one of the first class, and 1 - w as another.
                sure = (counts + 1.0) / (counts + 2.0)
                weight = np.where(is_first, sure[1], 1.0 - sure[0])
                both = np.tile(decisions[known, pair], 2)[:, np.newaxis]
                targets = np.repeat([1, 0], len(weight))
                fit = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-8).fit(
                    both, targets, np.concatenate((weight, 1.0 - weight))
                )
                sigmoids[pair] = fit.coef_[0, 0], fit.intercept_[0]
            else:  # nothing to calibrate by: how frequent the classes are
                sigmoids[pair, 1] = np.log(np.sum(labels == first) / np.sum(labels == second))
            pair += 1
    return sigmoids
