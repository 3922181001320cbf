"""The orders of the next open: those of the backtest day by day, and those of one's own account."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from optimizer.errors import DataError, ExportError
from optimizer.review.exported import naming_export
from optimizer.review.refusals import WHY
from optimizer.review.rerun import rerun_set
from optimizer.store.export import load_export
from optimizer.store.ledger import read_ledger
from optimizer.store.ledger_entries import Look
from optimizer.sweep.backtest_result import BacktestResult
from optimizer.trading.orders import Decider, NextOrders, next_orders
from optimizer.trading.plan import TradingSet, open_to_trade
from optimizer.types import Bars
from tests.support.command import barsweep
from tests.support.studies import random_bars, write_bars
from tests.support.trading import EVERY, N_DAYS, N_STUDY, exported, terms_on


def opened(path: Path, bars: Bars) -> TradingSet:
    with naming_export(path):
        return open_to_trade(path, data=bars)


def backtest(found: TradingSet, path: Path, bars: Bars) -> BacktestResult:
    """The set over all bars at once, by the kernels of the sweep."""
    document = load_export(path)["sets"][0]
    bars = replace(bars, bars_per_year=found.history.bars.bars_per_year)
    return rerun_set(document, terms_on(found, bars), bars, sealed=False).result


class Recorder:
    """The orders of a flow by bar, and their IDs."""

    def __init__(self) -> None:
        self.orders: dict[int, list[tuple[Any, ...]]] = {}

    def add(self, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
        if table == "orders":
            for id, _, bar, symbol, _, _, quantity, *_ in rows:
                self.orders.setdefault(bar, []).append((symbol, quantity, id))

    def end_bar(self, bar: int) -> None:
        pass


def of_flow(found: TradingSet, bars: Bars) -> dict[int, list[tuple[Any, ...]]]:
    """The orders of the backtest over all bars, in the event flow."""
    trace = Recorder()
    found.prepared(bars).run(trace)
    return trace.orders


def rows_of(orders: pd.DataFrame) -> list[tuple[Any, ...]]:
    return [(row.symbol, row.quantity, row.order_id) for row in orders.itertuples()]


@pytest.fixture(scope="module")
def days(best: Path) -> list[NextOrders]:
    """What is decided at the last close of the study and at each of the 250 after it."""
    found = opened(best, EVERY)
    decider = Decider(found)
    stops = range(N_STUDY, EVERY.n_bars + 1)
    return [decider.advance(found.history.bars.head(n)) for n in stops]


def test_day_by_day_the_orders_are_those_of_the_backtest(
    best: Path, days: list[NextOrders]
) -> None:
    found = opened(best, EVERY)
    expected = of_flow(found, found.history.bars)
    for index, one in enumerate(days, N_STUDY - 1):
        assert one.time == EVERY.timestamps[index]
        assert rows_of(one.orders) == expected.get(index, []), index
    assert sum(len(one.orders) for one in days) > 100
    result = backtest(found, best, EVERY)
    same = days[-1].orders.drop(columns="order_id")
    pd.testing.assert_frame_equal(same, result.orders_next, check_dtype=False)
    assert [one.equity for one in days] == result.equity.iloc[-N_DAYS - 1 :].tolist()


def test_a_fresh_start_gives_the_orders_of_the_day(best: Path, days: list[NextOrders]) -> None:
    found = opened(best, EVERY)
    for n in (N_STUDY, N_STUDY + 101):
        bars, one = EVERY.head(n), days[n - N_STUDY]
        fresh = next_orders(best, data=bars)
        pd.testing.assert_frame_equal(fresh.table, one.table)
        result = backtest(found, best, bars)
        same = fresh.orders.drop(columns="order_id")
        pd.testing.assert_frame_equal(same, result.orders_next, check_dtype=False)
        held = {name: p.quantity for name, p in fresh.account.positions.items()}
        assert held == result.open_positions
        assert (fresh.history.n_new, fresh.history.revised) == (n - N_STUDY, False)


@pytest.mark.parametrize(
    ("model", "n_days", "entry"),
    [("hmm", 60, "limit"), ("hmm", 60, "market"), ("svm", 250, "market")],
)
def test_models_are_refitted_on_the_schedule_of_the_study(
    tmp_path: Path, model: str, n_days: int, entry: str
) -> None:
    """A model that is refitted every 15 days; entries may wait at a price. 250 fits take some seconds."""
    n_study = 130
    bars = random_bars(n_study + n_days, ("AAA", "BBB"), seed=4)
    classifier = {"name": model, "lookback": 5, "train_bars": 60, "refit_bars": 15}
    risk = {"entry": entry, "bear_multiplier": 0.0, "stop_loss": 0.03, "max_exposure": 0.9}
    if entry == "limit":
        risk |= {"entry_offset": 0.002, "entry_bars": 2}
    path = exported(tmp_path, model, bars.head(n_study), classifier=classifier, risk=risk)
    found = opened(path, bars)
    expected, decider = of_flow(found, bars), Decider(found)
    regimes, n_orders = set(), 0
    for n in range(n_study, bars.n_bars + 1):
        one = decider.advance(found.history.bars.head(n))
        regimes.add(one.regime)
        quantities: dict[tuple[str, str], float] = {}
        for row in one.orders.itertuples():
            key = str(row.symbol), str(row.order_id)
            quantities[key] = quantities.get(key, 0.0) + float(str(row.quantity))
        wanted = {(symbol, id): quantity for symbol, quantity, id in expected.get(n - 1, [])}
        assert quantities == wanted
        n_orders += len(wanted)
    assert len(regimes) > 1 and n_orders > 10
    same = one.orders.drop(columns="order_id")
    pd.testing.assert_frame_equal(same, backtest(found, path, bars).orders_next, check_dtype=False)


# --- Reasons ------------------------------------------------------------------------------------


def test_every_symbol_says_why_it_has_an_order_or_none(days: list[NextOrders]) -> None:
    rows = pd.concat([one.table for one in days])
    assert len(rows) == len(days) * 3
    placed = rows[rows["reason"] == "placed"]
    assert (placed["quantity"] != 0.0).all()
    assert (rows.loc[rows["reason"] != "placed", "quantity"] == 0.0).all()
    assert {"placed", "no_signal", "inside_band"} <= set(rows["reason"]) <= {"placed", *WHY}
    assert rows["why"].str.len().min() > 10
    sized = placed[placed["size"].notna()]
    one = sized.iloc[0].to_dict()
    for part in (f"kelly {one['size']:.4g} of equity", "x 1 (neutral)", "momentum_"):
        assert part in one["why"]
    np.testing.assert_allclose(placed["value"], placed["quantity"] * placed["close"])
    exits = placed[placed["target"] == 0.0]
    assert exits["why"].str.match("exit, the signal is (flat|short) ").all() and len(exits)


# --- An account of one's own ----------------------------------------------------------------------


def test_an_account_of_ones_own_gets_orders_from_what_it_holds(
    best: Path, days: list[NextOrders], tmp_path: Path
) -> None:
    """What the backtest holds, given as an account, gives the orders of the backtest."""
    n = next(
        n for n, one in enumerate(days) if n > 20 and len(one.orders) and one.account.positions
    )
    theirs, bars = days[n], EVERY.head(N_STUDY + n)
    state = tmp_path / "account.json"
    state.write_text(json.dumps(theirs.account.to_dict()))
    mine = next_orders(best, data=bars, state=state)
    assert not mine.simulated
    assert rows_of(mine.orders) == rows_of(theirs.orders)
    table = tmp_path / "positions.csv"
    held = theirs.account.positions.items()
    lines = [f"{name},{one.quantity!r},{one.entry!r}" for name, one in held]
    table.write_text("\n".join(["Symbol,Quantity,Entry", *lines]))
    again = next_orders(best, data=bars, positions=table, cash=theirs.account.cash)
    pd.testing.assert_frame_equal(again.table, mine.table)
    # Twice the money wants twice as much; cash alone wants all of it.
    rich = next_orders(best, data=bars, positions={}, cash=2.0 * theirs.equity)
    assert rich.equity == 2.0 * theirs.equity
    assert (rich.table["held"] == 0.0).all()
    wanted = rich.table.set_index("symbol")["wanted"].dropna() / 2.0
    before = theirs.table.set_index("symbol")["wanted"].reindex(wanted.index)
    assert len(wanted) and (before.isna() | ((before - wanted).abs() < 40.0)).all()


def test_a_stop_that_the_last_bar_has_reached_closes_the_position(tmp_path: Path) -> None:
    bars = EVERY.head(N_STUDY)
    path = exported(tmp_path, "stops", bars, risk={"stop_loss": 0.1})
    close = float(bars.close[-1, 0])
    for entry, target in ((close * 2.0, 0.0), (close, None)):
        state = tmp_path / "account.json"
        held = {"AAA": {"quantity": 50.0, "entry": entry}}
        state.write_text(json.dumps({"cash": 1e5, "positions": held}))
        row = next_orders(path, state=state).table.iloc[0]
        assert (row["target"] == 0.0) == (target == 0.0), row


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("symbol,units\nAAA,1", "no column quantity"),
        ("symbol,quantity\nXXX,1", '"XXX": not a symbol of the study, which has AAA, BBB, CCC'),
        ("symbol,quantity\nAAA,1.5", "AAA: 1.5 units are no whole number of lots of 1"),
        ("symbol,quantity\nAAA,-2", "AAA: -2 units are short"),
        ("symbol,quantity\nAAA,many", 'line 2: quantity = "many"; expected a number'),
        ("symbol,quantity\nAAA,nan", "line 2: quantity"),
        ("symbol,quantity\nAAA,1\nAAA,2", 'line 3: symbol "AAA" a second time'),
        ("symbol,quantity,entry\nAAA,1,-5", "entry = -5.0; expected a price above 0"),
        ('{"cash": 1}', "positions: missing"),
        ('{"cash": "x", "positions": {}}', "cash: got"),
        ("{", "cannot be read as JSON"),
    ],
)
def test_an_account_that_cannot_be_used(
    best: Path, tmp_path: Path, content: str, words: str
) -> None:
    is_json = content.startswith("{")
    path = tmp_path / ("a.json" if is_json else "a.csv")
    path.write_text(content)
    given: dict[str, Any] = {"state": path} if is_json else {"positions": path, "cash": 100.0}
    with pytest.raises(DataError) as error:
        next_orders(best, **given)
    assert words in str(error.value) and str(path) in str(error.value)


# --- Bars that go on, and bars that were revised --------------------------------------------------


def revised(bars: Bars, symbol: int, stop: int, factor: float) -> Bars:
    """The same bars, of which the first ones of one symbol were adjusted."""
    scale = np.ones((bars.n_bars, bars.n_symbols))
    scale[:stop, symbol] = factor
    prices = {name: getattr(bars, name) * scale for name in ("open", "high", "low", "close")}
    return replace(bars, **prices)


def test_revised_history_is_named_and_gone_on_with_if_told(best: Path, tmp_path: Path) -> None:
    now = revised(EVERY.head(N_STUDY + 5), 1, 100, 0.98)
    moved = write_bars(tmp_path / "now.parquet", now)
    with pytest.raises(DataError) as error:
        next_orders(best, data=moved)
    text = str(error.value)
    first, last = (str(EVERY.timestamps[n])[:10] for n in (0, 99))
    assert f"BBB: 100 bars from {first} to {last}, by at most 0.02 of the value" in text
    assert "recorded" in text and "AAA" not in text and "--accept-revisions" in text
    found = next_orders(best, data=moved, accept_revisions=True)
    assert found.history.revised and found.history.n_new == 5
    revisions = found.history.revisions
    assert len(revisions) == 400 and set(revisions["symbol"]) == {"BBB"}
    ratio = revisions["now"] / revisions["recorded"]
    np.testing.assert_allclose(ratio, 0.98)


def test_a_bar_that_is_gone_or_new_in_the_middle_is_a_revision(best: Path) -> None:
    keep = np.arange(N_STUDY + 5) != 40
    whole = EVERY.head(N_STUDY + 5)
    values = {n: getattr(whole, n)[keep] for n in ("open", "high", "low", "close", "volume")}
    without = replace(whole, timestamps=whole.timestamps[keep], **values)
    with pytest.raises(DataError, match=r"AAA: 1 bar from .*, 1 bar missing"):
        next_orders(best, data=without)
    found = next_orders(best, data=without, accept_revisions=True)
    assert (found.history.n_recorded, found.history.n_new) == (N_STUDY - 1, 5)
    assert set(found.history.revisions["field"]) == {"bar"}


def test_the_bars_of_a_study_are_kept_next_to_its_export(best: Path, tmp_path: Path) -> None:
    """The file is overwritten with revised bars, as programs that download them do."""
    home = tmp_path / "home"
    shutil.copytree(best.parent.parent, home)
    now = revised(EVERY.head(N_STUDY + 5), 0, 10, 0.5)
    write_bars(home / "now.parquet", now)
    done = barsweep("export", "out", "--bars", folder=home)
    assert done.returncode == 0 and "bars: out/best.bars.parquet" in done.stdout
    again = barsweep("export", "out", "--bars", folder=home)
    assert again.returncode == 0, again.stderr
    shutil.copy(best, home / "out" / "best.json")  # which names the bars of this folder
    for kept in (True, False):
        if kept:
            (home / "now.parquet").replace(home / "bars.parquet")
        else:
            (home / "out" / "best.bars.parquet").unlink()
        done = barsweep("orders", "out/best.json", folder=home)
        assert done.returncode == 2
        assert "history was revised" in done.stderr
        words = "AAA: 10 bars from" if kept else "which `barsweep export --bars` keeps"
        assert words in done.stderr
        done = barsweep("orders", "out/best.json", "--accept-revisions", "--json", folder=home)
        assert done.returncode == 0 and json.loads(done.stdout)["revised"]


def test_a_folder_of_files_is_read_as_one(best: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bars"
    for number, (start, stop) in enumerate(((0, N_STUDY), (N_STUDY, N_STUDY + 7))):
        part = EVERY.head(stop).to_frame()
        part = part[part["timestamp"] >= pd.Timestamp(EVERY.timestamps[start], tz="UTC")]
        folder.mkdir(exist_ok=True)
        part.to_csv(folder / f"{number}.csv", index=False, float_format="%.17g")
    (folder / "notes.md").write_text("not bars")
    found = next_orders(best, data=folder)
    expected = next_orders(best, data=EVERY.head(N_STUDY + 7))
    pd.testing.assert_frame_equal(found.table, expected.table)
    (tmp_path / "orders").mkdir()
    with pytest.raises(DataError, match="no file of bars in it"):
        next_orders(best, data=tmp_path / "orders")


# --- Exports, the seal, the command ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda one: one["data"].pop("n_bars"), "data: n_bars: missing; export the study again"),
        (lambda one: one["costs"].update(fill="close"), "none are left for the next open"),
        (lambda one: one.update(session_exit=True), "session_exit = true: which bar is the last"),
        (lambda one: one["sets"].clear(), "sets: has 0, asked for number 1"),
    ],
)
def test_an_export_that_cannot_decide(
    best: Path, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    content = json.loads(best.read_text())
    change(content)
    path = best.with_name("changed.json")
    path.write_text(json.dumps(content))
    with pytest.raises(ExportError, match=words):
        next_orders(path)


def test_the_backtests_account_of_a_sealed_set_is_a_look_and_ones_own_is_none(best: Path) -> None:
    second = json.loads(best.read_text())
    second["sets"][0]["out_of_sample"] = None
    path = best.with_name("sealed.json")
    path.write_text(json.dumps(second))
    before = len(read_ledger().entries)
    next_orders(path, positions={"AAA": 5.0}, cash=1e5)
    assert len(read_ledger().entries) == before
    next_orders(path)
    next_orders(path)
    entries = read_ledger().entries
    assert len(entries) == before + 1
    look = entries[-1].what  # of one set, once
    assert isinstance(look, Look) and look.why == "verdict"


def test_the_command_prints_a_table_json_and_csv(best: Path) -> None:
    folder = best.parent.parent
    write_bars(folder / "newer.parquet", EVERY.head(N_STUDY + 30))
    given = ("orders", "out/best.json", "--data", "newer.parquet")
    shown = barsweep(*given, folder=folder)
    assert shown.returncode == 0, shown.stderr
    assert "30 bars after the study's), for the next open; regime neutral" in shown.stdout
    assert "the backtest's account: equity " in shown.stdout
    found = next_orders(best, data=EVERY.head(N_STUDY + 30))
    read = json.loads(barsweep(*given, "--json", folder=folder).stdout)
    assert read == json.loads(json.dumps(found.to_dict()))
    text = barsweep(*given, "--csv", folder=folder).stdout
    table = pd.read_csv(io.StringIO(text))
    assert table["quantity"].tolist() == found.table["quantity"].tolist()
    for options, words in (
        (("--json", "--csv"), "give one of --json and --csv"),
        (("--cash", "5"), "give --positions and --cash together"),
        (("--state", "a.json", "--cash", "5"), "give either --state, or --positions"),
        (("--data", "missing.parquet"), "missing.parquet: no such file"),
    ):
        done = barsweep("orders", "out/best.json", *options, folder=folder)
        assert (done.returncode, words in done.stderr) == (2, True), done.stderr
