"""The orders of the next open of a whole combination: those of each member, and the net of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from optimizer.errors import ExportError
from optimizer.flow.sub_accounts import bring_back
from optimizer.review.exported import naming_export, whole_book
from optimizer.trading.account import Account, book_state, read_accounts
from optimizer.trading.history import History
from optimizer.trading.orders import Decider, NextOrders, plain
from optimizer.trading.plan import TradingBook, open_book_to_trade
from optimizer.types import Bars


@dataclass(frozen=True, eq=False, repr=False)
class BookOrders:
    """What the members of a combination decide at the last close, for the next open.

    Attributes:
        name: name of the combination.
        hash: its hash.
        members: what each decides, in order; accounts are those before money moves.
        shares: the share of the capital of each, fractions.
        moved: money that each is paid at that close, negative where it pays.
    """

    name: str
    hash: str
    members: Sequence[NextOrders]
    shares: Sequence[float]
    moved: Sequence[float]

    @property
    def time(self) -> np.datetime64:
        """Time of the bar that decides, its start, UTC."""
        return self.members[0].time

    @property
    def history(self) -> History:
        """The bars, and what was revised in them."""
        return self.members[0].history

    @property
    def simulated(self) -> bool:
        """Whether the accounts are those of the backtest of the whole."""
        return self.members[0].simulated

    @property
    def equity(self) -> float:
        """Money of all accounts at that close."""
        return sum(one.equity for one in self.members)

    @property
    def cash(self) -> float:
        """Cash of all accounts at that close."""
        return sum(one.account.cash for one in self.members)

    @property
    def table(self) -> pd.DataFrame:
        """The table of each member, see ``NextOrders``; the column ``member`` has its number, from 1."""
        return _numbered([one.table for one in self.members])

    @property
    def orders(self) -> pd.DataFrame:
        """The orders of each member, see ``NextOrders``; the column ``member`` has its number, from 1."""
        return _numbered([one.orders for one in self.members])

    @property
    def net(self) -> pd.DataFrame:
        """What all members together hold and order: what an account that holds them all would send.

        A row a symbol, and a further one for each price at which entries wait. ``symbol``, ``held`` and
        ``quantity`` (units, signed; where something waits at a price, ``held`` is 0), ``entry`` and
        ``level`` as in ``NextOrders``, ``close``, and ``value`` (money at the close).
        """
        table, rows = self.table, []
        for symbol, own in table.groupby("symbol", sort=False):
            held = own.drop_duplicates("member")["held"].sum()
            placed = own[own["quantity"] != 0.0]
            waits = [
                (part["entry"].iloc[0], part["level"].iloc[0], part)
                for _, part in placed[placed["level"].notna()].groupby(["entry", "level"])
            ]
            at_once = placed[placed["level"].isna()]
            close = own["close"].iloc[0]
            parts = [(held, at_once, "market", np.nan)]
            parts += [(0.0, part, entry, level) for entry, level, part in waits]
            for kept, part, entry, level in parts:
                quantity = float(part["quantity"].sum())
                at = entry if quantity else ""
                rows.append((symbol, kept, quantity, at, level, close, float(part["value"].sum())))
        names = ["symbol", "held", "quantity", "entry", "level", "close", "value"]
        return pd.DataFrame(rows, columns=names)

    @property
    def whole_table(self) -> pd.DataFrame:
        """``table``, and below it the rows of ``net``, whose ``member`` is ``net``."""
        return pd.concat([self.table, self.net.assign(member="net")], ignore_index=True)

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values that JSON can hold; a state file of the accounts, too."""
        state = book_state(self.hash, [one.account for one in self.members])
        own = zip(state["members"], self.members, self.shares, self.moved, strict=True)
        return {
            **state,
            "name": self.name,
            "time": str(self.time),
            "simulated": self.simulated,
            "equity": self.equity,
            "cash": self.cash,
            "new_bars": self.history.n_new,
            "revised": self.history.revised,
            "members": [
                {**numbered, "share": share, "moved": moved, **one.to_dict()}
                for numbered, one, share, moved in own
            ],
            "net": [
                {str(key): plain(value) for key, value in row.items()}
                for row in self.net.to_dict("records")
            ],
        }

    def __repr__(self) -> str:
        """The orders in a line."""
        n_orders = int((self.net["quantity"] != 0.0).sum())
        return (
            f"<BookOrders of {self.name} at {self.time}: {len(self.orders)} of"
            f" {len(self.members)} members, {n_orders} net>"
        )


