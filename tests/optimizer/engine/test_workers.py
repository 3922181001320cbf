"""Processes: any number of them, any cut of the work, and any death gives the same results."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.process_executor import _ExecutorManagerThread

from optimizer.engine import pool as pool_module
from optimizer.engine import tasks as tasks_module
from optimizer.engine import watch, workers
from optimizer.engine.tasks import TileFailure, TileTask, make_tile, save_context
from optimizer.engine.workers import Workers
from optimizer.errors import BarsweepError, StudyError
from optimizer.search.resume import resume_study
from optimizer.search.run import run_study
from optimizer.study_file.bars import load_study_bars
from optimizer.study_file.space import Space, build_space
from optimizer.study_file.study import Study
from optimizer.sweep.buy_and_hold import benchmark_returns, lowest_costs
from optimizer.sweep.evaluate import evaluate
from optimizer.sweep.inputs import Inputs, MarketRegime, prepare
from optimizer.sweep.max_test import no_draws, with_max_test
from optimizer.sweep.rules import study_rules
from optimizer.sweep.tiles import Tile, TileResult
from optimizer.types import Float32Array
from tests.support.faults import (
    KillsTheStopped,
    die_at_the_start,
    evaluate_and_leave,
    evaluate_and_stop,
    evaluate_and_stop_within_the_file,
    evaluate_and_stop_within_the_pipe,
)
from tests.support.studies import (
    FATAL_LOOKBACK,
    evaluate_or_die,
    random_bars,
    result_hashes,
    small_study,
    write_bars,
)

FIT = {"train_bars": 60, "refit_bars": 120}
TWO_BRANCHES: dict[str, Any] = {
    "strategy": [
        {"name": "momentum", "lookback": {"low": 5, "high": 40, "step": 5},
         "threshold": {"sweep": [0.0, 0.02]}},
        {"name": "breakout", "lookback": {"sweep": [10, 20]}, "width": {"sweep": [0.5, 1.0, 1.5]}},
    ],
    "classifier": [{"name": "none"}, {"name": "hmm", "lookback": {"sweep": [5, 10]}, **FIT}],
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bars(tmp_path_factory.mktemp("data") / "bars.parquet", random_bars())


def prepared(study: Study) -> tuple[Inputs, Space]:
    space, bars = build_space(study), load_study_bars(study)
    rules = study_rules(study, space, bars)
    inputs = prepare(bars, space, rules, study.validation.holdout)
    returns = benchmark_returns(inputs, lowest_costs(space, inputs))
    return with_max_test(inputs, returns), space


def all_tasks(space: Space) -> tuple[list[TileTask], list[Tile]]:
    tasks = [
        TileTask(index, {**first, "max_exposure": exposure, "volatility_lookback": n})
        for index, branch in enumerate(space.branches)
        for first in [{searched.name: searched.first for searched in branch.searched}]
        for exposure in (0.4, 0.8)
        for n in (10, 20)
    ]
    return tasks, [make_tile(space, task) for task in tasks]


def equal(
    ones: Sequence[TileResult | TileFailure], others: Sequence[TileResult | TileFailure]
) -> bool:
    return len(ones) == len(others) and all(
        isinstance(one, TileResult)
        and isinstance(other, TileResult)
        and np.array_equal(one.in_sample, other.in_sample, equal_nan=True)
        and np.array_equal(one.out_of_sample, other.out_of_sample, equal_nan=True)
        for one, other in zip(ones, others, strict=True)
    )


def test_one_and_two_workers_write_the_same_files(data: Path, tmp_path: Path) -> None:
    study = small_study(data, **TWO_BRANCHES)
    one, two = (run_study(study, out=tmp_path / str(n), workers=n).folder for n in (1, 2))
    assert result_hashes(one) == result_hashes(two)
    assert list(result_hashes(one)) == [f"batch-{n:06d}.parquet" for n in range(3)]
    assert one.trials() == two.trials()
    for folder in (one, two):
        assert not folder.scratch_path.exists()
        assert not list(folder.path.rglob("*.part"))


@pytest.mark.parametrize("chunk_lanes", [1, 7, 64, 10_000])
def test_the_size_of_a_chunk_does_not_matter(
    chunk_lanes: int, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = small_study(data, **TWO_BRANCHES)
    inputs, space = prepared(study)
    tasks, tiles = all_tasks(space)
    with Workers(tmp_path / "whole", study, inputs, 1) as pool:
        whole, maxima = pool.evaluate(tasks, tiles), pool.maxima
    monkeypatch.setattr(tasks_module, "CHUNK_LANES", chunk_lanes)
    sizes = []

    def counted(
        shared: Any, pieces: Any, regimes: Any, limit: Any
    ) -> tuple[list[TileResult], Float32Array, float] | TileFailure:
        sizes.append(sum(piece.stop - piece.start for piece in pieces))
        return original(shared, pieces, regimes, limit)

    original = tasks_module.evaluate_pieces
    monkeypatch.setattr(workers, "evaluate_pieces", counted)
    with Workers(tmp_path / "cut", study, inputs, 1) as pool:
        cut = pool.evaluate(tasks, tiles)
    assert equal(whole, cut)
    assert np.isfinite(maxima.max(axis=0)).all() and pool.maxima.tobytes() == maxima.tobytes()
    n_lanes = sum(tile.n_lanes for tile in tiles)
    assert sum(sizes) == n_lanes
    assert set(sizes[:-1]) <= {chunk_lanes}
    assert len(sizes) == -(-n_lanes // chunk_lanes)


def test_workers_give_what_evaluate_gives(data: Path, tmp_path: Path) -> None:
    study = small_study(data)
    inputs, space = prepared(study)
    tasks, tiles = all_tasks(space)
    with Workers(tmp_path / "shared", study, inputs, 1) as pool:
        found = pool.evaluate(tasks, tiles)
    codes = {key: MarketRegime.neutral(inputs.bars.n_bars) for key in tiles[0].regime_keys()[0]}
    maxima = no_draws()
    assert equal(found, evaluate(inputs, tiles, codes, maxima))
    assert pool.maxima.tobytes() == maxima.tobytes()


@pytest.mark.parametrize("backend", ["threading", "multiprocessing"])
def test_another_back_end_gives_the_same(backend: str, data: Path, tmp_path: Path) -> None:
    study = small_study(data, workers={"backend": backend})
    inputs, space = prepared(study)
    tasks, tiles = all_tasks(space)
    with Workers(tmp_path / "one", study, inputs, 1) as pool:
        one, maxima = pool.evaluate(tasks, tiles), pool.maxima
    with Workers(tmp_path / "two", study, inputs, 2) as pool:
        assert equal(one, pool.evaluate(tasks, tiles))
        assert pool.maxima.tobytes() == maxima.tobytes()


def test_an_unknown_back_end_is_named(data: Path, tmp_path: Path) -> None:
    study = small_study(data, workers={"backend": "nonesuch"})
    with pytest.raises(BarsweepError, match="nonesuch"):
        run_study(study, out=tmp_path / "out", workers=2)


def test_a_second_study_in_the_same_folder_does_not_see_the_first(
    data: Path, tmp_path: Path
) -> None:
    """Worker processes outlive a study: what they mapped for it must not serve the next one."""
    out = tmp_path / "out"
    run_study(small_study(data), out=out, workers=2)
    other = write_bars(tmp_path / "bars.parquet", random_bars(seed=2))
    study = small_study(other)
    again = run_study(study, out=out, workers=2, overwrite=True)
    alone = run_study(study, out=tmp_path / "alone", workers=1)
    assert result_hashes(again.folder) == result_hashes(alone.folder)


# --- Deaths -----------------------------------------------------------------------------------


class Killer:
    """Kills the first worker process that has mapped the arrays of a study."""

    def __init__(self, folder: Path) -> None:
        self.killed: list[int] = []
        self._folder = str(folder)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._hunt)

    def __enter__(self) -> Killer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _hunt(self) -> None:
        while not self._over.wait(0.002):
            for child in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    if any(one.path.startswith(self._folder) for one in child.memory_maps()):
                        child.kill()
                        self.killed.append(child.pid)
                        return


def test_a_worker_killed_at_work_is_replaced(tmp_path: Path) -> None:
    data = write_bars(tmp_path / "bars.parquet", random_bars(1200))
    sweeps: dict[str, Any] = {
        "strategy": {"threshold": {"sweep": {"low": 0.0, "high": 0.1, "step": 0.002}}},
        "risk": {"kelly_fraction": {"sweep": {"low": 0.01, "high": 0.5, "step": 0.01}}},
        "search": {"trials": 4, "batch": 4},
    }
    study = small_study(data, **sweeps)
    alone = run_study(study, out=tmp_path / "alone", workers=1)
    with Killer(tmp_path / "killed" / "shared") as killer:
        survived = run_study(study, out=tmp_path / "killed", workers=2)
    assert len(killer.killed) == 1
    assert result_hashes(survived.folder) == result_hashes(alone.folder)
    assert survived.folder.manifest()["complete"]


@pytest.fixture
def stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a worker says that it has stopped; the workers are new ones, which know of it."""
    monkeypatch.setenv("BARSWEEP_STOPPED", str(tmp_path / "stopped"))
    get_reusable_executor().shutdown(wait=True, kill_workers=True)
    return tmp_path / "stopped"


