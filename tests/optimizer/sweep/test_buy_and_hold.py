"""Buying and holding against one symbol after another bought by hand, and empyrical."""

from __future__ import annotations

import math
from dataclasses import replace

import empyrical
import numpy as np
import pytest

from optimizer.search.run import run_study
from optimizer.sweep.buy_and_hold import OF_EQUITY, buy_and_hold, held_metrics
from optimizer.sweep.inputs import Inputs
from tests.reference import metrics as reference
from tests.reference.selection import inputs_of
from tests.support.studies import random_bars, small_study, write_bars


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    home = tmp_path_factory.mktemp("held")
    study = small_study(write_bars(home / "bars.parquet", random_bars()), search={"trials": 1})
    return inputs_of(run_study(study, out=home / "out", workers=1))[1]


def test_equal_money_in_each_symbol(inputs: Inputs) -> None:
    bars, first = inputs.bars, inputs.first
    equity = buy_and_hold(inputs)
    bought = [100_000.0 / 3 / bars.open[first + 1, s] for s in range(3)]
    assert equity[0] == 100_000.0
    assert len(equity) == bars.n_bars - first
    for place in (1, 7, -1):
        held = sum(units * bars.close[first:][place, s] for s, units in enumerate(bought))
        assert equity[place] == pytest.approx(held)


def test_filled_at_the_close_it_is_bought_a_night_earlier(inputs: Inputs) -> None:
    bars, first = inputs.bars, inputs.first
    equity = buy_and_hold(replace(inputs, rules=replace(inputs.rules, close_fill=True)))
    bought = [100_000.0 / 3 / bars.close[first, s] for s in range(3)]
    held = sum(units * bars.close[first + 1, s] for s, units in enumerate(bought))
    assert equity[:2] == pytest.approx([100_000.0, held])


def test_metrics_are_those_of_a_set(inputs: Inputs) -> None:
    equity = buy_and_hold(inputs).tolist()
    split = inputs.split - inputs.first
    found = held_metrics(inputs)
    for part, start, metrics in (
        (equity[:split], 100_000.0, found.in_sample),
        (equity[split:], equity[split - 1], found.out_of_sample),
    ):
        ones = [1.0] * len(part)
        expected = reference.performance(part, start, ones, [], 0.0, 0.0, False, 252.0)
        expected["max_drawdown"] = expected.pop("drawdown")
        assert list(metrics) == list(OF_EQUITY)
        assert metrics == pytest.approx({name: expected[name] for name in OF_EQUITY})
        returns = np.array(reference.returns_of(part, start))
        assert metrics["sharpe"] == pytest.approx(empyrical.sharpe_ratio(returns))
        assert metrics["max_drawdown"] == pytest.approx(-empyrical.max_drawdown(returns))


def test_a_constant_price_has_no_sharpe_ratio(inputs: Inputs) -> None:
    flat = np.full_like(inputs.bars.close, 5.0)
    still = replace(inputs, bars=replace(inputs.bars, open=flat, close=flat))
    for metrics in (held_metrics(still).in_sample, held_metrics(still).out_of_sample):
        assert metrics["sharpe"] is None
        assert metrics["total_return"] == 0.0


def test_without_a_holdout_nothing_is_out_of_sample(inputs: Inputs) -> None:
    found = held_metrics(replace(inputs, split=inputs.bars.n_bars))
    assert found.out_of_sample == {}
    assert not math.isnan(found.in_sample["sharpe"] or math.nan)
