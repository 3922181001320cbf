"""The sweep against the broker of docs/account.md, fill by fill, and both against values by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import isclose
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest

from optimizer.sweep.single_set import BacktestResult, backtest
from optimizer.types import Bars
from tests.reference.broker import Outcome, run
from tests.support.entries_and_exits import in_sessions, wild_finer_bars, wild_rules, write_bars
from tests.support.universe import mild_presence, random_members, with_present

EVENTS = {"order", "lapsed", "cut", "below_minimum", "inside_band", "waits", "leaves", "closing"}
"""What the accounts of each variant must have been through at least once, by the broker's names."""

EVENTS_OF = {
    "fees": {"volume_limited"},
    "stops": {"stop", "barred", "cooling", "timed"},
    "short": {"turns"},
    "extended": {"targets_scaled", "no_place"},
    "waits": {"entry", "kept", "reset", "waits_on_hold"},
}
"""Likewise, where an option is on."""

RARE = {
    *("end", "waits_held", "leaves_held", "still", "additions_scaled", "stopped_at_once"),
    *("liquidation", "ruined"),
}
"""What some accounts of all must have been through."""

SIZINGS = ("kelly", "volatility_target", "weight", "equal_weight", "risk_per_trade")
STRATEGIES = ("momentum", "mean_reversion", "sma_cross", "breakout")

CARRY = ("financing_bps_year", "cash_rate", "borrow_bps_year")

N_ACCOUNTS = 204

KINDS = {"entry": "order"}
"""Kinds of fills by the broker's names that the sweep calls otherwise."""


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


@dataclass(frozen=True)
class Case:
    """What ``backtest`` and the broker take; ``columns``: funding, dividends."""

    bars: Bars
    parameters: dict[str, Any]
    keys: dict[str, Any]
    columns: dict[str, Any] = field(default_factory=dict)
    finer: Bars | None = None

    def paid(self) -> npt.NDArray[np.float64]:
        """What a unit held at the close before is paid in each bar."""
        previous = np.vstack([self.bars.close[:1], self.bars.close[:-1]])
        return np.asarray(
            self.columns.get("dividends", 0.0) - self.columns.get("funding", 0.0) * previous
        )

    def sweep(self) -> BacktestResult:
        bars = replace(self.bars, payments=self.paid()) if self.columns else self.bars
        if self.finer is None:
            return backtest(bars, self.parameters, **self.keys)
        with TemporaryDirectory() as folder:
            path = write_bars(self.finer, Path(folder) / "finer.parquet")
            return backtest(bars, self.parameters, **self.keys, fills=path)

    def broker(self) -> Outcome:
        return run(self.bars, self.parameters, **self.keys, **self.columns, fills=self.finer)


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
        "correlation_exact_symbols": int(rng.choice([1, 32])),
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


def differences(case: Case, wanted: Outcome, got: BacktestResult) -> Iterator[str]:
    """Where the sweep and the broker differ: the first fill, and the first bar of the equity."""
    bars = case.bars
    at = np.searchsorted(bars.timestamps, got.fills["timestamp"].to_numpy("datetime64[ns]"))
    names = [bars.symbols[fill.symbol] for fill in wanted.fills]
    mine = [
        (fill.bar, name, KINDS.get(fill.kind, fill.kind), fill.lots)
        for fill, name in zip(wanted.fills, names, strict=True)
    ]
    theirs = list(
        zip(at.tolist(), got.fills["symbol"], got.fills["kind"], got.fills["lots"], strict=True)
    )
    scale = float(case.keys["costs"]["initial_cash"])
    prices, costs = got.fills["price"].to_numpy(float), got.fills["cost"].to_numpy(float)
    for i, (one, other) in enumerate(zip(mine, theirs, strict=False)):
        if one != other:
            yield f"fill {i}: broker {one}, sweep {other}"
            return
        fill = wanted.fills[i]
        if not isclose(fill.price, prices[i], rel_tol=1e-9):
            yield f"fill {i}, {one}: price {fill.price}, sweep {prices[i]}"
            return
        # The cost is a difference of two values, and has their rounding.
        if not isclose(fill.cost, costs[i], rel_tol=1e-9, abs_tol=1e-11 * abs(fill.flow)):
            yield f"fill {i}, {one}: cost {fill.cost}, sweep {costs[i]}"
            return
    if len(mine) != len(theirs):
        i = min(len(mine), len(theirs))
        yield f"fill {i}: broker {mine[i : i + 1]}, sweep {theirs[i : i + 1]}"
        return
    equity = got.equity.to_numpy()
    if len(equity) != len(wanted.equity):
        yield f"{len(wanted.equity)} bars, sweep {len(equity)}"
        return
    for t in np.flatnonzero(~np.isclose(equity, wanted.equity, rtol=1e-9, atol=1e-9 * scale))[:1]:
        yield f"equity at bar {wanted.first + t}: {wanted.equity[t]!r}, sweep {equity[t]!r}"


