"""Faults for the tests to inject: into the command line before it starts, or into its workers.

What stands in for ``optimizer.engine.tasks.evaluate_pieces`` travels to the workers by its name.
"""

from __future__ import annotations

import contextlib
import ctypes
import datetime
import importlib
import mmap
import os
import resource
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numba
import numpy as np
import psutil
from joblib.externals.loky.backend import queues as loky_queues
from joblib.externals.loky.backend.context import set_start_method
from optuna.storages import RDBStorage

from optimizer.engine import coordination, handover, workers
from optimizer.engine.processes import time_limit
from optimizer.engine.tasks import TileFailure, evaluate_pieces
from optimizer.errors import StudyError
from optimizer.search import journal, loop
from optimizer.search import run as search_run
from optimizer.store.folder import StudyFolder
from optimizer.sweep.inputs import Inputs
from tests.support.studies import FATAL_LOOKBACK, evaluate_or_die

evaluate = evaluate_pieces


# --- In workers -------------------------------------------------------------------------------


def _is_fatal(pieces: Any) -> bool:
    return any(piece.task.point["momentum_lookback"] == FATAL_LOOKBACK for piece in pieces)


def evaluate_out_of_memory(shared: Any, pieces: Any, regimes: Any, limit: Any) -> Any:
    """A worker with an address space that is nearly used up, on the tiles of one lookback."""
    if _is_fatal(pieces):
        _use_up_memory()
    return evaluate(shared, pieces, regimes, limit)


def evaluate_and_die_once(shared: Any, pieces: Any, regimes: Any, limit: Any) -> Any:
    """The first worker that comes to the tiles of one lookback dies at them."""
    if _is_fatal(pieces):
        try:
            Path(os.environ["BARSWEEP_DIED"]).touch(exist_ok=False)
        except FileExistsError:
            pass
        else:
            os.kill(os.getpid(), signal.SIGKILL)
    return evaluate(shared, pieces, regimes, limit)


def evaluate_out_of_memory_once(shared: Any, pieces: Any, regimes: Any, limit: Any) -> Any:
    """A worker runs out of memory each time that there is the file to say so, which it removes."""
    try:
        Path(os.environ["BARSWEEP_OUT_OF_MEMORY"]).unlink()
    except FileNotFoundError:
        return evaluate(shared, pieces, regimes, limit)
    _use_up_memory()
    return evaluate(shared, pieces, regimes, limit)


def _use_up_memory() -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**24, resource.RLIM_INFINITY))
    np.ones(2**26)


def stop_here() -> None:
    """Say that this process has come where a test wants it, and stop until that kills it."""
    path = Path(os.environ["BARSWEEP_STOPPED"])
    part = path.with_suffix(".part")
    part.write_text(str(os.getpid()))
    part.rename(path)
    os.kill(os.getpid(), signal.SIGSTOP)


class KillsTheStopped:
    """Kills the process that has stopped itself by ``stop_here``, once it has."""

    def __init__(self, path: Path) -> None:
        self.killed: list[int] = []
        self._path = path
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._hunt)

    def __enter__(self) -> KillsTheStopped:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _hunt(self) -> None:
        while not self._over.wait(0.002):
            with contextlib.suppress(FileNotFoundError, psutil.NoSuchProcess):
                process = psutil.Process(int(self._path.read_text()))
                if process.status() == psutil.STATUS_STOPPED:
                    process.kill()
                    self.killed.append(process.pid)
                    return


def _comes_first_to_the_fatal(pieces: Any) -> bool:
    return _is_fatal(pieces) and not Path(os.environ["BARSWEEP_STOPPED"]).exists()


