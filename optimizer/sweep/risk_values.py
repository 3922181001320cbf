"""From the risk parameters of the study file to what the risk kernels take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from optimizer.types import FloatArray

_UNCHANGED = (
    "kelly_fraction",
    "max_exposure",
    "bear_multiplier",
    "neutral_multiplier",
    "bull_multiplier",
    "correlation_penalty",
    "rebalance_band",
)
_STOPS = ("stop_loss", "take_profit", "trailing_stop")


def risk_values(parameters: Mapping[str, Any], lot_size: float) -> dict[str, FloatArray]:
    """What the risk kernels take, by the name of their argument.

    Args:
        parameters: risk parameters by column name, each a number or an array of shape (n_lanes,).
        lot_size: units per lot.

    Returns:
        Values of the shape given. ``min_lots`` is the least order in lots, and the distance of a
        stop that is off is infinite; the rest is unchanged.
    """
    values = {name: np.asarray(parameters[name]) for name in _UNCHANGED}
    values["min_lots"] = np.asarray(parameters["min_order_size"]) / lot_size
    for name in _STOPS:
        distance = np.asarray(parameters[name])
        values[name] = np.where(distance > 0.0, distance, np.inf)
    return values
