"""The recipes of ``deploy/``: Slurm's is run, with a stand-in for ``srun``; Kubernetes' is read."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import tomli_w

from optimizer.search.run import run_study
from optimizer.store.folder import StudyFolder
from tests.support.studies import mapping, random_bars, result_hashes, small_study, write_bars

DEPLOY = Path(__file__).resolve().parent.parent / "deploy"


def write_program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_a_study_runs_in_a_job_of_slurm_and_goes_on_in_the_next(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    bars = write_bars(tmp_path / "bars.parquet", random_bars())
    alone = run_study(small_study(bars), out=tmp_path / "alone", workers=1)
    content = {**mapping(bars), "workers": {"backend": "dask", "address": "tcp://SCHEDULER"}}
    (tmp_path / "study.toml").write_text(tomli_w.dumps(content))
    (tmp_path / "bin").mkdir()
    write_program(tmp_path / "bin" / "srun", 'shift\nexec "$@"')  # without its one option
    for name, module in (("dask", "dask"), ("barsweep", "optimizer"), ("python", "")):
        call = f'exec "{sys.executable}" {f"-P -m {module}" if module else ""} "$@"'
        write_program(tmp_path / "bin" / name, call)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "SCHEDULER_HOST": "127.0.0.1",
        "SCHEDULER_PORT": str(port),
        "PYTHONPATH": str(DEPLOY.parent),
    }
    out = tmp_path / "out"
    for job in ("first", "second"):
        done = subprocess.run(
            ["bash", str(DEPLOY / "slurm.sh"), "study.toml", "out"],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert result_hashes(StudyFolder.open(out)) == result_hashes(alone.folder)
        folder = StudyFolder.open(out)
        if job == "first":  # as if its time had ended before the last batch
            folder.batch_paths()[-1].unlink()
            folder.write_manifest({**folder.manifest(), "complete": False, "n_batches": None})
    assert folder.manifest()["complete"]


def test_the_parts_in_kubernetes_know_each_other() -> None:
    yaml = pytest.importorskip("yaml")
    parts = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))
    by_kind = {(part["kind"], part["metadata"]["name"]): part["spec"] for part in parts}
    assert len(by_kind) == len(parts) == 4
    service = by_kind["Service", "barsweep-scheduler"]
    scheduler = by_kind["Deployment", "barsweep-scheduler"]["template"]
    assert scheduler["metadata"]["labels"] == service["selector"]
    (port,) = (str(one["port"]) for one in service["ports"])
    (command,) = (one["command"] for one in scheduler["spec"]["containers"])
    assert command[:4] == ["dask", "scheduler", "--port", port]
    workers = by_kind["Deployment", "barsweep-workers"]["template"]["spec"]["containers"][0]
    assert workers["command"][:3] == ["dask", "worker", f"tcp://barsweep-scheduler:{port}"]
    assert workers["command"][4] == workers["resources"]["limits"]["cpu"]
    job = by_kind["Job", "barsweep-study"]["template"]["spec"]
    assert "barsweep run study.toml --out out" in job["containers"][0]["command"][2]
    assert job["containers"][0]["volumeMounts"][0]["name"] == job["volumes"][0]["name"]
