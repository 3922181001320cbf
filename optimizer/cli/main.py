"""Entry point of the command line."""

from __future__ import annotations

import errno
import io
import logging
import os
import re
import sys
from typing import Any

import typer
from typer.main import get_command

from optimizer.cli.app import app
from optimizer.cli.console import say, say_error
from optimizer.cli.interruption import (
    command_state,
    farewell,
    signals_handled,
    signals_watched,
)
from optimizer.errors import BarsweepError, StudyError
from optimizer.isolation import NUMBA_FILE, leave_working_folder, safe_children

UsageError = typer.BadParameter.__mro__[1]
"""What typer raises for wrong options and arguments: click's, or that of its own copy of click."""


def main() -> None:
    """Run the command line.

    Raises:
        SystemExit: always. A user's mistake is one line on standard error and exit code 2.
    """
    leave_working_folder()
    if isinstance(sys.stdout, io.TextIOWrapper):  # escape what the terminal cannot encode
        sys.stdout.reconfigure(errors="backslashreplace")
    log = logging.getLogger("barsweep.code")
    log.setLevel(logging.INFO)
    log.propagate = False
    announce = _AnnounceCode()
    log.addHandler(announce)
    warnings_log, shown = logging.getLogger("barsweep"), _ShowWarnings(logging.WARNING)
    warnings_log.addHandler(shown)
    command_state.quiet = False
    if os.path.lexists(NUMBA_FILE):
        warnings_log.warning(
            "%s: not read; barsweep takes numba's settings from variables NUMBA_... only",
            NUMBA_FILE,
        )
    try:
        with safe_children(), signals_handled():
            code = _run()
    finally:
        log.removeHandler(announce)
        log.setLevel(logging.NOTSET)
        log.propagate = True
        warnings_log.removeHandler(shown)
    sys.exit(code)


def _run() -> int:
    """Run the command that ``sys.argv`` asks for; print a mistake as one line.

    Returns:
        The exit code.
    """
    try:
        with signals_watched():
            return app(prog_name="barsweep", standalone_mode=False) or 0
    except SystemExit:
        raise
    except BaseException as error:
        # A signal may surface as an error of whatever it interrupted.
        if command_state.signal:
            say_error(farewell())
            return 128 + command_state.signal
        if isinstance(error, UsageError):
            _print_usage_error(error)
            return 2
        problem = _user_problem(error)
        if problem is None:
            raise
        say_error(f"error: {problem}")
        return 2


def _user_problem(error: BaseException) -> str | None:
    """What the user can do something about, in one line; None for a bug."""
    if isinstance(error, MemoryError):
        if sys.argv[1:2] == ["run"]:  # the one command that takes these from a file of the user's
            return "out of memory; lower [search] batch, or sweep fewer values in a tile"
        return "out of memory; end other programs, or use a machine with more"
    if isinstance(error, BarsweepError):
        return str(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
        # Whatever is still buffered for stdout would fail again as the interpreter exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return f"{error.filename or 'standard output'}: cannot be written: {error.strerror}"
    return None


def _print_usage_error(error: Any) -> None:
    """Print one line for a wrong option or argument; the help where nothing was given."""
    context = error.ctx
    if context is not None and error.message == context.get_help():
        typer.echo(error.message, err=True)
        return
    command = context.command_path if context is not None else _command_of(sys.argv[1:])
    # Messages may consist of several sentences; some of them are pydantic's.
    text = re.sub(r": (Value error, |Input )", ": ", error.format_message().rstrip("."))
    text = re.sub(r"\. Choose from:\s+(.*)", _choices, text, flags=re.S)
    text = text[0].lower() + text[1:].replace(". Did", "; did")
    text += " " if text.endswith("?") else "; "
    say_error(f"error: {StudyError(f'{command}: {text}see `{command} --help`')}")


def _choices(match: re.Match[str]) -> str:
    """Click lists the values of an option that is missing in lines of their own."""
    return ", one of " + ", ".join(re.split(r",?[ \t\n]+", match[1].strip()))


def _command_of(words: list[str]) -> str:
    """The command that is asked for, as far as it exists: the parser of options does not tell."""
    command, path = get_command(app), ["barsweep"]
    for word in words:
        found = getattr(command, "commands", {}).get(word)
        if found is None:
            break
        command, path = found, [*path, word]
    return " ".join(path)


class _AnnounceCode(logging.Handler):
    """Names the user's file whose code is about to run, once; on stderr where stdout is for results."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if text in self._said:  # it holds several strategies
            return
        self._said.add(text)
        if command_state.quiet:
            say_error(text, style=None)
        else:
            say(text)


class _ShowWarnings(logging.Handler):
    """Prints warnings on standard error, escaped: they name files, symbols and values of files."""

    def emit(self, record: logging.LogRecord) -> None:
        say_error(record.getMessage(), style=None)
