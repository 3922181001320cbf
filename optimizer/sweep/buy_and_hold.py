"""Buying every symbol and holding it: what a strategy has to beat to be worth its trouble."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from kernels import layout
from kernels.metrics import N_METRICS, performance
from optimizer.catalogue import METRICS
from optimizer.sweep.drawdown import drawdowns
from optimizer.sweep.inputs import Inputs
from optimizer.types import FloatArray

OF_EQUITY = ("total_return", "cagr", "volatility", "sharpe", "sortino", "calmar", "max_drawdown")
"""Metrics that follow from an equity alone."""


@dataclass(frozen=True)
class Held:
    """Metrics of buying and holding, by name, None where undefined.

    Attributes:
        in_sample, out_of_sample: of ``OF_EQUITY``; the latter empty without a holdout.
    """

    in_sample: dict[str, float | None]
    out_of_sample: dict[str, float | None]


def buy_and_hold(inputs: Inputs) -> FloatArray:
    """Equity of equal money in every symbol, bought as the first decision would fill, then held.

    Fractional units, no costs, nothing rebalanced.

    Returns:
        (n_bars from the first decision on,) money.
    """
    bars, first, rules = inputs.bars, inputs.first, inputs.rules
    growth = bars.close[first:] / (bars.close[first] if rules.close_fill else bars.open[first + 1])
    if not rules.close_fill:
        growth[0] = 1.0
    return np.asarray(rules.initial_cash * growth.mean(axis=1))


def held_metrics(inputs: Inputs) -> Held:
    """Metrics of ``buy_and_hold`` in-sample and over the holdout, as those of a set."""
    equity = np.concatenate([[inputs.rules.initial_cash], buy_and_hold(inputs)])
    split, yearly = inputs.split - inputs.first, inputs.bars.bars_per_year
    return Held(_metrics(equity[: split + 1], yearly), _metrics(equity[split:], yearly))


def _metrics(equity: FloatArray, bars_per_year: float) -> dict[str, float | None]:
    """``OF_EQUITY`` of an equity, whose first value stands before the first bar."""
    if len(equity) < 2:
        return {}
    returns = np.diff(equity) / equity[:-1]
    rows = np.zeros((layout.N_LANE_ROWS, 1))
    for offset, value in (
        (layout.EQUITY, equity[-1]),
        (layout.SUM_RETURN, returns.sum()),
        (layout.SUM_RETURN_2, (returns**2).sum()),
        (layout.SUM_DOWNSIDE_2, (np.minimum(returns, 0.0) ** 2).sum()),
        (layout.MAX_DRAWDOWN, drawdowns(equity, equity[0]).max()),
    ):
        rows[int(offset) // layout.STRIDE, 0] = value
    out = np.empty((1, N_METRICS))
    performance(rows, equity[:1].copy(), len(returns), bars_per_year, out)
    found = dict(zip(METRICS, out[0].tolist(), strict=True))
    return {name: found[name] if math.isfinite(found[name]) else None for name in OF_EQUITY}
