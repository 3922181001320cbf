"""Alpaca's trading API, version 2: its paper account, unless the environment names another address."""

from __future__ import annotations

import asyncio
import urllib.parse
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from optimizer.bars.timestamps import read_bound, read_zone
from optimizer.trading.account import Account, Position
from optimizer.trading.alpaca_server import AlpacaServer
from optimizer.trading.broker import Report, SeenBar, Status
from optimizer.types import Order

ADDRESS = "APCA_API_BASE_URL"
"""Variable of the environment, as Alpaca's own programs have it."""

PAPER_ADDRESS = "https://paper-api.alpaca.markets"

_FINAL: Mapping[str, Status] = {
    "filled": "filled",
    "canceled": "cancelled",
    "expired": "cancelled",
    "replaced": "cancelled",
    "done_for_day": "cancelled",
    "rejected": "rejected",
}
"""States of an order there after which nothing more becomes of it; all others are open."""

_NOT_FOUND, _REFUSED = 404, (403, 422)


class AlpacaBroker:
    """One account at Alpaca. Keys come from the environment, and are in no file, message or log.

    Args:
        environment: the variables ``APCA_API_KEY_ID``, ``APCA_API_SECRET_KEY`` and, for another address
            than the paper one, ``APCA_API_BASE_URL``; None takes those of this process.
        timeout: seconds that an answer may take.

    Raises:
        BrokerError: a key is missing, or the address is neither one of https nor one of this machine.
    """

    name = "alpaca"

    def __init__(self, environment: Mapping[str, str] | None = None, timeout: float = 10.0) -> None:
        self._server = AlpacaServer(ADDRESS, PAPER_ADDRESS, environment, timeout)

    async def place(self, order: Order) -> Report:
        """Send a market order, good for the day; while the market is closed that is its next open.

        Args:
            order: the order.

        Returns:
            What became of it so far; one whose ID is known there is reported and not placed again.

        Raises:
            OutageError: Alpaca cannot be reached, or asks to wait.
            BrokerError: the keys are refused.
        """
        content = {
            "symbol": order.name,
            "qty": _text(abs(order.quantity)),
            "side": "buy" if order.quantity > 0.0 else "sell",
            "type": "market",
            "time_in_force": "day",
            "client_order_id": order.id,
        }
        status, answer = await self._ask("POST", "/v2/orders", content)
        if status in _REFUSED:
            known = await self.report(order.id, order.name)
            return known or Report(order.id, "rejected", reason=self._server.message(answer))
        return _report(order.id, self._server.checked(status, answer, "order"))

    async def report(self, id: str, symbol: str) -> Report | None:
        """What Alpaca knows of an order; None if it has never got it.

        Args:
            id: the ID of the order.
            symbol: its symbol.
        """
        found = await self._known(id)
        return None if found is None else _report(id, found)

    async def cancel(self, id: str, symbol: str) -> None:
        """Cancel what is left of an order; nothing happens to one that is final or unknown.

        Args:
            id: the ID of the order.
            symbol: its symbol.
        """
        found = await self._known(id)
        if found is None or str(found.get("status")) in _FINAL:
            return
        place = urllib.parse.quote(str(found["id"]), safe="")
        status, answer = await self._ask("DELETE", f"/v2/orders/{place}")
        if status not in (_NOT_FOUND, *_REFUSED):  # it was final by then
            self._server.checked(status, answer, "cancel")

    async def account(self, symbols: Sequence[str]) -> Account:
        """The cash and the positions.

        Args:
            symbols: the symbols that matter.
        """
        money = self._server.checked(*await self._ask("GET", "/v2/account"), "account")
        held = self._server.checked(*await self._ask("GET", "/v2/positions"), "positions")
        positions = {}
        for one in held:
            if one["symbol"] in symbols:
                entry = one.get("avg_entry_price")
                positions[str(one["symbol"])] = Position(
                    quantity=float(one["qty"]), entry=None if entry is None else float(entry)
                )
        return Account(float(money["cash"]), positions)

    async def open_orders(
        self, symbols: Sequence[str], own: Collection[str] = ()
    ) -> Mapping[str, str]:
        """The symbols of open orders in some symbols, by client order ID.

        Args:
            symbols: the symbols.
            own: IDs of orders, which are the client order IDs.
        """
        query = urllib.parse.urlencode(
            {"status": "open", "limit": 500, "symbols": ",".join(symbols)}
        )
        found = self._server.checked(*await self._ask("GET", f"/v2/orders?{query}"), "orders")
        return {str(one["client_order_id"]): str(one["symbol"]) for one in found}

    async def clock(self) -> np.datetime64 | None:
        """The time there, UTC."""
        found = self._server.checked(*await self._ask("GET", "/v2/clock"), "clock")
        return _time(str(found["timestamp"]))

    async def see(self, seen: SeenBar) -> None:
        """Do nothing: fills are made there.

        Args:
            seen: the bar.
        """

    async def close(self) -> None:
        """Do nothing: no connection is kept."""

    # --- The wire -----------------------------------------------------------------------------------

    async def _known(self, id: str) -> Any:
        query = urllib.parse.urlencode({"client_order_id": id})
        status, answer = await self._ask("GET", f"/v2/orders:by_client_order_id?{query}")
        return None if status == _NOT_FOUND else self._server.checked(status, answer, "order")

    async def _ask(self, method: str, path: str, content: object = None) -> tuple[int, Any]:
        return await asyncio.to_thread(self._server.ask, method, path, content)


def _text(quantity: float) -> str:
    return str(int(quantity)) if quantity == int(quantity) else format(quantity, ".9f").rstrip("0")


def _report(id: str, found: Any) -> Report:
    sign = 1.0 if found["side"] == "buy" else -1.0
    state = str(found["status"])
    status = _FINAL.get(state, "open")
    return Report(
        id,
        status,
        str(found["id"]),
        sign * float(found.get("filled_qty") or 0.0),
        float(found.get("filled_avg_price") or 0.0),
        reason="" if status in ("filled", "open") else state,
    )


def _time(text: str) -> np.datetime64:
    return read_bound("alpaca: clock", text, read_zone("alpaca", "UTC"))
