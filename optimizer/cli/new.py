"""The command that starts a project."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from optimizer.cli.console import say


def new(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to create.")],
) -> None:
    """Start a project with your own strategy: a study file, a strategy, a test and bars."""
    from optimizer.project.new import write_project

    for file in write_project(folder):
        say(f"wrote {file}")
    say(f"next:  barsweep run {folder / 'study.toml'} --out {folder / 'out'}")
