"""Strategies as users write them, for the tests."""

from __future__ import annotations

MOMENTUM = """
import math

from optimizer import HOLD, LONG, SHORT, strength_of_score

PARAMETERS = {"lookback": (60, 1, 100_000), "threshold": (0.0, 0.0, 100.0)}
FEATURES = {"momentum": ("momentum", "lookback")}
SCORE_SHARPE = 0.5 / math.sqrt(252.0)


def signal(momentum, volatility, inverse_volatility, threshold, lookback):
    score = abs(momentum) * (1.0 / math.sqrt(lookback)) * inverse_volatility
    strength = strength_of_score(score, volatility, SCORE_SHARPE)
    if momentum > threshold:
        return LONG, strength, 1.0
    if momentum < -threshold:
        return SHORT, strength, 1.0
    return HOLD, strength, 1.0
"""
"""The built-in momentum once more, for bars of which a year has 252."""

MANY = '''
import numpy as np

from optimizer import FLAT, HOLD, LONG, SHORT

PARAMETERS = {
    "fast": (5, 2, 100),
    "slow": (20, 2, 100),
    "band": (0.01, 0.0, 1.0),
    "oversold": (30.0, 0.0, 100.0),
    "overbought": (70.0, 0.0, 100.0),
    "low_range": (0.1, 0.0, 1.0),
    "high_range": (0.9, 0.0, 1.0),
    "edge": (0.0005, 0.0, 1.0),
    "trust": (0.6, 0.0, 1.0),
    "least_volume": (0.5, 0.0, 10.0),
}
SCALE = 2.0


def place_in_range(high, low, close, lookback):
    place = np.full(len(close), np.nan)
    for t in range(lookback, len(close)):
        lowest, highest = low[t - lookback : t + 1].min(), high[t - lookback : t + 1].max()
        place[t] = (close[t] - lowest) / (highest - lowest)
    return place


def relative_volume(volume, lookback):
    before = np.concatenate(([0.0], np.cumsum(volume)))
    mean = np.full(len(volume), np.nan)
    mean[lookback:] = (before[lookback + 1 :] - before[1:-lookback]) / lookback
    return volume / mean


FEATURES = {
    "fast_average": ("sma", "fast"),
    "slow_average": ("sma", "slow"),
    "strength_index": ("rsi", "fast"),
    "moved": ("momentum", "slow"),
    "place": (place_in_range, "slow"),
    "busy": (relative_volume, "fast"),
}


def stronger(edge, moved):
    return edge * (1.0 + SCALE * abs(moved))


def signal(
    busy, trust, close, fast_average, slow_average, band, strength_index, oversold, overbought,
    place, low_range, high_range, moved, edge, volatility, inverse_volatility, least_volume,
):
    """Every feature and every parameter, in an order of its own."""
    if busy < least_volume:
        return HOLD, 0.0, 0.0
    strength = stronger(edge, moved) * min(2.0, 0.01 * inverse_volatility) + 0.01 * volatility
    if fast_average > slow_average * (1.0 + band) and strength_index < overbought:
        return (FLAT if place > high_range else LONG), strength, trust
    if fast_average < slow_average * (1.0 - band) and strength_index > oversold:
        return (HOLD if place < low_range else SHORT), strength * close / slow_average, trust
    return HOLD, 0, 0
'''
"""As many features and parameters as there may be, two features of its own, a function of its own."""

POSITION = """
from optimizer import FLAT, HOLD, LONG, SHORT

PARAMETERS = {
    "lookback": (3, 1, 100),
    "longest": (6, 1, 1000),
    "give_back": (0.02, 0.0, 1.0),
    "pause": (2, 0, 100),
}
FEATURES = {"momentum": ("momentum", "lookback")}


def signal(
    momentum, close, volatility, side, bars_held, open_return, best_return, worst_return,
    entry_price, bars_since_exit, longest, give_back, pause,
):
    strength = 0.2 * volatility
    if side == 0:
        if bars_since_exit < pause:
            return FLAT, 0.0, 1.0
        return (LONG if momentum > 0.0 else SHORT), 0.5 * strength, 1.0
    if bars_held >= longest or best_return - open_return > give_back:
        return FLAT, 0.0, 1.0
    if worst_return < -2.0 * give_back and open_return > 0.0:
        return (SHORT if side > 0 else LONG), 0.7 * strength, 1.0
    if side * (close - entry_price) > 0.01 * entry_price:
        return (LONG if side > 0 else SHORT), strength, 1.0
    return HOLD, 0.0, 1.0
"""
"""Takes all that a signal may know of its position: leaves by time and by what was lost, adds, turns."""

REGIME = """
from optimizer import FLAT, HOLD, LONG, SHORT

PARAMETERS = {"lookback": (3, 1, 100), "certain": (0.6, 0.0, 1.0), "longest": (9, 1, 1000)}
FEATURES = {"momentum": ("momentum", "lookback")}


def signal(bull_probability, momentum, volatility, certain, bear_probability, bars_held, longest):
    neutral = 1.0 - bear_probability - bull_probability
    if bars_held >= longest or neutral > certain:
        return FLAT, 0.0, 1.0
    if bear_probability > certain:
        return (SHORT if momentum < 0.0 else HOLD), 0.3 * volatility, bear_probability
    return (LONG if momentum > 0.0 else HOLD), 0.2 * volatility, bull_probability
"""
"""Takes the probabilities of the regime, which are its confidence, and something of its position."""

REGIME_ALONE = (
    REGIME.replace("bars_held >= longest or ", "")
    .replace("bear_probability, bars_held, longest)", "bear_probability, longest)")
    .replace("0.3 * volatility", "0.3 * volatility / longest")
)
"""The same without its position: portfolios with the same model share its signals."""