def evaluate_and_stop_within_the_file(shared: Any, pieces: Any, regimes: Any, limit: Any) -> Any:
    """A worker stops with half of its result in the file, once, at the tiles of one lookback."""

    def half(value: Any) -> Iterator[bytes]:
        content = b"".join(packed(value))
        yield content[: len(content) // 2]
        stop_here()

    packed = handover._packed
    if _comes_first_to_the_fatal(pieces):
        handover._packed = half  # type: ignore[assignment]
    return evaluate(shared, pieces, regimes, limit)


def evaluate_and_stop_within_the_pipe(shared: Any, pieces: Any, regimes: Any, limit: Any) -> Any:
    """The same with half of its message in the pipe, as large ones are sent."""

    def half(self: Connection, message: bytes, write: Any = os.write) -> None:
        write(self.fileno(), bytes(message)[: len(message) // 2])
        stop_here()

    if _comes_first_to_the_fatal(pieces):
        replaced: Any = Connection
        replaced._send = half
    return evaluate(shared, pieces, regimes, limit)


def evaluate_and_stop(shared: Any, pieces: Any, regimes: Any, limit: Any) -> Any:
    """A worker stops at the tiles of one lookback, once."""
    if _comes_first_to_the_fatal(pieces):
        stop_here()
    return evaluate(shared, pieces, regimes, limit)


def evaluate_and_leave(shared: Any, pieces: Any, regimes: Any, limit: Any) -> Any:
    """A worker signs off after the tiles of one lookback, once, as one with nothing to do does."""
    left = Path(os.environ["BARSWEEP_STOPPED"])
    if _is_fatal(pieces) and not left.exists():
        left.touch()
        queue: Any = loky_queues.Queue
        queue.get = lambda *_, **__: None
    return evaluate(shared, pieces, regimes, limit)


def evaluate_and_stop_within_the_reply(shared: Any, pieces: Any, regimes: Any, limit: Any) -> Any:
    """A Dask worker stops with half of its result in the socket, once, at the tiles of one lookback."""
    from distributed.comm.tcp import TCP

    write = TCP.write

    async def half(self: Any, message: Any, *arguments: Any, **options: Any) -> Any:
        data = message.get("data") if isinstance(message, dict) else None
        if data and any("batch" in str(key) for key in data):
            stream = self.stream

            def stop(_: bytes) -> None:
                content = bytes(stream._write_buffer.peek(2**30))
                stream.socket.setblocking(True)
                stream.socket.sendall(content[: len(content) // 2])
                stop_here()

            stream.write = stop
        return await write(self, message, *arguments, **options)

    if _comes_first_to_the_fatal(pieces):
        TCP.write = half
    return evaluate(shared, pieces, regimes, limit)


class _StopsWhenPickled:
    def __init__(self, result: Any) -> None:
        self.result = result

    def __reduce__(self) -> Any:
        stop_here()
        return _itself, (self.result,)


def _itself(result: Any) -> Any:
    return result


def evaluate_and_stop_within_the_pickle(shared: Any, pieces: Any, regimes: Any, limit: Any) -> Any:
    """A worker stops with half of its result pickled, once, at the tiles of one lookback."""
    found: Any = evaluate(shared, pieces, regimes, limit)
    results, seconds = found
    if _comes_first_to_the_fatal(pieces):
        seconds = _StopsWhenPickled(seconds)
    return results, seconds


def say(kind: str, length: int, said: str) -> Any:
    """In a worker: something long, and into a file how long each message to the parent is."""
    send = Connection._send  # type: ignore[attr-defined]

    def noted(self: Connection, message: bytes, *rest: Any) -> None:
        with open(said, "a") as file:
            file.write(f"{len(message)}\n")
        send(self, message, *rest)

    replaced: Any = Connection
    if send.__name__ != noted.__name__:
        replaced._send = noted
    match kind:
        case "array":
            return np.arange(length)
        case "text":
            return "x" * length
        case "failure":
            return TileFailure("x" * length)
        case "error":
            raise StudyError("x" * length)
    raise ValueError("x" * length)


def die_at_the_start() -> None:
    """A worker dies while it starts, as often as the file has bytes."""
    path = Path(os.environ["BARSWEEP_DEATHS"])
    left = path.stat().st_size
    if left:
        os.truncate(path, left - 1)
        os.kill(os.getpid(), signal.SIGKILL)


@numba.njit(nogil=True)
def _loop(start: float) -> float:
    while start < np.inf:
        start = start * 0.5 + 1.0
    return start


def evaluate_endlessly(shared: Any, pieces: Any, regimes: Any, limit: Any) -> Any:
    """Compiled code that never ends, on the tiles of one lookback."""
    with time_limit(shared.folder, limit):
        if _is_fatal(pieces):
            _loop(1.0)
    return evaluate(shared, pieces, regimes, None)


# --- Before the command line starts -----------------------------------------------------------


def prepare_all(steps: Sequence[tuple[str, Sequence[Any]]]) -> None:
    """Several of these functions, each with its arguments."""
    for name, arguments in steps:
        globals()[name](*arguments)


def keep_to(folder: str, ledger: str) -> None:
    """Temporary files and the ledger have their own places."""
    os.environ["BARSWEEP_LEDGER"] = ledger
    os.environ["TMPDIR"] = tempfile.tempdir = folder


def slow_batches() -> None:
    """Let some time pass after each batch, so that a kill finds the study under way."""
    write: Any = StudyFolder.write_batch

    def slowly(*arguments: Any) -> None:
        write(*arguments)
        time.sleep(0.02)

    folder: Any = StudyFolder
    folder.write_batch = slowly


def replace_evaluation(name: str) -> None:
    functions: dict[str, Any] = {"die": evaluate_or_die, "memory": evaluate_out_of_memory,
                 "loop": evaluate_endlessly}  # fmt: skip
    replaced: Any = workers
    replaced.evaluate_pieces = functions[name]


def run_out_of_memory_at(file: str) -> None:
    """A worker runs out of memory whenever the file is there."""
    os.environ["BARSWEEP_OUT_OF_MEMORY"] = file
    replaced: Any = workers
    replaced.evaluate_pieces = evaluate_out_of_memory_once


def coordinate(name: str) -> None:
    """One of several coordinators, who count as dead soon."""
    coordination.HEARTBEAT_SECONDS, coordination.GRACE_SECONDS = 1, 3
    if name:
        replace_evaluation(name)


def die_before_the_first_heartbeat() -> None:
    """A coordinator is killed between adding its second trial and signing it."""
    storage: Any = RDBStorage
    sign, left = storage.record_heartbeat, [2]

    def killed(self: Any, trial: int) -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        sign(self, trial)

    storage.record_heartbeat = killed


def once_there_are(results: str, n_batches: int, act: Callable[[], object]) -> None:
    """Act once a study has written some batches."""

    def wait() -> None:
        while len(list(Path(results).glob("*.parquet"))) < n_batches:
            time.sleep(0.001)
        act()

    threading.Thread(target=wait, daemon=True).start()


def limit_files(n_bytes: int) -> None:
    """No file may grow beyond that: to a program the same as a full disk.

    Python would leave cut bytecode of what it imports then, for all tests that come after.
    """
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"  # for the workers
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, resource.RLIM_INFINITY))


def limit_files_after(results: str, n_batches: int) -> None:
    once_there_are(results, n_batches, lambda: limit_files(1000))


def limit_files_within(owner: Any, name: str, calls: int) -> None:
    """The disk is full within the n-th call of a method."""
    method, left = getattr(owner, name), [calls]

    def limited(*arguments: Any) -> Any:
        left[0] -= 1
        if left[0]:
            return method(*arguments)
        limit_files(1000)
        try:
            return method(*arguments)
        finally:
            limit_files(resource.RLIM_INFINITY)

    setattr(owner, name, limited)


def limit_files_at_scratch() -> None:
    limit_files_within(Inputs, "save", 1)


def limit_files_at_journal() -> None:
    limit_files_within(journal.Journal, "add", 3)


class _Interrupts:
    """Ctrl-C comes while one of these is finalized."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):  # the handler runs between two of these
            pass


def interrupt_within_a_finalizer() -> None:
    """After the second batch."""
    search: Any = loop.SearchLoop
    report, left = search._report, [2]

    def interrupted(self: Any, *arguments: Any) -> None:
        report(self, *arguments)
        left[0] -= 1
        if left[0] == 0:
            _Interrupts()

    search._report = interrupted


def start_together(folder: str, number: int, count: int) -> None:
    """Wait for the others where a folder is taken; be slow to write that it is."""
    module: Any = search_run
    taken = module.exclusive_use
    write = StudyFolder.write_manifest

    def wait(path: Path) -> Any:
        Path(folder, str(number)).touch()
        while len(list(Path(folder).iterdir())) < count:
            time.sleep(0.001)
        return taken(path)

    def write_late(self: StudyFolder, manifest: Any) -> None:
        time.sleep(0.5)
        write(self, manifest)

    module.exclusive_use = wait
    StudyFolder.write_manifest = write_late  # type: ignore[method-assign]


def respect_permissions() -> None:
    """Without the capabilities by which root may write anywhere."""
    if os.geteuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)()
    assert libc.capget(header, data) == 0
    data[0] &= ~0b110  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, effective
    assert libc.capset(header, data) == 0


def close_folder_after(results: str, n_batches: int) -> None:
    respect_permissions()
    once_there_are(results, n_batches, lambda: Path(results).chmod(0o555))


def start_workers_by(method: str) -> None:
    set_start_method(method)


def errors_elsewhere(path: str) -> None:
    """Standard error to a file of its own."""
    os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), 2)


def set_the_clock_back() -> None:
    """Each look at the clock shows an hour before the last one."""
    now = [time.time()]

    def earlier() -> float:
        now[0] -= 3600
        return now[0]

    class Earlier(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Any:
            return datetime.datetime.fromtimestamp(earlier(), tz)

    time.time = earlier
    optuna_storage: Any = importlib.import_module("optuna.storages._in_memory")
    assert optuna_storage.datetime is datetime.datetime
    optuna_storage.datetime = Earlier


def fill_disk_after(results: str, n_batches: int, filler: str) -> None:
    """Fill the file system to its last byte."""

    def fill() -> None:
        with open(filler, "wb", buffering=0) as file:
            for size in (2**20, 4096, 1):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError:
                    continue

    once_there_are(results, n_batches, fill)
