"""What a study compiled is never compiled again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import tomli_w

from tests.support.studies import random_bars, write_bars

STRATEGY = """\
from optimizer import HOLD, LONG

PARAMETERS = {"lookback": (20, 2, 100)}
FEATURES = {"change": ("momentum", "lookback")}


def signal(change):
    return (LONG, 0.01, 1.0) if change > 0 else (HOLD, 0.0, 0.0)
"""


def kernels() -> dict[Path, int]:
    """The files of compiled kernels, and when each was written."""
    folder = Path(os.environ["NUMBA_CACHE_DIR"])
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.nb[ic]")}


def test_a_second_start_compiles_nothing(tmp_path: Path) -> None:
    """A built-in strategy, one of the user's, and a classifier, in two workers.

    The first start compiles what earlier tests have not, for up to a minute.
    """
    write_bars(tmp_path / "bars.parquet", random_bars(300))
    (tmp_path / "own.py").write_text(STRATEGY)
    study = {
        "study": {"name": "twice"},
        "data": {"path": "bars.parquet"},
        "strategy": [
            {"name": "momentum", "lookback": {"choices": [10, 20]}},
            {"name": "own", "path": "own.py", "lookback": {"choices": [10, 20]}},
        ],
        "classifier": {"name": "hmm", "lookback": 10, "train_bars": 100, "refit_bars": 100},
        "risk": {"volatility_lookback": 10},
        "search": {"sampler": "grid"},
    }
    (tmp_path / "study.toml").write_text(tomli_w.dumps(study))
    found = []
    for out in ("first", "second"):
        command = ("run", "study.toml", "--out", out, "--workers", "2", "--quiet")
        done = subprocess.run(
            [sys.executable, "-m", "optimizer", *command],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found.append(kernels())
    assert found[0] and found[0] == found[1]
