"""Trade the ratio of two funds back to its mean: long the cheap one, short the dear one."""

import numpy as np
import pandas as pd

from optimizer import FLAT, HOLD, LONG, SHORT, panel

PAIRS = (("SPY", "QQQ"), ("IWM", "EEM"))
PARAMETERS = {"lookback": (60, 5, 250), "enter": (2.0, 0.0, 5.0), "leave": (0.5, 0.0, 5.0)}


def dearness(close, symbols, lookback):
    """How far each is above its usual price in terms of its partner, in standard deviations."""
    out = np.zeros(close.shape)
    columns = {symbol: i for i, symbol in enumerate(symbols)}
    for one, other in PAIRS:
        i, j = columns[one], columns[other]
        ratio = pd.Series(np.log(close[:, i] / close[:, j]))
        window = ratio.rolling(lookback)
        z = ((ratio - window.mean()) / window.std()).to_numpy()
        out[:, i], out[:, j] = z, -z
    return out


FEATURES = {"dear": panel(dearness, "lookback")}


def signal(dear, enter, leave):
    if dear > enter:
        return SHORT, 0.001, 1.0
    if dear < -enter:
        return LONG, 0.001, 1.0
    if abs(dear) <= leave:
        return FLAT, 0.0, 0.0
    return HOLD, 0.0, 0.0
