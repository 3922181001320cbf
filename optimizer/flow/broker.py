"""The one place where orders leave the process, and fills come back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from optimizer.types import Fill, Order


class Broker(Protocol):
    """A real broker, or a simulated one of somebody's own. ``optimizer.trading`` has those of barsweep.

    ``EventFlow.on_bar_of_broker`` sends the orders of each close, and asks at the next bar what has
    filled. Orders are at the market and good until then: what is not filled by the time the flow asks,
    the broker cancels, since every close decides anew.
    """

    async def submit(self, orders: Sequence[Order]) -> Sequence[str]:
        """Send orders to the market.

        Args:
            orders: the orders of one portfolio at one close. The ID of an order is the same in every
                run on the same bars, so that a broker can refuse to place it twice.

        Returns:
            The broker's reference of each order.
        """

    async def fills(self) -> Sequence[Fill]:
        """What has filled since the last call, of all portfolios, in order of time.

        Returns:
            The fills; ``broker_fill`` makes one of what a broker reports.
        """


def broker_fill(
    order: Order,
    id: str,
    time: np.datetime64,
    quantity: float,
    price: float,
    commission: float = 0.0,
    lot_money: float | None = None,
) -> Fill:
    """The fill of an order, from what a broker reports.

    Args:
        order: the order, of which this may be a part.
        id: the broker's ID of the fill, unique.
        time: when it filled, UTC.
        quantity: units, signed like the order.
        price: money a unit.
        commission: money for the whole fill.
        lot_money: money per lot at a price of 1; None takes the units of a lot.
    """
    units = order.quantity / order.lots
    lots = quantity / units
    if math.isclose(lots, round(lots), rel_tol=1e-9):
        lots = float(round(lots))  # a closed position is exactly 0
    value = price * (units if lot_money is None else lot_money)
    return Fill(
        id=id,
        portfolio_id=order.portfolio_id,
        order_id=order.id,
        bar=order.bar + 1,
        time=time,
        symbol=order.symbol,
        kind="order",
        lots=lots,
        quantity=quantity,
        price=price,
        raw_value=value,
        cash_per_lot=value + commission / lots,
        cost=commission,
    )
