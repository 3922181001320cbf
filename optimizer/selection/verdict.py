"""The verdict on a study's winner, and its reasons."""

from __future__ import annotations

from dataclasses import dataclass

from optimizer.selection.likeness import ALIKE
from optimizer.selection.odds import deflated_statistics, tries_of
from optimizer.selection.p_values import (
    LEVEL,
    combined,
    corrected_for_looks,
    critical_value,
    detectable_ratio,
    family_wise,
    holdout_critical_value,
)
from optimizer.selection.record import Selection
from optimizer.selection.regime_value import regime_remark
from optimizer.selection.steering import by_sharpe_alone, steered
from optimizer.selection.tried import Tried
from optimizer.study_file.space import build_space
from optimizer.study_file.study import Study
from optimizer.sweep.buy_and_hold import held_name
from optimizer.text import counted, probability

VERDICTS = SKILL, PROMISING, LUCK = "skill", "promising", "not distinguishable from luck"
"""What a verdict says, best first."""

PROMISING_LEVEL = 0.2
"""Largest combined p-value of what is ``PROMISING``; that of ``SKILL`` is ``LEVEL``."""


@dataclass(frozen=True)
class Reason:
    """One reason of a verdict.

    Attributes:
        text: the reason in words, with its figures.
        weight: 1 speaks for the winner, -1 against it, 0 for neither.
    """

    text: str
    weight: int


@dataclass(frozen=True, eq=False)
class Verdict:
    """``SKILL``, ``PROMISING`` or ``LUCK``, and why.

    Attributes:
        words: the verdict.
        p: probability of figures as good as the winner's without any alpha, in-sample and over the
            holdout combined; None where it is unknown.
        reasons: what it follows from.
        tried: what the p-values are corrected for.
    """

    words: str
    p: float | None
    reasons: tuple[Reason, ...]
    tried: Tried

    @property
    def headline(self) -> str:
        """The verdict with its p-value."""
        return self.words if self.p is None else f"{self.words} (p {probability(self.p)})"


def judge(selection: Selection, tried: Tried | None = None, n_members: int = 1) -> Verdict:
    """The verdict on a study's winner, or on several sets together.

    The p-value in-sample is family-wise: the probability that the best of all sets ever tried on these
    bars has as large a statistic of alpha if none has any alpha. That of the holdout is the winner's own,
    corrected for every look at these bars.
    Fisher's method combines both. ``SKILL`` where the combined one is at most ``LEVEL`` and the winner's
    alpha after costs is above 0 in-sample and over the holdout; ``PROMISING`` where it is at most
    ``PROMISING_LEVEL`` and alpha in-sample is above 0; otherwise ``LUCK``. Without a holdout, or with one
    that is too short, the p-value in-sample stands alone. Without a max-test, for too few bars, it counts
    as 1. That of several sets together is unknown, and the holdout alone decides: they won in-sample, and
    there the mean of winners that are unlike has a larger statistic than any single set.

    Args:
        selection: the ``[selection]`` settings of the study.
        tried: everything tried on these bars; None for the study's own sets.
        n_members: sets of which the winner consists.
    """
    tried = Tried.alone(selection) if tried is None else tried
    winner, holdout = selection.sets[0], selection.holdout
    together = n_members > 1
    p = None if together else family_wise(winner.alpha_t, tried.maxima)
    if p is None and winner.alpha_t is not None and not together:
        p = 1.0  # no set was good enough to be drawn
    kept_p = None if holdout is None else corrected_for_looks(holdout.p, tried.n_looks)
    known = [one for one in (p, kept_p) if one is not None]
    whole = combined(known if p is not None or (together and known) else [1.0, *known])
    positive = (winner.alpha or 0.0) > 0.0
    kept = holdout is None or holdout.alpha > 0.0
    words = LUCK
    if whole <= PROMISING_LEVEL and positive:
        words = SKILL if whole <= LEVEL and kept else PROMISING
    reasons = (
        Reason(
            "p unknown in-sample, where its sets were chosen: the holdout alone decides"
            if together
            else _in_sample(selection, tried, p),
            _weight(p, PROMISING_LEVEL),
        ),
        # A short holdout has a large p-value with an edge too, but a loss speaks against the set.
        Reason(_out_of_sample(selection, tried.n_looks), _weight(kept_p, 0.5)),
        Reason(_alpha(selection), 0 if winner.alpha is None else 1 if positive and kept else -1),
    )
    return Verdict(words, whole if known else None, reasons, tried)


def _weight(p: float | None, against: float) -> int:
    return 0 if p is None or LEVEL < p <= against else 1 if p <= LEVEL else -1


def _in_sample(selection: Selection, tried: Tried, p: float | None) -> str:
    winner = selection.sets[0]
    if not selection.maxima and winner.alpha_t is not None:
        return "p 1 in-sample: every set of this study is far worse than the benchmark"
    if not selection.maxima:
        return "p unknown in-sample: too few bars for a test over all sets"
    if winner.alpha_t is None:
        return "p unknown in-sample: the set earns nothing of its own beyond the benchmark"
    own = family_wise(winner.alpha_t, selection.maxima)
    sets = counted(selection.n_tried, "set")
    if tried.n_sets == selection.n_tried:
        return f"p {probability(p)} in-sample over {sets} tried on these bars"
    return (
        f"p {probability(own)} in-sample over its own {sets}, {probability(p)} over all"
        f" {tried.n_sets:,} tried on these bars in {tried.n_studies:,}"
        f" {'study' if tried.n_studies == 1 else 'studies'}"
    )


