"""The whole search of a study once more on copies of its bars that have no edge."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from optimizer.bars.permuted import permuted
from optimizer.compile_cache import exclusive, kernels_folder, source_key
from optimizer.engine.compile import compile_kernels
from optimizer.engine.processes import remove_shared_memory
from optimizer.engine.workers import Workers
from optimizer.errors import StudyError, StudyFileError
from optimizer.files import exclusive_use
from optimizer.search.account_checks import check_account
from optimizer.search.asker import new_asker
from optimizer.search.calibration_files import CalibrationFiles, Winner
from optimizer.search.clock import Clock
from optimizer.search.loop import SearchLoop
from optimizer.search.preflight import Estimate, estimate, refuse_what_cannot_fit
from optimizer.search.prepare import study_inputs, worker_count
from optimizer.search.progress import Tally
from optimizer.search.run import study_manifest
from optimizer.selection.p_values import family_wise
from optimizer.selection.tried import known_draws, search_of
from optimizer.store import ledger
from optimizer.store.completeness import count_trials
from optimizer.store.folder import StudyFolder
from optimizer.store.query import best_sets
from optimizer.study_file.bars import load_study_bars
from optimizer.study_file.space import Space, build_space
from optimizer.study_file.study import Study
from optimizer.sweep.inputs import Inputs, feature_keys, holdout_bar, study_warm_up
from optimizer.sweep.rules import study_rules
from optimizer.sweep.try_signals import try_signals
from optimizer.types import Bars, Float32Array
from optimizer.versions import software_versions

LEAST_BLOCK, MOST_BLOCK = 5.0, 20.0
"""Bounds of the mean length of a block that is not given, bars."""

MOST_COPIES = 1_000_000

SECONDS_PER_COPY = 0.5
"""Time that a search takes besides its parameter sets: features, files, workers."""

_STREAM = 7
"""Separates the random numbers of copies from others with the study's seed."""

_log = logging.getLogger("barsweep")


@dataclass(frozen=True)
class CalibrationPlan:
    """What a calibration will take.

    Attributes:
        needs: what one search takes.
        n_searches: searches that are left: that of the study and one for each copy.
        seconds: wall time, roughly.
        mean_block: mean length of a block of bars.
    """

    needs: Estimate
    n_searches: int
    seconds: float
    mean_block: float


@dataclass(frozen=True)
class Standing:
    """How often luck looks as good as the winner.

    Attributes:
        n_copies: number of copies.
        k: copies whose winner looked at least as good.
        p: (k + 1) / (n_copies + 1).
    """

    n_copies: int
    k: int
    p: float


@dataclass(frozen=True)
class Calibration:
    """A study's winner among those of the same search on copies of its bars without an edge.

    Attributes:
        study: name of the study.
        objective: its first objective.
        maximize: whether more of it is better.
        mean_block: mean length of a block of bars.
        own: the winner on the study's in-sample bars.
        copies: the winner on each copy.
        folder: where all of it is kept.
    """

    study: str
    objective: str
    maximize: bool
    mean_block: float
    own: Winner
    copies: tuple[Winner, ...]
    folder: Path

    @property
    def by_objective(self) -> Standing | None:
        """By the winner's in-sample objective; None where no set is feasible."""
        sign = 1.0 if self.maximize else -1.0
        return standing(
            None if self.own.objective is None else sign * self.own.objective,
            [None if one.objective is None else sign * one.objective for one in self.copies],
        )

    @property
    def by_alpha(self) -> Standing | None:
        """By the statistic of the winner's alpha; None where it has none."""
        return standing(self.own.alpha_t, [one.alpha_t for one in self.copies])


def standing(own: float | None, copies: list[float | None]) -> Standing | None:
    """How often copies reach a value.

    >>> standing(2.0, [1.0, 2.0, None])
    Standing(n_copies=3, k=1, p=0.5)

    Args:
        own: the value; None where there is none.
        copies: the values of the copies; None is lower than any.
    """
    if own is None:
        return None
    k = sum(one is not None and one >= own for one in copies)
    return Standing(len(copies), k, (k + 1) / (len(copies) + 1))


def default_block(space: Space) -> float:
    """The mean length of a block: half of the shortest lookback, within ``LEAST_BLOCK``, ``MOST_BLOCK``.

    A block shorter than a lookback breaks the trends that a signal with it follows. One of some bars
    keeps most of what calm and wild times have in common.

    Args:
        space: the parameter space of the study.

    Returns:
        Bars.
    """
    lookbacks = [lookback for name, lookback in feature_keys(space) if name != "close"]
    half = min(lookbacks, default=2 * int(MOST_BLOCK)) / 2.0
    return min(max(half, LEAST_BLOCK), MOST_BLOCK)


