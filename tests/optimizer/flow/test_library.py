"""The parts of the flow as a library: what each takes, what it refuses, and with which words."""

from __future__ import annotations

import ast
import datetime
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from optimizer import flow
from optimizer.errors import DataError, FlowError
from optimizer.flow.parity import compare
from optimizer.market.correlations import compute_correlations
from optimizer.review.backtest import backtest
from optimizer.study_file.study import Study, study_from_dict
from optimizer.sweep.single_set import single_set_study
from optimizer.types import Bars
from tests.support.studies import mapping, random_bars

DOCS = Path(__file__).parents[3] / "docs"


# --- The package --------------------------------------------------------------------------------


def test_importing_the_package_is_light_and_its_names_are_there() -> None:
    code = (
        "import sys\n"
        "from optimizer import flow\n"
        "print([n for n in ('numba', 'numpy', 'pandas', 'sqlalchemy') if n in sys.modules])\n"
        "print(all(getattr(flow, n).__name__ == n for n in flow.__all__))\n"
        "print(set(flow.__all__) <= set(dir(flow)))\n"
        "try: flow.EventFlows\n"
        "except AttributeError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "[]",
        "True",
        "True",
        "module 'optimizer.flow' has no attribute 'EventFlows'",
    ]


def test_every_public_name_is_documented() -> None:
    page = (DOCS / "event_flow.md").read_text()
    listed = set(re.findall(r"^::: [\w.]+\.(\w+)$", page, re.MULTILINE))
    assert set(flow.__all__) <= listed


def test_the_loop_of_the_docs_is_short_and_nothing_imports_a_kernel() -> None:
    """``tests/test_docs.py`` runs it, and compares its equity with that of the flow."""
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "event_flow.md").read_text(), re.DOTALL)
    (loop,) = [text for text in blocks if "hub = " in text]
    assert len([line for line in loop.splitlines() if line.strip()]) <= 42
    code = "\n".join(text for text in blocks if not text.startswith(">>>"))
    imported = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ImportFrom)]
    assert {node.module for node in imported} == {"optimizer", "pathlib"}


# --- Bars ---------------------------------------------------------------------------------------


def test_a_bar_of_one_symbol_from_numbers_or_of_all_from_arrays() -> None:
    one = flow.Bar(0, "2024-01-02", "SPY", 10, 12, 9, 11, 500)
    assert (one.symbols, one.time) == (("SPY",), np.datetime64("2024-01-02", "ns"))
    assert one.high.tolist() == [12.0]
    assert (one.traded.tolist(), one.market_volume.tolist()) == ([1], [500.0])
    two = flow.Bar(1, "2024-01-03", ["A", "B"], [1, 2], [2, 3], [1, 1], [2, 2], [0, 7])
    assert (two.traded.tolist(), two.market_volume.tolist()) == ([0, 1], [np.inf, 7.0])
    unknown = flow.Bar(1, "2024-01-03", ["A", "B"], [1, 2], [2, 3], [1, 1], [2, 2])
    assert (unknown.traded.tolist(), unknown.volume.tolist()) == ([1, 1], [0.0, 0.0])
    assert unknown.market_volume.tolist() == [np.inf, np.inf]


def test_a_bar_copies_what_it_is_given() -> None:
    given = {name: np.array([2.0, 3.0]) for name in ("open", "high", "low", "close", "volume")}
    traded = np.ones(2, np.uint8)
    bar = flow.Bar(0, "2024-01-02", ("A", "B"), **given, traded=traded)
    for name, array in {**given, "traded": traded}.items():
        array[0] = 1.0 if name != "traded" else 0
        assert getattr(bar, name)[0] == (1 if name == "traded" else 2.0)
        with pytest.raises(ValueError, match="read-only"):
            getattr(bar, name)[0] = 5


