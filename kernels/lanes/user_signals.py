"""Signals and Kelly sizes of a block of lanes, by a user's strategy.

This module is compiled once more for each strategy of a user; see ``kernels.user_signal``.
"""

import numpy as np

from kernels._jit import jit_lanes
from kernels.arrays import ColumnArray, FloatArray, Index
from kernels.lanes.gathering import of_lane
from kernels.lanes.signals import put_signal
from kernels.layout import (
    CONFIDENCE,
    STRIDE,
    USER_FEATURE_0,
    USER_X0,
    X_INVERSE_VOLATILITY,
    X_VOLATILITY,
    B,
)
from kernels.user_signal import N_USER_FEATURES, lane_signal, shared_features

_STRIDE = np.uint64(STRIDE)


@jit_lanes
def user_lanes(
    p: Index,
    q: Index,
    c: Index,
    t: int,
    s: Index,
    features: FloatArray,
    columns: ColumnArray,
    parameters: FloatArray,
    positions: FloatArray,
    scratch: FloatArray,
    close: float,
    vol: float,
    ivol: float,
    needed: bool,
    counts: bool,
    own: object,
    extended: object,
) -> None:
    """As ``signal_lanes``, for a user's strategy; gathers the user's features.

    Args:
        p, q, c: offsets of the symbol in ``positions``, and of the block in ``parameters`` and in
            ``columns``.
        t, s: numbers of the bar and of the symbol.
        features: (n_bars, n_symbols, n_columns).
        columns, parameters: rows of each lane.
        positions: the same as in ``kernels.user_signal.lane_signal``.
        scratch: DIRECTION, EDGE, CONFIDENCE and FRACTION are written, and where ``own`` is given
            the rows from USER_X0 on; the volatilities that ``decide_lanes`` gathered are then read.
        close: price of the symbol.
        vol, ivol: volatility per bar that all lanes share, and its inverse.
        needed: whether the sizing mode needs a volatility.
        counts: whether the closes held are counted here, see ``lane_signal``.
        own: None where all lanes of the block read the same columns.
        extended: the flag of the same name in ``simulate``.
    """
    shared = shared_features(c, t, s, features, columns)
    if own is not None:
        for row in range(np.uint64(N_USER_FEATURES)):
            for b in range(B):
                column = columns[c + USER_FEATURE_0 + row * _STRIDE + b]
                scratch[USER_X0 + row * _STRIDE + b] = features[t, s, column]
    for b in range(B):
        volatility = of_lane(vol, scratch, X_VOLATILITY, b, own)
        iv = of_lane(ivol, scratch, X_INVERSE_VOLATILITY, b, own)
        direction, strength, confidence = lane_signal(
            shared, p, q, b, close, volatility, iv, parameters, positions, scratch, counts, own
        )
        scratch[CONFIDENCE + b] = confidence
        put_signal(scratch, b, direction, strength * confidence, iv, needed, extended)
