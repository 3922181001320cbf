"""The bars received so far, in order of time."""

from __future__ import annotations

from collections import deque

from optimizer.errors import DataError
from optimizer.flow.order_of_bars import require_next
from optimizer.types import Bar


class DataContainer:
    """Bars in order of time.

    Args:
        symbols: the symbols of every bar.
        depth: number of bars kept.
    """

    def __init__(self, symbols: tuple[str, ...], depth: int = 512) -> None:
        self._symbols = symbols
        self._bars: deque[Bar] = deque(maxlen=depth)
        self._now: Bar | None = None

    @property
    def position(self) -> int:
        """Index of the bar at which the timeline is; -1 before the first."""
        return -1 if self._now is None else self._now.index

    def update_timeline_position(self, bar: Bar) -> None:
        """Advance to a bar.

        Args:
            bar: the one after the last.

        Raises:
            DataError: the bar is out of order or has other symbols.
        """
        require_next(bar, self._symbols, self._now)
        self._now = bar

    def cache_bar(self, bar: Bar) -> None:
        """Keep the bar at which the timeline is.

        Args:
            bar: the bar of all symbols.

        Raises:
            DataError: the timeline is at another bar.
        """
        if bar.index != self.position:
            raise DataError(f"bar {bar.index}: the timeline is at bar {self.position}")
        self._bars.append(bar)

    @property
    def latest(self) -> Bar | None:
        """The last bar kept."""
        return self._bars[-1] if self._bars else None

    def last(self, count: int) -> tuple[Bar, ...]:
        """The last ``count`` bars kept, oldest first.

        Args:
            count: 1 or more.
        """
        return tuple(self._bars)[-count:]
