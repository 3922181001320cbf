"""Sets of several studies as one book: chosen and weighed in-sample, replayed, judged as one more try."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import optimizer
from optimizer.errors import BarsweepError
from optimizer.review.replay import replay
from optimizer.search.combine import CombinedSets, combine
from optimizer.search.run import run_study
from optimizer.selection.record import load_selection
from optimizer.selection.tried import own_draws
from optimizer.store.folder import StudyFolder
from optimizer.store.ledger import read_ledger
from optimizer.store.query import best_sets
from optimizer.study_file.study import recorded_study, study_from_dict
from optimizer.sweep.max_test import larger_draws
from optimizer.trading.orders import next_orders
from optimizer.types import Bars, FloatArray
from tests.support.command import barsweep
from tests.support.studies import changed, mapping, random_bars, write_bars

REVERSION = {
    "name": "mean_reversion",
    "lookback": {"low": 5, "high": 40, "step": 5},
    "oversold": {"sweep": [25, 35]},
}
SPLIT = 235
"""First bar of the holdout of the studies here."""

OPTIONS: dict[str, Any] = {"top": 8, "max_correlation": 0.9}


@pytest.fixture(autouse=True)
def own_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BARSWEEP_LEDGER", str(tmp_path / "own" / "ledger.db"))


def run_two(home: Path, bars: Bars) -> list[Path]:
    """Two studies of other strategies on the same bars."""
    write_bars(home / "bars.parquet", bars)
    reverting = {**mapping("bars.parquet"), "study": {"name": "other", "seed": 4}}
    studies = {"one": mapping("bars.parquet"), "two": {**reverting, "strategy": REVERSION}}
    for name, study in studies.items():
        run_study(study_from_dict(study, home), out=home / name, workers=1)
    return [home / name for name in studies]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("combine")
    run_two(home, random_bars())
    return home


@pytest.fixture(scope="module")
def folders(home: Path) -> list[Path]:
    return [home / "one", home / "two"]


@pytest.fixture(scope="module")
def still(home: Path, folders: list[Path]) -> CombinedSets:
    """A combination whose accounts are left alone."""
    return combine(folders, **OPTIONS, out=home / "still.json")


@pytest.fixture(scope="module")
def moved(home: Path, folders: list[Path]) -> CombinedSets:
    """The same, brought back to its shares every month."""
    return combine(folders, **OPTIONS, rebalance="month", out=home / "moved.json")


def moments_of(folder: Path) -> FloatArray:
    """Sums of the returns of every set over each block, as the study has written them."""
    parts = [np.load(path) for path in sorted((folder / "moments").glob("*.npy"))]
    sums: FloatArray = np.concatenate(parts)[:, 0]
    return sums


def chosen_by_hand(folders: list[Path], top: int, limit: float) -> list[tuple[Path, int]]:
    """The slow way: the best of each by the Sharpe ratio, then each against all before it."""
    candidates = []
    for folder in folders:
        opened = StudyFolder.open(folder)
        frame = best_sets(opened, recorded_study(opened.manifest()["study"]).search, top)
        returns = moments_of(folder)
        for row in frame.to_dict("records"):
            candidates.append((row["sharpe"], folder, row["set"], returns[row["set"]].tolist()))
    candidates.sort(key=lambda one: -one[0])
    taken: list[tuple[Path, int, list[float]]] = []
    for _, folder, number, values in candidates:
        if all(statistics.correlation(values, one[2]) <= limit for one in taken):
            taken.append((folder, number, values))
    return [(folder, number) for folder, number, _ in taken]


def members(found: CombinedSets) -> list[tuple[Path, int]]:
    rows = found.members.to_dict("records")
    return [(Path(row["study"]), row["set"]) for row in rows]


# --- The choice -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("top", "limit"), [(4, 0.6), (20, 0.9)])
def test_the_best_that_are_unlike_are_taken(
    folders: list[Path], tmp_path: Path, top: int, limit: float
) -> None:
    found = combine(folders, top=top, max_correlation=limit, out=tmp_path / "book.json")
    assert members(found) == chosen_by_hand(folders, top, limit)
    assert {one for one, _ in members(found)} == set(folders)
    assert found.members["share"].tolist() == pytest.approx(
        [1 / len(found.members)] * len(found.members)
    )
    assert found.members["correlation"].iloc[1:].max() <= limit
    again = combine(folders[::-1], top=top, max_correlation=limit, out=tmp_path / "again.json")
    assert members(again) == members(found)


def test_shares_by_inverse_volatility_are_those_of_the_block_returns(
    folders: list[Path], tmp_path: Path
) -> None:
    found = combine(folders, **OPTIONS, method="inverse_volatility", out=tmp_path / "book.json")
    inverse = [
        1.0 / statistics.stdev(moments_of(folder)[number].tolist())
        for folder, number in members(found)
    ]
    wanted = [one / sum(inverse) for one in inverse]
    assert found.members["share"].tolist() == pytest.approx(wanted, abs=2e-6)
    assert found.members["cash"].tolist() == pytest.approx(
        (100_000.0 * found.members["share"]).tolist()
    )


def test_the_holdout_has_no_say(folders: list[Path], tmp_path: Path) -> None:
    """Other prices over the holdout: the same sets with the same shares, and the same in-sample."""
    manifest = StudyFolder.open(folders[0]).manifest()
    assert manifest["holdout_bar"] == SPLIT
    others = run_two(tmp_path, changed(random_bars(), SPLIT, 0.4))
    options = {**OPTIONS, "method": "inverse_volatility"}
    found = combine(folders, **options, out=tmp_path / "one.json")
    other = combine(others, **options)
    names = ["set", "strategy", "share", "cash", "correlation"]
    pd.testing.assert_frame_equal(found.members[names], other.members[names], check_exact=True)
    assert found.result.in_sample == other.result.in_sample
    assert found.result.out_of_sample != other.result.out_of_sample
    content = json.loads((tmp_path / "one.json").read_text())
    assert all(one["export"]["sets"][0]["out_of_sample"] is None for one in content["members"])


# --- The book ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["still", "moved"])
def test_a_combination_is_replayed_bit_for_bit(
    request: pytest.FixtureRequest, folders: list[Path], tmp_path: Path, which: str
) -> None:
    found: CombinedSets = request.getfixturevalue(which)
    again = replay(found.path)
    assert again.differences == () and not again.sealed
    pd.testing.assert_series_equal(again.result.equity, found.result.equity, check_exact=True)
    pd.testing.assert_frame_equal(again.result.fills, found.result.fills, check_exact=True)
    # Metrics that returns define, from elsewhere.
    inside = again.result.equity.iloc[: SPLIT - 40]
    returns = inside.pct_change().fillna(inside.iloc[0] / 100_000.0 - 1.0)
    for name, value in optimizer.metrics(returns, 252.0).items():
        if name in again.result.in_sample:
            assert again.result.in_sample[name] == pytest.approx(value, rel=1e-6), name


def test_the_same_studies_give_the_same_file_and_another_figure_is_found(
    still: CombinedSets, folders: list[Path], home: Path
) -> None:
    text = still.path.read_bytes()
    file = home / "again.json"
    combine(folders, **OPTIONS, out=file)
    assert file.read_bytes() == text
    differing = json.loads(text)
    differing["in_sample"]["sharpe"] += 1e-12
    file.write_text(json.dumps(differing))
    assert [one.metric for one in replay(file).differences] == ["sharpe"]
    done = barsweep("replay", file, folder=home)
    assert done.returncode == 1 and "differs: in-sample sharpe" in done.stdout


def test_the_book_is_the_sum_of_its_accounts(still: CombinedSets) -> None:
    file, book = still.path, still.result
    parity = replay(file, events=True).parity
    assert parity is not None and parity.differences == () and parity.n_fills > 50
    parts = []
    for place, cash in enumerate(still.members["cash"], 1):
        one = replay(file, number=place)
        assert one.differences == () and one.sealed
        assert one.costs["initial_cash"] == cash
        parts.append(one.result.equity)
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    pd.testing.assert_series_equal(
        book.equity.iloc[: len(total)], total, check_exact=True, check_freq=False
    )
    assert book.attribution().groupby("by")["profit"].sum().tolist() == pytest.approx(
        [float(book.equity.iloc[-1]) - 100_000.0] * 4
    )
    assert book.in_sample["n_trades"] == sum(one.in_sample["n_trades"] for one in book.members)
    # Of the holdout the whole alone was looked at: what ends there tells nothing of a member.
    assert all(one.out_of_sample is None for one in book.members)
    assert len(book.members[0].equity) == len(parts[0])
    last = book.members[0].equity.index[-1]
    numbers = set(range(1, len(still.members) + 1))
    for table, time in ((book.trades, "exit"), (book.fills, "timestamp")):
        before = table[table[time] <= last]
        assert 0 < len(before) < len(table) and set(before["member"]) <= numbers
        assert table.loc[table[time] > last, "member"].isna().all()


def test_the_order_of_the_folders_has_no_say(
    still: CombinedSets, folders: list[Path], tmp_path: Path
) -> None:
    other = combine(folders[::-1], **OPTIONS, out=tmp_path / "book.json")
    assert other.selection.search == still.selection.search
    assert json.loads(other.path.read_text())["hash"] == json.loads(still.path.read_text())["hash"]
    pd.testing.assert_series_equal(other.result.equity, still.result.equity, check_exact=True)
    assert other.selection.sharpe_interval == still.selection.sharpe_interval


def test_money_that_moves_is_traded_at_cost(still: CombinedSets, moved: CombinedSets) -> None:
    book = moved.result
    assert set(still.result.attribution()["by"]) - set(book.attribution()["by"]) == {"regime"}
    assert len(book.fills) > len(still.result.fills)
    profit = float(book.fills["cash"].sum()) + float(book.values[-1].sum())
    assert profit == pytest.approx(float(book.equity.iloc[-1]) - 100_000.0)
    parity = replay(moved.path, events=True).parity
    assert parity is not None and parity.differences == () and parity.n_fills == len(book.fills)


def test_orders_and_tables_are_those_of_a_member(still: CombinedSets, tmp_path: Path) -> None:
    file = still.path
    mine = next_orders(file, number=2)
    assert mine.number == still.members["set"].iloc[1]
    waiting = still.result.orders_next
    wanted = waiting.loc[waiting["member"] == 2, ["symbol", "quantity"]]
    assert mine.orders[["symbol", "quantity"]].values.tolist() == wanted.values.tolist()
    done = barsweep("replay", file, "--weights", "w.csv", "--trades", "t.csv", folder=tmp_path)
    assert done.returncode == 0 and "a combination of" in done.stdout
    assert (tmp_path / "w.csv").is_file() and (tmp_path / "t.csv").is_file()
    for given in (["stress", file], ["drift", tmp_path / "w.csv", file, "--cash", "1"]):
        done = barsweep(*given, folder=tmp_path)
        assert done.returncode == 2 and "name it with --set 1 to --set" in done.stderr, given
    done = barsweep("show", file, folder=tmp_path)
    assert done.returncode == 2 and "of a combination `barsweep report` does too" in done.stderr


# --- The verdict ------------------------------------------------------------------------------------


def test_all_that_was_tried_counts_and_so_does_each_combination(
    folders: list[Path], tmp_path: Path
) -> None:
    selections = [load_selection(StudyFolder.open(one)) for one in folders]
    n_tried = sum(one.n_tried for one in selections if one is not None)
    found = combine(folders, **OPTIONS, out=tmp_path / "book.json")
    assert found.selection.n_tried == n_tried + 1 == found.verdict.tried.n_sets
    assert found.verdict.tried.n_studies == 2
    every = larger_draws([own_draws(one) for one in selections if one is not None])
    assert len(every) and (np.array(found.selection.maxima) >= every).all()
    ((_, search),) = read_ledger().searches()
    assert search.n_sets == 1
    assert [look.why for _, look in read_ledger().looks()] == ["verdict"]
    combine(folders, **OPTIONS, out=tmp_path / "book.json")
    assert len(read_ledger().searches()) == len(read_ledger().looks()) == 1
    assert replay(found.path).verdict.p == found.verdict.p  # type: ignore[union-attr]
    other = combine(folders, **OPTIONS, rebalance="month", out=tmp_path / "other.json")
    again = replay(found.path).verdict
    assert again is not None and again.tried.n_sets == n_tried + 2 and again.tried.n_looks == 2
    assert other.verdict.tried.n_sets == n_tried + 2 and other.verdict.tried.n_looks == 2
    assert len(read_ledger().searches()) == 2


def test_studies_in_the_ledger_count_once(tmp_path: Path) -> None:
    folders = run_two(tmp_path, random_bars())
    found = combine(folders, **OPTIONS)
    assert found.path == folders[0] / "combination.json"
    assert found.verdict.tried.n_sets == found.selection.n_tried
    assert found.verdict.tried.n_looks == 3  # both verdicts, and this one
    judged = optimizer.set_record(folders[0], 0).odds
    assert judged is not None and judged.p is not None and judged.own_p is not None
    assert judged.p >= judged.own_p


def test_the_statistic_of_a_book_is_that_of_a_set(folders: list[Path], tmp_path: Path) -> None:
    """A set that takes all the money has the alpha that its study has recorded."""
    from optimizer.review.book import book_result
    from optimizer.review.rerun import Terms, rerun_set
    from optimizer.selection.book import select_book
    from optimizer.store.export import set_document

    folder = StudyFolder.open(folders[0])
    manifest = folder.manifest()
    selection = load_selection(folder)
    assert selection is not None
    winner = selection.sets[0]
    terms = Terms.of_study(manifest)
    row = folder.sets([winner.number]).to_dict("records")[0]
    again = rerun_set(set_document(row, manifest["study"]), terms, terms.bars(), sealed=False)
    book = book_result(again.inputs, [again.result], "never")
    study = recorded_study(manifest["study"], manifest["study_folder"])
    found, draws = select_book(folder, study, again.inputs, book, [selection], "book", "ab" * 32)
    (one,) = found.sets
    for name in ("sharpe", "alpha", "alpha_t", "skewness", "oos_sharpe", "psr", "oos_psr"):
        assert getattr(one, name) == pytest.approx(getattr(winner, name), rel=1e-6), name
    assert found.holdout is not None and selection.holdout is not None
    assert found.holdout.p == pytest.approx(selection.holdout.p, rel=1e-9)
    assert found.maxima == pytest.approx(selection.maxima, rel=1e-5)
    assert (draws <= np.array(selection.maxima) + 1e-4).all()


def test_nothing_else_is_replaced(still: CombinedSets, folders: list[Path]) -> None:
    file = still.path.with_name("other.json")  # whose paths are those of the first
    for content in ('{"kind": "another"}', "no JSON", still.path.read_text()):
        file.write_text(content)
        with pytest.raises(
            BarsweepError, match="exists, and is not this combination; give another"
        ):
            combine(folders, **OPTIONS, rebalance="year", out=file)
        assert file.read_text() == content
    assert read_ledger().looks() == []  # what was refused has shown nothing
    combine(folders, **OPTIONS, out=file)  # the same again
    assert file.read_text() == still.path.read_text()
    file.write_text("no JSON")
    combine(folders, **OPTIONS, out=file, overwrite=True)
    assert file.read_text() == still.path.read_text()


# --- Wrong input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing"], "missing: no study here"),
        (["one", "two", "--top", "0"], "'--top'"),
        (["one", "two", "--max-correlation", "1.5"], "'--max-correlation'"),
        (["one", "two", "--max-correlation", "-1.5"], "'--max-correlation'"),
        (["one", "two", "--method", "best"], "'--method'"),
        (["one", "--max-correlation", "-1"], "1 of 10 candidates left"),
        (["one", "two", "--out", "book.txt"], "ends in .json"),
        (["one", "two", "--out", "nowhere/book.json"], "there is no folder nowhere"),
        ([], "DIR"),
    ],
)
def test_wrong_input_is_one_line(home: Path, arguments: list[str], message: str) -> None:
    done = barsweep("combine", *arguments, folder=home)
    assert done.returncode == 2 and message in done.stderr, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (home / "one" / "combination.json").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"top": 0}, "--top must be 1 or more, got 0"),
        ({"max_correlation": 2.0}, "--max-correlation 2; expected -1 to 1"),
        ({"max_correlation": float("nan")}, "--max-correlation nan; expected -1 to 1"),
        ({"method": "best"}, '--method: got "best"; valid: equal'),
        ({"rebalance": "daily"}, '--rebalance: got "daily"; valid: never'),
    ],
)
def test_wrong_arguments_are_named(
    folders: list[Path], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(BarsweepError, match=message):
        combine(folders, **changes)
    with pytest.raises(BarsweepError, match="no folder"):
        combine([])


def test_a_study_that_has_not_ended_is_refused(home: Path, tmp_path: Path) -> None:
    import shutil

    copied = tmp_path / "part"
    shutil.copytree(home / "one", copied)
    folder = StudyFolder.open(copied)
    folder.write_manifest({**folder.manifest(), "complete": False, "winner": None})
    with pytest.raises(BarsweepError, match=r"part: not complete; .*`barsweep resume"):
        combine([home / "two", copied])


@pytest.mark.parametrize(
    ("tables", "key"),
    [
        ({"data": {"end": "2016-02-01"}}, "time of the first and the last bar"),
        ({"costs": {"initial_cash": 50_000.0}}, r"\[costs\]"),
        ({"account": {"currency": "EUR"}}, r"\[account\]"),
        ({"validation": {"holdout": 0.4}}, "first bar of the holdout"),
        ({"validation": {"blocks": 8}}, "blocks of in-sample bars"),
        ({"validation": {"benchmark": "AAA"}}, r"\[validation\] benchmark"),
        ({"search": {"objective": "sortino"}}, r"\[search\] objective"),
        ({"risk": {"correlation_lookback": 60}}, "bar of the first decision"),
    ],
)
def test_studies_that_differ_are_refused(
    home: Path, tmp_path: Path, tables: dict[str, Any], key: str
) -> None:
    study = mapping("bars.parquet", search={"trials": 1, **tables.pop("search", {})}, **tables)
    run_study(study_from_dict(study, home), out=tmp_path / "unlike", workers=1)
    with pytest.raises(BarsweepError, match=rf"unlike and .*one: {key}: .+ and .+; "):
        combine([home / "one", tmp_path / "unlike"])


def test_money_cannot_move_where_orders_wait(home: Path, tmp_path: Path) -> None:
    study = mapping("bars.parquet", costs={"fill": "close"}, search={"trials": 4})
    run_study(study_from_dict(study, home), out=tmp_path / "close", workers=1)
    with pytest.raises(BarsweepError, match=r'fill = "close": money moves .*--rebalance never'):
        combine([tmp_path / "close"], rebalance="month")
    found = combine([tmp_path / "close"], max_correlation=0.999, out=tmp_path / "book.json")
    assert replay(found.path).differences == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(schema_version=1), "schema_version: got 1"),
        (lambda c: c.pop("members"), "members: missing"),
        (lambda c: c["members"].pop(), "share: add up to"),
        (lambda c: c["members"][0].update(share=0.9), "share: add up to"),
        (lambda c: c.update(rebalance="daily"), 'rebalance: got "daily"'),
        (lambda c: c["members"][1]["export"].pop("sets"), "members #2 export: sets"),
        (lambda c: c["members"][0]["export"]["data"].update(hash="ab" * 32), "other bars"),
        (lambda c: c["in_sample"].pop("sharpe"), "in_sample: sharpe is missing"),
        (lambda c: c["selection"].update(n_tried=0), "selection: n_tried: got 0"),
        (lambda c: c.update(studies=[["ab" * 32]]), "studies #1"),
    ],
)
def test_a_damaged_file_is_named(
    still: CombinedSets, home: Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    file = home / "book.json"  # beside its bars
    content = json.loads(still.path.read_text())
    change(content)
    file.write_text(json.dumps(content))
    done = barsweep("replay", file, folder=home)
    assert done.returncode == 2 and message in done.stderr and "book.json" in done.stderr, (
        done.stderr
    )
    assert len(done.stderr.splitlines()) == 1
