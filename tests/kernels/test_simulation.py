"""The simulation: lanes against the reference, properties that hold on any bars, cases by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import inf, sqrt
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pytest

from kernels import layout, metrics
from kernels.codes import FILL_CASH, FILL_KINDS, FILL_LOTS, FILL_PRICE, FILL_VALUE, WRITTEN_OFF
from kernels.layout import EQUITY, LANES, MAX_DRAWDOWN, N_LANE_ROWS, PEAK, STRIDE
from tests.reference import metrics as reference_metrics
from tests.reference.simulation import (
    SUMS,
    Costs,
    Instrument,
    Outcome,
    ParameterSet,
    Rules,
    Sizing,
    Strategy,
    simulate_one,
)
from tests.support.causality import assert_causal
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
}
"""Columns of ``random_inputs`` that serve as the first and the second feature."""

SIZES: dict[Sizing, tuple[float, ...]] = {
    "kelly": (0.002, 0.02, 0.1, 0.5, 5.0, 50.0),
    "volatility_target": (0.0005, 0.005, 0.02, 0.1),
    "weight": (0.02, 0.2, 0.7, 1.5),
    "equal_weight": (0.4, 1.0, 2.0),
    "risk_per_trade": (0.05, 0.3, 2.0),
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


@pytest.mark.parametrize(
    ("n_symbols", "refresh"), [(1, 1), (2, 1), (9, 4)], ids=["1", "2", "9-refreshed-rarely"]
)
@every_option
def test_lanes_equal_the_reference(name: str, n_symbols: int, refresh: int) -> None:
    options, seed = OPTIONS[name], 100 * n_symbols
    blocks = random_blocks(seed, options)
    sweep = sweep_of(inputs_for(options, seed, n_symbols, refresh), blocks, options)
    sweep.walk(FIRST, N_BARS)
    ended = sweep.row("ruined") == 1.0
    outcomes = [
        assert_equals_reference(sweep, k, b, block[b])
        for k, block in enumerate(blocks)
        for b in {0, 1, 30, LANES - 1, int(ended[k].argmax())}
    ]
    # The comparison has substance: with many symbols every rule took effect somewhere.
    kinds = [fill.kind for out in outcomes for fill in out.fills]
    assert sum(out.sums["n_trades"] for out in outcomes) > 50
    if n_symbols < 9:
        return
    assert any(out.cut_additions for out in outcomes) or options.fill_at_close
    assert any(out.scaled_closes for out in outcomes)
    assert (kinds.count("stop") > 50) == options.stops
    shorts = sum(lots < 0.0 for out in outcomes for row in out.lots for lots in row)
    assert (shorts > 50) == options.allow_short
    if name in ("leverage", "short", "all", "plain"):
        assert ("liquidation" in kinds) == (name != "plain")
    assert any(out.sums["carry"] != 0.0 for out in outcomes) == options.carry
    if name == "short":
        assert min(out.equity[-1] for out in outcomes) < 0.0


@every_option
def test_each_bar_equals_the_reference(name: str) -> None:
    path, blocks = random_path(name), blocks_of(name)
    for k in range(len(blocks)):
        lane = blocks[k][k]
        market = path.sweep.inputs.market(lane.columns)
        out = simulate_one(market, lane.chosen, path.sweep.rules, FIRST)
        np.testing.assert_array_equal(path.lots[:, k, :, k], out.lots)
        if not OPTIONS[name].fill_at_close:
            np.testing.assert_array_equal(path.orders[:, k, :, k], out.orders)
        assert_close(path.equity[:, k, k], out.equity)
        assert_close(path.cash[:, k, k], out.cash)
        assert_close(path.exposure[:, k, k], out.exposure)
        assert_close(path.variance[:, k, k], out.variance)


def result_rows(sweep: Sweep) -> dict[str, FloatArray]:
    """Every row that is a result or influences one; lanes on the last axis."""
    rows = {
        name: sweep.row(name)
        for name in ("cash", "equity", "exposure", "variance", "ruined", "peak", *SUMS)
    }
    return rows | {name: sweep.symbol_row(name) for name in ("lots", "order", "flow")}


def assert_same_bits(actual: dict[str, FloatArray], expected: dict[str, FloatArray]) -> None:
    """Compare results to the last bit."""
    for name, values in expected.items():
        assert actual[name].tobytes() == values.tobytes(), name


@pytest.mark.parametrize("name", ["plain", "all"])
def test_place_in_the_blocks_does_not_matter(name: str) -> None:
    options = OPTIONS[name]
    path = random_path(name)
    blocks = blocks_of(name)
    random = np.random.default_rng(5)
    shuffle = random.permutation(2 * LANES)
    moved, came_from = [], []
    # The strategies come in another order, and lanes that shared their columns are mixed with others.
    for k in (4, 0, 6, 2):
        both = blocks[k] + blocks[k + 1]
        for part in (shuffle[:LANES], shuffle[LANES:]):
            moved.append([both[i] for i in part])
            came_from.append([(k + i // LANES, i % LANES) for i in part])
    moved.append(blocks[1][:3])
    came_from.append([(1, min(i, 2)) for i in range(LANES)])
    sweep = sweep_of(path.sweep.inputs, moved, options).walk(FIRST, N_BARS)
    k, b = np.array(came_from).transpose(2, 0, 1)
    before = {
        row: np.moveaxis(values, -1, 1)[k, b] if values.ndim == 2 else values[k, :, b]
        for row, values in result_rows(path.sweep).items()
    }
    after = {
        row: values if values.ndim == 2 else np.moveaxis(values, 1, 2)
        for row, values in result_rows(sweep).items()
    }
    assert_same_bits(
        {row: np.ascontiguousarray(values) for row, values in after.items()},
        {row: np.ascontiguousarray(values) for row, values in before.items()},
    )


@pytest.mark.parametrize("options", [*OPTIONS.values(), RECORDED], ids=[*OPTIONS, "recorded"])
def test_cut_anywhere_and_carry_the_state(options: Options) -> None:
    inputs, blocks = inputs_for(options, 31, 2, 3), random_blocks(31, options)
    whole = sweep_of(inputs, blocks, options).walk(FIRST, N_BARS)
    random = np.random.default_rng(8)
    for n_cuts in (1, 1, 4, 20):
        cuts = sorted(random.integers(FIRST, N_BARS + 1, n_cuts).tolist())
        pieces = sweep_of(inputs, blocks, options)
        for start, stop in zip([FIRST, *cuts], [*cuts, N_BARS], strict=True):
            pieces.walk(start, stop)
        assert pieces.bits() == whole.bits(), cuts
        assert pieces.equity.tobytes() == whole.equity.tobytes()
        assert pieces.fills.tobytes() == whole.fills.tobytes()


def test_nothing_is_written_beyond_the_lanes() -> None:
    sweep = random_path("all").sweep
    fresh = sweep_of(sweep.inputs, [[Lane(ParameterSet())]] * 8, OPTIONS["all"])
    np.testing.assert_array_equal(sweep.state[..., LANES:], fresh.state[..., LANES:])
    assert not sweep.positions[..., LANES:].any()


# Causality. Here everything that the lanes read is computed from the bars. A kernel that reads bar
# t + 1 of an input equals this kernel on the input shifted by a bar. The test must notice that for each
# input.

READ = (
    "opens",
    "highs",
    "lows",
    "closes",
    "features",
    "volatilities",
    "regimes",
    "correlations",
    "volumes",
)


def inputs_from_bars(
    opens: FloatArray, highs: FloatArray, lows: FloatArray, closes: FloatArray, volumes: FloatArray
) -> dict[str, npt.NDArray[Any]]:
    """Features and regimes of each bar from the bars up to it, computed one value at a time."""
    n_bars, n_symbols = closes.shape
    features = np.full((n_bars, n_symbols, 1), np.nan)
    volatilities = np.full((n_bars, n_symbols, 1), np.nan)
    regimes = np.zeros((n_bars, 1), dtype=np.int8)
    correlations = np.zeros((max(n_bars - FIRST, 0), n_symbols, n_symbols))
    for bar in range(FIRST, n_bars):
        seen = closes[bar - FIRST : bar + 1]
        changes = seen[1:] / seen[:-1] - 1.0
        features[bar, :, 0] = seen[-1] / seen[0] - 1.0
        for symbol in range(n_symbols):
            volatilities[bar, symbol, 0] = sqrt(sum(c * c for c in changes[:, symbol].tolist()) / 7)
        regimes[bar, 0] = np.sign(sum(changes[-1].tolist()))
        for i in range(n_symbols):
            for j in range(n_symbols):
                pairs = zip(changes[:, i].tolist(), changes[:, j].tolist(), strict=True)
                together = sum(a * b for a, b in pairs) / 7
                scale = volatilities[bar, i, 0] * volatilities[bar, j, 0]
                correlations[bar - FIRST, i, j] = together / scale
    return {
        "opens": opens,
        "highs": highs,
        "lows": lows,
        "closes": closes,
        "features": features,
        "volatilities": volatilities,
        "regimes": regimes,
        "correlations": correlations,
        "volumes": volumes,
    }


def decisions(shifted: str | None) -> Callable[..., tuple[FloatArray, ...]]:
    """Positions and orders of the lanes after each bar; a named input is read one bar ahead."""

    def walk(
        opens: FloatArray,
        highs: FloatArray,
        lows: FloatArray,
        closes: FloatArray,
        volumes: FloatArray,
    ) -> tuple[FloatArray, ...]:
        arrays = inputs_from_bars(opens, highs, lows, closes, volumes)
        if shifted is not None:
            ahead = arrays[shifted]
            arrays[shifted] = np.concatenate([ahead[1:], ahead[-1:]])
        inputs = Inputs(**arrays, refresh=1, first=FIRST)
        lanes = [
            Lane(
                ParameterSet(
                    thresholds=(0.0,),
                    lookback=7,
                    size=kelly,
                    max_exposure=1.5,
                    costs=Costs(impact=0.5, volume_share=0.2),
                    correlation_penalty=0.8,
                    stop_loss=0.04,
                    take_profit=0.08,
                    trailing_stop=trailing,
                )
            )
            for kelly in (0.1, 0.4)
            for trailing in (0.05, inf)
        ]
        n_symbols = closes.shape[1]
        sweep = sweep_of(inputs, [lanes], OPTIONS["all"])
        equity = np.zeros((len(closes), len(lanes)))
        held = np.zeros((len(closes), n_symbols, 4, len(lanes)))
        for bar in range(FIRST, len(closes)):
            sweep.walk(bar, bar + 1)
            equity[bar] = sweep.row("equity")[0, : len(lanes)]
            lots = sweep.symbol_row("lots")
            best = np.where(lots != 0.0, sweep.symbol_row("best"), 0.0)
            for i, rows in enumerate((lots, best, *map(sweep.symbol_row, ("order", "rho")))):
                held[bar, :, i] = rows[0, :, : len(lanes)]
        return equity, held

    return walk


def causality_case() -> tuple[list[FloatArray], range]:
    inputs = random_inputs(77, 3, None, 60)
    bars = [inputs.opens, inputs.highs, inputs.lows, inputs.closes, np.asarray(inputs.volumes)]
    return bars, range(FIRST + 3, 60, 4)


def test_reads_no_bar_ahead() -> None:
    bars, cuts = causality_case()
    assert_causal(decisions(None), bars, cuts)


@pytest.mark.parametrize("shifted", READ)
def test_reading_one_bar_ahead_is_noticed(shifted: str) -> None:
    bars, cuts = causality_case()
    with pytest.raises(AssertionError, match="changes when"):
        assert_causal(decisions(shifted), bars, cuts)


# Properties of money that hold on any bars.


@every_option
def test_equity_is_cash_and_positions(name: str) -> None:
    path, options = random_path(name), OPTIONS[name]
    instruments = path.sweep.instruments
    closes = path.sweep.inputs.closes[FIRST:] * instruments[:, layout.LOT_MONEY]
    positions = np.zeros_like(path.cash)
    for symbol in range(closes.shape[1]):
        positions += path.lots[:, :, symbol] * closes[:, symbol, None, None]
    np.testing.assert_array_equal(path.equity, path.cash + positions)
    assert (path.lots == np.floor(path.lots)).all()
    if not options.allow_short:
        assert (path.lots >= 0.0).all()
    if not options.allow_short and options.leverage == 1.0 and not options.fees:
        assert (path.cash >= -1e-9).all()
        assert (path.equity > 0.0).all()


@every_option
def test_final_equity_is_initial_cash_profits_and_carry(name: str) -> None:
    sweep = random_path(name).sweep
    closed = sweep.row("gross_profit") - sweep.row("gross_loss") + sweep.row("carry")
    lot_values = sweep.inputs.closes[-1] * sweep.instruments[:, layout.LOT_MONEY]
    open_ = sweep.symbol_row("flow") + sweep.symbol_row("lots") * lot_values[:, None]
    expected = sweep.rules.initial_cash + closed + open_.sum(axis=1)
    # A debt too is what was lost, to the cent.
    np.testing.assert_allclose(sweep.row("equity"), expected, rtol=1e-9, atol=1e-7)
    assert (sweep.row("n_wins") <= sweep.row("n_trades")).all()


@pytest.mark.parametrize("name", ["short", "all", "all_at_close"])
def test_an_ended_account_stays_flat_and_keeps_its_debt(name: str) -> None:
    path = random_path(name)
    ended = path.sweep.row("ruined") == 1.0
    assert ended.any() or name != "short"
    assert not ended.all()
    for values in result_rows(path.sweep).values():
        assert np.isfinite(values).all()
    gone = np.minimum.accumulate(path.equity, axis=0) <= 0.0
    np.testing.assert_array_equal(gone[-1], ended)
    np.testing.assert_array_equal(path.cash[gone], path.equity[gone])
    for before, after, was in zip(path.equity[:-1], path.equity[1:], gone[:-1], strict=True):
        np.testing.assert_array_equal(after[was], before[was])
    for rows in (path.lots, path.orders, path.flow):
        assert (np.moveaxis(rows, 2, -1)[gone] == 0.0).all()
    assert (path.sweep.row("max_drawdown")[ended] >= 1.0).all()


@pytest.mark.parametrize("fill_at_close", [False, True], ids=["next_open", "close"])
def test_recorded_fills_replay_to_the_recorded_equity(fill_at_close: bool) -> None:
    options = replace(RECORDED, fill_at_close=fill_at_close, leverage=3.0)
    inputs, n_symbols = inputs_for(options, 55, 4), 4
    rates = np.asarray(inputs.rates)
    kinds = np.zeros(len(FILL_KINDS))
    for seed, strategy in enumerate(STRATEGIES):
        random = np.random.default_rng(seed)
        lane = random_lane(random, strategy, options)
        chosen = replace(
            lane.chosen,
            size=(0.5, 50.0)[seed % 2],
            costs=replace(lane.chosen.costs, volume_share=inf),
            max_weight=3.0,
            max_exposure=3.0,
            max_positions=inf,
            min_order_size=1.0,
            stop_loss=(0.04, inf)[seed % 2],
            take_profit=inf,
            trailing_stop=inf,
        )
        others = [random_lane(random, strategy, options) for _ in range(5)]
        sweep = sweep_of(inputs, [[replace(lane, chosen=chosen), *others]], options)
        sweep.walk(FIRST, N_BARS)
        equity, fills = sweep.equity, sweep.fills
        assert not equity[:FIRST].any()
        assert not fills[:FIRST].any()
        kinds += (fills[..., FILL_LOTS] != 0.0).sum(axis=(0, 1))
        money = sweep.instruments[:, layout.LOT_MONEY]
        cash, traded, costs, carry = sweep.rules.initial_cash, 0.0, 0.0, 0.0
        lots = np.zeros(n_symbols)
        for bar in range(FIRST, N_BARS):
            shorts = np.maximum(-lots, 0.0) * inputs.closes[bar - 1] * money
            free = cash - shorts.sum()
            earned = free * rates[bar, layout.CREDIT if free > 0.0 else layout.DEBIT]
            earned -= (shorts * sweep.instruments[:, layout.BORROW]).sum() * rates[
                bar, layout.YEARS
            ]
            alive = equity[FIRST:bar].min(initial=1.0) > 0.0
            cash += earned if alive else 0.0
            carry += earned if alive else 0.0
            for symbol, kind in np.argwhere(fills[bar, :, :, FILL_LOTS]):
                fill = fills[bar, symbol, kind]
                assert inputs.traded[bar, symbol] or kind == WRITTEN_OFF
                value = fill[FILL_VALUE] / money[symbol]
                if kind in (0, 1):
                    price = inputs.closes if fill_at_close else inputs.opens
                    assert value == pytest.approx(price[bar, symbol], rel=1e-12)
                assert inputs.lows[bar, symbol] * (1 - 1e-12) <= value
                assert value <= inputs.highs[bar, symbol] * (1 + 1e-12)
                # A purchase pays at least the market's price, a sale gets at most it.
                side = np.sign(fill[FILL_LOTS])
                assert side * (fill[FILL_CASH] - fill[FILL_VALUE]) >= -1e-9
                assert side * (fill[FILL_PRICE] - value) >= -1e-9
                cash -= fill[FILL_LOTS] * fill[FILL_CASH]
                lots[symbol] += fill[FILL_LOTS]
                traded += abs(fill[FILL_LOTS]) * fill[FILL_VALUE] * (kind != WRITTEN_OFF)
                costs += abs(fill[FILL_LOTS] * (fill[FILL_CASH] - fill[FILL_VALUE]))
            expected = cash + (lots * inputs.closes[bar] * money).sum()
            assert equity[bar] == pytest.approx(expected, rel=1e-9, abs=1e-6), bar
        np.testing.assert_array_equal(lots, sweep.symbol_row("lots")[0, :, 0])
        assert_close(sweep.row("cash")[0, 0], cash)
        assert_close(sweep.row("traded")[0, 0], traded)
        assert_close(sweep.row("costs")[0, 0], costs)
        assert_close(sweep.row("carry")[0, 0], carry)
        assert equity[-1] == sweep.row("equity")[0, 0]
    assert (kinds[:4] > 0).all(), kinds


def test_recording_changes_nothing() -> None:
    blocks = random_blocks(4, RECORDED)
    inputs = inputs_for(RECORDED, 4)
    recorded = sweep_of(inputs, blocks, RECORDED).walk(FIRST, N_BARS)
    silent = sweep_of(inputs, blocks, replace(RECORDED, record=False)).walk(FIRST, N_BARS)
    assert recorded.bits() == silent.bits()


# An option that is compiled in but not used changes nothing.


def with_correlations(inputs: Inputs) -> Inputs:
    """The same inputs with correlations added."""
    return Inputs(
        inputs.opens,
        inputs.highs,
        inputs.lows,
        inputs.closes,
        inputs.features,
        inputs.volatilities,
        inputs.regimes,
        random_inputs(3, inputs.n_symbols, 2).correlations,
        2,
        FIRST,
        inputs.volumes,
        inputs.rates,
    )


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("plain", Options(stops=True)),
        ("plain", Options(correlated=True)),
        ("short", replace(OPTIONS["short"], stops=True, correlated=True, fees=True)),
    ],
    ids=["stops", "correlations", "all-short"],
)
def test_an_option_that_is_off_changes_nothing(name: str, options: Options) -> None:
    path, blocks = random_path(name), blocks_of(name)
    inputs = path.sweep.inputs
    if options.correlated:
        inputs = with_correlations(inputs)
    sweep = Sweep(inputs, blocks, path.sweep.rules, options.stops, options.fees)
    sweep.walk(FIRST, N_BARS)
    assert_same_bits(result_rows(sweep), result_rows(path.sweep))


UNUSED = {
    "plain": Options(record=True),
    "short": Options(allow_short=True, record=True),
    "most": Options(stops=True, allow_short=True, correlated=True, record=True),
}


@pytest.mark.parametrize(("fees", "extended"), [(False, True), (True, False), (True, True)])
@pytest.mark.parametrize("name", UNUSED)
def test_code_for_sets_that_no_set_is_changes_nothing(
    name: str, fees: bool, extended: bool
) -> None:
    """Not a bit of state, equity or fills: other options decide which code a study compiles."""
    options = UNUSED[name]
    inputs, blocks = inputs_for(options, 31), random_blocks(31, options)
    without = sweep_of(inputs, blocks, options)
    assert not without.extended
    without.walk(FIRST, N_BARS)
    code = Sweep(
        inputs, blocks, options.rules(), options.stops, fees, options.record, extended=extended
    ).walk(FIRST, N_BARS)
    assert code.bits() == without.bits()
    assert code.equity.tobytes() == without.equity.tobytes()
    assert code.fills.tobytes() == without.fills.tobytes()
    assert (without.fills[..., FILL_LOTS] != 0.0).any()
    assert (without.row("traded") > 0.0).mean() > 0.5


def test_places_for_all_change_nothing() -> None:
    path, blocks = random_path("plain"), blocks_of("plain")
    blocks = [
        [replace(lane, chosen=replace(lane.chosen, max_positions=3.0)) for lane in block]
        for block in blocks
    ]
    sweep = sweep_of(path.sweep.inputs, blocks, OPTIONS["places"]).walk(FIRST, N_BARS)
    assert sweep.limited
    assert_same_bits(result_rows(sweep), result_rows(path.sweep))


def test_shorting_changes_nothing_without_a_short_signal() -> None:
    inputs = random_inputs(21)
    inputs.features = np.abs(inputs.features)
    inputs.features.flags.writeable = False
    blocks = random_blocks(21, OPTIONS["plain"])[:2]
    options = OPTIONS["leverage"]
    long_only = sweep_of(inputs, blocks, options).walk(FIRST, N_BARS)
    both = sweep_of(inputs, blocks, replace(options, allow_short=True)).walk(FIRST, N_BARS)
    assert_same_bits(result_rows(both), result_rows(long_only))
    assert (long_only.row("traded") > 0.0).any()


# The places of the symbols.


@pytest.mark.parametrize("seed", range(3))
@every_option
def test_the_order_of_the_symbols_does_not_matter(name: str, seed: int) -> None:
    options, n_symbols = OPTIONS[name], 7
    inputs = inputs_for(options, seed, n_symbols, 2)
    blocks = random_blocks(seed, options)
    order = np.random.default_rng(seed).permutation(n_symbols)
    rules = options.rules()
    moved_rules = replace(rules, instruments=tuple(rules.instruments[s] for s in order))
    recorded = replace(options, record=True)
    one = sweep_of(inputs, blocks, recorded).walk(FIRST, N_BARS)
    moved = sweep_of(inputs.permuted(order.tolist()), blocks, recorded, moved_rules)
    moved.walk(FIRST, N_BARS)
    for row in ("lots", "order"):
        np.testing.assert_array_equal(moved.symbol_row(row), one.symbol_row(row)[:, order])
    np.testing.assert_array_equal(moved.fills[..., FILL_LOTS], one.fills[:, order][..., FILL_LOTS])
    np.testing.assert_allclose(moved.fills, one.fills[:, order], rtol=1e-9)
    np.testing.assert_allclose(moved.equity, one.equity, rtol=1e-9, atol=1e-7)
    for row in ("cash", "equity", "ruined", *SUMS):
        actual, expected = moved.row(row), one.row(row)
        np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-7, err_msg=row)
    figures = [performance_of(sweep) for sweep in (moved, one)]
    np.testing.assert_allclose(figures[0], figures[1], rtol=1e-8, atol=1e-9)
    assert (one.row("traded") > 0.0).any()


def performance_of(sweep: Sweep) -> FloatArray:
    """Metrics of all lanes."""
    n_lanes = len(sweep.state) * LANES
    rows = sweep.state[:, :, :LANES].transpose(1, 0, 2).reshape(N_LANE_ROWS, n_lanes)
    start = np.full(n_lanes, sweep.rules.initial_cash)
    out = np.empty((n_lanes, metrics.N_METRICS))
    n = N_BARS - FIRST
    metrics.performance(np.ascontiguousarray(rows), start, n, 252.0, n, 252.0, out)
    return out


# Examples by hand. A signal of 1 or -1 is a momentum of 0.2 either way against a threshold of 0.1,
# and 0 lies between. The volatility is 0.02 and the lookback 25, so the score is
# 0.2 / (0.02 * 5) = 2, the strength 0.05 * 0.02 * 2 = 0.002, the confidence 1, and the Kelly size
# size * 0.002 / 0.02**2 = 5 * size.

FREE = Rules(initial_cash=1000.0)
ALL_IN = ParameterSet(thresholds=(0.1,), size=1e6, max_weight=1.0)
"""A Kelly fraction so large that every position is wanted at its cap, all of the equity."""


def scenario(
    signals: Sequence[Sequence[float]],
    closes: Sequence[Sequence[float]],
    opens: Sequence[Sequence[float]] | None = None,
    highs: Sequence[Sequence[float]] | None = None,
    lows: Sequence[Sequence[float]] | None = None,
    chosen: ParameterSet = ALL_IN,
    options: str = "plain",
    rules: Rules = FREE,
    regimes: Sequence[int] | None = None,
    correlation: float = 0.0,
    volumes: Sequence[Sequence[float]] | None = None,
    rates: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Path:
    """One lane through given bars, bar by bar; prices and signals are by symbol, then by bar.

    ``rates`` are credit, debit and years of every bar but the first. Of the options, those that are
    compiled and the fill count.
    """
    close = np.array(closes, dtype=np.float64).T
    n_bars, n_symbols = close.shape
    open_ = close if opens is None else np.array(opens, dtype=np.float64).T
    high = np.maximum(open_, close) if highs is None else np.array(highs, dtype=np.float64).T
    low = np.minimum(open_, close) if lows is None else np.array(lows, dtype=np.float64).T
    matrices = None
    if OPTIONS[options].correlated:
        matrices = np.full((n_bars, n_symbols, n_symbols), correlation)
        matrices[:, range(n_symbols), range(n_symbols)] = 1.0
    table = np.zeros((n_bars, layout.N_RATE_COLUMNS))
    table[1:, [layout.CREDIT, layout.DEBIT, layout.YEARS]] = rates
    inputs = Inputs(
        open_,
        high,
        low,
        close,
        0.2 * np.array(signals, dtype=np.float64).T[:, :, None],
        np.full((n_bars, n_symbols, 1), 0.02),
        np.array([[code] for code in regimes or [0] * n_bars], dtype=np.int8),
        matrices,
        volumes=None if volumes is None else np.array(volumes, dtype=np.float64).T,
        rates=table,
    )
    rules = replace(
        rules,
        allow_short=OPTIONS[options].allow_short,
        fill_at_close=OPTIONS[options].fill_at_close,
    )
    return path_of(sweep_of(inputs, [[Lane(chosen)]], OPTIONS[options], rules), 0)


def lots_of(path: Path, symbol: int = 0) -> list[float]:
    return [float(value) for value in path.lots[:, 0, symbol, 0]]


def orders_of(path: Path, bar: int) -> list[float]:
    return [float(value) for value in path.orders[bar, 0, :, 0]]


def cash_of(path: Path) -> list[float]:
    return [float(value) for value in path.cash[:, 0, 0]]


def equity_of(path: Path) -> list[float]:
    return [float(value) for value in path.equity[:, 0, 0]]


def test_a_position_by_hand() -> None:
    path = scenario(
        signals=[[1, 1, -1, -1]],
        opens=[[100, 101, 103, 105]],
        closes=[[100, 102, 104, 103]],
        chosen=replace(
            ALL_IN,
            max_exposure=0.5,
            rebalance_band=0.1,
            costs=Costs(slippage=0.01, commission=0.005),
        ),
        rules=Rules(initial_cash=10_000.0),
    )
    # Bar 0: half of 10000 is 5000, at the close of 100: order 50.
    # Bar 1: bought at the open of 101. With slippage 101 * 1.01 = 102.01; with commission
    #        102.01 * 1.005 = 102.52005 a lot, 5126.0025 in all. Cash 10000 - 5126.0025 = 4873.9975.
    #        Equity 4873.9975 + 50 * 102 = 9973.9975; the exposure is over a half, so no order.
    # Bar 2: 4873.9975 + 50 * 104 = 10073.9975. The signal is gone: order -50.
    # Bar 3: sold at the open of 105. 105 * 0.99 = 103.95, * 0.995 = 103.43025 a lot, 5171.5125 in
    #        all. Cash 4873.9975 + 5171.5125 = 10045.51.
    assert lots_of(path) == [0, 50, 50, 0]
    assert [float(o) for o in path.orders[:, 0, 0, 0]] == [50, 0, -50, 0]
    cash = [10_000.0, 4873.9975, 4873.9975, 10_045.51]
    equity = [10_000.0, 9973.9975, 10_073.9975, 10_045.51]
    assert cash_of(path) == pytest.approx(cash, abs=1e-9)
    assert equity_of(path) == pytest.approx(equity, abs=1e-9)
    row = {name: float(path.sweep.row(name)[0, 0]) for name in SUMS}
    # Costs: 5126.0025 - 50 * 101 = 76.0025 and 50 * 105 - 5171.5125 = 78.4875.
    assert row["costs"] == pytest.approx(154.49, abs=1e-9)
    assert row["traded"] == pytest.approx(50 * 101 + 50 * 105, abs=1e-9)
    # One trade, with a profit of 5171.5125 - 5126.0025.
    assert (row["n_trades"], row["n_wins"], row["gross_loss"]) == (1, 1, 0)
    assert row["gross_profit"] == pytest.approx(45.51, abs=1e-9)
    changes = [0.0, -26.0025 / 10_000.0, 100.0 / 9973.9975, -28.4875 / 10_073.9975]
    for power in (1, 2, 3, 4):
        name = "sum_return" if power == 1 else f"sum_return_{power}"
        assert row[name] == pytest.approx(sum(change**power for change in changes), abs=1e-15)
    assert row["sum_downside_2"] == pytest.approx(changes[1] ** 2 + changes[3] ** 2, abs=1e-15)
    assert row["sum_exposure"] == pytest.approx(5100 / 9973.9975 + 5200 / 10_073.9975, abs=1e-12)
    assert row["sum_equity"] == pytest.approx(sum(equity), abs=1e-9)
    # The deepest fall: 26.0025 below 10000 is 0.26 %, 28.4875 below 10073.9975 is 0.283 %.
    assert row["max_drawdown"] == pytest.approx(28.4875 / 10_073.9975, abs=1e-14)


@pytest.mark.parametrize(
    ("regime", "lots"), [(0, 25), (1, 30), (-1, 15)], ids=["neutral", "bull", "bear"]
)
@pytest.mark.parametrize(
    ("sizing", "size"),
    [
        ("kelly", 0.0501),
        ("volatility_target", 0.00501),
        ("weight", 0.2505),
        ("equal_weight", 0.2505),
        ("risk_per_trade", 0.01002 / 0.04),
    ],
)
def test_a_size_by_hand(sizing: Sizing, size: float, regime: int, lots: int) -> None:
    # Kelly size 5 * 0.0501 = 0.2505 of 1000, at 10 a lot: 25.05 lots; 30.06 in a bull market (1.2),
    # 15.03 in a bear market (0.6). The other modes: 0.00501 / 0.02, 0.2505 alone or over one
    # symbol, and 0.01002 over a stop of 0.04.
    chosen = replace(ALL_IN, size=size)
    rules = replace(FREE, sizing=sizing)
    path = scenario([[1]], [[10]], chosen=chosen, rules=rules, regimes=[regime])
    assert orders_of(path, 0) == [lots]
    # More than its cap it never gets.
    chosen = replace(chosen, max_weight=0.1001)
    path = scenario([[1]], [[10]], chosen=chosen, rules=rules, regimes=[regime])
    assert orders_of(path, 0) == [10]


def test_equal_weights_count_the_symbols_that_signal_or_stay() -> None:
    rules = replace(FREE, sizing="equal_weight")
    chosen = replace(ALL_IN, size=1.0)

    def orders(*signals: Sequence[float], bar: int = 0, options: str = "plain") -> list[float]:
        closes = [[10.0] * len(signals[0])] * len(signals)
        path = scenario(signals, closes, chosen=chosen, rules=rules, options=options)
        return orders_of(path, bar)

    assert orders([1], [1]) == [50, 50]
    assert orders([1], [-1]) == [100, 0]
    assert orders([1], [-1], options="short") == [50, -50]
    assert orders([1], [0]) == [100, 0]
    # The first holds its 100 lots between the thresholds: half is for it, and no budget is left.
    assert orders([1, 0], [-1, 1], bar=1) == [0, 0]
    # The first signals again, and gives up half of its position for the second.
    assert orders([1, 1], [-1, 1], bar=1) == [-50, 50]


@pytest.mark.parametrize("sizing", SIZINGS)
def test_a_still_market_gives_no_order_where_the_size_needs_a_volatility(sizing: Sizing) -> None:
    rules = replace(FREE, sizing=sizing)
    moving = scenario([[1, 1, 1]], [[10, 10, 10]], rules=rules)
    assert lots_of(moving)[1] == 100
    still = replace(moving.sweep.inputs, volatilities=np.zeros((3, 1, 1)))
    path = path_of(sweep_of(still, [[Lane(ALL_IN)]], OPTIONS["plain"], rules), 0)
    bought = 0 if sizing in ("kelly", "volatility_target") else 100
    assert lots_of(path) == [0, bought, bought]
    # What is held stays.
    volatilities = np.full((4, 1, 1), 0.02)
    volatilities[1:] = 0.0
    held = scenario([[1, 1, 1, 1]], [[10, 10, 10, 10]], rules=rules).sweep.inputs
    held = replace(held, volatilities=volatilities)
    path = path_of(sweep_of(held, [[Lane(ALL_IN)]], OPTIONS["plain"], rules), 0)
    assert lots_of(path) == [0, 100, 100, 100]


def test_a_purchase_is_cut_to_what_cash_can_pay() -> None:
    # 1000 buys 100 lots at the close of 10; at the open of 12.5 it would pay for exactly 80, of
    # which the margin for rounding leaves 79.
    path = scenario([[1, 1]], closes=[[10, 12.5]], opens=[[10, 12.5]])
    assert orders_of(path, 0) == [100]
    assert lots_of(path) == [0, 79]
    assert cash_of(path) == [1000, 12.5]


def test_a_cut_purchase_pays_its_costs_too() -> None:
    # A lot costs 10 * 1.25 * 1.62 = 20.25, of which 1000 pays 49.4.
    chosen = replace(ALL_IN, costs=Costs(slippage=0.25, commission=0.62))
    path = scenario([[1, 1]], [[10, 10]], chosen=chosen)
    assert lots_of(path) == [0, 49]
    assert cash_of(path) == pytest.approx([1000, 1000 - 49 * 20.25], abs=1e-9)


def test_a_commission_that_does_not_shrink_is_paid_first() -> None:
    # Two purchases of 50 lots at 10 need 1000 and 10 each for the commission; 1000 pay for a share
    # of (1000 - 20) / (1020 - 20) = 0.98: a little below 49 lots each.
    chosen = replace(ALL_IN, costs=Costs(minimum=10.0))
    path = scenario([[1, 1], [1, 1]], [[10, 10], [10, 10]], chosen=chosen, options="fees")
    assert (lots_of(path), lots_of(path, 1)) == ([0, 48], [0, 48])
    assert cash_of(path) == [1000, 20]


def test_reductions_come_before_additions() -> None:
    # Bar 0: symbol 1 takes half of the money: 50 lots at 10, and 500 of cash are left.
    # Bar 1: symbol 1 is to be sold, symbol 0 to be bought for half of 1000: 50 lots at 10.
    # Bar 2: both open at 20. The sale brings 1000, so that 1500 of cash pay the 1000; the 500 from
    #        before it would have paid for 25 lots alone.
    path = scenario(
        signals=[[0, 1, 1], [1, -1, -1]],
        closes=[[10, 10, 20], [10, 10, 20]],
        chosen=replace(ALL_IN, size=0.1001),
    )
    assert orders_of(path, 1) == [50, -50]
    assert lots_of(path) == [0, 0, 50]
    assert lots_of(path, 1) == [0, 50, 0]
    assert cash_of(path) == [1000, 500, 500]


def test_what_a_reduction_frees_is_spent_at_the_same_close() -> None:
    path = scenario([[1, -1, 0], [0, 1, 1]], [[10, 10, 10], [10, 10, 10]])
    assert orders_of(path, 1) == [-100, 100]
    assert lots_of(path, 1) == [0, 0, 100]


@pytest.mark.parametrize(("first", "options"), [(1, "plain"), (-1, "short")])
def test_additions_share_the_budget(first: int, options: str) -> None:
    # Each wants 80.05 % of 1000, 80 lots at 10: together 1600, of which 1000 are 0.625.
    chosen = replace(ALL_IN, size=0.1601)
    path = scenario([[first], [1]], [[10], [10]], chosen=chosen, options=options)
    assert orders_of(path, 0) == [first * 50, 50]
    # Scaling comes before the smallest order: 51 units are not reached.
    chosen = replace(chosen, min_order_size=51.0)
    path = scenario([[first], [1]], [[10], [10]], chosen=chosen, options=options)
    assert orders_of(path, 0) == [0, 0]


def test_what_is_held_is_sold_for_another_only_where_targets_are_scaled() -> None:
    signals, closes = [[1, 1, 1], [-1, 1, 1]], [[10, 10, 10], [10, 10, 10]]
    assert orders_of(scenario(signals, closes), 1) == [0, 0]
    rules = replace(FREE, allocation="targets")
    path = scenario(signals, closes, rules=rules)
    assert orders_of(path, 1) == [-50, 50]
    assert (lots_of(path), lots_of(path, 1)) == ([0, 100, 50], [0, 0, 50])
    # On hold, the first keeps its 100 lots, and nothing is left for the second.
    path = scenario([[1, 0, 0], [-1, 1, 1]], closes, rules=rules)
    assert orders_of(path, 1) == [0, 0]


def test_places_go_to_the_strongest() -> None:
    closes = [[10.0, 10.0]] * 3
    chosen = replace(ALL_IN, size=0.0501, max_positions=1.0)

    def orders(*signals: Sequence[float], places: float = 1.0, bar: int = 0) -> list[float]:
        given = replace(chosen, max_positions=places)
        return orders_of(scenario(signals, closes[: len(signals)], chosen=given), bar)

    # A signal of 2 has score 3 in place of 2, and wants 37 lots.
    assert orders([1, 1], [2, 2], [1, 1]) == [0, 37, 0]
    assert orders([1, 1], [2, 2], [1, 1], places=3.0) == [25, 37, 25]
    # Two that are equal come in together or not at all.
    assert orders([1, 1], [2, 2], [1, 1], places=2.0) == [0, 37, 0]
    assert orders([1, 1], [1, 1]) == [0, 0]
    # The first keeps its place.
    assert orders([1, 1], [0, 2], bar=1) == [0, 0]
    # It leaves, so that its place is free at this close.
    assert orders([1, -1], [0, 2], bar=1) == [-25, 37]


@pytest.mark.parametrize(
    ("signal", "close", "kept"), [(1, 8, 4), (-1, 12, -6)], ids=["long", "short"]
)
def test_an_order_that_reduces_is_never_refused(signal: int, close: float, kept: int) -> None:
    # 100 lots at 10 take all of the budget and, long, all of the cash. Bar 1 goes against them and
    # leaves 800; 800 are held long, 1200 short, over the budget by 400. The variance is now
    # 0.06 * (0.2 / 1)**2 = 0.0024 long and 0.06 * (0.2 / 1.5)**2 = 0.00106667 short, the exposure
    # being 1.5. In a bear market the size is a quarter: 0.25 * 0.201 * 0.002 / variance = 0.041875
    # of 800 at 8, 4.19 lots, and 0.094219 of 800 at 12, 6.28 lots. In a bull market it is 0.
    closes, opens = [[10, close, close, close]], [[10, 10, close, close]]
    chosen = replace(ALL_IN, size=0.201, bear_multiplier=0.25, bull_multiplier=0.0)
    path = scenario(
        [[signal] * 4], closes, opens, chosen=chosen, options="short", regimes=[0, -1, 1, 0]
    )
    assert lots_of(path) == [0, signal * 100, kept, 0]
    # The opposite signal closes all of it, and opens what budget and cash then allow: 800.
    path = scenario([[signal, -signal, 0, 0]], closes, opens, options="short")
    assert lots_of(path)[1:3] == [signal * 100, -signal * (800 // close)]


def test_an_exit_is_never_too_small() -> None:
    chosen = replace(ALL_IN, min_order_size=60.0, rebalance_band=0.5)
    # 50 lots at 20 are below the smallest order.
    assert lots_of(scenario([[1, 1]], [[20, 20]], chosen=chosen)) == [0, 0]
    # 100 lots at 10 are not. In a bear market 50 are sold, and at the end the other 50, although both
    # orders are smaller than the smallest opening order.
    path = scenario(
        [[1, 1, 1, -1, -1]],
        [[10, 10, 10, 10, 10]],
        chosen=replace(chosen, size=0.201, bear_multiplier=0.5),
        regimes=[0, -1, -1, 0, 0],
    )
    assert lots_of(path) == [0, 100, 50, 50, 0]


def test_the_smallest_order_is_in_units() -> None:
    # A lot of half a unit is worth 10 * 0.5 * 4 = 20: 50 lots, 25 units.
    rules = replace(FREE, instruments=(Instrument(lot_size=0.5, multiplier=4.0),))
    for smallest, lots in ((25.0, 50), (25.1, 0)):
        chosen = replace(ALL_IN, min_order_size=smallest)
        assert orders_of(scenario([[1]], [[10]], chosen=chosen, rules=rules), 0) == [lots]


def test_a_change_inside_the_band_is_not_placed() -> None:
    # 100 lots at 10; in a bear market 0.9 of them, 90: a change of 10, and 10 / 90 = 0.111.
    chosen = replace(ALL_IN, size=0.201, bear_multiplier=0.9)
    for band, lots in ((0.11, 90), (0.112, 100)):
        path = scenario(
            [[1, 1, 1]],
            [[10, 10, 10]],
            chosen=replace(chosen, rebalance_band=band),
            regimes=[0, -1, -1],
        )
        assert lots_of(path) == [0, 100, lots]


def test_leverage_alone_allows_no_short_position() -> None:
    rules = replace(FREE, leverage=2.0, maintenance=0.25)
    path = scenario([[-1, -1], [1, 1]], [[10, 10], [10, 10]], rules=rules)
    assert (lots_of(path), lots_of(path, 1)) == ([0, 0], [0, 100])


# Costs. Half of 1000 at 10 is 50 lots.

HALF_IN = replace(ALL_IN, max_weight=0.5)


@pytest.mark.parametrize(
    ("costs", "paid"),
    [
        (Costs(), 500.0),
        (Costs(slippage=0.01), 505.0),
        (Costs(half_spread=0.5), 502.5),  # of a tick of 0.1: 0.05 a unit
        (Costs(commission=0.001, per_unit=0.02), 501.5),  # 0.5 and 1
        (Costs(commission=0.001, per_unit=0.02, minimum=1.0, per_order=1.0), 502.5),
        (Costs(commission=0.001, per_unit=0.02, minimum=5.0, per_order=1.0), 506.0),
        (Costs(impact=1.0), 501.0),  # 0.02 * sqrt(50 / 5000) = 0.002
        (Costs(impact=1.0, slippage=0.01, commission=0.1), 556.6),  # 50 * 10.12 * 1.1
    ],
    ids=["none", "slippage", "ticks", "commission", "above", "minimum", "impact", "together"],
)
def test_a_fill_costs_by_hand(costs: Costs, paid: float) -> None:
    volumes = [[5000.0, 5000.0, 5000.0]]
    lane = replace(FREE, instruments=(Instrument(tick_size=0.1),)), replace(HALF_IN, costs=costs)
    # A symbol's own costs, with half the spread in price, are the same.
    own = replace(costs, half_spread=0.1 * costs.half_spread)
    symbol = replace(FREE, instruments=(Instrument(tick_size=0.1, own=own),)), HALF_IN
    for rules, chosen in (lane, symbol):
        given: dict[str, Any] = {
            "chosen": chosen,
            "rules": rules,
            "volumes": volumes,
            "options": "fees",
        }
        path = scenario([[1, 0, 0]], [[10, 10, 10]], **given)
        assert lots_of(path) == [0, 50, 50]
        assert cash_of(path)[1] == pytest.approx(1000.0 - paid, abs=1e-9)
        assert path.sweep.row("costs")[0, 0] == pytest.approx(paid - 500.0, abs=1e-9)


def test_a_sale_gets_less_by_its_costs() -> None:
    # 50 lots sold at 10 - 0.05 - 0.1 = 9.85, less 0.1 % and 1.
    chosen = replace(
        HALF_IN, costs=Costs(slippage=0.01, half_spread=0.5, commission=0.001, per_order=1.0)
    )
    rules = replace(FREE, instruments=(Instrument(tick_size=0.1),))
    path = scenario([[1, -1, -1]], [[10, 10, 10]], chosen=chosen, rules=rules, options="fees")
    before, after = cash_of(path)[1:]
    assert lots_of(path) == [0, 50, 0]
    assert after - before == pytest.approx(50 * 9.85 * 0.999 - 1.0, abs=1e-9)


def test_a_fill_takes_its_share_of_the_volume() -> None:
    # A quarter of 200 units is 50 lots a bar; the rest lapses and is decided anew.
    chosen = replace(ALL_IN, costs=Costs(volume_share=0.25))
    path = scenario(
        [[1, 1, -1, -1, -1]],
        [[10] * 5],
        chosen=chosen,
        volumes=[[200.0] * 5],
        options="fees",
    )
    assert lots_of(path) == [0, 50, 100, 50, 0]


def test_where_a_symbol_does_not_trade_its_order_lapses() -> None:
    path = scenario([[1, 1, -1, -1, -1]], [[10] * 5], volumes=[[100.0, 0.0, 100.0, 0.0, 100.0]])
    assert lots_of(path) == [0, 0, 100, 100, 0]


def test_a_stop_does_not_fill_where_a_symbol_does_not_trade() -> None:
    path = scenario(
        [[1, 0, 0, 0]],
        [[100, 100, 90, 89]],
        chosen=replace(ALL_IN, stop_loss=0.05),
        volumes=[[1.0, 1.0, 0.0, 1.0]],
        options="stops",
    )
    assert lots_of(path) == [0, 10, 10, 0]
    assert cash_of(path)[-1] == 890


# Carry and margin.


def test_cash_earns_interest() -> None:
    path = scenario([[0, 0, 0]], [[10, 10, 10]], rates=(0.01, 0.05, 0.1))
    assert equity_of(path) == pytest.approx([1000, 1010, 1020.1], abs=1e-9)
    assert path.sweep.row("carry")[0, 0] == pytest.approx(20.1, abs=1e-9)


def test_borrowed_cash_pays_interest() -> None:
    # 200 lots at 10 for 1000: cash is -1000, and pays 5 % from bar 1 to bar 2.
    rules = replace(FREE, leverage=2.0)
    chosen = replace(ALL_IN, max_weight=2.0, max_exposure=2.0)
    path = scenario([[1, 0, 0]], [[10] * 3], chosen=chosen, rules=rules, rates=(0.0, 0.05, 0.1))
    assert lots_of(path) == [0, 200, 200]
    assert cash_of(path) == pytest.approx([1000, -1000, -1050], abs=1e-9)


def test_a_short_position_pays_its_loan_and_its_proceeds_earn_nothing() -> None:
    # 100 lots sold short at 10: cash 2000, of which 1000 are collateral. The other 1000 earn 1 %;
    # the loan of 1000 costs 30 % a year for a tenth of a year.
    rules = replace(FREE, instruments=(Instrument(borrow=0.3),))
    path = scenario([[-1, 0, 0]], [[10] * 3], rules=rules, rates=(0.01, 0.05, 0.1), options="short")
    # Bar 1: 10 of interest on 1000, before the fill.
    assert lots_of(path) == [0, -100, -100]
    free = 2010.0 - 1000.0
    assert cash_of(path) == pytest.approx([1000, 2010, 2010 + 0.01 * free - 30], abs=1e-9)


@pytest.mark.parametrize(("low", "kept"), [(7.0, 200), (6.0, 0)], ids=["above", "below"])
def test_a_margin_call_by_hand(low: float, kept: int) -> None:
    # 200 lots at 10, cash -1000. At 7 equity is 400 and a quarter of gross 350; at 6 they are 200
    # and 300, so that all is sold at 6.
    rules = replace(FREE, leverage=2.0, maintenance=0.25)
    path = scenario(
        [[1, 0, 0]],
        [[10, 10, 9]],
        lows=[[10, 10, low]],
        chosen=replace(ALL_IN, max_weight=2.0, max_exposure=2.0),
        rules=rules,
    )
    assert lots_of(path) == [0, 200, kept]
    assert equity_of(path)[2] == (800 if kept else 200)
    assert path.sweep.row("n_liquidations")[0, 0] == (0 if kept else 1)


def test_a_margin_call_closes_what_trades() -> None:
    # Long 100 lots of each at 10, cash -1000. Symbol 1 does not trade in bar 2: it counts at its
    # open of 9, and stays. At the low of 2 equity is 200 + 900 - 1000 = 100, gross 1100.
    rules = replace(FREE, leverage=2.0, maintenance=0.25)
    path = scenario(
        [[1, 0, 0], [1, 0, 0]],
        [[10, 10, 9], [10, 10, 9]],
        opens=[[10, 10, 9], [10, 10, 9]],
        lows=[[10, 10, 2], [10, 10, 0.5]],
        chosen=replace(ALL_IN, max_exposure=2.0),
        rules=rules,
        volumes=[[1e9, 1e9, 1e9], [1e9, 1e9, 0.0]],
    )
    assert (lots_of(path), lots_of(path, 1)) == ([0, 100, 0], [0, 100, 100])
    assert cash_of(path)[2] == -800
    assert equity_of(path)[2] == 100


def test_the_end_closes_everything_and_leaves_the_debt() -> None:
    # Short 100 lots at 10, cash 2000. At 25 they cost 2500 to buy back: a debt of 500.
    path = scenario([[-1, -1, -1, -1, -1]], [[10, 10, 25, 5, 5]], options="short")
    assert lots_of(path) == [0, -100, 0, 0, 0]
    assert equity_of(path) == [1000, 1000, -500, -500, -500]
    assert cash_of(path) == [1000, 2000, -500, -500, -500]
    row = {name: float(path.sweep.row(name)[0, 0]) for name in (*SUMS, "ruined", "variance")}
    assert all(np.isfinite(list(row.values())))
    assert (row["ruined"], row["n_trades"], row["n_wins"], row["gross_loss"]) == (1, 1, 0, 1500)
    assert (row["sum_return"], row["sum_return_2"], row["max_drawdown"]) == (-1.5, 2.25, 1.5)


def test_an_ended_account_pays_no_interest() -> None:
    path = scenario([[-1] * 4], [[10, 10, 25, 5]], options="short", rates=(0.0, 0.05, 0.1))
    assert equity_of(path) == [1000, 1000, -500, -500]


def test_a_period_that_starts_after_the_end_has_finite_sums() -> None:
    sweep = scenario([[-1, -1, -1, -1, -1]], [[10, 10, 25, 5, 5]], options="short").sweep
    # As between in-sample and out-of-sample: the peak and all sums are reset.
    sweep.state[:, int(PEAK) // STRIDE] = sweep.state[:, int(EQUITY) // STRIDE]
    sweep.state[:, int(MAX_DRAWDOWN) // STRIDE :] = 0.0
    sweep.walk(3, 5)
    assert np.isfinite(sweep.state).all()


def test_a_trade_that_breaks_even_is_not_won() -> None:
    path = scenario([[1, 1, -1, -1]], [[10, 10, 10, 10]])
    assert lots_of(path) == [0, 100, 100, 0]
    row = {name: float(path.sweep.row(name)[0, 0]) for name in SUMS}
    assert (row["n_trades"], row["n_wins"], row["gross_profit"], row["gross_loss"]) == (1, 0, 0, 0)


def test_the_last_position_is_marked_and_not_sold() -> None:
    path = scenario([[1, 1, -1]], [[10, 10, 12]])
    assert lots_of(path) == [0, 100, 100]
    assert equity_of(path)[-1] == 1200
    assert path.sweep.row("n_trades")[0, 0] == 0
    assert path.sweep.row("traded")[0, 0] == 1000


def test_a_correlated_symbol_gets_less() -> None:
    # Symbol 0 is held when symbol 1 shows its signal: rho 0.8, and a penalty of 0.5 cuts its 25.05
    # lots by 0.4 to 15.03. Symbol 0 alone is not cut.
    chosen = replace(ALL_IN, size=0.0501, correlation_penalty=0.5)
    closes = [[10, 10], [10, 10]]
    path = scenario([[1, 0], [0, 1]], closes, chosen=chosen, options="correlated", correlation=0.8)
    assert path.orders[0, 0, 0, 0] == 25
    assert path.orders[1, 0, 1, 0] == 15
    path = scenario([[1, 0], [0, 1]], closes, chosen=chosen, options="correlated", correlation=-0.8)
    assert path.orders[1, 0, 1, 0] == 25
    # With short positions, a hedge is not cut, and an addition to the same bet is.
    for first, second, rho, lots in [
        (1, 1, 0.8, 15),
        (1, -1, 0.8, -25),
        (-1, -1, 0.8, -15),
        (-1, 1, 0.8, 25),
        (1, -1, -0.8, -15),
    ]:
        signals = [[first, 0], [0, second]]
        path = scenario(signals, closes, chosen=chosen, options="all", correlation=rho)
        assert path.orders[1, 0, 1, 0] == lots


def test_filling_at_the_close_is_at_the_bar_that_decides() -> None:
    path = scenario(
        [[1, 1, -1]],
        closes=[[10, 12, 15]],
        opens=[[9, 11, 14]],
        options="all_at_close",
        chosen=replace(ALL_IN, rebalance_band=0.1),
    )
    # 100 lots at the first close; at 15 they turn into a short position of 100.
    assert lots_of(path) == [100, 100, -100]
    assert equity_of(path) == [1000, 1200, 1500]


# Stops. All-in at 100 with 1000: 10 lots from the open of bar 1, entry 100.

STOP = replace(ALL_IN, stop_loss=0.05, rebalance_band=0.3)


def stopped(
    opens: Sequence[float],
    highs: Sequence[float],
    lows: Sequence[float],
    closes: Sequence[float],
    signals: Sequence[float] | None = None,
    chosen: ParameterSet = STOP,
    side: int = 1,
    rules: Rules = FREE,
) -> Path:
    return scenario(
        [[side] * len(opens) if signals is None else signals],
        [closes],
        [opens],
        [highs],
        [lows],
        chosen=chosen,
        options="stops" if side > 0 else "all",
        rules=rules,
    )


@pytest.mark.parametrize(
    ("bar", "take_profit", "cash"),
    [
        ((99, 101, 94, 96), inf, 950),  # through the level of 95 within the bar
        ((90, 97, 88, 96), inf, 900),  # a gap: filled at the open
        ((99, 120, 96, 119), inf, 0),  # not touched
        ((99, 111, 96, 109), 0.1, 1100),  # the goal of 110
        ((115, 120, 113, 114), 0.1, 1150),  # a gap through the goal
        ((99, 111, 94, 109), 0.1, 950),  # both in the bar: the stop
        ((99, 101, 95, 96), inf, 950),  # touched exactly
    ],
    ids=["stop", "gap", "untouched", "goal", "gap-goal", "both", "touched"],
)
def test_stops_of_a_long_position(bar: tuple[float, ...], take_profit: float, cash: float) -> None:
    open_, high, low, close = bar
    path = stopped(
        [100, 100, open_],
        [100, 101, high],
        [100, 99, low],
        [100, 100, close],
        chosen=replace(STOP, take_profit=take_profit),
    )
    assert lots_of(path)[:2] == [0, 10]
    assert lots_of(path)[2] == (10 if cash == 0 else 0)
    assert cash_of(path)[2] == pytest.approx(cash, abs=1e-9)


@pytest.mark.parametrize(
    ("bar", "take_profit", "cash"),
    [
        ((101, 106, 99, 104), inf, 950),
        ((112, 113, 104, 104), inf, 880),
        ((101, 104, 70, 71), inf, 2000),
        ((101, 104, 89, 91), 0.1, 1100),
        ((85, 87, 80, 86), 0.1, 1150),
        ((101, 106, 89, 91), 0.1, 950),
        ((101, 105, 99, 104), inf, 950),
    ],
    ids=["stop", "gap", "untouched", "goal", "gap-goal", "both", "touched"],
)
def test_stops_of_a_short_position(bar: tuple[float, ...], take_profit: float, cash: float) -> None:
    open_, high, low, close = bar
    path = stopped(
        [100, 100, open_],
        [100, 101, high],
        [100, 99, low],
        [100, 100, close],
        chosen=replace(STOP, take_profit=take_profit),
        side=-1,
    )
    assert lots_of(path)[:2] == [0, -10]
    assert lots_of(path)[2] == (-10 if cash == 2000 else 0)
    assert cash_of(path)[2] == pytest.approx(cash, abs=1e-9)


def test_a_trailing_stop_follows_the_best_price_of_the_bars_before() -> None:
    chosen = replace(ALL_IN, trailing_stop=0.05, rebalance_band=0.3)
    # Bar 1 rises to 120. In bar 2 the level is 114, though its own high of 140 would make it 133:
    # the low of 115 may have come before. In bar 3 it is 133, and the low of 132 hits it.
    path = stopped(
        [100, 100, 118, 139],
        [100, 120, 140, 139],
        [100, 99, 115, 132],
        [100, 119, 139, 135],
        chosen=chosen,
    )
    assert lots_of(path) == [0, 10, 10, 0]
    assert cash_of(path)[3] == pytest.approx(1330, abs=1e-9)
    # The mirror image: lowest 80, so 84 in bar 2; lowest 60, so 63 in bar 3.
    path = stopped(
        [100, 100, 82, 61],
        [100, 101, 83, 64],
        [100, 80, 60, 61],
        [100, 81, 61, 62],
        chosen=replace(chosen, max_exposure=3.0, max_weight=3.0),
        rules=replace(FREE, leverage=3.0),
        signals=[-1, 0, 0, 0],
        side=-1,
    )
    lots = lots_of(path)
    assert lots[1] == lots[2] == -30
    assert lots[3] == 0
    # 30 lots sold at 100 and bought back at 63.
    assert cash_of(path)[3] == pytest.approx(1000 + 30 * 37, abs=1e-9)


def test_a_stop_watches_the_bar_of_the_fill() -> None:
    path = stopped([100, 100], [100, 101], [100, 94], [100, 96])
    assert lots_of(path) == [0, 0]
    assert cash_of(path)[1] == pytest.approx(950, abs=1e-9)


@pytest.mark.parametrize(("low", "kept"), [(94.5, 9), (94, 0)], ids=["above", "touched"])
def test_adding_averages_the_entry(low: float, kept: int) -> None:
    # 0.5005 of 1000 is 5 lots at 100. In a bull market it is twice that, and the 500 of cash left
    # pay 4 more at 110. The entry is (5 * 100 + 4 * 110) / 9 = 940 / 9; the stop is 0.9 of it, 94.
    path = scenario(
        [[1, 1, 0, 0]],
        closes=[[100, 100, 110, 96]],
        opens=[[100, 100, 110, 110]],
        highs=[[100, 101, 111, 110]],
        lows=[[100, 99, 109, low]],
        chosen=replace(ALL_IN, stop_loss=0.1, size=0.1001, bull_multiplier=2.0),
        options="stops",
        regimes=[0, 1, 0, 0],
    )
    assert lots_of(path) == [0, 5, 9, kept]
    if kept == 0:
        assert cash_of(path)[3] == pytest.approx(60 + 9 * 94, abs=1e-9)


@pytest.mark.parametrize(
    ("signals", "lots"),
    [
        ([1, 1, 1, 1, 1, 1], [0, 10, 0, 0, 0, 0]),
        ([1, 1, 1, 0, 1, 1], [0, 10, 0, 0, 0, 0]),  # between the thresholds nothing is new
        ([1, 1, 1, -1, 1, 1], [0, 10, 0, 0, 0, 9]),  # the opposite signal lifts the bar
        ([1, 1, -1, 1, 1, 1], [0, 10, 0, 0, 9, 9]),  # at once, where it comes at the stop's bar
    ],
    ids=["same", "hold", "left", "left-at-once"],
)
def test_a_stopped_position_waits_until_its_signal_leaves(
    signals: list[float], lots: list[float]
) -> None:
    # 10 lots stopped at 95 leave 950, which buys 9 lots at 100.
    path = stopped(
        [100, 100, 99, 100, 100, 100],
        [100, 100, 100, 100, 100, 100],
        [100, 100, 94, 100, 100, 100],
        [100, 100, 100, 100, 100, 100],
        signals=signals,
    )
    assert lots_of(path) == lots


# Performance of the lanes from their sums against performance from the path.


@pytest.mark.parametrize("name", ["plain", "all_at_close"])
def test_metrics_of_the_sums_equal_those_of_the_path(name: str) -> None:
    sweep, blocks = random_path(name).sweep, blocks_of(name)
    # Without the risk-free rate, whose effect on a Sharpe ratio is tested by itself.
    free = np.asarray(sweep.inputs.rates).copy()
    free[:, layout.RISK_FREE] = 0.0
    sweep = sweep_of(replace(sweep.inputs, rates=free), blocks, OPTIONS[name])
    actual = performance_of(sweep.walk(FIRST, N_BARS))
    for k, block in enumerate(blocks):
        for b in range(0, LANES, 9):
            lane = block[b]
            out = simulate_one(sweep.inputs.market(lane.columns), lane.chosen, sweep.rules, FIRST)
            if out.ended:
                continue
            expected = reference_metrics.performance(
                out.equity,
                sweep.rules.initial_cash,
                out.exposure,
                out.profits,
                out.sums["traded"],
                out.sums["costs"],
                out.ended,
                252.0,
                out.sums["n_liquidations"],
                out.sums["carry"],
            )
            for metric, value in expected.items():
                # CARRY is a row of the lanes' state there.
                place = getattr(metrics, "NET_CARRY" if metric == "carry" else metric.upper())
                assert actual[k * LANES + b, place] == pytest.approx(
                    value, rel=1e-7, abs=1e-8, nan_ok=True
                ), (metric, lane)
