"""Signals that read their position: the same bits everywhere, and what they are told."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimizer
from kernels.layout import LANES
from optimizer.errors import StrategyError
from optimizer.flow.parity import compare
from optimizer.flow.prepared import run_flow
from optimizer.review.replay import replay
from optimizer.review.stress.changes import reads_close
from optimizer.search.run import run_study
from optimizer.store.export import export_sets
from optimizer.study_file.space import build_space
from optimizer.study_file.study import Study, study_from_dict
from optimizer.sweep.evaluate import evaluate
from optimizer.sweep.inputs import NO_REGIME, MarketRegime, prepare
from optimizer.sweep.rules import study_rules
from optimizer.sweep.single_set import record_succession, single_set_study
from optimizer.sweep.tiles import Tile
from optimizer.sweep.try_signals import try_signals
from tests.reference import broker
from tests.reference.position import PositionBroker
from tests.support import random_accounts
from tests.support.accounts import differences
from tests.support.cases import VARIANTS, Case, random_case
from tests.support.entries_and_exits import write_bars
from tests.support.strategies import MOMENTUM, POSITION
from tests.support.studies import mapping, random_bars, result_hashes
from tests.support.studies import write_bars as write_study_bars


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A strategy that takes all that a signal may know of its position."""
    path = tmp_path_factory.mktemp("reading") / "mine.py"
    path.write_text(POSITION)
    return path


def reading_case(number: int, folder: Path) -> Case:
    """The random case of a number with that strategy."""
    case = random_case(number, folder)
    rng = np.random.default_rng([number, 7])
    kept = {
        k: v for k, v in case.parameters.items() if not k.startswith(case.parameters["strategy"])
    }
    own = {
        "strategy": "mine",
        "mine_lookback": int(rng.integers(1, 6)),
        "mine_longest": int(rng.integers(1, 12)),
        "mine_give_back": float(rng.choice([0.005, 0.02, 0.1])),
        "mine_pause": int(rng.integers(0, 5)),
    }
    return replace(case, parameters={**kept, **own})


@pytest.mark.parametrize("variant", range(len(VARIANTS)))
def test_events_equal_the_sweep(variant: int, reading: Path, tmp_path: Path) -> None:
    kinds: Counter[str] = Counter()
    for number in range(variant, 12 * len(VARIANTS), len(VARIANTS)):
        case = reading_case(number, tmp_path)
        given = (case.parameters, case.costs, case.allow_short, None, 0.3)
        own = {"mine": {"path": str(reading)}}
        vectorized = optimizer.backtest(
            case.bars,
            case.parameters,
            costs=case.costs,
            allow_short=case.allow_short,
            holdout=0.3,
            strategy_path=reading,
            **case.more,
        )
        flow = run_flow(single_set_study(*given, own=own, **case.more), case.bars)
        assert (number, compare(flow, 0, vectorized).differences) == (number, ())
        kinds.update(vectorized.fills["kind"])
    assert kinds["order"] > 300


ACCOUNTS = (0, 6, 8, 11)
"""Variants of the reference broker: all options; no stops; shorts at the close; entries that wait."""


@pytest.mark.parametrize("place", ACCOUNTS)
def test_the_sweep_equals_the_broker(place: int, reading: Path, tmp_path: Path) -> None:
    wrong, kinds = [], Counter[str]()
    for seed in range(place, 8 * len(random_accounts.VARIANTS), len(random_accounts.VARIANTS)):
        case = random_accounts.wild_case(seed, tmp_path)
        rng = np.random.default_rng([seed, 7])
        own = case.parameters["strategy"]
        kept = {
            k: v for k, v in case.parameters.items() if not k.startswith(own) and k != "strategy"
        }
        lookback = int(rng.integers(1, 6))
        mine = {
            "mine_longest": int(rng.integers(1, 12)),
            "mine_give_back": float(rng.choice([0.005, 0.02, 0.1])),
            "mine_pause": int(rng.integers(0, 5)),
        }
        wanted = broker.run(
            case.bars,
            {"strategy": "momentum", "momentum_lookback": lookback, **kept, **mine},
            **case.keys,
            **case.columns,
            fills=case.finer,
            kind=PositionBroker,
        )
        fills = None if case.finer is None else write_bars(case.finer, tmp_path / f"{seed}.parquet")
        got = optimizer.backtest(
            replace(case.bars, payments=case.paid()) if case.columns else case.bars,
            {"strategy": "mine", "mine_lookback": lookback, **kept, **mine},
            **case.keys,
            fills=fills,
            strategy_path=reading,
        )
        kinds.update(got.fills["kind"])
        wrong += [f"account {seed}: {line}" for line in differences(case, wanted, got)]
    assert not wrong, "\n".join(wrong)
    assert kinds["order"] > 100


