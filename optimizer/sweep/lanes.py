"""Lay parameter sets out in the lanes of the simulation kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kernels import layout
from kernels.arrays import ByteArray, ColumnArray
from optimizer.strategies.regime_values import REGIME_VALUES
from optimizer.strategies.strategy import Strategy
from optimizer.sweep.inputs import Inputs, MarketRegime, RegimeCodes, RegimeKey
from optimizer.sweep.risk_values import risk_values
from optimizer.sweep.tiles import Tile
from optimizer.types import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class LaneBlocks:
    """Lanes of all tiles in blocks of ``layout.LANES``, the strategies of one simulation together.

    Attributes:
        strategies: the strategy of each block, one of those whose lanes it holds.
        codes: (n_blocks,), signal kernel of each block.
        same: (n_blocks,), what all lanes of a block read alike, as bits of ``kernels.layout``.
        runs: (n_blocks, MOST_RUNS + 1), where the runs of lanes with the same features begin, as
            ``kernels.simulation.simulate`` takes them.
        columns: (n_blocks, N_COLUMN_ROWS, STRIDE), see ``kernels.layout``.
        features: (n_bars, n_symbols, n_columns), what the feature columns are places in.
        parameters: (n_blocks, N_PARAMETER_ROWS, STRIDE), see ``kernels.layout``.
        regimes: (n_bars, n_models) codes.
        order: the places of the lanes of each tile, counted over all blocks, shape (n_lanes,).
    """

    strategies: tuple[Strategy, ...]
    codes: IntArray
    same: ByteArray
    runs: ColumnArray
    columns: ColumnArray
    features: FloatArray
    parameters: FloatArray
    regimes: RegimeCodes
    order: tuple[IntArray, ...]


_OFFSETS = {
    "size": layout.SIZE,
    "score_sharpe": layout.SCORE_SHARPE,
    "max_weight": layout.MAX_WEIGHT,
    "max_positions": layout.MAX_POSITIONS,
    "max_exposure": layout.MAX_EXPOSURE,
    "bear_multiplier": layout.BEAR_MULTIPLIER,
    "neutral_multiplier": layout.NEUTRAL_MULTIPLIER,
    "bull_multiplier": layout.BULL_MULTIPLIER,
    "correlation_penalty": layout.CORRELATION_PENALTY,
    "min_order_size": layout.MIN_ORDER_SIZE,
    "rebalance_band": layout.REBALANCE_BAND,
    "stop_loss": layout.STOP_LOSS,
    "take_profit": layout.TAKE_PROFIT,
    "trailing_stop": layout.TRAILING_STOP,
    "stop_loss_atr": layout.STOP_LOSS_ATR,
    "take_profit_atr": layout.TAKE_PROFIT_ATR,
    "trailing_stop_atr": layout.TRAILING_STOP_ATR,
    "time_exit": layout.TIME_EXIT,
    "cooldown": layout.COOLDOWN,
    "entry_offset": layout.ENTRY_OFFSET,
    "entry_offset_atr": layout.ENTRY_OFFSET_ATR,
    "entry_bars": layout.ENTRY_BARS,
    "slippage": layout.SLIPPAGE,
    "half_spread_ticks": layout.HALF_SPREAD_TICKS,
    "commission": layout.COMMISSION,
    "maker": layout.MAKER,
    "per_unit": layout.PER_UNIT,
    "minimum": layout.MINIMUM,
    "per_order": layout.PER_ORDER,
    "impact": layout.IMPACT,
    "volume_share": layout.VOLUME_SHARE,
}


PROBABILITY_BYTES = 256e6
"""Probabilities of regime models that are laid out at once, which each process holds for itself."""


def models_at_once(n_bars: int, n_symbols: int) -> int:
    """The number of regime models whose probabilities are laid out together, 1 or more.

    Args:
        n_bars: number of bars.
        n_symbols: number of symbols.
    """
    of_model = 8.0 * len(REGIME_VALUES) * n_bars * n_symbols
    return max(1, int(PROBABILITY_BYTES // of_model))


def row_of(offset: np.uint64) -> int:
    """The row of a block at an offset of ``kernels.layout``.

    Args:
        offset: a constant of ``kernels.layout``.
    """
    return int(offset) // layout.STRIDE


def lane_rows(tile: Tile, inputs: Inputs) -> tuple[FloatArray, ColumnArray]:
    """What each lane of a tile is given.

    Args:
        tile: parameter sets.
        inputs: the prepared inputs of the study.

    Returns:
        Parameters (N_PARAMETER_ROWS, n_lanes), and places of the columns that each lane reads
        (N_COLUMN_ROWS, n_lanes), with those of the regime left at 0.
    """
    strategy = tile.strategy
    own = strategy.own(tile.columns)
    parameters = np.zeros((layout.N_PARAMETER_ROWS, tile.n_lanes))
    given = risk_values(tile.columns, inputs.rules, inputs.bars.bars_per_year)
    for name, values in given.items():
        parameters[row_of(_OFFSETS[name])] = values
    for row, values in enumerate(strategy.signal_values(own)):
        parameters[row_of(layout.SIGNAL_0) + row] = values
    columns = np.zeros((layout.N_COLUMN_ROWS, tile.n_lanes), dtype=np.uint64)
    for row, use in enumerate(strategy.features):
        names = sorted({one for one in use[1:] if isinstance(one, str)})
        alike, first = _alike([own[name] for name in names], tile.n_lanes)
        keys = (strategy.feature_key(use, {n: own[n][lane] for n in names}) for lane in first)
        places = np.array([inputs.features.index(key) for key in keys])
        columns[row_of(strategy.first_feature) + row] = places[alike]
    columns[row_of(layout.VOLATILITY_COLUMN)] = np.searchsorted(
        np.asarray(inputs.volatility_lookbacks),
        tile.columns["volatility_lookback"].astype(np.int64),
    )
    return parameters, columns


def _alike(values: Sequence[FloatArray], n_lanes: int) -> tuple[IntArray, IntArray]:
    """Number of the group of each lane, those equal in all values together, and a lane of each group."""
    code = np.zeros(n_lanes, dtype=np.int64)
    for one in values:
        distinct, which = np.unique(one, return_inverse=True)
        # Numbered anew at each step, so that the product of the counts cannot overflow.
        code = np.unique(code * len(distinct) + which.ravel(), return_inverse=True)[1].ravel()
    _, first = np.unique(code, return_index=True)
    return code, first


def lay_out_blocks(
    tiles: Sequence[Tile], inputs: Inputs, regimes: Mapping[RegimeKey, MarketRegime]
) -> LaneBlocks:
    """Put the lanes of all tiles into blocks, those of one signal kernel together.

    Args:
        tiles: one or more tiles, each with one or more parameter sets.
        inputs: the prepared inputs of the study.
        regimes: what each regime model says that the tiles name.

    Returns:
        The blocks, with the place of each lane in its tile.
    """
    models: list[RegimeKey] = []
    groups: dict[tuple[int, str], list[int]] = {}
    rows: list[tuple[FloatArray, ColumnArray]] = []
    for i, tile in enumerate(tiles):
        parameters, columns = lane_rows(tile, inputs)
        keys, which = tile.regime_keys()
        models.extend(key for key in keys if key not in models)
        places = np.array([models.index(key) for key in keys])
        columns[row_of(layout.REGIME_COLUMN)] = places[which]
        rows.append((parameters, columns))
        groups.setdefault((tile.strategy.code, tile.strategy.simulation), []).append(i)
    features = inputs.features.values
    if any(tile.strategy.regime_values for tile in tiles):
        features = _with_probabilities(tiles, [c for _, c in rows], features, models, regimes)
    order: list[IntArray] = [np.empty(0, dtype=np.int64)] * len(tiles)
    given_blocks: list[FloatArray] = []
    column_blocks: list[ColumnArray] = []
    strategies: list[Strategy] = []
    at = 0
    for _, members in sorted(groups.items()):
        given = _joined([rows[i][0] for i in members], 1)
        read = _joined([rows[i][1] for i in members], 1)
        n_lanes = given.shape[1]
        sequence = _side_by_side(given, read)
        places = np.empty(n_lanes, dtype=np.int64)
        places[sequence] = np.arange(at, at + n_lanes)
        start = 0
        for i in members:
            order[i] = places[start : start + tiles[i].n_lanes]
            start += tiles[i].n_lanes
        # The last lane again: a block is always full, and padding changes no column.
        padded = np.append(sequence, np.repeat(sequence[-1:], -n_lanes % layout.LANES))
        given_blocks.append(_blocked(given, padded))
        column_blocks.append(_blocked(read, padded))
        strategies += [tiles[members[0]].strategy] * (len(padded) // layout.LANES)
        at += len(padded)
    codes = np.stack([regimes[key].codes for key in models], axis=1)
    codes.flags.writeable = False
    blocks = _joined(column_blocks, 0)
    same, runs = _alike_in_blocks(blocks)
    return LaneBlocks(
        strategies=tuple(strategies),
        codes=np.array([strategy.code for strategy in strategies]),
        same=same,
        runs=runs,
        columns=blocks,
        features=features,
        parameters=_joined(given_blocks, 0),
        regimes=codes,
        order=tuple(order),
    )


def _with_probabilities(
    tiles: Sequence[Tile],
    columns: Sequence[ColumnArray],
    features: FloatArray,
    models: Sequence[RegimeKey],
    regimes: Mapping[RegimeKey, MarketRegime],
) -> FloatArray:
    """The features that some tiles read, and after them the probabilities of their regime models.

    The places in ``columns`` become those in what is returned. Features that no lane reads are left out,
    so that the copy is small.
    """
    own = [
        slice(first := row_of(one.strategy.first_feature), first + len(one.strategy.features))
        for one in tiles
    ]
    kept = np.unique(
        np.concatenate([c[rows].ravel() for c, rows in zip(columns, own, strict=True)])
    )
    kept = kept if len(kept) else np.zeros(1, np.uint64)
    n_kept, n_values = len(kept), len(REGIME_VALUES)
    wide = np.empty((*features.shape[:2], n_kept + n_values * len(models)))
    wide[:, :, :n_kept] = features[:, :, kept]
    for i, key in enumerate(models):
        found = regimes[key].probabilities
        place = n_kept + n_values * i
        wide[:, :, place : place + n_values] = 0.0 if found is None else found[:, np.newaxis]
    for tile, places, rows in zip(tiles, columns, own, strict=True):
        places[rows] = np.searchsorted(kept, places[rows])
        first = n_kept + n_values * places[row_of(layout.REGIME_COLUMN)]
        for row, name in enumerate(tile.strategy.regime_values, rows.stop):
            places[row] = first + REGIME_VALUES.index(name)
    wide.flags.writeable = False
    return wide


_SIGNAL, _VOLATILITY = row_of(layout.SIGNAL_0), row_of(layout.VOLATILITY_COLUMN)
_REGIME = row_of(layout.REGIME_COLUMN)


def _joined(parts: Sequence[Any], axis: int) -> Any:
    """The parts as one array, without a copy where there is only one."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=axis)


