"""The analytics database against real SQLite and PostgreSQL."""

# ruff: noqa: PT012 - leaving the writer's block is what raises

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import json
import math
import os
import random
import shlex
import signal
import sqlite3
import struct
import subprocess
import sys
import textwrap
import threading
import time
import traceback
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import sqlalchemy as sa

from optimizer.analytics import address, database, schema, tables
from optimizer.analytics.address import AnalyticsError
from optimizer.analytics.reader import open_reader
from optimizer.analytics.spill import import_spill
from optimizer.analytics.tables import TABLES
from optimizer.analytics.writer import AnalyticsWriter
from optimizer.flow.prepared import run_flow
from optimizer.sweep.single_set import single_set_study
from tests.support.rows import PORTFOLIOS, Tables, add_bars, rows_of_bar
from tests.support.studies import random_bars

if TYPE_CHECKING:
    from tests.support.postgres import PostgresServer

ROOT = Path(__file__).resolve().parents[3]


# --- Rows of a flow, and where they go ----------------------------------------------------------


def expected(bars: Sequence[int]) -> Tables:
    tables: Tables = {name: [] for name in TABLES}
    for bar in bars:
        for name, rows in rows_of_bar(bar).items():
            tables[name] += rows
    return {name: sorted(rows, key=str) for name, rows in tables.items()}


