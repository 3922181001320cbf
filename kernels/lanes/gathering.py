"""What the signals of a block of lanes read: one value for all lanes, or a gathered row."""

from kernels._jit import jit_borrowing
from kernels.arrays import ColumnArray, FloatArray, Index
from kernels.codes import AVERAGE_CROSS, BREAKOUT
from kernels.layout import (
    FEATURE_0,
    FEATURE_1,
    VOLATILITY_COLUMN,
    X0,
    X1,
    X_INVERSE_VOLATILITY,
    X_VOLATILITY,
    B,
)


@jit_borrowing
def of_lane(common: float, scratch: FloatArray, row: Index, b: Index, own: object) -> float:
    """The value that lane ``b`` reads.

    ``own`` is known at compile time. A choice at run time would stand inside the loop over lanes.

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


@jit_borrowing
def gather_lanes(
    c: Index,
    t: int,
    s: Index,
    features: FloatArray,
    volatilities: FloatArray,
    inverse_volatilities: FloatArray,
    columns: ColumnArray,
    scratch: FloatArray,
    strategy: int,
    same_volatility: bool,
) -> None:
    """Gather the features, the volatility and its inverse that each lane reads of one symbol.

    Args:
        c: offset of the block in ``columns``.
        t, s: numbers of the bar and of the symbol.
        features: (n_bars, n_symbols, n_columns).
        volatilities, inverse_volatilities: (n_bars, n_symbols, n_volatilities), per bar.
        columns: columns of each lane.
        scratch: X0, X_VOLATILITY and X_INVERSE_VOLATILITY are written, and X1 where the strategy
            takes a second feature.
        strategy: code of the signal kernel.
        same_volatility: by ``one_volatility``.
    """
    for b in range(B):
        scratch[X0 + b] = features[t, s, columns[c + FEATURE_0 + b]]
    if strategy in (AVERAGE_CROSS, BREAKOUT):
        for b in range(B):
            scratch[X1 + b] = features[t, s, columns[c + FEATURE_1 + b]]
    if same_volatility:
        vol = volatilities[t, s, columns[c + VOLATILITY_COLUMN]]
        ivol = inverse_volatilities[t, s, columns[c + VOLATILITY_COLUMN]]
        for b in range(B):
            scratch[X_VOLATILITY + b] = vol
            scratch[X_INVERSE_VOLATILITY + b] = ivol
    else:
        for b in range(B):
            column = columns[c + VOLATILITY_COLUMN + b]
            scratch[X_VOLATILITY + b] = volatilities[t, s, column]
            scratch[X_INVERSE_VOLATILITY + b] = inverse_volatilities[t, s, column]
