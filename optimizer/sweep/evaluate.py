"""Evaluate tiles with the simulation kernel."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from kernels import layout
from kernels.codes import FILL_KINDS, MARKET_ENTRY
from kernels.metrics import performance
from optimizer.catalogue import METRICS
from optimizer.sweep.inputs import Inputs, MarketRegime, RegimeKey
from optimizer.sweep.lanes import LaneBlocks, lay_out_blocks, models_at_once, row_of
from optimizer.sweep.max_test import score
from optimizer.sweep.tiles import Tile, TileResult
from optimizer.types import Float32Array, FloatArray, MaskArray

BLOCKS_PER_CALL = 8
"""Blocks that walk the bars together: enough to share the features of a stretch of bars, few enough
for the processor's cache."""


_WAITING = (layout.LOTS, layout.ORDER, layout.LEVEL, layout.LEFT)


@dataclass(eq=False)
class Recording:
    """What lane 0 did.

    Attributes:
        equity: money at each close, shape (n_bars,).
        fills: shape (n_bars, n_symbols, n_kinds, 4), see ``kernels.codes``.
        waiting: the rows LOTS, ORDER, LEVEL and LEFT of ``kernels.layout``, shape (4, n_symbols), after
            the last bar in-sample and after the last bar, by the number of bars until then.
        sums: the rows of ``kernels.layout`` of the lane at the same times, shape (N_LANE_ROWS,); its sums
            are those of the period that ends there.
    """

    equity: FloatArray
    fills: FloatArray
    waiting: dict[int, FloatArray] = field(default_factory=dict)
    sums: dict[int, FloatArray] = field(default_factory=dict)

    @classmethod
    def empty(cls, n_bars: int, n_symbols: int, *, fills: bool = True) -> Recording:
        """A recording in which nothing has happened yet.

        Args:
            n_bars, n_symbols: the numbers of bars and symbols; 0 bars record nothing.
            fills: whether to record fills too, which take far more memory than equity.
        """
        shape = (n_bars if fills else 0, n_symbols, len(FILL_KINDS), 4)
        return cls(np.full(n_bars, np.nan), np.zeros(shape))

    def keep(self, accounts: Accounts, n_bars: int) -> None:
        """Keep what lane 0 waits for and has summed.

        Args:
            accounts: the accounts of the blocks.
            n_bars: the number of bars until now.
        """
        self.sums[n_bars] = accounts.lanes[0, :, 0].copy()
        lane = accounts.by_symbol[0, :, :, 0]
        self.waiting[n_bars] = lane[:, [row_of(offset) for offset in _WAITING]].T.copy()


@dataclass(eq=False)
class Accounts:
    """The accounts of the lanes of some blocks, which the simulation carries from bar to bar.

    Attributes:
        lanes: shape (n_blocks, N_LANE_ROWS, STRIDE), see ``kernels.layout``.
        positions: (n_blocks * n_symbols * POSITION_BLOCK,).
        pending: (n_blocks, n_symbols), which parts of an order any lane has pending.
        scratch, recent, values, ranks: see ``kernels.simulation.simulate``.
    """

    lanes: FloatArray
    positions: FloatArray
    pending: MaskArray
    scratch: FloatArray
    recent: FloatArray
    values: FloatArray | None
    ranks: FloatArray

    @classmethod
    def new(cls, inputs: Inputs, n_blocks: int) -> Accounts:
        """The accounts at the start, which hold the initial cash and nothing else.

        Args:
            inputs: the prepared inputs of the study.
            n_blocks: the number of blocks.
        """
        n_symbols, rules = inputs.bars.n_symbols, inputs.rules
        lanes = layout.aligned_zeros((n_blocks, layout.N_LANE_ROWS, layout.STRIDE))
        for offset in (layout.CASH, layout.EQUITY, layout.PEAK, layout.CLOSED):
            lanes[:, row_of(offset)] = rules.initial_cash
        positions = layout.aligned_zeros(
            (n_blocks * n_symbols, layout.N_SYMBOL_ROWS, layout.STRIDE)
        )
        positions[:, row_of(layout.HELD_BARS)] = -np.inf  # nothing was held before
        n_ranks = n_symbols * int(layout.RANK_BLOCK) if rules.limited else 0
        return cls(
            lanes,
            positions.reshape(-1),
            np.zeros((n_blocks, n_symbols), dtype=np.uint8),
            layout.aligned_zeros((layout.SCRATCH_SIZE,)),
            layout.aligned_zeros((layout.RECENT_SIZE,)),
            None
            if inputs.correlations is None
            else layout.aligned_zeros((n_symbols, layout.STRIDE)),
            layout.aligned_zeros((n_ranks,)),
        )

    @property
    def by_symbol(self) -> FloatArray:
        """The positions, shape (n_blocks, n_symbols, N_SYMBOL_ROWS, STRIDE)."""
        n_blocks, n_symbols = self.pending.shape
        return self.positions.reshape(n_blocks, n_symbols, layout.N_SYMBOL_ROWS, layout.STRIDE)

    def start_period(self, inputs: Inputs, first: int) -> None:
        """Begin the sums of the metrics again.

        A trade that is open starts again at its value there: its profit so far is of the period before.

        Args:
            inputs: the prepared inputs of the study.
            first: the first bar of the period.
        """
        lanes, held = self.lanes, self.by_symbol
        lanes[:, row_of(layout.PEAK)] = lanes[:, row_of(layout.EQUITY)]
        lanes[:, row_of(layout.PEAK) + 1 :] = 0.0
        lanes[:, row_of(layout.CLOSED)] = lanes[:, row_of(layout.EQUITY)]
        lot_values = inputs.bars.close[first - 1] * inputs.rules.lot_money
        lots = held[:, :, row_of(layout.LOTS)]
        held[:, :, row_of(layout.FLOW)] = -(lots * lot_values[:, np.newaxis])


