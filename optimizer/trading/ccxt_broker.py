"""The spot account of an exchange, through ccxt."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from decimal import Decimal
from typing import Any, TypeVar

import numpy as np

from optimizer.errors import BrokerError
from optimizer.sweep.rules import Rules
from optimizer.text import list_text
from optimizer.trading.account import Account, Position
from optimizer.trading.broker import OutageError, Report, SeenBar, Status
from optimizer.trading.ccxt_exchange import CcxtExchange, NotThereError, RefusedError, time_of
from optimizer.types import Order

_Result = TypeVar("_Result")

_FINAL: Mapping[str, Status] = {
    "closed": "filled",
    "canceled": "cancelled",
    "expired": "cancelled",
    "rejected": "rejected",
}
"""States of an order in ccxt after which nothing more becomes of it; all others are open."""

_CLIENT_IDS = re.compile(r"[.A-Z:/a-z0-9_-]{1,36}")
"""Client order IDs that the exchanges take, all of which are Binance's."""


def refuse_spot(rules: Rules) -> None:
    """Refuse a set that a spot account cannot trade.

    Args:
        rules: the rules of the study.

    Raises:
        BrokerError: the set may be short, or borrow.
    """
    if rules.allow_short:
        raise BrokerError(
            "ccxt: allow_short = true: a spot account cannot be short; run the study with"
            " allow_short = false"
        )
    if rules.leverage > 1.0:
        raise BrokerError(
            f"ccxt: [account] leverage = {rules.leverage:g}: a spot account has no credit; run the study"
            " with leverage = 1"
        )


