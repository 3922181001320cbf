"""Flaws in the rows of an import, and the fixes that the user may ask for."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from optimizer.bars.checks import HIGHEST_PRICE, LOWEST_PRICE, flaws
from optimizer.bars.import_report import Finding
from optimizer.bars.rows import PRICES, Rows, first_row
from optimizer.bars.symbols import suspected_symbols
from optimizer.bars.tidy import Foreign
from optimizer.bars.times import time_text
from optimizer.errors import DataError
from optimizer.types import BoolArray, IntArray


@dataclass(frozen=True)
class Fixes:
    """What an import may change; everything is off by default.

    Attributes:
        drop_bad_rows: leave out rows that break a rule of bars or have no time.
        drop_duplicates: keep the first of several rows with the same time and symbol.
        sort: order the rows of each symbol by time.
        adjust: multiply prices by adjusted close / close.
        zero_volume: write a volume of 0 if a file has no such column, and where it is not known: -1,
            or nothing in a row with prices.
    """

    drop_bad_rows: bool = False
    drop_duplicates: bool = False
    sort: bool = False
    adjust: bool = False
    zero_volume: bool = False


def rows_with_time(one: Foreign, fixes: Fixes) -> tuple[Foreign, Finding | None]:
    """The rows that have a time, and a finding if any has not.

    Args:
        one: bars as they were read.
        fixes: what may be changed.

    Returns:
        These rows, and the finding, or None.

    Raises:
        DataError: no row has a time.
    """
    empty = one.frame["timestamp"].isna()
    if not empty.any():
        return one, None
    first = f"{one.source}, {one.unit} {one.frame.index[int(np.argmax(empty))]}"
    finding = Finding(
        "without a time",
        int(empty.sum()),
        first,
        "--drop-bad-rows",
        fixes.drop_bad_rows,
        int(empty.sum()),
    )
    kept = one.frame[~empty]
    if kept.empty:
        raise DataError(f"{one.source}: no row has a time")
    return replace(one, frame=kept), finding


def _place(rows: Rows, row: int) -> str:
    when = f"{rows.symbol(row)}, {time_text(rows.time[row])}"
    return f"{rows.at(row)} ({when})"


def _broken(rows: Rows) -> BoolArray:
    broken: BoolArray = np.logical_or.reduce([flaw.broken for flaw in flaws(rows.values)])
    return broken


def without_bad_rows(rows: Rows) -> Rows:
    """The rows that keep every rule of ``optimizer.bars.checks.flaws``.

    Args:
        rows: the rows with their values.
    """
    return _picked(rows, np.flatnonzero(~_broken(rows)))


def bad_rows(rows: Rows, fixes: Fixes) -> list[Finding]:
    """One finding for each kind of flaw. A row counts for the first rule that it breaks.

    Args:
        rows: the rows with their values.
        fixes: what may be changed.
    """
    found: dict[str, list[int]] = {}
    seen = np.zeros(len(rows.time), dtype=np.bool_)
    for flaw in flaws(rows.values):
        new = flaw.broken & ~seen
        seen |= flaw.broken
        if new.any():
            found.setdefault(_KINDS[flaw.kind], []).extend(np.flatnonzero(new).tolist())
    empty = np.all([np.isnan(rows.values[name]) for name in PRICES], axis=0)
    wrong = int((seen & ~empty).sum()) > max(10, len(seen) / 2)
    return [
        Finding(
            kind,
            len(where),
            _place(rows, min(where)),
            "--drop-bad-rows",
            fixes.drop_bad_rows,
            len(where),
            _MOST_ARE_BAD if wrong else "",
        )
        for kind, where in found.items()
    ]


def without_unknown_volume(rows: Rows, fixes: Fixes) -> tuple[Rows, list[Finding]]:
    """A volume of 0 where it is not known, and a finding if there are such rows.

    Args:
        rows: the rows with their values.
        fixes: what may be changed; the finding says whether this may.

    Returns:
        The rows, and at most one finding.
    """
    volume = rows.values["volume"]
    priced = ~np.any([np.isnan(rows.values[name]) for name in PRICES], axis=0)
    unknown = priced & (np.isnan(volume) | (volume == -1.0))
    if (row := first_row(unknown)) is None:
        return rows, []
    kind = "of unknown volume (-1 or none)"
    if not unknown.all():
        kind += ", where 0 will count as not traded"
    finding = Finding(
        kind, int(unknown.sum()), _place(rows, row), "--zero-volume", fixes.zero_volume
    )
    values = {**rows.values, "volume": np.where(unknown, 0.0, volume)}
    return replace(rows, values=values), [finding]


_MOST_ARE_BAD = (
    "most rows are no bars, so dropping them loses the data: the columns seem not to hold what they"
    " are called"
)


_KINDS = {
    "no value": "without a value",
    "infinite": "with an infinite value",
    "negative": "with a negative volume",
    "not positive": "with a price that is not positive",
    "out of range": f"with a price outside {LOWEST_PRICE:g} to {HIGHEST_PRICE:g}",
    "below": "with a high below another price",
    "above": "with a low above another price",
}
"""What the report calls a flaw of ``optimizer.bars.checks.flaws``."""


def _picked(rows: Rows, where: IntArray) -> Rows:
    return replace(
        rows,
        frame=rows.frame.iloc[where],
        code=rows.code[where],
        time=rows.time[where],
        values={name: values[where] for name, values in rows.values.items()},
    )


def fix_order(rows: Rows, fixes: Fixes) -> tuple[Rows, list[Finding]]:
    """Drop rows with repeated times and order the rest, as far as ``fixes`` allows.

    Args:
        rows: the rows with their times.
        fixes: what may be changed.

    Returns:
        The rows, and a finding for repeated times and one for times out of order, if there are any.
    """
    findings = []
    advice = suspected_symbols(rows) or ""
    frame = pd.DataFrame({"code": rows.code, "time": rows.time})
    repeated = frame.duplicated().to_numpy()
    if repeated.any():
        whole = pd.DataFrame({**frame, **rows.values})
        alike = int(whole.duplicated().to_numpy()[repeated].sum())
        count = int(repeated.sum())
        kind = "at a time that the symbol had before"
        if alike < count:
            kind += f" ({count - alike:,} with other values, of which the first is kept)"
        if 10 * (count - alike) > len(frame):
            advice = advice or _MANY_DIFFER
        first = _place(rows, int(np.argmax(repeated)))
        option, fixed = "--drop-duplicates", fixes.drop_duplicates
        findings.append(Finding(kind, count, first, option, fixed, count, advice))
        if fixes.drop_duplicates:
            rows = _picked(rows, np.flatnonzero(~repeated))
            frame = frame[~repeated]
    latest = frame.groupby("code")["time"].cummax().to_numpy()
    backward = rows.time < latest
    if backward.any():
        first = _place(rows, int(np.argmax(backward)))
        kind = "out of order in time"
        count = int(backward.sum())
        findings.append(Finding(kind, count, first, "--sort", fixes.sort, advice=advice))
        if fixes.sort:
            rows = _picked(rows, np.lexsort((rows.time, rows.code)).astype(np.int64))
    return rows, findings


_MANY_DIFFER = (
    "many rows of one time differ, as those of several symbols do, so dropping them loses data: add a"
    " column symbol"
)
