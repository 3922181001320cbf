"""Probabilities of regimes: against slow loops and scikit-learn, causal, without effect on the codes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.svm import SVC

from kernels.codes import BEAR, BULL, NEUTRAL
from optimizer.market import svm
from optimizer.market.hmm import HmmModel
from optimizer.market.regimes import (
    fit_market,
    fit_regimes,
    market_features,
    market_returns,
    training_window,
)
from optimizer.market.svm import SvmModel
from tests.reference import regimes as reference
from tests.support.causality import assert_causal
from tests.support.studies import random_bars

FloatArray = npt.NDArray[np.float64]

PARAMETERS = {"lookback": 10, "train_bars": 150, "refit_bars": 60}
FIRST = 160
MODELS = {
    "hmm": {"n_states": 2},
    "hmm of 4": {"n_states": 4, "full_covariance": 1},
    "svm": {"horizon": 3},
}


def parameters_of(name: str) -> dict[str, int]:
    return {**PARAMETERS, **MODELS[name]}


@pytest.fixture(scope="module")
def returns() -> FloatArray:
    """A calm market and a wild one, in turn."""
    rng = np.random.default_rng(4)
    wild = np.repeat(rng.random(9) < 0.5, 40)
    return rng.normal(np.where(wild, -0.002, 0.001), np.where(wild, 0.02, 0.006))


@pytest.mark.parametrize("name", MODELS)
def test_codes_are_the_same_with_and_without(name: str, returns: FloatArray) -> None:
    kind = name.split()[0]
    plain = fit_regimes(returns, kind, parameters_of(name))
    found = fit_regimes(returns, kind, parameters_of(name), True)
    assert plain.probabilities is None and found.probabilities is not None
    np.testing.assert_array_equal(plain.codes, found.codes)
    assert found.n_fits == 4
    shares = found.probabilities
    assert (shares[:FIRST] == 0.0).all()
    assert ((shares >= 0.0) & (shares <= 1.0)).all() and (shares.sum(axis=1) < 1.0 + 1e-9).all()
    assert shares[FIRST:].std(axis=0).min() > 0.01
    if kind == "hmm":  # whose code is the likeliest
        likeliest = shares[FIRST:].max(axis=1) > 0.5
        codes = np.where(shares[FIRST:, 0] > 0.5, BEAR, BULL)
        assert (found.codes[FIRST:] == codes)[likeliest].all()


@pytest.mark.parametrize("name", MODELS)
def test_probabilities_are_causal(name: str, returns: FloatArray) -> None:
    def shares(given: FloatArray) -> Any:
        return fit_regimes(given, name.split()[0], parameters_of(name), True).probabilities

    assert_causal(shares, [returns[:300]], [FIRST, FIRST + 1, 200, 240, 299])


def test_hmm_gives_the_filtered_probability_of_its_states(returns: FloatArray) -> None:
    found = fit_regimes(returns, "hmm", {**PARAMETERS, "n_states": 3}, True)
    assert found.probabilities is not None
    features = market_features(returns, 10)
    for model in found.models:
        assert isinstance(model, HmmModel)
        stretch = slice(model.bar, min(model.bar + 60, len(returns)))
        filtered = reference.forward(
            ((features[stretch] - model.location) / model.scale).tolist(),
            model.predicted.tolist(),
            model.transition.tolist(),
            model.means.tolist(),
            np.diagonal(model.covariances, axis1=1, axis2=2).tolist(),
        )
        expected = [(row[0], row[2]) for row in filtered]
        np.testing.assert_allclose(found.probabilities[stretch], expected, rtol=1e-8, atol=1e-12)


class Given(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier of two classes that decides by the number that it is given."""

    classes_ = np.array([0, 1])

    def fit(self, x: Any, y: Any) -> Given:
        return self

    def decision_function(self, x: Any) -> Any:
        return x[:, 0]

    def predict(self, x: Any) -> Any:
        return x[:, 0] > 0.0

    def __sklearn_is_fitted__(self) -> bool:
        return True


