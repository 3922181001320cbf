"""The orders of the next open: what a set decides at the last close, and why."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kernels.codes import ENTRIES, MARKET_ENTRY, SIZINGS, WAITING
from optimizer.analytics.tables import TABLES
from optimizer.errors import DataError
from optimizer.flow.account_flow import AccountFlow, BarParts
from optimizer.flow.event_flow import EventFlow
from optimizer.flow.prepared import PreparedFlow
from optimizer.review.exported import naming_export
from optimizer.review.refusals import WHY
from optimizer.trading.account import Account, Position, read_positions, read_state
from optimizer.trading.history import History
from optimizer.trading.plan import TradingSet, open_to_trade
from optimizer.trading.taking_over import AccountTakingFlow, Takeover
from optimizer.types import Bars, Order, Regime, Signal

REGIMES = {-1: "bear", 0: "neutral", 1: "bull"}
_DIRECTIONS = {-1.0: "short", 0.0: "flat", 1.0: "long", 2.0: "hold"}
WAITS = "waits"
"""The reason of a symbol without a signal: it has no bar, or not yet enough of its own."""
AT_SHARE = "at_share"
"""The reason of a symbol whose order is left out, as the account is brought back to its share."""
_TO_SHARE = "the account is brought back to its share"


@dataclass(frozen=True, eq=False, repr=False)
class NextOrders:
    """What a set decides at the last close, for the next open.

    Attributes:
        study: name of the study.
        number: number of the set in it.
        time: time of the bar that decides, its start, UTC.
        regime: ``bear``, ``neutral`` or ``bull``.
        account: cash and positions at that close; the positions are those before the orders.
        equity: money at that close.
        simulated: whether the account is that of the backtest, from the first decision of the study on.
        history: the bars, and what was revised in them.
        table: a row for each symbol, and a second one where an order closes a position at the market and
            enters the other side at a price. ``symbol``, ``held``, ``target`` and ``quantity`` (units,
            signed; the quantity is 0 without an order), ``entry`` (``market``, ``limit``, ``stop``, or
            empty) and ``level`` (the price at which it waits), ``close``, ``value`` (money at the close),
            ``reason`` (``placed``, or why there is no order), ``why`` (the same in words),
            ``direction``, ``strength`` and ``confidence`` of the signal, ``wanted``, ``size``,
            ``regime_factor``, ``rho``, ``correlation_factor``, ``budget_share`` (see ``Order`` and
            ``Sizing``), ``order_id``, and ``features``, a JSON object. Undefined values are None or NaN.
    """

    study: str
    number: int
    time: np.datetime64
    regime: str
    account: Account
    equity: float
    simulated: bool
    history: History
    table: pd.DataFrame

    @property
    def orders(self) -> pd.DataFrame:
        """The rows of the table that are orders, without the columns of those that are none."""
        placed = self.table[self.table["quantity"] != 0.0]
        return placed[["symbol", "quantity", "entry", "level", "order_id"]].reset_index(drop=True)

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values that JSON can hold; None where undefined."""
        rows = self.table.to_dict("records")
        return {
            "study": self.study,
            "set": self.number,
            "time": str(self.time),
            "regime": self.regime,
            "simulated": self.simulated,
            "equity": self.equity,
            "account": self.account.to_dict(),
            "new_bars": self.history.n_new,
            "revised": self.history.revised,
            "orders": [
                {str(key): plain(value) for key, value in row.items() if key != "features"}
                | {"features": json.loads(row["features"])}
                for row in rows
            ],
        }

    def __repr__(self) -> str:
        """The orders in a line."""
        return f"<NextOrders of {self.study} set {self.number} at {self.time}: {len(self.orders)}>"


def plain(value: Any) -> Any:
    """A value of a table that JSON can hold; None where it is undefined.

    Args:
        value: a text or a number.
    """
    return None if value is None or (isinstance(value, float) and np.isnan(value)) else value