LOOKBACKS: dict[str, Any] = {
    "strategy": {"lookback": {"choices": [5, 10, FATAL_LOOKBACK, 20]}},
    "risk": {"max_exposure": 1.0, "volatility_lookback": 20},
    "search": {"sampler": "grid", "batch": 4},
}


def run_with_fault(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, evaluation: Any
) -> None:
    """Four tiles in chunks of their own, at one of which something happens: the results are equal."""
    study = small_study(data, **LOOKBACKS)
    alone = run_study(study, out=tmp_path / "alone", workers=1)
    with monkeypatch.context() as patched:
        patched.setattr(tasks_module, "CHUNK_LANES", 4)
        patched.setattr(workers, "evaluate_pieces", evaluation)
        hurt = run_study(study, out=tmp_path / "hurt", workers=2)
    assert result_hashes(hurt.folder) == result_hashes(alone.folder)
    assert not hurt.folder.scratch_path.exists()


@pytest.mark.parametrize(
    "evaluation",
    [evaluate_and_stop_within_the_file, evaluate_and_stop_within_the_pipe],
    ids=["file", "pipe"],
)
def test_a_worker_killed_while_it_sends(
    evaluation: Any, data: Path, tmp_path: Path, stopped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of its result is sent; the rest never comes."""
    monkeypatch.setattr(watch, "LOOK_SECONDS", 0.1)
    with KillsTheStopped(stopped) as killer:
        run_with_fault(data, tmp_path, monkeypatch, evaluation)
    assert len(killer.killed) == 1


def test_a_worker_that_stops_is_replaced(
    data: Path, tmp_path: Path, stopped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lives and does nothing."""
    monkeypatch.setattr(watch, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(watch, "STILL_LOOKS", 50)
    monkeypatch.setattr(watch, "STILL_CPU_SECONDS", 0.01)
    run_with_fault(data, tmp_path, monkeypatch, evaluate_and_stop)
    assert not psutil.pid_exists(int(stopped.read_text()))


def test_a_worker_that_leaves_is_replaced(
    data: Path, tmp_path: Path, stopped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loky warns of it within the thread that manages the pool, and here a warning is an error."""
    run_with_fault(data, tmp_path, monkeypatch, evaluate_and_leave)
    assert stopped.exists()


def test_a_start_that_nobody_manages(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that manages the pool ends while workers start, so none is ever heard of."""
    get_reusable_executor().shutdown(wait=True, kill_workers=True)
    monkeypatch.setattr(watch, "LOOK_SECONDS", 0.1)
    process: Any = _ExecutorManagerThread.process_result_item
    ended: list[Any] = []

    def end_once(self: Any, item: Any) -> None:
        if not ended:
            ended.append(item)
            raise RuntimeError
        process(self, item)

    monkeypatch.setattr(_ExecutorManagerThread, "process_result_item", end_once)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)  # pytest's makes it an error
    study = small_study(data)
    found = run_study(study, out=tmp_path / "ended", workers=2)
    assert ended
    alone = run_study(study, out=tmp_path / "alone", workers=1)
    assert result_hashes(found.folder) == result_hashes(alone.folder)


@pytest.mark.parametrize(("deaths", "survived"), [(1, True), (100, False)])
def test_workers_killed_while_they_start(
    deaths: int, survived: bool, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are started again, and not forever."""
    count = tmp_path / "deaths"
    count.write_bytes(bytes(deaths))
    monkeypatch.setenv("BARSWEEP_DEATHS", str(count))
    # Workers of a former test may wait for work: they are past their start.
    get_reusable_executor().shutdown(wait=True, kill_workers=True)
    study = small_study(data)
    monkeypatch.setattr(pool_module, "ready", die_at_the_start)
    if survived:
        found = run_study(study, out=tmp_path / "killed", workers=2)
        alone = run_study(study, out=tmp_path / "alone", workers=1)
        assert result_hashes(found.folder) == result_hashes(alone.folder)
        assert count.stat().st_size == 0
        return
    with pytest.raises(
        StudyError, match=r"ended while they started, 3 times in a row; .*count = 1"
    ):
        run_study(study, out=tmp_path / "killed", workers=2)
    assert count.stat().st_size <= 97
    assert not list((tmp_path / "killed").glob("shared-*"))
    monkeypatch.undo()
    assert len(resume_study(tmp_path / "killed", workers=2).folder.trials()) == 10


def test_a_tile_that_kills_twice_fails_alone(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lookbacks = {"choices": [10, FATAL_LOOKBACK, 20]}
    study = small_study(
        data,
        strategy={"lookback": lookbacks},
        risk={"max_exposure": 1.0, "volatility_lookback": 20},
        search={"sampler": "grid", "batch": 3},
    )
    healthy = run_study(study, out=tmp_path / "healthy", workers=1)
    monkeypatch.setattr(tasks_module, "CHUNK_LANES", 4)
    monkeypatch.setattr(workers, "evaluate_pieces", evaluate_or_die)
    result = run_study(study, out=tmp_path / "out", workers=2)
    trials = result.folder.trials()
    assert [trial["state"] for trial in trials] == ["COMPLETE", "FAIL", "COMPLETE"]
    assert trials[1]["params"] == {"momentum_lookback": FATAL_LOOKBACK}
    assert trials[1]["user_attrs"]["reason"] == "its worker died twice"
    rows = healthy.results()
    kept = rows[rows["trial"] != 1].drop(columns="set").reset_index(drop=True)
    found = result.results()
    assert found["set"].tolist() == list(range(8))
    assert found.drop(columns="set").equals(kept)


def test_a_regime_model_that_kills_is_named(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never_back(function: Any, calls: Any) -> list[Any]:
        return [TileFailure("its worker died twice") for _ in calls]

    study = small_study(data, classifier={"name": "hmm", "lookback": 10, **FIT})
    inputs, space = prepared(study)
    tasks, tiles = all_tasks(space)
    with Workers(tmp_path / "shared", study, inputs, 1) as held:
        monkeypatch.setattr(held.pool, "map", never_back)
        with pytest.raises(StudyError, match="hmm"):
            held.evaluate(tasks, tiles)


# --- Tiles with nothing in them ---------------------------------------------------------------


def test_a_tile_that_constraints_empty_fails_with_a_reason(data: Path, tmp_path: Path) -> None:
    crosses = {"name": "sma_cross", "fast": {"choices": [5, 10, 30]}, "slow": {"sweep": [10, 20]}}
    study = small_study(
        data,
        strategy=[crosses],
        risk={"max_exposure": 1.0, "volatility_lookback": 20},
        search={"sampler": "grid", "batch": 2, "constraints": ["sma_cross_fast < sma_cross_slow"]},
    )
    result = run_study(study, out=tmp_path / "out", workers=1)
    trials = result.folder.trials()
    assert [trial["state"] for trial in trials] == ["COMPLETE", "COMPLETE", "FAIL"]
    assert trials[2]["user_attrs"]["reason"] == "no parameter set keeps the parameter constraints"
    assert [trial["user_attrs"]["n_sets"] for trial in trials] == [4, 2, 0]
    rows = result.results()
    assert rows["trial"].tolist() == [0] * 4 + [1] * 2
    assert (rows["sma_cross_fast"] < rows["sma_cross_slow"]).all()


def test_a_study_of_empty_tiles_alone_ends_with_no_rows(data: Path, tmp_path: Path) -> None:
    study = small_study(
        data,
        search={
            "trials": 3,
            "batch": 2,
            "constraints": ["momentum_lookback > 30", "momentum_lookback < 10"],
        },
    )
    result = run_study(study, out=tmp_path / "out", workers=1)
    assert {trial["state"] for trial in result.folder.trials()} == {"FAIL"}
    assert result.results().empty
    assert result.best().empty
    assert list(result.results().columns) == list(run_study(
        small_study(data), out=tmp_path / "other", workers=1
    ).results().columns)  # fmt: skip


@pytest.mark.skipif(sys.platform == "win32", reason="modes of POSIX")
def test_shared_arrays_are_closed_to_other_users(tmp_path: Path) -> None:
    """Whatever the umask: what workers write there is made into objects."""
    study = small_study(write_bars(tmp_path / "bars.parquet", random_bars()))
    bars = random_bars()
    space = build_space(study)
    inputs = prepare(bars, space, study_rules(study, space, bars), 0.0)
    before = os.umask(0o000)
    try:
        shared = save_context(tmp_path / "shared", study, inputs)
    finally:
        os.umask(before)
    assert Path(shared.folder).stat().st_mode & 0o777 == 0o700
