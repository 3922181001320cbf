"""Bare names in constraints, and constraints that nothing can satisfy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.catalogue import METRIC_BOUNDS, METRICS
from optimizer.errors import StudyFileError
from optimizer.search.run import run_study
from optimizer.study_file.study import Study, study_from_dict
from tests.support.studies import random_bars, small_study, write_bars

CROSS = {
    "name": "sma_cross",
    "fast": {"low": 5, "high": 50, "step": 5},
    "slow": {"low": 20, "high": 200, "step": 20},
}


def study_with(constraints: list[str], strategy: Any = CROSS, **tables: Any) -> Study:
    return study_from_dict(
        {
            "study": {"name": "x"},
            "data": {"path": "b.parquet"},
            "strategy": strategy,
            "search": {"constraints": constraints},
            **tables,
        }
    )


def read(constraints: list[str], strategy: Any = CROSS, **tables: Any) -> list[str]:
    return [str(one) for one in study_with(constraints, strategy, **tables).search.constraints]


def refusal_of(constraint: str, strategy: Any = CROSS, **tables: Any) -> str:
    with pytest.raises(StudyFileError) as caught:
        study_with([constraint], strategy, **tables)
    return str(caught.value)


def test_a_bare_name_means_the_parameter_of_its_owner() -> None:
    assert read(["fast < slow"]) == ["sma_cross_fast < sma_cross_slow"]
    assert read(["slow >= 40", "sma_cross_fast > 5"]) == [
        "sma_cross_slow >= 40",
        "sma_cross_fast > 5",
    ]
    assert read(["max_exposure <= 1", "sharpe > 0"]) == ["max_exposure <= 1", "sharpe > 0"]
    hmm = {"name": "hmm"}
    assert read(["train_bars > 20"], classifier=hmm) == ["hmm_train_bars > 20"]
    # Both parameters of one strategy, where the other has only one of them.
    two = [{"name": "ema_cross", "fast": 10, "slow": 30}, {"name": "momentum"}]
    assert read(["fast < slow"], two) == ["ema_cross_fast < ema_cross_slow"]


def test_a_bare_name_of_several_owners_is_refused() -> None:
    two = [{"name": "momentum"}, {"name": "breakout"}]
    message = refusal_of("lookback > 20", two)
    assert "may be momentum_lookback or breakout_lookback; name one" in message
    assert "constraints #1" in message
    # A strategy's parameter comes before a classifier's.
    assert read(["lookback > 20"], {"name": "momentum"}, classifier={"name": "hmm"}) == [
        "momentum_lookback > 20"
    ]


def test_hash_and_record_are_those_of_whole_names() -> None:
    bare, whole = study_with(["fast < slow"]), study_with(["sma_cross_fast < sma_cross_slow"])
    assert bare.space_hash == whole.space_hash
    assert bare.to_dict() == whole.to_dict()
    assert study_from_dict(bare.to_dict()).search.constraints == bare.search.constraints


def test_a_misspelt_bare_name_is_suggested() -> None:
    assert 'did you mean "slow"?' in refusal_of("fast < slwo")


@pytest.mark.parametrize(
    ("constraint", "words"),
    [
        ("max_drawdown <= -0.4", "max_drawdown is 0 or more"),
        ("win_rate > 1", "win_rate is from 0 to 1"),
        ("fast > 100", "sma_cross_fast is from 5 to 50"),
        ("250 <= slow", "sma_cross_slow is from 20 to 200"),
        ("n_trades == -1", "n_trades is 0 or more"),
        ("max_exposure > 1", "max_exposure is 1"),
        ("max_exposure != 1", "max_exposure is 1"),
    ],
)
def test_what_can_never_hold_is_refused_with_its_range(constraint: str, words: str) -> None:
    message = refusal_of(constraint, risk={"max_exposure": 1.0})
    assert "can never hold" in message and words in message


def test_two_ranges_that_do_not_meet() -> None:
    apart = {"name": "sma_cross", "fast": {"low": 60, "high": 90}, "slow": {"low": 10, "high": 50}}
    message = refusal_of("fast < slow", apart)
    assert "sma_cross_fast is from 60 to 90, sma_cross_slow is from 10 to 50" in message


@given(
    low=st.integers(1, 6),
    width=st.integers(0, 5),
    bound=st.integers(0, 12),
    sign=st.sampled_from(["<", "<=", ">", ">=", "==", "!="]),
    turned=st.booleans(),
)
def test_a_constraint_is_refused_where_no_value_satisfies_it(
    low: int, width: int, bound: int, sign: str, turned: bool
) -> None:
    values = range(low, low + width + 1)
    strategy = {"name": "momentum", "lookback": {"choices": [10 * value for value in values]}}
    text = f"{10 * bound} {sign} lookback" if turned else f"lookback {sign} {10 * bound}"
    holds: Callable[[int, int], bool] = {
        "<": lambda a, b: a < b, "<=": lambda a, b: a <= b, ">": lambda a, b: a > b,
        ">=": lambda a, b: a >= b, "!=": lambda a, b: a != b,
        # Between the least and the greatest value, whether or not it is one of them.
        "==": lambda a, b: low <= bound <= low + width,
    }[sign]  # fmt: skip
    possible = any(holds(bound, one) if turned else holds(one, bound) for one in values)
    if possible:
        study_with([text], strategy)
    else:
        assert "can never hold" in refusal_of(text, strategy)


def test_metrics_stay_within_the_bounds_that_are_stated(tmp_path: Path) -> None:
    assert set(METRIC_BOUNDS) <= set(METRICS)
    data = write_bars(tmp_path / "bars.parquet", random_bars(300, seed=9))
    tables: dict[str, Any] = {
        "risk": {"allow_short": True, "kelly_fraction": {"sweep": [0.5, 1.0]}}
    }
    result = run_study(small_study(data, **tables), out=tmp_path / "out", workers=1)
    rows = result.results()
    for name, (least, greatest) in METRIC_BOUNDS.items():
        values = rows[name].dropna().to_numpy(np.float64)
        assert len(values) and values.min() >= least and values.max() <= greatest, name
