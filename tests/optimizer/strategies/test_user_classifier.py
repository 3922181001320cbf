"""Classifiers of the user's own: the same bits everywhere, trust, and mistakes with their place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimizer
from kernels.codes import BEAR, BULL, NEUTRAL
from optimizer.engine.shipping import Shipped
from optimizer.engine.tasks import fit_regime_model
from optimizer.errors import StrategyError, StudyFileError, UntrustedCodeError
from optimizer.flow.parity import compare
from optimizer.flow.prepared import prepare_flow, run_flow
from optimizer.market.regimes import fit_market, fit_regimes, market_returns
from optimizer.review.replay import replay
from optimizer.search.run import run_study
from optimizer.store.export import export_sets
from optimizer.strategies import approvals, user_classifier
from optimizer.strategies.bound_kernels import strategies_folder
from optimizer.strategies.user_classifier import UserClassifier, read_classifier
from optimizer.study_file.space import Value, build_space
from optimizer.study_file.study import Study, recorded_study, study_from_dict
from optimizer.sweep.inputs import prepare
from optimizer.sweep.rules import study_rules
from optimizer.sweep.single_set import single_set_study
from optimizer.sweep.tiles import Tile
from optimizer.sweep.try_signals import try_classifiers
from optimizer.types import Bars
from tests.support.causality import assert_causal
from tests.support.strategies import REGIME_ALONE
from tests.support.studies import mapping, random_bars, result_hashes, write_bars

WILD = """
import numpy as np

from optimizer import BEAR, BULL, NEUTRAL

PARAMETERS = {
    "lookback": (8, 2, 500),
    "train_bars": (60, 2, 5000),
    "refit_bars": (30, 1, 500),
    "wild": (1.1, 0.5, 10.0),
}


def fit(returns):
    return np.array([np.mean(returns), np.std(returns)])


def classify(returns, model, wild):
    if np.std(returns) > wild * model[1]:
        return BEAR
    return BULL if np.mean(returns) > model[0] else NEUTRAL
