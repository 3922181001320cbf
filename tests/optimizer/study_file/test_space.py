import itertools
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from optimizer.catalogue import CLASSIFIERS, COSTS, RISK, column
from optimizer.errors import StudyFileError
from optimizer.strategies.built_in import BUILT_IN
from optimizer.study_file.load import load_study
from optimizer.study_file.searched import Searched
from optimizer.study_file.space import Branch, Space, build_space
from optimizer.study_file.study import study_from_dict

STUDIES = Path(__file__).parents[3] / "studies"


def space(**tables: Any) -> Space:
    content = {"study": {"name": "s"}, "data": {"path": "x"}, "strategy": {"name": "momentum"}}
    return build_space(study_from_dict({**content, **tables}))


def branch(**tables: Any) -> Branch:
    return space(**tables).branches[0]


def rows(lanes: dict[str, np.ndarray], names: list[str]) -> list[tuple[float, ...]]:
    return list(zip(*(lanes[name].tolist() for name in names), strict=True))


# --- Branches ---------------------------------------------------------------------------------


def test_branches_are_strategies_under_classifiers() -> None:
    built = space(
        strategy=[{"name": "momentum"}, {"name": "sma_cross"}],
        classifier=[{"name": "hmm", "market": "SPY"}, {"name": "none"}],
    )
    assert [(b.strategy.name, b.classifier, b.market) for b in built.branches] == [
        ("momentum", "hmm", "SPY"),
        ("momentum", "none", None),
        ("sma_cross", "hmm", "SPY"),
        ("sma_cross", "none", None),
    ]
    assert built.strategy_names == ("momentum", "sma_cross")
    assert built.classifiers == ("hmm", "none")
    assert built.branch_index("sma_cross", "hmm") == 2
    with pytest.raises(KeyError):
        built.branch_index("sma_cross", "svm")
    owners = {
        "momentum": BUILT_IN["momentum"].parameters,
        "hmm": CLASSIFIERS["hmm"],
        "risk": RISK,
        "costs": COSTS,
    }
    expected = [column(o, p.name) for o, parameters in owners.items() for p in parameters]
    assert list(built.branches[0].columns) == expected
    assert set(built.parameter_names) == {n for b in built.branches for n in b.columns}
    assert len(built.parameter_names) == len(set(built.parameter_names))


def test_defaults_are_fixed() -> None:
    one = branch(risk={"allow_short": True})
    assert one.fixed["allow_short"] is True
    assert one.fixed["momentum_lookback"] == 60
    assert one.searched == ()
    assert one.swept == {}
    assert (one.n_lanes, one.n_points) == (1, 1)
    assert list(one.points()) == [{}]
    lanes = one.lanes({})
    assert set(lanes) == set(one.columns)
    assert "allow_short" not in lanes
    for parameter in (*RISK, *COSTS):
        assert lanes[parameter.name].tolist() == [parameter.default]


def test_searched_and_swept_are_told_apart() -> None:
    one = branch(
        strategy={
            "name": "momentum",
            "lookback": {"low": 10, "high": 30, "step": 10},
            "threshold": {"low": 0.1, "high": 0.2},
        },
        classifier={"name": "hmm", "lookback": {"choices": [60, 30]}},
        risk={"kelly_fraction": {"sweep": [0.5, 0.1]}, "volatility_lookback": {"sweep": [10, 20]}},
    )
    assert one.searched == (
        Searched("momentum_lookback", "int", 10, 30, 10),
        Searched("momentum_threshold", "float", 0.1, 0.2),
        Searched("hmm_lookback", "categorical", 30, 60, choices=(60, 30)),
    )
    # The lookback comes first: lanes side by side then read the same column.
    assert list(one.swept.items()) == [
        ("volatility_lookback", (10, 20)),
        ("kelly_fraction", (0.1, 0.5)),
    ]
    assert one.searched[1].continuous
    assert not one.searched[0].continuous


# --- Lanes ------------------------------------------------------------------------------------

SWEPT = {
    "kelly_fraction": st.floats(0, 10),
    "max_exposure": st.floats(0, 1),
    "stop_loss": st.floats(0, 0.99),
    "volatility_lookback": st.integers(2, 500),
    "rebalance_band": st.floats(0, 1),
}


