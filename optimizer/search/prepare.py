"""Prepare a study: load its bars, build its space, estimate what it takes, compute its features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from optimizer.engine.ahead import Ahead, start_ahead
from optimizer.engine.connect import count_slots
from optimizer.engine.processes import process_count
from optimizer.errors import StudyError
from optimizer.search.account_checks import (
    check_account,
    warn_of_idle_symbols,
    warn_of_slower_bars,
)
from optimizer.search.clock import Clock
from optimizer.search.preflight import Estimate, estimate, refuse_what_cannot_fit
from optimizer.selection.blocks import require_blocks
from optimizer.study_file.bars import load_study_bars
from optimizer.study_file.space import Space, build_space
from optimizer.study_file.spans import in_bars
from optimizer.study_file.study import Study
from optimizer.study_file.tables import CLUSTERS
from optimizer.sweep.buy_and_hold import benchmark_returns, lowest_costs
from optimizer.sweep.inputs import Inputs, prepare, study_warm_up
from optimizer.sweep.max_test import with_max_test
from optimizer.sweep.rules import Rules, study_rules
from optimizer.sweep.try_signals import try_signals
from optimizer.types import Bars


@dataclass(frozen=True, eq=False)
class PreparedStudy:
    """A study with everything that its trials share, ready to run.

    Attributes:
        study: the study.
        bars: the bars of the study.
        space: the parameter space of the study.
        inputs: bars and features of the study.
        needs: what it is estimated to take.
        clock: measures its parts from here on.
        ahead: a process that compiles a part of its kernels; None where none is needed.
    """

    study: Study
    bars: Bars
    space: Space
    inputs: Inputs
    needs: Estimate
    clock: Clock
    ahead: Ahead | None


def prepare_study(
    study: Study,
    path: Path,
    workers: int | None,
    on_start: Callable[[Estimate], None] | None,
    check: Callable[[Bars], None] | None = None,
) -> PreparedStudy:
    """Load the bars, refuse what cannot fit, compute the features.

    Args:
        study: the study to prepare.
        path: folder of its results, which may be missing.
        workers: number of processes, 0 for one per core; None takes the study's.
        on_start: called with the estimate before anything is computed.
        check: called with the bars; raises to refuse them.

    Returns:
        What every batch of the study needs.

    Raises:
        DataError: the bars, the file of members or that of a rate cannot be used.
        StudyFileError: the account cannot trade the bars.
        StudyError: the study needs more than the machine has, or its validation more blocks of bars.
    """
    count = worker_count(study, workers)
    clock = Clock()
    with clock("load"):
        bars = load_study_bars(study)
        if check is not None:
            check(bars)
        study = in_bars(study, bars)
        check_account(study, bars)
        space = build_space(study)
        rules = study_rules(study, space, bars)
        warn_of_idle_symbols(study, bars, study_warm_up(space, rules, bars), rules)
        warn_of_slower_bars(study, space, bars, rules)
    needs = estimate(study, space, bars, rules, count)
    refuse_what_cannot_fit(needs, path)
    if on_start is not None:
        on_start(needs)
    ahead = start_ahead(space, rules, bars) if needs.compile_seconds and count > 1 else None
    with clock("features"):
        inputs = study_inputs(study, space, rules, bars)
    require_blocks(study, inputs)
    if study.workers.tile_seconds is None:
        try_signals(inputs, space)
    return PreparedStudy(study, bars, space, inputs, needs, clock, ahead)


def worker_count(study: Study, workers: int | None) -> int:
    """The number of processes of a study.

    Args:
        study: the study.
        workers: number of processes, 0 for one per core; None takes the study's.

    Raises:
        StudyError: the number is below 0, or the cluster cannot be reached.
    """
    if workers is not None and workers < 0:
        raise StudyError(f"workers = {workers}; expected 0, for one per core, or more")
    count = study.workers.count if workers is None else workers
    return count_slots(study, count) if study.workers.backend in CLUSTERS else process_count(count)


def study_inputs(study: Study, space: Space, rules: Rules, bars: Bars) -> Inputs:
    """The inputs of every tile of a study, with its max-test.

    Args:
        study: the study.
        space: the parameter space of the study.
        rules: the rules of the study.
        bars: the bars of the study.

    Raises:
        DataError: too few bars for the warm-up.
        StrategyError: a user's feature raised, or is not finite after its warm-up.
    """
    validation = study.validation
    inputs = prepare(bars, space, rules, validation.holdout, n_blocks=validation.blocks)
    costs = lowest_costs(space, inputs)
    return with_max_test(inputs, benchmark_returns(inputs, costs, validation.benchmark))
