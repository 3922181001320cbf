"""Bars in: what is read, and what is refused with one clear line."""

from __future__ import annotations

import csv
import datetime as dt
import gzip
import io
import logging
import math
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizer.bars.checks import require_bars
from optimizer.bars.foreign import read_foreign
from optimizer.bars.load import load_bars
from optimizer.bars.per_year import infer_bars_per_year
from optimizer.bars.splits import suspected_splits
from optimizer.bars.timestamps import Moment
from optimizer.errors import DataError
from optimizer.types import Bars, TimeArray

DATA = Path(__file__).resolve().parents[3] / "studies" / "data"
HEADER = "symbol,timestamp,open,high,low,close,volume"
Row = tuple[str, str, float, float, float, float, float]


def days(count: int, first: str = "2017-01-02") -> list[str]:
    """Dates of consecutive weekdays."""
    return [str(day.date()) for day in pd.bdate_range(first, periods=count)]


def make_rows(symbol: str, stamps: Iterable[str], price: float = 100.0) -> list[Row]:
    return [
        (symbol, stamp, price + i, price + i + 2, price + i - 1, price + i + 1, 1000.0 + i)
        for i, stamp in enumerate(stamps)
    ]


def write_csv(path: Path, rows: Iterable[Sequence[object]], header: str = HEADER) -> Path:
    lines = [header, *(",".join(str(cell) for cell in row) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def write_parquet(path: Path, rows: Iterable[Row]) -> Path:
    frame = pd.DataFrame(list(rows), columns=HEADER.split(","))
    frame["timestamp"] = pd.to_datetime(frame["timestamp"], utc=True)
    frame.to_parquet(path)
    return path


def message(path: Path, **options: object) -> str:
    """The refusal of a file, without its folder."""
    with pytest.raises(DataError) as caught:
        load_bars(path, **options)  # type: ignore[arg-type]
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(str(path))
    return text.replace(str(path), path.name)


# --- The bundled bars ---------------------------------------------------------------------------


def test_bundled_daily_bars() -> None:
    bars = load_bars(DATA / "us_daily.parquet")
    assert bars.symbols == (
        *("AAPL", "EEM", "GE", "GLD", "IWM", "JPM"),
        *("MSFT", "QQQ", "SPY", "TLT", "WMT", "XOM"),
    )
    assert (bars.n_bars, bars.n_symbols, bars.bars_per_year) == (3201, 12, 252)
    for array in (bars.open, bars.high, bars.low, bars.close, bars.volume):
        assert array.shape == (3201, 12)
        assert array.dtype == np.float64
        assert array.flags.c_contiguous
        assert not array.flags.writeable
    assert bars.timestamps.dtype == "datetime64[ns]"
    # An independent reading of the same file.
    table = pq.read_table(DATA / "us_daily.parquet").to_pylist()
    at = dt.datetime(2008, 10, 13, tzinfo=dt.UTC)
    (row,) = [r for r in table if r["symbol"] == "SPY" and r["timestamp"] == at]
    where = int(np.searchsorted(bars.timestamps, np.datetime64("2008-10-13")))
    column = bars.symbols.index("SPY")
    for name in ("open", "high", "low", "close", "volume"):
        assert getattr(bars, name)[where, column] == row[name]


def test_bundled_intraday_bars() -> None:
    bars = load_bars(DATA / "crypto_5m.parquet", end="2023-03-24")
    assert bars.symbols == ("BTCUSDT", "ETHUSDT")
    assert bars.bars_per_year == 288 * 365
    assert bars.timestamps[-1] == np.datetime64("2023-03-24T23:55")
    assert bars.n_bars == 83 * 288 - 16  # the exchange halt of that day


# --- Reading ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        "symbol,timestamp,open,high,low,close,volume",
        "Ticker,Date,Open,High,Low,Close,Volume",
        "TICKER,DATETIME,OPEN,HIGH,LOW,CLOSE,VOLUME",
        " Symbol , time,open,high,low,close,volume",
        "\ufeffsymbol,timestamp,open,high,low,close,volume",
    ],
)
def test_column_names(tmp_path: Path, header: str) -> None:
    bars = load_bars(write_csv(tmp_path / "a.csv", make_rows("X", days(3)), header))
    assert bars.symbols == ("X",)
    assert bars.close.tolist() == [[101.0], [102.0], [103.0]]


def test_columns_in_any_order_and_others_ignored(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        "close,adj close,date,low,high,open,ticker,volume,note\n"
        '3,9,2017-01-02,1,4,2,X,7,"one, two"\n'
        "4,9,2017-01-03,1,5,3,X,8,\n"
    )
    bars = load_bars(path)
    assert [bars.open[0, 0], bars.high[0, 0], bars.low[0, 0], bars.close[0, 0]] == [2, 4, 1, 3]
    assert bars.volume.tolist() == [[7], [8]]


@pytest.mark.parametrize("name", ["SPY.csv", "SPY.csv.gz", "SPY.parquet", "SPY.PQ", "SPY.CSV"])
def test_every_kind_of_file_gives_the_same(tmp_path: Path, name: str) -> None:
    rows = make_rows("SPY", days(5), 5.1)
    path = tmp_path / name
    if path.suffix.lower() in (".parquet", ".pq"):
        write_parquet(path, rows)
    else:
        write_csv(path, rows)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(path.read_bytes()))
    bars = load_bars(path)
    assert bars.source == str(path)
    assert bars.timestamps.tolist() == [int(pd.Timestamp(day).value) for day in days(5)]
    # The very bits of the text's numbers.
    assert bars.open[:, 0].tolist() == [5.1 + i for i in range(5)]


def test_content_does_not_depend_on_the_kind_of_file(tmp_path: Path) -> None:
    rows = [*make_rows("A", days(5), 5.1), *make_rows("B", days(5), 10 / 3)]
    one = load_bars(write_csv(tmp_path / "a.csv", rows))
    other = load_bars(write_parquet(tmp_path / "b.parquet", rows))
    assert one.content_hash == other.content_hash


