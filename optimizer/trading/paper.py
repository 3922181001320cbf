"""A paper account in a SQLite file: it fills orders at the next open by the study's own cost rules."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from optimizer.flow.containers.portfolio import PortfolioContainer
from optimizer.flow.portfolios import PortfolioSpec
from optimizer.sweep.rules import Rules
from optimizer.trading.account import Account
from optimizer.trading.broker import Report, SeenBar, account_of
from optimizer.trading.database import open_sqlite
from optimizer.trading.modelled import account_at_open, modelled_fills
from optimizer.types import Order

_METADATA = sa.MetaData()
_ACCOUNT = sa.Table(
    "account",
    _METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("cash", sa.Double, nullable=False),
    sa.Column("last_bar", sa.Text),
)
_POSITIONS = sa.Table(
    "positions",
    _METADATA,
    sa.Column("symbol", sa.Text, primary_key=True),
    sa.Column("lots", sa.Double, nullable=False),
)
_ORDERS = sa.Table(
    "orders",
    _METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("time", sa.Text, nullable=False),
    sa.Column("symbol", sa.Text, nullable=False),
    sa.Column("lots", sa.Double, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    *(sa.Column(name, sa.Double, nullable=False) for name in ("quantity", "price", "commission")),
    sa.Column("reason", sa.Text, nullable=False),
)


_PAYMENTS = sa.Table(
    "payments",
    _METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("money", sa.Double, nullable=False),
)


class PaperBroker:
    """An account of its own, which trades at the bars that it sees.

    It fills as the study does: reductions first, then what buying power carries, with spread, slippage,
    impact and commission, a share of the volume at most, and nothing where nothing traded. Interest,
    borrow fees, dividends and funding are booked. It makes no margin calls.

    Args:
        path: the SQLite file; it is made if it is missing.
        spec: whose costs are paid.
        rules: the rules of the study.
        symbols: the symbols in the order of the bars' columns.
        bars_per_year: number of bars in a year.
        cash: money of a new account.
    """

    name = "paper"

    def __init__(
        self,
        path: Path,
        spec: PortfolioSpec,
        rules: Rules,
        symbols: tuple[str, ...],
        bars_per_year: float,
        cash: float,
    ) -> None:
        self._spec, self._rules, self._symbols = spec, rules, symbols
        self._bars_per_year = bars_per_year
        self._engine = open_sqlite(path, _METADATA)
        with self._engine.begin() as connection:
            if connection.execute(sa.select(_ACCOUNT)).first() is None:
                connection.execute(_ACCOUNT.insert().values(id=1, cash=cash))

    async def place(self, order: Order) -> Report:
        """Keep an order for the next bar; one whose ID is known is left as it is.

        Args:
            order: the order.

        Returns:
            What is known of it.
        """
        with self._engine.begin() as connection:
            known = self._known(connection, order.id)
            if known is not None:
                return known
            connection.execute(
                _ORDERS.insert().values(
                    id=order.id,
                    time=str(order.time),
                    symbol=order.name,
                    lots=order.lots,
                    status="open",
                    quantity=0.0,
                    price=0.0,
                    commission=0.0,
                    reason="",
                )
            )
        return Report(order.id, "open", f"paper-{order.id}")

    async def report(self, id: str, symbol: str) -> Report | None:
        """What is known of an order; None if it was never placed.

        Args:
            id: the ID of the order.
            symbol: its symbol.
        """
        with self._engine.begin() as connection:
            return self._known(connection, id)

    def _known(self, connection: sa.Connection, id: str) -> Report | None:
        row = connection.execute(sa.select(_ORDERS).where(_ORDERS.c.id == id)).first()
        if row is None:
            return None
        return Report(
            id,
            row.status,
            f"paper-{id}",
            row.quantity,
            row.price,
            row.commission,
            row.reason,
        )

    async def cancel(self, id: str, symbol: str) -> None:
        """Cancel an order that is open.

        Args:
            id: the ID of the order.
            symbol: its symbol.
        """
        with self._engine.begin() as connection:
            connection.execute(
                _ORDERS.update()
                .where(_ORDERS.c.id == id, _ORDERS.c.status == "open")
                .values(status="cancelled", reason="cancelled")
            )

    async def account(self, symbols: Sequence[str]) -> Account:
        """The cash and the positions.

        Args:
            symbols: the symbols that matter.
        """
        with self._engine.begin() as connection:
            cash, lots = self._held(connection)
        units = dict(zip(self._symbols, self._rules.lot_units.tolist(), strict=True))
        return account_of(cash, {name: lots[name] * units[name] for name in lots}, symbols)

    async def open_orders(
        self, symbols: Sequence[str], own: Collection[str] = ()
    ) -> Mapping[str, str]:
        """The symbols of open orders by ID.

        Args:
            symbols: the symbols that matter.
            own: IDs of orders, which are the client order IDs.
        """
        query = sa.select(_ORDERS).where(_ORDERS.c.status == "open", _ORDERS.c.symbol.in_(symbols))
        with self._engine.begin() as connection:
            return {row.id: row.symbol for row in connection.execute(query)}

    async def pay(self, id: str, money: float) -> None:
        """Pay money in, or out if negative; nothing happens where the ID is known.

        Args:
            id: the ID of the payment.
            money: money.
        """
        with self._engine.begin() as connection:
            known = sa.select(_PAYMENTS).where(_PAYMENTS.c.id == id)
            if connection.execute(known).first() is None:
                connection.execute(_PAYMENTS.insert().values(id=id, money=money))
                connection.execute(_ACCOUNT.update().values(cash=_ACCOUNT.c.cash + money))

    async def clock(self) -> np.datetime64 | None:
        """The broker's time: that of this machine, so None."""
        return None

    async def close(self) -> None:
        """Close the file."""
        self._engine.dispose()

    async def see(self, seen: SeenBar) -> None:
        """Book interest and payments, and fill at the bar's open what was placed before it; once a bar.

        Args:
            seen: the bar.
        """
        bar = seen.bar
        with self._engine.begin() as connection:
            last = connection.execute(sa.select(_ACCOUNT.c.last_bar)).scalar()
            if last is not None and np.datetime64(last, "ns") >= bar.time:
                return
            cash, held = self._held(connection)
            lots = tuple(held.get(name, 0.0) for name in self._symbols)
            container = account_at_open(
                self._spec, self._rules, self._symbols, self._bars_per_year, seen, cash, lots
            )
            self._fill(connection, seen, container)
            connection.execute(
                _ACCOUNT.update().values(cash=container.cash, last_bar=str(bar.time))
            )
            connection.execute(_POSITIONS.delete())
            rows = [
                {"symbol": name, "lots": lots}
                for name, lots in zip(self._symbols, container.lots, strict=True)
                if lots != 0.0
            ]
            if rows:
                connection.execute(_POSITIONS.insert(), rows)

    def _held(self, connection: sa.Connection) -> tuple[float, dict[str, float]]:
        cash = connection.execute(sa.select(_ACCOUNT.c.cash)).scalar_one()
        rows = connection.execute(sa.select(_POSITIONS)).all()
        return float(cash), {row.symbol: float(row.lots) for row in rows}

    def _fill(
        self, connection: sa.Connection, seen: SeenBar, container: PortfolioContainer
    ) -> None:
        """Fill the open orders as the event flow does, and write what became of each."""
        waiting = sa.select(_ORDERS).where(_ORDERS.c.status == "open").order_by(_ORDERS.c.id)
        orders = [self._order(row, seen) for row in connection.execute(waiting)]
        # One bar decides at most one order a symbol; an earlier one that is still open has lapsed.
        newest: dict[int, Order] = {}
        for order in sorted(orders, key=lambda one: one.time):
            newest[order.symbol] = order
        orders = [newest[s] for s in sorted(newest)]
        found = modelled_fills(self._spec, self._rules, seen, container, orders)
        for order in orders:
            one = found[order.id]
            values: dict[str, Any] = {"status": "cancelled", "reason": one.reason}
            if one.lots:
                values |= {
                    "quantity": one.quantity,
                    "price": one.price,
                    "commission": one.commission,
                }
            if one.lots == order.lots:
                values["status"] = "filled"
            connection.execute(_ORDERS.update().where(_ORDERS.c.id == order.id).values(values))
        connection.execute(
            _ORDERS.update()
            .where(_ORDERS.c.status == "open")
            .values(status="cancelled", reason="lapsed")
        )

    def _order(self, row: sa.Row[tuple[object, ...]], seen: SeenBar) -> Order:
        symbol = self._symbols.index(row.symbol)
        return Order(
            id=row.id,
            portfolio_id=self._spec.id,
            bar=seen.before.index,
            time=np.datetime64(row.time, "ns"),
            symbol=symbol,
            name=row.symbol,
            lots=row.lots,
            quantity=row.lots * float(self._rules.lot_units[symbol]),
            wanted=row.lots,
            budget_share=1.0,
            target=row.lots,
            signal_id="",
            regime_id="",
        )
