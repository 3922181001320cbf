"""Tiles of parameter sets, and how they are laid out in lanes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from kernels import layout
from optimizer.catalogue import CLASSIFIERS, column
from optimizer.strategies.built_in import strategy_kernel
from optimizer.strategies.user_file import CustomStrategy, strategy_parameters
from optimizer.sweep.inputs import NO_REGIME, Inputs, RegimeCodes, RegimeKey
from optimizer.types import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Tile:
    """Parameter sets of one branch.

    Attributes:
        strategy: name.
        classifier: name.
        market: symbol whose regime it is; None for the index.
        columns: every numeric parameter by its column name, each of shape (n_lanes,).
        custom: the strategy, where it is a user's.
    """

    strategy: str
    classifier: str
    market: str | None
    columns: Mapping[str, FloatArray]
    custom: CustomStrategy | None = None

    @property
    def n_lanes(self) -> int:
        """Number of parameter sets."""
        return len(self.columns["kelly_fraction"])

    def slice(self, start: int, stop: int) -> Tile:
        """Parameter sets ``start`` to ``stop - 1``."""
        return replace(self, columns={n: c[start:stop] for n, c in self.columns.items()})

    def regime_keys(self) -> tuple[list[RegimeKey], IntArray]:
        """The distinct regime models of the lanes, and which of them each lane reads."""
        names = [parameter.name for parameter in CLASSIFIERS[self.classifier]]
        if not names:
            return [NO_REGIME], np.zeros(self.n_lanes, dtype=np.int64)
        table = np.stack([self.columns[column(self.classifier, n)] for n in names], axis=1)
        distinct, which = np.unique(table, axis=0, return_inverse=True)
        keys: list[RegimeKey] = [
            (
                self.classifier,
                self.market,
                tuple((n, int(v)) for n, v in zip(names, row, strict=True)),
            )
            for row in distinct
        ]
        return keys, which.ravel().astype(np.int64)


@dataclass(frozen=True, eq=False)
class TileResult:
    """Metrics of a tile's parameter sets.

    Attributes:
        in_sample: (n_lanes, n_metrics), in the order of ``catalogue.METRICS``.
        out_of_sample: the same over the holdout; all NaN where there is none.
        moments: (n_lanes, 2, n_blocks), sum of the returns per bar and of their squares over each
            block of ``Inputs.bounds``.
    """

    in_sample: FloatArray
    out_of_sample: FloatArray
    moments: FloatArray

    @classmethod
    def joined(cls, parts: Sequence[TileResult]) -> TileResult:
        """The lanes of several results, in order."""
        return cls(
            np.concatenate([part.in_sample for part in parts]),
            np.concatenate([part.out_of_sample for part in parts]),
            np.concatenate([part.moments for part in parts]),
        )

    def lanes(self, places: IntArray) -> TileResult:
        """Some of the lanes."""
        return TileResult(self.in_sample[places], self.out_of_sample[places], self.moments[places])


@dataclass(eq=False)
class LaneBlocks:
    """Lanes laid out in blocks for the simulation; ``order`` is the place of each lane."""

    strategies: IntArray
    shared: BoolArray
    columns: npt.NDArray[np.uint64]
    parameters: FloatArray
    regimes: RegimeCodes
    order: list[IntArray] = field(default_factory=list)
    customs: list[CustomStrategy | None] = field(default_factory=list)

    @property
    def n_blocks(self) -> int:
        """Number of blocks of lanes."""
        return len(self.strategies)


def _positions_of(values: FloatArray, known: Sequence[int]) -> IntArray:
    return np.searchsorted(np.asarray(known), values.astype(np.int64)).astype(np.int64)


_RISK_ROWS = {
    "kelly_fraction": layout.KELLY_FRACTION,
    "max_exposure": layout.MAX_EXPOSURE,
    "bear_multiplier": layout.BEAR_MULTIPLIER,
    "neutral_multiplier": layout.NEUTRAL_MULTIPLIER,
    "bull_multiplier": layout.BULL_MULTIPLIER,
    "correlation_penalty": layout.CORRELATION_PENALTY,
    "rebalance_band": layout.REBALANCE_BAND,
}
_STOP_ROWS = {
    "stop_loss": layout.STOP_LOSS,
    "take_profit": layout.TAKE_PROFIT,
    "trailing_stop": layout.TRAILING_STOP,
}


def parameter_row(offset: np.uint64) -> int:
    """The row of the parameter array at an offset of the layout."""
    return int(offset) // layout.STRIDE


def lane_rows(tile: Tile, inputs: Inputs) -> tuple[FloatArray, npt.NDArray[np.uint64]]:
    """Parameter rows and column rows of a tile's lanes, (rows, n_lanes); regimes left at 0."""
    kernel = strategy_kernel(tile.strategy, tile.custom)
    own = {
        p.name: tile.columns[column(tile.strategy, p.name)]
        for p in strategy_parameters(tile.strategy, tile.custom)
    }
    parameters = np.zeros((layout.N_PARAMETER_ROWS, tile.n_lanes))
    for name, offset in _RISK_ROWS.items():
        parameters[parameter_row(offset)] = tile.columns[name]
    for name, offset in _STOP_ROWS.items():
        distance = tile.columns[name]
        parameters[parameter_row(offset)] = np.where(distance > 0.0, distance, np.inf)
    parameters[parameter_row(layout.MIN_LOTS)] = (
        tile.columns["min_order_size"] / inputs.rules.lot_size
    )
    for row, values in enumerate(kernel.signal(own)):
        parameters[parameter_row(layout.SIGNAL_0) + row] = values
    columns = np.zeros((layout.N_COLUMN_ROWS, tile.n_lanes), dtype=np.uint64)
    first = parameter_row(layout.FEATURE_0 if tile.custom is None else layout.USER_FEATURE_0)
    for row, (feature, lookback) in enumerate(kernel.features):
        distinct, which = np.unique(own[lookback], return_inverse=True)
        places = np.array([inputs.features.index((feature, int(n))) for n in distinct])
        columns[first + row] = places[which.ravel()]
    columns[parameter_row(layout.VOLATILITY_COLUMN)] = _positions_of(
        tile.columns["volatility_lookback"], inputs.volatility_lookbacks
    )
    return parameters, columns


