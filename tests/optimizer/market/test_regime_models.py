"""Walk-forward regimes: causality, purge, naming of states, failed fits, determinism."""

from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hmmlearn.hmm import GaussianHMM
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.svm import SVC

from kernels import hidden_markov
from kernels import regimes as kernel
from kernels.codes import BEAR, BULL, NEUTRAL
from optimizer.errors import DataError, StudyFileError
from optimizer.market import hmm, regime_models, svm
from optimizer.market import regimes as regimes_module
from optimizer.market.hmm import HmmModel, Names
from optimizer.market.regime_models import RegimeModel
from optimizer.market.regimes import fit_regimes, market_features, market_returns, training_window
from optimizer.market.svm import SvmModel, forward_returns
from optimizer.types import Bars
from tests.reference import regimes as reference
from tests.support.causality import assert_causal

FloatArray = npt.NDArray[np.float64]

REPOSITORY = Path(__file__).parents[3]
DAILY = REPOSITORY / "studies" / "data" / "us_daily.parquet"

SMALL = {"lookback": 5, "train_bars": 40, "refit_bars": 15}
SMALL_SVM = {**SMALL, "horizon": 4}
YEARLY = {"lookback": 20, "train_bars": 252, "refit_bars": 63}
FIRST = 272
"""Bar of the first fit under YEARLY."""


def parameters_of(name: str, base: dict[str, int]) -> dict[str, int]:
    return {**base, "horizon": 5} if name == "svm" else base


def bars_of(close: FloatArray, symbols: Sequence[str]) -> Bars:
    days = np.datetime64("2000-01-03", "ns") + np.arange(len(close)) * np.timedelta64(1, "D")
    close = np.array(close, order="C")
    return Bars(
        tuple(symbols), days, close, close, close, close, close, 252.0, source="bars.parquet"
    )


@pytest.fixture(scope="module")
def daily() -> Bars:
    table = pd.read_parquet(DAILY).pivot(index="timestamp", columns="symbol", values="close")
    return bars_of(table.to_numpy(), list(table.columns))


@pytest.fixture(scope="module")
def returns(daily: Bars) -> FloatArray:
    """The market of 2007 to 2010: a crash inside."""
    return market_returns(daily)[450:1350]


def noise(n_bars: int, seed: int = 0) -> FloatArray:
    return np.random.default_rng(seed).normal(0.0003, 0.01, n_bars)


def arrays_of(model: RegimeModel | Names) -> dict[str, object]:
    return {
        field.name: value.tolist()
        if isinstance(value, np.ndarray)
        else arrays_of(value)
        if isinstance(value, Names)
        else value
        for field in fields(model)  # type: ignore[arg-type]
        for value in [getattr(model, field.name)]
    }


def test_the_market_is_the_equal_weighted_index(daily: Bars) -> None:
    index = 1.0 + pd.DataFrame(daily.close).pct_change().mean(axis=1).fillna(0.0)
    levels = np.cumprod(index.to_numpy())
    actual = market_returns(daily)
    assert actual[0] == 0.0
    np.testing.assert_allclose(np.exp(np.cumsum(actual)), levels, rtol=1e-10)


def test_the_market_can_be_one_symbol(daily: Bars) -> None:
    close = daily.close[:, daily.symbols.index("SPY")]
    actual = market_returns(daily, "SPY")
    np.testing.assert_allclose(actual[1:], np.diff(np.log(close)), rtol=1e-9, atol=1e-15)
    alone = bars_of(close[:, None], ["SPY"])
    np.testing.assert_array_equal(market_returns(alone), actual)