@st.composite
def sweeps(draw: st.DrawFn) -> dict[str, list[float]]:
    names = draw(st.lists(st.sampled_from(sorted(SWEPT)), unique=True, max_size=4))
    return {n: draw(st.lists(SWEPT[n], min_size=1, max_size=4, unique=True)) for n in names}


@given(swept=sweeps(), cut=st.integers(0, 300), lookback=st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_lanes_are_the_cross_product(
    swept: dict[str, list[float]], cut: int, lookback: int
) -> None:
    one = branch(
        strategy={"name": "momentum", "lookback": {"low": 1, "high": 9}},
        risk={name: {"sweep": values} for name, values in swept.items()},
    )
    names = list(one.swept)
    assert set(names) == set(swept)
    lanes = one.lanes({"momentum_lookback": lookback})
    expected = list(itertools.product(*(sorted(swept[name]) for name in names)))
    assert one.n_lanes == len(expected)
    assert all(len(values) == len(expected) for values in lanes.values())
    if names:
        assert rows(lanes, names) == expected
    assert lanes["momentum_lookback"].tolist() == [lookback] * len(expected)
    # In two pieces they are the same lanes.
    pieces = [
        one.lanes({"momentum_lookback": lookback}, start, stop)
        for start, stop in ((0, cut), (cut, None))
    ]
    for name, values in lanes.items():
        joined = np.concatenate([piece[name] for piece in pieces])
        np.testing.assert_array_equal(joined, values)


def test_the_order_of_the_file_does_not_matter() -> None:
    risk = {"stop_loss": {"sweep": [0, 0.1]}, "kelly_fraction": {"sweep": [0.1, 0.2, 0.3]}}
    here, there = branch(risk=risk), branch(risk=dict(reversed(risk.items())))
    assert here == there
    assert rows(here.lanes({}), ["kelly_fraction", "stop_loss"])[:3] == [
        (0.1, 0.0),
        (0.1, 0.1),
        (0.2, 0.0),
    ]


def test_lanes_are_float64_and_read_only() -> None:
    for values in branch(risk={"stop_loss": {"sweep": [0, 0.1]}}).lanes({}).values():
        assert values.dtype == np.float64
        assert not values.flags.writeable


@given(
    fast=st.lists(st.integers(1, 30), min_size=1, max_size=6, unique=True),
    slow=st.lists(st.integers(1, 30), min_size=1, max_size=6, unique=True),
    least=st.sampled_from([0.0, 0.3]),
)
@settings(max_examples=50, deadline=None)
def test_lanes_that_break_a_parameter_constraint_are_dropped(
    fast: list[int], slow: list[int], least: float
) -> None:
    assume(min(fast) < max(slow))
    one = branch(
        strategy={"name": "sma_cross", "fast": {"sweep": fast}, "slow": {"sweep": slow}},
        risk={"max_exposure": {"choices": [0.2, 0.4]}},
        search={
            "constraints": [
                "sma_cross_fast < sma_cross_slow",
                f"max_exposure >= {least}",
                "n_trades >= 30",
            ]
        },
    )
    for exposure in (0.2, 0.4):
        lanes = one.lanes({"max_exposure": exposure})
        expected = [
            (f, s)
            for f, s in itertools.product(sorted(fast), sorted(slow))
            if f < s and exposure >= least
        ]
        assert rows(lanes, ["sma_cross_fast", "sma_cross_slow"]) == expected
        assert all(len(values) == len(expected) for values in lanes.values())


def test_a_constraint_touches_its_own_strategy_alone() -> None:
    built = space(
        strategy=[
            {"name": "sma_cross", "fast": {"sweep": [5, 50]}, "slow": 20},
            {"name": "momentum", "threshold": {"sweep": [0.0, 0.1]}},
        ],
        search={"constraints": ["sma_cross_fast < sma_cross_slow"]},
    )
    assert [len(b.lanes({})["kelly_fraction"]) for b in built.branches] == [1, 2]


def test_a_wrong_point_is_refused() -> None:
    one = branch(strategy={"name": "momentum", "lookback": {"low": 10, "high": 30, "step": 10}})
    for point in ({}, {"momentum_lookback": 10, "stop_loss": 0.1}, {"lookback": 10}):
        with pytest.raises(ValueError, match="point with"):
            one.lanes(point)
    for value in (15, 0, 40, float("nan"), float("inf"), "10"):
        with pytest.raises(ValueError, match="momentum_lookback = "):
            one.lanes({"momentum_lookback": value})


def test_a_sampler_s_rounding_is_corrected() -> None:
    one = branch(
        strategy={"name": "momentum", "threshold": {"low": 0.0, "high": 0.5, "step": 0.1}},
        risk={"stop_loss": {"choices": [0.3, 0.1]}, "take_profit": {"low": 0.0, "high": 1.0}},
    )
    assert 3 * 0.1 != 0.3
    point = {"momentum_threshold": 3 * 0.1, "stop_loss": 3 * 0.1, "take_profit": 3 * 0.1}
    lanes = one.lanes(point)
    assert lanes["momentum_threshold"].tolist() == [0.3]
    assert lanes["stop_loss"].tolist() == [0.3]
    assert lanes["take_profit"].tolist() == [3 * 0.1]
    assert one.lanes({**point, "momentum_threshold": np.float64(0.2)})[
        "momentum_threshold"
    ].tolist() == [0.2]


# --- Points -----------------------------------------------------------------------------------


@given(
    n_lookbacks=st.integers(1, 5),
    choices=st.lists(st.integers(2, 99), min_size=1, max_size=4, unique=True),
    n_steps=st.integers(0, 4),
)
@settings(max_examples=40, deadline=None)
def test_points_are_the_grid(n_lookbacks: int, choices: list[int], n_steps: int) -> None:
    one = branch(
        strategy={"name": "momentum", "lookback": {"low": 3, "high": 2 + n_lookbacks}},
        classifier={
            "name": "hmm",
            "lookback": {"choices": choices},
            "train_bars": 504,
            "refit_bars": 126,
        },
        risk={"stop_loss": {"low": 0.1, "high": [0.1, 0.2, 0.3, 0.4, 0.5][n_steps], "step": 0.1}},
    )
    expected = [
        {"momentum_lookback": lookback, "hmm_lookback": choice, "stop_loss": stop}
        for lookback in range(3, 3 + n_lookbacks)
        for choice in choices
        for stop in [0.1, 0.2, 0.3, 0.4, 0.5][: n_steps + 1]
    ]
    assert list(one.points()) == expected
    assert one.n_points == len(expected)
    for point in expected:
        one.lanes(point)


def test_logarithmic_whole_numbers_are_all_points() -> None:
    one = branch(
        strategy={"name": "momentum", "lookback": {"low": 2, "high": 6, "log": True}},
    )
    assert [point["momentum_lookback"] for point in one.points()] == [2, 3, 4, 5, 6]


def test_continuous_ranges_have_no_points() -> None:
    built = space(
        strategy=[
            {"name": "momentum", "threshold": {"low": 0.1, "high": 0.2}},
            {"name": "breakout"},
        ]
    )
    continuous = built.branches[0]
    assert continuous.n_points is None
    assert (built.n_points, built.n_sets) == (None, None)
    with pytest.raises(StudyFileError, match=r"^<study>: momentum_threshold: .* give it a step"):
        continuous.points()
    assert continuous.lanes({"momentum_threshold": 0.15})["momentum_threshold"].tolist() == [0.15]
    with pytest.raises(ValueError, match="momentum_threshold"):
        continuous.lanes({"momentum_threshold": 0.25})


def test_a_range_of_one_number_is_no_continuum() -> None:
    one = branch(strategy={"name": "momentum", "threshold": {"low": 0.1, "high": 0.1}})
    assert list(one.points()) == [{"momentum_threshold": 0.1}]


def test_huge_spaces_are_never_laid_out() -> None:
    tracemalloc.start()
    built = space(
        strategy={
            "name": "sma_cross",
            "fast": {"low": 1, "high": 100_000},
            "slow": {"low": 1, "high": 100_000},
            "band": {"low": 0.0, "high": 1.0, "step": 1e-9},
        },
        risk={
            "kelly_fraction": {"sweep": {"low": 0.0, "high": 1.0, "step": 0.001}},
            "max_weight": {"sweep": {"low": 0.0, "high": 2.0, "step": 0.001}},
            "stop_loss": {"sweep": {"low": 0.0, "high": 0.999, "step": 0.001}},
        },
    )
    one = built.branches[0]
    n_points, n_lanes = 100_000 * 100_000 * (10**9 + 1), 1001 * 2001 * 1000
    assert n_lanes > 2e9
    assert one.n_lanes == n_lanes
    assert built.n_points == n_points
    assert built.n_sets == n_points * n_lanes
    points = one.points()
    assert next(points) == {"sma_cross_fast": 1, "sma_cross_slow": 1, "sma_cross_band": 0.0}
    assert next(points) == {"sma_cross_fast": 1, "sma_cross_slow": 1, "sma_cross_band": 1e-9}
    last = one.point(n_points - 1)
    assert last == {
        "sma_cross_fast": 100_000,
        "sma_cross_slow": 100_000,
        "sma_cross_band": 1.0,
    }
    assert one.values("sma_cross_band") == (0.0, 1.0)
    lanes = one.lanes(last, n_lanes - 2)
    assert rows(lanes, ["kelly_fraction", "max_weight", "stop_loss"]) == [
        (1.0, 2.0, 0.998),
        (1.0, 2.0, 0.999),
    ]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20e6


# --- Values -----------------------------------------------------------------------------------


def test_lookbacks_are_of_all_branches() -> None:
    built = space(
        strategy=[
            {"name": "momentum", "lookback": {"low": 10, "high": 30, "step": 10}},
            {"name": "sma_cross", "fast": {"choices": [9, 5]}, "slow": {"sweep": [50, 40]}},
        ],
        classifier=[{"name": "hmm", "lookback": {"low": 4, "high": 6, "log": True}}],
    )
    assert built.lookbacks("momentum", "lookback") == (10, 20, 30)
    assert built.lookbacks("sma_cross", "fast") == (5, 9)
    assert built.lookbacks("sma_cross", "slow") == (40, 50)
    assert built.lookbacks("hmm", "lookback") == (4, 5, 6)
    assert built.lookbacks("risk", "volatility_lookback") == (20,)
    assert built.lookbacks("risk", "correlation_lookback") == (60,)
    for owner, parameter in (("breakout", "lookback"), ("momentum", "fast")):
        with pytest.raises(KeyError):
            built.lookbacks(owner, parameter)


def test_values_of_a_column() -> None:
    one = branch(
        risk={"kelly_fraction": {"sweep": [0.2, 0.1]}, "stop_loss": {"low": 0.1, "high": 0.2}}
    )
    assert one.values("kelly_fraction") == (0.1, 0.2)
    assert one.values("stop_loss") == (0.1, 0.2)
    assert one.values("max_exposure") == (1.0,)
    with pytest.raises(KeyError):
        one.values("sma_cross_fast")


# --- The studies that come with the project ---------------------------------------------------


def test_quickstart_tries_a_hundred_thousand_sets() -> None:
    study = load_study(STUDIES / "quickstart.toml")
    built = build_space(study)
    assert built.strategy_names == ("momentum",)
    assert built.classifiers == ("hmm", "none")
    assert built.lookbacks("hmm", "lookback") == (30, 60)
    assert all(b.n_lanes >= 2048 for b in built.branches)
    assert study.search.trials * min(b.n_lanes for b in built.branches) >= 100_000
    assert built.n_points is not None
    assert built.n_points > study.search.trials


def test_event_flow_is_a_grid_of_six_by_four() -> None:
    built = build_space(load_study(STUDIES / "event_flow.toml"))
    assert len(built.lookbacks("momentum", "lookback")) == 6
    assert built.lookbacks("hmm", "lookback") == built.lookbacks("svm", "lookback") == (30, 60)
    assert built.n_points == 24
    assert all(b.n_lanes > 1 for b in built.branches)


def test_crypto_intraday_drops_fast_above_slow() -> None:
    study = load_study(STUDIES / "crypto_intraday.toml")
    assert study.risk.allow_short
    one = build_space(study).branches[0]
    assert one.strategy.name == "ema_cross"
    sizes = {
        len(one.lanes({"ema_cross_fast": fast, "ema_cross_slow": slow})["kelly_fraction"])
        for fast, slow in ((288, 48), (48, 48))
    }
    assert sizes == {0}
    point = {"ema_cross_fast": 12, "ema_cross_slow": 48}
    assert len(one.lanes(point)["kelly_fraction"]) == one.n_lanes
