"""Files as other programs write them: small ones by hand, in the shapes that those document."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from optimizer.bars.fixes import Fixes
from optimizer.bars.foreign import read_foreign
from optimizer.bars.importing import import_bars
from optimizer.bars.load import load_bars
from optimizer.bars.rows import Rows
from optimizer.bars.symbols import symbol_of
from optimizer.bars.timestamps import read_times, read_zone
from optimizer.errors import DataError
from optimizer.types import Bars

YAHOO = """Date,Open,High,Low,Close,Adj Close,Volume
2017-01-03,100,102,99,101,50.5,1000
2017-01-04,101,103,100,102,51,1100
"""
YFINANCE = """Price,Adj Close,Adj Close,Close,Close,High,High,Low,Low,Open,Open,Volume,Volume
Ticker,AAPL,MSFT,AAPL,MSFT,AAPL,MSFT,AAPL,MSFT,AAPL,MSFT,AAPL,MSFT
Date,,,,,,,,,,,,
2017-01-03,50.5,,101,,102,,99,,100,,1000,
2017-01-04,51.0,7,102,8,103,9,100,6,101,7,1100,5
2017-01-05,,7,,8,,9,,6,,7,,5
"""
YFINANCE_BY_TICKER = """Ticker,AAPL,AAPL,AAPL,AAPL,AAPL
Price,Open,High,Low,Close,Volume
Datetime,,,,,
2017-01-03 09:30:00-05:00,100,102,99,101,1000
2017-01-03 09:35:00-05:00,101,103,100,102,1100
"""
HISTORY = """Date,Open,High,Low,Close,Volume,Dividends,Stock Splits
2017-01-03 00:00:00-05:00,100,102,99,101,1000,0.0,0.0
2017-01-04 00:00:00-05:00,101,103,100,102,1100,0.0,0.0
"""
STOOQ = """Date,Open,High,Low,Close,Volume
2017-01-03,100,102,99,101,1000
2017-01-04,101,103,100,102,1100
"""
STOOQ_POLISH = """Data,Otwarcie,Najwyzszy,Najnizszy,Zamkniecie,Wolumen
2017-01-03,100,102,99,101,1000
2017-01-04,101,103,100,102,1100
"""
STOOQ_BULK = """<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>
SPY.US,D,20170103,000000,100,102,99,101,1000,0
SPY.US,D,20170104,000000,101,103,100,102,1100,0
"""
STOOQ_5_MINUTES = """<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>
SPY.US,5,20170103,093000,100,102,99,101,1000,0
SPY.US,5,20170103,093500,101,103,100,102,1100,0
"""
KLINES_MS = """1483401600000,100,102,99,101,1000,1483487999999,0,308,0,0,0
1483488000000,101,103,100,102,1100,1483574399999,0,308,0,0,0
"""
KLINES_US = """1483401600000000,100,102,99,101,1000,1483487999999999,0,308,0,0,0
1483488000000000,101,103,100,102,1100,1483574399999999,0,308,0,0,0
"""
KLINES_HEAD = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,"
    "taker_buy_quote_volume,ignore\n"
)
MT5 = (
    "<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>\n"
    "2017.01.03\t00:00:00\t100\t102\t99\t101\t1000\t0\t5\n"
    "2017.01.04\t00:00:00\t101\t103\t100\t102\t1100\t0\t5\n"
)
MT5_DAILY = (
    "<DATE>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>\n"
    "2017.01.03\t100\t102\t99\t101\t7\t1000\t5\n"
    "2017.01.04\t101\t103\t100\t102\t7\t1100\t5\n"
)
MT4 = "2017.01.03,00:00,100,102,99,101,1000\n2017.01.04,00:00,101,103,100,102,1100\n"
ALPACA = """symbol,timestamp,open,high,low,close,volume,trade_count,vwap
SPY,2017-01-03 05:00:00+00:00,100.0,102.0,99.0,101.0,1000.0,50.0,100.5
SPY,2017-01-04 05:00:00+00:00,101.0,103.0,100.0,102.0,1100.0,50.0,101.5
"""
ALPACA_RAW = """t,o,h,l,c,v,n,vw
2017-01-03T05:00:00Z,100,102,99,101,1000,50,100.5
2017-01-04T05:00:00Z,101,103,100,102,1100,50,101.5
"""
TIDY = """Ticker,Datetime,Open,High,Low,Close,Volume
SPY,2017-01-03,100,102,99,101,1000
SPY,2017-01-04,101,103,100,102,1100
"""
MIDNIGHTS = ("2017-01-03", "2017-01-04")


def written(tmp_path: Path, name: str, text: str, **options: object) -> tuple[Path, Bars]:
    """The file imported, and read by our own reader."""
    path = tmp_path / name
    path.write_text(text, encoding="utf-8", newline="")
    out = tmp_path / "out" / "bars.parquet"
    import_bars([path], out, **options)  # type: ignore[arg-type]
    return path, load_bars(out)


@pytest.mark.parametrize(
    ("name", "text", "format", "symbol", "times"),
    [
        ("SPY.csv", YAHOO, "Yahoo", "SPY", MIDNIGHTS),
        ("SPY.csv", HISTORY, "Yahoo (yfinance)", "SPY", ("2017-01-03T05", "2017-01-04T05")),
        (
            "x.csv",
            YFINANCE_BY_TICKER,
            "Yahoo (yfinance)",
            "AAPL",
            ("2017-01-03T14:30", "2017-01-03T14:35"),
        ),
        ("spy_us_d.csv", STOOQ, "Stooq or plain", "SPY.US", MIDNIGHTS),
        ("^spx_d.csv", STOOQ_POLISH, "Stooq", "^SPX", MIDNIGHTS),
        ("spy.us.txt", STOOQ_BULK, "Stooq (bulk)", "SPY.US", MIDNIGHTS),
        (
            "spy.us.txt",
            STOOQ_5_MINUTES,
            "Stooq (bulk)",
            "SPY.US",
            ("2017-01-03T09:30", "2017-01-03T09:35"),
        ),
        ("BTCUSDT-1d-2017-01.csv", KLINES_MS, "Binance klines", "BTCUSDT", MIDNIGHTS),
        ("BTCUSDT-1d-2017-01-03.csv", KLINES_US, "Binance klines", "BTCUSDT", MIDNIGHTS),
        ("BTCUSDT-1d-2017-01.csv", KLINES_HEAD + KLINES_MS, "Binance klines", "BTCUSDT", MIDNIGHTS),
        ("BTCUSDT-1mo.csv", KLINES_HEAD + KLINES_US, "Binance klines", "BTCUSDT", MIDNIGHTS),
        ("EURUSD_D1_201701030000_201701040000.csv", MT5, "MetaTrader 5", "EURUSD", MIDNIGHTS),
        ("EURUSD_Daily.csv", MT5_DAILY, "MetaTrader 5", "EURUSD", MIDNIGHTS),
        ("EURUSD_H1.csv", MT5.replace("\t", ","), "MetaTrader 5", "EURUSD", MIDNIGHTS),
        ("EURUSD1440.csv", MT4, "MetaTrader 4", "EURUSD", MIDNIGHTS),
        ("bars.csv", ALPACA, "Alpaca", "SPY", ("2017-01-03T05", "2017-01-04T05")),
        ("SPY.csv", ALPACA_RAW, "Alpaca", "SPY", ("2017-01-03T05", "2017-01-04T05")),
        ("any.csv", TIDY, "tidy bars", "SPY", MIDNIGHTS),
    ],
)
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_formats(
    tmp_path: Path,
    name: str,
    text: str,
    format: str,
    symbol: str,
    times: Sequence[str],
    ends: str,
) -> None:
    path, bars = written(tmp_path, name, text.replace("\n", ends))
    assert read_foreign(path).format == format
    assert bars.symbols == (symbol,)
    assert bars.timestamps.tolist() == np.array(times, dtype="datetime64[ns]").tolist()
    assert bars.open[:, 0].tolist() == [100, 101]
    assert bars.high[:, 0].tolist() == [102, 103]
    assert bars.low[:, 0].tolist() == [99, 100]
    assert bars.close[:, 0].tolist() == [101, 102]
    assert bars.volume[:, 0].tolist() == [1000, 1100]
    assert path.read_text(encoding="utf-8") == text  # untouched


LEAN = """34200000,1680100,1680500,1680000,1680300,12345
34260000,1680300,1680900,1680200,1680800,2345
57540000,1681100,1681200,1680900,1681000,999
"""


@pytest.mark.parametrize("name", ["20131007_spy_minute_trade.csv", "spy/20131007_trade.csv"])
def test_minutes_of_lean(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    _, bars = written(tmp_path, name, LEAN, timezone="America/New_York")
    assert bars.symbols == ("SPY",)
    wanted = ["2013-10-07T13:30", "2013-10-07T13:31", "2013-10-07T19:59"]
    assert bars.timestamps.tolist() == np.array(wanted, "datetime64[ns]").tolist()
    assert bars.open[:, 0].tolist() == [168.01, 168.03, 168.11]
    assert bars.close[:, 0].tolist() == [168.03, 168.08, 168.1]
    assert bars.volume[:, 0].tolist() == [12345, 2345, 999]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (LEAN.replace("34260000", "86400000"), "line 2: 86400000 is no time of a day"),
        (LEAN.replace(",12345", ",1,2").replace(",2345", ",1,2"), "has 7 columns; expected the 6"),
    ],
)
def test_minutes_of_lean_that_are_none(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "20131007_spy_minute_trade.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=words):
        read_foreign(path)
    wrong = path.rename(tmp_path / "20131307_spy_minute_trade.csv")
    with pytest.raises(DataError, match="20131307 in its name is no date"):
        read_foreign(wrong)


def test_the_time_of_metatraders_servers() -> None:
    """Seven hours ahead of New York, whose summer begins before Europe's."""
    rows = [
        "2003.04.04 00:00:00",
        "2017.01.04 00:00:00",
        "2017.03.14 12:00:00",
        "2040.07.04 00:00:00",
    ]
    times = pd.DataFrame({"timestamp": [row.replace(".", "-") for row in rows]})
    found = read_times(Rows("bars.csv", "line", times), read_zone("", "metatrader"))
    local = pd.to_datetime(pd.Series(rows), format="%Y.%m.%d %H:%M:%S") - pd.Timedelta(hours=7)
    wanted = local.dt.tz_localize("America/New_York").dt.tz_convert("UTC")
    np.testing.assert_array_equal(found.time, wanted.dt.tz_localize(None).to_numpy())
    with pytest.raises(
        DataError, match=r"no time zone .MetaTrade.; .* or MetaTrader for its servers"
    ):
        read_zone("--timezone", "MetaTrade")


