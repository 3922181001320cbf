"""A pool of loky's that would keep its caller waiting forever, and the watch that ends it."""

from __future__ import annotations

import array
import fcntl
import os
import signal
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from joblib import Parallel, delayed
from joblib.externals.loky import get_reusable_executor, reusable_executor
from joblib.externals.loky.process_executor import BrokenProcessPool, _ExecutorManagerThread

from optimizer.engine import watch
from optimizer.engine.watch import PoolWatch
from tests.support.processes import wait_until


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[PoolWatch]:
    get_reusable_executor().shutdown(wait=True, kill_workers=True)
    monkeypatch.setattr(watch, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(PoolWatch, "ended", 0)
    found = PoolWatch()
    found.start()
    yield found
    found.stop()


def wait_in_worker(folder: Path, number: int, _: bytes) -> None:
    (folder / str(number)).write_text(str(os.getpid()))
    threading.Event().wait()


def waiting_bytes(connection: Any) -> int:
    found = array.array("i", [0])
    fcntl.ioctl(connection.fileno(), termios.FIONREAD, found)
    return found[0]


def test_a_message_that_nobody_will_read(watched: PoolWatch, tmp_path: Path) -> None:
    """A worker dies while half of the next task is in the pipe: loky needs no help."""
    results = Parallel(
        n_jobs=2, batch_size=1, max_nbytes=None, pre_dispatch="all", return_as="generator"
    )(delayed(wait_in_worker)(tmp_path, i, bytes(size)) for i, size in enumerate((0, 0, 2**22)))
    executor: Any = reusable_executor._executor
    pipe = executor._call_queue._reader
    assert wait_until(lambda: len(list(tmp_path.iterdir())) == 2)
    assert wait_until(lambda: waiting_bytes(pipe) >= 2**15)
    os.kill(int((tmp_path / "0").read_text()), signal.SIGKILL)
    with pytest.raises(BrokenProcessPool):
        list(results)
    assert watched.ended == 0


def test_two_watches_end_a_pool_once(watched: PoolWatch, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the search of a window within a study has; here the thread that manages the pool ends."""

    def end(self: Any, item: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr(_ExecutorManagerThread, "process_result_item", end)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)  # pytest's makes it an error
    second = PoolWatch()
    second.start()
    try:
        with pytest.raises(BrokenProcessPool):
            Parallel(n_jobs=2)(delayed(work)(0.0) for _ in range(2))
    finally:
        second.stop()
    assert PoolWatch.ended == 1


def test_a_pool_at_work_is_left_alone(watched: PoolWatch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long calls that use the processor, an idle pool, and its orderly end."""
    monkeypatch.setattr(watch, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(watch, "STILL_LOOKS", 100)
    monkeypatch.setattr(watch, "STILL_CPU_SECONDS", 0.01)
    assert Parallel(n_jobs=2)(delayed(work)(3.0) for _ in range(2)) == [None, None]
    assert not threading.Event().wait(3.0)
    get_reusable_executor().shutdown(wait=True)
    assert watched.ended == 0


def work(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


@pytest.mark.parametrize(
    ("before", "now", "moved"),
    [
        ({1: 1.0}, {1: 1.05}, False),
        ({1: 1.0, 2: 1.0}, {1: 1.0, 2: 1.2}, True),
        ({1: 1.0}, {2: 1.0}, True),
        ({1: 1.0}, {1: float("inf")}, True),
        ({1: float("inf")}, {1: float("inf")}, True),
        ({}, {}, False),
    ],
)
def test_what_counts_as_a_move(before: Any, now: Any, moved: bool) -> None:
    """A process that waits for a disk (infinite) is not still."""
    assert watch._have_moved(before, now) is moved
