"""Regime of the market: models fitted walk-forward on past bars only, applied bar by bar.

At each refit bar a model is fitted on the window that ends with that bar, and the kernels of
`kernels.regimes` carry it forward until the next refit. What a fit sees is handed to it as slices
that end at its bar, so it cannot look ahead. Nothing in a fit is random: the same returns give the
same codes in any process.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from kernels import regimes as kernel
from kernels.codes import BEAR, BULL, NEUTRAL
from optimizer.catalogue import CLASSIFIERS
from optimizer.errors import DataError, StudyFileError
from optimizer.types import Bars, FloatArray, IntArray

CodeArray = npt.NDArray[np.int8]
HmmArrays = tuple[FloatArray, FloatArray, FloatArray, FloatArray]
"""Start distribution, transition, means, variances."""

N_STATES = 3
"""States of the hidden Markov model; sorted by mean return they are bear, neutral, bull."""

_MAX_ITERATIONS = 100  # Windows of 504 daily bars took at most 48.
_TOLERANCE = 1e-2  # Gain in log-likelihood below which EM has converged.
_TRANSITION_PRIOR = 1.1  # A tenth of a transition added: no state is closed or inescapable.
_LEAST_START_VARIANCE = 1e-3  # Of a feature standardised to variance 1.


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


@dataclass(frozen=True, eq=False)
class HmmModel:
    """Gaussian hidden Markov model of the standardised features; states in the order of the codes.

    Attributes:
        bar: bar of the fit.
        location, scale: shape (n_features,), standardise the features.
        predicted: shape (n_states,), probability of each state at ``bar`` given the bars before it.
        transition: shape (n_states, n_states).
        means, variances: shape (n_states, n_features).
    """

    bar: int
    location: FloatArray
    scale: FloatArray
    predicted: FloatArray
    transition: FloatArray
    means: FloatArray
    variances: FloatArray

    def carried(self) -> FloatArray:
        """Return a fresh copy of ``predicted``."""
        return self.predicted.copy()

    def classify(self, features: FloatArray, carried: FloatArray) -> CodeArray:
        """Likeliest state of each bar given the bars up to it; see `RegimeModel`."""
        observations = (features - self.location) / self.scale
        filtered = np.empty((len(features), N_STATES))
        kernel.hmm_filter(
            observations, carried, self.transition, self.means, self.variances, filtered
        )
        codes: CodeArray = (filtered.argmax(axis=1) + BEAR).astype(np.int8)
        return codes


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
        """Return an empty array: a decision does not depend on the bars before."""
        return np.empty(0)

    def classify(self, features: FloatArray, carried: FloatArray) -> CodeArray:
        """Class of each bar by one-vs-one votes; see `RegimeModel`."""
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


@dataclass(frozen=True, eq=False)
class Regimes:
    """Regime of each bar, and how the fits went.

    Attributes:
        codes: shape (n_bars,), int8: -1 bear, 0 neutral, 1 bull.
        models: the fitted models, by ascending bar.
        n_failed: fits that gave no model; the model before stayed in force, or none.
        reasons: one line for each failed fit, or why there was none to make.
    """

    codes: CodeArray
    models: tuple[RegimeModel, ...] = ()
    n_failed: int = 0
    reasons: tuple[str, ...] = ()

    @property
    def n_fits(self) -> int:
        """Number of fits that gave a model."""
        return len(self.models)


class _FitError(Exception):
    """A window that gives no usable model; the message is the reason."""


def market_returns(bars: Bars, symbol: str | None = None) -> FloatArray:
    """Log returns of the market: one symbol, or all of them in equal weights.

    The index has the mean of the symbols' simple returns at each bar, compounded from 1. One symbol
    is the same computation with a single column.

    Returns:
        Shape (n_bars,), per bar; 0 at the first, which has no bar before it.

    Raises:
        DataError: if ``symbol`` is not among the bars'.
    """
    close = bars.close
    if symbol is not None:
        if symbol not in bars.symbols:
            raise DataError(
                f"{bars.source}: no symbol {symbol!r} to take as the market: "
                f"name one of {', '.join(bars.symbols)}, or none for their equal-weighted index"
            )
        column = bars.symbols.index(symbol)
        close = close[:, column : column + 1]
    returns = np.empty(len(close))
    kernel.market_returns(np.array(close, order="C"), returns)
    return returns


def market_features(returns: FloatArray, lookback: int) -> FloatArray:
    """Mean and standard deviation (ddof 1) of the last ``lookback`` log returns.

    Returns:
        Shape (n_bars, 2), per bar; NaN at the first ``lookback - 1`` bars.
    """
    features = np.empty((len(returns), kernel.N_FEATURES))
    ring, seen = np.zeros(lookback), np.zeros(1, np.int64)
    kernel.market_features(np.require(returns, np.float64, ["C", "W"]), ring, seen, features)
    return features


def training_window(bar: int, train_bars: int) -> slice:
    """Bars that a fit at ``bar`` sees: the last ``train_bars`` up to and with ``bar``."""
    return slice(bar - train_bars + 1, bar + 1)


def fit_regimes(returns: FloatArray, name: str, parameters: Mapping[str, int]) -> Regimes:
    """Fit a classifier walk-forward and classify each bar by the model then in force.

    The first fit is at bar ``lookback + train_bars``, the next ones every ``refit_bars``; all bars
    before the first are neutral. A fit sees the features of the last ``train_bars`` bars, and the
    regime of a bar depends on that bar and the ones before it alone.

    Args:
        returns: shape (n_bars,), log returns of the market, from `market_returns`.
        name: a classifier of the catalogue: ``none``, ``hmm`` or ``svm``.
        parameters: the classifier's parameters; the catalogue's defaults where it is silent.

    Raises:
        DataError: if a return is NaN or infinite.
        StudyFileError: if the classifier or a parameter is unknown, or a value out of bounds.
    """
    values = _values(name, parameters)
    wrong = np.flatnonzero(~np.isfinite(returns))
    if wrong.size:
        raise DataError(
            f"market returns: bar {wrong[0]}: {returns[wrong[0]]} is not a finite number: "
            "correct or drop that bar"
        )
    n_bars = len(returns)
    codes = np.full(n_bars, NEUTRAL, np.int8)
    if name == "none":
        return Regimes(codes)
    first = values["lookback"] + values["train_bars"]
    if first >= n_bars:
        return Regimes(
            codes,
            reasons=(
                f"{n_bars} bars, and the first fit of {name} needs {first + 1} "
                "(lookback + train_bars + 1): neutral throughout",
            ),
        )

    features = market_features(returns, values["lookback"])
    models: list[RegimeModel] = []
    reasons: list[str] = []
    carried = np.empty(0)
    with _quiet_on_one_thread():
        for bar in range(first, n_bars, values["refit_bars"]):
            window = training_window(bar, values["train_bars"])
            try:
                models.append(_fit(name, bar, features[window], returns[window], values))
                carried = models[-1].carried()
            except _FitError as reason:
                reasons.append(f"{name} fit at bar {bar}: {reason}")
            if models:
                stretch = slice(bar, bar + values["refit_bars"])
                codes[stretch] = models[-1].classify(features[stretch], carried)
    return Regimes(codes, tuple(models), len(reasons), tuple(reasons))


def fit_model(
    name: str, bar: int, returns: FloatArray, parameters: Mapping[str, int]
) -> RegimeModel | None:
    """Fit at one bar, as `fit_regimes` does there; None where the window gives no usable model.

    Args:
        name: ``hmm`` or ``svm``.
        bar: of the fit.
        returns: shape (bar + 1,) or longer, log returns of the market; later ones are not read.
        parameters: the classifier's parameters; the catalogue's defaults where it is silent.

    Raises:
        StudyFileError: if the classifier or a parameter is unknown, or a value out of bounds.
    """
    values = _values(name, parameters)
    window = training_window(bar, values["train_bars"])
    features = market_features(returns[: bar + 1], values["lookback"])[window]
    with _quiet_on_one_thread():
        try:
            return _fit(name, bar, features, returns[window], values)
        except _FitError:
            return None


def compile_classifier(name: str) -> None:
    """Compile the kernels of a classifier, so that later processes find them in the cache."""
    if name == "none":
        return
    returns = np.empty(4)
    kernel.market_returns(np.ones((4, 1)), returns)
    features = market_features(returns, 2)[2:]
    one, three = np.ones(kernel.N_FEATURES), np.full(N_STATES, 1.0 / N_STATES)
    if name == "hmm":
        even, flat = np.full((N_STATES, N_STATES), 1.0 / N_STATES), np.ones((N_STATES, len(one)))
        model: RegimeModel = HmmModel(0, one, one, three, even, flat, flat)
    else:
        codes = np.array([BEAR, NEUTRAL], np.int8)
        vectors, counts = np.ones((2, len(one))), np.ones(2, np.int64)
        model = SvmModel(0, one, one, vectors, counts, np.ones((1, 2)), one[:1].copy(), 1.0, codes)
    model.classify(features, model.carried())


def fits_at(name: str, bar: int, parameters: Mapping[str, int]) -> bool:
    """Whether `fit_regimes` fits a model at ``bar``."""
    if name == "none":
        return False
    values = _values(name, parameters)
    since = bar - values["lookback"] - values["train_bars"]
    return since >= 0 and since % values["refit_bars"] == 0


def _fit(
    name: str, bar: int, features: FloatArray, returns: FloatArray, values: Mapping[str, int]
) -> RegimeModel:
    if name == "hmm":
        return _fit_hmm(bar, features)
    return _fit_svm(bar, features, returns, values["horizon"])


def _values(name: str, parameters: Mapping[str, int]) -> dict[str, int]:
    if name not in CLASSIFIERS:
        raise StudyFileError(f"classifier {name!r}: unknown: use one of {', '.join(CLASSIFIERS)}")
    known = {parameter.name: parameter for parameter in CLASSIFIERS[name]}
    for key in parameters:
        if key not in known:
            raise StudyFileError(
                f"classifier {name}: {key!r}: unknown: it takes {', '.join(known) or 'nothing'}"
            )
    values = {key: int(parameters.get(key, known[key].default)) for key in known}
    for key, value in values.items():
        if not known[key].low <= value <= known[key].high:
            raise StudyFileError(
                f"classifier {name}: {key} = {value}: must lie in "
                f"{known[key].low:g} .. {known[key].high:g}"
            )
    return values


@contextmanager
def _quiet_on_one_thread() -> Iterator[None]:
    """Fit on one thread, so that no sum depends on the number of threads, and without chatter.

    Convergence is judged from the result, so hmmlearn's log and numerical warnings say nothing new.
    """
    # Here and not above: they take a second to import, and a study without a classifier or a worker
    # that only applies models needs neither. They come before the limit, which reaches loaded
    # libraries alone.
    import hmmlearn.hmm  # noqa: F401
    import sklearn.svm  # noqa: F401
    from threadpoolctl import threadpool_limits

    logger = logging.getLogger("hmmlearn")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            yield
    finally:
        logger.setLevel(level)


def _standardise(features: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation (ddof 0) of the rows a model is fitted on."""
    location = features.mean(axis=0)
    scale = features.std(axis=0)
    # Both features are returns per bar. Relative to the largest, a spread of rounding errors is one
    # of constant returns.
    if not np.all(scale > 1e-9 * np.abs(features).max()):
        raise _FitError("the features of the window are constant: nothing to tell states by")
    return location, scale