def test_a_file_without_symbols_is_named_as_the_file(tmp_path: Path) -> None:
    rows = [row[1:] for row in make_rows("", days(3))]
    header = HEADER.removeprefix("symbol,")
    assert load_bars(write_csv(tmp_path / "BRK.B.csv", rows, header)).symbols == ("BRK.B",)
    path = tmp_path / "EURUSD.csv.gz"
    path.write_bytes(gzip.compress((tmp_path / "BRK.B.csv").read_bytes()))
    assert load_bars(path, symbols="EURUSD").symbols == ("EURUSD",)


def test_symbols_that_look_like_something_else(tmp_path: Path) -> None:
    rows = [row for name in ("NA", "TRUE", "007") for row in make_rows(name, days(2))]
    assert load_bars(write_csv(tmp_path / "a.csv", rows)).symbols == ("007", "NA", "TRUE")


def test_blank_lines_are_no_bars_and_lines_keep_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    lines = [",".join(str(cell) for cell in row) for row in make_rows("X", days(3))]
    path.write_text("\n".join([HEADER, lines[0], "", lines[1], lines[2], "", ""]))
    assert load_bars(path).n_bars == 3
    path.write_text("\n".join([HEADER, lines[0], "", lines[1], lines[2].replace("103.0", "x")]))
    assert message(path).startswith("a.csv, line 5 (X, 2017-01-04): column close is not a number")


@pytest.mark.parametrize(
    "kind", [pa.float32(), pa.int64(), pa.decimal128(24, 4), pa.large_string(), pa.int16()]
)
def test_kinds_of_numbers_in_parquet(tmp_path: Path, kind: pa.DataType) -> None:
    prices = pa.array([101, 102], pa.int64()).cast(kind)
    columns = dict.fromkeys(("open", "high", "low", "close", "volume"), prices)
    dates = pa.array([dt.date(2017, 1, 2), dt.date(2017, 1, 3)], pa.date32())
    names = pa.array(["X", "X"]).dictionary_encode()
    pq.write_table(pa.table({"symbol": names, "date": dates, **columns}), tmp_path / "a.parquet")
    bars = load_bars(tmp_path / "a.parquet")
    assert bars.close.tolist() == [[101.0], [102.0]]
    assert str(bars.timestamps[0]) == "2017-01-02T00:00:00.000000000"


def test_parquet_with_its_times_as_pandas_index(tmp_path: Path) -> None:
    frame = pd.DataFrame(make_rows("X", days(3)), columns=HEADER.split(","))
    frame["Date"] = pd.to_datetime(frame.pop("timestamp"))
    frame.set_index("Date").to_parquet(tmp_path / "a.parquet")
    assert load_bars(tmp_path / "a.parquet").n_bars == 3


# --- Times --------------------------------------------------------------------------------------


def times(bars: Bars) -> list[str]:
    return [str(time)[:16] for time in bars.timestamps]


def load_stamps(tmp_path: Path, stamps: Sequence[object], **options: object) -> Bars:
    rows = make_rows("X", [str(stamp) for stamp in stamps])
    return load_bars(write_csv(tmp_path / "a.csv", rows), **options)  # type: ignore[arg-type]


HOURS = ["2017-01-02T14:00", "2017-01-02T15:00", "2017-01-02T16:00"]


@pytest.mark.parametrize(
    "stamps",
    [
        ["2017-01-02 14:00", "2017-01-02 15:00", "2017-01-02 16:00"],
        ["2017-01-02T14:00:00Z", "2017-01-02T15:00:00Z", "2017-01-02T16:00:00Z"],
        ["2017-01-02 09:00-05:00", "2017-01-02 16:00+01", "2017-01-02 16:00:00.000+0000"],
        [1483365600, 1483369200, 1483372800],
        [1483365600000, 1483369200000, 1483372800000],
        [1483365600000000, 1483369200000000, 1483372800000000],
        [1483365600000000000, 1483369200000000000, 1483372800000000000],
        [1483365600.0, 1483369200.0, 1483372800.0],
    ],
)
def test_ways_to_write_a_time(tmp_path: Path, stamps: list[object]) -> None:
    assert times(load_stamps(tmp_path, stamps)) == HOURS


def test_times_without_an_offset_are_of_the_time_zone(tmp_path: Path) -> None:
    bars = load_stamps(
        tmp_path, ["2017-07-03 09:30", "2017-07-03 09:35"], timezone="America/New_York"
    )
    assert times(bars) == ["2017-07-03T13:30", "2017-07-03T13:35"]
    aware = ["2017-07-03 09:30+00:00", "2017-07-03 09:35+00:00"]
    bars = load_stamps(tmp_path, aware, timezone="America/New_York")
    assert times(bars) == ["2017-07-03T09:30", "2017-07-03T09:35"]


def test_naive_and_aware_times_in_parquet(tmp_path: Path) -> None:
    frame = pd.DataFrame(make_rows("X", HOURS), columns=HEADER.split(","))
    stamps = pd.to_datetime(frame["timestamp"])
    path = tmp_path / "a.parquet"
    for unit in ("s", "ms", "us", "ns"):
        frame["timestamp"] = stamps.dt.as_unit(unit)
        frame.to_parquet(path)
        bars = load_bars(path, timezone="Asia/Tokyo")
        assert times(bars) == ["2017-01-02T05:00", "2017-01-02T06:00", "2017-01-02T07:00"]
        frame["timestamp"] = frame["timestamp"].dt.tz_localize("Europe/Berlin")
        frame.to_parquet(path)
        bars = load_bars(path, timezone="Asia/Tokyo")
        assert times(bars) == ["2017-01-02T13:00", "2017-01-02T14:00", "2017-01-02T15:00"]


def test_clock_changes(tmp_path: Path) -> None:
    """2017-03-12 02:30 does not exist in New York, and 2017-11-05 01:30 comes twice."""
    for stamp in ("2017-03-12 02:30", "2017-11-05 01:30"):
        rows = make_rows("X", ["2017-01-02 00:00", stamp])
        path = write_csv(tmp_path / "a.csv", rows)
        assert load_bars(path).n_bars == 2
        text = message(path, timezone="America/New_York")
        assert text.startswith(
            f"a.csv, line 3 (X): timestamp '{stamp}' does not exist or occurs twice"
        )
        assert text.endswith("write timestamps with their offset")


