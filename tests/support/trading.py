"""A small study that is exported to trade, and a process that is killed while it trades.

``python -m tests.support.trading BEST.json BARS FOLDER`` trades undisturbed in FOLDER/whole. Then for
each line that it reads it forks a child that trades in FOLDER/killed, as far as it comes, and prints the
child's process ID, and then how it ended.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import tomli_w

from optimizer.search.run import run_study
from optimizer.store.export import export_sets
from optimizer.study_file.load import load_study
from optimizer.trading.run import Settings, session_of
from optimizer.types import Bars
from tests.support.studies import mapping, random_bars, write_bars

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


def trade(best: str, bars: str, folder: Path) -> None:
    settings = Settings(live=True, replay=True)
    with session_of(best, settings, data=bars, out=folder) as (session, _):
        asyncio.run(session.run())


def main(best: str, bars: str, folder: str) -> None:
    trade(best, bars, Path(folder) / "whole")
    print("ready", flush=True)
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            trade(best, bars, Path(folder) / "killed")
            os._exit(0)
        print(child, flush=True)
        print(os.waitpid(child, 0)[1], flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
