"""Downloads, against what yfinance 1.7 and ccxt 4.5 return; no network.

The frame of yfinance was made by its own ``download`` around a history of one's own: columns
(price, ticker) with the level names Price and Ticker, a shared index without a zone for days and with
the exchange's for shorter bars, volume as whole numbers where no row is missing.
"""

from __future__ import annotations

import logging
import sys
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from optimizer.bars.fetch import fetch_bars
from optimizer.bars.fixes import Fixes
from optimizer.bars.import_report import ImportRefusedError
from optimizer.bars.load import load_bars
from optimizer.errors import DataError

PRICES = ("Adj Close", "Close", "High", "Low", "Open", "Volume")


def yahoo_frame(index: pd.DatetimeIndex, **tickers: list[float | None]) -> pd.DataFrame:
    """Closes by ticker, in the shape of ``yfinance.download``; None is a day without the ticker."""
    columns = pd.MultiIndex.from_product([PRICES, tickers], names=["Price", "Ticker"])
    scale = {"Adj Close": 0.5, "High": 1.1, "Low": 0.9}
    frame = pd.DataFrame(
        {
            (price, ticker): [np.nan if c is None else c * scale.get(price, 1) for c in closes]
            for price in PRICES
            for ticker, closes in tickers.items()
        },
        index=index,
    )
    frame.columns = columns
    return frame


def install_yahoo(monkeypatch: pytest.MonkeyPatch, answer: Any) -> list[dict[str, Any]]:
    """A yfinance that answers so; the calls that it gets."""
    calls: list[dict[str, Any]] = []

    def download(tickers: list[str], **options: Any) -> Any:
        calls.append({"tickers": tickers, **options})
        if isinstance(answer, Exception):
            raise answer
        return answer

    module = types.ModuleType("yfinance")
    module.download = download  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "yfinance", module)
    return calls


DAYS = pd.DatetimeIndex(["2024-01-02", "2024-01-03", "2024-01-04"], name="Date").as_unit("us")


def test_yahoo_days(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = yahoo_frame(DAYS, SPY=[100, 101, 102], TLT=[None, 50, 51])
    calls = install_yahoo(monkeypatch, frame)
    out = tmp_path / "bars.parquet"
    report = fetch_bars("yahoo", ["SPY", "TLT"], out, start="2024-01-02", end="2024-01-04")
    assert [(one.symbol, one.bars) for one in report.symbols] == [("SPY", 3), ("TLT", 2)]
    assert calls[0]["tickers"] == ["SPY", "TLT"] and calls[0]["auto_adjust"] is False
    assert (calls[0]["start"], calls[0]["end"]) == ("2024-01-02", "2024-01-05")  # exclusive
    bars = load_bars(out)
    assert bars.close.tolist() == [[101, 50], [102, 51]]
    assert str(bars.timestamps[0])[:16] == "2024-01-03T00:00"
    fetch_bars(
        *("yahoo", ["TLT"], tmp_path / "adjusted.parquet"),
        start="2024-01-02",
        fixes=Fixes(adjust=True),
    )
    assert load_bars(tmp_path / "adjusted.parquet").close[:, 0].tolist() == [25, 25.5]
    assert calls[1]["end"] is None


def test_yahoo_grouped_by_ticker_and_shorter_bars(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = pd.DatetimeIndex(["2024-01-02 09:30", "2024-01-02 09:35"], name="Datetime")
    frame = yahoo_frame(index.tz_localize("America/New_York"), SPY=[100, 101])
    install_yahoo(monkeypatch, frame.swaplevel(0, 1, axis=1))
    fetch_bars("Yahoo", ["SPY"], tmp_path / "bars.parquet", start="2024-01-02", bar="5m")
    bars = load_bars(tmp_path / "bars.parquet")
    assert str(bars.timestamps[0])[:16] == "2024-01-02T14:30"
    assert bars.high[:, 0].tolist() == pytest.approx([110, 111.1])


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (None, "sent no bars of SPY"),
        (yahoo_frame(DAYS[:0], SPY=[]), "sent no bars of SPY"),
        (yahoo_frame(DAYS, TLT=[1, 2, 3]), "yahoo SPY: sent no open"),
        (yahoo_frame(DAYS, SPY=[None, None, None]), "yahoo SPY: sent no bars"),
        (pd.DataFrame({"Close": [1.0]}, index=DAYS[:1]), "expected .price, ticker."),
        (ConnectionError("no route\nto host"), "yahoo: no route to host"),
    ],
)
def test_yahoo_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Any, expected: str
) -> None:
    install_yahoo(monkeypatch, answer)
    with pytest.raises(DataError, match=expected) as caught:
        fetch_bars("yahoo", ["SPY"], tmp_path / "bars.parquet", start="2024-01-02")
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


