"""The adapter of ccxt, against a server that speaks the published shape of Binance's spot API."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optimizer.errors import BrokerError
from optimizer.flow.prepared import PreparedFlow
from optimizer.trading.broker import OutageError, Report
from optimizer.trading.ccxt_broker import CcxtBroker, refuse_spot
from optimizer.trading.ccxt_exchange import (
    ADDRESS,
    EXCHANGE,
    SANDBOX,
    TRADED,
    CcxtExchange,
    time_of,
)
from optimizer.trading.feeds import ReplayedFeed
from optimizer.types import Order
from tests.optimizer.trading.test_session import FAST, Trader
from tests.support.binance_server import KEYS, Binance, binance_server
from tests.support.command import barsweep
from tests.support.studies import write_bars
from tests.support.trading import EVERY, N_STUDY, exported, traded_and_killed

pytest.importorskip("ccxt", reason="ccxt is not installed: pip install 'barsweep[crypto]'")

SYMBOLS = ("AAA/USDT", "BBB/USDT", "CCC/USDT")
BARS = replace(EVERY.head(N_STUDY + 40), symbols=SYMBOLS)
ID = "0123abcd.4567ef01.0000150.AAA/USDT.order"
ORDER = Order(
    ID, "p", 150, BARS.timestamps[150], 0, "AAA/USDT", 10.0, 10.0, 10.0, 1.0, 10.0, "", ""
)
SOLD = replace(ORDER, id=ID.replace("150", "151"), lots=-5.0, quantity=-5.0)


@pytest.fixture
def exchange() -> Iterator[Binance]:
    with binance_server() as (found, address):
        found.address = address  # type: ignore[attr-defined]
        yield found


def variables(exchange: Binance, keys: tuple[str, str] = KEYS) -> dict[str, str]:
    address = exchange.address  # type: ignore[attr-defined]
    own = dict(zip(("BINANCE_APIKEY", "BINANCE_SECRET"), keys, strict=True))
    return {EXCHANGE: "binance", ADDRESS: address, **own}


def broker_of(
    exchange: Binance,
    keys: tuple[str, str] = KEYS,
    lot: float = 1.0,
    window: float = 0.2,
    **given: Any,
) -> CcxtBroker:
    found = CcxtExchange(variables(exchange, keys), timeout=2.0)
    return CcxtBroker(found, dict.fromkeys(SYMBOLS, lot), window=window, **given)


@pytest.fixture(scope="module")
def crypto(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of symbols that are named as ccxt names them."""
    home = tmp_path_factory.mktemp("crypto")
    risk = {"rebalance_band": 0.0, "lot_size": 0.1}
    return exported(home, "crypto", BARS.head(N_STUDY), risk=risk)


def test_orders_are_placed_reported_and_cancelled(exchange: Binance) -> None:
    async def act() -> None:
        broker = broker_of(exchange)
        assert await broker.report(ID, "AAA/USDT") is None  # -2013
        placed = await broker.place(ORDER)
        assert (placed.status, placed.quantity, placed.price) == ("filled", 10.0, 100.0)
        order = exchange.order_of("0123abcd.4567ef01.0000150.AAA/USDT")
        assert placed.reference == str(order["orderId"])
        # Binance takes the client order ID of a filled order again: the broker asks first.
        assert await broker.place(ORDER) == placed and exchange.n_posts == 1
        await broker.cancel(ID, "AAA/USDT")
        account = await broker.account(SYMBOLS)
        assert account.cash == 99_000.0
        assert {n: one.quantity for n, one in account.positions.items()} == {"AAA/USDT": 10.0}
        exchange.share = Decimal("0.5")
        part = await broker.place(SOLD)
        assert (part.status, part.quantity) == ("open", -2.5)
        exchange.place(
            {"newClientOrderId": "mine", "symbol": "AAAUSDT", "side": "SELL", "quantity": "1"}
        )
        found = await broker.open_orders(SYMBOLS, [SOLD.id])
        assert found == {SOLD.id: "AAA/USDT", "mine": "AAA/USDT"}
        await broker.cancel(SOLD.id, "AAA/USDT")
        await broker.cancel(SOLD.id, "AAA/USDT")
        final = await broker.report(SOLD.id, "AAA/USDT")
        assert final is not None
        assert (final.status, final.quantity, final.reason) == ("cancelled", -2.5, "canceled")
        exchange.skew = 30_000
        clock = await broker.clock()
        assert clock is not None
        ahead = (clock - np.datetime64("now", "ns")) / np.timedelta64(1, "s")
        assert 28.0 < ahead < 32.0

    asyncio.run(act())


