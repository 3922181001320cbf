"""A trading session: one loop that takes closed bars, decides, and sees its orders through."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar, cast

import numpy as np

from optimizer.bars.times import time_text
from optimizer.errors import BrokerError, DataError, StudyError
from optimizer.flow.broker import broker_fill
from optimizer.flow.prepared import PreparedFlow
from optimizer.flow.sub_accounts import FlowSubAccount
from optimizer.flow.tracing import Trace
from optimizer.trading.account import Account, Position, write_state
from optimizer.trading.broker import OutageError, PayingBroker, Report, SeenBar, TradingBroker
from optimizer.trading.feeds import Feed, gap_before
from optimizer.trading.joining import with_taken
from optimizer.trading.journal import INTENDED, MISSED, REFUSED, SENT, Event, Journal, TakenBar
from optimizer.trading.limits import LimitError, Limits
from optimizer.trading.plan import TradingSet
from optimizer.trading.taking_over import AccountTakingFlow, Takeover
from optimizer.types import Bar, Bars, Fill, Order

_Result = TypeVar("_Result")


class _Gate:
    """The broker of the flow: gives it the fills of a bar, and keeps what it orders."""

    def __init__(self) -> None:
        self.ready: list[Fill] = []
        self.orders: list[Order] = []

    async def submit(self, orders: Sequence[Order]) -> Sequence[str]:
        self.orders += orders
        return [order.id for order in orders]

    async def fills(self) -> Sequence[Fill]:
        return self.ready


class Session:
    """One set that trades one account, driven by ``Sessions``.

    The flow is a function of the bars and of what the broker reports, and both are in the journal before
    the flow takes them. So after a kill the session computes again what it had decided, asks the broker
    which of those orders it knows, and goes on.

    Args:
        found: the set.
        known: the bars before the first one at which a new session decides, of those of ``found``; asked
            for only if there is no session yet.
        broker_of: makes the broker, of the flow of the set.
        feed: closed bars.
        journal: what the session remembers.
        trace: where the flow and the session write down what happens; None for nowhere.
        limits: what stops it.
        live: whether the broker gets the orders; remembered, for a dry run is nothing to go on with.
        folder: the place of ``account.json``, the state after each bar; None writes none.
        accept_revisions: begin again, from what the broker holds, where bars before the session are
            others now.
        say: is told each bar and event in words.
    """

    def __init__(
        self,
        found: TradingSet,
        known: Callable[[], Bars],
        broker_of: Callable[[PreparedFlow], TradingBroker],
        feed: Feed,
        journal: Journal,
        *,
        trace: Trace | None = None,
        limits: Limits | None = None,
        live: bool = True,
        folder: Path | None = None,
        accept_revisions: bool = False,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._found, self._known, self._broker_of = found, known, broker_of
        self._feed, self._journal, self._trace = feed, journal, trace
        self._limits = limits or Limits()
        self._live, self._folder, self._accept = live, folder, accept_revisions
        self._say = say
        self._portfolio_id = found.prepared(found.history.recorded).specs[0].id
        self._gate = _Gate()
        self._taken: list[TakenBar] = []
        self._start = self._done = 0
        self._plan: PreparedFlow
        self._orders: list[Order] = []
        self._first_equity = 0.0
        self._flow: AccountTakingFlow | None = None
        self._broker: TradingBroker | None = None
        self.n_bars = 0
        self.n_sent = 0

    @property
    def flow(self) -> AccountTakingFlow:
        """The flow; there is one once a bar was taken."""
        assert self._flow is not None
        return self._flow

    @property
    def n_taken(self) -> int:
        """The number of bars that ``load`` has found."""
        return len(self._taken)

    @property
    def folder(self) -> Path | None:
        """The place of what the session writes."""
        return self._folder

    @property
    def first_equity(self) -> float:
        """Money at the first bar that was taken."""
        return self._first_equity

    async def close(self) -> None:
        """Let go of the broker."""
        if self._broker is not None:
            await self._broker.close()

    # --- Begin, or go on ----------------------------------------------------------------------------

    def recall(self) -> int | None:
        """The number of bars before the session that the journal holds; None if one is to begin.

        Raises:
            StudyError: the journal is of another set.
            DataError: bars before the session were revised, and that is not accepted.
        """
        terms, found = self._journal.terms(), self._found
        for name, value in self._own_terms.items() if terms else ():
            if terms[name] != value:
                raise StudyError(
                    f"{self._folder}: holds a session of another set; give another --out"
                )
        if not terms:
            return None
        start = int(terms["start"])
        if found.history.bars.head(start).content_hash == terms["hash"]:
            return start
        if not self._accept:
            raise DataError(
                f"{found.history.bars.source}: bars before this session, which began after"
                f" {terms['time']}, are others now; give the bars of then, or begin again from what"
                " the broker holds by --accept-revisions"
            )
        return None

    @property
    def _own_terms(self) -> dict[str, str]:
        found = self._found
        return {"data_hash": found.terms.data_hash, "study_hash": found.study.content_hash}

    def before_new(self) -> Bars:
        """The bars before the first one that a session takes which begins now."""
        terms = self._journal.terms()
        if not terms:
            return self._known()
        last = [np.datetime64(one.values["time"]) for one in self._journal.bars()]
        since = last[-1] if last else np.datetime64(terms["time"])
        bars = self._found.history.bars
        return bars.head(int(np.searchsorted(bars.timestamps, since, "right")))

    def before(self, start: int) -> Bars:
        """The bars before a session.

        Args:
            start: what ``recall`` has given.
        """
        return self._found.history.bars.head(start)

    def begin(self, known: Bars) -> None:
        """Begin a session.

        Args:
            known: the bars before the first one that it takes.
        """
        self._start = known.n_bars
        after = str(known.timestamps[-1])
        self._journal.begin(
            **self._own_terms,
            live=self._live,
            start=known.n_bars,
            hash=known.content_hash,
            time=after,
        )
        self._replay_events()
        self._note("started", f"after the bar of {time_text(known.timestamps[-1])}")

    def load(self) -> None:
        """Read what the session of the journal has taken."""
        self._taken = self._journal.bars()

    def go_on(self, start: int) -> None:
        """Go on with the session that was loaded.

        Args:
            start: what ``recall`` has given.
        """
        self._start = start
        self._replay_events()
        self._note("went_on", f"{len(self._taken)} bars were taken before")

    def with_taken(self, known: Bars) -> Bars:
        """The bars before the session, and those that it has taken.

        Args:
            known: the bars before the session.
        """
        return with_taken(known, self._taken)

    def _replay_events(self) -> None:
        for event in self._journal.events():
            self._trace_event(event)

    # --- Bars ---------------------------------------------------------------------------------------

    def prepare(self, bars: Bars) -> None:
        """Get ready for bars that are new.

        Args:
            bars: all bars so far.
        """
        self._plan = plan = self._found.prepared(bars, self._start)
        if self._flow is None:
            flow = plan.opened(self._trace, AccountTakingFlow, self._gate)
            assert isinstance(flow, AccountTakingFlow)
            self._flow = flow
            self._broker = self._broker_of(plan)
            if self._trace is not None:
                plan.trace_portfolios(self._trace)
        plan.extend(self._flow)

    async def decide(self, index: int) -> bool:
        """Take a bar up to its decisions, which a schedule may still scale.

        Args:
            index: index of the bar.

        Returns:
            Whether the bar is new: neither before the session nor taken by one that was stopped.
        """
        self._done = index
        plan, bars, flow = self._plan, self._plan.bars, self.flow
        bar = bars.at(index)
        if index < self._start:
            await flow.take_bar_of_broker(bar)
            return False
        again = index - self._start < len(self._taken)
        if again:
            taken = self._taken[index - self._start]
            reports, takeover = taken.reports, taken.takeover
        else:
            if index == self._start:
                await self._look_around(bars.symbols)
            gap = gap_before(bars, index)
            if gap:
                self._note("gap", gap)
            seen = SeenBar(bar, bars.at(index - 1), flow.market_of(bar), plan.rules.rates[index])
            await self._call("bar", lambda: self._open_broker.see(seen))
            reports = tuple([await self._settled(order) for order in self._orders])
            takeover = await self._account(plan, bar, reports)
            self._journal.take(bar, reports, takeover)
        self._gate.ready = self._fills(plan, bar, reports)
        self._gate.orders = []
        flow.takeover = takeover
        await flow.take_bar_of_broker(bar)
        if index == self._start:
            self._first_equity = flow.account.container.equity
        if not again:
            self.n_bars += 1
            self._say_reports(reports)
            if flow.taken_over and index > self._start:
                self._note("account_differs", self._difference(plan))
        return not again

    def sub_account(self, index: int) -> FlowSubAccount:
        """The account at a close whose decisions were taken.

        Args:
            index: index of the bar.
        """
        return FlowSubAccount(self.flow, self._plan.rules, self._plan.bars.at(index))

    async def pay(self, id: str, money: float) -> None:
        """Pay money into the account at the broker, or out of it; once for each ID.

        Args:
            id: the ID of the payment.
            money: money, negative to pay it out.
        """
        broker = cast(PayingBroker, self._open_broker)
        await self._call(f"payment {id}", lambda: broker.pay(id, money))

    async def end(self, index: int) -> None:
        """Take what the close has decided, with what a schedule has made of it.

        Args:
            index: index of the bar.
        """
        bar = self._plan.bars.at(index)
        await self.flow.send_orders(bar)
        if index < self._start:
            return
        if self.to_send(index):
            self._say(self._state_line(bar, self._gate.orders))
            self._write_account()
        else:
            self._orders = self._known_at_broker(self._gate.orders)

    def to_send(self, index: int) -> bool:
        """Whether the orders of a bar may have to be sent: no later one was taken before.

        Args:
            index: index of the bar.
        """
        return index - self._start >= len(self._taken) - 1

    def n_orders(self, index: int) -> tuple[int, int]:
        """Count orders for the limit of a day.

        Args:
            index: index of a bar that has ended.

        Returns:
            The number of those that were sent for the closes of its day, and of its own that are new.
        """
        orders = self._gate.orders if self.to_send(index) else []
        states = self._journal.states(orders)
        n_new = sum(order.id not in states for order in orders)
        return self._journal.sent_on(self._plan.bars.at(index).time), n_new

    def _known_at_broker(self, orders: Sequence[Order]) -> list[Order]:
        states = self._journal.states(orders)
        return [order for order in orders if states.get(order.id) in (SENT, INTENDED)]

    def _fills(self, plan: PreparedFlow, bar: Bar, reports: Sequence[Report]) -> list[Fill]:
        """What the reports say has filled, reductions first."""
        by_id = {order.id: order for order in self._orders}
        held, fills = self.flow.lots, []
        for report in reports:
            if report.quantity != 0.0:
                order = by_id[report.id]
                fills.append(
                    broker_fill(
                        order,
                        f"{order.id}.fill",
                        bar.time,
                        report.quantity,
                        report.price,
                        report.commission,
                        float(plan.rules.lot_money[order.symbol]),
                    )
                )
        return sorted(fills, key=lambda fill: fill.lots * held[fill.symbol] >= 0.0)

    # --- The broker ---------------------------------------------------------------------------------

    @property
    def _open_broker(self) -> TradingBroker:
        assert self._broker is not None
        return self._broker

    async def _look_around(self, symbols: Sequence[str]) -> None:
        """Name open orders that are not of this session, and cancel what an earlier one has left."""
        events = self._journal.events()
        own = {one.order_id for one in events if one.kind == "sent" and one.order_id is not None}
        found = await self._call("open orders", lambda: self._open_broker.open_orders(symbols, own))
        for id, symbol in found.items():
            if id in own:
                await self._cancel(id, symbol)
            else:
                text = f"{symbol}: open order {id} is not of this session and is left alone"
                self._note("foreign_order", text, symbol, id)

    async def _cancel(self, id: str, symbol: str) -> None:
        await self._call(f"cancel {id}", lambda: self._open_broker.cancel(id, symbol))

    async def _settled(self, order: Order) -> Report:
        """What has become of an order of the last close; what is left of it is cancelled."""
        broker, begun = self._open_broker, time.monotonic()
        while True:
            found = await self._call(
                f"report of {order.id}", lambda: broker.report(order.id, order.name)
            )
            if found is None:
                text = f"{order.name}: {broker.name} does not know it any more"
                self._note("unknown_order", text, order.name, order.id)
                return Report(order.id, "cancelled", reason="unknown to the broker")
            if found.is_final:
                return found
            await self._cancel(order.id, order.name)
            if time.monotonic() - begun > self._limits.outage:
                raise BrokerError(
                    f"{broker.name}: order {order.id} of {order.name} stays open although it was"
                    " cancelled; see to it there, and start the session again"
                )
            await asyncio.sleep(self._limits.retry)

    async def _account(self, plan: PreparedFlow, bar: Bar, reports: Sequence[Report]) -> Takeover:
        """What the broker holds; asked again where it lags behind its own reports."""
        symbols, rules = plan.bars.symbols, plan.rules
        expected = np.array(self.flow.lots)
        for fill in self._fills(plan, bar, reports):
            expected[fill.symbol] += fill.lots
        for _ in range(3):
            account = await self._call("account", lambda: self._open_broker.account(symbols))
            lots = tuple(account.lots(plan.bars, rules, self._open_broker.name))
            if bar.index == self._start or lots == tuple(expected.tolist()):
                break
            await asyncio.sleep(self._limits.retry)
        entries = tuple(account.entries(symbols))
        return Takeover(bar.index, account.cash, lots, entries, forced=False)

    async def _call(self, what: str, act: Callable[[], Awaitable[_Result]]) -> _Result:
        """What the broker answers; asked again while it cannot be reached."""
        begun, delay, told = time.monotonic(), self._limits.retry, False
        while True:
            try:
                async with asyncio.timeout(self._limits.timeout):
                    result = await act()
            except (OutageError, TimeoutError) as error:
                late = isinstance(error, TimeoutError)
                reason = f"no answer within {self._limits.timeout:g} s" if late else str(error)
                if not told:
                    self._note("timeout" if late else "outage", f"{what}: {reason}")
                told = True
                if time.monotonic() - begun > self._limits.outage:
                    raise BrokerError(
                        f"{self._open_broker.name}: {what}: {reason}, for more than --outage"
                        f" {self._limits.outage:g} s; start the session again when it is back"
                    ) from None
                await asyncio.sleep(max(delay, getattr(error, "wait", 0.0)))
                delay = min(2.0 * delay, 30.0)
            else:
                if told:
                    self._note("outage_over", f"{what}: answered")
                return result

    # --- Orders -------------------------------------------------------------------------------------

    async def send(self, index: int, *, newest: bool, stop: LimitError | None) -> None:
        """Send the orders of a close, each at most once, unless something forbids it.

        Args:
            index: index of a bar that has ended.
            newest: whether no later bar has closed.
            stop: the limit that was reached; None if none was.
        """
        if not self.to_send(index):
            return
        try:
            await self._send(self._gate.orders, newest=newest, stop=stop)
        finally:
            self._done = index + 1
            if self._trace is not None:
                self._trace.end_bar(index)

    async def _send(
        self, orders: Sequence[Order], *, newest: bool, stop: LimitError | None
    ) -> None:
        self._orders = []
        states = self._journal.states(orders)
        due = [order for order in orders if states.get(order.id, INTENDED) == INTENDED]
        why = str(stop) if stop else "" if newest else "a newer bar has closed"
        if not why and due:
            why = await self._clock_problem()
        if not why:
            self._journal.intend(due)
        for order in orders:
            state = states.get(order.id, INTENDED)
            if state == SENT:
                self._orders.append(order)
            elif state == INTENDED:
                await self._send_one(order, why, perhaps_sent=order.id in states)
        if stop:
            self._note("limit", str(stop))

    async def _send_one(self, order: Order, why_not: str, *, perhaps_sent: bool) -> None:
        broker, asked = self._open_broker, False

        async def act() -> Report | None:
            nonlocal asked
            if perhaps_sent or asked:  # the answer to an earlier try may be lost
                known = await broker.report(order.id, order.name)
                if known is not None:
                    return known
            if why_not or await self._feed.later(order.time):
                return None
            asked = True
            return await broker.place(order)

        text = f"{order.name} {order.quantity:+,.10g}"
        if why_not and not perhaps_sent:
            found = None
        else:
            found = await self._call(f"order {order.id}", act)
        if found is None:
            self._journal.intend([order])
            self._journal.settle(order, MISSED)
            reason = why_not or "a newer bar has closed"
            self._note("missed", f"{text}: {reason}", order.name, order.id)
        elif found.status == "rejected":
            self._journal.settle(order, REFUSED, found.reference)
            self._note("refused", f"{text}: {found.reason}", order.name, order.id)
        else:
            self._journal.settle(order, SENT, found.reference)
            self._orders.append(order)
            self.n_sent += 1
            what = f"not sent: {found.reason}" if found.reason == "dry run" else found.reference
            self._note("sent", f"{text} ({what})", order.name, order.id)

    async def _clock_problem(self) -> str:
        """Why orders are not sent for the clocks' sake; empty where they agree."""
        found = await self._call("clock", self._open_broker.clock)
        if found is None:
            return ""
        skew = abs((found - np.datetime64(time.time_ns(), "ns")) / np.timedelta64(1, "s"))
        if skew <= self._limits.max_skew:
            return ""
        text = f"the clock of {self._open_broker.name} and of this machine differ by {skew:,.0f} s"
        self._note("clock_skew", text)
        return text

    # --- What is said and kept ----------------------------------------------------------------------

    def _say_reports(self, reports: Sequence[Report]) -> None:
        by_id = {order.id: order for order in self._orders}
        for report in reports:
            order = by_id[report.id]
            text = f"{order.name} {report.quantity:+,.10g} of {order.quantity:+,.10g}"
            if report.quantity:
                text += f" at {report.price:.10g}"
            if report.reason:
                text += f": {report.reason}"
            whole = report.status == "filled"
            kind = "filled" if whole else "partly_filled" if report.quantity else "not_filled"
            self._note(kind, text, order.name, order.id)

    def _difference(self, plan: PreparedFlow) -> str:
        """What the broker held in place of what was expected."""
        flow = self.flow
        cash, lots = flow.expected
        assert flow.takeover is not None
        parts = [
            f"{name} {(b * u):,.10g}, expected {(a * u):,.10g}"
            for name, a, b, u in zip(
                plan.bars.symbols, lots, flow.takeover.lots, plan.rules.lot_units, strict=True
            )
            if a != b
        ]
        if abs(cash - flow.takeover.cash) > 0.005:
            parts.append(f"cash {flow.takeover.cash:,.2f}, expected {cash:,.2f}")
        return "; ".join(parts)

    def _state_line(self, bar: Bar, orders: Sequence[Order]) -> str:
        container = self.flow.account.container
        what = ", ".join(f"{order.name} {order.quantity:+,.10g}" for order in orders) or "no order"
        return (
            f"{time_text(bar.time)}: equity {container.equity:,.2f}, exposure"
            f" {container.exposure:.2f}; {what}"
        )

    @property
    def account(self) -> Account:
        """Cash and positions after the last bar."""
        view = self.flow.view()
        held = {
            one.symbol: Position(quantity=one.quantity, entry=one.entry)
            for one in view.positions
            if one.quantity != 0.0
        }
        return Account(view.cash, held)

    def _write_account(self) -> None:
        if self._folder is not None:
            write_state(self._folder, self.account.to_dict())

    def _note(
        self, kind: str, detail: str, symbol: str | None = None, order_id: str | None = None
    ) -> None:
        event = self._journal.note(self._done, kind, detail, symbol, order_id)
        self._trace_event(event)
        self._say(f"{kind}: {detail}")

    def note(self, kind: str, detail: str) -> None:
        """Write down an event.

        Args:
            kind: one of ``KINDS``.
            detail: what happened, in words.
        """
        self._note(kind, detail)

    def _trace_event(self, event: Event) -> None:
        if self._trace is None:
            return
        owner = self._portfolio_id
        id = f"{owner}.{event.number:07d}.event"
        row = (id, owner, event.bar, event.time, event.kind, event.symbol, event.order_id)
        self._trace.add("events", [(*row, event.detail)])