class Place:
    """A database, looked at by its driver alone."""

    def __init__(self, url: str, query: Callable[[str], list[tuple[Any, ...]]]) -> None:
        self.url = url
        self.query = query

    def tables(self) -> Tables:
        names = [n for n in TABLES if n in self.names()]
        return {n: sorted(self.query(f"SELECT * FROM {n}"), key=str) for n in names}

    def names(self) -> set[str]:
        lite = "SELECT name FROM sqlite_master WHERE type = 'table'"
        other = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        return {row[0] for row in self.query(lite if self.url.startswith("sqlite") else other)}

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else can write."""
        if self.url.startswith("sqlite"):
            connection = sqlite3.connect(sqlite_file(self.url), isolation_level=None)
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            finally:
                connection.execute("ROLLBACK")
                connection.close()
            return
        import asyncpg

        with asyncio.Runner() as runner:
            other = runner.run(asyncpg.connect(self.url))
            runner.run(other.execute("BEGIN; LOCK TABLE equity IN ACCESS EXCLUSIVE MODE"))
            try:
                yield
            finally:
                runner.run(other.execute("ROLLBACK"))
                runner.run(other.close())


def sqlite_file(url: str) -> str:
    return url.removeprefix("sqlite:///")


def lite(path: Path) -> Place:
    def query(text: str) -> list[tuple[Any, ...]]:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
            return list(connection.execute(text))

    return Place(f"sqlite:///{path}", query)


def postgres(server: PostgresServer) -> Place:
    name = server.new_database()
    return Place(server.url(name), lambda text: server.execute(name, text))


@pytest.fixture(params=["sqlite", "postgresql"])
def new_place(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Place]:
    if request.param == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres_server")
        return lambda: postgres(server)
    numbers = itertools.count()
    return lambda: lite(tmp_path / f"{next(numbers)} of a flow.db")


@pytest.fixture
def place(new_place: Callable[[], Place]) -> Place:
    return new_place()


@pytest.fixture
def spill(tmp_path: Path) -> Path:
    return tmp_path / "a spill.jsonl"


def wait_until(is_so: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def whole_bars(tables: Tables) -> int:
    """How many bars the tables hold; fails unless they are the first ones, each of them whole."""
    n_bars = len({row[1] for row in tables["bars"]})
    assert tables == expected(range(n_bars))
    return n_bars


# --- What goes in comes out ---------------------------------------------------------------------


def test_every_row_comes_back_as_it_was(place: Place, spill: Path) -> None:
    with AnalyticsWriter(place.url, spill, batch_rows=100) as writer:
        add_bars(writer, range(40))
        assert writer.failure is None
    assert place.tables() == expected(range(40))
    assert not spill.exists()


def test_floats_come_back_bit_for_bit(place: Place, spill: Path) -> None:
    random_bits = random.Random(7)
    values = [
        0.1 + 0.2,
        1 / 3,
        5e-324,
        sys.float_info.max,
        -sys.float_info.min,
        math.inf,
        -math.inf,
    ]
    values += [float(2**53), 1e22, 123456789012345.67, 0.0]
    while len(values) < 2_000:
        (value,) = struct.unpack("<d", random_bits.randbytes(8))
        if not math.isnan(value):
            values.append(value)
    rows = [("p", bar, np.float64(v), v, -v, 2.0) for bar, v in enumerate(values)]
    with AnalyticsWriter(place.url, spill) as writer:
        writer.add("equity", rows)
    stored = place.query("SELECT equity, cash, exposure FROM equity ORDER BY bar")
    for value, row in zip(values, stored, strict=True):
        # SQLite has no -0.0; adding 0.0 makes it 0.0 on both sides.
        for got, wanted in zip(row, (value, value, -value), strict=True):
            assert struct.pack("<d", got + 0.0) == struct.pack("<d", wanted + 0.0)


def test_rows_without_a_bar_are_written_when_all_went_well(place: Place, spill: Path) -> None:
    with AnalyticsWriter(place.url, spill) as writer:
        writer.add("portfolios", [("p", "h", "momentum", "none", "{}", "d")])
    assert place.query("SELECT portfolio_id FROM portfolios") == [("p",)]


def test_a_second_start_completes_what_the_first_wrote(place: Place, spill: Path) -> None:
    with AnalyticsWriter(place.url, spill) as writer:
        add_bars(writer, range(10))
    with AnalyticsWriter(place.url, spill, batch_rows=50) as writer:
        add_bars(writer, range(25))
    assert place.tables() == expected(range(25))


@pytest.mark.parametrize(("table", "place_in_row"), [("bars", 4), ("equity", 2), ("fills", 6)])
def test_other_rows_under_the_same_keys_are_refused(
    place: Place, spill: Path, table: str, place_in_row: int
) -> None:
    with AnalyticsWriter(place.url, spill) as writer:
        add_bars(writer, range(10))
    row = list(rows_of_bar(4)[table][-1])
    row[place_in_row] = np.nextafter(row[place_in_row], math.inf)
    writer = AnalyticsWriter(place.url, spill)
    writer.add(table, [tuple(row)])
    writer.add("portfolios", [("another", "h", "momentum", "none", "{}", "d")])
    writer.end_bar(4)
    with pytest.raises(AnalyticsError, match=f"table {table} holds another row under .*4"):
        writer.close()
    assert place.tables() == expected(range(10))
    assert len(spill.read_text().splitlines()) == 2


def test_wrong_rows_are_refused(tmp_path: Path, spill: Path) -> None:
    with AnalyticsWriter(f"sqlite:///{tmp_path}/a.db", spill) as writer:
        with pytest.raises(ValueError, match="no table 'bar'; expected one of portfolios, bars"):
            writer.add("bar", [])
        with pytest.raises(ValueError, match=r"rows of regimes are \(regime_id, .* another length"):
            writer.add("regimes", [("r", "k", 1, 0), ("r", "k", 1)])
    with pytest.raises(ValueError, match="closed"):
        writer.add("regimes", [])
    writer.close()


def test_nan_is_no_price(tmp_path: Path, spill: Path) -> None:
    with (
        pytest.raises(AnalyticsError, match=r"NOT NULL constraint failed: equity\.cash"),
        AnalyticsWriter(f"sqlite:///{tmp_path}/a.db", spill) as writer,
    ):
        writer.add("equity", [("p", 0, 1.0, math.nan, 0.0, 0.0)])


# --- Nothing is lost, nothing is half -----------------------------------------------------------


class StopThisError(Exception):
    pass


def test_an_exception_loses_no_bar(place: Place, spill: Path) -> None:
    with pytest.raises(StopThisError), AnalyticsWriter(place.url, spill) as writer:
        add_bars(writer, range(30))
        writer.add("bars", rows_of_bar(30)["bars"])
        raise StopThisError
    assert whole_bars(place.tables()) == 30


def test_an_interrupt_at_any_moment_loses_no_bar(
    new_place: Callable[[], Place], tmp_path: Path
) -> None:
    """The handler of Ctrl-C, called by a timer wherever the caller happens to be."""
    struck = False

    def strike(number: int, frame: object) -> None:
        nonlocal struck
        struck = True
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, strike)
    moments = random.Random(3)
    gc.collect()
    gc.disable()  # Python swallows what is raised within a callback of its garbage collector
    try:
        for number in range(6):
            place, ended, struck = new_place(), 0, False
            limits = {"max_rows_waiting": moments.choice([1, 500, 100_000]), "batch_rows": 200}
            with (
                pytest.raises(KeyboardInterrupt),
                AnalyticsWriter(place.url, tmp_path / f"spill{number}", **limits) as writer,
            ):
                signal.setitimer(signal.ITIMER_REAL, moments.uniform(0.001, 0.1))
                while not struck:
                    add_bars(writer, [ended])
                    ended += 1
                raise KeyboardInterrupt
            # The interrupt may strike just before a bar that was written is counted here.
            assert whole_bars(place.tables()) in (ended, ended + 1)
    finally:
        gc.enable()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


WRITE_FOR_EVER = """
import itertools, sys
from pathlib import Path
from optimizer.analytics.writer import AnalyticsWriter
from tests.support.rows import add_bars
url, spill = sys.argv[1:]
try:
    with AnalyticsWriter(url, Path(spill), max_rows_waiting=2_000, batch_rows=300) as writer:
        for bar in itertools.count():
            add_bars(writer, [bar])
            print(bar, flush=True)
