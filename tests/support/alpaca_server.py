"""A server that speaks the published shape of Alpaca's trading API, version 2, on this machine."""

from __future__ import annotations

import datetime
import json
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEYS = "PKTESTKEY0000000", "sEcReT-of-the-account"


class Exchange:
    """Orders and positions of one account, and the errors that come next."""

    def __init__(self) -> None:
        self.orders: dict[str, dict[str, Any]] = {}
        self.positions: dict[str, float] = {}
        self.cash = 100_000.0
        self.errors: list[tuple[int, dict[str, Any], dict[str, str]]] = []
        self.price = 100.0
        self.share = 1.0  # of an order that fills at once
        self.n_posts = 0
        self.asked: list[str] = []
        self.lost_answers = 0
        self.clock = datetime.datetime.now(datetime.UTC)
        self.bars: dict[str, list[dict[str, Any]]] = {}
        self.page = 3  # bars that are sent at once

    def bars_from(self, query: dict[str, str]) -> tuple[int, Any]:
        """Bars of all symbols, symbol after symbol, page by page; both limits count."""
        if query["feed"] == "sip":
            message = "subscription does not permit querying recent SIP data"
            return 403, {"message": message}
        start, end = query["start"], query["end"]
        rows = [
            (symbol, bar)
            for symbol in sorted(query["symbols"].split(","))
            for bar in self.bars.get(symbol, [])
            if start <= bar["t"] <= end
        ]
        first = int(query.get("page_token", 0))
        found: dict[str, list[dict[str, Any]]] = {}
        for symbol, bar in rows[first : first + self.page]:
            found.setdefault(symbol, []).append(bar)
        more = first + self.page < len(rows)
        return 200, {"bars": found, "next_page_token": str(first + self.page) if more else None}

    def place(self, content: dict[str, Any]) -> tuple[int, Any]:
        self.n_posts += 1
        id = content["client_order_id"]
        if id in self.orders:
            return 422, {"code": 40010001, "message": "client_order_id must be unique"}
        quantity = float(content["qty"])
        sign = 1.0 if content["side"] == "buy" else -1.0
        if sign > 0.0 and quantity * self.price > self.cash:
            return 403, {"code": 40310000, "message": "insufficient buying power"}
        filled = float(int(quantity * self.share))
        order = {
            "id": f"61e69015-{len(self.orders):04d}",
            "client_order_id": id,
            "symbol": content["symbol"],
            "qty": content["qty"],
            "side": content["side"],
            "type": "market",
            "time_in_force": "day",
            "filled_qty": f"{filled:g}",
            "filled_avg_price": f"{self.price:g}" if filled else None,
            "status": "filled" if filled == quantity else "partially_filled" if filled else "new",
        }
        self.orders[id] = order
        self.cash -= sign * filled * self.price
        held = self.positions.get(content["symbol"], 0.0) + sign * filled
        self.positions[content["symbol"]] = held
        return 200, order

    def answer(self, method: str, path: str, content: Any) -> tuple[int, Any]:
        url = urllib.parse.urlsplit(path)
        query = dict(urllib.parse.parse_qsl(url.query))
        if url.path == "/v2/stocks/bars":
            return self.bars_from(query)
        if (method, url.path) == ("POST", "/v2/orders"):
            return self.place(content)
        if url.path == "/v2/orders:by_client_order_id":
            found = self.orders.get(query["client_order_id"])
            missing = {"code": 40410000, "message": "order not found"}
            return (404, missing) if found is None else (200, found)
        if method == "DELETE":
            (order,) = [one for one in self.orders.values() if url.path.endswith(one["id"])]
            if order["status"] == "filled":
                return 422, {"code": 42210000, "message": 'order is already in "filled" state'}
            order["status"] = "canceled"
            return 204, None
        if url.path == "/v2/orders":
            final = ("filled", "canceled")
            return 200, [one for one in self.orders.values() if one["status"] not in final]
        if url.path == "/v2/account":
            return 200, {"cash": f"{self.cash:.2f}", "status": "ACTIVE", "trading_blocked": False}
        if url.path == "/v2/positions":
            return 200, [
                {"symbol": name, "qty": f"{held:g}", "side": "long", "avg_entry_price": "100"}
                for name, held in self.positions.items()
                if held
            ]
        if url.path == "/v2/clock":
            return 200, {"timestamp": self.clock.isoformat(), "is_open": True}
        return 404, {"code": 40410000, "message": "endpoint not found"}


@contextmanager
def alpaca_server() -> Iterator[tuple[Exchange, str]]:
    """An exchange and its address."""
    exchange = Exchange()

    class Handler(BaseHTTPRequestHandler):
        def handle_one(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            content = json.loads(self.rfile.read(length)) if length else None
            exchange.asked.append(f"{self.command} {self.path}")
            headers: dict[str, str] = {}
            keys = self.headers["APCA-API-KEY-ID"], self.headers["APCA-API-SECRET-KEY"]
            if exchange.errors:
                status, answer, headers = exchange.errors.pop(0)
            elif keys != KEYS:
                status, answer = 401, {"code": 40110000, "message": "request is not authorized"}
            else:
                status, answer = exchange.answer(self.command, self.path, content)
            if exchange.lost_answers and self.command == "POST":
                exchange.lost_answers -= 1
                self.close_connection = True
                return
            body = b"" if answer is None else json.dumps(answer).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_DELETE = handle_one  # noqa: N815

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield exchange, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
