"""The verdict on a winner, from figures that a test chooses."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from optimizer.selection.odds import deflated
from optimizer.selection.record import HoldoutAlpha, Selection, SetStatistics
from optimizer.selection.tried import Tried
from optimizer.selection.verdict import LUCK, PROMISING, SKILL, diagnosis, judge, remarks
from tests.reference.overfitting import expected_maximum, probabilistic_sharpe
from tests.support.selections import N_BARS, YEARLY, annual_sharpe, chosen, tried_by
from tests.support.studies import small_study


def over(p: float, alpha: float = 0.05) -> HoldoutAlpha:
    return HoldoutAlpha(alpha, 1.0, 21, p)


def found_at(rank: int, holdout: HoldoutAlpha | None = None, **changes: Any) -> Selection:
    """A winner whose statistic is reached by ``rank`` of 999 draws: its p-value is (1 + rank) / 1000."""
    draws = np.arange(999, dtype=np.float64)
    winner = replace(chosen().sets[0], alpha=0.1, alpha_t=998.5 - rank)
    n = 0 if holdout is None else 400
    return chosen(
        **{
            "sets": (winner,),
            "maxima": tuple(draws.tolist()),
            "holdout": holdout,
            "n_holdout_returns": n,
            **changes,
        }
    )


@pytest.mark.parametrize(
    ("found", "p", "words"),
    [
        (found_at(49), 0.05, SKILL),
        (found_at(50), 0.051, PROMISING),
        (found_at(199), 0.2, PROMISING),
        (found_at(200), 0.201, LUCK),
        # q (1 - ln q) of the product q of both.
        (found_at(9, over(0.5)), 0.005 * (1 - math.log(0.005)), SKILL),
        (found_at(49, over(0.3)), 0.015 * (1 - math.log(0.015)), PROMISING),
        (found_at(99, over(0.08)), 0.008 * (1 - math.log(0.008)), SKILL),
        (found_at(99, over(0.8)), 0.08 * (1 - math.log(0.08)), LUCK),
        (found_at(9, over(0.6, alpha=-0.01)), 0.006 * (1 - math.log(0.006)), PROMISING),
        (found_at(9, maxima=()), 1.0, LUCK),
        (found_at(9, over(0.001), maxima=()), 0.001 * (1 - math.log(0.001)), SKILL),
    ],
)
def test_verdict(found: Selection, p: float | None, words: str) -> None:
    verdict = judge(found)
    assert verdict.words == words
    assert verdict.p == (None if p is None else pytest.approx(p))
    assert verdict.headline.startswith(words)


def test_of_several_sets_together_the_holdout_alone_decides() -> None:
    found = found_at(0, over(0.03))
    assert judge(found).p == pytest.approx(3e-5 * (1 - math.log(3e-5)))
    verdict = judge(found, replace(Tried.alone(found), n_looks=2), 3)
    assert verdict.p == pytest.approx(1 - 0.97**2) and verdict.words == PROMISING
    assert verdict.reasons[0].text.startswith("p unknown in-sample, where its sets were chosen")
    assert verdict.reasons[0].weight == 0
    without = judge(found_at(0), None, 3)
    assert (without.p, without.words) == (None, LUCK)


def test_a_loss_is_never_skill() -> None:
    found = found_at(9)
    losing = replace(found.sets[0], alpha=-0.01)
    verdict = judge(replace(found, sets=(losing,)))
    assert verdict.words == LUCK
    assert verdict.reasons[2].weight == -1


def test_a_winner_without_returns_of_its_own_is_luck() -> None:
    none = SetStatistics(1, None, None, None, None, None, None)
    found = found_at(9, sets=(none,))
    verdict = judge(found)
    assert (verdict.words, verdict.p) == (LUCK, None)
    assert "nothing of its own beyond the benchmark" in verdict.reasons[0].text
    assert "deflated Sharpe ratio unknown" in diagnosis(found, verdict.tried)[0]


def test_reasons_state_the_figures() -> None:
    found = found_at(9, over(0.04), n_tried=1234, n_holdout_returns=403)
    reasons = judge(found).reasons
    assert [one.weight for one in reasons] == [1, 1, 1]
    first, second, third = (one.text for one in reasons)
    assert first == "p 0.01 in-sample over 1,234 sets tried on these bars"
    # 1.6 years: t of 21 degrees of freedom at 0.95, 1.72, and 0.84 for 4 of 5 cases, over sqrt(1.6).
    assert second == (
        "p 0.04 out-of-sample; 1.6 years can show a Sharpe ratio of 2.0 or more in 4 of 5 cases"
    )
    assert third == (
        "alpha 10.0% a year in-sample, 5.0% out-of-sample: beyond buy and hold, after costs"
    )
    assert "no holdout" in judge(found_at(9)).reasons[1].text
    assert "too short" in judge(found_at(9, n_holdout_returns=5)).reasons[1].text


@pytest.mark.parametrize("n_looks", [2, 3, 10])
def test_every_look_at_the_holdout_is_paid_for(n_looks: int) -> None:
    found = found_at(9, over(0.03), n_holdout_returns=403)
    tried = replace(Tried.alone(found), n_looks=n_looks)
    verdict = judge(found, tried)
    kept = 1.0 - 0.97**n_looks
    assert verdict.p == pytest.approx(stats.combine_pvalues([0.01, kept], "fisher").pvalue)
    assert (verdict.p or 0.0) > (judge(found).p or 1.0)
    said = verdict.reasons[1].text
    assert said.startswith(
        f"p 0.03 out-of-sample, {kept:.3g} after {n_looks} looks at these bars; "
    )
    ratio = (stats.t.ppf(0.95 ** (1 / n_looks), 21) + stats.norm.ppf(0.8)) / math.sqrt(403 / 252)
    assert f"can show a Sharpe ratio of {ratio:.1f} or more" in said


def test_enough_looks_turn_the_reason_round() -> None:
    found = found_at(9, over(0.04))
    weights = [
        judge(found, replace(Tried.alone(found), n_looks=n)).reasons[1].weight for n in (1, 2, 40)
    ]
    assert weights == [1, 0, -1]  # 0.04, 0.08, 0.8
    assert judge(found_at(9), replace(Tried.alone(found), n_looks=5)).p == judge(found_at(9)).p


def test_what_others_tried_stands_beside_the_study_s_own() -> None:
    found = found_at(9, n_tried=10)
    higher = np.array(found.maxima, np.float32)
    higher[:90] = 2000.0  # 90 draws that another study's luckiest set reaches
    tried = Tried(310, 3, higher, place="/ledger.db")
    verdict = judge(found, tried)
    assert verdict.p == pytest.approx(0.1)
    assert verdict.words == PROMISING and judge(found).words == SKILL
    assert verdict.reasons[0].text == (
        "p 0.01 in-sample over its own 10 sets, 0.1 over all 310 tried on these bars in 3 studies"
    )
    corrected = deflated(found, tried).sets[0]
    assert corrected.own_p == pytest.approx(0.01) and corrected.p == pytest.approx(0.1)


def test_the_smallest_ratio_that_the_search_finds(tmp_path: Any) -> None:
    """The largest draws are standard normal: one set. 10 years: (1.645 + 0.842) / sqrt(10)."""
    draws = stats.norm.ppf((np.arange(10_000) + 0.5) / 10_000).astype(np.float32)
    lines = remarks(found_at(9), small_study(tmp_path / "b"), Tried(1, 1, draws))
    assert lines[0].endswith("4 of 5 cases: 0.79 (10.0 years)")


def test_sets_of_other_studies_deflate_the_winner() -> None:
    found = chosen(0.99, n_tried=10, n_effective=5.0, sharpe_deviation=0.1)

    def dsr(n: int) -> float:
        return deflated(found, tried_by(n)).sets[0].dsr or 0.0

    assert dsr(10) == dsr(3)
    all_of_them = [dsr(n) for n in (10, 20, 100, 10_000, 1_000_000)]
    assert all_of_them == sorted(all_of_them, reverse=True)
    assert len(set(all_of_them)) == 5
    # 90 of 100 sets are of other studies: half of them independent, with the spread of luck alone.
    variance = 0.1 * 0.1**2 / 252.0 + 0.9 / N_BARS
    own = annual_sharpe(0.99) / YEARLY
    expected = probabilistic_sharpe(own, N_BARS, 0.0, 3.0, expected_maximum(variance, 50.0))
    assert dsr(100) == pytest.approx(expected)
    assert "for 100 sets tried, worth 50" in diagnosis(found, tried_by(100))[0]


def test_other_studies_whose_sets_are_like_these_do_not_lower_the_spread() -> None:
    """Sets further apart than luck has them stay so."""
    wide = chosen(0.99, n_tried=10, n_effective=10.0, sharpe_deviation=2.0)
    own = annual_sharpe(0.99) / YEARLY
    hurdle = expected_maximum(2.0**2 / 252.0, 20.0)
    expected = probabilistic_sharpe(own, N_BARS, 0.0, 3.0, hurdle)
    assert deflated(wide, tried_by(20)).sets[0].dsr == pytest.approx(expected)
