"""Columns of the results, and batches that do not fit together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from optimizer.catalogue import METRICS, SET_COLUMNS
from optimizer.errors import StudyError
from optimizer.search.run import run_study
from optimizer.store.batch_files import moments_path
from optimizer.store.columns import OUT_OF_SAMPLE, parameter_columns
from optimizer.study_file.space import build_space
from tests.support.studies import random_bars, small_study, write_bars


def test_columns_that_are_neither_a_metric_nor_of_the_set_are_parameters() -> None:
    columns = ["set", "momentum_lookback", "sharpe", "max_exposure", "oos_sharpe", "score"]
    assert parameter_columns(columns) == ["momentum_lookback", "max_exposure"]
    assert parameter_columns([*SET_COLUMNS, *METRICS, *OUT_OF_SAMPLE]) == []


def test_results_have_the_parameters_of_the_space(tmp_path: Path) -> None:
    study = small_study(write_bars(tmp_path / "bars.parquet", random_bars()))
    folder = run_study(study, out=tmp_path / "out", workers=1).folder
    columns = folder.columns()
    assert tuple(parameter_columns(columns)) == build_space(study).parameter_names
    assert {*SET_COLUMNS, *METRICS} <= set(columns)
    assert set(columns).isdisjoint(OUT_OF_SAMPLE)
    # Moments of another batch, with fewer sets.
    path = moments_path(folder.batch_paths()[0])
    np.save(path, np.load(path)[:-1])
    with pytest.raises(StudyError, match=r"batch-000000\.npy: does not belong to batch-000000"):
        list(folder.moments())
