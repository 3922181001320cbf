"""Commands that show the ledger of everything tried, and open a holdout, which it notes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Optional

import numpy as np
import typer

from optimizer.cli.console import console, new_table, say
from optimizer.cli.options import Folder
from optimizer.errors import StudyError
from optimizer.text import counted, list_text, probability

if TYPE_CHECKING:
    from optimizer.store.ledger_entries import Ledger, Look, OnBars


def ledger(
    number: Annotated[
        Optional[int], typer.Argument(metavar="[ENTRY]", help="Number of one entry, to explain.")
    ] = None,
    set_aside: Annotated[
        Optional[str],
        typer.Option(
            metavar="REASON", help="No longer correct for ENTRY; the reason is kept with it."
        ),
    ] = None,
) -> None:
    """Show what you have tried on which bars: every p-value is corrected for all of it."""
    from optimizer.files import ledger_path
    from optimizer.store import ledger as store

    if set_aside is not None:
        if number is None:
            raise StudyError("ledger: --set-aside needs the number of an ENTRY")
        store.set_aside(number, set_aside)
    found = store.read_ledger()
    if number is not None:
        _explain(found, number)
    elif not found.entries:
        say("nothing tried yet")
    else:
        _list(found)
    if found.broken is not None:
        say(
            f"entry {found.broken} is not as it was written, or the one before it was removed: the"
            " ledger has been changed by hand",
            "yellow",
        )
    say(f"ledger: {ledger_path()}")


def unseal(folder: Folder) -> None:
    """Open the holdout of a study for all of its sets: a look, which the ledger notes."""
    from optimizer.files import ledger_path
    from optimizer.review.unseal import unseal_study

    found = unseal_study(folder)
    when = found.time[:16].replace("T", " ")
    if found.already:
        say(f"{folder}: unsealed already, {when} UTC; nothing is noted")
        return
    say(f"{folder}: unsealed; tables, sorts, plots and exports show out-of-sample figures", "green")
    if found.n_looks is None:
        say("the ledger notes the look: the p out-of-sample of the winner will be corrected for it")
    else:
        say(f"this is look {found.n_looks} at these bars, that of the verdict included")
    if found.p is not None and found.p_before is not None:
        say(
            f"p out-of-sample of the winner: {probability(found.p)}, it was"
            f" {probability(found.p_before)}"
        )
    say(f"ledger: {ledger_path()}, entry {found.entry}")


def _list(found: Ledger) -> None:
    table = new_table()
    for name in ("entry", "study", "sets", "symbols", "bars", "in-sample", "last tried, UTC"):
        table.add_column(
            name, justify="right" if name in ("entry", "sets") else "left", overflow="fold"
        )
    for entry, search in found.searches():
        table.add_row(
            str(entry.number), search.study, f"{search.n_sets:,}", _symbols(search),
            _bar_text(search.bar_ns), _span(search), entry.time[:16].replace("T", " "),
        )  # fmt: skip
    console.print(table)
    looks = new_table()
    for name in ("entry", "study", "look", "symbols", "bars", "holdout", "looked at, UTC"):
        looks.add_column(name, justify="right" if name == "entry" else "left", overflow="fold")
    for entry, look in found.looks():
        looks.add_row(
            str(entry.number), look.study, look.why, _symbols(look), _bar_text(look.bar_ns),
            _span(look), entry.time[:16].replace("T", " "),
        )  # fmt: skip
    if looks.rows:
        console.print(looks)
    for entry_number, aside in found.set_aside().items():
        say(f"entry {entry_number} is set aside: {aside.reason}")


def _explain(found: Ledger, number: int) -> None:
    from optimizer.store.ledger_entries import Look, Search

    entry = next((one for one in found.entries if one.number == number), None)
    if entry is None:
        raise StudyError(
            f"ledger: no entry {number}; it has {counted(len(found.entries), 'entry')}"
            if not found.entries
            else f"ledger: no entry {number}; it has 1 to {found.entries[-1].number}"
        )
    if isinstance(entry.what, Look):
        _explain_look(found, number, entry.time, entry.what)
        return
    if not isinstance(entry.what, Search):
        say(
            f"entry {number}, {entry.time}: sets entry {entry.what.entry} aside: {entry.what.reason}"
        )
        return
    search = entry.what
    say(
        f"entry {number}, {entry.time}: study {search.study} {search.study_hash[:8]} tried"
        f" {counted(search.n_sets, 'set')}"
    )
    say(
        f"  on {list_text(search.symbols)}: {_bar_text(search.bar_ns)} of {search.data}, {_span(search)}"
    )
    if len(entry.maxima) and np.isfinite(entry.maxima).all():
        say(
            "  of these sets, the luckiest without alpha reaches a statistic of"
            f" {float(np.quantile(entry.maxima, 0.95)):.2f} in 1 of 20 cases"
        )
    standing = {one.number for one, _ in found.searches()}
    aside = found.set_aside().get(number)
    if aside is not None:
        say(f"  set aside, so no p-value is corrected for it: {aside.reason}")
    elif number not in standing:
        say("  replaced by a later entry of the same study on the same bars")
    else:
        others = [str(one.number) for one, _ in found.overlapping(search)]
        say(
            f"  its bars overlap with those of entries {', '.join(others)}: p-values of each are"
            " corrected for all of them"
            if others
            else "  no other study has searched any of its bars"
        )


def _explain_look(found: Ledger, number: int, time: str, look: Look) -> None:
    of = f"study {look.study} {look.study_hash[:8]}"
    seen = f"the verdict on {of} looked at its winner over the holdout"
    if look.why == "unsealed":
        seen = f"the holdout of {of} was opened for all sets"
    say(f"entry {number}, {time}: {seen}")
    say(f"  of {list_text(look.symbols)}: {_bar_text(look.bar_ns)} of {look.data}, {_span(look)}")
    aside = found.set_aside().get(number)
    if aside is not None:
        say(f"  set aside, so no p-value is corrected for it: {aside.reason}")
        return
    others = [str(one.number) for one, _ in found.other_looks(look) if one.number != number]
    say(
        f"  bars of it were seen by {'entry' if len(others) == 1 else 'entries'} {', '.join(others)} too:"
        f" p-values out-of-sample are corrected for {len(others) + 1} looks"
        if others
        else "  nobody else has seen any of its bars"
    )


def _symbols(search: OnBars) -> str:
    names = search.symbols
    return (
        " ".join(names) if len(names) <= 4 else f"{' '.join(names[:3])} and {len(names) - 3} more"
    )


def _bar_text(bar_ns: int) -> str:
    """The size of a bar in its largest unit, such as ``1-day bars``."""
    seconds = bar_ns / 1e9
    for unit, length in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= length:
            return f"{seconds / length:g}-{unit} bars"
    return f"{seconds:g}-second bars"


def _span(search: OnBars) -> str:
    first, last = (
        str(np.datetime64(ns, "ns"))[: 10 if search.bar_ns >= 86_400 * 10**9 else 16]
        for ns in (search.start_ns, search.stop_ns)
    )
    return f"{first} to {last}"
