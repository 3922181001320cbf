"""A host that a folder names is contacted only if the user knows it, and gets no password before."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from optimizer.analytics.address import AnalyticsError, parse_url
from optimizer.analytics.recorded import note_database, recorded_database
from optimizer.analytics.spill import import_spill
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
        json.dumps({"file": "barsweep analytics spill", "schema": "3", "database": url})
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


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me@localhost/trace",
        "postgresql://127.0.0.1:5433/trace",
        "postgresql://[::1]/trace",
        "postgresql:///trace",
        "postgresql:///trace?host=/var/run/postgresql",
        "sqlite:///flow/own.db",
    ],
)
def test_what_is_here_is_opened_unasked(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("asyncpg")
    monkeypatch.chdir(tmp_path)
    recorded(tmp_path / "flow", database=url)
    assert FlowFolder(tmp_path / "flow").database() == url


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
