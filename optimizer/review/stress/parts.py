"""The same simulation by year, by regime, and by the side of its positions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from kernels import layout
from kernels.codes import BEAR, BULL, NEUTRAL
from optimizer.review.stress.simulation import Figures, InSample, Simulated, yearly_alpha
from optimizer.sweep.drawdown import drawdowns
from optimizer.sweep.performance import metrics_of
from optimizer.types import BoolArray, FloatArray, IntArray

REGIMES = {"bull": BULL, "neutral": NEUTRAL, "bear": BEAR}
"""Names of the codes, in the order of tables."""

SIDES = ("long", "short")


def chained(
    set_: InSample,
    returns: FloatArray,
    excess: FloatArray,
    market: FloatArray,
    n_bars: int,
    n_trades: int,
) -> Figures:
    """The figures of some returns, one after the other as if there were no gap between them.

    Args:
        set_: the set.
        returns, excess, market: the returns, these less the risk-free ones, and the benchmark's, (n,).
        n_bars: number of bars that they span.
        n_trades: number of trades.
    """
    if len(returns) < 2:
        return Figures(n_trades=n_trades)
    equity: FloatArray = np.concatenate((np.ones(1), np.cumprod(1.0 + returns)))
    sums = {
        layout.EQUITY: float(equity[-1]),
        layout.SUM_RETURN: float(excess.sum()),
        layout.SUM_RETURN_2: float((excess**2).sum()),
        layout.MAX_DRAWDOWN: float(drawdowns(equity, 1.0).max()),
    }
    per_year = set_.rules.returns_per_year
    found = metrics_of(sums, 1.0, n_bars, set_.bars.bars_per_year, len(returns), per_year)
    return Figures.of(found, n_trades, yearly_alpha(excess, market, per_year))


def without_years(set_: InSample, base: Simulated) -> Iterator[tuple[int, Figures]]:
    """The figures without the returns of each calendar year (UTC), which is traded as ever.

    Trades that end in the year are left out too.

    Args:
        set_: the set.
        base: its simulation with fills.

    Yields:
        The year and the figures.
    """
    times = pd.DatetimeIndex(base.returns.index)
    left = pd.DatetimeIndex(closed(base.trades(set_.inputs))["exit"])
    for year in times.year.unique():
        kept = np.asarray(times.year != year)
        yield int(year), _of_returns(set_, base, kept, int((left.year != year).sum()))


def by_regime(set_: InSample, base: Simulated) -> Iterator[tuple[str, float, Figures]]:
    """The figures of the returns under each regime, as it was known before each return.

    A trade counts under the regime that decided its entry.

    Args:
        set_: the set.
        base: its simulation with fills.

    Yields:
        The name of the regime, its share of the returns, and the figures.
    """
    inputs = set_.inputs
    closes = inputs.rules.closes(inputs.first, inputs.bars.n_bars)
    known = set_.regimes[np.concatenate(([max(inputs.first - 1, 0)], closes[:-1]))]
    later = 0 if inputs.rules.close_fill else 1
    entered = closed(base.trades(inputs))["entered"].to_numpy(np.int64)
    decided = set_.regimes[np.maximum(entered - later, 0)]
    for name, code in REGIMES.items():
        of_code = known == code
        n_trades = int((decided == code).sum())
        yield name, float(of_code.mean()), _of_returns(set_, base, of_code, n_trades)


def _of_returns(set_: InSample, base: Simulated, kept: BoolArray, n_trades: int) -> Figures:
    inputs = set_.inputs
    closes = inputs.rules.closes(inputs.first, inputs.bars.n_bars)
    spans = np.diff(np.concatenate(([inputs.first - 1], closes)))
    returns = np.asarray(base.returns, np.float64)[kept]
    n_bars = int(spans[kept].sum())
    return chained(set_, returns, base.excess[kept], base.market[kept], n_bars, n_trades)


def by_side(set_: InSample, base: Simulated) -> Iterator[tuple[str, Figures]]:
    """The figures of what long and short positions earned after costs, each over the equity before.

    Interest, borrow fees, dividends and funding are of the account and count to neither.

    Args:
        set_: the set.
        base: its simulation with fills.

    Yields:
        The side and the figures.
    """
    inputs = set_.inputs
    first, n_bars = inputs.first, inputs.bars.n_bars
    closes = inputs.rules.closes(first, n_bars)
    equity = base.equity.to_numpy(np.float64)
    before = np.concatenate(([inputs.rules.initial_cash], equity[closes - first]))
    sides = closed(base.trades(inputs))["side"]
    for name, profit in side_profits(set_, base).items():
        earned: FloatArray = np.diff(
            np.concatenate((np.zeros(1), np.cumsum(profit)[closes - first]))
        )
        alive = before[:-1] > 0.0
        returns: FloatArray = np.zeros(len(earned))
        returns[alive] = earned[alive] / before[:-1][alive]
        n_trades = int((sides == name).sum())
        yield name, chained(set_, returns, returns, base.market, n_bars - first, n_trades)


def side_profits(set_: InSample, base: Simulated) -> dict[str, FloatArray]:
    """What long and short positions earned at each bar after costs, money.

    Args:
        set_: the set.
        base: its simulation with fills.

    Returns:
        Shape (n_bars from the first decision on,) by side; both together are the changes of the equity
        less its carry.
    """
    assert base.fills is not None
    inputs, bars = set_.inputs, set_.inputs.bars
    first = inputs.first
    profits = {name: np.zeros(bars.n_bars - first) for name in SIDES}
    for s, symbol in enumerate(bars.symbols):
        fills = base.fills[base.fills["symbol"] == symbol]
        times = pd.DatetimeIndex(base.equity.index)
        at: IntArray = np.asarray(times.get_indexer(pd.DatetimeIndex(fills["timestamp"])))
        lots, cash = fills["lots"].to_numpy(), fills["cash"].to_numpy()
        held = np.cumsum(lots)
        # A fill never turns a position around: that takes two.
        is_long = np.where(held - lots != 0.0, held - lots, lots) > 0.0
        worth = bars.close[first:, s] * inputs.rules.lot_money[s]
        for name, own in (("long", is_long), ("short", ~is_long)):
            position = np.zeros(len(worth))
            np.add.at(position, at[own], lots[own])
            value = np.cumsum(position) * worth
            profits[name] += np.diff(np.concatenate(([0.0], value)))
            np.add.at(profits[name], at[own], cash[own])
    return profits


def closed(trades: pd.DataFrame) -> pd.DataFrame:
    """The trades that have ended.

    Args:
        trades: all trades, see ``round_trips``.
    """
    return trades[trades["end"] != "open"]
