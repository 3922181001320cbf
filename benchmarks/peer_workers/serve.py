"""What the workers share: the case they read, the signals, and the loop that takes requests.

Runs in a peer's own environment, so it imports numpy alone.
"""

from __future__ import annotations

import gc
import json
import platform
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


PRICES = ("open", "high", "low", "close", "volume")


class Case:
    """One workload, as the driver wrote it.

    Attributes:
        close: (n_bars, n_symbols), warm-up bars included; the simulation starts at bar ``first``.
        open, high, low, volume: of the same shape.
        timestamps: (n_bars,), int64 nanoseconds.
        lookbacks, thresholds: (n_sets,) of each parameter set.
        cash, fees, min_size, bars_per_year: of all sets; fees are a fraction of the traded value,
            and a smaller purchase than ``min_size`` units is none.
        weight: of a symbol that is wanted, a fraction of equity at each close; NaN for all in.
        trials: of a search.
    """

    def __init__(self, path: Path, step: int = 1) -> None:
        with np.load(path) as file:
            for name in (*PRICES, "timestamps"):
                setattr(self, name, file[name])
            self.lookbacks = file["lookbacks"][::step]
            self.thresholds = file["thresholds"][::step]
            self.first, self.trials = int(file["first"]), int(file["trials"])
            for name in ("cash", "fees", "min_size", "weight", "bars_per_year"):
                setattr(self, name, float(file[name]))
        self.n_symbols = self.close.shape[1]
        self.n_sets = len(self.lookbacks)

    close: Array
    open: Array
    high: Array
    low: Array
    volume: Array
    timestamps: Array
    cash: float
    fees: float
    min_size: float
    weight: float
    bars_per_year: float

    def momentum(self, lookback: int) -> Array:
        """Return over ``lookback`` bars from bar ``first`` on, (n_bars - first, n_symbols)."""
        now = self.close[self.first :]
        return now / self.close[self.first - lookback : len(self.close) - lookback] - 1.0

    def signals(self, start: int, stop: int) -> tuple[Array, Array]:
        """Entries and exits of sets ``start`` to ``stop - 1``: (bars, sets x symbols), bool."""
        lookbacks = self.lookbacks[start:stop]
        thresholds = self.thresholds[start:stop]
        shape = (len(self.close) - self.first, len(lookbacks), self.n_symbols)
        entries, exits = np.empty(shape, dtype=bool), np.empty(shape, dtype=bool)
        for lookback in np.unique(lookbacks):
            sets = np.flatnonzero(lookbacks == lookback)
            own = slice(sets[0], sets[-1] + 1)  # sets of one lookback stand side by side
            momentum = self.momentum(int(lookback))[:, np.newaxis, :]
            threshold = thresholds[own][:, np.newaxis]
            np.greater(momentum, threshold, out=entries[:, own])
            np.less(momentum, -threshold, out=exits[:, own])
        return entries.reshape(shape[0], -1), exits.reshape(shape[0], -1)


def equity_row(equity: Array, case: Case) -> tuple[float, float, float]:
    """Final value, Sharpe and drawdown of one equity curve, for peers that define them otherwise."""
    path = np.append(case.cash, equity)
    returns = path[1:] / path[:-1] - 1.0
    with np.errstate(invalid="ignore"):
        sharpe = returns.mean() / returns.std(ddof=1) * np.sqrt(case.bars_per_year)
    return float(equity[-1]), float(sharpe), float((1 - path / np.maximum.accumulate(path)).max())


Work = Callable[[Case, str], Array]
"""From a case and an engine to (n_sets, 3): final value, Sharpe, maximum drawdown as a fraction."""


def serve(works: dict[str, Work], packages: Sequence[str]) -> None:
    """Say the versions of ``packages``, then answer requests on stdin until it closes, one JSON a line.

    A request has ``work``, ``case`` (npz), ``engine``, ``step`` (every how many sets) and ``out``. The
    answer is ``{"wall": ..., "processor": ...}``, seconds, with the results in ``out`` (npy), or
    ``{"error": ...}``. The time is that of the work alone: no imports, no reading of the case.
    """
    answers, sys.stdout = sys.stdout, sys.stderr  # a peer may print
    versions = {"python": platform.python_version(), **{name: version(name) for name in packages}}
    print(json.dumps({"versions": versions}), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            case = Case(Path(request["case"]), request["step"])
            gc.collect()  # what cycles of an earlier request hold is not this one's
            wall, processor = time.perf_counter(), time.process_time()
            results = works[request["work"]](case, request["engine"])
            answer: dict[str, Any] = {
                "wall": time.perf_counter() - wall,
                "processor": time.process_time() - processor,
            }
            np.save(request["out"], results)
        except Exception as error:  # the driver reports it as this peer's result
            answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
        print(json.dumps(answer), file=answers, flush=True)
