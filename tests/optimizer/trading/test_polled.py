"""Bars that are asked of Alpaca and of exchanges, on servers that speak their published shape."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from optimizer.errors import BrokerError, DataError
from optimizer.trading.alpaca_server import KEY, SECRET
from optimizer.trading.broker import OutageError
from optimizer.trading.ccxt_exchange import ADDRESS as CCXT_ADDRESS
from optimizer.trading.ccxt_exchange import EXCHANGE, CcxtExchange
from optimizer.trading.feeds import StaleFeedError
from optimizer.trading.joining import joined
from optimizer.trading.polled import PolledFeed
from optimizer.trading.sources import ADDRESS, TAPE, AlpacaSource, BarSource, CcxtSource
from optimizer.types import Bars
from tests.optimizer.trading.test_session import Trader, fills_of
from tests.support.alpaca_server import KEYS, alpaca_server
from tests.support.command import barsweep
from tests.support.trading import EVERY, N_STUDY, exported

DAY = np.timedelta64(24, "h")
N_BARS = 20
BARS = EVERY.head(N_STUDY + N_BARS)
LAST = BARS.timestamps[-1]


def sent_by_alpaca(bars: Bars) -> dict[str, list[dict[str, Any]]]:
    """Daily bars as Alpaca sends them: at midnight in New York."""
    values = {n[0]: getattr(bars, n) for n in ("open", "high", "low", "close", "volume")}
    return {
        symbol: [
            {
                "t": f"{str(time)[:10]}T05:00:00Z",
                **{n: float(one[i, s]) for n, one in values.items()},
                "n": 10,
                "vw": float(bars.close[i, s]),
            }
            for i, time in enumerate(bars.timestamps)
        ]
        for s, symbol in enumerate(bars.symbols)
    }


def alpaca_source(address: str) -> AlpacaSource:
    return AlpacaSource({KEY: KEYS[0], SECRET: KEYS[1], ADDRESS: address}, timeout=2.0)


class Clock:
    """A clock that stands at the close of one bar after the other."""

    def __init__(self, bars: Bars) -> None:
        self.times = [time + np.timedelta64(36, "h") for time in bars.timestamps[N_STUDY - 1 :]]
        self.now = self.times.pop(0)


def feed_of(
    trader: Trader, source: BarSource, path: Path, now: Callable[[], np.datetime64], **given: Any
) -> PolledFeed:
    known = trader.found.history.bars
    return PolledFeed(known, trader.found.terms, source, path, poll=0.01, now=now, **given)


@pytest.fixture
def trader(best: Path, tmp_path: Path) -> Trader:
    return Trader(best, tmp_path, BARS.head(N_STUDY), {})


def take(trader: Trader, feed: PolledFeed) -> None:
    bars = feed.begin(accept_revisions=False)
    trader.found = replace(trader.found, history=replace(trader.found.history, bars=bars))


def test_bars_of_alpaca_are_traded_as_those_of_a_file(
    best: Path, trader: Trader, tmp_path: Path
) -> None:
    """A clock that goes on a bar at each look, a stop in between, and what was kept once more."""
    whole = Trader(best, tmp_path / "none", BARS, {})
    whole.folder.mkdir()
    expected, _ = whole.run()
    clock = Clock(BARS)
    with alpaca_server() as (exchange, address):
        exchange.bars = sent_by_alpaca(BARS)

        class Moving(PolledFeed):
            async def next(self, last: np.datetime64) -> Bars | None:
                if self.bars.timestamps[-1] <= last:
                    if not clock.times:
                        return None
                    clock.now = clock.times.pop(0)
                return await super().next(last)

        def moving() -> PolledFeed:
            known, terms = trader.found.history.bars.head(N_STUDY), trader.found.terms
            source, path = alpaca_source(address), tmp_path / "bars.parquet"
            return Moving(known, terms, source, path, poll=0.0, now=lambda: clock.now)

        for n_bars in (7, None):
            feed = moving()
            take(trader, feed)
            session, events = trader.run(n_bars, feed=feed)
        assert not [one for one in events if one.kind in ("late_bar", "unreadable_feed", "gap")]
        assert fills_of(session) == fills_of(expected) and fills_of(session)
        again = moving()
        assert again.bars.content_hash == BARS.content_hash
        pages = [call for call in exchange.asked if "page_token" in call]
        assert pages and all("adjustment=split&feed=iex" in call for call in pages)


def test_what_the_file_has_is_compared(trader: Trader, tmp_path: Path) -> None:
    path = tmp_path / "bars.parquet"
    with alpaca_server() as (exchange, address):
        source = alpaca_source(address)
        feed = feed_of(trader, source, path, lambda: LAST + 2 * DAY)
        with pytest.raises(DataError, match="alpaca has none of the bars from"):
            feed.begin(accept_revisions=False)
        exchange.bars = sent_by_alpaca(BARS)
        exchange.bars["BBB"][N_STUDY - 3]["c"] *= 1.01
        exchange.bars["BBB"][N_STUDY - 3]["h"] *= 1.05
        with pytest.raises(DataError, match=r"BBB: 1 bar from .* --accept-revisions") as raised:
            feed.begin(accept_revisions=False)
        assert "at most 0.05 of the value (high" in str(raised.value)
        bars = feed.begin(accept_revisions=True)
        assert bars.content_hash == BARS.content_hash


def test_a_file_that_has_grown_takes_the_place_of_what_was_kept(
    trader: Trader, tmp_path: Path
) -> None:
    """The file has five of the 13 bars that a session has kept, and then all of them and more."""
    known, path = trader.found.history.bars, tmp_path / "bars.parquet"
    with alpaca_server() as (exchange, address):
        exchange.bars = sent_by_alpaca(BARS)
        source, now = alpaca_source(address), BARS.timestamps[N_STUDY + 12] + 2 * DAY
        feed_of(trader, source, path, lambda: now).begin(accept_revisions=False)
        for n_known, n_bars in ((N_STUDY, 13), (N_STUDY + 5, 13), (N_STUDY + 15, 15)):
            longer = joined(known, BARS, known.n_bars, n_known)
            feed = PolledFeed(longer, trader.found.terms, source, path, now=lambda: now)
            assert feed.bars.content_hash == BARS.head(N_STUDY + n_bars).content_hash


def test_a_bar_waits_for_symbols_that_lack_it(trader: Trader, tmp_path: Path) -> None:
    """With align = "outer": for 30 s after its close, and for no symbol that had no bar of late."""
    terms = trader.found.terms
    terms = replace(terms, data={**terms.data, "align": "outer"})
    known, paths = trader.found.history.bars, iter(range(9))

    def bars_at(seconds: int) -> Bars:
        now = BARS.timestamps[N_STUDY] + np.timedelta64(29 * 3600 + seconds, "s")
        path = tmp_path / f"{next(paths)}.parquet"
        feed = PolledFeed(known, terms, alpaca_source(address), path, now=lambda: now)
        return feed.begin(accept_revisions=False)

    with alpaca_server() as (exchange, address):
        exchange.bars = sent_by_alpaca(BARS)
        late = exchange.bars["BBB"].pop(N_STUDY)
        assert bars_at(11).n_bars == bars_at(29).n_bars == N_STUDY
        exchange.bars["BBB"].insert(N_STUDY, late)
        assert bars_at(29).content_hash == BARS.head(N_STUDY + 1).content_hash
        exchange.bars["BBB"].remove(late)
        found = bars_at(30)
        assert found.n_bars == N_STUDY + 1 and found.present is not None
        assert found.present[-1].tolist() == [1, 0, 1]
        present = np.ones(known.close.shape, np.uint8)
        present[-20:, 1] = 0
        del exchange.bars["BBB"][N_STUDY - 20 :]
        known = replace(known, present=present)
        assert bars_at(11).n_bars == N_STUDY + 1


def test_a_slow_source_keeps_nothing_else_waiting(trader: Trader, tmp_path: Path) -> None:
    """A look that is given up goes on in its thread, and the next one waits for it."""
    said: list[int] = []
    first = BARS.timestamps[N_STUDY]
    times = [first + np.timedelta64(hours, "h") for hours in (12, 36, 72)]

    async def act() -> None:
        del times[0]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await feed.later(first - DAY)
        assert feed.bars.n_bars == N_STUDY
        assert await feed.later(first - DAY)
        del times[0]
        await asyncio.sleep(0.02)
        assert not await feed.later(first)

    with alpaca_server() as (exchange, address):
        exchange.bars = sent_by_alpaca(BARS)
        source = alpaca_source(address)

        class Slow:
            name = "slow"

            def rows(self, *given: Any) -> pd.DataFrame:
                if len(times) == 1:
                    raise OutageError("gone")
                time.sleep(0.4)
                return source.rows(*given)

        feed = feed_of(trader, Slow(), tmp_path / "bars.parquet", lambda: times[0])
        feed.say = lambda kind, detail: said.append(threading.get_ident())
        feed.begin(accept_revisions=False)
        asyncio.run(act())
        assert feed.bars.content_hash == BARS.head(N_STUDY + 1).content_hash
        assert said == [threading.get_ident()]  # the journal is written by one thread


def test_late_missing_and_odd_bars(trader: Trader, tmp_path: Path) -> None:
    notes: list[tuple[str, str]] = []
    now = [BARS.timestamps[N_STUDY] + np.timedelta64(30, "h")]
    with alpaca_server() as (exchange, address):
        exchange.bars = sent_by_alpaca(BARS)
        feed = feed_of(trader, alpaca_source(address), tmp_path / "bars.parquet", lambda: now[0])
        feed.say = lambda kind, detail: notes.append((kind, detail))
        assert feed.begin(accept_revisions=False).n_bars == N_STUDY + 1
        asked = len(exchange.asked)
        assert (
            not asyncio.run(feed.later(BARS.timestamps[N_STUDY])) and len(exchange.asked) == asked
        )
        # The bar that was taken has changed; the next one of a symbol is missing, so none has it.
        exchange.bars["AAA"][N_STUDY]["v"] += 1.0
        del exchange.bars["CCC"][N_STUDY + 1]
        now[0] = BARS.timestamps[N_STUDY + 1] + np.timedelta64(30, "h")
        for _ in range(5):
            assert not asyncio.run(feed.later(BARS.timestamps[N_STUDY]))
            time.sleep(0.02)
        assert len(exchange.asked) > asked + 5
        assert [kind for kind, _ in notes] == ["late_bar"] and "stays as it was" in notes[0][1]
        # A server that is busy, and one that sends no bars, are asked again.
        now[0] = BARS.timestamps[N_STUDY + 2] + np.timedelta64(30, "h")
        odd = {"o": 102.0, "h": 103.0, "l": 101.0, "c": 100.0}
        exchange.errors += [
            (429, {"message": "too many requests."}, {}),
            (200, {"bars": [1]}, {}),
            (200, {"bars": {"AAA": [{**exchange.bars["AAA"][N_STUDY + 2], "c": None}]}}, {}),
            (200, {"bars": {"AAA": [{**exchange.bars["AAA"][N_STUDY + 2], **odd}]}}, {}),
        ]
        found = asyncio.run(feed.next(BARS.timestamps[N_STUDY]))
        assert found is not None and found.timestamps[-1] == BARS.timestamps[N_STUDY + 2]
        assert found.n_bars == N_STUDY + 2  # without the one that CCC lacks
        assert [kind for kind, _ in notes].count("unreadable_feed") == 4
        assert "AAA: bar of " in notes[-1][1] and "low is 101.0, above close, 100.0" in notes[-1][1]
        feed = feed_of(
            trader, alpaca_source(address), tmp_path / "b.parquet", lambda: now[0], stale=0.05
        )
        with pytest.raises(StaleFeedError, match="alpaca: no closed bar after"):
            asyncio.run(feed.next(LAST))


def test_what_alpaca_refuses_is_named() -> None:
    with alpaca_server() as (_, address):
        own = {KEY: KEYS[0], SECRET: KEYS[1], ADDRESS: address, TAPE: "sip"}
        with pytest.raises(BrokerError, match="does not permit querying recent SIP data"):
            AlpacaSource(own).rows(["AAA"], int(DAY / np.timedelta64(1, "ns")), LAST, LAST)
        with pytest.raises(BrokerError, match="alpaca: has no bars of"):
            AlpacaSource(own).rows(["AAA"], 1_000, LAST, LAST)
    nobody = AlpacaSource({**own, ADDRESS: "http://127.0.0.1:9"}, timeout=1.0)
    with pytest.raises(OutageError, match="/v2/stocks/bars: "):
        nobody.rows(["AAA"], 60_000_000_000, LAST, LAST)


def test_a_clock_that_is_ahead_takes_no_bar_that_still_runs(tmp_path: Path) -> None:
    """The bar of this minute has 4 s to go, and this machine's clock stands 8 s ahead."""
    pytest.importorskip("ccxt", reason="ccxt is not installed: pip install 'barsweep[crypto]'")
    from tests.support.binance_server import binance_server

    minute = np.timedelta64(60, "s")
    size = int(minute / np.timedelta64(1, "ns"))
    last = np.datetime64("2026-03-02T15:00", "ns")
    true, ahead = last + np.timedelta64(56, "s"), last + np.timedelta64(64, "s")
    times = [last - minute, last]
    with binance_server(("AAA/USDT",)) as (exchange, address):
        exchange.bars["AAAUSDT"] = [
            [int(time.astype("datetime64[ms]").astype(np.int64)), 2.0, 3.0, 1.0, 2.0, 5.0]
            for time in times
        ]
        own = {EXCHANGE: "binance", CCXT_ADDRESS: address}
        source = CcxtSource(CcxtExchange(own, keys=False))
        for now, n_bars in ((true, 1), (last + minute, 2)):
            exchange.now = int(now.astype("datetime64[ms]").astype(np.int64))
            assert len(source.rows(["AAA/USDT"], size, times[0], ahead)) == n_bars
        # One that does not tell its time, and Alpaca: by how much the clock may be wrong.
        untold = CcxtExchange(own, keys=False)
        untold.ask_here(lambda one: one.has.update(fetchTime=False))
        found = CcxtSource(untold, 10.0)
        for wait, n_bars in ((0, 1), (5, 1), (6, 2)):
            later = ahead + np.timedelta64(wait, "s")
            assert len(found.rows(["AAA/USDT"], size, times[0], later)) == n_bars
    with alpaca_server() as (server, address):
        values = {"o": 2.0, "h": 3.0, "l": 1.0, "c": 2.0, "v": 5.0}
        server.bars = {"AAA": [{"t": f"{str(time)[:19]}Z", **values} for time in times]}
        for wait, n_bars in ((0, 1), (5, 1), (6, 2)):
            later = ahead + np.timedelta64(wait, "s")
            assert len(alpaca_source(address).rows(["AAA"], size, times[0], later)) == n_bars


