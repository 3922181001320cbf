"""Integer codes shared by kernels and callers. Lanes compare directions and regimes as floats."""

SHORT, FLAT, LONG, HOLD = -1, 0, 1, 2
"""Direction of a signal. HOLD leaves the position as it is: a dead band without state."""

BEAR, NEUTRAL, BULL = -1, 0, 1
"""Regime of the market."""

MOMENTUM, MEAN_REVERSION, AVERAGE_CROSS, BREAKOUT, CUSTOM = 0, 1, 2, 3, 4
"""Signal kernels. sma_cross and ema_cross differ in their features only. CUSTOM is a user's."""

SELL, BUY = 1, 2
"""Kinds of order that any lane of a block has pending in a symbol; bits of one byte."""

PLACED, NO_SIGNAL, HELD, UNCHANGED, NO_EDGE, NO_BUDGET, NO_CASH, BELOW_MINIMUM, INSIDE_BAND = range(
    9
)
"""Outcome of a signal: an order was placed, or the reason why not."""

REASONS = (
    "placed",
    "no_signal",
    "held",
    "unchanged",
    "no_edge",
    "no_budget",
    "no_cash",
    "below_minimum",
    "inside_band",
)
"""Names of these codes, in their order."""
