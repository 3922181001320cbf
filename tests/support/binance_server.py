"""A server that speaks the published shape of Binance's spot API, version 3, on this machine."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEYS = "vmPUZE6mv9SD5VNHk4HlWFsOr6aPublicPart", "NhqPtmdSJYdKjVHjA7PZj4MgeSecretPart"

Answer = tuple[int, Any]
"""A status, and what is sent as JSON."""


def failed(code: int, message: str, status: int = 400) -> Answer:
    return status, {"code": code, "msg": message}


class Binance:
    """Orders and balances of one account, bars, and the errors that come next.

    Attributes:
        share: of an order that fills at once; the rest of it stays open.
        fee: share of what is got that is taken as commission.
        skew: milliseconds by which the clock there is ahead.
        now: the time there, milliseconds; None for that of this machine.
        lost_answers: how many orders are taken without an answer.
        delay: seconds before an order is taken.
        late: seconds after which the next order is taken, whose connection is reset at once.
        errors: status, content and headers of what is answered next in place of the truth.
    """

    def __init__(self, symbols: tuple[str, ...], money: float = 100_000.0) -> None:
        self.markets = {symbol.replace("/", ""): symbol.split("/") for symbol in symbols}
        self.step, self.least_money = "0.00100000", "5.00000000"
        self.orders: dict[tuple[str, int], dict[str, Any]] = {}
        self.trades: list[dict[str, Any]] = []
        self.free = {"USDT": Decimal(str(money))}
        self.price = Decimal("100.00")
        self.share, self.fee = Decimal(1), Decimal(0)
        self.skew = 0
        self.now: int | None = None
        self.lost_answers, self.delay, self.late = 0, 0.0, 0.0
        self.errors: list[tuple[int, Any, dict[str, str]]] = []
        self.errors_of: dict[str, list[tuple[int, Any, dict[str, str]]]] = {}
        self.asked: list[str] = []
        self.bars: dict[str, list[list[float]]] = {}

    @property
    def time(self) -> int:
        return (time.time_ns() // 1_000_000 if self.now is None else self.now) + self.skew

    @property
    def n_posts(self) -> int:
        return self.asked.count("POST /api/v3/order")

    def order_of(self, client_id: str) -> dict[str, Any]:
        (found,) = [one for one in self.orders.values() if one["clientOrderId"] == client_id]
        return found

    def total(self, asset: str) -> float:
        return float(self.free.get(asset, 0))

    # --- What is public ---------------------------------------------------------------------------

    def exchange_info(self) -> Answer:
        symbols = [
            {
                "symbol": name,
                "status": "TRADING",
                "baseAsset": base,
                "baseAssetPrecision": 8,
                "quoteAsset": quote,
                "quotePrecision": 8,
                "quoteAssetPrecision": 8,
                "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET"],
                "isSpotTradingAllowed": True,
                "isMarginTradingAllowed": False,
                "filters": [
                    {
                        "filterType": "PRICE_FILTER",
                        "minPrice": "0.01000000",
                        "maxPrice": "1000000.00000000",
                        "tickSize": "0.01000000",
                    },
                    {
                        "filterType": "LOT_SIZE",
                        "minQty": self.step,
                        "maxQty": "9000.00000000",
                        "stepSize": self.step,
                    },
                    {
                        "filterType": "NOTIONAL",
                        "minNotional": self.least_money,
                        "applyMinToMarket": True,
                        "maxNotional": "9000000.00000000",
                        "applyMaxToMarket": False,
                        "avgPriceMins": 5,
                    },
                ],
                "permissions": [],
                "permissionSets": [["SPOT"]],
            }
            for name, (base, quote) in self.markets.items()
        ]
        return 200, {
            "timezone": "UTC",
            "serverTime": self.time,
            "rateLimits": [],
            "exchangeFilters": [],
            "symbols": symbols,
        }

    def klines(self, query: dict[str, str]) -> Answer:
        if query["symbol"] not in self.markets:
            return failed(-1121, "Invalid symbol.")
        size = {"1m": 60_000, "1h": 3_600_000, "1d": 86_400_000}[query["interval"]]
        first, limit = int(query.get("startTime", 0)), int(query.get("limit", 500))
        rows = [row for row in self.bars.get(query["symbol"], []) if row[0] >= first][:limit]
        return 200, [
            [
                int(at),
                *(f"{value:.8f}" for value in values),
                int(at) + size - 1,
                *("0.00000000", 0, "0.00000000", "0.00000000", "0"),
            ]
            for at, *values in rows
        ]

    # --- The account ------------------------------------------------------------------------------

    def account(self) -> Answer:
        balances = [
            {"asset": name, "free": f"{amount:.8f}", "locked": "0.00000000"}
            for name, amount in self.free.items()
        ]
        kind = {"canTrade": True, "accountType": "SPOT", "permissions": ["SPOT"]}
        return 200, {"makerCommission": 10, "takerCommission": 10, **kind, "balances": balances}

    def place(self, query: dict[str, str]) -> Answer:
        client_id, name = query["newClientOrderId"], query["symbol"]
        if len(client_id) > 36:
            return failed(-1100, "Illegal characters found in parameter 'newClientOrderId'")
        ours = [one for one in self.orders.values() if one["clientOrderId"] == client_id]
        if any(one["status"] in ("NEW", "PARTIALLY_FILLED") for one in ours):
            return failed(-2010, "Duplicate order sent.")
        quantity = Decimal(query["quantity"])
        if quantity % Decimal(self.step) or not quantity:
            return failed(-1013, "Filter failure: LOT_SIZE")
        if quantity * self.price < Decimal(self.least_money):
            return failed(-1013, "Filter failure: NOTIONAL")
        base, quote = self.markets[name]
        is_buy = query["side"] == "BUY"
        paid, got = (quote, base) if is_buy else (base, quote)
        needed = quantity * self.price if is_buy else quantity
        if needed > self.free.get(paid, 0):
            return failed(-2010, "Account has insufficient balance for requested action.")
        filled = (quantity * self.share) // Decimal(self.step) * Decimal(self.step)
        number = len(self.orders) + 1
        order = {
            "symbol": name,
            "orderId": number,
            "orderListId": -1,
            "clientOrderId": client_id,
            "price": "0.00000000",
            "origQty": f"{quantity:.8f}",
            "executedQty": f"{filled:.8f}",
            "cummulativeQuoteQty": f"{filled * self.price:.8f}",
            "status": "FILLED" if filled == quantity else "PARTIALLY_FILLED" if filled else "NEW",
            "timeInForce": "GTC",
            "type": "MARKET",
            "side": query["side"],
            "time": self.time,
            "updateTime": self.time,
        }
        self.orders[name, number] = order
        fills = []
        if filled:
            gain = filled if is_buy else filled * self.price
            fee = gain * self.fee
            spent = filled * self.price if is_buy else filled
            self.free[paid] = self.free.get(paid, Decimal(0)) - spent
            self.free[got] = self.free.get(got, Decimal(0)) + gain - fee
            taken = {"commission": f"{fee:.8f}", "commissionAsset": got}
            one = {"price": f"{self.price:.8f}", "qty": f"{filled:.8f}", **taken}
            fills.append({**one, "tradeId": len(self.trades) + 1})
            self.trades.append(
                {
                    "symbol": name,
                    "id": len(self.trades) + 1,
                    "orderId": number,
                    **one,
                    "quoteQty": f"{filled * self.price:.8f}",
                    "time": self.time,
                    "isBuyer": is_buy,
                    "isMaker": False,
                    "isBestMatch": True,
                }
            )
        return 200, {**order, "transactTime": self.time, "fills": fills}

    def found(self, query: dict[str, str]) -> dict[str, Any] | None:
        for (name, number), order in reversed(self.orders.items()):
            if name == query["symbol"] and (
                query.get("origClientOrderId") == order["clientOrderId"]
                or query.get("orderId") == str(number)
            ):
                return order
        return None

    def cancel(self, query: dict[str, str]) -> Answer:
        order = self.found(query)
        if order is None or order["status"] not in ("NEW", "PARTIALLY_FILLED"):
            return failed(-2011, "Unknown order sent.")
        order["status"] = "CANCELED"
        return 200, order

    def answer(self, method: str, path: str, query: dict[str, str]) -> Answer:
        place = method, path.removeprefix("/api/v3/")
        if place == ("POST", "order"):
            return self.place(query)
        if place == ("GET", "order"):
            order = self.found(query)
            return failed(-2013, "Order does not exist.") if order is None else (200, order)
        if place == ("DELETE", "order"):
            return self.cancel(query)
        if place == ("GET", "openOrders"):
            live = ("NEW", "PARTIALLY_FILLED")
            ours = [one for one in self.orders.values() if one["symbol"] == query["symbol"]]
            return 200, [one for one in ours if one["status"] in live]
        if place == ("GET", "myTrades"):
            number = query.get("orderId")
            return 200, [
                one
                for one in self.trades
                if one["symbol"] == query["symbol"] and number in (None, str(one["orderId"]))
            ]
        if place == ("GET", "account"):
            return self.account()
        return failed(-1102, "not found", 404)

    def take(self, text: str, query: dict[str, str], key: str | None) -> None:
        """Take an order for whose answer nobody waits."""
        if self.signed(key, text, query) is None:
            self.place(query)

    def signed(self, key: str | None, text: str, query: dict[str, str]) -> Answer | None:
        """What is wrong with a request that must be signed; None for nothing."""
        if key != KEYS[0]:
            return failed(-2015, "Invalid API-key, IP, or permissions for action.", 401)
        content, _, signature = text.rpartition("&signature=")
        own = hmac.new(KEYS[1].encode(), content.encode(), hashlib.sha256).hexdigest()
        if own != signature:
            return failed(-1022, "Signature for this request is not valid.")
        late = self.time - int(query["timestamp"])
        if late < -1000:
            return failed(
                -1021, "Timestamp for this request was 1000ms ahead of the server's time."
            )
        if late > int(query.get("recvWindow", 5000)):
            return failed(-1021, "Timestamp for this request is outside of the recvWindow.")
        return None


@contextmanager
def binance_server(
    symbols: tuple[str, ...] = ("AAA/USDT", "BBB/USDT", "CCC/USDT"),
) -> Iterator[tuple[Binance, str]]:
    """An exchange and its address."""
    exchange = Binance(symbols)

    class Handler(BaseHTTPRequestHandler):
        def handle_one(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            path, _, text = self.path.partition("?")
            text = "&".join(filter(None, (text, self.rfile.read(length).decode())))
            query = dict(urllib.parse.parse_qsl(text))
            call = f"{self.command} {path}"
            exchange.asked.append(call)
            headers: dict[str, str] = {}
            planned = exchange.errors_of.get(call) or exchange.errors
            if call == "POST /api/v3/order" and exchange.delay:
                time.sleep(exchange.delay)
            if call == "POST /api/v3/order" and exchange.late:
                seconds, exchange.late = exchange.late, 0.0
                taking = text, query, self.headers["X-MBX-APIKEY"]
                threading.Timer(seconds, exchange.take, taking).start()
                self.close_connection = True
                return
            if planned:
                status, answer, headers = planned.pop(0)
            elif path == "/api/v3/time":
                status, answer = 200, {"serverTime": exchange.time}
            elif path == "/api/v3/exchangeInfo":
                status, answer = exchange.exchange_info()
            elif path == "/api/v3/klines":
                status, answer = exchange.klines(query)
            else:
                wrong = exchange.signed(self.headers["X-MBX-APIKEY"], text, query)
                status, answer = wrong or exchange.answer(self.command, path, query)
            if exchange.lost_answers and call == "POST /api/v3/order":
                exchange.lost_answers -= 1
                self.close_connection = True
                return
            body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_DELETE = handle_one  # noqa: N815

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield exchange, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
