"""How often does a reoptimisation change the traded set where nothing has changed?

Run: ``python -m benchmarks.hysteresis [--series N]``. The bars are simulated from seeds, so the table is
the same on every machine. It is printed, and written into ``benchmarks/README.md``.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.tables import markdown, publish
from optimizer.review.rerun import Terms, rerun_set
from optimizer.search.hysteresis import Standing, decide
from optimizer.search.run import run_study
from optimizer.store.export import plain_values, set_document
from optimizer.study_file.study import study_from_dict
from optimizer.types import Bars

MARGINS = (0.0, 0.05, 0.1, 0.2, 0.5)
WINDOW, STEP, N_WINDOWS = 750, 21, 13
"""Bars of a window, bars between two, and windows: three years, a month, a year of months."""

KINDS = {"no edge: random walks": 0.0, "the same trends throughout, 16 bps a day": 0.0016}
"""Mean return of a trend, up or down."""

STUDY: dict[str, Any] = {
    "study": {"name": "hysteresis"},
    "data": {"path": "bars.parquet"},
    "strategy": {
        "name": "momentum",
        "lookback": {"low": 10, "high": 200, "step": 10},
        "threshold": {"sweep": [0.0, 0.01, 0.02, 0.03]},
    },
    "risk": {"allow_short": True, "volatility_lookback": {"sweep": [20, 60]}},
    "search": {"sampler": "grid"},
}


def simulated(trend: float, seed: int) -> Bars:
    """Daily bars of three symbols."""
    rng = np.random.default_rng(seed)
    n_bars = WINDOW + STEP * (N_WINDOWS - 1)
    drift = np.repeat(rng.choice([-trend, trend], (n_bars // 60 + 1, 3)), 60, axis=0)[:n_bars]
    close = 100.0 * np.exp(np.cumsum(drift + rng.normal(0.0, 0.01, (n_bars, 3)), axis=0))
    open_ = np.vstack([np.full((1, 3), 100.0), close[:-1]])
    days = np.busday_offset("2015-01-05", np.arange(n_bars), roll="forward")
    high, low = np.maximum(open_, close), np.minimum(open_, close)
    times = days.astype("datetime64[ns]")
    return Bars(("A", "B", "C"), times, open_, high, low, close, np.full(close.shape, 1e6), 252.0)


def changes(trend: float, seed: int) -> dict[float, int]:
    """Of the windows after the first, how many change the set, for each margin."""
    every, found = simulated(trend, seed), dict.fromkeys(MARGINS, 0)
    traded: dict[float, Any] = {}
    names = ("timestamps", "open", "high", "low", "close", "volume")
    for window in range(N_WINDOWS):
        part = slice(window * STEP, window * STEP + WINDOW)
        bars = replace(every, **{name: getattr(every, name)[part] for name in names})
        with tempfile.TemporaryDirectory() as name:
            bars.to_frame().to_parquet(Path(name) / "bars.parquet", index=False)
            result = run_study(study_from_dict(STUDY, name), out=Path(name) / "out", workers=1)
            manifest, search = result.folder.manifest(), result.study.search
            terms = Terms.of_study(manifest)
            row = result.best(1).to_dict("records")[0]
            document = set_document(row, manifest["study"])
            new = Standing.of(search, document["parameters"], document["in_sample"])
            for margin in MARGINS:
                old = traded.get(margin)
                if old is not None and old["parameters"] != document["parameters"]:
                    metrics = rerun_set(old, terms, terms.bars(), sealed=True).result.in_sample
                    values = {key: plain_values(value) for key, value in metrics.items()}
                    standing = Standing.of(search, old["parameters"], values)
                    if not decide(search, standing, new, margin).changed:
                        continue
                    found[margin] += 1
                traded[margin] = document
    return found


def main() -> None:
    """Print the table and write it into the README."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, default=20, help="of each kind")
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    rows, content = [], {}
    with tempfile.TemporaryDirectory() as ledger:
        os.environ["BARSWEEP_LEDGER"] = f"{ledger}/ledger.db"
        for kind, trend in KINDS.items():
            each = [changes(trend, seed) for seed in range(given.series)]
            total = given.series * (N_WINDOWS - 1)
            shares = {margin: sum(one[margin] for one in each) / total for margin in MARGINS}
            rows.append((kind, *(f"{share:.0%}" for share in shares.values())))
            content[kind] = {str(margin): share for margin, share in shares.items()}
            print(rows[-1], flush=True)
    table = markdown(("bars", *(f"margin {margin:.0%}" for margin in MARGINS)), rows)
    text = f"{given.series} series a row, {N_WINDOWS - 1} reoptimisations each.\n\n{table}"
    publish("hysteresis", text, {"series": given.series, "changed": content})


if __name__ == "__main__":
    main()
