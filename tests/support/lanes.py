"""Lays out parameter sets of the reference simulation as lanes of the compiled one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from kernels import layout
from kernels.codes import (
    ALLOCATIONS,
    AVERAGE_CROSS,
    BREAKOUT,
    FILL_KINDS,
    LIVE,
    MARKET_ENTRY,
    MEAN_REVERSION,
    MOMENTUM,
    ROTATION,
    SIZINGS,
)
from kernels.simulation import simulate
from tests.reference.simulation import Market, ParameterSet, Rules

FloatArray = npt.NDArray[np.float64]

CODES = {
    "momentum": MOMENTUM,
    "mean_reversion": MEAN_REVERSION,
    "average_cross": AVERAGE_CROSS,
    "breakout": BREAKOUT,
    "rotation": ROTATION,
}

CHOSEN_ROWS = (
    "size",
    "score_sharpe",
    "max_weight",
    "max_positions",
    "max_exposure",
    "bear_multiplier",
    "neutral_multiplier",
    "bull_multiplier",
    "correlation_penalty",
    "min_order_size",
    "rebalance_band",
    "stop_loss",
    "take_profit",
    "trailing_stop",
)
"""Attributes of a parameter set that are rows of the parameters."""

COST_ROWS = {
    "slippage": "slippage",
    "half_spread": "half_spread_ticks",
    "commission": "commission",
    "per_unit": "per_unit",
    "minimum": "minimum",
    "per_order": "per_order",
    "impact": "impact",
    "volume_share": "volume_share",
}
"""Attributes of costs and their rows of the parameters."""


@dataclass(eq=False)
class Inputs:
    """The inputs of lanes. Every array is made read-only, as in a study.

    Attributes:
        opens, highs, lows, closes: (n_bars, n_symbols).
        features: (n_bars, n_symbols, n_columns).
        volatilities: (n_bars, n_symbols, n_volatilities).
        regimes: (n_bars, n_models).
        correlations: (n_refreshes, n_symbols, n_symbols) from bar ``first`` on every ``refresh``
            bars; None where off.
        first: bar of the first decision.
        volumes: (n_bars, n_symbols), units; 0 where the symbol does not trade, inf (the default)
            where it is unknown.
        rates: (n_bars, N_RATE_COLUMNS), zeros by default.
        payments: (n_bars, n_symbols), money per unit; empty by default.
        counted: (n_bars,), 1 where a return is closed; empty by default, where every bar closes one.
    """

    opens: FloatArray
    highs: FloatArray
    lows: FloatArray
    closes: FloatArray
    features: FloatArray
    volatilities: FloatArray
    regimes: npt.NDArray[np.int8]
    correlations: FloatArray | None = None
    refresh: int = 1
    first: int = 0
    volumes: FloatArray | None = None
    rates: FloatArray | None = None
    payments: FloatArray | None = None
    counted: npt.NDArray[np.uint8] | None = None
    inverses: FloatArray = field(init=False)
    traded: npt.NDArray[np.uint8] = field(init=False)

    def __post_init__(self) -> None:
        """Add what follows from the others, and make the arrays read-only."""
        self.inverses = np.array(
            [1.0 / v if v > 0.0 else 0.0 for v in self.volatilities.ravel().tolist()]
        ).reshape(self.volatilities.shape)
        if self.volumes is None:
            self.volumes = np.full(self.closes.shape, inf)
        if self.rates is None:
            self.rates = np.zeros((len(self.closes), layout.N_RATE_COLUMNS))
        if self.payments is None:
            self.payments = np.zeros((0, 0))
        if self.counted is None:
            self.counted = np.zeros(0, dtype=np.uint8)
        self.traded = (self.volumes > 0.0).astype(np.uint8)
        for name, value in vars(self).items():
            if isinstance(value, np.ndarray):
                own = np.ascontiguousarray(value)
                own.flags.writeable = False
                setattr(self, name, own)

    @property
    def n_bars(self) -> int:
        """Number of bars."""
        return len(self.closes)

    @property
    def n_symbols(self) -> int:
        """Number of symbols."""
        return int(self.closes.shape[1])

    def market(self, columns: tuple[int, int, int, int]) -> Market:
        """The inputs of a lane with these columns, as plain lists."""
        first, second, volatility, model = columns
        matrices: dict[int, list[list[float]]] = {}
        if self.correlations is not None:
            bars = range(self.first, self.n_bars, self.refresh)
            matrices = dict(zip(bars, self.correlations.tolist(), strict=True))
        rates, volumes = np.asarray(self.rates), np.asarray(self.volumes)
        return Market(
            self.opens.tolist(),
            self.highs.tolist(),
            self.lows.tolist(),
            self.closes.tolist(),
            volumes.tolist(),
            (self.features[:, :, first].tolist(), self.features[:, :, second].tolist()),
            self.volatilities[:, :, volatility].tolist(),
            self.regimes[:, model].tolist(),
            rates[:, layout.CREDIT].tolist(),
            rates[:, layout.DEBIT].tolist(),
            rates[:, layout.RISK_FREE].tolist(),
            rates[:, layout.YEARS].tolist(),
            matrices,
        )

    def permuted(self, order: Sequence[int]) -> Inputs:
        """The same bars with the symbols in other places."""
        places = list(order)
        matrices = self.correlations
        if matrices is not None:
            matrices = matrices[:, places][:, :, places]
        return Inputs(
            self.opens[:, places],
            self.highs[:, places],
            self.lows[:, places],
            self.closes[:, places],
            self.features[:, places],
            self.volatilities[:, places],
            self.regimes,
            matrices,
            self.refresh,
            self.first,
            np.asarray(self.volumes)[:, places],
            self.rates,
        )


@dataclass(frozen=True)
class Lane:
    """A parameter set, and its columns: two features, the volatility, the regime model."""

    chosen: ParameterSet
    columns: tuple[int, int, int, int] = (0, 0, 0, 0)


def _signal_rows(chosen: ParameterSet) -> tuple[float, float]:
    if chosen.strategy == "mean_reversion":
        return chosen.thresholds[0], chosen.thresholds[1]
    return chosen.thresholds[0], 1.0 / sqrt(chosen.lookback)


def _same(block: Sequence[Lane]) -> int:
    """What all lanes of a block read alike, as bits."""
    same = 0
    for places, bit in (
        ((0, 1), layout.SAME_FEATURES),
        ((2,), layout.SAME_VOLATILITY),
        ((3,), layout.SAME_REGIME),
    ):
        if len({tuple(lane.columns[place] for place in places) for lane in block}) == 1:
            same |= bit
    return same


def _runs(block: Sequence[Lane]) -> list[int]:
    """Where the runs of lanes with the same features begin, and LANES to the end of the row."""
    starts = [0]
    for b in range(1, len(block)):
        if block[b].columns[:2] != block[b - 1].columns[:2]:
            starts.append(b)
    if len(starts) > layout.MOST_RUNS:
        starts = []
    return starts + [layout.LANES] * (layout.MOST_RUNS + 1 - len(starts))


def instrument_table(rules: Rules, n_symbols: int) -> FloatArray:
    """The instruments of the rules as the kernels take them."""
    table = np.zeros((n_symbols, layout.N_INSTRUMENT_COLUMNS))
    for row, instrument in zip(table, rules.instruments, strict=False):
        row[layout.LOT_UNITS] = instrument.lot_size
        row[layout.LOT_MONEY] = instrument.lot_size * instrument.multiplier
        row[layout.TICK] = instrument.tick_size
        row[layout.BORROW] = instrument.borrow
        for name in COST_ROWS:
            row[getattr(layout, f"OWN_{name.upper()}")] = getattr(instrument.own, name)
    table.flags.writeable = False
    return table


class Sweep:
    """Blocks of lanes with their state, walked by the compiled simulation.

    A block has at most ``layout.LANES`` lanes of one strategy. Its last lane fills the remainder.
    """

    def __init__(
        self,
        inputs: Inputs,
        blocks: Sequence[Sequence[Lane]],
        rules: Rules,
        stops: bool = False,
        fees: bool = False,
        record: bool = False,
        extended: bool = False,
    ) -> None:
        """Lay out the lanes with the initial cash and no positions.

        Args:
            inputs, rules: of all lanes.
            blocks: parameter sets.
            stops, fees: whether the code of these options is compiled in.
            record: whether equity and fills of the first lane are kept.
            extended: whether that code is compiled in even where nothing needs it.
        """
        self.inputs, self.rules, self.stops, self.fees = inputs, rules, stops, fees
        n_blocks, n_symbols = len(blocks), inputs.n_symbols
        self.instruments = instrument_table(rules, n_symbols)
        self.strategies = np.array([CODES[b[0].chosen.strategy] for b in blocks], dtype=np.int64)
        self.same = np.array([_same(block) for block in blocks], dtype=np.uint8)
        self.runs = np.array([_runs(block) for block in blocks], dtype=np.uint64)
        self.limited = any(lane.chosen.max_positions < inf for b in blocks for lane in b)
        plain = rules.sizing == "kelly" and rules.allocation == "additions" and not self.limited
        interest = bool(np.asarray(inputs.rates)[:, layout.CREDIT].any())
        self.extended = extended or not plain or rules.leverage > 1.0 or interest
        parameters = np.zeros((n_blocks, layout.N_PARAMETER_ROWS, layout.STRIDE))
        columns = np.zeros((n_blocks, layout.N_COLUMN_ROWS, layout.STRIDE), dtype=np.uint64)
        for k, block in enumerate(blocks):
            for b in range(layout.LANES):
                lane = block[min(b, len(block) - 1)]
                columns[k, : len(lane.columns), b] = lane.columns
                for name in CHOSEN_ROWS:
                    parameters[k, _row(name), b] = getattr(lane.chosen, name)
                for name, row in COST_ROWS.items():
                    parameters[k, _row(row), b] = getattr(lane.chosen.costs, name)
                parameters[k, _row("time_exit"), b] = inf
                first, second = _signal_rows(lane.chosen)
                parameters[k, _row("signal_0"), b] = first
                parameters[k, _row("signal_1"), b] = second
        self.columns, self.parameters = columns, parameters
        self.state = np.zeros((n_blocks, layout.N_LANE_ROWS, layout.STRIDE))
        for name in ("cash", "equity", "peak", "closed"):
            self.state[:, _row(name)] = rules.initial_cash
        self.positions = np.zeros((n_blocks, n_symbols, layout.N_SYMBOL_ROWS, layout.STRIDE))
        self.pending = np.zeros((n_blocks, n_symbols), dtype=np.uint8)
        n_recorded = inputs.n_bars if record else 0
        self.equity = np.zeros(n_recorded)
        self.fills = np.zeros((n_recorded, n_symbols, len(FILL_KINDS), 4))

    def walk(self, first: int, last: int) -> Sweep:
        """Walk bars ``first`` to ``last - 1``; the scratch memory starts as NaN each time."""
        inputs, rules = self.inputs, self.rules
        n_ranked = inputs.n_symbols if self.limited else 0
        values = None
        if inputs.correlations is not None:
            values = np.full((inputs.n_symbols, layout.STRIDE), np.nan)
        simulate(
            first,
            last,
            inputs.opens,
            inputs.highs,
            inputs.lows,
            inputs.closes,
            inputs.traded,
            np.full(inputs.closes.shape, LIVE, dtype=np.uint8),
            np.full(inputs.n_symbols, -1),
            np.asarray(inputs.volumes),
            _read_only(np.arange(inputs.n_bars + 1)),
            inputs.opens,
            inputs.highs,
            inputs.lows,
            inputs.traded,
            np.asarray(inputs.volumes),
            _read_only(np.empty((0, inputs.n_symbols))),
            inputs.features,
            inputs.volatilities,
            inputs.inverses,
            inputs.regimes,
            inputs.correlations,
            inputs.first,
            inputs.refresh,
            self.instruments,
            np.asarray(inputs.rates),
            np.asarray(inputs.payments),
            np.asarray(inputs.counted),
            self.strategies,
            self.same,
            self.runs,
            self.columns.reshape(-1),
            self.parameters.reshape(-1),
            self.state.reshape(-1),
            self.positions.reshape(-1),
            self.pending,
            np.full(layout.SCRATCH_SIZE, np.nan),
            np.full(layout.RECENT_SIZE, np.nan),
            values,
            np.full(n_ranked * int(layout.RANK_BLOCK), np.nan),
            SIZINGS.index(rules.sizing),
            ALLOCATIONS.index(rules.allocation),
            MARKET_ENTRY,
            rules.leverage,
            rules.maintenance,
            rules.decay,
            self.equity,
            self.fills,
            True if self.fees else None,
            True if self.stops else None,
            True if rules.allow_short else None,
            True if self.extended else None,
            True if rules.fill_at_close else None,
            None,
        )
        return self

    def row(self, name: str) -> FloatArray:
        """A row of the state by its name in small letters, (n_blocks, LANES)."""
        return self.state[:, _row(name), : layout.LANES].copy()

    def symbol_row(self, name: str) -> FloatArray:
        """A row of the positions by its name in small letters, (n_blocks, n_symbols, LANES)."""
        return self.positions[:, :, _row(name), : layout.LANES].copy()

    def bits(self) -> tuple[bytes, ...]:
        """Everything that is carried from bar to bar."""
        lanes: list[Any] = [self.state, self.positions]
        used = [np.ascontiguousarray(a[..., : layout.LANES]).tobytes() for a in lanes]
        return (*used, self.pending.tobytes())


def _read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    array.flags.writeable = False
    return array


def _row(name: str) -> int:
    return int(getattr(layout, name.upper())) // layout.STRIDE