class CcxtBroker:
    """One spot account.

    Args:
        exchange: the exchange.
        lots: units of a lot of each symbol of the study.
        window: seconds for which an order that has not been answered may still be under way: see
            ``CcxtExchange``.
        say: is told once how the least order there differs from that of the study.
    """

    def __init__(
        self,
        exchange: CcxtExchange,
        lots: Mapping[str, float],
        *,
        window: float = 5.0,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.name = exchange.name
        self._exchange, self._lots, self._window, self._say = exchange, lots, window, say
        self._is_checked = False
        self._quote = ""
        # By when each order was signed that may be under way; those of a process before this one by its
        # start.
        self._begun = time.monotonic()
        self._tried: dict[str, float] = {}

    async def place(self, order: Order) -> Report:
        """Send a market order. A sale of more than is free is refused here.

        Args:
            order: the order.

        Returns:
            What became of it so far; one whose ID is known there is reported and not placed again.

        Raises:
            OutageError: the exchange cannot be reached, or asks to wait.
            BrokerError: the keys are refused.
        """
        known = await self.report(order.id, order.name)
        if known is not None:
            return known
        # The float next to the decimal number, so that ccxt cuts off no step of the exchange.
        quantity = float(self._lot(order.name) * Decimal(abs(order.lots)))
        side = "buy" if order.quantity > 0.0 else "sell"
        if side == "sell":
            free = await self._free(order.name)
            if free < quantity:
                reason = f"{quantity:.10g} to sell, and {free:.10g} are free"
                return Report(order.id, "rejected", reason=reason)
        own = {"clientOrderId": self._client_id(order.id)}

        def send(exchange: Any) -> Any:
            try:
                return exchange.create_order(order.name, "market", side, quantity, None, own)
            finally:  # by now it is signed; whoever asks for it waits until this call has ended
                self._tried[order.id] = time.monotonic()

        try:
            found = await self._ask(send)
        except RefusedError as error:
            found = await self._known(order.id, order.name)
            if found is None:
                return Report(order.id, "rejected", reason=str(error))
        return _report(order.id, found, ())

    async def report(self, id: str, symbol: str) -> Report | None:
        """What the exchange knows of an order; None if it has never got it, nor will.

        Args:
            id: the ID of the order.
            symbol: its symbol.
        """
        found = await self._known(id, symbol)
        wait = self._window - (time.monotonic() - self._tried.get(id, self._begun))
        if found is None and wait > 0.0:
            await asyncio.sleep(wait)
            found = await self._known(id, symbol)
        if found is None:
            return None
        trades: Sequence[Any] = ()
        if found["status"] in _FINAL and found.get("filled") and not found.get("fees"):
            trades = await self._ask(lambda exchange: _trades(exchange, found, symbol))
        return _report(id, found, trades)

    async def cancel(self, id: str, symbol: str) -> None:
        """Cancel what is left of an order; nothing happens to one that is final or unknown.

        Args:
            id: the ID of the order.
            symbol: its symbol.
        """
        found = await self._known(id, symbol)
        if found is None or found["status"] in _FINAL:
            return
        try:
            await self._ask(lambda exchange: exchange.cancel_order(found["id"], symbol))
        except NotThereError:
            return  # it was final by then

    async def account(self, symbols: Sequence[str]) -> Account:
        """The cash and the positions, in whole lots of the study; a part of a lot counts as nothing.

        Args:
            symbols: the symbols that matter.
        """

        def read(exchange: Any) -> Account:
            held = exchange.fetch_balance()["total"]
            positions = {}
            for symbol in symbols:
                lot = self._lot(symbol)
                units = float(held.get(exchange.market(symbol)["base"]) or 0.0)
                lots = Decimal(repr(units)) // lot
                if lots:
                    positions[symbol] = Position(quantity=float(lots * lot))
            return Account(float(held.get(self._quote) or 0.0), positions)

        return await self._ask(read)

    async def open_orders(
        self, symbols: Sequence[str], own: Collection[str] = ()
    ) -> Mapping[str, str]:
        """The symbols of open orders in some symbols, by ID.

        Args:
            symbols: the symbols.
            own: IDs of orders; others are named by their client order IDs.
        """
        ours = {self._client_id(id): id for id in own}

        def read(exchange: Any) -> dict[str, str]:
            found = [(one, s) for s in symbols for one in exchange.fetch_open_orders(s)]
            names = [(str(one.get("clientOrderId") or one["id"]), s) for one, s in found]
            return {ours.get(name, name): symbol for name, symbol in names}

        return await self._ask(read)

    async def clock(self) -> np.datetime64 | None:
        """The time there, UTC; None where it does not tell."""
        found = await self._ask(time_of)
        return None if found is None else np.datetime64(found * 1_000_000, "ns")

    async def see(self, seen: SeenBar) -> None:
        """Do nothing: fills are made there.

        Args:
            seen: the bar.
        """

    async def close(self) -> None:
        """Do nothing: connections end with the process."""

    # --- The exchange -------------------------------------------------------------------------------

    def _lot(self, symbol: str) -> Decimal:
        """Units of a lot as the decimal number that is meant."""
        return Decimal(repr(float(self._lots[symbol])))

    def _client_id(self, id: str) -> str:
        """The client order ID of an order: its ID without the kind, or a hash where that is too long."""
        short = id.removesuffix(".order")
        if _CLIENT_IDS.fullmatch(short):
            return short
        return hashlib.sha256(id.encode()).hexdigest()[:32]

    async def _known(self, id: str, symbol: str) -> Any:
        own = self._client_id(id)
        try:
            return await self._ask(
                lambda exchange: exchange.fetch_order_with_client_order_id(own, symbol)
            )
        except NotThereError:
            return None

    async def _free(self, symbol: str) -> float:
        def read(exchange: Any) -> float:
            return float(exchange.fetch_balance()["free"].get(exchange.market(symbol)["base"]) or 0)

        return await self._ask(read)

    async def _ask(self, call: Callable[[Any], _Result]) -> _Result:
        def checked(exchange: Any) -> _Result:
            if not self._is_checked:
                self._check(exchange)
            return call(exchange)

        return await self._exchange.ask(checked)

    def _check(self, exchange: Any) -> None:
        """Compare the markets with the study: names, money, lots, least orders."""
        quotes = set()
        for symbol, lot in self._lots.items():
            market = exchange.markets.get(symbol)
            if market is None or not market["spot"]:
                raise BrokerError(
                    f"{self.name}: {symbol}: no spot market there; the symbols of the study must be"
                    " named as ccxt names them, such as BTC/USDT"
                )
            quotes.add(str(market["quote"]))
            step = self._exchange.step(market)
            if step and self._lot(symbol) % step:
                raise BrokerError(
                    f"{self.name}: {symbol}: takes multiples of {step.normalize():f} units, and a lot of"
                    f" the study is {lot:.10g}; run the study with such a lot_size"
                )
        if len(quotes) > 1:
            raise BrokerError(
                f"{self.name}: {list_text(self._lots)} are paid for in {list_text(sorted(quotes))}; a set"
                " trades for one money: run the study with symbols of one"
            )
        (self._quote,) = quotes
        for symbol, lot in self._lots.items():
            limits = exchange.markets[symbol]["limits"]
            least = float((limits.get("amount") or {}).get("min") or 0.0)
            money = float((limits.get("cost") or {}).get("min") or 0.0)
            least = max(least, float((limits.get("market") or {}).get("min") or 0.0))
            parts = [f"{least:.10g} units"] if least > lot else []
            parts += [f"{money:.10g} {self._quote}"] if money else []
            if parts:
                self._say(
                    f"{self.name}: {symbol}: orders below {' and '.join(parts)} are refused there;"
                    f" a lot of the study is {lot:.10g} units"
                )
        self._is_checked = True


def _trades(exchange: Any, found: Mapping[str, Any], symbol: str) -> Sequence[Any]:
    """What an order has filled, trade by trade; empty where the exchange does not tell."""
    if not exchange.has.get("fetchOrderTrades"):
        return ()
    trades: Sequence[Any] = exchange.fetch_order_trades(found["id"], symbol)
    return trades


def _report(id: str, found: Mapping[str, Any], trades: Sequence[Mapping[str, Any]]) -> Report:
    if not found.get("id") or found.get("side") not in ("buy", "sell"):
        raise OutageError(f"order {id}: an answer that cannot be read")
    sign = 1.0 if found["side"] == "buy" else -1.0
    state = str(found["status"])
    status = _FINAL.get(state, "open")
    quantity = float(found.get("filled") or 0.0)
    price = float(found.get("average") or 0.0) if quantity else 0.0
    base, _, quote = str(found["symbol"]).partition("/")
    commission = 0.0
    for one in (found, *trades):
        for fee in one.get("fees") or ():
            worth = {base: price, quote: 1.0}.get(str(fee.get("currency")), 0.0)
            commission += float(fee.get("cost") or 0.0) * worth
    return Report(
        id,
        status,
        str(found["id"]),
        sign * quantity,
        price,
        commission,
        reason="" if status in ("filled", "open") else state,
    )
