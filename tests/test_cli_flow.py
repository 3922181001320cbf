"""The event flow's commands, as subprocesses."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.reference.studies import random_bars, write_bars

STUDY = """
[study]
name = "small"
[data]
path = "bars.parquet"
[strategy]
name = "momentum"
lookback = {choices = [5, 10]}
[risk]
kelly_fraction = {sweep = [0.05, 0.1]}
correlation_lookback = 10
[search]
sampler = "grid"
"""


def barsweep(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "optimizer", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240)


def test_flow_trace_and_their_refusals(tmp_path: Path) -> None:
    write_bars(tmp_path / "bars.parquet", random_bars())
    (tmp_path / "small.toml").write_text(STUDY)
    done = barsweep("flow", "small.toml", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "2 portfolios" in done.stdout
    found = re.search(r"next: +barsweep trace (\S+) (\S+)", done.stdout)
    assert found is not None
    folder, fill = found.groups()
    assert Path(folder) == Path("out/small-flow")
    chain = barsweep("trace", folder, fill, folder=tmp_path)
    assert chain.returncode == 0, chain.stderr
    parts = ["bar of the decision", "signal", "regime", "order", "fill", "portfolio at the close"]
    places = [chain.stdout.index(f"\n{part}") for part in parts]
    assert places == sorted(places)
    for value in ("kelly value", "budget value", "cash value", "cash after", "momentum_"):
        assert value in chain.stdout
    rejects = barsweep("trace", folder, "--rejects", folder=tmp_path)
    assert rejects.returncode == 0
    assert re.search(r"^ +[\d,]+  no_signal$", rejects.stdout, re.MULTILINE)
    everything = barsweep(
        "flow", "small.toml", "--risk", "all", "--no-trace", "--out", "all", folder=tmp_path
    )
    assert "4 portfolios" in everything.stdout
    assert not (tmp_path / "all").exists()
    for wrong, words in (
        (("flow", "small.toml"), "already holds a flow"),
        (("trace", folder, "nope"), "no fill 'nope'"),
        (("trace", folder), "give a FILL_ID, or --rejects"),
        (("trace", "nowhere", "--rejects"), "no analytics database"),
        (("analytics", "import", "nothing.jsonl"), "nothing.jsonl"),
    ):
        refused = barsweep(*wrong, folder=tmp_path)
        assert refused.returncode == 2, wrong
        assert words in refused.stderr
        assert "Traceback" not in refused.stderr
        assert refused.stderr.count("\n") == 1
