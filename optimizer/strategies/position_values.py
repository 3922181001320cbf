"""What a signal may know of the position in its symbol, and positions on which to try it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kernels.portfolio import position_at_close

POSITION_VALUES = (
    "side",
    "bars_held",
    "open_return",
    "best_return",
    "worst_return",
    "entry_price",
    "bars_since_exit",
)
"""Arguments of a user's ``signal``, in the order of ``kernels.portfolio.position_at_close``."""

OF_CLOSES = frozenset({"open_return", "best_return", "worst_return"})
"""Those that depend on the close of the bar that decides."""

EXTREMES = frozenset({"best_return", "worst_return"})
"""Those for which the highest and lowest close since entry are kept."""


def tried_positions(names: tuple[str, ...], close: float) -> list[tuple[float, ...]]:
    """Positions on which to try a signal: none yet, none any more, long and short.

    Args:
        names: the values that the signal takes, of ``POSITION_VALUES``.
        close: the close of the bar that decides.

    Returns:
        The values of each position; one empty tuple if the signal takes none.
    """
    if not names:
        return [()]
    entry, high, low = 0.98 * close, 1.04 * close, 0.95 * close
    found = (
        position_at_close(lots, entry, held, high, low, close)
        for lots, held in ((0.0, -np.inf), (0.0, -4.0), (100.0, 9.0), (-100.0, 9.0))
    )
    return [chosen_values(names, one) for one in found]


def chosen_values(names: tuple[str, ...], values: Sequence[float]) -> tuple[float, ...]:
    """The values of a position that a signal takes.

    Args:
        names: those that it takes, of ``POSITION_VALUES``.
        values: all, in the order of ``POSITION_VALUES``.
    """
    return tuple(values[POSITION_VALUES.index(name)] for name in names)
