"""Walk-forward: what each window chooses, by a search of its own if need be, and the equity joined."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace

import pandas as pd

from optimizer.catalogue import METRICS
from optimizer.engine.workers import Workers
from optimizer.files import cannot_write, save
from optimizer.search.asker import new_asker
from optimizer.search.clock import Clock
from optimizer.search.loop import SearchLoop
from optimizer.search.progress import Tally
from optimizer.selection.next_set import next_set
from optimizer.selection.record import NextSet, Selection, Window
from optimizer.selection.sets import tile_of
from optimizer.selection.steering import needs_own_searches
from optimizer.selection.walk_forward import (
    next_blocks,
    stitched,
    stitched_sharpe,
    walk_forward_summary,
)
from optimizer.store.completeness import count_trials
from optimizer.store.folder import StudyFolder
from optimizer.store.names import FOLDS, WALK_FORWARD
from optimizer.store.query import best_sets
from optimizer.study_file.space import Space
from optimizer.study_file.study import Study
from optimizer.sweep.evaluate import evaluate
from optimizer.sweep.inputs import Inputs
from optimizer.sweep.tiles import TileResult

FOLLOWING = "next"
"""Folder of the search of the window after the last in-sample bar."""


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
    following = selection.next_set
    if own:
        search = WindowSearch(study, space, inputs, folder, pool)
        windows = [search.window(*one) for one in enumerate(selection.windows)]
        parts = [part for part in windows if part is not None]
        following = search.following()
    else:
        parts = [(window, folder) for window in selection.windows]
    selection = replace(selection, one_search_per_window=own, next_set=following)
    if not parts:
        return replace(selection, windows=())
    frame = stitched(space, inputs, parts, selection.windows[-1].stop, pool.regimes)
    path = folder.path / WALK_FORWARD
    save(path, lambda part: frame.to_parquet(part, index=False))
    return replace(
        selection,
        **walk_forward_summary([window for window, _ in parts]),
        stitched_sharpe=stitched_sharpe(frame, inputs.rules.returns_per_year),
    )


@dataclass(frozen=True, eq=False)
class WindowSearch:
    """Searches over training windows alone.

    Attributes:
        study: a study that has run.
        space: the parameter space of the study.
        inputs: the prepared inputs of the study.
        folder: the folder of the study.
        pool: workers of the study.
    """

    study: Study
    space: Space
    inputs: Inputs
    folder: StudyFolder
    pool: Workers

    def window(self, number: int, window: Window) -> tuple[Window, StudyFolder] | None:
        """The choice of one window, judged on the bars that it trades.

        Args:
            number: the number of the window, from 0.
            window: its bars.

        Returns:
            The window with its set, and the folder of its search; None where no set is feasible.
        """
        within = self._search(f"{number:02d}", window.train_start, window.train_stop)
        best = best_sets(within, self.study.search, 1)
        if best.empty:
            logging.getLogger("barsweep").warning(
                "walk-forward: no set is feasible over bars %d to %d; the set before, if any, goes on"
                " over bars %d to %d",
                window.train_start,
                window.train_stop - 1,
                window.start,
                window.stop - 1,
            )
            return None
        after = self._evaluated(best, window.train_start, window.start, window.stop).out_of_sample
        sharpe = float(after[0, METRICS.index("sharpe")])
        before = best["sharpe"].iloc[0]
        found = replace(
            window,
            number=int(best["set"].iloc[0]),
            in_sample=0.0 if pd.isna(before) else float(before),
            out_of_sample=0.0 if math.isnan(sharpe) else sharpe,
        )
        return found, within

    def following(self) -> NextSet | None:
        """The choice of the window that begins after the last in-sample bar.

        Returns:
            None where no set is feasible.
        """
        blocks = next_blocks(self.study.validation, len(self.inputs.bounds) - 1)
        start, split = self.inputs.bounds[blocks[0]], self.inputs.split
        within = self._search(FOLLOWING, start, split)
        best = best_sets(within, self.study.search, 1)
        if best.empty:
            return None
        whole = self._evaluated(best, self.inputs.first, split, split).in_sample[0]
        row = best.assign(**dict(zip(METRICS, whole.tolist(), strict=True)))
        return next_set(row, start, split, own_search=True)

    def _evaluated(self, row: pd.DataFrame, first: int, split: int, stop: int) -> TileResult:
        tile = tile_of(self.space, row)
        regimes = self.pool.regimes(tile.regime_keys()[0])
        return evaluate(self.inputs.window(first, split, stop), [tile], regimes)[0]

    def _search(self, name: str, start: int, stop: int) -> StudyFolder:
        """Search over the bars [start, stop) into a folder of its own, which is not shown the rest."""
        study, path = self.study, self.folder.path / FOLDS / name
        own = self.inputs.window(start, stop, stop)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(path, error) from None
        within = StudyFolder.create(path, self.folder.manifest(), overwrite=True)
        n_trials = count_trials(study, self.space)
        asker, tally = new_asker(study, self.space, n_trials), Tally(study.search, n_trials)
        try:
            with Workers(within.scratch_path, study, own, self.pool.count) as pool:
                # Part of a study that notes its own search: no max-test, and no note in the ledger.
                SearchLoop(study, self.space, own, within, pool, asker, tally, Clock(), None).run()
        finally:
            within.remove_scratch()
        return within
