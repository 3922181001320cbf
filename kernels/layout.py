"""Where each quantity stands in the flat buffers of a block of lanes.

A block is ``LANES`` parameter sets side by side. Row ``k`` of lane ``b`` is ``buffer[k + b]`` with
``k`` a multiple of ``STRIDE``: constant offsets into one flat array, in unsigned arithmetic, are what
lets the compiler see that a loop over lanes has no overlap and no negative index, and vectorize it.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

LANES = 64
STRIDE = LANES + 8
"""Length of a row. A row of 512 bytes would put every eighth row on the same place of a 4 KiB page,
where the processor takes a load for one that waits for an earlier store."""

B = np.uint64(LANES)


def _rows(count: int, first: int = 0) -> list[np.uint64]:
    return [np.uint64(k * STRIDE) for k in range(first, first + count)]


# State of a lane. The rows from SUM_RETURN on are accumulators that a caller may read and reset.
N_LANE_ROWS = 20
(
    CASH,
    EQUITY,  # at the last close; 0 after ruin
    EXPOSURE,  # gross value over equity at the last close
    VARIANCE,  # EWMA of the squared return per unit of exposure
    RUINED,
    PEAK,
    MAX_DRAWDOWN,
    SUM_RETURN,
    SUM_RETURN_2,
    SUM_RETURN_3,
    SUM_RETURN_4,
    SUM_DOWNSIDE_2,
    SUM_EXPOSURE,
    SUM_EQUITY,
    TRADED,  # value of all fills
    COSTS,  # commission and slippage
    N_TRADES,
    N_WINS,
    GROSS_PROFIT,
    GROSS_LOSS,
) = _rows(N_LANE_ROWS)

# State of one symbol's position.
N_SYMBOL_ROWS = 7
(
    LOTS,  # position, signed, in lots
    ORDER,  # decided at the last close, not filled yet, signed, in lots
    FLOW,  # cash flow of the open trade, costs included
    RHO,  # mean correlation with the other positions, as of the last refresh
    ENTRY,  # mean fill price of the position
    BEST,  # best price since entry: highest high of a long, lowest low of a short
    BARRED,  # direction that a stop closed; no re-entry before the signal leaves it
) = _rows(N_SYMBOL_ROWS)

# Parameters of a lane.
N_SIGNALS = 8
"""Most parameters that a signal takes."""

N_PARAMETER_ROWS = 11 + N_SIGNALS
(
    KELLY_FRACTION,
    MAX_EXPOSURE,
    BEAR_MULTIPLIER,
    NEUTRAL_MULTIPLIER,
    BULL_MULTIPLIER,
    CORRELATION_PENALTY,
    MIN_LOTS,
    REBALANCE_BAND,
    STOP_LOSS,  # inf where off
    TAKE_PROFIT,  # inf where off
    TRAILING_STOP,  # inf where off
    SIGNAL_0,
    SIGNAL_1,
    SIGNAL_2,
    SIGNAL_3,
    SIGNAL_4,
    SIGNAL_5,
    SIGNAL_6,
    SIGNAL_7,
) = _rows(N_PARAMETER_ROWS)

# Columns that a lane reads: two features, the volatility, the regime model; a user's strategy has
# features of its own, behind those, so that the built-in ones stay close together.
N_FEATURES = 6
"""Most features that a user's signal takes."""

N_COLUMN_ROWS = 4 + N_FEATURES
(
    FEATURE_0,
    FEATURE_1,
    VOLATILITY_COLUMN,
    REGIME_COLUMN,
    USER_FEATURE_0,
    USER_FEATURE_1,
    USER_FEATURE_2,
    USER_FEATURE_3,
    USER_FEATURE_4,
    USER_FEATURE_5,
) = _rows(N_COLUMN_ROWS)

# Working rows of one bar, never carried.
N_SCRATCH_ROWS = 12 + N_FEATURES
(
    GROSS,
    EQUITY_NOW,
    CASH_LEFT,
    BUDGET_LEFT,
    SCALED_KELLY,
    INVERSE_VARIANCE,  # of the portfolio, per unit of exposure
    DIRECTION,
    FRACTION,
    X0,  # gathered features, volatility and its inverse
    X1,
    X_VOLATILITY,
    X_INVERSE_VOLATILITY,
    USER_X0,
    USER_X1,
    USER_X2,
    USER_X3,
    USER_X4,
    USER_X5,
) = _rows(N_SCRATCH_ROWS)

# Lengths in the flat buffers: one block of lanes, and for positions one symbol of one block.
STATE_BLOCK = np.uint64(N_LANE_ROWS * STRIDE)
POSITION_BLOCK = np.uint64(N_SYMBOL_ROWS * STRIDE)
PARAMETER_BLOCK = np.uint64(N_PARAMETER_ROWS * STRIDE)
COLUMN_BLOCK = np.uint64(N_COLUMN_ROWS * STRIDE)
SCRATCH_SIZE = N_SCRATCH_ROWS * STRIDE

CACHE_LINE = 64
"""Bytes; also the width of the widest vector registers."""


def aligned_zeros(shape: tuple[int, ...], dtype: npt.DTypeLike = np.float64) -> npt.NDArray[Any]:
    """Zeros that begin on a cache line, and so does every row of ``STRIDE`` numbers in them.

    numpy aligns to 16 bytes. A whole vector that begins there lies on two cache lines, and each load
    and store of it takes two.
    """
    n_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    room = np.zeros(n_bytes + CACHE_LINE, dtype=np.uint8)
    start = -room.ctypes.data % CACHE_LINE
    return room[start : start + n_bytes].view(dtype).reshape(shape)
