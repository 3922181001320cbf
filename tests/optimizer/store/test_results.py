"""Columns of the results, and batches that do not fit together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from optimizer.catalogue import METRICS, SET_COLUMNS
from optimizer.errors import StudyError
from optimizer.review.unseal import unseal_study
from optimizer.search.resume import resume_study
from optimizer.search.run import run_study
from optimizer.store.batch_files import holdout_path, moments_path
from optimizer.store.columns import OUT_OF_SAMPLE, parameter_columns
from optimizer.store.seal import with_holdout
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


CRAFTED: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str]] = {
    "few rows": (lambda frame: frame.iloc[1:], "the batch has 16"),
    "one set": (lambda frame: frame.assign(set=0), "has a set twice"),
    "other sets": (lambda frame: frame.assign(set=frame["set"] + 1000), "the holdout has no set 0"),
    "text": (lambda frame: frame.assign(oos_sharpe="x"), 'column "oos_sharpe" has type'),
    "no metric": (lambda frame: frame.drop(columns="oos_sharpe"), "not one column oos_sharpe"),
}


@pytest.mark.parametrize("case", CRAFTED)
def test_a_holdout_of_something_else_is_refused(case: str, tmp_path: Path) -> None:
    study = small_study(write_bars(tmp_path / "bars.parquet", random_bars()))
    folder = run_study(study, out=tmp_path / "out", workers=1).folder
    unseal_study(folder.path)
    path = holdout_path(folder.batch_paths()[0])
    change, words = CRAFTED[case]
    change(pd.read_parquet(path)).to_parquet(path, index=False)
    with pytest.raises(StudyError, match=words) as refused:
        with_holdout(folder, folder.results())
    assert "barsweep resume" in str(refused.value) and "\n" not in str(refused.value)
    resume_study(folder.path, workers=1)
    assert len(with_holdout(folder, folder.results())) == 40
