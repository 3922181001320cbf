"""Bars on the calendar of all symbols, next to a plain loop over every symbol and time."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizer.bars.load import load_bars
from optimizer.types import Bars

Row = tuple[str, int, float, float, float, float, float]
HEADER = "symbol,timestamp,open,high,low,close,volume"


def row(symbol: str, day: int, price: float, volume: float = 10.0) -> Row:
    """A bar whose four prices differ."""
    return symbol, day, price, price + 2.0, price - 0.5, price + 1.0, volume


def write(path: Path, rows: list[Row]) -> Path:
    lines = [
        ",".join(map(str, (symbol, f"2020-01-{day:02}", *values))) for symbol, day, *values in rows
    ]
    path.write_text("\n".join([HEADER, *lines]) + "\n")
    return path


def test_a_symbol_that_starts_late_has_a_hole_and_ends_early(tmp_path: Path) -> None:
    """A: days 1 to 6. B: days 3 and 5."""
    rows = [row("A", day, 100.0 + day) for day in range(1, 7)]
    bars = load_bars(
        write(tmp_path / "a.csv", [*rows, row("B", 3, 50.0), row("B", 5, 60.0)]), align="outer"
    )
    assert bars.n_bars == 6
    assert bars.present is not None
    assert bars.present.tolist() == [[1, 0], [1, 0], [1, 1], [1, 0], [1, 1], [1, 0]]
    # Before its first bar its first open, then its last close.
    assert bars.close[:, 1].tolist() == [50.0, 50.0, 51.0, 51.0, 61.0, 61.0]
    assert bars.open[:, 1].tolist() == [50.0, 50.0, 50.0, 51.0, 60.0, 61.0]
    assert bars.high[:, 1].tolist() == [50.0, 50.0, 52.0, 51.0, 62.0, 61.0]
    assert bars.low[:, 1].tolist() == [50.0, 50.0, 49.5, 51.0, 59.5, 61.0]
    assert bars.volume[:, 1].tolist() == [0.0, 0.0, 10.0, 0.0, 10.0, 0.0]
    assert bars.traded.tolist() == bars.present.tolist()
    assert bars.own(0).tolist() == [0, 1, 2, 3, 4, 5]
    assert bars.own(1).tolist() == [2, 4]
    assert bars.carried(1, np.array([7, 8]), -1).tolist() == [-1, -1, 7, 7, 8, 8]


def test_a_symbol_without_volume_trades_where_it_has_a_bar(tmp_path: Path) -> None:
    rows = [row("A", day, 100.0) for day in (1, 2, 3)]
    rows += [row("B", 1, 50.0, 0.0), row("B", 3, 50.0, 0.0)]
    bars = load_bars(write(tmp_path / "a.csv", rows), align="outer")
    assert bars.traded[:, 1].tolist() == [1, 0, 1]


def test_parts_keep_what_is_present(tmp_path: Path) -> None:
    rows = [row("A", day, 100.0) for day in range(1, 7)]
    rows += [row("B", day, 50.0) for day in (1, 2, 3, 6)]
    bars = load_bars(write(tmp_path / "a.csv", rows), align="outer")
    assert bars.present is not None
    short = bars.head(4)
    assert short.present is not None
    assert short.present.tolist() == [[1, 1], [1, 1], [1, 1], [1, 0]]
    assert bars.head(3).present is None
    some = bars.at(3).present
    assert some is not None
    assert some.tolist() == [1, 0]


def test_with_one_calendar_all_alignments_are_one(tmp_path: Path) -> None:
    rows = [row(symbol, day, 10.0 * day) for symbol in "AB" for day in range(1, 9)]
    path = write(tmp_path / "a.csv", rows)
    inner, strict, outer = (load_bars(path, align=one) for one in ("inner", "strict", "outer"))
    assert outer.present is None
    assert inner.content_hash == strict.content_hash == outer.content_hash


def test_a_bar_at_the_last_close_differs_from_a_missing_one(tmp_path: Path) -> None:
    rows = [row("A", day, 100.0) for day in (1, 2, 3)]
    still = ("B", 2, 51.0, 51.0, 51.0, 51.0, 0.0)
    ends = [row("B", 1, 50.0), row("B", 3, 50.0)]
    hole = load_bars(write(tmp_path / "a.csv", [*rows, *ends]), align="outer")
    whole = load_bars(write(tmp_path / "b.csv", [*rows, ends[0], still, ends[1]]), align="outer")
    assert hole.close.tobytes() == whole.close.tobytes()
    assert hole.content_hash != whole.content_hash


def test_long_gaps_are_those_of_each_symbol(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [row("A", day, 100.0) for day in range(1, 32)]
    rows += [row("B", day, 50.0) for day in (1, 2, 3, 28, 29)]
    with caplog.at_level(logging.WARNING):
        load_bars(write(tmp_path / "a.csv", rows), align="outer")
    assert "long gaps without bars: B 2020-01-03 to 2020-01-28 (25 days)" in caplog.text
    assert "dropped" not in caplog.text


lives = st.dictionaries(
    st.sampled_from(["A", "B", "C", "D"]),
    st.sets(st.integers(1, 28), min_size=1),
    min_size=1,
)


@settings(max_examples=60, deadline=None)
@given(lives, st.randoms(use_true_random=False))
def test_loading_is_that_of_a_plain_loop(
    tmp_path_factory: pytest.TempPathFactory, there: dict[str, set[int]], random: object
) -> None:
    cells: dict[tuple[str, int], Row] = {}
    for symbol, owned in there.items():
        for day in sorted(owned):
            cells[symbol, day] = row(symbol, day, random.uniform(1, 9))  # type: ignore[attr-defined]
    calendar = sorted({day for _, day in cells})
    if len(calendar) < 2:
        return
    path = write(tmp_path_factory.mktemp("bars") / "a.csv", list(cells.values()))
    bars = load_bars(path, align="outer", bar="1d")
    assert [int(str(time)[8:10]) for time in bars.timestamps] == calendar
    assert bars.symbols == tuple(sorted(there))
    for s, symbol in enumerate(bars.symbols):
        price = cells[symbol, min(there[symbol])][2]
        for t, day in enumerate(calendar):
            found = [float(getattr(bars, name)[t, s]) for name in HEADER.split(",")[2:]]
            if (symbol, day) in cells:
                expected = list(cells[symbol, day][2:])
                price = expected[3]
                assert _has(bars, t, s)
            else:
                expected = [price, price, price, price, 0.0]
                assert not _has(bars, t, s)
            assert found == expected


def _has(bars: Bars, t: int, s: int) -> bool:
    return bars.present is None or bool(bars.present[t, s])
