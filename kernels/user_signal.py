"""The place of a user's strategy in the simulation. Here it is empty.

For each strategy of a user ``optimizer.custom`` compiles the simulation once more, with a module of
these three names in the place of this one. numba can cache that, and inline the user's function into
the loop over lanes; a function that is handed over as an argument it can do neither with.
"""

from kernels._jit import jit
from kernels.codes import HOLD

GIVEN = False
"""Whether there is a user's strategy."""

N_FEATURES = 0
"""Features that it takes."""

_NONE = (float(HOLD), 0.0, 0.0)


@jit
def user_signal(
    x0: float,
    x1: float,
    x2: float,
    x3: float,
    x4: float,
    x5: float,
    close: float,
    volatility: float,
    inverse_volatility: float,
    p0: float,
    p1: float,
    p2: float,
    p3: float,
    p4: float,
    p5: float,
    p6: float,
    p7: float,
) -> tuple[float, float, float]:
    """Direction, strength and confidence; features ``x`` and parameters ``p`` in the user's order.

    ``volatility`` is that by which the position is sized, its inverse is 0 where it is 0.
    """
    return _NONE
