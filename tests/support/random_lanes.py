"""Random bars and lanes for tests of the simulation, and the path that a lane takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import inf, sqrt
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pytest

from kernels import layout
from kernels.layout import LANES
from tests.reference.simulation import (
    Costs,
    Instrument,
    Outcome,
    ParameterSet,
    Rules,
    Sizing,
    Strategy,
    simulate_one,
)
from tests.support.lanes import Inputs, Lane, Sweep

FloatArray = npt.NDArray[np.float64]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
SIZINGS: tuple[Sizing, ...] = get_args(Sizing)

N_BARS = 120
FIRST = 7
N_MOST_SYMBOLS = 9

INSTRUMENTS = tuple(
    Instrument(lot_size=(0.5, 0.25, 1.0)[s % 3], multiplier=(1.0, 3.0)[s % 2], tick_size=0.01)
    for s in range(N_MOST_SYMBOLS)
)
"""Contracts without costs of their own."""

OWN_COSTS = (
    Costs(slippage=0.0003),
    Costs(half_spread=0.02, minimum=0.5, impact=0.2),
    Costs(commission=0.0004, per_unit=0.01, per_order=0.3, volume_share=0.3),
)


@dataclass(frozen=True)
class Options:
    """A combination of options. The first four are compiled separately each."""

    stops: bool = False
    allow_short: bool = False
    correlated: bool = False
    fees: bool = False
    leverage: float = 1.0
    maintenance: float = 0.0
    carry: bool = False
    fill_at_close: bool = False
    limited: bool = False
    sizing: Sizing = "kelly"
    allocation: Literal["additions", "targets"] = "additions"
    record: bool = False

    def rules(self) -> Rules:
        """Rules under these options."""
        instruments = INSTRUMENTS
        if self.fees:
            instruments = tuple(
                replace(one, own=OWN_COSTS[s % 3]) for s, one in enumerate(instruments)
            )
        if self.carry:
            instruments = tuple(replace(one, borrow=0.02 * s) for s, one in enumerate(instruments))
        return Rules(
            instruments=instruments,
            leverage=self.leverage,
            maintenance=self.maintenance,
            allow_short=self.allow_short,
            fill_at_close=self.fill_at_close,
            sizing=self.sizing,
            allocation=self.allocation,
        )


ALL = Options(True, True, True, True, leverage=2.0, maintenance=0.3, carry=True, limited=True)
OPTIONS: dict[str, Options] = {
    "plain": Options(),
    "leverage": Options(leverage=3.0, maintenance=0.25, carry=True),
    "stops": Options(stops=True),
    "short": Options(allow_short=True, leverage=5.0),
    "correlated": Options(correlated=True),
    "fees": Options(fees=True, carry=True),
    "all": ALL,
    "all_at_close": replace(ALL, fill_at_close=True),
    "targets": replace(ALL, allocation="targets", sizing="equal_weight"),
    "places": Options(limited=True),
    **{sizing: replace(ALL, sizing=sizing, limited=False) for sizing in SIZINGS[1:]},
}
RECORDED = replace(ALL, record=True)
every_option = pytest.mark.parametrize("name", OPTIONS)

FEATURE_COLUMNS: dict[Strategy, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "momentum": ((0, 1), (0, 1)),
    "mean_reversion": ((2, 3), (2, 3)),
    "average_cross": ((4, 5), (6, 7)),
    "breakout": ((4, 5), (8, 9)),
    "rotation": ((10, 11), (12, 12)),
}
"""Columns of ``random_inputs`` that serve as the first and the second feature."""

SIZES: dict[Sizing, tuple[float, ...]] = {
    "kelly": (0.002, 0.02, 0.1, 0.5, 5.0, 50.0),
    "volatility_target": (0.0005, 0.005, 0.02, 0.1),
    "weight": (0.02, 0.2, 0.7, 1.5),
    "equal_weight": (0.4, 1.0, 2.0),
    "risk_per_trade": (0.005, 0.03, 0.2),
}
"""Values of the number that each mode sizes by."""


def persistent(random: np.random.Generator, shape: tuple[int, ...]) -> FloatArray:
    """Standard normal values that are correlated from bar to bar."""
    out = random.normal(size=shape)
    for bar in range(1, shape[0]):
        out[bar] = 0.85 * out[bar - 1] + sqrt(1.0 - 0.85**2) * out[bar]
    return out


def random_rates(random: np.random.Generator, n_bars: int) -> FloatArray:
    """Rates far above real ones, so that carry matters; some bars follow the one before at once."""
    rates = np.zeros((n_bars, layout.N_RATE_COLUMNS))
    rates[1:, layout.YEARS] = random.choice([0.0, 0.01, 0.03], n_bars - 1)
    rates[:, layout.CREDIT] = random.choice([0.0, 0.05, -0.01], n_bars) * rates[:, layout.YEARS]
    rates[:, layout.DEBIT] = 0.2 * rates[:, layout.YEARS]
    rates[:, layout.RISK_FREE] = 0.03 * rates[:, layout.YEARS]
    return rates


def random_inputs(
    seed: int,
    n_symbols: int = 3,
    refresh: int | None = None,
    n_bars: int = N_BARS,
    carry: bool = False,
) -> Inputs:
    """Volatile bars with one jump per symbol, and features unrelated to them.

    Features are undefined before FIRST. The volume of the first symbol is unknown, the others do not
    trade in some bars and hardly in others.
    """
    random = np.random.default_rng(seed)
    shape = (n_bars, n_symbols)
    start = random.uniform(5.0, 300.0, n_symbols)
    closes = start * np.exp(np.cumsum(random.normal(0.0, 0.03, shape), axis=0))
    for symbol in range(n_symbols):
        closes[random.integers(n_bars // 2, n_bars - 9) :, symbol] *= 2.0
    opens = closes * np.exp(random.normal(0.0, 0.03, shape))
    highs = np.maximum(opens, closes) * (1.0 + random.uniform(0.0, 0.03, shape))
    lows = np.minimum(opens, closes) * (1.0 - random.uniform(0.0, 0.03, shape))
    features = persistent(random, (*shape, 10))
    features[:, :, :2] *= 0.1
    features[:, :, 2:4] = 100.0 / (1.0 + np.exp(-features[:, :, 2:4]))
    features[:, :, 4:8] = closes[:, :, None] * (1.0 + 0.03 * features[:, :, 4:8])
    features[:, :, 8:] = closes[:, :, None] * (0.01 + 0.02 * np.abs(features[:, :, 8:]))
    tops, firsts = features[:, :, :2] > 0.0, np.arange(n_bars)[:, None, None] % 5 == 0
    features = np.concatenate((features, tops, np.broadcast_to(firsts, (*shape, 1))), axis=2)
    volatilities = 0.003 + 0.03 * np.abs(persistent(random, (*shape, 3)))
    volatilities[random.random(volatilities.shape) < 0.02] = 0.0
    for early in (features, volatilities):
        early[:FIRST] = np.nan
    regimes = random.integers(-1, 2, (n_bars, 3)).astype(np.int8)
    volumes = np.exp(random.normal(7.0, 2.0, shape))
    volumes[random.random(shape) < 0.04] = 0.0
    volumes[:, 0] = inf
    correlations = None
    if refresh is not None:
        n_refreshes = -(-(n_bars - FIRST) // refresh)
        mixed = random.normal(0.0, 1.0, (n_refreshes, n_symbols, 20))
        mixed += random.normal(0.0, 1.5, (n_refreshes, 1, 20))
        correlations = np.array([np.corrcoef(m).reshape(n_symbols, n_symbols) for m in mixed])
    return Inputs(
        opens,
        highs,
        lows,
        closes,
        features,
        volatilities,
        regimes,
        correlations,
        refresh or 1,
        FIRST,
        volumes,
        random_rates(random, n_bars) if carry else None,
    )


def random_parameters(
    random: np.random.Generator, strategy: Strategy, options: Options
) -> ParameterSet:
    """A parameter set from the extremes: tiny and huge sizes, bands, minima, stops and costs."""

    def one_of(*values: float) -> float:
        return float(random.choice(values))

    thresholds: dict[Strategy, tuple[float, ...]] = {
        "momentum": (one_of(0.0, 0.02, 0.06),),
        "mean_reversion": (one_of(25.0, 40.0), one_of(60.0, 75.0)),
        "average_cross": (one_of(0.0, 0.01, 0.03),),
        "breakout": (one_of(0.0, 0.5, 1.5),),
        "rotation": (0.0,),  # which it does not read
    }
    stop = inf, 0.01, 0.05
    exposure = 0.25, 0.8, options.leverage, options.leverage
    costs = Costs(
        slippage=one_of(0.0, 0.0007),
        half_spread=one_of(0.0, 1.0),
        commission=one_of(0.0, 0.0011),
    )
    if options.fees:
        costs = replace(
            costs,
            per_unit=one_of(0.0, 0.02),
            minimum=one_of(0.0, 2.0),
            per_order=one_of(0.0, 1.0),
            impact=one_of(0.0, 0.5),
            volume_share=one_of(inf, 0.05),
        )
    return ParameterSet(
        strategy,
        thresholds[strategy],
        lookback=int(random.integers(2, 90)),
        size=one_of(*SIZES[options.sizing]),
        score_sharpe=one_of(0.02, 0.1),
        max_weight=one_of(0.3, 1.0, 5.0),
        max_positions=one_of(1.0, 2.0, inf) if options.limited else inf,
        max_exposure=one_of(*exposure),
        bear_multiplier=one_of(0.0, 0.6),
        bull_multiplier=one_of(1.0, 1.7),
        correlation_penalty=one_of(0.0, 0.5, 1.0) if options.correlated else 0.0,
        min_order_size=one_of(0.0, 1.0, 6.0, 30.0),
        rebalance_band=one_of(0.0, 0.1, 0.4),
        stop_loss=one_of(*stop) if options.stops else inf,
        take_profit=one_of(*stop, 0.2) if options.stops else inf,
        trailing_stop=one_of(*stop) if options.stops else inf,
        costs=costs,
    )


def random_lane(random: np.random.Generator, strategy: Strategy, options: Options) -> Lane:
    """Random parameters on random columns."""
    first, second = FEATURE_COLUMNS[strategy]
    columns = (
        int(random.choice(first)),
        int(random.choice(second)),
        int(random.integers(3)),
        int(random.integers(3)),
    )
    return Lane(random_parameters(random, strategy, options), columns)


def random_blocks(seed: int, options: Options) -> list[list[Lane]]:
    """For each strategy, one block whose lanes share their columns and one whose lanes do not.

    Of two strategies these lanes share the volatility at least.
    """
    random = np.random.default_rng(seed)
    blocks = []
    for strategy in STRATEGIES:
        own = [random_lane(random, strategy, options) for _ in range(LANES)]
        blocks.append([replace(lane, columns=own[0].columns) for lane in own])
        own = [random_lane(random, strategy, options) for _ in range(LANES)]
        if strategy in ("momentum", "breakout"):
            own = [replace(lane, columns=(*lane.columns[:2], 1, lane.columns[3])) for lane in own]
        blocks.append(own)
    return blocks


def sweep_of(
    inputs: Inputs,
    blocks: Sequence[Sequence[Lane]],
    options: Options,
    rules: Rules | None = None,
) -> Sweep:
    """Lanes with the given options, before their first bar."""
    used = options.rules() if rules is None else rules
    return Sweep(inputs, blocks, used, options.stops, options.fees, options.record)


@dataclass(frozen=True)
class Path:
    """Rows after each bar, the bar on axis 0: (bars, blocks[, symbols], lanes)."""

    sweep: Sweep
    equity: FloatArray
    cash: FloatArray
    exposure: FloatArray
    variance: FloatArray
    lots: FloatArray
    orders: FloatArray
    flow: FloatArray


def path_of(sweep: Sweep, first: int = FIRST) -> Path:
    """Walk one bar at a time and record the state after each."""
    rows: list[list[FloatArray]] = []
    for bar in range(first, sweep.inputs.n_bars):
        sweep.walk(bar, bar + 1)
        rows.append(
            [sweep.row(name) for name in ("cash", "equity", "exposure", "variance")]
            + [sweep.symbol_row(name) for name in ("lots", "order", "flow")]
        )
    cash, equity, exposure, variance, lots, orders, flow = (
        np.array(kept) for kept in zip(*rows, strict=True)
    )
    return Path(sweep, equity, cash, exposure, variance, lots, orders, flow)


def inputs_for(options: Options, seed: int, n_symbols: int = 3, refresh: int = 1) -> Inputs:
    """Random inputs, with correlations and rates if the options need them."""
    correlated = refresh if options.correlated else None
    return random_inputs(seed, n_symbols, correlated, carry=options.carry)


@cache
def random_path(name: str) -> Path:
    """Every strategy under the named options, walked bar by bar."""
    options = OPTIONS[name]
    seed = list(OPTIONS).index(name)
    return path_of(sweep_of(inputs_for(options, seed), random_blocks(seed, options), options))


def blocks_of(name: str) -> list[list[Lane]]:
    """The lanes of ``random_path``."""
    return random_blocks(list(OPTIONS).index(name), OPTIONS[name])


def assert_close(actual: Any, expected: Any, where: str = "") -> None:
    """Compare money and what follows from it: equal but for rounding."""
    np.testing.assert_allclose(actual, expected, rtol=1e-8, atol=1e-8, err_msg=where)


def assert_equals_reference(sweep: Sweep, k: int, b: int, lane: Lane) -> Outcome:
    """Compare a lane after its last bar with the reference: lots exactly, money to rounding."""
    inputs = sweep.inputs
    out = simulate_one(inputs.market(lane.columns), lane.chosen, sweep.rules, FIRST)
    where = f"block {k} lane {b}: {lane}"
    final = {"cash": out.cash[-1], "equity": out.equity[-1], "ruined": float(out.ended)}
    final |= {"exposure": out.exposure[-1], "variance": out.variance[-1], **out.sums}
    np.testing.assert_array_equal(sweep.symbol_row("lots")[k, :, b], out.lots[-1], where)
    if not sweep.rules.fill_at_close:
        np.testing.assert_array_equal(sweep.symbol_row("order")[k, :, b], out.orders[-1], where)
    for name, value in final.items():
        assert_close(sweep.row(name)[k, b], value, f"{name} of {where}")
    return out
