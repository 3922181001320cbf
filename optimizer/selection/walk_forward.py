"""Walk-forward: its windows over blocks of bars, and the equity of their choices joined."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from kernels import layout
from optimizer.selection.folds import Fold, walk_forward
from optimizer.selection.record import Window
from optimizer.selection.sets import RegimeSource, returns_between, tile_of
from optimizer.selection.sharpe import sharpe_of_paths
from optimizer.store.folder import StudyFolder
from optimizer.study_file.search_tables import ValidationTable
from optimizer.study_file.space import Space
from optimizer.sweep.inputs import Inputs
from optimizer.sweep.single_set import record_succession
from optimizer.types import IntArray


def walk_forward_folds(validation: ValidationTable, n_blocks: int) -> list[Fold]:
    """Training and test blocks of each window of a study's walk-forward.

    A window is tested on one block. Its training blocks end ``purge_blocks`` before that; by default they
    end where it begins, since a return of a training bar is known at its close, where the parameters of
    the next block are chosen.

    Args:
        validation: the ``[validation]`` settings of the study.
        n_blocks: blocks of in-sample bars, 2 or more than ``purge_blocks``.

    Returns:
        Folds whose numbers are those of blocks.
    """
    purge = validation.purge_blocks
    # The purge of ``folds.walk_forward`` takes the last ``horizon`` blocks of a training window.
    before = training_blocks(validation, n_blocks) + purge
    return list(walk_forward(n_blocks, before, 1, horizon=purge, anchored=validation.anchored))


def training_blocks(validation: ValidationTable, n_blocks: int) -> int:
    """The number of blocks of a training window, of the first one where they grow.

    Args:
        validation: the ``[validation]`` settings of the study.
        n_blocks: blocks of in-sample bars, 2 or more than ``purge_blocks``.
    """
    most = n_blocks - 1 - validation.purge_blocks
    return min(validation.train_blocks or max(n_blocks // 2, 1), most)


def next_blocks(validation: ValidationTable, n_blocks: int) -> IntArray:
    """The training blocks of the window that comes after the last in-sample bar.

    Args:
        validation: the ``[validation]`` settings of the study.
        n_blocks: blocks of in-sample bars, 2 or more than ``purge_blocks``.

    Returns:
        Numbers of blocks, ascending; the last is ``n_blocks - 1``.
    """
    n_train = n_blocks if validation.anchored else training_blocks(validation, n_blocks)
    return np.arange(n_blocks - n_train, n_blocks)


def walk_forward_summary(windows: Sequence[Window]) -> dict[str, Any]:
    """The windows of a walk-forward and its efficiency.

    Args:
        windows: the windows in order of time.

    Returns:
        ``windows`` and ``walk_forward_efficiency`` of a ``Selection``. The efficiency is the mean
        out-of-sample over the mean in-sample Sharpe ratio (Pardo 2008, there of returns); None where
        nothing was gained in-sample.
    """
    before = sum(window.in_sample for window in windows)
    after = sum(window.out_of_sample for window in windows)
    return {
        "windows": tuple(windows),
        "walk_forward_efficiency": after / before if before > 0.0 else None,
    }


def stitched(
    space: Space,
    inputs: Inputs,
    chosen: Sequence[tuple[Window, StudyFolder]],
    stop: int,
    regimes: RegimeSource,
) -> pd.DataFrame:
    """Equity of one account that trades, from each window on, the set that was chosen before it.

    The account starts flat at the first window. Where a window begins, the account keeps its positions,
    orders and cash, and the window's set takes over, see ``record_succession``. So every change of
    position pays what it costs.

    Args:
        space: the parameter space of the study.
        inputs: the prepared inputs of the study.
        chosen: each window that has a set, in order of time, and the folder that holds the set.
        stop: the bar after the last one.
        regimes: the regime codes of the study.

    Returns:
        One row a return: ``timestamp``, ``return``, ``equity`` (money), ``excess_return`` (less the
        risk-free rate) and ``set``.
    """
    tiles = [tile_of(space, folder.sets([window.number], whole=False)) for window, folder in chosen]
    starts = [window.start for window, _ in chosen]
    keys = [key for tile in tiles for key in tile.regime_keys()[0]]
    equity = record_succession(inputs, list(zip(tiles, starts, strict=True)), stop, regimes(keys))
    closes = inputs.rules.closes(starts[0], stop)
    frame = equity.iloc[closes - starts[0]].reset_index()
    returns = returns_between(frame["equity"], inputs.rules.initial_cash)
    frame.insert(1, "return", returns)
    numbers = np.array([window.number for window, _ in chosen])
    return frame.assign(
        excess_return=returns - inputs.rates[closes, layout.RISK_FREE],
        set=numbers[np.searchsorted(starts, closes, side="right") - 1],
    )


def stitched_sharpe(frame: pd.DataFrame, returns_per_year: float) -> float | None:
    """The annualized Sharpe ratio (ddof 1) of a stitched equity; None where it does not vary.

    Args:
        frame: the frame that ``stitched`` returned.
        returns_per_year: annualizes.
    """
    returns = np.ascontiguousarray(frame["excess_return"].to_numpy())
    if len(returns) < 2:
        return None
    sharpe = float(sharpe_of_paths(returns[np.newaxis])[0])
    return None if math.isnan(sharpe) else sharpe * math.sqrt(returns_per_year)
