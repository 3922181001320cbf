"""Daily returns of an exported set and their tearsheet, against the libraries that take them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import empyrical
import numpy as np
import pandas as pd
import pytest

from optimizer.errors import ExportError, StudyError
from optimizer.review.backtest import backtest
from optimizer.review.replay import Replay, replay
from optimizer.review.unseal import unseal_study
from optimizer.search.run import run_study
from optimizer.store.export import export_sets
from optimizer.views.tearsheet import (
    daily_benchmark,
    daily_returns,
    write_returns,
    write_tearsheet,
)
from tests.support.command import barsweep
from tests.support.studies import random_bars, small_study, write_bars


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tearsheet")
    bars = write_bars(path / "bars.parquet", random_bars())
    study = small_study(bars, account={"currency": "EUR"})
    run_study(study, out=path / "out", workers=1)
    unseal_study(path / "out")
    return export_sets(path / "out", top=3)


@pytest.fixture(scope="module")
def replayed(export: Path) -> Replay:
    return replay(export, number=2)


def test_returns_are_what_others_compute_the_metrics_from(export: Path, replayed: Replay) -> None:
    returns = daily_returns(replayed)
    recorded = json.loads(export.read_text())["sets"][1]
    manifest = json.loads((export.parent / "study.json").read_text())
    n_before = manifest["holdout_bar"] - manifest["first_bar"]
    for part, metrics in (
        (returns.iloc[1:n_before], recorded["in_sample"]),
        (returns.iloc[n_before:], recorded["out_of_sample"]),
    ):
        assert empyrical.max_drawdown(part) == pytest.approx(-metrics["max_drawdown"], rel=1e-9)
        assert empyrical.cum_returns_final(part) == pytest.approx(metrics["total_return"], rel=1e-9)
    after = returns.iloc[n_before:]
    assert empyrical.sharpe_ratio(after) == pytest.approx(
        recorded["out_of_sample"]["sharpe"], rel=1e-9
    )


def test_returns_chain_to_the_final_equity(replayed: Replay) -> None:
    returns = daily_returns(replayed)
    assert returns.name == f"small set {replayed.recorded['set']}"
    assert isinstance(returns.index, pd.DatetimeIndex)
    assert returns.index.tz is None
    final = 100_000.0 * float(np.prod(1.0 + returns.to_numpy()))
    assert final == pytest.approx(float(replayed.result.equity.iloc[-1]), rel=1e-12)


def test_bars_within_a_day_make_one_return(replayed: Replay) -> None:
    bars = random_bars()
    hours = np.datetime64("2020-01-01T00:00", "ns") + np.arange(300) * np.timedelta64(1, "h")
    hourly = replace(bars, timestamps=hours, bars_per_year=8766.0)
    result = backtest(hourly, {"strategy": "momentum", "momentum_lookback": 5}, first_bar=30)
    returns = daily_returns(replace(replayed, result=result, bars=hourly))
    equity = result.equity.to_numpy()
    # 300 hours from midnight are 12.5 days, of which the first 30 hours are warm-up.
    ends = [100_000.0, *equity[np.arange(48, 300, 24) - 1 - 30], equity[-1]]
    np.testing.assert_allclose(returns, np.diff(ends) / ends[:-1], rtol=1e-12)
    assert str(returns.index[0]) == "2020-01-02 00:00:00"


def test_a_benchmark_is_held_over_the_same_days(replayed: Replay) -> None:
    held = daily_benchmark(replayed, "BBB")
    assert held.index.equals(daily_returns(replayed).index)
    bars = random_bars()
    open_, close = bars.open[-len(held) + 1, 1], bars.close[-1, 1]
    # Bought at the second open, 2 bps worse, with a commission of 1 bps.
    expected = close / (open_ * 1.0002 * 1.0001)
    assert float(np.prod(1.0 + held)) == pytest.approx(expected, rel=1e-12)
    assert daily_benchmark(replayed, "universe").name == "universe"
    with pytest.raises(
        ExportError, match=r'no symbol "BB"; did you mean "BBB"\? valid: universe, AAA, BBB'
    ):
        daily_benchmark(replayed, "BB")


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_the_files_read_back_as_series(
    export: Path, replayed: Replay, tmp_path: Path, suffix: str
) -> None:
    out = tmp_path / f"returns.{suffix}"
    done = barsweep("replay", export, "--set", 2, "--returns", out, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"returns: {out}" in done.stdout
    assert re.search(r"final equity [\d,]+\.\d\d EUR\n", done.stdout)
    read: Any = (
        pd.read_csv(out, index_col="date", parse_dates=True)
        if suffix == "csv"
        else pd.read_parquet(out)
    ).squeeze("columns")
    pd.testing.assert_series_equal(
        read, daily_returns(replayed), check_freq=False, check_index_type=False
    )


def test_another_kind_of_file_is_refused(export: Path, replayed: Replay, tmp_path: Path) -> None:
    done = barsweep("replay", export, "--returns", tmp_path / "r.xlsx", folder=tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert ".csv or .parquet" in done.stderr
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match=r"r\.csv: there is no folder .*file; make it first"):
        write_returns(replayed, tmp_path / "file" / "r.csv")


def test_quantstats_takes_the_returns(export: Path, replayed: Replay, tmp_path: Path) -> None:
    import quantstats

    returns = daily_returns(replayed)
    theirs = quantstats.stats.max_drawdown(returns)
    assert theirs == pytest.approx(empyrical.max_drawdown(returns), rel=1e-9)
    out = tmp_path / "sheet.html"
    done = barsweep("tearsheet", export, "--set", 2, "--benchmark", "AAA", "--out", out,
                    folder=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    text = out.read_text(encoding="utf-8")
    assert f"small set {replayed.recorded['set']}, from 100,000 EUR" in text
    assert "AAA" in text
    assert f"{100 * theirs:.2f}%" in text  # the drawdown, in its table
    assert "<link" not in text and "<script src" not in text


def test_the_tearsheet_is_annualized_as_the_study(tmp_path: Path) -> None:
    """Hourly bars around the clock, 8,000 a year by the study: 333.3 days."""
    hours = np.datetime64("2020-01-01T00:00", "ns") + np.arange(300) * np.timedelta64(1, "h")
    bars = write_bars(tmp_path / "bars.parquet", replace(random_bars(), timestamps=hours))
    study = small_study(bars, data={"bars_per_year": 8000})
    run_study(study, out=tmp_path / "out", workers=1)
    out = write_tearsheet(replay(export_sets(tmp_path / "out")), tmp_path / "sheet.html")
    assert "Periods/Year: 333" in out.read_text(encoding="utf-8")


def test_without_quantstats_the_fix_is_named(
    export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "quantstats", None)
    done = barsweep("tearsheet", export, folder=tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "pip install 'barsweep[tearsheet]'" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_matplotlibrc_of_the_current_folder_is_not_obeyed(tmp_path: Path) -> None:
    """It may be a stranger's: ``text.usetex`` starts LaTeX."""
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nlines.linewidth: 77\n")
    code = (
        "from optimizer.views.tearsheet import _quantstats\n_quantstats()\nimport matplotlib, os\n"
        "print(matplotlib.rcParams['text.usetex'], matplotlib.rcParams['lines.linewidth'] == 77,"
        " matplotlib.get_backend().lower(), os.getcwd())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "False", "agg", str(tmp_path)]
