"""Finer bars reach every worker as the kernels were compiled for; slower ones tell studies apart."""

from __future__ import annotations

import pickle
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optimizer.bars.finer import FinerBars
from optimizer.engine import shipping as module
from optimizer.engine.shipping import Shipped, context_of
from optimizer.market.slower import slower_bars
from optimizer.study_file.space import build_space
from optimizer.sweep.inputs import Inputs, prepare
from optimizer.sweep.rules import study_rules
from optimizer.types import Bars
from tests.support.studies import random_bars, small_study, write_bars

DAY = np.timedelta64(1, "D")


def inputs_with_finer(folder: Path) -> tuple[Shipped, FinerBars]:
    """Each bar in two finer ones of an hour."""
    bars = random_bars(120)
    times = np.stack([bars.timestamps, bars.timestamps + np.timedelta64(1, "h")], axis=1).ravel()
    twice: dict[str, Any] = {
        name: np.repeat(getattr(bars, name), 2, axis=0)
        for name in ("open", "high", "low", "close", "volume")
    }
    write_bars(folder / "finer.parquet", Bars(bars.symbols, times, **twice, bars_per_year=504.0))
    path = write_bars(folder / "bars.parquet", bars)
    study = small_study(path, data={"fills": "finer.parquet"}, risk={"stop_loss": 0.1})
    space = build_space(study)
    inputs = prepare(bars, space, study_rules(study, space, bars), holdout=0.2)
    assert inputs.rules.finer is not None
    return Shipped.of(study, inputs), inputs.rules.finer


def require_same(found: FinerBars | None, expected: FinerBars) -> None:
    assert found is not None
    for one in fields(FinerBars):
        array, other = getattr(found, one.name), getattr(expected, one.name)
        assert array.dtype == other.dtype
        np.testing.assert_array_equal(array, other)
        assert array.flags.aligned and array.flags.c_contiguous and not array.flags.writeable


def test_workers_of_a_cluster_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped, expected = inputs_with_finer(tmp_path)
    monkeypatch.setattr(module, "_contexts", {})
    monkeypatch.setattr(module, "compile_kernels", lambda inputs, space: None)
    # This protocol brings back every array writable.
    inputs, _ = context_of(pickle.loads(pickle.dumps(shipped, protocol=4)))
    require_same(inputs.rules.finer, expected)


def test_workers_of_this_machine_map_them(tmp_path: Path) -> None:
    shipped, expected = inputs_with_finer(tmp_path)
    shipped.inputs.save(tmp_path / "shared")
    require_same(Inputs.load(tmp_path / "shared").rules.finer, expected)


def test_a_cluster_tells_studies_of_two_slower_files_apart(tmp_path: Path) -> None:
    """No worker reads them, but the features that were computed from them differ."""
    bars = random_bars(120)
    study = small_study(write_bars(tmp_path / "bars.parquet", bars))
    space = build_space(study)
    inputs = prepare(bars, space, study_rules(study, space, bars), holdout=0.2)
    weekly = replace(random_bars(30), timestamps=bars.timestamps[0] + 7 * np.arange(30) * DAY)
    other = replace(weekly, close=np.minimum(weekly.open, weekly.close))
    keys = []
    for one in (None, weekly, other, weekly):
        clock = inputs.rules.clock(bars)
        slower = None if one is None else slower_bars(one, bars.symbols, clock, "UTC", None)
        shipped = Shipped.of(study, replace(inputs, rules=replace(inputs.rules, slower=slower)))
        assert shipped.inputs.rules.slower is None
        keys.append(shipped.key)
    assert keys[1] == keys[3] and len(set(keys)) == 3
