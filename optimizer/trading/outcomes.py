"""What has become of the orders of an account, and what each of it is worth by itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import pandas as pd

from optimizer.flow.prepared import PreparedFlow
from optimizer.trading.counterfactual import Adjustment, Steps, Traded
from optimizer.trading.live import Live, LiveFill
from optimizer.trading.modelled import Executed
from optimizer.types import Order

LATE, MISSED, REFUSED, PARTLY, FILLED, NOTHING = (
    "late",
    "missed",
    "refused",
    "partly filled",
    "filled",
    "no fill by the rules either",
)
"""Outcomes of an order. A late one is asked for again at the next close, and fills then or after it."""


class Outcomes:
    """What has become of each live order, for accounts to which it is given in part.

    Args:
        plan: the flow of the set on the bars as they were known.
        live: the account.
    """

    def __init__(self, plan: PreparedFlow, live: Live) -> None:
        self._plan, self._live = plan, live
        self._lots: dict[tuple[int, int], float] = {}
        self._outcomes: dict[tuple[int, int], str] = {}
        self._left = dict(live.fills)

    @property
    def steps(self) -> Steps:
        """What is given to the live account at each bar."""
        steps = self._live.steps
        # A broker that is asked at each bar says what it holds: trades of somebody else are in that.
        return steps if steps.takeovers else replace(steps, strangers=self._strange)

    def as_live(self, order: Order, modelled: Executed) -> Executed:
        """What has really filled of an order; what is beyond it is somebody else's.

        Args:
            order: an order of the live account.
            modelled: what it would have come to by the rules.
        """
        fill = self._of(order)
        if fill is None:
            return Executed()
        key = order.bar + 1, order.symbol
        whole = self._left.pop(key)
        rest = whole.quantity - fill.quantity
        if rest != 0.0:
            self._left[key] = LiveFill(rest, whole.price, whole.commission - fill.commission)
        return self._executed(order, fill.quantity, fill.price, fill.commission)

    def _strange(self, bar: int) -> Adjustment | None:
        """The fills of a bar that no order has asked for, once its orders have taken theirs."""
        cash, lots = 0.0, {}
        for s in range(self._plan.bars.n_symbols):
            fill = self._left.pop((bar, s), None)
            if fill is not None:
                lots[s] = fill.quantity / float(self._plan.rules.lot_units[s])
                money = float(self._plan.rules.lot_money[s]) * lots[s] * fill.price
                cash -= money + fill.commission
        return Adjustment(cash, lots) if lots or cash else None

    def know(self, actual: Traded) -> None:
        """Settle what has become of each order of the live account.

        Args:
            actual: the live account.
        """
        for bar in sorted(actual.orders, reverse=True):
            for order in actual.orders[bar]:
                key = bar, order.symbol
                fill = self._of(order)
                self._lots[key] = order.lots
                if fill is not None:
                    whole = abs(fill.quantity) >= abs(order.quantity) * (1.0 - 1e-9)
                    self._outcomes[key] = FILLED if whole else PARTLY
                elif key in self._live.told:
                    self._outcomes[key] = self._live.told[key]
                else:
                    # Asked for again at the next close, and filled then or after it.
                    next_ = bar + 1, order.symbol
                    same = self._lots.get(next_, 0.0) * order.lots > 0.0
                    goes_on = same and self._outcomes[next_] in (LATE, FILLED, PARTLY)
                    self._outcomes[key] = LATE if goes_on else MISSED

    def _of(self, order: Order) -> LiveFill | None:
        """What has filled of an order, as far as it has asked for that."""
        fill = self._live.fills.get((order.bar + 1, order.symbol))
        if fill is None or fill.quantity * order.quantity <= 0.0:
            return None
        if abs(fill.quantity) <= abs(order.quantity):
            return fill
        share = order.quantity / fill.quantity
        return LiveFill(order.quantity, fill.price, fill.commission * share)

    def _executed(self, order: Order, quantity: float, price: float, commission: float) -> Executed:
        lots = quantity / float(self._plan.rules.lot_units[order.symbol])
        return Executed(quantity, lots, price, commission)

    def late(self, order: Order, modelled: Executed) -> Executed:
        """What an order comes to by the rules, but for what was late.

        Args:
            order: an order.
            modelled: what it comes to by the rules.

        Returns:
            Nothing for an order that was late, else ``modelled``.
        """
        outcome = self._outcomes.get((order.bar, order.symbol))
        return Executed() if outcome == LATE else modelled

    def missing(self, order: Order, modelled: Executed) -> Executed:
        """What an order comes to by the rules, but for what was late, missed or refused, also in part.

        Args:
            order: an order.
            modelled: what it comes to by the rules.

        Returns:
            The quantity that has really filled, at the price of the rules.
        """
        outcome = self._outcomes.get((order.bar, order.symbol))
        if outcome in (LATE, MISSED, REFUSED):
            return Executed()
        fill = self._of(order)
        if outcome is None or fill is None or modelled.quantity == 0.0:
            return modelled
        share = fill.quantity / modelled.quantity
        return self._executed(order, fill.quantity, modelled.price, modelled.commission * share)

    def priced(self, order: Order, modelled: Executed) -> Executed:
        """What an order has really come to, where the live account had the same.

        Args:
            order: an order.
            modelled: what it comes to by the rules.

        Returns:
            By the rules where the live account had no such order.
        """
        outcome = self._outcomes.get((order.bar, order.symbol))
        fill = self._of(order)
        if outcome is None or outcome in (LATE, MISSED, REFUSED) or fill is None:
            return self.missing(order, modelled)
        return self._executed(order, fill.quantity, fill.price, fill.commission)

    def table(self, actual: Traded) -> pd.DataFrame:
        """The orders of the live account, see ``Drift``.

        Args:
            actual: the live account.
        """
        bars, rows = self._plan.bars, []
        for bar, orders in actual.orders.items():
            for order in orders if bar + 1 < bars.n_bars else ():
                fill, model = self._of(order), actual.modelled[order.id]
                outcome = self._outcomes[bar, order.symbol]
                if fill is None and model.quantity == 0.0:
                    outcome = NOTHING
                rows.append(
                    {
                        "time": pd.Timestamp(bars.timestamps[bar], tz="UTC"),
                        "symbol": order.name,
                        "order_id": order.id,
                        "ordered": order.quantity,
                        "filled": 0.0 if fill is None else fill.quantity,
                        "price": math.nan if fill is None else fill.price,
                        "commission": 0.0 if fill is None else fill.commission,
                        "model_filled": model.quantity,
                        "model_price": model.price if model.quantity else math.nan,
                        "model_commission": model.commission,
                        "outcome": outcome,
                        **self._worse(order, fill, model),
                    }
                )
        names = ("time", "symbol", "order_id", "ordered", "filled", "price", "commission")
        more = ("model_filled", "model_price", "model_commission", "outcome")
        return pd.DataFrame(rows, columns=[*names, *more, "slippage_bps", "cost"])

    def _worse(self, order: Order, fill: LiveFill | None, model: Executed) -> Mapping[str, float]:
        if fill is None or model.quantity == 0.0:
            return {"slippage_bps": math.nan, "cost": math.nan}
        money = float(self._plan.rules.lot_money[order.symbol])
        lots = fill.quantity / float(self._plan.rules.lot_units[order.symbol])
        side = math.copysign(1.0, order.quantity)
        due = model.commission * fill.quantity / model.quantity
        return {
            "slippage_bps": side * (fill.price / model.price - 1.0) * 1e4,
            "cost": lots * money * (fill.price - model.price) + fill.commission - due,
        }
