"""Signals, and how a command ends early."""

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

from optimizer.cli.app import errors


class _Stopped(BaseException):
    """SIGINT or SIGTERM came. Not a KeyboardInterrupt, for which click has an ending of its own."""


@dataclass
class _State:
    """The signal that came, the study that it stopped, whether stdout is for results alone."""

    signal: int = 0
    folder: Path | None = None
    quiet: bool = False


command_state = _State()


_end_at_once = os._exit  # which is another thing while a user's code runs

GRACE_SECONDS = 3.0
"""After which a signal ends the program that did not come to hear of it."""


def on_signal(number: int, _: object) -> None:
    """End in order at the first signal, at once at the second: what is written is whole anyway."""
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, lambda number, _: _end_at_once(128 + number))
    command_state.signal = number
    raise _Stopped


def not_raised(ignored: sys.UnraisableHookArgs) -> None:
    """A signal came within a finalizer, whose errors Python reports and drops: let it come again."""
    if ignored.exc_type is not _Stopped:
        sys.__unraisablehook__(ignored)
        return
    number, thread = command_state.signal, threading.main_thread().ident
    signal.signal(number, on_signal)
    if thread is not None:
        threading.Timer(0.02, signal.pthread_kill, (thread, number)).start()


@contextlib.contextmanager
def signals_watched() -> Iterator[None]:
    """End the program at a signal though it is in compiled code, as a user's loop without an end.

    Python calls ``_stop`` between two of its own instructions alone. The number of the signal comes
    through a socket meanwhile, and so to a thread.
    """
    ours, pythons = socket.socketpair()
    pythons.setblocking(False)
    before = signal.set_wakeup_fd(pythons.fileno(), warn_on_full_buffer=False)

    def watch() -> None:
        with ours:
            number = 0
            while number not in (signal.SIGINT, signal.SIGTERM):
                came = ours.recv(1)
                if not came:
                    return
                number = came[0]
            ours.settimeout(GRACE_SECONDS)
            with contextlib.suppress(TimeoutError):
                if not ours.recv(1):
                    return
            if not command_state.signal:
                command_state.signal = number
                print_error(farewell())
                _end_at_once(128 + number)

    threading.Thread(target=watch, name="signal watch", daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        pythons.close()


def farewell() -> str:
    """What to say of a study that was interrupted."""
    word = "interrupted" if command_state.signal == signal.SIGINT else "terminated"
    folder = command_state.folder
    if folder is None:
        return word
    if (folder / "flow.json").is_file():
        return (
            f"{word}; the bars traced so far stay in {folder}, and a flow cannot go on from there:"
            " `barsweep flow --overwrite` begins it anew, or remove the folder"
        )
    if not (folder / "study.json").is_file():
        return word
    return (
        f"{word}; what was written so far is kept in {folder}: `barsweep resume {folder}` goes on"
        " with it"
    )


def print_error(text: str) -> None:
    """Print one line of error to standard error."""
    errors.print(text, style="red", markup=False, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def resumable(folder: Path) -> Iterator[None]:
    """Where a study or a flow is, as long as it runs; see ``_farewell``."""
    command_state.folder = folder
    yield
    command_state.folder = None
