"""What may happen to a trading session, and what stops it."""

from __future__ import annotations

from dataclasses import dataclass

from optimizer.errors import BrokerError

KINDS = {
    "started": "a session has begun",
    "went_on": "a session has gone on after a stop or a kill",
    "sent": "an order has reached the broker",
    "missed": "an order was not sent: a newer bar, a limit or a clock came first",
    "refused": "the broker refused an order",
    "filled": "an order has filled whole",
    "partly_filled": "a part of an order has filled, the rest was cancelled",
    "not_filled": "an order was cancelled or lapsed without a fill",
    "unknown_order": "the broker does not know an order that it had taken",
    "foreign_order": "the broker has an open order that is not of this session",
    "moved": "money has moved between the accounts of a combination",
    "account_differs": "the broker holds something else than expected, and is right",
    "timeout": "the broker did not answer in time",
    "outage": "the broker could not be reached",
    "outage_over": "the broker answers again",
    "clock_skew": "the clocks of bars, broker and machine differ",
    "gap": "bars are missing before this one",
    "late_bar": "a bar that was taken came again with other values, or came too late",
    "unreadable_feed": "the bars could not be read; the session looks again",
    "limit": "a limit has stopped the session",
}
"""Kinds of events, and what each means."""


class LimitError(BrokerError):
    """A limit that the user has set stops the session."""


@dataclass(frozen=True)
class Limits:
    """What stops a session, and how patient it is with a broker.

    Attributes:
        max_loss: fraction of the equity at the start; None for no limit.
        max_orders_a_day: orders for the closes of one day, UTC; None for no limit.
        timeout: seconds that the broker may take to answer.
        outage: seconds for which a broker that cannot be reached is asked again.
        retry: seconds before it is asked again, which double each time up to 30.
        max_skew: seconds by which the broker's clock may differ.
    """

    max_loss: float | None = None
    max_orders_a_day: int | None = None
    timeout: float = 10.0
    outage: float = 300.0
    retry: float = 0.5
    max_skew: float = 10.0
