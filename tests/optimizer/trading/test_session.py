"""A paper account trades as its backtest, whatever happens to broker, bars or process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optimizer.errors import BrokerError, DataError, StudyError
from optimizer.flow.prepared import PreparedFlow
from optimizer.review.exported import naming_export
from optimizer.store.export import export_sets
from optimizer.store.ledger import read_ledger
from optimizer.trading.broker import DryRun, OutageError, Report, TradingBroker
from optimizer.trading.feeds import Feed, GrowingFeed, ReplayedFeed, StaleFeedError
from optimizer.trading.journal import Event, Journal
from optimizer.trading.limits import KINDS, LimitError, Limits
from optimizer.trading.paper import PaperBroker
from optimizer.trading.plan import open_to_trade
from optimizer.trading.run import Settings, session_of
from optimizer.trading.session import Session
from optimizer.trading.sessions import Sessions
from optimizer.types import Bars, Order
from tests.support.command import barsweep
from tests.support.postgres import PostgresServer
from tests.support.studies import write_bars
from tests.support.trading import EVERY, N_STUDY, bars_taken, trade, traded_and_killed

N_BARS = 40
"""Bars that most sessions here trade, after those of the study."""

FAST = Limits(timeout=0.2, outage=5.0, retry=0.01)


class Odd(PaperBroker):
    """A paper broker to which things happen, by the number of the order that is placed."""

    def __init__(self, what: dict[int, str], *parts: Any) -> None:
        super().__init__(*parts)
        self.what = what
        self.n_placed = 0
        self.calls: list[str] = []
        self.halved: set[str] = set()
        self.time: np.datetime64 | None = None

    async def place(self, order: Order) -> Report:
        self.calls.append(order.id)
        self.n_placed += 1
        what = self.what.get(self.n_placed)
        if what == "unreachable":
            raise OutageError("connection refused")
        if what == "busy":
            raise OutageError("too many requests", wait=0.05)
        if what == "refuses":
            return Report(order.id, "rejected", "x-1", reason="insufficient funds")
        if what == "halves":
            self.halved.add(order.id)
            half = float(np.fix(order.lots / 2.0))
            order = replace(order, lots=half, quantity=half)
        found = await super().place(order)
        if what == "forgets to answer":
            await asyncio.sleep(10.0)
        if what == "answers too late and is gone":
            raise OutageError("connection reset by peer")
        return found

    async def report(self, id: str, symbol: str) -> Report | None:
        found = await super().report(id, symbol)
        if found is not None and id in self.halved and found.status == "filled":
            return replace(found, status="cancelled", reason="expired")
        return found

    async def clock(self) -> np.datetime64 | None:
        return self.time


class Trader:
    """A set, its folder and a broker that may be odd."""

    def __init__(self, best: Path, folder: Path, bars: Bars, what: dict[int, str]) -> None:
        with naming_export(best):
            self.found = open_to_trade(best, data=bars)
        self.folder, self.what = folder, what
        self.lines: list[str] = []
        self.broker: Odd | None = None
        self.before: Callable[[Odd], None] = lambda broker: None

    def make(self, plan: PreparedFlow) -> TradingBroker:
        rules, bars = plan.rules, plan.bars
        parts = (plan.specs[0], rules, bars.symbols, bars.bars_per_year, rules.initial_cash)
        self.broker = Odd(self.what, self.folder / "paper.db", *parts)
        self.before(self.broker)
        return self.broker

    def run(
        self, n_bars: int | None = None, feed: Feed | None = None, **given: Any
    ) -> tuple[Session, list[Event]]:
        bars = self.found.history.bars
        journal = Journal(self.folder / "trade.db")
        given = {"limits": FAST, "broker_of": self.make, **given}
        broker_of = given.pop("broker_of")
        feed = feed or ReplayedFeed(bars)
        session = Session(
            self.found,
            lambda: bars.head(N_STUDY),
            broker_of,
            feed,
            journal,
            folder=self.folder,
            say=self.lines.append,
            **given,
        )
        try:
            asyncio.run(Sessions([session], feed, given["limits"]).run(n_bars))
        finally:
            self.events = journal.events()
            journal.close()
        return session, self.events

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]


BARS = EVERY.head(N_STUDY + N_BARS)


@pytest.fixture
def trader(best: Path, tmp_path: Path) -> Trader:
    return Trader(best, tmp_path, BARS, {})


@pytest.fixture(scope="module")
def whole(best: Path, tmp_path_factory: pytest.TempPathFactory) -> Session:
    """The session to which nothing happens."""
    return Trader(best, tmp_path_factory.mktemp("whole"), BARS, {}).run()[0]


def fills_of(session: Session) -> list[tuple[int, int, float]]:
    return sorted((one.bar, one.symbol, one.lots) for one in session.flow.view().transactions)


def account_of(folder: Path) -> tuple[Any, ...]:
    with contextlib.closing(sqlite3.connect(folder / "paper.db")) as connection:
        return (
            connection.execute("SELECT cash, last_bar FROM account").fetchall(),
            connection.execute("SELECT * FROM positions ORDER BY symbol").fetchall(),
            connection.execute("SELECT * FROM orders ORDER BY id").fetchall(),
        )


def test_a_paper_account_trades_as_a_backtest_that_begins_there(
    best: Path, whole: Session, tmp_path: Path
) -> None:
    with naming_export(best):
        found = open_to_trade(best, data=BARS)
    simulated = found.prepared(found.history.bars, N_STUDY).run()
    (view,) = simulated.views
    assert fills_of(whole) == sorted((one.bar, one.symbol, one.lots) for one in view.transactions)
    assert len(view.transactions) > 15
    mine = whole.flow.result().equity
    np.testing.assert_allclose(mine, simulated.equity, rtol=1e-12)
    assert whole.n_bars == N_BARS


def test_what_was_taken_is_taken_again_after_each_stop(
    trader: Trader, whole: Session, tmp_path: Path
) -> None:
    for n_bars in (1, 7, 1, 12, None):
        session, _ = trader.run(n_bars)
    assert fills_of(session) == fills_of(whole)
    assert session.flow.view().cash == whole.flow.view().cash
    assert trader.kinds().count("went_on") == 4 and trader.kinds()[0] == "started"
    assert set(trader.kinds()) <= set(KINDS)
    cash = account_of(trader.folder)[0][0][0]
    assert cash == pytest.approx(session.flow.view().cash, rel=1e-12)


# --- What happens at a broker -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "kind"),
    [
        ("unreachable", "outage"),
        ("busy", "outage"),
        ("forgets to answer", "timeout"),
        ("answers too late and is gone", "outage"),
    ],
)
def test_an_order_whose_answer_is_lost_is_not_placed_twice(
    trader: Trader, whole: Session, what: str, kind: str
) -> None:
    trader.what = {1: what, 4: what, 5: what, 9: what}
    session, _ = trader.run()
    assert fills_of(session) == fills_of(whole)
    assert trader.kinds().count(kind) >= 3 and "outage_over" in trader.kinds()
    assert trader.broker is not None
    if what != "unreachable" and what != "busy":
        # It had arrived, so the session has asked for it and not placed it again.
        assert len(trader.broker.calls) == len(set(trader.broker.calls))


def test_a_refused_order_is_wanted_again_at_the_next_close(trader: Trader, whole: Session) -> None:
    trader.what = {3: "refuses"}
    session, events = trader.run()
    (refused,) = [event for event in events if event.kind == "refused"]
    assert "insufficient funds" in refused.detail and refused.order_id is not None
    assert refused.order_id not in {one.order_id for one in session.flow.view().transactions}
    later = [event for event in events if event.kind == "sent" and event.bar == refused.bar + 1]
    assert refused.symbol in {event.symbol for event in later}
    assert session.flow.result().rejects["not_filled"] >= 1


def test_a_part_that_fills_counts_and_the_rest_is_decided_anew(trader: Trader) -> None:
    trader.what = dict.fromkeys(range(1, 200, 2), "halves")
    session, events = trader.run()
    parts = [event for event in events if event.kind == "partly_filled"]
    assert len(parts) > 10
    filled: dict[str, float] = {}
    for one in session.flow.view().transactions:
        filled[str(one.order_id)] = filled.get(str(one.order_id), 0.0) + one.lots
    with sqlite3.connect(trader.folder / "paper.db") as connection:
        rows = connection.execute("SELECT id, quantity FROM orders WHERE quantity != 0").fetchall()
    assert filled == dict(rows)
    assert trader.kinds().count("account_differs") == 0


def test_an_outage_that_lasts_stops_the_session_which_goes_on_later(
    trader: Trader, whole: Session
) -> None:
    trader.what = dict.fromkeys(range(5, 500), "unreachable")
    with pytest.raises(BrokerError, match=r"connection refused, for more than --outage 0\.1 s"):
        trader.run(limits=replace(FAST, outage=0.1))
    trader.what = {}
    session, _ = trader.run()
    assert fills_of(session) == fills_of(whole)


def test_clocks_that_differ_keep_orders_back(trader: Trader) -> None:
    def fast(broker: Odd) -> None:
        broker.time = np.datetime64(time.time_ns(), "ns") + np.timedelta64(1, "h")

    trader.before = fast
    session, events = trader.run(10)
    assert session.n_sent == 0 and not session.flow.view().transactions
    missed = [event for event in events if event.kind == "missed"]
    assert missed and "clock of paper and of this machine differ by 3,60" in missed[0].detail
    assert "clock_skew" in trader.kinds()


def test_the_broker_is_right_about_what_it_holds(trader: Trader) -> None:
    trader.run(10)
    with sqlite3.connect(trader.folder / "paper.db") as connection:
        connection.execute("DELETE FROM positions")
        connection.execute("INSERT INTO positions VALUES ('CCC', 7.0)")
        connection.execute("UPDATE account SET cash = 50000.0")
    session, events = trader.run(1)
    (event,) = [event for event in events if event.kind == "account_differs"]
    assert "CCC 7, expected 0" in event.detail and "cash " in event.detail
    again, _ = trader.run(1)
    assert [e.kind for e in trader.events].count("account_differs") == 1
    equity = again.flow.account.equity
    assert equity[-2] == session.flow.account.equity[-1] < 60_000.0


def test_open_orders_of_others_are_named_and_left_alone(trader: Trader) -> None:
    time_ = BARS.timestamps[0]
    order = Order("mine", "p", 0, time_, 1, "BBB", 3.0, 3.0, 0.0, 1.0, 3.0, "", "")
    asyncio.run(trader.make(trader.found.prepared()).place(order))
    _, events = trader.run(1)
    (event,) = [event for event in events if event.kind == "foreign_order"]
    assert (event.symbol, event.order_id) == ("BBB", "mine")
    assert not [event for event in events if event.detail.startswith("cancel")]


def test_a_dry_run_sends_nothing(trader: Trader) -> None:
    session, events = trader.run(10, broker_of=lambda plan: DryRun(trader.make(plan)))
    assert not session.flow.view().transactions
    assert session.flow.view().equity == 100_000.0
    sent = [event.detail for event in events if event.kind == "sent"]
    assert sent and all("not sent: dry run" in detail for detail in sent)
    assert trader.broker is not None and not trader.broker.calls


# --- What happens to bars ---------------------------------------------------------------------------


def test_a_halted_symbol_has_no_fill_and_is_ordered_again(best: Path, tmp_path: Path) -> None:
    """Its volume is 0 for three bars: orders lapse there, as in a backtest."""
    volume = BARS.volume.copy()
    volume[N_STUDY + 5 : N_STUDY + 8] = 0.0
    trader = Trader(best, tmp_path, replace(BARS, volume=volume), {})
    session, events = trader.run()
    halted = [event for event in events if event.kind == "not_filled"]
    assert halted and all("not_traded" in event.detail for event in halted)
    simulated = trader.found.prepared(trader.found.history.bars, N_STUDY).run()
    np.testing.assert_allclose(session.flow.result().equity, simulated.equity, rtol=1e-12)


def test_a_gap_is_named_and_traded_over(best: Path, tmp_path: Path) -> None:
    keep = np.ones(BARS.n_bars, np.bool_)
    keep[N_STUDY + 3 : N_STUDY + 12] = False
    names = ("timestamps", "open", "high", "low", "close", "volume")
    bars = replace(BARS, **{name: getattr(BARS, name)[keep] for name in names})
    trader = Trader(best, tmp_path, bars, {})
    session, events = trader.run()
    (gap,) = [event for event in events if event.kind == "gap"]
    assert gap.bar == N_STUDY + 3 and "no bar for " in gap.detail
    assert session.n_bars == N_BARS - 9


class Written(GrowingFeed):
    """A file to which the next version is written before each look; bytes are half a file."""

    def __init__(self, trader: Trader, path: Path, versions: Sequence[Bars | bytes]) -> None:
        super().__init__(trader.found.terms, path, poll=0.01, closed=True)
        self.file, self.versions = path, list(versions)

    async def next(self, last: np.datetime64) -> Bars | None:
        while self.versions:
            one = self.versions.pop(0)
            if isinstance(one, bytes):
                self.file.write_bytes(one)
            else:
                write_bars(self.file, one)
            number = len(self.versions) + 1
            os.utime(self.file, ns=(number, number))  # whatever the clock of the file system
            if await self.later(last):
                return await super().next(last)
        return None


def growing(trader: Trader, path: Path, **given: Any) -> GrowingFeed:
    return GrowingFeed(trader.found.terms, path, poll=0.01, **given)


def test_a_file_that_grows_is_read_when_it_is_whole(
    trader: Trader, whole: Session, tmp_path: Path
) -> None:
    """Half a file once, and once two bars at a time, of which the older one comes too late."""
    versions: list[Bars | bytes] = [BARS.head(N_STUDY + n) for n in range(1, N_BARS + 1)]
    late = next(one.bar - 1 for one in whole.flow.view().transactions if one.bar > N_STUDY + 5)
    del versions[late - N_STUDY]
    versions.insert(3, b"PAR1 half a file")
    feed = Written(trader, tmp_path / "grows.parquet", versions)
    notes: list[str] = []
    feed.say = lambda kind, detail: notes.append(kind)
    session, events = trader.run(feed=feed)
    assert notes == ["unreadable_feed"]
    assert session.n_bars == N_BARS
    missed = [event for event in events if event.kind == "missed"]
    assert missed and {event.bar for event in missed} == {late}
    assert "a newer bar has closed" in missed[0].detail


def test_a_replay_keeps_to_its_speed_whatever_a_bar_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bar a second, of which the session takes three quarters, and once three seconds."""
    now, waits = [100.0], []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        now[0] += seconds

    monkeypatch.setattr("optimizer.trading.feeds.time.monotonic", lambda: now[0])
    monkeypatch.setattr("optimizer.trading.feeds.asyncio.sleep", sleep)
    times = BARS.timestamps[0] + np.arange(BARS.n_bars) * np.timedelta64(1, "D")
    feed = ReplayedFeed(replace(BARS, timestamps=times), speed=86_400.0)
    for i in range(8):
        asyncio.run(feed.next(times[i]))
        now[0] += 3.0 if i == 2 else 0.75
    assert waits == [1.0, 0.25, 0.25, 0.0, 0.0, 0.0, 0.0, 0.0]


