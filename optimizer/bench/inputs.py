"""Simulated bars and parameter sets, the same on every machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from optimizer.study_file.space import build_space
from optimizer.study_file.study import study_from_dict
from optimizer.sweep.inputs import Inputs, prepare
from optimizer.sweep.rules import study_rules
from optimizer.sweep.tiles import Tile
from optimizer.types import Bars

N_BARS, N_SYMBOLS, N_SETS = 1_000, 10, 512
"""Size of the benchmark."""


def simulated_bars(n_bars: int, n_symbols: int) -> Bars:
    """Bars of correlated random walks.

    Args:
        n_bars: hourly bars.
        n_symbols: symbols.

    Returns:
        The same bars for the same arguments.
    """
    rng = np.random.default_rng(4)
    market = rng.normal(3e-4, 0.008, (n_bars, 1))
    close = 100.0 * np.exp(np.cumsum(market + rng.normal(0.0, 0.01, (n_bars, n_symbols)), axis=0))
    open_ = close * np.exp(rng.normal(0.0, 0.004, close.shape))
    spread = np.exp(np.abs(rng.normal(0.0, 0.006, close.shape)))
    return Bars(
        symbols=tuple(f"S{k:03}" for k in range(n_symbols)),
        timestamps=np.datetime64("2000-01-03", "ns") + np.arange(n_bars) * np.timedelta64(1, "h"),
        open=open_,
        high=np.maximum(open_, close) * spread,
        low=np.minimum(open_, close) / spread,
        close=close,
        volume=np.full(close.shape, 1e6),
        bars_per_year=252.0,
        source="simulated",
    )


def momentum_sets(
    bars: Bars,
    n_sets: int = N_SETS,
    shortest: int = 5,
    tables: Mapping[str, Mapping[str, Any]] | None = None,
    **risk_parameters: Any,
) -> tuple[Inputs, Tile, Tile]:
    """Momentum parameter sets that share their features, and others that have their own.

    Args:
        bars: the bars of all symbols.
        n_sets: parameter sets of each kind.
        shortest: shortest lookback in bars; the longest is 250.
        tables: further tables of a study file by name.
        risk_parameters: the risk parameters as in ``[risk]`` of a study file.

    Returns:
        The inputs of both, the sets with one lookback, and the sets with lookbacks of their own.
    """
    given = dict(tables or {})
    content = {
        "study": {"name": "bench"},
        "data": {"path": "."},
        "strategy": {"name": "momentum", "lookback": {"low": shortest, "high": 250}},
        **given,
        "risk": {"correlation_penalty": 0.0, **given.get("risk", {}), **risk_parameters},
    }
    study = study_from_dict(content)
    space = build_space(study)
    inputs = prepare(bars, space, study_rules(study, space, bars), 0.0)
    rng = np.random.default_rng(1)
    branch = space.branches[0]
    one = branch.lanes({"momentum_lookback": max(60, shortest)})
    columns = {name: np.repeat(array, n_sets) for name, array in one.items()}
    columns["momentum_threshold"] = rng.uniform(0.0, 0.1, n_sets)
    columns["kelly_fraction"] = rng.uniform(0.1, 0.5, n_sets)
    columns["rebalance_band"] = rng.uniform(0.05, 0.3, n_sets)
    own = {**columns, "momentum_lookback": rng.integers(shortest, 251, n_sets).astype(np.float64)}
    return inputs, Tile.of(branch, columns), Tile.of(branch, own)
