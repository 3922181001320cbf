"""A host that a folder names is contacted only if the user knows it, and gets no password before."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from optimizer.analytics import reader, spill
from optimizer.analytics.address import AnalyticsError, parse_url
from optimizer.analytics.database import Database
from optimizer.analytics.recorded import note_database, recorded_database
from optimizer.analytics.schema import schema_versions
from optimizer.analytics.spill import import_spill
from optimizer.analytics.tables import TABLES
from optimizer.analytics.writer import AnalyticsWriter
from optimizer.cli import console
from optimizer.errors import BarsweepError
from optimizer.flow.folder import KIND, SCHEMA_VERSION, FlowFolder
from tests.support.command import barsweep

REMOTE = "postgresql://me@stranger.example/trace"
RECORD: dict[str, Any] = {
    "kind": KIND,
    "schema_version": SCHEMA_VERSION,
    "study": "small",
    "study_hash": "0" * 64,
    "data_hash": "1" * 64,
    "database": REMOTE,
    "portfolios": ["p"],
}


@pytest.fixture(autouse=True)
def own_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BARSWEEP_LEDGER", str(tmp_path / "data" / "ledger.db"))
    monkeypatch.setenv("PGPASSWORD", "s3cret-of-the-user")


def recorded(path: Path, **values: Any) -> Path:
    """A flow's folder with a record."""
    path.mkdir(exist_ok=True)
    (path / "flow.json").write_text(json.dumps({**RECORD, **values}))
    return path


def spilled(path: Path, url: str) -> Path:
    path.write_text(
        json.dumps({"file": "barsweep analytics spill", "schema": "5", "database": url})
    )
    return path


@contextlib.contextmanager
def stranger(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, list[bytes]]]:
    """A server to which the name ``stranger.example`` leads: its port, and what it was sent."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        ended = threading.Event()

        def listen() -> None:
            while not ended.is_set():
                with contextlib.suppress(TimeoutError):
                    connection, _ = server.accept()
                    with connection:
                        connection.settimeout(0.5)
                        heard.append(b"connected")
                        with contextlib.suppress(OSError):
                            heard.append(connection.recv(1000))

        thread = threading.Thread(target=listen)
        thread.start()
        real = socket.getaddrinfo

        def resolve(host: Any, *arguments: Any, **options: Any) -> Any:
            name = host.decode() if isinstance(host, bytes) else host
            return real("127.0.0.1" if name == "stranger.example" else host, *arguments, **options)

        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        try:
            yield server.getsockname()[1], heard
        finally:
            ended.set()
            thread.join()


def test_a_remote_host_hears_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("asyncpg")
    with stranger(monkeypatch) as (port, heard):
        url = f"postgresql://me@stranger.example:{port}/trace"
        recorded(tmp_path / "flow", database=url)
        spilled(tmp_path / "spill.jsonl", url)
        for arguments in (
            ("trace", "flow", "--rejects"),
            ("trace", "flow", "some.fill"),
            ("analytics", "import", "spill.jsonl"),
        ):
            done = barsweep(*arguments, folder=tmp_path)
            assert done.returncode == 2
            assert done.stderr.count("\n") == 1
            assert "stranger.example" in done.stderr and "--database" in done.stderr
            assert "s3cret" not in done.stdout + done.stderr
        assert heard == []
        # With the URL from the user the same host is contacted.
        done = barsweep("trace", "flow", "--rejects", "--database", url, folder=tmp_path)
        assert done.returncode == 2
        assert heard[0] == b"connected"


@pytest.mark.parametrize(
    "url",
    [
        REMOTE,
        "postgresql://me@192.0.2.1/trace",
        "postgresql://127.1/trace",
        "postgresql:///trace?host=stranger.example",
        "postgresql://127.0.0.1/trace?host=stranger.example",
        "postgresql:///trace?host=localhost,stranger.example",
        "postgresql:///trace?host=localhost&host=stranger.example",
        "postgresql://localhost/trace?dsn=postgresql://stranger.example/trace",
        "postgresql://localhost/trace?passfile=/etc/passwd",
        "postgresql://me@localhost/trace",
        "postgresql://127.0.0.1:5433/trace",
        "postgresql://[::1]/trace",
        "postgresql:///trace",
        "postgresql:///trace?host=/var/run/postgresql",
        "postgresql:///trace?host=/tmp/any",
        "sqlite:////etc/passwd",
        "sqlite:///../above.db",
        "sqlite:///flow/../../above.db",
    ],
)
def test_what_is_not_here_is_refused(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("asyncpg")
    monkeypatch.chdir(tmp_path)
    file = recorded(tmp_path / "flow", database=url) / "flow.json"
    with pytest.raises(AnalyticsError, match="no flow of yours has used") as refused:
        FlowFolder(tmp_path / "flow").database()
    assert str(file) in str(refused.value) and "--database" in str(refused.value)
    with pytest.raises(AnalyticsError, match="no flow of yours has used"):
        import_spill(spilled(tmp_path / "flow" / "spill.jsonl", url))


def test_a_file_in_the_folder_is_opened_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    url = "sqlite:///flow/own.db"
    recorded(tmp_path / "flow", database=url)
    assert FlowFolder(tmp_path / "flow").database() == url


def test_a_port_of_this_machine_hears_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user's program may listen there, and would be handed PGPASSWORD."""
    pytest.importorskip("asyncpg")
    with stranger(monkeypatch) as (port, heard):
        url = f"postgresql://bob@127.0.0.1:{port}/x"
        recorded(tmp_path / "flow", database=url)
        spilled(tmp_path / "spill.jsonl", url)
        for arguments in (("trace", "flow", "--rejects"), ("analytics", "import", "spill.jsonl")):
            done = barsweep(*arguments, folder=tmp_path)
            assert done.returncode == 2
            assert f"127.0.0.1:{port}" in done.stderr and "--database" in done.stderr
        assert heard == []


