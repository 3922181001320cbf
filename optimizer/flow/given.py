"""Signals and orders that come from elsewhere, taken through the bars one at a time.

They run in the event flow, whose containers fill, pay and mark them by the kernels of the sweep. Only the
decision at each close is replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from kernels import codes
from kernels.codes import FLAT, HOLD, LONG, SHORT
from optimizer.errors import DataError, StudyFileError
from optimizer.flow.account_flow import AccountFlow, BarParts
from optimizer.flow.event_flow import EventFlow
from optimizer.flow.given_tables import Table, read_flags, read_numbers
from optimizer.flow.prepared import prepare_flow
from optimizer.study_file.study import Study
from optimizer.sweep.backtest_result import BacktestResult
from optimizer.sweep.rules import Rules
from optimizer.sweep.single_set import single_set_study
from optimizer.types import Bars, BoolArray, Fill, FloatArray, Order, Regime, Signal, correlation_id

_RISK = {"correlation_penalty": 0.0, "rebalance_band": 0.0, "volatility_lookback": 20}
"""Parameters that differ from a study's defaults: what is given is not second-guessed."""


def from_signals(
    bars: Bars,
    entries: Table,
    exits: Table,
    *,
    short_entries: Table | None = None,
    short_exits: Table | None = None,
    sizing: str = "weight",
    risk: Mapping[str, float] | None = None,
    costs: Mapping[str, Any] | None = None,
    account: Mapping[str, Any] | None = None,
    instruments: Mapping[str, Any] | None = None,
) -> BacktestResult:
    """Trade entries and exits that come from elsewhere.

    What is true at a bar is decided at its close and fills at the next open. An entry acts where its side
    is not held, an exit where it is. An exit wins over an entry of its own side, and an entry of the
    other side turns the position round. Between them a position is kept as it is.

    >>> import optimizer
    >>> bars = optimizer.load_bars("bars.parquet", "SPY")
    >>> close = bars.to_frame()["close"]
    >>> average = close.rolling(100).mean()
    >>> result = optimizer.from_signals(bars, close > average, close < average)
    >>> result.trades["side"].unique().tolist()
    ['long']

    Args:
        bars: the bars of all symbols.
        entries, exits: true or false for each bar and symbol: a DataFrame, an array of shape
            (n_bars, n_symbols), or for one symbol a Series or an array of shape (n_bars,).
        short_entries, short_exits: the same for short positions; None for none.
        sizing: how large a position is, the setting of ``[risk]`` of a study file; not ``kelly``, which
            needs an expected return.
        risk: parameters of ``[risk]`` by name; ``weight`` is 1 / n_symbols unless given, and stops work.
        costs, account, instruments: the tables of the same names of a study file.

    Returns:
        What the account did, without a holdout.

    Raises:
        DataError: a table does not fit the bars, or a bar enters both sides.
        StudyFileError: a setting is unknown or out of bounds.
    """
    if sizing == "kelly":
        raise StudyFileError('sizing = "kelly": needs an expected return; take "weight" or another')
    given = {"weight": 1.0 / bars.n_symbols, **(risk or {})}
    study = _study(given, costs, account, instruments, sizing, short_entries is not None)
    nothing = np.zeros((bars.n_bars, bars.n_symbols), dtype=np.bool_)
    tables = {
        "entries": entries,
        "exits": exits,
        "short_entries": short_entries,
        "short_exits": short_exits,
    }
    enter, leave, enter_short, leave_short = (
        nothing if table is None else read_flags(bars, name, table)
        for name, table in tables.items()
    )
    both = np.argwhere(enter & enter_short)
    if len(both):
        bar, s = both[0]
        raise DataError(
            f"entries and short_entries: both at {bars.timestamps[bar]} for {bars.symbols[s]}; drop one"
        )

    flags = np.stack((enter, leave, enter_short, leave_short))
    return _run(study, bars, "signals", lambda *parts: _SignalFlow(flags, *parts))


