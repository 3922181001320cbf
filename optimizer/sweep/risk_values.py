"""From the parameters of the study file to what the kernels take."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np

from kernels.codes import EQUAL_WEIGHT, KELLY, RISK_PER_TRADE, VOLATILITY_TARGET, WEIGHT
from optimizer.catalogue import COSTS
from optimizer.sweep.rules import Rules, cost_rows
from optimizer.types import FloatArray

_UNCHANGED = (
    "max_weight",
    "max_exposure",
    "bear_multiplier",
    "neutral_multiplier",
    "bull_multiplier",
    "correlation_penalty",
    "min_order_size",
    "rebalance_band",
    "stop_loss_atr",
    "take_profit_atr",
    "trailing_stop_atr",
    "cooldown",
    "entry_offset",
    "entry_offset_atr",
    "entry_bars",
)
_UNLIMITED_AT_0 = ("stop_loss", "take_profit", "trailing_stop", "time_exit", "max_positions")


_Number = TypeVar("_Number", float, FloatArray)


def score_sharpe(expected_sharpe: _Number, bars_per_year: float) -> _Number:
    """The Sharpe ratio per bar that a signal of score 1 stands for.

    Args:
        expected_sharpe: the expected Sharpe ratio of a year.
        bars_per_year: the number of bars in a year.
    """
    return expected_sharpe / math.sqrt(bars_per_year)


def risk_values(
    parameters: Mapping[str, Any], rules: Rules, bars_per_year: float
) -> dict[str, FloatArray]:
    """What the kernels take, by the name of their argument.

    Args:
        parameters: risk parameters and costs by column name, each a number or an array of shape
            (n_lanes,).
        rules: the rules of the study.
        bars_per_year: turns yearly figures into those of a bar.

    Returns:
        Values of the shape given. The distance of a stop that is off is infinite, and so are the bars
        of a time exit that is off and an unlimited number of positions; a cost that the study gives per
        symbol is 0.
    """
    given = {name: np.asarray(value, dtype=np.float64) for name, value in parameters.items()}
    values = {name: given[name] for name in _UNCHANGED}
    for name in _UNLIMITED_AT_0:
        values[name] = np.where(given[name] > 0.0, given[name], np.inf)
    yearly = math.sqrt(bars_per_year)
    values["size"] = {
        KELLY: lambda: given["kelly_fraction"],
        VOLATILITY_TARGET: lambda: given["volatility_target"] / yearly,
        WEIGHT: lambda: given["weight"],
        EQUAL_WEIGHT: lambda: given["max_exposure"],
        RISK_PER_TRADE: lambda: given["risk_per_trade"],
    }[rules.sizing]()
    values["score_sharpe"] = score_sharpe(given["expected_sharpe"], bars_per_year)
    lane_costs = {one.name: given[one.name] for one in COSTS if one.name not in rules.per_symbol}
    like = given["max_exposure"]
    return values | {
        name: np.broadcast_to(value, like.shape) for name, value in cost_rows(lane_costs).items()
    }
