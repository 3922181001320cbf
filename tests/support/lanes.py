"""Lays out parameter sets of the reference simulation as lanes of the compiled one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from kernels import layout
from kernels.codes import AVERAGE_CROSS, BREAKOUT, MEAN_REVERSION, MOMENTUM
from kernels.simulation import simulate
from tests.reference.simulation import Market, ParameterSet, Rules

FloatArray = npt.NDArray[np.float64]

CODES = {
    "momentum": MOMENTUM,
    "mean_reversion": MEAN_REVERSION,
    "average_cross": AVERAGE_CROSS,
    "breakout": BREAKOUT,
}


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
    inverses: FloatArray = field(init=False)

    def __post_init__(self) -> None:
        """Add the inverse volatilities, 0 where the volatility is 0, and make the arrays read-only."""
        self.inverses = np.array(
            [1.0 / v if v > 0.0 else 0.0 for v in self.volatilities.ravel().tolist()]
        ).reshape(self.volatilities.shape)
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
        return Market(
            self.opens.tolist(),
            self.highs.tolist(),
            self.lows.tolist(),
            self.closes.tolist(),
            (self.features[:, :, first].tolist(), self.features[:, :, second].tolist()),
            self.volatilities[:, :, volatility].tolist(),
            self.regimes[:, model].tolist(),
            matrices,
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
        record: bool = False,
    ) -> None:
        """Lay out the lanes with the initial cash and no positions."""
        self.inputs, self.rules, self.stops = inputs, rules, stops
        n_blocks, n_symbols = len(blocks), inputs.n_symbols
        self.strategies = np.array([CODES[b[0].chosen.strategy] for b in blocks], dtype=np.int64)
        self.shared = np.array([len({lane.columns for lane in b}) == 1 for b in blocks])
        parameters = np.zeros((n_blocks, layout.N_PARAMETER_ROWS, layout.STRIDE))
        columns = np.zeros((n_blocks, layout.N_COLUMN_ROWS, layout.STRIDE), dtype=np.uint64)
        for k, block in enumerate(blocks):
            for b in range(layout.LANES):
                lane = block[min(b, len(block) - 1)]
                columns[k, : len(lane.columns), b] = lane.columns
                for name in (
                    "kelly_fraction",
                    "max_exposure",
                    "bear_multiplier",
                    "neutral_multiplier",
                    "bull_multiplier",
                    "correlation_penalty",
                    "min_lots",
                    "rebalance_band",
                    "stop_loss",
                    "take_profit",
                    "trailing_stop",
                ):
                    parameters[k, _row(name), b] = getattr(lane.chosen, name)
                first, second = _signal_rows(lane.chosen)
                parameters[k, _row("signal_0"), b] = first
                parameters[k, _row("signal_1"), b] = second
        self.columns, self.parameters = columns, parameters
        self.state = np.zeros((n_blocks, layout.N_LANE_ROWS, layout.STRIDE))
        for name in ("cash", "equity", "peak"):
            self.state[:, _row(name)] = rules.initial_cash
        self.positions = np.zeros((n_blocks, n_symbols, layout.N_SYMBOL_ROWS, layout.STRIDE))
        self.pending = np.zeros((n_blocks, n_symbols), dtype=np.uint8)
        self.recorded: tuple[FloatArray, FloatArray, FloatArray] | None = None
        if record:
            self.recorded = (
                np.zeros(inputs.n_bars),
                np.zeros((inputs.n_bars, n_symbols, 3)),
                np.zeros((inputs.n_bars, n_symbols)),
            )

    def walk(self, first: int, last: int) -> Sweep:
        """Walk bars ``first`` to ``last - 1``; the scratch memory starts as NaN each time."""
        inputs, rules = self.inputs, self.rules
        garbage = np.full(layout.SCRATCH_SIZE, np.nan)
        values = None
        if inputs.correlations is not None:
            values = np.full((inputs.n_symbols, layout.STRIDE), np.nan)
        equity, fills, stop_prices = self.recorded or (None, None, None)
        simulate(
            first,
            last,
            inputs.opens,
            inputs.highs,
            inputs.lows,
            inputs.closes,
            inputs.features,
            inputs.volatilities,
            inputs.inverses,
            inputs.regimes,
            inputs.correlations,
            inputs.first,
            inputs.refresh,
            self.strategies,
            self.shared,
            self.columns.reshape(-1),
            self.parameters.reshape(-1),
            self.state.reshape(-1),
            self.positions.reshape(-1),
            self.pending,
            garbage,
            values,
            rules.lot_size,
            rules.slippage,
            rules.commission,
            rules.decay,
            equity,
            fills,
            stop_prices,
            True if self.stops else None,
            True if rules.allow_short else None,
            True if rules.fill_at_close else None,
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


def _row(name: str) -> int:
    return int(getattr(layout, name.upper())) // layout.STRIDE
