"""Powers and logarithms of arrays, one number at a time.

numpy's own differ in the last bit between machines with wide and narrow vector registers; a study must
not.
"""

import numpy as np

from kernels._jit import jit
from kernels.arrays import FloatArray


@jit
def powers(bases: FloatArray, exponents: FloatArray) -> FloatArray:
    """Raise each number to its power.

    Args:
        bases, exponents: (n,) each.

    Returns:
        (n,); NaN where a negative number is raised to a fraction.
    """
    out = np.empty(len(bases))
    for i in range(len(bases)):
        out[i] = bases[i] ** exponents[i]
    return out


@jit
def logarithms(values: FloatArray) -> FloatArray:
    """Take the natural logarithm of each number.

    Args:
        values: (n,).

    Returns:
        (n,); -inf at 0, NaN below.
    """
    out = np.empty(len(values))
    for i in range(len(values)):
        out[i] = np.log(values[i])
    return out
