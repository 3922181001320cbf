"""Parameter sets found by a condition, against what pandas' own evaluator finds."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizer.catalogue import METRICS
from optimizer.errors import StudyError
from optimizer.review.unseal import unseal_study
from optimizer.search.run import run_study
from optimizer.store.folder import StudyFolder
from optimizer.store.query import find_sets
from optimizer.store.seal import with_holdout
from tests.support.command import barsweep
from tests.support.studies import random_bars, small_study, write_bars

README = Path(__file__).resolve().parents[3] / "README.md"
NUMBERS = ("n_trades", "max_drawdown", "sharpe", "oos_sharpe", "kelly_fraction", "max_exposure",
           "profit_factor", "set")  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("results")
    bars = write_bars(path / "bars.parquet", random_bars())
    search = {"constraints": ["max_drawdown <= 0.03"]}
    out = run_study(small_study(bars, search=search), out=path / "out", workers=1).folder.path
    unseal_study(out)
    return out


@pytest.fixture(scope="module")
def frame(folder: Path) -> pd.DataFrame:
    opened = StudyFolder.open(folder)
    return with_holdout(opened, opened.results())


def distinct(frame: pd.DataFrame) -> list[int]:
    return frame.drop_duplicates(["score", *METRICS])["set"].to_list()


@settings(max_examples=40)
@given(data=st.data())
def test_a_condition_holds_as_pandas_says(
    folder: Path, frame: pd.DataFrame, data: st.DataObject
) -> None:
    parts = []
    for _ in range(data.draw(st.integers(1, 3))):
        name = data.draw(st.sampled_from(NUMBERS))
        sign = data.draw(st.sampled_from(["<", "<=", ">", ">=", "=="]))
        value = data.draw(st.sampled_from(sorted(frame[name].dropna().unique().tolist())))
        sides = [name, repr(value)]
        if data.draw(st.booleans()):
            sides.reverse()
        parts.append(f"{sides[0]}{sign}{sides[1]}")
    where = " and ".join(parts)
    found = find_sets(folder, where=where, sort="set", top=1000, infeasible=True)
    assert found["set"].to_list() == distinct(frame.query(where))


def test_columns_can_be_compared_with_each_other(folder: Path, frame: pd.DataFrame) -> None:
    found = find_sets(folder, where="n_trades > momentum_lookback", sort="set", top=1000)
    wanted = frame[frame["feasible"] & (frame["n_trades"] > frame["momentum_lookback"])]
    assert 0 < len(wanted) < len(frame)
    assert found["set"].to_list() == distinct(wanted)


@pytest.mark.parametrize(
    ("sort", "ascending", "lowest_first"),
    [("sharpe", None, False), ("max_drawdown", None, True), ("oos_max_drawdown", None, True),
     ("score", None, False), ("momentum_lookback", None, True), ("sharpe", True, True),
     ("max_drawdown", False, False), ("profit_factor", None, False)],
)  # fmt: skip
def test_the_better_comes_first_and_what_is_undefined_last(
    folder: Path, frame: pd.DataFrame, sort: str, ascending: bool | None, lowest_first: bool
) -> None:
    found = find_sets(folder, sort=sort, ascending=ascending, top=7, infeasible=True)
    ordered = frame.sort_values(sort, ascending=lowest_first, kind="stable", na_position="last")
    assert found["set"].to_list() == distinct(ordered)[:7]


def test_infeasible_sets_are_left_out_unless_asked_for(folder: Path, frame: pd.DataFrame) -> None:
    assert 0 < frame["feasible"].sum() < len(frame)
    assert set(find_sets(folder, sort="set", top=1000)["feasible"]) == {True}
    every = find_sets(folder, sort="set", top=1000, infeasible=True)
    assert set(every["feasible"]) == {True, False}


def test_without_an_order_it_is_that_of_the_study(folder: Path, frame: pd.DataFrame) -> None:
    wanted = frame[frame["feasible"] & (frame["n_trades"] >= 10)]
    wanted = wanted.sort_values(["score", "sharpe"], ascending=False, kind="stable")
    assert find_sets(folder, where="n_trades >= 10")["set"].to_list() == distinct(wanted)[:10]


def test_a_strategy_s_name_may_be_left_out(folder: Path) -> None:
    short = find_sets(folder, where="lookback == 20 and strategy == momentum", sort="threshold")
    full = find_sets(folder, where="momentum_lookback==20", sort="momentum_threshold")
    pd.testing.assert_frame_equal(short, full)
    assert set(short["momentum_lookback"]) == {20.0}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"where": "n_trade >= 5"}, ["where", '"n_trade"', 'did you mean "n_trades"?']),
        ({"where": "oos_sharp >= 5"}, ['did you mean "oos_sharpe"?']),
        ({"where": "sharpe"}, ["where", '"sharpe"', "two operands"]),
        ({"where": "sharpe > 1 or sharpe < 0"}, ["two operands"]),
        ({"where": "sharpe > 1 and "}, ["two operands"]),
        ({"where": "__import__('os')"}, ["two operands"]),
        ({"where": "1 < 2"}, ["compares two numbers"]),
        ({"where": "strategy == momentun"}, ['no strategy "momentun"', '"momentum"']),
        ({"where": "strategy > 1"}, ["strategy is a name", "strategy == momentum"]),
        ({"sort": "sharp"}, ["sort", '"sharp"', 'did you mean "sharpe"?']),
    ],
)
def test_a_mistake_is_named(folder: Path, options: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(StudyError) as refused:
        find_sets(folder, **options)
    for word in words:
        assert word in str(refused.value)
    arguments = [f"--{name}={value}" for name, value in options.items()]
    done = barsweep("show", folder, *arguments, folder=folder)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)


def test_a_name_that_two_strategies_share_is_ambiguous(tmp_path: Path) -> None:
    bars = write_bars(tmp_path / "bars.parquet", random_bars())
    study = small_study(
        bars,
        strategy=[
            {"name": "momentum", "lookback": 20, "threshold": {"sweep": [0.0, 0.02]}},
            {"name": "breakout", "lookback": 30, "width": 1.0},
        ],
        search={"trials": 4},
    )
    run_study(study, out=tmp_path / "out", workers=1)
    with pytest.raises(StudyError, match="momentum_lookback or breakout_lookback"):
        find_sets(tmp_path / "out", where="lookback > 3")
    assert set(find_sets(tmp_path / "out", where="width > 0")["strategy"]) == {"breakout"}


def test_the_command_shows_what_was_found(folder: Path) -> None:
    where = "n_trades>=5 and max_drawdown<0.12"
    done = barsweep(
        "show", folder, "--where", where, "--sort", "sortino", "--top", 3, folder=folder
    )
    assert done.returncode == 0, done.stderr
    assert "sortino" in done.stdout
    wanted = find_sets(folder, where=where, sort="sortino", top=3)["set"]
    numbers = re.findall(r"^ {0,5}(\d+)  ", done.stdout, flags=re.MULTILINE)
    assert [int(number) for number in numbers] == wanted.to_list()
    assert "holdout" not in done.stdout
    by_holdout = barsweep("show", folder, "--sort", "oos_sharpe", folder=folder)
    assert "chosen by the holdout" in by_holdout.stdout
    none = barsweep("show", folder, "--where", "sharpe > 1e9", folder=folder)
    assert "no set meets the condition" in none.stdout
    both = barsweep("show", folder, 3, "--sort", "sharpe", folder=folder)
    assert (both.returncode, len(both.stderr.splitlines())) == (2, 1)
    assert barsweep("show", folder, "--ascending", folder=folder).returncode == 2


def test_results_open_as_readme_says(
    folder: Path, frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    (block,) = [one for one in blocks if "polars" in one]
    shutil.copytree(folder, tmp_path / "out" / "quickstart")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(block, names)
    in_pandas, in_polars = names["in_pandas"], names["in_polars"]
    in_duckdb = names["in_duckdb"].fetchdf()
    for found, wanted in (
        (in_pandas, frame),
        (in_polars, frame),
        (in_duckdb.sort_values("set"), frame[frame["feasible"]]),
    ):
        for name in ("set", "strategy", "momentum_lookback", "sharpe", "n_trades", "feasible"):
            assert list(found[name]) == list(wanted[name])
