"""The command that makes one book of several sets."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Optional

import typer

from optimizer.cli.console import console, format_cell, new_table, say
from optimizer.cli.options import Trust


class Methods(StrEnum):
    """How the capital is shared."""

    EQUAL = "equal"
    INVERSE_VOLATILITY = "inverse_volatility"
    HRP = "hrp"
    MIN_VARIANCE = "min_variance"


class Schedules(StrEnum):
    """When the accounts are brought back to their shares."""

    NEVER = "never"
    MONTH = "month"
    QUARTER = "quarter"
    YEAR = "year"


def combine(
    folders: Annotated[
        list[Path], typer.Argument(metavar="DIR...", help="Folders of complete studies.")
    ],
    top: Annotated[
        int, typer.Option(min=1, help="How many of the best sets of each study are candidates.")
    ] = 10,
    method: Annotated[Methods, typer.Option(help="How the capital is shared.")] = Methods.EQUAL,
    max_correlation: Annotated[
        float,
        typer.Option(min=-1.0, max=1.0, help="Of the block returns of any two sets, at most."),
    ] = 0.7,
    rebalance: Annotated[
        Schedules, typer.Option(help="When the accounts are brought back to their shares.")
    ] = Schedules.NEVER,
    out: Annotated[
        Optional[Path], typer.Option(help="The file [default: combination.json in the first DIR].")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what the file holds.")
    ] = False,
    trust: Trust = False,
) -> None:
    """Make one book of the best sets of studies that are unlike, and judge it."""
    from optimizer.cli.results import show_verdict
    from optimizer.search.combine import combine as combine_sets

    found = combine_sets(
        folders,
        top=top,
        method=method.value,
        max_correlation=max_correlation,
        rebalance=rebalance.value,
        out=out,
        overwrite=overwrite,
        trust=trust,
    )
    say(
        f"{len(found.members)} of {found.n_candidates} candidates, shares by {method.value}, rebalance"
        f" {rebalance.value}"
    )
    table = new_table()
    for name in ("member", "study", "set", "strategy", "share", "cash", "correlation"):
        table.add_column(name, justify="left" if name in ("study", "strategy") else "right")
    for place, row in enumerate(found.members.to_dict("records"), 1):
        table.add_row(
            str(place), row["study"], str(row["set"]), row["strategy"], f"{row['share']:.2%}",
            f"{row['cash']:,.2f}", format_cell(row["correlation"]),
        )  # fmt: skip
    console.print(table)
    outside = found.result.out_of_sample or {}
    for name in ("sharpe", "total_return", "max_drawdown", "costs_paid"):
        inside = format_cell(found.result.in_sample[name])
        say(f"{name}: {inside} in-sample, {format_cell(outside.get(name))} out-of-sample")
    show_verdict(found.verdict, "verdict")
    say(f"combination: {found.path}")
