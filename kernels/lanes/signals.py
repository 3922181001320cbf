"""Signals and Kelly sizes of a block of lanes, by the built-in strategies."""

from kernels._jit import jit_borrowing
from kernels.arrays import FloatArray, Index
from kernels.codes import AVERAGE_CROSS, BREAKOUT, MEAN_REVERSION, MOMENTUM, ROTATION
from kernels.lanes.gathering import of_lane
from kernels.layout import (
    DIRECTION,
    EDGE,
    FRACTION,
    INVERSE_VARIANCE,
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
from kernels.risk import defined_direction, kelly_size, smaller
from kernels.signals import (
    average_cross_signal,
    breakout_signal,
    mean_reversion_signal,
    momentum_signal,
    rotation_signal,
)


@jit_borrowing
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


@jit_borrowing
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
        own: None where all lanes of the block read the same columns.
        extended: the flag of the same name in ``simulate``.
    """
    inverse_close = 1.0 / close
    if strategy == MOMENTUM:
        for b in range(B):
            iv = of_lane(ivol, scratch, X_INVERSE_VOLATILITY, b, own)
            direction, strength, confidence = momentum_signal(
                of_lane(x0, scratch, X0, b, own),
                of_lane(vol, scratch, X_VOLATILITY, b, own),
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
                of_lane(vol, scratch, X_VOLATILITY, b, own),
                parameters[q + SIGNAL_0 + b],
                parameters[q + SIGNAL_1 + b],
                parameters[q + SCORE_SHARPE + b],
            )
            iv = of_lane(ivol, scratch, X_INVERSE_VOLATILITY, b, own)
            put_signal(scratch, b, direction, strength * confidence, iv, needed, extended)
    elif strategy == AVERAGE_CROSS:
        for b in range(B):
            iv = of_lane(ivol, scratch, X_INVERSE_VOLATILITY, b, own)
            direction, strength, confidence = average_cross_signal(
                of_lane(x0, scratch, X0, b, own),
                of_lane(x1, scratch, X1, b, own),
                inverse_close,
                of_lane(vol, scratch, X_VOLATILITY, b, own),
                iv,
                parameters[q + SIGNAL_0 + b],
                parameters[q + SIGNAL_1 + b],
                parameters[q + SCORE_SHARPE + b],
            )
            put_signal(scratch, b, direction, strength * confidence, iv, needed, extended)
    elif strategy == BREAKOUT:
        for b in range(B):
            iv = of_lane(ivol, scratch, X_INVERSE_VOLATILITY, b, own)
            direction, strength, confidence = breakout_signal(
                of_lane(x0, scratch, X0, b, own),
                of_lane(x1, scratch, X1, b, own),
                close,
                inverse_close,
                of_lane(vol, scratch, X_VOLATILITY, b, own),
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
                of_lane(vol, scratch, X_VOLATILITY, b, own),
                parameters[q + SCORE_SHARPE + b],
            )
            iv = of_lane(ivol, scratch, X_INVERSE_VOLATILITY, b, own)
            put_signal(scratch, b, direction, strength * confidence, iv, needed, extended)
