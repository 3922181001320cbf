"""The schema of an analytics database, and what several flows share there."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from optimizer.analytics import address, schema, tables
from optimizer.analytics.address import AnalyticsError
from optimizer.analytics.reader import open_reader
from optimizer.analytics.spill import import_spill
from optimizer.analytics.tables import TABLES
from optimizer.analytics.writer import AnalyticsWriter
from optimizer.flow.prepared import run_flow
from optimizer.sweep.single_set import single_set_study
from tests.support.databases import Place, whole_bars
from tests.support.rows import add_bars
from tests.support.studies import random_bars


def test_the_migrations_make_the_tables(place: Place, spill: Path) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext
    from sqlalchemy.ext.asyncio import create_async_engine

    for _ in range(2):  # from nothing, and from itself
        AnalyticsWriter(place.url, spill).close()

    def differences(connection: sa.Connection) -> list[Any]:
        options = {"version_table": tables.VERSION_TABLE, "compare_type": True}
        context = MigrationContext.configure(connection, opts=options)
        return list(compare_metadata(context, next(iter(TABLES.values())).metadata))

    async def compare() -> list[Any]:
        url = sa.make_url(place.url)
        driver = "aiosqlite" if url.get_backend_name() == "sqlite" else "asyncpg"
        engine = create_async_engine(url.set(drivername=f"{url.get_backend_name()}+{driver}"))
        async with engine.connect() as connection:
            found = await connection.run_sync(differences)
        await engine.dispose()
        return found

    assert asyncio.run(compare()) == []
    assert place.names() - {tables.VERSION_TABLE} == set(TABLES)


def first_schema(place: Place) -> None:
    """Tables as the first schema had them, with one fill and what led to it."""
    from alembic import command
    from sqlalchemy.ext.asyncio import create_async_engine

    async def make() -> None:
        engine = create_async_engine(address.parse_url(place.url).url)
        async with engine.begin() as connection:
            await connection.run_sync(upgrade_to_first)
        await engine.dispose()

    def upgrade_to_first(connection: sa.Connection) -> None:
        config = schema._alembic()
        config.attributes.update(connection=connection, version_table=tables.VERSION_TABLE)
        command.upgrade(config, "1")

    asyncio.run(make())
    for bar in (3, 4):
        place.query(f"INSERT INTO bars VALUES ({bar}, 't{bar}', 'AAA', 1.5, 2.5, 0.5, 2.25, 7.0)")
    for row in (
        "portfolios VALUES ('p', 'h', 'momentum', 'none', '{}')",
        "signals VALUES ('si', 'k', 3, 'AAA', 1, 0.1, 0.5, '{\"sma_2\": 1.25}')",
        "regimes VALUES ('re', 'c', 3, -1)",
        "orders VALUES ('or', 'p', 3, 'AAA', 'si', 're', 5.0, 1.0, 2.0, NULL)",
        "rejects VALUES ('rj', 'p', 4, 'AAA', 'si', 'held')",
        "fills VALUES ('fi', 'or', 'p', 4, 'AAA', 'order', 5.0, 1.5, 0.1, 9.0, 5.0)",
        "equity VALUES ('p', 4, 10.0, 9.0, 0.1, 0.0)",
    ):
        place.query(f"INSERT INTO {row}")


def test_a_database_of_the_first_schema_is_upgraded(place: Place, spill: Path) -> None:
    first_schema(place)
    with pytest.raises(AnalyticsError, match="has schema 1, older than 5; any `barsweep flow`"):
        open_reader(place.url)
    with AnalyticsWriter(place.url, spill) as writer:
        add_bars(writer, range(6))
    with open_reader(place.url) as reader:
        chain = reader.chain("fi")
        other = reader.chain("s.p2.0000004.BBB.fill")
        assert reader.reject_counts({"p"}) == [("held", 1)]
    assert (chain["bar"]["time"], chain["bar"]["close"], chain["bar"]["bar"]) == ("t4", 2.25, 4)
    assert (chain["decision_bar"]["time"], chain["decision_bar"]["symbol"]) == ("t3", "AAA")
    assert chain["signal"]["features"] == {"sma_2": 1.25}
    assert chain["order"]["quantity"] == 5.0
    assert [chain["order"][name] for name in ("wanted", "budget_share", "target")] == [None] * 3
    assert chain["fill"]["cash_after"] == 9.0
    assert (chain["fill"]["opening_order_id"], chain["fill"]["stop_level"]) == (None, None)
    # Bar 4 of another flow has other prices, and each has its own.
    assert other["bar"]["bar"] == 4
    assert other["bar"]["close"] != 2.25
    assert place.query("SELECT count(*) FROM bars") == [(2 + 12,)]


# --- Flows --------------------------------------------------------------------------------------


def test_flows_on_different_bars_share_a_database(place: Place, tmp_path: Path) -> None:
    """Two studies, and one of them again on other bars: each reads back its own."""
    parameters = {"momentum_lookback": 5, "volatility_lookback": 5, "correlation_lookback": 5}
    studies = [
        single_set_study({"strategy": "momentum", **parameters, **own}, {}, False, None, 0.0)
        for own in ({}, {"kelly_fraction": 0.1}, {})
    ]
    all_bars = [random_bars(60, ("AAA", "BBB"), seed) for seed in (1, 2, 3)]
    flows = []
    for number, (study, bars) in enumerate(zip(studies, all_bars, strict=True)):
        with AnalyticsWriter(place.url, tmp_path / f"spill{number}") as writer:
            flows.append(run_flow(study, bars, trace=writer))
    assert studies[0].content_hash == studies[2].content_hash
    first = flows[0].first
    assert place.query("SELECT count(*) FROM bars") == [(3 * (60 - first) * 2,)]
    with open_reader(place.url) as reader:
        for flow, study, bars in zip(flows, studies, all_bars, strict=True):
            (spec,) = flow.specs
            fill = flow.views[0].transactions[-1]
            chain = reader.chain(fill.id)
            for part, at in (("bar", fill.bar), ("decision_bar", fill.bar - 1)):
                assert chain[part]["close"] == bars.close[at, fill.symbol]
                assert chain[part]["volume"] == bars.volume[at, fill.symbol]
                assert chain[part]["bar_id"].startswith(bars.content_hash[:8])
            assert chain["portfolio"]["study_hash"] == study.content_hash
            assert chain["portfolio"]["data_hash"] == bars.content_hash
            assert dict(reader.reject_counts([spec.id])) == flow.rejects
            equity = [row["equity"] for row in reader.equity(spec.id)]
            assert equity == list(flow.equity[spec.id])
        together = sum(count for _, count in reader.reject_counts())
    assert together == sum(sum(flow.rejects.values()) for flow in flows)


def test_flows_on_the_same_bars_share_them(place: Place, tmp_path: Path) -> None:
    parameters: dict[str, Any] = {
        "strategy": "momentum",
        "momentum_lookback": 5,
        "correlation_lookback": 5,
    }
    bars = random_bars(60, ("AAA", "BBB"))
    for lookback in (5, 20):
        study = single_set_study(
            {**parameters, "volatility_lookback": lookback}, {}, False, None, 0.0
        )
        with AnalyticsWriter(place.url, tmp_path / f"spill{lookback}") as writer:
            run_flow(study, bars, trace=writer)
    found = place.query("SELECT min(bar), count(*), count(DISTINCT bar_id) FROM bars")
    assert found == [(5, 55 * 2, 55 * 2)]


def test_a_newer_schema_is_refused(
    place: Place, spill: Path, spilled: Path, tmp_path: Path
) -> None:
    AnalyticsWriter(place.url, tmp_path / "another").close()
    place.query("UPDATE barsweep_schema SET version_num = '99'")
    for act in (
        lambda: AnalyticsWriter(place.url, tmp_path / "another"),
        lambda: open_reader(place.url),
        lambda: import_spill(spilled, place.url),
    ):
        with pytest.raises(
            AnalyticsError, match="have schema 99, but this barsweep knows only 5 and earlier"
        ):
            act()
    assert place.query("SELECT count(*) FROM bars") == [(0,)]


def test_tables_of_another_program_are_kept(place: Place, spill: Path) -> None:
    """Alembic's own table may be there for others; a table with a name of ours is not taken over."""
    place.query("CREATE TABLE alembic_version (version_num VARCHAR(32))")
    AnalyticsWriter(place.url, spill).close()
    assert {"alembic_version", *TABLES} < place.names()


def test_a_table_of_another_program_is_left_alone(place: Place, spill: Path) -> None:
    place.query("CREATE TABLE orders (item TEXT)")
    with pytest.raises(AnalyticsError, match=r'cannot be used for analytics: .*"?orders"? already'):
        AnalyticsWriter(place.url, spill)
    assert place.names() == {"orders"}


def test_first_starts_at_once(place: Place, tmp_path: Path) -> None:
    def start(number: int) -> None:
        with AnalyticsWriter(place.url, tmp_path / f"spill{number}", batch_rows=100) as writer:
            add_bars(writer, range(30))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(start, range(4)))
    assert whole_bars(place.tables()) == 30
