"""One account for the sweep and for the broker of docs/account.md, and where the two differ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import isclose
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from optimizer.review.backtest import backtest
from optimizer.sweep.backtest_result import BacktestResult
from optimizer.types import Bars
from tests.reference.broker import Outcome, run
from tests.support.entries_and_exits import write_bars

CARRY = ("financing_bps_year", "cash_rate", "borrow_bps_year")

KINDS = {"entry": "order"}
"""Kinds of fills by the broker's names that the sweep calls otherwise."""


@dataclass(frozen=True)
class Case:
    """What ``backtest`` and the broker take; ``columns``: funding, dividends."""

    bars: Bars
    parameters: dict[str, Any]
    keys: dict[str, Any]
    columns: dict[str, Any] = field(default_factory=dict)
    finer: Bars | None = None

    def paid(self) -> npt.NDArray[np.float64]:
        """What a unit held at the close before is paid in each bar."""
        previous = np.vstack([self.bars.close[:1], self.bars.close[:-1]])
        return np.asarray(
            self.columns.get("dividends", 0.0) - self.columns.get("funding", 0.0) * previous
        )

    def sweep(self) -> BacktestResult:
        bars = replace(self.bars, payments=self.paid()) if self.columns else self.bars
        if self.finer is None:
            return backtest(bars, self.parameters, **self.keys)
        with TemporaryDirectory() as folder:
            path = write_bars(self.finer, Path(folder) / "finer.parquet")
            return backtest(bars, self.parameters, **self.keys, fills=path)

    def broker(self) -> Outcome:
        return run(self.bars, self.parameters, **self.keys, **self.columns, fills=self.finer)


def differences(case: Case, wanted: Outcome, got: BacktestResult) -> Iterator[str]:
    """Where the sweep and the broker differ: the first fill, and the first bar of the equity."""
    bars = case.bars
    at = np.searchsorted(bars.timestamps, got.fills["timestamp"].to_numpy("datetime64[ns]"))
    names = [bars.symbols[fill.symbol] for fill in wanted.fills]
    mine = [
        (fill.bar, name, KINDS.get(fill.kind, fill.kind), fill.lots)
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


def plain_case(
    prices: dict[str, list[float]], days: float = 1.0, n_bars: int = 12, **keys: Any
) -> Case:
    """Bars, twelve by default, that end with ``prices``, still before; each opens at the close before it.

    Long from the first rise on, with no costs but those in ``keys``.
    """
    given = np.array(list(prices.values())).T
    close = np.vstack([np.repeat(given[:1], n_bars - len(given), axis=0), given])
    open_ = np.vstack([close[:1], close[:-1]])
    step = np.timedelta64(round(days * 86_400), "s")
    times = np.datetime64("2020-01-01T00:00:00") + np.arange(len(close)) * step
    high, low = np.maximum(open_, close), np.minimum(open_, close)
    bars = Bars(
        tuple(prices),
        times.astype("datetime64[ns]"),
        *(open_, high, low, close, np.full(close.shape, 1e6)),
        bars_per_year=252.0,
    )
    parameters = {
        "strategy": "momentum",
        "momentum_lookback": 1,
        "volatility_lookback": 2,
        "rebalance_band": 0.0,
        "correlation_penalty": 0.0,
        **keys.pop("parameters", {}),
    }
    free = {"commission_bps": 0.0, "slippage_bps": 0.0, "initial_cash": 10_000.0}
    account = {**dict.fromkeys(CARRY, 0.0), **keys.pop("account", {})}
    return Case(
        bars, parameters, {"costs": {**free, **keys.pop("costs", {})}, "account": account, **keys}
    )


def both(case: Case) -> tuple[list[tuple[int, str, str, float, float]], npt.NDArray[np.float64]]:
    """Fills (bar, symbol, kind, lots, price) and equity, on which sweep and broker agree.

    The last bar is -1.
    """
    wanted, got = case.broker(), case.sweep()
    assert list(differences(case, wanted, got)) == []
    fills: list[tuple[int, str, str, float, float]] = [
        (
            fill.bar - case.bars.n_bars,
            case.bars.symbols[fill.symbol],
            fill.kind,
            fill.lots,
            fill.price,
        )
        for fill in wanted.fills
    ]
    return fills, np.array(got.equity, dtype=np.float64)
