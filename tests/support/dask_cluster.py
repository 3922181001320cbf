"""A Dask cluster on loopback, of real processes."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

from tests.support.processes import wait_until

ROOT = Path(__file__).resolve().parent.parent.parent


class Cluster:
    """A scheduler and workers, processes of their own, each in a folder of its own.

    Args:
        folder: for what they write.
        n_workers: of one thread each.
        nannies: start each worker again that died, as ``dask worker`` does by default.
    """

    def __init__(self, folder: Path, n_workers: int, *, nannies: bool = False) -> None:
        self._folder = folder
        self._nanny = "--nanny" if nannies else "--no-nanny"
        self._said = folder / "scheduler.json"
        self.scheduler = self._start("scheduler", "--port", "0", "--scheduler-file", self._said)
        assert wait_until(lambda: self._said.exists() and self._said.read_text().endswith("}"))
        self.address = json.loads(self._said.read_text())["address"]
        self.workers = [self.add_worker() for _ in range(n_workers)]
        self.wait_for_workers(n_workers)

    def wait_for_workers(self, count: int) -> None:
        import distributed

        with distributed.Client(self.address, set_as_default=False) as client:
            client.wait_for_workers(count, timeout=60)

    def add_worker(self) -> subprocess.Popen[bytes]:
        return self._start("worker", self.address, "--nthreads", "1", self._nanny)

    def _start(self, kind: str, *arguments: object) -> subprocess.Popen[bytes]:
        own = self._folder / f"{kind}-{len(list(self._folder.iterdir()))}"
        own.mkdir()
        command = [sys.executable, "-m", "dask", kind, *map(str, arguments)]
        with (own / "log").open("wb") as log:
            return subprocess.Popen(
                [*command, "--host", "127.0.0.1", "--no-dashboard"],
                cwd=own,
                env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(own)},
                stdout=log,
                stderr=log,
            )

    def close(self) -> None:
        for process in (*self.workers, self.scheduler):
            family: list[psutil.Process] = []
            with contextlib.suppress(psutil.NoSuchProcess):
                nanny = psutil.Process(process.pid)
                family = [nanny, *nanny.children(recursive=True)]
            for one in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
            process.wait()


@contextlib.contextmanager
def running(folder: Path, n_workers: int, *, nannies: bool = False) -> Iterator[Cluster]:
    """A cluster, for as long as it is wanted; its folder is made."""
    folder.mkdir()
    found = Cluster(folder, n_workers, nannies=nannies)
    try:
        yield found
    finally:
        found.close()
