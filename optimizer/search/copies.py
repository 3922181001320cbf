"""The search of a study on its in-sample bars, and on copies of them."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np

from kernels import layout
from optimizer.compile_cache import exclusive, kernels_folder, source_key
from optimizer.engine.compile import compile_kernels
from optimizer.engine.processes import remove_shared_memory
from optimizer.engine.workers import Workers
from optimizer.errors import StudyError, StudyFileError
from optimizer.files import cannot_write
from optimizer.market.feature_keys import lookbacks, read_name
from optimizer.search.account_checks import check_account
from optimizer.search.asker import new_asker
from optimizer.search.calibration_files import Winner
from optimizer.search.clock import Clock
from optimizer.search.edge_free import EdgeFree
from optimizer.search.loop import SearchLoop
from optimizer.search.preflight import Estimate, estimate
from optimizer.search.prepare import study_inputs, worker_count
from optimizer.search.progress import Tally
from optimizer.search.run import study_manifest
from optimizer.selection.odds import known
from optimizer.selection.p_values import family_wise
from optimizer.selection.tried import known_draws, search_of
from optimizer.store import ledger
from optimizer.store.completeness import count_trials
from optimizer.store.folder import StudyFolder
from optimizer.store.query import best_sets
from optimizer.study_file.bars import load_study_bars
from optimizer.study_file.space import Space, build_space
from optimizer.study_file.spans import in_bars
from optimizer.study_file.study import Study
from optimizer.study_file.tables import SIDE_FILES
from optimizer.sweep.inputs import (
    Inputs,
    feature_keys,
    holdout_bar,
    require_warm_up,
    study_warm_up,
)
from optimizer.sweep.rules import study_rules
from optimizer.sweep.try_signals import try_signals
from optimizer.types import Bars, Float32Array
from optimizer.versions import software_versions

LEAST_BLOCK, MOST_BLOCK = 1.0, 20.0
"""Bounds of the mean length of a block that is not given, bars."""

_STREAM = 7
"""Separates the random numbers of copies from others with the study's seed."""

_log = logging.getLogger("barsweep")


def default_block(space: Space) -> float:
    """The mean length of a block: half of the shortest lookback, within ``LEAST_BLOCK``, ``MOST_BLOCK``.

    A block shorter than a lookback breaks the trends that a signal with it follows; a longer one keeps
    them, and with them the edge that a copy must not have. The longer the blocks, the more they keep of
    calm and wild times.

    Args:
        space: the parameter space of the study.

    Returns:
        Bars.
    """
    # What is computed on longer bars is long.
    keys = [key for key in feature_keys(space) if read_name(key[0]).timeframe is None]
    found = [one for key in keys for one in lookbacks(key)]
    half = min(found, default=2 * int(MOST_BLOCK)) / 2.0
    return min(max(half, LEAST_BLOCK), MOST_BLOCK)


