"""optuna-dashboard on a study: what it serves, and that the study does not notice."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import shutil
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from optimizer.errors import StudyError
from optimizer.search.progress import Progress
from optimizer.search.result import StudyResult
from optimizer.search.run import run_study
from optimizer.views.dashboard import dashboard_server
from tests.support.command import barsweep
from tests.support.processes import Command, wait_until
from tests.support.studies import result_hashes, small_study


@pytest.fixture(scope="module")
def result(data: Path) -> StudyResult:
    return run_study(small_study(data), out=data.parent / "out", workers=1)


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address of a dashboard that runs."""
    with dashboard_server(folder, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def ask(address: str, method: str = "GET") -> Any:
    request = urllib.request.Request(
        address, method=method, data=b"{}" if method != "GET" else None
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


def trials(address: str) -> list[dict[str, Any]]:
    """Every trial that it shows."""
    studies = ask(f"{address}/api/studies")["study_summaries"]
    assert [one["study_name"] for one in studies] == ["small"]
    found: list[dict[str, Any]] = ask(f"{address}/api/studies/{studies[0]['study_id']}")["trials"]
    return found


def comes_to(address: str, count: int) -> bool:
    """Whether it shows that number of trials; it looks again after two seconds at the earliest."""
    end = time.monotonic() + 30.0
    while len(trials(address)) != count:
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def test_it_shows_the_trials(result: StudyResult) -> None:
    before = sorted(result.folder.path.iterdir())
    with serving(result.folder.path) as address:
        shown = trials(address)
        with urllib.request.urlopen(f"{address}/dashboard/", timeout=60) as page:
            assert b"<html" in page.read().lower()
    recorded = [one["values"][0] for one in result.folder.trials()]
    assert [float(one["values"][0]) for one in shown] == recorded
    assert sorted(result.folder.path.iterdir()) == before


def test_the_command_says_where_it_is_and_ends_at_an_interrupt(
    result: StudyResult, tmp_path: Path
) -> None:
    command = Command("dashboard", result.folder.path, "--port", 0, output=tmp_path / "said")
    try:
        assert wait_until(lambda: "Ctrl-C" in command.text()), command.text()
        found = re.search(r"http://127\.0\.0\.1:\d+", command.text())
        assert found is not None
        assert len(trials(found[0])) == 10
    finally:
        command.signal(signal.SIGINT)
    assert command.wait() == 130
    assert "Traceback" not in command.text()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_it_changes_nothing(result: StudyResult, method: str) -> None:
    journal = result.folder.journal_path.read_bytes()
    with serving(result.folder.path) as address:
        number = ask(f"{address}/api/studies")["study_summaries"][0]["study_id"]
        with pytest.raises(urllib.error.HTTPError) as refused:
            ask(f"{address}/api/studies/{number}", method)
        assert refused.value.code == 403
        refused.value.close()
        assert len(trials(address)) == 10
    assert result.folder.journal_path.read_bytes() == journal


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:{}", 200),
        ("localhost:{}", 200),
        ("LOCALHOST:{}", 200),
        ("[::1]:{}", 200),
        ("stranger.example:{}", 403),
        ("127.0.0.1.stranger.example:{}", 403),
        ("localhost:1", 403),
        ("localhost", 403),
        ("", 403),
        ("127.0.0.1:{}@stranger.example", 403),
        (None, 403),
    ],
)
def test_only_this_machine_is_a_host(result: StudyResult, host: str | None, status: int) -> None:
    """A page of another site whose name leads to this machine (DNS rebinding) reads nothing."""
    with serving(result.folder.path) as address:
        port = int(address.rsplit(":", 1)[1])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.putrequest("GET", "/api/studies", skip_host=True)
        if host is not None:
            connection.putheader("Host", host.format(port))
        connection.endheaders()
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
    assert answer.status == status
    assert (b"small" in text) == (status == 200)


def test_a_study_that_runs_is_shown_and_comes_to_the_same(
    data: Path, result: StudyResult, tmp_path: Path
) -> None:
    """Asked after every batch, from the process that runs it, whose lock the folder has."""
    seen: list[tuple[int, bool]] = []
    with contextlib.ExitStack() as stack:
        addresses: list[str] = []

        def told(now: Progress) -> None:
            if not addresses:
                addresses.append(stack.enter_context(serving(tmp_path / "out")))
            seen.append((now.trials, comes_to(addresses[0], now.trials)))

        run = run_study(small_study(data), out=tmp_path / "out", workers=1, on_progress=told)
    assert seen == [(4, True), (8, True), (10, True)]
    assert result_hashes(run.folder) == result_hashes(result.folder)


def test_a_journal_that_is_replaced_is_read_again(result: StudyResult, tmp_path: Path) -> None:
    """As `barsweep resume` does."""
    shutil.copytree(result.folder.path, tmp_path / "out")
    journal = tmp_path / "out" / result.folder.journal_path.name
    with serving(tmp_path / "out") as address:
        assert len(trials(address)) == 10
        lines = journal.read_bytes().splitlines(keepends=True)
        part = journal.with_suffix(".new")
        part.write_bytes(b"".join(lines[:-3]))
        part.replace(journal)
        assert len(trials(address)) == 7  # at once: nothing of the previous one is kept
        with journal.open("ab") as file:  # the rest, and a line that is half written
            file.write(b"".join(lines[-3:]) + lines[-1][:20])
        assert comes_to(address, 10)


def test_mistakes_are_named(
    result: StudyResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = barsweep("dashboard", tmp_path, folder=tmp_path)
    assert done.returncode == 2
    assert "no study here" in done.stderr
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "optuna_dashboard", None)
        done = barsweep("dashboard", result.folder.path, folder=tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "pip install 'barsweep[dashboard]'" in done.stderr
    with (
        dashboard_server(result.folder.path, 0) as server,
        pytest.raises(StudyError, match=f"--port {server.server_port}"),
    ):
        dashboard_server(result.folder.path, server.server_port)
    shutil.copytree(result.folder.path, tmp_path / "out")
    (tmp_path / "out" / result.folder.journal_path.name).unlink()
    with pytest.raises(StudyError, match="no trials yet"):
        dashboard_server(tmp_path / "out", 0)