def test_a_link_in_the_folder_leads_out(tmp_path: Path) -> None:
    (tmp_path / "above.db").write_bytes(b"")
    folder = recorded(tmp_path / "flow", database=f"sqlite:///{tmp_path}/flow/own.db")
    (folder / "own.db").symlink_to(tmp_path / "above.db")
    with pytest.raises(AnalyticsError, match="no flow of yours has used"):
        FlowFolder(folder).database()
    recorded(folder, database=None)
    for name in ("analytics.db", "analytics.db-shm", "own.db-wal"):
        (folder / name).symlink_to(tmp_path / "above.db")
        with pytest.raises(BarsweepError, match=f"{name}: is a symbolic link"):
            FlowFolder(folder).database()
        (folder / name).unlink()


def test_what_this_user_has_used_is_opened_unasked(tmp_path: Path) -> None:
    """Whoever runs only flows of their own meets no question: a flow notes where it writes to."""
    pytest.importorskip("asyncpg")
    file = recorded(tmp_path / "flow") / "flow.json"
    note_database(parse_url("postgresql://me:s3cret@stranger.example/trace"))
    assert recorded_database(REMOTE, file) == REMOTE
    noted = tmp_path / "data" / "ledger.db.databases"
    assert noted.read_text() == f"{REMOTE}\n"
    assert noted.stat().st_mode & 0o077 == 0
    with pytest.raises(AnalyticsError):
        recorded_database("postgresql://me@stranger.example/another", file)


@pytest.mark.skipif(os.name != "posix", reason="owners of POSIX")
def test_a_note_that_others_could_have_written_counts_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("asyncpg")
    file = recorded(tmp_path / "flow") / "flow.json"
    note_database(parse_url(REMOTE))
    noted = tmp_path / "data" / "ledger.db.databases"
    for mode in (0o660, 0o604):
        noted.chmod(mode)
        with pytest.raises(AnalyticsError):
            recorded_database(REMOTE, file)
    noted.chmod(0o600)
    assert recorded_database(REMOTE, file) == REMOTE
    with monkeypatch.context() as patched:
        patched.setattr(os, "geteuid", lambda: noted.stat().st_uid + 1)
        with pytest.raises(AnalyticsError):
            recorded_database(REMOTE, file)
    noted.rename(tmp_path / "kept")
    noted.symlink_to(tmp_path / "kept")
    with pytest.raises(AnalyticsError):
        recorded_database(REMOTE, file)
    note_database(parse_url(REMOTE))
    assert noted.is_symlink() and (tmp_path / "kept").read_text() == f"{REMOTE}\n"


