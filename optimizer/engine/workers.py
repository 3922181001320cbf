"""The workers of a study: they try its signals, fit its regime models and evaluate its tiles."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from optimizer.engine.pool import Pool
from optimizer.engine.tasks import (
    TileFailure,
    TilePiece,
    TileTask,
    cut_into_chunks,
    evaluate_pieces,
    fit_regime_model,
    join_pieces,
    try_user_signals,
)
from optimizer.errors import StrategyError, StudyError
from optimizer.study_file.study import Study
from optimizer.sweep.inputs import Inputs, MarketRegime, RegimeKey
from optimizer.sweep.max_test import no_draws
from optimizer.sweep.tiles import Tile, TileResult
from optimizer.text import path_text


class Workers:
    """Processes that evaluate the tiles of one study. Use as a context manager.

    Args:
        folder: where the shared inputs are written; the caller removes it.
        study: the study.
        inputs: its inputs.
        count: processes. 1 computes in this process, 0 takes one per core, and more than the cores are
            never taken. A cluster decides itself.

    Attributes:
        pool: the processes.
        kernel_seconds: time that all processes together have spent in the kernels.
        maxima: largest draws of the max-test over the sets of the last ``evaluate``.

    Raises:
        StudyError: the time limit needs another back end or more workers, or the inputs cannot be
            written.
    """

    def __init__(self, folder: Path, study: Study, inputs: Inputs, count: int) -> None:
        self.pool = Pool(folder, study, inputs, count)
        self.kernel_seconds = 0.0
        self.maxima = no_draws()
        self._study = study
        self._limit = study.workers.tile_seconds
        self._regimes: dict[RegimeKey, MarketRegime] = {}

    def __enter__(self) -> Self:
        self.pool.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.pool.__exit__(kind, error, trace)

    @property
    def count(self) -> int:
        """Number of processes."""
        return self.pool.count

    def try_signals(self) -> None:
        """Try the signals of users' strategies, in a process that is ended at the time limit.

        Raises:
            StrategyError: a user's signal cannot be used, raised, or took too long.
        """
        if not self._study.user_strategies:
            return
        (found,) = self.pool.map(try_user_signals, [(self.pool.shared, self._limit)])
        if isinstance(found, TileFailure):
            files = dict.fromkeys(one.path for one in self._study.user_strategies)
            raise StrategyError(
                f"{', '.join(map(path_text, files))}: signal at the first parameter set: {found.reason};"
                " end every loop, or raise the limit"
            )

    def fit_regimes(self, keys: Iterable[RegimeKey]) -> None:
        """Fit regime models and keep what they say; models that were fitted before are left out.

        Args:
            keys: the regime models.

        Raises:
            StudyError: a model cannot be fitted, because its worker died twice or took too long.
        """
        missing = [key for key in dict.fromkeys(keys) if key not in self._regimes]
        # Only a user's code may never end.
        limits = [None if isinstance(key[0], str) else self._limit for key in missing]
        calls = [(self.pool.shared, *one) for one in zip(missing, limits, strict=True)]
        fitted = self.pool.map(fit_regime_model, calls)
        for key, result in zip(missing, fitted, strict=True):
            if isinstance(result, TileFailure):
                named = str(key[0]), *key[1:]
                raise StudyError(f"the regime model {named!r} cannot be fitted: {result.reason}")
            self._regimes[key], never_fitted = result
            if never_fitted:
                logging.getLogger("barsweep").warning(never_fitted)

    def regimes(self, keys: Iterable[RegimeKey]) -> dict[RegimeKey, MarketRegime]:
        """What regime models say, fitted if needed.

        Args:
            keys: the regime models.

        Returns:
            What each model says of every bar.

        Raises:
            StudyError: a model cannot be fitted, because its worker died twice.
        """
        wanted = list(dict.fromkeys(keys))
        self.fit_regimes(wanted)
        return {key: self._regimes[key] for key in wanted}

    def evaluate(
        self, tasks: Sequence[TileTask], tiles: Sequence[Tile]
    ) -> list[TileResult | TileFailure]:
        """Evaluate every parameter set of a batch.

        Args:
            tasks: the tasks of the batch.
            tiles: the parameter sets of each task, from ``make_tile``; none of them empty.

        Returns:
            The result of each task, or why it has none.

        Raises:
            StudyError: a regime model cannot be fitted, or the workers cannot be started again.
        """
        self.maxima = no_draws()
        keys = [tile.regime_keys()[0] for tile in tiles]
        self.fit_regimes(key for own in keys for key in own)
        chunks = cut_into_chunks(tasks, tiles)
        parts: list[list[TileResult | TileFailure]] = [[] for _ in tasks]
        for chunk, results in zip(chunks, self._evaluate_chunks(chunks, keys), strict=True):
            answers: Sequence[TileResult | TileFailure]
            if not isinstance(results, TileFailure):
                answers = results
            elif len(chunk) > 1:
                # One of its tiles is to blame, so each is tried by itself.
                single = self._evaluate_chunks([[piece] for piece in chunk], keys)
                answers = [one if isinstance(one, TileFailure) else one[0] for one in single]
            else:
                answers = [results]
            for piece, result in zip(chunk, answers, strict=True):
                parts[piece.tile].append(result)
        return [join_pieces(own) for own in parts]

    def _evaluate_chunks(
        self, chunks: Sequence[Sequence[TilePiece]], keys: Sequence[Sequence[RegimeKey]]
    ) -> list[list[TileResult] | TileFailure]:
        """The results of each chunk's pieces; ``keys`` are the regime models of each tile."""
        calls = []
        for chunk in chunks:
            needed = {key for piece in chunk for key in keys[piece.tile]}
            regimes = {key: self._regimes[key] for key in needed}
            calls.append((self.pool.shared, chunk, regimes, self._limit))
        found: list[list[TileResult] | TileFailure] = []
        for answer in self.pool.map(evaluate_pieces, calls):
            if not isinstance(answer, TileFailure):
                answer, maxima, seconds = answer
                # The larger of each: the same in any order, and with any number of workers.
                self.maxima = np.maximum(self.maxima, maxima)
                self.kernel_seconds += seconds
            found.append(answer)
        return found
