"""Symbols that come and go, one bar at a time: the bits of the sweep, the trace, and what reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimizer
from kernels.codes import WAITING
from optimizer.analytics.reader import open_reader
from optimizer.flow.containers.feature_hub import FeatureHub
from optimizer.flow.folder import FlowFolder
from optimizer.flow.parity import compare
from optimizer.flow.prepared import prepare_flow, run_flow
from optimizer.market.correlations import compute_correlations
from optimizer.market.feature_keys import FeatureKey, indicator_name
from optimizer.market.features import compute_features
from optimizer.market.regimes import market_features, market_returns
from optimizer.review.backtest import backtest
from optimizer.review.replay import replay
from optimizer.search.run import run_study
from optimizer.store.export import export_sets
from optimizer.study_file.load import load_study
from optimizer.study_file.space import build_space
from optimizer.study_file.study import Study, study_from_dict
from optimizer.sweep.rules import study_rules
from optimizer.sweep.single_set import single_set_study
from optimizer.sweep.universe import live_mask
from optimizer.types import Bars, FloatArray
from optimizer.views.report.content import gather
from tests.support.studies import mapping, random_bars, trading_days
from tests.support.universe import members_file, ragged_study, random_presence, with_present


def mean_of_bar(bars: Mapping[str, FloatArray], parameters: tuple[float, ...]) -> FloatArray:
    """A feature of a user's."""
    lookback = int(parameters[0])
    moved = np.full(len(bars["close"]), np.nan)
    typical = (bars["high"] + bars["low"] + bars["open"]) / 3.0 * np.log(bars["volume"] + 1.0)
    moved[lookback:] = typical[lookback:] - typical[:-lookback]
    return moved


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_the_hub_has_the_bits_of_the_columns(seed: int) -> None:
    bars = with_present(random_bars(90, list("ABCDE"), seed), random_presence(90, 5, seed))
    keys: list[FeatureKey] = [
        ("sma", 5),
        ("ema", 4),
        ("rsi", 6),
        ("momentum", 3),
        ("volatility", 7),
        ("atr", 5),
    ]
    keys.append(("mine.f", 4))
    given = {"mine.f": mean_of_bar}
    columns = compute_features(bars, keys, given)
    matrices = compute_correlations(bars, 10, 2, 20)
    hub = FeatureHub(bars.symbols, keys, [(None, 5), ("C", 4)], (10, 2, 20), given)
    index, of_c = market_returns(bars), market_returns(bars, "C")[bars.own(2)]
    features_of_c = market_features(of_c, 4)
    for t in range(bars.n_bars):
        values = hub.calculate_indicators(bars.at(t))
        for key in keys:
            expected = columns.values[t, :, columns.index(key)]
            np.testing.assert_array_equal(values[indicator_name(key)], expected)
        matrix = hub.get_correlation_matrix()
        assert matrix is not None
        if t >= 20:
            assert matrix.tobytes() == matrices[(t - 20) // 2].tobytes()
        assert hub.market_returns(None).tobytes() == index[: t + 1].tobytes()
        n_own = hub.market_bars("C")
        assert n_own == (bars.own(2) <= t).sum()
        assert hub.market_has_bar("C") == (t in bars.own(2))
        assert hub.market_returns("C").tobytes() == of_c[:n_own].tobytes()
        if n_own:
            np.testing.assert_array_equal(hub.market_features("C", 4)[0], features_of_c[n_own - 1])


def listed(study: Study, folder: Path, **risk: float) -> Study:
    """The study with two lookbacks in place of its ranges."""
    content = study.to_dict()
    content["strategy"][0]["lookback"] = {"choices": [5, 40]}
    content["risk"] |= {"max_exposure": 0.9, "kelly_fraction": 0.5, **risk}
    return study_from_dict(content, folder)


@pytest.mark.parametrize("market", ["B", None])
def test_regimes_and_many_portfolios_equal_the_sweep(market: str | None, tmp_path: Path) -> None:
    """B has no bar now and then; its regime stays meanwhile, and late symbols wait for the longest
    lookback of the study, also in portfolios that need less.
    """
    chosen = {"name": "hmm", "lookback": 5, "train_bars": 60, "refit_bars": 40}
    study, bars = ragged_study(
        tmp_path, classifier={**chosen, **({"market": market} if market else {})}
    )
    study = listed(study, tmp_path, bear_multiplier=0.3, neutral_multiplier=0.6)
    flow = run_flow(study, bars)
    assert len(flow.specs) > 1
    n_ends = 0
    for number, spec in enumerate(flow.specs):
        result = backtest(
            bars,
            {"strategy": spec.strategy_name, "classifier": "hmm", **spec.parameters},
            costs=study.to_dict()["costs"],
            market=market,
            holdout=study.validation.holdout,
            first_bar=flow.first,
            warm_up=flow.first,
            members=tmp_path / "members.csv",
        )
        assert compare(flow, number, result).differences == ()
        assert set(result.regimes) > {0}
        assert len(result.fills) > 20
        n_ends += int((result.fills["kind"] == "end").sum())
    assert n_ends > 0


class Recorder:
    """A trace in memory."""

    def __init__(self) -> None:
        self.rows: dict[str, list[tuple[Any, ...]]] = {}

    def add(self, table: str, rows: Any) -> None:
        self.rows.setdefault(table, []).extend(rows)

    def end_bar(self, bar: int) -> None:
        pass


def test_the_trace_has_nothing_of_symbols_that_wait(tmp_path: Path) -> None:
    study, bars = ragged_study(tmp_path)
    study = listed(study, tmp_path)
    rules = study_rules(study, build_space(study), bars)
    trace = Recorder()
    flow = run_flow(study, bars, trace=trace)
    live = live_mask(bars, flow.first, rules.members, rules.flat)
    rows = trace.rows
    names = bars.symbols
    assert bars.present is not None and rules.members is not None
    there = zip(*np.nonzero(bars.present), strict=True)
    assert {(row[1], names.index(row[3])) for row in rows["bars"]} == {
        (int(t), int(s)) for t, s in there if t >= flow.first
    }
    n_deciding = int((live[flow.first :] != WAITING).sum())
    n_strategies = len({row[1] for row in rows["signals"]})
    assert len(rows["signals"]) == n_strategies * n_deciding
    for row in rows["signals"]:
        t, s = row[2], names.index(row[3])
        assert live[t, s] != WAITING
        assert row[4] in ((0.0,) if not rules.members[t, s] else (-1.0, 0.0, 1.0, 2.0))
        assert "NaN" not in row[7]
    at_fill = ("not_traded", "no_volume", "no_buying_power")
    undecided = [row for row in rows["rejects"] if row[5] not in at_fill]
    assert len(rows["orders"]) + len(undecided) == len(flow.specs) * n_deciding
    bar_ids = {row[0]: row for row in rows["bars"]}
    orders = {row[0] for row in rows["orders"]}
    ended = [row for row in rows["fills"] if row[5] == "end"]
    assert ended
    for fill in rows["fills"]:
        assert bar_ids[fill[11]][1:4:2] == (fill[3], fill[4])
    for fill in ended:
        assert fill[0].endswith(f".{fill[3]:07d}.{fill[4]}.end")
        assert fill[3] == bars.own(names.index(fill[4]))[-1]
        assert (fill[1], fill[10]) == (None, 0.0)
        assert fill[12] in orders


def test_ruin_in_a_hole_is_traced_to_the_last_bar() -> None:
    """A fall in which both are sold short ends with a thirtyfold open of A; B has no bar there."""
    close = 50.0 * np.cumprod(np.resize([0.97, 0.99], 40))
    close[20:] *= 30.0
    close = np.repeat(close[:, np.newaxis], 2, axis=1) * np.array([1.0, 1.001])
    days = trading_days("2020-01-01", 40).astype("datetime64[ns]")
    bars = Bars(("A", "B"), days, close, close, close, close, np.ones_like(close), 252.0)
    present = np.ones((40, 2), dtype=np.uint8)
    present[19:21, 1] = 0
    bars = with_present(bars, present)
    parameters: dict[str, Any] = {
        "strategy": "momentum",
        "momentum_lookback": 5,
        "weight": 0.5,
        "correlation_penalty": 0.0,
        "volatility_lookback": 5,
        "correlation_lookback": 5,
    }
    trace = Recorder()
    costs = {"initial_cash": 10_000.0}
    study = single_set_study(parameters, costs, True, None, 0.0, sizing="weight")
    flow = run_flow(study, bars, trace=trace)
    result = backtest(bars, parameters, costs=costs, allow_short=True, sizing="weight")
    assert compare(flow, 0, result).differences == ()
    (called, written_off) = trace.rows["fills"][-2:]
    assert (called[3:6], written_off[3:6]) == ((20, "A", "liquidation"), (20, "B", "ruin"))
    assert written_off[7] == bars.close[18, 1]
    bar_ids = {row[0]: row for row in trace.rows["bars"]}
    assert bar_ids[written_off[11]][1:4:2] == (18, "B")


def loaded(study: Study, folder: Path) -> Study:
    """A study as it comes from a file in a folder."""
    import tomli_w

    (folder / "study.toml").write_text(tomli_w.dumps(study.to_dict()))
    return load_study(folder / "study.toml")


def test_a_flow_folder_a_replay_and_a_report_follow_such_a_study(tmp_path: Path) -> None:
    study, _ = ragged_study(tmp_path)
    study = loaded(study, tmp_path)
    out = run_study(study, out=tmp_path / "out", workers=1).folder.path
    exported = export_sets(out, top=2)
    for number in (1, 2):
        replayed = replay(exported, number=number, events=True)
        assert replayed.differences == ()
        assert replayed.parity is not None
        assert replayed.parity.differences == ()
        assert replayed.parity.n_fills > 10
    content = gather(out)
    assert content.winner is not None and content.rejects is not None
    inputs = content.winner.inputs
    assert content.n_decisions == (inputs.live[inputs.first :] != WAITING).sum()
    assert content.n_decisions < inputs.bars.n_symbols * (inputs.bars.n_bars - inputs.first)
    placed = content.n_decisions - sum(
        n for name, n in content.rejects.items() if name != "not_traded"
    )
    orders = content.winner.result.fills["kind"] == "order"
    assert 0 < orders.sum() <= placed

    prepared = prepare_flow(listed(study, tmp_path), replayed.bars)
    folder = FlowFolder(tmp_path / "flow")
    with folder.tracing(prepared, None, overwrite=False) as writer:
        flow = prepared.run(writer)
    (ended, *_) = [fill for view in flow.views for fill in view.transactions if fill.kind == "end"]
    with open_reader(folder.database()) as reader:
        chain = reader.chain(ended.id)
        assert dict(reader.reject_counts()) == flow.rejects
    assert chain["order"] is None
    assert chain["opening_order"]["order_id"] == ended.opening_order_id
    assert chain["signal"]["symbol"] == chain["bar"]["symbol"] == chain["fill"]["symbol"]
    assert chain["bar"]["bar"] == ended.bar


def test_the_look_ahead_check_knows_such_symbols(tmp_path: Path) -> None:
    study, bars = ragged_study(
        tmp_path, classifier={"name": "svm", "lookback": 5, "train_bars": 60, "refit_bars": 40}
    )
    assert optimizer.look_ahead_check(study, bars) == []
    (tmp_path / "mine.py").write_text(
        """
import numpy as np
from optimizer import HOLD, LONG

PARAMETERS = {"lookback": (10, 2, 50)}


def ahead(close, lookback):
    return np.append(close[1:], close[-1]) / close


FEATURES = {"ahead": (ahead, "lookback")}


def signal(ahead):
    return (LONG if ahead > 1.0 else HOLD), ahead, 1.0
"""
    )
    content = mapping(
        strategy=[{"name": "mine", "path": "mine.py", "lookback": 10}],
        data={"align": "outer", "members": "members.csv"},
    )
    found = optimizer.look_ahead_check(study_from_dict(content, tmp_path), bars)
    assert {one.kind for one in found} == {"feature", "signal"}
    for one in found:
        assert one.bar in bars.own(bars.symbols.index(one.symbol))


def test_equity_before_a_cut_knows_nothing_of_later_bars(tmp_path: Path) -> None:
    """Only that a symbol ends where it does is known, because the file says so."""
    present = random_presence(120, 4, 2)
    bars, other = (with_present(random_bars(120, list("ABCD"), n), present) for n in (1, 2))
    mixed: dict[str, Any] = {
        name: np.vstack([getattr(bars, name)[:70], getattr(other, name)[70:]])
        for name in ("open", "high", "low", "close", "volume")
    }
    later = with_present(replace(bars, **mixed), present)
    days = [str(day)[:10] for day in bars.timestamps]
    listed = members_file(
        tmp_path / "members.csv", f"A,{days[0]},{days[50]}", *(f"{s},{days[0]}," for s in "BCD")
    )
    parameters: dict[str, Any] = {
        "strategy": "momentum",
        "momentum_lookback": 5,
        "correlation_lookback": 10,
        "volatility_lookback": 10,
    }
    study = single_set_study(parameters, {}, False, None, 0.0, members=listed)
    one, two = (run_flow(study, each) for each in (bars, later))
    before = 70 - one.first
    assert len(one.views[0].transactions) > 20
    assert (one.equity.to_numpy()[:before] == two.equity.to_numpy()[:before]).all()
    assert (one.equity.to_numpy()[before:] != two.equity.to_numpy()[before:]).any()
