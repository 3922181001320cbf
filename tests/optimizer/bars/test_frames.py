"""Bars from DataFrames: three forms, the checks of a file, and the way back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from optimizer.bars.load import load_bars
from optimizer.errors import DataError
from optimizer.types import Bars
from tests.support.studies import random_bars, write_bars

FIELDS = ("open", "high", "low", "close", "volume")


@pytest.fixture
def tidy(tmp_path: Path) -> pd.DataFrame:
    """The rows of a file of three symbols, as pandas reads them."""
    return pd.read_parquet(write_bars(tmp_path / "bars.parquet", random_bars(60)))


def wide(tidy: pd.DataFrame) -> pd.DataFrame:
    across: Any = tidy.set_index(["timestamp", "symbol"]).unstack("symbol")
    return pd.DataFrame(across)


FORMS: dict[str, Any] = {
    "tidy": lambda frame: frame,
    "other names": lambda frame: frame.rename(columns={"symbol": "Ticker", "timestamp": "Date"}),
    "times as index": lambda frame: frame.set_index("timestamp"),
    "both as index": lambda frame: frame.set_index(["symbol", "timestamp"]),
    "fields above symbols": wide,
    "symbols above fields": lambda frame: wide(frame).swaplevel(axis=1).sort_index(axis=1),
    "wide, times without a name": lambda frame: wide(frame).rename_axis(index=None),
    "wide, capitals": lambda frame: wide(frame).rename(columns=str.title, level=0),
    "a zone": lambda frame: frame.assign(
        timestamp=frame["timestamp"].dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo")
    ),
    "a numbering of its own": lambda frame: frame.set_axis(frame.index[::-1]),
    "categories": lambda frame: frame.astype({"symbol": "category"}),
    "further columns": lambda frame: frame.assign(adjusted=1.0),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_bars_of_the_file(
    form: str, tidy: pd.DataFrame, tmp_path: Path
) -> None:
    expected = load_bars(tmp_path / "bars.parquet")
    found = Bars.from_frame(FORMS[form](tidy))
    assert found.content_hash == expected.content_hash
    assert found.bars_per_year == expected.bars_per_year


def test_the_values_are_those_of_the_frame(tidy: pd.DataFrame) -> None:
    bars = Bars.from_frame(wide(tidy))
    for name in FIELDS:
        pivoted = tidy.pivot(index="timestamp", columns="symbol", values=name)
        assert np.array_equal(getattr(bars, name), pivoted.to_numpy(np.float64))
        assert tuple(pivoted.columns) == bars.symbols


def test_one_symbol_is_named_by_the_caller(tidy: pd.DataFrame) -> None:
    one = tidy[tidy["symbol"] == "BBB"].drop(columns="symbol")
    expected = Bars.from_frame(tidy, "BBB")
    for frame in (one, one.set_index("timestamp")):
        assert Bars.from_frame(frame, symbol="BBB").content_hash == expected.content_hash
    with pytest.raises(
        DataError, match="<frame>: names no symbol; add a column symbol, or symbol ="
    ):
        Bars.from_frame(one)
    with pytest.raises(DataError, match="choose with symbols"):
        Bars.from_frame(tidy, symbol="BBB")


def test_a_symbol_of_a_wide_frame_lacks_the_bars_that_are_empty(tidy: pd.DataFrame) -> None:
    gone = tidy.drop(index=tidy[(tidy["symbol"] == "CCC")].index[10:15])
    bars = Bars.from_frame(wide(gone), align="outer")
    assert bars.content_hash == Bars.from_frame(gone, align="outer").content_hash
    assert bars.present is not None
    assert np.flatnonzero(bars.present[:, 2] == 0).tolist() == [10, 11, 12, 13, 14]
    assert Bars.from_frame(wide(gone)).n_bars == 55
    part = wide(tidy)
    part.loc[part.index[3], ("close", "AAA")] = np.nan
    with pytest.raises(
        DataError, match=r"<frame>, row 4 \(AAA, 2015-01-08\): column close has no value"
    ):
        Bars.from_frame(part)


@pytest.mark.parametrize(
    "change",
    [
        lambda frame: frame.assign(close=-1.0),
        lambda frame: frame.assign(high=frame["low"] / 2.0),
        lambda frame: pd.concat([frame, frame.tail(1)]),
        lambda frame: frame.assign(open="many"),
        lambda frame: frame.assign(symbol=""),
        lambda frame: frame.assign(timestamp="soon"),
        lambda frame: frame.assign(Open=1.0),
        lambda frame: frame.iloc[[1, 0, *range(2, len(frame))]],
    ],
)
def test_the_messages_are_those_of_a_file(change: Any, tidy: pd.DataFrame, tmp_path: Path) -> None:
    broken = change(tidy)
    path = tmp_path / "broken.parquet"
    broken.to_parquet(path, index=False)
    said = []
    reads: list[tuple[Any, Any]] = [(load_bars, path), (Bars.from_frame, broken)]
    for read, given in reads:
        with pytest.raises(DataError) as caught:
            read(given)
        said.append(str(caught.value))
    assert said[1] == said[0].replace(str(path), "<frame>")


def test_what_is_no_frame_of_bars_is_refused(tidy: pd.DataFrame) -> None:
    not_a_frame: Any = [1, 2]
    for frame, words in (
        (not_a_frame, "expected a DataFrame"),
        (tidy.iloc[:0], "has no rows"),
        (wide(tidy).drop(columns="high", level=0), "columns in 2 levels, none of which has"),
    ):
        with pytest.raises(DataError, match=f"^<frame>: .*{words}"):
            Bars.from_frame(frame)


def test_the_settings_are_those_of_a_file(tidy: pd.DataFrame, tmp_path: Path) -> None:
    times: dict[str, Any] = {"start": "2015-01-15", "end": "2015-02-20", "timezone": "Asia/Tokyo"}
    settings = {"symbols": ["CCC", "AAA"], **times, "bars_per_year": 100.0, "bar": "1d"}
    expected = load_bars(tmp_path / "bars.parquet", **settings)
    found = Bars.from_frame(tidy, **settings)
    assert found.content_hash == expected.content_hash
    assert (found.symbols, found.bars_per_year) == (("AAA", "CCC"), 100.0)
    wrong: Any = "left"
    with pytest.raises(DataError, match="<frame>: align: got 'left'"):
        Bars.from_frame(tidy, align=wrong)


def test_the_frame_stays_as_it_was(tidy: pd.DataFrame) -> None:
    before = tidy.copy(deep=True)
    Bars.from_frame(tidy)
    pd.testing.assert_frame_equal(tidy, before)
    tidy.loc[0, "close"] = 1.0  # still writable
    across = wide(before)
    kept = across.copy(deep=True)
    Bars.from_frame(across)
    pd.testing.assert_frame_equal(across, kept)


# --- The way back -------------------------------------------------------------------------------


def test_a_frame_gives_the_same_bars_back(tidy: pd.DataFrame) -> None:
    bars = Bars.from_frame(tidy)
    frame = bars.to_frame()
    assert list(frame.columns) == ["symbol", "timestamp", *FIELDS]
    assert str(frame["timestamp"].dt.tz) == "UTC"
    assert Bars.from_frame(frame).content_hash == bars.content_hash


def test_bars_of_different_days_come_back(tidy: pd.DataFrame) -> None:
    gone = tidy.drop(index=[0, 1, 70, 71, 150])
    bars = Bars.from_frame(gone, align="outer")
    frame = bars.to_frame()
    assert len(frame) == len(gone)
    assert Bars.from_frame(frame, align="outer").content_hash == bars.content_hash


def test_dividends_come_back_to_the_bit_and_funding_to_rounding(tidy: pd.DataFrame) -> None:
    rng = np.random.default_rng(5)
    paid = tidy.assign(paid=np.where(rng.random(len(tidy)) < 0.1, 0.37, 0.0))
    bars = Bars.from_frame(paid, dividends="paid")
    again = Bars.from_frame(bars.to_frame(), funding="funding", dividends="dividends")
    assert bars.payments is not None and (bars.payments > 0.0).any()
    assert again.content_hash == bars.content_hash
    rates = tidy.assign(rate=rng.normal(0.0, 1e-4, len(tidy)))
    funded = Bars.from_frame(rates, funding="rate")
    back = Bars.from_frame(funded.to_frame(), funding="funding", dividends="dividends")
    assert funded.payments is not None and back.payments is not None
    np.testing.assert_allclose(back.payments, funded.payments, rtol=1e-12)


def test_bars_show_themselves_in_a_line() -> None:
    assert repr(random_bars(60)) == (
        "<Bars of AAA, BBB, CCC: 60 from 2015-01-05T00:00 to 2015-03-31T00:00>"
    )
