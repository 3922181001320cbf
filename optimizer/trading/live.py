"""What an account has really traded: from the folder of a session, or from a table of fills."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from optimizer.bars.timestamps import read_bound, read_zone
from optimizer.errors import BarsweepError, DataError
from optimizer.review.rerun import Terms
from optimizer.store.links import refuse_links
from optimizer.text import counted, list_text, one_line, quoted
from optimizer.trading.account import Account
from optimizer.trading.counterfactual import Steps
from optimizer.trading.joining import joined, with_taken
from optimizer.trading.journal import MISSED, REFUSED, Journal
from optimizer.trading.plan import TradingSet
from optimizer.trading.run import JOURNAL
from optimizer.trading.taking_over import Takeover
from optimizer.types import Bars

COLUMNS = ("time", "symbol", "quantity", "price")
"""Columns of a table of fills; ``commission`` may be there too."""


@dataclass(frozen=True)
class LiveFill:
    """What has filled of a symbol in a bar.

    Attributes:
        quantity: units, signed.
        price: mean price.
        commission: money for all of it.
    """

    quantity: float
    price: float
    commission: float


@dataclass(frozen=True, eq=False)
class Live:
    """An account that has traded a set.

    Attributes:
        source: where it comes from, for messages.
        bars: the bars as they were known, up to the last one of the comparison.
        steps: the account at the first bar, and what a broker held later.
        fills: what has filled in a bar, by the bar and the symbol's index.
        told: what is known to have become of orders that have not filled: ``missed`` or ``refused``, by
            the bar of the decision and the symbol's index.
        notes: what limits the comparison, in words.
    """

    source: str
    bars: Bars
    steps: Steps
    fills: Mapping[tuple[int, int], LiveFill]
    told: Mapping[tuple[int, int], str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


# --- A session -------------------------------------------------------------------------------------


def read_session(folder: Path, found: TradingSet, references: Sequence[Path]) -> Live:
    """What a session of ``barsweep trade`` has traded.

    Args:
        folder: its folder.
        found: the set, on the bars as they are now.
        references: files that may hold the bars of the study as they were.

    Raises:
        DataError: it is no session of this set, or has taken fewer than two bars.
    """
    if not (folder / JOURNAL).is_file():
        raise DataError(
            f"{folder}: no session; give the folder of `barsweep trade`, or a table of fills (.csv)"
        )
    refuse_links(folder, (f"{JOURNAL}*",))
    journal = Journal(folder / JOURNAL)
    try:
        terms, taken = journal.terms(), journal.bars()
        orders = journal.orders()
    finally:
        journal.close()
    if terms.get("study_hash") != found.study.content_hash:
        raise DataError(f"{folder}: a session of another set than {found.source}")
    if len(taken) < 2:
        raise DataError(
            f"{folder}: {counted(len(taken), 'bar')} taken; a comparison takes 2 or more"
        )
    start, notes = int(terms["start"]), []
    before = next(
        (
            one.head(start)
            for one in _histories(found, references)
            if one.n_bars >= start and one.head(start).content_hash == terms["hash"]
        ),
        None,
    )
    if before is None:
        first = np.datetime64(taken[0].values["time"])
        now = found.history.bars
        start = int(np.searchsorted(now.timestamps, first))
        before = now.head(start)
        notes.append(
            "bars before the session were revised, and what was known then is nowhere: what they change"
            " is part of the rest"
        )
    bars = with_taken(before, taken)
    shift = start - int(terms["start"])
    takeovers = {
        start + i: replace(one.takeover, bar=start + i)
        for i, one in enumerate(taken)
        if one.takeover is not None
    }
    if start not in takeovers:
        raise DataError(f"{folder}: what the account held at the first bar is missing")
    fills: dict[tuple[int, int], LiveFill] = {}
    told: dict[tuple[int, int], str] = {}
    places = {symbol: s for s, symbol in enumerate(bars.symbols)}
    symbol_of = {row.id: (row.bar + shift, places[row.symbol], row.state) for row in orders}
    for i, one in enumerate(taken):
        for report in one.reports:
            bar, s, _ = symbol_of[report.id]
            if report.quantity != 0.0:
                fills[start + i, s] = LiveFill(report.quantity, report.price, report.commission)
            elif report.status == "rejected":
                told[bar, s] = "refused"
    words = {MISSED: "missed", REFUSED: "refused"}
    told |= {(bar, s): words[state] for bar, s, state in symbol_of.values() if state in words}
    account = replace(takeovers.pop(start), forced=True)
    return Live(str(folder), bars, Steps(start, account, takeovers), fills, told, tuple(notes))


def _histories(found: TradingSet, references: Sequence[Path]) -> Iterator[Bars]:
    """Versions of the bars before a session: as they are now, and with those that the study had."""
    yield found.history.bars
    own = _recorded(found.terms, references)
    if own is not None:
        newer = found.history.bars
        place = int(np.searchsorted(newer.timestamps, own.timestamps[-1], "right"))
        yield joined(replace(own, bars_per_year=newer.bars_per_year), newer, place, newer.n_bars)


def _recorded(terms: Terms, references: Sequence[Path]) -> Bars | None:
    """The bars of a study as it had them; None where they are nowhere."""
    for path in references:
        try:
            return replace(terms, data_path=path).bars()
        except BarsweepError:
            continue  # not there any more, or revised too
    return None


# --- A table of fills ------------------------------------------------------------------------------


def read_fills(
    path: Path,
    found: TradingSet,
    account: Account,
    start: str | None,
    stop: str | None,
) -> Live:
    """What a table of fills says that an account has traded.

    A fill belongs to the bar in whose time it lies, and so to the orders of the close before.

    Args:
        path: CSV or Parquet with the columns ``time``, ``symbol``, ``quantity`` (units, signed),
            ``price`` and perhaps ``commission`` (money, 0 if left out).
        found: the set, on the bars as they are now.
        account: what the account held before the first fill.
        start: time of the bar whose close decided the first orders; None takes the one before the first
            fill.
        stop: time of the last bar of the comparison; None takes the last one.

    Raises:
        DataError: the table or a time cannot be used; names the line.
    """
    bars, rules = found.history.bars, found.prepared().rules
    frame = _table(path)
    zone = read_zone(str(path), found.terms.data["timezone"])
    rows = [_row(path, line, row, bars, zone) for line, row in enumerate(frame, 2)]
    if not rows:
        raise DataError(f"{path}: no fills; a comparison takes one or more")
    last = bars.n_bars - 1
    if stop is not None:
        bound = read_bound("--to", stop, zone, last=True)
        last = int(np.searchsorted(bars.timestamps, bound, "right")) - 1
    if start is None:
        first = min(bar for bar, *_ in rows) - 1
    else:
        bound = read_bound("--from", start, zone)
        first = int(np.searchsorted(bars.timestamps, bound))
    least = found.terms.first_bar
    if not least <= first < last:
        raise DataError(
            f"{path}: the comparison would go from bar {first} to bar {last} of {bars.n_bars}; it begins"
            f" at bar {least} or later, with the decisions of one bar, and ends after it: name other"
            " bars with --from and --to"
        )
    parts: dict[tuple[int, int], list[LiveFill]] = {}
    for line, (bar, s, fill) in enumerate(rows, 2):
        if bar <= first:
            raise DataError(
                f"{path}: line {line}: a fill before those of the first orders, decided at"
                f" {bars.timestamps[first]}; give an earlier bar with --from, or leave the fill out"
            )
        if bar <= last:
            parts.setdefault((bar, s), []).append(fill)
    worth = rules.lot_money / rules.lot_units
    lots = tuple(account.lots(bars, rules, "the account before the first fill"))
    entries = tuple(account.entries(bars.symbols))
    taken = Takeover(first, account.cash, lots, entries)
    return Live(
        source=str(path),
        bars=bars.head(last + 1),
        steps=Steps(first, taken),
        fills={(bar, s): _sum(one, float(worth[s])) for (bar, s), one in parts.items()},
        notes=(
            "a table of fills does not say what was known at each bar: revised bars count in the rest",
        ),
    )


def _table(path: Path) -> list[dict[Any, Any]]:
    try:
        is_parquet = path.suffix.lower() in (".parquet", ".pq")
        frame = pd.read_parquet(path) if is_parquet else pd.read_csv(path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except Exception as error:  # whatever the two readers raise for a file of another kind
        raise DataError(f"{path}: cannot be read as CSV or Parquet: {one_line(error)}") from None
    frame = frame.rename(columns={name: str(name).strip().lower() for name in frame.columns})
    missing = [name for name in COLUMNS if name not in frame]
    if missing:
        raise DataError(
            f"{path}: no column {missing[0]}; expected {list_text(COLUMNS)}, and commission where there"
            " is one"
        )
    return frame.to_dict("records")


def _row(
    path: Path, line: int, row: Mapping[Any, Any], bars: Bars, zone: Any
) -> tuple[int, int, LiveFill]:
    symbol = str(row["symbol"])
    if symbol not in bars.symbols:
        raise DataError(
            f"{path}: line {line}: symbol {quoted(symbol)}: not one of the study, which has"
            f" {list_text(bars.symbols)}; leave out what the set does not trade"
        )
    numbers = {}
    for name in ("quantity", "price", "commission"):
        value = row.get(name, 0.0)
        try:
            numbers[name] = float(value)
        except (TypeError, ValueError):
            numbers[name] = math.nan
        if not math.isfinite(numbers[name]) or (name != "commission" and numbers[name] == 0.0):
            raise DataError(
                f"{path}: line {line}: {name} = {quoted(value)}; expected a number"
                + (" other than 0" if name != "commission" else "")
            )
    if numbers["price"] < 0.0:
        raise DataError(f"{path}: line {line}: price = {numbers['price']}; expected one above 0")
    time = read_bound(f"{path}: line {line}: time", row["time"], zone)
    bar = int(np.searchsorted(bars.timestamps, time, "right")) - 1
    if bar < 0:
        raise DataError(f"{path}: line {line}: time {time}: before the first bar")
    return bar, bars.symbols.index(symbol), LiveFill(**numbers)


def _sum(fills: Sequence[LiveFill], worth: float) -> LiveFill:
    """Several fills of a symbol in a bar as one; those that cancel each other leave what they cost.

    Args:
        fills: the fills.
        worth: money of a unit at a price of 1.
    """
    quantity = sum(one.quantity for one in fills)
    paid = sum(one.quantity * one.price for one in fills)
    commission = sum(one.commission for one in fills)
    if quantity == 0.0:
        return LiveFill(0.0, 0.0, commission + paid * worth)
    return LiveFill(quantity, paid / quantity, commission)
