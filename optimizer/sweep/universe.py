"""Which symbols a study may hold at each bar: those that are listed, known long enough, and members."""

from __future__ import annotations

import numpy as np

from kernels.codes import LEAVING, LIVE, WAITING
from optimizer.errors import DataError
from optimizer.market.clock import last_of_days
from optimizer.study_file.study import Study
from optimizer.types import Bars, IntArray, MaskArray


def symbol_ends(bars: Bars) -> IntArray:
    """Last bar of each symbol that ends before the bars do; -1 for the others.

    Args:
        bars: the bars of all symbols.

    Returns:
        Shape (n_symbols,).
    """
    ends = np.full(bars.n_symbols, -1)
    for s in range(bars.n_symbols):
        own = bars.own(s)
        if len(own) and own[-1] < bars.n_bars - 1:
            ends[s] = own[-1]
    return ends


def session_exits(study: Study, bars: Bars, size: int | None = None) -> MaskArray:
    """The closes at which nothing may be wanted, so that nothing is held over the end of a session.

    A session is one of ``[data] exchange``, else a day of ``[data] timezone``, and of each symbol the
    bars that it has in it.

    Args:
        study: whose orders fill at the next open, or at the close of the bar that decides.
        bars: the bars of the study.
        size: duration of a bar, nanoseconds; None takes that of the steps.

    Returns:
        Shape (n_bars, n_symbols), 1 or 0.

    Raises:
        DataError: the bars are as long as a session, or there is no such exchange.
    """
    flat = np.zeros((bars.n_bars, bars.n_symbols), dtype=np.uint8)
    for s in range(bars.n_symbols):
        own = bars.own(s)
        ends = last_of_days(bars.timestamps[own], study.data.timezone, study.data.exchange, size)
        if ends.mean() > 0.5:
            raise DataError(
                f"{bars.source}: [risk] session_exit = true closes positions before the end of each day,"
                f" and most days of {bars.symbols[s]} have one bar; leave it out, or use bars within the"
                " day"
            )
        ends[-1:] = 0  # whether its session goes on is not known
        decides = ends
        if study.costs.fill != "close":
            decides = np.append(ends[1:], np.uint8(0))
            # An order lapses at a bar that the symbol lacks, so it is decided again.
            decides[1:] |= ends[1:] & (np.diff(own) > 1)
        flat[own, s] = decides
    return flat


def tradable_mask(bars: Bars, warm_up: int, members: MaskArray | None) -> MaskArray:
    """Which symbols a feature compares at each bar: those that may be held, as far as is known then.

    Args:
        bars: the bars of all symbols.
        warm_up: bars of its own that a symbol has before its first decision.
        members: whether each symbol is a member at each bar, (n_bars, n_symbols), 1 or 0; None for
            always.

    Returns:
        (n_bars, n_symbols), 1 or 0. Unlike in ``live_mask`` the last bar of a symbol that ends counts:
        that it is the last one shows later.
    """
    never = np.full(bars.n_symbols, -1)
    live = live_mask(bars, warm_up, members, None, never)
    return np.asarray(live == LIVE).view(np.uint8)


def live_mask(
    bars: Bars,
    warm_up: int,
    members: MaskArray | None,
    flat: MaskArray | None,
    ends: IntArray | None = None,
) -> MaskArray:
    """Whether each symbol decides at each bar.

    Args:
        bars: the bars of all symbols.
        warm_up: bars of its own that a symbol has before its first decision.
        members: whether each symbol is a member at each bar, (n_bars, n_symbols), 1 or 0; None for
            always.
        flat: whether nothing may be wanted at each close, (n_bars, n_symbols), 1 or 0; None for never.
        ends: the result of ``symbol_ends``; None computes it.

    Returns:
        (n_bars, n_symbols): WAITING where the symbol has no bar, during its warm-up, and at its last bar
        if it ends before the bars do; LEAVING where it is no member, or where ``flat``; LIVE elsewhere.
    """
    live = np.full((bars.n_bars, bars.n_symbols), LIVE, dtype=np.uint8)
    if members is not None:
        live[members == 0] = LEAVING
    if flat is not None:
        live[flat == 1] = LEAVING
    if bars.present is not None:
        live[bars.present == 0] = WAITING
    for s, end in enumerate(symbol_ends(bars) if ends is None else ends):
        live[bars.own(s)[:warm_up], s] = WAITING
        if end >= 0:
            live[end, s] = WAITING
    return live
