"""Bars come one by one, in order of time."""

from __future__ import annotations

from optimizer.errors import DataError
from optimizer.types import Bar


def require_next(bar: Bar, symbols: tuple[str, ...], last: Bar | None) -> None:
    """Refuse a bar that is not the next one.

    Args:
        bar: the bar.
        symbols: the symbols that every bar has.
        last: the bar before; None before the first, which has index 0.

    Raises:
        DataError: the bar is out of order or has other symbols.
    """
    if bar.symbols != symbols:
        raise DataError(
            f"bar {bar.index} at {bar.time}: symbols {', '.join(bar.symbols)}; expected"
            f" {', '.join(symbols)}"
        )
    expected = 0 if last is None else last.index + 1
    if bar.index != expected or (last is not None and bar.time <= last.time):
        before = "no bar" if last is None else f"bar {last.index} at {last.time}"
        raise DataError(
            f"bar {bar.index} at {bar.time}: out of order after {before}; feed bars one by one, in order"
            " of time, from index 0"
        )