except KeyboardInterrupt:
    sys.exit(130)
"""


def started(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_control_c_loses_no_bar(place: Place, spill: Path) -> None:
    process = started(WRITE_FOR_EVER, place.url, str(spill))
    assert process.stdout is not None
    for _ in range(20):
        process.stdout.readline()
    process.send_signal(signal.SIGINT)
    with process.stdout as output:
        rest = output.read().split()
    assert process.wait(timeout=60) == 130
    n_ended = int(rest[-1]) + 1 if rest else 20
    assert whole_bars(place.tables()) in (n_ended, n_ended + 1)


def test_a_kill_leaves_whole_bars(place: Place, spill: Path) -> None:
    """Each start meets the bars that the one before left."""
    moments = random.Random(11)
    n_bars = 0
    for _ in range(3):
        process = started(WRITE_FOR_EVER, place.url, str(spill))
        assert process.stdout is not None
        # Past what is there already, so that the kill strikes new bars.
        while int(process.stdout.readline()) < n_bars + 20:
            pass
        time.sleep(moments.uniform(0.0, 0.3))
        process.kill()
        process.stdout.close()
        process.wait(timeout=60)
        if place.url.startswith("postgresql"):  # its server may still finish the last commit
            name = place.url.rpartition("/")[2]
            active = f"SELECT 1 FROM pg_stat_activity WHERE datname = '{name}'"
            wait_until(lambda active=active: len(place.query(active)) == 1)  # type: ignore[misc]
        with open_reader(place.url) as reader:
            held = len(reader.equity(PORTFOLIOS[2]))
        assert whole_bars(place.tables()) == held >= n_bars
        n_bars = held
    assert n_bars > 20
    assert not spill.exists()


# --- Back-pressure ------------------------------------------------------------------------------


def test_a_slow_database_holds_the_flow_back(place: Place, spill: Path) -> None:
    n_rows = sum(map(len, rows_of_bar(1).values()))
    limit, n_bars = 20 * n_rows, 200
    ended = 0
    writer = AnalyticsWriter(place.url, spill, max_rows_waiting=limit, batch_rows=5 * n_rows)

    def feed() -> None:
        nonlocal ended
        for bar in range(n_bars):
            add_bars(writer, [bar])
            ended += 1

    feeder = threading.Thread(target=feed)
    with place.locked():
        feeder.start()
        wait_until(lambda: ended >= 20)
        time.sleep(0.3)
        # At most the limit waits: the bar that exceeds it blocks until rows are committed.
        assert ended == 20
    feeder.join(timeout=60)
    assert ended == n_bars
    writer.close()
    assert whole_bars(place.tables()) == n_bars


def test_a_bar_larger_than_the_limit_passes(place: Place, spill: Path) -> None:
    with AnalyticsWriter(place.url, spill, max_rows_waiting=1, batch_rows=1) as writer:
        add_bars(writer, range(5))
    assert whole_bars(place.tables()) == 5


def test_few_rows_are_committed_soon(place: Place, spill: Path) -> None:
    with AnalyticsWriter(place.url, spill) as writer:
        add_bars(writer, [0])
        wait_until(lambda: place.tables() == expected([0]))
        add_bars(writer, [1])
        wait_until(lambda: place.tables() == expected([0, 1]))


# --- Failure midway -----------------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_RETRY_SECONDS", (0.01,))
    monkeypatch.setattr(database, "_BUSY_SECONDS", 0.05)


def test_a_table_that_goes_midway(
    new_place: Callable[[], Place], place: Place, spill: Path, impatient: None
) -> None:
    with (
        pytest.raises(AnalyticsError) as caught,
        AnalyticsWriter(place.url, spill, batch_rows=1) as writer,
    ):
        add_bars(writer, range(30))
        wait_until(lambda: place.tables() == expected(range(30)))
        place.query("DROP TABLE fills")
        add_bars(writer, range(30, 45))
        wait_until(lambda: writer.failure is not None)
        add_bars(writer, range(45, 60))  # the flow goes on
    message = str(caught.value)
    assert "\n" not in message
    assert "fills" in message and "at bar 30:" in message
    n_rows = sum(sum(map(len, rows_of_bar(bar).values())) for bar in range(30, 60))
    assert f"the other {n_rows:,} rows are in {spill}" in message
    assert f"`barsweep analytics import '{spill}'`" in message
    assert isinstance(caught.value, OSError)

    # The database has the bars before, the file the others, and neither has half a bar.
    held = place.tables()
    assert "fills" not in held
    assert held == {n: rows for n, rows in expected(range(30)).items() if n != "fills"}
    other = new_place()
    assert import_spill(spill, other.url) == n_rows
    assert other.tables() == expected(range(30, 60))
    assert import_spill(spill, other.url) == 0
    assert other.tables() == expected(range(30, 60))


def test_a_failure_within_an_interrupt_is_told(
    tmp_path: Path, spill: Path, impatient: None
) -> None:
    place = lite(tmp_path / "a.db")
    with (
        pytest.raises(AnalyticsError, match="no such table") as caught,
        AnalyticsWriter(place.url, spill) as writer,
    ):
        place.query("DROP TABLE equity")
        add_bars(writer, range(3))
        raise KeyboardInterrupt
    assert isinstance(caught.value.__cause__, KeyboardInterrupt)


def test_the_message_is_a_command(tmp_path: Path, spill: Path, impatient: None) -> None:
    place = lite(tmp_path / "a.db")
    writer = AnalyticsWriter(place.url, spill)
    definition = place.query("SELECT sql FROM sqlite_master WHERE name = 'equity'")[0][0]
    place.query("DROP TABLE equity")
    add_bars(writer, range(3))
    with pytest.raises(AnalyticsError) as caught:
        writer.close()
    words = shlex.split(str(caught.value).rpartition("load them with `")[2].rstrip("`"))
    assert words == ["barsweep", "analytics", "import", str(spill)]
    place.query(definition)
    assert import_spill(Path(words[3])) > 0
    assert whole_bars(place.tables()) == 3


def test_a_folder_that_moved_takes_its_database_along(tmp_path: Path, impatient: None) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    place = lite(old / "a.db")
    with pytest.raises(AnalyticsError), AnalyticsWriter(place.url, old / "spill") as writer:
        definition = place.query("SELECT sql FROM sqlite_master WHERE name = 'equity'")[0][0]
        place.query("DROP TABLE equity")
        add_bars(writer, range(3))
    place.query(definition)
    old.rename(new)
    assert import_spill(new / "spill") > 0
    assert whole_bars(lite(new / "a.db").tables()) == 3
    assert not old.exists()


def test_a_database_locked_for_good(tmp_path: Path, spill: Path, impatient: None) -> None:
    place = lite(tmp_path / "a.db")
    with pytest.raises(AnalyticsError, match="database is locked"):  # noqa: SIM117
        with AnalyticsWriter(place.url, spill) as writer:
            add_bars(writer, range(5))
            wait_until(lambda: place.tables() == expected(range(5)))
            with place.locked():
                add_bars(writer, range(5, 20))
                wait_until(lambda: writer.failure is not None)
    import_spill(spill, place.url)
    assert whole_bars(place.tables()) == 20


def test_a_server_that_goes_for_good(
    postgres_server: PostgresServer, spill: Path, impatient: None
) -> None:
    place = postgres(postgres_server)
    try:
        with pytest.raises(AnalyticsError) as caught:  # noqa: SIM117
            with AnalyticsWriter(place.url, spill, max_rows_waiting=2_000, batch_rows=50) as writer:
                add_bars(writer, range(20))
                wait_until(lambda: place.tables() == expected(range(20)))
                postgres_server.stop()
                add_bars(writer, range(20, 200))
    finally:
        postgres_server.start()
    port = postgres_server.port
    assert f"postgresql://barsweep@127.0.0.1:{port}/analytics_" in str(caught.value)
    held = place.tables()
    assert held == expected(range(20))
    n_rows = import_spill(spill, place.url)
    assert whole_bars(place.tables()) == 200
    assert n_rows == sum(map(len, place.tables().values())) - sum(map(len, held.values()))
    assert import_spill(spill, place.url) == 0


def test_a_server_that_starts_again_is_waited_for(
    postgres_server: PostgresServer, spill: Path
) -> None:
    place = postgres(postgres_server)
    with AnalyticsWriter(place.url, spill, batch_rows=50) as writer:
        add_bars(writer, range(50))
        postgres_server.stop()
        try:
            add_bars(writer, range(50, 100))
        finally:
            postgres_server.start()
    assert whole_bars(place.tables()) == 100
    assert not spill.exists()


WRITE_WITH_LITTLE_ROOM = """
import resource, sys
from pathlib import Path
from optimizer.analytics.address import AnalyticsError
from optimizer.analytics.writer import AnalyticsWriter
from tests.support.rows import add_bars
url, spill, limit, n_bars = sys.argv[1:]
sys.dont_write_bytecode = True  # which Python would leave cut
n_ended = 0
try:
    with AnalyticsWriter(url, Path(spill), max_rows_waiting=2_000, batch_rows=500) as writer:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
        for bar in range(int(n_bars)):
            add_bars(writer, [bar])
            n_ended += 1
