"""What a study can set and measure: parameters of classifiers, risk and costs, and metrics.

The parameters of the built-in strategies are in ``optimizer.strategies.built_in``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

Role = Literal["feature", "signal", "regime", "risk", "fixed"]

Align = Literal["inner", "strict", "outer"]
ALIGNMENTS: tuple[Align, ...] = get_args(Align)

Returns = Literal["bar", "day"]
RETURNS: tuple[Returns, ...] = get_args(Returns)
"""What to do where the calendars of symbols differ: keep the times that all have, refuse, keep all."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a strategy, a classifier, the risk manager or the costs.

    Attributes:
        name: its key in the study file.
        kind: int or float.
        default: used if the study file does not give a value.
        low, high: bounds, both allowed.
        role: what a change affects: ``feature`` (a lookback: other feature columns), ``signal`` or
            ``risk`` (only the lane itself), ``regime`` (another fit), or ``fixed`` (one value holds
            for the whole study).
        summary: one line for readers of the study file, with the unit.
    """

    name: str
    kind: type[int] | type[float]
    default: float
    low: float
    high: float
    role: Role
    summary: str
    span: str = ""


def lookback_parameter(
    name: str, default: int, summary: str, low: int = 1, role: Role = "feature"
) -> Parameter:
    """A parameter that is the lookback of a feature, in bars.

    Args:
        name: its key in the study file.
        default: used if the study file does not give a value.
        summary: one line for readers of the study file.
        low: the shortest lookback allowed.
        role: what a change affects.
    """
    return Parameter(name, int, default, low, 100_000, role, summary)


def _length(name: str, default: int, low: int, high: int, summary: str, span: str) -> Parameter:
    """A parameter of a classifier that is a number of bars or a length of time."""
    return Parameter(name, int, default, low, high, "regime", summary, span)


_LOOKBACK = _length("lookback", 30, 2, 100_000, "bars of the observed features", "30d")
_FIT = (
    _length("train_bars", 504, 30, 1_000_000, "bars of each training window", "2y"),
    _length("refit_bars", 126, 1, 1_000_000, "bars between two fits", "6mo"),
)
LENGTHS = (_LOOKBACK, *_FIT)
"""Parameters that every classifier has."""

CLASSIFIERS: dict[str, tuple[Parameter, ...]] = {
    "none": (),
    "hmm": (
        _LOOKBACK,
        *_FIT,
        Parameter(
            "n_states", int, 3, 2, 4, "regime", "hidden states; those in the middle are neutral"
        ),
        Parameter(
            "full_covariance", int, 0, 0, 1, "regime", "1: features may correlate within a state"
        ),
    ),
    "svm": (
        _LOOKBACK,
        _length("horizon", 5, 1, 10_000, "bars of the forward return learned", "5d"),
        *_FIT,
    ),
}

RISK: tuple[Parameter, ...] = (
    Parameter("kelly_fraction", float, 0.25, 0.0, 1e6, "risk", "share of the full Kelly size"),
    Parameter(
        *("expected_sharpe", float, 0.5, 0.0, 100.0, "risk"),
        summary="Sharpe ratio a year that a signal of score 1 stands for",
    ),
    Parameter(
        "volatility_target", float, 0.1, 0.0, 100.0, "risk", "volatility a year of each position"
    ),
    Parameter("weight", float, 0.1, 0.0, 100.0, "risk", "fraction of equity"),
    Parameter("risk_per_trade", float, 0.01, 0.0, 1.0, "risk", "share of equity lost at the stop"),
    Parameter("max_exposure", float, 1.0, 0.0, 100.0, "risk", "most gross exposure, times equity"),
    Parameter(
        "max_weight", float, 1.0, 0.0, 100.0, "risk", "cap of one position, fraction of equity"
    ),
    Parameter("max_positions", int, 0, 0, 100_000, "risk", "most positions; 0 is no limit"),
    Parameter("bull_multiplier", float, 1.2, 0.0, 100.0, "risk", "size factor, bull regime"),
    Parameter("neutral_multiplier", float, 1.0, 0.0, 100.0, "risk", "size factor, neutral regime"),
    Parameter("bear_multiplier", float, 0.6, 0.0, 100.0, "risk", "size factor, bear regime"),
    Parameter(
        "correlation_penalty", float, 0.5, 0.0, 1.0, "risk", "size cut at a correlation of 1"
    ),
    Parameter(
        *("min_order_size", float, 0.0, 0.0, 1e15, "risk"),
        summary="smallest order, units; at least one lot in any case",
    ),
    Parameter("rebalance_band", float, 0.1, 0.0, 1.0, "risk", "smallest change, share of target"),
    Parameter("stop_loss", float, 0.0, 0.0, 1.0, "risk", "exit at this loss since entry; 0 is off"),
    Parameter(
        "take_profit", float, 0.0, 0.0, 100.0, "risk", "exit at this gain since entry; 0 is off"
    ),
    Parameter("trailing_stop", float, 0.0, 0.0, 1.0, "risk", "fall from the best price; 0 is off"),
    Parameter("stop_loss_atr", float, 0.0, 0.0, 1e3, "risk", "same, times the ATR; 0 is off"),
    Parameter("take_profit_atr", float, 0.0, 0.0, 1e3, "risk", "same, times the ATR; 0 is off"),
    Parameter("trailing_stop_atr", float, 0.0, 0.0, 1e3, "risk", "same, times the ATR; 0 is off"),
    Parameter("time_exit", int, 0, 0, 1_000_000, "risk", "exit after these bars; 0 is off"),
    Parameter(
        *("cooldown", int, 0, 0, 1_000_000, "risk"),
        summary="bars without entry after a stop; 0 bars only its direction, until the signal leaves it",
    ),
    Parameter(
        *("entry_offset", float, 0.0, 0.0, 0.99, "risk"),
        summary="distance of a limit or stop entry from the close, fraction of it",
    ),
    Parameter(
        *("entry_offset_atr", float, 0.0, 0.0, 1e3, "risk"),
        summary="further distance of such an entry, times the ATR",
    ),
    Parameter("entry_bars", int, 1, 1, 1_000_000, "risk", "bars for which such an entry is good"),
    lookback_parameter("volatility_lookback", 20, "bars of the volatility used for sizing", low=2),
    Parameter("ewma_decay", float, 0.94, 0.0, 0.999999, "fixed", "decay of the portfolio variance"),
    lookback_parameter("atr_lookback", 14, "bars of the average true range, ATR", role="fixed"),
    Parameter("lot_size", float, 1.0, 1e-12, 1e12, "fixed", "quantities are multiples of this"),
    Parameter("correlation_lookback", int, 60, 3, 100_000, "fixed", "bars of the correlation"),
    Parameter(
        *("correlation_refresh", int, 0, 0, 100_000, "fixed"),
        summary="bars between its refreshes; 0 is 1 with up to 32 symbols, 20 with more",
    ),
)

STOPS = ("stop_loss", "take_profit", "trailing_stop")
"""Distances that close a position inside a bar, as fractions of a price."""

STOPS_ATR = tuple(f"{name}_atr" for name in STOPS)
"""The same in average true ranges."""

SIZING_PARAMETERS: dict[str, tuple[str, ...]] = {
    "kelly": ("kelly_fraction", "expected_sharpe"),
    "volatility_target": ("volatility_target",),
    "weight": ("weight",),
    "equal_weight": (),
    "risk_per_trade": ("risk_per_trade",),
}
"""Every sizing mode, the default first, and the parameters that only this mode reads."""

ENTRY_PARAMETERS = ("entry_offset", "entry_offset_atr", "entry_bars")
"""Parameters that only limit and stop entries read."""

COSTS: tuple[Parameter, ...] = (
    Parameter("commission_bps", float, 1.0, 0.0, 5_000.0, "risk", "bps of the traded value"),
    Parameter(
        *("maker_bps", float, 1.0, -100.0, 5_000.0, "risk"),
        summary="the same for limit entries; `commission_bps` unless given; negative is a rebate",
    ),
    Parameter("commission_per_unit", float, 0.0, 0.0, 1e9, "risk", "money a unit traded"),
    Parameter(
        "commission_minimum", float, 0.0, 0.0, 1e9, "risk", "least commission, money an order"
    ),
    Parameter("commission_per_order", float, 0.0, 0.0, 1e9, "risk", "fixed part, money an order"),
    Parameter(
        *("spread_bps", float, 0.0, 0.0, 5_000.0, "risk"),
        summary="whole spread, bps of the price; half is paid on each side",
    ),
    Parameter(
        *("spread_ticks", float, 0.0, 0.0, 1e6, "risk"),
        summary="whole spread, ticks of `tick_size`; half is paid on each side",
    ),
    Parameter("slippage_bps", float, 2.0, 0.0, 5_000.0, "risk", "bps by which a fill is worse"),
    Parameter(
        *("impact", float, 0.0, 0.0, 100.0, "risk"),
        summary="times volatility x sqrt(units / volume of the bar)",
    ),
    Parameter(
        *("max_volume_share", float, 0.0, 0.0, 1.0, "risk"),
        summary="most of a bar's volume that one order fills; 0 is no limit",
    ),
)
"""What trading costs. Each is fixed, searched or swept like a risk parameter, or given per symbol."""

LOWEST_RATE, HIGHEST_RATE = -1.0, 10.0
"""Bounds of an interest rate, fraction a year."""

UNPREFIXED = ("risk", "costs")
"""Owners whose parameters have no prefix in results."""


def column(owner: str, name: str) -> str:
    """The name of a parameter in results and constraints, such as ``momentum_lookback``.

    Args:
        owner: a strategy or classifier, which becomes the prefix, or one of ``UNPREFIXED``.
        name: the name of the parameter.
    """
    return name if owner in UNPREFIXED else f"{owner}_{name}"


Direction = Literal["maximize", "minimize"]

METRIC_DIRECTIONS: dict[str, Direction] = {
    "total_return": "maximize",
    "cagr": "maximize",
    "volatility": "minimize",
    "sharpe": "maximize",
    "sortino": "maximize",
    "calmar": "maximize",
    "max_drawdown": "minimize",
    "exposure": "maximize",
    "turnover": "minimize",
    "n_trades": "maximize",
    "win_rate": "maximize",
    "profit_factor": "maximize",
    "final_equity": "maximize",
    "costs_paid": "minimize",
    "ruined": "minimize",
    "skewness": "maximize",
    "kurtosis": "minimize",
    "liquidations": "minimize",
    "carry": "maximize",
    "expectancy": "maximize",
    "average_holding": "maximize",
    "losing_streak": "minimize",
    "drawdown_duration": "minimize",
    "ulcer_index": "minimize",
    "omega": "maximize",
}
"""The direction in which each metric is better; the default of a study file."""

METRIC_BOUNDS: dict[str, tuple[float, float]] = {
    "volatility": (0.0, math.inf),
    "max_drawdown": (0.0, math.inf),
    "exposure": (0.0, math.inf),
    "turnover": (0.0, math.inf),
    "n_trades": (0.0, math.inf),
    "win_rate": (0.0, 1.0),
    "profit_factor": (0.0, math.inf),
    "ruined": (0.0, 1.0),
    "kurtosis": (1.0, math.inf),
    "liquidations": (0.0, math.inf),
    "average_holding": (0.0, math.inf),
    "losing_streak": (0.0, math.inf),
    "drawdown_duration": (0.0, math.inf),
    "ulcer_index": (0.0, math.inf),
    "omega": (0.0, math.inf),
}
"""The least and the greatest value of metrics that cannot have every value; drawdowns are positive."""

METRICS: tuple[str, ...] = tuple(METRIC_DIRECTIONS)
"""Metrics in the order of the result columns."""

SET_COLUMNS = ("set", "trial", "strategy", "classifier", "feasible", "score", "alpha", "alpha_t")
"""Result columns that are neither a parameter nor a metric; no parameter may have such a name."""

MAX_BLOCKS = 24
"""Most blocks of bars for the statistics of selection: they have 2.7 million symmetric splits."""