@pytest.mark.parametrize("name", TRADED)
def test_each_exchange_finds_an_order_by_its_own_id(exchange: Binance, name: str) -> None:
    own = dict(zip((f"{name}_APIKEY".upper(), f"{name}_SECRET".upper()), KEYS, strict=True))
    environment = {**variables(exchange), EXCHANGE: name, **own}
    broker = CcxtBroker(CcxtExchange(environment), dict.fromkeys(SYMBOLS, 1.0), window=0.1)
    for id in (ID, "a longer one than these exchanges take. " + ID):
        placed = asyncio.run(broker.place(replace(ORDER, id=id)))
        assert placed.status == "filled" and placed == asyncio.run(broker.report(id, "AAA/USDT"))
    assert len(exchange.orders) == 2


@pytest.mark.parametrize("name", ["gate", "bybit", "bitfinex", "binanceusdm"])
def test_exchanges_without_that_are_refused(name: str) -> None:
    with pytest.raises(
        BrokerError, match=rf"{name}: orders are not placed there: .*valid: binance"
    ):
        CcxtExchange({EXCHANGE: name})
    assert CcxtExchange({EXCHANGE: name}, keys=False).name == name


def test_fees_count_as_money_and_shorten_the_position(exchange: Binance) -> None:
    exchange.fee = Decimal("0.001")

    async def act() -> None:
        broker = broker_of(exchange)
        await broker.place(ORDER)
        bought = await broker.report(ID, "AAA/USDT")
        assert bought is not None and bought.quantity == 10.0
        assert bought.commission == pytest.approx(1.0)  # 0.01 units at 100
        # 9.99 units are 9 lots; what is left of a lot counts as nothing.
        account = await broker.account(SYMBOLS)
        assert account.positions["AAA/USDT"].quantity == 9.0
        await broker.place(SOLD)
        sold = await broker.report(SOLD.id, "AAA/USDT")
        assert sold is not None and sold.commission == pytest.approx(0.5)
        assert (await broker.account(SYMBOLS)).cash == pytest.approx(99_499.5)

    asyncio.run(act())


def test_no_digit_of_a_quantity_is_lost(exchange: Binance) -> None:
    exchange.step, exchange.free["USDT"] = "0.00000100", Decimal(10**12)
    lots = 123_456_789_123_456.0
    order = replace(ORDER, lots=lots, quantity=lots * 1e-6)

    async def act() -> None:
        broker = broker_of(exchange, lot=1e-6)
        assert (await broker.place(order)).quantity == 123456789.123456
        (placed,) = exchange.orders.values()
        assert Decimal(placed["origQty"]) == Decimal("123456789.123456")
        account = await broker.account(SYMBOLS)
        assert account.positions["AAA/USDT"].quantity == 123456789.123456

    asyncio.run(act())


def test_a_sale_never_exceeds_what_is_held(exchange: Binance) -> None:
    async def act() -> None:
        found = await broker_of(exchange).place(SOLD)
        assert (found.status, found.reason) == ("rejected", "5 to sell, and 0 are free")
        assert exchange.n_posts == 0

    asyncio.run(act())


