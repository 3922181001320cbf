"""Commands that turn a set into orders."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from optimizer.cli.console import console, format_cell, new_table, say, say_error
from optimizer.cli.interruption import command_state
from optimizer.cli.options import ChosenSet, ExportFile, Trust
from optimizer.errors import DataError
from optimizer.text import counted

if TYPE_CHECKING:
    from optimizer.trading.orders import NextOrders

NewestBars = Annotated[
    Optional[Path],
    typer.Option(
        "--data",
        help="Bars that go on where the study's ended: a file, or a folder of files"
        " [default: the file that the export names].",
    ),
]
AcceptRevisions = Annotated[
    bool,
    typer.Option("--accept-revisions", help="Go on where bars that the study had are others now."),
]


def orders(
    file: ExportFile,
    number: ChosenSet = None,
    data: NewestBars = None,
    positions: Annotated[
        Optional[Path],
        typer.Option(
            metavar="FILE", help="Your positions: a table of symbol, quantity and perhaps entry."
        ),
    ] = None,
    cash: Annotated[Optional[float], typer.Option(help="Your cash, with --positions.")] = None,
    state: Annotated[
        Optional[Path],
        typer.Option(metavar="FILE", help="A JSON file of both in place of the two."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    accept_revisions: AcceptRevisions = False,
    trust: Trust = False,
) -> None:
    """Show the orders of the next open, each with its reason, and why others are not placed."""
    from optimizer.trading.history import revisions_text
    from optimizer.trading.orders import next_orders

    if as_json and as_csv:
        raise DataError("orders: give one of --json and --csv")
    command_state.quiet = as_json or as_csv
    found = next_orders(
        file,
        number=number,
        data=data,
        positions=positions,
        cash=cash,
        state=state,
        accept_revisions=accept_revisions,
        trust=trust,
    )
    if found.history.revised:
        say_error(f"history was revised: {revisions_text(found.history)}", style="yellow")
    if as_json:
        print(json.dumps(found.to_dict(), indent=1, allow_nan=False))
    elif as_csv:
        found.table.assign(time=str(found.time)).to_csv(sys.stdout, index=False)
    else:
        _show(found)


def _show(found: NextOrders) -> None:
    from optimizer.bars.times import time_text

    new = f"{counted(found.history.n_new, 'bar')} after the study's"
    say(
        f"set {found.number} of {found.study}: decided at the close of {time_text(found.time)} ({new}),"
        f" for the next open; regime {found.regime}"
    )
    whose = "the backtest's account" if found.simulated else "your account"
    say(f"{whose}: equity {found.equity:,.2f}, cash {found.account.cash:,.2f}")
    table = new_table()
    for name in ("symbol", "held", "target", "order", "at", "close", "value"):
        table.add_column(name, justify="left" if name == "symbol" else "right")
    table.add_column("reason")
    for row in found.table.to_dict("records"):
        at = "" if not row["entry"] else row["entry"]
        if row["level"] == row["level"]:
            at = f"{at} {row['level']:.10g}"
        table.add_row(
            row["symbol"],
            f"{row['held']:,.10g}",
            f"{row['target']:,.10g}",
            f"{row['quantity']:+,.10g}" if row["quantity"] else "-",
            at or "-",
            format_cell(row["close"]),
            f"{row['value']:,.2f}" if row["quantity"] else "-",
            row["why"] if row["reason"] == "placed" else f"{row['reason']}: {row['why']}",
        )
    console.print(table)
