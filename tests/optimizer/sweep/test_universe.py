"""Symbols that start late, end early and leave an index: by hand, by plain loops, by properties."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.codes import LEAVING, LIVE, WAITING
from optimizer.errors import DataError, StrategyError, StudyError
from optimizer.market.features import FeatureColumns
from optimizer.review.backtest import backtest
from optimizer.review.rerun import Terms, rerun_set
from optimizer.search.account_checks import warn_of_idle_symbols
from optimizer.search.resume import resume_study
from optimizer.search.run import run_study
from optimizer.store.export import export_sets, load_export
from optimizer.study_file.space import build_space
from optimizer.study_file.study import study_from_dict
from optimizer.sweep.backtest_result import BacktestResult
from optimizer.sweep.buy_and_hold import benchmark_returns, held_equity, lowest_costs
from optimizer.sweep.inputs import Inputs, prepare, require_finite
from optimizer.sweep.rules import study_rules
from optimizer.sweep.universe import live_mask, symbol_ends
from optimizer.types import Bars
from tests.support.studies import mapping, random_bars, trading_days
from tests.support.universe import (
    members_file,
    only,
    ragged_study,
    random_presence,
    with_present,
)

FREE = {"commission_bps": 0.0, "slippage_bps": 0.0, "initial_cash": 10_000.0}
HALF_IN_WHAT_RISES: dict[str, Any] = {
    "strategy": "momentum",
    "momentum_lookback": 1,
    "volatility_lookback": 2,
    "weight": 0.5,
    "correlation_penalty": 0.0,
    "rebalance_band": 0.9,
}
"""Half of equity in each symbol that closes higher than before; out of one that closes lower."""


def bars_of(close: list[list[float]], present: list[list[int]] | None = None) -> Bars:
    """Daily bars; each opens 1 below its close."""
    prices = np.array(close)
    days = trading_days("2020-01-01", len(close)).astype("datetime64[ns]")
    names = tuple("ABCDEF"[: prices.shape[1]])
    bars = Bars(
        names,
        days,
        prices - 1.0,
        prices + 1.0,
        prices - 2.0,
        prices,
        np.full(prices.shape, 1e6),
        252.0,
    )
    return bars if present is None else with_present(bars, present)


def fills_of(result: BacktestResult) -> list[tuple[str, str, str, float, float]]:
    """Symbol, day, kind, lots and price of each fill."""
    columns = ("symbol", "timestamp", "kind", "lots", "price")
    found = result.fills[list(columns)].itertuples(index=False)
    return [(s, str(t)[:10], kind, lots, price) for s, t, kind, lots, price in found]


# --- Who decides when -----------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 9_999), st.integers(0, 12), st.booleans())
def test_live_and_ends_are_those_of_a_plain_loop(seed: int, warm_up: int, listed: bool) -> None:
    present = random_presence(40, 6, seed)
    bars = with_present(random_bars(40, list("ABCDEF"), seed), present)
    rng = np.random.default_rng(seed)
    members = rng.integers(0, 2, (40, 6), dtype=np.uint8) if listed else None
    live, ends = live_mask(bars, warm_up, members, None), symbol_ends(bars)
    for s in range(6):
        own = [t for t in range(40) if present[t, s]]
        assert ends[s] == (-1 if own[-1] == 39 else own[-1])
        for t in range(40):
            waits = t not in own or own.index(t) < warm_up or t == ends[s]
            leaves = members is not None and not members[t, s]
            assert live[t, s] == (WAITING if waits else LEAVING if leaves else LIVE)


def test_a_symbol_that_comes_late_and_goes_early_by_hand() -> None:
    """B has bars 3 to 8; it needs two own bars before its first decision, at bar 5."""
    rising = [50.0, 50.0, 50.0, 50.0, 60.0, 70.0, 80.0, 90.0, 100.0, *[1.0] * 5]
    close = [[100.0 - t, rising[t]] for t in range(14)]
    present = [[1, int(3 <= t <= 8)] for t in range(14)]
    bars = bars_of(close, present)
    result = backtest(bars, HALF_IN_WHAT_RISES, costs=FREE, sizing="weight")
    # At the close of bar 5 half of 10,000 is 71 lots at 70. They fill at the open of bar 6, 79.
    day = [str(one)[:10] for one in bars.timestamps]
    assert fills_of(result) == [
        ("B", day[6], "order", 71.0, 79.0),
        ("B", day[8], "end", -71.0, 100.0),
    ]
    cash = 10_000.0 - 71 * 79.0
    expected = {5: 10_000.0, 6: cash + 71 * 80.0, 7: cash + 71 * 90.0, 8: cash + 71 * 100.0}
    for t, money in expected.items():
        assert result.equity.iloc[t - 2] == money
    assert (result.equity.iloc[6:] == cash + 7_100.0).all()
    assert result.in_sample["n_trades"] == 1.0


def test_the_close_of_a_symbol_that_ends_costs_what_a_sale_costs() -> None:
    close = [[100.0 - t, 50.0 + 10.0 * t] for t in range(14)]
    bars = bars_of(close, [[1, int(t <= 8)] for t in range(14)])
    costs = {**FREE, "commission_bps": 10.0, "slippage_bps": 50.0}
    result = backtest(bars, HALF_IN_WHAT_RISES, costs=costs, sizing="weight")
    last = result.fills.iloc[-1]
    assert (last["kind"], last["price"]) == ("end", pytest.approx(130.0 * 0.995))
    assert last["cost"] == pytest.approx(-last["lots"] * (130.0 * 0.005 + 130.0 * 0.995 * 0.001))


def test_a_last_bar_without_volume_has_no_impact() -> None:
    close = [[100.0 - t, 50.0 + 10.0 * t, 100.0 - t] for t in range(14)]
    bars = bars_of(close, [[1, int(t <= 8), int(t <= 8)] for t in range(14)])
    volume = bars.volume.copy()
    volume[8, 1:] = 0.0
    costs = {**FREE, "impact": 0.5}
    result = backtest(
        replace(bars, volume=volume), HALF_IN_WHAT_RISES, costs=costs, sizing="weight"
    )
    last = result.fills.iloc[-1]
    assert (last["kind"], last["price"]) == ("end", 130.0)
    assert np.isfinite(result.equity).all()


def test_a_position_is_kept_through_a_hole_at_its_last_close() -> None:
    """B has no bars 5 and 6; the order decided at 4 lapses, that of 7 fills at 8."""
    close = [[100.0 - t, 50.0 + 10.0 * t] for t in range(14)]
    bars = bars_of(close, [[1, int(t not in (5, 6))] for t in range(14)])
    late = {**HALF_IN_WHAT_RISES, "momentum_threshold": 0.12}  # 0.125 at 4, less after
    result = backtest(bars, late, costs=FREE, sizing="weight")
    # At 2: 70 / 60, 0.167, half of 10,000 is 71 lots at 70, filled at the open of 3.
    day = [str(one)[:10] for one in bars.timestamps]
    assert fills_of(result) == [("B", day[3], "order", 71.0, 79.0)]
    cash = 10_000.0 - 71 * 79.0
    worth = [cash + 71 * price for price in (80.0, 90.0, 90.0, 90.0, 120.0, 130.0)]
    assert result.equity.iloc[1:7].tolist() == worth

    jumps = [50.0, 50.0, 50.0, 50.0, 60.0, 0.0, 0.0, 70.0, 80.0, 80.0, 80.0, 80.0, 80.0, 80.0]
    bars = bars_of(
        [[100.0 - t, jumps[t] or 1.0] for t in range(14)],
        [[1, int(t not in (5, 6))] for t in range(14)],
    )
    result = backtest(bars, HALF_IN_WHAT_RISES, costs=FREE, sizing="weight")
    # Decided at 4 on 60 / 50: no bar 5, so it lapses. Decided at 7 on 70 / 60, the bar before.
    assert fills_of(result)[0] == ("B", day[8], "order", 71.0, 79.0)


def test_a_symbol_that_leaves_the_index_is_sold_by_hand(tmp_path: Path) -> None:
    close = [[100.0 - t, 50.0 + 10.0 * t] for t in range(14)]
    bars = bars_of(close)
    day = [str(one)[:10] for one in bars.timestamps]
    path = members_file(
        tmp_path / "members.csv", f"A,{day[0]},", f"B,{day[3]},{day[5]}", f"B,{day[9]},{day[9]}"
    )
    result = backtest(bars, HALF_IN_WHAT_RISES, costs=FREE, sizing="weight", members=path)
    # A member at the close of 3: 5,000 / 80 = 62 lots at the open of 4, 89; at the close of 6 it is
    # none, and sold at the open of 7, 119: 11,860. A member at 9: 5,930 / 140 = 42 lots, for a bar.
    assert fills_of(result) == [
        ("B", day[4], "order", 62.0, 89.0),
        ("B", day[7], "order", -62.0, 119.0),
        ("B", day[10], "order", 42.0, 149.0),
        ("B", day[11], "order", -42.0, 159.0),
    ]
    assert result.equity.iloc[-1] == 10_000.0 + 62 * 30.0 + 42 * 10.0


# --- Properties -----------------------------------------------------------------------------------

OPTIONS: list[dict[str, Any]] = [
    {"sizing": "kelly"},
    {"sizing": "equal_weight", "allocation": "targets"},
    {"sizing": "weight"},
    {"sizing": "volatility_target", "allow_short": True},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda one: one["sizing"])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_symbol_that_never_signals_changes_nothing(options: dict[str, Any], seed: int) -> None:
    """Z never moves, is listed late and ends early."""
    bars = random_bars(150, ["A", "B", "C", "Z"], seed)
    values = {name: getattr(bars, name).copy() for name in ("open", "high", "low", "close")}
    for name in values:
        values[name][:, 3] = 100.0
    z = with_present(replace(bars, **values), _third_late(150))
    parameters: dict[str, Any] = {
        "strategy": "momentum",
        "momentum_lookback": 5,
        "momentum_threshold": 0.001,
        "volatility_lookback": 10,
        "correlation_lookback": 10,
        "correlation_penalty": 0.5,
        "max_positions": 2,
        "kelly_fraction": 0.5,
    }
    with_z = backtest(z, parameters, **options)
    without = backtest(only(z, [0, 1, 2]), parameters, **options)
    assert len(without.fills) > 20
    assert with_z.equity.to_numpy().tobytes() == without.equity.to_numpy().tobytes()
    pd.testing.assert_frame_equal(with_z.fills, without.fills)
    assert with_z.in_sample == without.in_sample


def _third_late(n_bars: int) -> np.ndarray:
    present = np.ones((n_bars, 4), dtype=np.uint8)
    present[: n_bars // 3, 2] = 0
    present[n_bars // 2 : n_bars // 2 + 3, 1] = 0
    present[: n_bars // 4, 3] = 0
    present[n_bars - 20 :, 3] = 0
    return present


PLAIN: dict[str, Any] = {
    "strategy": "momentum",
    "momentum_lookback": 5,
    "volatility_lookback": 10,
    "correlation_lookback": 10,
    "correlation_penalty": 0.5,
}


@pytest.mark.parametrize("cut", [30, 75, 120])
def test_equity_never_depends_on_later_bars(cut: int) -> None:
    present = random_presence(150, 5, 4)
    names = list("ABCDE")
    bars = with_present(random_bars(150, names, 1), present)
    other = with_present(random_bars(150, names, 2), present)
    mixed: dict[str, Any] = {
        name: np.vstack([getattr(bars, name)[:cut], getattr(other, name)[cut:]])
        for name in ("open", "high", "low", "close", "volume")
    }
    # A hole that begins before the cut and a symbol that has not begun keep their fill-in prices.
    changed = with_present(replace(bars, **mixed), present)
    one, two = (backtest(given, PLAIN).equity.to_numpy() for given in (bars, changed))
    assert one[: cut - 10].tobytes() == two[: cut - 10].tobytes()


def test_nobody_trades_without_a_bar_or_before_the_warm_up() -> None:
    present = random_presence(200, 6, 8)
    bars = with_present(random_bars(200, list("ABCDEF"), 8), present)
    result = backtest(bars, {**PLAIN, "stop_loss": 0.02, "trailing_stop": 0.03})
    assert len(result.fills) > 30
    times = {time: t for t, time in enumerate(pd.DatetimeIndex(bars.timestamps, tz="UTC"))}
    for fill in result.fills.itertuples():
        s = bars.symbols.index(str(fill.symbol))
        t = times[fill.timestamp]  # type: ignore[index]
        own = bars.own(s).tolist()
        assert own.index(t) > 10
        assert fill.kind == "end" or t < own[-1] or own[-1] == 199
    held = result.open_positions
    assert all(present[-1, bars.symbols.index(symbol)] for symbol in held)


# --- Around it ------------------------------------------------------------------------------------


def test_inputs_survive_the_way_through_files(tmp_path: Path) -> None:
    study, bars = ragged_study(tmp_path)
    rules = study_rules(study, build_space(study), bars)
    inputs = prepare(bars, build_space(study), rules, 0.25)
    inputs.save(tmp_path / "saved")
    loaded = Inputs.load(tmp_path / "saved")
    _same_arrays(inputs, loaded)
    assert loaded.rules.files_hash == rules.files_hash
    assert loaded.bars.content_hash == bars.content_hash
    assert loaded.live.tobytes() == inputs.live.tobytes()
    assert (loaded.live[:80, 0] != LIVE).all()
    window = inputs.window(60, 90, 120)
    assert window.live.tobytes() == inputs.live[:120].tobytes()
    assert window.ends.tobytes() == inputs.ends.tobytes()


def _same_arrays(one: Any, other: Any) -> None:
    for field in dataclasses.fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, np.ndarray):
            assert a.tobytes() == b.tobytes()
            assert not b.flags.writeable
        elif dataclasses.is_dataclass(a):
            _same_arrays(a, b)
        else:
            assert a == b


def test_a_feature_is_finite_from_the_symbols_own_warm_up_on() -> None:
    present = np.ones((20, 2), dtype=np.uint8)
    present[:8, 1] = 0
    bars = with_present(random_bars(20, ["A", "B"]), present)
    values = np.ones((20, 2, 1))
    values[:3, 0] = values[:11, 1] = np.nan
    columns = FeatureColumns((("mine.f", 3),), values.copy())
    given: Any = {"mine.f": type("Given", (), {"place": "mine.py:1"})}
    live = np.ones((20, 2), dtype=np.uint8)
    require_finite(bars, columns, given, live)
    values[11, 1] = np.nan
    with pytest.raises(StrategyError, match=r"of B \(bar 11\)"):
        require_finite(bars, FeatureColumns((("mine.f", 3),), values), given, live)


def test_a_study_is_rerun_and_resumed_with_its_members_only(tmp_path: Path) -> None:
    study, _ = ragged_study(tmp_path)
    result = run_study(study, out=tmp_path / "out", workers=1)
    (tmp_path / "elsewhere").mkdir()
    exported = load_export(export_sets(tmp_path / "out", out=tmp_path / "elsewhere" / "best.json"))
    terms = Terms.of_export(exported, tmp_path / "elsewhere")
    document = exported["sets"][0]
    again = rerun_set(document, terms, terms.bars(), sealed=False)
    for name, value in document["in_sample"].items():
        assert value is None or again.result.in_sample[name] == value
    assert again.inputs.live.shape[1] == 6
    members_file(tmp_path / "members.csv", *(f"{one},2000-01-01," for one in "ABCDEF"))
    with pytest.raises(
        StudyError, match=r"members = .*members.csv: not what the study had; restore"
    ):
        rerun_set(document, terms, terms.bars(), sealed=False)
    result.folder.batch_paths()[-1].unlink()
    with pytest.raises(
        StudyError, match=r"\[data\] members = members.csv: changed since the study"
    ):
        resume_study(tmp_path / "out")


def test_symbols_that_can_never_trade_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    study, bars = ragged_study(tmp_path)
    rules = study_rules(study, build_space(study), bars)
    with caplog.at_level(logging.WARNING):
        warn_of_idle_symbols(study, bars, 40, rules)
        assert not caplog.text
        warn_of_idle_symbols(study, bars, 161, rules)
    assert "never traded, since no bar as a member follows a warm-up of 161 bars: A" in caplog.text


def test_members_must_be_those_of_the_bars(tmp_path: Path) -> None:
    study, bars = ragged_study(tmp_path)
    members_file(tmp_path / "members.csv", *(f"{one},2000-01-01," for one in "ABCDEFG"))
    with pytest.raises(DataError, match=r'members.csv, line 8: "G" is not among the symbols'):
        study_rules(study, build_space(study), bars)


# --- Buying and holding ---------------------------------------------------------------------------


@pytest.mark.parametrize("fill", ["next_open", "close"])
@pytest.mark.parametrize("seed", range(4))
def test_buying_and_holding_is_that_of_a_plain_loop(fill: str, seed: int, tmp_path: Path) -> None:
    present = random_presence(60, 5, seed)
    bars = with_present(random_bars(60, list("ABCDE"), seed), present)
    day = [str(one)[:10] for one in bars.timestamps]
    members_file(tmp_path / "members.csv", f"A,{day[0]},{day[20]}", f"A,{day[30]},{day[50]}",
        *(f"{one},{day[0]}," for one in "BCDE"),
    )  # fmt: skip
    costs = {"fill": fill, "commission_bps": 10.0, "slippage_bps": 20.0}
    content = mapping(
        "none.parquet", data={"members": "members.csv"}, costs=costs, account={"cash_rate": 0.04}
    )
    content["strategy"]["lookback"] = 5
    content["risk"] = {"volatility_lookback": 5, "correlation_penalty": 0.0}
    study = study_from_dict(content, tmp_path)
    space = build_space(study)
    inputs = prepare(bars, space, study_rules(study, space, bars), 0.0)
    equity = held_equity(inputs, benchmark_returns(inputs, lowest_costs(space, inputs)))
    cash, units, wanted = [100_000.0 / 5] * 5, [0.0] * 5, [False] * 5

    def trade(s: int, price: float) -> None:
        if wanted[s] and not units[s]:
            units[s], cash[s] = cash[s] / (price * 1.002 * 1.001), 0.0
        elif not wanted[s] and units[s]:
            cash[s] += units[s] * price * 0.998 * 0.999
            units[s] = 0.0

    for t in range(inputs.first, 60):
        days = (bars.timestamps[t] - bars.timestamps[t - 1]) / np.timedelta64(1, "D")
        for s in range(5):
            cash[s] *= 1.0 + 0.04 * days / 365.25
            if not present[t, s]:
                continue
            ends = t < 59 and not present[t + 1 :, s].any()
            if fill == "next_open":
                trade(s, bars.open[t, s])
            wanted[s] = not ends and (s > 0 or t <= 20 or 30 <= t <= 50)
            if fill == "close" or ends:
                trade(s, bars.close[t, s])
        worth = sum(cash) + sum(units[s] * bars.close[t, s] for s in range(5))
        assert equity[t - inputs.first] == pytest.approx(worth, rel=1e-12)
