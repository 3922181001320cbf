"""Ratios of the returns from day to day of bars within the day: by hand, empyrical and scipy."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import empyrical
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from optimizer.errors import DataError
from optimizer.flow.parity import compare
from optimizer.flow.prepared import run_flow
from optimizer.market.clock import last_of_days
from optimizer.review.backtest import backtest
from optimizer.review.replay import replay
from optimizer.search.run import run_study
from optimizer.selection.record import load_selection
from optimizer.store.export import export_sets
from optimizer.sweep.backtest_result import BacktestResult
from optimizer.sweep.inputs import Inputs
from optimizer.sweep.single_set import single_set_study
from optimizer.types import Bars
from tests.reference.selection import inputs_of
from tests.support.studies import random_bars, small_study, write_bars

SET: dict[str, Any] = {"strategy": "momentum", "momentum_lookback": 5, "kelly_fraction": 4.0}
RATE = 0.02
PER_DAY = 6


def four_hourly(n_bars: int = 400) -> Bars:
    """Bars of four hours around the clock, from noon of a day on."""
    times = np.datetime64("2020-01-01T12:00", "ns") + np.arange(n_bars) * np.timedelta64(4, "h")
    return replace(random_bars(n_bars), timestamps=times, bars_per_year=6 * 365.25)


@pytest.fixture(scope="module")
def daily() -> BacktestResult:
    account = {"risk_free": RATE}
    return backtest(four_hourly(), SET, returns="day", holdout=0.3, account=account)


def test_days_are_those_of_the_time_zone() -> None:
    """Midnight in New York is 5 o'clock UTC in winter and 4 o'clock in summer, from March 8 on."""
    times = pd.date_range("2020-03-07 03:00", periods=60, freq="h").to_numpy()
    last = last_of_days(times, "America/New_York")
    ends = [str(times[i])[5:16] for i in np.flatnonzero(last)]
    assert ends == ["03-07T04:00", "03-08T04:00", "03-09T03:00", "03-09T14:00"]
    ends = [str(times[i])[5:16] for i in np.flatnonzero(last_of_days(times, "UTC"))]
    assert ends == ["03-07T23:00", "03-08T23:00", "03-09T14:00"]


def test_days_are_the_sessions_of_an_exchange() -> None:
    """One of futures in Chicago begins at 17:00 of the day before, which is 23:00 UTC in winter."""
    times = pd.date_range("2020-01-06 20:00", periods=40, freq="h").to_numpy()
    ends = np.flatnonzero(last_of_days(times, exchange="CMES"))
    assert [str(times[i])[5:16] for i in ends] == ["01-06T22:00", "01-07T22:00", "01-08T11:00"]


def excess_of_days(equity: pd.Series[float], before: float) -> Any:
    """Returns from the last close of a day to the next, less the rate; the first is from ``before``."""
    frame = pd.DataFrame({"equity": equity, "n": 1.0})
    days = frame.groupby(pd.DatetimeIndex(equity.index).date).agg({"equity": "last", "n": "sum"})
    returns = days["equity"] / days["equity"].shift(1, fill_value=before) - 1.0
    return (returns - days["n"] * RATE * (4 / 24) / 365.25).to_numpy()


def test_ratios_are_those_of_daily_returns(daily: BacktestResult) -> None:
    # The first decision is at bar 60, at noon: a day of three bars. The holdout of 30% of 340 bars would
    # begin at bar 298, the second one of a day, so it begins at that day's first, 297 x 4 hours later.
    equity = daily.equity
    assert str(equity.index[0]) == "2020-01-11 12:00:00+00:00"
    assert daily.out_of_sample is not None
    split = 297 - 60
    assert str(equity.index[split]) == "2020-02-20 00:00:00+00:00"
    before = 100_000.0
    for part, found in (
        (equity.iloc[:split], daily.in_sample),
        (equity.iloc[split:], daily.out_of_sample),
    ):
        excess = excess_of_days(part, before)
        assert found["sharpe"] == pytest.approx(
            empyrical.sharpe_ratio(excess, annualization=365.25)
        )
        assert found["sortino"] == pytest.approx(
            empyrical.sortino_ratio(excess, annualization=365.25), rel=1e-9
        )
        assert found["volatility"] == pytest.approx(
            np.std(excess, ddof=1) * math.sqrt(365.25), rel=1e-9
        )
        assert found["skewness"] == pytest.approx(stats.skew(excess), rel=1e-6)
        assert found["kurtosis"] == pytest.approx(stats.kurtosis(excess, fisher=False), rel=1e-6)
        assert found["total_return"] == pytest.approx(part.iloc[-1] / before - 1.0)
        before = float(part.iloc[-1])


def test_nothing_else_differs_from_returns_per_bar(daily: BacktestResult) -> None:
    """Trades, equity, drawdown and exposure are those of the bars."""
    per_bar = backtest(four_hourly(), SET, account={"risk_free": RATE})
    assert per_bar.equity.equals(daily.equity)
    assert per_bar.fills.equals(daily.fills)
    whole = backtest(four_hourly(), SET, returns="day", account={"risk_free": RATE})
    changed = {name for name, value in per_bar.in_sample.items() if value != whole.in_sample[name]}
    assert changed == {"sharpe", "sortino", "volatility", "skewness", "kurtosis", "omega"}


def test_daily_bars_close_a_return_each() -> None:
    bars = random_bars()
    one, other = (backtest(bars, SET, returns=which, holdout=0.3) for which in ("bar", "day"))
    assert one.in_sample == other.in_sample
    assert one.out_of_sample == other.out_of_sample


@pytest.mark.parametrize("fill", ["next_open", "close"])
def test_events_equal_the_sweep(fill: str) -> None:
    given: dict[str, Any] = {
        "costs": {"fill": fill},
        "account": {"risk_free": RATE},
        "returns": "day",
    }
    study = single_set_study(
        SET, given["costs"], False, None, 0.3, account=given["account"], returns="day"
    )
    flow = run_flow(study, four_hourly())
    found = backtest(four_hourly(), SET, holdout=0.3, **given)
    assert compare(flow, 0, found).differences == ()
    assert flow.in_sample[0] == found.in_sample
    assert flow.out_of_sample[0] == found.out_of_sample


def test_a_study_of_daily_returns(tmp_path: Path) -> None:
    """Blocks and windows end with a day, and every count is one of days."""
    path = write_bars(tmp_path / "bars.parquet", four_hourly(900))
    study = small_study(
        path,
        account={"risk_free": RATE},
        search={"trials": 4, "returns": "day"},
        validation={"holdout": 0.25, "blocks": 4, "method": "walk_forward"},
    )
    result = run_study(study, out=tmp_path / "out", workers=1)
    inputs: Inputs = inputs_of(result)[1]
    times = pd.DatetimeIndex(inputs.bars.timestamps)
    assert set(times[list(inputs.bounds)].hour) == {0}
    assert times[inputs.split].hour == 0
    lengths = {b - a for a, b in itertools.pairwise(inputs.bounds)}
    assert len(lengths) == 1
    assert lengths.pop() % PER_DAY == 0
    found = load_selection(result.folder)
    assert found is not None
    inside = times[inputs.first : inputs.split].normalize().nunique()
    assert found.n_returns == inside
    assert found.n_holdout_returns == times[inputs.split :].normalize().nunique()
    assert found.returns_per_year == 365.0
    # Moments of a block are those of its days.
    (moments,) = [np.concatenate([part for _, part in result.folder.moments()])]
    replayed = replay(export_sets(result.folder.path), events=True)
    assert replayed.differences == ()
    assert replayed.parity is not None
    assert replayed.parity.differences == ()
    number = int(replayed.recorded["set"])
    place = result.results()["set"].tolist().index(number)
    equity = replayed.result.equity
    for block, (start, stop) in enumerate(itertools.pairwise(inputs.bounds)):
        part = equity.iloc[start - inputs.first : stop - inputs.first]
        excess = excess_of_days(part, float(equity.iloc[start - inputs.first - 1]))
        assert moments[place, :, block] == pytest.approx([excess.sum(), (excess**2).sum()])
    joined = pd.read_parquet(result.folder.path / "walk_forward.parquet")
    assert joined["timestamp"].dt.hour.unique().tolist() == [20]
    assert len(joined) == sum((w.stop - w.start) // PER_DAY for w in found.windows)


def test_bars_of_one_day_are_refused() -> None:
    times = np.datetime64("2020-01-01", "ns") + np.arange(100) * np.timedelta64(5, "m")
    bars = replace(random_bars(100), timestamps=times)
    with pytest.raises(DataError, match=r'in-sample bars are of one day, .* set it to "bar"'):
        backtest(bars, SET, returns="day", holdout=0.3)
