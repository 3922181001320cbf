"""The command that searches again on newer bars."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from optimizer.cli.console import say
from optimizer.cli.interruption import command_state, resumable
from optimizer.cli.options import StudyFile, Workers
from optimizer.cli.study import ShownStudy

KEPT = 3
"""Exit code where the set that is traded stays."""


def reoptimize(
    study: StudyFile,
    data: Annotated[
        Path, typer.Option(help="File of bars that goes on where those of the study ended.")
    ],
    out: Annotated[
        Optional[Path],
        typer.Option(help="Folder of searches and notes [default: out/<study name>-reoptimized]."),
    ] = None,
    next_file: Annotated[
        Optional[Path],
        typer.Option(
            "--next",
            metavar="FILE",
            help="The set that is traded, replaced by a better one [default: next.json in --out].",
        ),
    ] = None,
    bars: Annotated[
        Optional[int],
        typer.Option(min=2, help="Bars of the window [default: as many as the study has]."),
    ] = None,
    margin: Annotated[
        float, typer.Option(min=0.0, help="By what fraction the new set must be better.")
    ] = 0.1,
    workers: Workers = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print the note alone.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the note as JSON and nothing else.")
    ] = False,
) -> None:
    """Search again up to the last bar; keep the traded set unless the new one is better.

    The exit code is 0 if another set is traded from now on, 3 if the old one stays.
    """
    from optimizer.search.reoptimize import reoptimize as reoptimize_study
    from optimizer.study_file.load import load_study

    shown = ShownStudy(quiet or as_json, False)
    command_state.quiet = as_json
    loaded = load_study(study)
    folder = Path("out") / f"{loaded.name}-reoptimized" if out is None else out
    with resumable(folder), shown.progress() as on_progress:
        found = reoptimize_study(
            loaded,
            data,
            out=folder,
            next_file=next_file,
            bars=bars,
            margin=margin,
            workers=workers,
            on_start=shown.start,
            on_progress=on_progress,
        )
    if as_json:
        print(found.note.model_dump_json(indent=1))
    else:
        for line in found.note.lines():
            say(line)
        say(f"the set to trade: {found.path}")
    if not found.changed:
        raise typer.Exit(KEPT)
