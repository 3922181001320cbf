"""Features of a window of bars in plain Python, each value computed exactly from its own bars alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal, localcontext
from fractions import Fraction
from itertools import pairwise
from math import isfinite, nan

from tests.reference.features import PRECISE, precise_returns

Floats = Sequence[float]
HALF = Fraction(1, 2)


def exact(values: Floats) -> list[Fraction]:
    """The values as fractions."""
    return [Fraction(float(value)) for value in values]


def root(value: Fraction) -> Fraction:
    """Square root, 40 digits."""
    with localcontext(PRECISE):
        return Fraction((Decimal(value.numerator) / Decimal(value.denominator)).sqrt())


def mean(values: Sequence[Fraction]) -> Fraction:
    """Mean of the values."""
    return sum(values, Fraction(0)) / len(values)


def over_bars(n_bars: int, warm_up: int, value: Callable[[int], Fraction]) -> list[float]:
    """``value`` of each bar, NaN during the warm-up."""
    return [float(value(bar)) if bar >= warm_up else nan for bar in range(n_bars)]


def over_windows(
    values: Sequence[Fraction], lookback: int, value: Callable[[Sequence[Fraction]], Fraction]
) -> list[float]:
    """``value`` of each window of ``lookback`` values, NaN where there is none."""
    return over_bars(
        len(values), lookback - 1, lambda bar: value(values[bar + 1 - lookback : bar + 1])
    )


def deviation(window: Sequence[Fraction], ddof: int) -> Fraction:
    """Standard deviation of the values."""
    middle = mean(window)
    return root(sum(((one - middle) ** 2 for one in window), Fraction(0)) / (len(window) - ddof))


def bollinger_upper(close: Floats, lookback: int, width: float) -> list[float]:
    """Mean plus deviations."""
    return over_windows(
        exact(close), lookback, lambda w: mean(w) + Fraction(width) * deviation(w, 0)
    )


def bollinger_lower(close: Floats, lookback: int, width: float) -> list[float]:
    """Mean less deviations."""
    return over_windows(
        exact(close), lookback, lambda w: mean(w) - Fraction(width) * deviation(w, 0)
    )


def bollinger(close: Floats, lookback: int, width: float) -> list[float]:
    """Place between the bands."""

    def place(window: Sequence[Fraction]) -> Fraction:
        half = Fraction(width) * deviation(window, 0)
        lower = mean(window) - half
        return (window[-1] - lower) / (2 * half) if half else HALF

    return over_windows(exact(close), lookback, place)


def zscore(close: Floats, lookback: int) -> list[float]:
    """Distance from the mean in deviations, ddof 1."""

    def score(window: Sequence[Fraction]) -> Fraction:
        spread = deviation(window, 1)
        return (window[-1] - mean(window)) / spread if spread else Fraction(0)

    return over_windows(exact(close), lookback, score)


def cci(high: Floats, low: Floats, close: Floats, lookback: int) -> list[float]:
    """Distance of the typical price from its mean in mean absolute deviations."""

    def index(window: Sequence[Fraction]) -> Fraction:
        middle = mean(window)
        spread = mean([abs(one - middle) for one in window])
        return (window[-1] - middle) / (Fraction(15, 1000) * spread) if spread else Fraction(0)

    bars = zip(exact(high), exact(low), exact(close), strict=True)
    return over_windows([mean(bar) for bar in bars], lookback, index)


def donchian_high(high: Floats, lookback: int) -> list[float]:
    """Highest high."""
    return over_windows(exact(high), lookback, max)


def donchian_low(low: Floats, lookback: int) -> list[float]:
    """Lowest low."""
    return over_windows(exact(low), lookback, min)


def place_in_range(high: Floats, low: Floats, close: Floats, lookback: int, bar: int) -> Fraction:
    """Place of the close of one bar between the lowest low and the highest high."""
    window = slice(bar + 1 - lookback, bar + 1)
    highest, lowest = max(exact(high[window])), min(exact(low[window]))
    if highest == lowest:
        return HALF
    return (Fraction(float(close[bar])) - lowest) / (highest - lowest)


def donchian(high: Floats, low: Floats, close: Floats, lookback: int) -> list[float]:
    """Place of the close between the lowest low and the highest high."""
    return over_bars(
        len(close), lookback - 1, lambda bar: place_in_range(high, low, close, lookback, bar)
    )


def stochastic_k(
    high: Floats, low: Floats, close: Floats, lookback: int, slow_k: int
) -> list[float]:
    """Mean of 100 times the place."""
    return over_bars(
        len(close),
        lookback + slow_k - 2,
        lambda bar: (
            100 * mean([place_in_range(high, low, close, lookback, bar - n) for n in range(slow_k)])
        ),
    )


def stochastic_d(
    high: Floats, low: Floats, close: Floats, lookback: int, slow_k: int, slow_d: int
) -> list[float]:
    """Mean of the last values of %K."""
    k = stochastic_k(high, low, close, lookback, slow_k)
    return over_bars(
        len(close),
        lookback + slow_k + slow_d - 3,
        lambda bar: mean(exact(k[bar + 1 - slow_d : bar + 1])),
    )


def known(volume: Floats) -> list[Fraction]:
    """Volumes, 0 where they are unknown."""
    return exact([one if isfinite(one) else 0.0 for one in volume])


def typical_prices(high: Floats, low: Floats, close: Floats) -> list[float]:
    """Typical prices rounded to floats, so that equal ones are equal."""
    return [c + ((h - c) + (low - c)) / 3.0 for h, low, c in zip(high, low, close, strict=True)]


def vwap(high: Floats, low: Floats, close: Floats, volume: Floats, lookback: int) -> list[float]:
    """Mean typical price weighted by volume; the plain mean without volume."""
    prices, units = exact(typical_prices(high, low, close)), known(volume)

    def price(bar: int) -> Fraction:
        window = slice(bar + 1 - lookback, bar + 1)
        traded = sum(units[window], Fraction(0))
        if not traded:
            return mean(prices[window])
        pairs = zip(prices[window], units[window], strict=True)
        return sum((one * unit for one, unit in pairs), Fraction(0)) / traded

    return over_bars(len(close), lookback - 1, price)


def obv(close: Floats, volume: Floats, lookback: int) -> list[float]:
    """Volume of bars that rose less that of those that fell, over all volume."""
    units = known(volume)

    def balance(bar: int) -> Fraction:
        window = range(bar + 1 - lookback, bar + 1)
        up = sum((units[t] for t in window if close[t] > close[t - 1]), Fraction(0))
        down = sum((units[t] for t in window if close[t] < close[t - 1]), Fraction(0))
        traded = sum((units[t] for t in window), Fraction(0))
        return (up - down) / traded if traded else Fraction(0)

    return over_bars(len(close), lookback, balance)


def mfi(high: Floats, low: Floats, close: Floats, volume: Floats, lookback: int) -> list[float]:
    """Money of bars whose typical price rose over the money of those where it changed."""
    price, units = typical_prices(high, low, close), known(volume)

    def index(bar: int) -> Fraction:
        window = range(bar + 1 - lookback, bar + 1)
        money = {t: Fraction(price[t]) * units[t] for t in window}
        up = sum((money[t] for t in window if price[t] > price[t - 1]), Fraction(0))
        down = sum((money[t] for t in window if price[t] < price[t - 1]), Fraction(0))
        return 100 * up / (up + down) if up + down else 100 * HALF

    return over_bars(len(close), lookback, index)


def log_ratios(below: Floats, above: Floats) -> list[Fraction]:
    """ln(above / below), 40 digits."""
    return [Fraction(precise_returns(pair)[0]) for pair in zip(below, above, strict=True)]


def ln_2() -> Fraction:
    """The natural logarithm of 2, 40 digits."""
    return Fraction(precise_returns([1.0, 2.0])[0])


def parkinson(high: Floats, low: Floats, lookback: int) -> list[float]:
    """Root of the mean squared range over 4 ln 2."""
    squares = [one**2 for one in log_ratios(low, high)]
    return over_windows(squares, lookback, lambda window: root(mean(window) / (4 * ln_2())))


def garman_klass(
    open_: Floats, high: Floats, low: Floats, close: Floats, lookback: int
) -> list[float]:
    """Root of the mean of half the squared range less 0.386 squared moves."""
    pairs = zip(log_ratios(low, high), log_ratios(open_, close), strict=True)
    variances = [reach**2 / 2 - (2 * ln_2() - 1) * move**2 for reach, move in pairs]
    return over_windows(variances, lookback, lambda window: root(mean(window)))


def autocorrelation(close: Floats, lookback: int) -> list[float]:
    """Sum of products of neighbouring deviations over that of their squares; 0 without any move."""
    returns = [Fraction(one) for one in precise_returns(close)]

    def correlation(bar: int) -> Fraction:
        window = returns[bar - lookback : bar]
        middle = mean(window)
        apart = [one - middle for one in window]
        if max(abs(one) for one in apart) <= 2.0**-50:
            return Fraction(0)
        products = sum((a * b for a, b in pairwise(apart)), Fraction(0))
        return products / sum((one**2 for one in apart), Fraction(0))

    return over_bars(len(close), lookback, correlation)
