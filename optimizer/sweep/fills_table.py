"""The fills of one parameter set as a table."""

from __future__ import annotations

import numpy as np
import pandas as pd

from kernels.execution import buy_cost_per_lot, sell_proceeds_per_lot
from optimizer.sweep.evaluate import Recording
from optimizer.sweep.inputs import Inputs


def fill_table(inputs: Inputs, recording: Recording) -> pd.DataFrame:
    """The fills of one parameter set, a row each, with price and costs."""
    bars, rules = inputs.bars, inputs.rules
    prices = bars.close if rules.close_fill else bars.open
    at, symbol, kind = np.nonzero(recording.fills)
    lots = recording.fills[at, symbol, kind]
    stopped = kind == 2
    price = np.where(stopped, recording.stop_prices[at, symbol], prices[at, symbol])
    quantity = lots * rules.lot_size
    per_lot = [
        (buy_cost_per_lot if change > 0.0 else sell_proceeds_per_lot)(
            float(one), rules.lot_size, rules.slippage, rules.commission
        )
        for change, one in zip(lots, price, strict=True)
    ]
    paid = price * (1.0 + np.sign(lots) * rules.slippage)
    frame = pd.DataFrame(
        {
            "timestamp": pd.DatetimeIndex(bars.timestamps[at], tz="UTC"),
            "symbol": np.asarray(bars.symbols, dtype=object)[symbol],
            "quantity": quantity,
            "price": paid,
            "cost": np.abs(lots * (price * rules.lot_size - np.array(per_lot))),
            "kind": np.where(stopped, "stop", "order"),
        }
    )
    # Stops come between the open and the close: before a fill at the close, after one at the open.
    when = np.where(stopped, 1, 2 if rules.close_fill else 0)
    ordered = frame.iloc[np.lexsort((symbol, kind, when, at))]
    return pd.concat([ordered, _ruin_table(inputs, recording)], ignore_index=True)


def _ruin_table(inputs: Inputs, recording: Recording) -> pd.DataFrame | None:
    """The positions that ruin closed at the close, if it came: written off, at no cost."""
    bars = inputs.bars
    ruined = np.flatnonzero(recording.equity[inputs.first :] == 0.0)
    if not len(ruined):
        return None
    at = inputs.first + int(ruined[0])
    lots = recording.fills[: at + 1].sum(axis=(0, 2))
    symbol = np.flatnonzero(lots)
    return pd.DataFrame(
        {
            "timestamp": pd.DatetimeIndex(np.repeat(bars.timestamps[at], len(symbol)), tz="UTC"),
            "symbol": np.asarray(bars.symbols, dtype=object)[symbol],
            "quantity": -lots[symbol] * inputs.rules.lot_size,
            "price": bars.close[at, symbol],
            "cost": 0.0,
            "kind": "ruin",
        }
    )