def test_yfinance_with_two_tickers_of_different_days(tmp_path: Path) -> None:
    path = tmp_path / "prices.csv"
    path.write_text(YFINANCE)
    out = tmp_path / "bars.parquet"
    report = import_bars([path], out)
    assert [(one.symbol, one.bars) for one in report.symbols] == [("AAPL", 2), ("MSFT", 2)]
    frame = pd.read_parquet(out)
    assert frame[frame["symbol"] == "MSFT"]["close"].tolist() == [8, 8]


def test_metatrader_in_utf_16(tmp_path: Path) -> None:
    path = tmp_path / "EURUSD_D1.csv"
    path.write_bytes(MT5.encode("utf-16"))
    import_bars([path], tmp_path / "bars.parquet")
    assert load_bars(tmp_path / "bars.parquet").close[:, 0].tolist() == [101, 102]


@pytest.mark.parametrize("rows", [[1000, 0, "changes"], [7, 1000, "traded"]])
def test_metatrader_volume(tmp_path: Path, rows: tuple[int, int, str]) -> None:
    ticks, real, _ = rows
    path = tmp_path / "EURUSD_D1.csv"
    path.write_text(MT5.replace("1000\t0", f"{ticks}\t{real}").replace("1100\t0", f"9\t{real}"))
    found = read_foreign(path)
    assert found.frame["volume"].tolist()[0] == (real or ticks)
    assert bool(found.notes) is (real == 0)


