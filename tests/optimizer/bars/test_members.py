"""Membership of an index: by hand, next to a plain loop, and what is refused."""

from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.bars.members import member_mask, read_members
from optimizer.errors import DataError

SYMBOLS = ("AAA", "BBB")


def write(folder: Path, *lines: str, name: str = "members.csv") -> Path:
    path = folder / name
    path.write_text("\n".join(["symbol,from,to", *lines]) + "\n")
    return path


def mask(path: Path, *times: str, timezone: str = "UTC") -> list[list[int]]:
    members = read_members(path, SYMBOLS, timezone)
    found: list[list[int]] = member_mask(
        members, SYMBOLS, np.array(times, dtype="datetime64[ns]")
    ).tolist()
    return found


def test_first_and_last_day_count_whole(tmp_path: Path) -> None:
    path = write(tmp_path, "AAA,2020-01-02,2020-01-03", "BBB,2020-01-03,")
    times = ("2020-01-01T23:59", "2020-01-02", "2020-01-03T23:59", "2020-01-04")
    assert mask(path, *times) == [[0, 0], [1, 0], [1, 1], [0, 1]]


def test_a_symbol_may_leave_and_come_back(tmp_path: Path) -> None:
    path = write(
        tmp_path, "AAA,2020-01-05,2020-01-05", "AAA,2020-01-01,2020-01-02", "BBB,2019-01-01,"
    )
    days = [f"2020-01-{day:02}" for day in range(1, 7)]
    assert [one for one, _ in mask(path, *days)] == [1, 1, 0, 0, 1, 0]


def test_dates_are_those_of_the_time_zone(tmp_path: Path) -> None:
    """A day in New York begins at 5 o'clock UTC in winter."""
    path = write(
        tmp_path, "AAA,2020-01-02,2020-01-02", "BBB,2020-01-02T10:00+00:00,2020-01-02 12:00"
    )
    times = ("2020-01-02T04:59", "2020-01-02T05:00", "2020-01-03T04:59", "2020-01-03T05:00")
    found = mask(path, *times, timezone="America/New_York")
    assert [one for one, _ in found] == [0, 1, 1, 0]
    # 12:00 in New York is 17:00 UTC; a time with an offset keeps it.
    times = ("2020-01-02T09:59", "2020-01-02T10:00", "2020-01-02T17:00", "2020-01-02T17:01")
    found = mask(path, *times, timezone="America/New_York")
    assert [other for _, other in found] == [0, 1, 1, 0]


def test_blank_lines_and_other_columns_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "members.csv"
    path.write_text("name,TO,Symbol,from\nx,,AAA,2020-01-01\n,,,\ny, 2020-01-01 ,BBB,2020-01-01\n")
    assert mask(path, "2020-01-01", "2020-01-02") == [[1, 1], [1, 0]]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (
            ["AAA,2020-01-01,"],
            ": no line for BBB, which the bars have; add the dates of its membership",
        ),
        (
            ["AAA,2020-01-01,", "BBA,2020-01-01,"],
            ', line 3: "BBA" is not among the symbols of the bars; did you mean "BBB"?',
        ),
        (["AAA,2020-01-01,", ",2020-01-01,"], ", line 3: column symbol is empty"),
        (["AAA,,2020-01-01"], ", line 2: column from is empty; give the first day of AAA"),
        (["AAA,1.2.2020,"], ', line 2: column from: got "1.2.2020"; expected a date such as'),
        (["AAA,20200101,"], ', line 2: column from: got "20200101"; expected a date such as'),
        (["AAA,2020-02-30,"], ", line 2: column from '2020-02-30' is not an ISO date"),
        (
            ["AAA,2020-01-01,9999-12-31"],
            ", line 2: column to: 9999-12-31 is out of range; years 1678 to 2261 are valid; leave",
        ),
        (
            ["AAA,2020-01-02,2020-01-01"],
            ", line 2: to = 2020-01-01 is before from = 2020-01-02; swap them",
        ),
        (
            ["AAA,2020-02-01,2020-03-01", "AAA,2020-01-01,2020-02-01"],
            ", line 2: overlaps line 3, where AAA is a member at that time too",
        ),
        (
            ["AAA,2020-01-01,", "AAA,2020-02-01,"],
            ", line 3: overlaps line 2, where AAA is a member without end",
        ),
    ],
)
def test_refusals(tmp_path: Path, lines: list[str], expected: str) -> None:
    has_other = any(line.startswith("BB") for line in lines)
    rows = lines if has_other or "BBB" in expected else [*lines, "BBB,2020-01-01,"]
    path = write(tmp_path, *rows)
    with pytest.raises(DataError) as caught:
        read_members(path, SYMBOLS)
    message = str(caught.value)
    assert message.startswith(f"{path}{expected}")
    assert len(message.splitlines()) == 1


def test_files_that_hold_no_members(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such file; the path of members is relative"):
        read_members(tmp_path / "none.csv", SYMBOLS)
    path = tmp_path / "a.csv"
    path.write_text("ticker,from,to\nAAA,2020-01-01,\n")
    with pytest.raises(
        DataError, match=r"no column symbol; found ticker, from, to; line 1 must be"
    ):
        read_members(path, SYMBOLS)


EPOCH = datetime.date(2020, 1, 1)
edges = st.lists(st.integers(0, 60), min_size=2, max_size=8, unique=True).map(sorted)


@given(edges, edges, st.booleans())
def test_the_mask_is_that_of_a_plain_loop(
    tmp_path_factory: pytest.TempPathFactory, first: list[int], second: list[int], still: bool
) -> None:
    folder = tmp_path_factory.mktemp("members")
    lines: list[str] = []
    expected: list[set[int]] = []
    for symbol, days in zip(SYMBOLS, (first, second), strict=True):
        inside: set[int] = set()
        for start, stop in zip(days[::2], days[1::2], strict=False):
            last = still and stop == days[-1]
            inside |= set(range(start, 61 if last else stop + 1))
            end = "" if last else str(EPOCH + datetime.timedelta(stop))
            lines.append(f"{symbol},{EPOCH + datetime.timedelta(start)},{end}")
        expected.append(inside)
    days_text = [str(EPOCH + datetime.timedelta(day)) for day in range(61)]
    found = mask(write(folder, *sorted(lines)), *days_text)
    assert found == [[int(day in one) for one in expected] for day in range(61)]
