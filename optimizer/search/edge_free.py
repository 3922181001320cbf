"""Copies of bars without an edge: blocks drawn at random, every symbol without alpha."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from optimizer.selection.bootstrap import stationary_rows
from optimizer.selection.p_values import FEWEST_RETURNS, alpha_and_beta
from optimizer.sweep.buy_and_hold import UNIVERSE
from optimizer.types import Bars, FloatArray, IntArray

_MOST_CHANGE = 2.0
"""No return is changed by more than this factor, whatever a regression on a few odd returns says."""


class EdgeFree:
    """Bars, of which copies are drawn.

    A bar but the first is kept as open, high, low and close over the close before it, with its volume,
    its payments over that close, and which symbols have it. A copy is a stationary bootstrap of these:
    blocks of bars of random length from anywhere, all symbols together. So what the symbols did at the
    same time they still do, and calm and wild times stay together within a block.

    The returns are shifted as far as the null needs it. Each symbol loses its alpha, so that what is
    left to expect of it is its beta times the market's return. And each copy has the market's mean
    return, by a shift in proportion to beta: whether holding paid is no part of the question.

    Args:
        bars: two or more bars.
        benchmark: the market: ``UNIVERSE``, which is the same money in every symbol, or a symbol.
        risk_free: (n_bars,), risk-free returns per bar, fractions.
    """

    def __init__(self, bars: Bars, benchmark: str, risk_free: FloatArray) -> None:
        self._bars = bars
        self._held = slice(None)
        if benchmark != UNIVERSE:
            self._held = slice(at := bars.symbols.index(benchmark), at + 1)
        before = bars.close[:-1]
        paid = 0.0 if bars.payments is None else bars.payments[1:] / before
        self._there = np.ones(before.shape, np.bool_)
        if bars.present is not None:
            self._there = bars.present[1:] == 1
        self._returns = np.where(self._there, bars.close[1:] / before - 1.0 + paid, 0.0)
        market = self._market(self._returns)
        self._mean = float(market.mean())
        self._betas, self._factors = np.zeros(bars.n_symbols), np.ones(bars.n_symbols)
        for s, there in enumerate(self._there.T):
            if there.sum() < FEWEST_RETURNS:
                continue
            own, rates = self._returns[there, s], risk_free[1:][there]
            alpha, self._betas[s] = alpha_and_beta(own - rates, market[there] - rates)
            self._factors[s] = 1.0 - alpha / (1.0 + own.mean())

    def copy(self, mean_block: float, random: np.random.Generator) -> Bars:
        """A copy, whose prices follow from the first close.

        Args:
            mean_block: mean length of a block, bars, 1 or more.
            random: the source of blocks.

        Returns:
            Bars of the same times and symbols.
        """
        places = stationary_rows(self._bars.n_bars - 1, mean_block, random)
        there = self._there[places]
        grown = np.where(there, (1.0 + self._returns[places]) * self._factors, 1.0)
        by_beta = float(self._market(np.where(there, grown * self._betas, 0.0)).mean())
        missing = self._mean - float(self._market(grown - 1.0).mean())
        shift = missing / by_beta if by_beta > 0.0 else 0.0
        factors = np.clip(
            self._factors * (1.0 + self._betas * shift), 1.0 / _MOST_CHANGE, _MOST_CHANGE
        )
        return _rebuilt(self._bars, places, np.where(there, factors, 1.0))

    def _market(self, values: FloatArray) -> FloatArray:
        """What the market makes of a value per bar and symbol; a symbol without a bar counts as cash."""
        return np.asarray(values[:, self._held].mean(axis=1))


def _rebuilt(bars: Bars, places: IntArray, factors: FloatArray) -> Bars:
    """The bars at ``places`` one after the other, their prices over the close before times factors."""
    rows, before = places + 1, bars.close[places]
    changes = np.concatenate((bars.close[:1], bars.close[rows] / before * factors))
    close = np.asarray(np.cumprod(changes, axis=0), np.float64)

    def rebuilt(values: FloatArray) -> FloatArray:
        return np.concatenate((values[:1], close[:-1] * (values[rows] / before * factors)))

    moved = np.concatenate(([0], rows))
    return replace(
        bars,
        open=rebuilt(bars.open),
        high=rebuilt(bars.high),
        low=rebuilt(bars.low),
        close=close,
        volume=bars.volume[moved],
        present=None if bars.present is None else bars.present[moved],
        payments=None if bars.payments is None else rebuilt(bars.payments),
    )