def test_a_bar_that_still_runs_waits(trader: Trader, tmp_path: Path) -> None:
    path = write_bars(tmp_path / "now.parquet", BARS)
    last = BARS.timestamps[-1]
    for hours, n_bars in ((12, N_STUDY + N_BARS - 1), (25, N_STUDY + N_BARS)):
        now = last + np.timedelta64(hours, "h")
        feed = growing(trader, path, now=lambda now=now: now)
        found = asyncio.run(feed.next(BARS.timestamps[N_STUDY]))
        assert found is not None and found.n_bars == n_bars
    # None is there yet: it says once for what it waits.
    said: list[str] = []
    feed = growing(trader, path, closed=True, stale=0.05, waiting=said.append)
    with pytest.raises(StaleFeedError, match="no closed bar after"):
        asyncio.run(feed.next(last))
    assert len(said) == 1 and f"another program adds it to {path}; --replay takes" in said[0]
    # The clock of the machine, or the zone of the bars, is wrong: bars of tomorrow wait.
    notes: list[str] = []
    feed = growing(
        trader, path, now=lambda: last - np.timedelta64(30, "h"), closed=True,
        say=lambda kind, detail: notes.append(kind),
    )  # fmt: skip
    found = asyncio.run(feed.next(BARS.timestamps[N_STUDY]))
    assert found is not None and found.n_bars < N_STUDY + N_BARS
    assert notes == ["clock_skew"]