@pytest.mark.parametrize(
    ("error", "wait", "words"),
    [
        ((429, {"code": -1003, "msg": "Too much request weight used"}, {"Retry-After": "3"}), 3.0, "429"),
        ((418, {"code": -1003, "msg": "IP banned until 1"}, {"Retry-After": "90"}), 90.0, "418"),
        ((400, {"code": -1021, "msg": "outside of the recvWindow."}, {}), 0.0, "recvWindow"),
        ((503, b"<html>busy</html>", {}), 0.0, "503"),
        ((500, {"code": -1007, "msg": "Timeout waiting for response"}, {}), 0.0, "Timeout waiting"),
        ((200, b"<html>log in</html>", {}), 0.0, "cannot be read"),
    ],
)  # fmt: skip
def test_rate_limits_clocks_and_failures_may_be_asked_again(
    exchange: Binance, error: tuple[int, Any, dict[str, str]], wait: float, words: str
) -> None:
    async def act() -> None:
        broker = broker_of(exchange)
        exchange.errors_of["POST /api/v3/order"] = [error]
        with pytest.raises(OutageError, match=words) as raised:
            await broker.place(ORDER)
        assert raised.value.wait == wait
        assert (await broker.place(ORDER)).status == "filled"
        assert len(exchange.orders) == 1

    asyncio.run(act())


def test_a_fault_of_this_program_is_no_outage(exchange: Binance) -> None:
    """What the library cannot read is asked again; a fault in what asks it is not."""
    found = CcxtExchange(variables(exchange), timeout=2.0)

    def wrong(one: Any) -> float:
        return float(one.fetch_balance()["no such key"])

    with pytest.raises(KeyError, match="no such key"):
        asyncio.run(found.ask(wrong))
    exchange.errors_of["GET /api/v3/openOrders"] = [(200, b"<html>log in</html>", {})]
    with pytest.raises(OutageError, match="an answer that cannot be read"):
        asyncio.run(found.ask(lambda one: one.fetch_open_orders("AAA/USDT")))
    exchange.errors_of["GET /api/v3/time"] = [(200, {"page": 1}, {})]
    with pytest.raises(OutageError, match="an answer that cannot be read: time: None"):
        asyncio.run(found.ask(time_of))


def test_a_refusal_has_its_reason(exchange: Binance) -> None:
    exchange.free["USDT"] = Decimal(50)
    found = asyncio.run(broker_of(exchange).place(ORDER))
    assert found.status == "rejected" and "insufficient balance" in found.reason
    exchange.free["USDT"] = Decimal(5000)
    exchange.least_money = "2000.00000000"
    small = replace(ORDER, id=ID.replace("150", "152"))
    found = asyncio.run(broker_of(exchange).place(small))
    assert found.status == "rejected" and "NOTIONAL" in found.reason


def test_keys_are_in_no_message_and_go_to_no_other_host(exchange: Binance) -> None:
    with pytest.raises(BrokerError, match=r"-2015.* see BINANCE_APIKEY and BINANCE_SECRET") as e:
        asyncio.run(broker_of(exchange, ("other", "wrong-secret")).account(SYMBOLS))
    assert "wrong-secret" not in str(e.value)
    broker = broker_of(exchange)
    exchange.errors_of["GET /api/v3/account"] = [
        (400, {"code": -1, "msg": f"bad secret {KEYS[1]} of {KEYS[0]}"}, {})
    ]
    with pytest.raises(BrokerError, match=r"bad secret \*\*\* of \*\*\*"):
        asyncio.run(broker.account(SYMBOLS))
    with binance_server() as (other, address):
        exchange.errors_of["GET /api/v3/account"] = [
            (307, b"", {"Location": f"{address}/api/v3/account"})
        ]
        with pytest.raises(BrokerError):
            asyncio.run(broker.account(SYMBOLS))
        assert not other.asked
    nobody = CcxtExchange({**variables(exchange), ADDRESS: "http://127.0.0.1:9"}, timeout=1.0)
    with pytest.raises(OutageError) as raised:
        asyncio.run(CcxtBroker(nobody, {"AAA/USDT": 1.0}).account(["AAA/USDT"]))
    assert "signature" not in str(raised.value)