def _numbered(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    found = pd.concat(
        [table.assign(member=place) for place, table in enumerate(tables, 1)], ignore_index=True
    )
    return found[["member", *(name for name in found if name != "member")]]


def book_orders(
    path: str | Path,
    *,
    data: str | Path | Bars | None = None,
    state: str | Path | None = None,
    accept_revisions: bool = False,
    trust: bool = False,
) -> BookOrders:
    """The orders that the members of a combination place at the next open, each with its reason.

    Each decides for an account of its own, as ``next_orders`` says of one set. Where the combination has
    a schedule, money moves and targets are scaled as in its replay. Without accounts of yours they are
    those of the replay over all bars that are there.

    >>> import optimizer
    >>> made = optimizer.combine(["out"], top=4, max_correlation=0.999, out="book.json")
    >>> found = optimizer.book_orders("book.json")
    >>> list(found.net.columns)
    ['symbol', 'held', 'quantity', 'entry', 'level', 'close', 'value']

    Args:
        path: the file of a combination.
        data: bars that go on where those of the studies ended, see ``next_orders``.
        state: a JSON file of the accounts of all members at the last close: the ``account.json`` that
            ``barsweep trade`` keeps, or what ``barsweep orders --json`` has printed.
        accept_revisions: go on where bars that the studies had are others now.
        trust: approve the strategy files that it names, for good.

    Returns:
        The orders, and why there are no others.

    Raises:
        ExportError: the file cannot be used or is no combination, or orders cannot be decided by the
            rules of a study.
        StudyError: the ledger cannot be used.
        DataError: the bars or the accounts cannot be used, or bars of the studies were revised.
        UntrustedCodeError: you have neither run nor approved a strategy file.
    """
    file = Path(path)
    combination = whole_book(file, None)
    if combination is None:
        raise ExportError(
            f"{file}: no combination; optimizer.next_orders gives the orders of one set"
        )
    accounts = None
    if state is not None:
        accounts = read_accounts(Path(state), combination.hash, len(combination.members))
    bars = data if isinstance(data, Bars) or data is None else Path(data)
    with naming_export(file):
        book = open_book_to_trade(
            file, combination, data=bars, accept_revisions=accept_revisions, trust=trust
        )
        for one in book.members if accounts is None else ():
            one.note_look()
        return BookDecider(book, accounts, str(state or "")).advance()


class BookDecider:
    """The members of a combination, which decide at one close after the other, each bar taken once.

    Args:
        book: the members.
        accounts: the account for which each decides, see ``Decider``; None simulates them.
        source: what states the accounts, for messages.
    """

    def __init__(
        self, book: TradingBook, accounts: Sequence[Account] | None = None, source: str = ""
    ) -> None:
        self._book = book
        given: Sequence[Account | None] = accounts or [None] * len(book.members)
        self._members = [
            Decider(found, account, f"{source}: members #{number}")
            for number, (found, account) in enumerate(zip(book.members, given, strict=True), 1)
        ]

    def advance(self, bars: Bars | None = None) -> BookOrders:
        """Take the bars that are new, and decide at the last one.

        Args:
            bars: see ``Decider.advance``.

        Returns:
            The orders of the next open.

        Raises:
            DataError: no bar is new, or an account does not fit its member.
        """
        plans = [one.prepare(bars) for one in self._members]
        every, combination = plans[0].bars, self._book.combination
        flows = [(one.flow, plan) for one, plan in zip(self._members, plans, strict=True)]
        back = combination.rebalancing
        due = back.due(every.timestamps, plans[0].first)
        moved = [0.0] * len(plans)
        for index in range(self._members[0].done, every.n_bars):
            for one in self._members:
                one.take(index)
            moved = bring_back(flows, back, index, due)
            for one in self._members:
                one.end(index)
        return BookOrders(
            name=combination.name,
            hash=combination.hash,
            members=[one.result() for one in self._members],
            shares=[one.share for one in combination.members],
            moved=moved,
        )