def test_days_that_begin_when_the_clock_changes(tmp_path: Path) -> None:
    """Sao Paulo's clocks went forward at midnight, Havana's go back to it."""
    stamps = ["2017-10-14", "2017-10-15", "2017-10-16"]
    bars = load_stamps(tmp_path, stamps, timezone="America/Sao_Paulo")
    assert times(bars) == ["2017-10-14T03:00", "2017-10-15T03:00", "2017-10-16T02:00"]
    stamps = ["2017-11-04", "2017-11-05", "2017-11-06"]
    bars = load_stamps(tmp_path, stamps, timezone="America/Havana")
    assert times(bars) == ["2017-11-04T04:00", "2017-11-05T04:00", "2017-11-06T05:00"]


@pytest.mark.parametrize(
    ("stamps", "expected"),
    [
        (["2017-01-02", "soon"], "line 3 (X): timestamp 'soon' is not an ISO date or time"),
        (["02/01/2017", "03/01/2017"], "line 2 (X): timestamp '02/01/2017' is not an ISO date"),
        (["2017-01-02", "01/03/2017"], "line 3 (X): timestamp '01/03/2017' is not an ISO date"),
        (["2017-01-02", "2017"], "line 3 (X): timestamp '2017' is not an ISO date"),
        (["2017-01-02", "2017-02-30"], "line 3 (X): timestamp '2017-02-30' is not an ISO date"),
        (["2017-01-02", ""], "line 3 (X): column timestamp is empty"),
        (["20171302", "20171303"], "timestamp '20171302' is no time since 1970 in seconds"),
        (["2017-01-02", "9999-12-31"], "line 3 (X): timestamp '9999-12-31' is out of range"),
        (
            ["2017-01-02 14:00", "2017-01-02 15:00Z"],
            "line 3 (X): timestamp '2017-01-02 15:00Z' and the first, '2017-01-02 14:00', differ",
        ),
    ],
)
def test_times_that_cannot_be_read(tmp_path: Path, stamps: list[str], expected: str) -> None:
    text = message(write_csv(tmp_path / "a.csv", make_rows("X", stamps)))
    assert text.startswith("a.csv, line ")
    assert expected in text


def test_times_that_cannot_be_read_in_parquet(tmp_path: Path) -> None:
    frame = pd.DataFrame(make_rows("X", days(3)), columns=HEADER.split(","))
    for bad, expected in (
        ([dt.time(9), dt.time(10), dt.time(11)], "row 1 (X): timestamp '09:00:00' is not an ISO"),
        ([True, False, True], "row 1 (X): timestamp 'True' is not an ISO"),
        ([math.nan, 1.5e9, 1.6e9], "row 1 (X): column timestamp is empty"),
        ([math.inf, 1.5e9, 1.6e9], "row 1 (X): timestamp 'inf' is no time since 1970"),
    ):
        path = tmp_path / "a.parquet"
        frame.assign(timestamp=pd.Series(bad)).to_parquet(path)
        assert expected in message(path)


# --- Selection ----------------------------------------------------------------------------------


def test_symbols_select(tmp_path: Path) -> None:
    rows = [row for i, s in enumerate("CAB") for row in make_rows(s, days(3), 100.0 * (i + 1))]
    path = write_csv(tmp_path / "a.csv", rows)
    assert load_bars(path).symbols == ("A", "B", "C")
    for symbols in (["B", "C"], ["C", "B"]):
        bars = load_bars(path, symbols=symbols)
        assert bars.symbols == ("B", "C")
        assert bars.open[0].tolist() == [300.0, 100.0]


@settings(max_examples=30)
@given(st.permutations(["B", "a", "C10", "C9", "Ä"]), st.permutations(["B", "a", "C10", "C9"]))
def test_no_order_of_symbols_makes_a_difference(
    tmp_path_factory: pytest.TempPathFactory, written: list[str], listed: list[str]
) -> None:
    rows = [row for s in written for row in make_rows(s, days(3), 10.0 * ord(s[-1]))]
    path = write_csv(tmp_path_factory.mktemp("bars") / "a.csv", rows)
    bars = load_bars(path, symbols=listed)
    assert bars.symbols == ("B", "C10", "C9", "a")
    assert bars.open[0].tolist() == [10.0 * ord(end) for end in "B09a"]
    assert load_bars(path).symbols == ("B", "C10", "C9", "a", "Ä")


def test_rows_of_symbols_may_alternate(tmp_path: Path) -> None:
    one, two = make_rows("A", days(3)), make_rows("B", days(3), 200.0)
    apart = load_bars(write_csv(tmp_path / "a.csv", [*one, *two]))
    mixed = load_bars(
        write_csv(tmp_path / "b.csv", [row for pair in zip(two, one, strict=True) for row in pair])
    )
    assert apart.content_hash == mixed.content_hash


@pytest.mark.parametrize(
    ("symbols", "expected"),
    [
        (["SPX"], "a.csv: no symbol 'SPX' (there: QQQ, SPY)"),
        (["s-py"], "a.csv: no symbol 's-py'; did you mean 'SPY'? (there: QQQ, SPY)"),
        (["SPY", "GLD"], "a.csv: no symbol 'GLD' (there: QQQ, SPY)"),
        (["SPY", "SPY"], "a.csv: symbol 'SPY' is selected twice"),
        ([], "a.csv: no symbols are selected; name some, or None for all"),
    ],
)
def test_symbols_that_are_not_there(tmp_path: Path, symbols: list[str], expected: str) -> None:
    rows = [*make_rows("SPY", days(3)), *make_rows("QQQ", days(3))]
    assert message(write_csv(tmp_path / "a.csv", rows), symbols=symbols) == expected


