"""The search loop alone: tiles are evaluated by a stand-in, without bars or workers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from optimizer.catalogue import METRICS
from optimizer.engine.tasks import TileFailure, TileTask
from optimizer.errors import StudyError
from optimizer.search.asker import new_asker
from optimizer.search.clock import Clock
from optimizer.search.loop import SearchLoop
from optimizer.search.progress import Progress, Tally
from optimizer.store.batch_files import holdout_path, moments_path
from optimizer.store.folder import StudyFolder
from optimizer.store.names import SCHEMA_VERSION
from optimizer.study_file.space import build_space
from optimizer.study_file.study import Study, study_from_dict
from optimizer.sweep.max_test import no_draws
from optimizer.sweep.tiles import Tile, TileResult
from tests.support.studies import mapping, result_hashes

N_TRIALS, BATCH, N_LANES, N_BLOCKS = 10, 4, 4, 16
SHARPE = METRICS.index("sharpe")


class Evaluator:
    """Evaluates tiles: the Sharpe ratio of a lane is the lookback, and a tenth for each lane before."""

    count = 1
    kernel_seconds = 0.0

    def __init__(self, failing: Iterable[int] = ()) -> None:
        self.failing = set(failing)
        self.batches: list[list[int]] = []
        self.maxima = no_draws()

    def fit_regimes(self, keys: Iterable[Any]) -> None:
        assert {name for name, _, _ in keys} <= {"none"}

    def evaluate(
        self, tasks: Sequence[TileTask], tiles: Sequence[Tile]
    ) -> list[TileResult | TileFailure]:
        lookbacks = [int(task.point["momentum_lookback"]) for task in tasks]
        self.batches.append(lookbacks)
        return [self._result(one, tile) for one, tile in zip(lookbacks, tiles, strict=True)]

    def _result(self, lookback: int, tile: Tile) -> TileResult | TileFailure:
        if lookback in self.failing:
            return TileFailure("it had to fail")
        metrics = np.ones((tile.n_lanes, len(METRICS)))
        metrics[:, SHARPE] = lookback + 0.1 * np.arange(tile.n_lanes)
        moments, alphas = np.ones((tile.n_lanes, 2, N_BLOCKS)), np.zeros((tile.n_lanes, 2))
        return TileResult(metrics, metrics, moments, alphas)


def study_of(**tables: Any) -> Study:
    return study_from_dict(mapping(search={"trials": N_TRIALS, "batch": BATCH}, **tables))


def new_folder(path: Path, study: Study) -> StudyFolder:
    path.mkdir()
    manifest = {
        "schema_version": SCHEMA_VERSION, "study": study.to_dict(), "study_source": study.source,
        "study_folder": str(study.base_path), "data_path": "bars.parquet", "symbols": ["AAA"],
        **dict.fromkeys(("study_hash", "data_hash", "files_hash", "kernels"), "0" * 64),
        "n_bars": 300, "first_bar": 40, "holdout_bar": 300, "span": ["2015-01-01", "2016-01-01"],
        "first_time": "2015-02-01", "holdout_time": None, "bars_per_year": 252.0, "versions": {},
        "bar_ns": 86_400 * 10**9, "complete": False,
    }  # fmt: skip
    return StudyFolder.create(path, manifest, overwrite=False)


def run(
    folder: StudyFolder, pool: Evaluator, study: Study | None = None
) -> tuple[Tally, list[Progress]]:
    study = study or study_of()
    space = build_space(study)
    tally, seen = Tally(study.search, N_TRIALS), list[Progress]()
    inputs: Any = SimpleNamespace(bounds=range(N_BLOCKS + 1))
    workers: Any = pool
    asker = new_asker(study, space, N_TRIALS)
    SearchLoop(study, space, inputs, folder, workers, asker, tally, Clock(), seen.append).run()
    return tally, seen


def test_every_point_is_evaluated_stored_and_counted_once(tmp_path: Path) -> None:
    folder, pool = new_folder(tmp_path / "study", study_of()), Evaluator()
    tally, seen = run(folder, pool)
    assert [len(batch) for batch in pool.batches] == [4, 4, 2]
    assert (tally.trials, tally.sets) == (N_TRIALS, N_LANES * N_TRIALS)
    assert [one.trials for one in seen] == [4, 8, 10]
    rows = folder.results()
    asked = [lookback for batch in pool.batches for lookback in batch]
    assert rows["momentum_lookback"].tolist() == np.repeat(asked, N_LANES).tolist()
    assert rows["set"].tolist() == list(range(N_LANES * N_TRIALS))
    assert rows["trial"].tolist() == np.repeat(range(N_TRIALS), N_LANES).tolist()
    assert seen[-1].best == rows["sharpe"].max() == max(asked) + 0.3


def test_batches_on_disk_are_told_again_and_not_evaluated(tmp_path: Path) -> None:
    folder = new_folder(tmp_path / "study", study_of())
    run(folder, Evaluator())
    before = result_hashes(folder)
    again = Evaluator()
    tally, seen = run(folder, again)
    assert again.batches == []
    assert (tally.trials, tally.sets) == (N_TRIALS, N_LANES * N_TRIALS)
    assert [one.trials for one in seen] == [N_TRIALS]
    assert result_hashes(folder) == before


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_batch_that_is_missing_is_evaluated_with_the_same_bytes(
    tmp_path: Path, number: int
) -> None:
    folder, whole = new_folder(tmp_path / "study", study_of()), Evaluator()
    run(folder, whole)
    before = result_hashes(folder)
    folder.batch_path(number).unlink()
    again = Evaluator()
    run(folder, again)
    assert again.batches == [whole.batches[number]]
    assert result_hashes(folder) == before


def test_batches_of_other_points_are_refused(tmp_path: Path) -> None:
    folder = new_folder(tmp_path / "study", study_of())
    run(folder, Evaluator())
    with pytest.raises(StudyError, match="trial 0 is not the one that this version asks"):
        run(folder, Evaluator(), study_of(study={"name": "small", "seed": 4}))


def test_a_batch_of_another_size_is_refused(tmp_path: Path) -> None:
    study = study_of()
    folder = new_folder(tmp_path / "study", study)
    run(folder, Evaluator())
    for path_of in (lambda path: path, moments_path, holdout_path):
        path_of(folder.batch_path(2)).rename(path_of(folder.batch_path(0)))
    with pytest.raises(StudyError, match="is not the one that this version asks"):
        run(folder, Evaluator())


def test_a_tile_that_fails_is_a_trial_without_rows(tmp_path: Path) -> None:
    folder, pool = new_folder(tmp_path / "study", study_of()), Evaluator()
    run(folder, pool)
    failing = pool.batches[0][0]
    n_failing = sum(batch.count(failing) for batch in pool.batches)
    other = new_folder(tmp_path / "other", study_of())
    tally, _ = run(other, Evaluator([failing]))
    rows = other.results()
    assert tally.trials == N_TRIALS
    assert tally.sets == len(rows) == N_LANES * (N_TRIALS - n_failing)
    assert failing not in rows["momentum_lookback"].tolist()
    assert rows["set"].tolist() == list(range(len(rows)))


def test_a_tile_without_a_set_is_not_evaluated(tmp_path: Path) -> None:
    search = {"trials": N_TRIALS, "batch": BATCH, "constraints": ["momentum_lookback <= 20"]}
    study = study_from_dict(mapping(search=search))
    folder, pool = new_folder(tmp_path / "study", study), Evaluator()
    tally, _ = run(folder, pool, study)
    asked = [lookback for batch in pool.batches for lookback in batch]
    assert asked and max(asked) <= 20
    assert (tally.trials, tally.sets) == (N_TRIALS, N_LANES * len(asked))


def few_points(sampler: str) -> Study:
    """A study of six points, of which every sampler but the grid repeats some in ten trials."""
    return study_from_dict(
        mapping(
            strategy={"lookback": {"choices": [10, 20, 30]}},
            risk={"max_exposure": 1.0},
            search={"sampler": sampler, "trials": N_TRIALS, "batch": BATCH},
        )
    )


@pytest.mark.parametrize("sampler", ["random", "qmc", "tpe", "nsga2"])
def test_a_point_that_was_tried_is_not_evaluated_again(tmp_path: Path, sampler: str) -> None:
    study = few_points(sampler)
    folder, pool = new_folder(tmp_path / "study", study), Evaluator()
    tally, _ = run(folder, pool, study)
    trials = folder.trials()
    first: dict[str, int] = {}
    for number, trial in enumerate(trials):
        place = first.setdefault(str(trial["params"]), number)
        known = trials[place]
        assert trial["values"] == known["values"]
        assert trial["user_attrs"]["n_sets"] == (N_LANES if place == number else 0)
        assert trial["user_attrs"].get("repeats") == (None if place == number else place)
    n_evaluated = sum(map(len, pool.batches))
    assert n_evaluated == len(first) < N_TRIALS == len(trials)
    rows = folder.results()
    assert len(rows) == tally.sets == tally.distinct == folder.n_distinct() == N_LANES * len(first)
    assert rows["set"].tolist() == list(range(len(rows)))
    assert rows["trial"].tolist() == np.repeat(list(first.values()), N_LANES).tolist()
    before = result_hashes(folder)
    for number in (2, 1, 0):
        folder.batch_path(number).unlink()
        again = Evaluator()
        run(folder, again, study)
        assert again.batches == [pool.batches[number]]
        assert result_hashes(folder) == before


def test_a_point_that_failed_fails_again_without_a_try(tmp_path: Path) -> None:
    study = few_points("random")
    folder, pool = new_folder(tmp_path / "study", study), Evaluator([10, 20, 30])
    tally, _ = run(folder, pool, study)
    assert sum(map(len, pool.batches)) < tally.trials == N_TRIALS
    assert {trial["user_attrs"]["reason"] for trial in folder.trials()} == {"it had to fail"}
    assert folder.results().empty
