"""Import bars of other programs into one tidy Parquet file, with a report of what was found.

Nothing is changed unless an option asks for it. The file is written only if the bars then pass the
checks of ``optimizer.bars.checks``.
"""

from __future__ import annotations

import os
import zoneinfo
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from optimizer.bars.calendars import (
    bars_missing,
    day_gaps,
    longest_gap,
    open_calendar,
    trading_days,
)
from optimizer.bars.checks import check_rows
from optimizer.bars.columns import ADJUSTED
from optimizer.bars.fixes import (
    Fixes,
    bad_rows,
    fix_order,
    rows_with_time,
    without_bad_rows,
    without_unknown_volume,
)
from optimizer.bars.foreign import read_foreign
from optimizer.bars.import_report import (
    ImportRefusedError,
    ImportReport,
    SymbolReport,
    advice_on,
)
from optimizer.bars.load import read_rows
from optimizer.bars.rows import VALUES, Rows
from optimizer.bars.sizes import bar_size
from optimizer.bars.splits import suspected_splits
from optimizer.bars.symbols import LABEL
from optimizer.bars.tidy import Foreign
from optimizer.bars.timestamps import read_zone
from optimizer.errors import DataError
from optimizer.files import write_atomically
from optimizer.text import counted, list_text, one_line
from optimizer.types import FloatArray, TimeArray


def import_bars(
    paths: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    symbol: str | None = None,
    timezone: str = "UTC",
    calendar: str | None = None,
    fixes: Fixes | None = None,
    overwrite: bool = False,
) -> ImportReport:
    """Write foreign files as one tidy Parquet file of bars.

    >>> import optimizer
    >>> report = optimizer.import_bars(["export.csv"], "imported.parquet", symbol="SPY")
    >>> optimizer.load_bars("imported.parquet").n_bars
    300

    Args:
        paths: files; several files of one symbol follow each other, as monthly exports do.
        out: a ``.parquet`` file, written whole or not at all.
        symbol: name of the symbol, for files of one symbol that do not name it.
        timezone: the time zone of timestamps without a zone, such as ``America/New_York``.
        calendar: code of an exchange, such as ``XNYS``; its sessions are compared with the days.
        fixes: what may be changed; None changes nothing.
        overwrite: replace ``out``.

    Returns:
        What was read, found and fixed.

    Raises:
        ImportRefusedError: the rows have flaws that ``fixes`` does not cover. Nothing is written.
        DataError: a file or the result cannot be read, recognised or written.
    """
    if not paths:
        raise DataError("no files to import; name at least one")
    if symbol is not None and not symbol.strip():
        raise DataError("--symbol: empty; name the symbol, or leave it out")
    check_out(Path(out), paths, overwrite)
    _refuse_twice(paths)
    foreign = [read_foreign(path, symbol) for path in paths]
    return write_bars(foreign, out, timezone=timezone, calendar=calendar, fixes=fixes)


def _refuse_twice(paths: Sequence[str | os.PathLike[str]]) -> None:
    """Refuse a file that is given twice, also under two names."""
    seen: dict[str, str | os.PathLike[str]] = {}
    for path in paths:
        first = seen.setdefault(os.path.realpath(path), path)
        if first is not path:
            other = "" if os.fspath(first) == os.fspath(path) else f", also as {os.fspath(first)}"
            raise DataError(f"{os.fspath(path)}: given twice{other}; name each file once")


def check_out(out: Path, inputs: Sequence[str | os.PathLike[str]], overwrite: bool) -> None:
    """Refuse an output file that may not be written, before any work.

    Args:
        out: the file to write.
        inputs: files that must not be overwritten.
        overwrite: whether ``out`` may exist.

    Raises:
        DataError: its name is not that of a Parquet file, it is one of the inputs, or it exists.
    """
    if out.suffix.lower() not in (".parquet", ".pq"):
        raise DataError(f"{out}: the result is a Parquet file; name it *.parquet")
    try:
        is_folder, exists = out.is_dir(), out.exists()
        is_input = exists and any(Path(one).exists() and out.samefile(one) for one in inputs)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise DataError(f"{out}: cannot be written: {one_line(error)}") from None
    if is_folder:
        raise DataError(f"{out}: is a folder; name a file")
    if is_input:
        raise DataError(f"{out}: is also an input; inputs are never changed, give another --out")
    if exists and not overwrite:
        raise DataError(f"{out}: exists; give another --out, or --overwrite")


