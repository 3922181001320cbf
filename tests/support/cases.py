"""Random studies of one parameter set that use every option of the account."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kernels.codes import SIZINGS
from optimizer.types import Bars, FloatArray
from tests.support.studies import write_bars
from tests.support.universe import mild_presence, random_members, with_present

STRATEGY_SETS: list[dict[str, Any]] = [
    {"strategy": "momentum", "momentum_lookback": 7, "momentum_threshold": 0.01},
    {"strategy": "mean_reversion", "mean_reversion_lookback": 5, "mean_reversion_oversold": 40},
    {"strategy": "sma_cross", "sma_cross_fast": 3, "sma_cross_slow": 9},
    {"strategy": "ema_cross", "ema_cross_fast": 3, "ema_cross_slow": 9, "ema_cross_band": 0.005},
    {"strategy": "breakout", "breakout_lookback": 2, "breakout_atr_lookback": 5},
]


@dataclass(frozen=True)
class Variant:
    """Options that are compiled out where they are off; each combination compiles for seconds."""

    fees: bool
    stops: bool
    margin: bool
    correlated: bool
    entries: bool


VARIANTS = (
    Variant(fees=False, stops=False, margin=False, correlated=False, entries=False),
    Variant(fees=True, stops=True, margin=False, correlated=False, entries=True),
    Variant(fees=False, stops=False, margin=True, correlated=False, entries=False),
    Variant(fees=True, stops=True, margin=True, correlated=True, entries=True),
)


@dataclass(frozen=True)
class Case:
    """A study of one parameter set, as ``backtest`` and ``single_set_study`` take it."""

    bars: Bars
    parameters: dict[str, Any]
    costs: dict[str, Any]
    allow_short: bool
    account: dict[str, Any] = field(default_factory=dict)
    instruments: dict[str, Any] = field(default_factory=dict)
    sizing: str = "kelly"
    allocation: str = "additions"
    entry: str = "market"
    fills: Path | None = None
    members: Path | None = None

    @property
    def more(self) -> dict[str, Any]:
        """What both functions take by name."""
        return {
            "account": self.account,
            "instruments": self.instruments,
            "sizing": self.sizing,
            "allocation": self.allocation,
            "entry": self.entry,
            "fills": self.fills,
            "members": self.members,
        }


def gapping_bars(
    seed: int, n_bars: int, n_symbols: int, jump: float, halts: bool = False, shock: float = 0.0
) -> Bars:
    """Random walks with gaps between the bars.

    With halts, symbols do not trade in some bars, one has no volume at all, and one stands still for a
    while. A shock moves all prices at bar 50, as a logarithm.
    """
    rng = np.random.default_rng(seed)
    steps = rng.normal(0.0, 0.01, (n_bars, n_symbols)) + rng.normal(0.0, 0.01, (n_bars, 1))
    close = 50.0 * np.exp(np.cumsum(steps, axis=0))
    close[50:] *= np.exp(shock)
    volume = np.round(rng.lognormal(9.0, 1.0, close.shape))
    if halts:
        start = int(rng.integers(n_bars // 3, n_bars // 2))
        close[start : start + 15, -1] = close[start, -1]
        volume[rng.random(close.shape) < 0.1] = 0.0
        volume[:, rng.integers(0, n_symbols)] = 0.0
    before = np.vstack([close[:1], close[:-1]])
    open_ = before * np.exp(rng.normal(0.0, jump, close.shape))
    high = np.maximum(open_, close) * (1.0 + rng.random(close.shape) * 0.02)
    low = np.minimum(open_, close) * (1.0 - rng.random(close.shape) * 0.02)
    times = np.datetime64("2020-01-01", "ns") + np.arange(n_bars) * np.timedelta64(1, "D")
    names = tuple(f"S{k}" for k in range(n_symbols))
    return Bars(names, times, open_, high, low, close, volume, 365.0)


def finer_bars(seed: int, bars: Bars) -> Bars:
    """Four finer bars in each bar, within its range, from its open to its close; some are missing."""
    rng = np.random.default_rng(seed)
    n, parts = bars.n_bars, 4
    shape = (n, parts, bars.n_symbols)
    low, high = bars.low[:, None], bars.high[:, None]
    ends = low + rng.random(shape) * (high - low)
    ends[:, -1] = bars.close
    starts = np.concatenate([bars.open[:, None], ends[:, :-1]], axis=1)
    top, bottom = np.maximum(starts, ends), np.minimum(starts, ends)
    top += rng.random(shape) * (high - top)
    bottom -= rng.random(shape) * (bottom - low)
    step = (bars.timestamps[1] - bars.timestamps[0]) // parts
    times = (bars.timestamps[:, None] + np.arange(parts) * step).ravel()
    volume = np.repeat(bars.volume[:, None] / parts, parts, axis=1)
    volume[rng.random(shape) < 0.1] = 0.0
    kept = rng.random(n * parts) < 0.9

    def flat(values: FloatArray) -> FloatArray:
        return np.ascontiguousarray(values.reshape(n * parts, -1)[kept])

    open_, high, low, close, volume = map(flat, (starts, top, bottom, ends, volume))
    return Bars(bars.symbols, times[kept], open_, high, low, close, volume, 365.0 * parts)


def random_payments(rng: np.random.Generator, bars: Bars) -> npt.NDArray[np.float64]:
    """Funding of every bar and a few dividends, as money per unit."""
    previous = np.vstack([bars.close[:1], bars.close[:-1]])
    paid = rng.normal(0.0, 0.001, previous.shape) * previous
    rare = rng.random(previous.shape) < 0.02
    paid += previous * rng.uniform(0.0, 0.1, previous.shape) * rare
    return paid if bars.present is None else paid * bars.present


def random_case(number: int, folder: Path, n_bars: int = 110) -> Case:
    """The case of a number: every fourth has the same variant, all else is drawn.

    A file of members and one of finer bars, if the case has them, are written to ``folder``.
    """
    variant = VARIANTS[number % len(VARIANTS)]
    rng = np.random.default_rng(number)

    def one_of(*choices: Any) -> Any:
        return choices[int(rng.integers(len(choices)))]

    n_symbols = one_of(2, 3, 5) if variant.correlated else one_of(1, 3, 5)
    bars = gapping_bars(
        *(number, n_bars, n_symbols, one_of(0.005, 0.02, 0.1)),
        halts=bool(one_of(0, 1, 1)),
        shock=one_of(0.0, -1.5, 1.5),
    )
    leverage = one_of(1.0, 8.0, 8.0) if variant.margin else 1.0
    allow_short = variant.margin and (leverage == 1.0 or bool(one_of(0, 1)))
    sizing = one_of(*SIZINGS if variant.stops else SIZINGS[:-1])
    parameters: dict[str, Any] = {
        **one_of(*STRATEGY_SETS),
        "kelly_fraction": one_of(0.05, 0.5, 20.0),
        "expected_sharpe": one_of(0.5, 2.0),
        "volatility_target": one_of(0.1, 0.5),
        "weight": one_of(0.1, 0.4, 4.0),
        "risk_per_trade": one_of(0.002, 0.05),
        "max_exposure": leverage * one_of(0.5, 1.0, 1.0),
        "max_weight": one_of(0.3, 10.0),
        "max_positions": one_of(0, 0, 0, 1, 2),
        "bear_multiplier": one_of(0.5, 1.0),
        "neutral_multiplier": one_of(0.9, 1.0),
        "correlation_penalty": one_of(0.3, 0.9) if variant.correlated else 0.0,
        "min_order_size": one_of(0.0, 1.0, 20.0),
        "rebalance_band": one_of(0.0, 0.1, 0.4),
        "volatility_lookback": one_of(4, 10),
        "ewma_decay": one_of(0.9, 0.94),
        "lot_size": one_of(0.01, 1.0, 7.0),
        "correlation_lookback": 6,
        "correlation_refresh": one_of(1, 3),
    }
    if variant.stops:
        parameters |= one_of(
            {"stop_loss": 0.02, "take_profit": 0.03},
            {"stop_loss": 0.03, "trailing_stop": 0.03},
            # Too far to save a margin account from its broker.
            {"stop_loss": 0.9 if sizing == "risk_per_trade" else 0.0, "take_profit": 10.0},
        )
    costs: dict[str, Any] = {
        "fill": one_of("next_open", "close"),
        "initial_cash": 20_000.0,
        "commission_bps": one_of(0.0, 5.0, {"S0": 50.0, "default": 1.0}),
        "slippage_bps": one_of(0.0, 3.0, {"S0": 20.0}),
        "spread_bps": one_of(0.0, 4.0, {"S0": 10.0, "default": 2.0}),
        "spread_ticks": one_of(0.0, 1.0, {"S0": 3.0, "default": 1.0}),
    }
    if variant.fees:
        costs |= {
            "commission_per_unit": one_of(0.0, 0.01, {"S0": 0.05}),
            "commission_minimum": one_of(0.0, 2.0, {"S0": 5.0, "default": 1.0}),
            "commission_per_order": one_of(0.0, 1.0, {"S0": 4.0}),
            "impact": one_of(0.0, 0.5, {"S0": 2.0, "default": 1.0}),
            "max_volume_share": one_of(0.01, 0.05, {"S0": 0.01, "default": 0.2}),
        }
    account = {
        "leverage": leverage,
        "maintenance_margin": one_of(0.0, 0.0, 0.12),
        "financing_bps_year": one_of(0.0, 800.0),
        "cash_rate": one_of(0.0, 0.03),
        "risk_free": one_of(0.0, 0.02),
        "borrow_bps_year": one_of(100.0, {"S0": 3_000.0, "default": 50.0}),
    }
    instruments: dict[str, Any] = one_of(
        {},
        {"S0": {"lot_size": 5.0, "multiplier": 2.0, "tick_size": 0.05}},
        {"S0": {"tick_size": 0.01}, bars.symbols[-1]: {"lot_size": 0.5, "multiplier": 0.1}},
    )
    allocation = one_of("additions", "targets")
    fills = None
    if variant.stops:
        parameters |= {
            "atr_lookback": 5,
            "stop_loss_atr": one_of(0.0, 0.0, 1.0),
            "take_profit_atr": one_of(0.0, 0.0, 2.0),
            "trailing_stop_atr": one_of(0.0, 0.0, 1.5),
            "time_exit": one_of(0, 0, 1, 4),
            "cooldown": one_of(0, 0, 1, 3),
        }
        if one_of(0, 0, 1):
            fills = write_bars(folder / f"finer_{number}.parquet", finer_bars(number, bars))
    entry = "market"
    if variant.entries and costs["fill"] == "next_open" and one_of(0, 1, 1):
        entry = one_of("limit", "stop")
        parameters |= {
            "entry_offset": one_of(0.0, 0.002, 0.01),
            "entry_offset_atr": one_of(0.0, 0.2, 0.5),
            "entry_bars": one_of(1, 2, 5),
        }
        costs["maker_bps"] = one_of(-1.0, 0.0, 3.0, {"S0": 2.0, "default": -0.5})
    bars, members = changed_universe(bars, number, folder)
    if one_of(0, 1):
        bars = replace(bars, payments=random_payments(rng, bars))
    return Case(
        bars,
        parameters,
        costs,
        allow_short,
        account,
        instruments,
        str(sizing),
        str(allocation),
        str(entry),
        fills,
        members,
    )


def changed_universe(bars: Bars, number: int, folder: Path) -> tuple[Bars, Path | None]:
    """In half of all cases symbols lack bars; in a third of all they leave an index and return."""
    rng = np.random.default_rng([number, 1])
    if bars.n_symbols > 1 and rng.random() < 0.5:
        bars = with_present(bars, mild_presence(bars.n_bars, bars.n_symbols, rng))
    if rng.random() < 2.0 / 3.0:
        return bars, None
    return bars, random_members(folder / f"members_{number}.csv", bars, rng)
