"""Resuming a study, and refusing to where it would not be the same study."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from optimizer.compile_cache import kernels_folder, source_key
from optimizer.engine.connect import require_cluster
from optimizer.engine.processes import remove_shared_memory
from optimizer.errors import BarsweepError, StrategyError, StudyError
from optimizer.files import exclusive_use
from optimizer.search.preflight import Estimate
from optimizer.search.prepare import prepare_study
from optimizer.search.progress import Progress
from optimizer.search.result import StudyResult
from optimizer.search.run import carry_out
from optimizer.selection.record import load_selection
from optimizer.store.completeness import count_batches
from optimizer.store.folder import StudyFolder
from optimizer.store.names import MISSING, PLATEAU, SCHEMA_VERSION, SELECTION
from optimizer.strategies.user import UserStrategy
from optimizer.strategies.user_classifier import UserClassifier
from optimizer.strategies.user_source import source_hash
from optimizer.study_file.bars import other_files
from optimizer.study_file.components import Readers
from optimizer.study_file.differences import differences
from optimizer.study_file.load import read_study_file
from optimizer.study_file.spans import in_bars
from optimizer.study_file.study import Study, recorded_study
from optimizer.sweep.rules import Rules
from optimizer.text import path_text
from optimizer.types import Bars
from optimizer.versions import software_versions

UNREADABLE = "cannot be read"
_RERUN = "rerun the study with another --out"


def resume_study(
    folder: str | os.PathLike[str],
    *,
    workers: int | None = None,
    trust: bool = False,
    on_start: Callable[[Estimate], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> StudyResult:
    """Continue a study after whatever ended it; the results are those of an undisturbed one.

    Batches that are on disk are told to the sampler again. What was not finished is asked and
    evaluated. A complete study is left as it is, but a batch of it that is missing or damaged is
    computed again.

    >>> import optimizer
    >>> len(optimizer.resume_study("out").results())  # a complete study is opened as it is
    4

    Args:
        folder: the folder that `run_study` wrote.
        workers: number of processes, 0 for one per core; None takes the study's. Never changes a
            result.
        trust: approve the strategy files and the cluster that the folder names, for good. You need
            not for what you ran yourself.
        on_start: called with the estimate of the whole study before anything is computed.
        on_progress: called once for what is on disk, and after every further batch.

    Returns:
        The study and its folder, complete.

    Raises:
        DataError: the bars cannot be used.
        UntrustedCodeError: you have neither run nor approved what the folder names.
        StudyError: there is no study, it is a window of another one, another process runs it, the
            study file, the bars or the software have changed since it started, or the folder cannot be
            written.
    """
    path = Path(folder)
    StudyFolder.open(path).refuse_window("resume")
    with exclusive_use(path):
        opened = StudyFolder.open(path)
        manifest = opened.manifest()
        try:
            study = recorded_study(manifest["study"], manifest["study_folder"])
            damage = None
            if manifest["complete"]:
                damage = opened.damage(count_batches(study, manifest)) or _unreadable(opened)
                if damage is None:
                    return StudyResult(study, opened)
            with _naming(damage):
                if manifest.get("coordinated"):
                    raise StudyError(
                        f"{path}: part of a study that several coordinators share ([search] storage):"
                        " run the study file again with another --out; it does what is left to do"
                    )
                refuse_other_software(path, manifest)
                if trust:
                    for one in study.user_code:
                        one.approve()
                study, written = _with_written_workers(path, manifest, study)
                study = study.called(_file_of(opened, manifest))
                if trust:
                    study.approve_cluster()
                require_cluster(study)
                for one in study.user_code:
                    one.require_approval()
        except (KeyError, TypeError) as error:
            raise StudyError(
                f"{opened.manifest_path}: {error} is missing or unusable, so the study cannot be"
                f" resumed; {_RERUN}"
            ) from None
        # Before the leftovers go: they name the processes, and this may be killed midway too.
        for process in opened.processes_left():
            remove_shared_memory(process)
        opened.remove_leftovers()
        with _naming(damage):
            prepared = prepare_study(
                study,
                path,
                workers,
                on_start,
                functools.partial(_refuse_changes, path, manifest, study, written),
            )
            refuse_changed_files(path, manifest, prepared.inputs.rules)
        if damage is not None:
            opened.write_manifest({**manifest, "complete": False})
            # Other damage is warned of where the batch is read again.
            if damage[1] in (MISSING, UNREADABLE):
                logging.getLogger("barsweep").warning("%s: %s; it is computed again", *damage)
        return carry_out(prepared, opened, on_progress)


def _file_of(folder: StudyFolder, manifest: Mapping[str, Any]) -> Path:
    """The file that a message about the study names: the study file, or the record where it is gone."""
    file = Path(manifest["study_folder"]) / Path(manifest["study_source"]).name
    return Path(path_text(file)) if file.is_file() else folder.manifest_path


def _unreadable(folder: StudyFolder) -> tuple[Path, str] | None:
    """The file of a study's verdict, or that of its plateau scores, if it is there and cannot be read."""
    try:
        load_selection(folder)
    except StudyError:
        return folder.path / SELECTION, UNREADABLE
    try:
        folder.results(["set", "score"])
    except StudyError:
        return folder.path / PLATEAU, UNREADABLE
    return None