def write_bars(
    foreign: Sequence[Foreign],
    out: str | os.PathLike[str],
    *,
    timezone: str = "UTC",
    calendar: str | None = None,
    fixes: Fixes | None = None,
) -> ImportReport:
    """Check bars that were read, fix what ``fixes`` allows, and write them.

    Args:
        foreign: bars as they were read, at least one file.
        out, timezone, calendar, fixes: the same as for ``import_bars``.

    Returns:
        What was read, found and fixed.

    Raises:
        ImportRefusedError: the rows have flaws that ``fixes`` does not cover. Nothing is written.
        DataError: the bars cannot be used, or the file cannot be written.
    """
    wanted = fixes if fixes is not None else Fixes()
    zone = read_zone("--timezone", timezone)
    sessions = open_calendar(calendar) if calendar is not None else None
    timed = [rows_with_time(one, wanted) for one in foreign]
    findings = [finding for _, finding in timed if finding is not None]
    parts = []
    for one, _ in timed:
        part, unknown = without_unknown_volume(_rows(one, wanted, zone), wanted)
        findings += [*unknown, *bad_rows(part, wanted)]
        parts.append(without_bad_rows(part) if wanted.drop_bad_rows else part)
    rows = _joined(parts)
    if not len(rows.time):
        raise DataError(f"{rows.source}: every row is bad; correct the file")
    rows, more = fix_order(rows, wanted)
    findings += more
    sources = tuple(map(_source_line, foreign))
    report = ImportReport(sources, tuple(findings), (), calendar, None)
    left = [one for one in findings if not one.fixed]
    if left:
        n_rows = sum(len(one.frame) for one in foreign)
        what = "; ".join(map(str, left))
        raise ImportRefusedError(f"{what}; {advice_on(left, n_rows)}", report)
    try:
        check_rows(rows, zone)
    except DataError as error:
        raise ImportRefusedError(str(error), report) from None
    symbols = tuple(_symbol_reports(rows, zone, sessions))
    path = Path(out)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        table = _table(rows)
        write_atomically(path, lambda part: pq.write_table(table, part, compression="zstd"))
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from None
    return replace(report, symbols=symbols, out=path)


def _rows(one: Foreign, fixes: Fixes, zone: zoneinfo.ZoneInfo) -> Rows:
    frame = one.frame
    if "volume" not in frame:
        if not fixes.zero_volume:
            raise DataError(
                f"{one.source}: no column volume; add one, or write 0 with --zero-volume"
            )
        frame = frame.assign(volume=0.0)
    rows = read_rows(frame, one.source, one.unit, zone)
    if not fixes.adjust:
        return rows
    if ADJUSTED not in frame:
        raise DataError(
            f"{one.source}: --adjust: there is no column of adjusted closes; found format"
            f" {one.format}"
        )
    adjusted = pd.to_numeric(frame[ADJUSTED], errors="coerce").to_numpy(np.float64)
    with np.errstate(all="ignore"):
        factor = adjusted / rows.values["close"]
        values = {n: v if n == "volume" else v * factor for n, v in rows.values.items()}
    values["close"] = adjusted
    return replace(rows, values=values)


def _joined(parts: Sequence[Rows]) -> Rows:
    """Rows of all files, in their order, numbered by file and line."""
    if len(parts) == 1:
        return parts[0]
    names = tuple(dict.fromkeys(name for part in parts for name in part.names))
    place = {name: i for i, name in enumerate(names)}
    codes = [np.array([place[n] for n in p.names], dtype=np.int64)[p.code] for p in parts]
    numbers = [f"{p.unit} {number} of {p.source}" for p in parts for number in p.frame.index]
    labels = pd.concat([p.frame.filter(regex=f"^{LABEL}") for p in parts])
    return Rows(
        f"{len(parts)} files",
        "",
        labels.set_axis(numbers).assign(symbol=[names[c] for code in codes for c in code]),
        names,
        np.concatenate(codes),
        np.concatenate([part.time for part in parts]),
        {name: np.concatenate([part.values[name] for part in parts]) for name in VALUES},
    )


def _table(rows: Rows) -> pa.Table:
    names = pa.array([rows.names[code] for code in rows.code], pa.string())
    times = pa.array(rows.time.astype("datetime64[ns]"), pa.timestamp("ns"))
    columns: dict[str, Any] = {"symbol": names.dictionary_encode().cast(pa.string())}
    columns["timestamp"] = times.cast(pa.timestamp("ns", tz="UTC"))
    return pa.table({**columns, **{name: pa.array(rows.values[name]) for name in VALUES}})


def _source_line(one: Foreign) -> str:
    symbols = list_text(map(str, one.frame["symbol"].unique()), 10)
    line = f"{one.source}: {one.format}, {counted(len(one.frame), 'row')}, {symbols} ({one.symbol_from})"
    notes = list(one.notes)
    if ADJUSTED in one.frame:
        pair = one.frame[[ADJUSTED, "close"]].apply(pd.to_numeric, errors="coerce")
        apart = float((pair[ADJUSTED] / pair["close"] - 1).abs().max())
        if apart > 1e-6:
            notes.append(f"adjusted closes differ by up to {apart:.1%}; --adjust uses them")
    return "; ".join([line, *notes])


def _symbol_reports(
    rows: Rows, zone: zoneinfo.ZoneInfo, calendar: Any | None
) -> Iterator[SymbolReport]:
    for name, where in zip(rows.names, rows.by_symbol(), strict=True):
        if not len(where):
            continue
        times = rows.time[where].astype("datetime64[ns]")
        values = {column: rows.values[column][where] for column in VALUES}
        steps = np.diff(times.view(np.int64)).astype(np.int64)
        size = bar_size(times) if len(steps) else 0
        days = trading_days(times, zone, size, calendar)
        missing, unexpected = day_gaps(days, size, calendar)
        yield SymbolReport(
            name,
            len(where),
            times[0],
            times[-1],
            size,
            missing,
            unexpected,
            bars_missing(days, steps, size),
            longest_gap(times, steps, size),
            int((values["volume"] == 0).sum()),
            _splits(times, values),
        )


def _splits(
    times: TimeArray, values: Mapping[str, FloatArray]
) -> tuple[tuple[np.datetime64, str], ...]:
    found = suspected_splits(values["open"][:, None], values["close"][:, None])
    return tuple((times[bar], ratio) for bar, _, ratio in found)