def next_orders(
    path: str | Path,
    *,
    number: int | None = None,
    data: str | Path | Bars | None = None,
    positions: str | Path | Mapping[str, float] | None = None,
    cash: float | None = None,
    state: str | Path | None = None,
    accept_revisions: bool = False,
    trust: bool = False,
) -> NextOrders:
    """The orders that a set places at the next open, each with its reason, and why others are not placed.

    The set decides as in a backtest of its study over all bars that are there: from the first decision
    on, with its models refitted on the study's schedule. Without an account of yours the orders are those
    of that backtest. With one, features, regimes, what stops have barred and the portfolio's variance are
    those of the backtest, and sizes and orders those of your account.

    >>> import optimizer
    >>> found = optimizer.next_orders("out/best.json")
    >>> list(found.orders.columns)
    ['symbol', 'quantity', 'entry', 'level', 'order_id']

    Args:
        path: a JSON or TOML export, or the folder of a study.
        number: the rank of the set in an export, from 1, or its number in a study; None takes the best.
        data: bars that go on where those of the study ended: a file, a folder of files, or bars in
            memory; None takes the file that the export names.
        positions: your positions: a CSV or Parquet file with the columns ``symbol``, ``quantity`` and,
            where it is known, ``entry``; or units by symbol. Needs ``cash``.
        cash: your cash, money.
        state: a JSON file with both, such as the ``account.json`` that ``barsweep trade`` keeps.
        accept_revisions: go on where bars that the study had are others now.
        trust: approve the strategy file that the export names, for good.

    Returns:
        The orders, and why there are no others.

    Raises:
        ExportError: the file cannot be used, or orders cannot be decided by the rules of the study.
        StudyError: the folder holds no study, or the ledger cannot be used.
        DataError: the bars or the account cannot be used, or bars of the study were revised.
        UntrustedCodeError: you have neither run nor approved the strategy file.
    """
    file = Path(path)
    account, source = _own_account(positions, cash, state)
    bars = data if isinstance(data, Bars) or data is None else Path(data)
    with naming_export(file):
        found = open_to_trade(
            file, number=number, data=bars, accept_revisions=accept_revisions, trust=trust
        )
        if account is None:
            found.note_look()
        return Decider(found, account, source).advance()


def _own_account(
    positions: str | Path | Mapping[str, float] | None,
    cash: float | None,
    state: str | Path | None,
) -> tuple[Account | None, str]:
    """The user's account, and what states it."""
    if state is not None:
        if positions is not None or cash is not None:
            raise DataError("give either --state, or --positions with --cash")
        return read_state(Path(state)), str(state)
    if positions is None and cash is None:
        return None, ""
    if positions is None or cash is None:
        raise DataError("give --positions and --cash together: one without the other is no account")
    if not np.isfinite(cash):
        raise DataError(f"--cash: got {cash}; expected a number")
    if isinstance(positions, Mapping):
        held = {name: Position(quantity=float(units)) for name, units in positions.items()}
        return Account(float(cash), held), "positions"
    return read_positions(Path(positions), float(cash)), str(positions)