def _varying(rows: ColumnArray | FloatArray) -> list[int]:
    """The rows whose lanes are not all the same."""
    return np.flatnonzero((rows != rows[:, :1]).any(axis=1)).tolist()


def _side_by_side(parameters: FloatArray, columns: ColumnArray) -> IntArray:
    """The lanes sorted so that those with the same features, then with the same signal, are neighbours.

    A block of such lanes reads each feature once, and mostly does the same. So blocks whose lanes all
    read the same come first, as many as there can be, and what is left of each kind shares the others.

    Args:
        parameters, columns: the rows of each lane.

    Returns:
        (n_lanes,), the lane that comes first, and so on; lanes that are alike keep their order.
    """
    n_lanes = parameters.shape[1]
    varying = _varying(columns)
    features = [row for row in varying if row not in (_VOLATILITY, _REGIME)]
    read = [columns[row] for row in (*features, *(row for row in varying if row not in features))]
    sharpe = row_of(layout.SCORE_SHARPE)
    signal = parameters[[sharpe, *range(_SIGNAL, len(parameters))]]
    keys = [*read, *(signal[row] for row in _varying(signal))]
    # The last key of a lexsort counts most.
    sequence = np.lexsort(keys[::-1]) if keys else np.arange(n_lanes)
    if not read:
        return sequence
    begins = np.zeros(n_lanes, dtype=np.bool_)
    begins[0] = True
    for key in read:
        begins[1:] |= np.diff(key[sequence]) != 0
    firsts = np.flatnonzero(begins)
    kind = np.cumsum(begins) - 1
    in_whole_blocks = np.diff(firsts, append=n_lanes) // layout.LANES * layout.LANES
    whole = np.arange(n_lanes) - firsts[kind] < in_whole_blocks[kind]
    return np.concatenate([sequence[whole], sequence[~whole]])


