"""Fit regime models on past bars only, and classify with them."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kernels import regimes as kernel
from kernels.codes import BEAR, NEUTRAL
from optimizer.catalogue import CLASSIFIERS, Parameter
from optimizer.errors import DataError, StudyFileError
from optimizer.market.hmm import HmmModel, Names, fit_hmm
from optimizer.market.regime_models import Classifier, CodeArray, FitError, RegimeModel
from optimizer.market.svm import SvmModel, fit_svm
from optimizer.types import Bars, FloatArray


@dataclass(frozen=True, eq=False)
class Regimes:
    """Regime of each bar, and the outcome of the fits.

    Attributes:
        codes: shape (n_bars,), int8: -1 bear, 0 neutral, 1 bull.
        probabilities: shape (n_bars, 2): those of a bear and of a bull market, 0 before the first fit;
            None where nobody asked.
        models: the fitted models, by ascending bar.
        n_failed: number of fits that yielded no model; the previous model, if any, stayed in force.
        reasons: one line for each failed fit, or the reason why no fit was made.
    """

    codes: CodeArray
    probabilities: FloatArray | None = None
    models: tuple[RegimeModel, ...] = ()
    n_failed: int = 0
    reasons: tuple[str, ...] = ()

    @property
    def n_fits(self) -> int:
        """Number of fits that yielded a model."""
        return len(self.models)


def market_returns(bars: Bars, symbol: str | None = None) -> FloatArray:
    """Log returns of the market: one symbol, or all symbols in equal weights.

    The index compounds from 1 the mean of the symbols' simple returns at each bar, over those that have
    the bar and had one before. One symbol is the same computation with a single column.

    Args:
        bars: the bars of all symbols.
        symbol: None takes the index.

    Returns:
        Shape (n_bars,), per bar; 0 at the first bar, and where a symbol has none.

    Raises:
        DataError: the bars have no such symbol.
    """
    close, present = bars.close, bars.present
    if symbol is not None:
        column = _market_column(bars, symbol)
        close = close[:, column : column + 1]
        present = None if present is None else present[:, column : column + 1]
    returns = np.empty(len(close))
    if present is None:
        kernel.market_returns(np.array(close, order="C"), returns)
    else:
        kernel.joint_market_returns(
            np.array(close, order="C"), np.array(present, order="C"), returns
        )
    return returns


def fit_market(
    bars: Bars,
    symbol: str | None,
    name: Classifier,
    parameters: Mapping[str, float],
    probabilities: bool = False,
) -> Regimes:
    """``fit_regimes`` on the bars that the market has; at others its regime stays as it is.

    Args:
        bars: the bars of all symbols.
        symbol: the market; None takes the index of all symbols.
        name, parameters: the name and parameters of the classifier.
        probabilities: whether to compute them too.

    Returns:
        Codes of all bars. The bars of models, and those in reasons, are counted in bars of the market.

    Raises:
        DataError: the bars have no such symbol.
        StudyFileError: the classifier or a parameter is unknown, or a value is out of bounds.
    """
    returns = market_returns(bars, symbol)
    if symbol is None:
        return fit_regimes(returns, name, parameters, probabilities)
    column = _market_column(bars, symbol)
    regimes = fit_regimes(returns[bars.own(column)], name, parameters, probabilities)
    shares = regimes.probabilities
    if shares is not None:
        shares = np.stack([bars.carried(column, one, 0.0) for one in shares.T], axis=1)
    codes = bars.carried(column, regimes.codes, NEUTRAL)
    return replace(regimes, codes=codes, probabilities=shares)


def _market_column(bars: Bars, symbol: str) -> int:
    if symbol not in bars.symbols:
        raise DataError(
            f"{bars.source}: no symbol {symbol!r} to take as the market: "
            f"name one of {', '.join(bars.symbols)}, or none for their equal-weighted index"
        )
    return bars.symbols.index(symbol)


def market_features(returns: FloatArray, lookback: int) -> FloatArray:
    """Mean and standard deviation (ddof 1) of the last ``lookback`` log returns.

    Args:
        returns: shape (n_bars,), per bar.
        lookback: bars.

    Returns:
        Shape (n_bars, 2), per bar; NaN at the first ``lookback - 1`` bars.
    """
    features = np.empty((len(returns), kernel.N_MARKET_FEATURES))
    ring, seen = np.zeros(lookback), np.zeros(1, np.int64)
    kernel.market_features(np.require(returns, np.float64, ["C", "W"]), ring, seen, features)
    return features


def observations(name: Classifier, returns: FloatArray, lookback: int) -> FloatArray:
    """What a classifier observes at each bar.

    Args:
        name: a classifier of the catalogue, or one of the user's own.
        returns: shape (n_bars,), per bar.
        lookback: bars.

    Returns:
        Shape (n_bars, n): ``market_features``, or the last ``lookback`` returns themselves, oldest first,
        for one of the user's own. NaN at the first bars.
    """
    if isinstance(name, str):
        return market_features(returns, lookback)
    padded = np.concatenate((np.full(lookback - 1, np.nan), returns))
    return np.lib.stride_tricks.sliding_window_view(padded, lookback)


def training_window(bar: int, train_bars: int) -> slice:
    """The bars that a fit at ``bar`` sees: the last ``train_bars``, ``bar`` included.

    Args:
        bar: the bar of the fit, from 0.
        train_bars: length of the window.
    """
    return slice(bar - train_bars + 1, bar + 1)


def fit_regimes(
    returns: FloatArray,
    name: Classifier,
    parameters: Mapping[str, float],
    probabilities: bool = False,
) -> Regimes:
    """Fit a classifier walk-forward and classify each bar by the model then in force.

    The first fit is at bar ``lookback + train_bars``, and the next ones follow every ``refit_bars``.
    Bars before the first fit are neutral. A fit sees the features of the last ``train_bars`` bars.
    States of the hidden Markov model take the names of those before that they are most like. The regime
    of a bar depends only on that bar and earlier ones.

    Args:
        returns: shape (n_bars,), log returns of the market, see ``market_returns``.
        name: a classifier of the catalogue, ``none``, ``hmm`` or ``svm``, or one of the user's own.
        parameters: the parameters of the classifier; a missing one takes the default of the
            catalogue.
        probabilities: whether to compute them too; the codes are the same.

    Returns:
        The regime code of each bar.

    Raises:
        DataError: a return is NaN or infinite.
        StudyFileError: the classifier or a parameter is unknown, or a value is out of bounds.
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
    shares = np.zeros((n_bars, 2)) if probabilities else None
    if name == "none":
        return Regimes(codes, shares)
    first = values["lookback"] + values["train_bars"]
    if first >= n_bars:
        return Regimes(
            codes,
            shares,
            reasons=(
                f"{n_bars} bars, and the first fit of {name} needs {first + 1} "
                "(lookback + train_bars + 1): neutral throughout",
            ),
        )

    features = observations(name, returns, values["lookback"])
    models: list[RegimeModel] = []
    reasons: list[str] = []
    carried = np.empty(0)
    with _quiet_on_one_thread(name):
        for bar in range(first, n_bars, values["refit_bars"]):
            window = training_window(bar, values["train_bars"])
            try:
                before = models[-1] if models else None
                seen = features[window], returns[window]
                models.append(_fit(name, bar, *seen, values, before, probabilities))
                carried = models[-1].carried()
            except FitError as reason:
                reasons.append(f"{name} fit at bar {bar}: {reason}")
            if models:
                stretch = slice(bar, bar + values["refit_bars"])
                written = None if shares is None else shares[stretch]
                codes[stretch] = models[-1].classify(features[stretch], carried, written)
    return Regimes(codes, shares, tuple(models), len(reasons), tuple(reasons))


