"""The command that makes a new project."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from optimizer.cli.app import app, say


@app.command()
def new(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to make.")],
) -> None:
    """Write a project with a strategy of your own: study, strategy, test, bars."""
    from optimizer.project.new import write_project

    for file in write_project(folder):
        say(f"wrote {file}")
    say(f"next:  barsweep run {folder / 'study.toml'} --out {folder / 'out'}")
