"""The command that times the kernels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from optimizer.cli.console import console, format_cell, new_table, say, say_error
from optimizer.text import counted

COLUMNS = (
    "element: what is counted; set: a parameter set; ns: the least time of one; a second: how many of"
    " them on one core",
    "GB/s: loaded and stored, in cache or memory; of the limit: the least time that the busiest unit or"
    " the memory allows, over ns",
    "lanes: elements side by side; registers: the widest vectors in the machine code",
)


def _pace(per_second: float) -> str:
    """Elements a second in three digits with the prefix of their unit."""
    for unit, name in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if per_second >= unit:
            return f"{per_second / unit:.3g}{name}"
    return f"{per_second:.3g}"


def bench(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
    compare: Annotated[
        Optional[Path],
        typer.Option(metavar="OLD.json", help="Earlier output of --json to compare with."),
    ] = None,
    turns: Annotated[
        int, typer.Option(min=1, help="Timings per kernel; the shortest counts.")
    ] = 30,
) -> None:
    """Time every kernel on this machine, next to the limits of the machine."""
    import json

    from optimizer.bench.record import NOISE, compare_times, load_times, same_machine
    from optimizer.bench.suite import run_bench

    old = load_times(compare) if compare is not None else None
    result = run_bench(turns)
    if old is not None and not same_machine(old[0], result.machine):
        say_error(
            f"warning: {compare}: measured on another machine ({old[0].processor},"
            f" {old[0].cores} cores); the ratios say little",
            "yellow",
        )
    changes = {c.kernel: c for c in compare_times(result, old[1])} if old is not None else {}
    if as_json:
        content = result.to_dict()
        if old is not None:
            content["compared"] = [
                {"kernel": c.kernel, "old_ns": c.old_ns, "ratio": c.ratio, "slower": c.slower}
                for c in changes.values()
            ]
        typer.echo(json.dumps(content, indent=1))
        return
    say(f"{result.machine.processor}, numba {result.machine.numba}, one core")
    limits = result.limits
    say(
        f"limits, ns for 8 doubles: divide {limits.divide_ns:.2f}, arithmetic"
        f" {limits.arithmetic_ns:.2f}, load {limits.load_ns:.2f}, store {limits.store_ns:.2f};"
        f" memory {limits.read_gb_s:.1f} GB/s"
    )
    table = new_table()
    for name in ("kernel", "element"):
        table.add_column(name)
    for name in ("ns", "a second", "GB/s", "of the limit", "lanes", "registers"):
        table.add_column(name, justify="right")
    if old is not None:
        table.add_column("new / old", justify="right")
    for row in result.rows:
        cells = [
            row.kernel,
            row.element,
            f"{row.ns:.3f}",
            _pace(row.per_second),
            format_cell(row.gb_s),
            "-" if row.share is None else f"{row.share:.0%}",
            str(row.lanes),
            row.instruction_set,
        ]
        change = changes.get(row.kernel)
        if change is not None:
            cells.append(f"{change.ratio:.2f}{' slower' if change.slower else ''}")
        table.add_row(*cells, style="red" if change is not None and change.slower else None)
    console.print(table)
    for line in COLUMNS:
        say(line, "dim")
    if old is not None:
        slower = sum(change.slower for change in changes.values())
        say(f"slower by more than {NOISE:.0%}: {slower} of {counted(len(changes), 'kernel')}")
