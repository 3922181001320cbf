"""Benchmarks that are bought and held, against purchases by hand, and empyrical."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import empyrical
import numpy as np
import pandas as pd
import pytest
import tomli_w

from optimizer.errors import StudyError, StudyFileError
from optimizer.search.run import run_study
from optimizer.selection.benchmark import load_benchmark
from optimizer.selection.record import load_selection
from optimizer.store.folder import StudyFolder
from optimizer.study_file.space import build_space
from optimizer.study_file.study import study_from_dict
from optimizer.sweep.buy_and_hold import (
    OF_EQUITY,
    benchmark_returns,
    held_equity,
    held_metrics,
    lowest_costs,
)
from optimizer.sweep.costs import Costs
from optimizer.sweep.inputs import Inputs, prepare
from optimizer.sweep.rules import study_rules
from optimizer.types import Bars
from tests.reference import metrics as reference
from tests.support.command import barsweep
from tests.support.studies import mapping, random_bars, write_bars

FREE = {"commission_bps": 0.0, "slippage_bps": 0.0}


def prepared(bars: Bars, holdout: float = 0.25, **tables: Any) -> tuple[Inputs, Costs]:
    """Inputs of a study whose first decision is at bar 2, and its lowest costs."""
    content = mapping("none.parquet", **tables)
    content["strategy"]["lookback"] = 2
    content["risk"] = {"volatility_lookback": 2, "correlation_penalty": 0.0}
    study = study_from_dict(content)
    space = build_space(study)
    inputs = prepare(bars, space, study_rules(study, space, bars), holdout)
    assert inputs.first == 2
    return inputs, lowest_costs(space, inputs)


@pytest.fixture(scope="module")
def free() -> tuple[Inputs, Costs]:
    return prepared(random_bars(), costs=FREE)


def equity_of(inputs: Inputs, costs: Costs, benchmark: str = "universe") -> Any:
    return held_equity(inputs, benchmark_returns(inputs, costs, benchmark))


def test_equal_money_in_each_symbol(free: tuple[Inputs, Costs]) -> None:
    inputs, costs = free
    bars, first = inputs.bars, inputs.first
    equity = equity_of(inputs, costs)
    bought = [100_000.0 / 3 / bars.open[first + 1, s] for s in range(3)]
    assert equity[0] == 100_000.0
    assert len(equity) == bars.n_bars - first
    for place in (1, 7, -1):
        held = sum(units * bars.close[first:][place, s] for s, units in enumerate(bought))
        assert equity[place] == pytest.approx(held)


def test_all_money_in_one_symbol(free: tuple[Inputs, Costs]) -> None:
    inputs, costs = free
    close = inputs.bars.close[:, 1]
    returns = benchmark_returns(inputs, costs, "BBB")
    assert returns[0] == 0.0
    assert returns[1] == pytest.approx(close[3] / inputs.bars.open[3, 1] - 1.0)
    assert returns[2:] == pytest.approx(close[4:] / close[3:-1] - 1.0)


def test_filled_at_the_close_it_is_bought_a_night_earlier(free: tuple[Inputs, Costs]) -> None:
    inputs, costs = free
    bars, first = inputs.bars, inputs.first
    equity = equity_of(replace(inputs, rules=replace(inputs.rules, close_fill=True)), costs)
    bought = [100_000.0 / 3 / bars.close[first, s] for s in range(3)]
    held = sum(units * bars.close[first + 1, s] for s, units in enumerate(bought))
    assert equity[:2] == pytest.approx([100_000.0, held])


def steady(price: float = 100.0, n_bars: int = 14) -> Bars:
    """Bars of one symbol, a tenth of a year each, at 100 up to bar 3 and at 110 after it."""
    close = np.full((n_bars, 1), price)
    close[4:] *= 1.1
    times = np.datetime64("2020-01-01T00:00", "ns") + np.arange(n_bars) * np.timedelta64(
        52_596, "m"
    )
    open_ = np.vstack([close[:1], close[:-1]])
    high, low = np.maximum(open_, close), np.minimum(open_, close)
    return Bars(("A",), times, open_, high, low, close, np.full(close.shape, 1e4), 10.0)


def test_costs_interest_and_dividends_by_hand() -> None:
    """10,000 at 0.5% a bar for two bars, then all of it in A, which pays 2 a unit in bar 6."""
    paid = np.zeros((14, 1))
    paid[[2, 3, 6]] = [[9.0], [9.0], [2.0]]
    costs = {"initial_cash": 10_000.0, "commission_bps": {"sweep": [10.0, 20.0]},
             "slippage_bps": 0.0, "spread_bps": {"low": 20.0, "high": 40.0}}  # fmt: skip
    account = {"cash_rate": 0.05}
    inputs, lowest = prepared(replace(steady(), payments=paid), costs=costs, account=account)
    equity = equity_of(inputs, lowest)
    # A unit costs 100 and half the spread, 10 bps of it, and 10 bps of 100.10 as commission.
    units = 10_000.0 * 1.005**2 / (100.10 * 1.001)
    assert equity[:2] == pytest.approx([10_050.0, units * 100.0])
    assert equity[2:4] == pytest.approx([units * 110.0] * 2)
    assert equity[4] == pytest.approx(units * (110.0 + 2.0))
    assert equity[5] == pytest.approx(units * (110.0 + 2.0 * 1.005))


@pytest.mark.parametrize(
    ("fee", "paid_for_all"),
    [({"commission_minimum": 50.0}, 50.0), ({"commission_per_order": 30.0}, 30.0)],
)
def test_a_fee_for_each_order_by_hand(fee: dict[str, float], paid_for_all: float) -> None:
    costs = {**FREE, "initial_cash": 10_000.0, **fee}
    equity = equity_of(*prepared(steady(), costs=costs))
    assert equity[1] == pytest.approx(10_000.0 - paid_for_all)
    # One that takes all of the cash buys nothing.
    inputs, lowest = prepared(steady(), costs={**costs, **dict.fromkeys(fee, 10_000.0)})
    assert (benchmark_returns(inputs, lowest) == 0.0).all()


def test_market_impact_by_hand() -> None:
    """The price is 100 (1 + 0.5 x volatility x sqrt(units / 10,000)) at the volatility of bar 2."""
    inputs, costs = prepared(steady(), costs={**FREE, "impact": 0.5})
    volatility = np.full_like(inputs.volatilities, 0.02)
    inputs = replace(inputs, volatilities=volatility)
    units = equity_of(inputs, costs)[1] / 100.0
    assert units * 100.0 * (1.0 + 0.5 * 0.02 * math.sqrt(units / 1e4)) == pytest.approx(100_000.0)


def test_metrics_are_those_of_a_set(free: tuple[Inputs, Costs]) -> None:
    inputs, costs = free
    returns = benchmark_returns(inputs, costs)
    equity = held_equity(inputs, returns).tolist()
    split = inputs.split - inputs.first
    found = held_metrics(inputs, returns)
    for part, start, metrics in (
        (equity[:split], 100_000.0, found.in_sample),
        (equity[split:], equity[split - 1], found.out_of_sample),
    ):
        ones = [1.0] * len(part)
        expected = reference.performance(part, start, ones, [], 0.0, 0.0, False, 252.0)
        expected["max_drawdown"] = expected.pop("drawdown")
        assert list(metrics) == list(OF_EQUITY)
        assert metrics == pytest.approx({name: expected[name] for name in OF_EQUITY})
        own = np.array(reference.returns_of(part, start))
        assert metrics["sharpe"] == pytest.approx(empyrical.sharpe_ratio(own))
        assert metrics["max_drawdown"] == pytest.approx(-empyrical.max_drawdown(own))


def test_a_constant_price_has_no_sharpe_ratio(free: tuple[Inputs, Costs]) -> None:
    inputs, costs = free
    flat = np.full_like(inputs.bars.close, 5.0)
    still = replace(inputs, bars=replace(inputs.bars, open=flat, close=flat))
    found = held_metrics(still, benchmark_returns(still, costs))
    for metrics in (found.in_sample, found.out_of_sample):
        assert metrics["sharpe"] is None
        assert metrics["total_return"] == pytest.approx(0.0, abs=1e-12)


def test_without_a_holdout_nothing_is_out_of_sample(free: tuple[Inputs, Costs]) -> None:
    inputs, costs = free
    returns = benchmark_returns(inputs, costs)
    found = held_metrics(replace(inputs, split=inputs.bars.n_bars), returns)
    assert found.out_of_sample == {}
    assert not math.isnan(found.in_sample["sharpe"] or math.nan)


def test_a_study_keeps_the_returns_of_its_benchmark(tmp_path: Path) -> None:
    write_bars(tmp_path / "bars.parquet", random_bars())
    content = mapping("bars.parquet", validation={"benchmark": "BBB"}, costs=FREE)
    (tmp_path / "study.toml").write_text(tomli_w.dumps(content))
    study = study_from_dict(content, tmp_path)
    folder = run_study(study, out=tmp_path / "out", workers=1).folder
    bars = random_bars()
    kept = load_benchmark(folder)
    assert kept is not None
    first = folder.manifest()["first_bar"]
    assert (kept.index.tz_localize(None).to_numpy() == bars.timestamps[first:]).all()  # type: ignore[attr-defined]
    close = bars.close[:, 1]
    assert kept.iloc[2:].tolist() == pytest.approx(close[first + 2 :] / close[first + 1 : -1] - 1.0)
    selection = load_selection(folder)
    assert selection is not None
    assert selection.held is not None
    held = np.prod(1.0 + kept.to_numpy()[: folder.manifest()["holdout_bar"] - first]) - 1.0
    assert selection.held.in_sample["total_return"] == pytest.approx(held)
    done = barsweep("show", "out", folder=tmp_path)
    assert "buy and hold BBB" in done.stdout
    assert "Sharpe ratio of buying and holding BBB " in done.stdout
    done = barsweep("report", "out", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "buy and hold BBB" in (tmp_path / "out" / "report.html").read_text()
    pd.DataFrame({"timestamp": kept.index[:5], "return": [0.0] * 5}).to_parquet(
        tmp_path / "out" / "benchmark.parquet"
    )
    done = barsweep("report", "out", folder=tmp_path)
    assert done.returncode == 2
    assert "benchmark.parquet: has 5 bars" in done.stderr.splitlines()[-1]
    (tmp_path / "out" / "benchmark.parquet").write_text("")
    with pytest.raises(
        StudyError, match=r"benchmark.parquet: cannot be read: .*run the study again"
    ):
        load_benchmark(StudyFolder(tmp_path / "out"))


def test_a_benchmark_that_is_no_symbol_is_refused(tmp_path: Path) -> None:
    write_bars(tmp_path / "bars.parquet", random_bars())
    content = mapping("bars.parquet", validation={"benchmark": "BB"})
    with pytest.raises(StudyFileError, match=r"\[validation\] benchmark: \"BB\" is not among the"):
        study_from_dict({**content, "data": {**content["data"], "symbols": ["AAA", "BBB"]}})
    (tmp_path / "study.toml").write_text(tomli_w.dumps(content))
    done = barsweep("check", "study.toml", folder=tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    for part in ("[validation] benchmark", '"BB"', 'did you mean "BBB"?', "universe, AAA, BBB"):
        assert part in line