def test_an_empty_symbol_is_refused(tmp_path: Path) -> None:
    rows = [*make_rows("X", days(2)), *make_rows(" ", days(1))]
    assert message(write_csv(tmp_path / "a.csv", rows)) == "a.csv, line 4: column symbol is empty"


@pytest.mark.parametrize(
    ("start", "end", "first", "last"),
    [
        (None, None, "2017-01-02T00:00", "2017-01-05T23:00"),
        ("2017-01-03", "2017-01-03", "2017-01-03T00:00", "2017-01-03T23:00"),
        ("2017-01-03T05:00", "2017-01-03 07:30", "2017-01-03T05:00", "2017-01-03T07:00"),
        (dt.date(2017, 1, 3), dt.date(2017, 1, 4), "2017-01-03T00:00", "2017-01-04T23:00"),
        (dt.datetime(2017, 1, 3), dt.datetime(2017, 1, 4), "2017-01-03T00:00", "2017-01-04T00:00"),
        (
            "2017-01-03T05:00-02:00",
            "2017-01-03T12:00+02:00",
            "2017-01-03T07:00",
            "2017-01-03T10:00",
        ),
        (pd.Timestamp("2017-01-04 01:00"), np.datetime64("2017-01-04"), None, None),
    ],
)
def test_start_and_end_are_inclusive(
    tmp_path: Path, start: Moment | None, end: Moment | None, first: str | None, last: str | None
) -> None:
    hours = pd.date_range("2017-01-02", "2017-01-05 23:00", freq="h")
    path = write_csv(tmp_path / "a.csv", make_rows("X", [str(hour) for hour in hours]))
    bars = load_bars(path, start=start, end=end)
    assert times(bars)[0] == (first or "2017-01-04T01:00")
    assert times(bars)[-1] == (last or "2017-01-04T23:00")


def test_start_and_end_are_of_the_time_zone(tmp_path: Path) -> None:
    hours = pd.date_range("2017-01-02", "2017-01-05 23:00", freq="h", tz="UTC")
    path = write_csv(tmp_path / "a.csv", make_rows("X", [str(hour) for hour in hours]))
    bars = load_bars(path, start="2017-01-03", end="2017-01-03", timezone="America/New_York")
    assert (times(bars)[0], times(bars)[-1]) == ("2017-01-03T05:00", "2017-01-04T04:00")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"start": "2018-01-01"}, "no bars from start 2018-01-01; the file has"),
        ({"start": "2017-01-05", "end": "2017-01-03"}, "no bars from start 2017-01-05 to end"),
        ({"start": "yesterday?"}, "start 'yesterday?' is not an ISO date or time"),
        ({"end": "2017-13-01"}, "end '2017-13-01' is not an ISO date or time"),
        ({"end": ""}, "end '' is"),
        ({"start": "2017-01-13"}, "only 1 bar, at 2017-01-13, is left"),
        ({"timezone": "Mars/Olympus"}, "no time zone 'Mars/Olympus'"),
        ({"align": "left"}, "align: got 'left'"),
    ],
)
def test_options_that_leave_nothing(
    tmp_path: Path, options: dict[str, object], expected: str
) -> None:
    path = write_csv(tmp_path / "a.csv", make_rows("X", days(10)))
    assert message(path, **options).startswith(f"a.csv: {expected}")


def test_a_flaw_that_is_not_selected_does_no_harm(tmp_path: Path) -> None:
    rows: list[Sequence[object]] = [
        *make_rows("A", days(5)),
        *make_rows("B", days(3)),
        ("B", "2017-01-06", "x", -1, math.nan, 1, 1),
    ]
    path = write_csv(tmp_path / "a.csv", rows)
    assert load_bars(path, symbols=["A"]).n_bars == 5
    assert load_bars(path, end="2017-01-04").n_symbols == 2
    assert "column open is not a number: 'x'" in message(path)


# --- Alignment ----------------------------------------------------------------------------------


def test_inner_keeps_common_times_and_says_what_is_dropped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stamps = days(10)
    rows = [*make_rows("A", stamps[:8]), *make_rows("B", [*stamps[2:5], *stamps[6:]])]
    path = write_csv(tmp_path / "a.csv", rows)
    with caplog.at_level(logging.INFO, logger="barsweep"):
        bars = load_bars(path)
    assert [time[:10] for time in times(bars)] == [*stamps[2:5], *stamps[6:8]]
    assert bars.open[:, 0].tolist() == [102.0, 103.0, 104.0, 106.0, 107.0]
    assert bars.open[:, 1].tolist() == [100.0, 101.0, 102.0, 103.0, 104.0]
    (record,) = caplog.records
    assert "A 3 of 8, B 2 of 7; 5 are left" in record.getMessage()
    caplog.clear()
    load_bars(path, symbols=["A"])
    assert not caplog.records


def test_strict_names_symbol_and_time(tmp_path: Path) -> None:
    stamps = days(6)
    rows = [*make_rows("A", stamps), *make_rows("B", [*stamps[:3], *stamps[4:]])]
    path = write_csv(tmp_path / "a.csv", rows)
    assert message(path, align="strict").startswith(
        "a.csv: symbol B has no bar at 2017-01-05, which A has; complete"
    )
    same = write_csv(tmp_path / "b.csv", [*make_rows("A", stamps), *make_rows("B", stamps)])
    assert load_bars(same, align="strict").n_bars == 6


def test_no_common_time(tmp_path: Path) -> None:
    rows = [*make_rows("A", days(5)), *make_rows("B", days(5, "2018-01-01"))]
    assert message(write_csv(tmp_path / "a.csv", rows)) == (
        "a.csv: no timestamp is common to all symbols: "
        "A 2017-01-02 to 2017-01-06, B 2018-01-01 to 2018-01-05"
    )
    assert message(tmp_path / "a.csv", start="2018-01-01") == (
        "a.csv: symbol A has no bars from start to end"
    )


gaps = st.dictionaries(
    st.sampled_from(["A", "B", "C", "D"]), st.sets(st.integers(0, 30), max_size=8), min_size=1
)