def _terciles(values: FloatArray) -> IntArray:
    """Rank of each value in thirds: 0, 1 or 2; equal values in order of appearance."""
    ranks = np.empty(len(values), np.int64)
    ranks[np.argsort(values, kind="stable")] = np.arange(len(values))
    return ranks * N_STATES // len(values)


def _fit_hmm(bar: int, features: FloatArray) -> HmmModel:
    """Fit by expectation maximisation (hmmlearn) from two starts and keep the likelier.

    The starts are the terciles of each feature, no random draws. On daily stocks the better of the
    two comes close to the best of 20 random starts, and far above hmmlearn's own start by k-means,
    whose uniform transitions it seldom leaves. A start from the model before would gain nothing
    over that, and would make each model depend on all the windows before its own.
    """
    location, scale = _standardise(features)
    observations = (features - location) / scale
    best: tuple[float, HmmArrays] | None = None
    reason = ""
    for feature in range(kernel.N_FEATURES):
        try:
            candidate = _maximise(observations, _terciles(observations[:, feature]))
        except _FitError as error:
            reason = str(error)
            continue
        if best is None or candidate[0] > best[0]:
            best = candidate
    if best is None:
        raise _FitError(reason)

    # Carried over the window up to the bar before `bar`: filtered, not smoothed.
    predicted, transition, means, variances = best[1]
    filtered = np.empty((len(observations) - 1, N_STATES))
    kernel.hmm_filter(observations[:-1], predicted, transition, means, variances, filtered)
    if filtered.sum(axis=0).min() < 1.0:
        raise _FitError("a state holds less than one bar of the window")
    return HmmModel(bar, location, scale, predicted, transition, means, variances)


