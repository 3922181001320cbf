"""Workers of a real Dask cluster on loopback: the results of loky, whatever happens to a worker."""

from __future__ import annotations

import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from optimizer.engine import dask_cluster as module
from optimizer.engine import workers
from optimizer.engine.shipping import Shipped, context_of
from optimizer.errors import StudyError
from optimizer.search.prepare import prepare_study
from optimizer.search.resume import resume_study
from optimizer.search.run import run_study
from optimizer.store.folder import StudyFolder
from optimizer.store.names import SCRATCH
from optimizer.study_file.load import load_study
from tests.support.command import barsweep
from tests.support.dask_cluster import ROOT, Cluster, running
from tests.support.faults import (
    KillsTheStopped,
    evaluate_and_die_once,
    evaluate_and_stop_within_the_pickle,
    evaluate_and_stop_within_the_reply,
)
from tests.support.studies import (
    FATAL_LOOKBACK,
    evaluate_or_die,
    mapping,
    random_bars,
    result_hashes,
    small_study,
    write_bars,
)

pytest.importorskip("distributed")

MANY = {"sampler": "random", "trials": 40, "batch": 8}
CUSTOM = """
from optimizer import HOLD, LONG
PARAMETERS = {"lookback": (20, 2, 60), "threshold": (0.02, 0.0, 1.0)}
def twice(close, lookback):
    return 2.0 * close
FEATURES = {"momentum": ("momentum", "lookback"), "near": (twice, "lookback")}
def signal(momentum, near, threshold):
    if momentum > threshold and near > 0.0:
        return LONG, 0.05, 1.0
    return HOLD, 0.0, 0.0
"""


@pytest.fixture(scope="module")
def dask_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("cluster") / "dask", 2) as found:
        yield found


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bars(tmp_path_factory.mktemp("data") / "bars.parquet", random_bars())


def on(address: str) -> dict[str, Any]:
    return {"backend": "dask", "address": address}


def test_the_files_are_those_of_loky(data: Path, dask_cluster: Cluster, tmp_path: Path) -> None:
    tables: dict[str, Any] = {
        "classifier": [{"name": "none"}, {"name": "hmm", "train_bars": 60, "refit_bars": 120}],
        "search": {"sampler": "tpe", "trials": 12, "batch": 4},
    }
    here = run_study(small_study(data, **tables), out=tmp_path / "loky", workers=2).folder
    study = small_study(data, workers=on(dask_cluster.address), **tables)
    there = run_study(study, out=tmp_path / "dask").folder
    assert len(result_hashes(here)) == 3
    assert result_hashes(there) == result_hashes(here)
    assert there.trials() == here.trials()


def test_workers_see_no_file_of_the_study(
    data: Path, dask_cluster: Cluster, tmp_path: Path
) -> None:
    """Nor of a user's strategy: its content travels."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "own.py").write_text(CUSTOM)
    tables = mapping(
        str(data),
        strategy=[{"path": "own.py", "name": "own", "lookback": {"low": 5, "high": 40, "step": 5}}],
        workers=on(dask_cluster.address),
    )
    (home / "study.toml").write_text(tomli_w.dumps(tables))
    study = load_study(home / "study.toml")
    seen = []

    def look(_: object) -> None:
        seen.append([path.name for path in (home / "dask").iterdir()])

    there = run_study(study, out=home / "dask", on_progress=look).folder
    assert not [name for names in seen for name in names if name.startswith(SCRATCH)]
    here = run_study(
        study.model_copy(update={"workers": type(study.workers)()}), out=home / "loky", workers=1
    ).folder
    assert result_hashes(there) == result_hashes(here)


def test_the_only_worker_killed_at_a_tile(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it held is computed again for the next one."""
    study = small_study(data, search=MANY)
    whole = run_study(study, out=tmp_path / "whole", workers=1).folder
    died = tmp_path / "died"
    monkeypatch.setenv("BARSWEEP_DIED", str(died))
    with running(tmp_path / "cluster", 1) as own:

        def replace_the_dead() -> None:
            own.workers[0].wait()
            own.workers.append(own.add_worker())

        threading.Thread(target=replace_the_dead, daemon=True).start()
        monkeypatch.setattr(workers, "evaluate_pieces", evaluate_and_die_once)
        study = small_study(data, search=MANY, workers=on(own.address))
        found = run_study(study, out=tmp_path / "dask").folder
        assert own.workers[0].wait(10) == -signal.SIGKILL
        assert own.workers[1].poll() is None
    assert died.exists()
    assert result_hashes(found) == result_hashes(whole)


