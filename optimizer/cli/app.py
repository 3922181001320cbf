"""The command line's application, and what its commands share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from optimizer.text import counted

app = typer.Typer(
    help="Sweep trading-strategy parameters over real bars and export the best sets.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
console = Console()
if not console.is_terminal:
    console.width = 120  # a pipe has no width of its own
errors = Console(stderr=True)


def say(text: str, style: str | None = None) -> None:
    """Print one line as it is; a terminal wraps it, a pipe gets it whole."""
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


StudyFile = Annotated[Path, typer.Argument(metavar="STUDY", help="Study file (TOML).")]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder that `barsweep run` wrote.")]


Quiet = Annotated[
    bool, typer.Option("--quiet", help="Print nothing but what `barsweep show` prints at the end.")
]
JsonLines = Annotated[
    bool, typer.Option("--json-lines", help="Print a line of JSON a batch and nothing else.")
]


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        say(f"barsweep {version('barsweep')}")
        raise typer.Exit


@app.callback()
def _common(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


def warn_close_fill() -> None:
    """Say that fills at the deciding bar's close are optimistic."""
    say('fill = "close": orders fill at the close that decides them, which is optimistic', "yellow")


def positions_text(found: Mapping[str, float]) -> str:
    """Positions as text; what is open is no trade yet."""
    if not found:
        return "no position"
    held = ", ".join(f"{symbol} {units:,.12g}" for symbol, units in found.items())
    return (
        f"{counted(len(found), 'position')} ({held}), marked at the last close; n_trades, win_rate"
        " and profit_factor count closed trades alone"
    )


def new_table() -> Table:
    """An empty table in the command line's style."""
    return Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))


def format_cell(value: Any) -> str:
    """A value as tables show it."""
    from optimizer.store.query import cell

    return cell(value)
