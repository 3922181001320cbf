"""The verdict on a study's winner, and its reasons."""

from __future__ import annotations

from dataclasses import dataclass

from optimizer.selection.odds import deflated_statistics, tries_of
from optimizer.selection.record import Selection
from optimizer.selection.steering import steered
from optimizer.study_file.space import build_space
from optimizer.study_file.study import Study
from optimizer.sweep.buy_and_hold import UNIVERSE
from optimizer.text import counted, probability

HOLDS_DSR, LUCK_DSR = 0.95, 0.8
HOLDS_PBO, LUCK_PBO = 0.2, 0.5
HOLDS_LOSS, LUCK_LOSS = 0.05, 0.1
HOLDS_KEPT = 0.5
HOLDS_NEIGHBOUR = 0.7
"""Thresholds of the verdict, see ``judge``."""


@dataclass(frozen=True)
class Reason:
    """One reason of a verdict.

    Attributes:
        text: the reason in words, with the figure and its threshold.
        weight: 1 speaks for the winner, -1 against it, 0 for neither.
    """

    text: str
    weight: int


@dataclass(frozen=True)
class Verdict:
    """``holds up``, ``fragile`` or ``likely luck``, and why.

    Attributes:
        words: the verdict.
        reasons: what it follows from.
        n_tried: sets ever tried on these bars, over all studies.
        dsr: the deflated Sharpe ratio of the winner, deflated by all of them.
    """

    words: str
    reasons: tuple[Reason, ...]
    n_tried: int
    dsr: float | None


def judge(selection: Selection, n_tried: int = 0) -> Verdict:
    """The verdict on a study's winner.

    ``likely luck`` where any reason speaks against it: a deflated Sharpe ratio (DSR) below
    ``LUCK_DSR``, a probability of backtest overfitting (PBO) above ``LUCK_PBO`` with a probability of
    loss above ``LUCK_LOSS``, or no gain over the holdout. ``holds up`` where all speak for it: a DSR
    of at least ``HOLDS_DSR``; a PBO of at most ``HOLDS_PBO``, or of at most ``LUCK_PBO`` with a
    probability of loss of at most ``HOLDS_LOSS``; at least the share ``HOLDS_KEPT`` of the in-sample
    Sharpe ratio over the holdout; a median neighbour with at least the share ``HOLDS_NEIGHBOUR`` of
    it; and a Sharpe ratio above that of buying and holding, in-sample and out-of-sample. ``fragile``
    otherwise.

    A PBO near 0.5 alone is no sign of luck: where all sets have the same edge, the choice among them
    does not matter. A reason that cannot be computed, for lack of a holdout for example, does not
    speak for the winner. One whose returns do not vary has no Sharpe ratio and is ``likely luck``.

    Args:
        selection: the ``[selection]`` settings of the study.
        n_tried: sets ever tried on the same bars, over all studies, by the ledger; the study's own
            count in any case.
    """
    winner = selection.sets[0]
    n_tried, effective, _ = tries_of(selection, n_tried)
    dsr = deflated_statistics(selection, winner, n_tried).dsr
    known = "unknown" if dsr is None else probability(dsr)
    pbo, loss = selection.pbo, selection.probability_of_loss
    loss = 1.0 if loss is None else loss
    reasons = [
        _reason(
            dsr,
            dsr is not None and dsr >= HOLDS_DSR,
            dsr is None or dsr < LUCK_DSR,
            f"deflated Sharpe ratio {known} for {counted(n_tried, 'set')} tried on these bars,"
            f" worth at most {effective:,.0f} independent ones (holds from {HOLDS_DSR}, luck below"
            f" {LUCK_DSR})",
        ),
        _reason(
            pbo,
            pbo is not None and (pbo <= HOLDS_PBO or (pbo <= LUCK_PBO and loss <= HOLDS_LOSS)),
            pbo is not None and pbo > LUCK_PBO and loss > LUCK_LOSS,
            f"probability of backtest overfitting {_figure(pbo)}, of a loss"
            f" {_figure(selection.probability_of_loss)} (holds to {HOLDS_PBO}, or to {LUCK_PBO} with"
            f" {HOLDS_LOSS}; luck above {LUCK_PBO} with {LUCK_LOSS})",
        ),
    ]
    out_of_sample, sharpe = winner.oos_sharpe, winner.sharpe
    kept = None if out_of_sample is None or not sharpe else out_of_sample / sharpe
    reasons.append(
        _reason(
            out_of_sample,
            kept is not None and kept >= HOLDS_KEPT and (sharpe or 0.0) > 0.0,
            out_of_sample is not None and out_of_sample <= 0.0,
            f"out-of-sample Sharpe ratio {_figure(out_of_sample)} against {_figure(sharpe)} in-sample"
            f" (holds from {HOLDS_KEPT:.0%} of it, luck at 0 or below)",
        )
    )
    near = selection.neighbours
    theirs = (
        "unknown: it has none" if near is None else f"of its {counted(near.n_sets, 'neighbour')}"
    )
    median = None if near is None else near.median
    reasons.append(
        _reason(
            median,
            median is not None and sharpe is not None and median >= HOLDS_NEIGHBOUR * sharpe > 0.0,
            False,
            f"median Sharpe ratio {theirs}"
            + ("" if median is None else f" {_figure(median)}")
            + f" (holds from {HOLDS_NEIGHBOUR:.0%} of its own)",
        )
    )
    held, benchmark = selection.held, selection.benchmark
    whose = "" if benchmark == UNIVERSE else f" {benchmark}"
    market = None if held is None else held.in_sample.get("sharpe")
    oos_market = None if held is None else held.out_of_sample.get("sharpe")
    reasons.append(
        _reason(
            market,
            _above(sharpe, market) and _above(out_of_sample, oos_market),
            False,
            f"Sharpe ratio of buying and holding{whose} {_figure(market)} in-sample,"
            f" {_figure(oos_market)} out-of-sample (holds above both)",
        )
    )
    words = "fragile"
    if any(reason.weight < 0 for reason in reasons):
        words = "likely luck"
    elif all(reason.weight > 0 for reason in reasons):
        words = "holds up"
    return Verdict(words, tuple(reasons), n_tried, dsr)


