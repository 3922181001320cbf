"""How often does `barsweep drift` raise a false alarm, and how long does a true one take?

Run: ``python -m benchmarks.alarms [--series N]``. The returns are simulated from seeds, so the table is
the same on every machine. It is printed, and written into ``benchmarks/README.md``.
"""

from __future__ import annotations

import argparse
import math

import numpy as np

from benchmarks.coverage import KINDS, WARM_UP
from benchmarks.tables import markdown, publish
from optimizer.selection.sequential import ALARM, log_evidence
from optimizer.types import FloatArray

PER_YEAR, YEARS = 252, 10
RATIOS = (1.0, 2.0)


def first_alarms(kind: str, true: float, expected: float, n_series: int) -> FloatArray:
    """Years until each series of ten years raises an alarm; infinite where it never does."""
    found = np.full(n_series, np.inf)
    for seed in range(n_series):
        random = np.random.default_rng([seed, 1])
        noise = KINDS[kind](random, PER_YEAR * YEARS + WARM_UP)[WARM_UP:]
        returns = 0.01 * (noise + true / math.sqrt(PER_YEAR))
        reached = np.flatnonzero(log_evidence(returns, expected, PER_YEAR) >= math.log(1.0 / ALARM))
        if len(reached):
            found[seed] = (reached[0] + 1) / PER_YEAR
    return found


def main() -> None:
    """Print the table and write it into the README."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, default=400, help="of each kind")
    given = parser.parse_args()
    rows, content = [], {}
    for kind in KINDS:
        row = [kind]
        for ratio in RATIOS:
            false = float(np.isfinite(first_alarms(kind, ratio, ratio, given.series)).mean())
            gone = first_alarms(kind, 0.0, ratio, given.series)
            noticed, median = float(np.isfinite(gone).mean()), float(np.median(gone))
            after = f"{median:.1f}" if math.isfinite(median) else f"over {YEARS}"
            row += [f"{false:.1%}", f"{noticed:.0%}", after]
            content[f"{kind}, {ratio:g}"] = {"false": false, "noticed": noticed}
        rows.append(row)
        print(row, flush=True)
    header = ["returns"]
    for ratio in RATIOS:
        header += [
            f"false alarms, ratio {ratio:g}",
            f"noticed if it is 0 in place of {ratio:g}",
            "median years",
        ]
    text = (
        f"{given.series} series of {YEARS} years a row, read after every daily return; stated rate"
        f" {ALARM:.0%}.\n\n{markdown(header, rows)}"
    )
    publish("alarms", text, {"series": given.series, "alarms": content})


if __name__ == "__main__":
    main()