@contextlib.contextmanager
def _naming(damage: tuple[Path, str] | None) -> Iterator[None]:
    """Name the damage to a complete study in the error that keeps it from being computed again."""
    try:
        yield
    except BarsweepError as error:
        if damage is None:
            raise
        raise StudyError(
            f"{damage[0]}: {damage[1]}, and it cannot be computed again: {error}"
        ) from None


def refuse_other_software(path: Path, manifest: Mapping[str, Any]) -> None:
    """Refuse a folder whose results this program might not have computed alike.

    Args:
        path: the folder of the study.
        manifest: its manifest.

    Raises:
        StudyError: names what differs.
    """
    if manifest["schema_version"] != SCHEMA_VERSION:
        raise StudyError(
            f"{path}: its files have version {manifest['schema_version']}, this program writes"
            f" {SCHEMA_VERSION}; {_RERUN}"
        )
    recorded, ours = manifest["versions"], software_versions()
    for name, version in ours.items():
        if recorded.get(name) != version:
            raise StudyError(
                f"{path}: started with {name} {recorded.get(name)}, this is {name} {version}, and"
                f" results might differ; install {name} {recorded.get(name)}, or {_RERUN}"
            )
    if manifest["kernels"] != source_key(kernels_folder()):
        raise StudyError(
            f"{path}: the source of barsweep's kernels has changed since the study started; {_RERUN}"
        )


def _with_written_workers(
    path: Path, manifest: Mapping[str, Any], study: Study
) -> tuple[Study, Study | None]:
    """Check that the manifest's copy of the study is unchanged, and read the study file.

    Returns:
        The study, and what its file says now; None if that is gone. ``[workers]``, which changes no
        result, is taken from the file.
    """
    if study.content_hash != manifest["study_hash"]:
        raise StudyError(
            f'{path}/study.json: its "study" has changed since the study started (its hash'
            f" differs); {_RERUN}"
        )
    file = Path(manifest["study_folder"]) / Path(manifest["study_source"]).name
    if not file.is_file():
        return study, None
    written = read_study_file(file, _as_recorded(study))
    if any(key.startswith("workers") for key in manifest["overridden"]):
        return study, written
    return study.model_copy(update={"workers": written.workers}), written


def _refuse_changes(
    path: Path, manifest: Mapping[str, Any], study: Study, written: Study | None, bars: Bars
) -> None:
    """Check that the bars and the study file, if it is there, are those that the study began with."""
    refuse_changed_bars(path, manifest, bars)
    if written is None:
        return
    overridden = {"workers", *manifest["overridden"]}
    # The record has the numbers that the bars settle.
    now_written = in_bars(written, bars).to_dict()
    for place, before, now in differences(study.to_dict(), now_written):
        keys = {".".join(place[:length]) for length in (1, 2)}
        if not keys & overridden:
            file = Path(manifest["study_folder"]) / Path(manifest["study_source"]).name
            raise StudyError(
                f"{path}: {file} has changed since the study started:"
                f" [{place[0]}] {' '.join(place[1:])} = {now!r}, it was {before!r}; restore it, or"
                f" {_RERUN}"
            )


def _as_recorded(study: Study) -> Readers:
    """Read what the study file names with the hash of each file now. Runs no code.

    Whatever else a file declares now does not matter: a changed file is refused by its hash.
    """

    def unknown(path: Path, name: str, what: str) -> StrategyError:
        return StrategyError(
            f"{path_text(path)}: {name} is no {what} of the study that was started; {_RERUN}"
        )

    def strategy(path: Path, name: str) -> UserStrategy:
        found = source_hash(path)
        for one in study.user_strategies:
            if one.name == name:
                where = str(path.resolve())
                return UserStrategy.of(replace(one.declaration, path=where, source_hash=found))
        raise unknown(path, name, "strategy")

    def classifier(path: Path, name: str) -> UserClassifier:
        found = source_hash(path)
        for one in study.user_code:
            if isinstance(one, UserClassifier) and str(one) == name:
                where = str(path.resolve())
                return UserClassifier(replace(one.declaration, path=where, source_hash=found))
        raise unknown(path, name, "classifier")

    return Readers(strategy, classifier)


def refuse_changed_files(path: Path, manifest: Mapping[str, Any], rules: Rules) -> None:
    """Refuse files beside the bars that are not those that the study had.

    Args:
        path: the folder of the study.
        manifest: its manifest.
        rules: what the files say now.

    Raises:
        StudyError: they differ; names them.
    """
    if rules.files_hash != manifest["files_hash"]:
        raise StudyError(
            f"{path}: {other_files(manifest['study'])}: changed since the study"
            f" started; restore the files, or {_RERUN}"
        )


def refuse_changed_bars(path: Path, manifest: Mapping[str, Any], bars: Bars) -> None:
    """Refuse bars that are not those that the study had.

    Args:
        path: the folder of the study.
        manifest: its manifest.
        bars: the bars as they are now.

    Raises:
        StudyError: they differ; says in what.
    """
    if bars.content_hash == manifest["data_hash"]:
        return
    span = [str(bars.timestamps[i]) for i in (0, -1)]
    for what, before, now in (
        ("symbols", manifest["symbols"], list(bars.symbols)),
        ("number of bars", manifest["n_bars"], bars.n_bars),
        ("span", manifest["span"], span),
    ):
        if before != now:
            change = f"the {what} was {before}, is {now}"
            break
    else:
        change = "prices or volumes differ"
    raise StudyError(
        f"{path}: the bars in {manifest['data_path']} have changed since the study started: {change};"
        f" restore them, or {_RERUN}"
    )