def remarks(selection: Selection, study: Study) -> list[str]:
    """What a study knows apart from its verdict.

    Args:
        selection: the ``[selection]`` settings of the study.
        study: a study that has run.

    Returns:
        One sentence a line.
    """
    lines = []
    if study.search.objective != ("sharpe",):
        searched = ", ".join(study.search.objective)
        lines.append(f"these figures use the Sharpe ratio; the study's objective was {searched}")
    if selection.minimum_years:
        years = selection.n_returns / selection.returns_per_year
        lines.append(
            "the luckiest of this study's sets is expected to show this Sharpe ratio over"
            f" {selection.minimum_years:.1f} years of bars; in-sample has {years:.1f}"
        )
    if selection.windows:
        how = "choosing among all sets tried"
        if selection.one_search_per_window:
            how = "a search each"
        elif steered(study, build_space(study)):
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
    if selection.sharpe_interval is not None and selection.drawdown_interval is not None:
        oos = ""
        if selection.oos_sharpe_interval is not None:
            oos = f", {_interval(selection.oos_sharpe_interval)} out-of-sample"
        lines.append(
            f"95% by bootstrap: Sharpe ratio {_interval(selection.sharpe_interval)} in-sample{oos};"
            f" in-sample drawdown {_interval(selection.drawdown_interval)}"
        )
    return lines


def _interval(ends: tuple[float, float]) -> str:
    return f"{ends[0]:.2f} to {ends[1]:.2f}"


def _reason(value: float | None, speaks_for: bool, against: bool, text: str) -> Reason:
    if value is None and not against:
        return Reason(text, 0)
    return Reason(text, -1 if against else int(speaks_for))


def _above(value: float | None, market: float | None) -> bool:
    return value is not None and market is not None and value > market


def _figure(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"
