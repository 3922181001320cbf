"""Signals: direction, strength and confidence for one symbol at one bar, from features alone.

A signal is three floats. The direction is a code of ``kernels.codes``. Strength is the expected return
per bar, a fraction. It follows Grinold (1994), "Alpha is volatility times IC times score": the score is
the distance of the feature from neutral in standard deviations, capped at ``MAX_SCORE``. In place of the
information coefficient (IC) stands the Sharpe ratio per bar that a score of 1 is worth, a parameter.
Confidence is 1, since the score is in the strength. Between its thresholds a rule says HOLD: a position
stays until the opposite threshold, without any state in the strategy.
"""

import numpy as np

from kernels._jit import jit
from kernels.codes import FLAT, HOLD, LONG, SHORT

MAX_SCORE = 3.0

_LONG, _SHORT, _HOLD, _FLAT = float(LONG), float(SHORT), float(HOLD), float(FLAT)


@jit
def strength_of_score(score: float, volatility: float, score_sharpe: float) -> float:
    """Strength of a score.

    Args:
        score: standard deviations from neutral, >= 0.
        volatility: the volatility of the symbol, per bar.
        score_sharpe: Sharpe ratio per bar that a score of 1 is worth.

    Returns:
        Expected return per bar, a fraction.
    """
    return score_sharpe * volatility * (score if score < MAX_SCORE else MAX_SCORE)


@jit
def momentum_signal(
    momentum: float,
    volatility: float,
    inverse_volatility: float,
    threshold: float,
    inverse_sqrt_lookback: float,
    score_sharpe: float,
) -> tuple[float, float, float]:
    """Long above the threshold, short below its negative (Moskowitz, Ooi and Pedersen 2012).

    Args:
        momentum: return over the lookback, a fraction.
        volatility, inverse_volatility: the symbol's volatility per bar and its inverse, which is 0
            where the volatility is 0.
        threshold: a fraction, >= 0.
        inverse_sqrt_lookback: ``1 / sqrt(lookback)``, which scales the volatility to the lookback.
        score_sharpe: Sharpe ratio per bar that a score of 1 is worth.

    Returns:
        Direction, strength, confidence.
    """
    direction = _LONG if momentum > threshold else (_SHORT if momentum < -threshold else _HOLD)
    score = abs(momentum) * inverse_sqrt_lookback * inverse_volatility
    return direction, strength_of_score(score, volatility, score_sharpe), 1.0


@jit
def mean_reversion_signal(
    rsi: float, volatility: float, oversold: float, overbought: float, score_sharpe: float
) -> tuple[float, float, float]:
    """Long below ``oversold``, short above ``overbought`` (Wilder 1978).

    Args:
        rsi: relative strength index, 0 to 100.
        volatility: the volatility of the symbol, per bar.
        oversold, overbought: thresholds, 0 to 100.
        score_sharpe: Sharpe ratio per bar that a score of 1 is worth.

    Returns:
        Direction, strength, confidence.
    """
    direction = _LONG if rsi < oversold else (_SHORT if rsi > overbought else _HOLD)
    score = abs(rsi - 50.0) * 0.04
    return direction, strength_of_score(score, volatility, score_sharpe), 1.0


@jit
def average_cross_signal(
    fast: float,
    slow: float,
    inverse_close: float,
    volatility: float,
    inverse_volatility: float,
    band: float,
    inverse_sqrt_lookback: float,
    score_sharpe: float,
) -> tuple[float, float, float]:
    """Long where the fast average is above the slow one by more than the band, short where below.

    Brock, Lakonishok and LeBaron (1992).

    Args:
        fast, slow: averages of the price.
        inverse_close: 1 / price.
        volatility, inverse_volatility: the symbol's volatility per bar and its inverse, which is 0
            where the volatility is 0.
        band: a fraction of the slow average, >= 0.
        inverse_sqrt_lookback: ``1 / sqrt(lookback)`` of the slow average.
        score_sharpe: Sharpe ratio per bar that a score of 1 is worth.

    Returns:
        Direction, strength, confidence.
    """
    direction = (
        _LONG if fast > slow * (1.0 + band) else (_SHORT if fast < slow * (1.0 - band) else _HOLD)
    )
    score = abs(fast - slow) * inverse_close * inverse_sqrt_lookback * inverse_volatility
    return direction, strength_of_score(score, volatility, score_sharpe), 1.0


@jit
def breakout_signal(
    average: float,
    true_range: float,
    close: float,
    inverse_close: float,
    volatility: float,
    inverse_volatility: float,
    width: float,
    inverse_sqrt_lookback: float,
    score_sharpe: float,
) -> tuple[float, float, float]:
    """Long above the channel ``average + width * true_range``, short below the lower one (Keltner 1960).

    Args:
        average: the average of the price.
        true_range: average true range, in price units.
        close, inverse_close: price and 1 / price.
        volatility, inverse_volatility: the symbol's volatility per bar and its inverse, which is 0
            where the volatility is 0.
        width: half width of the channel in average true ranges.
        inverse_sqrt_lookback: ``1 / sqrt(lookback)`` of the average.
        score_sharpe: Sharpe ratio per bar that a score of 1 is worth.

    Returns:
        Direction, strength, confidence.
    """
    half = width * true_range
    direction = _LONG if close > average + half else (_SHORT if close < average - half else _HOLD)
    score = abs(close - average) * inverse_close * inverse_sqrt_lookback * inverse_volatility
    return direction, strength_of_score(score, volatility, score_sharpe), 1.0


@jit
def rotation_signal(
    top: float, first: float, volatility: float, score_sharpe: float
) -> tuple[float, float, float]:
    """At the first bar of a period long what is in the top, out of what is not; HOLD at other bars.

    Jegadeesh and Titman (1993), long only.

    Args:
        top: 1 for a symbol in the top, else 0.
        first: above 0 at the first bar of a period, else 0.
        volatility: the volatility of the symbol, per bar.
        score_sharpe: Sharpe ratio per bar that a score of 1 is worth; that of every symbol in the top.

    Returns:
        Direction, strength, confidence.
    """
    wanted = _LONG if top > 0.0 else (_FLAT if top == 0.0 else _HOLD)
    direction = wanted if first > 0.0 else _HOLD
    return direction, strength_of_score(1.0, volatility, score_sharpe), 1.0


@jit
def usable_signal(
    direction: float, strength: float, confidence: float
) -> tuple[float, float, float]:
    """A user's signal, or HOLD where it is not a signal, which keeps the position as it is.

    A signal has one of the four directions, a finite strength >= 0 and a confidence from 0 to 1.

    Args:
        direction, strength, confidence: the direction, strength and confidence as the user's
            function returned them.

    Returns:
        Direction, strength, confidence.
    """
    known = (
        (direction == _LONG) | (direction == _SHORT) | (direction == _HOLD) | (direction == _FLAT)
    )
    usable = (
        known & (strength >= 0.0) & (strength < np.inf) & (confidence >= 0.0) & (confidence <= 1.0)
    )
    return (
        direction if usable else _HOLD,
        strength if usable else 0.0,
        confidence if usable else 0.0,
    )
