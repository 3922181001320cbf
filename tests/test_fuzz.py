"""Whatever a file holds: a result, or one line that says what is wrong, and exit code 2.

Files are damaged from good ones, so that most get past the first check.
"""

from __future__ import annotations

import contextlib
import copy
import datetime
import decimal
import gzip
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tomli_w
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from optimizer.bars.fixes import Fixes
from optimizer.bars.importing import import_bars
from optimizer.bars.load import load_bars
from optimizer.catalogue import METRICS
from optimizer.errors import BarsweepError, DataError
from optimizer.review.replay import replay
from optimizer.search.combine import combine
from optimizer.search.run import run_study
from optimizer.store.batch_files import holdout_path
from optimizer.store.columns import OUT_OF_SAMPLE
from optimizer.store.export import export_sets, load_export
from optimizer.store.folder import StudyFolder
from optimizer.study_file.load import load_study
from optimizer.types import Bars
from tests.optimizer.bars import test_exports as exports
from tests.optimizer.bars import test_foreign as formats
from tests.support.command import barsweep
from tests.support.studies import mapping, random_bars, small_study, write_bars

SLOW = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]

# --- Damage -----------------------------------------------------------------------------------

PIECES = [
    *("", "nan", "inf", "-inf", "1e400", "-1", "0", "1e-320", "1e308", '"', "'", "\x00", "é", ";"),
    *("99999999999999999999", "-9223372036854775808", "1_000", "١٢", "0x10", "=1+1", "\n", "\t"),
    *("9999-12-31", "0001-01-01", "2017-13-45", "2017-01-03T00:00:00+99:00", "now", "NaT"),
    *("20170103", "1483401600", "1483401600000", "2017-01-03 24:00", "12:00", "true", "  "),
]
SHARES = st.floats(0, 1, exclude_max=True)