def test_an_unknown_market_symbol_is_named() -> None:
    with pytest.raises(DataError, match=r"bars\.parquet: .*'ZZZ'.*AAA, BBB"):
        market_returns(bars_of(np.ones((3, 2)), ["AAA", "BBB"]), "ZZZ")


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("hm", {}, "'hm'.*none, hmm, svm"),
        ("hmm", {"horizon": 5}, "hmm: 'horizon'.*lookback, train_bars, refit_bars"),
        ("none", {"lookback": 5}, "none: 'lookback'"),
        ("svm", {"lookback": 1}, r"svm: lookback = 1: must lie in 2 \.\. 100000"),
        ("hmm", {"refit_bars": 0}, "refit_bars = 0"),
    ],
)
def test_wrong_parameters_are_named(name: str, parameters: dict[str, int], message: str) -> None:
    with pytest.raises(StudyFileError, match=message):
        fit_regimes(noise(50), name, parameters)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_return_that_is_not_finite_is_named(value: float) -> None:
    bad = noise(100)
    bad[17] = value
    with pytest.raises(DataError, match="bar 17"):
        fit_regimes(bad, "hmm", SMALL)


def test_no_classifier_is_neutral() -> None:
    regimes = fit_regimes(noise(50), "none", {})
    assert regimes.codes.dtype == np.int8
    assert (regimes.codes == NEUTRAL).all()
    assert (regimes.n_fits, regimes.n_failed, regimes.reasons) == (0, 0, ())


