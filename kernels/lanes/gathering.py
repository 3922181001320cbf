"""What the signals of a block of lanes read: one value for all lanes, or a gathered row."""

from kernels._jit import jit_lanes
from kernels.arrays import ColumnArray, FloatArray, Index
from kernels.layout import (
    ENTRY,
    HELD_BARS,
    HIGHEST,
    LOTS,
    LOWEST,
    VOLATILITY_COLUMN,
    B,
)
from kernels.portfolio import closes_held, position_at_close


@jit_lanes
def of_lane(common: float, scratch: FloatArray, row: Index, b: Index, own: object) -> float:
    """The value that lane ``b`` reads.

    ``own`` is known at compile time. A choice at run time would be inside the loop over lanes.

    Args:
        common: value of all lanes, used where ``own`` is None.
        scratch: holds the gathered row otherwise.
        row: offset of that row.
        b: number of the lane.
        own: None where all lanes of the block read the same columns.

    Returns:
        The value, in its own unit.
    """
    if own is None:
        return common
    return float(scratch[row + b])


@jit_lanes
def lane_position(
    positions: FloatArray, p: Index, b: Index, close: float, counts: bool, extremes: object
) -> tuple[float, float, float, float, float, float, float]:
    """What the signal of a lane may know of its position; see ``kernels.portfolio.position_at_close``.

    Args:
        positions: HIGHEST and LOWEST are updated where ``extremes`` is given, which a second call at the
            same close leaves as they are; HELD_BARS where ``counts``.
        p, b: offset of the symbol in ``positions``, and the lane.
        close: the close that decides.
        counts: whether to count this close for the position, or since the last one.
        extremes: None where the signal reads neither the best nor the worst return, which are then
            meaningless.

    Returns:
        Side, bars held, return since entry at this, at the best and at the worst close, entry price, bars
        since the last exit.
    """
    highest, lowest = close, close
    if extremes is not None:
        highest, lowest = positions[p + HIGHEST + b], positions[p + LOWEST + b]
    side, held, now, best, worst, entry, since, highest, lowest = position_at_close(
        positions[p + LOTS + b],
        positions[p + ENTRY + b],
        positions[p + HELD_BARS + b],
        highest,
        lowest,
        close,
    )
    before = positions[p + HELD_BARS + b]
    positions[p + HELD_BARS + b] = (
        closes_held(before, positions[p + LOTS + b]) if counts else before
    )
    if extremes is not None:
        positions[p + HIGHEST + b] = highest
        positions[p + LOWEST + b] = lowest
    return side, held, now, best, worst, entry, since


@jit_lanes
def one_volatility(c: Index, columns: ColumnArray) -> bool:
    """Whether all lanes of a block read the same volatility.

    Args:
        c: offset of the block in ``columns``.
        columns: columns of each lane.

    Returns:
        True if they do.
    """
    differ = 0
    for b in range(B):
        own = columns[c + VOLATILITY_COLUMN + b] != columns[c + VOLATILITY_COLUMN]
        differ |= 1 if own else 0
    return differ == 0
