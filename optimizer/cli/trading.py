"""Commands that turn a set into orders."""

from __future__ import annotations

import json
import sys
from collections.abc import Hashable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from optimizer.cli.console import console, format_cell, new_table, say, say_error
from optimizer.cli.interruption import command_state, resumable
from optimizer.cli.options import ChosenSet, ExportFile, Trust
from optimizer.errors import DataError
from optimizer.text import counted

if TYPE_CHECKING:
    import pandas as pd

    from optimizer.trading.book_orders import BookOrders
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
    from optimizer.review.exported import whole_book
    from optimizer.trading.book_orders import BookOrders, book_orders
    from optimizer.trading.history import revisions_text
    from optimizer.trading.orders import next_orders

    if as_json and as_csv:
        raise DataError("orders: give one of --json and --csv")
    command_state.quiet = as_json or as_csv
    found: NextOrders | BookOrders
    if whole_book(file, number) is not None:
        if positions is not None or cash is not None:
            raise DataError(
                f"{file}: --positions and --cash are of one account, and each member has its own: give"
                " those of all members with --state FILE, or name a member with --set"
            )
        found = book_orders(
            file, data=data, state=state, accept_revisions=accept_revisions, trust=trust
        )
    else:
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
        table = found.whole_table if isinstance(found, BookOrders) else found.table
        table.assign(time=str(found.time)).to_csv(sys.stdout, index=False)
    elif isinstance(found, BookOrders):
        _show_book(found)
    else:
        _show(found)


def _decided(found: NextOrders | BookOrders) -> str:
    from optimizer.bars.times import time_text

    new = f"{counted(found.history.n_new, 'bar')} after the study's"
    return f"decided at the close of {time_text(found.time)} ({new}), for the next open"


def _show(found: NextOrders) -> None:
    say(f"set {found.number} of {found.study}: {_decided(found)}; regime {found.regime}")
    whose = "the backtest's account" if found.simulated else "your account"
    say(f"{whose}: equity {found.equity:,.2f}, cash {found.account.cash:,.2f}")
    _show_orders(found.table)


def _show_book(found: BookOrders) -> None:
    say(f"{found.name}, {len(found.members)} members: {_decided(found)}")
    whose = "the backtest's accounts" if found.simulated else "your accounts"
    say(f"{whose}: equity {found.equity:,.2f}, cash {found.cash:,.2f}")
    _show_orders(found.table)
    moved = [f"member {k} {money:+,.2f}" for k, money in enumerate(found.moved, 1) if money]
    if moved:
        say(f"money that moves at this close: {', '.join(moved)}")
    say("all members together:")
    _show_orders(found.net)


def _show_orders(rows: pd.DataFrame) -> None:
    """Orders as a table, with the columns that they have."""
    names = [
        ("member", "member"), ("symbol", "symbol"), ("held", "held"), ("target", "target"),
        ("quantity", "order"), ("entry", "at"), ("close", "close"), ("value", "value"),
        ("why", "reason"),
    ]  # fmt: skip
    shown = [(name, title) for name, title in names if name in rows]
    table = new_table()
    for name, title in shown:
        table.add_column(title, justify="left" if name in ("symbol", "why") else "right")
    for row in rows.to_dict("records"):
        table.add_row(*(_order_cell(name, row) for name, _ in shown))
    console.print(table)


def _order_cell(name: str, row: Mapping[Hashable, Any]) -> str:
    value = row[name]
    if name in ("held", "target"):
        return f"{value:,.10g}"
    if name == "quantity":
        return f"{value:+,.10g}" if value else "-"
    if name == "value":
        return f"{value:,.2f}" if row["quantity"] else "-"
    if name == "entry":
        return (f"{value} {row['level']:.10g}" if row["level"] == row["level"] else value) or "-"
    if name == "close":
        return format_cell(value)
    if name == "why" and row["reason"] != "placed":
        return f"{row['reason']}: {value}"
    return str(value)


class Brokers(StrEnum):
    """Where a session trades."""

    PAPER = "paper"
    ALPACA = "alpaca"
    CCXT = "ccxt"


