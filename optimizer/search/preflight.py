"""What a study will take, before it starts: parameter sets, memory, disk and time."""

from __future__ import annotations

import contextlib
import math
import shutil
from dataclasses import dataclass
from pathlib import Path

import psutil
from joblib import cpu_count

from optimizer.catalogue import METRICS
from optimizer.engine.compile import seconds_to_compile
from optimizer.errors import StudyError
from optimizer.selection.bootstrap import bootstrap_bytes
from optimizer.selection.select import RESAMPLES
from optimizer.selection.steering import needs_own_searches
from optimizer.selection.walk_forward import next_blocks, walk_forward_folds
from optimizer.store.completeness import count_trials
from optimizer.strategies.regime_values import REGIME_VALUES
from optimizer.study_file.space import Space
from optimizer.study_file.study import Study
from optimizer.study_file.tables import CLUSTERS
from optimizer.sweep.inputs import feature_keys
from optimizer.sweep.lanes import PROBABILITY_BYTES
from optimizer.sweep.rules import Rules
from optimizer.types import Bars

NS_PER_STEP = 2.5
"""Time of one bar, one symbol and one parameter set on one core, without features; measured by
`make bench`."""

NS_PER_FINER_STEP = 4.0
"""The same of one finer bar, in which stops, entries or the margin are watched."""

SECONDS_PER_TRIAL = {"tpe": 0.006, "cmaes": 0.003, "nsga2": 0.002}
"""Time that a sampler takes for a trial; of those that are not listed, less than 1 ms."""

SECONDS_PER_FIT = {"hmm": 0.005, "svm": 0.03}
"""Time of one fit of a regime model."""

SECONDS_PER_CALIBRATION = {"svm": 0.12}
"""What probabilities add to one fit."""

SECONDS_PER_OWN_FIT = 0.05
"""One fit of a user's classifier and its decisions until the next one; what it takes nobody knows."""

BYTES_PER_ROW = 355
"""One parameter set in a result file, compressed. Its return moments are 16 bytes a block more. Sets
that trade alike compress better."""

BYTES_PER_PART_ROW = 45
"""One parameter set of which ``store = "top"`` keeps a part, compressed."""

BYTES_PER_TRIAL = 8_700
"""One trial: its text twice in a result file, and once in the journal."""

BYTES_PER_BATCH = 30_000
"""What a result file holds apart from rows and trials."""

BYTES_PER_BAR = 110
"""One bar in ``selection.json``."""

MEMORY_PER_SET = 30
"""One parameter set in memory when the winner is judged."""

MEMORY_PER_BAR = 170
"""One bar in memory then: series of returns, with their times, besides the shared arrays."""

LIBRARY_BYTES = 245e6
"""Memory of the libraries, which the processes of one machine share."""

BYTES_PER_PROCESS = 120e6
"""Memory of one process of its own, compiled kernels included."""

MODEL_BYTES = 50e6
"""Memory of one process for the libraries that fit an SVM."""


@dataclass(frozen=True)
class Estimate:
    """What a study will take.

    Attributes:
        n_trials: trials, each of one tile.
        n_sets: parameter sets of the study's search, before parameter constraints drop some.
        lanes_per_tile: parameter sets of the largest tile.
        memory_bytes: memory of this process and its workers; of this process only where the workers
            belong to a cluster.
        disk_bytes: disk for results and shared arrays.
        seconds: wall time, roughly, with the time to compile.
        compile_seconds: how much of it goes into kernels that have not been compiled on this machine.
        workers: number of processes.
        shared_bytes: size of bars, features and correlations, counted once; part of ``memory_bytes``
            and ``disk_bytes``.
        n_windows: windows of a walk-forward that get a search of their own, each with as many trials
            and sets as the study's search; among them the one after the last in-sample bar. Memory, disk
            and time include them.
    """

    n_trials: int
    n_sets: int
    lanes_per_tile: int
    memory_bytes: float
    disk_bytes: float
    seconds: float
    workers: int
    compile_seconds: float = 0.0
    shared_bytes: float = 0.0
    n_windows: int = 0


