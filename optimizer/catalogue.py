"""What can be set in a study: every strategy, classifier and risk parameter, with its bounds.

The study file, the search space, the sweep and the result tables all read this one list.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal["feature", "signal", "regime", "risk", "fixed"]


@dataclass(frozen=True)
class Parameter:
    """One parameter of a strategy, a classifier or the risk manager.

    Attributes:
        name: its key in the study file.
        kind: int or float.
        default: used where the study file is silent.
        low, high: bounds, both allowed.
        role: what a change of it touches: ``feature`` (a lookback: other feature columns),
            ``signal`` or ``risk`` (nothing but the lane itself), ``regime`` (another fit), or
            ``fixed`` (one value for the whole study).
        summary: one line for the study file's reader, with the unit.
    """

    name: str
    kind: type[int] | type[float]
    default: float
    low: float
    high: float
    role: Role
    summary: str


def _lookback(name: str, default: int, summary: str, low: int = 1) -> Parameter:
    return Parameter(name, int, default, low, 100_000, "feature", summary)


def _average_cross(fast: int, slow: int) -> tuple[Parameter, ...]:
    return (
        _lookback("fast", fast, "bars of the fast average"),
        _lookback("slow", slow, "bars of the slow average"),
        Parameter("band", float, 0.0, 0.0, 1.0, "signal", "dead band around the cross, a fraction"),
    )


STRATEGIES: dict[str, tuple[Parameter, ...]] = {
    "momentum": (
        _lookback("lookback", 60, "bars over which the return is taken"),
        Parameter("threshold", float, 0.0, 0.0, 100.0, "signal", "return that opens, a fraction"),
    ),
    "mean_reversion": (
        _lookback("lookback", 14, "bars of the RSI"),
        Parameter("oversold", float, 30.0, 0.0, 100.0, "signal", "RSI below which it buys"),
        Parameter("overbought", float, 70.0, 0.0, 100.0, "signal", "RSI above which it sells"),
    ),
    "sma_cross": _average_cross(20, 100),
    "ema_cross": _average_cross(12, 26),
    "breakout": (
        _lookback("lookback", 20, "bars of the channel's middle, a simple average"),
        _lookback("atr_lookback", 14, "bars of the average true range"),
        Parameter("width", float, 2.0, 0.0, 100.0, "signal", "half width of the channel, in ATR"),
    ),
}

_FIT = (
    Parameter("train_bars", int, 504, 30, 1_000_000, "regime", "bars of each training window"),
    Parameter("refit_bars", int, 126, 1, 1_000_000, "regime", "bars between two fits"),
)
CLASSIFIERS: dict[str, tuple[Parameter, ...]] = {
    "none": (),
    "hmm": (
        Parameter("lookback", int, 30, 2, 100_000, "regime", "bars of the observed features"),
        *_FIT,
    ),
    "svm": (
        Parameter("lookback", int, 30, 2, 100_000, "regime", "bars of the observed features"),
        Parameter("horizon", int, 5, 1, 10_000, "regime", "bars of the forward return it learns"),
        *_FIT,
    ),
}

RISK: tuple[Parameter, ...] = (
    Parameter("kelly_fraction", float, 0.25, 0.0, 1e6, "risk", "share of the full Kelly size"),
    Parameter("max_exposure", float, 1.0, 0.0, 100.0, "risk", "gross exposure, times equity"),
    Parameter("bull_multiplier", float, 1.2, 0.0, 100.0, "risk", "size in a bull regime"),
    Parameter("neutral_multiplier", float, 1.0, 0.0, 100.0, "risk", "size in a neutral regime"),
    Parameter("bear_multiplier", float, 0.6, 0.0, 100.0, "risk", "size in a bear regime"),
    Parameter("correlation_penalty", float, 0.5, 0.0, 1.0, "risk", "cut at a correlation of 1"),
    Parameter("min_order_size", float, 1.0, 0.0, 1e15, "risk", "least order, units"),
    Parameter("rebalance_band", float, 0.1, 0.0, 1.0, "risk", "least change, share of target"),
    Parameter("stop_loss", float, 0.0, 0.0, 1.0, "risk", "loss from entry that closes; 0 is off"),
    Parameter("take_profit", float, 0.0, 0.0, 100.0, "risk", "gain that closes; 0 is off"),
    Parameter("trailing_stop", float, 0.0, 0.0, 1.0, "risk", "fall from the best price; 0 is off"),
    _lookback("volatility_lookback", 20, "bars of the volatility that sizes", low=2),
    Parameter("ewma_decay", float, 0.94, 0.0, 0.999999, "fixed", "decay of portfolio variance"),
    Parameter("lot_size", float, 1.0, 1e-12, 1e12, "fixed", "quantities are multiples of it"),
    Parameter("correlation_lookback", int, 60, 3, 100_000, "fixed", "bars of the correlation"),
    Parameter("correlation_exact_symbols", int, 32, 1, 10_000, "fixed", "more: refreshed rarely"),
    Parameter("correlation_refresh", int, 20, 1, 100_000, "fixed", "bars between refreshes"),
)


def column(owner: str, name: str) -> str:
    """Name of a parameter in results and constraints: ``momentum_lookback``; risk has no prefix."""
    return name if owner == "risk" else f"{owner}_{name}"


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
}
"""The direction in which each metric is better, used where a study file gives none."""

METRICS: tuple[str, ...] = tuple(METRIC_DIRECTIONS)
"""Metrics in the order of the result columns."""

SET_COLUMNS = ("set", "trial", "strategy", "classifier", "feasible", "score")
"""Result columns that are neither a parameter nor a metric; no parameter may have such a name."""

MAX_BLOCKS = 24
"""Most blocks of bars of the statistics of selection: 2.7 million symmetric splits."""
