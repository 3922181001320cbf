"""The place of a user's strategy in the simulation. Here it is empty.

``optimizer.strategies.user_kernels`` writes a module with these names for each strategy of a user. It
then compiles the modules that read them, directly or through each other, once more against that
module. This way numba can inline the user's function into the loop over lanes and cache the result,
neither of which it does for a function that is passed as an argument.
"""

from kernels._jit import jit_borrowing
from kernels.arrays import ColumnArray, FloatArray, Index
from kernels.codes import HOLD

GIVEN = False
"""Whether there is a user's strategy."""

N_USER_FEATURES = 0
"""Number of features that it takes."""

POSITION_AWARE = False
"""Whether it takes values of the position, which are then kept for it."""

_NONE = (float(HOLD), 0.0, 0.0)


@jit_borrowing
def shared_features(
    c: Index, t: int, s: Index, features: FloatArray, columns: ColumnArray
) -> tuple[float, ...]:
    """The features that lane 0 of a block reads, in the user's order; here none.

    Args:
        c: offset of the block in ``columns``.
        t, s: numbers of the bar and of the symbol.
        features: (n_bars, n_symbols, n_columns).
        columns: columns of each lane.

    Returns:
        ``N_USER_FEATURES`` values.
    """
    return ()


@jit_borrowing
def lane_signal(
    shared: tuple[float, ...],
    p: Index,
    q: Index,
    b: Index,
    close: float,
    volatility: float,
    inverse_volatility: float,
    parameters: FloatArray,
    positions: FloatArray,
    scratch: FloatArray,
    counts: bool,
    own: object,
) -> tuple[float, float, float]:
    """The user's signal in one lane; here HOLD.

    Args:
        shared: what ``shared_features`` returned, read where ``own`` is None.
        p, q: offsets of the symbol in ``positions`` and of the block in ``parameters``.
        b: number of the lane.
        close: price of the symbol.
        volatility: the volatility per bar, the one by which the position is sized.
        inverse_volatility: its inverse, 0 where the volatility is 0.
        parameters: rows of each lane; the user's begin at SIGNAL_0.
        positions: read where ``POSITION_AWARE``; HIGHEST and LOWEST are updated for a signal that takes
            ``best_return`` or ``worst_return``. A call without ``counts`` before changes nothing.
        scratch: holds the features of each lane from USER_X0 on, read where ``own`` is given.
        counts: whether HELD_BARS is updated, where ``POSITION_AWARE``.
        own: None where all lanes of the block read the same columns.

    Returns:
        Direction, strength and confidence; see ``kernels.signals``.
    """
    return _NONE
