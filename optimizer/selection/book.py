"""Judge a combination of sets as one more set that the studies have tried."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from kernels import layout
from optimizer.errors import StudyError
from optimizer.selection.benchmark import load_benchmark
from optimizer.selection.looks import combination_look
from optimizer.selection.odds import set_statistics
from optimizer.selection.record import Selection
from optimizer.selection.select import intervals, over_holdout
from optimizer.selection.sets import closing_returns, risk_free_returns
from optimizer.selection.sharpe import autocorrelation
from optimizer.selection.tried import Tried, known_draws, own_draws, search_of
from optimizer.store.folder import StudyFolder
from optimizer.study_file.study import Study
from optimizer.sweep.backtest_result import BacktestResult
from optimizer.sweep.buy_and_hold import held_metrics
from optimizer.sweep.inputs import Inputs
from optimizer.sweep.max_test import larger_draws, no_draws, score, with_max_test
from optimizer.types import Float32Array, FloatArray


def select_book(
    folder: StudyFolder,
    study: Study,
    inputs: Inputs,
    book: BacktestResult,
    parts: Sequence[Selection],
    name: str,
    digest: str,
) -> tuple[Selection, Float32Array]:
    """What the verdict on a combination rests on.

    Every set that the studies have tried is a try, and the combination is one more.

    Args:
        folder: the folder of one of the studies, whose benchmark is that of all.
        study: that study.
        inputs: its prepared inputs, with the money of the whole.
        book: what the whole did.
        parts: what each study recorded about its choice.
        name: the name of the combination.
        digest: the hash of its members and their shares.

    Returns:
        The selection, whose only set has the number 0, and the largest draws of the combination alone;
        empty without a max-test.

    Raises:
        StudyError: the benchmark of the study cannot be read.
    """
    rules, bars = inputs.rules, inputs.bars
    held = load_benchmark(folder)
    if held is None:
        raise StudyError(
            f"{folder.path}: the returns of its benchmark are missing; `barsweep resume"
            f" {folder.path}` judges the study again"
        )
    benchmark: FloatArray = np.asarray(held, np.float64)
    tested = with_max_test(inputs, benchmark)
    returns = closing_returns(inputs, book.equity)
    n_inside = rules.n_returns(inputs.first, inputs.split)
    excess = np.asarray(returns, np.float64) - risk_free_returns(inputs)
    (alpha, alpha_t), draws = _alpha(tested, excess)
    n_tried = sum(one.n_tried for one in parts) + 1
    selection = Selection(
        n_tried=n_tried,
        n_effective=min(sum(one.n_effective for one in parts) + 1.0, float(n_tried)),
        independent_share=max(one.independent_share for one in parts),
        sharpe_deviation=max(one.sharpe_deviation for one in parts),
        n_returns=n_inside,
        n_holdout_returns=rules.n_returns(inputs.split, bars.n_bars),
        returns_per_year=rules.returns_per_year,
        sets=(),
        search=replace(search_of(study, inputs, 1), study_hash=digest, study=name),
        look=combination_look(folder.manifest(), name, digest),
        maxima=tuple(larger_draws([*map(own_draws, parts), draws]).tolist()),
        held=held_metrics(inputs, benchmark),
        benchmark=study.validation.benchmark,
        holdout=over_holdout(inputs, returns, benchmark),
    )
    outside: Mapping[str, Any] = book.out_of_sample or {}
    row = {
        "set": 0,
        **book.in_sample,
        **{f"oos_{key}": value for key, value in outside.items()},
        "alpha": alpha,
        "alpha_t": alpha_t,
    }
    one = set_statistics(selection, row, Tried.alone(selection), autocorrelation(excess[:n_inside]))
    # Those of one set: of several that won in-sample the draws know nothing, see ``judge``.
    selection = replace(selection, sets=(replace(one, own_p=None, p=None),))
    return replace(selection, **intervals(study, returns, inputs, selection)), draws


def _alpha(inputs: Inputs, excess: FloatArray) -> tuple[tuple[float, float], Float32Array]:
    """Alpha a year in-sample, its statistic, and the draws of the max-test.

    ``excess`` are returns less the risk-free ones, one for each bar that closes a return.
    """
    closes = inputs.rules.closes(inputs.first, inputs.bars.n_bars)
    by_bar = np.zeros(inputs.bars.n_bars)
    by_bar[closes] = excess
    inside = slice(inputs.first, inputs.split)
    own = by_bar[inside]
    bounds = inputs.alpha_bounds if len(inputs.multipliers) else ()
    sums = [by_bar[start:stop].sum() for start, stop in itertools.pairwise(bounds)]
    market = inputs.rates[inside, layout.BENCHMARK]
    maxima = no_draws()
    (alpha,) = score(
        inputs,
        np.array(sums).reshape(-1, 1),
        np.array([own.sum()]),
        np.array([(own**2).sum()]),
        np.array([own @ market]),
        maxima,
    )
    return (float(alpha[0]), float(alpha[1])), known_draws(maxima)
