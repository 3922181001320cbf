"""A broker in the flow: orders go to it, and only its fills change a portfolio."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from optimizer import flow
from optimizer.errors import DataError, FlowError
from optimizer.sweep.single_set import single_set_study
from optimizer.types import Bars
from tests.support.studies import random_bars

FREE = {"commission_bps": 0.0, "slippage_bps": 0.0}


class Recorder:
    """A trace in memory."""

    def __init__(self) -> None:
        self.rows: dict[str, list[tuple[Any, ...]]] = {}

    def add(self, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
        self.rows.setdefault(table, []).extend(rows)

    def end_bar(self, bar: int) -> None:
        pass


class AtTheOpen:
    """Fills at the open of the next bar, at no cost."""

    def __init__(
        self, change: Callable[[flow.Fill], list[flow.Fill]] = lambda fill: [fill]
    ) -> None:
        self.bar: flow.Bar | None = None
        self.sent: list[flow.Order] = []
        self._waiting: list[flow.Order] = []
        self._change = change

    async def submit(self, orders: Sequence[flow.Order]) -> list[str]:
        await asyncio.sleep(0)
        self.sent += orders
        self._waiting += orders
        return [f"ref-{order.id}" for order in orders]

    async def fills(self) -> list[flow.Fill]:
        await asyncio.sleep(0)
        assert self.bar is not None
        orders, self._waiting = self._waiting, []
        # As in the simulation: what reduces comes first.
        fills = [
            flow.broker_fill(
                order,
                f"b-{order.id}",
                self.bar.time,
                order.quantity,
                float(self.bar.open[order.symbol]),
            )
            for order in sorted(
                orders, key=lambda one: abs(one.target) > abs(one.target - one.lots)
            )
        ]
        return [changed for fill in fills for changed in self._change(fill)]


def plan_of(bars: Bars, allow_short: bool = False, **risk: Any) -> flow.PreparedFlow:
    parameters = {
        "strategy": "momentum",
        "momentum_lookback": 5,
        "correlation_lookback": 10,
        "max_exposure": 0.8,  # so that the cash always suffices at the open
        **risk,
    }
    study = single_set_study(parameters, FREE, allow_short, None, 0.0)
    return flow.prepare_flow(study, bars)


def run(plan: flow.PreparedFlow, broker: AtTheOpen, trace: Any = None) -> flow.FlowResult:
    async def act() -> flow.FlowResult:
        running = plan.opened(trace, broker=broker)
        for index in range(plan.bars.n_bars):
            broker.bar = plan.bars.at(index)
            sent = await running.on_bar_of_broker(broker.bar)
            last = {one.id: f"ref-{one.id}" for one in broker.sent if one.bar == index}
            assert sent == last
        return running.result()

    return asyncio.run(act())


def test_a_broker_that_fills_as_the_simulation_does_gives_its_equity() -> None:
    plan, broker, trace = plan_of(random_bars(120)), AtTheOpen(), Recorder()
    result = run(plan, broker, trace)
    simulated = plan.run()
    assert len(simulated.views[0].transactions) > 50
    np.testing.assert_allclose(result.equity, simulated.equity, rtol=1e-12)
    mine, theirs = (sorted((f.bar, f.symbol, f.lots) for f in one.views[0].transactions)
                    for one in (result, simulated))  # fmt: skip
    assert mine == theirs
    assert {row[1] for row in trace.rows["fills"]} <= {order.id for order in broker.sent}
    assert len(trace.rows["orders"]) == len(broker.sent)


def test_only_the_fills_of_the_broker_change_a_portfolio() -> None:
    plan, trace = plan_of(random_bars(60)), Recorder()
    result = run(plan, AtTheOpen(lambda fill: []), trace)
    assert result.views[0].transactions == ()
    assert (result.equity == 100_000.0).all(axis=None)
    lapsed = [row for row in trace.rows["rejects"] if row[5] == "not_filled"]
    orders = {row[0] for row in trace.rows["orders"] if row[2] < 59}
    assert {row[6] for row in lapsed} == orders
    assert result.rejects["not_filled"] == len(lapsed) > 10


def test_an_order_may_fill_in_parts_and_in_part() -> None:
    def thirds(fill: flow.Fill) -> list[flow.Fill]:
        third = replace(fill, lots=fill.lots / 4.0, quantity=fill.quantity / 4.0)
        return [third, replace(third, id=f"{third.id}.more")]

    plan, trace = plan_of(random_bars(60)), Recorder()
    result = run(plan, AtTheOpen(thirds), trace)
    orders = {row[0]: row for row in trace.rows["orders"]}
    filled: dict[str, float] = {}
    for fill in result.views[0].transactions:
        assert fill.order_id is not None
        filled[fill.order_id] = filled.get(fill.order_id, 0.0) + fill.lots
    assert len(filled) > 10
    for id, lots in filled.items():
        assert lots == pytest.approx(orders[id][6] / 2.0)
    # The next close wants the rest.
    assert "not_filled" not in result.rejects


def test_a_fill_that_turns_a_position_around_is_booked_as_two() -> None:
    plan, broker = plan_of(random_bars(120), True, correlation_penalty=0.0), AtTheOpen()
    result = run(plan, broker)
    fills = result.views[0].transactions
    turned = [fill for fill in fills if fill.id.endswith(".order2")]
    assert len(turned) > 3
    held = dict.fromkeys(range(3), 0.0)
    for fill in fills:
        before = held[fill.symbol]
        held[fill.symbol] += fill.lots
        assert before * held[fill.symbol] >= 0.0  # never through zero
    assert [one.quantity for one in result.views[0].positions] == list(held.values())


def test_a_stop_is_an_order_to_close_for_a_broker() -> None:
    """The price rises steadily; bar 20 dips far below and closes as if nothing had been."""
    close = 100.0 * np.cumprod(np.resize([1.01, 1.02], (40, 1)), axis=0)
    low = close * 0.99
    low[20] = close[20] * 0.3
    days = np.datetime64("2020-01-01", "ns") + np.arange(40) * np.timedelta64(1, "D")
    bars = Bars(("A",), days, close, close, low, close, np.ones((40, 1)), 252.0)
    parameters: dict[str, Any] = {"strategy": "momentum", "momentum_lookback": 5}
    parameters |= {
        "volatility_lookback": 5,
        "correlation_lookback": 5,
        "weight": 0.5,
        "stop_loss": 0.4,
        "rebalance_band": 0.9,
    }
    study = single_set_study(parameters, FREE, False, None, 0.0, sizing="weight")
    plan, broker = flow.prepare_flow(study, bars), AtTheOpen()
    result = run(plan, broker)
    *opening, closing = broker.sent
    held = sum(order.lots for order in opening)
    assert (closing.bar, closing.lots, closing.target) == (20, -held, 0.0)
    last = result.views[0].transactions[-1]
    assert (last.order_id, last.bar, last.price) == (closing.id, 21, close[21, 0])
    # The signal is long as before, and the stop keeps that direction closed.
    assert result.views[0].positions[0].quantity == 0.0
    assert result.rejects["no_signal"] == 39 - 20


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"portfolio_id": "other"}, "of the broker: no portfolio other here"),
        ({"order_id": "o7"}, "of order o7, which portfolio .* has not sent"),
        ({"symbol": 2}, "which portfolio .* has not sent for it"),
        ({"lots": 1e6}, "1e.06 lots of .*, of which .* were left"),
        ({"lots": -1.0}, "-1 lots of .*, of which .* were left"),
    ],
)
def test_a_fill_that_answers_no_order_is_refused(change: dict[str, Any], words: str) -> None:
    plan = plan_of(random_bars(60, ("AAA", "BBB", "CCC")))
    broker = AtTheOpen(lambda fill: [replace(fill, **change)] if fill.symbol != 2 else [])
    with pytest.raises(FlowError, match=words):
        run(plan, broker)


def test_a_bar_out_of_order_loses_no_fill() -> None:
    plan, broker = plan_of(random_bars(60)), AtTheOpen()

    async def act() -> None:
        running = plan.opened(broker=broker)
        index = 0
        while not broker.sent:
            broker.bar = plan.bars.at(index)
            await running.on_bar_of_broker(broker.bar)
            index += 1
        with pytest.raises(DataError, match="out of order"):
            await running.on_bar_of_broker(plan.bars.at(index + 1))
        broker.bar = plan.bars.at(index)
        await running.on_bar_of_broker(broker.bar)
        assert len(running.result().views[0].transactions) == len(
            [one for one in broker.sent if one.bar < index]
        )

    asyncio.run(act())


def test_each_way_is_told_from_the_other_and_odd_rules_are_refused() -> None:
    bars = random_bars(60)
    plan = plan_of(bars)
    with pytest.raises(FlowError, match=r"has a broker: await on_bar_of_broker\(bar\)"):
        plan.opened(broker=AtTheOpen()).on_bar(bars.at(0))
    with pytest.raises(FlowError, match="has no broker"):
        asyncio.run(plan.opened().on_bar_of_broker(bars.at(0)))
    with pytest.raises(RuntimeError, match="no broker: ExecutionContainer was made without one"):
        asyncio.run(plan.execution(plan.specs[0]).submit_to_real_broker([]))
    parameters: dict[str, Any] = {"strategy": "momentum", "momentum_lookback": 5}
    parameters["correlation_lookback"] = 10
    for costs, entry in (({"fill": "close"}, "market"), ({}, "limit")):
        study = single_set_study(parameters, costs, False, None, 0.0, entry=entry)
        with pytest.raises(FlowError, match="a broker fills orders at the market after the close"):
            flow.prepare_flow(study, bars).opened(broker=AtTheOpen())
