"""Histograms of the metrics of a study's sets, counted batch by batch in bins that never change.

A bin is a sixteenth of the way from one power of two to the next, so it is at most a sixteenth as wide
as its values are large. Values nearer to 0 than ``SMALLEST`` share a bin, and so do those beyond
``LARGEST``.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError

from optimizer.catalogue import METRICS
from optimizer.store.validated import Count, parse_json, problem_of
from optimizer.types import FloatArray, IntArray

HISTOGRAMS_KEY = b"barsweep.histograms"
"""In a batch's metadata: the histograms of its sets in-sample, see ``packed``."""

_FIRST, _LAST, _PARTS = -20, 40, 16
SMALLEST, LARGEST = 2.0 ** (_FIRST - 1), 2.0**_LAST
_MOST = (_LAST - _FIRST + 1) * _PARTS
"""The outermost bin; bin b > 0 is mirrored by -b."""

_MOST_BYTES = 1_000_000

Counts = dict[str, dict[int, int]]
"""For each metric the sets in each bin; a set whose metric is undefined is in none."""

_Bin = Annotated[int, Field(ge=-_MOST, le=_MOST)]
_COUNTS: TypeAdapter[dict[str, list[tuple[_Bin, Count]]]] = TypeAdapter(
    dict[str, list[tuple[_Bin, Count]]]
)


def bins_of(values: FloatArray) -> IntArray:
    """The bin of each value.

    Args:
        values: (n,), finite.

    Returns:
        (n,), negative for values below 0, and 0 near it.
    """
    part, exponent = np.frexp(np.abs(values))  # part in [0.5, 1), so no logarithm is rounded
    place = (exponent.astype(np.int64) - _FIRST) * _PARTS + (part * 2 * _PARTS).astype(np.int64)
    place = np.where(part > 0.0, np.clip(place - _PARTS + 1, 0, _MOST), 0)  # 0 is 0 times 2 ** 0
    return np.where(values < 0.0, -place, place)


def edges_of(place: int) -> tuple[float, float]:
    """The lower and the upper end of a bin.

    Args:
        place: its number, as ``bins_of`` gives it.

    Returns:
        Both, in the unit of the metric.
    """
    if place < 0:
        low, high = edges_of(-place)
        return -high, -low
    if place == 0:
        return -SMALLEST, SMALLEST
    octave, part = divmod(place - 1, _PARTS)
    scale = 2.0 ** (octave + _FIRST - 1)
    return scale * (1.0 + part / _PARTS), scale * (1.0 + (part + 1) / _PARTS)


def counted(tiles: Sequence[Mapping[str, Any]]) -> Counts:
    """Count the metrics in-sample of some sets.

    Args:
        tiles: the columns of each tile, ``METRICS`` among them.

    Returns:
        The sets in each bin that is not empty, of each metric.
    """
    found: Counts = {}
    for name in METRICS:
        totals = np.zeros(2 * _MOST + 1, np.int64)
        for tile in tiles:
            values = np.asarray(tile[name], np.float64)
            places = bins_of(values[np.isfinite(values)]) + _MOST
            totals += np.bincount(places, minlength=len(totals))
        filled = np.flatnonzero(totals)
        found[name] = dict(zip((filled - _MOST).tolist(), totals[filled].tolist(), strict=True))
    return found


def summed(parts: Iterable[Counts]) -> Counts:
    """The histograms of all sets from those of each batch.

    Args:
        parts: the histograms of the batches.

    Returns:
        The sets in each bin, bins ascending.
    """
    found: Counts = {name: {} for name in METRICS}
    for part in parts:
        for name, bins in part.items():
            own = found[name]
            for place, count in bins.items():
                own[place] = own.get(place, 0) + count
    return {name: dict(sorted(bins.items())) for name, bins in found.items()}


def packed(counts: Counts) -> bytes:
    """Histograms as ``unpacked`` reads them.

    Args:
        counts: the histograms of a batch.

    Returns:
        Text in ASCII.
    """
    content = {name: list(bins.items()) for name, bins in counts.items()}
    text = json.dumps(content, separators=(",", ":"))
    return zlib.compress(text.encode()).hex().encode()


def unpacked(metadata: Mapping[bytes, bytes] | None) -> Counts:
    """The histograms of a batch.

    Args:
        metadata: the metadata of its result file.

    Raises:
        KeyError: it has none.
        ValueError: they are no histograms.
    """
    try:
        reader = zlib.decompressobj()
        text = reader.decompress(
            bytes.fromhex((metadata or {})[HISTOGRAMS_KEY].decode()), _MOST_BYTES
        )
    except zlib.error:
        raise ValueError("its histograms cannot be read") from None
    content = parse_json(text)
    try:
        checked = _COUNTS.validate_python(content)
    except ValidationError as error:
        raise ValueError(f"its histograms: {problem_of(error)}") from None
    if set(checked) != set(METRICS):
        raise ValueError("its histograms are not those of the metrics")
    return {name: dict(bins) for name, bins in checked.items()}


@dataclass(frozen=True)
class Histogram:
    """How one metric is spread over the sets of a study, in-sample.

    Attributes:
        name: the metric.
        lows, highs: (n_bins,), ends of the bins that are not empty, ascending.
        counts: (n_bins,), sets in each.
    """

    name: str
    lows: FloatArray
    highs: FloatArray
    counts: IntArray

    def quantile(self, share: float) -> float:
        """The middle of the bin below which a share of the sets lies.

        Args:
            share: the share, in 0..1.

        Returns:
            A value in the unit of the metric.
        """
        sums = np.cumsum(self.counts)
        place = min(int(np.searchsorted(sums, share * sums[-1])), len(sums) - 1)
        return float((self.lows[place] + self.highs[place]) / 2.0)


def histogram_of(name: str, bins: Mapping[int, int]) -> Histogram:
    """A histogram with the ends of its bins.

    Args:
        name: the metric.
        bins: sets in each bin.
    """
    places = sorted(bins)
    ends = np.array([edges_of(place) for place in places]).reshape(-1, 2)
    counts = np.array([bins[place] for place in places], np.int64)
    return Histogram(name, ends[:, 0], ends[:, 1], counts)
