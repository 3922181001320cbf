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
    parts: list[tuple[FloatArray, ColumnArray]] = []
    strategies: list[Strategy] = []
    at = 0
    for _, members in sorted(groups.items()):
        parameters = np.concatenate([rows[i][0] for i in members], axis=1)
        columns = np.concatenate([rows[i][1] for i in members], axis=1)
        n_lanes = parameters.shape[1]
        sequence = _side_by_side(parameters, columns)
        parameters, columns = parameters[:, sequence], columns[:, sequence]
        places = np.empty(n_lanes, dtype=np.int64)
        places[sequence] = np.arange(at, at + n_lanes)
        start = 0
        for i in members:
            order[i] = places[start : start + tiles[i].n_lanes]
            start += tiles[i].n_lanes
        padding = -n_lanes % layout.LANES
        # The last lane again: a block is always full, and padding changes no column.
        parts.append(
            (
                np.pad(parameters, ((0, 0), (0, padding)), mode="edge"),
                np.pad(columns, ((0, 0), (0, padding)), mode="edge"),
            )
        )
        strategies += [tiles[members[0]].strategy] * ((n_lanes + padding) // layout.LANES)
        at += n_lanes + padding
    parameters = _blocked(np.concatenate([p for p, _ in parts], axis=1))
    columns = _blocked(np.concatenate([c for _, c in parts], axis=1))
    codes = np.stack([regimes[key].codes for key in models], axis=1)
    codes.flags.writeable = False
    return LaneBlocks(
        strategies=tuple(strategies),
        codes=np.array([strategy.code for strategy in strategies]),
        same=_same(columns),
        runs=_runs(columns),
        columns=columns,
        features=features,
        parameters=parameters,
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


_SIGNAL, _USER = row_of(layout.SIGNAL_0), row_of(layout.USER_FEATURE_0)
_FEATURE_ROWS = [*range(row_of(layout.VOLATILITY_COLUMN)), *range(_USER, layout.N_COLUMN_ROWS)]


def _side_by_side(parameters: FloatArray, columns: ColumnArray) -> IntArray:
    """The lanes sorted so that those with the same features, then with the same signal, are neighbours.

    A block of such lanes reads each feature once, and mostly does the same. So blocks whose lanes all read
    the same come first, as many as there can be, and what is left of each kind shares the others.

    Args:
        parameters, columns: the rows of each lane.

    Returns:
        (n_lanes,), the lane that comes first, and so on; lanes that are alike keep their order.
    """
    features = columns[_FEATURE_ROWS]
    read = columns[[row_of(layout.VOLATILITY_COLUMN), row_of(layout.REGIME_COLUMN)]]
    sharpe = parameters[row_of(layout.SCORE_SHARPE)]
    keys = [*features, *read, sharpe, *parameters[_SIGNAL:]]
    vary = [key for key in keys if (key != key[0]).any()]
    n_lanes = parameters.shape[1]
    # The last key of a lexsort counts most.
    sequence = np.lexsort(vary[::-1]) if vary else np.arange(n_lanes)
    lane = np.arange(n_lanes)
    new = np.zeros(n_lanes, dtype=np.bool_)
    new[:1] = True
    for key in (*features, *read):
        new[1:] |= np.diff(key[sequence]) != 0
    firsts = lane[new]
    kind = np.cumsum(new) - 1
    fills = np.diff(firsts, append=n_lanes) // layout.LANES * layout.LANES
    whole = lane - firsts[kind] < fills[kind]
    return np.concatenate([sequence[whole], sequence[~whole]])


def _same(columns: ColumnArray) -> ByteArray:
    """What all lanes of each block read alike, as bits."""
    lanes = columns[:, :, : layout.LANES]
    alike = (lanes == lanes[:, :, :1]).all(axis=2)
    same = np.where(alike[:, _FEATURE_ROWS].all(axis=1), layout.SAME_FEATURES, 0)
    same |= np.where(alike[:, row_of(layout.VOLATILITY_COLUMN)], layout.SAME_VOLATILITY, 0)
    same |= np.where(alike[:, row_of(layout.REGIME_COLUMN)], layout.SAME_REGIME, 0)
    return same.astype(np.uint8)


def _runs(columns: ColumnArray) -> ColumnArray:
    """Where the runs of lanes with the same features begin in each block."""
    lanes = columns[:, _FEATURE_ROWS, : layout.LANES]
    begins = (lanes[:, :, 1:] != lanes[:, :, :-1]).any(axis=1)
    runs = np.full((len(columns), layout.MOST_RUNS + 1), layout.LANES, dtype=np.uint64)
    few = begins.sum(axis=1) < layout.MOST_RUNS
    runs[few, 0] = 0
    block, before = np.nonzero(begins & few[:, np.newaxis])
    number = np.cumsum(begins, axis=1)
    runs[block, number[block, before]] = before + 1
    return runs


def _blocked(rows: Any) -> Any:
    """(n_rows, n_lanes) as (n_blocks, n_rows, STRIDE)."""
    n_rows, n_lanes = rows.shape
    blocks = layout.aligned_zeros((n_lanes // layout.LANES, n_rows, layout.STRIDE), rows.dtype)
    # Rows that no lane uses are not written: memory that is never touched is never taken.
    used = n_rows - int(np.argmax(np.append(rows.any(axis=1)[::-1], True)))
    blocks[:, :used, : layout.LANES] = (
        rows[:used].reshape(used, len(blocks), layout.LANES).transpose(1, 0, 2)
    )
    return blocks