class CopySearches:
    """The search of a study on its in-sample bars, which is number 0, and on their copies.

    Args:
        study: the study.
        mean_block: mean length of a block of bars; None takes ``default_block``.
        workers: number of processes, 0 for one per core; None takes the study's.

    Attributes:
        mean_block: mean length of a block of bars.

    Raises:
        DataError: the bars cannot be used.
        StudyFileError: the study has one of ``SIDE_FILES``, starts warm, ends by the
            clock, or cannot trade the bars.
    """

    def __init__(self, study: Study, mean_block: float | None, workers: int | None) -> None:
        for name in SIDE_FILES:
            if getattr(study.data, name) is not None:
                raise StudyFileError(
                    f"{study.source}: [data] {name}: its rows belong to times, at which a copy has other"
                    " bars; leave it out to calibrate"
                )
        if study.search.warm_start is not None:
            raise StudyFileError(
                f"{study.source}: [search] warm_start: a copy of the bars has no earlier search to start"
                " from; leave it out to calibrate"
            )
        if study.search.max_seconds is not None:
            raise StudyFileError(
                f"{study.source}: [search] max_seconds: searches that end by the clock cannot be"
                " compared; leave it out to calibrate, or use stop_after"
            )
        bars = load_study_bars(study)
        study = in_bars(study, bars)
        check_account(study, bars)
        self._space = build_space(study)
        rules = study_rules(study, self._space, bars)
        first = study_warm_up(self._space, rules, bars)
        require_warm_up(bars, first)
        self._whole = study
        self._data_hash = bars.content_hash
        self._bars = bars.head(holdout_bar(bars, rules, first, study.validation.holdout))
        inside = study.validation.model_copy(update={"holdout": 0.0, "method": "none"})
        self._study = study.model_copy(update={"validation": inside})
        self._rules = study_rules(self._study, self._space, self._bars)
        self._edge_free = EdgeFree(
            self._bars, study.validation.benchmark, self._rules.rates[:, layout.RISK_FREE]
        )
        self.mean_block = default_block(self._space) if mean_block is None else float(mean_block)
        self._workers = worker_count(study, workers)
        self._compiled = False

    def terms(self) -> dict[str, object]:
        """What decides the results, in plain values."""
        return {
            "study": self._whole.name,
            "study_hash": self._whole.content_hash,
            "data_hash": self._data_hash,
            "files_hash": self._rules.files_hash,
            "mean_block": self.mean_block,
            "versions": software_versions(),
            "kernels": source_key(kernels_folder()),
        }

    def needs(self) -> Estimate:
        """What one search takes."""
        return estimate(self._study, self._space, self._bars, self._rules, self._workers)

    def run(self, number: int, path: Path) -> Winner:
        """Run one search, or what is left of it.

        Args:
            number: 0 for the study's own bars, else that of the copy.
            path: the folder in which it has its batches.

        Returns:
            Its best set.

        Raises:
            StudyError: the folder cannot be written.
        """
        bars = self._bars
        if number:
            random = np.random.default_rng([self._study.seed, _STREAM, number])
            bars = self._edge_free.copy(self.mean_block, random)
        rules = study_rules(self._study, self._space, bars)
        inputs = study_inputs(self._study, self._space, rules, bars)
        folder = _folder(path, self._study, bars, inputs)
        n_trials = count_trials(self._study, self._space)
        asker = new_asker(self._study, self._space, n_trials)
        tally = Tally(self._study.search, n_trials)
        try:
            with Workers(folder.scratch_path, self._study, inputs, self._workers) as pool:
                self._compile(inputs, pool)
                SearchLoop(
                    self._study, self._space, inputs, folder, pool, asker, tally, Clock(), None
                ).run()
        finally:
            folder.remove_scratch()
        draws = known_draws(tally.maxima)
        if not number:
            self._note(inputs, tally, draws)
        return _winner(folder, self._study, tally.distinct, draws)

    def _compile(self, inputs: Inputs, pool: Workers) -> None:
        """Once for all searches: they differ in numbers alone."""
        if self._compiled:
            return
        if self._study.workers.tile_seconds is None:
            try_signals(inputs, self._space)
        else:
            pool.try_signals()
        with exclusive():
            compile_kernels(inputs, self._space)
        self._compiled = True

    def _note(self, inputs: Inputs, tally: Tally, draws: Float32Array) -> None:
        """Note the search on the study's own bars, as the study itself does when it runs."""
        found = search_of(self._whole, inputs, tally.distinct)
        try:
            ledger.note(replace(found, data_hash=self._data_hash), draws)
        except StudyError as error:
            _log.warning("%s; this search is not in it", error)


def _folder(path: Path, study: Study, bars: Bars, inputs: Inputs) -> StudyFolder:
    """The folder of one search, with the batches that a search which was stopped has left."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from None
    folder = StudyFolder(path)
    if not folder.manifest_path.is_file():
        return StudyFolder.create(path, study_manifest(study, bars, inputs), overwrite=False)
    for process in folder.processes_left():
        remove_shared_memory(process)
    folder.remove_leftovers()
    return folder


def _winner(folder: StudyFolder, study: Study, n_sets: int, draws: Float32Array) -> Winner:
    best = best_sets(folder, study.search, 1)
    if best.empty:
        return Winner(n_sets=n_sets)
    row = best.iloc[0]
    alpha_t = known(row["alpha_t"])
    return Winner(
        n_sets=n_sets,
        number=int(row["set"]),
        objective=float(row[study.search.objective[0]]),
        alpha=known(row["alpha"]),
        alpha_t=alpha_t,
        p=family_wise(alpha_t, draws),
    )
