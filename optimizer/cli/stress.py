"""The command that stresses an exported set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Optional

import typer

from optimizer.cli.console import console, new_table, say, say_error
from optimizer.cli.options import ChosenSet, ExportFile, Trust, folder_of


def stress(
    file: ExportFile,
    number: ChosenSet = None,
    data: Annotated[
        Optional[list[Path]],
        typer.Option(
            "--data",
            help="The study's bars, if they have moved, or bars of other symbols; may be repeated.",
        ),
    ] = None,
    repeats: Annotated[int, typer.Option(min=2, help="Draws of what is random.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Seed of these draws.")] = 0,
    json_file: Annotated[
        Optional[Path],
        typer.Option("--json", metavar="FILE", help="Write the figures as JSON too."),
    ] = None,
    out: Annotated[
        Optional[Path], typer.Option(help="HTML file [default: stress.html next to BEST.json].")
    ] = None,
    trust: Trust = False,
) -> None:
    """Simulate an exported set in-sample under worse conditions; write a page of the figures."""
    from optimizer.review.stress.run import stress as stress_set
    from optimizer.store.guards import HTML, check_output, write_output
    from optimizer.store.names import STRESS_PAGE
    from optimizer.views.stress import (
        GROUPS,
        TITLES,
        facts_text,
        figure_cells,
        write_stress_page,
    )

    page = folder_of(file) / STRESS_PAGE if out is None else out
    check_output(page, HTML, "the page of a stress")
    if json_file is not None:
        check_output(json_file, (".json",), "the figures of a stress")

    def started(group: str) -> None:
        if console.is_terminal:
            say_error(f"{GROUPS[group][0]} ...", style="dim")

    found = stress_set(
        file,
        number=number,
        data=data or (),
        repeats=repeats,
        seed=seed,
        trust=trust,
        on_group=started,
    )
    say(facts_text(found))
    table = new_table()
    table.add_column("condition", overflow="fold")
    for title in TITLES:
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("note", overflow="fold")
    for row in found.rows:
        table.add_row(row.name, *figure_cells(row), row.note)
    console.print(table)
    if json_file is not None:
        write_output(json_file, json.dumps(found.to_dict(), indent=1, allow_nan=False) + "\n")
        say(f"figures: {json_file}")
    say(f"page: {write_stress_page(found, page)}")
