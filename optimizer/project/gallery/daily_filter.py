"""Buy at the top of the hourly channel while the price is above its daily average."""

from optimizer import FLAT, HOLD, LONG, feature

PARAMETERS = {
    "lookback": (24, 2, 500),
    "days": (20, 2, 100),
    "high": (0.95, 0.5, 1.0),
    "low": (0.3, 0.0, 0.5),
}
FEATURES = {
    "place": ("donchian", "lookback"),  # 0 at the lowest low, 1 at the highest high
    "trend": feature("sma", "days", timeframe="1d"),  # of closed days only
}


def signal(place, trend, close, volatility, high, low):
    if close < trend or place < low:
        return FLAT, 0.0, 0.0
    return (LONG if place > high else HOLD), volatility, 1.0
