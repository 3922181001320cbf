"""What a study will take, and what is refused before it starts."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import tomli_w
from joblib import cpu_count

from benchmarks.memory import measure
from optimizer.engine.pool import Pool
from optimizer.errors import StudyError
from optimizer.search import preflight
from optimizer.search.preflight import Estimate, estimate, refuse_what_cannot_fit
from optimizer.search.prepare import prepare_study
from optimizer.search.run import run_study
from optimizer.store.completeness import count_trials
from optimizer.study_file.space import build_space
from optimizer.study_file.study import study_from_dict
from optimizer.sweep.rules import study_rules
from tests.support.studies import mapping, random_bars, small_study, write_bars

BARS = random_bars(120)


def needs(workers: int = 2, **tables: Any) -> Estimate:
    study = study_from_dict(mapping(**tables))
    space = build_space(study)
    return estimate(study, space, BARS, study_rules(study, space, BARS), workers)


def trials(**tables: Any) -> int:
    study = study_from_dict(mapping(**tables))
    return count_trials(study, build_space(study))


STEPPED = {"max_exposure": {"low": 0.4, "high": 1.0, "step": 0.3}}
TWO = [
    {"name": "momentum", "lookback": {"low": 5, "high": 40, "step": 5},
     "threshold": {"sweep": [0.0, 0.02]}},
    {"name": "breakout", "lookback": {"choices": [10, 20]}, "width": 1.0},
]  # fmt: skip


def test_trials_are_those_asked_for() -> None:
    assert trials() == 10
    assert trials(search={"trials": 12_345}) == 12_345


def test_a_grid_has_as_many_trials_as_points() -> None:
    grid = {"sampler": "grid", "trials": 3}
    assert trials(search=grid, risk=STEPPED) == 8 * 3 * 2
    assert trials(search=grid, risk=STEPPED, strategy=TWO) == (8 + 2) * 3 * 2
    both = [{"name": "none"}, {"name": "hmm", "lookback": {"choices": [5, 9]}}]
    counted = sum(
        lookbacks * models * 3 * 2 for lookbacks, models in itertools.product((8, 2), (1, 2))
    )
    assert trials(search=grid, risk=STEPPED, strategy=TWO, classifier=both) == counted


def test_a_single_point_is_one_trial() -> None:
    fixed = {"max_exposure": 1.0, "volatility_lookback": 20}
    assert trials(strategy={"lookback": 10}, risk=fixed, search={"trials": 500}) == 1


def test_sets_are_trials_times_the_sweep() -> None:
    found = needs()
    assert (found.n_trials, found.lanes_per_tile, found.n_sets) == (10, 4, 40)
    assert found.workers == 2
    # Of a grid of unlike tiles the sets are counted one by one.
    grid = needs(search={"sampler": "grid"}, risk=STEPPED, strategy=TWO)
    assert grid.lanes_per_tile == 4
    assert grid.n_sets == 6 * (8 * 4 + 2 * 2)


def test_workers_are_one_per_core_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "cpu_count", lambda: 7)
    assert needs(workers=0).workers == 7
    assert needs(workers=3).workers == 3
    assert needs(workers=8).workers == 7


def test_workers_of_a_cluster_are_not_limited_by_this_machine() -> None:
    study = study_from_dict(mapping(workers={"backend": "dask", "address": "tcp://far:8786"}))
    space = build_space(study)
    far = estimate(study, space, BARS, study_rules(study, space, BARS), 1000)
    assert far.workers == 1000
    assert far.memory_bytes == needs(workers=1).memory_bytes


def test_more_work_takes_more() -> None:
    less, more = needs(), needs(search={"trials": 100_000})
    assert more.seconds > less.seconds
    assert more.disk_bytes > less.disk_bytes
    assert needs(workers=2).memory_bytes > needs(workers=1).memory_bytes
    wide = needs(strategy={"threshold": {"sweep": {"low": 0.0, "high": 1.0, "step": 0.001}}})
    assert wide.memory_bytes > less.memory_bytes
    fits = needs(classifier={"name": "hmm", "refit_bars": 1, "train_bars": 30})
    assert fits.seconds > less.seconds


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "cmaes"])
def test_the_searches_of_windows_are_part_of_it(sampler: str) -> None:
    search = {"sampler": sampler, "trials": 1000}
    walk = {"method": "walk_forward", "blocks": 8, "train_blocks": 3}
    risk = {"correlation_penalty": 0.0}
    plain = needs(search=search, risk=risk, validation={"blocks": 8})
    whole = needs(search=search, risk=risk, validation=walk)
    assert (plain.n_windows, whole.n_windows) == (0, 6)
    assert whole.n_sets == plain.n_sets == 4000
    rows = 6 * (4000 * preflight.BYTES_PER_ROW + 1000 * preflight.BYTES_PER_TRIAL)
    assert whole.disk_bytes > plain.disk_bytes + rows
    assert whole.memory_bytes == plain.memory_bytes + plain.shared_bytes
    # The sampler takes as long for each; a window trains on 3 of 8 blocks.
    of_sampler = 6 * 1000 * preflight.SECONDS_PER_TRIAL[sampler]
    of_sets = 6 * 3 / 8 * 4000 * BARS.n_bars * BARS.n_symbols * preflight.NS_PER_STEP * 1e-9 / 2
    assert whole.seconds - plain.seconds == pytest.approx(of_sampler + of_sets)
    # The best Sharpe ratio of a random search is told from the blocks: no window has its own.
    assert needs(search={"sampler": "random"}, validation=walk).n_windows == 0


def test_a_huge_grid_is_counted_at_once() -> None:
    sweeps = {
        f"{name}_multiplier": {"low": 0.0, "high": 100.0, "step": 1e-6}
        for name in ("bull", "bear", "neutral")
    }
    found = needs(search={"sampler": "grid"}, risk={**STEPPED, **sweeps})
    assert found.n_trials == 8 * 3 * 2 * (10**8 + 1) ** 3
    assert found.n_sets == found.n_trials * 4


def small_machine(monkeypatch: pytest.MonkeyPatch, *, memory: float, disk: float) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=memory))
    monkeypatch.setattr(
        shutil, "disk_usage", lambda _: SimpleNamespace(free=disk, total=1e15, used=0)
    )


def test_what_fits_is_not_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = needs()
    small_machine(monkeypatch, memory=found.memory_bytes, disk=found.disk_bytes)
    refuse_what_cannot_fit(found, tmp_path / "not" / "there" / "yet")


def test_too_little_memory_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sweep = {"sweep": {"low": 0.0, "high": 9.0, "step": 0.001}}
    found = needs(search={"trials": 1000, "batch": 1000}, strategy={"threshold": sweep})
    small_machine(monkeypatch, memory=0.5e9, disk=1e15)
    with pytest.raises(StudyError) as error:
        refuse_what_cannot_fit(found, tmp_path)
    message = str(error.value)
    assert f"{found.memory_bytes / 1e9:.1f} GB of memory" in message
    assert "0.5 GB is free" in message
    assert "batch" in message
    assert f"{found.lanes_per_tile:,}" in message
    assert "\n" not in message


def test_too_small_a_disk_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = needs(search={"trials": 10**8})
    small_machine(monkeypatch, memory=1e15, disk=2e9)
    out = tmp_path / "not" / "there" / "yet"
    with pytest.raises(StudyError) as error:
        refuse_what_cannot_fit(found, out)
    message = str(error.value)
    assert str(out) in message
    assert f"{found.disk_bytes / 1e6:,.0f} MB" in message
    assert "2,000 MB free" in message
    assert "trials" in message


def test_the_disk_that_is_asked_is_that_of_the_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = []

    def usage(path: Any) -> SimpleNamespace:
        asked.append(Path(path))
        return SimpleNamespace(free=1e15, total=1e15, used=0)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    refuse_what_cannot_fit(needs(), tmp_path / "not" / "there")
    monkeypatch.chdir(tmp_path)
    refuse_what_cannot_fit(needs(), Path("out/study"))
    assert asked == [tmp_path, tmp_path]


@pytest.mark.parametrize("resource", ["memory", "disk"])
def test_a_study_that_cannot_fit_does_not_start(
    resource: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data = write_bars(tmp_path / "bars.parquet", BARS)
    small_machine(monkeypatch, **{"memory": 1e15, "disk": 1e15, resource: 1e3})
    with pytest.raises(StudyError, match=resource):
        run_study(small_study(data), out=tmp_path / "out", workers=1)
    assert not (tmp_path / "out").exists()


def test_the_estimate_is_told_before_anything_is_computed(tmp_path: Path) -> None:
    data = write_bars(tmp_path / "bars.parquet", BARS)
    told: list[Estimate] = []

    def stop(found: Estimate) -> None:
        told.append(found)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(small_study(data), out=tmp_path / "out", workers=2, on_start=stop)
    assert told == [needs(workers=2)]
    assert not (tmp_path / "out").exists()


WIDE = {
    "strategy": {"threshold": {"sweep": {"low": 0.0, "high": 0.1, "step": 0.001}}},
    "risk": {"kelly_fraction": {"sweep": {"low": 0.01, "high": 0.3, "step": 0.001}}},
    "search": {"trials": 4, "batch": 2},
}
WALK = {
    "strategy": {"threshold": {"sweep": {"low": 0.0, "high": 0.05, "step": 0.01}}},
    "risk": {"kelly_fraction": {"sweep": {"low": 0.05, "high": 0.2, "step": 0.05}}},
    "search": {"sampler": "tpe", "trials": 40, "batch": 4},
    "validation": {"method": "walk_forward", "blocks": 6},
}
NARROW = {
    "strategy": {"threshold": 0.01},
    "risk": {"kelly_fraction": 0.1},
    "search": {"trials": 200, "batch": 20},
}


@pytest.mark.parametrize(
    "tables", [WIDE, NARROW, WALK], ids=["wide tiles", "one set a trial", "a search per window"]
)
def test_a_study_takes_the_memory_and_disk_that_were_estimated(
    tables: dict[str, Any], tmp_path: Path
) -> None:
    """A real run with two workers, watched from outside; each figure within a quarter.

    Less memory may be seen where other programs map the same libraries.
    """
    data = write_bars(tmp_path / "bars.parquet", random_bars(1000))
    file = tmp_path / "study.toml"
    file.write_text(tomli_w.dumps(mapping(data.name, **tables)))
    use = measure(file, tmp_path / "out", workers=2)
    assert 0.75 < use.estimated_disk / use.disk < 1.25, use
    assert 0.75 < use.estimated_memory / use.memory < 1.5, use


def test_workers_times_threads_are_no_more_than_the_cores(tmp_path: Path) -> None:
    data = write_bars(tmp_path / "bars.parquet", BARS)
    study = small_study(data)
    inputs = prepare_study(study, tmp_path, 1, None).inputs
    with Pool(tmp_path / "shared", study, inputs, cpu_count() + 1) as pool:
        assert pool.count == cpu_count()
        if pool.count > 1:
            seen = pool.map(threads, [() for _ in range(2 * pool.count)])
            assert {numba for numba, _ in seen} == {1}
            assert {most for _, most in seen} == {1}


def threads() -> tuple[int, int]:
    """In a worker: threads of numba, and the most of any library of linear algebra or OpenMP."""
    import numba
    import sklearn.svm  # noqa: F401
    from threadpoolctl import threadpool_info

    return numba.get_num_threads(), max(one["num_threads"] for one in threadpool_info())
