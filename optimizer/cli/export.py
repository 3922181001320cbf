"""Commands that export parameter sets and replay an export."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Optional

import typer

from optimizer.cli.console import positions_text, say, warn_close_fill
from optimizer.cli.options import ChosenSet, ExportFile, Folder, MovedBars, Trust
from optimizer.errors import ExportError
from optimizer.text import counted


def export(
    folder: Folder,
    top: Annotated[int, typer.Option(min=1, help="How many of the best sets.")] = 1,
    format: Annotated[
        Optional[str],
        typer.Option(help="json, toml, csv or parquet [default: that of --out, else json]."),
    ] = None,
    out: Annotated[
        Optional[Path], typer.Option(help="The file [default: DIR/best.<format>].")
    ] = None,
    sets: Annotated[
        Optional[list[int]],
        typer.Option("--set", min=0, help="Number of a set to write; may be repeated."),
    ] = None,
    bars: Annotated[
        bool,
        typer.Option("--bars", help="Keep the study's bars next to the file, to tell revisions."),
    ] = False,
    next: Annotated[
        bool, typer.Option("--next", help="The set that the walk-forward would trade next.")
    ] = False,
) -> None:
    """Write the best parameter sets to a file, without what is sealed of the holdout."""
    from optimizer.selection.next_set import export_next
    from optimizer.store.export import FORMATS, export_sets

    if (next, top != 1, bool(sets)).count(True) > 1:
        raise ExportError("export: give one of --top, --set and --next")

    if format is None:
        format = out.suffix.removeprefix(".").lower() if out is not None else "json"
        if format not in FORMATS:
            endings = ", ".join(f".{one}" for one in FORMATS)
            raise ExportError(
                f"{out}: an export is written to a file that ends in one of {endings}"
            )
    for known in FORMATS:
        if format == known:
            if next:
                path = export_next(folder, format=known, out=out)
            else:
                path = export_sets(folder, top=top, numbers=sets or (), format=known, out=out)
            say(f"exported: {path}")
            if bars:
                from optimizer.trading.plan import keep_bars

                say(f"bars: {keep_bars(folder, path)}")
            return
    raise ExportError(f"--format: got {format!r}; valid: {', '.join(FORMATS)}")


class Replayed(StrEnum):
    """How a set is replayed."""

    VECTORIZED = "vectorized"
    EVENTS = "events"


def replay(
    file: ExportFile,
    number: ChosenSet = None,
    data: MovedBars = None,
    flow: Annotated[
        Replayed, typer.Option(help="events: also replay the set one bar at a time.")
    ] = Replayed.VECTORIZED,
    returns: Annotated[
        Optional[Path],
        typer.Option(metavar="FILE", help="Write the daily returns to a .csv or .parquet file."),
    ] = None,
    positions: Annotated[
        Optional[Path],
        typer.Option(metavar="FILE", help="Write the value of each position, and the cash."),
    ] = None,
    weights: Annotated[
        Optional[Path],
        typer.Option(metavar="FILE", help="Write the share of each position in the equity."),
    ] = None,
    orders: Annotated[
        Optional[Path], typer.Option(metavar="FILE", help="Write what was bought and sold.")
    ] = None,
    trades: Annotated[
        Optional[Path], typer.Option(metavar="FILE", help="Write every trade from flat to flat.")
    ] = None,
    trust: Trust = False,
) -> None:
    """Simulate an exported set again and compare; exit with 1 if a metric differs."""
    from optimizer.review.replay import replay as replay_set

    if returns is not None:
        from optimizer.views.tearsheet import check_returns_file

        check_returns_file(returns)
    given = {"positions": positions, "weights": weights, "orders": orders, "trades": trades}
    files = {name: path for name, path in given.items() if path is not None}
    if files:
        from optimizer.views.outgoing import check_table_files

        check_table_files(files)
    events = flow is Replayed.EVENTS
    result = replay_set(file, number=number, data=data, events=events, trust=trust)
    if result.costs.get("fill") == "close":
        warn_close_fill()
    final = f"{result.result.equity.iloc[-1]:,.2f}"
    if (currency := result.again.study.account.currency) is not None:
        final += f" {currency}"
    what = result.name
    if (number := result.recorded.get("set")) is not None:
        what = f"set {number} of {result.study}"
    say(f"replayed {what}: {counted(len(result.result.fills), 'fill')}, final equity {final}")
    last = "the last bar in-sample" if result.sealed else "the last bar"
    say(f"open after {last}: {positions_text(result.result.open_positions)}")
    if result.sealed:
        say(
            "the holdout was sealed when the set was exported: everything here is in-sample",
            "yellow",
        )
    for one in result.differences:
        say(
            f"differs: {one.sample} {one.metric}: recorded {one.recorded}, replayed {one.replayed}",
            "red",
        )
    unlike = result.parity.differences if result.parity is not None else ()
    for line in unlike:
        say(f"differs: {line}", "red")
    if result.differences or unlike:
        raise typer.Exit(1)
    if result.verdict is not None:
        say(f"verdict: {result.verdict.headline}")
    if returns is not None:
        from optimizer.views.tearsheet import write_returns

        say(f"returns: {write_returns(result, returns)}")
    if files:
        from optimizer.views.outgoing import write_tables

        write_tables(result, files)
        for name, path in files.items():
            say(f"{name}: {path}")
    if result.parity is not None:
        say(
            f"event flow: equity of {counted(result.parity.n_bars, 'bar')} and"
            f" {counted(result.parity.n_fills, 'fill')} agree bit for bit with the vectorized result"
        )
    say("identical: every recorded metric is reproduced bit for bit", "green")
