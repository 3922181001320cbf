"""The adapter of Alpaca, against a server that speaks the published shape of its API."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from optimizer.errors import BrokerError
from optimizer.trading.alpaca import ADDRESS, AlpacaBroker
from optimizer.trading.alpaca_server import KEY, SECRET
from optimizer.trading.broker import OutageError
from optimizer.types import Order
from tests.optimizer.trading.test_session import BARS, FAST, Trader
from tests.support.alpaca_server import KEYS, Exchange, alpaca_server

ORDER = Order(
    "p.0000150.AAA.order", "p", 150, BARS.timestamps[150], 0, "AAA", 10.0, 10.0, 10.0, 1.0, 10.0, "", ""
)  # fmt: skip


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    with alpaca_server() as (found, address):
        found.address = address  # type: ignore[attr-defined]
        yield found


def broker_of(exchange: Exchange, keys: tuple[str, str] = KEYS) -> AlpacaBroker:
    address = exchange.address  # type: ignore[attr-defined]
    return AlpacaBroker({KEY: keys[0], SECRET: keys[1], ADDRESS: address}, timeout=2.0)


def test_orders_are_placed_reported_and_cancelled(exchange: Exchange) -> None:
    async def act() -> None:
        broker = broker_of(exchange)
        assert await broker.report(ORDER.id, "AAA") is None
        placed = await broker.place(ORDER)
        assert (placed.status, placed.quantity, placed.price) == ("filled", 10.0, 100.0)
        assert placed.reference == exchange.orders[ORDER.id]["id"]
        again = await broker.place(ORDER)  # 422: client_order_id must be unique
        assert again == placed and exchange.n_posts == 2
        await broker.cancel(ORDER.id, "AAA")  # 422: already filled
        account = await broker.account(["AAA", "BBB"])
        assert account.cash == 99_000.0
        assert account.positions["AAA"].quantity == 10.0
        exchange.share = 0.5
        sell = replace(ORDER, id="sell", lots=-5.0, quantity=-5.0)
        part = await broker.place(sell)
        assert (part.status, part.quantity) == ("open", -2.0)
        assert await broker.open_orders(["AAA"]) == {"sell": "AAA"}
        await broker.cancel("sell", "AAA")
        final = await broker.report("sell", "AAA")
        assert final is not None
        assert (final.status, final.quantity, final.reason) == ("cancelled", -2.0, "canceled")
        exchange.clock = datetime.datetime(2026, 1, 2, 15, 30, tzinfo=datetime.UTC)
        assert await broker.clock() == np.datetime64("2026-01-02T15:30", "ns")

    asyncio.run(act())


@pytest.mark.parametrize(
    ("error", "wait", "words"),
    [
        ((429, {"message": "too many requests."}, {"Retry-After": "3"}), 3.0, "429: too many"),
        ((503, {}, {}), 0.0, "status 503: no message"),
        ((500, {"code": 50010000, "message": "internal server error"}, {}), 0.0, "status 500"),
    ],
)
def test_rate_limits_and_failures_may_be_asked_again(
    exchange: Exchange, error: tuple[int, dict[str, str], dict[str, str]], wait: float, words: str
) -> None:
    exchange.errors.append(error)
    with pytest.raises(OutageError, match=words) as raised:
        asyncio.run(broker_of(exchange).place(ORDER))
    assert raised.value.wait == wait


def test_a_refusal_has_its_reason(exchange: Exchange) -> None:
    exchange.cash = 5.0
    found = asyncio.run(broker_of(exchange).place(ORDER))
    assert (found.status, found.reason) == ("rejected", "insufficient buying power")


def test_keys_are_in_no_message_and_go_to_no_other_host(exchange: Exchange) -> None:
    with pytest.raises(BrokerError, match="status 401: request is not authorized; see APCA_") as e:
        asyncio.run(broker_of(exchange, ("other", "wrong-secret")).account(["AAA"]))
    assert "wrong-secret" not in str(e.value)
    exchange.errors.append((400, {"message": f"bad secret {KEYS[1]} of {KEYS[0]}"}, {}))
    with pytest.raises(BrokerError, match=r"bad secret \*\*\* of \*\*\*"):
        asyncio.run(broker_of(exchange).account(["AAA"]))
    with alpaca_server() as (other, address):
        exchange.errors.append((307, {}, {"Location": f"{address}/v2/account"}))
        with pytest.raises(BrokerError, match="status 307"):
            asyncio.run(broker_of(exchange).account(["AAA"]))
        assert not other.asked


def test_what_is_missing_is_named() -> None:
    with pytest.raises(BrokerError, match="APCA_API_KEY_ID and APCA_API_SECRET_KEY: not set"):
        AlpacaBroker({})
    with pytest.raises(BrokerError, match="APCA_API_SECRET_KEY: not set"):
        AlpacaBroker({KEY: "k"})
    with pytest.raises(BrokerError, match="expected an address that begins with https://"):
        AlpacaBroker({KEY: "k", SECRET: "s", ADDRESS: "http://example.com"})
    nobody = AlpacaBroker({KEY: "k", SECRET: "s", ADDRESS: "http://127.0.0.1:9"}, timeout=1.0)
    with pytest.raises(OutageError, match="/v2/clock: "):
        asyncio.run(nobody.clock())


def test_a_session_trades_there_and_no_order_is_placed_twice(
    best: Path, tmp_path: Path, exchange: Exchange
) -> None:
    """Answers are lost, limits are hit and parts fill; what the exchange holds is what the flow holds."""
    trader = Trader(best, tmp_path, BARS, {})
    exchange.lost_answers = 2
    exchange.errors += [(429, {"message": "too many requests."}, {"Retry-After": "0"})] * 2
    limits = replace(FAST, timeout=5.0)
    session, events = trader.run(10, broker_of=lambda plan: broker_of(exchange), limits=limits)
    exchange.share = 0.5
    session, events = trader.run(15, broker_of=lambda plan: broker_of(exchange), limits=limits)
    kinds = trader.kinds()
    assert {"outage", "outage_over", "sent", "filled", "partly_filled"} <= set(kinds)
    sent = {event.order_id for event in events if event.kind == "sent"}
    assert sent == exchange.orders.keys() and exchange.n_posts == len(sent) > 5
    held = {n: lots for n, lots in zip(BARS.symbols, session.flow.lots, strict=True) if lots}
    filled = {n: q for n, q in exchange.positions.items() if q}
    last = session.flow.account.execution.active_orders
    waiting = {order.name for order in last}
    assert {n: q for n, q in held.items() if n not in waiting} == {
        n: q for n, q in filled.items() if n not in waiting
    }
    journal = (tmp_path / "trade.db").read_bytes()
    assert not any(key.encode() in journal for key in KEYS)
