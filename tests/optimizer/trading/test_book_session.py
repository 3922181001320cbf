"""A whole combination trades as its replay, and a kill neither loses nor doubles money."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimizer
from optimizer.errors import BarsweepError, BrokerError, DataError, StudyError
from optimizer.flow.event_flow import FlowResult
from optimizer.flow.sub_accounts import run_sub_accounts
from optimizer.review.exported import naming_export, whole_book
from optimizer.sweep.sub_accounts import rebalancing_bars
from optimizer.trading.drift import drift
from optimizer.trading.feeds import StaleFeedError
from optimizer.trading.journal import Journal
from optimizer.trading.limits import LimitError, Limits
from optimizer.trading.moves import Moves
from optimizer.trading.paper import PaperBroker
from optimizer.trading.plan import TradingBook, open_book_to_trade
from optimizer.trading.run import Settings, session_of
from optimizer.types import Bars
from tests.support.command import barsweep
from tests.support.studies import write_bars
from tests.support.trading import (
    BOOK_BARS,
    N_BOOK,
    bars_taken,
    combined,
    trade,
    traded_and_killed,
)

N_BARS = 45
"""Bars that most sessions here trade, after those of the studies: two months begin in them."""

BARS = BOOK_BARS.head(N_BOOK + N_BARS)
REPLAYED = Settings(live=True, replay=True)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("book")
    combined(home, "month")
    write_bars(home / "later.parquet", BARS)
    return home


@pytest.fixture(scope="module")
def month(home: Path) -> Path:
    return home / "month.json"


@pytest.fixture(scope="module")
def whole(home: Path, month: Path) -> Path:
    """The folder of the sessions to which nothing happens."""
    trade(str(month), str(home / "later.parquet"), home / "whole", REPLAYED)
    return home / "whole"


def opened(path: Path, bars: Bars) -> TradingBook:
    combination = whole_book(path, None)
    assert combination is not None
    with naming_export(path):
        return open_book_to_trade(path, combination, data=bars)


def simulated(book: TradingBook, start: int) -> list[FlowResult]:
    """The book in the event flow, whose first decision is at a bar."""
    flows = [one.prepared(first_bar=start) for one in book.members]
    return run_sub_accounts(flows, book.combination.rebalancing)


def rows_of(file: Path, query: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(file)) as connection:
        return connection.execute(query).fetchall()


def state_of(folder: Path) -> list[Any]:
    """Money, positions, orders and payments of every account, and what was decided to move."""
    tables = ("account", "positions", "orders", "payments")
    found: list[Any] = [rows_of(folder / "book.db", "SELECT * FROM moves ORDER BY id")]
    for member in sorted(folder.glob("member-*")):
        found += [
            rows_of(member / "paper.db", f"SELECT * FROM {name} ORDER BY 1") for name in tables
        ]
        for name in ("orders", "fills", "equity"):
            query = f"SELECT * FROM {name} ORDER BY 1, 2, 3"
            found.append(rows_of(member / "analytics.db", query))
    return found


def equity_of(folder: Path) -> list[np.ndarray[Any, Any]]:
    return [
        np.array(rows_of(one / "analytics.db", "SELECT equity FROM equity ORDER BY bar"))[:, 0]
        for one in sorted(folder.glob("member-*"), key=lambda path: int(path.name[7:]))
    ]


def test_the_whole_trades_as_a_replay_that_begins_there(month: Path, whole: Path) -> None:
    book = opened(month, BARS)
    results = simulated(book, N_BOOK)
    mine = equity_of(whole)
    assert len(mine) == len(results) == len(book.members) > 2
    for number, (equity, result) in enumerate(zip(mine, results, strict=True), 1):
        np.testing.assert_allclose(equity, result.equity.iloc[:, 0], rtol=1e-11)
        query = "SELECT bar, symbol, quantity FROM fills ORDER BY bar, symbol"
        fills = rows_of(whole / f"member-{number}" / "analytics.db", query)
        (view,) = result.views
        names = BARS.symbols
        wanted = sorted((one.bar, names[one.symbol], one.quantity) for one in view.transactions)
        assert fills == wanted
    moves = rows_of(whole / "book.db", "SELECT money FROM moves")
    assert len(moves) >= 2
    for (text,) in moves:
        money = json.loads(text)
        assert max(money) > 1.0 and abs(sum(money)) < 1e-6


def test_from_its_state_the_same_money_moves(home: Path, month: Path, tmp_path: Path) -> None:
    """At the close at which it has moved in the session, neither more nor less."""
    folder, done = tmp_path / "t", N_BOOK
    for bar in rebalancing_bars(BARS.timestamps, N_BOOK, "month").tolist():
        n_bars = bar + 2
        with session_of(month, REPLAYED, data=home / "later.parquet", out=folder) as (sessions, _):
            asyncio.run(sessions.run(n_bars - done))
        done, state = n_bars, folder / "account.json"
        found = optimizer.book_orders(month, data=BARS.head(n_bars), state=state)
        query = "SELECT money FROM moves ORDER BY id DESC LIMIT 1"
        ((text,),) = rows_of(folder / "book.db", query)
        assert list(found.moved) == pytest.approx(json.loads(text), abs=1e-6)
        assert max(found.moved) > 1.0


def test_from_the_first_decision_on_it_is_the_replay_of_the_book(
    home: Path, tmp_path: Path
) -> None:
    """Some seconds, for every bar and order of each account is on the disk before the next."""
    path = optimizer.combine(
        [home / "one", home / "two"], top=1, max_correlation=0.99, rebalance="month",
        out=home / "pair.json",
    ).path  # fmt: skip
    replay = optimizer.replay(path)
    expected = replay.result.equity.iloc[:120]
    bars = write_bars(tmp_path / "bars.parquet", BOOK_BARS.head(N_BOOK))
    start = str(expected.index[0].tz_localize(None))
    settings = Settings(live=True, replay=True, start=start)
    with session_of(path, settings, data=bars, out=tmp_path / "t") as (sessions, _):
        asyncio.run(sessions.run(len(expected)))
    np.testing.assert_allclose(sum(equity_of(tmp_path / "t")), expected, rtol=1e-11)
    assert len(rows_of(tmp_path / "t" / "book.db", "SELECT * FROM moves")) >= 4


def test_what_was_taken_is_taken_again_after_each_stop(
    home: Path, month: Path, whole: Path, tmp_path: Path
) -> None:
    lines: list[str] = []
    for n_bars in (1, 17, 5, None):
        with session_of(
            month, REPLAYED, data=home / "later.parquet", out=tmp_path / "t", say=lines.append
        ) as (sessions, _):
            asyncio.run(sessions.run(n_bars))
    assert state_of(tmp_path / "t") == state_of(whole)
    assert any("member 2: went_on: 23 bars were taken before" in line for line in lines)
    assert any("member 1: moved: " in line for line in lines)


class Killed(BaseException):
    """What ends a session in the middle, as a kill would."""


@pytest.mark.parametrize(("what", "number"), [("decide", 1), ("pay", 1), ("pay", 2), ("take", 62)])
def test_a_kill_between_two_payments_neither_loses_nor_doubles_money(
    home: Path,
    month: Path,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    number: int,
) -> None:
    """It ends before or after a move is written down, between two payments, and between two members."""
    owner: Any = {"decide": Moves, "pay": PaperBroker, "take": Journal}[what]
    real, calls = getattr(owner, what), itertools.count(1)

    def stops(*given: Any) -> Any:
        if next(calls) == number:
            raise Killed
        return real(*given)

    def run() -> None:
        with session_of(month, REPLAYED, data=home / "later.parquet", out=tmp_path / "t") as found:
            asyncio.run(found[0].run())

    monkeypatch.setattr(owner, what, stops)
    with pytest.raises(Killed):
        run()
    monkeypatch.setattr(owner, what, real)
    run()
    assert state_of(tmp_path / "t") == state_of(whole)


def test_bars_before_the_sessions_that_were_revised(
    home: Path, month: Path, tmp_path: Path
) -> None:
    """All begin again at the same bar, also where one had not taken the last bar."""
    prices = {name: getattr(BARS, name) * 0.5 for name in ("open", "high", "low", "close")}
    halved = write_bars(tmp_path / "halved.parquet", replace(BARS, **prices))

    def run(data: Path, n_bars: int, accept: bool = False) -> None:
        with session_of(
            month, REPLAYED, data=data, out=tmp_path / "t", accept_revisions=accept
        ) as (sessions, _):
            asyncio.run(sessions.run(n_bars))

    run(home / "later.parquet", 22)
    with contextlib.closing(sqlite3.connect(tmp_path / "t" / "member-2" / "trade.db")) as one, one:
        one.execute("DELETE FROM bars WHERE bar = (SELECT max(bar) FROM bars)")
    with pytest.raises(DataError, match="history was revised"):
        run(halved, 3)
    run(halved, 3, accept=True)
    folders = sorted((tmp_path / "t").glob("member-*"))
    for member in folders:
        terms = dict(rows_of(member / "trade.db", "SELECT name, value FROM session"))
        assert terms["start"] == str(N_BOOK + 22)
        assert len(rows_of(member / "trade.db", "SELECT bar FROM bars")) == 3
    moves = [
        json.loads(text)
        for (text,) in rows_of(tmp_path / "t" / "book.db", "SELECT money FROM moves")
    ]
    for member, paid in zip(folders, np.sum(moves, axis=0), strict=True):
        found = rows_of(member / "paper.db", "SELECT sum(money) FROM payments")
        assert found[0][0] == pytest.approx(paid)


def test_bars_that_come_are_taken_by_all(home: Path, month: Path, tmp_path: Path) -> None:
    """A file that grows while nothing is replayed, with a start in between."""
    data, n_bars = tmp_path / "bars.parquet", []
    settings = Settings(live=True, closed=True, poll=0.01, max_stale=0.05)
    for stop in (N_BOOK + 20, N_BOOK + 21, N_BOOK + 23):
        write_bars(data, BOOK_BARS.head(stop))
        with (
            session_of(month, settings, data=data, out=tmp_path / "t") as (sessions, _),
            pytest.raises(StaleFeedError),
        ):
            asyncio.run(sessions.run())
        n_bars.append(sessions.n_bars)
    assert n_bars == [1, 1, 2]
    for member in (tmp_path / "t").glob("member-*"):
        kinds = [kind for (kind,) in rows_of(member / "trade.db", "SELECT kind FROM events")]
        assert kinds.count("started") == 1 and kinds.count("went_on") == 2
    (moves,) = rows_of(tmp_path / "t" / "book.db", "SELECT count(*) FROM moves")
    assert moves == (0,)


def test_sigkill_at_random_moments_loses_and_doubles_nothing(
    home: Path, month: Path, whole: Path, tmp_path: Path
) -> None:
    """Real processes, as in the test of one account. Some seconds, since each computes all again."""
    n_kills = 20 if "BARSWEEP_EXPLORE" in os.environ else 3
    traded_and_killed(month, home / "later.parquet", tmp_path, N_BARS, n_kills)
    assert state_of(tmp_path / "killed") == state_of(whole)


# --- Limits, other brokers, other sessions ------------------------------------------------------------


def test_limits_are_of_the_whole(home: Path, month: Path, tmp_path: Path) -> None:
    data = home / "later.parquet"

    def run(limits: Limits, name: str) -> None:
        settings = Settings(live=True, replay=True, limits=limits)
        with session_of(month, settings, data=data, out=tmp_path / name) as (sessions, _):
            asyncio.run(sessions.run())

    with pytest.raises(LimitError, match=r"more than --max-orders-a-day 3"):
        run(Limits(max_orders_a_day=3), "orders")
    for member in (tmp_path / "orders").glob("member-*"):
        kinds = rows_of(member / "trade.db", "SELECT kind FROM events")
        assert ("limit",) in kinds
    scale = np.ones((BARS.n_bars, 1))
    scale[N_BOOK + 15 :] = 0.6
    prices = {name: getattr(BARS, name) * scale for name in ("open", "high", "low", "close")}
    data = write_bars(tmp_path / "fall.parquet", replace(BARS, **prices))
    with pytest.raises(LimitError, match=r"--max-loss 0\.05 of 100,000\.00 stops the session"):
        run(Limits(max_loss=0.05), "loss")


def test_what_does_not_belong_together_is_refused(
    home: Path, month: Path, whole: Path, tmp_path: Path
) -> None:
    data = home / "later.parquet"

    def refused(
        error: type[BarsweepError], words: str, path: Path, out: Path, **given: Any
    ) -> None:
        number = given.pop("number", None)
        settings = Settings(**{"live": True, "replay": True, **given})
        with (
            pytest.raises(error, match=words),
            session_of(path, settings, number=number, data=data, out=out) as (sessions, _),
        ):
            asyncio.run(sessions.run(1))

    for broker in ("alpaca", "ccxt"):
        words = f"--broker {broker}: one account there cannot hold the accounts of"
        refused(BrokerError, words, month, tmp_path / "t", broker=broker)
    refused(DataError, "--database: each member has", month, tmp_path / "t", database="sqlite:///x")
    assert not (tmp_path / "t").exists()
    other = combined_again(home)
    refused(StudyError, "holds a session of another combination", other, whole)
    refused(StudyError, "holds a session of a combination; give", month, whole, number=1)
    trade_one = tmp_path / "one"
    with session_of(month, REPLAYED, number=1, data=data, out=trade_one) as (sessions, _):
        asyncio.run(sessions.run(1))
    refused(StudyError, "holds a session of one set; give", month, trade_one)
    out = tmp_path / "lost"
    with session_of(month, REPLAYED, data=data, out=out) as (sessions, _):
        asyncio.run(sessions.run(2))
    (out / "member-2" / "trade.db").unlink()
    refused(StudyError, "member-2: no session, or not the one of the other members", month, out)


def test_a_dry_run_forgets_no_session(home: Path, month: Path, tmp_path: Path) -> None:
    """Neither what moved between the members, nor the account of one whose journal is lost."""
    data = home / "later.parquet"

    def run(folder: Path, live: bool, number: int | None = None) -> None:
        settings = Settings(live=live, replay=True)
        with session_of(month, settings, number=number, data=data, out=folder) as (sessions, _):
            asyncio.run(sessions.run(30))

    folder, dry = tmp_path / "t", tmp_path / "d"
    run(folder, True)
    before = state_of(folder)
    assert before[0]
    for lost in (None, "trade.db"):
        if lost:
            (folder / "member-1" / lost).unlink()
        with pytest.raises(StudyError, match="member-1: holds a session that may have sent orders"):
            run(folder, False)
        assert state_of(folder) == before
        assert bars_taken(folder / "member-2") == 30
    with pytest.raises(StudyError, match="member-2: holds a member of a session of a combination"):
        run(folder / "member-2", True, 2)
    for _ in range(2):
        run(dry, False)
        assert state_of(dry)[0] == []
    with pytest.raises(StudyError, match="member-1: holds a dry run, of which nothing was sent"):
        run(dry, True)


def combined_again(home: Path) -> Path:
    """The same sets without a schedule."""
    folders = [home / "one", home / "two"]
    return optimizer.combine(folders, top=6, max_correlation=0.98, out=home / "still.json").path


def test_the_command_trades_the_whole(home: Path, month: Path, whole: Path, tmp_path: Path) -> None:
    given = ("trade", month, "--broker", "paper", "--data", "later.parquet", "--replay")
    done = barsweep(*given, "--live", "--bars", "30", "--out", tmp_path / "t", folder=home)
    assert done.returncode == 0, done.stderr
    for words in ("30 bars, ", "member 2: sent: ", "of all members", "member 1: moved: "):
        assert words in done.stdout, words
    bars = write_bars(tmp_path / "bars.parquet", BOOK_BARS.head(N_BOOK + 30))
    state = tmp_path / "t" / "account.json"
    done = barsweep("orders", month, "--data", bars, "--state", state, folder=home)
    assert done.returncode == 0 and "your accounts: equity" in done.stdout, done.stderr
    dry = barsweep(*given, "--bars", "30", "--out", tmp_path / "d", folder=home)
    assert dry.returncode == 0 and "not sent: dry run" in dry.stdout, dry.stderr
    assert "moved" not in dry.stdout
    rich = barsweep(*given, "--live", "--bars", "1", "--cash", "500000", "--out", tmp_path / "r",
                    folder=home)  # fmt: skip
    assert "equity 500,000.00 of all members" in rich.stdout
    found = drift(whole / "member-1", month, number=1, data=home / "later.parquet")
    assert found is not None