FLAT_CODES = {NO_REGIME: MarketRegime.neutral(300)}


def study_of(path: Path, **strategy: Any) -> Study:
    table = {"path": path.name, "name": "mine", **strategy}
    return study_from_dict({**mapping(), "strategy": table}, path.parent)


def many_sets(path: Path, stop_loss: float = 0.0) -> tuple[Any, Tile]:
    """Inputs, and parameter sets of the strategy for more than two blocks, with their own lookbacks."""
    bars = random_bars()
    study = study_of(path, lookback={"low": 1, "high": 9}).with_(risk={"stop_loss": stop_loss})
    space = build_space(study)
    branch, n_lanes = space.branches[0], 2 * LANES + 2
    inputs = prepare(bars, space, study_rules(study, space, bars), 0.25)
    rng = np.random.default_rng(11)
    point = {searched.name: searched.first for searched in branch.searched}
    columns = {name: np.repeat(v[:1], n_lanes) for name, v in branch.lanes(point).items()}
    columns["mine_lookback"] = rng.integers(1, 10, n_lanes).astype(np.float64)
    columns["mine_longest"] = rng.integers(1, 30, n_lanes).astype(np.float64)
    columns["mine_give_back"] = rng.uniform(0.0, 0.05, n_lanes)
    columns["mine_pause"] = rng.integers(0, 6, n_lanes).astype(np.float64)
    return inputs, Tile.of(branch, columns)


def test_a_set_trades_the_same_alone_and_among_others(reading: Path) -> None:
    inputs, tile = many_sets(reading)
    together = evaluate(inputs, [tile], FLAT_CODES)[0]
    assert len(np.unique(together.in_sample[:, 0])) > LANES
    for lane in (0, LANES - 1, LANES, 2 * LANES + 1):
        alone = evaluate(inputs, [tile.slice(lane, lane + 1)], FLAT_CODES)[0]
        np.testing.assert_array_equal(alone.in_sample[0], together.in_sample[lane])
        np.testing.assert_array_equal(alone.out_of_sample[0], together.out_of_sample[lane])


def test_an_account_handed_on_is_known_to_the_next_set(reading: Path, tmp_path: Path) -> None:
    """A set that reads its position takes over from one that does not as from one that does."""
    inputs, tile = many_sets(reading)
    bars, first = inputs.bars, inputs.first
    same = tile.slice(5, 6)
    halves = [(same, first), (same, 150)]
    whole = record_succession(inputs, [(same, first)], bars.n_bars, FLAT_CODES)
    assert record_succession(inputs, halves, bars.n_bars, FLAT_CODES).equals(whole)
    path = tmp_path / "mine.py"
    path.write_text(MOMENTUM.replace("def signal(", "def signal(side, "))
    knowing = optimizer.backtest(
        bars, {"strategy": "mine", "mine_lookback": 5}, strategy_path=path, first_bar=first
    )
    plain = optimizer.backtest(
        bars, {"strategy": "momentum", "momentum_lookback": 5}, first_bar=first
    )
    assert plain.equity.equals(knowing.equity)
    sets = []
    for name in ("momentum", "other"):
        table = {"name": name, "lookback": 5, "threshold": 0.0}
        if name == "other":
            table["path"] = str(path)
        study = study_of(reading, lookback={"low": 1, "high": 9})
        study = study.with_(strategy=[study.to_dict()["strategy"][0], table])
        branch = build_space(study).branches[1]
        columns = {k: v for k, v in same.columns.items() if not k.startswith("mine_")}
        columns |= {f"{name}_lookback": np.array([5.0]), f"{name}_threshold": np.array([0.0])}
        inputs = prepare(
            bars, build_space(study), study_rules(study, build_space(study), bars), 0.25
        )
        before = Tile.of(branch, columns)
        after = Tile.of(build_space(study).branches[0], dict(same.columns))
        for turn in (120, 150, 175):
            found = record_succession(
                inputs, [(before, first), (after, turn)], bars.n_bars, FLAT_CODES
            )
            sets.append(found.to_numpy())
    np.testing.assert_array_equal(sets[:3], sets[3:])
    assert not np.array_equal(sets[0], sets[1])


