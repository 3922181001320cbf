"""What the signals of a block of lanes read: one value for all lanes, or a gathered row."""

from kernels._jit import jit_lanes
from kernels.arrays import ColumnArray, FloatArray, Index
from kernels.layout import (
    COLUMN_BLOCK,
    ENTRY,
    HELD_BARS,
    HIGHEST,
    LOTS,
    LOWEST,
    ONE,
    ZERO,
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
def gather_feature(
    k: Index,
    t: int,
    s: Index,
    row: Index,
    target: Index,
    features: FloatArray,
    columns: ColumnArray,
    runs: ColumnArray,
    scratch: FloatArray,
) -> None:
    """Leave the feature that each lane of block ``k`` reads in ``scratch``.

    Args:
        k, t, s: numbers of the block, the bar and the symbol.
        row: offset of the feature in ``columns``.
        target: offset of the row in ``scratch`` that is written.
        features: (n_bars, n_symbols, n_columns).
        columns: columns of each lane.
        runs: (n_blocks, MOST_RUNS + 1), the first lanes of the runs, see ``simulate``.
        scratch: the row at ``target`` is written.
    """
    c = k * COLUMN_BLOCK + row
    if runs[k, ZERO] == B:
        for b in range(B):
            scratch[target + b] = features[t, s, columns[c + b]]
        return
    r = ZERO
    while runs[k, r] != B:
        start, r = runs[k, r], r + ONE
        value = features[t, s, columns[c + start]]
        for b in range(start, runs[k, r]):
            scratch[target + b] = value