FREQTRADE = pd.DataFrame(
    {
        "date": pd.to_datetime(["2017-01-03", "2017-01-04"], utc=True).as_unit("ms"),
        "open": [100.0, 101.0],
        "high": [102.0, 103.0],
        "low": [99.0, 100.0],
        "close": [101.0, 102.0],
        "volume": [1000.0, 1100.0],
    }
)


@pytest.mark.parametrize(
    ("name", "symbol"),
    [
        ("BTC_USDT-1d.feather", "BTC/USDT"),
        ("BTC_USDT_USDT-1d-futures.feather", "BTC/USDT:USDT"),
        ("BTC_USDT-1d.json", "BTC/USDT"),
        ("BTC_USDT-1d.json.gz", "BTC/USDT"),
        ("BTC.parquet", "BTC"),
    ],
)
def test_freqtrade(tmp_path: Path, name: str, symbol: str) -> None:
    path = tmp_path / name
    if name.endswith(".feather"):
        FREQTRADE.to_feather(path, compression_level=9, compression="lz4")
    elif name.endswith(".parquet"):
        FREQTRADE.to_parquet(path)
    else:
        numbers = FREQTRADE.assign(date=FREQTRADE["date"].astype("int64"))
        numbers.to_json(path, orient="values", compression="gzip" if name[-3:] == ".gz" else None)
        content = path.read_bytes()
        text = gzip.decompress(content) if name.endswith(".gz") else content
        assert json.loads(text)[0] == [1483401600000, 100.0, 102.0, 99.0, 101.0, 1000.0]
    before = path.read_bytes()
    import_bars([path], tmp_path / "out.parquet")
    bars = load_bars(tmp_path / "out.parquet")
    assert bars.symbols == (symbol,)
    assert bars.timestamps.tolist() == np.array(MIDNIGHTS, dtype="datetime64[ns]").tolist()
    assert bars.close[:, 0].tolist() == [101, 102]
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "symbol"),
    [
        ("AAPL.csv", "AAPL"),
        ("BRK-B.csv", "BRK-B"),
        ("ETHUSDT-5m-2024-01.csv", "ETHUSDT"),
        ("1000SHIBUSDT-5m-2024-01.csv", "1000SHIBUSDT"),
        ("DAT_MT_EURUSD_M1_201202.csv", "EURUSD"),
        ("US500_M15_202001020100_202012312345.csv", "US500"),
        ("wig_w.csv", "WIG"),
        ("ETH_BTC-1h.json.gz", "ETH/BTC"),
        ("notes.tar.csv", "notes.tar"),
    ],
)
def test_symbols_by_file_name(name: str, symbol: str) -> None:
    assert symbol_of(Path(name)) == symbol


