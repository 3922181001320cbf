from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.bars.rates import rate_at, read_rate
from optimizer.errors import DataError


def days(*texts: str) -> np.ndarray:
    return np.array(texts, dtype="datetime64[ns]")


def written(folder: Path, text: str, name: str = "rates.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_rows_without_a_rate_are_left_out(tmp_path: Path) -> None:
    text = (
        "observation_date, bill,other\n2020-01-01,0.01,5\n2020-01-02,.,5\n"
        "\n2020-01-03,,5\n2020-01-06,-0.02,x\n"
    )
    times, rates = read_rate(written(tmp_path, text), "bill")
    assert times.tolist() == days("2020-01-01", "2020-01-06").tolist()
    assert times.dtype == np.dtype("datetime64[ns]")
    assert rates.tolist() == [0.01, -0.02]


def test_times_may_have_a_zone_and_files_may_be_zipped(tmp_path: Path) -> None:
    path = tmp_path / "rates.csv.gz"
    with gzip.open(path, "wt") as file:
        file.write("Date,r\n2020-01-01T00:00-05:00,1\n")
    times, rates = read_rate(path, "r")
    assert times.tolist() == days("2020-01-01T05:00").tolist()
    assert rates.tolist() == [1.0]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["is empty"]),
        ("date,r\n", ["column r has no rate"]),
        ("date,r\n2020-01-01,\n", ["column r has no rate"]),
        ("day,r\n2020-01-01,1\n", ["no column of times", "day, r"]),
        ("date,time,r\n2020-01-01,2020-01-01,1\n", ["several columns of times: date, time"]),
        ("date,rate\n2020-01-01,1\n", ['no column "r"', "valid: rate"]),
        ("date,r\n2020-01-01,0.1\n2020-01-02,4.2%\n", ["line 3: column r: '4.2%' is no number"]),
        ("date,r\n2020-01-01,inf\n", ["line 2: column r", "is no number"]),
        ("date,r\n2020-01-01,0.1\n\n2020-01-02,42\n", ["line 4: column r: 42", "0.0425 for 4.25"]),
        ("date,r\nsoon,0.1\n", ["line 2", "not an ISO date"]),
        ("date,r\n2020-01-02,0.1\n2020-01-01,0.1\n", ["line 3", "does not come after", "sort"]),
        ("date,r\n2020-01-02,0.1\n2020-01-02,0.1\n", ["line 3", "each time once"]),
    ],
)
def test_refusals(tmp_path: Path, text: str, parts: list[str]) -> None:
    path = written(tmp_path, text)
    with pytest.raises(DataError) as caught:
        read_rate(path, "r")
    message = str(caught.value)
    assert message.startswith(str(path))
    assert message.splitlines() == [message]
    for part in parts:
        assert part in message


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file; the path of rates is relative"):
        read_rate(tmp_path / "none.csv", "r")
    with pytest.raises(DataError, match="save it as CSV"):
        read_rate(tmp_path / "none.xlsx", "r")


@given(
    rates=st.lists(st.integers(0, 40), min_size=1, unique=True).map(sorted),
    bars=st.lists(st.integers(0, 40), min_size=1, unique=True).map(sorted),
)
def test_a_bar_knows_no_later_rate(rates: list[int], bars: list[int]) -> None:
    epoch = np.datetime64("2020-01-01", "ns")
    times, stamps = (epoch + np.array(one) * np.timedelta64(1, "D") for one in (rates, bars))
    values = np.arange(len(rates), dtype=np.float64)
    if bars[0] < rates[0]:
        with pytest.raises(
            DataError, match=r"my\.csv: the first rate is dated .* set \[data\] start"
        ):
            rate_at(stamps, times, values, "my.csv")
        return
    expected = [max(i for i, day in enumerate(rates) if day <= bar) for bar in bars]
    assert rate_at(stamps, times, values).tolist() == expected
