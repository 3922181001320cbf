"""A watch over loky's pool of worker processes: it ends a pool that would keep its caller waiting.

loky notices a dead worker between two messages. It notices nothing while it waits for the second half
of a message whose sender was killed, or after the thread that manages the pool has ended. loky has no
remedy for either, so the watch uses its private attributes.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from typing import Any

import psutil
from joblib.externals.loky import reusable_executor
from joblib.externals.loky.backend.utils import kill_process_tree
from joblib.externals.loky.process_executor import TerminatedWorkerError

LOOK_SECONDS = 1.0
"""Time between two looks. Limits count looks, not seconds: a stopped parent takes no looks."""

DEAD_LOOKS = 10
"""Looks after which a dead worker counts as unnoticed; loky normally notices in milliseconds."""

STILL_LOOKS = 120
"""Looks for which all workers may be idle while calls are pending."""

STILL_CPU_SECONDS = 0.1
"""A worker that uses less processor time than this within ``STILL_LOOKS`` looks is idle.

A worker's check for its parent takes a fifth of it. A tile takes ten times as much, even on a machine
loaded a hundred times over.
"""


class PoolWatch:
    """Watches loky's pool from a thread; loky has one pool per process.

    When the watch ends a pool, its caller gets ``BrokenProcessPool``, and loky starts a new pool for
    the next call.

    Attributes:
        ended: number of pools ended by all watches of this process. There may be several: the search
            of a walk-forward window has its own watch next to that of its study.
    """

    ended = 0
    _one_acts = threading.Lock()

    def __init__(self) -> None:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="pool watch", daemon=True)
        self._manager: Any = None
        self._forget()

    def start(self) -> None:
        """Start the watch. A watch starts once."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the watch and wait for its thread."""
        self._over.set()
        self._thread.join()

    def _forget(self) -> None:
        self._dead_looks = 0
        self._still_looks = 0
        self._calls: set[int] = set()
        self._used: dict[int, float] = {}

    def _watch(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            manager = getattr(reusable_executor._executor, "_executor_manager_thread", None)
            if manager is not self._manager:
                self._manager = manager
                self._forget()
            if manager is not None:
                with self._one_acts:
                    self._look(manager)

    def _look(self, manager: Any) -> None:
        if reason := self._reason(manager):
            logging.getLogger("barsweep").warning("workers are started again: %s", reason)
            PoolWatch.ended += 1
            _end(manager, reason)
            self._forget()

    def _reason(self, manager: Any) -> str:
        """Why the pool has to be ended; empty if it need not be."""
        calls = set(manager.pending_work_items)
        if not calls:
            self._forget()
            return ""
        if not manager.is_alive():
            return "the thread that manages them has ended"
        used = {pid: _processor_seconds(pid) for pid in list(manager.processes)}
        dead = not used or any(seconds is None for seconds in used.values())
        self._dead_looks = self._dead_looks + 1 if dead else 0
        if self._dead_looks > DEAD_LOOKS:
            return "one has died unseen"
        now = {pid: seconds for pid, seconds in used.items() if seconds is not None}
        if calls == self._calls and not _have_moved(self._used, now):
            self._still_looks += 1
        else:
            self._still_looks, self._calls, self._used = 0, calls, now
        if self._still_looks > STILL_LOOKS:
            return f"they did nothing for {STILL_LOOKS * LOOK_SECONDS:.0f} s"
        return ""


def _processor_seconds(pid: int) -> float | None:
    """Processor time that a process has used; infinite while it waits for the disk, None if dead."""
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            status, used = process.status(), process.cpu_times()
    except psutil.NoSuchProcess:
        return None
    if status in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
        return None
    if status == psutil.STATUS_DISK_SLEEP:
        return float("inf")
    return float(used.user + used.system)


def _have_moved(before: dict[int, float], now: dict[int, float]) -> bool:
    # Written so that infinite before and infinite now counts as moved: their difference is NaN.
    return before.keys() != now.keys() or any(
        not abs(now[pid] - before[pid]) < STILL_CPU_SECONDS for pid in now
    )


def _end(manager: Any, reason: str) -> None:
    """Kill the processes, and make the reader of their messages see the end of the pipe."""
    # This process holds the writing end of the pipe too, so the reader would never see its end.
    # The manager closes that end as soon as it is free, and closing it here as well could close a
    # descriptor that was opened in the meantime. So it is redirected to the null device instead.
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, manager.result_queue._writer.fileno(), inheritable=False)
        finally:
            os.close(nowhere)
    for process in list(manager.processes.values()):
        kill_process_tree(process)
    if not manager.is_alive():
        manager.terminate_broken(TerminatedWorkerError(reason))
