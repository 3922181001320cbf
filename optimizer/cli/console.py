"""What commands print with: the two consoles, lines, and tables."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from optimizer.errors import escaped
from optimizer.text import counted

console = Console()
if not console.is_terminal:
    console.width = 120  # a pipe has no width of its own
errors = Console(stderr=True)


def say(text: str, style: str | None = None) -> None:
    """Print one line to standard output; a terminal wraps it, a pipe gets it whole.

    Args:
        text: the line, which is ``escaped``; neither markup nor numbers in it are styled.
        style: a rich style for the whole line.
    """
    console.print(escaped(text), style=style, markup=False, highlight=False, soft_wrap=True)


def say_error(text: str, style: str | None = "red") -> None:
    """Print one line to standard error.

    Args:
        text: the line, which is ``escaped``; neither markup nor numbers in it are styled.
        style: a rich style for the whole line.
    """
    errors.print(escaped(text), style=style, markup=False, highlight=False, soft_wrap=True)


def warn_close_fill() -> None:
    """Warn that fills at the close of the deciding bar are optimistic."""
    say('fill = "close": orders fill at the close that decides them, which is optimistic', "yellow")


def positions_text(found: Mapping[str, float]) -> str:
    """Open positions in words.

    Args:
        found: signed units by symbol; without the symbols that are flat.

    Returns:
        One line, which says that open positions do not count as trades.
    """
    if not found:
        return "no position"
    held = ", ".join(f"{symbol} {units:,.12g}" for symbol, units in found.items())
    return (
        f"{counted(len(found), 'position')} ({held}), marked at the last close; n_trades, win_rate"
        " and profit_factor count closed trades only"
    )


def confirmed(question: str) -> bool:
    """Ask for confirmation on a terminal; without one the answer is no.

    Args:
        question: one line, which is ``escaped``.

    Returns:
        True if the answer is yes.
    """
    if not (sys.stdin.isatty() and errors.is_terminal):
        return False
    say_error(f"{question} [y/N]", style=None)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


class PlainTable(Table):
    """A table whose titles and cells are texts, never markup, and are ``escaped``."""

    def add_column(self, header: Any = "", *arguments: Any, **options: Any) -> None:
        """Add a column, as rich's table does.

        Args:
            header: a text, never markup.
            *arguments, **options: arguments of ``rich.table.Table.add_column``.
        """
        super().add_column(_plain(header, escape_lines=False), *arguments, **options)

    def add_row(self, *cells: Any, **options: Any) -> None:
        """Add a row, as rich's table does.

        Args:
            *cells: texts, never markup, or other renderables.
            **options: options of ``rich.table.Table.add_row``.
        """
        super().add_row(*map(_plain, cells), **options)


def _plain(cell: Any, *, escape_lines: bool = True) -> Any:
    """A cell's text, escaped; a title may have two lines."""
    if isinstance(cell, Text):
        return Text(escaped(cell.plain), style=cell.style)
    if not isinstance(cell, str):
        return cell
    lines = [cell] if escape_lines else cell.split("\n")
    return Text("\n".join(map(escaped, lines)))


def new_table() -> PlainTable:
    """An empty table in the style of the command line.

    Returns:
        A table without columns.
    """
    return PlainTable(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))


def format_cell(value: Any) -> str:
    """A value as tables show it.

    Args:
        value: a number, a text, or None.

    Returns:
        At most a few significant digits; ``-`` for what is undefined.
    """
    from optimizer.store.query import cell

    return cell(value)
