"""Signals: how a command that is interrupted ends, and what it says."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from optimizer.cli.console import say_error


class _Stopped(BaseException):
    """SIGINT or SIGTERM arrived.

    Not a KeyboardInterrupt: click catches that and ends the program in its own way.
    """


@dataclass
class _State:
    """What the signal handlers and the commands tell each other.

    Attributes:
        signal: number of the signal that arrived; 0 before one does.
        folder: the folder of the study or flow that runs; None while none does.
        quiet: whether standard output is for results only.
    """

    signal: int = 0
    folder: Path | None = None
    quiet: bool = False


command_state = _State()

_exit_now = os._exit  # bound here, since os._exit is replaced while a user's code runs

GRACE_SECONDS = 3.0
"""How long after a signal the program may take to notice it before it is ended."""


@contextlib.contextmanager
def signals_handled() -> Iterator[None]:
    """Handle SIGINT and SIGTERM: the command is cut short by an exception, once."""
    before = {one: signal.signal(one, _on_signal) for one in (signal.SIGINT, signal.SIGTERM)}
    sys.unraisablehook = _raise_again
    try:
        yield
    finally:
        sys.unraisablehook = sys.__unraisablehook__
        if not command_state.signal:
            for one, handler in before.items():
                signal.signal(one, handler)


def _on_signal(number: int, _: object) -> None:
    """Shut down cleanly on the first signal, immediately on the second: files are whole anyway."""
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, lambda number, _: _exit_now(128 + number))
    command_state.signal = number
    raise _Stopped


def _raise_again(ignored: sys.UnraisableHookArgs) -> None:
    """Send the signal again if it arrived within a finalizer, where Python drops exceptions."""
    if ignored.exc_type is not _Stopped:
        sys.__unraisablehook__(ignored)
        return
    number, thread = command_state.signal, threading.main_thread().ident
    signal.signal(number, _on_signal)
    if thread is not None:
        threading.Timer(0.02, signal.pthread_kill, (thread, number)).start()


@contextlib.contextmanager
def signals_watched() -> Iterator[None]:
    """End the program on a signal even while it is in compiled code, such as an endless user loop.

    Python runs ``_on_signal`` only between two of its own instructions. The number of the signal
    arrives through a socket regardless, and so reaches a thread.
    """
    ours, pythons = socket.socketpair()
    pythons.setblocking(False)
    before = signal.set_wakeup_fd(pythons.fileno(), warn_on_full_buffer=False)

    def watch() -> None:
        with ours:
            number = 0
            while number not in (signal.SIGINT, signal.SIGTERM):
                received = ours.recv(1)
                if not received:
                    return
                number = received[0]
            ours.settimeout(GRACE_SECONDS)
            with contextlib.suppress(TimeoutError):
                if not ours.recv(1):
                    return
            if not command_state.signal:
                command_state.signal = number
                say_error(farewell())
                _exit_now(128 + number)

    threading.Thread(target=watch, name="signal watch", daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        pythons.close()


def farewell() -> str:
    """What to say when a command is interrupted.

    Returns:
        One line, which names the command that resumes the study, if one was running.
    """
    word = "interrupted" if command_state.signal == signal.SIGINT else "terminated"
    folder = command_state.folder
    if folder is None:
        return word
    if (folder / "trade.db").is_file():
        return f"{word}; the session so far is kept in {folder}: the same command goes on"
    if (folder / "flow.json").is_file():
        return (
            f"{word}; the bars traced so far are kept in {folder}, but a flow cannot be resumed:"
            " start again with `barsweep flow --overwrite`, or remove the folder"
        )
    if (folder / "calibration.json").is_file():
        return f"{word}; the copies so far are kept in {folder}: the same command goes on"
    if (folder / "reoptimization.json").is_file():
        return f"{word}; the search so far is kept in {folder}: the same command goes on"
    if not (folder / "study.json").is_file():
        return word
    return (
        f"{word}; the results so far are kept in {folder}: resume with `barsweep resume {folder}`"
    )


@contextlib.contextmanager
def resumable(folder: Path) -> Iterator[None]:
    """Remember where a study, a flow or a calibration is written while it runs, see ``farewell``.

    Args:
        folder: the folder of it.
    """
    command_state.folder = folder
    yield
    command_state.folder = None