def test_a_bar_that_comes_too_late_or_again_changes_nothing(trader: Trader, whole: Session) -> None:
    """A replay whose second half has other values in bars that were taken."""
    bars = trader.found.history.bars
    scaled = np.ones((bars.n_bars, bars.n_symbols))
    scaled[N_STUDY + 4] = 1.03
    prices = {name: getattr(bars, name) * scaled for name in ("open", "high", "low", "close")}
    other = replace(bars, **prices)

    class Changing(ReplayedFeed):
        async def next(self, last: np.datetime64) -> Bars | None:
            if last >= bars.timestamps[N_STUDY + 10]:
                self._bars = other
            return await super().next(last)

    session, _ = trader.run(feed=Changing(bars))
    assert "late_bar" in trader.kinds()
    assert fills_of(session) == fills_of(whole)
    again, _ = trader.run()
    assert fills_of(again) == fills_of(whole)


def test_bars_before_a_session_that_were_revised(trader: Trader) -> None:
    trader.run(10)
    bars = trader.found.history.bars
    prices = {name: getattr(bars, name) * 0.5 for name in ("open", "high", "low", "close")}
    trader.found = replace(
        trader.found, history=replace(trader.found.history, bars=replace(bars, **prices))
    )
    with pytest.raises(DataError, match="bars before this session, which began after"):
        trader.run(1)
    session, _ = trader.run(2, accept_revisions=True)
    assert trader.kinds().count("started") == 2
    assert sum(map(abs, session.flow.lots)) > 0.0


