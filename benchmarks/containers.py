"""Memory of the containers of an event flow: shared by all portfolios against one of each for every one.

Run: ``python -m benchmarks.containers [--bars N] [--most N]``. Each case is a process of its own; its
figure is what is allocated when the containers have been made and taken through the bars. More than
``--most`` portfolios are not run: their figure is that of so many, scaled.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

from optimizer.bars.load import load_bars
from optimizer.flow import DataContainer, prepare_flow
from optimizer.flow.prepared import PreparedFlow
from optimizer.study_file.load import load_study

STUDY = Path(__file__).parent.parent / "studies" / "event_flow.toml"
PORTFOLIOS = (24, 2_400)


def prepared(n_bars: int, n_portfolios: int) -> PreparedFlow:
    """The bundled study of 24 portfolios, again and again under other IDs."""
    study = load_study(STUDY)
    bars = load_bars(study.data_path).head(n_bars)
    plan = prepare_flow(study, bars)
    again = range(n_portfolios // len(plan.specs))
    specs = (replace(spec, id=f"{spec.id}.{i}") for i in again for spec in plan.specs)
    return replace(plan, specs=tuple(specs), stop=n_bars)


def megabytes() -> float:
    """What is allocated in this process since the start of the measurement."""
    return tracemalloc.get_traced_memory()[0] / 1e6


def measure(case: str, n_bars: int, n_portfolios: int) -> float:
    """Megabytes of one case."""
    plan = prepared(n_bars, n_portfolios)
    bars = plan.bars
    some = replace(plan, specs=plan.specs[: PORTFOLIOS[0]], stop=plan.first + 2)
    some.run()  # compiles, and imports what is imported late
    tracemalloc.start()
    if case == "portfolios":
        flow = plan.opened()
        for index in range(n_bars):
            flow.on_bar(bars.at(index))
        return megabytes()
    copies = n_portfolios if case == "separate" else 1
    kept = [(DataContainer(bars.symbols), plan.feature_hub()) for _ in range(copies)]
    for index in range(n_bars):
        bar = bars.at(index)
        for data, hub in kept:
            data.update_timeline_position(bar)
            data.cache_bar(bar)
            hub.calculate_indicators(bar)
    return megabytes()


def main() -> None:
    """Print the table, or one figure of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bars", type=int, default=400)
    parser.add_argument("--most", type=int, default=48)
    parser.add_argument("--case", nargs=2, metavar=("CASE", "PORTFOLIOS"))
    given = parser.parse_args()
    if given.case:
        print(measure(given.case[0], given.bars, int(given.case[1])))
        return

    def found(case: str, n_portfolios: int) -> float:
        if case != "shared" and n_portfolios > given.most:
            return found(case, given.most) * (n_portfolios / float(given.most))
        command = [sys.executable, "-m", "benchmarks.containers", "--bars", str(given.bars)]
        done = subprocess.run(
            [*command, "--case", case, str(n_portfolios)],
            capture_output=True,
            text=True,
            check=True,
        )
        return float(done.stdout)

    print("| | " + " | ".join(f"{n:,} portfolios" for n in PORTFOLIOS) + " |")
    print("| --- |" + " --- |" * len(PORTFOLIOS))
    rows = {
        "data and features, shared": "shared",
        "data and features, one of each per portfolio": "separate",
        "the whole flow: shared, and execution and portfolio containers": "portfolios",
    }
    for title, case in rows.items():
        figures = [f"{found(case, n):,.1f} MB" for n in PORTFOLIOS]
        print(f"| {title} | " + " | ".join(figures) + " |", flush=True)


if __name__ == "__main__":
    main()