def test_workers_export_and_replay(reading: Path, tmp_path: Path) -> None:
    write_study_bars(tmp_path / "bars.parquet", random_bars())
    (tmp_path / "mine.py").write_text(POSITION)
    study = study_of(
        tmp_path / "mine.py",
        lookback={"low": 1, "high": 9},
        longest={"sweep": [3, 10]},
        give_back=0.02,
    )
    one = run_study(study, out=tmp_path / "one", workers=1)
    two = run_study(study, out=tmp_path / "two", workers=2)
    assert result_hashes(one.folder) == result_hashes(two.folder)
    found = replay(export_sets(tmp_path / "one"), events=True)
    assert found.differences == ()
    assert found.parity is not None and found.parity.differences == ()


def test_a_trace_says_what_the_signal_was_told(reading: Path) -> None:
    rows: list[tuple[Any, ...]] = []

    class Kept:
        def add(self, table: str, added: Any) -> None:
            rows.extend(added if table == "signals" else ())

        def end_bar(self, bar: int) -> None:
            pass

    study = study_of(reading, lookback=3, longest=6, give_back=0.02, pause=2)
    study = study.with_(risk={"kelly_fraction": {"sweep": [0.05, 0.2]}, "max_exposure": 1.0})
    flow = run_flow(
        study.with_(risk={"volatility_lookback": 10}), random_bars(), risk="all", trace=Kept()
    )
    assert len({row[0] for row in rows}) == len(rows) == 2 * 3 * len(flow.equity)
    told = [json.loads(row[7]) for row in rows]
    assert {one["side"] for one in told} >= {0.0, 1.0}
    assert max(one["bars_held"] for one in told) == 6.0
    assert all((one["entry_price"] > 0.0) == (one["side"] != 0.0) for one in told)


@pytest.mark.parametrize("name", ["side", "bars_held", "entry_price", "best_return"])
def test_its_names_are_taken(name: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(POSITION.replace('"pause": (2', f'"{name}": (2'))
    with pytest.raises(
        StrategyError, match=rf"mine\.py:8: PARAMETERS: {name} already has a meaning"
    ):
        study_of(path)
    path.write_text(POSITION.replace('{"momentum": (', f'{{"{name}": ('))
    with pytest.raises(
        StrategyError, match=rf"mine\.py:10: FEATURES: {name} already has a meaning"
    ):
        study_of(path)


def test_a_signal_that_fails_only_with_a_position_is_refused_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(POSITION.replace("return HOLD, 0.0, 1.0", "return HOLD, side - 1.0, 1.0"))
    study = study_of(path, give_back=0.5, longest=100)
    space, bars = build_space(study), random_bars()
    inputs = prepare(bars, space, study_rules(study, space, bars), 0.25)
    with pytest.raises(
        StrategyError, match=r"signal: direction 2, strength -2, .*side = -1, bars_held = 10"
    ):
        try_signals(inputs, space)


def test_look_ahead_that_shows_only_with_a_position_is_found(tmp_path: Path) -> None:
    path, bars = tmp_path / "mine.py", random_bars()
    path.write_text(POSITION)
    assert optimizer.look_ahead_check(study_of(path), bars) == []
    leak = """
def tomorrow(close):
    import numpy as np
    return np.append(close[1:], close[-1])

FEATURES = {"momentum": ("momentum", "lookback"), "later": (tomorrow,)}
"""
    text = POSITION.replace('FEATURES = {"momentum": ("momentum", "lookback")}', leak)
    text = text.replace("    momentum, close,", "    momentum, later, close,")
    text = text.replace("worst_return < -2.0 * give_back", "later > close")
    path.write_text(text)
    found = optimizer.look_ahead_check(study_of(path, give_back=0.5, longest=100), bars)
    assert {one.kind for one in found} == {"feature", "signal"}


@pytest.mark.parametrize(
    ("argument", "applies"), [("bars_held", True), ("side", True), ("open_return", False)]
)
def test_a_signal_that_reads_the_close_is_not_delayed(
    argument: str, applies: bool, tmp_path: Path
) -> None:
    path = tmp_path / "mine.py"
    path.write_text(MOMENTUM.replace("def signal(", f"def signal({argument}, "))
    (strategy,) = study_of(path).user_strategies
    assert reads_close(strategy) is not applies