def test_a_dask_worker_killed_while_it_sends(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of its result is in the socket, which closes with it: the tile is computed again."""
    tables: dict[str, Any] = {"strategy": {"lookback": {"choices": [10, FATAL_LOOKBACK, 20]}}}
    whole = run_study(small_study(data, **tables), out=tmp_path / "whole", workers=1).folder
    stopped = tmp_path / "stopped"
    monkeypatch.setenv("BARSWEEP_STOPPED", str(stopped))
    with running(tmp_path / "cluster", 2) as own, KillsTheStopped(stopped) as killer:
        monkeypatch.setattr(workers, "evaluate_pieces", evaluate_and_stop_within_the_reply)
        study = small_study(data, workers=on(own.address), **tables)
        found = run_study(study, out=tmp_path / "dask").folder
        assert killer.killed == [one.pid for one in own.workers if one.poll() is not None]
    assert len(killer.killed) == 1
    assert result_hashes(found) == result_hashes(whole)


def test_a_tile_that_kills_dask_workers_fails_alone(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the scheduler gives it up (``allowed-failures``), it is tried alone, then it fails."""
    tables: dict[str, Any] = {
        "strategy": {"lookback": {"choices": [10, FATAL_LOOKBACK, 20]}},
        "risk": {"max_exposure": 1.0, "volatility_lookback": 20},
        "search": {"sampler": "grid", "batch": 3},
    }
    healthy = run_study(small_study(data, **tables), out=tmp_path / "healthy", workers=1)
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES", "0")
    with running(tmp_path / "cluster", 2, nannies=True) as own:
        monkeypatch.setattr(workers, "evaluate_pieces", evaluate_or_die)
        study = small_study(data, workers=on(own.address), **tables)
        folder = run_study(study, out=tmp_path / "dask").folder
    trials = folder.trials()
    assert [trial["state"] for trial in trials] == ["COMPLETE", "FAIL", "COMPLETE"]
    assert trials[1]["params"] == {"momentum_lookback": FATAL_LOOKBACK}
    assert trials[1]["user_attrs"]["reason"] == "its worker died twice"
    rows, found = healthy.results(), folder.results()
    kept = rows[rows["trial"] != 1].drop(columns="set").reset_index(drop=True)
    assert found.drop(columns="set").equals(kept)
    assert folder.manifest()["complete"] is True


def test_no_dask_worker_comes_back(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The only one dies at a tile each time, and nothing starts it again: one line."""
    monkeypatch.setattr(module, "REPLACE_SECONDS", 2)
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES", "0")
    tables: dict[str, Any] = {
        "strategy": {"lookback": {"choices": [10, FATAL_LOOKBACK, 20]}},
        "risk": {"max_exposure": 1.0, "volatility_lookback": 20},
        "search": {"sampler": "grid", "batch": 1},
    }
    whole = run_study(small_study(data, **tables), out=tmp_path / "whole", workers=1).folder
    with running(tmp_path / "cluster", 1) as own:
        with monkeypatch.context() as patched:
            patched.setattr(workers, "evaluate_pieces", evaluate_or_die)
            study = small_study(data, workers=on(own.address), **tables)
            with pytest.raises(
                StudyError, match=r"cluster at tcp.* has no worker; .* `barsweep resume`"
            ):
                run_study(study, out=tmp_path / "dask")
        assert len(StudyFolder(tmp_path / "dask").trials()) == 1
        own.workers.append(own.add_worker())
        own.wait_for_workers(1)
        found = resume_study(tmp_path / "dask").folder
    assert result_hashes(found) == result_hashes(whole)


def test_a_scheduler_killed_midway(data: Path, tmp_path: Path) -> None:
    """One line; resume goes on."""
    with running(tmp_path / "cluster", 1) as own:

        def kill_scheduler(progress: Any) -> None:
            if progress.trials == 8:
                own.scheduler.kill()

        study = small_study(data, search=MANY, workers=on(own.address))
        with pytest.raises(StudyError, match=r"cluster at tcp.* is gone .* `barsweep resume`"):
            run_study(study, out=tmp_path / "dask", on_progress=kill_scheduler)
    assert 8 <= len(StudyFolder(tmp_path / "dask").trials()) < 40


def test_another_software_is_refused(data: Path) -> None:
    study = small_study(data)
    prepared = prepare_study(study, data.parent, 1, None)
    shipped = Shipped.of(study, prepared.inputs)
    older = replace(shipped, key="other", software={**shipped.software, "numba": "0.1"})
    with pytest.raises(StudyError, match=r"has numba .*, the study 0\.1, .*install the same there"):
        context_of(older)


def test_what_is_shipped_has_one_key_for_one_content(data: Path) -> None:
    def key(**tables: Any) -> str:
        study = small_study(data, **tables)
        return Shipped.of(study, prepare_study(study, data.parent, 1, None).inputs).key

    assert key() == key()
    assert len({key(), key(validation={"blocks": 8}), key(risk={"volatility_lookback": 10})}) == 3


def test_no_scheduler_is_one_line(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONNECT_SECONDS", 1)
    study = data.with_name("study.toml")
    study.write_text(tomli_w.dumps(mapping(data.name, workers=on("tcp://127.0.0.1:9"))))
    done = barsweep("run", study.name, "--out", "out", folder=data.parent)
    assert done.returncode == 2, done.stderr
    [line] = done.stderr.strip().splitlines()
    assert 'study.toml: [workers] address = "tcp://127.0.0.1:9": no Dask scheduler answers' in line
    assert "dask scheduler" in line
    assert not (data.parent / "out").exists()


@pytest.mark.parametrize("backend", ["dask", "ray"])
def test_a_package_that_is_missing(
    backend: str, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, {"dask": "distributed"}.get(backend, backend), None)
    study = small_study(data, workers={"backend": backend, "address": "auto"})
    with pytest.raises(StudyError, match=rf"pip install 'barsweep\[{backend}\]'"):
        run_study(study, out=data.parent / "missing")
    assert not (data.parent / "missing").exists()


# --- Ray: `make test-ray` -----------------------------------------------------------------------


def test_ray_writes_the_files_of_loky_though_a_worker_dies(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="not installed; `make test-ray` does")
    tables: dict[str, Any] = {"search": MANY}
    whole = run_study(small_study(data, **tables), out=tmp_path / "whole", workers=1).folder
    died = tmp_path / "died"
    monkeypatch.setenv("BARSWEEP_DIED", str(died))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(workers, "evaluate_pieces", evaluate_and_die_once)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own
        study = small_study(data, workers={"backend": "ray", "address": "local"}, **tables)
        found = run_study(study, out=tmp_path / "ray", workers=2).folder
    assert died.exists()
    assert result_hashes(found) == result_hashes(whole)


def test_a_ray_worker_killed_while_it_sends(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of its result is pickled: the tile is computed again."""
    pytest.importorskip("ray", reason="not installed; `make test-ray` does")
    tables: dict[str, Any] = {"strategy": {"lookback": {"choices": [10, FATAL_LOOKBACK, 20]}}}
    whole = run_study(small_study(data, **tables), out=tmp_path / "whole", workers=1).folder
    stopped = tmp_path / "stopped"
    monkeypatch.setenv("BARSWEEP_STOPPED", str(stopped))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(workers, "evaluate_pieces", evaluate_and_stop_within_the_pickle)
    with warnings.catch_warnings(), KillsTheStopped(stopped) as killer:
        warnings.simplefilter("ignore")  # Ray's own
        study = small_study(data, workers={"backend": "ray", "address": "local"}, **tables)
        found = run_study(study, out=tmp_path / "ray", workers=2).folder
    assert len(killer.killed) == 1
    assert result_hashes(found) == result_hashes(whole)
