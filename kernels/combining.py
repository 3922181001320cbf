"""Signals of several strategies for one symbol at one bar, made one.

Each rule takes the signals one after the other, so that any number of them is a chain of plain selects.
A signal is direction, strength and confidence, see ``kernels.signals``.
"""

from kernels._jit import jit
from kernels.codes import FLAT, HOLD, LONG, SHORT
from kernels.risk import smaller

_LONG, _SHORT, _HOLD, _FLAT = float(LONG), float(SHORT), float(HOLD), float(FLAT)


@jit
def first_signal(
    direction: float,
    strength: float,
    confidence: float,
    next_direction: float,
    next_strength: float,
    next_confidence: float,
) -> tuple[float, float, float]:
    """The first of two signals that does not hold.

    Args:
        direction, strength, confidence: the signal that comes first.
        next_direction, next_strength, next_confidence: the signal that acts where the first one holds.

    Returns:
        Direction, strength, confidence.
    """
    silent = direction == _HOLD
    return (
        next_direction if silent else direction,
        next_strength if silent else strength,
        next_confidence if silent else confidence,
    )


@jit
def add_vote(
    side: float,
    votes: float,
    strengths: float,
    confidences: float,
    direction: float,
    strength: float,
    confidence: float,
) -> tuple[float, float, float]:
    """Add a signal to the votes for one side.

    Args:
        side: the direction whose votes are counted.
        votes: votes so far.
        strengths, confidences: sums over those that voted for it.
        direction, strength, confidence: the signal.

    Returns:
        Votes and both sums with this signal.
    """
    voted = direction == side
    return (
        votes + 1.0 if voted else votes,
        strengths + strength if voted else strengths,
        confidences + confidence if voted else confidences,
    )


@jit
def elected(
    longs: float,
    long_strengths: float,
    long_confidences: float,
    shorts: float,
    short_strengths: float,
    short_confidences: float,
    flats: float,
) -> tuple[float, float, float]:
    """The signal that most vote for; those that hold do not vote.

    Args:
        longs, long_strengths, long_confidences: votes for LONG, and the sums of those who cast them.
        shorts, short_strengths, short_confidences: likewise for SHORT.
        flats: votes for FLAT.

    Returns:
        The direction with more votes than each other, HOLD if there is none; the mean strength and the
        mean confidence of those who voted for it, 0 for FLAT and HOLD.
    """
    long, short = (longs > shorts) & (longs > flats), (shorts > longs) & (shorts > flats)
    flat = (flats > longs) & (flats > shorts)
    direction = _LONG if long else (_SHORT if short else (_FLAT if flat else _HOLD))
    strength = long_strengths if long else short_strengths
    confidence = long_confidences if long else short_confidences
    votes = longs if long else shorts
    acts = long | short
    return (
        direction,
        strength / votes if acts else 0.0,
        smaller(confidence / votes, 1.0) if acts else 0.0,
    )


@jit
def add_weight(
    net: float,
    gross: float,
    heard: float,
    share: float,
    direction: float,
    strength: float,
    confidence: float,
) -> tuple[float, float, float]:
    """Add a signal's weight to a sum; one that holds adds nothing.

    Args:
        net: sum of share x direction x strength x confidence so far.
        gross: sum of share x strength.
        heard: number of signals that did not hold.
        share: what this strategy counts, 0 or more.
        direction, strength, confidence: the signal.

    Returns:
        The three sums with this signal.
    """
    holds = direction == _HOLD
    edge = share * strength
    return (
        net if holds else net + direction * edge * confidence,
        gross if holds else gross + edge,
        heard if holds else heard + 1.0,
    )


@jit
def weighed(net: float, gross: float, heard: float) -> tuple[float, float, float]:
    """The signal of a sum of weights.

    Args:
        net, gross, heard: the sums of ``add_weight``.

    Returns:
        The side of the sum, HOLD where all hold and FLAT where nothing is left; the strength of all
        together; as confidence the part of it that is left of ``gross``, so that strength times
        confidence is the size of the sum.
    """
    side = _LONG if net > 0.0 else (_SHORT if net < 0.0 else _FLAT)
    return (
        side if heard > 0.0 else _HOLD,
        gross,
        smaller(abs(net) / gross, 1.0) if gross > 0.0 else 0.0,
    )
