"""A small study that is exported to trade, and a process that is killed while it trades.

``python -m tests.support.trading BEST.json BARS FOLDER [SETTINGS]`` forks a child for each line that it
reads, which names a folder in FOLDER. The child trades there, as far as it comes; what is printed is its
process ID, and then how it ended. SETTINGS are those of ``Settings``, as JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import tomli_w

from optimizer.review.rerun import Terms
from optimizer.search.combine import combine
from optimizer.search.run import run_study
from optimizer.store.export import export_sets
from optimizer.study_file.load import load_study
from optimizer.study_file.space import build_space
from optimizer.study_file.study import study_from_dict
from optimizer.sweep.rules import study_rules
from optimizer.sweep.sub_accounts import Schedule
from optimizer.trading.limits import Limits
from optimizer.trading.plan import TradingSet
from optimizer.trading.run import Settings, session_of
from optimizer.types import Bars
from tests.support.processes import wait_until
from tests.support.studies import mapping, random_bars, write_bars

ROOT = Path(__file__).resolve().parents[2]

N_STUDY, N_DAYS = 150, 250
EVERY = random_bars(N_STUDY + N_DAYS)
"""The bars of a study, and 250 days after them."""


def exported(home: Path, name: str, bars: Bars, /, **tables: Any) -> Path:
    """The best set of a study on some bars, which stand next to it in a file."""
    home.mkdir(parents=True, exist_ok=True)
    write_bars(home / "bars.parquet", bars)
    study = mapping("bars.parquet", study={"name": name}, search={"trials": 4}, **tables)
    (home / "study.toml").write_text(tomli_w.dumps(study))
    run_study(load_study(home / "study.toml"), out=home / "out", workers=1)
    return export_sets(home / "out")


N_BOOK, N_AFTER = 300, 64
"""Bars of the studies of a combination, and those after them."""

BOOK_BARS = random_bars(N_BOOK + N_AFTER, seed=7)


def combined(home: Path, rebalance: Schedule, /, *, bars: Bars = BOOK_BARS, **tables: Any) -> Path:
    """A combination of sets of two studies, whose bars stand next to it in a file.

    Each of ``tables`` is merged into the tables of both studies.
    """
    home.mkdir(parents=True, exist_ok=True)
    write_bars(home / "bars.parquet", bars.head(N_BOOK))
    reverting = {
        "name": "mean_reversion",
        "lookback": {"low": 5, "high": 40, "step": 5},
        "oversold": {"sweep": [25, 35]},
    }
    for name, strategy in (("one", {}), ("two", {"strategy": reverting})):
        study = {**mapping("bars.parquet", study={"name": name}, **tables), **strategy}
        run_study(study_from_dict(study, home), out=home / name, workers=1)
    folders = [home / "one", home / "two"]
    file = home / f"{rebalance}.json"
    return combine(folders, top=6, max_correlation=0.98, rebalance=rebalance, out=file).path


def terms_on(found: TradingSet, bars: Bars) -> Terms:
    """The terms of a set whose other files are those of more bars: it has none."""
    rules = study_rules(found.study, build_space(found.study), bars)
    return replace(found.terms, files_hash=rules.files_hash)


def bars_taken(folder: Path) -> int:
    """How many bars a session has taken, or the first one of a combination, by its journal."""
    if (folder / "member-1").exists():
        folder = folder / "member-1"
    if not (folder / "trade.db").exists():
        return 0
    with contextlib.closing(sqlite3.connect(folder / "trade.db", timeout=30.0)) as connection:
        try:
            return int(connection.execute("SELECT count(*) FROM bars").fetchone()[0])
        except sqlite3.OperationalError:  # it has no tables yet
            return 0


def reached(folder: Path, n_bars: int) -> bool:
    """Wait until a session has taken so many bars."""
    return wait_until(lambda: bars_taken(folder) >= n_bars, 60.0)


def traded_and_killed(
    best: Path, bars: Path, folder: Path, n_bars: int, n_kills: int, **settings: Any
) -> None:
    """Trade in the folder ``killed``, in processes that are killed at some moment of some bar."""
    given = json.dumps({"live": True, "replay": True, **settings})
    command = [sys.executable, "-m", "tests.support.trading", best, bars, folder, given]
    draw = random.Random()
    n_killed = 0
    with subprocess.Popen(
        list(map(str, command)), cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin is not None and server.stdout is not None
        while True:
            server.stdin.write("killed\n")
            server.stdin.flush()
            child = int(server.stdout.readline())
            if n_killed < n_kills:
                # Of the bars that are left, so that those taken before a kill comes are made up for.
                taken = bars_taken(folder / "killed")
                most = (n_bars - taken) // (n_kills - n_killed + 1)
                assert reached(folder / "killed", taken + draw.randint(1, max(most, 1)))
                time.sleep(draw.uniform(0.0, 0.05))
                os.kill(child, signal.SIGKILL)
            ended = int(server.stdout.readline())
            if ended == 0:
                break
            assert ended == signal.SIGKILL
            n_killed += 1
        server.stdin.close()
    assert n_killed == n_kills


def trade(best: str, bars: str, folder: Path, settings: Settings) -> None:
    with session_of(best, settings, data=bars, out=folder) as (session, _):
        asyncio.run(session.run())


def main(best: str, bars: str, folder: str, given: str = "{}") -> None:
    values = json.loads(given)
    settings = Settings(**{**values, "limits": Limits(**values.get("limits", {}))})
    if settings.broker == "ccxt":
        importlib.import_module("ccxt")  # once, for all children
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            trade(best, bars, Path(folder) / line.strip(), settings)
            os._exit(0)
        print(child, flush=True)
        print(os.waitpid(child, 0)[1], flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
