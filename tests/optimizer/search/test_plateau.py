"""The plateau score over all tiles of a study, against a slow version, on noise, and in a study."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizer.errors import StudyError
from optimizer.search import plateau as plateau_module
from optimizer.search.calibrate import calibrate
from optimizer.search.plateau import plateau, plateau_over_tiles
from optimizer.search.result import StudyResult
from optimizer.search.resume import resume_study
from optimizer.search.run import run_study
from optimizer.store.names import PLATEAU
from optimizer.store.query import find_sets
from optimizer.study_file.space import Space, build_space
from tests.support.studies import small_study

LOOKBACK, THRESHOLD, KELLY = "momentum_lookback", "momentum_threshold", "kelly_fraction"
RISK = {"kelly_fraction": {"low": 1.0, "high": 9.0, "step": 1.0}, "max_exposure": 1.0,
        "volatility_lookback": 20}  # fmt: skip
GRID: dict[str, Any] = {
    "strategy": {"lookback": {"low": 5, "high": 30, "step": 5}},
    "risk": {"max_exposure": {"low": 0.4, "high": 1.0, "step": 0.3}, "volatility_lookback": 20},
    "search": {"sampler": "grid", "tile_value": "plateau"},
}


def space_of(**tables: Any) -> Space:
    """Searched lookbacks 1 to 12 and Kelly fractions, swept thresholds, unless given."""
    strategy = {"lookback": {"low": 1, "high": 12}, "threshold": {"sweep": [0.0, 0.01, 0.02]}}
    tables = {"strategy": strategy, "risk": RISK, **tables}
    return build_space(small_study(Path("bars.parquet"), **tables))


def frame_of(names: Sequence[str], sets: Sequence[Sequence[float]], values: Any) -> pd.DataFrame:
    table = {name: [float(one[i]) for one in sets] for i, name in enumerate(names)}
    return pd.DataFrame({"strategy": "momentum", "classifier": "none", **table, "sharpe": values})


def scores_by_loop(
    sets: Sequence[Sequence[float]], values: Sequence[float], swept: Mapping[int, Sequence[float]]
) -> dict[Sequence[float], float]:
    """Plateau scores by set, found by looking at every other set along one parameter after the other."""
    known = dict(zip(sets, values, strict=True))
    tried = list(known)

    def neighbours(one: Sequence[float], axis: int) -> list[Sequence[float]]:
        line = sorted(
            (other for other in tried if all(
                a == b for i, (a, b) in enumerate(zip(one, other, strict=True)) if i != axis)),
            key=lambda other: other[axis],
        )  # fmt: skip
        at = line.index(one)
        near = line[max(at - 1, 0) : at] + line[at + 1 : at + 2]
        if axis not in swept:
            return near
        steps = list(swept[axis])
        return [o for o in near if abs(steps.index(o[axis]) - steps.index(one[axis])) == 1]

    def weights(one: Sequence[float], axis: int) -> dict[Sequence[float], int]:
        if axis < 0:
            return {one: 1}
        found: dict[Sequence[float], int] = {}
        for start, weight in [(one, 2), *((other, 1) for other in neighbours(one, axis))]:
            for end, further in weights(start, axis - 1).items():
                found[end] = found.get(end, 0) + weight * further
        return found

    finite = {one: Fraction(value) for one, value in known.items() if math.isfinite(value)}
    if not finite:
        return {}
    centre = sum(finite.values()) / len(finite)
    parts = {}
    for one in finite:
        found = {k: w for k, w in weights(one, len(one) - 1).items() if k in finite}
        total = sum(found.values())
        mean = Fraction(sum(w * finite[k] for k, w in found.items())) / total
        spread = Fraction(sum(w * w for w in found.values()), total**2) - Fraction(1, len(finite))
        parts[one] = mean - centre, spread
    least = min((spread for _, spread in parts.values() if spread > 0), default=Fraction(0))
    return {
        one: float(centre) + float(away) * (math.sqrt(least / spread) if spread else 1.0)
        for one, (away, spread) in parts.items()
    }


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_scores_are_those_of_a_loop(data: st.DataObject) -> None:
    """Of any sets that a sampler may have tried, some without a value, some several times."""
    points = st.tuples(st.integers(1, 6), st.sampled_from([0.0, 0.01, 0.02]), st.integers(1, 4))
    sets = data.draw(st.lists(points, min_size=1, max_size=25))
    value = st.one_of(st.floats(-5.0, 5.0, allow_subnormal=False), st.just(math.nan))
    by_set = {one: data.draw(value) for one in dict.fromkeys(sets)}
    # The order of the space: searched before swept.
    names = (LOOKBACK, KELLY, THRESHOLD)
    ordered = [(a, c, b) for a, b, c in sets]
    values = [by_set[one] for one in sets]
    found = plateau_over_tiles(frame_of(names, ordered, values), space_of(), "sharpe")
    expected = scores_by_loop(ordered, values, {2: (0.0, 0.01, 0.02)})
    np.testing.assert_allclose(
        found, [expected.get(one, math.nan) for one in ordered], rtol=1e-9, atol=1e-9
    )


def test_a_grid_of_tiles_has_the_scores_of_one_tile_that_sweeps_it() -> None:
    grid = {LOOKBACK: tuple(map(float, range(1, 13))), KELLY: tuple(map(float, range(1, 10))),
            THRESHOLD: (0.0, 0.01, 0.02)}  # fmt: skip
    sets = list(itertools.product(*grid.values()))
    values = np.random.default_rng(1).normal(size=len(sets))
    values[[0, 40, 41]] = np.nan
    frame = frame_of(tuple(grid), sets, values)
    expected = plateau(values, {name: frame[name].to_numpy() for name in grid}, grid)
    mixed = np.random.default_rng(2).permutation(len(sets))
    found = plateau_over_tiles(frame.iloc[mixed].reset_index(drop=True), space_of(), "sharpe")
    np.testing.assert_allclose(found, expected[mixed], rtol=1e-12)


def test_a_hill_of_searched_lookbacks_is_preferred_to_a_lone_spike() -> None:
    lookbacks = (1, 2, 3, 5, 6, 8, 9, 10, 12)
    values = (0.0, 0.1, 2.0, 0.1, 0.0, 1.1, 1.3, 1.2, 0.4)
    space = space_of(risk={**RISK, "kelly_fraction": 1.0}, strategy={
        "lookback": {"low": 1, "high": 12}, "threshold": 0.0})  # fmt: skip
    frame = frame_of((LOOKBACK,), [(one,) for one in lookbacks], values)
    assert lookbacks[int(np.argmax(plateau_over_tiles(frame, space, "sharpe")))] == 9
    # In its own tile each has no neighbour.
    assert lookbacks[int(np.argmax(plateau(np.array(values), {}, {})))] == 3


def test_a_lone_point_between_far_ones_is_drawn_to_the_mean() -> None:
    """Nothing is known next to it: the less its neighbours say, the less it counts."""
    sets = [*((lookback, 1) for lookback in range(1, 10)), (12, 9)]
    values = [0.0, 0.0, 0.2, 0.8, 1.0, 0.9, 0.2, 0.0, 0.0, 1.2]
    space = space_of(strategy={"lookback": {"low": 1, "high": 12}, "threshold": 0.0})
    scores = plateau_over_tiles(frame_of((LOOKBACK, KELLY), sets, values), space, "sharpe")
    assert int(np.argmax(scores)) == 4
    assert np.mean(values) < scores[-1] < scores[4] < 1.0


def wins_on_noise(lookbacks: Sequence[int], n_studies: int = 1000) -> dict[int, float]:
    """How often a set of lookback and Kelly fraction wins on noise, by the edges on which it is."""
    random = np.random.default_rng(len(lookbacks))
    sets = list(itertools.product(lookbacks, range(1, 10)))
    n_edges = np.array([(a in (min(lookbacks), max(lookbacks))) + (b in (1, 9)) for a, b in sets])
    space = space_of(strategy={"lookback": {"low": 1, "high": 12}, "threshold": 0.0})
    frame = frame_of((LOOKBACK, KELLY), sets, 0.0)
    won = np.zeros(len(sets))
    for _ in range(n_studies):
        frame["sharpe"] = random.normal(size=len(sets))
        won[np.argmax(plateau_over_tiles(frame, space, "sharpe"))] += 1
    return {k: float(won[n_edges == k].mean() * won.size / n_studies) for k in range(3)}


@pytest.mark.parametrize("lookbacks", [tuple(range(1, 13)), (1, 2, 5, 6, 7, 11, 12)])
def test_no_corner_of_searched_parameters_is_favoured_on_noise(lookbacks: tuple[int, ...]) -> None:
    wins = wins_on_noise(lookbacks)
    assert all(0.6 < share < 1.6 for share in wins.values()), wins
    assert wins[2] / wins[0] < 1.8


def test_plain_means_would_favour_the_corners(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plateau_module, "evened", lambda means, *_: means)
    wins = wins_on_noise(tuple(range(1, 13)))
    assert wins[2] > 6.0 * max(wins[0], 0.01)


def test_strategies_with_fewer_neighbours_are_not_favoured_on_noise() -> None:
    """The mean over a line varies more than that over a plane."""
    space = space_of(
        strategy=[
            {"name": "momentum", "lookback": {"low": 1, "high": 8}, "threshold": 0.0},
            {"name": "breakout", "lookback": {"low": 1, "high": 64}, "width": 1.0},
        ],
        risk={
            **RISK,
            "kelly_fraction": 1.0,
            "max_exposure": {"low": 0.1, "high": 0.8, "step": 0.1},
        },
    )
    plane = frame_of((LOOKBACK, "max_exposure"),
                     [(a, b / 10) for a in range(1, 9) for b in range(1, 9)], 0.0)  # fmt: skip
    line = pd.DataFrame({"strategy": "breakout", "classifier": "none", "max_exposure": 0.1,
                         "breakout_lookback": np.arange(1.0, 65.0), "sharpe": 0.0})  # fmt: skip
    frame = pd.concat([plane, line], ignore_index=True)
    random = np.random.default_rng(4)
    won = 0
    for _ in range(600):
        frame["sharpe"] = random.normal(size=len(frame))
        won += int(np.argmax(plateau_over_tiles(frame, space, "sharpe"))) >= len(plane)
    assert 0.35 < won / 600 < 0.65


# --- In a study ----------------------------------------------------------------------------------


def run(data: Path, out: Path, workers: int = 1, /, **tables: Any) -> StudyResult:
    tables = {name: {**GRID.get(name, {}), **tables.get(name, {})} for name in {*GRID, *tables}}
    return run_study(small_study(data, **tables), out=out, workers=workers)


@pytest.fixture(scope="module")
def searched(data: Path, tmp_path_factory: pytest.TempPathFactory) -> StudyResult:
    """A grid of 6 lookbacks and 3 exposures, each a tile of 4 sets."""
    return run(data, tmp_path_factory.mktemp("searched") / "out")


def test_a_searched_grid_has_the_winner_of_a_swept_one(
    searched: StudyResult, data: Path, tmp_path: Path
) -> None:
    swept = run(
        data,
        tmp_path / "swept",
        strategy={"lookback": {"sweep": [5, 10, 15, 20, 25, 30]}},
        risk={"max_exposure": {"sweep": [0.4, 0.7, 1.0]}},
    )
    names = [LOOKBACK, "max_exposure", THRESHOLD, KELLY]
    one, other = (
        result.results().sort_values(names)[[*names, "score"]].reset_index(drop=True)
        for result in (searched, swept)
    )
    pd.testing.assert_frame_equal(one, other, rtol=1e-9)
    assert searched.best(1)[names].equals(swept.best(1)[names])


def test_scores_depend_on_the_sets_alone(searched: StudyResult, data: Path, tmp_path: Path) -> None:
    expected = searched.results()["score"]
    for name, workers, batch in (("workers", 2, 4), ("batches", 1, 7)):
        found = run(data, tmp_path / name, workers, search={"batch": batch})
        assert found.results()["score"].equals(expected)
    # A study that was killed after some batches has the rest of them, and the same scores.
    folder = run(data, tmp_path / "killed").folder
    folder.batch_paths()[-1].unlink()
    (folder.path / PLATEAU).unlink()
    folder.write_manifest({**folder.manifest(), "complete": False})
    assert resume_study(folder.path, workers=1).results()["score"].equals(expected)


def test_the_winner_and_every_table_rank_by_the_scores(searched: StudyResult) -> None:
    folder = searched.folder
    numbers, scores = (searched.results()[name].to_numpy() for name in ("set", "score"))
    in_tiles = pd.concat([pd.read_parquet(path) for path in folder.batch_paths()])[
        "score"
    ].to_numpy()
    assert not np.allclose(scores, in_tiles)
    assert folder.trials()[0]["values"] == [in_tiles[:4].max()]
    best = int(numbers[np.argmax(scores)])
    assert best != int(numbers[np.argmax(in_tiles)]), "bars on which the neighbours decide"
    assert folder.manifest()["winner"] == best == int(searched.best(1)["set"].iloc[0])
    assert find_sets(folder.path, top=1)["set"].tolist() == [best]
    at_least = f"score >= {float(scores.max())!r}"
    assert find_sets(folder.path, where=at_least)["set"].tolist() == [best]
    assert folder.sets([best])["score"].tolist() == [scores.max()]


def test_every_window_chooses_by_its_own_plateau(data: Path, tmp_path: Path) -> None:
    tables = {"validation": {"method": "walk_forward"}}
    folds = run(data, tmp_path / "out", **tables).folder.path / "folds"
    windows = sorted(one for one in folds.iterdir() if one.is_dir())
    assert len(windows) > 2
    assert all((one / PLATEAU).is_file() for one in windows)


def test_a_calibration_compares_winners_by_their_plateau(
    searched: StudyResult, data: Path, tmp_path: Path
) -> None:
    own = calibrate(small_study(data, **GRID), copies=1, out=tmp_path / "out", workers=1).own
    assert own.number == searched.folder.manifest()["winner"]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def of_other_sets(path: Path) -> None:
    rows = pd.read_parquet(path)
    rows.assign(set=rows["set"] + 1).to_parquet(path, index=False)


def with_more_rows(path: Path) -> None:
    rows = pd.read_parquet(path)
    pd.concat([rows, rows.assign(set=rows["set"] + 1000)]).to_parquet(path, index=False)


def of_bars(path: Path) -> None:
    pd.DataFrame({"set": [0], "open": [1.0]}).to_parquet(path, index=False)


@pytest.mark.parametrize("damage", [cut, of_other_sets, with_more_rows, of_bars])
def test_damaged_scores_are_named_and_computed_again(
    damage: Callable[[Path], None], data: Path, tmp_path: Path
) -> None:
    result = run(data, tmp_path / "out")
    expected, path = result.results(), result.folder.path / PLATEAU
    damage(path)
    with pytest.raises(StudyError, match=r"plateau\.parquet: .*resume"):
        result.results()
    again = resume_study(result.folder.path, workers=1)
    pd.testing.assert_frame_equal(again.results(), expected, check_exact=True)