def _maximise(observations: FloatArray, group: IntArray) -> tuple[float, HmmArrays]:
    """Log-likelihood and parameters that EM reaches from one grouping of the window's bars."""
    from hmmlearn.hmm import GaussianHMM

    hmm = GaussianHMM(
        N_STATES,
        covariance_type="diag",
        transmat_prior=_TRANSITION_PRIOR,
        n_iter=_MAX_ITERATIONS,
        tol=_TOLERANCE,
        random_state=0,
        init_params="",
    )
    transitions = np.ones((N_STATES, N_STATES))
    np.add.at(transitions, (group[:-1], group[1:]), 1.0)
    members = [observations[group == k] for k in range(N_STATES)]
    hmm.startprob_ = np.full(N_STATES, 1.0 / N_STATES)
    hmm.transmat_ = transitions / transitions.sum(axis=1, keepdims=True)
    hmm.means_ = np.array([rows.mean(axis=0) for rows in members])
    variances = np.array([rows.var(axis=0) for rows in members])
    hmm.covars_ = np.maximum(variances, _LEAST_START_VARIANCE)
    try:
        hmm.fit(observations)
    except ValueError as error:  # Among them numpy's LinAlgError.
        raise _FitError(f"hmmlearn: {error}".splitlines()[0]) from error

    # hmmlearn also calls it converged after its last iteration and after a fall.
    before, last = ([np.nan, np.nan, *hmm.monitor_.history])[-2:]
    if not abs(last - before) < _TOLERANCE:
        raise _FitError(
            f"EM did not converge: iteration {hmm.monitor_.iter} of at most {_MAX_ITERATIONS} "
            f"moved the log-likelihood by {last - before:+.3g}"
        )
    order = np.argsort(hmm.means_[:, 0], kind="stable")
    start = hmm.startprob_[order]
    transition = hmm.transmat_[order][:, order].copy(order="C")
    means = hmm.means_[order]
    variances = np.array([np.diag(hmm.covars_[k]) for k in order])
    finite = all(np.isfinite(array).all() for array in (start, transition, means, variances))
    if not finite or not np.all(variances > 0.0) or not np.allclose(transition.sum(axis=1), 1.0):
        raise _FitError("the fitted parameters are not finite or not probabilities")
    return float(last), (start, transition, means, variances)


