"""Features in plain Python, each value computed from its own bars alone.

Logarithms and deviations are taken with 40 digits, so that these are right where floats are not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Context, Decimal, localcontext
from math import fsum, nan

PRECISE = Context(prec=40)


def total(values: Iterable[Decimal]) -> Decimal:
    """Sum of decimals."""
    return sum(values, Decimal(0))


def sma(close: Sequence[float], lookback: int) -> list[float]:
    """Mean of the last ``lookback`` closes."""
    return [
        fsum(close[bar + 1 - lookback : bar + 1]) / lookback if bar + 1 >= lookback else nan
        for bar in range(len(close))
    ]


def ema(close: Sequence[float], lookback: int) -> list[float]:
    """Exponential average, seeded with a simple one."""
    out = [nan] * len(close)
    if len(close) < lookback:
        return out
    alpha = 2.0 / (lookback + 1.0)
    out[lookback - 1] = fsum(close[:lookback]) / lookback
    for bar in range(lookback, len(close)):
        out[bar] = alpha * close[bar] + (1.0 - alpha) * out[bar - 1]
    return out


def momentum(close: Sequence[float], lookback: int) -> list[float]:
    """Simple return over ``lookback`` bars."""
    return [
        close[bar] / close[bar - lookback] - 1.0 if bar >= lookback else nan
        for bar in range(len(close))
    ]


def wilder(values: Sequence[float], lookback: int) -> list[float]:
    """Wilder's average of ``values``, seeded with the mean of the first ``lookback``."""
    out = [nan] * len(values)
    if len(values) < lookback:
        return out
    out[lookback - 1] = fsum(values[:lookback]) / lookback
    for place in range(lookback, len(values)):
        out[place] = (out[place - 1] * (lookback - 1) + values[place]) / lookback
    return out


def rsi(close: Sequence[float], lookback: int) -> list[float]:
    """Wilder's RSI by way of the relative strength; 100 without losses, 50 without moves."""
    changes = [close[bar] - close[bar - 1] for bar in range(1, len(close))]
    gains = wilder([change if change > 0 else 0.0 for change in changes], lookback)
    losses = wilder([-change if change < 0 else 0.0 for change in changes], lookback)
    out = [nan] * len(close)
    for bar in range(lookback, len(close)):
        gain, loss = gains[bar - 1], losses[bar - 1]
        if loss == 0:
            out[bar] = 100.0 if gain > 0 else 50.0
        else:
            out[bar] = 100.0 - 100.0 / (1.0 + gain / loss)
    return out


def atr(
    high: Sequence[float], low: Sequence[float], close: Sequence[float], lookback: int
) -> list[float]:
    """Wilder's average of the true range, from bar 1 on."""
    ranges = [
        max(high[bar] - low[bar], abs(high[bar] - close[bar - 1]), abs(low[bar] - close[bar - 1]))
        for bar in range(1, len(close))
    ]
    return [nan, *wilder(ranges, lookback)][: len(close)]


def precise_returns(close: Sequence[float]) -> list[Decimal]:
    """Log returns, 40 digits; one fewer than closes."""
    prices = [Decimal(float(price)) for price in close]
    with localcontext(PRECISE):
        return [(prices[bar] / prices[bar - 1]).ln() for bar in range(1, len(prices))]


def volatility(close: Sequence[float], lookback: int) -> list[float]:
    """Standard deviation, ddof 1, of the last ``lookback`` log returns."""
    returns = precise_returns(close)
    out = [nan] * len(close)
    with localcontext(PRECISE):
        for bar in range(lookback, len(close)):
            window = returns[bar - lookback : bar]
            mean = total(window) / lookback
            squares = total((value - mean) ** 2 for value in window)
            out[bar] = float((squares / (lookback - 1)).sqrt())
    return out


def correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Pearson correlation of the log returns of two series of closes; NaN where one is constant."""
    x, y = precise_returns(first), precise_returns(second)
    with localcontext(PRECISE):
        x_mean, y_mean = total(x) / len(x), total(y) / len(y)
        together = total((a - x_mean) * (b - y_mean) for a, b in zip(x, y, strict=True))
        x_squares = total((a - x_mean) ** 2 for a in x)
        y_squares = total((b - y_mean) ** 2 for b in y)
        if x_squares == 0 or y_squares == 0:
            return nan
        return float(together / (x_squares * y_squares).sqrt())
