"""The size of bars where some are short or left out, and prices that step to a new level."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from optimizer.bars.per_year import infer_bars_per_year
from optimizer.bars.sizes import bar_size, wrong_steps
from optimizer.bars.splits import suspected_splits
from optimizer.bars.times import HOUR, SECOND, to_nanoseconds
from optimizer.types import TimeArray

MINUTE = 60 * SECOND


def times_of(index: pd.DatetimeIndex) -> TimeArray:
    return index.tz_convert("UTC").tz_localize(None).as_unit("ns").to_numpy()


def sessions(clocks: list[str], count: int = 40, zone: str = "America/New_York") -> TimeArray:
    """Bars at these times of the day on weekdays, across a change of the clock."""
    days = pd.bdate_range("2023-02-20", periods=count)
    stamps = [f"{day.date()} {clock}" for day in days for clock in clocks]
    return times_of(pd.DatetimeIndex(stamps).tz_localize(zone))


def is_one_size(times: TimeArray, size: int) -> bool:
    steps = np.diff(to_nanoseconds(times))
    return bar_size(times) == size and not wrong_steps(steps, size).any()


HOURS_FROM_9_30 = ["09:30", "10:00", "11:00", "12:00", "13:00", "14:00", "15:00"]


@pytest.mark.parametrize(
    ("clocks", "size"),
    [
        (HOURS_FROM_9_30, HOUR),  # the first is short
        (
            ["10:30", "11:30", "12:30", "13:30", "14:30", "15:30", "16:00"],
            HOUR,
        ),  # the last, by closes
        (
            ["09:30", "10:30", "11:30", "12:30", "13:30", "14:30", "15:30"],
            HOUR,
        ),  # the last, by opens
        (["09:30", "10:00", "12:00", "14:00"], 2 * HOUR),
        (["09:15", "09:30", "10:00", "10:30", "11:00"], 30 * MINUTE),
        (["09:30", "13:30"], 4 * HOUR),
    ],
)
def test_a_short_bar_at_the_edge_of_each_session(clocks: list[str], size: int) -> None:
    times = sessions(clocks)
    assert is_one_size(times, size)
    assert infer_bars_per_year(times) == pytest.approx(len(clocks) * 252)


def test_a_short_bar_inside_a_session_or_in_one_alone_is_another_size() -> None:
    inside = sessions(["09:30", "10:30", "11:30", "12:00", "12:30", "13:30", "14:30", "15:30"])
    steps = np.diff(to_nanoseconds(inside))
    assert bar_size(inside) == HOUR and wrong_steps(steps, HOUR).any()
    once = np.sort(
        np.append(
            sessions(["10:00", "11:00", "12:00", "13:00", "14:00", "15:00"]),
            sessions(["09:30"], 1),
        )
    )
    assert wrong_steps(np.diff(to_nanoseconds(once)), HOUR).tolist().index(True) == 0


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("size", "share"), [("1min", 0.03), ("1min", 0.3), ("5min", 0.1), ("1h", 0.05)]
)
def test_bars_left_out_where_nothing_traded(seed: int, size: str, share: float) -> None:
    index = pd.date_range("2024-01-01", periods=int(400 / share), freq=size, tz="UTC")
    kept = times_of(index)[np.random.default_rng(seed).random(len(index)) < share]
    assert is_one_size(kept, pd.Timedelta(size).value)


def test_times_of_single_trades_are_no_bars() -> None:
    """Seconds at random: their largest common step is a second, of which hardly any has a bar."""
    seconds = np.cumsum(np.random.default_rng(3).integers(400, 4000, 300))
    times = (seconds * SECOND).astype("datetime64[ns]")
    steps = np.diff(to_nanoseconds(times))
    assert wrong_steps(steps, bar_size(times)).any()


def test_a_symbol_of_few_trades_among_others(tmp_path: object) -> None:
    index = times_of(pd.date_range("2024-01-01", periods=6000, freq="1min", tz="UTC"))
    thin = index[np.random.default_rng(1).random(len(index)) < 0.02]
    assert bar_size(thin) == bar_size(index) == MINUTE


def levels(factor: float, count: int = 60, at: int = 30, noise: float = 0.01) -> np.ndarray:
    walk = np.exp(np.cumsum(np.random.default_rng(2).normal(0, noise, count)))
    return (np.where(np.arange(count) < at, 100.0, 100.0 * factor) * walk)[:, None]


@pytest.mark.parametrize(
    ("factor", "expected"),
    [
        *[(35.0, "1:35"), (114.0, "1:114"), (1 / 35, "35:1"), (1000.0, "1:1000")],
        *[(1e-6, "1000000:1"), (12.0, "1:12"), (3.4, "1:3.4"), (1 / 11.5, "11.5:1")],
        *[(2.5, None), (1 / 2.6, None), (1.0, None)],
    ],
)
@pytest.mark.parametrize("opens_at_the_close_before", [False, True])
def test_any_large_step_that_stays(
    factor: float, expected: str | None, opens_at_the_close_before: bool
) -> None:
    close = levels(factor, noise=0.001)
    open_ = np.vstack([close[:1], close[:-1]]) if opens_at_the_close_before else close
    found = suspected_splits(open_, close)
    assert found == ([] if expected is None else [(30, 0, expected)])


def test_a_large_step_that_does_not_stay_is_a_bad_price() -> None:
    close = np.full((40, 1), 100.0)
    close[20:22] = 3500.0
    assert suspected_splits(close, close) == []


def test_a_step_after_a_gap_of_other_symbols() -> None:
    close = np.hstack([levels(1.0), levels(35.0), levels(1.0)])
    assert suspected_splits(close, close) == [(30, 1, "1:35")]