def forward_returns(returns: FloatArray, horizon: int) -> FloatArray:
    """Log return from each bar's close to the close ``horizon`` bars later.

    The last ``horizon`` bars have none within ``returns`` and are left out: this is the purge, for
    a training row is used only if its label ends inside the window.

    Returns:
        Shape (max(0, n_bars - horizon),).
    """
    if len(returns) <= horizon:
        return np.empty(0)
    windows = np.lib.stride_tricks.sliding_window_view(returns[1:], horizon)
    forward: FloatArray = windows.sum(axis=1)
    return forward


def _fit_svm(bar: int, features: FloatArray, returns: FloatArray, horizon: int) -> SvmModel:
    """Fit scikit-learn's SVC on terciles of the forward return: bear, neutral, bull."""
    from sklearn.svm import SVC

    forward = forward_returns(returns, horizon)
    if len(forward) < N_STATES:
        raise _FitError(
            f"{len(forward)} labels end within the window of {len(returns)} bars: "
            f"lower horizon ({horizon}) or raise train_bars"
        )
    rows = features[: len(forward)]
    location, scale = _standardise(rows)
    observations = (rows - location) / scale
    low, high = np.quantile(forward, [1 / 3, 2 / 3])
    labels = np.full(len(forward), NEUTRAL, np.int8)
    labels[forward < low] = BEAR
    labels[forward > high] = BULL
    if np.all(labels == labels[0]):
        raise _FitError("all labels of the window are the same")

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
