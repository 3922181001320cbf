"""The same bars as many programs export them: each file gives the very bars, by import and by loading."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from optimizer.bars.fixes import Fixes
from optimizer.bars.foreign import read_foreign
from optimizer.bars.importing import import_bars
from optimizer.bars.load import load_bars
from optimizer.errors import DataError
from optimizer.types import Bars

Text = Callable[[pd.DataFrame], str]


def bars_from(first: str, count: int, freq: str) -> pd.DataFrame:
    """A walk in cents, with every high above and every low below the prices between."""
    chance = np.random.default_rng(5)
    close = 10_000 + np.cumsum(chance.integers(-90, 90, count))
    open_ = close + chance.integers(-50, 50, count)
    frame = pd.DataFrame(
        {
            "open": open_ / 100,
            "high": (np.maximum(open_, close) + chance.integers(1, 60, count)) / 100,
            "low": (np.minimum(open_, close) - chance.integers(1, 60, count)) / 100,
            "close": close / 100,
            "volume": chance.integers(1_000, 9_000, count).astype(float),
        }
    )
    return frame.assign(time=pd.date_range(first, periods=count, freq=freq))


HOURS = bars_from("2023-01-30 05:00", 100, "h")
DAYS = bars_from("2023-01-02", 60, "B")
RESULTS = ("open", "high", "low", "close", "volume")


def lines(
    frame: pd.DataFrame,
    head: str | None,
    form: str,
    clock: str | Callable[[pd.Timestamp], object] = "%Y-%m-%d",
    *,
    newest_first: bool = False,
    mark: str = ",",
) -> str:
    """A text file: ``form`` has the names of the values in braces, t for the time."""
    rows = []
    row: Any
    for row in frame.itertuples():
        time = row.time.strftime(clock) if isinstance(clock, str) else clock(row.time)
        values = {name: f"{getattr(row, name):g}" for name in RESULTS}
        fields = form.format(t=time, **values, row=row, money=row.volume * row.close)
        rows.append(fields.replace(",", mark))
    if newest_first:
        rows.reverse()
    heads = [] if head is None else [head.replace(",", mark)]
    return "\n".join([*heads, *rows]) + "\n"


def epoch(unit: int) -> Callable[[pd.Timestamp], object]:
    return lambda time: int(time.timestamp()) * unit


def mixed(time: pd.Timestamp) -> object:
    """Seconds as a float in the older part, milliseconds in the newer."""
    stamp = int(time.timestamp())
    return f"{stamp}.0" if time < HOURS["time"][60] else stamp * 1000


def half_days(time: pd.Timestamp) -> str:
    return time.strftime("%Y-%m-%d %I-%p" if time < HOURS["time"][60] else "%Y-%m-%d %H:%M:%S")


OHLCV = "{open},{high},{low},{close},{volume}"
BITS = "{t},BTC/USDT,{open},{high},{low},{close}"
EXPORTS: dict[str, tuple[str, pd.DataFrame, str, str]] = {
    "TradingView": (
        "NASDAQ_AAPL, 1D.csv",
        DAYS,
        lines(DAYS, "time,open,high,low,close,Volume", "{t}," + OHLCV, epoch(1)),
        "AAPL",
    ),
    "EODHD within the day": (
        "AAPL.US.csv",
        HOURS,
        lines(
            HOURS,
            "Timestamp,Gmtoffset,Datetime,Open,High,Low,Close,Volume",
            "{t},0,{row.time}," + OHLCV,
            epoch(1),
        ),
        "AAPL.US",
    ),
    "Tiingo": (
        "AAPL.csv",
        DAYS,
        lines(
            DAYS,
            "date,close,high,low,open,volume,adjClose,adjHigh,adjLow,adjOpen,adjVolume,divCash,splitFactor",
            "{t},{close},{high},{low},{open},{volume},1,1,1,1,1,0.0,1.0",
            "%Y-%m-%dT00:00:00.000Z",
        ),
        "AAPL",
    ),
    "Alpha Vantage": (
        "daily_adjusted_IBM.csv",
        DAYS,
        lines(
            DAYS,
            "timestamp,open,high,low,close,adjusted_close,volume,dividend_amount,split_coefficient",
            "{t},{open},{high},{low},{close},{close},{volume},0.0000,1.0",
            newest_first=True,
        ),
        "daily_adjusted_IBM",
    ),
    "CryptoDataDownload": (
        "Binance_BTCUSDT_1h.csv",
        HOURS,
        "https://www.CryptoDataDownload.com\n"
        + lines(
            HOURS,
            "unix,date,symbol,open,high,low,close,Volume BTC,Volume USDT,tradecount",
            "{t},BTC/USDT,{open},{high},{low},{close},{volume},{money},9",
            lambda time: f"{mixed(time)},{half_days(time)}",
            newest_first=True,
        ),
        "BTC/USDT",
    ),
    "CryptoDataDownload, dates alone, money first": (
        "Gemini_BTCUSD_1h.csv",
        HOURS,
        lines(
            HOURS,
            "Date,Symbol,Open,High,Low,Close,Volume USDT,Volume BTC",
            BITS + ",{money},{volume}",
            half_days,
            newest_first=True,
        ),
        "BTC/USDT",
    ),
    "Bitstamp on Kaggle": (
        "btcusd_1-min_data.csv",
        HOURS,
        lines(
            HOURS,
            "Timestamp,Open,High,Low,Close,Volume_(BTC),Volume_(Currency),Weighted_Price",
            "{t}," + OHLCV + ",{money},{close}",
            epoch(1),
        ),
        "btcusd_1-min_data",
    ),
    "Interactive Brokers, a zone": (
        "SPY.csv",
        HOURS,
        lines(
            HOURS.assign(time=HOURS["time"].dt.tz_localize("UTC").dt.tz_convert("US/Eastern")),
            "date,open,high,low,close,volume,average,barCount",
            "{t} US/Eastern," + OHLCV + ",1,1",
            "%Y%m%d %H:%M:%S",
        ),
        "SPY",
    ),
    "Interactive Brokers, a dash": (
        "SPY.csv",
        HOURS,
        lines(HOURS, "date,open,high,low,close,volume", "{t}," + OHLCV, "%Y%m%d-%H:%M:%S"),
        "SPY",
    ),
    "Interactive Brokers, two blanks": (
        "SPY_1_hour.csv",
        HOURS,
        lines(HOURS, "date,open,high,low,close,volume", "{t}," + OHLCV, "%Y%m%d  %H:%M:%S"),
        "SPY",
    ),
    "Kraken OHLCVT": (
        "XBTUSD_60.csv",
        HOURS,
        lines(HOURS, None, "{t}," + OHLCV + ",17", epoch(1)),
        "XBTUSD",
    ),
    "Databento, whole numbers": (
        "glbx.ohlcv-1h.csv",
        HOURS,
        lines(
            HOURS.assign(**{n: (HOURS[n] * 100).round() for n in RESULTS[:4]}),
            "ts_event,rtype,publisher_id,instrument_id,open,high,low,close,volume,symbol",
            "{t},34,1,118,{open}0000000,{high}0000000,{low}0000000,{close}0000000,{volume},6EH4",
            epoch(10**9),
        ),
        "6EH4",
    ),
    "Databento, times of nine digits": (
        "glbx.ohlcv-1h.csv",
        HOURS,
        lines(
            HOURS,
            "ts_event,rtype,publisher_id,instrument_id,open,high,low,close,volume",
            "{t},34,1,118," + OHLCV,
            "%Y-%m-%dT%H:%M:%S.000000000Z",
        ),
        "118",
    ),
    "Polygon flat file": (
        "2023-01-30.csv",
        HOURS,
        lines(
            HOURS,
            "ticker,volume,open,close,high,low,window_start,transactions",
            "AAPL,{volume},{open},{close},{high},{low},{t},5",
            epoch(10**9),
        ),
        "AAPL",
    ),
    "Dukascopy": (
        "EURUSD.csv",
        HOURS,
        lines(
            HOURS, "Gmt time,Open,High,Low,Close,Volume", "{t}," + OHLCV, "%d.%m.%Y %H:%M:%S.000"
        ),
        "EURUSD",
    ),
    "Dukascopy, a local time": (
        "EURUSD.csv",
        HOURS,
        lines(
            HOURS.assign(time=HOURS["time"] + pd.Timedelta(hours=1)),
            "Local time,Open,High,Low,Close,Volume",
            "{t}," + OHLCV,
            "%d.%m.%Y %H:%M:%S.000 GMT+0100",
        ),
        "EURUSD",
    ),
    "Investing.com": (
        "Gold Futures.csv",
        DAYS,
        lines(
            DAYS.assign(kilo=DAYS["volume"] / 1000),
            '"Date","Price","Open","High","Low","Vol.","Change %"',
            '"{t}","{close}","{open}","{high}","{low}","{row.kilo:.3f}K","0.1%"',
            "%b %d| %Y",
            newest_first=True,
        ).replace("| ", ", "),
        "Gold Futures",
    ),
    "Nasdaq.com": (
        "AAPL.csv",
        DAYS,
        lines(
            DAYS,
            "Date,Close/Last,Volume,Open,High,Low",
            "{t},${close},{volume},${open},${high},${low}",
            "%m/%d/%Y",
            newest_first=True,
        ),
        "AAPL",
    ),
    "HistData": (
        "DAT_ASCII_EURUSD_M1_2023.csv",
        HOURS,
        lines(HOURS, None, "{t}," + OHLCV, "%Y%m%d %H%M%S", mark=";"),
        "EURUSD",
    ),
    "Kibot": ("IBM.txt", DAYS, lines(DAYS, None, "{t}," + OHLCV, "%m/%d/%Y"), "IBM"),
    "Kibot within the day": (
        "IBM.txt",
        HOURS,
        lines(HOURS, None, "{t}," + OHLCV, "%m/%d/%Y,%H:%M"),
        "IBM",
    ),
    "FirstRate": (
        "AAPL_1hour.txt",
        HOURS,
        lines(HOURS, None, "{t}," + OHLCV, "%Y-%m-%d %H:%M:%S"),
        "AAPL",
    ),
    "LEAN": (
        "spy.csv",
        DAYS,
        lines(
            DAYS.assign(**{n: (DAYS[n] * 100).round() for n in RESULTS[:4]}),
            None,
            "{t},{open}00,{high}00,{low}00,{close}00,{volume}",
            "%Y%m%d 00:00",
        ),
        "spy",
    ),
    "NSE bhavcopy": (
        "cm.csv",
        DAYS,
        lines(
            DAYS,
            "SYMBOL,SERIES,OPEN,HIGH,LOW,CLOSE,LAST,PREVCLOSE,TOTTRDQTY,TOTTRDVAL,TIMESTAMP,ISIN,",
            "INFY,EQ,{open},{high},{low},{close},1,1,{volume},{money},{t},IN,",
            lambda time: time.strftime("%d-%b-%Y").upper(),
        ),
        "INFY",
    ),
    "NSE bhavcopy of 2024": (
        "cm.csv",
        DAYS,
        lines(
            DAYS,
            "TradDt,TckrSymb,SctySrs,OpnPric,HghPric,LwPric,ClsPric,LastPric,TtlTradgVol,TtlTrfVal",
            "{t},INFY,EQ,{open},{high},{low},{close},1,{volume},{money}",
        ),
        "INFY",
    ),
    "Sierra Chart": (
        "ES.txt",
        HOURS,
        lines(
            HOURS,
            "Date, Time, Open, High, Low, Last, Volume, NumberOfTrades, BidVolume, AskVolume",
            "{t}, " + OHLCV.replace(",", ", ") + ", 1, 1, 1",
            "%Y/%m/%d, %H:%M:%S.000000",
        ),
        "ES",
    ),
    "MOEX": (
        "SBER.csv",
        HOURS,
        lines(
            HOURS,
            "open;close;high;low;value;volume;begin;end",
            "{open},{close},{high},{low},{money},{volume},{t},{t}",
            "%Y-%m-%d %H:%M:%S",
            mark=";",
        ),
        "SBER",
    ),
    "hours as HHMM": (
        "ES.csv",
        HOURS,
        lines(HOURS, "Date,Time,Open,High,Low,Close,Volume", "{t}," + OHLCV, "%Y%m%d,%H%M"),
        "ES",
    ),
    "pandas, a nameless index": (
        "GOOG.csv",
        DAYS,
        lines(DAYS, ",Open,High,Low,Close,Volume", "{t}," + OHLCV),
        "GOOG",
    ),
    "pandas, a nameless index of epochs": (
        "GOOG.csv",
        HOURS,
        lines(HOURS, "Unnamed: 0,Open,High,Low,Close,Volume", "{t}," + OHLCV, epoch(1000)),
        "GOOG",
    ),
    "pandas, the numbers of rows besides": (
        "GOOG.csv",
        DAYS,
        lines(DAYS, ",Date,Open,High,Low,Close,Volume", "{row.Index},{t}," + OHLCV),
        "GOOG",
    ),
    "decimal commas": (
        "SAP.csv",
        DAYS,
        lines(DAYS, "Date,Open,High,Low,Close,Volume", "{t}," + OHLCV, mark=";").replace(".", ","),
        "SAP",
    ),
}


def values_of(bars: Bars) -> dict[str, list[float]]:
    return {name: getattr(bars, name)[:, 0].tolist() for name in RESULTS}


def check_same(path: Path, frame: pd.DataFrame, symbol: str) -> None:
    """The import and ``load_bars`` both give the bars of the frame."""
    out = path.parent / "out" / "bars.parquet"
    import_bars([path], out, overwrite=True)
    imported, loaded = load_bars(out), load_bars(path)
    assert imported.content_hash == loaded.content_hash
    assert loaded.symbols == (symbol,)
    times = frame["time"].to_numpy().astype("datetime64[ns]")
    assert loaded.timestamps.tolist() == times.tolist()
    for name, column in values_of(loaded).items():
        assert column == pytest.approx(frame[name].tolist(), rel=1e-12), name


@pytest.mark.parametrize("name", EXPORTS)
def test_exports_as_text(tmp_path: Path, name: str) -> None:
    file, frame, text, symbol = EXPORTS[name]
    (tmp_path / file).write_text(text, encoding="utf-8")
    check_same(tmp_path / file, frame, symbol)


STAMPS = (
    HOURS["time"].astype("int64") // 10 ** (9 if HOURS["time"].dtype == "<M8[ns]" else 6)
).tolist()


def listed(
    order: str, *, texts: bool = False, unit: int = 1, extra: Sequence[float] = ()
) -> list[list[object]]:
    """Rows of values in an order such as ``lhocv``, after the time."""
    names = {name[0]: name for name in RESULTS}
    rows: list[list[object]] = []
    for i, stamp in enumerate(STAMPS):
        values = [float(HOURS[names[one]][i]) for one in order] + list(extra)
        row: list[object] = [stamp * unit, *values]
        rows.append([str(one) for one in row] if texts else row)
    return rows


def named(names: str) -> list[dict[str, object]]:
    keys = names.split(",")
    return [dict(zip(keys, row, strict=True)) for row in listed("ohlcv", unit=1000)]


JSON: dict[str, object] = {
    "freqtrade": listed("ohlcv", unit=1000),
    "Coinbase": listed("lhocv")[::-1],
    "Bitfinex": listed("ochlv", unit=1000)[::-1],
    "KuCoin": {"code": "200000", "data": listed("ochlv", texts=True, extra=[5])[::-1]},
    "Bybit": {"result": {"list": listed("ohlcv", texts=True, unit=1000, extra=[5])[::-1]}},
    "OKX": {"data": listed("ohlcv", texts=True, unit=1000, extra=[7, 8, 1])[::-1]},
    "Binance": listed("ohlcv", unit=1000, extra=[1, 2, 3, 4, 5, 0]),
    "Kraken": {"error": [], "result": {"XXBTZUSD": [
        [*row[:5], row[4], *row[5:], 3] for row in listed("ohlcv")
    ], "last": 1}},
    "Polygon": {"ticker": "X", "results": named("t,o,h,l,c,v")},
    "Alpha Vantage": {
        "Meta Data": {"1. Information": "x"},
        "Time Series (60min)": {
            str(time): {
                f"{i}. {name}": str(HOURS[name][row]) for i, name in enumerate(RESULTS, 1)
            }
            for row, time in reversed(list(enumerate(HOURS["time"])))
        },
    },
    "columns": {
        **{name[0]: HOURS[name].tolist() for name in RESULTS},
        "t": STAMPS,
        "s": "ok",
    },
}  # fmt: skip


@pytest.mark.parametrize("name", JSON)
def test_exports_as_json(tmp_path: Path, name: str) -> None:
    path = tmp_path / "BTC-USD.json"
    path.write_text(json.dumps(JSON[name]))
    check_same(path, HOURS, "BTC-USD")


def test_json_of_several_symbols(tmp_path: Path) -> None:
    path = tmp_path / "bars.json"
    rows = named("t,o,h,l,c,v")
    path.write_text(json.dumps({"bars": {"AAPL": rows, "MSFT": rows[:50]}}))
    assert [len(one) for _, one in read_foreign(path).frame.groupby("symbol")] == [100, 50]
    path.write_text(json.dumps({"AAPL": listed("ohlcv"), "MSFT": listed("ohlcv")}))
    with pytest.raises(DataError, match=r"bars\.json: has several lists of bars"):
        read_foreign(path)


def test_an_order_is_never_guessed(tmp_path: Path) -> None:
    """With the high where every known order has another price, or where two orders differ."""
    path = tmp_path / "x.json"
    for order in ("cloh" + "v", "hlocv", "holcv"):
        path.write_text(json.dumps(listed(order)))
        with pytest.raises(DataError, match="the order of its nameless columns cannot be told"):
            read_foreign(path)
    text = lines(DAYS.assign(low=DAYS["high"], high=DAYS["low"]), None, "{t}," + OHLCV)
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(DataError, match="the order of its nameless columns cannot be told"):
        load_bars(tmp_path / "x.csv")
    # A column like the close in the place of the volume is an adjusted close.
    text = lines(DAYS, None, "{t},{open},{high},{low},{close},{close},{volume}")
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(DataError, match="the order of its nameless columns cannot be told"):
        load_bars(tmp_path / "x.csv")


@pytest.mark.parametrize("index", [None, "index", "Date", "timestamp"])
@pytest.mark.parametrize("kind", ["parquet", "feather", "csv"])
def test_frames_of_pandas(tmp_path: Path, index: str | None, kind: str) -> None:
    frame = HOURS.set_index("time").rename_axis(index)
    path = tmp_path / f"GOOG.{kind}"
    if kind == "parquet":
        frame.to_parquet(path)
    elif kind == "feather":
        frame.reset_index().to_feather(path)
    else:
        frame.to_csv(path)
    check_same(path, HOURS, "GOOG")


@pytest.mark.parametrize("names", [(None, None), ("symbol", "date"), ("ticker", None)])
def test_frames_with_two_levels(tmp_path: Path, names: tuple[str | None, str | None]) -> None:
    parts = {name: HOURS.set_index("time") for name in ("AAPL", "MSFT")}
    frame = pd.concat(parts).rename_axis(list(names))
    frame.to_parquet(tmp_path / "both.parquet")
    frame.to_csv(tmp_path / "both.csv")
    for file in ("both.parquet", "both.csv"):
        bars = load_bars(tmp_path / file)
        assert bars.symbols == ("AAPL", "MSFT") and bars.n_bars == len(HOURS)


@pytest.mark.parametrize(
    "name", ["Adjusted_close", "adjusted_close", "Adj Close", "adjclose", "AdjClose", "Adj. Close",
             "close_adj", "Adjusted Close", "5. adjusted close", "Adj_Close*"]
)  # fmt: skip
def test_adjusted_closes_under_any_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / "AAPL.US.csv"
    form = "{t},{open},{high},{low},{close},{row.half},{volume}"
    text = lines(
        DAYS.assign(half=DAYS["close"] / 2), f"Date,Open,High,Low,Close,{name},Volume", form
    )
    path.write_text(text)
    report = import_bars([path], tmp_path / "b.parquet")
    assert "adjusted closes differ by up to 50.0%; --adjust uses them" in report.sources[0]
    import_bars([path], tmp_path / "b.parquet", fixes=Fixes(adjust=True), overwrite=True)
    bars = load_bars(tmp_path / "b.parquet")
    assert bars.high[:, 0].tolist() == pytest.approx((DAYS["high"] / 2).tolist(), rel=1e-12)


def test_days_and_months_that_cannot_be_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "A.csv"
    head, form = "Date,Open,High,Low,Close,Volume", "{t}," + OHLCV
    few = DAYS[:5]  # 2 to 6 January
    for clock, expected in (("%d/%m/%Y", None), ("%m/%d/%Y", None), ("%d.%m.%Y", 2)):
        path.write_text(lines(few, head, form, clock))
        if expected is None:
            with pytest.raises(DataError, match=r"line 2 .*: day and month cannot be told apart"):
                load_bars(path)
        else:
            assert str(load_bars(path).timestamps[0])[:10] == "2023-01-02"
    for clock in ("%d/%m/%Y", "%m/%d/%Y", "%d-%m-%y", "%d %b %Y", "%B %d %Y", "%d-%b-%y"):
        path.write_text(lines(DAYS, head, form, clock))
        check_same(path, DAYS, "A")


def test_money_is_not_taken_for_a_volume(tmp_path: Path) -> None:
    path = tmp_path / "A.csv"
    path.write_text(lines(DAYS, "Date,Open,High,Low,Close,Volume USD", "{t}," + OHLCV))
    with pytest.raises(DataError, match="no column volume"):
        load_bars(path)
    assert read_foreign(path).notes == ("Volume USD counts money, not units",)
    path.write_text(
        lines(DAYS, "Date,Open,High,Low,Close,Volume_A,Volume_B", "{t}," + OHLCV + ",5")
    )
    with pytest.raises(DataError, match="several columns could be volume: Volume_A, Volume_B"):
        load_bars(path)


@pytest.mark.parametrize("unknown", ["-1", "-1.0", "", "nan"])
@pytest.mark.parametrize("every", [1, 7])
def test_volume_that_is_not_known(tmp_path: Path, unknown: str, every: int) -> None:
    head, *rows = lines(DAYS, "date,open,high,low,close,volume", "{t}," + OHLCV).splitlines()
    cells = [row.rsplit(",", 1) for row in rows]
    text = [f"{a},{unknown if i % every == 0 else b}" for i, (a, b) in enumerate(cells)]
    path = tmp_path / "EURUSD.csv"
    path.write_text("\n".join([head, *text]) + "\n")
    out = tmp_path / "b.parquet"
    for fixes in (Fixes(), Fixes(drop_bad_rows=True)):
        with pytest.raises(DataError, match=r"of unknown volume .* or add --zero-volume$"):
            import_bars([path], out, fixes=fixes)
    report = import_bars([path], out, fixes=Fixes(zero_volume=True))
    assert "of unknown volume" in str(report.findings[0]) and report.findings[0].fixed
    volume = load_bars(out).volume[:, 0]
    assert len(volume) == len(DAYS) and not volume[::every].any()
    kept = np.arange(len(DAYS)) % every != 0
    assert volume[kept].tolist() == DAYS["volume"][kept].tolist()
    with pytest.raises(DataError, match=r"column volume .*--zero-volume"):
        load_bars(path)
