"""optuna-dashboard on the journal of a study, read-only, even while the study runs."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend

from optimizer.errors import StudyError
from optimizer.extras import optional_module
from optimizer.store.folder import StudyFolder

HOST = "127.0.0.1"


def dashboard_server(folder: str | os.PathLike[str], port: int = 8080) -> WSGIServer:
    """A server of optuna-dashboard (extra ``dashboard``), reachable from this machine only.

    It never writes to the study: a request that would change something gets status 403.

    Args:
        folder: the folder of the study, which may be running.
        port: the port to listen on; 0 takes a free one, see ``server_port`` of the server.

    Returns:
        The server; ``serve_forever()`` starts it.

    Raises:
        DataError: optuna-dashboard is not installed.
        StudyError: there is no study or no trial yet, or the port is not available.
    """
    opened = StudyFolder.open(Path(folder))
    wsgi = optional_module("optuna_dashboard", "dashboard").wsgi
    if not opened.journal_path.is_file():
        raise StudyError(f"{opened.path}: no trials yet; try again once the study has started")
    viewer = _Viewer(opened.journal_path, wsgi)
    try:
        return make_server(HOST, port, viewer, server_class=_Server, handler_class=_Quiet)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StudyError(
            f"--port {port}: cannot listen there: {reason}; give another, 0 takes a free one"
        ) from None


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


class _ReadOnly(BaseJournalBackend):
    """A journal that is read and never written, without a lock."""

    def __init__(self, path: Path) -> None:
        self._file = JournalFileBackend(str(path))

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        return self._file.read_logs(log_number_from)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        raise PermissionError("this view of the study is read-only")


def is_own_host(host: str, port: str) -> bool:
    """Whether the header ``Host`` of a request names this machine and the port.

    Args:
        host: the ``Host`` header of the request.
        port: the port of the server.
    """
    names = (f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}")
    # Browsers leave out the port of http itself.
    return host.lower() in (names if port != "80" else (*names, "localhost", "127.0.0.1", "[::1]"))


class _Viewer:
    """The WSGI application of optuna-dashboard, replaced when the journal is another file."""

    def __init__(self, path: Path, wsgi: Callable[[JournalStorage], Any]) -> None:
        self._path = path
        self._wsgi = wsgi
        self._lock = threading.Lock()
        self._file: tuple[int, int] | None = None
        self._application: Any = None

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        # A page of another site can have its own name resolve to this machine (DNS rebinding), and
        # would then read the study through the user's browser; its name stays in the header.
        if not is_own_host(environ.get("HTTP_HOST", ""), environ["SERVER_PORT"]):
            start_response("403 Forbidden", [("Content-Type", "application/json")])
            return [b'{"reason": "open this page as http://localhost or http://127.0.0.1"}']
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            start_response("403 Forbidden", [("Content-Type", "application/json")])
            return [b'{"reason": "this view of the study is read-only"}']
        with self._lock:
            application = self._current()
        answer: Iterable[bytes] = application(environ, start_response)
        return answer

    def _current(self) -> Any:
        """A study that is resumed or replaced gets a new journal, which is read from its start."""
        try:
            status = self._path.stat()
        except OSError:  # after the old one and before the new one
            return self._application
        file = (status.st_dev, status.st_ino)
        if file != self._file:
            self._application = self._wsgi(JournalStorage(_ReadOnly(self._path)))
            self._file = file
        return self._application
