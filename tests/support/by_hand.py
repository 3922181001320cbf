"""One lane through bars that a test writes down.

A signal of 1 or -1 is a momentum of 0.2 either way against a threshold of 0.1, and 0 lies between. The
volatility is 0.02 and the lookback 25, so the score is 0.2 / (0.02 * 5) = 2, the strength
0.05 * 0.02 * 2 = 0.002, the confidence 1, and the Kelly size size * 0.002 / 0.02**2 = 5 * size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from kernels import layout
from tests.reference.simulation import ParameterSet, Rules
from tests.support.lanes import Inputs, Lane
from tests.support.random_lanes import OPTIONS, Path, path_of, sweep_of

FREE = Rules(initial_cash=1000.0)
ALL_IN = ParameterSet(thresholds=(0.1,), size=1e6, max_weight=1.0)
"""A Kelly fraction so large that every position is wanted at its cap, all of the equity."""


def scenario(
    signals: Sequence[Sequence[float]],
    closes: Sequence[Sequence[float]],
    opens: Sequence[Sequence[float]] | None = None,
    highs: Sequence[Sequence[float]] | None = None,
    lows: Sequence[Sequence[float]] | None = None,
    chosen: ParameterSet = ALL_IN,
    options: str = "plain",
    rules: Rules = FREE,
    regimes: Sequence[int] | None = None,
    correlation: float = 0.0,
    volumes: Sequence[Sequence[float]] | None = None,
    rates: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Path:
    """One lane through given bars, bar by bar; prices and signals are by symbol, then by bar.

    ``rates`` are credit, debit and years of every bar but the first. Of the options, those that are
    compiled and the fill count.
    """
    close = np.array(closes, dtype=np.float64).T
    n_bars, n_symbols = close.shape
    open_ = close if opens is None else np.array(opens, dtype=np.float64).T
    high = np.maximum(open_, close) if highs is None else np.array(highs, dtype=np.float64).T
    low = np.minimum(open_, close) if lows is None else np.array(lows, dtype=np.float64).T
    matrices = None
    if OPTIONS[options].correlated:
        matrices = np.full((n_bars, n_symbols, n_symbols), correlation)
        matrices[:, range(n_symbols), range(n_symbols)] = 1.0
    table = np.zeros((n_bars, layout.N_RATE_COLUMNS))
    table[1:, [layout.CREDIT, layout.DEBIT, layout.YEARS]] = rates
    inputs = Inputs(
        open_,
        high,
        low,
        close,
        0.2 * np.array(signals, dtype=np.float64).T[:, :, None],
        np.full((n_bars, n_symbols, 1), 0.02),
        np.array([[code] for code in regimes or [0] * n_bars], dtype=np.int8),
        matrices,
        volumes=None if volumes is None else np.array(volumes, dtype=np.float64).T,
        rates=table,
    )
    rules = replace(
        rules,
        allow_short=OPTIONS[options].allow_short,
        fill_at_close=OPTIONS[options].fill_at_close,
    )
    return path_of(sweep_of(inputs, [[Lane(chosen)]], OPTIONS[options], rules), 0)


def lots_of(path: Path, symbol: int = 0) -> list[float]:
    return [float(value) for value in path.lots[:, 0, symbol, 0]]


def orders_of(path: Path, bar: int) -> list[float]:
    return [float(value) for value in path.orders[bar, 0, :, 0]]


def cash_of(path: Path) -> list[float]:
    return [float(value) for value in path.cash[:, 0, 0]]


def equity_of(path: Path) -> list[float]:
    return [float(value) for value in path.equity[:, 0, 0]]
