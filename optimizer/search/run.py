"""Run a study from its file to its verdict."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from optimizer.compile_cache import exclusive, kernels_folder, source_key
from optimizer.engine.compile import compile_kernels
from optimizer.engine.coordination import Coordinator
from optimizer.engine.processes import remove_shared_memory
from optimizer.engine.workers import Workers
from optimizer.errors import StudyError
from optimizer.files import exclusive_use
from optimizer.search.asker import Asker, RecordedAsker, new_asker
from optimizer.search.loop import SearchLoop
from optimizer.search.noting import LedgerNotes
from optimizer.search.preflight import Estimate
from optimizer.search.prepare import PreparedStudy, prepare_study
from optimizer.search.progress import Progress, Tally
from optimizer.search.result import StudyResult
from optimizer.search.warm_start import warm_points, warm_tasks
from optimizer.search.windows import walk_forward_searches
from optimizer.selection.select import select
from optimizer.store.folder import StudyFolder
from optimizer.store.ledger_entries import bar_size
from optimizer.store.names import SCHEMA_VERSION
from optimizer.study_file.study import Study
from optimizer.sweep.inputs import Inputs
from optimizer.text import counted
from optimizer.types import Bars
from optimizer.versions import software_versions


def run_study(
    study: Study,
    *,
    out: str | Path | None = None,
    workers: int | None = None,
    overwrite: bool = False,
    on_start: Callable[[Estimate], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> StudyResult:
    """Run a study from its bars to its result files.

    >>> import optimizer
    >>> study = optimizer.load_study("study.toml")
    >>> result = optimizer.run_study(study, out="again", workers=1)
    >>> len(result.results())
    4

    Args:
        study: the study as `load_study` gives it.
        out: folder for the results, new or empty; None takes ``out/<study name>``.
        workers: number of processes, 0 for one per core; None takes the study's. Never changes a
            result.
        overwrite: whether to replace a study that ``out`` holds.
        on_start: called with the estimate before anything is computed.
        on_progress: called after every batch.

    Returns:
        The study and its folder, complete.

    Raises:
        DataError: the bars cannot be used.
        StudyError: the folder cannot be used, or the study needs more than the machine has.
    """
    path = Path("out") / study.name if out is None else Path(out)
    prepared = prepare_study(study, path, workers, on_start)
    manifest = study_manifest(prepared.study, prepared.bars, prepared.inputs)
    manifest["warm_start"] = warm_points(prepared.study, prepared.space, manifest["holdout_time"])
    with exclusive_use(path):
        coordinator = _coordinator(prepared, path)
        if overwrite:
            for process in StudyFolder(path).processes_left():
                remove_shared_memory(process)
        folder = StudyFolder.create(path, manifest, overwrite=overwrite)
        return carry_out(prepared, folder, on_progress, coordinator)


def carry_out(
    prepared: PreparedStudy,
    folder: StudyFolder,
    on_progress: Callable[[Progress], None] | None,
    coordinator: Coordinator | None = None,
) -> StudyResult:
    """Evaluate the batches that the folder lacks, judge the winner, mark the study complete.

    The caller holds ``exclusive_use`` of the folder. With a coordinator the folder gets the points
    that this process was given, and the winner is the best of these.

    Args:
        prepared: the study.
        folder: the folder of the study, with a manifest and any number of its batches.
        on_progress: called after every batch, or None.
        coordinator: the coordinator of a study that several processes share, or None.

    Returns:
        The result of the complete study.

    Raises:
        StudyError: the folder cannot be written, or holds batches that this version does not ask.
    """
    study, space, inputs, clock = prepared.study, prepared.space, prepared.inputs, prepared.clock
    tally = Tally(study.search, prepared.needs.n_trials)
    told = LedgerNotes(study, inputs, tally, on_progress)
    try:
        with Workers(folder.scratch_path, study, inputs, prepared.needs.workers) as pool:
            if study.workers.tile_seconds is not None:
                pool.try_signals()
            with clock("compile"), exclusive():
                compile_kernels(inputs, space, prepared.ahead)
            with contextlib.ExitStack() as opened:
                if coordinator is not None:
                    opened.enter_context(coordinator)
                n_trials = prepared.needs.n_trials
                manifest = folder.manifest()
                most = manifest.get("n_batches")
                warm = warm_tasks(manifest.get("warm_start", ()), space, folder.manifest_path)
                asker: Asker = new_asker(study, space, n_trials, coordinator, warm)
                if manifest.get("merged"):
                    asker = RecordedAsker(space, folder, most or len(folder.batch_paths()))
                try:
                    SearchLoop(
                        study, space, inputs, folder, pool, asker, tally, clock, told, most
                    ).run()
                finally:
                    told.finish()
            if not folder.batch_paths():
                raise StudyError(
                    f"{folder.path}: other coordinators have done all"
                    f" {counted(prepared.needs.n_trials, 'trial')}; their results are in their folders"
                )
            # On one thread: on two, a matrix of some hundred rows takes 5 to 50 times as long, and the
            # last bits of a sum would depend on the number of cores.
            with clock("selection"), threadpool_limits(1), _selection_fits(study, folder):
                selection = select(study, space, inputs, folder, pool.regimes)
                if selection is not None and study.validation.method == "walk_forward":
                    selection = walk_forward_searches(study, space, inputs, folder, pool, selection)
                if selection is not None:
                    told.look(selection.look)  # before anybody can see it
                    selection.save(folder)
    finally:
        folder.remove_scratch()
    winner = None if selection is None else selection.sets[0].number
    done = {"complete": True, "winner": winner, "n_batches": len(folder.batch_paths())}
    folder.write_manifest({**folder.manifest(), **done})
    return StudyResult(study, folder, clock.finished())


@contextlib.contextmanager
def _selection_fits(study: Study, folder: StudyFolder) -> Iterator[None]:
    """Say what is too large where the memory is too small to judge the winner.

    By then all batches are written, and their size is not what this step needs.
    """
    try:
        yield
    except MemoryError:
        raise StudyError(
            f"{folder.path}: out of memory while the winner was judged, which takes memory for"
            f" {counted(folder.n_sets(), 'parameter set')} x {study.validation.blocks} blocks of bars;"
            " every batch is written: free memory or take a larger machine, then `barsweep resume"
            f" {shlex.quote(str(folder.path))}` goes on; or run a study of fewer trials or [validation]"
            " blocks"
        ) from None


def _coordinator(prepared: PreparedStudy, path: Path) -> Coordinator | None:
    study = prepared.study
    if study.search.storage is None:
        return None
    return Coordinator(
        study.search.storage,
        study.source,
        f"{study.content_hash} {prepared.bars.content_hash}",
        study.search.direction,
        str(path),
    )


def study_manifest(study: Study, bars: Bars, inputs: Inputs) -> dict[str, Any]:
    """What describes a study that has not run yet, see ``optimizer.store.manifest``.

    Args:
        study: the study.
        bars: the bars of the study.
        inputs: the prepared inputs of the study.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "study": study.to_dict(),
        "study_source": study.source,
        "study_folder": str(study.base_path),
        "overridden": list(study.overridden),
        "study_hash": study.content_hash,
        "data_path": str(study.data_path),
        "data_hash": bars.content_hash,
        "files_hash": inputs.rules.files_hash,
        "symbols": list(bars.symbols),
        "n_bars": bars.n_bars,
        "first_bar": inputs.first,
        "holdout_bar": inputs.split,
        "span": [str(bars.timestamps[i]) for i in (0, -1)],
        "first_time": str(bars.timestamps[inputs.first]),
        "holdout_time": str(bars.timestamps[inputs.split]) if inputs.split < bars.n_bars else None,
        "bars_per_year": bars.bars_per_year,
        "bar_ns": bar_size(bars.timestamps),
        "versions": software_versions(),
        "kernels": source_key(kernels_folder()),
        "coordinated": study.search.storage is not None,
        "complete": False,
    }
