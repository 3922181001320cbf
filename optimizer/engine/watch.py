"""A watch over loky's pool of worker processes: it ends a pool that would keep its caller waiting.

loky notices a dead worker between two messages. While it waits for the second half of a message whose
sender was killed it notices nothing, and once the thread that manages the pool has ended nobody does.
loky offers no way out of either, so the watch reaches into its attributes.
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
"""Time between two looks. Limits count looks, not time: a parent that is stopped makes none."""

DEAD_LOOKS = 10
"""Looks for which loky may overlook that a worker is dead; it takes milliseconds."""

STILL_LOOKS = 120
"""Looks for which all workers may do next to nothing while calls wait for them."""

STILL_CPU_SECONDS = 0.1
"""Processor time within ``STILL_LOOKS`` that is next to nothing: a worker's watch for its parent
takes a fifth of it, a tile on a machine that is loaded a hundred times over ten times as much."""


class PoolWatch:
    """Looks after the pool of this process, of which loky has one, from a thread of its own.

    Where it ends a pool, ``BrokenProcessPool`` is raised to whoever waits for it, and the next pool is
    a new one.

    Attributes:
        ended: pools ended by any watch of this process; the search of a window runs within a study,
            and each has one.
    """

    ended = 0
    _one_acts = threading.Lock()

    def __init__(self) -> None:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="pool watch", daemon=True)
        self._manager: Any = None
        self._forget()

    def start(self) -> None:
        """Start to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
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
        """Why a pool has to be ended, if so."""
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
    """Processor time that a process has used; infinite while it waits for a disk, None if dead."""
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
    # In this form what is infinite before and now has moved.
    return before.keys() != now.keys() or any(
        not abs(now[pid] - before[pid]) < STILL_CPU_SECONDS for pid in now
    )


def _end(manager: Any, reason: str) -> None:
    """Kill the processes, so that who waits for their messages learns that nobody can send any."""
    # This process holds the pipe's end for writing too, and it would never end. Closing that here
    # might close it twice, since the manager does so as soon as it is free; so it leads nowhere.
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
