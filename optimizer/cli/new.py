"""The command that starts a project."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from optimizer.cli.console import say


def new(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to create.")],
    template: Annotated[
        Optional[str],
        typer.Option(help="A study of the gallery to begin with, such as rotation or pairs."),
    ] = None,
) -> None:
    """Start a project with your own strategy: a study file, a strategy, a test and bars."""
    from optimizer.project.new import write_project

    for file in write_project(folder, template):
        say(f"wrote {file}")
    say(f"next:  barsweep run {folder / 'study.toml'} --out {folder / 'out'}")