def fit_model(
    name: Classifier,
    bar: int,
    returns: FloatArray,
    parameters: Mapping[str, float],
    before: RegimeModel | None,
    probabilities: bool = False,
) -> RegimeModel | None:
    """Fit at one bar, as ``fit_regimes`` does there.

    Args:
        name: ``hmm`` or ``svm``, or one of the user's own.
        bar: the bar of the fit, from 0.
        returns: shape (bar + 1,) or longer, log returns of the market; later ones are not read.
        parameters: the parameters of the classifier; a missing one takes the default of the
            catalogue.
        before: the model of the last fit that yielded one; None before the first.
        probabilities: whether the model is to give them too.

    Returns:
        None if the window yields no usable model.

    Raises:
        StudyFileError: the classifier or a parameter is unknown, or a value is out of bounds.
    """
    values = _values(name, parameters)
    window = training_window(bar, values["train_bars"])
    features = observations(name, returns[: bar + 1], values["lookback"])[window]
    with _quiet_on_one_thread(name):
        try:
            return _fit(name, bar, features, returns[window], values, before, probabilities)
        except FitError:
            return None


def first_fit(
    bars: Bars, symbol: str | None, name: Classifier, parameters: Mapping[str, float]
) -> int:
    """The bar of the first fit of ``fit_market``, before which no bar has a regime of its own.

    Args:
        bars: the bars of all symbols.
        symbol: the market; None takes the index of all symbols.
        name, parameters: the name and parameters of a classifier other than ``none``.

    Returns:
        The bar, counted in the bars of all symbols; their number where there is no fit.
    """
    values = _values(name, parameters)
    first = values["lookback"] + values["train_bars"]
    own = np.arange(bars.n_bars) if symbol is None else bars.own(_market_column(bars, symbol))
    return int(own[first]) if first < len(own) else bars.n_bars