@pytest.mark.parametrize("place", range(len(VARIANTS)))
def test_random_accounts(place: int, tmp_path: Path) -> None:
    variant, seen, wrong = VARIANTS[place], Counter[str](), []
    for seed in range(place, N_ACCOUNTS, len(VARIANTS)):
        case = wild_case(seed, tmp_path)
        wanted = case.broker()
        seen.update(wanted.events())
        wrong += [f"account {seed}: {line}" for line in differences(case, wanted, case.sweep())]
    assert not wrong, "\n".join(wrong)
    events = EVENTS.union(*(EVENTS_OF[name] for name in EVENTS_OF if variant.has(name)))
    assert not events - seen.keys()


def test_money_is_conserved(tmp_path: Path) -> None:
    seen = Counter[str]()
    for seed in range(0, N_ACCOUNTS, 5):
        case = wild_case(seed, tmp_path)
        out = case.broker()
        seen.update(out.events())
        flows = sum(fill.flow for fill in out.fills)
        initial = case.keys["costs"]["initial_cash"]
        left = pytest.approx(out.cash[-1], rel=1e-9, abs=1e-9 * initial)
        assert initial + flows + out.carry == left, seed
    assert not RARE - seen.keys()


WITH_FEES = [i for i, one in enumerate(VARIANTS) if one.fees and one.mode != "close"]
"""Places of variants of which the next test needs no others."""