@settings(max_examples=40)
@given(gaps, st.randoms(use_true_random=False))
def test_alignment_is_that_of_a_plain_loop(
    tmp_path_factory: pytest.TempPathFactory, missing: dict[str, set[int]], random: object
) -> None:
    cells: dict[tuple[str, str], float] = {}
    rows: list[Row] = []
    for symbol, gone in missing.items():
        for day in sorted(set(range(31)) - gone):
            stamp = f"2017-01-{day + 1:02}"
            price = random.uniform(1, 1000)  # type: ignore[attr-defined]
            cells[symbol, stamp] = price
            rows.append((symbol, stamp, price, price, price, price, 0.0))
    common = sorted(
        stamp
        for stamp in {stamp for _, stamp in cells}
        if all((symbol, stamp) in cells for symbol in missing)
    )
    path = write_csv(tmp_path_factory.mktemp("bars") / "a.csv", rows)
    if len(common) < 2:
        with pytest.raises(DataError):
            load_bars(path)
        return
    bars = load_bars(path)
    assert [time[:10] for time in times(bars)] == common
    assert bars.symbols == tuple(sorted(missing))
    for i, stamp in enumerate(common):
        for j, symbol in enumerate(bars.symbols):
            assert bars.close[i, j] == cells[symbol, stamp]


# --- Values that are refused --------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("open", math.nan, "column open has no value"),
        ("volume", math.nan, "column volume has no value"),
        ("high", math.inf, "column high is inf; it must be finite"),
        ("volume", math.inf, "column volume is inf; it must be finite"),
        ("close", 0.0, "column close is 0.0; prices must be positive"),
        ("low", -3.5, "column low is -3.5; prices must be positive"),
        ("volume", -1.0, "column volume is -1.0; the least is 0"),
        ("high", 50.0, "column high is 50.0, below low, 101.0"),
        ("high", 101.5, "column high is 101.5, below open, 102.0"),
        ("high", 102.5, "column high is 102.5, below close, 103.0"),
        ("low", 102.5, "column low is 102.5, above open, 102.0"),
        ("close", 100.5, "column low is 101.0, above close, 100.5"),
    ],
)
def test_values_that_are_refused(
    tmp_path: Path, kind: str, column: str, value: float, expected: str
) -> None:
    frame = pd.DataFrame(make_rows("X", days(4)), columns=HEADER.split(","))
    frame.loc[2, column] = value
    rows: list[Row] = list(frame.itertuples(index=False, name=None))
    if kind == "csv":
        text = message(write_csv(tmp_path / "a.csv", rows))
        assert text.startswith(f"a.csv, line 4 (X, 2017-01-04): {expected}")
    else:
        text = message(write_parquet(tmp_path / "a.parquet", rows))
        assert text.startswith(f"a.parquet, row 3 (X, 2017-01-04): {expected}")


@pytest.mark.parametrize("value", ["x", "1,5", "$3", "1.2.3"])
def test_text_among_numbers_is_refused(tmp_path: Path, value: str) -> None:
    rows: list[list[object]] = [list(row) for row in make_rows("X", days(4))]
    rows[1][5] = f'"{value}"'
    text = message(write_csv(tmp_path / "a.csv", rows))
    assert text == f"a.csv, line 3 (X, 2017-01-03): column close is not a number: {value!r}"


def test_columns_of_no_numbers_are_refused(tmp_path: Path) -> None:
    frame = pd.DataFrame(make_rows("X", days(3)), columns=HEADER.split(","))
    path = tmp_path / "a.parquet"
    for bad in ([True, True, True], pd.to_datetime(days(3)), pd.to_timedelta([1, 2, 3])):
        frame.assign(volume=bad).to_parquet(path)
        assert "column volume has" in message(path)


def test_zero_volume_and_flat_bars_are_fine(tmp_path: Path) -> None:
    rows = [("X", stamp, 5.0, 5.0, 5.0, 5.0, 0.0) for stamp in days(3)]
    assert load_bars(write_csv(tmp_path / "a.csv", rows)).volume.tolist() == [[0.0]] * 3


def test_last_digits_of_adjusted_prices_are_no_flaw(tmp_path: Path) -> None:
    above = math.nextafter(5.0, 6)
    rows = [("X", stamp, above, 5.0, 5.0, above, 0.0) for stamp in days(3)]
    bars = load_bars(write_csv(tmp_path / "a.csv", rows))
    assert bars.close[0, 0] == above  # and nothing is changed
    rows = [("X", stamp, 5.0001, 5.0, 5.0, 5.0, 0.0) for stamp in days(3)]
    assert "column high is 5.0, below open, 5.0001" in message(write_csv(tmp_path / "b.csv", rows))


def test_duplicate_and_unordered_times(tmp_path: Path) -> None:
    stamps = days(4)
    path = tmp_path / "a.csv"
    rows = [*make_rows("A", stamps), *make_rows("B", [*stamps[:3], stamps[2]])]
    assert message(write_csv(path, rows)) == (
        "a.csv, line 9 (B, 2017-01-04): column timestamp repeats line 8; keep one bar for each time"
    )
    rows = [*make_rows("A", stamps), *make_rows("B", [stamps[0], stamps[2], stamps[1], stamps[3]])]
    assert message(write_csv(path, rows)) == (
        "a.csv, line 8 (B, 2017-01-03): column timestamp is before 2017-01-04 of line 7; "
        "sort the file by symbol and timestamp"
    )
    both = [row[1:] for row in [*make_rows("", stamps), *make_rows("", stamps)]]
    text = message(write_csv(path, both, HEADER.removeprefix("symbol,")))
    assert text.startswith("a.csv, line 6 (a, 2017-01-02): column timestamp repeats line 2")
    assert text.endswith("or add a symbol column")


# --- Bar sizes ----------------------------------------------------------------------------------


def stamps_of(index: pd.DatetimeIndex) -> list[str]:
    return [stamp.isoformat() for stamp in index]