def test_what_is_missing_or_differs_is_named(exchange: Binance, crypto: Path) -> None:
    for environment, words in (
        ({}, "CCXT_EXCHANGE: not set"),
        ({EXCHANGE: "nowhere"}, "nowhere: no such exchange in ccxt"),
        ({EXCHANGE: "binance"}, "BINANCE_APIKEY and BINANCE_SECRET: not set"),
        ({**variables(exchange), SANDBOX: "no"}, "CCXT_SANDBOX: no: expected on or off"),
        ({**variables(exchange), ADDRESS: "http://example.com"}, "begins with https://"),
    ):
        with pytest.raises(BrokerError, match=re.escape(words)):
            CcxtExchange(environment)
    with pytest.raises(BrokerError, match=r"a lot of the study is 0.0005; run the study with such"):
        asyncio.run(broker_of(exchange, lot=0.0005).account(SYMBOLS))
    said: list[str] = []
    exchange.step, exchange.least_money = "0.00100000", "10.00000000"
    asyncio.run(broker_of(exchange, lot=0.002, say=said.append).account(SYMBOLS))
    assert said[0] == (
        "binance: AAA/USDT: orders below 10 USDT are refused there; a lot of the study is 0.002 units"
    )
    for other, words in (("AAA", "AAA: no spot market there"), ("AAA/BTC", "for one money")):
        with binance_server(("AAA/USDT", "AAA/BTC")) as (two, address):
            two.address = address  # type: ignore[attr-defined]
            found = CcxtBroker(CcxtExchange(variables(two)), {"AAA/USDT": 1.0, other: 1.0})
            with pytest.raises(BrokerError, match=words):
                asyncio.run(found.account(["AAA/USDT"]))
    rules = Trader(crypto, crypto.parent, BARS, {}).found.prepared().rules
    with pytest.raises(BrokerError, match="a spot account cannot be short"):
        refuse_spot(replace(rules, allow_short=True))
    with pytest.raises(BrokerError, match="a spot account has no credit"):
        refuse_spot(replace(rules, leverage=2.0))


def test_an_order_that_may_be_under_way_is_waited_for(exchange: Binance) -> None:
    """The first try arrives after its answer was given up; the second one asks before it places."""
    exchange.delay = 0.3
    broker = broker_of(exchange, window=0.6)

    async def act() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.7):  # 0.6 s of which go by before the first order
                await broker.place(ORDER)
        assert (await broker.place(ORDER)).status == "filled"
        assert len(exchange.orders) == 1

    asyncio.run(act())


def test_the_wait_begins_when_an_order_was_sent(exchange: Binance) -> None:
    """It waits behind another call, its connection is reset, and the exchange takes it after that."""
    found = CcxtExchange(variables(exchange), timeout=2.0)
    broker = CcxtBroker(found, dict.fromkeys(SYMBOLS, 1.0), window=0.6)

    async def act() -> None:
        await broker.account(SYMBOLS)
        await asyncio.sleep(0.6)
        before = asyncio.create_task(found.ask(lambda _: time.sleep(0.8)))
        await asyncio.sleep(0.1)
        exchange.late = 0.4
        with pytest.raises(OutageError):
            await broker.place(ORDER)
        await before
        assert (await broker.place(ORDER)).status == "filled"
        assert len(exchange.orders) == exchange.n_posts == 1

    asyncio.run(act())


def test_an_order_under_way_is_reported_after_a_restart(
    crypto: Path, tmp_path: Path, exchange: Binance
) -> None:
    """A session ends just after it has sent an order; the next one begins when a newer bar has closed."""
    trader = Trader(crypto, tmp_path, BARS, {})

    class Killed(CcxtBroker):
        async def place(self, order: Order) -> Report:
            exchange.late = 0.4
            with contextlib.suppress(OutageError):
                await super().place(order)
            raise KeyboardInterrupt

    class Ahead(ReplayedFeed):
        async def later(self, last: np.datetime64) -> bool:
            return bool(last < BARS.timestamps[N_STUDY + 1])

    def killed(plan: PreparedFlow) -> CcxtBroker:
        found = CcxtExchange(variables(exchange), timeout=2.0)
        return Killed(found, dict.fromkeys(SYMBOLS, 0.1), window=0.0)

    limits = replace(FAST, timeout=5.0)
    with pytest.raises(KeyboardInterrupt):
        trader.run(1, broker_of=killed, limits=limits)
    assert exchange.n_posts == 1 and not exchange.orders
    _, events = trader.run(
        1, Ahead(BARS), broker_of=lambda _: broker_of(exchange, lot=0.1, window=1.0), limits=limits
    )
    first = next(iter(exchange.orders.values()))["clientOrderId"]
    of_first = [one.kind for one in events if one.order_id == f"{first}.order"]
    assert of_first == ["sent", "filled"]


