"""The command that replays an exported set."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Optional

import typer

from optimizer.cli.app import app, positions_text, say, warn_close_fill
from optimizer.text import counted


class Replayed(StrEnum):
    """How a set is replayed."""

    VECTORIZED = "vectorized"
    EVENTS = "events"


@app.command()
def replay(
    file: Annotated[Path, typer.Argument(metavar="BEST.json", help="Export, JSON or TOML.")],
    number: Annotated[int, typer.Option("--set", min=1, help="Its place in the file, from 1.")] = 1,
    data: Annotated[Optional[Path], typer.Option(help="The bars, if they have moved.")] = None,
    flow: Annotated[
        Replayed, typer.Option(help="Also one bar at a time through the containers: events.")
    ] = Replayed.VECTORIZED,
    returns: Annotated[
        Optional[Path],
        typer.Option(metavar="FILE", help="Write its daily returns, .csv or .parquet."),
    ] = None,
) -> None:
    """Run an exported set again from its file and compare; exit 1 where a metric differs."""
    from optimizer.review.replay import replay as replay_set

    if returns is not None:
        from optimizer.views.tearsheet import check_returns_file

        check_returns_file(returns)
    result = replay_set(file, number=number, data=data, events=flow is Replayed.EVENTS)
    if result.costs.get("fill") == "close":
        warn_close_fill()
    final = float(result.result.equity.iloc[-1])
    say(
        f"replayed set {result.recorded['set']} of {result.study}:"
        f" {counted(len(result.result.fills), 'fill')}, final equity {final:,.2f}"
    )
    say(f"open after the last bar: {positions_text(result.result.open_positions)}")
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
    if returns is not None:
        from optimizer.views.tearsheet import write_returns

        say(f"returns: {write_returns(result, returns)}")
    if result.parity is not None:
        say(
            f"event flow: equity of {counted(result.parity.n_bars, 'bar')} and"
            f" {counted(result.parity.n_fills, 'fill')} agree bit for bit with the vectorized result"
        )
    say("identical: every recorded metric is reproduced bit for bit", "green")
