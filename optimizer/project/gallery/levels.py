"""Add to a position level by level while it earns; pause after it."""

from optimizer import FLAT, HOLD, LONG

PARAMETERS = {"lookback": (120, 2, 500), "step": (0.05, 0.0, 1.0), "pause": (10, 0, 250)}
FEATURES = {"momentum": ("momentum", "lookback")}


def signal(momentum, volatility, side, best_return, bars_since_exit, step, pause):
    if momentum < 0.0:
        return FLAT, 0.0, 0.0
    if side == 0 and bars_since_exit < pause:
        return HOLD, 0.0, 0.0
    level = 1.0  # a third at the entry, two at one step of gain, all at two
    if best_return < step:
        level = 1.0 / 3.0
    elif best_return < 2.0 * step:
        level = 2.0 / 3.0
    return LONG, volatility, level
