"""Which symbols a study may hold at each bar: those that are listed, known long enough, and members."""

from __future__ import annotations

import numpy as np

from kernels.codes import LEAVING, LIVE, WAITING
from optimizer.types import Bars, IntArray, MaskArray


def symbol_ends(bars: Bars) -> IntArray:
    """Last bar of each symbol that ends before the bars do; -1 for the others.

    Args:
        bars: of all symbols.

    Returns:
        Shape (n_symbols,).
    """
    ends = np.full(bars.n_symbols, -1)
    for s in range(bars.n_symbols):
        own = bars.own(s)
        if len(own) and own[-1] < bars.n_bars - 1:
            ends[s] = own[-1]
    return ends


def live_mask(
    bars: Bars, warm_up: int, members: MaskArray | None, ends: IntArray | None = None
) -> MaskArray:
    """Whether each symbol decides at each bar.

    Args:
        bars: of all symbols.
        warm_up: bars of its own that a symbol has before its first decision.
        members: whether each symbol is a member at each bar, (n_bars, n_symbols), 1 or 0; None for
            always.
        ends: as ``symbol_ends`` returns them; None computes them.

    Returns:
        (n_bars, n_symbols): WAITING where the symbol has no bar, during its warm-up, and at its last bar
        if it ends before the bars do; LEAVING where it is no member; LIVE elsewhere.
    """
    live = np.full((bars.n_bars, bars.n_symbols), LIVE, dtype=np.uint8)
    if members is not None:
        live[members == 0] = LEAVING
    if bars.present is not None:
        live[bars.present == 0] = WAITING
    for s, end in enumerate(symbol_ends(bars) if ends is None else ends):
        live[bars.own(s)[:warm_up], s] = WAITING
        if end >= 0:
            live[end, s] = WAITING
    return live
