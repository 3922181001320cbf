"""The analytics database against real SQLite and PostgreSQL."""

# ruff: noqa: PT012 - leaving the writer's block is what raises

from __future__ import annotations

import gc
import math
import random
import shlex
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from optimizer.analytics.address import AnalyticsError
from optimizer.analytics.reader import open_reader
from optimizer.analytics.spill import import_spill
from optimizer.analytics.writer import AnalyticsWriter
from tests.support.databases import Place, expected, lite, postgres, started, wait_until, whole_bars
from tests.support.rows import PORTFOLIOS, add_bars, rows_of_bar

if TYPE_CHECKING:
    from tests.support.postgres import PostgresServer

ROOT = Path(__file__).resolve().parents[3]


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
        (1, '{"file": "barsweep analytics spill", "schema": "1"}', "line 1: schema 1, .* loads 5"),
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
