"""Steps of bar x symbol x portfolio a second through the event flow, with and without its trace.

Run: ``python -m benchmarks.event_flow [--repeats N]``. One core for the flow; the database is written
by a second thread. The variants take turns.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from optimizer.analytics.writer import AnalyticsWriter
from optimizer.bars.load import load_bars
from optimizer.flow.prepared import run_flow
from optimizer.study_file.load import load_study

STUDY = Path(__file__).parent.parent / "studies" / "event_flow.toml"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    study = load_study(STUDY)
    bars = load_bars(study.data_path, end="2009-12-31")
    run_flow(study, load_bars(study.data_path, symbols=["SPY"], end="2007-12-31"))
    rates: dict[str, list[float]] = {"no trace": [], "SQLite": []}
    for _ in range(repeats):
        start = time.perf_counter()
        steps = run_flow(study, bars).n_steps
        rates["no trace"].append(steps / (time.perf_counter() - start))
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            path = Path(folder)
            with AnalyticsWriter(f"sqlite:///{path / 'a.db'}", path / "spill.jsonl") as trace:
                run_flow(study, bars, trace=trace)
            rates["SQLite"].append(steps / (time.perf_counter() - start))
    print(f"24 portfolios, {bars.n_symbols} symbols, {bars.n_bars} bars, {steps:,} steps")
    print("| trace | min steps/s | median steps/s | share of no trace |")
    print("| --- | --- | --- | --- |")
    base = statistics.median(rates["no trace"])
    for name, values in rates.items():
        median = statistics.median(values)
        print(f"| {name} | {min(values):,.0f} | {median:,.0f} | {median / base:.2f} |")


if __name__ == "__main__":
    main()
