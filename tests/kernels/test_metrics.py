"""Performance from sums against empyrical and the path, and what is undefined."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan, nan, sqrt

import empyrical
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from kernels import layout, metrics
from kernels.metrics import mean_and_deviation
from tests.reference import metrics as reference

FloatArray = npt.NDArray[np.float64]
METRICS = (
    "total_return",
    "cagr",
    "volatility",
    "sharpe",
    "sortino",
    "calmar",
    "drawdown",
    "exposure",
    "turnover",
    "trades",
    "win_rate",
    "profit_factor",
    "final_equity",
    "costs_paid",
    "ruin",
    "skewness",
    "kurtosis",
    "liquidations",
    "carry",
    "expectancy",
    "average_holding",
    "losing_streak",
    "drawdown_duration",
    "ulcer_index",
    "omega",
)


def column_of(name: str) -> int:
    """Column of a metric; CARRY is a row of the lanes' state there."""
    return int(getattr(metrics, "NET_CARRY" if name == "carry" else name.upper()))


def path_of(returns: Sequence[float], start: float) -> list[float]:
    """Equity after each bar."""
    equity = []
    for return_ in returns:
        start *= 1.0 + return_
        equity.append(start)
    return equity


def rows_of(
    returns: Sequence[float],
    start: float,
    exposure: Sequence[float] = (),
    profits: Sequence[float] = (),
    traded: float = 0.0,
    costs: float = 0.0,
    ruined: bool = False,
    liquidations: float = 0.0,
    carry: float = 0.0,
    held: Sequence[float] = (),
) -> FloatArray:
    """The rows of the simulation's state that a lane with this path has, (N_LANE_ROWS,)."""
    equity = path_of(returns, start)
    values = {
        "EQUITY": equity[-1],
        "MAX_DRAWDOWN": reference.max_drawdown(equity, start),
        "SUM_RETURN": sum(returns),
        "SUM_RETURN_2": sum(r * r for r in returns),
        "SUM_RETURN_3": sum(r**3 for r in returns),
        "SUM_RETURN_4": sum(r**4 for r in returns),
        "SUM_DOWNSIDE_2": sum(min(r, 0.0) ** 2 for r in returns),
        "SUM_EXPOSURE": sum(exposure),
        "SUM_EQUITY": sum(equity),
        "TRADED": traded,
        "COSTS": costs,
        "N_TRADES": len(profits),
        "N_WINS": sum(profit > 0.0 for profit in profits),
        "GROSS_PROFIT": sum(max(profit, 0.0) for profit in profits),
        "GROSS_LOSS": sum(max(-profit, 0.0) for profit in profits),
        "RUINED": ruined,
        "N_LIQUIDATIONS": liquidations,
        "CARRY": carry,
        "SUM_LOSS": -sum(min(r, 0.0) for r in returns),
        "SUM_DRAWDOWN_2": sum(fall**2 for fall in reference.drawdowns(equity, start)),
        "MOST_UNDER_PEAK": reference.longest(f > 0.0 for f in reference.drawdowns(equity, start)),
        "MOST_LOSING": reference.longest(profit <= 0.0 for profit in profits),
        "SUM_HELD": sum(held),
    }
    rows = np.full(layout.N_LANE_ROWS, nan)
    for name, value in values.items():
        rows[int(getattr(layout, name)) // layout.STRIDE] = value
    return rows


def performance(
    lanes: Sequence[FloatArray], start: Sequence[float], n_bars: int, bars_per_year: float
) -> list[dict[str, float]]:
    """Metrics of each lane by name."""
    out = np.full((len(lanes), metrics.N_METRICS), -7.0)
    rows = np.ascontiguousarray(np.array(lanes).T)
    yearly = bars_per_year
    metrics.performance(rows, np.array(start), n_bars, yearly, n_bars, yearly, out)
    return [{name: float(lane[column_of(name)]) for name in METRICS} for lane in out]


def of_returns(
    returns: Sequence[float], start: float = 1.0, yearly: float = 252.0
) -> dict[str, float]:
    """Metrics of one lane."""
    return performance([rows_of(returns, start)], [start], len(returns), yearly)[0]


def test_every_metric_has_its_own_column() -> None:
    assert sorted(column_of(name) for name in METRICS) == list(range(metrics.N_METRICS))


@pytest.mark.parametrize("bars_per_year", [252.0, 365.25 * 24.0, 52.0])
@pytest.mark.parametrize(("n_bars", "drift"), [(2, 0.01), (40, -0.002), (1500, 0.0005)])
def test_equals_empyrical(n_bars: int, drift: float, bars_per_year: float) -> None:
    random = np.random.default_rng(n_bars)
    for scale in (0.002, 0.01, 0.04):
        values = random.normal(drift, scale, n_bars)
        values[0] = -abs(values[0])
        returns = pd.Series(values, pd.date_range("2001-01-01", periods=n_bars))
        actual = of_returns(values.tolist(), 10_000.0, bars_per_year)
        yearly = {"annualization": bars_per_year}
        expected = {
            "total_return": empyrical.cum_returns_final(returns),
            "cagr": empyrical.cagr(returns, **yearly),
            "volatility": empyrical.annual_volatility(returns, **yearly),
            "sharpe": empyrical.sharpe_ratio(returns, **yearly),
            "sortino": empyrical.sortino_ratio(returns, **yearly),
            "calmar": empyrical.calmar_ratio(returns, **yearly),
            "drawdown": -empyrical.max_drawdown(returns),
            "skewness": stats.skew(values),
            "kurtosis": stats.kurtosis(values, fisher=False),
            "omega": empyrical.omega_ratio(returns),
        }
        for name, value in expected.items():
            # Third and fourth central moments lose some digits as differences of power sums.
            digits = 1e-8 if name in ("skewness", "kurtosis") else 1e-10
            assert actual[name] == pytest.approx(value, rel=digits, abs=1e-12), name


basis_points = st.integers(-3000, 3000).map(lambda bps: bps / 1e4)


@settings(deadline=None, max_examples=60)
@given(
    lanes=st.integers(2, 40).flatmap(
        lambda n: st.lists(
            st.tuples(
                st.lists(basis_points, min_size=n, max_size=n),
                st.lists(st.floats(0.0, 3.0), min_size=n, max_size=n),
                st.lists(st.floats(-1e3, 1e3), max_size=6),
                st.floats(0.0, 1e7),
                st.floats(0.0, 1e4),
                st.booleans(),
            ),
            min_size=1,
            max_size=3,
        )
    ),
    start=st.floats(1.0, 1e6),
    bars_per_year=st.sampled_from([252.0, 12.0]),
)
def test_equals_the_reference(
    lanes: list[tuple[list[float], list[float], list[float], float, float, bool]],
    start: float,
    bars_per_year: float,
) -> None:
    n_bars = len(lanes[0][0])
    rows = [
        rows_of(lane[0], start, *lane[1:], held=[float(len(lane[2]))] * len(lane[2]))
        for lane in lanes
    ]
    actual = performance(rows, [start] * len(lanes), n_bars, bars_per_year)
    for lane, one in zip(lanes, actual, strict=True):
        returns = lane[0]
        held = [float(len(lane[2]))] * len(lane[2])
        path = path_of(returns, start)
        expected = reference.performance(path, start, *lane[1:], bars_per_year, held=held)
        if len(set(returns)) == 1 and returns[0] != 0.0:
            # There is no deviation. Power sums cannot tell that from rounding.
            assert one["volatility"] < 1e-6
            del expected["volatility"], expected["sharpe"]
        spread = np.std(returns) / max(np.sqrt(np.mean(np.square(returns))), 1e-300)
        if spread < 1e-3:
            del expected["skewness"], expected["kurtosis"]  # these are rounding errors
        for name, value in expected.items():
            assert one[name] == pytest.approx(value, rel=1e-6, abs=1e-12, nan_ok=True), name


def test_by_hand() -> None:
    # 100, 110, 99, 108.9: returns 0.1, -0.1, 0.1 in a year of 3 bars.
    profits = [30.0, -10.0, 5.0]
    rows = rows_of(
        *([0.1, -0.1, 0.1], 100.0, [0.5, 1.0, 0.0], profits, 636.0, 1.5),
        liquidations=2.0,
        carry=-3.5,
        held=[4.0, 1.0, 2.0],
    )
    one = performance([rows], [100.0], 3, 3.0)[0]
    mean, deviation = 0.1 / 3, sqrt(0.04 / 3)  # (2 * 0.0667**2 + 0.1333**2) / 2 = 0.04 / 3
    assert one["total_return"] == pytest.approx(0.089, abs=1e-12)
    assert one["cagr"] == pytest.approx(0.089, abs=1e-12)
    assert one["volatility"] == pytest.approx(deviation * sqrt(3.0), abs=1e-12)
    assert one["sharpe"] == pytest.approx(mean / deviation * sqrt(3.0), abs=1e-12)
    # One loss of 0.1 in three bars: the root of its mean square is 0.1 / sqrt(3).
    assert one["sortino"] == pytest.approx(mean / (0.1 / sqrt(3.0)) * sqrt(3.0), abs=1e-12)
    assert one["drawdown"] == pytest.approx(0.1, abs=1e-12)
    assert one["calmar"] == pytest.approx(0.89, abs=1e-11)
    assert one["exposure"] == pytest.approx(0.5, abs=1e-15)
    # 636 traded over a mean equity of 317.9 / 3, in a year.
    assert one["turnover"] == pytest.approx(636.0 / (317.9 / 3), abs=1e-12)
    assert (one["trades"], one["win_rate"], one["profit_factor"]) == (3.0, 2 / 3, 3.5)
    assert (one["final_equity"], one["costs_paid"], one["ruin"]) == (rows[1], 1.5, 0.0)
    assert (one["liquidations"], one["carry"]) == (2.0, -3.5)
    assert one["expectancy"] == pytest.approx(25.0 / 3.0)
    assert one["average_holding"] == pytest.approx(7.0 / 3.0)
    assert one["losing_streak"] == 1.0
    # 99 and 108.9 are below the peak of 110: by a tenth and by a hundredth.
    assert one["drawdown_duration"] == 2.0
    assert one["ulcer_index"] == pytest.approx(sqrt((0.1**2 + 0.01**2) / 3.0))
    assert one["omega"] == pytest.approx(2.0)


def test_the_turnover_is_per_year() -> None:
    rows = rows_of([0.0] * 126, 100.0, traded=300.0)
    assert performance([rows], [100.0], 126, 252.0)[0]["turnover"] == pytest.approx(6.0)


def test_a_flat_lane_has_no_ratios() -> None:
    one = of_returns([0.0] * 20)
    ratios = ("sharpe", "sortino", "calmar", "win_rate", "profit_factor", "omega")
    for name in (*ratios, "expectancy", "average_holding"):
        assert isnan(one[name]), name
    nothing = ("drawdown_duration", "ulcer_index", "losing_streak")
    for name in ("total_return", "cagr", "volatility", "drawdown", "turnover", "trades", *nothing):
        assert one[name] == 0.0, name


def test_without_losses_there_is_no_sortino_and_no_calmar() -> None:
    one = of_returns([0.01, 0.02, 0.0])
    assert isnan(one["sortino"])
    assert isnan(one["calmar"])
    assert one["sharpe"] > 0.0


def test_one_bar_has_no_deviation() -> None:
    one = of_returns([-0.01])
    assert isnan(one["volatility"])
    assert isnan(one["sharpe"])
    assert one["drawdown"] == pytest.approx(0.01)


def test_trades_without_a_loss_have_no_profit_factor() -> None:
    one = performance([rows_of([0.1], 1.0, profits=[2.0, 3.0])], [1.0], 1, 252.0)[0]
    assert isnan(one["profit_factor"])
    assert one["win_rate"] == 1.0


def test_ruin_is_a_loss_of_everything() -> None:
    rows = rows_of([0.1, -1.0, 0.0], 100.0, profits=[-150.0], ruined=True)
    one = performance([rows], [100.0], 3, 252.0)[0]
    expected = ("total_return", -1.0), ("cagr", -1.0), ("drawdown", 1.0), ("calmar", -1.0)
    assert [(name, one[name]) for name, _ in expected] == list(expected)
    assert (one["final_equity"], one["ruin"], one["profit_factor"]) == (0.0, 1.0, 0.0)


def test_a_period_after_ruin_is_defined_where_it_can_be() -> None:
    rows = rows_of([0.0, 0.0], 1.0)
    for name in ("EQUITY", "SUM_EQUITY"):
        rows[int(getattr(layout, name)) // layout.STRIDE] = 0.0
    one = performance([rows], [0.0], 2, 252.0)[0]
    assert isnan(one["turnover"])
    assert isnan(one["sharpe"])
    assert (one["final_equity"], one["volatility"]) == (0.0, 0.0)


@settings(deadline=None)
@given(values=st.lists(st.floats(-1.0, 1.0), min_size=2, max_size=50))
def test_the_mean_and_the_deviation_of_power_sums(values: list[float]) -> None:
    mean, deviation = mean_and_deviation(len(values), sum(values), sum(v * v for v in values))
    assert mean == pytest.approx(float(np.mean(values)), abs=1e-12)
    assert deviation == pytest.approx(float(np.std(values, ddof=1)), abs=1e-7)
    assert deviation >= 0.0
