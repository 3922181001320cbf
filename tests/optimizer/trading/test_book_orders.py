"""The orders of a whole combination: those of its replay day by day, with money that moves."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import optimizer
from optimizer.errors import DataError, ExportError
from optimizer.review.book import BookResult, book_result
from optimizer.review.exported import naming_export, whole_book
from optimizer.review.rerun import rerun_set
from optimizer.store.ledger import read_ledger
from optimizer.sweep.sub_accounts import simulate_sub_accounts
from optimizer.trading.book_orders import BookDecider, BookOrders
from optimizer.trading.plan import TradingBook, open_book_to_trade
from optimizer.types import Bars
from tests.support.command import barsweep
from tests.support.studies import write_bars
from tests.support.trading import BOOK_BARS, N_BOOK, combined, terms_on

RICH = {
    "risk": {"allow_short": True, "stop_loss": 0.03, "max_exposure": {"low": 0.8, "high": 1.5}},
    "account": {"leverage": 1.6, "cash_rate": 0.02},
    "costs": {"initial_cash": 30_000.0, "slippage_bps": 5.0},
}
"""Shorts, stops, borrowed money, and lots that weigh."""

KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "never": ("never", {}),
    "month": ("month", {}),
    "rich": ("month", RICH),
}


@pytest.fixture(scope="module", params=list(KINDS))
def book(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    schedule, tables = KINDS[request.param]
    return combined(tmp_path_factory.mktemp(request.param), schedule, **tables)


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return combined(tmp_path_factory.mktemp("month"), "month")


def opened(path: Path, bars: Bars) -> TradingBook:
    combination = whole_book(path, None)
    assert combination is not None
    with naming_export(path):
        return open_book_to_trade(path, combination, data=bars)


def replayed(found: TradingBook, bars: Bars) -> BookResult:
    """The book over all bars at once, by the kernels of the sweep."""
    bars = replace(bars, bars_per_year=found.history.bars.bars_per_year)
    reruns = []
    for own, one in zip(found.members, found.combination.members, strict=True):
        reruns.append(rerun_set(one.export["sets"][0], terms_on(own, bars), bars, sealed=False))
    back = found.combination.rebalancing
    results = [one.result for one in reruns]
    if back.schedule != "never":
        pairs = [(one.inputs, one.tile) for one in reruns]
        results = simulate_sub_accounts(pairs, back.shares, back.schedule)
    return book_result(reruns[0].inputs, results, back.schedule)


def rows_of(orders: pd.DataFrame) -> list[tuple[Any, ...]]:
    return [(row.member, row.symbol, row.quantity) for row in orders.itertuples()]


def days_of(found: TradingBook) -> list[BookOrders]:
    """What is decided at the last close of the studies and at each one after it."""
    decider, bars = BookDecider(found), found.history.bars
    return [decider.advance(bars.head(n)) for n in range(N_BOOK, bars.n_bars + 1)]


@pytest.fixture(scope="module")
def days(book: Path) -> list[BookOrders]:
    return days_of(opened(book, BOOK_BARS))


@pytest.fixture(scope="module")
def moving(month: Path) -> list[BookOrders]:
    return days_of(opened(month, BOOK_BARS))


def test_day_by_day_the_orders_are_those_of_the_replay(book: Path, days: list[BookOrders]) -> None:
    found = opened(book, BOOK_BARS)
    n_orders = 0
    for n, one in enumerate(days, N_BOOK):
        expected = replayed(found, BOOK_BARS.head(n))
        assert rows_of(one.orders) == rows_of(expected.orders_next), n
        n_orders += len(one.orders)
    assert n_orders > 60
    equity = replayed(found, BOOK_BARS).equity
    assert [one.equity for one in days] == equity.iloc[-len(days) :].tolist()
    moved = [one.moved for one in days if any(one.moved)]
    assert bool(moved) == (found.combination.rebalance != "never")
    for money in moved:
        assert abs(sum(money)) < 1e-9 * days[0].equity
    parity = optimizer.replay(book, events=True).parity
    assert parity is not None and parity.differences == () and parity.n_fills > 100
    # A start from nothing gives the orders of the day, with all that is said of them.
    stop = next(n for n, one in enumerate(days, N_BOOK) if any(one.moved) or n == N_BOOK + 20)
    fresh = optimizer.book_orders(book, data=BOOK_BARS.head(stop))
    pd.testing.assert_frame_equal(fresh.whole_table, days[stop - N_BOOK].whole_table)
    assert fresh.moved == days[stop - N_BOOK].moved


def test_an_order_of_a_schedule_says_so(moving: list[BookOrders]) -> None:
    rows = pd.concat([one.table for one in moving])
    back = rows[rows["why"].str.startswith("the account is brought back to its share")]
    assert back["why"].str.contains("in place of no order: ").any()
    assert not back["why"].str.contains("it has no signal here").any()
    assert len(back) and set(back["reason"]) <= {"placed", "at_share"}
    assert rows["why"].str.len().min() > 10
    assert (rows.loc[rows["reason"] == "placed", "quantity"] != 0.0).all()


def test_the_net_is_what_all_accounts_together_would_trade(days: list[BookOrders]) -> None:
    for one in days:
        net = one.net.set_index("symbol")
        assert list(net.index) == list(BOOK_BARS.symbols)
        by_symbol = one.table.groupby("symbol")[["held", "quantity", "value"]].sum()
        for name in by_symbol:
            np.testing.assert_allclose(net[name], by_symbol[name], rtol=1e-12)
        assert set(net.loc[net["quantity"] == 0.0, "entry"]) <= {""}


def test_entries_that_wait_at_a_price_stay_apart(tmp_path: Path) -> None:
    entry = {"entry": "limit", "entry_offset": 0.004, "entry_bars": 2}
    path = combined(tmp_path, "never", risk=entry)
    days = days_of(opened(path, BOOK_BARS.head(N_BOOK + 20)))
    net = pd.concat([one.net for one in days])
    waits = net[net["entry"] == "limit"]
    assert len(waits) and waits["level"].notna().all() and (waits["held"] == 0.0).all()
    for one in days:
        assert one.net["quantity"].sum() == pytest.approx(one.orders["quantity"].sum())


# --- Accounts of one's own -------------------------------------------------------------------------


def test_what_it_prints_is_an_account_that_it_reads(month: Path, moving: list[BookOrders]) -> None:
    """At a close at which money moves, and at one at which it does not."""
    days = moving
    places = [next(n for n, one in enumerate(days) if any(one.moved)), 5]
    home = month.parent
    for place in places:
        theirs = days[place]
        state = home / "state.json"
        state.write_text(json.dumps(theirs.to_dict(), allow_nan=False))
        bars = BOOK_BARS.head(N_BOOK + place)
        mine = optimizer.book_orders(month, data=bars, state=state)
        assert not mine.simulated and mine.equity == theirs.equity
        assert rows_of(mine.orders) == rows_of(theirs.orders)
        assert list(mine.moved) == pytest.approx(list(theirs.moved))
    assert any(days[places[0]].moved)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda c: c.update(combination="ab" * 32),
            "combination: accounts of abababab, and this one",
        ),
        (lambda c: c.pop("combination"), "combination: missing; expected what `barsweep orders"),
        (lambda c: c["members"].pop(), "expected one of each member from 1 to"),
        (lambda c: c["members"][1].update(member=1), "expected one of each member from 1 to"),
        (lambda c: c["members"][0]["account"].pop("cash"), "members #1 account cash: missing"),
        (
            lambda c: c["members"][0]["account"]["positions"].update(XXX={"quantity": 1.0}),
            'members #1: "XXX": not a symbol of the study',
        ),
        (
            lambda c: c["members"][1]["account"]["positions"].update(
                AAA={"quantity": 1.0, "entry": -1.0}
            ),
            'members #2: "AAA": entry = -1.0; expected a price above 0',
        ),
    ],
)
def test_accounts_that_cannot_be_used(month: Path, change: Any, words: str) -> None:
    content = optimizer.book_orders(month).to_dict()
    change(content)
    state = month.parent / "wrong.json"
    state.write_text(json.dumps(content))
    with pytest.raises(DataError) as error:
        optimizer.book_orders(month, state=state)
    assert words in str(error.value) and str(state) in str(error.value), error.value


# --- The seal, and the command ---------------------------------------------------------------------


def test_members_that_are_shown_are_looks(month: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BARSWEEP_LEDGER", str(month.parent / "ledger.db"))
    state = month.parent / "state.json"
    found = optimizer.book_orders(month)
    n_looks = len(read_ledger().looks())
    assert n_looks == len(found.members)
    state.write_text(json.dumps(found.to_dict()))
    optimizer.book_orders(month)
    optimizer.book_orders(month, state=state)
    assert len(read_ledger().looks()) == n_looks


def test_the_command_shows_the_whole(month: Path, moving: list[BookOrders]) -> None:
    home, days = month.parent, moving
    stop = N_BOOK + next(n for n, one in enumerate(days) if any(one.moved))
    write_bars(home / "later.parquet", BOOK_BARS.head(stop))
    given = ("orders", "month.json", "--data", "later.parquet")
    done = barsweep(*given, folder=home)
    assert done.returncode == 0, done.stderr
    n_members = len(days[0].members)
    for words in (f", {n_members} members: decided", "money that moves at this close: member",
                  "all members together:", "the backtest's accounts: equity"):  # fmt: skip
        assert words in done.stdout, done.stdout
    table = pd.read_csv(io.StringIO(barsweep(*given, "--csv", folder=home).stdout))
    assert len(table) == (n_members + 1) * 3 and (table["member"] == "net").sum() == 3
    found = json.loads(barsweep(*given, "--json", folder=home).stdout)
    assert [one["moved"] for one in found["members"]] == list(days[stop - N_BOOK].moved)
    assert len(found["net"]) == 3
    (home / "state.json").write_text(json.dumps(found))
    done = barsweep(*given, "--state", "state.json", folder=home)
    assert done.returncode == 0 and "your accounts: equity" in done.stdout
    done = barsweep(*given, "--state", "nowhere.json", folder=home)
    assert done.returncode == 2 and "nowhere.json: no such file" in done.stderr
    done = barsweep(*given, "--cash", "100", folder=home)
    assert done.returncode == 2 and "give those of all members with --state FILE" in done.stderr
    with pytest.raises(ExportError, match=r"no combination; .*next_orders gives"):
        optimizer.book_orders(home / "one")