def estimate(study: Study, space: Space, bars: Bars, rules: Rules, workers: int) -> Estimate:
    """Estimate what a study will take on this machine.

    Args:
        study: the study to run.
        space: the parameter space of the study.
        bars: the bars of the study.
        rules: the rules of the study.
        workers: number of processes wanted; 0 for one per core, and on a cluster for one.

    Returns:
        Parameter sets, time, memory and disk.
    """
    cores = int(cpu_count())
    on_cluster = study.workers.backend in CLUSTERS
    # How many workers a cluster has is known once it is reached, by ``run``.
    workers = max(workers, 1) if on_cluster else min(workers or cores, cores)
    n_trials = count_trials(study, space)
    lanes = [branch.n_lanes for branch in space.branches]
    n_sets = n_trials * max(lanes)
    if study.search.sampler == "grid" and space.n_sets is not None:
        n_sets = space.n_sets
    cells = bars.n_bars * bars.n_symbols
    n_columns = len(feature_keys(space)) + 2 * len(space.lookbacks("risk", "volatility_lookback"))
    refreshes = bars.n_bars / rules.correlation_refresh if rules.correlated else 0
    # Besides the columns: five of the bars, one of volumes, half a one of masks of a byte.
    n_columns += (bars.payments is not None) + rules.ranges
    # Four arrays of the finer bars, and a mask of a byte.
    finer = 0.0 if rules.finer is None else 4.125 * rules.finer.open.size
    shared = 8.0 * (cells * (6.5 + n_columns) + refreshes * bars.n_symbols**2 + finer)
    rows_in_flight = min(study.search.batch, n_trials) * max(lanes)
    row_bytes = 8.0 * (3 * len(METRICS) * 2 + 40)
    moment_bytes = 16.0 * study.validation.blocks
    work = n_sets * cells * NS_PER_STEP * 1e-9 * (1.4 if rules.correlated else 1.0)
    if rules.finer is not None:
        work += n_sets * rules.finer.open.size * NS_PER_FINER_STEP * 1e-9
    fitting = sum(
        (
            SECONDS_PER_FIT.get(branch.classifier, SECONDS_PER_OWN_FIT)
            + SECONDS_PER_CALIBRATION.get(branch.classifier, 0.0) * space.takes_probabilities
        )
        * bars.n_bars
        / min(branch.values(f"{branch.classifier}_refit_bars"))
        for branch in {branch.classifier: branch for branch in space.branches}.values()
        if branch.classifier != "none"
    )
    validation, n_windows, share = study.validation, 0, 0.0
    if validation.method == "walk_forward" and needs_own_searches(study, space):
        trained = [fold.train for fold in walk_forward_folds(validation, validation.blocks)]
        trained.append(next_blocks(validation, validation.blocks))
        n_windows = len(trained)
        share = sum(map(len, trained)) / validation.blocks
    searches = 1 + n_windows
    copies = 2 if n_windows else 1  # of the shared arrays: the study's, and one window's at a time
    processes = 1 if on_cluster or workers < 2 else 1 + workers
    own = BYTES_PER_PROCESS + (MODEL_BYTES if "svm" in space.classifiers else 0.0)
    if space.takes_probabilities:
        own += 8.0 * cells * (n_columns + len(REGIME_VALUES)) + PROBABILITY_BYTES
    n_batches = math.ceil(n_trials / study.search.batch)
    compiling = seconds_to_compile(space, rules, workers)
    sampling = n_trials * SECONDS_PER_TRIAL.get(study.search.sampler, 0.0)
    return Estimate(
        n_trials=n_trials,
        n_sets=n_sets,
        lanes_per_tile=max(lanes),
        # Shared arrays count twice: in this process, and mapped from their files by all, which still
        # wait while this one selects.
        memory_bytes=LIBRARY_BYTES
        + bootstrap_bytes(bars.n_bars, RESAMPLES)
        + processes * own
        + (1 + copies) * shared
        + rows_in_flight * (row_bytes + 3 * moment_bytes)
        + n_sets * MEMORY_PER_SET
        + bars.n_bars * MEMORY_PER_BAR,
        # The sets of a window have no moments.
        disk_bytes=(0.0 if on_cluster else copies * shared)
        + searches * _row_bytes(study, n_sets)
        + n_sets * moment_bytes
        + searches * (n_trials * BYTES_PER_TRIAL + n_batches * BYTES_PER_BATCH)
        + bars.n_bars * BYTES_PER_BAR,
        seconds=5.0
        + compiling
        + ((1.0 + share) * work + searches * fitting) / workers
        + searches * sampling,
        compile_seconds=compiling,
        n_windows=n_windows,
        workers=workers,
        shared_bytes=shared,
    )


def _row_bytes(study: Study, n_sets: int) -> float:
    """Bytes of a study's sets in its result files, without their return moments."""
    if study.search.store is None:
        return float(n_sets * BYTES_PER_ROW)
    most = study.search.store.top
    # A set is kept whole if it is among the best so far: of n in any order most (1 + log(n / most)).
    whole = n_sets if n_sets <= most else min(n_sets, most * (1.0 + math.log(n_sets / most)))
    return float(n_sets * BYTES_PER_PART_ROW + whole * BYTES_PER_ROW)


def refuse_what_cannot_fit(needs: Estimate, out: Path) -> None:
    """Compare an estimate with this machine.

    Args:
        needs: the estimate.
        out: folder of the results, which may be missing.

    Raises:
        StudyError: memory or disk is too small; names the figures and the setting to change.
    """
    available = psutil.virtual_memory().available
    if needs.memory_bytes > available:
        raise StudyError(
            f"the study needs about {needs.memory_bytes / 1e9:.1f} GB of memory and"
            f" {available / 1e9:.1f} GB is free; lower [workers] count (now {needs.workers}), lower"
            f" [search] batch, sweep fewer values in a tile (now {needs.lanes_per_tile:,}), or, of"
            f" {2 * needs.shared_bytes / 1e9:.1f} GB for bars and features, search fewer lookbacks"
        )
    existing = next(p for p in (out.absolute(), *out.absolute().parents) if p.exists())
    free = shutil.disk_usage(existing).free
    if needs.disk_bytes > free:
        raise StudyError(
            f"{out}: the study writes about {needs.disk_bytes / 1e6:,.0f} MB and the disk has"
            f" {free / 1e6:,.0f} MB free; give an --out on another disk, or lower [search] trials"
        )


def memory_in_use() -> int:
    """The memory of this process and of all processes that it started, bytes.

    On Linux a page that several of them map counts once in total (proportional set size). Elsewhere it
    counts once for each of them.
    """
    own = psutil.Process()
    total = 0
    for one in (own, *own.children(recursive=True)):
        with contextlib.suppress(psutil.Error):  # it has ended meanwhile
            full = one.memory_full_info()
            total += getattr(full, "pss", full.rss)
    return total
