"""Sessions that take the same bars in step, with money that may move between their accounts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from optimizer.bars.times import time_text
from optimizer.errors import StudyError
from optimizer.sweep.sub_accounts import Rebalancing
from optimizer.trading.account import book_state, write_state
from optimizer.trading.feeds import Feed
from optimizer.trading.joining import joined, same_bars
from optimizer.trading.limits import LimitError, Limits
from optimizer.trading.moves import Moves
from optimizer.trading.session import Session
from optimizer.types import Bar, Bars


@dataclass(frozen=True, eq=False)
class Book:
    """What sessions share that are the members of a combination.

    Attributes:
        hash: the hash of the combination.
        folder: the place of ``account.json``, the state of all accounts at each close before money moves,
            from which ``barsweep orders`` comes to the same moves.
        back: how the accounts are brought back to their shares.
        moves: the money that has moved.
    """

    hash: str
    folder: Path
    back: Rebalancing
    moves: Moves


class Sessions:
    """One session, or those of a combination, from one feed.

    Each takes a bar and decides; then money moves, where the schedule says so; then each sends its
    orders. What moves depends on the accounts at the close alone, which each session finds again after a
    kill. It is written down before it is paid, and paid once for each ID.

    Args:
        members: the sessions.
        feed: closed bars.
        limits: what stops all of them; a loss and the orders of a day count over all.
        book: what they share; None for one session.
        say: is told each bar of a combination in words.
    """

    def __init__(
        self,
        members: Sequence[Session],
        feed: Feed,
        limits: Limits | None = None,
        *,
        book: Book | None = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._members, self._feed, self._limits = members, feed, limits or Limits()
        self._book, self._say = book, say
        self._start = self._done = 0
        self._moves: dict[str, list[float]] = {}
        self._due: frozenset[int] = frozenset()
        self._opened = False
        self.n_bars = 0

    @property
    def n_sent(self) -> int:
        """Number of orders that were sent."""
        return sum(one.n_sent for one in self._members)

    async def run(self, n_bars: int | None = None) -> None:
        """Trade until the feed ends, a limit stops the sessions, or enough bars were taken.

        Args:
            n_bars: bars to take at most; None for no end.

        Raises:
            LimitError: a limit was reached.
            StaleFeedError: no bar has come for too long.
            BrokerError: the broker cannot be reached.
            StudyError: a folder holds a session of another set, or not the one of the others.
            DataError: bars before the session were revised.
        """
        try:
            bars = self._begin()
            if any(one.n_taken for one in self._members):
                await self._take(bars)
            while n_bars is None or self.n_bars < n_bars:
                newer = await self._feed.next(bars.timestamps[-1])
                if newer is None:
                    break
                bars = self._appended(bars, newer, None if n_bars is None else n_bars - self.n_bars)
                await self._take(bars)
        finally:
            for one in self._members:
                await one.close()

    def note(self, kind: str, detail: str) -> None:
        """Write down what the feed has to say.

        Args:
            kind: one of ``KINDS``.
            detail: what happened, in words.
        """
        for one in self._members:
            one.note(kind, detail)

    def _begin(self) -> Bars:
        """Begin the sessions or go on with them: the bars that they know."""
        members = self._members
        starts = [one.recall() for one in members]
        known = next((start for start in starts if start is not None), None)
        for one, start in zip(members, starts, strict=True):
            if start is not None:
                one.load()
        others = [
            (one.folder, start)
            for one, start in zip(members, starts, strict=True)
            if start != known
        ]
        begun = any(one.n_taken for one in members)
        if others and (begun or any(start is not None for _, start in others)):
            raise StudyError(
                f"{others[0][0]}: no session, or not the one of the other members, which have taken bars:"
                " put its files back, or give another --out"
            )
        if known is None:
            before = max((one.before_new() for one in members), key=lambda bars: bars.n_bars)
        else:
            before = members[0].before(known)
        self._start = before.n_bars
        for one, start in zip(members, starts, strict=True):
            if start is None:
                one.begin(before)
            else:
                one.go_on(start)
        # A kill may have come before all members had taken the last bar.
        ahead = max(members, key=lambda one: one.n_taken)
        return ahead.with_taken(before)

    def _appended(self, bars: Bars, newer: Bars, most: int | None) -> Bars:
        """The bars that were taken, as they were then, and those that came after."""
        n_known = bars.n_bars
        place = int(newer.timestamps.searchsorted(bars.timestamps[-1], "right"))
        stop = newer.n_bars if most is None else min(newer.n_bars, place + most)
        if place == n_known and same_bars(bars, newer, n_known):
            return replace(newer.head(stop), bars_per_year=bars.bars_per_year)
        self.note(
            "late_bar",
            f"bars up to {time_text(bars.timestamps[-1])} are others now, and stay as they were taken",
        )
        return joined(bars, newer, place, stop)

    async def _take(self, bars: Bars) -> None:
        """Take all bars that are new."""
        for one in self._members:
            one.prepare(bars)
        if self._book is not None:
            self._due = self._book.back.due(bars.timestamps, self._start)
            if not self._opened:
                self._moves = dict(self._book.moves.known())
                for id in self._moves:
                    await self._pay(id)
        self._opened = True
        for index in range(self._done, bars.n_bars):
            await self._step(bars, index)
            self._done = index + 1

    async def _step(self, bars: Bars, index: int) -> None:
        members, bar = self._members, bars.at(index)
        new = [await one.decide(index) for one in members]
        # Limits and what is written down are of what comes, not of bars that were taken before.
        sends = index >= self._start and any(one.to_send(index) for one in members)
        accounts = [one.account for one in members] if sends else []
        if index >= self._start:
            await self._move(bar)
        for one in members:
            await one.end(index)
        if not sends:
            return
        self.n_bars += any(new)
        newest = index == bars.n_bars - 1 and not await self._feed.later(bar.time)
        stop = self._limit_reached(bar)
        if self._book is not None:
            write_state(self._book.folder, book_state(self._book.hash, accounts))
            self._say(f"{time_text(bar.time)}: equity {self._equity:,.2f} of all members")
        for one in members:
            await one.send(index, newest=newest, stop=stop)
        if stop:
            raise stop

    # --- Money --------------------------------------------------------------------------------------

    async def _move(self, bar: Bar) -> None:
        """Do what the schedule asks at the close of a bar."""
        if self._book is None or not {bar.index, bar.index - 1} & self._due:
            return
        id = str(bar.time)
        subs = [one.sub_account(bar.index) for one in self._members]
        known = self._moves.get(id)
        moves = self._book.back.at_close(subs, bar.index, self._due, bar.close, known)
        if known is None and any(moves):
            self._book.moves.decide(id, moves)
            self._moves[id] = moves
            await self._pay(id)
            for one, money in zip(self._members, moves, strict=True):
                if money != 0.0:
                    one.note("moved", f"{money:+,.2f} at the close of {time_text(bar.time)}")

    async def _pay(self, id: str) -> None:
        for one, money in zip(self._members, self._moves[id], strict=True):
            if money != 0.0:
                await one.pay(f"{id}.move", money)

    # --- Limits -------------------------------------------------------------------------------------

    @property
    def _equity(self) -> float:
        return sum(one.flow.account.container.equity for one in self._members)

    def _limit_reached(self, bar: Bar) -> LimitError | None:
        limits, equity = self._limits, self._equity
        if limits.max_loss is not None:
            first = sum(one.first_equity for one in self._members)
            least = first * (1.0 - limits.max_loss)
            if equity < least:
                return LimitError(
                    f"equity {equity:,.2f} is below {least:,.2f}: --max-loss {limits.max_loss:g} of"
                    f" {first:,.2f} stops the session; positions stay as they are"
                )
        if limits.max_orders_a_day is not None:
            counts = [one.n_orders(bar.index) for one in self._members]
            n_new = sum(new for _, new in counts)
            n_orders = sum(sent for sent, _ in counts) + n_new
            if n_new and n_orders > limits.max_orders_a_day:
                return LimitError(
                    f"{n_orders} orders on {str(bar.time)[:10]} would be more than --max-orders-a-day"
                    f" {limits.max_orders_a_day}: the session stops; positions stay as they are"
                )
        return None
