"""The command that compares what was traded with what was to be expected."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Optional

import typer

from optimizer.cli.console import console, new_table, say
from optimizer.cli.options import ChosenSet, ExportFile, Trust, folder_of


def drift(
    trades: Annotated[
        Path,
        typer.Argument(
            metavar="TRADES", help="Folder of `barsweep trade`, or a table of fills (CSV, Parquet)."
        ),
    ],
    file: ExportFile,
    number: ChosenSet = None,
    data: Annotated[
        Optional[Path],
        typer.Option(
            "--data",
            help="Bars as they are now: a file, or a folder of files [default: the file that the export"
            " names].",
        ),
    ] = None,
    cash: Annotated[
        Optional[float], typer.Option(help="With a table: money before its first fill.")
    ] = None,
    positions: Annotated[
        Optional[Path],
        typer.Option(metavar="FILE", help="With a table: a table of the positions then."),
    ] = None,
    start: Annotated[
        Optional[str],
        typer.Option(
            "--from",
            help="With a table: the bar whose close decided first [default: that before the first fill].",
        ),
    ] = None,
    stop: Annotated[
        Optional[str], typer.Option("--to", help="With a table: the last bar [default: the last].")
    ] = None,
    expect: Annotated[
        Optional[float],
        typer.Option(help="Sharpe ratio a year to expect [default: that of the study next to it]."),
    ] = None,
    alarm: Annotated[float, typer.Option(help="False-alarm rate of the test.")] = 0.05,
    json_file: Annotated[
        Optional[Path],
        typer.Option("--json", metavar="FILE", help="Write all of it as JSON too."),
    ] = None,
    out: Annotated[
        Optional[Path], typer.Option(help="HTML file [default: drift.html next to BEST.json].")
    ] = None,
    trust: Trust = False,
) -> None:
    """Split live less expected into its causes; test whether live returns still fit; write a page.

    The exit code is 1 if they no longer do.
    """
    from optimizer.store.guards import HTML, check_output, write_output
    from optimizer.store.names import DRIFT_PAGE
    from optimizer.trading.drift import drift as compare
    from optimizer.views.drift import (
        facts_text,
        fit_text,
        outcomes_text,
        parts_rows,
        write_drift_page,
    )

    page = folder_of(file) / DRIFT_PAGE if out is None else out
    check_output(page, HTML, "the page of a drift")
    if json_file is not None:
        check_output(json_file, (".json",), "the figures of a drift")
    found = compare(
        trades,
        file,
        number=number,
        data=data,
        cash=cash,
        positions=positions,
        start=start,
        stop=stop,
        expect=expect,
        rate=alarm,
        trust=trust,
    )
    say(facts_text(found))
    for note in found.notes:
        say(f"note: {note}", "yellow")
    live, expected = (float(found.equity[name].iloc[-1]) for name in ("live", "expected"))
    say(f"live {live:,.2f}, expected {expected:,.2f}")
    table = new_table()
    table.add_column("part")
    table.add_column("money", justify="right", no_wrap=True)
    table.add_column("of the first equity", justify="right", no_wrap=True)
    table.add_column("what it is", overflow="fold")
    for row in parts_rows(found):
        table.add_row(row["name"], row["money"], row["share"], row["text"])
    console.print(table)
    say(outcomes_text(found))
    alarmed = found.test is not None and found.test.alarm is not None
    say(fit_text(found), "red" if alarmed else None)
    if json_file is not None:
        write_output(json_file, json.dumps(found.to_dict(), indent=1, allow_nan=False) + "\n")
        say(f"figures: {json_file}")
    say(f"page: {write_drift_page(found, page)}")
    if alarmed:
        raise typer.Exit(1)