def compile_classifier(name: Classifier, *, joint: bool = False) -> None:
    """Compile the kernels of a classifier, so that other processes find them in the cache.

    Args:
        name: a classifier of the catalogue, or one of the user's own.
        joint: whether symbols lack bars.
    """
    if name == "none":
        return
    returns = np.empty(4)
    kernel.market_returns(np.ones((4, 1)), returns)
    if joint:
        kernel.joint_market_returns(np.ones((4, 1)), np.ones((4, 1), np.uint8), returns)
    if not isinstance(name, str):
        return
    features = market_features(returns, 2)[2:]
    one = np.ones(kernel.N_MARKET_FEATURES)
    if name == "hmm":
        with contextlib.suppress(FitError):
            fit_hmm(0, np.arange(16.0).reshape(8, 2) % 5.0)
        even, flat = np.full((2, 2), 0.5), np.ones((2, len(one)))
        covariances = np.array([np.eye(len(one))] * 2)
        names = Names(1, flat, flat)
        model: RegimeModel = HmmModel(0, one, one, even[0].copy(), even, flat, covariances, names)
    else:
        codes = np.array([BEAR, NEUTRAL], np.int8)
        vectors, counts = np.ones((2, len(one))), np.ones(2, np.int64)
        model = SvmModel(
            0,
            one,
            one,
            vectors,
            counts,
            np.ones((1, 2)),
            one[:1].copy(),
            1.0,
            codes,
            np.ones((1, 2)),
        )
    model.classify(features, model.carried(), np.empty((len(features), 2)))


def fits_at(name: Classifier, bar: int, parameters: Mapping[str, float]) -> bool:
    """Whether ``fit_regimes`` fits a model at ``bar``.

    Args:
        name: a classifier of the catalogue, or one of the user's own.
        bar: counted from the first.
        parameters: the parameters of the classifier; a missing one takes the default of the
            catalogue.

    Raises:
        StudyFileError: the classifier or a parameter is unknown, or a value is out of bounds.
    """
    if name == "none":
        return False
    values = _values(name, parameters)
    since = bar - values["lookback"] - values["train_bars"]
    return bool(since >= 0 and since % values["refit_bars"] == 0)


def _fit(
    name: Classifier,
    bar: int,
    features: FloatArray,
    returns: FloatArray,
    values: Mapping[str, Any],
    before: RegimeModel | None,
    probabilities: bool,
) -> RegimeModel:
    if not isinstance(name, str):
        return name.fit(bar, returns, values)
    if name == "hmm":
        named = before if isinstance(before, HmmModel) else None
        return fit_hmm(bar, features, named, values["n_states"], values["full_covariance"] == 1)
    return fit_svm(bar, features, returns, values["horizon"], probabilities)


def _values(name: Classifier, parameters: Mapping[str, float]) -> dict[str, Any]:
    known = {parameter.name: parameter for parameter in parameters_of(name)}
    for key in parameters:
        if key not in known:
            raise StudyFileError(
                f"classifier {name}: {key!r}: unknown: it takes {', '.join(known) or 'nothing'}"
            )
    values = {key: one.kind(parameters.get(key, one.default)) for key, one in known.items()}
    for key, value in values.items():
        if not known[key].low <= value <= known[key].high:
            raise StudyFileError(
                f"classifier {name}: {key} = {value}: must lie in "
                f"{known[key].low:g} .. {known[key].high:g}"
            )
    return values


def parameters_of(name: Classifier) -> tuple[Parameter, ...]:
    """The parameters of a classifier.

    Args:
        name: a classifier of the catalogue, or one of the user's own.

    Raises:
        StudyFileError: the classifier is unknown.
    """
    if not isinstance(name, str):
        return name.parameters
    if name not in CLASSIFIERS:
        raise StudyFileError(f"classifier {name!r}: unknown: use one of {', '.join(CLASSIFIERS)}")
    return CLASSIFIERS[name]


@contextmanager
def _quiet_on_one_thread(name: Classifier) -> Iterator[None]:
    """Fit on one thread, so that no sum depends on the number of threads, and without warnings.

    Convergence is judged from the result, so numerical warnings say nothing new.
    """
    # Here and not above: it takes a second to import, and a study without a classifier or a worker
    # that only applies models does not need it. It comes before the limit, which reaches only loaded
    # libraries.
    if name == "svm":
        import sklearn.linear_model
        import sklearn.svm  # noqa: F401
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        yield