def test_what_yfinance_logs_is_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def download(tickers: list[str], **options: Any) -> None:
        warnings.warn("inplace is deprecated", DeprecationWarning, stacklevel=1)
        logging.getLogger("yfinance").error("['SPY']: could not\nresolve host")

    module = types.ModuleType("yfinance")
    module.download = download  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "yfinance", module)
    expected = r"SPY from 2024-01-02 \(\['SPY'\]: could not resolve host\); check"
    with pytest.raises(DataError, match=expected):
        fetch_bars("yahoo", ["SPY"], tmp_path / "bars.parquet", start="2024-01-02")
    assert capfd.readouterr() == ("", "")


def test_yahoo_rows_with_holes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = yahoo_frame(DAYS, SPY=[100, 101, 102])
    frame.loc[DAYS[1], ("Close", "SPY")] = np.nan
    install_yahoo(monkeypatch, frame)
    with pytest.raises(ImportRefusedError, match=r"yahoo SPY, row 2 .*--drop-bad-rows"):
        fetch_bars("yahoo", ["SPY"], tmp_path / "bars.parquet", start="2024-01-02")


# --- ccxt -----------------------------------------------------------------------------------------

MINUTE = 60_000
MIDNIGHT = 1_704_153_600_000  # 2024-01-02 UTC


class BaseError(Exception):
    pass


def install_ccxt(
    monkeypatch: pytest.MonkeyPatch,
    fetch: Callable[[str, str, int, int], Any],
    now: int,
    has: bool = True,
) -> list[int]:
    """A ccxt whose one exchange answers so; the starts that it is asked for."""
    asked: list[int] = []

    class Toy:
        id = "toy"

        def __init__(self, options: dict[str, Any]) -> None:
            assert options["enableRateLimit"] is True
            self.timeframes = {"1m": "1", "1h": "60"}
            self.has = {"fetchOHLCV": has}

        def milliseconds(self) -> int:
            return now

        @staticmethod
        def parse_timeframe(text: str) -> int:
            return {"1m": 60, "1h": 3600}[text]

        def fetch_ohlcv(self, symbol: str, timeframe: str, since: int, limit: int) -> Any:
            asked.append(since)
            assert len(asked) < 50
            return fetch(symbol, timeframe, since, limit)

    module = types.ModuleType("ccxt")
    vars(module).update(exchanges=["toy"], toy=Toy, BaseError=BaseError)
    monkeypatch.setitem(sys.modules, "ccxt", module)
    return asked