def session_days(size: str, opens: str, closes: str, count: int, zone: str) -> pd.DatetimeIndex:
    parts = [
        pd.date_range(f"{day} {opens}", f"{day} {closes}", freq=size, inclusive="left", tz=zone)
        for day in days(count, "2017-02-20")
    ]
    return pd.DatetimeIndex(np.concatenate([part.tz_convert("UTC") for part in parts]))


GOOD_CALENDARS: dict[str, tuple[pd.DatetimeIndex, float]] = {
    "weekdays": (pd.bdate_range("2016-12-01", periods=300), 5 * 365.25 / 7),
    "days of New York, clock changes": (
        pd.date_range("2017-01-01", periods=400, tz="America/New_York"),
        365,
    ),
    "weeks": (pd.date_range("2017-01-02", periods=80, freq="W-MON"), 365.25 / 7),
    "weeks by their first session": (
        pd.DatetimeIndex(["2012-10-15", "2012-10-22", "2012-10-31", "2012-11-05", "2012-11-12"]),
        365.25 / 7,
    ),
    "month starts": (pd.date_range("2015-01-01", periods=40, freq="MS"), 12),
    "last sessions of months": (pd.date_range("2015-01-01", periods=40, freq="BME"), 12),
    "quarters": (pd.date_range("2010-01-01", periods=20, freq="QS"), 4),
    "years": (pd.date_range("2000-01-01", periods=15, freq="YS"), 1),
    "three days": (pd.date_range("2017-01-01", periods=100, freq="3D"), 365.25 / 3),
    "5 minutes around the clock": (pd.date_range("2017-01-01", periods=9000, freq="5min"), 105120),
    "4 hours around the clock": (pd.date_range("2017-01-01", periods=900, freq="4h"), 2190),
    "12 hours around the clock": (pd.date_range("2017-01-01", periods=900, freq="12h"), 730),
    "5 minutes of a session": (
        session_days("5min", "09:30", "16:00", 60, "America/New_York"),
        78 * 252,
    ),
    "hours of a session": (
        session_days("60min", "09:30", "16:00", 60, "America/New_York"),
        7 * 252,
    ),
    "two bars a day": (session_days("4h", "09:30", "16:00", 60, "America/New_York"), 2 * 252),
    "session with a break": (
        session_days("30min", "09:00", "11:30", 60, "Asia/Tokyo").union(
            session_days("30min", "12:30", "15:00", 60, "Asia/Tokyo")
        ),
        10 * 252,
    ),
    "a halt of a month": (
        pd.date_range("2017-01-01", periods=600, freq="h").union(
            pd.date_range("2017-03-01", periods=600, freq="h")
        ),
        24 * 365,
    ),
}


@pytest.mark.parametrize("name", GOOD_CALENDARS)
def test_calendars_that_are_fine(tmp_path: Path, name: str) -> None:
    index, bars_per_year = GOOD_CALENDARS[name]
    stamps = stamps_of(index)
    rows = [*make_rows("A", stamps), *make_rows("B", stamps)]
    bars = load_bars(write_csv(tmp_path / "a.csv", rows), align="strict")
    assert bars.n_bars == len(index)
    assert bars.bars_per_year == pytest.approx(bars_per_year, rel=1e-12)


def test_thin_trading_is_one_bar_size(tmp_path: Path) -> None:
    """Minutes without a trade have no bar: most steps are longer than a minute, none is regular."""
    index = pd.date_range("2017-01-01", periods=20_000, freq="1min")
    keep = np.random.default_rng(7).random(len(index)) < 0.3
    path = write_csv(tmp_path / "a.csv", make_rows("X", stamps_of(index[keep])))
    assert load_bars(path).n_bars == keep.sum()


def test_long_bars_of_a_local_clock_need_its_time_zone(tmp_path: Path) -> None:
    """Four-hour bars at 0, 4, 8 ... of New York: one step of 3 hours where the clock goes forward."""
    local = pd.date_range("2017-03-01", "2017-03-31", freq="4h")
    rows = make_rows("X", [stamp.isoformat() for stamp in local])
    naive = write_csv(tmp_path / "a.csv", rows)
    assert load_bars(naive, timezone="America/New_York").n_bars == len(local)
    aware = [str(stamp) for stamp in local.tz_localize("America/New_York").tz_convert("UTC")]
    path = write_csv(tmp_path / "b.csv", make_rows("X", aware))
    assert load_bars(path, timezone="America/New_York").n_bars == len(local)
    assert "column timestamp is 3 hours after the bar before" in message(path)


HOURLY = pd.date_range("2017-01-01", periods=2000, freq="h")
DAILY = pd.date_range("2017-06-01", periods=300)
MIXED: dict[str, tuple[pd.DatetimeIndex, str]] = {
    "days, then some hours": (
        DAILY.union(pd.date_range("2018-04-01", periods=50, freq="h")),
        "(X, 2018-04-01 01:00): mixed bar sizes: column timestamp is 1 hour after the bar before, but "
        "most bars of the symbol are 1 day apart",
    ),
    "hours, then days": (
        HOURLY.union(DAILY),
        "(X, 2017-06-02): mixed bar sizes: column timestamp is 1 day after the bar before, but most bars"
        " of the symbol are 1 hour apart",
    ),
    "hours, then sessions of weekdays": (
        HOURLY.union(pd.bdate_range("2017-06-01", periods=300)),
        "day",
    ),
    "5 minutes, then a quarter of an hour": (
        pd.date_range("2017-01-01", periods=2000, freq="5min").union(
            pd.date_range("2017-01-10", periods=500, freq="15min")
        ),
        "mixed bar sizes: column timestamp is 15 minutes after the bar before",
    ),
    "days, then months": (
        pd.date_range("2010-01-01", periods=300).union(
            pd.date_range("2011-01-01", periods=60, freq="MS")
        ),
        "days after the bar before, but most bars of the symbol are 1 day apart",
    ),
    "a stray bar": (
        pd.date_range("2017-01-01", periods=500, freq="5min").union(
            pd.DatetimeIndex(["2017-01-01 12:02"])
        ),
        "(X, 2017-01-01 12:02): mixed bar sizes: column timestamp is 2 minutes after",
    ),
    "noon among days": (
        DAILY.union(pd.DatetimeIndex(["2017-07-01 12:00"])),
        "(X, 2017-07-01 12:00): mixed bar sizes: column timestamp is 12 hours after",
    ),
}


