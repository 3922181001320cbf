"""vectorbt, by its Numba and its Rust engine, and Optuna over it."""

from __future__ import annotations

import gc

import numba as nb
import numpy as np
import optuna
import vectorbt as vbt

from benchmarks.peer_workers.serve import Array, Case, serve

CHUNK_SETS = 100
"""Parameter sets of one call: of 50 to 2,000 columns a call the fastest, W1 and W2 together."""

gc.freeze()  # what the imports made is never garbage: the collections below are then quick


def from_signals(case: Case, engine: str, start: int, stop: int) -> Array:
    """Final value, Sharpe and drawdown of some sets."""
    entries, exits = case.signals(start, stop)
    close = case.close[case.first :]
    options = {}
    if case.n_symbols > 1:
        close = np.tile(close, stop - start)
        groups = np.repeat(np.arange(stop - start), case.n_symbols)
        options = {
            "group_by": groups,
            "cash_sharing": True,
            "call_seq": buys_first(exits, case.n_symbols),
        }
    portfolio = vbt.Portfolio.from_signals(
        close,
        entries,
        exits,
        fees=case.fees,
        init_cash=case.cash,
        min_size=case.min_size,
        freq="1D",
        engine=engine,
        **options,
    )
    returns = portfolio.get_returns_acc(year_freq=f"{case.bars_per_year} days")
    columns = (portfolio.final_value(), returns.sharpe_ratio(), -returns.max_drawdown())
    return np.stack([np.atleast_1d(np.asarray(column)) for column in columns], axis=1)


@nb.njit(cache=True)
def buys_first(exits: Array, n_symbols: int) -> Array:
    """Order of the symbols of each set and bar: those that may buy, then those that sell.

    So no order spends what a sale of the same bar brings.
    """
    n_bars, n_columns = exits.shape
    order = np.empty((n_columns, n_bars), dtype=np.int64).T
    for first in range(0, n_columns, n_symbols):
        for t in range(n_bars):
            at = first
            for sells in (False, True):
                for s in range(n_symbols):
                    if exits[t, first + s] == sells:
                        order[t, at] = s
                        at += 1
    return order


def sweep(case: Case, engine: str) -> Array:
    """All sets of a case."""
    parts = []
    for start in range(0, case.n_sets, CHUNK_SETS):
        parts.append(from_signals(case, engine, start, min(start + CHUNK_SETS, case.n_sets)))
        if (
            start // CHUNK_SETS % 10 == 9
        ):  # a portfolio with its caches is a cycle, of 30 MB and more
            gc.collect()
    return np.concatenate(parts)


def tpe(case: Case, engine: str) -> Array:
    """Optuna's own loop, one parameter set a trial: trials to run and their best value.

    Of the case it takes the lookbacks and thresholds as the bounds of the space.
    """
    low, high = float(case.thresholds.min()), float(case.thresholds.max())
    bars = (int(case.lookbacks.min()), int(case.lookbacks.max()))

    def objective(trial: optuna.Trial) -> float:
        case.lookbacks = np.array([trial.suggest_int("lookback", *bars)])
        case.thresholds = np.array([trial.suggest_float("threshold", low, high)])
        return float(from_signals(case, engine, 0, 1)[0, 1])

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=1))
    study.optimize(objective, n_trials=case.trials)
    best = study.best_params
    return np.array([[study.best_value, best["lookback"], best["threshold"]]])


if __name__ == "__main__":
    names = ("vectorbt", "vectorbt-rust", "numba", "optuna")
    serve({"w1": sweep, "w2": sweep, "tpe": tpe}, names)
