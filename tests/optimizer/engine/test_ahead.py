"""A second process compiles kernels of a study, with the types that its simulation calls them with."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba import typeof

import kernels.simulation as simulation
from kernels.inference import raise_maxima, score_sets
from kernels.lanes.decisions import decide_lanes
from kernels.lanes.fills import fill_lanes
from kernels.lanes.marks import mark_lanes
from kernels.lanes.sums import sum_bars
from optimizer.engine.ahead import CLASSIFIERS, DECISIONS, SCORES, Ahead, Job
from optimizer.engine.compile import compile_kernels
from optimizer.study_file.bars import load_study_bars
from optimizer.study_file.space import build_space
from optimizer.study_file.study import Study
from optimizer.sweep.inputs import prepare
from optimizer.sweep.rules import study_rules
from tests.support.studies import small_study

NOTHING = Job({}, built_in=False, classifiers=(), joint=False)
"""A job of which the kernels of the max-test are all."""

BLOCKS = {"k", "n"}
"""Arguments that are unsigned in compiled code alone."""


@pytest.mark.parametrize(
    "tables",
    [
        {},
        {"risk": {"allow_short": True, "stop_loss": 0.05}},
        {"risk": {"correlation_penalty": 0.5}},
        {"risk": {"max_positions": 2}, "costs": {"commission_minimum": 1.0}},
        {"costs": {"fill": "close"}},
        {"risk": {"entry": "limit", "entry_offset": 0.01}},
    ],
    ids=["plain", "short, stops", "correlation", "extended, fees", "close", "entries"],
)
def test_the_types_are_those_of_the_simulation(
    data: Path, tables: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = small_study(data, **tables)
    bars, space = load_study_bars(study), build_space(study)
    rules = study_rules(study, space, bars)
    inputs = prepare(bars, space, rules, 0.25)
    job = Job.of(space, rules, bars)
    assert job.fits(inputs)
    called: dict[Any, tuple[Any, ...]] = {}
    parts: dict[str, Any] = {
        one.__name__: one for one in (decide_lanes, fill_lanes, mark_lanes, sum_bars)
    }
    for name in vars(simulation):
        if name.endswith("_lanes") or name in parts:
            monkeypatch.setattr(
                simulation, name, lambda *given, name=name: called.setdefault(name, given)
            )
    monkeypatch.setattr(simulation, "block_signals", lambda *_: (0.0, 0.0, 0.0, 0.0, np.True_))
    plain: Any = simulation.simulate
    monkeypatch.setattr("optimizer.strategies.built_in.simulate", plain.py_func)
    compile_kernels(inputs, space)
    type_of: Any = typeof
    for name, part in parts.items():
        names = inspect.signature(part).parameters
        for argument, given, wanted in zip(names, called[name], job.arguments(part), strict=True):
            if argument not in BLOCKS:
                assert type_of(given) == wanted, (name, argument)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder of compiled kernels, of the name that the folder of these tests has."""
    here = Path(os.environ["NUMBA_CACHE_DIR"])
    path = tmp_path_factory.mktemp("cache") / here.parent.name / here.name
    path.mkdir(parents=True)
    return path


@pytest.fixture
def ahead(folder: Path) -> Iterator[Ahead]:
    """A process that compiles the kernels of the max-test, which takes two seconds once."""
    with_process = Ahead(NOTHING, folder)
    yield with_process
    with_process.close()
    assert list(folder.glob("ahead-*")) == []


def indexes(folder: Path) -> dict[str, bytes]:
    return {path.name.split("-")[0]: path.read_bytes() for path in folder.glob("*/*.nbi")}


def test_what_the_other_process_compiles_is_taken_over(folder: Path, ahead: Ahead) -> None:
    ahead.wait(DECISIONS)
    ahead.wait(SCORES)
    found = indexes(folder)
    assert {"inference.score_sets", "inference.raise_maxima"} <= set(found)
    # What this process has compiled of the same kernel meanwhile stays.
    theirs, own = (
        next(path.glob("*/inference.score_sets-*.nbi")) for path in (ahead._source, folder)
    )
    own.write_bytes(found["inference.score_sets"] + b"more")
    theirs.write_bytes(b"other")
    ahead.wait(SCORES)
    assert indexes(folder)["inference.score_sets"] == found["inference.score_sets"] + b"more"


def test_a_process_that_dies_keeps_nobody_waiting(folder: Path, ahead: Ahead) -> None:
    ahead._process.kill()
    ahead.wait(CLASSIFIERS)
    assert ahead._process.wait() != 0


def test_the_folder_of_a_killed_process_is_removed(folder: Path) -> None:
    left = folder / "ahead-999999999"
    left.mkdir()
    Ahead(NOTHING, folder).close()
    assert not left.exists()


def test_the_max_test_is_compiled_with_the_types_of_the_job(small: Study) -> None:
    """Those that the study calls it with are among what is compiled."""
    from optimizer.engine import ahead as module
    from optimizer.search.prepare import prepare_study
    from optimizer.sweep.max_test import compile_max_test

    prepared = prepare_study(small, Path(), 1, None)
    compile_max_test(prepared.inputs)
    for kernel, wanted in ((score_sets, module._SCORES), (raise_maxima, module._MAXIMA)):
        compiled: Any = kernel
        assert wanted in compiled.signatures


@pytest.fixture
def small(data: Path) -> Study:
    return small_study(data)
