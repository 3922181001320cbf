"""Buying every symbol and holding it: the least that a strategy has to beat."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from kernels import layout
from optimizer.sweep.drawdown import drawdowns
from optimizer.sweep.inputs import Inputs
from optimizer.sweep.performance import metrics_of
from optimizer.types import FloatArray

OF_EQUITY = ("total_return", "cagr", "volatility", "sharpe", "sortino", "calmar", "max_drawdown")
"""Metrics that can be computed from an equity without its trades."""


@dataclass(frozen=True)
class Held:
    """Metrics of buying and holding, by name, None where undefined.

    Attributes:
        in_sample, out_of_sample: the metrics of ``OF_EQUITY``; the latter empty without a holdout.
    """

    in_sample: dict[str, float | None]
    out_of_sample: dict[str, float | None]


def buy_and_hold(inputs: Inputs) -> FloatArray:
    """Equity of the same money in every symbol, bought where the first decision would fill.

    Units are fractional, there are no costs, and nothing is rebalanced. The money of a symbol that is
    listed or becomes a member later waits in cash, and what one that leaves brings stays there: bought
    and sold as a decision at the close of a bar that it has would fill. So do dividends less funding.

    Args:
        inputs: the prepared inputs of the study.

    Returns:
        Money, shape (n_bars from the first decision on,).
    """
    bars = inputs.bars
    growth = np.empty((bars.n_bars, bars.n_symbols))
    for s in range(bars.n_symbols):
        growth[:, s] = bars.carried(s, _growth(inputs, s), 1.0)
    return np.asarray(inputs.rules.initial_cash * growth[inputs.first :].mean(axis=1))


def _growth(inputs: Inputs, symbol: int) -> FloatArray:
    """What 1 in a symbol has become at each of its own bars, shape (n_own,)."""
    bars, rules = inputs.bars, inputs.rules
    own = bars.own(symbol)
    close = bars.close[own, symbol]
    price, later = (close, 0) if rules.close_fill else (bars.open[own, symbol], 1)
    wanted = own >= inputs.first
    if rules.members is not None:
        wanted &= rules.members[own, symbol] == 1
    paid = np.zeros(len(own)) if bars.payments is None else bars.payments[own, symbol]
    growth = np.ones(len(own))
    money, edges = 1.0, np.diff(wanted.astype(np.int8), prepend=0, append=0)
    for start, stop in zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True):
        # Decided at the closes of the own bars ``start`` and ``stop``.
        buy, sell = start + later, stop + later
        if buy >= len(own):
            break
        received = np.concatenate(([0.0], np.cumsum(paid[buy + 1 : sell + 1])))
        growth[buy:sell] = money * ((close[buy:sell] + received[: sell - buy]) / price[buy])
        if sell < len(own):
            money *= (price[sell] + received[-1]) / price[buy]
            growth[sell:] = money
    return growth


def held_metrics(inputs: Inputs) -> Held:
    """The metrics of ``buy_and_hold`` in-sample and over the holdout.

    Args:
        inputs: the prepared inputs of the study.
    """
    equity = np.concatenate([[inputs.rules.initial_cash], buy_and_hold(inputs)])
    risk_free = inputs.rules.rates[inputs.first : inputs.bars.n_bars, layout.RISK_FREE]
    split, yearly = inputs.split - inputs.first, inputs.bars.bars_per_year
    return Held(
        _metrics(equity[: split + 1], risk_free[:split], yearly),
        _metrics(equity[split:], risk_free[split:], yearly),
    )


def _metrics(
    equity: FloatArray, risk_free: FloatArray, bars_per_year: float
) -> dict[str, float | None]:
    """``OF_EQUITY`` of an equity, whose first value is that before the first bar."""
    if len(equity) < 2:
        return {}
    returns = np.diff(equity) / equity[:-1] - risk_free
    sums = {
        layout.EQUITY: equity[-1],
        layout.SUM_RETURN: returns.sum(),
        layout.SUM_RETURN_2: (returns**2).sum(),
        layout.SUM_DOWNSIDE_2: (np.minimum(returns, 0.0) ** 2).sum(),
        layout.MAX_DRAWDOWN: drawdowns(equity, equity[0]).max(),
    }
    found = metrics_of(sums, equity[0], len(returns), bars_per_year)
    return {name: found[name] if math.isfinite(found[name]) else None for name in OF_EQUITY}