def test_bars_of_an_exchange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command on the real clock, with hourly bars of which the last one still runs."""
    pytest.importorskip("ccxt", reason="ccxt is not installed: pip install 'barsweep[crypto]'")
    from tests.support.binance_server import binance_server

    hour = np.timedelta64(1, "h")
    last = np.datetime64("now", "h").astype("datetime64[ns]")
    symbols = ("AAA/USDT", "BBB/USDT", "CCC/USDT")
    n_bars = N_STUDY + 5
    times = last - np.arange(n_bars)[::-1] * hour
    bars = replace(EVERY.head(n_bars), symbols=symbols, timestamps=times)
    bars = replace(
        bars,
        **{n: np.round(getattr(bars, n), 8) for n in ("open", "high", "low", "close", "volume")},
    )
    path = exported(tmp_path, "hours", bars.head(N_STUDY))
    with binance_server(symbols) as (exchange, address):
        for s, symbol in enumerate(symbols):
            fields = (bars.open, bars.high, bars.low, bars.close, bars.volume)
            exchange.bars[symbol.replace("/", "")] = [
                [
                    int(t.astype("datetime64[ms]").astype(np.int64)),
                    *(float(f[i, s]) for f in fields),
                ]
                for i, t in enumerate(times)
            ]
        monkeypatch.setenv(EXCHANGE, "binance")
        monkeypatch.setenv(CCXT_ADDRESS, address)
        given = ("trade", path, "--broker", "paper", "--live", "--feed", "ccxt", "--poll", "0.01")
        done = barsweep(*given, "--max-stale", "0.2", "--out", tmp_path / "t", folder=tmp_path)
        assert done.returncode == 1, done.stderr
        assert "binance: no closed bar after" in done.stderr
        # The last hour still runs: the newest closed one is the one before.
        assert re.search(rf"{str(times[-2])[:13].replace('T', '.')}", done.stdout), done.stdout
        source = CcxtSource(CcxtExchange(keys=False))
        with pytest.raises(BrokerError, match=r"binance: has no bars of .*; valid: 1s, 1m"):
            source.rows(symbols, 7 * 60_000_000_000, times[0], last)
    done = barsweep(*given, "--replay", "--out", tmp_path / "t", folder=tmp_path)
    assert done.returncode == 2 and "--feed ccxt is for bars to come" in done.stderr
