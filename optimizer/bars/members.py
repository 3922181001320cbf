"""Membership of an index over time, from a CSV file."""

from __future__ import annotations

import itertools
import re
import zoneinfo
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from optimizer.bars.side_table import read_side_table
from optimizer.bars.timestamps import read_bound
from optimizer.errors import DataError
from optimizer.text import list_text, quoted, suggest
from optimizer.types import MaskArray, TimeArray

COLUMNS = ("symbol", "from", "to")

Span = tuple[np.datetime64, np.datetime64 | None, int]
"""First and last moment of a membership, both inclusive, UTC; None while it goes on. And its line."""


def read_members(
    path: Path, symbols: Sequence[str], timezone: str = "UTC"
) -> dict[str, tuple[Span, ...]]:
    """Read when each symbol was a member, from a CSV file with the columns symbol, from and to.

    A symbol may have several rows. A date in ``from`` counts from its start, one in ``to`` to its end;
    with an empty ``to`` the symbol is still a member. Other columns are ignored.

    Args:
        path: a ``.csv`` or ``.csv.gz`` file.
        symbols: the symbols of the bars; each needs a row, and no other may have one.
        timezone: the time zone of dates and times without a zone.

    Returns:
        The spans of each symbol, in order of time.

    Raises:
        DataError: the file cannot be read or used; names the line and the fix.
    """
    frame = read_side_table(path, "members", dtype=str)
    lowered = {str(name).lower(): str(name) for name in frame.columns}
    missing = [name for name in COLUMNS if name not in lowered]
    if missing:
        raise DataError(
            f"{path}: no column {', '.join(missing)}; found {list_text(map(str, frame.columns))};"
            " line 1 must be symbol,from,to"
        )
    frame = frame[[lowered[name] for name in COLUMNS]].dropna(how="all")
    zone = zoneinfo.ZoneInfo(timezone)
    spans: dict[str, list[Span]] = {symbol: [] for symbol in symbols}
    for line, *cells in frame.itertuples(name=None):
        place = f"{path}, line {line}"
        symbol, start, end = (None if pd.isna(cell) else str(cell).strip() for cell in cells)
        if not symbol:
            raise DataError(f"{place}: column symbol is empty; name the symbol, or drop the line")
        if symbol not in spans:
            raise DataError(
                f"{place}: {quoted(symbol)} is not among the symbols of the bars;"
                f" {suggest(symbol, symbols, 20)}; add its bars, or drop the line"
            )
        if not start:
            raise DataError(
                f"{place}: column from is empty; give the first day of {symbol} as a member, such as"
                " 1990-01-01"
            )
        first = _moment(f"{place}: column from", start, zone)
        last = _moment(f"{place}: column to", end, zone, last=True) if end else None
        if last is not None and last < first:
            raise DataError(f"{place}: to = {end} is before from = {start}; swap them")
        spans[symbol].append((first, last, line))
    without = [symbol for symbol, found in spans.items() if not found]
    if without:
        raise DataError(
            f"{path}: no line for {list_text(without, 5)}, which the bars have; add the dates of its"
            " membership, or leave it out with [data] symbols"
        )
    return {symbol: _in_order(path, symbol, found) for symbol, found in spans.items()}


def _moment(place: str, text: str, zone: zoneinfo.ZoneInfo, *, last: bool = False) -> np.datetime64:
    match = re.fullmatch(r"(\d{4})-\d{2}-\d{2}([T ].+)?", text)
    if match is None:
        raise DataError(f"{place}: got {quoted(text)}; expected a date such as 2015-01-31")
    if not 1678 <= int(match[1]) <= 2261:
        still = "; leave it empty while the symbol is a member" if last else ""
        raise DataError(f"{place}: {text} is out of range; years 1678 to 2261 are valid{still}")
    return read_bound(place, text, zone, last=last)


def _in_order(path: Path, symbol: str, spans: list[Span]) -> tuple[Span, ...]:
    ordered = sorted(spans, key=lambda span: span[0])
    for (_, last, line), (first, _, other) in itertools.pairwise(ordered):
        if last is None or first <= last:
            raise DataError(
                f"{path}, line {other}: overlaps line {line}, where {symbol} is a member"
                f" {'without end' if last is None else 'at that time too'}; let one end before the other"
                " begins (both days count), or join them"
            )
    return tuple(ordered)


def member_mask(
    members: dict[str, tuple[Span, ...]], symbols: Sequence[str], timestamps: TimeArray
) -> MaskArray:
    """Whether each symbol is a member at each bar.

    Args:
        members: the members that ``read_members`` returned.
        symbols: the symbols of the bars, in their order.
        timestamps: the timestamps of the bars, ascending, shape (n_bars,).

    Returns:
        (n_bars, n_symbols), 1 or 0.
    """
    mask = np.zeros((len(timestamps), len(symbols)), dtype=np.uint8)
    for s, symbol in enumerate(symbols):
        for first, last, _ in members[symbol]:
            start = np.searchsorted(timestamps, first)
            stop = len(timestamps) if last is None else np.searchsorted(timestamps, last, "right")
            mask[start:stop, s] = 1
    return mask