def minutes(symbol: str, timeframe: str, since: int, limit: int) -> list[list[float]]:
    """Minute bars without end, 500 a page whatever the limit, from the first at or after since."""
    first = -(-since // MINUTE)
    return [[(first + i) * MINUTE, 10.0, 12.0, 9.0, 11.0, 1.5] for i in range(min(limit, 500))]


def test_pages_of_an_exchange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = install_ccxt(monkeypatch, minutes, MIDNIGHT + 10 * 86_400_000)
    out = tmp_path / "bars.parquet"
    report = fetch_bars("toy", ["BTC/USDT"], out, start="2024-01-02", end="2024-01-02", bar="1m")
    assert [(one.symbol, one.bars) for one in report.symbols] == [("BTC/USDT", 1440)]
    assert report.symbols[0].missing_bars == 0
    assert asked == [MIDNIGHT, MIDNIGHT + 499 * MINUTE + 1, MIDNIGHT + 999 * MINUTE + 1]
    assert str(load_bars(out).timestamps[-1])[:16] == "2024-01-02T23:59"


def test_the_bar_that_is_still_forming_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_ccxt(monkeypatch, minutes, MIDNIGHT + 10 * MINUTE + 30_000)
    out = tmp_path / "bars.parquet"
    fetch_bars("toy", ["BTC/USDT"], out, start="2024-01-02", bar="1m")
    assert load_bars(out).n_bars == 10


def test_an_exchange_that_repeats_itself_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def again(symbol: str, timeframe: str, since: int, limit: int) -> list[list[float]]:
        return minutes(symbol, timeframe, MIDNIGHT, 3)

    install_ccxt(monkeypatch, again, MIDNIGHT + 86_400_000)
    out = tmp_path / "bars.parquet"
    fetch_bars("toy", ["BTC/USDT"], out, start="2024-01-02", bar="1m")
    assert load_bars(out).n_bars == 3


def no_bars(*_: Any) -> list[Any]:
    return []


def unknown_symbol(*_: Any) -> list[Any]:
    raise BaseError("toy does not have market symbol X/Y")


@pytest.mark.parametrize(
    ("fetch", "options", "expected"),
    [
        (no_bars, {}, "toy X/Y: sent no bars from 2024-01-02"),
        (unknown_symbol, {}, "toy X/Y: BaseError: toy does not have market symbol X/Y"),
        (lambda *_: [[1, 2]], {}, "toy X/Y: sent a row that is no"),
        (lambda *_: [None], {}, "toy X/Y: sent a row that is no"),
        (lambda *_: [["a", 1, 1, 1, 1, 1]], {}, "toy X/Y: sent a row that is no"),
        (lambda *_: [[MIDNIGHT, 1, 1, 1, None, 1]], {}, "row 1 .*--drop-bad-rows"),
        (minutes, {"bar": "7m"}, "toy: --bar: got '7m'; valid: 1m, 1h"),
        (minutes, {"source": "nowhere"}, "nowhere: no such source; valid: yahoo"),
        (minutes, {"start": "yesterday"}, "--start: got 'yesterday'; expected a day"),
        (minutes, {"end": "2023-01-01"}, "is before --start"),
        (minutes, {"symbols": []}, "no symbols to fetch"),
    ],
)
def test_an_exchange_that_fails(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fetch: Callable[..., Any],
    options: dict[str, Any],
    expected: str,
) -> None:
    install_ccxt(monkeypatch, fetch, MIDNIGHT + 86_400_000)
    arguments = {"source": "toy", "symbols": ["X/Y"], "start": "2024-01-02", "bar": "1m"}
    with pytest.raises(DataError, match=expected) as caught:
        fetch_bars(out=tmp_path / "bars.parquet", **{**arguments, **options})
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


def test_an_exchange_without_bars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_ccxt(monkeypatch, minutes, MIDNIGHT, has=False)
    with pytest.raises(DataError, match="the exchange offers no bars"):
        fetch_bars("toy", ["X/Y"], tmp_path / "b.parquet", start="2024-01-02", bar="1m")


@pytest.mark.parametrize(
    ("source", "module", "extra"), [("yahoo", "yfinance", "yahoo"), ("kraken", "ccxt", "crypto")]
)
def test_a_library_that_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, module: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DataError, match=rf"{module} is not installed; .*pip install .*\[{extra}\]"):
        fetch_bars(source, ["X"], tmp_path / "b.parquet", start="2024-01-02")
