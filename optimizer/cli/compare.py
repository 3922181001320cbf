"""The command that compares two studies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from optimizer.cli.console import console, format_cell, new_table, say
from optimizer.cli.options import Folder


def compare(
    first: Folder,
    second: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of another study.")],
) -> None:
    """Compare two studies: best sets, verdicts, and how their study files and bars differ."""
    from optimizer.review.compare import compare_studies, difference_text

    found = compare_studies(first, second)
    pair = (found.first, found.second)
    table = new_table()
    table.add_column("")
    for one in pair:
        table.add_column(str(one.path), overflow="fold")
    for name, cells in (
        ("study", [Text(one.name) for one in pair]),
        ("state", [one.state for one in pair]),
        ("parameter sets", [f"{one.n_sets:,}" for one in pair]),
        ("objective", [one.objective for one in pair]),
        ("Sharpe to expect", [format_cell(one.sharpe_to_expect) for one in pair]),
        (
            "best in / out",
            [f"{format_cell(o.best)} / {format_cell(o.best_out_of_sample)}" for o in pair],
        ),
        ("verdict", [one.verdict or "-" for one in pair]),
    ):
        table.add_row(name, *cells)
    for title, rows in (
        ("study files differ in", found.study_differences),
        ("bars differ in", found.data_differences),
    ):
        if rows:
            table.add_row(Text(title, "bold"))
        for name, before, now in rows:
            table.add_row(Text(name), Text(difference_text(before)), Text(difference_text(now)))
    console.print(table)
    for title, rows in (("study files", found.study_differences), ("bars", found.data_differences)):
        if not rows:
            say(f"{title}: the same")
    for crossed, own, other in (
        (found.first_in_second, first, second),
        (found.second_in_first, second, first),
    ):
        if crossed is None:
            continue
        if crossed.in_sample is None:
            say(f"best set of {own} cannot be tried in {other}: {crossed.problem}", "yellow")
            continue
        where = "not tried there; simulated now with its costs and holdout"
        if crossed.found is not None:
            rank = "not feasible" if crossed.rank is None else f"rank {crossed.rank:,}"
            where = f"set {crossed.found} there, {rank}"
        out_of_sample = (crossed.out_of_sample or {}).get("sharpe")
        say(
            f"best set of {own}, {crossed.number}, in {other}: Sharpe ratio"
            f" {format_cell(crossed.in_sample['sharpe'])} / {format_cell(out_of_sample)} ({where})"
        )
