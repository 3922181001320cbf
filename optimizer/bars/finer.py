"""Finer bars inside each bar, in which entries, stops and the maintenance margin are watched."""

from __future__ import annotations

import logging
from dataclasses import dataclass, fields

import numpy as np

from optimizer.bars.sizes import bar_size
from optimizer.bars.times import duration_text, time_text
from optimizer.errors import DataError
from optimizer.text import counted
from optimizer.types import Bars, FloatArray, IntArray, MaskArray

_log = logging.getLogger("barsweep")

TOLERANCE = 0.005
"""Fraction by which prices of finer bars may leave the range of their bar: sources round differently."""

MOST_OUTSIDE = 0.01
"""Share of a symbol's bars that finer bars may leave further before the files do not belong together."""

CLOSE, MOST_MISSED = 0.001, 0.2
"""By how much finer bars may miss the high and low of their bar, and in what share of the bars they may
miss it further before a warning."""


@dataclass(frozen=True, eq=False)
class FinerBars:
    """Finer bars of all symbols, those of one bar in a row. Every bar has one at least.

    Attributes:
        bounds: shape (n_bars + 1,); the finer bars of bar t are ``bounds[t]`` to ``bounds[t + 1] - 1``.
        open, high, low: prices, shape (n_finer_bars, n_symbols).
        traded: whether each symbol trades in each finer bar, of the same shape, 1 or 0.
        volume: units, of the same shape; inf where it is unknown or nothing trades.
    """

    bounds: IntArray
    open: FloatArray
    high: FloatArray
    low: FloatArray
    traded: MaskArray
    volume: FloatArray

    def __post_init__(self) -> None:
        for one in fields(self):
            getattr(self, one.name).flags.writeable = False


def no_finer_bars(bars: Bars, volumes: FloatArray) -> FinerBars:
    """Each bar as its own finer bar.

    Args:
        bars: the bars of all symbols.
        volumes: units, shape (n_bars, n_symbols); inf where unknown.

    Returns:
        The bars, not copied.
    """
    return FinerBars(
        np.arange(bars.n_bars + 1), bars.open, bars.high, bars.low, bars.traded, volumes
    )


def inside_bars(bars: Bars, finer: Bars) -> FinerBars:
    """Put finer bars into the bars in which they lie.

    A finer bar belongs to the bar that has begun and not ended at its start. Others are left out, and so
    are those in a bar that their symbol lacks. A bar of a symbol without finer bars counts as one.

    Args:
        bars: the bars of all symbols.
        finer: the finer bars of the same symbols, on one calendar.

    Returns:
        The finer bars.

    Raises:
        DataError: no bar has finer ones, or their prices are not those of the bars.
    """
    step = bar_size(bars.timestamps)
    finer_step = 0 if finer.n_bars < 2 else bar_size(finer.timestamps)
    if finer_step >= step:
        raise DataError(
            f"{finer.source}: a bar is {duration_text(finer_step)}, no finer than the"
            f" {duration_text(step)} of {bars.source}; give finer bars, or leave out [data] fills"
        )
    result = _placed(bars, finer, step, np.zeros(bars.close.shape, dtype=np.uint8))
    other = _other_prices(bars, finer.source, result)
    return _placed(bars, finer, step, other) if other.any() else result


