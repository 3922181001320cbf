"""raptorbt: its batch runner for one symbol, its shared-capital runner for several."""

from __future__ import annotations

import numpy as np
import raptorbt

from benchmarks.peer_workers.serve import PRICES, Array, Case, serve

CHUNK_SETS = 250
"""Parameter sets of one call: as fast as more, and their results fit the memory."""


def _row(metrics: raptorbt.BacktestMetrics) -> tuple[float, float, float]:
    return metrics.end_value, metrics.sharpe_ratio, metrics.max_drawdown_pct / 100.0


def _config(case: Case) -> raptorbt.BacktestConfig:
    return raptorbt.BacktestConfig(
        initial_capital=case.cash,
        fees=case.fees,
        fill_timing="same_bar_close",
        periods_per_year=case.bars_per_year,
    )


def w1(case: Case, engine: str) -> Array:
    """All sets of one symbol by the batch runner; the environment holds its threads to one."""
    prices = [np.ascontiguousarray(getattr(case, name)[case.first :, 0]) for name in PRICES]
    times, config = case.timestamps[case.first :], _config(case)
    rows = []
    for start in range(0, case.n_sets, CHUNK_SETS):
        signals = case.signals(start, start + CHUNK_SETS)
        entries, exits = (np.ascontiguousarray(signal.T) for signal in signals)
        items = [raptorbt.BatchSingleItem("", *pair) for pair in zip(entries, exits, strict=True)]
        results = raptorbt.batch_single_backtest(times, *prices, items, config)
        rows += [_row(result.metrics) for _, result in results]
    return np.array(rows)


def w2(case: Case, engine: str) -> Array:
    """One call a set: the batch runner takes one symbol."""
    symbols = range(case.n_symbols)
    signals = (np.ascontiguousarray(signal.T) for signal in case.signals(0, case.n_sets))
    entries, exits = (signal.reshape(case.n_sets, case.n_symbols, -1) for signal in signals)
    times = case.timestamps[case.first :]
    prices = [
        [np.ascontiguousarray(getattr(case, name)[case.first :, s]) for name in PRICES]
        for s in symbols
    ]
    config = _config(case)
    rows = []
    for i in range(case.n_sets):
        instruments = [
            (times, *prices[s], entries[i, s], exits[i, s], 1, 1.0, f"S{s:02d}") for s in symbols
        ]
        result = raptorbt.run_portfolio_backtest(instruments, config)
        rows.append(_row(result.metrics))
    return np.array(rows)


if __name__ == "__main__":
    serve({"w1": w1, "w2": w2}, ["raptorbt"])
