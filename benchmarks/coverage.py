"""How often do the bootstrap's 95% intervals hold the true Sharpe ratio?

Run: ``python -m benchmarks.coverage [--series N] [--processes N]``. The returns are simulated from seeds,
with a Sharpe ratio of 0.05 a bar (0.8 a year at 252), so the table is the same on every machine. It is
printed, and written into ``benchmarks/README.md``.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import numpy as np
from joblib import Parallel, delayed
from scipy.signal import lfilter

from benchmarks.tables import publish
from optimizer.selection.bootstrap import optimal_block_length, stationary_bootstrap
from optimizer.selection.sharpe import sharpe_influence
from optimizer.types import FloatArray

SHARPE = 0.05
WARM_UP = 200
N_RESAMPLES = 500

Simulated = Callable[[np.random.Generator, int], FloatArray]
"""Returns with mean 0 and variance 1, (n,)."""


def autocorrelated(r: float) -> Simulated:
    """AR(1) with normal shocks."""

    def draw(random: np.random.Generator, n: int) -> FloatArray:
        values: FloatArray = lfilter([np.sqrt(1.0 - r * r)], [1.0, -r], random.normal(size=n))
        return values

    return draw


def garch(random: np.random.Generator, n: int) -> FloatArray:
    """GARCH(1, 1) with shocks of a t distribution with 6 degrees of freedom."""
    values, variance = np.empty(n), 1.0
    for bar, shock in enumerate(random.standard_t(6, n) / np.sqrt(1.5)):
        values[bar] = np.sqrt(variance) * shock
        variance = 0.02 + 0.08 * values[bar] ** 2 + 0.9 * variance
    return values


KINDS: dict[str, Simulated] = {
    "independent": autocorrelated(0.0),
    "AR(1), 0.3": autocorrelated(0.3),
    "AR(1), -0.3": autocorrelated(-0.3),
    "AR(1), 0.6": autocorrelated(0.6),
    "GARCH(1, 1), fat tails": garch,
}

LENGTHS = (500, 1500)


def one_series(kind: str, n: int, seed: int) -> tuple[bool, float]:
    """Whether the interval holds the true ratio, and the length of its blocks."""
    random = np.random.default_rng([n, seed])
    returns = 0.01 * (SHARPE + KINDS[kind](random, n + WARM_UP)[WARM_UP:])
    length = optimal_block_length(sharpe_influence(returns))
    low, high = stationary_bootstrap(returns, length, N_RESAMPLES, seed).sharpe_interval
    return low <= SHARPE <= high, length


def main() -> None:
    """Print the table and write it into the README."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, default=1000, help="of each kind and length")
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    lines = [
        "| returns | bars | median length of blocks | 95% interval holds the true ratio |",
        "| --- | --- | --- | --- |",
    ]
    shares: dict[str, float] = {}
    with Parallel(n_jobs=given.processes) as parallel:
        for kind in KINDS:
            for n in LENGTHS:
                found = parallel(delayed(one_series)(kind, n, i) for i in range(given.series))
                share = statistics.fmean(holds for holds, _ in found)
                length = statistics.median(length for _, length in found)
                shares[f"{kind}, {n}"] = share
                lines.append(f"| {kind} | {n:,} | {length:.1f} | {share:.1%} |")
                print(lines[-1], flush=True)
    text = f"{given.series:,} series a row.\n\n" + "\n".join(lines)
    publish("coverage", text, {"series": given.series, "coverage": shares})


if __name__ == "__main__":
    main()