def slow_probabilities(
    model: SvmModel, returns: FloatArray, features: FloatArray, horizon: int, step: int
) -> FloatArray:
    """Probabilities of bear and bull at the bars of a model, with scikit-learn's own calibration."""
    window = np.arange(len(returns))[training_window(model.bar, PARAMETERS["train_bars"])]
    bars = [t for t in window if t + horizon <= model.bar][::-1][::step][::-1]
    labels = np.array(
        reference.tercile_labels([sum(returns[t + 1 : t + horizon + 1].tolist()) for t in bars])
    )
    rows = (features[bars] - model.location) / model.scale
    reads = [set(range(t + 1, t + horizon + 1)) for t in bars]
    decisions = np.full((len(bars), 3), np.nan)
    for fold in range(5):
        tested = range(len(bars) * fold // 5, len(bars) * (fold + 1) // 5)
        seen = set().union(*(reads[i] for i in tested))
        kept = [i for i in range(len(bars)) if i not in tested and not reads[i] & seen]
        machine = SVC(C=1.0, gamma=model.gamma, decision_function_shape="ovo")
        machine.fit(rows[kept], labels[kept])
        decisions[tested] = machine.decision_function(rows[tested])
    now = (features[model.bar : model.bar + 60] - model.location) / model.scale
    whole = SVC(C=1.0, gamma=model.gamma, decision_function_shape="ovo").fit(rows, labels)
    shares = []
    for pair, (i, j) in enumerate(reference.pairs(3)):
        chosen = (labels == i - 1) | (labels == j - 1)
        sigmoid = CalibratedClassifierCV(FrozenEstimator(Given()), method="sigmoid")
        sigmoid.fit(decisions[chosen, pair : pair + 1], labels[chosen] == i - 1)
        shares.append(sigmoid.predict_proba(whole.decision_function(now)[:, pair : pair + 1])[:, 1])
    found = [reference.coupled(row, 3) for row in np.array(shares).T.tolist()]
    return np.array(found)[:, [0, 2]]


@pytest.mark.parametrize(("horizon", "most", "step"), [(3, 5000, 1), (7, 80, 2)])
def test_svm_is_calibrated_on_rows_that_its_machines_have_not_seen(
    horizon: int, most: int, step: int, returns: FloatArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(svm, "MOST_ROWS", most)
    found = fit_regimes(returns, "svm", {**PARAMETERS, "horizon": horizon}, True)
    assert found.probabilities is not None
    features = market_features(returns, 10)
    for model in found.models:
        assert isinstance(model, SvmModel)
        expected = slow_probabilities(model, returns, features, horizon, step)
        actual = found.probabilities[model.bar : model.bar + 60]
        np.testing.assert_allclose(actual, expected, rtol=0.0, atol=2e-4)


def test_an_svm_of_two_classes_has_no_probability_of_the_third() -> None:
    market = np.zeros(60)
    market[::3] = 0.25
    market[1::6] = 0.125
    parameters = {"lookback": 5, "train_bars": 40, "refit_bars": 15, "horizon": 1}
    found = fit_regimes(market, "svm", parameters, True)
    model = found.models[0]
    assert isinstance(model, SvmModel) and model.codes.tolist() == [NEUTRAL, BULL]
    assert found.probabilities is not None
    shares = found.probabilities[45:]
    assert (shares[:, 0] == 0.0).all()
    assert shares[found.codes[45:] == BULL, 1].min() > shares[found.codes[45:] != BULL, 1].max()


def test_without_folds_to_calibrate_by_the_frequencies_of_the_classes_count() -> None:
    """Each stretch of the window is alone with its class, so no machine of the others knows it."""
    market = np.repeat([0.01, 0.0, -0.01], 20) + np.linspace(0.0, 1e-5, 60)
    parameters = {"lookback": 2, "train_bars": 58, "refit_bars": 15, "horizon": 14}
    found = fit_regimes(np.concatenate((market[:1], market)), "svm", parameters, True)
    (model,) = found.models
    assert isinstance(model, SvmModel) and model.sigmoids is not None
    assert found.probabilities is not None
    np.testing.assert_allclose(model.sigmoids[:, 0], 0.0)
    np.testing.assert_allclose(found.probabilities[60], 1 / 3, atol=0.03)


def test_probabilities_stay_where_the_market_has_no_bar() -> None:
    bars = random_bars(300)
    parameters = parameters_of("hmm")
    whole = fit_market(bars, "BBB", "hmm", parameters, True)
    alone = fit_regimes(market_returns(bars, "BBB"), "hmm", parameters, True)
    assert whole.probabilities is not None and alone.probabilities is not None
    np.testing.assert_array_equal(whole.probabilities, alone.probabilities)
    absent = np.ones((300, 3), dtype=np.uint8)
    absent[200:205, 1] = 0
    gap = fit_market(replace(bars, present=absent), "BBB", "hmm", parameters, True)
    assert gap.probabilities is not None
    assert (gap.probabilities[200:205] == gap.probabilities[199]).all()


def test_without_a_classifier_both_are_0() -> None:
    found = fit_regimes(np.zeros(5), "none", {}, True)
    assert found.probabilities is not None and not found.probabilities.any()