def _alike_in_blocks(columns: ColumnArray) -> tuple[ByteArray, ColumnArray]:
    """What all lanes of each block read alike, and its runs; see ``kernels.simulation.simulate``."""
    numbers = np.flatnonzero(columns.any(axis=(0, 2)))
    rows = columns[:, numbers, : layout.LANES]
    features = (numbers != _VOLATILITY) & (numbers != _REGIME)
    changes = rows[:, :, 1:] != rows[:, :, :-1]
    begins = changes[:, features].any(axis=1)
    same = np.full(len(columns), layout.ALL_SAME, dtype=np.uint8)
    same[begins.any(axis=1)] -= layout.SAME_FEATURES
    for row, bit in ((_VOLATILITY, layout.SAME_VOLATILITY), (_REGIME, layout.SAME_REGIME)):
        same[changes[:, numbers == row].any(axis=(1, 2))] -= bit
    runs = np.full((len(columns), layout.MOST_RUNS + 1), layout.LANES, dtype=np.uint64)
    few = begins.sum(axis=1) < layout.MOST_RUNS
    runs[few, 0] = 0
    block, before = np.nonzero(begins & few[:, np.newaxis])
    runs[block, np.cumsum(begins, axis=1)[block, before]] = before + 1
    return same, runs


def _blocked(rows: Any, lanes: IntArray) -> Any:
    """Some lanes of (n_rows, n_lanes), each block full, as (n_blocks, n_rows, STRIDE)."""
    n_blocks = len(lanes) // layout.LANES
    blocks = layout.aligned_zeros((n_blocks, len(rows), layout.STRIDE), rows.dtype)
    # Rows of zeros are not written: memory that is never touched is never taken.
    for row in np.flatnonzero(rows.any(axis=1)):
        blocks[:, row, : layout.LANES] = rows[row, lanes].reshape(n_blocks, layout.LANES)
    return blocks
