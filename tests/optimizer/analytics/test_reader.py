"""Reading an analytics database, of SQLite and of PostgreSQL."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import pytest

from optimizer.analytics.address import AnalyticsError
from optimizer.analytics.reader import open_reader
from optimizer.analytics.tables import TABLES
from optimizer.analytics.writer import AnalyticsWriter
from tests.support.databases import Place, expected, started, wait_until, whole_bars
from tests.support.rows import PORTFOLIOS, add_bars


def test_the_chain_of_a_fill(place: Place, spill: Path) -> None:
    with AnalyticsWriter(place.url, spill) as writer:
        add_bars(writer, range(6))
        stop = (
            *("s.p2.0000005.AAA.stop", None, "s.p2", 5, "AAA", "stop", -1.0, 2.0, 0.5, 3.0, 0.0),
            *("d.0000005.AAA.bar", "s.p2.0000002.AAA.order", 2.125, 1, "t5"),
        )
        writer.add("fills", [stop])
        writer.end_bar(5)
    tables = expected(range(6))

    def named(table: str, *key: Any) -> dict[str, Any]:
        row = next(r for r in tables[table] if set(key) <= set(r))
        return dict(zip(TABLES[table].columns.keys(), row, strict=True))

    with open_reader(place.url) as reader:
        chain = reader.chain("s.p2.0000004.BBB.fill")
        assert list(chain) == [
            *("fill", "order", "opening_order", "signal", "regime", "decision_bar", "bar"),
            *("equity", "portfolio"),
        ]
        assert chain["opening_order"] is None
        assert chain["fill"] == named("fills", "s.p2.0000004.BBB.fill")
        assert chain["order"] == named("orders", "s.p2.0000003.BBB.order")
        of_signal = named("signals", "s.k.0000003.BBB.signal")
        assert chain["signal"] == of_signal | {"features": {"sma_20": 1.25}}
        assert chain["regime"] == named("regimes", "s.c.0000003.regime")
        assert chain["decision_bar"] == named("bars", "t3", "BBB")
        assert chain["bar"] == named("bars", "t4", "BBB")
        assert chain["equity"] == named("equity", "s.p2", 4)
        assert chain["portfolio"]["parameters"] == {"lookback": 20}

        chain = reader.chain(stop[0])
        assert chain["fill"] == dict(zip(TABLES["fills"].columns.keys(), stop, strict=True))
        assert chain["order"] is None
        assert chain["opening_order"] == named("orders", "s.p2.0000002.AAA.order")
        assert chain["signal"]["signal_id"] == "s.k.0000002.AAA.signal"
        assert chain["regime"] == named("regimes", "s.c.0000002.regime")
        assert chain["decision_bar"] == named("bars", "t2", "AAA")
        assert chain["bar"] == named("bars", "t5", "AAA")

        assert reader.reject_counts() == [("no_edge", 12)]
        assert reader.reject_counts({"s.p1"}) == [("no_edge", 12)]
        assert reader.reject_counts({"s.p2", "another"}) == []
        assert [p["portfolio_id"] for p in reader.portfolios()] == list(PORTFOLIOS)
        columns = TABLES["equity"].columns.keys()
        own = sorted((row for row in tables["equity"] if row[0] == "s.p3"), key=lambda row: row[1])
        assert reader.equity("s.p3") == [dict(zip(columns, row, strict=True)) for row in own]

        near = (
            "no fill 's.p2.0000004.BBX'; the nearest are s.p2.0000004.BBB.fill and s.p2.0000005.AAA"
        )
        with pytest.raises(AnalyticsError, match=near):
            reader.chain("s.p2.0000004.BBX")
        with pytest.raises(AnalyticsError, match=r"the nearest are s\.p3\.0000005\.BBB\.fill$"):
            reader.chain("z'; DROP TABLE fills; --")
        with pytest.raises(
            AnalyticsError, match=r"no portfolio 'p'; there are s\.p1, s\.p2, s\.p3"
        ):
            reader.equity("p")


def test_rejects_are_counted_by_reason(place: Place, spill: Path) -> None:
    reasons = ["below_minimum"] * 3 + ["held"] * 5 + ["no_budget"] * 3
    rows = [(f"r{n}", "p", n, "AAA", None, reason, None, None) for n, reason in enumerate(reasons)]
    with AnalyticsWriter(place.url, spill) as writer:
        writer.add("rejects", rows)
    with open_reader(place.url) as reader:
        assert reader.reject_counts() == [("held", 5), ("below_minimum", 3), ("no_budget", 3)]
        with pytest.raises(AnalyticsError, match="no fill 'f'; it holds no fills"):
            reader.chain("f")
        with pytest.raises(AnalyticsError, match="there are none"):
            reader.equity("p")


def test_a_database_is_read_while_it_is_written(place: Place, spill: Path) -> None:
    with AnalyticsWriter(place.url, spill, batch_rows=1) as writer:
        add_bars(writer, range(5))
        wait_until(lambda: len(place.query("SELECT * FROM bars")) == 10)
        with open_reader(place.url) as reader:
            seen = 0
            for bar in range(5, 100):
                add_bars(writer, [bar])
                n_bars = len(reader.equity("s.p1"))
                assert seen <= n_bars <= bar + 1
                seen = n_bars
    assert whole_bars(place.tables()) == 100


def test_nothing_to_read(place: Place, tmp_path: Path) -> None:
    with pytest.raises(AnalyticsError, match=r"none\.db: no analytics database here"):
        open_reader(f"sqlite:///{tmp_path}/none.db")
    assert not (tmp_path / "none.db").exists()
    place.query("CREATE TABLE something (a INTEGER)")
    with pytest.raises(AnalyticsError, match="holds no analytics"):
        open_reader(place.url)


def test_the_module_needs_no_postgresql_driver(tmp_path: Path) -> None:
    code = """
        import sys
        from pathlib import Path
        sys.modules["asyncpg"] = None
        import importlib.util
        found = importlib.util.find_spec
        importlib.util.find_spec = lambda name: None if name == "asyncpg" else found(name)
        from optimizer.analytics.address import AnalyticsError
        from optimizer.analytics.writer import AnalyticsWriter
        AnalyticsWriter(f"sqlite:///{sys.argv[1]}/a.db", Path(sys.argv[1]) / "spill").close()
        try:
            AnalyticsWriter("postgresql://u:hunter2@h/a", Path(sys.argv[1]) / "spill")
        except AnalyticsError as error:
            print(error)
    """
    process = started(textwrap.dedent(code), str(tmp_path))
    output = process.communicate(timeout=60)[0]
    assert "install it with `pip install 'barsweep[postgres]'`" in output
    assert json.dumps(output).count("hunter2") == 0
