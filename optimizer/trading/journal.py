"""What a trading session has to remember: its bars, what became of its orders, and every event."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from optimizer.trading.broker import Report
from optimizer.trading.database import open_sqlite
from optimizer.trading.history import FIELDS
from optimizer.trading.taking_over import Takeover
from optimizer.types import Bar, Order

_METADATA = sa.MetaData()
_SESSION = sa.Table(
    "session",
    _METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)
_BARS = sa.Table(
    "bars",
    _METADATA,
    sa.Column("bar", sa.Integer, primary_key=True, autoincrement=False),
    *(sa.Column(name, sa.Text, nullable=False) for name in ("values", "reports", "takeover")),
)
_ORDERS = sa.Table(
    "orders",
    _METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("bar", sa.Integer, nullable=False),
    sa.Column("day", sa.Text, nullable=False),
    sa.Column("symbol", sa.Text, nullable=False),
    sa.Column("lots", sa.Double, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("reference", sa.Text, nullable=False),
)
_EVENTS = sa.Table(
    "events",
    _METADATA,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("bar", sa.Integer, nullable=False),
    *(sa.Column(name, sa.Text, nullable=False) for name in ("time", "kind", "detail")),
    *(sa.Column(name, sa.Text) for name in ("symbol", "order_id")),
)

INTENDED, SENT, MISSED, REFUSED = "intended", "sent", "missed", "refused"
"""States of an order: decided and perhaps sent; known to the broker; never sent, since a newer bar or a
limit came first; refused by the broker."""


@dataclass(frozen=True)
class Event:
    """Something that happened to a session, other than what the flow traces.

    Attributes:
        number: counts the events of the session from 1.
        bar: index of the bar at which it happened, or of the next one.
        time: when, UTC.
        kind: one of ``KINDS`` of ``optimizer.trading.limits``.
        detail: what happened, in words.
        symbol, order_id: what it is about; None where it is about neither.
    """

    number: int
    bar: int
    time: str
    kind: str
    detail: str
    symbol: str | None
    order_id: str | None


@dataclass(frozen=True, eq=False)
class TakenBar:
    """A bar that the session has taken.

    Attributes:
        values: prices, volume and so on by name, each one number a symbol, and its time.
        reports: what had become of the orders of the close before.
        takeover: what the broker held.
    """

    values: dict[str, Any]
    reports: tuple[Report, ...]
    takeover: Takeover | None


@dataclass(frozen=True)
class KeptOrder:
    """An order that a session has decided to send.

    Attributes:
        id: its ID.
        bar: index of the bar that decided it.
        symbol: its symbol.
        lots: what it asked for, signed.
        state: ``INTENDED``, ``SENT``, ``MISSED`` or ``REFUSED``.
    """

    id: str
    bar: int
    symbol: str
    lots: float
    state: str


class Journal:
    """The memory of a session, in a SQLite file.

    Args:
        path: the file; it is made if it is missing.
    """

    def __init__(self, path: Path) -> None:
        self._engine = open_sqlite(path, _METADATA)

    def close(self) -> None:
        """Close the file."""
        self._engine.dispose()

    def terms(self) -> dict[str, Any]:
        """What the session began with; empty before ``begin``."""
        with self._engine.begin() as connection:
            rows = connection.execute(sa.select(_SESSION)).all()
        return {row.name: json.loads(row.value) for row in rows}

    def begin(self, **terms: Any) -> None:
        """Begin a session, or begin it again: the bars of the one before are forgotten, its orders and
        events are kept.

        Args:
            **terms: plain values.
        """
        rows = [{"name": name, "value": json.dumps(value)} for name, value in terms.items()]
        with self._engine.begin() as connection:
            connection.execute(_SESSION.delete())
            connection.execute(_BARS.delete())
            connection.execute(_SESSION.insert(), rows)

    def bars(self) -> list[TakenBar]:
        """The bars that were taken, in order."""
        with self._engine.begin() as connection:
            rows = connection.execute(sa.select(_BARS).order_by(_BARS.c.bar)).all()
        found = []
        for _, values, reports, takeover in rows:
            given = json.loads(takeover)
            taken = None
            if given is not None:
                lots, entries = tuple(given.pop("lots")), tuple(given.pop("entries"))
                taken = Takeover(**given, lots=lots, entries=entries)
            known = tuple(Report(**one) for one in json.loads(reports))
            found.append(TakenBar(json.loads(values), known, taken))
        return found

    def take(self, bar: Bar, reports: Sequence[Report], takeover: Takeover | None) -> None:
        """Remember a bar and what had become of the orders before it: from now on, both are settled.

        Args:
            bar: the bar.
            reports: final reports of the orders of the close before.
            takeover: what the broker held.
        """
        values: dict[str, Any] = {name: getattr(bar, name).tolist() for name in FIELDS}
        values["time"] = str(bar.time)
        for name in ("present", "payments"):
            array = getattr(bar, name)
            values[name] = None if array is None else array.tolist()
        with self._engine.begin() as connection:
            connection.execute(
                _BARS.insert().values(
                    bar=bar.index,
                    values=json.dumps(values),
                    reports=json.dumps([asdict(one) for one in reports]),
                    takeover=json.dumps(None if takeover is None else asdict(takeover)),
                )
            )

    def intend(self, orders: Sequence[Order]) -> None:
        """Remember the orders of a close before the first of them is sent.

        Args:
            orders: the orders; those that are known already stay as they are.
        """
        rows = [
            {
                "id": one.id,
                "bar": one.bar,
                "day": str(one.time)[:10],
                "symbol": one.name,
                "lots": one.lots,
                "state": INTENDED,
                "reference": "",
            }
            for one in orders
        ]
        if rows:
            with self._engine.begin() as connection:
                connection.execute(_ORDERS.insert().prefix_with("OR IGNORE"), rows)

    def settle(self, order: Order, state: str, reference: str = "") -> None:
        """Remember what became of sending an order.

        Args:
            order: the order.
            state: ``SENT``, ``MISSED`` or ``REFUSED``.
            reference: the broker's ID of it.
        """
        with self._engine.begin() as connection:
            connection.execute(
                _ORDERS.update()
                .where(_ORDERS.c.id == order.id)
                .values(state=state, reference=reference)
            )

    def states(self, orders: Sequence[Order]) -> dict[str, str]:
        """The states of orders by ID; those that are not known are left out.

        Args:
            orders: the orders.
        """
        query = sa.select(_ORDERS.c.id, _ORDERS.c.state, _ORDERS.c.lots)
        with self._engine.begin() as connection:
            rows = connection.execute(query.where(_ORDERS.c.id.in_([one.id for one in orders])))
            return {row.id: row.state for row in rows}

    def orders(self) -> list[KeptOrder]:
        """All orders that were decided to be sent, of every beginning of the session."""
        names = [one.name for one in fields(KeptOrder)]
        query = sa.select(*(_ORDERS.c[name] for name in names))
        with self._engine.begin() as connection:
            return [KeptOrder(*row) for row in connection.execute(query)]

    def sent_on(self, day: np.datetime64) -> int:
        """The number of orders that were sent, or may have been, for closes of a day.

        Args:
            day: a time on that day, UTC.
        """
        query = sa.select(sa.func.count()).select_from(_ORDERS)
        states = _ORDERS.c.state.in_((INTENDED, SENT, REFUSED))
        with self._engine.begin() as connection:
            return int(
                connection.execute(query.where(_ORDERS.c.day == str(day)[:10], states)).scalar_one()
            )

    def note(
        self,
        bar: int,
        kind: str,
        detail: str,
        symbol: str | None = None,
        order_id: str | None = None,
    ) -> Event:
        """Remember an event.

        Args:
            bar, kind, detail, symbol, order_id: see ``Event``.

        Returns:
            The event.
        """
        time = str(np.datetime64("now", "s"))
        values = {"bar": bar, "time": time, "kind": kind, "detail": detail}
        with self._engine.begin() as connection:
            added = connection.execute(
                _EVENTS.insert().values(**values, symbol=symbol, order_id=order_id)
            )
            (number,) = added.inserted_primary_key or (0,)
        return Event(int(number), bar, time, kind, detail, symbol, order_id)

    def events(self) -> list[Event]:
        """All events, in order."""
        with self._engine.begin() as connection:
            rows = connection.execute(sa.select(_EVENTS).order_by(_EVENTS.c.number)).all()
        return [
            Event(r.number, r.bar, r.time, r.kind, r.detail, r.symbol, r.order_id) for r in rows
        ]