def from_orders(
    bars: Bars,
    orders: Table,
    *,
    allow_short: bool = False,
    lot_size: float = 1.0,
    costs: Mapping[str, Any] | None = None,
    account: Mapping[str, Any] | None = None,
    instruments: Mapping[str, Any] | None = None,
) -> BacktestResult:
    """Trade orders that come from elsewhere.

    An order is decided at the close of its bar and fills at the next open, sells before buys. Buys that
    the account cannot pay are cut pro rata, as in a study.

    >>> import optimizer
    >>> bars = optimizer.load_bars("bars.parquet", "SPY")
    >>> orders = bars.to_frame()["close"] * 0.0
    >>> orders[10], orders[50] = 100.0, -100.0
    >>> result = optimizer.from_orders(bars, orders)
    >>> result.fills["quantity"].tolist(), result.trades["bars"].tolist()
    ([100.0, -100.0], [40])

    Where cash paid only a part of a purchase, or none, the sale of it is cut to what is held.

    Args:
        bars: the bars of all symbols.
        orders: units to buy, or to sell if negative, 0 or NaN for none, in a table as ``from_signals``
            takes it.
        allow_short: whether more may be sold than is held.
        lot_size: quantities are multiples of this, where ``instruments`` gives a symbol no other.
        costs, account, instruments: the tables of the same names of a study file.

    Returns:
        What the account did, without a holdout.

    Raises:
        DataError: a table does not fit the bars, a quantity is no multiple of its lot, or more is sold
            than was bought where that is not allowed.
        StudyFileError: a setting is unknown or out of bounds.
    """
    units = read_numbers(bars, "orders", orders)
    study = _study({"lot_size": lot_size}, costs, account, instruments, "weight", allow_short)
    return _run(study, bars, "orders", lambda *parts: _OrderFlow(bars, units, *parts))


class _SignalFlow(EventFlow):
    """A flow whose directions are given; they are sized and allocated as any."""

    def __init__(self, flags: BoolArray, *parts: Any) -> None:
        super().__init__(*parts)
        self._flags = flags

    def _decide(
        self, one: AccountFlow, parts: BarParts, signals: Sequence[Signal], regime: Regime
    ) -> tuple[Order, ...]:
        flags = self._flags[:, parts.bar.index]
        own = []
        for signal in signals:
            # A symbol that leaves is flat whatever is given.
            if signal.direction != FLAT:
                s = signal.symbol
                direction = _direction(one.container.lots[s], *flags[:, s].tolist())
                signal = replace(signal, direction=float(direction))
            own.append(signal)
        return super()._decide(one, parts, own, regime)


def _direction(lots: float, enter: bool, leave: bool, enter_short: bool, leave_short: bool) -> int:
    """The direction of a signal, given what is held."""
    if lots > 0.0:
        return SHORT if enter_short else FLAT if leave else HOLD
    if lots < 0.0:
        return LONG if enter else FLAT if leave_short else HOLD
    if enter and not leave:
        return LONG
    # Flat, so that a stop bars an entry no longer than the signal that led to it.
    return SHORT if enter_short and not leave_short else FLAT


class _OrderFlow(EventFlow):
    """A flow whose orders are given, instead of sized."""

    def __init__(self, bars: Bars, units: FloatArray, *parts: Any) -> None:
        super().__init__(*parts)
        self._lots = _whole_lots(bars, units, self._rules)
        self._wanted_lots = self._lots.cumsum(axis=0)

    def _decide(
        self, one: AccountFlow, parts: BarParts, signals: Sequence[Signal], regime: Regime
    ) -> tuple[Order, ...]:
        bar = parts.bar
        orders = []
        for s, lots in enumerate(self._lots[bar.index].tolist()):
            held = one.container.lots[s]
            if lots == 0.0:
                continue
            oversold = held + lots < 0.0 and not self._rules.allow_short
            if (
                oversold and self._wanted_lots[bar.index, s] >= 0.0
            ):  # cash paid a part of what was to be bought
                lots = -held
                if held == 0.0:
                    continue
            elif oversold:
                units = self._rules.lot_units[s]
                raise DataError(
                    f"orders: sells {-lots * units:g} {self._symbols[s]} at {bar.time}, where"
                    f" {held * units:g} are held; sell less, or allow_short=True"
                )
            order = Order(
                id=correlation_id(one.spec.id, bar.index, self._symbols[s], "order"),
                portfolio_id=one.spec.id,
                bar=bar.index,
                time=bar.time,
                symbol=s,
                name=self._symbols[s],
                lots=lots,
                quantity=lots * float(self._rules.lot_units[s]),
                wanted=held + lots,
                budget_share=1.0,
                target=held + lots,
                signal_id="",
                regime_id=regime.id,
            )
            orders.append(order)
        return tuple(orders)


