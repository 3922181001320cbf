"""Signals and Kelly sizes of a block of lanes, by the built-in strategies."""

import numpy as np

from kernels._jit import jit, jit_lanes
from kernels.arrays import FloatArray, Index
from kernels.codes import AVERAGE_CROSS, BREAKOUT, HOLD, MEAN_REVERSION, MOMENTUM, ROTATION
from kernels.lanes.gathering import of_lane
from kernels.layout import (
    DIRECTION,
    EDGE,
    FRACTION,
    INVERSE_VARIANCE,
    PARAMETER_BLOCK,
    SCALED_SIZE,
    SCORE_SHARPE,
    SIGNAL_0,
    SIGNAL_1,
    X0,
    X1,
    X_INVERSE_VOLATILITY,
    X_VOLATILITY,
    B,
)
from kernels.risk import defined_direction, kelly_size, larger, smaller
from kernels.signals import (
    average_cross_signal,
    breakout_signal,
    mean_reversion_signal,
    momentum_signal,
    rotation_signal,
)

_HOLD = float(HOLD)

BlockSignals = tuple[float, float, float, float, bool]
"""Least and most of the first and of the second parameter of a signal over the lanes of a block, and
whether all lanes that share their features also share the strength."""


@jit_lanes
def block_signals(k: Index, strategy: int, parameters: FloatArray) -> BlockSignals:
    """What the lanes of block ``k`` have in common of the parameters of a built-in signal.

    Args:
        k: number of the block.
        strategy: code of the signal kernel.
        parameters: rows of each lane.

    Returns:
        See ``BlockSignals``.
    """
    q = k * PARAMETER_BLOCK
    least_0 = most_0 = parameters[q + SIGNAL_0]
    least_1 = most_1 = parameters[q + SIGNAL_1]
    sharpe = parameters[q + SCORE_SHARPE]
    differ = 0
    for b in range(B):
        first, second = parameters[q + SIGNAL_0 + b], parameters[q + SIGNAL_1 + b]
        least_0, most_0 = smaller(first, least_0), larger(first, most_0)
        least_1, most_1 = smaller(second, least_1), larger(second, most_1)
        differ |= 1 if parameters[q + SCORE_SHARPE + b] != sharpe else 0
    by_direction = strategy in (MEAN_REVERSION, ROTATION)
    return least_0, most_0, least_1, most_1, differ == 0 and (by_direction or least_1 == most_1)


@jit
def one_signal(
    strategy: int,
    close: float,
    x0: float,
    x1: float,
    vol: float,
    ivol: float,
    first: float,
    second: float,
    score_sharpe: float,
) -> tuple[float, float]:
    """A built-in signal of one symbol under one set of parameters.

    Args:
        strategy: code of the signal kernel.
        close: price of the symbol.
        x0, x1: its features.
        vol, ivol: its volatility per bar, and the inverse.
        first, second: parameters of the signal.
        score_sharpe: Sharpe ratio per bar of a score of 1.

    Returns:
        Direction, and strength times confidence.
    """
    direction, strength, confidence = _HOLD, 0.0, 1.0
    if strategy == MOMENTUM:
        direction, strength, confidence = momentum_signal(
            x0, vol, ivol, first, second, score_sharpe
        )
    elif strategy == MEAN_REVERSION:
        direction, strength, confidence = mean_reversion_signal(
            x0, vol, first, second, score_sharpe
        )
    elif strategy == AVERAGE_CROSS:
        direction, strength, confidence = average_cross_signal(
            x0, x1, 1.0 / close, vol, ivol, first, second, score_sharpe
        )
    elif strategy == BREAKOUT:
        direction, strength, confidence = breakout_signal(
            x0, x1, close, 1.0 / close, vol, ivol, first, second, score_sharpe
        )
    elif strategy == ROTATION:
        direction, strength, confidence = rotation_signal(x0, x1, vol, score_sharpe)
    return direction, strength * confidence


@jit
def common_direction(
    strategy: int, close: float, x0: float, x1: float, signals: BlockSignals
) -> float:
    """The direction that all lanes of a block give that share their features.

    A rule compares its features with bounds that rise or fall with one parameter each. So what it says
    at all corners of the parameters, it says at every point between.

    Args:
        strategy: code of the signal kernel.
        close: price of the symbol.
        x0, x1: its features.
        signals: what ``block_signals`` returned.

    Returns:
        A direction; NaN where lanes may differ.
    """
    least_0, most_0, least_1, most_1, _ = signals
    said, _ = one_signal(strategy, close, x0, x1, 1.0, 1.0, least_0, least_1, 0.0)
    other, _ = one_signal(strategy, close, x0, x1, 1.0, 1.0, most_0, most_1, 0.0)
    if said != other:
        return np.nan
    if strategy == MEAN_REVERSION:
        third, _ = one_signal(strategy, close, x0, x1, 1.0, 1.0, least_0, most_1, 0.0)
        fourth, _ = one_signal(strategy, close, x0, x1, 1.0, 1.0, most_0, least_1, 0.0)
        return said if (third == said) & (fourth == said) else np.nan
    return said


