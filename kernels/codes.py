"""Integer codes shared by kernels and callers. Lanes compare directions and regimes as floats."""

from typing import Literal, get_args

SHORT, FLAT, LONG, HOLD = -1, 0, 1, 2
"""Direction of a signal. HOLD leaves the position as it is: a dead band without state."""

BEAR, NEUTRAL, BULL = -1, 0, 1
"""Regime of the market."""

MOMENTUM, MEAN_REVERSION, AVERAGE_CROSS, BREAKOUT, ROTATION, CUSTOM = range(6)
"""Signal kernels. Strategies of one kernel differ in their features only. CUSTOM is a user's."""

KELLY, VOLATILITY_TARGET, WEIGHT, EQUAL_WEIGHT, RISK_PER_TRADE = range(5)
"""Sizing modes: how a signal becomes a fraction of equity."""

Sizing = Literal["kelly", "volatility_target", "weight", "equal_weight", "risk_per_trade"]
SIZINGS: tuple[Sizing, ...] = get_args(Sizing)
"""Names of these codes, in their order."""

ADDITIONS, TARGETS = 0, 1
"""Allocation: what is scaled where the budget does not suffice."""

Allocation = Literal["additions", "targets"]
ALLOCATIONS: tuple[Allocation, ...] = get_args(Allocation)
"""Names of these codes, in their order."""

MARKET_ENTRY, LIMIT_ENTRY, STOP_ENTRY = range(3)
"""How an addition fills: at the open, or inside a bar at a price at which it waits."""

Entry = Literal["market", "limit", "stop"]
ENTRIES: tuple[Entry, ...] = get_args(Entry)
"""Names of these codes, in their order."""

REDUCE, ADD, ENTERED = 1, 2, 4
"""Parts of an order that any lane of a block has pending in a symbol, and whether any entered inside the
bar; bits of one byte."""

WAITING, LIVE, LEAVING = 0, 1, 2
"""Whether a symbol decides at a bar: it does not, because it has no bar or is in its warm-up; it does;
it may only be sold."""

ORDER_REDUCING, ORDER_ADDING, ENTRY_ADDING, STOPPED, LIQUIDATED, ENDED, WRITTEN_OFF = range(7)
"""Kinds of fill, in the order in which they can happen in a bar."""

FILL_KINDS = ("order", "order", "order", "stop", "liquidation", "end", "ruin")
"""Names of these codes, in their order."""

FILL_LOTS, FILL_PRICE, FILL_VALUE, FILL_CASH = range(4)
"""What a recorded fill says: signed lots; price per unit, costs of the spread included; money per lot
at the market's price, and that which a lot takes or brings."""

(
    PLACED, NO_SIGNAL, HELD, UNCHANGED, NO_EDGE, NO_VOLATILITY, NO_PLACE, NO_BUDGET, BELOW_MINIMUM,
    INSIDE_BAND,
) = range(10)  # fmt: skip
"""Outcome of a signal: an order was placed, or the reason why not."""

REASONS = (
    "placed",
    "no_signal",
    "held",
    "unchanged",
    "no_edge",
    "no_volatility",
    "no_place",
    "no_budget",
    "below_minimum",
    "inside_band",
)
"""Names of these codes, in their order."""