@pytest.mark.parametrize("name", MIXED)
def test_mixed_bar_sizes_of_one_symbol(tmp_path: Path, name: str) -> None:
    index, expected = MIXED[name]
    assert expected in message(write_csv(tmp_path / "a.csv", make_rows("X", stamps_of(index))))


def test_mixed_bar_sizes_of_two_symbols(tmp_path: Path) -> None:
    rows = [*make_rows("A", stamps_of(DAILY)), *make_rows("B", stamps_of(HOURLY))]
    path = write_csv(tmp_path / "a.csv", rows)
    assert message(path) == (
        "a.csv: mixed bar sizes: column timestamp steps by 1 day for A, but by 1 hour for B; "
        "keep one bar size in a file, or select symbols of one"
    )
    assert load_bars(path, symbols=["A"]).n_bars == len(DAILY)


def test_a_symbol_with_few_bars_over_a_weekend_is_daily(tmp_path: Path) -> None:
    stamps = days(20)
    rows = [*make_rows("A", stamps), *make_rows("B", stamps[4:6])]
    assert load_bars(write_csv(tmp_path / "a.csv", rows)).n_bars == 2


# --- Files that are refused ---------------------------------------------------------------------


def test_files_that_are_no_bars(tmp_path: Path) -> None:
    assert message(tmp_path / "none.csv") == "none.csv: no such file"
    (tmp_path / "folder.parquet").mkdir()
    assert message(tmp_path / "folder.parquet").startswith("folder.parquet: is a folder")
    for name in ("a.xlsx", "a.gz", "a", "csv"):
        (tmp_path / name).write_text("x")
        assert message(tmp_path / name).startswith(f"{name}: unsupported kind of file; valid: ")
    for name in ("a.csv", "a.parquet", "a.csv.gz"):
        (tmp_path / name).write_bytes(b"")
        assert message(tmp_path / name) == f"{name}: is empty"
    (tmp_path / "a.csv").write_text(HEADER + "\n")
    assert message(tmp_path / "a.csv") == "a.csv: has no rows"
    (tmp_path / "a.csv").write_text("\n\n")
    assert message(tmp_path / "a.csv").startswith("a.csv: line 1 is blank")
    (tmp_path / "a.csv").write_bytes(b"\xff\x00s")
    assert message(tmp_path / "a.csv").startswith("a.csv: is not UTF-8 text")
    write_parquet(tmp_path / "none.parquet", [])
    assert message(tmp_path / "none.parquet") == "none.parquet: has no rows"


@pytest.mark.parametrize("share", [0.05, 0.5, 0.999])
@pytest.mark.parametrize("name", ["a.parquet", "a.csv.gz"])
def test_truncated_files(tmp_path: Path, name: str, share: float) -> None:
    rows = make_rows("X", days(300))
    path = tmp_path / name
    if name == "a.parquet":
        content = write_parquet(path, rows).read_bytes()
    else:
        content = gzip.compress(write_csv(tmp_path / "a.csv", rows).read_bytes())
    path.write_bytes(content[: int(len(content) * share)])
    assert message(path).startswith(
        f"{name}: cannot be read, it may be truncated or of another kind"
    )


def test_a_truncated_csv_ends_within_a_bar(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", make_rows("X", days(5)))
    whole = path.read_text()
    path.write_text(whole[: whole.rindex(",")])
    assert message(path).startswith("a.csv, line 6 (X, 2017-01-06): column volume has no value")


def test_files_of_another_kind(tmp_path: Path) -> None:
    for name in ("a.parquet", "a.csv.gz"):
        write_csv(tmp_path / name, make_rows("X", days(3)))
        assert message(tmp_path / name).startswith(f"{name}: cannot be read, it may be truncated")


@pytest.mark.parametrize("lines", [[1], [0, 1, 2]])
def test_lines_with_too_many_cells(tmp_path: Path, lines: list[int]) -> None:
    rows: list[tuple[object, ...]] = list(make_rows("X", days(3)))
    for line in lines:
        rows[line] = (*rows[line], 5)
    expected = f"a.csv, line {lines[0] + 2}: has 8 fields, line 1 has 7; give each line as many"
    assert message(write_csv(tmp_path / "a.csv", rows)).startswith(expected)
    gzipped = tmp_path / "a.csv.gz"
    gzipped.write_bytes(gzip.compress((tmp_path / "a.csv").read_bytes()))
    assert message(gzipped).startswith(expected.replace("a.csv", "a.csv.gz"))
    with pytest.raises(DataError, match=f"line {lines[0] + 2}: has 8 fields, line 1 has 7; "):
        read_foreign(tmp_path / "a.csv")


def test_a_file_separated_by_something_else(tmp_path: Path) -> None:
    for mark in (";", "\t", "|"):
        path = write_csv(tmp_path / "a.csv", make_rows("X", days(3)))
        path.write_text(path.read_text().replace(",", mark))
        assert load_bars(path).n_bars == len(read_foreign(path).frame) == 3


def test_a_binary_file_is_no_csv_text(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"PK\x03\x04\x14\x00\x08\x00,1\n2,3\n")
    assert message(path) == (
        "a.csv: is no CSV text: line 1 holds a zero byte; export it as CSV in UTF-8"
    )
    path.write_bytes(HEADER.encode() + b"\n\xe9,1")
    assert message(path) == (
        "a.csv: is not UTF-8 text, so it is no CSV file (invalid continuation byte at byte"
        f" {len(HEADER) + 1}); export it again as CSV in UTF-8"
    )


@pytest.mark.parametrize("word", ["never", "2017-13-01", "12:00"])
def test_a_time_that_is_none_among_times_with_offsets(word: str, tmp_path: Path) -> None:
    rows = [
        ("X", f"2017-01-0{day}T00:00:00+00:00", 1, 2, 0.5, 1.5, 9) for day in range(2, 6)
    ]  # fmt: skip
    rows[2] = ("X", word, *rows[2][2:])
    assert message(write_csv(tmp_path / "a.csv", rows)).startswith(
        f"a.csv, line 4 (X): timestamp '{word}' is not an ISO date or time; write it as 2017-01-03"
    )


def test_a_row_that_is_repeated_at_the_end(tmp_path: Path) -> None:
    rows = [*make_rows("X", days(6)), *make_rows("Y", days(6))]
    rows.append(rows[2])
    assert message(write_csv(tmp_path / "a.csv", rows)).startswith(
        "a.csv, line 14 (X, 2017-01-04): column timestamp repeats line 4; keep one bar for each time"
    )


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (
            "symbol,timestamp,open,high,low,settle,volume",
            "no column close; found: symbol, timestamp, open, high, low, settle, volume; "
            "accepted names, in any case: close",
        ),
        (
            "symbol,when,open,high,low,close,volume",
            "accepted names, in any case: timestamp or date",
        ),
        ("a;b;c", "no known format has its columns: a, b, c; known: Yahoo"),
        ("symbol,date,time,high,low,close,volume", "no column open; found: symbol, date, time"),
        (
            "symbol,timestamp,open,high,low,close,CLOSE",
            "several columns could be close: close, CLOSE",
        ),
    ],
)
def test_columns_that_are_missing(tmp_path: Path, header: str, expected: str) -> None:
    rows = make_rows("X", days(3))
    text = message(write_csv(tmp_path / "a.csv", rows, header))
    assert text.startswith("a.csv: ")
    assert expected in text
    if len(header.split(",")) == len(set(header.lower().split(","))) == 7:
        frame = pd.DataFrame(rows, columns=header.split(","))
        frame.to_parquet(tmp_path / "a.parquet")
        assert expected in message(tmp_path / "a.parquet")


