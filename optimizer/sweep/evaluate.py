"""Evaluate tiles with the simulation kernel."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from kernels import layout
from kernels.metrics import performance
from kernels.simulation import simulate
from optimizer.catalogue import METRICS
from optimizer.errors import StrategyError
from optimizer.strategies.user import load_custom
from optimizer.study_file.space import Space
from optimizer.sweep.inputs import Inputs, RegimeCodes, RegimeKey
from optimizer.sweep.tiles import (
    LaneBlocks,
    Tile,
    TileResult,
    lane_rows,
    lay_out_blocks,
    parameter_row,
)
from optimizer.types import FloatArray

BLOCKS_PER_CALL = 8
"""Blocks that walk the bars together: enough to share a time tile's features, few for the cache."""


TRIED_SIGNALS = 20_000
"""Signals of a user's strategy that are looked at before a study starts."""


def try_signals(inputs: Inputs, space: Space) -> None:
    """Refuse a user's strategy whose signal is none, at the first parameter set of the study.

    In a sweep such a signal is HOLD, so that a rare case does not end a search of hours.

    Raises:
        StrategyError: names the place in the user's file, the bar, the symbol and the values.
    """
    bars = inputs.bars
    for branch in {one.custom: one for one in space.branches}.values():
        if branch.custom is None:
            continue
        point = {searched.name: searched.first for searched in branch.searched}
        lane = replace(branch, constraints=()).lanes(point, 0, 1)
        tile = Tile(branch.strategy, branch.classifier, branch.market, lane, branch.custom)
        parameters, columns = lane_rows(tile, inputs)
        at = (
            parameter_row(layout.USER_FEATURE_0),
            parameter_row(layout.VOLATILITY_COLUMN),
            parameter_row(layout.SIGNAL_0),
        )
        read = columns[at[0] : at[0] + layout.MAX_USER_FEATURES, 0]
        signal = load_custom(branch.custom)
        step = max(1, (bars.n_bars - inputs.first) * bars.n_symbols // TRIED_SIGNALS)
        for t in range(inputs.first, bars.n_bars, step):
            for s, symbol in enumerate(bars.symbols):
                given = (
                    *(float(inputs.features.values[t, s, column]) for column in read),
                    float(bars.close[t, s]),
                    float(inputs.volatilities[t, s, columns[at[1], 0]]),
                    float(inputs.inverse_volatilities[t, s, columns[at[1], 0]]),
                    *(float(value) for value in parameters[at[2] :, 0]),
                )
                problem = signal.problem(given)
                if problem:
                    when = str(bars.timestamps[t])[:16]
                    raise StrategyError(f"{problem} at {when} of {symbol} (bar {t})")


@dataclass(eq=False)
class Recording:
    """What lane 0 did: equity (n_bars,), fills (n_bars, n_symbols, 3), stop prices."""

    equity: FloatArray
    fills: FloatArray
    stop_prices: FloatArray


def simulate_blocks(
    inputs: Inputs, blocks: LaneBlocks, start: int, stop: int, recording: Recording | None
) -> TileResult:
    """Simulate blocks ``start`` to ``stop - 1``, of one kernel, in and out of sample."""
    bars, rules = inputs.bars, inputs.rules
    custom = blocks.customs[start]
    users = None if custom is None else load_custom(custom)
    walk_bars = simulate if users is None else functools.partial(users.call, users.simulate)
    n = stop - start
    state = layout.aligned_zeros((n, layout.N_LANE_ROWS, layout.STRIDE))
    for offset in (layout.CASH, layout.EQUITY, layout.PEAK):
        state[:, parameter_row(offset)] = rules.initial_cash
    positions = layout.aligned_zeros((n * bars.n_symbols * int(layout.POSITION_BLOCK),))
    pending = np.zeros((n, bars.n_symbols), dtype=np.uint8)
    scratch = layout.aligned_zeros((layout.SCRATCH_SIZE,))
    values = None
    if inputs.correlations is not None:
        values = layout.aligned_zeros((bars.n_symbols, layout.STRIDE))

    def walk(first: int, last: int) -> None:
        walk_bars(
            first,
            last,
            bars.open,
            bars.high,
            bars.low,
            bars.close,
            inputs.features.values,
            inputs.volatilities,
            inputs.inverse_volatilities,
            blocks.regimes,
            inputs.correlations,
            inputs.first,
            rules.correlation_refresh,
            blocks.strategies[start:stop],
            blocks.shared[start:stop],
            blocks.columns[start:stop].reshape(-1),
            blocks.parameters[start:stop].reshape(-1),
            state.reshape(-1),
            positions,
            pending,
            scratch,
            values,
            rules.lot_size,
            rules.slippage,
            rules.commission,
            rules.ewma_decay,
            recording.equity if recording else None,
            recording.fills if recording else None,
            recording.stop_prices if recording else None,
            True if rules.stops else None,
            True if rules.allow_short else None,
            True if rules.close_fill else None,
        )

    def metrics(begin: FloatArray, n_bars: int) -> FloatArray:
        out = np.empty((n * layout.LANES, len(METRICS)))
        performance(_rows(state), begin, n_bars, bars.bars_per_year, out)
        return out

    def returns_so_far() -> FloatArray:
        rows = state[
            :,
            [parameter_row(layout.SUM_RETURN), parameter_row(layout.SUM_RETURN_2)],
            : layout.LANES,
        ]
        return rows.transpose(0, 2, 1).reshape(-1, 2)

    begin = _rows(state)[parameter_row(layout.EQUITY)].copy()
    sums = np.empty((len(inputs.bounds), n * layout.LANES, 2))
    at = inputs.first
    for i, bound in enumerate(inputs.bounds):
        walk(at, bound)
        sums[i] = returns_so_far()
        at = bound
    moments = np.ascontiguousarray(np.diff(sums, axis=0).transpose(1, 2, 0))
    in_sample = metrics(begin, inputs.split - inputs.first)
    if inputs.split == bars.n_bars:
        return TileResult(in_sample, np.full_like(in_sample, np.nan), moments)
    begin = _rows(state)[parameter_row(layout.EQUITY)].copy()
    state[:, parameter_row(layout.PEAK)] = state[:, parameter_row(layout.EQUITY)]
    state[:, parameter_row(layout.PEAK) + 1 :] = 0.0
    # A trade that is open at the split starts anew at its value there: what it made before is
    # in-sample.
    held = positions.reshape(n, bars.n_symbols, layout.N_SYMBOL_ROWS, layout.STRIDE)
    lot_values = bars.close[inputs.split - 1] * rules.lot_size
    held[:, :, parameter_row(layout.FLOW)] = -(
        held[:, :, parameter_row(layout.LOTS)] * lot_values[:, np.newaxis]
    )
    walk(inputs.split, bars.n_bars)
    return TileResult(in_sample, metrics(begin, bars.n_bars - inputs.split), moments)


def _rows(state: FloatArray) -> FloatArray:
    """State of all lanes as (N_LANE_ROWS, n_lanes)."""
    lanes = state[:, :, : layout.LANES]
    return np.ascontiguousarray(lanes.transpose(1, 0, 2).reshape(layout.N_LANE_ROWS, -1))


def evaluate(
    inputs: Inputs, tiles: Sequence[Tile], regimes: Mapping[RegimeKey, RegimeCodes]
) -> list[TileResult]:
    """Simulate every parameter set of some tiles.

    A set's result does not depend on what it is computed beside. Small tiles share blocks.

    Args:
        inputs: of the study.
        tiles: at least one, none of them empty.
        regimes: codes of each regime model that the tiles name.
    """
    blocks = lay_out_blocks(tiles, inputs, regimes)
    parts = [simulate_blocks(inputs, blocks, start, stop, None) for start, stop in _calls(blocks)]
    whole = TileResult.joined(parts)
    return [whole.lanes(places) for places in blocks.order]


def _calls(blocks: LaneBlocks) -> Iterator[tuple[int, int]]:
    """Blocks that walk the bars together: some, of one kernel."""
    start = 0
    for _, group in itertools.groupby(blocks.customs):
        end = start + len(list(group))
        for first in range(start, end, BLOCKS_PER_CALL):
            yield first, min(first + BLOCKS_PER_CALL, end)
        start = end