def _whole_lots(bars: Bars, units: FloatArray, rules: Rules) -> FloatArray:
    """The orders in lots, shape (n_bars, n_symbols)."""
    lots = np.round(units / rules.lot_units)
    wrong = np.argwhere(~np.isclose(lots * rules.lot_units, units, rtol=1e-9, atol=0.0))
    if len(wrong):
        bar, s = wrong[0]
        raise DataError(
            f"orders: {units[bar, s]:g} {bars.symbols[s]} at {bars.timestamps[bar]}: not a multiple of"
            f" the lot, {rules.lot_units[s]:g}; round it, or set lot_size"
        )
    return lots


def _study(
    risk: Mapping[str, float],
    costs: Mapping[str, Any] | None,
    account: Mapping[str, Any] | None,
    instruments: Mapping[str, Any] | None,
    sizing: str,
    allow_short: bool,
) -> Study:
    """A study for its account; its strategy decides nothing."""
    return single_set_study(
        {"strategy": "momentum", "momentum_lookback": 1, **_RISK, **risk},
        costs or {},
        allow_short,
        None,
        0.0,
        account=account,
        instruments=instruments,
        sizing=sizing,
    )


def _run(study: Study, bars: Bars, name: str, flow_of: Callable[..., EventFlow]) -> BacktestResult:
    """Take the bars through a flow from the first one on."""
    prepared = prepare_flow(study, bars, first_bar=0, warm_up=0)
    flow = prepared.opened(None, flow_of)
    for index in range(bars.n_bars):
        flow.on_bar(bars.at(index))
    done, rules = flow.result(), prepared.rules
    (view,) = done.views
    parameters = {
        key: value
        for key, value in done.specs[0].parameters.items()
        if not key.startswith("momentum_")
    }
    equity = done.equity.iloc[:, 0].rename("equity")
    lots = np.array([one.quantity for one in view.positions]) / rules.lot_units
    waiting = np.zeros((4, bars.n_symbols))
    waiting[0] = lots
    for order in flow.next_orders()[0]:
        waiting[1, order.symbol] = order.lots
    return BacktestResult(
        parameters={"strategy": name, "classifier": "none", **parameters},
        equity=equity,
        fills=_fill_table(bars, rules, view.transactions),
        in_sample=done.in_sample[0],
        out_of_sample=None,
        regimes=pd.Series(codes.NEUTRAL, equity.index, name="regime"),
        bars=bars,
        rules=rules,
        waiting={bars.n_bars: waiting},
    )


def _fill_table(bars: Bars, rules: Rules, fills: Sequence[Fill]) -> pd.DataFrame:
    """Fills of the flow in the columns of ``sweep.fills_table.fill_table``."""
    at = np.array([fill.bar for fill in fills], dtype=np.int64)
    symbol = np.array([fill.symbol for fill in fills], dtype=np.int64)
    lots = np.array([fill.lots for fill in fills], dtype=np.float64)
    price = np.array([fill.price for fill in fills], dtype=np.float64)
    cash = np.array([fill.cash_per_lot for fill in fills], dtype=np.float64)
    return pd.DataFrame(
        {
            "timestamp": pd.DatetimeIndex(bars.timestamps[at], tz="UTC"),
            "symbol": np.asarray(bars.symbols, dtype=object)[symbol],
            "quantity": lots * rules.lot_units[symbol],
            "price": price,
            "cost": np.array([fill.cost for fill in fills], dtype=np.float64),
            "kind": np.array([fill.kind for fill in fills], dtype=object),
            "lots": lots,
            "value": np.abs(lots) * price * rules.lot_money[symbol],
            "cash": -lots * cash,
        }
    )
