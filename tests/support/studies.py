"""Small studies on random walks, shared by the tests of the optimizer."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from optimizer.engine.tasks import evaluate_pieces
from optimizer.store.folder import StudyFolder
from optimizer.study_file.study import Study, study_from_dict
from optimizer.types import Bars, TimeArray

SYMBOLS = ("AAA", "BBB", "CCC")


def trading_days(first: str, count: int) -> TimeArray:
    """Days on which a stock exchange of the United States might be open: 9 holidays a year."""
    years = range(int(first[:4]), int(first[:4]) + count // 250 + 2)
    fixed = [f"{year}-{day}" for year in years for day in ("01-01", "07-04", "12-25")]
    # The n-th such weekday of the month, from 0; -1 is the last.
    moving = (("01", 2, "Mon"), ("02", 2, "Mon"), ("05", -1, "Mon"), ("09", 0, "Mon"))
    thanksgiving, spring = ("11", 3, "Thu"), ("04", 1, "Fri")
    holidays = [
        np.busday_offset(
            np.datetime64(f"{year}-{month}") + (nth < 0), nth, roll="forward", weekmask=weekday
        )
        for year in years
        for month, nth, weekday in (*moving, thanksgiving, spring)
    ]
    off = np.array([*fixed, *holidays], dtype="datetime64[D]")
    return np.busday_offset(np.datetime64(first), np.arange(count), roll="forward", holidays=off)


def random_bars(n_bars: int = 300, symbols: Sequence[str] = SYMBOLS, seed: int = 1) -> Bars:
    """Daily bars of correlated random walks with trends that come and go; the same for each seed."""
    rng = np.random.default_rng([seed, n_bars, len(symbols)])
    shape = (n_bars, len(symbols))
    drift = np.repeat(rng.choice([-0.004, 0.0, 0.004], (n_bars // 40 + 1, shape[1])), 40, axis=0)
    market = rng.normal(0.0, 0.006, (n_bars, 1))
    close = 100.0 * np.exp(np.cumsum(drift[:n_bars] + market + rng.normal(0, 0.01, shape), axis=0))
    before = np.vstack([np.full((1, shape[1]), 100.0), close[:-1]])
    open_ = before * np.exp(rng.normal(0.0, 0.003, shape))
    high = np.maximum(open_, close) * np.exp(np.abs(rng.normal(0.0, 0.004, shape)))
    low = np.minimum(open_, close) * np.exp(-np.abs(rng.normal(0.0, 0.004, shape)))
    days = trading_days("2015-01-05", n_bars).astype("datetime64[ns]")
    volume = rng.integers(1_000, 100_000, shape).astype(np.float64)
    return Bars(tuple(symbols), days, open_, high, low, close, volume, 252.0)


def changed(bars: Bars, start: int, factor: float = 1.5) -> Bars:
    """The same bars up to ``start``, and prices that go another way from there on."""
    n_after = bars.n_bars - start
    path = (
        np.linspace(1.0, factor, n_after)[:, None]
        * (1 + 0.02 * np.sin(np.arange(n_after)))[:, None]
    )
    scale = np.vstack([np.ones((start, 1)), path])
    prices = {name: getattr(bars, name) * scale for name in ("open", "high", "low", "close")}
    return replace(bars, **prices)


def write_bars(path: Path, bars: Bars) -> Path:
    """Write bars as a tidy Parquet file."""
    values = ("open", "high", "low", "close", "volume")
    tables = [
        pd.DataFrame(
            {
                "symbol": symbol,
                "timestamp": bars.timestamps,
                **{name: getattr(bars, name)[:, s] for name in values},
            }
        )
        for s, symbol in enumerate(bars.symbols)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.concat(tables).to_parquet(path, index=False)
    return path


def mapping(path: str | Path = "bars.parquet", /, **tables: Any) -> dict[str, Any]:
    """A study of 4 swept sets a trial and three searched parameters, by random search.

    Each of ``tables`` is merged into the study's table of that name; a list replaces it.
    """
    study: dict[str, Any] = {
        "study": {"name": "small", "seed": 3},
        "data": {"path": str(path)},
        "strategy": {
            "name": "momentum",
            "lookback": {"low": 5, "high": 40, "step": 5},
            "threshold": {"sweep": [0.0, 0.02]},
        },
        "classifier": {"name": "none"},
        "risk": {
            "kelly_fraction": {"sweep": [0.05, 0.2]},
            "max_exposure": {"low": 0.3, "high": 1.0},
            "volatility_lookback": {"choices": [10, 20]},
            "correlation_lookback": 20,
        },
        "search": {"sampler": "random", "trials": 10, "batch": 4},
        "validation": {"holdout": 0.25},
    }
    for name, table in tables.items():
        merged = isinstance(table, Mapping) and isinstance(study.get(name), Mapping)
        study[name] = {**study[name], **table} if merged else table
    return study


def small_study(path: Path, /, **tables: Any) -> Study:
    """The study of ``mapping``, on the bars at ``path``."""
    return study_from_dict(mapping(path.name, **tables), path.parent)


def result_hashes(folder: StudyFolder) -> dict[str, str]:
    """SHA-256 of each result file by name."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.batch_paths()
    }


FATAL_LOOKBACK = 35


def evaluate_or_die(shared: Any, pieces: Any, regimes: Any, limit: Any) -> Any:
    """As ``evaluate_pieces``, but the tiles of one lookback kill their process."""
    if any(piece.task.point["momentum_lookback"] == FATAL_LOOKBACK for piece in pieces):
        os.kill(os.getpid(), signal.SIGKILL)
    return evaluate_pieces(shared, pieces, regimes, limit)