class Feeds(StrEnum):
    """Where new bars come from."""

    FILE = "file"
    CCXT = "ccxt"
    ALPACA = "alpaca"


def trade(
    file: ExportFile,
    broker: Annotated[Brokers, typer.Option(help="Where to trade.")],
    feed: Annotated[
        Feeds, typer.Option(help="Where new bars come from; file is that of --data.")
    ] = Feeds.FILE,
    number: ChosenSet = None,
    data: NewestBars = None,
    out: Annotated[
        Optional[Path],
        typer.Option(help="Folder of the session [default: out/<study name>-trade, or ...-dry]."),
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", help="Send orders; without it nothing is sent (a dry run).")
    ] = False,
    replay: Annotated[
        bool, typer.Option("--replay", help="Take the bars that are there as if they came now.")
    ] = False,
    start: Annotated[
        Optional[str],
        typer.Option(
            "--from", help="With --replay: the first bar [default: the first after the study's]."
        ),
    ] = None,
    speed: Annotated[
        float, typer.Option(min=0.0, help="With --replay: times as fast; 0 is as fast as can be.")
    ] = 0.0,
    n_bars: Annotated[
        Optional[int], typer.Option("--bars", min=1, help="End after so many bars.")
    ] = None,
    cash: Annotated[
        Optional[float],
        typer.Option(min=0.0, help="Money of a new paper account [default: the study's]."),
    ] = None,
    max_loss: Annotated[
        Optional[float],
        typer.Option(
            min=0.0, max=1.0, help="Stop below this loss, a fraction of the first equity."
        ),
    ] = None,
    max_orders: Annotated[
        Optional[int],
        typer.Option("--max-orders-a-day", min=0, help="Stop before more orders on one day."),
    ] = None,
    max_stale: Annotated[
        Optional[float],
        typer.Option(min=0.0, help="Stop after so many seconds without a new bar."),
    ] = None,
    poll: Annotated[
        Optional[float],
        typer.Option(
            min=0.01, help="Seconds between two looks at the bars [default: 1; 10 with --feed]."
        ),
    ] = None,
    closed: Annotated[
        bool, typer.Option("--closed", help="All bars in the file are closed, the last one too.")
    ] = False,
    timeout: Annotated[
        float, typer.Option(min=0.01, help="Seconds that the broker may take to answer.")
    ] = 10.0,
    outage: Annotated[
        float, typer.Option(min=0.0, help="Seconds to wait for a broker that is out, then stop.")
    ] = 300.0,
    database: Annotated[
        Optional[str],
        typer.Option(metavar="URL", help="Of the analytics database [default: a file in --out]."),
    ] = None,
    accept_revisions: AcceptRevisions = False,
    trust: Trust = False,
) -> None:
    """Trade a set: decide at each closed bar, send the orders, go on after any stop.

    Without --live nothing is sent.
    """
    import asyncio

    from optimizer.trading.feeds import StaleFeedError
    from optimizer.trading.limits import LimitError, Limits
    from optimizer.trading.run import Settings, session_of

    if not replay and (start is not None or speed):
        raise DataError("trade: --from and --speed are for --replay")
    settings = Settings(
        broker=broker.value,
        feed=feed.value,
        live=live,
        replay=replay,
        start=start,
        speed=speed,
        cash=cash,
        max_stale=max_stale,
        poll=poll,
        closed=closed,
        database=database,
        limits=Limits(
            max_loss=max_loss, max_orders_a_day=max_orders, timeout=timeout, outage=outage
        ),
    )
    with (
        session_of(
            file,
            settings,
            number=number,
            data=data,
            out=out,
            accept_revisions=accept_revisions,
            trust=trust,
            say=say,
        ) as (session, folder),
        resumable(folder),
    ):
        if not live:
            say("dry run: nothing is sent; --live sends orders", "yellow")
        try:
            asyncio.run(session.run(n_bars))
        except (LimitError, StaleFeedError) as error:
            say_error(str(error))
            raise typer.Exit(1) from None
        what = "goes on" if live else "begins anew"
        say(
            f"{counted(session.n_bars, 'bar')}, {counted(session.n_sent, 'order')}; the session is in"
            f" {folder}: the same command {what}"
        )
