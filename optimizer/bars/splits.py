"""Steps of the price that look like a split or a redenomination left in."""

from __future__ import annotations

import numpy as np

from optimizer.types import FloatArray

_WHOLE = (2, 3, 4, 5, 6, 7, 8, 10, 15, 20, 25, 30, 40, 50, 100)
_SPLITS = [(3, 2), *((n, 1) for n in _WHOLE), *((1, n) for n in _WHOLE)]
_LOG_SPLITS = np.log([new / old for new, old in _SPLITS])
_NEAR = 0.03
_SMALLEST = np.abs(_LOG_SPLITS).min() - _NEAR
_LARGE = np.log(3.0)
"""A step as large as this is suspected, whatever its ratio."""


def suspected_splits(open_: FloatArray, close: FloatArray) -> list[tuple[int, int, str]]:
    """Steps of the price that look like a split or a redenomination left in.

    The step leads from a close to the next open; it is a ratio of small whole numbers within 3%, or
    threefold or more. A step that large counts too where it lies within a bar, as in bars that open at
    the close before. The prices keep the new level: the medians of up to 10 closes before and after
    differ by the ratio within 15%, or by the large step within a quarter of its logarithm.

    Args:
        open_, close: shape (n_bars, n_symbols).

    Returns:
        Bar, symbol and ratio such as ``4:1`` or ``1:35``, in order of time.
    """
    before, opened, after = np.log(close[:-1]), np.log(open_[1:]), np.log(close[1:])
    step = before - opened
    inside = (np.abs(step) < _LARGE) & (np.abs(before - after) >= _LARGE)
    step = np.where(inside, before - after, step)
    found = []
    for place, symbol in np.argwhere(np.abs(step) > _SMALLEST):
        bar, size = int(place) + 1, float(step[place, symbol])
        levels = close[max(0, bar - 10) : bar, symbol], close[bar : bar + 10, symbol]
        kept = float(np.log(np.median(levels[0])) - np.log(np.median(levels[1])))
        split = int(np.argmin(np.abs(size - _LOG_SPLITS)))
        known = abs(size - _LOG_SPLITS[split]) < _NEAR
        if known and abs(kept - _LOG_SPLITS[split]) < 0.15:
            found.append((bar, int(symbol), f"{_SPLITS[split][0]}:{_SPLITS[split][1]}"))
        elif abs(size) >= _LARGE and abs(kept - size) < abs(size) / 4:
            found.append((bar, int(symbol), _ratio(size)))
    return found


def _ratio(step: float) -> str:
    """The text of a ratio from its logarithm: to a few digits, whole where it nearly is."""
    factor = float(np.exp(abs(step)))
    factor = float(f"{factor:.{2 if factor >= 1000 else 3}g}")
    text = f"{factor:.0f}" if abs(factor / round(factor) - 1.0) < 0.03 else f"{factor:.1f}"
    return f"{text}:1" if step > 0 else f"1:{text}"
