"""Walk-forward: what each window chooses, by a search of its own if need be, and the equity joined."""

from __future__ import annotations

import logging
from dataclasses import replace

import pandas as pd

from optimizer.engine.workers import Workers
from optimizer.files import cannot_write, write_atomically
from optimizer.search.asker import new_asker
from optimizer.search.clock import Clock
from optimizer.search.loop import SearchLoop
from optimizer.search.progress import Tally
from optimizer.selection.record import Selection, Window
from optimizer.selection.steering import needs_own_searches
from optimizer.selection.walk_forward import stitched, stitched_sharpe, walk_forward_summary
from optimizer.store.completeness import count_trials
from optimizer.store.folder import StudyFolder
from optimizer.store.names import FOLDS, WALK_FORWARD
from optimizer.store.query import best_sets
from optimizer.study_file.space import Space
from optimizer.study_file.study import Study
from optimizer.sweep.inputs import Inputs


def walk_forward_searches(
    study: Study,
    space: Space,
    inputs: Inputs,
    folder: StudyFolder,
    pool: Workers,
    selection: Selection,
) -> Selection:
    """Complete the walk-forward of a study and write ``walk_forward.parquet``.

    Each window chooses among all sets of the study, or has a search of its own over its training
    bars, see ``needs_own_searches``.

    Args:
        study: a study that has run.
        space: the parameter space of the study.
        inputs: the prepared inputs of the study.
        folder: the folder of the study.
        pool: workers of the study.
        selection: the ``[selection]`` settings of the study, with the windows as they choose among
            all sets.

    Returns:
        The selection with the final windows; none where no set is feasible in any of them.

    Raises:
        StudyError: the folder cannot be written.
    """
    own = needs_own_searches(study, space)
    if own:
        windows = [
            _search_window(study, space, inputs, folder, number, window, pool.count)
            for number, window in enumerate(selection.windows)
        ]
        parts = [part for part in windows if part is not None]
    else:
        parts = [(window, folder) for window in selection.windows]
    if not parts:
        return replace(selection, windows=())
    frame = stitched(space, inputs, parts, pool.regimes)
    path = folder.path / WALK_FORWARD
    try:
        write_atomically(path, lambda part: frame.to_parquet(part, index=False))
    except OSError as error:
        raise cannot_write(path, error) from None
    return replace(
        selection,
        **walk_forward_summary([window for window, _ in parts]),
        one_search_per_window=own,
        stitched_sharpe=stitched_sharpe(frame, inputs.rules.returns_per_year),
    )


def _search_window(
    study: Study,
    space: Space,
    inputs: Inputs,
    folder: StudyFolder,
    number: int,
    window: Window,
    workers: int,
) -> tuple[Window, StudyFolder] | None:
    """The search over one training window, judged on the bars after it; None if nothing is feasible."""
    own = inputs.window(window.train_start, window.start, window.stop)
    path = folder.path / FOLDS / f"{number:02d}"
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from None
    within = StudyFolder.create(path, folder.manifest(), overwrite=True)
    n_trials = count_trials(study, space)
    asker, tally = new_asker(study, space, n_trials), Tally(study.search, n_trials)
    try:
        with Workers(within.scratch_path, study, own, workers) as pool:
            # Part of a study that notes its own search: no max-test, and no note in the ledger.
            SearchLoop(study, space, own, within, pool, asker, tally, Clock(), None).run()
    finally:
        within.remove_scratch()
    best = best_sets(within, study.search, 1)
    if best.empty:
        logging.getLogger("barsweep").warning(
            "walk-forward: no set is feasible over bars %d to %d; bars %d to %d are left out",
            window.train_start,
            window.start - 1,
            window.start,
            window.stop - 1,
        )
        return None
    chosen = int(best["set"].iloc[0])
    # The holdout of a window is its test block, which is in-sample of the study.
    ratios = best["sharpe"].iloc[0], within.holdout([chosen])["oos_sharpe"].iloc[0]
    before, after = (0.0 if pd.isna(value) else float(value) for value in ratios)
    found = replace(window, number=chosen, in_sample=before, out_of_sample=after)
    return found, within