@pytest.mark.parametrize("name", ["hmm", "svm"])
class TestBoth:
    """What holds for either classifier."""

    def test_neutral_before_the_first_fit_and_fits_on_schedule(
        self, name: str, returns: FloatArray
    ) -> None:
        regimes = fit_regimes(returns, name, parameters_of(name, YEARLY))
        assert regimes.codes.shape == returns.shape
        assert regimes.codes.dtype == np.int8
        assert (regimes.codes[:FIRST] == NEUTRAL).all()
        assert set(regimes.codes[FIRST:].tolist()) == {BEAR, NEUTRAL, BULL}
        assert [model.bar for model in regimes.models] == list(range(FIRST, 900, 63))
        assert regimes.n_fits == 10
        assert (regimes.n_failed, regimes.reasons) == (0, ())

    def test_codes_of_the_past_do_not_change_on_real_bars(
        self, name: str, returns: FloatArray
    ) -> None:
        # At the bar of a fit, just after it, within the label's horizon of it, and between fits.
        cuts = [FIRST, FIRST + 1, FIRST + 3, FIRST + 64, FIRST + 66, 500, FIRST + 63 * 5 + 1]
        assert_causal(
            lambda r: fit_regimes(r, name, parameters_of(name, YEARLY)).codes, [returns], cuts
        )

    @given(cut=st.integers(0, 110), seed=st.integers(0, 1000))
    @settings(max_examples=8, deadline=None)
    def test_codes_of_the_past_do_not_change_wherever_cut(
        self, name: str, cut: int, seed: int
    ) -> None:
        parameters = SMALL_SVM if name == "svm" else SMALL
        assert_causal(lambda r: fit_regimes(r, name, parameters).codes, [noise(110, seed)], [cut])

    def test_models_of_the_past_do_not_change(self, name: str, returns: FloatArray) -> None:
        parameters = parameters_of(name, YEARLY)
        bar = FIRST + 63 * 3
        whole = fit_regimes(returns, name, parameters).models[:4]
        cut = fit_regimes(returns[: bar + 1], name, parameters).models
        assert [arrays_of(m) for m in cut] == [arrays_of(m) for m in whole]
        assert cut[-1].bar == bar
        # And the last bar is indeed used: its return enters the last fit.
        different = []
        for move in (-0.5, 0.5):  # One of them changes the newest label at least.
            moved = returns[: bar + 1].copy()
            moved[bar] = move
            last = fit_regimes(moved, name, parameters).models[-1]
            different.append(arrays_of(last) != arrays_of(whole[-1]))
        assert any(different)

    def test_a_window_that_reaches_past_its_bar_is_caught(
        self, name: str, returns: FloatArray, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def leaking(bar: int, train_bars: int) -> slice:
            honest = training_window(bar, train_bars)
            # As many bars more as the label's horizon: every label of the honest window, unpurged.
            return slice(honest.start, honest.stop + 5)

        monkeypatch.setattr(regimes_module, "training_window", leaking)
        cuts = [bar + after for bar in range(FIRST, 900, 63) for after in (1, 3, 5)]
        with pytest.raises(AssertionError, match="changes when"):
            assert_causal(
                lambda r: fit_regimes(r, name, parameters_of(name, YEARLY)).codes, [returns], cuts
            )

    def test_one_bar_at_a_time_gives_the_same_bits(self, name: str, daily: Bars) -> None:
        close = daily.close[450:950]
        market = market_returns(bars_of(close, daily.symbols))
        regimes = fit_regimes(market, name, parameters_of(name, YEARLY))
        by_bar = {model.bar: model for model in pickle.loads(pickle.dumps(regimes.models))}

        ring, seen = np.zeros(20), np.zeros(1, np.int64)
        features = np.empty((1, 2))
        model: RegimeModel | None = None
        carried = np.empty(0)
        codes = []
        for t in range(len(close)):
            log_return = kernel.market_return_step(close[t - 1], close[t]) if t else 0.0
            kernel.market_features_step(log_return, ring, seen, features[0])
            if t in by_bar:
                model = by_bar[t]
                carried = model.carried()
            codes.append(NEUTRAL if model is None else int(model.classify(features, carried)[0]))
        np.testing.assert_array_equal(codes, regimes.codes)
        assert len(set(codes)) == 3

    @given(cut=st.integers(1, 62))
    @settings(max_examples=5, deadline=None)
    def test_a_stretch_cut_anywhere_carries_its_state(self, name: str, cut: int) -> None:
        market = noise(400, seed=4)
        regimes = fit_regimes(market, name, parameters_of(name, YEARLY))
        features = market_features(market, 20)[FIRST : FIRST + 63]
        carried = regimes.models[0].carried()
        parts = [
            regimes.models[0].classify(features[:cut], carried),
            regimes.models[0].classify(features[cut:], carried),
        ]
        np.testing.assert_array_equal(np.concatenate(parts), regimes.codes[FIRST : FIRST + 63])

    def test_too_few_bars_are_neutral_and_say_so(self, name: str) -> None:
        parameters = SMALL_SVM if name == "svm" else SMALL
        regimes = fit_regimes(noise(45), name, parameters)
        assert (regimes.codes == NEUTRAL).all()
        assert (regimes.n_fits, regimes.n_failed) == (0, 0)
        assert regimes.reasons == (
            f"45 bars, and the first fit of {name} needs 46 (lookback + train_bars + 1): "
            "neutral throughout",
        )
        one = fit_regimes(noise(46), name, parameters)
        assert [model.bar for model in one.models] == [45]
        assert (one.codes[:45] == NEUTRAL).all()
        assert one.reasons == ()

    @pytest.mark.parametrize("value", [0.0, 0.01, -0.3])
    def test_constant_returns_are_neutral_and_counted(self, name: str, value: float) -> None:
        still = np.full(100, value) * (1.0 + 1e-15 * noise(100))
        regimes = fit_regimes(still, name, SMALL_SVM if name == "svm" else SMALL)
        assert (regimes.codes == NEUTRAL).all()
        assert (regimes.n_fits, regimes.n_failed) == (0, 4)
        assert [line.split(":")[0] for line in regimes.reasons] == [
            f"{name} fit at bar {bar}" for bar in (45, 60, 75, 90)
        ]
        assert all("constant" in line for line in regimes.reasons)

    def test_after_a_failed_fit_the_model_before_goes_on(
        self, name: str, returns: FloatArray, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fit: Callable[..., RegimeModel] = getattr(regimes_module, f"fit_{name}")

        def failing(bar: int, *arguments: object) -> RegimeModel:
            if bar == FIRST + 63:
                raise regime_models.FitError("on purpose")
            return fit(bar, *arguments)

        monkeypatch.setattr(regimes_module, f"fit_{name}", failing)
        regimes = fit_regimes(returns[:450], name, parameters_of(name, YEARLY))
        assert [model.bar for model in regimes.models] == [FIRST, FIRST + 126]
        assert regimes.n_failed == 1
        assert regimes.reasons == (f"{name} fit at bar {FIRST + 63}: on purpose",)
        model = regimes.models[0]
        features = market_features(returns, 20)[FIRST : FIRST + 126]
        expected = model.classify(features, model.carried())
        np.testing.assert_array_equal(regimes.codes[FIRST : FIRST + 126], expected)

    def test_fits_leave_the_process_as_it_was(
        self,
        name: str,
        capfd: pytest.CaptureFixture[str],
        caplog: pytest.LogCaptureFixture,
        recwarn: pytest.WarningsRecorder,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(hmm, "_TRANSITION_PRIOR", 3.0)  # Makes fits fail.
        before = np.random.get_state(legacy=False)  # noqa: NPY002
        for seed in range(3):
            fit_regimes(noise(100, seed), name, SMALL_SVM if name == "svm" else SMALL)
        np.testing.assert_equal(np.random.get_state(legacy=False), before)  # noqa: NPY002
        assert capfd.readouterr() == ("", "")
        assert caplog.records == []
        assert list(recwarn) == []

    def test_read_only_returns_are_taken(self, name: str) -> None:
        market = noise(80)
        parameters = SMALL_SVM if name == "svm" else SMALL
        expected = fit_regimes(market, name, parameters).codes
        market.flags.writeable = False
        np.testing.assert_array_equal(fit_regimes(market, name, parameters).codes, expected)


def planted(n_bars: int = 3000) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Calm rises and wild falls by turns, some 150 bars each; True where it falls."""
    rng = np.random.default_rng(42)
    falls = np.zeros(n_bars, bool)
    bar = 0
    fall = False
    while bar < n_bars:
        length = int(rng.integers(100, 200))
        falls[bar : bar + length] = fall
        bar += length
        fall = not fall
    drift = np.where(falls, -0.004, 0.002)
    return drift + np.where(falls, 0.02, 0.007) * rng.normal(size=n_bars), falls


@pytest.mark.parametrize("name", ["hmm", "svm"])
def test_planted_regimes_are_recovered(name: str) -> None:
    market, falls = planted()
    regimes = fit_regimes(market, name, {"lookback": 20, "train_bars": 504, "refit_bars": 126})
    codes, falls = regimes.codes[524:], falls[524:]
    decided = codes != NEUTRAL
    assert decided.mean() > 0.6
    right = (codes == BEAR) == falls
    assert right[decided & falls].mean() > 0.75
    assert right[decided & ~falls].mean() > 0.75


def emissions(model: RegimeModel) -> list[list[tuple[float, float]]]:
    """Mean and standard deviation of each feature in each state, in units of the features."""
    assert isinstance(model, HmmModel)
    means = model.location + model.scale * model.means
    deviations = model.scale * np.sqrt(np.diagonal(model.covariances, axis1=1, axis2=2))
    return [
        list(zip(mean, deviation, strict=True))
        for mean, deviation in zip(means.tolist(), deviations.tolist(), strict=True)
    ]


def turning(n_bars: int = 2600) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """Calm, middling and wild stretches by turns, and which each bar is of.

    Calm stretches gain most at first. From the middle on they lose, and the wild ones gain.
    """
    rng = np.random.default_rng(7)
    kinds = np.repeat(np.tile([2, 1, 0], n_bars)[: n_bars // 50 + 1], 50)[:n_bars]
    drifts = np.where(np.arange(n_bars)[:, np.newaxis] < n_bars // 2, [1, 0, -1], [-1, 0, 1])
    drift = 0.0015 * drifts[np.arange(n_bars), kinds]
    return drift + np.array([0.002, 0.008, 0.03])[kinds] * rng.normal(size=n_bars), kinds


TURNING = {"lookback": 10, "train_bars": 600, "refit_bars": 100}


def test_names_of_states_do_not_flip_between_refits() -> None:
    market, kinds = turning()
    regimes = fit_regimes(market, "hmm", TURNING)
    order_by_mean = [np.argsort([state[0][0] for state in emissions(m)]) for m in regimes.models]
    assert order_by_mean[0].tolist() == [0, 1, 2], "the first fit sorts by mean return"
    assert any(order.tolist() == [2, 1, 0] for order in order_by_mean), "sorting would flip them"
    codes, kinds = regimes.codes[610:], kinds[610:]
    for half in (slice(0, 600), slice(1200, None)):
        for code, kind in ((BULL, 0), (BEAR, 2)):
            assert (codes[half][kinds[half] == kind] == code).mean() > 0.7
            assert (codes[half][kinds[half] == kind] == -code).mean() < 0.05


@pytest.mark.parametrize("series", ["turning", "daily"])
def test_states_take_the_names_of_the_nearest_before(series: str, returns: FloatArray) -> None:
    market, parameters = (turning()[0], TURNING) if series == "turning" else (returns, YEARLY)
    models = fit_regimes(market, "hmm", parameters).models
    assert len(models) > 8
    for number in range(1, len(models)):
        earlier = [emissions(model) for model in models[:number]]
        model = models[number]
        assert isinstance(model, HmmModel)
        distances = [
            [
                sum(
                    reference.transport_cost(
                        reference.mixture([fit[name][feature] for fit in earlier]), state[feature]
                    )
                    / model.scale[feature] ** 2
                    for feature in (0, 1)
                )
                for state in emissions(model)
            ]
            for name in range(3)
        ]
        assert reference.nearest_order(distances) == (0, 1, 2)


def test_the_first_hmm_sorts_its_states_by_mean_return(returns: FloatArray) -> None:
    for number, model in enumerate(fit_regimes(returns, "hmm", YEARLY).models):
        assert isinstance(model, HmmModel)
        assert number or (np.diff(model.means[:, 0]) > 0.0).all()
        np.testing.assert_allclose(model.transition.sum(axis=1), 1.0, rtol=1e-12)
        # No state is closed: a tenth of a transition among at most 252 of a row.
        assert (model.transition > 0.1 / 253).all()
        assert model.predicted.sum() == pytest.approx(1.0)


def test_each_hmm_starts_from_its_own_prediction(
    returns: FloatArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[HmmModel, FloatArray]] = []
    classify = HmmModel.classify

    def recording(self: HmmModel, features: FloatArray, carried: FloatArray, *out: Any) -> object:
        given.append((self, carried.copy()))
        return classify(self, features, carried, *out)

    monkeypatch.setattr(HmmModel, "classify", recording)
    fit_regimes(returns[:500], "hmm", YEARLY)
    assert len(given) == 4
    for model, carried in given:
        np.testing.assert_array_equal(carried, model.predicted)


@pytest.fixture
def fitted_hmms(monkeypatch: pytest.MonkeyPatch) -> list[tuple[GaussianHMM, FloatArray]]:
    """What hmmlearn fits to each window from each start, in the order of our fits."""
    seen: list[tuple[GaussianHMM, FloatArray]] = []
    fit = hidden_markov.maximise_hmm

    def recording(x: FloatArray, *given: Any) -> tuple[int, float, float]:
        full, most, tolerance, transition_prior, variance_prior, *start = given
        assert not full
        model = GaussianHMM(
            3, covariance_type="diag", transmat_prior=transition_prior, n_iter=most,
            tol=tolerance, covars_prior=variance_prior, init_params="",
        )  # fmt: skip
        model.startprob_, model.transmat_, model.means_ = (one.copy() for one in start[:3])
        model.covars_ = np.diagonal(start[3], axis1=1, axis2=2).copy()
        seen.append((model.fit(x), x.copy()))
        return fit(x, *given)

    monkeypatch.setattr(hmm, "maximise_hmm", recording)
    return seen


def test_hmm_codes_are_the_last_posteriors_of_hmmlearn(
    returns: FloatArray, fitted_hmms: list[tuple[GaussianHMM, FloatArray]]
) -> None:
    n_bars = FIRST + 40
    codes = fit_regimes(returns[:n_bars], "hmm", YEARLY).codes
    hmm, window = max(fitted_hmms, key=lambda one: one[0].monitor_.history[-1])
    assert len(fitted_hmms) == 2
    rolling = pd.Series(returns).rolling(20)
    features = pd.concat([rolling.mean(), rolling.std()], axis=1).to_numpy()
    start = FIRST - 251
    rows = features[start : FIRST + 1]
    np.testing.assert_allclose(
        window, (rows - rows.mean(axis=0)) / rows.std(axis=0), rtol=1e-7, atol=1e-9
    )
    names = np.argsort(np.argsort(hmm.means_[:, 0])) + BEAR
    observed = (features[start:n_bars] - rows.mean(axis=0)) / rows.std(axis=0)
    for bar in range(FIRST, n_bars):
        posterior = hmm.predict_proba(observed[: bar - start + 1])[-1]
        assert codes[bar] == names[posterior.argmax()]


def test_the_likelier_of_two_starts_is_kept(
    returns: FloatArray, fitted_hmms: list[tuple[GaussianHMM, FloatArray]]
) -> None:
    models = fit_regimes(returns, "hmm", YEARLY).models
    pairs = list(zip(fitted_hmms[::2], fitted_hmms[1::2], strict=True))
    by_first = 0
    for model, pair in zip(models, pairs, strict=True):
        assert isinstance(model, HmmModel)
        first, second = (hmm.score(window) for hmm, window in pair)
        by_first += first > second + 1.0
        likelier = pair[0][0] if first > second else pair[1][0]
        if abs(first - second) > 1.0:
            order = [np.abs(likelier.means_[:, 0] - mean).argmin() for mean in model.means[:, 0]]
            np.testing.assert_allclose(model.means, likelier.means_[order], rtol=0, atol=1e-9)
            transition = likelier.transmat_[order][:, order]
            np.testing.assert_allclose(model.transition, transition, rtol=0, atol=1e-9)
    assert by_first > 0
    assert by_first < len(pairs)


def test_smoothing_instead_of_filtering_is_caught(
    returns: FloatArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = hidden_markov.hmm_filter

    def smoothing(observations: FloatArray, predicted: FloatArray, *model: FloatArray) -> None:
        honest(observations, predicted, *model)
        transition, filtered = model[0], model[-1]
        filtered[:] = reference.smoothed(filtered.tolist(), transition.tolist())

    monkeypatch.setattr(hmm, "hmm_filter", smoothing)
    cuts = range(FIRST + 10, FIRST + 63 * 3, 10)
    with pytest.raises(AssertionError, match="changes when"):
        assert_causal(lambda r: fit_regimes(r, "hmm", YEARLY).codes, [returns[:470]], cuts)


def test_an_hmm_that_does_not_converge_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hmm, "_MAX_ITERATIONS", 2)
    regimes = fit_regimes(noise(80), "hmm", SMALL)
    assert (regimes.codes == NEUTRAL).all()
    assert regimes.n_failed == 3
    assert all("did not converge: iteration 2 of at most 2" in line for line in regimes.reasons)


def test_an_hmm_whose_likelihood_falls_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hmm, "_TRANSITION_PRIOR", 100.0)
    regimes = fit_regimes(noise(46), "hmm", SMALL)
    assert regimes.n_failed == 1
    assert "moved the log-likelihood by -" in regimes.reasons[0]


@pytest.mark.parametrize(
    ("means", "reason"),
    [
        (np.full((3, 2), np.nan), "not finite"),
        (np.array([[0.0, 0.0], [0.1, 0.0], [1e6, 1e6]]), "less than one bar"),
    ],
)
def test_a_degenerate_hmm_is_refused(
    means: FloatArray, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = hidden_markov.maximise_hmm

    def degenerate(*given: Any) -> tuple[int, float, float]:
        found = fit(*given)
        given[-2][:] = means
        return found

    monkeypatch.setattr(hmm, "maximise_hmm", degenerate)
    regimes = fit_regimes(noise(50), "hmm", SMALL)
    assert regimes.n_failed == 1
    assert reason in regimes.reasons[0]


@pytest.mark.parametrize(("n_states", "codes"), [(2, {-1, 1}), (4, {-1, 0, 1})])
@pytest.mark.parametrize("full", [0, 1])
def test_two_to_four_states(n_states: int, codes: set[int], full: int, returns: FloatArray) -> None:
    parameters = {**YEARLY, "n_states": n_states, "full_covariance": full}
    regimes = fit_regimes(returns, "hmm", parameters)
    assert regimes.models, regimes.reasons
    assert set(regimes.codes[FIRST:].tolist()) <= {0, *codes}
    assert codes - {0} <= set(regimes.codes.tolist())
    for model in regimes.models:
        assert isinstance(model, HmmModel)
        assert model.means.shape == (n_states, 2)
        assert (model.covariances[:, 0, 1] != 0.0).all() == bool(full)
    assert_causal(
        lambda r: fit_regimes(r, "hmm", parameters).codes, [returns[:420]], range(FIRST, 420, 40)
    )


@given(st.integers(0, 30), st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_forward_returns_end_inside(n_bars: int, horizon: int) -> None:
    market = noise(n_bars)
    expected = [
        sum(market[bar + 1 : bar + horizon + 1])
        for bar in range(n_bars)
        if bar + horizon <= n_bars - 1
    ]
    np.testing.assert_allclose(forward_returns(market, horizon), expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("horizon", [1, 5, 20])
def test_svm_rows_are_purged(
    horizon: int, returns: FloatArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[tuple[FloatArray, npt.NDArray[np.int8]]] = []
    fit = SVC.fit

    def recording(self: SVC, x: FloatArray, y: npt.NDArray[np.int8]) -> SVC:
        used.append((x.copy(), y.copy()))
        return fit(self, x, y)

    monkeypatch.setattr(SVC, "fit", recording)
    fit_regimes(returns[:500], "svm", {**YEARLY, "horizon": horizon})
    assert len(used) == 4

    features = np.array(reference.market_features(returns.tolist(), 20))
    for (rows, labels), bar in zip(used, range(FIRST, 500, 63), strict=True):
        window = range(bar - 251, bar + 1)
        honest = [i for i in window if i + horizon <= bar]
        assert len(rows) == len(honest) == 252 - horizon
        expected = features[honest]
        expected = (expected - expected.mean(axis=0)) / expected.std(axis=0)
        np.testing.assert_allclose(rows, expected, rtol=1e-9, atol=1e-9)
        # The very last return known at `bar` ends the last label, and none goes beyond.
        forward = [sum(returns[i + 1 : i + horizon + 1].tolist()) for i in honest]
        assert labels.tolist() == reference.tercile_labels(forward)


def test_svm_codes_are_the_predictions_of_scikit_learn(
    returns: FloatArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted: list[SVC] = []
    fit = SVC.fit

    def recording(self: SVC, x: FloatArray, y: npt.NDArray[np.int8]) -> SVC:
        fitted.append(fit(SVC(C=1.0, gamma="scale"), x, y))  # The gamma of scikit-learn itself.
        return fit(self, x, y)

    monkeypatch.setattr(SVC, "fit", recording)
    regimes = fit_regimes(returns, "svm", {**YEARLY, "horizon": 5})
    features = market_features(returns, 20)
    for model, svc in zip(regimes.models, fitted, strict=True):
        stretch = slice(model.bar, model.bar + 63)
        assert isinstance(model, SvmModel)
        expected = svc.predict((features[stretch] - model.location) / model.scale)
        np.testing.assert_array_equal(regimes.codes[stretch], expected)


def test_svm_with_two_classes_of_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    # Two thirds of the returns are 0 and the rest are positive: no label lies below a tercile.
    market = np.zeros(60)
    market[::3] = 0.25
    market[1::6] = 0.125
    fitted: list[SVC] = []
    fit = SVC.fit

    def recording(self: SVC, x: FloatArray, y: npt.NDArray[np.int8]) -> SVC:
        fitted.append(self)
        return fit(self, x, y)

    monkeypatch.setattr(SVC, "fit", recording)
    regimes = fit_regimes(market, "svm", {**SMALL, "horizon": 1})
    model = regimes.models[0]
    assert isinstance(model, SvmModel)
    assert model.codes.tolist() == [NEUTRAL, BULL]
    features = (market_features(market, 5)[45:] - model.location) / model.scale
    np.testing.assert_array_equal(regimes.codes[45:], fitted[0].predict(features))
    # The pattern repeats, so most of what comes next can be learnt.
    assert ((regimes.codes[45:59] == BULL) == (market[46:] > 0.0)).mean() > 0.8


def test_svm_with_one_class_of_labels_is_refused() -> None:
    market = np.tile([0.25, -0.125, 0.0], 20)  # Any three bars together return the same.
    regimes = fit_regimes(market, "svm", {**SMALL, "horizon": 3})
    assert (regimes.codes == NEUTRAL).all()
    assert (regimes.n_fits, regimes.n_failed) == (0, 1)
    assert "all labels of the window are the same" in regimes.reasons[0]


@pytest.mark.parametrize(("most", "step"), [(247, 1), (246, 2), (100, 3), (62, 4)])
def test_an_svm_of_many_rows_is_fitted_on_every_second_or_third(
    most: int, step: int, returns: FloatArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[FloatArray] = []
    fit = SVC.fit

    def recording(self: SVC, x: FloatArray, y: FloatArray) -> SVC:
        seen.append(x)
        return fit(self, x, y)

    monkeypatch.setattr(SVC, "fit", recording)
    monkeypatch.setattr(svm, "MOST_ROWS", most)
    fit_regimes(returns[: FIRST + 1], "svm", {**YEARLY, "horizon": 5})
    features = market_features(returns, 20)
    rows = features[[bar for bar in range(FIRST - 251, FIRST - 4) if (FIRST - 5 - bar) % step == 0]]
    (found,) = seen
    assert len(found) <= most
    np.testing.assert_allclose(found, (rows - rows.mean(axis=0)) / rows.std(axis=0), rtol=1e-9)


@pytest.mark.parametrize(("horizon", "labels"), [(38, 2), (40, 0), (500, 0)])
def test_a_horizon_longer_than_the_window_is_refused(horizon: int, labels: int) -> None:
    regimes = fit_regimes(noise(50), "svm", {**SMALL, "horizon": horizon})
    assert f"{labels} labels end within the window of 40 bars: lower horizon" in regimes.reasons[0]


FINGERPRINT = """
import hashlib, pickle, sys
import numpy as np
from optimizer.market.regimes import fit_regimes

market = np.frombuffer(sys.stdin.buffer.read())
digest = hashlib.sha256()
for name in ("hmm", "svm"):
    regimes = fit_regimes(market, name, {"lookback": 20, "train_bars": 252, "refit_bars": 63})
    digest.update(regimes.codes.tobytes())
    for model in regimes.models:
        digest.update(pickle.dumps(model))
print(digest.hexdigest())
"""


def test_the_same_bits_in_any_process_with_any_number_of_threads(returns: FloatArray) -> None:
    second = fit_regimes(returns, "svm", YEARLY)  # In another order than there.
    first = fit_regimes(returns, "hmm", YEARLY)
    digest = hashlib.sha256()
    for regimes in (first, second):
        digest.update(regimes.codes.tobytes())
        for model in regimes.models:
            digest.update(pickle.dumps(model))
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    environment = os.environ | dict.fromkeys(threads, "3") | {"PYTHONHASHSEED": "7"}
    done = subprocess.run(
        [sys.executable, "-c", FINGERPRINT],
        input=returns.tobytes(),
        capture_output=True,
        cwd=REPOSITORY,
        env=environment,
        check=True,
    )
    assert done.stdout.decode().strip() == digest.hexdigest()
    assert done.stderr == b""
