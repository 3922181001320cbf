"""Signals that read the probabilities of the regime: the same bits everywhere, and what they are told."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimizer
from kernels.layout import LANES
from optimizer.engine.compile import compile_kernels
from optimizer.engine.flow_workers import run_on_workers
from optimizer.engine.shipping import Shipped
from optimizer.engine.tasks import fit_regime_model
from optimizer.errors import FlowError, StrategyError
from optimizer.flow import look_ahead
from optimizer.flow.parity import compare
from optimizer.flow.prepared import prepare_flow, run_flow
from optimizer.flow.services.classifier import ClassifierConfig, StatelessClassifier
from optimizer.flow.services.strategy import StatelessStrategy, StrategyConfig
from optimizer.market.regimes import fit_market
from optimizer.review.replay import replay
from optimizer.review.stress import changes
from optimizer.review.stress.simulation import InSample
from optimizer.search.run import run_study
from optimizer.store.export import export_sets
from optimizer.study_file.space import Value, build_space
from optimizer.study_file.study import Study, study_from_dict
from optimizer.sweep import lanes
from optimizer.sweep.evaluate import evaluate
from optimizer.sweep.inputs import MarketRegime, RegimeKey, fit_key, prepare
from optimizer.sweep.rules import study_rules
from optimizer.sweep.single_set import single_set_study
from optimizer.sweep.tiles import Tile
from optimizer.sweep.try_signals import try_signals
from optimizer.types import Bars, Regime
from tests.support.strategies import MOMENTUM, REGIME, REGIME_ALONE
from tests.support.studies import mapping, random_bars, result_hashes, write_bars

FIT = {"lookback": 5, "train_bars": 60, "refit_bars": 40}
CLASSIFIERS: dict[str, dict[str, Any]] = {
    "none": {"name": "none"},
    "hmm": {"name": "hmm", **FIT, "n_states": 2},
    "hmm of BBB": {"name": "hmm", "market": "BBB", **FIT},
    "svm": {"name": "svm", **FIT, "horizon": 3},
}


@pytest.fixture(scope="module")
def bars() -> Bars:
    return random_bars()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, bars: Bars) -> Path:
    """The strategies and their bars."""
    found = tmp_path_factory.mktemp("regimes")
    (found / "mine.py").write_text(REGIME)
    (found / "plain.py").write_text(REGIME_ALONE)
    write_bars(found / "bars.parquet", bars)
    return found


def study_of(folder: Path, classifier: Any, path: str = "mine.py", **strategy: Any) -> Study:
    table = {"path": path, "name": path[:-3], "lookback": 3, **strategy}
    return study_from_dict({**mapping(classifier=classifier), "strategy": table}, folder)


@pytest.mark.parametrize("path", ["mine.py", "plain.py"])
@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_events_equal_the_sweep(classifier: str, path: str, folder: Path, bars: Bars) -> None:
    table = CLASSIFIERS[classifier]
    own = {f"{table['name']}_{k}": v for k, v in table.items() if k not in ("name", "market")}
    name = path[:-3]
    parameters = {"strategy": name, "classifier": table["name"], **own, "kelly_fraction": 0.2}
    market = table.get("market")
    vectorized = optimizer.backtest(
        bars, parameters, holdout=0.3, market=market, strategy_path=folder / path
    )
    own_strategies = {name: {"path": str(folder / path)}}
    flow = run_flow(single_set_study(parameters, {}, False, market, 0.3, own_strategies), bars)
    assert compare(flow, 0, vectorized).differences == ()
    assert (len(vectorized.fills) > 10) == (classifier != "none")


def test_a_combination_takes_what_its_strategies_take(folder: Path, bars: Bars) -> None:
    study = study_from_dict(
        {
            **mapping(classifier=CLASSIFIERS["hmm"]),
            "strategies": {"combine": "together", "rule": "vote"},
            "strategy": [
                {"name": "momentum", "lookback": 8, "threshold": 0.0},
                {"name": "plain", "path": "plain.py", "lookback": 3},
            ],
        },
        folder,
    )
    study = study.with_(
        risk={"kelly_fraction": 0.2, "max_exposure": 1.0, "volatility_lookback": 10}
    )
    flow = run_flow(study, bars)
    space = build_space(study)
    inputs = prepare(bars, space, study_rules(study, space, bars), 0.25)
    tile = Tile.of(space.branches[0], space.branches[0].lanes({}))
    (key,) = tile.regime_keys()[0]
    (found,) = evaluate(inputs, [tile], {key: fit_key(bars, key, True)[0]})
    assert found.in_sample[0].tolist() == list(flow.in_sample[0].values())
    assert flow.in_sample[0]["n_trades"] > 5


def test_a_set_trades_the_same_alone_and_among_others(
    folder: Path, bars: Bars, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sets of three models, of a strategy that takes probabilities and of one that does not."""
    study = study_from_dict(
        {
            **mapping(classifier={**CLASSIFIERS["hmm"], "n_states": {"choices": [2, 3, 4]}}),
            "strategy": [
                {"name": "mine", "path": "mine.py", "lookback": {"low": 1, "high": 9}},
                {"name": "momentum", "lookback": {"low": 10, "high": 30}, "threshold": 0.0},
            ],
        },
        folder,
    )
    space = build_space(study)
    inputs = prepare(bars, space, study_rules(study, space, bars), 0.25)
    rng, tiles = np.random.default_rng(3), []
    for branch, n_lanes in zip(space.branches, (LANES + 9, 5), strict=True):
        columns = {
            name: np.repeat(values[:1], n_lanes) for name, values in branch.first_set().items()
        }
        lookback = f"{branch.strategy.name}_lookback"
        columns[lookback] = columns[lookback] + rng.integers(0, 8, n_lanes)
        columns["hmm_n_states"] = rng.integers(2, 5, n_lanes).astype(np.float64)
        tiles.append(Tile.of(branch, columns))
    keys = {key for tile in tiles for key in tile.regime_keys()[0]}
    regimes = {key: fit_key(bars, key, True)[0] for key in keys}
    together = evaluate(inputs, tiles, regimes)
    assert len(np.unique(together[0].in_sample[:, 0])) > 15
    monkeypatch.setattr(lanes, "PROBABILITY_BYTES", 1)  # one model at a time
    assert lanes.models_at_once(bars.n_bars, bars.n_symbols) == 1
    for whole, part in zip(together, evaluate(inputs, tiles, regimes), strict=True):
        assert np.array_equal(whole.in_sample, part.in_sample, equal_nan=True)
    for tile, whole in zip(tiles, together, strict=True):
        for lane in {0, tile.n_lanes // 2, tile.n_lanes - 1}:
            alone = evaluate(inputs, [tile.slice(lane, lane + 1)], regimes)[0]
            np.testing.assert_array_equal(alone.in_sample[0], whole.in_sample[lane])
            np.testing.assert_array_equal(alone.out_of_sample[0], whole.out_of_sample[lane])
    codes = {key: MarketRegime(one.codes) for key, one in regimes.items()}
    (plain,) = evaluate(inputs, tiles[1:], codes)
    np.testing.assert_array_equal(plain.in_sample, together[1].in_sample)


def test_workers_export_and_replay(folder: Path, tmp_path: Path) -> None:
    study = study_of(
        folder,
        {**CLASSIFIERS["svm"], "horizon": {"choices": [2, 3]}},
        lookback={"low": 1, "high": 9},
        certain={"sweep": [0.34, 0.4]},
    )
    one = run_study(study, out=tmp_path / "one", workers=1)
    two = run_study(study, out=tmp_path / "two", workers=2)
    assert result_hashes(one.folder) == result_hashes(two.folder)
    exported = export_sets(tmp_path / "one")
    found = replay(exported, events=True)
    assert found.differences == ()
    assert found.parity is not None and found.parity.differences == ()


def test_decisions_one_bar_later_see_the_probabilities_of_the_bar_before(
    folder: Path, bars: Bars
) -> None:
    study = study_of(folder, CLASSIFIERS["hmm"]).with_(
        risk={"kelly_fraction": 0.2, "max_exposure": 1.0, "volatility_lookback": 10}
    )
    set_ = InSample(study, bars, None, 0.25, "universe")
    _, later = changes.delayed(set_)
    for key, found in later.items():
        shares, before = found.probabilities, set_.models[key].probabilities
        assert shares is not None and before is not None
        np.testing.assert_array_equal(shares[1:], before[:-1])


def test_a_cluster_fits_what_this_process_fits(folder: Path, bars: Bars) -> None:
    study = study_of(folder, CLASSIFIERS["svm"], path="plain.py")
    space = build_space(study)
    inputs = prepare(bars, space, study_rules(study, space, bars), 0.25)
    compile_kernels(inputs, space)
    (key,) = Tile.of(space.branches[0], space.branches[0].first_set()).regime_keys()[0]
    shipped, _ = fit_regime_model(Shipped.of(study, inputs), key)
    here = fit_market(bars, None, "svm", dict(key[2]), True)
    assert shipped.probabilities is not None and here.probabilities is not None
    np.testing.assert_array_equal(shipped.codes, here.codes)
    np.testing.assert_array_equal(shipped.probabilities, here.probabilities)
    assert here.probabilities.any()


def test_a_study_whose_strategies_take_none_computes_none(folder: Path, bars: Bars) -> None:
    study = study_from_dict(mapping(classifier=CLASSIFIERS["svm"]), folder)
    space = build_space(study)
    inputs = prepare(bars, space, study_rules(study, space, bars), 0.25)
    (key,) = Tile.of(space.branches[0], space.branches[0].first_set()).regime_keys()[0]
    assert fit_regime_model(Shipped.of(study, inputs), key)[0].probabilities is None


class Kept:
    """Rows of a trace."""

    def __init__(self) -> None:
        self.rows: dict[str, list[tuple[Any, ...]]] = {}

    def add(self, table: str, added: Any) -> None:
        self.rows.setdefault(table, []).extend(added)

    def end_bar(self, bar: int) -> None:
        pass


def test_a_trace_says_what_the_signal_was_told_on_any_number_of_processes(
    folder: Path, bars: Bars
) -> None:
    """One strategy under two models: signals of its own under each."""
    classifiers = [CLASSIFIERS["hmm"], {**CLASSIFIERS["svm"], "market": "BBB"}]
    study = study_of(folder, classifiers, path="plain.py")
    study = study.with_(
        risk={
            "kelly_fraction": {"sweep": [0.05, 0.2]},
            "max_exposure": 1.0,
            "volatility_lookback": 10,
        }
    )
    prepared = prepare_flow(study, bars, risk="all")
    one, two = Kept(), Kept()
    prepared.run(one)
    run_on_workers(prepared, two, 2)
    assert one.rows == two.rows
    assert len(one.rows["signals"]) == 2 * 3 * (bars.n_bars - prepared.first)
    assert len({row[0] for row in one.rows["signals"]}) == len(one.rows["signals"])
    expected = {
        spec.signal_key: fit_market(bars, *spec.regime[1::-1], dict(spec.regime[2]), True)
        for spec in prepared.specs
    }
    assert len(expected) == 2
    for row in one.rows["signals"]:
        told, shares = json.loads(row[7]), expected[row[1]].probabilities
        assert shares is not None
        found = [told["bear_probability"], told["bull_probability"]]
        assert found == shares[row[2]].tolist()


@pytest.mark.parametrize("name", ["bear_probability", "bull_probability"])
def test_its_names_are_taken(name: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(REGIME.replace('"certain": (', f'"{name}": ('))
    with pytest.raises(
        StrategyError, match=rf"mine\.py:4: PARAMETERS: {name} already has a meaning"
    ):
        study_of(tmp_path, CLASSIFIERS["none"])


def test_features_and_probabilities_share_the_places(tmp_path: Path) -> None:
    names = [f"f{i}" for i in range(31)]
    features = ", ".join(f'"{name}": ("sma", {i + 2})' for i, name in enumerate(names))
    (tmp_path / "mine.py").write_text(
        f"from optimizer import HOLD\nFEATURES = {{{features}}}\n"
        f"def signal({', '.join(names)}, bear_probability, bull_probability):\n"
        "    return HOLD, 0.0, bull_probability\n"
    )
    with pytest.raises(
        StrategyError,
        match=r"mine\.py:3: signal: takes 33 features and probabilities; .* at most 32",
    ):
        optimizer.backtest(random_bars(), {"strategy": "mine"}, strategy_path=tmp_path / "mine.py")


def test_a_signal_that_fails_only_under_some_probabilities_is_refused_at_the_start(
    tmp_path: Path, bars: Bars
) -> None:
    text = REGIME_ALONE.replace(
        "volatility, bull_probability", "volatility, 0.6 + bull_probability"
    )
    (tmp_path / "mine.py").write_text(text)
    said = (
        r"confidence 1\.3 with .*bear_probability = 0\.1, bull_probability = 0\.7.* \(bar \d+\), tried"
        " with a regime that may not occur there"
    )
    for classifier in ("hmm", "none"):
        study = study_of(tmp_path, CLASSIFIERS[classifier], certain=0.9)
        space = build_space(study)
        inputs = prepare(bars, space, study_rules(study, space, bars), 0.25)
        if classifier == "none":  # whose probabilities are always 0
            try_signals(inputs, space)
            continue
        with pytest.raises(StrategyError, match=said):
            try_signals(inputs, space)


def test_what_a_signal_takes_is_asked_for_by_name(folder: Path, bars: Bars) -> None:
    """Driven by hand: without the regime, without the position, without a model of probabilities."""
    study = study_of(folder, CLASSIFIERS["svm"])
    branch = build_space(study).branches[0]
    first = {name: float(values[0]) for name, values in branch.first_set().items()}
    config = StrategyConfig.of(branch.strategy, first, bars.bars_per_year)
    features = {name: np.ones(bars.n_symbols) for name in (*config.features, config.volatility)}
    ask = partial(StatelessStrategy.generate_signal, features, config, bars.at(90), 0, "an ID")
    with pytest.raises(FlowError, match=r"signal an ID: regime is None, .*takes bear_probability"):
        ask()
    with pytest.raises(FlowError, match=r"position has 3 values, and the strategy takes bars_held"):
        ask((0.0, 0.0, 0.0), Regime("", 1))
    key = Tile.of(branch, branch.first_set()).regime_keys()[0][0]
    returns = np.diff(np.log(bars.close[:, 0]))
    refit, config_of = StatelessClassifier.refit, ClassifierConfig()
    for stop in range(1, len(returns)):
        config_of = refit("svm", dict(key[2]), returns[:stop], config_of)
    assert config_of.model is not None
    with pytest.raises(FlowError, match="refit it with probabilities=True"):
        StatelessClassifier.classify_regime(np.zeros((1, 2)), config_of, True)


def test_probabilities_that_read_ahead_are_found(
    folder: Path, bars: Bars, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = study_of(folder, CLASSIFIERS["hmm"], path="plain.py")
    assert optimizer.look_ahead_check(study, bars) == []

    def leaking(bars: Bars, key: RegimeKey, probabilities: bool) -> tuple[MarketRegime, str]:
        regime, never = fit_key(bars, key, probabilities)
        assert regime.probabilities is not None
        shares = np.roll(regime.probabilities, -1, axis=0)
        return MarketRegime(regime.codes, shares), never

    monkeypatch.setattr(look_ahead, "fit_key", leaking)
    found = optimizer.look_ahead_check(study, bars)
    assert [(one.kind, one.name, one.symbol) for one in found] == [("regime", "hmm", "")]


def test_a_strategy_without_features_may_take_them(tmp_path: Path, bars: Bars) -> None:
    (tmp_path / "mine.py").write_text(
        "from optimizer import LONG\nFEATURES = {}\n"
        "def signal(bull_probability):\n"
        "    return LONG, 0.001, bull_probability\n"
    )
    parameters: dict[str, Value] = {"strategy": "mine", "classifier": "hmm"}
    parameters |= {"hmm_train_bars": 60, "hmm_lookback": 5}
    path = tmp_path / "mine.py"
    found = optimizer.backtest(bars, parameters, strategy_path=path)
    own = {"mine": {"path": str(path)}}
    flow = run_flow(single_set_study(parameters, {}, False, None, 0.0, own), bars)
    assert compare(flow, 0, found).differences == ()
    assert found.in_sample["exposure"] > 0.0


def test_momentum_that_ignores_them_is_momentum(tmp_path: Path, bars: Bars) -> None:
    """The probabilities move no other column."""
    path = tmp_path / "mine.py"
    path.write_text(MOMENTUM.replace("def signal(", "def signal(bear_probability, "))
    more = {"classifier": "hmm", "hmm_train_bars": 60, "hmm_lookback": 5}
    own = optimizer.backtest(
        bars, {"strategy": "mine", "mine_lookback": 5, **more}, strategy_path=path
    )
    built_in = optimizer.backtest(bars, {"strategy": "momentum", "momentum_lookback": 5, **more})
    assert own.equity.equals(built_in.equity)
