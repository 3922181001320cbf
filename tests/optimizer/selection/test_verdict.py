"""The verdict on a winner, from figures that a test chooses."""

from __future__ import annotations

import pytest

from optimizer.selection.record import Selection, SetStatistics
from optimizer.selection.verdict import judge
from optimizer.sweep.buy_and_hold import Held
from tests.reference.overfitting import expected_maximum, probabilistic_sharpe
from tests.support.selections import N_BARS, YEARLY, annual_sharpe, chosen


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (chosen(), "holds up"),
        (chosen(0.9505), "holds up"),
        (chosen(0.9495), "fragile"),
        (chosen(0.8005), "fragile"),
        (chosen(0.7995), "likely luck"),
        (chosen(pbo=0.2), "holds up"),
        (chosen(pbo=0.201), "fragile"),
        (chosen(pbo=0.5), "fragile"),
        (chosen(pbo=0.501), "likely luck"),
        (chosen(pbo=0.9, probability_of_loss=0.101), "likely luck"),
        (chosen(pbo=0.9, probability_of_loss=0.1), "fragile"),
        (chosen(pbo=0.9, probability_of_loss=0.051), "fragile"),
        (chosen(pbo=0.9, probability_of_loss=0.05), "fragile"),
        (chosen(pbo=0.5, probability_of_loss=0.05), "holds up"),
        (chosen(pbo=0.5, probability_of_loss=0.051), "fragile"),
        (chosen(pbo=None), "fragile"),
        (chosen(kept=0.501), "holds up"),
        (chosen(kept=0.499), "fragile"),
        (chosen(kept=0.001), "fragile"),
        (chosen(kept=0.0), "likely luck"),
        (chosen(kept=-0.1), "likely luck"),
        (chosen(kept=None), "fragile"),
        (chosen(near=0.701), "holds up"),
        (chosen(near=0.699), "fragile"),
        (chosen(near=-5.0), "fragile"),
        (chosen(neighbours=None), "fragile"),
        (chosen(held=Held({"sharpe": 0.73}, {"sharpe": 0.58})), "holds up"),
        (chosen(held=Held({"sharpe": 0.74}, {"sharpe": 0.58})), "fragile"),
        (chosen(held=Held({"sharpe": 0.73}, {"sharpe": 0.6})), "fragile"),
        (chosen(held=Held({"sharpe": None}, {"sharpe": 0.5})), "fragile"),
        (chosen(held=Held({"sharpe": 0.5}, {})), "fragile"),
        (chosen(held=None), "fragile"),
    ],
)
def test_verdict(found: Selection, words: str) -> None:
    verdict = judge(found)
    assert verdict.words == words
    weights = [reason.weight for reason in verdict.reasons]
    assert (words == "likely luck") == (-1 in weights)
    assert (words == "holds up") == (set(weights) == {1})


def test_a_low_deflated_sharpe_ratio_alone_is_luck() -> None:
    """A positive Sharpe ratio below the hurdle of many sets."""
    found = chosen(0.99, n_tried=1000, n_effective=1000.0, sharpe_deviation=0.4)
    verdict = judge(found)
    assert verdict.dsr is not None
    assert verdict.dsr < 0.5
    assert [reason.weight for reason in verdict.reasons] == [-1, 1, 1, 1, 1]
    assert verdict.words == "likely luck"


def test_a_winner_without_a_sharpe_ratio_is_luck() -> None:
    none = SetStatistics(1, None, None, None, None, None, None)
    verdict = judge(chosen(sets=(none,)))
    assert verdict.words == "likely luck"
    assert verdict.dsr is None
    assert "deflated Sharpe ratio unknown" in verdict.reasons[0].text


def test_reasons_state_the_figures_and_the_thresholds() -> None:
    texts = [reason.text for reason in judge(chosen(n_tried=1234, n_effective=56.0)).reasons]
    for text, words in zip(
        texts,
        (
            ["0.99", "1,234 sets", "at most 56 independent", "holds from 0.95", "luck below 0.8"],
            [
                "0.100, of a loss 0.200",
                "holds to 0.2, or to 0.5 with 0.05",
                "luck above 0.5 with 0.1",
            ],
            ["0.589", "0.736 in-sample", "holds from 50%", "luck at 0 or below"],
            ["6 neighbours", "0.66", "holds from 70%"],
            ["buying and holding 0.368 in-sample, 0.221 out-of-sample", "holds above both"],
        ),
        strict=True,
    ):
        for word in words:
            assert word in text


def test_sets_of_other_studies_deflate_the_winner() -> None:
    found = chosen(0.99, n_tried=10, n_effective=5.0, sharpe_deviation=0.1)
    alone = judge(found)
    assert alone.dsr == judge(found, 10).dsr == judge(found, 3).dsr
    dsr = [judge(found, n).dsr or 0.0 for n in (10, 20, 100, 10_000, 1_000_000)]
    assert dsr == sorted(dsr, reverse=True)
    assert len(set(dsr)) == 5
    # 90 of 100 sets are of other studies: half of them independent, with the spread of luck alone.
    variance = 0.1 * 0.1**2 / 252.0 + 0.9 / N_BARS
    own = annual_sharpe(0.99) / YEARLY
    expected = probabilistic_sharpe(own, N_BARS, 0.0, 3.0, expected_maximum(variance, 50.0))
    assert judge(found, 100).dsr == pytest.approx(expected)
    assert judge(found, 100).n_tried == 100


def test_the_winner_of_a_study_tried_alone_in_another_one_is_deflated_all_the_same() -> None:
    found = chosen(0.99)
    assert judge(found).words == "holds up"
    assert (judge(found, 10_000).dsr or 0.0) < 0.5
    assert judge(found, 10_000).words == "likely luck"


def test_other_studies_whose_sets_are_like_these_do_not_lower_the_spread() -> None:
    """Sets further apart than luck has them stay so."""
    wide = chosen(0.99, n_tried=10, n_effective=10.0, sharpe_deviation=2.0)
    own = annual_sharpe(0.99) / YEARLY
    hurdle = expected_maximum(2.0**2 / 252.0, 20.0)
    expected = probabilistic_sharpe(own, N_BARS, 0.0, 3.0, hurdle)
    assert judge(wide, 20).dsr == pytest.approx(expected)