@jit_lanes
def put_signal(
    scratch: FloatArray,
    b: Index,
    direction: float,
    edge: float,
    inverse_volatility: float,
    needed: bool,
    extended: object,
) -> None:
    """Leave a lane's direction, edge and Kelly fraction of equity for ``want_lanes``.

    Args:
        scratch: DIRECTION and FRACTION are written, and EDGE where ``extended`` is given.
        b: number of the lane.
        direction: the direction of the signal; see ``kernels.signals``.
        edge: strength times confidence.
        inverse_volatility: the inverse volatility of the symbol, per bar; 0 where the volatility is
            0.
        needed: whether the sizing mode needs a volatility.
        extended: the flag of the same name in ``simulate``.
    """
    inverse_variance = smaller(
        inverse_volatility * inverse_volatility, scratch[INVERSE_VARIANCE + b]
    )
    scratch[DIRECTION + b] = defined_direction(direction, inverse_volatility, needed)
    if extended is not None:
        scratch[EDGE + b] = edge
    scratch[FRACTION + b] = kelly_size(scratch[SCALED_SIZE + b], edge, inverse_variance)


@jit_lanes
def signal_lanes(
    q: Index,
    strategy: int,
    parameters: FloatArray,
    scratch: FloatArray,
    close: float,
    x0: float,
    x1: float,
    vol: float,
    ivol: float,
    needed: bool,
    own: object,
    apart: object,
    extended: object,
) -> None:
    """Signals and Kelly sizes of one block for one symbol.

    Args:
        q: offset of the block in ``parameters``.
        strategy: code of the signal kernel.
        parameters: rows of each lane.
        scratch: DIRECTION, EDGE and FRACTION are written; where ``own`` is given, the rows that
            ``decide_lanes`` gathered are read.
        close: price of the symbol.
        x0, x1: features of the symbol that all lanes share.
        vol, ivol: volatility per bar that all lanes share, and its inverse.
        needed: whether the sizing mode needs a volatility.
        own: None where all lanes of the block read the same features.
        apart: None where they read the same volatility.
        extended: the flag of the same name in ``simulate``.
    """
    inverse_close = 1.0 / close
    if strategy == MOMENTUM:
        for b in range(B):
            iv = of_lane(ivol, scratch, X_INVERSE_VOLATILITY, b, apart)
            direction, strength, confidence = momentum_signal(
                of_lane(x0, scratch, X0, b, own),
                of_lane(vol, scratch, X_VOLATILITY, b, apart),
                iv,
                parameters[q + SIGNAL_0 + b],
                parameters[q + SIGNAL_1 + b],
                parameters[q + SCORE_SHARPE + b],
            )
            put_signal(scratch, b, direction, strength * confidence, iv, needed, extended)
    elif strategy == MEAN_REVERSION:
        for b in range(B):
            direction, strength, confidence = mean_reversion_signal(
                of_lane(x0, scratch, X0, b, own),
                of_lane(vol, scratch, X_VOLATILITY, b, apart),
                parameters[q + SIGNAL_0 + b],
                parameters[q + SIGNAL_1 + b],
                parameters[q + SCORE_SHARPE + b],
            )
            iv = of_lane(ivol, scratch, X_INVERSE_VOLATILITY, b, apart)
            put_signal(scratch, b, direction, strength * confidence, iv, needed, extended)
    elif strategy == AVERAGE_CROSS:
        for b in range(B):
            iv = of_lane(ivol, scratch, X_INVERSE_VOLATILITY, b, apart)
            direction, strength, confidence = average_cross_signal(
                of_lane(x0, scratch, X0, b, own),
                of_lane(x1, scratch, X1, b, own),
                inverse_close,
                of_lane(vol, scratch, X_VOLATILITY, b, apart),
                iv,
                parameters[q + SIGNAL_0 + b],
                parameters[q + SIGNAL_1 + b],
                parameters[q + SCORE_SHARPE + b],
            )
            put_signal(scratch, b, direction, strength * confidence, iv, needed, extended)
    elif strategy == BREAKOUT:
        for b in range(B):
            iv = of_lane(ivol, scratch, X_INVERSE_VOLATILITY, b, apart)
            direction, strength, confidence = breakout_signal(
                of_lane(x0, scratch, X0, b, own),
                of_lane(x1, scratch, X1, b, own),
                close,
                inverse_close,
                of_lane(vol, scratch, X_VOLATILITY, b, apart),
                iv,
                parameters[q + SIGNAL_0 + b],
                parameters[q + SIGNAL_1 + b],
                parameters[q + SCORE_SHARPE + b],
            )
            put_signal(scratch, b, direction, strength * confidence, iv, needed, extended)
    elif strategy == ROTATION:
        for b in range(B):
            direction, strength, confidence = rotation_signal(
                of_lane(x0, scratch, X0, b, own),
                of_lane(x1, scratch, X1, b, own),
                of_lane(vol, scratch, X_VOLATILITY, b, apart),
                parameters[q + SCORE_SHARPE + b],
            )
            iv = of_lane(ivol, scratch, X_INVERSE_VOLATILITY, b, apart)
            put_signal(scratch, b, direction, strength * confidence, iv, needed, extended)
