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
lookback = {choices = [20, 60]}
threshold = {choices = [0.0, 0.05]}
[search]
sampler = "grid"
"""
ELSEWHERE = {
    "merge_studies": "needs the folders of several coordinators: tests/optimizer/search/test_merge.py",
    "drift": "needs what a session traded: docs/trading.md",
    "Drift": "the same",
    "write_drift_page": "the same",
    "reoptimize": "needs newer bars: docs/trading.md",
    "Reoptimization": "the same",
    "strength_of_score": "compiled, for strategies: docs/strategy.md",
    "write_tearsheet": "needs the extra tearsheet: docs/commands.md",
}
"""Public names whose examples need more than a folder with a study, and where they are."""

NEEDED: dict[str, Any] = {
    "Bars.to_frame": Bars.to_frame,
    "Study.with_": Study.with_,
    **{
        name: one
        for name in sorted(set(optimizer.__all__) - {"errors", *ELSEWHERE})
        if callable(one := optimizer._public(name))
    },
}
"""Names whose docstring must have an example."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bars, an export of another program, a study file, and the study that ran, with its best set."""
    folder = tmp_path_factory.mktemp("examples")
    shutil.copy(ROOT / "optimizer" / "project" / "bars.parquet", folder)
    (folder / "study.toml").write_text(STUDY)
    bars = optimizer.load_bars(folder / "bars.parquet", symbols=["SPY"]).head(300)
    bars.to_frame().drop(columns="symbol").to_csv(folder / "export.csv", index=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BARSWEEP_LEDGER", str(folder / "ledger.db"))
        patch.chdir(folder)
        optimizer.run_study(optimizer.load_study("study.toml"), out="out", workers=1)
        optimizer.export_sets("out")
    return folder


def examples(name: str, one: Any) -> list[doctest.DocTest]:
    found = doctest.DocTestFinder(recurse=False).find(one, name, globs=dict(vars(optimizer)))
    return [test for test in found if test.examples]


@pytest.mark.parametrize("name", NEEDED)
def test_the_examples_run(
    name: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = shutil.copytree(home, tmp_path / "here")
    monkeypatch.chdir(here)
    monkeypatch.setenv("BARSWEEP_LEDGER", str(here / "ledger.db"))
    tests = examples(name, NEEDED[name])
    assert tests, f"{name} has no example"
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for test in tests:
            runner.run(test, out=said.append)
    assert not said, "".join(said)