except AnalyticsError as error:
    print(n_ended, error)
    sys.exit(2)
"""


def test_a_full_disk(tmp_path: Path, spill: Path) -> None:
    """No file may grow past a limit that the database reaches before all bars are in it."""
    place = lite(tmp_path / "a.db")
    process = started(WRITE_WITH_LITTLE_ROOM, place.url, str(spill), "1000000", "300")
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 2, output
    assert output.startswith("300 ") and output.count("\n") == 1
    assert f"{tmp_path}/a.db: the analytics database failed at bar " in output
    n_bars = whole_bars(place.tables())
    assert 0 < n_bars < 300
    import_spill(spill, place.url)
    assert whole_bars(place.tables()) == 300


def test_a_disk_full_for_the_spill_file_too(tmp_path: Path, spill: Path) -> None:
    place = lite(tmp_path / "a.db")
    process = started(WRITE_WITH_LITTLE_ROOM, place.url, str(spill), "400000", "100000")
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 2, output
    assert int(output.split()[0]) < 1_000  # it stops, rather than lose what follows
    n_lost = int(output.partition(" rows are in ")[2].partition("; bar ")[2].split()[0])
    assert "(File too large) and is lost: free space there" in output
    assert whole_bars(place.tables()) < n_lost
    import_spill(spill, place.url)
    assert whole_bars(place.tables()) == n_lost


# --- The spill file -----------------------------------------------------------------------------


@pytest.fixture
def spilled(tmp_path: Path, spill: Path, impatient: None) -> Path:
    """A spill file with bars 0 to 9."""
    place = lite(tmp_path / "failed.db")
    with pytest.raises(AnalyticsError), AnalyticsWriter(place.url, spill) as writer:
        place.query("DROP TABLE equity")
        add_bars(writer, range(10))
    return spill


def test_a_spill_file_is_never_written_over(spilled: Path, tmp_path: Path) -> None:
    before = spilled.read_bytes()
    with pytest.raises(AnalyticsError, match="holds rows that an earlier flow could not write"):
        AnalyticsWriter(f"sqlite:///{tmp_path}/b.db", spilled)
    assert spilled.read_bytes() == before


def test_a_torn_end_is_left_out(spilled: Path, new_place: Callable[[], Place]) -> None:
    content = spilled.read_bytes()
    last = len(content.splitlines()[-1])
    for cut in (1, 2, last // 2, last):
        place = new_place()
        spilled.write_bytes(content[:-cut])
        import_spill(spilled, place.url)
        assert place.tables() == expected(range(9))


@pytest.mark.parametrize(
    ("line", "text", "message"),
    [
        (1, "{}", "line 1: this is not a spill file"),
        (1, '{"file": "barsweep analytics spill", "schema": "99"}', "line 1: schema 99"),
        (1, '{"file": "barsweep analytics spill", "schema": "1"}', "line 1: schema 1, .* loads 3"),
        (3, "[]", "line 3: these are not the rows of a bar"),
        (3, '{"bar": 1, "rows": {"nothing": [[1]]}}', "line 3: these are not the rows of a bar"),
        (
            3,
            '{"bar": 1, "rows": {"regimes": [["r", "k", 1]]}}',
            "line 3: these are not the rows of a bar",
        ),
        (3, "{", "line 3: these are not the rows of a bar"),
    ],
)
def test_a_damaged_spill_file(
    spilled: Path, tmp_path: Path, line: int, text: str, message: str
) -> None:
    lines = spilled.read_text().splitlines()
    lines[line - 1] = text
    spilled.write_text("\n".join(lines) + "\n")
    with pytest.raises(AnalyticsError, match=message) as caught:
        import_spill(spilled, f"sqlite:///{tmp_path}/b.db")
    assert str(spilled) in str(caught.value)


def test_a_missing_or_empty_spill_file(tmp_path: Path) -> None:
    with pytest.raises(AnalyticsError, match=r"none\.jsonl: .*No such file"):
        import_spill(tmp_path / "none.jsonl", f"sqlite:///{tmp_path}/b.db")
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(AnalyticsError, match=r"empty\.jsonl: .*not a spill file"):
        import_spill(tmp_path / "empty.jsonl", f"sqlite:///{tmp_path}/b.db")


# --- The schema ---------------------------------------------------------------------------------


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
    with pytest.raises(AnalyticsError, match="has schema 1, older than 3; any `barsweep flow`"):
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
            AnalyticsError, match="have schema 99, but this barsweep knows only 3 and earlier"
        ):
            act()
    assert place.query("SELECT count(*) FROM bars") == [(0,)]


def test_beside_another_program(place: Place, spill: Path) -> None:
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


# --- Addresses ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite://", "plain file"),
        ("sqlite:///:memory:", "plain file"),
        ("sqlite:///file:a.db?uri=true", "plain file"),
        ("sqlite:///a.db?mode=ro", "plain file"),
        ("mysql://u:hunter2@localhost/a", "'mysql' is not supported"),
        ("postgresql+psycopg://u:hunter2@localhost/a", r"'postgresql\+psycopg' is not supported"),
        ("hunter2", "cannot be read"),
        ("postgresql://u:hunter2@localhost:port/a", "cannot be read"),
        ("postgresql://u:hun@ter2@localhost/a", "cannot be read.*%40"),
        ("postgresql://u:hun@ter2/hunter2@localhost/a", "cannot be read.*%40"),
    ],
)
def test_bad_addresses(tmp_path: Path, url: str, message: str) -> None:
    for act in (
        lambda: AnalyticsWriter(url, tmp_path / "spill"),
        lambda: open_reader(url),
        lambda: import_spill(tmp_path / "spill", url),
    ):
        with pytest.raises(AnalyticsError, match=message) as caught:
            act()
        assert "ter2" not in str(caught.value)


def test_folders_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(AnalyticsError, match=r"none/a\.db: its folder does not exist"):
        AnalyticsWriter(f"sqlite:///{tmp_path}/none/a.db", tmp_path / "spill")
    with pytest.raises(AnalyticsError, match="none/spill: its folder does not exist"):
        AnalyticsWriter(f"sqlite:///{tmp_path}/a.db", tmp_path / "none" / "spill")


def test_a_file_that_is_no_database(tmp_path: Path, spill: Path) -> None:
    (tmp_path / "a.db").write_text("no database, but long enough to look like one\n" * 100)
    with pytest.raises(AnalyticsError, match=r"a\.db: cannot be used .*: file is not a database"):
        AnalyticsWriter(f"sqlite:///{tmp_path}/a.db", spill)
    with pytest.raises(AnalyticsError, match=r"a\.db: cannot be read: file is not a database"):
        open_reader(f"sqlite:///{tmp_path}/a.db")


@pytest.mark.parametrize("is_right", [True, False])
def test_a_password_is_never_shown(
    postgres_server: PostgresServer,
    spill: Path,
    impatient: None,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    is_right: bool,
) -> None:
    caplog.set_level("DEBUG")
    seen = []
    password = postgres_server.password if is_right else "plainpassword"
    right = postgres_server.url(postgres_server.new_database())
    name = right.rpartition("/")[2]
    wrong = [
        postgres_server.url(name, password=password + "x"),
        postgres_server.url("no_such_database"),
        postgres_server.url(name, password=password).replace(str(postgres_server.port), "1"),
        postgres_server.url(name, password=password).replace("127.0.0.1", "no.such.host.invalid"),
        f"postgresql://barsweep@127.0.0.1:{postgres_server.port}/{name}?password={urllib.parse.quote(password)}&x=1",
    ]
    for url in wrong:
        with pytest.raises(AnalyticsError) as caught:
            AnalyticsWriter(url, spill)
        seen.append(caught.value)
        with pytest.raises(AnalyticsError) as caught:
            open_reader(url)
        seen.append(caught.value)
    with pytest.raises(AnalyticsError) as caught, AnalyticsWriter(right, spill) as writer:
        postgres_server.execute(name, "DROP TABLE equity")
        add_bars(writer, range(3))
    seen.append(caught.value)
    assert "in the environment variable PGPASSWORD" in str(caught.value)
    texts = [caplog.text, *capfd.readouterr(), spill.read_text(), repr(writer.__dict__)]
    texts += ["".join(traceback.format_exception(error)) + repr(error) for error in seen]
    for text in texts:
        for secret in (
            password,
            postgres_server.password,
            sa.make_url(right).render_as_string(hide_password=False),
        ):
            assert secret not in text
        assert postgres_server.url("").partition("barsweep:")[2].partition("@")[0] not in text


# --- Reading ------------------------------------------------------------------------------------


def test_the_chain_of_a_fill(place: Place, spill: Path) -> None:
    with AnalyticsWriter(place.url, spill) as writer:
        add_bars(writer, range(6))
        stop = (
            *("s.p2.0000005.AAA.stop", None, "s.p2", 5, "AAA", "stop", -1.0, 2.0, 0.5, 3.0, 0.0),
            *("d.0000005.AAA.bar", "s.p2.0000002.AAA.order", 2.125),
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
    rows = [(f"r{n}", "p", n, "AAA", None, reason, None) for n, reason in enumerate(reasons)]
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
