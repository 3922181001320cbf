"""Tasks of a study: the chunks that a batch of tiles is cut into, and the functions that workers call.

A worker gets the place of the shared inputs, a branch and the values of the searched parameters, and
returns numbers. It owns the portfolios of its lanes and shares nothing writable. The results depend
neither on the number of workers nor on how the lanes are cut into chunks.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from optimizer.engine.handover import restorable
from optimizer.engine.processes import time_limit
from optimizer.engine.shipping import Parcel, context_of
from optimizer.errors import SignalError
from optimizer.strategies.approvals import accept
from optimizer.study_file.space import Branch, Space, Value, build_space
from optimizer.study_file.study import Study, recorded_study
from optimizer.sweep.evaluate import evaluate
from optimizer.sweep.inputs import Inputs, MarketRegime, RegimeKey, fit_key
from optimizer.sweep.max_test import no_draws
from optimizer.sweep.tiles import Tile, TileResult
from optimizer.sweep.try_signals import try_signals
from optimizer.types import Float32Array

CHUNK_LANES = 2048
"""Parameter sets per call of a worker: some 0.1 s of work, far more than the call costs."""

_STUDY_FILE = "study.json"


@dataclass(frozen=True)
class TileTask:
    """A point of the searched space, whose tile is to be evaluated.

    Attributes:
        branch: index of the branch in the space.
        point: value of each searched parameter of the branch.
    """

    branch: int
    point: Mapping[str, Value]


@restorable
@dataclass(frozen=True)
class TileFailure:
    """Stands for the result of a task that has none.

    Attributes:
        reason: why, as the trial records it.
    """

    reason: str


@dataclass(frozen=True)
class TilePiece:
    """A range of the parameter sets of one tile.

    Attributes:
        tile: index of the task in its batch.
        task: the task of the tile.
        start: first parameter set.
        stop: the one after the last.
    """

    tile: int
    task: TileTask
    start: int
    stop: int


# --- Cutting and joining ------------------------------------------------------------------------


def make_tile(space: Space, task: TileTask) -> Tile:
    """The parameter sets of a task.

    Args:
        space: the space of the study.
        task: a point of the space.

    Returns:
        A tile without the sets that break a constraint on parameters; it may be empty.
    """
    branch: Branch = space.branches[task.branch]
    return Tile.of(branch, branch.lanes(task.point))


def cut_into_chunks(tasks: Sequence[TileTask], tiles: Sequence[Tile]) -> list[list[TilePiece]]:
    """Cut the parameter sets of a batch into chunks of ``CHUNK_LANES``; the last may be smaller.

    Args:
        tasks: the tasks of the batch.
        tiles: their parameter sets.

    Returns:
        Chunks in the order of the tasks. A chunk may hold pieces of several tiles.
    """
    chunks: list[list[TilePiece]] = [[]]
    room = CHUNK_LANES
    for i, (task, tile) in enumerate(zip(tasks, tiles, strict=True)):
        start = 0
        while start < tile.n_lanes:
            stop = min(tile.n_lanes, start + room)
            chunks[-1].append(TilePiece(i, task, start, stop))
            room -= stop - start
            start = stop
            if room == 0:
                chunks.append([])
                room = CHUNK_LANES
    return [chunk for chunk in chunks if chunk]


def join_pieces(parts: Sequence[TileResult | TileFailure]) -> TileResult | TileFailure:
    """Put the results of a tile's pieces together.

    Args:
        parts: the results of its pieces, in order; at least one.

    Returns:
        The result of the tile, or its first failure.
    """
    results: list[TileResult] = []
    for part in parts:
        if isinstance(part, TileFailure):
            return part
        results.append(part)
    return TileResult.joined(results)


# --- What all tasks share -----------------------------------------------------------------------


class MappedContext(NamedTuple):
    """Where the workers of this machine find what all tasks of a study share.

    Attributes:
        folder: absolute: a worker process may have another working folder.
        approved: hashes of the users' files that the parent may run, and so its workers.
    """

    folder: str
    approved: tuple[str, ...]


def save_context(folder: Path, study: Study, inputs: Inputs) -> MappedContext:
    """Write what all tasks of a study share, for workers of this machine to map.

    Args:
        folder: made if needed.
        study: the study.
        inputs: its inputs.

    Returns:
        The argument of tasks from which they get the inputs and the space of the study.

    Raises:
        UntrustedCodeError: the file of a user's strategy is not approved.
        OSError: a file cannot be written.
    """
    for one in study.user_code:
        one.require_approval()
    # Closed to other users: what workers write there is made into objects.
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    inputs.save(folder)
    (folder / _STUDY_FILE).write_text(json.dumps(study.to_dict()))
    approved = tuple(one.declaration.source_hash for one in study.user_code)
    return MappedContext(str(folder.absolute()), approved)


@functools.lru_cache(maxsize=2)
def mapped_context(shared: MappedContext) -> tuple[Inputs, Space]:
    """What ``save_context`` wrote, mapped once per process.

    Args:
        shared: what it returned.

    Returns:
        The inputs and the space of the study.
    """
    accept(shared.approved)
    path = Path(shared.folder)
    study = recorded_study(json.loads((path / _STUDY_FILE).read_text()))
    return Inputs.load(path), build_space(study)


def _context(shared: MappedContext | Parcel) -> tuple[Inputs, Space]:
    return mapped_context(shared) if isinstance(shared, MappedContext) else context_of(shared)


def _folder_of(shared: MappedContext | Parcel) -> str | None:
    return shared.folder if isinstance(shared, MappedContext) else None


# --- What workers call --------------------------------------------------------------------------


def ready() -> None:
    """Do nothing: the first call of each worker, which shows that it has started.

    To find this function, the worker imports everything that later tasks need. So all imports are done
    while Ctrl-C is blocked, and before loky notes the worker's memory: it replaces a worker that uses
    300 MB more than after its first call, as if it leaked.
    """


def evaluate_pieces(
    shared: MappedContext | Parcel,
    pieces: Sequence[TilePiece],
    regimes: Mapping[RegimeKey, MarketRegime],
    tile_seconds: float | None = None,
) -> tuple[list[TileResult], Float32Array, float] | TileFailure:
    """Evaluate one chunk.

    Args:
        shared: what ``save_context`` returned, or what was shipped to a cluster.
        pieces: the pieces of the chunk.
        regimes: what every regime model says that the pieces need.
        tile_seconds: time limit per piece in seconds; None sets none.

    Returns:
        The result of each piece, the largest draws of their max-test, and the seconds that the kernels
        took; or the reason why a user's signal raised.
    """
    limit = None if tile_seconds is None else tile_seconds * len(pieces)
    with time_limit(_folder_of(shared), limit):
        inputs, space = _context(shared)
        tiles = [make_tile(space, piece.task).slice(piece.start, piece.stop) for piece in pieces]
        start = time.perf_counter()
        try:
            maxima = no_draws()
            results = evaluate(inputs, tiles, regimes, maxima)
        except SignalError as error:
            return TileFailure(str(error))
        return results, maxima, time.perf_counter() - start


def try_user_signals(shared: MappedContext | Parcel, tile_seconds: float | None) -> None:
    """Try the signals of users' strategies at their first parameter set.

    Args:
        shared: what ``save_context`` returned, or what was shipped to a cluster.
        tile_seconds: time limit in seconds; None sets none.

    Raises:
        StrategyError: a signal cannot be used, or raised.
    """
    with time_limit(_folder_of(shared), tile_seconds):
        try_signals(*_context(shared))


def fit_regime_model(
    shared: MappedContext | Parcel, key: RegimeKey, seconds: float | None = None
) -> tuple[MarketRegime, str]:
    """Fit one regime model.

    Args:
        shared: what ``save_context`` returned, or what was shipped to a cluster.
        key: the regime model.
        seconds: time limit for its fits and decisions together; None sets none.

    Returns:
        The regime, and the reason why the classifier was never fitted, if so.

    Raises:
        DataError: the market is not among the symbols of the bars.
    """
    with time_limit(_folder_of(shared), seconds):
        inputs, space = _context(shared)
        return fit_key(inputs.bars, key, space.takes_probabilities)
