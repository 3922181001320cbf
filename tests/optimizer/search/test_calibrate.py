"""A study's search on copies of its bars: what it says on luck and on an edge, and how it goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tomli_w
from scipy.stats import kstest

from optimizer.catalogue import CLASSIFIERS
from optimizer.errors import DataError, StudyError, StudyFileError
from optimizer.search.calibrate import Calibration, CalibrationPlan, calibrate, standing
from optimizer.search.calibration_files import Winner
from optimizer.search.copies import default_block
from optimizer.search.run import run_study
from optimizer.store.ledger import read_ledger
from optimizer.study_file.load import load_study
from optimizer.study_file.space import build_space
from optimizer.types import Bars
from tests.support.command import barsweep
from tests.support.processes import Command, wait_until
from tests.support.studies import (
    changed,
    mapping,
    random_bars,
    small_study,
    trading_days,
    write_bars,
)


@pytest.fixture(autouse=True)
def own_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BARSWEEP_LEDGER", str(tmp_path / "own" / "ledger.db"))


@pytest.fixture(scope="module")
def undisturbed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Calibration:
    """Six copies, in one process and without a stop."""
    out = tmp_path_factory.mktemp("calibrated") / "out"
    return calibrate(small_study(data), copies=6, out=out, workers=1)


def prices(changes: Any, seed: int) -> Bars:
    """Daily bars of some changes of the logarithm of the close, (n_bars, n_symbols)."""
    rng = np.random.default_rng(seed)
    close = 100.0 * np.exp(np.cumsum(changes, axis=0))
    open_ = np.vstack([np.full((1, close.shape[1]), 100.0), close[:-1]])
    top, bottom = np.maximum(open_, close), np.minimum(open_, close)
    wide = np.exp(np.abs(rng.normal(0.0, 0.003, close.shape)))
    days = trading_days("2010-01-04", len(close)).astype("datetime64[ns]")
    names = tuple("ABCDEFGH"[: close.shape[1]])
    volume = np.full(close.shape, 1e6)
    return Bars(names, days, open_, top * wide, bottom / wide, close, volume, 252.0)


def files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.iterdir())}


# --- What it says --------------------------------------------------------------------------------


def test_luck_is_told_as_luck(tmp_path: Path) -> None:
    """On copies of random walks the max-test is right: its p-values are uniform."""
    found = []
    for seed in range(3):
        changes = np.random.default_rng(seed).normal(0.0, 0.01, (700, 3))
        data = write_bars(tmp_path / f"{seed}.parquet", prices(changes, seed))
        costs = {"commission_bps": 0.0, "slippage_bps": 0.0}
        study = small_study(data, risk={"allow_short": True}, costs=costs)
        out = tmp_path / str(seed)
        found.append(calibrate(study, copies=25, mean_block=5.0, out=out, workers=1))
    values = np.array([one.p for each in found for one in each.copies], np.float64)
    # 0.157 is what 75 uniform numbers exceed 1 time in 20.
    assert kstest(values, "uniform").statistic < 0.2
    assert (values <= 0.05).mean() < 0.12
    # The study's own place among the copies and its max-test ask the same.
    for each in found:
        assert each.by_alpha is not None and each.own.p is not None
        assert each.by_alpha.p == pytest.approx(each.own.p, abs=0.2)


def test_an_edge_that_is_there_is_told_from_all_copies(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    trend = np.repeat(rng.choice([-0.006, 0.006], (18, 2)), 50, axis=0)
    data = write_bars(tmp_path / "bars.parquet", prices(trend + rng.normal(0.0, 0.01, (900, 2)), 6))
    study = small_study(data, risk={"allow_short": True})
    found = calibrate(study, copies=20, out=tmp_path / "out", workers=1)
    for one in (found.by_objective, found.by_alpha):
        assert one is not None
        assert (one.k, one.n_copies) == (0, 20)
        assert one.p == pytest.approx(1.0 / 21.0)
    # Blocks as long as many trends keep them, and what a search finds in them.
    kept = calibrate(study, copies=20, mean_block=600.0, out=tmp_path / "long", workers=1)
    assert kept.by_objective is not None and kept.by_objective.k >= 5


def test_a_symbol_that_beats_the_others_is_an_edge_that_copies_lack(tmp_path: Path) -> None:
    """The null is that no set has alpha: no copy has a symbol that rises more than its beta explains."""
    changes = np.random.default_rng(3).normal([0.004, -0.001, -0.001], 0.01, (900, 3))
    data = write_bars(tmp_path / "bars.parquet", prices(changes, 3))
    costs = {"commission_bps": 0.0, "slippage_bps": 0.0}
    study = small_study(data, costs=costs, search={"objective": "cagr"})
    found = calibrate(study, copies=20, out=tmp_path / "out", workers=1)
    assert found.by_alpha is not None and found.by_objective is not None
    assert found.own.alpha_t is not None and found.own.alpha_t > 2.5
    assert found.by_alpha.k <= 2
    assert found.by_objective.k <= 2


def test_the_own_winner_is_that_of_the_study(
    data: Path, undisturbed: Calibration, tmp_path: Path
) -> None:
    best = run_study(small_study(data), out=tmp_path / "study", workers=1).best(1).iloc[0]
    own = undisturbed.own
    assert (own.number, own.objective) == (int(best["set"]), float(best["sharpe"]))
    assert own.alpha_t == float(best["alpha_t"])


def test_standing_counts_ties_and_copies_without_a_winner() -> None:
    assert standing(1.0, [1.0, 0.5, 2.0, None]) == (one := standing(1.0, [None, 3.0, 1.0, 0.0]))
    assert one is not None and (one.k, one.p) == (2, 0.6)
    assert standing(None, [1.0]) is None


def test_less_is_better_where_the_study_minimizes() -> None:
    winners = [Winner(1, 0, value) for value in (0.1, 0.2, 0.3)]
    found = Calibration("s", "max_drawdown", False, 5.0, winners[1], tuple(winners), Path())
    assert found.by_objective is not None and found.by_objective.k == 2
    assert found.by_alpha is None


@pytest.mark.parametrize(
    ("low", "expected"), [(1, 1.0), (2, 1.0), (5, 2.5), (24, 12.0), (100, 20.0)]
)
def test_blocks_are_shorter_than_the_lookbacks(low: int, expected: float, data: Path) -> None:
    strategy = {"lookback": {"low": low, "high": 200}}
    assert default_block(build_space(small_study(data, strategy=strategy))) == expected


def test_copies_lose_the_edge_of_the_shortest_lookbacks(tmp_path: Path) -> None:
    """What a bar tells about the next one is an edge for lookbacks of 1 to 3 bars."""
    changes = np.random.default_rng(1).normal(0.0, 0.01, (1000, 3))
    for bar in range(1, len(changes)):
        changes[bar] += 0.13 * changes[bar - 1]
    study = small_study(
        write_bars(tmp_path / "bars.parquet", prices(changes, 1)),
        strategy={"lookback": {"low": 1, "high": 3}},
        risk={"allow_short": True, "max_exposure": 1.0},
        costs={"commission_bps": 0.0, "slippage_bps": 0.0},
        search={"trials": 6},
    )
    found = calibrate(study, copies=8, out=tmp_path / "out", workers=1)
    assert found.own.alpha_t is not None and found.own.alpha_t > 4.0
    assert np.mean([one.alpha_t for one in found.copies]) < 2.0


def test_a_study_without_a_feasible_set_has_no_winner(data: Path, tmp_path: Path) -> None:
    study = small_study(data, search={"constraints": ["n_trades >= 100000"]})
    with pytest.raises(StudyError, match="no parameter set is feasible in-sample"):
        calibrate(study, copies=2, out=tmp_path / "out", workers=1)


# --- What it reads and notes ---------------------------------------------------------------------


def test_the_holdout_is_not_read(data: Path, undisturbed: Calibration, tmp_path: Path) -> None:
    bars = random_bars()
    first = 40  # the longest lookback
    split = bars.n_bars - int((bars.n_bars - first) * 0.25)
    other = write_bars(tmp_path / "bars.parquet", changed(bars, split, 3.0))
    found = calibrate(small_study(other), copies=6, out=tmp_path / "out", workers=1)
    assert (found.own, found.copies) == (undisturbed.own, undisturbed.copies)


def test_copies_are_no_tries_on_these_bars(data: Path, tmp_path: Path) -> None:
    study = small_study(data)
    calibrate(study, copies=3, out=tmp_path / "out", workers=1)
    ((_, noted),) = read_ledger().searches()
    assert noted.n_sets == 40 and noted.data_hash == random_bars().content_hash
    # The study itself is the same search.
    run_study(study, out=tmp_path / "study", workers=1)
    assert len({search.key for _, search in read_ledger().searches()}) == 1


@pytest.mark.parametrize("name", sorted(CLASSIFIERS))
def test_a_classifier_by_its_defaults_is_that_of_the_study(
    name: str, data: Path, tmp_path: Path
) -> None:
    """Its lengths of time become bars of the whole data, as those of the study do."""
    study = small_study(data, classifier={"name": name}, search={"trials": 1})
    own = calibrate(study, copies=1, out=tmp_path / "out", workers=1).own
    best = run_study(study, out=tmp_path / "study", workers=1).best(1).iloc[0]
    assert own.objective == float(best["sharpe"])
    assert len({search.key for _, search in read_ledger().searches()}) == 1


@pytest.mark.parametrize("returns", ["bar", "day"])
def test_too_few_bars_are_said_to_be_too_few(returns: str, tmp_path: Path) -> None:
    short = write_bars(tmp_path / "short.parquet", random_bars().head(40))
    study = small_study(short, search={"returns": returns})
    with pytest.raises(DataError, match="at least 50 are needed: the longest lookback"):
        calibrate(study, copies=1, out=tmp_path / "out", workers=1)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["members", "fills"])
def test_files_of_dates_are_refused(name: str, data: Path, tmp_path: Path) -> None:
    study = small_study(data, data={name: "some.csv"}, risk={"stop_loss": 0.1})
    with pytest.raises(StudyFileError, match=rf"\[data\] {name}: its rows belong to times"):
        calibrate(study, copies=2, out=tmp_path / "out", workers=1)
    assert not (tmp_path / "out").exists()


def test_symbols_that_come_and_go_and_funding(tmp_path: Path) -> None:
    """What else belongs to a bar goes with it."""
    bars = random_bars(400)
    rng = np.random.default_rng(2)
    tables = []
    for s, symbol in enumerate(bars.symbols):
        kept = slice(80 * s, None)
        values = {n: getattr(bars, n)[kept, s] for n in ("open", "high", "low", "close", "volume")}
        times = bars.timestamps[kept]
        funding = rng.normal(0.0, 1e-4, len(times))
        tables.append(pd.DataFrame({"symbol": symbol, "timestamp": times, "f": funding, **values}))
    pd.concat(tables).to_parquet(tmp_path / "bars.parquet", index=False)
    study = small_study(tmp_path / "bars.parquet", data={"align": "outer", "funding": "f"})
    found = calibrate(study, copies=3, out=tmp_path / "out", workers=1)
    assert len({one.objective for one in (found.own, *found.copies)}) == 4


# --- Going on ------------------------------------------------------------------------------------


def test_the_number_of_workers_changes_nothing(
    data: Path, undisturbed: Calibration, tmp_path: Path
) -> None:
    found = calibrate(small_study(data), copies=6, out=tmp_path / "out", workers=2)
    assert files(tmp_path / "out") == files(undisturbed.folder)
    assert found.copies == undisturbed.copies


def test_more_copies_keep_those_that_are_there(
    data: Path, undisturbed: Calibration, tmp_path: Path
) -> None:
    plans: list[CalibrationPlan] = []
    run = partial(calibrate, small_study(data), out=tmp_path / "out", workers=1)
    run(copies=2)
    found = run(copies=6, on_start=plans.append)
    assert plans[0].n_searches == 4
    assert files(tmp_path / "out") == files(undisturbed.folder)
    assert run(copies=2).copies == found.copies[:2]


def test_a_killed_calibration_ends_as_an_undisturbed_one(
    data: Path, undisturbed: Calibration, tmp_path: Path
) -> None:
    """Killed between searches, and within them after a batch."""
    file, out = tmp_path / "study.toml", tmp_path / "out"
    file.write_text(tomli_w.dumps(mapping(data)))
    conditions: list[Callable[[], bool]] = [
        lambda: (out / "winner-000002.json").is_file(),
        lambda: any(out.glob("search-*/results/batch-000001.parquet")),
        lambda: (out / "winner-000004.json").is_file(),
    ]
    for condition in conditions:
        command = Command(
            "calibrate", file, "--copies", 60, "--out", out, "--workers", 1,
            output=tmp_path / "output.txt", prepare="tests.support.faults:slow_batches",
        )  # fmt: skip
        assert wait_until(condition, seconds=180.0)
        command.kill()
        assert not (out / "winner-000060.json").is_file()
    found = calibrate(load_study(file), copies=6, out=out, workers=1)
    assert (found.own, found.copies) == (undisturbed.own, undisturbed.copies)
    kept = files(undisturbed.folder)
    assert {name: content for name, content in files(out).items() if name in kept} == {
        **kept,
        "calibration.json": files(out)["calibration.json"],  # of the study by another name
    }


def test_a_damaged_winner_is_computed_again(
    data: Path, undisturbed: Calibration, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(undisturbed.folder, out)
    (out / "winner-000003.json").write_text('{"n_sets": 5, "objective": "high"}')
    found = calibrate(small_study(data), copies=6, out=out, workers=1)
    assert found.copies == undisturbed.copies
    assert files(out) == files(undisturbed.folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mean_block": 7.0}, "the length of the blocks changed"),
        ({"study": {"search": {"trials": 11}}}, "the study file changed"),
        ({"bars": 2}, "the bars changed"),
    ],
)
def test_other_terms_are_refused(
    change: dict[str, Any], words: str, data: Path, undisturbed: Calibration, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(undisturbed.folder, out)
    path = data
    if "bars" in change:
        path = write_bars(tmp_path / "bars.parquet", random_bars(seed=change["bars"]))
    study = small_study(path, **change.get("study", {}))
    with pytest.raises(StudyError, match=words):
        calibrate(study, copies=6, out=out, mean_block=change.get("mean_block"), workers=1)
    assert files(out) == files(undisturbed.folder)


def test_a_folder_of_other_things_is_left_alone(data: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(StudyError, match="already holds files"):
        calibrate(small_study(data), copies=2, out=tmp_path / "out", workers=1)
    assert files(tmp_path / "out") == {"notes.txt": b"mine"}


# --- The command ---------------------------------------------------------------------------------


def test_the_command_says_what_it_found(
    data: Path, undisturbed: Calibration, tmp_path: Path
) -> None:
    (tmp_path / "study.toml").write_text(tomli_w.dumps(mapping(data)))
    done = barsweep("calibrate", "study.toml", "--copies", 6, "--workers", 1, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("estimate: 7 searches of up to 40 parameter sets")
    one = undisturbed.by_objective
    assert one is not None
    said = f"on {one.k} of 6 copies the winner looked at least this good, p {one.p:.3g}"
    assert f"by sharpe: {said}" in lines
    kept = json.loads((tmp_path / "out" / "small-calibration" / "winner-000000.json").read_text())
    assert Winner(**kept) == undisturbed.own


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["gone.toml"], "gone.toml"),
        (["study.toml", "--copies", "0"], "--copies"),
        (["study.toml", "--block", "0.5"], "--block"),
        (["study.toml", "--out", "study.toml"], "study.toml: is a file"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str], words: str, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "study.toml").write_text(tomli_w.dumps(mapping(data)))
    done = barsweep("calibrate", *arguments, folder=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr and done.stderr.count("\n") == 1, done.stderr


@pytest.mark.parametrize(("copies", "block"), [(0, None), (5, 0.5), (5, float("nan"))])
def test_numbers_are_bounded(copies: int, block: float | None, data: Path, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="expected"):
        calibrate(small_study(data), copies=copies, mean_block=block, out=tmp_path / "out")
