"""Entry point of the command line."""

from __future__ import annotations

import errno
import io
import logging
import os
import re
import signal
import sys
from typing import Any

import typer

from optimizer.cli import bench, data, flow, project, replay, results, study, views  # noqa: F401
from optimizer.cli.app import app, errors, say
from optimizer.cli.interruption import (
    command_state,
    farewell,
    not_raised,
    on_signal,
    print_error,
    signals_watched,
)
from optimizer.errors import BarsweepError, StudyError


def main() -> None:
    """Run the command line. A user's mistake is one line on stderr and exit code 2."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name that the terminal cannot spell is escaped
        sys.stdout.reconfigure(errors="backslashreplace")
    code = logging.getLogger("barsweep.code")
    code.setLevel(logging.INFO)
    code.propagate = False
    says = _Code()
    code.addHandler(says)
    command_state.quiet = False
    before = {one: signal.signal(one, on_signal) for one in (signal.SIGINT, signal.SIGTERM)}
    sys.unraisablehook = not_raised
    try:
        with signals_watched():
            done = app(prog_name="barsweep", standalone_mode=False) or 0
        sys.exit(done)
    except SystemExit:
        raise
    except BaseException as error:
        # A signal may come out as the error of what it cut short.
        if command_state.signal:
            print_error(farewell())
            sys.exit(128 + command_state.signal)
        if isinstance(error, MemoryError):
            print_error(
                "error: out of memory; lower [search] batch, or sweep fewer values in a tile"
            )
            sys.exit(2)
        if isinstance(error, BarsweepError):
            print_error(f"error: {error}")
            sys.exit(2)
        if isinstance(error, UsageError):
            _print_usage_error(error)
            sys.exit(2)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            # What waits to be printed would fail again at the end of the interpreter.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            where = error.filename or "standard output"
            print_error(f"error: {where}: cannot be written: {error.strerror}")
            sys.exit(2)
        raise
    finally:
        code.removeHandler(says)
        sys.unraisablehook = sys.__unraisablehook__
        if not command_state.signal:
            for one, handler in before.items():
                signal.signal(one, handler)


UsageError = typer.BadParameter.__mro__[1]
"""What typer raises for wrong options and arguments: click's, or that of its own copy of click."""


def _print_usage_error(error: Any) -> None:
    """One line for a wrong option or argument; the help, where it was asked for by giving nothing."""
    context = error.ctx
    if context is not None and error.message == context.get_help():
        typer.echo(error.message, err=True)
        return
    command = context.command_path if context is not None else "barsweep"
    # Messages of several sentences, some of them pydantic's.
    text = re.sub(r": (Value error, |Input )", ": ", error.format_message().rstrip("."))
    text = text[0].lower() + text[1:].replace(". Did", "; did")
    text += " " if text.endswith("?") else "; "
    print_error(f"error: {StudyError(f'{command}: {text}see `{command} --help`')}")


class _Code(logging.Handler):
    """Says whose code is run, before it is; on stderr where stdout is for something else."""

    def emit(self, record: logging.LogRecord) -> None:
        if command_state.quiet:
            errors.print(record.getMessage(), markup=False, highlight=False, soft_wrap=True)
        else:
            say(record.getMessage())