class Decider:
    """A set that decides at one close after the other, each bar taken once.

    Args:
        found: the set.
        account: the account for which it decides; None simulates one. It is taken over at the last bar of
            the first ``advance``.
        source: what states the account, for messages.

    Attributes:
        done: bars that were taken.
    """

    def __init__(self, found: TradingSet, account: Account | None = None, source: str = "") -> None:
        self._found = found
        self._account, self._source = account, source
        self._flow: _Deciding | None = None
        self._trace = LastBar()
        self.done = 0

    def advance(self, bars: Bars | None = None) -> NextOrders:
        """Take the bars that are new, and decide at the last one.

        Args:
            bars: all bars so far, the first ones of which are those of the last call; None takes those of
                the set.

        Returns:
            The orders of the next open.

        Raises:
            DataError: no bar is new, or the account does not fit the set.
        """
        plan = self.prepare(bars)
        for index in range(self.done, plan.bars.n_bars):
            self.take(index)
            self.end(index)
        return self.result()

    def prepare(self, bars: Bars | None = None) -> PreparedFlow:
        """Get ready for the bars that are new.

        Args:
            bars: see ``advance``.

        Returns:
            The flow of the set on all bars.

        Raises:
            DataError: no bar is new, or the account does not fit the set.
        """
        found, account = self._found, self._account
        self._history = found.history if bars is None else replace(found.history, bars=bars)
        self._plan = plan = found.prepared(self._history.bars)
        last = plan.bars.n_bars - 1
        if last < self.done:
            raise DataError(f"{plan.bars.source}: no bar after {plan.bars.timestamps[last]}")
        if self._flow is None:
            flow = plan.opened(self._trace, _Deciding)
            assert isinstance(flow, _Deciding)
            if account is not None:
                lots = tuple(account.lots(plan.bars, plan.rules, self._source))
                entries = tuple(account.entries(plan.bars.symbols))
                flow.takeover = Takeover(last, account.cash, lots, entries)
            self._flow = flow
        plan.extend(self._flow)
        self._flow.last = last
        return plan

    @property
    def flow(self) -> EventFlow:
        """The flow; there is one after ``prepare``."""
        assert self._flow is not None
        return self._flow

    def take(self, index: int) -> None:
        """Take a bar up to its decisions; until ``end`` others may take their place.

        Args:
            index: index of the bar.
        """
        self.flow.take_bar(self._plan.bars.at(index))

    def end(self, index: int) -> None:
        """End a bar.

        Args:
            index: index of the bar.
        """
        self.flow.end_bar(self._plan.bars.at(index))
        self.done = index + 1

    def result(self) -> NextOrders:
        """The orders of the next open, once the last bar has ended."""
        plan, history, flow = self._plan, self._history, self._flow
        assert flow is not None
        held, bars = flow.held, plan.bars
        named = zip(
            bars.symbols, held.lots, plan.rules.lot_units.tolist(), held.entries, strict=True
        )
        positions = {
            name: Position(quantity=lots * units, entry=entry)
            for name, lots, units, entry in named
            if lots != 0.0
        }
        (regime,) = self._trace.rows["regimes"]
        return NextOrders(
            study=self._found.name,
            number=self._found.number,
            time=bars.timestamps[-1],
            regime=REGIMES[regime["code"]],
            account=Account(held.cash, positions),
            equity=held.equity,
            simulated=self._account is None,
            history=history,
            table=_table(plan, self._trace, flow),
        )


