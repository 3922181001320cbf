"""What the estimates before a study or a flow assume, against what this machine takes.

Run: ``python -m benchmarks.estimates``. Processor time of one core, which other load changes less than
the clock on the wall. Kernels are compiled into an empty cache: those of a first study, then of studies
of other kinds.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
KINDS: dict[str, dict[str, Any]] = {
    "the first study": {},
    "stops": {"risk": {"stop_loss": 0.1}},
    "short positions": {"risk": {"allow_short": True}},
    "correlations": {"risk": {"correlation_penalty": 0.5}},
    "another built-in strategy": {"strategy": {"name": "mean_reversion"}},
    "a strategy of one's own": {
        "strategy": {"name": "macd", "path": str(ROOT / "studies" / "gallery" / "macd.py")}
    },
}


def main() -> None:
    """Print the tables."""
    if sys.argv[1:] == ["--compile"]:
        _compile()
        return
    print("| compiled | s | assumed |")
    print("| --- | --- | --- |", flush=True)
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
        command = [sys.executable, "-m", "benchmarks.estimates", "--compile"]
        subprocess.run(command, env=environment, check=True)
    _flow()


def _compile() -> None:
    from optimizer.engine.compile import FIRST_SECONDS, VARIANT_SECONDS, compile_kernels
    from optimizer.search.prepare import prepare_study
    from optimizer.study_file.study import study_from_dict

    for kind, tables in KINDS.items():
        content = {
            "study": {"name": "kind"},
            "data": {"path": "us_daily.parquet", "symbols": ["SPY", "QQQ", "GLD"]},
            "strategy": {"name": "momentum"},
            "search": {"trials": 1},
            **tables,
            "risk": {"correlation_penalty": 0.0, **tables.get("risk", {})},
        }
        study = study_from_dict(content, ROOT / "studies" / "data")
        begun = time.process_time()
        prepared = prepare_study(study, Path("none"), 1, None)
        compile_kernels(prepared.inputs, prepared.space)
        taken = time.process_time() - begun
        assumed = VARIANT_SECONDS if tables else FIRST_SECONDS
        print(f"| {kind} | {taken:.1f} | {assumed:.0f} |", flush=True)


def _flow() -> None:
    from optimizer.analytics.writer import AnalyticsWriter
    from optimizer.bars.load import load_bars
    from optimizer.cli.flow import STEPS_PER_SECOND, TRACED_PER_SECOND
    from optimizer.flow.prepared import run_flow
    from optimizer.study_file.load import load_study

    study = load_study(ROOT / "studies" / "event_flow.toml")
    study = study.with_(classifier={"name": "none"})  # whose fits are estimated apart
    bars = load_bars(study.data_path, end="2008-12-31")
    run_flow(study, load_bars(study.data_path, symbols=["SPY"], end="2007-12-31"))
    print("| steps of a flow | a second | assumed |")
    print("| --- | --- | --- |")
    begun = time.process_time()
    n_steps = run_flow(study, bars).n_steps
    taken = time.process_time() - begun
    print(f"| without a trace | {n_steps / taken:,.0f} | {STEPS_PER_SECOND:,} |", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        begun = time.process_time()
        with AnalyticsWriter(f"sqlite:///{path / 'a.db'}", path / "spill.jsonl") as trace:
            n_steps = run_flow(study, bars, trace=trace).n_steps
        taken = time.process_time() - begun
    print(f"| with a trace | {n_steps / taken:,.0f} | {TRACED_PER_SECOND:,} |")


if __name__ == "__main__":
    main()