def test_a_confirmation_on_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("asyncpg")
    file = recorded(tmp_path / "flow") / "flow.json"
    asked: list[str] = []

    def answer(yes: bool) -> Callable[[str], bool]:
        def ask(question: str) -> bool:
            asked.append(question)
            return yes

        return ask

    with pytest.raises(AnalyticsError):
        recorded_database(REMOTE, file, answer(False))
    assert recorded_database(REMOTE, file, answer(True)) == REMOTE
    assert all("stranger.example" in question for question in asked)
    assert recorded_database(REMOTE, file, answer(False)) == REMOTE  # confirmed before
    assert len(asked) == 2


def test_without_a_terminal_the_answer_is_no(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return False

        def readline(self) -> str:
            return "y\n"

    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr(console.errors, "_force_terminal", True)
    assert not console.confirmed("open it?")
    monkeypatch.setattr(Terminal, "isatty", lambda _: True)
    assert console.confirmed("open it?")
    monkeypatch.setattr(Terminal, "readline", lambda _: "\n")
    assert not console.confirmed("open it?")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("study", 3), ("study", "a\x1b[2Jb"), ("study", ""), ("study_hash", "../x"),
        ("data_hash", None), ("portfolios", "p"), ("portfolios", [1]), ("portfolios", ["\u202ep"]),
        ("database", 1), ("database", ["sqlite:///x"]), ("database", "x" * 5000),
    ],
)  # fmt: skip
def test_a_record_of_wrong_values_names_file_and_key(key: str, value: Any, tmp_path: Path) -> None:
    recorded(tmp_path / "flow", **{key: value})
    done = barsweep("trace", "flow", "--rejects", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "flow/flow.json" in done.stderr and key in done.stderr
    assert all(c.isprintable() or c == "\n" for c in done.stderr)


def test_an_earlier_flow_with_links_is_not_replaced(tmp_path: Path) -> None:
    folder = recorded(tmp_path / "flow", database=None)
    (tmp_path / "outside").write_text("keep")
    (folder / "analytics.db-wal").symlink_to(tmp_path / "outside")
    with (
        pytest.raises(BarsweepError, match="symbolic link"),
        FlowFolder(folder)._replacing(overwrite=True),
    ):
        pass
    assert (tmp_path / "outside").read_text() == "keep"
    shutil.rmtree(folder)


# --- Schemas that are not barsweep's -------------------------------------------------------------

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"


def flow_database(folder: Path, *statements: str) -> Path:
    """A flow's folder with the tables of a trace, and what a stranger did to them."""
    recorded(folder, database=None)
    with AnalyticsWriter(f"sqlite:///{folder}/analytics.db", folder / "spill"):
        pass
    with contextlib.closing(sqlite3.connect(folder / "analytics.db")) as database:
        columns = {
            name: ", ".join(f"i AS {column.name}" for column in table.columns)
            for name, table in TABLES.items()
        }
        for statement in statements:
            database.execute(statement.format_map({"endless": ENDLESS, **columns}))
        database.commit()
    return folder


SCHEMAS = {
    "view": ["DROP TABLE fills", "CREATE VIEW fills AS {endless} SELECT {fills} FROM n"],
    "rejects": ["DROP TABLE rejects", "CREATE VIEW rejects AS {endless} SELECT {rejects} FROM n"],
    "capitals": ["DROP TABLE fills", "CREATE VIEW Fills AS {endless} SELECT {fills} FROM n"],
    "version": [
        "DROP TABLE barsweep_schema",
        "CREATE VIEW barsweep_schema AS {endless} SELECT i AS version_num FROM n",
    ],
    "trigger": [
        "CREATE TRIGGER t BEFORE INSERT ON bars BEGIN DELETE FROM fills; END",
    ],
    "virtual": ["DROP TABLE fills", "CREATE VIRTUAL TABLE fills USING fts5(fill_id, order_id)"],
    "computed": ["ALTER TABLE fills ADD COLUMN c TEXT AS (hex(zeroblob(1000000)))"],
}


@pytest.mark.parametrize("case", SCHEMAS)
def test_a_schema_that_would_run_a_strangers_code_is_refused(case: str, tmp_path: Path) -> None:
    folder = flow_database(tmp_path / "flow", *SCHEMAS[case])
    spilled(folder / "spill.jsonl", f"sqlite:///{folder}/analytics.db")
    with (folder / "spill.jsonl").open("a") as file:
        file.write('\n{"bar": 1, "rows": {}}\n')
    for arguments in (
        ("trace", "flow", "x"), ("trace", "flow", "--rejects"),
        ("analytics", "import", "flow/spill.jsonl"),
    ):  # fmt: skip
        done = barsweep(*arguments, folder=tmp_path)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert "which barsweep does not write" in done.stderr, done.stderr


def test_views_of_the_users_own_are_let_alone(tmp_path: Path) -> None:
    flow_database(tmp_path / "flow", "CREATE VIEW mine AS SELECT * FROM fills")
    assert barsweep("trace", "flow", "--rejects", folder=tmp_path).returncode == 0


def test_a_query_ends_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that no look at the schema foresees."""
    folder = flow_database(tmp_path / "flow", *SCHEMAS["rejects"])
    monkeypatch.setattr(reader, "refuse_foreign_schema", lambda *_: None)
    real = Database.allow
    monkeypatch.setattr(Database, "allow", lambda one, seconds=0.3: real(one, min(seconds, 0.3)))
    start = time.monotonic()
    with (
        reader.open_reader(f"sqlite:///{folder}/analytics.db") as opened,
        pytest.raises(AnalyticsError, match="cannot be read: a query takes more than 60 s"),
    ):
        opened.reject_counts()
    assert time.monotonic() - start < 20


STUCK = """
import sys
from optimizer.analytics import reader, database, spill
for module in (reader, database):
    module.refuse_foreign_schema = lambda *_: None
from optimizer.cli.main import main
print("ready", file=sys.stderr, flush=True)
main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("command", ["trace", "import"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_query(number: int, command: str, tmp_path: Path) -> None:
    """SQLite works in a thread of its own, for which the event loop would wait."""
    folder = flow_database(
        tmp_path / "flow",
        *SCHEMAS["rejects"],
        "CREATE TRIGGER t BEFORE INSERT ON bars BEGIN SELECT count(*) FROM rejects; END",
    )
    spilled(folder / "spill.jsonl", f"sqlite:///{folder}/analytics.db")
    row = ["b", 1, "t", "AAA", 1.0, 1.0, 1.0, 1.0, 1.0]
    with (folder / "spill.jsonl").open("a") as file:
        file.write("\n" + json.dumps({"bar": 1, "rows": {"bars": [row]}}) + "\n")
    arguments = (
        ["trace", "flow", "--rejects"]
        if command == "trace"
        else ["analytics", "import", "flow/spill.jsonl"]
    )
    with subprocess.Popen(
        [sys.executable, "-c", STUCK, *arguments], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            assert process.stderr.readline() == "ready\n"
            before = process_seconds(process.pid)
            while process_seconds(process.pid) < before + 2.0:  # by then it is in the query
                assert process.poll() is None, process.stderr.read()
                time.sleep(0.1)
            process.send_signal(number)
            said = process.communicate(timeout=20)[1]
        finally:
            process.kill()
    assert process.returncode == 128 + number
    assert said.strip() == ("terminated" if number == signal.SIGTERM else "interrupted")


def process_seconds(pid: int) -> float:
    """Processor time of a process."""
    return float(psutil.Process(pid).cpu_times().user)


def test_a_line_of_any_length_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = spilled(tmp_path / "spill.jsonl", f"sqlite:///{tmp_path}/own.db")
    file.write_text(file.read_text().replace('"2"', json.dumps(schema_versions()[-1])) + "\n")
    with file.open("a") as opened:
        opened.truncate(3_000_000_000)  # sparse: one line
    monkeypatch.setattr(spill, "_LONGEST_LINE", 1_000_000)
    done = barsweep("analytics", "import", "spill.jsonl", folder=tmp_path)
    assert done.returncode == 2
    assert "line 2: has more than 1 MB" in done.stderr
