"""Bars cut into the pieces in which entries, stops and the maintenance margin are looked at."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from itertools import pairwise
from math import inf
from statistics import multimode

from optimizer.types import Bars


@dataclass(frozen=True)
class Piece:
    """One symbol in one bar, or in one of the finer bars inside it.

    ``volume`` is infinite where the symbol has none at all.
    """

    open: float
    high: float
    low: float
    close: float
    volume: float
    trades: bool


NOTHING = Piece(0.0, 0.0, 0.0, 0.0, 0.0, trades=False)

Moment = list[Piece]
"""The pieces of all symbols that begin at one time."""


def column(bars: Bars, s: int) -> list[Piece | None]:
    """The bars of one symbol; None where it has none."""
    volume = [float(v) for v in bars.volume[:, s]]
    known = any(v > 0.0 for v in volume)
    out: list[Piece | None] = []
    for t, v in enumerate(volume):
        if bars.present is not None and not bars.present[t, s]:
            out.append(None)
            continue
        open_, high, low, close = (
            float(table[t, s]) for table in (bars.open, bars.high, bars.low, bars.close)
        )
        out.append(Piece(open_, high, low, close, v if known else inf, v > 0.0 or not known))
    return out


def still(price: float) -> Piece:
    """A symbol that has no bar at a moment, at its last price."""
    return Piece(price, price, price, price, 0.0, trades=False)


def moments(bars: Bars, fine: Bars | None) -> list[list[Moment]]:
    """The moments of each bar, in order of time.

    A finer bar belongs to the bar that begins last before it or with it, unless the most common step
    between bars is over by then. It is left out where its symbol lacks that bar. Where a symbol has no
    finer bar in a bar, that bar itself is its only piece, at the time of the first finer bar in it of
    any symbol. A symbol without a piece at a moment stays at its last close.
    """
    symbols = range(bars.n_symbols)
    whole = [column(bars, s) for s in symbols]
    starts, begins = times(bars), times(fine) if fine is not None else []
    none: list[Piece | None] = [None] * len(begins)
    cut: dict[str, list[Piece | None]] = {}
    if fine is not None:
        cut = {name: column(fine, s) for s, name in enumerate(fine.symbols)}
    step = min(multimode(after - before for before, after in pairwise(starts)))
    out: list[list[Moment]] = []
    for t, start in enumerate(starts):
        end = min([start + step, *starts[t + 1 : t + 2]])
        inside = range(bisect_left(begins, start), bisect_left(begins, end))
        first = begins[inside[0]] if inside else start
        found: list[dict[int, Piece]] = []
        for s, name in enumerate(bars.symbols):
            own, bar = cut.get(name, none), whole[s][t]
            if bar is None:
                found.append({})
                continue
            pieces = {begins[i]: piece for i in inside if (piece := own[i]) is not None}
            found.append(pieces or {first: bar})
        last = [float(bars.close[t - 1, s] if t > 0 else bars.open[0, s]) for s in symbols]
        out.append([])
        for time in sorted({time for pieces in found for time in pieces}):
            moment = [found[s].get(time) or still(last[s]) for s in symbols]
            last = [piece.close for piece in moment]
            out[t].append(moment)
    return out


def times(bars: Bars) -> list[int]:
    """Nanoseconds at which the bars begin."""
    return [int(time) for time in bars.timestamps.astype("datetime64[ns]").astype("int64")]
