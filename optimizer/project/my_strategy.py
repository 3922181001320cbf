"""Ride a trend while its price is near its peak; leave when it turns."""

import pandas as pd

from optimizer import HOLD, LONG, SHORT

# name: (default, lowest, highest); whole numbers where all three are
PARAMETERS = {
    "lookback": (60, 2, 500),
    "peak_lookback": (120, 2, 500),
    "threshold": (0.02, 0.0, 1.0),
    "nearness": (0.9, 0.0, 1.0),
}


def near_peak(high, close, lookback):
    """Close over the highest high of the last bars: an array in, an array out, one symbol."""
    return close / pd.Series(high).rolling(lookback).max().to_numpy()


# argument of signal: (built-in feature or function of this file, its parameters)
FEATURES = {
    "momentum": ("momentum", "lookback"),
    "near": (near_peak, "peak_lookback"),
}


def signal(momentum, near, volatility, threshold, nearness):
    """Direction, strength (expected return per bar) and confidence (0 to 1) of one symbol's bar."""
    strength = 0.05 * volatility  # a Sharpe ratio of 0.05 per bar, on daily bars 0.8 a year
    if momentum > threshold and near > nearness:
        return LONG, strength, 1.0
    if momentum < -threshold:
        return SHORT, strength, 1.0  # sells what is held; opens a short only with allow_short
    return HOLD, 0.0, 0.0
