"""What a tile is worth, against loops over its lanes."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizer.catalogue import METRICS
from optimizer.search import plateau as plateau_module
from optimizer.search.objective import TileScore, score_tile
from optimizer.search.plateau import plateau
from optimizer.study_file.search_tables import SearchTable
from optimizer.types import FloatArray

GRID = {"kelly_fraction": (0.1, 0.2, 0.4), "momentum_threshold": (0.0, 0.01), "stop_loss": (0.0,)}
LANES = list(itertools.product(*GRID.values()))
N_LANES = len(LANES)


def columns_of(lanes: Sequence[tuple[float, ...]] = LANES) -> dict[str, FloatArray]:
    return {name: np.array([lane[i] for lane in lanes]) for i, name in enumerate(GRID)}


def metrics_of(n_lanes: int = N_LANES, **given_values: Sequence[float]) -> FloatArray:
    """Metrics by lane: those given, 1 elsewhere."""
    table = np.ones((n_lanes, len(METRICS)))
    for name, values in given_values.items():
        table[:, METRICS.index(name)] = values
    return table


def search(**keys: Any) -> SearchTable:
    return SearchTable.model_validate(keys)


def judge(keys: Mapping[str, Any], **metrics: Sequence[float]) -> TileScore:
    return score_tile(search(**keys), columns_of(), metrics_of(N_LANES, **metrics), GRID)


def plateau_by_loop(
    gains: Mapping[int, float], grid: Mapping[str, tuple[float, ...]] = GRID
) -> dict[int, float]:
    """Plateau scores of the lanes that have a value, with exact fractions up to the last root.

    A set counts twice along each parameter, a neighbour once, one that is further away not at all.
    """
    known = {lane: Fraction(gain) for lane, gain in gains.items() if math.isfinite(gain)}
    if not known:
        return {}
    centre = sum(known.values()) / len(known)
    places = list(itertools.product(*(range(len(values)) for values in grid.values())))

    def weight(lane: int, other: int) -> int:
        steps = [abs(a - b) for a, b in zip(places[lane], places[other], strict=True)]
        return math.prod(max(2 - step, 0) for step in steps)

    scores = {}
    for lane in known:
        weights = {i: Fraction(weight(lane, i)) for i in known}
        total = sum(weights.values())
        mean = sum(w * known[i] for i, w in weights.items()) / total
        spread = sum(w * w for w in weights.values()) / total**2 - Fraction(1, len(known))
        scores[lane] = mean - centre, spread
    least = min([spread for _, spread in scores.values() if spread > 0], default=Fraction(0))
    return {
        lane: float(centre) + float(away) * (math.sqrt(least / spread) if spread else 1.0)
        for lane, (away, spread) in scores.items()
    }


def quantile_by_hand(values: Sequence[float], q: float) -> float:
    """Linear between the two order statistics around ``q * (n - 1)``."""
    ordered = sorted(values)
    place = q * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


finite = st.floats(-5.0, 5.0, allow_subnormal=False)
anything = st.one_of(finite, st.sampled_from([math.nan, math.inf, -math.inf]))
lanes_of = st.lists(anything, min_size=N_LANES, max_size=N_LANES)
directions = st.sampled_from(["maximize", "minimize"])


@settings(max_examples=80, deadline=None)
@given(sharpe=lanes_of, direction=directions)
def test_best_is_the_best_finite_lane(sharpe: list[float], direction: str) -> None:
    score = judge({"direction": direction}, sharpe=sharpe)
    known = [value for value in sharpe if math.isfinite(value)]
    if not known:
        assert score.values is None
        assert "sharpe" in score.reason
        assert "finite" in score.reason
        return
    best = max(known) if direction == "maximize" else min(known)
    assert score.values == (best,)
    assert score.winner == sharpe.index(best)
    assert not score.reason
    for lane, value in enumerate(sharpe):
        seen = score.scores[lane]
        assert seen == value if math.isfinite(value) else math.isnan(seen)


@settings(max_examples=60, deadline=None)
@given(sharpe=lanes_of, q=st.floats(0.0, 1.0), direction=directions)
def test_a_quantile_is_counted_from_the_worst_lane(
    sharpe: list[float], q: float, direction: str
) -> None:
    score = judge({"direction": direction, "tile_value": {"quantile": q}}, sharpe=sharpe)
    known = [value for value in sharpe if math.isfinite(value)]
    if not known:
        assert score.values is None
        return
    sign = 1 if direction == "maximize" else -1
    expected = sign * quantile_by_hand([sign * value for value in known], q)
    assert score.values == pytest.approx((expected,), abs=1e-12)
    # The lane that represents the tile is still its best one.
    assert sign * sharpe[score.winner] == max(sign * value for value in known)


@settings(max_examples=40, deadline=None)
@given(sharpe=lanes_of)
def test_median(sharpe: list[float]) -> None:
    score = judge({"tile_value": "median"}, sharpe=sharpe)
    known = [value for value in sharpe if math.isfinite(value)]
    assert (score.values is None) == (not known)
    if score.values is not None:
        assert score.values == pytest.approx((statistics.median(known),), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(sharpe=lanes_of, direction=directions)
def test_plateau_is_the_best_mean_over_neighbours(sharpe: list[float], direction: str) -> None:
    score = judge({"direction": direction, "tile_value": "plateau"}, sharpe=sharpe)
    known = plateau_by_loop(dict(enumerate(sharpe)))
    if not known:
        assert score.values is None
        return
    means = [known.get(lane, math.nan) for lane in range(N_LANES)]
    np.testing.assert_allclose(score.scores, means, rtol=1e-12, atol=1e-12)
    best = max(known.values()) if direction == "maximize" else min(known.values())
    assert score.values == pytest.approx((best,), abs=1e-12)
    assert means[score.winner] == pytest.approx(best, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_plateau_leaves_out_lanes_that_constraints_dropped(data: st.DataObject) -> None:
    kept = data.draw(
        st.lists(st.integers(0, N_LANES - 1), min_size=1, max_size=N_LANES, unique=True).map(sorted)
    )
    gains = data.draw(st.lists(finite, min_size=len(kept), max_size=len(kept)))
    found = plateau(np.array(gains), columns_of([LANES[lane] for lane in kept]), GRID)
    by_lane = plateau_by_loop(dict(zip(kept, gains, strict=True)))
    np.testing.assert_allclose(found, [by_lane[lane] for lane in kept], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(3,), (3, 3), (3, 5), (3, 3, 3), (1, 2), (1,)])
def test_plateau_of_small_grids_is_that_of_the_loop(shape: tuple[int, ...]) -> None:
    grid = {f"p{i}": tuple(float(v) for v in range(n)) for i, n in enumerate(shape)}
    lanes = np.array(list(itertools.product(*grid.values())))
    gains = np.random.default_rng(shape).normal(size=len(lanes))
    found = plateau(gains, {name: lanes[:, i] for i, name in enumerate(grid)}, grid)
    expected = plateau_by_loop(dict(enumerate(gains.tolist())), grid)
    np.testing.assert_allclose(found, list(expected.values()), rtol=1e-12, atol=1e-12)


def wins_on_noise(shape: tuple[int, ...], n_tiles: int = 1500) -> dict[int, float]:
    """How often a set wins on noise, 1 where all win equally often, by the edges of the grid it is on."""
    random = np.random.default_rng(len(shape))
    swept = {f"p{i}": tuple(map(float, range(n))) for i, n in enumerate(shape)}
    places = np.indices(shape).reshape(len(shape), -1)
    columns = {f"p{i}": places[i].astype(float) for i in range(len(shape))}
    edges = np.array(shape)[:, np.newaxis] - 1
    n_edges = ((places == 0) | (places == edges)).sum(axis=0)
    won = np.zeros(places.shape[1])
    for _ in range(n_tiles):
        won[np.argmax(plateau(random.normal(size=places.shape[1]), columns, swept))] += 1
    return {k: float(won[n_edges == k].mean() * won.size / n_tiles) for k in range(len(shape) + 1)}


GRIDS = [(3,), (3, 3), (3, 5), (3, 3, 3), (20,), (7, 7), (10, 10), (5, 5, 5), (8, 8, 8)]


@pytest.mark.parametrize("shape", GRIDS)
def test_corners_and_inner_points_win_about_equally_often_on_noise(shape: tuple[int, ...]) -> None:
    wins = wins_on_noise(shape, 6000 if math.prod(shape) < 30 else 1500)
    assert 0.6 < wins[len(shape)] / wins[0] < 1.7
    assert all(0.6 < share < 1.6 for share in wins.values())


@pytest.mark.parametrize(("shape", "ratio"), [((10, 10), 6.0), ((8, 8, 8), 30.0)])
def test_plain_means_would_favour_corners(
    shape: tuple[int, ...], ratio: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plateau_module, "evened", lambda means, *_: means)
    wins = wins_on_noise(shape)
    assert wins[len(shape)] > ratio * max(wins[0], 0.01)


def test_a_corner_as_good_as_the_middle_has_the_lower_score() -> None:
    swept = {"kelly_fraction": tuple(float(k) for k in range(12))}
    gains = np.array([3.0, 3.0, 0.0, 0.0, 0.0, 3.0, 3.0, 3.0, 0.0, 0.0, 0.0, 0.0])
    scores = plateau(gains, {"kelly_fraction": np.arange(12.0)}, swept)
    assert scores[6] == pytest.approx(3.0)
    assert 2.0 < scores[0] < 3.0


def test_plateau_prefers_a_broad_hill_to_a_lone_peak() -> None:
    swept = {"kelly_fraction": tuple(float(k) for k in range(9))}
    gains = np.array([0.0, 0.0, 5.0, 0.0, 0.0, 3.0, 3.0, 3.0, 0.0])
    columns = {"kelly_fraction": np.arange(9.0)}
    assert int(np.argmax(plateau(gains, columns, swept))) == 6
    scored = score_tile(
        search(tile_value="plateau"), columns, metrics_of(9, sharpe=gains.tolist()), swept
    )
    assert scored.winner == 6
    assert scored.values == (3.0,)


def test_nothing_swept_is_one_lane() -> None:
    for tile_value in ("best", "median", "plateau", {"quantile": 0.3}):
        score = score_tile(
            search(tile_value=tile_value), {"kelly_fraction": np.array([0.2])},
            metrics_of(1, sharpe=[1.5]), {},
        )  # fmt: skip
        assert score.values == (1.5,)
        assert score.winner == 0


@pytest.mark.parametrize("infinite", [math.inf, -math.inf])
@pytest.mark.parametrize("direction", ["maximize", "minimize"])
@pytest.mark.parametrize("tile_value", ["best", "median", "plateau", {"quantile": 1.0}])
def test_an_infinite_objective_never_wins(infinite: float, direction: str, tile_value: Any) -> None:
    keys = {"objective": "profit_factor", "direction": direction, "tile_value": tile_value}
    score = judge(keys, profit_factor=[infinite, 2.0, math.nan, 3.0, infinite, 2.5])
    assert score.values is not None
    assert all(math.isfinite(value) for value in score.values)
    assert score.winner in (1, 3, 5)
    assert np.isnan(score.scores[[0, 2, 4]]).all()


def test_a_tile_without_a_finite_value_fails_with_a_reason() -> None:
    score = judge({}, sharpe=[math.nan] * N_LANES)
    assert score.values is None
    assert score.reason == "sharpe: not finite for any parameter set of the tile"
    assert np.isnan(score.scores).all()


def test_a_lane_needs_every_objective_to_be_finite() -> None:
    keys = {"objective": ["sharpe", "calmar"]}
    sharpe, calmar = [9.0, 1, 2, 3, 4, 5], [math.nan, 1, 2, 3, 4, 5]
    score = judge(keys, sharpe=sharpe, calmar=calmar)
    assert score.values == (5.0, 5.0)
    failed = judge(keys, sharpe=[math.nan, 1] * 3, calmar=[1, math.inf] * 3)
    assert failed.values is None
    assert failed.reason.startswith("sharpe and calmar: ")


# --- Constraints ------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(
    sharpe=st.lists(finite, min_size=N_LANES, max_size=N_LANES),
    drawdown=st.lists(st.floats(0.0, 1.0), min_size=N_LANES, max_size=N_LANES),
    trades=st.lists(st.integers(0, 60), min_size=N_LANES, max_size=N_LANES),
)
def test_the_best_feasible_lane_wins(
    sharpe: list[float], drawdown: list[float], trades: list[int]
) -> None:
    keys = {"constraints": ["max_drawdown <= 0.25", "n_trades >= 30"]}
    score = judge(keys, sharpe=sharpe, max_drawdown=drawdown, n_trades=trades)
    feasible = [d <= 0.25 and n >= 30 for d, n in zip(drawdown, trades, strict=True)]
    assert score.feasible.tolist() == feasible
    assert list(score.violations) == ["max_drawdown <= 0.25", "n_trades >= 30"]
    if any(feasible):
        best = max(value for value, kept in zip(sharpe, feasible, strict=True) if kept)
        assert score.values == (best,)
        assert feasible[score.winner]
        assert set(score.violations.values()) == {0.0}
    else:
        # Infeasible, but told to the sampler with how far off it is.
        assert score.values == (sharpe[score.winner],)
        over = max(drawdown[score.winner] - 0.25, 0.0)
        under = max(30.0 - trades[score.winner], 0.0)
        assert score.violations["max_drawdown <= 0.25"] == pytest.approx(over, abs=1e-11)
        assert score.violations["n_trades >= 30"] == pytest.approx(under, abs=1e-11)
        assert max(score.violations.values()) > 0.0


def test_robust_values_are_over_feasible_lanes_alone() -> None:
    sharpe, drawdown = [9.0, 1.0, 2.0, 4.0, 8.0, 7.0], [0.9, 0.1, 0.1, 0.1, 0.9, 0.9]
    keys = {"constraints": ["max_drawdown <= 0.25"]}
    best = judge({**keys}, sharpe=sharpe, max_drawdown=drawdown)
    median = judge({**keys, "tile_value": "median"}, sharpe=sharpe, max_drawdown=drawdown)
    least = judge({**keys, "tile_value": {"quantile": 0}}, sharpe=sharpe, max_drawdown=drawdown)
    assert (best.values, median.values, least.values) == ((4.0,), (2.0,), (1.0,))


def test_of_infeasible_lanes_the_nearest_to_feasible_stands_for_the_tile() -> None:
    keys = {"constraints": ["n_trades >= 30"]}
    score = judge(keys, sharpe=[9, 1, 2, 9, 9, 9], n_trades=[5, 20, 29, 10, 0, 28])
    assert score.winner == 2
    assert score.values == (2.0,)
    assert score.violations == {"n_trades >= 30": 1.0}
    assert not score.feasible.any()
    tied = judge(keys, sharpe=[1, 7, 3, 9, 9, 9], n_trades=[29, 29, 29, 10, 0, 28])
    assert tied.winner == 1


def test_the_nearest_to_feasible_has_a_finite_objective() -> None:
    keys = {"constraints": ["n_trades >= 30"]}
    score = judge(keys, sharpe=[math.nan, 1, 2, 3, 4, 5], n_trades=[29, 3, 2, 1, 4, 0])
    assert score.winner == 4


@pytest.mark.parametrize(
    ("constraint", "kept"),
    [
        ("n_trades > 30", [False, False, True]),
        ("n_trades >= 30", [False, True, True]),
        ("n_trades < 30", [True, False, False]),
        ("n_trades <= 30", [True, True, False]),
        ("n_trades == 30", [False, True, False]),
        ("30 <= n_trades", [False, True, True]),
    ],
)
def test_a_constraint_is_broken_exactly_where_its_violation_is_above_zero(
    constraint: str, kept: list[bool]
) -> None:
    for trades, holds in zip([29, 30, 31], kept, strict=True):
        score = judge({"constraints": [constraint]}, n_trades=[trades] * N_LANES)
        assert score.feasible.tolist() == [holds] * N_LANES
        assert (score.violations[constraint] == 0.0) == holds
        assert score.violations[constraint] >= 0.0


def test_an_undefined_metric_breaks_its_constraint() -> None:
    keys = {"constraints": ["win_rate >= 0.4"]}
    score = judge(keys, sharpe=[9, 1, 2, 3, 4, 5], win_rate=[math.nan, 0.1, 0.2, 0.35, 0.1, 0.1])
    assert not score.feasible.any()
    assert score.winner == 3
    alone = judge(keys, win_rate=[math.nan] * N_LANES)
    assert alone.values is not None
    assert math.isfinite(alone.violations["win_rate >= 0.4"])
    assert alone.violations["win_rate >= 0.4"] > 1e6


def test_two_metrics_can_be_compared() -> None:
    keys = {"constraints": ["sharpe <= sortino"]}
    score = judge(keys, sharpe=[1, 2, 3, 4, 5, 6], sortino=[2, 2, 2, 9, 1, 1])
    assert score.feasible.tolist() == [True, True, False, True, False, False]
    assert score.winner == 3


def test_a_constraint_on_a_parameter_that_the_tile_lacks_does_not_apply() -> None:
    keys = {"constraints": ["n_trades >= breakout_lookback", "kelly_fraction <= 0.2"]}
    score = judge(keys, n_trades=[0] * N_LANES)
    assert score.feasible.all()
    assert score.violations == {}


def test_plateau_ranks_feasible_lanes_but_averages_over_all() -> None:
    swept = {"kelly_fraction": (1.0, 2.0, 3.0)}
    score = score_tile(
        search(tile_value="plateau", constraints=["n_trades >= 30"]),
        {"kelly_fraction": np.array([1.0, 2.0, 3.0])},
        metrics_of(3, sharpe=[3.0, 6.0, 0.0], n_trades=[30, 1, 30]),
        swept,
    )
    # Means 4, 3.75 and 2 around 3, with variances 2/9, 1/24 and 2/9.
    off = math.sqrt(3.0) / 4.0
    assert score.scores == pytest.approx([3.0 + off, 3.75, 3.0 - off])
    assert score.winner == 0
    assert score.values == pytest.approx((3.0 + off,))


# --- Several objectives -----------------------------------------------------------------------


def test_each_objective_has_its_own_direction() -> None:
    keys = {"objective": ["sharpe", "max_drawdown"]}
    score = judge(keys, sharpe=[1, 2, 3, 4, 5, 6], max_drawdown=[0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
    assert score.winner == 5
    assert score.values == (6.0, 0.1)
    assert score.scores.tolist() == [1, 2, 3, 4, 5, 6]
    turned = judge({**keys, "direction": ["minimize", "maximize"]},
                   sharpe=[1, 2, 3, 4, 5, 6], max_drawdown=[0.6, 0.5, 0.4, 0.3, 0.2, 0.1])  # fmt: skip
    assert turned.winner == 0
    assert turned.values == (1.0, 0.6)


distinct = st.permutations(range(N_LANES))


@settings(max_examples=60, deadline=None)
@given(sharpe=distinct, drawdown=distinct)
def test_with_several_objectives_the_best_mean_rank_wins(
    sharpe: list[int], drawdown: list[int]
) -> None:
    keys = {"objective": ["sharpe", "max_drawdown"]}
    score = judge(keys, sharpe=sharpe, max_drawdown=drawdown)
    by_rank = [
        sum(other < sharpe[lane] for other in sharpe)
        + sum(other > drawdown[lane] for other in drawdown)
        for lane in range(N_LANES)
    ]
    assert score.winner == by_rank.index(max(by_rank))
    assert score.values == (sharpe[score.winner], drawdown[score.winner])


@settings(max_examples=150, deadline=None)
@given(
    sharpe=st.lists(st.integers(0, 3), min_size=N_LANES, max_size=N_LANES),
    trades=st.lists(st.integers(0, 3), min_size=N_LANES, max_size=N_LANES),
)
def test_no_other_lane_is_better_in_every_objective(sharpe: list[int], trades: list[int]) -> None:
    """Ties are common where an objective counts, as n_trades does."""
    keys = {"objective": ["sharpe", "n_trades"], "direction": ["maximize", "maximize"]}
    winner = judge(keys, sharpe=sharpe, n_trades=trades).winner
    for lane in range(N_LANES):
        at_least = sharpe[lane] >= sharpe[winner] and trades[lane] >= trades[winner]
        better = sharpe[lane] > sharpe[winner] or trades[lane] > trades[winner]
        assert not (at_least and better), f"lane {lane} dominates the winner {winner}"


def test_a_robust_value_is_taken_of_each_objective() -> None:
    keys = {"objective": ["sharpe", "max_drawdown"], "tile_value": {"quantile": 0.25}}
    sharpe, drawdown = [1.0, 2, 3, 4, 5, 6], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    score = judge(keys, sharpe=sharpe, max_drawdown=drawdown)
    assert score.values == pytest.approx(
        (quantile_by_hand(sharpe, 0.25), quantile_by_hand(drawdown, 0.75))
    )
