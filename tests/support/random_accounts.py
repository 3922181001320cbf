"""Random accounts of the reference broker, by the options of which each combination is compiled."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from optimizer.catalogue import STOPS, STOPS_ATR
from optimizer.types import Bars
from tests.support.accounts import Case
from tests.support.entries_and_exits import in_sessions, wild_finer_bars, wild_rules
from tests.support.universe import mild_presence, random_members, with_present

SIZINGS = ("kelly", "volatility_target", "weight", "equal_weight", "risk_per_trade")
STRATEGIES = ("momentum", "mean_reversion", "sma_cross", "breakout")


@dataclass(frozen=True)
class Variant:
    """Options of which each combination is compiled on its own; the tests stay with some of them.

    ``extended`` is what it is in the simulation. ``mode`` says where additions fill: at the close of the
    bar that decides them, at the open, or at a price at which they wait.
    """

    fees: bool
    stops: bool
    short: bool
    extended: bool
    mode: Literal["close", "open", "waits"]
    correlated: bool

    def has(self, name: str) -> bool:
        """Whether an option is on, by its name in ``EVENTS_OF``."""
        return self.mode == "waits" if name == "waits" else bool(getattr(self, name))


ON, OFF = True, False

VARIANTS = (
    Variant(ON, ON, ON, ON, "waits", ON),
    Variant(ON, ON, OFF, ON, "close", OFF),
    Variant(ON, ON, OFF, ON, "open", OFF),
    Variant(OFF, ON, OFF, ON, "waits", OFF),
    Variant(OFF, ON, ON, ON, "waits", OFF),
    Variant(OFF, ON, OFF, ON, "open", OFF),
    Variant(OFF, OFF, OFF, ON, "open", OFF),
    Variant(OFF, ON, OFF, ON, "close", OFF),
    Variant(OFF, OFF, ON, OFF, "close", ON),
    Variant(ON, ON, ON, OFF, "open", ON),
    Variant(OFF, ON, ON, ON, "open", OFF),
    Variant(ON, OFF, OFF, OFF, "waits", ON),
)
"""Any two options meet in each of their ways; the accounts by hand need no other variants."""


def wild_bars(rng: np.random.Generator, least: int) -> Bars:
    """Random walks with jumps, gaps, halts, still stretches, twins, and symbols without volume.

    There are ``least`` to six symbols.
    """
    n_bars, n_symbols = int(rng.integers(80, 161)), int(rng.integers(least, 7))
    shape = (n_bars, n_symbols)
    scale = rng.uniform(0.005, 0.05)
    moves = rng.normal(0.0, scale, shape) + rng.normal(0.0, scale, (n_bars, 1))
    moves += rng.normal(0.0, scale, shape) * 5.0 * (rng.random(shape) < 0.03)
    moves += np.repeat(rng.normal(0.0, scale / 3, (n_bars // 20 + 1, n_symbols)), 20, 0)[:n_bars]
    # Crashes and squeezes of all symbols at once; some end an account.
    moves += (rng.random((n_bars, 1)) < 0.03) * rng.normal(0.0, 0.3, (n_bars, 1))
    for s in range(n_symbols):
        if rng.random() < 0.3:
            start = int(rng.integers(0, n_bars))
            moves[start : start + int(rng.integers(2, 20)), s] = 0.0
    still = moves == 0.0
    close = rng.uniform(5.0, 200.0, n_symbols) * np.exp(np.cumsum(moves, axis=0))
    before = np.vstack([close[:1], close[:-1]])
    # An open lies anywhere between the two closes and beyond, or at the previous close.
    share = rng.choice([0.0, 0.5, 1.0], shape) + rng.normal(0.0, 0.3, shape)
    open_ = before * np.exp(moves * share)
    high = np.maximum(open_, close) * np.exp(np.abs(rng.normal(0.0, scale / 2, shape)) * ~still)
    low = np.minimum(open_, close) * np.exp(-np.abs(rng.normal(0.0, scale / 2, shape)) * ~still)
    volume = np.round(np.exp(rng.normal(7.0, 1.0, shape))).astype(np.float64)
    volume[rng.random(shape) < rng.choice([0.0, 0.05, 0.3])] = 0.0
    volume[:, rng.random(n_symbols) < 0.15] = 0.0
    if n_symbols > 1 and rng.random() < 0.2:
        for table in (open_, high, low, close, volume):
            table[:, 1] = table[:, 0]
    days = np.sort(rng.choice(2 * n_bars, n_bars, replace=False)).astype("timedelta64[D]")
    return Bars(
        tuple("ABCDEF"[:n_symbols]),
        (np.datetime64("2018-01-01") + days).astype("datetime64[ns]"),
        *(open_, high, low, close, volume),
        bars_per_year=float(rng.choice([252.0, 365.0])),
    )


def some(rng: np.random.Generator, share: float, low: float, high: float) -> float:
    """A number from a range in a share of all cases, otherwise 0."""
    return float(rng.uniform(low, high)) if rng.random() < share else 0.0


def by_symbol(
    rng: np.random.Generator, bars: Bars, low: float, high: float
) -> float | dict[str, float]:
    """One number, or one for some symbols and a default."""
    if rng.random() < 0.6:
        return float(rng.uniform(low, high))
    named = [name for name in bars.symbols if rng.random() < 0.5]
    return {name: float(rng.uniform(low, high)) for name in [*named, "default"]}


def wild_parameters(
    rng: np.random.Generator, variant: Variant, sizing: str, leverage: float
) -> dict[str, Any]:
    strategy = str(rng.choice(STRATEGIES))
    lookback, longer = int(rng.integers(2, 8)), int(rng.integers(8, 20))
    own = {
        "momentum": {"lookback": lookback, "threshold": some(rng, 0.5, 0.0, 0.05)},
        "mean_reversion": {"lookback": lookback, "oversold": 40.0, "overbought": 60.0},
        "sma_cross": {"fast": lookback, "slow": longer, "band": float(rng.uniform(1e-4, 0.02))},
        "breakout": {"lookback": longer, "atr_lookback": lookback, "width": rng.uniform(0.2, 1.5)},
    }[strategy]
    # Some accounts go all in, so that margin calls and ruin come up.
    reckless = leverage > 2.0 and rng.random() < 0.7
    tightness = (0.9 if reckless else float(rng.choice([0.1, 0.3, 0.9]))) * variant.stops
    return {
        "strategy": strategy,
        **{f"{strategy}_{name}": value for name, value in own.items()},
        "kelly_fraction": float(rng.uniform(0.1, 4.0)),
        "expected_sharpe": float(rng.uniform(0.3, 3.0)),
        "volatility_target": float(rng.uniform(0.05, 2.0)),
        "weight": 4.0 if reckless else float(rng.uniform(0.05, 2.0)),
        "risk_per_trade": float(rng.uniform(0.005, 0.05)),
        "max_exposure": leverage * (1.0 if reckless else float(rng.choice([1.0, 0.9, 0.5]))),
        "max_weight": 4.0 if reckless else float(rng.choice([0.2, 0.6, 1.0, 4.0])),
        "max_positions": int(rng.choice([0, 0, 1, 2, 3])) * variant.extended,
        "neutral_multiplier": float(rng.choice([1.0, 0.7])),
        "correlation_penalty": float(rng.uniform(0.2, 1.0)) if variant.correlated else 0.0,
        "correlation_lookback": int(rng.integers(5, 15)),
        "correlation_refresh": int(rng.integers(1, 6)),
        "min_order_size": some(rng, 0.5, 0.0, 30.0),
        "rebalance_band": some(rng, 0.7, 0.0, 0.4),
        "stop_loss": float(rng.uniform(0.1, 1.0)) * tightness,
        "take_profit": some(rng, 0.5, 0.1, 3.0) * tightness,
        "trailing_stop": some(rng, 0.5, 0.1, 1.0) * tightness,
        "volatility_lookback": int(rng.integers(2, 12)),
        "ewma_decay": float(rng.uniform(0.8, 0.99)),
        "lot_size": float(rng.choice([1.0, 1.0, 0.1, 10.0])),
    }


def wild_columns(rng: np.random.Generator, bars: Bars) -> dict[str, npt.NDArray[np.float64]]:
    """Funding, dividends, both or none."""
    shape = bars.close.shape
    funding = rng.normal(0.0, 0.002, shape) * (rng.random(shape) < 0.7)
    dividends = bars.close * rng.uniform(0.0, 0.1, shape) * (rng.random(shape) < 0.03)
    chosen = str(rng.choice(["", "funding", "dividends", "funding dividends"])).split()
    there = 1.0 if bars.present is None else bars.present
    return {
        name: values * there
        for name, values in (("funding", funding), ("dividends", dividends))
        if name in chosen
    }


def changed_universe(
    bars: Bars, seed: int, folder: Path, *, ends: bool
) -> tuple[Bars, Path | None]:
    """In half of all cases symbols lack bars; in a third of all they leave an index and return.

    Without ``ends`` each symbol has the last bar.
    """
    rng = np.random.default_rng([20240607, seed, 1])
    if bars.n_symbols > 1 and rng.random() < 0.5:
        present = mild_presence(bars.n_bars, bars.n_symbols, rng)
        if not ends:
            present[-1] = 1
        if (bars.close[:, 1] == bars.close[:, 0]).all():
            present[:, 1] = present[:, 0]  # the rounding of unlike histories would rank twins
        bars = replace(with_present(bars, present), has_volume=None)
    if rng.random() < 2.0 / 3.0:
        return bars, None
    return bars, random_members(folder / f"members_{seed}.csv", bars, rng)


def wild_costs(rng: np.random.Generator, variant: Variant, bars: Bars) -> dict[str, Any]:
    """Costs, and instruments of some symbols."""
    instruments = {
        name: {
            "lot_size": float(rng.choice([0.01, 1.0, 5.0])),
            "multiplier": float(rng.choice([1.0, 1.0, 0.5, 20.0])),
            "tick_size": 0.01,
        }
        for name in bars.symbols
        if rng.random() < 0.5
    }
    costs: dict[str, Any] = {
        "fill": "close" if variant.mode == "close" else "next_open",
        "initial_cash": float(rng.choice([3_000.0, 100_000.0, 2_000_000.0])),
        "commission_bps": by_symbol(rng, bars, 0.0, 30.0),
        "slippage_bps": by_symbol(rng, bars, 0.0, 30.0),
        "spread_bps": by_symbol(rng, bars, 0.0, 20.0),
        "spread_ticks": {
            **{name: float(rng.uniform(0.0, 5.0)) for name in instruments},
            "default": 0.0,
        },
    }
    if variant.fees:
        limited = rng.random() < 0.5
        # A fill far above the volume would have so much impact that a short is opened at a price of 0.
        impact = 0.5 if limited else 0.005
        costs |= {
            "commission_per_unit": by_symbol(rng, bars, 0.0, 0.02),
            "commission_minimum": by_symbol(rng, bars, 0.0, 8.0) if rng.random() < 0.6 else 0.0,
            "commission_per_order": by_symbol(rng, bars, 0.0, 4.0) if rng.random() < 0.6 else 0.0,
            "impact": by_symbol(rng, bars, 0.0, impact) if rng.random() < 0.6 else 0.0,
            "max_volume_share": by_symbol(rng, bars, 0.02, 0.9) if limited else 0.0,
        }
    return {"costs": costs, "instruments": instruments}


def wild_case(seed: int, folder: Path) -> Case:
    """A random account, the same for each seed; a file of members goes to ``folder``."""
    rng = np.random.default_rng([20240607, seed])
    variant = VARIANTS[seed % len(VARIANTS)]
    bars = wild_bars(rng, 2 if variant.correlated else 1)
    leverage = 1.0
    if variant.extended and rng.random() < (0.7 if variant.short else 0.4):
        leverage = float(rng.uniform(1.5, 4.0))
    sizing = str(rng.choice(SIZINGS if variant.stops else SIZINGS[:4]))
    allocation = str(rng.choice(["additions", "targets"]))
    keys = wild_costs(rng, variant, bars)
    account = {
        "leverage": leverage,
        "maintenance_margin": float(rng.choice([0.0, 0.25, 0.9])) * min(1.0, 0.99 / leverage),
        "financing_bps_year": float(rng.uniform(0.0, 3_000.0)),
        "cash_rate": float(rng.choice([0.0, 0.05, -0.01])),
        "borrow_bps_year": by_symbol(rng, bars, 0.0, 3_000.0),
    }
    if not variant.extended:
        sizing, allocation, account["cash_rate"] = "kelly", "additions", 0.0
    elif sizing == "kelly":
        allocation = "targets"
    parameters = wild_parameters(rng, variant, sizing, leverage)
    waits = variant.mode == "waits"
    parameters |= wild_rules(rng, stops=variant.stops, waits=waits)
    entry = str(rng.choice(["limit", "stop"])) if waits else "market"
    session_exit = bool(rng.random() < 0.2)
    if session_exit:
        bars = in_sessions(rng, bars)
    if entry == "limit" and rng.random() < 0.6:
        keys["costs"]["maker_bps"] = by_symbol(rng, bars, -10.0, 20.0)
    # Some finer bars lie in bars that their symbol lacks.
    finer = wild_finer_bars(rng, bars) if rng.random() < 0.25 else None
    if (
        not waits
        and not variant.short
        and leverage == 1.0
        and not any(map(parameters.get, (*STOPS, *STOPS_ATR)))
    ):
        finer = None  # nothing would read them
    bars, members = changed_universe(bars, seed, folder, ends=variant.extended)
    columns = wild_columns(rng, bars) if variant.extended else {}
    keys |= {
        "account": account,
        "entry": entry,
        "session_exit": session_exit,
        "sizing": sizing,
        "allocation": allocation,
        "allow_short": variant.short,
        "members": members,
    }
    return Case(bars, parameters, keys, columns, finer)
