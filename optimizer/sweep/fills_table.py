"""The fills of one parameter set as a table."""

from __future__ import annotations

import numpy as np
import pandas as pd

from kernels.codes import (
    FILL_CASH,
    FILL_KINDS,
    FILL_LOTS,
    FILL_PRICE,
    FILL_VALUE,
    ORDER_ADDING,
    ORDER_REDUCING,
    WRITTEN_OFF,
)
from kernels.execution import fill_costs
from optimizer.sweep.evaluate import Recording
from optimizer.sweep.inputs import Inputs


def fill_table(inputs: Inputs, recording: Recording) -> pd.DataFrame:
    """The fills of one parameter set.

    Args:
        inputs: the prepared inputs of the study.
        recording: the recording of the parameter set.

    Returns:
        One row a fill, in the order in which they happened: ``timestamp``, ``symbol``, ``quantity``
        (signed units), ``price`` (spread, slippage and impact included), ``cost`` (these and the
        commission, money), ``kind`` (``order``, ``stop``, ``liquidation``, ``end`` or ``ruin``),
        ``lots`` (signed), ``value`` (of the fill at its price, money) and ``cash`` (that it brought,
        signed).
    """
    bars, rules = inputs.bars, inputs.rules
    at, symbol, kind = np.nonzero(recording.fills[..., FILL_LOTS])
    found = recording.fills[at, symbol, kind]
    lots = found[:, FILL_LOTS]
    frame = pd.DataFrame(
        {
            "timestamp": pd.DatetimeIndex(bars.timestamps[at], tz="UTC"),
            "symbol": np.asarray(bars.symbols, dtype=object)[symbol],
            "quantity": lots * rules.lot_units[symbol],
            "price": found[:, FILL_PRICE],
            "cost": [
                fill_costs(*one) + 0.0 for one in found[:, [FILL_LOTS, FILL_VALUE, FILL_CASH]]
            ],
            "kind": np.asarray(FILL_KINDS, dtype=object)[kind],
            "lots": lots,
            "value": np.abs(lots) * found[:, FILL_PRICE] * rules.lot_money[symbol],
            "cash": -lots * found[:, FILL_CASH],
        }
    )
    orders = (kind == ORDER_REDUCING) | (kind == ORDER_ADDING)
    # Orders that fill at the close come after stops and liquidations of the bar, and before ruin: where
    # ruin came first, there are none.
    when = np.where(orders & rules.close_fill, WRITTEN_OFF - 0.5, kind)
    return frame.iloc[np.lexsort((symbol, kind, when, at))].reset_index(drop=True)