class LastBar:
    """A trace that keeps the rows of the last bar, each as a mapping from column to value."""

    def __init__(self) -> None:
        self.rows: dict[str, list[dict[str, Any]]] = {}
        self._ended = False

    def add(self, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Take rows of a table.

        Args:
            table: name of the table.
            rows: values in the order of its columns.
        """
        if self._ended:
            self.rows, self._ended = {}, False
        names = TABLES[table].columns.keys()
        own = self.rows.setdefault(table, [])
        own.extend(dict(zip(names, row, strict=True)) for row in rows)

    def end_bar(self, bar: int) -> None:
        """All rows of a bar have been added.

        Args:
            bar: index of the bar.
        """
        self._ended = True


@dataclass(frozen=True)
class _Held:
    """An account as the last decision saw it."""

    cash: float
    equity: float
    lots: tuple[float, ...]
    entries: tuple[float, ...]


class _Deciding(AccountTakingFlow):
    """A flow of one portfolio that says what it holds and what it orders at the last bar."""

    last = 0
    own: Mapping[int, float]
    """What the set has ordered at the last bar by symbol, in lots, before money moved."""

    def _decide(
        self, one: AccountFlow, parts: BarParts, signals: Sequence[Signal], regime: Regime
    ) -> tuple[Order, ...]:
        orders = super()._decide(one, parts, signals, regime)
        if parts.bar.index == self.last:
            view = self.view()
            entries = tuple(position.entry for position in view.positions)
            self.held = _Held(view.cash, view.equity, view.lots, entries)
            self.own = {order.symbol: order.lots for order in orders}
        return orders

    def placed(self) -> list[tuple[int, float, int, float]]:
        """The orders: symbol, lots, how they enter, and where they wait (0 at the market)."""
        (one,) = self._portfolios
        waiting = one.execution.waiting
        entries = {} if waiting is None else {w.order.symbol: w for w in waiting.entries()}
        found = []
        for order in one.execution.active_orders:
            entry = entries.get(order.symbol)
            at_once = order.lots if entry is None else order.lots - entry.lots
            found.append((order.symbol, at_once, MARKET_ENTRY, 0.0))
            if entry is not None:
                found.append((order.symbol, entry.lots, self._rules.entry, entry.level))
        return [one for one in found if one[1] != 0.0]

    def waits(self, symbol: int) -> bool:
        """Whether a symbol has no signal at the last bar."""
        return bool(self._live[self.last, symbol] == WAITING)


def _table(plan: PreparedFlow, trace: LastBar, flow: _Deciding) -> pd.DataFrame:
    bars, rules = plan.bars, plan.rules
    placed = flow.placed()
    signals = {row["symbol"]: row for row in trace.rows.get("signals", [])}
    orders = {row["symbol"]: row for row in trace.rows.get("orders", [])}
    # Rejects of orders that did not fill in this bar name their order; those of its signals do not.
    rejects = {
        row["symbol"]: row["reason"]
        for row in trace.rows.get("rejects", [])
        if row["order_id"] is None and row["signal_id"] is not None
    }
    (regime,) = trace.rows["regimes"]
    sizing = SIZINGS[rules.sizing]
    rows = []
    for s, symbol in enumerate(bars.symbols):
        signal, order = signals.get(symbol), orders.get(symbol)
        units, close = float(rules.lot_units[s]), float(bars.close[-1, s])
        lots = flow.held.lots[s]
        own = flow.own.get(s, 0.0) * units
        if order is not None:
            reason, why = "placed", ""
            if own:
                assert signal is not None
                why = _why_placed(order, signal, regime["code"], sizing)
            if float(order["quantity"]) != own:
                before = f"{own:+,.10g}" if own else "no order"
                of_itself = why or WHY.get(rejects.get(symbol, ""), "it has no signal here")
                why = f"{_TO_SHARE}, in place of {before}: {of_itself}"
        elif own:
            reason, why = AT_SHARE, f"{_TO_SHARE}, nothing is left of {own:+,.10g}"
        elif flow.waits(s):
            reason, why = WAITS, "it has no bar here, or not yet enough bars of its own"
        else:
            reason = rejects[symbol]
            why = WHY[reason]
        parts = [part for part in placed if part[0] == s] or [(s, 0.0, -1, 0.0)]
        for _, change, entry, level in parts:
            target = lots + change
            rows.append(
                {
                    "symbol": symbol,
                    "held": lots * units,
                    "target": target * units,
                    "quantity": change * units,
                    "entry": ENTRIES[entry] if change else "",
                    "level": level or np.nan,
                    "close": close,
                    "value": change * close * float(rules.lot_money[s]),
                    "reason": reason,
                    "why": why,
                    **_of_signal(signal),
                    **_of_order(order),
                }
            )
            lots = target
    return pd.DataFrame(rows)


def _of_signal(signal: Mapping[str, Any] | None) -> dict[str, Any]:
    if signal is None:
        return {"direction": "", "strength": np.nan, "confidence": np.nan, "features": "{}"}
    return {
        "direction": _DIRECTIONS[float(signal["direction"])],
        "strength": float(signal["strength"]),
        "confidence": float(signal["confidence"]),
        "features": signal["features"],
    }


_SIZES = ("wanted", "size", "regime_factor", "rho", "correlation_factor", "budget_share")


def _of_order(order: Mapping[str, Any] | None) -> dict[str, Any]:
    if order is None:
        return {**dict.fromkeys(_SIZES, np.nan), "order_id": None}
    sizes = {name: np.nan if order[name] is None else float(order[name]) for name in _SIZES}
    return {**sizes, "order_id": order["order_id"]}


def _why_placed(
    order: Mapping[str, Any], signal: Mapping[str, Any], regime: int, sizing: str
) -> str:
    """How an order came about, in words."""
    features = ", ".join(f"{k} {v:.4g}" for k, v in json.loads(signal["features"]).items())
    direction = _DIRECTIONS[float(signal["direction"])]
    if order["target"] == 0.0:
        if direction in ("flat", "short"):
            return f"exit, the signal is {direction} ({features})"
        return f"exit by a stop or a time exit; the signal is {direction} ({features})"
    if order["size"] is None:
        return f"an earlier entry that still waits; the signal is {direction} ({features})"
    return (
        f"{direction} ({features}): {sizing} {order['size']:.4g} of equity x"
        f" {order['regime_factor']:.4g} ({REGIMES[regime]}) x {order['correlation_factor']:.4g}"
        f" (correlation {order['rho']:.2g}); wanted {order['wanted']:.10g}, budget share"
        f" {order['budget_share']:.3g}"
    )