# --- Limits -------------------------------------------------------------------------------------------


def test_a_loss_stops_the_session(best: Path, tmp_path: Path) -> None:
    scale = np.ones((BARS.n_bars, 1))
    scale[N_STUDY + 15 :] = 0.6
    prices = {name: getattr(BARS, name) * scale for name in ("open", "high", "low", "close")}
    trader = Trader(best, tmp_path, replace(BARS, **prices), {})
    limits = replace(FAST, max_loss=0.05)
    with pytest.raises(LimitError, match=r"--max-loss 0.05 of 100,000.00 stops the session"):
        trader.run(limits=limits)
    n_sent = trader.kinds().count("sent")
    with pytest.raises(LimitError):  # again, for the loss is still there
        trader.run(limits=limits)
    assert trader.kinds().count("sent") == n_sent
    assert trader.kinds()[-1] == "limit"


def test_a_loss_that_was_made_up_for_stops_nothing(best: Path, tmp_path: Path) -> None:
    """Limits are of the bars that come, not of those that were taken before."""
    scale = np.ones((BARS.n_bars, 1))
    scale[N_STUDY + 15 : N_STUDY + 18] = 0.6
    prices = {name: getattr(BARS, name) * scale for name in ("open", "high", "low", "close")}
    trader = Trader(best, tmp_path, replace(BARS, **prices), {})
    with pytest.raises(LimitError):
        trader.run(limits=replace(FAST, max_loss=0.05))
    session, _ = trader.run(limits=replace(FAST, max_loss=0.9))
    least = 0.99 * session.flow.view().equity / 100_000.0
    session, _ = trader.run(limits=replace(FAST, max_loss=max(1.0 - least, 0.05)))
    assert session.n_bars == 0 and trader.kinds()[-1] == "went_on"


