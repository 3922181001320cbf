"""The command line in processes of their own, to be killed, limited and counted.

They are forked from a process that has imported everything and has carried out a study (this module,
run as a program), so that one starts in milliseconds and finds its kernels loaded; what runs in them is
``optimizer.cli.main``, as in a shell.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import psutil

from tests.support.compiled import share

ORPHAN_SECONDS = 10.0


# --- The process that forks -------------------------------------------------------------------


def serve() -> None:
    """Fork a command for each line of standard input; say its process number; note how it ended."""
    import optimizer.cli.main
    import optimizer.search.resume

    share()
    _warm_up()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # of the keepers
    for line in sys.stdin.buffer:
        said, saying = os.pipe()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            pid = os.fork()
            if pid == 0:
                os.setsid()
                os.write(saying, str(os.getpid()).encode())  # it leads its group: a kill finds it
                os.close(saying)
                _become(**json.loads(line))
                sys.argv[0] = "barsweep"
                try:
                    optimizer.cli.main.main()
                except SystemExit as end:
                    if isinstance(end.code, int | None):
                        _end(end.code or 0)
                    raise
                sys.exit(0)
            os.close(saying)
            status = os.waitpid(pid, 0)[1]
            _write(Path(json.loads(line)["output"] + ".code"), os.waitstatus_to_exitcode(status))
            os._exit(0)
        os.close(saying)
        sys.stdout.buffer.write(os.read(said, 20) + b"\n")
        sys.stdout.buffer.flush()
        os.close(said)


def _warm_up() -> None:
    """Import, compile and load once what a fork would each time.

    What is there then is kept from the garbage collector, which would copy its pages in every fork.
    """
    import optimizer.search.resume
    import tests.support.faults  # noqa: F401
    from optimizer.search.run import run_study
    from tests.support.studies import random_bars, small_study, write_bars

    ledger = os.environ.get("BARSWEEP_LEDGER")
    with tempfile.TemporaryDirectory(prefix="barsweep-") as name:
        folder = Path(name)
        os.environ["BARSWEEP_LEDGER"] = str(folder / "ledger.db")
        study = small_study(write_bars(folder / "bars.parquet", random_bars()))
        run_study(study, out=folder / "out", workers=1)
        optimizer.search.resume.resume_study(folder / "out", workers=1)
    del os.environ["BARSWEEP_LEDGER"]
    if ledger is not None:
        os.environ["BARSWEEP_LEDGER"] = ledger
    gc.collect()
    gc.freeze()


def _end(code: int) -> None:
    """End as the interpreter does, but for taking all modules apart, which would copy their pages."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _write(path: Path, code: int) -> None:
    part = path.with_suffix(".part")
    part.write_text(str(code))
    part.rename(path)


def _become(arguments: list[str], output: str, prepare: str, own: list[object]) -> None:
    """Take the arguments, print to a file, and do what the test prepares."""
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (file, 1), (file, 2)):
        os.dup2(source, target)
    sys.argv[1:] = arguments
    if prepare:
        module, name = prepare.split(":")
        getattr(importlib.import_module(module), name)(*own)


# --- What tests use ---------------------------------------------------------------------------


@cache
def _server() -> subprocess.Popen[bytes]:
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.support.processes"],
        cwd=Path(__file__).resolve().parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )

    def end() -> None:
        assert server.stdin is not None and server.stdout is not None
        server.stdin.close()
        server.wait()
        server.stdout.close()

    atexit.register(end)
    return server


class Command:
    """``barsweep`` with some arguments, in a process group of its own.

    Args:
        arguments: of the command line.
        output: file for what it prints.
        prepare: ``module:function`` to call in the process before it starts.
        own: arguments of ``prepare``.
    """

    def __init__(
        self, *arguments: object, output: Path, prepare: str = "", own: Sequence[object] = ()
    ) -> None:
        self._output, self._code = output, Path(f"{output}.code")
        output.unlink(missing_ok=True)
        self._code.unlink(missing_ok=True)
        server = _server()
        assert server.stdin is not None and server.stdout is not None
        order = {"arguments": [str(one) for one in arguments], "output": str(output),
                 "prepare": prepare, "own": list(own)}  # fmt: skip
        server.stdin.write(json.dumps(order).encode() + b"\n")
        server.stdin.flush()
        self.pid = int(server.stdout.readline())

    def text(self) -> str:
        """What it printed."""
        return self._output.read_text() if self._output.exists() else ""

    def family(self) -> list[psutil.Process]:
        """Its processes: itself and all that it started."""
        with contextlib.suppress(psutil.NoSuchProcess):
            leader = psutil.Process(self.pid)
            return [leader, *leader.children(recursive=True)]
        return []

    def workers(self) -> list[psutil.Process]:
        """Its worker processes."""
        found = []
        for one in self.family()[1:]:
            with contextlib.suppress(psutil.NoSuchProcess):
                if "resource_tracker" not in " ".join(one.cmdline()):
                    found.append(one)
        return found

    def signal(self, number: int, *, group: bool = True) -> None:
        """To the whole group, as a terminal does, or to the leader alone, as ``kill`` does."""
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(self.pid, number)

    def kill(self) -> None:
        """SIGKILL to the whole group."""
        self.signal(signal.SIGKILL)
        self.wait()

    def ended(self) -> bool:
        """Whether it has."""
        return self._code.exists()

    def wait(self, seconds: float = 120.0) -> int:
        """Its exit code, negative for a signal; the test fails if it does not end."""
        if not wait_until(self.ended, seconds):
            self.signal(signal.SIGKILL)
            raise AssertionError(f"did not end; it said: {self.text()}")
        return int(self._code.read_text())


def wait_until(condition: Callable[[], bool], seconds: float = 60.0, pause: float = 0.002) -> bool:
    """Whether a condition came true in time; between two looks is a pause."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(pause)
    return True


def survivors(family: Sequence[psutil.Process], seconds: float = ORPHAN_SECONDS) -> list[str]:
    """Which of some processes still run after the time that they have to end."""

    def alive() -> list[psutil.Process]:
        found = []
        for one in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                if one.is_running() and one.status() != psutil.STATUS_ZOMBIE:
                    found.append(one)
        return found

    if wait_until(lambda: not alive(), seconds):
        return []
    return [f"{one.pid}" for one in alive()]


if __name__ == "__main__":
    serve()
