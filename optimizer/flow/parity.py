"""Compare the event flow with the sweep, bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kernels.execution import fill_costs
from optimizer.flow.event_flow import FlowResult
from optimizer.sweep.backtest_result import BacktestResult
from optimizer.types import Fill


@dataclass(frozen=True)
class Parity:
    """An event flow compared with the vectorized result of the same parameter set.

    Attributes:
        n_bars, n_fills: numbers of bars and fills of the vectorized result.
        differences: a line for the first of each kind; empty if all bits agree.
    """

    n_bars: int
    n_fills: int
    differences: tuple[str, ...]


def _bits(*values: Any) -> bytes:
    """The bits of floats: -0.0 differs from 0.0, and NaN equals itself."""
    return np.array(values, dtype=np.float64).tobytes()


def _by_symbol(fills: Sequence[Fill]) -> list[Fill]:
    """Fills in the order of bars and symbols, those without an order of one kind as one in each bar.

    There are several of one kind only where a bar has finer ones. The sweep reports them as one, and the
    symbols of a bar in their order.
    """
    found: list[Fill] = []
    last: dict[tuple[int, int, str], int] = {}
    for fill in fills:
        key = (fill.bar, fill.symbol, fill.kind)
        if fill.kind == "order" or key not in last:
            last[key] = len(found)
            found.append(fill)
            continue
        first = found[last[key]]
        lots = first.lots + fill.lots
        share = fill.lots / lots
        value = first.raw_value + share * (fill.raw_value - first.raw_value)
        cash = first.cash_per_lot + share * (fill.cash_per_lot - first.cash_per_lot)
        found[last[key]] = replace(
            first,
            lots=lots,
            price=first.price + share * (fill.price - first.price),
            raw_value=value,
            cash_per_lot=cash,
            cost=fill_costs(lots, value, cash) + 0.0,
        )
    return sorted(found, key=lambda fill: (fill.bar, fill.symbol))


def compare(flow: FlowResult, number: int, result: BacktestResult) -> Parity:
    """Compare portfolio ``number`` of a flow with a backtest, bit for bit.

    Compared are the equity at every bar with the time of the bar, and time, symbol, kind, lots, price
    and cost of every fill, those of ruin included.

    Args:
        flow: the result of the event flow.
        number: index of the portfolio.
        result: the result of the same parameter set and bars.

    Returns:
        What was compared, and each difference.
    """
    differences = []
    mine, theirs = flow.equity.iloc[:, number], result.equity
    if len(mine) != len(theirs):
        differences.append(f"equity: {len(mine)} bars by events, {len(theirs)} vectorized")
    else:
        times = np.asarray(mine.index) != np.asarray(theirs.index)
        if times.any():
            at = int(np.argmax(times))
            differences.append(
                f"bar {flow.first + at}: {mine.index[at]} by events, {theirs.index[at]} vectorized"
            )
        unlike = mine.to_numpy().view(np.int64) != theirs.to_numpy().view(np.int64)
        if unlike.any():
            at = int(np.argmax(unlike))
            differences.append(
                f"equity at {theirs.index[at]}: {float(mine.iloc[at])!r} by events,"
                f" {float(theirs.iloc[at])!r} vectorized"
            )
    fills = _by_symbol(flow.views[number].transactions)
    symbols = [position.symbol for position in flow.views[number].positions]
    vectorized = list(
        result.fills.sort_values(["timestamp", "symbol"], kind="stable").itertuples(index=False)
    )
    if len(fills) != len(vectorized):
        differences.append(f"fills: {len(fills)} by events, {len(vectorized)} vectorized")
    for fill, other in zip(fills, vectorized, strict=False):
        same = (
            flow.equity.index[fill.bar - flow.first] == other.timestamp
            and symbols[fill.symbol] == other.symbol
            and fill.kind == other.kind
            and _bits(fill.lots, fill.price, fill.cost)
            == _bits(other.lots, other.price, other.cost)
        )
        if not same:
            differences.append(
                f"fill {fill.id}: {fill.kind} of {fill.lots!r} lots at {fill.price!r}, cost"
                f" {fill.cost!r} by events, {other} vectorized"
            )
            break
    return Parity(len(theirs), len(vectorized), tuple(differences))
