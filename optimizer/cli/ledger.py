"""The command that shows the ledger of parameter sets tried."""

from __future__ import annotations

from optimizer.cli.console import console, new_table, say
from optimizer.text import counted


def ledger() -> None:
    """Show how many parameter sets you have tried on which bars; every one counts as a chance."""
    from optimizer.files import ledger_path
    from optimizer.store.ledger import entries

    table = new_table()
    for name in ("bars", "study", "sets", "last tried", "file of bars"):
        table.add_column(name, justify="right" if name == "sets" else "left", overflow="fold")
    found = entries()
    totals: dict[str, int] = {}
    for one in found:
        totals[one.data_hash] = totals.get(one.data_hash, 0) + one.n_sets
        table.add_row(
            one.data_hash[:12], f"{one.study} {one.study_hash[:8]}", f"{one.n_sets:,}",
            one.last_run[:16].replace("T", " "), one.data,
        )  # fmt: skip
    if not found:
        say("nothing tried yet")
    else:
        console.print(table)
        for data_hash, total in totals.items():
            say(f"bars {data_hash[:12]}: {counted(total, 'set')} in all")
    say(f"ledger: {ledger_path()}")
