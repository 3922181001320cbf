"""Optuna's journal, written once a batch."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend
from optuna.storages.journal._file import BaseJournalFileLock

from optimizer.files import cannot_write
from optimizer.store.folder import StudyFolder
from optimizer.study_file.study import Study


class _Unlocked(BaseJournalFileLock):
    """Stands in for the journal's lock, which outlives a kill: the whole folder is locked."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


class _OneCommit(BaseJournalBackend):
    """A journal that is written when told to: one commit a batch, not one a trial."""

    def __init__(self, path: Path) -> None:
        self._file = JournalFileBackend(str(path), _Unlocked())
        self._logs: list[dict[str, Any]] = []
        self._n_written = 0

    def read_logs(self, log_number_from: int) -> list[dict[str, Any]]:
        # No one else writes: what is in the file has been read already.
        return self._logs[max(log_number_from - self._n_written, 0) :]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self._logs += logs

    def commit(self) -> None:
        """Write what was appended since."""
        if self._logs:
            self._file.append_logs(self._logs)
            self._n_written += len(self._logs)
            self._logs = []


def new_journal(folder: StudyFolder, study: Study) -> tuple[optuna.Study, _OneCommit]:
    """An empty journal in the place of what a former process left, which may be torn or locked."""
    try:
        for path in folder.path.glob(f"{folder.journal_path.name}*"):
            path.unlink()
        backend = _OneCommit(folder.journal_path)
        journal = optuna.create_study(
            study_name=study.name,
            directions=list(study.search.direction),
            storage=JournalStorage(backend),
        )
    except OSError as error:
        raise cannot_write(folder.journal_path, error) from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        journal.set_metric_names(list(study.search.objective))
    return journal, backend
