"""What a trading session asks of a broker."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from optimizer.errors import BrokerError
from optimizer.flow.containers.execution import Market
from optimizer.trading.account import Account, Position
from optimizer.types import Bar, FloatArray, Order

Status = Literal["open", "filled", "cancelled", "rejected"]


class OutageError(BrokerError):
    """The broker cannot be reached, or asks to wait; what was asked may be asked again.

    Args:
        message: one line.
        wait: seconds to wait at least.
    """

    def __init__(self, message: str = "", wait: float = 0.0) -> None:
        super().__init__(message)
        self.wait = wait


@dataclass(frozen=True, slots=True)
class Report:
    """What a broker says of an order.

    Attributes:
        id: the ID of the order, which is the client order ID there.
        status: ``open``; or final: ``filled``, ``cancelled`` (in part it may have filled), ``rejected``.
        reference: the broker's own ID of it.
        quantity: units filled so far, signed.
        price: mean price of what has filled, 0 where nothing has.
        commission: money for all of that.
        reason: why it was cancelled or rejected.
    """

    id: str
    status: Status
    reference: str = ""
    quantity: float = 0.0
    price: float = 0.0
    commission: float = 0.0
    reason: str = ""

    @property
    def is_final(self) -> bool:
        """Whether nothing more can become of the order."""
        return self.status != "open"


@dataclass(frozen=True, eq=False)
class SeenBar:
    """A closed bar as a broker that simulates its fills needs it.

    Attributes:
        bar, before: the bar, and the one before it.
        market: the bar with its opens, and with the volatilities and ranges of the close before.
        rates: interest of the time before it, shape (N_RATE_COLUMNS,).
    """

    bar: Bar
    before: Bar
    market: Market
    rates: FloatArray


class TradingBroker(Protocol):
    """A broker's account in which one session trades. Whatever cannot be reached raises OutageError."""

    name: str

    async def place(self, order: Order) -> Report:
        """Place an order at the market, for the next open or for now.

        One whose ID is known already is not placed again.

        Args:
            order: the order.

        Returns:
            What became of it so far.
        """

    async def report(self, id: str, symbol: str) -> Report | None:
        """What the broker knows of an order; None if it has never got it.

        Args:
            id: the ID of the order.
            symbol: its symbol.
        """

    async def cancel(self, id: str, symbol: str) -> None:
        """Cancel what is left of an order; nothing happens to one that is final.

        Args:
            id: the ID of the order.
            symbol: its symbol.
        """

    async def account(self, symbols: Sequence[str]) -> Account:
        """The cash and the positions.

        Args:
            symbols: the symbols that matter; others are left out.
        """

    async def open_orders(
        self, symbols: Sequence[str], own: Collection[str] = ()
    ) -> Mapping[str, str]:
        """The symbols of all open orders in some symbols, by ID.

        Args:
            symbols: the symbols.
            own: IDs of orders; others are named by their client order IDs.
        """

    async def clock(self) -> np.datetime64 | None:
        """The broker's time, UTC; None where it keeps that of this machine."""

    async def see(self, seen: SeenBar) -> None:
        """A bar has closed: a broker that simulates fills those orders that waited for it.

        Args:
            seen: the bar.
        """

    async def close(self) -> None:
        """Let go of connections."""


class PayingBroker(TradingBroker, Protocol):
    """A broker into whose account money may be paid, and out of it."""

    async def pay(self, id: str, money: float) -> None:
        """Pay money in, or out if negative; nothing happens where the ID is known.

        Args:
            id: the ID of the payment.
            money: money.
        """


class DryRun:
    """A broker to which nothing is sent: its account is read, every order is cancelled unseen.

    Args:
        broker: whose account it shows.
    """

    def __init__(self, broker: TradingBroker) -> None:
        self._broker = broker
        self.name = f"{broker.name}, dry run"

    async def place(self, order: Order) -> Report:
        """The report of an order that was not sent.

        Args:
            order: the order.
        """
        return Report(order.id, "cancelled", reason="dry run")

    async def report(self, id: str, symbol: str) -> Report | None:
        """The report of an order that was not sent.

        Args:
            id: the ID of the order.
            symbol: its symbol.
        """
        return Report(id, "cancelled", reason="dry run")

    async def cancel(self, id: str, symbol: str) -> None:
        """Do nothing, since nothing was sent.

        Args:
            id: the ID of the order.
            symbol: its symbol.
        """

    async def account(self, symbols: Sequence[str]) -> Account:
        """The account of the broker.

        Args:
            symbols: the symbols that matter.
        """
        return await self._broker.account(symbols)

    async def open_orders(
        self, symbols: Sequence[str], own: Collection[str] = ()
    ) -> Mapping[str, str]:
        """The open orders of the session: none.

        Args:
            symbols: the symbols that matter.
            own: IDs of orders.
        """
        return {}

    async def clock(self) -> np.datetime64 | None:
        """The broker's time."""
        return await self._broker.clock()

    async def see(self, seen: SeenBar) -> None:
        """Do nothing, since nothing waits.

        Args:
            seen: the bar.
        """

    async def close(self) -> None:
        """Let go of the broker."""
        await self._broker.close()


def account_of(cash: float, units: Mapping[str, float], symbols: Sequence[str]) -> Account:
    """An account from cash and units.

    Args:
        cash: money.
        units: units by symbol, signed.
        symbols: the symbols that matter.
    """
    held = {name: Position(quantity=units[name]) for name in symbols if units.get(name, 0.0) != 0.0}
    return Account(cash, held)