@pytest.mark.parametrize(
    "time",
    [
        "2024-01-02T15:30",
        "2024-01-02T10:30-05:00",
        datetime.datetime(2024, 1, 2, 15, 30),
        datetime.datetime(
            2024, 1, 2, 16, 30, tzinfo=datetime.timezone(datetime.timedelta(hours=1))
        ),
        np.datetime64("2024-01-02T15:30"),
        pd.Timestamp("2024-01-02 10:30", tz="America/New_York"),
    ],
)
def test_the_time_of_a_bar_is_in_utc(time: Any) -> None:
    bar = flow.Bar(0, time, "A", 1, 1, 1, 1)
    assert bar.time == np.datetime64("2024-01-02T15:30:00", "ns")
    assert bar.time.dtype == "datetime64[ns]"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"open": 1.0}, "of A, B: open is one number; expected 2, one a symbol"),
        ({"high": [1.0, 2.0, 3.0]}, r"high has shape \(3,\); expected 2, one a symbol"),
        ({"low": [1.0, -2.0]}, "low = -2.0 of B; expected a price above 0"),
        ({"close": [np.nan, 2.0]}, "close = nan of A; expected a price above 0"),
        ({"close": ["x", "y"]}, r"close = \['x', 'y'\]; expected numbers"),
        (
            {"low": [2.5, 1.0]},
            "low = 2.5, close = 2.0 of A; expected low <= open and close <= high",
        ),
        ({"volume": 5}, "volume is one number"),
        ({"time": "yesterday"}, "time 'yesterday': expected one such as 2024-01-02"),
        ({"time": np.datetime64("NaT")}, "time NaT"),
    ],
)
def test_a_wrong_bar_is_told_by_its_place(changed: dict[str, Any], words: str) -> None:
    two = {name: [2.0, 2.0] for name in ("open", "high", "low", "close")}
    given: dict[str, Any] = {"time": "2024-01-02", **two, **changed}
    with pytest.raises(DataError, match=words):
        flow.Bar(3, symbols=("A", "B"), **given)
    assert flow.Bar(
        3, symbols=("A", "B"), **{**given, **two, "time": "2024-01-02", "volume": [1, 1]}
    )


def test_hub_and_data_refuse_the_same_bars() -> None:
    def bar(index: int, day: int, symbols: Sequence[str] = ("A",)) -> flow.Bar:
        ones = np.ones(len(symbols))
        return flow.Bar(index, f"2024-01-{day:02d}", symbols, ones, ones, ones, ones)

    data, hub = flow.DataContainer(("A",)), flow.FeatureHub(("A",), [("sma", 2)])

    def take(one: flow.Bar) -> None:
        data.update_timeline_position(one)
        data.cache_bar(one)

    for act in (take, hub.calculate_indicators):
        with pytest.raises(
            DataError, match=r"bar 1 at .*: out of order after no bar; .* from index 0"
        ):
            act(bar(1, 1))
        act(bar(0, 1))
        act(bar(1, 2))
        for wrong in (bar(1, 3), bar(3, 3), bar(2, 2)):
            with pytest.raises(DataError, match="out of order after bar 1 at 2024-01-02"):
                act(wrong)
        with pytest.raises(DataError, match="symbols A, B; expected A"):
            act(bar(2, 3, ("A", "B")))
        act(bar(2, 3))


# --- Orders, fills and states -------------------------------------------------------------------


def plan_of(bars: Bars, **risk: Any) -> flow.PreparedFlow:
    parameters = {
        "strategy": "momentum",
        "momentum_lookback": 5,
        "correlation_lookback": 10,
        **risk,
    }
    return flow.prepare_flow(single_set_study(parameters, {}, False, None, 0.0), bars)


@pytest.fixture(scope="module")
def traded() -> tuple[flow.PreparedFlow, flow.FlowResult]:
    plan = plan_of(random_bars(80))
    return plan, plan.run()


def test_orders_and_fills_name_their_portfolio_and_time(
    traded: tuple[flow.PreparedFlow, flow.FlowResult],
) -> None:
    plan, result = traded
    (spec,) = plan.specs
    fills = result.views[0].transactions
    assert len(fills) > 10
    for fill in fills:
        assert fill.portfolio_id == spec.id
        assert fill.time == plan.bars.timestamps[fill.bar]
    running = plan.opened()
    n_orders = 0
    for index in range(plan.bars.n_bars):
        running.on_bar(plan.bars.at(index))
        for order in running.next_orders()[0]:
            n_orders += 1
            assert (order.portfolio_id, order.bar) == (spec.id, index)
            assert order.time == plan.bars.timestamps[index]
            assert order.name == plan.bars.symbols[order.symbol]
            assert order.quantity == order.lots * plan.rules.lot_units[order.symbol]
    assert n_orders > 10


def test_a_portfolio_refuses_what_is_anothers(
    traded: tuple[flow.PreparedFlow, flow.FlowResult],
) -> None:
    plan, result = traded
    (spec,) = plan.specs
    fill = result.views[0].transactions[0]
    portfolio, execution = plan.portfolio(spec), plan.execution(spec)
    before = portfolio.get_state()
    theirs = replace(fill, id="f", portfolio_id="another")
    with pytest.raises(FlowError, match=f"fill f: is of portfolio another, not of {spec.id}"):
        portfolio.process_fills([fill, theirs])
    after = portfolio.get_state()
    assert (after.cash, after.lots, after.transactions) == (before.cash, before.lots, ())
    portfolio.process_fills([fill])
    assert portfolio.get_state().transactions == (fill,)
    order = order_of(spec.id)
    with pytest.raises(FlowError, match="order o0: is of portfolio another"):
        execution.submit_orders([replace(order, portfolio_id="another")])
    assert not execution.active_orders


