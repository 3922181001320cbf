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
from optimizer.selection.sets import RegimeSource, set_returns
from optimizer.selection.sharpe import sharpe_of_paths
from optimizer.store.folder import StudyFolder
from optimizer.study_file.search_tables import ValidationTable
from optimizer.study_file.space import Space
from optimizer.sweep.inputs import Inputs


def walk_forward_folds(validation: ValidationTable, n_blocks: int) -> list[Fold]:
    """Training and test blocks of each window of a study's walk-forward.

    A window is tested on the block after its training blocks. Nothing is purged: a return of a
    training bar is known at its close, where the parameters of the next block are chosen.

    Args:
        validation: the ``[validation]`` settings of the study.
        n_blocks: blocks of in-sample bars, >= 2.

    Returns:
        Folds whose numbers are those of blocks.
    """
    n_train = min(validation.train_blocks or n_blocks // 2, n_blocks - 1)
    return list(walk_forward(n_blocks, n_train, 1, horizon=0, anchored=validation.anchored))


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
    regimes: RegimeSource,
) -> pd.DataFrame:
    """Equity of trading, over each window, the set that was chosen before it.

    Each set starts a window in the position that it would hold there had it traded all along. The
    cost of changing from one set's position to the next one's is not charged.

    Args:
        space: the parameter space of the study.
        inputs: the prepared inputs of the study.
        chosen: each window and the folder that holds its set.
        regimes: the regime codes of the study.

    Returns:
        One row a return: ``timestamp``, ``return``, ``equity`` (money), ``excess_return`` (less the
        risk-free rate) and ``set``.
    """
    parts = []
    for window, folder in chosen:
        returns = set_returns(space, inputs, folder.sets([window.number]), regimes)
        start = inputs.rules.n_returns(inputs.first, window.start)
        closes = inputs.rules.closes(window.start, window.stop)
        part = returns.iloc[start : start + len(closes)]
        excess = part - inputs.rates[closes, layout.RISK_FREE]
        parts.append(part.to_frame().assign(excess_return=excess, set=window.number))
    frame = pd.concat(parts).reset_index()
    frame.insert(2, "equity", inputs.rules.initial_cash * (1.0 + frame["return"]).cumprod())
    return frame


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
