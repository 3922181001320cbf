"""What an import finds, fixes when asked, and writes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from optimizer.bars.fixes import Fixes
from optimizer.bars.import_report import ImportRefusedError, ImportReport
from optimizer.bars.importing import import_bars
from optimizer.bars.load import load_bars
from optimizer.errors import DataError
from tests.support.command import barsweep
from tests.support.studies import random_bars, write_bars

HEADER = "Date,Open,High,Low,Close,Adj Close,Volume"


def line(day: str, close: float = 100.0, adjusted: float | None = None, volume: int = 10) -> str:
    adjusted = close if adjusted is None else adjusted
    return f"{day},{close},{close},{close},{close},{adjusted},{volume}"


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join([HEADER, *lines]) + "\n")
    return path


def days(count: int, first: str = "2017-01-03") -> list[str]:
    return [str(day) for day in np.busday_offset(np.datetime64(first), np.arange(count))]


GOOD = [line(day) for day in days(5)]


@pytest.mark.parametrize(
    ("lines", "fixes", "kind", "first"),
    [
        ([*GOOD, "2017-01-10,null,null,null,null,null,null"], "drop_bad_rows", "no value", 7),
        ([*GOOD, line("2017-01-10", 0.0)], "drop_bad_rows", "not positive", 7),
        ([*GOOD, line("2017-01-10", volume=-5)], "drop_bad_rows", "negative volume", 7),
        ([*GOOD, line("2017-01-10", float("inf"))], "drop_bad_rows", "infinite", 7),
        ([*GOOD, "2017-01-10,5,4,1,3,3,1"], "drop_bad_rows", "high below", 7),
        ([*GOOD, "2017-01-10,5,6,4,3,3,1"], "drop_bad_rows", "low above", 7),
        ([*GOOD, ",5,6,4,5,5,1"], "drop_bad_rows", "without a time", 7),
        ([*GOOD[:3], GOOD[2], *GOOD[3:]], "drop_duplicates", "symbol had before", 5),
        ([*GOOD[1:3], GOOD[0], *GOOD[3:]], "sort", "out of order", 4),
    ],
)
def test_flaws_are_refused_or_fixed_as_asked(
    tmp_path: Path, lines: list[str], fixes: str, kind: str, first: int
) -> None:
    kind = kind.replace("no value", "without a value")
    path = write(tmp_path / "SPY.csv", *lines)
    content = path.read_bytes()
    out = tmp_path / "bars.parquet"
    with pytest.raises(ImportRefusedError) as caught:
        import_bars([path], out)
    option = "--" + fixes.replace("_", "-")
    message = str(caught.value)
    assert kind in message and f"SPY.csv, line {first}" in message and option in message
    assert "\n" not in message
    assert caught.value.report.findings[0].count == 1 and not out.exists()
    report = import_bars([path], out, fixes=Fixes(**{fixes: True}))
    assert [one.fixed for one in report.findings] == [True]
    assert load_bars(out).timestamps.astype("datetime64[D]").astype(str).tolist() == days(5)
    assert path.read_bytes() == content
    # Nothing else is changed: without this fix the flaw is still refused.
    others = {"drop_bad_rows", "drop_duplicates", "sort"} - {fixes}
    with pytest.raises(ImportRefusedError):
        import_bars([path], out, fixes=Fixes(**dict.fromkeys(others, True)), overwrite=True)


def test_rows_of_one_time_with_other_values(tmp_path: Path) -> None:
    path = write(tmp_path / "SPY.csv", GOOD[0], line("2017-01-03", 7.0), *GOOD[1:])
    out = tmp_path / "bars.parquet"
    with pytest.raises(ImportRefusedError, match="1 with other values, of which the first"):
        import_bars([path], out)
    import_bars([path], out, fixes=Fixes(drop_duplicates=True))
    assert load_bars(out).close[0, 0] == 100.0


def test_adjusted_closes(tmp_path: Path) -> None:
    path = write(tmp_path / "SPY.csv", line("2017-01-03", 100, 50), line("2017-01-04", 60, 60))
    out = tmp_path / "bars.parquet"
    report = import_bars([path], out)
    assert "differ by up to 50.0%; --adjust" in report.sources[0]
    assert load_bars(out).close[:, 0].tolist() == [100, 60]
    import_bars([path], out, fixes=Fixes(adjust=True), overwrite=True)
    bars = load_bars(out)
    assert bars.close[:, 0].tolist() == [50, 60] and bars.open[:, 0].tolist() == [50, 60]
    assert bars.volume[:, 0].tolist() == [10, 10]
    plain = tmp_path / "plain.csv"
    plain.write_text("Date,Open,High,Low,Close,Volume\n2017-01-03,1,1,1,1,1\n")
    with pytest.raises(DataError, match=r"plain\.csv: --adjust: there is no column of adjusted"):
        import_bars([plain], tmp_path / "x.parquet", fixes=Fixes(adjust=True))


def test_files_of_one_symbol_follow_each_other(tmp_path: Path) -> None:
    paths = [
        write(tmp_path / "a.csv", *GOOD[:3]),
        write(tmp_path / "b.csv", *GOOD[3:]),
    ]
    report = import_bars(paths, tmp_path / "bars.parquet", symbol="SPY")
    assert [(one.symbol, one.bars) for one in report.symbols] == [("SPY", 5)]
    with pytest.raises(ImportRefusedError, match=r"line 2 of .*a\.csv .*--sort"):
        import_bars(paths[::-1], tmp_path / "bars.parquet", symbol="SPY", overwrite=True)
    report = import_bars(paths[::-1], tmp_path / "b.parquet", symbol="SPY", fixes=Fixes(sort=True))
    assert report.symbols[0].bars == 5


def test_several_symbols_in_several_files(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{name}.csv", *GOOD) for name in ("TLT", "SPY")]
    report = import_bars(paths, tmp_path / "bars.parquet")
    assert [one.symbol for one in report.symbols] == ["TLT", "SPY"]
    assert load_bars(tmp_path / "bars.parquet").symbols == ("SPY", "TLT")


def test_bars_of_two_sizes_are_refused(tmp_path: Path) -> None:
    hours = [line(f"2017-03-10 {hour:02}:00") for hour in range(20)]
    lines = [*map(line, days(15)), *hours]
    with pytest.raises(ImportRefusedError, match="mixed bar sizes"):
        import_bars([write(tmp_path / "A.csv", *lines)], tmp_path / "bars.parquet")
    assert not (tmp_path / "bars.parquet").exists()


def report_of(tmp_path: Path, lines: list[str], calendar: str | None = None) -> ImportReport:
    path = write(tmp_path / "SPY.csv", *lines)
    return import_bars([path], tmp_path / "bars.parquet", calendar=calendar, overwrite=True)


def test_report_of_gaps_volumes_and_splits(tmp_path: Path) -> None:
    stamps = days(40)
    lines = [line(day, 100.0 if i < 20 else 25.0) for i, day in enumerate(stamps)]
    lines[30] = line(stamps[30], 25.0, volume=0)
    del lines[10:13]
    one = report_of(tmp_path, lines).symbols[0]
    assert (one.bars, one.bar_size, one.zero_volume) == (37, 86_400_000_000_000, 1)
    assert [str(day)[:10] for day in one.missing_days] == stamps[10:13]
    assert one.longest_gap is not None and one.longest_gap[0] == 4 * 86_400_000_000_000
    assert [(str(at)[:10], ratio) for at, ratio in one.splits] == [(stamps[20], "4:1")]
    assert str(one.first)[:10] == stamps[0] and str(one.last)[:10] == stamps[-1]


def test_report_of_bars_missing_within_days(tmp_path: Path) -> None:
    stamps = [f"2017-01-{day:02} {hour:02}:00" for day in (3, 4, 5) for hour in range(9, 17)]
    lines = [line(stamp) for stamp in stamps if stamp not in ("2017-01-04 11:00", stamps[20])]
    one = report_of(tmp_path, lines).symbols[0]
    assert one.missing_bars == 2 and one.missing_days == ()


def test_an_exchange_calendar(tmp_path: Path) -> None:
    # 2017-01-16 was Martin Luther King day; 2017-01-17 is left out on purpose.
    stamps = [day for day in days(12) if day not in ("2017-01-16", "2017-01-17")]
    one = report_of(tmp_path, [line(day) for day in stamps], "XNYS").symbols[0]
    assert [str(day) for day in one.missing_days] == ["2017-01-17"] and one.unexpected_days == ()
    # Without a calendar the holiday cannot be told from a missing day.
    one = report_of(tmp_path, [line(day) for day in stamps]).symbols[0]
    assert [str(day)[:10] for day in one.missing_days] == ["2017-01-16", "2017-01-17"]
    one = report_of(tmp_path, [line(day) for day in days(12)], "XNYS").symbols[0]
    assert [str(day) for day in one.unexpected_days] == ["2017-01-16"]
    # Bars that begin at New York's midnight, and within its session.
    lines = [line(f"{day} 05:00:00+00:00") for day in days(12) if day != "2017-01-16"]
    assert report_of(tmp_path, lines, "XNYS").symbols[0].missing_days == ()
    lines = [
        line(f"{day} {hour}:30:00+00:00")
        for day in days(12)
        for hour in range(14, 21)
        if day != "2017-01-12"
    ]
    one = report_of(tmp_path, lines, "XNYS").symbols[0]
    assert [str(day) for day in one.missing_days] == ["2017-01-12"]


def test_calendars_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"--calendar XXXX: .*does not exist"):
        report_of(tmp_path, GOOD, "XXXX")
    early = [line(day) for day in days(5, "1950-01-03")]
    with pytest.raises(DataError, match=r"--calendar XKRX: .*1956"):
        report_of(tmp_path, early, "XKRX")
    monkeypatch.setitem(sys.modules, "exchange_calendars", None)
    with pytest.raises(DataError, match=r"pip install 'barsweep\[calendars\]'"):
        report_of(tmp_path, GOOD, "XNYS")


def test_what_may_not_be_written(tmp_path: Path) -> None:
    path = write(tmp_path / "SPY.csv", *GOOD)
    out = tmp_path / "bars.parquet"
    import_bars([path], out)
    content = out.read_bytes()
    with pytest.raises(DataError, match="exists; give another --out, or --overwrite"):
        import_bars([path], out)
    with pytest.raises(DataError, match="is also an input"):
        import_bars([out], out, overwrite=True)
    (tmp_path / "link.parquet").symlink_to(out)
    with pytest.raises(DataError, match="is also an input"):
        import_bars([tmp_path / "link.parquet"], out, overwrite=True)
    with pytest.raises(DataError, match=r"name it \*\.parquet"):
        import_bars([path], tmp_path / "bars.csv")
    with pytest.raises(DataError, match="name at least one"):
        import_bars([], out, overwrite=True)
    bad = write(tmp_path / "BAD.csv", *GOOD, line("2017-01-10", -1))
    with pytest.raises(ImportRefusedError):
        import_bars([bad], out, overwrite=True)
    assert out.read_bytes() == content
    assert {p.name for p in tmp_path.iterdir()} == {
        "SPY.csv",
        "BAD.csv",
        "bars.parquet",
        "link.parquet",
    }


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    """Under a limit of the size of files, in another process: the old file stays, no part of a new."""
    source = write_bars(tmp_path / "many.parquet", random_bars(2000))
    out = tmp_path / "bars.parquet"
    out.write_bytes(b"old")
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096));"
        "from optimizer.cli.main import main; sys.argv[0] = 'barsweep'; main()"
    )
    done = subprocess.run(
        [
            # -B: no bytecode, which Python would leave cut.
            *(sys.executable, "-B", "-c", code, "data", "import", str(source)),
            *("--out", str(out), "--overwrite"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert re.search(rf"error: {re.escape(str(out))}: cannot be written: .*large\n$", done.stderr)
    assert out.read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["bars.parquet", "many.parquet"]


def test_values_pass_through_unchanged(tmp_path: Path) -> None:
    bars = random_bars(300)
    source = write_bars(tmp_path / "in.parquet", bars)
    import_bars([source], tmp_path / "out.parquet")
    assert load_bars(tmp_path / "out.parquet").content_hash == bars.content_hash
    assert load_bars(source).content_hash == bars.content_hash


def test_the_same_bytes_each_time(tmp_path: Path) -> None:
    path = write(tmp_path / "SPY.csv", *GOOD)
    for name in ("a.parquet", "b.parquet"):
        import_bars([path], tmp_path / name)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_the_command(tmp_path: Path) -> None:
    write(tmp_path / "SPY.csv", *GOOD, GOOD[-1])
    refused = barsweep("data", "import", "SPY.csv", "--out", "bars.parquet", folder=tmp_path)
    assert refused.returncode == 2
    assert "found: 1 row at a time that the symbol had before" in refused.stdout
    assert refused.stderr.count("\n") == 1 and "--drop-duplicates" in refused.stderr
    options = ("--drop-duplicates", "--calendar", "XNYS")
    done = barsweep("data", "import", "SPY.csv", "--out", "bars.parquet", *options, folder=tmp_path)
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.splitlines() == [
        "SPY.csv: Yahoo, 6 rows, SPY (from the file's name)",
        "found: 1 row at a time that the symbol had before, first SPY.csv, line 7"
        " (SPY, 2017-01-09); fixed (--drop-duplicates)",
        "SPY: 5 bars of 1 day, 2017-01-03 to 2017-01-09 UTC",
        "  no session of XNYS is missing",
        "  longest step: 3 days, 2017-01-06 to 2017-01-09",
        "written: bars.parquet",
    ]
    assert len(pd.read_parquet(tmp_path / "bars.parquet")) == 5
