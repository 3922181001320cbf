"""Which code may run: the files that this user has named, or approved with ``--trust``.

A study's folder and an export name the file of a strategy, and whoever made them chose it. So a file
runs only if its content is known here by its hash: because the user named it (a study file on the
command line, a path in Python), or approved it. What is approved is kept in a file next to the
ledger, one line each, which only its owner may read and write. The address of a cluster, whose
scheduler can run code here, is approved the same way.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from optimizer.errors import StudyError, UntrustedCodeError
from optimizer.files import add_private_line, ledger_path, read_private
from optimizer.text import path_text

_HINT = "read it, then add --trust (trust=True in Python)"
_LINE = re.compile(r"([0-9a-f]{64}) ")

_approved: set[str] = set()
"""Hashes approved in this process; for those that another process approved see the file."""

_accepted: set[str] = set()
"""Those of them that the parent of this worker approved."""

_told: set[str] = set()
"""Problems with the file that were warned of already."""


def approvals_path() -> Path:
    """The path of the file of approvals, next to the ledger.

    Raises:
        StudyError: the user has no home folder, or the ledger's path is not absolute.
    """
    ledger = ledger_path()
    return ledger.with_name(f"{ledger.name}.approved")


def approve(what: str | Path, content_hash: str) -> None:
    """Approve code for good, because the user named it or asked for it.

    Where the file of approvals cannot be used, that holds for this process only, and one warning
    says so.

    Args:
        what: the file, or the cluster; kept for whoever reads the file of approvals.
        content_hash: SHA-256 of the code.
    """
    _approved.add(content_hash)
    try:
        if content_hash in _kept():
            return
        when = datetime.now(UTC).isoformat(timespec="seconds")
        add_private_line(approvals_path(), f"{content_hash} {when} {json.dumps(str(what))}")
    except (OSError, StudyError, ValueError) as error:
        _warn(error, "so what you approve holds until this process ends")


def accept(hashes: Iterable[str]) -> None:
    """In a worker: take over what its parent may run.

    Args:
        hashes: the hashes of code that passed ``require_approval`` in the parent.
    """
    taken = set(hashes)
    _approved.update(taken)
    _accepted.update(taken)


def is_accepted(content_hash: str) -> bool:
    """Whether this is a worker whose parent has told the user that the code runs.

    Args:
        content_hash: SHA-256 of the code.
    """
    return content_hash in _accepted


def is_approved(content_hash: str) -> bool:
    """Whether code may run.

    Args:
        content_hash: SHA-256 of the code.
    """
    if content_hash in _approved:
        return True
    try:
        return content_hash in _kept()
    except (OSError, StudyError, ValueError) as error:
        _warn(error, "so nothing counts as approved")
        return False


def require_approval(path: Path, content_hash: str) -> None:
    """Refuse the file of a strategy that the user has neither named nor approved.

    Args:
        path: the path of the file.
        content_hash: SHA-256 of its content.

    Raises:
        UntrustedCodeError: it is not approved.
    """
    if not is_approved(content_hash):
        raise UntrustedCodeError(
            f"{path_text(path)}: code that never ran at your own request (hash {content_hash[:12]});"
            f" {_HINT}"
        )


def cluster_hash(backend: str, address: str | None) -> str:
    """The hash that stands for a cluster among the approvals.

    Args:
        backend: the ``backend`` of ``[workers]``.
        address: the ``address`` of ``[workers]``.
    """
    return hashlib.sha256(json.dumps(["cluster", backend, address]).encode()).hexdigest()


def _kept() -> set[str]:
    """Hashes in the file of approvals."""
    lines = read_private(approvals_path()).splitlines()
    return {match[1] for line in lines if (match := _LINE.match(line))}


def _warn(error: Exception, consequence: str) -> None:
    reason = str(error)
    if isinstance(error, OSError):
        reason = f"{error.filename or 'file of approvals'}: {error.strerror or error}"
    problem = f"approved strategies cannot be kept or read: {reason}"
    if problem not in _told:
        _told.add(problem)
        logging.getLogger("barsweep").warning("%s; %s", problem, consequence)
