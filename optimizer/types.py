"""Frozen records that pass between the parts."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
TimeArray = npt.NDArray[np.datetime64]


@dataclass(frozen=True, eq=False)
class Bars:
    """Market bars of several symbols on one calendar.

    All arrays are read-only. ``timestamps`` has shape (n_bars,), dtype datetime64[ns], UTC, strictly
    increasing, and is the start of each bar. The prices and the volume have shape
    (n_bars, n_symbols), float64, C-contiguous; prices are positive and finite.

    Attributes:
        symbols: names, in the order of the columns.
        bars_per_year: bars of one year of this calendar; annualizes returns.
        source: where the bars came from, for messages.
    """

    symbols: tuple[str, ...]
    timestamps: TimeArray
    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    volume: FloatArray
    bars_per_year: float
    source: str = "<memory>"
    content_hash: str = field(init=False)

    def __post_init__(self) -> None:
        digest = hashlib.sha256("\0".join(self.symbols).encode())
        for name in ("timestamps", "open", "high", "low", "close", "volume"):
            array = getattr(self, name)
            array.flags.writeable = False
            digest.update(np.ascontiguousarray(array).tobytes())
        object.__setattr__(self, "content_hash", digest.hexdigest())

    @property
    def n_bars(self) -> int:
        """Number of bars of each symbol."""
        return len(self.timestamps)

    @property
    def n_symbols(self) -> int:
        """Number of symbols."""
        return len(self.symbols)
