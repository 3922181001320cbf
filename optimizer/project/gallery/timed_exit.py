"""Buy when the RSI is low in an uptrend; leave after some bars."""

from optimizer import FLAT, HOLD, LONG

PARAMETERS = {
    "trend_lookback": (200, 2, 500),
    "rsi_lookback": (3, 2, 100),
    "oversold": (20.0, 0.0, 100.0),
    "longest": (5, 1, 250),
}
FEATURES = {"trend": ("sma", "trend_lookback"), "rsi": ("rsi", "rsi_lookback")}


def signal(trend, rsi, close, volatility, side, bars_held, oversold, longest):
    if side == 0:
        return (LONG if rsi < oversold and close > trend else FLAT), volatility, 1.0
    return (FLAT if bars_held >= longest else HOLD), 0.0, 0.0
