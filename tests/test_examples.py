"""The examples in docstrings of public names run, each in a folder with bars and a study file."""

from __future__ import annotations

import doctest
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest

import optimizer
from optimizer.study_file.study import Study
from optimizer.types import Bars

ROOT = Path(__file__).resolve().parent.parent
STUDY = """
[study]
name = "study"
[data]
path = "bars.parquet"
[strategy]
name = "momentum"
"""
NEEDED: dict[str, Any] = {
    "Bars.to_frame": Bars.to_frame,
    "Study.with_": Study.with_,
    **{
        name: getattr(optimizer, name)
        for name in (
            *("BacktestResult", "StudyResult", "backtest", "bars_from_frame", "plot_backtest"),
            "from_orders",
            "from_signals",
            "metrics",
        )
        if name in optimizer.__all__
    },
    "sweep": optimizer._public("sweep"),
}
"""Names whose docstring must have an example."""


def examples(name: str, one: Any) -> list[doctest.DocTest]:
    found = doctest.DocTestFinder(recurse=False).find(one, name, globs=dict(vars(optimizer)))
    return [test for test in found if test.examples]


@pytest.mark.parametrize("name", NEEDED)
def test_the_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(ROOT / "optimizer" / "project" / "bars.parquet", tmp_path)
    (tmp_path / "study.toml").write_text(STUDY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BARSWEEP_LEDGER", str(tmp_path / "ledger.db"))
    tests = examples(name, NEEDED[name])
    assert tests, f"{name} has no example"
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for test in tests:
            runner.run(test, out=said.append)
    assert not said, "".join(said)
