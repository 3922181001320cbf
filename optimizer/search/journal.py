"""Optuna's journal, written once a batch."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend
from optuna.storages.journal._file import BaseJournalFileLock
from optuna.trial import FrozenTrial

from optimizer.files import cannot_write
from optimizer.store.folder import StudyFolder
from optimizer.study_file.study import Study


class _Unlocked(BaseJournalFileLock):
    """No lock: the whole folder is locked, and Optuna's lock would outlive a kill."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


class _OneCommit(BaseJournalBackend):
    """Backend of a journal that reaches the disk once a batch, not once a trial."""

    def __init__(self, path: Path) -> None:
        self._file = JournalFileBackend(str(path), _Unlocked())
        self._logs: list[dict[str, Any]] = []
        self._n_written = 0

    def read_logs(self, log_number_from: int) -> list[dict[str, Any]]:
        # No one else writes, so what is in the file has been read already.
        return self._logs[max(log_number_from - self._n_written, 0) :]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self._logs += logs

    def commit(self) -> None:
        """Write what was appended since the last commit."""
        if self._logs:
            self._file.append_logs(self._logs)
            self._n_written += len(self._logs)
            self._logs = []


class Journal:
    """The trials of a study as Optuna's own file, which optuna-dashboard and other tools read.

    Args:
        folder: the folder of the study; a journal that is there is replaced, since a process that
            was killed may have left it incomplete or locked.
        study: named in the journal, with its directions and objectives.

    Raises:
        StudyError: the file cannot be written.
    """

    def __init__(self, folder: StudyFolder, study: Study) -> None:
        self._path = folder.journal_path
        try:
            for path in folder.path.glob(f"{self._path.name}*"):
                path.unlink()
            self._backend = _OneCommit(self._path)
            self._journal = optuna.create_study(
                study_name=study.name,
                directions=list(study.search.direction),
                storage=JournalStorage(self._backend),
            )
        except OSError as error:
            raise cannot_write(self._path, error) from None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._journal.set_metric_names(list(study.search.objective))

    def add(self, trials: Sequence[FrozenTrial]) -> None:
        """Write the trials of one batch, in order.

        Args:
            trials: finished trials in the order of their numbers.

        Raises:
            StudyError: the file cannot be written.
        """
        try:
            self._journal.add_trials(trials)
            self._backend.commit()
        except OSError as error:
            raise cannot_write(self._path, error) from None