@st.composite
def damages(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """One to three edits of a file: bytes changed, cut, put in or repeated, cells replaced."""
    kinds = st.sampled_from(["byte", "cut", "end", "insert", "repeat", "cell", "line"])
    edits = draw(
        st.lists(
            st.tuples(kinds, SHARES, SHARES, st.sampled_from(PIECES), st.integers(0, 255)),
            min_size=1,
            max_size=3,
        )
    )

    def apply(data: bytes) -> bytes:
        for kind, share, other, piece, byte in edits:
            at = int(share * len(data))
            if kind == "byte":
                data = data[:at] + bytes([byte]) + data[at + 1 :]
            elif kind == "cut":
                data = data[:at] + data[at + 1 + int(other * 20) :]
            elif kind == "end":
                data = data[:at]
            elif kind == "insert":
                data = data[:at] + piece.encode() + data[at:]
            elif kind == "repeat":
                start = int(other * len(data))
                data = data[:at] + data[start : start + 40] + data[at:]
            else:
                lines = data.split(b"\n")
                row = int(share * len(lines))
                cells = lines[row].split(b",")
                if kind == "cell":
                    cells[int(other * len(cells))] = piece.encode()
                    lines[row] = b",".join(cells)
                else:
                    lines.insert(int(other * len(lines)), lines[row])
                data = b"\n".join(lines)
        return data

    return apply


def assert_valid(bars: Bars) -> None:
    for name in ("open", "high", "low", "close", "volume"):
        values = getattr(bars, name)
        assert values.shape == (bars.n_bars, bars.n_symbols)
        assert np.isfinite(values).all()
    assert (bars.low > 0).all() and (bars.volume >= 0).all()
    assert (np.diff(bars.timestamps) > np.timedelta64(0)).all()
    assert np.isfinite(bars.bars_per_year) and bars.bars_per_year > 0


@contextlib.contextmanager
def one_line_or_fine(path: Path, *others: str) -> Iterator[None]:
    """What is raised is ours, one line that names the file or one of others; the file stays."""
    before = path.read_bytes()
    try:
        yield
    except BarsweepError as error:
        text = str(error)
        assert len(text.splitlines()) == 1 and any(n in text for n in (path.name, *others)), text
    assert path.read_bytes() == before


def check_bars(path: Path) -> None:
    with one_line_or_fine(path):
        assert_valid(load_bars(path))


def check_import(path: Path, fixes: Fixes) -> None:
    out = path.with_name("out.parquet")
    out.unlink(missing_ok=True)
    with one_line_or_fine(path):
        try:
            report = import_bars([path], out, fixes=fixes)
        except DataError:
            assert not out.exists()
            raise
        assert all(len(line.splitlines()) == 1 for line in report.lines())
        assert report.symbols
        for one in report.symbols:
            if one.bars > 1:
                assert_valid(load_bars(out, one.symbol))


# --- Bars -------------------------------------------------------------------------------------

CSV = "symbol,timestamp,open,high,low,close,volume\n" + "".join(
    f"{symbol},2017-01-{day:02},{price},{price + 1},{price - 1},{price},10\n"
    for symbol, price in (("A", 100), ("B", 1.5))
    for day in range(2, 12)
)
FIXES = st.builds(Fixes, *[st.booleans()] * 5)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@settings(max_examples=150, suppress_health_check=SLOW)
@given(damage=damages())
def test_a_damaged_csv(home: Path, damage: Callable[[bytes], bytes]) -> None:
    path = home / "bars.csv"
    path.write_bytes(damage(CSV.encode()))
    check_bars(path)


@settings(max_examples=60, suppress_health_check=SLOW)
@given(content=st.binary(max_size=60), suffix=st.sampled_from(["csv", "csv.gz", "parquet", "json"]))
def test_noise(home: Path, content: bytes, suffix: str) -> None:
    path = home / f"noise.{suffix}"
    path.write_bytes(content)
    check_bars(path)
    check_import(path, Fixes())


@settings(max_examples=150, suppress_health_check=SLOW)
@given(damage=damages(), rows=st.integers(0, 30))
def test_a_damaged_parquet(home: Path, damage: Callable[[bytes], bytes], rows: int) -> None:
    good = home / "good.parquet"
    if not good.exists():
        write_bars(good, random_bars(30))
    path = home / "bars.parquet"
    path.write_bytes(damage(good.read_bytes()))
    check_bars(path)


TYPES = [
    *(pa.int8(), pa.uint64(), pa.float16(), pa.float64(), pa.bool_(), pa.string(), pa.binary()),
    *(pa.date32(), pa.date64(), pa.time64("us"), pa.timestamp("s"), pa.timestamp("ns", "+05:00")),
    *(pa.duration("ns"), pa.decimal128(10, 2), pa.list_(pa.int64()), pa.null()),
    *(pa.struct([("a", pa.int64())]), pa.dictionary(pa.int8(), pa.string())),
]
CELLS: list[Any] = [
    *(None, 1, 0, -1, 1.5, float("nan"), float("inf"), "x", "2017-01-03", True, b"z", [1]),
    *({"a": 1}, decimal.Decimal("1.5"), datetime.date(2017, 1, 3), datetime.time(1)),
    *(datetime.datetime(2017, 1, 3), datetime.timedelta(1), 10**18),
]


@settings(max_examples=150, suppress_health_check=SLOW)
@given(
    column=st.sampled_from(["symbol", "timestamp", "open", "close", "volume"]),
    kind=st.sampled_from(TYPES),
    cells=st.lists(st.sampled_from(CELLS), min_size=3, max_size=3),
)
def test_parquet_columns_of_any_type(
    home: Path, column: str, kind: pa.DataType, cells: list[Any]
) -> None:
    table = {"symbol": ["A"] * 3, "timestamp": [datetime.datetime(2017, 1, d) for d in (2, 3, 4)]}
    columns = {name: pa.array([10.0] * 3) for name in ("open", "high", "low", "close", "volume")}
    columns |= {name: pa.array(values) for name, values in table.items()}
    try:
        columns[column] = pa.array(cells, kind)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        columns[column] = pa.nulls(3, kind)
    path = home / "typed.parquet"
    try:
        pq.write_table(pa.table(columns), path)
    except pa.ArrowInvalid:  # 10**18 seconds, which Parquet cannot hold
        reject()
    check_bars(path)
    check_import(path, Fixes(drop_bad_rows=True))


TEXTS = [
    *(formats.YAHOO, formats.YFINANCE, formats.YFINANCE_BY_TICKER, formats.HISTORY, formats.STOOQ),
    *(formats.STOOQ_POLISH, formats.STOOQ_BULK, formats.KLINES_MS, formats.MT4, formats.MT5),
    *(formats.MT5_DAILY, formats.ALPACA, formats.ALPACA_RAW, formats.TIDY),
    formats.KLINES_HEAD + formats.KLINES_US,
    *(text for _, _, text, _ in exports.EXPORTS.values()),
]


@settings(max_examples=250, suppress_health_check=SLOW)
@given(
    text=st.sampled_from(TEXTS),
    damage=damages(),
    fixes=FIXES,
    zipped=st.sampled_from([False] * 9 + [True]),
)
def test_a_damaged_export_of_another_program(
    home: Path, text: str, damage: Callable[[bytes], bytes], fixes: Fixes, zipped: bool
) -> None:
    path = home / ("theirs.csv.gz" if zipped else "theirs.csv")
    data = damage(text.encode())
    path.write_bytes(gzip.compress(data) if zipped else data)
    check_import(path, fixes)
    check_bars(path)


@settings(max_examples=80, suppress_health_check=SLOW)
@given(damage=damages(), fixes=FIXES, name=st.sampled_from(["A_B-1d.json", "A_B-1d.feather"]))
def test_a_damaged_file_of_freqtrade(
    home: Path, damage: Callable[[bytes], bytes], fixes: Fixes, name: str
) -> None:
    path = home / name
    if name.endswith("json"):
        content = b"[[1483401600000,1,2,1,2,1],[1483488000000,1,2,1,2,1]]"
    else:
        formats.FREQTRADE.to_feather(path)
        content = path.read_bytes()
    path.write_bytes(damage(content))
    check_import(path, fixes)


# --- Study files and exports --------------------------------------------------------------------

VALUES: list[Any] = [
    *(None, True, 0, 1, -1, 3.7, 1e308, float("nan"), float("inf"), 2**63, 10**30, "", "x", "../x"),
    *("\n", "\x00", "é" * 200, [], {}, [1], [[1]], {"a": 1}, {"sweep": [1, 2]}, "2017-01-03"),
    *({"low": 0, "high": 1e9, "step": 1e-9}, {"low": 1, "high": 2}, {"choices": []}, 10**6),
]


def places(content: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if above:
        yield above
    pairs: Sequence[tuple[Any, Any]] = ()
    if isinstance(content, dict):
        pairs = list(content.items())
    elif isinstance(content, list):
        pairs = list(enumerate(content))
    for key, value in pairs:
        yield from places(value, (*above, key))


@st.composite
def edits(draw: st.DrawFn) -> Callable[[Any], Any]:
    """One to three values of a tree replaced, removed or added."""
    chosen = draw(
        st.lists(
            st.tuples(SHARES, st.sampled_from(["set", "set", "set", "drop", "add"]), SHARES),
            min_size=1,
            max_size=3,
        )
    )

    def apply(content: Any) -> Any:
        content = copy.deepcopy(content)
        for share, kind, other in chosen:
            every = list(places(content))
            if not every:
                break
            place = every[int(share * len(every))]
            holder = content
            for key in place[:-1]:
                holder = holder[key]
            value = copy.deepcopy(VALUES[int(other * len(VALUES))])
            if kind == "drop":
                del holder[place[-1]]
            elif kind == "add" and isinstance(holder, dict):
                holder["../added"] = value
            else:
                holder[place[-1]] = value
        return content

    return apply


STUDY = mapping(
    "bars.parquet",
    classifier={"name": "hmm"},
    costs={"commission_bps": 1.0},
    workers={"count": 1},
    analytics={"url": "sqlite:///trace.db"},
)


@settings(max_examples=200, suppress_health_check=SLOW)
@given(edit=edits(), damage=st.none() | damages())
def test_a_damaged_study_file(
    home: Path, edit: Callable[[Any], Any], damage: Callable[[bytes], bytes] | None
) -> None:
    path = home / "study.toml"
    try:
        data = tomli_w.dumps(edit(STUDY)).encode()
    except TypeError:  # TOML has no null
        return
    path.write_bytes(damage(data) if damage is not None else data)
    with one_line_or_fine(path):
        study = load_study(path)
        assert len(study.content_hash) == 64


@pytest.fixture(scope="module")
def exported(home: Path) -> Path:
    """An export of two sets, next to its bars."""
    bars = write_bars(home / "study" / "bars.parquet", random_bars(150))
    run_study(small_study(bars), out=home / "study" / "out", workers=1)
    return export_sets(home / "study" / "out", top=2, out=home / "study" / "best.json")


COMPILED = {"allow_short", "first_bar", "stop_loss", "take_profit", "trailing_stop"}
"""Keys that choose what is compiled: a value that is fit for them takes seconds, and is no error."""


@settings(max_examples=120, suppress_health_check=SLOW)
@given(edit=edits(), damage=st.sampled_from([None, None]) | damages())
def test_a_damaged_export(
    exported: Path, edit: Callable[[Any], Any], damage: Callable[[bytes], bytes] | None
) -> None:
    content = load_export(exported)
    changed = edit(content)
    if any(_at(content, place) != _at(changed, place) for place in _compiled(content)):
        return
    path = exported.with_name("changed.json")
    data = json.dumps(changed).encode()
    path.write_bytes(damage(data) if damage is not None else data)
    with one_line_or_fine(path, "bars.parquet", "bars"):
        replay(path)


@pytest.fixture(scope="module")
def combined(exported: Path) -> Path:
    """A combination of two sets, in the same folder."""
    folder = exported.parent
    return combine([folder / "out"], top=4, max_correlation=0.999, out=folder / "book.json").path


@settings(max_examples=60, suppress_health_check=SLOW)
@given(edit=edits(), damage=st.sampled_from([None, None]) | damages())
def test_a_damaged_combination(
    combined: Path, edit: Callable[[Any], Any], damage: Callable[[bytes], bytes] | None
) -> None:
    content = json.loads(combined.read_text())
    changed = edit(content)
    if any(_at(content, place) != _at(changed, place) for place in _compiled(content)):
        return
    path = combined.with_name("changed.json")
    data = json.dumps(changed).encode()
    path.write_bytes(damage(data) if damage is not None else data)
    with one_line_or_fine(path, "bars.parquet", "bars"):
        replay(path)


def _compiled(content: Any) -> list[tuple[Any, ...]]:
    return [place for place in places(content) if place[-1] in COMPILED]


def _at(content: Any, place: tuple[Any, ...]) -> Any:
    for key in place:
        try:
            content = content[key]
        except (KeyError, IndexError, TypeError):
            return None
    return content


# --- The command line ---------------------------------------------------------------------------


@settings(max_examples=40, suppress_health_check=SLOW)
@given(damage=damages(), kind=st.sampled_from(["check", "replay", "import"]))
def test_exit_codes(
    home: Path, exported: Path, damage: Callable[[bytes], bytes], kind: str
) -> None:
    folder = home / "study"
    if kind == "check":
        path = folder / "command.toml"
        path.write_bytes(damage(tomli_w.dumps(STUDY).encode()))
        done = barsweep("check", path, folder=home)
    elif kind == "replay":
        path = folder / "command.json"
        path.write_bytes(damage(exported.read_bytes()))
        done = barsweep("replay", path, folder=home)
    else:
        path = folder / "command.csv"
        path.write_bytes(damage(formats.YAHOO.encode()))
        out = folder / "command.parquet"
        done = barsweep("data", "import", path, "--out", out, "--overwrite", folder=home)
    code, text = done.returncode, done.stderr
    assert code in ((0, 1, 2) if kind == "replay" else (0, 2)), text
    assert "Traceback" not in text
    if code == 2:
        assert text.startswith("error: ") and text.count("\n") == 1, text


# --- Values that break numbers ------------------------------------------------------------------


def scaled(bars: Bars, factor: Any, volume: float | None = None) -> Bars:
    prices: dict[str, Any] = {
        name: getattr(bars, name) * factor for name in ("open", "high", "low", "close")
    }
    volumes = bars.volume if volume is None else np.full_like(bars.volume, volume)
    return replace(bars, **prices, volume=volumes)


def constant(bars: Bars) -> Bars:
    prices: dict[str, Any] = {
        name: np.full_like(bars.close, 100.0) for name in ("open", "high", "low", "close")
    }
    return replace(bars, **prices)


def split(bars: Bars) -> Bars:
    after = (np.arange(bars.n_bars) >= 150)[:, None] & (np.arange(bars.n_symbols) == 1)
    return scaled(bars, np.where(after, 0.25, 1.0))


def without(bars: Bars, start: int, stop: int) -> Bars:
    kept = np.r_[0:start, stop : bars.n_bars]
    values: dict[str, Any] = {
        n: getattr(bars, n)[kept] for n in ("open", "high", "low", "close", "volume")
    }
    return replace(bars, timestamps=bars.timestamps[kept], **values)


PROMISED = (
    *("total_return", "max_drawdown", "exposure", "turnover", "n_trades", "final_equity"),
    *("costs_paid", "ruined"),
)
"""Metrics that are a number of every parameter set, whatever it did."""


def results_of(tmp_path: Path, bars: Bars, **tables: Any) -> pd.DataFrame:
    path = write_bars(tmp_path / "bars.parquet", bars)
    study = small_study(path, **{"search": {"trials": 6, "batch": 6}, **tables})
    run_study(study, out=tmp_path / "out", workers=1)
    folder = StudyFolder.open(tmp_path / "out")
    batches = folder.batch_paths()
    for path in (*batches, *map(holdout_path, batches)):
        for name, column in zip(
            (table := pq.read_table(path)).column_names, table.columns, strict=True
        ):
            if pa.types.is_floating(column.type):
                numbers = column.drop_null().to_numpy()
                assert np.isfinite(numbers).all(), name  # undefined is null, never NaN
    frame = folder.results()
    frame = frame.join(folder.holdout(frame["set"].tolist()), on="set")
    for name in PROMISED:
        assert frame[name].notna().all(), name
        assert frame[f"oos_{name}"].notna().all(), name
    assert set(METRICS) | set(OUT_OF_SAMPLE) <= set(frame.columns)
    return frame


@pytest.mark.parametrize("strategy", ["momentum", "mean_reversion", "sma_cross", "breakout"])
@pytest.mark.parametrize(
    "case",
    ["price 1e-8", "price 1e12", "volume 0", "constant price"],
)
def test_values_that_break_numbers(tmp_path: Path, case: str, strategy: str) -> None:
    bars = random_bars(200)
    broken = {
        "price 1e-8": lambda: scaled(bars, 1e-10),
        "price 1e12": lambda: scaled(bars, 1e10),
        "volume 0": lambda: scaled(bars, 1.0, 0.0),
        "constant price": lambda: constant(bars),
    }[case]()
    tables: dict[str, Any] = {}
    if strategy != "momentum":
        tables["strategy"] = [{"name": strategy}]
    if case == "price 1e12":
        tables["risk"] = {"lot_size": 1e-9, "min_order_size": 1e-9}
    frame = results_of(tmp_path, broken, **tables)
    if case == "constant price":
        assert (frame["n_trades"] == 0).all() and (frame["total_return"] == 0).all()
        assert frame["sharpe"].isna().all()
    elif strategy == "momentum":
        assert (frame["n_trades"] > 0).any()
    if case == "price 1e12" and strategy == "momentum":
        # The same study in other units: whole lots aside, results are those of the plain bars.
        (tmp_path / "plain").mkdir()
        plain = results_of(
            tmp_path / "plain", bars, risk={"lot_size": 10.0, "min_order_size": 10.0}
        )
        assert np.allclose(frame["total_return"], plain["total_return"], rtol=1e-6, atol=1e-9)


def test_one_bar(tmp_path: Path) -> None:
    path = write_bars(tmp_path / "bars.parquet", without(random_bars(3), 1, 3))
    with pytest.raises(DataError, match=r"bars\.parquet: only 1 bar"):
        load_bars(path)
    with pytest.raises(DataError, match=r"bars\.parquet: only 1 bar"):
        run_study(small_study(path), out=tmp_path / "out", workers=1)
    assert not (tmp_path / "out").exists()


def test_symbols_that_do_not_overlap(tmp_path: Path) -> None:
    first, second = tmp_path / "a.parquet", tmp_path / "b.parquet"
    write_bars(first, without(random_bars(100, ("A",)), 50, 100))
    write_bars(second, without(random_bars(100, ("B",)), 0, 50))
    path = tmp_path / "bars.parquet"
    pd.concat([pd.read_parquet(first), pd.read_parquet(second)]).to_parquet(path)
    with pytest.raises(DataError, match=r"no timestamp is common to all symbols: A 2015.*; B|, B"):
        run_study(small_study(path), out=tmp_path / "out", workers=1)
    assert not (tmp_path / "out").exists()


def test_a_split_that_is_left_in_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    results_of(tmp_path, split(random_bars(300)))
    [warning] = [one.message for one in caplog.records if "split" in one.message]
    day = str(random_bars(300).timestamps[150])[:10]
    assert f"BBB 4:1 at {day}; adjust them" in warning


def test_no_split_is_seen_in_real_bars(caplog: pytest.LogCaptureFixture) -> None:
    data = Path(__file__).parent.parent / "studies" / "data"
    load_bars(data / "us_daily.parquet")
    load_bars(data / "crypto_5m.parquet")
    assert not [one for one in caplog.records if "split" in one.message]


def test_days_that_are_missing_are_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bars = random_bars(300)
    holed = without(bars, 120, 163)  # 43 business days: 60 and some days of the calendar
    results_of(tmp_path, holed)
    [warning] = [one.message for one in caplog.records if "long gaps without bars" in one.message]
    around = f"{str(bars.timestamps[119])[:10]} to {str(bars.timestamps[163])[:10]} (62 days)"
    assert around in warning
    report = import_bars([tmp_path / "bars.parquet"], tmp_path / "again.parquet")
    days = pd.DatetimeIndex(holed.timestamps)
    missing = len(pd.bdate_range(days[0], days[-1])) - len(days)  # the holidays of the bars too
    assert [len(one.missing_days) for one in report.symbols] == [missing] * 3
    caplog.clear()
    load_bars(write_bars(tmp_path / "whole.parquet", bars))
    assert not caplog.records
