"""Where the profit of one parameter set came from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from kernels.codes import BEAR, BULL, NEUTRAL
from optimizer.types import FloatArray

CARRY = "carry"
REGIMES = {BULL: "bull", NEUTRAL: "neutral", BEAR: "bear"}
"""Names of the codes of regimes."""


def attribution(
    gained: pd.Series[float],
    held: Mapping[str, float],
    fills: pd.DataFrame,
    regimes: pd.Series[int],
) -> pd.DataFrame:
    """Attribute what was gained to symbols, sides, regimes and years.

    Args:
        gained: the change of the equity in each bar, money, indexed by the time of the bar.
        held: the signed value of each symbol's position at the last close, money.
        fills: the fills as ``BacktestResult.fills``.
        regimes: the regime code of each bar.

    Returns:
        Columns ``by``, ``name`` and ``profit``, see ``BacktestResult.attribution``.
    """
    cash = fills["cash"].groupby(fills["symbol"]).sum()
    by_symbol = {name: value + float(cash.get(name, 0.0)) for name, value in held.items()}
    side = _sides(fills)
    by_side = {
        name: float(fills["cash"][side == sign].sum())
        + sum(value for value in held.values() if value * sign > 0.0)
        for name, sign in (("long", 1.0), ("short", -1.0))
    }
    total = float(gained.sum())
    known = regimes.shift(1, fill_value=int(regimes.iloc[0])).map(REGIMES)
    parts: dict[str, dict[Any, float]] = {
        "symbol": {**by_symbol, CARRY: total - sum(by_symbol.values())},
        "side": {**by_side, CARRY: total - sum(by_side.values())},
        "regime": gained.groupby(known.to_numpy()).sum().to_dict(),
        "year": gained.groupby(pd.DatetimeIndex(gained.index).year).sum().to_dict(),
    }
    rows = [(by, str(name), one) for by, names in parts.items() for name, one in names.items()]
    return pd.DataFrame(rows, columns=["by", "name", "profit"])


def _sides(fills: pd.DataFrame) -> FloatArray:
    """The side of the position that each fill opened, changed or closed, 1 or -1, shape (n_fills,)."""
    lots = fills["lots"]
    before = lots.groupby(fills["symbol"]).cumsum() - lots
    return np.asarray(np.sign(before.where(before != 0.0, lots)))