@pytest.mark.parametrize(
    "seed", [seed for seed in range(N_ACCOUNTS // 2) if seed % len(VARIANTS) in WITH_FEES]
)
def test_equity_of_the_sweep_is_what_its_fills_leave(seed: int, tmp_path: Path) -> None:
    case = wild_case(seed, tmp_path)
    commission = {"commission_bps": 9.0, "commission_minimum": 2.0, "slippage_bps": 0.0}
    account = {**case.keys["account"], **dict.fromkeys(CARRY, 0.0)}
    keys = {**case.keys, "costs": commission, "account": account}
    case = replace(case, keys=keys)
    got = case.sweep()
    money = 100_000.0
    symbols, paid = case.bars.symbols, np.broadcast_to(case.paid(), case.bars.close.shape)
    units = dict.fromkeys(symbols, 0.0)
    worth = {name: case.keys["instruments"].get(name, {}).get("multiplier", 1.0) for name in units}
    rows = zip(
        *(got.fills[name] for name in ("timestamp", "symbol", "quantity", "price", "cost")),
        strict=True,
    )
    fills: dict[Any, list[tuple[str, float, float, float]]] = {}
    for time, *fill in rows:
        fills.setdefault(time, []).append(tuple(fill))
    first = len(case.bars.close) - len(got.equity)
    for bar, time in enumerate(got.equity.index, first):
        money += sum(units[name] * paid[bar, s] * worth[name] for s, name in enumerate(symbols))
        for symbol, quantity, price, cost in fills.pop(time, []):
            money -= quantity * price * worth[symbol] + cost
            units[symbol] += quantity
    assert not fills
    for s, name in enumerate(symbols):
        money += units[name] * case.bars.close[-1, s] * worth[name]
    assert money == pytest.approx(got.equity.iloc[-1], rel=1e-9, abs=1e-4)


FAR_STOP = {"stop_loss": 0.99}
"""Nothing reaches it: with it, accounts by hand need no simulation that ``VARIANTS`` does not have."""


def plain_case(
    prices: dict[str, list[float]], days: float = 1.0, n_bars: int = 12, **keys: Any
) -> Case:
    """Bars, twelve by default, that end with ``prices``, still before; each opens at the close before it.

    Long from the first rise on, with no costs but those in ``keys``.
    """
    given = np.array(list(prices.values())).T
    close = np.vstack([np.repeat(given[:1], n_bars - len(given), axis=0), given])
    open_ = np.vstack([close[:1], close[:-1]])
    step = np.timedelta64(round(days * 86_400), "s")
    times = np.datetime64("2020-01-01T00:00:00") + np.arange(len(close)) * step
    high, low = np.maximum(open_, close), np.minimum(open_, close)
    bars = Bars(
        tuple(prices),
        times.astype("datetime64[ns]"),
        *(open_, high, low, close, np.full(close.shape, 1e6)),
        bars_per_year=252.0,
    )
    parameters = {
        "strategy": "momentum",
        "momentum_lookback": 1,
        "volatility_lookback": 2,
        "rebalance_band": 0.0,
        "correlation_penalty": 0.0,
        **keys.pop("parameters", {}),
    }
    free = {"commission_bps": 0.0, "slippage_bps": 0.0, "initial_cash": 10_000.0}
    account = {**dict.fromkeys(CARRY, 0.0), **keys.pop("account", {})}
    return Case(
        bars, parameters, {"costs": {**free, **keys.pop("costs", {})}, "account": account, **keys}
    )


def both(case: Case) -> tuple[list[tuple[int, str, str, float, float]], npt.NDArray[np.float64]]:
    """Fills (bar, symbol, kind, lots, price) and equity, on which sweep and broker agree.

    The last bar is -1.
    """
    wanted, got = case.broker(), case.sweep()
    assert list(differences(case, wanted, got)) == []
    fills: list[tuple[int, str, str, float, float]] = [
        (
            fill.bar - case.bars.n_bars,
            case.bars.symbols[fill.symbol],
            fill.kind,
            fill.lots,
            fill.price,
        )
        for fill in wanted.fills
    ]
    return fills, np.array(got.equity, dtype=np.float64)


def test_interest_alone() -> None:
    # A tenth of a year a bar, at 5% a year; the first decision is at bar 2.
    case = plain_case({"A": [100.0]}, days=36.525, account={"cash_rate": 0.05}, sizing="weight")
    fills, equity = both(case)
    assert fills == []
    assert equity == pytest.approx(10_000.0 * 1.005 ** np.arange(1, 11), rel=1e-12)


@pytest.mark.parametrize("allow_short", [False, True], ids=["long", "short"])
def test_funding_and_dividends(*, allow_short: bool) -> None:
    """50 units, bought at 100 or sold short there, are held at the closes 100, 110 and 120.

    Over the bar of 110 they are paid 2 each. Over that of 120 funding of 1% of 110 is due, 1.10 each, and
    over the last one -0.5% of 120, so that longs are paid 0.60 each.
    """
    prices = [99.0, 100.0, 100.0, 110.0, 120.0, 120.0]
    case = plain_case(
        {"A": [200.0 - price for price in prices] if allow_short else prices},
        parameters={"weight": 0.5, "rebalance_band": 0.9, **(FAR_STOP if allow_short else {})},
        sizing="weight",
        allow_short=allow_short,
    )
    funding, dividends = np.zeros((12, 1)), np.zeros((12, 1))
    # Nothing was held at the close before the bar of the purchase.
    dividends[-5:-2] = [[7.0], [5.0], [2.0]]
    funding[-2:] = [[0.01], [-0.005]]
    fills, equity = both(replace(case, columns={"funding": funding, "dividends": dividends}))
    if allow_short:
        # Shorts pay dividends and get funding; the closes before are 90 and 80.
        assert fills == [(-4, "A", "order", -50.0, 100.0)]
        steps = [500.0 - 100.0, 500.0 + 45.0, -20.0]
    else:
        assert fills == [(-4, "A", "order", 50.0, 100.0)]
        steps = [500.0 + 100.0, 500.0 - 55.0, 30.0]
    assert np.diff(equity[-4:]) == pytest.approx(steps)
    assert equity[-4] == pytest.approx(10_000.0)


def test_carry_counts_payments_and_trades_do_not() -> None:
    """20 units bought at 100 are sold at 99, at the open of the bar in which they are paid 3 each."""
    case = plain_case(
        {"A": [99.0, 100.0, 100.0, 99.0, 100.0, 100.0]},
        parameters={"weight": 0.2, "rebalance_band": 0.9},
        sizing="weight",
    )
    dividends = np.zeros((12, 1))
    dividends[-2] = 3.0
    case = replace(case, columns={"dividends": dividends})
    fills, equity = both(case)
    assert [fill[:4] for fill in fills[:2]] == [
        (-4, "A", "order", 20.0),
        (-2, "A", "order", -20.0),
    ]
    found = case.sweep().in_sample
    assert found["carry"] == pytest.approx(60.0)
    assert found["final_equity"] == equity[-1] == pytest.approx(10_000.0 + 60.0 - 20.0)
    assert found["profit_factor"] == 0.0


@pytest.mark.parametrize(("low", "liquidated"), [(66.0, True), (67.0, False)])
def test_margin_call(low: float, *, liquidated: bool) -> None:
    """200 units for 20,000, of which 10,000 are borrowed: at 66 equity is 3,200, a quarter 3,300."""
    case = plain_case(
        {"A": [99.0, 100.0, 90.0]},
        parameters={"weight": 2.0, "max_weight": 2.0, "max_exposure": 2.0, **FAR_STOP},
        account={"leverage": 2.0, "maintenance_margin": 0.25},
        sizing="weight",
    )
    lows = case.bars.low.copy()
    lows[-1] = low
    fills, equity = both(replace(case, bars=replace(case.bars, low=lows)))
    bought = (-1, "A", "order", 200.0, 100.0)
    if liquidated:
        assert fills == [bought, (-1, "A", "liquidation", -200.0, 66.0)]
        assert equity[-2:] == pytest.approx([10_000.0, 3_200.0])
    else:
        assert fills == [bought]
        assert equity[-2:] == pytest.approx([10_000.0, 8_000.0])


def test_gap_cuts_all_additions_alike() -> None:
    """500 A at 10 and 250 B at 20 are ordered; A opens at 12.

    Needs are 6,060 and 5,060, fixed are 120: c = (10,000 - 120) / (11,120 - 120) = 0.89818, which
    leaves 449.09 and 224.5.
    """
    case = plain_case(
        {"A": [9.0, 10.0, 12.0], "B": [19.0, 20.0, 20.0]},
        parameters=FAR_STOP,
        costs={"commission_per_order": 60.0},
        sizing="equal_weight",
    )
    opens = case.bars.open.copy()
    opens[-1] = [12.0, 20.0]
    fills, equity = both(replace(case, bars=replace(case.bars, open=opens)))
    assert fills == [(-1, "A", "order", 449.0, 12.0), (-1, "B", "order", 224.0, 20.0)]
    assert equity[-2:] == pytest.approx([10_000.0, 9_880.0])


@pytest.mark.parametrize("fill", ["next_open", "close"])
def test_commission_ruins(fill: str) -> None:
    """100 units fall from 60 to 20; the sale brings 2,000 and costs 4,000."""
    case = plain_case(
        {"A": [55.0, 60.0, 60.0, 20.0, 20.0, 20.0]},
        parameters={"weight": 0.6, **FAR_STOP},
        costs={"commission_per_order": 4_000.0, "fill": fill, "initial_cash": 10_000.0},
        sizing="weight",
    )
    fills, equity = both(case)
    # The purchase costs 4,000 too, and all of the cash.
    assert fills[0][3:] == (100.0, 60.0)
    assert fills[1][3:] == (-100.0, 20.0)
    assert equity[-1] == pytest.approx(-2_000.0)


def test_sale_gets_at_least_nothing() -> None:
    """Half the spread is 5, and the price falls to 3."""
    case = plain_case(
        {"A": [55.0, 60.0, 60.0, 3.0, 3.0, 3.0]},
        parameters={"weight": 0.6},
        costs={"spread_ticks": 1_000.0},
        instruments={"A": {"tick_size": 0.01}},
        sizing="weight",
    )
    fills, equity = both(case)
    assert fills == [(-4, "A", "order", 100.0, 65.0), (-2, "A", "order", -100.0, 0.0)]
    assert equity[-1] == pytest.approx(3_500.0)


def test_leverage_alone_opens_no_shorts() -> None:
    fills, _ = both(
        plain_case({"A": [99.0, 98.0, 97.0]}, parameters=FAR_STOP, account={"leverage": 1.5})
    )
    assert fills == []


def test_margin_call_at_zero() -> None:
    """200 units on 10,000 borrowed: at 49 equity would be -200."""
    case = plain_case(
        {"A": [99.0, 100.0, 90.0]},
        parameters={"weight": 2.0, "max_weight": 2.0, "max_exposure": 2.0, **FAR_STOP},
        account={"leverage": 2.0, "maintenance_margin": 0.0},
        sizing="weight",
    )
    lows = case.bars.low.copy()
    lows[-1] = 49.0
    fills, _ = both(replace(case, bars=replace(case.bars, low=lows)))
    assert fills[1:] == [(-1, "A", "liquidation", -200.0, 49.0)]


def test_volume_share_of_round_numbers() -> None:
    """0.29 x 27,000 is 7,830, and a little less in floating point."""
    case = plain_case(
        {"A": [0.011, 0.012, 0.012]},
        parameters={"weight": 1.0, **FAR_STOP},
        costs={"max_volume_share": 0.29},
        sizing="weight",
    )
    volume = case.bars.volume.copy()
    volume[:] = 27_000.0
    fills, _ = both(replace(case, bars=replace(case.bars, volume=volume)))
    assert fills[0][3] == 7_830.0
