"""Finer bars inside bars, by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optimizer.bars.finer import inside_bars
from optimizer.errors import DataError
from optimizer.review.backtest import backtest
from optimizer.types import Bars
from tests.support.studies import write_bars

DAY, HOUR = np.timedelta64(1, "D"), np.timedelta64(1, "h")
START = np.datetime64("2024-01-01", "ns")


def bars_of(times: Any, rows: list[tuple[float, float, float, float]], volume: Any = 100.0) -> Bars:
    open_, high, low, close = (np.array([[row[k]] for row in rows]) for k in range(4))
    volumes = np.broadcast_to(np.asarray(volume, dtype=float), (len(rows),)).reshape(-1, 1).copy()
    when = np.asarray(times, dtype="datetime64[ns]")
    return Bars(("A",), when, open_, high, low, close, volumes, 365.0)


def daily(rows: list[tuple[float, float, float, float]]) -> Bars:
    return bars_of(START + np.arange(len(rows)) * DAY, rows)


THREE = [(10.0, 12.0, 9.0, 11.0), (11.0, 13.0, 10.0, 12.0), (12.0, 14.0, 11.0, 13.0)]


def test_each_finer_bar_belongs_to_the_bar_in_which_it_lies() -> None:
    times = [START + 2 * HOUR, START + 5 * HOUR, START + 2 * DAY, START + 3 * DAY]
    rows = [(10.0, 11.0, 9.0, 9.5), (9.5, 12.0, 9.5, 11.0), (12.0, 14.0, 11.0, 13.0), (1.0,) * 4]
    finer = inside_bars(daily(THREE), bars_of(times, rows, [5.0, 0.0, 7.0, 9.0]))
    # Two in the first bar; none in the second, which stands for itself; the last lies behind.
    assert finer.bounds.tolist() == [0, 2, 3, 4]
    assert finer.open[:, 0].tolist() == [10.0, 9.5, 11.0, 12.0]
    assert finer.high[:, 0].tolist() == [11.0, 12.0, 13.0, 14.0]
    assert finer.low[:, 0].tolist() == [9.0, 9.5, 10.0, 11.0]
    assert finer.traded[:, 0].tolist() == [1, 0, 1, 1]
    assert finer.volume[:, 0].tolist() == [5.0, np.inf, 100.0, 7.0]


def test_finer_bars_of_other_prices_or_times_are_refused() -> None:
    halved = [(5.0, 6.0, 4.5, 5.5)]
    with pytest.raises(DataError, match=r"range from 4\.5 to 6, their bar from 9 to 12; 33% of"):
        inside_bars(daily(THREE), bars_of([START], halved))
    with pytest.raises(DataError, match="no bar lies inside"):
        inside_bars(daily(THREE), bars_of([START + 9 * DAY], halved))


def test_finer_bars_that_miss_prices_of_their_bar_are_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The morning of the first bar misses its low of 9; the second bar has no finer ones."""
    inside_bars(daily(THREE), bars_of([START + HOUR], [(10.0, 12.0, 10.0, 11.0)]))
    assert caplog.messages == [
        "<memory>: the finer bars of A miss the high or the low of 33% of their bars by more than 0.1%;"
        " are both files of the same hours, and adjusted alike?"
    ]
    caplog.clear()
    inside_bars(daily(THREE), bars_of([START + HOUR], [THREE[0]]))
    assert not caplog.messages


def test_a_few_bars_of_other_prices_count_as_without_finer_ones(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rows = [(10.0, 12.0, 9.0, 11.0)] * 200
    halves = [(10.0, 12.0, 9.0, 10.0), (10.0, 11.0, 9.5, 11.0)] * 200
    halves[6] = (20.0, 24.0, 18.0, 20.0)  # a bad print in the fourth bar
    times = (START + np.arange(200) * DAY)[:, None] + np.array([1, 9]) * HOUR
    finer = inside_bars(daily(rows), bars_of(times.ravel(), halves))
    assert finer.high[:, 0].max() == 12.0
    assert finer.high[6:8, 0].tolist() == [12.0, 11.0]
    assert finer.traded[6:8, 0].tolist() == [1, 0]
    (message,) = caplog.messages
    assert "2024-01-04 range from 9.5 to 24, their bar from 9 to 12; 1 bar like that" in message


def test_bars_that_are_no_finer_are_refused() -> None:
    with pytest.raises(DataError, match="a bar is 1 day, no finer than the 1 day of"):
        inside_bars(daily(THREE), daily(THREE))


def test_the_finer_path_decides_whether_the_stop_or_the_target_came_first(tmp_path: Path) -> None:
    """One bar holds both: the coarse rule takes the stop at 95, its finer bars reach 110 first."""
    flat = (100.0, 100.0, 100.0, 100.0)
    rising = [
        (100.0 + k / 100, 100.0 + k / 100, 100.0 + k / 100, 100.0 + k / 100) for k in range(12)
    ]
    both = (100.0, 112.0, 94.0, 100.0)
    bars = daily([*rising, both, flat, flat])
    day = START + 12 * DAY
    path = [(100.0, 112.0, 99.0, 105.0), (105.0, 106.0, 94.0, 100.0)]
    finer = bars_of([day + HOUR, day + 9 * HOUR], path)
    given: dict[str, Any] = {
        "parameters": {
            "strategy": "momentum",
            "momentum_lookback": 2,
            "volatility_lookback": 2,
            "weight": 1.0,
            "stop_loss": 0.05,
            "take_profit": 0.1,
        },
        "costs": {"commission_bps": 0.0, "slippage_bps": 0.0},
        "sizing": "weight",
    }
    coarse = backtest(bars, **given).fills
    fine = backtest(bars, **given, fills=write_bars(tmp_path / "finer.parquet", finer)).fills
    entry = float(coarse["price"].iloc[0])
    assert 100.0 < entry < 100.2
    for fills, price in ((coarse, entry * 0.95), (fine, entry * 1.1)):
        stops = fills[fills["kind"] == "stop"]
        assert [str(time)[:10] for time in stops["timestamp"]] == ["2024-01-13"]
        assert stops["price"].tolist() == pytest.approx([price], rel=1e-12)
