"""Portfolios of a flow on several processes: the same rows, the same order, the same bits."""

from __future__ import annotations

import os
import signal
import sqlite3
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from optimizer.analytics.tables import TABLES
from optimizer.engine import flow_workers
from optimizer.engine.flow_workers import run_on_workers
from optimizer.errors import FlowError, StrategyError
from optimizer.flow import AnalyticsWriter, prepare_flow
from optimizer.study_file.load import load_study
from optimizer.study_file.study import Study, study_from_dict
from tests.support.processes import wait_until
from tests.support.studies import mapping, random_bars, write_bars

BARS = random_bars(200)

HOLDING = """
from optimizer import FLAT, LONG

PARAMETERS = {"lookback": (5, 2, 50)}
FEATURES = {"moved": ("momentum", "lookback")}


def signal(moved, volatility, bars_held):
    return (LONG if moved > 0.0 and bars_held < 6 else FLAT), volatility, 1.0
"""
"""It reads the position of its portfolio, so each portfolio has signals of its own."""


def study_of(folder: Path) -> Study:
    fit = {"lookback": 10, "train_bars": 60, "refit_bars": 60}
    (folder / "holding.py").write_text(HOLDING)
    content = mapping(
        strategy=[
            {"name": "holding", "path": "holding.py"},
            {"name": "momentum", "lookback": {"choices": [5, 20]}, "threshold": 0.0},
        ],
        classifier=[{"name": "hmm", **fit}, {"name": "none"}],
        risk={
            "kelly_fraction": {"sweep": [0.05, 0.2]},
            "max_exposure": 0.8,
            "volatility_lookback": 10,
            "stop_loss": 0.05,
        },
        analytics={"url": f"sqlite:///{folder / 'named.db'}"},
    )
    return study_from_dict(content, folder)


class Recorder:
    """A trace in memory, bar by bar."""

    def __init__(self) -> None:
        self.rows: dict[str, list[tuple[Any, ...]]] = {}
        self.bars: list[int] = []

    def add(self, table: str, rows: Any) -> None:
        self.rows.setdefault(table, []).extend(rows)

    def end_bar(self, bar: int) -> None:
        self.bars.append(bar)


def contents(database: Path) -> dict[str, list[Any]]:
    with sqlite3.connect(database) as connection:
        return {t: connection.execute(f"SELECT * FROM {t}").fetchall() for t in TABLES}


def test_workers_change_no_row_and_no_bit(tmp_path: Path) -> None:
    plan = prepare_flow(study_of(tmp_path), BARS, risk="all")
    assert len(plan.specs) == 12
    traces = [Recorder(), Recorder()]
    alone, shared = plan.run(traces[0]), run_on_workers(plan, traces[1], 2)
    assert traces[0].bars == traces[1].bars
    for table in TABLES:
        in_one, in_two = (trace.rows.get(table) for trace in traces)
        assert in_one == in_two, table  # in their order
    assert len(traces[0].rows["fills"]) > 200
    pd.testing.assert_frame_equal(alone.equity, shared.equity, check_exact=True)
    assert alone.rejects == shared.rejects
    assert list(alone.rejects) == list(shared.rejects)
    assert (alone.n_steps, alone.first, alone.specs) == (shared.n_steps, shared.first, shared.specs)
    assert repr(alone.in_sample) == repr(shared.in_sample)
    assert repr(alone.out_of_sample) == repr(shared.out_of_sample)
    for mine, theirs in zip(alone.views, shared.views, strict=True):
        assert mine.transactions == theirs.transactions
        assert (mine.lots, mine.positions, mine.metrics) == (
            theirs.lots,
            theirs.positions,
            theirs.metrics,
        )
    # Into a database as well, and without a trace.
    for name, count in (("one", 1), ("two", 2)):
        url = f"sqlite:///{tmp_path / name}.db"
        with AnalyticsWriter(url, tmp_path / f"{name}.jsonl") as trace:
            run_on_workers(plan, trace, count)
    assert contents(tmp_path / "one.db") == contents(tmp_path / "two.db")
    assert run_on_workers(plan, None, 2).equity.equals(alone.equity)


FAILING = """
import numpy as np

from optimizer import HOLD, LONG

PARAMETERS = {"lookback": (5, 1, 500), "fails": (0.0, 0.0, 500.0)}
ARRAY = np.array([0.1, 0.2])


def count(close, lookback):
    return np.arange(len(close)) * 1.0


FEATURES = {"momentum": ("momentum", "lookback"), "since": (count, "lookback")}


def signal(momentum, since, volatility, fails):
    strength = 0.02 * volatility
    if fails > 0.0 and since >= fails:
        strength = ARRAY[int(fails)]
    return (LONG if momentum > 0.0 else HOLD), strength, 1.0
"""
LINE = FAILING.splitlines().index("        strength = ARRAY[int(fails)]") + 1


def test_the_error_of_the_earliest_bar_is_raised_and_the_bars_before_are_kept(
    tmp_path: Path,
) -> None:
    write_bars(tmp_path / "bars.parquet", BARS)
    (tmp_path / "mine.py").write_text(FAILING)
    (tmp_path / "study.toml").write_text(
        '[study]\nname = "failing"\n[data]\npath = "bars.parquet"\n'
        '[strategy]\npath = "mine.py"\nname = "mine"\nfails = {choices = [0.0, 120.0, 150.0]}\n'
        '[risk]\ncorrelation_lookback = 10\n[search]\nsampler = "grid"\n'
    )
    plan = prepare_flow(load_study(tmp_path / "study.toml"), BARS)
    assert len(plan.specs) == 3
    found = []
    for count in (1, 3 if (os.cpu_count() or 1) > 2 else 2):
        trace = Recorder()
        with pytest.raises(StrategyError, match=rf"mine\.py:{LINE}: .*IndexError") as error:
            run_on_workers(plan, trace, count)
        assert f"; at bar 120 at {BARS.timestamps[120]} of AAA" in str(error.value)
        whole = {
            t: [r for r in rows if t != "bars" or r[1] < 120] for t, rows in trace.rows.items()
        }
        found.append((str(error.value), trace.bars, whole))
    assert found[0][:2] == found[1][:2]
    assert found[0][1] == list(range(plan.first, 120))
    assert found[0][2] == found[1][2]


def test_a_process_that_is_killed_ends_the_flow_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = prepare_flow(study_of(tmp_path), BARS)
    monkeypatch.setattr(flow_workers, "_take", die)
    with pytest.raises(FlowError, match=r"a process of the flow was ended .*take fewer workers"):
        run_on_workers(plan, Recorder(), 2)


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_processes_end_when_the_flow_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(Recorder):
        def end_bar(self, bar: int) -> None:
            super().end_bar(bar)
            raise OSError("the disk is full")

    plan = prepare_flow(study_of(tmp_path), BARS)
    threads: list[Any] = []
    started = flow_workers._Running.__init__

    def watched(self: Any, *arguments: Any) -> None:
        started(self, *arguments)
        threads.append(self)

    monkeypatch.setattr(flow_workers._Running, "__init__", watched)
    with pytest.raises(OSError, match="the disk is full"):
        run_on_workers(plan, Failing(), 2)
    assert wait_until(lambda: not threads[0].alive)