def test_a_session_trades_there_and_no_order_is_placed_twice(
    crypto: Path, tmp_path: Path, exchange: Binance
) -> None:
    """Answers are lost, limits are hit, parts fill, clocks differ; the flow holds what is held."""
    trader = Trader(crypto, tmp_path, BARS, {})
    limits = replace(FAST, timeout=5.0)

    def make(plan: PreparedFlow) -> CcxtBroker:
        return broker_of(exchange, lot=0.1, window=0.05)

    exchange.lost_answers = 2
    exchange.errors_of["POST /api/v3/order"] = [(429, {"code": -1003, "msg": "weight"}, {})]
    trader.run(6, broker_of=make, limits=limits)
    exchange.skew = 20_000  # signed requests go by the clock there, and no order is sent
    n_posts = exchange.n_posts
    trader.run(2, broker_of=make, limits=limits)
    assert "clock_skew" in trader.kinds() and exchange.n_posts == n_posts
    exchange.skew = 0
    exchange.share = Decimal("0.5")
    session, events = trader.run(4, broker_of=make, limits=limits)
    assert {"outage", "outage_over", "sent", "filled", "partly_filled"} <= set(trader.kinds())
    sent = [event.order_id for event in events if event.kind == "sent"]
    assert len(sent) == len(set(sent)) == len(exchange.orders) > 5
    waiting = {order.name for order in session.flow.account.execution.active_orders}
    for name, lots in zip(SYMBOLS, session.flow.lots, strict=True):
        if name not in waiting:
            held = exchange.total(name.removesuffix("/USDT"))
            assert lots == np.floor(held * 10.0 + 1e-9)
    journal = (tmp_path / "trade.db").read_bytes()
    assert not any(key.encode() in journal for key in KEYS)


def test_sigkills_lose_and_double_no_order(
    crypto: Path, tmp_path: Path, exchange: Binance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real processes; some seconds, since each bar keeps to the rate limits of Binance.

    ``make soak`` kills 50 times.
    """
    n_kills = 50 if "BARSWEEP_EXPLORE" in os.environ else 3
    n_bars = 5 + n_kills
    for name, value in variables(exchange).items():
        monkeypatch.setenv(name, value)
    bars = write_bars(tmp_path / "bars.parquet", BARS.head(N_STUDY + n_bars))
    limits = {"timeout": 1.0, "retry": 0.01}
    traded_and_killed(crypto, bars, tmp_path, n_bars, n_kills, broker="ccxt", limits=limits)
    ids = [one["clientOrderId"] for one in exchange.orders.values()]
    assert len(ids) == len(set(ids)) > 5
    with sqlite3.connect(tmp_path / "killed" / "trade.db") as connection:
        rows = connection.execute("SELECT id FROM orders WHERE state = 'sent'").fetchall()
    assert {id.removesuffix(".order") for (id,) in rows} == set(ids)
    for path in (tmp_path / "killed").iterdir():
        assert not any(key.encode() in path.read_bytes() for key in KEYS)


def test_the_command_names_what_is_missing(crypto: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it writes anything."""
    for name in (EXCHANGE, "BINANCE_APIKEY", "BINANCE_SECRET"):
        monkeypatch.delenv(name, raising=False)
    given = ("trade", "out/best.json", "--broker", "ccxt", "--replay", "--from", "2015-07-01")
    done = barsweep(*given, folder=crypto.parent.parent)
    assert (done.returncode, "CCXT_EXCHANGE: not set" in done.stderr) == (2, True), done.stderr
    assert not (crypto.parent.parent / "out" / "crypto-dry").exists()
