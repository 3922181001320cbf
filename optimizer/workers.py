"""Batches of tiles to worker processes and back, through joblib.

A worker gets the name of a folder of mapped arrays, a branch and the values of the searched
parameters; it returns numbers. It owns the portfolios of its lanes and shares nothing writable. The
answer depends neither on how many workers there are nor on how the lanes are cut into chunks.
"""

from __future__ import annotations

import functools
import json
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError

from optimizer.backtest import (
    Inputs,
    RegimeCodes,
    RegimeKey,
    Tile,
    TileResult,
    evaluate,
    fit_key,
)
from optimizer.config import Study, study_from_dict
from optimizer.errors import StudyError
from optimizer.space import Branch, Space, Value, build_space

CHUNK_LANES = 2048
"""Parameter sets of one task: some 0.1 s of work, far above what a task costs to dispatch."""


@dataclass(frozen=True)
class TileTask:
    """One point of the searched space: the branch and the values of its searched parameters."""

    branch: int
    point: Mapping[str, Value]


@dataclass(frozen=True)
class _Piece:
    tile: int
    task: TileTask
    start: int
    stop: int


def make_tile(space: Space, task: TileTask) -> Tile:
    """All parameter sets of a task, those that break a parameter constraint left out."""
    branch: Branch = space.branches[task.branch]
    return Tile(
        branch.strategy, branch.classifier, branch.market, branch.lanes(task.point), branch.custom
    )


@functools.lru_cache(maxsize=2)
def _context(folder: str) -> tuple[Inputs, Space]:
    path = Path(folder)
    study = study_from_dict(json.loads((path / "study.json").read_text()))
    return Inputs.load(path), build_space(study)


def _evaluate_pieces(
    folder: str, pieces: Sequence[_Piece], regimes: Mapping[RegimeKey, RegimeCodes]
) -> list[TileResult]:
    inputs, space = _context(folder)
    tiles = [make_tile(space, p.task).slice(p.start, p.stop) for p in pieces]
    return evaluate(inputs, tiles, regimes)


def _fit_regime(folder: str, key: RegimeKey) -> tuple[RegimeCodes, str]:
    return fit_key(_context(folder)[0].bars, key)


class Workers:
    """Processes that evaluate tiles of one study. Use as a context manager.

    Args:
        folder: where the shared arrays are to be written; the caller removes it.
        study: of the tiles.
        inputs: of the study.
        count: processes; 1 computes in this one; 0 takes one per core.
    """

    def __init__(self, folder: Path, study: Study, inputs: Inputs, count: int) -> None:
        self.count = count or os.cpu_count() or 1
        self._folder = str(folder)
        self._study = study
        self._regimes: dict[RegimeKey, RegimeCodes] = {}
        self._parallel: Any = None
        inputs.save(folder)
        (folder / "study.json").write_text(json.dumps(study.to_dict()))

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._parallel is not None:
            self._parallel.__exit__(kind, error, trace)
        _context.cache_clear()

    def _start(self) -> None:
        if self.count < 2:
            return
        backend = self._study.workers.backend
        threads = {"inner_max_num_threads": 1} if backend == "loky" else {}
        try:
            self._parallel = Parallel(
                n_jobs=self.count, backend=backend, batch_size=1, max_nbytes=None, **threads
            ).__enter__()
        except (ValueError, ImportError) as error:
            raise StudyError(
                f'{self._study.source}: [workers] backend = "{backend}": joblib cannot start it:'
                f" {error}; valid: loky, or a back end that is installed"
            ) from None

    def _map(self, function: Any, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        if self._parallel is None:
            return [function(*call) for call in calls]
        try:
            return list(self._parallel(delayed(function)(*call) for call in calls))
        except TerminatedWorkerError:
            self._parallel.__exit__(None, None, None)
            self._start()
            return [self._alone(function, call) for call in calls]

    def _alone(self, function: Any, call: tuple[Any, ...]) -> Any:
        """One call after a worker died, so that the call that kills is known by name."""
        try:
            return self._parallel([delayed(function)(*call)])[0]
        except TerminatedWorkerError:
            self._parallel.__exit__(None, None, None)
            self._start()
            return None

    def fit_regimes(self, keys: Iterable[RegimeKey]) -> None:
        """Fit the regime models that are not known yet."""
        missing = [key for key in dict.fromkeys(keys) if key not in self._regimes]
        fitted = self._map(_fit_regime, [(self._folder, key) for key in missing])
        for key, result in zip(missing, fitted, strict=True):
            if result is None:
                raise StudyError(f"a worker died twice while fitting the regime model {key!r}")
            self._regimes[key], never_fitted = result
            if never_fitted:
                logging.getLogger("barsweep").warning(never_fitted)

    def evaluate(self, tasks: Sequence[TileTask], tiles: Sequence[Tile]) -> list[TileResult | None]:
        """Metrics of every parameter set of each task; None where the tile kills its worker.

        Args:
            tasks: in the order of the results.
            tiles: their parameter sets, as ``make_tile`` gives them; none of them empty.
        """
        keys = [tile.regime_keys()[0] for tile in tiles]
        self.fit_regimes(key for own in keys for key in own)
        chunks: list[list[_Piece]] = [[]]
        room = CHUNK_LANES
        for i, (task, tile) in enumerate(zip(tasks, tiles, strict=True)):
            start = 0
            while start < tile.n_lanes:
                stop = min(tile.n_lanes, start + room)
                chunks[-1].append(_Piece(i, task, start, stop))
                room -= stop - start
                start = stop
                if room == 0:
                    chunks.append([])
                    room = CHUNK_LANES
        chunks = [chunk for chunk in chunks if chunk]
        calls = []
        for chunk in chunks:
            needed = {key for piece in chunk for key in keys[piece.tile]}
            calls.append((self._folder, chunk, {key: self._regimes[key] for key in needed}))
        parts: list[list[TileResult | None]] = [[] for _ in tasks]
        for chunk, results in zip(chunks, self._map(_evaluate_pieces, calls), strict=True):
            for i, piece in enumerate(chunk):
                parts[piece.tile].append(None if results is None else results[i])
        return [_joined(own) for own in parts]


def _joined(parts: Sequence[TileResult | None]) -> TileResult | None:
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    return TileResult(
        np.concatenate([part.in_sample for part in known]),
        np.concatenate([part.out_of_sample for part in known]),
    )
