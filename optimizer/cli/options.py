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
    Path, typer.Argument(metavar="BEST.json", help="Exported sets (JSON or TOML).")
]
PlaceInFile = Annotated[
    int, typer.Option("--set", min=1, help="Place of the set in the file; 1 is the best.")
]
MovedBars = Annotated[Optional[Path], typer.Option("--data", help="The bars, if they have moved.")]