def order_of(portfolio_id: str, **changed: Any) -> flow.Order:
    order = flow.Order(
        id="o0",
        portfolio_id=portfolio_id,
        bar=7,
        time=np.datetime64("2024-01-02", "ns"),
        symbol=0,
        name="AAA",
        lots=5.0,
        quantity=5.0,
        wanted=5.0,
        budget_share=1.0,
        target=5.0,
        signal_id="s",
        regime_id="r",
    )
    return replace(order, **changed)


def test_a_second_order_for_a_symbol_and_bar_is_refused(
    traded: tuple[flow.PreparedFlow, flow.FlowResult],
) -> None:
    plan, _ = traded
    (spec,) = plan.specs
    execution, order = plan.execution(spec), order_of(spec.id)
    words = "order o1: AAA already has an order of bar 7, o0; give one a symbol and bar"
    with pytest.raises(FlowError, match=words):
        execution.submit_orders([order, replace(order, id="o1", lots=1.0)])
    assert not execution.active_orders
    execution.submit_orders([order, replace(order, id="o2", symbol=1, name="BBB")])
    with pytest.raises(FlowError, match=words):
        execution.submit_orders([replace(order, id="o1")])
    assert [one.id for one in execution.active_orders] == ["o0", "o2"]
    signal = flow.Signal("s0", 0, 1.0, 0.01, 1.0, 0.01, 100.0)
    with pytest.raises(FlowError, match="signal s1: bar 0 already has one of AAA, s0"):
        flow.StatelessRiskManager.process_signals_to_orders(
            [signal, replace(signal, id="s1")],
            flow.Regime("r", 0),
            plan.portfolio(spec).get_state(),
            spec.risk,
            plan.bars.at(0),
        )


def test_the_flow_calls_the_documented_service_with_the_documented_state(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = plan_of(random_bars(60))
    kept: list[flow.PortfolioView] = []
    service = flow.StatelessRiskManager.process_signals_to_orders

    def watched(*arguments: Any) -> flow.Decisions:
        assert isinstance(arguments[2], flow.PortfolioView)
        kept.append(arguments[2])
        return service(*arguments)

    monkeypatch.setattr(
        flow.StatelessRiskManager, "process_signals_to_orders", staticmethod(watched)
    )
    result = plan.run()
    assert len(kept) == len(result.equity)
    assert [one.equity for one in kept] == result.equity.iloc[:, 0].tolist()
    assert kept[-1].variance > 0.0
    # What was handed out stays what it was.
    assert kept[0].transactions == ()
    assert len(kept[-1].transactions) == len(result.views[0].transactions)
    assert kept[-1].metrics["total_return"] == result.in_sample[0]["total_return"]


# --- Refreshing the correlations ----------------------------------------------------------------


def many(n_symbols: int) -> Bars:
    return random_bars(90, [f"S{i:02d}" for i in range(n_symbols)])


@pytest.mark.parametrize("n_symbols", [3, 33])
@pytest.mark.parametrize("refresh", [None, 1, 7])
def test_correlations_are_refreshed_as_the_study_says(n_symbols: int, refresh: int | None) -> None:
    """In the sweep, in the flow and by hand; and the trace says how."""
    bars = many(n_symbols)
    given = {} if refresh is None else {"correlation_refresh": refresh}
    acts = refresh or (1 if n_symbols <= 32 else 20)
    risk = {"correlation_penalty": 1.0, "kelly_fraction": 0.05, **given}
    plan = plan_of(bars, **risk)
    (spec,) = plan.specs
    assert plan.rules.correlation_refresh == spec.parameters["correlation_refresh"] == acts
    result = plan.run()
    parameters = {"momentum_lookback": 5, "correlation_lookback": 10, **risk}
    swept = backtest(bars, {"strategy": "momentum", **parameters})
    assert compare(result, 0, swept).differences == ()
    assert swept.parameters["correlation_refresh"] == acts
    hub, refreshed = plan.feature_hub(), []
    matrices = compute_correlations(bars, 10, acts, plan.first)
    for index in range(bars.n_bars):
        hub.calculate_indicators(bars.at(index))
        if hub.correlation_refreshed:
            refreshed.append(index)
            np.testing.assert_array_equal(
                hub.get_correlation_matrix(), matrices[(index - plan.first) // acts]
            )
    assert refreshed == list(range(plan.first, bars.n_bars, acts))
    if refresh == 7:  # and it makes a difference
        other = plan_of(bars, **{**risk, "correlation_refresh": 1}).run()
        assert not other.equity.equals(result.equity)


def study_of(refresh: dict[str, int]) -> Study:
    return study_from_dict(mapping(risk=refresh))


def test_a_default_written_out_makes_no_difference_to_the_study() -> None:
    assert study_of({"correlation_refresh": 0}).content_hash == study_of({}).content_hash
    assert study_of({"correlation_refresh": 1}).content_hash != study_of({}).content_hash
