"""The place of a user's strategy in the simulation. Here it is empty.

``optimizer.strategies.user_kernels`` writes a module with these three names for each strategy of a
user. It then compiles the modules that read them, directly or through each other, once more against
that module. This way numba can inline the user's function into the loop over lanes and cache the
result, neither of which it does for a function that is passed as an argument.
"""

from kernels._jit import jit
from kernels.codes import HOLD

GIVEN = False
"""Whether there is a user's strategy."""

N_USER_FEATURES = 0
"""Number of features that it takes."""

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
    """The user's signal; here HOLD.

    Args:
        x0, x1, x2, x3, x4, x5: features in the user's order; those not taken are ignored.
        close: price of the symbol.
        volatility: the volatility per bar, the one by which the position is sized.
        inverse_volatility: its inverse, 0 where the volatility is 0.
        p0, p1, p2, p3, p4, p5, p6, p7: parameters in the user's order; those not taken are ignored.

    Returns:
        Direction, strength and confidence; see ``kernels.signals``.
    """
    return _NONE
