"""What a study's bars can show, before it runs."""

from __future__ import annotations

from dataclasses import dataclass

from optimizer.selection.looks import looks_with
from optimizer.selection.p_values import (
    FEWEST_RETURNS,
    critical_value_of,
    detectable_ratio,
    holdout_critical_value,
)
from optimizer.study_file.study import Study
from optimizer.sweep.inputs import holdout_bar
from optimizer.sweep.max_test import FEWEST_BLOCKS, LEAST_RETURNS
from optimizer.sweep.rules import Rules
from optimizer.types import Bars

HARDLY_ANY = 3.0
"""Yearly Sharpe ratio that hardly any strategy has beyond its benchmark, after costs."""


@dataclass(frozen=True)
class Power:
    """Which yearly Sharpe ratios beyond the benchmark are found in 4 of 5 cases.

    Attributes:
        years, holdout_years: length of the bars in-sample and of the holdout.
        search: least ratio that the search finds if none of its sets trade alike; None where there are
            too few bars for the max-test.
        holdout: least ratio that the holdout shows; None where there is none, or too few bars.
        n_looks: looks at bars of the holdout, that of the study's verdict included.
    """

    years: float
    holdout_years: float
    search: float | None
    holdout: float | None
    n_looks: int = 1

    @property
    def decides(self) -> bool:
        """Whether the bars find a ratio that a strategy might have."""
        return self.search is not None and self.search <= HARDLY_ANY


def power_of(study: Study, bars: Bars, rules: Rules, first: int, n_sets: int) -> Power:
    """What the bars of a study can show, given who has looked at its holdout before.

    Args:
        study: the study to be run.
        bars: the bars of the study.
        rules: the rules of the study.
        first: bar of the first decision.
        n_sets: sets that it tries.
    """
    split = holdout_bar(bars, rules, first, study.validation.holdout)
    n_looks = looks_with(study, bars, split)
    n_inside, n_outside = rules.n_returns(first, split), rules.n_returns(split, bars.n_bars)
    years, holdout_years = (n / rules.returns_per_year for n in (n_inside, n_outside))
    search = holdout = None
    if n_inside >= FEWEST_BLOCKS * LEAST_RETURNS:
        search = detectable_ratio(critical_value_of(n_sets), years)
    if n_outside >= FEWEST_RETURNS:
        holdout = detectable_ratio(holdout_critical_value(n_outside, n_looks), holdout_years)
    return Power(years, holdout_years, search, holdout, n_looks)