def walk(
    inputs: Inputs,
    blocks: LaneBlocks,
    start: int,
    stop: int,
    accounts: Accounts,
    recording: Recording,
    first: int,
    last: int,
) -> None:
    """Take some blocks through the bars ``first`` to ``last - 1``.

    Args:
        inputs: the prepared inputs of the study.
        blocks: lanes of all tiles.
        start, stop: the blocks from ``start`` to ``stop - 1``, all of one simulation.
        accounts: their accounts at the close before ``first``; carried on.
        recording: filled with what lane 0 does, or empty.
        first, last: bars.

    Raises:
        SignalError: a user's signal raised.
    """
    bars, rules, finer = inputs.bars, inputs.rules, inputs.finer
    blocks.strategies[start].simulate(
        first,
        last,
        bars.open,
        bars.high,
        bars.low,
        bars.close,
        bars.traded,
        inputs.live,
        inputs.ends,
        inputs.volumes,
        finer.bounds,
        finer.open,
        finer.high,
        finer.low,
        finer.traded,
        finer.volume,
        inputs.atrs,
        blocks.features,
        inputs.volatilities,
        inputs.inverse_volatilities,
        blocks.regimes,
        inputs.correlations,
        inputs.first,
        rules.correlation_refresh,
        rules.instruments,
        inputs.rates,
        inputs.payments,
        inputs.counted,
        blocks.codes[start:stop],
        blocks.same[start:stop],
        blocks.runs[start:stop],
        blocks.columns[start:stop].reshape(-1),
        blocks.parameters[start:stop].reshape(-1),
        accounts.lanes.reshape(-1),
        accounts.positions,
        accounts.pending,
        accounts.scratch,
        accounts.recent,
        accounts.values,
        accounts.ranks,
        rules.sizing,
        rules.allocation,
        rules.entry,
        rules.leverage,
        rules.maintenance,
        rules.ewma_decay,
        recording.equity,
        recording.fills,
        True if rules.fees else None,
        True if rules.stops else None,
        True if rules.allow_short else None,
        True if inputs.extended else None,
        True if rules.close_fill else None,
        True if rules.entry != MARKET_ENTRY else None,
    )