def _out_of_sample(selection: Selection, n_looks: int) -> str:
    holdout = selection.holdout
    if not selection.n_holdout_returns:
        return "p unknown out-of-sample: no holdout"
    if holdout is None:
        return (
            "p unknown out-of-sample: the holdout is too short, or shows no return of the set's own"
        )
    years = selection.n_holdout_returns / selection.returns_per_year
    power = detectable_ratio(holdout_critical_value(selection.n_holdout_returns, n_looks), years)
    looks = ""
    if n_looks > 1:
        p = corrected_for_looks(holdout.p, n_looks)
        looks = f", {probability(p)} after {n_looks:,} looks at these bars"
    return (
        f"p {probability(holdout.p)} out-of-sample{looks}; {years:.1f} years can show a Sharpe ratio of"
        f" {power:.1f} or more in 4 of 5 cases"
    )


def _alpha(selection: Selection) -> str:
    winner, holdout = selection.sets[0], selection.holdout
    if winner.alpha is None:
        return "alpha unknown"
    over = "" if holdout is None else f", {holdout.alpha:.1%} out-of-sample"
    return (
        f"alpha {winner.alpha:.1%} a year in-sample{over}: beyond {held_name(selection.benchmark)},"
        " after costs"
    )


def diagnosis(selection: Selection, tried: Tried) -> list[str]:
    """Figures on which the verdict does not rest.

    Args:
        selection: the ``[selection]`` settings of the study.
        tried: everything tried on these bars.

    Returns:
        One figure a line.
    """
    winner = selection.sets[0]
    n_tried, effective, _ = tries_of(selection, tried.n_sets)
    dsr = deflated_statistics(selection, winner, tried).dsr
    near, held = selection.neighbours, selection.held
    lines = [
        f"deflated Sharpe ratio {'unknown' if dsr is None else probability(dsr)} for"
        f" {counted(n_tried, 'set')} tried, worth {effective:,.0f} independent ones"
    ]
    if selection.pbo is not None:
        lines.append(
            f"probability of backtest overfitting {selection.pbo:.3f}, of a loss"
            f" {_figure(selection.probability_of_loss)}"
        )
    if near is not None:
        lines.append(
            f"median Sharpe ratio of its {counted(near.n_sets, 'neighbour')} {near.median:.3f}, its own"
            f" {_figure(winner.sharpe)} (of {counted(near.n_drawn, 'set')} drawn, those whose returns"
            f" correlate {ALIKE[0]} to {ALIKE[1]} with its own)"
        )
    if held is not None:
        lines.append(
            f"Sharpe ratio of {held_name(selection.benchmark)} {_figure(held.in_sample.get('sharpe'))}"
            f" in-sample, {_figure(held.out_of_sample.get('sharpe'))} out-of-sample"
        )
    return lines


def expectation(selection: Selection) -> str:
    """The Sharpe ratio to expect of the winner, in words.

    Args:
        selection: the ``[selection]`` settings of the study.
    """
    expected, interval = selection.sharpe_to_expect, selection.interval_to_expect
    if expected is None:
        return (
            "Sharpe ratio to expect unknown: too few bars, or a choice by something else than the Sharpe"
            " ratio"
        )
    between = "" if interval is None else f" (95%: {_interval(interval)})"
    inside = _figure(selection.sets[0].sharpe)
    return f"Sharpe ratio to expect {expected:.2f}{between}, in-sample {inside}"


def remarks(selection: Selection, study: Study, tried: Tried) -> list[str]:
    """What a study knows apart from its verdict.

    Args:
        selection: the ``[selection]`` settings of the study.
        study: a study that has run.
        tried: everything tried on these bars.

    Returns:
        One sentence a line.
    """
    lines = []
    if len(tried.maxima):
        years = selection.n_returns / selection.returns_per_year
        lines.append(
            "smallest Sharpe ratio beyond the benchmark that this search finds in 4 of 5 cases:"
            f" {detectable_ratio(critical_value(tried.maxima), years):.2f} ({years:.1f} years)"
        )
    if selection.regime_value is not None:
        lines.append(regime_remark(selection.regime_value))
    if study.search.objective != ("sharpe",):
        searched = ", ".join(study.search.objective)
        lines.append(f"these figures use the Sharpe ratio; the study's objective was {searched}")
    if selection.windows:
        how = "choosing among all sets tried"
        if selection.one_search_per_window:
            how = "a search each"
        else:
            if not by_sharpe_alone(study):
                # Of other metrics, constraints and tiles the moments of blocks know nothing.
                how = "choosing by the Sharpe ratio alone among all sets tried"
            if steered(study, build_space(study)):
                how += " by a search that saw these windows, which flatters"
        efficiency, joined = selection.walk_forward_efficiency, selection.stitched_sharpe
        lines.append(
            f"walk-forward: {counted(len(selection.windows), 'window')}, {how}; efficiency"
            f" {'-' if efficiency is None else f'{efficiency:.3g}'}"
            + ("" if joined is None else f", joined out-of-sample Sharpe ratio {joined:.2f}")
        )
    n_paths = len(selection.path_sharpes)
    if n_paths:
        places = (n_paths // 4, n_paths // 2, min(3 * n_paths // 4, n_paths - 1))
        quartiles = ", ".join(f"{selection.path_sharpes[place]:.2f}" for place in places)
        lines.append(
            f"CPCV: out-of-sample Sharpe ratio over {n_paths} paths: quartiles {quartiles}"
        )
    if selection.drawdown_interval is not None:
        oos = ""
        if selection.oos_sharpe_interval is not None:
            oos = f"Sharpe ratio {_interval(selection.oos_sharpe_interval)} out-of-sample, "
        lines.append(
            f"95% by bootstrap: {oos}in-sample drawdown {_interval(selection.drawdown_interval)}"
        )
    return lines


def _interval(ends: tuple[float, float]) -> str:
    return f"{ends[0]:.2f} to {ends[1]:.2f}"


def _figure(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"