def test_too_many_orders_on_a_day_stop_the_session(trader: Trader) -> None:
    with pytest.raises(LimitError, match="would be more than --max-orders-a-day 0: the session"):
        trader.run(limits=replace(FAST, max_orders_a_day=0))
    assert "sent" not in trader.kinds()
    assert {event.bar for event in trader.events if event.kind == "missed"} == {N_STUDY}
    session, _ = trader.run(limits=replace(FAST, max_orders_a_day=9))
    assert session.n_sent > 10


def test_a_feed_without_new_bars_is_stale(trader: Trader, tmp_path: Path) -> None:
    path = write_bars(tmp_path / "still.parquet", BARS.head(N_STUDY + 2))
    feed = growing(trader, path, closed=True, stale=0.05)
    with pytest.raises(StaleFeedError, match=r"no closed bar after .* more than --max-stale"):
        trader.run(feed=feed)
    assert trader.kinds().count("sent") >= 0


# --- Kills -------------------------------------------------------------------------------------------


def test_sigkill_at_random_moments_loses_and_doubles_no_order(best: Path, tmp_path: Path) -> None:
    """Real processes, each killed at some moment of some bar, of which the next one goes on.

    Some seconds, since each process computes again what those before had decided. ``make soak`` kills
    50 times.
    """
    n_kills = 50 if "BARSWEEP_EXPLORE" in os.environ else 4
    n_bars = 20 + n_kills
    bars = write_bars(tmp_path / "bars.parquet", EVERY.head(N_STUDY + n_bars))
    trade(str(best), str(bars), tmp_path / "whole", Settings(live=True, replay=True))
    traded_and_killed(best, bars, tmp_path, n_bars, n_kills)
    one, other = (account_of(tmp_path / name) for name in ("whole", "killed"))
    assert one == other and len(one[2]) > 10
    for table in ("orders", "fills", "equity"):
        rows = []
        for name in ("whole", "killed"):
            with contextlib.closing(sqlite3.connect(tmp_path / name / "analytics.db")) as database:
                query = f"SELECT * FROM {table} ORDER BY 1, 2, 3"
                rows.append(database.execute(query).fetchall())
        assert rows[0] == rows[1] and rows[0]


