"""What the signals of a block of lanes read: one value for all lanes, or a gathered row."""

from kernels._jit import jit_borrowing
from kernels.arrays import ColumnArray, FloatArray, Index
from kernels.layout import (
    VOLATILITY_COLUMN,
    B,
)


@jit_borrowing
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


@jit_borrowing
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
