"""Search again on newer bars, and keep the set that is traded unless the new one is better."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from optimizer.compile_cache import kernels_folder, source_key
from optimizer.errors import DataError, ExportError, StudyError
from optimizer.files import exclusive_use, save
from optimizer.review.records import judged
from optimizer.review.rerun import Terms
from optimizer.search.hysteresis import MARGIN, Decision, Standing, decide
from optimizer.search.preflight import Estimate
from optimizer.search.progress import Progress
from optimizer.search.reoptimization_files import (
    NOTE,
    STUDY,
    Note,
    NotedSet,
    ReoptimizationFiles,
    read_note,
)
from optimizer.search.result import StudyResult
from optimizer.search.resume import resume_study
from optimizer.search.run import run_study
from optimizer.search.traded_set import TradedSet
from optimizer.store.export import export_text, set_document
from optimizer.store.folder import StudyFolder
from optimizer.store.guards import check_output
from optimizer.store.query import best_sets, no_best
from optimizer.store.seal import with_open_holdout
from optimizer.study_file.bars import load_study_bars
from optimizer.study_file.spans import in_bars
from optimizer.study_file.study import Study, recorded_study
from optimizer.trading.plan import keep_bars
from optimizer.types import Bars
from optimizer.versions import software_versions

NEXT = "next.json"
"""The file of the set that is traded, by default."""


@dataclass(frozen=True, eq=False)
class Reoptimization:
    """A search on newer bars, and what became of the set that is traded.

    Attributes:
        note: the change note.
        path: the file of the set that is traded from now on.
        study: the folder of the search.
    """

    note: Note
    path: Path
    study: Path

    @property
    def changed(self) -> bool:
        """Whether another set is traded from now on."""
        return self.note.outcome == "changed"


def reoptimize(
    study: Study,
    data: str | Path,
    *,
    out: str | Path | None = None,
    next_file: str | Path | None = None,
    bars: int | None = None,
    margin: float = MARGIN,
    workers: int | None = None,
    on_start: Callable[[Estimate], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Reoptimization:
    """Run a study on its rolling window up to the last bar of a file, and write the set to trade next.

    The set that is traded stays unless the best one of the window is better by more than a margin,
    in-sample on the window, by the objective of the study; see ``optimizer.search.hysteresis``. The
    search is a study like any other: it is in the ledger, and its holdout is sealed. Started again after
    whatever ended it, with the same bars it goes on, and ends as if nothing had happened; when it is
    complete it says again what it said.

    Args:
        study: the study as `load_study` gives it.
        data: a file of bars that goes on where those of the study ended.
        out: folder for the searches and the notes; None takes ``out/<study name>-reoptimized``.
        next_file: an export of one set (JSON or TOML): the set that is traded, which is replaced if the
            new one is better; written where it is missing. None takes ``next.json`` in the folder.
        bars: bars of the window; None takes as many as the study has on the file that it names, or, where
            ``[validation] anchored`` is true, all.
        margin: the fraction of the old set's value by which the new one must be better, 0 or more.
        workers: number of processes, 0 for one per core; None takes the study's. Never changes a result.
        on_start: called with the estimate before anything is computed.
        on_progress: called after every batch.

    Returns:
        The note, and where the set and the search are.

    Raises:
        DataError: the bars cannot be used, or are fewer than the window.
        ExportError: the file of the traded set cannot be used, or there is none and no set is feasible.
        StudyError: the folder cannot be used, or has notes of later bars; or the study cannot run.
    """
    if not 0.0 <= margin < math.inf:
        raise StudyError(f"--margin {margin:g}; expected a fraction, 0 or more")
    if study.search.storage is not None:
        raise StudyError(
            f"{study.source}: [search] storage: a reoptimisation is one process's; leave it out"
        )
    path = Path("out") / f"{study.name}-reoptimized" if out is None else Path(out)
    within, window = _window(study, Path(data), bars)
    with exclusive_use(path):
        files = ReoptimizationFiles.open(path, study.name)
        file = path / NEXT if next_file is None else Path(next_file)
        check_output(file, (".json", ".toml"), "the set to trade next")
        old = None if not file.exists() else TradedSet.read(file, study.name)
        software = json.dumps([software_versions(), source_key(kernels_folder())])
        settled = in_bars(within, window).content_hash
        place = files.window_path(window.timestamps[-1], window.content_hash, settled, software)
        _refuse_the_past(files, place, window)
        folder = _searched(within, window, place / STUDY, workers, on_start, on_progress)
        note = read_note(place / NOTE)
        digest = None if old is None else old.digest
        # The note is written before the file. Where the file is neither, somebody has changed it since.
        if (
            note is None
            or digest not in (note.old_file, note.new_file)
            or (note.margin, note.file) != (margin, str(file.absolute()))
        ):
            note = _note(folder, window, file, old, margin)
            files.keep(place, note)
        if digest != note.new_file:
            keep_bars(folder.path, file)
            text = _next_text(folder, file)
            save(file, lambda part: part.write_text(text, encoding="utf-8"))
        files.write_changes()
    return Reoptimization(note, file, folder.path)


def _window(study: Study, data: Path, n_bars: int | None) -> tuple[Study, Bars]:
    """The study on its window, and the bars of the window."""
    if n_bars is not None and n_bars < 2:
        raise StudyError(f"--bars {n_bars}; expected 2 or more")
    if data.is_dir():
        raise DataError(f"{data}: a folder; give one file of bars with --data FILE")
    if n_bars is None and not study.validation.anchored:
        try:
            n_bars = load_study_bars(study).n_bars
        except DataError as error:
            raise DataError(
                f"{error}; its number of bars is that of the window: name that by --bars N instead"
            ) from None
    path = os.path.relpath(data, study.base_path)
    every = load_study_bars(study.on(path, study.data.start, None))
    if n_bars is not None and n_bars > every.n_bars:
        raise DataError(
            f"{data}: {every.n_bars:,} bars are fewer than the {n_bars:,} of the window; give all, or"
            " a shorter window with --bars N"
        )
    first = 0 if n_bars is None else every.n_bars - n_bars
    start, end = (
        f"{every.timestamps[i].astype('datetime64[us]')}+00:00" for i in (first, every.n_bars - 1)
    )
    within = study.on(path, start, end)
    return within, load_study_bars(within)


def _refuse_the_past(files: ReoptimizationFiles, place: Path, window: Bars) -> None:
    """Refuse bars that end before those of a reoptimisation that has been: its set knows later ones."""
    for other, note in files.notes().items():
        if other != place and np.datetime64(note.end) > window.timestamps[-1]:
            raise DataError(
                f"{window.source}: ends {window.timestamps[-1]}, and {files.path} has reoptimised up to"
                f" {note.end}; give all bars up to now, or another --out"
            )


def _searched(
    study: Study,
    window: Bars,
    path: Path,
    workers: int | None,
    on_start: Callable[[Estimate], None] | None,
    on_progress: Callable[[Progress], None] | None,
) -> StudyFolder:
    """The study of the window, complete: run, gone on with, or found."""
    options: dict[str, Any] = {
        "workers": workers,
        "on_start": on_start,
        "on_progress": on_progress,
    }
    folder = StudyFolder(path)
    started = folder.manifest_path.is_file()
    if started and folder.manifest()["data_hash"] == window.content_hash:
        result: StudyResult = resume_study(path, **options)
    else:
        result = run_study(study, out=path, overwrite=started, **options)
    if result.folder.manifest()["data_hash"] != window.content_hash:
        raise DataError(f"{window.source}: changed while it was read; start again")
    return result.folder


def _note(
    folder: StudyFolder, window: Bars, file: Path, old: TradedSet | None, margin: float
) -> Note:
    """Compare the best set of the window with the one that is traded."""
    manifest = folder.manifest()
    terms = Terms.of_study(manifest)
    search = recorded_study(manifest["study"]).search
    best = best_sets(folder, search, 1)
    new_set = old_set = None
    was = None
    if old is not None:
        document = old.document
        was = Standing.of(search, document["parameters"], old.on(terms, window))
        old_set = _noted(document, was)
    if best.empty:
        if old is None:
            raise ExportError(f"{folder.path}: nothing to trade: {no_best(folder, search)}")
        decision = Decision(False, no_best(folder, search))
    else:
        document = set_document(best.to_dict("records")[0], manifest["study"])
        now = Standing.of(search, document["parameters"], document["in_sample"])
        new_set = _noted(document, now)
        decision = decide(search, was, now, margin)
        if old_set is not None and new_set.settings == old_set.settings:
            decision = Decision(False, "the search has found the same set again")
    before = None if old is None else old.digest
    after = before
    if decision.changed:
        after = hashlib.sha256(_next_text(folder, file).encode()).hexdigest()
    assert after is not None
    verdict = judged(folder).verdict
    outcome: Literal["changed", "kept"] = "changed" if decision.changed else "kept"
    return Note(
        study=manifest["study"]["study"]["name"],
        study_hash=manifest["study_hash"],
        data_hash=manifest["data_hash"],
        n_bars=manifest["n_bars"],
        start=manifest["span"][0],
        end=manifest["span"][1],
        holdout=manifest["holdout_time"],
        n_sets=folder.n_distinct(),
        objective=list(search.objective),
        margin=margin,
        outcome=outcome,
        why=decision.why,
        old=old_set,
        new=new_set,
        old_file=before,
        new_file=after,
        file=str(file.absolute()),
        verdict="none" if verdict is None else verdict.headline,
    )


def _noted(document: Mapping[str, Any], standing: Standing) -> NotedSet:
    return NotedSet(
        number=document["set"],
        strategy=document["strategy"],
        classifier=document["classifier"],
        parameters=document["parameters"],
        values=list(standing.values),
        broken=list(standing.broken),
    )


def _next_text(folder: StudyFolder, file: Path) -> str:
    """The export of the best set of a window."""
    search = recorded_study(folder.manifest()["study"]).search
    rows = with_open_holdout(folder, best_sets(folder, search, 1))
    return export_text(folder, rows, "toml" if file.suffix.lower() == ".toml" else "json", file)
