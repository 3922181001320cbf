"""The check that a function of bars never reads ahead."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

AnyArray = npt.NDArray[Any]


def assert_causal(
    function: Callable[..., AnyArray | tuple[AnyArray, ...]],
    arrays: Sequence[AnyArray],
    cuts: Iterable[int],
) -> None:
    """Assert that outputs on the first n bars are the same, bit for bit, whatever follows.

    For each cut n the bars from n on are left out, and replaced by others: floats scaled by one
    positive factor a bar, common to all arrays (so that prices stay prices and high stays above
    low), anything else in reverse order.

    Args:
        function: takes ``arrays``; returns one array or several, bars on axis 0.
        arrays: bars on axis 0, all of one length. They are not changed.
        cuts: numbers of bars, each from 0 to n_bars.

    Raises:
        AssertionError: names the cut and what followed it.
    """
    n_bars = len(arrays[0])
    whole = _outputs(function, [array.copy() for array in arrays])
    factors = np.random.default_rng(n_bars).uniform(0.25, 4.0, n_bars)
    for cut in cuts:
        shortened = [array[:cut].copy() for array in arrays]
        replaced = [_other_future(array, cut, factors) for array in arrays]
        for what, given in (("nothing follows", shortened), ("other bars follow", replaced)):
            for one, (expected, actual) in enumerate(
                zip(whole, _outputs(function, given), strict=True)
            ):
                np.testing.assert_array_equal(
                    actual[:cut],
                    expected[:cut],
                    err_msg=f"output {one} of the first {cut} bars changes when {what}",
                )


def _outputs(function: Callable[..., Any], arrays: Sequence[AnyArray]) -> tuple[AnyArray, ...]:
    result = function(*arrays)
    return result if isinstance(result, tuple) else (result,)


def _other_future(array: AnyArray, cut: int, factors: npt.NDArray[np.float64]) -> AnyArray:
    other = array.copy()
    if array.dtype.kind == "f":
        other[cut:] *= factors[cut:].reshape((-1,) + (1,) * (array.ndim - 1))
    else:
        other[cut:] = array[cut:][::-1]
    return other
