"""Signals and Kelly sizes of a block of lanes, by a user's strategy.

This module is compiled once more for each strategy of a user; see ``kernels.user_signal``.
"""

import numpy as np

from kernels._jit import jit_borrowing
from kernels.arrays import ColumnArray, FloatArray, Index
from kernels.lanes.gathering import of_lane
from kernels.lanes.signals import put_signal
from kernels.layout import (
    CONFIDENCE,
    SIGNAL_0,
    SIGNAL_1,
    SIGNAL_2,
    SIGNAL_3,
    SIGNAL_4,
    SIGNAL_5,
    SIGNAL_6,
    SIGNAL_7,
    STRIDE,
    USER_FEATURE_0,
    USER_FEATURE_1,
    USER_FEATURE_2,
    USER_FEATURE_3,
    USER_FEATURE_4,
    USER_FEATURE_5,
    USER_X0,
    USER_X1,
    USER_X2,
    USER_X3,
    USER_X4,
    USER_X5,
    X_INVERSE_VOLATILITY,
    X_VOLATILITY,
    B,
)
from kernels.user_signal import N_USER_FEATURES, user_signal

_STRIDE = np.uint64(STRIDE)


@jit_borrowing
def user_lanes(
    q: Index,
    c: Index,
    t: int,
    s: Index,
    features: FloatArray,
    columns: ColumnArray,
    parameters: FloatArray,
    scratch: FloatArray,
    close: float,
    vol: float,
    ivol: float,
    needed: bool,
    own: object,
    extended: object,
) -> None:
    """As ``signal_lanes``, for a user's strategy; gathers the user's features.

    The compiler drops the loads of features and parameters that the user's function does not take.

    Args:
        q, c: offsets of the block in ``parameters`` and in ``columns``.
        t, s: numbers of the bar and of the symbol.
        features: (n_bars, n_symbols, n_columns).
        columns, parameters: rows of each lane.
        scratch: DIRECTION, EDGE, CONFIDENCE and FRACTION are written, and where ``own`` is given
            the rows from USER_X0 on; the volatilities that ``decide_lanes`` gathered are then read.
        close: price of the symbol.
        vol, ivol: volatility per bar that all lanes share, and its inverse.
        needed: whether the sizing mode needs a volatility.
        own: None where all lanes of the block read the same columns.
        extended: the flag of the same name in ``simulate``.
    """
    x0 = features[t, s, columns[c + USER_FEATURE_0]]
    x1 = features[t, s, columns[c + USER_FEATURE_1]]
    x2 = features[t, s, columns[c + USER_FEATURE_2]]
    x3 = features[t, s, columns[c + USER_FEATURE_3]]
    x4 = features[t, s, columns[c + USER_FEATURE_4]]
    x5 = features[t, s, columns[c + USER_FEATURE_5]]
    if own is not None:
        for row in range(np.uint64(N_USER_FEATURES)):
            for b in range(B):
                column = columns[c + USER_FEATURE_0 + row * _STRIDE + b]
                scratch[USER_X0 + row * _STRIDE + b] = features[t, s, column]
    for b in range(B):
        iv = of_lane(ivol, scratch, X_INVERSE_VOLATILITY, b, own)
        direction, strength, confidence = user_signal(
            of_lane(x0, scratch, USER_X0, b, own), of_lane(x1, scratch, USER_X1, b, own),
            of_lane(x2, scratch, USER_X2, b, own), of_lane(x3, scratch, USER_X3, b, own),
            of_lane(x4, scratch, USER_X4, b, own), of_lane(x5, scratch, USER_X5, b, own),
            close, of_lane(vol, scratch, X_VOLATILITY, b, own), iv,
            parameters[q + SIGNAL_0 + b], parameters[q + SIGNAL_1 + b],
            parameters[q + SIGNAL_2 + b], parameters[q + SIGNAL_3 + b],
            parameters[q + SIGNAL_4 + b], parameters[q + SIGNAL_5 + b],
            parameters[q + SIGNAL_6 + b], parameters[q + SIGNAL_7 + b],
        )  # fmt: skip
        scratch[CONFIDENCE + b] = confidence
        put_signal(scratch, b, direction, strength * confidence, iv, needed, extended)
