"""The order of the symbols has no effect on a backtest: renaming them changes nothing but rounding."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from optimizer import backtest
from optimizer.bench.inputs import simulated_bars
from optimizer.types import Bars

N_SYMBOLS = 6
BASE: dict[str, Any] = {"strategy": "momentum", "momentum_lookback": 30, "kelly_fraction": 0.5}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "long": ({}, {}),
    "costs": (
        {},
        {"costs": {"commission_minimum": 2.0, "impact": 0.3, "max_volume_share": 0.0002}},
    ),
    "short": (
        {"stop_loss": 0.05, "max_exposure": 2.0, "max_weight": 2.0},
        {"allow_short": True, "account": {"leverage": 2.0, "borrow_bps_year": 300}},
    ),
    "places": ({"max_positions": 2}, {}),
    "targets": ({}, {"allocation": "targets", "sizing": "equal_weight"}),
    "correlated": ({"correlation_penalty": 0.8, "correlation_lookback": 40}, {"allow_short": True}),
}


def bars_of(order: list[int]) -> Bars:
    """The same bars with the symbols in an order; each keeps its prices."""
    bars = simulated_bars(400, N_SYMBOLS)
    columns = {
        name: getattr(bars, name)[:, order].copy()
        for name in ("open", "high", "low", "close", "volume")
    }
    return replace(bars, symbols=tuple(bars.symbols[s] for s in order), has_volume=None, **columns)


@pytest.mark.parametrize("name", CASES)
def test_the_order_of_the_symbols_does_not_matter(name: str) -> None:
    parameters, arguments = CASES[name]
    given = BASE | parameters
    one = backtest(bars_of(list(range(N_SYMBOLS))), given, **arguments)
    assert len(one.fills) > 20
    rows = one.fills.sort_values(["timestamp", "symbol", "kind", "lots"], ignore_index=True)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(N_SYMBOLS).tolist()
        other = backtest(bars_of(order), given, **arguments)
        np.testing.assert_allclose(other.equity, one.equity, rtol=1e-9)
        moved = other.fills.sort_values(["timestamp", "symbol", "kind", "lots"], ignore_index=True)
        for column in ("timestamp", "symbol", "kind", "lots"):
            assert (moved[column] == rows[column]).all()
        for column in ("price", "cost"):
            np.testing.assert_allclose(moved[column], rows[column], rtol=1e-9, atol=1e-9)
        for metric, value in one.in_sample.items():
            if metric == "losing_streak":  # trades that end in one bar follow each other by name
                continue
            np.testing.assert_allclose(
                other.in_sample[metric], value, rtol=1e-8, atol=1e-9, err_msg=metric
            )
