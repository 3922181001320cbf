"""``store = "top"``: the best sets are kept whole, of the others what the verdict needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tomli_w

from optimizer.catalogue import METRICS
from optimizer.errors import StudyError, StudyFileError
from optimizer.review.records import set_record
from optimizer.search.result import StudyResult
from optimizer.search.resume import resume_study
from optimizer.search.run import run_study
from optimizer.selection.record import Selection, load_selection
from optimizer.selection.survivors import contending_sets
from optimizer.store import query
from optimizer.store.columns import KEPT
from optimizer.store.export import export_sets
from optimizer.store.folder import StudyFolder
from optimizer.store.histograms import Counts, bins_of, edges_of, histogram_of, packed, unpacked
from optimizer.store.pareto import pareto_sets
from optimizer.store.query import best_sets, find_sets, ranked
from optimizer.store.top import BestSoFar
from optimizer.study_file.search_tables import SearchTable
from optimizer.study_file.study import Study, study_from_dict
from optimizer.views.heatmap import heatmap
from optimizer.views.report import write_report
from tests.support.command import barsweep
from tests.support.processes import Command, wait_until
from tests.support.studies import mapping, random_bars, result_hashes, small_study, write_bars

TOP = 40
SWEPT: dict[str, Any] = {
    "strategy": {
        "lookback": {"low": 5, "high": 40, "step": 5},
        "threshold": {"sweep": {"low": 0.0, "high": 0.03, "step": 0.002}},
    },
    "risk": {"kelly_fraction": {"sweep": [0.05, 0.1, 0.2, 0.4]}},
}
SEARCHES: dict[str, dict[str, Any]] = {
    "sharpe": {"trials": 12, "constraints": ["n_trades >= 3", "max_drawdown <= 0.05"]},
    # Decided by the objective where all sets of a tile have one score, and by more than one metric.
    "expression": {"trials": 6, "objective": "max_drawdown - cagr", "direction": "minimize",
                   "tile_value": "median"},
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bars(tmp_path_factory.mktemp("top") / "bars.parquet", random_bars(300))


def study_of(data: Path, name: str, **search: Any) -> Study:
    return small_study(data, **SWEPT, search={**SEARCHES[name], **search})


@pytest.fixture(scope="module", params=list(SEARCHES))
def both(request: pytest.FixtureRequest, data: Path) -> tuple[StudyResult, StudyResult]:
    """The same search with everything kept, and with the best sets."""
    home = data.parent / request.param
    plain, top = (study_of(data, request.param, **more) for more in ({}, {"store": {"top": TOP}}))
    return (
        run_study(plain, out=home / "all", workers=1),
        run_study(top, out=home / "top", workers=1),
    )


@pytest.fixture(scope="module")
def unkept(both: tuple[StudyResult, StudyResult]) -> int:
    frame = both[1].results()
    return int(frame["set"][~frame[KEPT]].iloc[0])


def selection_of(result: StudyResult) -> Selection:
    found = load_selection(result.folder)
    assert found is not None
    return found


def test_the_verdict_is_that_of_a_study_which_keeps_all(
    both: tuple[StudyResult, StudyResult],
) -> None:
    every, top = both
    assert selection_of(every) == selection_of(top)
    assert every.verdict is not None and top.verdict is not None
    assert every.verdict.words == top.verdict.words
    lists = [
        contending_sets(one.folder, selection_of(one), one.study.seed).tolist() for one in both
    ]
    assert lists[0] == lists[1]


def test_the_best_sets_are_kept_whole(both: tuple[StudyResult, StudyResult]) -> None:
    every, top = both
    columns = [name for name in every.results().columns if name != KEPT]
    wanted, found = (best_sets(one.folder, one.study.search, 10) for one in both)
    pd.testing.assert_frame_equal(wanted[columns], found[columns])
    frame, whole = top.results(), every.results().set_index("set")
    order = ranked(whole.reset_index()[whole["feasible"].to_numpy()], every.study.search)
    kept = frame["set"][frame[KEPT]].tolist()
    assert set(order[:TOP]) <= set(kept)
    assert len(kept) < len(frame) / 2
    pd.testing.assert_frame_equal(
        frame[frame[KEPT]].set_index("set")[columns[1:]],
        whole.loc[kept, columns[1:]],
        check_dtype=False,
    )
    # Of the others what the verdict needs is there, and nothing else.
    rest = frame[~frame[KEPT]].set_index("set")
    same = ["trial", "feasible", "score", "alpha_t", "sharpe", "n_trades", "kelly_fraction"]
    pd.testing.assert_frame_equal(rest[same], whole.loc[rest.index, same])
    assert rest[["alpha", "sortino", "ruined", "losing_streak"]].isna().all().all()
    holdout = top.folder.holdout(frame["set"].to_numpy())
    assert (holdout["oos_sharpe"].notna() <= frame.set_index("set")[KEPT]).all()


def test_histograms_count_every_set(both: tuple[StudyResult, StudyResult]) -> None:
    every, top = both
    assert every.folder.histograms() is None
    counts = top.folder.histograms()
    assert counts is not None and set(counts) == set(METRICS)
    frame = every.results()
    for name in ("sharpe", "max_drawdown", "final_equity", "losing_streak", "ruined"):
        values = frame[name].dropna().astype(float).to_numpy()
        histogram = histogram_of(name, counts[name])
        assert histogram.counts.sum() == len(values)
        for low, high, count in zip(histogram.lows, histogram.highs, histogram.counts, strict=True):
            inside = (
                (values >= low) & (values < high) if low >= 0 else (values > low) & (values <= high)
            )
            if low < 0 < high:
                inside = np.abs(values) < high
            assert inside.sum() == count
        middle = np.sort(values)[(len(values) - 1) // 2]
        assert histogram.quantile(0.5) == pytest.approx(middle, rel=1 / 16, abs=1e-6)


def test_bins_and_their_ends_agree() -> None:
    random = np.random.default_rng(1)
    values = random.choice([-1.0, 1.0], 20_000) * 10.0 ** random.uniform(-9, 14, 20_000)
    values = np.concatenate([values, [0.0, -0.0, 1.0, -1.0, 2.0**-21, 2.0**41]])
    for value, place in zip(values.tolist(), bins_of(values).tolist(), strict=True):
        low, high = edges_of(place)
        if abs(value) < 2.0**40:
            assert low <= value <= high
        else:
            assert place == np.sign(value) * bins_of(np.array([1e300]))[0]
    found: Counts = {name: {} for name in METRICS} | {"sharpe": {-3: 4, 0: 1, 961: 2}}
    assert unpacked({b"barsweep.histograms": packed(found)}) == found


@pytest.mark.parametrize("maximize", [True, False])
def test_the_best_so_far_are_those_of_all_sets_together(maximize: bool) -> None:
    random = np.random.default_rng(7)
    n_sets = 3000
    frame = pd.DataFrame(
        {
            "set": np.arange(n_sets),
            "feasible": random.random(n_sets) < 0.8,
            "score": random.integers(0, 40, n_sets).astype(float),
            "sharpe": random.integers(0, 5, n_sets).astype(float),
        }
    )
    frame.loc[random.random(n_sets) < 0.1, "score"] = np.nan
    search = SearchTable(direction="maximize" if maximize else "minimize")
    order = ranked(frame[frame["feasible"]], search)
    best = BestSoFar(100, maximize)
    kept: list[int] = []
    for part in np.array_split(np.arange(n_sets), 13):
        rows = frame.iloc[part]
        columns = (rows[name].to_numpy() for name in ("set", "feasible", "score", "sharpe"))
        kept += part[best.add(*columns)].tolist()
        known = frame.iloc[: part[-1] + 1]
        assert best.numbers.tolist() == ranked(known[known["feasible"]], search)[:100]
    assert best.n_ranked == len(order)
    assert set(order[:100]) <= set(kept)


def test_the_best_sets_of_a_study_that_keeps_all_are_read_a_batch_at_a_time(
    both: tuple[StudyResult, StudyResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    every = both[0]
    wanted = best_sets(every.folder, every.study.search, 30)
    # Fewer than are asked for: then all sets are looked at.
    monkeypatch.setattr(query, "KEPT_SETS", 20)
    pd.testing.assert_frame_equal(best_sets(every.folder, every.study.search, 30), wanted)


# --- Ends before its end ----------------------------------------------------------------------


def test_a_killed_study_ends_as_an_undisturbed_one(
    data: Path, both: tuple[StudyResult, StudyResult], tmp_path: Path
) -> None:
    top = both[1]
    file = data.parent / f"{top.study.search.tile_value}.toml"
    file.write_text(tomli_w.dumps({**top.study.to_dict(), "data": {"path": data.name}}))
    out = tmp_path / "out"
    command = Command(
        *("run", file, "--out", out, "--workers", 1),
        output=tmp_path / "output.txt",
        prepare="tests.support.faults:slow_batches",
    )
    assert wait_until(lambda: len(list(out.glob("results/batch-*.parquet"))) >= 1)
    command.kill()
    assert not StudyFolder.open(out).manifest()["complete"]
    resumed = resume_study(out, workers=2)
    assert result_hashes(resumed.folder) == result_hashes(top.folder)
    assert selection_of(resumed) == selection_of(top)


def test_a_damaged_batch_is_computed_again(
    data: Path, both: tuple[StudyResult, StudyResult]
) -> None:
    top = both[1]
    before = result_hashes(top.folder)
    path = top.folder.batch_path(0)
    content = path.read_bytes()
    path.write_bytes(content[:-200] + bytes(100) + content[-100:])
    assert result_hashes(resume_study(top.folder.path, workers=1).folder) == before


# --- What it cannot do ------------------------------------------------------------------------


def test_a_set_that_was_not_kept_is_refused(
    both: tuple[StudyResult, StudyResult], unkept: int, tmp_path: Path
) -> None:
    path = both[1].folder.path
    said = f'parameter set {unkept} was not kept: \\[search\\] store = "top" keeps the 40 best'
    with pytest.raises(StudyError, match=said):
        export_sets(path, numbers=[unkept], out=tmp_path / "set.json")
    with pytest.raises(StudyError, match=said):
        set_record(path, unkept)
    ended = barsweep(
        "export", path, "--set", unkept, "--out", tmp_path / "set.json", folder=tmp_path
    )
    assert ended.returncode == 2 and f"parameter set {unkept} was not kept" in ended.stderr
    assert not (tmp_path / "set.json").exists()
    # As for one that there never was.
    with pytest.raises(StudyError, match="no parameter set 99999"):
        both[1].folder.sets([99_999])


def test_only_what_is_known_of_all_sets_is_drawn_over_all(
    both: tuple[StudyResult, StudyResult],
) -> None:
    path = both[1].folder.path
    axes = ("momentum_threshold", "kelly_fraction")
    assert heatmap(path, *axes, "sharpe").data
    with pytest.raises(StudyError, match="sortino is known of the best sets alone"):
        heatmap(path, *axes, "sortino")
    with pytest.raises(StudyError, match="ulcer_index is known of the best sets alone"):
        pareto_sets(path, ["sharpe", "ulcer_index"])
    with pytest.raises(StudyError, match="no infeasible one"):
        find_sets(path, infeasible=True)


def test_lists_look_among_the_sets_that_are_kept(
    both: tuple[StudyResult, StudyResult], tmp_path: Path
) -> None:
    frame = both[1].results()
    found = find_sets(both[1].folder.path, where="sortino > -100", sort="sortino", top=5)
    wanted = frame[frame[KEPT]].sort_values("sortino", ascending=False, kind="stable")
    assert found["sortino"].tolist()[0] == wanted["sortino"].iloc[0]
    assert found[KEPT].all()
    shown = barsweep("show", both[1].folder.path, folder=tmp_path)
    n_kept = int(frame[KEPT].sum())
    assert f"all metrics are kept of {n_kept} sets, the best 40 among them" in shown.stdout


def test_the_report_shows_the_histograms(both: tuple[StudyResult, StudyResult]) -> None:
    every, top = both
    page = Path(write_report(top.folder.path)).read_text(encoding="utf-8")
    assert "Metrics of all sets" in page and "kept whole" in page
    assert "Metrics of all sets" not in Path(write_report(every.folder.path)).read_text()


@pytest.mark.parametrize(
    ("search", "said"),
    [
        ({"store": "best"}, "store: got 'best'; valid"),
        ({"store": {"top": 5}}, "store: got 5; expected a whole number, 10 to 100000000"),
        ({"store": {"most": 50}}, "most"),
        ({"store": "top", "objective": ["sharpe", "cagr"]}, "store: 2 objectives rank"),
        ({"store": "top", "tile_value": "plateau"}, 'store: tile_value = "plateau" ranks'),
        ({"store": "top", "storage": "postgresql://a@b/c"}, "store: several coordinators"),
    ],
)
def test_studies_that_cannot_keep_the_best_are_refused(search: dict[str, Any], said: str) -> None:
    with pytest.raises(StudyFileError, match="store") as refused:
        study_from_dict(mapping(search=search))
    assert said.replace("'", '"') in str(refused.value).replace("'", '"')


def test_a_study_that_keeps_all_is_what_it_was() -> None:
    plain = study_from_dict(mapping())
    assert "store" not in plain.to_dict()["search"]
    assert study_from_dict(mapping(search={"store": "all"})).content_hash == plain.content_hash
    top = study_from_dict(mapping(search={"store": "top"}))
    assert top.to_dict()["search"]["store"] == {"top": 100_000}
    assert study_from_dict(top.to_dict()).content_hash == top.content_hash != plain.content_hash
    # The same sets are tried.
    assert top.space_hash == plain.space_hash
