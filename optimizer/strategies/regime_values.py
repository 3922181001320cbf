"""What a signal may know of the market's regime, and probabilities on which to try it."""

from __future__ import annotations

REGIME_VALUES = ("bear_probability", "bull_probability")
"""Arguments of a user's ``signal``, in the order of the columns of ``MarketRegime.probabilities``."""

_TRIED = ((0.0, 0.0), (0.7, 0.1), (0.1, 0.7), (1.0, 0.0), (0.0, 1.0))
"""Probabilities of a bear and of a bull market: none known yet, and what a classifier may say."""


def tried_regimes(names: tuple[str, ...]) -> list[tuple[float, ...]]:
    """Probabilities on which to try a signal.

    Args:
        names: the values that the signal takes, of ``REGIME_VALUES``.

    Returns:
        The values of each regime; one empty tuple if the signal takes none.
    """
    if not names:
        return [()]
    return [tuple(one[REGIME_VALUES.index(name)] for name in names) for one in _TRIED]
