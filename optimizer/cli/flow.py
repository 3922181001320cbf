"""Commands that run the event flow and trace its fills."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from rich.text import Text

from optimizer.cli.console import confirmed, console, format_cell, new_table, say, warn_close_fill
from optimizer.cli.interruption import resumable
from optimizer.cli.options import StudyFile
from optimizer.errors import StudyError
from optimizer.text import counted

if TYPE_CHECKING:
    from optimizer.flow.prepared import PreparedFlow


class Risks(StrEnum):
    """Which risk configurations a flow runs."""

    FIRST = "first"
    ALL = "all"


STEPS_PER_SECOND, TRACED_PER_SECOND = 25_000, 15_000
"""Steps (bar x symbol x portfolio) per second of a flow without and with a trace, for the estimate."""


def flow(
    study: StudyFile,
    out: Annotated[
        Optional[Path], typer.Option(help="Folder [default: out/<study name>-flow].")
    ] = None,
    risk: Annotated[
        Risks, typer.Option(help="Take the first swept value of each risk parameter, or all.")
    ] = Risks.FIRST,
    overwrite: Annotated[bool, typer.Option(help="Replace the flow in --out.")] = False,
    no_trace: Annotated[bool, typer.Option("--no-trace", help="Do not write a database.")] = False,
    unseal: Annotated[
        bool,
        typer.Option("--unseal", help="Run on through the holdout; the ledger notes the look."),
    ] = False,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes, 0 for one per core; the rows are the same.")
    ] = 1,
    max_seconds: Annotated[
        float, typer.Option(min=0, help="Refuse a flow whose estimate is longer than this.")
    ] = 120.0,
) -> None:
    """Run every combination of a study's grid one bar at a time and trace it to a database.

    It ends where the holdout begins, which is sealed.
    """
    import math
    import time

    from optimizer.analytics.address import PASSWORD_HINT, parse_url
    from optimizer.engine.flow_workers import run_on_workers
    from optimizer.flow.folder import FlowFolder
    from optimizer.flow.prepared import prepare_flow
    from optimizer.study_file.bars import load_study_bars
    from optimizer.study_file.load import load_study

    loaded = load_study(study)
    bars = load_study_bars(loaded)
    prepared = prepare_flow(loaded, bars, risk=risk.value)
    if not unseal:
        prepared = prepared.before_holdout()
    estimated = _seconds(prepared, traced=not no_trace)
    if estimated > max_seconds:
        raise StudyError(
            f"{study}: {counted(len(prepared.specs), 'portfolio')} one bar at a time take about"
            f" {estimated:,.0f} s, more than --max-seconds {max_seconds:g}; list fewer values in the"
            f" study, or allow it with --max-seconds {math.ceil(estimated)}"
        )
    url = loaded.analytics.url
    has_password = not no_trace and url is not None and bool(parse_url(url).secrets)
    folder = out if out is not None else Path("out") / f"{loaded.name}-flow"
    say(
        f"{counted(len(prepared.specs), 'portfolio')} x"
        f" {counted(prepared.stop - prepared.first, 'bar')} (after {prepared.first} for warm-up) x"
        f" {counted(bars.n_symbols, 'symbol')}: {counted(prepared.n_steps, 'step')}, about"
        f" {estimated:,.0f} s"
    )
    if prepared.stop < bars.n_bars:
        first = str(bars.timestamps[prepared.stop])[:10]
        say(f"the holdout, from {first} on, is sealed; --unseal opens it")
    start = time.perf_counter()
    if no_trace:
        _note_look(prepared)
        result = run_on_workers(prepared, None, workers)
    else:
        with (
            resumable(folder),
            FlowFolder(folder).tracing(prepared, url, overwrite=overwrite) as trace,
        ):
            _note_look(prepared)
            result = run_on_workers(prepared, trace, workers)
    seconds = time.perf_counter() - start
    table = new_table()
    currency = loaded.account.currency
    equity = "final equity" if currency is None else f"final equity, {currency}"
    for name in ("portfolio", "strategy", "classifier", "sharpe in / out", "fills", equity):
        table.add_column(name, justify="left" if name in ("portfolio", "strategy") else "right")
    for number, (spec, view) in enumerate(zip(result.specs, result.views, strict=True)):
        out_of_sample = result.out_of_sample[number]["sharpe"] if result.out_of_sample else None
        features = " ".join(spec.strategy.features)
        lookback = dict(spec.regime[2]).get("lookback", "")
        table.add_row(
            spec.id,
            f"{spec.strategy_name} {features}",
            f"{spec.classifier_name} {lookback}",
            f"{format_cell(result.in_sample[number]['sharpe'])} / {format_cell(out_of_sample)}",
            str(len(view.transactions)),
            f"{view.equity:,.2f}",
        )
    console.print(table)
    rejects = sorted(result.rejects.items(), key=lambda item: -item[1])
    say(f"no order: {', '.join(f'{name} {count:,}' for name, count in rejects)}")
    say(
        f"{counted(len(result.specs), 'portfolio')}, {counted(result.n_steps, 'step')} of bar x"
        f" symbol x portfolio in {seconds:.1f} s, {result.n_steps / seconds:,.0f} a second"
    )
    if loaded.costs.fill == "close":
        warn_close_fill()
    if not no_trace:
        fills = [fill for view in result.views for fill in view.transactions]
        say(f"trace: {folder}")
        if has_password:
            say(f"to read it, start barsweep {PASSWORD_HINT}", "yellow")
        if fills:
            say(f"next:  barsweep trace {shlex.join([str(folder), fills[-1].id])}")


def _seconds(prepared: PreparedFlow, *, traced: bool) -> float:
    """About how long a flow takes on one core: its steps, and the fits of its regime models."""
    from optimizer.search.preflight import SECONDS_PER_FIT, SECONDS_PER_OWN_FIT

    fits = 0.0
    for name, _, parameters in {spec.regime for spec in prepared.specs}:
        if name != "none":
            refits = prepared.stop / dict(parameters)["refit_bars"]
            fits += (1.0 + refits) * SECONDS_PER_FIT.get(str(name), SECONDS_PER_OWN_FIT)
    return prepared.n_steps / (TRACED_PER_SECOND if traced else STEPS_PER_SECOND) + fits


def _note_look(prepared: PreparedFlow) -> None:
    """Note in the ledger that a flow runs on through the holdout."""
    from optimizer.files import ledger_path
    from optimizer.selection.looks import look_over
    from optimizer.store.ledger import note_look

    if prepared.split is not None and prepared.stop > prepared.split:
        entry = note_look(look_over(prepared.study, prepared.bars, prepared.split))
        say(f"a look at the holdout is noted: {ledger_path()}, entry {entry.number}")


def trace(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder that `barsweep flow` wrote.")
    ],
    fill: Annotated[Optional[str], typer.Argument(metavar="[FILL_ID]", help="A fill.")] = None,
    rejects: Annotated[
        bool,
        typer.Option("--rejects", help="Count why signals led to no order, and orders to no fill."),
    ] = False,
    fills: Annotated[bool, typer.Option("--fills", help="List the last fills.")] = False,
    top: Annotated[int, typer.Option(min=1, help="How many of the fills.")] = 20,
    database: Annotated[
        Optional[str],
        typer.Option(help="URL, if that of the flow needs a password and PGPASSWORD is not set."),
    ] = None,
) -> None:
    """Show how a fill came about: bar, features, signal, regime, sizes, order, fill, portfolio."""
    from optimizer.analytics.reader import open_reader
    from optimizer.flow.folder import FlowFolder

    if (fill is not None, rejects, fills).count(True) != 1:
        raise StudyError("trace: give a FILL_ID, --fills, which lists them, or --rejects")
    flow_folder = FlowFolder(folder)
    record = flow_folder.record()
    if record.caveat is not None:
        say(record.caveat, "yellow")
    with open_reader(database or flow_folder.database(confirmed)) as reader:
        if fills:
            _print_fills(reader.last_fills(top, record.portfolios))
            return
        if fill is None:
            for reason, count in reader.reject_counts(record.portfolios):
                say(f"{count:>12,}  {reason}")
            return
        chain = reader.chain(fill)
    for part, title in CHAIN.items():
        if chain.get(part):
            say(title, "bold")
            for name, value in chain[part].items():
                if value is not None:
                    say(f"  {name.replace('_', ' '):<18} {value}")


def _print_fills(rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows:
        say("no fills")
        return
    table = new_table()
    numbers = ("quantity", "price", "cost")
    for name in ("FILL_ID", "time, UTC", "symbol", "kind", *numbers):
        table.add_column(
            name, justify="right" if name in numbers else "left", no_wrap=name == "FILL_ID"
        )
    for row in rows:
        time = str(row["time"] or f"bar {row['bar']}")[:16]
        cells = (format_cell(row[name]) for name in numbers)
        table.add_row(Text(row["fill_id"]), time, Text(row["symbol"]), row["kind"], *cells)
    console.print(table)


CHAIN = {
    "portfolio": "portfolio",
    "decision_bar": "bar of the decision",
    "signal": "signal",
    "regime": "regime (-1 bear, 0 neutral, 1 bull)",
    "order": "order: equity x size x factors was wanted; the target is what the budget left of it",
    "opening_order": "order that opened the position which this fill closed",
    "bar": "bar of the fill",
    "fill": "fill",
    "equity": "portfolio at the close of that bar",
}
"""Parts of the chain behind a fill and their titles, in order of time."""
