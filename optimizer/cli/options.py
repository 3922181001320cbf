"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

StudyFile = Annotated[Path, typer.Argument(metavar="STUDY", help="Study file (TOML).")]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder that `barsweep run` wrote.")]

Trust = Annotated[
    bool,
    typer.Option(
        "--trust", help="Approve the strategy file that is named there, for good; read it first."
    ),
]
Workers = Annotated[
    Optional[int], typer.Option(min=0, help="Worker processes; 0 means one per core.")
]
TopAtTheEnd = Annotated[int, typer.Option(min=1, help="How many of the best sets to show.")]
Quiet = Annotated[
    bool, typer.Option("--quiet", help="Print only what `barsweep show` prints at the end.")
]
JsonLines = Annotated[
    bool, typer.Option("--json-lines", help="Print one JSON object per batch and nothing else.")
]

ExportFile = Annotated[
    Path,
    typer.Argument(
        metavar="BEST.json", help="Exported sets (JSON or TOML), or the folder of a study."
    ),
]
ChosenSet = Annotated[
    Optional[int],
    typer.Option(
        "--set",
        min=0,
        help="Place of the set in the file, from 1, or its number in the folder [default: the best].",
    ),
]
MovedBars = Annotated[Optional[Path], typer.Option("--data", help="The bars, if they have moved.")]


def folder_of(export: Path) -> Path:
    """The folder of a page about a set, by default.

    Args:
        export: the file of an export, or the folder of a study.
    """
    return export if export.is_dir() else export.parent