def calibrate(
    study: Study,
    *,
    copies: int = 100,
    mean_block: float | None = None,
    out: str | Path | None = None,
    workers: int | None = None,
    on_start: Callable[[CalibrationPlan], None] | None = None,
    on_search: Callable[[int], None] | None = None,
) -> Calibration:
    """Run the search of a study on its in-sample bars, and on copies of them that have no edge.

    A copy has the same bars in blocks of another order, see ``optimizer.bars.permuted``. What remains
    is what comes from holding: prices end where they ended. The holdout is not read. Copies are not
    noted in the ledger; the search on the study's own bars is. Started again with the same folder,
    it goes on, and ends with the results of one that was never stopped.

    Args:
        study: the study as `load_study` gives it.
        copies: number of copies.
        mean_block: mean length of a block of bars, 1 or more; None takes half of the shortest lookback,
            from 5 to 20.
        out: folder for the results; None takes ``out/<study name>-calibration``.
        workers: number of processes, 0 for one per core; None takes the study's. Never changes a
            result.
        on_start: called with the estimate before anything is computed.
        on_search: called with the number of searches that are left after each.

    Returns:
        The winners, and how the study's own stands among them.

    Raises:
        DataError: the bars cannot be used.
        StudyFileError: the study has a file of members or of finer bars.
        StudyError: the folder cannot be used, or the study needs more than the machine has.
    """
    if not 1 <= copies <= MOST_COPIES:
        raise StudyError(f"copies = {copies}; expected 1 to {MOST_COPIES:,}")
    if mean_block is not None and not 1.0 <= mean_block < float("inf"):
        raise StudyError(f"block = {mean_block:g}; expected bars, 1 or more")
    path = Path("out") / f"{study.name}-calibration" if out is None else Path(out)
    searches = _Searches(study, mean_block, workers)
    with exclusive_use(path):
        files = CalibrationFiles.open(path, searches.terms())
        left = [number for number in range(copies + 1) if files.winner(number) is None]
        needs = searches.needs()
        refuse_what_cannot_fit(needs, path)
        if on_start is not None:
            each = max(needs.seconds - 5.0, 0.0) + SECONDS_PER_COPY
            seconds = 5.0 + each * len(left) if left else 0.0
            on_start(CalibrationPlan(needs, len(left), seconds, searches.mean_block))
        for done, number in enumerate(left, 1):
            files.keep(number, searches.run(number, files.search_path(number)))
            if on_search is not None:
                on_search(len(left) - done)
        own, *others = _all(files, copies + 1)
    if own.objective is None:
        raise StudyError(
            f"{path}: no parameter set of the study is feasible on its own bars; relax [search]"
            " constraints, and calibrate into another --out"
        )
    search = study.search
    return Calibration(
        study=study.name,
        objective=search.objective[0],
        maximize=search.direction[0] == "maximize",
        mean_block=searches.mean_block,
        own=own,
        copies=tuple(others),
        folder=path,
    )


def _all(files: CalibrationFiles, count: int) -> Iterator[Winner]:
    for number in range(count):
        winner = files.winner(number)
        assert winner is not None
        yield winner


class _Searches:
    """The search of a study on its in-sample bars, which is number 0, and on their copies."""

    def __init__(self, study: Study, mean_block: float | None, workers: int | None) -> None:
        for name in ("members", "fills"):
            if getattr(study.data, name) is not None:
                raise StudyFileError(
                    f"{study.source}: [data] {name}: its rows belong to times, at which a copy has other"
                    " bars; leave it out to calibrate"
                )
        bars = load_study_bars(study)
        check_account(study, bars)
        self._space = build_space(study)
        rules = study_rules(study, self._space, bars)
        first = study_warm_up(self._space, rules)
        self._whole = study
        self._data_hash = bars.content_hash
        self._bars = bars.head(holdout_bar(bars, rules, first, study.validation.holdout))
        inside = study.validation.model_copy(update={"holdout": 0.0, "method": "none"})
        self._study = study.model_copy(update={"validation": inside})
        self.mean_block = default_block(self._space) if mean_block is None else float(mean_block)
        self._workers = worker_count(study, workers)
        self._compiled = False

    def terms(self) -> dict[str, object]:
        """What decides the results, in plain values."""
        rules = study_rules(self._study, self._space, self._bars)
        return {
            "study": self._whole.name,
            "study_hash": self._whole.content_hash,
            "data_hash": self._data_hash,
            "files_hash": rules.files_hash,
            "mean_block": self.mean_block,
            "versions": software_versions(),
            "kernels": source_key(kernels_folder()),
        }

    def needs(self) -> Estimate:
        """What one search takes."""
        rules = study_rules(self._study, self._space, self._bars)
        return estimate(self._study, self._space, self._bars, rules, self._workers)

    def run(self, number: int, path: Path) -> Winner:
        """One search; ``path`` holds what it has on disk until it ends."""
        bars = self._bars
        if number:
            random = np.random.default_rng([self._study.seed, _STREAM, number])
            bars = permuted(bars, self.mean_block, random)
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
    path.mkdir(parents=True, exist_ok=True)
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
    alpha_t = None if pd.isna(row["alpha_t"]) else float(row["alpha_t"])
    return Winner(
        n_sets=n_sets,
        number=int(row["set"]),
        objective=float(row[study.search.objective[0]]),
        alpha=None if pd.isna(row["alpha"]) else float(row["alpha"]),
        alpha_t=alpha_t,
        p=family_wise(alpha_t, draws),
    )
