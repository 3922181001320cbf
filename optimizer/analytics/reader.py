"""Read the analytics database."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import Collection, Coroutine, Sequence
from typing import Any, Self, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizer.analytics.address import AnalyticsError, parse_url
from optimizer.analytics.database import COMMAND_SECONDS, Database
from optimizer.analytics.schema import refuse_foreign_schema, schema_of, schema_versions, too_new
from optimizer.analytics.tables import TABLES
from optimizer.errors import BarsweepError

_Result = TypeVar("_Result")

_MOST_COUNTS = 1_000_000
"""Pairs of a portfolio and a reason that are counted."""


def open_reader(url: str) -> AnalyticsReader:
    """Open an analytics database to read it.

    Args:
        url: see ``parse_url``.

    Returns:
        The reader; close it after use.

    Raises:
        AnalyticsError: the database is missing, holds no analytics, or is newer than this program.
    """
    return AnalyticsReader(url)


class AnalyticsReader:
    """Reads an analytics database, also while a flow writes to it. Rows are dicts by column name.

    Use it as a context manager, from a thread without a running event loop.

    Args:
        url: URL of the database, see ``parse_url``.

    Raises:
        AnalyticsError: the database is missing, holds no analytics, or is newer than this program.
    """

    def __init__(self, url: str) -> None:
        self._address = parse_url(url)
        file = self._address.file
        if file is not None and not file.is_file():
            raise AnalyticsError(f"{file}: no analytics database here; `barsweep flow` writes one")
        self._database = Database(self._address, read_only=True)
        self._runner = asyncio.Runner()
        try:
            self._run(self._check_schema())
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *of_the_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database, also in the middle of a query for which a signal ended the wait."""
        self._database.allow(0.0)
        with contextlib.suppress(Exception):
            self._runner.run(self._database.close())
        self._runner.close()

    def chain(self, fill_id: str) -> dict[str, Any]:
        """Everything that led to a fill and followed from it.

        Args:
            fill_id: the ID of the fill.

        Returns:
            Rows as dicts, with features and parameters as dicts: ``fill``; ``order``, None for a stop
            and for ruin; ``opening_order``, which opened the position that a stop or ruin closed,
            else None; ``signal`` and ``regime`` of that order; ``decision_bar``, the symbol's bar at
            which the order was placed; ``bar``, the one at which it filled; ``equity`` after that
            bar; ``portfolio``.

        Raises:
            AnalyticsError: there is no such fill; names its neighbours.
        """
        return self._run(self._chain(fill_id))

    def reject_counts(self, portfolios: Collection[str] | None = None) -> list[tuple[str, int]]:
        """How often each reason kept a signal from an order or an order from a fill, most often first.

        Args:
            portfolios: IDs of those to count; None counts all in the database.
        """
        rejects = TABLES["rejects"]
        columns = (rejects.c.portfolio_id, rejects.c.reason)
        query = sa.select(*columns, sa.func.count()).group_by(*columns).limit(_MOST_COUNTS + 1)
        wanted = None if portfolios is None else set(portfolios)
        counts: Counter[str] = Counter()
        rows = self._run(self._rows(query))
        if len(rows) > _MOST_COUNTS:
            raise AnalyticsError(
                f"{self._address.shown}: more than {_MOST_COUNTS:,} portfolios and reasons; give each"
                " flow a database of its own"
            )
        for portfolio_id, reason, count in rows:
            if wanted is None or portfolio_id in wanted:
                counts[reason] += count
        return sorted(counts.items(), key=lambda item: (-item[1], item[0]))

    def last_fills(
        self, most: int, portfolios: Collection[str] | None = None
    ) -> list[dict[str, Any]]:
        """The last fills, in the order of their bars.

        Args:
            most: how many.
            portfolios: IDs of those whose fills count; None counts all in the database.
        """
        fills = TABLES["fills"]
        query = sa.select(fills)
        if portfolios is not None:
            query = query.where(fills.c.portfolio_id.in_(list(portfolios)))
        query = query.order_by(fills.c.bar.desc(), fills.c.fill_id.desc()).limit(most)
        return [_record(row) for row in self._run(self._rows(query))][::-1]

    def portfolios(self) -> list[dict[str, Any]]:
        """All portfolios in the order of their IDs, with parameters as dicts."""
        table = TABLES["portfolios"]
        query = sa.select(table).order_by(table.c.portfolio_id)
        return [_record(row) for row in self._run(self._rows(query))]

    def equity(self, portfolio_id: str) -> list[dict[str, Any]]:
        """The equity, cash, exposure and drawdown of a portfolio, bar by bar.

        Args:
            portfolio_id: the ID of the portfolio.

        Raises:
            AnalyticsError: there is no such portfolio.
        """
        table = TABLES["equity"]
        query = sa.select(table).where(table.c.portfolio_id == portfolio_id).order_by(table.c.bar)
        rows = [_record(row) for row in self._run(self._rows(query))]
        if not rows:
            known = [portfolio["portfolio_id"] for portfolio in self.portfolios()]
            if portfolio_id not in known:
                some = ", ".join(known[:5]) + (" ..." if len(known) > 5 else "")
                raise AnalyticsError(
                    f"{self._address.shown}: no portfolio {portfolio_id!r}; there are"
                    f" {some or 'none'}"
                )
        return rows

    def _run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        self._database.allow()
        try:
            return self._runner.run(work)
        except (BarsweepError, KeyboardInterrupt):
            raise
        except Exception as error:
            if self._database.out_of_time:
                raise AnalyticsError(
                    f"{self._address.shown}: cannot be read: a query takes more than"
                    f" {COMMAND_SECONDS:.0f} s"
                ) from None
            reason = f"{self._address.reason(error)}{self._address.password_hint(error)}"
            raise AnalyticsError(f"{self._address.shown}: cannot be read: {reason}") from None

    async def _check_schema(self) -> None:
        async with self._database.engine.connect() as connection:
            await connection.run_sync(refuse_foreign_schema, self._address.shown)
            version = await connection.run_sync(schema_of)
        known = schema_versions()
        if version is None:
            raise AnalyticsError(
                f"{self._address.shown}: holds no analytics; `barsweep flow` writes them"
            )
        if version not in known:
            raise AnalyticsError(too_new(self._address.shown, version, known))
        if version != known[-1]:
            raise AnalyticsError(
                f"{self._address.shown}: has schema {version}, older than {known[-1]}; any"
                " `barsweep flow` or `barsweep analytics import` into it upgrades it"
            )

    async def _rows(self, query: sa.Select[Any]) -> Sequence[Any]:
        async with self._database.engine.connect() as connection:
            rows: Sequence[Any] = (await connection.execute(query)).all()
            return rows

    async def _chain(self, fill_id: str) -> dict[str, Any]:
        async with self._database.engine.connect() as connection:

            async def one(name: str, **key: Any) -> dict[str, Any] | None:
                if None in key.values():
                    return None
                table = TABLES[name]
                same = (table.c[column] == value for column, value in key.items())
                row = (await connection.execute(sa.select(table).where(*same))).first()
                return None if row is None else _record(row)

            fill = await one("fills", fill_id=fill_id)
            if fill is None:
                raise AnalyticsError(await self._no_fill(connection, fill_id))
            order = await one("orders", order_id=fill["order_id"])
            opening = await one("orders", order_id=fill["opening_order_id"])
            decided = order or opening or dict.fromkeys(("signal_id", "regime_id"))
            signal = await one("signals", signal_id=decided["signal_id"])
            portfolio_id = fill["portfolio_id"]
            return {
                "fill": fill,
                "order": order,
                "opening_order": opening,
                "signal": signal,
                "regime": await one("regimes", regime_id=decided["regime_id"]),
                "decision_bar": await one("bars", bar_id=signal["bar_id"] if signal else None),
                "bar": await one("bars", bar_id=fill["bar_id"]),
                "equity": await one("equity", portfolio_id=portfolio_id, bar=fill["bar"]),
                "portfolio": await one("portfolios", portfolio_id=portfolio_id),
            }

    async def _no_fill(self, connection: AsyncConnection, fill_id: str) -> str:
        column = TABLES["fills"].c.fill_id
        before = sa.select(sa.func.max(column)).where(column < fill_id)
        after = sa.select(sa.func.min(column)).where(column > fill_id)
        found = [(await connection.execute(query)).scalar() for query in (before, after)]
        near = " and ".join(str(name) for name in found if name is not None)
        hint = f"the nearest are {near}" if near else "it holds no fills"
        return f"{self._address.shown}: no fill {fill_id!r}; {hint}"


def _record(row: sa.Row[Any]) -> dict[str, Any]:
    record = dict(row._mapping)
    for name in ("features", "parameters"):
        if name in record:
            record[name] = json.loads(record[name])
    return record
