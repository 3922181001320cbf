"""Commands for the analytics database that flows write to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from optimizer.cli.console import confirmed, say
from optimizer.text import counted

analytics = typer.Typer(
    help="Maintain the analytics database that flows write to.", no_args_is_help=True
)


@analytics.command("import")
def import_(
    spill: Annotated[Path, typer.Argument(metavar="SPILL", help="Spill file of a flow.")],
    database: Annotated[
        Optional[str], typer.Option(help="URL [default: the database that failed].")
    ] = None,
) -> None:
    """Load the rows that a flow could not write to its database."""
    from optimizer.analytics.spill import import_spill

    say(f"imported {counted(import_spill(spill, database, confirmed), 'row')}")
