"""The command line in this process: as a subprocess sees it, without the time that one takes."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from pathlib import Path
from typing import NamedTuple

from optimizer.cli import main


class Done(NamedTuple):
    """What a command ended with."""

    returncode: int
    stdout: str
    stderr: str


def barsweep(*arguments: object, folder: Path) -> Done:
    """Run a command in a folder."""
    stdout, stderr = io.StringIO(), io.StringIO()
    argv, here = sys.argv, os.getcwd()
    sys.argv = ["barsweep", *map(str, arguments)]
    os.chdir(folder)
    code = 0
    try:
        with contextlib.redirect_stderr(stderr), contextlib.redirect_stdout(stdout):
            main.main()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    finally:
        sys.argv = argv
        os.chdir(here)
    return Done(code, stdout.getvalue(), stderr.getvalue())


def settle(folder: str, ledger: str) -> None:
    """In a process that is to become a command: its folder, and a ledger that no other has."""
    os.chdir(folder)
    os.environ["BARSWEEP_LEDGER"] = ledger
