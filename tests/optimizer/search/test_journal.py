"""The journal alone: what is in Optuna's file, and when."""

from __future__ import annotations

import os
from pathlib import Path

import optuna
import pytest
from optuna.distributions import IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial

from optimizer.errors import StudyError
from optimizer.search.journal import Journal
from optimizer.store.folder import StudyFolder
from optimizer.study_file.study import Study, study_from_dict
from tests.support.studies import mapping


def study_of(*objective: str) -> Study:
    return study_from_dict(mapping(search={"objective": list(objective)}))


def trial(lookback: int, *values: float) -> FrozenTrial:
    return create_trial(
        state=TrialState.COMPLETE if values else TrialState.FAIL,
        params={"lookback": lookback},
        distributions={"lookback": IntDistribution(1, 100)},
        values=list(values) or None,
    )


def read(folder: StudyFolder) -> optuna.Study:
    backend = JournalFileBackend(str(folder.journal_path))
    return optuna.load_study(study_name="small", storage=JournalStorage(backend))


def test_the_file_holds_the_trials_in_order(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    journal = Journal(folder, study_of("sharpe"))
    journal.add([trial(5, 1.0), trial(10)])
    journal.add([trial(15, 0.5)])
    study = read(folder)
    assert [one.params["lookback"] for one in study.trials] == [5, 10, 15]
    assert [one.state.name for one in study.trials] == ["COMPLETE", "FAIL", "COMPLETE"]
    assert [one.values for one in study.trials] == [[1.0], None, [0.5]]


def test_the_file_names_objectives_and_directions(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    Journal(folder, study_of("sharpe", "max_drawdown")).add([trial(5, 1.0, 0.2)])
    study = read(folder)
    assert [one.name for one in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert study.metric_names == ["sharpe", "max_drawdown"]


def test_the_disk_is_reached_once_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = StudyFolder(tmp_path)
    journal = Journal(folder, study_of("sharpe"))
    written = []
    append = JournalFileBackend.append_logs

    def counted(backend: JournalFileBackend, logs: list[dict[str, object]]) -> None:
        written.append(len(logs))
        append(backend, logs)

    monkeypatch.setattr(JournalFileBackend, "append_logs", counted)
    journal.add([trial(n, 1.0) for n in range(1, 9)])
    assert len(written) == 1
    assert len(read(folder).trials) == 8


def test_what_a_killed_process_left_is_replaced(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    Journal(folder, study_of("sharpe")).add([trial(5, 1.0)])
    left = folder.journal_path.read_bytes()
    folder.journal_path.write_bytes(left[:-10])
    os.symlink(folder.journal_path, f"{folder.journal_path}.lock")
    Journal(folder, study_of("sharpe")).add([trial(10, 2.0)])
    assert [one.params["lookback"] for one in read(folder).trials] == [10]
    assert [path.name for path in tmp_path.iterdir()] == [folder.journal_path.name]


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    folder.journal_path.mkdir()
    with pytest.raises(StudyError) as refused:
        Journal(folder, study_of("sharpe"))
    assert str(folder.journal_path) in str(refused.value)


def test_a_disk_that_fills_up_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = StudyFolder(tmp_path)
    journal = Journal(folder, study_of("sharpe"))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(JournalFileBackend, "append_logs", full)
    with pytest.raises(StudyError, match="No space left on device"):
        journal.add([trial(5, 1.0)])
