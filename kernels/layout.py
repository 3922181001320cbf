"""The place of each quantity in the flat buffers of a block of lanes.

A block is ``LANES`` parameter sets side by side. Lane ``b`` of the row at offset ``k`` is
``buffer[k + b]``, where ``k`` is a multiple of ``STRIDE``. The offsets are constants and the
arithmetic is unsigned. From that the compiler can tell that rows do not overlap and that no index is
negative, so it vectorizes loops over lanes.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

LANES = 64
STRIDE = LANES + 8
"""Length of a row. With rows of 512 bytes, every eighth row would start at the same offset of a 4 KiB
page, and the processor would make loads wait for unrelated stores at that offset."""

B = np.uint64(LANES)
ROW = np.uint64(STRIDE)
ZERO, ONE, TWO, THREE, FOUR = (np.uint64(k) for k in range(5))
"""Unsigned, because numba turns the sum of an unsigned and a signed integer into a float."""


def _rows(count: int, first: int = 0) -> list[np.uint64]:
    return [np.uint64(k * STRIDE) for k in range(first, first + count)]


# State of a lane. A caller may read and reset the accumulators, which start at SUM_RETURN.
N_LANE_ROWS = 31
(
    CASH,
    EQUITY,  # at the last close; a debt after ruin
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
    COSTS,  # what fills took beyond the market's price
    N_TRADES,
    N_WINS,
    GROSS_PROFIT,
    GROSS_LOSS,
    N_LIQUIDATIONS,
    CARRY,  # interest and payments earned, less interest, borrow fees and payments paid
    CLOSED,  # equity at the last close of a return, where returns span several bars
    SUM_PRODUCT,  # of returns and those of the benchmark
    SUM_LOSS,  # of the negative returns, without their sign
    SUM_DRAWDOWN_2,
    UNDER_PEAK,  # closes since the last one without a drawdown
    MOST_UNDER_PEAK,
    LOSING,  # trades without a profit since the last one with one
    MOST_LOSING,
    SUM_HELD,  # bars from the opening to the end of each trade that ended
) = _rows(N_LANE_ROWS)

# State of one symbol's position. The last row is unused: with one fewer, the first rows of a symbol would
# lie in a page close to where those stored last of the symbol before do, see ``STRIDE``.
N_SYMBOL_ROWS = 17
(
    LOTS,  # position, signed, in lots
    ORDER,  # decided at the last close and not filled yet, signed, in lots
    FLOW,  # cash flow of the open trade, costs included
    RHO,  # mean correlation with the other positions at the last refresh
    ENTRY,  # mean fill price of the position
    BEST,  # best price since entry: highest high of a long, lowest low of a short
    BARRED,  # direction that an exit closed; no re-entry until the signal leaves it
    COOLING,  # closes at which nothing may be entered
    HELD_BARS,  # closes at which the position has been held; below 0, closes since the last was
    ENTRY_ATR,  # average true range before the fill that opened the position
    LEVEL,  # price at which an entry waits
    LEFT,  # bars for which it is good, negative for a sale; 0 if nothing waits
    ENTERED_AT,  # price of an entry inside the bar just walked, or 0
    OPENED,  # bar of the fill that opened the position
    HIGHEST,  # highest and lowest close since entry; kept for signals that read them
    LOWEST,
) = _rows(N_SYMBOL_ROWS - 1)

# Parameters of a lane.
MAX_SIGNAL_PARAMETERS = 32
"""Most parameters that a signal may take."""

N_PARAMETER_ROWS = 31 + MAX_SIGNAL_PARAMETERS
(
    SIZE,  # of the sizing mode; see kernels.risk
    SCORE_SHARPE,  # Sharpe ratio per bar of a built-in signal of score 1
    MAX_WEIGHT,
    MAX_POSITIONS,  # inf where off
    MAX_EXPOSURE,
    BEAR_MULTIPLIER,
    NEUTRAL_MULTIPLIER,
    BULL_MULTIPLIER,
    CORRELATION_PENALTY,
    MIN_ORDER_SIZE,  # units
    REBALANCE_BAND,
    STOP_LOSS,  # inf where off
    TAKE_PROFIT,  # inf where off
    TRAILING_STOP,  # inf where off
    SLIPPAGE,  # a fraction, half the spread included
    HALF_SPREAD_TICKS,
    COMMISSION,  # a fraction of the value
    PER_UNIT,  # commission, money
    MINIMUM,  # commission, money
    PER_ORDER,  # commission, money
    IMPACT,  # times the volatility
    VOLUME_SHARE,  # inf where off
    STOP_LOSS_ATR,  # 0 where off
    TAKE_PROFIT_ATR,  # 0 where off
    TRAILING_STOP_ATR,  # 0 where off
    TIME_EXIT,  # closes; inf where off
    COOLDOWN,  # closes
    ENTRY_OFFSET,  # a fraction of the close
    ENTRY_OFFSET_ATR,
    ENTRY_BARS,
    MAKER,  # commission of a limit entry, a fraction of the value
    SIGNAL_0,  # and the rows after it, as many as the signal takes
    SIGNAL_1,
) = _rows(N_PARAMETER_ROWS - MAX_SIGNAL_PARAMETERS + 2)

# Columns that a lane reads: two features, the volatility and the regime model. The features of a
# user's strategy come last, so that the built-in ones stay close together.
MAX_USER_FEATURES = 32
"""Most features that a user's signal may take."""

