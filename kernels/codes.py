"""Integer codes shared by kernels and callers. Directions and regimes are compared as floats in lanes."""

SHORT, FLAT, LONG, HOLD = -1, 0, 1, 2
"""Direction of a signal. HOLD leaves the position as it is: a dead band without state."""

BEAR, NEUTRAL, BULL = -1, 0, 1
"""Regime of the market."""

MOMENTUM, MEAN_REVERSION, AVERAGE_CROSS, BREAKOUT, CUSTOM = 0, 1, 2, 3, 4
"""Signal kernels; sma_cross and ema_cross differ in their features alone. CUSTOM is a user's."""

PLACED, NO_SIGNAL, HELD, UNCHANGED, NO_EDGE, NO_BUDGET, NO_CASH, BELOW_MINIMUM, INSIDE_BAND = range(
    9
)
"""What became of a signal: an order, or the reason why there is none."""

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
