"""The fills of one parameter set as a table."""

from __future__ import annotations

import numpy as np
import pandas as pd

from optimizer.sweep.evaluate import Recording
from optimizer.sweep.fill_terms import fill_terms
from optimizer.sweep.inputs import Inputs


def fill_table(inputs: Inputs, recording: Recording) -> pd.DataFrame:
    """The fills of one parameter set.

    Args:
        inputs: of the study.
        recording: of the parameter set.

    Returns:
        One row a fill, in the order in which they happened: ``timestamp``, ``symbol``, ``quantity``
        (signed units), ``price`` (slippage included), ``cost`` (slippage and commission, money) and
        ``kind`` (``order``, ``stop`` or ``ruin``).
    """
    bars, rules = inputs.bars, inputs.rules
    prices = bars.close if rules.close_fill else bars.open
    at, symbol, kind = np.nonzero(recording.fills)
    lots = recording.fills[at, symbol, kind]
    stopped = kind == 2
    price = np.where(stopped, recording.stop_prices[at, symbol], prices[at, symbol])
    quantity = lots * rules.lot_size
    terms = [
        fill_terms(float(change), float(one), rules.lot_size, rules.slippage, rules.commission)
        for change, one in zip(lots, price, strict=True)
    ]
    frame = pd.DataFrame(
        {
            "timestamp": pd.DatetimeIndex(bars.timestamps[at], tz="UTC"),
            "symbol": np.asarray(bars.symbols, dtype=object)[symbol],
            "quantity": quantity,
            "price": np.array([one.price for one in terms]),
            "cost": np.array([one.cost for one in terms]),
            "kind": np.where(stopped, "stop", "order"),
        }
    )
    # Stops come between the open and the close: before a fill at the close, after one at the open.
    when = np.where(stopped, 1, 2 if rules.close_fill else 0)
    ordered = frame.iloc[np.lexsort((symbol, kind, when, at))]
    return pd.concat([ordered, _ruin_table(inputs, recording)], ignore_index=True)


def _ruin_table(inputs: Inputs, recording: Recording) -> pd.DataFrame | None:
    """The positions that ruin closed, written off at the close and at no cost; None without ruin."""
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
