"""What an import found in each symbol."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from optimizer.bars.times import DAY, duration_text, time_text
from optimizer.errors import DataError
from optimizer.text import counted, list_text


@dataclass(frozen=True)
class Finding:
    """One kind of flaw in the rows read.

    Attributes:
        kind: what is wrong with the rows.
        count: number of rows.
        first: place of the first such row, as a message names it.
        option: the option that fixes it.
        fixed: whether that option was given.
        drops: number of rows that the option drops.
        advice: what to do instead, where the option would lose what should be kept.
    """

    kind: str
    count: int
    first: str
    option: str
    fixed: bool
    drops: int = 0
    advice: str = ""

    def __str__(self) -> str:
        return f"{counted(self.count, 'row')} {self.kind}, first {self.first}"


_FEW = 0.01
"""A share of rows that may be dropped without saying so beforehand."""


def advice_on(findings: Sequence[Finding], n_rows: int) -> str:
    """What to do about flaws that are not fixed; it says where an option would drop many rows.

    Args:
        findings: the flaws.
        n_rows: number of rows read.

    Returns:
        The end of a message.
    """
    plain = [one for one in findings if not one.advice]
    options = list(dict.fromkeys(one.option for one in plain))
    steps = ["correct the file" + (f", or add {' '.join(options)}" if options else "")]
    steps += dict.fromkeys(one.advice for one in findings if one.advice)
    for option in options:
        drops = sum(one.drops for one in plain if one.option == option)
        if drops > _FEW * n_rows:
            steps.append(f"{option} would drop {drops:,} of {n_rows:,} rows")
    return "; ".join(steps)


@dataclass(frozen=True)
class SymbolReport:
    """What an import wrote for one symbol.

    Attributes:
        bars: number of bars.
        first, last: times of the first and the last bar, UTC.
        bar_size: duration of a bar, nanoseconds; 0 if there is one bar.
        missing_days: days without bars on a usual weekday or, with a calendar, on a session.
        unexpected_days: days with bars that are not sessions of the calendar.
        missing_bars: bars missing between other bars of the same day.
        longest_gap: nanoseconds, and the times of the bars before and after.
        zero_volume: number of bars without volume.
        splits: time and ratio of each step that looks like a split or redenomination left in.
    """

    symbol: str
    bars: int
    first: np.datetime64
    last: np.datetime64
    bar_size: int
    missing_days: tuple[np.datetime64, ...]
    unexpected_days: tuple[np.datetime64, ...]
    missing_bars: int
    longest_gap: tuple[int, np.datetime64, np.datetime64] | None
    zero_volume: int
    splits: tuple[tuple[np.datetime64, str], ...]


@dataclass(frozen=True)
class ImportReport:
    """What was found and what was fixed.

    Attributes:
        sources: a line for each file: format, rows, symbols, notes.
        findings: flaws of the rows, fixed or not.
        symbols: what was written for each.
        calendar: code of the exchange whose sessions were compared with the days.
        out: the file written; None if the bars were refused.
    """

    sources: tuple[str, ...]
    findings: tuple[Finding, ...]
    symbols: tuple[SymbolReport, ...]
    calendar: str | None
    out: Path | None

    def lines(self) -> Iterator[str]:
        """The report as text, line by line."""
        yield from self.sources
        for one in self.findings:
            what = "fixed" if one.fixed else "not fixed"
            option = "" if one.advice and not one.fixed else f" ({one.option})"
            yield f"found: {one}; {what}{option}"
        for symbol in self.symbols:
            yield from self._symbol_lines(symbol)
        if self.out is not None:
            yield f"written: {self.out}"

    def _symbol_lines(self, one: SymbolReport) -> Iterator[str]:
        size = f" of {duration_text(one.bar_size)}" if one.bar_size else ""
        span = f"{time_text(one.first)} to {time_text(one.last)} UTC"
        yield f"{one.symbol}: {counted(one.bars, 'bar')}{size}, {span}"
        if one.missing_days:
            count = len(one.missing_days)
            of = f"{count:,} of the days that usually have bars"
            if self.calendar:
                of = f"{counted(count, 'session')} of {self.calendar}"
            yield f"  missing: {of}: {runs_of_days(one.missing_days)}"
        elif self.calendar and one.bar_size <= DAY:
            yield f"  no session of {self.calendar} is missing"
        if one.unexpected_days:
            yield (
                f"  {counted(len(one.unexpected_days), 'day')} with bars, but no session of"
                f" {self.calendar}:"
                f" {runs_of_days(one.unexpected_days)}"
            )
        if one.missing_bars:
            yield f"  missing: {counted(one.missing_bars, 'bar')} between others of the same day"
        if one.longest_gap is not None:
            size_, before, after = one.longest_gap
            between = f"{time_text(before)} to {time_text(after)}"
            yield f"  longest step: {duration_text(size_)}, {between}"
        if one.zero_volume:
            yield f"  volume 0: {counted(one.zero_volume, 'bar')}"
        if one.splits:
            splits = list_text((f"{ratio} at {time_text(at)}" for at, ratio in one.splits), 5)
            yield f"  looks like a split left in: {splits}"


class ImportRefusedError(DataError):
    """Bars refused for flaws that the options given do not fix; carries the report.

    Args:
        message: one line, as of every error.
        report: what was found; its ``out`` is None.
    """

    def __init__(self, message: str, report: ImportReport) -> None:
        super().__init__(message)
        self.report = report


Days = tuple[np.datetime64, ...]


def runs_of_days(days: Days, limit: int = 5) -> str:
    """Days as text: consecutive days, which a weekend does not interrupt, as ``first..last``.

    Args:
        days: ascending.
        limit: most runs that are listed.

    Returns:
        One line of text.
    """
    texts = []
    numbers = np.array(days).astype("datetime64[D]")
    cuts = np.flatnonzero(np.diff(numbers).astype(np.int64) > 3) + 1
    for run in np.split(numbers, cuts):
        texts.append(str(run[0]) if len(run) == 1 else f"{run[0]}..{run[-1]}")
    return list_text(texts, limit)