def test_sigkills_lose_nothing_in_postgresql(
    best: Path, tmp_path: Path, postgres_server: PostgresServer
) -> None:
    """The analytics database of a session on a real server, while three processes are killed."""
    n_bars = 15
    bars = write_bars(tmp_path / "bars.parquet", EVERY.head(N_STUDY + n_bars))
    names = {name: postgres_server.new_database() for name in ("whole", "killed")}
    settings = Settings(live=True, replay=True, database=postgres_server.url(names["whole"]))
    trade(str(best), str(bars), tmp_path / "whole", settings)
    database = postgres_server.url(names["killed"])
    traded_and_killed(best, bars, tmp_path, n_bars, 3, database=database)
    assert account_of(tmp_path / "whole") == account_of(tmp_path / "killed")
    for table in ("bars", "signals", "orders", "fills", "equity"):
        query = f"SELECT * FROM {table}"
        one, other = (
            sorted(postgres_server.execute(name, query), key=str) for name in names.values()
        )
        assert one == other and one, table
    kinds = postgres_server.execute(names["killed"], "SELECT kind FROM events")
    assert kinds.count(("went_on",)) >= 1 and kinds.count(("started",)) == 1


# --- The command -------------------------------------------------------------------------------------


def test_the_command_trades_goes_on_and_is_traced(best: Path, tmp_path: Path) -> None:
    home = best.parent.parent
    write_bars(home / "trade.parquet", EVERY.head(N_STUDY + 12))
    given = ("trade", "out/best.json", "--broker", "paper", "--data", "trade.parquet", "--replay")
    out = ("--out", tmp_path / "t")
    done = barsweep(*given, "--live", *out, "--bars", "6", folder=home)
    assert done.returncode == 0, done.stderr
    assert "6 bars, " in done.stdout and "the same command goes on" in done.stdout
    done = barsweep(*given, "--live", *out, "--cash", "5", folder=home)
    assert done.returncode == 0 and "went_on: 6 bars were taken before" in done.stdout
    assert "this session goes on; --cash is for a new one" in done.stdout
    with sqlite3.connect(tmp_path / "t" / "analytics.db") as connection:
        (fill,) = connection.execute("SELECT fill_id FROM fills LIMIT 1").fetchone()
        kinds = {row[0] for row in connection.execute("SELECT kind FROM events")}
    assert {"started", "went_on", "sent", "filled"} <= kinds
    traced = barsweep("trace", tmp_path / "t", fill, folder=home)
    assert traced.returncode == 0 and "signal id" in traced.stdout
    state = barsweep("orders", "out/best.json", "--data", "trade.parquet", "--state",
                     tmp_path / "t" / "account.json", folder=home)  # fmt: skip
    assert state.returncode == 0 and "your account" in state.stdout
    dry = barsweep(*given, "--out", tmp_path / "d", folder=home)
    assert "dry run: nothing is sent" in dry.stdout and "not sent: dry run" in dry.stdout
    assert "the same command begins anew" in dry.stdout
    limited = barsweep(
        *given, "--live", "--out", tmp_path / "l", "--max-orders-a-day", "0", folder=home
    )
    assert limited.returncode == 1 and "--max-orders-a-day 0" in limited.stderr
    for options, words in (
        (("--speed", "5"), "--from and --speed are for --replay"),
        (("--replay", "--from", "2015-01-06"), "--from 2015-01-06: the set decides from"),
        (
            ("--replay", "--from", "2099-01-06"),
            "name an earlier time, or bars that go on with --data",
        ),
        (("--broker", "nowhere"), "nowhere"),
        (("--out", "out"), "holds a study; give another --out"),
    ):
        base = ("trade", "out/best.json", "--broker", "paper", "--data", "trade.parquet")
        done = barsweep(*base, *options, folder=home)
        assert (done.returncode, words in done.stderr) == (2, True), (options, done.stderr)