N_COLUMN_ROWS = 4 + MAX_USER_FEATURES
(
    FEATURE_0,
    FEATURE_1,
    VOLATILITY_COLUMN,
    REGIME_COLUMN,
    USER_FEATURE_0,  # and the rows after it, as many as there are features
) = _rows(N_COLUMN_ROWS - MAX_USER_FEATURES + 1)

MOST_RUNS = 8
"""Up to this many runs of lanes with the same columns, a block reads a column once a run."""

# What all lanes of a block read alike, as bits.
SAME_FEATURES, SAME_VOLATILITY, SAME_REGIME = 1, 2, 4
ALL_SAME = SAME_FEATURES | SAME_VOLATILITY | SAME_REGIME

# Columns of the table of instruments, one row a symbol. A cost that the study gives per symbol is here,
# and 0 in the lanes (``VOLUME_SHARE``: inf); where the study gives one for all, it is the other way.
N_INSTRUMENT_COLUMNS = 13
(
    LOT_UNITS,
    LOT_MONEY,  # money per lot at a price of 1
    TICK,
    OWN_SLIPPAGE,
    OWN_HALF_SPREAD,  # in units of price
    OWN_COMMISSION,
    OWN_MAKER,
    OWN_PER_UNIT,
    OWN_MINIMUM,
    OWN_PER_ORDER,
    OWN_IMPACT,
    OWN_VOLUME_SHARE,
    BORROW,  # fee of a short position, a fraction a year
) = range(N_INSTRUMENT_COLUMNS)

# Columns of the table of rates, one row a bar, over the time since the bar before.
N_RATE_COLUMNS = 5
(
    CREDIT,  # earned on cash above 0, a fraction
    DEBIT,  # paid on cash below 0, a fraction
    RISK_FREE,  # subtracted from returns, a fraction
    YEARS,
    BENCHMARK,  # return of the benchmark less the risk-free one, a fraction; 0 without a max-test
) = range(N_RATE_COLUMNS)

# Rows of each symbol where places are limited, not carried to the next bar.
N_RANK_ROWS = 3
(
    RANK_EDGE,  # strength times confidence
    RANK_CALM,  # inverse of the volatility
    RANK,  # number of symbols that come first
) = _rows(N_RANK_ROWS)

# Working rows of one bar, not carried to the next, but for the inverses.
N_SCRATCH_ROWS = 18 + MAX_USER_FEATURES
(
    GROSS,
    EQUITY_NOW,
    ADDED,  # value of the additions, and of the reductions
    FREED,
    SHARE,  # factor of all additions
    SPENT,  # cash
    SCALED_SIZE,
    INVERSE_VARIANCE,  # of the portfolio, per unit of exposure
    INVERSE_EXPOSURE,  # at the last close; inf where nothing was held
    INVERSE_PEAK,  # as ``kernels.portfolio.inverse_of`` says
    DIRECTION,
    FRACTION,
    EDGE,  # strength times confidence
    CONFIDENCE,  # of a user's signal; a built-in one has 1
    X0,  # gathered features, volatility and its inverse
    X1,
    X_VOLATILITY,
    X_INVERSE_VOLATILITY,
    USER_X0,  # and the rows after it
) = _rows(19)

# Rows of the bars that are not in the sums yet, a row a bar; the first is of the bar before them. Their
# offset depends on the bar, so they have a buffer of their own: among the working rows the compiler could
# not tell that they overlap no other row, and would check it at run time.
SUMMED_BARS = 4
"""Bars that are added to the sums of a lane together, so that these are loaded and stored once."""

N_RECENT_ROWS = 3 * (SUMMED_BARS + 1)
LAST_EQUITY, LAST_INVERSE, LAST_EXPOSURE = _rows(N_RECENT_ROWS)[:: SUMMED_BARS + 1]

# Lengths in the flat buffers: one block of lanes, and for positions and ranks one symbol of it.
STATE_BLOCK = np.uint64(N_LANE_ROWS * STRIDE)
POSITION_BLOCK = np.uint64(N_SYMBOL_ROWS * STRIDE)
PARAMETER_BLOCK = np.uint64(N_PARAMETER_ROWS * STRIDE)
COLUMN_BLOCK = np.uint64(N_COLUMN_ROWS * STRIDE)
RANK_BLOCK = np.uint64(N_RANK_ROWS * STRIDE)
SCRATCH_SIZE = N_SCRATCH_ROWS * STRIDE
RECENT_SIZE = N_RECENT_ROWS * STRIDE

CACHE_LINE = 64
"""Bytes; also the width of the widest vector registers."""


def aligned_zeros(shape: tuple[int, ...], dtype: npt.DTypeLike = np.float64) -> npt.NDArray[Any]:
    """Zeros that begin on a cache line, as does every row of ``STRIDE`` numbers of 8 bytes in them.

    numpy aligns arrays to 16 bytes only. A vector that straddles two cache lines needs two accesses
    for each load and store.

    Args:
        shape: the shape of the array.
        dtype: the data type of the array.

    Returns:
        A writable array of zeros.
    """
    n_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    room = np.zeros(n_bytes + CACHE_LINE, dtype=np.uint8)
    start = -room.ctypes.data % CACHE_LINE
    return room[start : start + n_bytes].view(dtype).reshape(shape)
