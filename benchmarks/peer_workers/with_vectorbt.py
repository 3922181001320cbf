"""vectorbt, by its Numba and its Rust engine, and Optuna over it."""

from __future__ import annotations

import gc

import numpy as np
import optuna
import vectorbt as vbt

from benchmarks.peer_workers.serve import Array, Case, serve

CHUNK_SETS = 100
"""Parameter sets of one call: of 50 to 2,000 columns a call the fastest, W1 and W2 together."""

gc.freeze()  # what the imports made is never garbage: the collections below are then quick


def results(case: Case, portfolio: vbt.Portfolio) -> Array:
    """Final value, Sharpe and drawdown of each set."""
    returns = portfolio.get_returns_acc(year_freq=f"{case.bars_per_year} days")
    columns = (portfolio.final_value(), returns.sharpe_ratio(), -returns.max_drawdown())
    return np.stack([np.atleast_1d(np.asarray(column)) for column in columns], axis=1)


def all_in(case: Case, engine: str, start: int, stop: int) -> Array:
    """Some sets that put all their money into one symbol, or none."""
    entries, exits = case.signals(start, stop)
    portfolio = vbt.Portfolio.from_signals(
        case.close[case.first :],
        entries,
        exits,
        fees=case.fees,
        init_cash=case.cash,
        min_size=case.min_size,
        freq="1D",
        engine=engine,
    )
    return results(case, portfolio)


def by_weight(case: Case, engine: str, start: int, stop: int) -> Array:
    """Some sets whose symbols share cash, sales before purchases."""
    entries, exits = case.signals(start, stop)
    portfolio = vbt.Portfolio.from_orders(
        np.tile(case.close[case.first :], stop - start),
        np.where(entries, case.weight, np.where(exits, 0.0, np.nan)),
        size_type="targetpercent",
        fees=case.fees,
        init_cash=case.cash,
        min_size=case.min_size,
        freq="1D",
        engine=engine,
        group_by=np.repeat(np.arange(stop - start), case.n_symbols),
        cash_sharing=True,
        call_seq="auto",
    )
    return results(case, portfolio)


def sweep(case: Case, engine: str) -> Array:
    """All sets of a case."""
    one = all_in if np.isnan(case.weight) else by_weight
    parts = []
    for start in range(0, case.n_sets, CHUNK_SETS):
        parts.append(one(case, engine, start, min(start + CHUNK_SETS, case.n_sets)))
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
        return float(all_in(case, engine, 0, 1)[0, 1])

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=1))
    study.optimize(objective, n_trials=case.trials)
    best = study.best_params
    return np.array([[study.best_value, best["lookback"], best["threshold"]]])


if __name__ == "__main__":
    names = ("vectorbt", "vectorbt-rust", "numba", "optuna")
    serve({"w1": sweep, "w2": sweep, "tpe": tpe}, names)