def test_a_dry_run_forgets_no_session_and_no_other_file(best: Path, tmp_path: Path) -> None:
    bars = write_bars(tmp_path / "later.parquet", BARS)

    def run(folder: Path, live: bool, **given: Any) -> float:
        """Money of the account at the end."""
        settings = Settings(live=live, replay=True, **given)
        with session_of(best, settings, data=bars, out=folder) as (sessions, _):
            asyncio.run(sessions.run(5))
        with contextlib.closing(sqlite3.connect(folder / "paper.db")) as connection:
            return float(connection.execute("SELECT cash FROM account").fetchone()[0])

    def files(folder: Path) -> dict[str, bytes]:
        return {one.name: one.read_bytes() for one in sorted(folder.glob("[!t]*"))}

    live, dry, home = (tmp_path / name for name in ("live", "dry", "home"))
    run(live, True)
    before, n_taken = files(live), bars_taken(live)
    with pytest.raises(StudyError, match="holds a session that may have sent orders, which a dry"):
        run(live, False)
    assert (files(live), bars_taken(live)) == (before, n_taken) and n_taken == 5
    (live / "trade.db").unlink()  # the account is left, for a session that begins anew
    with pytest.raises(StudyError, match="holds a session that may have sent orders"):
        run(live, False)
    assert files(live) == before
    assert run(dry, False) == 100_000.0
    assert run(dry, False, cash=5_000.0) == 5_000.0
    with pytest.raises(StudyError, match="holds a dry run, of which nothing was sent"):
        run(dry, True)
    home.mkdir()
    kept = write_bars(home / "bars.parquet", BARS)
    with pytest.raises(StudyError, match=r"holds a bars\.parquet that is of no session"):
        run(home, False)
    assert kept.exists()


def test_a_replay_over_the_holdout_is_a_look_at_it(
    best: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a set whose holdout was sealed when it was exported; one a set."""
    monkeypatch.setenv("BARSWEEP_LEDGER", str(tmp_path / "ledger.db"))
    sealed = export_sets(best.parent, top=4, out=tmp_path / "sealed.json")
    bars = write_bars(tmp_path / "later.parquet", BARS)

    def looks(name: str, number: int, **given: Any) -> int:
        settings = Settings(live=True, replay=True, **given)
        out = tmp_path / name
        with session_of(sealed, settings, number=number, data=bars, out=out) as (sessions, _):
            asyncio.run(sessions.run(2))
        return len(read_ledger().looks())

    start = str(BARS.timestamps[N_STUDY - 5])
    assert looks("after", 2) == 0
    assert looks("within", 2, start=start) == 1
    assert looks("within", 2, start=start) == 1
    assert looks("again", 2, start=start) == 1
    assert looks("other", 3, start=start) == 2


def test_a_folder_of_another_set_is_refused(trader: Trader) -> None:
    trader.run(1)
    trader.found = replace(trader.found, terms=replace(trader.found.terms, data_hash="0" * 64))
    with pytest.raises(StudyError, match="holds a session of another set"):
        trader.run(1)