def _placed(bars: Bars, finer: Bars, step: int, without: MaskArray) -> FinerBars:
    """The finer bars of each bar; a bar of ``without``, (n_bars, n_symbols), counts as one."""
    ends = bars.timestamps + np.timedelta64(step, "ns")
    ends[:-1] = np.minimum(ends[:-1], bars.timestamps[1:])
    first = np.searchsorted(finer.timestamps, bars.timestamps)
    last = np.searchsorted(finer.timestamps, ends)
    if not (last > first).any():
        raise DataError(
            f"{finer.source}: no bar lies inside one of {bars.source}, from"
            f" {time_text(bars.timestamps[0])} to {time_text(bars.timestamps[-1])}; give finer bars of"
            " the same time in [data] fills"
        )
    counts = np.maximum(last - first, 1)
    bounds = np.concatenate([[0], np.cumsum(counts)])
    bar = np.repeat(np.arange(bars.n_bars), counts)
    number = np.arange(bounds[-1]) - bounds[bar]
    row = np.minimum(first[bar] + number, finer.n_bars - 1)
    inside = (last > first)[bar][:, np.newaxis]
    there = inside & (finer.present[row] == 1 if finer.present is not None else True)
    there = np.broadcast_to(there, (len(bar), bars.n_symbols))
    there = there & (without[bar] == 0)
    if bars.present is not None:
        there = there & (bars.present[bar] == 1)
    lacking = ~np.logical_or.reduceat(there, bounds[:-1], axis=0)[bar]
    if bars.present is not None:
        lacking &= bars.present[bar] == 1
    stands_in = lacking & (number == 0)[:, np.newaxis]

    def spread(name: str) -> FloatArray:
        return np.asarray(np.where(stands_in, getattr(bars, name)[bar], getattr(finer, name)[row]))

    known = there | stands_in
    # Where a symbol has no finer bar, its last close counts: that of the bar before until it has one.
    latest = np.where(known, np.arange(len(bar))[:, np.newaxis], 0)
    latest = np.maximum.accumulate(latest, axis=0)
    close = np.take_along_axis(spread("close"), latest, axis=0)
    before = np.concatenate([bars.open[:1], bars.close[:-1]])[bar]
    still = np.where(latest >= bounds[bar][:, np.newaxis], close, before)
    traded = np.where(stands_in, bars.traded[bar], finer.traded[row] & there).astype(np.uint8)
    volume = spread("volume")
    return FinerBars(
        bounds,
        np.where(known, spread("open"), still),
        np.where(known, spread("high"), still),
        np.where(known, spread("low"), still),
        traded,
        np.where((traded == 1) & (volume > 0.0), volume, np.inf),
    )


def _other_prices(bars: Bars, source: str, finer: FinerBars) -> MaskArray:
    """Where finer bars leave the range of their bar, shape (n_bars, n_symbols), 1 or 0.

    Raises:
        DataError: there are many such bars of a symbol.
    """
    traded = finer.traded == 1
    starts = finer.bounds[:-1]
    top = np.maximum.reduceat(np.where(traded, finer.high, 0.0), starts, axis=0)
    bottom = np.minimum.reduceat(np.where(traded, finer.low, np.inf), starts, axis=0)
    outside = (top > bars.high * (1.0 + TOLERANCE)) | (bottom < bars.low * (1.0 - TOLERANCE))
    for s in np.flatnonzero(outside.any(axis=0)).tolist():
        t, share = int(np.argmax(outside[:, s])), float(outside[:, s].mean())
        message = (
            f"{source}: the finer bars of {bars.symbols[s]} at {time_text(bars.timestamps[t])} range"
            f" from {bottom[t, s]:.6g} to {top[t, s]:.6g}, their bar from {bars.low[t, s]:.6g} to"
            f" {bars.high[t, s]:.6g}"
        )
        if share > MOST_OUTSIDE:
            raise DataError(
                f"{message}; {share:.0%} of its bars differ like that: give both files the same"
                " adjustment for splits and dividends, and the same time zone"
            )
        found = counted(int(outside[:, s].sum()), "bar")
        _log.warning("%s; %s like that without the finer ones: correct the file", message, found)
    seen = np.logical_or.reduceat(traded, starts, axis=0)
    missed = (top < bars.high * (1.0 - CLOSE)) | (bottom > bars.low * (1.0 + CLOSE))
    for s in range(bars.n_symbols):
        n_seen = int(seen[:, s].sum())
        if n_seen and (missed & seen)[:, s].sum() > MOST_MISSED * n_seen:
            share = (missed & seen)[:, s].sum() / n_seen
            _log.warning(
                "%s: the finer bars of %s miss the high or the low of %.0f%% of their bars by more"
                " than %g%%; are both files of the same hours, and adjusted alike?",
                source, bars.symbols[s], 100.0 * share, 100.0 * CLOSE,
            )  # fmt: skip
    return outside.astype(np.uint8)