def simulate_blocks(
    inputs: Inputs,
    blocks: LaneBlocks,
    start: int,
    stop: int,
    recording: Recording | None,
    maxima: Float32Array | None = None,
) -> TileResult:
    """Simulate some blocks in and out of sample.

    Args:
        inputs: the prepared inputs of the study.
        blocks: lanes of all tiles.
        start, stop: the blocks from ``start`` to ``stop - 1``, all of one simulation.
        recording: filled with what lane 0 does; None records nothing.
        maxima: raised to the draws of these sets, see ``optimizer.sweep.max_test``; None without.

    Returns:
        Metrics of every parameter set.

    Raises:
        SignalError: a user's signal raised.
    """
    bars, rules = inputs.bars, inputs.rules
    n = stop - start
    accounts = Accounts.new(inputs, n)
    state = accounts.lanes
    recording = recording or Recording.empty(0, bars.n_symbols)

    def advance(first: int, last: int) -> None:
        walk(inputs, blocks, start, stop, accounts, recording, first, last)

    def metrics(begin: FloatArray, first: int, last: int) -> FloatArray:
        out = np.empty((n * layout.LANES, len(METRICS)))
        performance(
            _rows(state),
            begin,
            last - first,
            bars.bars_per_year,
            rules.n_returns(first, last),
            rules.returns_per_year,
            out,
        )
        return out

    def sums_so_far(offset: np.uint64, n_rows: int) -> FloatArray:
        first = row_of(offset)
        rows = state[:, first : first + n_rows, : layout.LANES]
        # A copy, since the state goes on; of a single block the rest would be a view.
        return rows.transpose(1, 0, 2).copy().reshape(n_rows, -1)

    begin = _rows(state)[row_of(layout.EQUITY)].copy()
    so_far: dict[int, FloatArray] = {}
    at = inputs.first
    for bound in sorted({*inputs.bounds, *inputs.alpha_bounds}):
        advance(at, bound)
        so_far[bound] = sums_so_far(layout.SUM_RETURN, 2)  # and of the squares, the row after it
        at = bound
    moments = np.diff(np.stack([so_far[bound] for bound in inputs.bounds]), axis=0)
    moments = np.ascontiguousarray(moments.transpose(2, 1, 0))
    totals, squares = sums_so_far(layout.SUM_RETURN, 2)
    [products] = sums_so_far(layout.SUM_PRODUCT, 1)
    sums = np.diff(np.stack([so_far[bound][0] for bound in inputs.alpha_bounds]), axis=0)
    alphas = score(inputs, sums, totals, squares, products, maxima)
    in_sample = metrics(begin, inputs.first, inputs.split)
    recording.keep(accounts, inputs.split)
    if inputs.split == bars.n_bars:
        return TileResult(in_sample, np.full_like(in_sample, np.nan), moments, alphas)
    begin = _rows(state)[row_of(layout.EQUITY)].copy()
    accounts.start_period(inputs, inputs.split)
    advance(inputs.split, bars.n_bars)
    out_of_sample = metrics(begin, inputs.split, bars.n_bars)
    recording.keep(accounts, bars.n_bars)
    return TileResult(in_sample, out_of_sample, moments, alphas)


def _rows(state: FloatArray) -> FloatArray:
    """State of all lanes as (N_LANE_ROWS, n_lanes)."""
    lanes = state[:, :, : layout.LANES]
    return np.ascontiguousarray(lanes.transpose(1, 0, 2).reshape(layout.N_LANE_ROWS, -1))


def evaluate(
    inputs: Inputs,
    tiles: Sequence[Tile],
    regimes: Mapping[RegimeKey, MarketRegime],
    maxima: Float32Array | None = None,
) -> list[TileResult]:
    """Simulate every parameter set of some tiles. Small tiles share blocks.

    The result of a set does not depend on the other sets.

    Args:
        inputs: the prepared inputs of the study.
        tiles: one or more tiles, each with one or more parameter sets.
        regimes: what each regime model says that the tiles name.
        maxima: raised to the draws of these sets, see ``optimizer.sweep.max_test``; None without.

    Returns:
        The result of each tile.

    Raises:
        SignalError: a user's signal raised.
    """
    if _too_many_models(inputs, tiles):
        if len(tiles) > 1:
            middle = len(tiles) // 2
            halves = tiles[:middle], tiles[middle:]
            return [one for half in halves for one in evaluate(inputs, half, regimes, maxima)]
        (tile,) = tiles
        halves = [tile.slice(0, tile.n_lanes // 2)], [tile.slice(tile.n_lanes // 2, tile.n_lanes)]
        results = [evaluate(inputs, half, regimes, maxima)[0] for half in halves]
        return [TileResult.joined(results)]
    blocks = lay_out_blocks(tiles, inputs, regimes)
    parts = [
        simulate_blocks(inputs, blocks, start, stop, None, maxima) for start, stop in _calls(blocks)
    ]
    whole = TileResult.joined(parts)
    return [whole.lanes(places) for places in blocks.order]


def _too_many_models(inputs: Inputs, tiles: Sequence[Tile]) -> bool:
    """Whether the probabilities that the tiles take need more memory than a process gives them."""
    if not any(tile.strategy.regime_values for tile in tiles):
        return False
    models = {key for tile in tiles for key in tile.regime_keys()[0]}
    return len(models) > models_at_once(inputs.bars.n_bars, inputs.bars.n_symbols)


def _calls(blocks: LaneBlocks) -> Iterator[tuple[int, int]]:
    """First and last + 1 of the blocks that walk the bars together, all of one simulation."""
    start = 0
    for _, group in itertools.groupby(one.simulation for one in blocks.strategies):
        end = start + len(list(group))
        for first in range(start, end, BLOCKS_PER_CALL):
            yield first, min(first + BLOCKS_PER_CALL, end)
        start = end
