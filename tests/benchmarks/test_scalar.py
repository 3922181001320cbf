"""The scalar loop that the benchmark compares with gives what the sweep gives."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.scalar import scalar_momentum
from optimizer.bench.inputs import momentum_sets, simulated_bars
from optimizer.catalogue import METRICS
from optimizer.sweep.evaluate import evaluate
from optimizer.sweep.inputs import NO_REGIME, MarketRegime


@pytest.mark.parametrize(
    "tables",
    [
        {},
        {"risk": {"max_exposure": 0.5, "expected_sharpe": 2.0}},
        {"costs": {"commission_bps": 20.0, "slippage_bps": 10.0, "spread_bps": 5.0}},
    ],
)
def test_the_scalar_loop_ends_where_the_sweep_ends(tables: dict[str, Any]) -> None:
    bars = simulated_bars(600, 4)
    inputs, shared, own = momentum_sets(bars, 20, tables=tables)
    flat = {NO_REGIME: MarketRegime.neutral(bars.n_bars)}
    for tile in (shared, own):
        (result,) = evaluate(inputs, [tile], flat)
        total = result.in_sample[: tile.n_lanes, METRICS.index("total_return")]
        equity = scalar_momentum(inputs, tile)
        assert len(set(equity)) > 5
        assert equity / inputs.rules.initial_cash - 1.0 == pytest.approx(
            total, rel=1e-11, abs=1e-11
        )
