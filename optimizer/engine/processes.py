"""Worker processes of this machine: how many, how they start and end, and what they leave behind."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing.resource_tracker
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
from joblib import cpu_count
from joblib.externals.loky.backend import resource_tracker as loky_resource_tracker

PARENT_LOOK_SECONDS = 0.5
"""Time between two checks of a worker that its parent is alive."""

_TIMED_OUT = "timed-out"
"""The file that a worker leaves when it ends itself at the time limit."""


def process_count(wanted: int) -> int:
    """Number of worker processes on this machine, with a warning if it is less than wanted.

    Args:
        wanted: processes wanted; 0 for one per core.

    Returns:
        The number wanted, and at most the number of cores.
    """
    cores = int(cpu_count())
    if wanted > cores:
        logging.getLogger("barsweep").warning(
            "%d workers were asked for, this machine has %d cores: it takes %d",
            wanted,
            cores,
            cores,
        )
    return min(wanted or cores, cores)


# --- Start --------------------------------------------------------------------------------------


def start_worker(parent: int) -> None:
    """Initialize a new worker process: it ignores Ctrl-C, and ends when its parent is gone.

    A parent that is killed does not close the queues of its workers, because each worker holds both
    ends of them. So a thread of the worker looks for the parent.

    Args:
        parent: process ID of the parent.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    started_by = os.getppid()
    leader = psutil.Process(parent)

    def watch() -> None:
        while os.getppid() == started_by and leader.is_running():
            threading.Event().wait(PARENT_LOOK_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="parent watch", daemon=True).start()


def ready() -> None:
    """Do nothing: the first call of each worker, which shows that it has started."""


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Block Ctrl-C for a while.

    Processes that are started meanwhile inherit the block, so that Ctrl-C does not interrupt their
    imports before ``start_worker`` is called. Does nothing where signals cannot be blocked (Windows).
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    for tracker in (multiprocessing.resource_tracker, loky_resource_tracker):
        # Starting a tracker unblocks Ctrl-C, so they are started first.
        tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# --- Time limit ---------------------------------------------------------------------------------


@contextlib.contextmanager
def time_limit(folder: str | Path | None, seconds: float | None) -> Iterator[None]:
    """End this worker process if the block takes too long; nothing else stops a compiled loop.

    Args:
        folder: where the worker leaves a file that says why it ended; None only without a limit.
        seconds: the limit in seconds; None sets none.
    """
    if seconds is None:
        yield
        return
    assert folder is not None
    timed_out = Path(folder, _TIMED_OUT)

    def end() -> None:
        timed_out.touch()
        os._exit(1)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def clear_timeout(folder: Path) -> bool:
    """Remove the file of a worker that ended itself at its time limit.

    Args:
        folder: the folder given to ``time_limit``.

    Returns:
        Whether there was such a file.
    """
    try:
        (folder / _TIMED_OUT).unlink()
    except FileNotFoundError:
        return False
    return True


# --- What a killed process leaves behind --------------------------------------------------------


def remove_shared_memory(process: int) -> None:
    """Remove what joblib kept in shared memory for a process that was killed.

    Args:
        process: ID of the process; if it exists, nothing is removed.
    """
    if psutil.pid_exists(process):
        return
    for path in Path("/dev/shm").glob(f"*loky-{process}-*"):
        with contextlib.suppress(OSError):  # of another user, who had the number later
            path.unlink()
    for path in Path("/dev/shm").glob(f"joblib_memmapping_folder_{process}_*"):
        shutil.rmtree(path, ignore_errors=True)