"""

SURE = '''
import numpy as np

PARAMETERS = {"lookback": (8, 2, 500), "train_bars": (60, 2, 5000), "share": (0.4, 0.0, 1.0)}


def fit(returns, train_bars, lookback):
    """A matrix, so that a model is any array of numbers."""
    assert len(returns) == train_bars
    means = np.convolve(returns, np.ones(lookback) / lookback, "valid")
    return np.quantile(means, [[0.3], [0.7]])


def classify(returns, model, lookback, share):
    assert len(returns) == lookback and model.shape == (2, 1)
    low, high = model[:, 0]
    rise = 1.0 / (1.0 + np.exp(-(np.mean(returns) - 0.5 * (low + high)) / (high - low)))
    return (1.0 - share) * (1.0 - rise), share, (1.0 - share) * rise
'''
"""Probabilities; parameters in both functions; ``refit_bars`` by default."""


@pytest.fixture(scope="module")
def bars() -> Bars:
    return random_bars()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, bars: Bars) -> Path:
    found = tmp_path_factory.mktemp("classifiers")
    (found / "wild.py").write_text(WILD)
    (found / "sure.py").write_text(SURE)
    (found / "reading.py").write_text(REGIME_ALONE)
    write_bars(found / "bars.parquet", bars)
    return found


def study_of(folder: Path, name: str = "wild", **more: Any) -> Study:
    table = {"name": name, "path": f"{name}.py", **more}
    return study_from_dict(mapping(classifier=table), folder)


@pytest.mark.parametrize("market", [None, "BBB"])
@pytest.mark.parametrize("name", ["wild", "sure"])
def test_events_equal_the_sweep(name: str, market: str | None, folder: Path, bars: Bars) -> None:
    parameters: dict[str, Value] = {"strategy": "momentum", "classifier": name}
    parameters |= {
        "momentum_lookback": 5,
        f"{name}_refit_bars": 40,
        "bear_multiplier": 0.2,
        "kelly_fraction": 0.2,
    }
    path = folder / f"{name}.py"
    found = optimizer.backtest(bars, parameters, market=market, holdout=0.3, classifier_path=path)
    study = single_set_study(parameters, {}, False, market, 0.3, own_classifier={"path": str(path)})
    assert compare(run_flow(study, bars), 0, found).differences == ()
    assert len(found.regimes.unique()) > 1


def test_its_probabilities_reach_signals(folder: Path, bars: Bars) -> None:
    parameters: dict[str, Value] = {"strategy": "reading", "classifier": "sure"}
    parameters["kelly_fraction"] = 0.2
    own = {"reading": {"path": str(folder / "reading.py")}}
    found = optimizer.backtest(
        bars,
        parameters,
        strategy_path=folder / "reading.py",
        classifier_path=folder / "sure.py",
    )
    own_classifier = {"path": str(folder / "sure.py")}
    study = single_set_study(parameters, {}, False, None, 0.0, own, own_classifier=own_classifier)
    assert compare(run_flow(study, bars), 0, found).differences == ()
    assert len(found.fills) > 10


def test_each_bar_is_judged_by_the_last_model_and_the_last_returns(
    folder: Path, bars: Bars
) -> None:
    """Against a plain loop over bars."""
    returns, values = market_returns(bars), {"lookback": 8, "train_bars": 60, "refit_bars": 25}
    classifier = read_classifier(folder / "sure.py", "sure")
    found = fit_regimes(returns, classifier, values, True)
    assert found.probabilities is not None
    given: dict[str, Any] = {}
    exec(SURE, given)
    model = None
    for t in range(bars.n_bars):
        if t >= 68 and (t - 68) % 25 == 0:
            model = given["fit"](returns[t - 59 : t + 1], 60, 8)
        bear, neutral, bull = 0.0, 1.0, 0.0
        if model is not None:
            bear, neutral, bull = given["classify"](returns[t - 7 : t + 1], model, 8, 0.4)
        expected = (0.0, 0.0) if model is None else (bear, bull)
        np.testing.assert_allclose(found.probabilities[t], expected, rtol=1e-12)
        code = NEUTRAL if neutral >= max(bear, bull) else BEAR if bear > bull else BULL
        assert found.codes[t] == code
    assert len(set(found.codes.tolist())) == 3


def test_it_is_causal(folder: Path, bars: Bars) -> None:
    classifier = read_classifier(folder / "sure.py", "sure")
    values = {"train_bars": 60, "refit_bars": 25}

    def both(returns: Any) -> Any:
        found = fit_regimes(returns, classifier, values, True)
        return found.codes, found.probabilities

    assert_causal(both, [market_returns(bars)[:200]], [68, 69, 93, 130, 199])


def test_workers_resume_export_and_replay(folder: Path, tmp_path: Path) -> None:
    study = study_of(folder, wild={"choices": [0.9, 1.2]}, refit_bars=40)
    study = study.with_(risk={"bear_multiplier": {"sweep": [0.0, 0.5]}})
    one = run_study(study, out=tmp_path / "one", workers=1)
    two = run_study(study, out=tmp_path / "two", workers=2)
    assert result_hashes(one.folder) == result_hashes(two.folder)
    rows = one.results()
    assert set(rows["classifier"]) == {"wild"} and set(rows["wild_wild"]) == {0.9, 1.2}
    found = replay(export_sets(tmp_path / "one"), events=True)
    assert found.differences == ()
    assert found.parity is not None and found.parity.differences == ()
    assert optimizer.resume_study(tmp_path / "one").study.user_code == study.user_code
    assert recorded_study(study.to_dict(), folder).content_hash == study.content_hash


def test_a_changed_file_is_refused_and_an_unchanged_copy_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bars(tmp_path / "bars.parquet", random_bars())
    (tmp_path / "wild.py").write_text(WILD + "# of its own\n")
    study = study_of(tmp_path)
    run_study(study, out=tmp_path / "out", workers=1)
    exported = export_sets(tmp_path / "out")
    (tmp_path / "wild.py").write_text(WILD + "# another\n")
    with pytest.raises(optimizer.errors.ExportError, match=r"classifiers wild: .*has changed"):
        replay(exported)
    monkeypatch.setattr(user_classifier, "_loaded", {})
    (classifier,) = build_space(study).user_classifiers
    assert classifier.functions().arguments["classify"] == ("returns", "model", "wild")
    hash_ = classifier.declaration.source_hash
    for copy in strategies_folder().glob(f"*/{hash_}.py"):
        copy.unlink()
    monkeypatch.setattr(user_classifier, "_loaded", {})
    with pytest.raises(StrategyError, match=r"wild\.py: has changed since the study ran"):
        classifier.functions()


def test_code_of_strangers_does_not_run(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = study_of(folder)
    monkeypatch.setattr(user_classifier, "_loaded", {})
    monkeypatch.setattr(approvals, "is_approved", lambda _: False)
    (classifier,) = build_space(recorded_study(study.to_dict(), folder)).user_classifiers
    for run in (classifier.functions, classifier.require_approval):
        with pytest.raises((UntrustedCodeError, StrategyError), match=r"wild\.py"):
            run()
    assert user_classifier._loaded == {}
    content = study.to_dict()
    del content["classifier"][0]["declared"]
    with pytest.raises(StudyFileError, match=r"declared.*missing"):
        recorded_study(content, folder)
    content = study.to_dict()
    content["classifier"][0]["declared"]["parameters"][0][2] = 1
    with pytest.raises(StudyFileError, match="no classifier file declares"):
        recorded_study(content, folder)


def test_a_cluster_gets_its_source(
    folder: Path, bars: Bars, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = study_of(folder)
    space = build_space(study)
    inputs = prepare(bars, space, study_rules(study, space, bars), 0.25)
    shipped = Shipped.of(study, inputs)
    assert [one for one, _ in shipped.sources] == list(study.user_code)
    monkeypatch.setattr(user_classifier, "_loaded", {})
    monkeypatch.setattr(UserClassifier, "source", None)  # a machine without the file
    (key,) = Tile.of(space.branches[0], space.branches[0].first_set()).regime_keys()[0]
    found, never = fit_regime_model(replace(shipped, key="elsewhere"), key)
    here = fit_market(bars, None, key[0], dict(key[2]))
    np.testing.assert_array_equal(found.codes, here.codes)
    assert never == ""


def test_a_flow_shares_it_with_other_processes(folder: Path, bars: Bars) -> None:
    study = study_of(folder).with_(
        strategy={"lookback": 5, "threshold": 0.0},
        risk={"kelly_fraction": 0.2, "max_exposure": 1.0, "volatility_lookback": 10},
    )
    shared = prepare_flow(study, bars).shared()
    assert shared.accepted == tuple(one.declaration.source_hash for one in study.user_code)
    there, here = shared.prepared([0]).run(), prepare_flow(study, bars).run()
    assert there.equity.equals(here.equity)


def test_no_model_keeps_the_one_before(tmp_path: Path, bars: Bars) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "def fit(returns):\n"
        "    return None if returns[-1] > 0.0 else [returns[-1]]\n"
        "def classify(returns, model):\n"
        "    return -1 if model[0] < -0.005 else 1\n"
    )
    classifier, returns = read_classifier(path, "mine"), market_returns(bars)
    found = fit_regimes(returns, classifier, {"lookback": 2, "train_bars": 30, "refit_bars": 1})
    assert 0 < found.n_failed < 200 and "mine fit at bar" in found.reasons[0]
    last = [0.0]
    for t in range(32, bars.n_bars):
        last += [returns[t]] if returns[t] <= 0.0 else []
        expected = NEUTRAL if last == [0.0] else BEAR if last[-1] < -0.005 else BULL
        assert found.codes[t] == expected


def test_look_ahead_by_what_a_file_keeps_is_found(folder: Path, bars: Bars) -> None:
    assert optimizer.look_ahead_check(study_of(folder), bars) == []
    text = WILD.replace(
        "def fit(returns):\n", "SEEN = []\n\n\ndef fit(returns):\n    SEEN.append(1)\n"
    )
    text = text.replace("return BEAR\n", "return BEAR if len(SEEN) % 2 else BULL\n")
    (folder / "keeping.py").write_text(text)
    found = optimizer.look_ahead_check(study_of(folder, "keeping"), bars)
    assert {(one.kind, one.name) for one in found} == {("regime", "keeping")}


DECIDED = "return BULL if np.mean(returns) > model[0] else NEUTRAL"

MISTAKES = [
    (DECIDED, "return 7", 18, r"classify: returned 7; expected the probabilities"),
    (DECIDED, "return 0.2, 0.2, 0.2", 18, r"classify: returned \(0\.2, 0\.2, 0\.2\); expected"),
    (DECIDED, "return np.nan, 0.5, 0.5", 18, r"classify: returned \(nan, 0\.5, 0\.5\); expected"),
    (DECIDED, "return returns", 18, r"classify: returned an array of shape \(8,\)"),
    (DECIDED, "return 1 / 0", 21, r"classify: ZeroDivisionError: division by zero"),
    ("return np.array", "return str", 14, r"fit: returned '\["),
    (
        "np.std(returns)])",
        "np.nan])",
        14,
        r"fit: returned an array of shape \(2,\) .*; expected finite",
    ),
    ("np.mean(returns), ", "[1.0], ", 15, r"fit: ValueError: "),
    ("def fit(", "def fits(", 1, r"no function fit\(returns, parameters\.\.\.\) is defined here"),
    ("def fit(returns)", "def fit()", 14, r"fit: does not take returns; expected fit\(returns"),
    (
        "model, wild)",
        "model, mild)",
        18,
        r"classify: unknown argument mild; valid: returns, model, lookb",
    ),
    (
        "model, wild)",
        "model, wild=1)",
        18,
        r"classify: argument wild: no \*, \*\* or default values",
    ),
    ("model, wild)", "model)", 10, r"PARAMETERS: wild is an argument of neither fit nor classify"),
    ("(1.1, 0.5", "(0.1, 0.5", 10, r"PARAMETERS: wild: default 0\.1 is not within 0\.5 to 10\.0"),
    (
        "(8, 2, 500)",
        "(8, 1, 500)",
        7,
        r"lookback: got \(8, 1, 500\); expected whole numbers of bars from 2",
    ),
    ("(8, 2, 500)", "8", 7, r"PARAMETERS: lookback: got 8; expected \(default, lowest, highest\)"),
    ('"wild": (', '"market": (', 10, r"PARAMETERS: market already has a meaning"),
    ("import numpy", "import numpyy", 2, r"running the file: ModuleNotFoundError"),
]


@pytest.mark.parametrize(("old", "new", "line", "message"), MISTAKES)
def test_a_mistake_is_one_line_with_its_place(
    old: str, new: str, line: int, message: str, tmp_path: Path, bars: Bars
) -> None:
    assert old in WILD
    (tmp_path / "wild.py").write_text(WILD.replace(old, new, 1))
    with pytest.raises(StrategyError, match=message) as caught:
        try_classifiers(bars, build_space(study_of(tmp_path)))
    text = str(caught.value)
    assert f"wild.py:{line}: " in text and "\n" not in text


def test_mistakes_of_the_table_are_named(folder: Path) -> None:
    for table, message in (
        (
            {"name": "wild"},
            r'\[classifier\] name: got "wild"; .*one of your own also takes path = "wild\.py"',
        ),
        ({"name": "hmm", "path": "wild.py"}, r"the name of a built-in; choose another"),
        ({"path": "wild.py"}, r'missing; add name = "my_classifier"'),
        ({"name": "wild", "path": "wild.py", "mild": 1}, r"mild: unknown key"),
        ({"name": "wild", "path": "wild.py", "wild": 11}, r"wild: .*11"),
        ({"name": "momentum_x", "path": "wild.py"}, None),
    ):
        content = mapping()
        content["classifier"] = table
        if message is None:
            assert study_from_dict(content, folder).classifiers[0].name == "momentum_x"
            continue
        with pytest.raises(StudyFileError, match=message):
            study_from_dict(content, folder)
    with pytest.raises(StrategyError, match=r"\[classifier\] path = .*no such file"):
        study_of(folder, "absent")
    for name in ("volatility", "correlation", "atr"):  # and lookback, which every classifier has
        content = {**mapping(), "classifier": {"name": name, "path": "wild.py"}}
        with pytest.raises(
            StrategyError, match=rf"lookback: the column {name}_lookback is built in"
        ):
            study_from_dict(content, folder)


def test_a_strategy_and_a_classifier_have_columns_of_their_own(folder: Path) -> None:
    content = mapping()
    content["strategy"] = {"name": "reading", "path": "reading.py"}
    content["classifier"] = {"name": "reading", "path": "wild.py"}
    with pytest.raises(StudyFileError, match="a strategy is called reading too"):
        study_from_dict(content, folder)
