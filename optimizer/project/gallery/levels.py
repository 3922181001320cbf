"""Buy a third in an uptrend, and another one every few bars while it earns; pause afterwards."""

from optimizer import FLAT, HOLD, LONG

PARAMETERS = {"lookback": (120, 2, 500), "every": (5, 1, 100), "pause": (10, 0, 250)}
FEATURES = {"momentum": ("momentum", "lookback")}


def signal(momentum, volatility, side, bars_held, open_return, bars_since_exit, every, pause):
    if momentum < 0.0:
        return FLAT, 0.0, 0.0
    if (side == 0 and bars_since_exit < pause) or (side != 0 and open_return <= 0.0):
        return HOLD, 0.0, 0.0
    return LONG, volatility, min(1 + bars_held // every, 3) / 3
