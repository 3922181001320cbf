"""Hold while MACD is above its signal line; the stop is in the study file."""

from optimizer import FLAT, LONG

PARAMETERS = {"fast": (12, 2, 100), "slow": (26, 3, 250), "smooth": (9, 2, 50)}
FEATURES = {"histogram": ("macd_histogram", "fast", "slow", "smooth")}


def signal(histogram, close):
    if histogram > 0.0:
        return LONG, histogram / close, 1.0  # the strength ranks symbols, no more
    return FLAT, 0.0, 0.0
