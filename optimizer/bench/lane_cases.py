"""Cases of the lane kernels and of the whole simulation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kernels import layout
from kernels._jit import jit_borrowing
from kernels.codes import (
    ADD,
    ADDITIONS,
    AVERAGE_CROSS,
    BREAKOUT,
    FILL_KINDS,
    MEAN_REVERSION,
    MOMENTUM,
    REDUCE,
    ROTATION,
)
from kernels.lanes.accounts import account_lanes, carry_lanes
from kernels.lanes.correlations import rho_lanes
from kernels.lanes.fills import fill_lanes
from kernels.lanes.marks import mark_lanes
from kernels.lanes.signals import signal_lanes
from kernels.lanes.sizing import place_lanes, share_lanes, want_common_lanes, want_lanes
from kernels.lanes.stops import margin_lanes, stop_lanes
from kernels.lanes.sums import sum_bars
from optimizer.bench.assembly import Mix, instruction_mix
from optimizer.bench.case import CELL, Case, repeated_case
from optimizer.bench.inputs import momentum_sets
from optimizer.sweep.evaluate import evaluate
from optimizer.sweep.inputs import EVERY_BAR, NO_PAYMENTS, NO_REGIME, Inputs, MarketRegime
from optimizer.sweep.lanes import lay_out_blocks, row_of
from optimizer.sweep.tiles import Tile
from optimizer.text import counted
from optimizer.types import Bars, FloatArray


@dataclass(eq=False)
class _Block:
    """The buffers of one block of lanes in the middle of a simulation, and what it reads.

    Attributes:
        n_symbols: symbols that the block holds positions in.
    """

    n_symbols: int
    state: FloatArray = field(init=False)
    positions: FloatArray = field(init=False)
    parameters: FloatArray = field(init=False)
    scratch: FloatArray = field(init=False)
    recent: FloatArray = field(init=False)
    values: FloatArray = field(init=False)
    ranks: FloatArray = field(init=False)
    prices: FloatArray = field(init=False)
    highs: FloatArray = field(init=False)
    lows: FloatArray = field(init=False)
    traded: Any = field(init=False)
    volumes: FloatArray = field(init=False)
    volatilities: FloatArray = field(init=False)
    instruments: FloatArray = field(init=False)
    rates: FloatArray = field(init=False)
    columns: Any = field(init=False)
    pending: Any = field(init=False)
    fills: FloatArray = field(init=False)
    atrs: FloatArray = field(init=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(3)
        n = self.n_symbols
        zeros = layout.aligned_zeros
        self.state = zeros((int(layout.STATE_BLOCK),))
        self.positions = zeros((n * int(layout.POSITION_BLOCK),))
        self.parameters = zeros((int(layout.PARAMETER_BLOCK),))
        self.scratch = zeros((layout.SCRATCH_SIZE,))
        self.recent = zeros((layout.RECENT_SIZE,))
        self.values = zeros((n, layout.STRIDE))
        self.values[:] = rng.uniform(0.0, 9_000.0, self.values.shape)
        self.ranks = zeros((n * int(layout.RANK_BLOCK),))
        self.ranks[:] = rng.uniform(0.0, 1.0, self.ranks.shape)
        self.pending = np.zeros((1, n), dtype=np.uint8)
        self.fills = np.zeros((0, n, len(FILL_KINDS), 4))
        self.columns = np.zeros(int(layout.COLUMN_BLOCK), dtype=np.uint64)
        self.prices, self.highs, self.lows = (np.full((2, n), p) for p in (100.0, 101.0, 99.0))
        self.traded = np.ones((2, n), dtype=np.uint8)
        self.volumes = np.full((2, n), 1e6)
        self.volatilities = np.full((2, n, 1), 0.01)
        self.atrs = np.empty((0, n))
        self.instruments = np.zeros((n, layout.N_INSTRUMENT_COLUMNS))
        self.instruments[:, [layout.LOT_UNITS, layout.LOT_MONEY]] = 1.0
        self.instruments[:, layout.BORROW] = 0.01
        self.instruments[:, layout.OWN_VOLUME_SHARE] = np.inf
        self.rates = np.full((layout.SUMMED_BARS, layout.N_RATE_COLUMNS), 1e-5)
        for read in (
            *(self.prices, self.highs, self.lows, self.traded, self.volumes),
            *(self.volatilities, self.instruments, self.rates, self.atrs),
        ):
            read.flags.writeable = False

        def fill(rows: FloatArray, offset: Any, low: float, high: float) -> None:
            rows[int(offset) : int(offset) + layout.LANES] = rng.uniform(low, high, layout.LANES)

        for offset, low, high in (
            (layout.CASH, 1e4, 5e4),
            (layout.EQUITY, 9.9e4, 1.01e5),
            (layout.EXPOSURE, 0.4, 0.9),
            (layout.VARIANCE, 1e-4, 2e-4),
            (layout.PEAK, 1e5, 1.1e5),
        ):
            fill(self.state, offset, low, high)
        for offset, low, high in (
            (layout.SIZE, 0.1, 0.5),
            (layout.SCORE_SHARPE, 0.02, 0.05),
            (layout.MAX_WEIGHT, 1.0, 1.0),
            (layout.MAX_POSITIONS, 5.0, 5.0),
            (layout.MAX_EXPOSURE, 1.0, 1.0),
            (layout.BEAR_MULTIPLIER, 0.6, 0.6),
            (layout.NEUTRAL_MULTIPLIER, 1.0, 1.0),
            (layout.BULL_MULTIPLIER, 1.2, 1.2),
            (layout.CORRELATION_PENALTY, 0.5, 0.5),
            (layout.MIN_ORDER_SIZE, 1.0, 1.0),
            (layout.REBALANCE_BAND, 0.05, 0.3),
            (layout.STOP_LOSS, 0.1, 0.3),
            (layout.TAKE_PROFIT, 0.1, 0.3),
            (layout.TRAILING_STOP, 0.1, 0.3),
            (layout.SLIPPAGE, 1e-4, 1e-3),
            (layout.COMMISSION, 1e-4, 1e-3),
            (layout.MINIMUM, 1.0, 1.0),
            (layout.IMPACT, 0.1, 0.1),
            (layout.VOLUME_SHARE, 0.1, 0.1),
            (layout.SIGNAL_0, 0.0, 0.1),
            (layout.SIGNAL_1, 0.1, 0.2),
        ):
            fill(self.parameters, offset, low, high)
        for offset, low, high in (
            (layout.GROSS, 4e4, 9e4),
            (layout.EQUITY_NOW, 1e5, 1e5),
            (layout.ADDED, 1e5, 2e5),
            (layout.SCALED_SIZE, 0.1, 0.5),
            (layout.INVERSE_VARIANCE, 5e3, 1e4),
            (layout.INVERSE_EXPOSURE, 1.0, 2.0),
            (layout.INVERSE_PEAK, 9e-6, 1e-5),
            (layout.DIRECTION, 1.0, 1.0),
            (layout.FRACTION, 0.05, 0.2),
        ):
            fill(self.scratch, offset, low, high)
        for i in range(layout.SUMMED_BARS + 1):
            for offset, low, high in (
                (layout.LAST_EQUITY, 9.9e4, 1.01e5),
                (layout.LAST_INVERSE, 9.9e-6, 1.01e-5),
                (layout.LAST_EXPOSURE, 0.4, 0.9),
            ):
                fill(self.recent, int(offset) + i * layout.STRIDE, low, high)
        for s in range(n):
            at = s * int(layout.POSITION_BLOCK)
            for offset, low, high in (
                (layout.LOTS, 10.0, 90.0),
                (layout.ORDER, 5.0, 9.0),
                (layout.FLOW, -9e3, -1e3),
                (layout.ENTRY, 95.0, 105.0),
                (layout.BEST, 100.0, 105.0),
            ):
                fill(self.positions, at + int(offset), low, high)


_RULES = {
    "momentum": MOMENTUM,
    "mean reversion": MEAN_REVERSION,
    "average cross": AVERAGE_CROSS,
    "breakout": BREAKOUT,
    "rotation": ROTATION,
}


def _signals(strategy: int, shared: bool) -> Callable[..., None]:
    """``signal_lanes`` of one rule; the others are compiled out."""
    own = None if shared else True

    @jit_borrowing
    def signals(
        q: Any, parameters: Any, scratch: Any, close: float, x0: float, x1: float, vol: float
    ) -> None:
        signal_lanes(
            q, strategy, parameters, scratch, close, x0, x1, vol, 1.0 / vol, True, own, None, None
        )

    return signals


def _market(block: _Block) -> tuple[Any, ...]:
    """What fills read of the market and of their block."""
    return (
        *(block.prices, block.traded, block.volumes, block.volatilities, block.instruments),
        *(block.columns, block.parameters, block.state, block.positions),
    )


@jit_borrowing
def _share(
    k: Any,
    instruments: Any,
    parameters: Any,
    positions: Any,
    pending: Any,
    scratch: Any,
    short: Any,
) -> None:
    """``share_lanes`` of additions in every symbol; the other allocation is compiled out."""
    for s in range(pending.shape[1]):
        pending[0, s] = ADD
    share_lanes(k, instruments, parameters, positions, pending, scratch, ADDITIONS, short, None)


@jit_borrowing
def _fill(
    prices: Any,
    traded: Any,
    volumes: Any,
    volatilities: Any,
    instruments: Any,
    columns: Any,
    parameters: Any,
    state: Any,
    positions: Any,
    pending: Any,
    scratch: Any,
    fills: Any,
    atrs: Any,
    fees: Any,
) -> None:
    """``fill_lanes`` of orders in every symbol, of which it forgets that they are filled."""
    for s in range(pending.shape[1]):
        pending[0, s] = REDUCE | ADD
    fill_lanes(
        np.uint64(0), 1, 0, prices, traded, volumes, volatilities, atrs, instruments, columns,
        parameters, state, positions, pending, scratch, 1.0, fills, fees, None, None, None, None,
    )  # fmt: skip


def lane_cases(n_symbols: int) -> list[Case]:
    """Cases of the phases of the simulation, on one block of lanes in the first-level cache.

    Args:
        n_symbols: symbols of the phases that sum over symbols.

    Returns:
        Signals, sizing, allocation, places, fills, marks, correlations, accounts, carry, stops and
        margin, each by itself.
    """
    zero, off = np.uint64(0), (None, None, None, None)
    per_call = {"calls": 500, "lanes": layout.LANES}
    lanes = layout.LANES
    cases = []
    for name, code in _RULES.items():
        block = _Block(1)
        arguments = (zero, block.parameters, block.scratch, 100.0, 0.05, 0.04, 0.01)
        for suffix, shared in (("", True), (", own features", False)):
            if name == "momentum" or shared:
                cases.append(
                    _lane_case(
                        f"signal {name}{suffix}",
                        CELL,
                        lanes,
                        _signals(code, shared),
                        arguments,
                        per_call,
                    )
                )

    def add(name: str, element: str, n: int, function: Any, arguments: Sequence[Any]) -> None:
        cases.append(_lane_case(name, element, lanes * n, function, arguments, per_call))

    for name, options in (
        ("", off),
        (", correlation", (True, None, None, None)),
        (", long/short", (None, None, True, None)),
    ):
        b = _Block(1)
        buffers = b.positions, b.parameters, b.scratch
        correlation, _, short, _ = options
        common = (zero, zero, zero, *buffers, 100.0, b.instruments, 1.0, 0.005, 100.0)
        add(f"sizing{name}", CELL, 1, want_common_lanes, (*common, correlation, short))
        wanted = (zero, zero, zero, *buffers, 100.0, b.instruments, False, *options, None)
        add(f"sizing, own features{name}", CELL, 1, want_lanes, wanted)
    for name, short in (("", None), (", long/short", True)):
        b = _Block(n_symbols)
        orders = (zero, b.instruments, b.parameters, b.positions, b.pending, b.scratch)
        add(f"allocation{name}", CELL, n_symbols, _share, (*orders, short))
    b = _Block(n_symbols)
    add(
        "places",
        CELL,
        n_symbols,
        place_lanes,
        (zero, b.parameters, b.positions, b.scratch, b.ranks),
    )
    for name, fees in (("", None), (", fees", True)):
        b = _Block(n_symbols)
        add(
            f"fills{name}",
            CELL,
            n_symbols,
            _fill,
            (*_market(b), b.pending, b.scratch, b.fills, b.atrs, fees),
        )
    b = _Block(n_symbols)
    add(
        "marks",
        CELL,
        n_symbols,
        mark_lanes,
        (zero, 0, b.prices, b.state, b.positions, b.scratch, None, b.instruments, b.fills, None),
    )
    b = _Block(n_symbols)
    matrix = np.full((1, n_symbols, n_symbols), 0.5)
    matrix.flags.writeable = False
    add(
        "mean correlation",
        CELL,
        n_symbols,
        rho_lanes,
        (zero, 0, matrix, b.positions, b.scratch, b.values),
    )
    b = _Block(1)
    add(
        "accounts",
        "bar x set",
        1,
        account_lanes,
        (zero, zero, b.state, b.scratch, b.recent, 0.94),
    )
    b = _Block(1)
    summed = np.uint64(layout.SUMMED_BARS)
    add(
        "sums",
        "bar x set",
        layout.SUMMED_BARS,
        sum_bars,
        (zero, layout.SUMMED_BARS - 1, summed, EVERY_BAR, b.rates, b.state, b.scratch, b.recent),
    )
    b = _Block(n_symbols)
    add(
        "carry, long/short",
        CELL,
        n_symbols,
        carry_lanes,
        (
            *(zero, 1, b.prices, b.instruments, b.rates, NO_PAYMENTS),
            *(b.state, b.positions, b.scratch, True, None),
        ),
    )
    for name, fees in (("", None), (", fees", True)):
        b = _Block(1)
        add(
            f"stops{name}",
            CELL,
            1,
            stop_lanes,
            (
                *(zero, 1, 1, b.prices, b.highs, b.lows, *_market(b)[1:], b.pending, b.scratch),
                *(b.fills, fees, None, None),
            ),
        )
    b = _Block(n_symbols)
    add(
        "margin",
        CELL,
        n_symbols,
        margin_lanes,
        (zero, 1, 1, b.prices, b.highs, b.lows, *_market(b)[1:], b.scratch, 0.25, b.fills, None),
    )
    return cases


def _lane_case(
    kernel: str,
    element: str,
    elements: int,
    function: Any,
    arguments: Sequence[Any],
    details: Mapping[str, Any],
) -> Case:
    case = repeated_case(kernel, element, elements, function, arguments, **details)
    case.mix = lambda: _mix_of(kernel, instruction_mix(case.assembly()), elements // layout.LANES)
    return case


def _mix_of(kernel: str, blocks: Sequence[Mix], n_symbols: int) -> Mix:
    """Instructions for 8 elements of a phase, from the blocks of its code.

    The longest block is the loop over lanes. Marks and correlations are sums over four symbols per
    pass: they take the block that computes most per number stored, divided by four. The mean
    correlation adds the block that divides. The sums over bars are two loops, over returns and over
    drawdowns.
    """

    def length(mix: Mix) -> float:
        return sum(mix.parts())

    if kernel == "sums":
        first, second = sorted(blocks, key=length)[-2:]
        return (first + second).times(1 / layout.SUMMED_BARS)
    if kernel not in ("marks", "mean correlation"):
        return max(blocks, key=length, default=Mix())
    sums = max(
        (one for one in blocks if one.stores and not one.divides),
        key=lambda mix: mix.arithmetic / mix.stores,
        default=Mix(),
    )
    if kernel == "marks":
        return sums.times(0.25)
    means = max((one for one in blocks if one.divides), key=length, default=Mix())
    return sums.times(n_symbols / 4) + means


CONFIGURATIONS: tuple[tuple[str, bool, Mapping[str, Mapping[str, Any]]], ...] = (
    ("shared features", True, {}),
    ("own lookbacks", False, {}),
    ("shared, correlation", True, {"risk": {"correlation_penalty": 0.5}}),
    ("shared, stops", True, {"risk": {"stop_loss": 0.1}}),
    (
        "shared, ATR stops and time exit",
        True,
        {"risk": {"stop_loss_atr": 3.0, "take_profit_atr": 6.0, "time_exit": 60, "cooldown": 5}},
    ),
    ("shared, limit entries", True, {"risk": {"entry": "limit", "entry_offset": 0.005}}),
    ("shared, stop entries", True, {"risk": {"entry": "stop", "entry_offset": 0.005}}),
    ("shared, long/short", True, {"risk": {"allow_short": True}}),
    (
        "shared, fees",
        True,
        {"costs": {"commission_minimum": 1.0, "impact": 0.1, "max_volume_share": 0.1}},
    ),
    ("shared, leverage", True, {"account": {"leverage": 2.0, "maintenance_margin": 0.25}}),
    ("shared, carry", True, {"account": {"cash_rate": 0.03}}),
    ("shared, volatility target", True, {"risk": {"sizing": "volatility_target"}}),
    ("shared, weight", True, {"risk": {"sizing": "weight"}}),
    ("shared, equal weight", True, {"risk": {"sizing": "equal_weight"}}),
    ("shared, risk per trade", True, {"risk": {"sizing": "risk_per_trade", "stop_loss": 0.1}}),
    ("shared, targets", True, {"risk": {"allocation": "targets"}}),
    ("shared, max positions", True, {"risk": {"max_positions": 5}}),
)
"""Name, whether all sets share their features, and tables of the study file. The difference to the
first is the price of an option; risk per trade has stops besides."""


def simulation_cases(bars: Bars, mixes: Mapping[str, Mix]) -> list[Case]:
    """Cases of the whole simulation, metrics included, in its main configurations.

    Args:
        bars: the bars of all symbols.
        mixes: instructions of the phases by their names; they bound a configuration.

    Returns:
        One case per configuration.
    """
    flat = {NO_REGIME: MarketRegime.neutral(bars.n_bars)}
    n = bars.n_symbols
    cases = []
    for name, shares, tables in CONFIGURATIONS:
        if n == 1 and name in ("shared, correlation", "shared, max positions"):
            continue
        inputs, shared, own = momentum_sets(bars, tables=tables)
        tile = shared if shares else own
        sized = _sized(inputs, tile) if name in QUICK else 1.0
        cases.append(
            Case(
                f"simulation, {counted(n, 'symbol')}, {name}",
                CELL,
                (bars.n_bars - inputs.first) * n * tile.n_lanes,
                lambda inputs=inputs, tile=tile: evaluate(inputs, [tile], flat),  # type: ignore[misc]
                lanes=layout.LANES,
                mix=lambda name=name, sized=sized: bound_mix(name, n, mixes, sized),  # type: ignore[misc]
            )
        )
    return cases


QUICK = (
    *("shared features", "own lookbacks", "shared, correlation", "shared, long/short"),
    "shared, fees",
)
"""Configurations in which a symbol is passed over where no lane of a block acts on its signal."""


def _sized(inputs: Inputs, tile: Tile) -> float:
    """Share of bars, symbols and blocks in which the signal of any lane wants a position."""
    blocks = lay_out_blocks([tile], inputs, {NO_REGIME: MarketRegime.neutral(inputs.bars.n_bars)})
    shares = []
    for columns, parameters in zip(blocks.columns, blocks.parameters, strict=True):
        thresholds = parameters[row_of(layout.SIGNAL_0), : layout.LANES]
        features = inputs.features.values[inputs.first :, :, columns[0, : layout.LANES]]
        wants = abs(features) if inputs.rules.allow_short else features
        shares.append((wants > thresholds).any(axis=-1).mean())
    return float(np.mean(shares))


def bound_mix(
    configuration: str, n_symbols: int, mixes: Mapping[str, Mix], sized: float = 1.0
) -> Mix:
    """Instructions for 8 cells of a configuration: the sum of its phases without fills.

    How many fills there are depends on the orders, and whether the budget is scaled on the signals,
    so the bound leaves both out and errs on the low side. So it does with a signal that all lanes share,
    which takes a few scalar instructions.

    Args:
        configuration: its name, see ``CONFIGURATIONS``.
        n_symbols: over which the work of a bar is spread.
        mixes: instructions of the phases by their names.
        sized: share of the bars and symbols in which the signal of any lane of a block is sized.

    Returns:
        The sum.
    """
    option = configuration.removeprefix("shared, ")
    mix = mixes["marks"] + (mixes["accounts"] + mixes["sums"]).times(1 / n_symbols)
    if configuration == "own lookbacks":
        mix += mixes["signal momentum, own features"] + mixes["sizing, own features"].times(sized)
    elif configuration in QUICK:
        name = f"sizing, {option}" if option in ("correlation", "long/short") else "sizing"
        mix += mixes[name].times(sized)
    else:
        mix += mixes["signal momentum"] + mixes["sizing, own features"]
    if option == "correlation":
        mix += mixes["mean correlation"]
    if option == "leverage":
        mix += mixes["margin"]
    watched = ("stops", "risk per trade", "ATR stops and time exit")
    return mix + mixes["stops"] if option in watched else mix
