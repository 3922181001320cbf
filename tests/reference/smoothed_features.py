"""Features that remember all bars before, in plain Python, computed exactly."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import nan

from tests.reference.features import atr
from tests.reference.window_features import Floats, exact, mean


def averaged(values: Sequence[Fraction], lookback: int) -> list[Fraction]:
    """Exponential averages, the first one that of the first ``lookback`` values."""
    out = [mean(values[:lookback])] if len(values) >= lookback else []
    for value in values[lookback:]:
        out.append(out[-1] + Fraction(2, lookback + 1) * (value - out[-1]))
    return out


def late(values: Sequence[Fraction], n_bars: int) -> list[float]:
    """The values as the last of ``n_bars``, NaN before."""
    return [nan] * (n_bars - len(values)) + [float(value) for value in values]


def differences(close: Floats, fast: int, slow: int) -> list[Fraction]:
    """Fast less slow average, both begun so that the first value of both is at the same bar."""
    prices, longest = exact(close), max(fast, slow)
    both = (averaged(prices[longest - n :], n) for n in (fast, slow))
    return [a - b for a, b in zip(*both, strict=True)]


def macd(close: Floats, fast: int, slow: int) -> list[float]:
    """The difference."""
    return late(differences(close, fast, slow), len(close))


def macd_signal(close: Floats, fast: int, slow: int, smooth: int) -> list[float]:
    """Its average."""
    return late(averaged(differences(close, fast, slow), smooth), len(close))


def macd_histogram(close: Floats, fast: int, slow: int, smooth: int) -> list[float]:
    """The difference less its average."""
    apart = differences(close, fast, slow)
    signal = averaged(apart, smooth)
    return late(
        [a - b for a, b in zip(apart[len(apart) - len(signal) :], signal, strict=True)], len(close)
    )


def directional(
    high: Floats, low: Floats, close: Floats, lookback: int
) -> list[tuple[Fraction, Fraction]]:
    """The directional indices up and down from bar ``lookback`` on."""
    h, lows, c = exact(high), exact(low), exact(close)
    sums, out = [Fraction(0)] * 3, []
    for t in range(1, len(c)):
        rise, fall = h[t] - h[t - 1], lows[t - 1] - lows[t]
        added = (
            rise if rise > max(fall, Fraction(0)) else Fraction(0),
            fall if fall > max(rise, Fraction(0)) else Fraction(0),
            max(h[t] - lows[t], abs(h[t] - c[t - 1]), abs(lows[t] - c[t - 1])),
        )
        if t >= lookback:
            sums = [one - one / lookback for one in sums]
        sums = [one + new for one, new in zip(sums, added, strict=True)]
        if t >= lookback:
            up, down, ranges = sums
            out.append((100 * up / ranges, 100 * down / ranges) if ranges else (Fraction(0),) * 2)
    return out


def plus_di(high: Floats, low: Floats, close: Floats, lookback: int) -> list[float]:
    """The index up."""
    return late([up for up, _ in directional(high, low, close, lookback)], len(close))


def minus_di(high: Floats, low: Floats, close: Floats, lookback: int) -> list[float]:
    """The index down."""
    return late([down for _, down in directional(high, low, close, lookback)], len(close))


def adx(high: Floats, low: Floats, close: Floats, lookback: int) -> list[float]:
    """Wilder's average of what the indices differ by, over their sum."""
    indices = directional(high, low, close, lookback)
    apart = [100 * abs(a - b) / (a + b) if a + b else Fraction(0) for a, b in indices]
    out = [mean(apart[:lookback])] if len(apart) >= lookback else []
    for value in apart[lookback:]:
        out.append((out[-1] * (lookback - 1) + value) / lookback)
    return late(out, len(close))


def keltner(
    high: Floats, low: Floats, close: Floats, lookback: int, atr_lookback: int, width: float
) -> list[float]:
    """Average of the close plus ``width`` average true ranges."""
    middle = late(averaged(exact(close), lookback), len(close))
    reach = atr(high, low, close, atr_lookback)
    return [a + width * b for a, b in zip(middle, reach, strict=True)]


keltner_upper = keltner


def keltner_lower(
    high: Floats, low: Floats, close: Floats, lookback: int, atr_lookback: int, width: float
) -> list[float]:
    """Average of the close less ``width`` average true ranges."""
    return keltner(high, low, close, lookback, atr_lookback, -width)
