"""A session from its options: the set, its folder, the broker and the feed."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from optimizer.bars.times import time_text
from optimizer.bars.timestamps import read_bound, read_zone
from optimizer.errors import BrokerError, DataError, StudyError
from optimizer.files import exclusive_use
from optimizer.flow.folder import FlowFolder
from optimizer.flow.prepared import PreparedFlow
from optimizer.review.exported import naming_export, whole_book
from optimizer.store.combination import Combination
from optimizer.store.names import MANIFEST
from optimizer.trading.alpaca import AlpacaBroker
from optimizer.trading.broker import DryRun, TradingBroker
from optimizer.trading.ccxt_broker import CcxtBroker, refuse_spot
from optimizer.trading.ccxt_exchange import CcxtExchange
from optimizer.trading.feeds import Feed, GrowingFeed, ReplayedFeed
from optimizer.trading.journal import Journal
from optimizer.trading.limits import Limits
from optimizer.trading.moves import Moves
from optimizer.trading.paper import PaperBroker
from optimizer.trading.plan import TradingSet, open_book_to_trade, open_to_trade
from optimizer.trading.polled import PolledFeed
from optimizer.trading.session import Session
from optimizer.trading.sessions import Book, Sessions
from optimizer.trading.sources import AlpacaSource, BarSource, CcxtSource
from optimizer.types import Bars

JOURNAL, PAPER, NEWER, BOOK = "trade.db", "paper.db", "bars.parquet", "book.db"
"""Files of a session: what it remembers, the account of the paper broker, bars that it asked for; and the
money that has moved between the members of a combination."""

UNDER_WAY = 5.0
"""Seconds for which an order without an answer may still be on its way to an exchange of ccxt."""


@dataclass(frozen=True)
class Settings:
    """How a set trades.

    Attributes:
        broker: where.
        feed: where new bars come from: the file or folder of the bars, or whom they are asked of.
        live: whether orders are sent.
        replay: whether the bars that are there are taken as if they came now.
        start: time of the first bar of a replay; None takes the first after the study's.
        speed: how many times as fast a replay is; 0 for as fast as it can be.
        cash: money of a new paper account; None takes the study's.
        max_stale: seconds without a new bar after which a session stops; None for no limit.
        poll: seconds between two looks at the bars; None takes 1 for a file, and else 10.
        closed: whether all bars that are there are closed.
        database: URL of the analytics database; None takes a file in the folder.
        limits: what else stops it.
    """

    broker: Literal["paper", "alpaca", "ccxt"] = "paper"
    feed: Literal["file", "ccxt", "alpaca"] = "file"
    live: bool = False
    replay: bool = False
    start: str | None = None
    speed: float = 0.0
    cash: float | None = None
    max_stale: float | None = None
    poll: float | None = None
    closed: bool = False
    database: str | None = None
    limits: Limits = field(default_factory=Limits)


@contextlib.contextmanager
def session_of(
    path: str | Path,
    settings: Settings,
    *,
    number: int | None = None,
    data: str | Path | None = None,
    out: Path | None = None,
    accept_revisions: bool = False,
    trust: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Iterator[tuple[Sessions, Path]]:
    """A session that is ready to run, or those of a combination, and the folder. What is there goes on.

    Args:
        path: a JSON or TOML export, the file of a combination, or the folder of a study.
        settings: how the set trades, or all sets of a combination.
        number: the rank of the set in an export or a combination, from 1, or its number in a study; None
            takes the best, or the whole of a combination, whose members trade in paper accounts of their
            own, in folders ``member-1`` and so on.
        data: the bars, a file or a folder of files; None takes the file that the export names.
        out: the folder of the session; None takes ``out/<study>-trade``, or ``-dry`` if it is not live.
        accept_revisions: go on where bars that were there before are others now.
        trust: approve the strategy files that the export names, for good.
        say: is told each bar and event in words.

    Raises:
        ExportError: the export cannot be used, or a set cannot trade by the rules of the study.
        BrokerError: the broker cannot trade the set, or the environment does not name it in full.
        DataError: the bars cannot be used, or were revised.
        StudyError: the folder cannot be used, or another process trades there.
        AnalyticsError: the analytics database cannot be used.
    """
    if settings.replay and settings.feed != "file":
        raise DataError(
            f"--feed {settings.feed} is for bars to come; --replay takes those of a file"
        )
    file, bars = Path(path), None if data is None else Path(data)
    combination = whole_book(file, number)
    with naming_export(file):
        if combination is None:
            found = open_to_trade(
                file, number=number, data=bars, accept_revisions=accept_revisions, trust=trust
            )
            name, sets = found.name, [found]
        else:
            _refuse_for_book(file, combination, settings)
            book = open_book_to_trade(
                file, combination, data=bars, accept_revisions=accept_revisions, trust=trust
            )
            name, sets = combination.name, list(book.members)
        # Refuses what no broker can fill, before anything is written.
        plans = [one.prepared() for one in sets]
        for plan in plans:
            plan.opened(broker=_Nowhere())
        exchange: CcxtExchange | None = None
        if settings.broker == "ccxt":
            refuse_spot(plans[0].rules)
            timeout = settings.limits.timeout
            exchange = CcxtExchange(timeout=timeout, window=_window(timeout))
    folder = out or Path("out") / f"{name}-{'trade' if settings.live else 'dry'}"
    with contextlib.ExitStack() as stack:
        folders = _claimed(stack, folder, combination)
        _begin_anew_if_dry(folder, folders, settings)
        shared = None
        if combination is not None:
            shared = _shared(stack, combination, settings, folder)
        # The folder is that of a session before the feed may write bars there.
        journals = [
            stack.enter_context(contextlib.closing(Journal(one / JOURNAL))) for one in folders
        ]
        feed = _feed(sets[0], settings, folder, say)
        if isinstance(feed, PolledFeed):
            newer = feed.begin(accept_revisions=accept_revisions)
            sets = [replace(one, history=replace(one.history, bars=newer)) for one in sets]
        members = []
        for place, (found, plan, journal) in enumerate(zip(sets, plans, journals, strict=True)):
            options = _Options(folders[place], settings, say, accept_revisions)
            if combination is not None:
                options = options.of_member(place + 1, combination.members[place].share)
            members.append(_session(stack, found, plan, options, journal, feed, exchange))
        sessions = Sessions(members, feed, settings.limits, book=shared, say=say)
        if isinstance(feed, (GrowingFeed, PolledFeed)):
            feed.say = sessions.note
        yield sessions, folder


@dataclass(frozen=True)
class _Options:
    """What one session is made of, besides its set.

    Attributes:
        folder: its folder.
        settings: how it trades.
        say: is told each bar and event in words.
        accept_revisions: see ``session_of``.
    """

    folder: Path
    settings: Settings
    say: Callable[[str], None]
    accept_revisions: bool

    def of_member(self, number: int, share: float) -> _Options:
        """Those of a member of a combination.

        Args:
            number: its place, from 1.
            share: its share of the money.
        """

        def say(line: str) -> None:
            self.say(f"member {number}: {line}")

        cash = None if self.settings.cash is None else self.settings.cash * share
        settings = replace(self.settings, cash=cash)
        return replace(self, settings=settings, say=say)


def _session(
    stack: contextlib.ExitStack,
    found: TradingSet,
    plan: PreparedFlow,
    options: _Options,
    journal: Journal,
    feed: Feed,
    exchange: CcxtExchange | None,
) -> Session:
    folder, settings, say = options.folder, options.settings, options.say
    given = {"--from": settings.start, "--cash": settings.cash}
    idle = [name for name, value in given.items() if value is not None]
    if idle and journal.bars():
        say(f"{folder}: this session goes on; {' and '.join(idle)} is for a new one (--out)")
    tracing = FlowFolder(folder).tracing(
        plan, settings.database, overwrite=not settings.live, go_on=settings.live
    )
    return Session(
        found,
        lambda: _known(found, settings),
        lambda plan: _broker(plan, settings, exchange, folder, say),
        feed,
        journal,
        trace=stack.enter_context(tracing),
        limits=settings.limits,
        live=settings.live,
        folder=folder,
        accept_revisions=options.accept_revisions,
        say=say,
    )


def _claimed(
    stack: contextlib.ExitStack, folder: Path, combination: Combination | None
) -> list[Path]:
    """Hold the folder of a session, or those of the members of a combination, too.

    Args:
        stack: what lets go of them.
        folder: the folder.
        combination: what trades there; None for one set.

    Returns:
        The folder of each account.
    """
    if combination is not None:
        _claim(stack, folder, BOOK, other=JOURNAL, whose="one set")
        folders = [folder / f"member-{k}" for k in range(1, len(combination.members) + 1)]
    else:
        place = folder.resolve()
        if re.fullmatch(r"member-\d+", place.name) and (place.parent / BOOK).exists():
            raise StudyError(
                f"{folder}: holds a member of a session of a combination, which trades it; give another"
                " --out"
            )
        folders = [folder]
    for one in folders:
        _claim(stack, one, JOURNAL, other=BOOK, whose="a combination")
    return folders


def _claim(stack: contextlib.ExitStack, folder: Path, own: str, *, other: str, whose: str) -> None:
    """Hold a folder, in which there is nothing else than a session of the same kind.

    Args:
        stack: what lets go of it.
        folder: the folder.
        own: a file that such a session has.
        other: a file of sessions of the other kind.
        whose: what trades in those.
    """
    if (folder / MANIFEST).exists():
        raise StudyError(f"{folder}: holds a study; give another --out")
    stack.enter_context(exclusive_use(folder))
    if (folder / other).exists():
        raise StudyError(f"{folder}: holds a session of {whose}; give another --out")
    if (folder / NEWER).exists() and not (folder / own).exists():
        raise StudyError(f"{folder}: holds a {NEWER} that is of no session; give another --out")


def _begin_anew_if_dry(folder: Path, folders: Sequence[Path], settings: Settings) -> None:
    """Forget an earlier dry run, with which a dry run has nothing to go on.

    Args:
        folder: the folder of the session, which is held.
        folders: those of its accounts.
        settings: how the set trades.

    Raises:
        StudyError: a dry run is where orders were sent, or the other way round.
    """
    dry = [_holds_dry_run(one, settings) for one in folders]  # all, before the first is forgotten
    for one in {folder, *folders} if any(dry) and not settings.live else ():
        (one / NEWER).unlink(missing_ok=True)
        for name in (PAPER, BOOK, JOURNAL):  # the journal says that it was a dry run: last
            for ending in ("", "-wal", "-shm"):
                (one / f"{name}{ending}").unlink(missing_ok=True)


def _holds_dry_run(folder: Path, settings: Settings) -> bool:
    terms = {}
    if (folder / JOURNAL).exists():
        with contextlib.closing(Journal(folder / JOURNAL)) as journal:
            terms = journal.terms()
    # Sessions of earlier versions do not say whether they were dry runs.
    dry = bool(terms) and not terms.get("live", True)
    if settings.live and dry:
        raise StudyError(
            f"{folder}: holds a dry run, of which nothing was sent; give another --out"
        )
    if not settings.live and not dry and (terms or (folder / PAPER).exists()):
        raise StudyError(
            f"{folder}: holds a session that may have sent orders, which a dry run would forget; give"
            " another --out"
        )
    return dry


def _refuse_for_book(file: Path, combination: Combination, settings: Settings) -> None:
    """Refuse what is not there for a whole combination."""
    n_members = len(combination.members)
    if settings.broker != "paper":
        raise BrokerError(
            f"{file}: --broker {settings.broker}: one account there cannot hold the accounts of"
            f" {n_members} members; trade a member with --set 1 to --set {n_members}, or send what"
            " `barsweep orders` says of all members together"
        )
    if settings.database is not None:
        raise DataError(
            f"{file}: --database: each member has a database of its own in its folder; leave it out"
        )


def _shared(
    stack: contextlib.ExitStack, combination: Combination, settings: Settings, folder: Path
) -> Book:
    """What the sessions of a combination share; nothing moves in a dry run."""
    back = combination.rebalancing
    moves = stack.enter_context(contextlib.closing(Moves(folder / BOOK, combination.hash)))
    return Book(
        combination.hash,
        folder,
        back if settings.live else replace(back, schedule="never"),
        moves,
    )


class _Nowhere:
    """A broker for a flow that takes no bar."""

    async def submit(self, orders: object) -> tuple[str, ...]:
        return ()

    async def fills(self) -> tuple[()]:
        return ()


def _known(found: TradingSet, settings: Settings) -> Bars:
    """The bars before the first one at which a new session decides; a look at a holdout is noted."""
    history, bars = found.history, found.history.bars
    first = history.n_recorded
    if settings.start is not None:
        zone = read_zone("--from", found.terms.data["timezone"])
        first = int(np.searchsorted(bars.timestamps, read_bound("--from", settings.start, zone)))
    elif not settings.replay:
        first = bars.n_bars - 1  # the last one may still be open; then it is the next one
    least = found.terms.first_bar
    if settings.replay and first >= bars.n_bars:
        raise DataError(
            f"{bars.source}: ends at {time_text(bars.timestamps[-1])}, and a replay takes the bars"
            " after the study's or from --from TIME on; name an earlier time, or bars that go on with"
            " --data FILE"
        )
    if first < least:
        if not settings.replay:
            raise DataError(
                f"{bars.source}: {bars.n_bars} bars; the set decides from bar {least} on; give more"
                " bars before them"
            )
        raise DataError(
            f"{bars.source}: --from {settings.start}: the set decides from"
            f" {time_text(bars.timestamps[least])} on; name that time or a later one"
        )
    # The bars after the first show what became of the set in them.
    if first < history.n_recorded - 1:
        found.note_look()
    return bars.head(first)


def _feed(found: TradingSet, settings: Settings, folder: Path, say: Callable[[str], None]) -> Feed:
    if settings.replay:
        return ReplayedFeed(found.history.bars, settings.speed)
    if settings.feed != "file":
        timeout, max_skew = settings.limits.timeout, settings.limits.max_skew
        source: BarSource
        if settings.feed == "ccxt":
            source = CcxtSource(CcxtExchange(keys=False, timeout=timeout), max_skew)
        else:
            source = AlpacaSource(timeout=timeout, max_skew=max_skew)
        return PolledFeed(
            found.history.bars,
            found.terms,
            source,
            folder / NEWER,
            poll=10.0 if settings.poll is None else settings.poll,
            stale=settings.max_stale,
            waiting=say,
        )
    path = Path(found.history.bars.source)
    return GrowingFeed(
        found.terms,
        path,
        poll=1.0 if settings.poll is None else settings.poll,
        closed=settings.closed,
        stale=settings.max_stale,
        waiting=say,
    )


def _window(timeout: float) -> float:
    """Seconds for which an order without an answer may be under way, which are waited for in one call."""
    return min(UNDER_WAY, timeout / 2.0)


def _broker(
    plan: PreparedFlow,
    settings: Settings,
    exchange: CcxtExchange | None,
    folder: Path,
    say: Callable[[str], None],
) -> TradingBroker:
    rules, bars, timeout = plan.rules, plan.bars, settings.limits.timeout
    broker: TradingBroker
    if settings.broker == "alpaca":
        broker = AlpacaBroker(timeout=timeout)
    elif exchange is not None:
        lots = dict(zip(bars.symbols, rules.lot_units.tolist(), strict=True))
        broker = CcxtBroker(exchange, lots, window=_window(timeout), say=say)
    else:
        cash = rules.initial_cash if settings.cash is None else settings.cash
        broker = PaperBroker(
            folder / PAPER, plan.specs[0], rules, bars.symbols, bars.bars_per_year, cash
        )
    return broker if settings.live else DryRun(broker)
