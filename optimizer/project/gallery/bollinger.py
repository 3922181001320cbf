"""Buy above the upper Bollinger band on high volume; leave at the middle of the bands."""

import pandas as pd

from optimizer import FLAT, HOLD, LONG

PARAMETERS = {"lookback": (20, 2, 250), "width": (2.0, 0.5, 5.0), "busy": (1.5, 0.0, 10.0)}


def relative_volume(volume, lookback):
    """Volume over the mean of the last bars."""
    mean = pd.Series(volume).rolling(lookback).mean().to_numpy()
    return volume / mean


FEATURES = {
    "place": ("bollinger", "lookback", "width"),  # 0 at the lower band, 1 at the upper one
    "activity": (relative_volume, "lookback"),
}


def signal(place, activity, volatility, busy):
    if place > 1.0 and activity >= busy:
        return LONG, volatility, 1.0
    if place < 0.5:
        return FLAT, 0.0, 0.0
    return HOLD, 0.0, 0.0