def lay_out_blocks(
    tiles: Sequence[Tile], inputs: Inputs, regimes: Mapping[RegimeKey, RegimeCodes]
) -> LaneBlocks:
    """Put the lanes of all tiles into blocks, those of one strategy together."""
    models: list[RegimeKey] = []
    by_code: dict[tuple[int, str], list[int]] = {}
    rows: list[tuple[FloatArray, npt.NDArray[np.uint64]]] = []
    for i, tile in enumerate(tiles):
        parameters, columns = lane_rows(tile, inputs)
        keys, which = tile.regime_keys()
        models.extend(key for key in keys if key not in models)
        places = np.array([models.index(key) for key in keys])
        columns[parameter_row(layout.REGIME_COLUMN)] = places[which]
        rows.append((parameters, columns))
        code = strategy_kernel(tile.strategy, tile.custom).code
        by_code.setdefault((code, tile.strategy if tile.custom else ""), []).append(i)
    order: list[IntArray] = [np.empty(0, dtype=np.int64)] * len(tiles)
    parts, strategies, at = [], [], 0
    customs: list[CustomStrategy | None] = []
    for (code, _), members in sorted(by_code.items()):
        parameters = np.concatenate([rows[i][0] for i in members], axis=1)
        columns = np.concatenate([rows[i][1] for i in members], axis=1)
        n_lanes = parameters.shape[1]
        start = at
        for i in members:
            order[i] = np.arange(start, start + tiles[i].n_lanes)
            start += tiles[i].n_lanes
        padding = -n_lanes % layout.LANES
        # The last lane again: a block is always full, and padding changes no column.
        parts.append(
            (
                np.pad(parameters, ((0, 0), (0, padding)), mode="edge"),
                np.pad(columns, ((0, 0), (0, padding)), mode="edge"),
            )
        )
        strategies += [code] * ((n_lanes + padding) // layout.LANES)
        customs += [tiles[members[0]].custom] * ((n_lanes + padding) // layout.LANES)
        at += n_lanes + padding
    parameters = _blocked(np.concatenate([p for p, _ in parts], axis=1))
    columns = _blocked(np.concatenate([c for _, c in parts], axis=1))
    lanes = columns[:, :, : layout.LANES]
    shared = (lanes == lanes[:, :, :1]).all(axis=(1, 2))
    codes = np.stack([regimes[key] for key in models], axis=1)
    codes.flags.writeable = False
    return LaneBlocks(np.array(strategies), shared, columns, parameters, codes, order, customs)


def _blocked(rows: Any) -> Any:
    """(n_rows, n_lanes) as (n_blocks, n_rows, STRIDE)."""
    n_rows, n_lanes = rows.shape
    blocks = layout.aligned_zeros((n_lanes // layout.LANES, n_rows, layout.STRIDE), rows.dtype)
    blocks[:, :, : layout.LANES] = rows.reshape(n_rows, -1, layout.LANES).transpose(1, 0, 2)
    return blocks