def test_a_given_symbol(tmp_path: Path) -> None:
    _, bars = written(tmp_path, "download.csv", STOOQ, symbol="SPY")
    assert bars.symbols == ("SPY",)
    both = TIDY + "TLT,2017-01-03,1,1,1,1,1\nTLT,2017-01-04,1,1,1,1,1\n"
    with pytest.raises(DataError, match=r"the file names several symbols"):
        written(tmp_path / "out", "both.csv", both, symbol="SPY")


def test_local_times_need_their_zone(tmp_path: Path) -> None:
    _, bars = written(tmp_path, "spy.us.txt", STOOQ_5_MINUTES, timezone="Europe/Warsaw")
    assert str(bars.timestamps[0])[:16] == "2017-01-03T08:30"


def test_no_volume_is_not_made_up(tmp_path: Path) -> None:
    text = "Date,Open,High,Low,Close\n2017-01-03,1,2,1,2\n2017-01-04,1,2,1,2\n"
    with pytest.raises(DataError, match=r"SPY\.csv: no column volume; .*--zero-volume"):
        written(tmp_path, "SPY.csv", text)
    _, bars = written(tmp_path, "SPY.csv", text, fixes=Fixes(zero_volume=True))
    assert bars.volume.tolist() == [[0], [0]]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.csv", "", "is empty"),
        ("a.csv", "\n\n", "line 1 is blank"),
        ("a.csv", "a,b\n1,2\n", "no known format has its columns: a, b; known: Yahoo"),
        ("a.csv", "Date,Open,High,Low\n2017-01-03,1,1,1\n", "no column close"),
        ("a.csv", "Date,Open,Open,High,Low,Close\n", "several columns could be open"),
        ("a.csv", "Date,Open,High,Low,Close,Volume\n", "has no rows"),
        ("a.csv", YAHOO + "2017-01-05,1,1,1,1,1,1,1\n", "line 4: has 8 fields, line 1 has 7"),
        ("a.csv", "Price,Close\nTicker\nDate,\n", "different numbers"),
        ("a.json", "{}", "is not a list of"),
        ("a.json", "[[1,2,3]]", "is not a list of"),
        ("a.json", '[[1,2,3,4,5,"x"]]', "row 1: has a value that is not a number"),
        ("a.json", "[[1,2,3", "cannot be read"),
        ("a.json", "[" * 100_000, "cannot be read"),
        ("a.json", f"[[1{'0' * 400},1,1,1,1,1]]", "cannot be read"),
        ("a.json", "[]", "has no rows"),
        ("a.feather", "no feather", "cannot be read"),
        ("a.parquet", "no parquet", "cannot be read"),
        ("a.csv.gz", "no gzip", "cannot be read"),
        ("a.xlsx", "x", "unsupported kind"),
        ("a.csv", YAHOO.replace("50.5", "50.5").replace("101,", "a,"), "not a number: 'a'"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, name: str, content: str, expected: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(DataError) as caught:
        import_bars([path], tmp_path / "out.parquet")
    message = str(caught.value)
    assert expected in message and message.startswith(str(path)) and "\n" not in message
    assert sorted(tmp_path.iterdir()) == [path]


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    for name, expected in (("gone.csv", "no such file"), ("folder.csv", "is a folder")):
        with pytest.raises(DataError, match=expected):
            read_foreign(tmp_path / name)
    (tmp_path / "latin.csv").write_bytes(b"Date,Open,High,Low,Close,Volume\n\xe9\xff,1,1,1,1,1\n")
    with pytest.raises(DataError, match="not UTF-8"):
        read_foreign(tmp_path / "latin.csv")
