"""Bars of a second file that take the place of longer bars put together from those of the study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from optimizer.bars.sizes import bar_size
from optimizer.bars.times import DAY, WEEK, duration_text, write_duration
from optimizer.errors import DataError
from optimizer.market.clock import MarketClock, market_clock
from optimizer.market.feature_keys import BAR_FIELDS
from optimizer.types import Bars, FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class SlowerBars:
    """Longer bars of the study's symbols.

    Attributes:
        timeframe: their duration, such as ``1d``.
        bars: the bars.
        columns: the column of each symbol of the study.
        ends: when each has closed, nanoseconds since 1970, UTC, shape (n_bars,).
    """

    timeframe: str
    bars: Bars
    columns: tuple[int, ...]
    ends: IntArray

    def of_symbol(self, symbol: int) -> tuple[dict[str, FloatArray], IntArray]:
        """The bars that one symbol has.

        Args:
            symbol: index in the study.

        Returns:
            Open, high, low, close and volume by name, and when each has closed, all of shape (n_own,).
        """
        column = self.columns[symbol]
        own = self.bars.own(column)
        values = {name: np.array(getattr(self.bars, name)[own, column]) for name in BAR_FIELDS}
        return values, self.ends[own]

    def until(self, end: int) -> SlowerBars:
        """The bars that have closed by a time.

        Args:
            end: nanoseconds since 1970, UTC.
        """
        n_bars = int(np.searchsorted(self.ends, end, side="right"))
        return replace(self, bars=self.bars.head(n_bars), ends=self.ends[:n_bars])


def slower_bars(
    bars: Bars,
    symbols: Sequence[str],
    clock: MarketClock,
    timezone: str,
    exchange: str | None,
    *,
    in_sessions: bool = True,
) -> SlowerBars:
    """The bars of a second file, with the times at which they close.

    Args:
        bars: the bars of the second file.
        symbols: the symbols of the study.
        clock: that of the study's bars.
        timezone, exchange: those of the clock, see ``market_clock``.
        in_sessions: whether all bars of the study lie in sessions of the exchange.

    Raises:
        DataError: they are no longer than the study's, or of no duration that a timeframe has.
    """
    size = bar_size(bars.timestamps)
    if size <= clock.size or not (size <= DAY or size == WEEK):
        raise DataError(
            f"{bars.source}: bars of {duration_text(size)}; expected bars that are longer than those of"
            f" the study ({duration_text(clock.size)}): up to a day, or of a week"
        )
    own = market_clock(bars.timestamps, timezone, exchange, size)
    moments = own.at(bars.timestamps)
    ends = own.ends(moments)
    if exchange is None or not own.long or not in_sessions:
        # Only a bar of a day is sure to end with its session, and only where nothing trades after it.
        ends = np.maximum(ends, moments.times + size)
    ends = np.maximum.accumulate(ends)
    columns = tuple(bars.symbols.index(name) for name in symbols)
    return SlowerBars(write_duration(size), bars, columns, ends)
