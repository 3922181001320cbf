"""A benchmark that is bought and held: the least that a strategy has to beat."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kernels import layout
from kernels.portfolio import carried
from optimizer.catalogue import COSTS, RISK
from optimizer.study_file.space import Space
from optimizer.sweep.costs import Costs
from optimizer.sweep.drawdown import drawdowns
from optimizer.sweep.inputs import Inputs
from optimizer.sweep.performance import metrics_of
from optimizer.types import FloatArray

UNIVERSE = "universe"
"""The benchmark of the same money in every symbol."""

OF_EQUITY = ("total_return", "cagr", "volatility", "sharpe", "sortino", "calmar", "max_drawdown")
"""Metrics that can be computed from an equity without its trades."""

_HALVINGS = 100
"""Until the size of a purchase is exact."""


@dataclass(frozen=True)
class Held:
    """Metrics of a benchmark, by name, None where undefined.

    Attributes:
        in_sample, out_of_sample: the metrics of ``OF_EQUITY``; the latter empty without a holdout.
    """

    in_sample: dict[str, float | None]
    out_of_sample: dict[str, float | None]


def held_name(benchmark: str) -> str:
    """What tables and figures call a benchmark.

    Args:
        benchmark: ``UNIVERSE`` or a symbol.
    """
    return "buy and hold" if benchmark == UNIVERSE else f"buy and hold {benchmark}"


def lowest_costs(space: Space, inputs: Inputs) -> Costs:
    """The costs of a study, each at the lowest value that it is searched or swept over.

    Args:
        space: the parameter space of the study.
        inputs: the prepared inputs of the study.
    """
    names = [one.name for one in (*RISK, *COSTS)]
    lowest = {name: min(min(one.values(name)) for one in space.branches) for name in names}
    return Costs.of(lowest, inputs.rules, inputs.bars.bars_per_year)


def benchmark_returns(inputs: Inputs, costs: Costs, benchmark: str = UNIVERSE) -> FloatArray:
    """Returns per bar of the same money in every symbol, or all of it in one, bought and held.

    Bought where the first decision would fill, with fractions of a lot and whatever the volume.
    Nothing is rebalanced. The money of a symbol that is listed or becomes a member later waits in cash,
    and so does what one that leaves or ends brings, as do dividends less funding. Cash has the interest
    of the account.

    Args:
        inputs: the prepared inputs of the study.
        costs: the costs of each fill.
        benchmark: ``UNIVERSE`` or a symbol of the bars.

    Returns:
        Fractions, shape (n_bars from the first decision on,); 0 where nothing is left to lose.
    """
    bars, cash = inputs.bars, inputs.rules.initial_cash
    held = range(bars.n_symbols)
    if benchmark != UNIVERSE:
        held = range(at := bars.symbols.index(benchmark), at + 1)
    # In the same order as the equity, so that a price that stands still has returns of exactly 0.
    start, equity = 0.0, np.zeros(bars.n_bars - inputs.first)
    for s in held:
        start += cash / len(held)
        equity += _Money(inputs, costs, s, cash / len(held)).equity
    before = np.concatenate(([start], equity[:-1]))
    alive = np.minimum.accumulate(before) > 0.0
    return np.where(alive, equity / np.where(alive, before, 1.0) - 1.0, 0.0)


def held_equity(inputs: Inputs, returns: FloatArray) -> FloatArray:
    """Equity at each bar from returns per bar.

    Args:
        inputs: the prepared inputs of the study.
        returns: fractions, shape (n,).

    Returns:
        Money, shape (n,).
    """
    return np.asarray(inputs.rules.initial_cash * np.cumprod(1.0 + returns))


class _Money:
    """The money of one symbol on its way through the bars, which is an account of its own."""

    def __init__(self, inputs: Inputs, costs: Costs, symbol: int, cash: float) -> None:
        self._inputs, self._costs, self._symbol = inputs, costs, symbol
        self._cash = cash
        # The next bar whose carry is due, and what is held until then: what it cost, a lot and all.
        self._at, self._per_lot, self._spent = inputs.first, 1.0, 0.0
        self.equity = np.empty(inputs.bars.n_bars - inputs.first)
        for buy, sell, price_at_sale in _trades(inputs, symbol):
            self._walk(buy + 1)
            self._buy(buy)
            if sell is not None:
                self._walk(sell + 1)
                self._sell(sell, price_at_sale)
        self._walk(inputs.bars.n_bars)

    def _walk(self, stop: int) -> None:
        """Book the carry of the bars before ``stop``, and mark what is held at their closes."""
        bars, s, first = self._inputs.bars, self._symbol, self._inputs.first
        span = slice(self._at, stop)
        paid = np.zeros(stop - self._at)
        if bars.payments is not None:
            paid = self._worth(bars.payments[span, s])
        cash = np.zeros(len(paid))
        if self._cash != 0.0 or paid.any():
            rates = self._inputs.rules.rates[span]
            rows = zip(
                paid.tolist(),
                rates[:, layout.CREDIT].tolist(),
                rates[:, layout.DEBIT].tolist(),
                strict=True,
            )
            for i, (payment, credit, debit) in enumerate(rows):
                self._cash += float(carried(self._cash, 0.0, -payment, credit, debit))
                cash[i] = self._cash
        self.equity[self._at - first : stop - first] = cash + self._worth(bars.close[span, s])
        self._at = stop

    def _worth(self, prices: FloatArray) -> FloatArray:
        """What is held, at some prices."""
        return self._spent * (prices * self._costs.lot_money[self._symbol] / self._per_lot)

    def _buy(self, bar: int) -> None:
        """Spend all of the cash, if it pays for more than a commission."""
        costs, s = self._costs, self._symbol
        if self._cash > costs.fixed(s):
            price = _fill_price(self._inputs, s, bar)
            low, high = 0.0, self._cash / (price * costs.lot_money[s])
            for _ in range(_HALVINGS):
                lots = (low + high) / 2.0
                if lots * self._cash_per_lot(bar, lots, price) <= self._cash:
                    low = lots
                else:
                    high = lots
            self._per_lot = self._cash_per_lot(bar, low, price)
            self._spent, self._cash = self._cash, 0.0
        self._mark(bar)

    def _sell(self, bar: int, price: float) -> None:
        lots = self._spent / self._per_lot
        if lots > 0.0:
            self._cash += lots * self._cash_per_lot(bar, -lots, price)
            self._spent = 0.0
        self._mark(bar)

    def _mark(self, bar: int) -> None:
        """Equity at the close of a bar after its fill."""
        span = slice(bar, bar + 1)
        value = self._worth(self._inputs.bars.close[span, self._symbol])[0]
        self.equity[bar - self._inputs.first] = self._cash + value

    def _cash_per_lot(self, bar: int, lots: float, price: float) -> float:
        inputs, s = self._inputs, self._symbol
        decided = bar if inputs.rules.close_fill else bar - 1
        volatility, volume = inputs.volatilities[decided, s, 0], inputs.volumes[bar, s]
        return self._costs.terms(s, lots, price, float(volatility), float(volume)).cash_per_lot


def _fill_price(inputs: Inputs, symbol: int, bar: int) -> float:
    prices = inputs.bars.close if inputs.rules.close_fill else inputs.bars.open
    return float(prices[bar, symbol])


def _trades(inputs: Inputs, symbol: int) -> Iterator[tuple[int, int | None, float]]:
    """Bars at which a symbol is bought and sold, and the price of the sale; None if it is kept."""
    bars, rules = inputs.bars, inputs.rules
    own = bars.own(symbol)
    later = 0 if rules.close_fill else 1
    wanted = own >= inputs.first
    if rules.members is not None:
        wanted &= rules.members[own, symbol] == 1
    edges = np.diff(wanted.astype(np.int8), prepend=0, append=0)
    for start, stop in zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True):
        # Decided at the closes of the own bars ``start`` and ``stop``.
        end = int(inputs.ends[symbol])
        if start + later >= len(own) or own[start] == end:  # its last bar decides nothing
            return
        buy = int(own[start + later])
        if stop + later < len(own):
            sell = int(own[stop + later])
            yield buy, sell, _fill_price(inputs, symbol, sell)
        elif end >= 0:
            yield buy, end, float(bars.close[end, symbol])
        else:
            yield buy, None, 0.0


def held_metrics(inputs: Inputs, returns: FloatArray) -> Held:
    """The metrics of a benchmark in-sample and over the holdout.

    Args:
        inputs: the prepared inputs of the study.
        returns: what ``benchmark_returns`` gives, shape (n,).
    """
    equity = np.concatenate([[inputs.rules.initial_cash], held_equity(inputs, returns)])
    return Held(
        _metrics(inputs, equity, inputs.first, inputs.split),
        _metrics(inputs, equity, inputs.split, inputs.bars.n_bars),
    )


def _metrics(inputs: Inputs, every: FloatArray, start: int, stop: int) -> dict[str, float | None]:
    """``OF_EQUITY`` over the bars from ``start`` on; ``every`` begins before the first decision."""
    if start == stop:
        return {}
    rules, closes = inputs.rules, inputs.rules.closes(start, stop)
    equity = every[start - inputs.first : stop - inputs.first + 1]
    closed = np.concatenate((equity[:1], every[closes - inputs.first + 1]))
    returns = np.diff(closed) / closed[:-1] - inputs.rates[closes, layout.RISK_FREE]
    sums = {
        layout.EQUITY: equity[-1],
        layout.SUM_RETURN: returns.sum(),
        layout.SUM_RETURN_2: (returns**2).sum(),
        layout.SUM_DOWNSIDE_2: (np.minimum(returns, 0.0) ** 2).sum(),
        layout.MAX_DRAWDOWN: drawdowns(equity, equity[0]).max(),
    }
    found = metrics_of(
        sums,
        equity[0],
        stop - start,
        inputs.bars.bars_per_year,
        len(returns),
        rules.returns_per_year,
    )
    return {name: found[name] if math.isfinite(found[name]) else None for name in OF_EQUITY}
