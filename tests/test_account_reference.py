"""The sweep against the broker of docs/account.md, fill by fill, and both against values by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import isclose
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from optimizer.sweep.single_set import BacktestResult, backtest
from optimizer.types import Bars
from tests.reference.broker import Outcome, run

SIZINGS = ("kelly", "volatility_target", "weight", "equal_weight", "risk_per_trade")
STRATEGIES = ("momentum", "mean_reversion", "sma_cross", "breakout")

N_ACCOUNTS = 200


@dataclass(frozen=True)
class Variant:
    """Options of which each combination is compiled on its own; the tests stay with some of them."""

    fees: bool
    stops: bool
    margin: bool
    correlated: bool


VARIANTS = (
    Variant(fees=True, stops=True, margin=True, correlated=True),
    Variant(fees=True, stops=True, margin=True, correlated=False),
    Variant(fees=True, stops=True, margin=False, correlated=False),
    Variant(fees=False, stops=True, margin=True, correlated=False),
    Variant(fees=False, stops=False, margin=False, correlated=True),
    Variant(fees=False, stops=False, margin=False, correlated=False),
)


@dataclass(frozen=True)
class Case:
    """What ``backtest`` and the broker take."""

    bars: Bars
    parameters: dict[str, Any]
    keys: dict[str, Any]

    def sweep(self) -> BacktestResult:
        return backtest(self.bars, self.parameters, **self.keys)

    def broker(self) -> Outcome:
        return run(self.bars, self.parameters, **self.keys)


def wild_bars(rng: np.random.Generator) -> Bars:
    """Random walks with jumps, gaps, halts, still stretches, twins, and symbols without volume."""
    n_bars, n_symbols = int(rng.integers(80, 161)), int(rng.integers(1, 7))
    shape = (n_bars, n_symbols)
    scale = rng.uniform(0.005, 0.05)
    moves = rng.normal(0.0, scale, shape) + rng.normal(0.0, scale, (n_bars, 1))
    moves += rng.normal(0.0, scale, shape) * 5.0 * (rng.random(shape) < 0.03)
    moves += np.repeat(rng.normal(0.0, scale / 3, (n_bars // 20 + 1, n_symbols)), 20, 0)[:n_bars]
    # Crashes and squeezes of all symbols at once; some end an account.
    moves += (rng.random((n_bars, 1)) < 0.03) * rng.normal(0.0, 0.3, (n_bars, 1))
    for s in range(n_symbols):
        if rng.random() < 0.3:
            start = int(rng.integers(0, n_bars))
            moves[start : start + int(rng.integers(2, 20)), s] = 0.0
    still = moves == 0.0
    close = rng.uniform(5.0, 200.0, n_symbols) * np.exp(np.cumsum(moves, axis=0))
    before = np.vstack([close[:1], close[:-1]])
    # An open lies anywhere between the two closes and beyond, or at the previous close.
    share = rng.choice([0.0, 0.5, 1.0], shape) + rng.normal(0.0, 0.3, shape)
    open_ = before * np.exp(moves * share)
    high = np.maximum(open_, close) * np.exp(np.abs(rng.normal(0.0, scale / 2, shape)) * ~still)
    low = np.minimum(open_, close) * np.exp(-np.abs(rng.normal(0.0, scale / 2, shape)) * ~still)
    volume = np.round(np.exp(rng.normal(7.0, 1.0, shape)))
    volume[rng.random(shape) < rng.choice([0.0, 0.05, 0.3])] = 0.0
    volume[:, rng.random(n_symbols) < 0.15] = 0.0
    if n_symbols > 1 and rng.random() < 0.2:
        for table in (open_, high, low, close, volume):
            table[:, 1] = table[:, 0]
    days = np.sort(rng.choice(2 * n_bars, n_bars, replace=False)).astype("timedelta64[D]")
    return Bars(
        tuple("ABCDEF"[:n_symbols]),
        (np.datetime64("2018-01-01") + days).astype("datetime64[ns]"),
        *(open_, high, low, close, volume),
        bars_per_year=float(rng.choice([252.0, 365.0])),
    )


def some(rng: np.random.Generator, share: float, low: float, high: float) -> float:
    """A number from a range in a share of all cases, otherwise 0."""
    return float(rng.uniform(low, high)) if rng.random() < share else 0.0


def by_symbol(
    rng: np.random.Generator, bars: Bars, low: float, high: float
) -> float | dict[str, float]:
    """One number, or one for some symbols and a default."""
    if rng.random() < 0.6:
        return float(rng.uniform(low, high))
    named = [name for name in bars.symbols if rng.random() < 0.5]
    return {name: float(rng.uniform(low, high)) for name in [*named, "default"]}


def wild_parameters(
    rng: np.random.Generator, variant: Variant, sizing: str, leverage: float
) -> dict[str, Any]:
    strategy = str(rng.choice(STRATEGIES))
    lookback, longer = int(rng.integers(2, 8)), int(rng.integers(8, 20))
    own = {
        "momentum": {"lookback": lookback, "threshold": some(rng, 0.5, 0.0, 0.05)},
        "mean_reversion": {"lookback": lookback, "oversold": 40.0, "overbought": 60.0},
        "sma_cross": {"fast": lookback, "slow": longer, "band": float(rng.uniform(1e-4, 0.02))},
        "breakout": {"lookback": longer, "atr_lookback": lookback, "width": rng.uniform(0.2, 1.5)},
    }[strategy]
    tightness = float(rng.choice([0.1, 0.3, 0.9])) * variant.stops
    return {
        "strategy": strategy,
        **{f"{strategy}_{name}": value for name, value in own.items()},
        "kelly_fraction": float(rng.uniform(0.1, 4.0)),
        "expected_sharpe": float(rng.uniform(0.3, 3.0)),
        "volatility_target": float(rng.uniform(0.05, 2.0)),
        "weight": float(rng.uniform(0.05, 2.0)),
        "risk_per_trade": float(rng.uniform(0.005, 0.05)),
        "max_exposure": leverage * float(rng.choice([1.0, 1.0, 0.9, 0.5])),
        "max_weight": float(rng.choice([0.2, 0.6, 1.0, 4.0, 4.0])),
        "max_positions": int(rng.choice([0, 0, 1, 2, 3])),
        "neutral_multiplier": float(rng.choice([1.0, 0.7])),
        "correlation_penalty": float(rng.uniform(0.2, 1.0)) if variant.correlated else 0.0,
        "correlation_lookback": int(rng.integers(5, 15)),
        "correlation_exact_symbols": int(rng.choice([1, 32])),
        "correlation_refresh": int(rng.integers(1, 6)),
        "min_order_size": some(rng, 0.5, 0.0, 30.0),
        "rebalance_band": some(rng, 0.7, 0.0, 0.4),
        "stop_loss": float(rng.uniform(0.1, 1.0)) * tightness,
        "take_profit": some(rng, 0.5, 0.1, 3.0) * tightness,
        "trailing_stop": some(rng, 0.5, 0.1, 1.0) * tightness,
        "volatility_lookback": int(rng.integers(2, 12)),
        "ewma_decay": float(rng.uniform(0.8, 0.99)),
        "lot_size": float(rng.choice([1.0, 1.0, 0.1, 10.0])),
    }


def wild_case(seed: int) -> Case:
    """A random account, the same for each seed."""
    rng = np.random.default_rng([20240607, seed])
    variant = VARIANTS[seed % len(VARIANTS)]
    bars = wild_bars(rng)
    allow_short = variant.margin and rng.random() < 0.7
    leverage = 1.0
    if variant.margin and (not allow_short or rng.random() < 0.7):
        leverage = float(rng.uniform(1.01, 4.0))
    sizing = str(rng.choice(SIZINGS if variant.stops else SIZINGS[:4]))
    instruments = {
        name: {
            "lot_size": float(rng.choice([0.01, 1.0, 5.0])),
            "multiplier": float(rng.choice([1.0, 1.0, 0.5, 20.0])),
            "tick_size": 0.01,
        }
        for name in bars.symbols
        if rng.random() < 0.5
    }
    costs: dict[str, Any] = {
        "fill": str(rng.choice(["next_open", "next_open", "close"])),
        "initial_cash": float(rng.choice([3_000.0, 100_000.0, 2_000_000.0])),
        "commission_bps": by_symbol(rng, bars, 0.0, 30.0),
        "slippage_bps": by_symbol(rng, bars, 0.0, 30.0),
        "spread_bps": by_symbol(rng, bars, 0.0, 20.0),
        "spread_ticks": {
            **{name: float(rng.uniform(0.0, 5.0)) for name in instruments},
            "default": 0.0,
        },
    }
    if variant.fees:
        costs |= {
            "commission_per_unit": by_symbol(rng, bars, 0.0, 0.02),
            "commission_minimum": by_symbol(rng, bars, 0.0, 8.0) if rng.random() < 0.6 else 0.0,
            "commission_per_order": by_symbol(rng, bars, 0.0, 4.0) if rng.random() < 0.6 else 0.0,
            "impact": by_symbol(rng, bars, 0.0, 0.5) if rng.random() < 0.6 else 0.0,
            "max_volume_share": by_symbol(rng, bars, 0.02, 0.9) if rng.random() < 0.5 else 0.0,
        }
    account = {
        "leverage": leverage,
        "maintenance_margin": float(rng.choice([0.0, 0.25, 0.9]) * min(1.0, 0.99 / leverage)),
        "financing_bps_year": float(rng.uniform(0.0, 3_000.0)),
        "cash_rate": float(rng.choice([0.0, 0.05, -0.01])),
        "borrow_bps_year": by_symbol(rng, bars, 0.0, 3_000.0),
    }
    return Case(
        bars,
        wild_parameters(rng, variant, sizing, leverage),
        {
            "costs": costs,
            "account": account,
            "instruments": instruments,
            "sizing": sizing,
            "allocation": str(rng.choice(["additions", "targets"])),
            "allow_short": bool(allow_short),
        },
    )


def differences(case: Case, wanted: Outcome, got: BacktestResult) -> Iterator[str]:
    """Where the sweep and the broker differ: the first fill, and the first bar of the equity."""
    bars = case.bars
    at = np.searchsorted(bars.timestamps, got.fills["timestamp"].to_numpy("datetime64[ns]"))
    names = [bars.symbols[fill.symbol] for fill in wanted.fills]
    mine = [
        (fill.bar, name, fill.kind, fill.lots)
        for fill, name in zip(wanted.fills, names, strict=True)
    ]
    theirs = list(
        zip(at.tolist(), got.fills["symbol"], got.fills["kind"], got.fills["lots"], strict=True)
    )
    scale = float(case.keys["costs"]["initial_cash"])
    prices, costs = got.fills["price"].to_numpy(float), got.fills["cost"].to_numpy(float)
    for i, (one, other) in enumerate(zip(mine, theirs, strict=False)):
        if one != other:
            yield f"fill {i}: broker {one}, sweep {other}"
            return
        fill = wanted.fills[i]
        if not isclose(fill.price, prices[i], rel_tol=1e-9):
            yield f"fill {i}, {one}: price {fill.price}, sweep {prices[i]}"
            return
        # The cost is a difference of two values, and has their rounding.
        if not isclose(fill.cost, costs[i], rel_tol=1e-9, abs_tol=1e-11 * abs(fill.flow)):
            yield f"fill {i}, {one}: cost {fill.cost}, sweep {costs[i]}"
            return
    if len(mine) != len(theirs):
        i = min(len(mine), len(theirs))
        yield f"fill {i}: broker {mine[i : i + 1]}, sweep {theirs[i : i + 1]}"
        return
    equity = got.equity.to_numpy()
    if len(equity) != len(wanted.equity):
        yield f"{len(wanted.equity)} bars, sweep {len(equity)}"
        return
    for t in np.flatnonzero(~np.isclose(equity, wanted.equity, rtol=1e-9, atol=1e-9 * scale))[:1]:
        yield f"equity at bar {wanted.first + t}: {wanted.equity[t]!r}, sweep {equity[t]!r}"