@settings(max_examples=60)
@given(st.integers(0, 4), st.integers(0, 6), st.text(max_size=6))
def test_any_cell_is_read_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, line: int, column: int, text: str
) -> None:
    rows: list[list[object]] = [list(row) for row in make_rows("X", days(5))]
    rows[line][column] = text
    buffer = io.StringIO()
    csv.writer(buffer).writerows([HEADER.split(","), *rows])
    path = tmp_path_factory.mktemp("bars") / "a.csv"
    path.write_bytes(buffer.getvalue().encode("utf-8", errors="replace"))
    try:
        bars = load_bars(path)
    except DataError:
        message(path)
    else:
        assert np.isfinite(bars.close).all()


# --- Small functions ----------------------------------------------------------------------------


def test_require_bars(tmp_path: Path) -> None:
    bars = load_bars(write_csv(tmp_path / "a.csv", make_rows("X", days(5))))
    require_bars(bars, 5, "anything")
    with pytest.raises(
        DataError,
        match=re.escape(
            "a.csv: 5 bars from 2017-01-02 to 2017-01-06, but at least 6 are needed: the longest "
            "lookback is 5; take a longer span or shorter lookbacks"
        ),
    ):
        require_bars(bars, 6, "the longest lookback is 5")


@pytest.mark.parametrize("count", [0, 1])
def test_bars_per_year_of_too_few(count: int) -> None:
    none: TimeArray = np.array(["2017-01-02"] * count, dtype="datetime64[ns]")
    with pytest.raises(DataError, match="fewer than 2 bars"):
        infer_bars_per_year(none)


def test_every_file_is_closed(tmp_path: Path) -> None:
    """A file that is refused can be replaced at once: ``filterwarnings = error`` sees to it."""
    check: Callable[[Path], str] = message
    path = tmp_path / "a.parquet"
    write_parquet(path, make_rows("X", days(3)))
    table = pq.read_table(path).drop_columns("close")
    pq.write_table(table, path)
    assert "no column close" in check(path)
    path.unlink()


# --- Suspicions ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("factor", "expected"),
    [(0.25, "4:1"), (2 / 3, "3:2"), (10.0, "1:10"), (0.05, "20:1"), (0.8, None), (0.55, None)],
)
def test_suspected_splits(factor: float, expected: str | None) -> None:
    levels = np.where(np.arange(30) < 12, 100.0, 100.0 * factor)[:, None]
    found = suspected_splits(levels * 1.01, levels)
    assert found == ([] if expected is None else [(12, 0, expected)])


def test_a_price_that_comes_back_is_no_split() -> None:
    levels = np.full((30, 1), 100.0)
    levels[12] = 50.0
    assert suspected_splits(levels, levels) == []


@pytest.mark.parametrize("unit", ["header", "cell", "symbol"])
def test_line_breaks_in_a_file_do_not_break_the_message(tmp_path: Path, unit: str) -> None:
    path = tmp_path / "a.csv"
    rows = [list(row) for row in make_rows("X", days(3))]
    header: list[object] = list(HEADER.split(","))
    if unit == "header":
        header[2] = "op\nen"
    else:
        rows[1][0 if unit == "symbol" else 3] = "a\nb"
    if unit == "symbol":
        rows[1][3] = -1.0
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    assert r"\n" in message(path)


@pytest.mark.parametrize("name", ["symbol", "timestamp"])
@pytest.mark.parametrize("cell", [[1], {"a": 1}])
def test_nested_cells_are_refused(tmp_path: Path, name: str, cell: object) -> None:
    frame = pd.DataFrame(make_rows("X", days(2)), columns=HEADER.split(","))
    frame[name] = pd.Series([cell, cell])
    frame.to_parquet(tmp_path / "a.parquet")
    assert re.search(rf"row 1( \(X\))?: column {name} holds", message(tmp_path / "a.parquet"))


def test_numbers_past_the_clock_are_refused(tmp_path: Path) -> None:
    rows = make_rows("X", ["90000000000.5", "90000086400.5"])
    assert "out of range; years 1678 to 2261" in message(write_csv(tmp_path / "a.csv", rows))
